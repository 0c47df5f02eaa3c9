//! The leaf cgroup of a container, on the cgroup v2 hierarchy; cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
//!
//! Made, with its limits written, before the container is cloned into it; removed when it has ended. Must not move
//! any process: that is what CLONE_INTO_CGROUP is for.

use crate::config::Limit;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, mkdir, statfs};
use rustix::io::Errno;

/// Where cgroup2 is mounted: alone, or beside the v1 hierarchies of a hybrid host.
const MOUNT_POINTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const CGROUP2_SUPER_MAGIC: u64 = linux_raw_sys::general::CGROUP2_SUPER_MAGIC as u64;
/// How long a container's processes may take to die of SIGKILL before a cgroup is left for the next command.
const KILL_SECONDS: i64 = 10;

/// The path of the leaf of `name` below `parent`, which is relative to the hierarchy.
pub fn leaf_path(parent: &str, name: &str) -> Result<String> {
    Ok(format!("{}/{parent}/{name}", hierarchy()?))
}

/// Where the cgroup2 hierarchy is.
fn hierarchy() -> Result<String> {
    let is_cgroup2 = |path: &&str| statfs(*path).is_ok_and(|fs| fs.f_type as u64 == CGROUP2_SUPER_MAGIC);
    if let Some(path) = MOUNT_POINTS.into_iter().find(is_cgroup2) {
        return Ok(path.into());
    }
    // Somewhere else; proc_pid_mountinfo(5): "… root mount-point options … - type source options".
    for line in file::read_text(CWD, "/proc/self/mountinfo").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let dash = fields.iter().position(|field| *field == "-").unwrap_or(0);
        // Another mount may hide it.
        if let (Some(path), Some(&"cgroup2")) = (fields.get(4), fields.get(dash + 1))
            && is_cgroup2(path)
        {
            return Ok((*path).into());
        }
    }
    let hint = "mount it: mount -t cgroup2 none /sys/fs/cgroup (Linux 5.15 or newer)";
    Err(Error::usage(format_args!("cgroup2 is not mounted"), hint))
}

/// Makes the leaf `path`, and writes its limits; calls `record` before it makes one of its parents that is missing.
pub fn create(path: &str, limits: &[Limit], record: &dyn Fn(&str) -> Result<()>) -> Result<OwnedFd> {
    let hint = "kontena needs write access to the cgroup2 hierarchy";
    let make = || file::c_path(path).and_then(|path| mkdir(&*path, Mode::from_raw_mode(0o755)));
    let made = match make() {
        Err(Errno::NOENT) => {
            for parent in ancestors(path) {
                if file::open(CWD, parent, OFlags::PATH).is_err() {
                    record(parent)?;
                    file::make_directories(parent).context(format_args!("mkdir {parent}"), hint)?;
                }
            }
            make()
        }
        made => made,
    };
    made.context(format_args!("mkdir {path}"), hint)?;
    let leaf = file::open(CWD, path, OFlags::DIRECTORY).context(format_args!("open {path}"), "")?;
    for limit in limits {
        set_limit(&leaf, path, limit)?;
    }
    Ok(leaf)
}

fn set_limit(leaf: &OwnedFd, path: &str, limit: &Limit) -> Result<()> {
    let Limit { controller, file, value } = limit;
    let mut written = file::write(leaf, file, value);
    if written == Err(Errno::NOENT) {
        enable(path, controller)?;
        written = file::write(leaf, file, value);
    }
    written.map_err(|errno| {
        let hint = format!("the {controller} controller refused the limit");
        Error::new(format_args!("write {value} to {path}/{file}"), errno, &hint)
    })
}

/// Enables `controller` for `leaf`: in the cgroup.subtree_control of each of its ancestors, from the root on.
fn enable(leaf: &str, controller: &str) -> Result<()> {
    let root = hierarchy()?;
    let available = file::read_text(CWD, &format!("{root}/cgroup.controllers"));
    if !available.trim_ascii_end().split(' ').any(|known| known == controller) {
        let what = format_args!("the {controller} controller is not in cgroup v2 here");
        return Err(Error::usage(what, &why_missing(controller)));
    }
    for parent in ancestors(leaf).filter(|parent| parent.len() >= root.len()) {
        let control = format!("{parent}/cgroup.subtree_control");
        file::write(CWD, &control, &format!("+{controller}")).context(
            format_args!("enable {controller} in {control}"),
            "the cgroup has processes of its own, or is not delegated: choose another with --cgroup-parent",
        )?;
    }
    Ok(())
}

/// The directories above `path`, from the root on.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/').map(|(end, _)| &path[..end])
}

/// Who has a controller that cgroup v2 lacks.
fn why_missing(controller: &str) -> String {
    for line in file::read_text(CWD, "/proc/self/mounts").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let [_, mount_point, "cgroup", options, ..] = fields[..]
            && options.split(',').any(|option| option == controller)
        {
            return format!(
                "cgroup v1 holds it, mounted at {mount_point}: boot with cgroup_no_v1={controller}, or leave the limit \
                 out"
            );
        }
    }
    format!("the kernel lacks it or was told to: look for cgroup_disable={controller} on its command line")
}

/// Whether the kernel killed a process of the cgroup `path` because it was at its memory limit; memory.events.
pub fn oom_killed(path: &str) -> bool {
    let events = file::read_text(CWD, &format!("{path}/memory.events"));
    events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count != "0")
}

/// Kills what still runs in the cgroup `path`, and removes it. One that is gone is no error.
pub fn remove(path: &str) -> Result<()> {
    let mut removed = file::remove_directory(path);
    if removed == Err(Errno::BUSY) {
        kill_and_wait(path);
        removed = file::remove_directory(path);
    }
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed.context(format_args!("rmdir {path}"), "run kontena prune to try again"),
    }
}

/// Sends SIGKILL to all of the cgroup, and waits until it has no process left.
fn kill_and_wait(path: &str) {
    let _ = file::write(CWD, &format!("{path}/cgroup.kill"), "1");
    for _ in 0..KILL_SECONDS * 100 {
        // cgroup.events is polled for POLLPRI; the file is opened again, since a poll counts from the last read.
        let Ok(events) = file::open(CWD, &format!("{path}/cgroup.events"), OFlags::RDONLY) else { return };
        let text = file::read_open(&events).unwrap_or_default();
        if String::from_utf8_lossy(&text).lines().any(|line| line == "populated 0") {
            return;
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&wait));
    }
}
