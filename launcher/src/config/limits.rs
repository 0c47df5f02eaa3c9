//! Limits: what is written to which file of the leaf cgroup; Documentation/admin-guide/cgroup-v2.rst.
//!
//! The options are docker's where docker has one, and `--cgroup-conf` reaches every other file. The table of options
//! (`cli/table.rs`) names them, with what a bad value should have been. Must not touch the system: `cgroup.rs` writes.

use crate::config::weight::weight;
use crate::error::Hint;
use crate::text::{bytes, c_text, number};
use std::ffi::CStr;

/// One line for one file of the leaf cgroup.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name, which begins with its controller's: `memory.max`.
    pub file: &'static str,
    /// What is written.
    pub value: &'static str,
    /// The block device that the value is for, whose number goes before it.
    pub device: Option<&'static CStr>,
    /// A kernel without this file is as good.
    pub if_known: bool,
}

impl Limit {
    /// The controller that has the file; `None` for the files that every cgroup has.
    pub fn controller(&self) -> Option<&str> {
        self.file.split('.').next().filter(|controller| *controller != "cgroup")
    }

    /// Whether it asks for no limit, which a cgroup without the file has anyway.
    pub fn is_none(&self) -> bool {
        self.if_known && self.value == "max"
    }
}

/// What an amount of memory should be.
pub const AMOUNT: Hint = "not an amount of memory: use bytes, or a number followed by k, m or g, for example 64m";
/// What a list of CPUs or memory nodes should be.
pub const LIST: Hint = "not a list: use numbers and ranges, for example 0-2,7";
/// What a rate of a disk should be.
pub const RATE: Hint = "use DEVICE:RATE, for example /dev/sda:1m, with a rate of at least 1";

/// The file of `--pids-limit`, and what is in it unless told otherwise: podman's default. A fork bomb ends there,
/// before the host's own pid_max.
pub const PIDS_MAX: &str = "pids.max";
pub const DEFAULT_PIDS: &str = "2048";

/// The period of cpu.max in microseconds, unless `--cpu-period` says otherwise: the kernel's.
pub const PERIOD: u64 = 100_000;

/// The limits given so far. Each method takes the value of one option, and returns `None` if it makes no sense. The
/// table of options has an option below the one that it goes with.
#[derive(Default)]
pub struct Limits {
    /// The lines to write, in this order.
    pub found: Vec<Limit>,
    has_quota: bool,
}

impl Limits {
    fn push(&mut self, file: &'static str, value: &'static str, device: Option<&str>, if_known: bool) -> Option<()> {
        let device = device.map(c_text).transpose().ok()?;
        self.found.push(Limit { file, value, device, if_known });
        Some(())
    }

    /// The line that an earlier option has added for a file.
    fn line(&mut self, file: &str) -> Option<&mut Limit> {
        self.found.iter_mut().find(|limit| limit.file == file)
    }

    fn text(&mut self, file: &'static str, value: &'static str) -> Option<()> {
        self.push(file, value, None, false)
    }

    fn number(&mut self, file: &'static str, value: u64) -> Option<()> {
        self.push(file, value.to_string().leak(), None, false)
    }

    /// `--memory`. As docker has it: as much swap as memory, where there is any, unless `--memory-swap` says otherwise.
    pub fn memory(&mut self, text: &str) -> Option<()> {
        let max = bytes(text).filter(|max| *max > 0)?;
        self.push("memory.swap.max", max.to_string().leak(), None, true)?;
        self.number("memory.max", max)
    }

    /// `--memory-swap`, of which `--memory` is a part.
    pub fn memory_swap(&mut self, text: &str) -> Option<()> {
        let swap = self.line("memory.swap.max")?;
        let memory = number(swap.value)?;
        swap.if_known = false;
        swap.value = if text == "-1" { "max" } else { bytes(text)?.checked_sub(memory)?.to_string().leak() };
        Some(())
    }

    /// `--memory-reservation`.
    pub fn memory_reservation(&mut self, text: &str) -> Option<()> {
        self.number("memory.low", bytes(text)?)
    }

    /// `--pids-limit`.
    pub fn pids(&mut self, text: &str) -> Option<()> {
        match text {
            "-1" | "0" => self.push(PIDS_MAX, "max", None, true),
            _ => self.number(PIDS_MAX, within(text, 1, u32::MAX.into())?),
        }
    }

    /// `--cpus`.
    pub fn cpus(&mut self, text: &str) -> Option<()> {
        let quota = hundred_thousandths(text).filter(|quota| (1_000..1 << 40).contains(quota))?;
        self.text("cpu.max", format!("{quota} {PERIOD}").leak())
    }

