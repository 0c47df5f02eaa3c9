//! kontena-init as PID 1 of a container and on its own: reaping, forwarding, exit status.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use tests::{Container, Host, Program, Running, init, leaf_processes, wait_for, wait_until};

/// The signals that every forwarder passes on.
const FORWARDED: [(Signal, &str); 7] = [
    (Signal::SIGTERM, "TERM"),
    (Signal::SIGINT, "INT"),
    (Signal::SIGHUP, "HUP"),
    (Signal::SIGQUIT, "QUIT"),
    (Signal::SIGUSR1, "USR1"),
    (Signal::SIGUSR2, "USR2"),
    (Signal::SIGWINCH, "WINCH"),
];

/// All signals that a process can receive, except KILL and STOP.
fn all() -> impl Iterator<Item = i64> {
    (1..=8).chain(10..=18).chain(20..=31).chain(34..=64)
}

/// A script that prints the number of each signal it gets, and has no children. It never sleeps: a signal that arrives
/// after the shell's `read` has looked for one and before it calls read(2) would not wake it up.
fn listener() -> String {
    let traps: String = all().map(|signal| format!("trap 'echo got {signal}.' {signal}; ")).collect();
    format!("{traps} echo ready; while :; do :; done")
}

/// Sends a process all of them, and waits until the program has printed each once.
#[track_caller]
fn assert_hears_all(running: &mut Running, pid: u32) {
    for signal in all() {
        tests::sys::call(nix::libc::SYS_kill, [pid.into(), signal, 0, 0, 0, 0]).unwrap();
        expect(running, &format!("got {signal}.\n"));
        assert_eq!(running.stdout().matches(&format!("got {signal}.")).count(), 1, "{}", running.stdout());
    }
}

/// Orphans a few thousand children, each by a parent that ends at once, and counts the zombies that stay. `read` and
/// `case` are builtins, so that counting makes no process.
const ORPHANS: &str = r#"
    ( (sleep 0.2; read -r stat < /proc/$(sh -c 'echo $PPID')/stat; echo orphan) & )
    i=0; while [ $i -lt 3000 ]; do ( : & ); i=$((i+1)); done
    tries=0
    while :; do
        zombies=0
        for stat in /proc/[0-9]*/stat; do
            read -r line < $stat || continue
            case $line in *") Z "*) zombies=$((zombies+1));; esac
        done 2> /dev/null
        [ $zombies = 0 ] && break
        [ $tries = 500 ] && break
        tries=$((tries+1)); sleep 0.02
    done
    echo zombies: $zombies
    sh -c '[ $$ -gt 6000 ] && echo thousands'
"#;

/// kontena-init as PID 1 of a pid namespace that somebody else made.
fn entrypoint<'a>(host: &'a Host, arguments: &[&str]) -> Program<'a> {
    host.program("unshare").args(["-pf", "--kill-child", "--mount-proc"]).arg(init()).args(arguments)
}

/// The one child of `parent`, when it has one.
fn child_of(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Starts a script as the payload of a container, and waits until it says ready.
fn start<'a>(host: &'a Host, options: &[&str], script: &str) -> Container<'a> {
    let running = host.sh(&[&["--name", "web"], options].concat(), script).start();
    let mut container = Container::new(host, "web", running);
    container.wait_for_output("ready");
    container
}

/// The payload, the second process of its container.
fn payload_of(container: &Container<'_>) -> u32 {
    leaf_processes(&container.leaf())[1]
}

/// Waits until the program has written `text`, and is alive.
#[track_caller]
fn expect(running: &mut Running, text: &str) {
    running.wait_for_output(text);
    assert!(!running.has_ended());
}

#[test]
fn all_orphans_are_reaped_under_kontena() {
    let host = Host::new();
    let out = host.sh(&[], ORPHANS).run().ok();
    assert!(out.contains("zombies: 0\n") && out.contains("orphan\n") && out.contains("thousands\n"), "{out}");
}

#[test]
fn all_orphans_are_reaped_by_the_entrypoint() {
    let host = Host::new();
    let out = entrypoint(&host, &["sh", "-c", ORPHANS]).run().ok();
    assert!(out.contains("zombies: 0\n") && out.contains("orphan\n") && out.contains("thousands\n"), "{out}");
}

