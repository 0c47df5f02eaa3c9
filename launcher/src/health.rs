//! The health of a container: a command that is run in it from time to time, and what is made of its exit statuses; docker's
//! HEALTHCHECK.
//!
//! It knows its own times, and is told when to work. Must not wait for anything.

use crate::cgroup;
use crate::error::Result;
use crate::join;
use crate::life::{Health, OnFailure};
use crate::output::without_stdio;
use crate::start::Started;
use crate::supervise::reap;
use crate::sys;
use kontena_init::plan::{self, List, Plan, Process};
use linux_raw_sys::general::SIGPWR;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use std::time::Duration;

/// The health of a container that runs.
pub struct Checks<'a> {
    health: &'a Health,
    /// What the container is made of, as the init was told it.
    plan: &'a [u8],
    init_program: &'a OwnedFd,
    leaf: Option<&'a str>,
    started: u64,
    /// When the next run is due, or when the one that runs has taken too long; CLOCK_MONOTONIC, microseconds.
    deadline: u64,
    running: Option<Started>,
    failures: u32,
    /// `None` before it is known.
    is_well: Option<bool>,
    /// Whether that has changed and nobody was told.
    has_news: bool,
}

impl<'a> Checks<'a> {
    /// Of the container that has just been started with this plan.
    pub fn new(health: &'a Health, plan: &'a [u8], init_program: &'a OwnedFd, leaf: Option<&'a str>) -> Self {
        let started = sys::monotonic_microseconds();
        let deadline = started + microseconds(health.interval);
        let (running, failures, is_well, has_news) = (None, 0, None, false);
        Self { health, plan, init_program, leaf, started, deadline, running, failures, is_well, has_news }
    }

    /// When there is something to do, whatever else happens.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// What tells that the command has ended.
    pub fn watch(&self) -> Option<PollFd<'_>> {
        self.running.as_ref().map(|running| PollFd::new(&running.pidfd, PollFlags::IN))
    }

    /// Whether what is done about a sick container is to start it again.
    pub fn restarts(&self) -> bool {
        self.health.on_failure == OnFailure::Restart
    }

    /// Whether the container is well, when that has changed.
    pub fn news(&mut self) -> Option<bool> {
        self.is_well.filter(|_| std::mem::take(&mut self.has_news))
    }

    /// Does what is due; `true` where the container is sick, and is to be killed for it.
    pub fn work(&mut self, has_ended: bool, container: &Started) -> bool {
        let now = sys::monotonic_microseconds();
        if now >= self.deadline && !has_ended && self.leaf.is_some_and(cgroup::is_frozen) {
            // It can neither be well nor sick, nor could a command that runs have come to its end.
            let later = if self.running.is_some() { self.health.timeout } else { self.health.interval };
            self.deadline = now + microseconds(later);
            return false;
        }
        let status = match &self.running {
            Some(running) if has_ended => reap(&running.pidfd).unwrap_or(1),
            Some(running) if now >= self.deadline => {
                // It ends with all of its process group, and that counts as a failure then.
                let _ = sys::pidfd_send_signal(&running.pidfd, SIGPWR);
                self.deadline = now + microseconds(self.health.timeout);
                return false;
            }
            None if now >= self.deadline => {
                self.deadline = now + microseconds(self.health.timeout);
                match self.start(container) {
                    Ok(started) => {
                        self.running = Some(started);
                        return false;
                    }
                    // It could not even be started.
                    Err(_) => 1,
                }
            }
            _ => return false,
        };
        self.running = None;
        self.deadline = now + microseconds(self.health.interval);
        self.judge(status == 0, now)
    }

    fn judge(&mut self, is_well: bool, now: u64) -> bool {
        let was_well = self.is_well;
        if is_well {
            (self.failures, self.is_well) = (0, Some(true));
        } else if was_well.is_some() || now >= self.started + microseconds(self.health.start_period) {
            self.failures += 1;
            if self.failures >= self.health.retries {
                self.is_well = Some(false);
            }
        }
        self.has_news |= self.is_well != was_well;
        self.is_well == Some(false) && self.health.on_failure != OnFailure::None
    }

    fn start(&self, container: &Started) -> Result<Started> {
        let command: Vec<_> = self.health.command.iter().map(|word| &**word).collect();
        let plan: Option<Plan<'_>> = plan::decode(self.plan);
        let plan = plan.ok_or_else(|| crate::error::Error::usage(format_args!("read the container's plan"), ""))?;
        let process = Process { argv: List::Items(&command), terminal: 0, notify: c"", notify_as: 0, ..plan.process };
        let pid = container.pid.as_raw_pid() as u32;
        let container = join::Container { pid, init: &container.pidfd, leaf: self.leaf };
        without_stdio(|| container.start(self.init_program, process, false))
    }
}

fn microseconds(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
