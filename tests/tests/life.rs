//! The life of a container in the background, by kontena's verbs: its start, what there is to see of it, what can be
//! done to it, and its end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs::{self, File};
use std::thread;
use tests::{Background, Container, Host, Outcome, Traced, leaf_processes, patience, wait_for, wait_until};

/// A script that ends with 0 when it is asked to, and says that it lives.
const POLITE: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
/// One that does not.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.05; done";

/// Whether cgroup v2 has `controller` here.
fn has(host: &Host, controller: &str) -> bool {
    let controllers = fs::read_to_string(host.cgroup().parent().unwrap().join("cgroup.controllers")).unwrap();
    controllers.split_whitespace().any(|known| known == controller)
}

/// `kontena VERB NAME…`
fn verb(host: &Host, words: &[&str]) -> Outcome {
    host.kontena().args(words).run()
}

/// JSON that a verb has printed.
#[track_caller]
fn json(outcome: Outcome) -> Value {
    let text = outcome.ok();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Asserts that nothing of a container is left, but the state's own directory.
#[track_caller]
fn assert_gone(host: &Host, name: &str) {
    assert!(!host.state().join(name).exists(), "{:#?}", host.snapshot());
    assert!(!host.cgroup_parent().join(name).exists());
    assert!(host.list().iter().all(|seen| seen["name"] != *name));
}

#[test]
fn run_d_returns_once_the_command_runs() {
    let host = Host::new();
    for number in 0..20 {
        let name = format!("job{number}");
        let job = host.background(&name, &[], "exec sleep 600");
        let processes = job.processes();
        assert_eq!(processes.len(), 2, "PID 1 and the payload");
        let exe = fs::read_link(format!("/proc/{}/exe", processes[1])).unwrap();
        assert!(exe.to_str().unwrap().contains("/usr/bin/"), "its exec is done: {}", exe.display());
        assert_eq!(job.status(), "running");
    }
}

#[test]
fn command_that_exits_at_once_has_run() {
    let host = Host::new();
    for round in 0..60 {
        let code = [0, 3][round % 2];
        let job = host.background("job", &[], &format!("exit {code}"));
        assert_eq!(verb(&host, &["wait", "job"]).code(code).stdout, format!("{code}\n"));
        assert_eq!(job.end(), i64::from(code));
        let _ = job.does("delete");
    }
    let _ = host.background("gone", &["--rm"], "exit 0");
    wait_until("the end of one that is not kept", || host.list().is_empty());
    wait_until("nothing to be left of it", || !host.state().join("gone").exists());
}

#[test]
fn start_errors_are_those_of_the_foreground() {
    let host = Host::new();
    let demo = host.demo();
    let _taken = host.service("127.0.0.1:8080");
    for (options, rootfs, command, code, word) in [
        (&["--net", "none"][..], demo.as_path(), "/bin/nosuch", 127, "/bin/nosuch"),
        (&["--net", "none"], &demo, "/etc/passwd", 126, "/etc/passwd"),
        (&["--net", "none", "-w", "/nosuch"], &demo, "/bin/true", 125, "/nosuch"),
        (&["--net", "none", "-u", "nosuch"], &demo, "/bin/true", 125, "nosuch"),
        (&["--net", "none", "-v", "/nosuch:/x"], &demo, "/bin/true", 125, "/nosuch"),
        (&["-p", "8080:80"], &demo, "/bin/true", 125, "EADDRINUSE"),
        (&["--net", "nosuch"], &demo, "/bin/true", 125, "nosuch"),
        (&["--net", "none"], "/nosuch".as_ref(), "/bin/true", 125, "/nosuch"),
        (&["--net", "none", "--cgroup-conf", "nosuch.max=1"], &demo, "/bin/true", 125, "nosuch"),
    ] {
        let foreground = host.run(&[&["--name", "job"], options].concat(), rootfs, &[command]).run().refused(code);
        // Whether it has a terminal or not.
        for detached in [&["-d"][..], &["-d", "-t"], &["-d", "--rm"], &["-d", "--restart", "always"], &["-t"]] {
            let options = [detached, &["--name", "job"], options].concat();
            let line = host.run(&options, rootfs, &[command]).run().refused(code);
            assert_eq!(line, foreground, "{detached:?}");
            assert!(line.contains(word), "{line}");
            wait_until("nothing to be left", || {
                !host.state().join("job").exists() && !host.cgroup_parent().join("job").exists()
            });
            assert_gone(&host, "job");
        }
    }
}

#[test]
fn missing_command_is_reported_every_time() {
    let host = Host::new();
    for round in 0..100 {
        let options: &[&str] = if round % 2 == 0 { &["-d", "--net", "none"] } else { &["-dt", "--net", "none"] };
        let line = host.run(options, host.demo(), &["/bin/nosuch"]).run().refused(127);
        assert!(line.contains("/bin/nosuch"), "{line}");
    }
}

#[test]
fn limit_hit_during_the_start_is_reported() {
    let host = Host::new();
    // Whichever process the kernel kills, and whenever.
    for (limit, bytes) in [("100k", "102400"), ("32k", "32768")] {
        for _ in 0..20 {
            let options = ["-d", "--name", "job", "--net", "none", "-m", limit];
            let outcome = host.run(&options, host.demo(), &["/bin/true"]).run();
            if !has(&host, "memory") {
                assert!(outcome.refused(125).contains("the memory controller"));
                return;
            }
            let line = outcome.refused(137);
            assert!(line.contains(&format!("hit its memory limit, {bytes} bytes")), "{line}");
            assert_gone(&host, "job");
        }
    }
}

#[test]
fn start_messages_are_printed_in_the_background_too() {
    let host = Host::new();
    for options in [&["-d"][..], &["-d", "--wait-ready"], &["-dt"]] {
        let options = [options, &["--name", "web", "-p", "80"]].concat();
        let outcome = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().code(0);
        assert_eq!(outcome.stdout, "web\n");
        let port = outcome.stderr.trim().strip_prefix("published *:").and_then(|rest| rest.strip_suffix(" -> 80/tcp"));
        let port = port.unwrap_or_else(|| panic!("{outcome}")).to_owned();
        wait_until("the page", || host.get(&format!("127.0.0.1:{port}")).is_ok());
        assert_eq!(Background::new(&host, "web").seen().unwrap()["ports"][0], format!("*:{port}->80/tcp"));
        let _ = verb(&host, &["rm", "-f", "web"]).ok();
    }
}

#[test]
fn background_launcher_keeps_nothing_of_the_caller() {
    let host = Host::new();
    let file = host.directory().join("file");
    let mut program = host.kontena_run();
    // As a shell leaves fds open: a lock, a pipe.
    let open = File::create(&file).unwrap();
    let script = format!("exec 7>{} 8>&1; exec \"$@\"", file.display());
    program = program.args(["--net", "none", "-d", "--name", "job"]).arg(host.debian()).args(["sleep", "600"]);
    let outcome = program.through("sh", &["-c", &script, "sh"]).run();
    // That it has come to the end of its output says that nobody holds the pipe.
    assert_eq!(outcome.ok(), "job\n");
    let job = Background::new(&host, "job");
    let launcher = job.launcher();
    for entry in fs::read_dir(format!("/proc/{launcher}/fd")).unwrap().flatten() {
        // One that is open for a moment only is not kept.
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        assert_ne!(link, file, "fd {}", entry.file_name().display());
        assert!(entry.file_name().to_str().unwrap().parse::<u32>().unwrap() > 2 || link == *"/dev/null", "{link:?}");
    }
    drop(open);
    // A session of its own, which no terminal is of.
    let stat = fs::read_to_string(format!("/proc/{launcher}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let status = fs::read_to_string(format!("/proc/{launcher}/status")).unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("NSsid:")).unwrap().split_whitespace().next().unwrap();
    assert_eq!((own, fields[4]), (launcher.to_string().as_str(), "0"), "session and terminal: {stat}");
}

#[test]
fn list_shows_running_and_ended_containers() {
    let host = Host::new();
    assert_eq!(host.list(), Vec::<Value>::new());
    assert_eq!(verb(&host, &["list"]).ok().lines().count(), 1, "a header alone");
    let web = host.run(&["-d", "--name", "web", "-p", "127.0.0.1:8080:80"], host.demo(), &["/usr/sbin/nginx"]);
    assert_eq!(web.run().ok(), "web\n");
    let ended = host.background("ended", &[], "exit 7");
    ended.wait_until("exited");

    let table = verb(&host, &["list"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines.len() == 3, "{table}");
    assert!(lines[1].starts_with("ended ") && lines[1].contains("exited 7"), "{table}");
    assert!(lines[2].contains("running") && lines[2].contains("127.0.0.1:8080->80/tcp"), "{table}");
    assert_eq!(verb(&host, &["ls"]).ok().lines().next(), Some(lines[0]));
    assert_eq!(verb(&host, &["list", "-q"]).ok(), "ended\nweb\n");

    let [ended, web] = &host.list()[..] else { panic!("{:?}", host.list()) };
    assert_eq!(
        (&ended["name"], &ended["running"], &ended["exit"]["status"]),
        (&"ended".into(), &false.into(), &7.into())
    );
    assert!(ended.get("pid").is_none() && ended["exit"].get("signal").is_none(), "{ended}");
    assert_eq!(web["command"], serde_json::json!(["/usr/sbin/nginx"]));
    assert_eq!(web["ports"], serde_json::json!(["127.0.0.1:8080->80/tcp"]));
    assert_eq!(web["running"], true);
    let address = web["addresses"][0].as_str().unwrap();
    wait_until("nginx at the address that is told", || host.get(&format!("{address}:80")).is_ok());
    // The pid is one of the host's own.
    let comm = host.says("cat", &[&format!("/proc/{}/comm", web["pid"])]);
    assert_eq!(comm, "kontena-init\n");
    assert_eq!(verb(&host, &["list", "--format", "table"]).ok().lines().count(), 3);
}

#[test]
fn list_shows_a_container_with_thousands_of_ports() {
    // Each relayed port takes two file descriptors. The kernel gives a machine's PID 1 1024, of at most 4096.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let enough = most.max(16_384);
    setrlimit(Resource::RLIMIT_NOFILE, enough, enough).unwrap();
    let host = Host::new();
    // Neighbours would be one range.
    let ports: Vec<_> = (20_000..25_000).step_by(2).map(|port| format!("-p127.0.0.1:{port}:{port}")).collect();
    let ports: Vec<_> = ports.iter().map(|port| &**port).collect();
    let job = host.background("job", &ports, "exec sleep 600");
    let text = host.kontena().arg("list").run().ok();
    assert!(text.len() > 1 << 16, "a cell that format! would refuse: {} bytes", text.len());
    assert!(text.contains(":20000->20000/tcp") && text.contains(":24998->24998/tcp"), "{} bytes", text.len());
    assert_eq!(job.status(), "running");
}

#[test]
fn ps_shows_the_processes_of_a_container() {
    let host = Host::new();
    let job = host.background("job", &["-u", "33"], "sleep 600 & exec sleep 700");
    let exec = job.exec(&["sleep", "800"]).start();
    let all = ["sleep 600 ", "sleep 700 ", "sleep 800 "];
    wait_until("all processes", || all.iter().all(|command| !host.processes_named(command).is_empty()));
    let table = verb(&host, &["ps", "job"]).ok();
    assert!(table.starts_with("CONTAINER"), "{table}");
    // The joined command is listed, and kontena's own process is not.
    assert_eq!(table.lines().count(), 5, "{table}");
    let all = json(verb(&host, &["ps", "--format", "json", "job"]));
    let all = all.as_array().unwrap();
    let payload = all.iter().find(|process| process["command"] == "sleep 700").unwrap();
    assert_eq!((&payload["uid"], &payload["container"]), (&33.into(), &"job".into()), "{payload}");
    assert_eq!(payload["pid_inside"], 2);
    assert!(all.iter().all(|process| process["pid_inside"].as_u64().unwrap() < 100), "{all:?}");
    assert_eq!(all.iter().filter(|process| process["pid_inside"] == 1).count(), 1);
    drop(exec);
}

#[test]
fn several_names_are_handled_one_by_one() {
    let host = Host::new();
    let start = || {
        ["a", "c"].map(|name| {
            let job = host.background(name, &[], POLITE);
            job.wait_for_log("ready");
            job
        })
    };
    let assert = |words: &[&str], status: &str| {
        let containers = ["a", "c"].map(|name| Background::new(&host, name));
        let outcome = verb(&host, &[words, &["a", "b", "c"]].concat());
        assert_eq!(outcome.stdout, "a\nc\n", "{outcome}");
        // A container that is already gone need not be deleted.
        if words != ["rm", "-f"] {
            let line = outcome.refused(1);
            assert!(line.contains("no such container: b"), "{line}");
        }
        for container in &containers {
            container.wait_until(status);
        }
    };
    let _ = start();
    assert(&["pause"], "paused");
    assert(&["resume"], "running");
    assert(&["update", "--cgroup-conf", "cgroup.max.depth=5"], "running");
    assert(&["kill", "-s", "WINCH"], "running");
    assert(&["stop"], "exited");
    assert(&["delete"], "gone");
    let _ = start();
    // Without -s, "b" may be a signal that was misspelt: nothing is sent.
    let _ = verb(&host, &["kill", "a", "b", "c"]).refused(1);
    assert_eq!(["a", "c"].map(|name| Background::new(&host, name).status()), ["running", "running"]);
    assert(&["kill", "-s", "KILL"], "exited");
    assert(&["rm", "-f"], "gone");

    // One missing container does not suppress the output for the others.
    let _ = start();
    for (words, inside) in [(&["inspect"][..], "\"name\":\""), (&["ps"], "sleep"), (&["stats"], "PROCESSES")] {
        let outcome = verb(&host, &[words, &["a", "b", "c"]].concat());
        assert!(outcome.stdout.contains(inside), "{outcome}");
        let names =
            ["a", "c"].map(|name| outcome.stdout.split(['\n', '"']).any(|word| word.split(' ').next() == Some(name)));
        assert_eq!(names, [true, true], "{outcome}");
        assert!(outcome.refused(1).contains("no such container: b"));
    }
    let _ = verb(&host, &["stop", "a", "c"]).ok();
    let outcome = verb(&host, &["wait", "a", "b", "c"]);
    assert_eq!(outcome.stdout, "0\n0\n", "{outcome}");
    let _ = outcome.refused(125);
}

#[test]
fn verbs_report_a_missing_container() {
    let host = Host::new();
    for words in [
        &["exec", "web", "true"][..],
        &["attach", "web"],
        &["ps", "web"],
        &["logs", "web"],
        &["logs", "-f", "web"],
        &["stats", "web"],
        &["inspect", "web"],
        &["stop", "web"],
        &["kill", "web"],
        &["wait", "web"],
        &["pause", "web"],
        &["resume", "web"],
        &["update", "--pids-limit", "5", "web"],
        &["delete", "web"],
    ] {
        // For some commands it could be a container's status.
        let status = if ["exec", "attach", "wait"].contains(&words[0]) { 125 } else { 1 };
        let line = verb(&host, words).refused(status);
        assert!(line.contains("no such container: web") && line.contains("kontena list"), "{line}");
        // Of all containers, without names.
        if !["stats", "ps"].contains(&words[0]) {
            let line = verb(&host, &words[..1]).refused(125);
            let hints = [&*format!("kontena {} --help", words[0]), "no container given"];
            assert!(hints.iter().any(|hint| line.contains(hint)), "{line}");
        }
    }
    assert_eq!(verb(&host, &["rm", "-f", "web"]).ok(), "");
}

#[test]
fn names_given_to_verbs_are_not_paths() {
    let host = Host::new();
    let secret = host.directory().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("journal"), "kept\nended 0 1 0 - \n").unwrap();
    fs::write(secret.join("log"), "1970-01-01T00:00:00.000000000Z stdout F secret\n").unwrap();
    let _ = host.kontena().arg("list").run().ok();
    for name in [
        "../secret",
        "./../secret",
        &format!("/{}", secret.display()),
        "",
        ".",
        "..",
        "x/../../secret",
        &"a".repeat(5000),
    ] {
        for words in [
            &["logs"][..],
            &["inspect"],
            &["delete"],
            &["rm", "-f"],
            &["stop"],
            &["kill"],
            &["wait"],
            &["attach"],
            &["ps"],
            &["exec"],
        ] {
            let mut words = [words, &[name]].concat();
            words.extend((words[0] == "exec").then_some("true"));
            let outcome = verb(&host, &words);
            assert!(!outcome.stdout.contains("secret"), "{outcome}");
            match words[..] {
                ["rm", ..] => assert_eq!(outcome.ok(), ""),
                ["exec" | "attach" | "wait", ..] => drop(outcome.refused(125)),
                _ => drop(outcome.refused(1)),
            }
        }
    }
    assert!(secret.join("journal").exists() && secret.join("log").exists());
}

#[test]
fn stop_sends_its_signal_and_then_sigkill() {
    let host = Host::new();
    let polite = host.background("polite", &[], POLITE);
    polite.wait_for_log("ready");
    assert_eq!(polite.does("stop"), "polite\n");
    assert_eq!(polite.end(), 0);
    assert!(polite.processes().is_empty());
    // The requested state exists already.
    assert_eq!(polite.does("stop"), "polite\n");

    for (options, words) in [
        (&[][..], &["stop", "-t", "1"][..]),
        (&["--stop-timeout", "1"], &["stop"]),
        (&[], &["stop", "--time=0"]),
        (&["--stop-timeout", "600"], &["stop", "-t0"]),
    ] {
        let stubborn = host.background("stubborn", options, STUBBORN);
        stubborn.wait_for_log("ready");
        let _ = verb(&host, &[words, &["stubborn"]].concat()).ok();
        assert_eq!(stubborn.end(), 137);
        assert_eq!(stubborn.exit()["signal"], "SIGKILL");
        let _ = stubborn.does("delete");
    }
    let quits = host.background(
        "quits",
        &["--stop-signal", "QUIT"],
        "trap 'exit 5' QUIT; echo ready; while :; do sleep 0.05; done",
    );
    quits.wait_for_log("ready");
    let _ = quits.does("stop");
    assert_eq!(quits.end(), 5);
    for bad in [&["-t", "x"][..], &["-t", "-1"], &["--time", ""], &["-t", "99999999999"]] {
        let _ = verb(&host, &[&["stop"], bad, &["polite"]].concat()).refused(125);
    }
}

#[test]
fn nginx_is_stopped_by_its_own_signal() {
    let host = Host::new();
    let options = ["-d", "--name", "web", "-p", "8080:80", "--stop-signal", "SIGQUIT", "--wait-ready"];
    assert_eq!(host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().ok(), "web\n");
    host.get("127.0.0.1:8080").unwrap();
    let web = Background::new(&host, "web");
    let _ = web.does("stop");
    assert_eq!(web.end(), 0, "nginx quits in peace");
    assert!(host.get("127.0.0.1:8080").is_err());
    let _ = web.does("delete");
    host.prune();
    assert!(!host.state().exists());
}

#[test]
fn stop_ends_a_foreground_container() {
    let host = Host::new();
    let mut running = host.sh(&["--name", "front"], POLITE).start();
    running.wait_for_output("ready");
    let _ = verb(&host, &["stop", "front"]).ok();
    let _ = running.finish().code(0);
    assert_gone(&host, "front");
    let mut running = host.sh(&["--name", "front"], STUBBORN).start();
    running.wait_for_output("ready");
    let _ = verb(&host, &["delete", "-f", "front"]).ok();
    let _ = running.finish().code(137);
    assert_gone(&host, "front");
}

#[test]
fn kill_sends_any_signal() {
    let host = Host::new();
    let script =
        "for s in HUP USR1 USR2 TERM WINCH; do trap \"echo got $s\" $s; done; echo ready; while :; do sleep 0.05; done";
    let job = host.background("job", &[], script);
    job.wait_for_log("ready");
    for (words, signal) in [
        (&["kill", "job", "HUP"][..], "HUP"),
        (&["kill", "-s", "USR1", "job"], "USR1"),
        (&["kill", "--signal=SIGUSR2", "job"], "USR2"),
        (&["kill", "job", "15"], "TERM"),
        (&["kill", "-s", "28", "job"], "WINCH"),
    ] {
        assert_eq!(verb(&host, words).ok(), "job\n");
        job.wait_for_log(&format!("got {signal}"));
        assert_eq!(job.status(), "running");
    }
    let line = verb(&host, &["kill", "-s", "NOSUCH", "job"]).refused(125);
    assert!(line.contains("NOSUCH"), "{line}");
    for bad in ["65", "-1", "", "SIG", "RTMIN+31", "RTMAX-31", "RTMAX-64", "RTMIN-1", "RTMAX+1", "32", "33"] {
        let _ = verb(&host, &["kill", "-s", bad, "job"]).refused(125);
    }
    assert_eq!(job.does("kill"), "job\n");
    assert_eq!(job.end(), 137);
    let line = verb(&host, &["kill", "job"]).refused(125);
    assert!(line.contains("is not running"), "{line}");
}

#[test]
fn kill_knows_every_name_of_a_signal() {
    let host = Host::new();
    // The script prints the number of a signal, since a shell's trap knows fewer names than signal(7). It has no
    // children of its own, and never sleeps: a signal between read's look for one and read(2) would not wake it up.
    let numbers = (1..=8).chain(10..=18).chain(20..=31).chain(34..=64);
    let traps: String = numbers.map(|signal| format!("trap 'echo got {signal}.' {signal}; ")).collect();
    let script = format!("{traps} echo ready; while :; do :; done");
    let job = host.background("job", &[], &script);
    job.wait_for_log("ready");
    for (name, number) in [
        ("HUP", 1),
        ("SIGINT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("IOT", 6),
        ("SIGIOT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CLD", 17),
        ("SIGCONT", 18),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("winch", 28),
        ("IO", 29),
        ("POLL", 29),
        ("SIGPOLL", 29),
        ("PWR", 30),
        ("SYS", 31),
        ("UNUSED", 31),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMIN+1", 35),
        ("RTMAX", 64),
        ("RTMAX-1", 63),
        ("SIGRTMAX-29", 35),
        ("64", 64),
        ("7", 7),
    ] {
        let seen = || job.logged().lines().filter(|line| *line == format!("got {number}.")).count();
        for words in [&["kill", "job", name][..], &["kill", "-s", name, "job"]] {
            let before = seen();
            assert_eq!(verb(&host, words).ok(), "job\n", "{words:?}");
            wait_until(name, || seen() == before + 1);
        }
    }
    // 0 asks whether there is somebody to be sent a signal.
    for words in [&["kill", "job", "0"][..], &["kill", "-s", "0", "job"], &["kill", "-a", "-s", "0", "job"]] {
        assert_eq!(verb(&host, words).ok(), "job\n");
    }
    assert_eq!(job.status(), "running");
    let _ = verb(&host, &["stop", "-t", "0", "job"]).ok();
    assert!(verb(&host, &["kill", "-s", "0", "job"]).refused(125).contains("is not running"));
    let line = host.sh(&["--stop-signal", "0"], "true").run().refused(125);
    assert!(line.contains("--stop-signal"), "{line}");
}

#[test]
fn misspelt_signal_reaches_nobody() {
    let host = Host::new();
    let [one, two] = ["one", "two"].map(|name| host.background(name, &[], "exec sleep 600"));
    for words in [
        &["one", "SIGHUUP"][..],
        &["one", "two", "RTMAX+1"],
        &["one", "65"],
        &["one", "HUP "],
        &["one", ""],
        // Nor one that stands in the wrong place.
        &["HUP", "one"],
        &["one", "0", "two"],
        &["-a", "one", "KILLL"],
    ] {
        let line = verb(&host, &[&["kill"], words].concat()).refused(1);
        assert!(line.contains("no such container") && line.contains("no signal was sent"), "{line}");
    }
    for job in [&one, &two] {
        assert_eq!(job.status(), "running");
    }
    // Nor is one killed that is named before, or behind, one that is not there.
    for words in [["one", "nosuch", "two"], ["nosuch", "one", "two"]] {
        let line = verb(&host, &[&["kill"][..], &words].concat()).refused(1);
        assert!(line.contains("nosuch") && line.contains("no signal was sent"), "{line}");
        assert_eq!((one.status(), two.status()), ("running".into(), "running".into()));
    }
    // A container that is called like a signal is meant by -s, and by what can be none.
    let hup = host.background("hup", &[], "exec sleep 600");
    let _ = verb(&host, &["kill", "-s", "KILL", "hup"]).ok();
    assert_eq!(hup.end(), 137);
    let _ = verb(&host, &["kill", "one", "two"]).ok();
    assert_eq!((one.end(), two.end()), (137, 137));
}

#[test]
fn kill_all_does_not_signal_a_reused_pid() {
    let host = Host::new();
    let script = "trap : TERM; sleep 601 & child=$!; while [ ! -e /host/go ]; do sleep 0.02; done; \
                  kill -9 $child; wait $child; echo gone; exec sleep 600";
    let shared = host.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    let job = host.background("job", &["-v", &format!("{}:/host", shared.display())], script);
    let mut child = 0;
    wait_until("the child", || {
        child = host.processes_named("sleep 601").first().copied().unwrap_or_default();
        child > 0
    });
    let inside = |pid: u32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default().to_owned();
        // The test's own number, this host's, and that in the container.
        line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).unwrap_or_default()
    };
    let number = inside(child);
    let mut kill = Traced::start(host.kontena().args(["kill", "-a", "-s", "TERM", "job"]));
    // It knows the pid, and is about to open it.
    loop {
        let (call, arguments) = kill.next_call().expect("it opens the process by its pid");
        if (call, arguments[0]) == (nix::libc::SYS_pidfd_open as u64, number) {
            break;
        }
    }
    fs::write(shared.join("go"), "").unwrap();
    job.wait_for_log("gone");
    // Somebody else of this host gets the number.
    let script = format!("echo {} > /proc/sys/kernel/ns_last_pid; sleep 602 & echo $!; wait", number - 1);
    let innocent = host.program("sh").args(["-c", &script]).start();
    wait_until("its pid", || innocent.stdout().contains('\n'));
    assert_eq!(innocent.stdout().trim(), number.to_string(), "the test's own business");
    assert_eq!(kill.finish().ok(), "job\n");
    // Its signals have arrived by now.
    assert_eq!(host.says("sh", &["-c", &format!("kill -0 {number} && echo alive")]), "alive\n");
}

#[test]
fn unwritable_output_is_an_error() {
    let host = Host::new();
    let job = host.background("job", &[], "echo a line; echo another >&2; exec sleep 600");
    job.wait_for_log("another");
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    for words in [
        &["list"][..],
        &["list", "-q"],
        &["inspect", "job"],
        &["ps", "job"],
        &["stats"],
        &["stats", "--stream"],
        &["logs", "job"],
        &["logs", "-f", "job"],
        &["kill", "-s", "0", "job"],
        &["--version"],
        &["run", "--help"],
    ] {
        let outcome = host.kontena().args(words).with(|command| _ = command.stdout(full())).run();
        let line = outcome.refused(125);
        assert!(line.contains("write to the standard output: ENOSPC"), "{line}");
    }
    let outcome = host.kontena().args(["logs", "job"]).with(|command| _ = command.stderr(full())).run();
    assert_eq!(outcome.code, 125, "{outcome}");
    // Losing the output of a command on a terminal is reported, too.
    let outcome = host.exec(&["-t"], "job", &["echo", "lost"]).with(|command| _ = command.stdout(full())).run();
    assert_eq!(outcome.code, 125, "{outcome}");
}

#[test]
fn piped_input_to_a_terminal_causes_a_warning() {
    let host = Host::new();
    let warned = |outcome: Outcome| {
        assert_eq!((outcome.code, outcome.stderr.matches("stdin is not a terminal").count()), (0, 1), "{outcome}");
    };
    warned(host.sh(&["-it"], "read -r line").input(b"a line\n").run());
    let _job = host.background("job", &[], "exec sleep 600");
    warned(host.exec(&["-it"], "job", &["sh", "-c", "read -r line"]).input(b"a line\n").run());
    // Without -i, no input is expected.
    assert_eq!(host.exec(&["-t"], "job", &["true"]).run().stderr, "");
}

#[test]
fn kill_all_reaches_every_process_once() {
    let host = Host::new();
    let child = "trap 'echo child' USR1; echo here; while :; do sleep 0.05; done";
    let script = format!("sh -c \"{child}\" & trap 'echo parent' USR1; echo ready; while :; do sleep 0.05; done");
    let job = host.background("job", &[], &script);
    job.wait_for_log("ready");
    job.wait_for_log("here");
    let mut joined =
        job.exec(&["sh", "-c", "trap 'echo joined' USR1; echo there; while :; do sleep 0.05; done"]).start();
    joined.wait_for_output("there");
    for round in 1..=10 {
        let _ = verb(&host, &["kill", "-a", "-s", "USR1", "job"]).ok();
        let count = |what: &str| job.logged().lines().filter(|line| *line == what).count();
        let counts = || (count("child"), count("parent"), joined.stdout().matches("joined").count());
        wait_until("the traps", || {
            let (child, parent, joined) = counts();
            child >= round && parent >= round && joined >= round
        });
        thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(counts(), (round, round, round));
    }
    drop(joined);
}

#[test]
fn wait_returns_the_exit_status() {
    let host = Host::new();
    let job = host.background("job", &[], "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done");
    job.wait_for_log("ready");
    let mut waits: Vec<_> = (0..3).map(|_| host.kontena().args(["wait", "job"]).start()).collect();
    thread::sleep(std::time::Duration::from_millis(50));
    assert!(waits.iter_mut().all(|wait| !wait.has_ended()));
    let _ = verb(&host, &["kill", "job", "TERM"]).ok();
    for wait in waits {
        assert_eq!(wait.finish().code(9).stdout, "9\n");
    }
    let other = host.background("other", &[], "exit 2");
    let outcome = verb(&host, &["wait", "job", "other"]).code(2);
    assert_eq!(outcome.stdout, "9\n2\n");
    let _ = (job.does("delete"), other.does("delete"));
}

#[test]
fn wait_returns_the_exit_status_of_containers_that_leave_no_record() {
    let host = Host::new();
    for round in 0..30 {
        let code = 1 + round % 7;
        let file = host.directory().join("go");
        let _ = fs::remove_file(&file);
        let volume = format!("{}:/host", host.directory().display());
        let script = format!("until [ -e /host/go ]; do sleep 0.01; done; exit {code}");
        let in_front = round % 2 == 0;
        let options = if in_front {
            &["--name", "job", "-v", &*volume][..]
        } else {
            &["-d", "--rm", "--name", "job", "-v", &*volume]
        };
        let running = host.sh(options, &script).start();
        let job = Background::new(&host, "job");
        job.wait_until("running");
        let waits: Vec<_> = (0..2).map(|_| host.kontena().args(["wait", "job"]).start()).collect();
        thread::sleep(std::time::Duration::from_millis(10));
        fs::write(&file, "").unwrap();
        for wait in waits {
            let outcome = wait.finish();
            // One that came too late finds nothing.
            if outcome.code != 125 {
                assert_eq!((outcome.code, &*outcome.stdout), (code, &*format!("{code}\n")), "{outcome}");
            }
        }
        let _ = running.finish().code(if in_front { code } else { 0 });
        wait_until("the name to be free", || !job.directory().exists());
    }
}

#[test]
fn delete_removes_ended_containers() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let job = host.background("job", &[], POLITE);
    job.wait_for_log("ready");
    let line = verb(&host, &["delete", "job"]).refused(125);
    assert!(line.contains("job is running") && line.contains("--force"), "{line}");
    assert_eq!(job.status(), "running");
    let _ = job.does("stop");
    // Its name is not free before.
    let line = host.sh(&["--name", "job"], "true").run().refused(125);
    assert!(line.contains("kontena delete job"), "{line}");
    let line = host.sh(&["-d", "--name", "job"], "true").run().refused(125);
    assert!(line.contains("kontena delete job"), "{line}");
    assert_eq!(job.end(), 0, "nothing has become of it by that");
    assert_eq!(job.does("rm"), "job\n");
    assert_gone(&host, "job");
    let _ = host.sh(&["--name", "job"], "true").run().ok();

    let job = host.background("job", &[], STUBBORN);
    job.wait_for_log("ready");
    assert_eq!(verb(&host, &["rm", "-f", "job"]).ok(), "job\n");
    assert_gone(&host, "job");
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn ended_containers_outlive_prune() {
    let host = Host::new();
    let options = ["-d", "--name", "web", "-p", "8080:80"];
    let _ = host.run(&options, host.demo(), &["/bin/true"]).run().ok();
    let web = Background::new(&host, "web");
    assert_eq!(web.end(), 0);
    host.prune();
    assert_eq!(web.end(), 0);
    let snapshot = host.snapshot();
    let kontenas = |kind: &str| snapshot.lines(kind).iter().filter(|line| line.contains("kontena0")).count();
    assert_eq!((kontenas("links"), kontenas("nft ruleset")), (0, 0), "what is shared has gone");
    assert!(snapshot.lines("cgroups").is_empty());
}

#[test]
fn paused_containers_do_nothing_until_they_are_resumed() {
    let host = Host::new();
    let job = host.background("job", &[], "trap 'exit 6' TERM; while :; do echo tick; sleep 0.02; done");
    let ticks = || job.logged().matches("tick").count();
    wait_until("ticks", || ticks() > 2);
    assert_eq!(job.does("pause"), "job\n");
    let pause = |milliseconds| thread::sleep(std::time::Duration::from_millis(milliseconds));
    // Its output so far is still on its way.
    wait_until("the log to stand still", || {
        let before = ticks();
        pause(100);
        ticks() == before
    });
    let before = ticks();
    pause(300);
    assert_eq!(ticks(), before, "frozen");
    assert_eq!(job.status(), "paused");
    assert!(verb(&host, &["list"]).ok().contains("paused"));
    let line = job.exec(&["true"]).run().refused(125);
    assert!(line.contains("job is paused") && line.contains("kontena resume job"), "{line}");
    let _ = job.does("pause");
    let _ = job.does("resume");
    wait_until("more ticks", || ticks() > before);
    assert_eq!(job.status(), "running");
    let _ = job.exec(&["true"]).run().ok();
    // It can be stopped while it is paused, by its own signal, and deleted.
    let _ = job.does("pause");
    let _ = job.does("stop");
    assert_eq!(job.end(), 6);
    let line = verb(&host, &["pause", "job"]).refused(125);
    assert!(line.contains("is not running"), "{line}");
    let other = host.background("other", &[], POLITE);
    let _ = other.does("pause");
    let _ = verb(&host, &["rm", "-f", "other"]).ok();
    assert_gone(&host, "other");
    let killed = host.background("killed", &[], POLITE);
    let _ = killed.does("pause");
    let _ = killed.does("kill");
    assert_eq!(killed.end(), 137);
}

#[test]
fn update_changes_limits_of_running_containers() {
    let host = Host::new();
    let job = host.background("job", &["--cgroup-conf", "cgroup.max.depth=2"], "exec sleep 600");
    let file = |name: &str| fs::read_to_string(job.leaf().join(name)).unwrap().trim().to_owned();
    assert_eq!(verb(&host, &["update", "--cgroup-conf", "cgroup.max.depth=7", "job"]).ok(), "job\n");
    assert_eq!(file("cgroup.max.depth"), "7");
    for (option, controller, name, value) in [
        (&["-m", "64m"][..], "memory", "memory.max", "67108864"),
        (&["-m", "128m", "--memory-swap=-1"], "memory", "memory.max", "134217728"),
        (&["--pids-limit", "50"], "pids", "pids.max", "50"),
        (&["--pids-limit=-1"], "pids", "pids.max", "max"),
        (&["--cpus", "0.5"], "cpu", "cpu.max", "50000 100000"),
        (&["--cpu-shares", "512"], "cpu", "cpu.weight", "59"),
        (&["--cgroup-conf", "hugetlb.2MB.max=4m"], "hugetlb", "hugetlb.2MB.max", "4194304"),
    ] {
        let outcome = verb(&host, &[&["update"], option, &["job"]].concat());
        if has(&host, controller) {
            let _ = outcome.ok();
            assert_eq!(file(name), value, "{option:?}");
            assert_eq!(job.status(), "running");
        } else if value == "max" {
            // No limit, which is what it has.
            let _ = outcome.ok();
        } else {
            assert!(outcome.refused(125).contains(&format!("the {controller} controller")));
        }
    }
    if has(&host, "pids") {
        let _ = verb(&host, &["update", "--pids-limit", "33", "job"]).ok();
        assert_eq!(job.inspect()["limits"]["pids.max"], "33");
    }
    assert!(verb(&host, &["update", "job"]).refused(125).contains("no limit given"));
    assert!(verb(&host, &["update", "-m", "x", "job"]).refused(125).contains("\"x\""));
    let _ = job.does("kill");
    let _ = job.end();
    assert!(verb(&host, &["update", "--pids-limit", "5", "job"]).refused(125).contains("is not running"));
}

#[test]
fn stats_show_resource_usage() {
    let host = Host::new();
    let busy = host.background("busy", &[], "while :; do :; done");
    let idle = host.background("idle", &[], "exec sleep 600");
    // The longer they run, the smaller the share of the start.
    wait_until("one that is busy and one that is idle", || {
        let table = verb(&host, &["stats"]).ok();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("NAME") && lines.len() == 3, "{table}");
        let share = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap();
        share(lines[1]) > 10.0 && share(lines[2]) < share(lines[1]) / 5.0
    });
    let all = json(verb(&host, &["stats", "--format", "json", "busy", "idle"]));
    assert_eq!((&all[0]["name"], &all[1]["name"]), (&"busy".into(), &"idle".into()));
    let used = |place: usize| all[place]["cpu.stat"]["usage_usec"].as_u64().unwrap();
    assert!(used(0) > used(1), "{all}");
    assert_eq!(verb(&host, &["stats", "idle"]).ok().lines().count(), 2);

    // A stream goes on, and ends with its reader.
    let mut stream = host.kontena().args(["stats", "--stream", "busy"]).start();
    wait_until("three tables", || stream.stdout().matches("NAME").count() >= 3);
    assert!(!stream.has_ended());
    stream.signal(Signal::SIGTERM);
    let _ = stream.finish().code(-15);
    let _ = host.kontena().args(["stats", "--stream"]).through("sh", &["-c", "\"$@\" | head -n 1", "sh"]).run().ok();
    drop((busy, idle));
}

#[test]
fn inspect_prints_all_details() {
    let host = Host::new();
    let volume = format!("{}:/data:ro", host.directory().display());
    let options = [
        "-e",
        "KEY=va\"l\\ue\tü",
        "--hostname",
        "box",
        "-v",
        &volume,
        "--tmpfs",
        "/scratch",
        "--read-only",
        "-u",
        "33",
        "-w",
        "/var",
        "--stop-signal",
        "QUIT",
        "--stop-timeout",
        "77",
        "--restart",
        "on-failure:3",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_BIND_SERVICE",
    ];
    let job = host.background("job", &options, "exec sleep 600");
    let all = job.inspect();
    for (key, value) in [
        ("name", Value::from("job")),
        ("status", "running".into()),
        ("running", true.into()),
        ("restarts", 0.into()),
        ("hostname", "box".into()),
        ("read_only", true.into()),
        ("user", "33".into()),
        ("workdir", "/var".into()),
        ("stop_signal", "SIGQUIT".into()),
        ("stop_timeout", 77.into()),
        ("restart", "on-failure:3".into()),
        ("command", vec!["sh", "-c", "exec sleep 600"].into()),
        ("rootfs", host.debian().to_str().unwrap().into()),
        ("cgroup", job.leaf().to_str().unwrap().into()),
        ("terminal", false.into()),
        ("no_new_privileges", true.into()),
        ("seccomp", true.into()),
        ("directory", job.directory().to_str().unwrap().into()),
    ] {
        assert_eq!(all[key], value, "{key}: {all}");
    }
    assert!(all["env"].as_array().unwrap().contains(&"KEY=va\"l\\ue\tü".into()), "{all}");
    assert_eq!(all["capabilities"], serde_json::json!(["NET_BIND_SERVICE"]));
    let mounts = all["mounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["type"] == "bind" && mount["target"] == "/data"), "{all}");
    assert!(mounts.iter().any(|mount| mount["type"] == "tmpfs" && mount["target"] == "/scratch"), "{all}");
    assert!(all.get("exit").is_none(), "{all}");
    let _ = job.does("kill");
    let _ = job.end();
    let all = job.inspect();
    assert_eq!(
        (&all["status"], &all["running"], &all["exit"]["status"]),
        (&"exited".into(), &false.into(), &137.into())
    );
    // Both in one array.
    let _ = host.background("other", &[], "exit 0");
    assert_eq!(json(verb(&host, &["inspect", "job", "other"])).as_array().map(Vec::len), Some(2));
}

#[test]
fn exit_record_has_the_code_or_signal() {
    let host = Host::new();
    for (script, status, signal) in [
        ("exit 0", 0, None),
        ("exit 7", 7, None),
        ("exit 255", 255, None),
        ("exit 128", 128, None),
        ("kill -TERM $$; sleep 600", 143, Some("SIGTERM")),
        ("kill -SEGV $$; sleep 600", 139, Some("SIGSEGV")),
        ("kill -KILL $$; sleep 600", 137, Some("SIGKILL")),
    ] {
        let job = host.background("job", &[], script);
        assert_eq!(job.end(), status);
        let exit = job.exit();
        assert_eq!(exit.get("signal").and_then(Value::as_str), signal, "{script}: {exit}");
        assert_eq!((&exit["oom_killed"], &exit["limits_hit"]), (&false.into(), &serde_json::json!([])), "{exit}");
        assert!(exit["at"].as_str().unwrap().ends_with('Z'), "{exit}");
        let _ = job.does("delete");
    }
}

#[test]
fn exit_record_has_the_limits_that_were_hit() {
    let host = Host::new();
    if !has(&host, "memory") || !has(&host, "pids") {
        let options = ["-d", "-m", "16m"];
        assert!(host.sh(&options, "true").run().refused(125).contains("the memory controller"));
        return;
    }
    let options = ["-m", "16m", "--memory-swap", "16m"];
    let job = host.background("memory", &options, "exec tail /dev/zero");
    assert_eq!(job.end(), 137);
    let exit = job.exit();
    assert_eq!(exit["oom_killed"], true, "{exit}");
    assert_eq!(exit["limits_hit"], serde_json::json!(["memory.max=16777216"]), "{exit}");
    assert!(verb(&host, &["list"]).ok().contains("out of memory"));
    assert_eq!(verb(&host, &["wait", "memory"]).code(137).stdout, "137\n");
    // A child that is killed leaves its parent's status.
    let job = host.background("child", &options, "tail /dev/zero; exit 3");
    assert_eq!(job.end(), 3);
    assert_eq!((&job.exit()["oom_killed"], &job.exit()["status"]), (&true.into(), &3.into()));
    let bomb = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1 & done; exit 4";
    let job = host.background("bomb", &["--pids-limit", "10"], bomb);
    let _ = job.end();
    let exit = job.exit();
    assert_eq!(
        (&exit["oom_killed"], &exit["limits_hit"]),
        (&false.into(), &serde_json::json!(["pids.max=10"])),
        "{exit}"
    );
    // Each life has its own: here the second one hits nothing.
    let file = host.directory().join("again");
    let volume = format!("{}:/host", host.directory().display());
    let script = "[ -e /host/again ] && exit 0; > /host/again; exec tail /dev/zero";
    let job = host.background("twice", &[&options[..], &["-v", &volume, "--restart", "on-failure:1"]].concat(), script);
    assert_eq!(job.end(), 0);
    assert!(file.exists());
    assert_eq!((&job.exit()["oom_killed"], &job.exit()["limits_hit"]), (&false.into(), &serde_json::json!([])));
}

#[test]
fn attached_client_is_told_of_out_of_memory() {
    let host = Host::new();
    let options = ["-m", "16m", "--memory-swap", "16m"];
    if !has(&host, "memory") {
        return assert!(host.sh(&options, "true").run().refused(125).contains("the memory controller"));
    }
    // The same in the foreground, on a terminal, and for a later client.
    let words = "hit its memory limit, 16777216 bytes";
    assert!(host.sh(&options, "exec tail /dev/zero").run().refused(137).contains(words));
    let terminal = host.sh(&[&options[..], &["-it"]].concat(), "read -r line; exec tail /dev/zero").on_terminal();
    terminal.wait_until_raw();
    terminal.type_in("go\r");
    assert_eq!(terminal.finish(), 137, "{}", terminal.text());
    assert!(terminal.text().contains(words), "{}", terminal.text());
    let _ = host.background("job", &[&options[..], &["-i"]].concat(), "read -r line; exec tail /dev/zero");
    let outcome = host.kontena().args(["attach", "job"]).input(b"go\n").run().code(137);
    assert!(outcome.stderr.contains(words), "{outcome}");
}

#[test]
fn final_stats_are_printed_for_the_client() {
    let host = Host::new();
    let terminal = host.sh(&["-t", "--stats"], "exit 3").on_terminal();
    assert_eq!(terminal.finish(), 3);
    assert!(terminal.text().contains("CPU time, user"), "{}", terminal.text());
    // In the background, for an attached client; and resources that need a controller are counted from the start.
    let job = host.background("job", &["-i", "--stats"], "read -r line");
    let figures = json(verb(&host, &["stats", "--format", "json", "job"]));
    for (controller, file) in [("memory", "memory.current"), ("pids", "pids.current")] {
        assert_eq!(figures[0][file].is_u64(), has(&host, controller), "{file}: {figures}");
    }
    let outcome = host.kontena().args(["attach", "job"]).input(b"go\n").run().code(0);
    assert!(outcome.stderr.contains("CPU time, user"), "{outcome}");
    assert_eq!(job.end(), 0);
}

#[test]
fn containers_of_two_roots_do_not_see_each_other() {
    let host = Host::new();
    let _job = host.background("job", &[], "exec sleep 600");
    let other = host.directory().join("other");
    let program = host.program(tests::launcher()).arg("--root").arg(&other).args(["list", "-q"]);
    assert_eq!(program.run().ok(), "");
    // And who looks first makes no more than the directory, and its mark.
    let names: Vec<_> = fs::read_dir(&other).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".kontena"]);
}

