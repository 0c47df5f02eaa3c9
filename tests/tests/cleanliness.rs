//! What a container leaves on its host: nothing, however it ends.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;
use tests::{Container, Host, Snapshot, Traced, leaf_processes, wait_until};

/// Shared resources may stay until `kontena prune`; everything else is released before.
fn of_containers(snapshot: &Snapshot) -> Vec<String> {
    let is_of_all = |line: &&String| ["/.kontena", "/.host", "/.leases"].iter().any(|end| line.ends_with(end));
    let state = snapshot.lines("state").iter().chain(snapshot.lines("registry")).filter(|line| !is_of_all(line));
    let cgroups = snapshot.lines("cgroups").iter().filter(|line| line.contains("/kontena/"));
    let links = snapshot.lines("links").iter().filter(|line| line.contains(" kt"));
    let is_element = |line: &&String| [" : 10.", " : fd"].iter().any(|address| line.contains(address));
    let elements = snapshot.lines("nft ruleset").iter().filter(is_element);
    state.chain(cgroups).chain(links).chain(elements).cloned().collect()
}

/// Asserts that nothing of a container is left. The kernel deletes a link late.
#[track_caller]
fn assert_nothing_of_containers(host: &Host) {
    let mut left = Vec::new();
    for _ in 0..500 {
        left = of_containers(&host.snapshot());
        if left.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("left behind: {left:#?}");
}

#[test]
fn run_changes_nothing_on_the_host() {
    let host = Host::new();
    let before = host.snapshot();
    let web = host.nginx("web", &["-p", "8080:80", "-p", "5353:53/udp", "-p", "127.0.0.1:8081:80"]);
    host.get("127.0.0.1:8080").unwrap();

    // While it runs, this snapshot sees all of its objects.
    let during = of_containers(&host.snapshot());
    for what in [
        "/state/web/journal",
        "/kontena/web",
        ": kt0a4d",
        "tcp . 8080 : 10.77.",
        "udp . 5353 : 10.77.",
        ". 8081 : 10.77.",
    ] {
        assert!(during.iter().any(|line| line.contains(what)), "{what}: {during:#?}");
    }
    assert_eq!(host.snapshot().lines("mounts"), before.lines("mounts"));

    let _ = web.stop();
    assert_nothing_of_containers(&host);
    host.prune();
    before.assert_restored(|| host.snapshot());
    assert!(!host.state().exists());
}

#[test]
fn prune_leaves_a_running_container_alone() {
    let host = Host::new();
    let web = host.nginx("web", &["-p", "8080:80"]);
    let before = host.snapshot();
    host.prune();
    host.get("127.0.0.1:8080").unwrap();
    before.assert_restored(|| host.snapshot());
    let _ = web.stop();
}

#[test]
fn prune_without_containers_changes_nothing() {
    let host = Host::new();
    let before = host.snapshot();
    host.prune();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn enabled_forwarding_stays_enabled() {
    let host = Host::new();
    host.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    let before = host.snapshot();
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    host.prune();
    before.assert_restored(|| host.snapshot());
    assert_eq!(before.lines("forwarding"), ["1"]);
}

#[test]
fn five_hundred_starts_and_stops_leave_no_trace() {
    let host = Host::new();
    let before = host.snapshot();
    let count = AtomicU32::new(0);
    thread::scope(|scope| {
        // Each with a port and a name of its own, and some with neither.
        for worker in 0..4 {
            let (host, count) = (&host, &count);
            scope.spawn(move || {
                let (name, port) = (format!("worker{worker}"), format!("{}:80", 8080 + worker));
                for round in 0..tests::rounds(125) {
                    let options: &[&str] = match round % 3 {
                        0 => &["--net", "none"],
                        1 => &["--name", &name, "-p", &port],
                        _ => &["--name", &name, "--net", "none"],
                    };
                    let _ = host.run(options, host.demo(), &["/bin/true"]).run().ok();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(count.into_inner() as usize, 4 * tests::rounds(125));
    assert_nothing_of_containers(&host);
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn fifty_containers_run_at_once() {
    let host = Host::new();
    let before = host.snapshot();
    let start = |number: u32| {
        let name = format!("web{number}");
        let options = ["--name", &name, "-p", &format!("{}:80", 8000 + number)];
        host.run(&options, host.demo(), &["/usr/sbin/nginx"]).start()
    };
    let mut running: Vec<_> = (0..50).map(|number| (number, start(number))).collect();
    for (number, running) in &mut running {
        wait_until("the page", || {
            assert!(!running.has_ended(), "{}", running.stderr());
            host.get(&format!("127.0.0.1:{}", 8000 + *number)).is_ok()
        });
    }
    for (_, running) in running {
        running.signal(Signal::SIGTERM);
        let _ = running.finish();
    }
    assert_nothing_of_containers(&host);
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn launcher_killed_at_any_moment_is_repaired_by_the_next_command() {
    let host = Host::new();
    let before = host.snapshot();
    let options = ["--name", "victim", "-p", "8080:80", "-v", "/etc/hostname:/etc/hostname"];
    let (mut cut_short, mut ran) = (0, 0);
    for moment in (0..48).step_by(48 / tests::rounds(48)) {
        let victim = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).start();
        thread::sleep(Duration::from_micros(250 * moment));
        victim.signal(Signal::SIGKILL);
        let _ = victim.finish().code(-9);
        *if host.get("127.0.0.1:8080").is_err() { &mut cut_short } else { &mut ran } += 1;

        // The next command, whichever it is: of the same name, of another, or prune.
        match moment % 3 {
            0 => drop(host.run(&options, host.demo(), &["/bin/true"]).run().ok()),
            1 => drop(host.run(&["--name", "other", "-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok()),
            _ => {
                host.prune();
                before.assert_restored(|| host.snapshot());
            }
        }
        assert_nothing_of_containers(&host);
    }
    assert_eq!((cut_short, ran), (tests::rounds(48), 0), "nobody answers after the launcher's death");
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn launcher_killed_at_any_system_call_is_repaired_by_the_next_command() {
    let host = Host::new();
    let before = host.snapshot();
    let mut calls = 0;
    loop {
        let options = ["--name", "victim", "-p", "8080:80"];
        let mut victim = Traced::start(host.run(&options, host.demo(), &["/bin/true"]));
        let ended = (0..=calls).any(|_| victim.next_call().is_none());
        if ended {
            let _ = victim.finish().code(0);
            break;
        }
        victim.kill();
        if calls % 10 == 0 {
            host.prune();
            before.assert_restored(|| host.snapshot());
        } else {
            let _ = host.run(&options, host.demo(), &["/bin/true"]).run().ok();
            assert!(
                !host.state().join("victim").exists() && !host.cgroup_parent().join("victim").exists(),
                "call {calls}"
            );
        }
        calls += tests::few();
    }
    assert!(calls > 50, "only {calls} system calls?");
    assert_nothing_of_containers(&host);
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn launcher_killed_after_any_message_to_the_kernel_is_repaired_by_the_next_command() {
    let host = Host::new();
    let before = host.snapshot();
    let fresh =
        |options: &[&'static str]| [&["--name", "victim", "-p", "8080:80", "-p", "5353:53/udp"], options].concat();
    let networks = [
        fresh(&["--net", "bridge"]),
        fresh(&[
            "--net",
            "bridge=blue,subnet=10.88.0.0/24,subnet6=fd00:88::/64",
            "--ip",
            "10.88.0.9",
            "--ip6",
            "fd00:88::7:7",
        ]),
        vec!["--name", "victim", "--net", "macvlan=eth0", "--ip", "192.0.2.7/24", "--ip6", "2001:db8::7/64"],
    ];
    for options in &networks {
        // The first time it creates a bridge, the second time the bridge exists.
        for is_first in [true, false] {
            let mut messages = 0;
            loop {
                if !is_first {
                    let _ = host.run(options, host.demo(), &["/bin/true"]).run().ok();
                }
                let mut victim = Traced::start(host.run(options, host.demo(), &["/bin/true"]));
                if !goes_on_after_messages(&mut victim, messages + 1) {
                    let _ = victim.finish().code(0);
                    break;
                }
                victim.kill();
                if messages % 2 == 0 {
                    host.prune();
                    before.assert_restored(|| host.snapshot());
                } else {
                    let _ = host.run(options, host.demo(), &["/bin/true"]).run().ok();
                    assert_nothing_of_containers(&host);
                    assert!(host.leases().is_empty());
                    if is_first {
                        host.prune();
                        before.assert_restored(|| host.snapshot());
                    }
                }
                messages += tests::few().min(3);
            }
            assert!(messages >= 2, "only {messages} messages with {options:?}?");
            host.prune();
            before.assert_restored(|| host.snapshot());
        }
    }
}

/// Continues until it has sent `count` messages, by netlink or otherwise, and is about to make its next call; `false`
/// if it ends before.
fn goes_on_after_messages(traced: &mut Traced, count: usize) -> bool {
    let mut sent = 0;
    while let Some((number, _)) = traced.next_call() {
        if sent == count {
            return true;
        }
        sent += usize::from(number == nix::libc::SYS_sendto as u64);
    }
    false
}

#[test]
fn port_of_a_launcher_killed_before_publishing_goes_to_the_next() {
    let host = Host::new();
    let _first = host.nginx("first", &[]);
    let options = ["--name", "victim", "-p", "8080:80"];
    let mut victim = Traced::start(host.run(&options, host.demo(), &["/usr/sbin/nginx"]));
    // Its address and port are in the journal; the next step would be the element of the map.
    while let Some((number, arguments)) = victim.next_call() {
        let of_map = |bytes: &[u8]| bytes.windows(9).any(|window| window == b"published");
        if number == nix::libc::SYS_sendto as u64 && of_map(&victim.read(arguments[1], arguments[2])) {
            break;
        }
    }
    victim.kill();
    let web = host.nginx("web", &["-p", "8080:80"]);
    // After a while without events, the victim's resources are released.
    wait_until("the end of what the victim held", || !host.state().join("victim").exists());
    host.get("127.0.0.1:8080").unwrap();
    host.neighbour.get("192.0.2.1:8080").unwrap();
    let _ = web.stop();
}

#[test]
fn init_that_starts_after_its_launchers_death_exits() {
    let host = Host::new();
    let mut victim = Traced::start(host.run(&["--name", "victim", "--net", "none"], host.demo(), &["/usr/sbin/nginx"]));
    victim.first_child();
    // The launcher has told it already that the network is ready.
    victim.kill_before_its_child_begins();
    let leaf = host.cgroup_parent().join("victim");
    wait_until("the end of the container", || leaf_processes(&leaf).is_empty());
    host.prune();
    assert_nothing_of_containers(&host);
}

#[test]
fn launcher_killed_while_serving_is_repaired_by_the_next_command() {
    let host = Host::new();
    let before = host.snapshot();
    for next in 0..3 {
        let web = host.nginx("victim", &["-p", "8080:80"]);
        let leaf = web.leaf();
        host.get("127.0.0.1:8080").unwrap();
        web.signal(Signal::SIGKILL);
        let _ = web.into_running().finish().code(-9);
        wait_until("the end of the container", || leaf_processes(&leaf).is_empty());
        // Left by the dead, and to be seen.
        assert!(leaf.exists() && host.state().join("victim/journal").exists());

        match next {
            0 => drop(host.nginx("victim", &["-p", "8080:80"]).stop()),
            1 => drop(host.nginx("other", &["-p", "8080:80"]).stop()),
            _ => host.prune(),
        }
        assert_nothing_of_containers(&host);
    }
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn prune_killed_halfway_is_completed_by_the_next() {
    let host = Host::new();
    let before = host.snapshot();
    for moment in 0..10 {
        let _ = host.run(&["-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok();
        let prune = host.kontena().arg("prune").start();
        thread::sleep(Duration::from_micros(300 * moment));
        prune.signal(Signal::SIGKILL);
        let _ = prune.finish();
        host.prune();
        before.assert_restored(|| host.snapshot());
    }
}

#[test]
fn exactly_one_of_two_starts_with_one_name_succeeds() {
    let host = Host::new();
    for _ in 0..20 {
        let start = || host.run(&["--net", "none", "--name", "one"], host.debian(), &["sleep", "600"]).start();
        let (winner, lines) = tests::winner_of([start(), start(), start()]);
        for line in lines {
            assert!(line.contains("one") && line.contains("running"), "{line}");
        }
        winner.signal(Signal::SIGTERM);
        let _ = winner.finish().code(143);
    }
    assert_nothing_of_containers(&host);
}

#[test]
fn refused_start_leaves_the_running_container_alone() {
    let host = Host::new();
    let web = host.nginx("web", &["-p", "8080:80"]);
    let before = host.snapshot();
    for options in [&["--name", "web"][..], &["--name", "web", "--net", "none"], &["--name", "web", "-p", "8081:80"]] {
        let _ = host.run(options, host.demo(), &["/bin/true"]).run().refused(125);
    }
    host.get("127.0.0.1:8080").unwrap();
    before.assert_restored(|| host.snapshot());
    let _ = web.stop();
}

#[test]
fn invalid_names_create_nothing() {
    let host = Host::new();
    let before = host.snapshot();
    let long = "a".repeat(129);
    let longer = "a".repeat(5000);
    for name in [
        "../x",
        "..",
        ".",
        "/",
        "",
        "/etc",
        "a/b",
        "a/../../b",
        ".hidden",
        "-x",
        "_x",
        "+x",
        "a b",
        "a\nb",
        "a\tb",
        "ü",
        "a:b",
        "a*",
        "a\\b",
        "~",
        &long,
        &longer,
    ] {
        let _ = host.run(&["--net", "none", "--name", name], host.demo(), &["/bin/true"]).run().refused(125);
    }
    before.assert_restored(|| host.snapshot());
    assert!(!host.directory().join("x").exists());
    for name in ["a", "0", "Web-1.2_3+4", "a..b", &"a".repeat(128)] {
        let _ = host.run(&["--net", "none", "--name", name], host.demo(), &["/bin/true"]).run().ok();
    }
}

#[test]
fn default_state_and_cgroup_are_named_kontena() {
    let host = Host::new();
    // As on a separate host: its cgroup is the whole hierarchy, and /run is empty.
    host.inside(|| {
        let at = host.cgroup().parent().unwrap();
        nix::mount::mount(Some(host.cgroup()), at, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>).unwrap();
    });
    let rootfs = host.debian();
    let before = host.snapshot();
    let program = host.program(tests::launcher()).args(["run", "--net", "none", "--name", "web"]);
    let running = program.arg(rootfs).args(["sh", "-c", "echo ready; exec sleep 600"]).start();
    let mut container = Container::new(&host, "web", running);
    container.wait_for_output("ready");
    assert!(host.inside(|| fs::exists("/run/kontena/web/journal")).unwrap());
    assert_eq!(leaf_processes(&container.leaf()).len(), 2);
    container.signal(Signal::SIGTERM);
    let _ = container.into_running().finish().code(143);
    let _ = host.program(tests::launcher()).arg("prune").run().ok();
    assert!(!host.inside(|| fs::exists("/run/kontena")).unwrap());
    before.assert_restored(|| host.snapshot());
}
