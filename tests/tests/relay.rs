//! Published ports that go through the launcher: connections whole and half closed, slow readers, many at once,
//! datagrams.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;
use tests::{Background, Container, HOST_ADDRESS, Host, NEIGHBOUR_ADDRESS, Place, patience, wait_until};

/// Both ways to the container: from within its network, and by the bridge.
const WAYS: [&[&str]; 2] = [&["--net", "none"], &["--publish-via", "relay"]];

/// Starts nginx of the demo rootfs, with its port 7777 published as 7000, and returns a listener there.
fn start<'a>(host: &'a Host, name: &str, way: &[&str]) -> (Container<'a>, TcpListener) {
    let mut container = host.nginx(name, &[way, &["-p", "8080:80", "-p", "7000:7777"]].concat());
    let listener = container.network().inside(|| TcpListener::bind("0.0.0.0:7777")).unwrap();
    (container, listener)
}

fn connect(place: &Place, address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    let stream = place.inside(|| TcpStream::connect(address)).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    stream.set_write_timeout(Some(patience())).unwrap();
    stream
}

/// Bytes that differ from place to place.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Kilobytes of memory that a process has.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn relayed_port_is_served_on_every_address() {
    for way in WAYS {
        let host = Host::new();
        let web = host.nginx("web", &[way, &["-p", "8080:80"]].concat());
        for (place, address) in [
            (host.place(), "127.0.0.1:8080".into()),
            (host.place(), format!("{HOST_ADDRESS}:8080")),
            (&host.neighbour, format!("{HOST_ADDRESS}:8080")),
        ] {
            assert!(place.get(&address).is_ok_and(|page| page.contains("<h1>")), "{way:?} {address}");
        }
        assert!(!host.says("nft", &["list", "ruleset"]).contains("8080"), "the kernel has no part in it");
        let _ = web.stop();
        assert!(host.get("127.0.0.1:8080").is_err());
    }
}

#[test]
fn port_relayed_from_127_0_0_1_is_served_only_there() {
    let host = Host::new();
    let _web = host.nginx("web", &["--net", "none", "-p", "127.0.0.1:8080:80"]);
    assert!(host.get("127.0.0.1:8080").is_ok());
    assert!(host.get(&format!("{HOST_ADDRESS}:8080")).is_err());
    assert!(host.neighbour.get(&format!("{HOST_ADDRESS}:8080")).is_err());
}

#[test]
fn half_closed_connection_continues_in_the_other_direction() {
    for way in WAYS {
        let host = Host::new();
        let (_web, listener) = start(&host, "web", way);
        let server = thread::spawn(move || {
            let (mut server, _) = listener.accept().unwrap();
            let mut question = Vec::new();
            // Comes to its end while the connection stays.
            server.read_to_end(&mut question).unwrap();
            server.write_all(&question).unwrap();
            server.write_all(b", and goodbye").unwrap();
        });
        let mut client = connect(host.place(), "127.0.0.1:7000");
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hello, and goodbye", "{way:?}");
        server.join().unwrap();
    }
}

#[test]
fn server_may_close_its_half_first() {
    let host = Host::new();
    let (_web, listener) = start(&host, "web", &["--net", "none"]);
    let server = thread::spawn(move || {
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"that is all from me").unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        server.read_to_string(&mut rest).unwrap();
        rest
    });
    let mut client = connect(host.place(), "127.0.0.1:7000");
    let mut told = String::new();
    client.read_to_string(&mut told).unwrap();
    assert_eq!(told, "that is all from me");
    client.write_all(b"but not from me").unwrap();
    drop(client);
    assert_eq!(server.join().unwrap(), "but not from me");
}

#[test]
fn bytes_arrive_as_they_were_sent_in_both_directions_at_once() {
    for way in WAYS {
        let host = Host::new();
        let (_web, listener) = start(&host, "web", way);
        let (up, down) = (pattern(24 << 20, 1), pattern(24 << 20, 2));
        let both = |stream: TcpStream, sends: Vec<u8>| {
            let mut reader = stream.try_clone().unwrap();
            let reads = thread::spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                all
            });
            let mut writer = stream;
            writer.write_all(&sends).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
            reads.join().unwrap()
        };
        let sent_down = down.clone();
        let server = thread::spawn(move || both(listener.accept().unwrap().0, sent_down));
        let got_down = both(connect(host.place(), "127.0.0.1:7000"), up.clone());
        assert!(got_down == down, "{way:?}: {} of {} bytes down", got_down.len(), down.len());
        let got_up = server.join().unwrap();
        assert!(got_up == up, "{way:?}: {} of {} bytes up", got_up.len(), up.len());
    }
}

