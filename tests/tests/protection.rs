//! What protects the host, its neighbours and the containers from each other, when somebody has taken it away; and what
//! an ordinary user of the host could take instead.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt, socket, sockopt,
};
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use tests::traffic::{WAIT, assert_page, assert_unreachable, bound, connect};
use tests::{Container, HOST_ADDRESS, HOST_ADDRESS6, Host, Place, patience, wait_until};

/// The tables without the containers' elements.
fn chains(host: &Host) -> String {
    host.says("nft", &["-t", "list", "ruleset"])
}

fn list(host: &Host) -> String {
    host.kontena().arg("list").run().ok()
}

#[test]
fn flushed_tables_are_restored_with_all_their_elements() {
    let host = Host::new();
    let mut web = host.nginx("web", &["-p", "8080:80", "--mac-address", "02:42:ac:11:00:02"]);
    let mut other = host.nginx("other", &["--net", "bridge=blue,subnet=10.88.0.0/24", "-p", "[2001:db8::1]:8081:80"]);
    let (unpublished, unpublished6) = (format!("{}:80", web.address()), format!("[{}]:80", web.address6()));
    let whole = chains(&host);
    host.neighbour
        .ip(&format!("route add 10.77.0.0/16 via {HOST_ADDRESS}\nroute add fd6b:6f6e:a4d::/64 via {HOST_ADDRESS6}\n"));
    let old = "flush table ip kontena
        table ip kontena { chain isolate { ct state established,related accept; ct status dnat accept; }; }";
    for (change, is_open) in [
        ("flush ruleset", true),
        ("delete table ip kontena", true),
        ("delete table ip6 kontena", true),
        ("delete table bridge kontena", false),
        ("flush table ip kontena", true),
        ("flush chain ip kontena isolate", true),
        ("flush chain ip6 kontena isolate", true),
        ("flush chain ip kontena guard", false),
        ("flush chain ip6 kontena guard", false),
        ("flush chain bridge kontena truth", false),
        ("flush chain bridge kontena reserved; delete chain bridge kontena reserved", false),
        (old, true),
        ("add table ip kontena { flags dormant; }; add table ip6 kontena { flags dormant; }", true),
        ("add table bridge kontena { flags dormant; }", false),
    ] {
        assert!(!list(&host).contains("unprotected"), "{change}");
        let _ = host.program("nft").args(["-f", "-"]).input(change.as_bytes()).run().ok();
        if is_open {
            let is_page = |address: &String| host.neighbour.get(address).is_ok();
            assert!([&unpublished, &unpublished6].into_iter().any(is_page), "{change} changes something");
        }
        let lines = list(&host);
        assert_eq!(lines.matches("unprotected").count(), 2, "{change}: {lines}");
        let json = host.kontena().args(["inspect", "web"]).run().ok();
        assert!(json.contains("\"protected\":false"), "{change}: {json}");

        let _ = host.run(&["--name", "third"], host.demo(), &["/bin/true"]).run().ok();
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(String::from).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(sorted(&chains(&host)), sorted(&whole), "{change}");
        for address in [&unpublished, &unpublished6] {
            assert_unreachable(&host.neighbour, address);
        }
        // Running containers lose nothing.
        for address in
            [format!("{HOST_ADDRESS}:8080"), format!("[{HOST_ADDRESS6}]:8080"), format!("[{HOST_ADDRESS6}]:8081")]
        {
            assert_page(&host.neighbour, &address);
        }
        assert_page(&other.network(), &format!("{HOST_ADDRESS}:8080"));
    }
    // What keeps others off is in sets as well.
    for family in ["ip", "ip6"] {
        for set in ["bridges", "within"] {
            let _ = host.says("nft", &["flush", "set", family, "kontena", set]);
        }
    }
    let _ = host.run(&["--name", "third"], host.demo(), &["/bin/true"]).run().ok();
    for address in [&unpublished, &unpublished6] {
        assert_unreachable(&host.neighbour, address);
    }
}

/// Binds a socket as somebody would who wants to share its port: SO_REUSEADDR and, for others of the same user,
/// SO_REUSEPORT.
fn share(kind: SockType, address: &str, same_user: bool) -> nix::Result<OwnedFd> {
    let address: SocketAddr = address.parse().unwrap();
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let thief = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&thief, sockopt::ReuseAddr, &true)?;
    if same_user {
        setsockopt(&thief, sockopt::ReusePort, &true)?;
    }
    match address {
        SocketAddr::V4(address) => bind(thief.as_raw_fd(), &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => bind(thief.as_raw_fd(), &SockaddrIn6::from(address))?,
    }
    if kind == SockType::Stream {
        listen(&thief, Backlog::new(1).unwrap())?;
    }
    Ok(thief)
}

