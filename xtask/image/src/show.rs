//! `kontena-image show FILE`: what an image asks for.

use crate::config::{self, BLOCK, MAGIC};
use crate::write::beside;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The words of the file or directory at `path`.
pub fn words(path: &Path) -> Result<Vec<String>> {
    let read = || {
        if path.is_dir() {
            let beside = beside(path, ".image-config");
            let bundles = path.join("rootfs.image-config");
            let file = if beside.exists() { beside } else { bundles };
            return config::decode(&fs::read(&file).with_context(|| file.display().to_string())?);
        }
        let file = crate::image::open(path)?;
        ensure!(file.metadata()?.is_file(), "it is not a regular file");
        let offset = end_of_file_system(&file)?;
        let mut head = [0; 12];
        let _ = file.read_at(&mut head, offset)?;
        ensure!(head.starts_with(MAGIC), "it has no config of an image");
        let length = head.last_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
        ensure!(offset + 12 + length <= file.metadata()?.len(), "it ends early");
        let mut bytes = vec![0; 12 + usize::try_from(length)?];
        file.read_exact_at(&mut bytes, offset)?;
        config::decode(&bytes)
    };
    read().with_context(|| path.display().to_string())
}

/// Where the file system of an image ends.
fn end_of_file_system(file: &File) -> Result<u64> {
    let mut block = Vec::new();
    let _ = Read::take(file, BLOCK).read_to_end(&mut block)?;
    let number = |at: usize| block.get(at..).and_then(|rest| rest.first_chunk()).copied();
    if block.starts_with(b"hsqs") {
        let used = block.get(40..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        return used.checked_next_multiple_of(BLOCK).context("its file system is damaged");
    }
    if number(1024) == Some(0xe0f5_e1e2_u32.to_le_bytes()) {
        let blocks = u64::from(number(1024 + 36).map_or(0, u32::from_le_bytes));
        let bits = block.get(1024 + 12).copied().filter(|bits| *bits <= 16).context("its file system is damaged")?;
        return Ok(blocks << bits);
    }
    bail!("it is neither erofs nor squashfs")
}

/// A line for each word, or a JSON object: options by their names, each a list, and `cmd`.
pub fn print(words: &[String], format: &str) -> Result<String> {
    match format {
        "table" => Ok(table(words)),
        "json" => Ok(serde_json::to_string_pretty(&json(words))? + "\n"),
        _ => bail!("--format wants table or json, not {format:?}"),
    }
}

fn options(words: &[String]) -> (Vec<(&str, &str)>, &[String]) {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (options, command) = words.split_at(end);
    let split = |word: &str| -> Option<(usize, usize)> { word.find('=').map(|at| (at, at + 1)) };
    let option = |word: &'_ String| -> (usize, usize) { split(word).unwrap_or((word.len(), word.len())) };
    let pairs = options.iter().map(|word| {
        let (end, start) = option(word);
        (word.get(2..end).unwrap_or_default(), word.get(start..).unwrap_or_default())
    });
    (pairs.collect(), command.get(1..).unwrap_or_default())
}

fn table(words: &[String]) -> String {
    let (options, command) = options(words);
    let command = serde_json::to_string(command).unwrap_or_default();
    let lines = options.into_iter().chain([("cmd", command.as_str())]).map(|(name, value)| {
        let value: String =
            value.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
        format!("{name:20} {value}").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn json(words: &[String]) -> Value {
    let (options, command) = options(words);
    let mut object = Map::new();
    for (name, value) in options {
        let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(value.into());
        }
    }
    let _ = object.insert("cmd".into(), command.into());
    Value::Object(object)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn config_is_shown() {
        let words = ["--entrypoint=[\"/x\"]", "--env=A=b\x1b", "--env=C=", "--no-healthcheck", "--", "a", "b c"];
        let words = words.map(str::to_owned);
        let table = print(&words, "table").unwrap();
        assert!(table.contains("entrypoint           [\"/x\"]\n") && table.contains("A=b\\u{1b}\n"), "{table}");
        assert!(table.ends_with("cmd                  [\"a\",\"b c\"]\n"), "{table}");
        let json: Value = serde_json::from_str(&print(&words, "json").unwrap()).unwrap();
        assert_eq!((&json["env"][1], &json["cmd"][1]), (&"C=".into(), &"b c".into()));
        assert!(print(&words, "xml").is_err());
    }
}
