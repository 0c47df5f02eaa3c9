//! What a container calls itself on its bridge, and what it is: frames made by hand, and none of them believed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use tests::traffic::{assert_page, bound};
use tests::{
    Container, HOST_ADDRESS, HOST_ADDRESS6, Host, NEIGHBOUR_ADDRESS, NEIGHBOUR_ADDRESS6, Place, patience, sys,
    wait_until,
};

const GATEWAY: &str = "10.77.0.1";
const GATEWAY6: &str = "fd6b:6f6e:a4d::1";
const PORT: u16 = 5000;
type Hardware = [u8; 6];
/// A false claim: whether it goes to the host, to, from, kind, packet.
type Frame<'a> = (&'a str, bool, Hardware, Hardware, &'a [u8], Vec<u8>);
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// IEEE 802.1Q's header, of no VLAN.
const TAG: [u8; 4] = [0x81, 0x00, 0, 0];

/// The hardware address that kontena makes of an address.
fn hardware(address: &str) -> Hardware {
    let [a, b, c, d] = address.parse::<Ipv4Addr>().unwrap().octets();
    [0x02, 0x6b, a, b, c, d]
}

fn sum(bytes: &[u8]) -> [u8; 2] {
    let pairs = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// An IP header with what is behind it.
fn packet(from: &str, to: &str, protocol: u8, hops: u8, body: &[u8]) -> Vec<u8> {
    match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = (20 + body.len() as u16).to_be_bytes();
            let mut header =
                [&[0x45, 0][..], &length, &[0, 0, 0, 0, hops, protocol, 0, 0], &from.octets(), &to.octets()].concat();
            let sum = sum(&header);
            header[10..12].copy_from_slice(&sum);
            [&header[..], body].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = (body.len() as u16).to_be_bytes();
            [&[0x60, 0, 0, 0][..], &length, &[protocol, hops], &from.octets(), &to.octets(), body].concat()
        }
        _ => panic!("{from} {to}"),
    }
}

/// A transport header and body with its sum, which has its place at `at`.
fn summed(from: &str, to: &str, protocol: u8, mut body: Vec<u8>, at: usize) -> Vec<u8> {
    let octets = |address: &str| match address.parse().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = (body.len() as u16).to_be_bytes();
    let pseudo = [&octets(from)[..], &octets(to), &[0, protocol], &length, &body].concat();
    body[at..at + 2].copy_from_slice(&sum(&pseudo));
    body
}

fn datagram(from: &str, to: &str, text: &str) -> Vec<u8> {
    const UDP: u8 = 17;
    let length = (8 + text.len() as u16).to_be_bytes();
    let body = [&PORT.to_be_bytes()[..], &PORT.to_be_bytes(), &length, &[0, 0], text.as_bytes()].concat();
    packet(from, to, UDP, 64, &summed(from, to, UDP, body, 6))
}

/// The same behind an extension header that means nothing: RFC 8200, destination options with padding.
fn datagram_behind_options(from: &str, to: &str, text: &str) -> Vec<u8> {
    const OPTIONS: u8 = 60;
    let plain = datagram(from, to, text);
    packet(from, to, OPTIONS, 64, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &plain[40..]].concat())
}

struct Attacker<'a> {
    container: Container<'a>,
    network: Place,
    own: Hardware,
    address: String,
    address6: String,
}

impl<'a> Attacker<'a> {
    fn new(host: &'a Host) -> Self {
        Self::of(host.nginx("attacker", &[]))
    }

    fn of(mut container: Container<'a>) -> Self {
        let (network, address, address6) = (container.network(), container.address(), container.address6());
        Self { own: hardware(&address), container, network, address, address6 }
    }

    /// Sends a frame as it is, as a payload with CAP_NET_RAW could.
    fn send(&self, to: Hardware, from: Hardware, kind: &[u8], body: &[u8]) {
        let frame = [&to[..], &from, kind, body].concat();
        self.network.inside(|| sys::send_frame(if_nametoindex("eth0").unwrap(), &frame)).unwrap();
    }
}

