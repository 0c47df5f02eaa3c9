//! How a container ended: its exit status, when, which limits it had hit, and why it never ran, if so.
//!
//! Written down in the journal as one line. Must not decide what becomes of the container.

use crate::cgroup::Hits;
use crate::error::Error;
use crate::file::{self, CWD};
use crate::sys;
use linux_raw_sys::general::SIGKILL;

/// The exit status that stands for SIGKILL.
pub const KILLED: u8 = 128 + SIGKILL as u8;

/// The end of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status: 128+n where signal n ended it.
    pub status: u8,
    /// When; seconds since 1970.
    pub at: u64,
    /// Whether the kernel killed a process of it because it was at its memory limit.
    pub is_oom_killed: bool,
    /// Limits that it hit, `FILE=VALUE` of its cgroup, with commas between them.
    pub limits: String,
    /// Why it never ran, or what else ended it; empty where nothing is to be said.
    pub reason: String,
}

impl Ended {
    /// The end with `status` of the container whose leaf cgroup, where it has one, is still there, and which had hit its limits
    /// so often before.
    pub fn of(status: u8, leaf: Option<(&str, &Hits)>, reason: String) -> Self {
        let hits = leaf.map(|(path, before)| before.since(path)).unwrap_or_default();
        let (is_oom_killed, limits) =
            (hits.is_oom_killed(), leaf.map(|(path, _)| hits.limits(path)).unwrap_or_default());
        Self { status, at: sys::realtime_seconds(), is_oom_killed, limits: limits.join(","), reason }
    }

    /// That of a container whose launcher was killed, and which the kernel killed then.
    pub fn unknown() -> Self {
        Self::of(KILLED, None, "its launcher was killed".into())
    }

    /// As it stands in the journal, without a newline.
    pub fn to_line(&self) -> String {
        let Self { status, at, is_oom_killed, limits, reason } = self;
        let limits = if limits.is_empty() { "-" } else { limits };
        format!("{status} {at} {} {limits} {}", u8::from(*is_oom_killed), reason.replace('\n', " "))
    }

    /// The inverse.
    pub fn from_line(line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, ' ');
        Some(Self {
            status: fields.next()?.parse().ok()?,
            at: fields.next()?.parse().ok()?,
            is_oom_killed: fields.next()? == "1",
            limits: fields.next().map(|limits| if limits == "-" { "" } else { limits })?.into(),
            reason: fields.next()?.into(),
        })
    }
}

/// The kernel killed for the limit of memory of the cgroup `path`, or of one above it: told to the person too, since neither a
/// payload that was killed nor an init that was, while it made the container, can say why.
pub fn out_of_memory(path: &str) -> Error {
    let hint = "the kernel killed a process of it (oom_kill in memory.events): raise --memory";
    let max = file::read_text(CWD, &format!("{path}/memory.max"));
    let error = match max.trim_ascii_end().parse::<u64>() {
        Err(_) => Error::usage(format_args!("the container hit the memory limit of a cgroup above its own"), hint),
        Ok(bytes) => Error::usage(format_args!("the container hit its memory limit, {bytes} bytes"), hint),
    };
    error.with_status(KILLED)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_end_reads_back_as_it_was_written() {
        let plain = Ended { status: 0, at: 5, is_oom_killed: false, limits: String::new(), reason: String::new() };
        let full =
            Ended { status: 137, at: 1 << 40, is_oom_killed: true, limits: "pids.max=20".into(), reason: "a b".into() };
        for ended in [plain, full] {
            assert_eq!(Ended::from_line(&ended.to_line()), Some(ended));
        }
        for line in ["", "1", "1 2 0", "x 2 0 - ", "1 -2 0 - "] {
            assert_eq!(Ended::from_line(line), None, "{line:?}");
        }
    }
}
