//! A bridge's link, and the state of the host around it: tables, addresses, forwarding.
//!
//! Runs while the init makes the mounts. Must not touch a link that is not kontena's.

use crate::config::bridge::{Bridge, hardware_address};
use crate::config::network::linked::MTUS;
use crate::config::subnet::Subnet;
use crate::error::{Error, Result};
use crate::net::netlink::{Protocol, Socket};
use crate::net::protection::Protection;
use crate::net::shared::recorded;
use crate::net::{firewall, link, nft, rtnl, sysctl};
use crate::print;
use crate::state::StateDirectory;

/// A bridge, and whether an earlier container has made it.
pub struct Resolved {
    /// The bridge.
    pub bridge: Bridge,
    /// It is in the registry.
    pub is_made: bool,
    /// The MTU that it is asked for.
    pub mtu: Option<u32>,
}

/// The bridge `name`: as it was made, or as it is `asked` for.
pub fn resolve(name: &str, asked: Option<&Bridge>, root: &StateDirectory) -> Result<Resolved> {
    let made = recorded(root).into_iter().find(|bridge| bridge.name == name);
    match (made, asked) {
        (Some(made), Some(asked)) if made != *asked => {
            let hint = "remove the subnet, or use another name; kontena prune removes the bridge";
            let what = format_args!("the bridge {name} has the subnets of {} and {}", made.gateway, made.gateway6);
            Err(Error::usage(what, hint))
        }
        (Some(bridge), _) => Ok(Resolved { bridge, is_made: true, mtu: None }),
        (None, Some(asked)) => Ok(Resolved { bridge: asked.clone(), is_made: false, mtu: None }),
        (None, None) if name == Bridge::DEFAULT => {
            Ok(Resolved { bridge: choose_default()?, is_made: false, mtu: None })
        }
        (None, None) => {
            let hint = format!("add a subnet to create it: --net bridge={name},subnet=10.88.0.0/24");
            Err(Error::usage(format_args!("no such bridge: {name}"), &hint))
        }
    }
}

/// The bridge [`Bridge::DEFAULT`], with the first of its subnets to which the host has no route: the host may be a
/// container on such a bridge itself.
fn choose_default() -> Result<Bridge> {
    let host = Socket::open(Protocol::Route)?;
    let find = |is_it: &dyn Fn(&Bridge) -> bool| Bridge::DEFAULTS.filter_map(Bridge::kontena0).find(is_it);
    let free = find(&|bridge| overlap(bridge, &host).is_none());
    // After that: where another launcher has just made the bridge, its route was not free.
    let link = rtnl::find_link(&host, Bridge::DEFAULT)?;
    let made = link.and_then(|link| find(&|bridge| link.hardware() == hardware_address(bridge.gateway.address)));
    // If all are taken, the first one's error says it.
    let chosen = made.or(free).or_else(|| find(&|_| true));
    chosen.ok_or_else(|| Error::usage(format_args!("{}", Bridge::DEFAULT), ""))
}

/// Why a container has no IPv6.
pub const NO_IPV6: &str =
    "the container has no IPv6: it is switched off on the host, or the kernel has no nf_tables for it";

/// A bridge that is set up.
pub struct Ready {
    /// The index of its link.
    pub index: u32,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it has an IPv6 address.
    pub has_ipv6: bool,
    /// Where the kernel has nf_tables. Without them the host forwards nothing: a container reaches the host and the
    /// other containers on its bridge, and its ports are relayed.
    pub protection: Option<Protection>,
}

/// Makes the bridge for this `container`, where it is missing, and restores everything around it.
pub fn set_up(resolved: &Resolved, root: &StateDirectory, host: &Socket, container: &str) -> Result<Ready> {
    let bridge = &resolved.bridge;
    let hardware = hardware_address(bridge.gateway.address);
    let found = rtnl::find_link(host, &bridge.name)?;
    if found.as_ref().is_some_and(|link| link.hardware() != hardware) {
        let hint = "it is not kontena's, or has another gateway: delete it, or use another, --net bridge=NAME,subnet=…";
        return Err(Error::usage(format_args!("the link {} exists already", bridge.name), hint));
    }
    if found.is_none() {
        check_routes(bridge, host)?;
        root.record_shared(&format!("net {}", bridge.to_record()))?;
    }
    // The tables come before the link that they protect.
    let protection = Protection::set_up(bridge, root, container)?;
    let link = match found {
        Some(link) => link,
        None => {
            warn(bridge, protection.as_ref());
            rtnl::add_bridge(host, &bridge.name, hardware)?;
            rtnl::find_link(host, &bridge.name)?.unwrap_or_default()
        }
    };
    let (index, mtu) = (link.index(), mtu_of(resolved, &link, host)?);
    let Some(mut protection) = protection else {
        set_up_without_tables(bridge, host, &link, mtu)?;
        return Ok(Ready { index, mtu, has_ipv6: false, protection: None });
    };
    if !is_set_up(&link) {
        // The bridge carries connections from 127.0.0.1, as publishing there needs; the tables keep out everybody else.
        sysctl::write(&setting(bridge, "ipv4", "route_localnet"), "1")?;
        rtnl::set_bridge_up(host, index, bridge.gateway, mtu)?;
    }
    if link.setting4(link::FORWARDING4) != Some(1) && sysctl::is(sysctl::FORWARD4, "0") {
        // The host forwards for containers, and for nobody else.
        protection.tables.close(&nft::IPV4)?;
        sysctl::forward_ipv4(root)?;
    }
    let has_ipv6 = set_up_ipv6(bridge, root, &link, host, &mut protection, container)?;
    Ok(Ready { index, mtu, has_ipv6, protection: Some(protection) })
}

