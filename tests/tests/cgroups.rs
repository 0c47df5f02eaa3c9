//! The container's cgroup: parents without controllers, delegated cgroups, hosts without cgroup2.
//!
//! The controller used is hugetlb, which cgroup v1 leaves alone on every machine.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use tests::{Background, Host, Program, Snapshot};

const HUGETLB: [&str; 2] = ["--cgroup-conf", "hugetlb.2MB.max=4m"];

/// Where the hierarchy is mounted.
fn cgroup2(host: &Host) -> &Path {
    host.cgroup().parent().unwrap()
}

/// `kontena run` from a shell, after `script`, in a mount namespace of its own.
fn run_after<'a>(host: &'a Host, script: &str, options: &[&str], command: &[&str]) -> Program<'a> {
    let script = format!("{script} && exec \"$@\"");
    let program = host.program("unshare").args(["-m", "sh", "-c", &script, "sh"]).arg(tests::launcher());
    let program = program.arg("--root").arg(host.state()).args(["run", "--net", "none"]).args(options);
    program.arg(host.debian()).args(command)
}

/// A cgroup of this host's own, as the option takes it.
fn parent(host: &Host, name: &str) -> (PathBuf, String) {
    let path = host.cgroup().join(name);
    fs::create_dir(&path).unwrap();
    let option = format!("/{}", path.strip_prefix(cgroup2(host)).unwrap().display());
    (path, option)
}

#[test]
fn parent_with_processes_is_an_error() {
    let host = Host::new();
    let (path, option) = parent(&host, "busy");
    let sleep = host.program("sleep").arg("60").start();
    fs::write(path.join("cgroup.procs"), sleep.pid().to_string()).unwrap();
    let options = [&["--cgroup-parent", &option], &HUGETLB[..]].concat();
    let line = run_after(&host, "true", &options, &["true"]).run().refused(125);
    assert!(line.contains("EBUSY") && line.contains("hugetlb") && line.contains("processes of its own"), "{line}");
    assert!(!path.join("cgroup.subtree_control").read().contains("hugetlb"));
    // Without a controller to enable, such a parent is as good as any.
    let _ = run_after(&host, "true", &options[..2], &["true"]).run().ok();
    drop(sleep);
    let _ = run_after(&host, "true", &options, &["true"]).run().ok();
}

#[test]
fn threaded_parent_is_an_error() {
    let host = Host::new();
    let (path, option) = parent(&host, "threaded");
    fs::write(path.join("cgroup.type"), "threaded").unwrap();
    let options = [&["--cgroup-parent", &option], &HUGETLB[..]].concat();
    let line = run_after(&host, "true", &options, &["true"]).run().refused(125);
    assert!(line.contains("threaded") && line.contains("domain"), "{line}");
}

#[test]
fn undelegated_controller_is_an_error() {
    let host = Host::new();
    // In a cgroup namespace whose root has no controllers; all is rebuilt from there.
    let inner = host.cgroup().join("inner");
    fs::create_dir(&inner).unwrap();
    let mount = cgroup2(&host).display();
    let script = format!(
        "echo 0 > {}/cgroup.procs && exec unshare -C sh -c 'umount -l {mount} && mount -t cgroup2 none {mount} && \
         exec \"$@\"' sh \"$@\"; false",
        inner.display()
    );
    let _ = run_after(&host, &script, &["--cgroup-parent", "/k"], &["true"]).run().ok();
    let options = [&["--cgroup-parent", "/k"], &HUGETLB[..]].concat();
    let line = run_after(&host, &script, &options, &["true"]).run().refused(125);
    assert!(line.contains("hugetlb") && line.contains("not delegated to this container"), "{line}");
}

/// As in a systemd service with Delegate=yes: in a delegated cgroup.
fn delegated<'a>(host: &'a Host, own: &Path, options: &[&str], command: &[&str]) -> Program<'a> {
    let script = format!("echo $$ > {}/cgroup.procs", own.display());
    run_after(host, &script, options, command)
}

#[test]
fn delegated_cgroup_is_divided() {
    let host = Host::new();
    let (own, _) = parent(&host, "service");
    let options = [&["--name", "web", "--cgroup-parent", "."], &HUGETLB[..]].concat();
    let script = "cat /sys/fs/cgroup/hugetlb.2MB.max; sleep 60";
    let mut running = delegated(&host, &own, &options, &["sh", "-c", script]).start();
    running.wait_for_output("4194304");
    assert!(own.join("web").is_dir());
    assert_eq!(own.join("cgroup.subtree_control").read().trim(), "hugetlb");
    // The launcher has moved, and no other process.
    assert_eq!(own.join(".launcher/cgroup.procs").read().trim(), running.pid().to_string());
    assert_eq!(own.join("cgroup.procs").read(), "");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = running.finish().code(143);
    // Everything is unchanged for the service's next program.
    let names = fs::read_dir(&own).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(names.map(|entry| entry.file_name()).collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new());
    assert_eq!(own.join("cgroup.subtree_control").read().trim(), "");
    host.prune();
}

