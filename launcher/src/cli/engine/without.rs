//! In place of the command lines of OCI engines, where kontena is built without them.

use crate::cli::table::Verb;
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

    /// There is nothing to refuse.
    pub fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// There are none.
#[derive(Default)]
pub struct Options {
    /// None.
    pub globals: Globals,
}

impl Options {
    /// None.
    pub fn console(&self) -> Option<&'static str> {
        None
    }
}

/// It cannot have any.
pub fn has_its_options<'a>(_: Verb, _: impl Iterator<Item = &'a str>, _: &[OsString]) -> bool {
    false
}

/// It is nobody's.
pub fn tell_verb(_: Verb) {}
