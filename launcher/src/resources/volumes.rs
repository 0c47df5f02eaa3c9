//! Volumes by name: a directory for each, which outlives containers and reboots.
//!
//! `DIRECTORY/NAME/_data` is what a container sees. `NAME` itself, which no container can reach, is locked by flock(2):
//! shared by the launcher of each container that uses the volume, exclusive for its first filling and its removal. The
//! sticky bit of `NAME` is its mark: nothing else is used or removed. Without `_data`, a volume was never used. Must
//! not know which containers there are.

mod copy;

pub use copy::copy_directory;

use crate::config::volumes::{DATA, is_volume_name};
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD, is_unowned};
use crate::sys;
use crate::text::split_last;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, renameat, syncfs, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::{CStr, OsStr};

/// What will be `_data`, while it is filled.
const NEW: &str = "_new";
const HINT: &str = "volumes need a writable directory: use --volumepath DIR";

/// A volume to use.
pub struct Wanted<'a> {
    /// The path of its directory.
    pub path: &'a str,
    /// The target in the container.
    pub target: &'a CStr,
    /// The container's root, which it is filled from.
    pub root: &'a OwnedFd,
    /// Whether it gets the contents of the root's directory, and not only its owner and mode.
    pub copies: bool,
}

/// The directory of all volumes.
pub fn directory(given: Option<&str>) -> Result<String> {
    let is_plain = |path: &str| path.starts_with('/') && !path.contains(char::is_control);
    if let Some(path) = given {
        let hint = "use an absolute path, without control characters";
        return if is_plain(path) {
            Ok(path.into())
        } else {
            Err(Error::usage(format_args!("--volumepath {path}"), hint))
        };
    }
    if sys::is_privileged() {
        return Ok("/var/lib/kontena/volumes".into());
    }
    let variable = |name| sys::variable(name).and_then(OsStr::to_str).filter(|path| is_plain(path));
    let data = variable("XDG_DATA_HOME").map(String::from);
    let data = data.or_else(|| variable("HOME").map(|home| format!("{home}/.local/share")));
    let hint = "set HOME, or use --volumepath DIR";
    let data = data.ok_or_else(|| Error::usage(format_args!("no directory for volumes"), hint))?;
    Ok(format!("{data}/kontena/volumes"))
}

/// Makes a volume, unless there is one of this name. It is filled when it is used first.
pub fn create(path: &str) -> Result<OwnedFd> {
    let make = || rustix::fs::mkdir(&*file::c_path(path)?, Mode::from_raw_mode(file::UNOWNED | 0o700));
    loop {
        let made = match make() {
            Err(Errno::NOENT) => {
                let parent = split_last(path, b'/').map_or("/", |(parent, _)| parent);
                file::make_directories(parent, 0o700).and_then(|()| make())
            }
            made => made,
        };
        if let Err(errno) = made
            && errno != Errno::EXIST
        {
            return Err(Error::new(format_args!("mkdir {path}"), errno, HINT));
        }
        match open(path) {
            // Another process has removed it meanwhile.
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            opened => return opened,
        }
    }
}

/// Opens the directory of a volume.
fn open(path: &str) -> Result<OwnedFd> {
    let volume = file::open(CWD, path, OFlags::DIRECTORY | OFlags::NOFOLLOW);
    let volume = volume.context(format_args!("open {path}"), HINT)?;
    let found = fstat(&volume).at(format_args!("fstat {path}"))?;
    if is_unowned(found.st_mode) && found.st_uid == geteuid().as_raw() {
        return Ok(volume);
    }
    let hint = "its mode is not 1700: choose another name, or chmod 1700 if it is a copy of one";
    Err(Error::usage(format_args!("{path} is not a volume of kontena"), hint))
}

/// The names of the volumes, sorted.
pub fn names(directory: &str) -> Result<Vec<String>> {
    let mut names = match file::open(CWD, directory, OFlags::DIRECTORY).and_then(file::names) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        names => names.context(format_args!("read {directory}"), HINT)?,
    };
    names.retain(|name| is_volume_name(name) && open(&format!("{directory}/{name}")).is_ok());
    names.sort_unstable();
    Ok(names)
}

