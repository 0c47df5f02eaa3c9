//! Limits set by options of an engine; without the controllers of cgroup v2, the errors.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::time::Instant;
use tests::{Engines, provided, wait_until};

#[test]
fn podman_limits_a_container() {
    let engines = Engines::without_images();
    let cgroup = engines.host.cgroup();
    let controllers = fs::read_to_string(cgroup.parent().unwrap().join("cgroup.controllers")).unwrap();
    let rootfs = provided("KONTENA_ROOTFS");
    let options = "--memory 64m --memory-reservation 32m --pids-limit 20 --cpus 0.5 --cpu-shares 1024";
    let run = format!("run -d --name web --network host {options} --rootfs {}:O /usr/sbin/nginx", rootfs.display());

    let outcome = engines.podman(&run).run();
    let there = |name: &&str| controllers.split_whitespace().any(|known| known == *name);
    if let Some(missing) = ["cpu", "memory", "pids"].iter().find(|name| !there(name)) {
        assert_eq!(outcome.code, 126, "{outcome}");
        assert!(outcome.stderr.contains("controller is not available in cgroup v2"), "{missing}: {outcome}");
        return;
    }
    let id = outcome.ok();
    let leaf = cgroup.join("libpod_parent").join(format!("libpod-{}", id.trim()));
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("pids.max", "20"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "100"),
    ] {
        assert_eq!(fs::read_to_string(leaf.join(file)).unwrap().trim(), value, "{file}");
    }
    assert!(engines.host.get("127.0.0.1:80").is_ok());
    let _ = engines.says("update --memory 96m --cpus 0.25 web");
    let limit = |file: &str| fs::read_to_string(leaf.join(file)).unwrap().trim().to_owned();
    assert_eq!((&*limit("memory.max"), &*limit("cpu.max")), ("100663296", "25000 100000"));
    let _ = engines.says("rm -f -t 0 web");
    assert!(!leaf.exists());
}

#[test]
fn podman_serves_a_page_on_a_host_that_has_just_booted() {
    let engines = Engines::without_images();
    let run =
        format!("run -d --name web --network host --rootfs {}:O /usr/sbin/nginx", provided("KONTENA_ROOTFS").display());
    let start = Instant::now();
    let _ = engines.says(&run);
    wait_until("the page", || engines.host.get("127.0.0.1:80").is_ok());
    // For the report, past what libtest keeps of a test that passes.
    let time = start.elapsed().as_millis();
    writeln!(std::io::stdout(), "figure: podman run after a boot, to the first page: {time} ms").unwrap();
    let _ = engines.says("rm -f -t 0 web");
}
