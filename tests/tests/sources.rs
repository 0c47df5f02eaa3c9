//! What of the host a container is made of: it is opened once, devices in it are not usable, and links lead nowhere.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tests::{Background, Container, Host, Outcome, Program, SHARED_ROOT, images, sys};

/// A directory of the host's that no container is given, with a file in it.
fn canary(host: &Host) -> PathBuf {
    let path = host.directory().join("canary");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "secret\n").unwrap();
    path
}

#[track_caller]
fn assert_unchanged(canary: &Path) {
    let names: Vec<_> = fs::read_dir(canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"], "in the canary");
    assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "secret\n");
    assert_eq!(fs::metadata(canary).unwrap().permissions().mode() & 0o7777, 0o755);
}

/// Runs a program where bpf(2) fails, as on a kernel without CGROUP_BPF or under a launcher that may not use it.
fn without_bpf(program: Program<'_>) -> Outcome {
    // On a thread of its own, whose filter ends with it.
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::refuse_call(libc::SYS_bpf, libc::EPERM).unwrap();
            program.run()
        });
        thread.join().unwrap()
    })
}

/// A directory below which everything is that is exchanged, as /outer of a container; and the first life's attack:
/// `thing` in it becomes a link to `target`.
struct Outer {
    path: PathBuf,
    volume: String,
}

impl Outer {
    fn new(host: &Host, name: &str) -> Self {
        let path = host.directory().join(name);
        fs::create_dir(&path).unwrap();
        Self { volume: format!("{}:/outer", path.display()), path }
    }

    fn thing(&self) -> String {
        self.path.join("thing").to_str().unwrap().into()
    }

    /// The scripts of the first run, which fails, and of the second.
    fn script(&self, first: &str, target: &Path, second: &str) -> String {
        format!(
            "if [ ! -e /outer/done ]; then {first}; mv /outer/thing /outer/old && ln -s {} /outer/thing && \
             touch /outer/done;
             exit 1; fi; {second}",
            target.display()
        )
    }
}

#[test]
fn source_that_has_become_a_link_is_not_followed_by_a_restart() {
    let host = Host::new();
    let canary = canary(&host);
    let rootfs = host.debian();
    // Files of root's are nobody's in there, but it may make mountpoints.
    let theirs = |path: &Path| chown(path, Some(Uid::from_raw(300_000)), Some(Gid::from_raw(300_000))).unwrap();
    for (name, userns) in [("host", &[][..]), ("own", &["--userns", "map=0:300000:65536"])] {
        let outer = Outer::new(&host, &format!("volume-{name}"));
        let inner = outer.path.join("thing");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), "mine\n").unwrap();
        if !userns.is_empty() {
            host.inside(|| _ = [&*rootfs, &outer.path, &inner].map(theirs));
        }
        let volumes = ["-v", &outer.volume, "-v", &format!("{}:/inner", outer.thing())];
        let options = [&["--restart", "on-failure:1"], userns, &volumes].concat();
        let script = outer.script("true", &canary, "cat /inner/file; echo new > /inner/new; cat /outer/old/new");
        assert_eq!(host.sh(&options, &script).run().ok(), "mine\nnew\n", "{name}");
        assert!(fs::symlink_metadata(inner).unwrap().is_symlink());
        assert_unchanged(&canary);

        // A file, in a directory of the container's own root.
        let file = rootfs.join(format!("file-{name}"));
        host.inside(|| fs::write(&file, "mine\n")).unwrap();
        let volume = format!("{}:/one", file.display());
        let script = |verb: &str| {
            format!(
                "if [ ! -L /file-{name} ]; then {verb}; ln -s {}/file /file-{name}; exit 1; fi; cat /one; \
                 echo more >> /one",
                canary.display()
            )
        };
        if !userns.is_empty() {
            host.inside(|| theirs(&file));
        }
        let options = [&["--restart", "on-failure:1", "-v", &volume], userns].concat();
        let moved = script(&format!("mv /file-{name} /old-{name}"));
        assert_eq!(host.sh(&options, &moved).run().ok(), "mine\n", "{name}");
        assert_unchanged(&canary);
        // One that is gone for good cannot be mounted again.
        host.inside(|| fs::rename(rootfs.join(format!("old-{name}")), &file)).unwrap();
        let line = host.sh(&options, &script(&format!("rm /file-{name}"))).run().refused(125);
        assert!(line.contains("/one") && line.contains("has been removed"), "{line}");
        assert_unchanged(&canary);
    }
}

