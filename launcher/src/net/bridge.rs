//! Bridges and a container's way to one: names, addresses, and what must hold on the host.
//!
//! Runs on the host's side while the init makes the mounts. Must not touch a link that is not kontena's.

use crate::error::{Error, Result};
use crate::file::{self, CWD};
use crate::net::netlink::{Protocol, Socket};
use crate::net::options::Asked;
use crate::net::subnet::Subnet;
use crate::net::{Links, firewall, nft, patiently, rtnl, sysctl};
use crate::state::{Entry, Journal, Root};
use crate::sys;
use rustix::io::Errno;
use std::net::{IpAddr, Ipv6Addr};

/// A bridge that containers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The link's name.
    pub name: String,
    /// Its own address, and the subnet of its containers.
    pub gateway: Subnet,
    /// The same for IPv6.
    pub gateway6: Subnet,
}

/// How many addresses a container tries before it says that none is free.
const ATTEMPTS: u128 = 4096;
/// Between them, once all have been tried: the link of a container that has just ended is there for a moment; and between two
/// looks whether one is up; microseconds.
const PAUSE: u64 = 250;
/// Opens the record of a bridge, which [`delete`] takes back.
pub const RECORD: &str = "bridge ";

/// The links of this network namespace, `NAME: …` a line; /sys/class/net has those of the one it was mounted in.
const LINKS: &str = "/proc/net/dev";
/// What the names of links on the host begin with.
const HOST_END: &str = "kt";

impl Bridge {
    /// The one that containers are on unless they are told otherwise, and its subnet.
    pub const DEFAULT: &str = "kontena0";
    const DEFAULT_SUBNET: &str = "10.77.0.0/16";

    /// One as it was asked for; or what is wrong with that.
    pub fn parse(
        name: &str,
        subnet: &str,
        gateway: Option<&str>,
        subnet6: Option<&str>,
    ) -> std::result::Result<Self, &'static str> {
        let is_subnet = |subnet: &Subnet| subnet.nth(0) == subnet.address;
        let is_usable = |subnet: &Subnet| match subnet.address {
            IpAddr::V4(address) => {
                matches!(address.octets()[0], 1..=126 | 128..=223) && (8..=30).contains(&subnet.prefix)
            }
            IpAddr::V6(_) => false,
        };
        let subnet = Subnet::parse(subnet).filter(is_subnet).filter(is_usable);
        let subnet = subnet.ok_or("not an IPv4 subnet for containers: give one from /8 to /30, as 10.88.0.0/24")?;
        let gateway = gateway.map_or(Ok(subnet.nth(1)), |gateway| gateway.parse().map_err(|_| ()));
        let gateway = gateway.ok().filter(|gateway| subnet.has_host(*gateway));
        let gateway = gateway.ok_or("the gateway is not an address in the subnet")?;
        let subnet6 = match subnet6 {
            Some(text) => {
                let is_usable = |subnet6: &Subnet| match subnet6.address {
                    IpAddr::V4(_) => false,
                    IpAddr::V6(address) => {
                        let is_unicast = matches!(address.octets()[0], 0x20..=0x3f | 0xfc | 0xfd);
                        is_unicast && subnet6.host_bits() >= subnet.host_bits()
                    }
                };
                Subnet::parse(text).filter(is_subnet).filter(is_usable)
            }
            None => Some(Self::unique_local(subnet)),
        };
        let subnet6 = subnet6.ok_or("not an IPv6 subnet with as many addresses: give one, as fd00:1:2:3::/64")?;
        let gateway6 = subnet6.nth(subnet.index(gateway).unwrap_or(1));
        Ok(Self {
            name: name.into(),
            gateway: Subnet { address: gateway, ..subnet },
            gateway6: Subnet { address: gateway6, ..subnet6 },
        })
    }

    /// An IPv6 subnet that no other has: a unique local one (RFC 4193), whose global id and subnet id are made of the IPv4
    /// subnet's address behind three fixed bytes, as fd6b:6f6e:a4d::/64.
    fn unique_local(subnet: Subnet) -> Subnet {
        const PREFIX: u128 = 0xfd6b_6f6e << 96;
        let network = match subnet.nth(0) {
            IpAddr::V4(network) => u128::from(u32::from(network)),
            IpAddr::V6(_) => 0,
        };
        Subnet { address: Ipv6Addr::from(PREFIX | network << 64).into(), prefix: 64 }
    }

    /// The bridge `name`: as it was made, and `true`, or as it is `asked` for.
    pub fn find(name: &str, asked: Option<&Self>, root: &Root) -> Result<(Self, bool)> {
        let made = recorded(root).into_iter().find(|bridge| bridge.name == name);
        match (made, asked) {
            (Some(made), Some(asked)) if made != *asked => {
                let hint = "leave its subnet out, or give another name; kontena prune takes it back";
                Err(Error::usage(
                    format_args!("the bridge {name} has the subnets of {} and {}", made.gateway, made.gateway6),
                    hint,
                ))
            }
            (Some(made), _) => Ok((made, true)),
            (None, Some(asked)) => Ok((asked.clone(), false)),
            (None, None) if name == Self::DEFAULT => Self::parse(name, Self::DEFAULT_SUBNET, None, None)
                .map(|bridge| (bridge, false))
                .map_err(|hint| Error::usage(format_args!("{name}"), hint)),
            (None, None) => {
                let hint = format!("give its subnet, to make it: --net bridge={name},subnet=10.88.0.0/24");
                Err(Error::usage(format_args!("there is no bridge {name} yet"), &hint))
            }
        }
    }

    /// As [`recorded`] reads it.
    fn record(&self) -> String {
        format!("net {RECORD}{} {} {}", self.name, self.gateway, self.gateway6)
    }

    fn from_record(record: &str) -> Option<Self> {
        let mut words = record.strip_prefix(RECORD)?.split(' ');
        let name = words.next()?.into();
        Some(Self { name, gateway: Subnet::parse(words.next()?)?, gateway6: Subnet::parse(words.next()?)? })
    }

    /// A setting of the link's.
    fn setting(&self, family: &str, key: &str) -> String {
        format!("{family}/conf/{}/{key}", self.name)
    }

    /// Refuses addresses that no container can have here.
    pub fn check(&self, asked: &Asked) -> Result<()> {
        for (option, address, gateway) in [("--ip", asked.ip, self.gateway), ("--ip6", asked.ip6, self.gateway6)] {
            let Some(Subnet { address, .. }) = address else { continue };
            let hint = match gateway.index(address) {
                None => format!("not in the subnet of {}, which is that of {gateway}", self.name),
                Some(_) if address == gateway.address => format!("the address of {} itself", self.name),
                Some(_) if !gateway.has_host(address) => "an address of the whole subnet".into(),
                Some(_) => continue,
            };
            return Err(Error::usage(format_args!("{option} {address}"), &hint));
        }
        Ok(())
    }

    /// What stands for an IPv6 address among the leases: the IPv4 address with the same number, if there is one, since the
    /// container that has that would have this.
    pub fn lease_of(&self, address6: IpAddr) -> IpAddr {
        let number = self.gateway6.index(address6).filter(|number| number >> self.gateway.host_bits() == 0);
        number.map_or(address6, |number| self.gateway.nth(number))
    }
}

