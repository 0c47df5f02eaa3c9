//! `linux.namespaces` of a config.json: which namespaces are new, which the container shares with the caller, and which
//! it joins; the maps of a user namespace, and the offsets of a time namespace.
//!
//! Must not open a namespace: `container/joined.rs` does.

use super::{Read, c_text};
use crate::config::bundle::Bundle;
use crate::config::network::Net;
use crate::config::userns::{Range, Userns};
use crate::config::{Config, Share};
use crate::json::read::Node;
use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
};

/// The types of namespaces.
const TYPES: [(&str, u32); 8] = [
    ("mount", CLONE_NEWNS),
    ("pid", CLONE_NEWPID),
    ("network", CLONE_NEWNET),
    ("uts", CLONE_NEWUTS),
    ("ipc", CLONE_NEWIPC),
    ("cgroup", CLONE_NEWCGROUP),
    ("user", CLONE_NEWUSER),
    ("time", CLONE_NEWTIME),
];

/// Reads the namespaces from `node`, which is `linux`.
pub fn read(node: Node<'static>, config: &mut Config, bundle: &mut Bundle) -> Read<()> {
    let (mut new, mut seen) = (0, 0);
    config.net = Some(Net::Host);
    for namespace in node.get("namespaces").items()? {
        let (kind, path) = (namespace.get("type"), namespace.get("path"));
        let name = kind.text()?;
        let Some((_, flag)) = TYPES.iter().find(|(known, _)| *known == name) else {
            return Err(kind.expected("pid, network, ipc, uts, mount, cgroup, user or time"));
        };
        if seen & flag != 0 {
            return Err(namespace.wrong("there is one of this type already: remove it"));
        }
        seen |= flag;
        match path.given().filter(|path| path.text() != Ok("")).map(c_text).transpose()? {
            None => new |= flag,
            Some(path) if *flag == CLONE_NEWNET => config.net = Some(Net::Namespace(path)),
            Some(path) => bundle.joined.push((*flag, path)),
        }
    }
    let has = |all: u32, flag: u32| all & flag != 0;
    if !has(seen, CLONE_NEWNS) {
        let hint = "without one of its own, its mounts and its root would be the caller's: add a mount namespace";
        return Err(node.get("namespaces").wrong(hint));
    }
    if has(new, CLONE_NEWNET) {
        config.net = Some(Net::None);
    }
    config.uts = if has(new, CLONE_NEWUTS) { Share::Private } else { Share::Host };
    config.userns = Some(match (has(new, CLONE_NEWUSER), has(seen, CLONE_NEWUSER)) {
        (true, _) => Userns::Maps(ranges(node.get("uidMappings"))?, ranges(node.get("gidMappings"))?),
        // It has maps already; some engines repeat them, or invent maps.
        (_, true) => Userns::Joined,
        _ => Userns::Host,
    });
    for maps in [node.get("uidMappings"), node.get("gidMappings")] {
        if !has(seen, CLONE_NEWUSER) && maps.items()?.next().is_some() {
            return Err(maps.wrong("it needs a user namespace: add it to linux.namespaces"));
        }
    }
    bundle.shared = (CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWPID) & !seen;
    bundle.clocks = if has(new, CLONE_NEWTIME) { Some(clocks(node.get("timeOffsets"))?) } else { None };
    if bundle.clocks.is_none() && node.get("timeOffsets").members()?.next().is_some() {
        return Err(node.get("timeOffsets").wrong("it needs a new time namespace: add it to linux.namespaces"));
    }
    Ok(())
}

/// Reads ranges of ids, at least one.
pub fn ranges(node: Node<'static>) -> Read<Vec<Range>> {
    let mut ranges = Vec::new();
    for map in node.items()? {
        let range = Range {
            container: map.get("containerID").number()?,
            host: map.get("hostID").number()?,
            size: map.get("size").number()?,
        };
        if [range.container, range.host].iter().any(|first| first.checked_add(range.size).is_none()) {
            return Err(map.expected("ids of 32 bits"));
        }
        ranges.push(range);
    }
    if ranges.is_empty() { Err(node.expected("a map of ids")) } else { Ok(ranges) }
}

/// Returns the lines for /proc/PID/timens_offsets; time_namespaces(7).
fn clocks(node: Node<'static>) -> Read<String> {
    let mut lines = String::new();
    for (name, offset) in node.members()? {
        offset.members().map(drop)?;
        let number = |name| offset.get(name).given().map_or(Ok(0), Node::number::<i64>);
        let (seconds, nanoseconds) = (number("secs")?, number("nanosecs")?);
        if !["monotonic", "boottime"].contains(&name) || !(0..1_000_000_000).contains(&nanoseconds) {
            return Err(offset.expected("monotonic or boottime, with secs, and nanosecs below 1000000000"));
        }
        lines.push_str(&format!("{name} {seconds} {nanoseconds}\n"));
    }
    Ok(lines)
}
