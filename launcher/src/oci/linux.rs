//! `linux` of a config.json, and what of it decides about the rest: namespaces, devices, limits, covered paths.

use super::{Read, c_text, in_container, refuse};
use crate::config::bundle::{Access, Bundle, BundleCgroup, Node as Device};
use crate::config::devices::{MKNOD, READ, WRITE};
use crate::config::limits::Limits;
use crate::config::network::Net;
use crate::config::process;
use crate::config::seccomp::{self, Conditions};
use crate::config::security::Seccomp;
use crate::config::userns::{Range, Userns};
use crate::config::{Config, Share};
use crate::json::read::Node;
use linux_raw_sys::general::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWUTS, MS_PRIVATE, MS_SLAVE, S_IFBLK, S_IFCHR};
use rustix::fs::{Stat, stat};
use std::ffi::CStr;

/// What every container has in its /dev, whatever its bundle says.
const DEFAULT_DEVICES: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/console"];

/// Reads it, where the rest has been read.
pub fn read(root: Node<'static>, config: &mut Config, bundle: &mut Bundle) -> Read<()> {
    let node = root.get("linux");
    let not_done = ["intelRdt", "netDevices", "memoryPolicy", "personality", "timeOffsets", "mountLabel"];
    refuse(node, &not_done)?;
    namespaces(node, config, bundle)?;
    for (key, value) in node.get("sysctl").members()? {
        sysctl(value, key, value.text()?, config)?;
    }
    if let Some(name) = root.get("domainname").given() {
        sysctl(name, "kernel.domainname", name.text()?, config)?;
    }
    if let Some(setting) = callers_setting(config, bundle) {
        let hint = format!("{setting} would be the caller's: give the container a namespace of its own for it");
        return Err(node.get("sysctl").wrong(&hint));
    }
    for (name, paths) in [("maskedPaths", &mut bundle.masked), ("readonlyPaths", &mut bundle.readonly)] {
        for path in node.get(name).items()? {
            let covered = in_container(path)?;
            if ![b"/proc/" as &[u8], b"/sys/"].iter().any(|top| covered.to_bytes().starts_with(top)) {
                return Err(path.wrong("kontena only covers paths of /proc and /sys"));
            }
            paths.push(covered);
        }
    }
    for device in node.get("devices").items()? {
        let made = read_device(device)?;
        if !DEFAULT_DEVICES.iter().any(|known| made.path.to_bytes() == known.as_bytes()) {
            bundle.nodes.push(made);
        }
    }
    let propagation = node.get("rootfsPropagation");
    bundle.propagation = match propagation.given().map_or(Ok(""), Node::text)? {
        "" | "private" | "rprivate" => MS_PRIVATE,
        "slave" | "rslave" => MS_SLAVE,
        _ => return Err(propagation.wrong("no mount of a container reaches the host: use rslave or rprivate")),
    };
    if bundle.mounts.iter().any(|mount| mount.propagation == MS_SLAVE) {
        bundle.propagation = MS_SLAVE;
    }
    if let Some(profile) = node.get("seccomp").given() {
        let system = rustix::system::uname();
        let kernel = system.release().to_str().unwrap_or_default();
        config.filter = seccomp::profile(profile, &Conditions { capabilities: config.capabilities.bounding, kernel })?;
        config.security.seccomp = Seccomp::Profile("");
    }
    cgroup(node.get("cgroupsPath"), bundle)?;
    resources(node.get("resources"), config, bundle)
}

