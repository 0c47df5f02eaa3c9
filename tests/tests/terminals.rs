//! Terminals: what a person sees of a container's, and in which state the person's own is left.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::termios::{LocalFlags, Termios};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use tests::{Background, Host, Modes, Program, Terminal, wait_for, wait_until};

/// An interactive shell, whose prompt is `$ `.
const SHELL: [&str; 4] = ["bash", "--norc", "--noprofile", "-i"];
const PROMPT: [&str; 2] = ["-e", "PS1=$ "];
/// docker's detach keys.
const DETACH: &str = "\x10\x11";

/// `kontena run -it OPTIONS` of an interactive shell.
fn run_shell(host: &Host, name: &str, options: &[&str]) -> Terminal {
    let options = [&["--net", "none", "-it", "--name", name], &PROMPT[..], options].concat();
    let terminal = host.run(&options, host.debian(), &SHELL).on_terminal();
    terminal.wait_for("$ ");
    terminal
}

/// `kontena exec -it job` of the same, in a container that sleeps.
fn exec_shell(host: &Host) -> (Background<'_>, Terminal) {
    let job = host.background("job", &PROMPT, "exec sleep 600");
    let terminal = host.exec(&["-it"], "job", &SHELL).on_terminal();
    terminal.wait_for("$ ");
    (job, terminal)
}

/// Asserts that a terminal's modes are these.
#[track_caller]
fn assert_modes(terminal: &Terminal, modes: &Modes) {
    let what = || format!("the terminal's modes to be {modes:?}, which are {:?}", terminal.modes());
    wait_until(&what(), || terminal.modes() == *modes);
    // And nobody comes late to change them again.
    sleep(Duration::from_millis(50));
    assert_eq!(terminal.modes(), *modes);
}

#[test]
fn terminal_is_the_commands_own() {
    let host = Host::new();
    let (_job, exec) = exec_shell(&host);
    let run = run_shell(&host, "run", &[]);
    for terminal in [&run, &exec] {
        assert_eq!(terminal.ask("tty"), "/dev/pts/0");
        assert_eq!(terminal.ask("[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo yes"), "yes");
        assert_eq!(terminal.ask("stty size"), "24 80");
        assert_eq!(terminal.ask("echo $TERM"), "xterm");
        assert_eq!(terminal.ask("stat -c '%u %g %a' $(tty)"), "0 5 620");
        assert_eq!(terminal.ask("echo to the controlling one > /dev/tty"), "to the controlling one");
        assert_eq!(terminal.ask("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3");
        // It leads the session, and has the foreground.
        let stat = terminal.ask("cat /proc/$$/stat");
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        assert_eq!(fields[2], fields[3], "{stat}");
        assert_ne!(fields[4], "0", "{stat}");
    }
    // The container's own terminal is its console; docker has it so.
    assert_eq!(run.ask("echo to the console > /dev/console"), "to the console");
    assert_eq!(exec.ask("[ -e /dev/console ] || echo none"), "none");
}

#[test]
fn terminal_is_another_users_too() {
    let host = Host::new();
    let _job = host.background("job", &["-u", "33", "--read-only"], "exec sleep 600");
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; echo tty > /dev/tty; stat -c %u:%g:%a $(tty)";
    let run = host.sh(&["-t", "-u", "33"], script).on_terminal();
    assert_eq!(run.finish(), 0, "{}", run.text());
    let exec = host.exec(&["-t"], "job", &["sh", "-c", script]).on_terminal();
    assert_eq!(exec.finish(), 0, "{}", exec.text());
    for terminal in [&run, &exec] {
        assert!(terminal.lines().starts_with("out\nerr\ntty\n33:5:620\n"), "{}", terminal.text());
    }
}

#[test]
fn window_has_the_callers_size_and_follows_it() {
    let host = Host::new();
    let (_job, exec) = exec_shell(&host);
    let run = run_shell(&host, "run", &[]);
    for terminal in [&run, &exec] {
        for (rows, columns) in [(50, 132), (7, 20), (300, 500)] {
            terminal.resize(rows, columns);
            wait_until("the size", || terminal.ask("stty size") == format!("{rows} {columns}"));
        }
        // The command is told.
        terminal.type_in("sh -c \"trap 'echo re''sized' WINCH; echo lis''tens; while :; do sleep 0.05; done\"\n");
        terminal.wait_for("listens");
        terminal.resize(40, 100);
        terminal.wait_for("resized");
    }
    // From the first instruction on.
    for _ in 0..20 {
        let program = host.run(&["--net", "none", "-it"], host.debian(), &["stty", "size"]);
        let terminal = Terminal::start(program, (33, 77));
        assert_eq!(terminal.finish(), 0, "{}", terminal.text());
        assert!(terminal.text().contains("33 77\r\n"), "{}", terminal.text());
    }
}

#[test]
fn keys_reach_the_command() {
    // Job control, as in a terminal of the container's own.
    let host = Host::new();
    let (_job, exec) = exec_shell(&host);
    let run = run_shell(&host, "run", &[]);
    // Whether the kernel would send it what the keys mean: /proc/PID/stat has its state, its group and its terminal's.
    let is_foreground = || {
        host.processes_named("sleep 901 ").into_iter().any(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            matches!(fields[..], [state, _, group, _, _, foreground, ..] if state != "T" && group == foreground)
        })
    };
    for terminal in [&run, &exec] {
        assert!(!terminal.text().contains("no job control"), "{}", terminal.text());
        terminal.type_in("sleep 900; echo \"ended $?\"\n");
        terminal.wait_for("sleep 900;");
        wait_until("sleep", || !host.processes_named("sleep 900 ").is_empty());
        terminal.type_in("\x03");
        terminal.wait_for("^C");
        wait_until("its end", || host.processes_named("sleep 900 ").is_empty());
        assert_eq!(terminal.ask("echo alive"), "alive");

        terminal.type_in("sleep 901\n");
        wait_until("sleep", || !host.processes_named("sleep 901 ").is_empty());
        terminal.type_in("\x1a");
        terminal.wait_for("Stopped");
        assert!(terminal.ask("jobs").contains("sleep 901"));
        terminal.type_in("fg\n");
        wait_until("the foreground", is_foreground);
        terminal.type_in("\x1a");
        wait_until("it to be stopped again", || terminal.text().matches("Stopped").count() >= 3);
        terminal.type_in("fg\n");
        wait_until("the foreground", is_foreground);
        terminal.type_in("\x03");
        wait_until("its end", || host.processes_named("sleep 901 ").is_empty());
        assert_eq!(terminal.ask("jobs; echo none"), "none");
        // An end of file for a terminal that is not yet raw again is lost.
        wait_until("the prompt", || terminal.text().ends_with("$ "));
        terminal.type_in("\x04");
        let _ = terminal.finish();
        assert!(terminal.text().contains("exit"), "{}", terminal.text());
    }
}

