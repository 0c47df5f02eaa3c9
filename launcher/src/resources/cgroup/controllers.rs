//! Controllers: enabled for a leaf in each cgroup above it, and the reasons where one cannot be.
//!
//! Must not disable one that others may rely on, nor move any process but this launcher.

use super::hierarchy::ancestors;
use super::{Leaf, Record, make_shared_directory, processes, remove_unowned};
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::getpid;

/// Where this launcher goes when it stands in the way of its containers; no container can be called so.
const OWN_LEAF: &str = ".launcher";

impl Leaf {
    /// Enables `controller` for the leaf: in the cgroup.subtree_control of each of its ancestors, from the root on.
    /// Without a `record` this launcher does not move for it.
    pub fn enable(&self, controller: &str, record: Option<Record<'_>>) -> Result<()> {
        let root = &self.mount_point;
        if !has(&format!("{root}/cgroup.controllers"), controller) {
            let what = format_args!("the {controller} controller is not available in cgroup v2 here");
            return Err(Error::usage(what, &why_missing(root, controller)));
        }
        for parent in ancestors(&self.path).filter(|parent| parent.len() >= root.len()) {
            let control = format!("{parent}/cgroup.subtree_control");
            if has(&control, controller) {
                continue;
            }
            // It stays enabled: others may have come to rely on it.
            let enable = || file::write(CWD, &control, &format!("+{controller}"));
            let mut enabled = enable();
            if enabled == Err(Errno::BUSY)
                && let Some(record) = record
                && is_alone_in(parent)
            {
                move_aside(parent, record)?;
                self.left.replace(Some(parent.into()));
                enabled = enable();
            }
            enabled.map_err(|errno| {
                let what = format_args!("enable the {controller} controller in {control}");
                Error::new(what, errno, &why_refused(parent, controller, errno))
            })?;
        }
        Ok(())
    }

    /// Goes back to where this launcher was started, if it had to leave, unless others have come to live there.
    pub fn return_launcher(&self) {
        let Some(parent) = self.left.take() else { return };
        let names = file::open(CWD, &parent, OFlags::DIRECTORY).and_then(file::names).unwrap_or_default();
        let is_cgroup = |name: &String| file::open(CWD, &format!("{parent}/{name}"), OFlags::DIRECTORY).is_ok();
        if names.iter().filter(|name| is_cgroup(name)).count() > 1 {
            return;
        }
        let control = format!("{parent}/cgroup.subtree_control");
        for controller in file::read_text(CWD, &control).split_ascii_whitespace() {
            let _ = file::write(CWD, &control, &format!("-{controller}"));
        }
        if file::write(CWD, &format!("{parent}/cgroup.procs"), "0").is_ok() {
            remove_unowned(&format!("{parent}/{OWN_LEAF}"));
        }
    }
}

/// Whether this launcher is all that keeps a cgroup from having controllers for those below it.
fn is_alone_in(cgroup: &str) -> bool {
    processes(cgroup) == [getpid().as_raw_pid().to_string()]
}

/// Moves this launcher one down, as a service does to which systemd has delegated its cgroup. The only one it may move.
fn move_aside(parent: &str, record: Record<'_>) -> Result<()> {
    let own = format!("{parent}/{OWN_LEAF}");
    make_shared_directory(&own, record)?;
    file::write(CWD, &format!("{own}/cgroup.procs"), "0").at(format_args!("move kontena to {own}"))
}

/// Why cgroup v2 lacks a controller.
fn why_missing(root: &str, controller: &str) -> String {
    for line in file::read_text(CWD, "/proc/self/mounts").lines() {
        let fields: Vec<&str> = line.split(' ').list();
        if let [_, mount_point, "cgroup", options, ..] = fields[..]
            && options.split(',').any(|option| option == controller)
        {
            return format!(
                "cgroup v1 holds it, mounted at {mount_point}: boot with cgroup_no_v1={controller}, or remove the \
                 limit"
            );
        }
    }
    // All but the hierarchy's very root have the file.
    if file::open(CWD, &format!("{root}/cgroup.type"), OFlags::PATH).is_ok() {
        return format!("it is not delegated to this container: enable it on the host, in the cgroup above {root}");
    }
    format!("the kernel lacks it, or has cgroup_disable={controller} on its command line")
}

/// Why a cgroup does not enable a controller for those below it, and what to do; cgroup-v2.rst.
fn why_refused(cgroup: &str, controller: &str, errno: Errno) -> String {
    let other = "choose another with --cgroup-parent";
    let kind = file::read_text(CWD, &format!("{cgroup}/cgroup.type"));
    match errno {
        Errno::BUSY => {
            let processes = processes(cgroup).join(", ");
            format!(
                "a cgroup with processes of its own cannot enable it, and it has {processes}: move them to a \
                 cgroup below it, or {other}"
            )
        }
        _ if !matches!(kind.trim_ascii_end(), "" | "domain") => {
            format!("the cgroup is {}, and {controller} needs a domain: {other}", kind.trim_ascii_end())
        }
        Errno::NOENT => format!("{controller} is not delegated to the cgroup: enable it in the parent, or {other}"),
        Errno::ROFS => "cgroup2 is mounted read-only: mount -o remount,rw it, or remove the limit".into(),
        Errno::ACCESS | Errno::PERM => format!("the cgroup is not delegated to this user: {other}"),
        _ => other.into(),
    }
}

/// Whether a file with a line of names has `name`.
pub fn has(path: &str, name: &str) -> bool {
    file::read_text(CWD, path).split_ascii_whitespace().any(|other| other == name)
}