/// Whether the socket gets what was forged, before an honest datagram that came behind it.
#[track_caller]
fn is_believed(server: &UdpSocket) -> bool {
    let (mut buffer, mut believed) = ([0; 64], false);
    loop {
        let length = server.recv(&mut buffer).expect("the honest datagram");
        match &buffer[..length] {
            b"honest" => return believed,
            _ => believed = true,
        }
    }
}

fn server(place: &Place) -> UdpSocket {
    let server = bound(place, || UdpSocket::bind(("::", PORT)));
    server.set_read_timeout(Some(patience())).unwrap();
    server
}

fn flush(host: &Host, chains: &[[&str; 2]]) {
    for [family, chain] in chains {
        let _ = host.says("nft", &["flush", "chain", family, "kontena", chain]);
    }
}

#[test]
fn ipv6_source_cannot_be_forged_without_capabilities() {
    let host = Host::new();
    let (mut victim, mut other) = (host.nginx("victim", &[]), host.nginx("other", &[]));
    let (address, another) = (victim.address6(), other.address6());
    let (inside, outside) = (server(&victim.network()), server(host.place()));
    let volume = format!("{}:/intruder:ro", tests::intruder().display());
    let (to_victim, to_host) = (format!("[{address}]:{PORT}"), format!("[{GATEWAY6}]:{PORT}"));
    let start = |to: &str, from: &str| {
        let options = ["--name", "attacker", "--cap-drop", "ALL", "-u", "65534", "-v", &volume];
        host.run(&options, host.demo(), &["/intruder", "freebind", from, to]).start()
    };
    let end = |attacker: tests::Running| {
        attacker.signal(Signal::SIGTERM);
        let _ = attacker.finish();
    };
    for (server, to, from) in [
        (&inside, &to_victim, GATEWAY6),
        (&inside, &to_victim, &*another),
        (&inside, &to_victim, NEIGHBOUR_ADDRESS6),
        (&outside, &to_host, &*another),
    ] {
        let attacker = start(to, from);
        // The first one may wait for the neighbour to be known.
        for _ in 0..4 {
            assert!(!is_believed(server), "{from} to {to}");
        }
        end(attacker);
        drain(server);
    }
    // What stops it is the chain, not a mistake in this test.
    let attacker = start(&to_victim, &another);
    assert!(!is_believed(&inside));
    flush(&host, &[["bridge", "truth"]]);
    wait_until("a forged datagram", || is_believed(&inside));
    end(attacker);
}

/// Takes what has come already.
fn drain(server: &UdpSocket) {
    server.set_nonblocking(true).unwrap();
    while server.recv(&mut [0; 64]).is_ok() {}
    server.set_nonblocking(false).unwrap();
}

