//! The state of containers: competition for a name, crashes at any moment, and respect for everything that belongs to
//! others.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::thread::{self, sleep};
use std::time::Duration;
use tests::{Background, Host, Outcome, Traced, leaf_processes, wait_until};

/// A script that goes on.
const FOREVER: &str = "echo ready; exec sleep 600";

/// Asserts that nothing of containers is left, and that prune leaves nothing at all.
#[track_caller]
fn assert_nothing_left(host: &Host) {
    let of_containers = || {
        let state = fs::read_dir(host.state()).into_iter().flatten().flatten();
        let state = state.map(|entry| entry.file_name().display().to_string()).filter(|name| !name.starts_with('.'));
        let cgroups = fs::read_dir(host.cgroup_parent()).into_iter().flatten().flatten();
        let cgroups =
            cgroups.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().display().to_string());
        state.chain(cgroups).collect::<Vec<_>>()
    };
    wait_until(&format!("nothing to be left: {:?}", of_containers()), || of_containers().is_empty());
    host.prune();
    assert!(!host.state().exists(), "{:#?}", host.snapshot().lines("state"));
    assert!(!host.cgroup_parent().exists());
}

/// Does the same on many threads at once; returns the outcomes.
fn at_once(count: usize, what: impl Fn(usize) -> Outcome + Sync) -> Vec<Outcome> {
    let barrier = Barrier::new(count);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let (barrier, what) = (&barrier, &what);
                scope.spawn(move || {
                    barrier.wait();
                    what(number)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn one_of_twenty_starts_with_one_name_succeeds() {
    let host = Host::new();
    let _ = host.debian();
    for round in 0..6 {
        let options: &[&str] = if round % 2 == 0 { &["-d", "--name", "one"] } else { &["-d", "--name", "one", "--rm"] };
        let outcomes = at_once(20, |_| host.sh(options, FOREVER).run());
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|outcome| outcome.code == 0);
        assert_eq!(won.len(), 1, "{}", lost[0]);
        for outcome in lost {
            let line = outcome.refused(125);
            assert!(line.contains("--name one") && line.contains("is running"), "{line}");
        }
        let one = Background::new(&host, "one");
        assert_eq!(one.status(), "running");
        // And of twenty who end it, all see it ended.
        let outcomes = at_once(20, |number| {
            let words: &[&str] = [&["stop", "-t", "0", "one"][..], &["kill", "one"], &["wait", "one"]][number % 3];
            host.kontena().args(words).run()
        });
        for outcome in outcomes {
            match outcome.code {
                // Whichever came first.
                0 | 137 | 143 => {}
                code => {
                    let line = outcome.refused(code);
                    let words = ["is not running", "no such container"];
                    assert!(words.iter().any(|words| line.contains(words)), "{line}");
                }
            }
        }
        wait_until("its end", || ["exited", "gone"].contains(&&*one.status()));
        let _ = host.kontena().args(["rm", "one"]).run();
        wait_until("it to be gone", || one.status() == "gone");
    }
    assert_nothing_left(&host);
}

#[test]
fn all_of_twenty_starts_with_the_name_of_an_ended_container_fail() {
    let host = Host::new();
    let job = host.background("job", &[], "exit 3");
    assert_eq!(job.end(), 3);
    for outcome in at_once(20, |_| host.sh(&["-d", "--name", "job"], "true").run()) {
        let line = outcome.refused(125);
        assert!(line.contains("has exited: kontena delete job"), "{line}");
    }
    // Commands at the same time see the true state.
    let outcomes = at_once(12, |number| match number % 3 {
        0 => host.sh(&["--name", "job"], "true").run(),
        1 => host.kontena().args(["list", "--format", "json"]).run(),
        _ => host.kontena().args(["wait", "job"]).run(),
    });
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match number % 3 {
            0 => assert!(outcome.refused(125).contains("has exited: kontena delete job")),
            1 => assert!(outcome.ok().contains("\"status\":\"exited\"")),
            _ => assert_eq!(outcome.code(3).stdout, "3\n"),
        }
    }
    assert_eq!(job.end(), 3);
}

#[test]
fn twenty_deletes_of_one_container_agree() {
    let host = Host::new();
    for round in 0..10 {
        let job = host.background("job", &[], if round % 2 == 0 { "exit 0" } else { FOREVER });
        if round % 2 == 0 {
            let _ = job.end();
        }
        let words: &[&str] = if round % 2 == 0 { &["delete", "job"] } else { &["delete", "-f", "job"] };
        let outcomes = at_once(20, |_| host.kontena().args(words).run());
        let mut won = 0;
        for outcome in outcomes {
            match outcome.code {
                0 => won += 1,
                _ => {
                    let line = outcome.refused(1);
                    assert!(line.contains("no such container: job"), "{line}");
                }
            }
        }
        assert!(won >= 1);
        assert!(!job.directory().exists() && !job.leaf().exists());
    }
    assert_nothing_left(&host);
}

#[test]
fn starts_and_deletes_of_one_name_do_not_conflict() {
    let host = Host::new();
    let _ = host.debian();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..8 {
        let script = ["exit 0", FOREVER][round % 2];
        let outcomes = at_once(20, |number| match number % 2 {
            0 => host.sh(&["-d", "--name", "one"], script).run(),
            _ => host.kontena().args(["delete", "-f", "one"]).run(),
        });
        for (number, outcome) in outcomes.into_iter().enumerate() {
            if outcome.code == 0 {
                *reasons.entry(["started", "deleted"][number % 2].into()).or_default() += 1;
                continue;
            }
            // Each says why, and what it says can be so.
            let line = outcome.refused(125);
            let words = [
                "a container with this name is running",
                "has exited: kontena delete one",
                "was killed during its start",
            ];
            let reason = words.into_iter().find(|words| line.contains(words)).unwrap_or_else(|| panic!("{line}"));
            *reasons.entry(reason.into()).or_default() += 1;
        }
        // There is a complete container, or none.
        let one = Background::new(&host, "one");
        // One that has just ended may be on its way out.
        wait_until("it to be whole", || ["running", "exited", "gone"].contains(&&*one.status()));
        let status = one.status();
        if status == "running" {
            let _ = one.exec(&["true"]).run();
        }
        let _ = host.kontena().args(["delete", "-f", "one"]).run();
        assert_eq!(one.status(), "gone");
        assert!(!one.directory().exists() && !one.leaf().exists());
    }
    assert!(reasons["started"] >= 1 && reasons["deleted"] >= 1, "{reasons:?}");
    assert_nothing_left(&host);
}

/// All that can be done with a journal that was cut: nothing of it may fail in another way than these.
fn use_it(host: &Host, context: &str) {
    let list = host.list();
    let mut jobs = list.iter().filter(|seen| seen["name"] == "job");
    assert!(jobs.all(|seen| seen["running"] == false), "{context}: {list:?}");
    for words in [
        &["inspect", "job"][..],
        &["ps", "job"],
        &["logs", "job"],
        &["stats", "job"],
        &["stop", "job"],
        &["kill", "job"],
        &["pause", "job"],
    ] {
        let outcome = host.kontena().args(words).run();
        if outcome.code != 0 {
            let code = outcome.code;
            let line = outcome.refused(code);
            let known = ["no such container", "is not running", "has no log"];
            assert!(known.iter().any(|words| line.contains(words)), "{context}: {line}");
        }
    }
}

#[test]
fn journal_truncated_anywhere_is_read_and_repaired() {
    let host = Host::new();
    // As much as one has: a port, an address, ids it could have, a policy, a health, an end.
    let options = [
        "-d",
        "--name",
        "job",
        "-p",
        "8080:80",
        "--restart",
        "on-failure",
        "--stop-timeout",
        "3",
        "--health-cmd",
        "true",
    ];
    let _ = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().ok();
    let job = Background::new(&host, "job");
    let journal = job.journal() + "restarts 3\nhealth 1\nended 7 1764072061 1 memory.max=1,pids.max=2 why\n";
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    for what in
        ["kept", "stop ", "restart ", "cgroup ", "init ", "address ", "publish ", "restarts ", "health ", "ended "]
    {
        assert!(journal.lines().any(|line| line.starts_with(what)), "{what}: {journal}");
    }
    let other = host.run(&["-d", "--name", "other", "-p", "8081:80"], host.demo(), &["/usr/sbin/nginx"]);
    let _ = other.run().ok();
    wait_until("the other's page", || host.get("127.0.0.1:8081").is_ok());
    for cut in (0..=journal.len()).step_by(tests::few().min(3)) {
        fs::create_dir_all(job.directory()).unwrap();
        fs::write(job.directory().join("journal"), &journal[..cut]).unwrap();
        let context = format!("cut at {cut}: {:?}", &journal[..cut]);
        // Each of them comes first once.
        match cut % 6 {
            0 => use_it(&host, &context),
            1 => host.prune(),
            2 => drop(host.run(&["-d", "--name", "new", "--net", "none"], host.demo(), &["/bin/true"]).run().ok()),
            3 => {
                let outcome = host.kontena().args(["delete", "job"]).run();
                assert!(outcome.code == 0 || outcome.refused(1).contains("no such container"), "{context}");
            }
            4 => {
                let outcome = host.run(&["--name", "job", "--net", "none"], host.demo(), &["/bin/true"]).run();
                assert!(outcome.code == 0 || outcome.refused(125).contains("kontena delete job"), "{context}");
            }
            _ => {
                let outcome = host.kontena().args(["wait", "job"]).run();
                // It has not run yet if its first start is not in there.
                let is_told = |line: &str| line.contains("no such container") || line.contains("has not been started");
                assert!([0, 7, 137].contains(&outcome.code) || is_told(&outcome.refused(125)), "{context}");
            }
        }
        host.prune();
        let deleted = host.kontena().args(["delete", "job"]).run();
        let _ = host.kontena().args(["delete", "new"]).run();
        assert!(!job.directory().exists(), "{context}: {deleted}");
    }
    // The other one has not noticed.
    host.get("127.0.0.1:8081").unwrap();
    assert_eq!(Background::new(&host, "other").status(), "running");
    let _ = host.kontena().args(["rm", "-f", "other"]).run().ok();
    assert_nothing_left(&host);
}

#[test]
fn corrupt_journal_is_read_and_repaired() {
    let host = Host::new();
    let _ = host.kontena().arg("list").run().ok();
    let job = Background::new(&host, "job");
    let long = "x".repeat(100_000);
    for text in [
        "\n\n\n",
        "kept",
        "kept\nkept\nkept\n",
        "\0\0\0\n",
        "init 1 1\n",
        "init 99999999999999999999 1\n",
        "init -1 1\nkept\n",
        "cgroup /\n",
        "cgroup ../../..\n",
        "publish 6 0.0.0.0 0 0\n",
        "publish 99 0.0.0.0 80 80\n",
        "address 10.77.0.1\n",
        "address 1.2.3.4\n",
        "ids 0\n",
        "ended 256 0 0 - \n",
        "ended\n",
        "ended 1\nkept\n",
        "restart \n",
        "stop 0 0\n",
        "health x\n",
        "kept\nended 3 4 0 - \n\x1b[31mred\n",
        "journal of a later version\nkept\n",
        &long,
    ] {
        for kept in ["", "kept\n"] {
            // Nothing is in the state directory, so prune has removed it; only kontena makes one.
            let _ = host.kontena().arg("list").run().ok();
            fs::create_dir(job.directory()).unwrap();
            fs::write(job.directory().join("journal"), format!("{kept}{text}")).unwrap();
            use_it(&host, text);
            let outcome = host.kontena().args(["delete", "job"]).run();
            assert!(outcome.code == 0 || outcome.refused(1).contains("no such container"), "{text:?}");
            host.prune();
            assert!(!job.directory().exists(), "{text:?}");
        }
    }
    // Entries of the directory that belong to no container.
    let _ = host.kontena().arg("list").run().ok();
    fs::write(host.state().join("file"), "").unwrap();
    fs::create_dir(host.state().join("empty")).unwrap();
    fs::create_dir_all(host.state().join("full/of")).unwrap();
    assert_eq!(host.list().len(), 0);
    let job = host.background("job", &[], "exit 0");
    assert_eq!(job.end(), 0);
    host.prune();
    assert_eq!(host.list().len(), 1);
    assert!(host.state().join("file").exists() && host.state().join("full/of").exists());
}

#[test]
fn reused_pid_is_left_alone() {
    let host = Host::new();
    let mut innocent = host.program("sleep").arg("600").start();
    // Its pid, as this host has it.
    let status = fs::read_to_string(format!("/proc/{}/status", innocent.pid())).unwrap();
    let pid = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .unwrap()
        .split_whitespace()
        .last()
        .unwrap()
        .to_owned();
    // The journal of a container that has ended, whose pid is taken again: its launcher is gone.
    let job = Background::new(&host, "job");
    let _ = host.kontena().arg("list").run().ok();
    for kept in ["", "kept\n"] {
        for words in [
            &["stop", "-t", "0", "job"][..],
            &["kill", "job"],
            &["kill", "job", "HUP"],
            &["kill", "-a", "-s", "HUP", "job"],
            &["delete", "-f", "job"],
            &["exec", "job", "true"],
            &["pause", "job"],
            &["ps", "job"],
            &["wait", "job"],
            &["attach", "job"],
        ] {
            fs::create_dir_all(job.directory()).unwrap();
            let journal = format!("{kept}cgroup {}\ninit {pid} 1764072061\n", job.leaf().display());
            fs::write(job.directory().join("journal"), journal).unwrap();
            let _ = host.kontena().args(words).run();
            assert!(host.list().iter().all(|seen| seen["running"] == false && seen.get("pid").is_none()));
            host.prune();
            let _ = host.kontena().args(["rm", "job"]).run();
        }
    }
    assert!(!innocent.has_ended());
    // And while a launcher lives, its pid is not given to another: it is reaped when its end has been written down.
    let job = host.background("job", &[], FOREVER);
    let launcher = job.launcher();
    let init = job.init();
    kill(launcher, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(init.try_into().unwrap()), Signal::SIGKILL).unwrap();
    wait_until("its end", || fs::read_to_string(format!("/proc/{init}/stat")).is_ok_and(|stat| stat.contains(") Z ")));
    let outcome = host.kontena().args(["kill", "job", "HUP"]).run();
    assert!([0, 125].contains(&outcome.code), "{outcome}");
    kill(launcher, Signal::SIGCONT).unwrap();
    assert_eq!(job.end(), 137);
}

#[test]
fn pids_of_another_namespace_are_left_alone() {
    // A container of an administrator's that shares /run with the host, say: there the pid in the journal is another
    // process's.
    const VICTIM: &str = "pid=$1; shift; last=0
        while [ $last -lt $((pid - 1)) ]; do true & last=$!; wait $last; done
        sleep 600 & [ $! = $pid ] || exit 98
        \"$@\"; code=$?
        case $(cat /proc/$pid/stat) in *') Z '*) exit 99;; esac
        exit $code";
    let host = Host::new();
    let job = host.background("job", &[], FOREVER);
    let pid = host.list()[0]["pid"].to_string();
    for words in [
        &["stop", "-t", "0", "job"][..],
        &["kill", "job"],
        &["kill", "job", "USR1"],
        &["kill", "-a", "-s", "USR1", "job"],
        &["delete", "-f", "job"],
        &["exec", "job", "true"],
        &["run", "--net", "container:job", "/", "true"],
    ] {
        let program =
            host.program("unshare").args(["-pf", "--kill-child", "--mount-proc", "sh", "-c", VICTIM, "sh", &pid]);
        let outcome = program.arg(tests::launcher()).arg("--root").arg(host.state()).args(words).run().code(125);
        assert!(outcome.stderr.contains("job was started in another pid namespace"), "{words:?}: {outcome}");
    }
    assert_eq!(job.status(), "running");
    let _ = job.does("stop");
}

