//! The command line of a container as it is kept, for `start`, which reads it with the parser of `run`. Must not act on
//! anything.
//!
//! NUL-terminated: the working directory; the directory of the volumes, or nothing; for each volume without a name the
//! one that it has got, and its target behind it; an empty string; the profile of system calls, or nothing; the
//! variables, since those of the caller and its `--env-file` are gone later; an empty string; and the arguments of
//! `run`.

use crate::cli::given::Given;
use crate::cli::options::{Kind, Line};
use crate::cli::table::VERBS;
use crate::cli::{config, set};
use crate::commands::start::Kept;
use crate::config::lifecycle::Again;
use crate::config::volumes::kept_on;
use crate::error::Result;
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::text::{self, c_static};
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Options that are written in another way, since files may be gone later, or are for the first start alone.
const OTHERS: &[&str] = &["detach", "env", "env-file", "label", "label-file", "name", "replace"];

/// Writes the command line that was read into `given`, with its variables.
pub fn write(line: &Line<'_>, given: &Given, env: &[&CStr]) -> Vec<u8> {
    let (config, volumepath) = (&given.config, given.volumepath.as_deref());
    // Of a directory that has been removed, or has a name that is no text, nothing leads on later.
    let own = || file::read_link(CWD, "/proc/self/cwd").unwrap_or_default().into_bytes();
    let directory = given.directory.map_or_else(own, |directory| directory.to_bytes().to_vec());
    let mut text = [&*directory, b"\0", volumepath.unwrap_or_default().as_bytes(), b"\0"].concat();
    for volume in &config.volumes {
        if let Some(named) = volume.named.filter(|named| named.is_anonymous) {
            text.extend_from_slice(named.name.as_bytes());
            text.extend_from_slice(volume.target.to_bytes_with_nul());
        }
    }
    // An image may have lost a volume, and get it back.
    let is_on = |kept| config.volumes.iter().any(|volume| kept_on(kept, volume.target).is_some());
    for kept in given.anonymous.iter().copied().filter(|kept| !is_on(*kept)) {
        text.extend_from_slice(kept.as_bytes());
        text.push(0);
    }
    text.push(0);
    // No JSON has a NUL.
    text.extend_from_slice(given.profile.as_deref().unwrap_or_default());
    text.push(0);
    env.iter().for_each(|variable| text.extend_from_slice(variable.to_bytes_with_nul()));
    text.extend_from_slice(b"\0--detach\0--name=");
    text.extend_from_slice(config.name.as_bytes());
    for (_, option, value) in &line.options {
        let name = option.name();
        if OTHERS.contains(&name) {
            continue;
        }
        let has_value = option.kind != Kind::Switch && (option.kind != Kind::Optional || !value.is_empty());
        let (equals, value) = if has_value { ("=", *value) } else { ("", "") };
        ["\0--", name, equals, value].iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
    }
    // Behind those of the image, which is read again, as all else of it.
    config
        .labels
        .iter()
        .skip(given.said.labels.len())
        .for_each(|label| text.extend_from_slice(&[b"\0--label=", label.as_bytes()].concat()));
    text.extend_from_slice(b"\0--\0");
    for argument in line.command {
        text.extend_from_slice(argument.as_bytes());
        text.push(0);
    }
    text
}

/// Reads it.
pub fn read(text: &[u8], again: Again) -> Result<Kept> {
    let mut strings = text.split(|byte| *byte == 0);
    let directory = c_static(strings.next().unwrap_or_default())?;
    let volumepath = text::from_bytes(strings.next().unwrap_or_default());
    let anonymous = strings.by_ref().take_while(|volume| !volume.is_empty()).list();
    let profile = strings.next().unwrap_or_default();
    let mut env = Vec::new();
    for variable in strings.by_ref().take_while(|variable| !variable.is_empty()) {
        env.push(c_static(variable)?);
    }
    let mut arguments: Vec<OsString> = strings.map(|argument| OsStr::from_bytes(argument).into()).list();
    // Behind the last NUL there is nothing.
    arguments.pop();
    let run = &VERBS[0];
    let line = Box::leak(Box::new(run.read(arguments.leak())?));
    let given = set(run, line, directory.to_bytes())?;
    given.directory = Some(directory);
    given.volumepath = Some(volumepath).filter(|path| !path.is_empty());
    given.anonymous = anonymous.iter().map(|volume| &*text::from_bytes(volume).leak()).list();
    given.profile = Some(profile.to_vec()).filter(|profile| !profile.is_empty());
    given.config.env = env;
    given.config.life.again = Some(again);
    config(given, line).map(|config| Kept { directory, config })
}
