//! The leaf cgroup of a container, on the cgroup v2 hierarchy; cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
//!
//! Made, with its limits written, before the container is cloned into it; removed when it has ended. Must not move
//! any process of a container, which is what CLONE_INTO_CGROUP is for, nor anybody else's.

mod controllers;
mod delegation;
mod events;
mod hierarchy;
mod limits;
mod processes;
mod removal;

use crate::config::Config;
use crate::config::bundle::{Bundle, BundleCgroup};
use crate::config::limits::Limit;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::resources::devices;
use crate::text::split_last;
use hierarchy::{ancestors, below, is_cgroup2, mount_hierarchy, own_cgroup};
use rustix::fd::OwnedFd;
use rustix::fs::{Access, Mode, OFlags, access, mkdir, rmdir, stat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::cell::RefCell;
use std::ffi::CStr;

pub use events::{LeafEvents, is_frozen, is_full, wait_until_frozen};
pub use hierarchy::hierarchy;
pub use limits::limits;
pub use processes::{all_processes, has_process, kill, of_process, processes, signal_all};
pub use removal::remove;

/// The cgroup that holds the leaves unless `--cgroup-parent` says otherwise.
const PARENT: &str = "/kontena";
/// The mode of every cgroup that kontena makes. A parent keeps the bit: it says that kontena may remove it.
const MADE: u32 = file::UNOWNED | 0o755;

/// A container's leaf, which may not be there yet.
pub struct Leaf {
    /// Where the hierarchy is mounted, or will be.
    mount_point: String,
    /// The leaf's directory.
    pub path: String,
    /// The cgroup that this launcher has left for [`OWN_LEAF`] below it.
    left: RefCell<Option<String>>,
}

/// Calls `record` with what is about to be made and stays when the container goes, in the words that [`undo`] knows.
pub type Record<'a> = &'a dyn Fn(&str) -> Result<()>;

impl Leaf {
    /// Where the container's leaf goes. An ordinary user's goes without where it asks for nothing that takes one, and
    /// none is delegated to it; so does a bundle that names none, where the hierarchy is not root's.
    pub fn choose(config: &Config, is_root: bool) -> Result<Option<Self>> {
        match config.bundle.as_ref().map(Bundle::cgroup) {
            Some(BundleCgroup::Callers) => return Ok(None),
            Some(BundleCgroup::Path(path)) => {
                let mount_point = hierarchy()?;
                return Ok(Some(Self { path: format!("{mount_point}{path}"), mount_point, left: RefCell::new(None) }));
            }
            _ => {}
        }
        let may_write = |path: &str| file::c_path(path).and_then(|path| access(&*path, Access::WRITE_OK));
        // An engine of an ordinary user runs kontena as root of a user namespace that does not own the hierarchy.
        let is_root = is_root && (config.bundle.is_none() || may_write(&hierarchy()?) != Err(Errno::ACCESS));
        let default = if is_root { PARENT } else { "." };
        let leaf = Self::below(config, config.cgroup_parent.unwrap_or(default));
        if is_root || config.cgroup_parent.is_some() || config.cgroup_mount.is_some() {
            return leaf.map(Some);
        }
        let parent = leaf.as_ref().ok().and_then(|leaf| split_last(&leaf.path, b'/')).map_or("", |(parent, _)| parent);
        if may_write(parent).is_ok() && may_write(&format!("{parent}/cgroup.procs")).is_ok() {
            return leaf.map(Some);
        }
        if config.limits.iter().all(Limit::is_none) && config.stats.is_none() && !config.delegates_cgroup {
            return Ok(None);
        }
        let hint = "none is delegated to this user: run kontena with systemd-run --user --scope -p Delegate=yes, \
                    or as root, or remove it";
        Err(Error::usage(format_args!("a limit, --stats or --systemd needs a cgroup of the container's own"), hint))
    }

    fn below(config: &Config, parent: &str) -> Result<Self> {
        let mount_point = match config.cgroup_mount {
            Some(path) => path.into(),
            None => hierarchy()?,
        };
        let parent = match parent {
            relative if relative.starts_with('.') => below(own_cgroup()?, relative)?,
            path => path.into(),
        };
        Ok(Self { path: format!("{mount_point}{parent}/{}", config.name), mount_point, left: RefCell::new(None) })
    }

    /// Makes it, marked [`file::UNOWNED`].
    pub fn make(&self, config: &Config, record: Record<'_>) -> Result<OwnedFd> {
        let path = &self.path;
        if config.cgroup_mount.is_some() && !is_cgroup2(&self.mount_point) {
            mount_hierarchy(&self.mount_point, record)?;
        }
        let make = || file::c_path(path).and_then(|path| mkdir(&*path, Mode::from_raw_mode(MADE)));
        let made = match make() {
            Err(Errno::NOENT) => {
                let mut made = false;
                for parent in ancestors(path) {
                    made = make_shared_directory(parent, record)?;
                }
                if made && let Some(parent) = ancestors(path).last() {
                    file::open(CWD, parent, OFlags::DIRECTORY).iter().for_each(devices::confine_all_below);
                }
                make()
            }
            made => made,
        };
        let hint = match made {
            Err(Errno::EXIST) => "it belongs to somebody else: choose another --name or --cgroup-parent",
            _ => NEEDS_WRITE,
        };
        made.context(format_args!("mkdir {path}"), hint)?;
        file::open(CWD, path, OFlags::DIRECTORY).at(format_args!("open {path}"))
    }

    /// The leaf of a running container, which is the cgroup `path`.
    pub fn of(path: &str) -> Result<Self> {
        Ok(Self { mount_point: hierarchy()?, path: path.into(), left: RefCell::new(None) })
    }
}

/// Takes back what a `record` was called for; `false` where others still need it.
pub fn undo(line: &str) -> bool {
    match line.split_once(' ') {
        Some(("directory", path)) => remove_unowned(path),
        Some(("mount", path)) => {
            file::c_path(path).and_then(|path| unmount(&*path, UnmountFlags::empty())) != Err(Errno::BUSY)
        }
        _ => true,
    }
}

/// Removes a directory that kontena made and no container owns; `false` where it is not empty.
pub fn remove_unowned(path: &str) -> bool {
    let remove = |path: &CStr| match stat(path) {
        Ok(found) if file::is_unowned(found.st_mode) => rmdir(path),
        _ => Ok(()),
    };
    !matches!(file::c_path(path).and_then(|path| remove(&path)), Err(Errno::BUSY | Errno::NOTEMPTY))
}

const NEEDS_WRITE: &str = "kontena needs write access to the cgroup2 hierarchy: if it runs in a container, start that \
                           one with --privileged";

/// Says whether it was missing.
fn make_shared_directory(path: &str, record: Record<'_>) -> Result<bool> {
    if file::open(CWD, path, OFlags::PATH).is_ok() {
        return Ok(false);
    }
    record(&format!("directory {path}"))?;
    file::make_directories(path, MADE).map(|()| true).context(format_args!("mkdir {path}"), NEEDS_WRITE)
}
