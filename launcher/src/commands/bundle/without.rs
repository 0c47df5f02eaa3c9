//! In place of the commands about containers of bundles, where kontena is built without them.

use crate::config::Format;
use crate::error::{Error, Result};
use crate::state::{ContainerRecord, StateDirectory};

/// None is.
pub fn is_handed_over(_: &ContainerRecord) -> bool {
    false
}

/// Another kontena knows.
pub fn status(_: &StateDirectory, _: &ContainerRecord) -> &'static str {
    "handed over"
}

/// It cannot be asked for.
pub fn state(_: &StateDirectory, _: &str) -> Result<()> {
    Err(Error::without(format_args!("state"), "oci"))
}

/// It cannot be asked for.
pub fn ps(_: &StateDirectory, _: &[&str], _: Format) -> Result<bool> {
    Ok(false)
}

/// It cannot be asked for.
pub fn start(_: &StateDirectory, _: &ContainerRecord) -> Result<()> {
    Ok(())
}

/// It cannot be asked for.
pub fn kill(_: &ContainerRecord, _: &StateDirectory, _: Option<u32>, _: bool) -> Result<()> {
    Ok(())
}

/// It cannot be asked for.
pub fn delete(_: &StateDirectory, _: &ContainerRecord, _: bool) -> Result<()> {
    Ok(())
}
