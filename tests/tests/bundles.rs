//! Containers have what their bundles say: capabilities, filters, mounts, devices; and errors in the engines' words.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::{Bundle, Host};

/// All output of a script in the container of a bundle.
#[track_caller]
fn output_of(script: &str, change: impl FnOnce(&mut Value)) -> String {
    Bundle::printing(&Host::new(), &format!("{{ {script}\n}} 2>&1"), change).printed()
}

/// A filter that refuses calls.
fn filter(names: &[&str], action: &str) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": names, "action": action}]})
}

/// Calls of kontena before the exec, some of which the profiles of old engines do not know.
const CALLS: [&str; 10] =
    ["close_range", "capset", "prctl", "setgroups", "setresuid", "setresgid", "prlimit64", "umask", "getcwd", "chdir"];

#[test]
fn filter_refuses_nothing_before_the_command_runs() {
    for (uid, allows_new) in [(0, true), (0, false), (33, true), (33, false)] {
        let script = "grep -E '^(Cap(Prm|Eff|Bnd|Amb)|Seccomp):' /proc/1/status; id -u";
        let found = output_of(script, |config| {
            let process = &mut config["process"];
            process["noNewPrivileges"] = json!(!allows_new);
            process["user"] = json!({"uid": uid, "gid": uid});
            process["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
            process["cwd"] = json!("/tmp");
            config["linux"]["seccomp"] = filter(&CALLS, "SCMP_ACT_ERRNO");
        });
        // Not CAP_SYS_ADMIN.
        let has = if uid == 0 { "00000000000020e1" } else { "0000000000000000" };
        let expected = format!(
            "CapPrm:\t{has}\nCapEff:\t{has}\nCapBnd:\t00000000000020e1\nCapAmb:\t0000000000000000\nSeccomp:\t2\n{uid}\n"
        );
        assert_eq!(found, expected, "uid {uid}, {allows_new}");
    }
}

#[test]
fn exec_works_with_a_filter_that_refuses_close_range() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "sleep 600", |config| {
        config["linux"]["seccomp"] = filter(&["close_range"], "SCMP_ACT_KILL_PROCESS");
    });
    bundle.create_in_silence();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    // The process has stdio and the fd of ls, not the fd 7 of the caller.
    let leaking = ["-c", "exec 7< /; exec \"$@\"", "sh"];
    let exec =
        bundle.kontena(&["exec", "one", "sh", "-c", "ls /proc/self/fd | wc -l; grep Seccomp: /proc/self/status"]);
    let found = exec.through("sh", &leaking).run().ok();
    assert_eq!(found, "4\nSeccomp:\t2\n");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn process_has_the_inheritable_capabilities_of_the_bundle() {
    let script = "grep -E '^Cap(Inh|Prm|Bnd|Amb):' /proc/1/status";
    for (uid, ambient, expected) in [
        (
            0,
            json!([]),
            "CapInh:\t0000000000000021\nCapPrm:\t00000000000020e1\nCapBnd:\t00000000000020e1\n\
                        CapAmb:\t0000000000000000\n",
        ),
        (
            0,
            json!(["CAP_KILL", "CAP_SETUID"]),
            "CapInh:\t0000000000000021\nCapPrm:\t00000000000020e1\n\
                        CapBnd:\t00000000000020e1\nCapAmb:\t0000000000000020\n",
        ),
        (
            33,
            json!([]),
            "CapInh:\t0000000000000021\nCapPrm:\t0000000000000000\nCapBnd:\t00000000000020e1\n\
                        CapAmb:\t0000000000000000\n",
        ),
        (
            33,
            json!(["CAP_KILL"]),
            "CapInh:\t0000000000000021\nCapPrm:\t0000000000000020\nCapBnd:\t00000000000020e1\n\
                        CapAmb:\t0000000000000020\n",
        ),
    ] {
        let found = output_of(script, |config| {
            config["process"]["user"] = json!({"uid": uid, "gid": uid});
            config["process"]["capabilities"]["inheritable"] = json!(["CAP_CHOWN", "CAP_KILL"]);
            config["process"]["capabilities"]["ambient"] = ambient.clone();
        });
        assert_eq!(found, expected, "uid {uid}, {ambient}");
    }
    // The bounding set must have it; capset(2).
    let host = Host::new();
    let bundle = Bundle::new(&host, "true", |config| {
        config["process"]["capabilities"]["inheritable"] = json!(["CAP_SYS_TIME"]);
    });
    let line = bundle.create().run().refused(1);
    assert!(line.contains("process.capabilities.inheritable: Operation not permitted"), "{line}");
}

#[test]
fn mounts_come_in_the_order_of_the_bundle() {
    let script = "while read -r _ _ _ _ target _; do echo $target; done < /proc/self/mountinfo";
    let found = output_of(script, |config| {
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let expected = ["/proc", "/dev", "/dev/pts", "/sys", "/tmp"];
    let mut found: Vec<_> = found.lines().filter(|target| expected.contains(target)).collect();
    // Before 6.8, the kernel lists mounts in the order in which they were attached, and /dev comes first.
    if found.first() == Some(&"/dev") {
        found.swap(0, 1);
    }
    assert_eq!(found, expected);
}

#[test]
fn devices_can_be_fifos() {
    let script = "stat -c '%F %a %u:%g' /dev/pipe /run/pipe; echo through > /dev/pipe & cat /dev/pipe; wait";
    let found = output_of(script, |config| {
        config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/run", "type": "tmpfs", "source": "a"}));
        config["linux"]["devices"] = json!([
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o660, "uid": 33, "gid": 7},
            {"path": "/run/pipe", "type": "p"}
        ]);
    });
    assert_eq!(found, "fifo 660 33:7\nfifo 666 0:0\nthrough\n");
}

#[test]
fn output_has_the_words_that_engines_look_for() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    bundle.create_in_silence();
    assert!(bundle.engine(&["state", "one"]).run().ok().contains(r#""status": "created""#));
    let line = bundle.engine(&["start", "two"]).run().refused(1);
    assert!(line.starts_with("kontena: error: ") && line.contains("does not exist"), "{line}");
    let line = bundle.kontena(&["inspect", "two"]).run().refused(1);
    assert!(line.starts_with("kontena: error: no such container"), "{line}");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn create_reports_limits_that_cannot_be_set() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "true", |config| {
        let all = u64::MAX;
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": all, "hard": all}]);
    });
    let line = bundle.create().run().refused(1);
    assert!(line.contains("Operation not permitted"), "{line}");
    assert_eq!(bundle.engine(&["state", "one"]).run().code, 1);
}
