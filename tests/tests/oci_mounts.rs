//! Mounts of OCI bundles: options, propagation, idmaps, masked and read-only paths, and symbolic links of a hostile
//! root.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use tests::{Bundle, Host, instruments};

/// A bind in config.json.
fn bind(source: &Path, target: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": "bind", "source": source, "options": options})
}

/// Runs a script in the container of a bundle with additional mounts; returns its output.
fn run(host: &Host, mounts: &[Value], script: &str, change: impl FnOnce(&mut Value)) -> String {
    bundle(host, mounts, script, change).printed()
}

fn bundle<'a>(host: &'a Host, mounts: &[Value], script: &str, change: impl FnOnce(&mut Value)) -> Bundle<'a> {
    Bundle::printing(host, script, |config| {
        config["mounts"].as_array_mut().unwrap().extend_from_slice(mounts);
        change(config);
    })
}

/// The options of the mount on `target`, and its propagation; proc_pid_mountinfo(5).
fn mounted(mountinfo: &str, target: &str) -> (String, String) {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(target));
    let line = line.unwrap_or_else(|| panic!("{target} is not mounted: {mountinfo}"));
    let fields: Vec<_> = line.split(' ').collect();
    let end = fields.iter().position(|field| *field == "-").unwrap();
    let kinds: Vec<_> = fields[6..end].iter().map(|field| field.split(':').next().unwrap()).collect();
    (fields[5].into(), kinds.join(" "))
}

