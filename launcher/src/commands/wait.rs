//! `kontena wait`: waits for the end of containers.

use crate::commands::for_each_container;
use crate::error::Result;
use crate::print;
use crate::state::StateDirectory;

/// Prints the exit status of each, and returns the last.
pub fn wait(state: &StateDirectory, names: &[&str]) -> Result<u8> {
    let mut status = 0;
    for_each_container(state, names, &mut |name| {
        status = state.wait(name)?.status;
        print::answer(&format!("{status}\n"))
    })?;
    Ok(status)
}
