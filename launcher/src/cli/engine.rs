//! What engines write on a command line: options before the command, and those of `create --bundle`.
//!
//! Must not know the other options.

use crate::config::wrong;
use crate::error::{Error, Result};
use crate::print;
use std::ffi::OsString;

pub use crate::print::answer_engine;

/// Options before the command.
#[derive(Default)]
pub struct Globals {
    /// `--cgroup-manager disabled`.
    pub has_no_cgroup: bool,
}

/// The options of `create --bundle`.
#[derive(Default)]
pub struct Options {
    /// Those before the command.
    pub globals: Globals,
    /// `--bundle`.
    pub directory: Option<&'static str>,
    /// `--process`.
    pub process: Option<&'static str>,
    /// `--console-socket`.
    pub console: Option<&'static str>,
}

impl Options {
    /// Whether the container is one of a bundle.
    pub fn is_given(&self) -> bool {
        self.directory.is_some()
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
                let hint = "kontena does not ask systemd for cgroups: use the cgroupfs driver, with podman \
                            cgroup_manager=\"cgroupfs\", with containerd SystemdCgroup = false, with CRI-O \
                            cgroup_manager = \"cgroupfs\"";
                print::answer_engine();
                return Err(Error::usage(format_args!("{option}"), hint));
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
}

/// Whether the command line of `create` is that of a bundle, with options anywhere: `--bundle` stands in it, before the
/// name or behind it, and not in the command of a root file system.
pub fn has_bundle(args: &[OsString]) -> bool {
    let is_it = |arg: &OsString| {
        let text = arg.as_encoded_bytes();
        text == b"--bundle" || text == b"-b" || text.starts_with(b"--bundle=")
    };
    let is_option = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"-");
    let behind_name = args.iter().position(|arg| !is_option(arg)).and_then(|at| args.get(at + 1));
    let until = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let has_options = args.first().is_some_and(is_option) || behind_name.is_some_and(is_option);
    has_options && args[..until].iter().any(is_it)
}
