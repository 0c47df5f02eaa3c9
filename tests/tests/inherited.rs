//! Attributes of the caller that execve(2) passes on implicitly, and fds that it passes on by request.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use tests::{Background, Host, Program, images, intruder, wait_until};

/// Everything that `intruder odd` knows, except keyrings.
const ALL: &str = "signals,fifo,io,personality,securebits";

/// The output of `intruder inherited` without any of that.
const NOTHING: &str = "ignored 0 blocked 0\npolicy 0\nreal-time io false\npersonality 0\nsecurebits 0\n";

/// The same program, by a caller with unusual attributes.
fn by_odd<'a>(program: Program<'a>, what: &str) -> Program<'a> {
    program.through(intruder().to_str().unwrap(), &["odd", what])
}

/// `kontena run OPTIONS` of the intruder, unfiltered in a user namespace whose root is `uid` on the host; in a root
/// whose file system has idmapped mounts on every kernel.
fn intrude_as<'a>(host: &'a Host, uid: u32, options: &[&str], arguments: &[&str]) -> Program<'a> {
    let (volume, map) = (format!("{}:/run/intruder:ro", intruder().display()), format!("map=0:{uid}:65536"));
    let options = [&["--net", "none", "-v", &volume, "--seccomp", "unconfined", "--userns", &map], options].concat();
    host.run(&options, images().join("demo.erofs"), &["/run/intruder"]).args(arguments)
}

#[test]
fn unusual_attributes_of_the_caller_do_not_reach_a_container() {
    let host = Host::new();
    let callers = host.program(intruder()).arg("inherited");
    let callers = by_odd(callers, ALL).run().ok();
    assert_ne!(callers, NOTHING);
    for line in callers.lines() {
        assert!(!NOTHING.contains(&format!("{line}\n")), "the caller has them all: {callers}");
    }
    for options in [&[][..], &["-u", "33"], &["--seccomp", "unconfined"]] {
        assert_eq!(by_odd(host.intrude(options, &["inherited"]), ALL).run().ok(), NOTHING, "{options:?}");
    }
    assert_eq!(by_odd(host.intrude(&[], &["inherited"]), "round-robin").run().ok(), NOTHING);
    assert_eq!(by_odd(intrude_as(&host, 1_700_000, &[], &["inherited"]), ALL).run().ok(), NOTHING);

    // In the background, and for a process that joins it.
    let _ = by_odd(host.intrude(&["-d", "--name", "told"], &["inherited"]), ALL).run().ok();
    wait_until("its end", || host.kontena().arg("list").run().ok().contains("exited"));
    assert_eq!(host.kontena().args(["logs", "told"]).run().ok(), NOTHING);
    let volume = format!("{}:/intruder:ro", intruder().display());
    let _job = host.background("job", &["-v", &volume], "echo ready; exec sleep 600");
    for options in [&[][..], &["-u", "33"]] {
        let program = host.exec(options, "job", &["/intruder", "inherited"]);
        assert_eq!(by_odd(program, ALL).run().ok(), NOTHING, "{options:?}");
    }
}

#[test]
fn unusual_attributes_of_the_caller_do_not_reach_health_commands() {
    let host = Host::new();
    let health = "/intruder inherited > /tmp/found.new && mv /tmp/found.new /tmp/found";
    let volume = format!("{}:/intruder:ro", intruder().display());
    let options = ["-d", "--name", "job", "-v", &volume, "--tmpfs", "/tmp", "--health-interval", "1s", "--health-cmd"];
    let options = [&options[..], &[health]].concat();
    let _ = by_odd(host.sh(&options, "exec sleep 600"), ALL).run().ok();
    let found = || host.exec(&[], "job", &["cat", "/tmp/found"]).run().stdout;
    wait_until("what the health command has found", || !found().is_empty());
    assert_eq!(found(), NOTHING);
}

#[test]
fn caller_that_ignores_sigchld_gets_the_exit_status() {
    let host = Host::new();
    let odd = |program| by_odd(program, "signals");
    let _ = odd(host.sh(&[], "exit 7")).run().code(7);
    let _ = odd(host.sh(&["-d", "--name", "job"], "exec sleep 600")).run().ok();
    let _ = odd(host.exec(&[], "job", &["sh", "-c", "exit 8"])).run().code(8);
    let _ = odd(host.kontena().args(["stop", "-t", "0", "job"])).run().ok();
    // As any image's entry point, the init is started by somebody else's runtime.
    let _ = odd(host.program(tests::init()).args(["sh", "-c", "exit 9"])).run().code(9);
}

