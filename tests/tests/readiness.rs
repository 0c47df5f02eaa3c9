//! Readiness: that `run -d --wait-ready` comes back when the container is ready, and when it never will be; and that in
//! the foreground the caller's own supervisor is told.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use tests::{Background, Container, Host, Running, wait_until};

/// A directory that a container sees as /host, and how it is given it.
fn shared(host: &Host) -> (PathBuf, String) {
    let path = host.directory().join("shared");
    fs::create_dir_all(&path).unwrap();
    let volume = format!("{}:/host", path.display());
    (path, volume)
}

/// Says that it is ready when /host/go is there.
fn ready_by(how: &str) -> String {
    format!("until [ -e /host/go ]; do sleep 0.02; done; {how}; exec sleep 600")
}

/// Asserts that a start waits for /host/go, and comes back with the name then.
#[track_caller]
fn assert_waits(host: &Host, mut starting: Running) {
    let (path, _) = shared(host);
    let job = Background::new(host, "job");
    wait_until("its command to run", || job.processes().len() >= 2);
    job.wait_until("running");
    sleep(Duration::from_millis(200));
    assert!(!starting.has_ended(), "{}", starting.stderr());
    assert_eq!(job.status(), "running", "it runs, and is not ready");
    fs::write(path.join("go"), "").unwrap();
    assert_eq!(starting.finish().ok(), "job\n");
    assert_eq!(job.status(), "running");
    fs::remove_file(path.join("go")).unwrap();
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
}

/// Sends a datagram to $NOTIFY_SOCKET, by the intruder.
fn notify(text: &str) -> String {
    format!("/intruder notify '{text}'")
}

fn intruder() -> String {
    format!("{}:/intruder:ro", tests::intruder().display())
}

#[test]
fn newline_on_an_fd_makes_it_ready() {
    let host = Host::new();
    let (_, volume) = shared(&host);
    for fd in ["3", "7", "255"] {
        let options = ["-d", "--name", "job", "-v", &volume, "--wait-ready", "--notify-fd", fd];
        let how = if fd == "255" { "bash -c 'echo ready >&255'".into() } else { format!("echo ready >&{fd}") };
        assert_waits(&host, host.sh(&options, &ready_by(&how)).start());
    }
    // On a terminal too.
    let options = ["-d", "-t", "--name", "job", "-v", &volume, "--wait-ready", "--notify-fd", "3"];
    assert_waits(&host, host.sh(&options, &ready_by("echo >&3")).start());
    // Bytes before the newline do not count.
    let options = ["-d", "--name", "job", "-v", &volume, "--wait-ready", "--notify-fd", "3"];
    let how =
        "printf almost >&3; sleep 0.2; rm /host/go; until [ -e /host/go ]; do sleep 0.02; done; echo >&3; : > /host/go";
    let starting = host.sh(&options, &ready_by(how)).start();
    let job = Background::new(&host, "job");
    wait_until("it", || job.processes().len() >= 2);
    fs::write(shared(&host).0.join("go"), "").unwrap();
    wait_until("its first part", || !shared(&host).0.join("go").exists());
    assert_waits(&host, starting);
}

#[test]
fn only_the_command_has_the_fd() {
    let host = Host::new();
    let script =
        "ls /proc/self/fd | tr '\\n' ' ' > /dev/stderr; readlink /proc/self/fd/5 >&2; echo >&5; exec sleep 600";
    let options = ["--wait-ready", "--notify-fd", "5"];
    let job = host.background("job", &options, script);
    job.wait_for_log("pipe:");
    let logged = job.logged();
    assert!(logged.starts_with("0 1 2 3 5 pipe:"), "{logged}");
    // Neither a command that joins it has it, nor its init.
    assert_eq!(job.exec(&["sh", "-c", "[ -e /proc/self/fd/5 ] || echo none"]).run().ok(), "none\n");
    let fds = || fs::read_dir(format!("/proc/{}/fd", job.init())).unwrap().count();
    wait_until("it to have stdio alone", || fds() == 3);
    for bad in ["0", "2", "256", "-1", "x", ""] {
        let line = host.sh(&["-d", "--notify-fd", bad], "true").run().refused(125);
        assert!(line.contains(&format!("--notify-fd \"{bad}\"")), "{line}");
    }
}

