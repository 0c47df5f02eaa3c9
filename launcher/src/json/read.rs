//! Reads JSON; RFC 8259.
//!
//! A [`Value`] is a text in memory, taken apart; a [`Node`] is a place in it, which knows its path, for errors. Unknown
//! members cost nothing but their memory, and of two with the same name the last one counts. Must not know what is
//! read.

use crate::error::{Hint, Parsed};
use std::fmt::Write;
use std::str::FromStr;

/// How deeply arrays and objects may be nested.
const DEPTH: usize = 64;

/// A value. Strings are parts of the text, unless they have escapes; the rest is never freed.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number, as it is written.
    Number(&'a str),
    /// A string.
    Text(&'a str),
    /// The items of an array.
    Array(&'a [Value<'a>]),
    /// The members of an object, in their order.
    Object(&'a [(&'a str, Value<'a>)]),
}

/// Reads a whole text. An error has the number of the line.
pub fn parse(bytes: &[u8]) -> Result<Value<'_>, String> {
    let complain = |at: usize, hint: Hint| {
        let before = bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
        format!("line {}: {hint}", before + 1)
    };
    let text = std::str::from_utf8(bytes).map_err(|error| complain(error.valid_up_to(), "not UTF-8"))?;
    let mut reader = Reader { text, at: 0 };
    let read = reader.value(DEPTH).and_then(|value| match reader.peek() {
        None => Ok(value),
        Some(_) => Err("expected nothing behind the value"),
    });
    read.map_err(|hint| complain(reader.at, hint))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

const VALUE: Hint = "expected a value: an object, an array, a string, a number, true, false or null";
const ESCAPE: Hint = "expected \\\", \\\\, \\/, \\b, \\f, \\n, \\r, \\t or \\u and four hexadecimal digits";

impl<'a> Reader<'a> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space; not yet taken.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Takes a byte, if it is next.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.byte() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// The text from `start` to here.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Parsed<Value<'a>> {
        let deeper = || depth.checked_sub(1).ok_or("nested too deeply");
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b'[') => {
                let mut items = Vec::new();
                self.sequence(b']', "expected , or ]", |reader| {
                    items.push(reader.value(deeper()?)?);
                    Ok(())
                })?;
                Ok(Value::Array(items.leak()))
            }
            Some(b'{') => {
                let mut members = Vec::new();
                self.sequence(b'}', "expected , or }", |reader| {
                    let Some(b'"') = reader.peek() else { return Err("expected a name in quotes") };
                    let name = reader.string()?;
                    let Some(b':') = reader.peek() else { return Err("expected : and a value") };
                    reader.at += 1;
                    members.push((name, reader.value(deeper()?)?));
                    Ok(())
                })?;
                Ok(Value::Object(members.leak()))
            }
            _ => {
                let rest = &self.text[self.at..];
                let words = [("null", Value::Null), ("true", Value::Boolean(true)), ("false", Value::Boolean(false))];
                let (word, value) = words.into_iter().find(|(word, _)| rest.starts_with(word)).ok_or(VALUE)?;
                self.at += word.len();
                Ok(value)
            }
        }
    }

    /// What stands between brackets, with commas.
    fn sequence(&mut self, end: u8, hint: Hint, mut read: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        self.at += 1;
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(());
        }
        loop {
            read(self)?;
            self.peek();
            if self.takes(end) {
                return Ok(());
            }
            if !self.takes(b',') {
                return Err(hint);
            }
        }
    }

    fn number(&mut self) -> Parsed<&'a str> {
        let start = self.at;
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits()?;
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _ = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) -> Parsed<()> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err("expected a digit") } else { Ok(()) }
    }

    fn string(&mut self) -> Parsed<&'a str> {
        self.at += 1;
        let (mut start, mut unescaped) = (self.at, String::new());
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    unescaped.push_str(self.since(start));
                    self.at += 1;
                    unescaped.push(self.escape()?);
                    start = self.at;
                }
                Some(0..b' ') => return Err("a control character in a string: use an escape"),
                Some(_) => self.at += 1,
                None => return Err("a string without an end: expected \""),
            }
        }
        let rest = self.since(start);
        self.at += 1;
        if unescaped.is_empty() {
            return Ok(rest);
        }
        unescaped.push_str(rest);
        Ok(unescaped.leak())
    }

    fn escape(&mut self) -> Parsed<char> {
        let byte = self.byte().ok_or(ESCAPE)?;
        let place = b"\"\\/bfnrtu".iter().position(|known| *known == byte).ok_or(ESCAPE)?;
        self.at += 1;
        if let Some(byte) = b"\"\\/\x08\x0c\n\r\t".get(place) {
            return Ok((*byte).into());
        }
        let mut code = self.unit()?;
        // Two of UTF-16 for a character beyond the first plane.
        if let 0xd800..0xdc00 = code
            && self.takes(b'\\')
            && self.takes(b'u')
        {
            let low = self.unit()?.wrapping_sub(0xdc00);
            code = if low < 0x400 { 0x1_0000 + ((code - 0xd800) << 10) + low } else { u32::MAX };
        }
        char::from_u32(code).ok_or("half a character: expected two \\u that belong together")
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Parsed<u32> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(ESCAPE)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ESCAPE);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| ESCAPE)
    }
}

