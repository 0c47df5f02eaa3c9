//! Writes an initramfs: a cpio archive of the format "newc", as the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst has it. Everything in it belongs to root, is dated 1970
//! and is sorted, whichever user packs it, so the same files result in the same bytes.

use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// An archive that grows.
#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    /// The directory `path`, which is like all paths here without the first slash.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// The file `path` with what `bytes` has.
    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.entry(path, FILE | mode, (0, 0), bytes);
    }

    /// The symlink `path` to `target`.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes());
    }

    /// The character device `path`.
    pub fn device(&mut self, path: &str, number: (u32, u32)) {
        self.entry(path, DEVICE | 0o600, number, &[]);
    }

    /// A copy of the file `from`.
    pub fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let mode = fs::metadata(from).with_context(|| from.display().to_string())?.mode();
        self.file(path, mode & 0o7777, &fs::read(from)?);
        Ok(())
    }

    /// A copy of the tree `from`.
    pub fn tree(&mut self, path: &str, from: &Path) -> Result<()> {
        let metadata = fs::symlink_metadata(from).with_context(|| from.display().to_string())?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(from)?;
            self.symlink(path, target.to_str().context("a symlink which is not UTF-8")?);
        } else if kind.is_file() {
            self.copy(path, from)?;
        } else if kind.is_dir() {
            self.entry(path, DIRECTORY | metadata.mode() & 0o7777, (0, 0), &[]);
            let mut names = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
            names.sort();
            for name in names {
                let name = name.to_str().context("a name which is not UTF-8")?;
                self.tree(&format!("{path}/{name}"), &from.join(name))?;
            }
        } else {
            bail!("{} is neither a file nor a directory nor a symlink", from.display());
        }
        Ok(())
    }

    /// The archive, with the entry that ends it.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) {
        self.entries += 1;
        let (size, name_size) = (data.len() as u32, path.len() as u32 + 1);
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
