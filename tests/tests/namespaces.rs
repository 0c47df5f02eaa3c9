//! The container's view of the world: its namespaces, its cgroup, its mounts, its devices.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tests::{Container, Host, Traced};

const NAMESPACES: [&str; 6] = ["pid", "mnt", "uts", "ipc", "net", "cgroup"];

/// Runs a script in the Debian rootfs, and returns its output.
#[track_caller]
fn sh(host: &Host, options: &[&str], script: &str) -> String {
    host.sh(options, script).run().ok()
}

/// The inode of a namespace, as the host's own processes or a container's see it.
fn namespace(host: &Host, options: &[&str], name: &str) -> [String; 2] {
    let link = format!("/proc/self/ns/{name}");
    let rootfs = host.debian();
    [host.says("readlink", &[&link]), host.run(options, rootfs, &["readlink", &link]).run().ok()]
}

#[test]
fn every_namespace_is_the_containers_own() {
    let host = Host::new();
    for name in NAMESPACES {
        let [hosts, containers] = namespace(&host, &["--net", "none"], name);
        assert_ne!(hosts, containers);
    }
    // Only requested namespaces are unshared, as the link itself shows.
    let [hosts, containers] = namespace(&host, &["--net", "none"], "user");
    assert_eq!(hosts, containers);
}

#[test]
fn net_host_shares_only_the_hosts_network() {
    let host = Host::new();
    for name in NAMESPACES {
        let [hosts, containers] = namespace(&host, &["--net", "host"], name);
        assert_eq!(hosts == containers, name == "net", "{name}");
    }
}

#[test]
fn payloads_parent_is_kontena_init_as_pid_1() {
    let host = Host::new();
    let out = sh(&host, &[], "echo $PPID; cat /proc/1/comm; echo /proc/[0-9]*");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["1", "kontena-init"], "{out}");
    assert_eq!(lines[2].split(' ').count(), 2, "PID 1 and the shell: {out}");
}

#[test]
fn payload_leads_a_session_of_its_own() {
    let host = Host::new();
    // proc_pid_stat(5): pid (comm) state ppid pgrp session
    let out = sh(&host, &[], "read -r line < /proc/$$/stat; echo $$ $line");
    let fields: Vec<&str> = out.split_whitespace().collect();
    assert_eq!([fields[5], fields[6]], [fields[0]; 2], "{out}");
}

#[test]
fn cgroup_looks_like_the_root() {
    let host = Host::new();
    let out = sh(&host, &[], "cat /proc/self/cgroup");
    assert!(out.lines().any(|line| line == "0::/"), "{out}");
    assert!(!out.contains("kontena"), "{out}");
}

#[test]
fn child_starts_in_leaf_cgroup() {
    let host = Host::new();
    let options = ["--net", "none", "--name", "traced"];
    let mut launcher = Traced::start(host.run(&options, host.demo(), &["/bin/true"]));
    let child = launcher.first_child();
    let seen = |file: &str| fs::read_to_string(format!("/proc/{child}/{file}")).unwrap();
    let leaf = format!("0::{}/traced", host.cgroup_parent_option());
    assert!(seen("cgroup").lines().any(|line| line == leaf), "{leaf} in {}", seen("cgroup"));
    // It has not run an instruction of its own: it still is the launcher's image, at its birth.
    assert_eq!(fs::read_link(format!("/proc/{child}/exe")).unwrap(), tests::launcher().canonicalize().unwrap());
    // The launcher itself is, and stays, elsewhere.
    let launchers = fs::read_to_string(format!("/proc/{}/cgroup", launcher.pid())).unwrap();
    assert!(!launchers.contains("traced"), "{launchers}");

    let _ = launcher.finish().code(0);
}

/// What podman mounts by default, without a network: target, type, options that must be there.
const MOUNTS: [(&str, &str, &str); 10] = [
    ("/", "overlay", "rw"),
    ("/dev", "tmpfs", "rw,nosuid,noexec"),
    ("/dev/pts", "devpts", "rw,nosuid,noexec"),
    ("/etc/hostname", "tmpfs", "rw,nosuid"),
    ("/etc/hosts", "tmpfs", "rw,nosuid"),
    ("/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec"),
    ("/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec"),
    ("/proc", "proc", "rw,nosuid,nodev,noexec"),
    ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
    ("/sys/fs/cgroup", "cgroup2", "ro,nosuid,nodev,noexec"),
];

