//! Writes the Plan of a container: its options, and the mounts that every container has.
//!
//! Runs before the clone. Must not open anything of the rootfs, which the init resolves.

#[cfg(feature = "oci")]
mod bundle;
#[cfg(not(feature = "oci"))]
#[path = "plan/bundle/without.rs"]
mod bundle;

use crate::config::process::sysctl_path;
use crate::config::security::{Seccomp, Security};
use crate::config::volumes::Volume;
use crate::config::{Config, Overlay, Share};
use crate::error::Result;
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::resources::devices::Found;
use crate::resources::etc_files::EtcFile;
use crate::resources::userns::Maps;
use crate::spawn::clone;
use crate::spawn::defaults::*;
use crate::spawn::sources::Place;
use crate::spawn::trees::Tree;
use crate::text::c_string;
use kontena_init::filter;
use kontena_init::plan::{Device, File, List, Mount, OfBundle, Plan, ProcessSpec, mount_kind, overlay};
use linux_raw_sys::general::{CAP_MKNOD, MS_PRIVATE, MS_SLAVE};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, ftruncate};
use rustix::io::Errno;
use rustix::termios::Winsize;
use std::ffi::{CStr, CString};

/// Podman's and docker's defaults, unless `--sysctl` says otherwise: root may ping, which takes CAP_NET_RAW otherwise,
/// icmp(7), and everybody may bind ports below 1024, which takes CAP_NET_BIND_SERVICE otherwise, ip(7).
const NETWORK_DEFAULTS: [(&str, &str); 2] =
    [("sys/net/ipv4/ping_group_range=", "0 0"), ("sys/net/ipv4/ip_unprivileged_port_start=", "0")];

/// The socket of `--sdnotify`, as the payload finds it.
const NOTIFY_SOCKET: &CStr = c"/dev/notify";
const NOTIFY_VARIABLE: &CStr = c"NOTIFY_SOCKET=/dev/notify";

/// A mount, by the fd of it that init inherits, where there is one.
fn or_tree<'a>(trees: &'a [Tree], mount: Mount<'a>, place: Place) -> Mount<'a> {
    match trees.iter().find(|tree| tree.place == place) {
        Some(tree) => {
            let attributes = if tree.is_null { mount.attributes & !NODEV } else { mount.attributes };
            Mount { kind: tree.kind, fd: tree.number(), attributes, ..mount }
        }
        None => mount,
    }
}

/// `--notify-fd`.
#[derive(Clone, Copy)]
pub struct NotifyFd {
    /// The number of the fd that the init inherits.
    pub inherited: u32,
    /// The number under which the payload gets it.
    pub wanted: u32,
}

/// The parts of a Plan that are not in the Config.
#[derive(Default)]
pub struct Extras {
    /// Rows and columns of the caller's terminal.
    pub size: Option<Winsize>,
    /// An fd on which the payload says that it is ready.
    pub notify: Option<NotifyFd>,
    /// A socket of the host's for `--sdnotify`.
    pub notify_socket: Option<CString>,
    /// The variable of a watchdog that the payload answers by it.
    pub watchdog: Option<CString>,
    /// The number of the socket of `start`, which the init inherits, of a container that is handed over.
    pub start: u32,
}

/// The container's network, as far as its init has to do with it.
pub struct Network<'a> {
    /// Whether its network namespace is one of its own.
    pub is_own: bool,
    /// Whether it is the host's.
    pub is_hosts: bool,
    /// Whether it has a link, whose addresses the launcher adds to /etc/hosts.
    pub is_linked: bool,
    /// Whether nothing but `lo` is in it.
    pub is_loopback: bool,
    /// As [`Plan::settings`].
    pub settings: &'a [&'a CStr],
    /// /etc/hosts and its like.
    pub files: Vec<EtcFile>,
}

