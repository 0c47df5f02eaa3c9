//! What an image says of itself: options of `run`, which are set before those of the command line, and a command.
//!
//! The words are somebody else's. All of them are `--NAME=VALUE` of the few that say something about the container
//! alone, up to a `--`; nothing that the host has to give. Must not act on anything.

use crate::cli::given::{Given, add_volume};
use crate::cli::options::{Entry, Kind, Line};
use crate::config::Overlay;
use crate::config::image::Image;
use crate::config::lifecycle::{self, Health};
use crate::error::{Error, Hint, Result};
use crate::resources::image;
use crate::text::{c_static, has, is_made, place_of};
use std::ffi::CStr;

/// The options that an image may have.
const ALLOWED: &str = "entrypoint env expose health-cmd health-interval health-retries health-start-period \
    health-timeout label no-healthcheck stop-signal user volume workdir";

/// The most options of an image: each label is compared with all others.
const MOST: u32 = 1000;
const TOO_MANY: &str = "it is one of more than 1000 options";

/// Sets the options of the image, or the directory, at `path`, for a line of `verb`.
pub fn set(path: &CStr, image: Option<&Image>, verb: &Entry, line: &Line<'static>, given: &mut Given) -> Result<()> {
    let words = image.map_or_else(|| image::words_beside(path), image::words);
    let shown = path.to_string_lossy();
    let words = words.map_err(|hint| Error::usage(format_args!("image-config of {shown}"), hint))?;
    let Some(words) = words else {
        // There was one when the device was made.
        let hint = "it cannot be read any more: the image was changed";
        let is_gone = line.has("verify");
        return if is_gone { Err(Error::usage(format_args!("--verify {shown}"), hint)) } else { Ok(()) };
    };
    let (mut words, mut number, mut is_command): (&str, _, _) = (words.leak(), 0, false);
    while let Some((word, behind)) = words.split_once('\0') {
        (words, number) = (behind, number + 1);
        if is_command {
            given.said.command.push(c_static(word)?);
        } else if word == "--" {
            is_command = true;
        } else if let Err(hint) = if number > MOST { Err(TOO_MANY) } else { set_one(word, verb, line, given) } {
            // What is behind the = may be a secret.
            let (name, _) = word.split_once('=').unwrap_or((word, ""));
            return Err(Error::usage(format_args!("{name} in the image-config of {shown}"), hint));
        }
    }
    let said = &mut given.said;
    (said.env, said.labels) = (std::mem::take(&mut given.config.env), std::mem::take(&mut given.config.labels));
    said.volumes = std::mem::take(&mut given.config.volumes);
    // What the command line says of these does not go with what the image says.
    if line.has("entrypoint") {
        said.command = Vec::new();
    }
    if line.has("health-cmd") || line.has("no-healthcheck") {
        given.health = Health::new();
    }
    // Programs of images write to their root, as docker lets them; the file cannot change.
    if image.is_some() && !line.has("read-only") {
        given.config.overlay = Overlay::Memory;
    }
    Ok(())
}

fn set_one(word: &'static str, verb: &Entry, line: &Line<'static>, given: &mut Given) -> std::result::Result<(), Hint> {
    let (dashed, value) = word.split_once('=').unwrap_or((word, ""));
    let name = dashed.strip_prefix("--").filter(|name| place_of(name, ALLOWED).is_some());
    let name = name.ok_or("an image cannot ask for it: only the command line can")?;
    match name {
        "env" if !has(value, b'=') => return Err("an image gets no variable of the host: it needs KEY=VALUE"),
        "volume" if has(value, b':') => return Err("an image gets nothing of the host: it needs a path alone"),
        "entrypoint" if lifecycle::words(value).is_none() => return Err("not a JSON array of words"),
        _ => {}
    }
    // What this kontena lacks, an image can say for another one.
    let Ok((_, option)) = verb.find(dashed) else { return Ok(()) };
    match option.kind {
        Kind::Switch if has(word, b'=') => Err("it takes no value"),
        // Even if the image's value makes no sense.
        Kind::Value if line.has(option.name()) => Ok(()),
        _ => (option.set)(given, value),
    }
}

/// Adds the volumes of the image on whose targets the command line has none. In a container with a name they have names
/// as well, by which the next one of that name finds them.
pub fn add_volumes(given: &mut Given) -> Result<()> {
    let config = &mut given.config;
    // `start` has a name for each container.
    let is_named = !config.name.is_empty() && !is_made(config.name);
    for mut volume in std::mem::take(&mut given.said.volumes) {
        if !cfg!(feature = "background") || config.volumes.iter().any(|other| other.is_on(&volume)) {
            continue;
        }
        if is_named {
            volume.belong_to(config.name).map_err(|hint| {
                Error::usage(format_args!("volume {} of the image", volume.target.to_string_lossy()), hint)
            })?;
        }
        let _ = add_volume(&mut config.volumes, Ok(volume));
    }
    Ok(())
}
