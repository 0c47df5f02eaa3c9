//! /proc: mounted, and the Plan's settings written through it before anything else can be mounted in it.
//!
//! Runs in the payload's process, but for the settings that cannot wait. Must not open a file of any other procfs, but
//! of the caller's, if a bundle that shares the caller's pid namespace has that for its own.

use core::ffi::CStr;
use core::result::Result;
use kontena_init::plan::{Plan, Report, Step};
use linux_raw_sys::general::PROC_SUPER_MAGIC;
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, ResolveFlags, fstatfs};
use rustix::io::{self, Errno, write};

use crate::dev::Empty;
use crate::failure::fail;
use crate::mounts::place;
use crate::sys;
use crate::tree::{make, open_in};

/// /proc, if there are settings that cannot wait until it is mounted: those with `-` before them, which the launcher
/// counts on when it sets the container's link up. Or if one process does all: it comes before /dev then, in the order
/// in which the kernel lists the mounts, as it does in bundles.
pub fn make_early(plan: &Plan<'_>) -> Result<Option<OwnedFd>, Report> {
    let is_early = |setting: &CStr| setting.to_bytes().starts_with(b"-");
    if plan.init != 0 && !plan.settings.iter().any(is_early) {
        return Ok(None);
    }
    let proc = make(&plan.proc).map_err(fail(Step::Mount, plan.proc.id))?;
    write_settings(&proc, plan, is_early)?;
    Ok(Some(proc))
}

/// Mounts /proc, which may have been made by then, and writes the Plan's settings.
pub fn mount(root: &OwnedFd, empty: &Empty, plan: &Plan<'_>, early: Option<OwnedFd>) -> Result<(), Report> {
    if !plan.has_proc() && plan.settings.is_empty() {
        return Ok(());
    }
    let proc = early.map_or_else(|| make(&plan.proc), Ok).map_err(fail(Step::Mount, plan.proc.id))?;
    if plan.bundle.get().is_some() && !is_proc(&proc).map_err(fail(Step::Mount, plan.proc.id))? {
        return Err(fail(Step::Mount, plan.proc.id)(Errno::INVAL));
    }
    write_settings(&proc, plan, |setting| !setting.to_bytes().starts_with(b"-"))?;
    if plan.has_proc() { place(root, &proc, &plan.proc, empty) } else { Ok(()) }
}

/// Whether it is of a procfs.
pub fn is_proc(fd: &OwnedFd) -> io::Result<bool> {
    fstatfs(fd).map(|found| found.f_type as u32 == PROC_SUPER_MAGIC)
}

fn write_settings(proc: &OwnedFd, plan: &Plan<'_>, which: impl Fn(&CStr) -> bool) -> Result<(), Report> {
    for (index, setting) in (0..).zip(plan.settings.iter()).filter(|(_, setting)| which(setting)) {
        write_setting(proc, setting.to_bytes()).map_err(fail(Step::Setting, index))?;
    }
    Ok(())
}

/// Writes to a file of a procfs that was just made, or looked at: nothing of the rootfs, and no volume, can be in place
/// of it or of anything in it (CVE-2025-52881).
pub fn write_setting(proc: &OwnedFd, setting: &[u8]) -> io::Result<()> {
    let (setting, is_optional) = match setting {
        [b'-', setting @ ..] => (setting, true),
        setting => (setting, false),
    };
    let end = setting.iter().position(|byte| *byte == b'=').ok_or(Errno::INVAL)?;
    let mut room = sys::room::<256>();
    let path = sys::terminate(&setting[..end], &mut room)?;
    // The links in it are the kernel's own: self.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    match open_in(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, resolve) {
        Err(Errno::NOENT) if is_optional => Ok(()),
        file => write(file?, &setting[end + 1..]).map(drop),
    }
}
