//! Namespaces of bundles: namespaces of another container, joined by their files; the caller's; and clocks.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use tests::{Bundle, Host, intruder, wait_until};

/// The name in /proc/PID/ns of a type of config.json.
fn file_of(kind: &str) -> &str {
    match kind {
        "mount" => "mnt",
        "network" => "net",
        kind => kind,
    }
}

/// The target of a process's namespace file; `pid` 0 stands for the host's PID 1.
fn namespace(host: &Host, pid: u32, kind: &str) -> String {
    let pid = if pid == 0 { "1".into() } else { pid.to_string() };
    let path = format!("/proc/{pid}/ns/{}", file_of(kind));
    host.program("readlink").arg(&path).run().ok()
}

/// `linux.namespaces` with `new` types, and with types `joined` from a process.
fn namespaces(new: &[&str], pid: u32, joined: &[&str]) -> Value {
    let path = |kind: &&str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{}", file_of(kind))});
    let new = new.iter().map(|kind| json!({"type": kind}));
    new.chain(joined.iter().map(path)).collect()
}

/// How many processes are in the cgroup of a container.
fn processes(host: &Host, name: &str) -> usize {
    let path = host.cgroup_parent().join(name).join("cgroup.procs");
    host.inside(|| fs::read_to_string(&path)).map_or(0, |text| text.lines().count())
}

/// Prints the namespaces of the process, and what it sees of others; leaves another process behind.
const SCRIPT: &str = "for kind in pid ipc uts net time mnt cgroup; do readlink /proc/self/ns/$kind; done; \
                      tr '\\0' ' ' < /proc/1/cmdline; echo; echo mine $$; sleep 777 & echo ready; sleep 600";

#[test]
fn namespaces_of_a_pod_are_joined() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let pod = Bundle::named(&host, "pod", "pod", "sleep 555; exit", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    });
    pod.create_in_silence();
    let _ = pod.engine(&["start", "pod"]).run().ok();
    let joined = ["pid", "ipc", "uts", "network", "time", "cgroup"];
    let bundle = Bundle::new(&host, SCRIPT, |config| {
        config["linux"]["namespaces"] = namespaces(&["mount"], pod.pid(), &joined);
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    let mut engine = bundle.adopt();
    for kind in joined {
        assert_eq!(namespace(&host, bundle.pid(), kind), namespace(&host, pod.pid(), kind), "{kind}");
        assert_ne!(namespace(&host, bundle.pid(), kind), namespace(&host, 0, kind), "{kind}");
    }
    assert_ne!(namespace(&host, bundle.pid(), "mount"), namespace(&host, pod.pid(), "mount"));
    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("ready");
    assert!(engine.stdout().contains("sleep 555"), "its PID 1 is the pod's: {}", engine.stdout());
    assert!(!engine.stdout().contains("mine 1\n"), "{}", engine.stdout());
    // A process that joins the container has the same namespaces.
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["sleep", "600"], "env": ["PATH=/bin"], "cwd": "/"});
    let file = |name: &str| bundle.directory.join(name);
    host.inside(|| fs::write(file("process.json"), process.to_string())).unwrap();
    let exec = bundle.engine(&["exec", "--detach", "--process"]).arg(file("process.json"));
    let exec = exec.arg("--pid-file").arg(file("other")).arg("one");
    let quiet = |command: &mut Command| _ = command.stdout(Stdio::null()).stderr(Stdio::null());
    assert_eq!(exec.with(quiet).run().code, 0);
    let other: u32 = host.inside(|| fs::read_to_string(file("other"))).unwrap().parse().unwrap();
    for kind in ["pid", "ipc", "uts", "network", "time", "cgroup", "mount"] {
        assert_eq!(namespace(&host, other, kind), namespace(&host, bundle.pid(), kind), "{kind}");
    }
    assert_eq!(processes(&host, "one"), 4, "the payload, its two children, and that one");

    // All processes of the container end, and none of the pod's.
    let _ = bundle.engine(&["kill", "one", "KILL"]).run().ok();
    wait_until("its processes to end", || processes(&host, "one") == 0);
    wait_until("it to stop", || bundle.status() == "stopped");
    let _ = bundle.engine(&["delete", "one"]).run().ok();
    let text = bundle.reap(engine);
    assert!(text.contains("Signaled("), "{text}");
    assert_eq!(pod.status(), "running");
    let _ = pod.engine(&["delete", "--force", "pod"]).run().ok();
    host.prune();
    host.inside(|| [&pod, &bundle].map(|bundle| fs::remove_dir_all(&bundle.directory).unwrap()));
    before.assert_restored(|| host.snapshot());
}

