//! In place of the programs that make an ordinary user's connections, where kontena is built without ordinary users.

use crate::config::network::Outbound;
use crate::error::{Error, Result};
use crate::spawn::clone::Started;
use std::convert::Infallible;

/// An installed program: there is none.
#[derive(Clone, Copy)]
pub enum Program {}

/// The program at work: there is none.
pub type Helper = Infallible;

impl Program {
    /// Looks for none.
    pub fn find(kind: Outbound) -> Result<Self> {
        Err(Error::without(format_args!("--net {}", kind.name()), "rootless"))
    }

    /// Starts none.
    pub fn start(self, _: &Started) -> Result<Helper> {
        match self {}
    }
}
