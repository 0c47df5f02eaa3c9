//! The container's mounts beside its root: each is made detached, attached once, and found by fd from then on.
//!
//! Runs in the new mount namespace, before pivot_root(2). No path of the rootfs is ever followed out of it: targets are
//! resolved with openat2(2) below the root, and those of the kernel's own file systems without any symlink.

use core::ffi::CStr;
use core::result::Result;
#[cfg(feature = "oci")]
use kontena_init::plan::Bundled;
use kontena_init::plan::{Device, File, HOSTS, List, Mount, Plan, Report, Step, mount_kind};
use linux_raw_sys::general::MOUNT_ATTR_RDONLY;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, statat};
use rustix::io::{self, Errno};
use rustix::mount::{MoveMountFlags, move_mount};

use crate::dev::{self, Empty};
use crate::failure::fail;
use crate::root::Root;
use crate::sys;
use crate::text;
use crate::tree::{PATH_FD, attach, change, clone_tree, make, make_target, open_in, open_or_make_target, or_make};

/// Makes mounts of the Plan, in their order.
#[inline(never)]
pub fn mount_all(root: &OwnedFd, empty: &Empty, mounts: List<'_, Mount<'_>>) -> Result<(), Report> {
    for mount in mounts.iter() {
        if mount.changes.get().is_some() && mount.kind == mount_kind::REMOUNT {
            remount(root, &mount).map_err(fail(Step::Mount, mount.id))?;
            continue;
        }
        match make(&mount) {
            Err(Errno::NODEV) if mount.kind == mount_kind::FILESYSTEM_IF_KNOWN => {}
            tree => place(root, &tree.map_err(fail(Step::Mount, mount.id))?, &mount, empty)?,
        }
    }
    Ok(())
}

/// Changes the attributes of the mount on a target.
fn remount(root: &OwnedFd, mount: &Mount<'_>) -> io::Result<()> {
    change(&open_in(root, mount.target, PATH_FD, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?, mount)
}

/// Mounts it where it goes, and covers what of it must not be seen or changed.
pub fn place(root: &OwnedFd, tree: &OwnedFd, mount: &Mount<'_>, empty: &Empty) -> Result<(), Report> {
    let target = open_or_make_target(root, tree, mount).and_then(|target| attach(tree, target));
    target.map_err(fail(Step::MountTarget, mount.id))?;
    for path in mount.masked.iter() {
        mask(tree, path, empty).map_err(fail(Step::Mask, mount.id))?;
    }
    for path in mount.readonly.iter() {
        make_readonly(tree, path).map_err(fail(Step::Readonly, mount.id))?;
    }
    Ok(())
}

/// Mounts /dev, with no more in it than what paths are masked with; [`dev::populate`] does the rest. Without a target,
/// the devices are made beside the root.
pub fn mount_dev(root: &mut Root, plan: &Plan<'_>) -> Result<(OwnedFd, Empty), Report> {
    let mount = &plan.dev;
    let beside = root.beside.take();
    let (tree, empty) = match beside {
        Some(beside) if !plan.has_dev() => {
            let empty = dev::make_empty(&beside, &beside);
            (beside, empty)
        }
        beside => {
            let tree = make(mount).map_err(fail(Step::Mount, mount.id))?;
            let empty = dev::make_empty(&tree, beside.as_ref().unwrap_or(&tree));
            (tree, empty)
        }
    };
    let empty = empty.map_err(fail(Step::Devices, mount.id))?;
    dev::replace_null(&empty.null).map_err(fail(Step::Devices, mount.id))?;
    if plan.has_dev() {
        open_or_make_target(&root.tree, &tree, mount)
            .and_then(|target| attach(&tree, target))
            .map_err(fail(Step::MountTarget, mount.id))?;
    }
    Ok((tree, empty))
}

/// Covers the masked and read-only paths of a bundle, following the links in its root.
#[cfg(feature = "oci")]
pub fn cover_all(root: &OwnedFd, empty: &Empty, bundle: &Bundled<'_>) -> Result<(), Report> {
    let cover = |paths: List<'_, &CStr>, step, cover: &dyn Fn(&OwnedFd) -> io::Result<()>| {
        for (index, path) in (0..).zip(paths.iter()) {
            match open_in(root, path, PATH_FD, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                found => found.and_then(|found| cover(&found)).map_err(fail(step, index))?,
            }
        }
        Ok(())
    };
    cover(bundle.masked, Step::MaskPath, &|found| mask(found, c"", empty))?;
    cover(bundle.readonly, Step::ReadonlyPath, &|found| make_readonly(found, c""))
}

