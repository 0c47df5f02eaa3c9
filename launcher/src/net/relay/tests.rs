//! The relay between real sockets on loopback. Needs no root.

use super::{Dialer, PAUSE, Relay, SILENT};
use crate::config::publish::Protocol;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const NOTHING_YET: Duration = Duration::from_millis(50);

/// A relay of one port, where the port is, and `to` where its bytes go.
fn relay(socket: OwnedFd, protocol: Protocol, to: SocketAddr) -> Relay {
    let mut relay = Relay::new(Dialer::Host).unwrap();
    relay.add(socket, protocol, to).unwrap();
    relay
}

/// A bound socket, which does not listen yet, and its address.
fn bound(kind: SocketType) -> (OwnedFd, SocketAddr) {
    let socket = socket(AddressFamily::INET, kind, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

/// Lets the relay work, as the launcher's poll(2) does, until it has had nothing to do for a while.
fn settle(relay: &mut Relay) {
    loop {
        let wait = relay.timeout().map_or(NOTHING_YET, |wait| Duration::from_micros(wait).min(NOTHING_YET));
        let wait = Timespec::try_from(wait).unwrap();
        let mut fds = [PollFd::new(relay, PollFlags::IN)];
        let came = poll(&mut fds, Some(&wait)).unwrap();
        if came == 0 && relay.timeout() != Some(0) {
            return;
        }
        relay.work();
    }
}

/// Both ends of a connection through the relay.
fn connection(relay: &mut Relay, address: SocketAddr, server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(address).unwrap();
    settle(relay);
    (client, server.accept().unwrap().0)
}

/// What can be read at once.
fn read(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_nonblocking(true).unwrap();
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut part) {
        all.extend(&part[..length]);
    }
    stream.set_nonblocking(false).unwrap();
    all
}

#[test]
fn bytes_go_both_ways_and_half_a_connection_closes() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (socket, address) = bound(SocketType::STREAM);
    let mut relay = relay(socket, Protocol::Tcp, server.local_addr().unwrap());
    let (mut client, mut served) = connection(&mut relay, address, &server);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    settle(&mut relay);
    let mut question = Vec::new();
    served.read_to_end(&mut question).unwrap();
    assert_eq!(question, b"question");
    served.write_all(b"answer").unwrap();
    settle(&mut relay);
    assert_eq!(read(&mut client), b"answer");
    drop(served);
    settle(&mut relay);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(relay.streams.iter().all(Option::is_none), "its place is free");
    // The next connection takes that place.
    let _next = connection(&mut relay, address, &server);
    assert_eq!(relay.streams.len(), 1);
}

#[test]
fn side_that_does_not_read_makes_the_other_wait_and_loses_nothing() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (socket, address) = bound(SocketType::STREAM);
    let mut relay = relay(socket, Protocol::Tcp, server.local_addr().unwrap());
    let (mut client, mut served) = connection(&mut relay, address, &server);
    client.set_nonblocking(true).unwrap();
    let (mut sent, part) = (0, [7; 1 << 16]);
    loop {
        match client.write(&part) {
            Ok(length) => sent += length,
            Err(_) => {
                let before = sent;
                settle(&mut relay);
                sent += client.write(&part).unwrap_or(0);
                if sent == before {
                    break;
                }
            }
        }
    }
    assert_eq!(relay.timeout(), None, "it waits, and does not spin");
    client.shutdown(Shutdown::Write).unwrap();
    let mut came = 0;
    while came < sent {
        let part = read(&mut served);
        came += part.len();
        assert!(part.iter().all(|byte| *byte == 7));
        settle(&mut relay);
    }
    assert_eq!((came, served.read(&mut [0]).unwrap()), (sent, 0));
}

#[test]
fn client_of_a_port_where_nobody_listens_is_reset() {
    // Taken, and given back: nobody listens there.
    let (nobody, to) = bound(SocketType::STREAM);
    let (socket, address) = bound(SocketType::STREAM);
    let mut relay = relay(socket, Protocol::Tcp, to);
    let mut client = TcpStream::connect(address).unwrap();
    settle(&mut relay);
    assert!(client.read(&mut [0]).is_err());
    assert!(relay.streams.iter().all(Option::is_none));
    drop(nobody);
}

#[test]
fn ports_that_pause_at_different_times_make_room() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (socket, address) = bound(SocketType::STREAM);
    let mut relay = relay(socket, Protocol::Tcp, server.local_addr().unwrap());
    let (other, _) = bound(SocketType::STREAM);
    relay.add(other, Protocol::Tcp, server.local_addr().unwrap()).unwrap();
    let _silent = connection(&mut relay, address, &server);
    // Each port pauses every PAUSE, half of that after the other.
    relay.now += SILENT - PAUSE;
    for turn in 0..6 {
        relay.now += PAUSE / 2;
        relay.pause(turn % 2);
    }
    assert!(relay.streams.iter().all(Option::is_none), "the silent connection is closed");
}

#[test]
fn answers_to_datagrams_go_to_those_who_asked() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (socket, address) = bound(SocketType::DGRAM);
    let mut relay = relay(socket, Protocol::Udp, server.local_addr().unwrap());
    let clients = [1, 2, 3].map(|number| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client.send(&[number]).unwrap();
        client
    });
    settle(&mut relay);
    let mut datagram = [0; 16];
    for _ in &clients {
        let (length, from) = server.recv_from(&mut datagram).unwrap();
        assert_eq!(length, 1);
        server.send_to(&[datagram[0] * 2], from).unwrap();
    }
    settle(&mut relay);
    for (number, client) in (1..).zip(&clients) {
        assert_eq!((client.recv(&mut datagram).unwrap(), datagram[0]), (1, number * 2));
    }
    assert!(relay.timeout().is_some(), "flows are forgotten at some time");
}
