//! The container's network over IPv6, used for real; and hosts without IPv6.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use tests::traffic::{WAIT, advertise_router, assert_page, assert_unreachable, connect, udp_round_trip};
use tests::{Container, HOST_ADDRESS, HOST_ADDRESS6, Host, NEIGHBOUR_ADDRESS6, Place, sys, wait_until};

/// The bridge's own address.
const GATEWAY: &str = "fd6b:6f6e:a4d::1";

/// A port of the host's own address.
fn at_host(port: u16) -> String {
    format!("[{HOST_ADDRESS6}]:{port}")
}

#[test]
fn container_has_the_same_number_in_both_subnets() {
    let host = Host::new();
    let mut web = host.nginx("web", &[]);
    let (address, address6) = (web.address(), web.address6());
    let bytes: Vec<u16> = address.split('.').map(|byte| byte.parse().unwrap()).collect();
    assert_eq!(address6, format!("fd6b:6f6e:a4d::{:x}", bytes[2] << 8 | bytes[3]), "{address}");
    let routes = web.network().program("ip").args(["-6", "route"]).run().ok();
    assert!(routes.contains(&format!("default via {GATEWAY} dev eth0")), "{routes}");
    assert_page(host.place(), &format!("[{address6}]:80"));
    assert_unreachable(host.place(), &format!("[{address6}]:81"));
}

#[test]
fn published_port_is_served_on_every_address_of_both_families() {
    let host = Host::new();
    assert_unreachable(&host.neighbour, &at_host(8080));
    let web = host.nginx("web", &["-p", "8080:80"]);
    for place in [host.place(), &host.neighbour] {
        assert_page(place, &at_host(8080));
        assert_page(place, &format!("{HOST_ADDRESS}:8080"));
        assert_unreachable(place, &at_host(8081));
    }
    assert_page(host.place(), &format!("[{GATEWAY}]:8080"));
    let _ = web.stop();
    assert_unreachable(&host.neighbour, &at_host(8080));
}

#[test]
fn container_sees_the_neighbours_own_address() {
    let host = Host::new();
    let mut container = host.nginx("web", &["-p", "5353:53/udp"]);
    let network = container.network();
    let from = udp_round_trip(&host.neighbour, &at_host(5353), &network, "[::]:53").unwrap();
    assert_eq!(from.ip().to_string(), NEIGHBOUR_ADDRESS6);
}

#[test]
fn port_published_on_one_address_is_served_only_there() {
    let host = Host::new();
    host.ip("addr add 2001:db8::3/64 dev eth0 nodad\n");
    let _web = host.nginx("web", &["-p", "[2001:db8::3]:8080:80"]);
    for place in [host.place(), &host.neighbour] {
        assert_page(place, "[2001:db8::3]:8080");
        assert_unreachable(place, &at_host(8080));
        assert_unreachable(place, &format!("{HOST_ADDRESS}:8080"));
    }
}

#[test]
fn port_can_be_published_on_all_addresses_of_one_family() {
    let host = Host::new();
    let _four = host.nginx("four", &["-p", "0.0.0.0:8080:80"]);
    let _six = host.nginx("six", &["-p", "[::]:8081:80"]);
    for place in [host.place(), &host.neighbour] {
        assert_page(place, &format!("{HOST_ADDRESS}:8080"));
        assert_unreachable(place, &at_host(8080));
        assert_page(place, &at_host(8081));
        assert_unreachable(place, &format!("{HOST_ADDRESS}:8081"));
    }
    // The other half of each is free for others.
    let _other = host.nginx("other", &["-p", "[::]:8080:80", "-p", "0.0.0.0:8081:80"]);
    assert_page(&host.neighbour, &at_host(8080));
}