#[test]
fn all_typed_input_arrives() {
    let host = Host::new();
    let (_job, exec) = exec_shell(&host);
    let run = run_shell(&host, "run", &[]);
    for terminal in [&run, &exec] {
        terminal.type_in("stty raw -echo; echo ready; head -c 255 | od -An -v -tx1 | tr -d '\\n'; stty sane\n");
        terminal.wait_for("ready\n");
        // All but NUL, and the detach keys as they may stand anywhere else.
        let bytes: Vec<u8> = (1..=255).rev().collect();
        terminal.type_bytes(&bytes);
        let expected: String = bytes.iter().map(|byte| format!(" {byte:02x}")).collect();
        terminal.wait_for(&expected);
    }
}

#[test]
fn modes_are_restored_at_the_end() {
    let host = Host::new();
    let _job = host.background("job", &[], "exec sleep 600");
    for command in [
        &["sh", "-c", "exit 7"][..],
        &["sh", "-c", "stty raw -echo; exit 7"],
        &["sh", "-c", "kill -KILL $$"],
        &["/nosuch"],
        &["/etc/passwd"],
    ] {
        for exec in [false, true] {
            let program = match exec {
                true => host.exec(&["-it"], "job", command),
                false => host.run(&["--net", "none", "-it"], host.debian(), command),
            };
            let terminal = program.on_terminal();
            let before = terminal.original_modes();
            let status = terminal.finish();
            assert!([7, 137, 127, 126].contains(&status), "{}", terminal.text());
            assert_modes(&terminal, &before);
            if status == 127 || status == 126 {
                // A line of its own, that begins where lines begin.
                let text = terminal.text();
                let line = text.lines().find(|line| line.contains("kontena: exec")).unwrap_or_else(|| panic!("{text}"));
                assert!(
                    line.starts_with("kontena: ") && !text.contains("\nkontena: exec") || text.starts_with("kontena: "),
                    "{text:?}"
                );
            }
        }
    }
    // Of what cannot be joined, too.
    let terminal = host.exec(&["-it"], "nosuch", &["sh"]).on_terminal();
    let before = terminal.original_modes();
    assert_eq!(terminal.finish(), 125);
    assert_modes(&terminal, &before);
}

#[test]
fn modes_are_restored_when_the_client_is_killed() {
    let host = Host::new();
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP] {
        for what in ["run", "exec", "attach"] {
            let job = host.background("job", &["-it"], "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
            job.wait_for_log("ready");
            let script = ["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"];
            let terminal = match what {
                "run" => host.run(&["--net", "none", "-it", "--name", "run"], host.debian(), &script).on_terminal(),
                "exec" => host.exec(&["-it"], "job", &script).on_terminal(),
                _ => host.kontena().args(["attach", "job"]).on_terminal(),
            };
            let before = terminal.original_modes();
            terminal.wait_until_raw();
            if what != "attach" {
                terminal.wait_for("ready");
            }
            terminal.signal(signal);
            let status = terminal.finish();
            assert_modes(&terminal, &before);
            let expected = match signal {
                Signal::SIGKILL => 137,
                Signal::SIGHUP => 129,
                _ => 3,
            };
            assert_eq!(status, expected, "{what} by {signal}: {}", terminal.text());
            // The client that has started a container on a terminal ends it; an attached one does not, unless it
            // forwards the signal.
            wait_until("the end of the container", || host.list().iter().all(|seen| seen["name"] != "run"));
            if what == "attach" && signal == Signal::SIGTERM {
                assert_eq!(job.end(), 3);
            } else {
                assert_eq!(job.status(), "running", "{what} by {signal}");
            }
            wait_until("the end of the command", || job.processes().len() <= 3);
            let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
        }
    }
}

