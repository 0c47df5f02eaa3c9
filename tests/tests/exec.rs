//! `kontena exec`: a command that joins a container with the container's attributes, and leaves no more behind than any
//! other process there.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::Stdio;
use tests::{Background, Host, Outcome, Program, wait_for, wait_until};

/// A container that sleeps.
fn sleeper<'a>(host: &'a Host, options: &[&str]) -> Background<'a> {
    host.background("job", options, "exec sleep 600")
}

/// `kontena exec OPTIONS job sh -c SCRIPT`
fn sh<'a>(host: &'a Host, options: &[&str], script: &str) -> Program<'a> {
    host.exec(options, "job", &["sh", "-c", script])
}

#[track_caller]
fn says(host: &Host, options: &[&str], script: &str) -> String {
    sh(host, options, script).run().ok()
}

#[test]
fn exit_status_is_the_commands() {
    let host = Host::new();
    let _job = sleeper(&host, &[]);
    for code in [0, 1, 7, 124, 125, 126, 127, 255] {
        assert_eq!(sh(&host, &[], &format!("exit {code}")).run().code(code).stderr, "");
        assert_eq!(sh(&host, &["-i"], &format!("exit {code}")).run().code(code).stderr, "");
    }
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("INT", 2), ("SEGV", 11)] {
        let _ = sh(&host, &[], &format!("kill -{signal} $$; sleep 600")).run().code(128 + number);
    }
    for options in [&[][..], &["-d"], &["-i"]] {
        for (command, code) in [("/nosuch", 127), ("nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)] {
            let line = host.exec(options, "job", &[command]).run().refused(code);
            assert!(line.contains(command), "{line}");
        }
        let line = host.exec(&[options, &["-w", "/nosuch"]].concat(), "job", &["true"]).run().refused(125);
        assert!(line.contains("/nosuch"), "{line}");
        let line = host.exec(&[options, &["-u", "nosuch"]].concat(), "job", &["true"]).run().refused(125);
        assert!(line.contains("nosuch"), "{line}");
    }
}

#[test]
fn invalid_options_are_refused() {
    let host = Host::new();
    let _job = sleeper(&host, &[]);
    for (options, word) in [
        (&["-d", "-t"][..], "--tty"),
        (&["--nosuch"], "--nosuch"),
        (&["-w", "relative"], "relative"),
        (&["-u", ""], "--user"),
        (&["-e", "=x"], "--env \"=\""),
        (&["--env-file", "/nosuch"], "/nosuch"),
        (&["--cap-add", "NOSUCH"], "NOSUCH"),
    ] {
        let line = host.exec(options, "job", &["true"]).run().refused(125);
        assert!(line.contains(word), "{line}");
    }
    let line = host.kontena().args(["exec", "job"]).run().refused(125);
    assert!(line.contains("COMMAND") && line.contains("kontena exec --help"), "{line}");
}

#[test]
fn stdin_is_connected_only_with_option_i() {
    let host = Host::new();
    let _job = sleeper(&host, &[]);
    let bytes: Vec<u8> = (0..1_000_000u32).map(|number| b'a' + (number % 23) as u8).collect();
    let out = sh(&host, &["-i"], "exec cat").input(&bytes).run().ok();
    assert!(out.as_bytes() == bytes, "{} bytes came out of {}", out.len(), bytes.len());
    assert_eq!(sh(&host, &[], "exec cat").input(&bytes).run().ok(), "");
    // The command does not get a script's input.
    let script = "while read -r line; do \"$@\"; echo $line; done";
    let program = sh(&host, &[], "cat").through("sh", &["-c", script, "sh"]).input(b"a\nb\n");
    assert_eq!(program.run().ok(), "a\nb\n");
}

