//! Restarts, and the health of a container: when it is started again, by whom not, and what is seen of it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use tests::{Background, Host, wait_for, wait_until};

/// So many files that a launcher has open already, and what it waits for: poll(2) allows no more of that.
const FEW: usize = 10;

/// A directory that a container writes to, as /host.
struct Shared {
    path: PathBuf,
    volume: String,
}

impl Shared {
    fn new(host: &Host) -> Self {
        let path = host.directory().join("shared");
        fs::create_dir_all(&path).unwrap();
        Self { volume: format!("{}:/host", path.display()), path }
    }

    /// The lines of a file.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn touch(&self, name: &str) {
        fs::write(self.path.join(name), "").unwrap();
    }

    fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }
}

/// Writes down when it lives, and ends with `$1`.
fn short_life(code: u32) -> String {
    format!("date +%s%N >> /host/lives; exit {code}")
}

#[test]
fn policy_decides_on_a_restart() {
    let host = Host::new();
    let shared = Shared::new(&host);
    for (policy, code, lives) in [
        (None, 1, 1),
        (Some("no"), 1, 1),
        (Some("on-failure:2"), 1, 3),
        (Some("on-failure:2"), 0, 1),
        (Some("on-failure:0"), 1, 1),
        (Some("on-failure:1"), 130, 2),
    ] {
        shared.remove("lives");
        let mut options = vec!["-v", &shared.volume];
        options.extend(policy.iter().flat_map(|policy| ["--restart", policy]));
        let job = host.background("job", &options, &short_life(code));
        let restarts = wait_for("its last end", || {
            let seen = job.seen()?;
            (seen["status"] == "exited").then(|| seen["restarts"].as_u64().unwrap())
        });
        assert_eq!(shared.lines("lives").len(), lives, "{policy:?} {code}");
        assert_eq!(restarts, lives as u64 - 1);
        assert_eq!(job.end(), i64::from(code));
        let _ = job.does("delete");
    }
    // Those that go on are stopped.
    for (policy, code) in [("always", 0), ("always", 1), ("unless-stopped", 0), ("on-failure", 1)] {
        shared.remove("lives");
        let job = host.background("job", &["-v", &shared.volume, "--restart", policy], &short_life(code));
        wait_until("three lives", || shared.lines("lives").len() >= 3);
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
        assert_eq!(job.status(), "gone");
        let lives = shared.lines("lives").len();
        sleep(Duration::from_millis(300));
        assert_eq!(shared.lines("lives").len(), lives, "{policy}");
    }
    for bad in ["", "yes", "on-failure:", "on-failure:x", "on-failure:-1", "always:3", "no:1", "Always"] {
        let line = host.sh(&["-d", "--restart", bad], "true").run().refused(125);
        assert!(line.contains(&format!("--restart \"{bad}\"")), "{line}");
    }
}

#[test]
fn delay_grows() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let _job = host.background("job", &["-v", &shared.volume, "--restart", "on-failure:5"], &short_life(1));
    wait_until("six lives", || shared.lines("lives").len() == 6);
    let times: Vec<u64> = shared.lines("lives").iter().map(|line| line.parse().unwrap()).collect();
    let gaps: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    // Each is twice the one before, and the time that a life takes comes on top of it.
    for (gap, least) in gaps.iter().zip([100, 200, 400, 800, 1600]) {
        assert!(*gap >= least, "{gaps:?}");
    }
    assert!(gaps.iter().any(|gap| *gap < 1600), "{gaps:?}");
}

