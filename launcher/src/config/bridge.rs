//! A bridge that containers share, as data: its name, its subnets, and the names and addresses that follow from them.
//!
//! All of it is computed, so none of it has to be remembered. Must not touch the system: net/bridge.rs makes the link.

use crate::config::publish::Publish;
use crate::config::subnet::Subnet;
use crate::error::{Error, Parsed, Result};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

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

/// A container on a bridge, as the tables know it.
pub struct Guest {
    /// Its addresses; the first one names its port.
    pub addresses: Vec<IpAddr>,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// The ports that the kernel forwards to it.
    pub ports: Vec<Publish>,
}

/// The first word of a bridge's record.
pub const RECORD: &str = "bridge ";

/// The first letters of the names of veth links on the host.
const HOST_END: &str = "kt";

impl Bridge {
    /// The bridge that containers are on unless `--net` says otherwise, and its subnet.
    pub const DEFAULT: &str = "kontena0";
    /// The second bytes of the subnets that it may get: 10.77.0.0/16, unless the host has a route to that.
    pub const DEFAULTS: RangeInclusive<u8> = 77..=92;

    /// The bridge [`Self::DEFAULT`] with one of its subnets.
    pub fn kontena0(second: u8) -> Option<Self> {
        Self::parse(Self::DEFAULT, &format!("10.{second}.0.0/16"), None, None).ok()
    }

    /// The values of `subnet=`, `gateway=` and `subnet6=` for the bridge `name`.
    pub fn parse(name: &str, subnet: &str, gateway: Option<&str>, subnet6: Option<&str>) -> Parsed<Self> {
        let subnet = Subnet::parse(subnet).filter(is_usable4);
        let subnet = subnet.ok_or(
            "not an IPv4 subnet for containers: use one from /8 to /30, for example \
                                   10.88.0.0/24",
        )?;
        let gateway = gateway.map_or(Some(subnet.nth(1)), |gateway| gateway.parse().ok());
        let gateway = gateway.filter(|gateway| subnet.has_host(*gateway));
        let gateway = gateway.ok_or("the gateway is not an address in the subnet")?;
        let subnet6 = match subnet6 {
            Some(text) => Subnet::parse(text).filter(|subnet6| is_usable6(subnet6, subnet)),
            None => Some(unique_local(subnet)),
        };
        let subnet6 = subnet6.ok_or("not an IPv6 subnet with as many addresses, such as fd00:1:2:3::/64")?;
        let gateway6 = subnet6.nth(subnet.index(gateway).unwrap_or(1));
        Ok(Self {
            name: name.into(),
            gateway: Subnet { address: gateway, ..subnet },
            gateway6: Subnet { address: gateway6, ..subnet6 },
        })
    }

    /// The bridge as a line of the registry, which [`Self::from_record`] reads.
    pub fn to_record(&self) -> String {
        format!("{RECORD}{} {} {}", self.name, self.gateway, self.gateway6)
    }

    /// `None` for a line about something else.
    pub fn from_record(record: &str) -> Option<Self> {
        let mut words = record.strip_prefix(RECORD)?.split(' ');
        let name = words.next()?.into();
        Some(Self { name, gateway: Subnet::parse(words.next()?)?, gateway6: Subnet::parse(words.next()?)? })
    }

    /// Refuses `--ip` and `--ip6` addresses that no container can have on this bridge.
    pub fn check(&self, ip: Option<Subnet>, ip6: Option<Subnet>) -> Result<()> {
        for (option, address, gateway) in [("--ip", ip, self.gateway), ("--ip6", ip6, self.gateway6)] {
            let Some(Subnet { address, .. }) = address else { continue };
            let hint = match gateway.index(address) {
                None => format!("not in the subnet of {}, which is that of {gateway}", self.name),
                Some(_) if address == gateway.address => format!("the address of {} itself", self.name),
                Some(_) if !gateway.has_host(address) => "the network or broadcast address".into(),
                Some(_) => continue,
            };
            return Err(Error::usage(format_args!("{option} {address}"), &hint));
        }
        Ok(())
    }

    /// Whether one of these is an IPv4 address of its subnet.
    pub fn has_any(&self, addresses: &[IpAddr]) -> bool {
        addresses.iter().any(|address| self.gateway.index(*address).is_some())
    }