#[test]
fn hand_made_frames_are_dropped() {
    let host = Host::new();
    let (mut victim, mut other) = (host.nginx("victim", &[]), host.nginx("other", &[]));
    let (address, address6, another, another6) =
        (victim.address(), victim.address6(), other.address(), other.address6());
    let attacker = Attacker::new(&host);
    let (own, theirs) = (attacker.own, hardware(&another));
    let (inside, outside) = (server(&victim.network()), server(host.place()));
    let (at_victim, at_host) = (hardware(&address), hardware(GATEWAY));
    let reserved = [0x01, 0x80, 0xc2, 0, 0, 0x03];
    let priority = [&TAG[..], &IPV4].concat();
    let twice = [&TAG[..], &TAG, &IPV4].concat();
    let forged = |from: &str, to: &str| datagram(from, to, "forged");
    let frames: [Frame<'_>; 14] = [
        ("another container", false, at_victim, own, &IPV4, forged(&another, &address)),
        ("its hardware address", false, at_victim, theirs, &IPV4, forged(&attacker.address, &address)),
        ("both of them", false, at_victim, theirs, &IPV4, forged(&another, &address)),
        ("the gateway", false, at_victim, own, &IPV4, forged(GATEWAY, &address)),
        ("the neighbour", false, at_victim, own, &IPV4, forged(NEIGHBOUR_ADDRESS, &address)),
        ("in a tag", false, at_victim, own, &priority, forged(&another, &address)),
        ("in two tags", false, at_victim, own, &twice, forged(&another, &address)),
        ("another of IPv6", false, at_victim, own, &IPV6, forged(&another6, &address6)),
        ("the gateway of IPv6", false, at_victim, own, &IPV6, forged(GATEWAY6, &address6)),
        ("behind options", false, at_victim, own, &IPV6, datagram_behind_options(&another6, &address6, "forged")),
        ("another to the host", true, at_host, own, &IPV4, forged(&another, GATEWAY)),
        ("the loopback to the host", true, at_host, own, &IPV4, forged("127.0.0.9", GATEWAY)),
        ("another of IPv6 to the host", true, at_host, own, &IPV6, forged(&another6, GATEWAY6)),
        ("by a reserved address", true, reserved, own, &IPV4, forged(&another, GATEWAY)),
    ];
    let attack = || -> Vec<&str> {
        let mut believed = Vec::new();
        for (what, is_at_host, to, from, kind, body) in &frames {
            attacker.send(*to, *from, kind, body);
            let (server, hardware, address) =
                if *is_at_host { (&outside, at_host, GATEWAY) } else { (&inside, at_victim, &*address) };
            attacker.send(hardware, own, &IPV4, &datagram(&attacker.address, address, "honest"));
            if is_believed(server) {
                believed.push(*what);
            }
        }
        believed
    };
    assert_eq!(attack(), [""; 0]);
    // Each of them alone keeps 127.0.0.9 off.
    flush(&host, &[["ip", "guard"]]);
    assert_eq!(attack(), [""; 0]);
    flush(&host, &[["bridge", "truth"], ["bridge", "reserved"], ["ip6", "guard"]]);
    let believed = attack();
    let all: Vec<&str> = frames.iter().map(|frame| frame.0).collect();
    assert_eq!(believed, all, "what stops them is the chains, not a mistake in this test");
    drop(attacker.container);
}

#[test]
fn containers_of_all_state_directories_are_protected_again_after_a_flush() {
    let host = Host::new();
    let (own, other) = (host.state(), host.directory().join("other"));
    let web = Attacker::of(host.nginx("web", &["-p", "8080:80"]));
    // Of the name that the start in the first one has below.
    let options = ["--name", "job", "-p", "8081:80"];
    let job = Container::new(&host, "job", host.run_in(&other, &options, &["/usr/sbin/nginx"]).start());
    let job = Attacker::of(job);
    wait_until("the page of the other one", || host.get("127.0.0.1:8081").is_ok());
    let (outside, at_host) = (server(host.place()), hardware(GATEWAY));
    let parent = format!("{}/more", host.cgroup_parent_option());
    for (root, name) in [(&own, "job"), (&other, "web")] {
        let _ = host.says("nft", &["flush", "ruleset"]);
        let start = host.kontena_in(root).args(["run", "--name", name, "--cgroup-parent", &parent]);
        let _ = start.arg(host.demo()).arg("/bin/true").run().ok();
        for port in [8080, 8081] {
            assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:{port}"));
            assert_page(&host.neighbour, &format!("[{HOST_ADDRESS6}]:{port}"));
        }
        for (attacker, victim) in [(&web, &job), (&job, &web)] {
            for from in [attacker.own, victim.own] {
                attacker.send(at_host, from, &IPV4, &datagram(&victim.address, GATEWAY, "forged"));
                attacker.send(at_host, from, &IPV6, &datagram(&victim.address6, GATEWAY6, "forged"));
            }
            attacker.send(at_host, attacker.own, &IPV6, &datagram(&attacker.address6, GATEWAY6, "honest"));
            assert!(!is_believed(&outside), "a container called itself {}", victim.address);
        }
        let list = host.kontena_in(root).arg("list").run().ok();
        assert!(!list.contains("unprotected"), "{list}");
    }
    for attacker in [web, job] {
        let _ = attacker.container.stop();
    }
}

