//! Attributes of a process that only a bundle can set, each set while this process still has the privilege for it.
//!
//! Must not be needed by a process without a bundle.

use kontena_init::plan::{
    Attributes, ProcessSpec, Report, Step,
    attributes::{NONE, has},
};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, ResolveFlags, fstat};
use rustix::io::{Errno, Result};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::failure::fail;
use crate::{caps, proc, sys, tree};

type Done = core::result::Result<(), Report>;

/// Sets what clone(2) inherits, before a filter can refuse it; the CPUs only if the process `joins` a container.
pub fn begin(process: &ProcessSpec<'static>, joins: bool) -> Done {
    let Some(attributes) = process.attributes.get() else { return Ok(()) };
    if joins && !attributes.cpus.is_empty() {
        set_cpus(attributes.cpus).map_err(fail(Step::Attribute, 2))?;
    }
    sys::set_personality(attributes.personality).map_err(fail(Step::Attribute, 3))?;
    if attributes.memory_mode == NONE {
        return Ok(());
    }
    sys::set_memory_policy(attributes.memory_mode, attributes.memory_nodes).map_err(fail(Step::Attribute, 4))
}

/// Sets what fork(2) does not have to inherit, while the process still has the privilege.
pub fn schedule(process: &ProcessSpec<'static>) -> Done {
    let Some(attributes) = process.attributes.get() else { return Ok(()) };
    if let Ok(scheduler) = attributes.scheduler.try_into() {
        sys::set_scheduler(scheduler).map_err(fail(Step::Attribute, 0))?;
    }
    match attributes.io_priority {
        0 => Ok(()),
        priority => sys::set_io_priority(priority).map_err(fail(Step::Attribute, 1)),
    }
}

/// Sets the label for the exec, through the container's own /proc: nothing else may be mounted on it or in it.
pub fn label(process: &ProcessSpec<'static>, root: &OwnedFd) -> Done {
    let label = process.attributes.get().map_or(c"", |attributes| attributes.label);
    if label.is_empty() {
        return Ok(());
    }
    let write = || {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let found = tree::open_in(root, c"/proc", tree::PATH_FD | OFlags::DIRECTORY, resolve)?;
        if !proc::is_proc(&found)? || fstat(&found)?.st_ino != ROOT_OF_PROC {
            return Err(Errno::XDEV);
        }
        proc::write_setting(&found, label.to_bytes())
    };
    write().map_err(fail(Step::Attribute, 5))
}

/// The kernel's PROC_ROOT_INO.
const ROOT_OF_PROC: u64 = 1;

fn set_cpus(bits: &[u8]) -> Result<()> {
    let mut cpus = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|cpu| has(bits, *cpu)).for_each(|cpu| cpus.set(cpu));
    sched_setaffinity(None, &cpus)
}

/// The capabilities that are needed to set these attributes after the change of the user.
pub fn needed(process: &ProcessSpec<'static>) -> u64 {
    process.attributes.get().map_or(0, |attributes| {
        let asks = !attributes.scheduler.is_empty() || attributes.io_priority != 0;
        let all = attributes.permitted | attributes.effective | attributes.inheritable;
        all | if asks { caps::NICE } else { 0 }
    })
}

/// The capability sets of a process, if its attributes have them.
pub fn sets(process: &ProcessSpec<'static>) -> Option<caps::Sets> {
    let attributes = process.attributes.get().filter(|given| given.has_sets == 1)?;
    let Attributes { permitted, effective, inheritable, .. } = *attributes;
    Some(caps::Sets { permitted, effective, inheritable, ambient: process.ambient })
}
