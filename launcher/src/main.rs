//! kontena: the launcher. Everything that happens on the host; what happens in a container is kontena-init's.
//!
//! ```text
//! main → cli → config → launch → { plan, cgroup, net, state } → file, sys,   and then supervise
//! ```
#![deny(unsafe_code)]

mod caps;
mod cgroup;
mod cli;
mod config;
mod devices;
mod error;
mod file;
mod launch;
mod limits;
mod names;
mod net;
mod plan;
mod process;
mod root;
mod state;
mod stats;
mod supervise;
#[allow(unsafe_code)]
mod sys;
mod userns;
mod volumes;

use cli::Command;
use rustix::thread::CapabilitySet;

fn main() {
    let args: Vec<_> = std::env::args_os().collect();
    let status = cli::parse(&args).and_then(carry_out).unwrap_or_else(|error| {
        print(2, &format!("kontena: {error}\n"));
        error.status()
    });
    sys::exit(status)
}

fn carry_out(command: Command) -> error::Result<u8> {
    // Never dropped: the process ends with it.
    match &*std::mem::ManuallyDrop::new(command) {
        Command::Print(text) => {
            print(1, text);
            Ok(0)
        }
        Command::Run(root, config) => launch::run(root, config),
        Command::Prune(root) => state::Root::open(root)?.prune().map(|()| 0),
    }
}

/// Whether this process is root of the host, or of a container that may do the same.
pub fn is_privileged() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// To stdout or stderr, in one write(2), as long as the reader takes it. Nobody may be there to read it.
#[inline(never)]
pub fn print(to: i32, text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty()
        && let Ok(written) = rustix::io::write(sys::standard_fd(to), rest)
    {
        rest = &rest[written..];
    }
}
