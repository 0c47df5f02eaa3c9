//! `--init=false`: the command is PID 1 of its container, as inits demand it: signals, the exit status, `exec`, the
//! terminal, restarts, and what of the host's it must not see. Inits that others have written boot, serve and stop.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use tests::{Background, Host, wait_until};

/// The options of all containers here.
const PID1: &str = "--init=false";
/// Ids for `--userns auto`.
const IDS: &str = "kontena:100000:6553600\n";

/// A line of /proc/PID/status of a container's PID 1.
fn status(job: &Background<'_>, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", job.init())).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
}

#[test]
fn command_is_pid1_with_any_options() {
    let host = Host::new();
    let script = "read -r name < /proc/1/comm; echo $$ $name /proc/[0-9]*; ls /proc/self/fd; exit 7";
    for options in [
        &[][..],
        &["-i"],
        &["-u", "33"],
        &["-u", "33", "--cap-add", "NET_ADMIN"],
        &["--read-only"],
        &["--cap-add", "ALL", "--seccomp", "unconfined", "--security-opt", "no-new-privileges=false"],
        &["--sysctl", "net.ipv4.ip_forward=1", "--oom-score-adj", "500"],
        &["-v", "/tmp:/mnt"],
    ] {
        let options = [&[PID1], options].concat();
        let outcome = host.sh(&options, script).run().code(7);
        // The last fd is the directory that ls reads.
        assert_eq!(outcome.stdout, "1 sh /proc/1\n0\n1\n2\n3\n", "{options:?} {}", outcome.stderr);
    }
    for init in ["--init", "--init=true"] {
        assert_eq!(host.sh(&[init], "echo $$ $(cat /proc/1/comm)").run().ok(), "2 kontena-init\n");
    }
    let line = host.sh(&["--init=yes"], "").run().refused(125);
    assert!(line.contains("--init") && line.contains("true"), "{line}");
}

#[test]
fn pid1_that_cannot_be_executed_is_reported() {
    let host = Host::new();
    let run = |options: &[&str], command: &str| {
        host.run(&[&[PID1, "--net", "none"], options].concat(), host.debian(), &[command]).run()
    };
    assert!(run(&[], "/nosuch").refused(127).contains("/nosuch"));
    assert!(run(&[], "/etc/passwd").refused(126).contains("/etc/passwd"));
    assert!(run(&["-u", "nobody-here"], "sh").refused(125).contains("nobody-here"));
    assert!(run(&["-w", "/nosuch"], "sh").refused(125).contains("/nosuch"));
    assert!(run(&["-d", "--name", "job"], "/nosuch").refused(127).contains("/nosuch"));
    assert!(host.list().is_empty());
}

#[test]
fn settings_reach_pid1() {
    let host = Host::new();
    let options = [PID1, "--oom-score-adj", "500", "--ulimit", "nofile=77", "--umask", "027", "-w", "/usr"];
    let script = "cat /proc/1/oom_score_adj; ulimit -n; umask; pwd; cat /sys/class/net/lo/operstate";
    assert_eq!(
        host.sh(&options, script).run().ok(),
        "500\n77\n0027\n/usr\nunknown\n",
        "the last is of a link that is up"
    );
}

#[test]
fn exit_status_is_that_of_pid1_even_by_a_signal() {
    let host = Host::new();
    let job = host.background("one", &[PID1], "exit 5");
    assert_eq!(job.end(), 5);
    // A fault of its own; no other signal without a handler ends PID 1.
    let overflow = "kill -TERM $$; kill -KILL $$; ulimit -s 512; exec bash -c 'f() { f; }; f'";
    let _ = host.sh(&[PID1], overflow).run().code(128 + 11);
    let job = host.background("two", &[PID1], overflow);
    assert_eq!(job.end(), 128 + 11);
    let job = host.background("three", &[PID1], "exec sleep 600");
    let _ = job.does("kill");
    assert_eq!(job.end(), 128 + 9);
}

