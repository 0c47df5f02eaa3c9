//! Subnets of IPv4 and IPv6, by the same arithmetic. Must not know who uses them.

use crate::text::number;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, and how many of its first bits all addresses of its subnet share: `10.77.0.1/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// One of its addresses.
    pub address: IpAddr,
    /// The length of the prefix.
    pub prefix: u8,
}

impl Subnet {
    /// `ADDRESS/PREFIX`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let subnet = Self { address: address.parse().ok()?, prefix: number(prefix)?.try_into().ok()? };
        (u32::from(subnet.prefix) <= subnet.width()).then_some(subnet)
    }

    /// How many bits its addresses have.
    fn width(self) -> u32 {
        if self.address.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS }
    }

    /// How many of them tell its addresses apart.
    pub fn host_bits(self) -> u32 {
        self.width().saturating_sub(self.prefix.into())
    }

    /// The bits of the hosts.
    fn mask(self) -> u128 {
        1u128.checked_shl(self.host_bits()).unwrap_or(0).wrapping_sub(1)
    }

    /// How many hosts it can have: neither its first address nor its last is one's.
    pub fn hosts(self) -> u128 {
        self.mask().saturating_sub(1)
    }

    /// Whether a host can have this address in it.
    pub fn has_host(self, address: IpAddr) -> bool {
        self.index(address).is_some_and(|index| (1..=self.hosts()).contains(&index))
    }

    fn with(self, bits: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(bits as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(bits).into(),
        }
    }

    /// Its address number `index`; the first, which is its own, has number 0.
    pub fn nth(self, index: u128) -> IpAddr {
        self.with(bits(self.address) & !self.mask() | index)
    }

    /// Whether its address is that of the subnet itself, with no bits of a host.
    pub fn is_whole(self) -> bool {
        self.nth(0) == self.address
    }

    /// Its last address: in IPv4, the one for all.
    pub fn last(self) -> IpAddr {
        self.nth(self.mask())
    }

    /// The number of `address` in it; `None` outside.
    pub fn index(self, address: IpAddr) -> Option<u128> {
        let is_inside = address.is_ipv4() == self.address.is_ipv4()
            && bits(address) & !self.mask() == bits(self.address) & !self.mask();
        is_inside.then_some(bits(address) & self.mask())
    }

    /// Whether they have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.index(other.address).is_some() || other.index(self.address).is_some()
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// As [`Subnet::parse`] reads it.
impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The address of these bytes; `None` where they are none.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    }
}

/// An address's bytes, as they go over the wire.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn subnets_read_back_as_they_are_written() {
        for text in ["10.77.0.1/16", "0.0.0.0/0", "192.0.2.7/32", "fd6b:6f6e:a4d::1/64", "::/0", "::1/128"] {
            assert_eq!(subnet(text).to_string(), text);
        }
        for text in ["", "/", "10.77.0.1", "10.77.0.1/", "10.77.0.1/33", "::/129", "10.77/16", "1.2.3.4/+8", "x/8"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_numbered_from_the_subnets_own() {
        for (text, first, tenth, last) in [
            ("10.77.0.1/16", "10.77.0.0", "10.77.0.10", "10.77.255.255"),
            ("192.0.2.130/25", "192.0.2.128", "192.0.2.138", "192.0.2.255"),
            ("fd00::5/64", "fd00::", "fd00::a", "fd00::ffff:ffff:ffff:ffff"),
            ("::/0", "::", "::a", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("0.0.0.0/0", "0.0.0.0", "0.0.0.10", "255.255.255.255"),
        ] {
            let subnet = subnet(text);
            assert_eq!([subnet.nth(0), subnet.nth(10), subnet.last()].map(|a| a.to_string()), [first, tenth, last]);
            assert_eq!(subnet.index(tenth.parse().unwrap()), Some(10), "{text}");
        }
        assert_eq!(subnet("10.77.0.1/16").index("10.78.0.1".parse().unwrap()), None);
        assert_eq!(subnet("0.0.0.0/0").index("::1".parse().unwrap()), None);
    }

    #[test]
    fn subnets_overlap_where_one_is_in_the_other() {
        for (a, b, overlaps) in [
            ("10.77.0.0/16", "10.0.0.0/8", true),
            ("10.77.0.0/16", "10.77.3.0/24", true),
            ("10.77.0.0/16", "10.78.0.0/16", false),
            ("10.77.0.0/16", "0.0.0.0/0", true),
            ("10.77.0.0/16", "::/0", false),
            ("fd00::/64", "fd00::/8", true),
            ("fd00::/64", "fd00:0:0:1::/64", false),
        ] {
            assert_eq!(subnet(a).overlaps(subnet(b)), overlaps, "{a} {b}");
            assert_eq!(subnet(b).overlaps(subnet(a)), overlaps, "{b} {a}");
        }
    }
}