#[test]
fn foreground_container_is_listed_while_it_runs() {
    let host = Host::new();
    let running = host.sh(&["--name", "front"], "echo ready; exec sleep 600").start();
    let mut front = Container::new(&host, "front", running);
    front.wait_for_output("ready");
    let seen = Background::new(&host, "front");
    assert_eq!(seen.status(), "running");
    let _ = host.exec(&[], "front", &["true"]).run().ok();
    let line = verb(&host, &["logs", "front"]).refused(125);
    assert!(line.contains("front has no log"), "{line}");
    let line = verb(&host, &["attach", "front"]).refused(125);
    assert!(line.contains("cannot attach to front"), "{line}");
    front.signal(Signal::SIGKILL);
    let leaf = front.leaf();
    let _ = front.into_running().finish().code(-9);
    wait_until("its end", || leaf_processes(&leaf).is_empty());
    // A killed one leaves remains for the next command, and is not shown as running.
    assert_ne!(seen.status(), "running");
    host.prune();
    assert_gone(&host, "front");
}

#[test]
fn many_containers_do_not_interfere() {
    let host = Host::new();
    let names: Vec<String> = (0..20).map(|number| format!("job{number:02}")).collect();
    thread::scope(|scope| {
        for name in &names {
            let host = &host;
            scope.spawn(move || drop(host.background(name, &[], &format!("echo {name}; exit 0"))));
        }
    });
    wait_for("all to end", || host.list().iter().all(|seen| seen["status"] == "exited").then_some(()));
    for name in &names {
        assert_eq!(Background::new(&host, name).logged(), format!("{name}\n"));
    }
    let table = verb(&host, &["list", "-q"]).ok();
    assert_eq!(table.lines().collect::<Vec<_>>(), names);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let _ = verb(&host, &[&["delete"], &all[..]].concat()).ok();
    assert_eq!(host.list().len(), 0);
    assert!(patience().as_secs() > 0);
}
