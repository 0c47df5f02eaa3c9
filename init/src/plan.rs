//! The Plan: one flat, position-independent block that says what the container is to be.
//!
//! The launcher writes it into a memfd; the init copies it from there once, and every string and list is a
//! slice of the block. The other way goes one [`Report`]: the step that failed, which of its objects, and the errno.
//!
//! This file must not touch the kernel, allocate, or know where either side lives.

use core::ffi::CStr;

/// Opens every Plan; changes with the format, so that a launcher and an init of different builds never misread each
/// other.
const MAGIC: u32 = u32::from_le_bytes(*b"kp02");

/// The argument that makes the init read a Plan: `kontena-init --plan PLAN_FD STATUS_FD`.
pub const PLAN_ARGUMENT: &CStr = c"--plan";

/// The argument that makes it join a container: `kontena-init --join JOINING_FD STATUS_FD`.
pub const JOIN_ARGUMENT: &CStr = c"--join";

/// The argument that makes it make sockets of a container's network, for the launcher: `kontena-init --sockets JOINING_FD
/// STATUS_FD`. Asked by a packet of a family and a type, it answers with an errno and, where that is 0, the socket.
pub const SOCKETS_ARGUMENT: &CStr = c"--sockets";

/// Something that can stand in a Plan. Integers are little-endian, strings end with NUL.
pub trait Wire<'a>: Copy {
    /// Appends this to `out`.
    fn put(&self, out: &mut impl Extend<u8>);
    /// Reads one from the front of `from`; `None` where the block is cut short or malformed.
    fn get(from: &mut &'a [u8]) -> Option<Self>;
}

macro_rules! wire_integers {
    ($($integer:ty),*) => {$(
        impl Wire<'_> for $integer {
            fn put(&self, out: &mut impl Extend<u8>) {
                out.extend(self.to_le_bytes());
            }
            fn get(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}
wire_integers!(u8, u32, u64);

impl<'a> Wire<'a> for &'a CStr {
    fn put(&self, out: &mut impl Extend<u8>) {
        out.extend(self.to_bytes_with_nul().iter().copied());
    }
    fn get(from: &mut &'a [u8]) -> Option<Self> {
        let text = CStr::from_bytes_until_nul(from).ok()?;
        *from = from.get(text.to_bytes_with_nul().len()..)?;
        Some(text)
    }
}

/// A list of `T`: items of the launcher's, or a stretch of a Plan that is decoded as it is walked.
#[derive(Clone, Copy, Debug)]
pub enum List<'a, T> {
    /// What the launcher puts in.
    Items(&'a [T]),
    /// What the init finds: how many, and their bytes.
    Block(u32, &'a [u8]),
}

impl<'a, T: Wire<'a>> List<'a, T> {
    /// How many items.
    pub fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::Block(count, _) => *count as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + Clone + use<'a, T> {
        let (mut items, mut block) = match *self {
            Self::Items(items) => (items.iter(), &[][..]),
            Self::Block(_, block) => ([].iter(), block),
        };
        core::iter::from_fn(move || items.next().copied().or_else(|| T::get(&mut block)))
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for List<'a, T> {
    fn put(&self, out: &mut impl Extend<u8>) {
        let mut bytes = 0;
        self.iter().for_each(|item| item.put(&mut Count(&mut bytes)));
        (self.len() as u32).put(out);
        bytes.put(out);
        self.iter().for_each(|item| item.put(out));
    }
    fn get(from: &mut &'a [u8]) -> Option<Self> {
        let (count, bytes) = (u32::get(from)?, u32::get(from)?);
        let (block, rest) = from.split_at_checked(bytes as usize)?;
        *from = rest;
        // Walked once here, so that nobody who iterates later can meet a malformed item.
        let mut walk = block;
        for _ in 0..count {
            T::get(&mut walk)?;
        }
        walk.is_empty().then_some(Self::Block(count, block))
    }
}

/// Counts bytes instead of keeping them.
struct Count<'a>(&'a mut u32);

impl Extend<u8> for Count<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        *self.0 += bytes.into_iter().count() as u32;
    }
}

