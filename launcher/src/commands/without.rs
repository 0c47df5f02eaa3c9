//! In place of the commands about existing containers, where kontena is built without them.

use crate::error::Result;
use crate::state::StateDirectory;

/// There are none.
pub enum Command {}

/// Carries out none of them.
pub fn carry_out(_: &StateDirectory, command: &Command) -> Result<u8> {
    match *command {}
}

impl Command {
    /// None.
    pub fn preserve_fds(&self) -> u32 {
        match *self {}
    }
}
