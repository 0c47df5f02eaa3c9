//! Limits: written before the first instruction where cgroup v2 has the controller, and refused with a reason where not.
//!
//! Which of the two it is depends on the machine; both are asserted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use tests::{Host, Outcome};

/// Option, controller, file, and what must be in it.
const LIMITS: [(&[&str], &str, &str, &str); 8] = [
    (&["-m", "64m"], "memory", "memory.max", "67108864"),
    (&["--memory=1g"], "memory", "memory.max", "1073741824"),
    (&["-m", "8388608"], "memory", "memory.max", "8388608"),
    (&["--pids-limit", "20"], "pids", "pids.max", "20"),
    (&["--pids-limit=-1"], "pids", "pids.max", "max"),
    (&["--cpus", "1.5"], "cpu", "cpu.max", "150000 100000"),
    (&["--cpus=0.01"], "cpu", "cpu.max", "1000 100000"),
    (&["--cpus", "2"], "cpu", "cpu.max", "200000 100000"),
];

/// Whether cgroup v2 has `controller` here: the hierarchy's root says so.
fn is_there(host: &Host, controller: &str) -> bool {
    let controllers = fs::read_to_string(host.cgroup().parent().unwrap().join("cgroup.controllers")).unwrap();
    controllers.split_whitespace().any(|known| known == controller)
}

/// Asserts that the limit was refused for want of its controller, with the reason, and that nothing was made.
#[track_caller]
fn assert_refused(host: &Host, outcome: Outcome, controller: &str) {
    let line = outcome.refused(125);
    assert!(line.contains(&format!("the {controller} controller is not in cgroup v2")), "{line}");
    // Why: who has it instead, and where. proc_mounts(5): source target type options
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let v1 = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[2] == "cgroup" && fields[3].split(',').any(|option| option == controller));
    match v1 {
        Some(fields) => assert!(line.contains("cgroup v1") && line.contains(fields[1]), "{line}"),
        None => assert!(line.contains("cgroup_disable"), "{line}"),
    }
    assert!(!host.cgroup_parent().join("limited").exists());
    assert!(!host.state().join("limited").exists());
}

#[test]
fn limit_is_in_its_file_or_refused_with_the_reason() {
    let host = Host::new();
    for (option, controller, file, value) in LIMITS {
        let options = [&["--name", "limited"], option].concat();
        let outcome = host.sh(&options, &format!("cat /sys/fs/cgroup/{file}")).run();
        if is_there(&host, controller) {
            assert_eq!(outcome.ok().trim(), value, "{option:?}");
        } else {
            assert_refused(&host, outcome, controller);
        }
    }
    // Without a limit, it runs here.
    let _ = host.sh(&["--name", "limited"], "true").run().ok();
}

#[test]
fn limit_of_processes_holds_or_is_refused() {
    let host = Host::new();
    let bomb = "i=0; while [ $i -lt 50 ]; do sleep 5 & i=$((i+1)); done; echo no limit";
    let outcome = host.sh(&["--name", "limited", "--pids-limit", "20"], bomb).run();
    if is_there(&host, "pids") {
        assert!(outcome.code != 0 && outcome.stderr.contains("fork"), "{outcome}");
    } else {
        assert_refused(&host, outcome, "pids");
    }
    assert_eq!(host.sh(&[], bomb).run().ok(), "no limit\n");
}

#[test]
fn limit_of_memory_holds_or_is_refused() {
    let host = Host::new();
    let bomb = "head -c 100000000 /dev/zero | tail -c 99999999 | wc -c";
    let outcome = host.sh(&["--name", "limited", "-m", "32m"], bomb).run();
    if is_there(&host, "memory") {
        assert!(!outcome.stdout.contains("99999999"), "{outcome}");
    } else {
        assert_refused(&host, outcome, "memory");
    }
    assert_eq!(host.sh(&[], bomb).run().ok(), "99999999\n");
}

#[test]
fn several_limits_are_refused_by_the_first_or_all_hold() {
    let host = Host::new();
    let options = ["--name", "limited", "-m", "64m", "--pids-limit", "20", "--cpus", "1"];
    let outcome =
        host.sh(&options, "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max").run();
    match ["memory", "pids", "cpu"].into_iter().find(|controller| !is_there(&host, controller)) {
        None => assert_eq!(outcome.ok(), "67108864\n20\n100000 100000\n"),
        Some(controller) => assert_refused(&host, outcome, controller),
    }
}

#[test]
fn limit_that_makes_no_sense_is_refused() {
    let host = Host::new();
    let bad = [
        (
            "-m",
            &["", "0", "-1", "64x", "m", "1.5m", "99999999999999999999", "18446744073709551615k", "0x10", " 1m"][..],
        ),
        ("--pids-limit", &["", "0", "-2", "x", "4294967296", "1.5", "+"]),
        ("--cpus", &["", "0", "-1", "x", ".", "1.2.3", "1e3", "0.001", "99999999999999", "inf", "nan"]),
    ];
    for (option, values) in bad {
        for value in values {
            let line = host.sh(&[option, value], "true").run().refused(125);
            assert!(line.contains(&format!("\"{value}\"")), "{option} {value:?}: {line}");
        }
    }
    assert!(!host.state().exists(), "nothing was made");
}
