//! The payload's privileges: capabilities, fds, and programs of the host out of its reach.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tests::{Container, Host, Outcome, init, launcher};

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP by their
/// numbers in capabilities(7): podman's eleven.
const DEFAULT: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31;
const CAP_KILL: u64 = 1 << 5;

/// A line of proc_pid_status(5), of hexadecimal digits.
#[track_caller]
fn bits(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    u64::from_str_radix(line.unwrap_or_else(|| panic!("no {name} in {status}")), 16).unwrap()
}

/// Runs a script on the machine's own programs.
fn machine_sh(host: &Host, options: &[&str], script: &str) -> Outcome {
    let (rootfs, volume) = host.machine_rootfs();
    let volume = volume.each_ref().map(String::as_str);
    let options = [&["--net", "none"][..], &volume, options].concat();
    host.run(&options, rootfs, &["sh", "-c", script]).run()
}

#[test]
fn capabilities_are_podmans_eleven() {
    let host = Host::new();
    assert_eq!(DEFAULT, 0x8004_05fb);
    let status = host.sh(&[], "cat /proc/self/status").run().ok();
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(bits(&status, set), DEFAULT, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(bits(&status, set), 0, "{set}");
    }
    assert_eq!(bits(&status, "NoNewPrivs"), 1);
}

#[test]
fn ordinary_user_in_the_container_has_no_capability() {
    let host = Host::new();
    for user in ["101", "www-data", "101:0"] {
        let status = host.sh(&["-u", user], "cat /proc/self/status").run().ok();
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(bits(&status, set), 0, "{set} of {user}");
        }
        assert_eq!(bits(&status, "CapBnd"), DEFAULT, "of {user}");
        assert_eq!(bits(&status, "NoNewPrivs"), 1, "of {user}");
    }
}

#[test]
fn capabilities_are_added_and_dropped_by_name() {
    let host = Host::new();
    let (net_raw, chown, all) = (1 << 13, 1, "ALL");
    // Of what kontena lacks itself, it gives nothing.
    let ours = bits(&fs::read_to_string("/proc/self/status").unwrap(), "CapPrm");
    let status = |options: &[&str]| host.sh(options, "cat /proc/self/status").run().ok();
    for (options, expected) in [
        (&["--cap-add", "NET_RAW"][..], DEFAULT | net_raw),
        (&["--cap-add", "cap_net_raw", "--cap-drop", "CAP_CHOWN"], (DEFAULT | net_raw) & !chown),
        (&["--cap-drop", all], 0),
        (&["--cap-drop", all, "--cap-add", "CHOWN"], chown),
        (&["--cap-add", all, "--cap-drop", "NET_RAW"], ((1 << 41) - 1) & !net_raw),
    ] {
        let status = status(options);
        for set in ["CapBnd", "CapPrm", "CapEff"] {
            assert_eq!(bits(&status, set), expected & ours, "{set} with {options:?}");
        }
        assert_eq!(bits(&status, "CapInh") | bits(&status, "CapAmb"), 0, "{options:?}");
    }
    // Another user has what was named for it, across execve(2), which takes the inheritable set; and no more.
    let status = status(&["-u", "33", "--cap-add", "NET_RAW"]);
    for set in ["CapPrm", "CapEff", "CapAmb", "CapInh"] {
        assert_eq!(bits(&status, set), net_raw, "{set}");
    }
    assert_eq!(bits(&status, "CapBnd"), DEFAULT | net_raw);
}