#[test]
fn every_restart_is_a_complete_start() {
    // The network too, with the port that was published, and the terminal.
    let host = Host::new();
    let options = ["-d", "--name", "web", "-p", "8080:80", "--restart", "always"];
    let _ = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().ok();
    let web = Background::new(&host, "web");
    for life in 0..2 {
        wait_until("the page", || host.get("127.0.0.1:8080").is_ok());
        let seen = web.seen().unwrap();
        assert_eq!(seen["restarts"], life);
        let addresses = seen["addresses"].as_array().unwrap();
        assert!(addresses.iter().filter(|address| address.as_str().unwrap().contains('.')).count() == 1, "{seen}");
        assert_eq!(seen["ports"].as_array().unwrap().len(), 1, "{seen}");
        let init = seen["pid"].clone();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(web.init()).unwrap()), Signal::SIGKILL)
            .unwrap();
        wait_until("another life", || web.seen().is_some_and(|seen| seen["pid"].is_u64() && seen["pid"] != init));
    }
    // Nobody is left of the lives before: no zombie, no process.
    let launcher = web.launcher();
    let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "{children}");
    // Nor does an fd of each life stay open.
    let links = || -> Vec<_> {
        let fds = fs::read_dir(format!("/proc/{launcher}/fd")).unwrap().flatten();
        fds.map(|fd| fs::read_link(fd.path())).collect()
    };
    let fds = || links().len();
    // The relay comes a moment after the page, and keeps a pipe for its next connection.
    let wait_for_both = || {
        wait_until("the page", || host.get("127.0.0.1:8080").is_ok());
        wait_until("the page by the relay", || host.get("[::1]:8080").is_ok());
    };
    wait_for_both();
    let look = |_| {
        sleep(Duration::from_millis(10));
        fds()
    };
    // Those of the connection are closed meanwhile.
    let before = (0..50).map(look).min().unwrap();
    for _ in 0..3 {
        let restarts = web.seen().unwrap()["restarts"].clone();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(web.init()).unwrap()), Signal::SIGKILL)
            .unwrap();
        wait_until("another life", || {
            web.seen().is_some_and(|seen| seen["running"] == true && seen["restarts"] != restarts)
        });
        wait_for_both();
    }
    wait_until(&format!("as many fds as in a life before, {before}: {:?}", links()), || fds() <= before);
    let _ = web.does("stop");
    let _ = web.does("delete");
    host.prune();
    assert!(!host.state().exists());
}

#[test]
fn restarting_container_shows_its_last_exit() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let job = host.background("job", &["-v", &shared.volume, "--restart", "always"], "echo >> /host/lives; exit 7");
    let seen = wait_for("a moment between two lives", || {
        let seen = job.seen()?;
        (seen["status"] == "restarting").then_some(seen)
    });
    assert_eq!((&seen["exit"]["status"], &seen["running"]), (&7.into(), &false.into()), "{seen}");
    assert!(seen.get("pid").is_none(), "{seen}");
    let table = wait_for("it in the table", || {
        let table = host.kontena().arg("list").run().ok();
        table.contains("restarting 7").then_some(table)
    });
    assert!(table.contains("restarting 7"), "{table}");
    let line = wait_for("a refusal", || {
        let outcome = job.exec(&["true"]).run();
        (outcome.code == 125).then(|| outcome.refused(125))
    });
    assert!(line.contains("job is not running") || line.contains("has just exited"), "{line}");
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
}

#[test]
fn stop_works_during_the_delay() {
    let host = Host::new();
    let shared = Shared::new(&host);
    for verb in [&["stop"][..], &["kill"], &["rm", "-f"]] {
        for moment in [0, 30, 90, 350] {
            shared.remove("lives");
            let job = host.background("job", &["-v", &shared.volume, "--restart", "always"], &short_life(3));
            // At some moment of it; at last in a delay that is long.
            wait_until("some lives", || shared.lines("lives").len() >= if moment > 100 { 5 } else { 1 });
            sleep(Duration::from_millis(moment));
            let _ = host.kontena().args(verb).arg("job").run().ok();
            let lives = shared.lines("lives").len();
            assert!(job.processes().is_empty());
            if verb[0] != "rm" {
                assert!([3, 137, 143].contains(&job.end()), "{:?}", job.exit());
            }
            sleep(Duration::from_millis(250));
            assert_eq!(shared.lines("lives").len(), lives, "{verb:?} after {moment} ms");
            let _ = host.kontena().args(["rm", "-f", "job"]).run();
        }
    }
}

#[test]
fn stop_works_at_any_moment_of_the_start() {
    let host = Host::new();
    let start = |options: &[&str]| host.sh(&[&["-d", "--name", "job"], options].concat(), "exec sleep 600").start();
    for moment in 0..60 {
        let starting = start(&["--restart", "always"]);
        sleep(Duration::from_micros(moment * 150));
        let outcome = host.kontena().args(["stop", "-t", "0", "job"]).run();
        let started = starting.finish();
        let job = Background::new(&host, "job");
        if outcome.code == 0 && job.status() == "running" {
            // It was asked of one that had not begun to be; there must have been none.
            panic!("{outcome} {started} {}", job.journal());
        }
        let _ = host.kontena().args(["rm", "-f", "job"]).run();
        assert_eq!(job.status(), "gone");
        assert!(!job.directory().exists(), "{:?}", fs::read_dir(job.directory()).unwrap().collect::<Vec<_>>());
    }
    // A stop of one container does not apply to the next one with its name.
    for _ in 0..10 {
        let shared = Shared::new(&host);
        shared.remove("lives");
        let job = host.background("job", &["-v", &shared.volume, "--restart", "on-failure:1"], &short_life(1));
        assert_eq!(job.end(), 1);
        wait_until("two lives", || shared.lines("lives").len() == 2);
        let _ = job.does("delete");
    }
}