#[test]
fn restart_uses_root_layer_and_device_of_the_first_start() {
    let host = Host::new();
    let canary = canary(&host);
    // The root, by a link that leads elsewhere later on.
    let outer = Outer::new(&host, "root");
    symlink(host.debian(), outer.thing()).unwrap();
    let script = outer.script("true", &canary, "echo alive");
    let options = ["--net", "none", "--restart", "on-failure:1", "-v", &outer.volume];
    assert_eq!(host.run(&options, outer.thing(), &["sh", "-c", &script]).run().ok(), "alive\n");
    assert_unchanged(&canary);

    let outer = Outer::new(&host, "layer");
    fs::create_dir(outer.thing()).unwrap();
    let layer = format!("--overlay={}", outer.thing());
    let script = outer.script("echo mine > /kept", &canary, "cat /kept; echo more >> /kept");
    assert_eq!(host.sh(&["--restart", "on-failure:1", "-v", &outer.volume, &layer], &script).run().ok(), "mine\n");
    assert_eq!(fs::read_to_string(outer.path.join("old/upper/kept")).unwrap(), "mine\nmore\n");
    assert_unchanged(&canary);

    let outer = Outer::new(&host, "device");
    symlink("/dev/zero", outer.thing()).unwrap();
    let device = format!("{}:/dev/given:r", outer.thing());
    let script = outer.script("true", Path::new("/dev/full"), "stat -c %t:%T /dev/given");
    let options = ["--restart", "on-failure:1", "-v", &outer.volume, "--device", &device];
    assert_eq!(host.sh(&options, &script).run().ok(), "1:5\n");
}

