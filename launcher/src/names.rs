//! What a container resolves names by: /etc/hosts, /etc/hostname and /etc/resolv.conf, as podman writes them.
//!
//! Must not change the host's, nor know how the container gets them.

use crate::config::{Config, Net};
use crate::file::{self, CWD};
use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr};

const HOSTS: &str = "/etc/hosts";
/// Where systemd-resolved keeps the servers that it asks itself, while it stands at 127.0.0.53 in the first.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Path and content, /etc/hosts first. Without a network there is nobody to ask.
pub fn files(config: &Config, net: Net) -> Vec<(&'static CStr, CString)> {
    let hostname = config.hostname.to_string_lossy();
    let hosts = match net {
        Net::Host => file::read_text(CWD, HOSTS),
        Net::None => format!("{LOCALHOST}127.0.0.1\t{hostname}\n"),
        Net::Bridge => LOCALHOST.into(),
    };
    let content = |text: String| CString::new(text).unwrap_or_default();
    let mut files = vec![(c"/etc/hosts", content(hosts)), (c"/etc/hostname", content(format!("{hostname}\n")))];
    if net != Net::None {
        files.push((c"/etc/resolv.conf", content(resolv_conf(net))));
    }
    files
}

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The line of /etc/hosts for a container's own address.
pub fn hosts_line(config: &Config, address: Ipv4Addr) -> String {
    format!("{address}\t{}\n", config.hostname.to_string_lossy())
}

/// The host's, without the servers that are the host's loopback, which in a container is another.
fn resolv_conf(net: Net) -> String {
    let mut servers = String::new();
    for path in RESOLV_CONF {
        let text = file::read_text(CWD, path);
        if net == Net::Host {
            return text;
        }
        let server = |line: &str| -> Option<IpAddr> { line.trim().strip_prefix("nameserver")?.trim().parse().ok() };
        let reachable: Vec<&str> =
            text.lines().filter(|line| !server(line).is_some_and(|server| server.is_loopback())).collect();
        servers = reachable.iter().map(|line| format!("{line}\n")).collect();
        if reachable.iter().any(|line| server(line).is_some()) {
            break;
        }
    }
    servers
}
