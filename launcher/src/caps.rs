//! Capabilities by their names: which of them a container has; capabilities(7).
//!
//! Must not change any of this process's.

use crate::config::wrong;
use crate::error::Result;
use linux_raw_sys::general::*;

/// In the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const ALL: u64 = (1 << NAMES.len()) - 1;

/// Podman's default; containers.conf(5).
const DEFAULT: [u32; 11] = [
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_KILL,
    CAP_NET_BIND_SERVICE,
    CAP_SETFCAP,
    CAP_SETGID,
    CAP_SETPCAP,
    CAP_SETUID,
    CAP_SYS_CHROOT,
];

/// What was asked for. Bit n is capability n.
#[derive(Clone, Copy)]
pub struct Capabilities {
    /// The bounding set, and what a payload of uid 0 has.
    pub bounding: u64,
    /// What was added by name: a payload of another uid has that alone.
    pub ambient: u64,
}

/// `--cap-add` and `--cap-drop` of a container.
pub fn parse(add: &[String], drop: &[String]) -> Result<Capabilities> {
    let default = DEFAULT.iter().fold(0, |set, number| set | 1 << number);
    let (bounding, ambient) = change((default, 0), add, drop)?;
    Ok(Capabilities { bounding, ambient })
}

/// The bounding and the ambient set, changed: what is dropped by its name is dropped, and what is added by its name stays
/// whatever ALL says. A process that joins a container may have what that has not.
pub fn change((mut bounding, mut ambient): (u64, u64), add: &[String], drop: &[String]) -> Result<(u64, u64)> {
    let (mut added, mut dropped) = (0, 0);
    for text in drop {
        match set("--cap-drop", text)? {
            ALL => (bounding, ambient) = (0, 0),
            set => dropped |= set,
        }
    }
    for text in add {
        match set("--cap-add", text)? {
            ALL => bounding = ALL,
            set => added |= set,
        }
    }
    Ok(((bounding | added) & !dropped, (ambient | added) & !dropped))
}

/// The names of a set.
pub fn names(set: u64) -> impl Iterator<Item = &'static str> {
    NAMES.iter().enumerate().filter(move |(number, _)| set & 1 << number != 0).map(|(_, name)| *name)
}

/// `CAP_NAME`, `NAME` or `ALL`, in whatever case.
fn set(option: &str, text: &str) -> Result<u64> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    match NAMES.iter().position(|known| *known == name) {
        Some(number) => Ok(1 << number),
        None if name == "ALL" => Ok(ALL),
        None => Err(wrong(option, text, "not a capability: give a name of capabilities(7), as NET_RAW, or ALL")),
    }
}
