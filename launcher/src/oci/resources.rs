//! The devices and limits of a config.json, and its cgroup: `linux.devices`, `linux.resources`, `linux.cgroupsPath`.
//!
//! Each limit becomes a line for a file of cgroup v2. Must not look at the hierarchy.

use super::{Read, in_container};
use crate::config::bundle::{Access, Bundle, BundleCgroup, Node as Device};
use crate::config::devices::{MKNOD, READ, WRITE, access_of};
use crate::config::limits::{Limit, Limits, PERIOD, io_weight};
use crate::config::weight::weight;
use crate::json::read::{self, Node};
use linux_raw_sys::general::{S_IFBLK, S_IFCHR, S_IFIFO};

/// Devices that every container has in its /dev, whatever its bundle says.
const DEFAULT_DEVICES: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/console"];

/// Reads limits from the JSON of `linux.resources`, for `update --resources`. Its devices are ignored: engines send
/// them with every update.
pub fn read_resources(bytes: &'static [u8]) -> Read<Vec<Limit>> {
    // The limits borrow from it, and live as long as the process.
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
        "p" => S_IFIFO,
        _ => return Err(node.get("type").expected("c, u, b or p")),
    };
    // The kernel has so many bits for it; MKDEV in include/linux/kdev_t.h.
    let device = |name, bits: u32| match node.get(name) {
        _ if kind == S_IFIFO => Ok(0),
        node => match node.number::<u32>()? {
            number if number >> bits == 0 => Ok(number),
            _ => Err(node.expected("the number of a device")),
        },
    };
    let number = |name, default| node.get(name).given().map_or(Ok(default), Node::number::<u32>);
    Ok(Device {
        path: in_container(node.get("path"))?,
        mode: kind | number("fileMode", 0o666)? & 0o7777,
        uid: number("uid", 0)?,
        gid: number("gid", 0)?,
        major: device("major", 12)?,
        minor: device("minor", 20)?,
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

/// Reads `linux.resources`, except its devices. Limits that only cgroup v1 has are ignored, as in runc: kernel memory,
/// swappiness, real-time scheduling, leaf weights, network classes and priorities.
pub fn limits(node: Node<'static>) -> Read<Vec<Limit>> {
    let mut limits = Limits::default();
    memory(node.get("memory"), &mut limits.found)?;
    cpu(node.get("cpu"), &mut limits.found)?;
    // No process could run with a limit of 0: engines use 0 for no limit.
    if let Some(most) = integer(node.get("pids").get("limit"))? {
        limits.found.push(line("pids.max", if most > 0 { most.to_string() } else { "max".into() }, most <= 0));
    }
    block_io(node.get("blockIO"), &mut limits.found)?;
    for limit in node.get("hugepageLimits").items()? {
        let size = limit.get("pageSize");
        if !size.text()?.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(size.expected("a size, for example 2MB"));
        }
        let most: u64 = limit.get("limit").number()?;
        for (name, if_known) in [("max", false), ("rsvd.max", true)] {
            let file = format!("hugetlb.{}.{name}", size.text()?).leak();
            limits.found.push(line(file, most.to_string(), if_known));
        }
    }
    for (device, most) in node.get("rdma").members()? {
        let mut value: String = device.into();
        for (member, key) in [("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")] {
            if let Some(most) = most.get(member).given() {
                value = format!("{value} {key}={}", most.number::<u32>()?);
            }
        }
        limits.found.push(line("rdma.max", value, false));
    }
    let cpu = node.get("cpu");
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

fn line(file: &'static str, value: String, if_known: bool) -> Limit {
    Limit { file, value: value.leak(), device: None, if_known }
}

fn integer(node: Node<'static>) -> Read<Option<i64>> {
    node.given().map(Node::number).transpose()
}

/// A number: -1 is no limit, and 0 is the same as a missing number.
fn limit(node: Node<'static>) -> Read<Option<String>> {
    let most = integer(node)?.filter(|most| *most != 0);
    Ok(most.map(|most| if most < 0 { "max".into() } else { most.to_string() }))
}

fn memory(node: Node<'static>, limits: &mut Vec<Limit>) -> Read<()> {
    let (max, swap) = (integer(node.get("limit"))?.unwrap_or(0), integer(node.get("swap"))?.unwrap_or(0));
    // The specification's swap is that of cgroup v1, which includes memory.
    let swap = match (max, swap) {
        (-1, 0) | (_, -1) => Some("max".into()),
        (_, 0) => None,
        (1.., _) if swap >= max => Some((swap - max).to_string()),
        _ => return Err(node.get("swap").expected("no less than a memory.limit")),
    };
    if let Some(value) = swap {
        // A kernel without swap lacks the file.
        let if_known = ["max", "0"].contains(&&*value);
        limits.push(line("memory.swap.max", value, if_known));
    }
    for (name, file) in [("limit", "memory.max"), ("reservation", "memory.low")] {
        limits.extend(limit(node.get(name))?.map(|value| line(file, value, false)));
    }
    Ok(())
}

fn cpu(node: Node<'static>, limits: &mut Vec<Limit>) -> Read<()> {
    limits.extend(integer(node.get("idle"))?.map(|idle| line("cpu.idle", idle.to_string(), false)));
    if let Some(shares) = integer(node.get("shares"))?.filter(|shares| *shares != 0) {
        let weight = weight(shares.clamp(2, 262_144) as u64);
        limits.push(line("cpu.weight", weight.to_string(), false));
    }
    let (quota, period) = (integer(node.get("quota"))?.unwrap_or(0), integer(node.get("period"))?.unwrap_or(0));
    if (quota, period) != (0, 0) {
        let quota = if quota > 0 { quota.to_string() } else { "max".into() };
        let period = if period == 0 { PERIOD as i64 } else { period };
        limits.push(line("cpu.max", format!("{quota} {period}"), false));
    }
    limits.extend(integer(node.get("burst"))?.map(|burst| line("cpu.max.burst", burst.to_string(), burst == 0)));
    Ok(())
}

fn block_io(node: Node<'static>, limits: &mut Vec<Limit>) -> Read<()> {
    let device = |node: Node<'static>| -> Read<String> {
        Ok(format!("{}:{} ", node.get("major").number::<u32>()?, node.get("minor").number::<u32>()?))
    };
    let mut weigh = |node: Node<'static>, device: String| -> Read<()> {
        match integer(node)?.unwrap_or(0) {
            0 => return Ok(()),
            weight @ 10..=1000 => {
                limits.push(line("io.bfq.weight", format!("{device}{weight}"), true));
                limits.push(line("io.weight", format!("{device}{}", io_weight(weight as u64)), false));
            }
            _ => return Err(node.expected("10 to 1000")),
        }
        Ok(())
    };
    weigh(node.get("weight"), String::new())?;
    for entry in node.get("weightDevice").items()? {
        weigh(entry.get("weight"), device(entry)?)?;
    }
    for (name, key) in [
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ] {
        for entry in node.get(name).items()? {
            let rate = match entry.get("rate").number::<u64>()? {
                0 => "max".into(),
                rate => rate.to_string(),
            };
            limits.push(line("io.max", format!("{}{key}={rate}", device(entry)?), false));
        }
    }
    Ok(())
}

/// Reads `linux.resources.devices`. The last rule that matches an access counts.
pub fn devices(node: Node<'static>, bundle: &mut Bundle) -> Read<()> {
    for rule in node.items()? {
        let allows = rule.get("allow").boolean()?;
        let is_block = match rule.get("type").given().map_or(Ok("a"), Node::text)? {
            "a" => None,
            "b" => Some(true),
            "c" | "u" => Some(false),
            _ => return Err(rule.get("type").expected("a, b, c or u")),
        };
        let letters = rule.get("access").given().map_or(Ok("rwm"), Node::text)?;
        let number = |name| -> Read<Option<u32>> {
            let number = integer(rule.get(name))?;
            Ok(number.and_then(|number| number.try_into().ok()))
        };
        let (major, minor) = (number("major")?, number("minor")?);
        let access = access_of(letters).ok_or_else(|| rule.get("access").expected("of r, w and m"))?;
        let rules = &mut bundle.access;
        if (is_block, major, minor, access) == (None, None, None, READ | WRITE | MKNOD) {
            // It overrides all rules before it.
            (rules.allows_others, rules.list) = (allows, Vec::new());
        } else {
            rules.list.push(Access { allows, is_block, major, minor, access });
        }
    }
    Ok(())
}
