//! The cgroup2 hierarchy: where it is mounted, and the paths in it.

use super::{Record, make_shared_directory};
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use rustix::fs::{OFlags, statfs};
use rustix::mount::{MountFlags, mount};
use std::ffi::CStr;

/// Where cgroup2 is mounted: alone, or beside the v1 hierarchies of a hybrid host.
const MOUNT_POINTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

const CGROUP2_SUPER_MAGIC: u64 = linux_raw_sys::general::CGROUP2_SUPER_MAGIC as u64;

pub fn is_cgroup2(path: &str) -> bool {
    file::c_path(path).and_then(|path| statfs(&*path)).is_ok_and(|fs| fs.f_type as u64 == CGROUP2_SUPER_MAGIC)
}

/// Where the cgroup2 hierarchy is.
pub fn hierarchy() -> Result<String> {
    if let Some(path) = MOUNT_POINTS.into_iter().find(|path| is_cgroup2(path)) {
        return Ok(path.into());
    }
    // Somewhere else; proc_pid_mountinfo(5): "… root mount-point options … - type source options".
    for line in file::read_text(CWD, "/proc/self/mountinfo").lines() {
        let fields: Vec<&str> = line.split(' ').list();
        let dash = fields.iter().position(|field| *field == "-").unwrap_or(0);
        // Another mount may hide it.
        if let (Some(path), Some(&"cgroup2")) = (fields.get(4), fields.get(dash + 1))
            && is_cgroup2(path)
        {
            return Ok((*path).into());
        }
    }
    let hint = "mount -t cgroup2 none /sys/fs/cgroup, or let kontena do it: --cgroup-mount DIR (Linux 5.15 or newer)";
    Err(Error::usage(format_args!("cgroup2 is not mounted"), hint))
}

/// `--cgroup-mount`, where there is no cgroup2 yet.
pub fn mount_hierarchy(path: &str, record: Record<'_>) -> Result<()> {
    // The options of one mount are those of all others, too.
    if let Ok(other) = hierarchy() {
        let hint = format!("cgroup2 is mounted on {other}: use that, or remove the option");
        return Err(Error::usage(format_args!("--cgroup-mount {path}"), &hint));
    }
    make_shared_directory(path, record)?;
    if file::open(CWD, path, OFlags::DIRECTORY).and_then(file::names) != Ok(Vec::new()) {
        let hint = "not a cgroup2 hierarchy, and not an empty directory to mount one on: use another";
        return Err(Error::usage(format_args!("--cgroup-mount {path}"), hint));
    }
    record(&format!("mount {path}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options: Option<&CStr> = Some(c"nsdelegate,memory_recursiveprot");
    file::c_path(path)
        .and_then(|path| mount(c"cgroup2", &*path, c"cgroup2", flags, options))
        .context(format_args!("mount cgroup2 on {path}"), "the kernel needs CONFIG_CGROUPS")
}

/// The launcher's own cgroup, from the hierarchy's root on.
pub fn own_cgroup() -> Result<String> {
    let text = file::read_text(CWD, "/proc/self/cgroup");
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/..");
    if path.starts_with("/..") {
        let hint = "kontena's own cgroup is not below this mount: use a path that starts with /";
        return Err(Error::usage(format_args!("--cgroup-parent"), hint));
    }
    Ok(path.trim_end_matches('/').into())
}

/// The path that is `relative` to `path`.
pub fn below(mut path: String, relative: &str) -> Result<String> {
    for part in relative.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                let Some(end) = path.bytes().rposition(|c| c == b'/') else {
                    let hint = "kontena's own cgroup has fewer cgroups above it";
                    return Err(Error::usage(format_args!("--cgroup-parent {relative}"), hint));
                };
                path.truncate(end);
            }
            name => path = format!("{path}/{name}"),
        }
    }
    Ok(path)
}

/// The directories above `path`, from the root on.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/').map(|(end, _)| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_path_stays_below_the_root() {
        let path = |relative| below("/a/b".into(), relative).ok();
        assert_eq!(
            [".", "./c", "..", "../c/d", "./.././c"].map(path),
            ["/a/b", "/a/b/c", "/a", "/a/c/d", "/a/c"].map(|path| Some(path.into()))
        );
        assert_eq!(path("../.."), Some(String::new()));
        assert_eq!(path("../../.."), None);
    }

    #[test]
    fn ancestors_are_from_the_root_on() {
        assert_eq!(ancestors("/sys/fs/cgroup/a").collect::<Vec<_>>(), ["/sys", "/sys/fs", "/sys/fs/cgroup"]);
        assert_eq!(ancestors("/").count(), 0);
    }
}
