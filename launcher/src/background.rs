//! A container in the background: the launcher in two, of which one stays with the container and the other with who called.
//!
//! The one that stays has a session of its own and nothing of the caller's, and tells the other how the start went. Must not
//! know how a container is made.

use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::supervise::Signals;
use crate::sys;
use crate::terminal::{self, HUNG_UP, Left, Options, Peer};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::setsid;

/// Which of the two this process is, with its end of the socket between them.
pub enum Side {
    /// The caller's.
    Front(OwnedFd),
    /// The container's.
    Back(OwnedFd),
}

/// Becomes two processes.
pub fn fork() -> Result<Side> {
    let (front, back) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context(format_args!("socketpair"), "")?;
    if sys::fork().context(format_args!("fork"), "no process, or no memory, is left")?.is_some() {
        return Ok(Side::Front(front));
    }
    drop(front);
    setsid().context(format_args!("setsid"), "")?;
    // Somebody may wait for the end of a pipe, or for a lock, that the caller has left open.
    sys::close_all_but(&back);
    // What there is to say until the container has started is still for the caller.
    sys::keep_errors().context(format_args!("fcntl"), "")?;
    crate::output::leave_stdio()?;
    Ok(Side::Back(back))
}

/// The caller's side: waits until the container runs, and with a terminal until it ends.
pub fn attend(launcher: OwnedFd, config: &Config) -> Result<u8> {
    let life = &config.life;
    sys::restore_sigpipe();
    let signals = Signals::block()?;
    let options = Options {
        detach_keys: &life.detach_keys,
        takes_input: life.interactive && !life.detach,
        is_terminal: life.tty && !life.detach,
        until_it_runs: life.detach,
    };
    match terminal::attend(&Peer::Launcher(launcher), &signals, &options)? {
        Left::Ended(status) => Ok(status.unwrap_or(0)),
        Left::Runs | Left::Detached => {
            crate::print(1, &format!("{}\n", config.name));
            Ok(0)
        }
        Left::HungUp => Ok(HUNG_UP),
        Left::Lost => Err(Error::usage(
            format_args!("the launcher of {} in the background was killed", config.name),
            "kontena prune takes back what it left",
        )),
    }
}