#[test]
fn datagram_makes_it_ready() {
    let host = Host::new();
    let (_, volume) = shared(&host);
    for how in ["READY=1", "STATUS=up\nREADY=1\n", "MAINPID=1\nREADY=1"] {
        let options = ["-d", "--name", "job", "-v", &volume, "-v", &intruder(), "--wait-ready", "--sdnotify"];
        assert_waits(&host, host.sh(&options, &ready_by(&notify(how))).start());
    }
    // As another user, and in a read-only container.
    let options = [
        "-d",
        "--name",
        "job",
        "-v",
        &volume,
        "-v",
        &intruder(),
        "--wait-ready",
        "--sdnotify",
        "-u",
        "33",
        "--read-only",
    ];
    assert_waits(&host, host.sh(&options, &ready_by(&notify("READY=1"))).start());
    // Other messages do not count.
    let options = ["-d", "--name", "job", "-v", &volume, "-v", &intruder(), "--wait-ready", "--sdnotify"];
    let first = ["READY=0", "READY=11", "XREADY=1", "STATUS=READY=1", ""].map(notify).join("; ");
    let starting = host.sh(&options, &format!("{first}; {}", ready_by(&notify("READY=1")))).start();
    assert_waits(&host, starting);
}

#[test]
fn notify_socket_exists_only_on_request() {
    let host = Host::new();
    let out = host
        .sh(&[], "echo [$NOTIFY_SOCKET]; [ -e /dev/notify ] || echo none")
        .env("NOTIFY_SOCKET", "/run/host")
        .run()
        .ok();
    assert_eq!(out, "[]\nnone\n");
    let out = host.sh(&["--sdnotify"], "echo [$NOTIFY_SOCKET]; stat -c %F:%a $NOTIFY_SOCKET").run().ok();
    assert_eq!(out, "[/dev/notify]\nsocket:666\n");
}

#[test]
fn answering_port_makes_it_ready() {
    let host = Host::new();
    let (_, volume) = shared(&host);
    let configuration = host.directory().join("nginx.conf");
    fs::write(
        &configuration,
        "daemon off; pid /tmp/pid; events {} http { client_body_temp_path /tmp/body; \
         server { listen 80; root /var/www; } }",
    )
    .unwrap();
    // nginx of the demo, which begins later.
    let rootfs = host.debian();
    let demo = format!("{}:/demo:ro", host.demo().display());
    let own = format!("{}:/etc/own.conf:ro", configuration.display());
    let options = ["-d", "--name", "job", "-v", &volume, "-v", &demo, "-v", &own, "-p", "8080:80", "--wait-ready"];
    let script =
        "until [ -e /host/go ]; do sleep 0.02; done; exec /demo/usr/sbin/nginx -p /tmp -c /etc/own.conf -e stderr";
    let mut starting = host.run(&options, rootfs, &["sh", "-c", script]).start();
    let job = Background::new(&host, "job");
    wait_until("its command to run", || job.processes().len() >= 2);
    sleep(Duration::from_millis(200));
    assert!(!starting.has_ended());
    assert!(host.get("127.0.0.1:8080").is_err());
    fs::write(shared(&host).0.join("go"), "").unwrap();
    assert_eq!(starting.finish().ok(), "job\n");
    // It answers at once.
    assert!(
        host.get("127.0.0.1:8080").is_err_and(|page| page.contains("HTTP/1.1")) || host.get("127.0.0.1:8080").is_ok()
    );
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    // The demo itself, many times: the page is there whenever the start is done.
    for _ in 0..10 {
        let options = ["-d", "--name", "web", "-p", "8080:80", "--wait-ready"];
        let _ = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().ok();
        host.get("127.0.0.1:8080").unwrap();
        let _ = host.kontena().args(["rm", "-f", "web"]).run().ok();
    }
}