/// What `place` knows of the hardware address of a neighbour.
fn neighbour(place: &Place, address: &str) -> String {
    let line = place.program("ip").args(["neigh", "show", address]).run().ok();
    let mut words = line.split_whitespace().skip_while(|word| *word != "lladdr");
    words.nth(1).unwrap_or_default().into()
}

fn text(hardware: Hardware) -> String {
    hardware.map(|byte| format!("{byte:02x}")).join(":")
}

#[test]
fn neighbours_cannot_be_given_a_false_hardware_address() {
    let host = Host::new();
    let mut victim = host.nginx("victim", &[]);
    let (address, address6, network) = (victim.address(), victim.address6(), victim.network());
    let attacker = Attacker::new(&host);
    let (inside, at_victim, at_host) = (server(&network), hardware(&address), hardware(GATEWAY));
    let own = attacker.own;
    // It knows the gateway.
    for (to, any) in [(GATEWAY, "0.0.0.0:0"), (GATEWAY6, "[::]:0")] {
        network.inside(|| UdpSocket::bind(any).unwrap().send_to(b"?", (to, 9))).unwrap();
        wait_until("the gateway to be known", || neighbour(&network, to) == text(at_host));
    }
    let ip = |address: &str| address.parse::<Ipv4Addr>().unwrap().octets();
    let ip6 = |address: &str| address.parse::<Ipv6Addr>().unwrap().octets();
    // RFC 826: Ethernet, IPv4, lengths, operation, sender's addresses, target's.
    let arp = |operation: u8, sender: Hardware, from: &str| {
        [&[0, 1, 8, 0, 6, 4, 0, operation][..], &sender, &ip(from), &at_victim, &ip(&address)].concat()
    };
    // RFC 4861: an advertisement that overrides, unasked, with the target's hardware address.
    let advertisement = |from: &str, target: &str| {
        const ICMP6: u8 = 58;
        let body = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &ip6(target), &[2, 1], &own].concat();
        packet(from, &address6, ICMP6, 255, &summed(from, &address6, ICMP6, body, 2))
    };
    // And a solicitation from an address that is not the own.
    let solicitation = |from: &str| {
        const ICMP6: u8 = 58;
        let body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &ip6(&address6), &[1, 1], &own].concat();
        packet(from, &address6, ICMP6, 255, &summed(from, &address6, ICMP6, body, 2))
    };
    let attack = || {
        for (kind, body) in [
            (ARP, arp(1, own, GATEWAY)),
            (ARP, arp(2, own, GATEWAY)),
            (IPV6, advertisement(&attacker.address6, GATEWAY6)),
            (IPV6, advertisement(GATEWAY6, GATEWAY6)),
            (IPV6, solicitation(GATEWAY6)),
        ] {
            attacker.send(at_victim, own, &kind, &body);
        }
        // The own hardware address in ARP's message, and another's on the frame.
        attacker.send(at_victim, at_host, &ARP, &arp(1, own, GATEWAY));
        attacker.send(at_victim, own, &IPV4, &datagram(&attacker.address, &address, "honest"));
        assert!(!is_believed(&inside));
        [neighbour(&network, GATEWAY), neighbour(&network, GATEWAY6)]
    };
    assert_eq!(attack(), [text(at_host), text(at_host)]);
    // Genuine frames pass.
    attacker.send(at_victim, own, &ARP, &arp(1, own, &attacker.address));
    wait_until("the attacker to be known", || neighbour(&network, &attacker.address) == text(own));
    flush(&host, &[["bridge", "truth"]]);
    wait_until("the lie to be believed", || attack() == [text(own), text(own)]);
}