/// The bridges that are made, or about to be.
pub fn recorded(root: &Root) -> Vec<Bridge> {
    root.shared("net ").iter().filter_map(|record| Bridge::from_record(record)).collect()
}

/// Sees to it that the nftables tables are there, and have all bridges: somebody may have flushed the ruleset.
pub fn add_tables(bridge: &Bridge, root: &Root) -> Result<()> {
    let mut bridges = recorded(root);
    if !bridges.contains(bridge) {
        // Another state directory's.
        bridges.push(bridge.clone());
    }
    root.record_shared(&format!("net {}", nft::RECORD))?;
    nft::need(nft::add_ipv4(&bridges)?)?;
    nft::add_ipv6(&bridges).map(drop)
}

/// Makes the bridge, if it is missing; a link of its name is looked at.
pub fn make(bridge: &Bridge, root: &Root) -> Result<()> {
    find_or_add(bridge, root, &Socket::open(Protocol::Route)?).map(drop)
}

/// Links the container to the bridge, and gives its addresses there: IPv4, and IPv6 where the host has it; and whether the
/// kernel can send it what comes to its ports. Nothing is up yet in the container.
pub fn connect(
    bridge: &Bridge,
    root: &Root,
    journal: &mut Journal<'_>,
    asked: &Asked,
    links: &Links<'_>,
) -> Result<(Vec<Subnet>, bool)> {
    let Found { index, has_ipv6, has_tables } = find_or_add(bridge, root, links.host)?;
    if let (Some(address), false) = (asked.ip6, has_ipv6) {
        return Err(Error::usage(format_args!("--ip6 {}", address.address), NO_IPV6));
    }
    let attempts = ATTEMPTS.min(bridge.gateway.hosts());
    let mut attempt = 0;
    while attempt < attempts + ATTEMPTS {
        let address = match asked.ip {
            Some(asked) => asked.address,
            None => {
                let address = candidate(bridge.gateway, journal.name(), attempt);
                if attempt == attempts {
                    // Some may be those of launchers that were killed.
                    root.sweep()?;
                }
                attempt += 1;
                if address == bridge.gateway.address || !journal.lease(Entry::Address(address))? {
                    continue;
                }
                address
            }
        };
        let mut addresses = vec![Subnet { address, ..bridge.gateway }];
        if has_ipv6 {
            // The same of its subnet: one lease is enough for both.
            let same = || bridge.gateway6.nth(bridge.gateway.index(address).unwrap_or(0));
            let address = asked.ip6.map_or_else(same, |asked| asked.address);
            journal.record(Entry::Address(address))?;
            addresses.push(Subnet { address, ..bridge.gateway6 });
        }
        let host_end = link_name(address);
        let veth = rtnl::Veth {
            host_end: &host_end,
            bridge: index,
            init: links.init,
            peer: "eth0",
            hardware: asked.hardware.unwrap_or_else(|| hardware_address(address)),
            has_ipv6,
        };
        let add = || rtnl::add_veth(links.host, &veth);
        match if asked.ip.is_some() { patiently(Errno::EXIST, add) } else { add() } {
            Ok(()) => return Ok((addresses, has_tables)),
            // The link of a container that has just ended, on its way out; or another state directory's.
            Err(error) if error.errno() == Some(Errno::EXIST) => match asked.ip {
                None => {
                    journal.end_lease(&Entry::Address(address));
                    if attempt > attempts {
                        sys::sleep(PAUSE);
                    }
                }
                Some(_) => return Err(error.advise("a container of another --root has this address")),
            },
            Err(error) => return Err(error),
        }
    }
    let hint = format!("{} is full: stop a container, or run kontena prune", bridge.name);
    Err(Error::usage(format_args!("find a free address for {}", journal.name()), &hint))
}

