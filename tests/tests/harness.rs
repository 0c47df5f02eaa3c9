//! The harness itself: pretend hosts are isolated from each other, and change nothing on the machine.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use tests::{HOST_ADDRESS, Host, NEIGHBOUR_ADDRESS, Snapshot, wait_until};

/// Held for writing by tests that look at the whole machine and must run alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// The machine's processes that are in a pid namespace.
fn processes_of(namespace: &PathBuf) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|entry| fs::read_link(entry.path().join("ns/pid")).is_ok_and(|link| link == *namespace)).count()
}

/// Uses a host as tests do, and leaves as much behind as possible.
fn use_a_host() -> (Host, PathBuf) {
    let host = Host::new();
    let web = host.nginx("web", &["-p", "8080:80", "-v", "/etc/hostname:/etc/hostname"]);
    host.get("127.0.0.1:8080").unwrap();
    let _ = host.debian();
    let _ = host.program("sh").args(["-c", "setsid sleep 600 > /dev/null 2>&1 &"]).run().ok();
    let namespace = host.pid_namespace();
    assert!(processes_of(&namespace) >= 4, "its PID 1, cat, the launcher, sleep");
    drop(web);
    (host, namespace)
}

#[test]
fn tests_leave_the_machine_unchanged() {
    let _alone = MACHINE.write().unwrap();
    let before = Snapshot::of_machine();
    let (host, namespace) = use_a_host();
    let during = Snapshot::of_machine();
    assert_eq!(during.lines("directories").len(), 1 + before.lines("directories").len());
    assert!(during.lines("cgroups").len() > before.lines("cgroups").len());
    for kind in ["links", "addresses", "routes", "nft ruleset", "mounts", "forwarding"] {
        assert_eq!(during.lines(kind), before.lines(kind), "{kind}, while a host is there");
    }
    drop(host);
    before.assert_restored(Snapshot::of_machine);
    assert_eq!(processes_of(&namespace), 0);
}

#[test]
fn panicking_test_leaves_the_machine_unchanged() {
    let _alone = MACHINE.write().unwrap();
    let before = Snapshot::of_machine();
    let mut namespace = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let (host, its_namespace) = use_a_host();
        namespace = Some(its_namespace);
        let _web = host.nginx("other", &["-p", "8081:80"]);
        panic!("as a test does that fails");
    }));
    assert!(result.is_err());
    before.assert_restored(Snapshot::of_machine);
    assert_eq!(processes_of(&namespace.unwrap()), 0);
}

#[test]
fn hosts_are_isolated_from_each_other() {
    let _shared = MACHINE.read().unwrap();
    let (first, second) = (Host::new(), Host::new());
    let _listener = first.inside(|| TcpListener::bind("127.0.0.1:8080")).unwrap();
    let _other = second.inside(|| TcpListener::bind("127.0.0.1:8080")).unwrap();
    assert!(first.inside(|| TcpListener::bind("127.0.0.1:8080")).is_err());
    assert_ne!(first.directory(), second.directory());
    assert_ne!(first.cgroup(), second.cgroup());
    assert_ne!(first.pid_namespace(), second.pid_namespace());
}

#[test]
fn neighbour_is_on_the_same_lan() {
    let _shared = MACHINE.read().unwrap();
    let host = Host::new();
    for (from, to) in [(host.place(), NEIGHBOUR_ADDRESS), (&host.neighbour, HOST_ADDRESS)] {
        let other = if to == HOST_ADDRESS { host.place() } else { &host.neighbour };
        let listener = other.inside(|| TcpListener::bind((to, 7777))).unwrap();
        let connection = from.inside(|| std::net::TcpStream::connect((to, 7777))).unwrap();
        assert_eq!(connection.peer_addr().unwrap(), listener.local_addr().unwrap());
    }
}

#[test]
fn snapshot_sees_every_change() {
    let _shared = MACHINE.read().unwrap();
    let host = Host::new();
    let before = host.snapshot();
    fs::create_dir(host.cgroup().join("new")).unwrap();
    fs::create_dir_all(host.state().join("web")).unwrap();
    host.ip("link add new type veth peer name other\naddr add 198.51.100.1/24 dev new\n");
    let _ = host.says("nft", &["add", "table", "ip", "new"]);
    host.inside(|| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        nix::mount::mount(Some("tmpfs"), "/run", Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
    });
    let sleep = host.program("sleep").arg("60").start();
    let during = host.snapshot();
    for kind in ["cgroups", "state", "links", "addresses", "nft ruleset", "forwarding", "mounts", "processes"] {
        assert_ne!(during.lines(kind), before.lines(kind), "{kind}");
    }
    drop(sleep);
    wait_until("the end of sleep", || host.snapshot().lines("processes") == before.lines("processes"));
}

#[test]
fn instruments_exist_only_on_their_disk() {
    let _shared = MACHINE.read().unwrap();
    let found = |root: &Path, program: &str| {
        let directories = ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin"].map(|directory| root.join(directory));
        directories.into_iter().any(|directory| directory.join(program).exists())
    };
    for program in ["sh", "ip", "nft", "mount", "cat"] {
        assert!(found(&tests::instruments(), program), "{program}");
        // This proves that kontena needs only the kernel.
        assert!(tests::instruments() == Path::new("/") || !found(Path::new("/"), program), "{program}");
    }
}
