//! A directory as the source of a root: read once, by descriptors, and never through a link.

use crate::tarball::Entry;
use crate::tree::Tree;
use anyhow::{Context, Result};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;
use tar::EntryType;

/// Adds all of the directory at `path` to a tree.
pub fn add(tree: &mut Tree, path: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty()).with_context(|| path.display().to_string())?;
    let stat = rustix::fs::fstat(&root)?;
    let xattrs = xattrs(&format!("/proc/self/fd/{}/.", root.as_raw_fd()))?;
    tree.add(entry(b"./".to_vec(), EntryType::Directory, &stat, xattrs), &mut io::empty())?;
    let mut walk = Walk { tree, links: HashMap::new() };
    walk.directory(&root, b"").with_context(|| path.display().to_string())
}

struct Walk<'a> {
    tree: &'a mut Tree,
    /// The first names of files that have several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Walk<'_> {
    /// Adds what is in a directory, which is called `path` in the tree.
    fn directory(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<()> {
        for name in names(directory)? {
            let path = [path, b"/", &name].concat();
            self.name(directory, &name, &path).with_context(|| crate::tarball::shown(&path))?;
        }
        Ok(())
    }

    fn name(&mut self, directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryType::Directory,
            FileType::RegularFile => EntryType::Regular,
            FileType::Symlink => EntryType::Symlink,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            // Sockets belong to a process, and tar leaves them out too.
            _ => return Ok(()),
        };
        let place = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
        let mut entry = entry(path.to_vec(), kind, &stat, xattrs(place.as_slice())?);
        let key = (stat.st_dev, stat.st_ino);
        if kind != EntryType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&key) {
                (entry.kind, entry.link, entry.size) = (EntryType::Link, first.clone(), 0);
            } else {
                let _ = self.links.insert(key, path.to_vec());
            }
        }
        let open = |flags| {
            let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::openat(directory, name, flags, Mode::empty())
        };
        match entry.kind {
            EntryType::Directory => {
                self.tree.add(entry, &mut io::empty())?;
                self.directory(&open(OFlags::DIRECTORY)?, path)
            }
            EntryType::Regular => self.tree.add(entry, &mut File::from(open(OFlags::empty())?)),
            EntryType::Symlink => {
                entry.link = rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes();
                self.tree.add(entry, &mut io::empty())
            }
            _ => self.tree.add(entry, &mut io::empty()),
        }
    }
}

/// The names in a directory, sorted, so that the same files are the same image.
fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn entry(path: Vec<u8>, kind: EntryType, stat: &Stat, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Entry {
    Entry {
        path,
        kind,
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid.into(),
        gid: stat.st_gid.into(),
        size: if kind == EntryType::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        xattrs,
    }
}

/// The attributes of the file at `place`, a path below /proc/self/fd.
fn xattrs(place: impl rustix::path::Arg + Copy) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut buffer = vec![0; crate::limits::ATTRIBUTES];
    let mut all = BTreeMap::new();
    let length = match rustix::fs::llistxattr(place, &mut buffer) {
        Err(rustix::io::Errno::NOTSUP) => return Ok(all),
        length => length?,
    };
    let names = buffer.get(..length).unwrap_or_default().to_vec();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(place, name, &mut buffer)?;
        let _ = all.insert(name.to_vec(), buffer.get(..length).unwrap_or_default().to_vec());
    }
    Ok(all)
}
