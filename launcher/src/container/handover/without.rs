//! In place of containers that are handed over, where kontena is built without them.

use crate::config::Config;
use crate::error::{Error, Result};

/// Refuses to make one.
pub fn create(_: &str, _: &'static Config) -> Result<()> {
    Err(Error::without(format_args!("--bundle"), "oci"))
}
