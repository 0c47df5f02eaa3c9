//! The leaf cgroup of a container, on the cgroup v2 hierarchy; cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
//!
//! Made, with its limits written, before the container is cloned into it; removed when it has ended. Must not move
//! any process of a container, which is what CLONE_INTO_CGROUP is for, nor anybody else's.

use crate::config::Config;
use crate::devices;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::limits::Limit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Access, FileType, Mode, OFlags, access, mkdir, stat, statfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::getpid;
use std::cell::RefCell;
use std::ffi::CStr;

/// The cgroup that holds the leaves unless `--cgroup-parent` says otherwise.
const PARENT: &str = "/kontena";
/// Where cgroup2 is mounted: alone, or beside the v1 hierarchies of a hybrid host.
const MOUNT_POINTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const CGROUP2_SUPER_MAGIC: u64 = linux_raw_sys::general::CGROUP2_SUPER_MAGIC as u64;
/// How long a container's processes may take to die of SIGKILL before a cgroup is left for the next command.
const KILL_SECONDS: i64 = 10;
/// Where this launcher goes when it stands in the way of its containers; no container can be called so.
const OWN_LEAF: &str = ".launcher";

/// A container's leaf, which may not be there yet.
pub struct Leaf {
    /// Where the hierarchy is mounted, or is to be.
    mount_point: String,
    /// The leaf's directory.
    pub path: String,
    /// The cgroup that this launcher has left for [`OWN_LEAF`] below it.
    left: RefCell<Option<String>>,
}

/// Calls `record` with what is about to be made and stays when the container goes, in the words that [`undo`] knows.
pub type Record<'a> = &'a dyn Fn(&str) -> Result<()>;

impl Leaf {
    /// Where the container's leaf goes. An ordinary user's goes without where it asks for nothing that takes one, and none
    /// is delegated to it.
    pub fn find(config: &Config, is_root: bool) -> Result<Option<Self>> {
        let default = if is_root { PARENT } else { "." };
        let leaf = Self::below(config, config.cgroup_parent.as_deref().unwrap_or(default));
        if is_root || config.cgroup_parent.is_some() || config.cgroup_mount.is_some() {
            return leaf.map(Some);
        }
        let parent = leaf.as_ref().ok().and_then(|leaf| leaf.path.rsplit_once('/')).map_or("", |(parent, _)| parent);
        let may_write = |path: &str| file::c_path(path).and_then(|path| access(&*path, Access::WRITE_OK)).is_ok();
        if may_write(parent) && may_write(&format!("{parent}/cgroup.procs")) {
            return leaf.map(Some);
        }
        if config.limits.is_empty() && config.stats.is_none() {
            return Ok(None);
        }
        let hint = "none is delegated to this user: run kontena by systemd-run --user --scope -p Delegate=yes, as root, or \
                    leave it out";
        Err(Error::usage(format_args!("a limit, or --stats, takes a cgroup of the container's own"), hint))
    }

    fn below(config: &Config, parent: &str) -> Result<Self> {
        let mount_point = match &config.cgroup_mount {
            Some(path) => path.clone(),
            None => hierarchy()?,
        };
        let parent = match parent {
            relative if relative.starts_with('.') => below(own_cgroup()?, relative)?,
            path => path.into(),
        };
        Ok(Self { path: format!("{mount_point}{parent}/{}", config.name), mount_point, left: RefCell::new(None) })
    }

    /// Makes it, with its limits.
    pub fn create(&self, config: &Config, record: Record<'_>) -> Result<OwnedFd> {
        let hint = "kontena needs write access to the cgroup2 hierarchy";
        let path = &self.path;
        if config.cgroup_mount.is_some() && !is_cgroup2(&self.mount_point) {
            mount_hierarchy(&self.mount_point, record)?;
        }
        let make = || file::c_path(path).and_then(|path| mkdir(&*path, Mode::from_raw_mode(0o755)));
        let made = match make() {
            Err(Errno::NOENT) => {
                let mut made = false;
                for parent in ancestors(path) {
                    made = make_shared_directory(parent, record)?;
                }
                if made && let Some(parent) = ancestors(path).last() {
                    file::open(CWD, parent, OFlags::DIRECTORY).iter().for_each(devices::confine_all_below);
                }
                make()
            }
            made => made,
        };
        made.context(format_args!("mkdir {path}"), hint)?;
        let leaf = file::open(CWD, path, OFlags::DIRECTORY).context(format_args!("open {path}"), "")?;
        self.set_limits(&leaf, &config.limits, record)?;
        Ok(leaf)
    }

    /// That of a container that runs, whose leaf is the cgroup `path`.
    pub fn of(path: &str) -> Result<Self> {
        Ok(Self { mount_point: hierarchy()?, path: path.into(), left: RefCell::new(None) })
    }

