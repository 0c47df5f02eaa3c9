//! Links, addresses and routes; rtnetlink(7). Each task is a function, and one sendmsg(2).
//!
//! Must not choose names or addresses: that is bridge.rs and veth.rs.

use crate::config::subnet::{Subnet, address, octets};
use crate::error::{Error, Result};
use crate::net::link::{Link, number};
use crate::net::netlink::{Batch, Message, Socket, attribute};
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
const UP: u32 = linux_raw_sys::net::net_device_flags::IFF_UP as u32;

/// What to do where the kernel has no such kind of link.
const NO_BRIDGE: &str = "the kernel lacks CONFIG_BRIDGE, or its module bridge: load it, or use --net none or host";
const NO_VETH: &str = "the kernel lacks CONFIG_VETH, or its module veth: load it, or use --net none or host";
const NO_MACVLAN: &str = "the kernel lacks CONFIG_MACVLAN, or its module macvlan: load it, or use another --net";

fn advise(error: Error, missing: &str) -> Error {
    if error.errno() == Some(Errno::OPNOTSUPP) { error.advise(missing) } else { error }
}

/// Makes the bridge `name`, with a hardware address that stays as ports come and go. It does not listen to what groups
/// its ports say that they are in: a new port would look after the queries of all others, and one that asks itself
/// could keep the neighbours of the rest from finding them. EEXIST is no error.
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

/// The link of a name, if there is one.
pub fn find_link(socket: &Socket, name: &str) -> Result<Option<Link>> {
    find_link_by(socket, 0, name)
}

/// The link of an index, or, where that is 0, of a name.
fn find_link_by(socket: &Socket, index: u32, name: &str) -> Result<Option<Link>> {
    let (mut batch, mut link) = (Batch::new(), None);
    batch.request(format_args!("query the link {name}"), uapi::RTM_GETLINK as u16, 0, |m| {
        link_header(m, index, 0, 0);
        m.text(uapi::IFLA_IFNAME as u16, name).u32_ne(uapi::IFLA_EXT_MASK as u16, uapi::RTEXT_FILTER_SKIP_STATS);
    });
    batch.or(Errno::NODEV);
    socket.ask(batch, &mut |message| link = Some(Link(message.to_vec())))?;
    Ok(link)
}

/// The ports of the bridge with this index; `None` where they cannot be listed.
pub fn ports(host: &Socket, bridge: u32) -> Option<Vec<Link>> {
    let (mut batch, mut ports) = (Batch::new(), Vec::new());
    batch.request(format_args!(""), uapi::RTM_GETLINK as u16, uapi::NLM_F_DUMP, |m| {
        link_header(m, 0, 0, 0);
        m.u32_ne(uapi::IFLA_MASTER as u16, bridge).u32_ne(uapi::IFLA_EXT_MASK as u16, uapi::RTEXT_FILTER_SKIP_STATS);
    });
    let are_all = host.dump(batch, &mut |message| {
        let link = Link(message.to_vec());
        if number(link.attribute(&[uapi::IFLA_MASTER as u16]), 0) == Some(bridge) {
            ports.push(link);
        }
    });
    are_all.then_some(ports)
}

/// struct rtmsg: family, destination's and source's prefix, tos, table, protocol, scope, type, flags.
const ROUTE_HEADER: usize = 12;
const RT_TABLE_MAIN: u8 = 254;

/// Calls `each` with the subnets that the host knows the way to, but for the default routes.
pub fn for_each_route(host: &Socket, is_ipv4: bool, mut each: impl FnMut(Subnet)) {
    dump_routes(host, is_ipv4, &mut |_, prefix, attributes| {
        let destination = attribute(attributes, uapi::rtattr_type_t::RTA_DST as u16).and_then(address);
        if let Some(address) = destination
            && prefix > 0
        {
            each(Subnet { address, prefix });
        }
    });
}

/// The host's link to everywhere else: that of its first default route, which is the one that it uses.
pub fn find_uplink(host: &Socket) -> Option<Link> {
    let mut uplink = None;
    for is_ipv4 in [true, false] {
        dump_routes(host, is_ipv4, &mut |table, prefix, attributes| {
            if table == RT_TABLE_MAIN && prefix == 0 && uplink.is_none() {
                uplink = attribute(attributes, uapi::rtattr_type_t::RTA_OIF as u16).and_then(|oif| number(oif, 0));
            }
        });
    }
    find_link_by(host, uplink?, "").ok()?
}

