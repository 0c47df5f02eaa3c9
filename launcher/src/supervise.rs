//! While the container runs: forwards signals to its init, and waits for its end.
//!
//! One poll(2) on three fds. Must not allocate or wake up without a cause.

use crate::error::{Context, Error, Result};
use crate::launch::Container;
use crate::sys;
use kontena_init::plan::Report;
use linux_raw_sys::general::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// What init is told of, and through it the payload.
const FORWARDED: [u32; 7] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// Signals that arrive at an fd instead of ending this process.
pub struct Signals {
    fd: OwnedFd,
    original_mask: u64,
}

/// How a container ended.
pub struct Ended {
    /// Its init's exit status, which is the payload's.
    pub status: u8,
    /// Why the payload never ran, if so.
    pub report: Option<Report>,
}

impl Signals {
    /// Blocks them for good; the payload gets the mask back that was. One that the caller had ignored, as nohup(1)
    /// does, stays ignored.
    pub fn block() -> Result<Self> {
        let wanted = FORWARDED.iter().filter(|signal| !sys::is_ignored(**signal));
        let mask = wanted.fold(0, |mask, signal| mask | 1 << (signal - 1));
        let original_mask = sys::block_signals(mask);
        let fd = sys::signalfd(mask).context(format_args!("signalfd"), "")?;
        Ok(Self { fd, original_mask })
    }

    /// The signal mask this process was started with.
    pub fn original_mask(&self) -> u64 {
        self.original_mask
    }

    /// The next one that has arrived; struct signalfd_siginfo begins with its number.
    fn next(&self) -> Option<u32> {
        let mut info = [0u8; 128];
        let length = rustix::io::read(&self.fd, &mut info).ok()?;
        info.get(..length)?.first_chunk().map(|number| u32::from_ne_bytes(*number))
    }
}

/// How long nothing happens in a container that has started well.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Waits for the end of the container; calls `quiet` once, when the payload runs and leaves the time for it.
pub fn supervise(container: Container, signals: &Signals, quiet: impl FnOnce()) -> Result<Ended> {
    let Container { pidfd, status, .. } = container;
    let (mut status, mut quiet, mut report) = (Some(status), Some(quiet), None);
    loop {
        let timeout = if status.is_none() && quiet.is_some() { Some(&QUIET) } else { None };
        let watched = [&pidfd, &signals.fd, status.as_ref().unwrap_or(&pidfd)];
        let mut fds = watched.map(|fd| PollFd::new(fd, PollFlags::IN));
        let ready = poll(&mut fds, timeout);
        let [ended, signalled, told] = fds.map(|fd| !fd.revents().is_empty());
        match ready {
            Ok(0) => quiet.take().into_iter().for_each(|quiet| quiet()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new(format_args!("poll"), errno, "")),
        }
        if signalled {
            while let Some(signal) = signals.next() {
                // ESRCH: it has just ended.
                let _ = sys::pidfd_send_signal(&pidfd, signal);
            }
        }
        if told && let Some(socket) = status.take() {
            let mut bytes = [0; 8];
            // Nothing but the end of file: exec closed the last copy of init's end.
            if let Ok((_, 8)) = rustix::net::recv(&socket, &mut bytes, RecvFlags::WAITALL) {
                report = Report::from_bytes(bytes);
            }
        }
        if ended {
            break;
        }
    }
    let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).context(format_args!("waitid"), "")?;
    let status =
        ended.and_then(|ended| ended.exit_status().or_else(|| ended.terminating_signal().map(|signal| 128 + signal)));
    Ok(Ended { status: status.unwrap_or(0) as u8, report })
}
