//! What was asked of the network: `--net`, `--publish`, `--ip`, `--ip6`, `--mac-address`.
//!
//! Every function takes the text of one option and gives a value or one clear line. Must not touch the system.

use crate::config::{c_string, name, number, wrong};
use crate::error::Result;
use crate::net::bridge::Bridge;
use crate::net::subnet::Subnet;
use std::ffi::CString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// The container's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// Its own network namespace, linked to the bridge of this name; which is like this, where that is said.
    Bridge(String, Option<Bridge>),
    /// Its own network namespace, with a link beside this one of the host's, and default routes by these.
    Macvlan(CString, Vec<IpAddr>),
    /// Its own network namespace, with loopback alone.
    None,
    /// The host's.
    Host,
    /// That of the container of this name.
    Container(String),
    /// The one that this file stands for.
    Namespace(CString),
}

impl Net {
    /// Whether no other container has it, nor the host.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Bridge(..) | Self::Macvlan(..) | Self::None)
    }
}

/// `bridge[=NAME[,subnet=…][,gateway=…][,subnet6=…]]`, `macvlan=LINK[,gateway=…][,gateway6=…]`, `none`, `host`,
/// `container:NAME` or `ns:PATH`.
pub fn net(text: &str) -> Result<Net> {
    match text {
        "bridge" => return Ok(Net::Bridge(Bridge::DEFAULT.into(), None)),
        "none" => return Ok(Net::None),
        "host" => return Ok(Net::Host),
        _ => {}
    }
    if let Some(container) = text.strip_prefix("container:") {
        return name(container).map(Net::Container).map_err(|_| wrong("--net", text, "not a name of a container"));
    }
    match text.strip_prefix("ns:") {
        Some("") => return Err(wrong("--net", text, "give the file of a network namespace, as ns:/run/netns/blue")),
        Some(path) => return c_string(path).map(Net::Namespace),
        None => {}
    }
    let (kind, rest) = text.split_once('=').unwrap_or_default();
    let mut parts = rest.split(',');
    let link = parts.next().unwrap_or_default();
    if !matches!(kind, "bridge" | "macvlan") {
        let hint =
            "not a network: give bridge, none, host, bridge=NAME,subnet=…, container:NAME, ns:PATH or macvlan=LINK";
        return Err(wrong("--net", text, hint));
    }
    if !is_link_name(link) {
        return Err(wrong(
            "--net",
            text,
            "not a link's name: give 1 to 15 letters, digits or _.- with no . or - first",
        ));
    }
    let mut given = [None; 4];
    let keys = if kind == "bridge" { ["subnet", "gateway", "subnet6", ""] } else { ["", "gateway", "", "gateway6"] };
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or_default();
        match keys.iter().position(|known| *known == key && !key.is_empty()) {
            Some(place) if given[place].is_none() => given[place] = Some(value),
            _ if kind == "bridge" => {
                return Err(wrong("--net", text, "give bridge=NAME[,subnet=10.88.0.0/24][,gateway=…][,subnet6=…]"));
            }
            _ => return Err(wrong("--net", text, "give macvlan=LINK[,gateway=192.0.2.1][,gateway6=…]")),
        }
    }
    let [subnet, gateway, subnet6, gateway6] = given;
    if kind == "macvlan" {
        let gateways = [gateway.map(|text| (text, true)), gateway6.map(|text| (text, false))];
        let parse = |(text, is_ipv4): (&str, bool)| -> Option<IpAddr> {
            text.parse().ok().filter(|address: &IpAddr| address.is_ipv4() == is_ipv4)
        };
        let gateways: Option<Vec<IpAddr>> = gateways.into_iter().flatten().map(parse).collect();
        let gateways = gateways.ok_or_else(|| wrong("--net", text, "not an address of a gateway"))?;
        return Ok(Net::Macvlan(c_string(link)?, gateways));
    }
    let bridge = match subnet {
        Some(subnet) => Some(Bridge::parse(link, subnet, gateway, subnet6).map_err(|hint| wrong("--net", text, hint))?),
        None if gateway.is_some() || subnet6.is_some() => {
            return Err(wrong("--net", text, "gateway and subnet6 go with a subnet: give that, too"));
        }
        None => None,
    };
    Ok(Net::Bridge(link.into(), bridge))
}

/// IFNAMSIZ; and what is a name in /proc/sys/net, too.
fn is_link_name(name: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_.-".contains(&c);
    (1..=15).contains(&name.len())
        && name.bytes().all(good)
        && !name.starts_with(['.', '-'])
        && !matches!(name, "all" | "default" | "lo")
}

/// `--ip` and `--ip6`, with the length of the prefix where it is given: where it is not, the address is a subnet of its own.
pub fn address(option: &str, text: &str, is_ipv4: bool) -> Result<Subnet> {
    let whole = || {
        let address: IpAddr = text.parse().ok()?;
        Some(Subnet { address, prefix: if address.is_ipv4() { 32 } else { 128 } })
    };
    let subnet = whole().or_else(|| Subnet::parse(text)).filter(|subnet| subnet.address.is_ipv4() == is_ipv4);
    let hint = if is_ipv4 { "not an IPv4 address: give one, as 10.77.0.7" } else { "not an IPv6 address: give one" };
    subnet.ok_or_else(|| wrong(option, text, hint))
}