#[test]
fn ports_are_free_when_the_end_is_reported() {
    let host = Host::new();
    let job = Background::new(&host, "job");
    let mut launcher = Traced::start(host.run(&["--name", "job", "-p", "8080:80"], host.demo(), &["/bin/true"]));
    let mut looks = 0;
    while launcher.next_call().is_some() {
        // A command that waits for the end, such as `kontena rm -f`, may start the next one from here on.
        if job.directory().join("journal").exists() {
            looks = 1;
        } else if looks > 0 {
            looks += 1;
            host.inside(|| drop(TcpListener::bind("0.0.0.0:8080").unwrap()));
        }
    }
    assert!(looks > 1);
}

#[test]
fn pid_1_is_reaped_after_its_end_is_recorded() {
    let host = Host::new();
    let mut launcher = Traced::start(host.sh(&["--name", "job"], "exit 3"));
    let job = Background::new(&host, "job");
    let mut written = false;
    while let Some((number, arguments)) = launcher.next_call() {
        if !written && job.journal().contains("\nended 3 ") {
            written = true;
            assert_eq!(job.status(), "ending", "its launcher is still there, and will not start it again");
        }
        let reaps = match number as i64 {
            // waitid(2) without WNOWAIT; wait4(2).
            nix::libc::SYS_waitid => arguments[3] & nix::libc::WNOWAIT as u64 == 0,
            nix::libc::SYS_wait4 => true,
            _ => false,
        };
        assert!(!reaps || written, "its pid can be another's before others are told: {}", job.journal());
    }
    assert!(written);
    let _ = launcher.finish().code(3);
}

