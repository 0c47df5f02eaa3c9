//! In place of containers in the background, where kontena is built without them.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::state::{Journal, StateDirectory};

/// Refuses to start one.
pub fn run(_: &'static str, _: &'static Config) -> Result<u8> {
    Err(Error::without(format_args!("--detach and --tty"), "background"))
}

/// Takes the name of a new container.
pub fn take_name(root: &'static StateDirectory, config: &Config) -> Result<Journal<'static>> {
    root.create(config.name)
}

/// Creates none.
pub fn create(_: &str, _: &Config) -> Result<()> {
    Ok(())
}
