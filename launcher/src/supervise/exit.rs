//! The end of a process that this one has started; waitid(2).
//!
//! Must not wait for one that has not ended.

use crate::error::{Context, Result};
use kontena_init::plan::Report;
use linux_raw_sys::general::SIGKILL;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid};

/// How a process of the init's has ended.
pub struct Exit {
    /// Its exit status, which is the command's.
    pub status: u8,
    /// Whether SIGKILL ended it, and not the command's end.
    pub was_killed: bool,
    /// Why the command never ran, if so.
    pub report: Option<Report>,
}

/// The exit status of a process that has ended, or is about to, whose pid may be another's from now on.
pub fn reap(pidfd: &OwnedFd) -> Result<u8> {
    exit_status(pidfd, WaitIdOptions::empty()).map(|(status, _)| status)
}

/// The same for all that have ended.
pub fn reap_all() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// How a process has ended, whose report is this. It is not reaped: its pid stays its own.
pub fn look(pidfd: &OwnedFd, report: Option<Report>) -> Result<Exit> {
    let (status, was_killed) = exit_status(pidfd, WaitIdOptions::NOWAIT)?;
    Ok(Exit { status, was_killed, report })
}

/// The exit status, and whether SIGKILL was the reason for it. A command that is PID 1 cannot send it to itself.
fn exit_status(pidfd: &OwnedFd, options: WaitIdOptions) -> Result<(u8, bool)> {
    let options = options | WaitIdOptions::EXITED;
    let ended = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), options));
    let ended = ended.at(format_args!("waitid"))?;
    let signal = ended.as_ref().and_then(|ended| ended.terminating_signal());
    let status = ended.and_then(|ended| ended.exit_status()).or(signal.map(|signal| 128 + signal));
    Ok((status.unwrap_or(0) as u8, signal == Some(SIGKILL as i32)))
}
