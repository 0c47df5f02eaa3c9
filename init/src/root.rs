//! The container's root: its tree, a layer over it where one is needed, and the way into it by pivot_root(2).
//!
//! Runs in the new mount namespace while the host's mounts are still visible, and ends with them gone. Must not touch
//! the host: the first step cuts every mount off from it.

use core::ffi::CStr;
use kontena_init::plan::{List, Mount, Plan, Report, Step, mount_kind, overlay};
use linux_raw_sys::general as uapi;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{
    CWD, Gid, Mode, OFlags, ResolveFlags, StatVfsMountFlags, Uid, fchmod, fchown, fstat, fstatvfs, mkdirat, openat,
    statfs,
};
use rustix::io::{Errno, Result};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{chdir, chroot, fchdir};

use crate::failure::fail;
use crate::sys;
use crate::tree::{PATH_FD, clone_tree, make, make_filesystem, open_in};

/// Cuts every mount of this namespace off from the host's, so that nothing done here is seen there; with MS_SLAVE, what
/// is done there still is seen here.
fn cut_off(propagation: u64) -> Result<()> {
    let root = open()?;
    sys::mount_setattr(root, true, 0, 0, propagation)
}

/// Whether `/` may be the initial root: an initramfs, of one of these two file systems. A tmpfs that is not only costs
/// the time to leave it.
fn is_initial_root() -> bool {
    let kind = statfs(c"/").map_or(0, |root| root.f_type as u64);
    kind == u64::from(uapi::RAMFS_MAGIC) || kind == u64::from(uapi::TMPFS_MAGIC)
}

/// pivot_root(2) cannot leave the initial root, which has no parent: so it is mounted over itself, and that is the root
/// from here on, with the same working directory.
pub fn leave_initial_root() -> Result<()> {
    let mut buffer = [0; sys::PATH_MAX];
    let directory = sys::working_directory(&mut buffer)?;
    let root = clone_tree(CWD, c"/", true)?;
    let root = attach_at(root, c"/")?;
    fchdir(root)?;
    chroot(c".")?;
    chdir(directory)
}

/// Cuts the mounts off from the host's, and gets away from an initial root.
pub fn leave_host(plan: &Plan<'_>) -> core::result::Result<(), Report> {
    cut_off(plan.propagation).map_err(fail(Step::MakePrivate, 0))?;
    if is_initial_root() { leave_initial_root().map_err(fail(Step::PivotRoot, 0)) } else { Ok(()) }
}

/// The container's root.
pub struct Root {
    /// Attached over the host's `/`, or over its own directory on the host.
    pub tree: OwnedFd,
    /// Whether it was read-only, and only got a layer for its mountpoints.
    pub stays_readonly: bool,
    /// Of a bundle: a tmpfs between the host's root and this one, which goes with the host's. What is in it can be
    /// mounted, and is never seen.
    pub beside: Option<OwnedFd>,
}

/// Makes the container's root, and attaches it.
pub fn attach(plan: &Plan<'_>) -> core::result::Result<Root, Report> {
    let lower = make(&plan.root).map_err(fail(Step::AttachRoot, 0))?;
    let is_readonly = || fstatvfs(&lower).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    let is_needed = plan.overlay == overlay::IF_NEEDED && is_readonly() && lacks_a_target(&lower, plan);
    let root = if plan.overlay == overlay::ALWAYS || is_needed {
        lay_over(&lower, plan).map_err(fail(Step::Overlay, 0))?
    } else {
        lower
    };
    // Hooks that run before pivot_root(2) look for it at its path on the host.
    let place = if plan.has_create_hooks() { plan.root.source } else { c"/" };
    let beside = || make_filesystem(&PLACE).and_then(|tree| attach_at(tree, place));
    let beside = plan.bundle.get().map(|_| beside()).transpose().map_err(fail(Step::AttachRoot, 0))?;
    let tree = attach_at(root, place).map_err(fail(Step::AttachRoot, 0))?;
    Ok(Root { tree, stays_readonly: is_needed, beside })
}

/// Whether something that something is mounted on is missing in `root`, but for what is in a mount of ours.
fn lacks_a_target(root: &OwnedFd, plan: &Plan<'_>) -> bool {
    let is_ours =
        |target: &CStr| target.to_bytes().first_chunk().is_some_and(|top| [b"/dev/", b"/sys/"].contains(&top));
    let find = |target: &CStr| open_in(root, target, PATH_FD, ResolveFlags::IN_ROOT);
    let is_lacking = |Mount { target, .. }: Mount<'_>| {
        !is_ours(target) && !target.is_empty() && matches!(find(target), Err(Errno::NOENT))
    };
    let ours = [plan.dev, plan.proc].into_iter();
    { ours.chain(plan.mounts.iter()).chain(plan.volumes.iter()) }.any(is_lacking)
}

/// A tmpfs that covers the host's root for a while.
const PLACE: Mount<'_> = Mount::new(mount_kind::FILESYSTEM, c"tmpfs", c"/");