/// Waits until what the bridge is to send to the container of an address gets there. That its link is up the kernel tells the
/// bridge by a worker, linkwatch; what is sent before is lost, and TCP and ARP send it again a second later only.
pub fn wait_until_connected(bridge: &Bridge, host: &Socket, address: IpAddr) -> Result<()> {
    let host_end = link_name(address);
    // One that is gone is nothing to wait for.
    let is = |name: &str, what: fn(&rtnl::Link) -> bool| {
        rtnl::find_link(host, name).map(|link| link.is_none_or(|link| what(&link)))
    };
    let mut attempts = ATTEMPTS;
    while attempts > 0 && !(is(&host_end, rtnl::Link::forwards)? && is(&bridge.name, rtnl::Link::is_running)?) {
        attempts -= 1;
        sys::sleep(PAUSE);
    }
    Ok(())
}

/// Why there is no IPv6 for a container.
pub const NO_IPV6: &str =
    "the container has no IPv6: it is switched off on the host, or the kernel has no nf_tables for it";

/// A bridge that is there.
struct Found {
    index: u32,
    has_ipv6: bool,
    /// Whether the kernel has nf_tables. Without them the host forwards nothing: a container reaches the host and those on its
    /// bridge, and its ports are relayed.
    has_tables: bool,
}

/// The bridge, with all that must hold around it, made where it is missing.
fn find_or_add(bridge: &Bridge, root: &Root, host: &Socket) -> Result<Found> {
    let name = &*bridge.name;
    let hardware = hardware_address(bridge.gateway.address);
    let link = match rtnl::find_link(host, name)? {
        Some(link) => link,
        None => {
            check_routes(bridge, host)?;
            root.record_shared(&bridge.record())?;
            root.record_shared(&format!("net {}", nft::RECORD))?;
            // Before there is anything for them to guard.
            if nft::add_ipv4(&recorded(root))? {
                firewall::warn(bridge);
            } else {
                crate::print(2, NO_TABLES);
            }
            rtnl::add_bridge(host, name, hardware)?;
            rtnl::find_link(host, name)?.unwrap_or_default()
        }
    };
    if link.hardware() != hardware {
        let hint =
            "it is not kontena's, or has another gateway: delete it, or give another, --net bridge=NAME,subnet=…";
        return Err(Error::usage(format_args!("there is a link {name} already"), hint));
    }
    // It is set up last.
    let is_ready = link.is_up() && link.setting4(rtnl::ROUTE_LOCALNET) == Some(1);
    if !is_ready {
        if !nft::add_ipv4(&recorded(root))? {
            if !sysctl::is("ipv4/ip_forward", "0") {
                let hint = "the host forwards (net.ipv4.ip_forward is 1), and nothing would keep its neighbours from the \
                            container: load nf_tables, set that to 0, or use --net none";
                return Err(Error::usage(format_args!("the kernel has no nf_tables"), hint));
            }
            let _ = sysctl::write(&bridge.setting("ipv6", "disable_ipv6"), "1");
            rtnl::set_bridge_up(host, link.index(), bridge.gateway)?;
            return Ok(Found { index: link.index(), has_ipv6: false, has_tables: false });
        }
        // Lets the bridge carry connections from 127.0.0.1, which publishing there needs; nft.rs keeps everybody else off.
        sysctl::write(&bridge.setting("ipv4", "route_localnet"), "1")?;
        rtnl::set_bridge_up(host, link.index(), bridge.gateway)?;
    }
    if link.setting4(rtnl::FORWARDING4) != Some(1) {
        sysctl::forward_ipv4(root)?;
    }
    Ok(Found { index: link.index(), has_ipv6: has_ipv6(bridge, root, &link, host)?, has_tables: true })
}

