//! The command line of commands about containers that exist: all but `run` and `prune`.
//!
//! Must not act on anything.

use crate::cli::arguments;
#[cfg(feature = "oci")]
use crate::cli::bundle;
use crate::cli::given::Given;
use crate::cli::kept;
use crate::cli::options::{Line, utf8};
use crate::cli::table::Verb;
use crate::commands::start::Start;
use crate::commands::volume::Act;
use crate::commands::{Action, Command, exec};
use crate::config::lifecycle::Again;
use crate::config::limits::Limit;
use crate::config::volumes::{self, is_volume_name};
use crate::config::{Format, environment, lifecycle, wrong};
use crate::error::{Error, Result};
use crate::resources;
use crate::supervise::log;
use linux_raw_sys::general::SIGKILL;

/// Makes the command of a command line.
pub fn command(verb: Verb, given: &'static mut Given, line: &'static Line<'static>) -> Result<Command> {
    let (format, mut names) = (given.format.unwrap_or(Format::Table), &line.names[..]);
    // In runc's words: kill NAME SIGNAL. A container that is called so is meant by -s.
    let mut signal = given.signal;
    if verb == Verb::Kill
        && signal.is_none()
        && let [others @ .., last] = names
        && !others.is_empty()
        && let Ok(last) = lifecycle::signal(last)
    {
        (names, signal) = (others, Some(last));
    }
    let first = names.first().copied().unwrap_or_default();
    if names.is_empty() && !matches!(verb, Verb::Exec | Verb::List | Verb::Ps | Verb::Stats) {
        return Err(Error::usage(format_args!("no container given"), "see kontena list"));
    }
    let action = match verb {
        Verb::Exec => return request(given, line).map(Command::Exec),
        Verb::Attach => {
            let detach_keys = &given.config.life.detach_keys;
            return Ok(Command::Attach { name: first, detach_keys, takes_input: !given.no_stdin });
        }
        Verb::Ps if !names.is_empty() => {
            if given.quiet || given.all || !given.filters.is_empty() {
                let hint = "they are for a list of containers: remove them, or the names";
                return Err(Error::usage(format_args!("--quiet, --all and --filter"), hint));
            }
            return Ok(Command::Ps(names, format));
        }
        Verb::List | Verb::Ps => {
            return Ok(Command::List(Some(format).filter(|_| !given.quiet), &given.filters));
        }
        Verb::Logs => {
            let wanted = log::Wanted { since: given.since, tail: given.tail, timestamps: given.timestamps };
            return Ok(Command::Logs { name: first, wanted, follow: given.follow });
        }
        Verb::Stats => return Ok(Command::Stats { names, format, stream: given.stream }),
        Verb::Inspect => return Ok(Command::Inspect(names)),
        Verb::Wait => return Ok(Command::Wait(names)),
        Verb::Start => {
            let takes_input = given.config.life.interactive;
            Action::Start(Start { read: kept::read, again: Again { attach: given.attach || takes_input, takes_input } })
        }
        Verb::Restart => {
            let again = Again { attach: false, takes_input: false };
            Action::Restart(Start { read: kept::read, again }, given.time)
        }
        Verb::Stop => Action::Stop(given.time),
        Verb::Kill => Action::Kill { signal: signal.unwrap_or(SIGKILL), all: given.all, is_default: signal.is_none() },
        Verb::Pause => Action::Pause,
        Verb::Resume => Action::Resume,
        Verb::Update => Action::Update(limits(given)?),
        // The others do not come here.
        _ => Action::Delete { force: given.force, volumes: given.volumes },
    };
    Ok(Command::Each(names, action))
}

/// The limits of `kontena update`.
fn limits(given: &'static mut Given) -> Result<&'static [Limit]> {
    #[cfg(feature = "oci")]
    if let Some(found) = bundle::resources(given)? {
        // An engine may have nothing to change.
        given.limits.found.splice(..0, found);
        return Ok(&given.limits.found);
    }
    if given.limits.found.is_empty() {
        return Err(Error::usage(format_args!("no limit given"), "see kontena update --help"));
    }
    Ok(&given.limits.found)
}

/// Makes the command of `kontena volume`, from its own verb and what stands behind that.
pub fn volume(given: &Given, line: &'static [&'static str]) -> Result<Command> {
    let usage = |what| Error::usage(what, "see kontena volume --help");
    let Some((verb, names)) = line.split_first() else {
        return Err(usage(format_args!("no create, ls, inspect, rm or prune given")));
    };
    let act = match (*verb, names) {
        ("create", _) => Act::Create,
        ("ls" | "list", []) => Act::List(Some(given.format.unwrap_or(Format::Table)).filter(|_| !given.quiet)),
        ("inspect", [_, ..]) => Act::Inspect,
        ("rm" | "remove" | "delete", [_, ..]) => Act::Remove,
        ("prune", []) => Act::Prune { all: given.all },
        ("ls" | "list" | "prune", [name, ..]) => return Err(usage(format_args!("unexpected argument {name}"))),
        ("inspect" | "rm" | "remove" | "delete", []) => return Err(usage(format_args!("no volume given"))),
        _ => return Err(usage(format_args!("unknown command volume {verb}"))),
    };
    if let Some(name) = names.iter().find(|name| !is_volume_name(name)) {
        return Err(wrong("volume", name, volumes::NAME));
    }
    Ok(Command::Volume { directory: resources::volumes::directory(given.volumepath.as_deref())?, names, act })
}

/// Checks the options of `exec`.
fn request(given: &'static mut Given, line: &Line<'static>) -> Result<&'static exec::Request> {
    let Some((name, command)) = line.command.split_first().filter(|(_, command)| !command.is_empty()) else {
        return Err(Error::usage(format_args!("no NAME and COMMAND given"), "see kontena exec --help"));
    };
    let console = given.bundle.console();
    let config = &mut given.config;
    if config.life.detach && config.life.tty && console.is_none() {
        let hint = "they exclude each other: remove one";
        return Err(Error::usage(format_args!("--detach and --tty"), hint));
    }
    config.command = arguments(command)?;
    config.env = environment::read(&given.env_files, std::mem::take(&mut config.env))?;
    let (name, capabilities) = (utf8(name)?, given.capabilities);
    Ok(Box::leak(Box::new(exec::Request { name, config, capabilities, console, is_whole: false })))
}
