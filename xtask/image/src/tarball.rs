//! Reads a tar, entry by entry: ustar, the extensions of pax (POSIX.1-2001) and those of GNU for long names. What the
//! entries mean, and whether they may, is decided in `tree.rs`.
//!
//! Only the blocks of headers are the tar crate's, since it keeps a pax record in memory whatever its size, and ends a
//! record at each newline, of which an attribute may have several.

use crate::limits;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{self, Read};
use tar::{EntryType, Header};

/// Bytes of a block; headers are one, and contents are padded to whole ones.
const BLOCK: u64 = 512;

/// An entry, without its content.
#[derive(Debug)]
pub struct Entry {
    /// Its path as it is in the tar.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryType,
    /// The target of a symbolic or hard link.
    pub link: Vec<u8>,
    /// Permission bits, 07777.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The owner's group.
    pub gid: u64,
    /// Bytes of content.
    pub size: u64,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// A device's numbers.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A reader of a tar.
pub struct Tarball<R> {
    input: R,
    /// Bytes of the last entry's content, with padding, which nobody has read yet.
    rest: u64,
    /// Of these, padding.
    padding: u64,
    /// Bytes before the next one to be read.
    position: u64,
    ended: bool,
}

/// What extensions say about the next entry.
#[derive(Default)]
struct Extensions {
    /// Bytes of all of them.
    bytes: u64,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Tarball<R> {
    /// Reads `input` from its first block.
    pub fn new(input: R) -> Self {
        Self { input, rest: 0, padding: 0, position: 0, ended: false }
    }

    /// The next entry; None at the end. Its content can be read from `self` until the next call.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = header.entry_size().context("the size in a tar's header is not a number")?;
            if let EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink = kind {
                // There may be any number of them, and all are kept.
                extensions.bytes = extensions.bytes.saturating_add(size);
                check_description(extensions.bytes)?;
            }
            match kind {
                EntryType::XHeader => {
                    let text = self.description(size)?;
                    parse_records(&text, &mut extensions.records)?;
                }
                EntryType::GNULongName => extensions.path = Some(until_nul(self.description(size)?)),
                EntryType::GNULongLink => extensions.link = Some(until_nul(self.description(size)?)),
                // Comments, and what nothing else of an image's world reads either.
                EntryType::XGlobalHeader => _ = self.description(size)?,
                _ => {
                    let entry = extensions.entry(&header, size)?;
                    self.expect(entry.size)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Whether the two blocks of zeros that end a tar, or the first of them, were there.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Where the next byte comes from.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The input, which continues after the end of the tar.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Skips what is left of the content.
    fn skip(&mut self) -> Result<()> {
        let skipped = io::copy(&mut self.input.by_ref().take(self.rest), &mut io::sink())?;
        let missing = self.rest - skipped;
        // What pads the last file may be missing, and the end of the tar with it: umoci insert leaves both out.
        ensure!(missing <= self.padding, "the tar ends early: {} bytes of a file are missing", missing - self.padding);
        self.position += skipped;
        (self.rest, self.padding) = (0, 0);
        Ok(())
    }

    /// Content of `size` bytes follows.
    fn expect(&mut self, size: u64) -> Result<()> {
        self.padding = size.wrapping_neg() % BLOCK;
        self.rest = size.checked_add(self.padding).context("the size in a tar's header is absurd")?;
        Ok(())
    }

    /// The next header; None at the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while let Some(free) = block.get_mut(filled..).filter(|free| !free.is_empty()) {
            match self.input.read(free) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += filled as u64;
        if filled == 0 {
            return Ok(None);
        }
        ensure!(filled == block.len(), "the tar ends early: in the header of an entry");
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        ensure!(
            has_right_sum(block),
            "this is not a tar: the sum of a header at byte {} is wrong",
            self.position - BLOCK
        );
        Ok(Some(header))
    }

    /// The content of an entry that describes the next one.
    fn description(&mut self, size: u64) -> Result<Vec<u8>> {
        check_description(size)?;
        self.expect(size)?;
        let mut text = Vec::new();
        let _ = self.read_to_end(&mut text)?;
        Ok(text)
    }
}

/// The content of the entry that `next` has returned.
impl<R: Read> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.rest - self.padding).unwrap_or(usize::MAX).min(buffer.len());
        let read = match buffer.get_mut(..most) {
            Some(wanted) if most > 0 => self.input.read(wanted)?,
            _ => return Ok(0),
        };
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the tar ends early: in the content of a file"));
        }
        (self.rest, self.position) = (self.rest - read as u64, self.position + read as u64);
        Ok(read)
    }
}

