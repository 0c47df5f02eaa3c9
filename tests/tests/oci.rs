//! Containers of OCI bundles, used as engines use them: created, handed over, started, killed and deleted by one
//! command after the other, and adopted by the engine.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use tests::{Bundle, Host, Traced, intruder, launcher, wait_until};

#[test]
fn bundle_is_created_started_killed_and_deleted() {
    let host = Host::new();
    // It is mounted on first use.
    let _ = host.debian();
    let before = host.snapshot();
    let script =
        "trap 'exit 7' TERM; echo hello $$ $(cat /proc/sys/kernel/hostname) $A $(id -G); while :; do sleep 0.1; done";
    let bundle = Bundle::new(&host, script, |_| {});
    let mut engine = bundle.adopt();
    let state = bundle.state();
    assert_eq!(state["pid"], bundle.pid());
    let same = ["id", "status", "ociVersion", "bundle"].map(|key| state[key].as_str().unwrap().to_owned());
    assert_eq!(same, ["one", "created", "1.0.2-dev", &bundle.directory.display().to_string()]);
    assert_eq!(state["annotations"], json!({"a.b": "c \"d\""}));
    let line = bundle.create().run().refused(1);
    assert!(line.contains("already exists"), "{line}");

    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("hello 1 bundled b c 0 7\n");
    assert_eq!(bundle.status(), "running");
    for words in [&["start", "one"][..], &["delete", "one"]] {
        let line = bundle.engine(words).run().refused(1);
        assert!(line.contains("is running"), "{line}");
    }
    let listed = bundle.kontena(&["list", "--format", "json"]).run().ok();
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()[0]["status"], "running");
    assert!(host.cgroup_parent().join("one").exists());
    // Engines get the pids, users a table.
    let pids: Vec<u32> = serde_json::from_str(&bundle.engine(&["ps", "--format", "json", "one"]).run().ok()).unwrap();
    assert!(pids.contains(&bundle.pid()), "{pids:?}");
    assert!(bundle.kontena(&["ps", "one"]).run().ok().contains("PID"));

    // `prune` leaves it alone.
    let _ = bundle.kontena(&["prune"]).run().ok();
    assert_eq!(bundle.status(), "running");

    assert_eq!(bundle.engine(&["kill", "one", "15"]).run().ok(), "");
    wait_until("it to stop", || bundle.status() == "stopped");
    assert_eq!((bundle.state()["pid"].clone(), engine.has_ended()), (json!(0), false), "it is a zombie");
    let line = bundle.engine(&["kill", "one", "KILL"]).run().refused(1);
    assert!(line.contains("container not running"), "{line}");
    let _ = bundle.engine(&["kill", "--all", "one", "9"]).run().ok();
    let text = bundle.reap(engine);
    assert!(text.contains("Exited(Pid(") && text.contains(", 7)"), "{text}");
    assert_eq!(bundle.status(), "stopped");
    assert_eq!(bundle.engine(&["delete", "one"]).run().ok(), "");
    for words in [&["state", "one"][..], &["kill", "one", "9"], &["start", "one"], &["delete", "one"]] {
        let line = bundle.engine(words).run().refused(1);
        assert!(line.contains("does not exist"), "{line}");
    }
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn running_and_waiting_containers_are_deleted_with_force() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    let before = host.snapshot();
    for (starts, words) in
        [(true, &["delete", "--force", "one"][..]), (false, &["delete", "--force", "one"]), (false, &["delete", "one"])]
    {
        bundle.create_in_silence();
        assert_eq!(bundle.status(), "created");
        if starts {
            let _ = bundle.engine(&["start", "one"]).run().ok();
        }
        let _ = bundle.engine(words).run().ok();
        host.inside(|| fs::remove_file(bundle.pidfile())).unwrap();
        host.prune();
        before.assert_restored(|| host.snapshot());
    }
}

