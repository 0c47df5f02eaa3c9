//! In place of namespaces that bundles join, where kontena is built without bundles.

use crate::config::Config;
use crate::error::Result;
use crate::net::Network;
use crate::resources::userns::Maps;
use crate::spawn::clone::Elsewhere;

/// No namespaces.
pub struct Joined;

impl Joined {
    /// Opens nothing.
    pub fn open(_: &'static Config, _: bool, _: &Network<'_>) -> Result<Self> {
        Ok(Self)
    }

    /// There are no maps.
    pub fn maps(&self) -> Result<Option<Maps>> {
        Ok(None)
    }

    /// The container is cloned here.
    pub fn elsewhere(&self) -> Option<&dyn Elsewhere> {
        None
    }
}
