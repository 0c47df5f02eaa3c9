//! The Plan: one flat, position-independent block that describes the container.
//!
//! The launcher writes it into a memfd; the init copies it from there once, and every string and list is a
//! slice of the block. The other way goes one [`Report`]: the step that failed, which of its objects, and the errno.
//!
//! `plan/wire.rs` has the layout in bytes, `plan/report.rs` the Report. Must not touch the kernel, allocate, or know
//! where either side lives.

pub mod attributes;
mod hooks;
pub mod mount_kind;
#[cfg(feature = "oci")]
mod of_bundle;
#[cfg(not(feature = "oci"))]
#[path = "plan/of_bundle/without.rs"]
mod of_bundle;
pub mod overlay;
mod report;
mod wire;

use core::ffi::CStr;

pub use attributes::Attributes;
pub use hooks::*;
pub use of_bundle::OfBundle;
pub use report::{Report, Step};
pub use wire::{Items, List, Wire, Writer, decode, encode};

/// The argument that makes the init read a Plan: `kontena-init --plan PLAN_FD STATUS_FD`.
pub const PLAN_ARGUMENT: &CStr = c"--plan";

/// The argument that makes it join a container: `kontena-init --join JOINING_FD STATUS_FD`.
pub const JOIN_ARGUMENT: &CStr = c"--join";

/// The argument that makes it make sockets of a container's network: `kontena-init --sockets JOINING_FD STATUS_FD`.
pub const SOCKETS_ARGUMENT: &CStr = c"--sockets";

