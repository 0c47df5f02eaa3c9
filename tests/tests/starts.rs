//! `create`, `start` and `restart`: the lives of a container that keeps its command line.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::mount::{MsFlags, mount};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use tests::{Background, Host, Outcome, Program, Traced, leaf_processes, wait_until};

/// A script that says who it is, and goes on.
const FOREVER: &str = "echo ready; exec sleep 600";
const NGINX: &str = "/usr/sbin/nginx";

/// `kontena create OPTIONS ROOTFS COMMAND`
fn create<'a>(host: &'a Host, options: &[&str], rootfs: impl AsRef<Path>, command: &[&str]) -> Program<'a> {
    let program = host.kontena().args(["create", "--cgroup-parent"]).arg(host.cgroup_parent_option());
    program.args(options).arg(rootfs.as_ref()).args(command)
}

/// `kontena VERB NAME…`
fn verb(host: &Host, words: &[&str]) -> Outcome {
    host.kontena().args(words).run()
}

#[test]
fn created_container_starts_stops_and_starts_again() {
    let host = Host::new();
    let before = host.snapshot();
    let shared = host.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(host.directory().join("variables"), "OF_FILE=a b\n").unwrap();
    let _ = host.demo_copy("rootfs");
    let options = ["--name", "web", "-p", "8080:80", "-v", "./shared:/shared", "-e", "OF_CALLER", "-e", "A="];
    let options = [&options[..], &["--env-file", "variables", "--wait-ready"]].concat();
    let program = create(&host, &options, "rootfs", &[NGINX]).env("OF_CALLER", "secret=1");
    let created = program.with(|command| _ = command.current_dir(host.directory())).run().ok();
    assert_eq!(created, "web\n");
    let web = Background::new(&host, "web");
    let seen = web.inspect();
    assert_eq!((&seen["status"], &seen["running"], seen.get("exit")), (&json!("created"), &json!(false), None));
    assert_eq!(seen["command"], json!([NGINX]));
    assert!(verb(&host, &["list"]).ok().lines().any(|line| line.starts_with("web") && line.contains("created")));
    assert_eq!(fs::metadata(web.directory().join("command")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!host.cgroup_parent().exists(), "nothing of the host is taken yet");
    // It stays, whatever is cleaned up.
    host.prune();
    assert_eq!(web.status(), "created");
    let _ = fs::remove_file(host.directory().join("variables"));

    for _ in 0..3 {
        // From another directory, with another environment.
        assert_eq!(verb(&host, &["start", "web"]).ok(), "web\n");
        assert!(host.get("127.0.0.1:8080").is_ok());
        // One that is running is started, as docker has it.
        assert_eq!(verb(&host, &["start", "web"]).ok(), "web\n");
        assert!(web.inspect()["mounts"].to_string().contains("/shared\""), "{}", web.inspect()["mounts"]);
        let env = web.inspect()["env"].to_string();
        for variable in ["\"OF_CALLER=secret=1\"", "\"A=\"", "\"OF_FILE=a b\"", "\"HOSTNAME=web\""] {
            assert!(env.contains(variable), "{variable}: {env}");
        }
        assert_eq!(web.does("stop"), "web\n");
        assert_eq!((web.status(), web.leaf().exists()), ("exited".into(), false));
    }
    let _ = web.does("delete");
    assert!(!web.directory().exists());
    fs::remove_dir_all(&shared).unwrap();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn ended_container_starts_with_its_log_and_a_new_life() {
    let host = Host::new();
    let job = host.background("job", &["--restart", "on-failure:1"], "echo life; exit 3");
    assert_eq!(job.end(), 3);
    assert_eq!(job.seen().unwrap()["restarts"], 1);
    let _ = job.does("start");
    assert_eq!(job.end(), 3);
    assert_eq!((job.seen().unwrap()["restarts"].clone(), job.logged().matches("life").count()), (json!(1), 4));

    // What it wrote is there.
    let layer = host.directory().join("layer");
    fs::create_dir(&layer).unwrap();
    let overlay = format!("--overlay={}", layer.display());
    let job = host.background("data", &[&overlay], "echo life >> /file; wc -l < /file; exec sleep 600");
    for lives in 1..4 {
        wait_until("its data", || job.logged().lines().count() == lives);
        assert_eq!(job.logged().lines().last(), Some(&*lives.to_string()));
        let _ = job.does("stop");
        let _ = job.does("start");
    }
    let _ = verb(&host, &["rm", "-f", "data"]).ok();
    fs::remove_dir_all(&layer).unwrap();

    // A stop before counts no more: the policy does.
    let job = host.background("stopped", &["--restart", "always"], "echo ready; sleep 600");
    let _ = job.does("stop");
    let _ = job.does("start");
    let first = job.init();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first.try_into().unwrap()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    wait_until("a restart", || job.seen().unwrap()["restarts"] == 1 && job.status() == "running");

    // With a terminal, from which it was detached or not.
    let _ = host.background("tty", &["-t"], "tty; echo $TERM; sleep 600");
    let job = Background::new(&host, "tty");
    for lives in 1..3 {
        wait_until("its terminal", || job.logged().matches("/dev/pts/0").count() == lives);
        let _ = verb(&host, &["restart", "-t", "0", "tty"]).ok();
    }
}

#[test]
fn restart_stops_and_starts() {
    let host = Host::new();
    let job = host.background(
        "job",
        &["--stop-signal", "USR1"],
        "trap 'exit 4' USR1; echo ready; while :; do sleep 0.05; done",
    );
    job.wait_for_log("ready");
    for life in 2..4 {
        let init = job.init();
        assert_eq!(verb(&host, &["restart", "job"]).ok(), "job\n");
        assert_eq!(job.status(), "running");
        assert_ne!(job.init(), init);
        wait_until("the next life", || job.logged().matches("ready").count() == life);
    }
    assert_eq!(verb(&host, &["stop", "job"]).ok(), "job\n");
    assert_eq!(job.end(), 4);
    // One that has ended.
    let _ = verb(&host, &["restart", "-t", "0", "job"]).ok();
    assert_eq!(job.status(), "running");
    // What cannot be started again is not stopped either.
    let gone = host.background("gone", &["--rm"], FOREVER);
    let foreground = host.nginx("web", &[]);
    for name in ["gone", "web"] {
        assert!(verb(&host, &["restart", name]).refused(125).contains("cannot be started again"));
    }
    fs::write(job.directory().join("command"), "/\0\0\0\0\0--nosuch\0--\0/\0").unwrap();
    assert!(verb(&host, &["restart", "job"]).refused(125).contains("--nosuch"));
    assert_eq!([gone.status(), job.status()], ["running", "running"]);
    drop(foreground);
}

#[test]
fn start_that_fails_loses_nothing() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    let moved = host.directory().join("moved");
    let _ = create(&host, &["--name", "web", "-p", "8080:80", "-w", "/etc"], &rootfs, &[NGINX]).run().ok();
    let web = Background::new(&host, "web");
    fs::rename(&rootfs, &moved).unwrap();
    assert!(verb(&host, &["start", "web"]).refused(125).contains("rootfs"));
    assert_eq!(web.status(), "created");
    fs::rename(&moved, &rootfs).unwrap();
    let service = host.service("0.0.0.0:8080");
    assert!(verb(&host, &["start", "web"]).refused(125).contains("EADDRINUSE"));
    assert_eq!(web.status(), "created");
    drop(service);
    // Far enough for the init to report it.
    fs::rename(rootfs.join("usr/sbin"), rootfs.join("usr/nosbin")).unwrap();
    assert!(verb(&host, &["start", "web"]).refused(127).contains(NGINX));
    assert_eq!((web.status(), web.exit()["status"].clone()), ("exited".into(), json!(127)));
    assert!(!web.leaf().exists());
    fs::rename(rootfs.join("usr/nosbin"), rootfs.join("usr/sbin")).unwrap();
    let _ = web.does("start");
    assert_eq!(web.status(), "running");
    let _ = web.does("stop");

    // Of several, each is tried.
    let _ = create(&host, &["--name", "a", "--net", "none"], host.demo(), &["/bin/nosuch"]).run().ok();
    let outcome = verb(&host, &["start", "a", "nosuch", "web"]);
    assert_eq!(outcome.stdout, "web\n");
    let text = outcome.stderr.clone();
    assert!(text.contains("/bin/nosuch") && text.contains("no such container: nosuch"), "{text}");
    assert_ne!(outcome.code, 0);
}

#[test]
fn bad_creates_and_starts_say_so() {
    let host = Host::new();
    let before = host.snapshot();
    for (options, rootfs, word) in [
        (&["--name", "web", "--net", "nosuch"][..], host.demo(), "nosuch"),
        (&["--name", "web", "-p", "0"], host.demo(), "--publish"),
        (&["--name", "web", "-v", "/nosuch:/x"], host.demo(), "/nosuch"),
        (&["--name", "web"], "/nosuch".into(), "/nosuch"),
    ] {
        let line = create(&host, options, rootfs, &[]).run().refused(125);
        assert!(line.contains(word), "{line}");
        assert!(!host.state().join("web").exists());
    }
    before.assert_restored(|| host.snapshot());
    for words in [&["start", "web"][..], &["restart", "web"], &["start", "-a", "web"]] {
        assert!(verb(&host, words).refused(1).contains("no such container: web"));
        assert!(verb(&host, &words[..1]).refused(125).contains("no container given"));
    }
    let _ = create(&host, &["--name", "web"], host.demo(), &[NGINX]).run().ok();
    for again in [create(&host, &["--name", "web"], host.demo(), &[]), host.run(&["--name", "web"], host.demo(), &[])] {
        assert!(again.run().refused(125).contains("kontena delete web"));
    }
    let web = Background::new(&host, "web");
    for words in [&["wait", "web"][..], &["ps", "web"], &["exec", "web", "x"], &["attach", "web"], &["pause", "web"]] {
        let line = verb(&host, words).refused(125);
        assert!(line.contains("not running") || line.contains("not been started"), "{line}");
    }
    assert_eq!(verb(&host, &["stop", "web"]).ok(), "web\n");
    assert_eq!(verb(&host, &["logs", "web"]).ok(), "");
    assert_eq!(web.status(), "created");
    // A container of a kontena that kept no command line.
    fs::remove_file(web.directory().join("command")).unwrap();
    let line = verb(&host, &["start", "web"]).refused(125);
    assert!(line.contains("kontena delete web"), "{line}");
    assert_eq!(web.does("rm"), "web\n");
    assert!(!web.directory().exists());
    // The directory is gone in which it was created.
    let directory = host.directory().join("gone");
    fs::create_dir(&directory).unwrap();
    let program = create(&host, &["--name", "job"], host.demo(), &[NGINX]);
    let _ = program.with(|command| _ = command.current_dir(&directory)).run().ok();
    fs::remove_dir(&directory).unwrap();
    let line = verb(&host, &["start", "job"]).refused(125);
    assert!(line.contains("chdir") && line.contains("/gone"), "{line}");
    // After a reboot /run is empty.
    fs::remove_dir_all(host.state()).unwrap();
    assert!(verb(&host, &["start", "job"]).refused(1).contains("no such container: job"));
}

#[test]
fn attached_start_is_like_a_foreground_run() {
    let host = Host::new();
    let debian = host.debian();
    let options = ["--net", "none", "--name"];
    let script = "echo out; echo err >&2; exit 5";
    let _ = create(&host, &[&options[..], &["job"]].concat(), &debian, &["sh", "-c", script]).run().ok();
    for lives in 1..3 {
        let outcome = verb(&host, &["start", "-a", "job"]).code(5);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(Background::new(&host, "job").logged().matches("out").count(), lives);
    }
    let _ = create(&host, &[&options[..], &["cat", "-i"]].concat(), &debian, &["cat"]).run().ok();
    let outcome = host.kontena().args(["start", "-i", "cat"]).input(b"typed\n").run();
    assert_eq!(outcome.ok(), "typed\n");
    // --rm counts from the first start on.
    let _ = create(&host, &[&options[..], &["once", "--rm"]].concat(), &debian, &["true"]).run().ok();
    let once = Background::new(&host, "once");
    assert_eq!(once.status(), "created");
    let _ = verb(&host, &["start", "-a", "once"]).ok();
    wait_until("its end", || once.status() == "gone" && !once.directory().exists());
}

#[test]
fn one_of_many_starts_at_once_starts_it() {
    let host = Host::new();
    let _ = host.debian();
    let job = host.background("job", &[], FOREVER);
    for _ in 0..10 {
        // To the command alone, so that its launcher may still be at work.
        let _ = verb(&host, &["kill", "-s", "INT", "job"]).ok();
        wait_until("its end", || job.seen().is_some_and(|seen| seen["exit"].is_object()));
        let lives = job.logged().matches("ready").count();
        let outcomes: Vec<Outcome> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| verb(&host, &["start", "job"]))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(outcomes.iter().any(|outcome| outcome.code == 0));
        for outcome in outcomes.into_iter().filter(|outcome| outcome.code != 0) {
            let line = outcome.refused(125);
            assert!(line.contains("job is running"), "{line}");
        }
        assert_eq!(job.processes().len(), 2);
        wait_until("one life", || job.logged().matches("ready").count() > lives);
        assert_eq!(job.logged().matches("ready").count(), lives + 1);
    }
}

