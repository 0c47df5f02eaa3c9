//! In place of the command lines of OCI engines, where kontena is built without them.

use crate::error::Result;
use std::ffi::OsString;

/// There are none.
#[derive(Default)]
pub struct Globals {}

impl Globals {
    /// Takes none.
    pub fn take(&mut self, _: &str, _: &mut &'static [OsString]) -> Result<bool> {
        Ok(false)
    }
}

/// There are none.
#[derive(Default)]
pub struct Options {
    /// None.
    pub globals: Globals,
}

impl Options {
    /// It cannot be given.
    pub fn is_given(&self) -> bool {
        false
    }
}

/// There is none.
pub fn answer_engine() {}

/// It cannot be given.
pub fn has_bundle(_: &[OsString]) -> bool {
    false
}