wire::wire_structs! {
    /// The description of a container.
    pub struct Plan<'a> {
        /// What becomes `/`. A path is absolute, or from the working directory that init is given.
        pub root: Mount<'a>,
        /// The writable layer over the root, a directory or a file system, where there is one; see [`overlay`].
        pub layer: Mount<'a>,
        /// See [`overlay`].
        pub overlay: u8,
        /// 1 where `/` itself is mounted read-only (`--read-only`).
        pub root_readonly: u8,
        /// What the host's mounts become here before anything else: MS_PRIVATE, or MS_SLAVE where a volume is to follow
        /// them.
        pub propagation: u64,
        /// The part for containers of bundles.
        pub bundle: OfBundle<Bundled<'a>>,
        /// 1 in a user namespace of its own.
        pub userns: u8,
        /// 1 if the network is the container's own and has only `lo`, which the init sets up.
        pub loopback: u8,
        /// 1 if the init stays, as PID 1 beside the payload; 0 if it becomes the payload.
        pub init: u8,
        /// The UTS node name, sethostname(2); empty if the UTS namespace is the host's.
        pub hostname: &'a CStr,
        /// /dev, which comes first: masked paths are covered with its null device. Without a target it is made, but
        /// nobody sees it.
        pub dev: Mount<'a>,
        /// /proc, which has the most to be masked: the payload's process makes it while PID 1 makes the others. Without
        /// a target it is made for the settings, and nobody sees it.
        pub proc: Mount<'a>,
        /// All other mounts that every container has.
        pub mounts: List<'a, Mount<'a>>,
        /// The mounts of `-v` and its kin, in this order, on top of all those.
        pub volumes: List<'a, Mount<'a>>,
        /// Devices beside those that every container has.
        pub devices: List<'a, Device<'a>>,
        /// Files in memory, mounted over those of the root.
        pub files: List<'a, File<'a>>,
        /// What is written to files of /proc, by the payload's process: `PATH=TEXT`, the path below /proc. With `-`
        /// before it, it is written before anything else is done, and left out where there is no such file.
        pub settings: List<'a, &'a CStr>,
        /// The payload.
        pub process: ProcessSpec<'a>,
    }

    /// A process that joins a running container: `kontena exec`.
    pub struct Joining<'a> {
        /// An inherited fd: a pidfd of the container's PID 1.
        pub init: u32,
        /// An inherited fd: the socket to which the listener of its filter is sent, and then its terminal's master; 0
        /// if it gets neither.
        pub terminal: u32,
        /// CLONE_NEW*: the container's namespaces that the process joins; setns(2).
        pub namespaces: u64,
        /// 1 if it keeps running when the launcher that started it has exited; 2 if it also becomes the child of that
        /// launcher's subreaper, and its pid is reported: [`Step::Fork`] with index 1, and the pid for the errno.
        pub detached: u8,
        /// What it is.
        pub process: ProcessSpec<'a>,
    }

    /// A process of a container: its payload, or one that joins it.
    pub struct ProcessSpec<'a> {
        /// 1 where it gets a terminal of its own, which the launcher is sent the other end of; pty(7).
        pub terminal: u8,
        /// How that is sized from the first: rows, columns.
        pub rows: u32,
        /// See `rows`.
        pub columns: u32,
        /// An inherited fd that it gets under the number `notify_as`; 0 where there is none.
        pub notify: u32,
        /// See `notify`.
        pub notify_as: u32,
        /// So many fds, from 3 on, that it gets as they are inherited.
        pub preserved: u32,
        /// Bit n is capability n; the bounding set, and what a payload of uid 0 is permitted. capabilities(7).
        pub capabilities: u64,
        /// What a payload of another uid is permitted: its ambient set.
        pub ambient: u64,
        /// 1 where execve(2) gives nothing to anybody; prctl(2).
        pub no_new_privs: u8,
        /// See [`crate::filter`].
        pub seccomp: u8,
        /// SECCOMP_FILTER_FLAG_* of its own filter. With NEW_LISTENER, its listener is sent to the launcher.
        pub filter_flags: u32,
        /// Its own filter, if it has one: each struct sock_filter behind the other.
        pub filter: &'a [u8],
        /// Attributes that only a bundle can set.
        pub attributes: OfBundle<Attributes<'a>>,
        /// `NAME|UID[:GROUP|GID]`, resolved in the container's own files; empty for root.
        pub user: &'a CStr,
        /// Supplementary groups beside the user's own: names of the container's or numbers.
        pub groups: List<'a, &'a CStr>,
        /// setrlimit(2).
        pub rlimits: List<'a, Rlimit>,
        /// umask(2).
        pub umask: u32,
        /// Its working directory, in the container.
        pub cwd: &'a CStr,
        /// Its arguments, its name first; never empty.
        pub argv: List<'a, &'a CStr>,
        /// Its environment, `KEY=VALUE`. HOME is added from /etc/passwd where it is not in here.
        pub env: List<'a, &'a CStr>,
    }

    /// One mount, and what of it the payload must not see or change.
    pub struct Mount<'a> {
        /// Its number in a [`Report`]: no other mount of the Plan has it.
        pub id: u16,
        /// See [`mount_kind`].
        pub kind: u8,
        /// An inherited fd, for the kinds that have one; else 0.
        pub fd: u32,
        /// The file system's type; or as `kind` says.
        pub source: &'a CStr,
        /// Where it goes, as an absolute path in the container; made where it is missing.
        pub target: &'a CStr,
        /// `MOUNT_ATTR_*` of mount_setattr(2): of a bind, for all mounts in it.
        pub attributes: u64,
        /// MS_PRIVATE or MS_SLAVE for all mounts in a bind, or 0 to leave it; mount(2).
        pub propagation: u64,
        /// The part for mounts of bundles.
        pub changes: OfBundle<Changes>,
        /// For fsconfig(2): `key=value` or `flag`.
        pub options: List<'a, &'a CStr>,
        /// Paths in it, relative, covered by something empty; one that does not exist is passed over.
        pub masked: List<'a, &'a CStr>,
        /// Paths in it, relative, made read-only; one that does not exist is passed over.
        pub readonly: List<'a, &'a CStr>,
    }

    /// Further changes of the mounts in a bind, or of a new file system.
    #[derive(Default)]
    pub struct Changes {
        /// Attributes that all mounts in a bind lose, before they get those of the [`Mount`].
        pub cleared: u32,
        /// Attributes of the top mount of a bind alone.
        pub top: u32,
        /// Attributes that it loses before.
        pub top_cleared: u32,
        /// MS_SHARED for all mounts in a bind, or MS_UNBINDABLE for the top one, and with MS_REC for all, after the
        /// propagation of the [`Mount`]; 0 for neither.
        pub propagation: u32,
    }

    /// The part of a Plan that no option sets.
    #[derive(Default)]
    pub struct Bundled<'a> {
        /// An inherited fd: the socket on which `start` connects to a container that waits for it, and whose launcher
        /// does not stay; 0 if the container begins at once. See [`WHOLE`].
        pub start: u32,
        /// Mounts that come after the devices, since they must not be read-only before.
        pub last: List<'a, Mount<'a>>,
        /// Absolute paths in the container that are covered by something empty after all mounts have been made. Missing
        /// paths are skipped.
        pub masked: List<'a, &'a CStr>,
        /// The same, made read-only.
        pub readonly: List<'a, &'a CStr>,
        /// MS_* of mount(2), for `/` when it is the root, and with MS_REC for all mounts; 0 to leave them.
        pub propagation: u64,
        /// The launcher's own: the path of the socket on which the listener of the payload's filter is sent, and if
        /// there is one, a NUL and the metadata that go with it; empty if no call is notified.
        pub listener: &'a [u8],
        /// The createContainer hooks; with a state, there are hooks of a create operation, which the launcher runs
        /// before those, while the init waits. See [`WHOLE`].
        pub create_hooks: Hooks<'a>,
        /// The startContainer hooks.
        pub start_hooks: Hooks<'a>,
    }

    /// A device of the host's that the container has too; mknod(2).
    pub struct Device<'a> {
        /// Its path on the host, which is mounted where mknod(2) is not permitted.
        pub source: &'a CStr,
        /// Its path in the container.
        pub target: &'a CStr,
        /// Its type and permissions.
        pub mode: u32,
        /// Its owner.
        pub uid: u32,
        /// Its group.
        pub gid: u32,
        /// The device's number.
        pub major: u32,
        /// The other part of it.
        pub minor: u32,
    }

    /// A file that the container finds at a path, whatever its root has there.
    pub struct File<'a> {
        /// An absolute path in the container.
        pub target: &'a CStr,
        /// What is in it.
        pub content: &'a CStr,
        /// 1 where the launcher writes it when the network is ready; its fd comes with [`HOSTS`].
        pub is_launchers: u8,
    }

    /// A limit of the payload's process; getrlimit(2).
    #[derive(PartialEq, Eq)]
    pub struct Rlimit {
        /// RLIMIT_*.
        pub resource: u32,
        /// The limit that counts.
        pub soft: u64,
        /// How far it can be raised.
        pub hard: u64,
    }
}