/// Told once, when a bridge is made without tables.
const NO_TABLES: &str = "kontena: warning: the kernel has no nf_tables: ports are relayed, and containers reach the host and \
                         their bridge alone; see docs/board.md for what to build in\n";

/// Whether the bridge has IPv6, which it is given where the host has it. Without tables to keep the LAN from its
/// containers, it is switched off.
fn has_ipv6(bridge: &Bridge, root: &Root, link: &rtnl::Link, host: &Socket) -> Result<bool> {
    let disable = bridge.setting("ipv6", "disable_ipv6");
    if link.setting6(rtnl::DISABLE_IPV6) != Some(0) {
        return Ok(false);
    }
    // It is given last.
    let is_ready = rtnl::has_address6(host, link.index(), bridge.gateway6.address)?;
    if !is_ready {
        if !sysctl::is(&disable, "0") {
            return Ok(false);
        }
        if !nft::add_ipv6(&recorded(root))? {
            sysctl::write(&disable, "1")?;
            return Ok(false);
        }
    }
    if link.setting6(rtnl::ACCEPT_RA) != Some(0) {
        sysctl::write(&bridge.setting("ipv6", "accept_ra"), "0")?;
    }
    if link.setting6(rtnl::FORWARDING6) != Some(1) {
        sysctl::forward_ipv6(root)?;
    }
    if !is_ready {
        rtnl::add_bridge_addresses6(host, link.index(), bridge.gateway6)?;
    }
    Ok(true)
}

/// Refuses a subnet of which the host has been told how to get to a part, by other links.
fn check_routes(bridge: &Bridge, host: &Socket) -> Result<()> {
    for gateway in [bridge.gateway, bridge.gateway6] {
        let subnet = Subnet { address: gateway.nth(0), ..gateway };
        let mut other = None;
        rtnl::for_each_route(host, gateway.address.is_ipv4(), |route| {
            if route.overlaps(subnet) {
                other.get_or_insert(route);
            }
        });
        if let Some(route) = other {
            let hint = format!(
                "give a subnet that is free, once: --net bridge={},subnet=172.29.0.0/16; it stays until kontena prune",
                bridge.name
            );
            return Err(Error::usage(
                format_args!("the subnet {subnet} overlaps with the host's route to {route}"),
                &hint,
            ));
        }
    }
    Ok(())
}

/// Deletes the bridge of a record, and the links of containers that have ended which the kernel has not come to yet.
pub fn delete(record: &str) -> Result<()> {
    let host = Socket::open(Protocol::Route)?;
    for line in file::read_text(CWD, LINKS).lines() {
        let name = line.split(':').next().unwrap_or_default().trim_ascii();
        let address = name.strip_prefix(HOST_END).unwrap_or_default();
        if address.len() == 8 && address.bytes().all(|c| c.is_ascii_hexdigit()) {
            rtnl::delete_link(&host, name)?;
        }
    }
    rtnl::delete_link(&host, record.split(' ').nth(1).unwrap_or_default())
}

/// The `attempt`th address to try for a container: spread by its name over the subnet, so that the first is nearly
/// always free, and a container of the same name gets the same one again.
fn candidate(gateway: Subnet, name: &str, attempt: u128) -> IpAddr {
    // FNV-1a.
    let hash = name.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    gateway.nth(1 + (u128::from(hash) + attempt) % gateway.hosts())
}

/// The name of a link on the host says whose it is: it has the container's address.
pub fn link_name(address: IpAddr) -> String {
    let [_, _, a, b, c, d] = hardware_address(address);
    format!("{HOST_END}{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// A locally administered hardware address made of an IPv4 one, so that none has to be remembered.
pub fn hardware_address(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    [0x02, 0x6b, a, b, c, d]
}