/// A directory on the host: a tmpfs with another tmpfs in it.
fn data(host: &Host) -> std::path::PathBuf {
    let data = host.directory().join("data");
    for (path, options) in [(data.clone(), "mode=777"), (data.join("sub"), "nosuid")] {
        host.inside(|| fs::create_dir(&path)).unwrap();
        let _ = host.program("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).run().ok();
    }
    data
}

#[test]
fn mounts_have_the_attributes_of_the_bundle() {
    let host = Host::new();
    let data = data(&host);
    let tmpfs = |target: &str, options: &[&str]| tests::mount(target, "tmpfs", options);
    let mounts = [
        bind(&data, "/a", &["rbind", "ro", "noexec"]),
        bind(&data, "/b", &["rbind", "rro", "rnoatime", "rw"]),
        bind(&data, "/c", &["bind", "nosuid", "nodev", "noatime", "nodiratime", "nosymfollow", "sync", "mand"]),
        bind(&data, "/d", &["rbind", "rsuid", "rstrictatime"]),
        tmpfs("relative", &["ro", "noexec", "size=64k"]),
        bind(&data, "/relative/below", &["bind"]),
        tmpfs("/x", &["rw"]),
        json!({"destination": "/x", "options": ["remount", "ro", "nodev"]}),
        json!({"destination": "/tmp", "options": ["remount", "rslave", "bind", "rw", "noexec", "suid"]}),
    ];
    let info = run(&host, &mounts, "cat /proc/self/mountinfo", |_| {});
    for (target, options) in [
        ("/a", "ro,noexec,relatime"),
        ("/a/sub", "rw,nosuid,relatime"),
        ("/b", "rw,noatime"),
        ("/b/sub", "ro,nosuid,noatime"),
        ("/c", "rw,nosuid,nodev,noatime,nodiratime,nosymfollow"),
        ("/d", "rw"),
        ("/d/sub", "rw"),
        ("/relative", "ro,noexec,relatime"),
        ("/relative/below", "rw,relatime"),
        ("/x", "ro,nodev,relatime"),
        ("/tmp", "rw,nodev,noexec,relatime"),
        ("/dev", "rw,nosuid,noexec"),
        ("/sys", "ro,nosuid,nodev,noexec,relatime"),
    ] {
        assert_eq!(mounted(&info, target).0, options, "{target}: {info}");
    }
    assert!(!info.contains(" /c/sub "), "{info}");
    let _ = host.program("umount").arg("-R").arg(&data).run().ok();
}

#[test]
fn mounts_propagate_as_the_bundle_says() {
    let host = Host::new();
    let data = data(&host);
    let _ = host.program("mount").args(["--make-rshared"]).arg(&data).run().ok();
    let kinds = ["private", "rslave", "rshared", "unbindable", "runbindable"];
    let mounts: Vec<_> = kinds.iter().map(|kind| bind(&data, &format!("/{kind}"), &["rbind", kind])).collect();
    let inside = "mkdir -p /rshared/in && mount -t tmpfs of-container /rshared/in && \
                  mount --bind /unbindable /tmp 2>&1; cat /proc/self/mountinfo; echo end; \
                  until [ -e /rslave/out/file ]; do sleep 0.05; done; \
                  ls /private/out /unbindable/out | grep -c file; echo last";
    let bundle = bundle(&host, &mounts, inside, |config| {
        tests::permit(config, "CAP_SYS_ADMIN");
    });
    let mut engine = bundle.adopt();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("end\n");
    let info = engine.stdout();
    for (target, propagation) in [
        ("/", ""),
        ("/private", ""),
        ("/rslave", "master"),
        ("/rslave/sub", "master"),
        ("/rshared", "shared"),
        ("/unbindable", "unbindable"),
        ("/unbindable/sub", ""),
        ("/runbindable/sub", "unbindable"),
    ] {
        assert_eq!(mounted(&info, target).1, propagation, "{target}: {info}");
    }
    // Of the host's mounts only the binds are there.
    assert!(info.lines().all(|line| line.split(' ').nth(4) != Some("/run")), "{info}");
    assert_eq!(info.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{info}");
    // An unbindable mount cannot be bound.
    assert!(info.contains("/unbindable") && info.contains("wrong fs type"), "{info}");
    let mounts = || host.program("cat").arg("/proc/self/mounts").run().ok();
    assert!(mounts().contains("of-container"), "{}", mounts());
    host.inside(|| fs::create_dir(data.join("out"))).unwrap();
    let _ = host.program("mount").args(["-t", "tmpfs", "tmpfs"]).arg(data.join("out")).run().ok();
    host.inside(|| fs::write(data.join("out/file"), "")).unwrap();
    engine.wait_for_output("0\nlast\n");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    let _ = bundle.reap(engine);
    let _ = host.program("umount").args(["-R"]).arg(&data).run().ok();
    assert!(!mounts().contains("of-container"));
}

#[test]
fn root_propagates_as_the_bundle_says() {
    let host = Host::new();
    // It is mounted on first use.
    let _ = host.debian();
    let before = host.snapshot();
    for (kind, root, below) in [
        ("", "", ""),
        ("rprivate", "", ""),
        ("rslave", "", ""),
        ("shared", "shared", ""),
        ("rshared", "shared", "shared"),
        ("unbindable", "unbindable", ""),
        ("runbindable", "unbindable", "unbindable"),
    ] {
        let info = run(&host, &[], "cat /proc/self/mountinfo", |config| {
            config["linux"]["rootfsPropagation"] = json!(kind);
        });
        assert_eq!((&*mounted(&info, "/").1, &*mounted(&info, "/tmp").1), (root, below), "{kind}: {info}");
    }
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn mounts_of_a_user_namespace_never_reach_the_host() {
    let host = Host::new();
    let data = data(&host);
    let _ = host.program("mount").args(["--make-rshared"]).arg(data.join("sub")).run().ok();
    let mounts = [bind(&data.join("sub"), "/s", &["rbind", "rshared"])];
    let script = "mkdir /s/in; mount -t tmpfs of-container /s/in; cat /proc/self/mountinfo";
    let bundle = bundle(&host, &mounts, script, |config| {
        tests::permit(config, "CAP_SYS_ADMIN");
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    });
    let mut engine = bundle.adopt();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("end\n");
    let info = engine.stdout();
    assert_eq!(mounted(&info, "/s").1, "shared master", "{info}");
    assert!(info.contains("of-container"), "{info}");
    assert!(!host.program("cat").arg("/proc/self/mounts").run().ok().contains("of-container"));
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    let _ = bundle.reap(engine);
    let _ = host.program("umount").arg("-R").arg(&data).run().ok();
}

#[test]
fn idmapped_mounts_show_other_owners() {
    let host = Host::new();
    let data = host.directory().join("data");
    host.inside(|| {
        fs::create_dir(&data).unwrap();
        chown(&data, Some(33), Some(34)).unwrap();
    });
    let with_maps = |target: &str, options: &[&str]| {
        let map = |host| json!([{"containerID": 30, "hostID": host, "size": 10}]);
        let mut mount = bind(&data, target, options);
        (mount["uidMappings"], mount["gidMappings"]) = (map(1000), map(2000));
        mount
    };
    let mounts = [bind(&data, "/plain", &["rbind"]), with_maps("/a", &["bind"]), with_maps("/b", &["rbind", "ridmap"])];
    let script = "stat -c %u:%g /plain /a /b";
    let first = bundle(&host, &mounts, script, |_| {});
    let quiet = |command: &mut Command| _ = command.stdout(Stdio::null()).stderr(Stdio::null());
    if first.create().with(quiet).run().code != 0 && instruments() != Path::new("/") {
        // The kernel's tmpfs may not support idmapped mounts.
        let log = host.inside(|| fs::read_to_string(first.log())).unwrap();
        assert!(log.contains("must have idmapped mounts"), "{log}");
        return;
    }
    let _ = first.engine(&["delete", "--force", "one"]).run().ok();
    host.inside(|| fs::remove_dir_all(&first.directory)).unwrap();
    assert_eq!(run(&host, &mounts, script, |_| {}), "33:34\n1003:2004\n1003:2004\n");
    // Without maps of its own, the mount has those of the container.
    let mounts = [bind(&data, "/plain", &["rbind"]), bind(&data, "/a", &["rbind", "idmap"])];
    let shown = run(&host, &mounts, "stat -c %u:%g /plain /a", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([
            {"containerID": 0, "hostID": 0, "size": 20}, {"containerID": 20, "hostID": 100_020, "size": 1000}
        ]);
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    });
    assert_eq!(shown, "65534:65534\n33:34\n");
    let bundle = bundle(&host, &mounts, "", |_| {});
    let line = bundle.create().run().refused(1);
    assert!(line.contains("mounts[6]: idmap: "), "{line}");
}

#[test]
fn masked_and_readonly_paths_can_be_anywhere() {
    let host = Host::new();
    let data = data(&host);
    host.inside(|| fs::write(data.join("secret"), "of the host\n")).unwrap();
    let mounts = [bind(&data, "/data", &["rbind"])];
    let script = "wc -c < /data/secret; ls -A /etc/skel /data/sub; wc -c < /proc/keys; \
                  touch /etc/skel/x /data/sub/x 2>&1; touch /var/x /data/y 2>&1; cat /etc/debian_version | wc -l";
    let shown = run(&host, &mounts, script, |config| {
        config["root"]["readonly"] = json!(false);
        let masked =
            ["/data/secret", "/etc/skel", "/data/sub", "/proc/keys", "/nowhere", "/etc/passwd/x", "/proc/acpi"];
        config["linux"]["maskedPaths"] = json!(masked);
        config["linux"]["readonlyPaths"] = json!(["/var", "/data", "/proc/sys", "/nowhere/x", "/proc/bus"]);
    });
    let refused = shown.matches("Read-only file system").count();
    assert!(shown.starts_with("0\n/data/sub:\n\n/etc/skel:\n0\n") && shown.ends_with("1\n"), "{shown}");
    assert_eq!(refused, 4, "{shown}");
    assert_eq!(host.inside(|| fs::read_to_string(data.join("secret"))).unwrap(), "of the host\n");
    let _ = host.program("umount").arg("-R").arg(&data).run().ok();
}

#[test]
fn dev_and_proc_are_mounted_as_the_bundle_says() {
    let host = Host::new();
    let without = |names: &'static [&'static str]| {
        move |config: &mut Value| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["type"] == "bind" || !names.contains(&mount["destination"].as_str().unwrap()));
            config["linux"]["maskedPaths"] = json!(["/etc/skel"]);
            config["linux"]["readonlyPaths"] = json!([]);
        }
    };
    // Nothing is mounted on /proc, and /dev has only the default devices.
    let script =
        "ls -A /proc /etc/skel; [ -e /dev/shm ] || echo none; echo x > /dev/null; [ -c /dev/null ] && echo null";
    assert_eq!(run(&host, &[], script, without(&["/proc"])), "/etc/skel:\n\n/proc:\nnone\nnull\n");
    // The host's /dev and /proc.
    let mounts = [bind(Path::new("/dev"), "/dev", &["rbind"]), bind(Path::new("/proc"), "/proc", &["rbind", "ro"])];
    let here = host.program("stat").args(["-c", "%d", "/dev", "/proc"]).run().ok();
    let list = [&*here, "1\n"].concat();
    let shown = run(&host, &mounts, "stat -c %d /dev /proc; cat /proc/sys/net/ipv4/ip_forward", |config| {
        without(&["/dev", "/dev/pts", "/proc"])(config);
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        config["linux"]["devices"] = json!([{"path": "/dev/never-made", "type": "c", "major": 1, "minor": 3}]);
    });
    assert_eq!(shown, list);
    assert!(!host.inside(|| Path::new("/dev/never-made").exists()));
    // The last mount counts.
    let shown = run(&host, &mounts, "stat -c %d /dev", |_| {});
    assert_eq!(shown, here.lines().next().map(|line| format!("{line}\n")).unwrap());
}

