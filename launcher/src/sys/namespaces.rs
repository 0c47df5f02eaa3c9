//! Namespaces by their files, and processes that are cloned in them.

use super::{check, clone3_exec, exit};
use crate::sys::Exec;
use linux_raw_sys::general as uapi;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};
use sc::syscall;

/// `int ioctl(int fd, NS_GET_NSTYPE)`: CLONE_NEW* of the namespace that a file stands for; ioctl_nsfs(2).
pub fn namespace_type(file: &OwnedFd) -> Result<u32> {
    const NS_GET_NSTYPE: u32 = 0xb703;
    // SAFETY: takes no argument.
    check(unsafe { syscall!(IOCTL, file.as_raw_fd(), NS_GET_NSTYPE) }).map(|flag| flag as u32)
}

/// `int unshare(CLONE_NEWTIME)`: for the children of this process.
pub fn unshare_time() -> Result<()> {
    // SAFETY: takes an integer. It changes neither the fds nor the directories of this process.
    check(unsafe { syscall!(UNSHARE, uapi::CLONE_NEWTIME) }).map(drop)
}

/// The index of the clone itself in the error of [`clone3_exec_inside`].
pub const CLONE: u32 = u32::MAX;

/// [`clone3_exec`] by a process that first calls `enter`, which may go where this process could not come back from. The
/// child is this process's own: CLONE_PARENT.
///
/// An error is the number of the step of `enter` that failed, or [`CLONE`], and the errno.
pub fn clone3_exec_inside(
    enter: &dyn Fn() -> std::result::Result<(), (u32, Errno)>,
    flags: u64,
    leaf: Option<BorrowedFd<'_>>,
    exec: &Exec<'_>,
) -> std::result::Result<(Pid, OwnedFd), (u32, Errno)> {
    let failed = |errno| (CLONE, errno);
    // The other process's end is this one's too: its end says nothing, so this one does not wait for it.
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(failed)?;
    // SAFETY: without CLONE_VM the child has its own copy of everything, and there is no other thread that could hold a
    // lock of it. Of the fds, which it shares, it closes none but those that it has opened.
    let helper = check(unsafe { syscall!(CLONE, uapi::SIGCHLD | uapi::CLONE_FILES, 0, 0, 0, 0) }).map_err(failed)?;
    let Some(helper) = Pid::from_raw(helper as i32) else {
        let cloned =
            enter().and_then(|()| clone3_exec(flags | u64::from(uapi::CLONE_PARENT), leaf, exec).map_err(failed));
        let answer = match cloned {
            Ok((pid, pidfd)) => [0, pid.as_raw_pid() as u32, pidfd.into_raw_fd() as u32],
            Err((step, errno)) => [errno.raw_os_error() as u32, step, 0],
        };
        let _ = rustix::io::write(&theirs, answer.map(u32::to_le_bytes).as_flattened());
        exit(0);
    };
    while matches!(waitpid(Some(helper), WaitOptions::empty()), Err(Errno::INTR)) {}
    let mut answer = [[0; 4]; 3];
    let length = rustix::io::read(&ours, answer.as_flattened_mut()).unwrap_or(0);
    match (length, answer.map(u32::from_le_bytes)) {
        (12, [0, pid, pidfd]) => {
            // SAFETY: the helper has opened it in the table of fds that it shared with this process, and has left it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as i32) };
            Ok((Pid::from_raw(pid as i32).ok_or((CLONE, Errno::SRCH))?, pidfd))
        }
        (12, [errno, step, _]) => Err((step, Errno::from_raw_os_error(errno as i32))),
        // Somebody has killed it.
        _ => Err((CLONE, Errno::SRCH)),
    }
}
