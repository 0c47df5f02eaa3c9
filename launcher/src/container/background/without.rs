//! In place of containers in the background, where kontena is built without them.

use crate::config::Config;
use crate::error::{Error, Result};

/// Refuses to start one.
pub fn run(_: &'static str, _: &'static Config) -> Result<u8> {
    Err(Error::without(format_args!("--detach and --tty"), "background"))
}
