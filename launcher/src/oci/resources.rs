//! The devices and limits of a config.json, and its cgroup: `linux.devices`, `linux.resources`, `linux.cgroupsPath`.
//!
//! A limit becomes a line of a file of cgroup v2. Must not look at the hierarchy.

use super::{Read, in_container, refuse};
use crate::config::bundle::{Access, Bundle, BundleCgroup, Node as Device};
use crate::config::devices::{MKNOD, READ, WRITE};
use crate::config::limits::{Limit, Limits};
use crate::json::read::{self, Node};
use linux_raw_sys::general::{S_IFBLK, S_IFCHR};

/// What every container has in its /dev, whatever its bundle says.
const DEFAULT_DEVICES: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/console"];

/// Reads the limits of a text that is `linux.resources` alone, as `update --resources` gets it. Its devices are left
/// out: engines send them with every update.
#[cfg_attr(not(test), expect(dead_code, reason = "update does not call it yet"))]
pub fn read_resources(bytes: &'static [u8]) -> Read<Vec<Limit>> {
    // It stays as long as the process, as what is read from it does.
    limits(Node::root(Box::leak(Box::new(read::parse(bytes)?))))
}

/// Reads `linux.devices`.
pub fn nodes(node: Node<'static>, bundle: &mut Bundle) -> Read<()> {
    for device in node.items()? {
        let made = read_device(device)?;
        if !DEFAULT_DEVICES.iter().any(|known| made.path.to_bytes() == known.as_bytes()) {
            bundle.nodes.push(made);
        }
    }
    Ok(())
}

fn read_device(node: Node<'static>) -> Read<Device> {
    let kind = match node.get("type").text()? {
        "c" | "u" => S_IFCHR,
        "b" => S_IFBLK,
        _ => return Err(node.get("type").expected("c, u or b")),
    };
    let number = |name, default| node.get(name).given().map_or(Ok(default), Node::number::<u32>);
    Ok(Device {
        path: in_container(node.get("path"))?,
        mode: kind | number("fileMode", 0o666)? & 0o7777,
        uid: number("uid", 0)?,
        gid: number("gid", 0)?,
        major: node.get("major").number()?,
        minor: node.get("minor").number()?,
    })
}

/// Reads `linux.cgroupsPath`.
pub fn cgroup(node: Node<'static>, bundle: &mut Bundle) -> Read<()> {
    let path: &'static str = match node.given().map_or(Ok(""), Node::text)? {
        "" => return Ok(()),
        path if path.contains(':') => {
            return Err(node.wrong("kontena does not ask systemd for cgroups: use the cgroupfs driver of the engine"));
        }
        path if path.starts_with('/') => path,
        path => format!("/kontena/{path}").leak(),
    };
    let is_path = !path.contains(char::is_control) && path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
    bundle.cgroup = BundleCgroup::Path(path);
    if is_path { Ok(()) } else { Err(node.expected("a path of cgroups")) }
}

/// Reads `linux.resources`, but for its devices.
pub fn limits(node: Node<'static>) -> Read<Vec<Limit>> {
    refuse(node, &["hugepageLimits", "network", "rdma"])?;
    let mut limits = Limits::default();
    let (memory, cpu) = (node.get("memory"), node.get("cpu"));
    refuse(memory, &["swappiness", "kernel", "kernelTCP"])?;
    refuse(cpu, &["realtimeRuntime", "realtimePeriod", "burst", "idle"])?;
    refuse(node.get("blockIO"), &["leafWeight", "weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice"])?;
    refuse(node.get("blockIO"), &["throttleReadIOPSDevice", "throttleWriteIOPSDevice"])?;
    type Set = fn(&mut Limits, &str) -> Option<()>;
    // In the order in which they go together.
    let numbers: [(Node<'static>, Set); 8] = [
        (memory.get("limit"), |limits, text| if text == "-1" { Some(()) } else { limits.memory(text) }),
        (memory.get("swap"), |limits, text| limits.memory_swap(text).or((text == "-1").then_some(()))),
        (memory.get("reservation"), Limits::memory_reservation),
        (cpu.get("quota"), |limits, text| limits.cpu_quota(if text == "0" { "-1" } else { text })),
        (cpu.get("period"), |limits, text| if text == "0" { Some(()) } else { limits.cpu_period(text) }),
        (cpu.get("shares"), |limits, text| if text == "0" { Some(()) } else { limits.cpu_shares(text) }),
        (node.get("pids").get("limit"), Limits::pids),
        (node.get("blockIO").get("weight"), |limits, text| if text == "0" { Some(()) } else { limits.io_weight(text) }),
    ];
    for (value, set) in numbers {
        if let Some(value) = value.given() {
            let text = value.number::<i64>()?.to_string();
            set(&mut limits, &text).ok_or_else(|| value.wrong("the kernel has no such limit"))?;
        }
    }
    for (list, file) in [(cpu.get("cpus"), "cpuset.cpus"), (cpu.get("mems"), "cpuset.mems")] {
        let text = list.given().map_or(Ok(""), Node::text)?;
        if !text.is_empty() {
            limits.list(file, text).ok_or_else(|| list.expected("a list, for example 0-2,7"))?;
        }
    }
    for (file, value) in node.get("unified").members()? {
        let text: &'static str = format!("{file}={}", value.text()?).leak();
        limits.conf(text).ok_or_else(|| value.wrong("not a file of the container's cgroup"))?;
    }
    Ok(limits.found)
}

/// Reads `linux.resources.devices`: rules, the last of which counts: all are refused, and then some allowed.
pub fn devices(node: Node<'static>, bundle: &mut Bundle) -> Read<()> {
    for rule in node.items()? {
        let is_allowed = rule.get("allow").boolean()?;
        let kind = rule.get("type").given().map_or(Ok("a"), Node::text)?;
        let letters = rule.get("access").given().map_or(Ok("rwm"), Node::text)?;
        let number = |name| -> Read<Option<u32>> {
            let number = rule.get(name).given().map(Node::number::<i64>).transpose()?;
            Ok(number.and_then(|number| number.try_into().ok()))
        };
        let (major, minor) = (number("major")?, number("minor")?);
        let mut access = 0;
        for letter in letters.chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => return Err(rule.get("access").expected("of r, w and m")),
            };
        }
        let is_all = kind == "a" && major.is_none() && minor.is_none() && access == READ | WRITE | MKNOD;
        match &mut bundle.access {
            _ if is_all => bundle.access = if is_allowed { None } else { Some(Vec::new()) },
            // It is allowed already.
            None if is_allowed => {}
            Some(all) if is_allowed => {
                for is_block in [false, true].into_iter().filter(|block| kind == "a" || (kind == "b") == *block) {
                    all.push(Access { is_block, major, minor, access });
                }
            }
            _ => return Err(rule.wrong("kontena only refuses all devices, before it allows some")),
        }
    }
    Ok(())
}
