//! The first steps of a process that the launcher has cloned: what it gives up of the launcher's caller, and what keeps
//! the payload from it.

#[cfg(feature = "oci")]
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use linux_raw_sys::general::SIGKILL;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, Result};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid};
use rustix::thread::{CapabilitiesSecureBits, set_capabilities_secure_bits, set_name};

use crate::{seccomp, sys};

/// The signal that ends the init when its launcher ends.
pub const DIE: u32 = SIGKILL;

/// Has the kernel send a signal, if it is not 0, when the launcher ends; keeps the payload from looking into this
/// process, and all signals from interrupting it.
pub fn guard(status: &OwnedFd, on_launchers_death: u32) -> Result<()> {
    sys::set_signal_mask(u64::MAX);
    shed()?;
    // The kernel calls a program that was executed from a memfd after that.
    set_name(c"kontena-init")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    end_with_launcher(status, on_launchers_death)?;
    setsid().map(drop)
}

/// Whether this process goes on when its launcher has ended.
#[cfg(feature = "oci")]
static IS_HANDED_OVER: AtomicBool = AtomicBool::new(false);

/// Takes the death signal back for good: from here on, this container is the caller's.
#[cfg(feature = "oci")]
pub fn outlive_launcher() -> Result<()> {
    IS_HANDED_OVER.store(true, Relaxed);
    sys::set_parent_death_signal(0)
}

/// Has the kernel send a signal, if it is not 0, when the launcher ends. A change of the user takes it back; prctl(2).
pub fn end_with_launcher(status: &OwnedFd, signal: u32) -> Result<()> {
    #[cfg(feature = "oci")]
    if IS_HANDED_OVER.load(Relaxed) {
        return Ok(());
    }
    sys::set_parent_death_signal(signal)?;
    // Dead before that, it sends no signal; whatever it has written before, its end of the socket is closed by then.
    let mut launcher = [PollFd::new(status, PollFlags::empty())];
    poll(&mut launcher, Some(&Timespec::default()))?;
    // A socket says HUP, and a pipe ERR.
    if launcher[0].revents().is_empty() { Ok(()) } else { Err(Errno::PIPE) }
}

/// Gives up what execve(2) and clone(2) have passed on from the launcher's caller and no container may have. The table
/// in docs/security.md has all that they pass on. The payload's process resets the signals, beside PID 1.
fn shed() -> Result<()> {
    sys::leave_real_time()?;
    sys::limit_personality(seccomp::PERSONALITIES);
    // What the caller has locked stays: it only takes rights.
    let _ = set_capabilities_secure_bits(CapabilitiesSecureBits::empty());
    match sys::join_session_keyring() {
        // No keyrings; or a filter around this container refuses them, and holds for the payload, too.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        joined => joined,
    }
}
