//! Small files, read whole and written at once: those of the state, of /proc/sys and of the cgroup2 hierarchy.
//!
//! Paths are relative to an fd wherever there is one. Must not know what any file is for.

use crate::gather::Gather;
use linux_raw_sys::general::{NSFS_MAGIC, PATH_MAX};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Stat, fstat, fstatfs, inotify, makedev, mkdirat,
    openat2, readlinkat_raw, renameat, seek, symlinkat, unlinkat,
};
use rustix::io::{Errno, Result, retry_on_intr};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

pub use rustix::fs::CWD;

/// Opens `path`, close-on-exec; a file that OFlags::CREATE makes is for its owner alone. Below an fd, this follows no
/// link and does not block on a FIFO.
pub fn open(at: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd> {
    open_at(at.as_fd(), path, flags)
}

/// Opens the file of a namespace; EINVAL if it is none. Opening what is something else could do anything, so this looks
/// first, and opens what it has looked at.
pub fn open_namespace(path: &CStr) -> Result<OwnedFd> {
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if fstatfs(&found)?.f_type as u32 != NSFS_MAGIC {
        return Err(Errno::INVAL);
    }
    open(CWD, &format!("/proc/self/fd/{}", found.as_raw_fd()), OFlags::RDONLY)
}

/// The whole of `path`.
pub fn read(at: impl AsFd, path: &str) -> Result<Vec<u8>> {
    read_open(&open(at, path, OFlags::RDONLY)?)
}

/// The whole of `path`, which has at most `most` bytes.
pub fn read_at_most(path: &str, most: usize) -> Result<Vec<u8>> {
    read_open_at_most(&open(CWD, path, OFlags::RDONLY)?, most)
}

/// The whole of `path` as text; empty where it cannot be read. One name in it that is no text does not hide the others.
pub fn read_text(at: impl AsFd, path: &str) -> String {
    String::from_utf8_lossy(&read(at, path).unwrap_or_default()).into_owned()
}

/// Writes `text` to `path`, which exists, in one write(2).
pub fn write(at: impl AsFd, path: &str, text: &str) -> Result<()> {
    write_open(&open(at, path, OFlags::WRONLY | OFlags::TRUNC)?, text)
}

/// The names in a directory that are text, without `.` and `..`.
pub fn names(directory: OwnedFd) -> Result<Vec<String>> {
    Ok(all_names(&directory)?.into_iter().filter_map(|name| name.into_string().ok()).list())
}

/// All names in a directory, without `.` and `..`.
pub fn all_names(directory: &OwnedFd) -> Result<Vec<CString>> {
    let (mut names, mut buffer) = (Vec::new(), [MaybeUninit::uninit(); 4096]);
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry?.file_name() {
            name if matches!(name.to_bytes(), b"." | b"..") => {}
            name => names.push(name.into()),
        }
    }
    Ok(names)
}

/// Some of them that do not begin with a dot: those behind the position `from`, and then those before it, until there
/// are `enough`. Also returns the position behind the last one; 0 if those were all.
pub fn some_names(directory: &OwnedFd, from: u64, enough: usize) -> Result<(Vec<String>, u64)> {
    // The kernel looks for no more than this has room for: one of the longest at least.
    let (mut names, mut buffer) = (Vec::new(), [MaybeUninit::uninit(); 512]);
    let starts: &[u64] = if from == 0 { &[0] } else { &[from, 0] };
    for start in starts {
        // A position that is none is the beginning.
        if seek(directory, SeekFrom::Start(*start)).is_err() {
            continue;
        }
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok(name) if !name.starts_with('.') => names.push(name.into()),
                _ => continue,
            }
            if names.len() == enough {
                return Ok((names, entry.next_entry_cookie()));
            }
        }
    }
    Ok((names, 0))
}

/// The sticky bit, in the mode of a directory that kontena made and no container owns yet. mkdir(2) sets it atomically,
/// and nobody else sets it on a directory that only its owner can write to.
pub const UNOWNED: u32 = 0o1000;

/// Whether a file is the null device.
pub fn is_null_device(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
}

/// Whether a directory of this mode is unowned.
pub fn is_unowned(mode: u32) -> bool {
    mode & (UNOWNED | 0o022) == UNOWNED
}

