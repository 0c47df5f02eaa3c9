//! Links, addresses and routes; rtnetlink(7). One function a task, each one sendmsg(2).
//!
//! Must not choose names or addresses: that is bridge.rs.

use crate::error::{Error, Result};
use crate::net::netlink::{Batch, Message, Socket, attribute};
use crate::net::subnet::{Subnet, address, octets};
use linux_raw_sys::net::{
    DEVCONF_ACCEPT_RA, DEVCONF_DISABLE_IPV6, DEVCONF_FORWARDING, IPV4_DEVCONF_FORWARDING, IPV4_DEVCONF_ROUTE_LOCALNET,
};
use linux_raw_sys::netlink as uapi;
use rustix::io::Errno;
use rustix::process::Pid;
use std::net::{IpAddr, Ipv6Addr};

/// The first link of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const MAKE: u32 = uapi::NLM_F_CREATE | uapi::NLM_F_EXCL;
/// include/uapi/linux/veth.h
const VETH_INFO_PEER: u16 = 1;
/// struct ifinfomsg.
const LINK_HEADER: usize = 16;
const UP: u32 = linux_raw_sys::net::net_device_flags::IFF_UP as u32;
const RUNNING: u32 = linux_raw_sys::net::net_device_flags::IFF_RUNNING as u32;

/// What to do where the kernel has no such kind of link.
const NO_BRIDGE: &str = "the kernel lacks CONFIG_BRIDGE, or its module bridge: load it, or use --net none or host";
const NO_VETH: &str = "the kernel lacks CONFIG_VETH, or its module veth: load it, or use --net none or host";
const NO_MACVLAN: &str = "the kernel lacks CONFIG_MACVLAN, or its module macvlan: load it, or use another --net";

fn advise(error: Error, missing: &str) -> Error {
    if error.errno() == Some(Errno::OPNOTSUPP) { error.advise(missing) } else { error }
}

/// Makes the bridge `name`, with a hardware address that stays as ports come and go. It does not listen to what groups its ports
/// say that they are in: a new port would look after the queries of all others, and one that asks itself could keep the
/// neighbours of the rest from finding them. EEXIST is no error.
pub fn add_bridge(host: &Socket, name: &str, hardware: [u8; 6]) -> Result<()> {
    let mut batch = Batch::new();
    batch
        .request(format_args!("add bridge {name}"), uapi::RTM_NEWLINK as u16, MAKE, |m| {
            link_header(m, 0, 0, 0);
            m.text(uapi::IFLA_IFNAME as u16, name).bytes(uapi::IFLA_ADDRESS as u16, &hardware).nest(
                uapi::IFLA_LINKINFO as u16,
                |m| {
                    m.text(uapi::IFLA_INFO_KIND as u16, "bridge").nest(uapi::IFLA_INFO_DATA as u16, |m| {
                        m.bytes(uapi::IFLA_BR_MCAST_SNOOPING as u16, &[0]);
                    });
                },
            );
        })
        .or(Errno::EXIST);
    host.send(batch).map_err(|error| advise(error, NO_BRIDGE))
}

/// A link as it is, as the kernel describes it: struct ifinfomsg, and attributes.
#[derive(Default)]
pub struct Link(Vec<u8>);

/// The places of IPv4's settings; linux/ip.h, where they are counted from 1.
pub const FORWARDING4: usize = IPV4_DEVCONF_FORWARDING as usize - 1;
pub const ROUTE_LOCALNET: usize = IPV4_DEVCONF_ROUTE_LOCALNET as usize - 1;
/// The places of IPv6's; linux/ipv6.h.
pub const FORWARDING6: usize = DEVCONF_FORWARDING as usize;
pub const ACCEPT_RA: usize = DEVCONF_ACCEPT_RA as usize;
pub const DISABLE_IPV6: usize = DEVCONF_DISABLE_IPV6 as usize;

impl Link {
    /// Its number.
    pub fn index(&self) -> u32 {
        const INDEX: usize = 4;
        number(&self.0, INDEX).unwrap_or(0)
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.has(UP)
    }

    /// Whether it has a carrier, and the kernel has taken notice of it: until then it drops what it is to send.
    pub fn is_running(&self) -> bool {
        self.has(RUNNING)
    }