/// `--mac-address`: of one link, and not of many.
pub fn hardware_address(text: &str) -> Result<[u8; 6]> {
    let parse = || {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        (parts.next().is_none() && bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(bytes)
    };
    parse()
        .ok_or_else(|| wrong("--mac-address", text, "not a hardware address of one link: give it as 02:42:ac:11:00:02"))
}

/// The addresses that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--ip`.
    pub ip: Option<Subnet>,
    /// `--ip6`.
    pub ip6: Option<Subnet>,
    /// `--mac-address`.
    pub hardware: Option<[u8; 6]>,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The host's address: 0.0.0.0 and :: for all of their family, `None` for all.
    pub address: Option<IpAddr>,
    /// On the host; 0 until the kernel has picked one.
    pub host_port: u16,
    /// In the container.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A transport protocol, by its number in IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
}

/// How what comes to a published port gets to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The kernel sends it there, as nf_tables says.
    Nft,
    /// Through the launcher.
    Relay,
}

/// `nft` or `relay`.
pub fn publish_via(text: &str) -> Result<Via> {
    match text {
        "nft" => Ok(Via::Nft),
        "relay" => Ok(Via::Relay),
        _ => Err(wrong("--publish-via", text, "not a way: give nft or relay")),
    }
}

/// As it stands in messages: `*:8080/tcp`, `[fd00::1]:8080/tcp`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.at(self.host_port), self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Publish {
    /// Its address with `port`, as ss(8) has them.
    pub fn at(&self, port: u16) -> String {
        match self.address {
            Some(address) => SocketAddr::new(address, port).to_string(),
            None => format!("*:{port}"),
        }
    }

    /// Whether what comes to `address` comes to this.
    pub fn is_at(&self, address: IpAddr) -> bool {
        self.address.is_none_or(|own| own == address || own.is_unspecified() && own.is_ipv4() == address.is_ipv4())
    }

    /// Whether one host cannot have both.
    pub fn excludes(&self, other: &Self) -> bool {
        let is_at = |a: &Self, b: &Self| b.address.is_none_or(|address| a.is_at(address));
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && (is_at(self, other) || is_at(other, self))
    }
}

/// `[IP:][HOST:]CONTAINER[/tcp|udp]`, each a port or a range of as many, as 8000-8009. The kernel picks a port for a HOST
/// that is 0 or left out.
pub fn publish(text: &str) -> Result<Vec<Publish>> {
    const FORM: &str = "give [IP:]HOST:CONTAINER, as -p 8080:80 or -p 127.0.0.1:8080:80, or CONTAINER alone";
    let wrong = |hint| wrong("--publish", text, hint);
    let (rest, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some(_) => return Err(wrong("not a protocol: give /tcp or /udp")),
    };
    let (address, ports) = match rest.strip_prefix('[').map(|rest| {
        let (address, rest) = rest.split_once(']')?;
        Some((address, rest.strip_prefix(':')?))
    }) {
        Some(None) => return Err(wrong("give [IPV6]:HOST:CONTAINER, as -p [2001:db8::1]:8080:80")),
        Some(Some((address, ports))) => {
            let address = address.parse::<Ipv6Addr>();
            (Some(address.map_err(|_| wrong("not an IPv6 address: give one, as [2001:db8::1]:8080:80"))?.into()), ports)
        }
        None => match rest.bytes().filter(|c| *c == b':').count() {
            0 | 1 => (None, rest),
            2 => {
                let (address, ports) = rest.split_once(':').unwrap_or_default();
                let address = address.parse::<Ipv4Addr>();
                (Some(address.map_err(|_| wrong("not an IPv4 address: give one, as 127.0.0.1:8080:80"))?.into()), ports)
            }
            _ => return Err(wrong("an IPv6 address stands in brackets: give [IPV6]:HOST:CONTAINER")),
        },
    };
    let (host, container) = match (ports.split_once(':'), address) {
        (None, None) => ("0", ports),
        (Some(("", container)), Some(_)) => ("0", container),
        (Some(parts), _) => parts,
        (None, Some(_)) => return Err(wrong(FORM)),
    };
    const NOT_PORTS: &str = "not a port: give numbers from 1 to 65535, or ranges of them, as 8000-8009:80-89";
    let container = ports_of(container).ok_or_else(|| wrong(NOT_PORTS))?;
    let publish = |(host_port, container_port)| Publish { address, host_port, container_port, protocol };
    if host == "0" {
        return Ok(container.map(|port| publish((0, port))).collect());
    }
    let host = ports_of(host).ok_or_else(|| wrong(if ports.contains(':') { NOT_PORTS } else { FORM }))?;
    if host.len() != container.len() {
        return Err(wrong("the two ranges are not of the same length"));
    }
    Ok(host.zip(container).map(publish).collect())
}

/// A port, or the first and the last of a range.
fn ports_of(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

/// 1 to 65535.
pub fn port(text: &str) -> Option<u16> {
    number(text)?.try_into().ok().filter(|port| *port != 0)
}