/// Mounts the Plan's files, which [`dev::populate`] has made in `dev`. One that is a link in the root is covered, for
/// the link may lead nowhere, or to where something else is mounted later. Where the root has no place for a file and
/// cannot get one, it goes without.
pub fn mount_files(root: &OwnedFd, dev: &OwnedFd, files: List<'_, File<'_>>) -> Result<(), Report> {
    for (index, file) in (0..).zip(files.iter()) {
        let mount = || -> io::Result<()> {
            let tree = clone_tree(dev, dev::file_name(index), false)?;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let found = open_in(root, file.target, PATH_FD | OFlags::NOFOLLOW, resolve);
            or_make(found, root, &tree, file.target, resolve).map_or(Ok(()), |target| attach(&tree, target))
        };
        mount().map_err(fail(Step::File, index))?;
    }
    Ok(())
}

/// Passes the file on that the launcher writes, by its fd: only here is it certain that its path leads to it.
pub fn pass_on_hosts(dev: &OwnedFd, files: List<'_, File<'_>>, status: &OwnedFd) -> Result<(), Report> {
    for (index, _) in (0..).zip(files.iter()).filter(|(_, file)| file.is_launchers == 1) {
        openat(dev, dev::file_name(index), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| sys::send_fd(status, &[HOSTS], &file))
            .map_err(fail(Step::File, index))?;
    }
    Ok(())
}

/// Makes a device at a path of the container, or mounts the host's there.
#[inline(never)]
pub fn make_device(root: &OwnedFd, dev: &OwnedFd, device: &Device<'_>) -> io::Result<()> {
    let target = device.target.to_bytes();
    let slash = target.iter().rposition(|byte| *byte == b'/').ok_or(Errno::INVAL)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    // Its directory is made as that of a mount would be.
    let mut room = sys::room::<{ sys::PATH_MAX }>();
    let parent = sys::terminate(&target[..slash], &mut room)?;
    let parent = match open_in(root, if slash == 0 { c"/" } else { parent }, PATH_FD, resolve) {
        Err(Errno::NOENT) => make_target(root, true, parent, resolve)?,
        found => found?,
    };
    dev::make(dev, &parent, text::tail(device.target, slash + 1), device)
}

/// Mounts the payload's terminal on /dev/console of a /dev that is not the container's own.
pub fn mount_console(root: &OwnedFd, slave: &OwnedFd) -> io::Result<()> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let tree = clone_tree(slave, c"", false)?;
    let found = open_in(root, c"/dev/console", PATH_FD, resolve);
    or_make(found, root, &tree, c"/dev/console", resolve).and_then(|target| attach(&tree, target))
}

/// Covers a path of a mount of ours, the kernel's own file system, with something empty of the same kind.
fn mask(tree: &OwnedFd, path: &CStr, empty: &Empty) -> io::Result<()> {
    let cover = match statat(tree, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        found if FileType::from_raw_mode(found?.st_mode) == FileType::Directory => {
            let cover = clone_tree(&empty.directory, c"", false)?;
            sys::mount_setattr(&cover, false, u64::from(MOUNT_ATTR_RDONLY), 0, 0)?;
            cover
        }
        _ => clone_tree(&empty.null, c"", false)?,
    };
    cover_path(&cover, tree, path)
}

/// Covers such a path with itself, read-only.
fn make_readonly(tree: &OwnedFd, path: &CStr) -> io::Result<()> {
    match clone_tree(tree, path, true) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        readonly => {
            let readonly = readonly?;
            sys::mount_setattr(&readonly, true, u64::from(MOUNT_ATTR_RDONLY), 0, 0)?;
            cover_path(&readonly, tree, path)
        }
    }
}

fn cover_path(cover: &OwnedFd, tree: &OwnedFd, path: &CStr) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(cover, c"", tree, path, flags)
}