#[test]
fn modes_changed_by_others_are_kept() {
    // The helper of a killed client restores them late, after a shell has set its own.
    let host = Host::new();
    for round in 0..20 {
        let terminal = host
            .run(&["--net", "none", "-it"], host.debian(), &["sh", "-c", "echo ready; exec sleep 600"])
            .on_terminal();
        terminal.wait_for("ready");
        terminal.wait_until_raw();
        let client = terminal.program();
        let own = |modes: &mut Termios| {
            modes.local_flags.insert(LocalFlags::ECHO);
            modes.local_flags.remove(LocalFlags::ICANON);
        };
        if round % 2 == 0 {
            // At once, before anybody else.
            kill(client, Signal::SIGSTOP).unwrap();
            terminal.change_modes(own);
            kill(client, Signal::SIGKILL).unwrap();
            assert_eq!(terminal.finish(), 137);
        } else {
            terminal.type_in("\x03");
            let _ = terminal.finish();
            terminal.change_modes(own);
        }
        let own = terminal.modes();
        assert_modes(&terminal, &own);
    }
}

#[test]
fn client_leaves_nothing_behind() {
    let host = Host::new();
    let job = host.background("job", &[], "exec sleep 600");
    let before = host.processes().len();
    for _ in 0..10 {
        let terminal = host.exec(&["-it"], "job", &["sh", "-c", "exit 4"]).on_terminal();
        assert_eq!(terminal.finish(), 4);
        // The terminal's own shell aside.
        assert_eq!(host.processes().len(), before + 1, "no helper of it that is on its way out");
    }
    assert_eq!(job.processes().len(), 2);
}

#[test]
fn detach_keys_leave_the_container_running() {
    let host = Host::new();
    let terminal = run_shell(&host, "web", &[]);
    let before = terminal.original_modes();
    terminal.type_in("KEY=kept\n");
    assert_eq!(terminal.ask("echo $KEY"), "kept");
    terminal.type_in(DETACH);
    assert_eq!(terminal.finish(), 0);
    assert_modes(&terminal, &before);
    assert!(terminal.text().ends_with("web\r\n[ended 0]"), "{:?}", terminal.text());
    let web = Background::new(&host, "web");
    assert_eq!(web.status(), "running");
    assert_eq!(web.inspect()["terminal"], true);

    // Somebody comes back, leaves again, and comes back.
    for _ in 0..3 {
        let terminal = host.kontena().args(["attach", "web"]).on_terminal();
        terminal.wait_until_raw();
        assert_eq!(terminal.ask("echo $KEY"), "kept");
        terminal.type_in(DETACH);
        assert_eq!(terminal.finish(), 0);
        assert_modes(&terminal, &before);
        assert_eq!(web.status(), "running");
    }
    let terminal = host.kontena().args(["attach", "web"]).on_terminal();
    terminal.wait_until_raw();
    terminal.type_in("exit 9\n");
    assert_eq!(terminal.finish(), 9);
    assert_modes(&terminal, &before);
    // It is kept, as one that was started in the background.
    assert_eq!(web.end(), 9);
    let _ = web.does("delete");
}

#[test]
fn detach_keys_can_be_changed_or_disabled() {
    let host = Host::new();
    let terminal = run_shell(&host, "own", &["--detach-keys", "ctrl-a,x"]);
    terminal.type_in(DETACH);
    assert_eq!(terminal.ask("echo still"), "still");
    terminal.type_in("\x01");
    sleep(Duration::from_millis(50));
    terminal.type_in("x");
    assert_eq!(terminal.finish(), 0);
    assert_eq!(Background::new(&host, "own").status(), "running");
    let terminal = host.kontena().args(["attach", "--detach-keys", "ctrl-]", "own"]).on_terminal();
    terminal.wait_until_raw();
    terminal.type_in("\x1d");
    assert_eq!(terminal.finish(), 0);
    for bad in ["x,", "ctrl-", "ctrl-1", "alt-x", "xy", "ctrl-p;ctrl-q"] {
        let line = host.sh(&["-it", "--detach-keys", bad], "true").run().refused(125);
        assert!(line.contains(bad), "{line}");
    }
    // With --rm it goes when it has ended, all the same.
    let terminal = run_shell(&host, "gone", &["--rm"]);
    terminal.type_in(DETACH);
    assert_eq!(terminal.finish(), 0);
    let gone = Background::new(&host, "gone");
    assert_eq!(gone.status(), "running");
    let _ = gone.does("kill");
    wait_until("nothing to be left", || !gone.directory().exists());
}

