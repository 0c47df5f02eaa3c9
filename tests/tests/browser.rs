//! The page as a person sees it: in headless Chromium, on the host that publishes the port.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use tests::{Host, Outcome, Place, Program};

/// Where the screenshots are stored, for a look.
const SCREENSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/screenshots");

/// Opens `url` in a browser with its own profile, which `start` starts in the page's place.
fn chromium<'a>(start: impl Fn(&str) -> Program<'a>, directory: &Path, what: &str, url: &str) -> Outcome {
    let profile = directory.join("profile");
    let _ = fs::remove_dir_all(&profile);
    start("timeout")
        .args(["50", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1000,900"])
        // The page has no more to load after this long, in the page's own time.
        .args(["--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args([what, url])
        .env("HOME", directory)
        .run()
}

#[test]
fn chromium_shows_the_page() {
    let host = Host::new();
    // A virtual machine has no browser: its page is on this machine's own loopback.
    let given = std::env::var("KONTENA_PAGE").ok();
    let here = Place::here().unwrap();
    let start = |program: &str| if given.is_some() { here.program(program) } else { host.program(program) };
    let (web, name) = match &given {
        Some(_) => (None, "demo"),
        None => (Some(host.nginx("web", &["-p", "8080:80", "--hostname", "hello"])), "hello"),
    };
    let url = given.as_deref().unwrap_or("http://127.0.0.1:8080/");

    let page = chromium(start, host.directory(), "--dump-dom", url).ok();
    let heading = page.split("<h1").nth(1).and_then(|rest| rest.split('>').nth(1)).unwrap_or_default();
    let heading = heading.trim_end_matches("</h1");
    assert!(heading.len() > 3, "a heading: {page}");
    assert!(page.contains(name), "the container's host name: {page}");

    let kept = Path::new(SCREENSHOTS).join(format!("{name}.png"));
    fs::create_dir_all(SCREENSHOTS).unwrap();
    let shot = host.directory().join("hello.png");
    let _ = chromium(start, host.directory(), &format!("--screenshot={}", shot.display()), url).code(0);
    let image = fs::read(&shot).expect("chromium took a screenshot");
    assert!(image.starts_with(b"\x89PNG") && image.len() > 5_000, "{} bytes", image.len());
    fs::write(kept, image).unwrap();

    // Without the container there is no such page: the container has served it.
    if let Some(web) = web {
        let _ = web.stop();
        let page = chromium(start, host.directory(), "--dump-dom", url).stdout;
        assert!(!page.contains(heading) || page.contains("ERR_CONNECTION_REFUSED"), "{page}");
    }
}
