//! kontena: the launcher. Everything that happens on the host; what happens in a container is kontena-init's.
//!
//! ```text
//! main → cli → config → launch → { plan, cgroup, net, state } → sys,   and then supervise
//! ```
#![deny(unsafe_code)]

mod cgroup;
mod cli;
mod config;
mod error;
mod launch;
mod net;
mod plan;
mod state;
mod supervise;
#[allow(unsafe_code)]
mod sys;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match carry_out() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(error.status)
        }
    }
}

fn carry_out() -> error::Result<u8> {
    match cli::parse(std::env::args_os())? {
        cli::Command::Print(text) => {
            let _ = write!(std::io::stdout(), "{text}");
            Ok(0)
        }
        cli::Command::Run(root, config) => launch::run(&root, &config),
        cli::Command::Prune(root) => state::Root::open(&root)?.prune().map(|()| 0),
    }
}
