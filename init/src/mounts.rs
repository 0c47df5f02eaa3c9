//! The container's mounts: all of them made detached, moved once, and found by fd.
//!
//! Runs in the new mount namespace while the host's mounts are still visible, and ends with them gone. No path of the
//! rootfs is ever followed out of it: targets are resolved with openat2(2) below the root, and ours (`/proc`, `/dev`,
//! `/sys`) without any symlink. Must not touch the host: the first step cuts every mount off from it.

use core::ffi::CStr;
use kontena_init::plan::{Device, File, List, Mount, Plan, Report, Step, mount_kind, overlay};
use linux_raw_sys::general as uapi;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, StatVfsMountFlags, Uid, chmodat, chownat, fstat, fstatvfs,
    mkdirat, openat, openat2, statat, statfs,
};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::path::Arg;
use rustix::process::{chdir, chroot, fchdir};

use crate::dev::{self, Empty};
use crate::{fail, sys};

const PATH_FD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Cuts every mount of this namespace off from the host's, so that nothing done here is seen there; with MS_SLAVE, what
/// is done there still is seen here.
pub fn cut_off(propagation: u64) -> Result<()> {
    let root = openat(CWD, c"/", PATH_FD | OFlags::DIRECTORY, Mode::empty())?;
    sys::mount_setattr(root, true, 0, propagation)
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
    let root = clone_tree(CWD, c"/", true)?;
    stack(&root)?;
    fchdir(root)?;
    chroot(c".")?;
    chdir(directory)
}

