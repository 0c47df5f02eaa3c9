//! In place of the command lines of commands about existing containers, where kontena is built without them.

use crate::cli::given::Given;
use crate::cli::options::Line;
use crate::cli::table::Verb;
use crate::commands::Command;
use crate::error::{Error, Result};

/// There are no such commands.
pub fn command(_: Verb, _: &Given, _: &Line<'_>) -> Result<Command> {
    Err(Error::without(format_args!("commands about existing containers"), "background"))
}

/// The same.
pub fn volume(_: &Given, _: &[&str]) -> Result<Command> {
    Err(Error::without(format_args!("volume"), "background"))
}
