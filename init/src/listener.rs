//! A filter that notifies calls: a process outside of the container gets the listener and answers them;
//! seccomp_unotify(2).
//!
//! Such a filter is installed while the launcher can still pass the listener on, and not last: from then on, the agent
//! may have to answer any call of this process. Must not keep the listener: after the agent's death, calls would wait
//! for ever.

use kontena_init::plan::{LISTENER, ProcessSpec, Report, Step};
use linux_raw_sys::ptrace::SECCOMP_FILTER_FLAG_NEW_LISTENER;
use rustix::fd::OwnedFd;

use crate::failure::fail;
use crate::sys;

/// Whether the filter of a process notifies calls.
pub fn is_wanted(process: &ProcessSpec<'_>) -> bool {
    process.filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
}

/// Installs the filter, if it notifies calls, and sends the listener to the launcher. Comes after `confine`.
pub fn install_and_send(process: &ProcessSpec<'static>, launcher: Option<&OwnedFd>) -> Result<(), Report> {
    let install = |launcher| {
        let listener = sys::install_filter_with_listener(process.filter, process.filter_flags)?;
        sys::send_fd(launcher, &[LISTENER], &listener)
    };
    let launcher = launcher.filter(|_| is_wanted(process));
    launcher.map_or(Ok(()), install).map_err(fail(Step::Seccomp, 0))
}