#[test]
fn orphans_are_reaped_as_a_subreaper() {
    let host = Host::new();
    let script = "sh -c '(sleep 1; read -r line < /proc/self/stat; echo $line) & exit 0'; echo parent $PPID; sleep 3";
    let out = host.program(init()).args(["sh", "-c", script]).run().ok();
    let parent = out.lines().find_map(|line| line.strip_prefix("parent ")).unwrap();
    let orphan = out.lines().find(|line| line.contains(" (sh) ")).unwrap();
    // proc_pid_stat(5): pid (comm) state ppid
    assert_eq!(orphan.split(' ').nth(3), Some(parent), "the init is the subreaper: {out}");
    assert_ne!(parent, "1");
}

#[test]
fn tests_detect_a_pid_1_that_does_not_reap() {
    // The twin of the tests above: the same script under a PID 1 that is not an init.
    let host = Host::new();
    let out = host.program("unshare").args(["-pf", "--kill-child", "--mount-proc", "sh", "-c"]);
    let out = out.arg(format!(
        "sh -c '{}' & exec sleep 600",
        "for i in 1 2 3; do ( : & ); done; sleep 1; \
         for s in /proc/[0-9]*/stat; do read -r l < $s; case $l in *\") Z \"*) echo zombie;; esac; done; \
         kill -9 1; echo done"
    ));
    let mut running = out.start();
    running.wait_for_output("done");
    assert_eq!(running.stdout().matches("zombie").count(), 3, "{}", running.stdout());
}

#[test]
fn every_signal_is_forwarded_to_the_payload() {
    let host = Host::new();
    let traps: String = FORWARDED.iter().map(|(_, name)| format!("trap 'echo got {name}' {name}; ")).collect();
    let script = format!("{traps} echo ready; while :; do sleep 0.02; done");
    let mut container = start(&host, &[], &script);
    for (signal, name) in FORWARDED {
        container.signal(signal);
        expect(&mut container, &format!("got {name}\n"));
    }
    assert_eq!(container.stdout().lines().count(), 1 + FORWARDED.len(), "each once: {}", container.stdout());
}

#[test]
fn every_signal_is_forwarded_by_the_entrypoint() {
    let host = Host::new();
    let more = [(Signal::SIGCONT, "CONT"), (Signal::SIGALRM, "ALRM"), (Signal::SIGURG, "URG")];
    let signals = [&FORWARDED[..], &more].concat();
    let traps: String = signals.iter().map(|(_, name)| format!("trap 'echo got {name}' {name}; ")).collect();
    let mut running =
        entrypoint(&host, &["sh", "-c", &format!("{traps} echo ready; while :; do sleep 0.02; done")]).start();
    running.wait_for_output("ready");
    let init = child_of(running.pid()).unwrap();
    for (signal, name) in signals {
        send(init, signal);
        expect(&mut running, &format!("got {name}\n"));
    }
}

#[test]
fn signals_of_all_numbers_are_forwarded_by_the_launcher() {
    // systemd stops a service by KillSignal=, which is SIGRTMIN+3 for another systemd.
    let host = Host::new();
    let program = host.kontena_run().args(["--net", "none"]).arg(host.debian());
    let mut running = program.args(["sh", "-c", &listener()]).start();
    running.wait_for_output("ready");
    let pid = running.pid();
    assert_hears_all(&mut running, pid);
    // By exec, too, whose command ends with it.
    let _job = host.background("job", &[], "exec sleep 600");
    let mut running = host.exec(&[], "job", &["sh", "-c", &listener()]).start();
    running.wait_for_output("ready");
    let pid = running.pid();
    assert_hears_all(&mut running, pid);
    running.signal(Signal::SIGKILL);
}

#[test]
fn signals_of_all_numbers_are_forwarded_by_the_entrypoint() {
    let host = Host::new();
    let mut running = entrypoint(&host, &["sh", "-c", &listener()]).start();
    running.wait_for_output("ready");
    let init = child_of(running.pid()).unwrap();
    assert_hears_all(&mut running, init);
}