#[test]
fn stop_asks_pid1_and_kills_it_after_the_timeout() {
    let host = Host::new();
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done";
    let job = host.background("polite", &[PID1], script);
    job.wait_for_log("ready");
    let _ = job.does("stop");
    assert_eq!(job.end(), 5);
    // PID 1 without a handler ignores a signal: the kernel's rule for it.
    let job = host.background("deaf", &[PID1, "--stop-timeout", "1"], "echo ready; exec sleep 600");
    job.wait_for_log("ready");
    let _ = host.kontena().args(["kill", "-s", "TERM", "deaf"]).run().ok();
    assert_eq!(job.status(), "running");
    let _ = job.does("stop");
    assert_eq!(job.end(), 128 + 9);
    // In the foreground, the launcher passes signals on.
    let mut running = host.sh(&[PID1], script).start();
    running.wait_for_output("ready");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = running.finish().code(5);
}

#[test]
fn kill_sends_signals_to_pid1_itself() {
    let host = Host::new();
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done";
    let job = host.background("job", &[PID1], script);
    job.wait_for_log("ready");
    let kill = |options: &[&str]| host.kontena().arg("kill").args(options).arg("job").run().ok();
    let _ = kill(&["-s", "USR1"]);
    job.wait_for_log("usr1");
    let _ = kill(&["-s", "STOP"]);
    wait_until("PID 1 to be stopped", || status(&job, "State:").starts_with('T'));
    let _ = kill(&["-s", "CONT"]);
    wait_until("PID 1 to continue", || !status(&job, "State:").starts_with('T'));
    let _ = kill(&["-a", "-s", "USR1"]);
    wait_until("a second line", || job.logged().matches("usr1").count() == 2);
}

#[test]
fn exec_joins_the_container_of_any_pid1() {
    let host = Host::new();
    for options in [&[][..], &["--cap-add", "ALL"], &["-u", "33"]] {
        let options = [&[PID1], options].concat();
        let job = host.background("job", &options, "exec sleep 600");
        assert_eq!(job.exec(&["sh", "-c", "cat /proc/1/comm; exit 3"]).run().code(3).stdout, "sleep\n", "{options:?}");
        let _ = job.does("kill");
        let _ = job.does("delete");
    }
}

#[test]
fn exec_at_once_finds_the_container_made() {
    let host = Host::new();
    let options = [PID1, "--cap-add", "ALL", "-v", "/tmp:/mnt", "--name", "job", "-d"];
    for _ in 0..10 {
        let _start = host.sh(&options, "exec sleep 600").start();
        let exec = || host.exec(&[], "job", &["sh", "-c", "cat /proc/1/comm; ls /host"]).run();
        let outcome = tests::wait_for("the container", || {
            let outcome = exec();
            (!outcome.stderr.contains("no such container") && !outcome.stderr.contains("not running"))
                .then_some(outcome)
        });
        // Never the init's own program, and never the host's root.
        assert!(["sleep\n", "sh\n"].contains(&&*outcome.stdout), "{outcome:?}");
        let _ = host.kontena().args(["delete", "-f", "job"]).run().ok();
    }
}

#[test]
fn terminal_is_pid1s_and_may_be_opened_again() {
    let host = Host::new();
    let options = ["--net", "none", "-it", PID1, "-e", "PS1=$ "];
    let terminal = host.run(&options, host.debian(), &["sh"]).on_terminal();
    terminal.wait_for("$ ");
    terminal.type_in("ps -o pid=,sid=,tpgid= -p 1 | tr -s ' '\n");
    // It leads the session, and its job control works: ps itself was in the foreground.
    terminal.wait_for("1 1 ");
    terminal.wait_for("\r\n$ ");
    terminal.type_in("cat\nhello\n");
    terminal.wait_for("hello\r\nhello\r\n");
    terminal.type_in("\x03");
    terminal.wait_for("^C\r\n$ ");
    terminal.type_in("exit 4\n");
    assert_eq!(terminal.finish(), 4);
    let script = "exec < /dev/null > /dev/null 2>&1; sleep 0.3; echo one > /dev/console; sleep 0.3; \
                  echo two > /dev/console; exit 3";
    let job = host.background("job", &["-t", PID1], script);
    assert_eq!(job.end(), 3);
    assert_eq!(job.logged(), "one\r\ntwo\r\n");
}