    /// Writes limits to the leaf, whose directory is open.
    pub fn set_limits(&self, leaf: &OwnedFd, limits: &[Limit], record: Record<'_>) -> Result<()> {
        limits.iter().try_for_each(|limit| self.set_limit(leaf, limit, record))
    }

    fn set_limit(&self, leaf: &OwnedFd, limit: &Limit, record: Record<'_>) -> Result<()> {
        let Limit { file, device, .. } = limit;
        let value = match device {
            Some(device) => format!("{} {}", device_number(device)?, limit.value),
            None => limit.value.clone(),
        };
        let mut written = file::write(leaf, file, &value);
        if written == Err(Errno::NOENT)
            && let Some(controller) = limit.controller()
        {
            self.enable(controller, record)?;
            written = file::write(leaf, file, &value);
        }
        let hint = match written {
            Ok(()) => return self.check_cpuset(leaf, file),
            Err(Errno::NOENT) if limit.if_known => return Ok(()),
            Err(Errno::NOENT) => "this kernel's cgroups have no such file: leave the limit out, or look at its name",
            Err(Errno::NODEV | Errno::NXIO) => "give a whole disk that is there, not a part of one",
            Err(Errno::OPNOTSUPP) => "the disk does not share by weight: switch blk-iocost on for it, in io.cost.qos",
            Err(Errno::INVAL | Errno::RANGE) => "the kernel takes no such value for it",
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
        Err(Error::usage(what, &format!("not all of them can be had: here there are {}", effective.trim_ascii())))
    }

    /// Enables `controller` for the leaf: in the cgroup.subtree_control of each of its ancestors, from the root on.
    pub fn enable(&self, controller: &str, record: Record<'_>) -> Result<()> {
        let root = &self.mount_point;
        if !has(&format!("{root}/cgroup.controllers"), controller) {
            let what = format_args!("the {controller} controller is not in cgroup v2 here");
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
            if enabled == Err(Errno::BUSY) && is_alone_in(parent) {
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
            let _ = file::remove_directory(&format!("{parent}/{OWN_LEAF}"));
        }
    }
}

/// Takes back what a `record` was called for. What others still need stays.
pub fn undo(line: &str) {
    match line.split_once(' ') {
        // One with others in it stays: rmdir(2) takes only what is empty.
        Some(("directory", path)) => drop(file::remove_directory(path)),
        Some(("mount", path)) => drop(file::c_path(path).and_then(|path| unmount(&*path, UnmountFlags::empty()))),
        _ => {}
    }
}

fn is_cgroup2(path: &str) -> bool {
    file::c_path(path).and_then(|path| statfs(&*path)).is_ok_and(|fs| fs.f_type as u64 == CGROUP2_SUPER_MAGIC)
}

/// Where the cgroup2 hierarchy is.
fn hierarchy() -> Result<String> {
    if let Some(path) = MOUNT_POINTS.into_iter().find(|path| is_cgroup2(path)) {
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
    let hint = "mount -t cgroup2 none /sys/fs/cgroup, or let kontena do it: --cgroup-mount DIR (Linux 5.15 or newer)";
    Err(Error::usage(format_args!("cgroup2 is not mounted"), hint))
}

/// `--cgroup-mount`, where there is no cgroup2 yet.
fn mount_hierarchy(path: &str, record: Record<'_>) -> Result<()> {
    // The options of one mount are those of all others, too.
    if let Ok(other) = hierarchy() {
        let hint = format!("cgroup2 is mounted on {other}: give that, or leave the option out");
        return Err(Error::usage(format_args!("--cgroup-mount {path}"), &hint));
    }
    make_shared_directory(path, record)?;
    if file::open(CWD, path, OFlags::DIRECTORY).and_then(file::names) != Ok(Vec::new()) {
        let hint = "not a cgroup2 hierarchy, and not an empty directory to mount one on: give another";
        return Err(Error::usage(format_args!("--cgroup-mount {path}"), hint));
    }
    record(&format!("mount {path}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options: Option<&CStr> = Some(c"nsdelegate,memory_recursiveprot");
    file::c_path(path)
        .and_then(|path| mount(c"cgroup2", &*path, c"cgroup2", flags, options))
        .context(format_args!("mount cgroup2 on {path}"), "the kernel needs CONFIG_CGROUPS")
}

/// Says whether it was missing.
fn make_shared_directory(path: &str, record: Record<'_>) -> Result<bool> {
    if file::open(CWD, path, OFlags::PATH).is_ok() {
        return Ok(false);
    }
    record(&format!("directory {path}"))?;
    file::make_directories(path)
        .map(|()| true)
        .context(format_args!("mkdir {path}"), "kontena needs write access to the cgroup2 hierarchy")
}

/// The launcher's own cgroup, from the hierarchy's root on.
fn own_cgroup() -> Result<String> {
    let text = file::read_text(CWD, "/proc/self/cgroup");
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/..");
    if path.starts_with("/..") {
        let hint = "kontena's own cgroup is not below what is mounted here: give a path that begins with /";
        return Err(Error::usage(format_args!("--cgroup-parent"), hint));
    }
    Ok(path.trim_end_matches('/').into())
}

/// The path that is `relative` to `path`.
fn below(mut path: String, relative: &str) -> Result<String> {
    for part in relative.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                let Some(end) = path.bytes().rposition(|c| c == b'/') else {
                    let hint = "kontena's own cgroup has not that many above it";
                    return Err(Error::usage(format_args!("--cgroup-parent {relative}"), hint));
                };
                path.truncate(end);
            }
            name => path = format!("{path}/{name}"),
        }
    }
    Ok(path)
}

/// `MAJOR:MINOR` of a block device.
fn device_number(path: &CStr) -> Result<String> {
    let hint = "give a block device, as /dev/sda";
    let what = format_args!("device {}", path.to_string_lossy());
    let found = stat(path).context(what, hint)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Err(Error::usage(format_args!("device {} is no disk", path.to_string_lossy()), hint));
    }
    Ok(format!("{}:{}", rustix::fs::major(found.st_rdev as _), rustix::fs::minor(found.st_rdev as _)))
}

/// Whether a file with a line of names has `name`.
fn has(path: &str, name: &str) -> bool {
    file::read_text(CWD, path).split_ascii_whitespace().any(|other| other == name)
}

/// The directories above `path`, from the root on.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/').map(|(end, _)| &path[..end])
}