#[test]
fn late_stop_leaves_no_directory() {
    let host = Host::new();
    let mut launcher = Traced::start(host.sh(&["--name", "job"], "true"));
    let directory = host.state().join("job");
    let mut late = 0;
    while let Some((number, arguments)) = launcher.next_call() {
        // rmdir(2) of what its journal has just gone from.
        let is_last = number as i64 == nix::libc::SYS_unlinkat && arguments[2] == nix::libc::AT_REMOVEDIR as u64;
        if is_last && late < 3 && directory.exists() && !directory.join("journal").exists() {
            late += 1;
            // As kontena stop asks.
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o1700)).unwrap();
        }
    }
    assert_eq!(late, 1);
    let _ = launcher.finish().code(0);
    assert!(!directory.exists(), "{:#?}", host.snapshot().lines("state"));
}

#[test]
fn background_launcher_killed_at_any_system_call_is_repaired() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let options = ["-d", "--name", "victim", "-p", "8080:80", "--restart", "on-failure:1"];
    let mut calls = 0;
    let mut ran = 0;
    loop {
        // The side in the background is the child; the front is told that it is gone.
        let mut front = Traced::start(host.run(&options, host.debian(), &["sh", "-c", "exit 1"]));
        let child = front.first_child();
        let mut victim = front.follow(child);
        let ended = (0..=calls).any(|_| victim.next_call().is_none());
        if ended {
            drop(victim);
            break;
        }
        victim.kill();
        let outcome = front.finish();
        let victim = Background::new(&host, "victim");
        match outcome.code {
            0 => ran += 1,
            _ => {
                let line = outcome.refused(125);
                assert!(line.contains("was killed") && line.contains("kontena prune"), "call {calls}: {line}");
            }
        }
        // Nobody lives on: the container goes with its launcher.
        wait_until("the end of the container", || leaf_processes(&victim.leaf()).is_empty());
        assert!(
            ["gone", "created", "exited"].contains(&&*victim.status()),
            "call {calls}: {:?} {}",
            victim.seen(),
            victim.journal()
        );
        match calls % 4 {
            0 => host.prune(),
            1 => drop(host.kontena().args(["delete", "victim"]).run()),
            2 => drop(host.kontena().args(["delete", "-f", "victim"]).run()),
            _ => drop(host.run(&["-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok()),
        }
        if let Some(seen) = victim.seen() {
            assert!(seen["status"] == "exited" || seen["status"] == "created", "call {calls}");
            let _ = victim.does("delete");
        }
        assert!(!victim.leaf().exists(), "call {calls}");
        if calls % 20 == 0 {
            host.prune();
            before.assert_restored(|| host.snapshot());
        }
        calls += tests::few();
    }
    assert!(calls > 100 && ran > 1, "{calls} system calls, {ran} after the start");
    let _ = host.kontena().args(["rm", "-f", "victim"]).run();
    assert_nothing_left(&host);
}

#[test]
fn launcher_killed_at_bad_moments_leaves_a_usable_record() {
    let host = Host::new();
    let volume = format!("{}:/host", host.directory().display());
    let before = host.processes().len();
    for (moment, options, script) in [
        ("while it serves", &["-p", "8080:80"][..], FOREVER),
        ("between two lives", &["--restart", "always"], "echo ready; exit 5"),
        ("while it is stopped", &[], "trap '' TERM; echo ready; while :; do sleep 0.05; done"),
        ("while it is paused", &[], FOREVER),
    ] {
        let options = [&["-d", "--name", "job", "-v", &volume], options].concat();
        let _ = host.run(&options, host.debian(), &["sh", "-c", script]).run().ok();
        let job = Background::new(&host, "job");
        job.wait_for_log("ready");
        let mut waits: Vec<_> = (0..2).map(|_| host.kontena().args(["wait", "job"]).start()).collect();
        match moment {
            // By then they are long.
            "between two lives" => wait_until("a delay", || {
                job.seen().is_some_and(|seen| seen["status"] == "restarting" && seen["restarts"].as_u64() >= Some(5))
            }),
            "while it is stopped" => {
                waits.push(host.kontena().args(["stop", "job"]).start());
                sleep(Duration::from_millis(100));
            }
            "while it is paused" => drop(job.does("pause")),
            _ => sleep(Duration::from_millis(50)),
        }
        kill(job.launcher(), Signal::SIGKILL).unwrap();
        for wait in waits {
            let outcome = wait.finish();
            assert!([0, 137, 5].contains(&outcome.code), "{moment}: {outcome}");
        }
        wait_until("the end of the container", || job.processes().is_empty());
        wait_until("nobody to be left", || host.processes().len() == before);
        assert_eq!(job.status(), "exited", "{moment}");
        let exit = job.exit();
        if moment == "between two lives" {
            assert_eq!(exit["status"], 5, "{moment}: {exit}");
        } else if job.journal().contains("ended") {
            assert_eq!(exit["status"], 137, "{moment}: {exit}");
        }
        // The next command, whatever it is, repairs what it holds; the record stays, and says why.
        host.prune();
        assert_eq!(job.status(), "exited", "{moment}");
        if moment != "between two lives" {
            assert_eq!(
                (&job.exit()["status"], &job.exit()["reason"]),
                (&137.into(), &"its launcher was killed".into()),
                "{moment}"
            );
        }
        assert!(!job.leaf().exists(), "{moment}");
        let snapshot = host.snapshot();
        assert!(snapshot.lines("nft ruleset").iter().all(|line| !line.contains(" : 10.77.")), "{moment}");
        assert!(job.logged().contains("ready"), "{moment}");
        let _ = job.does("delete");
        assert_nothing_left(&host);
    }
}

#[test]
fn unrepaired_record_shows_the_end() {
    // Before anybody has repaired it.
    let host = Host::new();
    let job = host.background("job", &[], FOREVER);
    job.kill_launcher();
    assert_eq!(job.status(), "exited");
    assert_eq!(host.kontena().args(["wait", "job"]).run().code(137).stdout, "137\n");
    let line = job.exec(&["true"]).run().refused(125);
    assert!(line.contains("is not running"), "{line}");
    assert!(host.kontena().arg("list").run().ok().contains("exited"));
    let seen = job.seen().unwrap();
    assert_eq!(
        (&seen["exit"]["status"], &seen["exit"]["reason"]),
        (&137.into(), &"its launcher was killed".into()),
        "{seen}"
    );
    let _ = job.does("delete");
    assert_nothing_left(&host);
}

#[test]
fn killed_init_ends_the_container() {
    let host = Host::new();
    for options in [&["-p", "8080:80"][..], &["--net", "none"]] {
        let options = [&["-d", "--name", "job"], options].concat();
        let _ = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().ok();
        let job = Background::new(&host, "job");
        let processes = job.processes();
        kill(Pid::from_raw(job.init().try_into().unwrap()), Signal::SIGKILL).unwrap();
        assert_eq!(job.end(), 137);
        assert!(processes.iter().all(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).map_or(true, |line| !line.contains("nginx"))
        }));
        assert!(!job.leaf().exists());
        let _ = job.does("delete");
    }
    assert_nothing_left(&host);
}

