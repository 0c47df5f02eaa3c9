//! Limits: what is written to which file of the leaf cgroup; Documentation/admin-guide/cgroup-v2.rst.
//!
//! The options are docker's where docker has one, and `--cgroup-conf` reaches every other file. Every option of this file
//! gives lines to write or one clear line of what it wanted. Must not touch the system: `cgroup.rs` writes.

use crate::config::{bytes, number, wrong};
use crate::error::Result;
use std::ffi::CString;

/// One line for one file of the leaf cgroup.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name, which begins with its controller's: `memory.max`.
    pub file: String,
    /// What is written.
    pub value: String,
    /// The block device that the value is for, whose number goes before it.
    pub device: Option<CString>,
    /// A kernel without this file is as good.
    pub if_known: bool,
}

impl Limit {
    /// The controller that has the file; `None` for the files that every cgroup has.
    pub fn controller(&self) -> Option<&str> {
        self.file.split('.').next().filter(|controller| *controller != "cgroup")
    }
}

/// An option: its name, what becomes of its text, and what is said where that makes no sense.
type LimitOption = (&'static str, fn(&str, &mut Limits<'_>) -> Option<()>, &'static str);

/// All of them, in the order in which they are written.
const OPTIONS: [LimitOption; 17] = [
    ("--memory", memory, AMOUNT),
    (
        "--memory-swap",
        memory_swap,
        "not an amount of memory and swap: give --memory, and here as much or more, or -1 for no limit of swap",
    ),
    ("--memory-reservation", |text, limits| limits.number("memory.low", bytes(text)?), AMOUNT),
    ("--pids-limit", pids, "not a number of processes: give 1 or more, or -1 for no limit"),
    ("--cpus", cpus, "not a number of CPUs: give 0.01 or more, as 1.5, and no --cpu-quota beside it"),
    (
        "--cpu-quota",
        cpu_quota,
        "not a time: give 1000 or more microseconds of each --cpu-period, which is 1000 to 1000000, or -1",
    ),
    (
        "--cpu-period",
        cpu_period,
        "not a time: give 1000 to 1000000 microseconds, and --cpu-quota, which is for each of them",
    ),
    (
        "--cpu-shares",
        |text, limits| limits.number("cpu.weight", shares(text)?),
        "not a share of CPU time: give 2 to 262144, where 1024 is the usual",
    ),
    ("--cpuset-cpus", |text, limits| limits.add("cpuset.cpus", list(text)?), LIST),
    ("--cpuset-mems", |text, limits| limits.add("cpuset.mems", list(text)?), LIST),
    (
        "--blkio-weight",
        |text, limits| limits.io_weight(text, None),
        "not a weight: give 10 to 1000, where 100 is the usual",
    ),
    (
        "--blkio-weight-device",
        |text, limits| {
            let (device, weight) = device(text)?;
            limits.io_weight(weight, Some(device))
        },
        "give DEVICE:WEIGHT, as /dev/sda:500, with a weight from 10 to 1000",
    ),
    ("--device-read-bps", |text, limits| limits.rate(text, "rbps"), RATE),
    ("--device-write-bps", |text, limits| limits.rate(text, "wbps"), RATE),
    ("--device-read-iops", |text, limits| limits.rate(text, "riops"), RATE),
    ("--device-write-iops", |text, limits| limits.rate(text, "wiops"), RATE),
    (
        "--cgroup-conf",
        conf,
        "give FILE=VALUE with a file of the container's cgroup, as memory.high=48m or cpu.weight=50",
    ),
];

const AMOUNT: &str = "not an amount of memory: give bytes, or a number with k, m or g behind it, as 64m";
const LIST: &str = "not a list: give numbers and ranges, as 0-2,7";
const RATE: &str = "give DEVICE:RATE, as /dev/sda:1m, with at least 1 a second";

/// The period of cpu.max in microseconds, unless `--cpu-period` says otherwise: the kernel's.
const PERIOD: u64 = 100_000;

/// What has been found so far, and what else was given.
struct Limits<'a> {
    given: &'a [&'a [String]; OPTIONS.len()],
    found: Vec<Limit>,
}

/// The lines to write for the texts `given` to each of [`OPTIONS`].
pub fn parse(given: &[&[String]; OPTIONS.len()]) -> Result<Vec<Limit>> {
    let mut limits = Limits { given, found: Vec::new() };
    for ((option, parse, hint), texts) in OPTIONS.iter().zip(given) {
        for text in *texts {
            parse(text, &mut limits).ok_or_else(|| wrong(option, text, hint))?;
        }
    }
    Ok(limits.found)
}

