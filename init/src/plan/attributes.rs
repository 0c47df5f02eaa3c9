//! What only a bundle of the OCI says of a process: how it is scheduled, where its memory is, what confines it.

use super::wire::{Wire, Writer, wire_structs};
use core::ffi::CStr;

wire_structs! {
    /// Such attributes.
    #[derive(PartialEq, Eq)]
    pub struct Attributes<'a> {
        /// struct sched_attr of sched_setattr(2); empty if it is scheduled as any other process.
        pub scheduler: &'a [u8],
        /// ioprio_set(2): class and priority; 0 for that of its nice value.
        pub io_priority: u32,
        /// CPUs of a process that joins a container, a bit each, lowest first; sched_setaffinity(2). Empty for those
        /// that it has.
        pub cpus: &'a [u8],
        /// The same, of the launcher that starts it.
        pub launchers_cpus: &'a [u8],
        /// personality(2); [`NONE`] for the one that it has.
        pub personality: u32,
        /// set_mempolicy(2): the mode with its flags; [`NONE`] for the one that it has.
        pub memory_mode: u32,
        /// The nodes of that, a bit each, lowest first.
        pub memory_nodes: &'a [u8],
        /// 1 if it has the following sets of capabilities; 0 if those of its user.
        pub has_sets: u8,
        /// Sets of capabilities, with bits as in [`super::ProcessSpec::capabilities`].
        pub permitted: u64,
        /// See `permitted`.
        pub effective: u64,
        /// See `permitted`.
        pub inheritable: u64,
        /// `PATH=TEXT`, written to files of the process's own, below /proc/PID, before its exec.
        pub label: &'a CStr,
    }
}

/// Whether a number is in a set of bits, lowest first.
pub fn has(bits: &[u8], number: usize) -> bool {
    bits.get(number / 8).is_some_and(|byte| byte & 1 << (number % 8) != 0)
}

/// No value of an attribute.
pub const NONE: u32 = u32::MAX;

/// Where a config.json has the attributes, as a [`Report`](super::Report) numbers them.
pub const NAMES: [&str; 6] = [
    "process.scheduler",
    "process.ioPriority",
    "process.execCPUAffinity",
    "linux.personality",
    "linux.memoryPolicy",
    "process.apparmorProfile or process.selinuxLabel",
];
