//! The container's /dev: six devices and six links in a fresh tmpfs, and what is kept there out of sight.
//!
//! Runs by the tmpfs's fd. Must not open or follow anything of the rootfs.

use core::ffi::CStr;
use kontena_init::plan::{Device, File};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::{Errno, Result, write};

use crate::mounts;

/// As in the kernel's Documentation/admin-guide/devices.txt.
const NULL: Device<'_> = device(c"/dev/null", 1, 3);
const DEVICES: [Device<'_>; 5] = [
    device(c"/dev/zero", 1, 5),
    device(c"/dev/full", 1, 7),
    device(c"/dev/random", 1, 8),
    device(c"/dev/urandom", 1, 9),
    device(c"/dev/tty", 5, 0),
];

const fn device(path: &'static CStr, major: u32, minor: u32) -> Device<'static> {
    Device { source: path, target: path, mode: 0o20666, uid: 0, gid: 0, major, minor }
}

const LINKS: [(&CStr, &CStr); 6] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"/proc/kcore", c"core"),
    (c"pts/ptmx", c"ptmx"),
];

/// Where other file systems are mounted.
const SHM: &CStr = c"shm";
const PTS: &CStr = c"pts";
const DIRECTORIES: [&CStr; 2] = [PTS, c"mqueue"];

/// The Plan's files, in the directory that /dev/pts is mounted on.
const FILES: [&CStr; 3] = [c"pts/0", c"pts/1", c"pts/2"];

/// What masked paths are covered with, by fd.
pub struct Empty {
    /// The device null of this /dev, which nobody else can have put there.
    pub null: OwnedFd,
    /// The directory that /dev/shm is mounted on: from then on nobody reaches it, and it stays empty.
    pub directory: OwnedFd,
}

/// Makes what masks are made of in `dev`, the root of a tmpfs that is not attached anywhere. The caller's umask is 0.
pub fn make_empty(dev: &OwnedFd) -> Result<Empty> {
    let find = |name| openat(dev, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    mkdirat(dev, SHM, Mode::from_raw_mode(0o755))?;
    let null = match make_node(dev, b"null", &NULL) {
        Ok(()) => find(c"null")?,
        // The host's, as [`make`] will mount it.
        Err(Errno::PERM) => find_on_host(&NULL)?,
        Err(errno) => return Err(errno),
    };
    Ok(Empty { null, directory: find(SHM)? })
}

/// Fills `dev`, which is attached by now, with all the rest.
pub fn populate<'a>(dev: &OwnedFd, files: impl Iterator<Item = File<'a>>) -> Result<()> {
    for device in [NULL].iter().chain(&DEVICES) {
        match make(dev, &device.target.to_bytes()[b"/dev/".len()..], device) {
            Err(Errno::EXIST) => {}
            made => made?,
        }
    }
    for (target, name) in LINKS {
        symlinkat(target, dev, name)?;
    }
    for name in DIRECTORIES {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    for (index, file) in (0..).zip(files) {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let made = openat(dev, file_name(index), flags, Mode::from_raw_mode(0o644))?;
        write(&made, file.content.to_bytes())?;
    }
    Ok(())
}

/// Where in /dev the Plan's `index`th file is, until devpts covers it.
pub fn file_name(index: u16) -> &'static CStr {
    FILES.get(usize::from(index)).copied().unwrap_or_default()
}

/// A device in an open directory: a node of its own or, in a user namespace, where that is not permitted, the host's,
/// mounted.
pub fn make(parent: &OwnedFd, name: &[u8], device: &Device<'_>) -> Result<()> {
    match make_node(parent, name, device) {
        Err(Errno::PERM) => {}
        made => return made,
    }
    let host = mounts::clone_tree(find_on_host(device)?, c"", false)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let place = openat(parent, name, flags, Mode::from_raw_mode(0o666))?;
    mounts::attach(&host, place)
}

fn make_node(parent: &OwnedFd, name: &[u8], device: &Device<'_>) -> Result<()> {
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    let number = makedev(device.major, device.minor);
    mknodat(parent, name, FileType::from_raw_mode(device.mode), mode, number)?;
    if (device.uid, device.gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// The host's device of this number, as long as its mounts are there.
fn find_on_host(device: &Device<'_>) -> Result<OwnedFd> {
    let found = openat(CWD, device.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&found)?;
    let is_it = stat.st_rdev == makedev(device.major, device.minor)
        && FileType::from_raw_mode(stat.st_mode) == FileType::from_raw_mode(device.mode);
    if is_it { Ok(found) } else { Err(Errno::NXIO) }
}
