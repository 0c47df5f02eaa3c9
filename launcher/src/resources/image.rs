//! Images that are a container's root: squashfs or erofs, mounted as they are.
//!
//! Must not unpack or change anything: a loop device is the kernel's, and goes with the mount.

use crate::config::image::{FileSystem, Image};
use crate::error::Parsed;
use crate::file::{self, CWD};
use crate::sys;
use linux_raw_sys::general::EROFS_SUPER_MAGIC_V1;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::{Errno, Result, pread};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use rustix::process::geteuid;
use std::ffi::{CStr, CString};

/// What a root file system is.
pub const ROOT: &str =
    "use a directory with the container's files, or an erofs or squashfs file, which kontena-image makes of an image";

/// A config begins with this, and the length of its words as a little-endian u32.
const MAGIC: &[u8] = b"kontena\x01";

/// The most bytes of words: more is no config, but an attack.
const MOST: usize = 1 << 20;

/// A config is at a multiple of so many bytes, which a block of dm-verity has.
pub const BLOCK: u64 = 4096;

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
    if at(image, 0)? == *b"hsqs" {
        return Some(FileSystem::Squashfs);
    }
    (u32::from_le_bytes(at(image, EROFS)?) == EROFS_SUPER_MAGIC_V1).then_some(FileSystem::Erofs)
}

/// Where struct erofs_super_block is.
const EROFS: u64 = 1024;

/// The bytes at an offset, if there are so many.
pub fn at<const LENGTH: usize>(file: &OwnedFd, offset: u64) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    fill(file, &mut bytes, offset).then_some(bytes)
}

#[inline(never)]
fn fill(file: &OwnedFd, mut bytes: &mut [u8], mut offset: u64) -> bool {
    while !bytes.is_empty() {
        match pread(file, &mut *bytes, offset) {
            Ok(length @ 1..) => (bytes, offset) = (&mut bytes[length..], offset + length as u64),
            Err(Errno::INTR) => {}
            _ => return false,
        }
    }
    true
}

/// What an image says of itself: words, each with a NUL at its end. They are behind the file system.
pub fn words(Image { fd, kind }: &Image) -> Parsed<Option<String>> {
    let last = size(fd, *kind).and_then(|size| size.checked_sub(1));
    if last.is_some_and(|last| !fill(fd, &mut [0], last)) {
        // The kernel mounts it, and its files fail later.
        return Err("the file is shorter than its file system: copy the image again");
    }
    config_of(fd, *kind).map_or(Ok(None), |end| read_words(fd, end))
}

/// Where the config of an image is, if there is one: behind its file system.
pub fn config_of(fd: &OwnedFd, kind: FileSystem) -> Option<u64> {
    size(fd, kind)?.checked_next_multiple_of(BLOCK)
}

/// How many bytes its file system has, as the superblock says with `blocks` and `blkszbits` of erofs, `bytes_used` of
/// squashfs.
fn size(fd: &OwnedFd, kind: FileSystem) -> Option<u64> {
    match kind {
        FileSystem::Erofs => at(fd, EROFS + 36).zip(at(fd, EROFS + 12)).and_then(|(blocks, [bits])| {
            u64::from(u32::from_le_bytes(blocks)).checked_mul(1_u64.checked_shl(u8::into(bits))?)
        }),
        FileSystem::Squashfs => at(fd, 40).map(u64::from_le_bytes),
    }
}

/// How many bytes a config at `offset` has, and of them the words, if there is one.
pub fn config_length(file: &OwnedFd, offset: u64) -> Option<(usize, usize)> {
    let head = at::<12>(file, offset)?;
    let length = u32::from_le_bytes(head.strip_prefix(MAGIC)?.try_into().ok()?) as usize;
    Some((head.len() + length, length))
}

/// The same of a directory, from the file beside it.
///
/// Where others may create files, they must not choose what runs in a container that is not theirs: the file belongs to
/// root, the caller or the directory's owner, and is no link.
pub fn words_beside(directory: &CStr) -> Parsed<Option<String>> {
    let Ok(found) = open_as(directory, OFlags::PATH | OFlags::DIRECTORY) else { return Ok(None) };
    let path = fd_path(&found).ok().and_then(|path| file::read_link(CWD, path.to_str().unwrap_or_default()));
    let Some(path) = path else { return Ok(None) };
    let Ok(config) = file::open(CWD, &format!("{path}.image-config"), OFlags::PATH | OFlags::NOFOLLOW) else {
        return Ok(None);
    };
    let (Ok(directory), Ok(stat), own) = (fstat(&found), fstat(&config), geteuid().as_raw()) else {
        return Ok(None);
    };
    if ![0, own, directory.st_uid].contains(&stat.st_uid)
        || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
    {
        return Err("it has to be a file, no link, of yours, root's or the directory's owner: remove it");
    }
    let config = file::reopen(&config).map_err(|_| "it cannot be read: change its mode")?;
    read_words(&config, 0)?.map(Some).ok_or("kontena-image has not written it: remove it, or write it again")
}

fn read_words(file: &OwnedFd, offset: u64) -> Parsed<Option<String>> {
    let Some((end, length)) = config_length(file, offset) else { return Ok(None) };
    if length > MOST {
        return Err("it has more than 1 MiB: make the image again");
    }
    let mut words = vec![0; length];
    if !fill(file, &mut words, offset + (end - length) as u64) {
        return Err("the file ends before it does: copy the image again");
    }
    if words.last().is_some_and(|last| *last != 0) {
        return Err("its last word has no end: make the image again");
    }
    String::from_utf8(words).map(Some).map_err(|_| "it is not UTF-8: make the image again")
}

/// A mount of it, not attached anywhere. `path` is what losetup(8) shows.
pub fn mount(image: &OwnedFd, path: &CStr, kind: FileSystem) -> Result<OwnedFd> {
    // A device of `--verify`; and since Linux 6.12 erofs takes the file as it is. ENOTBLK otherwise. What was looked
    // at, and no path for the container to see.
    match mount_source(kind, &fd_path(image)?) {
        // The device stays as long as the mount does, and goes with it.
        Err(Errno::NOTBLK) => attach(image, path).and_then(|(_device, name)| mount_source(kind, &name)),
        mounted => mounted,
    }
}

/// A loop device over it, open, and its path.
pub fn attach(image: &OwnedFd, path: &CStr) -> Result<(OwnedFd, CString)> {
    let control = open_as(c"/dev/loop-control", OFlags::RDWR)?;
    for _ in 0..ATTEMPTS {
        let number = sys::free_loop_device(&control)?;
        let name = CString::new(format!("/dev/loop{number}")).map_err(|_| Errno::INVAL)?;
        let device = open_as(&name, OFlags::RDONLY)?;
        match sys::configure_loop_device(&device, image, path) {
            // Another process has been faster.
            Err(Errno::BUSY) => {}
            configured => return configured.map(|()| (device, name)),
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
