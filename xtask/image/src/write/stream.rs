//! Writes a tree as a tar, for programs that make a file system of one. The root itself is not in it.

use super::unpack::names;
use crate::tree::{Id, Kind, ROOT, Tree};
use anyhow::Result;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use tar::{Builder, EntryType, Header};

/// Writes it.
pub fn write(tree: &Tree, output: impl Write) -> Result<()> {
    let mut stream = Stream { tree, several: names(tree), first: HashMap::new(), output: Builder::new(output) };
    stream.directory(ROOT, b"")?;
    stream.output.into_inner()?.flush()?;
    Ok(())
}

struct Stream<'a, W: Write> {
    tree: &'a Tree,
    /// Nodes that have several names.
    several: HashMap<Id, usize>,
    /// The first name of those.
    first: HashMap<Id, Vec<u8>>,
    output: Builder<W>,
}

impl<W: Write> Stream<'_, W> {
    fn directory(&mut self, directory: Id, path: &[u8]) -> Result<()> {
        let tree = self.tree;
        for (name, id) in tree.children(directory) {
            let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            self.entry(id, &path)?;
            if matches!(tree.node(id).kind, Kind::Directory(_)) {
                self.directory(id, &path)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, id: Id, path: &[u8]) -> Result<()> {
        let node = self.tree.node(id);
        let (mut header, mut link, mut content) = (Header::new_ustar(), None, (0, 0));
        header.set_entry_type(match &node.kind {
            _ if self.first.contains_key(&id) => {
                link = self.first.get(&id).cloned();
                EntryType::Link
            }
            Kind::Directory(_) => EntryType::Directory,
            Kind::File { offset, length } => {
                content = (*offset, *length);
                EntryType::Regular
            }
            Kind::Symlink(target) => {
                link = Some(target.clone());
                EntryType::Symlink
            }
            Kind::Character(..) => EntryType::Char,
            Kind::Block(..) => EntryType::Block,
            Kind::Fifo => EntryType::Fifo,
        });
        if let Kind::Character(major, minor) | Kind::Block(major, minor) = node.kind {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        if self.several.contains_key(&id) {
            let _ = self.first.entry(id).or_insert_with(|| path.to_vec());
        }
        let metadata = &node.metadata;
        let (seconds, nanoseconds) = metadata.mtime;
        header.set_mode(metadata.mode);
        // What has no place in the header is in the records before it.
        header.set_uid(metadata.uid.into());
        header.set_gid(metadata.gid.into());
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        header.set_size(content.1);
        header.set_path("entry")?;
        let mut records = vec![(b"path".to_vec(), path.to_vec())];
        match link {
            Some(target) if header.entry_type() == EntryType::Symlink => self.target(&mut header, &target)?,
            link => records.extend(link.map(|link| (b"linkpath".to_vec(), link))),
        }
        if nanoseconds > 0 && seconds >= 0 {
            records.push((b"mtime".to_vec(), format!("{seconds}.{nanoseconds:09}").into_bytes()));
        }
        for (name, value) in &metadata.xattrs {
            records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
        }
        self.records(&records)?;
        header.set_cksum();
        let content = Range { file: self.tree.spool(), offset: content.0, rest: content.1 };
        Ok(self.output.append(&header, content)?)
    }

    /// The target of a symbolic link: in the header, or in GNU's entry before it. sqfstar 4.5 takes slashes and dots
    /// away from the beginning of one in a record.
    fn target(&mut self, header: &mut Header, target: &[u8]) -> Result<()> {
        if let Some(field) = header.as_old_mut().linkname.get_mut(..target.len()) {
            field.copy_from_slice(target);
            return Ok(());
        }
        let text = [target, b"\0"].concat();
        self.description(EntryType::GNULongLink, &text)
    }

    /// A header of records for the next entry.
    fn records(&mut self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            text.extend([length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat());
        }
        self.description(EntryType::XHeader, &text)
    }

    /// An entry that describes the next one.
    fn description(&mut self, kind: EntryType, text: &[u8]) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path("records")?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        header.set_cksum();
        Ok(self.output.append(&header, text)?)
    }
}

/// A range of the spool.
struct Range<'a> {
    file: &'a std::fs::File,
    offset: u64,
    rest: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.offset)?;
        (self.offset, self.rest) = (self.offset + read as u64, self.rest - read as u64);
        Ok(read)
    }
}
