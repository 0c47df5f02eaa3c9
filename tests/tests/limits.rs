//! Limits: written before the first instruction where cgroup v2 has the controller, and refused with a reason where
//! not.
//!
//! Which of the two it is depends on the machine; both are asserted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use tests::{Host, Outcome};

/// Option, controller, file, and what must be in it.
const LIMITS: [(&[&str], &str, &str, &str); 30] = [
    (&["-m", "64m"], "memory", "memory.max", "67108864"),
    (&["--memory=1g"], "memory", "memory.max", "1073741824"),
    (&["-m", "8388608"], "memory", "memory.max", "8388608"),
    (&["-m", "64m"], "memory", "memory.swap.max", "67108864"),
    (&["-m", "64m", "--memory-swap", "96m"], "memory", "memory.swap.max", "33554432"),
    (&["-m", "64m", "--memory-swap", "64m"], "memory", "memory.swap.max", "0"),
    (&["-m", "64m", "--memory-swap=-1"], "memory", "memory.swap.max", "max"),
    (&["--memory-reservation", "16m"], "memory", "memory.low", "16777216"),
    (&["--cgroup-conf", "memory.min=8m"], "memory", "memory.min", "8388608"),
    (&["--cgroup-conf", "memory.high=48m"], "memory", "memory.high", "50331648"),
    (&["-m", "64m", "--cgroup-conf", "memory.max=32m"], "memory", "memory.max", "33554432"),
    (&["--cgroup-conf", "memory.oom.group=1"], "memory", "memory.oom.group", "1"),
    (&["--pids-limit", "20"], "pids", "pids.max", "20"),
    (&["--cpus", "1.5"], "cpu", "cpu.max", "150000 100000"),
    (&["--cpus=0.01"], "cpu", "cpu.max", "1000 100000"),
    (&["--cpus", "2"], "cpu", "cpu.max", "200000 100000"),
    (&["--cpu-quota", "50000"], "cpu", "cpu.max", "50000 100000"),
    (&["--cpu-quota", "50000", "--cpu-period", "20000"], "cpu", "cpu.max", "50000 20000"),
    (&["--cpu-quota=-1"], "cpu", "cpu.max", "max 100000"),
    (&["--cpu-shares", "1024"], "cpu", "cpu.weight", "100"),
    (&["--cpu-shares", "2"], "cpu", "cpu.weight", "1"),
    (&["--cpu-shares", "262144"], "cpu", "cpu.weight", "10000"),
    (&["--cgroup-conf", "cpu.idle=1"], "cpu", "cpu.idle", "1"),
    (&["--cpuset-cpus", "0-1"], "cpuset", "cpuset.cpus", "0-1"),
    (&["--cpuset-mems", "0"], "cpuset", "cpuset.mems", "0"),
    (&["--blkio-weight", "1000"], "io", "io.weight", "default 10000"),
    (&["--blkio-weight", "10"], "io", "io.weight", "default 1"),
    (&["--cgroup-conf", "hugetlb.2MB.max=4m"], "hugetlb", "hugetlb.2MB.max", "4194304"),
    (&["--cgroup-conf", "cgroup.max.descendants=3"], "", "cgroup.max.descendants", "3"),
    (&["--cgroup-conf", "cgroup.max.depth=2"], "", "cgroup.max.depth", "2"),
];

/// Whether cgroup v2 has `controller` here: the hierarchy's root says so.
fn is_there(host: &Host, controller: &str) -> bool {
    let controllers = fs::read_to_string(host.cgroup().parent().unwrap().join("cgroup.controllers")).unwrap();
    controller.is_empty() || controllers.split_whitespace().any(|known| known == controller)
}