#[test]
fn container_ends_with_its_client_on_a_terminal() {
    let host = Host::new();
    let before = host.processes().len();
    let terminal = run_shell(&host, "web", &["--restart", "always"]);
    terminal.signal(Signal::SIGKILL);
    assert_eq!(terminal.finish(), 137);
    wait_until("its end", || host.list().is_empty() && !host.state().join("web").exists());
    // When the connection is cut, that is the same.
    let mut terminal = run_shell(&host, "web", &[]);
    terminal.hang_up();
    wait_until("its end", || host.list().is_empty() && !host.state().join("web").exists());
    drop(terminal);
    let mut stubborn = host
        .sh(&["-it", "--name", "web"], "trap '' HUP TERM INT; echo ready; while :; do sleep 0.05; done")
        .on_terminal();
    stubborn.wait_for("ready");
    stubborn.hang_up();
    wait_until("its end", || host.list().is_empty() && !host.state().join("web").exists());
    drop(stubborn);
    wait_until("nobody to be left", || host.processes().len() <= before + 1);
}

#[test]
fn closed_connection_ends_only_the_client() {
    let host = Host::new();
    // Whatever a signal would do to it.
    let job = host.background("job", &["-it"], "trap 'echo got HUP' HUP; echo ready; while :; do sleep 0.05; done");
    job.wait_for_log("ready");
    let clients = host.processes().len();
    for words in [&["attach", "job"][..], &["attach", "--no-stdin", "job"]] {
        let mut terminal = host.kontena().args(words).on_terminal();
        if words.len() == 2 {
            terminal.wait_until_raw();
        } else {
            wait_until("the client", || host.processes().len() >= clients + 2);
            sleep(Duration::from_millis(50));
        }
        terminal.hang_up();
        drop(terminal);
        wait_until("the end of the client", || host.processes().len() == clients);
        assert_eq!(job.status(), "running");
    }
    assert!(!job.logged().contains("got HUP"), "{}", job.logged());
    // A command that has joined ends with its client.
    let mut terminal = host
        .exec(&["-it"], "job", &["sh", "-c", "trap '' HUP; echo ready; while :; do sleep 0.05; done"])
        .on_terminal();
    terminal.wait_for("ready");
    terminal.hang_up();
    drop(terminal);
    wait_until("the end of the command", || job.processes().len() <= 3 && host.processes().len() == clients);
}

#[test]
fn command_ends_when_the_terminal_hangs_up_early() {
    let host = Host::new();
    let job = host.background("job", &PROMPT, "exec sleep 600");
    let pty = openpty(None, None).unwrap();
    drop(pty.master);
    let slave = pty.slave.try_clone().unwrap();
    let outcome = host.exec(&["-it"], "job", &SHELL).with(|command| _ = command.stdin(slave)).run();
    assert_eq!(outcome.code, 129, "{outcome}");
    wait_until("the end of the command", || job.processes().len() == 2);
    let outcome = host.run(&["--net", "none", "-it"], host.debian(), &SHELL);
    let outcome = outcome.with(|command| _ = command.stdin(pty.slave)).run();
    assert_eq!(outcome.code, 129, "{outcome}");
    assert_eq!(job.status(), "running");
}

#[test]
fn two_attached_clients_see_the_same_output() {
    let host = Host::new();
    let job = host.background("job", &["-it", "-e", "PS1=$ "], "exec bash --norc --noprofile -i");
    let [first, second] = [(); 2].map(|()| {
        let terminal = host.kontena().args(["attach", "job"]).on_terminal();
        terminal.wait_until_raw();
        terminal
    });
    assert_eq!(first.ask("echo one"), "one");
    second.wait_for("one\r\n");
    assert_eq!(second.ask("echo two"), "two");
    first.wait_for("two\r\n");
    first.type_in(DETACH);
    assert_eq!(first.finish(), 0);
    assert_eq!(second.ask("echo three"), "three");
    second.type_in("exit 5\n");
    assert_eq!(second.finish(), 5);
    assert_eq!(job.end(), 5);
    assert!(job.logged().contains("three"), "its log has it too");
}

