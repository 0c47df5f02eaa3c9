//! Stdio: that a container never has an inode of the host's by the fds it is given, and that what goes through them
//! arrives all the same.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tests::{Background, Host, Outcome, Program, wait_until};

/// A directory that a container sees as /host, and how it is given it. The host's null device is the test's own from
/// here on.
fn shared(host: &Host) -> (PathBuf, String) {
    cover_null(host);
    let path = host.directory().join("shared");
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let volume = format!("{}:/host", path.display());
    (path, volume)
}

/// Does to its own stdio and to that of PID 1 what would change a file of the host's, and says in /host/own what has
/// come of its own; the errors go to /host/errors.
///
/// In subshells: where a redirection is in the shell itself, it is that which the attack would meet.
const ATTACK: &str = "(exec 2>>/host/errors; for process in $$ 1; do for fd in 0 1 2; do
        file=/proc/$process/fd/$fd
        chown 7:7 $file; chmod 4701 $file; touch -d 2001-01-01 $file; truncate -s 0 $file; setfacl -m u:7:rwx $file
    done; done)
    (for fd in 0 1 2; do stat -L -c '%F %a %u' /proc/$$/fd/$fd; done > /host/new; mv /host/new /host/own)";

/// What of a file of the host's must stay.
fn look(path: &Path) -> (u32, u32, u32, i64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime())
}

/// A way to start a program in a container.
type Way<'a> = &'a dyn Fn() -> Program<'a>;

/// Puts a null device of the test's own in the place of the pretend host's: the machine's is everybody's.
fn cover_null(host: &Host) {
    let directory = host.directory().join("devices");
    fs::create_dir(&directory).unwrap();
    host.inside(|| {
        mount(None::<&str>, &directory, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let canary = directory.join("null");
        let all = Mode::from_bits_truncate(0o666);
        mknod(&canary, SFlag::S_IFCHR, all, makedev(1, 3)).unwrap();
        fs::set_permissions(&canary, Permissions::from_mode(0o666)).unwrap();
        mount(Some(&canary), "/dev/null", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    });
}

#[test]
fn null_device_of_the_host_cannot_be_changed() {
    let host = Host::new();
    let (path, volume) = shared(&host);
    let null = || host.inside(|| look(Path::new("/dev/null")));
    let before = null();
    let own = || fs::read_to_string(path.join("own")).unwrap_or_default();
    // The attack works on what the container has, which is its own; and the host's stays as it is.
    let assert_unharmed = |how: &str, fds: &[usize]| {
        wait_until(&format!("the attack by {how}"), || own().lines().count() == 3);
        for fd in fds {
            let what = own().lines().nth(*fd).unwrap().to_owned();
            assert_eq!(what, "character special file 4701 7", "{how}: {}", own());
        }
        assert_eq!(null(), before, "{how}");
        fs::remove_file(path.join("own")).unwrap();
    };
    let traces = ["--cap-add", "SYS_PTRACE", "-v", &*volume];
    let nowhere = |command: &mut std::process::Command| _ = command.stdout(Stdio::null()).stderr(Stdio::null());

    for options in [&traces[2..], &traces] {
        let _ = host.sh(options, ATTACK).with(nowhere).run().ok();
        assert_unharmed("run", &[0, 1, 2]);
        let _ = host.sh(options, ATTACK).run().ok();
        assert_unharmed("run with pipes", &[0]);
        let closed = host.sh(options, ATTACK).through("bash", &["-c", "exec 0<&- 1>&- 2>&-; exec \"$@\"", "bash"]);
        let _ = closed.run().ok();
        assert_unharmed("run with closed fds", &[0, 1, 2]);
        let _ = host.sh(&[options, &["-t"]].concat(), ATTACK).run();
        let _ = fs::remove_file(path.join("own"));
        assert_eq!(null(), before, "run -t");

        let job = host.background("job", options, &format!("{ATTACK}; exec sleep 600"));
        assert_unharmed("run -d", &[0]);
        let _ = job.exec(&["sh", "-c", ATTACK]).run().ok();
        assert_unharmed("exec", &[0]);
        let _ = job.exec(&["sh", "-c", ATTACK]).with(nowhere).run().ok();
        assert_unharmed("exec with nothing", &[0, 1, 2]);
        let _ = host.exec(&["-d"], "job", &["sh", "-c", ATTACK]).run().ok();
        assert_unharmed("exec -d", &[0, 1, 2]);
        // Where the container has taken its own away, it gets another one, and not the host's, nor what is there
        // instead.
        for instead in ["true", "ln -s zero /dev/null", "mkfifo /dev/null", "cp /etc/passwd /dev/null"] {
            let _ = job.exec(&["sh", "-c", &format!("rm -f /dev/null; {instead}")]).run().ok();
            let _ = host.exec(&["-d"], "job", &["sh", "-c", ATTACK]).run().ok();
            assert_unharmed(instead, &[0, 1, 2]);
        }
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();

        let often = ["--health-cmd", ATTACK, "--health-interval", "50ms"];
        let job = host.background("job", &[options, &often].concat(), "exec sleep 600");
        assert_unharmed("a health command", &[0, 1, 2]);
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
        assert_eq!(job.status(), "gone");
        let _ = fs::remove_file(path.join("own"));
    }
    // It is what the host's programs have: they see it changed.
    let _ = host.program("chmod").args(["600", "/dev/null"]).run().ok();
    assert_ne!(null(), before);
}

/// A file of the host's that must stay as it is, but for what is written through its fd.
fn file(path: &Path, content: &str) -> PathBuf {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
    path.into()
}

/// With these files as its stdio, the output at the end of one.
fn on_files<'a>(program: Program<'a>, input: &Path, output: &Path) -> Program<'a> {
    let output = OpenOptions::new().append(true).open(output).unwrap();
    let input = File::open(input).unwrap();
    program.with(|command| _ = command.stdin(input).stdout(output.try_clone().unwrap()).stderr(output))
}

