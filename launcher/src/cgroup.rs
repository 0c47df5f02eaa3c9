//! The leaf cgroup of a container, on the cgroup v2 hierarchy; cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
//!
//! Made, with its limits written, before the container is cloned into it; removed when it has ended. Must not move
//! any process: that is what CLONE_INTO_CGROUP is for.

use crate::config::Limit;
use crate::error::{Context, Error, Result};
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::statfs;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where cgroup2 is mounted: alone, or beside the v1 hierarchies of a hybrid host.
const MOUNT_POINTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const CGROUP2_SUPER_MAGIC: u64 = linux_raw_sys::general::CGROUP2_SUPER_MAGIC as u64;
/// How long a container's processes may take to die of SIGKILL before a cgroup is left for the next command.
const KILL_SECONDS: i64 = 10;

/// The path of the leaf of `name` below `parent`, which is relative to the hierarchy.
pub fn leaf_path(parent: &str, name: &str) -> Result<PathBuf> {
    Ok(hierarchy()?.join(parent).join(name))
}

/// Where the cgroup2 hierarchy is.
fn hierarchy() -> Result<PathBuf> {
    let is_cgroup2 = |path: &str| statfs(path).is_ok_and(|fs| fs.f_type as u64 == CGROUP2_SUPER_MAGIC);
    if let Some(path) = MOUNT_POINTS.into_iter().find(|path| is_cgroup2(path)) {
        return Ok(path.into());
    }
    // Somewhere else; proc_pid_mountinfo(5): "… root mount-point options … - type source options".
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    found.map(PathBuf::from).ok_or_else(|| {
        Error::usage("cgroup2 is not mounted", "mount it: mount -t cgroup2 none /sys/fs/cgroup (Linux 5.15 or newer)")
    })
}

/// Makes the leaf `path`, and its parents, and writes its limits.
pub fn create(path: &Path, limits: &[Limit]) -> Result<OwnedFd> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(path),
        made => made,
    }
    .context(|| format!("mkdir {}", path.display()), "kontena needs write access to the cgroup2 hierarchy")?;
    for limit in limits {
        set_limit(path, limit)?;
    }
    sys::open(path, OpenOptions::new().read(true)).context(|| format!("open {}", path.display()), "")
}

fn set_limit(leaf: &Path, limit: &Limit) -> Result<()> {
    let file = leaf.join(limit.file);
    if !file.exists() {
        enable(leaf, limit.controller)?;
    }
    fs::write(&file, &limit.value).context(
        || format!("write {} to {}", limit.value, file.display()),
        format!("the {} controller refused the limit", limit.controller),
    )
}

/// Enables `controller` for `leaf`: in the cgroup.subtree_control of each of its ancestors, from the root on.
fn enable(leaf: &Path, controller: &'static str) -> Result<()> {
    let root = hierarchy()?;
    let available = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    if !available.split_whitespace().any(|known| known == controller) {
        return Err(Error::usage(
            format!("the {controller} controller is not in cgroup v2 here"),
            why_missing(controller),
        ));
    }
    let ancestors: Vec<&Path> = leaf.ancestors().skip(1).take_while(|path| path.starts_with(&root)).collect();
    for ancestor in ancestors.into_iter().rev() {
        let file = ancestor.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}")).context(
            || format!("enable {controller} in {}", file.display()),
            "the cgroup has processes of its own, or is not delegated: choose another with --cgroup-parent",
        )?;
    }
    Ok(())
}

/// Who has a controller that cgroup v2 lacks.
fn why_missing(controller: &str) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let v1 = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| {
        fields.get(2) == Some(&"cgroup")
            && fields.get(3).is_some_and(|options| options.split(',').any(|o| o == controller))
    });
    match v1 {
        Some(fields) => format!(
            "cgroup v1 holds it, mounted at {}: boot with cgroup_no_v1={controller}, or leave the limit out",
            fields.get(1).unwrap_or(&"")
        ),
        None => format!("the kernel lacks it or was told to: look for cgroup_disable={controller} on its command line"),
    }
}

/// Kills what still runs in the cgroup `path`, and removes it. One that is gone is no error.
pub fn remove(path: &Path) -> Result<()> {
    for attempt in 0..2 {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && attempt == 0 => kill_and_wait(path),
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            removed => {
                return removed.context(|| format!("rmdir {}", path.display()), "run kontena prune to try again");
            }
        }
    }
    Ok(())
}

/// Sends SIGKILL to all of the cgroup, and waits until it has no process left.
fn kill_and_wait(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    for _ in 0..KILL_SECONDS * 100 {
        // cgroup.events is polled for POLLPRI; the file is opened again, since a poll counts from the last read.
        let Ok(events) = sys::open(&path.join("cgroup.events"), OpenOptions::new().read(true)) else { return };
        if fs::read_to_string(path.join("cgroup.events")).is_ok_and(|text| text.contains("populated 0")) {
            return;
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&wait));
    }
}
