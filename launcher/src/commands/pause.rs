//! `kontena pause` and `kontena resume`: freeze and thaw a container's leaf cgroup.

use crate::commands::leaf_of;
use crate::error::{Context, Result};
use crate::file::{self, CWD};
use crate::resources::cgroup;
use crate::state::{ContainerRecord, not_running};

/// Freezes all processes of a container, and waits until they are.
pub fn pause(container: &ContainerRecord) -> Result<()> {
    set_frozen(container, true)
}

/// Lets them run again.
pub fn resume(container: &ContainerRecord) -> Result<()> {
    set_frozen(container, false)
}

fn set_frozen(container: &ContainerRecord, is_frozen: bool) -> Result<()> {
    if !container.is_running {
        return Err(not_running(&container.name));
    }
    let leaf = leaf_of(container)?;
    let (path, value) = (format!("{leaf}/cgroup.freeze"), if is_frozen { "1" } else { "0" });
    file::write(CWD, &path, value).at(format_args!("write {value} to {path}"))?;
    cgroup::wait_until_frozen(leaf, is_frozen);
    Ok(())
}