/// Calls `each` with table, prefix and attributes of the host's routes.
fn dump_routes(host: &Socket, is_ipv4: bool, each: &mut dyn FnMut(u8, u8, &[u8])) {
    let mut batch = Batch::new();
    batch.request(format_args!("list the routes"), uapi::RTM_GETROUTE as u16, uapi::NLM_F_DUMP, |m| {
        m.raw(&[if is_ipv4 { AF_INET } else { AF_INET6 }]).raw(&[0; ROUTE_HEADER - 1]);
    });
    host.dump(batch, &mut |route| {
        if let Some((&[_, prefix, _, _, table, _, _, kind, ..], attributes)) = route.split_first_chunk::<ROUTE_HEADER>()
            && kind == uapi::RTN_UNICAST as u8
        {
            each(table, prefix, attributes);
        }
    });
}

/// Gives the bridge its IPv4 address and its MTU, and sets it up. EEXIST is no error. Set here and not as it is made,
/// the MTU stays when the last port goes.
pub fn set_bridge_up(host: &Socket, bridge: u32, gateway: Subnet, mtu: u32) -> Result<()> {
    let mut batch = Batch::new();
    add_address(&mut batch, bridge, gateway, "the bridge").or(Errno::EXIST);
    batch.request(format_args!("bring up the bridge"), uapi::RTM_NEWLINK as u16, 0, |m| {
        link_header(m, bridge, UP, UP);
        m.u32_ne(uapi::IFLA_MTU as u16, mtu);
    });
    host.send(batch)
}

/// Whether a link has this IPv6 address.
pub fn has_address6(host: &Socket, link: u32, address: IpAddr) -> Result<bool> {
    let (mut batch, mut is_there) = (Batch::new(), false);
    batch.request(format_args!("query the address {address}"), uapi::RTM_GETADDR as u16, 0, |m| {
        address_header(m, link, Subnet { address, prefix: 128 }, 0);
        m.bytes(uapi::IFA_ADDRESS as u16, &octets(address));
    });
    batch.or(Errno::ADDRNOTAVAIL);
    host.ask(batch, &mut |_| is_there = true)?;
    Ok(is_there)
}

/// Gives the bridge its IPv6 address, after a link-local one, from which it solicits its neighbours for packets of
/// others: the kernel's own would be of no use for the second that it takes to detect no duplicate.
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

/// Deletes a link; one that is gone is no error.
pub fn delete_link(host: &Socket, link: &Link) -> Result<()> {
    let mut batch = Batch::new();
    batch
        .request(format_args!("delete link {}", link.name()), uapi::RTM_DELLINK as u16, 0, |m| {
            link_header(m, link.index(), 0, 0);
        })
        .or(Errno::NODEV);
    host.send(batch)
}

/// Addresses of a link, as the kernel describes them: struct ifaddrmsg, and attributes.
#[derive(Clone, Default)]
pub struct Addresses(Vec<Vec<u8>>);

/// struct ifaddrmsg: family, prefix, flags, scope, index.
const ADDRESS_HEADER: usize = 8;

/// The addresses of a link that are valid everywhere and for ever.
pub fn permanent_addresses(socket: &Socket, link: &Link) -> Result<Addresses> {
    let (mut batch, mut found) = (Batch::new(), Vec::new());
    let what = format_args!("list the addresses of {}", link.name());
    batch.request(what, uapi::RTM_GETADDR as u16, uapi::NLM_F_DUMP, |m| _ = m.raw(&[0; ADDRESS_HEADER]));
    let are_all = socket.dump(batch, &mut |address| {
        let is_global = address.get(3) == Some(&(uapi::rt_scope_t::RT_SCOPE_UNIVERSE as u8));
        let is_permanent = address.get(2).is_some_and(|flags| u32::from(*flags) & uapi::IFA_F_PERMANENT != 0);
        if number(address, 4) == Some(link.index()) && is_global && is_permanent {
            found.push(address.to_vec());
        }
    });
    if are_all { Ok(Addresses(found)) } else { Err(Error::new(what, Errno::INTR, "try again")) }
}

/// Moves a link into the network namespace of a process, under another name.
pub fn move_link(from: &Socket, link: &Link, to: Pid, name: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.request(format_args!("move the link {} to {name}", link.name()), uapi::RTM_NEWLINK as u16, 0, |m| {
        link_header(m, link.index(), 0, 0);
        m.text(uapi::IFLA_IFNAME as u16, name).u32_ne(uapi::IFLA_NET_NS_PID as u16, to.as_raw_nonzero().get() as u32);
    });
    from.send(batch)
}

