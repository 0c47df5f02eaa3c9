//! The request not to restart a container: a bit in the mode of its directory.
//!
//! The bit takes neither an inode nor a block, so `kontena stop` works on a full disk, and stays when `stop` is killed.
//! A launcher writes down its PID 1 and then looks at the bit; `stop` sets the bit and then looks for PID 1. So one of
//! the two always sees the other. Must not send a signal.

use crate::error::{Context, Result};
use crate::file;
use crate::state::StateDirectory;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::inotify::WatchFlags;
use rustix::fs::{Mode, OFlags, fchmod, fstat};
use rustix::io::Errno;

/// The bit.
const STOP: Mode = Mode::SVTX;

impl StateDirectory {
    /// Asks the launcher of a container not to restart it.
    pub fn ask_to_stop(&self, name: &str) -> Result<()> {
        match self.set_mode(name, Mode::RWXU | STOP) {
            Err(Errno::NOENT) => Ok(()),
            asked => asked.context(format_args!("chmod {}", self.path(name)), "it would be restarted"),
        }
    }

    /// Whether the launcher of a container is asked not to restart it.
    pub fn is_asked_to_stop(&self, name: &str) -> bool {
        file::open(self, name, OFlags::DIRECTORY).is_ok_and(|directory| is_asked(&directory))
    }

    /// Takes back a request that was meant for an earlier container of this name.
    pub(super) fn clear_stop(&self, name: &str) {
        let _ = self.set_mode(name, Mode::RWXU);
    }

    fn set_mode(&self, name: &str, mode: Mode) -> rustix::io::Result<()> {
        file::open(self, name, OFlags::DIRECTORY).and_then(|directory| fchmod(directory, mode))
    }
}

/// Whether the launcher of the container with this directory is asked not to restart it.
pub fn is_asked(directory: &OwnedFd) -> bool {
    fstat(directory).is_ok_and(|stat| stat.st_mode & STOP.as_raw_mode() != 0)
}

/// An fd that becomes readable when that may have changed.
pub fn watch(directory: &OwnedFd) -> Option<OwnedFd> {
    file::watch(&format!("/proc/self/fd/{}", directory.as_raw_fd()), WatchFlags::ATTRIB).ok()
}
