//! Attacks by a hostile rootfs, really carried out, each with a canary on the pretend host that must not change.
//!
//! Those by a payload are in privileges.rs, those by a neighbour in network.rs, those by names in cleanliness.rs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tests::Host;

/// A directory of the host with a file in it, and a function that shows its state.
struct Canary {
    path: PathBuf,
    before: Vec<String>,
}

impl Canary {
    fn new(host: &Host) -> Self {
        let path = host.directory().join("canary");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "sings").unwrap();
        let before = look(&path);
        Self { path, before }
    }

    #[track_caller]
    fn assert_unchanged(&self) {
        assert_eq!(look(&self.path), self.before, "the canary");
    }
}

fn look(path: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).chain([path.into()]) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = fs::read(&path).unwrap_or_default();
        let (uid, gid, mode, size) = (metadata.uid(), metadata.gid(), metadata.mode(), content.len());
        lines.push(format!("{} {uid}:{gid} {mode:o} {size} {content:?}", path.display()));
    }
    lines.sort_unstable();
    lines
}

/// Replaces `name` of the rootfs by a symbolic link.
fn replace_by_link(rootfs: &Path, name: &str, target: &Path) {
    let path = rootfs.join(name);
    let _ = fs::remove_dir_all(&path);
    let _ = fs::remove_file(&path);
    symlink(target, path).unwrap();
}

#[test]
fn file_systems_are_not_mounted_through_links() {
    // CVE-2026-41579, CVE-2019-19921
    let host = Host::new();
    let canary = Canary::new(&host);
    for name in ["dev", "proc", "sys"] {
        for target in [&canary.path, Path::new("/tmp"), Path::new("../../../../../../tmp")] {
            let rootfs = host.demo_copy(&format!("rootfs-{name}"));
            replace_by_link(&rootfs, name, target);
            let line = host.run(&["--net", "none"], &rootfs, &["/bin/true"]).run().refused(125);
            assert!(line.contains(&format!("/{name}")) && line.contains("symbolic link"), "{line}");
            assert_eq!(fs::read_dir(rootfs.join("tmp")).unwrap().count(), 0);
            fs::remove_dir_all(rootfs).unwrap();
            canary.assert_unchanged();
        }
    }
}

#[test]
fn masks_are_not_made_of_the_rootfs_null() {
    // CVE-2025-31133, CVE-2026-88264
    let host = Host::new();
    let canary = Canary::new(&host);
    let rootfs = host.debian();
    host.inside(|| {
        for name in ["null", "console", "tty", "zero", "ptmx", "pts", "shm"] {
            replace_by_link(&rootfs.join("dev"), name, &canary.path.join("file"));
        }
    });
    let script = "echo gone > /dev/null; wc -c < /proc/timer_list; wc -c < /dev/null; \
                  stat -c %F /dev/null /dev/shm /dev/pts; [ -e /dev/console ] || echo none";
    let out = host.sh(&[], script).run().ok();
    assert_eq!(out, "0\n0\ncharacter special file\ndirectory\ndirectory\nnone\n");
    canary.assert_unchanged();
}

#[test]
fn volume_in_place_of_proc_is_not_written_to() {
    // CVE-2025-52881
    let host = Host::new();
    let canary = Canary::new(&host);
    for target in ["/proc", "/proc/self", "/proc/sys", "/proc/sys/kernel", "/sys", "/dev", "/sys/fs/cgroup"] {
        let volume = format!("{}:{target}", canary.path.display());
        let outcome = host.run(&["--net", "none", "-v", &volume], host.demo(), &["/bin/true"]).run();
        assert!([0, 125].contains(&outcome.code), "{outcome}");
        canary.assert_unchanged();
    }
}

