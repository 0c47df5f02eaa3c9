//! In place of namespaces of other containers, where kontena is built without containers in the background.

use crate::config::{Config, Share};
use crate::error::{Error, Result};
use crate::spawn::trees::Tree;
use crate::state::StateDirectory;

/// There are none.
pub struct Shared;

impl Shared {
    /// Refuses them.
    pub fn open(config: &Config, _: &StateDirectory) -> Result<Self> {
        match (config.ipc, config.uts) {
            (Share::Container(_), _) | (_, Share::Container(_)) => {
                Err(Error::without(format_args!("--ipc and --uts container:NAME"), "background"))
            }
            _ => Ok(Self),
        }
    }

    /// Does `what`.
    pub fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T> {
        Ok(what())
    }

    /// None.
    pub fn shm(&self) -> Result<Option<Tree>> {
        Ok(None)
    }
}