#[test]
fn restart_uses_the_image_of_the_first_start() {
    let host = Host::new();
    let link = host.directory().join("image");
    symlink(images().join("demo.erofs"), &link).unwrap();
    let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
    let options = ["--net", "none", "--name", "idle", "--restart", "always", "-v", &volume];
    let mut idle =
        Container::new(&host, "idle", host.run(&options, &link, &["/run/intruder", "time", "4000000000"]).start());
    let first = idle.init();
    tests::wait_until("the payload", || tests::leaf_processes(&idle.leaf()).len() == 2);
    let firsts = tests::leaf_processes(&idle.leaf());
    fs::remove_file(&link).unwrap();
    symlink(images().join("bare.erofs"), &link).unwrap();
    kill(Pid::from_raw(first.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let root = tests::wait_for("the second life", || {
        let processes = tests::leaf_processes(&idle.leaf());
        assert!(!idle.has_ended(), "{}", idle.stderr());
        let second =
            *processes.last().filter(|_| processes.len() == 2 && processes.iter().all(|pid| !firsts.contains(pid)))?;
        // Until it is that, its root is the host's.
        let is_payload = fs::read_to_string(format!("/proc/{second}/comm")).ok()? == "intruder\n";
        is_payload.then(|| PathBuf::from(format!("/proc/{second}/root")))
    });
    assert!(root.join("usr/sbin/nginx").exists());
    let _ = idle.stop();
}

#[test]
fn missing_source_of_an_ordinary_user_is_an_error() {
    let host = Host::new();
    let canary = canary(&host);
    let rootfs = host.debian();
    let outer = Outer::new(&host, "outer");
    let [bin, inner] = [host.directory().join("bin"), outer.path.join("thing")];
    for path in [&bin, &inner, &host.state()] {
        fs::create_dir(path).unwrap();
    }
    let _ = host.program("cp").args([tests::launcher(), tests::init()]).arg(&bin).run().ok();
    let owner = |path: &Path| chown(path, Some(Uid::from_raw(4711)), Some(Gid::from_raw(4711))).unwrap();
    for path in [&*outer.path, &inner, &host.state()] {
        owner(path);
    }
    fs::write(inner.join("file"), "mine\n").unwrap();
    host.inside(|| ["inner", "outer"].map(|name| fs::create_dir(rootfs.join(name)).unwrap()));
    let volumes = ["-v", &outer.volume, "-v", &format!("{}:/inner", outer.thing())];
    let run = |script: &str| {
        let program = host.program(bin.join("kontena")).arg("--root").arg(host.state());
        let program = program.args(["run", "--net", "none", "--restart", "on-failure:1"]).args(volumes).arg(&rootfs);
        program.args(["sh", "-c", script]).with(|command| _ = command.uid(4711).gid(4711).env_remove("PATH")).run()
    };
    // A second life is one that has the same.
    let out = run("[ -e /outer/first ] || { touch /outer/first; exit 1; }; cat /inner/file").ok();
    assert_eq!(out, "mine\n");
    let outcome = run(&outer.script("true", &canary, "cat /inner/file; echo new > /inner/new"));
    assert_eq!((outcome.code, &*outcome.stdout), (125, ""), "{outcome}");
    assert!(outcome.stderr.contains("/inner") && outcome.stderr.contains("has changed since"), "{outcome}");
    assert_unchanged(&canary);
}

#[test]
fn devices_in_roots_and_volumes_are_unusable_without_a_device_program() {
    let host = Host::new();
    let rootfs = host.debian();
    // Whatever device it was, that is what opens it; these two are harmless.
    let data = host.directory().join("data");
    fs::create_dir(&data).unwrap();
    host.inside(|| fs::create_dir_all(rootfs.join("opt"))).unwrap();
    for directory in [&rootfs.join("opt"), &data] {
        for (name, minor) in [("zero", "5"), ("null", "3")] {
            let node = directory.join(name);
            let _ = host.program("mknod").args(["-m", "666"]).arg(node).args(["c", "1", minor]).run().ok();
        }
    }
    let layer = host.directory().join("layer");
    fs::create_dir_all(layer.join("upper")).unwrap();
    let node = layer.join("upper/zero");
    let _ = host.program("mknod").args(["-m", "666"]).arg(node).args(["c", "1", "5"]).run().ok();
    let (layer, volume) = (format!("--overlay={}", layer.display()), format!("{}:/data", data.display()));
    host.inside(|| chown(&rootfs, Some(Uid::from_raw(300_000)), Some(Gid::from_raw(300_000)))).unwrap();
    let attack = "for node in /opt/zero /zero /data/zero; do
            [ -e $node ] && head -c 1 $node | wc -c
        done
        for node in /opt/null /data/null; do echo x > $node && echo written; done
        head -c 1 /dev/zero | wc -c; echo x > /dev/null";
    for options in [&[][..], &["--overlay"], &[&layer], &["--read-only"], &["--userns", "map=0:300000:65536"]] {
        let options = [options, &["-v", &volume]].concat();
        let outcome = without_bpf(host.sh(&options, attack));
        // Its own /dev is as ever.
        let read = outcome.stdout.lines().filter(|line| *line == "1").count();
        assert_eq!((outcome.code, read), (0, 1), "{options:?}: {outcome}");
        let denied = outcome.stderr.matches("Permission denied").count();
        assert!(denied >= 4 && !outcome.stdout.contains("written"), "{options:?}: {outcome}");
    }
    // An image's root, too, and what is mounted on it.
    let intruder = format!("{}:/run/intruder:ro", tests::intruder().display());
    let image = images().join("demo.squashfs");
    let program = host.run(&["--net", "none", "-v", &intruder], image, &["/run/intruder"]);
    let mountinfo = without_bpf(program.args(["look", "/proc/self/mountinfo"])).ok();
    for target in ["/", "/run/intruder"] {
        let mount = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some(target)).unwrap();
        assert!(mount.split(' ').nth(5).unwrap().split(',').any(|option| option == "nodev"), "{mount}");
    }
}

#[test]
fn options_that_need_the_device_program_are_refused_without_it() {
    let host = Host::new();
    let before = host.snapshot();
    let volume = format!("{}:/data:dev", host.directory().display());
    for options in [
        &["-v", &*volume][..],
        &["--tmpfs", "/data:dev"],
        &["--device", "/dev/zero"],
        &["--cap-add", "MKNOD"],
        &["--cap-add", "SYS_ADMIN"],
    ] {
        let options = [&["--net", "none"], options].concat();
        let line = without_bpf(host.run(&options, host.demo(), &["/bin/true"])).refused(125);
        assert!(line.contains("CONFIG_CGROUP_BPF") && line.contains("EPERM"), "{options:?}: {line}");
        before.assert_restored(|| host.snapshot().with("state", &before).with("cgroups", &before));
    }
    let _ = without_bpf(host.run(&["--net", "none"], host.demo(), &["/bin/true"])).ok();
}

#[test]
fn devices_in_a_volume_with_dev_are_usable() {
    let host = Host::new();
    let data = host.directory().join("data");
    fs::create_dir(&data).unwrap();
    for (name, minor) in [("zero", "5"), ("mem", "1")] {
        let _ = host.program("mknod").arg(data.join(name)).args(["c", "1", minor]).run().ok();
    }
    let volume = format!("{}:/data:dev", data.display());
    assert_eq!(host.sh(&["-v", &volume], "head -c 1 /data/zero | wc -c").run().ok(), "1\n");
    let outcome = host.sh(&["-v", &volume], "head -c 1 /data/mem").run();
    assert!(outcome.stderr.contains("Operation not permitted"), "{outcome}");
    // A file that is hidden by the null device.
    let hidden = ["-v", "/dev/null:/etc/debian_version"];
    assert_eq!(host.sh(&hidden, "cat /etc/debian_version && echo empty").run().ok(), "empty\n");
}

#[test]
fn device_is_usable_at_any_target() {
    let host = Host::new();
    let node = host.directory().join("node");
    let _ = host.program("mknod").args(["-m", "640"]).arg(&node).args(["c", "1", "5"]).run().ok();
    chown(&node, Some(Uid::from_raw(7)), Some(Gid::from_raw(8))).unwrap();
    let device = format!("{}:/opt/new/node", node.display());
    let script = "stat -c '%a %u:%g %t:%T' /opt/new/node; chmod 777 /opt/new/node; chown 0 /opt/new/node
        head -c 1 /opt/new/node | wc -c; ls -A /dev | grep '^[.]' || true";
    assert_eq!(host.sh(&["--device", &device], script).run().ok(), "640 7:8 1:5\n1\n");
    // The host's is as it was, and the root has no device of it.
    assert_eq!(fs::metadata(&node).unwrap().permissions().mode() & 0o7777, 0o640);
    let made = host.inside(|| fs::metadata(host.debian().join("opt/new/node"))).unwrap();
    assert!(made.is_file() && made.len() == 0);
}

/// A directory of the host's that could be a layer, and is nobody's.
fn elsewhere(host: &Host) -> PathBuf {
    let path = host.directory().join("elsewhere");
    for name in ["upper", "work"] {
        fs::create_dir_all(path.join(name)).unwrap();
    }
    path
}

#[track_caller]
fn assert_empty(elsewhere: &Path) {
    for name in ["upper", "work"] {
        assert_eq!(fs::read_dir(elsewhere.join(name)).unwrap().count(), 0, "{name}");
        assert_eq!(fs::metadata(elsewhere.join(name)).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}

#[test]
fn layer_with_links_in_it_leads_nowhere() {
    let host = Host::new();
    let elsewhere = elsewhere(&host);
    for links in [&["upper", "work"][..], &["upper"], &["work"]] {
        for target in [&elsewhere, Path::new("../elsewhere")] {
            let layer = host.directory().join("layer");
            fs::create_dir(&layer).unwrap();
            for link in links {
                symlink(target.join(link), layer.join(link)).unwrap();
            }
            let line = host.sh(&[&format!("--overlay={}", layer.display())], "echo x > /new").run().refused(125);
            assert!(line.contains("link is not followed"), "{line}");
            assert_empty(&elsewhere);
            fs::remove_dir_all(layer).unwrap();
        }
    }
}

#[test]
fn layer_exchanged_with_links_during_the_start_leads_nowhere() {
    let host = Host::new();
    let elsewhere = elsewhere(&host);
    let layer = host.directory().join("layer");
    for name in ["upper", "work"] {
        fs::create_dir_all(layer.join(name)).unwrap();
        symlink(elsewhere.join(name), layer.join(format!("{name}-link"))).unwrap();
    }
    let option = format!("--overlay={}", layer.display());
    let (stop, mut started) = (AtomicBool::new(false), 0);
    let debian = host.debian();
    thread::scope(|scope| {
        let exchanger = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for name in ["upper", "work"] {
                    sys::exchange(&layer.join(name), &layer.join(format!("{name}-link"))).unwrap();
                }
            }
        });
        for _ in 0..300 {
            let outcome = host.run(&["--net", "none", &option], &debian, &["sh", "-c", "echo x > /new"]).run();
            assert!([0, 125].contains(&outcome.code), "{outcome}");
            started += usize::from(outcome.code == 0);
        }
        stop.store(true, Ordering::Relaxed);
        exchanger.join().unwrap();
    });
    assert_empty(&elsewhere);
    assert!(started > 0, "some started");
}

