//! `kontena update`: sets limits of a running container.

use crate::commands::leaf_of;
use crate::config::limits::Limit;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::resources::cgroup::Leaf;
use crate::state::ContainerRecord;
use rustix::fs::OFlags;

/// Sets `limits`.
pub fn update(container: &ContainerRecord, limits: &[Limit]) -> Result<()> {
    if !container.is_running {
        let hint = "its limits are set when it starts";
        return Err(Error::usage(format_args!("{} is not running", container.name), hint));
    }
    let path = leaf_of(container)?;
    let directory = file::open(CWD, path, OFlags::DIRECTORY).at(format_args!("open {path}"))?;
    Leaf::of(path)?.set_limits(&directory, limits, &|_| Ok(()))
}
