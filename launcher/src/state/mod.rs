//! The state of containers: a journal for each of what it holds on the host, written before it is acquired.
//!
//! `ROOT/NAME/journal` has one line for each thing taken, appended before it is. The launcher locks it for the
//! container's life: a journal that can be locked belongs to a dead container, and is undone. The ordinary end and the
//! repair after a SIGKILL are the same code. A line without its newline was never acted on. What other commands must
//! know of a container is in the same lines: its PID 1, and how it ended. The journal of a container that was started
//! in the background stays after its end, with that alone in it, until it is deleted.
//!
//! A journal says what was intended. Only what the container provably owns is undone: the cgroup with the number in the
//! journal, the lease in its name, the element that leads to its address.
//!
//! Beside the journal, and removed with it: [`journal::FILES`].
//!
//! `ROOT/.kontena` marks a state directory, and `ROOT/.swept` says which containers were looked after last. The
//! registry is for all state directories: `.leases` has a link for each lease, and `.host` is the journal of what all
//! containers share.
//!
//! Must not know how to undo anything: `container/release.rs` does, and comes here as a [`Release`].

mod abandoned;
mod directory;
mod entry;
mod exit;
#[cfg(feature = "oci")]
pub mod handed_over;
#[cfg(not(feature = "oci"))]
#[path = "handed_over/without.rs"]
pub mod handed_over;
mod journal;
mod lease;
mod mark;
mod record;
mod registry;
mod shared;
pub mod stop;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use directory::{StateDirectory, not_running, publisher};
pub use entry::{Cgroup, Entry, Init, PortRecord, Stop, VolumeRecord};
pub use exit::{ExitRecord, KILLED};
pub use journal::Journal;
pub use lease::Lease;
pub use record::ContainerRecord;
pub use registry::state_root;

/// Releases what a container holds whose launcher is gone, and closes its journal.
pub type Release = fn(Journal<'_>) -> crate::error::Result<()>;

/// The inode number of the pid namespace of this process.
pub fn pid_namespace() -> u64 {
    rustix::fs::stat(c"/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}
