//! A container: what it holds on the host, its lives, and how it ended.
//!
//! Must not know how a process is started, nor how what it holds is made.

#[cfg(feature = "background")]
mod background;
#[cfg(not(feature = "background"))]
#[path = "background/without.rs"]
mod background;
pub mod exit;
mod lifecycle;
#[cfg(feature = "background")]
mod notify;
#[cfg(not(feature = "background"))]
#[path = "notify/without.rs"]
mod notify;
mod pidfile;
pub mod prune;
pub mod release;
mod restart;

use crate::config::Config;
use crate::error::Result;
use crate::net;
use crate::print;
use crate::spawn::sources::Sources;
use crate::state::StateDirectory;
use crate::sys;
use lifecycle::Container;
use release::{release, release_abandoned};

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

/// Runs a container; returns the payload's exit status or, in the background, that of its start.
pub fn run(state: &'static str, config: &'static Config) -> Result<u8> {
    if config.life.detach || config.life.tty {
        return background::run(state, config);
    }
    Container::create(state, config, None)?.run()
}