#[test]
fn layer_may_be_relative_and_has_one_user() {
    let host = Host::new();
    let directory = host.directory().join("work");
    fs::create_dir_all(directory.join("layer")).unwrap();
    let run = |script: &str| {
        let program = host.sh(&["--overlay=layer"], script);
        program.with(|command| _ = command.current_dir(&directory))
    };
    let _ = run("echo kept > /kept").run().ok();
    let mut running = run("cat /kept; exec sleep 600").start();
    running.wait_for_output("kept");
    let line = run("true").run().refused(125);
    assert!(line.contains("--overlay layer") && line.contains("another container"), "{line}");
    running.signal(Signal::SIGTERM);
    let _ = running.finish();
    assert_eq!(run("cat /kept").run().ok(), "kept\n");
}

#[test]
fn tmpfs_follows_the_links_of_the_root() {
    let host = Host::new();
    let canary = canary(&host);
    let rootfs = host.debian();
    host.inside(|| {
        symlink(&canary, rootfs.join("out")).unwrap();
        // Where that leads inside.
        fs::create_dir_all(rootfs.join(canary.strip_prefix("/").unwrap())).unwrap();
        let _ = fs::remove_dir(rootfs.join("var/run"));
        fs::create_dir_all(rootfs.join("var")).unwrap();
        let _ = symlink("../run", rootfs.join("var/run"));
        fs::create_dir_all(rootfs.join("run")).unwrap();
    });
    for (option, script) in [
        (["--tmpfs", "/var/run"], "stat -f -c %T /run"),
        (["--mount", "type=tmpfs,target=/var/run"], "stat -f -c %T /run"),
        (["--tmpfs", "/var/run/deep/er"], "stat -f -c %T /run/deep/er"),
        (["--tmpfs", "/out/new"], "stat -f -c %T /out/new"),
    ] {
        assert_eq!(host.sh(&option, script).run().ok(), "tmpfs\n", "{option:?}");
        assert_unchanged(&canary);
    }
}