    /// `--cpu-quota`, in place of `--cpus`.
    pub fn cpu_quota(&mut self, text: &str) -> Option<()> {
        self.has_quota = self.line("cpu.max").is_none();
        let quota = if text == "-1" { "max".into() } else { microseconds(text, 1 << 40)?.to_string() };
        self.text("cpu.max", format!("{quota} {PERIOD}").leak()).filter(|()| self.has_quota)
    }

    /// `--cpu-period`, which the line of `--cpu-quota` has.
    pub fn cpu_period(&mut self, text: &str) -> Option<()> {
        let period = microseconds(text, 1_000_000)?;
        let has_quota = self.has_quota;
        let line = self.line("cpu.max").filter(|_| has_quota)?;
        let (quota, _) = line.value.split_once(' ')?;
        line.value = format!("{quota} {period}").leak();
        Some(())
    }

    /// `--cpu-shares`: docker's, of which 1024 are usual, as the kernel's weight, of which 100 is.
    pub fn cpu_shares(&mut self, text: &str) -> Option<()> {
        self.number("cpu.weight", weight(within(text, 2, 262_144)?))
    }

    /// Numbers and ranges of CPUs or memory nodes: List Format, cpuset(7).
    pub fn list(&mut self, file: &'static str, text: &'static str) -> Option<()> {
        let is_range = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            number(first).zip(number(last)).is_some_and(|(first, last)| first <= last)
        };
        self.text(file, text).filter(|()| text.split(',').all(is_range))
    }

    /// A weight is the disk's scheduler's, where that is BFQ, or blk-iocost's, of 1 to 10,000, everywhere else.
    fn weight(&mut self, text: &str, device: Option<&str>) -> Option<()> {
        let weight = within(text, 10, 1_000)?;
        self.push("io.bfq.weight", weight.to_string().leak(), device, true)?;
        self.push("io.weight", io_weight(weight).to_string().leak(), device, false)
    }

    /// `--blkio-weight`.
    pub fn io_weight(&mut self, text: &str) -> Option<()> {
        self.weight(text, None)
    }

    /// `--blkio-weight-device DEVICE:WEIGHT`.
    pub fn io_weight_of(&mut self, text: &str) -> Option<()> {
        let (device, weight) = device(text)?;
        self.weight(weight, Some(device))
    }

    /// `DEVICE:RATE`, under a key of io.max.
    pub fn rate(&mut self, key: &str, text: &str) -> Option<()> {
        let (device, rate) = device(text)?;
        let rate = bytes(rate).filter(|rate| *rate > 0)?;
        self.push("io.max", format!("{key}={rate}").leak(), Some(device), false)
    }

    /// `--cgroup-conf FILE=VALUE`. An amount of memory may have its unit behind it. What cgroups have besides limits
    /// (which processes are in it, say) is not for the command line.
    pub fn conf(&mut self, text: &'static str) -> Option<()> {
        let (file, value) = text.split_once('=')?;
        let (controller, name) = file.split_once('.')?;
        let good = |c: u8| c.is_ascii_alphanumeric() || b"._".contains(&c);
        let is_limit = controller != "cgroup" || name.starts_with("max.");
        if controller.is_empty() || name.is_empty() || !file.bytes().all(good) || !is_limit || value.is_empty() {
            return None;
        }
        match bytes(value) {
            Some(amount) if matches!(controller, "memory" | "hugetlb") => self.number(file, amount),
            _ => self.text(file, value),
        }
    }
}

/// The weight of blk-iocost for one of BFQ.
pub fn io_weight(weight: u64) -> u64 {
    1 + (weight - 10) * 9_999 / 990
}

fn within(text: &str, least: u64, most: u64) -> Option<u64> {
    number(text).filter(|number| (least..=most).contains(number))
}

/// The kernel's least is a millisecond.
fn microseconds(text: &str, most: u64) -> Option<u64> {
    within(text, 1_000, most)
}

/// A decimal number, as 1.5 or 2 or .25, in hundred thousandths.
fn hundred_thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() || !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let mut sum = if whole.is_empty() { 0 } else { number(whole)?.checked_mul(100_000)? };
    let mut unit = 100_000;
    for c in fraction.bytes() {
        unit /= 10;
        sum = sum.checked_add(u64::from(c - b'0') * unit)?;
    }
    Some(sum)
}