    /// Whether it is a port of a bridge that lets frames pass.
    pub fn forwards(&self) -> bool {
        /// include/uapi/linux/if_bridge.h
        const BR_STATE_FORWARDING: u8 = 3;
        let path = [uapi::IFLA_LINKINFO as u16, uapi::IFLA_INFO_SLAVE_DATA as u16, uapi::IFLA_BRPORT_STATE as u16];
        self.attribute(&path) == [BR_STATE_FORWARDING]
    }

    fn has(&self, flag: u32) -> bool {
        const FLAGS: usize = 8;
        number(&self.0, FLAGS).is_some_and(|flags| flags & flag != 0)
    }

    /// Its hardware address.
    pub fn hardware(&self) -> &[u8] {
        self.attribute(&[uapi::IFLA_ADDRESS as u16])
    }

    /// One of IPv4's settings: of those in /proc/sys/net/ipv4/conf.
    pub fn setting4(&self, place: usize) -> Option<u32> {
        number(self.attribute(&[uapi::IFLA_AF_SPEC as u16, AF_INET.into(), uapi::IFLA_INET_CONF as u16]), 4 * place)
    }

    /// One of IPv6's settings, where it has IPv6.
    pub fn setting6(&self, place: usize) -> Option<u32> {
        number(self.attribute(&[uapi::IFLA_AF_SPEC as u16, AF_INET6.into(), uapi::IFLA_INET6_CONF as u16]), 4 * place)
    }

