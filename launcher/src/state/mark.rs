//! The mark of a state directory. Without it, nothing is made in a directory or removed from it.
//!
//! `ROOT/.kontena` is a symbolic link, since symlink(2) makes it with its text or not at all. The text is the inode
//! number of the directory, so that a copy is not marked, and the mode that the directory had when it was found, or 0
//! if kontena made it. Must not look at what the directory has for containers.

use crate::error::{Context, Error, Result};
use crate::file;
use crate::state::abandoned::SWEPT;
use crate::state::registry::LOCK;
use crate::state::{Release, StateDirectory};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fchmod, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::cell::{Cell, OnceCell};

const MARK: &str = ".kontena";

impl StateDirectory {
    /// Opens a state directory. A missing one is made; one that exists must be empty or have the mark. `release` gives
    /// back what a dead container in it holds.
    pub fn open(path: &str, release: Release) -> Result<Self> {
        let hint = "the state needs a writable directory: mount a tmpfs on /run, or use --root DIR";
        loop {
            let opened = file::open_or_make(path, OFlags::empty());
            let (directory, stat) = opened.context(format_args!("open {path}"), hint)?;
            // In /tmp, anybody may have made it before.
            if stat.st_uid != geteuid().as_raw() {
                return Err(Error::usage(
                    format_args!("{path} belongs to another user"),
                    "use a --root DIR of your own",
                ));
            }
            let state = Self::of(path, directory, &stat, release);
            match state.claim(stat.st_mode & 0o7777) {
                // A prune has just removed it.
                Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY) => {
                    let hint = "it has files and no mark .kontena, or it is a copy: use an empty or missing directory \
                         for --root";
                    return Err(Error::usage(format_args!("{path} is not a state directory of kontena"), hint));
                }
                claimed => return claimed.map(|()| state).context(format_args!("mark {path}"), hint),
            }
        }
    }

    /// Opens a state directory, if there is one. Makes nothing.
    pub fn existing(path: &str, release: Release) -> Option<Self> {
        let directory = file::open(file::CWD, path, OFlags::DIRECTORY).ok()?;
        let stat = fstat(&directory).ok().filter(|stat| stat.st_uid == geteuid().as_raw())?;
        let state = Self::of(path, directory, &stat, release);
        state.mark().map(|_| state)
    }

    fn of(path: &str, directory: OwnedFd, stat: &Stat, release: Release) -> Self {
        let (made_shared, registry) = (Cell::new(false), OnceCell::new());
        let (real_path, namespace) = (OnceCell::new(), OnceCell::new());
        Self { path: path.into(), directory, inode: stat.st_ino, release, made_shared, registry, real_path, namespace }
    }

    /// The mode that the directory had before it was marked; `None` without the mark.
    pub(super) fn mark(&self) -> Option<u32> {
        let text = file::read_link(self, MARK)?;
        let (inode, mode) = text.split_once(' ')?;
        mode.parse().ok().filter(|_| inode.parse() == Ok(self.inode))
    }

    /// Marks an empty directory and makes it private. ENOTEMPTY: it has something in it, and no mark.
    fn claim(&self, mode: u32) -> rustix::io::Result<()> {
        while self.mark().is_none() {
            let is_empty = file::open(self, ".", OFlags::DIRECTORY).and_then(file::names)?.is_empty();
            if is_empty {
                let found = if file::is_unowned(mode) { 0 } else { mode };
                match file::link(self, &format!("{} {found}", self.inode), MARK) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    failed => return failed,
                }
            } else if self.mark().is_none() {
                return Err(Errno::NOTEMPTY);
            }
        }
        if mode == Mode::RWXU.as_raw_mode() { Ok(()) } else { fchmod(&self.directory, Mode::RWXU) }
    }

    /// Gives up the directory, if nothing else is in it: removes it if kontena made it, or leaves it as it was found.
    pub fn leave(&self) {
        /// The last one is the registry's, if that had to be in here.
        const OWN: [&str; 3] = [MARK, SWEPT, LOCK];
        let names = file::open(self, ".", OFlags::DIRECTORY).and_then(file::names);
        if let (Ok(names), Some(mode)) = (names, self.mark())
            && names.iter().all(|name| OWN.contains(&&**name))
        {
            OWN.iter().for_each(|name| file::remove(self, name, AtFlags::empty()));
            let _ = match mode {
                0 => file::remove_directory(&self.path),
                mode => fchmod(&self.directory, Mode::from_raw_mode(mode)),
            };
        }
    }
}
