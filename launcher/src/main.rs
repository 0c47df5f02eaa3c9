//! kontena: the launcher. Everything that happens on the host; what happens in a container is kontena-init's.
//!
//! ```text
//! main → cli → commands → container → { supervise, net } → spawn → resources → state → config
//!      → { text, json, time, file, gather, print, error } → sys
//! ```
#![cfg_attr(not(test), no_main)]
#![deny(unsafe_code)]
// A smaller kontena leaves out what some of the rest is for.
#![cfg_attr(
    not(all(
        feature = "net",
        feature = "background",
        feature = "rootless",
        feature = "images",
        feature = "seccomp",
        feature = "oci"
    )),
    allow(dead_code, unused_imports)
)]

mod cli;
#[cfg(feature = "background")]
mod commands;
#[cfg(not(feature = "background"))]
#[path = "commands/without.rs"]
mod commands;
mod config;
mod container;
mod error;
mod file;
mod gather;
mod json;
#[cfg(feature = "net")]
mod net;
#[cfg(not(feature = "net"))]
#[path = "net/without.rs"]
mod net;
#[cfg(feature = "oci")]
mod oci;
mod print;
mod resources;
mod spawn;
mod state;
mod supervise;
#[allow(unsafe_code)]
mod sys;
mod text;
mod time;

use cli::Command;
use container::prune::prune;
use container::release::release_abandoned;
use state::StateDirectory;
use std::ffi::OsString;

/// The whole life of the process.
fn start(args: &'static [OsString]) -> ! {
    let status = cli::parse(args).and_then(|(root, command)| carry_out(root, command)).unwrap_or_else(|error| {
        print::complain(&error);
        print::status(&error)
    });
    sys::exit(status)
}

fn carry_out(state: String, command: Command) -> error::Result<u8> {
    // Never dropped: the process ends with it.
    let (command, state): (&Command, &str) = (Box::leak(Box::new(command)), String::leak(state));
    match command {
        Command::Print(text) => print::answer(text)?,
        Command::Run(config) => {
            // Everybody may read the arguments, as long as the container lives, and they have what `-e` gives.
            sys::set_title(&["run", "--name", config.name]);
            #[cfg(feature = "oci")]
            if config.bundle.is_some() {
                return commands::run_bundle::run(state, config);
            }
            return container::run(state, config);
        }
        Command::Create(config) => {
            sys::set_title(&["create", "--name", config.name]);
            container::create(state, config)?;
        }
        Command::Prune => prune(&open_state(state)?)?,
        #[cfg(feature = "oci")]
        Command::Spec(directory, is_rootless) => oci::spec::write(directory, *is_rootless)?,
        Command::Existing(command) => {
            // Before this process has opened anything that the numbers could be of.
            container::look_at_preserved(command.preserve_fds())?;
            return commands::carry_out(&open_state(state)?, command);
        }
    }
    Ok(0)
}

/// For commands that end when nobody reads what they print.
fn open_state(path: &str) -> error::Result<StateDirectory> {
    sys::restore_sigpipe();
    StateDirectory::open(path, release_abandoned)
}
