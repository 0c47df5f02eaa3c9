//! User namespaces: which of the host's ids a container's are; user_namespaces(7), subuid(5), newuidmap(1).
//!
//! As root the maps are written here; an ordinary user may map nothing but its own id, and the rest by newuidmap(1) and
//! newgidmap(1), where the host has them and grants a range. Must not change the owner of any file.

use crate::config::userns::{Ids, Range, Userns};
use crate::error::{Context, Error, FILTERED, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::state::{Journal, Lease};
use crate::sys;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fchown, fstatfs};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Signal, Uid, WaitOptions, getegid, geteuid, getpid, kill_process, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::{CString, OsStr};

/// The maps of a container's user namespace.
pub struct Maps {
    uids: Vec<Range>,
    gids: Vec<Range>,
    /// Whether an ordinary user writes them, by newuidmap and newgidmap.
    is_rootless: bool,
    /// Whether they have been written, since the namespace is one that exists.
    is_written: bool,
}

/// How many ids a container of root's has with `auto`.
const IDS: u32 = 65536;
/// Whose ranges these are, in /etc/subuid and /etc/subgid; the second is podman's.
const OWNERS: [&str; 2] = ["kontena", "containers"];
const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
/// Programs are looked for on the PATH of the user, whose rights they have, and here.
const DIRECTORIES: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];
const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

/// Makes uid 0 of a container the owner of stdio pipes, which lead to nothing else: root's would have no owner inside.
fn give_pipes(uid: u32, gid: Option<u32>) {
    const PIPEFS_MAGIC: u32 = 0x5049_5045;
    for fd in [0, 1, 2].map(sys::standard_fd) {
        if fstatfs(fd).is_ok_and(|fs| fs.f_type as u32 == PIPEFS_MAGIC) {
            let _ = fchown(fd, Some(Uid::from_raw(uid)), gid.map(Gid::from_raw));
        }
    }
}

/// The same for what joins the container that this process is in.
pub fn give_pipes_to_root_of(pid: u32) {
    let map = file::read_text(CWD, &format!("/proc/{pid}/uid_map"));
    let root = map.lines().map(str::split_ascii_whitespace).find_map(|mut words| match words.next() {
        Some("0") => words.next(),
        _ => None,
    });
    if let Some(uid) = root.and_then(|uid| uid.parse().ok()) {
        give_pipes(uid, None);
    }
}

impl Maps {
    /// The maps that `--userns` asks for, with ids that are leased where it is `auto`; `None` where the container stays
    /// in the host's namespace.
    pub fn allocate(userns: Option<&Userns>, is_root: bool, journal: &mut Journal<'_>) -> Result<Option<Self>> {
        let default = if is_root { Userns::Host } else { Userns::Auto };
        let (uids, gids) = match userns.unwrap_or(&default) {
            Userns::Host if is_root => return Ok(None),
            Userns::Host => {
                let hint = "only root can run without one: remove --userns host, begin the bundle with kontena spec \
                            --rootless, or run kontena with sudo";
                return Err(Error::usage(format_args!("no user namespace"), hint));
            }
            Userns::Map(ranges) => (ranges.clone(), ranges.clone()),
            Userns::Maps(uids, gids) => (uids.clone(), gids.clone()),
            // By the file that stands for it, which only a bundle has.
            Userns::Joined => return Ok(None),
            Userns::Auto if is_root => lease(journal)?,
            Userns::Auto => own(false)?,
            Userns::KeepId if is_root => {
                let hint = "it is for ordinary users, and root has no subordinate ids: use auto or map=…";
                return Err(Error::usage(format_args!("--userns keep-id"), hint));
            }
            Userns::KeepId => own(true)?,
        };
        Ok(Some(Self { uids, gids, is_rootless: !is_root, is_written: false }))
    }

