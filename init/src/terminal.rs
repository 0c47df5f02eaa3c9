//! A terminal for a process that is to have one: a pair of the container's own devpts; pty(7).
//!
//! The launcher is sent the master, and what becomes the process has the other end as its stdio. Nothing of it is found
//! by a path that the rootfs could have changed: the slave comes from the master (CVE-2025-52565). Must not read or
//! write it.

use kontena_init::plan::{ProcessSpec, TERMINAL};
use linux_raw_sys::general::DEVPTS_SUPER_MAGIC;
use rustix::fd::OwnedFd;
use rustix::fs::{Gid, OFlags, ResolveFlags, Uid, fchown, fstatfs};
use rustix::io::{Errno, Result};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::sys;
use crate::tree::{attach, clone_tree, open_in};

/// Makes the terminal of a process in the container whose root this is: its slave, while the master goes to the
/// launcher.
pub fn open(root: &OwnedFd, process: &ProcessSpec<'_>, launcher: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let master = open_in(root, c"/dev/pts/ptmx", flags, resolve)?;
    if fstatfs(&master)?.f_type as u64 != u64::from(DEVPTS_SUPER_MAGIC) {
        return Err(Errno::NOTTY);
    }
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    // Before the launcher has it, which knows of changes.
    let size = |number: u32| number.min(u16::MAX.into()) as u16;
    let (ws_row, ws_col) = (size(process.rows), size(process.columns));
    tcsetwinsize(&slave, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?;
    sys::send_fd(launcher, &[TERMINAL], &master)?;
    Ok(slave)
}

/// Mounts the terminal on /dev/console, in the directory that is the container's /dev.
pub fn mount_console(dev: &OwnedFd, slave: &OwnedFd) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let place = rustix::fs::openat(dev, c"console", flags, rustix::fs::Mode::from_raw_mode(0o620))?;
    attach(&clone_tree(slave, c"", false)?, place)
}

/// Makes it the stdio and the controlling terminal of this process, which leads a session.
pub fn control(slave: &OwnedFd, uid: u32) -> Result<()> {
    ioctl_tiocsctty(slave)?;
    // Its group stays that of devpts, tty.
    fchown(slave, Some(Uid::from_raw(uid)), None::<Gid>)?;
    sys::become_stdio(slave, |_| true)
}
