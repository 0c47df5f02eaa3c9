//! The command lines of bundles: `create --bundle`, `run --bundle`, `exec --process` and `update --resources`.
//!
//! Must not act on anything, but read the files that they name.

use crate::cli::engine::OF_BUNDLE;
use crate::cli::given::Given;
use crate::cli::options::Line;
use crate::cli::table::Verb;
use crate::cli::{activate, needs};
use crate::commands::{Command, exec};
use crate::config::Config;
use crate::config::bundle::BundleCgroup;
use crate::config::limits::Limit;
use crate::config::{name, wrong};
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::oci;
use crate::print;
use crate::sys;
use crate::text::{is_name, place_of};
use rustix::fs::OFlags;

/// Options that a container of a bundle has, too.
const OF_EITHER: &str = "detach preserve-fds";

/// The option that a container of a bundle has not, if there is one.
fn not_of_bundle(line: &Line<'_>) -> Option<&'static str> {
    let is_known = |name: &str| [OF_BUNDLE, OF_EITHER].iter().any(|names| place_of(name, names).is_some());
    line.options.iter().map(|(_, option, _)| option.name()).find(|name| !is_known(name))
}

/// Whether this line of `run` or `create` is about a bundle. As with runc, that is the working directory unless
/// `--bundle` says otherwise, where it has a config.json, and nothing that is called like the container.
pub fn is_meant(line: &Line<'_>) -> bool {
    let exists = |path: &str| file::open(CWD, path, OFlags::PATH).is_ok();
    let is_default = |name: &str| is_name(name) && exists(oci::FILE) && !exists(name);
    line.options.iter().any(|(_, option, _)| place_of(option.name(), OF_BUNDLE).is_some())
        || not_of_bundle(line).is_none() && matches!(line.command, [name] if name.to_str().is_some_and(is_default))
}

/// Checks the options of `create --bundle`, or of `run --bundle` if it `runs`, and reads the bundle.
pub fn config(given: &'static mut Given, line: &Line<'static>, runs: bool) -> Result<&'static Config> {
    print::answer_engine();
    if let Some(option) = not_of_bundle(line) {
        return Err(needs(option, "with --bundle its config.json says that: remove it"));
    }
    let config = &mut given.config;
    let mut names = line.names.iter().copied().chain(line.command.iter().filter_map(|name| name.to_str()));
    config.name = match (names.next(), names.next()) {
        (Some(text), None) => name(text).map_err(|hint| wrong("name", text, hint))?,
        (None, _) => return Err(Error::usage(format_args!("no name given"), "see kontena create --help")),
        (_, Some(other)) => {
            return Err(Error::usage(format_args!("unexpected argument {other}"), "see kontena create --help"));
        }
    };
    let is_foreground = runs && !std::mem::take(&mut config.life.detach);
    oci::read(given.bundle.directory.unwrap_or("."), config)?;
    activate(config)?;
    config.env.append(&mut config.activation);
    config.life.interactive = is_foreground;
    check_console(config.life.tty && !is_foreground, given.bundle.console)?;
    let Some(bundle) = &mut config.bundle else { return Ok(config) };
    (bundle.console, bundle.keeps) = (given.bundle.console, given.bundle.keeps);
    bundle.stays = is_foreground;
    if given.bundle.globals.has_no_cgroup {
        bundle.cgroup = BundleCgroup::Callers;
    }
    Ok(config)
}

/// A terminal is sent to a socket if nobody stays who would have it, and only then.
fn check_console(is_sent: bool, console: Option<&str>) -> Result<()> {
    let hint = match (is_sent, console) {
        (true, None) => {
            "the process has a terminal, and kontena does not stay with it: give one, or remove the terminal"
        }
        (false, Some(_)) => "there is no terminal to send: remove it, or set process.terminal and detach",
        _ => return Ok(()),
    };
    Err(needs("console-socket", hint))
}

/// Checks the options of `exec --process`, and reads the file.
pub fn process(given: &'static mut Given, line: &Line<'static>) -> Result<Command> {
    print::answer_engine();
    let [name] = line.names[..] else {
        return Err(Error::usage(
            format_args!("--process goes with one name, and no command"),
            "see kontena exec --help",
        ));
    };
    const KNOWN: &str = "process pid-file console-socket preserve-fds detach tty";
    if let Some((_, option, _)) = line.options.iter().find(|(_, option, _)| place_of(option.name(), KNOWN).is_none()) {
        return Err(needs(option.name(), "with --process the file says that: remove it"));
    }
    let config = &mut given.config;
    let is_terminal = config.life.tty;
    oci::read_process(given.bundle.process.unwrap_or_default(), config)?;
    config.life.tty |= is_terminal;
    check_console(config.life.tty && config.life.detach, given.bundle.console)?;
    config.life.interactive = true;
    let (capabilities, console) = (given.capabilities, given.bundle.console);
    let request = exec::Request { name, config, capabilities, console, is_whole: true };
    Ok(Command::Exec(Box::leak(Box::new(request))))
}

/// Makes the command of `kontena state` or `kontena events`, of a container.
pub fn look(verb: Verb, given: &Given, names: &[&'static str]) -> Result<Command> {
    let [name] = *names else {
        return Err(Error::usage(format_args!("no container given"), "see kontena list"));
    };
    Ok(match verb {
        Verb::State => Command::State(name),
        _ => Command::Events { name, interval: Some(given.bundle.interval).filter(|_| !given.stats) },
    })
}

/// Reads `linux.resources` of `update --resources`; `None` where that is not given.
pub fn resources(given: &Given) -> Result<Option<Vec<Limit>>> {
    let Some(path) = given.bundle.resources else { return Ok(None) };
    print::answer_engine();
    let bytes = match path {
        "-" => file::read_open(&rustix::io::fcntl_dupfd_cloexec(sys::standard_fd(0), 3).at(format_args!("fcntl"))?),
        path => file::read(CWD, path),
    };
    let bytes = bytes.context(format_args!("read {path}"), "--resources: use a file with linux.resources, or -")?;
    oci::read_resources(bytes.leak())
        .map(Some)
        .map_err(|wrong| Error::usage(format_args!("--resources {path}"), &wrong))
}