#[test]
fn symbolic_links_of_a_hostile_root_stay_in_the_root() {
    let host = Host::new();
    let canary = host.directory().join("canary");
    let data = data(&host);
    let root = host.demo_copy("rootfs");
    host.inside(|| {
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("file"), "sings").unwrap();
        fs::write(data.join("file"), "of the host").unwrap();
        for (name, target) in [
            ("absolute", canary.clone()),
            ("up", Path::new("../../../../../../../..").join(canary.strip_prefix("/").unwrap())),
            ("resolv.conf", "run/new/resolv.conf".into()),
            ("loop", "loop".into()),
            ("magic", "/proc/self/fd/3".into()),
            ("masked", canary.join("file")),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
    });
    let config = |config: &mut Value| {
        config["root"] = json!({"path": root, "readonly": false});
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/tmp");
        config["process"]["args"] = json!(["/bin/true"]);
        config["linux"]["maskedPaths"] = json!(["/masked"]);
        config["linux"]["readonlyPaths"] = json!(["/up"]);
        config["process"]["cwd"] = json!("/up/made/cwd");
    };
    let mounts = [
        bind(&data, "/absolute/in", &["bind"]),
        bind(&data.join("file"), "/up/file", &["bind"]),
        bind(&data.join("file"), "/resolv.conf", &["bind"]),
        tests::mount("/absolute/tmpfs", "tmpfs", &[]),
    ];
    let bundle = bundle(&host, &mounts, "", config);
    let quiet = |command: &mut Command| _ = command.stdout(Stdio::null()).stderr(Stdio::null());
    let code = bundle.create().with(quiet).run().code;
    assert_eq!(code, 0, "{}", host.inside(|| fs::read_to_string(bundle.log())).unwrap());
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    host.inside(|| {
        // Everything was created in the root.
        let inside = root.join(canary.strip_prefix("/").unwrap());
        for made in ["in", "file", "tmpfs", "made/cwd"] {
            assert!(inside.join(made).exists(), "{made}");
        }
        assert!(root.join("run/new/resolv.conf").is_file());
        let names: Vec<_> = fs::read_dir(&canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!((names.len(), fs::read_to_string(canary.join("file")).unwrap()), (1, "sings".into()));
        fs::remove_dir_all(&bundle.directory).unwrap();
    });
    for target in ["/loop/x", "/loop", "/magic"] {
        let bundle = self::bundle(&host, &[bind(&data, target, &["bind"])], "", config);
        let line = bundle.create().run().refused(1);
        assert!(line.contains(&format!("mount on {target}")), "{line}");
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
    // proc, sysfs, cgroup and mqueue are never mounted through a link.
    for (kind, target) in [("proc", "/absolute"), ("sysfs", "/up"), ("cgroup", "/up/a"), ("mqueue", "/absolute")] {
        let bundle = self::bundle(&host, &[tests::mount(target, kind, &[])], "", config);
        let line = bundle.create().run().refused(1);
        assert!(line.contains("symbolic link"), "{kind}: {line}");
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
    let _ = host.program("umount").arg("-R").arg(&data).run().ok();
}

#[test]
fn cgroups_and_overlays_are_mounted() {
    let host = Host::new();
    let directory = host.directory().join("layers");
    host.inside(|| fs::create_dir(&directory)).unwrap();
    let _ = host.program("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&directory).run().ok();
    let options = host.inside(|| {
        ["lower", "upper", "work"].map(|name| {
            fs::create_dir(directory.join(name)).unwrap();
            format!("{name}dir={}", directory.join(name).display())
        })
    });
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    host.inside(|| fs::write(directory.join("lower/file"), "lower\n")).unwrap();
    let mounts = [
        tests::mount("/o", "overlay", &options),
        tests::mount("/sys/fs/cgroup", "cgroup", &["rprivate", "nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    let script =
        "cat /o/file; echo x > /o/new; ls /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x 2>&1 | grep -c Read-only";
    assert_eq!(run(&host, &mounts, script, |_| {}), "lower\n/sys/fs/cgroup/cgroup.procs\n1\n");
    assert!(host.inside(|| directory.join("upper/new").exists()));
    // Without a cgroup namespace of its own, the container has the host's hierarchy.
    let own = format!("/sys/fs/cgroup{}/one", host.cgroup_parent_option());
    let script = format!("ls -d {own}; mkdir /sys/fs/cgroup/x 2>&1 | grep -c Read-only");
    let shown = run(&host, &mounts[1..], &script, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
    });
    assert_eq!(shown, format!("{own}\n1\n"));
    let _ = host.program("umount").arg(&directory).run().ok();
}

#[test]
fn working_directory_is_created_in_a_read_only_root() {
    let host = Host::new();
    let shown = run(&host, &[], "pwd; touch x 2>&1 | grep -c Read-only", |config| {
        config["process"]["cwd"] = json!("/made/for/it");
    });
    assert_eq!(shown, "/made/for/it\n1\n");
}
