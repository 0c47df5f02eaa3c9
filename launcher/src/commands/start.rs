//! `kontena start` and `kontena restart`: the next run of a container, by the command line that it has kept.
//!
//! Must not read that line, nor know how a container is started: the parser is the one of `run`, and so is the rest.

use crate::commands::stop;
use crate::config::Config;
use crate::config::lifecycle::Again;
use crate::container;
use crate::error::{Context, Error, Result};
use crate::print;
use crate::state::{ContainerRecord, StateDirectory};
use crate::sys;
use rustix::process::chdir;
use std::ffi::CStr;

/// How a container is started.
pub struct Start {
    /// Reads a command line that was kept.
    pub read: fn(&[u8], Again) -> Result<Kept>,
    /// Whether the caller stays attached.
    pub again: Again,
}

/// A command line that was kept.
pub struct Kept {
    /// Relative paths begin here.
    pub directory: &'static CStr,
    /// Its options.
    pub config: &'static Config,
}

/// Starts a container; returns its exit status if the caller stays, or 0. As docker has it: a running one is started.
pub fn start(state: &StateDirectory, container: &ContainerRecord, start: &Start) -> Result<u8> {
    if is_ending(container) {
        state.wait_while(&container.name, &is_ending)?;
    } else if container.is_running {
        if start.again.attach {
            let hint = format!("kontena attach {} connects to it", container.name);
            return Err(Error::usage(format_args!("{} is running", container.name), &hint));
        }
        return print::answer(&format!("{}\n", container.name)).map(|()| 0);
    }
    prepare(state, container, start)?.run(state)
}

/// Whether a container has ended, and its launcher is about to: it still releases what the container held.
fn is_ending(container: &ContainerRecord) -> bool {
    container.is_running && container.exit.is_some() && container.restart.is_none()
}

/// Stops a container, if it is running, and starts it.
pub fn restart(state: &StateDirectory, container: &ContainerRecord, start: &Start, seconds: Option<u64>) -> Result<()> {
    // Before it is stopped, so that it is not stopped for nothing.
    let kept = prepare(state, container, start)?;
    stop::stop(state, container, seconds)?;
    kept.run(state).map(drop)
}

fn prepare(state: &StateDirectory, container: &ContainerRecord, start: &Start) -> Result<Kept> {
    let name = &container.name;
    if !container.is_kept {
        let hint = "it is in the foreground, or has --rm: only a container of create, run -d or run -t stays";
        return Err(Error::usage(format_args!("{name} cannot be started again"), hint));
    }
    (start.read)(&state.command(name)?, start.again)
}

impl Kept {
    fn run(&self, state: &StateDirectory) -> Result<u8> {
        let state = String::leak(state.real_path().into());
        let hint = "the container was created here: make the directory again, or delete the container";
        chdir(self.directory).context(format_args!("chdir {}", self.directory.to_string_lossy()), hint)?;
        // The launcher writes to those that have left, as the launcher of `run` does.
        sys::ignore_sigpipe();
        container::run(state, self.config)
    }
}
