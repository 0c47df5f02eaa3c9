//! Mounts on request: volumes, tmpfs, devices, files of /etc.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use tests::Host;

/// A directory with a file in it, and its path.
fn data(host: &Host) -> String {
    let path = host.directory().join("data");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("file"), "content\n").unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn volume_is_the_hosts_directory_or_file() {
    let host = Host::new();
    let data = data(&host);
    let directory = format!("{data}:/data");
    assert_eq!(host.sh(&["-v", &directory], "cat /data/file; echo new > /data/new").run().ok(), "content\n");
    assert_eq!(fs::read_to_string(format!("{data}/new")).unwrap(), "new\n");
    let file = format!("{data}/file:/etc/one/of/these:ro");
    let out = host.sh(&["-v", &file], "cat /etc/one/of/these; echo x > /etc/one/of/these || echo refused").run().ok();
    assert_eq!(out, "content\nrefused\n");
    // A directory on a file, and a file on a directory.
    for volume in [format!("{data}:/etc/passwd"), format!("{data}/file:/etc")] {
        let line = host.sh(&["-v", &volume], "true").run().refused(125);
        assert!(line.contains("only a directory can cover a directory"), "{line}");
    }
}

#[test]
fn options_of_a_volume_are_applied() {
    let host = Host::new();
    // Where the pretend host's own mounts let setuid programs be what they are.
    let data = host.debian().join("data");
    host.inside(|| {
        fs::create_dir(&data).unwrap();
        fs::write(data.join("file"), "content\n").unwrap();
        fs::copy(host.debian().join("usr/bin/id"), data.join("id")).unwrap();
        fs::set_permissions(data.join("id"), fs::Permissions::from_mode(0o4755)).unwrap();
    });
    let data = data.display();
    let sh = |options: &str, script: &str| {
        let volume = format!("{data}:/data:{options}");
        host.sh(&["-v", &volume], script).run()
    };
    assert!(sh("ro", "echo x > /data/file").stderr.contains("Read-only file system"));
    assert!(sh("noexec", "/data/id").stderr.contains("Permission denied"));
    assert_eq!(sh("rw", "/data/id -u").ok(), "0\n");
    for (given, seen) in [("nosuid", "nosuid"), ("nodev", "nodev"), ("ro,noexec", "ro,noexec")] {
        let out = sh(given, "grep ' /data ' /proc/self/mountinfo").ok();
        let options: Vec<&str> = out.split(' ').nth(5).unwrap().split(',').collect();
        assert!(seen.split(',').all(|option| options.contains(&option)), "{given}: {out}");
    }
    // nosuid holds where no_new_privs does not: the file's owner is root.
    let volume = |options: &str| format!("{data}:/data:{options}");
    for (options, uid) in [("nosuid", "33\n"), ("rw", "0\n")] {
        let volume = volume(options);
        let options = ["--security-opt", "no-new-privileges=false", "-u", "33", "-v", &volume];
        assert_eq!(host.sh(&options, "/data/id -u").run().ok(), uid, "{volume}");
    }
}

