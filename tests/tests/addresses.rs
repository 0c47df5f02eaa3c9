//! Addresses of containers: the requested ones, and never one that another container has.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use tests::traffic::assert_page;
use tests::{Container, HOST_ADDRESS, Host, leaf_processes, wait_until};

const BLUE: &str = "bridge=blue,subnet=10.88.0.0/24";

#[test]
fn requested_addresses_are_assigned() {
    let host = Host::new();
    let options = ["--ip", "10.77.9.9", "--ip6", "fd6b:6f6e:a4d::dead:beef", "--mac-address", "02:42:ac:11:00:02"];
    let mut web = host.nginx("web", &[&options[..], &["-p", "8080:80"]].concat());
    assert_eq!((web.address(), web.address6()), ("10.77.9.9".into(), "fd6b:6f6e:a4d::dead:beef".into()));
    let link = web.network().program("ip").args(["-o", "link", "show", "eth0"]).run().ok();
    assert!(link.contains("02:42:ac:11:00:02"), "{link}");
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    assert_page(&host.neighbour, "[2001:db8::1]:8080");
    let _ = web.stop();
    // At once again, while the kernel may still be busy with the link of the last one.
    for _ in 0..5 {
        let _ = host.run(&["--ip", "10.77.9.9"], host.demo(), &["/bin/true"]).run().ok();
    }
}

#[test]
fn taken_address_is_refused_before_anything_is_started() {
    let host = Host::new();
    let mut web = host.nginx("web", &["--ip", "10.77.9.9"]);
    let _other = host.nginx("other", &["--ip6", "fd6b:6f6e:a4d::dead:beef"]);
    assert_eq!(web.address6(), "fd6b:6f6e:a4d::909");
    let before = host.snapshot();
    for (options, holder) in [
        (["--ip", "10.77.9.9"], "web"),
        // The IPv6 address follows from the IPv4 address.
        (["--ip6", "fd6b:6f6e:a4d::909"], "web"),
        (["--ip6", "fd6b:6f6e:a4d::dead:beef"], "other"),
    ] {
        let line = host.run(&options, host.demo(), &["nosuch"]).run().refused(125);
        assert!(line.contains(options[1]) && line.contains(&format!("the container {holder} has")), "{line}");
        before.assert_restored(|| host.snapshot());
    }
    let _ = web.stop();
    let _ = host.run(&["--ip", "10.77.9.9"], host.demo(), &["/bin/true"]).run().ok();
}

#[test]
fn address_of_a_killed_launcher_is_free() {
    let host = Host::new();
    let web = host.nginx("web", &["--ip", "10.77.9.9", "--ip6", "fd6b:6f6e:a4d::dead:beef"]);
    let leaf = web.leaf();
    web.signal(Signal::SIGKILL);
    let _ = web.into_running().finish();
    wait_until("the end of the container", || leaf_processes(&leaf).is_empty());
    assert!(host.leases().iter().any(|lease| lease.ends_with("-10.77.9.9")), "{:?}", host.leases());
    let options = ["--ip", "10.77.9.9", "--ip6", "fd6b:6f6e:a4d::dead:beef"];
    let _ = host.run(&options, host.demo(), &["/bin/true"]).run().ok();
    assert!(host.leases().is_empty());
}