/// Opens a directory. A missing one is made, [`UNOWNED`] and for its owner alone.
pub fn open_or_make(path: &str, flags: OFlags) -> Result<(OwnedFd, Stat)> {
    let open = || open(CWD, path, OFlags::DIRECTORY | flags);
    let directory = match open() {
        Err(Errno::NOENT) => make_directories(path, UNOWNED | 0o700).and_then(|()| open()),
        opened => opened,
    }?;
    fstat(&directory).map(|stat| (directory, stat))
}

/// mkdir(2) of `path`, with this mode, and of what is missing above it.
pub fn make_directories(path: &str, mode: u32) -> Result<()> {
    let ends = path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let mode = if end == path.len() { mode } else { 0o755 };
        match rustix::fs::mkdir(&*c_path(&path[..end])?, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// mkdirat(2), for its owner alone.
pub fn make_directory(at: impl AsFd, name: &str) -> Result<()> {
    mkdirat(at.as_fd(), &*c_path(name)?, Mode::RWXU)
}

/// renameat(2), in one directory.
pub fn rename(at: impl AsFd, from: &str, to: &str) -> Result<()> {
    renameat(at.as_fd(), &*c_path(from)?, at.as_fd(), &*c_path(to)?)
}

/// symlinkat(2).
pub fn link(at: impl AsFd, target: &str, name: &str) -> Result<()> {
    symlinkat(&*c_path(target)?, at.as_fd(), &*c_path(name)?)
}

/// unlinkat(2). A missing file or a directory that is not empty is no error.
pub fn remove(at: impl AsFd, name: &str, flags: AtFlags) {
    remove_at(at.as_fd(), name, flags);
}

#[inline(never)]
fn remove_at(at: BorrowedFd<'_>, name: &str, flags: AtFlags) {
    let _ = c_path(name).and_then(|name| unlinkat(at, &*name, flags));
}

/// The target of a symbolic link, if it is text.
pub fn read_link(at: impl AsFd, path: &str) -> Option<String> {
    read_link_at(at.as_fd(), path)
}

#[inline(never)]
fn read_link_at(at: BorrowedFd<'_>, path: &str) -> Option<String> {
    let mut text = [0; PATH_MAX as usize];
    let length = readlinkat_raw(at, &*c_path(path).ok()?, &mut text).ok()?;
    String::from_utf8(text[..length].to_vec()).ok()
}

/// rmdir(2).
pub fn remove_directory(path: &str) -> Result<()> {
    rustix::fs::rmdir(&*c_path(path)?)
}

/// An fd that can be read from when something has changed in a directory; inotify(7).
pub fn watch(directory: &str, changes: inotify::WatchFlags) -> Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, &*c_path(directory)?, changes)?;
    Ok(watch)
}

#[inline(never)]
fn open_at(at: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let (path, flags) = (c_path(path)?, flags | OFlags::CLOEXEC);
    let mode = Mode::from_raw_mode(if flags.contains(OFlags::CREATE) { 0o600 } else { 0 });
    if at.as_raw_fd() == CWD.as_raw_fd() {
        return rustix::fs::openat(at, &*path, flags, mode);
    }
    // openat2(2) refuses O_PATH with O_NONBLOCK.
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK };
    openat2(at, &*path, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Opens for reading what was opened with O_PATH. A FIFO or somebody's lease does not block this.
pub fn reopen(file: &OwnedFd) -> Result<OwnedFd> {
    open(CWD, &format!("/proc/self/fd/{}", file.as_raw_fd()), OFlags::RDONLY | OFlags::NONBLOCK)
}

/// What is left to read of an open file.
pub fn read_open(file: &OwnedFd) -> Result<Vec<u8>> {
    read_open_at_most(file, usize::MAX)
}

fn read_open_at_most(file: &OwnedFd, most: usize) -> Result<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 1024]);
    loop {
        match retry_on_intr(|| rustix::io::read(file, &mut part))? {
            0 => return Ok(bytes),
            length if bytes.len() + length > most => return Err(Errno::FBIG),
            length => bytes.extend_from_slice(&part[..length]),
        }
    }
}

/// One write(2), which a file opened with O_APPEND takes whole.
pub fn write_open(file: &OwnedFd, text: &str) -> Result<()> {
    let written = rustix::io::write(file, text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(Errno::NOSPC) }
}

/// rustix, without an allocator, takes &str only up to a length.
pub fn c_path(path: &str) -> Result<CString> {
    CString::new(path).map_err(|_| Errno::INVAL)
}