impl Extensions {
    fn entry(mut self, header: &Header, size: u64) -> Result<Entry> {
        let mut take = |key: &str| self.records.remove(key.as_bytes());
        if take("GNU.sparse.major").is_some() || take("GNU.sparse.map").is_some() || header.entry_type().is_gnu_sparse()
        {
            bail!("the tar has sparse files of GNU tar's: pack it without --sparse");
        }
        let path = take("path").or(self.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        let link = take("linkpath").or(self.link).unwrap_or(link);
        let what = || format!("{}: its header in the tar", shown(&path));
        let mut number = |key: &str| match take(key) {
            Some(text) => decimal(&text).map(Some).with_context(|| format!("{}: {key} is not a number", what())),
            None => Ok(None),
        };
        let (uid, gid, larger) = (number("uid")?, number("gid")?, number("size")?);
        let mtime = match take("mtime") {
            Some(text) => time(&text).with_context(|| format!("{}: mtime is not a time", what()))?,
            None => (signed(&header.as_old().mtime).with_context(|| format!("{}: mtime", what()))?, 0),
        };
        let kind = header.entry_type();
        let has_content = matches!(kind, EntryType::Regular | EntryType::Continuous) || !is_known(kind);
        let device = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
        let is_device = matches!(kind, EntryType::Char | EntryType::Block);
        let (major, minor) =
            if is_device { (header.device_major(), header.device_minor()) } else { (Ok(None), Ok(None)) };
        let mut xattrs = BTreeMap::new();
        for (key, value) in self.records {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                let _ = xattrs.insert(name.to_vec(), value);
            }
        }
        Ok(Entry {
            kind,
            link,
            mode: header.mode().with_context(what)? & 0o7777,
            uid: uid.map_or_else(|| header.uid(), Ok).with_context(what)?,
            gid: gid.map_or_else(|| header.gid(), Ok).with_context(what)?,
            size: if has_content { larger.unwrap_or(size) } else { 0 },
            mtime,
            device: (device(major), device(minor)),
            xattrs,
            path,
        })
    }
}

fn check_description(bytes: u64) -> Result<()> {
    ensure!(bytes <= limits::DESCRIPTION, "{bytes} bytes describe an entry of the tar: that is absurd");
    Ok(())
}

/// Whether a type has no content, whatever its size says.
fn is_known(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    matches!(kind, Link | Symlink | Char | Block | Directory | Fifo)
}

/// Whether the sum in a header is the one of its bytes, its own taken as spaces.
fn has_right_sum(block: &[u8; BLOCK as usize]) -> bool {
    let own = 148..156;
    let sum: u32 =
        block.iter().enumerate().map(|(at, byte)| if own.contains(&at) { 32 } else { u32::from(*byte) }).sum();
    let text = block.get(own).unwrap_or_default();
    let text: Vec<u8> = text.iter().copied().filter(|byte| byte.is_ascii_digit()).collect();
    std::str::from_utf8(&text).is_ok_and(|text| u32::from_str_radix(text, 8) == Ok(sum))
}

/// Reads records of the form "LENGTH KEY=VALUE\n"; an empty value takes back an earlier one.
fn parse_records(mut text: &[u8], records: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Result<()> {
    while text.first().is_some_and(|byte| *byte != 0) {
        let parse = || {
            let space = text.iter().take(20).position(|byte| *byte == b' ')?;
            let length = usize::try_from(decimal(text.get(..space)?)?).ok()?;
            let (key, value) = {
                let record = text.get(space + 1..length)?.strip_suffix(b"\n")?;
                let equals = record.iter().position(|byte| *byte == b'=')?;
                (record.get(..equals)?, record.get(equals + 1..)?)
            };
            Some((key, value, text.get(length..)?))
        };
        let (key, value, rest) = parse().context("a pax record of the tar is damaged")?;
        if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
            let _ = records.remove(key);
        } else {
            let _ = records.insert(key.to_vec(), value.to_vec());
        }
        text = rest;
    }
    Ok(())
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
    text
}

fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

/// "-1.5" or "1700000000.123456789": seconds, rounded down, and nanoseconds.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(decimal(seconds.as_bytes())?).ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds = u32::try_from(decimal(digits.as_bytes())?).ok()?;
    Some(match (is_negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

/// A number of a header: octal, or in GNU's base 256, where it may be negative.
fn signed(field: &[u8; 12]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let bytes: [u8; 8] = field[4..].try_into().ok()?;
        let expected = if field[0] == 0xff { 0xff } else { 0 };
        let is_small = field[1..4].iter().all(|byte| *byte == expected);
        return is_small.then(|| i64::from_be_bytes(bytes)).filter(|value| (*value < 0) == (expected == 0xff));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
}

/// A path as an error shows it: one line, whatever is in it.
pub fn shown(path: &[u8]) -> String {
    let most = path.get(..200).unwrap_or(path);
    let text: String = String::from_utf8_lossy(most).chars().flat_map(char::escape_debug).collect();
    if path.is_empty() { "(no name)".into() } else { text + if most.len() < path.len() { "…" } else { "" } }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nanoseconds() {
        assert_eq!(time(b"1700000000"), Some((1_700_000_000, 0)));
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"1.1234567899"), Some((1, 123_456_789)));
        for bad in ["", "x", "1.x", "--1", "99999999999999999999", "-"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(signed(b"00000000017\0"), Some(15));
        assert_eq!(signed(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), Some(0x2_0000_0001));
        assert_eq!(signed(&[0xff; 12]), Some(-1));
    }

    #[test]
    fn records_may_have_newlines() {
        let mut records = BTreeMap::new();
        parse_records(b"25 SCHILY.xattr.a=1\n2\n3\n\n12 path=a/b\n", &mut records).unwrap();
        assert_eq!(records[&b"SCHILY.xattr.a".to_vec()], b"1\n2\n3\n");
        assert_eq!(records[&b"path".to_vec()], b"a/b");
        for bad in [&b"5 a=b"[..], b"99 path=a\n", b"path=a\n", b"0 a=b\n", b"-6 a=b\n", b"6 ab=\n6 abc\n"] {
            assert!(parse_records(bad, &mut records).is_err(), "{}", shown(bad));
        }
    }

    #[test]
    fn paths_are_one_line() {
        assert_eq!(shown(b"a\n\x1b[2J\xff"), "a\\n\\u{1b}[2J\u{fffd}");
        assert!(shown(&[b'a'; 5000]).len() < 210);
    }
}
