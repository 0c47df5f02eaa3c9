//! Mounts that show their files with other owners than they have, by a user namespace that is made for nothing else;
//! mount_setattr(2), "ID-mapped mounts".
//!
//! Must not change the owner of any file.

use crate::config::userns::{Idmap, Range};
use crate::error::{Context, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::sys;
use linux_raw_sys::general::CLONE_NEWUSER;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use std::ffi::CStr;

/// Gives a detached tree of mounts, which comes from `path`, these maps.
pub fn apply(tree: &OwnedFd, idmap: &Idmap, path: &CStr) -> Result<()> {
    let hint = "the ranges must not overlap, and its file system must have idmapped mounts: ext4, xfs, btrfs, tmpfs";
    make_namespace(idmap)
        .and_then(|namespace| sys::idmap(tree, namespace.as_fd(), idmap.is_recursive))
        .context(format_args!("idmap {}", path.to_string_lossy()), hint)
}

/// A user namespace with these maps. It needs a process, until somebody else has it open.
fn make_namespace(idmap: &Idmap) -> rustix::io::Result<OwnedFd> {
    let (end, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(child) = sys::fork(CLONE_NEWUSER)? else {
        drop(ours);
        let _ = rustix::io::read(&end, &mut [0u8]);
        sys::exit(0);
    };
    let process = format!("/proc/{}", child.as_raw_pid());
    let write = |name, ranges: &[Range]| {
        let line = |Range { container, host, size }: &Range| format!("{container} {host} {size}\n");
        file::write(CWD, &format!("{process}/{name}"), &ranges.iter().map(line).text())
    };
    let namespace = write("uid_map", &idmap.uids)
        .and_then(|()| write("gid_map", &idmap.gids))
        .and_then(|()| file::open(CWD, &format!("{process}/ns/user"), OFlags::RDONLY));
    drop(ours);
    rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()))?;
    namespace
}