    fn attribute(&self, path: &[u16]) -> &[u8] {
        let attributes = self.0.get(LINK_HEADER..);
        path.iter().fold(attributes, |found, kind| attribute(found?, *kind)).unwrap_or_default()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The link of a name, if there is one.
pub fn find_link(socket: &Socket, name: &str) -> Result<Option<Link>> {
    let (mut batch, mut link) = (Batch::new(), None);
    batch.request(format_args!("look at link {name}"), uapi::RTM_GETLINK as u16, 0, |m| {
        link_header(m, 0, 0, 0);
        m.text(uapi::IFLA_IFNAME as u16, name).u32_ne(uapi::IFLA_EXT_MASK as u16, uapi::RTEXT_FILTER_SKIP_STATS);
    });
    batch.or(Errno::NODEV);
    socket.ask(batch, &mut |message| link = Some(Link(message.to_vec())))?;
    Ok(link)
}

/// Calls `each` with the subnets that the host knows the way to, but for the default routes.
pub fn for_each_route(host: &Socket, is_ipv4: bool, mut each: impl FnMut(Subnet)) {
    // struct rtmsg, of which family, destination's prefix and type count here.
    const HEADER: usize = 12;
    const PREFIX: usize = 1;
    const TYPE: usize = 7;
    let mut batch = Batch::new();
    batch.request(format_args!("list the routes"), uapi::RTM_GETROUTE as u16, uapi::NLM_F_DUMP, |m| {
        m.raw(&[if is_ipv4 { AF_INET } else { AF_INET6 }]).raw(&[0; HEADER - 1]);
    });
    host.dump(batch, &mut |route| {
        let (Some(prefix), Some(kind)) = (route.get(PREFIX), route.get(TYPE)) else { return };
        let attributes = route.get(HEADER..).unwrap_or_default();
        let destination = attribute(attributes, uapi::rtattr_type_t::RTA_DST as u16).and_then(address);
        if let Some(address) = destination
            && *kind == uapi::RTN_UNICAST as u8
            && *prefix > 0
        {
            each(Subnet { address, prefix: *prefix });
        }
    });
}

/// Gives the bridge its IPv4 address, and sets it up. EEXIST is no error.
pub fn set_bridge_up(host: &Socket, bridge: u32, gateway: Subnet) -> Result<()> {
    let mut batch = Batch::new();
    add_address(&mut batch, bridge, gateway, "the bridge").or(Errno::EXIST);
    set_up(&mut batch, bridge, "the bridge");
    host.send(batch)
}

/// Whether a link has this IPv6 address.
pub fn has_address6(host: &Socket, link: u32, address: IpAddr) -> Result<bool> {
    let (mut batch, mut is_there) = (Batch::new(), false);
    batch.request(format_args!("look for address {address}"), uapi::RTM_GETADDR as u16, 0, |m| {
        address_header(m, link, Subnet { address, prefix: 128 }, 0);
        m.bytes(uapi::IFA_ADDRESS as u16, &octets(address));
    });
    batch.or(Errno::ADDRNOTAVAIL);
    host.ask(batch, &mut |_| is_there = true)?;
    Ok(is_there)
}

/// Gives the bridge its IPv6 address, after a link-local one, from which it solicits its neighbours for packets of others: the
/// kernel's own would be of no use for the second that it takes to detect no duplicate.
pub fn add_bridge_addresses6(host: &Socket, bridge: u32, gateway: Subnet) -> Result<()> {
    const LINK_LOCAL: Subnet = Subnet { address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), prefix: 64 };
    let mut batch = Batch::new();
    batch.request(format_args!("set the bridge's addrgenmode"), uapi::RTM_NEWLINK as u16, 0, |m| {
        link_header(m, bridge, 0, 0);
        no_generated_address(m);
    });
    add_address(&mut batch, bridge, LINK_LOCAL, "the bridge").or(Errno::EXIST);
    add_address(&mut batch, bridge, gateway, "the bridge").or(Errno::EXIST);
    host.send(batch)
}

/// Deletes a link; none of that name is no error.
pub fn delete_link(host: &Socket, name: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch
        .request(format_args!("delete link {name}"), uapi::RTM_DELLINK as u16, 0, |m| {
            link_header(m, 0, 0, 0);
            m.text(uapi::IFLA_IFNAME as u16, name);
        })
        .or(Errno::NODEV);
    host.send(batch)
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
    /// Whether the host has IPv6.
    pub has_ipv6: bool,
}

/// Makes a veth pair: the host end up and a port of the bridge, the peer in the container. EEXIST: another link has the
/// host end's name.
pub fn add_veth(host: &Socket, veth: &Veth<'_>) -> Result<()> {
    let mut batch = Batch::new();
    batch.request(format_args!("add veth {}", veth.host_end), uapi::RTM_NEWLINK as u16, MAKE, |m| {
        link_header(m, 0, UP, UP);
        one_queue(m);
        m.text(uapi::IFLA_IFNAME as u16, veth.host_end).u32_ne(uapi::IFLA_MASTER as u16, veth.bridge).nest(
            uapi::IFLA_LINKINFO as u16,
            |m| {
                m.text(uapi::IFLA_INFO_KIND as u16, "veth").nest(uapi::IFLA_INFO_DATA as u16, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        link_header(m, 0, 0, 0);
                        one_queue(m);
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
        if veth.has_ipv6 {
            // A port of a bridge needs no address, whose route would stand behind those of all other ports.
            no_generated_address(m);
        }
    });
    host.send(batch).map_err(|error| advise(error, NO_VETH))
}

/// Makes a link on the LAN of the link `parent`, in the container of `init`; the host itself does not see it there.
pub fn add_macvlan(host: &Socket, parent: u32, init: Pid, name: &str, hardware: [u8; 6]) -> Result<()> {
    let mut batch = Batch::new();
    batch.request(format_args!("add macvlan {name}"), uapi::RTM_NEWLINK as u16, MAKE, |m| {
        link_header(m, 0, 0, 0);
        m.text(uapi::IFLA_IFNAME as u16, name)
            .bytes(uapi::IFLA_ADDRESS as u16, &hardware)
            .u32_ne(uapi::IFLA_LINK as u16, parent)
            .u32_ne(uapi::IFLA_NET_NS_PID as u16, init.as_raw_nonzero().get() as u32)
            .nest(uapi::IFLA_LINKINFO as u16, |m| {
                m.text(uapi::IFLA_INFO_KIND as u16, "macvlan").nest(uapi::IFLA_INFO_DATA as u16, |m| {
                    m.u32_ne(uapi::IFLA_MACVLAN_MODE as u16, uapi::macvlan_mode::MACVLAN_MODE_BRIDGE as u32);
                });
            });
    });
    host.send(batch).map_err(|error| advise(error, NO_MACVLAN))
}

fn set_up(batch: &mut Batch, index: u32, name: &str) {
    batch.request(format_args!("set {name} up"), uapi::RTM_NEWLINK as u16, 0, |m| link_header(m, index, UP, UP));
}

/// Sets a link up, from now on `name`; it was down, or could not be renamed (before Linux 6.2).
pub fn set_up_as(container: &Socket, index: u32, name: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.request(format_args!("set {name} up"), uapi::RTM_NEWLINK as u16, 0, |m| {
        link_header(m, index, UP, UP);
        m.text(uapi::IFLA_IFNAME as u16, name);
    });
    container.send(batch)
}

/// Sets up the container's links: loopback, and `eth0`, its `index`th, with its addresses and, by each gateway, a default
/// route.
pub fn configure(container: &Socket, index: u32, addresses: &[Subnet], gateways: &[IpAddr]) -> Result<()> {
    let mut batch = Batch::new();
    for (index, name) in [(LOOPBACK_INDEX, "lo"), (index, "eth0")] {
        set_up(&mut batch, index, name);
    }
    for address in addresses {
        // EACCES: the container has switched its IPv6 off, by --sysctl.
        add_address(&mut batch, index, *address, "eth0").or(Errno::ACCESS);
    }
    for gateway in gateways {
        let request = format_args!("add the default route by {gateway}");
        let write = |m: &mut Message<'_>| {
            const RT_TABLE_MAIN: u8 = 254;
            let (protocol, kind) = (uapi::RTPROT_BOOT as u8, uapi::RTN_UNICAST as u8);
            // struct rtmsg: family, destination's and source's prefix, tos, table, protocol, scope, type, flags
            m.raw(&[family(*gateway), 0, 0, 0, RT_TABLE_MAIN, protocol, 0, kind])
                .raw(&uapi::RTNH_F_ONLINK.to_ne_bytes())
                .u32_ne(uapi::rtattr_type_t::RTA_OIF as u16, index)
                .bytes(uapi::rtattr_type_t::RTA_GATEWAY as u16, &octets(*gateway));
        };
        batch.request(request, uapi::RTM_NEWROUTE as u16, MAKE, write).or(Errno::ACCESS);
    }
    container.send(batch)
}

/// As many queues as a veth uses. The kernel would make one for each processor, and take them back.
fn one_queue(m: &mut Message<'_>) {
    m.u32_ne(uapi::IFLA_NUM_TX_QUEUES as u16, 1).u32_ne(uapi::IFLA_NUM_RX_QUEUES as u16, 1);
}

/// The kernel makes the link no link-local address.
fn no_generated_address(m: &mut Message<'_>) {
    m.nest(uapi::IFLA_AF_SPEC as u16, |m| {
        m.nest(AF_INET6.into(), |m| {
            let mode = uapi::in6_addr_gen_mode::IN6_ADDR_GEN_MODE_NONE;
            m.bytes(uapi::IFLA_INET6_ADDR_GEN_MODE as u16, &[mode as u8]);
        });
    });
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// Without duplicate address detection, which IPv6 would wait a second for: kontena gives no address twice.
fn add_address<'a>(batch: &'a mut Batch, index: u32, subnet: Subnet, link: &str) -> &'a mut Batch {
    batch.request(format_args!("add {subnet} to {link}"), uapi::RTM_NEWADDR as u16, MAKE, |m| {
        let (address, flags) = (octets(subnet.address), uapi::IFA_F_NODAD as u8);
        address_header(m, index, subnet, flags);
        m.bytes(uapi::IFA_LOCAL as u16, &address).bytes(uapi::IFA_ADDRESS as u16, &address);
        if subnet.address.is_ipv4() {
            m.bytes(uapi::IFA_BROADCAST as u16, &octets(subnet.last()));
        }
    })
}

/// struct ifaddrmsg: family, prefix, flags, scope, index
fn address_header(m: &mut Message<'_>, index: u32, subnet: Subnet, flags: u8) {
    m.raw(&[family(subnet.address), subnet.prefix, flags, 0]).raw(&index.to_ne_bytes());
}

/// struct ifinfomsg: family, type, index, flags, which flags are meant
fn link_header(m: &mut Message<'_>, index: u32, flags: u32, change: u32) {
    m.raw(&[0; 4]).raw(&index.to_ne_bytes()).raw(&flags.to_ne_bytes()).raw(&change.to_ne_bytes());
}