#[test]
fn stdout_and_stderr_are_separate() {
    let host = Host::new();
    let job = sleeper(&host, &[]);
    let outcome = sh(&host, &[], "echo out; echo err >&2").run().code(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    // Neither is the container's.
    assert_eq!(job.logged(), "");
}

#[test]
fn command_inherits_the_containers_options() {
    let host = Host::new();
    let options = [
        "-u",
        "33",
        "-w",
        "/var",
        "-e",
        "KEY=given",
        "--ulimit",
        "nofile=100:200",
        "--umask",
        "027",
        "--group-add",
        "video",
        "--cap-drop",
        "CHOWN",
        "--hostname",
        "box",
    ];
    let job = sleeper(&host, &options);
    let script = "id -u; id -g; id -G; pwd; echo $KEY; ulimit -n; ulimit -Hn; umask; uname -n; echo $HOME";
    assert_eq!(says(&host, &[], script), "33\n33\n33 44\n/var\ngiven\n100\n200\n0027\nbox\n/var/www\n");
    let processes = job.processes();
    let payload = fs::read_to_string(format!("/proc/{}/status", processes[1])).unwrap();
    let joined = says(&host, &[], "cat /proc/self/status");
    for key in [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Groups",
        "SigBlk",
    ] {
        let line = |status: &str| status.lines().find(|line| line.starts_with(&format!("{key}:"))).map(str::to_owned);
        assert_eq!(line(&joined), line(&payload), "{key}");
    }
}

#[test]
fn options_override_those_of_the_container() {
    let host = Host::new();
    let _job = sleeper(&host, &["-u", "33", "-w", "/var", "-e", "KEY=given"]);
    let file = host.directory().join("env");
    fs::write(&file, "KEY=of a file\nOTHER=1\n").unwrap();
    let script = "id -u; id -g; pwd; echo $KEY-$OTHER-$HOME";
    let options = ["-u", "root", "-w", "/tmp", "--env-file", file.to_str().unwrap(), "-e", "OTHER=2"];
    assert_eq!(says(&host, &options, script), "0\n0\n/tmp\nof a file-2-/root\n");
    assert_eq!(says(&host, &["-u", "7:9"], "id -u; id -g; id -G"), "7\n9\n9\n");
    let program = sh(&host, &["-e", "PASSED"], "echo $PASSED").env("PASSED", "on");
    assert_eq!(program.run().ok(), "on\n");
    let program = sh(&host, &[], "echo [$SECRET]").env("SECRET", "of the caller");
    assert_eq!(program.run().ok(), "[]\n");
}

/// A line of proc_pid_status(5), of hexadecimal digits.
fn bits(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    u64::from_str_radix(line.unwrap_or_else(|| panic!("no {name} in {status}")), 16).unwrap()
}

#[test]
fn capabilities_are_added_and_dropped() {
    let host = Host::new();
    let _job = sleeper(&host, &[]);
    let status = |options: &[&str]| says(&host, options, "cat /proc/self/status");
    let default = bits(&status(&[]), "CapEff");
    assert_eq!(default, 0x8004_05fb);
    for (options, expected) in [
        (&["--cap-add", "NET_RAW"][..], default | 1 << 13),
        (&["--cap-drop", "ALL"], 0),
        (&["--cap-drop", "ALL", "--cap-add", "CHOWN"], 1),
        (&["--cap-drop", "CHOWN"], default & !1),
    ] {
        let status = status(options);
        for set in ["CapBnd", "CapPrm", "CapEff"] {
            assert_eq!(bits(&status, set), expected, "{set} with {options:?}");
        }
        // CVE-2022-29162
        assert_eq!(bits(&status, "CapInh") | bits(&status, "CapAmb"), 0, "{options:?}");
    }
    let other = status(&["-u", "33"]);
    assert_eq!(bits(&other, "CapEff") | bits(&other, "CapPrm") | bits(&other, "CapInh") | bits(&other, "CapAmb"), 0);
}

#[test]
fn command_is_in_the_containers_namespaces_and_cgroup() {
    let host = Host::new();
    for network in ["none", "host"] {
        let options = ["-d", "--name", "job", "--net", network];
        let _ = host.run(&options, host.debian(), &["sleep", "600"]).run().ok();
        let job = Background::new(&host, "job");
        let mut joined = job.exec(&["sh", "-c", "echo ready; exec sleep 700"]).start();
        joined.wait_for_output("ready");
        let init = job.init();
        let new = wait_for("the command", || {
            let is_it = |pid: &u32| {
                fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == "sleep\x00700\0")
            };
            job.processes().into_iter().find(is_it)
        });
        for name in ["user", "mnt", "pid", "uts", "ipc", "cgroup", "net"] {
            let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert_eq!(namespace(new), namespace(init), "{name}");
        }
        let root = |pid: u32| {
            fs::metadata(format!("/proc/{pid}/root/.")).map(|root| {
                use std::os::unix::fs::MetadataExt;
                (root.dev(), root.ino())
            })
        };
        assert_eq!(root(new).unwrap(), root(init).unwrap());
        let cgroup = fs::read_to_string(format!("/proc/{new}/cgroup")).unwrap();
        assert!(cgroup.lines().any(|line| line.starts_with("0::") && line.ends_with("/kontena/job")), "{cgroup}");
        // A session of its own.
        let stat = fs::read_to_string(format!("/proc/{new}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        assert_eq!(fields[3], fields[2], "its process group is its session: {stat}");
        drop(joined);
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    }
}

#[test]
fn kontena_is_invisible_from_inside() {
    let host = Host::new();
    let _job = sleeper(&host, &[]);
    let script = "for p in /proc/[0-9]*; do echo $(cat $p/comm) $(readlink $p/exe); done; ls /proc/self/fd";
    let out = says(&host, &["-i"], script);
    let of_kontena: Vec<&str> = out.lines().filter(|line| line.contains("kontena")).collect();
    assert_eq!(of_kontena, ["kontena-init"], "PID 1, whose program nobody sees: {out}");
    let fds: Vec<&str> = out.lines().filter(|line| line.parse::<u32>().is_ok()).collect();
    assert_eq!(fds, ["0", "1", "2", "3"], "stdio, and what ls reads");
}

#[test]
fn oom_score_is_always_the_containers() {
    let host = Host::new();
    let _job = sleeper(&host, &["--oom-score-adj", "77"]);
    for _ in 0..50 {
        assert_eq!(says(&host, &[], "cat /proc/self/oom_score_adj"), "77\n");
    }
    assert_eq!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), "0\n");
}

