//! `kontena VERB --help`, made from the table of options.

use crate::cli::options::{Entry, Kind, Opt};
use crate::cli::table::TOPICS;

/// Columns of a line, and of the names of an option.
const WIDTH: usize = 96;
const MARGIN: usize = 30;

/// The help of a verb.
pub fn of(verb: &Entry) -> String {
    let mut text = format!("Usage: kontena {} [OPTIONS] {}", verb.info.name, verb.usage());
    text.truncate(text.trim_ascii_end().len());
    text += &format!("\n\n{}.\n", verb.info.description);
    if !verb.alias().is_empty() {
        text += &format!("Alias: kontena {}\n", verb.alias());
    }
    if !verb.note().is_empty() {
        text.push('\n');
        wrap(&mut text, 0, 0, verb.note());
    }
    let bit = verb.bit();
    for topic in TOPICS {
        let mut title = format!("\n{}:\n", topic.title);
        for option in topic.options.iter().filter(|option| option.verbs & bit != 0) {
            text += &std::mem::take(&mut title);
            let names = names(option);
            text += &names;
            let column = names.chars().count();
            let fits = column + 2 <= MARGIN;
            if !fits {
                text.push('\n');
            }
            wrap(&mut text, if fits { column } else { 0 }, MARGIN, option.help());
        }
    }
    text += &format!("\nExamples:\n  {}\n", verb.example());
    text
}

/// `  -v, --volume VOLUME`
fn names(option: &Opt) -> String {
    let (name, value) = (option.name(), option.value());
    let short = match option.short {
        0 => "    ".into(),
        letter => format!("-{}, ", letter as char),
    };
    match option.kind {
        Kind::Switch => format!("  {short}--{name}"),
        Kind::Value | Kind::Values => format!("  {short}--{name} {value}"),
        Kind::Optional => format!("  {short}--{name}[={value}]"),
    }
}

/// Adds words to a line that has `column` columns, and to new lines as needed.
fn wrap(text: &mut String, mut column: usize, margin: usize, words: &str) {
    let mut is_first = true;
    for word in words.split(' ') {
        let length = word.chars().count();
        if !is_first && column + 1 + length > WIDTH {
            text.push('\n');
            (column, is_first) = (0, true);
        }
        let blanks = if is_first { margin - column } else { 1 };
        text.extend(std::iter::repeat_n(' ', blanks));
        text.push_str(word);
        column += blanks + length;
        is_first = false;
    }
    text.push('\n');
}