#[test]
fn files_of_the_host_cannot_be_reached_through_stdio() {
    let host = Host::new();
    let (path, volume) = shared(&host);
    let (input, output) = (host.directory().join("input"), host.directory().join("output"));
    let options = ["--cap-add", "SYS_PTRACE", "--cap-add", "LINUX_IMMUTABLE", "-i", "-v", &*volume];
    let script = format!("read -r line; echo \"$line\"; echo two >&2; echo three; {ATTACK}; cat");
    let assert_unharmed = |run: &dyn Fn() -> Outcome| {
        let (input, output) = (file(&input, "one\nfour\n"), file(&output, "before\n"));
        let of = |path: &Path| (fs::metadata(path).unwrap().mode(), fs::metadata(path).unwrap().uid(), path.to_owned());
        let before = (of(&input), of(&output));
        let outcome = run().code(0);
        assert_eq!((of(&input), of(&output)), before, "{outcome}");
        assert_eq!(fs::read_to_string(&input).unwrap(), "one\nfour\n", "{outcome}");
        assert_eq!(fs::read_to_string(&output).unwrap(), "before\none\ntwo\nthree\nfour\n", "{outcome}");
        let own = fs::read_to_string(path.join("own")).unwrap();
        assert_eq!(own, "fifo 4701 7\n".repeat(3), "the attack has worked on pipes alone");
    };
    assert_unharmed(&|| on_files(host.sh(&options, &script), &input, &output).run());
    let job = host.background("job", &options, "exec sleep 600");
    assert_unharmed(&|| on_files(host.exec(&["-i"], "job", &["sh", "-c", &script]), &input, &output).run());
    let _ = job.does("stop");
}

#[test]
fn any_user_can_reopen_every_kind_of_stdio() {
    // nginx opens /dev/stderr, as a user of its own, whatever systemd or a shell has given kontena.
    let host = Host::new();
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin";
    // It does not write to the root, so the others are not warned of it.
    let _job = host.background("job", &["--read-only"], "exec sleep 600");
    for user in ["root", "33"] {
        let ways: [Way<'_>; 2] = [&|| host.sh(&["-i", "-u", user], script), &|| {
            host.exec(&["-i", "-u", user], "job", &["sh", "-c", script])
        }];
        for way in ways {
            let (input, output) = (file(&host.directory().join("in"), "in\n"), file(&host.directory().join("out"), ""));
            let _ = on_files(way(), &input, &output).run().ok();
            assert_eq!(fs::read_to_string(&output).unwrap(), "out\nerr\nin\n", "{user}");

            // As systemd's journal, and as inetd has it.
            let (ours, theirs) = UnixStream::pair().unwrap();
            let stdio = || Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()));
            let running = way().with(|command| _ = command.stdin(stdio()).stdout(stdio()).stderr(stdio())).start();
            (&ours).write_all(b"in\n").unwrap();
            ours.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = running.finish().code(0);
            let flags = OFlag::from_bits_retain(fcntl(&theirs, FcntlArg::F_GETFL).unwrap());
            assert!(!flags.contains(OFlag::O_NONBLOCK), "what others share stays as it is");
            drop(theirs);
            let mut text = String::new();
            let _ = (&ours).read_to_string(&mut text).unwrap();
            assert_eq!(text, "out\nerr\nin\n", "{user}");

            let terminal = way().on_terminal();
            let _ = terminal.wait_for("err\r\n");
            terminal.type_in("in\n\u{4}");
            assert_eq!(terminal.finish(), 0);
            assert!(terminal.lines().contains("out\nerr\nin\nin\n"), "{user}: {}", terminal.lines());
        }
    }
}