#[test]
fn delegated_cgroup_is_repaired_after_a_kill() {
    let host = Host::new();
    let (own, _) = parent(&host, "service");
    let options = [&["--name", "web", "--cgroup-parent", "."], &HUGETLB[..]].concat();
    let mut running = delegated(&host, &own, &options, &["sh", "-c", "echo up; sleep 60"]).start();
    running.wait_for_output("up");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = running.finish();
    host.prune();
    assert!(!own.join("web").exists() && !own.join(".launcher").exists());
}

#[test]
fn delegated_cgroup_without_limits_is_unchanged() {
    let host = Host::new();
    let (own, _) = parent(&host, "service");
    let options = ["--name", "web", "--cgroup-parent", "./below"];
    let out = delegated(&host, &own, &options, &["cat", "/proc/self/cgroup"]).run().ok();
    assert!(out.contains("0::/\n"), "{out}");
    assert!(own.join("below").is_dir() && !own.join(".launcher").exists());
    host.prune();
    assert!(!own.join("below").exists());
}

#[test]
fn delegated_cgroup_beside_the_launchers_own_is_found() {
    let host = Host::new();
    // DelegateSubgroup=, as newer systemd has it.
    let (own, _) = parent(&host, "service");
    let subgroup = own.join("supervisor");
    fs::create_dir(&subgroup).unwrap();
    let options = [&["--name", "web", "--cgroup-parent", ".."], &HUGETLB[..]].concat();
    let out = delegated(&host, &subgroup, &options, &["cat", "/sys/fs/cgroup/hugetlb.2MB.max"]).run().ok();
    assert_eq!(out.trim(), "4194304");
    assert!(!own.join(".launcher").exists() && !subgroup.join(".launcher").exists());
    let far = format!("..{}", "/..".repeat(20));
    let line = delegated(&host, &subgroup, &["--cgroup-parent", &far], &["true"]).run().refused(125);
    assert!(line.contains("--cgroup-parent"), "{line}");
}

#[test]
fn cgroup2_is_mounted_on_request() {
    let host = Host::new();
    let before = host.snapshot();
    let mount = cgroup2(&host).display();
    // The mount stays until prune, so both are in one mount namespace. In a cgroup namespace, since a mount from
    // outside of any changes the options of the machine's own.
    let script = format!(
        "umount -l {mount} && {{ unshare -C \"$@\"; code=$?; \
         grep -c 'cgroup2' /proc/self/mountinfo; \"$1\" \"$2\" \"$3\" prune; \
         grep -c cgroup2 /proc/self/mountinfo; ls -d /run/there/cgroup; exit $code; }}"
    );
    let options = ["--cgroup-mount", "/run/there/cgroup", "--cgroup-parent", &host.cgroup_parent_option()];
    let options = [&options, &HUGETLB[..]].concat();
    let outcome = run_after(&host, &script, &options, &["cat", "/sys/fs/cgroup/hugetlb.2MB.max"]).run().code(0);
    assert_eq!(outcome.stdout, "4194304\n1\n0\n");
    assert!(outcome.stderr.contains("/run/there/cgroup"), "ls finds it gone: {outcome}");
    let _ = host.program("rmdir").arg("/run/there").run().code(0);
    before.assert_restored(|| host.snapshot().with("cgroups", &before).with("mounts", &before));
    let machine = |snapshot: &Snapshot| snapshot.lines("mounts").iter().find(|line| line.contains("cgroup2")).cloned();
    assert_eq!(machine(&before), machine(&host.snapshot()));
}

#[test]
fn invalid_cgroup_mount_is_refused() {
    let host = Host::new();
    for (value, wanted) in [
        ("", "absolute"),
        ("run", "absolute"),
        ("/etc", "not an empty directory"),
        ("/etc/hostname", "not an empty directory"),
        ("/proc/nosuch", "ENOENT"),
    ] {
        let without = format!("umount -l {}", cgroup2(&host).display());
        let line = run_after(&host, &without, &["--cgroup-mount", value], &["true"]).run().refused(125);
        assert!(line.contains(wanted), "{value}: {line}");
    }
    // A second mount would change the options of the first.
    let line = run_after(&host, "true", &["--cgroup-mount", "/run/cgroup"], &["true"]).run().refused(125);
    assert!(line.contains(cgroup2(&host).to_str().unwrap()), "{line}");
    // If it is mounted there already, the option changes nothing.
    let mount = cgroup2(&host).to_str().unwrap();
    let options = ["--cgroup-mount", mount, "--cgroup-parent", &host.cgroup_parent_option()];
    let _ = run_after(&host, "true", &options, &["true"]).run().ok();
}

