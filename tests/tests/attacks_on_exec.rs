//! Attacks on processes that join a container, and on terminals, really carried out from inside.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::mount::{MsFlags, mount};
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use tests::{Background, Host, Traced, init, launcher, wait_until};

/// The eleven that every container has, and those that a joining process needs until it becomes the command: CHOWN,
/// KILL, SETGID, SETUID, SETPCAP and SYS_RESOURCE, by their numbers in capabilities(7).
const DEFAULT: u64 = 0x8004_05fb;
const JOINING: u64 = 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 24;
const SYS_PTRACE: u64 = 1 << 19;

fn hashes() -> Vec<u64> {
    let hash = |path: PathBuf| {
        let mut hasher = DefaultHasher::new();
        fs::read(path).unwrap().hash(&mut hasher);
        hasher.finish()
    };
    [launcher(), init()].map(hash).into()
}

#[test]
fn process_that_joins_at_once_is_inside() {
    // Until PID 1 has set up the container, it has the host's root: here it is stopped before it leaves that.
    let host = Host::new();
    let canary = host.directory().join("canary");
    fs::write(&canary, "").unwrap();
    let mut launcher = Traced::start(host.sh(&["--name", "job"], "exec sleep 600"));
    let child = launcher.first_child();
    let mut init = launcher.follow(child);
    while init.next_call().unwrap().0 != nix::libc::SYS_pivot_root as u64 {}
    let list = ["ls", "-d", canary.to_str().unwrap()];
    wait_until("it to be known", || Background::new(&host, "job").status() == "running");
    let mut exec = host.exec(&[], "job", &list).start();
    thread::sleep(std::time::Duration::from_millis(500));
    assert!(!exec.has_ended(), "{}", exec.finish());
    nix::sys::ptrace::detach(init.pid(), None).unwrap();
    let outcome = exec.finish();
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("No such file"), "{outcome}");
    let running = launcher.detach();
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = running.finish().code(143);
}

/// How often a process joins.
fn often() -> u32 {
    if tests::instruments() == Path::new("/") { 200 } else { 40 }
}

/// Lets the intruder inspect every joining process, and returns its report.
fn spy(host: &Host, options: &[&str], join: &(dyn Fn(u32) + Sync)) -> Vec<String> {
    let shared = host.directory().join("shared");
    let _ = fs::remove_dir_all(&shared);
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let volumes = [format!("{}:/host", shared.display()), format!("{}:/intruder:ro", tests::intruder().display())];
    let options = [&["-d", "--name", "job", "--net", "none", "-v", &volumes[0], "-v", &volumes[1]], options].concat();
    let _ = host.run(&options, host.debian(), &["/intruder", "spy", "/host"]).run().ok();
    wait_until("the intruder", || shared.join("begun").exists());
    thread::scope(|scope| {
        for worker in 0..2 {
            scope.spawn(move || (0..often() / 2).for_each(|number| join(2 * number + worker)));
        }
    });
    fs::write(shared.join("stop"), "").unwrap();
    let job = Background::new(host, "job");
    assert_eq!(job.end(), 0, "{:?}", job.log());
    let _ = job.does("delete");
    let report = fs::read_to_string(shared.join("report")).unwrap();
    report.lines().map(str::to_owned).collect()
}

/// The entries of one kind in the report.
fn of<'a>(report: &'a [String], kind: &str) -> Vec<&'a str> {
    report.iter().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).collect()
}

#[test]
fn joining_process_cannot_be_inspected_or_overwritten() {
    // CVE-2016-9962, CVE-2019-5736
    let host = Host::new();
    let before = hashes();
    for options in [&[][..], &["--cap-add", "SYS_PTRACE"], &["--cap-add", "SYS_PTRACE", "-u", "33"]] {
        let report = spy(&host, options, &|number| {
            let script = ["true", "exec true", "sleep 0.01", "exec /proc/self/exe -c true"][number as usize % 4];
            let options: &[&str] = if number % 3 == 0 { &["-i"] } else { &[] };
            let _ = host.exec(options, "job", &["sh", "-c", script]).run().ok();
        });
        // It has seen them, if it could.
        assert!(of(&report, "exe").iter().any(|exe| exe.contains("/usr/bin/")) || options.is_empty(), "{report:#?}");
        assert_eq!(of(&report, "wrote"), [""; 0], "{report:#?}");
        assert_eq!(of(&report, "way out"), [""; 0], "{report:#?}");
        for fd in of(&report, "fd") {
            // Its own root; the pipe to its caller, which is not a socket that could carry fds to the launcher; and the
            // files that the commands open.
            let known = ["/", "/dev/null", "pipe", "/proc", "/host", "/usr/", "/etc/", "/dev/pts", "/tmp"];
            assert!(known.iter().any(|known| fd.starts_with(known)), "{fd}: {report:#?}");
            assert!(!fd.contains("memfd") && !fd.contains("anon_inode") && !fd.contains("work"), "{fd}: {report:#?}");
        }
        for exe in of(&report, "exe") {
            // No process ever sees a file of the host through kontena.
            assert!(!exe.contains("kontena") || exe.contains("memfd:kontena-init"), "{report:#?}");
        }
    }
    assert_eq!(hashes(), before);
}