#[test]
fn loopback_is_served() {
    // The kernel does not forward from ::1: the launcher relays.
    let host = Host::new();
    let mut web = host.nginx("web", &["-p", "8080:80", "-p", "[::1]:8081:80", "-p", "5353:53/udp"]);
    for port in [8080, 8081] {
        assert_page(host.place(), &format!("[::1]:{port}"));
    }
    udp_round_trip(host.place(), "[::1]:5353", &web.network(), "0.0.0.0:53").unwrap();
    for address in ["127.0.0.1:8081".into(), at_host(8081)] {
        assert_unreachable(host.place(), &address);
    }
    assert_unreachable(&host.neighbour, &at_host(8081));
    // The kernel forwards everything else: the server sees the client's own address.
    let from = udp_round_trip(&host.neighbour, &at_host(5353), &web.network(), "[::]:53").unwrap();
    assert_eq!(from.ip().to_string(), NEIGHBOUR_ADDRESS6);
    let _ = web.stop();
    for port in [8080, 8081] {
        assert_unreachable(host.place(), &format!("[::1]:{port}"));
    }
}

#[test]
fn loopback_refuses_at_once_without_the_relay() {
    // A client that tries it first, as for localhost, goes on to 127.0.0.1.
    let host = Host::new();
    let _web = host.nginx("web", &["-p", "8080:80", "--publish-via", "nft"]);
    let refused = connect(host.place(), "[::1]:8080", WAIT).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_page(host.place(), "127.0.0.1:8080");
    let line =
        host.run(&["-p", "[::1]:8081:80", "--publish-via", "nft"], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("[::1]:8081/tcp") && line.contains("--publish-via"), "{line}");
}

#[test]
fn udp_flow_follows_the_port_to_the_next_container() {
    let host = Host::new();
    let client = host.neighbour.inside(|| UdpSocket::bind("[::]:0")).unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    for name in ["first", "second"] {
        let mut container = host.nginx(name, &["-p", "5353:53/udp"]);
        let server = container.network().inside(|| UdpSocket::bind("[::]:53")).unwrap();
        server.set_read_timeout(Some(WAIT)).unwrap();
        for _ in 0..3 {
            let mut buffer = [0; 16];
            client.send_to(b"question", (HOST_ADDRESS6, 5353)).unwrap();
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
    let mut web = host.nginx("web", &[]);
    let network = web.network();
    let listener = host.neighbour.inside(|| TcpListener::bind("[::]:7777")).unwrap();
    let to: SocketAddr = format!("[{NEIGHBOUR_ADDRESS6}]:7777").parse().unwrap();
    let _connection = network.inside(|| TcpStream::connect_timeout(&to, WAIT)).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), HOST_ADDRESS6, "masqueraded");
}

#[test]
fn container_reaches_itself_and_others_by_a_published_port() {
    let host = Host::new();
    let mut web = host.nginx("web", &["-p", "8080:80"]);
    let mut other = host.nginx("other", &[]);
    for container in [&mut web, &mut other] {
        assert_page(&container.network(), &at_host(8080));
        assert_unreachable(&container.network(), &at_host(80));
    }
    // And directly, without a detour by the host.
    let address = web.address6();
    let listener = web.network().inside(|| TcpListener::bind("[::]:7777")).unwrap();
    let to: SocketAddr = format!("[{address}]:7777").parse().unwrap();
    let _connection = other.network().inside(|| TcpStream::connect_timeout(&to, WAIT)).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), other.address6(), "not masqueraded");
}

#[test]
fn neighbour_cannot_route_to_a_container() {
    let host = Host::new();
    let mut web = host.nginx("web", &["-p", "8080:80"]);
    let address = web.address6();
    host.neighbour.ip(&format!("route add fd6b:6f6e:a4d::/64 via {HOST_ADDRESS6}\n"));
    assert_unreachable(&host.neighbour, &format!("[{address}]:80"));
    let listener = web.network().inside(|| UdpSocket::bind("[::]:53")).unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let attacker = host.neighbour.inside(|| UdpSocket::bind("[::]:0")).unwrap();
    attacker.send_to(b"hello", format!("[{address}]:53")).unwrap();
    assert!(listener.recv(&mut [0; 16]).is_err(), "a datagram from the neighbour came through");

    // Published ports still work; the chain stops the neighbour, not a mistake in this test.
    assert_page(&host.neighbour, &at_host(8080));
    let _ = host.says("nft", &["flush", "chain", "ip6", "kontena", "isolate"]);
    assert_page(&host.neighbour, &format!("[{address}]:80"));
}

