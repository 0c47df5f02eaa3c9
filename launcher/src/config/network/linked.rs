//! `--net bridge=NAME,…` and `macvlan=LINK,…`.

use crate::config::bridge::Bridge;
use crate::config::network::Net;
use crate::error::Parsed;
use crate::text::c_text;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// From what IPv6 needs to what a bridge can have.
pub const MTUS: RangeInclusive<u32> = 1280..=65535;

/// A link of this `kind`, and what is behind `KIND=`.
pub fn linked(kind: &str, text: &'static str) -> Parsed<Net> {
    let (link, parts) = text.split_once(',').map_or((text, None), |(link, parts)| (link, Some(parts)));
    if !is_link_name(link) {
        return Err("not a link name: use 1 to 15 letters, digits or _.- with no . or - first");
    }
    if kind == "bridge" { bridge(link, parts) } else { macvlan(link, parts) }
}

/// The parts behind `bridge=NAME,`.
fn bridge(name: &'static str, parts: Option<&str>) -> Parsed<Net> {
    let [subnet, gateway, subnet6, mtu] = values(parts, ["subnet", "gateway", "subnet6", "mtu"])
        .ok_or("use bridge=NAME[,subnet=10.88.0.0/24][,gateway=…][,subnet6=…][,mtu=…]")?;
    let subnets = match subnet {
        Some(subnet) => Some(Bridge::parse(name, subnet, gateway, subnet6)?),
        None if gateway.is_some() || subnet6.is_some() => {
            return Err("gateway and subnet6 need a subnet");
        }
        None => None,
    };
    let mtu = match mtu {
        Some(text) => {
            let mtu = text.parse().ok().filter(|mtu| MTUS.contains(mtu));
            Some(mtu.ok_or("not an MTU: use 1280 to 65535")?)
        }
        None => None,
    };
    Ok(Net::Bridge { name, subnets, mtu })
}

/// The parts behind `macvlan=LINK,`.
fn macvlan(link: &str, parts: Option<&str>) -> Parsed<Net> {
    let [gateway, gateway6] =
        values(parts, ["gateway", "gateway6"]).ok_or("use macvlan=LINK[,gateway=192.0.2.1][,gateway6=…]")?;
    let mut gateways = Vec::new();
    for (text, is_ipv4) in [(gateway, true), (gateway6, false)] {
        let Some(text) = text else { continue };
        let address = text.parse().ok().filter(|address: &IpAddr| address.is_ipv4() == is_ipv4);
        gateways.push(address.ok_or("not a gateway address")?);
    }
    Ok(Net::Macvlan { link: c_text(link)?, gateways })
}

/// The values of `KEY=VALUE,…` in the order of `keys`; `None` for another key, or one that comes twice.
fn values<'a, const N: usize>(parts: Option<&'a str>, keys: [&str; N]) -> Option<[Option<&'a str>; N]> {
    let mut values = [None; N];
    for part in parts.into_iter().flat_map(|parts| parts.split(',')) {
        let (key, value) = part.split_once('=')?;
        let slot = values.get_mut(keys.iter().position(|known| *known == key)?)?;
        if slot.replace(value).is_some() {
            return None;
        }
    }
    Some(values)
}

/// Shorter than IFNAMSIZ, and a name in /proc/sys/net too.
fn is_link_name(name: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_.-".contains(&c);
    (1..=15).contains(&name.len())
        && name.bytes().all(good)
        && !name.starts_with(['.', '-'])
        && !matches!(name, "all" | "default" | "lo")
}
