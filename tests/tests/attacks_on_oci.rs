//! Attacks on the commands for OCI engines: by files that other users have placed among the engine's files, and by
//! containers that end meanwhile.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use tests::{Bundle, Host, intruder, wait_until};

#[test]
fn console_socket_without_a_listener_is_an_error() {
    let host = Host::new();
    // It is mounted on first use.
    let _ = host.debian();
    let bundle = Bundle::new(&host, "sleep 600", |config| config["process"]["terminal"] = json!(true));
    let path = |name: &str| bundle.directory.join(name);
    let (file, full, link) = (path("file"), path("full"), path("link"));
    let (listener, waiting) = host.inside(|| {
        fs::write(&file, "").unwrap();
        let listener = UnixListener::bind(&full).unwrap();
        symlink("/nowhere", &link).unwrap();
        // The shortest queue, which this connection fills.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        (listener, UnixStream::connect(&full).unwrap())
    });
    let before = host.snapshot();
    for console in [&path("missing"), &file, &full, &link, &bundle.directory] {
        let line = bundle.create().arg("--console-socket").arg(console).run().refused(1);
        assert!(line.contains("--console-socket") && line.contains("somebody listens"), "{line}");
        assert!(!host.inside(|| bundle.pidfile().exists()), "{}", console.display());
        host.inside(|| fs::remove_file(bundle.log()).unwrap());
        host.prune();
        before.assert_restored(|| host.snapshot());
    }
    drop((listener, waiting));
}

#[test]
fn files_of_engines_are_not_written_through_links() {
    let host = Host::new();
    let _ = host.debian();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    let canary = host.directory().join("canary");
    host.inside(|| {
        fs::write(&canary, "untouched").unwrap();
        for name in ["pid", "pid.new", "log.json"] {
            symlink(&canary, bundle.directory.join(name)).unwrap();
        }
    });
    bundle.create_in_silence();
    assert!(bundle.pid() > 0 && !host.inside(|| bundle.pidfile().is_symlink()));
    // The error goes to the log.
    let _ = bundle.create().run().refused(1);
    assert_eq!(host.inside(|| fs::read_to_string(&canary)).unwrap(), "untouched");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    // A log that is a fifo without a reader, and one that is not a file.
    let fifo = bundle.directory.join("fifo");
    host.inside(|| nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)).unwrap();
    for log in [&fifo, &bundle.directory] {
        let program = bundle.kontena(&["--log"]).arg(log).args(["state", "one"]);
        assert!(program.run().refused(1).contains("does not exist"), "{}", log.display());
    }
    // A pid file that is a directory.
    host.inside(|| {
        fs::remove_file(bundle.pidfile()).unwrap();
        fs::create_dir(bundle.pidfile()).unwrap();
    });
    host.prune();
    let before = host.snapshot();
    let line = bundle.create().run().refused(1);
    assert!(line.contains("pid"), "{line}");
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn unreadable_config_is_an_error() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "", |_| {});
    let config = bundle.directory.join("config.json");
    type Make = fn(&std::path::Path);
    let makes: [Make; 4] = [
        |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| fs::write(path, [b'['; 100_000]).unwrap(),
    ];
    for make in makes {
        host.inside(|| {
            let _ = fs::remove_file(&config);
            let _ = fs::remove_dir(&config);
            make(&config);
        });
        let line = bundle.create().run().refused(1);
        assert!(line.contains("config.json"), "{line}");
    }
}