/// Makes a volume if there is none, fills it if this is its first use, and keeps others from removing it as long as the
/// fd is open. Of several that come at once, one fills it, and the others wait.
pub fn hold(wanted: &Wanted<'_>) -> Result<OwnedFd> {
    let path = wanted.path;
    let lock = |volume: &OwnedFd, shared| {
        sys::lock_whole(volume, shared).context(format_args!("wait for {path}"), "another kontena fills or removes it")
    };
    loop {
        let volume = create(path)?;
        lock(&volume, true)?;
        if is_used(&volume) && is_there(&volume) {
            return Ok(volume);
        }
        lock(&volume, false)?;
        if is_there(&volume) && !is_used(&volume) {
            fill(&volume, wanted).inspect_err(|_| _ = empty(&volume))?;
        }
    }
}

/// Whether it has contents, even if they are none.
fn is_used(volume: &OwnedFd) -> bool {
    file::open(volume, DATA, OFlags::PATH).is_ok()
}

/// Whether nobody has removed it.
fn is_there(volume: &OwnedFd) -> bool {
    fstat(volume).is_ok_and(|stat| stat.st_nlink > 0)
}

/// Fills a locked volume that was never used. It gets its contents all at once, whenever this is killed.
fn fill(volume: &OwnedFd, wanted: &Wanted<'_>) -> Result<()> {
    let fill = || {
        empty(volume)?;
        file::make_directory(volume, NEW)?;
        let new = file::open(volume, NEW, OFlags::DIRECTORY)?;
        copy::copy_directory(wanted.root, wanted.target, new, wanted.copies)?;
        // Otherwise a power failure could leave the name and lose the contents.
        syncfs(volume)?;
        file::rename(volume, NEW, DATA)
    };
    let hint = |errno| match errno {
        Errno::NOTDIR => "only a directory can be a volume: mount a file by its path",
        Errno::ACCESS => "an ordinary user cannot read all of it: use nocopy for an empty volume",
        _ => "free some space, use nocopy for an empty volume, or --volumepath DIR",
    };
    let (path, target) = (wanted.path, wanted.target.to_string_lossy());
    fill().map_err(|errno| Error::new(format_args!("fill {path} from the rootfs's {target}"), errno, hint(errno)))
}

/// Removes a volume, unless a container uses it: EAGAIN. One that is gone is ENOENT.
pub fn remove(path: &str) -> Result<()> {
    let volume = open(path)?;
    let remove = || {
        flock(&volume, FlockOperation::NonBlockingLockExclusive)?;
        empty(&volume)?;
        file::remove_directory(path)
    };
    remove().context(format_args!("remove {path}"), "an ordinary user cannot remove files of other ids")
}

/// Removes all that is in a directory, however deep a container has made it: what is in a directory is moved up, so
/// that there is never a way down to remember. A directory that something is mounted on cannot be moved, and stays.
fn empty(top: &OwnedFd) -> rustix::io::Result<()> {
    let mut number = 0_u32;
    let mut move_up = |from: &OwnedFd, name: &CStr| {
        loop {
            number += 1;
            let to = file::c_path(&number.to_string())?;
            match renameat(from, name, top, &*to) {
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                moved => return moved.map(|()| to),
            }
        }
    };
    loop {
        let names = file::all_names(&file::open(top, ".", OFlags::DIRECTORY)?)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            match unlinkat(top, &*name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                Ok(()) => continue,
                failed => return failed,
            }
            let name = move_up(top, &name)?;
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(top, &*name, flags, Mode::empty())?;
            for below in file::all_names(&directory)? {
                match unlinkat(&directory, &*below, AtFlags::empty()) {
                    Err(Errno::ISDIR) => drop(move_up(&directory, &below)?),
                    removed => removed?,
                }
            }
            unlinkat(top, &*name, AtFlags::REMOVEDIR)?;
        }
    }
}
