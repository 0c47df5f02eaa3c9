//! Others' firewalls: whether one drops what goes through the host unless it is told otherwise, as docker, ufw and
//! firewalld have it, and the line that tells it. A packet must get through all of them, whatever kontena's own tables
//! say.
//!
//! Runs when a bridge is made, and never else. Must not change anything.

use crate::config::bridge::Bridge;
use crate::file::{self, CWD};
use crate::net::netlink::{Batch, Protocol, Socket, attribute};
use crate::net::nft::uapi::*;
use crate::sys;
use crate::text::replace;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

/// What tells a firewall to let the packets of the link % through, where @ is the chain and its table; by the family
/// and the table of the chain that drops them, and what the name of a chain in that table begins with.
const REMEDIES: [(Option<u8>, &str, &str, &str); 5] = [
    (None, "firewalld", "", "firewall-cmd --zone=trusted --add-interface=%"),
    (None, "filter", "ufw", "ufw route allow in on % && ufw route allow out on %"),
    (
        Some(NFPROTO_IPV4),
        "filter",
        "FORWARD",
        "iptables -I FORWARD -i % -j ACCEPT && iptables -I FORWARD -o % -j ACCEPT",
    ),
    (
        Some(NFPROTO_IPV6),
        "filter",
        "FORWARD",
        "ip6tables -I FORWARD -i % -j ACCEPT && ip6tables -I FORWARD -o % -j ACCEPT",
    ),
    (None, "", "", "nft 'insert rule @ iifname % accept; insert rule @ oifname % accept'"),
];

/// A chain of somebody else's that packets go through on their way through the host.
struct Chain {
    family: u8,
    table: String,
    name: String,
}

/// A line for each firewall that keeps the bridge's packets from the host's other links, and does not know the bridge.
pub fn warn(bridge: &Bridge) {
    let name = &*bridge.name;
    let warn = |what: &str, remedy: &str| {
        let remedy = replace(remedy, '%', name);
        crate::print::print(
            2,
            &format!("kontena: warning: {what} drops forwarded packets, so {name} is cut off: {remedy}\n"),
        );
    };
    if let Ok(socket) = Socket::open(Protocol::Netfilter) {
        let (chains, dropping) = chains(&socket);
        for Chain { family, table, name: chain } in &dropping {
            if mentions(&socket, *family, table, name) {
                continue;
            }
            let has = |first: &str| {
                chains.iter().any(|one| one.family == *family && one.table == *table && one.name.starts_with(first))
            };
            let fits = |(of, within, first, _): &&(Option<u8>, &str, &str, &str)| {
                of.is_none_or(|of| of == *family) && (within.is_empty() || within == table) && has(first)
            };
            let Some((.., remedy)) = REMEDIES.iter().find(fits) else { continue };
            let kind = match *family {
                NFPROTO_IPV4 => "ip",
                NFPROTO_IPV6 => "ip6",
                _ => "inet",
            };
            let remedy = replace(remedy, '@', &format!("{kind} {table} {chain}"));
            warn(&format!("chain {chain} of table {kind} {table}"), &remedy);
        }
    }
    for legacy in &LEGACY {
        if legacy.drops(name) == Some(true) {
            let command = legacy.command;
            let remedy = format!("{command} -I FORWARD -i % -j ACCEPT && {command} -I FORWARD -o % -j ACCEPT");
            warn(&format!("chain FORWARD of {command}"), &remedy);
        }
    }
}

/// All chains of others, and those of them that drop what is forwarded.
fn chains(socket: &Socket) -> (Vec<Chain>, Vec<Chain>) {
    let (mut all, mut dropping) = (Vec::new(), Vec::new());
    list(socket, NFT_MSG_GETCHAIN, 0, "", &mut |message| {
        let attributes = message.get(4..).unwrap_or_default();
        let text = |kind| {
            let bytes = attribute(attributes, kind)?;
            String::from_utf8(bytes.strip_suffix(&[0])?.to_vec()).ok()
        };
        let number =
            |attributes, kind| attribute(attributes, kind)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let (Some(&family), Some(table), Some(name)) = (message.first(), text(NFTA_CHAIN_TABLE), text(NFTA_CHAIN_NAME))
        else {
            return;
        };
        let hook = attribute(attributes, NFTA_CHAIN_HOOK).and_then(|hook| number(hook, NFTA_HOOK_HOOKNUM));
        let is_ip = matches!(family, NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET);
        // firewalld's chain ends with a rule that rejects.
        let drops = number(attributes, NFTA_CHAIN_POLICY) == Some(NF_DROP) || table == "firewalld";
        if is_ip && drops && hook == Some(NF_INET_FORWARD) {
            dropping.push(Chain { family, table: table.clone(), name: name.clone() });
        }
        all.push(Chain { family, table, name });
    });
    (all, dropping)
}