#[test]
fn stop_and_continue_reach_the_payloads_processes() {
    let host = Host::new();
    let job = host.background("job", &["--stop-timeout", "60"], "sleep 601 & sleep 602; echo never");
    let sleepers = || ["sleep 601", "sleep 602"].map(|name| host.processes_named(name).first().copied());
    wait_until("its children", || sleepers().iter().all(Option::is_some));
    let processes = job.processes();
    let states = || processes.iter().map(|pid| state_of(*pid).unwrap()).collect::<String>();
    let kill = |signal: &str| drop(host.kontena().args(["kill", "job", signal]).run().ok());
    for options in [&[][..], &["-a"]] {
        let words = |signal| [&["kill"], options, &["-s", signal, "job"]].concat();
        let _ = host.kontena().args(words("STOP")).run().ok();
        wait_until("all but PID 1 to be stopped", || states() == "STTT");
        let _ = host.kontena().args(words("CONT")).run().ok();
        wait_until("all to go on", || states() == "SSSS");
    }
    // Its end is noticed: PID 1 has not been stopped with it.
    kill("STOP");
    wait_until("it to be stopped", || states() == "STTT");
    let waiting = host.kontena().args(["wait", "job"]).start();
    send(processes[1], Signal::SIGKILL);
    assert_eq!(waiting.finish().code(137).stdout, "137\n");
    let _ = job.does("delete");
    // As the signal that asks for the end, it does as little harm.
    let job = host.background("job", &["--stop-signal", "STOP", "--stop-timeout", "0"], "exec sleep 600");
    let _ = job.does("stop");
    assert_eq!(job.end(), 137);
}

#[test]
fn terminal_stop_stops_the_launcher_and_not_the_container() {
    // Ctrl-Z of a shell that has job control.
    let host = Host::new();
    let terminal =
        host.sh(&["--name", "front"], "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done").on_terminal();
    terminal.wait_for("ready");
    let front = tests::Background::new(&host, "front");
    terminal.type_in("\x1a");
    let launcher = terminal.program();
    let state = || state_of(launcher.as_raw().try_into().unwrap());
    wait_until("the launcher to be stopped", || state() == Some('T'));
    assert_eq!(front.status(), "running");
    kill(launcher, Signal::SIGCONT).unwrap();
    wait_until("the launcher to go on", || state() == Some('S'));
    kill(launcher, Signal::SIGHUP).unwrap();
    terminal.wait_for("hup");
}

#[test]
fn signal_that_kills_the_payload_is_its_status() {
    let host = Host::new();
    for (signal, _) in &FORWARDED[..6] {
        let container = start(&host, &[], "echo ready; exec sleep 600");
        container.signal(*signal);
        let _ = container.into_running().finish().code(128 + *signal as i32);
    }
    // Nobody dies of a WINCH.
    let mut container = start(&host, &[], "trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.02; done");
    container.signal(Signal::SIGWINCH);
    container.signal(Signal::SIGUSR1);
    expect(&mut container, "got USR1");
}

#[test]
fn payload_that_ignores_term_keeps_running() {
    let host = Host::new();
    let script = "trap '' TERM; trap 'echo alive' USR1; trap 'exit 9' INT; echo ready; while :; do sleep 0.02; done";
    let mut container = start(&host, &[], script);
    for _ in 0..3 {
        container.signal(Signal::SIGTERM);
    }
    container.signal(Signal::SIGUSR1);
    expect(&mut container, "alive");
    container.signal(Signal::SIGINT);
    let _ = container.into_running().finish().code(9);
}

#[test]
fn payload_that_stops_itself_does_not_end_the_container() {
    let host = Host::new();
    let mut container = start(&host, &[], "echo ready; kill -STOP $$; echo woken; exec sleep 600");
    let (init, payload) = (container.init(), payload_of(&container));
    wait_until("the stop", || state_of(payload) == Some('T'));
    wait_until("PID 1 to wait on", || state_of(init) == Some('S'));
    assert!(!container.has_ended() && !container.stdout().contains("woken"));
    send(init, Signal::SIGCONT);
    expect(&mut container, "woken");
    container.signal(Signal::SIGTERM);
    let _ = container.into_running().finish().code(143);
}

