//! Blobs on this machine, by digest: `DIR/blobs/sha256/HEX`, as an OCI image layout has them. A download in progress is
//! `HEX.part`, which the next run continues.
//!
//! It verifies whatever it hands out, and must not know where blobs come from.

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{OFlags, statvfs};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory of blobs, which any number of processes use at once.
pub struct Cache {
    blobs: PathBuf,
}

/// A blob that was asked for.
pub enum Entry {
    /// It is here, and its digest is right.
    Here(PathBuf),
    /// It must be downloaded.
    Missing(Part),
}

/// A blob that this process downloads, and no other: it holds the lock of `HEX.part`.
pub struct Part {
    file: File,
    path: PathBuf,
    hash: Sha256,
    /// The bytes that are here.
    length: u64,
    size: u64,
}

impl Cache {
    /// The cache in `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(directory: &Path) -> Result<Self> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot make the cache {}", blobs.display()))?;
        Ok(Self { blobs })
    }

    /// A blob by its digest, with its lock if it is missing. Another process may be downloading it: then this waits for
    /// that one's end.
    ///
    /// # Errors
    /// For a digest that is not `sha256:` and 64 hex digits, and if the cache cannot be read or written.
    pub fn entry(&self, digest: &str, size: u64) -> Result<Entry> {
        let path = self.blobs.join(hex_of(digest)?);
        loop {
            if verified(&path, digest)? {
                return Ok(Entry::Here(path));
            }
            if let Some(part) = Part::lock(&path, size)? {
                // The process that had the lock may have completed it.
                return Ok(if verified(&path, digest)? { Entry::Here(path) } else { Entry::Missing(part) });
            }
        }
    }

    /// A small blob's content, if it is here.
    ///
    /// # Errors
    /// As [`Self::entry`].
    pub fn read(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let path = self.blobs.join(hex_of(digest)?);
        if !verified(&path, digest)? {
            return Ok(None);
        }
        Ok(Some(fs::read(&path).with_context(|| path.display().to_string())?))
    }

    /// Keeps a small blob, whose digest the caller has verified.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, digest: &str, content: &[u8]) -> Result<()> {
        if let Entry::Missing(mut part) = self.entry(digest, content.len() as u64)? {
            part.restart()?;
            part.append(content)?;
            part.finish(digest)?;
        }
        Ok(())
    }
}

impl Part {
    /// Opens and locks `PATH.part`, or returns nothing if another process has meanwhile put it in its place.
    fn lock(blob: &Path, size: u64) -> Result<Option<Self>> {
        let path = blob.with_extension("part");
        let shown = || path.display().to_string();
        let mut options = OpenOptions::new();
        // Others may write to the cache as well, and must not choose the file that is overwritten.
        let _ = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).with_context(shown)?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another process, which downloads {}", blob.display());
            file.lock().with_context(shown)?;
        }
        let here = file.metadata().with_context(shown)?;
        if !fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino())) {
            return Ok(None);
        }
        let (hash, length) = hash_of(&mut file).with_context(shown)?;
        let mut part = Self { file, path, hash, length, size };
        if length > size {
            part.restart()?;
        }
        part.check_space()?;
        Ok(Some(part))
    }

    /// The bytes that are here already.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether all of it is here.
    pub fn is_complete(&self) -> bool {
        self.length == self.size
    }

    /// Begins anew, without the bytes that are here.
    ///
    /// # Errors
    /// If the file cannot be truncated.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).with_context(|| self.path.display().to_string())?;
        (self.hash, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// If the blob gets larger than it should be, of which nothing is kept; and if the disk is full.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.size - self.length {
            self.discard();
            bail!("it is larger than the {} bytes that the manifest says", self.size);
        }
        self.file.write_all(bytes).with_context(|| self.path.display().to_string())?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Verifies the whole, and puts it in its place.
    ///
    /// # Errors
    /// If it has another digest; then nothing of it is kept.
    pub fn finish(self, digest: &str) -> Result<PathBuf> {
        let actual = name_of(self.hash.clone());
        if actual != digest {
            self.discard();
            bail!("its content has the digest {actual}");
        }
        let blob = self.path.with_extension("");
        fs::rename(&self.path, &blob).with_context(|| blob.display().to_string())?;
        Ok(blob)
    }

    fn discard(&self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Refuses what cannot be kept, before it is downloaded.
    fn check_space(&self) -> Result<()> {
        let disk =
            statvfs(self.path.parent().unwrap_or(&self.path)).with_context(|| self.path.display().to_string())?;
        let (free, missing) = (disk.f_bavail.saturating_mul(disk.f_frsize), self.size - self.length);
        if missing > free {
            if self.length == 0 {
                self.discard();
            }
            bail!("it has {} bytes, and the cache {} has space for {free}", self.size, self.path.display());
        }
        Ok(())
    }
}