#[test]
fn processes_in_the_callers_pid_namespace_end_with_the_container() {
    let host = Host::new();
    let script = "echo mine $$; sleep 777 & (sleep 778 &) ; echo ready; [ -e /stay ] && sleep 600; exit 3";
    let bundle = |script| {
        Bundle::new(&host, script, |config| {
            config["linux"]["namespaces"] = namespaces(&["mount", "ipc", "network", "uts"], 0, &[]);
        })
    };
    let one = bundle(script);
    let mut engine = one.adopt();
    let _ = one.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("ready");
    assert!(engine.stdout().contains(&format!("mine {}\n", one.pid())), "{}", engine.stdout());
    // The command has ended, its children have not.
    wait_until("it to stop", || one.status() == "stopped");
    assert_eq!(processes(&host, "one"), 2);
    let line = one.engine(&["kill", "one", "KILL"]).run().refused(1);
    assert!(line.contains("container not running"), "{line}");
    // As containerd does it.
    let _ = one.engine(&["kill", "--all", "one", "9"]).run().ok();
    wait_until("its processes to end", || processes(&host, "one") == 0);
    let text = one.reap(engine);
    assert!(text.contains(", 3)"), "{text}");
    let _ = one.engine(&["delete", "one"]).run().ok();
    host.inside(|| fs::remove_file(one.pidfile())).unwrap();

    // `delete` alone kills them, too.
    let one = bundle(script);
    one.create_in_silence();
    let _ = one.engine(&["start", "one"]).run().ok();
    wait_until("it to stop", || one.status() == "stopped" && processes(&host, "one") == 2);
    let _ = one.engine(&["delete", "one"]).run().ok();
    assert!(!host.cgroup_parent().join("one").exists());

    let line = one.kontena(&["--cgroup-manager", "disabled", "create", "--bundle"]).arg(&one.directory).arg("one");
    let line = line.run().refused(1);
    assert!(line.contains("pid namespace") && line.contains("cgroup"), "{line}");
}

