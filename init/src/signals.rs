//! Signals that only the launcher and the init send each other. Their numbers are those that every C library keeps for
//! itself (nptl(7)), so that nobody else sends them to a process.

/// For SIGSTOP, which would stop the init instead of its payload.
pub const STOP: u32 = 32;

/// Kills a process that has joined a container, and its process group.
pub const END: u32 = 33;
