//! What a container has used: its leaf cgroup's own figures, read whole; Documentation/admin-guide/cgroup-v2.rst.
//!
//! One reader, and two ways to print what it has read: for people the figures that time(1) -v would have, for programs
//! everything, under the kernel's own names. Must not change a cgroup.

use crate::cgroup::{Leaf, Record};
use crate::config::Format;
use crate::file::{self, CWD};
use std::fmt::Write;

/// The controllers without which there is little to read; cpu.stat and the pressure files need none.
const CONTROLLERS: [&str; 3] = ["memory", "io", "pids"];

/// The files that are read. An older kernel lacks some: memory.peak is of Linux 5.19, memory.swap.peak of 6.5, and
/// pids.peak of 6.6.
const FILES: [&str; 14] = [
    "cpu.stat",
    "cpu.pressure",
    "memory.current",
    "memory.max",
    "memory.peak",
    "memory.swap.peak",
    "memory.stat",
    "memory.events",
    "memory.pressure",
    "io.stat",
    "io.pressure",
    "pids.current",
    "pids.peak",
    "cgroup.stat",
];

enum Unit {
    Microseconds,
    Bytes,
    Count,
}

/// What people are shown: its name, the file and the key in it.
const ROWS: [(&str, &str, &str, Unit); 18] = [
    ("CPU time, user", "cpu.stat", "user_usec", Unit::Microseconds),
    ("CPU time, system", "cpu.stat", "system_usec", Unit::Microseconds),
    ("  throttled", "cpu.stat", "throttled_usec", Unit::Microseconds),
    ("  waited for it", "cpu.pressure", "some.total", Unit::Microseconds),
    ("memory, peak", "memory.peak", "", Unit::Bytes),
    ("  swap, peak", "memory.swap.peak", "", Unit::Bytes),
    ("  page faults", "memory.stat", "pgfault", Unit::Count),
    ("  from a disk", "memory.stat", "pgmajfault", Unit::Count),
    ("  times at memory.high", "memory.events", "high", Unit::Count),
    ("  times at memory.max", "memory.events", "max", Unit::Count),
    ("  processes killed", "memory.events", "oom_kill", Unit::Count),
    ("  waited for it", "memory.pressure", "some.total", Unit::Microseconds),
    ("disks, read", "io.stat", "*.rbytes", Unit::Bytes),
    ("  written", "io.stat", "*.wbytes", Unit::Bytes),
    ("  requests to read", "io.stat", "*.rios", Unit::Count),
    ("  requests to write", "io.stat", "*.wios", Unit::Count),
    ("  waited for them", "io.pressure", "some.total", Unit::Microseconds),
    ("processes, peak", "pids.peak", "", Unit::Count),
];

/// The columns of `kontena stats`.
pub const COLUMNS: [&str; 8] = ["NAME", "CPU", "MEMORY", "LIMIT", "PEAK", "READ", "WRITTEN", "PROCESSES"];

/// Sees to it that there will be figures; gives the reasons why there will not.
pub fn prepare(leaf: &Leaf, record: Record<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    for controller in CONTROLLERS {
        reasons.extend(leaf.enable(controller, record).err().map(|error| error.to_string()));
    }
    reasons
}

/// The figures of a moment.
pub struct Stats {
    files: Vec<(&'static str, String)>,
}

impl Stats {
    /// Reads them in the cgroup `path`.
    pub fn read(path: &str) -> Self {
        let mut files = Vec::new();
        for name in FILES {
            if let Ok(bytes) = file::read(CWD, &format!("{path}/{name}")) {
                files.push((name, String::from_utf8(bytes).unwrap_or_default()));
            }
        }
        Self { files }
    }

    /// As `format` has it, with a newline at the end.
    pub fn print(&self, format: Format, name: &str, elapsed: u64, missing: &[String]) -> String {
        match format {
            Format::Table => self.table(elapsed, missing),
            Format::Json => self.as_json(name, Some(elapsed)) + "\n",
        }
    }

    fn table(&self, elapsed: u64, missing: &[String]) -> String {
        let mut text = format!("{:24}{}\n", "elapsed", Unit::Microseconds.display(elapsed));
        for (name, file, keys, unit) in &ROWS {
            let value = self.value(file, keys).map_or_else(|| "-".into(), |value| unit.display(value));
            let _ = writeln!(text, "{name:24}{value}");
        }
        for reason in missing {
            let _ = writeln!(text, "not measured: {reason}");
        }
        text
    }