/// Gives a link that was moved its addresses again, and brings it up.
pub fn restore(socket: &Socket, link: &Link, is_up: bool, addresses: &Addresses) -> Result<()> {
    const KEPT: [u16; 3] = [uapi::IFA_LOCAL as u16, uapi::IFA_ADDRESS as u16, uapi::IFA_BROADCAST as u16];
    let mut batch = Batch::new();
    let name = link.name();
    if is_up {
        set_up(&mut batch, link.index(), &name);
    }
    for address in &addresses.0 {
        let Some((header, attributes)) = address.split_first_chunk::<ADDRESS_HEADER>() else { continue };
        batch.request(format_args!("add an address to {name}"), uapi::RTM_NEWADDR as u16, MAKE, |m| {
            m.raw(&[header[0], header[1], uapi::IFA_F_NODAD as u8, header[3]]).raw(&link.index().to_ne_bytes());
            for kind in KEPT {
                if let Some(value) = attribute(attributes, kind) {
                    m.bytes(kind, value);
                }
            }
            // Those that a person sets, and that no flag of the header is.
            let flags = attribute(attributes, uapi::IFA_FLAGS as u16).and_then(|flags| number(flags, 0)).unwrap_or(0);
            let kept = flags & (uapi::IFA_F_NOPREFIXROUTE | uapi::IFA_F_MCAUTOJOIN);
            m.u32_ne(uapi::IFA_FLAGS as u16, kept | uapi::IFA_F_NODAD);
        });
    }
    if addresses.0.is_empty() && !is_up { Ok(()) } else { socket.send(batch) }
}

/// A link of the host's to a container.
pub struct Veth<'a> {
    /// The host end's name.
    pub host_end: &'a str,
    /// The bridge's index.
    pub bridge: u32,
    /// The MTU of both ends.
    pub mtu: u32,
    /// The group of the host end.
    pub group: u32,
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
    host.send(veth_batch(veth)).map_err(|error| advise(error, NO_VETH))
}

fn veth_batch(veth: &Veth<'_>) -> Batch {
    let mut batch = Batch::new();
    batch.request(format_args!("add veth {}", veth.host_end), uapi::RTM_NEWLINK as u16, MAKE, |m| {
        link_header(m, 0, UP, UP);
        one_queue(m);
        m.text(uapi::IFLA_IFNAME as u16, veth.host_end).u32_ne(uapi::IFLA_MTU as u16, veth.mtu);
        m.u32_ne(uapi::IFLA_MASTER as u16, veth.bridge);
        // From the first: a port of this group passes nothing that nft.rs has not been told of.
        m.u32_ne(uapi::IFLA_GROUP as u16, veth.group).nest(uapi::IFLA_LINKINFO as u16, |m| {
            m.text(uapi::IFLA_INFO_KIND as u16, "veth").nest(uapi::IFLA_INFO_DATA as u16, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    link_header(m, 0, 0, 0);
                    one_queue(m);
                    m.text(uapi::IFLA_IFNAME as u16, veth.peer)
                        .u32_ne(uapi::IFLA_MTU as u16, veth.mtu)
                        .bytes(uapi::IFLA_ADDRESS as u16, &veth.hardware)
                        .u32_ne(uapi::IFLA_NET_NS_PID as u16, veth.init.as_raw_nonzero().get() as u32);
                });
            });
        });
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
    batch
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
    batch.request(format_args!("bring up {name}"), uapi::RTM_NEWLINK as u16, 0, |m| link_header(m, index, UP, UP));
}

/// Sets a link up, from now on `name`; it was down, or could not be renamed (before Linux 6.2).
pub fn set_up_as(container: &Socket, index: u32, name: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.request(format_args!("bring up {name}"), uapi::RTM_NEWLINK as u16, 0, |m| {
        link_header(m, index, UP, UP);
        m.text(uapi::IFLA_IFNAME as u16, name);
    });
    container.send(batch)
}

/// Sets up the container's links: loopback, and `eth0`, its `index`th, with its addresses and, by each gateway, a
/// default route.
pub fn configure(container: &Socket, index: u32, addresses: &[Subnet], gateways: &[IpAddr]) -> Result<()> {
    container.send(configure_batch(index, addresses, gateways))
}

