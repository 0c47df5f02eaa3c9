//! The environment of a command: defaults, files, and variables that are given one by one.
//!
//! Must not touch the system, but for the files that `--env-file` names and this process's own environment.

use crate::config::process::env_file;
use crate::error::Result;
use crate::sys;
use crate::text::c_static;
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;

/// The command where none is given.
pub const DEFAULT_COMMAND: &CStr = c"/bin/sh";
/// The variable that says where commands are looked for.
pub const DEFAULT_PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of files, and then those that are given one by one.
pub fn read(files: &[&str], mut variables: Vec<&'static CStr>) -> Result<Vec<&'static CStr>> {
    let mut given = Vec::new();
    for path in files {
        given.append(&mut env_file(path)?);
    }
    given.append(&mut variables);
    Ok(given)
}

/// Sets variables that replace those of the same name.
pub fn set<'a>(env: &mut Vec<&'a CStr>, given: Vec<&'a CStr>) {
    for variable in given {
        env.retain(|other| key(other) != key(variable));
        env.push(variable);
    }
}

/// The name of an environment variable.
fn key(variable: &CStr) -> &[u8] {
    variable.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// The variable TERM of a command on a terminal: the caller's.
pub fn term() -> Result<&'static CStr> {
    let term = sys::variable("TERM").filter(|term| !term.is_empty());
    c_static([&b"TERM="[..], term.map_or(b"xterm", OsStrExt::as_bytes)].concat())
}