/// podman's masked paths, with one that makes a device when a file of it is read, and read-only paths.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/class/zram-control",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];
const READ_ONLY: [&str; 6] = ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[test]
fn mounts_are_exactly_podmans() {
    let host = Host::new();
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let out = sh(&host, &[], "cat /proc/self/mountinfo");
    // proc_pid_mountinfo(5): id parent device root target options … - type source options
    let mounted: Vec<Vec<&str>> = out.lines().map(|line| line.split(' ').collect()).collect();
    let mut expected = Vec::new();
    for (target, kind, options) in MOUNTS.iter().filter(|(_, kind, _)| known.contains(kind)) {
        expected.push(*target);
        let mount = mounted.iter().find(|fields| fields[4] == *target);
        let mount = mount.unwrap_or_else(|| panic!("{target} is not mounted: {out}"));
        let is_there = |option| mount[5].split(',').any(|known| known == option);
        assert!(mount.contains(kind) && options.split(',').all(is_there), "{target}: {mount:?}");
        assert!(!mount[6].contains("shared") && !mount[6].contains("master"), "{target} propagates: {mount:?}");
    }
    // Whether a path is there is the same inside: the kernel is. /proc is of the host's own pid namespace.
    let seen = |path: &&&str| host.inside(|| Path::new(path).exists());
    expected.extend(MASKED.iter().chain(&READ_ONLY).filter(seen));
    expected.sort_unstable();
    let mut targets: Vec<&str> = mounted.iter().map(|fields| fields[4]).collect();
    targets.sort_unstable();
    assert_eq!(targets, expected);
    assert!(targets.contains(&"/proc/keys") && targets.contains(&"/proc/sys"), "every kernel has some: {targets:?}");
}

#[test]
fn masked_paths_are_empty() {
    let host = Host::new();
    let script = "for p; do
        [ -e $p ] || continue
        if [ -d $p ]; then echo $p: $(ls -A $p | wc -l); (: > $p/new); else echo $p: $(wc -c < $p); fi
        done; [ $(wc -c < /proc/uptime) -gt 0 ] && [ $(ls /sys/class | wc -l) -gt 0 ] && echo others: full";
    let paths = [&["sh", "-c", script, "sh"][..], &MASKED].concat();
    let outcome = host.run(&["--net", "none"], host.debian(), &paths).run().code(0);
    assert!(outcome.stdout.lines().count() > 3, "{outcome}");
    for line in outcome.stdout.lines().filter(|line| *line != "others: full") {
        assert!(line.ends_with(": 0"), "{line}");
    }
    assert!(outcome.stdout.ends_with("others: full\n"), "{outcome}");
    // The directories that stand for them cannot be filled either.
    let directories = outcome.stderr.lines().filter(|line| line.contains("Read-only file system")).count();
    assert!(directories > 0 && directories == outcome.stderr.lines().count(), "{outcome}");
}

#[test]
fn proc_sys_is_read_only() {
    let host = Host::new();
    let file = "/proc/sys/kernel/hostname";
    let outcome = host.sh(&[], &format!("echo changed > {file}")).run();
    assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{outcome}");
    assert_eq!(
        sh(&host, &["--name", "web"], &format!("cat {file}; echo 500 > /proc/self/oom_score_adj && echo written")),
        "web\nwritten\n"
    );
}

#[test]
fn every_read_only_path_of_proc_is() {
    let host = Host::new();
    let present = READ_ONLY.iter().filter(|path| Path::new(path).exists()).count();
    assert!(present >= 4, "every kernel has most of them");
    let script = format!("for p in {}; do [ -e $p ] && touch -c $p; done; true", READ_ONLY.join(" "));
    let outcome = host.sh(&[], &script).run().code(0);
    let refused = outcome.stderr.lines().filter(|line| line.contains("Read-only file system")).count();
    assert_eq!(refused, present, "{outcome}");
    assert_eq!(sh(&host, &[], "echo here > /proc/$$/comm; read -r name < /proc/$$/comm; echo $name"), "here\n");
}

