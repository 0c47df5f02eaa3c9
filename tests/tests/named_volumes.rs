//! Volumes by name: filled from the root at their first use, kept, removed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::fcntl::{OFlag, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkfifo;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use tests::{Container, Host, Program, images};

/// The directory of a host's volumes.
fn volumes(host: &Host) -> PathBuf {
    host.directory().join("volumes")
}

/// `kontena --volumepath VOLUMES` and these arguments.
fn kontena<'a>(host: &'a Host, arguments: &[&str]) -> Program<'a> {
    host.kontena().arg("--volumepath").arg(volumes(host)).args(arguments)
}

/// `kontena run --net none OPTIONS` in this root.
fn run<'a>(host: &'a Host, options: &[&str], rootfs: &Path, command: &[&str]) -> Program<'a> {
    let parent = host.cgroup_parent_option();
    let program = kontena(host, &["run", "--net", "none", "--cgroup-parent", &parent]);
    program.args(options).arg(rootfs).args(command)
}

/// The same of a script in the Debian root.
fn sh<'a>(host: &'a Host, options: &[&str], script: &str) -> Program<'a> {
    run(host, options, &host.debian(), &["sh", "-c", script])
}

/// The names that `kontena volume ls` prints.
fn names(host: &Host) -> Vec<String> {
    kontena(host, &["volume", "ls", "-q"]).run().ok().lines().map(Into::into).collect()
}

/// A directory with a file in the Debian root.
fn data(host: &Host) -> PathBuf {
    let path = host.debian().join("srv/data");
    host.inside(|| {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("file"), "content\n").unwrap();
    });
    path
}

#[test]
fn named_volume_is_filled_once_and_stays() {
    let host = Host::new();
    let start = |name: &str| {
        let arguments = ["run", "-d", "--name", name, "-p", "8080:80", "-v", "html:/var/www"];
        let parent = host.cgroup_parent_option();
        let program = kontena(&host, &arguments).args(["--cgroup-parent", &parent]).arg(host.demo());
        let _ = program.arg("/usr/sbin/nginx").run().ok();
        tests::wait_for("the page", || host.get("127.0.0.1:8080").ok())
    };
    let stop = |name: &str| {
        let _ = kontena(&host, &["delete", "--force", name]).run().ok();
    };
    let write = |page: &str| host.inside(|| fs::write(host.demo().join("var/www/index.html"), page).unwrap());
    write("of the root");
    let seen = start("first");
    assert!(seen.ends_with("of the root"), "{seen}");
    let line = kontena(&host, &["volume", "rm", "html"]).run().refused(125);
    assert!(line.contains("html is in use: first uses it"), "{line}");
    stop("first");
    // What the root has by now is of no interest any more.
    write("of the root again");
    fs::write(volumes(&host).join("html/_data/index.html"), "of the volume").unwrap();
    let seen = start("second");
    assert!(seen.ends_with("of the volume"), "{seen}");
    let seen = kontena(&host, &["volume", "inspect", "html"]).run().ok();
    assert!(seen.contains("\"second\"") && seen.contains("/volumes/html/_data\""), "{seen}");
    stop("second");
    assert_eq!(names(&host), ["html"]);
    assert_eq!(kontena(&host, &["volume", "rm", "html"]).run().ok(), "html\n");
    assert!(!volumes(&host).join("html").exists());
    let line = kontena(&host, &["volume", "rm", "html"]).run().refused(125);
    assert!(line.contains("no such volume: html"), "{line}");
}

#[test]
fn volume_gets_owners_modes_times_and_links_but_no_devices() {
    let host = Host::new();
    let path = data(&host);
    host.inside(|| {
        fs::create_dir(path.join("sub")).unwrap();
        symlink("../../etc/passwd", path.join("sub/link")).unwrap();
        mkfifo(&path.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    });
    let script =
        "cd \"$0\" && mknod device c 1 3 && chown 7:8 sub file . && chmod 4750 file && chown -h 9:9 sub/link &&
        chmod 3771 . && chmod 700 sub && touch -d @1000000000 file sub .";
    let _ = host.program("sh").args(["-c", script]).arg(&path).run().ok();
    let list = "cd /srv/data; find . -printf '%p %y %U:%G %m %l\\n' | sort; stat -c %Y file sub .";
    let wanted = ". d 7:8 3771 \n./file f 7:8 4750 \n./sub d 7:8 700 \n./sub/link l 9:9 777 ../../etc/passwd\n\
                  1000000000\n1000000000\n1000000000\n";
    assert_eq!(sh(&host, &["-v", "data:/srv/data"], list).run().ok(), wanted);
    assert_eq!(sh(&host, &["--mount", "type=volume,src=data,dst=/srv/data,readonly"], list).run().ok(), wanted);
    // No other user of the host can reach it.
    for (path, mode) in [("", 0o700), ("data", 0o1700)] {
        let found = fs::metadata(volumes(&host).join(path)).unwrap();
        assert_eq!((found.permissions().mode() & 0o7777, found.uid()), (mode, 0), "{path}");
    }
    // Without its contents, and where the root has nothing.
    let list = "stat -c '%u:%g %a' /srv/data /new/place; ls -A /srv/data /new/place";
    let options = ["-v", "empty:/srv/data:nocopy", "-v", "new:/new/place"];
    assert_eq!(sh(&host, &options, list).run().ok(), "7:8 3771\n0:0 755\n/new/place:\n\n/srv/data:\n");
    // Its options are a volume's.
    let outcome = sh(&host, &["-v", "data:/srv/data:ro"], "echo x > /srv/data/file").run();
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome}");
    let script = "echo mine > /srv/data/mine; stat -c %u /srv/data/mine";
    assert_eq!(sh(&host, &["-u", "7:8", "-v", "data:/srv/data"], script).run().ok(), "7\n");
    let line = sh(&host, &["-v", "file:/etc/passwd"], "true").run().refused(125);
    assert!(line.contains("/etc/passwd") && line.contains("only a directory"), "{line}");
}