#[test]
fn tmpfs_has_owner_and_mode_of_the_covered_directory() {
    let host = Host::new();
    let directory = host.debian().join("run/sshd");
    host.inside(|| {
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o750)).unwrap();
        chown(&directory, Some(Uid::from_raw(7)), Some(Gid::from_raw(8))).unwrap();
    });
    for (option, seen) in [
        ("/run/sshd", "750 7:8\n"),
        ("/run/sshd:size=64k", "750 7:8\n"),
        ("/run/sshd:mode=1777", "1777 0:0\n"),
        // There is no directory.
        ("/scratch", "1777 0:0\n"),
    ] {
        let target = option.split(':').next().unwrap();
        assert_eq!(host.sh(&["--tmpfs", option], &format!("stat -c '%a %u:%g' {target}")).run().ok(), seen, "{option}");
    }
}

#[test]
fn layer_works_with_every_range_of_ids_or_is_refused() {
    let host = Host::new();
    let layer = host.directory().join("layer");
    fs::create_dir(&layer).unwrap();
    let option = format!("--overlay={}", layer.display());
    let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
    let run = |map: &str, arguments: &[&str]| {
        let options = ["--net", "none", "--userns", map, &option, "-v", &volume];
        host.run(&options, images().join("demo.erofs"), &["/run/intruder"]).args(arguments).run()
    };
    let (first, second) = ("map=0:300000:65536", "map=0:400000:65536");
    let outcome = run(first, &["write", "/etc/passwd", "first"]);
    if outcome.code != 0 && outcome.stderr.contains("idmap") {
        // Linux before 6.3 and a layer on tmpfs.
        return;
    }
    let _ = outcome.ok();
    assert!(run(second, &["look", "/etc/passwd"]).ok().starts_with("first"));
    let _ = run(second, &["write", "/etc/passwd", "other"]).ok();
    assert!(run("map=0:500000:65536", &["look", "/etc/passwd"]).ok().starts_with("other"));
    // On the host it is of the ids inside, so that any range will do; and without one, too.
    assert_eq!(fs::metadata(layer.join("upper/etc/passwd")).unwrap().uid(), 0);
    assert!(run("host", &["look", "/etc/passwd"]).ok().starts_with("other"));
    // One that is given to a range is that range's.
    let _ = host.program("chown").args(["-R", "300000:300000"]).arg(&layer).run().ok();
    let _ = run(first, &["write", "/etc/passwd", "third"]).ok();
    assert_eq!(fs::metadata(layer.join("upper/etc/passwd")).unwrap().uid(), 300_000);
    let line = run(second, &["look", "/etc/passwd"]).refused(125);
    assert!(line.contains("--overlay") && line.contains("uid 300000") && line.contains("--userns map"), "{line}");
}