#[test]
fn volume_follows_the_hosts_mounts_only_with_rslave() {
    let host = Host::new();
    let data = data(&host);
    // The pretend host's own mounts are private; this one is shared, as systemd makes all of them.
    let mount = |what: &[&str]| _ = host.program("mount").args(what).run().ok();
    mount(&["--bind", &data, &data]);
    mount(&["--make-shared", &data]);
    fs::create_dir(format!("{data}/later")).unwrap();
    // Each alone, and both in one container.
    let targets = [("rslave", "/slave"), ("rprivate", "/private")];
    for (round, volumes) in [&targets[..1], &targets[1..], &targets[..]].into_iter().enumerate() {
        let fifo = host.directory().join(format!("fifo-{round}"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let given = volumes.iter().map(|(option, target)| format!("{data}:{target}:{option}"));
        let given: Vec<String> = given.chain([format!("{}:/fifo", fifo.display())]).collect();
        let options: Vec<&str> = given.iter().flat_map(|volume| ["-v", volume]).collect();
        let script = "echo ready; read line < /fifo; for dir in /slave /private; do
            [ -e $dir/later/mounted ] && echo $dir sees it; done; true";
        let mut running = host.sh(&options, script).start();
        running.wait_for_output("ready");
        mount(&["-t", "tmpfs", "none", &format!("{data}/later")]);
        host.inside(|| fs::write(format!("{data}/later/mounted"), "")).unwrap();
        fs::write(&fifo, "go\n").unwrap();
        let expected = if round == 1 { "ready\n" } else { "ready\n/slave sees it\n" };
        assert_eq!(running.finish().ok(), expected, "{volumes:?}");
        let _ = host.program("umount").arg(format!("{data}/later")).run().ok();
    }
    // And nothing that the container does is seen here: it cannot mount, but with the capability to.
    let volume = format!("{data}:/data:rslave");
    let options = ["--cap-add", "SYS_ADMIN", "-v", &volume];
    let (rootfs, usr) = host.machine_rootfs();
    let options = [&["--net", "none"][..], &usr.each_ref().map(String::as_str), &options].concat();
    let _ = host.run(&options, rootfs, &["mount", "-t", "tmpfs", "none", "/data/later"]).run().ok();
    assert!(!host.says("cat", &["/proc/self/mountinfo"]).contains("/data/later"));
}

#[test]
fn volume_is_given_to_the_containers_user() {
    let host = Host::new();
    let data = data(&host);
    let (outside, nested) = (host.directory().join("outside"), format!("{data}/nested"));
    fs::write(&outside, "").unwrap();
    fs::create_dir_all(format!("{data}/a/b")).unwrap();
    fs::create_dir(&nested).unwrap();
    symlink(&outside, format!("{data}/a/link")).unwrap();
    let of_host = host.directory().join("of-host");
    fs::create_dir(&of_host).unwrap();
    let _ = host.program("mount").arg("--bind").arg(&of_host).arg(&nested).run().ok();
    let owner = |path: &str| {
        let found = host.inside(|| fs::symlink_metadata(format!("{data}/{path}")).unwrap());
        (found.uid(), found.gid())
    };
    let volume = format!("{data}:/data:U");
    let run = |options: &[&str], script: &str| host.sh(&[&["-v", &volume], options].concat(), script).run();
    let out = run(&["-u", "1000:1001"], "touch /data/a/b/new && stat -c %u:%g /data/a/link /data/file").ok();
    assert_eq!(out, "1000:1001\n1000:1001\n");
    for path in ["", "a", "a/b", "a/b/new", "a/link", "file"] {
        assert_eq!(owner(path), (1000, 1001), "{path}");
    }
    // Neither what a link leads to, nor what is mounted there, be it of the same file system.
    assert_eq!((fs::metadata(&outside).unwrap().uid(), owner("nested")), (0, (0, 0)));
    // Only the files of the container say which user a name stands for, and the launcher does not read those.
    for user in ["nobody", "1000", "4294967295:0"] {
        let line = run(&["-u", user], "true").refused(125);
        assert!(line.contains("/data: U") && line.contains("UID:GID"), "{line}");
    }
    assert_eq!(owner("a"), (1000, 1001));
    // A file, and read-only for the container.
    let volume = format!("{data}/file:/file:ro,U");
    assert_eq!(host.sh(&["-v", &volume], "stat -c %u /file; touch /file || echo refused").run().ok(), "0\nrefused\n");
}

#[test]
fn stop_ends_a_start_that_gives_a_volume_away() {
    let host = Host::new();
    let data = data(&host);
    for number in 0..20 {
        fs::write(format!("{data}/{number}"), "").unwrap();
    }
    let options = ["--name", "web", "-u", "1000:1001", "-v", &format!("{data}:/data:U")];
    let mut launcher = tests::Traced::start(host.sh(&options, "true"));
    let mut given = 0;
    while let Some((number, _)) = launcher.next_call() {
        if number as i64 == nix::libc::SYS_fchownat {
            given += 1;
            // As kontena stop asks.
            fs::set_permissions(host.state().join("web"), fs::Permissions::from_mode(0o1700)).unwrap();
        }
    }
    let outcome = launcher.finish().code(125);
    assert!(outcome.stderr.contains("/data: U: stopped before all files had their owner"), "{outcome}");
    assert!(given < 3, "{given} files");
}

#[test]
fn mount_option_equals_volume_and_tmpfs() {
    let host = Host::new();
    let data = data(&host);
    let bind = format!("type=bind,source={data},target=/data,readonly");
    assert_eq!(host.sh(&["--mount", &bind], "cat /data/file; touch /data/x || echo no").run().ok(), "content\nno\n");
    let bind = format!("type=bind,src={data},dst=/data,readonly=false,bind-propagation=rslave");
    assert_eq!(host.sh(&["--mount", &bind], "touch /data/x && echo yes").run().ok(), "yes\n");
    let tmpfs = "type=tmpfs,target=/scratch,tmpfs-size=64k,tmpfs-mode=700";
    let out = host.sh(&["--mount", tmpfs], "stat -c '%a' /scratch; df -k /scratch | tail -1").run().ok();
    assert!(out.starts_with("700\n") && out.contains(" 64 "), "{out}");
    let script = "stat -c '%u %g' /scratch; df -i /scratch | tail -1; mount | grep /scratch";
    let out = host.sh(&["--tmpfs", "/scratch:uid=7,gid=8,nr_inodes=99,size=10%"], script).run().ok();
    assert!(out.starts_with("7 8\n") && out.contains(" 99 ") && out.contains("size="), "{out}");
}

#[test]
fn shm_has_the_requested_size() {
    let host = Host::new();
    let size = |options: &[&str]| {
        let out = host.sh(options, "df -k /dev/shm | tail -1").run().ok();
        out.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(size(&[]), "65536");
    assert_eq!(size(&["--shm-size", "1m"]), "1024");
}

#[test]
fn only_requested_devices_can_be_used() {
    let host = Host::new();
    // /dev/mem's cousins are harmless; the pretend host's own view of the machine's devices is the machine's.
    let write = "echo x > /dev/given";
    let read = "head -c 1 /dev/given | wc -c";
    let sh = |device: &str, script: &str| host.sh(&["--device", device], script).run();
    assert_eq!(sh("/dev/zero:/dev/given:rw", read).ok(), "1\n");
    // 1:12 is oldmem, which no kernel has any more: what is not there says ENXIO, what is not allowed EPERM.
    let node = host.directory().join("oldmem");
    let _ = host.program("mknod").arg(&node).args(["c", "1", "12"]).run().ok();
    for (access, read_says, write_says) in [
        ("r", "No such device", "Operation not permitted"),
        ("w", "Operation not permitted", "No such device"),
        ("rw", "No such device", "No such device"),
        ("m", "Operation not permitted", "Operation not permitted"),
    ] {
        let device = format!("{}:/dev/given:{access}", node.display());
        let outcome = sh(&device, "head -c 1 /dev/given");
        assert!(outcome.stderr.contains(read_says), "{access}: {outcome}");
        let outcome = sh(&device, write);
        assert!(outcome.stderr.contains(write_says) || outcome.stderr.contains("nonexistent"), "{access}: {outcome}");
    }
    // A node of a hostile rootfs, which is nodev and, where that may make nodes, confined; and one that the container
    // makes.
    let rootfs = host.debian();
    let _ = host.program("mknod").arg(rootfs.join("tmp/mem")).args(["c", "1", "1"]).run().ok();
    let outcome = host.sh(&[], "head -c 1 /tmp/mem").run();
    assert!(outcome.stderr.contains("Permission denied"), "{outcome}");
    let outcome = host.sh(&["--cap-add", "MKNOD"], "head -c 1 /tmp/mem").run();
    assert!(outcome.stderr.contains("Operation not permitted"), "{outcome}");
    let script = "mknod /tmp/null c 1 3 && echo > /tmp/null && mknod /tmp/mine c 1 1 && head -c 1 /tmp/mine";
    let outcome = host.sh(&["--cap-add", "MKNOD", "--cap-add", "SYS_RAWIO"], script).run();
    assert!(outcome.code != 0 && outcome.stderr.contains("'/tmp/mine'"), "{outcome}");
    assert!(outcome.stderr.contains("Operation not permitted"), "{outcome}");
}

#[test]
fn device_has_the_hosts_owner_and_mode_but_is_a_copy() {
    let host = Host::new();
    let node = host.directory().join("node");
    let _ = host.program("mknod").args(["-m", "640"]).arg(&node).args(["c", "1", "3"]).run().ok();
    let _ = host.program("chown").arg("7:8").arg(&node).run().ok();
    let device = format!("{}:/dev/deep/node", node.display());
    let script = "stat -c '%a %u:%g %t:%T %F' /dev/deep/node; chmod 777 /dev/deep/node; chown 0 /dev/deep/node";
    assert_eq!(host.sh(&["--device", &device], script).run().ok(), "640 7:8 1:3 character special file\n");
    assert_eq!(fs::metadata(&node).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn resolver_files_depend_on_the_network() {
    let host = Host::new();
    // A host's /etc that is this test's own.
    let etc = host.directory().join("own-etc");
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(etc.join("resolv.conf"), "search lan\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n").unwrap();
    let script = "mount --bind \"$0\" /etc && exec \"$@\"";
    let run = |net: &[&str]| {
        let program = host.program("unshare").args(["-m", "sh", "-c", script]).arg(&etc).arg(tests::launcher());
        let program =
            program.arg("--root").arg(host.state()).args(["run", "--cgroup-parent", &host.cgroup_parent_option()]);
        let program = program.args(["--hostname", "web"]).args(net).arg(host.debian());
        program
            .args([
                "sh",
                "-c",
                "cat /etc/hostname; cat /etc/resolv.conf 2> /dev/null; cat /etc/hosts; \
                 hostname -i 2> /dev/null || true",
            ])
            .run()
            .ok()
    };
    let out = run(&["--net", "none"]);
    assert!(!out.contains("nameserver") && out.contains("127.0.0.1\tlocalhost\n"), "{out}");
    assert!(out.contains("127.0.0.1\tweb\n"), "{out}");
    let out = run(&["--net", "bridge"]);
    assert!(out.starts_with("web\nsearch lan\nnameserver 192.0.2.53\n127.0.0.1\tlocalhost\n"), "{out}");
    assert!(out.contains("\n10.77.") && out.contains("\tweb\n"), "{out}");
    // The options replace the host's values.
    let out = run(&["--net", "bridge", "--dns", "192.0.2.1", "--dns", "2001:db8::1", "--dns-search", "example.org"]);
    assert!(out.starts_with("web\nsearch example.org\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n127."), "{out}");
    let out = run(&["--net", "bridge", "--dns-search", "a.example", "--dns-search", "b.example"]);
    assert!(out.starts_with("web\nnameserver 192.0.2.53\nsearch a.example b.example\n"), "{out}");
    let out = run(&["--net", "bridge", "--add-host", "db:192.0.2.7", "--add-host", "host.internal:host-gateway"]);
    assert!(out.contains("192.0.2.7\tdb\n10.77.0.1\thost.internal\n"), "{out}");
    let out = run(&["--net", "none", "--dns", "192.0.2.1"]);
    assert!(out.starts_with("web\nsearch lan\nnameserver 192.0.2.1\n127."), "{out}");
    let out = run(&["--net", "host"]);
    assert!(out.contains("nameserver 127.0.0.53\nnameserver 192.0.2.53\n"), "{out}");
    // systemd-resolved alone, which nobody runs here: what is left are the domains and options. Latin-1 is no text.
    fs::write(etc.join("resolv.conf"), b"# caf\xe9\0\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n").unwrap();
    let out = run(&["--net", "bridge"]);
    assert!(out.contains("\noptions edns0\nsearch lan\n127.") && !out.contains("nameserver"), "{out}");
    let out = run(&["--net", "bridge", "--dns", "192.0.2.1"]);
    assert!(out.contains("\noptions edns0\nsearch lan\nnameserver 192.0.2.1\n"), "{out}");
    // The rootfs's own are not touched, nor can the container's be followed out of it.
    let rootfs = host.debian();
    let (hosts, canary) = (rootfs.join("etc/hosts"), host.directory().join("canary"));
    fs::write(&canary, "sings").unwrap();
    host.inside(|| {
        let _ = fs::remove_file(&hosts);
        std::os::unix::fs::symlink(&canary, &hosts).unwrap();
    });
    let _ = host.sh(&[], "echo more >> /etc/hosts; echo more >> /etc/hostname").run().ok();
    assert_eq!(fs::read_to_string(&canary).unwrap(), "sings");
}

#[test]
fn resolver_files_cover_links_of_the_root() {
    const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];
    let host = Host::new();
    let debian = host.debian();
    let readonly = host.directory().join("readonly");
    fs::create_dir(&readonly).unwrap();
    let _ = host.program("mount").args(["--bind", "-o", "ro"]).arg(&debian).arg(&readonly).run().ok();
    for target in ["../run/systemd/resolve/stub-resolv.conf", "/tmp/resolv.conf", "/nowhere", "resolv.conf", "passwd"] {
        let links = || FILES.map(|name| debian.join("etc").join(name));
        host.inside(|| {
            for link in links() {
                let _ = fs::remove_file(&link);
                std::os::unix::fs::symlink(target, &link).unwrap();
            }
        });
        let volume = format!("{}:/etc/hosts", data(&host) + "/file");
        for (root, options, hosts) in [
            (&debian, &[][..], "localhost"),
            (&debian, &["--tmpfs", "/run", "--tmpfs", "/tmp"], "localhost"),
            (&debian, &["--read-only"], "localhost"),
            (&debian, &["--overlay"], "localhost"),
            (&debian, &["-v", &volume], "content"),
            (&readonly, &[], "localhost"),
        ] {
            let options = [&["--net", "none", "--dns", "192.0.2.1", "--hostname", "web"], options].concat();
            let script = "cat /etc/hostname /etc/resolv.conf /etc/hosts && grep root /etc/passwd";
            let out = host.run(&options, root, &["sh", "-c", script]).run().ok();
            assert!(out.starts_with("web\n"), "{target} {options:?}: {out}");
            assert!(out.contains("nameserver 192.0.2.1\n") && out.contains(hosts), "{target} {options:?}: {out}");
        }
        // The root itself stays as it was.
        host.inside(|| {
            for link in links() {
                assert_eq!(fs::read_link(link).unwrap().to_str(), Some(target));
            }
            assert!(!debian.join("tmp/resolv.conf").exists() && !debian.join("run/systemd").exists());
        });
    }
}

#[test]
fn two_volumes_on_one_target_are_refused() {
    let host = Host::new();
    let data = data(&host);
    let [here, there] = [format!("{data}:/v"), format!("{data}:/v/")];
    let before = host.snapshot();
    for options in [
        &["-v", &here, "-v", &here][..],
        &["-v", &here, "-v", &there],
        &["--tmpfs", "/v", "-v", &there],
        &["--mount", "type=tmpfs,target=//v/.", "-v", &here],
    ] {
        let line = host.run(options, host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains("two volumes on /") && line.contains("of its own"), "{options:?}: {line}");
    }
    before.assert_restored(|| host.snapshot());
    assert_eq!(host.sh(&["-v", &here, "--tmpfs", "/v/w"], "cat /v/file; ls -A /v/w").run().ok(), "content\n");
}
