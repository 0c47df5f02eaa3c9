//! What the init reports when it fails: the step, the object that it failed on, and the errno.

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $text:literal,)*) => {
        /// What the init does, one thing after the other. A [`Report`] names the one that failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Step { $($(#[$doc])* $step,)* }

        #[allow(unused_doc_comments)]
        impl Step {
            /// All of them.
            pub const ALL: &[Step] = &[$($(#[$doc])* Step::$step,)*];

            /// The step in words, for the launcher's messages.
            pub fn text(self) -> &'static str {
                match self { $($(#[$doc])* Step::$step => $text,)* }
            }
        }
    };
}

steps! {
    /// execveat(2) of the init itself, in the launcher's child.
    ExecInit = "exec kontena-init",
    /// prctl(2) PR_SET_PDEATHSIG and PR_SET_DUMPABLE, and what the caller has passed on.
    Guard = "guard the init",
    /// pread(2), and decoding it.
    ReadPlan = "read the Plan",
    /// mount_setattr(2) MS_PRIVATE on every mount.
    MakePrivate = "make the mounts private",
    /// open_tree(2) and move_mount(2) of the root.
    AttachRoot = "mount the rootfs",
    /// The root's writable layer: overlayfs.
    Overlay = "mount a writable layer over the rootfs",
    /// A mount, by its id: making it.
    Mount = "mount",
    /// A mount, by its id: finding or making its target.
    MountTarget = "mount on",
    /// A mount, by its id: something in /dev.
    Devices = "make the devices in",
    /// A mount, by its id: a masked path.
    Mask = "mask paths in",
    /// A mount, by its id: a read-only path.
    Readonly = "make paths read-only in",
    /// A masked path of a bundle, by its index in the Plan.
    #[cfg(feature = "oci")]
    MaskPath = "mask",
    /// A read-only path of a bundle, by its index in the Plan.
    #[cfg(feature = "oci")]
    ReadonlyPath = "make read-only",
    /// A device, by its index in the Plan.
    Device = "make the device",
    /// A file, by its index in the Plan.
    File = "mount the file",
    /// A setting, by its index in the Plan.
    Setting = "set",
    /// mount_setattr(2) on the root.
    RootReadonly = "make the root read-only",
    /// pivot_root(2) and umount2(2).
    PivotRoot = "pivot_root",
    /// SIOCSIFFLAGS of lo; netdevice(7).
    Loopback = "bring up the link lo",
    /// sethostname(2).
    Hostname = "set the hostname",
    /// The launcher went away before the container was whole.
    Launcher = "wait for the launcher",
    /// clone(2) of the payload's process.
    Fork = "fork",
    /// What PID 1 and the payload's process tell each other.
    Handshake = "fork the payload",
    /// setsid(2).
    Session = "start a session",
    /// setns(2).
    Join = "join the container",
    /// ptmx(4), TIOCSCTTY.
    Terminal = "create the terminal",
    /// dup2(2) of the fd that it inherits.
    Notify = "pass on the fds of --notify-fd and --preserve-fds",
    /// The user is not in the container's /etc/passwd.
    UserUnknown = "find the user",
    /// The user's group is not in the container's /etc/group.
    GroupUnknown = "find the group",
    /// A supplementary group is not in it, by its index in the Plan.
    SupplementaryGroupUnknown = "find the group",
    /// The container's /etc/passwd or /etc/group cannot be read.
    ReadUsers = "read /etc/passwd and /etc/group",
    /// A ulimit, by its index in the Plan.
    Rlimit = "set the ulimit",
    /// An attribute, by its index in [`super::attributes::NAMES`].
    Attribute = "set",
    /// setgroups(2), setresgid(2), setresuid(2).
    SetUser = "change to the user",
    /// prctl(2) PR_CAPBSET_DROP and capset(2).
    Capabilities = "set the capabilities",
    /// prctl(2) PR_SET_NO_NEW_PRIVS.
    NoNewPrivs = "set no_new_privs",
    /// seccomp(2).
    Seccomp = "install the system call filter",
    /// chdir(2).
    WorkingDirectory = "enter the working directory",
    /// A createContainer hook, by its index; the errno can be [`super::HOOK_ENDED`] or more.
    #[cfg(feature = "oci")]
    CreateHook = "run the hook",
    /// A startContainer hook, by its index; as above.
    #[cfg(feature = "oci")]
    StartHook = "run the hook",
    /// execve(2) of the payload.
    Exec = "exec",
}

/// What went wrong inside: 8 bytes, little-endian, written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The step that failed.
    pub step: Step,
    /// Which of its objects, for the steps that have several: a mount's id, or an index in one of the Plan's lists.
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
mod tests {
    use super::*;

    #[test]
    fn every_report_round_trips() {
        for step in Step::ALL {
            let report = Report { step: *step, index: 0x1234, errno: 40 };
            assert_eq!(Report::from_bytes(report.to_bytes()), Some(report));
        }
        assert_eq!(Report::from_bytes([0xff; 8]), None);
    }
}
