//! The container's /dev: six devices and six links in a fresh tmpfs, and what is kept there out of sight.
//!
//! Runs by the tmpfs's fd. Must not open or follow anything of the rootfs.

use core::ffi::CStr;
use kontena_init::plan::{Device, File};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, makedev, mkdirat, mknodat, openat,
    symlinkat, unlinkat,
};
use rustix::io::{Errno, Result, write};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::tree::{self, open_in};
use crate::{sys, text};

/// As in the kernel's Documentation/admin-guide/devices.txt.
static DEVICES: [Device<'_>; 6] = [
    device(c"/dev/null", 1, 3),
    device(c"/dev/zero", 1, 5),
    device(c"/dev/full", 1, 7),
    device(c"/dev/random", 1, 8),
    device(c"/dev/urandom", 1, 9),
    device(c"/dev/tty", 5, 0),
];

const NULL: &Device<'_> = &DEVICES[0];

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
    /// The device null of this /dev, which nobody else can have put there, open for reading and writing.
    pub null: OwnedFd,
    /// The directory that /dev/shm is mounted on: from then on nobody reaches it, and it stays empty. Of a bundle, a
    /// directory beside the container.
    pub directory: OwnedFd,
}

/// Makes what masks are made of: the device in `dev`, the root of a tmpfs that is not attached anywhere yet, and the
/// directory in `place`. The caller's umask is 0.
pub fn make_empty(dev: &OwnedFd, place: &OwnedFd) -> Result<Empty> {
    let find = |at, name, flags| openat(at, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    mkdirat(place, SHM, Mode::from_raw_mode(0o755))?;
    let null = match make_node(dev, c"null", NULL) {
        Ok(()) => find(dev, c"null", OFlags::RDWR)?,
        // The host's, as [`make`] will mount it.
        Err(Errno::PERM) => find_on_host(NULL, OFlags::RDWR)?,
        Err(errno) => return Err(errno),
    };
    Ok(Empty { null, directory: find(place, SHM, OFlags::PATH)? })
}

/// Fills `dev`, which is attached by now, with all the rest.
pub fn populate<'a>(dev: &OwnedFd, files: impl Iterator<Item = File<'a>>) -> Result<()> {
    for device in &DEVICES {
        match make(dev, dev, text::tail(device.target, b"/dev/".len()), device) {
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

/// A device in an open directory: a node of its own in `dev`, mounted from there where the directory is elsewhere,
/// since there it could not be used; or, in a user namespace, where a node is not permitted, the host's, mounted.
pub fn make(dev: &OwnedFd, parent: &OwnedFd, name: &CStr, device: &Device<'_>) -> Result<()> {
    // A name that nothing else has, for a moment.
    const HIDDEN: &CStr = c".device";
    let is_elsewhere = !core::ptr::eq(parent, dev) && fstat(parent)?.st_dev != fstat(dev)?.st_dev;
    let made = if is_elsewhere { make_node(dev, HIDDEN, device) } else { make_node(parent, name, device) };
    if cfg!(feature = "oci") && made == Err(Errno::EXIST) && !is_elsewhere {
        // A bundle may list it twice.
        let there = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        return check(there, device).map_or(made, |_| Ok(()));
    }
    let tree = match made {
        Ok(()) if is_elsewhere => tree::clone_tree(dev, HIDDEN, false)?,
        Err(Errno::PERM) => tree::clone_tree(find_on_host(device, OFlags::PATH)?, c"", false)?,
        made => return made,
    };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let place = openat(parent, name, flags, Mode::from_raw_mode(0o666))?;
    tree::attach(&tree, place)?;
    // What is not there any more cannot be attached.
    if is_elsewhere && made.is_ok() { unlinkat(dev, HIDDEN, AtFlags::empty()) } else { Ok(()) }
}

fn make_node(parent: &OwnedFd, name: &CStr, device: &Device<'_>) -> Result<()> {
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
fn find_on_host(device: &Device<'_>, flags: OFlags) -> Result<OwnedFd> {
    openat(CWD, device.source, flags | OFlags::CLOEXEC, Mode::empty()).and_then(|found| check(found, device))
}

/// The fd, if it is the device.
fn check<F: AsFd>(found: F, device: &Device<'_>) -> Result<F> {
    let stat = fstat(&found)?;
    let is_it = stat.st_rdev == makedev(device.major, device.minor)
        && FileType::from_raw_mode(stat.st_mode) == FileType::from_raw_mode(device.mode);
    if is_it { Ok(found) } else { Err(Errno::NXIO) }
}

/// Whether the null device is among the standard fds: it is the host's, whose mode and owner its users share.
pub fn has_null() -> bool {
    sys::stdio().into_iter().any(is_null)
}

fn is_null(fd: BorrowedFd<'_>) -> bool {
    check(fd, NULL).is_ok()
}

/// The null device of a running container, which is free to have anything in its place: then that is an error.
pub fn open_null(root: &OwnedFd) -> Result<OwnedFd> {
    // Whatever it is, to open it must not wait.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    open_in(root, NULL.target, flags, resolve).and_then(|found| check(found, NULL))
}

/// A null device for a process that joins a container without one.
pub fn make_null() -> Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let tree = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    make_empty(&tree, &tree).map(|empty| empty.null)
}

/// Puts the container's null device in the place of the host's.
pub fn replace_null(null: &OwnedFd) -> Result<()> {
    sys::become_stdio(null, is_null)
}
