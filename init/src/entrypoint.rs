//! kontena-init as the ENTRYPOINT of any image: `kontena-init [-g] [--] CMD [ARG…]` runs CMD, forwards signals to it
//! and reaps orphans.
//!
//! Must not need a Plan, a privilege or a file system.

use rustix::process::{Pid, Signal, getpid, set_child_subreaper, setpgid};

use crate::failure::{INIT_FAILED, complain, exec_failure_status};
use crate::payload;
use crate::reap::{Target, kill_the_rest, supervise};
use crate::sys::{self, Strings};

/// PID 1 for somebody else's container; returns CMD's exit status.
pub fn run(mut arguments: Strings, environment: Strings) -> i32 {
    let mut target = Target::Process;
    let mut command = arguments;
    while let Some(argument) = command.next() {
        match argument.to_bytes() {
            b"-g" => target = Target::Group,
            b"--" => {
                arguments = command;
                break;
            }
            [b'-', ..] => return usage(),
            _ => break,
        }
        arguments = command;
    }
    if { arguments }.next().is_none() {
        return usage();
    }
    run_command(arguments, environment, target)
}

fn run_command(command: Strings, environment: Strings, target: Target) -> i32 {
    let mask = sys::set_signal_mask(u64::MAX);
    // Where it is ignored, the kernel reaps the payload, and no signal tells of its end.
    sys::reset_signals(Signal::CHILD.as_raw()..=Signal::CHILD.as_raw());
    if getpid() != Pid::INIT {
        // Orphans of the payload come here instead of to the machine's init. Any pid switches it on; prctl(2).
        let _ = set_child_subreaper(Some(Pid::INIT));
    }
    match sys::fork(0) {
        Ok(None) => {
            // A group of its own, in the foreground where there is a terminal, so that Ctrl-C reaches it once.
            let _ = setpgid(None, None);
            let _ = sys::set_foreground_group(getpid());
            sys::set_signal_mask(mask);
            execute(command, environment)
        }
        Ok(Some(payload)) => {
            let code = supervise(payload, target);
            kill_the_rest();
            code
        }
        Err(_) => {
            complain(&[b"cannot fork: no processes or memory left"]);
            INIT_FAILED
        }
    }
}

/// Becomes CMD; or says why not, and returns the exit status for it.
pub fn execute(command: Strings, environment: Strings) -> i32 {
    let errno = payload::exec(command, environment, &mut |_| ());
    complain(&[b"cannot execute ", { command }.next().unwrap_or_default().to_bytes()]);
    exec_failure_status(errno)
}

pub fn usage() -> i32 {
    complain(&[b"usage: kontena-init [-g] [--] CMD [ARG...]\nRuns CMD, forwards signals to it (-g: to its process \
                 group), reaps orphans, and exits with its status.\nkontena-init --boot CMD [ARG...]: the same as \
                 PID 1 of a machine, which it powers off in the end."]);
    INIT_FAILED
}
