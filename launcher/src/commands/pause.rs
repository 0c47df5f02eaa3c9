//! `kontena pause` and `kontena resume`: freeze and thaw a container's leaf cgroup.

use crate::commands::leaf_of;
use crate::error::{Context, Error, Result};
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

/// Refuses a paused container, which would not answer.
pub fn refuse_paused(container: &ContainerRecord) -> Result<()> {
    let name = &container.name;
    if container.cgroup_path().is_some_and(cgroup::is_frozen) {
        return Err(Error::usage(format_args!("{name} is paused"), &format!("kontena resume {name} first")));
    }
    Ok(())
}

fn set_frozen(container: &ContainerRecord, is_frozen: bool) -> Result<()> {
    // A container that is being created has no PID 1 yet, so it could not be killed after its launcher has ended.
    if container.running_init().is_none() {
        return Err(not_running(&container.name));
    }
    let leaf = leaf_of(container)?;
    let (path, value) = (format!("{leaf}/cgroup.freeze"), if is_frozen { "1" } else { "0" });
    file::write(CWD, &path, value).at(format_args!("write {value} to {path}"))?;
    cgroup::wait_until_frozen(leaf, is_frozen);
    Ok(())
}
