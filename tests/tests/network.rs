//! The container's network, used for real: nginx behind a published port, and which clients reach it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use tests::traffic::{WAIT, assert_page, assert_unreachable, is_fin_answered, udp_round_trip};
use tests::{Container, HOST_ADDRESS, Host, NEIGHBOUR_ADDRESS, Place, patience, wait_until};

/// Writes a sysctl of the network namespace of `place`.
fn sysctl(place: &Place, name: &str, value: &str) {
    place.inside(|| fs::write(format!("/proc/sys/net/ipv4/{name}"), value)).unwrap();
}

/// Makes `place` send what is for 127.0.0.1 to `gateway`, as a hostile neighbour would: CVE-2020-8558.
fn send_loopback_to(place: &Place, gateway: &str) {
    sysctl(place, "conf/all/route_localnet", "1");
    place.ip(&format!("addr del 127.0.0.1/8 dev lo\nroute add 127.0.0.1/32 via {gateway}\n"));
}

#[test]
fn published_port_is_served_on_127_0_0_1() {
    let host = Host::new();
    assert_unreachable(host.place(), "127.0.0.1:8080");
    let _web = host.nginx("web", &["-p", "8080:80"]);
    assert_page(host.place(), "127.0.0.1:8080");
    assert_page(host.place(), "127.0.0.9:8080");
}

#[test]
fn published_port_is_served_on_the_hosts_own_address() {
    let host = Host::new();
    let _web = host.nginx("web", &["-p", "8080:80"]);
    assert_page(host.place(), &format!("{HOST_ADDRESS}:8080"));
    assert_unreachable(host.place(), &format!("{HOST_ADDRESS}:8081"));
}

