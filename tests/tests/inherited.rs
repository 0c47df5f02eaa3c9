//! Attributes of the caller that execve(2) passes on implicitly.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use std::fs;
use tests::{Host, Program, images, intruder, wait_until};

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
