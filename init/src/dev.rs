//! The container's /dev: six devices and five links in a fresh tmpfs, made before anything can see it.
//!
//! Runs on the detached mount, by fd. Must not open or follow anything of the rootfs.

use core::ffi::CStr;
use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, makedev, mkdirat, mknodat, symlinkat};
use rustix::io::Result;

/// Name and device numbers, as in the kernel's Documentation/admin-guide/devices.txt.
const DEVICES: [(&CStr, u32, u32); 6] =
    [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];

const LINKS: [(&CStr, &CStr); 6] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"/proc/kcore", c"core"),
    (c"pts/ptmx", c"ptmx"),
];

/// Where other file systems are mounted.
const DIRECTORIES: [&CStr; 3] = [c"pts", c"shm", c"mqueue"];

/// Fills `dev`, the root of an empty tmpfs. The caller's umask is 0.
pub fn populate(dev: impl AsFd) -> Result<()> {
    let dev = dev.as_fd();
    for (name, major, minor) in DEVICES {
        mknodat(dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))?;
    }
    for (target, name) in LINKS {
        symlinkat(target, dev, name)?;
    }
    for name in DIRECTORIES {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}