/// The pids in a cgroup, as far as this pid namespace has them.
pub fn processes(cgroup: &str) -> Vec<String> {
    file::read_text(CWD, &format!("{cgroup}/cgroup.procs")).lines().map(String::from).collect()
}

/// Whether this launcher is all that keeps a cgroup from having controllers for those below it.
fn is_alone_in(cgroup: &str) -> bool {
    processes(cgroup) == [getpid().as_raw_pid().to_string()]
}

/// Moves this launcher one down, as a service does to which systemd has delegated its cgroup. The only one it may move.
fn move_aside(parent: &str, record: Record<'_>) -> Result<()> {
    let own = format!("{parent}/{OWN_LEAF}");
    make_shared_directory(&own, record)?;
    file::write(CWD, &format!("{own}/cgroup.procs"), "0").context(format_args!("move kontena to {own}"), "")
}

/// Who has a controller that cgroup v2 lacks.
fn why_missing(root: &str, controller: &str) -> String {
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
    // All but the hierarchy's very root have the file.
    if file::open(CWD, &format!("{root}/cgroup.type"), OFlags::PATH).is_ok() {
        return format!("it is not delegated to this container: enable it on the host, in the cgroup above {root}");
    }
    format!("the kernel lacks it or was told to: look for cgroup_disable={controller} on its command line")
}

/// Why a cgroup does not enable a controller for those below it, and what to do; cgroup-v2.rst.
fn why_refused(cgroup: &str, controller: &str, errno: Errno) -> String {
    let other = "choose another with --cgroup-parent";
    let kind = file::read_text(CWD, &format!("{cgroup}/cgroup.type"));
    match errno {
        Errno::BUSY => {
            let processes = processes(cgroup).join(", ");
            format!(
                "a cgroup with processes of its own cannot do that, and it has {processes}: move them to one below it, \
                 or {other}"
            )
        }
        _ if !matches!(kind.trim_ascii_end(), "" | "domain") => {
            format!("the cgroup is {}, and {controller} needs a domain: {other}", kind.trim_ascii_end())
        }
        Errno::NOENT => format!("{controller} is not delegated to the cgroup: enable it in the one above, or {other}"),
        Errno::ROFS => "cgroup2 is mounted read-only: mount -o remount,rw it, or leave the limit out".into(),
        Errno::ACCESS | Errno::PERM => format!("the cgroup is not delegated to this user: {other}"),
        _ => other.into(),
    }
}

/// The cgroup of a process, by its path.
pub fn of_process(pid: u32) -> Option<String> {
    let text = file::read_text(CWD, &format!("/proc/{pid}/cgroup"));
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    hierarchy().ok().map(|mount_point| format!("{mount_point}{}", path.trim_end_matches('/')))
}

