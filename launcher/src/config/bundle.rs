//! What the config.json of a bundle says of a container in place of kontena's own defaults; the OCI's runtime-spec.
//!
//! Data. `oci/` reads it; what kontena has an option for is in the [`Config`](super::Config) itself. Must not touch the
//! system.

use crate::config::userns::Idmap;
use kontena_init::plan::Hook;
use linux_raw_sys::general::{CLONE_NEWCGROUP, MOUNT_ATTR_RDONLY};
use std::ffi::CStr;

/// The part of a bundle's container that no option asks for.
pub struct Bundle {
    /// All mounts but the root, in their order.
    pub mounts: Vec<BundleMount>,
    /// Devices that it has beside those that every container has.
    pub nodes: Vec<Node>,
    /// Access to devices, beside those that every container may use.
    pub access: Rules,
    /// Paths in the container that it must not see.
    pub masked: Vec<&'static CStr>,
    /// Paths in the container that it must not change.
    pub readonly: Vec<&'static CStr>,
    /// What the host's mounts become in it: MS_PRIVATE or MS_SLAVE.
    pub propagation: u32,
    /// Whether its root follows the host's: MS_SLAVE; MS_PRIVATE otherwise.
    pub root: u32,
    /// MS_SHARED or MS_UNBINDABLE for its root when it is whole, with MS_REC for all mounts; or 0.
    pub last: u32,
    /// Its cgroup.
    pub cgroup: BundleCgroup,
    /// CLONE_NEW* of the namespaces that are the caller's.
    pub shared: u32,
    /// CLONE_NEW*, and the file of a namespace that it joins.
    pub joined: Vec<(u32, &'static CStr)>,
    /// If it has a time namespace of its own, its clocks: lines of /proc/PID/timens_offsets.
    pub clocks: Option<String>,
    /// `--console-socket`.
    pub console: Option<&'static str>,
    /// The path of `linux.seccomp.listenerPath`, and if there is `listenerMetadata`, a NUL and that; empty if no call
    /// is notified.
    pub listener: String,
    /// Whether kontena stays with it: `run` without `--detach`.
    pub stays: bool,
    /// `--keep`.
    pub keeps: bool,
    /// The members of its `state` that never change, as JSON.
    pub state: String,
    /// Its directory.
    pub directory: &'static CStr,
    /// The host's links that become its own.
    pub net_devices: Vec<NetDevice>,
    /// Its hooks, in the order of [`HOOKS`].
    pub hooks: [Vec<Hook<'static>>; 6],
}

/// The kinds of hooks, in the order in which they run; the OCI's runtime-spec, config.md, "POSIX-platform Hooks".
pub const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// Their places in there.
pub const CREATE_CONTAINER: usize = 2;
/// See [`CREATE_CONTAINER`].
pub const START_CONTAINER: usize = 3;
/// See [`CREATE_CONTAINER`].
pub const POSTSTART: usize = 4;
/// See [`CREATE_CONTAINER`].
pub const POSTSTOP: usize = 5;

/// One of `mounts`.
#[derive(Debug, PartialEq, Eq)]
pub struct BundleMount {
    /// A file or directory of the host; `None` for a new instance of a file system.
    pub source: Option<&'static CStr>,
    /// The file system's type.
    pub kind: &'static CStr,
    /// An absolute path in the container.
    pub target: &'static CStr,
    /// Its attributes.
    pub top: Change,
    /// The same, of all mounts below it, too.
    pub all: Change,
    /// Whether a bind takes the mounts below the source along.
    pub is_recursive: bool,
    /// Whether nothing is mounted, but what is there changed.
    pub is_remount: bool,
    /// MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, and MS_REC.
    pub propagation: u32,
    /// The owners of its files.
    pub idmap: Option<Idmap>,
    /// Whether a new tmpfs gets the contents of the directory that it covers.
    pub copies_up: bool,
    /// For the file system.
    pub options: Vec<&'static CStr>,
}

/// Attributes of a mount that change; MOUNT_ATTR_* of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Those that it gets.
    pub set: u32,
    /// Those that it loses, before it gets the others.
    pub cleared: u32,
}

/// One of `linux.netDevices`.
#[derive(Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// The link's name on the host.
    pub name: &'static str,
    /// Its name in the container, where `%d` stands for a number.
    pub inside: &'static str,
}

/// One of `linux.devices`; mknod(2).
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// An absolute path in the container.
    pub path: &'static CStr,
    /// Its type and permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its number.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
}

/// `linux.resources.devices`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Rules, of which the last one counts.
    pub list: Vec<Access>,
    /// Whether all is allowed that no rule is about.
    pub allows_others: bool,
}

/// One of its rules.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether the access is allowed; refused otherwise.
    pub allows: bool,
    /// Whether it is about block devices, or about character devices; `None` for both.
    pub is_block: Option<bool>,
    /// `None` for all.
    pub major: Option<u32>,
    /// `None` for all.
    pub minor: Option<u32>,
    /// [`super::devices::MKNOD`], [`super::devices::READ`], [`super::devices::WRITE`].
    pub access: u32,
}

/// `linux.cgroupsPath`.
#[derive(Debug, PartialEq, Eq)]
pub enum BundleCgroup {
    /// This one, below the mountpoint of the hierarchy; it begins with `/`.
    Path(&'static str),
    /// One of kontena's choice.
    Own,
    /// That of the caller: `--cgroup-manager disabled`.
    Callers,
}

impl Bundle {
    /// The binds: their places among the mounts, their sources, whether they are recursive, and their idmaps.
    pub fn binds(&self) -> impl Iterator<Item = (usize, &'static CStr, bool, Option<&Idmap>)> {
        { self.mounts.iter().enumerate() }.filter_map(|(index, mount)| {
            mount.source.map(|source| (index, source, mount.is_recursive, mount.idmap.as_ref()))
        })
    }

    /// Whether there are hooks of a create operation.
    pub fn has_create_hooks(&self) -> bool {
        self.hooks[..=CREATE_CONTAINER].iter().any(|hooks| !hooks.is_empty())
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &BundleCgroup {
        &self.cgroup
    }

    /// What it may do with devices.
    pub fn access(&self) -> &Rules {
        &self.access
    }

    /// Its devices.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Whether its root may change its cgroups: they are all that it sees, and mounted for writing.
    pub fn owns_cgroup(&self) -> bool {
        let is_writable = |mount: &BundleMount| {
            mount.source.is_none()
                && mount.kind == c"cgroup2"
                && (mount.top.set | mount.all.set) & MOUNT_ATTR_RDONLY == 0
        };
        self.shared() & CLONE_NEWCGROUP == 0 && self.mounts.iter().any(is_writable)
    }

    /// CLONE_NEW* of the namespaces that are not its own, beside the network.
    pub fn shared(&self) -> u32 {
        self.joined.iter().fold(self.shared, |flags, (flag, _)| flags | flag)
    }

    /// Whether kontena stays with it.
    pub fn stays(&self) -> bool {
        self.stays
    }
}