/// Verifies a blob of the cache, and removes one that is damaged.
fn verified(path: &Path, digest: &str) -> Result<bool> {
    let shown = || path.display().to_string();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(shown),
    };
    let (hash, _) = hash_of(&mut file).with_context(shown)?;
    let right = name_of(hash) == digest;
    if !right {
        eprintln!("{} is damaged, and is downloaded again", path.display());
        fs::remove_file(path).with_context(shown)?;
    }
    Ok(right)
}

/// Reads a file to its end: its hash, and its bytes' number.
fn hash_of(file: &mut File) -> std::io::Result<(Sha256, u64)> {
    let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hash, length));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        length += read as u64;
    }
}

/// The digest of some bytes, as `sha256:HEX`.
pub fn digest_of(bytes: &[u8]) -> String {
    name_of(Sha256::new_with_prefix(bytes))
}

fn name_of(hash: Sha256) -> String {
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{hex}")
}

/// The digits of `sha256:HEX`, which are safe as a file's name.
fn hex_of(digest: &str) -> Result<&str> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ensure!(is_hex, "{digest:?} is not sha256: and 64 hex digits, the only kind of digest that kontena-image knows");
    Ok(hex)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn part(cache: &Cache, size: u64) -> Part {
        match cache.entry(HELLO, size).unwrap() {
            Entry::Missing(part) => part,
            Entry::Here(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn a_part_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        part(&cache, 5).append(b"hel").unwrap();
        let mut part = part(&cache, 5);
        assert_eq!(part.length(), 3);
        part.append(b"lo").unwrap();
        assert!(part.is_complete());
        part.finish(HELLO).unwrap();
        assert_eq!(cache.read(HELLO).unwrap().unwrap(), b"hello");
        assert!(matches!(cache.entry(HELLO, 5).unwrap(), Entry::Here(_)));
    }

    #[test]
    fn nothing_wrong_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let count = || fs::read_dir(directory.path().join("blobs/sha256")).unwrap().count();
        part(&cache, 5).append(b"hello!").unwrap_err();
        assert_eq!(count(), 0);
        let mut part = part(&cache, 5);
        part.append(b"world").unwrap();
        part.finish(HELLO).unwrap_err();
        assert_eq!(count(), 0);
        fs::write(directory.path().join("blobs/sha256").join(&HELLO[7..]), "damaged").unwrap();
        assert!(cache.read(HELLO).unwrap().is_none());
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_link_is_no_part() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, victim) = (Cache::open(directory.path()).unwrap(), directory.path().join("victim"));
        fs::write(&victim, "longer than the blob").unwrap();
        let part = directory.path().join("blobs/sha256").join(&HELLO[7..]).with_extension("part");
        std::os::unix::fs::symlink(&victim, part).unwrap();
        assert!(cache.entry(HELLO, 5).is_err());
        assert_eq!(fs::read(victim).unwrap(), b"longer than the blob");
    }

    #[test]
    fn a_blob_that_the_disk_cannot_hold_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = Cache::open(directory.path()).unwrap().entry(HELLO, u64::MAX).err().unwrap().to_string();
        assert!(error.starts_with("it has 18446744073709551615 bytes, and the cache "), "{error}");
    }

    #[test]
    fn digests_are_file_names() {
        for wrong in ["", "sha256:", "sha512:00", "sha256:../../../../../../etc/passwd", &HELLO.to_uppercase()] {
            hex_of(wrong).unwrap_err();
        }
        hex_of(HELLO).unwrap();
    }
}