#[test]
fn restarts_and_readiness_work() {
    let host = Host::new();
    let job = host.background("job", &[PID1, "--restart", "on-failure:2"], "echo start; exit 3");
    assert_eq!(job.end(), 3);
    assert_eq!(job.logged(), "start\nstart\nstart\n");
    let options = [PID1, "--notify-fd", "5", "--wait-ready"];
    let ready = host.background("ready", &options, "echo >&5; exec 5>&-; exec sleep 600");
    assert_eq!(ready.status(), "running");
    let health = ["--health-cmd", "true", "--health-interval", "50ms"];
    let healthy = host.background("healthy", &[&[PID1], &health[..]].concat(), "exec sleep 600");
    wait_until("its health", || healthy.seen().is_some_and(|seen| seen["health"] == "healthy"));
}

#[test]
fn pid1_dies_with_its_launcher_whoever_it_runs_as() {
    let host = Host::new();
    // A change of the user clears PR_SET_PDEATHSIG.
    for options in [&[][..], &["-u", "33"], &["-u", "33", "--cap-add", "NET_ADMIN"]] {
        let job = host.background("job", &[&[PID1], options].concat(), "exec sleep 600");
        job.kill_launcher();
        let _ = job.does("delete");
    }
}

#[test]
fn user_namespace_has_its_pid1() {
    let host = Host::new();
    host.set_aside(IDS);
    let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
    let options = ["--net", "none", "-v", &volume, PID1, "--userns", "auto", "-d", "--name", "job"];
    let image = tests::images().join("demo.erofs");
    // It sleeps for long, and is root of ids that are not the host's.
    let _ = host.run(&options, &image, &["/run/intruder", "time", "4000000000"]).run().ok();
    let job = Background::new(&host, "job");
    assert!(status(&job, "Uid:").split('\t').all(|uid| uid != "0"), "{}", status(&job, "Uid:"));
    assert_eq!(job.exec(&["/run/intruder", "look", "/proc/1/comm"]).run().ok(), "intruder\n");
    job.kill_launcher();
    let _ = job.does("delete");
    let outcome = host.run(&options[..7], &image, &["/run/intruder", "list", "/nosuch"]).run();
    assert_ne!(outcome.code, 0, "{outcome:?}");
}

#[test]
fn pid1_that_outlives_its_launcher_is_killed_by_the_next_command() {
    let host = Host::new();
    // A set-user-ID program, or one that changes the user, clears PR_SET_PDEATHSIG.
    let job = host.background("job", &[PID1], "exec setpriv --reuid 33 --clear-groups sleep 600");
    wait_until("the change of the user", || status(&job, "Uid:").starts_with("33"));
    nix::sys::signal::kill(job.launcher(), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_until("the end of its launcher", || job.status() != "running");
    host.prune();
    wait_until("the end of the container", || job.processes().is_empty());
}

#[test]
fn pid1_has_nothing_of_the_hosts() {
    let host = Host::new();
    // All privileges that a look into other processes takes.
    let script = "ls -l /proc/[0-9]*/fd /proc/[0-9]*/exe 2>&1; cat /proc/1/environ; echo done; exec sleep 600";
    let job = host.background("job", &[PID1, "--cap-add", "SYS_PTRACE", "-p", "8080:80"], script);
    job.wait_for_log("done");
    let log = job.logged();
    assert!(!log.contains("memfd") && !log.contains("socket:") && !log.contains("kontena-init"), "{log}");
    let init = job.init();
    for fd in fs::read_dir(format!("/proc/{init}/fd")).unwrap() {
        let target = fs::read_link(fd.unwrap().path()).unwrap();
        let target = target.to_str().unwrap();
        assert!(target == "/dev/null" || target.starts_with("pipe:"), "{target}");
    }
    assert_eq!(job.processes().len(), 1);
    // As beside the init.
    let other = host.background("other", &["--cap-add", "SYS_PTRACE"], "exec sleep 600");
    for key in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "SigBlk:", "SigIgn:"]
    {
        let text = fs::read_to_string(format!("/proc/{}/status", other.processes()[1])).unwrap();
        let theirs = text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
        assert_eq!(status(&job, key), theirs, "{key}");
    }
    assert_eq!(status(&job, "CapInh:"), "0000000000000000");
}