#[test]
fn container_that_ends_before_it_is_ready_is_an_error() {
    let host = Host::new();
    for (options, script, status) in [
        (&["--notify-fd", "3"][..], "exit 3", 3),
        (&["--sdnotify"], "exit 0", 0),
        (&["--sdnotify", "--restart", "always"], "exit 7", 7),
        (&["--notify-fd", "3", "--rm"], "kill -KILL $$", 137),
    ] {
        for _ in 0..5 {
            let line =
                host.sh(&[&["-d", "--name", "job", "--wait-ready"], options].concat(), script).run().refused(125);
            assert!(line.contains(&format!("job ended with {status} before it was ready")), "{line}");
            wait_until("nothing to be left", || !host.state().join("job").exists());
        }
    }
    let options = ["-d", "--name", "job", "-p", "8080:80", "--wait-ready"];
    let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("job ended with 0 before it was ready"), "{line}");
    // The end of its log is shown first, and a terminal does not obey it.
    let options = ["-d", "--name", "job", "--sdnotify", "--wait-ready"];
    let script = "for i in $(seq 20); do echo line $i; done; printf '\\033[2Jno end' >&2; sleep 0.1; exit 3";
    let outcome = host.sh(&options, script).run();
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert!(outcome.code == 125 && lines.len() == 11 && lines.contains(&"line 20"), "{outcome}");
    assert!(lines.contains(&"\\x1b[2Jno end") && lines[10].starts_with("kontena: job ended with 3"), "{outcome}");
    let line = host.sh(&[&options[..], &["--log-driver", "none"]].concat(), script).run().refused(125);
    assert!(line.contains("remove --log-driver none"), "{line}");
    // A start that fails says why, and not that.
    let options = ["-d", "--name", "job", "--sdnotify", "--wait-ready", "-w", "/nosuch"];
    assert!(host.sh(&options, "true").run().refused(125).contains("/nosuch"));
    // One that says so and ends has been ready.
    for _ in 0..10 {
        let job = host.background("job", &["--wait-ready", "--notify-fd", "3"], "echo >&3; exit 4");
        assert_eq!(job.end(), 4);
        let _ = job.does("delete");
        let options = ["--wait-ready", "--sdnotify", "-v", &intruder()];
        let job = host.background("job", &options, &format!("{}; exit 5", notify("READY=1")));
        assert_eq!(job.end(), 5);
        let _ = job.does("delete");
    }
}

#[test]
fn fd_closed_without_a_newline_is_an_error() {
    let host = Host::new();
    let options = ["-d", "--name", "job", "--wait-ready", "--notify-fd", "3"];
    let line = host.sh(&options, "exec 3>&-; exec sleep 600").run().refused(125);
    assert!(line.contains("--notify-fd") && line.contains("closed"), "{line}");
    wait_until("nothing to be left", || !host.state().join("job").exists());
    // Where nobody waits for it, it is the command's own business.
    let job = host.background("job", &["--notify-fd", "3"], "exec 3>&-; sleep 0.2; exit 3");
    assert_eq!(job.end(), 3);
}

#[test]
fn wait_can_be_interrupted() {
    let host = Host::new();
    let (path, volume) = shared(&host);
    let begun = path.join("begun");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL, Signal::SIGHUP] {
        for script in ["", "trap '' INT TERM HUP; "] {
            let options = ["-d", "--name", "job", "-v", &volume, "--wait-ready", "--sdnotify", "--restart", "always"];
            let starting = host.sh(&options, &format!("{script}: > /host/begun; while :; do sleep 0.05; done")).start();
            let job = Background::new(&host, "job");
            wait_until("its command to run", || begun.exists());
            fs::remove_file(&begun).unwrap();
            sleep(Duration::from_millis(50));
            starting.signal(signal);
            // A server that does not listen is not waited for; once more, as people do.
            if !script.is_empty() && signal != Signal::SIGKILL {
                sleep(Duration::from_millis(100));
                assert_eq!(job.status(), "running");
                starting.signal(Signal::SIGKILL);
            }
            let outcome = starting.finish();
            assert!(outcome.code != 0, "{outcome}");
            wait_until("nothing to be left", || !job.directory().exists() && !job.leaf().exists());
        }
    }
}

#[test]
fn options_need_each_other() {
    let host = Host::new();
    for (options, word) in [
        (&["--wait-ready", "--sdnotify"][..], "-d"),
        (&["-d", "--wait-ready"], "nothing to wait for"),
        (&["-it", "--wait-ready", "--sdnotify"], "-d"),
    ] {
        let line = host.sh(options, "true").run().refused(125);
        assert!(line.contains("--wait-ready") && line.contains(word), "{line}");
    }
    let options = ["-d", "-p", "5353:53/udp", "--wait-ready"];
    let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("nothing to wait for"), "{line}");
}

