//! What this process says to whoever called it.
//!
//! Must not know the meaning of a text, nor its readers.

use crate::error::{Error, Result};
use crate::sys;
use rustix::io::Errno;

#[cfg(feature = "oci")]
mod engine;

#[cfg(feature = "oci")]
pub use engine::{answer_engine, fail_with, is_engine, log_as_json, log_to, status};

/// The exit status of a command that has failed.
#[cfg(not(feature = "oci"))]
pub fn status(error: &Error) -> u8 {
    error.status()
}

/// Tells a person what went wrong.
pub fn complain(error: &Error) {
    #[cfg(feature = "oci")]
    engine::log(error);
    #[cfg(feature = "oci")]
    if engine::is_engine() || error.is_missing() {
        // Engines tell it from what else there is by that word.
        return print(2, &format!("kontena: error: {error}\n"));
    }
    print(2, &format!("kontena: {error}\n"));
}

/// To stdout or stderr, in one write(2), as long as the reader takes it. Nobody may be there to read it.
pub fn print(to: i32, text: &str) {
    let _ = print_bytes(to, text.as_bytes());
}

/// What was asked for, to stdout.
pub fn answer(text: &str) -> Result<()> {
    print_bytes(1, text.as_bytes())
}

/// To stdout or stderr, for bytes that need not be text.
#[inline(never)]
pub fn print_bytes(to: i32, mut rest: &[u8]) -> Result<()> {
    while !rest.is_empty() {
        match sys::print(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            // Another process that shares the open file has set O_NONBLOCK.
            Err(Errno::AGAIN) => sys::sleep(10_000),
            Err(errno) => {
                let stream = if to == 1 { "output" } else { "error" };
                return Err(Error::new(format_args!("write to the standard {stream}"), errno, ""));
            }
        }
    }
    Ok(())
}
