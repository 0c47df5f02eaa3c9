//! A container that is handed over: its PID 1 reports to the launcher that the container is complete, outlives the
//! launcher, and waits for `start`.
//!
//! The last step before the process becomes the payload. Must not pass any socket on to the payload.

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

/// Waits for `start` and becomes the payload. The connection of `start` to `listener` is the status socket from then
/// on. Returns an error if the container was not handed over.
pub fn await_start(
    process: &ProcessSpec<'static>,
    start_hooks: &Hooks<'static>,
    root: &OwnedFd,
    terminal: Option<OwnedFd>,
    listener: &OwnedFd,
    launcher: &OwnedFd,
) -> Result<Infallible, Report> {
    check(process, root)?;
    // Closes the launcher's stdio: containerd reads it up to the end of file before it starts a container.
    if let Some(slave) = &terminal {
        sys::become_stdio(slave, |_| true).map_err(fail(Step::Terminal, 0))?;
    }
    let is_notified = is_wanted(process);
    if is_notified {
        // The launcher has ended when `start` connects.
        confine(process, true)?;
        install_and_send(process, Some(launcher))?;
    }
    // It may wait for long, and processes of a shared pid namespace can see it: it keeps only what it needs.
    let installs = process.seccomp != filter::NONE && process.no_new_privs == 0;
    let needed = process.capabilities | attributes::needed(process) | caps::BECOME;
    caps::limit_further(if installs { needed | caps::INSTALL } else { needed }).map_err(fail(Step::Capabilities, 0))?;
    let hand_over = || {
        outlive_launcher()?;
        send(launcher, &[WHOLE], SendFlags::NOSIGNAL)?;
        match recv(launcher, &mut [0u8; 1], RecvFlags::empty())? {
            (1, _) => {}
            // The launcher could not record the container, so no command would find it.
            _ => return Err(Errno::PIPE),
        }
        loop {
            match accept_with(listener, SocketFlags::CLOEXEC) {
                // The client closed the connection before it was accepted.
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

/// Looks up the user, the working directory and the executable, and raises limits, so that `create` reports their
/// errors. Only the executable's interpreter can still be missing at `start`.
fn check(process: &ProcessSpec<'static>, root: &OwnedFd) -> Result<(), Report> {
    // Limits are lowered later: this process still opens files.
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
