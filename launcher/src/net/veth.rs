//! A container's veth pair: its addresses, its port of the bridge, and waiting until both work.
//!
//! Runs while the init makes the mounts. Must not set the container's end up.

use crate::config::bridge::{Bridge, hardware_address, link_name};
use crate::config::network::Addresses;
use crate::config::subnet::Subnet;
use crate::error::{Error, Result};
use crate::net::bridge::{self, NO_IPV6, Resolved};
use crate::net::links::{Links, patiently};
use crate::net::netlink::Socket;
use crate::net::protection::Protection;
use crate::net::{link, nft, rtnl};
use crate::state::{Entry, Journal, Lease, StateDirectory};
use crate::sys;
use rustix::io::Errno;
use std::net::IpAddr;

/// How many addresses a container tries before it says that none is free.
const ATTEMPTS: u128 = 4096;
/// How often it looks whether its links are up.
const LOOKS: u32 = 4096;
/// Between two looks, and between two attempts once all addresses have been tried, since the link of a container that
/// has just exited stays for a moment; microseconds.
const PAUSE: u64 = 250;

/// A container's port of a bridge.
pub struct Port {
    /// The container's addresses: IPv4, and IPv6 where the host has it.
    pub subnets: Vec<Subnet>,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// The tables, where the kernel has them.
    pub protection: Option<Protection>,
}

/// Links the container to the bridge, by a free address or the one that was asked for. No link of the container is up
/// yet.
pub fn connect(
    resolved: &Resolved,
    root: &StateDirectory,
    journal: &mut Journal<'_>,
    asked: &Addresses,
    links: &Links<'_>,
) -> Result<Port> {
    let bridge = &resolved.bridge;
    let ready = bridge::set_up(resolved, root, &links.host, journal.name())?;
    let bridge::Ready { index, mtu, has_ipv6, protection } = ready;
    if let (Some(address), false) = (asked.ip6, has_ipv6) {
        return Err(Error::usage(format_args!("--ip6 {}", address.address), NO_IPV6));
    }
    let add = |address: IpAddr, hardware| {
        let (host_end, init) = (&*link_name(address), links.init);
        let (bridge, group) = (index, nft::GROUP);
        let veth = rtnl::Veth { host_end, bridge, mtu, group, init, peer: "eth0", hardware, has_ipv6 };
        rtnl::add_veth(&links.host, &veth)
    };
    if let Some(Subnet { address, .. }) = asked.ip {
        let (subnets, hardware) = record(bridge, asked, address, has_ipv6, journal)?;
        return match patiently(Errno::EXIST, || add(address, hardware)) {
            Ok(()) => Ok(Port { subnets, hardware, protection }),
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                Err(error.advise("a container of another --root has this address"))
            }
            Err(error) => Err(error),
        };
    }
    let all = ATTEMPTS.min(bridge.gateway.hosts());
    for attempt in 0..all + ATTEMPTS {
        if attempt == all {
            // Some may be those of launchers that were killed.
            root.sweep()?;
        }
        let address = bridge.candidate(journal.name(), attempt);
        if address == bridge.gateway.address || !journal.lease(Lease::Address(address))? {
            continue;
        }
        let (subnets, hardware) = record(bridge, asked, address, has_ipv6, journal)?;
        match add(address, hardware) {
            Ok(()) => return Ok(Port { subnets, hardware, protection }),
            // The link of a container that has just exited, on its way out; or another state directory's.
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                journal.end_lease(Lease::Address(address));
                if attempt >= all {
                    sys::sleep(PAUSE);
                }
            }
            Err(error) => return Err(error),
        }
    }
    let hint = format!("{} is full: stop a container, or run kontena prune", bridge.name);
    Err(Error::usage(format_args!("find a free address for {}", journal.name()), &hint))
}

/// Writes down the other addresses of a container that has leased this one; all of its addresses, and its hardware
/// address.
fn record(
    bridge: &Bridge,
    asked: &Addresses,
    address: IpAddr,
    has_ipv6: bool,
    journal: &mut Journal<'_>,
) -> Result<(Vec<Subnet>, [u8; 6])> {
    let mut subnets = vec![Subnet { address, ..bridge.gateway }];
    if has_ipv6 {
        let address = asked.ip6.map_or_else(|| bridge.address6_of(address), |asked| asked.address);
        journal.append(Entry::Address(address))?;
        subnets.push(Subnet { address, ..bridge.gateway6 });
    }
    if let Some(hardware) = asked.hardware {
        journal.append(Entry::Hardware(hardware))?;
    }
    Ok((subnets, asked.hardware.unwrap_or_else(|| hardware_address(address))))
}

/// Waits until the bridge forwards to the container with this address. A worker of the kernel, linkwatch, tells the
/// bridge that the container's link is up. Packets that are sent before are lost, and TCP and ARP repeat them only
/// after a second.
pub fn wait_until_connected(bridge: &Bridge, host: &Socket, address: IpAddr) -> Result<()> {
    let host_end = link_name(address);
    // There is no reason to wait for a link that is gone.
    let is = |name: &str, what: fn(&link::Link) -> bool| {
        rtnl::find_link(host, name).map(|link| link.is_none_or(|link| what(&link)))
    };
    let mut looks = LOOKS;
    while looks > 0 && !(is(&host_end, link::Link::forwards)? && is(&bridge.name, link::Link::is_running)?) {
        looks -= 1;
        sys::sleep(PAUSE);
    }
    Ok(())
}