#[track_caller]
fn assert_not_shared(host: &Host, kind: SockType, port: u16) {
    for address in ["0.0.0.0", "[::]", "127.0.0.1", "[::1]", HOST_ADDRESS, "[2001:db8::1]"] {
        for same_user in [false, true] {
            let shared = host.inside(|| share(kind, &format!("{address}:{port}"), same_user));
            assert_eq!(shared.map(drop), Err(nix::Error::EADDRINUSE), "{address}:{port}");
        }
    }
}

#[test]
fn published_port_cannot_be_shared_with_another_program() {
    let host = Host::new();
    for way in [&[][..], &["--publish-via", "relay"], &["--publish-via", "nft"]] {
        let options = [&["-p", "5353:53/udp", "-p", "8080:80"], way].concat();
        let web = host.nginx("web", &options);
        assert_not_shared(&host, SockType::Datagram, 5353);
        assert_not_shared(&host, SockType::Stream, 8080);
        let _ = web.stop();
    }
}

#[test]
fn port_with_lingering_connections_cannot_be_shared() {
    let host = Host::new();
    for way in ["nft", "relay"] {
        // The side that closes first keeps the connection for a minute: TIME-WAIT.
        let listener = bound(host.place(), || TcpListener::bind("0.0.0.0:8080"));
        let mut client = connect(host.place(), "127.0.0.1:8080", WAIT).unwrap();
        drop(listener.accept().unwrap());
        drop(listener);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(client);
        wait_until("a connection that lingers", || host.says("ss", &["-Htan"]).contains("TIME-WAIT"));
        let web = host.nginx("web", &["-p", "8080:80", "--publish-via", way]);
        assert_not_shared(&host, SockType::Stream, 8080);
        assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
        let _ = web.stop();
    }
}

/// Sends from one port to the host's, all the time, until there is an answer.
fn ask_until_answered(client: &UdpSocket, address: &str) {
    wait_until("an answer", || {
        client.send_to(b"question", (address, 5302)).unwrap();
        client.recv(&mut [0; 16]).is_ok()
    });
}

#[test]
fn client_that_sends_before_the_start_gets_answers() {
    let host = Host::new();
    let clients = [(HOST_ADDRESS, "0.0.0.0:0"), (HOST_ADDRESS6, "[::]:0")].map(|(address, any)| {
        let client = host.neighbour.inside(|| UdpSocket::bind(any)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        (address, client)
    });
    for name in ["first", "second", "third"] {
        // To nobody.
        for (address, client) in &clients {
            for _ in 0..3 {
                client.send_to(b"question", (*address, 5302)).unwrap();
                let _ = client.recv(&mut [0; 16]);
            }
        }
        let mut container = host.nginx(name, &["-p", "5302:53/udp"]);
        let server = container.network().inside(|| UdpSocket::bind("[::]:53")).unwrap();
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| {
                server.set_read_timeout(Some(patience())).unwrap();
                let mut seen = Vec::new();
                while seen.len() < 2 {
                    let (_, from) = server.recv_from(&mut [0; 16]).expect("a question");
                    server.send_to(b"answer", from).unwrap();
                    let from = from.ip().to_canonical().to_string();
                    if !seen.contains(&from) {
                        seen.push(from);
                    }
                }
                seen
            });
            for (address, client) in &clients {
                ask_until_answered(client, address);
            }
            let mut seen = answer.join().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, ["192.0.2.2", "2001:db8::2"], "{name}: the clients' own addresses");
        });
        let _ = container.stop();
    }
}

/// Another network, which the host could route to.
fn far(host: &Host) -> Place {
    host.ip("netns add far\nlink add eth1 type veth peer name eth0 netns far\n\
         link set eth1 addrgenmode none\nlink set eth1 up\n\
         addr add 198.51.100.1/24 dev eth1\naddr add 2001:db8:1::1/64 dev eth1 nodad\n\
         addr add fe80::1:1/64 dev eth1 nodad\n");
    let far = host.inside(|| Place::at("/run/netns/far"));
    far.ip("link set lo up\nlink set eth0 addrgenmode none\nlink set eth0 up\naddr add 198.51.100.2/24 dev eth0\n\
         addr add 2001:db8:1::2/64 dev eth0 nodad\naddr add fe80::1:2/64 dev eth0 nodad\n\
         route add default via 198.51.100.1\nroute add default via 2001:db8:1::1\n");
    host.neighbour
        .ip(&format!("route add 198.51.100.0/24 via {HOST_ADDRESS}\nroute add 2001:db8:1::/64 via {HOST_ADDRESS6}\n"));
    far
}

