//! `--net`, `--ip`, `--ip6` and `--mac-address`.
//!
//! Each function parses the text of one option. Must not touch the system.

#[cfg(feature = "net")]
pub mod linked;
#[cfg(not(feature = "net"))]
#[path = "network/without.rs"]
pub mod linked;

use crate::config::bridge::Bridge;
use crate::config::subnet::Subnet;
use crate::error::Parsed;
use crate::text::{c_text, is_name};
use std::ffi::CStr;
use std::net::IpAddr;

/// The container's network: `--net`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// A network namespace of its own, linked to a bridge.
    Bridge {
        /// The bridge's name.
        name: &'static str,
        /// The bridge with its subnets, where they were given.
        subnets: Option<Bridge>,
        /// Its MTU, where it was given.
        mtu: Option<u32>,
    },
    /// A network namespace of its own, with a macvlan link on the LAN of one of the host's links.
    Macvlan {
        /// The host's link.
        link: &'static CStr,
        /// The default routes.
        gateways: Vec<IpAddr>,
    },
    /// A network namespace of its own, with loopback alone.
    None,
    /// A network namespace of its own, from which a program of the host's makes connections for an ordinary user.
    Outbound(Outbound),
    /// The host's.
    Host,
    /// That of the container of this name.
    Container(&'static str),
    /// The network namespace that this file refers to.
    Namespace(&'static CStr),
}

/// Such a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outbound {
    Pasta,
    Slirp4netns,
}

impl Outbound {
    /// Its name.
    pub fn name(self) -> &'static str {
        if self == Self::Pasta { "pasta" } else { "slirp4netns" }
    }

    /// The Debian package that it is in.
    pub fn package(self) -> &'static str {
        if self == Self::Pasta { "passt" } else { "slirp4netns" }
    }
}

impl Net {
    /// `--net bridge`.
    pub fn kontena0() -> Self {
        Self::Bridge { name: Bridge::DEFAULT, subnets: None, mtu: None }
    }

    /// Whether no other container has it, nor the host.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Bridge { .. } | Self::Macvlan { .. } | Self::Outbound(_) | Self::None)
    }
}

/// `bridge[=NAME[,subnet=…][,gateway=…][,subnet6=…][,mtu=…]]`, `macvlan=LINK[,gateway=…][,gateway6=…]`, `none`,
/// `host`, `pasta`, `slirp4netns`, `container:NAME` or `ns:PATH`.
pub fn net(text: &'static str) -> Parsed<Net> {
    match text {
        "bridge" => return Ok(Net::kontena0()),
        "none" => return Ok(Net::None),
        "host" => return Ok(Net::Host),
        "pasta" => return Ok(Net::Outbound(Outbound::Pasta)),
        "slirp4netns" => return Ok(Net::Outbound(Outbound::Slirp4netns)),
        "ns:" => return Err("use the file of a network namespace, for example ns:/run/netns/blue"),
        _ => {}
    }
    if let Some(container) = text.strip_prefix("container:") {
        return if is_name(container) { Ok(Net::Container(container)) } else { Err("not a container name") };
    }
    if let Some(path) = text.strip_prefix("ns:") {
        return c_text(path).map(Net::Namespace);
    }
    let (kind, rest) = text.split_once('=').unwrap_or_default();
    if !matches!(kind, "bridge" | "macvlan") {
        let hint = "not a network: use bridge, none, host, pasta, bridge=NAME,subnet=…, container:NAME, ns:PATH or \
                    macvlan=LINK";
        return Err(hint);
    }
    linked::linked(kind, rest)
}

/// `--ip` and `--ip6`, with a prefix or without. Without one, the address is a subnet of its own.
pub fn address(text: &str, is_ipv4: bool) -> Parsed<Subnet> {
    let whole = || {
        let address: IpAddr = text.parse().ok()?;
        Some(Subnet { address, prefix: if address.is_ipv4() { 32 } else { 128 } })
    };
    let subnet = whole().or_else(|| Subnet::parse(text)).filter(|subnet| subnet.address.is_ipv4() == is_ipv4);
    let hint = if is_ipv4 { "not an IPv4 address such as 10.77.0.7" } else { "not an IPv6 address" };
    subnet.ok_or(hint)
}

