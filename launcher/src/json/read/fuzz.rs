//! Real config.json files with mistakes, read by this reader and by serde_json: both take the same texts, and find the
//! same values in them.

use super::*;
use serde_json::Value as Known;

/// A generator of numbers that is the same each time; xorshift.
pub struct Random(pub u64);

impl Random {
    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    /// One of some.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// How often something is tried: more by `KONTENA_FUZZ_ROUNDS`.
pub fn rounds(usual: usize) -> usize {
    std::env::var("KONTENA_FUZZ_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

/// Files of engines.
pub const CONFIGS: [&str; 5] = [
    include_str!("../../../../tests/configs/podman4-run.json"),
    include_str!("../../../../tests/configs/podman4-userns.json"),
    include_str!("../../../../tests/configs/podman5-run.json"),
    include_str!("../../../../tests/configs/ctr16-run.json"),
    include_str!("../../../../tests/configs/cri16-container.json"),
];

/// What a text is most likely to be wrong, or odd, with.
const PIECES: [&[u8]; 42] = [
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud83d",
    b"\\ude00",
    b"\\ud83d\\ude00",
    b"\\u0000",
    b"\\n",
    b"\\x",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"-",
    b"-0",
    b"01",
    b"1e5",
    b"1E+05",
    b"1.",
    b".5",
    b"1.50",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"null",
    b"true",
    b"nul",
    b"\0",
    b"\x1f",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xc3\xa4",
    b"\xe2\x82\xac",
    b" ",
    b"\n",
    b"\"a\":1,",
    b"[[[[[[[[[[",
];

/// Changes a text in a few places.
fn mutate(text: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(text.len());
        let end = (at + random.below(12)).min(text.len());
        match random.below(5) {
            0 => text[at] ^= 1 << random.below(8),
            1 => drop(text.drain(at..end)),
            2 => drop(text.splice(at..at, random.one_of(&PIECES).iter().copied())),
            3 => drop(text.splice(at..end, random.one_of(&PIECES).iter().copied())),
            _ => {
                let copy = text[at..end].to_vec();
                let to = random.below(text.len());
                text.splice(to..to, copy);
            }
        }
        if text.is_empty() {
            text.push(b'0');
        }
    }
}

/// How deeply a value is nested.
fn depth(value: &Known) -> usize {
    match value {
        Known::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Known::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether both have found the same. Numbers of 64 bits are compared as such, and others as serde_json has them: a
/// floating point, which it does not round to the last bit.
fn is_same(ours: &Value<'_>, known: &Known) -> bool {
    match (ours, known) {
        (Value::Null, Known::Null) => true,
        (Value::Boolean(ours), Known::Bool(known)) => ours == known,
        (Value::Number(digits), Known::Number(known)) => match (known.as_u64(), known.as_i64()) {
            (Some(known), _) => digits.parse() == Ok(known),
            (_, Some(known)) => digits.parse() == Ok(known),
            _ => {
                let (ours, known): (f64, f64) = (digits.parse().unwrap(), known.as_f64().unwrap());
                (ours - known).abs() <= known.abs() * 1e-15
            }
        },
        (Value::Text(ours), Known::String(known)) => ours == known,
        (Value::Array(ours), Known::Array(known)) => {
            ours.len() == known.len() && ours.iter().zip(known).all(|(ours, known)| is_same(ours, known))
        }
        (Value::Object(ours), Known::Object(known)) => {
            // Of two with one name, the last counts.
            let last = |name: &str| ours.iter().rfind(|(known, _)| *known == name);
            ours.iter().all(|(name, _)| known.contains_key(*name))
                && known.iter().all(|(name, known)| last(name).is_some_and(|(_, ours)| is_same(ours, known)))
        }
        _ => false,
    }
}

/// Compares both readers of a text; returns whether it is JSON. Two differences are meant: serde_json nests twice as
/// deeply, and refuses a number that is too large for a floating point, which here is an error where it is looked at.
fn compare(text: &[u8]) -> bool {
    let shown = || String::from_utf8_lossy(text).into_owned();
    match (parse(text), serde_json::from_slice::<Known>(text)) {
        (Ok(ours), Ok(known)) => {
            assert!(is_same(&ours, &known), "{}", shown());
            true
        }
        (Err(_), Err(_)) => false,
        (Ok(_), Err(error)) => {
            assert!(error.to_string().starts_with("number out of range"), "serde_json: {error}: {}", shown());
            false
        }
        (Err(error), Ok(known)) => {
            assert!(error.ends_with("nested too deeply") && depth(&known) > DEPTH, "{error}: {}", shown());
            false
        }
    }
}

#[test]
fn mutated_files_are_read_as_serde_json_reads_them() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut good, all) = (0, rounds(3000));
    for round in 0..all {
        let mut text = CONFIGS[round % CONFIGS.len()].as_bytes().to_vec();
        mutate(&mut text, &mut random);
        good += usize::from(compare(&text));
    }
    // It would show little if nearly all of them were good, or bad.
    assert!((all / 10..all * 9 / 10).contains(&good), "{good} of {all} are JSON");
}

#[test]
fn short_texts_are_read_as_serde_json_reads_them() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut good, all) = (0, rounds(200_000));
    for _ in 0..all {
        let mut text = Vec::new();
        for _ in 0..=random.below(7) {
            text.extend_from_slice(random.one_of(&PIECES));
        }
        if random.below(2) == 0 {
            text = [&b"[\""[..], &text, b"\"]"].concat();
        }
        good += usize::from(compare(&text));
    }
    assert!(good > all / 100, "{good} of {all} are JSON");
}

#[test]
fn nesting_has_a_limit() {
    for (depth, is_read) in [(DEPTH, true), (DEPTH + 1, false), (100_000, false)] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = [&open.repeat(depth), "1", &close.repeat(depth)].concat();
            assert_eq!(parse(text.as_bytes()).is_ok(), is_read, "{depth}");
        }
    }
}