#[test]
fn foreground_passes_on_the_callers_fd() {
    // As s6, whose service the foreground run is: what the command writes there, nobody touches in between.
    let host = Host::new();
    let (path, _) = shared(&host);
    let file = path.join("notified");
    let run = |number: u32, script: &str| {
        let fd = number.to_string();
        let redirect = format!("exec {number}> {}; exec \"$@\"", file.display());
        host.sh(&["--notify-fd", &fd], script).through("bash", &["-c", &redirect, "bash"]).run()
    };
    for number in [3, 4, 9] {
        let _ = run(number, &format!("echo up >&{number}; ls /proc/self/fd | tr '\\n' ' ' >&{number}; exit 3")).code(3);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("up\n0 1 2 3"), "{text}");
        assert_eq!(text.lines().nth(1).unwrap().split_whitespace().filter(|fd| *fd == number.to_string()).count(), 1);
    }
    let _ = run(200, "bash -c 'echo high >&200'").ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), "high\n");
}

#[test]
fn missing_fd_is_refused_and_kontenas_own_is_not_used() {
    // Its own are of the host: a directory of them would be a way out (CVE-2024-21626).
    let host = Host::new();
    for number in 3..=40 {
        let fd = number.to_string();
        let program = host.sh(&["--notify-fd", &fd], &format!("readlink /proc/self/fd/{fd}"));
        // Whatever this program has inherited itself.
        let outcome = program.through("bash", &["-c", &format!("exec {fd}>&-; exec \"$@\""), "bash"]).run();
        assert_eq!(outcome.stdout, "", "{outcome}");
        let line = outcome.refused(125);
        assert!(line.contains(&format!("--notify-fd {fd}")) && line.contains("EBADF"), "{line}");
    }
}

#[test]
fn foreground_passes_on_notifications() {
    let host = Host::new();
    // systemd's own socket, by a path and by an abstract name.
    let path = host.directory().join("systemd");
    let by_path = UnixDatagram::bind(&path).unwrap();
    let name = format!("kontena-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    // Of the host's network namespace, in which abstract names are.
    let by_name = host.inside(|| UnixDatagram::bind_addr(&address)).unwrap();
    for (socket, variable) in [(&by_path, path.display().to_string()), (&by_name, format!("@{name}"))] {
        socket.set_read_timeout(Some(tests::patience())).unwrap();
        let text = "READY=1\nSTATUS=serving\nMAINPID=7\nWATCHDOG=1";
        let program =
            host.sh(&["--sdnotify", "-v", &intruder()], &format!("{}; {}", notify(text), notify("STOPPING=1")));
        let _ = program.env("NOTIFY_SOCKET", &variable).run().ok();
        let mut buffer = [0; 4096];
        let mut next = || {
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        // Its pids are not the host's.
        assert_eq!(next(), "READY=1\nSTATUS=serving\n");
        assert_eq!(next(), "STOPPING=1\n");
    }
    // One that is gone, or makes no sense, is no reason not to run.
    for variable in ["/nosuch", "@nosuch", "relative", "", "@", &"x".repeat(200)] {
        let program = host.sh(&["--sdnotify", "-v", &intruder()], &format!("{}; exit 3", notify("READY=1")));
        let _ = program.env("NOTIFY_SOCKET", variable).run().code(3);
    }
}

#[test]
fn watchdog_of_the_service_watches_the_command() {
    let host = Host::new();
    let path = host.directory().join("systemd");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(tests::patience())).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    // The last words come in any case.
    let script = format!(
        "echo $WATCHDOG_USEC,$WATCHDOG_PID; systemd-notify WATCHDOG=1; {}; {}",
        notify("WATCHDOG=trigger\nWATCHDOG_USEC=1"),
        notify("STOPPING=1")
    );
    let run = |options: &[&str], before: &str| {
        let volume = intruder();
        let options = [&["--sdnotify", "-v", &volume], options].concat();
        let by = format!("{before} exec \"$@\"");
        let program = host.sh(&options, &script).through("bash", &["-c", &by, "bash"]);
        program.env("NOTIFY_SOCKET", &path).run().ok()
    };
    for (before, options) in [
        ("WATCHDOG_USEC=2000000 WATCHDOG_PID=$$", &[][..]),
        ("WATCHDOG_USEC=2000000", &[]),
        ("WATCHDOG_USEC=2000000", &["--userns", "map=0:0:65536"]),
    ] {
        assert_eq!(run(options, before), "2000000,\n");
        assert_eq!([next(), next()], ["WATCHDOG=1\n", "STOPPING=1\n"], "{before}");
    }
    // One for another process, or none.
    for before in ["WATCHDOG_USEC=2000000 WATCHDOG_PID=1", "WATCHDOG_PID=$$"] {
        assert_eq!(run(&[], before), ",\n");
        assert_eq!(next(), "STOPPING=1\n", "{before}");
    }
}

#[test]
fn container_cannot_speak_for_the_launcher_to_systemd() {
    let host = Host::new();
    let path = host.directory().join("systemd");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(tests::patience())).unwrap();
    // systemd ends a line at \r, too, and adopts or kills the process that MAINPID names.
    let hostile = [
        "STATUS=hi\rMAINPID=13\rWATCHDOG=trigger",
        "MAINPID=13\nWATCHDOG=trigger\nFDSTORE=1\nNOTIFYACCESS=all\nERRNO=5\nWATCHDOG_USEC=1\nMONOTONIC_USEC=9",
        "X=1\rREADY=1\rSTOPPING=2\nSTATUS=\u{1b}[2J\u{202e}up",
        "RELOADING=1\rMONOTONIC_USEC=9",
    ];
    let says = hostile.map(|text| format!("/intruder notify \"{text}\"")).join("; ");
    let script = format!("{says}; {}", notify("STOPPING=1"));
    let program = host.sh(&["--sdnotify", "-v", &intruder()], &script);
    let _ = program.env("NOTIFY_SOCKET", &path).run().ok();
    let mut all = Vec::new();
    while all.last().is_none_or(|last| last != "STOPPING=1\n") {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        all.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    let reloading = all.remove(2);
    assert_eq!(all, ["STATUS=hi\n", "READY=1\nSTATUS=[2Jup\n", "STOPPING=1\n"]);
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|time| time.strip_suffix('\n'));
    assert!(time.is_some_and(|time| time.parse::<u64>().unwrap() > 9), "{reloading}");
}

