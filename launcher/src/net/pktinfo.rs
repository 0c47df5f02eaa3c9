//! Datagrams with the address that they went to, and answers with the same: IP_PKTINFO and IPV6_PKTINFO; ip(7),
//! ipv6(7).
//!
//! Must not know what is in them.

use crate::sys;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::{Errno, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address of a client, and the address of the host to which it has sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    from: SocketAddr,
    at: IpAddr,
    /// The link that it came by, which a link-local address means nothing without.
    link: u32,
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// Level and type of the two.
const IP: (i32, i32) = (0, 8);
const IPV6: (i32, i32) = (41, 50);
const IPV6_RECVPKTINFO: u32 = 49;

/// Has the addresses told of all that comes to the socket.
pub fn ask_for(socket: impl AsFd) -> Result<()> {
    let (level, option) = if is_ipv6(&socket)? { (IPV6.0, IPV6_RECVPKTINFO) } else { (IP.0, IP.1 as u32) };
    sys::set_option(socket, level as u32, option)
}

fn is_ipv6(socket: impl AsFd) -> Result<bool> {
    Ok(rustix::net::getsockname(socket)?.address_family() == rustix::net::AddressFamily::INET6)
}

/// Takes a datagram: its length, and where it came from.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Question)> {
    let mut message = sys::Packet::default();
    let length = sys::receive_packet(socket, buffer, &mut message)?;
    let from = parse_address(&message.name).ok_or(Errno::AFNOSUPPORT)?;
    // struct in_pktinfo: link, the local address, the one in the header. struct in6_pktinfo: address, link.
    let (at, link) = match (message.kind(), &message.data) {
        (IP, data) => (IpAddr::from(Ipv4Addr::from(bytes::<4>(data, 4)?)), u32::from_ne_bytes(bytes(data, 0)?)),
        (IPV6, data) => (IpAddr::from(Ipv6Addr::from(bytes::<16>(data, 0)?)), u32::from_ne_bytes(bytes(data, 16)?)),
        _ => (from.ip(), 0),
    };
    Ok((length, Question { from, at, link }))
}

/// Sends an answer, from where the question went to.
pub fn answer(socket: BorrowedFd<'_>, question: &Question, answer: &[u8]) -> Result<()> {
    let mut message = sys::Packet::default();
    message.set_name(&address(question.from));
    match question.at {
        IpAddr::V4(at) => {
            let mut data = [0; 12];
            data[4..8].copy_from_slice(&at.octets());
            message.set(IP, &data);
        }
        IpAddr::V6(at) => {
            let mut data = [0; 20];
            data[..16].copy_from_slice(&at.octets());
            let is_local = at.is_unicast_link_local();
            data[16..].copy_from_slice(&(if is_local { question.link } else { 0 }).to_ne_bytes());
            message.set(IPV6, &data);
        }
    }
    sys::send_packet(socket, answer, &mut message)
}

/// struct sockaddr_in or struct sockaddr_in6.
fn parse_address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes(name, 0).ok()?);
    let port = u16::from_be_bytes(bytes(name, 2).ok()?);
    match family {
        AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(bytes::<4>(name, 4).ok()?), port).into()),
        AF_INET6 => {
            let (flow, scope) = (u32::from_be_bytes(bytes(name, 4).ok()?), u32::from_ne_bytes(bytes(name, 24).ok()?));
            Some(SocketAddrV6::new(Ipv6Addr::from(bytes::<16>(name, 8).ok()?), port, flow, scope).into())
        }
        _ => None,
    }
}

fn address(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(address) => [&AF_INET.to_ne_bytes()[..], &port, &address.ip().octets(), &[0; 8]].concat(),
        SocketAddr::V6(address) => {
            let (flow, scope) = (address.flowinfo().to_be_bytes(), address.scope_id().to_ne_bytes());
            [&AF_INET6.to_ne_bytes()[..], &port, &flow, &address.ip().octets(), &scope].concat()
        }
    }
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Result<[u8; N]> {
    from.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or(Errno::INVAL)
}
