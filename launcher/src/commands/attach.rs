//! `kontena attach`: connects stdin, stdout and stderr to those of a container in the background.

use crate::error::{Error, Result};
use crate::spawn::plan;
use crate::state::StateDirectory;
use crate::supervise::attach::connect_to;
use crate::supervise::signals::Signals;
use crate::supervise::terminal::{HUNG_UP, Options, Outcome, Peer, attend};

/// Passes on output and, if it `takes_input`, input, until the container or the client leaves. Returns the exit status.
pub fn attach(state: &StateDirectory, name: &str, detach_keys: &[u8], takes_input: bool) -> Result<u8> {
    if !state.find(name)?.is_running {
        return Err(Error::usage(format_args!("{name} is not running"), "see kontena logs"));
    }
    let directory = state.directory(name)?;
    let socket = connect_to(&directory, name)?;
    let signals = Signals::block(true)?;
    let options =
        Options { detach_keys, takes_input, is_terminal: plan::has_terminal(&directory), until_it_runs: false };
    match attend(&Peer::Launcher { socket, child: None }, &signals, &options)? {
        Outcome::Ended(status) => Ok(status.unwrap_or(0)),
        Outcome::Detached | Outcome::Runs => Ok(0),
        Outcome::HungUp => Ok(HUNG_UP),
        Outcome::Lost => Err(Error::usage(format_args!("the launcher of {name} was killed"), "see kontena list")),
    }
}