#[test]
fn signals_to_the_launcher_end_a_delay() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let running = host.sh(&["--name", "front", "-v", &shared.volume, "--restart", "always"], &short_life(5)).start();
    wait_until("five lives", || shared.lines("lives").len() == 5);
    Background::new(&host, "front").wait_until("restarting");
    running.signal(Signal::SIGTERM);
    let _ = running.finish().code(5);
    assert!(!host.state().join("front").exists());
    // While it lives, a signal that asks for its end is for good.
    let script = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = host.sh(&["--restart", "always"], script).start();
    running.wait_for_output("ready");
    running.signal(Signal::SIGTERM);
    let _ = running.finish().code(6);
    // Another one is the command's.
    let script = "trap 'echo usr' USR1; trap 'exit 4' QUIT; echo ready; while :; do sleep 0.05; done";
    let mut running = host.sh(&["--restart", "on-failure", "--stop-signal", "QUIT"], script).start();
    running.wait_for_output("ready");
    running.signal(Signal::SIGUSR1);
    running.wait_for_output("usr");
    running.signal(Signal::SIGQUIT);
    let _ = running.finish().code(4);
}

#[test]
fn request_to_stop_wins_against_a_restart_that_is_due() {
    let host = Host::new();
    let shared = Shared::new(&host);
    for by in ["attach", "stop"] {
        shared.remove("lives");
        let script = "date >> /host/lives; [ $(wc -l < /host/lives) -gt 5 ] && exec sleep 600; echo alive; exit 3";
        let job = host.background("job", &["-v", &shared.volume, "--restart", "always"], script);
        let mut client = host.kontena().args(["attach", "job"]).start();
        client.wait_for_output("alive");
        wait_until("five lives", || shared.lines("lives").len() == 5);
        job.wait_until("restarting");
        // The launcher sees both at once: the request, and that the delay is over.
        kill(job.launcher(), Signal::SIGSTOP).unwrap();
        let stop = (by == "stop").then(|| host.kontena().args(["stop", "job"]).start());
        if stop.is_none() {
            client.signal(Signal::SIGTERM);
        }
        sleep(Duration::from_secs(2));
        kill(job.launcher(), Signal::SIGCONT).unwrap();
        assert_eq!(job.end(), 3, "{by}");
        assert_eq!(shared.lines("lives").len(), 5, "{by}");
        let _ = (client.finish(), stop.map(|stop| stop.finish().ok()));
        let _ = job.does("delete");
    }
}

#[test]
fn foreground_container_restarts() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let out = host.sh(&["-v", &shared.volume, "--restart", "on-failure:2"], "echo life; exit 9").run().code(9);
    assert_eq!(out.stdout, "life\nlife\nlife\n");
    assert_eq!(out.stderr, "");
    host.prune();
    assert!(!host.state().exists(), "nothing is left");
}

#[test]
fn failed_restart_counts_as_a_failure() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    let job = host.run(
        &["-d", "--name", "job", "--net", "none", "--restart", "on-failure:3"],
        &rootfs,
        &["/usr/sbin/nginx", "-t"],
    );
    let options = ["-d", "--name", "job", "--net", "none", "--restart", "always"];
    drop(job);
    fs::copy(tests::intruder(), rootfs.join("intruder")).unwrap();
    let _ = host.run(&options, &rootfs, &["/intruder", "look", "/nosuch"]).run().ok();
    let job = Background::new(&host, "job");
    // From now on it cannot even be started.
    fs::remove_file(rootfs.join("intruder")).unwrap();
    let exit = wait_for("that end", || {
        let seen = job.seen()?;
        (seen["exit"]["status"] == 127).then(|| seen["exit"].clone())
    });
    assert!(exit["reason"].as_str().unwrap().contains("/intruder"), "{exit}");
    // prune does not wait for it.
    host.prune();
    // And when it can be again, it lives.
    fs::copy(tests::intruder(), rootfs.join("intruder")).unwrap();
    wait_until("another end", || job.seen().is_some_and(|seen| seen["exit"]["status"] == 1));
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
}

