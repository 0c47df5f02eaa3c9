//! Links, addresses and routes; rtnetlink(7). One function a task, each one sendmsg(2).
//!
//! Must not choose names or addresses: that is bridge.rs.

use crate::error::{Error, Result};
use crate::net::netlink::{Batch, Message, Socket};
use linux_raw_sys::netlink as uapi;
use rustix::io::Errno;
use rustix::process::Pid;
use std::net::Ipv4Addr;

/// The first link of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const AF_INET: u8 = 2;
const MAKE: u32 = uapi::NLM_F_CREATE | uapi::NLM_F_EXCL;
/// include/uapi/linux/veth.h
const VETH_INFO_PEER: u16 = 1;
const UP: u32 = linux_raw_sys::net::net_device_flags::IFF_UP as u32;

/// What to do where the kernel has no such kind of link.
const NO_BRIDGE: &str = "the kernel lacks CONFIG_BRIDGE, or its module bridge: load it, or use --net none or host";
const NO_VETH: &str = "the kernel lacks CONFIG_VETH, or its module veth: load it, or use --net none or host";

fn advise(error: Error, missing: &str) -> Error {
    if error.errno() == Some(Errno::OPNOTSUPP) { error.advise(missing) } else { error }
}

/// Makes the bridge `name`, up, with a hardware address that stays as ports come and go. EEXIST is no error.
pub fn add_bridge(host: &Socket, name: &str, hardware: [u8; 6]) -> Result<()> {
    let mut batch = Batch::default();
    batch
        .request(format_args!("add bridge {name}"), uapi::RTM_NEWLINK as u16, MAKE, |m| {
            link_header(m, 0, UP, UP);
            m.text(uapi::IFLA_IFNAME as u16, name).bytes(uapi::IFLA_ADDRESS as u16, &hardware).nest(
                uapi::IFLA_LINKINFO as u16,
                |m| {
                    m.text(uapi::IFLA_INFO_KIND as u16, "bridge");
                },
            );
        })
        .or(Errno::EXIST);
    host.send(&batch).map_err(|error| advise(error, NO_BRIDGE))
}

/// Makes sure that the link `name` is a bridge: changing nothing of a bridge is refused where it is none.
pub fn check_bridge(host: &Socket, name: &str) -> Result<()> {
    let mut batch = Batch::default();
    batch.request(format_args!("use {name}"), uapi::RTM_NEWLINK as u16, 0, |m| {
        link_header(m, 0, 0, 0);
        m.text(uapi::IFLA_IFNAME as u16, name).nest(uapi::IFLA_LINKINFO as u16, |m| {
            m.text(uapi::IFLA_INFO_KIND as u16, "bridge").nest(uapi::IFLA_INFO_DATA as u16, |_| ());
        });
    });
    host.send(&batch).map_err(|error| error.advise("a link of this name is there and is no bridge: rename it"))
}

/// Gives the bridge its address. EEXIST is no error.
pub fn add_bridge_address(host: &Socket, bridge: u32, gateway: (Ipv4Addr, u8)) -> Result<()> {
    let mut batch = Batch::default();
    add_address(&mut batch, bridge, gateway, "the bridge").or(Errno::EXIST);
    host.send(&batch)
}

/// Deletes a link; none of that name is no error.
pub fn delete_link(host: &Socket, name: &str) -> Result<()> {
    let mut batch = Batch::default();
    batch
        .request(format_args!("delete link {name}"), uapi::RTM_DELLINK as u16, 0, |m| {
            link_header(m, 0, 0, 0);
            m.text(uapi::IFLA_IFNAME as u16, name);
        })
        .or(Errno::NODEV);
    host.send(&batch)
}

/// A link of the host's to a container.
pub struct Veth<'a> {
    /// The host end's name.
    pub host_end: &'a str,
    /// The bridge's index.
    pub bridge: u32,
    /// A process of the container's network namespace, where the peer goes.
    pub init: Pid,
    /// The peer's name there.
    pub peer: &'a str,
    /// The peer's hardware address.
    pub hardware: [u8; 6],
}

