//! The exit record of a container: its exit status, when it ended, the limits that it had hit, and why.
//!
//! Pure but for the clock. Must not decide what becomes of the container.

use crate::sys;
use crate::text::replace;
use linux_raw_sys::general::SIGKILL;

/// The exit status that stands for SIGKILL.
pub const KILLED: u8 = 128 + SIGKILL as u8;

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// Its exit status: 128+n where signal n ended it.
    pub status: u8,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Whether the kernel killed one of its processes because it was at its memory limit.
    pub is_oom_killed: bool,
    /// The limits that it hit: `FILE=VALUE` of its cgroup, separated by commas.
    pub limits: String,
    /// Why it never ran, or what else ended it. May be empty.
    pub reason: String,
}

impl ExitRecord {
    /// An exit now, of a container that hit no limit.
    pub fn new(status: u8, reason: String) -> Self {
        Self { status, at: sys::realtime_seconds(), is_oom_killed: false, limits: String::new(), reason }
    }

    /// The exit of a container whose launcher was killed: the kernel kills the container then.
    pub fn of_killed_launcher() -> Self {
        Self::new(KILLED, "its launcher was killed".into())
    }

    /// The fields of its line in the journal.
    pub fn to_line(&self) -> String {
        let Self { status, at, is_oom_killed, limits, reason } = self;
        let limits = if limits.is_empty() { "-" } else { limits };
        format!("{status} {at} {} {limits} {}", u8::from(*is_oom_killed), replace(reason, '\n', " "))
    }

    /// Reads what [`Self::to_line`] wrote.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_record_reads_back_as_it_was_written() {
        let plain = ExitRecord { status: 0, at: 5, is_oom_killed: false, limits: String::new(), reason: String::new() };
        let full = ExitRecord {
            status: 137,
            at: 1 << 40,
            is_oom_killed: true,
            limits: "pids.max=20".into(),
            reason: "a b".into(),
        };
        for exit in [plain, full] {
            assert_eq!(ExitRecord::from_line(&exit.to_line()), Some(exit));
        }
        for line in ["", "1", "1 2 0", "x 2 0 - ", "1 -2 0 - "] {
            assert_eq!(ExitRecord::from_line(line), None, "{line:?}");
        }
    }
}
