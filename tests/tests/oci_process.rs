//! Attributes of a bundle's process, and of processes that join it: scheduling, capabilities, limits, labels, and
//! seccomp profiles that pretend success.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use tests::{Bundle, Host};

fn quiet(command: &mut Command) {
    _ = command.stdout(Stdio::null()).stderr(Stdio::null());
}

/// The output of one of the host's programs about a process.
fn ask(host: &Host, program: &str, pid: u32) -> String {
    host.program(program).arg("-p").arg(pid.to_string()).run().ok()
}

/// A field of /proc/PID/status.
fn status(host: &Host, pid: u32, field: &str) -> String {
    let text = host.program("cat").arg(format!("/proc/{pid}/status")).run().ok();
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t")).unwrap().trim().to_owned()
}

/// `exec --process` in the container `one`, which detaches.
fn exec<'a>(bundle: &Bundle<'a>, host: &'a Host, process: &Value) -> tests::Program<'a> {
    let file = |name: &str| bundle.directory.join(name);
    host.inside(|| {
        fs::write(file("process.json"), process.to_string()).unwrap();
        let _ = fs::remove_file(file("other"));
    });
    let exec = bundle.engine(&["exec", "--detach", "--process"]).arg(file("process.json"));
    let exec = exec.arg("--pid-file").arg(file("other"));
    match process["terminal"].as_bool() {
        Some(true) => exec.arg("--console-socket").arg(file("console")).arg("one"),
        _ => exec.arg("one"),
    }
}

fn pid_of_exec(bundle: &Bundle<'_>, host: &Host) -> u32 {
    host.inside(|| fs::read_to_string(bundle.directory.join("other"))).unwrap().parse().unwrap()
}

fn sleeper() -> Value {
    json!({"user": {"uid": 0, "gid": 0}, "args": ["sleep", "600"], "env": ["PATH=/bin"], "cwd": "/"})
}