/// Makes a veth pair: the host end up and a port of the bridge, the peer in the container. EEXIST: another link has the
/// host end's name.
pub fn add_veth(host: &Socket, veth: &Veth<'_>) -> Result<()> {
    let mut batch = Batch::default();
    batch.request(format_args!("add veth {}", veth.host_end), uapi::RTM_NEWLINK as u16, MAKE, |m| {
        link_header(m, 0, UP, UP);
        m.text(uapi::IFLA_IFNAME as u16, veth.host_end).u32_ne(uapi::IFLA_MASTER as u16, veth.bridge).nest(
            uapi::IFLA_LINKINFO as u16,
            |m| {
                m.text(uapi::IFLA_INFO_KIND as u16, "veth").nest(uapi::IFLA_INFO_DATA as u16, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        link_header(m, 0, 0, 0);
                        m.text(uapi::IFLA_IFNAME as u16, veth.peer)
                            .bytes(uapi::IFLA_ADDRESS as u16, &veth.hardware)
                            .u32_ne(uapi::IFLA_NET_NS_PID as u16, veth.init.as_raw_nonzero().get() as u32);
                    });
                });
            },
        );
    });
    // A container may come by the published port to itself, and then its frame goes back to where it came from. The
    // kernel takes what concerns a port only when the link is one.
    batch.request(format_args!("set hairpin mode on {}", veth.host_end), uapi::RTM_NEWLINK as u16, 0, |m| {
        link_header(m, 0, 0, 0);
        m.text(uapi::IFLA_IFNAME as u16, veth.host_end).nest(uapi::IFLA_LINKINFO as u16, |m| {
            m.text(uapi::IFLA_INFO_SLAVE_KIND as u16, "bridge").nest(uapi::IFLA_INFO_SLAVE_DATA as u16, |m| {
                m.bytes(uapi::IFLA_BRPORT_MODE as u16, &[1]);
            });
        });
    });
    host.send(&batch).map_err(|error| advise(error, NO_VETH))
}

/// Sets up the container's links: loopback, and the peer `index` with its address and the default route.
pub fn configure(container: &Socket, index: u32, address: (Ipv4Addr, u8), gateway: Ipv4Addr) -> Result<()> {
    let mut batch = Batch::default();
    set_up(&mut batch, LOOPBACK_INDEX, "lo");
    set_up(&mut batch, index, "eth0");
    add_address(&mut batch, index, address, "eth0");
    batch.request(format_args!("add the default route by {gateway}"), uapi::RTM_NEWROUTE as u16, MAKE, |m| {
        const RT_TABLE_MAIN: u8 = 254;
        // struct rtmsg: family, destination's and source's prefix, tos, table, protocol, scope, type, flags
        m.raw(&[AF_INET, 0, 0, 0, RT_TABLE_MAIN, uapi::RTPROT_BOOT as u8, 0, uapi::RTN_UNICAST as u8])
            .raw(&0u32.to_ne_bytes())
            .bytes(uapi::rtattr_type_t::RTA_GATEWAY as u16, &gateway.octets());
    });
    container.send(&batch)
}

fn set_up(batch: &mut Batch, index: u32, name: &str) {
    batch.request(format_args!("set {name} up"), uapi::RTM_NEWLINK as u16, 0, |m| link_header(m, index, UP, UP));
}

fn add_address<'a>(batch: &'a mut Batch, index: u32, (address, prefix): (Ipv4Addr, u8), link: &str) -> &'a mut Batch {
    batch.request(format_args!("add {address}/{prefix} to {link}"), uapi::RTM_NEWADDR as u16, MAKE, |m| {
        // struct ifaddrmsg: family, prefix, flags, scope, index
        m.raw(&[AF_INET, prefix, 0, 0])
            .raw(&index.to_ne_bytes())
            .bytes(uapi::IFA_LOCAL as u16, &address.octets())
            .bytes(uapi::IFA_ADDRESS as u16, &address.octets())
            .bytes(uapi::IFA_BROADCAST as u16, &broadcast(address, prefix).octets());
    })
}

fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0))
}

/// struct ifinfomsg: family, type, index, flags, which flags are meant
fn link_header(m: &mut Message<'_>, index: u32, flags: u32, change: u32) {
    m.raw(&[0; 4]).raw(&index.to_ne_bytes()).raw(&flags.to_ne_bytes()).raw(&change.to_ne_bytes());
}
