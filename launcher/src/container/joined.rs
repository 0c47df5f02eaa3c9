//! Namespaces beside the network's that a container does not have for itself, but joins by their files; setns(2).
//!
//! The launcher goes there, clones the container, and comes back. Must not stay there if it cannot.

use crate::error::{Context, Result};
use linux_raw_sys::general::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWUTS};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CStr;

/// Does `what` in all of these namespaces: CLONE_NEW*, and the files that stand for them.
pub fn inside<T>(namespaces: &[(u32, &CStr)], what: impl FnOnce() -> T) -> Result<T> {
    let mut ways_back = Vec::new();
    for (flag, path) in namespaces {
        ways_back.push((*flag, enter(*flag, path)?));
    }
    let done = what();
    for (flag, own) in ways_back.iter().rev() {
        move_into_link_name_space(own.as_fd(), kind(*flag)).at(format_args!("setns"))?;
    }
    Ok(done)
}

/// Enters one; returns the one that this process was in.
fn enter(flag: u32, path: &CStr) -> Result<OwnedFd> {
    let what = format_args!("join the namespace {}", path.to_string_lossy());
    let hint = "linux.namespaces: use the file of a namespace of that type";
    let open = |path: &CStr| openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
    let own = open(match flag {
        CLONE_NEWIPC => c"/proc/self/ns/ipc",
        CLONE_NEWUTS => c"/proc/self/ns/uts",
        CLONE_NEWPID => c"/proc/self/ns/pid",
        _ => c"/proc/self/ns/cgroup",
    });
    let own = own.context(what, "mount /proc")?;
    let found = open(path).context(what, hint)?;
    move_into_link_name_space(found.as_fd(), kind(flag)).context(what, hint)?;
    Ok(own)
}

fn kind(flag: u32) -> Option<LinkNameSpaceType> {
    Some(match flag {
        CLONE_NEWIPC => LinkNameSpaceType::InterProcessCommunication,
        CLONE_NEWUTS => LinkNameSpaceType::HostNameAndNISDomainName,
        CLONE_NEWPID => LinkNameSpaceType::ProcessID,
        CLONE_NEWCGROUP => LinkNameSpaceType::ControlGroup,
        _ => return None,
    })
}