#[test]
fn payload_that_stops_itself_does_not_end_the_entrypoint() {
    let host = Host::new();
    let mut running = entrypoint(&host, &["sh", "-c", "echo ready; kill -STOP $$; echo woken; exit 4"]).start();
    running.wait_for_output("ready");
    let init = child_of(running.pid()).unwrap();
    let payload = wait_for("the payload", || child_of(init));
    wait_until("the stop", || state_of(payload) == Some('T'));
    assert!(!running.has_ended());
    send(init, Signal::SIGCONT);
    let _ = running.finish().code(4);
}

/// A payload with a child, both of which print a TERM.
const FAMILY: &str = "trap 'echo parent' TERM
    sh -c 'trap \"echo child\" TERM; echo ready; while :; do sleep 0.02; done' &
    while :; do sleep 0.02; done";

#[test]
fn option_g_signals_the_whole_group() {
    let host = Host::new();
    let mut running = entrypoint(&host, &["-g", "sh", "-c", FAMILY]).start();
    running.wait_for_output("ready");
    send(child_of(running.pid()).unwrap(), Signal::SIGTERM);
    expect(&mut running, "parent");
    expect(&mut running, "child");
}

#[test]
fn without_g_only_the_payload_is_signalled() {
    let host = Host::new();
    let mut running = entrypoint(&host, &["sh", "-c", FAMILY]).start();
    running.wait_for_output("ready");
    let init = child_of(running.pid()).unwrap();
    for count in 1..=5 {
        send(init, Signal::SIGTERM);
        wait_until("the parent", || running.stdout().matches("parent").count() == count);
    }
    assert!(!running.stdout().contains("child"), "{}", running.stdout());
}

#[test]
fn entrypoint_exits_with_the_payloads_status() {
    let host = Host::new();
    for (arguments, code) in [
        (&["sh", "-c", "exit 0"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["-g", "sh", "-c", "exit 8"], 8),
        (&["--", "sh", "-c", "exit 9"], 9),
        (&["-g", "--", "sh", "-c", "exit 10"], 10),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["/nosuch"], 127),
        (&["nosuch"], 127),
        (&["--", "-x"], 127),
        (&["/etc/passwd"], 126),
        (&["/etc"], 126),
        (&[], 125),
        (&["--"], 125),
        (&["-x", "true"], 125),
        (&["--plan"], 125),
        (&["--plan", "3", "4"], 125),
        (&["--plan", "0", "1"], 125),
        (&["--plan", "x", "y"], 125),
    ] {
        let outcome = entrypoint(&host, arguments).run();
        assert_eq!(outcome.code, code, "{outcome}");
        let outcome = host.program(init()).args(arguments).run();
        assert_eq!(outcome.code, code, "not as PID 1: {outcome}");
        if [125, 126, 127].contains(&code) {
            assert!(outcome.stderr.starts_with("kontena-init: "), "says why: {outcome}");
        }
    }
}

#[test]
fn entrypoint_passes_on_arguments_and_environment() {
    let host = Host::new();
    let program = entrypoint(
        &host,
        &["sh", "-c", "for a; do printf '<%s>' \"$a\"; done; echo $KEY", "sh", "", "-g", "--", "a b"],
    );
    assert_eq!(program.env("KEY", "value").run().ok(), "<><-g><--><a b>value\n");
}

#[test]
fn demo_image_runs_under_its_own_init() {
    let host = Host::new();
    let _ = host.run(&["--net", "none"], host.demo(), &["/sbin/kontena-init", "--", "/bin/true"]).run().ok();
    let _ = host.run(&["--net", "none"], host.demo(), &["/sbin/kontena-init", "/nosuch"]).run().code(127);
}

#[test]
fn no_signal_is_blocked_or_ignored_from_the_start() {
    let host = Host::new();
    for env in [&[][..], &["--block-signal=USR1,TERM"], &["--ignore-signal=HUP,USR1"]] {
        let program = host.program("env").args(env).arg(tests::launcher()).arg("--root").arg(host.state());
        let program = program.args(["run", "--net", "none", "--cgroup-parent", &host.cgroup_parent_option()]);
        let status = program.arg(host.debian()).args(["cat", "/proc/self/status"]).run().ok();
        for set in ["SigBlk:", "SigIgn:", "SigCgt:", "SigPnd:", "ShdPnd:"] {
            assert_eq!(status_line(&status, set), "\t0000000000000000", "{set} {env:?}");
        }
    }
}

