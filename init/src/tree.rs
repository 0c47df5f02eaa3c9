//! Trees of mounts, detached and by fd: how each is made, and where it is attached.
//!
//! Must not know which mount it is: `root.rs`, `dev.rs`, `proc.rs` and `mounts.rs` do.

use core::ffi::CStr;
use kontena_init::plan::{Changes, Mount, mount_kind};
use linux_raw_sys::general::{MOUNT_ATTR__ATIME, MS_REC, MS_SHARED, MS_UNBINDABLE};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, fstat, mkdirat, openat, openat2,
    readlinkat_raw,
};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::{sys, text};

/// To find something, and not to open it.
pub const PATH_FD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// openat2(2), again where the kernel could not tell that a `..` stays inside, since something was mounted or renamed
/// meanwhile: PID 1 and the payload's process work side by side. EAGAIN also means that somebody has a lease on a file.
pub fn open_in(root: &OwnedFd, path: &CStr, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    const ATTEMPTS: usize = 1000;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        opened = openat2(root, path, flags, Mode::empty(), resolve);
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
    }
    opened
}

/// A detached copy of a mount from `path` on; with those below it, or without.
pub fn clone_tree(at: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(at, path, flags)
}

pub fn attach(tree: &OwnedFd, target: OwnedFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

fn is_directory(fd: &OwnedFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

#[inline(never)]
pub fn make(mount: &Mount<'_>) -> Result<OwnedFd> {
    let tree = match mount.kind {
        mount_kind::BIND => clone_tree(CWD, mount.source, true)?,
        mount_kind::KNOWN | mount_kind::TREE => inherited(mount)?,
        _ => {
            let tree = make_filesystem(mount)?;
            return mount.changes.get().map_or(Ok(()), |changes| propagate(&tree, changes)).map(|()| tree);
        }
    };
    change(&tree, mount)?;
    Ok(tree)
}

/// Gives the mounts of a bind their attributes and their propagation. Nothing that is mounted below a read-only volume
/// stays writable, unless that was asked for.
pub fn change(tree: &OwnedFd, mount: &Mount<'_>) -> Result<()> {
    let Some(changes) = mount.changes.get() else {
        return sys::mount_setattr(tree, true, mount.attributes, 0, mount.propagation);
    };
    clear_and_set(tree, true, mount.attributes, changes.cleared.into(), mount.propagation)?;
    if changes.top | changes.top_cleared != 0 {
        clear_and_set(tree, false, changes.top.into(), changes.top_cleared.into(), 0)?;
    }
    propagate(tree, changes)
}

/// An attribute that was locked when this mount namespace was made cannot be cleared, and stays; mount_namespaces(7).
fn clear_and_set(tree: &OwnedFd, recursive: bool, set: u64, cleared: u64, propagation: u64) -> Result<()> {
    match sys::mount_setattr(tree, recursive, set, cleared, propagation) {
        Err(Errno::PERM) if cleared != 0 => {
            // Times of access are one attribute of several bits, which only change together.
            let times = u64::from(MOUNT_ATTR__ATIME);
            sys::mount_setattr(tree, recursive, set & !times, 0, propagation)
        }
        changed => changed,
    }
}

/// What comes behind MS_PRIVATE or MS_SLAVE.
fn propagate(tree: &OwnedFd, changes: &Changes) -> Result<()> {
    let has = |bit| changes.propagation & bit != 0;
    for (bit, recursive) in [(MS_SHARED, true), (MS_UNBINDABLE, has(MS_REC))] {
        if has(bit) {
            sys::mount_setattr(tree, recursive, 0, 0, bit.into())?;
        }
    }
    Ok(())
}

/// The tree of an inherited fd; or the one at a path, if that is still what the launcher opened before the first start.
fn inherited(mount: &Mount<'_>) -> Result<OwnedFd> {
    let known = sys::inherited_fd(mount.fd).ok_or(Errno::BADF)?;
    if mount.kind != mount_kind::KNOWN {
        return Ok(known);
    }
    let tree = clone_tree(CWD, mount.source, true)?;
    let (known, found) = (fstat(known)?, fstat(&tree)?);
    if (known.st_dev, known.st_ino) == (found.st_dev, found.st_ino) { Ok(tree) } else { Err(Errno::STALE) }
}

/// A new instance of a file system, not attached anywhere.
pub fn make_filesystem(mount: &Mount<'_>) -> Result<OwnedFd> {
    let context = fsopen(mount.source, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let mut room = sys::room::<256>();
    for option in mount.options.iter() {
        match option.to_bytes().iter().position(|byte| *byte == b'=') {
            Some(at) => {
                let name = sys::terminate(&option.to_bytes()[..at], &mut room)?;
                fsconfig_set_string(&context, name, text::tail(option, at + 1))?;
            }
            None => fsconfig_set_flag(&context, option)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(mount.attributes as u32))
}

/// The place that `tree` can be attached to, as it was found; made where it is missing.
pub fn or_make(
    found: Result<OwnedFd>,
    root: &OwnedFd,
    tree: &OwnedFd,
    target: &CStr,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    match found {
        Err(Errno::NOENT) => make_target(root, is_directory(tree)?, target, resolve),
        found => found,
    }
}

/// How many links are followed, as by the kernel; path_resolution(7).
const LINKS: u32 = 40;

/// Walks to `target` one component at a time and makes those that are missing: directories, and at the end what the
/// mount is, a directory or a file.
pub fn make_target(root: &OwnedFd, is_directory: bool, target: &CStr, resolve: ResolveFlags) -> Result<OwnedFd> {
    walk(root, is_directory, target.to_bytes(), resolve, LINKS)
}

fn walk(root: &OwnedFd, is_directory: bool, target: &[u8], resolve: ResolveFlags, links: u32) -> Result<OwnedFd> {
    let (mut room, length) = (sys::room::<{ sys::PATH_MAX }>(), target.len());
    let mut parent = open_in(root, c"/", PATH_FD, resolve)?;
    let mut start = 0;
    while start < length {
        let end = target[start..].iter().position(|byte| *byte == b'/').map_or(length, |at| start + at);
        if end > start {
            // Resolved from the root each time, so that `..` in a symlink cannot lead out.
            let path = sys::terminate(&target[..end], &mut room)?;
            parent = match open_in(root, path, PATH_FD, resolve) {
                Err(Errno::NOENT) => {
                    let name = text::tail(path, start);
                    let last = target[end..].iter().all(|byte| *byte == b'/');
                    let made = if is_directory || !last {
                        mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                    } else {
                        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::WRONLY;
                        openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
                    };
                    match made {
                        Ok(()) => open_in(root, path, PATH_FD, resolve)?,
                        Err(Errno::EXIST) => match open_in(root, path, PATH_FD, resolve) {
                            Err(Errno::NOENT) if cfg!(feature = "oci") => {
                                let path = follow(&parent, name, [&target[..start], &target[end..]])?;
                                let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                                return walk(root, is_directory, path.to_bytes(), resolve, links);
                            }
                            found => found?,
                        },
                        Err(errno) => return Err(errno),
                    }
                }
                found => found?,
            };
        }
        start = end + 1;
    }
    Ok(parent)
}

/// The path that a link stands for, which leads to what is missing; `around` it is the rest.
#[cold]
#[inline(never)]
fn follow(parent: &OwnedFd, name: &CStr, around: [&[u8]; 2]) -> Result<&'static CStr> {
    let mut link = [0; sys::PATH_MAX];
    let length = readlinkat_raw(parent, name, &mut link)?;
    let link = link.get(..length).unwrap_or_default();
    let before = if link.starts_with(b"/") { &[] } else { around[0] };
    sys::concatenate([sys::concatenate([before, link])?.to_bytes(), around[1]])
}

/// The target of a mount, by fd, below `root`; made where it is missing.
pub fn open_or_make_target(root: &OwnedFd, tree: &OwnedFd, mount: &Mount<'_>) -> Result<OwnedFd> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if matches!(mount.kind, mount_kind::FILESYSTEM | mount_kind::FILESYSTEM_IF_KNOWN) {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let found = open_in(root, mount.target, PATH_FD, resolve);
    if mount.kind == mount_kind::TMPFS_LIKE_TARGET
        && let Ok(covered) = &found
    {
        let covered = fstat(covered)?;
        // One that is read-only from the first keeps its own; and an owner may be none of this user namespace.
        let _ = chmodat(tree, c".", Mode::from_raw_mode(covered.st_mode), AtFlags::empty());
        let owner = (Some(Uid::from_raw(covered.st_uid)), Some(Gid::from_raw(covered.st_gid)));
        let _ = chownat(tree, c".", owner.0, owner.1, AtFlags::empty());
    }
    or_make(found, root, tree, mount.target, resolve)
}