#[test]
fn published_port_is_served_to_the_neighbour() {
    let host = Host::new();
    assert_unreachable(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    let web = host.nginx("web", &["-p", "8080:80"]);
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    let _ = web.stop();
    assert_unreachable(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
}

#[test]
fn container_sees_the_neighbours_own_address() {
    let host = Host::new();
    let mut container = host.nginx("web", &["-p", "5353:53/udp"]);
    let network = container.network();
    let from = udp_round_trip(&host.neighbour, &format!("{HOST_ADDRESS}:5353"), &network, "0.0.0.0:53").unwrap();
    assert_eq!(from.ip().to_string(), NEIGHBOUR_ADDRESS);
}

#[test]
fn port_published_on_127_0_0_1_is_served_only_there() {
    let host = Host::new();
    let _web = host.nginx("web", &["-p", "127.0.0.1:8080:80"]);
    assert_page(host.place(), "127.0.0.1:8080");
    assert_unreachable(host.place(), &format!("{HOST_ADDRESS}:8080"));
    assert_unreachable(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
}

#[test]
fn port_published_on_one_address_is_served_only_there() {
    let host = Host::new();
    host.ip("addr add 192.0.2.3/24 dev eth0\n");
    let _web = host.nginx("web", &["-p", "192.0.2.3:8080:80"]);
    for place in [host.place(), &host.neighbour] {
        assert_page(place, "192.0.2.3:8080");
        assert_unreachable(place, &format!("{HOST_ADDRESS}:8080"));
    }
    assert_unreachable(host.place(), "127.0.0.1:8080");
}

#[test]
fn one_port_of_two_addresses_can_go_to_two_containers() {
    let host = Host::new();
    host.ip("addr add 192.0.2.3/24 dev eth0\n");
    let mut first = host.nginx("first", &["-p", &format!("{HOST_ADDRESS}:5353:53/udp")]);
    let mut second = host.nginx("second", &["-p", "192.0.2.3:5353:53/udp"]);
    let (first, second) = (first.network(), second.network());
    let ask = |address: &str, server| udp_round_trip(&host.neighbour, &format!("{address}:5353"), server, "0.0.0.0:53");
    assert!(ask(HOST_ADDRESS, &first).is_ok());
    assert!(ask("192.0.2.3", &second).is_ok());
    assert!(ask("192.0.2.3", &first).is_err());
}

#[test]
fn several_ports_are_published_at_once() {
    let host = Host::new();
    let _web = host.nginx("web", &["-p", "8080:80", "-p", "8081:80/tcp", "--publish=127.0.0.1:8082:80"]);
    for port in [8080, 8081, 8082] {
        assert_page(host.place(), &format!("127.0.0.1:{port}"));
    }
    assert_unreachable(&host.neighbour, &format!("{HOST_ADDRESS}:8082"));
}

#[test]
fn udp_port_is_published_on_every_address() {
    let host = Host::new();
    let mut container = host.nginx("web", &["-p", "5353:53/udp"]);
    let network = container.network();
    let round_trip = |place: &Place, to: &str| udp_round_trip(place, to, &network, "0.0.0.0:53");
    round_trip(host.place(), "127.0.0.1:5353").unwrap();
    round_trip(host.place(), &format!("{HOST_ADDRESS}:5353")).unwrap();
    round_trip(&host.neighbour, &format!("{HOST_ADDRESS}:5353")).unwrap();
    // Of the same number, but of another protocol, or not published.
    assert_unreachable(host.place(), "127.0.0.1:5353");
    assert!(round_trip(&host.neighbour, &format!("{HOST_ADDRESS}:53")).is_err());
}

#[test]
fn udp_flow_follows_the_port_to_the_next_container() {
    let host = Host::new();
    let client = host.neighbour.inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    for name in ["first", "second"] {
        let mut container = host.nginx(name, &["-p", "5353:53/udp"]);
        let network = container.network();
        let server = network.inside(|| UdpSocket::bind("0.0.0.0:53")).unwrap();
        server.set_read_timeout(Some(WAIT)).unwrap();
        for _ in 0..3 {
            let mut buffer = [0; 16];
            client.send_to(b"question", (HOST_ADDRESS, 5353)).unwrap();
            let (_, from) = server.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{name}: {error}"));
            server.send_to(b"answer", from).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
        let _ = container.stop();
    }
}

#[test]
fn container_reaches_the_neighbour_with_the_hosts_address() {
    let host = Host::new();
    let mut container = host.nginx("web", &[]);
    let network = container.network();
    let listener = host.neighbour.inside(|| TcpListener::bind("0.0.0.0:7777")).unwrap();
    let to: SocketAddr = format!("{NEIGHBOUR_ADDRESS}:7777").parse().unwrap();
    let _connection = network.inside(|| TcpStream::connect_timeout(&to, WAIT)).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), HOST_ADDRESS, "masqueraded");

    let from = udp_round_trip(&network, &format!("{NEIGHBOUR_ADDRESS}:7777"), &host.neighbour, "0.0.0.0:7777").unwrap();
    assert_eq!(from.ip().to_string(), HOST_ADDRESS, "masqueraded");
}

#[test]
fn hosts_own_traffic_is_not_masqueraded() {
    let host = Host::new();
    host.ip("addr add 192.0.2.3/24 dev eth0\n");
    let _web = host.nginx("web", &[]);
    let listener = host.neighbour.inside(|| TcpListener::bind("0.0.0.0:7777")).unwrap();
    let socket = host.inside(|| UdpSocket::bind("192.0.2.3:0")).unwrap();
    let server = host.neighbour.inside(|| UdpSocket::bind("0.0.0.0:7777")).unwrap();
    server.set_read_timeout(Some(WAIT)).unwrap();
    socket.send_to(b"hello", (NEIGHBOUR_ADDRESS, 7777)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(from.ip().to_string(), "192.0.2.3");
    drop(listener);
}

#[test]
fn container_reaches_another_by_its_address() {
    let host = Host::new();
    let mut web = host.nginx("web", &[]);
    let mut other = host.nginx("other", &[]);
    let address = web.address();
    assert_page(&other.network(), &format!("{address}:80"));
    assert_unreachable(&other.network(), &format!("{address}:81"));
    let listener = web.network().inside(|| TcpListener::bind("0.0.0.0:7777")).unwrap();
    let to: SocketAddr = format!("{address}:7777").parse().unwrap();
    let _connection = other.network().inside(|| TcpStream::connect_timeout(&to, WAIT)).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), other.address(), "not masqueraded");
}

#[test]
fn container_reaches_another_by_its_published_port() {
    let host = Host::new();
    let _web = host.nginx("web", &["-p", "8080:80"]);
    let mut other = host.nginx("other", &[]);
    assert_page(&other.network(), &format!("{HOST_ADDRESS}:8080"));
    assert_unreachable(&other.network(), &format!("{HOST_ADDRESS}:80"));
}

#[test]
fn container_reaches_itself_by_its_published_port() {
    let host = Host::new();
    let mut web = host.nginx("web", &["-p", "8080:80"]);
    assert_page(&web.network(), &format!("{HOST_ADDRESS}:8080"));
    assert_unreachable(&web.network(), &format!("{HOST_ADDRESS}:80"));
}

#[test]
fn host_reaches_the_container_by_its_address() {
    let host = Host::new();
    let mut web = host.nginx("web", &[]);
    assert_page(host.place(), &format!("{}:80", web.address()));
}

#[test]
fn net_none_has_only_loopback() {
    let host = Host::new();
    let mut web = host.nginx("web", &["--net", "none"]);
    let network = web.network();
    // wait_for_nginx has got the page by 127.0.0.1 there: the permitted twin.
    let links = links_of(&network);
    assert_eq!(links.len(), 1, "{links:?}");
    assert!(links[0].contains("lo:") && links[0].contains("LOOPBACK,UP"), "{links:?}");
    assert_unreachable(&network, &format!("{HOST_ADDRESS}:80"));
    assert_eq!(host.says("ip", &["-o", "link", "show", "type", "bridge"]), "");
    assert_eq!(host.says("nft", &["list", "ruleset"]), "");
}

#[test]
fn net_bridge_has_loopback_and_eth0() {
    let host = Host::new();
    let mut web = host.nginx("web", &[]);
    let links = links_of(&web.network());
    assert_eq!(links.len(), 2, "{links:?}");
    assert!(links[0].contains("lo:") && links[1].contains("eth0@"), "{links:?}");
    let routes = web.network().program("ip").args(["-4", "route"]).run().ok();
    assert!(routes.contains("default via 10.77.0.1 dev eth0"), "{routes}");
}

#[test]
fn net_host_serves_on_the_hosts_own_port() {
    let host = Host::new();
    assert_unreachable(host.place(), "127.0.0.1:80");
    let _web = host.nginx("web", &["--net", "host"]);
    assert_page(host.place(), "127.0.0.1:80");
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:80"));
}

#[test]
fn neighbour_cannot_route_to_a_container() {
    let host = Host::new();
    let mut web = host.nginx("web", &["-p", "8080:80"]);
    let address = format!("{}:80", web.address());
    host.neighbour.ip(&format!("route add 10.77.0.0/16 via {HOST_ADDRESS}\n"));
    assert_unreachable(&host.neighbour, &address);
    let listener = web.network().inside(|| UdpSocket::bind("0.0.0.0:53")).unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let attacker = host.neighbour.inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    attacker.send_to(b"hello", format!("{}:53", web.address())).unwrap();
    assert!(listener.recv(&mut [0; 16]).is_err(), "a datagram from the neighbour came through");

    // Published ports still work; the chain stops the neighbour, not a mistake in this test.
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    let _ = host.says("nft", &["flush", "chain", "ip", "kontena", "isolate"]);
    assert_page(&host.neighbour, &address);
}

#[test]
fn neighbour_cannot_probe_ports_without_a_connection() {
    let host = Host::new();
    let mut web = host.nginx("web", &[]);
    host.neighbour.ip(&format!("route add 10.77.0.0/16 via {HOST_ADDRESS}\n"));
    let closed = SocketAddrV4::new(web.address().parse().unwrap(), 81);
    assert!(!is_fin_answered(&host.neighbour, NEIGHBOUR_ADDRESS, closed));
    let _ = host.says("nft", &["flush", "chain", "ip", "kontena", "isolate"]);
    wait_until("an answer", || is_fin_answered(&host.neighbour, NEIGHBOUR_ADDRESS, closed));
}

#[test]
fn neighbour_cannot_reach_127_0_0_1_of_the_host() {
    let host = Host::new();
    let _web = host.nginx("web", &["-p", "127.0.0.1:8080:80"]);
    let _service = host.nginx("service", &["--net", "host"]);
    assert_page(host.place(), "127.0.0.1:80");
    // As kube-proxy and others leave it: nothing but the chain is in the way.
    sysctl(host.place(), "conf/all/route_localnet", "1");
    send_loopback_to(&host.neighbour, HOST_ADDRESS);
    assert_unreachable(&host.neighbour, "127.0.0.1:80");
    assert_unreachable(&host.neighbour, "127.0.0.1:8080");

    let _ = host.says("nft", &["flush", "chain", "ip", "kontena", "guard"]);
    assert_page(&host.neighbour, "127.0.0.1:80");
}

#[test]
fn container_cannot_reach_127_0_0_1_of_the_host() {
    let host = Host::new();
    let mut web = host.nginx("web", &["-p", "127.0.0.1:8080:80"]);
    let _service = host.nginx("service", &["--net", "host"]);
    // As a payload with CAP_NET_RAW could by hand-made frames.
    let network = web.network();
    send_loopback_to(&network, "10.77.0.1");
    assert_unreachable(&network, "127.0.0.1:80");
    assert_unreachable(&network, "127.0.0.1:8080");
    assert_page(host.place(), "127.0.0.1:80");

    let _ = host.says("nft", &["flush", "chain", "ip", "kontena", "guard"]);
    assert_page(&network, "127.0.0.1:80");
}

#[test]
fn route_localnet_is_set_only_on_the_bridge() {
    let host = Host::new();
    let _web = host.nginx("web", &[]);
    assert_eq!(route_localnet(&host, "kontena0"), "1");
    assert_eq!(route_localnet(&host, "eth0"), "0");
    assert_eq!(route_localnet(&host, "all"), "0");
}

fn route_localnet(host: &Host, link: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
    host.inside(|| fs::read_to_string(path)).unwrap().trim().into()
}

#[test]
fn tables_of_others_are_unchanged() {
    let host = Host::new();
    let theirs = "table inet other {
        set blocked { type ipv4_addr; elements = { 198.51.100.7 } }
        chain input { type filter hook input priority 0; policy accept; ip saddr @blocked drop; }
    }
    table ip nat { chain prerouting { type nat hook prerouting priority -100; tcp dport 9999 redirect to :80; }; }
    ";
    let _ = host.program("nft").args(["-f", "-"]).input(theirs.as_bytes()).run().ok();
    let before = host.says("nft", &["list", "ruleset"]);

    let web = host.nginx("web", &["-p", "8080:80"]);
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    let during = host.says("nft", &["list", "ruleset"]);
    assert!(during.starts_with(&before), "before: {before}\nduring: {during}");
    let tables: Vec<&str> = during.lines().filter(|line| line.starts_with("table ")).collect();
    assert_eq!(
        tables,
        ["table inet other {", "table ip nat {", "table ip kontena {", "table bridge kontena {", "table ip6 kontena {"]
    );

    let _ = web.stop();
    host.prune();
    assert_eq!(host.says("nft", &["list", "ruleset"]), before);
}

