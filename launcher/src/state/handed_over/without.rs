//! In place of containers that were handed over, where kontena is built without them: another kontena has made them,
//! and they are left alone.

use crate::state::{ContainerRecord, StateDirectory};

/// See the other module.
pub const STATE: &str = "state";
/// See the other module.
pub const START: &str = "start";
/// See the other module.
pub const HOOKS: &str = "hooks";

/// Whether the container has no launcher, but the caller. Whether it is running, the other kontena knows.
pub fn note(record: &mut ContainerRecord) -> bool {
    record.is_running |= record.handed_over.is_some();
    record.handed_over.is_some()
}

impl StateDirectory {
    /// None does.
    pub fn waits_for_start(&self, _: &str) -> bool {
        false
    }
}
