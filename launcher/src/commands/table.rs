//! Tables for people.
//!
//! Must not know what is in them.

use crate::gather::Gather;
use crate::text::printable;
use std::iter::repeat_n;

/// Rows as columns, each as wide as its widest cell, the last as it is.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).into()).list()] }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The text, a line each.
    pub fn print(&self) -> String {
        let mut widths = vec![0; self.rows.first().map_or(0, Vec::len)];
        for row in &self.rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line += cell;
                // format! pads to 65,535 characters at most, and thousands of published ports are a wider cell.
                line.extend(repeat_n(' ', width + 2 - cell.chars().count()));
            }
            text += line.trim_ascii_end();
            text.push('\n');
        }
        text
    }
}

/// The first `length` characters, as a terminal shows them: a longer text ends with `…`.
pub fn shorten(text: &str, length: usize) -> String {
    let text = printable(text);
    let mut short: String = text.chars().take(length).collect();
    if text.chars().count() > length {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cells() {
        let mut table = Table::new(&["NAME", "PID", "COMMAND"]);
        table.add(vec!["a".into(), "12345".into(), "sh".into()]);
        table.add(vec!["längerer".into(), "-".into(), String::new()]);
        assert_eq!(table.print(), "NAME      PID    COMMAND\na         12345  sh\nlängerer  -\n");
    }

    #[test]
    fn cell_can_be_of_any_width() {
        let ports = "x".repeat(100_000);
        let mut table = Table::new(&["PORTS", "COMMAND"]);
        table.add(vec![ports.clone(), "sh".into()]);
        assert_eq!(table.print(), format!("PORTS{}COMMAND\n{ports}  sh\n", " ".repeat(99_997)));
    }

    #[test]
    fn long_text_ends_with_an_ellipsis() {
        for (text, short) in [("", ""), ("abcd", "abcd"), ("abcde", "abc…"), ("a\nb", "a\\x…"), ("üüüüü", "üüü…")]
        {
            assert_eq!(shorten(text, 4), short);
        }
    }
}