#[test]
fn slow_reader_makes_the_other_side_wait() {
    let host = Host::new();
    let (web, listener) = start(&host, "web", &["--net", "none"]);
    let mut client = connect(host.place(), "127.0.0.1:7000");
    let (mut server, _) = listener.accept().unwrap();
    let before = memory(web.pid());
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (block, mut sent) = (pattern(1 << 20, 3), Vec::new());
    // Sockets and one pipe hold some of it, and nothing more goes in.
    let error = loop {
        match client.write(&block) {
            Ok(length) => sent.extend_from_slice(&block[..length]),
            Err(error) => break error,
        }
        assert!(sent.len() < 256 << 20, "{} bytes went somewhere", sent.len());
    };
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert!(memory(web.pid()) < before + 1024, "the launcher holds them");
    // Others are served meanwhile.
    assert!(host.get("127.0.0.1:8080").is_ok());
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

#[test]
fn thousand_connections_are_relayed_at_once() {
    // Both of their ends are this process's.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let host = Host::new();
    for way in WAYS {
        let (web, listener) = start(&host, "web", way);
        let mut pairs = Vec::new();
        for _ in 0..1000 {
            let client = connect(host.place(), "127.0.0.1:7000");
            pairs.push((client, listener.accept().unwrap().0));
        }
        for (number, (client, server)) in pairs.iter_mut().enumerate() {
            client.write_all(format!("question {number}\n").as_bytes()).unwrap();
            server.write_all(format!("answer {number}\n").as_bytes()).unwrap();
        }
        for (number, (client, server)) in pairs.iter_mut().enumerate() {
            client.shutdown(Shutdown::Write).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            server.read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("question {number}\n"));
            text.clear();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("answer {number}\n"));
        }
        let fds = || fs::read_dir(format!("/proc/{}/fd", web.pid())).unwrap().count();
        wait_until("the launcher to have closed them", || fds() < 64);
        assert!(host.get("127.0.0.1:8080").is_ok());
        let _ = web.stop();
    }
}

#[test]
fn connections_wait_for_free_fds_and_are_served() {
    let host = Host::new();
    let (web, listener) = start(&host, "web", &["--net", "none"]);
    let few = nix::libc::rlimit { rlim_cur: 40, rlim_max: 40 };
    tests::sys::limit_files(web.pid(), few).unwrap();
    let mut clients: Vec<_> = (0..40).map(|_| connect(host.place(), "127.0.0.1:7000")).collect();
    let held: Vec<_> = (0..4).map(|_| listener.accept().unwrap().0).collect();
    drop(held);
    // Each that has ended leaves its place to another.
    let server = thread::spawn(move || {
        for _ in 0..36 {
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(b"served").unwrap();
        }
    });
    let served = |client: &mut TcpStream| {
        let mut text = String::new();
        client.read_to_string(&mut text).map(|_| text)
    };
    let all: Vec<_> = clients.drain(..).map(|mut client| served(&mut client)).collect();
    server.join().unwrap();
    assert_eq!(all.iter().filter(|text| text.as_ref().is_ok_and(|text| text == "served")).count(), 36, "{all:?}");
}

#[test]
fn idle_connections_leave_fds_for_the_launcher_and_new_clients() {
    for way in WAYS {
        let host = Host::new();
        let health = ["--health-interval", "50ms", "--health-retries", "1"];
        let volume = format!("{}:/intruder:ro", tests::intruder().display());
        let words = ["--health-cmd", "[\"/intruder\", \"owner\", \"/\"]", "-v", &volume, "--health-on-failure", "kill"];
        let options = [way, &health, &words, &["-d", "--name", "web", "-p", "8080:80", "-p", "7000:7777"]].concat();
        let _ = host.run(&options, host.demo(), &["/usr/sbin/nginx"]).run().ok();
        let web = Background::new(&host, "web");
        let network = Place::network_of(web.init());
        wait_until("nginx", || network.get("127.0.0.1:80").is_ok());
        let launcher: u32 = web.launcher().as_raw().try_into().unwrap();
        let few = nix::libc::rlimit { rlim_cur: 256, rlim_max: 256 };
        tests::sys::limit_files(launcher, few).unwrap();
        // More than there is room for: nobody serves them, and nobody says a word.
        let listener = network.inside(|| TcpListener::bind("0.0.0.0:7777")).unwrap();
        let clients: Vec<_> = (0..100).map(|_| connect(host.place(), "127.0.0.1:7000")).collect();
        let files = || fs::read_dir(format!("/proc/{launcher}/fd")).unwrap().count();
        // A quarter of the fds is reserved. The rest must be in use, not only while a check has some of them: otherwise
        // the next client is served at once.
        let are_in_use = |_| {
            thread::sleep(Duration::from_millis(10));
            files() >= 190
        };
        wait_until("all that there is room for", || (0..20).all(are_in_use));
        // Checks go on, and others have their turn before long: the silent make room for them.
        let launched = std::time::Instant::now();
        wait_until("another one to be served", || host.get("127.0.0.1:8080").is_ok());
        let waited = launched.elapsed();
        assert!(files() <= 256 - 48, "{} files", files());
        wait_until("it to be well", || web.seen().is_some_and(|seen| seen["health"] == "healthy"));
        assert!(!web.logged().contains("could not be started"), "{} after {waited:?}", web.logged());
        assert_eq!(web.status(), "running");
        drop((clients, listener));
    }
}

