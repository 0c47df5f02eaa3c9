//! `kontena run`: exit statuses, environment, user, working directory, names, and what goes in and out.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use tests::{Container, Host};

#[test]
fn payloads_exit_status_is_kontenas() {
    let host = Host::new();
    for code in [0, 1, 7, 124, 125, 126, 127, 255] {
        let outcome = host.sh(&[], &format!("exit {code}")).run().code(code);
        assert_eq!(outcome.stderr, "", "a status of the payload's is no error of kontena's");
    }
}

#[test]
fn closed_stdio_of_the_caller_is_replaced_by_the_null_device() {
    // Otherwise something of the launcher's has its number, and the container gets that: CVE-2024-21626.
    let host = Host::new();
    let shared = host.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/host", shared.display());
    for closed in ["0", "1", "2", "0 1", "1 2", "0 2", "0 1 2"] {
        let command = "exec 9>/host/found; for fd in 0 1 2; do echo $fd $(readlink /proc/$$/fd/$fd) >&9; done";
        let close: String = closed.split(' ').map(|fd| format!("exec {fd}>&-; ")).collect();
        let program = host.sh(&["-v", &volume], command);
        let _ = program.through("bash", &["-c", &format!("{close}exec \"$@\""), "bash"]).run().code(0);
        let found = fs::read_to_string(shared.join("found")).unwrap();
        for line in found.lines() {
            let (fd, what) = line.split_once(' ').unwrap();
            assert_eq!(closed.contains(fd) || fd == "0", what == "/dev/null", "{closed}: {found}");
        }
        assert_eq!(found.lines().count(), 3, "{found}");
    }
}

#[test]
fn payload_ended_by_signal_n_exits_128_plus_n() {
    let host = Host::new();
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("INT", 2), ("SEGV", 11), ("USR1", 10)] {
        let _ = host.sh(&[], &format!("kill -{signal} $$; sleep 600")).run().code(128 + number);
    }
}

#[test]
fn missing_payload_exits_127() {
    let host = Host::new();
    for command in ["nosuch", "/bin/nosuch", "/etc/passwd/nosuch", "./nosuch"] {
        let line = host.run(&["--net", "none"], host.demo(), &[command]).run().refused(127);
        assert!(line.contains(command), "{line}");
    }
    let _ = host.run(&["--net", "none"], host.demo(), &["true"]).run().ok();
    let _ = host.run(&["--net", "none"], host.demo(), &["/bin/true"]).run().ok();
}

#[test]
fn payload_with_a_missing_interpreter_exits_127() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    let script = rootfs.join("script");
    fs::write(&script, "#!/nosuch/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let line = host.run(&["--net", "none"], &rootfs, &["/script"]).run().refused(127);
    assert!(line.contains("/script") && line.contains("interpreter"), "{line}");
}

#[test]
fn payload_that_is_not_a_program_exits_126() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    let text = rootfs.join("text");
    fs::write(&text, "no program\n").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
    for command in ["/etc/passwd", "/etc", "/text"] {
        let line = host.run(&["--net", "none"], &rootfs, &[command]).run().refused(126);
        assert!(line.contains(command), "{line}");
    }
}

#[test]
fn payload_that_the_user_may_not_execute_exits_126() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    fs::set_permissions(rootfs.join("bin/true"), fs::Permissions::from_mode(0o700)).unwrap();
    let line = host.run(&["--net", "none", "-u", "101"], &rootfs, &["/bin/true"]).run().refused(126);
    assert!(line.contains("EACCES"), "{line}");
    let _ = host.run(&["--net", "none"], &rootfs, &["/bin/true"]).run().ok();
}

#[test]
fn kontenas_own_failure_exits_125() {
    let host = Host::new();
    let line = host.run(&["--net", "none", "-w", "/nosuch"], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("/nosuch"), "{line}");
}

#[test]
fn environment_is_path_hostname_and_home() {
    let host = Host::new();
    let program = host.run(&["--net", "none", "--hostname", "box"], host.debian(), &["env"]);
    let out = program.env("SECRET", "of the caller").run().ok();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["HOME=/root", "HOSTNAME=box", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    );
}

#[test]
fn option_e_sets_and_copies_variables() {
    let host = Host::new();
    let options = ["-e", "KEY=a=b c", "-e", "PASSED", "--env=LAST=1", "-e", "LAST=2", "-e", "NOT_SET", "-eEMPTY="];
    let out = host.sh(&options, "exec env").env("PASSED", "on").run().ok();
    let lines: Vec<&str> = out.lines().collect();
    for line in ["KEY=a=b c", "PASSED=on", "LAST=2", "EMPTY="] {
        assert!(lines.contains(&line), "{line}: {out}");
    }
    assert!(!out.contains("NOT_SET") && !out.contains("LAST=1"), "{out}");
}