#[test]
fn foreign_port_on_the_bridge_works() {
    let host = Host::new();
    let mut web = host.nginx("web", &[]);
    host.ip("netns add far\nlink add kt0 type veth peer name eth0 netns far\nlink set kt0 master kontena0 up\n");
    let far = host.inside(|| Place::at("/run/netns/far"));
    far.ip("link set lo up\nlink set eth0 up\naddr add 10.77.200.7/16 dev eth0\n");
    wait_until("the page", || far.get(&format!("{}:80", web.address())).is_ok());
}

#[test]
fn allowed_addresses_end_with_their_container() {
    let host = Host::new();
    let names = || host.says("nft", &["list", "table", "bridge", "kontena"]);
    let options = ["--ip", "10.77.9.9", "--ip6", "fd6b:6f6e:a4d::dead:beef", "--mac-address", "02:42:ac:11:00:02"];
    let all = ["\"kt0a4d0909\" . 02:42:ac:11:00:02 . 10.77.9.9", ":a4d::dead:beef", ". fe80::42:acff:fe11:2"];
    let web = host.nginx("web", &options);
    for name in all {
        assert!(names().contains(name), "{name} in {}", names());
    }
    let _ = web.stop();
    assert!(!names().contains("elements"), "{}", names());
    // And with one whose launcher is killed.
    let web = host.nginx("web", &options);
    let leaf = web.leaf();
    web.signal(Signal::SIGKILL);
    let _ = web.into_running().finish();
    wait_until("the end of the container", || tests::leaf_processes(&leaf).is_empty());
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    assert!(!names().contains("elements"), "{}", names());
}

#[test]
fn port_missing_from_the_tables_forwards_nothing() {
    let host = Host::new();
    let mut web = host.nginx("web", &[]);
    let address = format!("{}:80", web.address());
    assert_page(host.place(), &address);
    for set in ["hosts", "hosts6"] {
        let _ = host.says("nft", &["flush", "set", "bridge", "kontena", set]);
    }
    tests::traffic::assert_unreachable(host.place(), &address);
}

#[test]
fn kernel_without_tables_for_bridges_causes_a_warning() {
    let host = Host::new();
    let before = host.snapshot();
    let options = ["--name", "web", "-p", "8080:80"];
    let mut launcher = tests::Traced::start(host.run(&options, host.demo(), &["/usr/sbin/nginx"]));
    // Every message that makes the table asks for one of a family that there is not.
    const NEW_TABLE: [u8; 2] = (10u16 << 8).to_ne_bytes();
    let (bridge, none, mut asked) = (nix::libc::AF_BRIDGE as u8, 77, 0);
    // When the bridge is made, and when the container is linked to it.
    while asked < 4 {
        let Some((number, arguments)) = launcher.next_call() else { break };
        if number != nix::libc::SYS_sendto as u64 {
            continue;
        }
        let (bytes, mut at) = (launcher.read(arguments[1], arguments[2]), 0);
        while let Some(length) = bytes.get(at..at + 4) {
            if bytes[at + 4..at + 6] == NEW_TABLE && bytes[at + 16] == bridge {
                launcher.write(arguments[1] + at as u64 + 16, &[none]);
                asked += 1;
            }
            at += u32::from_ne_bytes(length.try_into().unwrap()).next_multiple_of(4) as usize;
        }
    }
    assert_eq!(asked, 4, "kontena asks for the table by sendto(2), before and behind what deletes it");
    let web = Container::new(&host, "web", launcher.detach());
    let page = format!("{}:8080", tests::HOST_ADDRESS);
    wait_until("the page", || host.neighbour.get(&page).is_ok());
    let stderr = web.stderr();
    assert!(stderr.contains("warning: the kernel has no nf_tables for bridges"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    // `list` and `inspect` show it, too.
    assert!(host.kontena().arg("list").run().ok().contains("unprotected"));
    let _ = web.stop();
    host.prune();
    before.assert_restored(|| host.snapshot());
}
