//! The removal of a cgroup with all that a container has left in it.

use super::events::wait_for_event;
use super::hierarchy::is_cgroup2;
use super::processes::{next_below, signal_all, step};
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use linux_raw_sys::general::SIGKILL;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, OFlags, fstat, unlinkat};
use rustix::io::Errno;

/// Kills what still runs in the cgroup `path` and removes it, if it has this inode number, which the kernel gives to no
/// other cgroup. One that is gone is no error.
pub fn remove(path: &str, inode: u64) -> Result<()> {
    let leaf = match file::open(CWD, path, OFlags::DIRECTORY) {
        Ok(leaf) if fstat(&leaf).is_ok_and(|stat| stat.st_ino == inode) => leaf,
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(Error::new(format_args!("open {path}"), errno, "run kontena prune to try again")),
    };
    let mut removed = file::remove_directory(path);
    // Of nothing else it would be right to remove what is below.
    if removed == Err(Errno::BUSY) && is_cgroup2(path) {
        kill_and_wait(path, &leaf);
        removed = remove_tree(path);
    }
    match removed {
        Err(Errno::NOENT) => Ok(()),
        Err(_) if !is_cgroup2(path) => Ok(()),
        removed => removed.context(format_args!("rmdir {path}"), "run kontena prune to try again"),
    }
}

/// Removes a cgroup with those below it, which a container may have made, however deep and many.
pub(super) fn remove_tree(path: &str) -> rustix::io::Result<()> {
    let (mut at, mut depth, mut was_emptied) = (file::open(CWD, path, OFlags::DIRECTORY)?, 0, false);
    loop {
        let Some((name, _)) = next_below(&at, 0) else {
            if depth == 0 {
                return file::remove_directory(path);
            }
            (at, depth, was_emptied) = (step(&at, c"..")?, depth - 1, true);
            continue;
        };
        match unlinkat(&at, &*name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => was_emptied = false,
            // Of one that has none below it any more, a process is the reason.
            Err(Errno::BUSY) if !was_emptied => (at, depth) = (step(&at, &name)?, depth + 1),
            Err(errno) => return Err(errno),
        }
    }
}

/// Sends SIGKILL to all of the cgroup, and waits until it has no process left.
fn kill_and_wait(path: &str, leaf: &OwnedFd) {
    wait_for_event(path, "populated 0", &|| {
        // The path is another cgroup's as soon as this one is gone, and then there is nothing to write to.
        let is_there = file::write(leaf, "cgroup.kill", "1").is_ok();
        if is_there {
            signal_all(path, SIGKILL);
        }
        is_there
    });
}
