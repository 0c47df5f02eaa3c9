//! What a container has used: its leaf cgroup's own figures, read whole; Documentation/admin-guide/cgroup-v2.rst.
//!
//! One reader, and two ways to print what it has read: for people the figures that time(1) -v would have, for programs
//! everything, under the kernel's own names; and a third for engines, in `stats/runc.rs`. Must not change a cgroup.

#[cfg(feature = "oci")]
mod runc;

use crate::config::Format;
use crate::file::{self, CWD};
use crate::json::Json;
use crate::resources::cgroup::{Leaf, Record};
use crate::text::{has, number};
use std::fmt::Write;

/// The controllers without which there is little to read; cpu.stat and the pressure files need none.
const CONTROLLERS: [&str; 3] = ["memory", "io", "pids"];

/// The files that are read. An older kernel lacks some: memory.peak is of Linux 5.19, memory.swap.peak of 6.5, and
/// pids.peak of 6.6.
const FILES: [&str; 17] = [
    "cpu.stat",
    "cpu.pressure",
    "memory.current",
    "memory.max",
    "memory.peak",
    "memory.swap.current",
    "memory.swap.max",
    "memory.swap.peak",
    "memory.stat",
    "memory.events",
    "memory.pressure",
    "io.stat",
    "io.pressure",
    "pids.current",
    "pids.max",
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

/// Enables the controllers that count. Returns the reasons why some figures will be missing.
pub fn prepare(leaf: &Leaf, record: Record<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    for controller in CONTROLLERS {
        reasons.extend(leaf.enable(controller, Some(record)).err().map(|error| error.to_string()));
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
            Format::Json => Json::document(|json| self.write_json(json, name, Some(elapsed))),
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

    fn text(&self, file: &str) -> Option<&str> {
        self.files.iter().find(|(known, _)| *known == file).map(|(_, text)| &**text)
    }

    /// The value of `key` in `file`: of the line that begins with it; of `LINE.KEY`, the key in that line; of `*.KEY`,
    /// the sum of all lines. An empty key is a file's only value.
    pub fn value(&self, file: &str, key: &str) -> Option<u64> {
        let text = self.text(file)?;
        let lines = || text.lines().filter_map(|line| line.split_once(' '));
        let Some((wanted, key)) = key.split_once('.') else {
            return match key {
                "" => text.trim_ascii_end().parse().ok(),
                _ => lines().find(|(name, _)| *name == key)?.1.parse().ok(),
            };
        };
        // A disk has no line before its first request.
        let mut sum: u64 = 0;
        for (_, rest) in lines().filter(|(name, _)| wanted == "*" || wanted == *name) {
            for field in rest.split(' ').filter_map(|field| field.split_once('=')).filter(|(name, _)| *name == key) {
                sum += number(field.1).unwrap_or(0);
            }
        }
        Some(sum)
    }

    /// A row of `kontena stats`, under [`COLUMNS`]; with the figures of a moment before, and how many microseconds that
    /// was.
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

    /// Writes everything, under the kernel's names; with the time it took, where that is known.
    pub fn write_json(&self, json: &mut Json, name: &str, elapsed: Option<u64>) {
        json.object(|json| {
            json.text("name", name);
            if let Some(elapsed) = elapsed {
                json.number("elapsed_usec", elapsed);
            }
            for (file, text) in &self.files {
                write_file(json.key(file), text);
            }
        });
    }
}

/// Writes a file of one of the shapes that cgroup-v2.rst calls single, flat keyed and nested keyed.
fn write_file(json: &mut Json, text: &str) {
    if !text.is_empty() && !text.bytes().any(|c| c == b' ') {
        return write_scalar(json, text.trim_ascii_end());
    }
    json.object(|json| {
        for (key, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            // A disk that was only looked at has nothing behind its number.
            if rest.is_empty() || has(rest, b'=') {
                json.key(key).object(|json| {
                    let fields = rest.split(' ').filter_map(|field| field.split_once('='));
                    fields.for_each(|(key, value)| write_scalar(json.key(key), value));
                });
            } else {
                write_scalar(json.key(key), rest);
            }
        }
    });
}

/// A number stays one; `max` is a string.
fn write_scalar(json: &mut Json, text: &str) {
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    if is_number { json.literal(text) } else { json.string(text) }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As files of a container with limits have it, on Linux 6.12.
    fn stats(usage: u64) -> Stats {
        let files = [
            ("cpu.stat", format!("usage_usec {usage}\nuser_usec 1500000\nsystem_usec 250999\nnr_periods 0\n")),
            ("cpu.pressure", "some avg10=0.00 avg60=0.12 avg300=0.00 total=1234\nfull avg10=0.00 total=9\n".into()),
            ("memory.current", "1048577\n".into()),
            ("memory.max", "max\n".into()),
            ("memory.stat", "anon 4096\npgfault 70\npgmajfault 7\n".into()),
            ("memory.events", "low 0\nhigh 2\nmax 3\noom 1\noom_kill 1\n".into()),
            (
                "io.stat",
                "8:0 rbytes=1024 wbytes=11534336 rios=1 wios=2 dbytes=0\n8:16 \n254:0 rbytes=1 rios=1\n".into(),
            ),
            ("pids.current", "3\n".into()),
        ];
        Stats { files: files.into() }
    }

    #[test]
    fn values_are_found_in_all_shapes_of_files() {
        for (file, key, value) in [
            ("cpu.stat", "user_usec", Some(1_500_000)),
            ("cpu.stat", "usec", None),
            ("cpu.pressure", "some.total", Some(1234)),
            ("cpu.pressure", "full.total", Some(9)),
            ("memory.current", "", Some(1_048_577)),
            ("memory.max", "", None),
            ("memory.events", "oom", Some(1)),
            ("io.stat", "*.rbytes", Some(1025)),
            ("io.stat", "*.wios", Some(2)),
            ("io.stat", "8:0.rios", Some(1)),
            // A disk has no line before its first request.
            ("io.stat", "9:9.rios", Some(0)),
            ("memory.peak", "", None),
            ("io.pressure", "some.total", None),
        ] {
            assert_eq!(stats(0).value(file, key), value, "{file} {key}");
        }
    }

    #[test]
    fn table_has_a_line_for_each_figure_and_each_reason() {
        let table = stats(0).print(Format::Table, "web", 61_002_999, &["no memory controller".into()]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 1 + ROWS.len() + 1);
        for (line, wanted) in [
            (0, "elapsed                 61.002 s"),
            (1, "CPU time, user          1.500 s"),
            (2, "CPU time, system        0.250 s"),
            (3, "  throttled             -"),
            (4, "  waited for it         0.001 s"),
            (5, "memory, peak            -"),
            (8, "  from a disk           7"),
            (13, "disks, read             2 kB"),
            (14, "  written               11 MB"),
            (19, "not measured: no memory controller"),
        ] {
            assert_eq!(lines.get(line), Some(&wanted), "line {line}");
        }
    }

    #[test]
    fn row_has_a_cell_for_each_column() {
        let now = stats(750_000);
        let cells = ["web", "-", "1025 kB", "-", "-", "2 kB", "11 MB", "3"];
        assert_eq!((now.row("web", None), COLUMNS.len()), (cells.map(String::from).into(), cells.len()));
        for (usage, elapsed, share) in [
            (0, 1_000_000, "75.0 %"),
            (749_000, 1_000_000, "0.1 %"),
            (0, 250_000, "300.0 %"),
            (0, 0, "-"),
            (800_000, 9, "0.0 %"),
        ] {
            let cells = now.row("web", Some((&stats(usage), elapsed)));
            assert_eq!(cells.get(1).map(String::as_str), Some(share));
        }
        let nothing = Stats { files: Vec::new() };
        assert_eq!(nothing.row("web", None), ["web", "-", "-", "-", "-", "-", "-", "-"]);
    }

    #[test]
    fn json_has_everything_under_the_kernels_names() {
        let json = Json::document(|json| stats(7).write_json(json, "web", Some(9)));
        let wanted = concat!(
            r#"{"name":"web","elapsed_usec":9,"#,
            r#""cpu.stat":{"usage_usec":7,"user_usec":1500000,"system_usec":250999,"nr_periods":0},"#,
            r#""cpu.pressure":{"some":{"avg10":0.00,"avg60":0.12,"avg300":0.00,"total":1234},"#,
            r#""full":{"avg10":0.00,"total":9}},"#,
            r#""memory.current":1048577,"memory.max":"max","#,
            r#""memory.stat":{"anon":4096,"pgfault":70,"pgmajfault":7},"#,
            r#""memory.events":{"low":0,"high":2,"max":3,"oom":1,"oom_kill":1},"#,
            r#""io.stat":{"8:0":{"rbytes":1024,"wbytes":11534336,"rios":1,"wios":2,"dbytes":0},"#,
            r#""8:16":{},"254:0":{"rbytes":1,"rios":1}},"#,
            r#""pids.current":3}"#,
        );
        assert_eq!(json, wanted.to_owned() + "\n");
        // A file that has nothing in it, or no value behind a key.
        let files = vec![("io.stat", String::new()), ("memory.peak", "\n".into()), ("cpu.stat", "a b=\n".into())];
        let json = Json::document(|json| Stats { files }.write_json(json, "web", None));
        let wanted = r#"{"name":"web","io.stat":{},"memory.peak":"","cpu.stat":{"a":{"b":""}}}"#;
        assert_eq!(json, wanted.to_owned() + "\n");
    }
}