#[test]
fn process_is_scheduled_as_the_bundle_says() {
    let host = Host::new();
    let deadline = json!({
        "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 50_000_000, "period": 100_000_000,
        "flags": ["SCHED_FLAG_RESET_ON_FORK"]
    });
    for (scheduler, expected) in [
        (json!({"policy": "SCHED_OTHER", "nice": -7}), &["SCHED_OTHER", "priority: 0"][..]),
        (json!({"policy": "SCHED_FIFO", "priority": 9}), &["SCHED_FIFO", "priority: 9"]),
        (
            json!({"policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
            &["SCHED_RR", "ESET", "3"],
        ),
        (json!({"policy": "SCHED_BATCH", "nice": 4}), &["SCHED_BATCH"]),
        (json!({"policy": "SCHED_IDLE"}), &["SCHED_IDLE"]),
        (deadline, &["SCHED_DEADLINE", "1000000/50000000/100000000"]),
    ] {
        let (class, level) = if scheduler["nice"] == -7 { ("IOPRIO_CLASS_RT", 2) } else { ("IOPRIO_CLASS_BE", 6) };
        let add = |process: &mut Value| {
            process["args"] = json!(["sleep", "600"]);
            process["scheduler"] = scheduler.clone();
            process["ioPriority"] = json!({"class": class, "priority": level});
            process["oomScoreAdj"] = json!(123);
        };
        let bundle = Bundle::new(&host, "", |config| add(&mut config["process"]));
        bundle.create_in_silence();
        let _ = bundle.engine(&["start", "one"]).run().ok();
        let mut process = sleeper();
        add(&mut process);
        assert_eq!(exec(&bundle, &host, &process).with(quiet).run().code, 0);
        for pid in [bundle.pid(), pid_of_exec(&bundle, &host)] {
            let said = ask(&host, "chrt", pid);
            assert!(expected.iter().all(|word| said.contains(word)), "{scheduler}: {said}");
            let stat = host.program("cat").arg(format!("/proc/{pid}/stat")).run().ok();
            let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().to_owned();
            assert!(scheduler["nice"].as_i64().is_none_or(|given| nice == given.to_string()), "{scheduler}: {nice}");
            let name = if level == 2 { "realtime: prio 2" } else { "best-effort: prio 6" };
            assert_eq!(ask(&host, "ionice", pid).trim(), name);
            assert_eq!(host.program("cat").arg(format!("/proc/{pid}/oom_score_adj")).run().ok(), "123\n");
        }
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
    let bundle = Bundle::new(&host, "", |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "priority": 9});
    });
    bundle.create_in_silence();
    let line = bundle.engine(&["start", "one"]).run().refused(1);
    assert!(line.contains("set process.scheduler: EINVAL"), "{line}");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn cpu_affinity_is_for_processes_that_join() {
    let host = Host::new();
    let affinity = json!({"initial": "0", "final": "0"});
    let bundle = Bundle::new(&host, "", |config| {
        config["process"]["args"] = json!(["sleep", "600"]);
        config["process"]["execCPUAffinity"] = affinity.clone();
    });
    bundle.create_in_silence();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    let all = status(&host, 1, "Cpus_allowed_list");
    assert_eq!(status(&host, bundle.pid(), "Cpus_allowed_list"), all, "it is for others alone");
    let mut process = sleeper();
    // With the cpuset controller, moving a process into the container's cgroup resets its affinity.
    let controllers = fs::read_to_string(host.cgroup().parent().unwrap().join("cgroup.controllers")).unwrap();
    let has_cpuset = controllers.contains("cpuset");
    for affinity in [json!({"final": "0"}), json!({"initial": "0"}), affinity] {
        if has_cpuset && affinity.get("final").is_none() {
            continue;
        }
        process["execCPUAffinity"] = affinity.clone();
        assert_eq!(exec(&bundle, &host, &process).with(quiet).run().code, 0);
        assert_eq!(status(&host, pid_of_exec(&bundle, &host), "Cpus_allowed_list"), "0", "{affinity}");
    }
    process["execCPUAffinity"] = json!({"initial": "1023"});
    let line = exec(&bundle, &host, &process).run().refused(255);
    assert!(line.contains("process.execCPUAffinity.initial"), "{line}");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn capabilities_are_the_five_sets_of_the_bundle() {
    let host = Host::new();
    // CAP_CHOWN is 0x1, CAP_KILL 0x20, CAP_SETUID 0x80.
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]
    });
    for (uid, no_new_privs, permitted) in [(0, true, 0x21), (0, false, 0xa1), (33, true, 0x20), (33, false, 0x20)] {
        let change = |process: &mut Value| {
            process["args"] = json!(["sleep", "600"]);
            process["user"] = json!({"uid": uid, "gid": uid});
            process["noNewPrivileges"] = json!(no_new_privs);
            process["capabilities"] = sets.clone();
        };
        let bundle = Bundle::new(&host, "", |config| change(&mut config["process"]));
        bundle.create_in_silence();
        // While it waits for `start`, it has only the capabilities that it needs.
        let waits = u64::from_str_radix(&status(&host, bundle.pid(), "CapPrm"), 16).unwrap();
        assert_eq!(waits & (1 << 16 | 1 << 17 | 1 << 19), 0, "SYS_MODULE, SYS_RAWIO, SYS_PTRACE: {waits:x}");
        let _ = bundle.engine(&["start", "one"]).run().ok();
        let mut process = sleeper();
        change(&mut process);
        assert_eq!(exec(&bundle, &host, &process).with(quiet).run().code, 0);
        for pid in [bundle.pid(), pid_of_exec(&bundle, &host)] {
            for (set, expected) in
                [("CapBnd", 0xa1), ("CapPrm", permitted), ("CapEff", permitted), ("CapInh", 0x20), ("CapAmb", 0x20)]
            {
                assert_eq!(status(&host, pid, set), format!("{expected:016x}"), "{set} of {uid}, {no_new_privs}");
            }
        }
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
}