    /// The maps of a user namespace that exists: of a process that goes there, stops, and is killed.
    pub fn of(namespace: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let Some(child) = sys::fork(0)? else {
            let entered = move_into_link_name_space(namespace, Some(LinkNameSpaceType::User));
            let _ = entered.is_ok().then(|| kill_process(getpid(), Signal::STOP));
            sys::exit(entered.err().map_or(0, |errno| errno.raw_os_error() as u8))
        };
        let wait = |options| rustix::io::retry_on_intr(|| waitpid(Some(child), options));
        let ended = wait(WaitOptions::UNTRACED)?.and_then(|(_, status)| status.exit_status());
        if let Some(errno) = ended {
            return Err(Errno::from_raw_os_error(errno.max(1)));
        }
        let read = |name| {
            let text = file::read_text(CWD, &format!("/proc/{}/{name}", child.as_raw_pid()));
            let range = |line: &str| {
                let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
                Some(Range { container: numbers.next()??, host: numbers.next()??, size: numbers.next()?? })
            };
            text.lines().filter_map(range).list()
        };
        let (uids, gids) = (read("uid_map"), read("gid_map"));
        let _ = kill_process(child, Signal::KILL);
        let _ = wait(WaitOptions::empty());
        // Before they are written, nobody is anybody there.
        if uids.is_empty() || gids.is_empty() {
            return Err(Errno::INVAL);
        }
        Ok(Self { uids, gids, is_rootless: !sys::is_privileged(), is_written: true })
    }

    /// Whether the container has this gid.
    pub fn has_gid(&self, gid: u32) -> bool {
        is_inside(&self.gids, gid)
    }

    /// Whether the container has this uid.
    pub fn has_uid(&self, uid: u32) -> bool {
        is_inside(&self.uids, uid)
    }

    /// See [`give_pipes`].
    pub fn own_pipes(&self) {
        if let Some(Ids { uid, gid }) = self.root() {
            give_pipes(uid, Some(gid));
        }
    }

    /// The ids of the container's root, unless they are the caller's.
    pub fn root(&self) -> Option<Ids> {
        self.on_host(Ids { uid: 0, gid: 0 }).filter(|_| !self.is_rootless)
    }

    /// A uid and a gid of the container as the host has them.
    pub fn on_host(&self, ids: Ids) -> Option<Ids> {
        let host = |ranges: &[Range], id: u32| {
            let range = ranges.iter().find(|range| (range.container..range.container + range.size).contains(&id))?;
            Some(range.host + (id - range.container))
        };
        Some(Ids { uid: host(&self.uids, ids.uid)?, gid: host(&self.gids, ids.gid)? })
    }

    /// Whether a file of this owner is one of the container's already.
    pub fn has_owner(&self, host: u32) -> bool {
        self.is_rootless || self.uids.iter().any(|range| (range.host..range.host + range.size).contains(&host))
    }

    /// Writes the maps of the namespace that `child` is the first process of, before it execs.
    pub fn write(&self, child: Pid) -> Result<()> {
        if self.is_written {
            return Ok(());
        }
        let process = format!("/proc/{}", child.as_raw_pid());
        let alone = self.is_rootless && self.uids.len() == 1 && self.uids[0].size == 1;
        if self.is_rootless && !alone {
            for (helper, ranges) in HELPERS.into_iter().zip([&self.uids, &self.gids]) {
                run(helper, child, ranges)?;
            }
            return Ok(());
        }
        if alone {
            // The price for a gid_map without privileges; user_namespaces(7).
            let path = format!("{process}/setgroups");
            file::write(CWD, &path, "deny").at(format_args!("write {path}"))?;
        }
        for (name, ranges) in [("gid_map", &self.gids), ("uid_map", &self.uids)] {
            let path = format!("{process}/{name}");
            let lines: String =
                ranges.iter().map(|Range { container, host, size }| format!("{container} {host} {size}\n")).text();
            let hint = "ranges must not overlap, and every id must be in the caller's own namespace: check --userns, \
                        or the mappings of the bundle";
            file::write(CWD, &path, &lines).context(format_args!("write {path}"), hint)?;
        }
        Ok(())
    }
}

fn is_inside(ranges: &[Range], id: u32) -> bool {
    ranges.iter().any(|range| (range.container..range.container + range.size).contains(&id))
}