/// What `list` tells of its health.
fn health(job: &Background<'_>) -> Option<String> {
    job.seen()?["health"].as_str().map(str::to_owned)
}

/// A container that is well as long as /host/well is there.
fn patient<'a>(host: &'a Host, shared: &Shared, options: &[&str]) -> Background<'a> {
    let health = ["-v", &shared.volume, "--health-cmd", "test -e /host/well", "--health-timeout", "5s"];
    let script = "echo >> /host/lives; exec sleep 600";
    let interval: &[&str] = if options.contains(&"--health-interval") { &[] } else { &["--health-interval", "50ms"] };
    host.background("job", &[&health[..], interval, options].concat(), script)
}

#[test]
fn health_is_shown() {
    let host = Host::new();
    let shared = Shared::new(&host);
    shared.touch("well");
    let job = patient(&host, &shared, &["--health-retries", "3"]);
    wait_until("it to be well", || health(&job).as_deref() == Some("healthy"));
    assert!(host.kontena().arg("list").run().ok().contains(", healthy"));
    shared.remove("well");
    wait_until("it to be unhealthy", || health(&job).as_deref() == Some("unhealthy"));
    assert!(host.kontena().arg("list").run().ok().contains(", unhealthy"));
    assert_eq!(job.inspect()["health"], "unhealthy");
    // Nothing is done about it unless that is asked for, and it can get well again.
    assert_eq!(job.status(), "running");
    shared.touch("well");
    wait_until("it to be well again", || health(&job).as_deref() == Some("healthy"));
    let _ = job.does("stop");
    // Without a command nothing is known.
    let _ = job.does("delete");
    let job = host.background("job", &[], "exec sleep 600");
    assert_eq!(health(&job), None);
}

#[test]
fn failures_count_after_the_start_period_and_in_a_row() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let checks = "echo >> /host/checks; test -e /host/well";
    let start = |options: &[&str]| {
        shared.remove("checks");
        let health = ["-v", &shared.volume, "--health-cmd", checks, "--health-interval", "20ms"];
        host.background("job", &[&health[..], options].concat(), "exec sleep 600")
    };
    let checked = || shared.lines("checks").len();
    let job = start(&["--health-retries", "5"]);
    wait_until("it to be unhealthy", || health(&job).as_deref() == Some("unhealthy"));
    assert!(checked() >= 5, "{}", checked());
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    // They do not count for an hour.
    let job = start(&["--health-retries", "1", "--health-start-period", "1h"]);
    wait_until("failures", || checked() >= 5);
    assert_eq!(health(&job), None);
    // But from when it has been well, they do.
    shared.touch("well");
    wait_until("it to be well", || health(&job).as_deref() == Some("healthy"));
    shared.remove("well");
    wait_until("it to be unhealthy", || health(&job).as_deref() == Some("unhealthy"));
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
}

#[test]
fn unhealthy_containers_are_killed_or_restarted_on_request() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let job = patient(&host, &shared, &["--health-on-failure", "kill", "--health-retries", "2"]);
    assert_eq!(job.end(), 137);
    assert_eq!((shared.lines("lives").len(), health(&job).as_deref()), (1, Some("unhealthy")));
    let _ = job.does("delete");
    // The policy has its say then.
    shared.remove("lives");
    let job =
        patient(&host, &shared, &["--health-on-failure", "kill", "--health-retries", "1", "--restart", "on-failure:2"]);
    wait_until("three lives and the end", || job.status() == "exited");
    // The first check may end a life before its command has written its line.
    assert_eq!(job.inspect()["restarts"], 2);
    let _ = job.does("delete");
    // And has not here.
    shared.remove("lives");
    let job = patient(&host, &shared, &["--health-on-failure", "restart", "--health-retries", "1"]);
    wait_until("three lives", || shared.lines("lives").len() >= 3);
    shared.touch("well");
    wait_until("it to be well", || health(&job).as_deref() == Some("healthy"));
    let lives = shared.lines("lives").len();
    sleep(Duration::from_millis(300));
    assert_eq!(shared.lines("lives").len(), lives);
    // What ends it otherwise is its end.
    let _ = job.does("kill");
    assert_eq!(job.end(), 137);
    assert_eq!(shared.lines("lives").len(), lives);
    let _ = job.does("delete");
    // A clean end after a restart for its health is one, too.
    shared.remove("lives");
    shared.remove("well");
    let script = "echo >> /host/lives; [ $(wc -l < /host/lives) -ge 3 ] && exit 0; exec sleep 600";
    let options = ["-v", &shared.volume, "--health-cmd", "false", "--health-interval", "50ms", "--health-retries", "1"];
    let policy = ["--health-start-period", "1s", "--health-on-failure", "restart", "--restart", "on-failure:1"];
    let job = host.background("job", &[&options[..], &policy].concat(), script);
    wait_until("its end", || job.status() == "exited");
    assert_eq!((shared.lines("lives").len(), job.end()), (3, 0));
}

