//! `--restart`: whether an ended container is restarted, and after how long.
//!
//! Must not know how a container is started.

use crate::config::lifecycle::Restart;
use crate::container::exit::exit_record;
use crate::container::lifecycle::Container;
use crate::container::release::release_network;
use crate::error::{Error, Result};
use crate::resources::cgroup::LeafEvents;
use crate::state::{Entry, ExitRecord, stop};
use crate::supervise::Event;
use crate::supervise::exit::reap_all;
use crate::supervise::states::State;
use crate::sys;

/// Between the end of a container and its next start, in microseconds: twice as much each time, and from the first
/// again when it has run for so long.
const FIRST_DELAY: u64 = 100_000;
const LONGEST_DELAY: u64 = 60_000_000;
const GOOD_LIFE: u64 = 10_000_000;

impl Container {
    /// Runs the container, again and again where it must be restarted; returns its last exit status.
    pub(super) fn run_with_restarts(&mut self) -> Result<u8> {
        let (mut restarts, mut delay) = (0, FIRST_DELAY);
        loop {
            let begun = sys::monotonic_microseconds();
            let ended = self.run_once();
            if ended.is_err() && self.supervision.starter.is_some() {
                return ended;
            }
            let exit = self.exit_record(&ended);
            let recorded = self.record_end(&exit);
            // A container that has run before is not given up because this process lacks memory or fds for a moment.
            let is_short = restarts > 0 && ended.as_ref().is_err_and(Error::is_shortage);
            if !self.must_restart(&ended, restarts, is_short) {
                return recorded.and(ended);
            }
            restarts += u32::from(!is_short);
            if sys::monotonic_microseconds() - begun >= GOOD_LIFE {
                delay = FIRST_DELAY;
            }
            if !self.restart(&exit, recorded, restarts, delay)? {
                return ended;
            }
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    pub(super) fn exit_record(&self, ended: &Result<u8>) -> ExitRecord {
        let (status, reason) = match ended {
            Ok(status) => (*status, String::new()),
            Err(error) => (error.status(), error.to_string()),
        };
        exit_record(status, self.events.as_ref().filter(|_| self.journal.record().is_kept), reason)
    }

    pub(super) fn record_end(&mut self, exit: &ExitRecord) -> Result<()> {
        // What of it holds on to the state is done.
        self.root.started();
        self.journal.append(Entry::Exit(exit.clone()))?;
        // Not before: until then others take the pid of its PID 1 from the journal.
        reap_all();
        Ok(())
    }

    fn must_restart(&self, ended: &Result<u8>, restarts: u32, is_short: bool) -> bool {
        let status = ended.as_ref().map_or_else(Error::status, |status| *status);
        let is_wanted = is_short || is_wanted(self.config.life.restart.policy, status, restarts);
        match self.supervision.state() {
            State::Stopping => false,
            State::Restarting => !stop::is_asked(&self.directory),
            _ => is_wanted && !stop::is_asked(&self.directory),
        }
    }

    /// Releases the resources of one run, and waits for the next one. Returns whether there will be one. Where there
    /// is no space for the journal, for example, it waits until there is.
    fn restart(&mut self, exit: &ExitRecord, recorded: Result<()>, restarts: u32, delay: u64) -> Result<bool> {
        let mut released = release_network(&mut self.journal, self.tables.take());
        let mut recorded = recorded.and_then(|()| self.journal.append(Entry::Restarts(restarts)));
        self.events = self.leaf.map(|leaf| LeafEvents::from_now(&leaf.path));
        let is_short = |done: &Result<()>| done.as_ref().is_err_and(Error::is_shortage);
        loop {
            if !self.pause(delay)? {
                return Ok(false);
            }
            if is_short(&released) {
                released = release_network(&mut self.journal, None);
            }
            if is_short(&recorded) {
                recorded = self.record_end(exit).and_then(|()| self.journal.append(Entry::Restarts(restarts)));
            }
            if !is_short(&released) && !is_short(&recorded) {
                break;
            }
        }
        released.and(recorded)?;
        self.root.starting_again().map(|()| true)
    }

    /// Waits for so many microseconds. Returns `false` as soon as `stop` asks not to restart the container.
    fn pause(&mut self, delay: u64) -> Result<bool> {
        self.supervision.pause(delay, stop::watch(&self.directory));
        loop {
            if stop::is_asked(&self.directory) {
                self.supervision.give_up()?;
            }
            match self.supervision.next(None)? {
                Event::Due => return Ok(!stop::is_asked(&self.directory)),
                Event::GivenUp => return Ok(false),
                event => self.take_note(&event),
            }
        }
    }
}

/// Whether the policy restarts a container that has ended with `status`, after so many restarts.
fn is_wanted(policy: Restart, status: u8, restarts: u32) -> bool {
    match policy {
        Restart::No => false,
        Restart::OnFailure(times) => status != 0 && times.is_none_or(|times| restarts < times),
        Restart::Always => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_says_when_to_restart() {
        for (policy, status, restarts, wanted) in [
            (Restart::No, 1, 0, false),
            (Restart::Always, 0, 1000, true),
            (Restart::OnFailure(None), 0, 0, false),
            (Restart::OnFailure(None), 1, 1000, true),
            (Restart::OnFailure(Some(2)), 1, 1, true),
            (Restart::OnFailure(Some(2)), 1, 2, false),
            (Restart::OnFailure(Some(2)), 0, 0, false),
        ] {
            assert_eq!(is_wanted(policy, status, restarts), wanted, "{policy:?} {status} {restarts}");
        }
    }
}