/// Asserts that the limit was refused for want of its controller, with the reason, and that nothing was made.
#[track_caller]
fn assert_refused(host: &Host, outcome: Outcome, controller: &str) {
    let line = outcome.refused(125);
    assert!(line.contains(&format!("the {controller} controller is not available in cgroup v2")), "{line}");
    // The reason names the hierarchy that has it instead. proc_mounts(5): source target type options
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
fn limit_is_written_or_refused_with_the_reason() {
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
fn limit_of_processes_is_enforced_or_refused() {
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

/// Enables the controller `pids` in these cgroups, where there is one.
fn enable_pids(host: &Host, cgroups: &[&Path]) {
    for cgroup in cgroups.iter().filter(|_| is_there(host, "pids")) {
        fs::write(cgroup.join("cgroup.subtree_control"), "+pids").unwrap();
    }
}

#[test]
fn processes_are_limited_if_the_parent_has_the_controller() {
    let host = Host::new();
    let look = "cat /sys/fs/cgroup/pids.max 2>/dev/null || echo none";
    let limit = |options: &[&str]| host.sh(options, look).run().ok();
    // A parent of somebody else's is left as it is.
    assert_eq!(limit(&[]), "none\n");
    let parent = host.cgroup_parent();
    assert_eq!(fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap(), "");

    enable_pids(&host, &[host.cgroup().parent().unwrap(), host.cgroup(), &parent]);
    let there = |limit: &str| format!("{}\n", if is_there(&host, "pids") { limit } else { "none" });
    assert_eq!(limit(&[]), there("2048"));
    let job = host.background("job", &[], "exec sleep 600");
    assert_eq!(job.exec(&["sh", "-c", look]).run().ok(), there("2048"));
    if is_there(&host, "pids") {
        assert_eq!(job.inspect()["limits"]["pids.max"], "2048");
        for (options, expected) in
            [(&["--pids-limit=-1"][..], "max\n"), (&["--pids-limit", "0"], "max\n"), (&["--pids-limit", "7"], "7\n")]
        {
            assert_eq!(limit(options), expected, "{options:?}");
        }
        assert_eq!(limit(&["--cgroup-conf", "pids.max=8"]), "8\n");
    }
}

#[test]
fn no_limit_of_processes_needs_no_controller() {
    let host = Host::new();
    for option in ["--pids-limit=-1", "--pids-limit=0"] {
        let out = host.sh(&[option], "cat /sys/fs/cgroup/pids.max 2>/dev/null || echo none").run().ok();
        assert_eq!(out, "none\n", "{option}");
    }
    // Nor is one enabled for it.
    assert_eq!(fs::read_to_string(host.cgroup_parent().join("cgroup.subtree_control")).unwrap(), "");
    if !is_there(&host, "pids") {
        assert_refused(&host, host.sh(&["--name", "limited", "--cgroup-conf", "pids.max=max"], "true").run(), "pids");
    }
}

#[test]
fn processes_are_limited_in_kontenas_own_parent() {
    // In a cgroup namespace, whose root looks like the root of all cgroups from inside.
    let host = Host::new();
    let root = host.cgroup().parent().unwrap();
    let inner = host.cgroup().join("inner");
    fs::create_dir(&inner).unwrap();
    enable_pids(&host, &[root, host.cgroup()]);
    let (inner, mount) = (inner.display(), root.display());
    let script = format!(
        "echo 0 > {inner}/cgroup.procs && exec unshare -C -m sh -c 'umount -l {mount} && \
         mount -t cgroup2 none {mount} && \
         mkdir {mount}/caller && echo 0 > {mount}/caller/cgroup.procs && exec \"$@\"' sh \"$@\""
    );
    let look = "cat /sys/fs/cgroup/pids.max 2>/dev/null || echo none";
    let program = host.kontena().args(["run", "--net", "none"]).arg(host.debian()).args(["sh", "-c", look]);
    let found = program.through("sh", &["-c", &script, "sh"]).run().ok();
    assert_eq!(found.trim(), if is_there(&host, "pids") { "2048" } else { "none" });
}

#[test]
fn limit_of_memory_is_enforced_or_refused() {
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
fn several_limits_are_all_enforced_or_refused() {
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
fn invalid_limit_is_refused() {
    let host = Host::new();
    let bad = [
        (
            "-m",
            &["", "0", "-1", "64x", "m", "1.5m", "99999999999999999999", "18446744073709551615k", "0x10", " 1m"][..],
        ),
        ("--pids-limit", &["", "-2", "x", "4294967296", "1.5", "+"]),
        ("--cpus", &["", "0", "-1", "x", ".", "1.2.3", "1e3", "0.001", "99999999999999", "inf", "nan"]),
        // Without --memory, which it includes.
        ("--memory-swap", &["", "64m", "x"]),
        ("--memory-reservation", &["", "x", "-1"]),
        ("--cpu-quota", &["", "999", "x", "-2"]),
        // Without --cpu-quota, which it is for.
        ("--cpu-period", &["", "999", "1000001", "50000"]),
        ("--cpu-shares", &["", "0", "1", "262145", "x"]),
        ("--cpuset-cpus", &["", "x", "1-", "-1", "2-1", "0,,1", "0,", "0-1-2"]),
        ("--cpuset-mems", &["", "x"]),
        ("--blkio-weight", &["", "9", "1001", "x"]),
        ("--blkio-weight-device", &["", "/dev/sda", "/dev/sda:9", "sda:500", ":500"]),
        ("--device-read-bps", &["", "/dev/sda", "/dev/sda:", "/dev/sda:0", "/dev/sda:x", "sda:1m", "1m"]),
        ("--device-write-iops", &["/dev/sda:0", "/dev/sda:1.5"]),
        (
            "--cgroup-conf",
            &[
                "",
                "memory.high",
                "=1",
                "memory.high=",
                "memory=1",
                ".max=1",
                "../memory.max=1",
                "memory./max=1",
                "cgroup.procs=1",
                "cgroup.kill=1",
                "cgroup.subtree_control=+memory",
                "cgroup.type=threaded",
                "cgroup.freeze=1",
            ],
        ),
    ];
    for (option, values) in bad {
        for value in values {
            let line = host.sh(&[option, value], "true").run().refused(125);
            assert!(line.contains(&format!("\"{value}\"")), "{option} {value:?}: {line}");
        }
    }
    let both = ["--cpus", "1", "--cpu-quota", "100000"];
    assert!(host.sh(&both, "true").run().refused(125).contains("--cpu-quota"));
    let too_little = ["-m", "64m", "--memory-swap", "63m"];
    assert!(host.sh(&too_little, "true").run().refused(125).contains("--memory-swap \"63m\""));
    assert!(!host.state().exists(), "nothing was made");
}

/// Valid values that this kernel refuses: the error is reported, and nothing is left.
#[test]
fn limit_that_the_kernel_refuses_is_reported() {
    let host = Host::new();
    let line = host.sh(&["--cgroup-conf", "hugetlb.3MB.max=1"], "true").run().refused(125);
    assert!(line.contains("hugetlb.3MB.max") && line.contains("no such file"), "{line}");
    let line = host.sh(&["--cgroup-conf", "hugetlb.2MB.max=some"], "true").run().refused(125);
    assert!(line.contains("hugetlb.2MB.max") && line.contains("refuses this value"), "{line}");
    let line = host.sh(&["--cgroup-conf", "nosuch.max=1"], "true").run().refused(125);
    assert!(line.contains("the nosuch controller is not available in cgroup v2"), "{line}");
    let line = host.sh(&["--device-read-bps", "/dev/nosuch:1m"], "true").run().refused(125);
    assert!(line.contains("ENOENT") && line.contains("/dev/nosuch"), "{line}");
    let line = host.sh(&["--device-read-bps", "/dev/null:1m"], "true").run().refused(125);
    assert!(line.contains("/dev/null") && line.contains("not a disk"), "{line}");
    if is_there(&host, "cpuset") {
        let line = host.sh(&["--cpuset-cpus", "0-1000"], "true").run().refused(125);
        assert!(line.contains("cpuset.cpus"), "{line}");
    }
    assert!(
        fs::read_dir(host.state())
            .into_iter()
            .flatten()
            .flatten()
            .all(|entry| { entry.file_name().to_string_lossy().starts_with('.') })
    );
}

#[test]
fn controllers_are_enabled_only_on_request() {
    let host = Host::new();
    let enabled = || fs::read_to_string(host.cgroup_parent().join("cgroup.subtree_control")).unwrap();
    let _ = host.sh(&[], "true").run().ok();
    assert_eq!(enabled().trim(), "");
    // hugetlb is the one that cgroup v1 leaves alone everywhere.
    let _ = host.sh(&["--cgroup-conf", "hugetlb.2MB.max=0"], "true").run().ok();
    assert_eq!(enabled().trim(), "hugetlb");
}