#[test]
fn unusable_address_is_refused() {
    let host = Host::new();
    for (net, options, words) in [
        ("bridge", ["--ip", "10.78.0.5"], ["10.78.0.5", "not in the subnet"]),
        ("bridge", ["--ip", "10.77.0.1"], ["10.77.0.1", "kontena0 itself"]),
        ("bridge", ["--ip", "10.77.0.0"], ["10.77.0.0", "network or broadcast address"]),
        ("bridge", ["--ip", "10.77.255.255"], ["10.77.255.255", "network or broadcast address"]),
        ("bridge", ["--ip6", "fd00::5"], ["fd00::5", "not in the subnet"]),
        ("bridge", ["--ip6", "fd6b:6f6e:a4d::1"], ["fd6b:6f6e:a4d::1", "kontena0 itself"]),
        ("bridge", ["--ip6", "fd6b:6f6e:a4d::"], ["fd6b:6f6e:a4d::", "network or broadcast address"]),
        (BLUE, ["--ip", "10.77.9.9"], ["10.77.9.9", "not in the subnet of blue"]),
        ("bridge", ["--ip", "10.77.9.9/16"], ["--ip", "remove it"]),
        ("bridge", ["--ip", "fd00::5"], ["fd00::5", "not an IPv4 address"]),
        ("bridge", ["--ip6", "10.77.9.9"], ["10.77.9.9", "not an IPv6 address"]),
        ("bridge", ["--ip", "10.77.9"], ["10.77.9", "not an IPv4 address"]),
        ("bridge", ["--ip", ""], ["--ip", "not an IPv4 address"]),
        ("bridge", ["--mac-address", "01:00:5e:00:00:01"], ["01:00:5e:00:00:01", "not a unicast hardware address"]),
        ("bridge", ["--mac-address", "00:00:00:00:00:00"], ["00:00:00:00:00:00", "not a unicast hardware address"]),
        ("bridge", ["--mac-address", "02:42:ac:11:00"], ["02:42:ac:11:00", "not a unicast hardware address"]),
        (
            "bridge",
            ["--mac-address", "02:42:ac:11:00:02:03"],
            ["02:42:ac:11:00:02:03", "not a unicast hardware address"],
        ),
        ("bridge", ["--mac-address", "02:42:ac:11:0:+2"], ["02:42:ac:11:0:+2", "not a unicast hardware address"]),
        ("none", ["--ip", "10.77.9.9"], ["--ip", "bridge"]),
        ("host", ["--mac-address", "02:42:ac:11:00:02"], ["--mac-address", "bridge"]),
    ] {
        let before = host.snapshot();
        let options = [&["--net", net], &options[..]].concat();
        let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(125);
        assert!(words.iter().all(|word| line.contains(word)), "{options:?}: {line}");
        before.assert_restored(|| host.snapshot().with("state", &before).with("cgroups", &before));
    }
    for ip in ["10.77.0.2", "10.77.255.254"] {
        let _ = host.run(&["--ip", ip], host.demo(), &["/bin/true"]).run().ok();
    }
}

#[test]
fn containers_that_start_at_once_get_different_addresses() {
    let host = Host::new();
    let start = |number: usize| {
        let name = format!("c{number}");
        // Two bridges; one has hardly more addresses than needed.
        let net = if number < 20 { "bridge=blue,subnet=10.88.0.0/27" } else { "bridge" };
        let options = ["--name", &name, "--net", net];
        Container::new(&host, &name, host.run(&options, host.demo(), &["/usr/sbin/nginx"]).start())
    };
    // Once more, after the first round.
    for _ in 0..2 {
        let mut all: Vec<_> = (0..40).map(start).collect();
        let mut addresses = BTreeSet::new();
        for container in &mut all {
            assert!(addresses.insert(container.address()) && addresses.insert(container.address6()), "{addresses:?}");
        }
        assert_eq!(addresses.len(), 80);
        for address in &addresses {
            let address = if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") };
            wait_until("the page", || host.get(&address).is_ok());
        }
    }
}

#[test]
fn address_requested_by_many_at_once_goes_to_exactly_one() {
    let host = Host::new();
    for _ in 0..10 {
        let start = |name| {
            let options = ["--name", name, "--ip", "10.77.9.9"];
            host.run(&options, host.debian(), &["sleep", "600"]).start()
        };
        let (winner, lines) = tests::winner_of(["a", "b", "c"].map(start));
        for line in lines {
            assert!(line.contains("10.77.9.9") && line.contains("has this address"), "{line}");
        }
        winner.signal(Signal::SIGTERM);
        let _ = winner.finish().code(143);
        // The kernel takes it back when it comes to that.
        wait_until("the end of its link", || !host.says("ip", &["-o", "link"]).contains(" kt0a4d0909"));
    }
}

#[test]
fn full_bridge_is_an_error() {
    let host = Host::new();
    let net = "bridge=blue,subnet=10.88.0.0/29";
    let options = |name| ["--name", name, "--net", net];
    let start = |name| host.nginx(name, &["--net", net]);
    let containers = ["a", "b", "c", "d", "e"].map(start);
    let line = host.run(&options("f"), host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("blue is full"), "{line}");
    // A kill releases only the links, when the kernel deletes them.
    drop(containers);
    wait_until("the end of the links", || !host.says("ip", &["-o", "link"]).contains(" kt0a58"));
    let _ = host.run(&options("f"), host.demo(), &["/bin/true"]).run().ok();
}