#[test]
fn process_gets_the_requested_attributes() {
    let host = Host::new();
    let options = [
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "--umask",
        "027",
        "--oom-score-adj",
        "500",
        "--group-add",
        "7",
        "--group-add",
        "video",
        "-u",
        "33",
    ];
    let script = "ulimit -n; ulimit -Hn; ulimit -c; umask; cat /proc/self/oom_score_adj; id -G";
    assert_eq!(host.sh(&options, script).run().ok(), "100\n200\n0\n0027\n500\n33 7 44\n");
    // Podman's default, so that root can ping.
    let ping = "cat /proc/sys/net/ipv4/ping_group_range";
    assert_eq!(host.sh(&[], ping).run().ok(), "0\t0\n");
    assert_eq!(host.sh(&["--sysctl", "net.ipv4.ping_group_range=0 7"], ping).run().ok(), "0\t7\n");
    // docker's default, so that every user can serve port 80; the host keeps its own.
    let first_port = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    for (net, first) in [("none", "0\n"), ("bridge", "0\n"), ("host", "1024\n")] {
        let options = ["--net", net, "-u", "33"];
        assert_eq!(host.run(&options, host.debian(), &["sh", "-c", first_port]).run().ok(), first, "{net}");
    }
    let option = ["--sysctl", "net/ipv4/ip_unprivileged_port_start=80"];
    assert_eq!(host.sh(&option, first_port).run().ok(), "80\n");
    let bind = "socket(S, AF_INET, SOCK_STREAM, 0) && bind(S, sockaddr_in(80, INADDR_ANY)) or die $!";
    let _ = host.sh(&["-u", "33"], &format!("perl -MSocket -e '{bind}'")).run().ok();
    let options = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shmmax=12345"];
    let script =
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; echo 0 > /proc/sys/kernel/shmmax || echo no";
    assert_eq!(host.sh(&options, script).run().ok(), "1\n12345\nno\n");
    assert_ne!(host.says("cat", &["/proc/sys/kernel/shmmax"]), "12345\n", "the host's own");
    // A program with a file capability that the container lacks, CAP_NET_ADMIN; setxattr(2), vfs_cap_data.
    // In the root: a volume from the host's /tmp may be nosuid.
    let root = host.debian();
    let number = if cfg!(target_arch = "x86_64") { 188 } else { 5 };
    let values =
        r#"($p, $n, $v) = ("/usr/bin/capable", "security.capability", pack("V5", 0x02000001, 1 << 12, 0, 0, 0))"#;
    let set = format!("{values}; syscall({number}, $p, $n, $v, 20, 0) == 0 or die $!");
    let script = format!("cp /bin/true /usr/bin/capable; perl -e '{set}'");
    let _ = host.run(&[], &root, &["sh", "-c", &script]).run().ok();
    let line = host.run(&[], &root, &["/usr/bin/capable"]).run().refused(126);
    assert!(line.contains("EPERM") && line.contains("NET_ADMIN: use --cap-add NET_ADMIN"), "{line}");
    let _ = host.run(&["--cap-add", "NET_ADMIN"], &root, &["/usr/bin/capable"]).run().ok();
    let file = host.directory().join("env");
    fs::write(&file, "# comment\n\nA=1\nB=two words\n  C=3\nHOME\n").unwrap();
    let program = host.sh(&["--env-file", file.to_str().unwrap(), "-e", "A=0"], "echo $A-$B-$C-$HOME");
    assert_eq!(program.env("HOME", "/home/of/the/caller").run().ok(), "0-two words-3-/home/of/the/caller\n");
}

#[test]
fn privileged_container_has_all_that_kontena_has() {
    let host = Host::new();
    let ours = bits(&fs::read_to_string("/proc/self/status").unwrap(), "CapPrm");
    let script = "cat /proc/self/status; cut -d' ' -f5,6 /proc/self/mountinfo; \
                  mknod /node c 1 11 && : < /node && : < /dev/kmsg && echo opened";
    let out = host.sh(&["--privileged"], script).run().ok();
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(bits(&out, set), ours, "{set}");
    }
    assert_eq!([bits(&out, "NoNewPrivs"), bits(&out, "Seccomp")], [0, 0]);
    assert!(out.ends_with("opened\n"), "{out}");
    for target in ["/proc", "/sys", "/sys/fs/cgroup"] {
        assert!(out.lines().any(|line| line.starts_with(&format!("{target} rw,"))), "{target} in {out}");
    }
    assert!(!out.contains("\n/proc/"), "{out}");
    // Every device of the host's /dev is there, and nothing of the container's own is covered.
    let list = "cd /dev && find . -xdev \\( -type c -o -type b \\) ! -name ptmx ! -name console | sort";
    assert_eq!(host.sh(&["--privileged"], list).run().ok(), host.says("sh", &["-c", list]));
    // An option behind it takes something back.
    let options = ["--privileged", "--cap-drop", "NET_RAW", "--security-opt", "no-new-privileges"];
    let status = host.sh(&options, "cat /proc/self/status").run().ok();
    assert_eq!((bits(&status, "CapEff"), bits(&status, "NoNewPrivs")), (ours & !(1 << 13), 1));
    // And without it.
    let _ = host.sh(&[], ": < /dev/kmsg").run().code(2);
}