/// Shows the files of a tree to the users of `child`'s namespace as theirs, with the ids they have on the host.
pub fn show_to(child: Pid, tree: &OwnedFd, recursive: bool, what: &str) -> Result<()> {
    let path = format!("/proc/{}/ns/user", child.as_raw_pid());
    let namespace = file::open(CWD, &path, OFlags::RDONLY).at(format_args!("open {path}"))?;
    let hint = "its file system, or one mounted below it, has no idmapped mounts on this kernel: put it on ext4, \
                xfs, btrfs or an erofs image, or chown its files to the ids of --userns map=…";
    sys::idmap(tree, namespace.as_fd(), recursive).context(format_args!("idmap {what}"), hint)
}

/// Why there is no user namespace for `errno`, and which setting forbids it.
pub fn why_refused(errno: Errno) -> String {
    let is = |path: &str, value: &str| file::read_text(CWD, path).trim_ascii_end() == value;
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return "the host forbids user namespaces: sysctl user.max_user_namespaces is 0".into();
    }
    if !geteuid().is_root() {
        if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            return "the host forbids user namespaces for ordinary users: sysctl kernel.unprivileged_userns_clone \
                    is 0"
                .into();
        }
        if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
            return "AppArmor removes the capabilities of a user namespace: sysctl \
                    kernel.apparmor_restrict_unprivileged_userns is 1; set it to 0, or add a profile for kontena"
                .into();
        }
    }
    match errno {
        Errno::NOSPC => "a limit of user namespaces is reached: sysctl user.max_user_namespaces".into(),
        Errno::PERM | Errno::NOSYS if sys::is_filtered() => FILTERED.into(),
        Errno::PERM => "user namespaces are refused here: in a chroot, by a filter of system calls, or by a security \
                        module"
            .into(),
        _ => "the kernel lacks user namespaces: CONFIG_USER_NS".into(),
    }
}

/// A block of the host's subordinate ids that no other container has.
fn lease(journal: &mut Journal<'_>) -> Result<(Vec<Range>, Vec<Range>)> {
    let find = |file| OWNERS.into_iter().map(|owner| subordinate(file, &[owner])).find(|ranges| !ranges.is_empty());
    let [Some(uids), Some(gids)] = FILES.map(find) else {
        let hint = "no ids are reserved for it: put kontena:100000:6553600 into /etc/subuid and /etc/subgid, or \
                    use --userns map=…";
        return Err(Error::usage(format_args!("--userns auto"), hint));
    };
    let blocks = |ranges: &[(u32, u32)]| -> Vec<u32> {
        ranges.iter().flat_map(|(first, size)| (0..size / IDS).map(move |block| first + block * IDS)).list()
    };
    let (uids, gids) = (blocks(&uids), blocks(&gids));
    for _ in 0..2 {
        for (uid, gid) in uids.iter().zip(&gids) {
            if journal.lease(Lease::Ids(*uid))? {
                let range = |host: &u32| vec![Range { container: 0, host: *host, size: IDS }];
                return Ok((range(uid), range(gid)));
            }
        }
        // Some may be those of launchers that were killed.
        let _ = journal.state().sweep();
    }
    let hint = "other containers use every block of 65536 ids in /etc/subuid: stop one, or reserve more";
    Err(Error::usage(format_args!("--userns auto"), hint))
}

/// An ordinary user's own ids as 0 or, if they `are_kept`, as what they are; and, where it is granted any, its
/// subordinate ones as the other numbers from 0 on.
fn own(are_kept: bool) -> Result<(Vec<Range>, Vec<Range>)> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let number = uid.to_string();
    let passwd = file::read_text(CWD, "/etc/passwd");
    let name = passwd.lines().find(|line| line.split(':').nth(2) == Some(&number));
    let owners = [name.and_then(|line| line.split(':').next()).unwrap_or_default(), &number];
    let more = FILES.map(|file| subordinate(file, &owners));
    let with = |own, ranges: &[(u32, u32)]| around(if are_kept { own } else { 0 }, own, ranges);
    if more.iter().any(Vec::is_empty) || HELPERS.iter().any(|helper| find_program(helper).is_none()) {
        if are_kept {
            let hint = "root of the container needs another id: add NAME:100000:65536 to /etc/subuid and /etc/subgid, \
                        and install Debian's uidmap package";
            return Err(Error::usage(format_args!("--userns keep-id"), hint));
        }
        return Ok((with(uid, &[]), with(gid, &[])));
    }
    Ok((with(uid, &more[0]), with(gid, &more[1])))
}

