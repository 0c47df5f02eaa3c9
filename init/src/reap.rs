//! PID 1 while the payload runs: forwards signals, reaps every orphan, and ends with the payload's status.
//!
//! Every signal is blocked and taken one at a time, so nothing here is ever interrupted. Must not give up for any
//! reason but the payload's end: when PID 1 goes, the kernel kills the container.

use core::ffi::{CStr, c_int};
use kontena_init::signals::{END, STOP};
use linux_raw_sys::general::{SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, SIGTTIN, SIGTTOU};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, wait};

use crate::sys::{self, Signal};
use crate::text;

/// Whom a forwarded signal reaches.
#[derive(Clone, Copy)]
pub enum Target {
    /// The payload alone.
    Process,
    /// Its whole process group (`-g`).
    Group,
    /// The payload alone, which has joined a container, and ends with its launcher: see [`END`].
    Joined,
}

/// How long nothing happens when nothing may happen for long; microseconds.
const QUIET: u32 = 20_000;

/// Waits until `payload` has ended. Returns its exit status: 128+n if signal n ended it. A stop and a continue are for
/// its whole process group, like those of a terminal.
pub fn supervise(payload: Pid, target: Target) -> i32 {
    let payload_number = payload.as_raw_nonzero().get();
    loop {
        // EINTR, after a stop and a continue.
        let next = sys::wait_a_moment_for_signal(QUIET).map_or_else(sys::wait_for_signal, Ok);
        let Ok(Signal { number: signal, code }) = next else { continue };
        if signal == SIGCHLD
            && let Some(status) = reap(payload)
        {
            return status;
        }
        let (to_group, signal) = match signal {
            // The kernel's own: a child has ended, or a background process touches the terminal. Those of a process are
            // below.
            SIGCHLD | SIGTTIN | SIGTTOU if code > 0 => continue,
            // The launcher is gone, or has given up.
            END if matches!(target, Target::Joined) => (true, SIGKILL),
            STOP => (true, SIGSTOP),
            SIGCONT => (true, SIGCONT),
            _ => (matches!(target, Target::Group), signal),
        };
        // Before its setsid(2), it leads no group. ESRCH: it has just ended, and SIGCHLD is on its way.
        if !to_group || sys::kill(-payload_number, signal as c_int).is_err() {
            let _ = sys::kill(payload_number, signal as c_int);
        }
    }
}

/// Reaps all ended processes, since one SIGCHLD may stand for many. Returns the payload's exit status if it has ended.
pub fn reap(payload: Pid) -> Option<i32> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == payload {
            ended = exit_status(status);
        }
    }
    ended
}

fn exit_status(status: WaitStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// Kills what the payload left behind. As PID 1 there is nothing to do: the kernel kills the whole namespace when its
/// init exits, and waits for it (pid_namespaces(7)). Elsewhere orphans came to this process as their subreaper, and
/// killing one may bring the next.
pub fn kill_the_rest() {
    if getpid() == Pid::INIT {
        return;
    }
    while let Some(child) = any_child() {
        if sys::kill(child, SIGKILL as c_int).is_err() {
            break;
        }
        while matches!(wait(WaitOptions::empty()), Err(Errno::INTR)) {}
    }
}

/// The first child that /proc knows, where it does (CONFIG_PROC_CHILDREN).
fn any_child() -> Option<i32> {
    const CHILDREN: &CStr = c"/proc/thread-self/children";
    let file = openat(CWD, CHILDREN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 16];
    let length = rustix::io::read(&file, &mut text).ok()?;
    let first = text::split(text.get(..length)?, b' ').next()?;
    text::number(first)?.try_into().ok()
}