/// How much CPU time a process has used, in ticks of 10 ms.
fn ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn client_for_which_the_launcher_has_no_fd_waits_and_keeps_nothing_busy() {
    let host = Host::new();
    let job = host.background("job", &[], "exec sleep 600");
    let launcher = job.launcher();
    let fds = || -> Vec<u64> {
        let names = fs::read_dir(format!("/proc/{launcher}/fd")).unwrap();
        names.map(|name| name.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    };
    let limit = |files: u64| {
        let limit = nix::libc::rlimit { rlim_cur: files, rlim_max: 4096 };
        tests::sys::limit_files(launcher.as_raw().try_into().unwrap(), limit).unwrap();
    };
    let (before, all) = (fds().len(), *fds().iter().max().unwrap() as usize + 1);
    limit(all as u64);
    let attach = || host.kontena().args(["attach", "--no-stdin", "job"]).start();
    let clients: Vec<_> = (before..=all).map(|_| attach()).collect();
    wait_until("no fd to be left", || fds().len() == all);
    sleep(Duration::from_millis(200));
    let used = ticks(launcher);
    sleep(Duration::from_secs(2));
    assert!(ticks(launcher) - used < 10, "{} ticks", ticks(launcher) - used);
    limit(1024);
    wait_until("the last client to be accepted", || fds().len() == before + clients.len());
    let _ = host.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    for client in clients {
        assert!([137, 143].contains(&client.finish().code), "its exit status");
    }
}

#[test]
fn attach_reaches_stdin_without_a_terminal() {
    let host = Host::new();
    // Bytes of any kind, detach keys included, arrive; the end of file does, too.
    let bytes: Vec<u8> =
        (0..300_000u32).map(|number| if number % 7 == 0 { 16 } else { (number % 251) as u8 }).chain([16, 17]).collect();
    for _ in 0..3 {
        let job = host.background("job", &["-i"], "exec sha256sum");
        let outcome = host.kontena().args(["attach", "job"]).input(&bytes).run().code(0);
        let program = host.program("sha256sum").input(&bytes).run().ok();
        assert_eq!(outcome.stdout, program);
        assert_eq!(job.end(), 0);
        assert_eq!(job.logged(), program);
        let _ = job.does("delete");
    }
    // Without -i there is nothing to read.
    let job = host.background("job", &[], "cat; exit 4");
    assert_eq!(job.end(), 4);
    let _ = job.does("delete");
    // A client without input leaves it open for the next one.
    let script = "while :; do echo .; sleep 0.05; done & read -r line; kill $!; echo got $line; exit 6";
    let job = host.background("job", &["-i"], script);
    let mut quiet = host.kontena().args(["attach", "--no-stdin", "job"]).start();
    quiet.wait_for_output(".");
    // The end of file alone: read fails, and the container ends.
    let _ = host.kontena().args(["attach", "job"]).run().code(6);
    let _ = quiet.finish().code(6);
    assert_eq!(job.end(), 6);
    assert_eq!(job.logged().replace(".\n", ""), "got\n");
}

#[test]
fn early_input_is_not_lost() {
    let host = Host::new();
    for round in 0..30 {
        let code = 1 + round % 9;
        let program = host.run(&["--net", "none", "-it"], host.debian(), &["sh"]);
        let outcome = program.input(format!("exit {code}\n").as_bytes()).run();
        assert_eq!(outcome.code, code, "{outcome}");
    }
    let _job = host.background("job", &[], "exec sleep 600");
    for round in 0..30 {
        let code = 1 + round % 9;
        let outcome = host.exec(&["-it"], "job", &["sh"]).input(format!("exit {code}\n").as_bytes()).run();
        assert_eq!(outcome.code, code, "{outcome}");
    }
}

#[test]
fn signals_reach_the_command_on_the_terminal() {
    let host = Host::new();
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    for options in [&["-t"][..], &["-it"]] {
        let terminal = host.sh(options, script).on_terminal();
        terminal.wait_for("ready");
        terminal.signal(Signal::SIGUSR1);
        terminal.wait_for("usr1");
        terminal.signal(Signal::SIGTERM);
        assert_eq!(terminal.finish(), 3, "{}", terminal.text());
    }
    // Without -i, keys are the caller's terminal's, and Ctrl-C is a signal.
    let terminal =
        host.sh(&["-t"], "trap 'echo int; exit 4' INT; echo ready; while :; do sleep 0.05; done").on_terminal();
    terminal.wait_for("ready");
    assert!(!terminal.is_raw());
    terminal.type_in("\x03");
    assert_eq!(terminal.finish(), 4, "{}", terminal.text());
}

#[test]
fn terminal_works_without_a_terminal_of_the_caller() {
    let host = Host::new();
    let out = host.sh(&["-t"], "[ -t 1 ] && echo yes; stty size").run().ok();
    assert_eq!(out.lines().next(), Some("yes"), "{out}");
    // A reader that goes away ends it, as it would end any program.
    let program = host.sh(&["-t", "--name", "yes"], "exec yes");
    let _ = program.through("sh", &["-c", "\"$@\" | head -n 1", "sh"]).run().ok();
    wait_until("its end", || host.list().is_empty());
    let _job = host.background("job", &[], "exec sleep 600");
    let _ = host.exec(&["-t"], "job", &["yes"]).through("sh", &["-c", "\"$@\" | head -n 1", "sh"]).run().ok();
    wait_until("its end", || host.processes_named("yes ").is_empty());
    let _ = host.background("yes", &["-t"], "exec yes");
    let _ = host.kontena().args(["attach", "yes"]).through("sh", &["-c", "\"$@\" | head -n 1", "sh"]).run().ok();
    assert_eq!(Background::new(&host, "yes").status(), "running");
}

#[test]
fn console_can_be_reopened() {
    // As an init does that opens it for each message.
    let host = Host::new();
    let script = "exec < /dev/null > /dev/null 2>&1; sleep 0.3; echo one > /dev/console; sleep 0.3; \
                  echo two > /dev/console; exit 3";
    let terminal = host.sh(&["-t"], script).on_terminal();
    assert_eq!(terminal.finish(), 3);
    assert!(terminal.lines().contains("one\n") && terminal.lines().contains("two\n"), "{}", terminal.text());
    let job = host.background("job", &["-t"], script);
    assert_eq!(job.end(), 3);
    assert_eq!(job.logged(), "one\r\ntwo\r\n");
}

#[test]
fn command_that_closes_its_terminal_keeps_running() {
    let host = Host::new();
    let _job = host.background("job", &[], "exec sleep 600");
    let script = "exec < /dev/null > /dev/null 2>&1; sleep 0.3; exit 8";
    let terminal = host.exec(&["-it"], "job", &["sh", "-c", script]).on_terminal();
    assert_eq!(terminal.finish(), 8, "{}", terminal.text());
}

#[test]
fn terminal_written_by_others_does_not_block_the_client() {
    let host = Host::new();
    let _job = host.background("job", &[], "exec sleep 600");
    // A process of another session that opens the terminal again when it has been hung up, and never stops.
    let script = "tty=$(tty); setsid sh -c \"trap '' HUP; while :; do yes > $tty; done\" & sleep 0.3; exit 8";
    let terminal = host.exec(&["-it"], "job", &["sh", "-c", script]).on_terminal();
    assert_eq!(terminal.finish(), 8);
}

#[test]
fn size_is_kept_across_a_restart() {
    let host = Host::new();
    let volume = format!("{}:/host", host.directory().display());
    let script = "stty size; [ -e /host/again ] && exit 0; until [ \"$(stty size)\" = '50 132' ]; do sleep 0.02; done; \
                  > /host/again; exit 1";
    let terminal = host.sh(&["-it", "-v", &volume, "--restart", "on-failure"], script).on_terminal();
    terminal.wait_for("24 80\r\n");
    terminal.resize(50, 132);
    assert_eq!(terminal.finish(), 0, "{}", terminal.text());
    assert!(terminal.text().contains("50 132\r\n"), "{}", terminal.text());
}

/// Two who write to each other: a container that does not read, and a client whose input is full.
#[test]
fn client_with_unread_input_can_detach_and_resize() {
    let host = Host::new();
    let terminal = host.sh(&["-it", "--name", "deaf"], "stty raw -echo; echo ready; exec sleep 600").on_terminal();
    terminal.wait_for("ready");
    // More than fits anywhere: it stays in the caller's own terminal at last.
    terminal.flood();
    sleep(Duration::from_millis(500));
    terminal.resize(40, 100);
    sleep(Duration::from_millis(100));
    assert!(terminal.status().is_none());
    // It reads no keys any more, but takes signals, and its terminal is restored.
    terminal.signal(Signal::SIGHUP);
    assert_eq!(terminal.finish(), 129);
    wait_until("the end of the container", || host.list().is_empty());
}

/// A client that does not read holds the container up for ten seconds, and not for longer; nor does it hold the other
/// one's up for good.
#[test]
fn client_that_does_not_read_is_disconnected() {
    let host = Host::new();
    let volume = format!("{}:/host", host.directory().display());
    let script = "until [ -e /host/go ]; do sleep 0.02; done; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo done";
    let job = host.background("job", &["-v", &volume, "--log-opt", "max-size=10m"], script);
    let (_never_read, stdout) = UnixStream::pair().unwrap();
    let client = host.kontena().args(["attach", "job"]).with(|command| {
        command.stdin(Stdio::null()).stdout(std::os::fd::OwnedFd::from(stdout));
    });
    let fds = || fs::read_dir(format!("/proc/{}/fd", job.launcher())).unwrap().count();
    let alone = fds();
    let mut client = client.start();
    wait_until("the client", || fds() > alone);
    let one = fds();
    let reader = host.kontena().args(["attach", "--no-stdin", "job"]).start();
    wait_until("the reader", || fds() > one);
    fs::write(host.directory().join("go"), "").unwrap();
    assert_eq!(job.end(), 0);
    assert_eq!(job.logged().len(), 3_000_001 + "done\n".len());
    let outcome = reader.finish().code(0);
    assert_eq!(outcome.stdout.len(), 3_000_001 + "done\n".len(), "who reads has all of it");
    assert!(!client.has_ended(), "it still writes what it has");
    client.signal(Signal::SIGKILL);
}

#[test]
fn stuck_client_does_not_prevent_a_stop() {
    let host = Host::new();
    let (mut never_read, stdout) = UnixStream::pair().unwrap();
    let program = host.sh(&["-t", "--name", "loud"], "exec yes").with(|command| {
        command.stdout(std::os::fd::OwnedFd::from(stdout));
    });
    let client = program.start();
    let loud = Background::new(&host, "loud");
    // As much as there is room for, which is little where it comes in small pieces, and no more comes.
    let mut seen = vec![0; 1 << 20];
    let mut written = || {
        sleep(Duration::from_millis(200));
        recv(never_read.as_raw_fd(), &mut seen, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).unwrap_or(0)
    };
    wait_until("the client to be stuck", || written() > 0 && written() == written());
    let _ = host.kontena().args(["stop", "-t", "0", "loud"]).run().ok();
    assert!(!loud.directory().exists());
    // A client that reads on sees the output, and exits.
    let mut rest = Vec::new();
    let reader = std::thread::spawn(move || {
        let _ = never_read.read_to_end(&mut rest);
        let _ = never_read.flush();
        rest.len()
    });
    let outcome = client.finish();
    assert!([137, 125].contains(&outcome.code), "{outcome}");
    assert!(reader.join().unwrap() > 0);
}

/// tmux on this host, whose server is gone with it.
struct Tmux<'a> {
    host: &'a Host,
}

