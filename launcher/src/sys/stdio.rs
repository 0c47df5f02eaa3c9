//! Standard input, output and error, and the fds that the caller left open.

use super::check;
use linux_raw_sys::general as uapi;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use rustix::io::Result;
use sc::syscall;
use std::sync::atomic::{AtomicI32, Ordering};

/// `int close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)`: nothing that the caller left open reaches a container.
pub fn close_inherited_fds_on_exec() -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: usize = 1 << 2;
    // SAFETY: only sets a flag on fds; none is closed.
    check(unsafe { sc::syscall3(uapi::__NR_close_range as usize, 3, u32::MAX as usize, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// `int fcntl(int fd, F_GETFD)`: EBADF where there is none of this number.
pub fn look_at_fd(number: u32) -> Result<()> {
    // SAFETY: only reads a flag.
    check(unsafe { syscall!(FCNTL, number, uapi::F_GETFD, 0) }).map(drop)
}

/// Leaves an fd of the caller's open across the exec; EBADF where there is none of this number.
pub fn inherit(number: u32) -> Result<()> {
    // SAFETY: only clears the close-on-exec flag; no fd is opened or closed.
    check(unsafe { syscall!(FCNTL, number, uapi::F_SETFD, 0) }).map(drop)
}

/// `int dup3(int oldfd, int newfd, 0)` to standard input, output or error.
pub fn become_standard(fd: &OwnedFd, number: RawFd) -> Result<()> {
    // SAFETY: what the standard one was is closed, and nothing here owns that.
    check(unsafe { syscall!(DUP3, fd.as_raw_fd(), standard_fd(number).as_raw_fd(), 0) }).map(drop)
}

/// The fd of the standard input, output or error: 0, 1 or 2.
pub fn standard_fd(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: `main` sees to it that 0 to 2 are open, and nothing here owns or closes them.
    unsafe { BorrowedFd::borrow_raw(number.clamp(0, 2)) }
}

/// Where what is printed to the standard error goes.
static ERRORS: AtomicI32 = AtomicI32::new(2);

/// Goes on printing to what the standard error is now, when that becomes something else; until [`leave_errors`].
pub fn keep_errors() -> Result<()> {
    let kept = rustix::io::fcntl_dupfd_cloexec(standard_fd(2), 3)?;
    ERRORS.store(kept.into_raw_fd(), Ordering::Relaxed);
    Ok(())
}

/// Ends that.
pub fn leave_errors() {
    let kept = ERRORS.swap(2, Ordering::Relaxed);
    if kept > 2 {
        // SAFETY: the fd of keep_errors, which gave up its owner, and of which nothing else knows by now.
        drop(unsafe { OwnedFd::from_raw_fd(kept) });
    }
}

/// write(2) of what is for the standard output or, with 2, for the standard error: how much was taken.
pub fn print(number: RawFd, bytes: &[u8]) -> Result<usize> {
    if number != 2 {
        return rustix::io::write(standard_fd(number), bytes);
    }
    // SAFETY: 2, which is open, or the fd of `keep_errors`, which is open as long as it is in ERRORS, so for this call.
    rustix::io::write(unsafe { BorrowedFd::borrow_raw(ERRORS.load(Ordering::Relaxed)) }, bytes)
}