#[test]
fn neighbour_cannot_reach_the_loopback_of_the_host() {
    let host = Host::new();
    let _web = host.nginx("web", &["-p", "8080:80"]);
    let _service = host.nginx("service", &["--net", "host"]);
    assert_page(host.place(), "[::1]:80");
    // As a hostile neighbour would.
    host.neighbour.ip(&format!("addr del ::1/128 dev lo\nroute add ::1/128 via {HOST_ADDRESS6} dev eth0\n"));
    for port in [80, 8080] {
        assert_unreachable(&host.neighbour, &format!("[::1]:{port}"));
    }
}

#[test]
fn address_is_valid_from_the_first_instruction() {
    // Not tentative (0x40), as during the second of duplicate address detection: linux/if_addr.h.
    let host = Host::new();
    let volume = format!("{}:/intruder:ro", tests::intruder().display());
    let program = host.run(&["-v", &volume], host.demo(), &["/intruder", "look", "/proc/net/if_inet6"]);
    let addresses = program.run().ok();
    let line = addresses.lines().find(|line| line.starts_with("fd6b6f6e0a4d")).unwrap();
    // Address, index, prefix, scope, flags, link.
    let flags = u8::from_str_radix(line.split_whitespace().nth(4).unwrap(), 16).unwrap();
    assert_eq!(flags & 0x40, 0, "{addresses}");
}

/// A setting of the network namespace of `place`.
fn setting(place: &Place, name: &str) -> String {
    place.inside(|| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}"))).unwrap().trim().into()
}

fn set(place: &Place, name: &str, value: &str) {
    place.inside(|| fs::write(format!("/proc/sys/net/ipv6/conf/{name}"), value)).unwrap();
}

#[test]
fn hosts_file_has_both_addresses() {
    let host = Host::new();
    let program =
        host.run(&["--name", "web"], host.debian(), &["sh", "-c", "cat /etc/hosts; ip -o addr show scope global"]);
    let out = program.run().ok();
    let lines: Vec<&str> = out.lines().filter(|line| line.ends_with("\tweb")).collect();
    assert_eq!(lines.len(), 2, "{out}");
    for line in lines {
        let address = line.split('\t').next().unwrap();
        assert!(out.contains(&format!("{address}/")), "{address} is the link's: {out}");
    }
}