impl Limits<'_> {
    /// The text of another option, which may be there once.
    fn other(&self, wanted: &str) -> Option<&str> {
        let place = OPTIONS.iter().position(|(option, ..)| *option == wanted)?;
        self.given.get(place)?.first().map(|text| &**text)
    }

    fn add(&mut self, file: &str, value: &str) -> Option<()> {
        self.push(file, value.into(), None, false)
    }

    fn number(&mut self, file: &str, value: u64) -> Option<()> {
        self.push(file, value.to_string(), None, false)
    }

    fn push(&mut self, file: &str, value: String, device: Option<&str>, if_known: bool) -> Option<()> {
        let device = device.map(CString::new).transpose().ok()?;
        self.found.push(Limit { file: file.into(), value, device, if_known });
        Some(())
    }

    /// A weight is the disk's scheduler's, where that is BFQ, or blk-iocost's, of 1 to 10,000, everywhere else.
    fn io_weight(&mut self, text: &str, device: Option<&str>) -> Option<()> {
        let weight = within(text, 10, 1_000)?;
        self.push("io.bfq.weight", weight.to_string(), device, true)?;
        self.push("io.weight", (1 + (weight - 10) * 9_999 / 990).to_string(), device, false)
    }

    /// `DEVICE:RATE`, under a key of io.max.
    fn rate(&mut self, text: &str, key: &str) -> Option<()> {
        let (device, rate) = device(text)?;
        let rate = bytes(rate).filter(|rate| *rate > 0)?;
        self.push("io.max", format!("{key}={rate}"), Some(device), false)
    }
}

fn memory(text: &str, limits: &mut Limits<'_>) -> Option<()> {
    let max = bytes(text).filter(|max| *max > 0)?;
    if limits.other("--memory-swap").is_none() {
        // As docker has it: as much swap as memory, where there is any.
        limits.push("memory.swap.max", max.to_string(), None, true)?;
    }
    limits.number("memory.max", max)
}

fn memory_swap(text: &str, limits: &mut Limits<'_>) -> Option<()> {
    let memory = bytes(limits.other("--memory")?)?;
    match text {
        "-1" => limits.add("memory.swap.max", "max"),
        _ => limits.number("memory.swap.max", bytes(text)?.checked_sub(memory)?),
    }
}

fn pids(text: &str, limits: &mut Limits<'_>) -> Option<()> {
    match text {
        "-1" => limits.add("pids.max", "max"),
        _ => limits.number("pids.max", within(text, 1, u32::MAX.into())?),
    }
}

fn cpus(text: &str, limits: &mut Limits<'_>) -> Option<()> {
    let quota = hundred_thousandths(text).filter(|quota| (1_000..1 << 40).contains(quota))?;
    let alone = limits.other("--cpu-quota").is_none();
    limits.add("cpu.max", &format!("{quota} {PERIOD}")).filter(|()| alone)
}

fn cpu_quota(text: &str, limits: &mut Limits<'_>) -> Option<()> {
    let period = match limits.other("--cpu-period") {
        Some(text) => number(text)?,
        None => PERIOD,
    };
    let quota = if text == "-1" { "max".into() } else { microseconds(text, 1 << 40)?.to_string() };
    limits.add("cpu.max", &format!("{quota} {period}"))
}

/// The quota's line has it.
fn cpu_period(text: &str, limits: &mut Limits<'_>) -> Option<()> {
    microseconds(text, 1_000_000)?;
    limits.other("--cpu-quota").map(drop)
}

/// `FILE=VALUE`. An amount of memory may have its unit behind it. What cgroups have besides limits (which processes are in
/// it, say) is not for the command line.
fn conf(text: &str, limits: &mut Limits<'_>) -> Option<()> {
    let (file, value) = text.split_once('=')?;
    let (controller, name) = file.split_once('.')?;
    let good = |c: u8| c.is_ascii_alphanumeric() || b"._".contains(&c);
    let is_limit = controller != "cgroup" || name.starts_with("max.");
    if controller.is_empty() || name.is_empty() || !file.bytes().all(good) || !is_limit || value.is_empty() {
        return None;
    }
    match bytes(value) {
        Some(amount) if matches!(controller, "memory" | "hugetlb") => limits.number(file, amount),
        _ => limits.add(file, value),
    }
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

/// docker's shares, of which 1024 are usual, as the kernel's weight, of which 100 is.
fn shares(text: &str) -> Option<u64> {
    within(text, 2, 262_144).map(|shares| (shares * 100 / 1024).clamp(1, 10_000))
}

/// Numbers and ranges of CPUs or memory nodes: List Format, cpuset(7).
fn list(text: &str) -> Option<&str> {
    let is_range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        number(first).zip(number(last)).is_some_and(|(first, last)| first <= last)
    };
    text.split(',').all(is_range).then_some(text)
}

/// `DEVICE:VALUE`.
fn device(text: &str) -> Option<(&str, &str)> {
    let colon = text.bytes().rposition(|c| c == b':')?;
    Some((&text[..colon], &text[colon + 1..])).filter(|_| text.starts_with('/'))
}