#[test]
fn process_has_the_personality_and_memory_policy_of_the_bundle() {
    let host = Host::new();
    let script = "uname -m; head -n 1 /proc/self/numa_maps; exec sleep 600";
    let has_numa = host.program("cat").arg("/proc/self/numa_maps").run().code == 0;
    let bundle = Bundle::new(&host, script, |config| {
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
        if has_numa {
            let flags = json!(["MPOL_F_STATIC_NODES"]);
            config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": flags});
        }
    });
    let mut engine = bundle.adopt();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output(if has_numa { "interleave=static:0" } else { "\n" });
    let machine = host.program("uname").arg("-m").run().ok();
    let other = if machine == "x86_64\n" { "i686\n" } else { &*machine };
    assert!(engine.stdout().contains(other), "{}", engine.stdout());
    // So does a process that joins the container.
    assert_eq!(exec(&bundle, &host, &sleeper()).with(quiet).run().code, 0);
    let pid = pid_of_exec(&bundle, &host);
    assert_eq!(host.program("cat").arg(format!("/proc/{pid}/personality")).run().ok(), "00000008\n");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    let _ = bundle.reap(engine);
}

#[test]
fn labels_are_set_or_refused() {
    let host = Host::new();
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    let bundle = |member: &'static str, label: &'static str| {
        Bundle::new(&host, "", move |config| {
            config["process"]["args"] = json!(["sleep", "600"]);
            config["process"][member] = json!(label);
        })
    };
    let other = bundle("apparmorProfile", "kontena-nosuch");
    if enabled.starts_with('Y') {
        other.create_in_silence();
        let line = other.engine(&["start", "one"]).run().refused(1);
        assert!(line.contains("set process.apparmorProfile"), "{line}");
        let _ = other.engine(&["delete", "--force", "one"]).run().ok();
    } else {
        let line = other.create().run().refused(1);
        assert!(line.contains("process.apparmorProfile: this kernel has no AppArmor"), "{line}");
    }
    host.inside(|| fs::remove_dir_all(&other.directory)).unwrap();
    let none = bundle("apparmorProfile", "unconfined");
    none.create_in_silence();
    let _ = none.engine(&["start", "one"]).run().ok();
    let _ = none.engine(&["delete", "--force", "one"]).run().ok();
    host.inside(|| fs::remove_dir_all(&none.directory)).unwrap();
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("selinuxfs") {
        let line = bundle("selinuxLabel", "system_u:system_r:container_t:s0").create().run().refused(1);
        assert!(line.contains("process.selinuxLabel: this kernel has no SELinux"), "{line}");
    }
}

#[test]
fn process_can_have_all_limits_of_getrlimit() {
    let host = Host::new();
    // Not above the limits of the tests; the order is that of /proc/PID/limits.
    let names = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME";
    let soft = |name: &str, place: usize| match name {
        "NICE" | "RTPRIO" => 0,
        "NPROC" | "NOFILE" | "MEMLOCK" | "SIGPENDING" | "MSGQUEUE" => 64 + place as u64,
        _ => (place as u64 + 1) << 30,
    };
    let all: Vec<_> = names.split(' ').enumerate().map(|(place, name)| (name, soft(name, place))).collect();
    let limit = |(name, soft): &(&str, u64)| json!({"type": format!("RLIMIT_{name}"), "soft": soft, "hard": soft});
    let mut limits: Value = all.iter().map(limit).collect();
    let bundle = Bundle::new(&host, "", |config| {
        config["process"]["args"] = json!(["sleep", "600"]);
        config["process"]["rlimits"] = limits.clone();
    });
    bundle.create_in_silence();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    let text = host.program("cat").arg(format!("/proc/{}/limits", bundle.pid())).run().ok();
    for (name, soft) in all {
        assert!(text.contains(&format!(" {soft} ")), "{name}: {text}");
    }
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    limits.as_array_mut().unwrap().push(json!({"type": "RLIMIT_CPU", "soft": 1, "hard": 1}));
    let bundle = Bundle::new(&host, "", |config| config["process"]["rlimits"] = limits);
    let line = bundle.create().run().refused(1);
    assert!(line.contains("process.rlimits[16]: there is one of this type"), "{line}");
}

