//! Small files, read whole and written at once: those of the state, of /proc/sys and of the cgroup2 hierarchy.
//!
//! Paths are relative to an fd wherever there is one. Must not know what any file is for.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, inotify, seek};
use rustix::io::{Errno, Result, retry_on_intr};
use std::ffi::CString;
use std::mem::MaybeUninit;

pub use rustix::fs::CWD;

/// Opens `path`, close-on-exec; what OFlags::CREATE makes is the owner's alone.
pub fn open(at: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd> {
    open_at(at.as_fd(), path, flags)
}

/// The whole of `path`.
pub fn read(at: impl AsFd, path: &str) -> Result<Vec<u8>> {
    read_open(&open(at, path, OFlags::RDONLY)?)
}

/// The whole of `path` as text; empty where it cannot be read.
pub fn read_text(at: impl AsFd, path: &str) -> String {
    read(at, path).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Writes `text` to `path`, which exists, in one write(2).
pub fn write(at: impl AsFd, path: &str, text: &str) -> Result<()> {
    write_open(&open(at, path, OFlags::WRONLY | OFlags::TRUNC)?, text)
}

/// The names in a directory that are text, without `.` and `..`.
pub fn names(directory: OwnedFd) -> Result<Vec<String>> {
    let (mut names, mut buffer) = (Vec::new(), [MaybeUninit::uninit(); 4096]);
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry?.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => names.push(name.into()),
        }
    }
    Ok(names)
}

/// Some of them that do not begin with a dot: those behind the position `from`, and then those before it, until there are `enough`.
/// Gives the position behind the last one, too; 0 where those were all.
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

/// mkdir(2) of `path` and of what is missing above it.
pub fn make_directories(path: &str) -> Result<()> {
    let ends = path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        match rustix::fs::mkdir(&*c_path(&path[..end])?, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
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
    let flags = flags | OFlags::CLOEXEC;
    rustix::fs::openat(at, &*c_path(path)?, flags, Mode::from_raw_mode(0o600))
}

/// What is left to read of an open file.
pub fn read_open(file: &OwnedFd) -> Result<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 1024]);
    loop {
        match retry_on_intr(|| rustix::io::read(file, &mut part))? {
            0 => return Ok(bytes),
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
