//! Writes JSON; RFC 8259. [`read`] reads it.
//!
//! One text grows from its beginning to its end, commas and brackets included. Must not know what is written.

#[cfg(feature = "seccomp")]
pub mod read;

use crate::error::drives_terminal;
use std::fmt::Write;

/// JSON being written: a value is expected, or a key of an object.
pub struct Json {
    text: String,
    /// Whether the next value or key is the first of its array or object, or the value of a key.
    is_first: bool,
}

impl Json {
    /// Writes one value, and a newline.
    pub fn document(write: impl FnOnce(&mut Self)) -> String {
        let mut json = Self { text: String::new(), is_first: true };
        write(&mut json);
        json.text + "\n"
    }

    /// Writes an object, of the keys that `write` writes with their values.
    pub fn object(&mut self, write: impl FnOnce(&mut Self)) {
        self.open('{');
        write(self);
        self.close('}');
    }

    /// Writes an array, of the values that `write` writes.
    pub fn array(&mut self, write: impl FnOnce(&mut Self)) {
        self.open('[');
        write(self);
        self.close(']');
    }

    /// Writes a key; its value follows.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.text.push(':');
        self.is_first = true;
        self
    }

    /// Writes a string.
    pub fn string(&mut self, text: &str) {
        self.separate();
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                // All of them are in the first plane.
                c if drives_terminal(c) => drop(write!(self.text, "\\u{:04x}", c as u32)),
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    /// Writes a number or a literal, as it is.
    pub fn literal(&mut self, json: &str) {
        self.separate();
        self.text.push_str(json);
    }

    /// Writes members of an object that are JSON already; none if they are empty.
    pub fn members(&mut self, json: &str) -> &mut Self {
        if !json.is_empty() {
            self.literal(json);
        }
        self
    }

    /// Writes a key and a string.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key).string(value);
        self
    }

    /// Writes a key and a number.
    pub fn number(&mut self, key: &str, value: impl Into<u64>) -> &mut Self {
        self.key(key).literal(&value.into().to_string());
        self
    }

    /// Writes a key, and true or false.
    pub fn boolean(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key).literal(if value { "true" } else { "false" });
        self
    }

    /// Writes a key and an array of strings.
    pub fn texts<T: AsRef<str>>(&mut self, key: &str, values: impl IntoIterator<Item = T>) -> &mut Self {
        self.key(key).array(|json| values.into_iter().for_each(|value| json.string(value.as_ref())));
        self
    }

    fn open(&mut self, bracket: char) {
        self.separate();
        self.text.push(bracket);
        self.is_first = true;
    }

    fn close(&mut self, bracket: char) {
        self.text.push(bracket);
        self.is_first = false;
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_nest() {
        let text = Json::document(|json| {
            json.array(|json| {
                json.object(|_| ());
                json.object(|json| {
                    json.text("a", "b").number("c", 7u32).boolean("d", true).boolean("e", false);
                    json.key("f").object(|json| json.key("g").array(|_| ()));
                    json.texts("h", ["i", "j"]).texts("k", [""; 0]);
                });
                json.array(|json| {
                    json.literal("1.5");
                    json.string("l");
                });
            });
        });
        let expected = r#"[{},{"a":"b","c":7,"d":true,"e":false,"f":{"g":[]},"h":["i","j"],"k":[]},[1.5,"l"]]"#;
        assert_eq!(text, format!("{expected}\n"));
    }

    #[test]
    fn strings_and_keys_are_escaped() {
        for (text, escaped) in [
            ("", ""),
            ("plain: ü €, 😀", "plain: ü €, 😀"),
            ("\"quoted\" \\", "\\\"quoted\\\" \\\\"),
            ("\0\t\n\r\u{1b}[2J\u{7f}\u{9b}", "\\u0000\\u0009\\u000a\\u000d\\u001b[2J\\u007f\\u009b"),
            ("\u{2028}\u{202e}\u{feff}", "\\u2028\\u202e\\ufeff"),
        ] {
            assert_eq!(Json::document(|json| json.string(text)), format!("\"{escaped}\"\n"));
            let object = Json::document(|json| json.object(|json| json.key(text).literal("1")));
            assert_eq!(object, format!("{{\"{escaped}\":1}}\n"));
        }
    }
}
