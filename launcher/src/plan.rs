//! The Plan's making: what was asked for, and what every container gets without asking, as data.
//!
//! The defaults are podman's. Runs before the clone; must not open anything of the rootfs, which init resolves.

use crate::config::{Config, c_string};
use crate::error::{Context, Error, Result};
use crate::net::Network;
use crate::userns::Maps;
use crate::{file, names, ready, start};
use kontena_init::plan::{Device, File, List, Mount, Plan, Process, mount_kind, overlay};
use linux_raw_sys::general::*;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags, ftruncate, stat};
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
    // With nodev, nobody could open a terminal of it.
    Mount {
        attributes: NOSUID | NOEXEC,
        ..filesystem(c"devpts", c"/dev/pts", &[c"newinstance", c"ptmxmode=0666", c"mode=0620", c"gid=5"])
    },
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

const fn filesystem<'a>(source: &'a CStr, target: &'a CStr, options: &'a [&'a CStr]) -> Mount<'a> {
    Mount {
        kind: mount_kind::FILESYSTEM,
        source,
        target,
        attributes: NOSUID | NODEV | NOEXEC,
        propagation: 0,
        options: List::Items(options),
        masked: List::Items(&[]),
        readonly: List::Items(&[]),
    }
}

/// Lets root ping, which takes CAP_NET_RAW otherwise: icmp(7). Podman's default, unless a sysctl says otherwise.
const PING: &CStr = c"sys/net/ipv4/ping_group_range=0 0";

/// Where in [`MOUNTS`] something depends on what was asked for.
const PTS: usize = 1;
const SHM: usize = 2;
const SYS: usize = 4;

/// Which of the container's mounts is one that init inherits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its root.
    Root,
    /// A volume, by its index.
    Volume(usize),
    /// /sys.
    Sys,
    /// The socket of `--sdnotify`.
    Notify,
}

/// A mount that init inherits.
pub struct Tree {
    /// Which it is.
    pub place: Place,
    /// The fd's number, as init has it.
    pub fd: CString,
}

fn bind<'a>(source: &'a CStr, target: &'a CStr, attributes: u64) -> Mount<'a> {
    let propagation = MS_PRIVATE.into();
    Mount { kind: mount_kind::BIND, attributes, propagation, ..filesystem(source, target, &[]) }
}

/// What the Plan has of this launcher, and not of the Config.
#[derive(Default)]
pub struct Extras {
    /// Rows and columns of the caller's terminal.
    pub size: Option<(u16, u16)>,
    /// The number of an fd that the payload inherits, and under which.
    pub notify: Option<(CString, u32)>,
    /// A socket of the host's for `--sdnotify`.
    pub notify_socket: Option<CString>,
}