fn namespaces(node: Node<'static>, config: &mut Config, bundle: &mut Bundle) -> Read<()> {
    config.net = Some(Net::Host);
    config.userns = Some(Userns::Host);
    config.uts = Share::Host;
    bundle.shared = CLONE_NEWIPC | CLONE_NEWCGROUP;
    let (mut has_mounts, mut has_pids) = (false, false);
    for namespace in node.get("namespaces").items()? {
        let (kind, path) = (namespace.get("type"), namespace.get("path"));
        let path = path.given().filter(|path| path.text() != Ok("")).map(c_text).transpose()?;
        match (kind.text()?, path) {
            ("mount", None) => has_mounts = true,
            ("pid", None) => has_pids = true,
            ("network", None) => config.net = Some(Net::None),
            ("network", Some(path)) => config.net = Some(Net::Namespace(path)),
            ("uts", None) => config.uts = Share::Private,
            ("uts", Some(path)) => bundle.joined.push((CLONE_NEWUTS, path)),
            ("ipc", None) => bundle.shared &= !CLONE_NEWIPC,
            ("ipc", Some(path)) => bundle.joined.push((CLONE_NEWIPC, path)),
            ("cgroup", None) => bundle.shared &= !CLONE_NEWCGROUP,
            ("cgroup", Some(path)) => bundle.joined.push((CLONE_NEWCGROUP, path)),
            ("user", None) => {
                let maps = (ranges(node.get("uidMappings"))?, ranges(node.get("gidMappings"))?);
                config.userns = Some(Userns::Maps(maps.0, maps.1));
            }
            ("mount" | "pid" | "user" | "time", _) => {
                return Err(namespace.wrong("kontena cannot join or make this one"));
            }
            _ => return Err(kind.expected("pid, network, ipc, uts, mount, cgroup or user")),
        }
    }
    if !has_mounts || !has_pids {
        let what = "kontena needs a new pid and a new mount namespace: add them";
        return Err(node.get("namespaces").wrong(what));
    }
    for maps in [node.get("uidMappings"), node.get("gidMappings")] {
        if config.userns == Some(Userns::Host) && maps.items()?.next().is_some() {
            return Err(maps.wrong("it needs a user namespace: add it to linux.namespaces"));
        }
    }
    Ok(())
}

/// A setting that is in a namespace which the container shares with the caller.
fn callers_setting(config: &Config, bundle: &Bundle) -> Option<&'static str> {
    let joins = |flag, kind| bundle.joined.iter().any(|(of, path)| *of == flag && !is_callers(path, kind));
    let has_net = match &config.net {
        Some(Net::Namespace(path)) => !is_callers(path, "net"),
        net => net.as_ref().is_some_and(Net::is_own),
    };
    let has_uts = config.uts == Share::Private || joins(CLONE_NEWUTS, "uts");
    let has_ipc = bundle.shared & CLONE_NEWIPC == 0 || joins(CLONE_NEWIPC, "ipc");
    let is_callers = |setting: &&&str| match &*process::sysctl_path(setting) {
        path if path.starts_with("net") => !has_net,
        path if path.starts_with("kernel/domainname") => !has_uts,
        _ => !has_ipc,
    };
    config.sysctls.iter().find(is_callers).copied()
}

/// Whether a path leads to the namespace that this process is in.
fn is_callers(path: &CStr, kind: &str) -> bool {
    let number = |found: Stat| (found.st_dev, found.st_ino);
    let own = stat(&*format!("/proc/self/ns/{kind}")).map(number);
    stat(path).map(number) == own || own.is_err()
}

fn ranges(node: Node<'static>) -> Read<Vec<Range>> {
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
    if ranges.is_empty() { Err(node.expected("a map of the new user namespace")) } else { Ok(ranges) }
}

fn sysctl(node: Node<'static>, key: &str, value: &str, config: &mut Config) -> Read<()> {
    let text: &'static str = format!("{key}={value}").leak();
    config.sysctls.push(process::sysctl(text).map_err(|hint| node.wrong(hint))?);
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

fn cgroup(node: Node<'static>, bundle: &mut Bundle) -> Read<()> {
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

fn resources(node: Node<'static>, config: &mut Config, bundle: &mut Bundle) -> Read<()> {
    refuse(node, &["hugepageLimits", "network", "rdma"])?;
    devices(node.get("devices"), bundle)?;
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
    config.limits = limits.found;
    Ok(())
}

/// Rules about devices, the last of which counts: all are refused, and then some allowed.
fn devices(node: Node<'static>, bundle: &mut Bundle) -> Read<()> {
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