#[test]
fn sys_is_read_only() {
    let host = Host::new();
    let outcome = host.sh(&[], "echo 1400 > /sys/class/net/lo/mtu").run();
    assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{outcome}");
    assert_eq!(sh(&host, &[], "cat /sys/class/net/lo/mtu; ls /sys/class/net"), "65536\nlo\n");
}

#[test]
fn terminals_can_be_opened() {
    let host = Host::new();
    for options in [&[][..], &["-u", "33"], &["--userns", "map=0:0:65536"]] {
        assert_eq!(host.intrude(options, &["terminal"]).run().ok(), "/dev/pts/0\n", "{options:?}");
    }
}

#[test]
fn cgroup_is_read_only() {
    let host = Host::new();
    for attack in
        ["mkdir /sys/fs/cgroup/new", "echo 0 > /sys/fs/cgroup/cgroup.procs", "echo 1 > /sys/fs/cgroup/cgroup.kill"]
    {
        let outcome = host.sh(&[], attack).run();
        assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{outcome}");
    }
    // Its root is the container's own leaf: two processes, and a file that the hierarchy's root does not have.
    let out = sh(&host, &[], "cat /sys/fs/cgroup/cgroup.procs; cat /sys/fs/cgroup/cgroup.type");
    assert_eq!(out.lines().next(), Some("1"), "{out}");
    assert_eq!(out.lines().last(), Some("domain"), "{out}");
}

