//! Hooks of a bundle, in a Plan and beside it; the OCI's runtime-spec, config.md, "POSIX-platform Hooks".

use super::wire::{List, Wire, Writer, wire_structs};
use core::ffi::CStr;

wire_structs! {
    /// Hooks of one kind; the OCI's runtime-spec, config.md, "POSIX-platform Hooks".
    #[derive(Default)]
    pub struct Hooks<'a> {
        /// The container's state, which each of them reads from its standard input: the members of a JSON object, and
        /// its end. The init begins it, with its own pid.
        pub state: &'a CStr,
        /// In their order.
        pub hooks: List<'a, Hook<'a>>,
    }

    /// A program that is run when something becomes of a container.
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

    /// The hooks that run on the host when the container has been created, as the launcher keeps them.
    pub struct HostHooks<'a> {
        /// Their working directory: the bundle.
        pub directory: &'a CStr,
        /// Those of poststart.
        pub started: List<'a, Hook<'a>>,
        /// Those of poststop.
        pub stopped: List<'a, Hook<'a>>,
    }
}

/// How a hook has ended, in the place of the errno of a [`Report`], where it was executed: its exit status is added.
pub const HOOK_ENDED: i32 = 0x1000;
/// The same where a signal has ended it, whose number is added.
pub const HOOK_KILLED: i32 = 0x1100;
/// The same where it was killed since it took too long.
pub const HOOK_TIMED_OUT: i32 = 0x1200;
/// How much of the end of a hook's output goes to the launcher, before the Report.
pub const HOOK_OUTPUT: usize = 512;

/// For tests.
#[cfg(test)]
pub(super) const SAMPLE: Hook<'_> =
    Hook { path: c"/bin/a", arguments: List::Items(&[c"a", c""]), environment: List::Items(&[c"A=b"]), timeout: 9 };
