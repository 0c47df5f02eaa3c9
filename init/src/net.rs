//! Links, by rtnetlink(7): the loopback of a container that has no other, and the network of a machine.
//!
//! What is linked to the host is the launcher's. Must not wait for anybody but the kernel.

use crate::{sys, terminal};
use linux_raw_sys::net::net_device_flags::IFF_UP;
use linux_raw_sys::netlink as uapi;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, Result};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// A word of a netlink message: all that is sent here is made of them.
type Word = [u8; 4];

/// The loopback's index in every network namespace.
const LOOPBACK: u32 = 1;

/// Sets `lo` up.
pub fn bring_up_loopback() -> Result<()> {
    set_link_up(&netlink_socket()?, LOOPBACK)
}

/// Makes the sockets that the launcher asks for, until it is gone. They bind and connect from this network, whoever has them.
pub fn make_sockets(launcher: &OwnedFd) {
    let mut request = [0; 2];
    while let Ok((2, _)) = recv(launcher, &mut request, RecvFlags::empty()) {
        let [family, kind] = request;
        let (family, kind) = (AddressFamily::from_raw(family.into()), SocketType::from_raw(kind.into()));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let told = match socket_with(family, kind, flags, None) {
            Ok(socket) => terminal::send(launcher, &[0; 4], &socket),
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
    let mut fields = config.split(|byte| *byte == b':');
    let mut field = |skip| fields.nth(skip).ok_or(Errno::INVAL);
    let (address, gateway, mask, link) = (octets(field(0)?)?, octets(field(1)?)?, octets(field(0)?)?, field(1)?);

    let socket = netlink_socket()?;
    let index = name_to_index(&socket, core::str::from_utf8(link).map_err(|_| Errno::INVAL)?)?;
    set_link_up(&socket, index)?;
    // struct ifaddrmsg, IFA_LOCAL.
    let prefix = u32::from_ne_bytes(mask).count_ones() as u8;
    let address = [[INET, prefix, 0, 0], index.to_ne_bytes(), attribute(uapi::IFA_LOCAL as u16), address];
    request(&socket, uapi::RTM_NEWADDR as u16, &address)?;
    // struct rtmsg, RTA_GATEWAY.
    let table = uapi::rt_class_t::RT_TABLE_MAIN as u8;
    let kind = [table, uapi::RTPROT_BOOT as u8, 0, uapi::RTN_UNICAST as u8];
    let gateway_type = attribute(uapi::rtattr_type_t::RTA_GATEWAY as u16);
    request(&socket, uapi::RTM_NEWROUTE as u16, &[[INET, 0, 0, 0], kind, [0; 4], gateway_type, gateway])
}

/// An IPv4 address.
fn octets(text: &[u8]) -> Result<[u8; 4]> {
    let (mut octets, mut parts) = ([0; 4], text.split(|byte| *byte == b'.'));
    for octet in &mut octets {
        let number = parts.next().and_then(sys::number).and_then(|number| number.try_into().ok());
        *octet = number.ok_or(Errno::INVAL)?;
    }
    parts.next().map_or(Ok(octets), |_| Err(Errno::INVAL))
}

const INET: u8 = AddressFamily::INET.as_raw() as u8;

fn netlink_socket() -> Result<OwnedFd> {
    // Protocol 0 is NETLINK_ROUTE.
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
}

fn set_link_up(socket: &OwnedFd, index: u32) -> Result<()> {
    let up = (IFF_UP as u32).to_ne_bytes();
    // struct ifinfomsg: family and type, index, flags, and which of them change.
    request(socket, uapi::RTM_NEWLINK as u16, &[[0; 4], index.to_ne_bytes(), up, up])
}

/// The head of an attribute with one word in it.
fn attribute(kind: u16) -> Word {
    pair(2 * size_of::<Word>() as u16, kind)
}

fn pair(first: u16, second: u16) -> Word {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

/// Sends one message and takes the kernel's answer to it; netlink(7).
fn request(socket: &OwnedFd, kind: u16, body: &[Word]) -> Result<()> {
    const HEADER: usize = 4;
    // struct nlmsghdr, and in an answer struct nlmsgerr.
    const ERROR: usize = 4;
    let length = (HEADER + body.len()) * size_of::<Word>();
    let flags = uapi::NLM_F_REQUEST | uapi::NLM_F_ACK | uapi::NLM_F_CREATE;
    let header: [Word; HEADER] = [(length as u32).to_ne_bytes(), pair(kind, flags as u16), [0; 4], [0; 4]];
    let mut message = [[0; 4]; 32];
    for (place, word) in message.iter_mut().zip(header.iter().chain(body)) {
        *place = *word;
    }
    send(socket, message.as_flattened().get(..length).unwrap_or_default(), SendFlags::empty())?;
    recv(socket, message.as_flattened_mut(), RecvFlags::empty())?;
    match i32::from_ne_bytes(message[ERROR]) {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(-error)),
    }
}
