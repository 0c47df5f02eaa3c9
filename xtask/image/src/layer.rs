//! Reads a layer: decompresses it, and verifies the digests of what is read, of the blob and of the tar in it.
//! Nothing may be used of a layer before `finish` has said that it is the right one.

use crate::image::{Blob, Layer};
use crate::progress::Progress;
use crate::tree::too_large;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256, Sha512};
use std::cell::RefCell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

/// A sum that is computed while something is read.
pub enum Sum {
    /// "sha256:"
    Sha256(Box<Sha256>),
    /// "sha512:"
    Sha512(Box<Sha512>),
}

impl Sum {
    /// The one that a digest ("sha256:HEX") needs; without a digest, the usual one.
    pub fn of(digest: Option<&str>) -> Result<Self> {
        let Some(digest) = digest else { return Ok(Self::Sha256(Box::default())) };
        let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match (algorithm, hex.len()) {
            ("sha256", 64) if is_hex => Ok(Self::Sha256(Box::default())),
            ("sha512", 128) if is_hex => Ok(Self::Sha512(Box::default())),
            _ => bail!("{} is not a digest of sha256 or sha512", crate::tarball::shown(digest.as_bytes())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(bytes),
            Self::Sha512(sum) => sum.update(bytes),
        }
    }

    /// As a digest.
    fn finish(&self) -> String {
        match self {
            Self::Sha256(sum) => format!("sha256:{}", hex(&sum.clone().finalize())),
            Self::Sha512(sum) => format!("sha512:{}", hex(&sum.clone().finalize())),
        }
    }
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Verifies that `bytes` have the digest.
pub fn verify(bytes: &[u8], digest: &str) -> Result<()> {
    let mut sum = Sum::of(Some(digest))?;
    sum.update(bytes);
    let found = sum.finish();
    ensure!(found == digest, "its digest is {found}, and should be {digest}: it is damaged, or another file");
    Ok(())
}

/// A reader that sums up what passes, and ends with an error after `most` bytes.
struct Summed<R> {
    input: R,
    seen: Rc<RefCell<Seen>>,
    most: u64,
}

/// What has passed a [`Summed`].
struct Seen {
    sum: Sum,
    bytes: u64,
}

impl Seen {
    fn new(digest: Option<&str>) -> Result<Rc<RefCell<Self>>> {
        Ok(Rc::new(RefCell::new(Self { sum: Sum::of(digest)?, bytes: 0 })))
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let mut seen = self.seen.borrow_mut();
        seen.bytes += read as u64;
        if seen.bytes > self.most {
            return Err(io::Error::other(too_large(self.most)));
        }
        seen.sum.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// A layer's tar. Reading it is half of it: see [`Self::finish`].
pub struct Reader<'a> {
    layer: &'a Layer,
    blob: Rc<RefCell<Seen>>,
    tar: Rc<RefCell<Seen>>,
    input: Box<dyn Read + 'a>,
}

impl<'a> Reader<'a> {
    /// Begins to read. `most` is how many bytes the tar may have.
    pub fn new(layer: &'a Layer, most: u64, progress: &'a Progress) -> Result<Self> {
        let (blob, tar) = (Seen::new(layer.digest.as_deref())?, Seen::new(layer.diff_id.as_deref())?);
        let input = progress.wrap(layer.blob.reader());
        let input = Summed { input, seen: Rc::clone(&blob), most: u64::MAX };
        let input = decompressed(&layer.blob, &layer.media_type, input)?;
        let input = Box::new(Summed { input, seen: Rc::clone(&tar), most });
        Ok(Self { layer, blob, tar, input })
    }

    /// Reads to the end, and verifies both digests. Returns the bytes of the tar.
    pub fn finish(mut self) -> Result<u64> {
        // Padding after the end of the tar.
        let _ = io::copy(&mut self.input, &mut io::sink())?;
        let missing = self.layer.blob.length - self.blob.borrow().bytes;
        ensure!(missing == 0, "{missing} bytes follow the end of the compressed layer");
        let found = self.blob.borrow().sum.finish();
        if let Some(digest) = self.layer.digest.as_ref().filter(|digest| **digest != found) {
            bail!("the layer's digest is {found}, and should be {digest}: it is damaged, or another file");
        }
        let found = self.tar.borrow().sum.finish();
        if let Some(digest) = self.layer.diff_id.as_ref().filter(|digest| **digest != found) {
            bail!("the digest of the layer's tar is {found}, and should be {digest}, as the image's config has it");
        }
        Ok(self.tar.borrow().bytes)
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

/// `input`, which is all of `blob`, decompressed: the first bytes say how.
pub fn decompressed<'a>(blob: &Blob, media_type: &str, input: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let start = blob.part(0, blob.length.min(6))?.read(6)?;
    ensure!(!media_type.ends_with("+encrypted"), "the layer is encrypted: decrypt the image first, with skopeo copy");
    // A decoder may leave bytes in the buffer: `finish` reads to the end.
    let input = BufReader::with_capacity(1 << 16, input);
    Ok(match start[..] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(input).context("zstd")?),
        // A frame that decoders skip is the first of some.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        [b'B', b'Z', b'h', ..] => bail!("the layer is compressed by bzip2; gzip, zstd and none are supported"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => bail!("the layer is compressed by xz; gzip, zstd and none are supported"),
        _ if media_type.ends_with("gzip") || media_type.ends_with("zstd") => {
            bail!("the layer is no {media_type}: its first bytes are those of something else")
        }
        _ => Box::new(input),
    })
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