#[test]
fn blocked_signals_still_end_a_container() {
    let host = Host::new();
    let program = host.sh(&[], "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    // GNU env, since `intruder odd` also ignores the signals that it blocks, and the launcher leaves ignored signals
    // alone.
    let mut running = program.through("env", &["--block-signal=TERM,INT,HUP,CHLD"]).start();
    running.wait_for_output("ready");
    running.signal(Signal::SIGTERM);
    let _ = running.finish().code(3);
}

#[test]
fn container_inherits_priorities_and_limits_of_the_caller() {
    // As with any program: the caller sets them, and they give no privileges. The CPU affinity is inherited, too,
    // unless the leaf has a cpuset.
    let host = Host::new();
    let script = "cut -d ' ' -f 19 /proc/self/stat; ionice; ulimit -c; ulimit -n";
    let plain = |program: Program<'_>| {
        let shell = "ulimit -c 0; ulimit -n 321; exec nice -n 7 ionice -c 3 \"$@\"";
        program.through("sh", &["-c", shell, "sh"]).run().ok()
    };
    let callers = plain(host.program("sh").args(["-c", script]));
    // This machine's own niceness comes on top.
    assert!(callers.ends_with("\nidle\n0\n321\n") && !callers.starts_with("0\n"), "{callers}");
    assert_eq!(plain(host.sh(&[], script)), callers);
}

#[test]
fn keys_of_the_caller_do_not_reach_a_container() {
    let host = Host::new();
    let by_caller = |program| by_odd(program, "keyring").run().ok();
    let callers = by_caller(host.program(intruder()).arg("keys"));
    let (secret, users) = callers.split_once('\n').unwrap();
    assert!(secret.starts_with("secret of the caller"), "{callers}");
    assert!(!users.contains('E'), "the host's own user keyring: {callers}");

    for (options, expected) in [
        (&[][..], "secret EPERM\nuser EPERM\nnamed EPERM\n"),
        // Without a filter, and without a user namespace, nothing but a filter keeps root's user keyring from it.
        (&["--seccomp", "unconfined"], "secret ENOSYS\nuser ENOSYS\nnamed ENOSYS\n"),
        (&["--seccomp", "unconfined", "--cap-add", "ALL"], "secret ENOSYS\nuser ENOSYS\nnamed ENOSYS\n"),
    ] {
        assert_eq!(by_caller(host.intrude(options, &["keys"])), expected, "{options:?}");
    }
    // A user namespace has user keyrings of its own, and the session keyring that its first process brings.
    let in_userns = |found: &str| {
        assert!(found.starts_with("secret ENOKEY\n"), "{found}");
        for line in found.lines().skip(1) {
            assert!(!users.lines().any(|callers| callers == line), "the host's user keyring: {found}");
        }
    };
    in_userns(&by_caller(intrude_as(&host, 1_700_000, &[], &["keys"])));
    let _ = intrude_as(&host, 1_700_000, &["-d", "--name", "job"], &["time", "4000000000"]).run().ok();
    in_userns(&by_caller(host.exec(&[], "job", &["/run/intruder", "keys"])));
}

#[test]
fn keyring_calls_of_other_architectures_do_not_exist() {
    let host = Host::new();
    let add_key = nix::libc::SYS_add_key;
    for number in add_key..add_key + 3 {
        for bits in [0, if cfg!(target_arch = "x86_64") { 0x4000_0000 } else { 0 }] {
            let number = (number | bits).to_string();
            let said = host.intrude(&["--seccomp", "unconfined"], &["call", &number]).run().ok();
            assert!(said.starts_with("ENOSYS"), "{number}: {said}");
        }
    }
    #[cfg(target_arch = "x86_64")]
    for (number, is_refused) in [(284, false), (286, true), (287, true), (288, true), (289, false)] {
        // i386: waitid, add_key, request_key, keyctl, ioprio_set.
        let said = host.intrude(&["--seccomp", "unconfined"], &["foreign", "int80", &number.to_string()]).run().ok();
        assert_eq!(said.trim_end() == (-nix::libc::ENOSYS).to_string(), is_refused, "{number}: {said}");
    }
    // The calls beside them do what they do.
    for number in [add_key - 1, add_key + 3] {
        let said = host.intrude(&["--seccomp", "unconfined"], &["call", &number.to_string(), "-1", "-1"]).run().ok();
        assert!(!said.starts_with("ENOSYS"), "{number}: {said}");
    }
}

