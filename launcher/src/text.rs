//! Text to values, below everything else: numbers, sizes, names, and strings for the kernel.
//!
//! Must not know which option a text belongs to, nor touch the system, but for its random numbers.

use crate::error::{Error, Parsed, Result, drives_terminal};
use crate::gather::Gather;
use std::ffi::{CStr, CString};
use std::fmt::Write;

/// The value of an option, for the kernel. It stays as long as the process, as the command line does.
pub fn c_text(text: &str) -> Parsed<&'static CStr> {
    CString::new(text).map(keep).map_err(|_| NUL)
}

fn keep(text: CString) -> &'static CStr {
    Box::leak(text.into_boxed_c_str())
}

/// The same for what need not be UTF-8.
pub fn c_static(text: impl Into<Vec<u8>>) -> Result<&'static CStr> {
    c_string(text).map(keep)
}

const NUL: &str = "a NUL cannot be passed on: remove it";

/// Text for the kernel.
pub fn c_string(text: impl Into<Vec<u8>>) -> Result<CString> {
    let text: Vec<u8> = text.into();
    CString::new(text).map_err(|error| {
        let text = error.into_vec();
        Error::usage(format_args!("{}", String::from_utf8_lossy(&text)), NUL)
    })
}

/// Whether a container can be called so: as a path, it leads nowhere else.
pub fn is_name(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_.+-".contains(&c);
    let first = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    first && text.len() <= 128 && text.bytes().all(good)
}

/// Whether it is like the name of a container that was given none: twelve hexadecimal digits.
pub fn is_made(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'a'..=b'f'))
}

/// So many hexadecimal digits, as docker and podman name containers and volumes that were given no name.
pub fn random_name<const DIGITS: usize>() -> &'static str {
    let mut bytes = [0; DIGITS];
    // So few bytes are never cut short; should the kernel refuse, the name is taken by at most one container.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let digit = |byte: &u8| char::from(b"0123456789abcdef"[usize::from(byte % 16)]);
    bytes.iter().map(digit).collect::<String>().leak()
}

/// The place of `word` in a table of words, one blank between them: a string is half as large as an array.
pub fn place_of(word: &str, table: &str) -> Option<usize> {
    table.split(' ').position(|known| known == word)
}

/// The word at a place in such a table, or nothing.
pub fn word_at(place: usize, table: &'static str) -> &'static str {
    table.split(' ').nth(place).unwrap_or_default()
}

/// Whether it has this character of one byte: str::contains is 1.6 kB, for characters and texts that are longer.
pub fn has(text: &str, byte: u8) -> bool {
    text.as_bytes().contains(&byte)
}

/// What is before and behind the last of this character of one byte: str::rsplit_once is 0.8 kB, for longer ones.
pub fn split_last(text: &str, byte: u8) -> Option<(&str, &str)> {
    let place = text.bytes().rposition(|other| other == byte)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// The text with `new` for each `old`, of the parts that a list has: str::replace searches in its own way.
pub fn replace(text: &str, old: char, new: &str) -> String {
    text.split(old).list().join(new)
}

/// Digits and nothing else: str::parse would take a sign too.
pub fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// A number of bytes, with b, k, m, g or t behind it as docker takes them.
pub fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let shift = match unit.to_ascii_lowercase().as_bytes() {
        [] | [b'b'] => 0,
        [letter] | [letter, b'b'] | [letter, b'i', b'b'] => 10 * (b"kmgt".iter().position(|c| c == letter)? + 1),
        _ => return None,
    };
    number(digits)?.checked_mul(1 << shift)
}

/// Bytes that should be text, as text: `\xff` for each byte that is not UTF-8.
pub fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        escape(&mut text, chunk.invalid());
    }
    text
}

/// Text that a terminal shows and does not obey: `\x1b` for each byte of such a character.
pub fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match drives_terminal(c) {
            true => escape(&mut plain, c.encode_utf8(&mut [0; 4]).as_bytes()),
            false => plain.push(c),
        }
    }
    plain
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        for (bytes, text) in
            [(&b"plain"[..], "plain"), (b"", ""), (b"a\xffb\xc3", "a\\xffb\\xc3"), ("ü\n".as_bytes(), "ü\n")]
        {
            assert_eq!(from_bytes(bytes), text);
        }
    }

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        for (text, plain) in [
            ("plain ü 😀", "plain ü 😀"),
            ("\x1b[2J\n", "\\x1b[2J\\x0a"),
            ("\u{202e}\u{9b}", "\\xe2\\x80\\xae\\xc2\\x9b"),
        ] {
            assert_eq!(printable(text), plain);
        }
    }

    #[test]
    fn words_have_a_place_in_their_table() {
        const TABLE: &str = "cpu data as";
        for (place, word) in TABLE.split(' ').enumerate() {
            assert_eq!((place_of(word, TABLE), word_at(place, TABLE)), (Some(place), word));
        }
        for word in ["", " ", "a", "cpu data", "ata", "AS"] {
            assert_eq!(place_of(word, TABLE), None, "{word:?}");
        }
        assert_eq!([3, usize::MAX].map(|place| word_at(place, TABLE)), ["", ""]);
    }

    #[test]
    fn texts_are_split_at_the_last_of_a_character() {
        for (text, parts) in
            [("a/b/c", Some(("a/b", "c"))), ("/", Some(("", ""))), ("ü/ü", Some(("ü", "ü"))), ("a", None), ("", None)]
        {
            assert_eq!(split_last(text, b'/'), parts, "{text:?}");
        }
    }

    #[test]
    fn characters_are_replaced_by_texts() {
        for (text, replaced) in [("a%b%", "a--b--"), ("%", "--"), ("", ""), ("ü", "ü")] {
            assert_eq!(replace(text, '%', "--"), replaced, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        for (text, value) in [("0", 0), ("007", 7), ("18446744073709551615", u64::MAX)] {
            assert_eq!(number(text), Some(value), "{text:?}");
        }
        for text in ["", "+1", "-1", " 1", "1 ", "1_000", "0x1", "1.0", "18446744073709551616", "١"] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_have_dockers_units() {
        for (text, value) in [
            ("0", 0),
            ("7b", 7),
            ("1k", 1 << 10),
            ("1K", 1 << 10),
            ("2kb", 2 << 10),
            ("2KiB", 2 << 10),
            ("64m", 64 << 20),
            ("1g", 1 << 30),
            ("16777215t", 0xff_ffff << 40),
        ] {
            assert_eq!(bytes(text), Some(value), "{text:?}");
        }
        for text in ["", "k", "-1", "+1k", "1.5m", "1 m", "1kk", "1bb", "1ki", "1q", "1é", "16777216t"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }

    #[test]
    fn text_with_a_nul_is_not_for_the_kernel() {
        assert_eq!(c_text("a"), Ok(c"a"));
        assert_eq!(c_text("a\0"), Err(NUL));
        assert_eq!(c_string("é").ok(), Some(c"é".into()));
        let error = c_string(b"a\xff\0".as_slice()).map_err(|error| error.to_string());
        assert_eq!(error, Err("a\u{fffd}\\u{0}: a NUL cannot be passed on: remove it".into()));
    }
}
