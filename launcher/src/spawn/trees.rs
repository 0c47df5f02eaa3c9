//! The mounts that the init inherits by open fds: the root, the layer, the volumes, and what else only the host's root
//! can open.
//!
//! Each is a copy for one run. Must not mount anything where the host sees it.

use crate::error::{Error, Result};
use crate::file::is_null_device;
use crate::resources::userns::{self, Maps};
use crate::spawn::clone::{fd_number, leave_open};
use crate::spawn::sources::{Inherited, Place};
use kontena_init::plan::mount_kind;
use rustix::fd::OwnedFd;
use rustix::process::Pid;
use std::ffi::CStr;

/// A mount whose fd the init inherits.
pub struct Tree {
    /// Which it is.
    pub place: Place,
    /// See [`mount_kind`].
    pub kind: u8,
    /// Whether it is the null device, which is usable wherever it is: files are hidden with it.
    pub is_null: bool,
    /// Where it comes from, for people.
    path: &'static CStr,
    /// The mount, or what the init must find at its path.
    fd: OwnedFd,
    /// Whether the container's users must see its files as theirs.
    needs_idmap: bool,
    /// Whether those of the mounts below it stay as they are.
    idmap_top: bool,
}

impl Tree {
    /// A copy of mounts that is shown as it is.
    pub fn new(place: Place, fd: OwnedFd) -> Self {
        Self { place, kind: mount_kind::TREE, is_null: false, path: c"", fd, needs_idmap: false, idmap_top: false }
    }

    /// The number of its fd, as the Plan has it.
    pub fn number(&self) -> u32 {
        fd_number(&self.fd)
    }

    /// A source of the container, for one run; an error where it needs an idmap that it cannot have.
    pub fn of(source: Inherited, maps: Option<&Maps>) -> Result<Self> {
        let Inherited { place, path, idmap, idmap_top, fd, is_tree, found } = source;
        let needs_idmap = match place {
            Place::Volume(_) => idmap,
            // One whose files are the container's already is shown as it is.
            _ => maps.is_some_and(|maps| !maps.has_owner(found.st_uid)),
        };
        if needs_idmap {
            check_idmap(place, path, is_tree, found.st_uid, maps)?;
        }
        let kind = if is_tree { mount_kind::TREE } else { mount_kind::KNOWN };
        Ok(Self { place, kind, is_null: is_null_device(&found), path, fd, needs_idmap, idmap_top })
    }

    /// Leaves it open across the exec of the next process: no other process may be started before.
    pub fn pass_on(&self) -> Result<()> {
        leave_open(&self.fd).map(drop)
    }

    /// Shows its files to the users of the container of `init` as theirs, where they must be.
    pub fn show_to(&self, init: Pid) -> Result<()> {
        if !self.needs_idmap {
            return Ok(());
        }
        userns::show_to(init, &self.fd, !self.idmap_top, &self.path.to_string_lossy())
    }
}

/// Refuses a tree whose files, which `owner` has on the host, cannot be shown to the container's users as theirs.
fn check_idmap(place: Place, path: &CStr, is_tree: bool, owner: u32, maps: Option<&Maps>) -> Result<()> {
    let path = path.to_string_lossy();
    if place == Place::Layer && maps.is_some_and(|maps| !maps.has_uid(owner)) {
        let hint = "a layer belongs to one range of ids: use --userns map=… with its range, or chown its files to \
                    the container's ids";
        return Err(Error::usage(format_args!("--overlay {path}: its files are those of uid {owner}"), hint));
    }
    if maps.is_none() || !is_tree {
        let hint = "idmap needs root and a user namespace: use --userns auto, or remove it";
        return Err(Error::usage(format_args!("--volume {path}: idmap"), hint));
    }
    Ok(())
}