#[test]
fn processes_of_a_running_bundle_are_handed_over_too() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    let file = |name: &str| bundle.directory.join(name).display().to_string();
    let exec = |args: Value| {
        let process = json!({"user": {"uid": 33, "gid": 33}, "args": args, "env": ["PATH=/bin"], "cwd": "/tmp"});
        host.inside(|| fs::write(file("process.json"), process.to_string())).unwrap();
        ["exec", "--process", &file("process.json"), "--pid-file", &file("other"), "--detach", "one"].map(String::from)
    };
    bundle.create_in_silence();
    let line = bundle.kontena(&[]).args(exec(json!(["true"]))).run().refused(255);
    assert!(line.contains("has not been started"), "{line}");
    let _ = bundle.engine(&["start", "one"]).run().ok();
    // The engine gets its exit status even if it ends at once.
    for (script, code) in [("exit 3", 3), ("echo $(id -u) $PWD; sleep 0.5; exit 5", 5)] {
        let program = host.program(intruder()).arg("adopt").arg(file("other")).arg(launcher()).arg("--root");
        let mut engine = program.arg(host.state()).args(exec(json!(["sh", "-c", script]))).start();
        host.inside(|| fs::write(file("other.reap"), "")).unwrap();
        engine.wait_for_output(&format!(", {code}))"));
        assert_eq!(engine.stdout().contains("33 /tmp\n"), code == 5, "{}", engine.stdout());
        host.inside(|| fs::remove_file(file("other"))).unwrap();
    }
    let line = bundle.engine(&[]).args(exec(json!(["nosuch"]))).run().refused(255);
    assert!(line.contains("executable file not found in $PATH"), "{line}");
    assert!(!host.inside(|| Path::new(&file("other")).exists()));
    let _ = bundle.engine(&["kill", "--all", "one", "KILL"]).run().ok();
    wait_until("it to stop", || bundle.status() == "stopped");
    let line = bundle.engine(&[]).args(exec(json!(["true"]))).run().refused(255);
    assert!(line.contains("container not running"), "{line}");
    let _ = bundle.engine(&["delete", "one"]).run().ok();
}

#[test]
fn waiting_container_with_a_terminal_closes_the_callers_stdio() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "tty", |config| config["process"]["terminal"] = json!(true));
    let socket = bundle.directory.join("console");
    let listener = host.inside(|| UnixListener::bind(&socket)).unwrap();
    // `run` returns: the caller's pipe has reached its end.
    let _ = bundle.create().arg("--console-socket").arg(&socket).run().ok();
    assert_eq!(bundle.status(), "created");
    drop(listener);
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn create_reports_what_cannot_start() {
    let host = Host::new();
    // It is mounted on first use.
    let _ = host.debian();
    let before = host.snapshot();
    let (missing, denied) = (json!(["nosuch"]), json!(["/etc/passwd"]));
    type Change = Box<dyn FnOnce(&mut Value)>;
    let changes: [(Change, &str); 6] = [
        (Box::new(|config| config["process"]["args"] = missing), "executable file not found in $PATH"),
        (Box::new(|config| config["process"]["args"] = denied), "Permission denied"),
        (Box::new(|config| config["process"]["user"]["uid"] = json!("root")), "process.user.uid: expected a number"),
        (Box::new(|config| config["root"]["path"] = json!("nosuch")), "bundle/nosuch"),
        (Box::new(|config| config["hooks"] = json!({"prestart": [{"path": "a"}]})), "hooks.prestart[0].path: "),
        (Box::new(|config| config["linux"]["cgroupsPath"] = json!("a:b:c")), "cgroupfs"),
    ];
    for (change, words) in changes {
        let bundle = Bundle::new(&host, "", change);
        let line = bundle.create().run().refused(1);
        assert!(line.contains(words), "{line}");
        let log: Value = serde_json::from_str(&host.inside(|| fs::read_to_string(bundle.log())).unwrap()).unwrap();
        assert_eq!(
            (log["level"].as_str(), log["msg"].as_str().is_some_and(|msg| line.contains(msg))),
            (Some("error"), true)
        );
        assert!(!host.inside(|| bundle.pidfile().exists()), "{words}");
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
        host.prune();
        before.assert_restored(|| host.snapshot());
    }
    let bundle = Bundle::new(&host, "", |_| {});
    let line = bundle.kontena(&["--systemd-cgroup", "create", "--bundle"]).arg(&bundle.directory).arg("one").run();
    assert!(line.refused(1).contains("cgroupfs"));
}