#[test]
fn dev_has_exactly_the_default_devices() {
    let host = Host::new();
    // Name, type and mode, device numbers, owner.
    let out = sh(&host, &[], "cd /dev; for n in *; do echo $n $(stat -c '%A %Hr:%Lr %u:%g' $n) $(readlink $n); done");
    let expected = [
        "core lrwxrwxrwx 0:0 0:0 /proc/kcore",
        "fd lrwxrwxrwx 0:0 0:0 /proc/self/fd",
        "full crw-rw-rw- 1:7 0:0",
        "mqueue drwxrwxrwt 0:0 0:0",
        "null crw-rw-rw- 1:3 0:0",
        "ptmx lrwxrwxrwx 0:0 0:0 pts/ptmx",
        "pts drwxr-xr-x 0:0 0:0",
        "random crw-rw-rw- 1:8 0:0",
        "shm drwxrwxrwt 0:0 0:0",
        "stderr lrwxrwxrwx 0:0 0:0 /proc/self/fd/2",
        "stdin lrwxrwxrwx 0:0 0:0 /proc/self/fd/0",
        "stdout lrwxrwxrwx 0:0 0:0 /proc/self/fd/1",
        "tty crw-rw-rw- 5:0 0:0",
        "urandom crw-rw-rw- 1:9 0:0",
        "zero crw-rw-rw- 1:5 0:0",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn devices_work() {
    let host = Host::new();
    let script = "echo gone > /dev/null; head -c 3 /dev/zero | wc -c; head -c 16 /dev/urandom | wc -c; \
                  cat /dev/null | wc -c
        echo no > /dev/full || echo full; echo shm > /dev/shm/file && cat /dev/shm/file; (: > /dev/tty) || \
        echo no tty; ls /dev/pts";
    let outcome = host.sh(&[], script).run().code(0);
    assert_eq!(outcome.stdout, "3\n16\n0\nfull\nshm\nno tty\nptmx\n", "{outcome}");
}

#[test]
fn rootfs_is_writable_unless_read_only() {
    let host = Host::new();
    let rootfs = host.debian();
    assert_eq!(sh(&host, &[], "echo written > /file; cat /file"), "written\n");
    assert!(host.inside(|| rootfs.join("file").exists()));
    for attack in ["echo no > /other", "rm /file", "mkdir /etc/new", "chmod 777 /file"] {
        let outcome = host.sh(&["--read-only"], attack).run();
        assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{outcome}");
    }
    let twin = "echo written > /tmp/file; cat /tmp/file; echo shm > /dev/shm/x; cat /dev/shm/x; cat /file";
    assert_eq!(sh(&host, &["--read-only", "--tmpfs", "/tmp"], twin), "written\nshm\nwritten\n");
    assert!(!host.inside(|| rootfs.join("tmp/file").exists()), "a tmpfs leaves nothing");
}

#[test]
fn volume_is_a_directory_of_the_hosts() {
    let host = Host::new();
    let data = host.directory().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "of the host").unwrap();
    let volume = format!("{}:/var/www/html", data.display());
    assert_eq!(sh(&host, &["-v", &volume], "cd /var/www/html; cat file; echo back > answer"), "of the host");
    assert_eq!(fs::read_to_string(data.join("answer")).unwrap(), "back\n");
    // With --read-only too: it is not the root's.
    let _ = sh(&host, &["--read-only", "-v", &volume], "echo again > /var/www/html/answer");
    assert_eq!(fs::read_to_string(data.join("answer")).unwrap(), "again\n");
}

#[test]
fn volume_can_be_read_only() {
    let host = Host::new();
    let data = host.directory().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "of the host").unwrap();
    // Mounted below it: read-only as well.
    host.inside(|| {
        fs::create_dir(data.join("below")).unwrap();
        nix::mount::mount(
            Some("tmpfs"),
            &data.join("below"),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
    });
    let volume = format!("{}:/data:ro", data.display());
    for attack in ["echo no > /data/file", "echo no > /data/new", "echo no > /data/below/new"] {
        let outcome = host.sh(&["-v", &volume], attack).run();
        assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{outcome}");
    }
    assert_eq!(sh(&host, &["-v", &volume], "cat /data/file"), "of the host");
    assert_eq!(
        sh(&host, &["-v", volume.trim_end_matches(":ro")], "echo yes > /data/below/new; cat /data/below/new"),
        "yes\n"
    );
}

#[test]
fn volume_flags_are_applied() {
    let host = Host::new();
    let data = host.directory().join("data");
    fs::create_dir(&data).unwrap();
    let flags = |option: &str| {
        let volume = format!("{}:/data{option}", data.display());
        let out = sh(
            &host,
            &["-v", &volume],
            "while read -r line; do case $line in *' /data '*) echo $line;; esac; done < /proc/self/mountinfo",
        );
        out.split(' ').nth(5).unwrap().to_owned()
    };
    assert!(!flags("").contains("noexec"));
    let all = flags(":ro,nosuid,nodev,noexec");
    assert!(all.starts_with("ro,nosuid,nodev,noexec"), "{all}");
}

#[test]
fn volume_can_be_a_file() {
    let host = Host::new();
    let file = host.directory().join("file");
    fs::write(&file, "of the host").unwrap();
    let over = format!("{}:/etc/hostname", file.display());
    assert_eq!(sh(&host, &["-v", &over], "cat /etc/hostname"), "of the host");
    let new = format!("{}:/new/dir/file", file.display());
    assert_eq!(sh(&host, &["-v", &new], "cat /new/dir/file; echo back > /new/dir/file"), "of the host");
    assert_eq!(fs::read_to_string(&file).unwrap(), "back\n");
    let line = host.sh(&["-v", &format!("{}:/etc", file.display())], "true").run().refused(125);
    assert!(line.contains("/etc"), "a file on a directory: {line}");
}

#[test]
fn missing_volume_target_is_created() {
    let host = Host::new();
    let (data, rootfs) = (host.directory().join("data"), host.debian());
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "of the host").unwrap();
    let volume = format!("{}:/a/b//./c/", data.display());
    assert_eq!(sh(&host, &["-v", &volume], "cat /a/b/c/file; stat -c %a:%u /a /a/b"), "of the host755:0\n755:0\n");
    assert!(host.inside(|| rootfs.join("a/b/c").is_dir()));
}

#[test]
fn missing_volume_source_is_an_error() {
    let host = Host::new();
    let line = host.sh(&["-v", "/nosuch/directory:/data"], "true").run().refused(125);
    assert!(line.contains("/nosuch/directory"), "{line}");
    assert!(!Path::new("/nosuch").exists());
    for bad in ["tmp", ":/data", "/tmp:data", "/tmp:/", "/tmp:/a/../..", "/tmp:/data:rx", "/tmp:/data:ro:ro", ""] {
        let line = host.sh(&["-v", bad], "true").run().refused(125);
        assert!(line.contains(bad), "{line}");
    }
}