#[test]
fn commands_have_the_callers_limit_of_fds() {
    let host = Host::new();
    let options = ["-d", "--name", "web", "--net", "none", "-p", "7000:7777", "--health-interval", "20ms"];
    let health = ["--health-cmd", "ulimit -Sn > /tmp/checked; ulimit -Hn >> /tmp/checked"];
    let run = host.run(&[&options[..], &health].concat(), host.debian(), &["sh", "-c", "exec sleep 600"]);
    let _ = run.through("sh", &["-c", "ulimit -Sn 1000; ulimit -Hn 4000; exec \"$@\"", "sh"]).run().ok();
    let checked = || host.exec(&[], "web", &["sh", "-c", "cat /tmp/checked"]).run().stdout;
    wait_until("a check", || checked().lines().count() == 2);
    assert_eq!(checked(), "1000\n4000\n");
    let launcher = Background::new(&host, "web").launcher();
    let limits = fs::read_to_string(format!("/proc/{launcher}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("4000"), "{line}");
}

#[test]
fn reset_and_refused_connections_are_passed_on() {
    for way in WAYS {
        let host = Host::new();
        let (_web, listener) = start(&host, "web", way);
        let mut client = connect(host.place(), "127.0.0.1:7000");
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"never read").unwrap();
        wait_until("the question", || server.peek(&mut [0; 16]).unwrap() > 0);
        // Closed with something unread, it is a reset; tcp(7).
        drop(server);
        let error = client.read(&mut [0; 16]).expect_err("an end that is none");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{way:?}");

        drop(listener);
        // As soon as connect(2) is done, or before it is.
        let address: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let client = host.inside(|| TcpStream::connect(address));
        let error = client.and_then(|mut client| client.read(&mut [0; 16])).expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{way:?}");
        assert!(host.get("127.0.0.1:8080").is_ok(), "others are served");
    }
}

#[test]
fn disconnected_client_is_noticed() {
    let host = Host::new();
    let (web, listener) = start(&host, "web", &["--net", "none"]);
    let fds = || fs::read_dir(format!("/proc/{}/fd", web.pid())).unwrap().count();
    let before = fds();
    for round in 0..50 {
        let mut client = connect(host.place(), "127.0.0.1:7000");
        let (mut server, _) = listener.accept().unwrap();
        if round % 2 == 0 {
            server.write_all(&pattern(round * 1000, 4)).unwrap();
            client.write_all(b"and").unwrap();
        }
        drop(client);
        let mut rest = Vec::new();
        // The end, or a reset where something was unread.
        let _ = server.read_to_end(&mut rest);
    }
    wait_until("the launcher to have closed them", || fds() <= before + 8);
}

#[test]
fn datagrams_are_relayed_in_both_directions() {
    for way in WAYS {
        let host = Host::new();
        host.ip("addr add 192.0.2.3/24 dev eth0\n");
        let mut web = host.nginx("web", &[way, &["-p", "5353:53/udp"]].concat());
        let server = web.network().inside(|| UdpSocket::bind("0.0.0.0:53")).unwrap();
        server.set_read_timeout(Some(patience())).unwrap();
        let mut clients = Vec::new();
        for (place, at) in [
            (host.place(), "127.0.0.1"),
            (host.place(), HOST_ADDRESS),
            (&host.neighbour, HOST_ADDRESS),
            // The answer comes from the address that the client has asked.
            (&host.neighbour, "192.0.2.3"),
        ] {
            let client = place.inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            client.set_read_timeout(Some(patience())).unwrap();
            // Connected, so that an answer from another address than was asked does not count.
            client.connect((at, 5353)).unwrap();
            clients.push((client, at));
        }
        for round in 0..3 {
            for (client, at) in &clients {
                let mut buffer = [0; 70_000];
                let question = pattern(1 + round * 4000, 5);
                client.send(&question).unwrap();
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                assert!(buffer[..length] == question, "{way:?} {at}");
                server.send_to(&pattern(60_000 / (3 - round), 6), from).unwrap();
                let length = client.recv(&mut buffer).unwrap();
                assert!(buffer[..length] == pattern(60_000 / (3 - round), 6), "{way:?} {at}");
            }
        }
    }
}

#[test]
fn datagrams_of_many_clients_are_not_mixed() {
    let host = Host::new();
    let mut web = host.nginx("web", &["--net", "none", "-p", "5353:53/udp"]);
    let server = web.network().inside(|| UdpSocket::bind("0.0.0.0:53")).unwrap();
    server.set_read_timeout(Some(patience())).unwrap();
    let clients: Vec<_> = (0..300).map(|_| host.inside(|| UdpSocket::bind("127.0.0.1:0")).unwrap()).collect();
    for (number, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(patience())).unwrap();
        client.send_to(number.to_string().as_bytes(), "127.0.0.1:5353").unwrap();
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], from).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        let mut buffer = [0; 16];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.to_string().as_str()), (number.to_string().as_bytes(), "127.0.0.1:5353"));
    }
}