/// Declares structs that are written and read field by field, in the order they stand in.
macro_rules! wire_structs {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<'a> { $($(#[$field_doc])* pub $field: $type,)* }

        impl<'a> Wire<'a> for $name<'a> {
            fn put(&self, out: &mut impl Extend<u8>) {
                $(self.$field.put(out);)*
            }
            fn get(from: &mut &'a [u8]) -> Option<Self> {
                Some(Self { $($field: Wire::get(from)?,)* })
            }
        }
    )*};
}

wire_structs! {
    /// What the container is to be.
    pub struct Plan {
        /// What becomes `/`. A path is absolute, or from the working directory that init is given.
        pub root: Mount<'a>,
        /// The writable layer over the root, a directory or a file system, where there is one; see [`overlay`].
        pub layer: Mount<'a>,
        /// See [`overlay`].
        pub overlay: u8,
        /// 1 where `/` itself is mounted read-only (`--read-only`).
        pub root_readonly: u8,
        /// What the host's mounts become here before anything else: MS_PRIVATE, or MS_SLAVE where a volume is to follow them.
        pub propagation: u64,
        /// 1 in a user namespace of its own.
        pub userns: u8,
        /// 1 where the network is the container's own and has nothing but `lo`, which is to be up.
        pub loopback: u8,
        /// The UTS node name; sethostname(2).
        pub hostname: &'a CStr,
        /// /dev, the first of them, and all that every container has beside /proc.
        pub mounts: List<'a, Mount<'a>>,
        /// /proc, which has the most to be masked: the payload's process makes it while PID 1 makes the others.
        pub proc: List<'a, Mount<'a>>,
        /// What was asked for, in this order, on top of all that.
        pub volumes: List<'a, Mount<'a>>,
        /// Devices beside those that every container has.
        pub devices: List<'a, Device<'a>>,
        /// Files in memory, mounted over those of the root; /etc/hosts is the first.
        pub files: List<'a, File<'a>>,
        /// What is written to files of /proc, by the payload's process: `PATH=TEXT`, the path below /proc. With `-` before it,
        /// it is written before anything else is done, and left out where there is no such file.
        pub settings: List<'a, &'a CStr>,
        /// The payload.
        pub process: Process<'a>,
    }

    /// A process that joins a container which runs: `kontena exec`.
    pub struct Joining {
        /// The number of the fd of the container's PID 1, a pidfd.
        pub init: &'a CStr,
        /// CLONE_NEW*: of its namespaces those that the process is to be in; setns(2).
        pub namespaces: u64,
        /// 1 where it goes on when the launcher that started it is gone.
        pub detached: u8,
        /// What it is.
        pub process: Process<'a>,
    }

    /// A process of a container: its payload, or one that joins it.
    pub struct Process {
        /// 1 where it gets a terminal of its own, which the launcher is sent the other end of; pty(7).
        pub terminal: u8,
        /// How that is sized from the first: rows, columns.
        pub rows: u32,
        /// See `rows`.
        pub columns: u32,
        /// The number of an fd that it inherits under another one, `notify_as`; empty where there is none.
        pub notify: &'a CStr,
        /// See `notify`.
        pub notify_as: u32,
        /// Bit n is capability n; the bounding set, and what a payload of uid 0 is permitted. capabilities(7).
        pub capabilities: u64,
        /// What a payload of another uid is permitted: its ambient set.
        pub ambient: u64,
        /// 1 where execve(2) gives nothing to anybody; prctl(2).
        pub no_new_privs: u8,
        /// 1 where its system calls are filtered.
        pub seccomp: u8,
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
        /// The signal mask the launcher was started with, which it gets back; bit n-1 is signal n.
        pub signal_mask: u64,
    }

    /// One mount, and what of it the payload must not see or change.
    pub struct Mount {
        /// See [`mount_kind`].
        pub kind: u8,
        /// The file system's type; for a bind a path on the host, as the root's; for a tree the number of its fd.
        pub source: &'a CStr,
        /// Where it goes, as an absolute path in the container; made where it is missing.
        pub target: &'a CStr,
        /// `MOUNT_ATTR_*` of mount_setattr(2).
        pub attributes: u64,
        /// MS_PRIVATE or MS_SLAVE, for a bind or a tree.
        pub propagation: u64,
        /// For fsconfig(2): `key=value` or `flag`.
        pub options: List<'a, &'a CStr>,
        /// Paths in it, relative, covered by something empty; one that does not exist is passed over.
        pub masked: List<'a, &'a CStr>,
        /// Paths in it, relative, made read-only; one that does not exist is passed over.
        pub readonly: List<'a, &'a CStr>,
    }

    /// A device of the host's that the container has too; mknod(2).
    pub struct Device {
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
    pub struct File {
        /// An absolute path in the container.
        pub target: &'a CStr,
        /// What is in it.
        pub content: &'a CStr,
    }
}

/// A limit of the payload's process; getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// RLIMIT_*.
    pub resource: u32,
    /// The limit that counts.
    pub soft: u64,
    /// How far it can be raised.
    pub hard: u64,
}

