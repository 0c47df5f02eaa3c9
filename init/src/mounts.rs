//! The container's mounts: all of them made detached, moved once, and found by fd.
//!
//! Runs in the new mount namespace while the host's mounts are still visible, and ends with them gone. No path of the
//! rootfs is ever followed out of it: targets are resolved with openat2(2) below the root, and ours (`/proc`, `/dev`,
//! `/sys`) without any symlink. Must not touch the host: the first step cuts every mount off from it.

use core::ffi::CStr;
use kontena_init::plan::{Mount, Report, Step, mount_kind};
use linux_raw_sys::general as uapi;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statfs};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir};

use crate::dev::{self, Empty};
use crate::{fail, sys};

const PATH_FD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Cuts every mount of this namespace off from the host's, so that nothing done here is seen there.
pub fn make_private() -> Result<()> {
    let root = openat(CWD, c"/", PATH_FD | OFlags::DIRECTORY, Mode::empty())?;
    sys::mount_setattr(root, true, 0, u64::from(uapi::MS_PRIVATE))
}

/// Whether `/` may be the initial root: an initramfs, of one of these two file systems. A tmpfs that is not only costs the
/// time to leave it.
pub fn is_initial_root() -> bool {
    let kind = statfs(c"/").map_or(0, |root| root.f_type as u64);
    kind == u64::from(uapi::RAMFS_MAGIC) || kind == u64::from(uapi::TMPFS_MAGIC)
}

/// pivot_root(2) cannot leave the initial root, which has no parent: so it is mounted over itself, and that is the root
/// from here on, with the same working directory.
pub fn leave_initial_root() -> Result<()> {
    let mut buffer = [0; uapi::PATH_MAX as usize];
    let directory = sys::working_directory(&mut buffer)?;
    fchdir(attach_root(c"/")?)?;
    chroot(c".")?;
    chdir(directory)
}

/// Makes `path` a mount of its own, which pivot_root(2) asks for, with what is mounted below it.
pub fn attach_root(path: &CStr) -> Result<OwnedFd> {
    let root = clone_tree(CWD, path, true)?;
    move_mount(&root, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(root)
}

/// Makes mounts of the Plan, of which the first is its `first`th, and covers what of them must not be seen or changed.
pub fn mount_all<'a>(
    root: &OwnedFd,
    empty: &Empty,
    first: usize,
    mounts: impl Iterator<Item = Mount<'a>>,
) -> core::result::Result<(), Report> {
    for (index, mount) in (first as u16..).zip(mounts) {
        let tree = match make(&mount) {
            Err(Errno::NODEV) if mount.kind == mount_kind::FILESYSTEM_IF_KNOWN => continue,
            tree => tree.map_err(fail(Step::Mount, index))?,
        };
        find_target(root, &tree, &mount)
            .and_then(|target| attach(&tree, target))
            .map_err(fail(Step::MountTarget, index))?;
        for path in mount.masked.iter() {
            mask(&tree, path, empty).map_err(fail(Step::Mask, index))?;
        }
        for path in mount.readonly.iter() {
            make_readonly(&tree, path).map_err(fail(Step::Readonly, index))?;
        }
    }
    Ok(())
}

/// Mounts /dev, the Plan's first mount, with no more in it than what paths are masked with; [`dev::populate`] does the
/// rest.
pub fn mount_dev(root: &OwnedFd, mount: Mount<'_>) -> core::result::Result<(OwnedFd, Empty), Report> {
    let tree = make(&mount).map_err(fail(Step::Mount, 0))?;
    let empty = dev::make_empty(&tree).map_err(fail(Step::Devices, 0))?;
    find_target(root, &tree, &mount).and_then(|target| attach(&tree, target)).map_err(fail(Step::MountTarget, 0))?;
    Ok((tree, empty))
}

fn make(mount: &Mount<'_>) -> Result<OwnedFd> {
    if mount.kind != mount_kind::BIND {
        return make_filesystem(mount);
    }
    let tree = clone_tree(CWD, mount.source, true)?;
    // Nothing that is mounted below a read-only volume stays writable.
    sys::mount_setattr(&tree, true, mount.attributes, 0)?;
    Ok(tree)
}

