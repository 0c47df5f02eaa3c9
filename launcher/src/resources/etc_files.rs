//! What a container resolves names by: /etc/hosts, /etc/hostname and /etc/resolv.conf, as podman writes them.
//!
//! Must not change the host's files, nor know how the container gets its own.

use crate::config::Config;
use crate::config::names::{Host, Names};
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::text::replace;
use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr};

const HOSTS: &str = "/etc/hosts";
/// The second has the servers that systemd-resolved asks, where the first has systemd-resolved itself, at 127.0.0.53.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The container's network, as far as these files depend on it.
pub enum Reach<'a> {
    /// The host's.
    Host,
    /// Links of its own, whose addresses are not known yet; where the host has an address there, it is this.
    Linked(Option<IpAddr>),
    /// Somebody else's, with the addresses and the host's address that are known of it.
    Joined(&'a [IpAddr], Option<IpAddr>),
    /// Loopback alone.
    Loopback,
}

/// A file that covers the root's.
pub struct EtcFile {
    /// Its path in the container.
    pub target: &'static CStr,
    pub content: CString,
}

/// The files, /etc/hosts first. A container with loopback alone has no servers to ask, unless they
/// are given.
pub fn files(config: &Config, reach: &Reach<'_>) -> Vec<EtcFile> {
    let hostname = config.hostname.to_string_lossy();
    let file = |target, text: String| {
        let content = CString::new(replace(&text, '\0', "")).unwrap_or_default();
        EtcFile { target, content }
    };
    let mut files = vec![
        file(c"/etc/hosts", hosts(reach, &hostname, &config.names.hosts)),
        file(c"/etc/hostname", format!("{hostname}\n")),
    ];
    let names = &config.names;
    if !matches!(reach, Reach::Loopback) || !names.servers.is_empty() {
        let needs_hosts = names.servers.is_empty() || names.search.is_empty();
        let inherited = if needs_hosts { inherited_resolv_conf(reach) } else { String::new() };
        files.push(file(c"/etc/resolv.conf", resolv_conf(&inherited, names)));
    }
    files
}

/// /etc/hosts of a container with links, once their addresses are known.
pub fn hosts_with(addresses: &[IpAddr], config: &Config, reach: &Reach<'_>) -> String {
    let hostname = config.hostname.to_string_lossy();
    hosts(reach, &hostname, &config.names.hosts) + &lines_for(addresses, &hostname)
}

/// The lines of /etc/hosts for a name with these addresses.
pub fn lines_for(addresses: &[IpAddr], hostname: &str) -> String {
    addresses.iter().map(|address| format!("{address}\t{hostname}\n")).text()
}