/// Lays the Plan's layer over `lower`: overlayfs, which takes its layers by their paths.
fn lay_over(lower: &OwnedFd, plan: &Plan<'_>) -> Result<OwnedFd> {
    let layer = make(&plan.layer)?;
    let directory = openat(CWD, c".", PATH_FD, Mode::empty())?;
    fchdir(make_filesystem(&PLACE).and_then(|tree| attach_at(tree, c"/"))?)?;
    for (name, tree) in [(c"lower", lower), (c"layer", &layer)] {
        mkdirat(CWD, name, Mode::from_raw_mode(0o700))?;
        move_mount(tree, c"", CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    // The directories that they are now, and no links that somebody puts in their place meanwhile. They stay open until
    // the file system is made, for only then some kernels look at the paths.
    let upper = open_layer_directory(&layer, c"upper", lower)?;
    let work = open_layer_directory(&layer, c"work", lower)?;
    let mut paths = [*b"upperdir=/proc/self/fd//////////\0", *b"workdir=/proc/self/fd///////////\0"];
    let [upperdir, workdir] = &mut paths;
    let (upperdir, workdir) = (add_number(upperdir, &upper)?, add_number(workdir, &work)?);
    // Its own attributes are in trusted.overlay.*, which a user namespace may not write.
    let options = [c"lowerdir=lower", upperdir, workdir, c"userxattr"];
    let options = List::Items(&options[..3 + usize::from(plan.userns == 1)]);
    let attributes = plan.root.attributes;
    let merged = make_filesystem(&Mount { source: c"overlay", options, attributes, ..PLACE })?;
    // It has copies of its layers: what stood over the host's root goes, before something else does.
    unmount(c".", UnmountFlags::DETACH)?;
    fchdir(directory)?;
    Ok(merged)
}

/// Puts the number of an fd, which is never 0 here, in place of the last slashes.
fn add_number<'a>(path: &'a mut [u8], fd: &OwnedFd) -> Result<&'a CStr> {
    let mut number = fd.as_raw_fd() as u32;
    for place in path.iter_mut().rev().skip(1) {
        if number > 0 {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    CStr::from_bytes_with_nul(path).map_err(|_| Errno::INVAL)
}

/// A directory of a layer's own; made like the root where it is missing. A link is not followed: somebody else may have
/// put it there.
#[inline(never)]
fn open_layer_directory(layer: &OwnedFd, name: &CStr, root: &OwnedFd) -> Result<OwnedFd> {
    let made = mkdirat(layer, name, Mode::from_raw_mode(0o755));
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let directory = open_in(layer, name, OFlags::DIRECTORY | OFlags::CLOEXEC, resolve)?;
    match made {
        Ok(()) => {
            let root = fstat(root)?;
            fchmod(&directory, Mode::from_raw_mode(root.st_mode))?;
            match fchown(&directory, Some(Uid::from_raw(root.st_uid)), Some(Gid::from_raw(root.st_gid))) {
                // An owner that this user namespace does not have.
                Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(directory),
                Err(errno) => Err(errno),
            }
        }
        Err(Errno::EXIST) => Ok(directory),
        Err(errno) => Err(errno),
    }
}

/// Attaches a tree over a directory of the host's: pivot_root(2) wants the new root to be attached, and overlayfs its
/// layers. Over `/`, nothing is found by a path but by fd.
fn attach_at(tree: OwnedFd, place: &CStr) -> Result<OwnedFd> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(&tree, c"", CWD, place, flags).map(|()| tree)
}

/// Makes `/` read-only, as the last mount to be changed; those below it keep their own attributes.
pub fn make_readonly(root: &OwnedFd) -> Result<()> {
    sys::mount_setattr(root, false, u64::from(uapi::MOUNT_ATTR_RDONLY), 0, 0)
}

/// Leaves the host's mounts behind: `root` becomes `/`, and the old root goes, with all below it, and before that, if
/// there `is_one_beside`, the tmpfs that stands over it.
pub fn pivot(root: OwnedFd, is_one_beside: bool) -> Result<()> {
    fchdir(root)?;
    // Both names the same directory: the old root is stacked over the new one, and taken off again; pivot_root(2),
    // "pivot_root(".", ".")".
    rustix::process::pivot_root(c".", c".")?;
    if is_one_beside {
        unmount(c".", UnmountFlags::DETACH)?;
    }
    unmount(c".", UnmountFlags::DETACH)?;
    chdir(c"/")
}

/// Gives `/`, or with MS_REC all mounts, the propagation that a bundle asks for: by now nothing of the host's is there.
pub fn propagate(propagation: u64) -> Result<()> {
    let recursive = propagation & u64::from(uapi::MS_REC) != 0;
    match propagation & !u64::from(uapi::MS_REC) {
        0 => Ok(()),
        propagation => sys::mount_setattr(open()?, recursive, 0, 0, propagation),
    }
}

/// Opens the root of this process, to find files in it.
pub fn open() -> Result<OwnedFd> {
    openat(CWD, c"/", PATH_FD | OFlags::DIRECTORY, Mode::empty())
}
