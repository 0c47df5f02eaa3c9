//! Namespaces of another container that a new one shares: `--ipc container:NAME`, `--uts container:NAME`.
//!
//! The launcher enters them, clones the init, and leaves them; namespaces(7). Must not enter one that belongs to
//! another user namespace: root of the new container would have no rights in it.

use crate::config::{Config, Share};
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::spawn::join::Container;
use crate::spawn::sources::{Place, copy_tree};
use crate::spawn::trees::Tree;
use crate::state::StateDirectory;
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::process::{chroot, fchdir};
use rustix::thread::move_into_link_name_space;

/// They stay as long as this, whatever becomes of the container that they were taken from.
pub struct Shared {
    /// Each with its name in /proc/PID/ns.
    namespaces: Vec<(&'static str, OwnedFd)>,
    /// The mount namespace with the /dev/shm that goes with the IPC namespace.
    mounts: Option<OwnedFd>,
}

impl Shared {
    /// Finds them, or reports what is missing.
    pub fn open(config: &Config, root: &StateDirectory) -> Result<Self> {
        let mut shared = Self { namespaces: Vec::new(), mounts: None };
        for (option, kind, share) in [("--ipc", "ipc", config.ipc), ("--uts", "uts", config.uts)] {
            let Share::Container(name) = share else { continue };
            let (user, _) = root.namespace_of(option, name, "user")?;
            let own = file::open(CWD, "/proc/self/ns/user", OFlags::RDONLY);
            let number = |fd: &OwnedFd| fstat(fd).map(|found| found.st_ino).ok();
            if config.has_userns() || number(&user) != own.ok().as_ref().and_then(number) {
                let hint = "both containers must be root's, and without --userns";
                return Err(Error::usage(format_args!("{option} container:{name}"), hint));
            }
            shared.namespaces.push((kind, root.namespace_of(option, name, kind)?.0));
            if kind == "ipc" {
                shared.mounts = Some(mounts_of(root, option, name)?);
            }
        }
        Ok(shared)
    }

    /// Does `what` in them.
    pub fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T> {
        let mut own = Vec::new();
        for (kind, theirs) in &self.namespaces {
            own.push(own_namespace(kind).and_then(|own| enter(theirs).map(|()| own)).at(format_args!("setns {kind}"))?);
        }
        let done = what();
        own.iter().try_for_each(enter).at(format_args!("setns"))?;
        Ok(done)
    }

    /// The /dev/shm of the container whose IPC namespace this is.
    pub fn shm(&self) -> Result<Option<Tree>> {
        let Some(theirs) = &self.mounts else { return Ok(None) };
        let path = |path| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let copy = || {
            // setns(2) changes both.
            let (root, directory, own) = (path(c"/")?, path(c".")?, own_namespace("mnt")?);
            enter(theirs)?;
            // The container may have put a link there.
            let resolve = ResolveFlags::NO_SYMLINKS;
            let shm = openat2(CWD, c"/dev/shm", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
            let tree = shm.and_then(|shm| copy_tree(shm, true));
            enter(&own)?;
            fchdir(&root)?;
            chroot(c".")?;
            fchdir(&directory)?;
            tree
        };
        let hint = "it needs CAP_SYS_ADMIN and CAP_SYS_CHROOT";
        copy().context(format_args!("--ipc: open_tree /dev/shm"), hint).map(|tree| Some(Tree::new(Place::Shm, tree)))
    }
}

/// The mount namespace of a container, once it is made: until then /dev/shm in it is the host's.
fn mounts_of(root: &StateDirectory, option: &str, name: &str) -> Result<OwnedFd> {
    let (mounts, record) = root.namespace_of(option, name, "mnt")?;
    let pid = record.init.map_or(0, |init| init.pid);
    let is_made = sys::pidfd(pid).is_some_and(|init| Container { pid, init: &init, leaf: None }.wait_until_made());
    // It was that one, and not another one which has its pid by now.
    if is_made && root.namespace_of(option, name, "mnt")?.1.init == record.init {
        return Ok(mounts);
    }
    Err(Error::usage(format_args!("{option} container:{name}"), "the container has just ended"))
}

fn own_namespace(kind: &str) -> rustix::io::Result<OwnedFd> {
    file::open(CWD, &format!("/proc/self/ns/{kind}"), OFlags::RDONLY)
}

fn enter(namespace: &OwnedFd) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), None)
}
