//! Bridges besides kontena0, which containers on them reach each other, and conflicts with the host's links and routes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use tests::traffic::{WAIT, assert_page, assert_unreachable, bound};
use tests::{HOST_ADDRESS, HOST_ADDRESS6, Host};

const BLUE: &str = "bridge=blue,subnet=10.88.0.0/24";

#[test]
fn missing_bridge_is_created_and_removed_by_prune() {
    let host = Host::new();
    let before = host.snapshot();
    let options =
        ["--net", "bridge=blue,subnet=10.88.0.0/24,gateway=10.88.0.254,subnet6=fd00:88::/64", "-p", "8080:80"];
    let mut web = host.nginx("web", &options);
    let addresses = host.says("ip", &["-o", "addr", "show", "dev", "blue"]);
    assert!(addresses.contains("10.88.0.254/24") && addresses.contains("fd00:88::fe/64"), "{addresses}");
    assert!(web.address().starts_with("10.88.0.") && web.address6().starts_with("fd00:88::"), "{addresses}");
    let routes = web.network().program("ip").args(["route"]).run().ok();
    assert!(routes.contains("default via 10.88.0.254 dev eth0"), "{routes}");
    for place in [host.place(), &host.neighbour, &web.network()] {
        assert_page(place, &format!("{HOST_ADDRESS}:8080"));
        assert_page(place, &format!("[{HOST_ADDRESS6}]:8080"));
    }
    assert_page(host.place(), "127.0.0.1:8080");
    assert_eq!(host.says("ip", &["-o", "link", "show", "type", "bridge"]).lines().count(), 1, "no other is made");
    let _ = web.stop();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn existing_bridge_is_found_by_its_name() {
    let host = Host::new();
    let run = |net: &str| host.run(&["--net", net], host.demo(), &["/bin/true"]).run();
    let line = run("bridge=blue").refused(125);
    assert!(line.contains("blue") && line.contains("subnet="), "{line}");
    let _ = run(BLUE).ok();
    let _ = run("bridge=blue").ok();
    let _ = run(BLUE).ok();
    for other in ["bridge=blue,subnet=10.88.0.0/25", "bridge=blue,subnet=10.88.0.0/24,gateway=10.88.0.2"] {
        let line = run(other).refused(125);
        assert!(line.contains("blue") && line.contains("10.88.0.1/24"), "{line}");
    }
    host.prune();
    let _ = run("bridge=blue,subnet=10.88.0.0/25").ok();
}

#[test]
fn kontena0_can_have_another_subnet() {
    let host = Host::new();
    let net = "bridge=kontena0,subnet=172.29.0.0/16";
    let _ = host.run(&["--net", net], host.demo(), &["/bin/true"]).run().ok();
    let program = host.run(&["--add-host", "host:host-gateway"], host.debian(), &["cat", "/etc/hosts"]);
    let hosts = program.run().ok();
    assert!(hosts.contains("172.29.0.1\thost\n"), "{hosts}");
    let mut web = host.nginx("web", &["-p", "8080:80"]);
    assert!(web.address().starts_with("172.29."), "{}", web.address());
    assert!(web.address6().starts_with("fd6b:6f6e:ac1d::"), "{}", web.address6());
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    assert_page(&web.network(), &format!("{HOST_ADDRESS}:8080"));
}

#[test]
fn containers_of_different_bridges_do_not_reach_each_other() {
    let host = Host::new();
    let mut red = host.nginx("red", &["-p", "8080:80"]);
    let mut blue = host.nginx("blue", &["--net", BLUE, "-p", "8081:80"]);
    let (red_port, blue_port) = (8080, 8081);
    let (red_network, blue_network) = (red.network(), blue.network());
    for (from, to, port) in [(&red_network, &mut blue, blue_port), (&blue_network, &mut red, red_port)] {
        let (address, address6) = (to.address(), to.address6());
        assert_unreachable(from, &format!("{address}:80"));
        assert_unreachable(from, &format!("[{address6}]:80"));
        // Nor by a datagram, which needs no answer.
        for (address, any) in [(format!("{address}:53"), "0.0.0.0"), (format!("[{address6}]:53"), "[::]")] {
            let server = bound(&to.network(), || UdpSocket::bind(format!("{any}:53")));
            server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let attacker = from.inside(|| UdpSocket::bind(format!("{any}:0"))).unwrap();
            attacker.send_to(b"hello", &address).unwrap();
            assert!(server.recv(&mut [0; 16]).is_err(), "a datagram to {address} came through");
        }
        // Published ports are open to all.
        assert_page(from, &format!("{HOST_ADDRESS}:{port}"));
        assert_page(from, &format!("[{HOST_ADDRESS6}]:{port}"));
    }
    // Containers on one bridge do; the chain separates those on two bridges, not a mistake in this test.
    let mut other = host.nginx("other", &["--net", "bridge=blue"]);
    assert_page(&other.network(), &format!("{}:80", blue.address()));
    assert_page(&other.network(), &format!("[{}]:80", blue.address6()));
    for table in ["ip", "ip6"] {
        let _ = host.says("nft", &["flush", "chain", table, "kontena", "isolate"]);
    }
    assert_page(&red.network(), &format!("{}:80", blue.address()));
    assert_page(&red.network(), &format!("[{}]:80", blue.address6()));
}

#[test]
fn client_of_another_bridge_keeps_its_address() {
    let host = Host::new();
    let mut red = host.nginx("red", &[]);
    let mut blue = host.nginx("blue", &["--net", BLUE, "-p", "7777:7777"]);
    let (address, address6) = (red.address(), red.address6());
    for (to, any, from) in [
        (format!("{HOST_ADDRESS}:7777"), "0.0.0.0:7777", address),
        (format!("[{HOST_ADDRESS6}]:7777"), "[::]:7777", address6),
    ] {
        let listener = bound(&blue.network(), || TcpListener::bind(any));
        let to: SocketAddr = to.parse().unwrap();
        let _connection = red.network().inside(|| TcpStream::connect_timeout(&to, WAIT)).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), from);
    }
}