/// All processes in a cgroup and those below it.
pub fn all_processes(path: &str) -> Vec<u32> {
    let mut all: Vec<u32> = processes(path).iter().filter_map(|pid| pid.parse().ok()).collect();
    let names = file::open(CWD, path, OFlags::DIRECTORY).and_then(file::names).unwrap_or_default();
    for name in names {
        let below = format!("{path}/{name}");
        if file::open(CWD, &format!("{below}/cgroup.procs"), OFlags::PATH).is_ok() {
            all.extend(all_processes(&below));
        }
    }
    all
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
    FILES.iter().filter_map(|file| Some((*file, value(*file)?.trim_ascii_end().into()))).collect()
}

/// Whether somebody has asked for the processes of a cgroup to be frozen.
pub fn is_frozen(path: &str) -> bool {
    file::read_text(CWD, &format!("{path}/cgroup.freeze")).starts_with('1')
}

/// Waits until all processes of a cgroup are frozen, or are not; cgroup.events tells.
pub fn wait_until_frozen(path: &str, frozen: bool) {
    wait_for_event(path, if frozen { "frozen 1" } else { "frozen 0" });
}

/// How often the processes of a cgroup have hit its limits.
#[derive(Clone, Copy, Default)]
pub struct Hits([u64; 3]);

impl Hits {
    /// File, key and limit; of memory, `max` would count what was reclaimed in time, too.
    const EVENTS: [(&str, &str, &str); 3] = [
        ("memory.events", "oom_kill ", ""),
        ("memory.events", "oom ", "memory.max"),
        ("pids.events", "max ", "pids.max"),
    ];

    /// Of the cgroup `path`, so far.
    pub fn read(path: &str) -> Self {
        Self(Self::EVENTS.map(|(file, key, _)| {
            let events = file::read_text(CWD, &format!("{path}/{file}"));
            events.lines().find_map(|line| line.strip_prefix(key)?.parse().ok()).unwrap_or(0)
        }))
    }

    /// Those that have come since.
    pub fn since(&self, path: &str) -> Self {
        let now = Self::read(path);
        Self(std::array::from_fn(|place| now.0[place].saturating_sub(self.0[place])))
    }

    /// Whether the kernel killed a process because of the limit of memory.
    pub fn is_oom_killed(&self) -> bool {
        self.0[0] > 0
    }

    /// The limits: `FILE=VALUE`.
    pub fn limits(&self, path: &str) -> Vec<String> {
        let hit = Self::EVENTS.iter().zip(self.0).filter(|((.., limit), count)| *count > 0 && !limit.is_empty());
        let value = |limit| file::read_text(CWD, &format!("{path}/{limit}"));
        hit.map(|((.., limit), _)| format!("{limit}={}", value(limit).trim_ascii_end())).collect()
    }
}

/// Kills what still runs in the cgroup `path`, and removes it. One that is gone is no error.
pub fn remove(path: &str) -> Result<()> {
    let mut removed = file::remove_directory(path);
    // Of nothing else it would be right to remove what is below.
    if removed == Err(Errno::BUSY) && is_cgroup2(path) {
        kill_and_wait(path);
        removed = remove_tree(path);
    }
    match removed {
        Err(Errno::NOENT) => Ok(()),
        Err(_) if !is_cgroup2(path) => Ok(()),
        removed => removed.context(format_args!("rmdir {path}"), "run kontena prune to try again"),
    }
}

/// Removes a cgroup with those below it, which a container may have made, however deep.
fn remove_tree(path: &str) -> rustix::io::Result<()> {
    let mut at = String::from(path);
    loop {
        let removed = file::remove_directory(&at);
        let names = || file::open(CWD, &at, OFlags::DIRECTORY).and_then(file::names).unwrap_or_default();
        let is_cgroup = |name: &String| file::open(CWD, &format!("{at}/{name}"), OFlags::DIRECTORY).is_ok();
        match removed {
            Err(Errno::BUSY) => match names().into_iter().find(is_cgroup) {
                Some(below) => at = format!("{at}/{below}"),
                None => return removed,
            },
            Ok(()) if at.len() > path.len() => at.truncate(at.rfind('/').unwrap_or(path.len())),
            removed => return removed,
        }
    }
}

/// Sends SIGKILL to all of the cgroup, and waits until it has no process left.
fn kill_and_wait(path: &str) {
    let _ = file::write(CWD, &format!("{path}/cgroup.kill"), "1");
    wait_for_event(path, "populated 0");
}

/// Waits until a line is in cgroup.events, for some time.
fn wait_for_event(path: &str, wanted: &str) {
    for _ in 0..KILL_SECONDS * 100 {
        // It is polled for POLLPRI, and opened again, since a poll counts from the last read.
        let Ok(events) = file::open(CWD, &format!("{path}/cgroup.events"), OFlags::RDONLY) else { return };
        let text = file::read_open(&events).unwrap_or_default();
        if String::from_utf8_lossy(&text).lines().any(|line| line == wanted) {
            return;
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&wait));
    }
}
