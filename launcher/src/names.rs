//! What a container resolves names by: /etc/hosts, /etc/hostname and /etc/resolv.conf, as podman writes them.
//!
//! Must not change the host's, nor know how the container gets them.

use crate::config::{Config, wrong};
use crate::error::Result;
use crate::file::{self, CWD};
use crate::net::Network;
use std::ffi::{CStr, CString};
use std::net::IpAddr;

const HOSTS: &str = "/etc/hosts";
/// Where systemd-resolved keeps the servers that it asks itself, while it stands at 127.0.0.53 in the first.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Path and content, /etc/hosts first. Without a network there is nobody to ask.
pub fn files(config: &Config, net: &Network<'_>) -> Vec<(&'static CStr, CString)> {
    let hostname = config.hostname.to_string_lossy();
    let mut hosts = match net {
        Network::Host => file::read_text(CWD, HOSTS),
        Network::Bridge(..) | Network::Macvlan(..) => LOCALHOST.into(),
        Network::Joined(_, addresses, _) if !addresses.is_empty() => {
            LOCALHOST.to_owned() + &hosts_lines(config, addresses)
        }
        Network::None | Network::Joined(..) => format!("{LOCALHOST}127.0.0.1\t{hostname}\n"),
    };
    let gateway = net.gateway().to_string();
    for (name, address) in &config.names.hosts {
        hosts += &format!("{}\t{name}\n", address.as_ref().unwrap_or(&gateway));
    }
    let content = |text: String| CString::new(text).unwrap_or_default();
    let mut files = vec![(c"/etc/hosts", content(hosts)), (c"/etc/hostname", content(format!("{hostname}\n")))];
    let names = &config.names;
    if !matches!(net, Network::None) || !names.servers.is_empty() {
        let inherited =
            if names.servers.is_empty() || names.search.is_empty() { resolv_conf(net) } else { String::new() };
        let keeps = |line: &&str| {
            let is = |word| line.trim_ascii_start().starts_with(word);
            (names.servers.is_empty() || !is("nameserver")) && (names.search.is_empty() || !is("search"))
        };
        let mut text: String = inherited.lines().filter(keeps).map(|line| format!("{line}\n")).collect();
        if !names.search.is_empty() {
            text += &format!("search {}\n", names.search.join(" "));
        }
        for server in &names.servers {
            text += &format!("nameserver {server}\n");
        }
        files.push((c"/etc/resolv.conf", content(text)));
    }
    files
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// `--dns`, `--dns-search` and `--add-host`.
pub struct Names {
    servers: Vec<String>,
    search: Vec<String>,
    /// Name and address; `None` for the host's.
    hosts: Vec<(String, Option<String>)>,
}

/// What docker calls the host's own address, as its containers reach it.
const HOST_GATEWAY: &str = "host-gateway";

/// The three options' texts, each of which may be given several times.
pub fn parse(servers: &[String], search: &[String], hosts: &[String]) -> Result<Names> {
    let good_name = |name: &str| {
        !name.is_empty() && name.len() <= 253 && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
    };
    let mut names = Names { servers: Vec::new(), search: Vec::new(), hosts: Vec::new() };
    for text in servers {
        if !is_address(text) {
            return Err(wrong("--dns", text, "not an address: give one, as 192.0.2.53"));
        }
        names.servers.push(text.into());
    }
    for text in search {
        if !good_name(text) {
            return Err(wrong("--dns-search", text, "not a domain: give one, as example.org"));
        }
        names.search.push(text.into());
    }
    for text in hosts {
        let hint = "give NAME:ADDRESS, as db:192.0.2.7, or NAME:host-gateway";
        let host = text.split_once(':').filter(|(name, _)| good_name(name));
        let (name, address) = host.ok_or_else(|| wrong("--add-host", text, hint))?;
        let address = match address {
            HOST_GATEWAY => None,
            _ if is_address(address) => Some(address.into()),
            _ => return Err(wrong("--add-host", text, hint)),
        };
        names.hosts.push((name.into(), address));
    }
    Ok(names)
}

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The lines of /etc/hosts for a container's own addresses.
pub fn hosts_lines(config: &Config, addresses: &[IpAddr]) -> String {
    let hostname = config.hostname.to_string_lossy();
    addresses.iter().map(|address| format!("{address}\t{hostname}\n")).collect()
}

/// The host's, without the servers that are the host's loopback, which in a container is another.
fn resolv_conf(net: &Network<'_>) -> String {
    let mut servers = String::new();
    for path in RESOLV_CONF {
        let text = file::read_text(CWD, path);
        if matches!(net, Network::Host) {
            return text;
        }
        let server =
            |line: &str| -> Option<IpAddr> { line.trim_ascii().strip_prefix("nameserver")?.trim_ascii().parse().ok() };
        let reachable: Vec<&str> =
            text.lines().filter(|line| !server(line).is_some_and(|server| server.is_loopback())).collect();
        servers = reachable.iter().map(|line| format!("{line}\n")).collect();
        if reachable.iter().any(|line| server(line).is_some()) {
            break;
        }
    }
    servers
}