#[test]
fn health_starts_over_after_a_restart() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let job = patient(
        &host,
        &shared,
        &["--health-on-failure", "restart", "--health-retries", "1", "--health-interval", "1s"],
    );
    wait_until("a second life", || job.seen().is_some_and(|seen| seen["restarts"] == 1 && seen["running"] == true));
    assert_eq!(health(&job), None, "{:?}", job.seen());
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
}

#[test]
fn slow_check_is_killed_with_its_process_group() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let command = "echo >> /host/checks; sleep 800 & sleep 900";
    let options = [
        "-v",
        &shared.volume,
        "--health-cmd",
        command,
        "--health-interval",
        "50ms",
        "--health-timeout",
        "100ms",
        "--health-retries",
        "2",
    ];
    let job = host.background("job", &options, "exec sleep 600");
    wait_until("it to be unhealthy", || health(&job).as_deref() == Some("unhealthy"));
    wait_until("five checks", || shared.lines("checks").len() >= 5);
    // At most one of them is under way.
    assert!(host.processes_named("sleep 800 ").len() <= 1 && host.processes_named("sleep 900 ").len() <= 1);
    assert_eq!(job.status(), "running");
    // One that is under way at its end does not keep it, and leaves nobody.
    let _ = job.does("stop");
    wait_until("nobody to be left", || job.processes().is_empty());
    assert!(!job.leaf().exists());
}

#[test]
fn checks_run_in_the_container_without_stdio() {
    let host = Host::new();
    let shared = Shared::new(&host);
    // All of it once: one that is under way at the end does not come to its own.
    let check = "[ ! -e /host/name ] || exit 0; cat > /host/stdin; id -u > /host/uid; pwd > /host/pwd; \
                 echo $KEY > /host/key; echo loud; echo louder >&2; uname -n > /host/name";
    let options = [
        "-v",
        &shared.volume,
        "--health-cmd",
        check,
        "--health-interval",
        "30ms",
        "-e",
        "KEY=value",
        "-w",
        "/var",
        "-i",
        "--name",
        "job",
    ];
    // In the foreground, with the caller's own stdio.
    let script = "until [ -s /host/name ]; do sleep 0.02; done; cat; echo bye";
    let outcome = host.sh(&options, script).input(b"for the command\n").run().code(0);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("for the command\nbye\n", ""));
    assert_eq!(shared.lines("stdin"), [""; 0]);
    for (name, value) in [("uid", "0"), ("pwd", "/var"), ("key", "value"), ("name", "job")] {
        assert_eq!(shared.lines(name), [value], "{name}");
    }
    // In the background, its log has nothing of them.
    let options = [&["-v", &*shared.volume, "--health-cmd", check, "--health-interval", "30ms"][..]].concat();
    shared.remove("name");
    let job = host.background("back", &options, "until [ -s /host/name ]; do sleep 0.02; done; echo bye");
    assert_eq!(job.end(), 0);
    assert_eq!(job.logged(), "bye\n");
}