#[test]
fn users_are_read_only_from_regular_files() {
    let host = Host::new();
    let canary = Canary::new(&host);
    for name in ["etc/passwd", "etc/group"] {
        let rootfs = host.demo_copy("rootfs");
        fs::remove_file(rootfs.join(name)).unwrap();
        mkfifo(&rootfs.join(name), Mode::from_bits_truncate(0o644)).unwrap();
        let _ = host.run(&["--net", "none", "-u", "nginx:nginx"], &rootfs, &["/bin/true"]).run().refused(125);
        // A link in the rootfs leads only into the rootfs.
        fs::remove_file(rootfs.join(name)).unwrap();
        fs::write(canary.path.join("file"), "sings").unwrap();
        symlink(canary.path.join("file"), rootfs.join(name)).unwrap();
        let _ = host.run(&["--net", "none", "-u", "nginx:nginx"], &rootfs, &["/bin/true"]).run().refused(125);
        canary.assert_unchanged();
        fs::remove_dir_all(rootfs).unwrap();
    }
    let _ = host.run(&["--net", "none", "-u", "nginx:nginx"], host.demo(), &["/bin/true"]).run().ok();
}

#[test]
fn numeric_user_needs_no_file_of_the_rootfs() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    let intruder = format!("{}:/intruder:ro", tests::intruder().display());
    let options = ["-d", "--name", "idle", "--net", "none", "-v", &intruder];
    let _ = host.run(&options, &rootfs, &["/intruder", "time", "4000000000"]).run().ok();
    let run = |options: &[&str]| host.run(&[&["--net", "none"], options].concat(), &rootfs, &["/bin/true"]).run();
    let exec = |user: &str| host.exec(&["-u", user], "idle", &["/intruder", "owner", "/proc/self"]).run();
    // A lease, which any process that could own the file can take.
    for name in ["etc/passwd", "etc/group"] {
        let file = fs::OpenOptions::new().read(true).write(true).open(rootfs.join(name)).unwrap();
        tests::sys::take_lease(&file).unwrap();
        assert_eq!(exec("4711:4712").ok(), "4711:4712\n");
        let _ = run(&[]).ok();
        let _ = run(&["-u", "0"]).ok();
        for line in [exec("nginx:nginx").refused(125), run(&["-u", "nginx:nginx"]).refused(125)] {
            assert!(line.contains("EAGAIN") && line.contains("lease"), "{name}: {line}");
        }
    }
    // Only regular files are opened: no writer of a FIFO wakes up, and no device reacts.
    for name in ["etc/passwd", "etc/group"] {
        let path = rootfs.join(name);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::from_bits_truncate(0o644)).unwrap();
        let writer = thread::spawn({
            let path = path.clone();
            move || fs::write(path, "root:x:0:0::/:\n")
        });
        assert_eq!(exec("4711:4712").ok(), "4711:4712\n");
        let _ = run(&[]).ok();
        let _ = exec("nginx:nginx").refused(125);
        let _ = run(&["-u", "nginx:nginx"]).refused(125);
        assert!(!writer.is_finished(), "{name} was opened");
        assert!(fs::read_to_string(&path).unwrap().starts_with("root:"));
        writer.join().unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        let _ = host.program("mknod").arg(&path).args(["c", "1", "5"]).run().ok();
        let _ = run(&[]).ok();
        let line = run(&["-u", "nginx:nginx"]).refused(125);
        assert!(line.contains("/etc/passwd and /etc/group") && line.contains("number"), "{line}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
    }
    let _ = host.kontena().args(["rm", "-f", "idle"]).run().ok();
}

#[test]
fn malformed_line_of_passwd_names_no_user() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    let bad = "root:x:0:x:root:/root:/bin/sh\nbroken:x:12:none:::\n:::::\n\u{fffd}\n";
    let good = fs::read_to_string(rootfs.join("etc/passwd")).unwrap();
    fs::write(rootfs.join("etc/passwd"), format!("{bad}{good}")).unwrap();
    let run = |options: &[&str]| host.run(&[&["--net", "none"], options].concat(), &rootfs, &["/bin/true"]).run();
    for options in [&[][..], &["-u", "0"], &["-u", "12"], &["-u", "root"], &["-u", "nginx"]] {
        let _ = run(options).ok();
    }
    let line = run(&["-u", "broken"]).refused(125);
    assert!(line.contains("user broken") && line.contains("malformed"), "{line}");
}