#[test]
fn fds_from_a_container_never_block_the_launcher() {
    // A socket with SO_LINGER and unread data: the last close waits for an hour.
    let host = Host::new();
    let (path, volume) = shared(&host);
    let script = ": > /host/begun; until [ -e /host/go ]; do sleep 0.02; done
        /intruder linger && : > /host/sent; exec sleep 600";
    let options = ["--sdnotify", "-v", &volume, "-v", &intruder()];
    // kontena's processes on the host: the launcher, and what it has started beside the init.
    let processes = |launcher: u32| {
        let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
        let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        let is_kontena =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "kontena\n");
        let all = [launcher].into_iter().chain(children).filter(is_kontena);
        all.map(|pid| Pid::from_raw(pid.cast_signed())).collect::<Vec<_>>()
    };
    // No other process closes these fds: the test looks after the sender has ended.
    let attack = |launcher: u32, init: u32| {
        wait_until("its command to run", || path.join("begun").exists());
        let all = processes(launcher);
        all.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
        fs::write(path.join("go"), "").unwrap();
        wait_until("the fds to be sent", || path.join("sent").exists());
        all.iter().for_each(|pid| kill(*pid, Signal::SIGCONT).unwrap());
        // FIN_WAIT1, with data that is not sent; proc_pid_net(5).
        let tcp = || fs::read_to_string(format!("/proc/{init}/net/tcp")).unwrap();
        wait_until("the close", || tcp().lines().any(|line| line.split_whitespace().nth(3) == Some("04")));
        ["begun", "go", "sent"].iter().for_each(|name| fs::remove_file(path.join(name)).unwrap());
        all
    };
    let ends = |all: Vec<Pid>| {
        let stat = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        wait_until("the end of all", || all.iter().map(stat).all(|stat| stat.is_empty() || stat.contains(") Z ")));
    };

    for verb in [&["stop", "-t", "0"][..], &["rm", "-f"]] {
        let job = host.background("job", &options, script);
        let all = attack(job.launcher().as_raw().cast_unsigned(), job.init());
        let _ = host.kontena().args(verb).arg("job").run().ok();
        ends(all);
        let _ = host.kontena().args(["rm", "-f", "job"]).run();
    }
    let running = host.sh(&[&["--name", "job"], &options[..]].concat(), script).start();
    let mut container = Container::new(&host, "job", running);
    let (launcher, init) = (container.pid(), container.init());
    let all = attack(launcher, init);
    let _ = container.stop().code(143);
    ends(all);
    // One whose launcher is killed leaves no waiting process behind.
    let job = host.background("job", &options, script);
    let all = attack(job.launcher().as_raw().cast_unsigned(), job.init());
    kill(job.launcher(), Signal::SIGKILL).unwrap();
    ends(all);
}

