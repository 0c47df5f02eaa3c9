//! `kontena create`: a container that is not running, and the name of one that starts again.
//!
//! Must not start anything.

use crate::config::Config;
use crate::container::release::{release, release_abandoned};
use crate::error::Result;
use crate::net;
use crate::print;
use crate::spawn::sources::Sources;
use crate::state::{Journal, StateDirectory};
use crate::sys;

/// Makes a container that is not running: its record, and the command line that starts it.
pub fn create(state: &str, config: &'static Config) -> Result<()> {
    net::choose(config, sys::is_privileged())?;
    drop(Sources::open(config)?);
    config.replace.map_or(Ok(()), |replace| replace(state, config.name))?;
    let mut root = StateDirectory::open(state, release_abandoned)?;
    root.starting()?;
    let mut journal = root.create(config.name)?;
    match journal.keep(&config.line) {
        Ok(()) => print::answer(&format!("{}\n", config.name)),
        Err(error) => release(journal, None, Vec::new()).and(Err(error)),
    }
}

/// Takes the name of a new container, or that of one that starts again.
pub fn take_name(root: &'static StateDirectory, config: &Config) -> Result<Journal<'static>> {
    if config.life.again.is_some() { root.reopen(config.name) } else { root.create(config.name) }
}
