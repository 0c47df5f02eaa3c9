//! In place of volumes by name, where kontena is built without the commands that manage them.

use crate::error::{Error, Result};

/// Refuses them.
pub fn directory(_: Option<&str>) -> Result<String> {
    Err(Error::without(format_args!("volumes by name"), "background")
        .advise("use a path with a slash, for example ./data"))
}

/// Leaves it to a whole kontena.
pub fn remove(_: &str) -> Result<()> {
    Ok(())
}