#[test]
fn check_can_be_a_json_array() {
    let host = Host::new();
    let volume = format!("{}:/intruder:ro", tests::intruder().display());
    // Where there is no shell.
    for (command, expected) in [
        ("[\"/intruder\", \"look\", \"/etc/passwd\"]", "healthy"),
        ("[\"/intruder\", \"look\", \"/no such\\n \\\"file\\\"\"]", "unhealthy"),
        ("true", "unhealthy"),
    ] {
        let options = [
            "-d",
            "--name",
            "job",
            "--net",
            "none",
            "-v",
            &volume,
            "--health-cmd",
            command,
            "--health-interval",
            "30ms",
        ];
        let options = [&options[..], &["--health-retries", "1"]].concat();
        let _ = host.run(&options, host.demo(), &["/intruder", "time", "400000000000"]).run().ok();
        let job = Background::new(&host, "job");
        wait_until(expected, || health(&job).as_deref() == Some(expected));
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    }
    for (option, bad) in [
        ("--health-cmd", ""),
        ("--health-cmd", "["),
        ("--health-cmd", "[]"),
        ("--health-cmd", "[\"a\""),
        ("--health-cmd", "[\"a\",]"),
        ("--health-cmd", "[a]"),
        ("--health-cmd", "[\"\\u0041\"]"),
        ("--health-interval", "0"),
        ("--health-interval", "5"),
        ("--health-interval", "x"),
        ("--health-timeout", "-1s"),
        ("--health-timeout", "99999999h"),
        ("--health-retries", "0"),
        ("--health-retries", "x"),
        ("--health-start-period", "x"),
        ("--health-on-failure", "stop"),
    ] {
        let command: &[&str] = if option == "--health-cmd" { &[] } else { &["--health-cmd", "true"] };
        let line = host.sh(&[&["-d"], command, &[option, bad]].concat(), "true").run().refused(125);
        assert!(line.contains(&format!("{option} \"")), "{line}");
    }
    for (option, good) in [
        ("--health-interval", "1s"),
        ("--health-timeout", "1s"),
        ("--health-retries", "1"),
        ("--health-start-period", "1s"),
        ("--health-on-failure", "kill"),
    ] {
        let line = host.sh(&["-d", option, good], "true").run().refused(125);
        assert!(line.contains(option) && line.contains("--health-cmd"), "{line}");
    }
}

#[test]
fn paused_containers_are_not_checked() {
    let host = Host::new();
    let shared = Shared::new(&host);
    shared.touch("well");
    let options = ["--health-on-failure", "kill", "--health-retries", "1", "--health-timeout=5s"];
    let health_options =
        ["-v", &shared.volume, "--health-cmd", "echo >> /host/checks; test -e /host/well", "--health-interval", "20ms"];
    let job = host.background("job", &[&health_options[..], &options].concat(), "exec sleep 600");
    wait_until("it to be well", || health(&job).as_deref() == Some("healthy"));
    for _ in 0..3 {
        let _ = job.does("pause");
        sleep(Duration::from_millis(5200));
        let _ = job.does("resume");
        let checks = shared.lines("checks").len();
        wait_until("more checks", || shared.lines("checks").len() > checks + 3);
        assert_eq!((job.status(), health(&job).as_deref()), ("running".into(), Some("healthy")));
    }
}

#[test]
fn check_that_the_launcher_cannot_start_does_not_count() {
    let host = Host::new();
    let shared = Shared::new(&host);
    shared.touch("well");
    let check = "echo >> /host/checks; test -e /host/well";
    let options = ["-v", &shared.volume, "--health-cmd", check, "--health-interval", "20ms", "--health-retries", "1"];
    let options = [&options[..], &["--health-on-failure", "restart"]].concat();
    let job = host.background("job", &options, "echo >> /host/lives; exec sleep 600");
    wait_until("it to be well", || health(&job).as_deref() == Some("healthy"));
    let launcher: u32 = job.launcher().as_raw().try_into().unwrap();
    let limit = |files: usize| {
        let limit = nix::libc::rlimit { rlim_cur: files as u64, rlim_max: 4096 };
        tests::sys::limit_files(launcher, limit).unwrap();
    };
    let (checks, told) = (|| shared.lines("checks").len(), || job.logged().matches("could not be started").count());
    let open = fs::read_dir(format!("/proc/{launcher}/fd")).unwrap().count();
    // None more than there are, which is told once; and some, which are too few at one step or another.
    for files in [FEW, open, open + 2, open + 4, open + 6, open + 8, open + 10] {
        let (checked, before) = (checks(), told());
        limit(files);
        wait_until("a check, or the reason why there is none", || told() > before || checks() > checked + 2);
        sleep(Duration::from_millis(100));
        assert!(told() <= before + 1 && (told() > before || files > FEW), "{files}: {}", job.logged());
        limit(1024);
        let checked = checks();
        wait_until("checks to go on", || checks() > checked + 2);
        assert_eq!((health(&job).as_deref(), shared.lines("lives").len()), (Some("healthy"), 1), "{files}");
    }
    shared.remove("well");
    wait_until("another life", || shared.lines("lives").len() > 1);
}

