//! Limits: written to the files of a leaf, and read from them.

use super::controllers::has;
use super::{Leaf, Record};
use crate::config::Config;
use crate::config::limits::{DEFAULT_PIDS, Limit, PIDS_MAX};
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, stat};
use rustix::io::Errno;
use std::ffi::CStr;

impl Leaf {
    /// Sets what was asked for, and the limit of processes that every container has.
    pub fn limit(&self, leaf: &OwnedFd, config: &Config, is_root: bool, record: Record<'_>) -> Result<()> {
        self.set_limits(leaf, &config.limits, record)?;
        if config.bundle.is_none() && !config.limits.iter().any(|limit| limit.file == PIDS_MAX) {
            self.limit_processes(leaf, is_root && config.cgroup_parent.is_none());
        }
        Ok(())
    }

    /// Writes the limit of processes that every container has. Somebody else's parent may lack the controller, and is
    /// left as it is: enabling it there would change all its other children.
    fn limit_processes(&self, leaf: &OwnedFd, parent_is_ours: bool) {
        let write = || file::write(leaf, PIDS_MAX, DEFAULT_PIDS);
        if write() == Err(Errno::NOENT)
            && parent_is_ours
            && has(&format!("{}/cgroup.controllers", self.mount_point), "pids")
            && self.enable("pids", None).is_ok()
        {
            let _ = write();
        }
    }

    /// Writes limits to the leaf, whose directory is open.
    pub fn set_limits(&self, leaf: &OwnedFd, limits: &[Limit], record: Record<'_>) -> Result<()> {
        limits.iter().try_for_each(|limit| self.set_limit(leaf, limit, record))
    }

    fn set_limit(&self, leaf: &OwnedFd, limit: &Limit, record: Record<'_>) -> Result<()> {
        let Limit { file, device, .. } = limit;
        let value = match device {
            Some(device) => format!("{} {}", device_number(device)?, limit.value),
            None => limit.value.into(),
        };
        let mut written = file::write(leaf, file, &value);
        if written == Err(Errno::NOENT)
            && !limit.is_none()
            && let Some(controller) = limit.controller()
        {
            self.enable(controller, Some(record))?;
            written = file::write(leaf, file, &value);
        }
        let hint = match written {
            Ok(()) => return self.check_cpuset(leaf, file),
            Err(Errno::NOENT) if limit.if_known => return Ok(()),
            Err(Errno::NOENT) => "this kernel's cgroups have no such file: remove the limit, or check its name",
            Err(Errno::NODEV | Errno::NXIO) => "use an existing whole disk, not a partition",
            Err(Errno::OPNOTSUPP) => "the disk has no weights: enable blk-iocost for it in io.cost.qos",
            Err(Errno::INVAL | Errno::RANGE) => "the kernel refuses this value",
            Err(_) => "",
        };
        written.context(format_args!("write {value} to {}/{file}", self.path), hint)
    }

    /// The kernel takes CPUs and memory nodes that cannot be had, and then leaves the limit out.
    fn check_cpuset(&self, leaf: &OwnedFd, file: &str) -> Result<()> {
        if !matches!(file, "cpuset.cpus" | "cpuset.mems") {
            return Ok(());
        }
        let [wanted, effective] = [file, &format!("{file}.effective")].map(|file| file::read_text(leaf, file));
        if wanted == effective {
            return Ok(());
        }
        let what = format_args!("write {} to {}/{file}", wanted.trim_ascii(), self.path);
        Err(Error::usage(what, &format!("only these are available here: {}", effective.trim_ascii())))
    }
}

/// `MAJOR:MINOR` of a block device.
fn device_number(path: &CStr) -> Result<String> {
    let hint = "use a block device, for example /dev/sda";
    let what = format_args!("device {}", path.to_string_lossy());
    let found = stat(path).context(what, hint)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Err(Error::usage(format_args!("device {} is not a disk", path.to_string_lossy()), hint));
    }
    Ok(format!("{}:{}", rustix::fs::major(found.st_rdev as _), rustix::fs::minor(found.st_rdev as _)))
}

/// The limits that a cgroup has: file and value.
pub fn limits(path: &str) -> Vec<(&'static str, String)> {
    const FILES: [&str; 9] = [
        "memory.max",
        "memory.swap.max",
        "memory.high",
        "memory.low",
        "pids.max",
        "cpu.max",
        "cpu.weight",
        "cpuset.cpus",
        "io.max",
    ];
    let value = |file| file::read(CWD, &format!("{path}/{file}")).ok().and_then(|value| String::from_utf8(value).ok());
    FILES.iter().filter_map(|file| Some((*file, value(*file)?.trim_ascii_end().into()))).list()
}