/// The parts of a Plan.
pub struct Inputs<'a> {
    pub config: &'a Config,
    pub network: Network<'a>,
    /// The mounts that the init inherits.
    pub trees: &'a [Tree],
    /// The host's devices.
    pub devices: &'a [Found],
    /// Those of its user namespace, where it has one.
    pub maps: Option<&'a Maps>,
    pub extras: &'a Extras,
}

/// Writes the Plan.
pub fn encode(inputs: &Inputs<'_>) -> Result<Vec<u8>> {
    if let Some(bundle) = &inputs.config.bundle {
        return bundle::encode(inputs, bundle);
    }
    let &Inputs { config, ref network, trees, maps, extras, .. } = inputs;
    let shm_size = c_string(format!("size={}", config.shm_size))?;
    let shm_options = [c"mode=1777", &shm_size];
    let clocks = clocks()?;
    let mut masked_sys = [&MASKED_SYS, &*borrow(&clocks)].concat();
    let mut proc = PROC;
    if !config.security.masks {
        masked_sys.clear();
        (proc.masked, proc.readonly) = (List::Items(&[]), List::Items(&[]));
    }
    let (sys, cgroup) = (sys_mount(inputs), cgroup_mount(config));
    let kept = if config.security.privileged { !RO } else { u64::MAX };
    let mounts = [
        Mount { options: List::Items(pts_options(maps)), ..PTS },
        or_tree(trees, Mount { options: List::Items(&shm_options), ..SHM }, Place::Shm),
        MQUEUE,
        Mount { masked: List::Items(&masked_sys), attributes: sys.attributes & kept, ..sys },
        Mount { attributes: cgroup.attributes & kept, ..cgroup },
    ];
    let volumes = volume_mounts(inputs);
    let devices: Vec<_> = inputs.devices.iter().map(device).list();
    let files: Vec<_> = network.files.iter().map(|file| etc_file(file, network.is_linked)).list();
    let settings = settings(inputs)?;
    let mut env = config.env.clone();
    env.extend(extras.notify_socket.as_ref().map(|_| NOTIFY_VARIABLE));
    env.extend(extras.watchdog.as_deref());
    env.extend(&config.activation);
    Ok(clone::encode(&Plan {
        root: or_tree(trees, bind(config.rootfs, c"/", root_attributes(inputs)), Place::Root),
        layer: layer(inputs),
        overlay: if config.overlay == Overlay::None { overlay::IF_NEEDED } else { overlay::ALWAYS },
        root_readonly: config.read_only.into(),
        propagation: propagation(config).into(),
        bundle: OfBundle::NONE,
        userns: maps.is_some().into(),
        loopback: network.is_loopback.into(),
        init: config.init.into(),
        hostname: if config.uts == Share::Private { config.hostname } else { c"" },
        dev: DEV,
        proc,
        mounts: List::Items(&mounts),
        volumes: List::Items(&volumes),
        devices: List::Items(&devices),
        files: List::Items(&files),
        settings: List::Items(&borrow(&settings)),
        process: ProcessSpec {
            groups: List::Items(&config.groups),
            argv: List::Items(&config.command),
            env: List::Items(&env),
            ..process(inputs)
        },
    }))
}

/// The payload, but for its lists of strings.
fn process<'a>(inputs: &Inputs<'a>) -> ProcessSpec<'a> {
    let &Inputs { config, maps, extras, .. } = inputs;
    // What the launcher itself may not do, in a container say, it cannot pass on, but in a namespace where it is root.
    let permitted = || rustix::thread::capabilities(None).map(|sets| sets.permitted.bits()).unwrap_or(0);
    let permitted = if maps.is_some() { u64::MAX } else { permitted() };
    let none = List::Items(&[]);
    ProcessSpec {
        terminal: config.life.tty.into(),
        rows: extras.size.map_or(config.console_size[0], |size| size.ws_row.into()),
        columns: extras.size.map_or(config.console_size[1], |size| size.ws_col.into()),
        notify: extras.notify.map_or(0, |notify| notify.inherited),
        notify_as: extras.notify.map_or(0, |notify| notify.wanted),
        preserved: config.preserve_fds,
        capabilities: config.capabilities.bounding & permitted,
        ambient: config.capabilities.ambient & permitted,
        no_new_privs: config.security.no_new_privileges.into(),
        seccomp: filter_of(config.security, maps.is_some()),
        filter_flags: config.filter.flags,
        filter: &config.filter.code,
        attributes: config.attributes,
        user: config.user,
        groups: none,
        rlimits: List::Items(&config.rlimits),
        umask: config.umask,
        cwd: config.workdir,
        argv: none,
        env: none,
    }
}