#[test]
fn first_client_does_not_wait() {
    // The kernel resends lost segments a second later, and counts them.
    let host = Host::new();
    let sent_again = || {
        let counters = host.program("cat").arg("/proc/net/netstat").run().ok();
        let mut lines = counters.lines().filter_map(|line| line.strip_prefix("TcpExt: ")).map(str::split_whitespace);
        let (names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
        let place = names.into_iter().position(|name| name == "TCPTimeouts").unwrap();
        values.nth(place).unwrap().to_owned()
    };
    for way in ["nft", "relay"].repeat(10) {
        // The first of its bridge.
        host.prune();
        let options = ["--publish-via", way, "-p", "127.0.0.1:8080:80"];
        let mut web = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).start();
        let address = "127.0.0.1:8080".parse().unwrap();
        host.inside(|| while !web.has_ended() && TcpStream::connect_timeout(&address, patience()).is_err() {});
        web.signal(Signal::SIGTERM);
        let _ = web.finish();
        assert_eq!(sent_again(), "0", "{way}");
    }
}

#[test]
fn ten_thousand_requests_have_no_error() {
    let host = Host::new();
    // The server closes first, so it has all of them in TIME_WAIT for a minute. A kernel without room for one more, in
    // a small machine, answers the client's last segment with a reset: tcp_time_wait of net/ipv4/tcp_minisocks.c.
    let _web = host.nginx("web", &["-p", "8080:80", "--sysctl", "net.ipv4.tcp_max_tw_buckets=65536"]);
    for (place, address) in [(host.place(), "127.0.0.1"), (&host.neighbour, HOST_ADDRESS)] {
        let url = format!("http://{address}:8080/");
        let timeout = tests::patience().as_secs().to_string();
        // A thousand at a time: the deadline is for one wait, and an emulated machine takes minutes for all of them.
        for _ in 0..tests::rounds(10) {
            let report =
                place.program("ab").args(["-q", "-l", "-s", &timeout, "-n", "1000", "-c", "16", &url]).run().ok();
            let count = |what: &str| {
                let line = report.lines().find_map(|line| line.strip_prefix(what));
                line.and_then(|line| line.trim().parse().ok())
            };
            assert_eq!(count("Complete requests:"), Some(1_000), "{report}");
            assert_eq!(count("Failed requests:"), Some(0), "{report}");
            assert_eq!(count("Non-2xx responses:"), None, "{report}");
        }
    }
}

