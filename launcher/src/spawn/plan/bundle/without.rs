//! In place of the Plans of bundles, where kontena is built without them.

use super::Inputs;
use crate::config::bundle::Bundle;
use crate::error::Result;

/// There are none.
pub fn encode(_: &Inputs<'_>, bundle: &Bundle) -> Result<Vec<u8>> {
    match *bundle {}
}
