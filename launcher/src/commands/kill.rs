//! `kontena kill`: sends a signal to a container's command, or to all its processes.

use crate::commands::{leaf_of, open_init, stop};
use crate::error::{Context, Result};
use crate::resources::cgroup;
use crate::spawn::{join, plan};
use crate::state::{ContainerRecord, StateDirectory};
use crate::supervise::signals::send_signal;
use crate::sys;
use linux_raw_sys::general::SIGKILL;

/// Sends `signal`.
pub fn kill(state: &StateDirectory, container: &ContainerRecord, signal: u32, all: bool) -> Result<()> {
    if signal == SIGKILL && container.is_running {
        // Its launcher must not restart it.
        return stop::kill(state, &container.name);
    }
    let init = open_init(state, container)?;
    let is_payload = state.directory(&container.name).is_ok_and(|directory| plan::is_command_pid1(&directory));
    if !all {
        return send_signal(&init, is_payload, signal).at(format_args!("send a signal to {}", container.name));
    }
    // PID 1 would pass it on to a process that gets it anyway.
    let is_init = |pid: u32| !is_payload && container.init.is_some_and(|init| init.pid == pid);
    let leaf = leaf_of(container)?;
    for pid in join::processes(leaf).into_iter().filter(|pid| !is_init(*pid)) {
        // The pid may have become another process's before it was opened. From then on it is the one in the leaf.
        if let Some(process) = sys::pidfd(pid)
            && cgroup::has_process(leaf, pid)
        {
            let _ = sys::pidfd_send_signal(process, signal);
        }
    }
    Ok(())
}

/// Checks that all of several names are containers': one may be a signal that was misspelt, or stands in the wrong
/// place, and no container must get SIGKILL for that.
pub fn check_names(state: &StateDirectory, names: &[&str]) -> Result<()> {
    for name in names.iter().filter(|_| names.len() > 1) {
        state.resolve(name).and_then(|name| state.find(&name)).map_err(|error| {
            error.advise("nor is it a signal of signal(7), 1 to 31 or 34 to 64, after a name: no signal was sent")
        })?;
    }
    Ok(())
}