#[test]
fn volume_target_cannot_lead_out_of_the_rootfs() {
    let host = Host::new();
    let (canary, data, rootfs) = (host.directory().join("canary"), host.directory().join("data"), host.debian());
    for directory in [&canary, &data] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(data.join("file"), "of the host").unwrap();
    host.inside(|| {
        symlink(&canary, rootfs.join("absolute")).unwrap();
        symlink("../../../../../../../../tmp", rootfs.join("relative")).unwrap();
        symlink("/var/www", rootfs.join("within")).unwrap();
    });
    let name = host.directory().file_name().unwrap().to_str().unwrap();
    for target in ["/absolute/new", &format!("/relative/{name}/canary/new"), "/proc/self/root/proc/1/root/new"] {
        let outcome = host.sh(&["-v", &format!("{}:{target}", data.display())], "true").run();
        assert!([0, 125].contains(&outcome.code), "{outcome}");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "{target} made something on the host");
    }
    // A link inside is followed, inside.
    let volume = format!("{}:/within/data", data.display());
    assert_eq!(sh(&host, &["-v", &volume], "cat /var/www/data/file"), "of the host");
}

#[test]
fn tmpfs_has_the_requested_size_and_mode() {
    let host = Host::new();
    let look = "stat -c %a /scratch; while read -r line; do case $line in *' /scratch '*) echo $line;; esac; \
                done < /proc/self/mountinfo";
    let out = sh(&host, &["--tmpfs", "/scratch:size=64k,mode=1770"], look);
    assert!(out.starts_with("1770\n") && out.contains("size=64k") && out.contains("rw,nosuid,nodev,noexec"), "{out}");
    let out = sh(&host, &["--tmpfs", "/scratch:exec,ro"], look);
    assert!(out.starts_with("1777\n") && out.contains("ro,nosuid,nodev") && !out.contains("noexec"), "{out}");
    let outcome = host.sh(&["--tmpfs", "/scratch:size=64k"], "head -c 100000 /dev/zero > /scratch/file").run();
    assert!(outcome.code != 0 && outcome.stderr.contains("No space left"), "{outcome}");
    assert_eq!(
        sh(&host, &["--tmpfs", "/scratch:size=1m"], "head -c 100000 /dev/zero > /scratch/file; wc -c < /scratch/file"),
        "100000\n"
    );
    for bad in
        ["scratch", "/", "/scratch:size=", "/scratch:size=0", "/scratch:mode=9", "/scratch:huge=always", "/a/../b"]
    {
        let line = host.sh(&["--tmpfs", bad], "true").run().refused(125);
        assert!(line.contains(bad), "{line}");
    }
}

#[test]
fn hosts_mounts_are_invisible() {
    let host = Host::new();
    let secret = host.directory().join("secret");
    fs::write(&secret, "of the host").unwrap();
    let out = sh(&host, &[], &format!("cat {} || echo gone; echo /*", secret.display()));
    assert!(out.starts_with("gone\n"), "{out}");
}

#[test]
fn mounts_do_not_propagate() {
    let host = Host::new();
    let data = host.directory().join("data");
    fs::create_dir(&data).unwrap();
    host.inside(|| {
        // As systemd leaves it: everything shared.
        let shared = nix::mount::MsFlags::MS_SHARED | nix::mount::MsFlags::MS_REC;
        nix::mount::mount(None::<&str>, "/", None::<&str>, shared, None::<&str>).unwrap();
    });
    let before = host.says("cat", &["/proc/self/mountinfo"]);
    let (rootfs, machine) = host.machine_rootfs();
    let volume = format!("{}:/tmp", data.display());
    let machine = machine.each_ref().map(String::as_str);
    let options = [&["--net", "none", "--name", "web", "-v", &volume][..], &machine].concat();
    let running = host.run(&options, rootfs, &["sh", "-c", "echo ready; exec cat"]).input(b"").start();
    let mut container = Container::new(&host, "web", running);
    container.wait_for_output("ready");
    assert_eq!(host.says("cat", &["/proc/self/mountinfo"]), before);
    let _ = container.into_running().finish().code(0);
    assert_eq!(host.says("cat", &["/proc/self/mountinfo"]), before);
}
