//! The container's /dev: six devices and six links in a fresh tmpfs.
//!
//! Runs by the tmpfs's fd. Must not open or follow anything of the rootfs.

use core::ffi::CStr;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Result;

/// Name and device numbers, as in the kernel's Documentation/admin-guide/devices.txt.
const NULL: (&CStr, u32, u32) = (c"null", 1, 3);
const DEVICES: [(&CStr, u32, u32); 5] =
    [(c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];

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
const DIRECTORIES: [&CStr; 2] = [c"pts", c"mqueue"];

const DEVICE_MODE: Mode = Mode::from_raw_mode(0o666);

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
    let (null, major, minor) = NULL;
    mknodat(dev, null, FileType::CharacterDevice, DEVICE_MODE, makedev(major, minor))?;
    mkdirat(dev, SHM, Mode::from_raw_mode(0o755))?;
    Ok(Empty { null: find(null)?, directory: find(SHM)? })
}

/// Fills `dev` with all the rest.
pub fn populate(dev: &OwnedFd) -> Result<()> {
    for (name, major, minor) in DEVICES {
        mknodat(dev, name, FileType::CharacterDevice, DEVICE_MODE, makedev(major, minor))?;
    }
    for (target, name) in LINKS {
        symlinkat(target, dev, name)?;
    }
    for name in DIRECTORIES {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}