const FAR: [&str; 2] = ["198.51.100.2:7777", "[2001:db8:1::2]:7777"];

#[test]
fn host_does_not_become_a_router_for_others() {
    let host = Host::new();
    let far = far(&host);
    let before = host.snapshot();
    let listener = far.inside(|| TcpListener::bind("[::]:7777")).unwrap();
    let reached =
        |host: &Host| FAR.map(|address| connect(&host.neighbour, address, Duration::from_millis(500)).is_ok());
    assert_eq!(reached(&host), [false, false]);
    let mut web = host.nginx("web", &["-p", "8080:80"]);
    assert_eq!(reached(&host), [false, false]);
    // Not from there either; and what is about containers works.
    let there = host.neighbour.inside(|| TcpListener::bind("[::]:7778")).unwrap();
    for address in ["192.0.2.2:7778", "[2001:db8::2]:7778"] {
        assert_unreachable(&far, address);
        let _connection: TcpStream = connect(&web.network(), address, WAIT).unwrap();
    }
    drop(there);
    assert_page(&far, "198.51.100.1:8080");
    assert_page(&far, "[2001:db8:1::1]:8080");
    // Nor after the tables were made again.
    let _ = host.says("nft", &["flush", "ruleset"]);
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    assert_eq!(reached(&host), [false, false]);
    // The way that docs/network.md names.
    let _ = host.says("nft", &["flush", "set", "ip", "kontena", "closed"]);
    let _ = host.says("nft", &["flush", "set", "ip6", "kontena", "closed"]);
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    assert_eq!(reached(&host), [true, true]);
    drop(listener);
    let _ = web.stop();
    host.prune();
    assert_eq!(reached(&host), [false, false]);
    before.assert_restored(|| host.snapshot());
}

#[test]
fn host_routes_for_nobody_whichever_state_directory_enabled_forwarding() {
    let host = Host::new();
    let far = far(&host);
    let before = host.snapshot();
    let other = host.directory().join("other");
    let _listener = far.inside(|| TcpListener::bind("[::]:7777")).unwrap();
    let reached =
        |host: &Host| FAR.map(|address| connect(&host.neighbour, address, Duration::from_millis(500)).is_ok());
    let forwards = || host.snapshot().lines("forwarding") == ["1"];
    // The first one switches it on, and the other one makes the tables again.
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    let _ = host.says("nft", &["flush", "ruleset"]);
    assert_eq!(reached(&host), [true, true], "what stops it is a set, not a mistake in this test");
    let options = ["--name", "web", "-p", "8080:80"];
    let web = host.run_in(&other, &options, &["/usr/sbin/nginx"]).start();
    wait_until("the page", || host.get("127.0.0.1:8080").is_ok());
    assert_eq!(reached(&host), [false, false]);
    // It stays on as long as a container of either needs it, and goes with the last one.
    host.prune();
    assert!(forwards());
    assert_eq!(reached(&host), [false, false]);
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    let _ = host.kontena_in(&other).arg("prune").run().ok();
    assert!(forwards());
    web.signal(Signal::SIGTERM);
    let _ = web.finish();
    host.prune();
    assert!(!forwards());
    let _ = host.kontena_in(&other).arg("prune").run().ok();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn router_stays_a_router() {
    let host = Host::new();
    let far = far(&host);
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        host.inside(|| fs::write(format!("/proc/sys/net/{setting}"), "1")).unwrap();
    }
    let _listener = far.inside(|| TcpListener::bind("[::]:7777")).unwrap();
    let _web: Container<'_> = host.nginx("web", &[]);
    for address in FAR {
        let _connection = connect(&host.neighbour, address, WAIT).unwrap();
    }
    // Until somebody switches it off, and a start switches it on.
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        host.inside(|| fs::write(format!("/proc/sys/net/{setting}"), "0")).unwrap();
    }
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    for address in FAR {
        assert_unreachable(&host.neighbour, address);
    }
}
