//! Hooks of a bundle, in a Plan and beside it; the OCI's runtime-spec, config.md, "POSIX-platform Hooks".

use super::wire::{List, Wire, Writer, wire_structs};
use core::ffi::CStr;

wire_structs! {
    /// Hooks of one kind; the OCI's runtime-spec, config.md, "POSIX-platform Hooks".
    #[derive(Default)]
    pub struct Hooks<'a> {
        /// The container's state, for the hooks' standard input: a JSON object without its beginning. The init adds the
        /// beginning, with its own pid.
        pub state: &'a CStr,
        /// The hooks, in their order.
        pub hooks: List<'a, Hook<'a>>,
    }

    /// A program to run at some point in a container's life.
    pub struct Hook<'a> {
        /// An absolute path.
        pub path: &'a CStr,
        /// Its arguments, its name first; never empty.
        pub arguments: List<'a, &'a CStr>,
        /// Its whole environment.
        pub environment: List<'a, &'a CStr>,
        /// Seconds until it is killed; 0 for never.
        pub timeout: u32,
    }

    /// Hooks that run on the host after `create`, as the launcher saves them.
    pub struct HostHooks<'a> {
        /// Their working directory: the bundle.
        pub directory: &'a CStr,
        /// The poststart hooks.
        pub started: List<'a, Hook<'a>>,
        /// The poststop hooks.
        pub stopped: List<'a, Hook<'a>>,
    }
}

/// How an executed hook ended, in place of the errno of a [`Report`]: this plus its exit status.
pub const HOOK_ENDED: i32 = 0x1000;
/// The same for a hook that was killed by a signal: this plus the signal's number.
pub const HOOK_KILLED: i32 = 0x1100;
/// The same for a hook that was killed after its timeout.
pub const HOOK_TIMED_OUT: i32 = 0x1200;
/// How many bytes from the end of a hook's output are sent to the launcher before the Report.
pub const HOOK_OUTPUT: usize = 512;

/// For tests.
#[cfg(test)]
pub(super) const SAMPLE: Hook<'_> =
    Hook { path: c"/bin/a", arguments: List::Items(&[c"a", c""]), environment: List::Items(&[c"A=b"]), timeout: 9 };
