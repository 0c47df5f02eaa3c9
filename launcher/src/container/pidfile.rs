//! `--pidfile`: the pid of PID 1, in a file of the caller's.
//!
//! It stays after the container has ended, as podman's does. Must not follow a link.

use crate::error::{Context, Result};
use crate::file::{self, CWD};
use crate::text::split_last;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, fchmod};

/// A file that is replaced at each start.
pub struct Pidfile {
    directory: OwnedFd,
    path: &'static str,
}

impl Pidfile {
    /// Opens the directory of the file, which must exist.
    pub fn open(path: &'static str) -> Result<Self> {
        let directory = match split_last(path, b'/') {
            None => ".",
            Some(("", _)) => "/",
            Some((directory, _)) => directory,
        };
        let opened = file::open(CWD, directory, OFlags::PATH | OFlags::DIRECTORY);
        Ok(Self { directory: opened.context(format_args!("--pidfile {path}"), "use an existing directory")?, path })
    }

    /// Puts a file with this text in the place of another, which is never seen in part. A file that another user has
    /// made in that directory is neither written to nor followed.
    pub fn write(&self, text: &str) -> Result<()> {
        let name = split_last(self.path, b'/').map_or(self.path, |(_, name)| name);
        let new = format!("{name}.new");
        // That of a launcher that was killed.
        file::remove(&self.directory, &new, AtFlags::empty());
        file::open(&self.directory, &new, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
            .and_then(|file| {
                fchmod(&file, Mode::from_raw_mode(0o644))?;
                file::write_open(&file, text)?;
                file::rename(&self.directory, &new, name)
            })
            .inspect_err(|_| file::remove(&self.directory, &new, AtFlags::empty()))
            .context(format_args!("--pidfile {}", self.path), "use a directory that kontena can write to")
    }
}
