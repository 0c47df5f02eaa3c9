//! The mounts that every container has, as data, with the paths in them that it must not see or change.
//!
//! The defaults are podman's. Must not depend on what was asked for: `plan.rs` changes a copy where something does.

use kontena_init::plan::{List, Mount, mount_kind};
use linux_raw_sys::general::*;
use std::ffi::CStr;

pub const RO: u64 = MOUNT_ATTR_RDONLY as u64;
pub const NOSUID: u64 = MOUNT_ATTR_NOSUID as u64;
pub const NODEV: u64 = MOUNT_ATTR_NODEV as u64;
pub const NOEXEC: u64 = MOUNT_ATTR_NOEXEC as u64;
const STRICTATIME: u64 = MOUNT_ATTR_STRICTATIME as u64;

pub const DEV: Mount<'static> = Mount {
    id: 1,
    attributes: NOSUID | NOEXEC | STRICTATIME,
    ..filesystem(c"tmpfs", c"/dev", &[c"mode=755", c"size=65536k"])
};

pub const PROC: Mount<'static> = Mount {
    id: 2,
    masked: List::Items(&[
        c"acpi",
        c"interrupts",
        c"kcore",
        c"keys",
        c"latency_stats",
        c"sched_debug",
        c"scsi",
        c"timer_list",
        c"timer_stats",
    ]),
    readonly: List::Items(&[c"asound", c"bus", c"fs", c"irq", c"sys", c"sysrq-trigger"]),
    ..filesystem(c"proc", c"/proc", &[])
};

/// With nodev, nobody could open a terminal of it.
pub const PTS: Mount<'static> =
    Mount { id: 3, attributes: NOSUID | NOEXEC, ..filesystem(c"devpts", c"/dev/pts", &PTS_OPTIONS) };
/// The last one is for a user namespace that has the group tty; the kernel refuses it elsewhere.
pub const PTS_OPTIONS: [&CStr; 4] = [c"newinstance", c"ptmxmode=0666", c"mode=0620", c"gid=5"];

/// Its size is an option.
pub const SHM: Mount<'static> = Mount { id: 4, ..filesystem(c"tmpfs", c"/dev/shm", &[]) };

pub const MQUEUE: Mount<'static> =
    Mount { id: 5, kind: mount_kind::FILESYSTEM_IF_KNOWN, ..filesystem(c"mqueue", c"/dev/mqueue", &[]) };

pub const SYS: Mount<'static> =
    Mount { id: 6, attributes: RO | NOSUID | NODEV | NOEXEC, ..filesystem(c"sysfs", c"/sys", &[]) };
/// Of /sys: podman's, and a file that makes a device when it is read, hot_add.
pub const MASKED_SYS: [&CStr; 5] =
    [c"firmware", c"fs/selinux", c"dev/block", c"devices/virtual/powercap", c"class/zram-control"];
/// Of /sys: clocks, each of which has a file that takes an event out of the host's queue when it is read.
pub const CLOCKS: &str = "class/ptp";

pub const CGROUP: Mount<'static> =
    Mount { id: 7, attributes: RO | NOSUID | NODEV | NOEXEC, ..filesystem(c"cgroup2", c"/sys/fs/cgroup", &[]) };

/// The id of the socket of `--sdnotify`.
pub const NOTIFY_ID: u16 = 8;
/// The id of the first volume; those of the others follow.
pub const FIRST_VOLUME_ID: u16 = 9;

/// A new instance of a file system.
pub const fn filesystem<'a>(source: &'a CStr, target: &'a CStr, options: &'a [&'a CStr]) -> Mount<'a> {
    let plain = Mount::new(mount_kind::FILESYSTEM, source, target);
    Mount { attributes: NOSUID | NODEV | NOEXEC, options: List::Items(options), ..plain }
}

/// A file or directory of the host's, with the mounts below it.
pub const fn bind<'a>(source: &'a CStr, target: &'a CStr, attributes: u64) -> Mount<'a> {
    Mount { kind: mount_kind::BIND, attributes, propagation: MS_PRIVATE as u64, ..filesystem(source, target, &[]) }
}
