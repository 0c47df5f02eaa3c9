//! Gives files of the host to a container's user: the volume option `U`, which is podman's.
//!
//! Others may change the tree meanwhile, a running container for example: each name is opened alone and never followed,
//! and what belongs to another file system is left alone. Must not know where the tree is mounted.

use crate::config::userns::Ids;
use crate::file;
use crate::resources::userns::Maps;
use crate::sys;
use crate::text::number;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, openat};
use rustix::io::{Errno, Result};
use std::ffi::CString;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// The user of `-u`, `UID[:GID]` or nothing for root, as the host has it; `None` for a name, which only the container's
/// own files explain, and for ids that the container does not have.
pub fn on_host(user: &str, maps: Option<&Maps>) -> Option<Ids> {
    let (uid, gid) = user.split_once(':').unwrap_or((if user.is_empty() { "0" } else { user }, "0"));
    let ids = Ids { uid: number(uid)?.try_into().ok()?, gid: number(gid)?.try_into().ok()? };
    maps.map_or(Some(ids), |maps| maps.on_host(ids))
}

/// Gives a file, or a directory with all that is in it, to `owner`.
pub fn give(tree: &OwnedFd, owner: Ids) -> Result<()> {
    let top = fstat(tree)?;
    give_one(tree, &top, owner)?;
    let mut levels = Vec::new();
    if is_directory(&top) {
        levels.push(Level::open(tree)?);
    }
    // Its way down is as long as this process may have open files.
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        if sys::ending_signal().is_some() {
            return Err(Errno::INTR);
        }
        let file = match openat(&level.directory, &*name, LOOK, Mode::empty()) {
            // It has been removed since.
            Err(Errno::NOENT) => continue,
            file => file?,
        };
        let found = fstat(&file)?;
        if found.st_dev == top.st_dev {
            give_one(&file, &found, owner)?;
            if is_directory(&found) {
                levels.push(Level::open(&file)?);
            }
        }
    }
    Ok(())
}

/// Only what is another's: chown(2) takes set-user-ID bits away.
fn give_one(file: &OwnedFd, found: &Stat, Ids { uid, gid }: Ids) -> Result<()> {
    if (found.st_uid, found.st_gid) == (uid, gid) {
        return Ok(());
    }
    chownat(file, c"", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

/// A directory, and the names in it that are left.
struct Level {
    directory: OwnedFd,
    names: Vec<CString>,
}

impl Level {
    fn open(at: &OwnedFd) -> Result<Self> {
        let directory = openat(at, c".", READ, Mode::empty())?;
        let names = file::all_names(&directory)?;
        Ok(Self { directory, names })
    }
}