/// The text of a file.
trait Text {
    fn read(&self) -> String;
}

impl Text for PathBuf {
    fn read(&self) -> String {
        fs::read_to_string(self).unwrap()
    }
}

#[test]
fn nested_cgroups_do_not_prevent_the_end() {
    // With CAP_SYS_ADMIN it mounts the hierarchy itself: deeper than PATH_MAX, with invalid UTF-8 in names.
    let host = Host::new();
    // Only SIGKILL ends it, however long after the SIGTERM it comes.
    let script = "trap '' TERM; mkdir /tmp/cg && mount -t cgroup2 none /tmp/cg && cd /tmp/cg && \
                  long=$(printf %0200d 0) && odd=$(printf '\\377\\376 \\033') && \
                  for i in 1 2 3 4 5 6 7 8 9 10; do mkdir wide-$i; done && \
                  i=0 && while [ $i -lt 25 ]; do mkdir $odd && cd -P $odd && mkdir $long beside && cd -P $long; \
                  i=$((i+1)); done && \
                  (sleep 603 & echo $! > cgroup.procs) && echo ready; exec sleep 600";
    let options = ["--cap-add", "SYS_ADMIN", "--tmpfs", "/tmp", "--name", "job"];
    let start = || {
        let mut running = host.sh(&options, script).start();
        running.wait_for_output("ready");
        running
    };
    let job = Background::new(&host, "job");
    // The verbs find the processes in there.
    let running = start();
    assert!(host.kontena().args(["ps", "job"]).run().ok().contains("sleep 603"));
    let _ = host.kontena().args(["kill", "-a", "-s", "USR1", "job"]).run().ok();
    // And its exit status is its own.
    let _ = running.finish().code(138);
    assert!(!job.leaf().exists());
    let running = start();
    let _ = host.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    let _ = running.finish().code(137);
    assert!(!job.leaf().exists() && !job.directory().exists());
    // A background container is listed, and its log is readable.
    let _ = host.sh(&[&options[..], &["-d"]].concat(), &script.replace("exec sleep 600", "exit 7")).run().ok();
    assert_eq!(job.end(), 7);
    let _ = job.does("delete");
    assert!(!job.leaf().exists() && !job.directory().exists());
}

#[test]
fn exit_status_survives_a_cgroup_that_cannot_be_removed() {
    let host = Host::new();
    let shared = host.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/host", shared.display());
    let script = "echo ready; until [ -e /host/end ]; do sleep 0.02; done; exit 7";
    // A launcher with mounts of its own, in which the hierarchy becomes read-only.
    let mounts = |program: Program<'_>| program.through("unshare", &["-m"]).start();
    let read_only = |pid: i32| {
        let script = format!("mount -o remount,bind,ro {}", cgroup2(&host).display());
        let program =
            std::process::Command::new("nsenter").args(["-m", "-t", &pid.to_string(), "sh", "-c", &script]).status();
        assert!(program.unwrap().success());
    };
    let mut running = mounts(host.sh(&["--name", "front", "-v", &volume], script));
    running.wait_for_output("ready");
    let front = Background::new(&host, "front");
    read_only(front.launcher().as_raw());
    fs::write(shared.join("end"), "").unwrap();
    let outcome = running.finish().code(7);
    assert!(outcome.stderr.contains("rmdir") && outcome.stderr.contains("EROFS"), "{outcome}");
    assert!(front.leaf().exists());
    host.prune();
    assert!(!front.leaf().exists() && !front.directory().exists());
    // A background container is listed.
    fs::remove_file(shared.join("end")).unwrap();
    let mut running = mounts(host.sh(&["-d", "--name", "back", "-v", &volume], script));
    running.wait_for_output("back");
    let _ = running.finish().code(0);
    let back = Background::new(&host, "back");
    read_only(back.launcher().as_raw());
    fs::write(shared.join("end"), "").unwrap();
    assert_eq!(back.end(), 7);
    let _ = host.kontena().args(["wait", "back"]).run().code(7);
    let _ = back.does("delete");
    assert!(!back.leaf().exists());
}
