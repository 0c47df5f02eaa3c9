//! Who the payload runs as: `NAME|UID[:GROUP|GID]`, looked up in the container's own /etc/passwd and /etc/group.
//!
//! Both files are resolved below the container's root, by its fd. Strict: what is not a number of 32 bits and not a name
//! in those files is an error, and never root. Must not read anything else of the rootfs, nor wait for it: a FIFO in
//! place of a file is refused.

use core::ffi::CStr;
use kontena_init::plan::{List, Report, Step};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags, ResolveFlags, fchown, fstat, fstatfs};
use rustix::io::{Errno, Result};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::mounts::open_in;
use crate::{fail, sys};

/// Longer than any real one; a larger /etc/passwd or /etc/group is refused.
const FILE_LIMIT: usize = 16 << 20;
/// Most supplementary groups a user is given; more is an error and not a silent cut.
const GROUPS_LIMIT: usize = 1024;

/// A user as setresuid(2) and its kin take it.
pub struct User {
    /// The user id.
    pub uid: u32,
    gid: u32,
    /// The home directory of /etc/passwd, `/` where there is none.
    pub home: &'static [u8],
    /// Room for [`GROUPS_LIMIT`], once there is one.
    groups: &'static mut [Gid],
    groups_len: usize,
}

/// Resolves the Plan's user, and the groups it is to have beside its own, in the files of `root`.
pub fn resolve(root: &OwnedFd, spec: &CStr, more: List<'_, &CStr>) -> core::result::Result<User, Report> {
    let spec = if spec.is_empty() { b"0" } else { spec.to_bytes() };
    let mut parts = spec.splitn(2, |byte| *byte == b':');
    let (name, group) = (parts.next().unwrap_or_default(), parts.next());
    let read = |path| read_file(root, path).map_err(fail(Step::ReadUsers, 0));

    // name:password:uid:gid:comment:home:shell, passwd(5)
    let wanted = number(name);
    let mut user = User { uid: 0, gid: 0, home: b"/", groups: &mut [], groups_len: 0 };
    let mut user_name = None;
    for line in read(c"/etc/passwd")?.split(|byte| *byte == b'\n') {
        let fields: [&[u8]; 6] = fields(line);
        let Some(uid) = number(fields[2]) else {
            continue;
        };
        if wanted.map_or(fields[0] == name, |wanted| wanted == uid) && !fields[0].is_empty() {
            user_name = Some(fields[0]);
            user.uid = uid;
            user.gid = number(fields[3]).ok_or(Errno::INVAL).map_err(fail(Step::ReadUsers, 0))?;
            user.home = if fields[5].is_empty() { b"/" } else { fields[5] };
            break;
        }
    }
    user.uid = match (user_name, wanted) {
        (Some(_), _) => user.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(fail(Step::UserUnknown, 0)(Errno::NOENT)),
    };

    // name:password:gid:members, group(5)
    let groups = read(c"/etc/group")?.split(|byte| *byte == b'\n').map(fields::<4>);
    let find_group = |name: &[u8], index| {
        let by_name = || { groups.clone() }.find(|fields| fields[0] == name && !name.is_empty());
        let gid = number(name).or_else(|| number(by_name()?[2]));
        gid.ok_or(Errno::NOENT).map_err(fail(Step::GroupUnknown, index))
    };
    // A group that is named replaces the user's own ones.
    if let Some(group) = group {
        user.gid = find_group(group, 0)?;
    } else if let Some(name) = user_name {
        for fields in groups.clone().filter(|fields| fields[3].split(|byte| *byte == b',').any(|member| member == name))
        {
            // A line that makes no sense is nobody's group.
            number(fields[2]).map_or(Ok(()), |gid| user.add_group(gid))?;
        }
    }
    for (index, name) in (1..).zip(more.iter()) {
        user.add_group(find_group(name.to_bytes(), index)?)?;
    }
    Ok(user)
}

impl User {
    fn add_group(&mut self, gid: u32) -> core::result::Result<(), Report> {
        if self.groups.is_empty() {
            self.groups = sys::groups(GROUPS_LIMIT).map_err(fail(Step::ReadUsers, 0))?;
        }
        let place = self.groups.get_mut(self.groups_len).ok_or(Errno::TOOBIG).map_err(fail(Step::ReadUsers, 0))?;
        *place = Gid::from_raw(gid);
        self.groups_len += 1;
        Ok(())
    }

    /// Lets the user open /dev/stdin, /dev/stdout and /dev/stderr where they are pipes, which belong to the launcher's
    /// caller. Only those without a name: a FIFO in a file system, or a terminal, is somebody's; and in a user namespace
    /// only those of users that it has.
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

    /// Becomes the user, for good.
    pub fn switch(&self) -> Result<()> {
        match set_thread_groups(&self.groups[..self.groups_len]) {
            // A user namespace that an ordinary user has made: it keeps the user's own groups; user_namespaces(7).
            Err(Errno::PERM) if self.groups_len == 0 => {}
            set => set?,
        }
        let gid = Gid::from_raw(self.gid);
        set_thread_res_gid(gid, gid, gid)?;
        let uid = Uid::from_raw(self.uid);
        set_thread_res_uid(uid, uid, uid)
    }
}

/// A plain decimal number that can be an id; 4294967295 is `(uid_t)-1`, which the calls read as "leave it".
fn number(text: &[u8]) -> Option<u32> {
    sys::number(text).filter(|number| *number != u32::MAX)
}

/// The first fields of a line; missing ones are empty.
fn fields<const N: usize>(line: &'static [u8]) -> [&'static [u8]; N] {
    let mut fields = line.split(|byte| *byte == b':');
    core::array::from_fn(|_| fields.next().unwrap_or_default())
}

/// The whole file; empty where there is none.
fn read_file(root: &OwnedFd, path: &CStr) -> Result<&'static [u8]> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_in(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(&[]),
        file => file?,
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    sys::read_whole(file, FILE_LIMIT)
}
