//! Root file systems: directories, images, and writable layers over them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use tests::{Container, Host, images};

const IMAGES: [&str; 2] = ["demo.erofs", "demo.squashfs"];

/// Whether anything of the host's mounts is left in a container: a mount that is not below its root.
#[track_caller]
fn assert_only_the_containers_mounts(mountinfo: &str) {
    let mounts: Vec<Vec<&str>> = mountinfo.lines().map(|line| line.split(' ').collect()).collect();
    let root = mounts.iter().filter(|fields| fields[4] == "/").count();
    assert_eq!(root, 1, "one root: {mountinfo}");
    let known = |target: &str| {
        ["/", "/dev", "/proc", "/sys", "/etc", "/intruder", "/tmp", "/run"]
            .iter()
            .any(|known| target == *known || *known != "/" && target.starts_with(&format!("{known}/")))
    };
    assert!(mounts.iter().all(|fields| known(fields[4])), "{mountinfo}");
}

#[test]
fn image_is_a_root_and_is_unchanged() {
    let host = Host::new();
    for image in IMAGES.map(|name| images().join(name)) {
        let content = fs::read(&image).unwrap();
        let running = host
            .run(
                &["--name", "web", "-p", "8080:80", "--tmpfs", "/tmp", "--tmpfs", "/run"],
                &image,
                &["/usr/sbin/nginx"],
            )
            .start();
        let mut web = Container::new(&host, "web", running);
        let init = web.init();
        tests::wait_until("the page", || host.get("127.0.0.1:8080").is_ok() || web.has_ended());
        assert!(host.get("127.0.0.1:8080").is_ok(), "{}: {}", image.display(), web.stderr());
        let mountinfo = fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
        assert_only_the_containers_mounts(&mountinfo);
        let root = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
        assert!(root.contains(image.extension().unwrap().to_str().unwrap()), "{root}");
        let _ = web.stop();
        assert!(fs::read(&image).unwrap() == content);
    }
    // Nothing holds a loop device any more; another test's disappears with its container.
    tests::wait_until("the loop devices to be given back", || {
        let all = fs::read_dir("/sys/block").unwrap().flatten();
        let mut files = all.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
        !files.any(|file| file.contains("demo."))
    });
}

#[test]
fn read_only_root_without_mountpoints_works() {
    let host = Host::new();
    let bare = images().join("bare.erofs");
    let options = ["--net", "none", "-v", "/:/new/volume:ro", "--tmpfs", "/other"];
    let _ = host.run(&options, &bare, &["/true"]).run().ok();
    let intruder = format!("{}:/intruder:ro", tests::intruder().display());
    let write = ["call", &nix::libc::SYS_mkdirat.to_string(), "-100", "0"];
    let out = host.run(&["--net", "none", "-v", &intruder], &bare, &["/intruder"]).args(write).run().ok();
    // EFAULT comes first for every file system; the mount shows the type.
    assert!(out.starts_with("EFAULT"), "{out}");
    let running = host
        .run(&["--net", "none", "--name", "idle", "-v", &intruder], &bare, &["/intruder", "time", "4000000000"])
        .start();
    let mut idle = Container::new(&host, "idle", running);
    let init = idle.init();
    tests::wait_until("the payload", || tests::leaf_processes(&idle.leaf()).len() == 2);
    let mountinfo = || fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
    tests::wait_until("the root", || !mountinfo().contains("lowerdir=/"));
    let root = mountinfo().lines().rfind(|line| line.split(' ').nth(4) == Some("/")).unwrap().to_owned();
    assert!(root.split(' ').nth(5).unwrap().starts_with("ro"), "{root}");
}

#[test]
fn overlay_in_memory_is_discarded() {
    let host = Host::new();
    let rootfs = host.debian();
    let before = host.inside(|| fs::read_dir(&rootfs).unwrap().count());
    let script =
        "touch /new /etc/new; rm /etc/debian_version; ls /new /etc/new; stat -c %a /; cat /proc/self/mountinfo";
    let out = host.sh(&["--overlay"], script).run().ok();
    assert!(out.starts_with("/etc/new\n/new\n755\n"), "{out}");
    assert_only_the_containers_mounts(out.split_once("755\n").unwrap().1);
    assert_eq!(host.inside(|| fs::read_dir(&rootfs).unwrap().count()), before);
    assert!(host.inside(|| rootfs.join("etc/debian_version").exists()));
    let outcome = host.sh(&["--overlay", "--read-only"], "touch /new").run();
    assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{outcome}");
}

#[test]
fn overlay_in_a_directory_persists() {
    let host = Host::new();
    let layer = host.directory().join("layer");
    fs::create_dir(&layer).unwrap();
    let option = format!("--overlay={}", layer.display());
    let _ = host.sh(&[&option], "echo kept > /kept; rm /etc/debian_version").run().ok();
    assert_eq!(fs::read_to_string(layer.join("upper/kept")).unwrap(), "kept\n");
    assert_eq!(host.sh(&[&option], "cat /kept; [ -e /etc/debian_version ] || echo gone").run().ok(), "kept\ngone\n");
    // A root of another kind under the same.
    let intruder = format!("{}:/intruder:ro", tests::intruder().display());
    let image = images().join(IMAGES[0]);
    let options = ["--net", "none", &option, "-v", &intruder];
    let _ = host.run(&options, image, &["/bin/true"]).run().ok();
}

#[test]
fn invalid_rootfs_is_refused() {
    let host = Host::new();
    let file = |name: &str, content: &[u8]| {
        let path = host.directory().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    // An image that consists of only its magic number.
    let squashfs = [&b"hsqs"[..], &[0; 4096]].concat();
    for path in [file("text", b"not an image"), file("empty", b""), file("broken", &squashfs), "/dev/null".into()] {
        let before = host.snapshot();
        let line = host.run(&["--net", "none"], &path, &["/bin/true"]).run().refused(125);
        assert!(line.contains(path.to_str().unwrap()) && line.contains("image"), "{line}");
        before.assert_restored(|| host.snapshot());
    }
    let overlay = format!("--overlay={}", host.directory().join("text").display());
    let line = host.run(&["--net", "none", &overlay], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("--overlay") && line.contains("directory"), "{line}");
    assert!(!Path::new("/nosuch").exists());
    let _ = host.run(&["--net", "none", "--overlay=/nosuch"], host.demo(), &["/bin/true"]).run().refused(125);
}
