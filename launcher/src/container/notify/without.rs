//! In place of the ways by which a payload says that it is ready, where kontena is built without them.

use crate::container::lifecycle::Container;
use crate::error::Result;
use crate::spawn::plan::Extras;
use crate::spawn::trees::Tree;
use crate::supervise::readiness::Readiness;
use std::net::IpAddr;

/// What the init gets of it.
pub struct Notify {
    /// For its Plan.
    pub extras: Extras,
    /// None.
    pub tree: Option<Tree>,
}

impl Container {
    /// Opens nothing.
    pub(super) fn open_notify(&mut self) -> Result<Notify> {
        Ok(Notify { extras: Extras { size: self.size, ..Extras::default() }, tree: None })
    }

    /// Waits for no port.
    pub(super) fn port_to_await(&self, _: IpAddr) -> Option<Readiness> {
        None
    }
}
