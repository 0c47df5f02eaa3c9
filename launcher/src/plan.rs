//! The Plan's making: what was asked for, and what every container gets without asking, as data.
//!
//! The defaults are podman's. Runs before the clone; must not open anything of the rootfs, which init resolves.

use crate::config::{Config, c_string};
use crate::error::{Context, Error, Result};
use kontena_init::plan::{List, Mount, Plan, mount_kind};
use linux_raw_sys::general::*;
use rustix::fs::{FileType, stat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

const RO: u64 = MOUNT_ATTR_RDONLY as u64;
const NOSUID: u64 = MOUNT_ATTR_NOSUID as u64;
const NODEV: u64 = MOUNT_ATTR_NODEV as u64;
const NOEXEC: u64 = MOUNT_ATTR_NOEXEC as u64;
const STRICTATIME: u64 = MOUNT_ATTR_STRICTATIME as u64;

/// What every container has. /dev comes first: what is masked is covered with its null.
const MOUNTS: [Mount<'static>; 6] = [
    Mount {
        attributes: NOSUID | NOEXEC | STRICTATIME,
        ..filesystem(c"tmpfs", c"/dev", &[c"mode=755", c"size=65536k"])
    },
    filesystem(c"devpts", c"/dev/pts", &[c"newinstance", c"ptmxmode=0666", c"mode=0620", c"gid=5"]),
    filesystem(c"tmpfs", c"/dev/shm", &[c"mode=1777", c"size=65536k"]),
    Mount { kind: mount_kind::FILESYSTEM_IF_KNOWN, ..filesystem(c"mqueue", c"/dev/mqueue", &[]) },
    Mount {
        attributes: RO | NOSUID | NODEV | NOEXEC,
        masked: List::Items(&[c"firmware", c"fs/selinux", c"dev/block", c"devices/virtual/powercap"]),
        ..filesystem(c"sysfs", c"/sys", &[])
    },
    Mount { attributes: RO | NOSUID | NODEV | NOEXEC, ..filesystem(c"cgroup2", c"/sys/fs/cgroup", &[]) },
];

const PROC: [Mount<'static>; 1] = [Mount {
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
}];

const fn filesystem(source: &'static CStr, target: &'static CStr, options: &'static [&'static CStr]) -> Mount<'static> {
    Mount {
        kind: mount_kind::FILESYSTEM,
        source,
        target,
        attributes: NOSUID | NODEV | NOEXEC,
        options: List::Items(options),
        masked: List::Items(&[]),
        readonly: List::Items(&[]),
    }
}

/// Podman's default capabilities; containers.conf(5), capabilities(7).
const CAPABILITIES: [u32; 11] = [
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

/// Writes the Plan down.
pub fn encode(config: &Config, signal_mask: u64) -> Result<Vec<u8>> {
    check(config)?;
    // What follows the last slash makes init follow a symbolic link there, as stat(2) did.
    let root = c_string([config.rootfs.to_bytes(), b"/."].concat())?;
    let options: Vec<_> = config.volumes.iter().map(|volume| borrow(&volume.options)).collect();
    let volumes = config.volumes.iter().zip(&options).map(|(volume, options)| Mount {
        kind: if volume.source.is_some() { mount_kind::BIND } else { mount_kind::FILESYSTEM },
        source: volume.source.as_deref().unwrap_or(c"tmpfs"),
        target: &volume.target,
        attributes: volume.attributes.into(),
        options: List::Items(options),
        masked: List::Items(&[]),
        readonly: List::Items(&[]),
    });
    let volumes: Vec<Mount<'_>> = volumes.collect();
    let permitted = rustix::thread::capabilities(None).map(|sets| sets.permitted.bits()).unwrap_or(0);
    let plan = Plan {
        root: &root,
        root_readonly: config.read_only.into(),
        hostname: &config.hostname,
        mounts: List::Items(&MOUNTS),
        proc: List::Items(&PROC),
        volumes: List::Items(&volumes),
        // What the launcher itself may not do, in a container say, it cannot pass on.
        capabilities: CAPABILITIES.iter().fold(0, |set, number| set | 1 << number) & permitted,
        user: &config.user,
        cwd: &config.workdir,
        argv: List::Items(&borrow(&config.command)),
        env: List::Items(&borrow(&config.env)),
        signal_mask,
    };
    let mut bytes = Vec::with_capacity(4096);
    plan.encode(&mut bytes);
    Ok(bytes)
}

/// Whether what the container takes from the host is there; init finds it by the same paths, in the same directory.
fn check(config: &Config) -> Result<()> {
    let what = config.rootfs.to_string_lossy();
    let found = stat(&*config.rootfs).context(
        format_args!("rootfs {what}"),
        "give a directory with the container's files, as one unpacked from an image",
    )?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        let hint = "give a directory with the container's files, not a file";
        return Err(Error::new(format_args!("rootfs {what}"), Errno::NOTDIR, hint));
    }
    for volume in &config.volumes {
        if let Some(source) = &volume.source {
            stat(&**source).context(
                format_args!("--volume {}:{}", source.to_string_lossy(), volume.target.to_string_lossy()),
                "the source must be a file or directory of the host: make it first",
            )?;
        }
    }
    Ok(())
}

/// Where the `index`th mount of the Plan goes, as a report counts them.
pub fn mount_target(config: &Config, index: u16) -> &CStr {
    let ours = MOUNTS.iter().chain(&PROC).map(|mount| mount.target);
    ours.chain(config.volumes.iter().map(|volume| &*volume.target)).nth(index.into()).unwrap_or_default()
}

fn borrow(strings: &[CString]) -> Vec<&CStr> {
    strings.iter().map(CString::as_c_str).collect()
}