#[test]
fn entrypoint_keeps_the_callers_signal_mask() {
    let host = Host::new();
    // Bit n-1 is signal n: USR1 is 10 and TERM is 15.
    let program = |env: &[&str]| {
        let program = host.program("env").args(env).arg(init()).args(["cat", "/proc/self/status"]).run().ok();
        program.lines().find_map(|line| line.strip_prefix("SigBlk:\t").map(str::to_owned)).unwrap()
    };
    assert_eq!(program(&[]), "0000000000000000");
    assert_eq!(program(&["--block-signal=USR1,TERM"]), "0000000000004200");
}

/// A line of proc_pid_status(5).
fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {status}"))
}

#[test]
fn signal_ignored_by_the_caller_is_not_forwarded() {
    // nohup kontena run …
    let host = Host::new();
    let program = host.program("env").arg("--ignore-signal=HUP").arg(tests::launcher()).arg("--root").arg(host.state());
    let program = program.args(["run", "--net", "none", "--cgroup-parent", &host.cgroup_parent_option()]);
    let script = "trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.02; done";
    let mut running = program.arg(host.debian()).args(["sh", "-c", script]).start();
    running.wait_for_output("ready");
    running.signal(Signal::SIGHUP);
    running.signal(Signal::SIGUSR1);
    expect(&mut running, "got USR1");
}

#[test]
fn container_dies_with_its_launcher() {
    let host = Host::new();
    let container = start(&host, &[], "trap '' TERM INT HUP; setsid sleep 600 & sleep 600 & echo ready; wait");
    let leaf = container.leaf();
    assert!(leaf_processes(&leaf).len() >= 3);
    container.signal(Signal::SIGKILL);
    let _ = container.into_running().finish().code(-9);
    wait_until("the end of the container", || leaf_processes(&leaf).is_empty());
}

#[test]
fn container_of_another_user_dies_with_its_launcher() {
    // A change of uid clears the payload's parent-death signal, but not its init's.
    let host = Host::new();
    let container = start(&host, &["-u", "33"], "echo ready; exec sleep 600");
    let leaf = container.leaf();
    assert_eq!(leaf_processes(&leaf).len(), 2);
    container.signal(Signal::SIGKILL);
    let _ = container.into_running().finish().code(-9);
    wait_until("the end of the container", || leaf_processes(&leaf).is_empty());
}

#[test]
fn remaining_processes_are_killed_when_the_payload_exits() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let _ = host.sh(&[], "trap '' TERM; (sleep 600 & sleep 600 &) ; sleep 600 & exit 5").run().code(5);
    assert!(!host.snapshot().lines("processes").iter().any(|line| line.contains("sleep 600")));
    let script =
        "(sleep 600 > /dev/null 2>&1 & setsid sleep 600 > /dev/null 2>&1 &); sleep 600 > /dev/null 2>&1 & exit 6";
    let _ = host.program(init()).args(["sh", "-c", script]).run().code(6);
    let _ = entrypoint(&host, &["sh", "-c", script]).run().code(6);
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn payload_cannot_kill_or_stop_pid_1() {
    let host = Host::new();
    let script = "for s in KILL STOP TERM SEGV TSTP; do kill -$s 1; done; sleep 0.1; echo alive; cat /proc/1/stat";
    let out = host.sh(&[], &format!("trap '' TERM; trap '' SEGV TSTP; {script}")).run().ok();
    assert!(out.starts_with("alive\n") && out.contains(") S "), "{out}");
}

#[test]
fn status_is_correct_when_many_processes_end_at_once() {
    let host = Host::new();
    let script = "i=0; while [ $i -lt 200 ]; do ( : & ); i=$((i+1)); done; exit 42";
    for _ in 0..10 {
        let _ = host.sh(&[], script).run().code(42);
    }
}