#[test]
fn restart_that_the_launcher_cannot_make_is_not_counted() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let script = "echo >> /host/lives; while [ ! -e /host/end ]; do sleep 0.02; done; rm /host/end; exit 3";
    let job = host.background("job", &["-v", &shared.volume, "--restart", "on-failure:2"], script);
    let launcher: u32 = job.launcher().as_raw().try_into().unwrap();
    let lives = || shared.lines("lives").len();
    wait_until("its life", || lives() == 1);
    shared.touch("end");
    wait_until("another life", || lives() == 2);
    // No file can be opened, and so no other life begins.
    let limit =
        |files| tests::sys::limit_files(launcher, nix::libc::rlimit { rlim_cur: files, rlim_max: 4096 }).unwrap();
    limit(FEW as u64);
    shared.touch("end");
    sleep(Duration::from_millis(700));
    assert_eq!((lives(), shared.path.join("end").exists()), (2, false));
    limit(1024);
    wait_until("the last life", || lives() == 3);
    shared.touch("end");
    assert_eq!(job.end(), 3);
    assert_eq!(job.inspect()["restarts"], 2);
    let _ = job.does("delete");
    // Where it cannot be started for long, nor anything be watched, somebody who stops it is heard all the same, and
    // soon.
    let job = host.background("job", &["-v", &shared.volume, "--restart", "always"], script);
    let launcher: u32 = job.launcher().as_raw().try_into().unwrap();
    shared.touch("end");
    wait_until("another life", || lives() == 5);
    tests::sys::limit_files(launcher, nix::libc::rlimit { rlim_cur: FEW as u64, rlim_max: 4096 }).unwrap();
    shared.touch("end");
    // By then the delay is 3.2 seconds.
    job.wait_until("restarting");
    sleep(Duration::from_secs(4));
    let begun = std::time::Instant::now();
    let _ = job.does("stop");
    assert!(begun.elapsed() < Duration::from_millis(1500) || tests::instruments() != Path::new("/"));
    assert_eq!(lives(), 5);
}

#[test]
fn restart_waits_for_space_in_the_state_directory() {
    let host = Host::new();
    let shared = Shared::new(&host);
    let state = host.directory().join("full");
    fs::create_dir(&state).unwrap();
    host.inside(|| mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap());
    let kontena = || host.program(tests::launcher()).arg("--root").arg(&state);
    let run = kontena().args(["run", "-d", "--name", "job", "--restart", "always", "--log-driver", "none", "-v"]);
    // So many lines of the journal that none of its last page is left before the end is written down.
    let run = run.args([&shared.volume, "-p", "30000-30200:30000-30200", "--cgroup-parent"]);
    let script = "echo >> /host/lives; while [ ! -e /host/end ]; do sleep 0.02; done; rm /host/end; exit 3";
    let run = run.arg(host.cgroup_parent_option()).arg(host.debian()).args(["sh", "-c", script]);
    let _ = run.run().ok();
    wait_until("a life", || shared.lines("lives").len() == 1);
    host.inside(|| drop(fs::write(state.join("fill"), vec![0; 1 << 20])));
    shared.touch("end");
    wait_until("the end", || !shared.path.join("end").exists());
    sleep(Duration::from_millis(500));
    host.inside(|| fs::remove_file(state.join("fill")).unwrap());
    wait_until("another life", || shared.lines("lives").len() > 1);
    let _ = kontena().args(["rm", "-f", "job"]).run().ok();
}

#[test]
fn health_command_that_cannot_be_executed_is_a_failure() {
    let host = Host::new();
    let options = ["--health-cmd", "[\"/nosuch\"]", "--health-interval", "30ms", "--health-retries", "2"];
    let job = host.background("job", &options, "exec sleep 600");
    wait_until("it to be unhealthy", || health(&job).as_deref() == Some("unhealthy"));
    let launcher = job.launcher();
    // Its checks leave neither zombies nor fds.
    let count = |what: &str| fs::read_dir(format!("/proc/{launcher}/{what}")).unwrap().count();
    let fds = count("fd");
    sleep(Duration::from_millis(300));
    // One that is being started has more, for a moment.
    wait_until("as few fds as before", || count("fd") <= fds + 2);
    let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    assert!(children.split_whitespace().count() <= 2, "{children}");
    let json: Value = job.inspect();
    assert_eq!(json["health"], "unhealthy");
}
