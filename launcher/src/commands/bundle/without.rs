//! In place of the commands about containers of bundles, where kontena is built without them.

use crate::config::{Config, Format};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::spawn::clone::Started;
use crate::state::{ContainerRecord, StateDirectory};
use kontena_init::plan::ProcessSpec;
use rustix::fd::OwnedFd;

pub use crate::state::not_running;

/// A process that joins a container.
pub struct Joining<'a> {
    pub spec: ProcessSpec<'a>,
    pub listener: &'a [u8],
    pub directory: &'a OwnedFd,
    pub init: u32,
}

/// No container is.
pub fn is_handed_over(_: &ContainerRecord) -> bool {
    false
}

/// Only a kontena with this feature knows.
pub fn status(_: &StateDirectory, _: &ContainerRecord) -> &'static str {
    "handed over"
}

/// Is refused.
pub fn state(_: &StateDirectory, _: &str) -> Result<()> {
    Err(Error::without(format_args!("state"), "oci"))
}

/// Adds nothing.
pub fn add_state(_: &mut Json, _: &StateDirectory, _: &ContainerRecord) {}

/// Only kontena's own `ps` is there.
pub fn ps(_: &StateDirectory, _: &[&str], _: Format) -> Result<bool> {
    Ok(false)
}

/// Is never called.
pub fn start(_: &StateDirectory, _: &ContainerRecord) -> Result<()> {
    Ok(())
}

/// Is never called.
pub fn kill(_: &ContainerRecord, _: &StateDirectory, _: Option<u32>, _: bool) -> Result<()> {
    Ok(())
}

/// Is never called.
pub fn delete(_: &StateDirectory, _: &ContainerRecord, _: bool) -> Result<()> {
    Ok(())
}

/// Is never called.
pub fn hand_over(
    _: &str,
    _: &Config,
    _: Option<&str>,
    _: &Joining<'_>,
    _: &dyn Fn(u8) -> Result<Started>,
) -> Result<u8> {
    Ok(0)
}
