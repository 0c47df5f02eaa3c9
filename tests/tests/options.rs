//! docker's and podman's options that other files do not test: the entrypoint, labels and filters, the pidfile.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use tests::{Host, Program, wait_until};

#[test]
fn entrypoint_comes_before_the_command() {
    let host = Host::new();
    let says = |options: &[&str], command: &[&str]| {
        host.run(&[&["--net", "none"], options].concat(), host.debian(), command).run().ok()
    };
    assert_eq!(says(&["--entrypoint", "echo"], &["a b", "c"]), "a b c\n");
    assert_eq!(says(&["--entrypoint", "echo"], &[]), "\n");
    assert_eq!(says(&["--entrypoint", r#"["sh", "-c", "echo $0 $1"]"#], &["a", "b"]), "a b\n");
    assert_eq!(says(&["--entrypoint", ""], &["echo", "a"]), "a\n");
    assert_eq!(says(&["-h", "box"], &["cat", "/proc/sys/kernel/hostname"]), "box\n");
}

#[test]
fn labels_are_kept_and_found_by_filters() {
    let host = Host::new();
    let web = host.background(
        "web",
        &["-l", "tier=front", "--label=tier=back", "--label", "a.b/c=\"d e\""],
        "exec sleep 600",
    );
    let other = host.background("web2", &["--label", "tier"], "exit 3");
    assert_eq!(other.end(), 3);
    let labels = serde_json::json!({ "tier": "back", "a.b/c": "\"d e\"" });
    assert_eq!((&web.inspect()["labels"], &web.seen().unwrap()["labels"]), (&labels, &labels));
    assert_eq!(other.inspect()["labels"], serde_json::json!({ "tier": "" }));
    for (filters, names) in [
        (&["label=tier"][..], "web\nweb2\n"),
        (&["label=tier=back"], "web\n"),
        (&["label=tier=front"], ""),
        (&["label=a.b/c", "label=tier"], "web\n"),
        (&["name=eb"], "web\nweb2\n"),
        (&["name=^web$"], "web\n"),
        (&["status=exited"], "web2\n"),
        (&["status=exited", "status=running", "name=2"], "web2\n"),
    ] {
        let filters = filters.iter().flat_map(|filter| ["--filter", *filter]);
        assert_eq!(host.kontena().args(["list", "-q"]).args(filters).run().ok(), names);
    }
    let line = host.sh(&["--label", "a=b\nkept"], "true").run().refused(125);
    assert!(line.contains("--label") && line.contains("on one line"), "{line}");
}

#[test]
fn ipc_and_uts_can_be_another_containers() {
    let host = Host::new();
    let first = host.background("first", &["--cap-add", "SYS_ADMIN"], "echo $$ > /dev/shm/first; exec sleep 600");
    let links = "for ns in ipc uts mnt; do readlink /proc/self/ns/$ns; done";
    let links_of = |program: Program<'_>| program.run().ok().lines().map(String::from).collect::<Vec<_>>();
    let theirs = links_of(first.exec(&["sh", "-c", links]));
    wait_until("the file", || first.exec(&["test", "-e", "/dev/shm/first"]).run().code == 0);
    let both = ["--ipc", "container:first", "--uts", "container:first"];
    let ours = links_of(host.sh(&both, links));
    assert_eq!((&ours[..2], ours[2] == theirs[2]), (&theirs[..2], false));
    assert_ne!(links_of(host.sh(&["--uts", "container:first"], links))[0], theirs[0]);

    // /dev/shm, System V objects and message queues, and the host name; a restart has them again.
    let script = "cat /dev/shm/first; echo $HOSTNAME; uname -n; echo x > /dev/shm/second; \
                  touch /dev/mqueue/queue; ipcmk -Q > /dev/null; exit 3";
    let options = [&both[..], &["--restart", "on-failure:1"]].concat();
    assert_eq!(host.sh(&options, script).run().code(3).stdout, "2\nfirst\nfirst\n".repeat(2));
    let script = "cat /dev/shm/second; ls /dev/mqueue; tail -n +2 /proc/sysvipc/msg | wc -l";
    assert_eq!(first.exec(&["sh", "-c", script]).run().ok(), "x\nqueue\n2\n");
    let flags = host.sh(&both, "grep ' /dev/shm ' /proc/mounts").run().ok();
    assert!(["nosuid", "nodev", "noexec"].iter().all(|flag| flags.contains(flag)), "{flags}");
    // exec joins them, too; and the launcher is where it was, with a relative path.
    let second = host.background("second", &both, "exec sleep 600");
    assert_eq!(links_of(second.exec(&["sh", "-c", links]))[..2], theirs[..2]);
    let program = host.run(&[&both[..], &["--net", "none", "--restart", "on-failure:1"]].concat(), "debian", &["true"]);
    let _ = program.with(|command| _ = command.current_dir(host.directory())).run().ok();

    for (options, words) in [
        (&["--ipc", "container:nosuch"][..], "no running container"),
        (&["--uts", "container:nosuch"], "no running container"),
        (&["--uts", "container:first", "--hostname", "x"], "--hostname"),
        (&["--ipc", "container:first", "--sysctl", "kernel.shmmax=1"], "shares that namespace"),
        (&["--ipc", "container:first", "--userns", "map=0:0:65536"], "without --userns"),
    ] {
        let line = host.sh(options, "true").run().refused(125);
        assert!(line.contains(words), "{options:?}: {line}");
    }
    let _ = host.background("mapped", &["--userns", "map=0:0:65536"], "exec sleep 600");
    let line = host.sh(&["--ipc", "container:mapped"], "true").run().refused(125);
    assert!(line.contains("--ipc container:mapped") && line.contains("without --userns"), "{line}");
}

#[test]
fn labels_are_read_from_files() {
    let host = Host::new();
    let file = host.directory().join("labels");
    fs::write(&file, "# of the web\n\ntier=back\n  role=a b\nbare\n").unwrap();
    let path = file.to_str().unwrap();
    let web = host.background("web", &["--label", "tier=front", "--label-file", path], "exec sleep 600");
    let labels = serde_json::json!({ "tier": "front", "role": "a b", "bare": "" });
    assert_eq!(web.inspect()["labels"], labels);
    // They are the container's from then on, whatever the file has.
    fs::remove_file(&file).unwrap();
    let _ = host.kontena().args(["restart", "-t", "0", "web"]).run().ok();
    assert_eq!(web.inspect()["labels"], labels);
    let line = host.sh(&["--label-file", path], "true").run().refused(125);
    assert!(line.contains("--label-file") && line.contains("ENOENT"), "{line}");
    fs::write(&file, "good=1\n=bad\n").unwrap();
    let line = host.sh(&["--label-file", path], "true").run().refused(125);
    assert!(line.contains("--label-file") && line.contains("not a label"), "{line}");
}

#[test]
fn directory_of_devices_is_added_with_all_below_it() {
    let host = Host::new();
    let devices = host.directory().join("devices");
    fs::create_dir_all(devices.join("a/b")).unwrap();
    fs::create_dir(devices.join("empty")).unwrap();
    for (node, minor) in [("null", "3"), ("a/b/zero", "5")] {
        let _ = host.program("mknod").arg(devices.join(node)).args(["c", "1", minor]).run().ok();
    }
    symlink("/dev/mem", devices.join("a/mem")).unwrap();
    fs::write(devices.join("file"), "").unwrap();
    let script = "cd /dev/given && find . | sort && echo x > null && head -c 2 a/b/zero | wc -c";
    let given = format!("{}:/dev/given:rw", devices.display());
    let out = host.sh(&["--device", &given], script).run().ok();
    assert_eq!(out, ".\n./a\n./a/b\n./a/b/zero\n./null\n2\n");
    let empty = devices.join("empty");
    let line = host.sh(&["--device", empty.to_str().unwrap()], "true").run().refused(125);
    assert!(line.contains("/empty: use a device of the host"), "{line}");
}

#[test]
fn namespaces_of_the_host_are_shared_on_request() {
    let host = Host::new();
    let links = |options: &[&str]| {
        let out = host.sh(options, "for ns in ipc uts pid; do readlink /proc/self/ns/$ns; done").run().ok();
        out.lines().map(String::from).collect::<Vec<_>>()
    };
    let hosts = host.program("sh").args(["-c", "for ns in ipc uts; do readlink /proc/self/ns/$ns; done"]).run().ok();
    let hosts: Vec<&str> = hosts.lines().collect();
    let own = links(&["--ipc", "private", "--uts=private"]);
    assert!(own[0] != hosts[0] && own[1] != hosts[1], "{own:?}");
    if !Path::new("/dev/shm").exists() {
        let line = host.sh(&["--ipc=host"], "true").run().refused(125);
        assert!(line.contains("mount a tmpfs on the host's /dev/shm"), "{line}");
        return;
    }
    let shared = links(&["--ipc=host", "--uts=host"]);
    assert_eq!(shared[..2], hosts, "{shared:?}");
    assert_ne!(links(&["--uts=host"])[0], hosts[0]);

    // The host's name stays as it is, and is the container's.
    let name = || host.program("uname").arg("-n").run().ok();
    let before = name();
    let script = "echo $HOSTNAME; cat /proc/sys/kernel/hostname /etc/hostname";
    assert_eq!(host.sh(&["--uts=host"], script).run().ok(), before.repeat(3));
    let outcome = host.sh(&["--uts=host"], "echo x > /proc/sys/kernel/hostname").run();
    assert!(outcome.code != 0 && name() == before, "{outcome}");
    // /dev/shm is the host's, without programs and devices.
    let shm = host.program("sh").args(["-c", "stat -c %d:%i /dev/shm"]).run().ok();
    assert_eq!(host.sh(&["--ipc=host"], "stat -c %d:%i /dev/shm").run().ok(), shm);
    let options = host.sh(&["--ipc=host"], "grep ' /dev/shm ' /proc/mounts").run().ok();
    assert!(["nosuid", "nodev", "noexec"].iter().all(|option| options.contains(option)), "{options}");
    let line = host.sh(&["--ipc=host", "--userns=auto"], "true").run().refused(125);
    assert!(line.contains("--ipc host: it needs root, and --userns host"), "{line}");
    let line = host.sh(&["--pid=host"], "true").run().refused(125);
    assert!(line.starts_with("kontena: --pid: with the end of PID 1"), "{line}");
}

#[test]
fn pidfile_has_the_pid_of_pid_1_in_each_life() {
    let host = Host::new();
    let (directory, canary) = (host.directory().join("pids"), host.directory().join("canary"));
    fs::create_dir(&directory).unwrap();
    fs::write(&canary, "unchanged").unwrap();
    let file = directory.join("web.pid");
    // What somebody has put there is replaced, and not followed.
    symlink(&canary, &file).unwrap();
    symlink(&canary, directory.join("web.pid.new")).unwrap();
    let web = host.background("web", &["--restart=always", "--pidfile", file.to_str().unwrap()], "exec sleep 600");
    let pid = || web.seen().unwrap()["pid"].as_u64().map(|pid| format!("{pid}\n"));
    let read = || fs::read_to_string(&file).unwrap();
    assert_eq!(Some(read()), pid());
    assert_eq!(fs::symlink_metadata(&file).unwrap().mode(), 0o100_644);
    let first = read();
    let _ = web.exec(&["sh", "-c", "kill -9 2"]).run();
    wait_until("a second pid", || read() != first);
    wait_until("its own pid", || Some(read()) == pid());
    let _ = web.does("stop");
    assert!(file.exists(), "it stays");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing else does");
    assert_eq!(fs::read_to_string(&canary).unwrap(), "unchanged");

    let line = host.sh(&["--pidfile", "/nosuch/web.pid"], "true").run().refused(125);
    assert!(line.contains("--pidfile /nosuch/web.pid: ENOENT"), "{line}");
    fs::create_dir(directory.join("directory")).unwrap();
    let path = directory.join("directory");
    let line = host.sh(&["--name=x", "--pidfile", path.to_str().unwrap()], "true").run().refused(125);
    assert!(line.contains("EISDIR"), "{line}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}
