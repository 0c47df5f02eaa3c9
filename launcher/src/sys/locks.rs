//! Locks of files: of single bytes, and of the whole.

use super::{check, ending_signal, sleep};
use linux_raw_sys::general as uapi;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, Result};
use sc::syscall;

/// A byte of a file that locks are about; F_OFD_SETLK, fcntl(2). They belong to the open file, as flock(2)'s do, and
/// can be asked for without being taken.
#[derive(Clone, Copy)]
#[repr(i64)]
pub enum Lock {
    /// Held by a container's launcher for its life.
    Life,
    /// Held by a process that releases what a dead launcher held, or becomes the next launcher, until that is done.
    Repair,
    /// Held for life as well, for processes that wait for the container's end.
    End,
    /// Of the registry: shared by every start, exclusive for the prune that removes what all share.
    Start,
    /// Of the registry: shared from mkdir(2) of a leaf cgroup until it is written down, exclusive for the repair that
    /// removes one that was not.
    Make,
    /// Of the registry: exclusive while a start makes the nftables tables.
    Tables,
}

/// struct flock on 64-bit machines.
#[repr(C)]
struct FileLock {
    kind: i16,
    whence: i16,
    start: i64,
    length: i64,
    pid: i32,
}

fn lock_command(file: &OwnedFd, command: u32, kind: u32, byte: Lock) -> Result<FileLock> {
    let mut lock = FileLock { kind: kind as i16, whence: 0, start: byte as i64, length: 1, pid: 0 };
    // SAFETY: the kernel reads and writes one struct flock, which is alive across the call.
    check(unsafe { syscall!(FCNTL, file.as_raw_fd(), command, &raw mut lock) }).map(|_| lock)
}

/// Takes a lock that nobody else has; EAGAIN where somebody has it.
pub fn try_lock(file: &OwnedFd, byte: Lock) -> Result<()> {
    lock_command(file, uapi::F_OFD_SETLK, uapi::F_WRLCK, byte).map(drop)
}

/// Waits for a lock, and takes it, with others where it is `shared`. EINTR: a blocked signal is pending that asks this
/// process to end.
pub fn lock(file: &OwnedFd, byte: Lock, shared: bool) -> Result<()> {
    let kind = if shared { uapi::F_RDLCK } else { uapi::F_WRLCK };
    wait(&mut || lock_command(file, uapi::F_OFD_SETLK, kind, byte).map(drop))
}

/// The same of a whole file or directory; flock(2).
pub fn lock_whole(file: &OwnedFd, shared: bool) -> Result<()> {
    let kind = if shared { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
    wait(&mut || flock(file, kind))
}

fn wait(lock: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    const MICROSECONDS: u64 = 1000;
    loop {
        match lock() {
            Err(Errno::AGAIN | Errno::ACCESS) if ending_signal().is_some() => return Err(Errno::INTR),
            Err(Errno::AGAIN | Errno::ACCESS) => sleep(MICROSECONDS),
            locked => return locked,
        }
    }
}

/// Waits for a shared lock, for which the file need not be open for writing, in a process that blocks no signals.
pub fn wait_for_lock(file: &OwnedFd, byte: Lock) -> Result<()> {
    rustix::io::retry_on_intr(|| lock_command(file, uapi::F_OFD_SETLKW, uapi::F_RDLCK, byte)).map(drop)
}

/// Lets others have it.
pub fn unlock(file: &OwnedFd, byte: Lock) -> Result<()> {
    lock_command(file, uapi::F_OFD_SETLK, uapi::F_UNLCK, byte).map(drop)
}

/// Whether somebody else has it.
pub fn is_locked(file: &OwnedFd, byte: Lock) -> bool {
    lock_command(file, uapi::F_OFD_GETLK, uapi::F_RDLCK, byte).is_ok_and(|lock| lock.kind != uapi::F_UNLCK as i16)
}
