//! The root file system that an image's layers make, one over the other, as a tree in memory: names, links, owners,
//! attributes. Contents are in a spool, a file without a name.
//!
//! No name of an image reaches this machine's file system here. A layer that is applied can only change the tree:
//! what `..` or a link would lead out of the root stays inside, as in a container.

use crate::limits::{self, Limits};
use crate::tarball::{Entry, Tarball, shown};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use tar::EntryType;

/// Prefix of names that remove what a lower layer has; the image specification, "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";
/// The name that removes everything that lower layers have in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Devices that every container has: null, zero, full, random, urandom, tty, console, ptmx.
const HARMLESS: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
/// How many links a path may lead through, as in Linux.
const LINKS: usize = 40;
/// Times that every file system can keep: ext4's.
const TIMES: std::ops::RangeInclusive<i64> = -(1 << 31)..=(1 << 34) - (1 << 31) - 1;

/// A file, directory or link, by its place in [`Tree::nodes`]. A hard link is a second entry with the same id.
pub type Id = usize;

/// The root directory.
pub const ROOT: Id = 0;

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Names, sorted, and what they stand for.
    Directory(BTreeMap<Vec<u8>, Child>),
    /// A range of the spool.
    File { offset: u64, length: u64 },
    /// Its target.
    Symlink(Vec<u8>),
    /// A device, by its numbers.
    Character(u32, u32),
    /// A device, by its numbers.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// What it stands for.
    pub node: Id,
    /// The last layer that has it.
    layer: usize,
}

/// What stat(2) shows, and the extended attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// 07777.
    pub mode: u32,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Those of directories that the image has no entry for.
    pub fn of_missing_directory() -> Self {
        Self { uid: 0, gid: 0, mode: 0o755, mtime: (0, 0), xattrs: BTreeMap::new() }
    }
}

/// A node of the tree.
#[derive(Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Owner, mode, times.
    pub metadata: Metadata,
    /// The last layer that has something in it, if it is a directory.
    layer: usize,
    /// The last layer that has emptied it: all that is left in it is of that one.
    emptied: usize,
}

/// The root file system.
pub struct Tree {
    nodes: Vec<Node>,
    spool: File,
    /// Bytes of the spool.
    spooled: u64,
    limits: Limits,
    /// Entries of all layers.
    entries: usize,
    /// Bytes of names, targets and attributes.
    names: usize,
    layer: usize,
    /// Attributes that were left out, by their names.
    pub left_out: BTreeMap<String, usize>,
}

/// A directory on the way from the root, with the length of its path.
type Place = Vec<(Id, usize)>;

impl Tree {
    /// An empty root. `spool` is a file of its own, without a name, for contents.
    pub fn new(spool: File, limits: Limits) -> Self {
        let (kind, metadata) = (Kind::Directory(BTreeMap::new()), Metadata::of_missing_directory());
        let root = Node { kind, metadata, layer: 0, emptied: 0 };
        let left_out = BTreeMap::new();
        Self { nodes: vec![root], spool, spooled: 0, limits, entries: 0, names: 0, layer: 0, left_out }
    }

