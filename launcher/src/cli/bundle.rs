//! The command line of `create --bundle`. Must not act on anything, but read the bundle.

use crate::cli::given::Given;
use crate::cli::needs;
use crate::cli::options::{Line, Opt};
use crate::cli::table::Verb;
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
