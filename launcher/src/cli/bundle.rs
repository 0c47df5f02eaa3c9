//! The command line of `create --bundle`. Must not act on anything, but read the bundle.

use crate::cli::given::Given;
use crate::cli::needs;
use crate::cli::options::{Line, Opt, utf8};
use crate::cli::table::Verb;
use crate::commands::Command;
use crate::config::Config;
use crate::config::bundle::BundleCgroup;
use crate::config::{name, wrong};
use crate::error::{Error, Result};
use crate::oci;
use crate::print;

/// The option of `run` that no config.json has.
const PRESERVE_FDS: &str = "preserve-fds";

/// Checks the options of `create --bundle`, and reads the bundle.
pub fn config(given: &'static mut Given, line: &Line<'static>) -> Result<&'static Config> {
    print::answer_engine();
    let is_of_run = |option: &Opt| option.verbs & 1 << Verb::Run as u32 != 0 && option.name() != PRESERVE_FDS;
    if let Some((_, option, _)) = line.options.iter().find(|(_, option, _)| is_of_run(option)) {
        return Err(needs(option.name(), "with --bundle its config.json says that: remove it"));
    }
    let config = &mut given.config;
    config.name = match line.names[..] {
        [text] => name(text).map_err(|hint| wrong("name", text, hint))?,
        [] => return Err(Error::usage(format_args!("no name given"), "see kontena create --help")),
        [_, other, ..] => {
            return Err(Error::usage(format_args!("unexpected argument {other}"), "see kontena create --help"));
        }
    };
    oci::read(given.bundle.directory.unwrap_or("."), config)?;
    let Some(bundle) = &mut config.bundle else { return Ok(config) };
    bundle.console = given.bundle.console;
    if given.bundle.globals.has_no_cgroup {
        bundle.cgroup = BundleCgroup::Callers;
    }
    if config.life.tty != bundle.console.is_some() {
        let hint = "it goes with process.terminal of config.json: give both, or none";
        return Err(needs("console-socket", hint));
    }
    Ok(config)
}

/// Checks the options of `exec --process`, and reads the file.
pub fn process(given: &'static mut Given, line: &Line<'static>) -> Result<Command> {
    print::answer_engine();
    let [name] = line.command else {
        return Err(Error::usage(
            format_args!("--process goes with one name, and no command"),
            "see kontena exec --help",
        ));
    };
    let is_known =
        |name: &str| ["process", "pid-file", "console-socket", "preserve-fds", "detach", "tty"].contains(&name);
    if let Some((_, option, _)) = line.options.iter().find(|(_, option, _)| !is_known(option.name())) {
        return Err(needs(option.name(), "with --process the file says that: remove it"));
    }
    if !given.config.life.detach {
        return Err(needs("process", "it needs --detach: kontena does not stay beside the process"));
    }
    let is_terminal = given.config.life.tty;
    let config = &mut given.config;
    oci::read_process(given.bundle.process.unwrap_or_default(), config)?;
    config.life.tty |= is_terminal;
    if config.life.tty != given.bundle.console.is_some() {
        return Err(needs("console-socket", "it goes with terminal of the process: give both, or none"));
    }
    Ok(Command::ExecProcess { name: utf8(name)?, config, console: given.bundle.console })
}