#[test]
fn command_ends_with_its_client() {
    let host = Host::new();
    let job = sleeper(&host, &[]);
    // In its process group, a child too.
    let mut client = job.exec(&["sh", "-c", "sleep 800 & echo ready; sleep 900"]).start();
    client.wait_for_output("ready");
    wait_until("all of them", || job.processes().len() == 6);
    client.signal(Signal::SIGKILL);
    let _ = client.finish().code(-9);
    wait_until("the end of the command, and of its process group", || job.processes().len() == 2);
    assert_eq!(job.status(), "running");
    // At any moment of its start.
    for moment in 0..150 {
        assert_eq!(job.status(), "running", "{moment}: {}", job.journal());
        let client = job.exec(&["sleep", "900"]).start();
        std::thread::sleep(std::time::Duration::from_micros(moment * 40));
        client.signal(Signal::SIGKILL);
        let _ = client.finish().code(-9);
    }
    wait_until("the end of all", || job.processes().len() == 2);
}

#[test]
fn signals_to_the_client_reach_the_command() {
    let host = Host::new();
    let _job = sleeper(&host, &[]);
    let script = "trap 'echo usr; exit 5' USR1; trap 'echo term' TERM; echo ready; while :; do sleep 0.05; done";
    let mut client = sh(&host, &[], script).start();
    client.wait_for_output("ready");
    client.signal(Signal::SIGTERM);
    client.wait_for_output("term");
    client.signal(Signal::SIGUSR1);
    assert!(client.finish().code(5).stdout.ends_with("usr\n"));
}

