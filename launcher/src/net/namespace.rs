//! Network namespaces that are somebody else's: a container's, or one that a file stands for; network_namespaces(7).
//!
//! The launcher goes there, does one thing, and comes back. It has one thread, so nothing else runs in between.

use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::state::Root;
use linux_raw_sys::general::NSFS_MAGIC;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, statfs};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};
use std::ffi::CStr;
use std::net::IpAddr;

/// A network namespace of somebody else's.
pub struct Namespace {
    fd: OwnedFd,
    /// As the person named it.
    what: String,
}

impl Namespace {
    /// The one that a file stands for.
    pub fn open(path: &CStr) -> Result<Self> {
        let what = format!("--net ns:{}", path.to_string_lossy());
        let hint = "give the file of a network namespace, as /run/netns/blue or /proc/PID/ns/net";
        // Opening what is something else could do anything.
        let kind = statfs(path).context(format_args!("{what}"), hint)?;
        if kind.f_type as u32 != NSFS_MAGIC {
            return Err(Error::usage(format_args!("{what}"), hint));
        }
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty());
        Ok(Self { fd: fd.context(format_args!("{what}"), hint)?, what })
    }

    /// A sysfs that shows its links, not attached anywhere.
    pub fn sysfs(&self) -> Result<OwnedFd> {
        let mount = || {
            let context = fsopen(c"sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        self.inside(mount)?.context(format_args!("mount a sysfs of {}", self.what), "")
    }

    /// Does `what` there.
    pub fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T> {
        inside(self.fd.as_fd(), what).map_err(|errno| {
            let hint = match errno {
                Errno::INVAL => "a namespace, but not of a network",
                Errno::PERM => "it takes CAP_SYS_ADMIN over it: run kontena with sudo",
                _ => "",
            };
            Error::new(format_args!("{}", self.what), errno, hint)
        })
    }
}

/// Does `what` in a network namespace, by its own fd or that of a process of it.
pub fn inside<T>(namespace: BorrowedFd<'_>, what: impl FnOnce() -> T) -> rustix::io::Result<T> {
    let host = file::open(CWD, "/proc/self/ns/net", OFlags::RDONLY)?;
    move_into_thread_name_spaces(namespace, ThreadNameSpaceType::NETWORK)?;
    let done = what();
    move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(done)
}

/// That of a running container, and the addresses that it has.
pub fn of_container(root: &Root, name: &str) -> Result<(Namespace, Vec<IpAddr>)> {
    let what = format!("--net container:{name}");
    let missing = || Error::usage(format_args!("{what}"), "there is no running container of this name");
    let seen = root.look(name)?.ok_or_else(missing)?;
    let (init, _) = seen.init().ok_or_else(missing)?;
    let fd = file::open(CWD, &format!("/proc/{init}/ns/net"), OFlags::RDONLY);
    // It was open before the container was seen to live still: it is not another's, which has the pid by now.
    if root.look(name)?.is_none_or(|now| now.init() != seen.init()) {
        return Err(missing());
    }
    let fd = fd.context(format_args!("{what}"), "mount /proc")?;
    Ok((Namespace { fd, what }, seen.addresses()))
}