#[test]
fn masks_are_removed_by_an_option() {
    let host = Host::new();
    let below = "cut -d' ' -f5,6 /proc/self/mountinfo | grep -E '^/(proc|sys)/' | grep -v ^/sys/fs/cgroup; true";
    assert!(host.sh(&[], below).run().ok().contains("/proc/sys ro"));
    for option in ["unmask=ALL", "systempaths=unconfined"] {
        assert_eq!(host.sh(&["--security-opt", option], below).run().ok(), "", "{option}");
        // Nothing else is given away.
        let out =
            host.sh(&["--security-opt", option], "cat /proc/self/status; mkdir /sys/fs/cgroup/x || echo no").run();
        assert!(out.stdout.ends_with("no\n"), "{out}");
        assert_eq!((bits(&out.stdout, "CapEff"), bits(&out.stdout, "Seccomp")), (DEFAULT, 2));
    }
}

#[test]
fn jobs_write_to_the_log_through_the_commands_stdout() {
    let host = Host::new();
    // As a job of cron's, whose own output is a mail's. PID 1 is kontena-init, which cannot be looked into.
    let script = "(exec > /dev/null 2>&1; echo job > /proc/2/fd/1; echo job > /proc/1/fd/1); cat /proc/2/comm";
    let out = host.sh(&[], script).run().ok();
    assert_eq!(out, "job\nsh\n");
}

#[test]
fn pid_1_keeps_only_the_capability_to_signal() {
    let host = Host::new();
    let running = host.sh(&["--name", "web", "-u", "33"], "echo ready; exec sleep 600").start();
    let mut container = Container::new(&host, "web", running);
    container.wait_for_output("ready");
    let init = container.init();
    // It gives them up when the payload has been started, which does not wait for it.
    tests::wait_until("PID 1 to give up its capabilities", || {
        let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
        bits(&status, "CapEff") == CAP_KILL && bits(&status, "CapPrm") == CAP_KILL && bits(&status, "NoNewPrivs") == 1
    });
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    assert_eq!(bits(&status, "CapInh") | bits(&status, "CapAmb"), 0);
    // It is needed when the payload is another user's.
    container.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = container.into_running().finish().code(143);
}

#[test]
fn init_holds_nothing_of_the_host_except_stdio() {
    let host = Host::new();
    let running = host.sh(&["--name", "web"], "echo ready; exec sleep 600").start();
    let mut container = Container::new(&host, "web", running);
    container.wait_for_output("ready");
    let init = container.init();
    tests::wait_until("the fds to be closed", || fs::read_dir(format!("/proc/{init}/fd")).unwrap().count() == 3);
    let maps = fs::read_to_string(format!("/proc/{init}/maps")).unwrap();
    assert!(maps.contains("memfd:kontena-init") && !maps.contains(".so"), "{maps}");
    assert_eq!(fs::read_to_string(format!("/proc/{init}/environ")).unwrap(), "");
}

#[test]
fn root_may_what_its_capabilities_allow() {
    let host = Host::new();
    let script = "set -e; touch /tmp/f; chown 33:44 /tmp/f; chmod 4755 /tmp/f; stat -c '%u %g %a' /tmp/f
        mkfifo /tmp/fifo; chmod 000 /tmp/f; cat /tmp/f; chroot / true; echo all";
    assert_eq!(host.sh(&[], script).run().ok(), "33 44 4755\nall\n");
}

#[test]
fn device_nodes_cannot_be_made() {
    let host = Host::new();
    for (kind, numbers) in [("b", "254 0"), ("c", "1 1"), ("c", "1 3")] {
        let outcome = host.sh(&[], &format!("mknod /tmp/device {kind} {numbers}")).run();
        assert!(outcome.code != 0 && outcome.stderr.contains("Operation not permitted"), "{outcome}");
    }
    assert_eq!(host.sh(&[], "mknod /tmp/fifo p && stat -c %F /tmp/fifo").run().ok(), "fifo\n");
}

