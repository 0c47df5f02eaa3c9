//! Packets between the places of a test.

use crate::{Place, sys, wait_for};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, bind, recv, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A text of the demo's page.
const HEADING: &str = "<h1>";
/// How long a packet may take that is to come.
pub const WAIT: Duration = Duration::from_secs(2);

/// Asserts that there is a page at `address`, seen from `place`.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn assert_page(place: &Place, address: &str) {
    let page = place.get(address);
    assert!(page.as_ref().is_ok_and(|page| page.contains(HEADING)), "the page at {address}: {page:?}");
}

/// Asserts that there is not even a connection to `address`, seen from `place`.
///
/// # Panics
/// If there is one.
#[track_caller]
pub fn assert_unreachable(place: &Place, address: &str) {
    let connection = connect(place, address, Duration::from_millis(500));
    assert!(connection.is_err(), "a connection to {address}: {connection:?}");
}

/// Connects to `address` from `place`.
///
/// # Errors
/// If it does not work within `wait`.
///
/// # Panics
/// If it is no address.
pub fn connect(place: &Place, address: &str, wait: Duration) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    place.inside(|| TcpStream::connect_timeout(&address, wait))
}

/// Opens a socket in a place by `bind`, although a socket with the same address may have just been closed: a program
/// that another test is starting still holds that until its exec.
///
/// # Panics
/// If the address stays in use.
#[track_caller]
pub fn bound<T: Send>(place: &Place, bind: impl Fn() -> std::io::Result<T> + Sync) -> T {
    wait_for("the address to be free", || place.inside(&bind).ok())
}

/// Sends a datagram from `client` to `to`, and an answer back from a socket bound to `at` on `server`; returns the
/// address that the server sees.
///
/// # Errors
/// If one of the two does not come.
///
/// # Panics
/// If something else comes.
pub fn udp_round_trip(client: &Place, to: &str, server: &Place, at: &str) -> std::io::Result<SocketAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let server = bound(server, || UdpSocket::bind(at));
    let client = client.inside(|| UdpSocket::bind(SocketAddr::new(any, 0)))?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(WAIT))?;
    }
    let mut buffer = [0; 16];
    client.send_to(b"question", to)?;
    let (length, from) = server.recv_from(&mut buffer)?;
    assert_eq!(&buffer[..length], b"question");
    server.send_to(b"answer", from)?;
    // Connected, so that an answer from another address than was asked does not count.
    client.connect(to)?;
    let length = client.recv(&mut buffer)?;
    assert_eq!(&buffer[..length], b"answer");
    Ok(from)
}

/// Sends a router advertisement from the `eth0` of `place` to all nodes there, as the default router for an hour;
/// RFC 4861.
///
/// # Panics
/// If it cannot be sent.
pub fn advertise_router(place: &Place) {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const HOP_LIMIT: u8 = 64;
    const SECONDS: [u8; 2] = 3600u16.to_be_bytes();
    place.inside(|| {
        let socket = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6).unwrap();
        // Or it could come from beyond a router, and does not count.
        setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).unwrap();
        // Type, code, checksum, hop limit, flags, lifetime, and two times that are not given. The kernel adds the sum.
        let mut message = [0; 16];
        message[0] = ROUTER_ADVERTISEMENT;
        message[4] = HOP_LIMIT;
        message[6..8].copy_from_slice(&SECONDS);
        let all_nodes =
            SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, if_nametoindex("eth0").unwrap());
        sendto(socket.as_raw_fd(), &message, &SockaddrIn6::from(all_nodes), MsgFlags::empty()).unwrap();
    });
}

/// Sends a datagram from an IPv6 address that this host need not have: IPV6_FREEBIND takes no privileges, ipv6(7).
///
/// # Errors
/// If it cannot be sent.
pub fn send_from_nowhere(from: Ipv6Addr, to: &str, text: &str) -> std::io::Result<()> {
    const IPV6_FREEBIND: i32 = 78;
    let socket = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    sys::set_option(&socket, nix::libc::IPPROTO_IPV6, IPV6_FREEBIND, 1)?;
    bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(from, 0, 0, 0)))?;
    UdpSocket::from(socket).send_to(text.as_bytes(), to).map(drop)
}

/// Sends a TCP segment that ends a nonexistent connection, from `from` at `place`, and says whether there is an answer:
/// a port that is closed has one, RFC 9293. Connection tracking finds such a segment invalid.
///
/// # Panics
/// If it cannot be sent.
pub fn is_fin_answered(place: &Place, from: &str, to: SocketAddrV4) -> bool {
    const FIN: u8 = 1;
    const SOURCE: usize = 12;
    let from: Ipv4Addr = from.parse().unwrap();
    // Ports, sequence and acknowledgement number, five words of header, flags, window, checksum, urgent pointer.
    let mut segment =
        [&40_000u16.to_be_bytes()[..], &to.port().to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, FIN]].concat();
    segment.extend([4, 0, 0, 0, 0, 0]);
    let pseudo = [&from.octets()[..], &to.ip().octets(), &[0, 6, 0, 20], &segment].concat();
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    place.inside(|| {
        let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp).unwrap();
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0))).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0)).unwrap();
        sendto(socket.as_raw_fd(), &segment, &SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0)), MsgFlags::empty())
            .unwrap();
        let mut packet = [0; 256];
        while let Ok(length) = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            if length >= SOURCE + 4 && packet[SOURCE..SOURCE + 4] == to.ip().octets() {
                return true;
            }
        }
        false
    })
}
