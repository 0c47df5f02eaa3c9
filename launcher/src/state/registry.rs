//! The host's registry, in which the containers of all state directories agree on what is host-wide: leases, shared
//! things, and locks.
//!
//! One directory, whatever --root says: `/run/kontena-host`, or one beside the state of an ordinary user. Nobody else
//! can enter it, so nobody else can hold its locks. It is never removed: a launcher could hold a lock of the old file
//! while another takes that of the new one. Must not know what is leased or shared.

use crate::error::{Context, Result};
use crate::file;
use crate::sys::{self, Lock};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fchmod, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::OsStr;

/// The file with the locks.
pub const LOCK: &str = ".lock";
/// Root's default state directory.
const STATE_ROOT: &str = "/run/kontena";

/// The registry of this host.
pub struct Registry {
    directory: OwnedFd,
    lock: OwnedFd,
    /// When it was made, in nanoseconds.
    made: u64,
}

impl Registry {
    /// Opens it. Where /run cannot be written to, the registry is the `state` directory itself.
    pub fn open(state: &OwnedFd) -> Result<Self> {
        let path = format!("{}-host", state_root());
        let own = || {
            let (directory, stat) = file::open_or_make(&path, OFlags::NOFOLLOW)?;
            // In /tmp, anybody may have made it before.
            if stat.st_uid != geteuid().as_raw() {
                return Err(Errno::PERM);
            }
            if stat.st_mode & 0o77 != 0 {
                fchmod(&directory, Mode::RWXU)?;
            }
            Ok(directory)
        };
        let open = || {
            let directory = own().or_else(|_| rustix::io::fcntl_dupfd_cloexec(state, 3))?;
            let lock = file::open(&directory, LOCK, OFlags::RDWR | OFlags::CREATE)?;
            let stat = fstat(&lock)?;
            let made = (stat.st_ctime as u64).wrapping_mul(1_000_000_000).wrapping_add(stat.st_ctime_nsec as u64);
            Ok(Self { directory, lock, made })
        };
        open().context(format_args!("open {path}"), "mount a tmpfs on /run, or free some space there")
    }

    /// The number of a cgroup, of its inode number: the kernel begins to count inodes anew after a boot, when /run and
    /// the registry are new, too, so it is the number of no other cgroup.
    pub fn number_of(&self, inode: u64) -> u64 {
        inode.wrapping_add(self.made)
    }

    /// The inode number of a cgroup, of its number.
    pub fn inode_of(&self, number: u64) -> u64 {
        number.wrapping_sub(self.made)
    }

    /// Waits for a lock, with others where it is `shared`.
    pub fn lock(&self, byte: Lock, shared: bool) -> Result<()> {
        sys::lock(&self.lock, byte, shared).context(format_args!("wait for another kontena"), "it may be suspended")
    }

    /// Releases a lock.
    pub fn unlock(&self, byte: Lock) {
        let _ = sys::unlock(&self.lock, byte);
    }
}

impl AsFd for Registry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The default state directory: an ordinary user's is where its other runtime files are.
pub fn state_root() -> String {
    if sys::is_privileged() {
        return STATE_ROOT.into();
    }
    match sys::variable("XDG_RUNTIME_DIR").and_then(OsStr::to_str) {
        Some(directory) if directory.starts_with('/') => format!("{directory}/kontena"),
        _ => format!("/tmp/kontena-{}", geteuid().as_raw()),
    }
}