/// Attaches a tree over the host's `/`, where nothing is found by a path but by fd: pivot_root(2) wants the new root to be
/// attached, and overlayfs its layers.
fn stack(tree: &OwnedFd) -> Result<()> {
    move_mount(tree, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Makes the container's root, and attaches it. Says whether it is read-only from now on: where it was, and only got a
/// layer for its mountpoints.
pub fn attach_root(plan: &Plan<'_>) -> core::result::Result<(OwnedFd, bool), Report> {
    let lower = make(&plan.root).map_err(fail(Step::AttachRoot, 0))?;
    let is_readonly = || fstatvfs(&lower).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    let is_needed = plan.overlay == overlay::IF_NEEDED && is_readonly() && lacks_a_target(&lower, plan);
    let root = if plan.overlay == overlay::ALWAYS || is_needed {
        lay_over(&lower, plan).map_err(fail(Step::Overlay, 0))?
    } else {
        lower
    };
    stack(&root).map_err(fail(Step::AttachRoot, 0))?;
    Ok((root, is_needed))
}

/// Whether something that something is mounted on is missing in `root`, but for what is in a mount of ours.
fn lacks_a_target(root: &OwnedFd, plan: &Plan<'_>) -> bool {
    let targets = plan.all_mounts().map(|mount| mount.target);
    let ours = |target: &CStr| [b"/dev/" as &[u8], b"/sys/"].iter().any(|mount| target.to_bytes().starts_with(mount));
    let find = |target| open_in(root, target, PATH_FD, ResolveFlags::IN_ROOT);
    targets.filter(|target| !ours(target)).any(|target| matches!(find(target), Err(Errno::NOENT)))
}

/// Lays the Plan's layer over `lower`: overlayfs, which takes its layers by their paths.
fn lay_over(lower: &OwnedFd, plan: &Plan<'_>) -> Result<OwnedFd> {
    const PLACE: Mount<'_> = Mount {
        kind: mount_kind::FILESYSTEM,
        source: c"tmpfs",
        target: c"/",
        attributes: 0,
        propagation: 0,
        options: List::Items(&[]),
        masked: List::Items(&[]),
        readonly: List::Items(&[]),
    };
    let directory = openat(CWD, c".", PATH_FD, Mode::empty())?;
    let place = make_filesystem(&PLACE)?;
    stack(&place)?;
    fchdir(place)?;
    for (name, tree) in [(c"lower", lower), (c"layer", &make(&plan.layer)?)] {
        mkdirat(CWD, name, Mode::from_raw_mode(0o700))?;
        move_mount(tree, c"", CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    for name in [c"layer/upper", c"layer/work"] {
        match mkdirat(CWD, name, Mode::from_raw_mode(0o755)) {
            // The root is to look as it did.
            Ok(()) => {
                let root = fstat(lower)?;
                chmodat(CWD, name, Mode::from_raw_mode(root.st_mode), AtFlags::empty())?;
                let owner = (Some(Uid::from_raw(root.st_uid)), Some(Gid::from_raw(root.st_gid)));
                match chownat(CWD, name, owner.0, owner.1, AtFlags::empty()) {
                    // An owner that this user namespace does not have.
                    Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    // Its own attributes are in trusted.overlay.*, which a user namespace may not write.
    const OPTIONS: [&CStr; 4] = [c"lowerdir=lower", c"upperdir=layer/upper", c"workdir=layer/work", c"userxattr"];
    let options = List::Items(&OPTIONS[..3 + usize::from(plan.userns == 1)]);
    let merged = make_filesystem(&Mount { source: c"overlay", options, ..PLACE })?;
    // It has copies of its layers: what stood over the host's root goes, before something else does.
    unmount(c".", UnmountFlags::DETACH)?;
    fchdir(directory)?;
    Ok(merged)
}

/// Makes mounts of the Plan, all but the first `skip` of a list whose first is its `first`th.
#[inline(never)]
pub fn mount_all(
    root: &OwnedFd,
    empty: &Empty,
    first: usize,
    mounts: List<'_, Mount<'_>>,
    skip: usize,
) -> core::result::Result<(), Report> {
    for (index, mount) in (first as u16..).zip(mounts.iter()).skip(skip) {
        match make(&mount) {
            Err(Errno::NODEV) if mount.kind == mount_kind::FILESYSTEM_IF_KNOWN => {}
            tree => place(root, &tree.map_err(fail(Step::Mount, index))?, &mount, empty, index)?,
        }
    }
    Ok(())
}

/// Mounts it where it goes, and covers what of it must not be seen or changed.
fn place(
    root: &OwnedFd,
    tree: &OwnedFd,
    mount: &Mount<'_>,
    empty: &Empty,
    index: u16,
) -> core::result::Result<(), Report> {
    let target = find_target(root, tree, mount).and_then(|target| attach(tree, target));
    target.map_err(fail(Step::MountTarget, index))?;
    for path in mount.masked.iter() {
        mask(tree, path, empty).map_err(fail(Step::Mask, index))?;
    }
    for path in mount.readonly.iter() {
        make_readonly(tree, path).map_err(fail(Step::Readonly, index))?;
    }
    Ok(())
}

/// /proc, if there are settings that cannot wait until it is mounted: those with `-` before them, which the launcher counts on
/// when it sets the container's link up.
pub fn make_early_proc(plan: &Plan<'_>) -> core::result::Result<Option<OwnedFd>, Report> {
    let is_early = |setting: &CStr| setting.to_bytes().starts_with(b"-");
    if !plan.settings.iter().any(is_early) {
        return Ok(None);
    }
    let (index, mount) = proc_of(plan)?;
    let proc = make(&mount).map_err(fail(Step::Mount, index))?;
    write_settings(&proc, plan, is_early)?;
    Ok(Some(proc))
}

/// Mounts /proc, which may have been made by then, and writes the Plan's settings.
pub fn mount_proc(
    root: &OwnedFd,
    empty: &Empty,
    plan: &Plan<'_>,
    early: Option<OwnedFd>,
) -> core::result::Result<(), Report> {
    let (index, mount) = proc_of(plan)?;
    let proc = early.map_or_else(|| make(&mount), Ok).map_err(fail(Step::Mount, index))?;
    write_settings(&proc, plan, |setting| !setting.to_bytes().starts_with(b"-"))?;
    place(root, &proc, &mount, empty, index)
}

fn proc_of<'a>(plan: &Plan<'a>) -> core::result::Result<(u16, Mount<'a>), Report> {
    let mount = plan.proc.iter().next().ok_or(Errno::INVAL).map_err(fail(Step::ReadPlan, 0))?;
    Ok((plan.mounts.len() as u16, mount))
}

fn write_settings(proc: &OwnedFd, plan: &Plan<'_>, which: impl Fn(&CStr) -> bool) -> core::result::Result<(), Report> {
    for (index, setting) in (0..).zip(plan.settings.iter()).filter(|(_, setting)| which(setting)) {
        write_setting(proc, setting.to_bytes()).map_err(fail(Step::Setting, index))?;
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

#[inline(never)]
fn make(mount: &Mount<'_>) -> Result<OwnedFd> {
    let tree = match mount.kind {
        mount_kind::BIND => clone_tree(CWD, mount.source, true)?,
        mount_kind::TREE => sys::inherited_fd(mount.source).ok_or(Errno::BADF)?,
        _ => return make_filesystem(mount),
    };
    // Nothing that is mounted below a read-only volume stays writable.
    sys::mount_setattr(&tree, true, mount.attributes, mount.propagation)?;
    Ok(tree)
}

/// Mounts the Plan's files, which [`dev::populate`] has made in `dev`. Where the root has no place for one and cannot get
/// one, it goes without.
pub fn mount_files(root: &OwnedFd, dev: &OwnedFd, files: List<'_, File<'_>>) -> core::result::Result<(), Report> {
    for (index, file) in (0..).zip(files.iter()) {
        let mount = || -> Result<()> {
            let tree = clone_tree(dev, dev::file_name(index), false)?;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            find_or_make(root, &tree, file.target, resolve).map_or(Ok(()), |target| attach(&tree, target))
        };
        mount().map_err(fail(Step::File, index))?;
    }
    Ok(())
}

/// The Plan's first file, to be written on; `None` where there is none.
pub fn open_hosts(dev: &OwnedFd) -> Option<OwnedFd> {
    openat(dev, dev::file_name(0), OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Writes to a file of the procfs that was just made: nothing of the rootfs, and no volume, can be in place of it or of
/// anything in it (CVE-2025-52881).
fn write_setting(proc: &OwnedFd, setting: &[u8]) -> Result<()> {
    let (setting, is_optional) = match setting {
        [b'-', setting @ ..] => (setting, true),
        setting => (setting, false),
    };
    let end = setting.iter().position(|byte| *byte == b'=').ok_or(Errno::INVAL)?;
    // The links in it are the kernel's own: self.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    match open_in(proc, &setting[..end], OFlags::WRONLY | OFlags::CLOEXEC, resolve) {
        Err(Errno::NOENT) if is_optional => Ok(()),
        file => rustix::io::write(file?, &setting[end + 1..]).map(drop),
    }
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

/// Makes a device at a path of the container, or mounts the host's there.
#[inline(never)]
pub fn make_device(root: &OwnedFd, device: &Device<'_>) -> Result<()> {
    let target = device.target.to_bytes();
    let slash = target.iter().rposition(|byte| *byte == b'/').ok_or(Errno::INVAL)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    // Its directory is made as that of a mount would be.
    let mut path = [0u8; uapi::PATH_MAX as usize];
    path.get_mut(..slash).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(&target[..slash]);
    let parent = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::INVAL)?;
    let parent = match open_in(root, if slash == 0 { c"/" } else { parent }, PATH_FD, resolve) {
        Err(Errno::NOENT) => make_target(root, true, parent, resolve)?,
        found => found?,
    };
    dev::make(&parent, &target[slash + 1..], device)
}

/// openat2(2), again where the kernel could not tell that a `..` stays inside, since something was mounted or renamed
/// meanwhile: PID 1 and the payload's process work side by side.
pub fn open_in<P: Arg + Copy>(root: impl AsFd, path: P, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    const ATTEMPTS: usize = 1000;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        opened = openat2(&root, path, flags, Mode::empty(), resolve);
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

/// A new instance of a file system, not attached anywhere.
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
    if matches!(mount.kind, mount_kind::FILESYSTEM | mount_kind::FILESYSTEM_IF_KNOWN) {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    find_or_make(root, tree, mount.target, resolve)
}

fn find_or_make(root: &OwnedFd, tree: &OwnedFd, target: &CStr, resolve: ResolveFlags) -> Result<OwnedFd> {
    match open_in(root, target, PATH_FD, resolve) {
        Err(Errno::NOENT) => make_target(root, is_directory(tree)?, target, resolve),
        found => found,
    }
}

/// Walks to `target` one component at a time and makes those that are missing: directories, and at the end what the
/// mount is, a directory or a file.
fn make_target(root: &OwnedFd, is_directory: bool, target: &CStr, resolve: ResolveFlags) -> Result<OwnedFd> {
    let mut path = [0u8; uapi::PATH_MAX as usize];
    let length = target.to_bytes().len();
    path.get_mut(..length).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(target.to_bytes());

    let mut parent = open_in(root, c"/", PATH_FD, resolve)?;
    let mut start = 0;
    while start < length {
        let end = path[start..length].iter().position(|byte| *byte == b'/').map_or(length, |at| start + at);
        if end > start {
            // Resolved from the root each time, so that `..` in a symlink cannot lead out.
            parent = match open_in(root, &path[..end], PATH_FD, resolve) {
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
                        Ok(()) | Err(Errno::EXIST) => open_in(root, &path[..end], PATH_FD, resolve)?,
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

/// Covers a path of a mount of ours, the kernel's own file system, with something empty of the same kind.
fn mask(tree: &OwnedFd, path: &CStr, empty: &Empty) -> Result<()> {
    let cover = match statat(tree, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        found if FileType::from_raw_mode(found?.st_mode) == FileType::Directory => {
            let cover = clone_tree(&empty.directory, c"", false)?;
            sys::mount_setattr(&cover, false, u64::from(uapi::MOUNT_ATTR_RDONLY), 0)?;
            cover
        }
        _ => clone_tree(&empty.null, c"", false)?,
    };
    cover_path(&cover, tree, path)
}

/// Covers such a path with itself, read-only.
fn make_readonly(tree: &OwnedFd, path: &CStr) -> Result<()> {
    match clone_tree(tree, path, true) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        readonly => {
            let readonly = readonly?;
            sys::mount_setattr(&readonly, true, u64::from(uapi::MOUNT_ATTR_RDONLY), 0)?;
            cover_path(&readonly, tree, path)
        }
    }
}

fn cover_path(cover: &OwnedFd, tree: &OwnedFd, path: &CStr) -> Result<()> {
    move_mount(cover, c"", tree, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