    /// The IPv6 address with the same number in its subnet as this IPv4 address: one lease covers both.
    pub fn address6_of(&self, address: IpAddr) -> IpAddr {
        self.gateway6.nth(self.gateway.index(address).unwrap_or(0))
    }

    /// The address to lease for an IPv6 address: the IPv4 address with the same number, where there is one, since the
    /// container with that address would get this one.
    pub fn lease_of(&self, address6: IpAddr) -> IpAddr {
        let number = self.gateway6.index(address6).filter(|number| number >> self.gateway.host_bits() == 0);
        number.map_or(address6, |number| self.gateway.nth(number))
    }

    /// The `attempt`th address to try for a container: spread over the subnet by its name, so that the first is nearly
    /// always free, and a container of the same name gets the same address again.
    pub fn candidate(&self, container: &str, attempt: u128) -> IpAddr {
        // FNV-1a.
        let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = container.bytes().fold(0x811c_9dc5, mix);
        self.gateway.nth(1 + u128::from((u64::from(hash) + attempt as u64) % self.gateway.hosts() as u64))
    }
}

/// From /8 to /30, and of addresses that a host can have.
fn is_usable4(subnet: &Subnet) -> bool {
    let is_unicast = match subnet.address {
        IpAddr::V4(address) => matches!(address.octets()[0], 1..=126 | 128..=223),
        IpAddr::V6(_) => false,
    };
    is_unicast && (8..=30).contains(&subnet.prefix) && subnet.is_whole()
}

/// Global or unique local addresses, as many as in the IPv4 `subnet` at least.
fn is_usable6(subnet6: &Subnet, subnet: Subnet) -> bool {
    let is_unicast = match subnet6.address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => matches!(address.octets()[0], 0x20..=0x3f | 0xfc | 0xfd),
    };
    is_unicast && subnet6.host_bits() >= subnet.host_bits() && subnet6.is_whole()
}

/// An IPv6 subnet that no other has: a unique local one (RFC 4193), whose global id and subnet id are three fixed bytes
/// and the IPv4 subnet's address, as fd6b:6f6e:a4d::/64.
fn unique_local(subnet: Subnet) -> Subnet {
    const PREFIX: u128 = 0xfd6b_6f6e << 96;
    let network = match subnet.nth(0) {
        IpAddr::V4(network) => u128::from(u32::from(network)),
        IpAddr::V6(_) => 0,
    };
    Subnet { address: Ipv6Addr::from(PREFIX | network << 64).into(), prefix: 64 }
}