#[test]
fn truncated_image_is_refused() {
    let host = Host::new();
    for (image, lengths) in [("demo.erofs", &[2000, 4096, 8192, 12288][..]), ("demo.squashfs", &[100, 12288])] {
        let whole = fs::read(images().join(image)).unwrap();
        for length in lengths {
            let path = host.directory().join(image);
            fs::write(&path, &whole[..*length]).unwrap();
            // The kernel mounts some of these, and programs fail when they read what is missing.
            let line = host.run(&["--net", "none"], &path, &["/usr/sbin/nginx", "-v"]).run().refused(125);
            assert!(line.contains("shorter than its file system: copy the image again"), "{length} {line}");
        }
    }
}

#[test]
fn layer_in_the_root_itself_is_refused() {
    let host = Host::new();
    let rootfs = host.demo_copy("rootfs");
    let layer = rootfs.join("a/layer");
    fs::create_dir_all(&layer).unwrap();
    let run = |layer: &std::path::Path| {
        let option = format!("--overlay={}", layer.display());
        host.run(&["--net", "none", &option], &rootfs, &["/bin/true"]).run()
    };
    for path in [&layer, &rootfs] {
        let line = run(path).refused(125);
        assert!(line.contains("--overlay") && line.contains("in the rootfs"), "{line}");
        assert!(!path.join("work").exists() && !path.join("upper").exists());
    }
    // Beside it, with a name that begins like its own.
    let beside = host.directory().join("rootfs-layer");
    fs::create_dir(&beside).unwrap();
    let _ = run(&beside).ok();
}

