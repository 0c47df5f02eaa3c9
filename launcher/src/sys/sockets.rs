//! Socket options, and datagrams with the address and the control message that go with them.

use super::check;
use linux_raw_sys::{general as uapi, netlink};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use sc::syscall;
use std::ffi::c_int;
use std::mem::offset_of;
use std::ptr;

/// `int setsockopt(int sockfd, SOL_NETLINK, int option, 1)`, for NETLINK_EXT_ACK and NETLINK_CAP_ACK.
pub fn set_netlink_option(socket: impl AsFd, option: u32) -> Result<()> {
    const SOL_NETLINK: usize = 270;
    let one: c_int = 1;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value is an int, alive across the call.
    check(unsafe { syscall!(SETSOCKOPT, fd, SOL_NETLINK, option, &raw const one, size_of::<c_int>()) }).map(drop)
}

/// The same for SOL_IP and SOL_IPV6.
pub fn set_option(socket: impl AsFd, level: u32, option: u32) -> Result<()> {
    let one: c_int = 1;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value is an int, alive across the call.
    check(unsafe { syscall!(SETSOCKOPT, fd, level, option, &raw const one, size_of::<c_int>()) }).map(drop)
}

/// What goes with a datagram: the other's address, and one control message of at most 20 bytes; recvmsg(2), cmsg(3).
#[derive(Default)]
#[repr(C, align(8))]
pub struct Packet {
    /// The other's address, a struct sockaddr.
    pub name: [u8; 28],
    name_length: u32,
    control_length: usize,
    level: c_int,
    kind: c_int,
    /// What the control message has.
    pub data: [u8; 24],
}

impl Packet {
    /// The level and the type of the control message, where there is one.
    pub fn kind(&self) -> (c_int, c_int) {
        if self.control_length == 0 { (-1, -1) } else { (self.level, self.kind) }
    }

    /// Says to whom it goes.
    pub fn set_name(&mut self, name: &[u8]) {
        self.name[..name.len()].copy_from_slice(name);
        self.name_length = name.len() as u32;
    }

    /// Says what goes with it.
    pub fn set(&mut self, (level, kind): (c_int, c_int), data: &[u8]) {
        (self.level, self.kind) = (level, kind);
        self.data[..data.len()].copy_from_slice(data);
        self.control_length = CONTROL_HEADER + data.len();
    }

    fn header(&mut self, part: &mut uapi::iovec, control_space: usize) -> linux_raw_sys::net::msghdr {
        // SAFETY: a struct of integers and pointers, for which zeros are a value.
        let mut header: linux_raw_sys::net::msghdr = unsafe { core::mem::zeroed() };
        // All of the packet may be reached by these, and not one field alone: the control message has several.
        let packet = ptr::from_mut(self).cast::<u8>();
        header.msg_name = packet.wrapping_add(offset_of!(Self, name)).cast();
        header.msg_namelen = self.name_length as _;
        header.msg_iov = ptr::from_mut(part).cast();
        header.msg_iovlen = 1;
        header.msg_control = packet.wrapping_add(offset_of!(Self, control_length)).cast();
        header.msg_controllen = control_space as _;
        header
    }
}

/// struct cmsghdr on 64-bit machines: the length, the level and the type, as they stand in [`Packet`].
const CONTROL_HEADER: usize = 16;

/// `ssize_t recvmsg(int sockfd, struct msghdr *msg, MSG_DONTWAIT)`: the datagram's length.
pub fn receive_packet(socket: impl AsFd, buffer: &mut [u8], packet: &mut Packet) -> Result<usize> {
    packet.name_length = packet.name.len() as u32;
    let mut part = uapi::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() as _ };
    let mut header = packet.header(&mut part, CONTROL_HEADER + packet.data.len());
    let flags = linux_raw_sys::net::MSG_DONTWAIT;
    // SAFETY: the kernel writes no more than the lengths given to the buffer, and to name and control message of the
    // packet, whose fields from control_length on are one struct cmsghdr and its data.
    check(unsafe { syscall!(RECVMSG, socket.as_fd().as_raw_fd(), &raw mut header, flags) })
}

/// `ssize_t sendmsg(int sockfd, const struct msghdr *msg, MSG_DONTWAIT | MSG_NOSIGNAL)`.
pub fn send_packet(socket: impl AsFd, bytes: &[u8], packet: &mut Packet) -> Result<()> {
    let mut part = uapi::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() as _ };
    let length = packet.control_length.next_multiple_of(8);
    let header = packet.header(&mut part, length);
    let flags = linux_raw_sys::net::MSG_DONTWAIT | linux_raw_sys::net::MSG_NOSIGNAL;
    // SAFETY: the kernel only reads the bytes, and name and control message of the packet, by the header's lengths.
    check(unsafe { syscall!(SENDMSG, socket.as_fd().as_raw_fd(), &raw const header, flags) }).map(drop)
}

/// Numbers of linux/netfilter_ipv4/ip_tables.h, and the same of ip6_tables.h.
pub const IPT_SO_GET_INFO: u32 = 64;
pub const IPT_SO_GET_ENTRIES: u32 = 65;

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)` of a raw socket, for
/// ip_tables' and ip6_tables' IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES, into a buffer that says what is asked for.
pub fn look_at_iptables(socket: &OwnedFd, level: u32, option: u32, buffer: &mut [u8]) -> Result<()> {
    if !matches!(option, IPT_SO_GET_INFO | IPT_SO_GET_ENTRIES) {
        return Err(Errno::NOPROTOOPT);
    }
    let mut length = buffer.len() as u32;
    let fd = socket.as_raw_fd();
    // SAFETY: the kernel writes no more than the length given to the buffer, which is alive across the call. Neither
    // option has an address in it.
    check(unsafe { syscall!(GETSOCKOPT, fd, level, option, buffer.as_mut_ptr(), &raw mut length) }).map(drop)
}

/// Numbers of netlink options, which linux-raw-sys has beside its messages.
pub const NETLINK_OPTIONS: [u32; 2] = [netlink::NETLINK_EXT_ACK, netlink::NETLINK_CAP_ACK];