/// Writes the Plan down.
pub fn encode(
    config: &Config,
    net: &Network<'_>,
    trees: &[Tree],
    maps: Option<&Maps>,
    signal_mask: u64,
    extras: &Extras,
) -> Result<Vec<u8>> {
    // What follows the last slash makes init follow a symbolic link there, as stat(2) did.
    let root = c_string([config.rootfs.to_bytes(), b"/."].concat())?;
    let tree = |place| trees.iter().find(|tree| tree.place == place).map(|tree| &*tree.fd);
    let or_tree = |mount, place| match tree(place) {
        Some(fd) => Mount { kind: mount_kind::TREE, source: fd, ..mount },
        None => mount,
    };

    let mut mounts = MOUNTS;
    // Of a user namespace that lacks the group tty, the kernel does not take it.
    let pts_options = [c"newinstance", c"ptmxmode=0666", c"mode=0620", c"gid=5"];
    mounts[PTS].options = List::Items(&pts_options[..3 + usize::from(maps.is_none_or(|maps| maps.has_gid(5)))]);
    let shm_size = c_string(format!("size={}", config.shm_size))?;
    let shm_options = [c"mode=1777", &shm_size];
    mounts[SHM].options = List::Items(&shm_options);
    if maps.is_some() && matches!(net, Network::Host) {
        // A new sysfs takes the privileges over the network that it shows.
        mounts[SYS] = Mount { masked: mounts[SYS].masked, ..bind(c"/sys", c"/sys", mounts[SYS].attributes) };
    }
    mounts[SYS] = or_tree(mounts[SYS], Place::Sys);

    let options: Vec<_> = config.volumes.iter().map(|volume| borrow(&volume.options)).collect();
    let volumes = config.volumes.iter().zip(&options).enumerate().map(|(index, (volume, options))| {
        let attributes = volume.attributes.into();
        match &volume.source {
            Some(source) => {
                let mount =
                    Mount { propagation: volume.propagation.into(), ..bind(source, &volume.target, attributes) };
                or_tree(mount, Place::Volume(index))
            }
            None => Mount { attributes, options: List::Items(options), ..filesystem(c"tmpfs", &volume.target, &[]) },
        }
    });
    let notify_socket = extras.notify_socket.as_ref();
    let notify_socket = notify_socket.map(|path| or_tree(bind(path, ready::SOCKET_INSIDE, 0), Place::Notify));
    let volumes: Vec<Mount<'_>> = volumes.chain(notify_socket).collect();
    let follows = config.volumes.iter().any(|volume| volume.propagation == MS_SLAVE);

    let mut devices = Vec::new();
    for device in &config.devices {
        let found = device.find()?;
        devices.push(Device {
            source: &device.source,
            target: &device.target,
            mode: found.st_mode,
            uid: found.st_uid,
            gid: found.st_gid,
            major: rustix::fs::major(found.st_rdev as _),
            minor: rustix::fs::minor(found.st_rdev as _),
        });
    }
    let mut settings = Vec::new();
    for sysctl in &config.sysctls {
        let (key, value) = sysctl.split_once('=').unwrap_or((sysctl, ""));
        settings.push(c_string(format!("sys/{}={value}", key.replace('.', "/")))?);
    }
    if let Some(score) = config.oom_score_adj {
        settings.push(c_string(format!("self/oom_score_adj={score}"))?);
    }
    let is_given =
        config.sysctls.iter().any(|sysctl| sysctl.split(['.', '/']).any(|part| part.starts_with("ping_group_range")));
    if net.is_own() && !is_given && maps.is_none_or(|maps| maps.has_gid(0)) {
        settings.push(PING.into());
    }
    settings.extend(net.settings(config).iter().map(|setting| CString::from(*setting)));
    let names = names::files(config, net);
    let files: Vec<_> = names.iter().map(|(target, content)| File { target, content }).collect();

    let mut env = borrow(&config.env);
    env.extend(extras.notify_socket.as_ref().map(|_| NOTIFY_SOCKET));
    // What the launcher itself may not do, in a container say, it cannot pass on, but in a namespace where it is root.
    let permitted = || rustix::thread::capabilities(None).map(|sets| sets.permitted.bits()).unwrap_or(0);
    let permitted = if maps.is_some() { u64::MAX } else { permitted() };
    let plan = Plan {
        root: or_tree(bind(&root, c"/", 0), Place::Root),
        layer: match &config.overlay {
            Some(Some(directory)) => bind(directory, c"/", 0),
            _ => Mount { attributes: 0, ..filesystem(c"tmpfs", c"/", &[c"mode=755"]) },
        },
        overlay: if config.overlay.is_some() { overlay::ALWAYS } else { overlay::IF_NEEDED },
        root_readonly: config.read_only.into(),
        propagation: if follows { MS_SLAVE } else { MS_PRIVATE }.into(),
        userns: maps.is_some().into(),
        loopback: matches!(net, Network::None).into(),
        hostname: &config.hostname,
        mounts: List::Items(&mounts),
        proc: List::Items(&PROC),
        volumes: List::Items(&volumes),
        devices: List::Items(&devices),
        files: List::Items(&files),
        settings: List::Items(&borrow(&settings)),
        process: Process {
            terminal: config.life.tty.into(),
            rows: extras.size.map_or(0, |(rows, _)| rows.into()),
            columns: extras.size.map_or(0, |(_, columns)| columns.into()),
            notify: extras.notify.as_ref().map_or(c"", |(number, _)| number),
            notify_as: extras.notify.as_ref().map_or(0, |(_, number)| *number),
            capabilities: config.capabilities.bounding & permitted,
            ambient: config.capabilities.ambient & permitted,
            no_new_privs: config.no_new_privileges.into(),
            seccomp: config.seccomp.into(),
            user: &config.user,
            groups: List::Items(&borrow(&config.groups)),
            rlimits: List::Items(&config.rlimits),
            umask: config.umask,
            cwd: &config.workdir,
            argv: List::Items(&borrow(&config.command)),
            env: List::Items(&env),
            signal_mask,
        },
    };
    Ok(start::encode(&plan))
}

/// Keeps the Plan, for those who join the container.
pub fn save(plan: &[u8], directory: &OwnedFd) -> rustix::io::Result<()> {
    // Over that of the last life: on a disk that is full now there would be no room for another.
    let file = file::open(directory, FILE, OFlags::WRONLY | OFlags::CREATE)?;
    let written = rustix::io::write(&file, plan)?;
    ftruncate(&file, written as u64)?;
    if written == plan.len() { Ok(()) } else { Err(Errno::NOSPC) }
}

/// The Plan of a container, by the directory of its files.
pub fn read(directory: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    file::read(directory, FILE)
}

/// Whether the container of these files has a terminal.
pub fn has_terminal(directory: &OwnedFd) -> bool {
    let bytes = read(directory).unwrap_or_default();
    kontena_init::plan::decode::<Plan<'_>>(&bytes).is_some_and(|plan| plan.process.terminal == 1)
}

/// The file that it is kept in.
const FILE: &str = "plan";
/// What --sdnotify tells the payload.
const NOTIFY_SOCKET: &CStr = c"NOTIFY_SOCKET=/dev/notify";

/// Whether the volumes that the container takes from the host are there; init finds them by the same paths, in the same
/// directory.
pub fn check(config: &Config) -> Result<()> {
    for volume in &config.volumes {
        if let Some(source) = &volume.source {
            stat(&**source).context(
                format_args!("--volume {}:{}", source.to_string_lossy(), volume.target.to_string_lossy()),
                "the source must be a file or directory of the host: make it first",
            )?;
        }
    }
    if let Some(Some(directory)) = &config.overlay {
        let hint = "the layer must be a directory of the host: make it first";
        let what = format_args!("--overlay {}", directory.to_string_lossy());
        let found = stat(&**directory).context(what, hint)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Err(Error::new(what, Errno::NOTDIR, hint));
        }
    }
    Ok(())
}

fn borrow(strings: &[CString]) -> Vec<&CStr> {
    strings.iter().map(CString::as_c_str).collect()
}
