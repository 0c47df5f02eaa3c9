//! Attributes of a process that are in `process` and `linux` of a config.json, but have no option of kontena's:
//! scheduling, memory policy, labels.
//!
//! Must not set anything: the init does.

use super::{Read, c_text};
use crate::file::{self, CWD};
use crate::json::read::Node;
use crate::text::c_static;
use kontena_init::plan::Attributes;
use kontena_init::plan::attributes::NONE;
use std::ffi::CStr;

/// Policies of sched(7), by their numbers.
const POLICIES: [&str; 7] =
    ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
/// Flags of sched_setattr(2), a bit each, from the lowest.
const SCHEDULER_FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];
/// Classes of ioprio_set(2), from 1 on.
const CLASSES: [&str; 3] = ["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];
/// Modes of set_mempolicy(2), by their numbers.
const MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];
/// Their flags, from bit 13 on.
const MODE_FLAGS: [&str; 3] = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];
/// The most CPUs or nodes in a list: as many as rustix's CpuSet holds, and more than any kernel supports.
const MOST: usize = 1024;

/// Attributes that change nothing.
pub const UNCHANGED: Attributes<'static> = Attributes {
    scheduler: &[],
    io_priority: 0,
    cpus: &[],
    launchers_cpus: &[],
    personality: NONE,
    memory_mode: NONE,
    memory_nodes: &[],
    has_sets: 0,
    permitted: 0,
    effective: 0,
    inheritable: 0,
    label: c"",
};

/// Reads the attributes in `process`, except its capabilities.
pub fn of_process(node: Node<'static>) -> Read<Attributes<'static>> {
    let affinity = node.get("execCPUAffinity");
    Ok(Attributes {
        scheduler: node.get("scheduler").given().map_or(Ok(&[][..]), scheduler)?,
        io_priority: node.get("ioPriority").given().map_or(Ok(0), io_priority)?,
        cpus: list(affinity.get("final"))?,
        launchers_cpus: list(affinity.get("initial"))?,
        label: label(node)?,
        ..UNCHANGED
    })
}

/// Adds the attributes in `linux`.
pub fn of_linux(node: Node<'static>, to: &mut Attributes<'static>) -> Read<()> {
    if let Some(personality) = node.get("personality").given() {
        to.personality = match personality.get("domain").text()? {
            "LINUX" => 0,
            "LINUX32" => 8,
            _ => return Err(personality.get("domain").expected("LINUX or LINUX32")),
        };
        if personality.get("flags").items()?.next().is_some() {
            return Err(personality.get("flags").wrong("the specification has none yet: remove it"));
        }
    }
    if let Some(policy) = node.get("memoryPolicy").given() {
        to.memory_mode = place(policy.get("mode"), &MODES)? | flags(policy.get("flags"), &MODE_FLAGS)? << 13;
        to.memory_nodes = list(policy.get("nodes"))?;
    }
    Ok(())
}

/// struct sched_attr: its size, policy, flags, nice, priority, runtime, deadline, period.
fn scheduler(node: Node<'static>) -> Read<&'static [u8]> {
    let number = |name| node.get(name).given().map_or(Ok(0), Node::number::<i32>);
    let time = |name| node.get(name).given().map_or(Ok(0), Node::number::<u64>);
    let (policy, flags) = (place(node.get("policy"), &POLICIES)?, flags(node.get("flags"), &SCHEDULER_FLAGS)?);
    let words = [48, policy, flags, 0, number("nice")? as u32, number("priority")? as u32];
    let mut bytes = words.map(u32::to_le_bytes).concat();
    for name in ["runtime", "deadline", "period"] {
        bytes.extend(time(name)?.to_le_bytes());
    }
    Ok(bytes.leak())
}

fn io_priority(node: Node<'static>) -> Read<u32> {
    let priority = node.get("priority").given().map_or(Ok(0), Node::number::<u32>)?;
    if priority > 7 {
        return Err(node.get("priority").expected("a number up to 7"));
    }
    Ok((place(node.get("class"), &CLASSES)? + 1) << 13 | priority)
}

/// What the init writes to /proc for an AppArmor profile or an SELinux label. An error if the kernel lacks the module,
/// since an engine that sets a label relies on it.
fn label(node: Node<'static>) -> Read<&'static CStr> {
    let given = |name| node.get(name).given().filter(|label| label.text() != Ok(""));
    let (profile, label) = (given("apparmorProfile"), given("selinuxLabel"));
    let has_apparmor = || file::read_text(CWD, "/sys/module/apparmor/parameters/enabled").starts_with('Y');
    match (profile, label) {
        (None, None) => Ok(c""),
        (Some(profile), None) if has_apparmor() => {
            let directory = if file::read(CWD, "/proc/self/attr/apparmor/current").is_ok() { "apparmor/" } else { "" };
            let text = format!("self/attr/{directory}exec=exec {}", c_text(profile)?.to_string_lossy());
            c_static(text).map_err(|_| profile.expected("a profile"))
        }
        (Some(profile), None) if profile.text()? == "unconfined" => Ok(c""),
        (Some(profile), None) => Err(profile.wrong("this kernel has no AppArmor, or it is disabled: remove it")),
        (None, Some(label)) if has_selinux() => {
            let text = format!("self/attr/exec={}", c_text(label)?.to_string_lossy());
            c_static(text).map_err(|_| label.expected("a label"))
        }
        (None, Some(label)) => Err(label.wrong("this kernel has no SELinux, or it is disabled: remove it")),
        (Some(_), Some(label)) => Err(label.wrong("there is an apparmorProfile, too: remove one of them")),
    }
}

/// Whether SELinux is enabled: only then does the kernel have selinuxfs.
pub fn has_selinux() -> bool {
    file::read_text(CWD, "/proc/filesystems").contains("selinuxfs")
}

/// The index of a name in a list of known names.
fn place(node: Node<'static>, names: &[&str]) -> Read<u32> {
    let name = node.text()?;
    let place = names.iter().position(|known| *known == name);
    place.map(|place| place as u32).ok_or_else(|| node.expected(&names.join(", ")))
}

/// A bit for each name in a list.
fn flags(node: Node<'static>, names: &[&str]) -> Read<u32> {
    let mut bits = 0;
    for flag in node.items()? {
        bits |= 1 << place(flag, names)?;
    }
    Ok(bits)
}

/// A list of CPUs or nodes, `0-3,7`, a bit each; empty if it is missing.
fn list(node: Node<'static>) -> Read<&'static [u8]> {
    let text = node.given().map_or(Ok(""), Node::text)?;
    let mut bits = vec![0u8; MOST / 8];
    for range in text.split(',').map(str::trim_ascii).filter(|_| !text.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number < MOST && !text.starts_with('+'));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(node.expected("a list, for example 0-2,7"));
        };
        (first..=last).for_each(|number| bits[number / 8] |= 1 << (number % 8));
    }
    bits.truncate(bits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    if bits.is_empty() && !text.is_empty() { Err(node.expected("a list, for example 0-2,7")) } else { Ok(bits.leak()) }
}