/// The id `own` of the host as `inside`, and first ids and sizes of others as the numbers before and behind it.
fn around(inside: u32, own: u32, others: &[(u32, u32)]) -> Vec<Range> {
    let mut all = vec![Range { container: inside, host: own, size: 1 }];
    let mut container = 0u32;
    for &(mut host, mut size) in others {
        let below = inside.saturating_sub(container).min(size);
        if below > 0 {
            all.push(Range { container, host, size: below });
            (container, host, size) = (container + below, host + below, size - below);
        }
        if container == inside {
            container += 1;
        }
        if size > 0 {
            all.push(Range { container, host, size });
            container = container.saturating_add(size);
        }
    }
    all
}

/// First id and size of each range that one of `owners` has; subuid(5): `owner:first:size`.
fn subordinate(file: &str, owners: &[&str]) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next().filter(|owner| !owner.is_empty())?;
        let (first, size): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.trim_ascii().parse().ok()?);
        (owners.contains(&owner) && first.checked_add(size).is_some()).then_some((first, size))
    };
    file::read_text(CWD, file).lines().filter_map(range).list()
}

/// A program of the host's that an ordinary user needs.
pub fn find_program(name: &str) -> Option<CString> {
    let path = sys::variable("PATH").and_then(OsStr::to_str).unwrap_or_default();
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .chain(DIRECTORIES)
        .map(|directory| format!("{directory}/{name}"))
        .find(|path| file::open(CWD, path, OFlags::PATH).is_ok())
        .and_then(|path| file::c_path(&path).ok())
}

/// `newuidmap PID CONTAINER HOST SIZE…`
fn run(helper: &str, child: Pid, ranges: &[Range]) -> Result<()> {
    let hint = "newuidmap and newgidmap map an ordinary user's subordinate ids: install Debian's uidmap package";
    let Some(path) = find_program(helper) else {
        return Err(Error::usage(format_args!("{helper} is not installed"), hint));
    };
    let mut arguments = vec![path.clone(), c_number(child.as_raw_pid() as u32)];
    for Range { container, host, size } in ranges {
        arguments.extend([container, host, size].map(|number| c_number(*number)));
    }
    let status = sys::run(&path, &arguments).context(format_args!("run {helper}"), hint)?;
    if status == 0 {
        return Ok(());
    }
    let hint = "it says why; check the user's lines in /etc/subuid and /etc/subgid";
    Err(Error::usage(format_args!("{helper} refused the map"), hint))
}

fn c_number(number: u32) -> CString {
    CString::new(number.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_around_a_kept_one_have_every_other_number() {
        let range = |container, host, size| Range { container, host, size };
        for (inside, others, expected) in [
            (0, &[(100, 9)][..], &[range(1, 100, 9)][..]),
            (0, &[(100, 9), (200, 2)], &[range(1, 100, 9), range(10, 200, 2)]),
            (5, &[(100, 9)], &[range(0, 100, 5), range(6, 105, 4)]),
            (5, &[(100, 5), (200, 2)], &[range(0, 100, 5), range(6, 200, 2)]),
            (5, &[(100, 2), (200, 9)], &[range(0, 100, 2), range(2, 200, 3), range(6, 203, 6)]),
            (5, &[(100, 2)], &[range(0, 100, 2)]),
        ] {
            assert_eq!(around(inside, 7, others), [&[range(inside, 7, 1)], expected].concat(), "{inside} {others:?}");
        }
    }
}