#[test]
fn neighbour_cannot_reach_a_bridge() {
    let host = Host::new();
    let mut blue = host.nginx("blue", &["--net", BLUE]);
    let (address, address6) = (blue.address(), blue.address6());
    host.neighbour
        .ip(&format!("route add 10.88.0.0/24 via {HOST_ADDRESS}\nroute add fd6b:6f6e:a58::/64 via {HOST_ADDRESS6}\n"));
    assert_unreachable(&host.neighbour, &format!("{address}:80"));
    assert_unreachable(&host.neighbour, &format!("[{address6}]:80"));
    for table in ["ip", "ip6"] {
        let _ = host.says("nft", &["flush", "chain", table, "kontena", "isolate"]);
    }
    assert_page(&host.neighbour, &format!("{address}:80"));
    assert_page(&host.neighbour, &format!("[{address6}]:80"));
}

#[test]
fn flushed_ruleset_is_restored_for_all_bridges() {
    let host = Host::new();
    let mut red = host.nginx("red", &[]);
    let mut blue = host.nginx("blue", &["--net", BLUE]);
    let _ = host.says("nft", &["flush", "ruleset"]);
    assert_page(&red.network(), &format!("{}:80", blue.address()));
    let _green = host.nginx("green", &["-p", "8080:80"]);
    assert_unreachable(&red.network(), &format!("{}:80", blue.address()));
    for place in [&red.network(), &blue.network(), &host.neighbour] {
        assert_page(place, &format!("[{HOST_ADDRESS6}]:8080"));
    }
}

#[test]
fn invalid_bridge_is_refused() {
    let host = Host::new();
    for net in [
        "bridge=",
        "bridge=,subnet=10.88.0.0/24",
        "bridge=a-name-of-16-bytes,subnet=10.88.0.0/24",
        "bridge=a/b,subnet=10.88.0.0/24",
        "bridge=..,subnet=10.88.0.0/24",
        "bridge=all,subnet=10.88.0.0/24",
        "bridge=lo,subnet=10.88.0.0/24",
        "bridge=-x,subnet=10.88.0.0/24",
        "bridge=a b,subnet=10.88.0.0/24",
        "bridge=blue,subnet=10.88.0.1/24",
        "bridge=blue,subnet=10.88.0.0",
        "bridge=blue,subnet=10.88.0.0/31",
        "bridge=blue,subnet=10.0.0.0/7",
        "bridge=blue,subnet=0.0.0.0/8",
        "bridge=blue,subnet=127.0.0.0/24",
        "bridge=blue,subnet=224.0.0.0/24",
        "bridge=blue,subnet=fd00::/64",
        "bridge=blue,subnet=10.88.0.0/24,gateway=10.89.0.1",
        "bridge=blue,subnet=10.88.0.0/24,gateway=10.88.0.0",
        "bridge=blue,subnet=10.88.0.0/24,gateway=10.88.0.255",
        "bridge=blue,subnet=10.88.0.0/24,gateway=x",
        "bridge=blue,subnet=10.88.0.0/24,subnet6=10.88.0.0/24",
        "bridge=blue,subnet=10.88.0.0/24,subnet6=fd00::1/64",
        "bridge=blue,subnet=10.88.0.0/24,subnet6=fd00::/121",
        "bridge=blue,subnet=10.88.0.0/24,subnet6=fe80::/64",
        "bridge=blue,subnet=10.88.0.0/24,subnet6=ff02::/64",
        "bridge=blue,subnet=10.88.0.0/24,subnet=10.89.0.0/24",
        "bridge=blue,gateway=10.88.0.1",
        "bridge=blue,subnet6=fd00::/64",
        "bridge=blue,subnet=10.88.0.0/24,mtu=1279",
        "bridge=blue,subnet=10.88.0.0/24,nosuch=1500",
        "bridge=blue,subnet=10.88.0.0/24,",
        "bridge:blue",
        "bridge,subnet=10.88.0.0/24",
    ] {
        let line = host.run(&["--net", net], host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains(&format!("--net \"{net}\": ")), "{line}");
    }
    assert!(!host.state().exists());
    // Just within the limits.
    for net in [
        "bridge=a.name-of_15-by,subnet=10.88.0.0/30",
        "bridge=blue,subnet=10.89.0.0/24,gateway=10.89.0.254,subnet6=fd00::/120",
    ] {
        let _ = host.run(&["--net", net], host.demo(), &["/bin/true"]).run().ok();
    }
}

