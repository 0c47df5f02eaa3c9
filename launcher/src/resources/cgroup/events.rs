//! Events of a cgroup: limits that were reached, processes that are frozen or gone.

use crate::file::{self, CWD};
use crate::gather::Gather;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// How long a container's processes may take to die of SIGKILL before a cgroup is left for the next command.
const KILL_SECONDS: i64 = 10;

/// Whether a cgroup has as many processes as it may have.
pub fn is_full(path: &str) -> bool {
    let number = |file| file::read_text(CWD, &format!("{path}/{file}")).trim_ascii_end().parse::<u64>().ok();
    number("pids.max").is_some_and(|max| number("pids.current").is_some_and(|current| current >= max))
}

/// Whether somebody has asked for the processes of a cgroup to be frozen.
pub fn is_frozen(path: &str) -> bool {
    file::read_text(CWD, &format!("{path}/cgroup.freeze")).starts_with('1')
}

/// Waits until all processes of a cgroup are frozen, or are not, or somebody has asked for the opposite; cgroup.events
/// tells.
pub fn wait_until_frozen(path: &str, frozen: bool) {
    wait_for_event(path, if frozen { "frozen 1" } else { "frozen 0" }, &|| is_frozen(path) == frozen);
}

/// How often the processes of a cgroup have reached its limits, by its files of events.
#[derive(Clone, Copy, Default)]
pub struct EventCounters([u64; 3]);

impl EventCounters {
    /// File, key and limit; of memory, `max` would count what was reclaimed in time, too.
    const EVENTS: [(&str, &str, &str); 3] = [
        ("memory.events", "oom_kill ", ""),
        ("memory.events", "oom ", "memory.max"),
        ("pids.events", "max ", "pids.max"),
    ];

    /// Of the cgroup `path`, so far.
    fn read(path: &str) -> Self {
        Self(Self::EVENTS.map(|(file, key, _)| count(&file::read_text(CWD, &format!("{path}/{file}")), key)))
    }

    /// Those that have come since.
    fn since(&self, path: &str) -> Self {
        let now = Self::read(path);
        Self(std::array::from_fn(|place| now.0[place].saturating_sub(self.0[place])))
    }

    /// Whether the kernel killed a process because of the limit of memory.
    pub fn is_oom_killed(&self) -> bool {
        self.0[0] > 0
    }

    /// Whether it was this cgroup's own limit of memory, or one below it.
    pub fn is_at_limit(&self) -> bool {
        self.0[1] > 0
    }

    /// The limits: `FILE=VALUE`.
    pub fn limits(&self, path: &str) -> Vec<String> {
        let reached = Self::EVENTS.iter().zip(self.0).filter(|((.., limit), count)| *count > 0 && !limit.is_empty());
        let value = |limit| file::read_text(CWD, &format!("{path}/{limit}"));
        reached.map(|((.., limit), _)| format!("{limit}={}", value(limit).trim_ascii_end())).list()
    }
}

/// The events of a leaf cgroup during one run of a command.
#[derive(Clone, Copy)]
pub struct LeafEvents<'a> {
    /// The path of the cgroup.
    pub path: &'a str,
    /// Its counters before the run.
    before: EventCounters,
}

impl<'a> LeafEvents<'a> {
    /// All that the cgroup `path` ever counts.
    pub fn all(path: &'a str) -> Self {
        Self { path, before: EventCounters::default() }
    }

    /// Those from now on.
    pub fn from_now(path: &'a str) -> Self {
        Self { path, before: EventCounters::read(path) }
    }

    /// What the cgroup has counted during the run so far.
    pub fn counted(&self) -> EventCounters {
        self.before.since(self.path)
    }
}

/// The count of an event, in a flat keyed file.
fn count(text: &str, key: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(key)?.parse().ok()).unwrap_or(0)
}

/// Waits until a line is in cgroup.events, for some time, or until `meanwhile` says that it will not come.
pub(super) fn wait_for_event(path: &str, wanted: &str, meanwhile: &dyn Fn() -> bool) {
    for _ in 0..KILL_SECONDS * 100 {
        // It is polled for POLLPRI, and opened again, since a poll counts from the last read.
        let Ok(events) = file::open(CWD, &format!("{path}/cgroup.events"), OFlags::RDONLY) else { return };
        let text = file::read_open(&events).unwrap_or_default();
        if String::from_utf8_lossy(&text).lines().any(|line| line == wanted) || !meanwhile() {
            return;
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_a_whole_key_with_a_number() {
        let text = "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n";
        assert_eq!(EventCounters::EVENTS.map(|(_, key, _)| count(text, key)), [4, 3, 2]);
        assert_eq!([count("", "max "), count("max\n", "max "), count("max x\n", "max ")], [0; 3]);
    }
}