/// Nothing outside of the container's own /dev is a device; but nodes that it may make must be usable.
fn root_attributes(inputs: &Inputs<'_>) -> u64 {
    let makes_nodes = inputs.config.capabilities.bounding & 1 << CAP_MKNOD != 0 && inputs.maps.is_none();
    if makes_nodes { 0 } else { NODEV }
}

/// The layer of `--overlay`, or the one that a read-only root gets for its mountpoints.
fn layer<'a>(inputs: &Inputs<'a>) -> Mount<'a> {
    match &inputs.config.overlay {
        Overlay::Directory(directory) => or_tree(inputs.trees, bind(directory, c"/", 0), Place::Layer),
        Overlay::Memory | Overlay::None => Mount { attributes: 0, ..filesystem(c"tmpfs", c"/", &[c"mode=755"]) },
    }
}

/// All mounts are cut off from the host's, unless a volume follows them.
fn propagation(config: &Config) -> u32 {
    if config.volumes.iter().any(|volume| volume.propagation == MS_SLAVE) { MS_SLAVE } else { MS_PRIVATE }
}

fn pts_options(maps: Option<&Maps>) -> &'static [&'static CStr] {
    let has_tty = maps.is_none_or(|maps| maps.has_gid(5));
    if has_tty { &PTS_OPTIONS } else { PTS_OPTIONS.split_last().map_or(&[], |(_, others)| others) }
}

/// /sys, but for its masks: the one of another network namespace, the host's, or a new one.
fn sys_mount<'a>(inputs: &Inputs<'a>) -> Mount<'a> {
    let sys = if inputs.maps.is_some() && inputs.network.is_hosts {
        // A new sysfs takes the privileges over the network that it shows.
        Mount { id: SYS.id, ..bind(c"/sys", c"/sys", SYS.attributes) }
    } else {
        SYS
    };
    or_tree(inputs.trees, sys, Place::Sys)
}

/// The container's cgroups, which it may change if they are delegated to it.
fn cgroup_mount(config: &Config) -> Mount<'static> {
    Mount { attributes: if config.delegates_cgroup { CGROUP.attributes & !RO } else { CGROUP.attributes }, ..CGROUP }
}

/// The files of the host's clocks, below /sys.
fn clocks() -> Result<Vec<CString>> {
    let clocks = file::open(CWD, &format!("/sys/{CLOCKS}"), OFlags::DIRECTORY).and_then(file::names);
    let fifo = |clock| c_string(format!("{CLOCKS}/{clock}/fifo"));
    clocks.unwrap_or_default().into_iter().map(fifo).try_list()
}

/// The volumes, and the socket of `--sdnotify`.
fn volume_mounts<'a>(inputs: &Inputs<'a>) -> Vec<Mount<'a>> {
    let mut mounts = Vec::new();
    for (index, volume) in inputs.config.volumes.iter().enumerate() {
        let mount = Mount { id: FIRST_VOLUME_ID.wrapping_add(index as u16), ..volume_mount(volume) };
        mounts.push(or_tree(inputs.trees, mount, Place::Volume(index)));
    }
    if let Some(path) = &inputs.extras.notify_socket {
        let mount = Mount { id: NOTIFY_ID, ..bind(path, NOTIFY_SOCKET, 0) };
        mounts.push(or_tree(inputs.trees, mount, Place::Notify));
    }
    mounts
}