/// /etc/hosts, with the lines of `--add-host` last.
fn hosts(reach: &Reach<'_>, hostname: &str, added: &[Host]) -> String {
    let mut text = match reach {
        Reach::Host => file::read_text(CWD, HOSTS),
        Reach::Linked(_) => LOCALHOST.into(),
        Reach::Joined(addresses, _) if !addresses.is_empty() => LOCALHOST.to_owned() + &lines_for(addresses, hostname),
        Reach::Joined(..) | Reach::Loopback => LOCALHOST.to_owned() + &lines_for(&[LOOPBACK], hostname),
    };
    let gateway = match reach {
        Reach::Linked(gateway) | Reach::Joined(_, gateway) => gateway.unwrap_or(LOOPBACK),
        Reach::Host | Reach::Loopback => LOOPBACK,
    };
    let gateway = gateway.to_string();
    for Host { name, address } in added {
        text += &format!("{}\t{name}\n", address.unwrap_or(&gateway));
    }
    text
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The `inherited` /etc/resolv.conf, with the servers and domains of `names` in place of its own.
fn resolv_conf(inherited: &str, names: &Names) -> String {
    let keeps = |line: &&str| {
        let is = |word| line.trim_ascii_start().starts_with(word);
        (names.servers.is_empty() || !is("nameserver")) && (names.search.is_empty() || !is("search"))
    };
    let mut text: String = inherited.lines().filter(keeps).map(|line| format!("{line}\n")).text();
    if !names.search.is_empty() {
        text += &format!("search {}\n", names.search.join(" "));
    }
    for server in &names.servers {
        text += &format!("nameserver {server}\n");
    }
    text
}

/// The host's, as it is for a container with the host's network; otherwise with servers that the container can reach.
fn inherited_resolv_conf(reach: &Reach<'_>) -> String {
    let [first, second] = RESOLV_CONF;
    let text = file::read_text(CWD, first);
    if matches!(reach, Reach::Host) {
        return text;
    }
    let text = without_loopback(&text);
    if has_server(&text) {
        return text;
    }
    // Without a server anywhere, the first one's `search` and `options` still hold.
    let other = without_loopback(&file::read_text(CWD, second));
    if has_server(&other) { other } else { text }
}

/// Without the servers on the host's loopback: the container's is another.
fn without_loopback(text: &str) -> String {
    let is_reachable = |line: &&str| !server_of(line).is_some_and(|server| server.is_loopback());
    text.lines().filter(is_reachable).map(|line| format!("{line}\n")).text()
}

fn has_server(text: &str) -> bool {
    text.lines().any(|line| server_of(line).is_some())
}

fn server_of(line: &str) -> Option<IpAddr> {
    line.trim_ascii().strip_prefix("nameserver")?.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap_or(LOOPBACK)
    }

    #[test]
    fn hosts_has_the_addresses_that_are_known() {
        let (own, gateway) = ([address("10.77.0.7"), address("fd00::7")], Some(address("10.77.0.1")));
        for (reach, lines) in [
            (Reach::Loopback, "127.0.0.1\tweb\n127.0.0.1\thost\n"),
            (Reach::Linked(gateway), "10.77.0.1\thost\n"),
            (Reach::Linked(None), "127.0.0.1\thost\n"),
            (Reach::Joined(&own, gateway), "10.77.0.7\tweb\nfd00::7\tweb\n10.77.0.1\thost\n"),
            (Reach::Joined(&[], None), "127.0.0.1\tweb\n127.0.0.1\thost\n"),
        ] {
            let added = [Host { name: "host", address: None }, Host { name: "db", address: Some("192.0.2.7") }];
            assert_eq!(hosts(&reach, "web", &added), format!("{LOCALHOST}{lines}192.0.2.7\tdb\n"));
        }
    }

    #[test]
    fn options_replace_what_the_host_has_of_the_same_kind() {
        let inherited = "# a comment\nsearch lan\n nameserver 192.0.2.1\noptions ndots:2";
        let names = |servers: &[&'static str], search: &[&'static str]| Names {
            servers: servers.into(),
            search: search.into(),
            hosts: Vec::new(),
        };
        for (names, expected) in [
            (names(&[], &[]), "# a comment\nsearch lan\n nameserver 192.0.2.1\noptions ndots:2\n"),
            (
                names(&["192.0.2.53", "fd00::53"], &[]),
                "# a comment\nsearch lan\noptions ndots:2\nnameserver 192.0.2.53\nnameserver fd00::53\n",
            ),
            (
                names(&[], &["a.example", "b.example"]),
                "# a comment\n nameserver 192.0.2.1\noptions ndots:2\nsearch a.example b.example\n",
            ),
            (
                names(&["192.0.2.53"], &["a.example"]),
                "# a comment\noptions ndots:2\nsearch a.example\nnameserver 192.0.2.53\n",
            ),
        ] {
            assert_eq!(resolv_conf(inherited, &names), expected);
        }
        assert_eq!(resolv_conf("", &Names::default()), "");
    }

    #[test]
    fn servers_on_the_hosts_loopback_are_left_out() {
        for (text, expected, has_one) in [
            ("nameserver 127.0.0.53\noptions edns0\n", "options edns0\n", false),
            ("nameserver 127.0.0.53\nnameserver 192.0.2.1", "nameserver 192.0.2.1\n", true),
            ("nameserver ::1\n\tnameserver\t127.1.2.3\n", "", false),
            (
                "nameserver fe80::1%eth0\n#nameserver 127.0.0.1\n",
                "nameserver fe80::1%eth0\n#nameserver 127.0.0.1\n",
                false,
            ),
            ("", "", false),
        ] {
            let text = without_loopback(text);
            assert_eq!((&*text, has_server(&text)), (expected, has_one));
        }
    }
}