#[test]
fn terminal_has_the_size_of_the_bundle() {
    let host = Host::new();
    let console = |process: &mut Value, script: &str| {
        process["terminal"] = json!(true);
        process["consoleSize"] = json!({"height": 33, "width": 77});
        process["args"] = json!(["sh", "-c", script]);
    };
    let bundle = Bundle::new(&host, "", |config| console(&mut config["process"], "stty size; exec sleep 600"));
    let path = bundle.directory.join("console");
    let listener = host.inside(|| UnixListener::bind(&path)).unwrap();
    let create = bundle.create().arg("--console-socket").arg(&path);
    assert_eq!(create.with(quiet).run().code, 0);
    let mut master = receive(&listener);
    let _ = bundle.engine(&["start", "one"]).run().ok();
    assert_eq!(line(&mut master), "33 77\r\n");
    let mut process = sleeper();
    console(&mut process, "stty size");
    let made = exec(&bundle, &host, &process).run();
    assert_eq!(made.code, 0, "{made}");
    assert_eq!(line(&mut receive(&listener)), "33 77\r\n");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

/// Receives the terminal as an engine does.
fn receive(listener: &UnixListener) -> File {
    let (socket, _) = listener.accept().unwrap();
    let (mut bytes, mut space) = ([0; 64], cmsg_space!(RawFd));
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else { panic!("no fd") };
    tests::sys::received_file(fds[0])
}

/// Reads the first line from a terminal.
fn line(master: &mut File) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let mut byte = [0];
        master.read_exact(&mut byte).unwrap();
        text.extend(byte);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn profile_cannot_fake_the_calls_that_confine_the_process() {
    let host = Host::new();
    let script = "echo ran $(grep -E '^([UG]id|Groups|NoNewPrivs|CapPrm)' /proc/self/status)";
    let process = |no_new_privs: bool| {
        let mut process = sleeper();
        process["args"] = json!(["sh", "-c", script]);
        process["user"] = json!({"uid": 33, "gid": 34, "additionalGids": [35]});
        process["noNewPrivileges"] = json!(no_new_privs);
        process
    };
    let check = |what: &str, no_new_privs: bool, code: i32, text: &str| {
        let ran = format!(
            "ran Uid: 33 33 33 33 Gid: 34 34 34 34 Groups: 35 CapPrm: 0000000000000000 NoNewPrivs: {}",
            u8::from(no_new_privs)
        );
        let mut lines = text.lines().filter(|line| line.starts_with("ran"));
        assert!(lines.clone().all(|line| line == ran), "{what}: {text}");
        assert_eq!(lines.next().is_some(), code == 0, "{what}: {text}");
    };
    for name in ["setresuid", "setresgid", "setgroups", "setgroups getgroups", "capset", "capset capget", "prctl"] {
        let seccomp = |config: &mut Value| {
            let names: Vec<_> = name.split(' ').collect();
            let rule = json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 0});
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        };
        for no_new_privs in [false, true] {
            let bundle = Bundle::new(&host, "", |config| {
                seccomp(config);
                config["process"] = process(no_new_privs);
            });
            let engine = bundle.adopt();
            let start = bundle.engine(&["start", "one"]).run();
            check(name, no_new_privs, start.code, &bundle.reap(engine));
            let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
            host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
        }
        // A process that joins the container has the filter from its start.
        let bundle = Bundle::new(&host, "exec sleep 600", seccomp);
        bundle.create_in_silence();
        let _ = bundle.engine(&["start", "one"]).run().ok();
        for no_new_privs in [false, true] {
            let outcome = exec(&bundle, &host, &process(no_new_privs)).run();
            check(name, no_new_privs, outcome.code, &outcome.stdout);
        }
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
}
