//! Writes a tree as a directory, which must not exist: every name is made relative to the descriptor of its directory,
//! and must be new, so no link, not even one of the image, is ever followed.

use crate::tree::{Id, Kind, Metadata, ROOT, Tree};
use anyhow::{Context, Result, bail, ensure};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use std::collections::HashMap;
use std::path::Path;

/// Fails if this user cannot make what a tree may have.
pub fn check() -> Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    ensure!(is_root, "writing the image's owners and devices needs root: become root, or use --type squashfs");
    Ok(())
}

/// Writes a directory of the tree, and all below it, as the directory `path`.
pub fn unpack(tree: &Tree, from: Id, path: &Path) -> Result<()> {
    let links = path.with_extension("links");
    let root = make_directory(CWD, path)?;
    let writer = Writer { tree, names: names(tree), links: make_directory(CWD, &links)? };
    writer.directory(root.as_fd(), from).with_context(|| path.display().to_string())?;
    std::fs::remove_dir_all(links)?;
    Ok(())
}

/// How many names the nodes have that have several.
pub fn names(tree: &Tree) -> HashMap<Id, usize> {
    let (mut names, mut directories) = (HashMap::new(), vec![ROOT]);
    while let Some(directory) = directories.pop() {
        for (_, id) in tree.children(directory) {
            match tree.node(id).kind {
                Kind::Directory(_) => directories.push(id),
                _ => *names.entry(id).or_insert(0) += 1,
            }
        }
    }
    names.retain(|_, count| *count > 1);
    names
}

struct Writer<'a> {
    tree: &'a Tree,
    names: HashMap<Id, usize>,
    /// A directory with the first name of each node that has several: its id. A path into the tree may be too long.
    links: OwnedFd,
}

impl Writer<'_> {
    /// Fills a directory, and then sets what stat(2) shows of it.
    fn directory(&self, directory: BorrowedFd<'_>, id: Id) -> Result<()> {
        for (name, child) in self.tree.children(id) {
            self.name(directory, name, child).with_context(|| crate::tarball::shown(name))?;
        }
        set_open(directory, &self.tree.node(id).metadata)
    }

    fn name(&self, directory: BorrowedFd<'_>, name: &[u8], id: Id) -> Result<()> {
        if !self.names.contains_key(&id) {
            return self.make(directory, name, id);
        }
        let first = id.to_string();
        if rustix::fs::statat(&self.links, &first, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            self.make(self.links.as_fd(), first.as_bytes(), id)?;
        }
        Ok(rustix::fs::linkat(&self.links, &first, directory, name, AtFlags::empty())?)
    }

    fn make(&self, directory: BorrowedFd<'_>, name: &[u8], id: Id) -> Result<()> {
        let node = self.tree.node(id);
        match &node.kind {
            Kind::Directory(_) => {
                let made = make_directory(directory, name)?;
                return self.directory(made.as_fd(), id);
            }
            Kind::File { offset, length } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?;
                self.copy(*offset, *length, &file)?;
                return set_open(file.as_fd(), &node.metadata);
            }
            Kind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), directory, name)?,
            Kind::Fifo => rustix::fs::mknodat(directory, name, FileType::Fifo, Mode::empty(), 0)?,
            Kind::Character(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), device)?;
            }
            Kind::Block(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(directory, name, FileType::BlockDevice, Mode::empty(), device)?;
            }
        }
        set_named(directory, name, node.metadata.mode, &node.metadata, matches!(node.kind, Kind::Symlink(_)))
    }

    /// Copies from the spool.
    fn copy(&self, mut offset: u64, length: u64, file: &OwnedFd) -> Result<()> {
        let end = offset + length;
        while offset < end {
            let most = usize::try_from(end - offset).unwrap_or(usize::MAX).min(1 << 30);
            let copied = rustix::fs::copy_file_range(self.tree.spool(), Some(&mut offset), file, None, most)?;
            if copied == 0 {
                bail!("the spool ended early");
            }
        }
        Ok(())
    }
}

fn make_directory(directory: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd> {
    rustix::fs::mkdirat(directory.as_fd(), name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory.as_fd(), name, flags, Mode::empty())?)
}

/// Sets what stat(2) shows of an open file or directory. The order matters: chown(2) takes away capabilities and
/// set-user-ID bits.
fn set_open(file: BorrowedFd<'_>, metadata: &Metadata) -> Result<()> {
    rustix::fs::fchown(file, Some(uid(metadata)), Some(gid(metadata)))?;
    for (name, value) in &metadata.xattrs {
        rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).with_context(|| attribute(name))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode))?;
    Ok(rustix::fs::futimens(file, &times(metadata))?)
}

/// The same for what is not opened: devices, pipes and links. The name was made by us, in a directory that is ours.
fn set_named(directory: BorrowedFd<'_>, name: &[u8], mode: u32, metadata: &Metadata, is_link: bool) -> Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(directory, name, Some(uid(metadata)), Some(gid(metadata)), flags)?;
    let place = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
    for (name, value) in &metadata.xattrs {
        let set = rustix::fs::lsetxattr(place.as_slice(), name.as_slice(), value, XattrFlags::empty());
        set.with_context(|| attribute(name))?;
    }
    if !is_link {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(directory, name, &times(metadata), flags)?)
}

fn attribute(name: &[u8]) -> String {
    format!("cannot set the attribute {} in the output's file system", crate::tarball::shown(name))
}

fn uid(metadata: &Metadata) -> Uid {
    Uid::from_raw(metadata.uid)
}

fn gid(metadata: &Metadata) -> Gid {
    Gid::from_raw(metadata.gid)
}

fn times(metadata: &Metadata) -> Timestamps {
    let (tv_sec, nanoseconds) = metadata.mtime;
    let time = Timespec { tv_sec, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