#[test]
fn last_messages_are_received() {
    // The launcher looks only when its container has said it all and has ended.
    let host = Host::new();
    let (path, volume) = shared(&host);
    let (begun, go) = (path.join("begun"), path.join("go"));
    let deaf = |init: u32| {
        // Its state and its parent: proc_pid_stat(5).
        let stat = || {
            let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
            let mut words = stat.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned);
            (words.next().unwrap(), words.next().unwrap())
        };
        let launcher = Pid::from_raw(stat().1.parse().unwrap());
        kill(launcher, Signal::SIGSTOP).unwrap();
        fs::write(&go, "").unwrap();
        wait_until("its end", || stat().0 == "Z");
        kill(launcher, Signal::SIGCONT).unwrap();
        fs::remove_file(&go).unwrap();
        fs::remove_file(&begun).unwrap();
    };
    let words = ["STATUS=1", "STATUS=2", "READY=1", "STATUS=4", "STOPPING=1"];
    let says = words.map(notify).join("; ");
    let script = |how: &str| format!(": > /host/begun; until [ -e /host/go ]; do sleep 0.02; done; {how}; exit 3");
    let options = ["--name", "job", "--sdnotify", "-v", &volume, "-v", &intruder()];

    let systemd = host.directory().join("systemd");
    let socket = UnixDatagram::bind(&systemd).unwrap();
    socket.set_read_timeout(Some(tests::patience())).unwrap();
    let job = host.sh(&options, &script(&says)).env("NOTIFY_SOCKET", &systemd).start();
    let mut container = Container::new(&host, "job", job);
    wait_until("its command to run", || begun.exists());
    deaf(container.init());
    let _ = container.into_running().finish().code(3);
    let mut buffer = [0; 64];
    for word in words {
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), format!("{word}\n"));
    }

    // A container that was ready has started, even if it ends at once.
    let long = format!("echo {} >&3", "x".repeat(200));
    let ways = [(vec!["--notify-fd", "3", "-v", &volume], long), (options[2..].to_vec(), says)];
    for (options, how) in ways {
        let options = [&["-d", "--name", "job", "--wait-ready"], &options[..]].concat();
        let starting = host.sh(&options, &script(&how)).start();
        let job = Background::new(&host, "job");
        wait_until("its command to run", || begun.exists());
        deaf(job.init());
        assert_eq!(starting.finish().ok(), "job\n");
        assert_eq!(job.end(), 3);
        let _ = job.does("delete");
    }
}

#[test]
fn notify_socket_exists_after_a_restart() {
    let host = Host::new();
    let (path, volume) = shared(&host);
    let script = format!("{}; echo >> /host/lives; exit 1", notify("READY=1"));
    let options = ["-v", &*volume, "-v", &intruder(), "--sdnotify", "--wait-ready", "--restart", "on-failure:2"];
    let job = host.background("job", &options, &script);
    assert_eq!(
        {
            wait_until("its end", || job.status() == "exited");
            job.end()
        },
        1
    );
    assert_eq!(fs::read_to_string(path.join("lives")).unwrap().lines().count(), 3);
}

#[test]
fn notify_socket_works_with_userns() {
    let host = Host::new();
    let options =
        ["-d", "--name", "job", "--net", "none", "--userns", "map=0:300000:65536", "--sdnotify", "--wait-ready"];
    let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
    let image = tests::images().join("demo.erofs");
    let command = ["/run/intruder", "notify", "READY=1"];
    let _ = host.run(&[&options[..], &["-v", &volume]].concat(), image, &command).run().ok();
    assert_eq!(Background::new(&host, "job").end(), 0);
}

#[test]
fn hostile_datagrams_do_no_harm() {
    let host = Host::new();
    let long = "x".repeat(60_000);
    let texts = ["", "\n\n\n", "=", "READY", "MAINPID=1", &long].map(notify).join("; ");
    let script = format!("{texts}; {}; exec sleep 600", notify("READY=1"));
    let job = host.background("job", &["--sdnotify", "--wait-ready", "-v", &intruder()], &script);
    assert_eq!(job.status(), "running");
}
