//! While the container runs: forwards signals to its init, and waits for its end.
//!
//! One poll(2) on three fds. Must not allocate or wake up without a cause.

use crate::error::{Context, Result};
use crate::launch::Container;
use crate::sys;
use kontena_init::plan::Report;
use linux_raw_sys::general::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
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
        let fd = sys::signalfd(mask).context(|| "signalfd".into(), "")?;
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

/// Waits for the end of the container; calls `running` once, when the payload has been executed.
pub fn supervise(container: Container, signals: &Signals, running: impl FnOnce()) -> Result<Ended> {
    let Container { pidfd, status, .. } = container;
    let (mut status, mut running, mut report) = (Some(status), Some(running), None);
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&signals.fd, PollFlags::IN)];
        fds.extend(status.as_ref().map(|status| PollFd::new(status, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context(|| "poll".into(), ""),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready.get(1) == Some(&true) {
            while let Some(signal) = signals.next() {
                // ESRCH: it has just ended.
                let _ = sys::pidfd_send_signal(&pidfd, signal);
            }
        }
        if ready.get(2) == Some(&true)
            && let Some(socket) = status.take()
        {
            let mut bytes = [0; 8];
            match rustix::net::recv(&socket, &mut bytes, RecvFlags::WAITALL) {
                Ok((_, 8)) => report = Report::from_bytes(bytes),
                // The end of file: exec closed the last copy of init's end.
                _ => running.take().into_iter().for_each(|running| running()),
            }
        }
        if ready.first() == Some(&true) {
            break;
        }
    }
    let ended = waitid(WaitId::PidFd(rustix::fd::AsFd::as_fd(&pidfd)), WaitIdOptions::EXITED)
        .context(|| "waitid".into(), "")?;
    let status =
        ended.and_then(|ended| ended.exit_status().or_else(|| ended.terminating_signal().map(|signal| 128 + signal)));
    Ok(Ended { status: status.unwrap_or(0) as u8, report })
}
