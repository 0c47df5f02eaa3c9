//! Where the container's root comes from: a directory, or a squashfs or erofs image, mounted as it is.
//!
//! Must not unpack or change anything: a loop device is the kernel's, and goes with the mount.

use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::sys;
use linux_raw_sys::general::EROFS_SUPER_MAGIC_V1;
use linux_raw_sys::loop_device::{LOOP_CONFIGURE, LOOP_CTL_GET_FREE};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, pread};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};
use std::ffi::{CStr, CString};

/// What of the host becomes the container's `/`.
pub enum Root {
    /// A directory.
    Directory,
    /// The mount of an image, not attached anywhere.
    Image(OwnedFd),
}

const HINT: &str =
    "give a directory with the container's files, as one unpacked from an image, or a squashfs or erofs image";
/// How often another process may be faster to take the loop device that was free.
const ATTEMPTS: u32 = 64;

/// Looks what the rootfs is, and mounts it where it is an image; with its owner.
pub fn find(config: &Config) -> Result<(Root, u32)> {
    let what = format_args!("rootfs {}", config.rootfs.to_string_lossy());
    // Of a FIFO or a device it must not be more than a look.
    let found = rustix::fs::stat(&*config.rootfs).context(what, HINT)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => return Ok((Root::Directory, found.st_uid)),
        FileType::RegularFile => {}
        _ => return Err(Error::new(what, Errno::NOTDIR, HINT)),
    }
    let image = open(&*config.rootfs, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what, HINT)?;
    let kind = file_system(&image).ok_or_else(|| Error::new(what, Errno::NOTDIR, HINT))?;
    let hint = match kind {
        FileSystem::Erofs => "mounting it takes root, and a kernel with CONFIG_EROFS_FS; is the image whole?",
        FileSystem::Squashfs => "mounting it takes root, and a kernel with CONFIG_SQUASHFS; is the image whole?",
    };
    let mounted = mount(&image, &config.rootfs, kind)
        .context(format_args!("mount image {}", config.rootfs.to_string_lossy()), hint)?;
    let owner = fstat(&mounted).map_or(0, |root| root.st_uid);
    Ok((Root::Image(mounted), owner))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileSystem {
    Erofs,
    Squashfs,
}

impl FileSystem {
    fn name(self) -> &'static CStr {
        match self {
            Self::Erofs => c"erofs",
            Self::Squashfs => c"squashfs",
        }
    }
}

/// By the magic numbers: struct erofs_super_block is at 1024, struct squashfs_super_block at 0.
fn file_system(image: &OwnedFd) -> Option<FileSystem> {
    let magic = |offset| {
        let mut bytes = [0; 4];
        (pread(image, &mut bytes, offset) == Ok(4)).then_some(bytes)
    };
    if magic(0)? == *b"hsqs" {
        return Some(FileSystem::Squashfs);
    }
    (u32::from_le_bytes(magic(1024)?) == EROFS_SUPER_MAGIC_V1).then_some(FileSystem::Erofs)
}

fn mount(image: &OwnedFd, path: &CStr, kind: FileSystem) -> rustix::io::Result<OwnedFd> {
    if kind == FileSystem::Erofs {
        // Since Linux 6.12 erofs takes the file as it is; ENOTBLK where it does not. The file that was looked at, and no path
        // for the container to see.
        let source = CString::new(format!("/proc/self/fd/{}", image.as_raw_fd())).map_err(|_| Errno::INVAL)?;
        match mount_source(kind, &source) {
            Err(Errno::NOTBLK) => {}
            mounted => return mounted,
        }
    }
    let control = open(c"/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for _ in 0..ATTEMPTS {
        let number = sys::ioctl(&control, LOOP_CTL_GET_FREE, 0)?;
        let name = CString::new(format!("/dev/loop{number}")).map_err(|_| Errno::INVAL)?;
        let device = open(&*name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let configuration = sys::loop_configuration(image.as_raw_fd(), path);
        match sys::ioctl(&device, LOOP_CONFIGURE, &raw const configuration as usize) {
            // Another process has been faster.
            Err(Errno::BUSY) => {}
            // The device stays as long as the mount does, and goes with it.
            configured => return configured.and_then(|_| mount_source(kind, &name)),
        }
    }
    Err(Errno::BUSY)
}

fn mount_source(kind: FileSystem, source: &CStr) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind.name(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", source)?;
    fsconfig_set_flag(&context, c"ro")?;
    fsconfig_create(&context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// A copy of the host's mounts from `path` on, not attached anywhere; for what is to be idmapped.
pub fn copy_tree(path: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
}