/// The MTU that a bridge has, or gets before it is up: the one that is asked for, or that of the host's way out, since
/// what is too long for that is lost where no ICMP comes back.
fn mtu_of(resolved: &Resolved, link: &link::Link, host: &Socket) -> Result<u32> {
    const ETHERNET: u32 = 1500;
    let uplinks = || rtnl::find_uplink(host).and_then(|uplink| uplink.mtu());
    let found = if link.is_up() { link.mtu() } else { resolved.mtu.or_else(uplinks) };
    let mtu = found.unwrap_or(ETHERNET).clamp(*MTUS.start(), *MTUS.end());
    if resolved.mtu.is_some_and(|asked| asked != mtu) {
        let hint = "remove mtu=, or use another name; kontena prune removes the bridge";
        return Err(Error::usage(format_args!("the bridge {} has the MTU {mtu}", resolved.bridge.name), hint));
    }
    Ok(mtu)
}

/// Whether a start has set the bridge up before. Its link is set up last.
fn is_set_up(link: &link::Link) -> bool {
    link.is_up() && link.setting4(link::ROUTE_LOCALNET) == Some(1)
}

/// Sets up a bridge on a kernel without nf_tables. The host must not forward.
fn set_up_without_tables(bridge: &Bridge, host: &Socket, link: &link::Link, mtu: u32) -> Result<()> {
    if !sysctl::is(sysctl::FORWARD4, "0") {
        let hint = "the host forwards (net.ipv4.ip_forward is 1), so its neighbours could reach the container: \
                    load nf_tables, set that to 0, or use --net none";
        return Err(Error::usage(format_args!("the kernel has no nf_tables"), hint));
    }
    if is_set_up(link) {
        return Ok(());
    }
    let _ = sysctl::write(&setting(bridge, "ipv6", "disable_ipv6"), "1");
    rtnl::set_bridge_up(host, link.index(), bridge.gateway, mtu)
}

/// Says what a new bridge lacks.
fn warn(bridge: &Bridge, protection: Option<&Protection>) {
    let Some(protection) = protection else { return print::print(2, NO_TABLES) };
    if !protection.has_names {
        print::print(2, NO_NAMES);
    }
    firewall::warn(bridge);
}

/// The path of a bridge's setting.
fn setting(bridge: &Bridge, family: &str, key: &str) -> String {
    format!("{family}/conf/{}/{key}", bridge.name)
}

/// Printed when a bridge is made without a table that checks the source of frames.
const NO_NAMES: &str = "kontena: warning: the kernel has no nf_tables for bridges: a container can send as another \
                        one, or as the host; see docs/board.md for the options of the kernel\n";

/// Printed when a bridge is made without tables.
const NO_TABLES: &str = "kontena: warning: the kernel has no nf_tables: ports are relayed, and containers reach \
                         only the host and their bridge; see docs/board.md for the options of the kernel\n";

/// Sets up IPv6, where the host has it; whether it is there. Without tables that keep the LAN from the containers, it
/// is switched off.
fn set_up_ipv6(
    bridge: &Bridge,
    root: &StateDirectory,
    link: &link::Link,
    host: &Socket,
    protection: &mut Protection,
    container: &str,
) -> Result<bool> {
    let disable = setting(bridge, "ipv6", "disable_ipv6");
    if link.setting6(link::DISABLE_IPV6) != Some(0) {
        return Ok(false);
    }
    // The address is added last.
    let is_ready = rtnl::has_address6(host, link.index(), bridge.gateway6.address)?;
    if !is_ready && !sysctl::is(&disable, "0") {
        return Ok(false);
    }
    protection.has_ip6 = protection.has_ip6 || protection.make(&nft::IPV6, bridge, root, container)?;
    if !protection.has_ip6 {
        sysctl::write(&disable, "1")?;
        return Ok(false);
    }
    if link.setting6(link::ACCEPT_RA) != Some(0) {
        sysctl::write(&setting(bridge, "ipv6", "accept_ra"), "0")?;
    }
    if link.setting6(link::FORWARDING6) != Some(1) && sysctl::is(sysctl::FORWARD6, "0") {
        protection.tables.close(&nft::IPV6)?;
        sysctl::forward_ipv6(root)?;
    }
    if !is_ready {
        rtnl::add_bridge_addresses6(host, link.index(), bridge.gateway6)?;
    }
    Ok(true)
}

/// A subnet of the bridge, and a route of the host that overlaps with it.
fn overlap(bridge: &Bridge, host: &Socket) -> Option<(Subnet, Subnet)> {
    for gateway in [bridge.gateway, bridge.gateway6] {
        let subnet = Subnet { address: gateway.nth(0), ..gateway };
        let mut other = None;
        rtnl::for_each_route(host, gateway.address.is_ipv4(), |route| {
            if route.overlaps(subnet) {
                other.get_or_insert(route);
            }
        });
        if let Some(route) = other {
            return Some((subnet, route));
        }
    }
    None
}

/// Refuses a subnet that overlaps with a route of the host by another link.
fn check_routes(bridge: &Bridge, host: &Socket) -> Result<()> {
    let Some((subnet, route)) = overlap(bridge, host) else { return Ok(()) };
    let hint = format!(
        "choose a free subnet, once: --net bridge={},subnet=172.29.0.0/16; it stays until kontena prune",
        bridge.name
    );
    Err(Error::usage(format_args!("the subnet {subnet} overlaps with the host's route to {route}"), &hint))
}
