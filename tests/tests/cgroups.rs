//! Where a container's cgroup goes: parents that can have no controllers, delegated cgroups, hosts without cgroup2.
//!
//! The controller used is hugetlb, which cgroup v1 leaves alone on every machine.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use tests::{Host, Program, Snapshot};

const HUGETLB: [&str; 2] = ["--cgroup-conf", "hugetlb.2MB.max=4m"];

/// Where the hierarchy is mounted.
fn cgroup2(host: &Host) -> &Path {
    host.cgroup().parent().unwrap()
}

/// `kontena run` by a shell which does `script` first, in a mount namespace of its own.
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
fn parent_with_processes_of_its_own_is_told() {
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
fn threaded_parent_is_told() {
    let host = Host::new();
    let (path, option) = parent(&host, "threaded");
    fs::write(path.join("cgroup.type"), "threaded").unwrap();
    let options = [&["--cgroup-parent", &option], &HUGETLB[..]].concat();
    let line = run_after(&host, "true", &options, &["true"]).run().refused(125);
    assert!(line.contains("threaded") && line.contains("domain"), "{line}");
}

#[test]
fn controller_that_is_not_delegated_is_told() {
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

/// As a service of systemd's with Delegate=yes is started: in a cgroup that is its own to divide.
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
    // The launcher made way, and nobody else was moved.
    assert_eq!(own.join(".launcher/cgroup.procs").read().trim(), running.pid().to_string());
    assert_eq!(own.join("cgroup.procs").read(), "");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = running.finish().code(143);
    // All is as it was, for what the service may start next.
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
fn delegated_cgroup_without_limits_is_left_as_it_is() {
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
fn cgroup2_is_mounted_where_asked_for() {
    let host = Host::new();
    let before = host.snapshot();
    let mount = cgroup2(&host).display();
    // What is mounted stays until prune, so both are in one mount namespace. In a cgroup namespace, since a mount from
    // outside of any changes the options of the machine's own.
    let script = format!(
        "umount -l {mount} && {{ unshare -C \"$@\"; code=$?; grep -c 'cgroup2' /proc/self/mountinfo; \"$1\" \"$2\" \"$3\" prune; \
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
fn cgroup_mount_that_makes_no_sense_is_refused() {
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
    // Where it is mounted already, this says nothing new.
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