#[test]
fn containers_have_no_ipv6_if_the_host_disables_it() {
    let host = Host::new();
    set(host.place(), "all/disable_ipv6", "1");
    let before = host.snapshot();
    let mut web = host.nginx("web", &["-p", "8080:80"]);
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    let addresses = web.network().program("ip").args(["-6", "-o", "addr", "show", "scope", "global"]).run().ok();
    assert_eq!(addresses, "");
    assert_eq!(setting(host.place(), "all/forwarding"), "0");
    let line = host.run(&["-p", "[::]:8081:80"], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("[::]:8081/tcp") && line.contains("no IPv6"), "{line}");
    let _ = web.stop();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn container_can_disable_ipv6() {
    let host = Host::new();
    let mut web = host.nginx("web", &["-p", "8080:80", "--sysctl", "net.ipv6.conf.all.disable_ipv6=1"]);
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    assert_eq!(web.network().program("ip").args(["-6", "-o", "addr"]).run().ok(), "");
    let routes = web.network().program("ip").args(["-4", "route"]).run().ok();
    assert!(routes.contains("default via 10.77.0.1 dev eth0"), "{routes}");
}

/// The default routes of IPv6 that routers have advertised.
fn advertised_routes(place: &Place) -> String {
    place.program("ip").args(["-6", "route", "show", "default", "proto", "ra"]).run().ok()
}

#[test]
fn host_keeps_its_advertised_default_route() {
    let host = Host::new();
    let before = host.snapshot();
    advertise_router(&host.neighbour);
    wait_until("the host's default route", || advertised_routes(host.place()).contains("via fe80::2 dev eth0"));
    let web = host.nginx("web", &["-p", "8080:80"]);
    assert_eq!(setting(host.place(), "all/forwarding"), "1");
    assert!(advertised_routes(host.place()).contains("via fe80::2 dev eth0"));
    // Nor is it that one alone which lasts.
    host.ip("route del default via fe80::2 dev eth0 proto ra\n");
    advertise_router(&host.neighbour);
    wait_until("the next advertisement", || advertised_routes(host.place()).contains("via fe80::2 dev eth0"));
    let _ = web.stop();
    host.prune();
    assert!(advertised_routes(host.place()).contains("via fe80::2 dev eth0"));
    host.ip("route del default via fe80::2 dev eth0 proto ra\n");
    before.assert_restored(|| host.snapshot());
    assert_eq!(setting(host.place(), "eth0/accept_ra"), "1");
}

#[test]
fn settings_changed_by_others_since_then_stay() {
    let host = Host::new();
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    assert_eq!(setting(host.place(), "eth0/accept_ra"), "2");
    set(host.place(), "eth0/accept_ra", "0");
    host.prune();
    assert_eq!(setting(host.place(), "eth0/accept_ra"), "0");
    assert_eq!(setting(host.place(), "default/accept_ra"), "1");
}

#[test]
fn host_that_already_forwards_is_unchanged() {
    let host = Host::new();
    set(host.place(), "all/forwarding", "1");
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    assert_eq!(setting(host.place(), "eth0/accept_ra"), "1");
    host.prune();
    assert_eq!(setting(host.place(), "all/forwarding"), "1");
}

#[test]
fn bridge_does_not_depend_on_the_hosts_defaults_for_links() {
    let host = Host::new();
    set(host.place(), "default/accept_ra", "0");
    host.inside(|| fs::write("/proc/sys/net/ipv4/conf/default/route_localnet", "1")).unwrap();
    let before = host.snapshot();
    let web = host.nginx("web", &["-p", "8080:80"]);
    for address in [&format!("{HOST_ADDRESS}:8080"), &at_host(8080)] {
        assert_page(&host.neighbour, address);
    }
    let _ = web.stop();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn next_container_brings_up_a_bridge_that_is_down() {
    let host = Host::new();
    for change in [
        "link set kontena0 down",
        "addr flush dev kontena0\nlink set kontena0 down",
        "addr del fd6b:6f6e:a4d::1/64 dev kontena0",
        "link set kontena0 down\nlink set kontena0 up",
    ] {
        let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
        host.ip(&format!("{change}\n"));
        let web = host.nginx("web", &["-p", "8080:80"]);
        for address in [&format!("{HOST_ADDRESS}:8080"), &at_host(8080)] {
            assert_page(&host.neighbour, address);
        }
        let _ = web.stop();
    }
}

#[test]
fn container_cannot_become_the_router_of_others() {
    let host = Host::new();
    let mut other = host.nginx("other", &[]);
    let mut attacker = host.nginx("attacker", &[]);
    let (other, attacker) = (other.network(), attacker.network());
    // Its link-local address is not valid before it is known to be no duplicate.
    wait_until("the attacker's link-local address", || {
        let address =
            attacker.program("ip").args(["-6", "-o", "addr", "show", "scope", "link", "-tentative"]).run().ok();
        address.contains("fe80::")
    });
    advertise_router(&attacker);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(advertised_routes(&other), "");
    assert_eq!(advertised_routes(host.place()), "");

    // Nor where a server listens; the setting and the chain stop it, not a mistake in this test.
    set(&other, "eth0/accept_ra", "1");
    advertise_router(&attacker);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(advertised_routes(&other), "");
    let _ = host.says("nft", &["flush", "chain", "bridge", "kontena", "truth"]);
    advertise_router(&attacker);
    wait_until("the advertisement", || advertised_routes(&other).contains("via fe80::"));
}

/// Runs a container on a kernel without IPv6: no such settings, and no such sockets.
fn without_ipv6(host: &Host, options: &[&str]) -> tests::Outcome {
    host.inside(|| {
        let nothing = host.directory().join("nothing");
        fs::create_dir_all(&nothing).unwrap();
        let bind = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some(&nothing), "/proc/sys/net/ipv6", None::<&str>, bind, None::<&str>).unwrap();
    });
    let program = host.run(options, host.demo(), &["/bin/true"]);
    // On a thread of its own, whose filter ends with it.
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            use nix::libc::{AF_INET6, EAFNOSUPPORT};
            sys::refuse_sockets(AF_INET6, 0, EAFNOSUPPORT).unwrap();
            program.run()
        });
        thread.join().unwrap()
    });
    host.inside(|| nix::mount::umount("/proc/sys/net/ipv6")).unwrap();
    outcome
}