/// Whether a rule of the table is about the link.
fn mentions(socket: &Socket, family: u8, table: &str, link: &str) -> bool {
    let mut found = false;
    list(socket, NFT_MSG_GETRULE, family, table, &mut |rule| found |= has_name(rule, link));
    found
}

/// A link's name as it stands in rules: with the end of it.
fn has_name(bytes: &[u8], link: &str) -> bool {
    let name = [link.as_bytes(), &[0]].concat();
    bytes.windows(name.len()).any(|window| window == name)
}

fn list(socket: &Socket, kind: u16, family: u8, table: &str, each: &mut dyn FnMut(&[u8])) {
    let mut batch = Batch::new();
    batch.request(format_args!(""), NFNL_SUBSYS_NFTABLES << 8 | kind, linux_raw_sys::netlink::NLM_F_DUMP, |m| {
        m.raw(&[family, 0, 0, 0]);
        if !table.is_empty() {
            m.text(NFTA_RULE_TABLE, table);
        }
    });
    socket.dump(batch, each);
}

/// The tables of iptables from before nf_tables, of one family; linux/netfilter_ipv4/ip_tables.h, ip6_tables.h.
struct Legacy {
    command: &'static str,
    /// The names of the tables that there are. To ask for one that is not makes the kernel make it.
    names: &'static str,
    family: AddressFamily,
    level: u32,
    /// Where in struct ipt_entry the offset of its target is: behind the match of addresses and links.
    target: usize,
}

static LEGACY: [Legacy; 2] = [
    Legacy {
        command: "iptables-legacy",
        names: "/proc/net/ip_tables_names",
        family: AddressFamily::INET,
        level: 0,
        target: 88,
    },
    Legacy {
        command: "ip6tables-legacy",
        names: "/proc/net/ip6_tables_names",
        family: AddressFamily::INET6,
        level: 41,
        target: 140,
    },
];

impl Legacy {
    /// Whether what is forwarded is dropped at the end of the chain FORWARD, and no rule is about the link.
    fn drops(&self, link: &str) -> Option<bool> {
        // struct ipt_getinfo: the table's name, its hooks, where each of five begins and ends with its policy, and how
        // many entries there are in how many bytes.
        const INFO: usize = 84;
        const UNDERFLOW_FORWARD: usize = 32 + 4 + 4 * 5 + 4 * NF_INET_FORWARD as usize;
        const SIZE: usize = 80;
        // struct ipt_get_entries: the name and the size again, and the entries.
        const ENTRIES: usize = 40;
        // struct xt_entry_target, which a verdict follows.
        const TARGET: usize = 32;
        if !file::read_text(CWD, self.names).lines().any(|name| name == "filter") {
            return None;
        }
        let socket = socket_with(self.family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW)).ok()?;
        let mut info = vec![0; INFO];
        info[..6].copy_from_slice(b"filter");
        sys::look_at_iptables(&socket, self.level, sys::IPT_SO_GET_INFO, &mut info).ok()?;
        let number = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let (underflow, size) = (number(&info, UNDERFLOW_FORWARD)? as usize, number(&info, SIZE)?);
        let mut entries = vec![0; ENTRIES + size as usize];
        entries[..6].copy_from_slice(b"filter");
        entries[32..36].copy_from_slice(&size.to_ne_bytes());
        sys::look_at_iptables(&socket, self.level, sys::IPT_SO_GET_ENTRIES, &mut entries).ok()?;
        let policy = entries.get(ENTRIES + underflow..)?;
        let target = usize::from(u16::from_ne_bytes(*policy.get(self.target..)?.first_chunk()?));
        // A verdict is negative, and one less than NF_DROP.
        let verdict = number(policy, target + TARGET)? as i32;
        Some(verdict == -(NF_DROP as i32) - 1 && !has_name(&entries, link))
    }
}