/// Writes files of the Debian rootfs: programs, if they begin with `#!`.
fn write(host: &Host, files: &[(&str, &str)]) {
    host.inside(|| {
        for (path, content) in files {
            let path = host.debian().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    });
}

/// A service, and the page that it must serve.
const SERVE: &str = "#!/bin/sh\nexec busybox httpd -f -p 80 -h /srv\n";
const PAGE: (&str, &str) = ("srv/index.html", "served by an init\n");

/// Starts an init in the background, and waits until its service answers.
#[track_caller]
fn boot<'a>(host: &'a Host, options: &[&str], command: &[&str]) -> Background<'a> {
    let options = [&["-d", "--name", "job", "--net", "none"], options].concat();
    assert_eq!(host.run(&options, host.debian(), command).run().ok(), "job\n");
    let job = Background::new(host, "job");
    wait_until(&format!("the service; {:?} {}", job.seen(), job.logged()), || {
        assert_ne!(job.status(), "exited", "{}", job.logged());
        job.exec(&["busybox", "wget", "-qO-", "http://127.0.0.1/"]).run().stdout.contains("served by an init")
    });
    job
}

#[test]
fn busybox_init_boots_serves_and_stops() {
    let host = Host::new();
    let inittab = "::sysinit:/bin/mkdir -p /run/booted\n::respawn:/serve\n::shutdown:/bin/touch /shut\n";
    write(&host, &[("etc/inittab", inittab), ("serve", SERVE), PAGE]);
    // It ends by reboot(2), which in a pid namespace ends that: as if by SIGINT.
    let options = [PID1, "--cap-add", "SYS_BOOT", "--stop-signal", "USR2"];
    let job = boot(&host, &options, &["busybox", "init"]);
    let _ = job.does("stop");
    assert_eq!(job.end(), 128 + 2);
    assert!(host.inside(|| host.debian().join("shut").exists()));
}

#[test]
fn runit_boots_serves_and_stops() {
    let host = Host::new();
    let one = "#!/bin/sh\ninstall -m 100 /dev/null /run/runit.stopit\n";
    let two = "#!/bin/sh\nexec env - PATH=$PATH runsvdir -P /services\n";
    let three = "#!/bin/sh\nsv force-stop /services/web\ntouch /shut\n";
    write(
        &host,
        &[("etc/runit/1", one), ("etc/runit/2", two), ("etc/runit/3", three), ("services/web/run", SERVE), PAGE],
    );
    let options = [PID1, "--cap-add", "SYS_BOOT", "--stop-signal", "CONT", "--stop-timeout", "40"];
    let job = boot(&host, &options, &["runit"]);
    let _ = job.does("stop");
    assert!([128 + 1, 128 + 2].contains(&job.end()), "{}", job.logged());
    assert!(host.inside(|| host.debian().join("shut").exists()));
}

#[test]
fn s6_boots_serves_and_stops() {
    let host = Host::new();
    let finish = "#!/bin/sh\ntouch /shut\n";
    write(&host, &[("services/web/run", SERVE), ("services/.s6-svscan/finish", finish), PAGE]);
    let job = boot(&host, &[PID1], &["s6-svscan", "/services"]);
    let _ = job.does("stop");
    assert_eq!(job.end(), 0);
    assert!(host.inside(|| host.debian().join("shut").exists()));
}

/// A unit that serves, and leaves a file when it is stopped in order.
const WEB: &str =
    "[Service]\nExecStart=/bin/busybox httpd -f -p 80 -h /srv\nExecStop=/bin/touch /shut\nMemoryMax=64M\n";
const TARGET: &str = "[Unit]\nRequires=basic.target web.service\nAfter=basic.target web.service\nAllowIsolate=yes\n";

