//! The Plan's making: what was asked for, and what every container gets without asking, as data.
//!
//! The defaults are podman's. Runs before the clone; must not open anything of the rootfs, which init resolves.

use crate::config::{Config, Volume};
use crate::error::{Context, Error, Result};
use kontena_init::plan::{List, Mount, Plan, mount_kind};
use linux_raw_sys::general::*;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

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

/// The Plan of a container, encoded, and what its mounts are called in messages.
pub struct Encoded {
    /// For the memfd.
    pub bytes: Vec<u8>,
    /// The mounts' targets, in the order of the Plan.
    pub targets: Vec<String>,
}

/// Writes the Plan down.
pub fn encode(config: &Config, signal_mask: u64) -> Result<Encoded> {
    let root = std::fs::canonicalize(&config.rootfs).context(
        || format!("rootfs {}", config.rootfs.display()),
        "give a directory with the container's files, as one unpacked from an image",
    )?;
    if !root.is_dir() {
        return Err(Error::new(
            format!("rootfs {}", root.display()),
            rustix::io::Errno::NOTDIR,
            "give a directory with the container's files, not a file",
        ));
    }
    let root = c_string(root.as_os_str())?;
    let hostname = c_string(config.hostname.as_ref())?;
    let user = c_string(config.user.as_ref())?;
    let cwd = c_string(config.workdir.as_ref())?;
    let argv = config.command.iter().map(|argument| c_string(argument)).collect::<Result<Vec<_>>>()?;
    let env = config.env.iter().map(|variable| c_string(variable.as_ref())).collect::<Result<Vec<_>>>()?;
    let volumes = config.volumes.iter().map(OwnedVolume::new).collect::<Result<Vec<_>>>()?;
    let options: Vec<Vec<&CStr>> = volumes.iter().map(|volume| borrow(&volume.options)).collect();

    let mounts = volumes.iter().zip(&options).map(|(volume, options)| Mount {
        kind: volume.kind,
        source: &volume.source,
        target: &volume.target,
        attributes: volume.attributes,
        options: List::Items(options),
        masked: List::Items(&[]),
        readonly: List::Items(&[]),
    });
    let volumes: Vec<Mount<'_>> = mounts.collect();
    let permitted = rustix::thread::capabilities(None).map(|sets| sets.permitted.bits()).unwrap_or(0);
    let plan = Plan {
        root: &root,
        root_readonly: config.read_only.into(),
        hostname: &hostname,
        mounts: List::Items(&MOUNTS),
        proc: List::Items(&PROC),
        volumes: List::Items(&volumes),
        // What the launcher itself may not do, in a container say, it cannot pass on.
        capabilities: CAPABILITIES.iter().fold(0, |set, number| set | 1 << number) & permitted,
        user: &user,
        cwd: &cwd,
        argv: List::Items(&borrow(&argv)),
        env: List::Items(&borrow(&env)),
        signal_mask,
    };
    let mut bytes = Vec::with_capacity(4096);
    plan.encode(&mut bytes);
    let targets = plan.all_mounts().map(|mount| mount.target.to_string_lossy().into_owned()).collect();
    Ok(Encoded { bytes, targets })
}

/// A volume as the Plan has it.
struct OwnedVolume {
    kind: u8,
    source: CString,
    target: CString,
    attributes: u64,
    options: Vec<CString>,
}

impl OwnedVolume {
    fn new(volume: &Volume) -> Result<Self> {
        let (kind, source) = match &volume.source {
            Some(source) => {
                let path = Path::new(source).canonicalize().context(
                    || format!("--volume {source}:{}", volume.target),
                    "the source must be a file or directory of the host: make it first",
                )?;
                (mount_kind::BIND, c_string(path.as_os_str())?)
            }
            None => (mount_kind::FILESYSTEM, c"tmpfs".into()),
        };
        let attributes = volume.flags.iter().fold(0, |set, flag| match *flag {
            "ro" => set | RO,
            "nosuid" => set | NOSUID,
            "nodev" => set | NODEV,
            _ => set | NOEXEC,
        });
        let options = volume.options.iter().map(|option| c_string(option.as_ref())).collect::<Result<_>>()?;
        Ok(Self { kind, source, target: c_string(volume.target.as_ref())?, attributes, options })
    }
}

fn borrow(strings: &[CString]) -> Vec<&CStr> {
    strings.iter().map(CString::as_c_str).collect()
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.to_os_string().into_vec())
        .map_err(|_| Error::usage(format!("{:?}", text.as_bytes()), "a NUL byte cannot be passed on: leave it out"))
}
