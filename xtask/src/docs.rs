//! Tests of what people read: the files and items that are named exist, and lines of code fit a screen.

use crate::host;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// Columns of a line of code, strings and comments included; rustfmt leaves those alone.
const WIDTH: usize = 120;

/// Directories with nothing of the project's own in them.
const OUTPUT: [&str; 2] = ["target", "dist"];

/// A file of the project: its path from the project's root, and its text.
struct File {
    path: String,
    text: String,
}

/// The files whose names end so.
fn files(endings: &[&str]) -> Result<Vec<File>> {
    let (mut files, mut directories) = (Vec::new(), vec![host::root()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_ours = !name.starts_with('.') && !OUTPUT.contains(&&*name);
            if entry.file_type()?.is_dir() && is_ours {
                directories.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                files.push(File { path: path.strip_prefix(host::root())?.to_string_lossy().into_owned(), text });
            }
        }
    }
    Ok(files)
}

/// The names of source files in a text, with the item that is named behind `::`.
fn names(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    text.split(move |c| !is_part(c)).filter_map(|word| {
        let (path, item) = word.split_once("::").map_or((word, None), |(path, rest)| (path, Some(rest)));
        let path = path.trim_end_matches(['.', ':']);
        (path.len() > 3 && path.ends_with(".rs") && !path.contains("//")).then_some((path, item))
    })
}

/// Whether a name, which may leave out the first directories, is a file's.
fn is_called(file: &File, name: &str) -> bool {
    let name = name.trim_start_matches("../");
    file.path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// What a reader is shown: all of a page, and the comments of a program.
fn prose(file: &File) -> Vec<(usize, &str)> {
    let is_program = file.path.ends_with(".rs");
    let comment = |line| if is_program { str::split_once(line, "//").map(|(_, comment)| comment) } else { Some(line) };
    (1..).zip(file.text.lines()).filter_map(|(number, line)| Some((number, comment(line)?))).collect()
}

#[test]
fn files_and_items_that_are_named_exist() -> Result<()> {
    let known = files(&[".rs"])?;
    let mut missing = Vec::new();
    for file in files(&[".md", ".rs"])?.iter().filter(|file| !file.path.ends_with("CHANGELOG.md")) {
        for (number, line) in prose(file) {
            for (name, item) in names(line) {
                let declares = |file: &File, item| {
                    ["fn", "struct", "enum", "const"].iter().any(|kind| file.text.contains(&format!("{kind} {item}")))
                };
                let is_it = |file: &File| is_called(file, name) && item.is_none_or(|item| declares(file, item));
                if !known.iter().any(is_it) {
                    missing.push(format!("{}:{number}: {name} {}", file.path, item.unwrap_or_default()));
                }
            }
        }
    }
    ensure!(missing.is_empty(), "named, and not there:\n{}", missing.join("\n"));
    Ok(())
}

#[test]
fn tests_that_the_page_on_security_names_exist() -> Result<()> {
    let code: String = files(&[".rs"])?.into_iter().map(|file| file.text).collect();
    let page = files(&["security.md"])?;
    let names = page.iter().flat_map(|page| page.text.split('`').skip(1).step_by(2));
    // A test's name is a sentence.
    let is_test =
        |name: &&str| name.matches('_').count() > 1 && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    let names: Vec<&str> = names.filter(is_test).collect();
    ensure!(names.len() > 100, "only {} tests are named", names.len());
    let missing: Vec<_> = names.into_iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    ensure!(missing.is_empty(), "named, and not there:\n{}", missing.join("\n"));
    Ok(())
}

#[test]
fn lines_of_code_fit_a_screen() -> Result<()> {
    let mut long = Vec::new();
    for File { path, text } in files(&[".rs", ".toml", ".sh", ".c"])? {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| line.chars().count() > WIDTH);
        long.extend(lines.map(|(number, _)| format!("{path}:{number}")));
    }
    ensure!(long.is_empty(), "more than {WIDTH} columns:\n{}", long.join("\n"));
    Ok(())
}

/// Of a line of Markdown, the paths in backticks, but for those of the kernel and of a container.
fn quoted_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|text| {
        let of_ours = ["docs/", "init/", "launcher/", "tests/", "xtask/"];
        of_ours.iter().any(|directory| text.starts_with(directory)) && !text.contains([' ', '*'])
    })
}

#[test]
fn paths_in_the_documents_exist() -> Result<()> {
    let mut missing = Vec::new();
    for file in files(&[".md"])?.iter().filter(|file| !file.path.ends_with("CHANGELOG.md")) {
        for (number, line) in prose(file) {
            for path in quoted_paths(line) {
                let path = path.split_once("::").map_or(path, |(path, _)| path);
                if !host::root().join(Path::new(path)).exists() {
                    missing.push(format!("{}:{number}: {path}", file.path));
                }
            }
        }
    }
    ensure!(missing.is_empty(), "named, and not there:\n{}", missing.join("\n"));
    Ok(())
}

/// The sentences and clauses of a text, with the line on which their paragraph begins.
fn clauses(file: &File) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, usize, String)> = Vec::new();
    for (number, line) in prose(file) {
        let text = line.trim_start_matches(['/', '!', ' ', '-']).trim_end();
        match paragraphs.last_mut() {
            Some((_, last, all)) if *last + 1 == number && !text.is_empty() && !text.starts_with('|') => {
                *last = number;
                all.extend([" ", text]);
            }
            _ => paragraphs.push((number, number, text.into())),
        }
    }
    let split = |text: String| {
        let ends = [". ", "? ", "; ", ": ", "| "];
        ends.iter().fold(text, |text, end| text.replace(end, &format!("{}\n", end.trim_end())))
    };
    let all = paragraphs.into_iter().map(|(first, _, text)| (first, split(text)));
    all.flat_map(|(first, text)| text.lines().map(|clause| (first, clause.to_owned())).collect::<Vec<_>>()).collect()
}

/// The words in a clause that CONTRIBUTING.md lists as a mistake, where that is certain: a "who" without a noun,
/// "gives" for returns, and "is to be".
fn mistake(clause: &str) -> Option<String> {
    let words: Vec<&str> = clause.split_whitespace().collect();
    let is_headless = |word: &str| matches!(word, "Who" | "who" | "Whoever" | "whoever");
    if words.len() > 1 && is_headless(words[0]) && !clause.ends_with(['?', ':']) {
        return Some(words[..2].join(" "));
    }
    let is_bad = |three: &&[&str]| match **three {
        ["for" | "from" | "of" | "than" | "with", who, _] => is_headless(who),
        [before, "gives", "its" | "the" | "that" | "what"] => before == "and" || before.ends_with([',', ';']),
        ["is" | "are" | "was" | "were", "to", "be"] => true,
        _ => false,
    };
    words.windows(3).find(is_bad).map(|words| words.join(" "))
}

#[test]
fn documents_help_and_comments_are_in_plain_english() -> Result<()> {
    let mut found = Vec::new();
    for file in files(&[".md", ".rs"])? {
        for (number, clause) in clauses(&file) {
            let Some(words) = mistake(&clause) else { continue };
            // The table of mistakes itself has them all.
            let line = file.text.lines().nth(number - 1).unwrap_or_default();
            if file.path != "CONTRIBUTING.md" || !line.starts_with('|') {
                found.push(format!("{}:{number}: {words}", file.path));
            }
        }
    }
    ensure!(found.is_empty(), "say it in plain English; see CONTRIBUTING.md:\n{}", found.join("\n"));
    Ok(())
}