#[test]
fn detached_commands_keep_running() {
    let host = Host::new();
    let job = sleeper(&host, &[]);
    let before = host.processes().len();
    // The end of its output shows that no process holds it open.
    let outcome = host.exec(&["-d"], "job", &["sh", "-c", "echo out; echo err >&2; exec sleep 900"]).run().code(0);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", ""));
    let has_it = || host.kontena().args(["ps", "job"]).run().ok().contains("sleep 900");
    wait_until("the command", || !host.processes_named("sleep 900 ").is_empty() && has_it());
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(has_it());
    // It has no fd of the host's either.
    let link = says(
        &host,
        &[],
        "for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' < $p/cmdline)\" = 'sleep 900 ' ] && ls -l $p/fd; done; true",
    );
    assert_eq!(link.matches("/dev/null").count(), 3, "{link}");
    assert_eq!(link.matches(" -> ").count(), 3, "{link}");
    // It ends with the container, and none of kontena's own processes is left.
    let _ = job.does("stop");
    wait_until("the end of all", || host.processes().len() == before - 1);
    let line = host.exec(&["-d"], "job", &["true"]).run().refused(125);
    assert!(line.contains("job is not running"), "{line}");
}

#[test]
fn command_ends_with_the_container() {
    let host = Host::new();
    let job = sleeper(&host, &[]);
    let mut clients: Vec<_> = (0..3).map(|_| job.exec(&["sh", "-c", "echo ready; exec sleep 900"]).start()).collect();
    clients.iter_mut().for_each(|client| client.wait_for_output("ready"));
    let _ = host.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    for client in clients {
        let _ = client.finish().code(137);
    }
    assert_eq!(job.processes(), [0; 0]);
    let _ = job.does("delete");
    assert!(!job.leaf().exists());
}

#[test]
fn background_processes_of_a_command_keep_running() {
    let host = Host::new();
    let job = sleeper(&host, &[]);
    let _ = says(&host, &[], "setsid sleep 900 > /dev/null 2>&1 & exit 0");
    let stays = || !host.processes_named("sleep 900 ").is_empty() && job.processes().len() == 3;
    wait_until("the process that stays", stays);
    let parent = says(
        &host,
        &[],
        "for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' < $p/cmdline)\" = 'sleep 900 ' ] && grep PPid $p/status; done; \
         true",
    );
    assert_eq!(parent, "PPid:\t1\n", "PID 1 reaps it");
}

#[test]
fn limits_of_the_container_apply_to_the_command() {
    let host = Host::new();
    let controllers = fs::read_to_string(host.cgroup().parent().unwrap().join("cgroup.controllers")).unwrap();
    if !controllers.contains("pids") {
        let line = host.sh(&["-d", "--pids-limit", "8"], "true").run().refused(125);
        return assert!(line.contains("the pids controller"), "{line}");
    }
    let _job = sleeper(&host, &["--pids-limit", "8"]);
    let bomb = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait";
    let outcome = sh(&host, &[], bomb).run();
    assert!(outcome.code != 0 && outcome.stderr.contains("fork"), "{outcome}");
    let job = Background::new(&host, "job");
    wait_until("room for another", || job.processes().len() == 2);
    let _ = says(&host, &[], "true");
    // With none left, the error says so.
    let _full: Vec<_> = (0..3).map(|_| job.exec(&["sleep", "900"]).start()).collect();
    wait_until("no room", || job.processes().len() == 8);
    let line = job.exec(&["true"]).run().refused(125);
    assert!(line.contains("EAGAIN") && line.contains("limit of processes"), "{line}");
}

