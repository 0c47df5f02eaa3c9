//! Fds by their numbers: those that were inherited, stdio, and the end of all others. Must not know what any is for.

use super::{check, exit};
use core::ffi::c_int;
use linux_raw_sys::general as uapi;
use rustix::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, Result};
use sc::syscall;

/// The fd of this number, where the launcher has handed it over and nobody has taken it yet. The payload does not get
/// it: it is close-on-exec from here on.
pub fn inherited_fd(number: u32) -> Option<OwnedFd> {
    let number: RawFd = number.try_into().ok()?;
    // SAFETY: only asks; a number that is no fd at all is answered by EBADF.
    let flags = unsafe { syscall!(FCNTL, number, uapi::F_GETFD, 0) };
    if number <= 2 || flags != 0 {
        return None;
    }
    // SAFETY: sets the flag of an fd that nobody owns: see below.
    check(unsafe { syscall!(FCNTL, number, uapi::F_SETFD, uapi::FD_CLOEXEC) }).ok()?;
    // SAFETY: it was open and not close-on-exec. So it came through the exec of this program, and nothing owns it: all
    // that is opened here is close-on-exec, and so is what this function has given away.
    Some(unsafe { rustix::fd::FromRawFd::from_raw_fd(number) })
}

/// The fds that this process has inherited and passes on to its command.
#[derive(Clone, Copy)]
pub struct PassedOn {
    /// The number of one of them here; none where it is 0.
    pub inherited: u32,
    /// Its number in the command.
    pub wanted: u32,
    /// So many others, from 3 on, keep their numbers.
    pub preserved: u32,
}

/// Closes the first fds behind stdio, which nothing in this process has taken: they are for another one.
pub fn drop_preserved(preserved: u32) -> Result<()> {
    close_range(3, 2 + preserved as usize)
}

/// `int close_range(unsigned int first, unsigned int last, unsigned int flags)`: closes all but stdio, `keep`
/// and the fds that are passed on, whose numbers are below `keep`; and goes on with `then`, which gets the result,
/// and whose status is the process's.
pub fn go_on_without_fds<T: Copy + 'static>(
    keep: &OwnedFd,
    passed_on: PassedOn,
    then: fn(&OwnedFd, Result<()>, T) -> c_int,
    with: T,
) -> ! {
    // The owners of what is closed here are in functions that are never returned to, and `then` has no way to them:
    // what can be copied owns no fd, and what lives as long as the process borrows none that is closed.
    let closed = close_all_but(keep, passed_on);
    exit(then(keep, closed, with))
}

fn close_all_but(keep: &OwnedFd, PassedOn { inherited, wanted, preserved }: PassedOn) -> Result<()> {
    let keep = keep.as_raw_fd() as usize;
    let mut first = 3 + preserved as usize;
    if let Some(given) = inherited_fd(inherited) {
        let wanted = wanted as usize;
        if wanted < first || wanted >= keep {
            return Err(Errno::BADF);
        }
        if given.as_raw_fd() as usize == wanted {
            // SAFETY: only clears the close-on-exec flag of an fd that its owner has just let go of, to be the
            // command's.
            check(unsafe { syscall!(FCNTL, given.into_raw_fd(), uapi::F_SETFD, 0) })?;
        } else {
            // SAFETY: the owner of the number that is replaced is never returned to: see `go_on_without_fds`.
            check(unsafe { syscall!(DUP3, given.as_raw_fd(), wanted, 0) })?;
        }
        close_range(first, wanted - 1)?;
        first = wanted + 1;
    }
    close_range(first, keep - 1)?;
    close_range(keep + 1, u32::MAX as usize)
}

fn close_range(first: usize, last: usize) -> Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: their owners are never returned to: see `go_on_without_fds`; or they have none: see `drop_preserved`.
    check(unsafe { sc::syscall3(uapi::__NR_close_range as usize, first, last, 0) }).map(drop)
}

/// `int dup2(int oldfd, int newfd)` for those of standard input, output and error that `is_wanted` says.
pub fn become_stdio(fd: &OwnedFd, is_wanted: fn(BorrowedFd<'_>) -> bool) -> Result<()> {
    for stdio in stdio().into_iter().filter(|stdio| is_wanted(*stdio)) {
        // SAFETY: nothing owns the numbers of stdio, and what they were is closed.
        check(unsafe { syscall!(DUP3, fd.as_raw_fd(), stdio.as_raw_fd(), 0) })?;
    }
    Ok(())
}

/// Standard input, output and error.
pub fn stdio() -> [BorrowedFd<'static>; 3] {
    // SAFETY: nothing here closes or owns these numbers. The launcher sees to it that they are open; where another
    // runtime has left one out, nothing is opened that could have its place, and a call on it just answers EBADF.
    [0, 1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
}
