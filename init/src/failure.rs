//! What becomes of a process of the init's that has failed: a Report for the launcher, a line on standard error, an
//! exit status.

use kontena_init::plan::{Report, Step};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, write};

use crate::sys;

/// The init's own exit status where the payload could not even be tried.
pub const INIT_FAILED: i32 = 125;

/// Turns an errno into the report of a step, and of the object with this index or id.
pub fn fail(step: Step, index: u16) -> impl FnOnce(Errno) -> Report {
    move |errno| Report { step, index, errno: errno.raw_os_error() }
}

/// Sends the report to the launcher, which may be gone, and returns the exit status of this process.
pub fn give_up(status: &OwnedFd, report: Report) -> i32 {
    let _ = write(status, &report.to_bytes());
    match report.step {
        Step::Exec => exec_failure_status(Errno::from_raw_os_error(report.errno)),
        _ => INIT_FAILED,
    }
}

/// The exit status that says why the payload could not be executed, as the shell has it.
pub fn exec_failure_status(errno: Errno) -> i32 {
    if matches!(errno, Errno::NOENT | Errno::NOTDIR) { 127 } else { 126 }
}

/// Writes a line to standard error.
pub fn complain(parts: &[&[u8]]) {
    let [_, _, stderr] = sys::stdio();
    for part in [b"kontena-init: " as &[u8]].iter().chain(parts).chain(&[b"\n" as &[u8]]) {
        let _ = write(stderr, part);
    }
}
