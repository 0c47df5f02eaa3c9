//! Appends a hash tree for dm-verity to a file, as `veritysetup format --hash-offset` does: the kernel's
//! Documentation/admin-guide/device-mapper/verity.rst has the tree, cryptsetup's wiki page DMVerity the superblock.
//!
//! Nothing is random, so equal files get equal trees. Must not know what is in the file.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes of a block, of data and of hashes.
const BLOCK: usize = 4096;
/// Digests in a block of hashes.
const DIGESTS: usize = BLOCK / size_of::<Hash>();

/// A digest of SHA-256.
type Hash = [u8; 32];

/// Appends superblock and tree to `file`, whose length is a multiple of 4096 bytes, and returns the root hash. The
/// superblock is where the file has ended; on failure the file is as long as it was.
pub fn append(file: &mut File) -> Result<Hash> {
    let bytes = file.metadata()?.len();
    ensure!(bytes > 0 && bytes.is_multiple_of(BLOCK as u64), "dm-verity needs whole blocks of {BLOCK} bytes");
    let appended = append_tree(file, bytes / BLOCK as u64);
    if appended.is_err() {
        let _ = file.set_len(bytes);
    }
    appended.context("cannot append the hash tree")
}

fn append_tree(file: &File, blocks: u64) -> Result<Hash> {
    let salt = hash_content(file, blocks)?;
    file.write_all_at(&superblock(blocks, &salt), blocks * BLOCK as u64)?;
    let levels = levels(blocks);
    // The root is the first block of the tree, and the hashes of data are the last.
    let mut at = blocks + 1 + levels.iter().sum::<u64>();
    let (mut below, mut count) = (0, blocks);
    for level in levels {
        at -= level;
        write_level(file, &salt, below..below + count, at)?;
        (below, count) = (at, level);
    }
    let mut root = vec![0; BLOCK];
    file.read_exact_at(&mut root, below * BLOCK as u64)?;
    Ok(hash(&salt, &root))
}

/// The blocks of each level of the tree, from the data up to the root.
fn levels(mut blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    while blocks > 1 {
        blocks = blocks.div_ceil(DIGESTS as u64);
        levels.push(blocks);
    }
    levels
}

/// Writes the hashes of `blocks` to the blocks from `to` on.
fn write_level(file: &File, salt: &Hash, blocks: Range<u64>, mut to: u64) -> Result<()> {
    let mut from = blocks.start;
    let mut buffer = vec![0; BLOCK * DIGESTS];
    while from < blocks.end {
        let count = (blocks.end - from).min(DIGESTS as u64);
        let part = &mut buffer[..count as usize * BLOCK];
        file.read_exact_at(part, from * BLOCK as u64)?;
        let mut hashes: Vec<u8> = part.chunks_exact(BLOCK).flat_map(|block| hash(salt, block)).collect();
        hashes.resize(BLOCK, 0);
        file.write_all_at(&hashes, to * BLOCK as u64)?;
        (from, to) = (from + count, to + 1);
    }
    Ok(())
}

fn hash(salt: &Hash, block: &[u8]) -> Hash {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

fn hash_content(file: &File, blocks: u64) -> Result<Hash> {
    let (mut hash, mut buffer, end) = (Sha256::new(), vec![0; BLOCK * DIGESTS], blocks * BLOCK as u64);
    let mut at = 0;
    while at < end {
        let length = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..length], at)?;
        hash.update(&buffer[..length]);
        at += length as u64;
    }
    Ok(hash.finalize().into())
}

/// `struct verity_sb`, and zeros up to the first block of the tree.
fn superblock(blocks: u64, salt: &Hash) -> Vec<u8> {
    let mut uuid: Hash = Sha256::new().chain_update("kontena uuid").chain_update(salt).finalize().into();
    // Version 8 of RFC 9562: made in a way of our own.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let mut bytes = Vec::with_capacity(BLOCK);
    bytes.extend_from_slice(b"verity\0\0");
    // Version 1 of the superblock, and of the way in which blocks are hashed: the salt comes first.
    bytes.extend([1_u32, 1].map(u32::to_le_bytes).concat());
    bytes.extend_from_slice(&uuid[..16]);
    bytes.extend_from_slice(b"sha256");
    bytes.resize(64, 0);
    bytes.extend([BLOCK as u32; 2].map(u32::to_le_bytes).concat());
    bytes.extend_from_slice(&blocks.to_le_bytes());
    bytes.extend_from_slice(&(salt.len() as u64).to_le_bytes());
    bytes.extend_from_slice(salt);
    bytes.resize(BLOCK, 0);
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file_of(blocks: usize) -> File {
        let file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..blocks * BLOCK).map(|at| (at / BLOCK * 7 + at % 251) as u8).collect();
        file.write_all_at(&content, 0).unwrap();
        file
    }

    /// Blocks of data, the root hash, and blocks of the file.
    const KNOWN: [(usize, &str, u64); 5] = [
        (1, "047136639280714c26d2046ef135752edb34215381b2a71ecd0703bc310e985c", 2),
        (2, "50569a14b188aba20c540edfe2ea2f74c3439d15b61395cc53577a50a1d25e4c", 4),
        (128, "1bec576303b3aab6cb7a367ad21511dcd844af535feb6b246918d4b120c21e67", 130),
        (129, "a71eb6c154b1df8755727a14bb0bc0e45ba8681e87f42fe6a27587acd80388be", 133),
        (16385, "9092cb95e5c1f3d07ccee96d812ab03123e9b43051ac1d472d8cfd6903ee6c9d", 16518),
    ];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn roots_are_those_of_veritysetup() {
        // `veritysetup format`, 2.6.1, makes the same files with --uuid and --salt of these superblocks. No level of
        // hashes, one, one that is full, two, three.
        for (blocks, root, length) in KNOWN {
            let mut file = file_of(blocks);
            assert_eq!(hex(&append(&mut file).unwrap()), root, "{blocks} blocks");
            assert_eq!(file.metadata().unwrap().len(), length * BLOCK as u64);
        }
    }

    #[test]
    fn trees_of_equal_files_are_equal() {
        let whole = |mut file: File| {
            let root = append(&mut file).unwrap();
            let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            (root, bytes)
        };
        assert!(whole(file_of(300)) == whole(file_of(300)));
        let other = file_of(300);
        other.write_all_at(b"x", 5000).unwrap();
        assert_ne!(whole(other).0, whole(file_of(300)).0);
    }

    #[test]
    fn parts_of_blocks_are_refused() {
        for length in [0, 1, 4095, 4097] {
            let mut file = tempfile::tempfile().unwrap();
            file.set_len(length).unwrap();
            assert!(append(&mut file).is_err());
            assert_eq!(file.metadata().unwrap().len(), length);
        }
    }
}