#[test]
fn reading_sysfs_has_no_effects() {
    let host = Host::new();
    let devices = || {
        let names = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("zram")).count()
    };
    let before = devices();
    let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
    let image = tests::images().join("demo.erofs");
    for options in [&["--net", "none"][..], &["--net", "host"], &["--net", "host", "--userns", "map=0:300000:65536"]] {
        let options = [&["-v", &volume], options].concat();
        let run = |arguments: &[&str]| host.run(&options, &image, &["/run/intruder"]).args(arguments).run();
        // If the kernel has zram, reading that file would create a device.
        let _ = run(&["look", "/sys/class/zram-control/hot_add"]).code(1);
        if Path::new("/sys/class/zram-control").exists() {
            assert_eq!(run(&["list", "/sys/class/zram-control"]).ok(), "");
        }
        assert_eq!(devices(), before, "{options:?}");
        // A clock's queue of events.
        for clock in fs::read_dir("/sys/class/ptp").into_iter().flatten().flatten() {
            let fifo = clock.path().join("fifo");
            if fifo.exists() {
                assert_eq!(run(&["look", fifo.to_str().unwrap()]).ok(), "");
            }
        }
    }
}

#[test]
fn working_directory_cannot_be_a_link_out() {
    let host = Host::new();
    let canary = Canary::new(&host);
    let rootfs = host.debian();
    host.inside(|| symlink(&canary.path, rootfs.join("out")).unwrap());
    let _ = host.sh(&["-w", "/out"], "echo x > new").run().refused(125);
    canary.assert_unchanged();
}

#[test]
fn hosts_own_root_can_be_a_rootfs_and_is_unchanged() {
    let host = Host::new();
    let before = host.snapshot();
    let options = ["--net", "none", "--read-only"];
    // A program that exists on every host.
    let kontena = tests::launcher();
    let out = host.run(&options, "/", &[kontena.to_str().unwrap(), "--version"]).run().ok();
    assert!(out.starts_with("kontena "), "{out}");
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn target_exchanged_with_a_link_during_the_start_leads_nowhere() {
    // CVE-2021-30465, CVE-2024-45310
    let host = Host::new();
    let canary = Canary::new(&host);
    let rootfs = host.demo_copy("rootfs");
    let data = host.directory().join("data");
    fs::create_dir(&data).unwrap();
    fs::create_dir(rootfs.join("target")).unwrap();
    symlink(&canary.path, rootfs.join("link")).unwrap();

    let stop = AtomicBool::new(false);
    let mut codes = [0, 0];
    thread::scope(|scope| {
        let exchanger = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let (target, link) = (rootfs.join("target"), rootfs.join("link"));
                tests::sys::exchange(&target, &link).unwrap();
                count += 1;
            }
            count
        });
        let volume = format!("{}:/target/new/dir", data.display());
        for _ in 0..tests::rounds(1000) {
            let outcome = host
                .run(&["--net", "none", "-v", &volume, "--tmpfs", "/target/scratch"], &rootfs, &["/bin/true"])
                .run();
            assert!([0, 125].contains(&outcome.code), "{outcome}");
            codes[usize::from(outcome.code == 125)] += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(exchanger.join().unwrap() > 1000);
    });
    canary.assert_unchanged();
    assert!(codes[0] > 0, "some started: {codes:?}");
}

