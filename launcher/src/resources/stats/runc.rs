//! The figures of a container as `runc events` has them, which engines and their monitors read.
//!
//! Times are nanoseconds. What the kernel does not count is left out.

use super::{Stats, write_file};
use crate::json::Json;
use crate::text::number;

/// A key of an object, the file that has it, the key in that, and how many of it are one there.
type Row = (&'static str, &'static str, &'static str, u64);

const USAGE: &[Row] = &[
    ("total", "cpu.stat", "usage_usec", 1000),
    ("kernel", "cpu.stat", "system_usec", 1000),
    ("user", "cpu.stat", "user_usec", 1000),
];
const THROTTLING: &[Row] = &[
    ("periods", "cpu.stat", "nr_periods", 1),
    ("throttledPeriods", "cpu.stat", "nr_throttled", 1),
    ("throttledTime", "cpu.stat", "throttled_usec", 1000),
];
const PIDS: &[Row] = &[("current", "pids.current", "", 1), ("limit", "pids.max", "", 1)];
const CACHE: &[Row] = &[("cache", "memory.stat", "file", 1)];
const MEMORY: &[Row] = &[("max", "memory.peak", "", 1), ("failcnt", "memory.events", "max", 1)];

impl Stats {
    /// Writes the members of its `data`.
    pub fn write_as_runc(&self, json: &mut Json) {
        json.key("cpu").object(|json| {
            json.key("usage").object(|json| self.write_rows(json, USAGE));
            json.key("throttling").object(|json| self.write_rows(json, THROTTLING));
        });
        json.key("memory").object(|json| {
            self.write_rows(json, CACHE);
            let of = |file| self.value(file, "");
            if let Some(used) = of("memory.current") {
                let limit = of("memory.max").unwrap_or(u64::MAX);
                json.key("usage").object(|json| {
                    json.number("limit", limit).number("usage", used);
                    self.write_rows(json, MEMORY);
                });
                // Of memory and swap together.
                if let Some(swap) = of("memory.swap.current") {
                    let limit = of("memory.swap.max").map_or(u64::MAX, |swap| limit.saturating_add(swap));
                    json.key("swap").object(|json| {
                        json.number("limit", limit).number("usage", used + swap);
                    });
                }
            }
            if let Some(text) = self.text("memory.stat") {
                write_file(json.key("raw"), text);
            }
        });
        json.key("pids").object(|json| self.write_rows(json, PIDS));
        json.key("blkio").object(|json| {
            self.write_disks(json, "ioServiceBytesRecursive", [("rbytes", "Read"), ("wbytes", "Write")]);
            self.write_disks(json, "ioServicedRecursive", [("rios", "Read"), ("wios", "Write")]);
        });
    }

    fn write_rows(&self, json: &mut Json, rows: &[Row]) {
        for (key, file, name, unit) in rows {
            if let Some(value) = self.value(file, name) {
                json.number(key, value * unit);
            }
        }
    }

    /// An object for each disk and operation; a line of io.stat is `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N …`.
    fn write_disks(&self, json: &mut Json, key: &str, operations: [(&str, &str); 2]) {
        json.key(key).array(|json| {
            for (disk, rest) in self.text("io.stat").unwrap_or_default().lines().filter_map(|line| line.split_once(' '))
            {
                let Some((major, minor)) = disk.split_once(':') else { continue };
                for (name, value) in rest.split(' ').filter_map(|field| field.split_once('=')) {
                    let Some((_, operation)) = operations.iter().find(|(known, _)| *known == name) else { continue };
                    let [major, minor, value] = [major, minor, value].map(|text| number(text).unwrap_or(0));
                    json.object(|json| {
                        json.number("major", major).number("minor", minor).text("op", operation).number("value", value);
                    });
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_runcs() {
        let files = [
            ("cpu.stat", "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 0\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "20\n"),
            ("memory.stat", "anon 7\nfile 8\n"),
            ("memory.events", "max 3\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=1024 wbytes=2 rios=1 wios=0\n8:16 \n"),
        ];
        let stats = Stats { files: files.map(|(name, text)| (name, text.to_owned())).into() };
        let json = Json::document(|json| json.object(|json| stats.write_as_runc(json)));
        let wanted = concat!(
            r#"{"cpu":{"usage":{"total":9000,"kernel":4000,"user":5000},"throttling":{"periods":0}},"#,
            r#""memory":{"cache":8,"usage":{"limit":18446744073709551615,"usage":4096,"failcnt":3},"#,
            r#""swap":{"limit":18446744073709551615,"usage":4106},"raw":{"anon":7,"file":8}},"#,
            r#""pids":{"current":3},"#,
            r#""blkio":{"ioServiceBytesRecursive":[{"major":8,"minor":0,"op":"Read","value":1024},"#,
            r#"{"major":8,"minor":0,"op":"Write","value":2}],"ioServicedRecursive":["#,
            r#"{"major":8,"minor":0,"op":"Read","value":1},{"major":8,"minor":0,"op":"Write","value":0}]}}"#,
        );
        assert_eq!(json, wanted.to_owned() + "\n");
        let json = Json::document(|json| json.object(|json| Stats { files: Vec::new() }.write_as_runc(json)));
        assert!(json.starts_with(r#"{"cpu":{"usage":{},"throttling":{}},"memory":{},"pids":{},"#), "{json}");
    }
}