#[test]
fn user_namespace_of_a_pod_is_joined_with_its_ids() {
    let host = Host::new();
    let rootfs = host.demo_copy("given");
    let _ = host.program("chown").args(["-R", "300000:300000"]).arg(&rootfs).run().ok();
    let change = |config: &mut Value| {
        config["root"] = json!({"path": rootfs});
        config["process"]["args"] = json!(["/run/intruder", "look", "/proc/self/uid_map", "/proc/self/status"]);
        let options = json!(["bind", "ro"]);
        let mount = json!({"destination": "/run/intruder", "type": "bind", "source": intruder(), "options": options});
        config["mounts"].as_array_mut().unwrap().push(mount);
    };
    let pod = Bundle::named(&host, "pod", "pod", "", |config| {
        change(config);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 300_000, "size": 1000}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    // A created container has namespaces to join already.
    pod.create_in_silence();
    for (new, joined) in [
        (&["mount", "cgroup"][..], &["user", "pid", "ipc", "uts", "network"][..]),
        // Root of the pod's user namespace owns the new ones: it may mount their proc and sysfs.
        (&["mount", "pid", "ipc", "uts", "network", "cgroup"], &["user"]),
    ] {
        let bundle = Bundle::new(&host, "", |config| {
            change(config);
            config["linux"]["namespaces"] = namespaces(new, pod.pid(), joined);
            // podman invents this map.
            let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        let engine = bundle.adopt();
        for kind in joined {
            assert_eq!(namespace(&host, bundle.pid(), kind), namespace(&host, pod.pid(), kind), "{kind}");
        }
        let _ = bundle.engine(&["start", "one"]).run().ok();
        let text = bundle.reap(engine);
        let words: Vec<_> = text.split_whitespace().skip(2).take(3).collect();
        assert_eq!(words, ["0", "300000", "1000"], "{text}");
        assert!(text.contains("Uid:\t0\t0\t0\t0\n"), "{text}");
        let _ = bundle.engine(&["delete", "one"]).run().ok();
        host.inside(|| {
            fs::remove_dir_all(&bundle.directory).unwrap();
        });
    }
    let _ = pod.engine(&["delete", "--force", "pod"]).run().ok();
}

#[test]
fn time_namespace_has_its_clocks() {
    let host = Host::new();
    let script = "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets; sleep 600";
    let clocked = |offsets: Value| {
        Bundle::new(&host, script, move |config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
            config["linux"]["timeOffsets"] = offsets;
        })
    };
    let bundle = clocked(json!({"boottime": {"secs": 900_000_000, "nanosecs": 5}, "monotonic": {"secs": 7}}));
    let mut engine = bundle.adopt();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("boottime");
    engine.wait_for_output("\n");
    let text = engine.stdout();
    assert!(text.contains("\n9000"), "{text}");
    let fields: Vec<_> = text.split_whitespace().collect();
    assert!(fields.windows(3).any(|line| line == ["monotonic", "7", "0"]), "{text}");
    assert!(fields.windows(3).any(|line| line == ["boottime", "900000000", "5"]), "{text}");
    // Another container joins the time namespace.
    let other = Bundle::named(&host, "two", "two", script, |config| {
        config["linux"]["namespaces"] = namespaces(&["mount", "pid", "network"], bundle.pid(), &["time"]);
    });
    other.create_in_silence();
    assert_eq!(namespace(&host, other.pid(), "time"), namespace(&host, bundle.pid(), "time"));
    for name in ["one", "two"] {
        let _ = bundle.engine(&["delete", "--force", name]).run().ok();
    }
    let _ = bundle.reap(engine);
    host.inside(|| fs::remove_file(bundle.pidfile())).unwrap();
    // A clock must not be negative.
    let line = clocked(json!({"monotonic": {"secs": -900_000_000_000i64}})).create().run().refused(1);
    assert!(line.contains("linux.timeOffsets"), "{line}");
}

#[test]
fn joined_mount_namespace_becomes_the_containers() {
    let host = Host::new();
    let _ = host.debian();
    let mut other =
        host.program("sh").args(["-c", "echo pid $$; exec unshare -m sh -c 'echo made; exec sleep 600'"]).start();
    other.wait_for_output("made");
    let pid: u32 = other.stdout().split_whitespace().nth(1).unwrap().parse().unwrap();
    let mounts = || host.program("cat").arg("/proc/self/mountinfo").run().ok();
    let before = mounts();
    let script = "readlink /proc/self/ns/mnt; cat /proc/self/mountinfo | wc -l; ls -d /proc/1; sleep 600";
    let bundle = Bundle::new(&host, script, |config| {
        let all = config["linux"]["namespaces"].as_array_mut().unwrap();
        all.retain(|namespace| namespace["type"] != "mount");
        all.push(json!({"type": "mount", "path": format!("/proc/{pid}/ns/mnt")}));
    });
    let mut engine = bundle.adopt();
    let joined = namespace(&host, pid, "mount");
    assert_eq!(namespace(&host, bundle.pid(), "mount"), joined);
    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("/proc/1\n");
    assert!(engine.stdout().contains(&*joined), "{}", engine.stdout());
    assert_eq!(mounts(), before);
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    let _ = bundle.reap(engine);
}

#[test]
fn errors_name_the_namespace_that_cannot_be_joined() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let fifo = host.directory().join("fifo");
    let _ = host.program("mkfifo").arg(&fifo).run().ok();
    // No process opens the other end of the fifo.
    let link = host.directory().join("link");
    symlink(&fifo, &link).unwrap();
    let (fifo, link) = (fifo.display().to_string(), link.display().to_string());
    let path = |kind: &str, path: &str| json!({"type": kind, "path": path});
    for (wrong, words) in [
        (path("ipc", "/proc/self/ns/uts"), "/proc/self/ns/uts"),
        (path("uts", "/proc/self/ns/ipc"), "/proc/self/ns/ipc"),
        (path("user", "/proc/self/ns/ipc"), "/proc/self/ns/ipc"),
        (path("time", "/proc/self/ns/ipc"), "/proc/self/ns/ipc"),
        (path("network", "/proc/self/ns/ipc"), "/proc/self/ns/ipc"),
        (path("cgroup", "/etc/passwd"), "/etc/passwd"),
        (path("ipc", "/nosuch"), "/nosuch"),
        (path("ipc", &fifo), "fifo"),
        (path("network", &link), "link"),
        (path("user", "/proc/self/ns/user"), "the caller's own"),
        (path("mount", "/proc/self/ns/mnt"), "the host's"),
        (path("mount", "/proc/1/ns/mnt"), "the host's"),
        (json!({"type": "pid"}), "linux.namespaces[2]: there is one of this type already"),
        (json!({"type": "moon"}), "linux.namespaces[2].type: "),
    ] {
        let bundle = Bundle::new(&host, "sleep 600", |config| {
            let mut all = namespaces(&["mount", "pid"], 0, &[]);
            let list = all.as_array_mut().unwrap();
            list.retain(|one| one["type"] == "pid" || one["type"] != wrong["type"]);
            if list.len() == 1 {
                list.push(json!({"type": "uts"}));
            }
            list.push(wrong.clone());
            config["linux"]["namespaces"] = all;
        });
        let line = bundle.create().run().refused(1);
        assert!(line.contains(words), "{wrong}: {line}");
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
    host.inside(|| [&fifo, &link].map(|path| fs::remove_file(path).unwrap()));
    host.prune();
    let bundle = Bundle::new(&host, "", |config| config["linux"]["namespaces"] = namespaces(&["pid"], 0, &[]));
    let line = bundle.create().run().refused(1);
    assert!(line.contains("linux.namespaces: ") && line.contains("add a mount namespace"), "{line}");
    let bundle = Bundle::new(&host, "", |config| config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}}));
    let line = bundle.create().run().refused(1);
    assert!(line.contains("linux.timeOffsets: "), "{line}");
    host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    host.prune();
    before.assert_restored(|| host.snapshot());
}
