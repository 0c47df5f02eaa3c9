//! Containers that were handed over to the caller of `create --bundle`: nobody holds a lock for them, and their PID 1
//! is another process's child.
//!
//! Such a container is running as long as the process with its pid and its start time is neither gone nor a zombie. It
//! is never repaired: only `delete` releases what it holds. Must not send a signal.

use crate::file::{self, CWD};
use crate::json::Json;
use crate::state::{ContainerRecord, Init, StateDirectory, pid_namespace};
use crate::time::Moment;
use rustix::fs::OFlags;

/// What its bundle says for `kontena state`.
pub const STATE: &str = "state";
/// The socket on which it waits for `start`.
pub const START: &str = "start";
/// Its hooks that run later.
pub const HOOKS: &str = "hooks";

/// Its state, as JSON in a line without its newline; the OCI's runtime-spec, runtime.md, "State". `fixed` is what its
/// bundle says for it; `since` when it was started, in seconds since 1970.
pub fn describe(name: &str, status: &str, pid: Option<u32>, since: Option<u64>, fixed: &str) -> String {
    let text = Json::document(|json| {
        json.object(|json| {
            json.text("id", name).text("status", status);
            if let Some(pid) = pid {
                json.number("pid", pid);
            }
            if let Some(since) = since {
                json.text("created", &Moment(since, 0).to_string());
            }
        });
    });
    // With spaces, as other runtimes have it: some look for the text. No value here has a quote, but annotations have.
    let text = text.replace("\":", "\": ");
    let text = text.trim_ascii_end().strip_suffix('}').unwrap_or_default();
    // If `create` was killed, it may be empty.
    let comma = if fixed.is_empty() { "" } else { "," };
    [text, comma, fixed, "}"].concat()
}

/// Whether the container has no launcher, but the caller. Its record says so from then on.
pub fn note(record: &mut ContainerRecord) -> bool {
    let (Some(ticks), Some(init)) = (record.handed_over, record.init) else { return false };
    record.is_running = is_alive(init, ticks);
    true
}

/// Whether a process with this pid and this start time runs. In another pid namespace that cannot be seen.
fn is_alive(init: Init, ticks: u64) -> bool {
    if ![0, pid_namespace()].contains(&init.pid_namespace) {
        return true;
    }
    look(init.pid) == Some((true, ticks))
}

/// When a process was started, in the kernel's ticks.
pub fn started(pid: u32) -> Option<u64> {
    look(pid).map(|(_, started)| started)
}

/// Whether it runs, and when it was started; proc_pid_stat(5).
fn look(pid: u32) -> Option<(bool, u64)> {
    parse(&file::read_text(CWD, &format!("/proc/{pid}/stat")))
}

/// The name, in brackets, can have any character. A zombie with threads runs: only its first one has ended.
fn parse(stat: &str) -> Option<(bool, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.trim_ascii_start().split(' ');
    let (state, threads) = (fields.next()?, fields.nth(16)?);
    Some((!matches!(state, "Z" | "X" | "x") || !matches!(threads, "0" | "1"), fields.nth(1)?.parse().ok()?))
}

impl StateDirectory {
    /// Whether a container that was handed over still waits for `start`.
    pub fn waits_for_start(&self, name: &str) -> bool {
        file::open(self, &format!("{name}/{START}"), OFlags::PATH).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_was_started() {
        let stat =
            "37 (a) R 1 (b) Z) S 1 37 37 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 999 9 18446744073709551615";
        assert_eq!(parse(stat), Some((true, 123_456)));
        let ended = stat.replace(") S", ") Z");
        assert_eq!(parse(&ended), Some((false, 123_456)));
        assert_eq!(parse(&ended.replace(" 20 0 1 0 ", " 20 0 2 0 ")), Some((true, 123_456)), "its first thread ended");
        for bad in ["", "37 (a) S 1 2", "37 a S"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let own = Init { pid: std::process::id(), since: 0, pid_namespace: pid_namespace() };
        let ticks = started(own.pid).unwrap_or(0);
        assert!(is_alive(own, ticks) && !is_alive(own, ticks + 1));
        assert!(is_alive(Init { pid_namespace: 1, ..own }, 0), "it cannot be seen from here");
    }
}
