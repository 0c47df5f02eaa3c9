//! `--publish` and `--publish-via`: the ports of the host that lead to a container.
//!
//! Each function parses the text of one option. Must not reserve a port: that is net/publish.rs.

use crate::error::Parsed;
use crate::gather::Gather;
use crate::text::{has, number};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

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

/// `--publish-via`: whether the kernel or the launcher forwards all published ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishVia {
    /// The kernel, by nf_tables.
    Nft,
    /// The launcher.
    Relay,
}

/// `nft` or `relay`.
pub fn publish_via(text: &str) -> Parsed<PublishVia> {
    match text {
        "nft" => Ok(PublishVia::Nft),
        "relay" => Ok(PublishVia::Relay),
        _ => Err("not a way to publish: use nft or relay"),
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
            Some(IpAddr::V4(address)) => format!("{address}:{port}"),
            Some(IpAddr::V6(address)) => format!("[{address}]:{port}"),
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

/// The first port that is published twice. Ports that the kernel picks never are.
pub fn twice(ports: &[Publish]) -> Option<&Publish> {
    let mut rest = ports;
    while let Some((port, others)) = rest.split_first() {
        if port.host_port != 0 && others.iter().any(|other| other.excludes(port)) {
            return Some(port);
        }
        rest = others;
    }
    None
}

/// `[IP:][HOST:]CONTAINER[/tcp|udp]`, each a port or a range of as many, as 8000-8009. The kernel picks a port for a
/// HOST that is 0 or left out.
pub fn publish(text: &str) -> Parsed<Vec<Publish>> {
    const FORM: &str = "use [IP:][HOST:]CONTAINER, for example -p 8080:80, -p 127.0.0.1:8080:80 or -p 80";
    let (rest, protocol) = with_protocol(text)?;
    let (address, ports) = match rest.strip_prefix('[').map(|rest| {
        let (address, rest) = rest.split_once(']')?;
        Some((address, rest.strip_prefix(':')?))
    }) {
        Some(None) => return Err("use [IPV6]:HOST:CONTAINER, for example -p [2001:db8::1]:8080:80"),
        Some(Some((address, ports))) => {
            let address = address.parse::<Ipv6Addr>();
            (Some(address.map_err(|_| "not an IPv6 address such as [2001:db8::1]:8080:80")?.into()), ports)
        }
        None => match rest.bytes().filter(|c| *c == b':').count() {
            0 | 1 => (None, rest),
            2 => {
                let (address, ports) = rest.split_once(':').unwrap_or_default();
                let address = address.parse::<Ipv4Addr>();
                (Some(address.map_err(|_| "not an IPv4 address such as 127.0.0.1:8080:80")?.into()), ports)
            }
            _ => return Err("an IPv6 address needs brackets: use [IPV6]:HOST:CONTAINER"),
        },
    };
    let (host, container) = match (ports.split_once(':'), address) {
        (None, None) => ("0", ports),
        (Some(("", container)), Some(_)) => ("0", container),
        (Some(parts), _) => parts,
        (None, Some(_)) => return Err(FORM),
    };
    let container = ports_of(container).ok_or(NOT_PORTS)?;
    let publish = |(host_port, container_port)| Publish { address, host_port, container_port, protocol };
    if host == "0" {
        return Ok(container.map(|port| publish((0, port))).list());
    }
    let host = ports_of(host).ok_or(if has(ports, b':') { NOT_PORTS } else { FORM })?;
    if host.len() != container.len() {
        return Err("the two ranges differ in length");
    }
    Ok(host.zip(container).map(publish).list())
}

const NOT_PORTS: &str = "not a port: use numbers from 1 to 65535, or ranges, for example 8000-8009:80-89";

fn with_protocol(text: &str) -> Parsed<(&str, Protocol)> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((rest, "tcp")) => Ok((rest, Protocol::Tcp)),
        Some((rest, "udp")) => Ok((rest, Protocol::Udp)),
        Some(_) => Err("not a protocol: use /tcp or /udp"),
    }
}