/// The init's message that a terminal has been made, whose master comes with it; SCM_RIGHTS of unix(7).
pub const TERMINAL: u8 = 2;

/// The init's message with the fd of its /etc/hosts, which comes before that of a terminal.
pub const HOSTS: u8 = 3;

/// The init's message that the container is whole, and waits for `start`. The launcher answers with [`READY`] when it
/// has recorded that; without an answer, the init ends. Where there are hooks of a create operation, the same comes
/// when everything has been mounted and the root is still the host's, and is answered when the launcher's have run.
pub const WHOLE: u8 = 4;

/// The init's message with the listener of a filter that notifies calls, which comes after that with a terminal at a
/// start, and before it where a process joins.
pub const LISTENER: u8 = 5;

/// The launcher's message that the network is ready.
pub const READY: u8 = 1;

impl<'a> Mount<'a> {
    /// One without attributes, options and covered paths.
    pub const fn new(kind: u8, source: &'a CStr, target: &'a CStr) -> Self {
        Self {
            id: 0,
            kind,
            fd: 0,
            source,
            target,
            attributes: 0,
            propagation: 0,
            changes: OfBundle::NONE,
            options: List::Items(&[]),
            masked: List::Items(&[]),
            readonly: List::Items(&[]),
        }
    }
}

impl<'a> Plan<'a> {
    /// The mount that a [`Report`] calls `id`.
    pub fn mount(&self, id: u16) -> Option<Mount<'a>> {
        let is_it = |mount: &Mount<'_>| mount.id == id;
        let mut all = [self.dev, self.proc].into_iter().chain(self.mounts.iter()).chain(self.volumes.iter());
        all.find(is_it).or_else(|| self.bundle.get()?.last.iter().find(is_it))
    }

    /// Whether the container has a /dev of its own.
    pub fn has_dev(&self) -> bool {
        self.bundle.get().is_none() || !self.dev.target.is_empty()
    }

    /// Whether the container has a /proc.
    pub fn has_proc(&self) -> bool {
        self.bundle.get().is_none() || !self.proc.target.is_empty()
    }

    /// Whether there are hooks of a create operation.
    pub fn has_create_hooks(&self) -> bool {
        self.bundle.get().is_some_and(|bundle| !bundle.create_hooks.state.is_empty())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
