//! One poll(2): its fds, each with a tag that names its owner, and the time of the first timer.
//!
//! The owner adds an fd with a tag, and asks for its events by the same tag; their order does not matter. Must not wake
//! up without a cause.

use crate::error::{Context, Result};
use crate::gather::Gather;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// Whose fd it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// The process under supervision: its end.
    Exit,
    /// The messages of its init.
    Status,
    /// Signals for this process.
    Signals,
    /// Changes of the container's directory.
    Directory,
    /// The end of the health command.
    Check,
    /// The readiness of the container.
    Readiness,
    /// The relay.
    Relay,
    /// A direction in which the caller's stdio is copied.
    Copy(usize),
    /// An output of a container in the background.
    Output(usize),
    /// Its input, which had no room.
    Input,
    /// The socket to attach by.
    Listener,
    /// An attached client.
    Client(usize),
    /// The other end of the caller's terminal.
    Peer,
    /// The caller's input.
    Typed,
}

/// How long nothing must happen before this process waits with little memory, in microseconds.
pub const QUIET: u64 = 10_000;

/// Everything that one poll(2) waits for.
#[derive(Default)]
pub struct PollSet<'a> {
    fds: Vec<PollFd<'a>>,
    tags: Vec<Tag>,
    /// In microseconds from now.
    timeout: Option<u64>,
}

impl<'a> PollSet<'a> {
    /// Waits for these events of an fd.
    pub fn add(&mut self, tag: Tag, fd: &'a impl AsFd, events: PollFlags) {
        self.push(tag, PollFd::new(fd, events));
    }

    /// The same for one that is prepared.
    pub fn push(&mut self, tag: Tag, fd: PollFd<'a>) {
        self.tags.push(tag);
        self.fds.push(fd);
    }

    /// Waits no longer than so many microseconds.
    pub fn wake_after(&mut self, microseconds: impl IntoIterator<Item = u64>) {
        self.timeout = self.timeout.into_iter().chain(microseconds).min();
    }

    /// Waits no longer than until this time of CLOCK_MONOTONIC.
    pub fn wake_at(&mut self, microseconds: u64) {
        self.wake_after([microseconds.saturating_sub(sys::monotonic_microseconds())]);
    }

    /// Waits, with little memory where nothing comes for a moment.
    pub fn wait(mut self) -> Result<Ready> {
        let first = self.timeout.unwrap_or(QUIET).min(QUIET);
        let mut ready = poll(&mut self.fds, Some(&timespec(first)));
        if ready == Ok(0) && self.timeout.is_none_or(|timeout| timeout > QUIET) {
            let rest = self.timeout.map(|timeout| timespec(timeout - QUIET));
            ready = sys::poll_with_little_memory(&mut self.fds, rest.as_ref());
        }
        let is_idle = match ready {
            Err(Errno::INTR) => false,
            ready => ready.at(format_args!("poll"))? == 0,
        };
        let came = self.tags.into_iter().zip(self.fds.iter().map(PollFd::revents));
        Ok(Ready { came: came.filter(|(_, events)| !events.is_empty()).list(), is_idle })
    }
}

/// The events that have come.
pub struct Ready {
    came: Vec<(Tag, PollFlags)>,
    /// Nothing has: a timer is due.
    pub is_idle: bool,
}

impl Ready {
    /// Nothing but these events.
    #[cfg(test)]
    pub fn only(tag: Tag, events: PollFlags) -> Self {
        Self { came: vec![(tag, events)], is_idle: false }
    }

    /// The events of an fd; none where it was not waited for.
    pub fn events(&self, tag: Tag) -> PollFlags {
        self.came.iter().find(|(of, _)| *of == tag).map_or(PollFlags::empty(), |(_, events)| *events)
    }

    /// Whether there are any.
    pub fn has(&self, tag: Tag) -> bool {
        !self.events(tag).is_empty()
    }
}

/// Whether there is something to read, or a process has ended.
pub fn is_ready(fd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn timespec(microseconds: u64) -> Timespec {
    Timespec { tv_sec: (microseconds / 1_000_000) as i64, tv_nsec: (microseconds % 1_000_000 * 1_000) as i64 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    #[test]
    fn events_are_found_by_their_tag() {
        let ((reader, writer), (silent, _other)) = (pipe().unwrap(), pipe().unwrap());
        let mut set = PollSet::default();
        set.add(Tag::Output(0), &silent, PollFlags::IN);
        set.add(Tag::Input, &writer, PollFlags::OUT);
        set.add(Tag::Output(1), &reader, PollFlags::IN);
        rustix::io::write(&writer, b"x").unwrap();
        let ready = set.wait().unwrap_or_else(|error| panic!("{error}"));
        assert!(!ready.is_idle);
        assert_eq!(ready.events(Tag::Output(1)), PollFlags::IN);
        assert_eq!(ready.events(Tag::Input), PollFlags::OUT);
        assert!(!ready.has(Tag::Output(0)) && !ready.has(Tag::Client(0)));
    }

    #[test]
    fn first_timer_ends_the_wait() {
        let mut set = PollSet::default();
        set.wake_after([600_000_000, 2000]);
        set.wake_after(None);
        set.wake_at(u64::MAX);
        let begun = sys::monotonic_microseconds();
        assert!(set.wait().is_ok_and(|ready| ready.is_idle));
        assert!((2000..60_000_000).contains(&(sys::monotonic_microseconds() - begun)));
    }
}
