//! `kontena delete`: forgets a container that has ended.

use crate::commands::stop;
use crate::error::Result;
use crate::state::{ContainerRecord, StateDirectory};

/// Deletes the record of a container; with `force`, kills the container before; and perhaps its anonymous volumes.
pub fn delete(state: &StateDirectory, container: &ContainerRecord, force: bool, volumes: bool) -> Result<()> {
    let name = &container.name;
    if force {
        stop::kill(state, name)?;
    }
    let deleted = match state.delete(name, volumes) {
        // Another container of this name, which was started since.
        Err(_) if force && state.look(name)?.is_some_and(|now| now.is_running) => return Ok(()),
        // That one has ended by now.
        Err(_) if force => state.delete(name, volumes),
        deleted => deleted,
    };
    deleted.map(drop)
}
