//! In place of containers that are handed over, where kontena is built without them.

use crate::config::Config;
use crate::config::bundle::Bundle;
use crate::container::lifecycle::{Container, Spawned};
use crate::error::{Error, Result};

/// Refuses to make one.
pub fn create(_: &str, _: &'static Config) -> Result<()> {
    Err(Error::without(format_args!("--bundle"), "oci"))
}

impl Container {
    /// Is never called.
    pub(super) fn before_pivot(&self, bundle: &Bundle, _: &mut Spawned) -> Result<()> {
        match *bundle {}
    }
}
