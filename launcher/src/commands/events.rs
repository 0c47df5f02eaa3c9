//! `kontena events`: statistics of a container in runc's format, and an event when it has run out of memory.
//!
//! Ends with the container. Must not change anything.

use crate::commands::{leaf_of, open_init};
use crate::error::Result;
use crate::file::{self, CWD};
use crate::json::Json;
use crate::print;
use crate::resources::stats::Stats;
use crate::state::StateDirectory;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::time::Duration;

/// Prints statistics once, or at each `interval` until the container ends.
pub fn events(state: &StateDirectory, name: &str, interval: Option<Duration>) -> Result<()> {
    let container = state.find(name)?;
    let init = open_init(state, &container)?;
    let leaf = leaf_of(&container)?;
    let Some(interval) = interval else { return print_stats(name, leaf) };
    let killed = || Stats::read(leaf).value("memory.events", "oom_kill").unwrap_or(0);
    let (mut before, mut due) = (killed(), 0);
    loop {
        // The file needs the memory controller. A poll reports changes since the last read of the open file.
        let changes = file::open(CWD, &format!("{leaf}/memory.events"), OFlags::RDONLY).ok();
        let _ = changes.as_ref().map(file::read_open);
        let after = killed();
        if after > before {
            print::answer(&event("oom", name, |_| ()))?;
        }
        before = after;
        let now = sys::monotonic_microseconds();
        if due <= now {
            print_stats(name, leaf)?;
            due = now + interval.as_micros() as u64;
        }
        let left = due - now;
        let timeout = Timespec { tv_sec: (left / 1_000_000) as i64, tv_nsec: (left % 1_000_000 * 1_000) as i64 };
        let mut fds = vec![PollFd::new(&init, PollFlags::IN)];
        fds.extend(changes.as_ref().map(|changes| PollFd::new(changes, PollFlags::PRI)));
        let _ = poll(&mut fds, Some(&timeout));
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
    }
}

fn event(kind: &str, name: &str, data: impl FnOnce(&mut Json)) -> String {
    Json::document(|json| {
        json.object(|json| {
            json.text("type", kind).text("id", name);
            data(json);
        });
    })
}

fn print_stats(name: &str, leaf: &str) -> Result<()> {
    let stats = Stats::read(leaf);
    print::answer(&event("stats", name, |json| json.key("data").object(|json| stats.write_as_runc(json))))
}
