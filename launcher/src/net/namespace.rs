//! Network namespaces that are somebody else's: a container's, or one that a file stands for; network_namespaces(7).
//!
//! The launcher goes there, does one thing, and comes back. It has one thread, so nothing else runs in between.

use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::state::StateDirectory;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fstat};
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
        let hint = "use the file of a network namespace, for example /run/netns/blue or /proc/PID/ns/net";
        let fd = file::open_namespace(path);
        Ok(Self { fd: fd.context(format_args!("{what}"), hint)?, what })
    }

    /// A sysfs that shows its links, not attached anywhere.
    pub fn sysfs(&self) -> Result<OwnedFd> {
        let mount = || {
            let context = fsopen(c"sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        self.inside(mount)?.at(format_args!("mount a sysfs of {}", self.what))
    }

    /// Does `what` there.
    pub fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T> {
        inside(self.fd.as_fd(), what).map_err(|errno| {
            let hint = match errno {
                Errno::INVAL => "not a network namespace",
                Errno::PERM => "it needs CAP_SYS_ADMIN: run kontena with sudo",
                _ => "",
            };
            Error::new(format_args!("{}", self.what), errno, hint)
        })
    }
}

/// Does `what` in a network namespace, by its own fd or that of a process of it. Root of a user namespace that does not
/// own the caller's cannot come back, and stays there: it can do nothing in the caller's.
pub fn inside<T>(namespace: BorrowedFd<'_>, what: impl FnOnce() -> T) -> rustix::io::Result<T> {
    let host = file::open(CWD, "/proc/self/ns/net", OFlags::RDONLY)?;
    move_into_thread_name_spaces(namespace, ThreadNameSpaceType::NETWORK)?;
    let done = what();
    match move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network)) {
        Ok(()) | Err(Errno::PERM) => Ok(done),
        Err(errno) => Err(errno),
    }
}

/// Does `what` in the network namespace of this number, which a process is in, or a file stands for; nothing where it
/// is gone, with all that was in it.
pub fn in_namespace(number: u64, what: impl FnOnce() -> Result<()>) -> Result<()> {
    let names = file::open(CWD, "/proc", OFlags::DIRECTORY).and_then(file::names).unwrap_or_default();
    let processes = names.iter().map(|pid| format!("/proc/{pid}/ns/net"));
    let (mounts, root) = (file::read_text(CWD, "/proc/self/mountinfo"), format!("net:[{number}]"));
    // proc_pid_mountinfo(5): the root of the mount, and where it is.
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        fields.next().filter(|field| *field == root).and_then(|_| fields.next()).map(String::from)
    });
    let found = processes
        .chain(mounted)
        .filter_map(|path| file::open(CWD, &path, OFlags::RDONLY).ok())
        .find(|fd| fstat(fd).is_ok_and(|stat| stat.st_ino == number));
    let Some(found) = found else { return Ok(()) };
    inside(found.as_fd(), what).at(format_args!("enter the network namespace {number}"))?
}

/// That of a running container, and the addresses that it has.
pub fn of_container(root: &StateDirectory, name: &str) -> Result<(Namespace, Vec<IpAddr>)> {
    let (fd, record) = root.namespace_of("--net", name, "net")?;
    Ok((Namespace { fd, what: format!("--net container:{name}") }, record.network.addresses()))
}