/// The name of the host's end of a container's veth: it says whose it is, since it holds the container's address.
pub fn link_name(address: IpAddr) -> String {
    let [_, _, a, b, c, d] = hardware_address(address);
    format!("{HOST_END}{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// The container's address in a [`link_name`]; `None` for another link's name.
pub fn address_of_link(name: &str) -> Option<IpAddr> {
    let number = u32::from_str_radix(name.strip_prefix(HOST_END)?, 16).ok()?;
    Some(IpAddr::from(number.to_be_bytes())).filter(|address| link_name(*address) == name)
}

/// A locally administered hardware address made of an IPv4 address.
pub fn hardware_address(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    [0x02, 0x6b, a, b, c, d]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn bridge_has_the_subnets_that_were_given() {
        for (subnet, gateway, subnet6, expected) in [
            ("10.88.0.0/24", None, None, ("10.88.0.1/24", "fd6b:6f6e:a58::1/64")),
            ("172.29.0.0/16", Some("172.29.3.4"), None, ("172.29.3.4/16", "fd6b:6f6e:ac1d::304/64")),
            ("10.88.0.0/30", Some("10.88.0.2"), Some("fd00::/126"), ("10.88.0.2/30", "fd00::2/126")),
            ("126.0.0.0/8", None, Some("2001:db8::/64"), ("126.0.0.1/8", "2001:db8::1/64")),
        ] {
            let bridge = Bridge::parse("br", subnet, gateway, subnet6).unwrap();
            let found = (bridge.gateway.to_string(), bridge.gateway6.to_string());
            assert_eq!((&*found.0, &*found.1), expected, "{subnet}");
            assert_eq!(Bridge::from_record(&bridge.to_record()), Some(bridge));
        }
        assert_eq!(Bridge::kontena0(77).unwrap().gateway.to_string(), "10.77.0.1/16");
    }

    #[test]
    fn subnets_that_containers_cannot_use_are_refused() {
        for subnet in ["10.88.0.1/24", "10.88.0.0/31", "10.0.0.0/7", "127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/8", "x", ""]
        {
            assert!(Bridge::parse("br", subnet, None, None).unwrap_err().starts_with("not an IPv4 subnet"), "{subnet}");
        }
        for gateway in ["10.88.0.0", "10.88.0.255", "10.89.0.1", "::1", "x"] {
            let refused = Bridge::parse("br", "10.88.0.0/24", Some(gateway), None).unwrap_err();
            assert!(refused.starts_with("the gateway is not"), "{gateway}");
        }
        for subnet6 in ["fd00::1/64", "fd00::/121", "fe80::/64", "ff02::/64", "::/64", "10.0.0.0/8", "x"] {
            let refused = Bridge::parse("br", "10.88.0.0/24", None, Some(subnet6)).unwrap_err();
            assert!(refused.starts_with("not an IPv6 subnet"), "{subnet6}");
        }
    }

    #[test]
    fn records_of_other_things_are_not_bridges() {
        for record in ["", "bridge ", "bridge br", "bridge br 10.0.0.1/8", "bridge br x fd00::1/64", "table kontena"] {
            assert_eq!(Bridge::from_record(record), None, "{record}");
        }
    }

    #[test]
    fn addresses_that_no_container_can_have_are_refused() {
        let bridge = Bridge::parse("br", "10.88.0.0/24", None, Some("fd00::/64")).unwrap();
        let subnet = |text: &str| Some(Subnet { address: address(text), prefix: 32 });
        for (ip, ip6, hint) in [
            (subnet("10.88.0.7"), subnet("fd00::7"), None),
            (subnet("10.89.0.7"), None, Some("not in the subnet of br, which is that of 10.88.0.1/24")),
            (subnet("10.88.0.1"), None, Some("the address of br itself")),
            (subnet("10.88.0.255"), None, Some("the network or broadcast address")),
            (None, subnet("fd00::1"), Some("the address of br itself")),
            (None, subnet("fd01::7"), Some("not in the subnet of br, which is that of fd00::1/64")),
        ] {
            let checked = bridge.check(ip, ip6);
            let found = checked.err().map(|error| error.to_string());
            assert_eq!(found.as_deref().and_then(|text| text.split_once(": ")).map(|(_, hint)| hint), hint);
        }
    }

    #[test]
    fn one_lease_covers_both_addresses_of_a_container() {
        let bridge = Bridge::parse("br", "10.88.0.0/24", None, Some("fd00::/64")).unwrap();
        assert_eq!(bridge.address6_of(address("10.88.0.9")), address("fd00::9"));
        assert_eq!(bridge.lease_of(address("fd00::9")), address("10.88.0.9"));
        // No container gets this one by itself.
        assert_eq!(bridge.lease_of(address("fd00::1:0")), address("fd00::1:0"));
        assert_eq!(bridge.lease_of(address("fd01::9")), address("fd01::9"));
    }

    #[test]
    fn candidates_are_hosts_of_the_subnet_and_each_comes_once() {
        let bridge = Bridge::parse("br", "10.88.0.0/28", None, None).unwrap();
        let mut all: Vec<_> = (0..14).map(|attempt| bridge.candidate("web", attempt)).collect();
        assert_eq!(bridge.candidate("web", 14), all[0]);
        all.sort();
        all.dedup();
        assert_eq!((all.len(), all[0], all[13]), (14, address("10.88.0.1"), address("10.88.0.14")));
    }

    #[test]
    fn link_names_hold_the_address() {
        assert_eq!(link_name(address("10.77.1.254")), "kt0a4d01fe");
        assert_eq!(address_of_link("kt0a4d01fe"), Some(address("10.77.1.254")));
        for other in ["", "kt", "eth0", "kt0a4d01f", "kt0A4D01FE", "kt0a4d01fe0", "kt+a4d01fe", "kontena0"] {
            assert_eq!(address_of_link(other), None, "{other}");
        }
        assert_eq!(hardware_address(address("10.77.1.254")), [0x02, 0x6b, 10, 77, 1, 254]);
    }
}