    /// The node of an id, which only the tree gives.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// The entries of a directory; of anything else, none.
    pub fn children(&self, id: Id) -> impl Iterator<Item = (&[u8], Id)> {
        let children = match &self.node(id).kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        };
        children.into_iter().flatten().map(|(name, child)| (name.as_slice(), child.node))
    }

    /// The file with the contents.
    pub fn spool(&self) -> &File {
        &self.spool
    }

    /// Applies a layer over what is there: a tar.
    pub fn apply(&mut self, tarball: &mut Tarball<impl Read>) -> Result<()> {
        self.layer += 1;
        while let Some(entry) = tarball.next()? {
            let path = entry.path.clone();
            self.add(entry, tarball).with_context(|| shown(&path))?;
        }
        Ok(())
    }

    /// Adds an entry with its content.
    pub fn add(&mut self, entry: Entry, content: &mut impl Read) -> Result<()> {
        self.count(entry.path.len() + entry.link.len())?;
        let names = self.components(&entry.path)?;
        let Some((name, parents)) = names.split_last() else {
            ensure!(entry.kind == EntryType::Directory, "the root is not a directory");
            self.nodes[ROOT].metadata = self.metadata(&entry)?;
            return Ok(());
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.white_out(parents, name, hidden);
        }
        let place = self.directory(parents)?;
        let (parent, length) = place.last().copied().unwrap_or((ROOT, 0));
        ensure!(length + 1 + name.len() <= limits::PATH, "its path has more than {} bytes", limits::PATH);
        self.touch(&place);
        let there = self.child(parent, name);
        if entry.kind == EntryType::Link {
            let target = self.link_target(&entry)?;
            if there == Some(target) {
                return Ok(());
            }
            self.insert(parent, name, target);
            return Ok(());
        }
        let metadata = self.metadata(&entry)?;
        let kind = self.kind(&entry, content)?;
        match there {
            // A directory stays, with what is in it.
            Some(id) if matches!((&kind, &self.node(id).kind), (Kind::Directory(_), Kind::Directory(_))) => {
                self.nodes[id].metadata = metadata;
                self.insert(parent, name, id);
            }
            _ => {
                let id = self.create(kind, metadata)?;
                self.insert(parent, name, id);
            }
        }
        Ok(())
    }

    /// Makes the directory at `path`, and those above it, unless they are there.
    pub fn make_directory(&mut self, path: &[u8]) -> Result<()> {
        let names = self.components(path)?;
        let _ = self.directory(&names)?;
        Ok(())
    }

    /// What is at `path`, with links followed in the root.
    pub fn find(&self, path: &[u8]) -> Result<Option<Id>> {
        let names = self.components(path)?;
        Ok(self.walk(&names, true).ok().and_then(|place| place.last().map(|(id, _)| *id)))
    }

    /// The content of the regular file at `path`, with links followed in the root; None if there is none.
    pub fn read(&self, path: &[u8], most: u64) -> Result<Option<Vec<u8>>> {
        use std::os::unix::fs::FileExt;
        let Some(Kind::File { offset, length }) = self.find(path)?.map(|id| &self.node(id).kind) else {
            return Ok(None);
        };
        ensure!(*length <= most, "{}: it has {length} bytes, and {most} are the most", shown(path));
        let mut content = vec![0; usize::try_from(*length)?];
        self.spool.read_exact_at(&mut content, *offset)?;
        Ok(Some(content))
    }

    /// Counts an entry, and bytes that are kept in memory for it.
    fn count(&mut self, bytes: usize) -> Result<()> {
        self.entries += 1;
        self.names += bytes;
        let Limits { entries, names, .. } = self.limits;
        ensure!(self.entries <= entries, "the image has more than {entries} files: that is too many");
        ensure!(
            self.names <= names,
            "names and attributes of the image have more than {names} bytes: that is too much"
        );
        Ok(())
    }

    /// The names of a path from the root, judged.
    fn components(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        ensure!(path.len() <= limits::PATH, "its path has {} bytes, and {} are the most", path.len(), limits::PATH);
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
            ensure!(name != b"..", "its path has \"..\", which leads out of the image");
            self.check_name(name)?;
            names.push(name.to_vec());
        }
        Ok(names)
    }

    fn check_name(&self, name: &[u8]) -> Result<()> {
        ensure!(name.len() <= limits::NAME, "a name has {} bytes, and {} are the most", name.len(), limits::NAME);
        ensure!(!name.contains(&0), "its name has a byte of zero");
        let is_plain = self.limits.control_characters || !name.iter().any(u8::is_ascii_control);
        ensure!(is_plain, "its name has control characters: use --permit control-characters if you trust the image");
        Ok(())
    }

    fn child(&self, directory: Id, name: &[u8]) -> Option<Id> {
        match &self.node(directory).kind {
            Kind::Directory(children) => children.get(name).map(|child| child.node),
            _ => None,
        }
    }

    fn create(&mut self, kind: Kind, metadata: Metadata) -> Result<Id> {
        // Directories without an entry of their own count too.
        let most = self.limits.entries;
        ensure!(self.nodes.len() <= most, "the image has more than {most} files: that is too many");
        self.nodes.push(Node { kind, metadata, layer: self.layer, emptied: 0 });
        Ok(self.nodes.len() - 1)
    }

    /// Enters `node` into a directory, in the place of what has the name.
    fn insert(&mut self, directory: Id, name: &[u8], node: Id) {
        let layer = self.layer;
        if let Kind::Directory(children) = &mut self.nodes[directory].kind {
            let _ = children.insert(name.to_vec(), Child { node, layer });
        }
    }

    /// The directory at `names`, with those above it. What is missing is made; links are followed in the root.
    fn directory(&mut self, names: &[Vec<u8>]) -> Result<Place> {
        let (mut place, mut links) = (vec![(ROOT, 0)], 0);
        for name in names {
            let (parent, length) = place.last().copied().unwrap_or((ROOT, 0));
            if self.child(parent, name).is_none() {
                ensure!(length + 1 + name.len() <= limits::PATH, "its path has more than {} bytes", limits::PATH);
                self.names += name.len();
                let id = self.create(Kind::Directory(BTreeMap::new()), Metadata::of_missing_directory())?;
                self.insert(parent, name, id);
            }
            place = self.step(place, name, true, &mut links)?;
            let last = place.last().map_or(ROOT, |(id, _)| *id);
            let is_directory = matches!(self.node(last).kind, Kind::Directory(_));
            ensure!(is_directory, "{} above it is not a directory", shown(name));
        }
        Ok(place)
    }

    /// Where `names` lead to. The last of them is followed if it is a link and `follows`.
    fn walk(&self, names: &[Vec<u8>], follows: bool) -> Result<Place> {
        let (mut place, mut links) = (vec![(ROOT, 0)], 0);
        for (at, name) in names.iter().enumerate() {
            place = self.step(place, name, follows || at + 1 < names.len(), &mut links)?;
        }
        Ok(place)
    }

    /// One name further than `place`; `links` have been followed for it.
    fn step(&self, mut place: Place, name: &[u8], follows: bool, links: &mut usize) -> Result<Place> {
        let (parent, length) = place.last().copied().unwrap_or((ROOT, 0));
        let id = self.child(parent, name).with_context(|| format!("{} is not there", shown(name)))?;
        let Kind::Symlink(target) = &self.node(id).kind else {
            place.push((id, length + 1 + name.len()));
            return Ok(place);
        };
        if !follows {
            place.push((id, length + 1 + name.len()));
            return Ok(place);
        }
        *links += 1;
        ensure!(*links <= LINKS, "{} leads through more than {LINKS} links", shown(name));
        if target.starts_with(b"/") {
            place.truncate(1);
        }
        for part in target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            if part == b".." {
                // The root's parent is the root.
                place.truncate((place.len() - 1).max(1));
            } else {
                place = self.step(place, part, true, links)?;
            }
        }
        Ok(place)
    }

    /// Marks the directories of `place` as having something of this layer, so that a whiteout of it keeps them.
    fn touch(&mut self, place: &Place) {
        for (id, _) in place {
            self.nodes[*id].layer = self.layer;
        }
    }

    /// Removes what lower layers have: one name, or all of a directory.
    fn white_out(&mut self, parents: &[Vec<u8>], name: &[u8], hidden: &[u8]) -> Result<()> {
        let Ok(place) = self.walk(parents, true) else { return Ok(()) };
        let parent = place.last().map_or(ROOT, |(id, _)| *id);
        if name == OPAQUE {
            self.empty(parent);
            return Ok(());
        }
        ensure!(!matches!(hidden, b"" | b"." | b".."), "a whiteout of no name");
        // Notes of other file systems, such as .wh..wh.plnk of aufs.
        if !hidden.starts_with(WHITEOUT) {
            self.hide(parent, hidden);
        }
        Ok(())
    }

    /// Removes what lower layers have in a directory. Once for a layer, which may have any number of whiteouts of it.
    fn empty(&mut self, directory: Id) {
        if std::mem::replace(&mut self.nodes[directory].emptied, self.layer) == self.layer {
            return;
        }
        let names: Vec<Vec<u8>> = self.children(directory).map(|(name, _)| name.to_vec()).collect();
        for name in names {
            self.hide(directory, &name);
        }
    }

    /// Removes what lower layers have of a name. A directory that this layer has too stays, but is emptied of theirs.
    fn hide(&mut self, directory: Id, name: &[u8]) {
        let layer = self.layer;
        let Kind::Directory(children) = &self.nodes[directory].kind else { return };
        let Some(child) = children.get(name).copied() else { return };
        if child.layer == layer || self.is_touched(child.node) {
            return self.empty(child.node);
        }
        let Kind::Directory(children) = &mut self.nodes[directory].kind else { return };
        let _ = children.remove(name);
    }

    /// Whether it is a directory that this layer has something in.
    fn is_touched(&self, id: Id) -> bool {
        let node = self.node(id);
        node.layer == self.layer && matches!(node.kind, Kind::Directory(_))
    }

    /// The node that a hard link names: of this layer or a lower one, not followed if it is a symbolic link.
    fn link_target(&self, entry: &Entry) -> Result<Id> {
        let names = self.components(&entry.link).context("the target of the hard link")?;
        let place = self.walk(&names, false).with_context(|| format!("it is a hard link to {}", shown(&entry.link)))?;
        let target = place.last().map_or(ROOT, |(id, _)| *id);
        let is_directory = matches!(self.node(target).kind, Kind::Directory(_));
        ensure!(!is_directory, "it is a hard link to {}, a directory", shown(&entry.link));
        Ok(target)
    }

    fn kind(&mut self, entry: &Entry, content: &mut impl Read) -> Result<Kind> {
        let (major, minor) = entry.device;
        Ok(match entry.kind {
            EntryType::Directory => Kind::Directory(BTreeMap::new()),
            // In tars of before POSIX a directory is a file whose name ends so.
            EntryType::Regular if entry.size == 0 && entry.path.ends_with(b"/") => Kind::Directory(BTreeMap::new()),
            EntryType::Regular | EntryType::Continuous => self.spool_content(entry.size, content)?,
            EntryType::Symlink => {
                let target = &entry.link;
                ensure!(!target.is_empty() && !target.contains(&0), "it is a link without a target");
                ensure!(target.len() <= limits::PATH, "it is a link to a name of {} bytes", target.len());
                Kind::Symlink(target.clone())
            }
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char if self.limits.devices || HARMLESS.contains(&(major, minor)) => {
                Kind::Character(major, minor)
            }
            EntryType::Block if self.limits.devices => Kind::Block(major, minor),
            EntryType::Char | EntryType::Block => {
                bail!("it is the device {major}:{minor}: use --permit devices if you trust the image")
            }
            other => bail!("a tar's entry of type {:?} is not supported", char::from(other.as_byte())),
        })
    }

    fn spool_content(&mut self, size: u64, content: &mut impl Read) -> Result<Kind> {
        let offset = self.spooled;
        let end = offset.checked_add(size).filter(|end| *end <= self.limits.bytes);
        let end = end.with_context(|| too_large(self.limits.bytes))?;
        let _ = self.spool.seek(io::SeekFrom::Start(offset))?;
        let copied = copy(&mut content.take(size), &mut self.spool).context("cannot copy its content")?;
        ensure!(copied == size, "the tar ends early: in the content of a file");
        self.spooled = end;
        Ok(Kind::File { offset, length: size })
    }

    fn metadata(&mut self, entry: &Entry) -> Result<Metadata> {
        let id = |what: &str, id: u64| {
            // The last one means "no change" for chown(2).
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.with_context(|| format!("its {what} is not one of Linux"))
        };
        let (seconds, nanoseconds) = entry.mtime;
        Ok(Metadata {
            uid: id("uid", entry.uid)?,
            gid: id("gid", entry.gid)?,
            mode: entry.mode,
            mtime: (seconds.clamp(*TIMES.start(), *TIMES.end()), nanoseconds),
            xattrs: self.xattrs(entry)?,
        })
    }

    /// The attributes that a file may have. Those of overlayfs would let an image decide what is mounted over it, and
    /// are left out.
    fn xattrs(&mut self, entry: &Entry) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let (mut kept, mut bytes) = (BTreeMap::new(), 0);
        for (name, value) in &entry.xattrs {
            bytes += name.len() + value.len();
            let is_absurd =
                name.is_empty() || name.len() > limits::NAME || bytes > limits::ATTRIBUTES || name.contains(&0);
            ensure!(!is_absurd, "its attribute {} is absurd: {} bytes", shown(name), value.len());
            if is_permitted(name) {
                let _ = kept.insert(name.clone(), value.clone());
            } else {
                *self.left_out.entry(shown(name)).or_default() += 1;
            }
        }
        self.names += bytes;
        Ok(kept)
    }
}

/// io::copy with a larger buffer.
pub fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let (mut buffer, mut copied) = (vec![0; 1 << 17], 0);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..read).unwrap_or_default())?;
        copied += read as u64;
    }
}

/// Whether an attribute has a meaning in a container's root; xattr(7) has the name spaces.
fn is_permitted(name: &[u8]) -> bool {
    const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
    const KNOWN: [&[u8]; 4] = [b"user.", b"security.", b"trusted.", b"system.posix_acl_"];
    !OVERLAY.iter().any(|prefix| name.starts_with(prefix)) && KNOWN.iter().any(|prefix| name.starts_with(prefix))
}

/// The error of --max-size.
pub fn too_large(bytes: u64) -> String {
    format!("the image has more than {bytes} bytes when it is unpacked: use --max-size if you trust it")
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