impl Wire<'_> for Rlimit {
    fn put(&self, out: &mut impl Extend<u8>) {
        self.resource.put(out);
        self.soft.put(out);
        self.hard.put(out);
    }
    fn get(from: &mut &[u8]) -> Option<Self> {
        Some(Self { resource: Wire::get(from)?, soft: Wire::get(from)?, hard: Wire::get(from)? })
    }
}

/// What a [`Mount`] is made of.
pub mod mount_kind {
    /// A new instance of a file system.
    pub const FILESYSTEM: u8 = 0;
    /// The same, which a kernel may lack; then it is left out.
    pub const FILESYSTEM_IF_KNOWN: u8 = 1;
    /// A file or directory of the host, with what is mounted below it.
    pub const BIND: u8 = 2;
    /// Mounts that the launcher has made, not attached anywhere, which init inherits as an open fd.
    pub const TREE: u8 = 3;
}

/// Whether the root is laid under a writable layer; overlayfs, Documentation/filesystems/overlayfs.rst.
pub mod overlay {
    /// Only where the root is read-only and lacks a directory that something is mounted on; and what comes out of it is
    /// read-only all the same.
    pub const IF_NEEDED: u8 = 0;
    /// Yes.
    pub const ALWAYS: u8 = 1;
}

/// The init's message that a terminal has been made, whose master comes with it; SCM_RIGHTS of unix(7).
pub const TERMINAL: u8 = 2;

/// Opens the launcher's message that the network is ready; what follows is added to /etc/hosts.
pub const READY: u8 = 1;

impl<'a> Plan<'a> {
    /// All mounts, as a [`Report`] counts them.
    pub fn all_mounts(&self) -> impl Iterator<Item = Mount<'a>> + Clone + use<'a> {
        self.mounts.iter().chain(self.proc.iter()).chain(self.volumes.iter())
    }
}

/// Appends a whole Plan, or Joining, to `out`.
pub fn encode<'a>(plan: &impl Wire<'a>, out: &mut impl Extend<u8>) {
    MAGIC.put(out);
    plan.put(out);
}

/// Reads one in place; `None` where the block is not a whole one of this version.
pub fn decode<'a, T: Wire<'a>>(mut block: &'a [u8]) -> Option<T> {
    if u32::get(&mut block)? != MAGIC {
        return None;
    }
    T::get(&mut block)
}

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $text:literal,)*) => {
        /// What the init does, one thing after the other. A [`Report`] names the one that failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Step { $($(#[$doc])* $step,)* }

        impl Step {
            const ALL: &[Step] = &[$(Step::$step,)*];

            /// The step in words, for the launcher's messages.
            pub fn text(self) -> &'static str {
                match self { $(Step::$step => $text,)* }
            }
        }
    };
}

