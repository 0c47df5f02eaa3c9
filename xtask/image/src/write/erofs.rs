//! erofs, by mkfs.erofs of erofs-utils, from a directory, or, for an ordinary user, from a tar if it can.

use super::{Output, Scratch, judge, program, stream, unpack};
use crate::config::BLOCK;
use crate::progress::Progress;
use crate::tree::{ROOT, Tree};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the superblock begins, and fields in it: struct erofs_super_block of the kernel's erofs_fs.h.
const SUPERBLOCK: u64 = 1024;
const MAGIC: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();
const CHECKSUM: usize = 4;
const FEATURES: usize = 8;
const BUILD_TIME: usize = 24;
const BLOCKS: usize = 36;
const UUID: usize = 48;

/// Fails if this user cannot write erofs here.
pub fn check() -> Result<()> {
    let can = rustix::process::geteuid().is_root() || takes_tar();
    ensure!(
        can,
        "mkfs.erofs of this version needs root to write owners (1.7 does not): become root, or use --type squashfs"
    );
    Ok(())
}

/// Whether mkfs.erofs can read a tar: since version 1.7.
fn takes_tar() -> bool {
    let help = program("mkfs.erofs").arg("--help").stdout(std::process::Stdio::piped()).output();
    help.is_ok_and(|help| [help.stdout, help.stderr].concat().windows(5).any(|word| word == b"--tar"))
}

/// Writes the tree as the file `new`.
pub fn write(tree: &Tree, new: &Path, scratch: &Scratch, output: &Output<'_>) -> Result<()> {
    let root = scratch.path().join("root");
    let mut command = program("mkfs.erofs");
    // Inodes of one size have a time of their own each, and attributes that are not shared have no order among files.
    command.args(["--quiet", "-x1000000", "-Eforce-inode-extended", "-U00000000-0000-0000-0000-000000000000"]);
    match output.compression.unwrap_or("lz4hc") {
        "none" => {}
        name => _ = command.arg(format!("-z{name}")),
    }
    if rustix::process::geteuid().is_root() {
        unpack::unpack(tree, ROOT, &root)?;
    } else {
        stream::write(tree, BufWriter::new(File::create_new(&root)?))?;
        let _ = command.arg("--tar=f");
    }
    let _progress = Progress::spinner("mkfs.erofs");
    let made = command.arg(new).arg(&root).output().context("cannot run mkfs.erofs")?;
    judge("mkfs.erofs", output.compression, &made)?;
    finish(new, output.epoch)
}

/// Makes the file depend on nothing but its content: the time of the build is `epoch`, and its UUID a digest.
fn finish(new: &Path, epoch: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(new)?;
    let mut superblock = vec![0; (BLOCK - SUPERBLOCK) as usize];
    file.read_exact_at(&mut superblock, SUPERBLOCK)?;
    let number = |at: usize| superblock.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u32::from_le_bytes);
    let blocks = number(BLOCKS).context("no superblock")?;
    let has_checksum = number(FEATURES).is_some_and(|features| features & 1 != 0);
    let (bytes, length) = (u64::from(blocks) * BLOCK, file.metadata()?.len());
    let is_erofs =
        superblock.starts_with(&MAGIC) && superblock.get(12) == Some(&12) && bytes <= length.next_multiple_of(BLOCK);
    ensure!(is_erofs, "mkfs.erofs has written something else than erofs of blocks of 4096 bytes");
    file.set_len(bytes)?;
    let mut set = |at: usize, value: &[u8]| {
        if let Some(field) = superblock.get_mut(at..at + value.len()) {
            field.copy_from_slice(value);
        }
    };
    set(CHECKSUM, &[0; 4]);
    set(BUILD_TIME, &epoch.to_le_bytes());
    set(BUILD_TIME + 8, &[0; 4]);
    set(UUID, &[0; 16]);
    file.write_all_at(&superblock, SUPERBLOCK)?;
    let uuid = uuid(&file)?;
    if let Some(field) = superblock.get_mut(UUID..UUID + 16) {
        field.copy_from_slice(&uuid);
    }
    if has_checksum {
        let checksum = crc32c(&superblock);
        if let Some(field) = superblock.get_mut(CHECKSUM..CHECKSUM + 4) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
    }
    Ok(file.write_all_at(&superblock, SUPERBLOCK)?)
}

/// A UUID of version 8 (RFC 9562): a digest of all of the file.
fn uuid(mut file: &File) -> Result<[u8; 16]> {
    use std::io::Seek;
    file.rewind()?;
    let (mut sum, mut buffer) = (Sha256::new(), vec![0; 1 << 17]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => sum.update(buffer.get(..read).unwrap_or_default()),
        }
    }
    let mut uuid: [u8; 16] = sum.finalize().first_chunk().copied().unwrap_or_default();
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

/// The kernel's crc32c(~0, …), as erofs_superblock_csum_verify() computes it.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksum_is_that_of_rfc_3720() {
        // The RFC's has its bits inverted at the end.
        assert_eq!(!super::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(!super::crc32c(b"123456789"), 0xe306_9283);
    }
}
