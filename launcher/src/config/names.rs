//! `--dns`, `--dns-search` and `--add-host`: how a container resolves names.
//!
//! Each function parses the text of one option. Must not read the host's files: that is resources/etc_files.rs.

use crate::error::Parsed;
use std::net::IpAddr;

/// `--dns`, `--dns-search` and `--add-host`.
#[derive(Default)]
pub struct Names {
    /// Addresses of servers.
    pub servers: Vec<&'static str>,
    /// Domains that are searched.
    pub search: Vec<&'static str>,
    /// Lines of /etc/hosts.
    pub hosts: Vec<Host>,
}

/// `--add-host`.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    /// The name.
    pub name: &'static str,
    /// Its address; `None` for the host's own, as the container reaches it.
    pub address: Option<&'static str>,
}

/// docker's word for the host's own address, as its containers reach it.
const HOST_GATEWAY: &str = "host-gateway";

/// `--dns`.
pub fn server(text: &str) -> Parsed<&str> {
    if is_address(text) { Ok(text) } else { Err("not an address such as 192.0.2.53") }
}

/// `--dns-search`.
pub fn domain(text: &str) -> Parsed<&str> {
    if is_name(text) { Ok(text) } else { Err("not a domain such as example.org") }
}

/// `--add-host NAME:ADDRESS`.
pub fn host(text: &'static str) -> Parsed<Host> {
    let (name, address) = text.split_once(':').unwrap_or_default();
    let is_gateway = address == HOST_GATEWAY;
    if is_name(name) && (is_gateway || is_address(address)) {
        return Ok(Host { name, address: Some(address).filter(|_| !is_gateway) });
    }
    Err("use NAME:ADDRESS, for example db:192.0.2.7, or NAME:host-gateway")
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Whether it can be a name in /etc/hosts.
pub fn is_name(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    (1..=253).contains(&text.len()) && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses_and_domains_are_names() {
        for text in ["192.0.2.53", "2001:db8::53", "::1"] {
            assert_eq!(server(text), Ok(text));
        }
        for text in ["", "dns.example.org", "192.0.2.53:53", "[::1]", "1.2.3", " 192.0.2.53"] {
            assert!(server(text).is_err(), "{text}");
        }
        let longest = "x".repeat(253);
        for text in ["example.org", "a", "_srv.x-y.org", ".", &longest] {
            assert_eq!(domain(text), Ok(text));
        }
        for text in ["", "a b", "a\nnameserver 192.0.2.1", "\u{e4}.org", &"x".repeat(254)] {
            assert!(domain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_have_a_name_and_an_address_or_the_gateways() {
        for (text, name, address) in [
            ("db:192.0.2.7", "db", Some("192.0.2.7")),
            ("db:2001:db8::7", "db", Some("2001:db8::7")),
            ("host.docker.internal:host-gateway", "host.docker.internal", None),
        ] {
            assert_eq!(host(text), Ok(Host { name, address }));
        }
        for text in ["", "db", "db:", ":192.0.2.7", "db:gateway", "d b:192.0.2.7", "db=192.0.2.7", "db:[::1]"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