steps! {
    /// execveat(2) of the init itself, in the launcher's child.
    ExecInit = "exec kontena-init",
    /// prctl(2) PR_SET_PDEATHSIG and PR_SET_DUMPABLE.
    Guard = "guard the init",
    /// pread(2) and [`decode`].
    ReadPlan = "read the Plan",
    /// mount_setattr(2) MS_PRIVATE on every mount.
    MakePrivate = "make the mounts private",
    /// open_tree(2) and move_mount(2) of the root.
    AttachRoot = "mount the rootfs",
    /// The root's writable layer: overlayfs.
    Overlay = "lay a writable layer over the rootfs",
    /// A [`Mount`], by its index: making it.
    Mount = "mount",
    /// A [`Mount`], by its index: finding or making its target.
    MountTarget = "mount on",
    /// A [`Mount`], by its index: something in /dev.
    Devices = "make the devices in",
    /// A [`Mount`], by its index: a masked path.
    Mask = "mask paths in",
    /// A [`Mount`], by its index: a read-only path.
    Readonly = "make paths read-only in",
    /// A [`Device`], by its index.
    Device = "make the device",
    /// A [`File`], by its index.
    File = "mount the file",
    /// One of the Plan's settings, by its index.
    Setting = "set",
    /// mount_setattr(2) on the root.
    RootReadonly = "make the root read-only",
    /// pivot_root(2) and umount2(2).
    PivotRoot = "pivot_root",
    /// RTM_NEWLINK of lo; rtnetlink(7).
    Loopback = "set the link lo up",
    /// sethostname(2).
    Hostname = "set the hostname",
    /// The launcher went away before the container was whole.
    Launcher = "wait for the launcher",
    /// clone(2) of the payload's process.
    Fork = "fork",
    /// What PID 1 and the payload's process tell each other.
    Handshake = "start the payload's process",
    /// setsid(2).
    Session = "start a session",
    /// setns(2).
    Join = "join the container",
    /// ptmx(4), TIOCSCTTY.
    Terminal = "make the terminal",
    /// dup2(2) of the fd that it inherits.
    Notify = "hand on the fd of --notify-fd",
    /// The user is not in the container's /etc/passwd.
    UserUnknown = "find the user",
    /// The group is not in the container's /etc/group.
    GroupUnknown = "find the group",
    /// The container's /etc/passwd or /etc/group cannot be read.
    ReadUsers = "read /etc/passwd and /etc/group",
    /// An [`Rlimit`], by its index.
    Rlimit = "set the ulimit",
    /// setgroups(2), setresgid(2), setresuid(2).
    SetUser = "become the user",
    /// prctl(2) PR_CAPBSET_DROP and capset(2).
    Capabilities = "set the capabilities",
    /// prctl(2) PR_SET_NO_NEW_PRIVS.
    NoNewPrivs = "set no_new_privs",
    /// seccomp(2).
    Seccomp = "filter the system calls",
    /// chdir(2).
    WorkingDirectory = "enter the working directory",
    /// execve(2) of the payload.
    Exec = "exec",
}

/// What went wrong inside: 8 bytes, little-endian, written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The step that failed.
    pub step: Step,
    /// Which of its objects, for the steps that have several; mounts are counted through `mounts`, `proc` and `volumes`.
    pub index: u16,
    /// The kernel's errno, positive.
    pub errno: i32,
}

impl Report {
    /// As it goes through the status socket.
    pub fn to_bytes(self) -> [u8; 8] {
        let [s0, s1] = (self.step as u16).to_le_bytes();
        let [i0, i1] = self.index.to_le_bytes();
        let [e0, e1, e2, e3] = self.errno.to_le_bytes();
        [s0, s1, i0, i1, e0, e1, e2, e3]
    }