impl Tmux<'_> {
    fn run(&self, words: &[&str]) -> String {
        self.command(words).run().ok()
    }

    fn command(&self, words: &[&str]) -> Program<'_> {
        let socket = self.host.directory().join("tmux");
        let shell = tests::instruments().join("usr/bin/sh");
        let program = self.host.program("tmux").env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env("SHELL", shell);
        // Where the machine has none of these, with the instruments.
        let instruments = tests::instruments();
        let terminfo =
            ["usr/lib/terminfo", "usr/share/terminfo"].map(|path| instruments.join(path).display().to_string());
        let program =
            program.env("TERMINFO_DIRS", terminfo.join(":")).env("LOCPATH", instruments.join("usr/lib/locale"));
        program.arg("-S").arg(socket).args(["-f", "/dev/null"]).args(words)
    }

    /// The screen of a window.
    fn screen(&self, window: &str) -> String {
        self.run(&["capture-pane", "-p", "-t", window])
    }

    fn wait_for(&self, window: &str, text: &str) {
        wait_until(&format!("{text:?} in tmux: {}", self.screen(window)), || self.screen(window).contains(text));
    }

    fn keys(&self, window: &str, keys: &[&str]) {
        let _ = self.run(&[&["send-keys", "-t", window], keys].concat());
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).run();
    }
}