/// `--mac-address`: a unicast address.
pub fn mac_address(text: &str) -> Parsed<[u8; 6]> {
    let parse = || {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        (parts.next().is_none() && bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(bytes)
    };
    parse().ok_or("not a unicast hardware address such as 02:42:ac:11:00:02")
}

/// The addresses that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `--ip`.
    pub ip: Option<Subnet>,
    /// `--ip6`.
    pub ip6: Option<Subnet>,
    /// `--mac-address`.
    pub hardware: Option<[u8; 6]>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_they_are_written() {
        let bridge = |name: &'static str, subnets| Net::Bridge { name, subnets, mtu: None };
        let subnets = |gateway, subnet6| Bridge::parse("lan", "10.88.0.0/24", gateway, subnet6).map(Some).unwrap();
        let macvlan = |gateways: &[&str]| Net::Macvlan {
            link: c"eth0",
            gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect(),
        };
        for (text, expected) in [
            ("none", Net::None),
            ("host", Net::Host),
            ("pasta", Net::Outbound(Outbound::Pasta)),
            ("slirp4netns", Net::Outbound(Outbound::Slirp4netns)),
            ("bridge", bridge("kontena0", None)),
            ("bridge=lan", bridge("lan", None)),
            ("bridge=lan,mtu=1280", Net::Bridge { name: "lan", subnets: None, mtu: Some(1280) }),
            ("bridge=lan,subnet=10.88.0.0/24", bridge("lan", subnets(None, None))),
            (
                "bridge=lan,subnet6=fd00::/64,gateway=10.88.0.9,subnet=10.88.0.0/24",
                bridge("lan", subnets(Some("10.88.0.9"), Some("fd00::/64"))),
            ),
            ("macvlan=eth0", macvlan(&[])),
            ("macvlan=eth0,gateway6=fd00::1,gateway=192.0.2.1", macvlan(&["192.0.2.1", "fd00::1"])),
            ("container:web", Net::Container("web")),
            ("ns:/run/netns/blue", Net::Namespace(c"/run/netns/blue")),
        ] {
            assert_eq!(net(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn networks_that_make_no_sense_are_refused() {
        for (text, hint) in [
            ("", "not a network"),
            ("Bridge", "not a network"),
            ("ipvlan=eth0", "not a network"),
            ("pasta:", "not a network"),
            ("slirp4netns=", "not a network"),
            ("bridge=", "not a link name"),
            ("bridge=all", "not a link name"),
            ("bridge=.x", "not a link name"),
            ("bridge=0123456789abcdef", "not a link name"),
            ("macvlan=a/b", "not a link name"),
            ("bridge=lan,mtu=1279", "not an MTU"),
            ("bridge=lan,mtu=65536", "not an MTU"),
            ("bridge=lan,mtu=", "not an MTU"),
            ("bridge=lan,mtu=1400,mtu=1400", "use bridge="),
            ("bridge=lan,", "use bridge="),
            ("bridge=lan,subnet", "use bridge="),
            ("bridge=lan,gateway6=fd00::1", "use bridge="),
            ("bridge=lan,subnet=10.88.0.0/24,subnet=10.89.0.0/24", "use bridge="),
            ("bridge=lan,gateway=10.88.0.1", "gateway and subnet6 need a subnet"),
            ("bridge=lan,subnet6=fd00::/64", "gateway and subnet6 need a subnet"),
            ("bridge=lan,subnet=10.88.0.7/24", "not an IPv4 subnet"),
            ("macvlan=eth0,subnet=10.88.0.0/24", "use macvlan="),
            ("macvlan=eth0,=", "use macvlan="),
            ("macvlan=eth0,gateway=fd00::1", "not a gateway address"),
            ("macvlan=eth0,gateway6=192.0.2.1", "not a gateway address"),
            ("container:", "not a container name"),
            ("container:../x", "not a container name"),
            ("ns:", "use the file of a network namespace"),
        ] {
            let refused = net(text).unwrap_err();
            assert!(refused.starts_with(hint), "{text}: {refused}");
        }
    }

    #[test]
    fn addresses_are_of_the_family_that_is_asked_for() {
        for (text, is_ipv4, prefix) in
            [("10.77.0.7", true, 32), ("192.0.2.7/24", true, 24), ("fd00::7", false, 128), ("fd00::7/64", false, 64)]
        {
            assert_eq!(address(text, is_ipv4).unwrap().prefix, prefix, "{text}");
            assert!(address(text, !is_ipv4).is_err(), "{text}");
        }
        for text in ["", "10.77.0", "10.77.0.7/", "10.77.0.7/33", "10.77.0.7/-1", "web"] {
            assert!(address(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn mac_addresses_are_those_of_one_link() {
        assert_eq!(mac_address("02:42:ac:11:00:0F"), Ok([0x02, 0x42, 0xac, 0x11, 0, 0x0f]));
        for text in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:00:02",
            "02:42:ac:11:00:+2",
            "01:42:ac:11:00:02",
            "00:00:00:00:00:00",
            "02-42-ac-11-00-02",
        ] {
            assert!(mac_address(text).is_err(), "{text}");
        }
    }
}
