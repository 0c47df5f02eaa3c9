//! `kontena logs`: the output of a container in the background so far, and as it comes.

use crate::error::{Error, Result};
use crate::gather::Gather;
use crate::print;
use crate::state::StateDirectory;
use crate::supervise::log::{Reader, Stream, Wanted};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::cell::RefCell;

/// Prints the log of a container; with `follow`, until the container has ended.
#[inline(never)]
pub fn logs(state: &StateDirectory, name: &str, wanted: &Wanted, follow: bool) -> Result<()> {
    let container = state.find(name)?;
    let mut reader = Reader::new(state.directory(name)?, wanted);
    if !container.is_kept && !reader.has_log() {
        let hint = "it runs in the foreground, or with --log-driver none";
        return Err(Error::usage(format_args!("{name} has no log"), hint));
    }
    let printed = RefCell::new(Ok(()));
    let mut print = |stream: Stream, text: &[u8]| {
        let mut printed = printed.borrow_mut();
        if printed.is_ok() {
            *printed = print::print_bytes(if stream == Stream::Stdout { 1 } else { 2 }, text);
        }
    };
    // Before the log is read for the first time, so that nothing is missed in between. Where the user has too many
    // watches, the time is all that there is to go by.
    let watch = if follow { reader.watch(&state.path(name)).ok() } else { None };
    reader.print(&mut print);
    while follow && printed.borrow().is_ok() {
        let now = state.look(name)?.filter(|container| container.is_running);
        reader.print_more(&mut print);
        let Some(now) = now else { break };
        wait_for_more(watch.as_ref(), now.exit.is_some());
    }
    printed.into_inner()
}

/// Waits until the log may have grown, or the launcher may be gone.
fn wait_for_more(watch: Option<&OwnedFd>, has_ended: bool) {
    // Nothing tells that the launcher is gone; but before it goes, it writes the exit down. One that is killed closes
    // its files, which the watch tells before its lock is gone.
    let timeout = match (has_ended, watch) {
        (true, _) => Timespec { tv_sec: 0, tv_nsec: 20_000_000 },
        (false, None) => Timespec { tv_sec: 0, tv_nsec: 200_000_000 },
        (false, Some(_)) => Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    let mut fds: Vec<_> = watch.iter().map(|watch| PollFd::new(*watch, PollFlags::IN)).list();
    let _ = poll(&mut fds, Some(&timeout));
    let mut events = [0; 4096];
    while watch.is_some_and(|watch| rustix::io::read(watch, &mut events) == Ok(events.len())) {}
}
