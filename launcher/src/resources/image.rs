//! Images that are a container's root: squashfs or erofs, mounted as they are.
//!
//! Must not unpack or change anything: a loop device is the kernel's, and goes with the mount.

use crate::config::image::{FileSystem, Image};
use crate::file;
use crate::sys;
use linux_raw_sys::general::EROFS_SUPER_MAGIC_V1;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::{Errno, Result, pread};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use std::ffi::{CStr, CString};

/// What a root file system is.
pub const ROOT: &str = "use a directory with the container's files, or a squashfs or erofs image";

/// How often another process may be faster to take the loop device that was free.
const ATTEMPTS: u32 = 64;

impl FileSystem {
    fn name(self) -> &'static CStr {
        match self {
            Self::Erofs => c"erofs",
            Self::Squashfs => c"squashfs",
        }
    }

    /// Why it may not be possible to mount it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Erofs => "mounting it needs root, a kernel with CONFIG_EROFS_FS, and an intact image",
            Self::Squashfs => "mounting it needs root, a kernel with CONFIG_SQUASHFS, and an intact image",
        }
    }
}

/// Opens the image at `path`; `None` where there is none: what else there is, or is not, the reader of the root says.
///
/// The only place where an image is opened. By this fd, everything is read that the image says, and it is mounted.
pub fn open(path: &CStr) -> Result<Option<Image>> {
    let Ok(found) = open_as(path, OFlags::PATH) else { return Ok(None) };
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    // The file that was looked at.
    let fd = file::reopen(&found)?;
    Ok(file_system(&fd).map(|kind| Image { fd, kind }))
}

fn open_as(path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Which it is, by the magic numbers: struct erofs_super_block is at 1024, struct squashfs_super_block at 0.
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

/// A mount of it, not attached anywhere. `path` is what losetup(8) shows.
pub fn mount(image: &OwnedFd, path: &CStr, kind: FileSystem) -> Result<OwnedFd> {
    if kind == FileSystem::Erofs {
        // Since Linux 6.12 erofs takes the file as it is; ENOTBLK where it does not. The file that was looked at, and
        // no path for the container to see.
        match mount_source(kind, &fd_path(image)?) {
            Err(Errno::NOTBLK) => {}
            mounted => return mounted,
        }
    }
    let control = open_as(c"/dev/loop-control", OFlags::RDWR)?;
    for _ in 0..ATTEMPTS {
        let number = sys::free_loop_device(&control)?;
        let name = CString::new(format!("/dev/loop{number}")).map_err(|_| Errno::INVAL)?;
        let device = open_as(&name, OFlags::RDONLY)?;
        match sys::configure_loop_device(&device, image, path) {
            // Another process has been faster.
            Err(Errno::BUSY) => {}
            // The device stays as long as the mount does, and goes with it.
            configured => return configured.and_then(|()| mount_source(kind, &name)),
        }
    }
    Err(Errno::BUSY)
}

fn mount_source(kind: FileSystem, source: &CStr) -> Result<OwnedFd> {
    let context = fsopen(kind.name(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", source)?;
    fsconfig_set_flag(&context, c"ro")?;
    fsconfig_create(&context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

fn fd_path(file: &OwnedFd) -> Result<CString> {
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| Errno::INVAL)
}
