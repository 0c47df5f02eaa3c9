//! The attributes that only a bundle gives a process, each set as soon as it can be and as late as it must.
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

/// What clone(2) passes on, before a filter could refuse it; the CPUs only if it `joins` a container.
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

/// What a fork need not pass on, while the process may still do it.
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

/// The label of its exec, by the container's own /proc: nothing may be mounted there instead of it, or in it.
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

/// PROC_ROOT_INO of the kernel.
const ROOT_OF_PROC: u64 = 1;

fn set_cpus(bits: &[u8]) -> Result<()> {
    let mut cpus = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|cpu| has(bits, *cpu)).for_each(|cpu| cpus.set(cpu));
    sched_setaffinity(None, &cpus)
}

/// What a process needs for all this, once it is not root of the host any more.
pub fn needed(process: &ProcessSpec<'static>) -> u64 {
    process.attributes.get().map_or(0, |attributes| {
        let asks = !attributes.scheduler.is_empty() || attributes.io_priority != 0;
        let all = attributes.permitted | attributes.effective | attributes.inheritable;
        all | if asks { caps::NICE } else { 0 }
    })
}

/// The capabilities of a process, if its attributes say them.
pub fn sets(process: &ProcessSpec<'static>) -> Option<caps::Sets> {
    let attributes = process.attributes.get().filter(|given| given.has_sets == 1)?;
    let Attributes { permitted, effective, inheritable, .. } = *attributes;
    Some(caps::Sets { permitted, effective, inheritable, ambient: process.ambient })
}