/// The port that kontena says it has published for `what`, as `*: -> 80/tcp`.
fn picked_port(stderr: &str, what: &str) -> u16 {
    let (before, behind) = what.split_once(": ").unwrap();
    let before = format!("published {before}:");
    let line = stderr.lines().find(|line| line.starts_with(&before) && line.ends_with(behind));
    let line = line.unwrap_or_else(|| panic!("{what} in {stderr}"));
    line[before.len()..].split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn unspecified_port_is_picked_and_printed() {
    let host = Host::new();
    let options =
        ["-p", "80", "-p", "0:80", "-p", "127.0.0.1::80", "-p", "[2001:db8::1]:0:80", "-p", "53/udp", "-p", "78-80"];
    let web = host.nginx("web", &options);
    let stderr = web.stderr();
    assert_eq!(stderr.lines().count(), 8, "{stderr}");
    for place in [host.place(), &host.neighbour] {
        assert_page(place, &format!("{HOST_ADDRESS}:{}", picked_port(&stderr, "*: -> 80/tcp")));
        assert_page(place, &format!("[2001:db8::1]:{}", picked_port(&stderr, "[2001:db8::1]: -> 80/tcp")));
    }
    let local = picked_port(&stderr, "127.0.0.1: -> 80/tcp");
    assert_page(host.place(), &format!("127.0.0.1:{local}"));
    assert_unreachable(&host.neighbour, &format!("{HOST_ADDRESS}:{local}"));
    let udp = picked_port(&stderr, "*: -> 53/udp");
    // The journal has them, for the next command.
    let journal = fs::read_to_string(host.state().join("web/journal")).unwrap();
    assert!(journal.contains(&format!("publish 17 * {udp} 53\n")), "{journal}");
    let line = host.run(&["-p", &format!("{udp}:53/udp")], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("the container web"), "{line}");
    // Where nothing was picked, nothing is printed.
    let _ = web.stop();
    let outcome = host.run(&["-p", "8080:80"], host.demo(), &["/bin/true"]).run();
    assert_eq!(outcome.code(0).stderr, "");
}

#[test]
fn nine_hundred_ports_are_published_at_once() {
    let host = Host::new();
    let options = ["-p", "10000-10899:10000-10899", "-p", "8080:80"];
    let web = host.nginx("web", &options);
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    for table in ["ip", "ip6"] {
        assert!(host.says("nft", &["list", "map", table, "kontena", "published"]).contains("tcp . 10899 :"));
    }
    let _ = web.stop();
    for table in ["ip", "ip6"] {
        assert!(!host.says("nft", &["list", "map", table, "kontena", "published"]).contains("tcp"));
    }
}

#[test]
fn range_of_ports_is_published() {
    let host = Host::new();
    let web = host.nginx("web", &["-p", "8078-8083:78-83", "-p", "20000-20199:20000-20199/udp"]);
    assert!(host.get("127.0.0.1:8080").is_ok());
    assert!(host.neighbour.get(&format!("{HOST_ADDRESS}:8080")).is_ok());
    assert!(host.get("127.0.0.1:8081").is_err(), "nobody listens there");
    let line = host.run(&["-p", "8083:80"], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("8083") && line.contains("web"), "{line}");
    assert!(host.says("nft", &["list", "ruleset"]).contains("20199"));
    let _ = web.stop();
    assert!(!host.says("nft", &["list", "ruleset"]).contains("20199"));
}

#[test]
fn nginx_of_debian_serves_its_page() {
    let host = Host::new();
    let rootfs = host.debian();
    let running = host.run(&["--name", "debian", "-p", "8080:80"], rootfs, &["nginx", "-g", "daemon off;"]).start();
    let mut container = Container::new(&host, "debian", running);
    wait_until("Debian's nginx", || {
        assert!(!container.has_ended(), "{}", container.stderr());
        host.get("127.0.0.1:8080").is_ok()
    });
    assert!(host.get("127.0.0.1:8080").unwrap().contains("Welcome to nginx"));
    assert!(host.neighbour.get(&format!("{HOST_ADDRESS}:8080")).unwrap().contains("Server: nginx"));
    container.signal(Signal::SIGQUIT);
    let _ = container.into_running().finish().code(0);
}

fn links_of(network: &Place) -> Vec<String> {
    let links = network.program("ip").args(["-o", "link"]).run().ok();
    links.lines().map(str::to_owned).collect()
}
