//! `kontena stop`: asks a container to end, and kills it if it does not.

use crate::commands::{open_init, pause};
use crate::config::lifecycle::STOP_TIMEOUT;
use crate::error::Result;
use crate::resources::cgroup;
use crate::state::{ContainerRecord, StateDirectory, Stop};
use crate::supervise::signals::send_signal;
use crate::sys;
use linux_raw_sys::general::{SIGKILL, SIGTERM};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;

/// Stops a container, by its own stop signal; within `seconds`, or those of its `--stop-timeout`.
pub fn stop(state: &StateDirectory, container: &ContainerRecord, seconds: Option<u64>) -> Result<()> {
    // As docker has it: a container that has ended is stopped.
    if !container.is_running {
        return Ok(());
    }
    let Stop { signal, timeout } = container.stop.unwrap_or(Stop { signal: SIGTERM, timeout: STOP_TIMEOUT });
    end(state, &container.name, Stop { signal, timeout: seconds.unwrap_or(timeout) })
}

/// Kills a container, so that it is not restarted.
pub fn kill(state: &StateDirectory, name: &str) -> Result<()> {
    end(state, name, Stop { signal: SIGKILL, timeout: 0 })
}

/// Sends the signal, kills all that is left after the timeout, and waits for the end.
fn end(state: &StateDirectory, name: &str, Stop { signal, timeout }: Stop) -> Result<()> {
    // A start takes back what was asked for before it: that is not for this run.
    let Some(container) = state.look(name)?.filter(|container| container.is_running) else { return Ok(()) };
    container.check_pid_namespace()?;
    state.ask_to_stop(name)?;
    // Read it only now, since it may have been restarted before. From here on its launcher does not restart it.
    let Some(container) = state.look(name)?.filter(|container| container.is_running) else { return Ok(()) };
    if let Ok(init) = open_init(state, &container) {
        if signal != SIGKILL {
            // Frozen processes take no other signal.
            let _ = pause::resume(&container);
            let _ = send_signal(&init, false, signal);
        }
        let timeout = Timespec { tv_sec: timeout as i64, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&timeout)) == Ok(0) {
            kill_all(&container, &init);
        }
    }
    // The next start takes the request back.
    state.wait_while(name, &|_| state.is_asked_to_stop(name))
}

/// Sends SIGKILL to the whole cgroup, or to PID 1, which takes its pid namespace along.
fn kill_all(container: &ContainerRecord, init: &OwnedFd) {
    if !container.cgroup_path().is_some_and(cgroup::kill) {
        let _ = sys::pidfd_send_signal(init, SIGKILL);
    }
}
