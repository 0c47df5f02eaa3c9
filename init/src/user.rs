//! The user of the payload: `NAME|UID[:GROUP|GID]`, looked up in the container's own /etc/passwd and /etc/group.
//!
//! Both files are resolved below the container's root, by its fd; `accounts.rs` reads them. A number needs neither: a
//! process that can write them, or has a lease on them, cannot keep it from being used. Must not read anything else of
//! the rootfs, nor wait for it.

use core::ffi::CStr;
use kontena_init::filter;
use kontena_init::plan::{List, Report, Step};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags, ResolveFlags, fchown, fstat, fstatfs};
use rustix::io::{Errno, Result};
use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::accounts::{self, Account, Found, account, memberships, number};
use crate::failure::fail;
use crate::sys;
use crate::tree::open_in;

/// Longer than any real one; a larger /etc/passwd or /etc/group is refused.
const FILE_LIMIT: usize = 16 << 20;
/// Most supplementary groups a user is given; more is an error and not a silent cut.
const GROUPS_LIMIT: usize = 1024;

/// A user as setresuid(2) and its kin take it.
#[derive(Clone, Copy)]
pub struct User {
    /// The user id.
    pub uid: u32,
    gid: u32,
    /// The home directory of /etc/passwd, `/` where there is none.
    pub home: &'static [u8],
    groups: &'static [Gid],
}

/// Resolves the Plan's user, and the supplementary groups that it gets beside its own, in the files of `root`.
pub fn resolve(root: &OwnedFd, spec: &CStr, more: List<'_, &CStr>) -> core::result::Result<User, Report> {
    let spec = if spec.is_empty() { b"0" } else { spec.to_bytes() };
    let end = spec.iter().position(|byte| *byte == b':').unwrap_or(spec.len());
    let (name, group) = (&spec[..end], spec.get(end + 1..));
    let uid = number(name);
    let read = |path, is_needed| match read_file(root, path) {
        Err(errno) if is_needed => Err(fail(Step::ReadUsers, 0)(errno)),
        content => Ok(content.unwrap_or_default()),
    };

    let account = match (account(read(c"/etc/passwd", uid.is_none())?, name), uid) {
        (Found::Account(account), _) => account,
        (_, Some(uid)) => Account { name: b"", uid, gid: 0, home: b"/" },
        (Found::Malformed, None) => return Err(fail(Step::UserUnknown, 0)(Errno::INVAL)),
        (Found::Nothing, None) => return Err(fail(Step::UserUnknown, 0)(Errno::NOENT)),
    };

    let is_name = |group: &[u8]| number(group).is_none();
    let is_needed = group.is_some_and(is_name) || more.iter().any(|group| is_name(group.to_bytes()));
    let groups = read(c"/etc/group", is_needed || uid.is_none())?;
    let gid_of =
        |name: &[u8], step, index| accounts::group(groups, name).ok_or(Errno::NOENT).map_err(fail(step, index));
    let (mut gid, mut all) = (account.gid, Groups { room: &mut [], length: 0 });
    // A group that is named replaces the user's own ones.
    if let Some(group) = group {
        gid = gid_of(group, Step::GroupUnknown, 0)?;
    } else if !account.name.is_empty() {
        memberships(groups, account.name).try_for_each(|gid| all.add(gid))?;
    }
    for (index, name) in (0..).zip(more.iter()) {
        all.add(gid_of(name.to_bytes(), Step::SupplementaryGroupUnknown, index)?)?;
    }
    Ok(User { uid: account.uid, gid, home: account.home, groups: &all.room[..all.length] })
}

/// Supplementary groups in the making.
struct Groups {
    /// Room for [`GROUPS_LIMIT`], once there is one.
    room: &'static mut [Gid],
    length: usize,
}

impl Groups {
    fn add(&mut self, gid: u32) -> core::result::Result<(), Report> {
        if self.room.is_empty() {
            self.room = sys::groups(GROUPS_LIMIT).map_err(fail(Step::ReadUsers, 0))?;
        }
        let place = self.room.get_mut(self.length).ok_or(Errno::TOOBIG).map_err(fail(Step::ReadUsers, 0))?;
        *place = Gid::from_raw(gid);
        self.length += 1;
        Ok(())
    }
}

impl User {
    /// Lets the user open /dev/stdin, /dev/stdout and /dev/stderr where they are pipes, which belong to the launcher's
    /// caller. Only those without a name: a FIFO in a file system, or a terminal, is somebody's; and in a user
    /// namespace only those of users that it has.
    pub fn own_pipes(&self) -> Result<()> {
        const PIPEFS_MAGIC: u32 = 0x5049_5045;
        if self.uid == 0 {
            return Ok(());
        }
        for stdio in sys::stdio() {
            if fstatfs(stdio).is_ok_and(|fs| fs.f_type as u32 == PIPEFS_MAGIC) {
                match fchown(stdio, Some(Uid::from_raw(self.uid)), None) {
                    Ok(()) | Err(Errno::PERM) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    /// Becomes the user, for good, and looks whether it has: a filter of system calls can pretend it, but not that this
    /// process is another user than root.
    pub fn switch(&self) -> Result<()> {
        let keeps_groups = match set_thread_groups(self.groups) {
            // A user namespace that an ordinary user has made: it keeps the user's own groups; user_namespaces(7).
            Err(Errno::PERM) if self.groups.is_empty() => true,
            set => set.map(|()| false)?,
        };
        let gid = Gid::from_raw(self.gid);
        set_thread_res_gid(gid, gid, gid)?;
        let uid = Uid::from_raw(self.uid);
        set_thread_res_uid(uid, uid, uid)?;
        if !filter::MAY_PRETEND {
            return Ok(());
        }
        let is_group = |gid: &Gid| gid.as_raw() == self.gid;
        let is_user = |uid: &Uid| uid.as_raw() == self.uid;
        let has_changed = [getuid(), geteuid()].iter().all(is_user) && [getgid(), getegid()].iter().all(is_group);
        if has_changed && (keeps_groups || self.has_groups()?) { Ok(()) } else { Err(Errno::PROTO) }
    }

    /// Whether this process has as many supplementary groups as the user, and no others. It had none before; see
    /// [`leave_groups`].
    fn has_groups(&self) -> Result<bool> {
        let mut all = [0; GROUPS_LIMIT];
        let count = sys::groups_of_process(&mut all)?;
        let is_known = |gid: &u32| self.groups.iter().any(|group| group.as_raw() == *gid);
        Ok(count == self.groups.len() && all.get(..count).is_some_and(|all| all.iter().all(is_known)))
    }
}

/// Leaves the caller's supplementary groups, before a filter could pretend it.
pub fn leave_groups() -> Result<()> {
    match set_thread_groups(&[]) {
        // As in [`User::switch`].
        Err(Errno::PERM) => Ok(()),
        left => left,
    }
}

/// The whole file; empty where there is none.
fn read_file(root: &OwnedFd, path: &CStr) -> Result<&'static [u8]> {
    let open =
        |flags| open_in(root, path, flags | OFlags::CLOEXEC, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
    // Opening a device may do something, and opening a FIFO wakes its writers.
    let seen = match open(OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(&[]),
        seen => fstat(seen?)?,
    };
    if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    // Without waiting for the end of a lease; fcntl(2).
    sys::read_whole(&open(OFlags::NONBLOCK | OFlags::NOCTTY)?, FILE_LIMIT)
}
