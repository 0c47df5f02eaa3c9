//! In place of containers of bundles, where kontena is built without them.

use crate::config::userns::Idmap;
use std::ffi::CStr;

/// There are none.
pub enum Bundle {}

/// See the other module.
pub struct Node {
    pub path: &'static CStr,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub major: u32,
    pub minor: u32,
}

/// See the other module.
pub struct Rules {
    pub list: Vec<Access>,
    pub allows_others: bool,
}

/// See the other module.
pub struct Access {
    pub allows: bool,
    pub is_block: Option<bool>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u32,
}

/// See the other module.
pub enum BundleCgroup {
    Path(&'static str),
    Own,
    Callers,
}

impl Bundle {
    /// None.
    pub fn binds(&self) -> impl Iterator<Item = (usize, &'static CStr, bool, Option<&Idmap>)> {
        match *self {}
        #[expect(unreachable_code, reason = "it gives the type")]
        std::iter::empty()
    }

    /// None.
    pub fn cgroup(&self) -> &BundleCgroup {
        match *self {}
    }

    /// None.
    pub fn access(&self) -> &Rules {
        match *self {}
    }

    /// None.
    pub fn nodes(&self) -> &[Node] {
        match *self {}
    }

    /// None.
    pub fn owns_cgroup(&self) -> bool {
        match *self {}
    }

    /// None.
    pub fn shared(&self) -> u32 {
        match *self {}
    }

    /// None.
    pub fn stays(&self) -> bool {
        match *self {}
    }
}