#[test]
fn exec_works_under_tmux() {
    let host = Host::new();
    let job = host.background("job", &PROMPT, "exec sleep 600");
    let tmux = Tmux { host: &host };
    let kontena = tests::launcher().display().to_string();
    let state = host.state().display().to_string();
    let line = format!("{kontena} --root {state} exec -it job bash --norc --noprofile -i");
    let _ = tmux.run(&["new-session", "-d", "-s", "s", "-x", "100", "-y", "30", "sh"]);
    tmux.wait_for("s", "#");
    tmux.keys("s", &[&line, "Enter"]);
    tmux.wait_for("s", "\n$\n");
    tmux.keys("s", &["printf '\\033[H\\033[2J'; tty; stty size; echo $TERM", "Enter"]);
    let size = tmux.run(&["display-message", "-p", "-t", "s", "#{pane_height} #{pane_width}"]);
    tmux.wait_for("s", &format!("/dev/pts/0\n{size}"));
    wait_until("TERM to be tmux's own", || ["screen", "tmux"].iter().any(|term| tmux.screen("s").contains(term)));
    // Resized by a split.
    let _ = tmux.run(&["split-window", "-h", "-t", "s", "sh"]);
    let size = tmux.run(&["display-message", "-p", "-t", "s:0.0", "#{pane_height} #{pane_width}"]);
    assert!(size.ends_with(" 50\n"), "{size}");
    // The signal that it has changed may come after the keys.
    wait_until("its size", || {
        tmux.keys("s:0.0", &["printf '\\033[H\\033[2J'; stty size", "Enter"]);
        sleep(Duration::from_millis(200));
        tmux.screen("s:0.0").contains(&size)
    });
    let _ = tmux.run(&["kill-pane", "-t", "s:0.1"]);
    // Keys, colours and programs of the whole screen.
    tmux.keys("s", &["printf '\\033[H\\033[2J'; sleep 900", "Enter"]);
    wait_until("sleep", || !host.processes_named("sleep 900 ").is_empty());
    tmux.keys("s", &["C-c"]);
    wait_until("its end", || host.processes_named("sleep 900 ").is_empty());
    tmux.keys("s", &["printf '\\033[H\\033[2J'; printf '\\033[31mred\\033[0m\\n'", "Enter"]);
    wait_until("red", || tmux.run(&["capture-pane", "-p", "-e", "-t", "s"]).contains("\x1b[31mred"));
    tmux.keys("s", &["exit 6", "Enter"]);
    tmux.wait_for("s", "exit\n#");
    // The shell around it has its terminal back.
    tmux.keys("s", &["echo status $?; stty -a | grep -c -- -icanon", "Enter"]);
    tmux.wait_for("s", "status 6\n0\n");
    // A pane that is closed takes its command along.
    let _ = tmux.run(&["new-window", "-t", "s:", "-n", "w", &line]);
    wait_until("the second shell", || job.processes().len() == 4);
    let _ = tmux.run(&["kill-window", "-t", "s:w"]);
    wait_until("its end", || job.processes().len() == 2);
    // And one whose server is gone.
    let _ = tmux.run(&["new-window", "-t", "s:", "-n", "w", &line]);
    wait_until("the third shell", || job.processes().len() == 4);
    drop(tmux);
    wait_until("its end", || job.processes().len() == 2);
    assert_eq!(job.status(), "running");
}

