//! Signals: those that arrive here, by signalfd(2), and those for a payload, by its init.
//!
//! Must not decide what a signal means for a container.

use crate::error::{Context, Result};
use crate::sys;
use kontena_init::signals;
use linux_raw_sys::general::{SIGCHLD, SIGIO, SIGPIPE, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGXFSZ};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Signal, getpid, kill_process};
use std::cell::Cell;

/// The code of a signal that no process has sent; sigaction(2).
const SI_KERNEL: i32 = 0x80;

/// Signals that arrive at an fd instead of ending this process.
pub struct Signals {
    fd: OwnedFd,
    /// Whether a directory that this process watches has changed.
    pub has_changed: Cell<bool>,
}

/// The signals with which a terminal stops processes.
const JOB_CONTROL: [u32; 3] = [SIGTSTP, SIGTTIN, SIGTTOU];

impl Signals {
    /// Blocks all of them for good. A process that reads from a terminal goes on being stopped by it: the kernel
    /// refuses to read for a process that blocks these signals.
    pub fn block(stopped_by_terminal: bool) -> Result<Self> {
        let left =
            if stopped_by_terminal { JOB_CONTROL.iter().fold(0, |mask, signal| mask | 1 << (signal - 1)) } else { 0 };
        sys::block_signals(!left);
        let fd = sys::signalfd(!left).at(format_args!("signalfd"))?;
        Ok(Self { fd, has_changed: Cell::new(false) })
    }

    /// The next one that has arrived, and is meant for the command. One that the caller had ignored, as nohup(1) does,
    /// stays ignored.
    pub fn next(&self) -> Option<u32> {
        loop {
            let mut info = [0u8; 128];
            let length = rustix::io::read(&self.fd, &mut info).ok()?;
            // struct signalfd_siginfo: the number, an errno, the code, and the pid of the sender; signalfd(2).
            let fields = info.get(..length)?.first_chunk::<16>()?.as_chunks().0;
            let [signal, _, code, sender] = *fields else { return None };
            let [signal, sender] = [signal, sender].map(u32::from_ne_bytes);
            match (signal, i32::from_ne_bytes(code)) {
                (SIGIO, SI_KERNEL) => self.has_changed.set(true),
                // A child of this process has ended.
                (SIGCHLD, 1..) => {}
                (SIGTSTP, SI_KERNEL) => {
                    let _ = kill_process(getpid(), Signal::STOP);
                }
                // For another process of the group, which reads from the terminal or writes to it.
                (SIGTTIN | SIGTTOU, SI_KERNEL) => {}
                // Nobody reads what this process writes, or it has written too much.
                _ if sender == getpid().as_raw_pid() as u32 => {}
                // Ignored by this process itself.
                (SIGPIPE | SIGXFSZ, _) => return Some(signal),
                _ if sys::is_ignored(signal) => {}
                _ => return Some(signal),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends a signal to a process of the init's, for its payload, or to the payload itself.
pub fn send_signal(process: &OwnedFd, is_payload: bool, signal: u32) -> rustix::io::Result<()> {
    sys::pidfd_send_signal(process, if signal == SIGSTOP && !is_payload { signals::STOP } else { signal })
}