#[test]
fn option_e_replaces_the_defaults() {
    let host = Host::new();
    let options = ["--net", "none", "-e", "HOME=/tmp", "-e", "PATH=/bin", "-e", "HOSTNAME=other"];
    let out = host.run(&options, host.debian(), &["env"]).run().ok();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["HOME=/tmp", "HOSTNAME=other", "PATH=/bin"]);
    // PATH is where the payload itself is looked for.
    let _ = host.run(&["--net", "none", "-e", "PATH=/etc"], host.demo(), &["true"]).run().refused(127);
}

#[test]
fn home_is_that_of_etc_passwd() {
    let host = Host::new();
    for (user, home) in [("www-data", "/var/www"), ("33", "/var/www"), ("root", "/root"), ("4242", "/")] {
        assert_eq!(host.sh(&["-u", user], "echo $HOME").run().ok(), format!("{home}\n"), "of {user}");
    }
}

#[test]
fn working_directory_is_root_by_default() {
    let host = Host::new();
    assert_eq!(host.sh(&[], "pwd").run().ok(), "/\n");
    assert_eq!(host.sh(&["-w", "/var/www"], "pwd; readlink /proc/self/cwd").run().ok(), "/var/www\n/var/www\n");
    assert_eq!(host.sh(&["--workdir=/proc/self/"], "cd ..; pwd -P").run().ok(), "/proc\n");
}

#[test]
fn working_directory_that_cannot_be_entered_is_an_error() {
    let host = Host::new();
    for (user, directory) in [("root", "/nosuch"), ("root", "/etc/passwd"), ("www-data", "/root")] {
        let line = host.sh(&["-u", user, "-w", directory], "pwd").run().refused(125);
        assert!(line.contains(directory), "{line}");
    }
    assert_eq!(host.sh(&["-u", "root", "-w", "/root"], "pwd").run().ok(), "/root\n");
    let line = host.sh(&["-w", "relative"], "pwd").run().refused(125);
    assert!(line.contains("relative"), "{line}");
}

#[test]
fn option_u_sets_exactly_the_requested_ids() {
    let host = Host::new();
    let rootfs = host.debian();
    host.inside(|| {
        let groups = fs::read_to_string(rootfs.join("etc/group")).unwrap();
        fs::write(rootfs.join("etc/group"), groups + "extra:x:777:games,www-data\nnot:x:778:www\n").unwrap();
    });
    for (user, ids) in [
        ("root", "0 0 0"),
        ("0", "0 0 0"),
        ("www-data", "33 33 33 777"),
        ("33", "33 33 33 777"),
        ("33:0", "33 0 0"),
        ("www-data:adm", "33 4 4"),
        ("www-data:4", "33 4 4"),
        ("4242", "4242 0 0"),
        ("4242:4343", "4242 4343 4343"),
        ("4242:adm", "4242 4 4"),
        ("0:33", "0 33 33"),
        ("4294967294:4294967294", "4294967294 4294967294 4294967294"),
    ] {
        let out = host.sh(&["-u", user], "echo $(id -u) $(id -g) $(id -G)").run().ok();
        assert_eq!(out.trim(), ids, "of -u {user}");
    }
}

#[test]
fn option_u_never_falls_back_to_root() {
    let host = Host::new();
    let bad = [
        "1:",
        ":1",
        ":",
        "-1",
        "+1",
        " 1",
        "1 ",
        "4294967296",
        "4294967295",
        "0x0",
        "0x1",
        "00x",
        "1.0",
        "nosuch",
        "1:-1",
        "1:4294967295",
        "1:nosuch",
        "www-data:nosuch",
        "www-data:",
        "root:root:root",
        "roo",
        "rootx",
        "root\n",
        "*",
        "",
    ];
    for user in bad {
        let outcome = host.sh(&["-u", user], "id").run();
        assert!(!outcome.stdout.contains("uid="), "-u {user:?} ran: {outcome}");
        let line = outcome.refused(125);
        // A newline is told as an escape.
        assert!(line.contains(user.trim_end_matches('\n')), "-u {user:?}: {line}");
    }
}

#[test]
fn numeric_user_works_without_etc_passwd() {
    let host = Host::new();
    let rootfs = host.debian();
    host.inside(|| {
        fs::remove_file(rootfs.join("etc/passwd")).unwrap();
        fs::remove_file(rootfs.join("etc/group")).unwrap();
    });
    assert_eq!(host.sh(&["-u", "33:44"], "echo $(id -u) $(id -G) $HOME").run().ok(), "33 44 /\n");
    let _ = host.sh(&["-u", "www-data"], "id").run().refused(125);
}

