//! Gives files of the host to a container's user: the volume option `U`, which is podman's.
//!
//! Others may change the tree meanwhile, a running container for example: each name is opened alone and never followed,
//! and what is mounted in the tree is left alone. Must not know where the tree is mounted.

use crate::config::userns::Ids;
use crate::file;
use crate::resources::userns::Maps;
use crate::text::number;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, openat, openat2};
use rustix::io::{Errno, Result};
use std::ffi::CString;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// The user of `-u`, `UID:GID` or nothing for root, as the host has it; `None` for a name and for a uid alone, whose
/// groups only the container's own files tell, and for ids that the container does not have.
pub fn on_host(user: &str, maps: Option<&Maps>) -> Option<Ids> {
    let (uid, gid) = if user.is_empty() { ("0", "0") } else { user.split_once(':')? };
    let id = |text| number(text).and_then(|id| u32::try_from(id).ok()).filter(|id| *id < u32::MAX);
    let ids = Ids { uid: id(uid)?, gid: id(gid)? };
    maps.map_or(Some(ids), |maps| maps.on_host(ids))
}

/// Gives a file, or a directory with all that is in it, to `owner`. EINTR once `is_stopped` says so: another who may
/// write to the tree could keep it busy for ever.
pub fn give(tree: &OwnedFd, owner: Ids, is_stopped: impl Fn() -> bool) -> Result<()> {
    let mut levels = Vec::new();
    if give_one(tree, owner)? == FileType::Directory {
        levels.push(Level::open(tree)?);
    }
    // Its way down is as long as this process may have open files.
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        if is_stopped() {
            return Err(Errno::INTR);
        }
        let below = openat2(&level.directory, &*name, LOOK, Mode::empty(), ResolveFlags::NO_XDEV).and_then(|file| {
            let is_directory = give_one(&file, owner)? == FileType::Directory;
            if is_directory { Level::open(&file).map(Some) } else { Ok(None) }
        });
        match below {
            // It has been removed since, or something is mounted on it.
            Err(Errno::NOENT | Errno::XDEV) => {}
            below => levels.extend(below?),
        }
    }
    Ok(())
}

/// Only what is another's, since chown(2) takes set-user-ID bits away; and no device, which may be the host's own.
/// Returns what it is.
fn give_one(file: &OwnedFd, Ids { uid, gid }: Ids) -> Result<FileType> {
    let found = fstat(file)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let is_device = matches!(kind, FileType::BlockDevice | FileType::CharacterDevice);
    if (found.st_uid, found.st_gid) != (uid, gid) && !is_device {
        chownat(file, c"", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
    }
    Ok(kind)
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
