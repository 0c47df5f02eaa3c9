//! In place of user namespaces, where kontena is built without them.

use crate::config::userns::{Ids, Userns};
use crate::error::{Error, Result};
use crate::state::Journal;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::CString;

/// No container has any.
pub enum Maps {}

/// Changes nothing: root of a container is the host's.
pub fn give_pipes_to_root_of(_: u32) {}

impl Maps {
    /// None for root, and no container for anybody else.
    pub fn allocate(_: Option<&Userns>, is_root: bool, _: &mut Journal<'_>) -> Result<Option<Self>> {
        if is_root {
            Ok(None)
        } else {
            Err(Error::without(format_args!("a container of an ordinary user"), "rootless"))
        }
    }

    /// Whether the container has this gid.
    pub fn has_gid(&self, _: u32) -> bool {
        match *self {}
    }

    /// Whether the container has this uid.
    pub fn has_uid(&self, _: u32) -> bool {
        match *self {}
    }

    /// Gives stdio to root of the container.
    pub fn own_pipes(&self) {
        match *self {}
    }

    /// The ids of the container's root.
    pub fn root(&self) -> Option<Ids> {
        match *self {}
    }

    /// A uid and a gid of the container as the host has them.
    pub fn on_host(&self, _: Ids) -> Option<Ids> {
        match *self {}
    }

    /// Whether a file of this owner is one of the container's already.
    pub fn has_owner(&self, _: u32) -> bool {
        match *self {}
    }

    /// Writes them.
    pub fn write(&self, _: Pid) -> Result<()> {
        match *self {}
    }
}

/// No program is needed.
pub fn find_program(_: &str) -> Option<CString> {
    None
}

/// Nobody but root's users is shown anything.
pub fn show_to(_: Pid, _: &OwnedFd, _: bool, _: &str) -> Result<()> {
    Ok(())
}

/// No namespace is asked for.
pub fn why_refused(_: Errno) -> String {
    String::new()
}