#[test]
fn joining_process_never_has_more_than_it_needs() {
    // A process of the container that may trace others could use their privileges before they become the command.
    let host = Host::new();
    for (options, exec, expected) in [
        (&[][..], &[][..], DEFAULT | JOINING),
        (&["--cap-add", "SYS_PTRACE"], &[], DEFAULT | JOINING | SYS_PTRACE),
        (&["--cap-drop", "ALL"], &[], JOINING),
        (&["--cap-drop", "ALL"], &["-u", "33"], JOINING),
    ] {
        let report = spy(&host, options, &|_| drop(host.exec(exec, "job", &["true"]).run().ok()));
        let seen = u64::from_str_radix(of(&report, "caps")[0], 16).unwrap();
        assert_eq!(seen & !expected, 0, "{seen:x} with {options:?}: {report:#?}");
        assert!(seen != 0 || options.contains(&"ALL"), "{seen:x}");
    }
}

#[test]
fn joining_process_on_a_terminal_leaks_nothing_more() {
    let host = Host::new();
    let before = hashes();
    let report = spy(&host, &["--cap-add", "SYS_PTRACE"], &|_| {
        let _ = host.exec(&["-t"], "job", &["true"]).run().ok();
    });
    assert_eq!((of(&report, "wrote"), of(&report, "way out")), (vec![], vec![]), "{report:#?}");
    // It may see the caller's side of the terminal for a moment: it belongs to its own /dev/pts.
    for fd in of(&report, "fd") {
        let known = ["/", "/dev/null", "pipe", "/proc", "/host", "/usr/", "/etc/", "/dev/pts"];
        assert!(known.iter().any(|known| fd.starts_with(known)) && !fd.contains("work"), "{fd}: {report:#?}");
    }
    assert_eq!(hashes(), before);
}

