//! Links, by netdevice(7): the loopback of a container that has no other, and the network of a machine.
//!
//! What is linked to the host is the launcher's. Must not wait for anybody but the kernel.

use crate::sys::{IFREQ, LinkRequest, RTENTRY};
use crate::{sys, text};
use linux_raw_sys::net::net_device_flags::IFF_UP;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// linux/if.h, linux/route.h.
const IFNAMSIZ: usize = 16;
const RTF_UP: u16 = 1;
const RTF_GATEWAY: u16 = 2;

/// Sets `lo` up, in the network of the socket, which may be any.
pub fn bring_up_loopback(socket: &OwnedFd) -> Result<()> {
    set_up(socket, b"lo")
}

/// Makes the sockets that the launcher asks for, until it is gone: a packet has a family and a type, and the answer an
/// errno and, where that is 0, the socket. They bind and connect from this network, whoever has them.
pub fn make_sockets(launcher: &OwnedFd) {
    let mut request = [0; 2];
    while let Ok((2, _)) = recv(launcher, &mut request, RecvFlags::empty()) {
        let [family, kind] = request;
        let (family, kind) = (AddressFamily::from_raw(family.into()), SocketType::from_raw(kind.into()));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let told = match socket_with(family, kind, flags, None) {
            Ok(socket) => sys::send_fd(launcher, &[0; 4], &socket),
            Err(errno) => send(launcher, &errno.raw_os_error().to_ne_bytes(), SendFlags::NOSIGNAL).map(drop),
        };
        if told.is_err() {
            return;
        }
    }
}

/// `ip=ADDRESS::GATEWAY:NETMASK::LINK:off`, as the kernel's Documentation/admin-guide/nfs/nfsroot.rst has it. A kernel
/// without CONFIG_IP_PNP hands what it does not know to its init, in the environment; one with it has done the work.
pub fn configure(config: &[u8]) -> Result<()> {
    let mut fields = text::split(config, b':');
    let mut field = |skip| fields.nth(skip).ok_or(Errno::INVAL);
    let (address, gateway, mask, link) = (octets(field(0)?)?, octets(field(1)?)?, octets(field(0)?)?, field(1)?);

    let socket = socket()?;
    request(&socket, LinkRequest::ADDRESS, link, &inet(address))?;
    request(&socket, LinkRequest::NETMASK, link, &inet(mask))?;
    set_up(&socket, link)?;
    // struct rtentry: to all addresses, through the gateway.
    let mut route = [0; RTENTRY];
    for (at, bytes) in [(8, inet([0; 4])), (24, inet(gateway)), (40, inet([0; 4]))] {
        route[at..at + 16].copy_from_slice(&bytes);
    }
    route[56..58].copy_from_slice(&(RTF_UP | RTF_GATEWAY).to_ne_bytes());
    sys::request_of_link(&socket, LinkRequest::ADD_ROUTE, &route)
}

/// A socket for requests in the network of this process.
pub fn socket() -> Result<OwnedFd> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// An IPv4 address.
fn octets(text: &[u8]) -> Result<[u8; 4]> {
    let (mut octets, mut parts) = ([0; 4], text::split(text, b'.'));
    for octet in &mut octets {
        let number = parts.next().and_then(text::number).and_then(|number| number.try_into().ok());
        *octet = number.ok_or(Errno::INVAL)?;
    }
    parts.next().map_or(Ok(octets), |_| Err(Errno::INVAL))
}

/// The struct sockaddr_in of an address.
fn inet([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    let [first, second] = AddressFamily::INET.as_raw().to_ne_bytes();
    [first, second, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn set_up(socket: &OwnedFd, link: &[u8]) -> Result<()> {
    request(socket, LinkRequest::FLAGS, link, &(IFF_UP as u16).to_ne_bytes())
}

/// A request about a link, by struct ifreq: its name, and what the request takes; netdevice(7).
fn request(socket: &OwnedFd, request: LinkRequest<IFREQ>, link: &[u8], value: &[u8]) -> Result<()> {
    let mut ifreq = [0; IFREQ];
    let (name, union) = ifreq.split_at_mut(IFNAMSIZ);
    // One byte of the name stays 0.
    name[..IFNAMSIZ - 1].get_mut(..link.len()).ok_or(Errno::NODEV)?.copy_from_slice(link);
    union[..value.len()].copy_from_slice(value);
    sys::request_of_link(socket, request, &ifreq)
}