#[test]
fn tmux_runs_in_a_container() {
    let host = Host::new();
    let terminal = host
        .run(
            &["--net", "none", "-it", "-e", "LC_ALL=C.UTF-8"],
            host.debian(),
            &["tmux", "-f", "/dev/null", "new", "sh"],
        )
        .on_terminal();
    terminal.wait_for("[0]");
    terminal.type_in("echo in''side\n");
    terminal.wait_for("inside");
    terminal.type_in("exit\n");
    assert_eq!(terminal.finish(), 0, "{}", terminal.text());
}

#[test]
fn terminal_of_the_caller_cannot_be_typed_into() {
    // TIOCSTI: what a payload would type there, the caller's shell would run.
    let host = Host::new();
    let volume = format!("{}:/intruder:ro", tests::intruder().display());
    let options = ["--net", "none", "-v", &volume, "--cap-add", "SYS_ADMIN"];
    let _job =
        host.run(&[&["-d", "--name", "job"], &options[..]].concat(), host.debian(), &["sleep", "600"]).run().ok();
    let tiocsti = nix::libc::TIOCSTI.to_string();
    // ioctl(0, TIOCSTI, an address): EPERM before the address is looked at.
    let ioctl = ["/intruder", "call", &nix::libc::SYS_ioctl.to_string(), "0", &tiocsti, "0"].map(String::from);
    let ioctl: Vec<&str> = ioctl.iter().map(String::as_str).collect();
    for terminal in [
        host.run(&[&["-t"], &options[..]].concat(), host.debian(), &ioctl).on_terminal(),
        host.run(&[&["-it"], &options[..]].concat(), host.debian(), &ioctl).on_terminal(),
        // With the caller's own as its stdio.
        host.run(&options, host.debian(), &ioctl).on_terminal(),
        host.exec(&["-t"], "job", &ioctl).on_terminal(),
        host.exec(&["-it"], "job", &ioctl).on_terminal(),
        host.exec(&["-i"], "job", &ioctl).on_terminal(),
    ] {
        assert_eq!(terminal.finish(), 0, "{}", terminal.text());
        assert!(terminal.text().contains("EPERM"), "{}", terminal.text());
    }
    // Nor is the caller's terminal there by any name, or as the controlling one.
    let script = "ls -l /proc/self/fd /dev/pts /dev/console; : < /dev/tty && tty";
    for (terminal, is_own) in [
        (host.run(&["--net", "none", "-it"], host.debian(), &["sh", "-c", script]).on_terminal(), true),
        (host.exec(&["-it"], "job", &["sh", "-c", script]).on_terminal(), true),
        (host.exec(&[], "job", &["sh", "-c", script]).on_terminal(), false),
    ] {
        let status = terminal.finish();
        assert_eq!(status == 0, is_own, "{}", terminal.text());
        if is_own {
            assert!(terminal.text().contains("/dev/pts/0"), "{}", terminal.text());
        }
    }
}

#[test]
fn helper_of_the_client_holds_only_the_terminal() {
    // The helper that restores the terminal of a killed client runs as long as the client, and holds only the terminal.
    let host = Host::new();
    let _job = host.background("job", &[], "exec sleep 600");
    let terminal = host.exec(&["-it"], "job", &["sh", "-c", "echo ready; exec sleep 600"]).on_terminal();
    terminal.wait_for("ready");
    let client = terminal.program();
    let children = fs::read_to_string(format!("/proc/{client}/task/{client}/children")).unwrap();
    let helper = wait_for("who restores the terminal", || {
        let is_it = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "kontena\n");
        children.split_whitespace().find(is_it).and_then(|pid| pid.parse::<i32>().ok())
    });
    let fds = || -> Vec<String> {
        let links = fs::read_dir(format!("/proc/{helper}/fd")).unwrap().flatten();
        links.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect()
    };
    wait_until("it to hold nothing else", || {
        let (pipes, others): (Vec<_>, Vec<_>) = fds().into_iter().partition(|fd| fd.starts_with("pipe:"));
        pipes.len() == 1 && others.iter().all(|fd| fd.starts_with("/dev/pts/"))
    });
    // Signals to the client's process group do not reach it, not even SIGKILL.
    let group = nix::unistd::getpgid(Some(client)).unwrap();
    let own = nix::unistd::getpgid(Some(Pid::from_raw(helper))).unwrap();
    assert_ne!(group, own);
    kill(client, Signal::SIGKILL).unwrap();
    wait_until("the terminal to be restored", || !terminal.is_raw());
    wait_until("its own end", || !std::path::Path::new(&format!("/proc/{helper}")).exists());
}