#[test]
fn hostname_is_the_name_by_default() {
    let host = Host::new();
    let before = host.says("uname", &["-n"]);
    let script = "uname -n; echo $HOSTNAME";
    assert_eq!(host.sh(&["--name", "web"], script).run().ok(), "web\nweb\n");
    assert_eq!(
        host.sh(&["--name", "web", "--hostname", "box.example"], script).run().ok(),
        "box.example\nbox.example\n"
    );
    let out = host.sh(&[], script).run().ok();
    assert!(out.len() == 26 && out.lines().next() == out.lines().nth(1), "twelve digits, twice: {out}");
    assert_ne!(out, host.sh(&[], script).run().ok());
    assert_eq!(host.says("uname", &["-n"]), before);
    for bad in ["", "a b", &"a".repeat(65)] {
        let _ = host.sh(&["--hostname", bad], "true").run().refused(125);
    }
}

#[test]
fn leaf_cgroup_has_the_containers_name() {
    let host = Host::new();
    let running = host.sh(&["--name", "web"], "echo ready; exec sleep 600").start();
    let mut container = Container::new(&host, "web", running);
    container.wait_for_output("ready");
    assert_eq!(tests::leaf_processes(&container.leaf()).len(), 2, "PID 1 and the payload");
}

#[test]
fn stdin_passes_through() {
    let host = Host::new();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|number| b'a' + (number % 23) as u8).collect();
    let out = host.sh(&["-i"], "exec cat").input(&bytes).run().ok();
    assert!(out.as_bytes() == bytes, "{} bytes came out of {}", out.len(), bytes.len());
    // It has to be asked for, as with docker and with exec.
    assert_eq!(host.sh(&[], "exec cat").input(&bytes).run().ok(), "");
}