#[test]
fn restarts_at_once_do_not_wait_for_the_next_life() {
    let host = Host::new();
    let _ = host.debian();
    let job = host.background("job", &[], FOREVER);
    for _ in 0..10 {
        let outcomes: Vec<Outcome> = thread::scope(|scope| {
            let restarts: Vec<_> =
                (0..4).map(|_| scope.spawn(|| verb(&host, &["restart", "-t", "0", "job"]))).collect();
            restarts.into_iter().map(|restart| restart.join().unwrap()).collect()
        });
        // Some find it running again, and some are stopped while they start it.
        assert!(outcomes.iter().any(|outcome| outcome.code == 0));
        assert_eq!(job.status(), "running");
    }
}

#[test]
fn starter_killed_at_any_system_call_loses_nothing() {
    let host = Host::new();
    let _ = host.debian();
    let options = ["--name", "victim", "-p", "8080:80"];
    let _ = create(&host, &options, host.debian(), &["sh", "-c", "exit 1"]).run().ok();
    let victim = Background::new(&host, "victim");
    let mut calls = 0;
    let mut ran = 0;
    loop {
        let mut front = Traced::start(host.kontena().args(["start", "victim"]));
        let child = front.first_child();
        let mut launcher = front.follow(child);
        if (0..=calls).any(|_| launcher.next_call().is_none()) {
            drop(launcher);
            let _ = front.finish();
            break;
        }
        launcher.kill();
        match front.finish() {
            outcome if outcome.code == 0 => ran += 1,
            outcome => assert!(outcome.refused(125).contains("was killed"), "call {calls}"),
        }
        wait_until("the end of the container", || leaf_processes(&victim.leaf()).is_empty());
        let status = victim.status();
        assert!(["created", "exited"].contains(&&*status), "call {calls}: {status} {}", victim.journal());
        match calls % 3 {
            0 => host.prune(),
            1 => drop(verb(&host, &["start", "victim"]).ok()),
            _ => drop(host.run(&["-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok()),
        }
        let _ = verb(&host, &["kill", "victim"]);
        assert!(victim.directory().join("command").exists() && !victim.leaf().exists(), "call {calls}");
        calls += tests::few();
    }
    assert!(calls > 100 && ran > 1, "{calls} system calls, {ran} after the start");
    let _ = victim.does("delete");
    host.prune();
    assert!(!host.state().exists() && !host.cgroup_parent().exists());
}

#[test]
fn creator_killed_at_any_system_call_leaves_all_or_nothing() {
    let host = Host::new();
    let victim = Background::new(&host, "victim");
    let (mut calls, mut created) = (0, 0);
    loop {
        let mut creator =
            Traced::start(create(&host, &["--name", "victim", "--net", "none"], host.demo(), &["/bin/true"]));
        if (0..=calls).any(|_| creator.next_call().is_none()) {
            let _ = creator.finish().ok();
            break;
        }
        creator.kill();
        if victim.status() == "created" {
            created += 1;
            let _ = victim.does("start");
            assert_eq!(victim.end(), 0, "call {calls}");
            let _ = victim.does("delete");
        }
        host.prune();
        assert!(!victim.directory().exists(), "call {calls}");
        // Each of them also in the emulated machine: few come after the creation.
        calls += 1;
    }
    assert!(calls > 50 && created > 0, "{calls} system calls, {created} after the creation");
}

#[test]
fn full_disk_loses_no_container() {
    let host = Host::new();
    let full = host.directory().join("full");
    fs::create_dir(&full).unwrap();
    host.inside(|| mount(Some("tmpfs"), &full, Some("tmpfs"), MsFlags::empty(), Some("size=128k")).unwrap());
    let kontena = |words: &[&str]| host.kontena_in(&full).args(words).run();
    let demo = host.demo();
    let parent = host.cgroup_parent_option();
    let made = ["create", "--cgroup-parent", &parent, "--net", "none", "--log-driver", "none", "--name"];
    let made = |name: &str| kontena(&[&made[..], &[name, demo.to_str().unwrap(), "/bin/true"]].concat());
    let _ = made("job").ok();
    let fill = || host.inside(|| drop(fs::write(full.join(".fill"), vec![0; 1 << 20])));
    let free = || host.inside(|| fs::remove_file(full.join(".fill")).unwrap());
    let status = |name: &str| {
        let text = kontena(&["list", "--format", "json"]).ok();
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let seen = all.as_array().unwrap().iter().find(|seen| seen["name"] == *name);
        seen.map(|seen| seen["status"].as_str().unwrap().to_owned())
    };
    fill();
    let line = made("other").refused(125);
    assert!(line.contains("ENOSPC"), "{line}");
    let line = kontena(&["start", "job"]).refused(125);
    assert!(line.contains("ENOSPC"), "{line}");
    assert_eq!((status("job").as_deref(), status("other")), (Some("created"), None));
    free();
    let _ = kontena(&["start", "job"]).ok();
    wait_until("its end", || status("job").as_deref() == Some("exited"));
    fill();
    let line = kontena(&["start", "job"]).refused(125);
    assert!(line.contains("ENOSPC"), "{line}");
    assert_eq!(status("job").as_deref(), Some("exited"));
    free();
    assert_eq!(kontena(&["start", "-a", "job"]).code, 0);
}

#[test]
fn replaced_container_is_stopped_and_deleted_first() {
    let host = Host::new();
    let layer = host.directory().join("layer");
    fs::create_dir(&layer).unwrap();
    let overlay = format!("--overlay={}", layer.display());
    let options = ["-d", "--replace", "--name", "web", "-p", "8080:80", "--wait-ready", &overlay];
    let run = || host.run(&options, host.demo(), &[NGINX]).run();
    assert_eq!(run().ok(), "web\n");
    let web = Background::new(&host, "web");
    let first = web.init();
    assert_eq!(run().ok(), "web\n");
    assert_ne!(web.init(), first);
    assert!(host.get("127.0.0.1:8080").is_ok());
    // One that cannot be started replaces none.
    let line = host.run(&options, "/nosuch", &[NGINX]).run().refused(125);
    assert!(line.contains("/nosuch") && web.status() == "running", "{line}");
    // Whatever the other one is: running, ended, created, or in the foreground.
    assert_eq!(create(&host, &["--replace", "--name", "web"], host.demo(), &[NGINX]).run().ok(), "web\n");
    assert_eq!(web.status(), "created");
    assert_eq!(create(&host, &["--replace", "--name", "web"], host.demo(), &["/bin/true"]).run().ok(), "web\n");
    let _ = verb(&host, &["start", "-a", "web"]).ok();
    let _ = host.run(&["--replace", "--name", "web", "--net", "none"], host.demo(), &["/bin/true"]).run().ok();
    assert_eq!(web.status(), "gone");
    let foreground = host.nginx("web", &[]);
    assert_eq!(run().ok(), "web\n");
    let _ = foreground.into_running().finish();
    assert_eq!(web.status(), "running");
    // Not again by `start`, which keeps its own container.
    assert_eq!(verb(&host, &["restart", "web"]).ok(), "web\n");
}

#[test]
fn made_names_can_be_shortened_and_chosen_ones_not() {
    let host = Host::new();
    for name in ["abc111111111", "abd222222222", "web-data", "abcdefgh"] {
        let _ = create(&host, &["--name", name], host.demo(), &[NGINX]).run().ok();
    }
    let inspect = |given: &str| verb(&host, &["inspect", given]);
    for (given, name) in [("abc", "abc111111111"), ("abd2", "abd222222222"), ("abcdefgh", "abcdefgh")] {
        assert!(inspect(given).ok().contains(&format!("\"name\":\"{name}\"")));
    }
    let line = inspect("ab").refused(125);
    assert!(line.contains("abc111111111, abd222222222"), "{line}");
    for given in ["web", "web-", "abcdef", "", ".", "/", "abc1111111111"] {
        let line = verb(&host, &["rm", given]).refused(1);
        assert!(line.contains("no such container"), "{line}");
        assert_eq!(verb(&host, &["rm", "-f", given]).ok(), "");
    }
    // An exact name wins.
    let _ = create(&host, &["--name", "abc"], host.demo(), &[NGINX]).run().ok();
    assert_eq!(verb(&host, &["rm", "abc"]).ok(), "abc\n");
    assert_eq!(verb(&host, &["rm", "abc"]).ok(), "abc111111111\n");
    assert_eq!(verb(&host, &["ls", "-qa"]).ok(), "abcdefgh\nabd222222222\nweb-data\n");
    assert_eq!(verb(&host, &["ps", "-aq"]).ok(), verb(&host, &["ls", "-q"]).ok());
    assert_eq!(verb(&host, &["ps"]).ok(), verb(&host, &["list"]).ok());
    assert!(verb(&host, &["ps", "-a", "web-data"]).refused(125).contains("--all"));
}
