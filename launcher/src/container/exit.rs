//! How a container ended, by its leaf cgroup: the limits that it hit, and whether the kernel killed it.
//!
//! Must not decide what becomes of the container.

use crate::error::Error;
use crate::file::{self, CWD};
use crate::resources::cgroup::LeafEvents;
use crate::state::{ExitRecord, KILLED};

/// The exit record of a container, with the `events` of its leaf cgroup if that still exists.
pub fn exit_record(status: u8, events: Option<&LeafEvents<'_>>, reason: String) -> ExitRecord {
    let mut exit = ExitRecord::new(status, reason);
    if let Some(events) = events {
        let counted = events.counted();
        (exit.is_oom_killed, exit.limits) = (counted.is_oom_killed(), counted.limits(events.path).join(","));
    }
    exit
}

/// The error of a container of which the kernel has killed a process because there was no memory left. The caller sees
/// it, since neither a killed payload can report why, nor an init that was killed while it made the container.
pub fn out_of_memory(events: Option<&LeafEvents<'_>>) -> Option<Error> {
    let events = events?;
    let counted = events.counted();
    if !counted.is_oom_killed() {
        return None;
    }
    let hint = "the kernel killed one of its processes (oom_kill in memory.events): raise --memory";
    let max = file::read_text(CWD, &format!("{}/memory.max", events.path));
    let error = match max.trim_ascii_end().parse::<u64>() {
        // The kernel also counts those that it kills because memory is short elsewhere.
        _ if !counted.is_at_limit() => {
            let hint = "the kernel killed one of its processes (oom_kill in memory.events): free some memory";
            Error::usage(format_args!("the host, or a cgroup above the container's own, had no memory left"), hint)
        }
        Err(_) => Error::usage(format_args!("the container hit the memory limit of a cgroup above its own"), hint),
        Ok(bytes) => Error::usage(format_args!("the container hit its memory limit, {bytes} bytes"), hint),
    };
    Some(error.with_status(KILLED))
}