#[test]
fn create_killed_at_any_system_call_leaves_a_container_or_nothing() {
    let host = Host::new();
    // It is mounted on first use.
    let _ = host.debian();
    let before = host.snapshot();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    let with_bundle = host.snapshot();
    let (mut calls, mut whole) = (0, 0);
    loop {
        // Otherwise the container would keep the pipe open.
        let victim = bundle.create().through("sh", &["-c", "exec \"$@\" > /dev/null 2>&1", "sh"]);
        let mut victim = Traced::start(victim);
        let ended = (0..=calls).any(|_| victim.next_call().is_none());
        if ended {
            let _ = victim.finish().code(0);
            break;
        }
        victim.kill();
        if bundle.engine(&["state", "one"]).run().code == 0 {
            wait_until("its process to end or wait", || ["stopped", "created"].contains(&&*bundle.status()));
            whole += usize::from(bundle.status() == "created");
            let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        }
        host.prune();
        let _ = host.inside(|| fs::remove_file(bundle.pidfile()));
        let _ = host.inside(|| fs::remove_file(bundle.pidfile().with_extension("new")));
        with_bundle.assert_restored(|| host.snapshot());
        calls += tests::few();
    }
    assert!(calls > 50, "only {calls} system calls?");
    println!("{whole} of {calls} were whole");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    host.prune();
    host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn process_is_killed_if_its_pid_cannot_be_written() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "exec sleep 600", |_| {});
    bundle.create_in_silence();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    // The process holds the output pipe, so `run` returns only after its end.
    let exec = bundle.engine(&["exec", "--detach", "--pid-file"]).arg(host.directory()).args(["one", "sleep", "601"]);
    let line = exec.run().refused(255);
    assert!(line.contains("--pidfile"), "{line}");
    let pids = host.cgroup_parent().join("one/cgroup.procs");
    wait_until("it to end", || fs::read_to_string(&pids).unwrap().lines().count() == 1);
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn empty_record_does_not_block_its_name() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    let directory = host.state().join("one");
    for has_journal in [true, false] {
        bundle.create_in_silence();
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        // What `create` leaves when it is killed or has no fds left.
        let leave = || {
            fs::create_dir(&directory).unwrap();
            if has_journal {
                fs::write(directory.join("journal"), "").unwrap();
            }
        };
        host.inside(leave);
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        assert!(!host.inside(|| directory.exists()), "{has_journal}");
        host.inside(leave);
        bundle.create_in_silence();
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        assert!(!host.inside(|| directory.exists()), "{has_journal}");
    }
}

#[test]
fn fds_of_kontenas_own_are_not_preserved() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    for number in ["1", "2", "9"] {
        let line = bundle.create().args(["--preserve-fds", number]).run().refused(1);
        assert!(line.contains("--preserve-fds: fd 3"), "{line}");
    }
    assert_eq!(bundle.engine(&["state", "one"]).run().code, 1);
}

