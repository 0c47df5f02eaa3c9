//! Text: parts of it, numbers in it.
//!
//! Pure, so that `cargo test` runs it. Must not know what a text is for.

use core::ffi::CStr;

/// What is between separators; a text without one is one part.
pub fn split(text: &[u8], separator: u8) -> Parts<'_> {
    Parts { rest: Some(text), separator }
}

/// See [`split`].
#[derive(Clone)]
pub struct Parts<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    #[inline(never)]
    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        let end = text.iter().position(|byte| *byte == self.separator);
        self.rest = end.and_then(|end| text.get(end + 1..));
        end.map_or(Some(text), |end| text.get(..end))
    }
}

/// The string without its first bytes.
#[inline(never)]
pub fn tail(text: &CStr, from: usize) -> &CStr {
    text.to_bytes_with_nul().get(from..).and_then(|tail| CStr::from_bytes_until_nul(tail).ok()).unwrap_or_default()
}

/// Digits and nothing else.
pub fn number(text: &[u8]) -> Option<u32> {
    let add = |number: u32, c: &u8| number.checked_mul(10)?.checked_add(char::from(*c).to_digit(10)?);
    text.iter().try_fold(0, add).filter(|_| !text.is_empty())
}

/// The number in digits, at the end of `buffer`.
pub fn decimal(mut number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut start = buffer.len();
    for (place, digit) in buffer.iter_mut().enumerate().rev() {
        (*digit, start) = (b'0' + (number % 10) as u8, place);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn parts_are_between_separators() {
        let parts = |text| split(text, b':').collect::<Vec<_>>();
        assert_eq!(parts(b"a:b"), [b"a", b"b"]);
        assert_eq!(parts(b""), [b""]);
        assert_eq!(parts(b":"), [b"", b""]);
        assert_eq!(parts(b"a::b:").len(), 4);
    }

    #[test]
    fn number_is_digits_that_fit_into_32_bits() {
        assert_eq!([number(b"0"), number(b"007"), number(b"4294967295")], [Some(0), Some(7), Some(u32::MAX)]);
        for bad in [b"" as &[u8], b"-1", b"+1", b" 1", b"1 ", b"1a", b"4294967296", b"99999999999999999999"] {
            assert_eq!(number(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn decimal_is_the_inverse() {
        for value in [0, 7, 10, 4_294_967_295] {
            assert_eq!(number(decimal(value, &mut [0; 10])), Some(value));
        }
    }

    #[test]
    fn tail_is_empty_beyond_the_end() {
        assert_eq!([tail(c"abc", 0), tail(c"abc", 2), tail(c"abc", 3), tail(c"abc", 4)], [c"abc", c"c", c"", c""]);
    }
}
