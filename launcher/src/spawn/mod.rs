//! From a Config to a process of the init: its Plan, the fds that it inherits, and clone3(2).
//!
//! Must not wait for that process, nor know what becomes of it.

pub mod clone;
mod defaults;
pub mod explain;
pub mod join;
pub mod plan;
pub mod sources;
pub mod trees;