/// Runs a script in a root, and asserts that there is a warning about the root or none.
#[track_caller]
fn assert_warns(host: &Host, options: &[&str], rootfs: &Path, warns: bool) {
    let state = host.directory().join("other-state");
    let program = host.kontena_in(&state).args(["run", "--net", "none", "--cgroup-parent"]);
    let outcome = program.arg(host.cgroup_parent_option()).args(options).arg(rootfs).args(["sh", "-c", "true"]).run();
    let expected = format!("{SHARED_ROOT}{}: ", rootfs.display());
    assert_eq!(
        (outcome.stderr.starts_with(&expected), outcome.stderr.lines().count()),
        (warns, warns.into()),
        "{outcome}"
    );
    let _ = outcome.ok();
}

#[test]
fn container_that_writes_to_anothers_root_is_warned() {
    let host = Host::new();
    let (debian, again) = (host.debian(), host.directory().join("again"));
    assert_warns(&host, &[], &debian, false);
    let first = host.background("first", &[], "sleep 1000");
    assert_warns(&host, &[], &debian, true);
    // By another path; and neither of those that do not write.
    fs::create_dir(&again).unwrap();
    let _ = host.program("mount").arg("--bind").arg(&debian).arg(&again).run().ok();
    assert_warns(&host, &[], &again, true);
    let _ = host.program("mount").args(["-o", "remount,bind,ro"]).arg(&again).run().ok();
    assert_warns(&host, &[], &again, false);
    assert_warns(&host, &["--read-only"], &debian, false);
    assert_warns(&host, &["--overlay"], &debian, false);
    let _ = host.sh(&["-d", "--read-only", "--name", "reader"], "sleep 1000").run().ok();

    // The second one is known as well, when the first one has ended.
    let second = host.sh(&["-d", "--name", "second"], "sleep 1000").run();
    assert!(second.stderr.starts_with(SHARED_ROOT), "{second}");
    let _ = first.does("stop");
    assert_warns(&host, &[], &debian, true);
    // Whatever has ended it.
    Background::new(&host, "second").kill_launcher();
    assert_warns(&host, &[], &debian, false);
}

#[test]
fn one_container_after_another_is_not_warned() {
    let host = Host::new();
    let outcome = host.sh(&["--restart", "on-failure:2"], "exit 3").run().code(3);
    assert_eq!(outcome.stderr, "");
    let _ = host.background("job", &["--restart", "on-failure:1"], "exit 3");
    let wait = || assert_eq!(host.kontena().args(["wait", "job"]).run().code(3).stdout, "3\n");
    for _ in 0..5 {
        wait();
        assert_eq!(host.kontena().args(["start", "job"]).run().code(0).stderr, "");
    }
    wait();
    let _ = host.background("web", &[], "sleep 1000");
    let again = host.sh(&["-d", "--replace", "--name", "web"], "sleep 1000").run().code(0);
    assert_eq!(again.stderr, "");
    assert_eq!(host.kontena().args(["restart", "-t", "0", "web"]).run().code(0).stderr, "");
}

#[test]
fn lock_of_a_root_keeps_nobody_out() {
    let host = Host::new();
    let rootfs = host.directory().join("mounted");
    fs::create_dir(&rootfs).unwrap();
    let _ = host.program("mount").arg("--bind").arg(host.debian()).arg(&rootfs).run().ok();
    let script = "flock -n / sh -c 'echo locked; sleep 1000' || flock -n -s / sh -c 'echo shared; sleep 1000'";
    let options = ["-d", "--net", "none", "--name", "locker"];
    let _ = host.run(&options, &rootfs, &["sh", "-c", script]).run().ok();
    Background::new(&host, "locker").wait_for_log("shared");
    // Nor does it keep the host from unmounting the root.
    let _ = host.program("umount").arg(&rootfs).run().ok();
    assert_warns(&host, &[], &host.debian(), true);
}
