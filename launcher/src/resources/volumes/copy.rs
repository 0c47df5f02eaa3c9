//! Copies a directory of a container's root, which may be hostile, and which others may change meanwhile.
//!
//! Below the root each name is opened alone and never followed, and only what was looked at is read. Copied are
//! directories, files and symbolic links, with owner, mode and time; no devices, sockets and FIFOs, and no attributes.

use crate::file;
use crate::sys;
use linux_raw_sys::general::PATH_MAX;
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod, fchown,
    fstat, futimens, mkdirat, openat, openat2, readlinkat_raw, sendfile, symlinkat,
};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that is being copied.
struct Level {
    from: OwnedFd,
    into: OwnedFd,
    found: Stat,
    /// Those that are left.
    names: Vec<CString>,
}

impl Level {
    fn new(from: &OwnedFd, into: OwnedFd, copies: bool) -> Result<Self> {
        let from = openat(from, c".", DIRECTORY, Mode::empty())?;
        let (found, names) = (fstat(&from)?, if copies { file::all_names(&from)? } else { Vec::new() });
        Ok(Self { from, into, found, names })
    }
}

/// Makes `into` like the directory `target` of `root`: owner, mode and, if it `copies`, contents. Where there is none,
/// it belongs to the root's owner.
pub fn copy_directory(root: &OwnedFd, target: &CStr, into: OwnedFd, copies: bool) -> Result<()> {
    let from = match open_target(root, target) {
        Err(Errno::NOENT) => {
            let mut found = fstat(root)?;
            found.st_mode = 0o755;
            return take_on(&into, &found);
        }
        from => from?,
    };
    // Its way down is as long as this process may have open files.
    let mut levels = vec![Level::new(&from, into, copies)?];
    while let Some(level) = levels.last_mut() {
        match level.names.pop() {
            Some(name) => {
                let below = copy(level, &name)?;
                levels.extend(below);
            }
            None => {
                take_on(&level.into, &level.found)?;
                levels.pop();
            }
        }
    }
    Ok(())
}

/// Finds the target as the init does: links are followed inside the root.
fn open_target(root: &OwnedFd, target: &CStr) -> Result<OwnedFd> {
    const ATTEMPTS: usize = 1000;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        opened = openat2(root, target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve);
        // Somebody has renamed something meanwhile.
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
    }
    opened
}

/// Copies one name; returns it if it is a directory, for its contents.
fn copy(Level { from, into, .. }: &Level, name: &CStr) -> Result<Option<Level>> {
    let source = match openat(from, name, LOOK, Mode::empty()) {
        // It has been removed since.
        Err(Errno::NOENT) => return Ok(None),
        source => source?,
    };
    let found = fstat(&source)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            mkdirat(into, name, Mode::RWXU)?;
            return Level::new(&source, openat(into, name, DIRECTORY, Mode::empty())?, true).map(Some);
        }
        FileType::RegularFile => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copy = openat(into, name, flags, Mode::RUSR | Mode::WUSR)?;
            copy_contents(&source, &copy, found.st_size as u64)?;
            take_on(&copy, &found)?;
        }
        FileType::Symlink => {
            let mut text = [0; PATH_MAX as usize];
            let length = readlinkat_raw(&source, c"", &mut text)?;
            let text = CString::new(&text[..length]).map_err(|_| Errno::INVAL)?;
            symlinkat(&*text, into, name)?;
            let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
            own(chownat(into, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))?;
        }
        _ => {}
    }
    Ok(None)
}

/// Copies no more than the file had: another container may write to it.
fn copy_contents(source: &OwnedFd, copy: &OwnedFd, mut left: u64) -> Result<()> {
    const PART: u64 = 1 << 20;
    let source = file::reopen(source)?;
    while left > 0 {
        if sys::ending_signal().is_some() {
            return Err(Errno::INTR);
        }
        match sendfile(copy, &source, None, left.min(PART) as usize)? {
            0 => break,
            length => left -= length as u64,
        }
    }
    Ok(())
}

/// Gives a copy the owner, mode and time of what it was copied from.
fn take_on(copy: &OwnedFd, found: &Stat) -> Result<()> {
    let owner = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    let is_owned = own(fchown(copy, Some(owner.0), Some(owner.1)))?;
    fchmod(copy, Mode::from_raw_mode(found.st_mode & if is_owned { 0o7777 } else { 0o1777 }))?;
    let time = Timespec { tv_sec: found.st_mtime as _, tv_nsec: found.st_mtime_nsec as _ };
    futimens(copy, &Timestamps { last_access: time, last_modification: time })
}

/// Whether it could be given its owner. An ordinary user's copies are its own.
fn own(owned: Result<()>) -> Result<bool> {
    match owned {
        Err(Errno::PERM | Errno::INVAL) if !sys::is_privileged() => Ok(false),
        owned => owned.map(|()| true),
    }
}