/// `DEVICE:VALUE`.
fn device(text: &str) -> Option<(&str, &str)> {
    let colon = text.bytes().rposition(|c| c == b':')?;
    Some((&text[..colon], &text[colon + 1..])).filter(|_| text.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of one option, `FILE=VALUE`, with the device before the value; `None` where it is refused.
    fn lines(set: impl Fn(&mut Limits) -> Option<()>) -> Option<Vec<String>> {
        let mut limits = Limits::default();
        set(&mut limits)?;
        let device = |limit: &Limit| limit.device.as_ref().map_or(String::new(), |path| format!("{path:?} "));
        let line = |limit: &Limit| format!("{}={}{}", limit.file, device(limit), limit.value);
        Some(limits.found.iter().map(line).collect())
    }

    #[track_caller]
    fn check(
        set: impl Fn(&mut Limits, &'static str) -> Option<()>,
        good: &[(&'static str, &[&str])],
        bad: &[&'static str],
    ) {
        for (text, wanted) in good {
            let lines = lines(|limits| set(limits, text)).unwrap_or_default();
            assert_eq!(lines, *wanted, "{text:?}");
        }
        for text in bad {
            assert_eq!(lines(|limits| set(limits, text)), None, "{text:?}");
        }
    }

    #[test]
    fn memory_is_in_bytes_and_as_much_again_of_swap() {
        let good: [(&str, &[&str]); 2] = [
            ("1", &["memory.swap.max=1", "memory.max=1"]),
            ("64M", &["memory.swap.max=67108864", "memory.max=67108864"]),
        ];
        check(Limits::memory, &good, &["", "0", "-1", "x", "1.5g", "99999999t"]);
        check(Limits::memory_reservation, &[("0", &["memory.low=0"]), ("1k", &["memory.low=1024"])], &["", "-1"]);
        let with_swap = |limits: &mut Limits, text: &str| limits.memory("64m").and_then(|()| limits.memory_swap(text));
        let good: [(&str, &[&str]); 3] = [
            ("64m", &["memory.swap.max=0", "memory.max=67108864"]),
            ("65m", &["memory.swap.max=1048576", "memory.max=67108864"]),
            ("-1", &["memory.swap.max=max", "memory.max=67108864"]),
        ];
        check(with_swap, &good, &["", "0", "63m", "-2", "x"]);
        check(Limits::memory_swap, &[], &["64m", "-1"]);
        // A kernel without swap is no reason to refuse --memory; it is one for --memory-swap.
        let mut limits = Limits::default();
        let if_known = |limits: &Limits| limits.found.iter().map(|limit| limit.if_known).collect::<Vec<_>>();
        assert_eq!((limits.memory("1m"), if_known(&limits)), (Some(()), vec![true, false]));
        assert_eq!((limits.memory_swap("2m"), if_known(&limits)), (Some(()), vec![false, false]));
    }

    #[test]
    fn processes_are_counted_or_not_limited() {
        let max: &[&str] = &["pids.max=max"];
        let good: [(&str, &[&str]); 4] =
            [("-1", max), ("0", max), ("1", &["pids.max=1"]), ("4294967295", &["pids.max=4294967295"])];
        check(Limits::pids, &good, &["", "-2", "x", "1.5", "4294967296"]);
        // Without a limit, the controller is not needed.
        for (set, text, is_none) in [
            (Limits::pids as fn(&mut Limits, &'static str) -> Option<()>, "-1", true),
            (Limits::pids, "0", true),
            (Limits::pids, "7", false),
            (Limits::memory, "1m", false),
            (Limits::conf, "pids.max=max", false),
            (Limits::cpu_quota, "-1", false),
        ] {
            let mut limits = Limits::default();
            assert_eq!(set(&mut limits, text), Some(()));
            assert_eq!(limits.found.iter().all(Limit::is_none), is_none, "{:?}", limits.found);
        }
    }

    #[test]
    fn cpu_time_is_a_quota_of_a_period() {
        let good: [(&str, &[&str]); 6] = [
            ("0.01", &["cpu.max=1000 100000"]),
            (".25", &["cpu.max=25000 100000"]),
            ("1.", &["cpu.max=100000 100000"]),
            ("1.5", &["cpu.max=150000 100000"]),
            ("0.0123456789", &["cpu.max=1234 100000"]),
            ("64", &["cpu.max=6400000 100000"]),
        ];
        check(
            Limits::cpus,
            &good,
            &["", ".", "0", "0.001", "-1", "1e3", "1.5.2", "1,5", "10995117", "99999999999999999999"],
        );
        let good: [(&str, &[&str]); 2] = [("1000", &["cpu.max=1000 100000"]), ("-1", &["cpu.max=max 100000"])];
        check(Limits::cpu_quota, &good, &["", "999", "-2", "1099511627777"]);
        let with_cpus = |limits: &mut Limits, text: &str| limits.cpus("1").and_then(|()| limits.cpu_quota(text));
        check(with_cpus, &[], &["1000", "-1"]);
        let with_quota =
            |limits: &mut Limits, text: &str| limits.cpu_quota("5000").and_then(|()| limits.cpu_period(text));
        let good: [(&str, &[&str]); 2] = [("1000", &["cpu.max=5000 1000"]), ("1000000", &["cpu.max=5000 1000000"])];
        check(with_quota, &good, &["", "999", "1000001"]);
        check(Limits::cpu_period, &[], &["20000"]);
        let good: [(&str, &[&str]); 4] = [
            ("2", &["cpu.weight=1"]),
            ("1024", &["cpu.weight=100"]),
            ("2048", &["cpu.weight=174"]),
            ("262144", &["cpu.weight=10000"]),
        ];
        check(Limits::cpu_shares, &good, &["", "1", "262145", "x"]);
    }

    #[test]
    fn cpus_and_nodes_are_lists_of_ranges() {
        let list = |limits: &mut Limits, text: &'static str| limits.list("cpuset.cpus", text);
        let good: [(&str, &[&str]); 3] =
            [("0", &["cpuset.cpus=0"]), ("0-2,7", &["cpuset.cpus=0-2,7"]), ("3-3", &["cpuset.cpus=3-3"])];
        check(list, &good, &["", ",", "0,", "1-", "-1", "2-1", "0-2-4", "x", "0 1"]);
    }

    #[test]
    fn weights_of_disks_are_for_both_that_share_by_them() {
        let good: [(&str, &[&str]); 3] = [
            ("10", &["io.bfq.weight=10", "io.weight=1"]),
            ("100", &["io.bfq.weight=100", "io.weight=910"]),
            ("1000", &["io.bfq.weight=1000", "io.weight=10000"]),
        ];
        check(Limits::io_weight, &good, &["", "9", "1001", "x"]);
        let good: [(&str, &[&str]); 1] =
            [("/dev/sda:10", &["io.bfq.weight=\"/dev/sda\" 10", "io.weight=\"/dev/sda\" 1"])];
        check(Limits::io_weight_of, &good, &["", "10", "sda:10", "/dev/sda", "/dev/sda:", "/dev/sda:9"]);
        let rate = |limits: &mut Limits, text: &str| limits.rate("rbps", text);
        let good: [(&str, &[&str]); 2] = [
            ("/dev/sda:1m", &["io.max=\"/dev/sda\" rbps=1048576"]),
            // A path may have a colon itself.
            ("/dev/disk/a:b:7", &["io.max=\"/dev/disk/a:b\" rbps=7"]),
        ];
        check(rate, &good, &["", "1m", ":1m", "sda:1m", "/dev/sda", "/dev/sda:", "/dev/sda:0", "/dev/sda:-1"]);
    }

    #[test]
    fn other_files_of_a_cgroup_are_limits_and_nothing_else() {
        let good: [(&str, &[&str]); 6] = [
            ("memory.high=48m", &["memory.high=50331648"]),
            ("memory.high=max", &["memory.high=max"]),
            ("hugetlb.2MB.max=4m", &["hugetlb.2MB.max=4194304"]),
            ("cpu.max=5000 10000", &["cpu.max=5000 10000"]),
            ("pids.max=4k", &["pids.max=4k"]),
            ("cgroup.max.depth=1", &["cgroup.max.depth=1"]),
        ];
        let bad = [
            "",
            "memory.high",
            "memory.high=",
            "memory=1",
            ".high=1",
            "memory.=1",
            "cgroup.procs=1",
            "cgroup.kill=1",
            "cgroup.subtree_control=+cpu",
            "../a.b=1",
            "/a.b=1",
            "a b.c=1",
        ];
        check(Limits::conf, &good, &bad);
    }

    #[test]
    fn controller_of_a_file_is_before_its_first_dot() {
        let controller = |text| {
            let mut limits = Limits::default();
            limits.conf(text)?;
            limits.found.first()?.controller().map(String::from)
        };
        assert_eq!(controller("io.bfq.weight=1").as_deref(), Some("io"));
        assert_eq!(controller("memory.high=1").as_deref(), Some("memory"));
        assert_eq!(controller("cgroup.max.depth=1"), None);
    }
}