#[test]
fn stdout_and_stderr_are_separate() {
    let host = Host::new();
    let outcome = host.sh(&[], "echo out; echo err >&2").run().code(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn payload_writes_to_dev_stdout_as_another_user() {
    // nginx logs to /dev/stdout as uid 101, and stdout is a pipe of the caller's.
    let host = Host::new();
    for user in ["root", "33"] {
        let outcome = host.sh(&["-u", user], "echo out > /dev/stdout; echo err > /dev/stderr").run().code(0);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"), "of user {user}");
    }
}

#[test]
fn arguments_reach_the_payload_unchanged() {
    let host = Host::new();
    let arguments = ["", "a b", "--net", "host", "-p", "--", "-", "--name=x", "*", "$HOME", "ü", "a\nb"];
    let script = ["sh", "-c", "for a; do printf '<%s>' \"$a\"; done", "sh"];
    let out = host.run(&["--net=none"], host.debian(), &[&script[..], &arguments].concat()).run().ok();
    assert_eq!(out, arguments.map(|argument| format!("<{argument}>")).concat());
}

#[test]
fn options_are_accepted_in_every_form() {
    let host = Host::new();
    let out = host.kontena_run().args(["--net=none", "-eA=1", "-e", "B=2", "--env", "C=3", "--"]).arg(host.debian());
    assert_eq!(out.args(["sh", "-c", "echo $A$B$C"]).run().ok(), "123\n");
}

#[test]
fn shell_runs_without_a_command() {
    let host = Host::new();
    let program = host.kontena_run().args(["-i", "--net", "none"]).arg(host.debian());
    assert_eq!(program.input(b"echo $0 says hello\n").run().ok(), "/bin/sh says hello\n");
    let line = host.run(&["--net", "none"], host.demo(), &[]).run().refused(127);
    assert!(line.contains("no COMMAND given"), "{line}");
}

#[test]
fn umask_is_022() {
    let host = Host::new();
    assert_eq!(host.sh(&[], "umask").run().ok(), "0022\n");
}

#[test]
fn help_and_version_go_to_stdout() {
    let host = Host::new();
    for arguments in [&["--help"][..], &["run", "--help"], &["list", "-h"], &["prune", "--help"]] {
        let outcome = host.program(tests::launcher()).args(arguments).run().code(0);
        assert!(outcome.stdout.contains("Usage: kontena") && outcome.stderr.is_empty(), "{outcome}");
    }
    let version = host.program(tests::launcher()).arg("--version").run().ok();
    assert!(version.starts_with("kontena ") && version.lines().count() == 1, "{version}");
}

#[test]
fn every_verb_has_help_with_its_options_and_an_example() {
    let host = Host::new();
    let says = |words: &[&str]| host.program(tests::launcher()).args(words).run().ok();
    let all = says(&["--help"]);
    let (_, commands) = all.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .collect();
    let verbs: Vec<&str> = commands.into_iter().filter(|word| !word.is_empty()).collect();
    assert_eq!(verbs.len(), VERBS.len(), "{verbs:?}");
    for (verb, options) in VERBS {
        assert!(verbs.contains(verb), "{verb}: {verbs:?}");
        let help = says(&[verb, "--help"]);
        // As in docker, -h of these is --hostname.
        assert!(["run", "create"].contains(verb) || help == says(&[verb, "-h"]), "{verb}");
        assert!(help.starts_with(&format!("Usage: kontena {verb}")), "{help}");
        let (_, example) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{verb} has no example: {help}"));
        assert!(example.trim().starts_with(&format!("kontena {verb}")), "{example}");
        // Each option that it takes has a line, and each that has a line is taken. The common ones come first.
        let (_, lines) = help.split_once("Options:\n").unwrap();
        let lines = lines.lines().filter(|line| line.starts_with("  -") || line.starts_with("      --"));
        let mut named: Vec<&str> = lines.filter_map(|line| line.split("--").nth(1)).collect();
        named.iter_mut().for_each(|name| *name = name.split([' ', ',', '[']).next().unwrap());
        assert_eq!(named.iter().filter(|name| **name == "help").count(), 1, "{help}");
        named.retain(|name| *name != "help");
        let known: Vec<&str> = options.split_whitespace().collect();
        assert_eq!(named, known, "{verb}");
        // Without what they need, except options that need nothing.
        for option in known.into_iter().filter(|option| !["all", "quiet", "stream", "rootless"].contains(option)) {
            let outcome = host.kontena().args([*verb, &*format!("--{option}")]).run();
            // With options of engines, failures have another exit status.
            let code = if [1, 255].contains(&outcome.code) { outcome.code } else { 125 };
            assert!(!outcome.refused(code).contains("unknown option"), "{verb} --{option}");
        }
        for line in help.lines() {
            assert!(line.chars().count() <= 96, "{verb}: {line:?}");
            assert!(line.trim().len() > 1 || line.is_empty(), "{verb}: {line:?}");
        }
    }
}

/// Those of update, and near the end those of run.
macro_rules! limits {
    () => {
        "memory memory-swap memory-reservation pids-limit cpus cpu-quota cpu-period cpu-shares cpuset-cpus cpuset-mems \
         blkio-weight blkio-weight-device device-read-bps device-write-bps device-read-iops device-write-iops \
         cgroup-conf"
    };
}
const UPDATE: &str = concat!(limits!(), " resources");
const RUN: &str = concat!(
    "detach interactive tty name replace rm publish publish-all expose entrypoint label label-file pidfile \
     preserve-fds volume env env-file user workdir net hostname ip ip6 mac-address \
     publish-via dns dns-search add-host read-only overlay verify mount tmpfs shm-size device restart stop-signal \
     stop-timeout health-cmd no-healthcheck health-interval health-timeout health-retries health-start-period \
     health-on-failure wait-ready notify-fd sdnotify log-driver log-opt detach-keys stats format userns \
     ipc uts privileged cap-add cap-drop security-opt seccomp group-add init systemd ulimit umask oom-score-adj \
     sysctl ",
    limits!(),
    " cgroup-parent cgroup-mount bundle pid-file console-socket keep no-pivot no-new-keyring no-subreaper"
);

/// Verbs and the options that they have.
const VERBS: &[(&str, &str)] = &[
    ("run", RUN),
    ("create", RUN),
    ("start", "attach interactive"),
    ("state", ""),
    ("features", ""),
    ("spec", "bundle rootless"),
    ("events", "stats interval"),
    ("restart", "time"),
    (
        "exec",
        "detach interactive tty preserve-fds env env-file user workdir cap-add cap-drop process pid-file \
         console-socket",
    ),
    ("attach", "no-stdin detach-keys"),
    ("list", "format filter quiet all"),
    ("ps", "format filter quiet all"),
    ("logs", "follow tail since timestamps"),
    ("stats", "format stream"),
    ("inspect", ""),
    ("stop", "time"),
    ("kill", "signal all"),
    ("wait", ""),
    ("pause", ""),
    ("resume", ""),
    ("update", UPDATE),
    ("delete", "volumes force"),
    ("volume", "format quiet all"),
    ("prune", ""),
];

#[test]
fn rootfs_is_found_by_a_relative_path() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    let program = host.run(&["--net", "none"], "rootfs", &["/bin/true"]);
    let _ = program.with(|command| _ = command.current_dir(rootfs.parent().unwrap())).run().ok();
    let link = host.directory().join("link");
    std::os::unix::fs::symlink(&rootfs, &link).unwrap();
    let _ = host.run(&["--net", "none"], &link, &["/bin/true"]).run().ok();
}