#[test]
fn stdio_can_be_reopened_in_a_user_namespace() {
    let host = Host::new();
    let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
    let userns = ["--userns", "map=0:300000:65536", "--tmpfs", "/tmp", "-v", &*volume];
    let options = [&["--name", "job", "--net", "none"][..], &userns].concat();
    let words = ["/run/intruder", "write", "/dev/stdout", "out\n", "/dev/stderr", "err\n"];
    let run = |options: &[&str], words: &[&str]| host.run(options, tests::images().join("demo.erofs"), words);
    let detached = [&["-d"], &options[..]].concat();
    let ways: [Way<'_>; 2] = [&|| host.exec(&[], "job", &words), &|| run(&options, &words)];
    let _ = run(&detached, &["/run/intruder", "time", "400000000000"]).run().ok();
    for way in ways {
        let (input, output) = (file(&host.directory().join("in"), ""), file(&host.directory().join("out"), ""));
        let _ = on_files(way(), &input, &output).run().ok();
        assert_eq!(fs::read_to_string(&output).unwrap(), "out\nerr\n");
        let outcome = way().run().code(0);
        assert_eq!((&*outcome.stdout, &*outcome.stderr), ("out\n", "err\n"));
        let _ = host.kontena().args(["rm", "-f", "job"]).run();
    }
}

#[test]
fn lines_on_one_file_keep_their_order() {
    let host = Host::new();
    let output = file(&host.directory().join("output"), "");
    let input = file(&host.directory().join("input"), "");
    let script = "for i in $(seq 500); do echo o$i; echo e$i >&2; done";
    let _ = on_files(host.sh(&[], script), &input, &output).run().ok();
    let expected: String = (1..=500).map(|i| format!("o{i}\ne{i}\n")).collect();
    assert!(fs::read_to_string(&output).unwrap() == expected, "{}", fs::read_to_string(&output).unwrap());
}

#[test]
fn large_input_and_output_is_not_lost() {
    let host = Host::new();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let (input, output) = (host.directory().join("input"), host.directory().join("output"));
    fs::write(&input, &bytes).unwrap();
    for _ in 0..3 {
        let _ = file(&output, "");
        let _ = on_files(host.sh(&["-i"], "exec cat"), &input, &output).run().ok();
        assert!(fs::read(&output).unwrap() == bytes, "{}", fs::metadata(&output).unwrap().len());
    }
    // A disk that is full is no reason to end.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let script = "seq 100000 || exit 9; echo done >&2; exit 3";
    let outcome = host.sh(&[], script).with(|command| _ = command.stdout(full)).run().code(3);
    assert_eq!(outcome.stderr, "done\n");
}

#[test]
fn unread_input_is_left_to_the_next_reader() {
    // As a loop of a shell does, whose commands have its input.
    let host = Host::new();
    let lines = file(&host.directory().join("lines"), "1\n2\n3\n4\n5\n6\n7\n");
    let each = format!("while read -r line; do echo $line; \"$@\"; done < {}", lines.display());
    let run_with =
        |options: &[&str], script: &str| host.sh(options, script).through("bash", &["-c", &each, "bash"]).run().ok();
    let run = |script: &str| run_with(&["-i"], script);
    assert_eq!(run("true"), "1\n2\n3\n4\n5\n6\n7\n");
    assert_eq!(run("read -r line; echo got $line"), "1\ngot 2\n3\ngot 4\n5\ngot 6\n7\ngot\n");
    assert_eq!(run("exec cat"), "1\n2\n3\n4\n5\n6\n7\n");
    assert_eq!(run_with(&[], "read -r line || echo none"), (1..=7).map(|i| format!("{i}\nnone\n")).collect::<String>());
}

#[test]
fn shell_does_not_repeat_lines_that_it_has_run() {
    // At the end the pipe contains the input that the command has not read, or data that it has written.
    let host = Host::new();
    let run = |add: usize| {
        let script = format!(
            "# echo this was a comment\necho once\n\"$@\" -c 'exec 3> /proc/self/fd/0; \
             head -c {add:5} /dev/zero >&3'\necho end\n"
        );
        let lines = file(&host.directory().join("script"), &script);
        let all = format!("exec bash -s -- \"$@\" < {}", lines.display());
        let program = host.kontena_run().args(["-i", "--net", "none"]).arg(host.debian()).arg("sh");
        let outcome = program.through("bash", &["-c", &all, "bash"]).run().ok();
        (outcome, script.find("echo end").unwrap() - script.find("echo this").unwrap())
    };
    let (said, distance) = run(0);
    assert_eq!(said, "once\nend\n");
    for add in [distance, 1, 1000] {
        assert_eq!(run(add).0, "once\nend\n", "{add}");
    }
}

#[test]
fn script_in_a_shells_pipe_is_out_of_reach() {
    // As in `curl … | sh`: the pipe could be opened for writing, too.
    let host = Host::new();
    let canary = host.directory().join("canary");
    let touch = format!("touch {}", canary.display());
    let attack =
        format!("for process in $$ 1; do for fd in 0 1 2; do echo '{touch}' > /proc/$process/fd/$fd; done; done");
    for options in [&["--cap-add", "SYS_PTRACE"][..], &["--cap-add", "SYS_PTRACE", "-i"]] {
        let program = host.sh(options, &attack).through("bash", &["-s", "--"]).input(b"\"$@\"\necho end\n");
        let outcome = program.run();
        assert!(!canary.exists(), "{options:?}: {outcome}");
        // With -i the rest of the input may be the command's, as with ssh(1).
        assert!(outcome.stdout.contains("end") || options.contains(&"-i"), "{options:?}: {outcome}");
    }
}

/// A FIFO of the host's, and a program that writes to it.
fn to_fifo<'a>(host: &Host, program: Program<'a>) -> (PathBuf, File, Program<'a>) {
    let path = host.directory().join("fifo");
    let _ = fs::remove_file(&path);
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    chown(&path, Some(5), Some(5)).unwrap();
    // Without waiting for each other.
    let reader = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let flags = OFlag::from_bits_retain(fcntl(&reader, FcntlArg::F_GETFL).unwrap());
    let _ = fcntl(&reader, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).unwrap();
    (path, reader, program.with(|command| _ = command.stdout(writer)))
}

