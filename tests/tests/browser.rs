//! The page as a person sees it: in headless Chromium, on the host that publishes the port.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use tests::{Host, Outcome};

/// Where the screenshot is kept, to be looked at.
const SCREENSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/screenshots/hello.png");

/// Opens `url` in a browser with a profile of its own, on the pretend host.
fn chromium(host: &Host, what: &str, url: &str) -> Outcome {
    let profile = host.directory().join("profile");
    let _ = fs::remove_dir_all(&profile);
    host.program("timeout")
        .args(["50", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1000,900"])
        // The page has no more to load after this long, in the page's own time.
        .args(["--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args([what, url])
        .env("HOME", host.directory())
        .run()
}

#[test]
fn page_is_shown_in_chromium() {
    let host = Host::new();
    let web = host.nginx("web", &["-p", "8080:80", "--hostname", "hello"]);
    let url = "http://127.0.0.1:8080/";

    let page = chromium(&host, "--dump-dom", url).ok();
    let heading = page.split("<h1").nth(1).and_then(|rest| rest.split('>').nth(1)).unwrap_or_default();
    assert!(heading.trim_end_matches("</h1").len() > 3, "a heading: {page}");
    assert!(page.contains("hello"), "the container's host name: {page}");

    let kept = Path::new(SCREENSHOT);
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    let shot = host.directory().join("hello.png");
    let _ = chromium(&host, &format!("--screenshot={}", shot.display()), url).code(0);
    let image = fs::read(&shot).expect("chromium took a screenshot");
    assert!(image.starts_with(b"\x89PNG") && image.len() > 5_000, "{} bytes", image.len());
    fs::write(kept, image).unwrap();

    // Without the container there is no such page: what was seen was served.
    let _ = web.stop();
    let page = chromium(&host, "--dump-dom", url).stdout;
    assert!(!page.contains(heading.trim_end_matches("</h1")) || page.contains("ERR_CONNECTION_REFUSED"), "{page}");
}