fn configure_batch(index: u32, addresses: &[Subnet], gateways: &[IpAddr]) -> Batch {
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
            let (protocol, kind) = (uapi::RTPROT_BOOT as u8, uapi::RTN_UNICAST as u8);
            m.raw(&[family(*gateway), 0, 0, 0, RT_TABLE_MAIN, protocol, 0, kind])
                .raw(&uapi::RTNH_F_ONLINK.to_ne_bytes())
                .u32_ne(uapi::rtattr_type_t::RTA_OIF as u16, index)
                .bytes(uapi::rtattr_type_t::RTA_GATEWAY as u16, &octets(*gateway));
        };
        batch.request(request, uapi::RTM_NEWROUTE as u16, MAKE, write).or(Errno::ACCESS);
    }
    batch
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The attributes of the batch's first message, behind a fixed header of this length.
    fn attributes(batch: &Batch, header: usize) -> Vec<u8> {
        batch.body()[header..].to_vec()
    }

    fn find<'a>(attributes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
        path.iter().try_fold(attributes, |attributes, kind| attribute(attributes, *kind))
    }

    #[test]
    fn veth_says_where_each_end_goes() {
        let (hardware, init) = ([2, 0x6b, 10, 77, 0, 5], Pid::from_raw(4242).unwrap());
        for has_ipv6 in [false, true] {
            let veth = Veth {
                host_end: "kt0a4d0005",
                bridge: 7,
                mtu: 1400,
                group: 0x6b6f_6e74,
                init,
                peer: "eth0",
                hardware,
                has_ipv6,
            };
            let host = attributes(&veth_batch(&veth), 16);
            assert_eq!(find(&host, &[uapi::IFLA_IFNAME as u16]), Some(&b"kt0a4d0005\0"[..]));
            assert_eq!(find(&host, &[uapi::IFLA_MASTER as u16]), Some(&7u32.to_ne_bytes()[..]));
            assert_eq!(find(&host, &[uapi::IFLA_GROUP as u16]), Some(&0x6b6f_6e74u32.to_ne_bytes()[..]));
            assert_eq!(find(&host, &[uapi::IFLA_LINKINFO as u16, uapi::IFLA_INFO_KIND as u16]), Some(&b"veth\0"[..]));
            let path = [uapi::IFLA_LINKINFO as u16, uapi::IFLA_INFO_DATA as u16, VETH_INFO_PEER];
            let peer = &find(&host, &path).unwrap()[16..];
            for end in [&host, peer] {
                assert_eq!(find(end, &[uapi::IFLA_MTU as u16]), Some(&1400u32.to_ne_bytes()[..]));
            }
            assert_eq!(find(peer, &[uapi::IFLA_IFNAME as u16]), Some(&b"eth0\0"[..]));
            assert_eq!(find(peer, &[uapi::IFLA_ADDRESS as u16]), Some(&hardware[..]));
            assert_eq!(find(peer, &[uapi::IFLA_NET_NS_PID as u16]), Some(&4242u32.to_ne_bytes()[..]));
        }
    }

    #[test]
    fn addresses_have_a_broadcast_in_ipv4_alone() {
        for (text, octets, broadcast) in [
            ("10.77.0.5/16", &[10, 77, 0, 5][..], Some(&[10, 77, 255, 255][..])),
            ("fd00::5/64", &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5], None),
        ] {
            let (mut batch, subnet) = (Batch::new(), Subnet::parse(text).unwrap());
            add_address(&mut batch, 7, subnet, "eth0");
            let header =
                [&[family(subnet.address), subnet.prefix, uapi::IFA_F_NODAD as u8, 0][..], &7u32.to_ne_bytes()];
            assert_eq!(batch.body()[..8], header.concat());
            let attributes = attributes(&batch, 8);
            assert_eq!(find(&attributes, &[uapi::IFA_LOCAL as u16]), Some(octets));
            assert_eq!(find(&attributes, &[uapi::IFA_ADDRESS as u16]), Some(octets));
            assert_eq!(find(&attributes, &[uapi::IFA_BROADCAST as u16]), broadcast);
        }
    }

    #[test]
    fn container_gets_its_links_addresses_and_routes_in_this_order() {
        let subnets = ["10.77.0.5/16", "fd00::5/64"].map(|text| Subnet::parse(text).unwrap());
        let gateways = ["10.77.0.1", "fd00::1"].map(|text| text.parse().unwrap());
        let batch = configure_batch(7, &subnets, &gateways);
        assert_eq!(
            batch.tasks(),
            [
                "bring up lo",
                "bring up eth0",
                "add 10.77.0.5/16 to eth0",
                "add fd00::5/64 to eth0",
                "add the default route by 10.77.0.1",
                "add the default route by fd00::1",
            ]
        );
    }
}