#[test]
fn systemd_boots_serves_and_stops() {
    let host = Host::new();
    write(&host, &[("etc/systemd/system/web.service", WEB), ("etc/systemd/system/web.target", TARGET), PAGE]);
    let command = ["/lib/systemd/systemd", "--unit=web.target"];
    let job = boot(&host, &["--systemd", "--restart", "always", "--stop-timeout", "60"], &command);
    let exec = |script: &str| job.exec(&["sh", "-c", script]).run().ok();
    assert_eq!(exec("tr '\\0' '\\n' < /proc/1/environ | grep ^container="), "container=kontena\n");
    wait_until("the target", || exec("systemctl is-active web.target; true") == "active\n");
    // Each unit has a cgroup of its own.
    assert_eq!(exec("cat /sys/fs/cgroup/system.slice/web.service/cgroup.procs | wc -l"), "1\n");
    assert!(exec("cat /proc/1/cgroup").contains("0::/init.scope\n"));
    assert_eq!(exec("stat -f -c %T /run /run/lock /tmp | uniq"), "tmpfs\n");
    let _ = host.kontena().args(["kill", "-s", "KILL", "job"]).run();
    let _ = job.does("delete");
    let job = boot(&host, &["--systemd", "--stop-timeout", "60"], &command);
    let _ = job.does("stop");
    assert_eq!(job.end(), 0, "{}", job.logged());
    assert!(host.inside(|| host.debian().join("shut").exists()));
    assert!(!job.leaf().exists(), "its cgroups are removed");
}

#[test]
fn delegated_cgroup_is_the_containers_and_new_in_each_life() {
    let host = Host::new();
    // An init that enables controllers leaves a cgroup that holds no processes any more: a restart needs a new one.
    let script = "cd /sys/fs/cgroup; grep ^0:: /proc/self/cgroup; find . -mindepth 1 -type d; mkdir own; \
                  echo 0 > own/cgroup.procs; first=$(cut -d ' ' -f 1 cgroup.controllers); \
                  [ -z $first ] || echo +$first > cgroup.subtree_control; \
                  grep ^0:: /proc/self/cgroup; echo $$ $container; exit 3";
    let options = ["--systemd=always", "--restart", "on-failure:1"];
    let job = host.background("job", &options, script);
    assert_eq!(job.end(), 3);
    assert_eq!(job.logged(), "0::/\n0::/own\n1 kontena\n".repeat(2));
    assert!(!job.leaf().exists());
    // The leaf, which has the limits, is above what the container sees.
    let job = host.background("other", &["--systemd=always"], "exec sleep 600");
    let root = host.exec(&[], "other", &["stat", "-c", "%i", "/sys/fs/cgroup"]).run().ok();
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino().to_string();
    assert_eq!(root.trim(), inode(job.leaf().join("delegated")));
    assert_ne!(root.trim(), inode(job.leaf()));
}

#[test]
fn cgroup_is_delegated_to_root_of_a_user_namespace() {
    let host = Host::new();
    host.set_aside(IDS);
    let volume = format!("{}:/opt/intruder:ro", tests::intruder().display());
    let join = |options: &[&str]| {
        let options = [&["--net", "none", "-v", &volume, "--userns", "auto"], options].concat();
        let command = ["/opt/intruder", "write", "/sys/fs/cgroup/cgroup.procs", "0"];
        host.run(&options, tests::images().join("demo.erofs"), &command).run()
    };
    let _ = join(&["--systemd=always"]).ok();
    assert_ne!(join(&["--init=false"]).code, 0, "otherwise it is read-only");
}

#[test]
fn option_systemd_changes_nothing_for_other_commands() {
    let host = Host::new();
    let script = "echo $$ $container; mkdir /sys/fs/cgroup/own 2>&1 | grep -o Read-only; stat -f -c %T /run";
    for options in [&[][..], &["--systemd"], &["--systemd=true"], &["--systemd=false"]] {
        let outcome = host.sh(options, script).run().ok();
        assert!(outcome.starts_with("2\nRead-only\n") && !outcome.contains("tmpfs"), "{options:?} {outcome}");
    }
    let line = host.sh(&["--systemd=yes"], "").run().refused(125);
    assert!(line.contains("--systemd"), "{line}");
    // A mount that was asked for stays, and so does a stop signal.
    let options = ["--systemd=always", "--tmpfs", "/run:size=1m", "--stop-signal", "TERM", "--name", "job", "-d"];
    let _ = host.sh(&options, "trap 'exit 4' TERM; df -k /run; echo ready; while :; do sleep 0.02; done").run().ok();
    let job = Background::new(&host, "job");
    job.wait_for_log("ready");
    assert!(job.logged().contains(" 1024 "), "{}", job.logged());
    let _ = job.does("stop");
    assert_eq!(job.end(), 4);
}
