//! Removes what the containers of all state directories share, once none of them needs it.
//!
//! Must not touch what a running container uses.

use crate::error::Result;
use crate::net;
use crate::resources::{cgroup, verity};
use crate::state::StateDirectory;

/// Releases what dead containers hold, then removes what containers share, and then the state directory itself. Waits
/// for starting containers.
pub fn prune(state: &StateDirectory) -> Result<()> {
    state.stop_starts()?;
    let any_running = state.sweep()?;
    let mut is_network_used = false;
    for record in state.shared("net ") {
        is_network_used |= net::is_used(state, &record)?;
    }
    let mut undone = Ok(());
    state.retain_shared(|line| match line.split_once(' ') {
        Some(("cgroup", record)) => !cgroup::undo(record),
        Some(("net", record)) if !is_network_used => {
            let failed = net::undo(record);
            // The rest is undone all the same.
            let is_left = failed.is_err();
            if is_left {
                undone = failed;
            }
            is_left
        }
        _ => true,
    })?;
    verity::sweep();
    undone?;
    if !any_running {
        state.leave();
    }
    Ok(())
}