#[test]
fn nothing_can_be_mounted() {
    let host = Host::new();
    for attack in [
        "mount -t tmpfs none /tmp",
        "mount -t proc none /tmp",
        "mount --bind /usr /tmp",
        "mount -o remount,rw /usr",
        "mount -o remount,rw /sys",
        "mount -o bind,remount,rw /proc/sys",
        "umount /proc/sys",
        "umount /usr",
        "unshare -m true",
        // CVE-2022-0492
        "mount -t cgroup -o memory none /tmp",
        "mount -t cgroup2 none /tmp",
    ] {
        let outcome = machine_sh(&host, &[], attack);
        let denied = ["permission denied", "must be superuser", "Operation not permitted"];
        assert!(outcome.code != 0 && denied.iter().any(|words| outcome.stderr.contains(words)), "{outcome}");
    }
    assert_eq!(machine_sh(&host, &["--tmpfs", "/tmp:size=4k"], "stat -f -c %T /tmp").ok(), "tmpfs\n");
}

#[test]
fn system_cannot_be_changed() {
    let host = Host::new();
    for attack in [
        "ip link set lo down",
        "nft add table ip x",
        "hostname changed",
        "date -s 2001-01-01",
        "nsenter -t 1 -n true",
        "strace -p 1",
        "dd if=/dev/mem of=/dev/null count=1",
        "cat /dev/kmsg",
        "reboot -f",
        "chroot /proc/1/root true",
    ] {
        let outcome = machine_sh(&host, &[], &format!("PATH=$PATH:/usr/sbin:/sbin; {attack}"));
        assert!(outcome.code != 0, "{outcome}");
    }
    assert_eq!(machine_sh(&host, &[], "ip -o link | wc -l; uname -s").ok(), "1\nLinux\n");
}