#[test]
fn keyrings_disappear_with_their_containers() {
    // Each is counted, 200 for an ordinary user; proc_key-users(5).
    let host = Host::new();
    let counted = || {
        let users = fs::read_to_string("/proc/key-users").unwrap();
        users.lines().any(|line| line.trim_start().starts_with("1800000:"))
    };
    let _ = intrude_as(&host, 1_800_000, &["-d", "--name", "job"], &["time", "4000000000"]).run().ok();
    assert!(counted(), "one is there");
    for _ in 0..3 {
        let _ = host.exec(&[], "job", &["/run/intruder", "inherited"]).run().ok();
    }
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    wait_until("no keyring of its uid to be left", || !counted());
}

#[test]
fn caller_with_low_limits_gets_a_container_or_one_line() {
    let host = Host::new();
    let _ = host.sh(&[], "true").run().ok();
    let before = host.snapshot();
    let mut refused = 0;
    for limit in (3..24).step_by(2) {
        let program = host.sh(&[], "true").through("prlimit", &[&format!("--nofile={limit}")]);
        let outcome = program.run();
        if outcome.code != 0 {
            let line = outcome.refused(125);
            assert!(line.contains("ulimit -n"), "{limit}: {line}");
            refused += 1;
        }
    }
    assert!((1..11).contains(&refused), "{refused}");
    for limit in [0, 4096] {
        let program = host.sh(&[], "true").through("prlimit", &[&format!("--fsize={limit}")]);
        let line = program.run().refused(125);
        assert!(line.contains("ulimit -f"), "{line}");
    }
    before.assert_restored(|| host.snapshot());
    for umask in ["077", "0777"] {
        let program = host.sh(&["-d", "--name", "job", "--overlay"], "umask; touch /file; stat -c %a /file /dev /tmp");
        let script = format!("umask {umask}; exec \"$@\"");
        let _ = program.through("sh", &["-c", &script, "sh"]).run().ok();
        wait_until("its end", || host.kontena().arg("list").run().ok().contains("exited"));
        assert_eq!(host.kontena().args(["logs", "job"]).run().ok(), "0022\n644\n755\n1777\n");
        let _ = host.kontena().args(["rm", "job"]).run().ok();
    }
}

/// Runs a program with a listening socket as fd 3 and the variables of a socket activation, as systemd does.
fn activated<'a>(program: Program<'a>, listener: &TcpListener, before: &str) -> Program<'a> {
    let script = format!("exec 3<&0 </dev/null; {before} LISTEN_FDNAMES=web:log LISTEN_PID=$$ exec \"$@\"");
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    program.through("bash", &["-c", &script, "bash"]).with(|command| _ = command.stdin(socket))
}