    /// The inverse; `None` for a step that does not exist.
    pub fn from_bytes([s0, s1, i0, i1, e0, e1, e2, e3]: [u8; 8]) -> Option<Self> {
        Some(Self {
            step: *Step::ALL.get(usize::from(u16::from_le_bytes([s0, s1])))?,
            index: u16::from_le_bytes([i0, i1]),
            errno: i32::from_le_bytes([e0, e1, e2, e3]),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn sample(out: &mut Vec<u8>) {
        let proc = Mount {
            kind: mount_kind::FILESYSTEM,
            source: c"proc",
            target: c"/proc",
            attributes: 14,
            propagation: 0,
            options: List::Items(&[]),
            masked: List::Items(&[c"kcore", c"keys"]),
            readonly: List::Items(&[c"sys"]),
        };
        let volume = Mount { kind: mount_kind::BIND, source: c"/srv", target: c"/srv", ..proc };
        let device = Device { source: c"/a", target: c"/dev/a", mode: 0o20666, uid: 1, gid: 2, major: 3, minor: 4 };
        let plan = Plan {
            root: Mount { kind: mount_kind::TREE, source: c"7", target: c"/", ..proc },
            layer: volume,
            overlay: overlay::ALWAYS,
            root_readonly: 1,
            propagation: 1 << 18,
            userns: 1,
            loopback: 1,
            hostname: c"web",
            mounts: List::Items(&[]),
            proc: List::Items(&[proc]),
            volumes: List::Items(&[volume]),
            devices: List::Items(&[device]),
            files: List::Items(&[File { target: c"/etc/hosts", content: c"::1 localhost\n" }]),
            settings: List::Items(&[c"sys/net/ipv4/ip_forward=1", c"self/oom_score_adj=-17"]),
            process: Process {
                terminal: 1,
                rows: 24,
                columns: 80,
                notify: c"9",
                notify_as: 3,
                capabilities: 0xa800_25fb,
                ambient: 1 << 10,
                no_new_privs: 1,
                seccomp: 1,
                user: c"nginx",
                groups: List::Items(&[c"video"]),
                rlimits: List::Items(&[Rlimit { resource: 7, soft: 10, hard: u64::MAX }]),
                umask: 0o27,
                cwd: c"/",
                argv: List::Items(&[c"/bin/nginx", c"", c"-g"]),
                env: List::Items(&[c"A=b"]),
                signal_mask: 1 << 63,
            },
        };
        encode(&plan, out);
    }

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        let mut block = Vec::new();
        sample(&mut block);
        let plan: Plan<'_> = decode(&block).unwrap();
        assert_eq!(plan.process.argv.iter().collect::<Vec<_>>(), [c"/bin/nginx", c"", c"-g"]);
        let masked: Vec<_> = plan.proc.iter().chain(plan.volumes.iter()).map(|m| m.masked.iter().count()).collect();
        assert_eq!(masked, [2, 2]);
        assert_eq!(
            (plan.root_readonly, plan.process.capabilities, plan.process.signal_mask),
            (1, 0xa800_25fb, 1 << 63)
        );
        assert_eq!(plan.process.rlimits.iter().next(), Some(Rlimit { resource: 7, soft: 10, hard: u64::MAX }));
        let mut again = Vec::new();
        encode(&plan, &mut again);
        assert_eq!(block, again, "a decoded Plan encodes to the same bytes");
    }

    #[test]
    fn a_cut_or_bent_plan_is_refused_and_never_panics() {
        let mut block = Vec::new();
        sample(&mut block);
        for cut in 0..block.len() {
            assert!(decode::<Plan<'_>>(&block[..cut]).is_none(), "cut at {cut}");
        }
        for at in 0..block.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bent = block.clone();
                bent[at] = value;
                // Whatever it says, walking it must end.
                if let Some(plan) = decode::<Plan<'_>>(&bent) {
                    let options: usize = plan.volumes.iter().map(|mount| mount.options.iter().count()).sum();
                    assert!(options <= bent.len());
                }
            }
        }
    }

    #[test]
    fn every_report_round_trips() {
        for step in Step::ALL {
            let report = Report { step: *step, index: 0x1234, errno: 40 };
            assert_eq!(Report::from_bytes(report.to_bytes()), Some(report));
        }
        assert_eq!(Report::from_bytes([0xff; 8]), None);
    }
}