#[test]
fn kernel_without_ipv6_runs_containers_without_it() {
    let host = Host::new();
    let before = host.snapshot();
    let _ = without_ipv6(&host, &["-p", "8080:80", "-p", "80"]).ok();
    assert_eq!(setting(host.place(), "all/forwarding"), "0");
    for port in ["[::]:8080:80", "[::1]:8080:80"] {
        let line = without_ipv6(&host, &["-p", port]).refused(125);
        assert!(line.contains("]:8080/tcp") && line.contains("this host has no IPv6"), "{line}");
    }
    host.prune();
    before.assert_restored(|| host.snapshot());
}

/// Starts nginx on a kernel whose nf_tables has no IPv6: every message of that family asks for one that there is not.
fn nginx_without_ip6_tables<'a>(host: &'a Host, name: &str, options: &[&str]) -> Container<'a> {
    let options = [&["--name", name], options].concat();
    let mut launcher = tests::Traced::start(host.run(&options, host.demo(), &["/usr/sbin/nginx"]));
    let mut asked = 0;
    // Of a message to make the table: its type, and its family behind the header.
    const NEW_TABLE: [u8; 2] = (10u16 << 8).to_ne_bytes();
    let (ip6, none) = (nix::libc::AF_INET6 as u8, 77);
    while asked == 0 {
        let Some((number, arguments)) = launcher.next_call() else { break };
        if number != nix::libc::SYS_sendto as u64 {
            continue;
        }
        let bytes = launcher.read(arguments[1], arguments[2]);
        let mut at = 0;
        while let Some(length) = bytes.get(at..at + 4) {
            if bytes[at + 4..at + 6] == NEW_TABLE && bytes[at + 16] == ip6 {
                launcher.write(arguments[1] + at as u64 + 16, &[none]);
                asked += 1;
            }
            at += u32::from_ne_bytes(length.try_into().unwrap()).next_multiple_of(4) as usize;
        }
    }
    assert_eq!(asked, 2, "kontena asks for the table by sendto(2), before and behind what deletes it");
    Container::new(host, name, launcher.detach())
}

#[test]
fn kernel_without_ip6_tables_has_containers_without_ipv6() {
    let host = Host::new();
    let before = host.snapshot();
    let mut web = nginx_without_ip6_tables(&host, "web", &["-p", "8080:80"]);
    wait_until("the page", || host.neighbour.get(&format!("{HOST_ADDRESS}:8080")).is_ok());
    // Nothing would keep the LAN from them.
    assert_eq!(setting(host.place(), "all/forwarding"), "0");
    assert_eq!(web.network().program("ip").args(["-6", "-o", "addr", "show", "scope", "global"]).run().ok(), "");
    // The next one need not ask again.
    let mut next = host.nginx("next", &["-p", "8081:80"]);
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8081"));
    assert_eq!(next.network().program("ip").args(["-6", "-o", "addr", "show", "scope", "global"]).run().ok(), "");
    drop((web, next));
    host.prune();
    before.assert_restored(|| host.snapshot());
}