#[test]
fn bridge_has_the_mtu_of_the_uplink_or_the_one_that_is_asked_for() {
    let host = Host::new();
    let mtu = |net: &str| host.run(&["--net", net], host.debian(), &["cat", "/sys/class/net/eth0/mtu"]).run();
    // Without a default route.
    assert_eq!(mtu("bridge").ok(), "1500\n");
    host.prune();
    host.ip(
        "link add uplink mtu 1400 type veth peer name far\naddr add 198.51.100.1/24 dev uplink\nlink set uplink up\n\
             link add other mtu 1450 type veth peer name away\naddr add 203.0.113.1/24 dev other\nlink set other up\n\
             route add default via 203.0.113.2 metric 9\nroute add default via 198.51.100.2 metric 5\n",
    );
    // The bridge keeps it when its last port goes.
    for _ in 0..2 {
        assert_eq!(mtu("bridge").ok(), "1400\n");
        assert!(host.says("ip", &["link", "show", "kontena0"]).contains(" mtu 1400 "));
    }
    let blue = format!("{BLUE},mtu=9000");
    assert_eq!(mtu(&blue).ok(), "9000\n");
    assert_eq!(mtu("bridge=blue").ok(), "9000\n");
    assert_eq!(mtu("bridge=blue,mtu=9000").ok(), "9000\n");
    let line = mtu("bridge=blue,mtu=1500").refused(125);
    assert!(line.contains("blue has the MTU 9000") && line.contains("prune"), "{line}");
    let _web = host.nginx("web", &["-p", "8080:80"]);
    let port = host.says("ip", &["-o", "link", "show", "type", "veth"]);
    assert!(port.lines().any(|line| line.contains("master kontena0") && line.contains(" mtu 1400 ")), "{port}");
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
}

#[test]
fn foreign_link_is_reported_and_left_alone() {
    let host = Host::new();
    for (lines, name) in [
        ("link add kontena0 type bridge\n", "kontena0"),
        (
            "link add blue type bridge\nlink set blue addrgenmode none\naddr add 10.88.0.1/24 dev blue\n\
             link set blue up\n",
            "blue",
        ),
        ("link add green type veth peer name other\n", "green"),
    ] {
        host.ip(lines);
        let before = host.snapshot();
        let net = format!("bridge={name},subnet=10.99.0.0/24");
        let line = host.run(&["--net", &net, "-p", "8080:80"], host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains(&format!("the link {name} exists already")) && line.contains("another"), "{line}");
        before.assert_restored(|| host.snapshot().with("state", &before).with("cgroups", &before));
    }
}

#[test]
fn subnet_with_a_route_of_the_host_is_refused() {
    let host = Host::new();
    for (route, net, words) in [
        ("10.0.0.0/8", "bridge", ["10.77.0.0/16", "10.0.0.0/8"]),
        ("10.88.0.128/25", BLUE, ["10.88.0.0/24", "10.88.0.128/25"]),
        ("fd6b:6f6e::/32", "bridge", ["fd6b:6f6e:a4d::/64", "fd6b:6f6e::/32"]),
    ] {
        let via = if route.contains(':') { "2001:db8::2" } else { "192.0.2.2" };
        host.ip(&format!("route add {route} via {via}\n"));
        let before = host.snapshot();
        let line = host.run(&["--net", net], host.demo(), &["/bin/true"]).run().refused(125);
        assert!(words.iter().all(|word| line.contains(word)) && line.contains("--net bridge="), "{line}");
        before.assert_restored(|| host.snapshot().with("state", &before).with("cgroups", &before));
        host.ip(&format!("route del {route} via {via}\n"));
    }
    // Unless it says otherwise, a bridge gets the next subnet that is free, and keeps it.
    host.ip("route add 10.77.3.0/24 via 192.0.2.2\nroute add 10.78.0.0/15 via 192.0.2.2\n");
    let address = || host.run(&[], host.debian(), &["ip", "-4", "-o", "address", "show", "eth0"]).run().ok();
    assert!(address().contains("inet 10.80."), "{}", address());
    host.ip("route del 10.77.3.0/24 via 192.0.2.2\nroute del 10.78.0.0/15 via 192.0.2.2\n");
    assert!(address().contains("inet 10.80."), "{}", address());
    // Also if nothing but its link is left of it.
    host.inside(|| fs::remove_dir_all(tests::REGISTRY).unwrap());
    assert!(address().contains("inet 10.80."), "{}", address());
    host.ip("link del kontena0\n");
    // Another bridge's route counts, too, but not a default route, nor a neighbouring subnet.
    host.ip(
        "route add default via 192.0.2.2\nroute add default via 2001:db8::2\nroute add 10.78.0.0/16 via 192.0.2.2\n",
    );
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    let line = host.run(&["--net", "bridge=blue,subnet=10.77.1.0/24"], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("10.77.0.0/16"), "{line}");
}
