//! What engines write on a command line: options before the command, and those of bundles; and which lines are about a
//! bundle.
//!
//! Must not know the other options.

use crate::cli::table::Verb;
use crate::config::wrong;
use crate::error::{Error, Result};
use crate::print;
use crate::text::place_of;
use std::ffi::OsString;
use std::time::Duration;

/// Options before the command.
#[derive(Default)]
pub struct Globals {
    /// `--cgroup-manager disabled`.
    pub has_no_cgroup: bool,
    /// `--systemd-cgroup`, as it is given.
    systemd: Option<&'static str>,
}

/// The options of containers of bundles, and of what engines ask for otherwise.
pub struct Options {
    /// Those before the command.
    pub globals: Globals,
    /// `--bundle`.
    pub directory: Option<&'static str>,
    /// `--process`.
    pub process: Option<&'static str>,
    /// `--console-socket`.
    pub console: Option<&'static str>,
    /// `--keep`.
    pub keeps: bool,
    /// `--resources`.
    pub resources: Option<&'static str>,
    /// `--rootless`, of `spec`.
    pub is_rootless: bool,
    /// `--interval`.
    pub interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            globals: Globals::default(),
            directory: None,
            process: None,
            console: None,
            keeps: false,
            resources: None,
            is_rootless: false,
            interval: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// `--console-socket`.
    pub fn console(&self) -> Option<&'static str> {
        self.console
    }
}

impl Globals {
    /// Takes an option that stands before the command, with its value, if it is one that engines use.
    pub fn take(&mut self, text: &'static str, rest: &mut &'static [OsString]) -> Result<bool> {
        let (option, given) = text.split_once('=').map_or((text, None), |(option, value)| (option, Some(value)));
        match option {
            "--log" | "--log-format" | "--cgroup-manager" | "--rootless" => {}
            "--debug" => {
                print::answer_engine();
                return Ok(true);
            }
            "--systemd-cgroup" | "-s" => {
                self.systemd = Some(option);
                print::answer_engine();
                return Ok(true);
            }
            _ => return Ok(false),
        }
        print::answer_engine();
        let value = match (given, rest.split_first()) {
            (Some(value), _) => value,
            (None, Some((value, behind))) => {
                *rest = behind;
                value.to_str().ok_or_else(|| Error::usage(format_args!("{option}"), "not UTF-8: options are text"))?
            }
            (None, None) => return Err(Error::usage(format_args!("{option} needs a value"), "see kontena --help")),
        };
        match (option, value) {
            ("--log", path) => print::log_to(path),
            ("--log-format", format) => print::log_as_json(format == "json"),
            ("--cgroup-manager", "cgroupfs") | ("--rootless", "true" | "false" | "auto") => {}
            ("--cgroup-manager", "disabled") => self.has_no_cgroup = true,
            ("--cgroup-manager", _) => return Err(wrong(option, value, "use cgroupfs or disabled")),
            _ => return Err(wrong(option, value, "use true, false or auto")),
        }
        Ok(true)
    }

    /// Refuses `--systemd-cgroup`, when all options before the command are known: conmon writes it before that of the
    /// log, where the engine looks for the error.
    pub fn check(&self) -> Result<()> {
        let hint = "kontena does not ask systemd for cgroups: use the cgroupfs driver, with podman and CRI-O \
                    cgroup_manager = \"cgroupfs\", with containerd SystemdCgroup = false";
        self.systemd.map_or(Ok(()), |option| Err(Error::usage(format_args!("{option}"), hint)))
    }
}

/// Sets the exit status of an engine's command that fails, runc's: that of `exec` is the process's otherwise. Some
/// commands are nobody else's.
pub fn tell_verb(verb: Verb) {
    print::fail_with(if verb == Verb::Exec { 255 } else { 1 });
    if matches!(verb, Verb::State | Verb::Features | Verb::Spec | Verb::Events) {
        print::answer_engine();
    }
}

/// Options that only a container of a bundle has.
pub const OF_BUNDLE: &str = "bundle pid-file console-socket keep no-pivot no-new-keyring no-subreaper";

/// Whether a command line is one of a bundle or of a process.json, with options anywhere: one of their options is among
/// those that are `given` before the name, or options begin `behind` it and one is among them.
pub fn has_its_options<'a>(verb: Verb, mut given: impl Iterator<Item = &'a str>, behind: &[OsString]) -> bool {
    let (names, letter) = if verb == Verb::Exec { ("process", b'p') } else { (OF_BUNDLE, b'b') };
    let is_it = |arg: &OsString| match arg.as_encoded_bytes() {
        [b'-', b'-', name @ ..] => {
            let name = name.split(|byte| *byte == b'=').next().unwrap_or_default();
            names.split(' ').any(|known| known.as_bytes() == name)
        }
        [b'-', first, ..] => *first == letter,
        _ => false,
    };
    let until = behind.iter().position(|arg| arg == "--").unwrap_or(behind.len());
    let has_options = behind.first().is_some_and(|arg| arg.as_encoded_bytes().starts_with(b"-"));
    given.any(|name| place_of(name, names).is_some()) || has_options && behind[..until].iter().any(is_it)
}
