//! Signals: ignored, blocked, pending, and read from an fd.

use super::check;
use linux_raw_sys::general as uapi;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Result;
use sc::syscall;

/// `int sigaction(int signum, NULL, struct sigaction *oldact)`: whether the caller had this signal ignored.
pub fn is_ignored(signal: u32) -> bool {
    // The kernel's struct begins with the handler on every architecture; the rest is written but not looked at.
    let mut action = [0u64; 8];
    // SAFETY: the buffer is larger than any kernel's struct sigaction and alive across the call.
    let result = unsafe { syscall!(RT_SIGACTION, signal, 0, action.as_mut_ptr(), size_of::<u64>()) };
    result == 0 && action[0] == SIG_IGN
}

/// `int sigaction(SIGPIPE, SIG_DFL)`: ends with the reader of its output.
pub fn restore_sigpipe() {
    set_signal(uapi::SIGPIPE, SIG_DFL);
}

/// `int sigaction(SIGPIPE, SIG_IGN)`: a closed pipe or socket is an error of write(2).
pub fn ignore_sigpipe() {
    set_signal(uapi::SIGPIPE, SIG_IGN);
}

pub(super) const SIG_DFL: u64 = 0;
pub(super) const SIG_IGN: u64 = 1;

/// `int sigaction(int signum, handler)`, which is [`SIG_DFL`] or [`SIG_IGN`]: neither runs code of this process.
pub(super) fn set_signal(signal: u32, handler: u64) {
    // The kernel's struct sigaction begins with the handler; no flags and an empty mask are zeros, on every
    // architecture.
    let action = [handler, 0, 0, 0];
    // SAFETY: the struct is at most 32 bytes and alive across the call. It cannot fail with a valid pointer.
    unsafe { syscall!(RT_SIGACTION, signal, action.as_ptr(), 0, size_of::<u64>()) };
}

/// `int sigprocmask(SIG_BLOCK, const sigset_t *set, NULL)`; bit n-1 is signal n.
pub fn block_signals(mask: u64) {
    // SAFETY: the set is the kernel's 8 bytes, alive across the call. It cannot fail with a valid pointer.
    unsafe { syscall!(RT_SIGPROCMASK, uapi::SIG_BLOCK, &raw const mask, 0, size_of::<u64>()) };
}

/// `int signalfd(-1, const sigset_t *mask, SFD_CLOEXEC | SFD_NONBLOCK)`.
pub fn signalfd(mask: u64) -> Result<OwnedFd> {
    let flags = uapi::O_CLOEXEC | uapi::O_NONBLOCK;
    // SAFETY: the set is the kernel's 8 bytes, alive across the call.
    let fd = check(unsafe { syscall!(SIGNALFD4, -1isize, &raw const mask, size_of::<u64>(), flags) })?;
    // SAFETY: a new fd that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `int fcntl(int fd, F_NOTIFY, DN_*)`: as long as the directory is open, SIGIO comes from the kernel whenever
/// something in it has been deleted, or a mode changes. Unlike inotify(7) that has no limit for each user.
pub fn watch_directory(directory: &OwnedFd) -> Result<()> {
    let events = uapi::DN_DELETE | uapi::DN_ATTRIB | uapi::DN_MULTISHOT;
    // SAFETY: no memory of this process is passed.
    check(unsafe { syscall!(FCNTL, directory.as_raw_fd(), uapi::F_NOTIFY, events) }).map(drop)
}

/// `int sigpending(sigset_t *set)`: a pending signal that asks this process to end.
pub fn ending_signal() -> Option<u32> {
    let mut pending = 0u64;
    // SAFETY: the set is the kernel's 8 bytes, alive across the call.
    unsafe { syscall!(RT_SIGPENDING, &raw mut pending, size_of::<u64>()) };
    let ends = [uapi::SIGTERM, uapi::SIGINT, uapi::SIGHUP, uapi::SIGQUIT];
    ends.into_iter().find(|signal| pending & 1 << (signal - 1) != 0)
}