#[test]
fn settings_of_the_callers_namespaces_are_refused() {
    let host = Host::new();
    let few = json!([{"type": "mount"}, {"type": "pid"}]);
    let callers = json!([{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/proc/self/ns/net"}]);
    for (namespaces, setting) in [
        (&few, "net.ipv4.ip_forward"),
        (&callers, "net.ipv4.ip_forward"),
        (&few, "kernel.shmmax"),
        (&few, "fs.mqueue.msg_max"),
        (&few, "kernel.domainname"),
    ] {
        let bundle = Bundle::new(&host, "sleep 600", |config| {
            config["linux"]["namespaces"] = namespaces.clone();
            config["linux"]["sysctl"] = json!({setting: "1"});
        });
        let line = bundle.create().run().refused(1);
        assert!(line.contains("linux.sysctl") && line.contains("caller's"), "{setting}: {line}");
    }
    let bundle = Bundle::new(&host, "sleep 600", |config| {
        config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    });
    let line = bundle.create().run().refused(1);
    assert!(line.contains("linux.uidMappings") && line.contains("user namespace"), "{line}");
}

#[test]
fn payload_inherits_nothing_from_the_engine() {
    let host = Host::new();
    let script = "ls -l /proc/self/fd | grep -v ' -> /proc/' | wc -l; cat /proc/1/comm; \
                  grep -E '^(Cap(Inh|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/1/status; \
                  cat /proc/keys; echo x > /proc/sys/kernel/hostname; touch /etc/x; ls /sys/firmware; ls /tmp";
    let bundle = Bundle::new(&host, script, |_| {});
    // An engine that leaks fds.
    let engine = format!("exec 7</ 8>{0}/leak; exec \"$@\"", bundle.directory.display());
    let arguments: Vec<String> = ["--root", &host.state().display().to_string(), "create", "-b"]
        .iter()
        .map(|text| (*text).to_owned())
        .chain([bundle.directory.display().to_string(), "one".into()])
        .collect();
    let create = host.program("sh").args(["-c", &engine, "sh"]).arg(launcher()).args(arguments).start();
    wait_until("it to be created", || {
        let outcome = bundle.engine(&["state", "one"]).run();
        outcome.code == 0 && outcome.stdout.contains("\"created\"")
    });
    let _ = bundle.engine(&["start", "one"]).run().ok();
    let outcome = create.finish();
    let expected = "4\nsh\nCapInh:\t0000000000000000\nCapBnd:\t00000000000020e1\nCapAmb:\t0000000000000000\n\
                    NoNewPrivs:\t1\nSeccomp:\t2\n";
    assert_eq!(outcome.stdout, expected, "total and stdio: {}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{}", outcome.stderr);
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn working_directory_cannot_be_an_open_fd() {
    let host = Host::new();
    for number in 0..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let bundle = Bundle::new(&host, "sleep 600", |config| config["process"]["cwd"] = json!(cwd));
        let quiet = |command: &mut Command| _ = command.stdout(Stdio::null()).stderr(Stdio::null());
        // kontena's own fds are closed at `start`.
        if bundle.create().with(quiet).run().code == 0 {
            let line = bundle.engine(&["start", "one"]).run().refused(1);
            assert!(line.contains("working directory"), "{line}");
            let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        }
    }
}

#[test]
fn bundle_mounts_are_made_in_order() {
    let host = Host::new();
    let data = host.directory().join("bundle/data");
    let script = "ls -A /etc/skel; touch /etc/skel/x; echo $?; cat /mnt/a/file; \
                  touch /mnt/file; echo $?; touch /mnt/a/x; echo $?; \
                  grep -o '/mnt.* ro,nosuid,nodev' /proc/self/mountinfo; exec sleep 600";
    let bundle = Bundle::new(&host, script, |config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        let options = json!(["nosuid", "nodev", "size=64k"]);
        mounts.push(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}));
        let options = json!(["nosuid", "nodev", "tmpcopyup"]);
        mounts.push(json!({"destination": "/etc/skel", "type": "tmpfs", "source": "tmpfs", "options": options}));
        let options = json!(["rbind", "rprivate", "ro", "nosuid", "nodev"]);
        mounts.push(json!({"destination": "mnt/a", "type": "bind", "source": "data", "options": options}));
    });
    host.inside(|| {
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("file"), "of the host\n").unwrap();
    });
    let mut engine = bundle.adopt();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("/mnt/a ro,nosuid,nodev");
    assert!(engine.stdout().contains(".bashrc\n.profile\n0\nof the host\n0\n1\n"), "{}", engine.stdout());
    assert!(!data.join("x").exists());
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    let _ = bundle.reap(engine);
    assert!(!Path::new("/mnt/a").exists());
}