#[test]
fn relay_needs_neither_ip_forwarding_nor_tables() {
    let host = Host::new();
    let before = host.snapshot();
    let web = host.nginx("web", &["--net", "none", "-p", "8080:80"]);
    for kind in ["links", "addresses", "routes", "nft ruleset", "forwarding"] {
        assert_eq!(host.snapshot().lines(kind), before.lines(kind), "{kind}");
    }
    let _ = web.stop();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn taken_relayed_port_is_refused_before_anything_is_started() {
    let host = Host::new();
    let _web = host.nginx("web", &["--net", "none", "-p", "8080:80"]);
    let _client = connect(host.place(), "127.0.0.1:8080");
    let line = host.run(&["--net", "none", "-p", "8080:80"], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("8080"), "{line}");
}

#[test]
fn killed_launcher_leaves_neither_port_nor_process() {
    let host = Host::new();
    let before = host.snapshot();
    let web = host.nginx("web", &["--net", "none", "-p", "8080:80"]);
    let _client = connect(host.place(), "127.0.0.1:8080");
    web.signal(Signal::SIGKILL);
    let _ = web.into_running().finish().code(-9);
    wait_until("the port to be free", || host.inside(|| TcpListener::bind("0.0.0.0:8080")).is_ok());
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn ports_are_relayed_without_nf_tables() {
    let host = Host::new();
    let before = host.snapshot();
    let program = host.run(&["--name", "web", "-p", "8080:80"], host.demo(), &["/usr/sbin/nginx"]);
    // On a thread of its own, whose filter ends with it.
    let running = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (domain, protocol) = (nix::libc::AF_NETLINK, nix::libc::NETLINK_NETFILTER);
            tests::sys::refuse_sockets(domain, protocol, nix::libc::EPROTONOSUPPORT).unwrap();
            program.start()
        });
        thread.join().unwrap()
    });
    let mut web = Container::new(&host, "web", running);
    wait_until("the page", || {
        assert!(!web.has_ended(), "{}", web.stderr());
        host.get("127.0.0.1:8080").is_ok()
    });
    assert!(host.neighbour.get(&format!("{HOST_ADDRESS}:8080")).is_ok());
    // Nobody keeps the LAN from what the host would forward: so it does not.
    assert_eq!(host.snapshot().lines("forwarding"), ["0"]);
    let address = format!("{}:80", web.address());
    host.neighbour.ip(&format!("route add 10.77.0.0/16 via {HOST_ADDRESS}\n"));
    assert!(host.neighbour.get(&address).is_err());
    assert!(host.get(&address).is_ok());
    let _ = web.stop();
    host.neighbour.ip("route del 10.77.0.0/16\n");
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn impossible_publish_via_is_refused() {
    let host = Host::new();
    for (options, words) in [
        (&["--net", "host", "-p", "8080:80"][..], "--net host"),
        (&["--net", "none", "-p", "8080:80", "--publish-via", "nft"], "relay"),
        (&["-p", "8080:80", "--publish-via", "proxy"], "nft or relay"),
    ] {
        let line = host.run(options, host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn neighbour_sees_the_client_as_the_host() {
    // The price of a relay, which docs/ name: the container does not see who it is.
    let host = Host::new();
    let (_web, listener) = start(&host, "web", &["--publish-via", "relay"]);
    let _client = connect(&host.neighbour, &format!("{HOST_ADDRESS}:7000"));
    let (_, from) = listener.accept().unwrap();
    assert_ne!(from.ip().to_string(), NEIGHBOUR_ADDRESS);
}
