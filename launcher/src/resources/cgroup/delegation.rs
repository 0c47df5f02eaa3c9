//! A cgroup for an init that makes cgroups of its own: below the leaf, so that it can change no limit of the leaf's.

use super::Leaf;
use super::removal::remove_tree;
use crate::config::userns::Ids;
use crate::error::{Context, Result};
use crate::file::{self, CWD};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, OFlags, chownat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

/// The files that one may write to whom a cgroup is delegated; cgroup-v2.rst, "Model of Delegation".
const DELEGATED: [&str; 4] = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];

impl Leaf {
    /// Makes it anew for one run of the container, with the leaf's controllers, for these ids if they are not the
    /// caller's. It becomes the root of the container's cgroup namespace.
    pub fn delegate(&self, owner: Option<Ids>) -> Result<OwnedFd> {
        let path = format!("{}/delegated", self.path);
        let make = || {
            match remove_tree(&path) {
                Ok(()) | Err(Errno::NOENT) => {}
                removed => removed?,
            }
            let control = format!("{}/cgroup.subtree_control", self.path);
            for controller in
                file::read_text(CWD, &format!("{}/cgroup.controllers", self.path)).split_ascii_whitespace()
            {
                // Some cannot be enabled here, and the init does without.
                let _ = file::write(CWD, &control, &format!("+{controller}"));
            }
            file::make_directory(CWD, &path)?;
            let directory = file::open(CWD, &path, OFlags::DIRECTORY)?;
            owner.map_or(Ok(()), |owner| give(&directory, owner))?;
            Ok(directory)
        };
        make().context(format_args!("mkdir {path}"), "kontena needs write access to the cgroup2 hierarchy")
    }
}

/// Gives a cgroup to those whom it is delegated to.
fn give(directory: &OwnedFd, Ids { uid, gid }: Ids) -> rustix::io::Result<()> {
    for name in DELEGATED {
        let name = file::c_path(name)?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(directory, &*name, Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

impl Leaf {
    /// Gives the leaf itself to root of a container that may change its cgroups; runtime-spec, "Cgroup ownership". With
    /// the files that the kernel lists; /sys/kernel/cgroup/delegate.
    pub fn give(&self, leaf: &OwnedFd, owner: Ids) -> Result<()> {
        let what = format_args!("chown {}", self.path);
        give(leaf, owner).at(what)?;
        for name in file::read_text(CWD, "/sys/kernel/cgroup/delegate").lines() {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            match file::c_path(name).and_then(|name| chownat(leaf, &*name, Some(uid), Some(gid), AtFlags::empty())) {
                // That of a controller which the leaf lacks.
                Ok(()) | Err(Errno::NOENT) => {}
                given => given.at(what)?,
            }
        }
        Ok(())
    }
}
