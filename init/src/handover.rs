//! A container that is handed over: its PID 1 tells the launcher that all is made, outlives it, and waits for `start`.
//!
//! Runs as the last thing before the process becomes the payload. Must not leave any socket to it: all are closed by
//! then.

use core::convert::Infallible;
use core::ffi::CStr;
use kontena_init::filter;
use kontena_init::plan::{Hooks, ProcessSpec, Report, Rlimit, Step, WHOLE};
use rustix::fd::OwnedFd;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use crate::failure::{fail, give_up};
use crate::guard::outlive_launcher;
use crate::hooks;
use crate::listener::{install_and_send, is_wanted};
use crate::payload::{Prepared, become_payload, confine, enter_directory, find, prepare};
use crate::{attributes, caps, sys};

/// Waits for `start`, whose connection to `listener` is the status socket from then on, and becomes the payload. What
/// comes back is why the container was not handed over.
pub fn await_start(
    process: &ProcessSpec<'static>,
    start_hooks: &Hooks<'static>,
    root: &OwnedFd,
    terminal: Option<OwnedFd>,
    listener: &OwnedFd,
    launcher: &OwnedFd,
) -> Result<Infallible, Report> {
    check(process, root)?;
    // Nothing of the launcher's stdio stays open: containerd reads it to its end before it starts a container.
    if let Some(slave) = &terminal {
        sys::become_stdio(slave, |_| true).map_err(fail(Step::Terminal, 0))?;
    }
    let is_notified = is_wanted(process);
    if is_notified {
        // When `start` comes, the launcher is gone.
        confine(process, true)?;
        install_and_send(process, Some(launcher))?;
    }
    // It may wait for long, and where its pid namespace is another's, others look at it: it keeps what it needs.
    let installs = process.seccomp != filter::NONE && process.no_new_privs == 0;
    let needed = process.capabilities | attributes::needed(process) | caps::BECOME;
    caps::limit_further(if installs { needed | caps::INSTALL } else { needed }).map_err(fail(Step::Capabilities, 0))?;
    let hand_over = || {
        outlive_launcher()?;
        send(launcher, &[WHOLE], SendFlags::NOSIGNAL)?;
        match recv(launcher, &mut [0u8; 1], RecvFlags::empty())? {
            (1, _) => {}
            // It could not be recorded: nobody would find it.
            _ => return Err(Errno::PIPE),
        }
        loop {
            match accept_with(listener, SocketFlags::CLOEXEC) {
                // It was gone before it was accepted.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                status => return status,
            }
        }
    };
    let status = hand_over().map_err(fail(Step::Launcher, 0))?;
    let confined = if is_notified { Ok(()) } else { confine(process, false) };
    let confined = confined.and_then(|()| hooks::before_exec(start_hooks, process, root, &status));
    let report = match confined {
        Ok(()) => become_payload(process, root, None, terminal, &status),
        Err(report) => report,
    };
    sys::exit(give_up(&status, report))
}

/// Looks for the user, the working directory and the executable, and raises limits, for a container that is started
/// later: only an executable's interpreter can be missing then.
fn check(process: &ProcessSpec<'static>, root: &OwnedFd) -> Result<(), Report> {
    // Lower ones must wait: this process still opens files.
    for (index, Rlimit { resource, hard, .. }) in (0..).zip(process.rlimits.iter()) {
        sys::raise_hard_limit(resource, hard).map_err(fail(Step::Rlimit, index))?;
    }
    let Prepared { arguments, environment, .. } = prepare(process, root)?;
    enter_directory(process.cwd)?;
    let look = |path: &CStr| access(path, Access::EXEC_OK).err().unwrap_or(Errno::EXIST);
    match find(arguments, environment, &mut { look }) {
        Errno::EXIST => Ok(()),
        errno => Err(fail(Step::Exec, 0)(errno)),
    }
}