/// Accepts connections on fd 3, if it is the activated process, and writes its environment and fds.
const ACCEPT: &str = r#"
    $ENV{LISTEN_PID} == $$ or die "LISTEN_PID is $ENV{LISTEN_PID} in $$";
    open(my $socket, "+<&=", 3) or die "fd 3: $!";
    accept(my $client, $socket) or die "accept: $!";
    opendir(my $fds, "/proc/self/fd");
    my @fds = sort grep { /\d/ && $_ != fileno($fds) && $_ != fileno($client) } readdir($fds);
    print $client "$ENV{LISTEN_FDS} $ENV{LISTEN_FDNAMES} fds @fds\n";
    exit($ENV{STATUS} // 0);
"#;

#[test]
fn socket_activated_command_gets_the_sockets() {
    let host = Host::new();
    let listener = host.inside(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let ask = || {
        let mut text = String::new();
        let mut stream = host.inside(|| TcpStream::connect(address)).unwrap();
        stream.set_read_timeout(Some(tests::patience())).unwrap();
        let _ = stream.read_to_string(&mut text).unwrap();
        text
    };
    let run = |options: &[&str], before: &str| {
        let options = [&["--net", "none"], options].concat();
        let program = host.run(&options, host.debian(), &["perl", "-MSocket", "-e", ACCEPT]);
        activated(program, &listener, before)
    };
    // Two sockets, of which the second is no socket; and none of the fds beyond.
    let before = "exec 4</dev/null 5</etc/passwd 9</; LISTEN_FDS=2";
    for options in [&[][..], &["--init=false"], &["-u", "33"], &["--notify-fd", "9"], &["--userns", "map=0:0:65536"]] {
        let running = run(options, before).start();
        let fds = if options.contains(&"--notify-fd") { "0 1 2 3 4 9" } else { "0 1 2 3 4" };
        assert_eq!(ask(), format!("2 web:log fds {fds}\n"), "{options:?}");
        let _ = running.finish().ok();
    }
    // In the background, and after a restart.
    let options = ["-d", "--name", "job", "--restart", "on-failure:1", "-e", "STATUS=3"];
    let _ = run(&options, before).run().ok();
    assert_eq!([ask(), ask()], ["2 web:log fds 0 1 2 3 4\n"; 2]);
    assert_eq!(host.kontena().args(["wait", "job"]).run().code(3).stdout, "3\n");

    // Without the caller's word that they are for kontena, they are not.
    for before in ["LISTEN_FDS=x", "LISTEN_FDS=2"] {
        let line = run(&[], &format!("exec 4<&-; {before}")).run().refused(125);
        assert!(line.contains("LISTEN_FDS") || line.contains("fd 4: EBADF"), "{line}");
    }
    let script = "echo $LISTEN_FDS$LISTEN_PID; ls /proc/self/fd";
    let program = host.sh(&[], script).through("bash", &["-c", "exec 3</; exec \"$@\"", "bash"]);
    assert_eq!(program.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").run().ok(), "\n0\n1\n2\n3\n");
}

#[test]
fn systemds_proxy_is_activated_in_a_container() {
    let host = Host::new();
    let listener = host.inside(|| TcpListener::bind("127.0.0.1:8090")).unwrap();
    let _service = host.service("127.0.0.1:8091");
    let command = ["/lib/systemd/systemd-socket-proxyd", "127.0.0.1:8091"];
    let program = host.run(&["--net", "host", "--name", "proxy"], host.debian(), &command);
    let _proxy = activated(program, &listener, "LISTEN_FDS=1").start();
    assert!(host.get("127.0.0.1:8090").unwrap().contains("Active connections"));
}

#[test]
fn preserved_fds_are_exactly_those() {
    let host = Host::new();
    let run = |options: &[&str], open: &str, script: &str| {
        host.sh(options, script).through("bash", &["-c", &format!("{open}; exec \"$@\""), "bash"])
    };
    let file = host.directory().join("file");
    let open = format!("exec 3</etc/passwd 4>{} 5</ 6<&-", file.display());
    for options in [&[][..], &["-d", "--rm"], &["--init=false"], &["--userns", "map=0:0:65536"]] {
        fs::write(&file, "").unwrap();
        let options = [&["--preserve-fds", "2"], options].concat();
        // One more is that of ls itself.
        let _ = run(&options, &open, "ls /proc/self/fd >&4; read -r name <&3; echo \"$name\" end >&4").run().ok();
        wait_until("the end", || fs::read_to_string(&file).unwrap().ends_with(" end\n"));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("0\n1\n2\n3\n4\n5\n") && !text.contains("\n6\n"), "{options:?}: {text}");
    }
    // Others that kontena starts have none of them: a command that joins, and PID 1.
    let options = ["-d", "--name", "job", "--preserve-fds", "2", "--health-cmd", "ls /proc/self/fd > /dev/shm/fds"];
    let script = "until [ -s /dev/shm/fds ]; do sleep 0.01; done; cat /dev/shm/fds; sleep 1000";
    let _ = run(&[&options[..], &["--health-interval", "50ms"]].concat(), &open, script).run().ok();
    let job = Background::new(&host, "job");
    job.wait_for_log(" 3\n");
    assert_eq!(job.logged(), "0\n1\n2\n3\n");
    assert_eq!(job.exec(&["ls", "/proc/self/fd"]).run().ok(), "0\n1\n2\n3\n");
    let fds = fs::read_dir(format!("/proc/{}/fd", job.init())).unwrap();
    let targets = fds.map(|fd| fs::read_link(fd.unwrap().path()).unwrap_or_default());
    assert!(targets.into_iter().all(|target| target != file), "PID 1 has the file");

    // One that is not open is not one of kontena's own.
    for options in [&["--preserve-fds", "4"][..], &["-d", "--preserve-fds", "4"]] {
        let line = run(options, &open, "ls -l /proc/self/fd").run().refused(125);
        assert!(line.contains("--preserve-fds: fd 6: EBADF"), "{line}");
    }
    let line = run(&["--preserve-fds", "2", "--notify-fd", "4"], &open, "true").run().refused(125);
    assert!(line.contains("--notify-fd"), "{line}");
    let create = host.kontena().args(["create", "--preserve-fds", "1"]).arg(host.debian());
    assert!(create.run().refused(125).contains("use kontena run"));
    let _ = job.does("stop");
    assert!(host.kontena().args(["start", "job"]).run().refused(125).contains("use kontena run"));
}