#[test]
fn only_the_last_output_waits_for_a_slow_reader() {
    let host = Host::new();
    let (_, volume) = shared(&host);
    // More than the FIFO holds, and less than the container would have to wait for.
    let script = format!("{ATTACK}; seq 20000");
    let (path, mut reader, program) = to_fifo(&host, host.sh(&["--name", "job", "-v", &volume], &script));
    let before = look(&path);
    let mut running = program.start();
    let job = Background::new(&host, "job");
    wait_until("its start", || job.leaf().exists() || running.has_ended());
    wait_until("its end", || !job.directory().exists() && !job.leaf().exists());
    assert!(!running.has_ended(), "there is more to be read");
    assert_eq!(host.list().len(), 0);
    let mut text = String::new();
    let _ = reader.read_to_string(&mut text).unwrap();
    let expected: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert!(text == expected, "{} bytes of {}", text.len(), expected.len());
    let _ = running.finish().ok();
    let after = look(&path);
    assert_eq!((before.0, before.1, before.2), (after.0, after.1, after.2));
}

#[test]
fn container_can_be_stopped_while_nobody_reads_its_output() {
    let host = Host::new();
    // Only SIGKILL ends it, however long after the SIGTERM it comes.
    let script = "trap '' TERM; echo begun; exec yes";
    let (_path, mut reader, program) = to_fifo(&host, host.sh(&["--name", "job"], script));
    let mut running = program.start();
    let mut begun = [0; 6];
    reader.read_exact(&mut begun).unwrap();
    let job = Background::new(&host, "job");
    let yes = || host.processes_named("yes ");
    // It sleeps in write(2); proc_pid_stat(5).
    let sleeps = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place.contains("pipe"));
    wait_until("it to wait", || yes().first().is_some_and(sleeps) || yes().first().is_some_and(is_asleep));
    assert_eq!(job.status(), "running");
    let _ = host.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    assert!(!job.leaf().exists());
    assert!(!running.has_ended());
    // A signal ends the wait for the rest.
    running.signal(Signal::SIGTERM);
    let _ = running.finish().code(137);
}

