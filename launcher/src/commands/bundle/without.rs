//! In place of the commands about containers of bundles, where kontena is built without them.

use crate::config::{Config, Format};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::spawn::clone::Started;
use crate::state::{ContainerRecord, StateDirectory};
use kontena_init::plan::ProcessSpec;
use rustix::fd::OwnedFd;

pub use crate::state::not_running;

/// See the other module.
pub struct Joining<'a> {
    pub spec: ProcessSpec<'a>,
    pub listener: &'a [u8],
    pub directory: &'a OwnedFd,
    pub init: u32,
}

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

/// It has none.
pub fn add_state(_: &mut Json, _: &StateDirectory, _: &ContainerRecord) {}

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

/// It cannot be asked for.
pub fn hand_over(
    _: &str,
    _: &Config,
    _: Option<&str>,
    _: &Joining<'_>,
    _: &dyn Fn(u8) -> Result<Started>,
) -> Result<u8> {
    Ok(0)
}
