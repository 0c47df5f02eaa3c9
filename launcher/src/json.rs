//! JSON, as far as kontena writes it; RFC 8259.
//!
//! Must not know what is written.

use std::fmt::Write;

/// An object or an array being written.
pub struct Json {
    text: String,
    is_empty: bool,
}

impl Json {
    /// Opens one, by `{` or `[`.
    pub fn open(bracket: char) -> Self {
        Self { text: bracket.into(), is_empty: true }
    }

    /// Closes it, by `}` or `]`.
    pub fn close(mut self, bracket: char) -> String {
        self.text.push(bracket);
        self.text
    }

    fn next(&mut self) -> &mut String {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(',');
        }
        &mut self.text
    }

    /// Adds JSON to an array.
    pub fn item(&mut self, json: &str) -> &mut Self {
        self.next().push_str(json);
        self
    }

    /// Adds JSON under a key.
    pub fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        let text = self.next();
        quote(text, key);
        text.push(':');
        text.push_str(json);
        self
    }

    /// Adds text under a key.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.raw(key, &string(value))
    }

    /// Adds a number under a key.
    pub fn number(&mut self, key: &str, value: impl Into<u64>) -> &mut Self {
        self.raw(key, &value.into().to_string())
    }

    /// Adds true or false under a key.
    pub fn truth(&mut self, key: &str, value: bool) -> &mut Self {
        self.raw(key, if value { "true" } else { "false" })
    }

    /// Adds an array of texts under a key.
    pub fn texts<T: AsRef<str>>(&mut self, key: &str, values: impl IntoIterator<Item = T>) -> &mut Self {
        let mut array = Self::open('[');
        for value in values {
            array.item(&string(value.as_ref()));
        }
        self.raw(key, &array.close(']'))
    }
}

/// Text, in quotes.
pub fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quote(&mut quoted, text);
    quoted
}

fn quote(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                json.push('\\');
                json.push(c);
            }
            c if c.is_control() => drop(write!(json, "\\u{:04x}", c as u32)),
            c => json.push(c),
        }
    }
    json.push('"');
}