/// A place in a value: what is there, if anything is. `null` is nothing.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    root: &'a Value<'a>,
    /// Itself; or if it is missing, the object that should have it.
    here: &'a Value<'a>,
    /// Its name, if it is missing.
    missing: Option<&'a str>,
}

impl<'a> Node<'a> {
    /// The whole value.
    pub fn root(root: &'a Value<'a>) -> Self {
        Self { root, here: root, missing: None }
    }

    /// A member of this object. What is missing has no members either.
    pub fn get(self, name: &'a str) -> Self {
        let member = match self.here {
            Value::Object(members) if self.missing.is_none() => members.iter().rfind(|(known, _)| *known == name),
            _ => None,
        };
        match member {
            None | Some((_, Value::Null)) => Self { missing: self.missing.or(Some(name)), ..self },
            Some((_, here)) => Self { here, ..self },
        }
    }

    /// Whether there is nothing.
    pub fn is_missing(self) -> bool {
        self.missing.is_some()
    }

    /// This place, unless there is nothing.
    pub fn given(self) -> Option<Self> {
        Some(self).filter(|node| !node.is_missing())
    }

    /// The items of an array; none if it is missing.
    pub fn items(self) -> Result<impl Iterator<Item = Self>, String> {
        Ok(self.array()?.iter().map(move |here| Self { here, ..self }))
    }

    #[inline(never)]
    fn array(self) -> Result<&'a [Value<'a>], String> {
        match (self.here, self.missing) {
            (_, Some(_)) => Ok(&[]),
            (Value::Array(items), _) => Ok(items),
            _ => Err(self.expected("an array")),
        }
    }

    /// The members of an object, with their names; none if it is missing.
    #[cfg_attr(
        not(any(test, feature = "oci")),
        expect(dead_code, reason = "a profile's objects have only members that are known by name")
    )]
    pub fn members(self) -> Result<impl Iterator<Item = (&'a str, Self)>, String> {
        let members: &'a [(&str, Value<'_>)] = match (self.here, self.missing) {
            (_, Some(_)) => &[],
            (Value::Object(members), _) => members,
            _ => return Err(self.expected("an object")),
        };
        Ok(members.iter().map(move |(name, here)| (*name, Self { here, ..self })))
    }

    /// A string.
    #[inline(never)]
    pub fn text(self) -> Result<&'a str, String> {
        match (self.here, self.missing) {
            (Value::Text(text), None) => Ok(text),
            _ => Err(self.expected("a string")),
        }
    }

    /// `true` or `false`.
    #[cfg_attr(not(any(test, feature = "oci")), expect(dead_code, reason = "a profile has none"))]
    pub fn boolean(self) -> Result<bool, String> {
        match (self.here, self.missing) {
            (Value::Boolean(value), None) => Ok(*value),
            _ => Err(self.expected("true or false")),
        }
    }

    /// A whole number.
    pub fn number<T: FromStr>(self) -> Result<T, String> {
        let (Value::Number(digits), None) = (self.here, self.missing) else { return Err(self.expected("a number")) };
        digits.parse().map_err(|_| {
            let is_whole = digits.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
            self.wrong(if is_whole { "the number is out of range" } else { "write it without . and e" })
        })
    }

    /// An error: something else should be here.
    #[cold]
    #[inline(never)]
    pub fn expected(self, what: &str) -> String {
        self.wrong(&[if self.is_missing() { "missing: " } else { "" }, "expected ", what].concat())
    }

    /// An error at this place.
    #[cold]
    #[inline(never)]
    pub fn wrong(self, hint: &str) -> String {
        let mut path = String::new();
        find(self.root, self.here, &mut path);
        if let Some(name) = self.missing {
            path.push('.');
            path.push_str(name);
        }
        let path = path.strip_prefix('.').unwrap_or(&path);
        if path.is_empty() { hint.into() } else { format!("{path}: {hint}") }
    }
}

/// Writes the path that leads from one value to another in it; `false` if it is not in there.
fn find(from: &Value<'_>, to: &Value<'_>, path: &mut String) -> bool {
    if std::ptr::eq(from, to) {
        return true;
    }
    let length = path.len();
    let try_next = |path: &mut String, value| {
        let is_found = find(value, to, path);
        if !is_found {
            path.truncate(length);
        }
        is_found
    };
    match from {
        Value::Array(items) => items.iter().enumerate().any(|(index, item)| {
            let _ = write!(path, "[{index}]");
            try_next(path, item)
        }),
        Value::Object(members) => members.iter().any(|(name, member)| {
            path.push('.');
            path.push_str(name);
            try_next(path, member)
        }),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod fuzz;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