#[test]
fn unwritable_state_is_refused_before_anything_is_started() {
    let host = Host::new();
    let _ = host.debian();
    let full = host.directory().join("full");
    fs::create_dir(&full).unwrap();
    host.inside(|| mount(Some("tmpfs"), &full, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap());
    let _ = host.program(tests::launcher()).arg("--root").arg(&full).arg("list").run().ok();
    host.inside(|| drop(fs::write(full.join("fill"), vec![0; 1 << 20])));
    let inodes = host.directory().join("inodes");
    fs::create_dir(&inodes).unwrap();
    host.inside(|| mount(Some("tmpfs"), &inodes, Some("tmpfs"), MsFlags::empty(), Some("nr_inodes=3")).unwrap());
    let read_only = host.directory().join("read-only");
    fs::create_dir(&read_only).unwrap();
    host.inside(|| mount(Some("tmpfs"), &read_only, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>).unwrap());
    let before = host.snapshot();
    let run = |root: &std::path::Path, options: &[&str]| {
        let program =
            host.program(tests::launcher()).arg("--root").arg(root).args(["run", "--net", "none", "--cgroup-parent"]);
        program.arg(host.cgroup_parent_option()).args(options).arg(host.debian()).args(["sh", "-c", "echo started"])
    };
    for (root, words) in [
        (full.clone(), ["ENOSPC", "--root"]),
        (full.join("state"), ["ENOSPC", "--root"]),
        (inodes.join("a/b/c/d"), ["ENOSPC", "--root"]),
        (read_only.clone(), ["EROFS", "--root"]),
        (read_only.join("state"), ["EROFS", "--root"]),
        ("/proc/nosuch".into(), ["/proc/nosuch", "--root"]),
        ("/etc/passwd".into(), ["/etc/passwd", "--root"]),
    ] {
        for options in [&["-d"][..], &[], &["-dt"], &["-t"], &["-d", "--restart", "always"]] {
            let outcome = run(&root, options).run();
            assert!(!outcome.stdout.contains("started"), "{outcome}");
            let line = outcome.refused(125);
            assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
        }
    }
    // A /run that is missing is made, and one that cannot be is told, by those that only look as well.
    let line =
        host.program(tests::launcher()).arg("--root").arg(read_only.join("state")).arg("list").run().refused(125);
    assert!(line.contains("EROFS"), "{line}");
    before.assert_restored(|| host.snapshot());
    assert!(!host.cgroup_parent().exists());
    let missing = host.directory().join("run/kontena");
    let _ = run(&missing, &[]).run().ok();
    assert!(missing.exists());
}

#[test]
fn lost_state_does_not_harm_running_containers() {
    let host = Host::new();
    let options = ["-d", "--name", "web", "-p", "8080:80", "--wait-ready", "--health-cmd", "[\"/bin/true\"]"];
    let options = [&options[..], &["--health-interval", "50ms"]].concat();
    let _ = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().ok();
    let web = Background::new(&host, "web");
    let (launcher, init) = (web.launcher(), web.init());
    fs::remove_dir_all(host.state()).unwrap();
    sleep(Duration::from_millis(300));
    host.get("127.0.0.1:8080").unwrap();
    assert_eq!(host.list().len(), 0);
    // Its launcher still knows which resources to release.
    kill(Pid::from_raw(init.try_into().unwrap()), Signal::SIGKILL).unwrap();
    wait_until("the end of the launcher", || kill(launcher, None).is_err());
    assert!(!web.leaf().exists());
    let snapshot = host.snapshot();
    assert!(snapshot.lines("nft ruleset").iter().all(|line| !line.contains(" : 10.77.")), "{snapshot:#?}");
    let _ = host.run(&["--name", "web", "-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok();
}

#[test]
fn leftover_lock_is_free() {
    // A process that waits for the end of a container may be suspended while it holds a lock.
    let host = Host::new();
    let job = host.background("job", &[], "trap '' TERM; echo ready; exec sleep 600");
    job.wait_for_log("ready");
    let wait = host.kontena().args(["wait", "job"]).start();
    let call = format!("/proc/{}/syscall", wait.pid());
    let waits = format!("{} 0x", libc::SYS_fcntl);
    wait_until("it to wait for the lock", || fs::read_to_string(&call).unwrap().starts_with(&waits));
    wait.signal(Signal::SIGSTOP);
    let _ = host.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    let _ = job.does("delete");
    let job = host.background("job", &[], "exit 4");
    assert_eq!(job.end(), 4);
    wait.signal(Signal::SIGCONT);
    // It has waited for another one.
    let _ = wait.finish().code(137);
}

#[test]
fn port_of_a_killed_launcher_goes_to_the_next_container() {
    // Whenever it was killed: releasing its port does not affect the port's present owner.
    let host = Host::new();
    let _ = host.demo();
    let (mut calls, mut tried) = (0, 0);
    loop {
        let mut victim = Traced::start(host.run(&["--name", "victim", "-p", "8080:80"], host.demo(), &["/bin/true"]));
        let ended = (0..=calls).any(|_| victim.next_call().is_none());
        if ended {
            let _ = victim.finish().code(0);
            break;
        }
        // From where it has published the port.
        let has_published =
            fs::read_to_string(host.state().join("victim/journal")).is_ok_and(|text| text.contains("publish"));
        victim.kill();
        if has_published {
            tried += 1;
            // A child that has not done its exec has the port's socket, too.
            let victim = Background::new(&host, "victim");
            wait_until("the end of its processes", || victim.processes().is_empty());
            let options = ["-d", "--name", "next", "-p", "8080:80", "--wait-ready"];
            let _ = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().ok();
            // Until it has looked what others have left.
            sleep(Duration::from_millis(40));
            assert!(host.get("127.0.0.1:8080").is_ok(), "after call {calls}");
            let _ = host.kontena().args(["rm", "-f", "next"]).run().ok();
        }
        host.prune();
        calls += if has_published { tests::few() } else { 5 };
    }
    assert!(tried > 5, "{tried}");
}

#[test]
fn killed_launcher_among_many_is_repaired_soon() {
    // Each that ends looks after eight others.
    let host = Host::new();
    let _ = host.debian();
    let many: Vec<String> = (0..20).map(|number| format!("job{number}")).collect();
    for name in &many {
        let _ = host.background(name, &[], FOREVER);
    }
    // Whatever it says.
    fs::write(host.state().join(".swept"), [0xff; 8]).unwrap();
    for victim in ["job0", "job7", "job19"] {
        let victim = Background::new(&host, victim);
        // Until those that stay have looked, too: half a second here, and more in the VM.
        sleep(tests::patience() / 120);
        kill(victim.launcher(), Signal::SIGKILL).unwrap();
        wait_until("its processes to be gone", || victim.processes().is_empty());
        assert!(victim.leaf().exists(), "nobody has looked yet");
        for _ in 0..4 {
            let _ = host.sh(&[], "true").run().ok();
        }
        assert!(!victim.leaf().exists());
    }
    let _ = host.kontena().args(["rm", "-f"]).args(&many).run().ok();
    assert_nothing_left(&host);
}