#[test]
fn setuid_program_gains_nothing() {
    let host = Host::new();
    let rootfs = host.debian();
    let program = host.inside(|| {
        let program = rootfs.join("usr/bin/myid");
        fs::copy(rootfs.join("usr/bin/id"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
        fs::metadata(program).unwrap().mode()
    });
    assert_eq!(program & 0o7777, 0o6755);
    assert_eq!(host.sh(&["-u", "33:33"], "myid -u; myid -g").run().ok(), "33\n33\n");
    // On the pretend host, where it is not forbidden, it does.
    let myid = rootfs.join("usr/bin/myid");
    let ids = host.program("setpriv").args(["--reuid=33", "--clear-groups"]).arg(myid).arg("-u").run().ok();
    assert_eq!(ids, "0\n");
}

#[test]
fn init_of_the_container_cannot_be_inspected() {
    let host = Host::new();
    for attack in ["exe", "environ", "maps", "mem", "fd/0", "cwd", "root", "auxv"] {
        let outcome = host.sh(&[], &format!("cat /proc/1/{attack} > /tmp/x || readlink /proc/1/{attack}")).run();
        assert!(outcome.code != 0 && outcome.stderr.contains("Permission denied"), "{outcome}");
    }
    let twin = "for f in exe environ maps fd/0 cwd root auxv; do [ -r /proc/self/$f ] || echo $f; done; \
                cat /proc/1/status | head -c 5";
    assert_eq!(host.sh(&[], twin).run().ok(), "Name:");
}

#[test]
fn programs_of_the_host_cannot_be_overwritten() {
    // CVE-2019-5736
    let host = Host::new();
    let rootfs = host.debian();
    let content = || [launcher(), init()].map(|file| fs::read(file).unwrap());
    let before = content();
    host.inside(|| {
        // Executed, it is the init of the host's that the kernel takes for the interpreter.
        for (name, text) in [("evil", "#!/proc/self/exe --nosuch\n"), ("good", "#!/bin/sh\necho good\n")] {
            fs::write(rootfs.join(name), text).unwrap();
            fs::set_permissions(rootfs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    });
    let outcome = host.run(&["--net", "none"], &rootfs, &["/evil"]).run().code(125);
    assert!(outcome.stderr.contains("usage: kontena-init"), "what is seen is init: {outcome}");
    assert_eq!(host.run(&["--net", "none"], &rootfs, &["/good"]).run().ok(), "good\n");

    for open in ["echo x > /proc/1/exe", "echo x >> /proc/1/exe", "truncate -s 0 /proc/1/exe", "cp /bin/sh /proc/1/exe"]
    {
        let outcome = host.sh(&[], open).run();
        assert!(outcome.code != 0, "{outcome}");
    }
    // From the host it can be opened, and even so not be written: the seals hold against root too.
    let running = host.sh(&["--name", "web"], "echo ready; exec sleep 600").start();
    let mut container = Container::new(&host, "web", running);
    container.wait_for_output("ready");
    let program = format!("/proc/{}/exe", container.init());
    assert!(fs::read(&program).unwrap() == before[1]);
    assert!(fs::OpenOptions::new().write(true).open(&program).is_err());
    // Nor once it runs no more.
    let seals = fcntl(fs::File::open(&program).unwrap(), FcntlArg::F_GET_SEALS).unwrap();
    assert!(SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL), "{seals:x}");
    drop(container);
    assert!(content() == before, "a program of the host was changed");
}

#[test]
fn payload_has_only_the_fds_of_stdio() {
    let host = Host::new();
    // The last one is the directory that ls reads.
    for options in [&["--net", "none"][..], &["--net", "host"], &["-p", "8080:80"], &["--net", "none", "-u", "33"]] {
        let listed = host.run(options, host.debian(), &["ls", "/proc/self/fd"]).run().ok();
        assert_eq!(listed, "0\n1\n2\n3\n", "{options:?}");
    }
}

#[test]
fn fds_of_the_caller_are_not_visible() {
    let host = Host::new();
    // bash, since sh may not know numbers of two digits.
    let mut opened = String::new();
    for fd in 3..=20 {
        opened += &format!("exec {fd}</;");
    }
    let bash =
        |program: &[&str]| host.program("bash").args(["-c", &format!("{opened} exec \"$@\""), "bash"]).args(program);
    let listed = bash(&["ls", "/proc/self/fd"]).run().ok();
    assert!(listed.lines().count() >= 21, "the caller has them: {listed}");

    let program = bash(&[launcher().to_str().unwrap(), "--root", host.state().to_str().unwrap()]);
    let program =
        program.args(["run", "--net", "none", "--name", "web", "--cgroup-parent", &host.cgroup_parent_option()]);
    let script = "ls /proc/self/fd; echo ready; exec sleep 600";
    let running = program.arg(host.debian()).args(["sh", "-c", script]).start();
    let mut container = Container::new(&host, "web", running);
    container.wait_for_output("ready");
    assert_eq!(container.stdout(), "0\n1\n2\n3\nready\n", "stdio, and the directory that ls reads");
    for pid in tests::leaf_processes(&container.leaf()) {
        tests::wait_until("no fd but stdio", || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() == 3);
    }
}

#[test]
fn working_directory_cannot_be_an_fd_of_the_hosts() {
    // CVE-2024-21626
    let host = Host::new();
    let bash = |script: &str, directory: &str| {
        let program = host.program("bash").args(["-c", script, "bash"]).arg(launcher()).arg("--root").arg(host.state());
        let program =
            program.args(["run", "--net", "none", "-w", directory, "--cgroup-parent", &host.cgroup_parent_option()]);
        program.arg(host.debian()).args(["sh", "-c", "pwd; ls"]).run()
    };
    for fd in 3..=20 {
        for directory in [format!("/proc/self/fd/{fd}"), format!("/proc/self/fd/{fd}/../..")] {
            let line = bash("exec \"$@\"", &directory).refused(125);
            assert!(line.contains(&directory), "{line}");
            let _ = bash(&format!("exec {fd}</; exec \"$@\""), &directory).refused(125);
        }
    }
    // The caller's own directories lead nowhere either.
    for directory in ["/proc/1/cwd", "/proc/1/root"] {
        let outcome = bash("cd /; exec \"$@\"", directory);
        assert!(outcome.code == 125 || outcome.stdout.starts_with("/\n"), "{outcome}");
    }
    assert!(bash("exec 3</; exec \"$@\"", "/etc/nginx").ok().starts_with("/etc/nginx\n"));
}

#[test]
fn processes_of_the_host_are_not_visible() {
    let host = Host::new();
    assert_eq!(host.sh(&[], "echo /proc/[0-9]*").run().ok(), "/proc/1 /proc/2\n");
    let out = host.sh(&[], "kill -0 2 && kill -0 3 || echo none").run();
    assert!(out.stdout.contains("none"), "{out}");
}
