//! kontena: the launcher. Everything that happens on the host; what happens in a container is kontena-init's.
//!
//! ```text
//! main → cli → config → launch → { plan, cgroup, net, state } → start → supervise → { output, health, ready } → file, sys
//!            ↘ exec → join ↗  ↘ deeds, show → state
//! ```
#![cfg_attr(not(test), no_main)]
#![deny(unsafe_code)]

mod attach;
mod background;
mod caps;
mod cgroup;
mod cli;
mod config;
mod deeds;
mod devices;
mod ended;
mod error;
mod exec;
mod explain;
mod file;
mod health;
mod join;
mod json;
mod launch;
mod life;
mod limits;
mod log;
mod names;
mod net;
mod options;
mod output;
mod plan;
mod process;
mod ready;
mod root;
mod show;
mod start;
mod state;
mod stats;
mod supervise;
#[allow(unsafe_code)]
mod sys;
mod terminal;
mod time;
mod userns;
mod volumes;

use cli::Command;
use rustix::thread::CapabilitySet;
use state::Root;
use std::ffi::OsString;

/// The whole life of the process.
fn start(args: &[OsString]) -> ! {
    let status = cli::parse(args).and_then(|(root, command)| carry_out(&root, command)).unwrap_or_else(|error| {
        complain(&error);
        error.status()
    });
    sys::exit(status)
}

fn carry_out(state: &str, command: Command) -> error::Result<u8> {
    // Never dropped: the process ends with it.
    let command = &*std::mem::ManuallyDrop::new(command);
    match command {
        Command::Print(text) => print(1, text),
        Command::Run(config) => return launch::run(state, config),
        _ => return look_after(state, command),
    }
    Ok(0)
}

/// What there is to do about containers that are there. Apart, so that nothing of it is on the stack of one that runs.
#[inline(never)]
fn look_after(state: &str, command: &Command) -> error::Result<u8> {
    sys::restore_sigpipe();
    let root = Root::open(state)?;
    match command {
        Command::Print(_) | Command::Run(_) => {}
        Command::Exec(request) => return exec::run(&root, request),
        Command::Attach(name, keys, takes_input) => return deeds::attach(&root, name, keys, *takes_input),
        Command::Each(names, deed) => deeds::carry_out(&root, names, deed)?,
        Command::Wait(names) => return deeds::wait(&root, names),
        Command::List(format) => show::list(&root, *format)?,
        Command::Ps(names, format) => show::ps(&root, names, *format)?,
        Command::Logs(name, wanted, follow) => show::logs(&root, name, wanted, *follow)?,
        Command::Stats(names, format, stream) => show::stats(&root, names, *format, *stream)?,
        Command::Inspect(names) => show::inspect(&root, names)?,
        Command::Prune => root.prune()?,
    }
    Ok(0)
}

/// Tells a person what went wrong.
pub fn complain(error: &error::Error) {
    print(2, &format!("kontena: {error}\n"));
}

/// Whether this process is root of the host, or of a container that may do the same.
pub fn is_privileged() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// To stdout or stderr, in one write(2), as long as the reader takes it. Nobody may be there to read it.
pub fn print(to: i32, text: &str) {
    print_bytes(to, text.as_bytes());
}

/// The same for bytes that need not be text.
#[inline(never)]
pub fn print_bytes(to: i32, mut rest: &[u8]) {
    while !rest.is_empty()
        && let Ok(written) = rustix::io::retry_on_intr(|| rustix::io::write(sys::output_fd(to), rest))
    {
        rest = &rest[written..];
    }
}