#[test]
fn exec_in_a_dying_container_runs_inside_or_fails() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    let own = host.program("readlink").arg("/proc/self/ns/pid").run().ok();
    let file = |name: &str| bundle.directory.join(name);
    let args = json!(["/usr/bin/readlink", "/proc/self/ns/pid"]);
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/"});
    host.inside(|| fs::write(file("process.json"), process.to_string()).unwrap());
    let (mut inside, mut refused) = (0, 0);
    for round in 0..tests::rounds(40) {
        bundle.create_in_silence();
        let _ = bundle.engine(&["start", "one"]).run().ok();
        let exec = |number: usize| {
            let pidfile = file(&format!("pid.{number}"));
            let program = bundle.engine(&["exec", "--process"]).arg(file("process.json")).arg("--pid-file");
            (program.arg(&pidfile).args(["--detach", "one"]).start(), pidfile)
        };
        let before = exec(0);
        let kill = bundle.engine(&["kill", "one", "KILL"]).start();
        let after = exec(1);
        let _ = kill.finish();
        for (exec, pidfile) in [before, after] {
            let outcome = exec.finish();
            assert!(outcome.stdout != own, "round {round}: in the host's: {outcome}");
            inside += usize::from(!outcome.stdout.is_empty());
            let has_pid = host.inside(|| fs::remove_file(&pidfile)).is_ok();
            assert_eq!(has_pid, outcome.code == 0, "round {round}: {outcome}");
            if outcome.code != 0 {
                refused += 1;
                let told = ["container not running", "has just exited", "ended"];
                assert!(told.iter().any(|text| outcome.stderr.contains(text)), "round {round}: {outcome}");
            }
        }
        wait_until("it to stop", || bundle.status() == "stopped");
        let _ = bundle.engine(&["delete", "one"]).run().ok();
    }
    println!("{inside} ran inside, {refused} were refused");
    assert!(refused > 0);
}

#[test]
fn state_of_another_user_is_not_trusted() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "sleep 600", |_| {});
    bundle.create_in_silence();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    // A copy of the state, as an ordinary user can write it, with pids and cgroups of other users.
    let theirs = host.directory().join("theirs");
    host.inside(|| {
        let copied = Command::new("cp").args(["-a"]).arg(host.state()).arg(&theirs).status().unwrap();
        assert!(copied.success());
        let given = Command::new("chown").args(["-R", "1000:1000"]).arg(&theirs).status().unwrap();
        assert!(given.success());
    });
    for words in
        [&["kill", "one", "KILL"][..], &["delete", "--force", "one"], &["exec", "one", "true"], &["state", "one"]]
    {
        let outcome = host.program(tests::launcher()).arg("--root").arg(&theirs).args(words).run();
        assert_ne!(outcome.code, 0, "{words:?}: {outcome}");
        assert!(outcome.stderr.contains(&theirs.display().to_string()), "{words:?}: {outcome}");
    }
    assert_eq!(bundle.status(), "running");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn process_without_its_first_thread_does_not_escape() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let options = ["bind", "ro"];
    let bundle = |script, has_pids: bool| {
        Bundle::new(&host, script, |config| {
            let source = json!({"destination": "/tmp/i", "type": "bind", "source": intruder(), "options": options});
            config["mounts"].as_array_mut().unwrap().push(source);
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| has_pids || namespace["type"] != "pid");
        })
    };
    let leaf = host.cgroup_parent().join("one");
    let is_headless = || {
        let script = format!("for pid in $(cat {}/cgroup.procs); do cat /proc/$pid/stat; done", leaf.display());
        let stats = host.program("sh").args(["-c", &script]).run().stdout;
        !stats.is_empty() && stats.lines().all(|stat| stat.contains(") Z "))
    };

    // PID 1 of a pid namespace.
    let one = bundle("exec /tmp/i headless", true);
    one.create_in_silence();
    let _ = one.engine(&["start", "one"]).run().ok();
    wait_until("its first thread to end", is_headless);
    assert_eq!(one.status(), "running");
    let line = one.engine(&["delete", "one"]).run().refused(1);
    assert!(line.contains("is running"), "{line}");
    let _ = one.engine(&["kill", "one", "KILL"]).run().ok();
    wait_until("it to stop", || one.status() == "stopped");
    let _ = one.engine(&["delete", "one"]).run().ok();

    // A process in a pid namespace that does not end with the container.
    let one = bundle("/tmp/i headless & exit 3", false);
    one.create_in_silence();
    let _ = one.engine(&["start", "one"]).run().ok();
    wait_until("it to stop", || one.status() == "stopped" && is_headless());
    let _ = one.engine(&["delete", "one"]).run().ok();
    assert!(!leaf.exists());
    host.inside(|| fs::remove_dir_all(&one.directory).unwrap());
    host.prune();
    before.assert_restored(|| host.snapshot());
}