/// Makes `/` read-only, as the last mount to be changed; those below it keep their own attributes.
pub fn make_root_readonly(root: &OwnedFd) -> Result<()> {
    sys::mount_setattr(root, false, u64::from(uapi::MOUNT_ATTR_RDONLY), 0)
}

/// Leaves the host's mounts behind: `root` becomes `/`, and the old root goes, with all below it.
pub fn pivot_root(root: OwnedFd) -> Result<()> {
    fchdir(root)?;
    // Both names the same directory: the old root is stacked over the new one, and taken off again; pivot_root(2),
    // "pivot_root(".", ".")".
    rustix::process::pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    chdir(c"/")
}

/// A detached copy of a mount from `path` on; with those below it, or without.
fn clone_tree(at: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(at, path, flags)
}

fn attach(tree: &OwnedFd, target: OwnedFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

fn is_directory(fd: &OwnedFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

fn make_filesystem(mount: &Mount<'_>) -> Result<OwnedFd> {
    let context = fsopen(mount.source, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for option in mount.options.iter() {
        match option.to_bytes().iter().position(|byte| *byte == b'=') {
            Some(at) => fsconfig_set_string(&context, &option.to_bytes()[..at], &option.to_bytes()[at + 1..])?,
            None => fsconfig_set_flag(&context, option)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(mount.attributes as u32))
}

/// The target of a mount, by fd, inside `root`; made where it is missing.
fn find_target(root: &OwnedFd, tree: &OwnedFd, mount: &Mount<'_>) -> Result<OwnedFd> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if mount.kind != mount_kind::BIND {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    match openat2(root, mount.target, PATH_FD, Mode::empty(), resolve) {
        Err(Errno::NOENT) => make_target(root, tree, mount.target, resolve),
        found => found,
    }
}

/// Walks to `target` one component at a time and makes those that are missing: directories, and at the end what the
/// mount is, a directory or a file.
fn make_target(root: &OwnedFd, tree: &OwnedFd, target: &CStr, resolve: ResolveFlags) -> Result<OwnedFd> {
    let mut path = [0u8; uapi::PATH_MAX as usize];
    let length = target.to_bytes().len();
    path.get_mut(..length).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(target.to_bytes());
    let is_directory = is_directory(tree)?;

    let mut parent = openat2(root, c"/", PATH_FD, Mode::empty(), resolve)?;
    let mut start = 0;
    while start < length {
        let end = path[start..length].iter().position(|byte| *byte == b'/').map_or(length, |at| start + at);
        if end > start {
            // Resolved from the root each time, so that `..` in a symlink cannot lead out.
            parent = match openat2(root, &path[..end], PATH_FD, Mode::empty(), resolve) {
                Err(Errno::NOENT) => {
                    let name = &path[start..end];
                    let last = path[end..length].iter().all(|byte| *byte == b'/');
                    let made = if is_directory || !last {
                        mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                    } else {
                        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::WRONLY;
                        openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
                    };
                    match made {
                        Ok(()) | Err(Errno::EXIST) => openat2(root, &path[..end], PATH_FD, Mode::empty(), resolve)?,
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

/// A path of a mount of ours, without leaving that mount; `None` where there is nothing.
fn find_below(tree: &OwnedFd, path: &CStr) -> Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(tree, path, PATH_FD | OFlags::NOFOLLOW, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        found => found.map(Some),
    }
}

/// Covers a path with something empty of the same kind.
fn mask(tree: &OwnedFd, path: &CStr, empty: &Empty) -> Result<()> {
    let Some(target) = find_below(tree, path)? else { return Ok(()) };
    if !is_directory(&target)? {
        return attach(&clone_tree(&empty.null, c"", false)?, target);
    }
    let cover = clone_tree(&empty.directory, c"", false)?;
    sys::mount_setattr(&cover, false, u64::from(uapi::MOUNT_ATTR_RDONLY), 0)?;
    attach(&cover, target)
}

fn make_readonly(tree: &OwnedFd, path: &CStr) -> Result<()> {
    let Some(target) = find_below(tree, path)? else {
        return Ok(());
    };
    let readonly = clone_tree(&target, c"", true)?;
    sys::mount_setattr(&readonly, true, u64::from(uapi::MOUNT_ATTR_RDONLY), 0)?;
    attach(&readonly, target)
}