#[test]
fn joining_init_cannot_be_executed_from_inside() {
    // CVE-2019-5736: a program whose interpreter is the program that is about to become it. It gets an unknown option,
    // or it would run the program again and again until no pid is left.
    let host = Host::new();
    let before = hashes();
    let rootfs = host.debian();
    host.inside(|| {
        for (name, interpreter) in [("self", "/proc/self/exe"), ("one", "/proc/1/exe")] {
            let path = rootfs.join(name);
            fs::write(&path, format!("#!{interpreter} --none\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    });
    for options in [&[][..], &["--cap-add", "SYS_PTRACE"]] {
        let job = host.background("job", options, "exec sleep 600");
        for program in ["/self", "/one", "/proc/self/exe", "/proc/1/exe"] {
            let outcome = job.exec(&[program]).run();
            assert!(outcome.code != 0, "{outcome}");
            assert_eq!(hashes(), before);
        }
        // PID 1's program is sealed, even for a process that can open it.
        let init = fs::File::open(format!("/proc/{}/exe", job.init())).unwrap();
        let seals = SealFlag::from_bits_truncate(fcntl(&init, FcntlArg::F_GET_SEALS).unwrap());
        assert!(seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL));
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    }
}

#[test]
fn exec_cannot_enter_a_directory_of_the_host() {
    // CVE-2024-21626: by the fds of a joining process, and one that the caller has left open.
    let host = Host::new();
    let secret = host.directory().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "secret").unwrap();
    let _job = host.background("job", &[], "exec sleep 600");
    let look = ["sh", "-c", "pwd -P; cat file ../file; ls .."];
    for number in 3..=20 {
        for directory in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/../..")] {
            for options in [&["-w", &*directory][..], &["-t", "-w", &directory]] {
                let redirect = format!("exec {number}< {}; exec \"$@\"", secret.display());
                let outcome = host.exec(options, "job", &look).through("bash", &["-c", &redirect, "bash"]).run();
                assert!(!outcome.stdout.contains("secret"), "{outcome}");
                let line = outcome.refused(125);
                assert!(line.contains("/proc/self/fd"), "{line}");
            }
        }
    }
    // Nor does the command have that fd.
    let redirect = format!("exec 9< {}; exec \"$@\"", secret.display());
    let program = host.exec(&[], "job", &["sh", "-c", "ls /proc/self/fd/9/; cat /proc/self/fd/9/file"]);
    let outcome = program.through("bash", &["-c", &redirect, "bash"]).run();
    assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{outcome}");
    // A link in the container leads into the container.
    let rootfs = host.debian();
    host.inside(|| {
        symlink("/proc/self/fd/7", rootfs.join("way")).unwrap();
        symlink(&secret, rootfs.join("out")).unwrap();
    });
    for directory in ["/way", "/out"] {
        let outcome = host.exec(&["-w", directory], "job", &look).run();
        assert!(!outcome.stdout.contains("secret"), "{outcome}");
        let _ = outcome.refused(125);
    }
    assert_eq!(host.exec(&["-w", "/usr"], "job", &["pwd"]).run().ok(), "/usr\n");
}

/// A directory of the host with files that must not change.
fn canary(host: &Host) -> (PathBuf, impl Fn() -> Vec<String>) {
    let path = host.directory().join("canary");
    fs::create_dir(&path).unwrap();
    for name in ["null", "console", "ptmx", "0", "1"] {
        fs::write(path.join(name), "sings").unwrap();
    }
    let ours = path.clone();
    let look = move || {
        use std::os::unix::fs::MetadataExt;
        let mut lines = Vec::new();
        for entry in fs::read_dir(&ours).unwrap().flatten() {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            let content = fs::read_to_string(entry.path()).unwrap_or_default();
            lines.push(format!("{:?} {} {:o} {content}", entry.file_name(), metadata.uid(), metadata.mode()));
        }
        lines.sort_unstable();
        lines
    };
    (path, look)
}

#[test]
fn terminals_are_not_created_through_files_of_the_rootfs() {
    // CVE-2025-52565, CVE-2026-88264, with a terminal.
    let host = Host::new();
    let (path, look) = canary(&host);
    let before = look();
    let rootfs = host.debian();
    host.inside(|| {
        let dev = rootfs.join("dev");
        for name in ["console", "ptmx", "tty", "null"] {
            let _ = fs::remove_file(dev.join(name));
            symlink(path.join(name), dev.join(name)).unwrap();
        }
        let _ = fs::remove_dir_all(dev.join("pts"));
        symlink(&path, dev.join("pts")).unwrap();
    });
    for options in [&["-t"][..], &["-it"], &["-t", "-u", "33"], &["-t", "--read-only"]] {
        let terminal =
            host.sh(options, "tty; echo hello > /dev/console; [ -L /dev/console ] || echo is none").on_terminal();
        assert_eq!(terminal.finish(), 0, "{}", terminal.text());
        let lines = terminal.lines();
        assert!(lines.contains("/dev/pts/0\n") && lines.contains("hello\n") && lines.contains("is none\n"), "{lines}");
        assert_eq!(look(), before);
    }
}

#[test]
fn terminals_are_not_created_in_a_volume_over_dev_pts() {
    let host = Host::new();
    let (path, look) = canary(&host);
    let before = look();
    // A volume over /dev/pts, or over a file in it: `exec -t` finds no devpts there, and `run -t` mounts it too late to
    // matter.
    for (target, is_covered) in
        [("/dev/pts", true), ("/dev/console", false), ("/dev/pts/ptmx", true), ("/dev/ptmx", true)]
    {
        let source = if target == "/dev/pts" { path.clone() } else { path.join("ptmx") };
        let volume = format!("{}:{target}", source.display());
        let outcome = host.sh(&["-t", "-v", &volume], "echo hello").run();
        assert!([0, 125].contains(&outcome.code), "{target}: {outcome}");
        assert_eq!(look(), before, "{target}");
        let _job = host.background("job", &["-v", &volume], "exec sleep 600");
        let outcome = host.exec(&["-t"], "job", &["echo", "hello"]).run();
        if is_covered {
            let line = outcome.refused(125);
            assert!(line.contains("devpts"), "{target}: {line}");
        } else {
            assert_eq!(outcome.ok().trim(), "hello", "{target}");
        }
        assert_eq!(look(), before, "{target}");
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    }
    // A process of the container that may mount puts another devpts there, a link, or a FIFO.
    let options = ["--cap-add", "SYS_ADMIN", "--seccomp", "unconfined"];
    for (attack, works) in [
        ("mount -t devpts -o newinstance,ptmxmode=666 none /dev/pts", true),
        ("mount -t tmpfs none /dev/pts; ln -s /dev/null /dev/pts/ptmx", false),
        ("mount -t tmpfs none /dev/pts; mkfifo /dev/pts/ptmx", false),
        ("mount -t tmpfs none /dev/pts; ln -s /proc/1/fd/0 /dev/pts/ptmx", false),
        ("umount /dev/pts", false),
        ("mount --bind /proc /dev/pts", false),
        ("mount -t tmpfs none /dev", false),
    ] {
        let job = host.background("job", &options, &format!("{attack}; echo done; exec sleep 600"));
        job.wait_for_log("done");
        let outcome = host.exec(&["-t"], "job", &["echo", "hello"]).run();
        if works {
            assert_eq!(outcome.ok().trim(), "hello", "{attack}");
        } else {
            let _ = outcome.refused(125);
        }
        // Without a terminal, exec still works.
        assert_eq!(job.exec(&["echo", "hello"]).run().ok(), "hello\n", "{attack}");
        let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    }
}

#[test]
fn terminal_exchanged_during_its_creation_leads_nowhere() {
    let host = Host::new();
    let (path, look) = canary(&host);
    let before = look();
    let volume = format!("{}:/canary", path.display());
    let options = ["-v", &volume, "--cap-add", "SYS_ADMIN", "--seccomp", "unconfined"];
    // The mount over /dev/pts comes and goes all the time.
    let script = "mkdir /x; for n in 0 1 2; do ln -s /canary/$n /x/$n; done; ln -s /canary/ptmx /x/ptmx; echo done;
        while :; do mount --bind /x /dev/pts && umount /dev/pts; done";
    let job = host.background("job", &options, script);
    job.wait_for_log("done");
    let mut worked = 0;
    for _ in 0..often() / 2 {
        let outcome = host.exec(&["-t"], "job", &["sh", "-c", "tty; echo hello"]).run();
        assert!([0, 1, 125].contains(&outcome.code), "{outcome}");
        worked += u32::from(outcome.stdout.contains("hello"));
        assert_eq!(look(), before);
    }
    assert!(worked > 0, "some worked");
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
}

#[test]
fn names_and_commands_cannot_control_the_readers_terminal() {
    let host = Host::new();
    let evil = "\x1b]0;title\x07\x1b[2J\n\r\x7f";
    let command = format!("exec -a '{evil}' sleep 600");
    let options = ["-d", "--name", "job", "--net", "none", "-e", &format!("EVIL={evil}")];
    let _ = host.run(&options, host.debian(), &["bash", "-c", &command]).run().ok();
    let job = Background::new(&host, "job");
    wait_until("its new name", || !host.processes_named("\x1b").is_empty());
    for words in [
        &["list"][..],
        &["ps", "job"],
        &["inspect", "job"],
        &["list", "--format", "json"],
        &["ps", "--format", "json", "job"],
        &["stats"],
    ] {
        let out = host.kontena().args(words).run().ok();
        assert!(!out.replace('\n', "").contains(char::is_control), "{words:?}: {out:?}");
    }
    // Nor do the messages.
    for words in [vec!["exec", "job", evil], vec!["logs", evil], vec!["exec", "-w", "/\x1b", "job", "true"]] {
        let outcome = host.kontena().args(&words).run();
        let code = outcome.code;
        assert!(!outcome.refused(code).contains(char::is_control), "{words:?}");
    }
    drop(job);
}

#[test]
fn process_with_an_invalid_name_is_listed() {
    let host = Host::new();
    // As a thread's name and as a program's, with characters that reverse the direction of a line.
    let rename = "printf '\\377\\302\\233\\342\\200\\256evil' > /proc/self/comm; \
                  exec -a \"$(printf '\\377a\\342\\200\\256b\\342\\201\\246c\\357\\273\\277')\" sleep 600";
    let script = format!("{rename} & printf '\\377\\342\\200\\256' > /proc/self/comm; read -r _ < /tmp/nothing; :");
    let script = format!("mkfifo /tmp/nothing; {script}");
    let options = ["-d", "--name", "job", "--net", "none"];
    let evil = "e\u{202e}vil\u{2066}\u{2028}\u{200f}\u{feff}";
    let _ = host.run(&options, host.debian(), &["bash", "-c", &script, evil]).run().ok();
    let job = Background::new(&host, "job");
    let names = |text: &str| text.contains("\\xffa\\xe2\\x80\\xaeb\\xe2\\x81\\xa6c\\xef\\xbb\\xbf");
    wait_until("its process in the table", || names(&host.kontena().args(["ps", "job"]).run().ok()));
    let table = host.kontena().args(["ps", "job"]).run().ok();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert_eq!(job.processes().len(), 3);
    for words in [
        &["list"][..],
        &["ps", "job"],
        &["inspect", "job"],
        &["list", "--format", "json"],
        &["ps", "--format", "json", "job"],
        &["logs", evil],
        &["exec", "job", evil],
    ] {
        // The harness replaces invalid UTF-8 with U+FFFD.
        let outcome = host.kontena().args(words).run();
        let text = outcome.stdout.clone() + &outcome.stderr;
        let drives =
            |c: char| c.is_control() && c != '\n' || evil[1..].chars().any(|other| c == other && !c.is_ascii());
        assert!(!text.contains(drives) && !text.contains('\u{fffd}'), "{words:?}: {text:?}");
        if words.contains(&"json") || words[0] == "inspect" {
            let _: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        }
    }
    // Programs get them unchanged.
    let json = host.list();
    assert_eq!(json[0]["command"].as_array().unwrap().last().unwrap(), evil);
}

#[test]
fn detached_exec_does_not_wait_for_a_copy_of_its_socket() {
    // With CAP_SYS_PTRACE a process copies all fds of a joining process before that becomes the command.
    let host = Host::new();
    let shared = host.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    let volumes = [format!("{}:/host", shared.display()), format!("{}:/intruder:ro", tests::intruder().display())];
    let options =
        ["-d", "--name", "job", "--net", "none", "--cap-add", "SYS_PTRACE", "-v", &volumes[0], "-v", &volumes[1]];
    let _ = host.run(&options, host.debian(), &["/intruder", "hold", "/host"]).run().ok();
    wait_until("the intruder", || shared.join("begun").exists());
    let held = || fs::read_to_string(shared.join("held")).unwrap_or_default().lines().count();
    wait_until("it to hold sockets of some", || {
        let before = held();
        let outcome = host.exec(&["-d"], "job", &["sleep", "0.05"]).run();
        assert_eq!(outcome.code, 0, "{outcome}");
        // An ordinary one sees the end of its command.
        let _ = host.exec(&[], "job", &["true"]).run().ok();
        held() > 5 || before > 5
    });
    // A command that cannot be executed is still reported.
    let _ = host.exec(&["-d"], "job", &["/nosuch"]).run().refused(127);
}

#[test]
fn exec_finds_only_users_of_the_container() {
    let host = Host::new();
    let rootfs = host.debian();
    let _job = host.background("job", &[], "exec sleep 600");
    // The container changes its own files while it runs.
    let original = host.inside(|| fs::read(rootfs.join("etc/passwd")).unwrap());
    for number in 0..3 {
        host.inside(|| {
            let path = rootfs.join("etc/passwd");
            let _ = fs::remove_file(&path);
            match number {
                0 => symlink("/nosuch", &path).unwrap(),
                1 => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
        });
        let outcome = host.exec(&["-u", "www-data"], "job", &["id"]).run();
        assert!(!outcome.stdout.contains("uid=0"), "{outcome}");
        let _ = outcome.refused(125);
        host.inside(|| {
            let path = rootfs.join("etc/passwd");
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
            fs::write(&path, &original).unwrap();
        });
    }
    let out = host.exec(&["-u", "www-data"], "job", &["id", "-u"]).run().ok();
    assert_eq!(out, "33\n");
    for user in ["1:", "-1", "4294967295", "0x0", "nosuch", "root:nosuch", " 0"] {
        let outcome = host.exec(&["-u", user], "job", &["id"]).run();
        assert!(!outcome.stdout.contains("uid="), "{user:?}: {outcome}");
        let _ = outcome.refused(125);
    }
}

#[test]
fn exec_takes_nothing_from_a_covered_proc() {
    // A container whose /proc is covered: a joining process takes nothing from there.
    let host = Host::new();
    let (path, look) = canary(&host);
    let before = look();
    let fake = host.directory().join("fake");
    fs::create_dir_all(fake.join("self/fd")).unwrap();
    host.inside(|| mount(Some("tmpfs"), &fake, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap());
    let volume = format!("{}:/proc", fake.display());
    let _job = host.background("job", &["-v", &volume], "exec sleep 600");
    assert_eq!(host.exec(&[], "job", &["sh", "-c", "echo joined; ls /proc | wc -l"]).run().ok(), "joined\n0\n");
    let terminal = host.exec(&["-t"], "job", &["echo", "hello"]).run();
    assert_eq!(terminal.ok().trim(), "hello");
    assert_eq!(look(), before);
    drop(path);
}