#[test]
fn hostile_root_does_not_get_the_hosts_files_into_a_volume() {
    let host = Host::new();
    let canary = host.directory().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "secret").unwrap();
    let path = data(&host);
    let root = host.debian();
    host.inside(|| {
        // Of the target itself, on the way to it, and below it; absolute, and more `..` than there are directories.
        symlink(&canary, root.join("srv/absolute")).unwrap();
        symlink(format!("../../../../../../../..{}", canary.display()), root.join("srv/relative")).unwrap();
        symlink("/", root.join("srv/root")).unwrap();
        symlink("/proc/1/root", root.join("srv/magic")).unwrap();
        symlink(&canary, path.join("directory")).unwrap();
        symlink(canary.join("secret"), path.join("link")).unwrap();
    });
    for (index, target) in
        ["absolute", "relative", "magic", "data", "root/srv/data", "root/srv/absolute"].into_iter().enumerate()
    {
        let volume = format!("v{index}:/srv/{target}");
        let _ = sh(&host, &["-v", &volume], "true").run();
    }
    let script = "grep -rsl secret \"$0\" | grep . && exit 1; find \"$0\" -name file -type f | wc -l";
    let found = host.program("sh").args(["-c", script]).arg(volumes(&host)).run().ok();
    assert_eq!(found.trim(), "2", "the files of data, twice");
    assert!(fs::symlink_metadata(volumes(&host).join("v3/_data/link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(canary.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 1);
}

#[test]
fn links_exchanged_while_a_volume_is_filled_lead_nowhere() {
    let host = Host::new();
    let canary = host.directory().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "secret").unwrap();
    let path = data(&host);
    host.inside(|| {
        fs::create_dir(path.join("sub")).unwrap();
        fs::write(path.join("sub/file"), "content\n").unwrap();
        symlink(&canary, path.join("swap")).unwrap();
    });
    let script = "cd \"$0\"; while :; do mv -T --exchange sub swap 2> /dev/null ||
        { mv -T sub tmp; mv -T swap sub; mv -T tmp swap; }; done";
    let running = host.program("sh").args(["-c", script]).arg(&path).start();
    for index in 0..20 {
        let volume = format!("v{index}:/srv/data");
        let outcome = sh(&host, &["-v", &volume], "true").run();
        assert!([0, 125].contains(&outcome.code), "{outcome}");
    }
    drop(running);
    let script = "grep -rsl secret \"$0\" | grep . && exit 1; find \"$0\" -name file -type f | grep -c .";
    let _ = host.program("sh").args(["-c", script]).arg(volumes(&host)).run().ok();
}

#[test]
fn volume_is_filled_by_one_of_many_starts_at_once() {
    let host = Host::new();
    let path = data(&host);
    host.inside(|| (0..300).for_each(|index| fs::write(path.join(format!("f{index}")), "x").unwrap()));
    let start = |_| {
        sh(&host, &["-v", "data:/srv/data", "-v", "data:/srv/again"], "ls /srv/data /srv/again | grep -c .").start()
    };
    let all: Vec<_> = (0..6).map(start).collect();
    for running in all {
        // 301 names twice, and the headings of ls.
        assert_eq!(running.finish().ok(), "604\n");
    }
    assert_eq!(fs::read_dir(volumes(&host).join("data")).unwrap().count(), 1);
}

#[test]
fn volumes_without_a_name_go_with_their_container() {
    let host = Host::new();
    data(&host);
    assert_eq!(sh(&host, &["-v", "/srv/data"], "cat /srv/data/file").run().ok(), "content\n");
    assert_eq!(names(&host), [""; 0]);
    // Deeper than a path, or a process's open files.
    let options = ["--name", "deep", "-v", "/srv/data"];
    let mut deep = Container::new(&host, "deep", sh(&host, &options, "echo ready; exec sleep 4000000000").start());
    deep.wait_for_output("ready");
    let open = |at: &OwnedFd, name: &str| openat(at, name, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    let mut at = OwnedFd::from(fs::File::open(volumes(&host).join(&names(&host)[0]).join("_data")).unwrap());
    for _ in 0..3000 {
        mkdirat(&at, "d", Mode::from_bits_truncate(0o755)).unwrap();
        at = open(&at, "d");
    }
    let _ = deep.stop();
    assert_eq!(names(&host), [""; 0]);
    // In the background they stay with the record.
    let start = |options: &[&str]| {
        let options = [&["-d", "--name", "a", "-v", "/srv/data", "-v", "named:/srv/data/named"], options].concat();
        let _ = sh(&host, &options, "true").run().ok();
        let _ = kontena(&host, &["wait", "a"]).run();
    };
    start(&["--rm"]);
    tests::wait_until("its end", || names(&host) == ["named"]);
    start(&[]);
    assert_eq!(names(&host).len(), 2);
    let _ = kontena(&host, &["delete", "-v", "a"]).run().ok();
    assert_eq!(names(&host), ["named"]);
    start(&[]);
    let _ = kontena(&host, &["delete", "a"]).run().ok();
    let left = names(&host);
    assert_eq!(left.len(), 2, "{left:?}");
    let left = left.iter().find(|name| *name != "named").unwrap();
    assert!(left.len() == 64, "{left}");
    // One that another container uses by its name is not its own.
    let volume = format!("{left}:/srv/data");
    assert_eq!(sh(&host, &["-v", &volume], "cat /srv/data/file").run().ok(), "content\n");
    assert_eq!(kontena(&host, &["volume", "prune"]).run().ok(), format!("{left}\n"));
    assert_eq!(names(&host), ["named"]);
    assert_eq!(kontena(&host, &["volume", "prune", "-a"]).run().ok(), "named\n");
    assert_eq!(names(&host), [""; 0]);
}

#[test]
fn killed_launcher_leaves_no_volume_without_a_name() {
    let host = Host::new();
    data(&host);
    let options = ["--name", "idle", "-v", "/srv/data", "-v", "kept:/kept"];
    let running = sh(&host, &options, "echo ready; exec sleep 4000000000").start();
    let mut idle = Container::new(&host, "idle", running);
    idle.wait_for_output("ready");
    assert_eq!(names(&host).len(), 2);
    // Even with -a, what is in use stays; also for another state directory.
    assert_eq!(kontena(&host, &["volume", "prune", "-a"]).run().ok(), "");
    let other = host.kontena_in(host.directory().join("other"));
    let line = other.arg("--volumepath").arg(volumes(&host)).args(["volume", "rm", "kept"]).run().refused(125);
    assert!(line.contains("another --root"), "{line}");
    idle.signal(Signal::SIGKILL);
    let _ = idle.into_running().finish();
    let _ = kontena(&host, &["prune"]).run().ok();
    assert_eq!(names(&host), ["kept"]);
}

#[test]
fn volume_is_whole_or_not_there() {
    let host = Host::new();
    let path = data(&host);
    // Without space for all of it.
    fs::create_dir(volumes(&host)).unwrap();
    let mount = |options: &str| {
        let program = host.program("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(volumes(&host));
        let _ = program.run().ok();
    };
    mount("size=64k,mode=700");
    host.inside(|| fs::write(path.join("large"), vec![b'x'; 200_000]).unwrap());
    for volume in ["/srv/data", "data:/srv/data"] {
        let line = sh(&host, &["-v", volume], "true").run().refused(125);
        assert!(line.contains("ENOSPC") && line.contains("--volumepath"), "{line}");
    }
    assert_eq!(names(&host), ["data"]);
    let left = || host.inside(|| fs::read_dir(volumes(&host).join("data")).unwrap().count());
    assert_eq!(left(), 0);
    mount("remount,size=4g");
    // Killed in the middle.
    host.inside(|| fs::File::create(path.join("large")).unwrap().set_len(3 << 30).unwrap());
    let running = sh(&host, &["--name", "killed", "-v", "data:/srv/data"], "true").start();
    let new = volumes(&host).join("data/_new");
    tests::wait_until("the copy", || host.inside(|| new.join("large").exists()));
    running.signal(Signal::SIGKILL);
    let _ = running.finish();
    assert!(host.inside(|| new.exists() && !new.with_file_name("_data").exists()), "it was killed too late");
    host.inside(|| fs::remove_file(path.join("large")).unwrap());
    assert_eq!(sh(&host, &["-v", "data:/srv/data"], "ls /srv/data").run().ok(), "file\n");
    assert_eq!(left(), 1);
    // A signal ends a copy, too.
    host.inside(|| fs::File::create(path.join("large")).unwrap().set_len(3 << 30).unwrap());
    let running = sh(&host, &["-v", "other:/srv/data"], "true").start();
    tests::wait_until("the copy", || host.inside(|| volumes(&host).join("other/_new/large").exists()));
    running.signal(Signal::SIGTERM);
    let _ = running.finish().code(143);
    assert_eq!(host.inside(|| fs::read_dir(volumes(&host).join("other")).unwrap().count()), 0);
}

#[test]
fn only_what_kontena_made_is_a_volume() {
    let host = Host::new();
    let foreign = volumes(&host).join("foreign");
    fs::create_dir_all(foreign.join("_data")).unwrap();
    fs::write(foreign.join("_data/file"), "x").unwrap();
    symlink(&foreign, volumes(&host).join("link")).unwrap();
    fs::write(volumes(&host).join("text"), "x").unwrap();
    assert_eq!(names(&host), [""; 0]);
    for name in ["foreign", "link", "text"] {
        let _ = kontena(&host, &["volume", "rm", name]).run().refused(125);
        let line = sh(&host, &["-v", &format!("{name}:/x")], "true").run().refused(125);
        assert!(line.contains(name), "{line}");
    }
    assert_eq!(kontena(&host, &["volume", "prune", "-a"]).run().ok(), "");
    assert!(foreign.join("_data/file").exists() && volumes(&host).join("link").is_symlink());
    // Nor what is mounted in one.
    assert_eq!(kontena(&host, &["volume", "create", "v1", "v2"]).run().ok(), "v1\nv2\n");
    assert_eq!(sh(&host, &["-v", "v1:/x"], "mkdir -p /x/a/b").run().ok(), "");
    let bind = |at: &str| {
        let program = host.program("mount").arg("--bind").arg(&foreign).arg(volumes(&host).join(at));
        let _ = program.run().ok();
    };
    for at in ["v1/_data/a/b", "v1/_data"] {
        bind(at);
        let line = kontena(&host, &["volume", "rm", "v1"]).run().refused(125);
        assert!(line.contains("EBUSY"), "{at}: {line}");
        assert!(foreign.join("_data/file").exists(), "{at}");
        let script = "while read -r _ _ _ _ at _; do case $at in *v1*) umount $at;; esac; done < /proc/self/mountinfo";
        let _ = host.program("sh").args(["-c", script]).run().ok();
        let _ = sh(&host, &["-v", "v1:/x"], "mkdir -p /x/a/b").run().ok();
    }
    assert_eq!(kontena(&host, &["volume", "create"]).run().ok().trim().len(), 64);
}

#[test]
fn volumes_are_filled_from_images_and_below_overlays() {
    let host = Host::new();
    let intruder = format!("{}:/run/intruder:ro", tests::intruder().display());
    for image in ["demo.erofs", "demo.squashfs"] {
        let volume = format!("{image}:/var/www");
        let options = ["--tmpfs", "/run", "-v", &intruder, "-v", &volume];
        let page = run(&host, &options, &images().join(image), &["/run/intruder", "look", "/var/www/index.html"]);
        let page = page.run().ok();
        assert!(page.contains("<html"), "{page}");
    }
    data(&host);
    for options in [&["--overlay"][..], &["--read-only"]] {
        let volume = format!("v{}:/srv/data", options[0]);
        let options = [options, &["-v", &volume]].concat();
        let out = sh(&host, &options, "cat /srv/data/file; echo more >> /srv/data/file").run().ok();
        assert_eq!(out, "content\n");
        let out = sh(&host, &options, "cat /srv/data/file").run().ok();
        assert_eq!(out, "content\nmore\n");
    }
}

#[test]
fn files_of_a_volume_have_the_ids_of_each_containers_user_namespace() {
    let host = Host::new();
    host.set_aside("kontena:100000:131072\n");
    let intruder = format!("{}:/run/intruder:ro", tests::intruder().display());
    let look = |options: &[&str]| {
        let options = [&["--tmpfs", "/run", "-v", &intruder, "-v", "data:/var/www"], options].concat();
        run(&host, &options, &images().join("demo.erofs"), &["/run/intruder", "owner", "/var/www/index.html"]).run()
    };
    for options in [&["--userns", "auto"][..], &[], &["--userns", "map=0:300000:65536"]] {
        let outcome = look(options);
        // A kernel whose tmpfs has no idmapped mounts says so.
        if outcome.code != 0 && outcome.stderr.contains("idmap") {
            continue;
        }
        assert_eq!(outcome.ok(), "0:0\n", "{options:?}");
    }
    assert_eq!(fs::metadata(volumes(&host).join("data/_data/index.html")).unwrap().uid(), 0);
}
