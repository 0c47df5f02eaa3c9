//! Unit tests of `layer.rs`: compression, digests, bombs.
#![allow(clippy::unwrap_used)]

use super::*;
use std::io::Write;

fn blob(bytes: &[u8]) -> Blob {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Blob::of(file).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Reads a layer to its end.
fn read(layer: &Layer, most: u64) -> Result<Vec<u8>, String> {
    let progress = Progress::spinner("test");
    let read = || {
        let mut reader = Reader::new(layer, most, &progress)?;
        let mut tar = Vec::new();
        let _ = reader.read_to_end(&mut tar)?;
        let bytes = reader.finish()?;
        ensure!(bytes == tar.len() as u64, "bytes");
        Ok(tar)
    };
    read().map_err(|error: anyhow::Error| format!("{error:#}"))
}

fn layer(bytes: &[u8], tar: &[u8]) -> Layer {
    Layer { blob: blob(bytes), digest: Some(digest(bytes)), diff_id: Some(digest(tar)), media_type: String::new() }
}

#[test]
fn compression_is_that_of_the_first_bytes() {
    let tar = b"0123456789".repeat(5000);
    let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], zstd.as_slice()].concat();
    let (first, second) = tar.split_at(10_000);
    let members = [gzip(first), gzip(second)].concat();
    let frames = [zstd::encode_all(first, 3).unwrap(), zstd::encode_all(second, 3).unwrap()].concat();
    for bytes in [tar.clone(), gzip(&tar), zstd, skipped, members, frames] {
        assert!(read(&layer(&bytes, &tar), u64::MAX).unwrap() == tar);
    }
    for (start, part) in [(&b"BZh91AY"[..], "bzip2"), (&b"\xfd7zXZ\0\0"[..], "xz")] {
        assert!(read(&layer(start, b""), u64::MAX).unwrap_err().contains(part));
    }
    let mut wrong = layer(&tar, &tar);
    wrong.media_type = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    assert!(read(&wrong, u64::MAX).unwrap_err().contains("first bytes"));
    wrong.media_type = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into();
    assert!(read(&wrong, u64::MAX).unwrap_err().contains("encrypted"));
}

#[test]
fn digests_are_verified() {
    let tar = b"tar".repeat(1000);
    let compressed = gzip(&tar);
    let mut wrong = layer(&compressed, &tar);
    wrong.digest = Some(digest(b"other"));
    assert!(read(&wrong, u64::MAX).unwrap_err().contains("the layer's digest is"));
    let mut wrong = layer(&compressed, b"other");
    assert!(read(&wrong, u64::MAX).unwrap_err().contains("the digest of the layer's tar is"));
    for name in ["md5:00", "sha256:", "sha256:../../etc", "", "sha256"] {
        wrong.digest = Some(name.into());
        assert!(read(&wrong, u64::MAX).unwrap_err().contains("is not a digest"), "{name}");
    }
    let mut right = layer(&compressed, &tar);
    right.digest = Some(format!("sha512:{}", hex(&Sha512::digest(&compressed))));
    assert!(read(&right, u64::MAX).unwrap() == tar);
    verify(b"x", &digest(b"x")).unwrap();
    assert!(verify(b"x", &digest(b"y")).is_err());
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 50 << 20];
    for bytes in [gzip(&zeros), zstd::encode_all(zeros.as_slice(), 3).unwrap()] {
        assert!(bytes.len() < 1 << 20);
        assert!(read(&layer(&bytes, &zeros), 1 << 20).unwrap_err().contains("--max-size"));
    }
}

#[test]
fn damaged_streams_are_errors() {
    let tar = b"0123456789".repeat(5000);
    for bytes in [gzip(&tar), zstd::encode_all(tar.as_slice(), 3).unwrap()] {
        for length in [4, bytes.len() / 2, bytes.len() - 1] {
            assert!(read(&layer(bytes.get(..length).unwrap(), &tar), u64::MAX).is_err());
        }
        let trailing = [bytes.as_slice(), b"trailing"].concat();
        assert!(read(&layer(&trailing, &tar), u64::MAX).is_err());
    }
}
