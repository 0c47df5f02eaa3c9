//! A container that is handed over: its PID 1 tells the launcher that all is made, outlives it, and waits for `start`.
//!
//! Runs as the last thing before the process becomes the payload. Must not leave any socket to it: all are closed by
//! then.

use core::convert::Infallible;
use kontena_init::plan::{Report, Step, WHOLE};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use crate::failure::{fail, give_up};
use crate::guard::outlive_launcher;
use crate::sys;

/// Waits for `start`, and then becomes the payload by `execute`, whose status goes to that process. What comes back
/// is why the container was not handed over.
pub fn await_start(
    listener: &OwnedFd,
    launcher: &OwnedFd,
    execute: impl FnOnce(&OwnedFd) -> Result<Infallible, Report>,
) -> Result<Infallible, Report> {
    let hand_over = || {
        outlive_launcher()?;
        send(launcher, &[WHOLE], SendFlags::NOSIGNAL)?;
        match recv(launcher, &mut [0u8; 1], RecvFlags::empty())? {
            (1, _) => Ok(()),
            // It could not be recorded: nobody would find it.
            _ => Err(Errno::PIPE),
        }
    };
    hand_over().map_err(fail(Step::Launcher, 0))?;
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(status) => {
                let Err(report) = execute(&status);
                sys::exit(give_up(&status, report))
            }
            // It was gone before it was accepted.
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => return Err(fail(Step::Launcher, 0)(errno)),
        }
    }
}