#[test]
fn command_without_memory_has_not_started() {
    let host = Host::new();
    let controllers = fs::read_to_string(host.cgroup().parent().unwrap().join("cgroup.controllers")).unwrap();
    if !controllers.contains("memory") {
        let line = host.sh(&["-d", "-m", "16m"], "true").run().refused(125);
        return assert!(line.contains("the memory controller"), "{line}");
    }
    let (mut begun, mut killed) = (0, 0);
    for room in 0..60 {
        let job = sleeper(&host, &["-m", "16m", "--memory-swap", "16m"]);
        wait_until("nothing more to be done there", || !host.processes_named("sleep 600 ").is_empty());
        // The kernel must kill the joining process first. Not -1000: if no process can be killed, system calls of PID 1
        // fail.
        for pid in job.processes() {
            fs::write(format!("/proc/{pid}/oom_score_adj"), "-999").unwrap();
        }
        let used: u64 = fs::read_to_string(job.leaf().join("memory.current")).unwrap().trim().parse().unwrap();
        fs::write(job.leaf().join("memory.max"), (used + room * 8_192).to_string()).unwrap();
        let kills = || {
            let events = fs::read_to_string(job.leaf().join("memory.events")).unwrap_or_default();
            events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u32>().ok()).unwrap_or(0)
        };
        let kills_before = kills();
        let outcome = host.exec(&["-d"], "job", &["sleep", "901"]).run();
        let has_ended = || job.status() == "exited";
        if outcome.code == 0 {
            // execve(2) closes the fds of the init before it has all the memory that it needs: it may be killed then.
            let is_there = || !host.processes_named("sleep 901 ").is_empty();
            wait_until("the command or its end", || is_there() || has_ended() || kills() > kills_before);
            begun += u32::from(is_there());
        } else if outcome.code == 137 && outcome.stderr.contains("hit its memory limit") {
            killed += 1;
            assert!(host.processes_named("sleep 901 ").is_empty());
        } else {
            wait_until(&format!("the reason: {outcome}"), has_ended);
        }
        let _ = host.kontena().args(["delete", "-f", "job"]).run().ok();
    }
    assert!(begun > 0 && killed > 0, "{begun} {killed}");
}

#[test]
fn exec_works_with_nested_cgroups() {
    // runc's fallback: its leaf can no longer hold processes, so the command goes to PID 1's cgroup.
    let host = Host::new();
    let job = sleeper(&host, &["--cgroup-conf", "hugetlb.2MB.max=0"]);
    let (leaf, below) = (job.leaf(), job.leaf().join("below"));
    fs::create_dir(&below).unwrap();
    for pid in job.processes() {
        fs::write(below.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    fs::write(leaf.join("cgroup.subtree_control"), "+hugetlb").unwrap();
    assert_eq!(says(&host, &[], "echo joined; cat /proc/self/cgroup").lines().next(), Some("joined"));
    let mut joined = job.exec(&["sh", "-c", "echo ready; exec sleep 900"]).start();
    joined.wait_for_output("ready");
    assert_eq!(fs::read_to_string(below.join("cgroup.procs")).unwrap().lines().count(), 4);
    assert!(host.kontena().args(["ps", "job"]).run().ok().contains("sleep 900"));
    drop(joined);
    // It can still be stopped and deleted.
    let _ = host.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    let _ = job.does("delete");
    assert!(!leaf.exists());
}

#[test]
fn foreground_containers_can_be_joined() {
    let host = Host::new();
    let mut running = host.sh(&["--name", "front"], "echo ready; exec sleep 600").start();
    running.wait_for_output("ready");
    assert_eq!(host.exec(&[], "front", &["uname", "-n"]).run().ok(), "front\n");
    running.signal(Signal::SIGTERM);
    let _ = running.finish().code(143);
    let line = host.exec(&[], "front", &["true"]).run().refused(125);
    assert!(line.contains("no such container"), "{line}");
}

#[test]
fn user_namespaces_are_joined() {
    let host = Host::new();
    let options = ["-d", "--name", "job", "--net", "none", "--userns", "map=0:300000:65536", "--tmpfs", "/tmp"];
    let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
    let image = tests::images().join("demo.erofs");
    let program =
        host.run(&[&options[..], &["-v", &volume]].concat(), image, &["/run/intruder", "time", "400000000000"]);
    assert_eq!(program.run().ok(), "job\n");
    let look = |options: &[&str], path: &str| host.exec(options, "job", &["/run/intruder", "look", path]).run();
    let map = look(&[], "/proc/self/uid_map").ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "300000", "65536"]);
    let status = look(&[], "/proc/self/status").ok();
    assert_eq!(bits(&status, "CapEff"), 0x8004_05fb);
    let status = look(&["-u", "101"], "/proc/self/status").ok();
    assert!(status.contains("Uid:\t101\t101\t101\t101"), "{status}");
    let job = Background::new(&host, "job");
    let pid = wait_for("its pid", || job.processes().last().copied());
    assert!(fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("Uid:\t300000"));
}

