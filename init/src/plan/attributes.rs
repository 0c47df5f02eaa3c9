//! Attributes of a process that only an OCI bundle can set: scheduling, memory policy, capabilities, labels.

use super::wire::{Wire, Writer, wire_structs};
use core::ffi::CStr;

wire_structs! {
    /// The attributes.
    #[derive(PartialEq, Eq)]
    pub struct Attributes<'a> {
        /// struct sched_attr of sched_setattr(2); empty for the default.
        pub scheduler: &'a [u8],
        /// ioprio_set(2): class and priority; 0 for the priority of its nice value.
        pub io_priority: u32,
        /// CPUs of a process that joins a container, a bit each, lowest first; sched_setaffinity(2). Empty for no
        /// change.
        pub cpus: &'a [u8],
        /// The same for the launcher that starts it.
        pub launchers_cpus: &'a [u8],
        /// personality(2); [`NONE`] for no change.
        pub personality: u32,
        /// set_mempolicy(2): the mode with its flags; [`NONE`] for no change.
        pub memory_mode: u32,
        /// The nodes of the policy, a bit each, lowest first.
        pub memory_nodes: &'a [u8],
        /// 1 if the following sets of capabilities count; 0 for the default sets of its user.
        pub has_sets: u8,
        /// Sets of capabilities, with bits as in [`super::ProcessSpec::capabilities`].
        pub permitted: u64,
        /// See `permitted`.
        pub effective: u64,
        /// See `permitted`.
        pub inheritable: u64,
        /// `PATH=TEXT`: TEXT is written to the file PATH below the process's /proc/PID before its exec.
        pub label: &'a CStr,
    }
}

/// Whether a number is in a set of bits, lowest first.
pub fn has(bits: &[u8], number: usize) -> bool {
    bits.get(number / 8).is_some_and(|byte| byte & 1 << (number % 8) != 0)
}

/// An attribute that is not set.
pub const NONE: u32 = u32::MAX;

/// The paths of the attributes in config.json, by their numbers in a [`Report`](super::Report).
pub const NAMES: [&str; 6] = [
    "process.scheduler",
    "process.ioPriority",
    "process.execCPUAffinity",
    "linux.personality",
    "linux.memoryPolicy",
    "process.apparmorProfile or process.selinuxLabel",
];