#[test]
fn settings_are_not_written_through_volumes() {
    // CVE-2025-52881, CVE-2019-19921: what kontena itself writes to /proc
    let host = Host::new();
    let canary = Canary::new(&host);
    let file = canary.path.join("file");
    for target in
        ["/proc/self/oom_score_adj", "/proc/1/oom_score_adj", "/proc/2/oom_score_adj", "/proc/sys/kernel/shmmax"]
    {
        let volume = format!("{}:{target}", file.display());
        let options = ["--net", "none", "-v", &volume, "--oom-score-adj", "77", "--sysctl", "kernel.shmmax=77"];
        let outcome = host.run(&options, host.demo(), &["/bin/true"]).run();
        assert!([0, 125].contains(&outcome.code), "{outcome}");
        canary.assert_unchanged();
    }
    for target in ["/proc", "/proc/sys", "/proc/sys/kernel", "/proc/2"] {
        fs::create_dir_all(canary.path.join("kernel")).unwrap();
        let volume = format!("{}:{target}", canary.path.display());
        let options = ["--net", "none", "-v", &volume, "--oom-score-adj", "77", "--sysctl", "kernel.shmmax=77"];
        let _ = host.run(&options, host.demo(), &["/bin/true"]).run();
        fs::remove_dir(canary.path.join("kernel")).unwrap();
        canary.assert_unchanged();
    }
}

#[test]
fn consoles_of_the_rootfs_are_not_followed() {
    // CVE-2025-52565, CVE-2026-88264
    let host = Host::new();
    let canary = Canary::new(&host);
    let rootfs = host.demo_copy("rootfs");
    fs::create_dir_all(rootfs.join("dev/pts")).unwrap();
    for name in ["console", "tty", "ptmx", "pts/0", "pts/1", "null"] {
        replace_by_link(&rootfs, &format!("dev/{name}"), &canary.path.join("file"));
    }
    for options in [&[][..], &["-u", "101"], &["--overlay"], &["--userns", "map=0:300000:65536"]] {
        let outcome = host.run(&[&["--net", "none"], options].concat(), &rootfs, &["/bin/true"]).run();
        // A kernel whose tmpfs has no idmapped mounts says so.
        assert!(outcome.code == 0 || outcome.stderr.contains("idmap"), "{outcome}");
        canary.assert_unchanged();
    }
}

#[test]
fn devices_and_files_are_not_made_through_links() {
    // CVE-2026-41579, CVE-2026-47766
    let host = Host::new();
    let canary = Canary::new(&host);
    let rootfs = host.demo_copy("rootfs");
    for link in [canary.path.clone(), PathBuf::from(format!("../../../../../..{}", canary.path.display()))] {
        replace_by_link(&rootfs, "out", &link);
        for target in ["/out/node", "/out/new/node"] {
            let device = format!("/dev/null:{target}");
            let line = host.run(&["--net", "none", "--device", &device], &rootfs, &["/bin/true"]).run().refused(125);
            assert!(line.contains(target), "{line}");
            canary.assert_unchanged();
        }
        // Paths in /etc are resolved in the rootfs, where they do not exist.
        replace_by_link(&rootfs, "etc", &link);
        let _ = host.run(&["--net", "none"], &rootfs, &["/bin/true"]).run().ok();
        canary.assert_unchanged();
    }
}

#[test]
fn cgroup_cannot_be_changed_from_inside() {
    // CVE-2022-0492, and the ways out of a limit
    let host = Host::new();
    for attack in [
        "mkdir /sys/fs/cgroup/new",
        "echo 0 > /sys/fs/cgroup/cgroup.procs",
        "echo max > /sys/fs/cgroup/cgroup.max.depth",
        "echo 1 > /sys/fs/cgroup/cgroup.kill",
        "rmdir /sys/fs/cgroup/../../../sys/fs/cgroup",
    ] {
        for options in [&[][..], &["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"]] {
            let outcome = host.sh(options, attack).run();
            let refused = ["Read-only file system", "busy"].iter().any(|words| outcome.stderr.contains(words));
            assert!(outcome.code != 0 && refused, "{attack}: {outcome}");
        }
    }
    assert_eq!(host.sh(&[], "cat /sys/fs/cgroup/cgroup.max.depth").run().ok(), "max\n");
}