fn volume_mount(volume: &Volume) -> Mount<'_> {
    let (attributes, propagation) = (volume.attributes.into(), volume.propagation.into());
    if let Some(source) = &volume.source {
        return Mount { propagation, ..bind(source, volume.target, attributes) };
    }
    // docker's: unless an option says one of these, it looks like the directory that it covers.
    let is_said = |option: &&CStr| [b"mod", b"uid", b"gid"].iter().any(|name| option.to_bytes().starts_with(*name));
    let kind = if volume.options.iter().any(is_said) { mount_kind::TMPFS } else { mount_kind::TMPFS_LIKE_TARGET };
    Mount { kind, attributes, options: List::Items(&volume.options), ..filesystem(c"tmpfs", volume.target, &[]) }
}

fn device(Found { device, found }: &Found) -> Device<'_> {
    Device {
        source: device.source,
        target: device.target,
        mode: found.st_mode,
        uid: found.st_uid,
        gid: found.st_gid,
        major: rustix::fs::major(found.st_rdev as _),
        minor: rustix::fs::minor(found.st_rdev as _),
    }
}

fn etc_file(EtcFile { target, content }: &EtcFile, is_linked: bool) -> File<'_> {
    File { target, content, is_launchers: (is_linked && *target == c"/etc/hosts").into() }
}

/// The settings that the init writes below /proc.
fn settings(inputs: &Inputs<'_>) -> Result<Vec<CString>> {
    let (config, network) = (inputs.config, &inputs.network);
    let mut settings = Vec::new();
    for sysctl in &config.sysctls {
        let (key, value) = sysctl.split_once('=').unwrap_or((sysctl, ""));
        settings.push(c_string(format!("sys/{}={value}", sysctl_path(key)))?);
    }
    if let Some(score) = config.oom_score_adj {
        settings.push(c_string(format!("self/oom_score_adj={score}"))?);
    }
    let has_root = inputs.maps.is_none_or(|maps| maps.has_gid(0));
    let is_default = network.is_own && has_root && config.bundle.is_none();
    for (key, value) in NETWORK_DEFAULTS.into_iter().filter(|_| is_default) {
        if !settings.iter().any(|given| given.to_bytes().starts_with(key.as_bytes())) {
            settings.push(c_string([key, value].concat())?);
        }
    }
    settings.extend(network.settings.iter().map(|setting| CString::from(*setting)));
    Ok(settings)
}

/// The filters of a container; [`filter`].
pub fn filter_of(security: Security, has_userns: bool) -> u8 {
    // Root's user keyring is that of every uid 0 in the host's user namespace.
    let keys = if security.privileged || has_userns { filter::NONE } else { filter::KEYS };
    match security.seccomp {
        Seccomp::Default => filter::DEFAULT,
        Seccomp::Unconfined => keys,
        Seccomp::Profile(_) => filter::OWN | keys,
    }
}

/// Saves the Plan, for processes that join the container.
pub fn save(plan: &[u8], directory: &OwnedFd) -> rustix::io::Result<()> {
    // Over that of the last run: on a disk that is full now there would be no room for another.
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
    is_true(directory, |plan| plan.process.terminal == 1)
}

/// Whether PID 1 of the container of these files is its command.
pub fn is_command_pid1(directory: &OwnedFd) -> bool {
    is_true(directory, |plan| plan.init == 0)
}

fn is_true(directory: &OwnedFd, of: fn(&Plan<'_>) -> bool) -> bool {
    kontena_init::plan::decode(&read(directory).unwrap_or_default()).as_ref().is_some_and(of)
}

/// The file of a saved Plan.
const FILE: &str = "plan";

fn borrow(strings: &[CString]) -> Vec<&CStr> {
    strings.iter().map(CString::as_c_str).list()
}