#[test]
fn stdio_can_be_reopened() {
    // As programs do that log to /dev/stdout, as any user.
    let host = Host::new();
    let write = "echo out > /dev/stdout; echo err > /dev/stderr";
    let assert = |outcome: Outcome| {
        let outcome = outcome.code(0);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"), "{outcome}");
    };
    let _job = sleeper(&host, &[]);
    for user in ["root", "33", "101"] {
        assert(sh(&host, &["-u", user], write).run());
        assert(sh(&host, &["-i", "-u", user], &format!("read -r line < /dev/stdin; {write}")).input(b"x\n").run());
        assert_eq!(says(&host, &["-u", user], "cat < /dev/stdin"), "");
    }
}

#[test]
fn ordinary_users_join_their_own() {
    use std::os::unix::process::CommandExt;
    let host = Host::new();
    let bin = host.directory().join("bin");
    fs::create_dir(&bin).unwrap();
    for file in [tests::launcher(), tests::init()] {
        fs::copy(&file, bin.join(file.file_name().unwrap())).unwrap();
    }
    let rootfs = host.demo_copy("rootfs");
    fs::copy(tests::intruder(), rootfs.join("intruder")).unwrap();
    let state = host.directory().join("user");
    fs::create_dir(&state).unwrap();
    for path in [&state, &rootfs] {
        let _ = host.program("chown").args(["-R", "4711:4711"]).arg(path).run().ok();
    }
    let user = |words: &[&str]| {
        let program = host.program(bin.join("kontena")).arg("--root").arg(&state).args(words);
        program.with(|command| _ = command.uid(4711).gid(4711))
    };
    let rootfs = rootfs.to_str().unwrap().to_owned();
    assert_eq!(user(&["run", "-d", "--name", "own", &rootfs, "/intruder", "time", "400000000000"]).run().ok(), "own\n");
    let status = user(&["exec", "own", "/intruder", "look", "/proc/self/status"]).run().ok();
    assert!(status.contains("Uid:\t0\t0\t0\t0"), "{status}");
    let list: serde_json::Value = serde_json::from_str(&user(&["list", "--format", "json"]).run().ok()).unwrap();
    assert_eq!(list[0]["status"], "running");
    // Without a cgroup of its own, some commands fail with an error.
    assert!(user(&["pause", "own"]).run().refused(125).contains("no cgroup of its own"));
    let _ = user(&["kill", "own", "WINCH"]).run().ok();
    let client = user(&["exec", "own", "/intruder", "time", "400000000000"]).start();
    let pid = Pid::from_raw(i32::try_from(client.pid()).unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    drop(client);
    let _ = user(&["stop", "-t", "0", "own"]).run().ok();
    let _ = user(&["delete", "own"]).run().ok();
    assert!(!state.join("own").exists());
    // Root's are not theirs.
    let _job = sleeper(&host, &[]);
    let other = host.program(bin.join("kontena")).arg("--root").arg(host.state()).args(["exec", "job", "true"]);
    let line = other.with(|command| _ = command.uid(4711).gid(4711).stdin(Stdio::null())).run().refused(125);
    assert!(line.contains("state"), "{line}");
}