    /// The value of `key` in `file`: of the line that begins with it; of `LINE.KEY`, the key in that line; of `*.KEY`, the
    /// sum of all lines. An empty key is a file's only value.
    fn value(&self, file: &str, key: &str) -> Option<u64> {
        let (_, text) = self.files.iter().find(|(known, _)| *known == file)?;
        let lines = || text.lines().filter_map(|line| line.split_once(' '));
        let Some((wanted, key)) = key.split_once('.') else {
            return match key {
                "" => text.trim_ascii_end().parse().ok(),
                _ => lines().find(|(name, _)| *name == key)?.1.parse().ok(),
            };
        };
        let fields = lines().filter(|(name, _)| wanted == "*" || wanted == *name).flat_map(|(_, rest)| rest.split(' '));
        let values = fields.filter_map(|field| field.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok());
        // A disk has no line before its first request.
        Some(values.sum())
    }

    /// A row of `kontena stats`, under [`COLUMNS`]; with the figures of a moment before, and how many microseconds that was.
    pub fn row(&self, name: &str, before: Option<(&Self, u64)>) -> Vec<String> {
        let value = |file, key| self.value(file, key);
        let bytes = |file, key| value(file, key).map_or_else(|| "-".into(), |value| Unit::Bytes.display(value));
        let used = |stats: &Self| stats.value("cpu.stat", "usage_usec").unwrap_or(0);
        let share = before.filter(|(_, elapsed)| *elapsed > 0).map(|(before, elapsed)| {
            let permille = used(self).saturating_sub(used(before)) * 1000 / elapsed;
            format!("{}.{} %", permille / 10, permille % 10)
        });
        vec![
            name.into(),
            share.unwrap_or_else(|| "-".into()),
            bytes("memory.current", ""),
            bytes("memory.max", ""),
            bytes("memory.peak", ""),
            bytes("io.stat", "*.rbytes"),
            bytes("io.stat", "*.wbytes"),
            value("pids.current", "").map_or_else(|| "-".into(), |count| count.to_string()),
        ]
    }

    /// Everything, under the kernel's names; with the time it took, where that is known.
    pub fn as_json(&self, name: &str, elapsed: Option<u64>) -> String {
        let mut json = format!("{{\"name\":\"{name}\"");
        if let Some(elapsed) = elapsed {
            let _ = write!(json, ",\"elapsed_usec\":{elapsed}");
        }
        for (file, text) in &self.files {
            let _ = write!(json, ",\"{file}\":");
            // The three shapes that cgroup-v2.rst calls single, flat keyed and nested keyed.
            if !text.is_empty() && !text.bytes().any(|c| c == b' ') {
                json.push_str(&scalar(text.trim_ascii_end()));
                continue;
            }
            object(&mut json, text.lines().filter_map(|line| line.split_once(' ')), |json, rest| {
                // A disk that was only looked at has nothing behind its number.
                if rest.is_empty() || rest.contains('=') {
                    let fields = rest.split(' ').filter_map(|field| field.split_once('='));
                    object(json, fields, |json, value| json.push_str(&scalar(value)));
                } else {
                    json.push_str(&scalar(rest));
                }
            });
        }
        json.push('}');
        json
    }
}

fn object<'a>(json: &mut String, fields: impl Iterator<Item = (&'a str, &'a str)>, value: impl Fn(&mut String, &str)) {
    let mut separator = '{';
    for (key, text) in fields {
        let _ = write!(json, "{separator}\"{key}\":");
        value(json, text);
        separator = ',';
    }
    json.push_str(if separator == '{' { "{}" } else { "}" });
}

/// A number stays one; `max` is a string.
fn scalar(text: &str) -> String {
    let is_number = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    if is_number { text.into() } else { format!("\"{text}\"") }
}

impl Unit {
    fn display(&self, value: u64) -> String {
        match self {
            Self::Microseconds => format!("{}.{:03} s", value / 1_000_000, value / 1_000 % 1_000),
            Self::Bytes if value < 10 << 20 => format!("{} kB", value.div_ceil(1024)),
            Self::Bytes => format!("{} MB", value.div_ceil(1 << 20)),
            Self::Count => value.to_string(),
        }
    }
}