/// `--expose`: a port or a range, as `80/tcp`.
pub fn expose(text: &'static str) -> Parsed<&'static str> {
    let (ports, _) = with_protocol(text)?;
    ports_of(ports).ok_or("not a port: use a number from 1 to 65535, or a range, for example 8000-8009/udp")?;
    Ok(if has(text, b'/') { text } else { format!("{text}/tcp").leak() })
}

/// `--publish-all`: adds what is exposed and has no port of the host yet; the kernel picks one for each.
pub fn publish_all(ports: &mut Vec<Publish>, exposed: &[&str]) -> Parsed<()> {
    for text in exposed {
        for port in publish(text)? {
            let is = |other: &Publish| (other.container_port, other.protocol) == (port.container_port, port.protocol);
            if !ports.iter().any(is) {
                ports.push(port);
            }
            if ports.len() > 1024 {
                return Err("these are more than 1024 ports: use -p for those that you need");
            }
        }
    }
    Ok(())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn port(address: Option<&str>, host_port: u16, container_port: u16, protocol: Protocol) -> Publish {
        Publish { address: address.map(|text| text.parse().unwrap()), host_port, container_port, protocol }
    }

    #[test]
    fn ports_are_read_as_they_are_written() {
        use Protocol::*;
        for (text, expected) in [
            ("80", port(None, 0, 80, Tcp)),
            ("0:80", port(None, 0, 80, Tcp)),
            ("8080:80", port(None, 8080, 80, Tcp)),
            ("8080:80/tcp", port(None, 8080, 80, Tcp)),
            ("53:5353/udp", port(None, 53, 5353, Udp)),
            ("127.0.0.1:8080:80", port(Some("127.0.0.1"), 8080, 80, Tcp)),
            ("127.0.0.1::80", port(Some("127.0.0.1"), 0, 80, Tcp)),
            ("[::1]:8080:80", port(Some("::1"), 8080, 80, Tcp)),
            ("[2001:db8::1]::80/udp", port(Some("2001:db8::1"), 0, 80, Udp)),
            ("65535:1", port(None, 65535, 1, Tcp)),
        ] {
            assert_eq!(publish(text), Ok(vec![expected]), "{text}");
        }
        let range = publish("8000-8002:80-82").unwrap();
        let expected = [(8000, 80), (8001, 81), (8002, 82)];
        assert_eq!(range, expected.map(|(host, container)| port(None, host, container, Tcp)));
        assert_eq!(publish("0:80-81").unwrap().len(), 2);
    }

    #[test]
    fn ports_that_make_no_sense_are_refused() {
        for (text, hint) in [
            ("", "not a port"),
            ("http", "not a port"),
            ("0", "not a port"),
            ("65536", "not a port"),
            ("-1:80", "not a port"),
            ("80:", "not a port"),
            (":80", "not a port"),
            ("8080:80/sctp", "not a protocol"),
            ("8080:80/", "not a protocol"),
            ("82-80:1-3", "not a port"),
            ("8000-8009:80", "the two ranges"),
            ("127.0.0.1:80", "not a port"),
            ("localhost:8080:80", "not an IPv4 address"),
            ("[127.0.0.1]:8080:80", "not an IPv6 address"),
            ("[::1]:80", "use [IP:][HOST:]CONTAINER"),
            ("[::1]8080:80", "use [IPV6]:HOST:CONTAINER"),
            ("[::1", "use [IPV6]:HOST:CONTAINER"),
            ("::1:8080:80", "an IPv6 address needs brackets"),
        ] {
            let refused = publish(text).unwrap_err();
            assert!(refused.starts_with(hint), "{text}: {refused}");
        }
        assert!(publish_via("iptables").is_err());
    }

    #[test]
    fn ports_exclude_each_other_where_one_host_cannot_have_both() {
        for (one, other, excludes) in [
            ("8080:80", "8080:81", true),
            ("8080:80", "8081:80", false),
            ("8080:80", "8080:80/udp", false),
            ("8080:80", "127.0.0.1:8080:80", true),
            ("8080:80", "[::1]:8080:80", true),
            ("0.0.0.0:8080:80", "127.0.0.1:8080:80", true),
            ("0.0.0.0:8080:80", "[::]:8080:80", false),
            ("0.0.0.0:8080:80", "[::1]:8080:80", false),
            ("127.0.0.1:8080:80", "127.0.0.2:8080:80", false),
            ("[::]:8080:80", "[fd00::1]:8080:80", true),
        ] {
            let [one, other] = [one, other].map(|text| publish(text).unwrap()[0]);
            assert_eq!((one.excludes(&other), other.excludes(&one)), (excludes, excludes), "{one} {other}");
        }
    }

    #[test]
    fn ports_are_written_as_ss_has_them() {
        for (text, written) in [
            ("8080:80", "*:8080/tcp"),
            ("0.0.0.0:53:53/udp", "0.0.0.0:53/udp"),
            ("[fd00::1]:8080:80", "[fd00::1]:8080/tcp"),
        ] {
            assert_eq!(publish(text).unwrap()[0].to_string(), written);
        }
    }
}