/// Whether a process has slept for a while.
fn is_asleep(pid: &u32) -> bool {
    let state = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        (of("State:"), of("voluntary_ctxt_switches:"), of("nonvoluntary_ctxt_switches:"))
    };
    let before = state();
    std::thread::sleep(std::time::Duration::from_millis(50));
    before.0.as_deref().is_some_and(|state| state.contains('S')) && before == state()
}

#[test]
fn container_gets_sigpipe_when_its_reader_exits() {
    let host = Host::new();
    let (_path, mut reader, program) = to_fifo(&host, host.sh(&[], "exec yes"));
    let running = program.start();
    let mut begun = [0; 6];
    reader.read_exact(&mut begun).unwrap();
    drop(reader);
    // SIGPIPE
    let _ = running.finish().code(141);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let running = host.sh(&[], "exec yes").with(|command| _ = command.stdout(OwnedFd::from(theirs))).start();
    (&ours).read_exact(&mut begun).unwrap();
    drop(ours);
    let _ = running.finish().code(141);
}

#[test]
fn terminal_of_the_caller_cannot_be_changed_without_option_t() {
    let host = Host::new();
    let (path, volume) = shared(&host);
    let script = format!(
        "{ATTACK}; for fd in 0 1 2; do stty -echo -icanon -F /proc/$$/fd/$fd; stty sane -echo <&$fd; done 2>&8
         read -r line; echo got $line; tty"
    );
    let _job = host.background("job", &["-v", &volume], "exec sleep 600");
    let ways: [Way<'_>; 2] = [&|| host.sh(&["-i", "--cap-add", "SYS_PTRACE", "-v", &volume], &script), &|| {
        host.exec(&["-i"], "job", &["sh", "-c", &script])
    }];
    for way in ways {
        let terminal = way().on_terminal();
        let (modes, owner) = (terminal.modes(), terminal.owner());
        wait_until("the attack", || path.join("own").exists());
        terminal.type_in("hello\n");
        let _ = terminal.wait_for("got hello");
        let _ = terminal.finish();
        assert_eq!((terminal.modes(), terminal.owner()), (modes, owner));
        assert!(terminal.text().contains("not a tty"), "{}", terminal.text());
        assert_eq!(fs::read_to_string(path.join("own")).unwrap(), "fifo 4701 7\n".repeat(3));
        fs::remove_file(path.join("own")).unwrap();
    }
}

#[test]
fn terminal_is_read_only_in_the_foreground() {
    // Input for the shell while the container is in the background, such as a password, must not reach the container.
    let host = Host::new();
    // It has to be found without PATH, which what runs on a terminal here does not have.
    let path = std::env::var_os("PATH").unwrap();
    let bash = std::env::split_paths(&path).map(|directory| directory.join("bash")).find(|bash| bash.exists()).unwrap();
    let bash = bash.display().to_string();
    let script = "echo ready; while read -r line; do echo container $line; done";
    let go = host.directory().join("go");
    let shell = format!(
        "set -m; stty tostop; \"$@\" & until [ -e {} ]; do sleep 0.02; done
         while read -r line && [ \"$line\" != fg ]; do echo shell $line; done; fg",
        go.display()
    );
    let terminal = host.sh(&["-i", "--name", "job"], script).through(&bash, &["-c", &shell, "bash"]).on_terminal();
    let _ = terminal.wait_for("ready");
    // Not even while nobody else reads.
    terminal.type_in("one\n");
    let _ = terminal.wait_for("one");
    fs::write(&go, "").unwrap();
    let _ = terminal.wait_for("shell one");
    for word in ["two", "three"] {
        terminal.type_in(&format!("{word}\n"));
        let _ = terminal.wait_for(&format!("shell {word}"));
    }
    assert_eq!(Background::new(&host, "job").status(), "running", "nothing has stopped or ended it");
    terminal.type_in("fg\n");
    let _ = terminal.wait_for("fg\r\n");
    terminal.type_in("four\n");
    let _ = terminal.wait_for("container four");
    terminal.type_in("\u{4}");
    assert_eq!(terminal.finish(), 0);
    let text = terminal.text();
    assert!(!["one", "two", "three"].iter().any(|word| text.contains(&format!("container {word}"))), "{text}");
}
