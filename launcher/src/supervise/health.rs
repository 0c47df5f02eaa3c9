//! The health of a container: runs a command in it from time to time, and judges its exit status; docker's HEALTHCHECK.
//!
//! The supervisor calls `work`, and waits for the deadline that `watch` adds. Must not wait for anything itself.

use crate::config::lifecycle::{Health, OnFailure};
use crate::error::{Error, Result};
use crate::resources::cgroup;
use crate::spawn::clone::{Started, decode_plan};
use crate::spawn::join;
use crate::supervise::exit::reap;
use crate::supervise::poll::{PollSet, Tag, is_ready};
use crate::supervise::stdio::without_stdio;
use crate::sys;
use kontena_init::plan::{List, ProcessSpec, Report};
use kontena_init::signals;
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read};
use std::time::Duration;

/// The health checks of a running container.
pub struct Checks<'a> {
    health: &'a Health,
    /// The container's Plan.
    plan: &'a [u8],
    init_program: &'a OwnedFd,
    leaf: Option<&'a str>,
    started: u64,
    /// When the next check is due, or the running one has taken too long; CLOCK_MONOTONIC, microseconds.
    deadline: u64,
    running: Option<Started>,
    failures: u32,
    /// `None` before it is known.
    is_healthy: Option<bool>,
    /// Whether a change of that is not reported yet.
    has_changed: bool,
    /// Why the command could not be run the last time.
    trouble: Option<Trouble>,
}

/// Why a command could not be run.
struct Trouble {
    error: Error,
    is_reported: bool,
}

impl<'a> Checks<'a> {
    /// Of the container that has just been started with this plan, where `health` asks for any.
    pub fn of(
        health: Option<&'a Health>,
        plan: &'a [u8],
        init_program: &'a OwnedFd,
        leaf: Option<&'a str>,
    ) -> Option<Self> {
        let health = health?;
        let started = sys::monotonic_microseconds();
        let deadline = started + microseconds(health.interval);
        let (running, failures, is_healthy, has_changed, trouble) = (None, 0, None, false, None);
        Some(Self {
            health,
            plan,
            init_program,
            leaf,
            started,
            deadline,
            running,
            failures,
            is_healthy,
            has_changed,
            trouble,
        })
    }

    /// Waits for the end of the command, and for the time of the next.
    pub fn watch<'s>(&'s self, set: &mut PollSet<'s>) {
        if let Some(running) = &self.running {
            set.add(Tag::Check, &running.pidfd, PollFlags::IN);
        }
        set.wake_at(self.deadline);
    }

    /// Whether an unhealthy container is restarted.
    pub fn restarts(&self) -> bool {
        self.health.on_failure == OnFailure::Restart
    }

    /// Whether the container is healthy, if that has changed since the last call.
    pub fn change(&mut self) -> Option<bool> {
        self.is_healthy.filter(|_| std::mem::take(&mut self.has_changed))
    }

    /// Why the command cannot be run, reported once: that says nothing about the container.
    pub fn trouble(&mut self) -> Option<&Error> {
        let Trouble { error, is_reported } = self.trouble.as_mut()?;
        Some(&*error).filter(|_| !std::mem::replace(is_reported, true))
    }

    /// Starts, ends or judges a check; returns whether the container is unhealthy, and must be killed for it.
    pub fn work(&mut self, has_ended: bool, container: &Started) -> bool {
        let now = sys::monotonic_microseconds();
        if now >= self.deadline && !has_ended && self.leaf.is_some_and(cgroup::is_frozen) {
            // A paused container is neither healthy nor unhealthy, and a running check cannot have ended.
            let later = if self.running.is_some() { self.health.timeout } else { self.health.interval };
            self.deadline = now + microseconds(later);
            return false;
        }
        let ended = match &self.running {
            Some(running) if has_ended => match self.host_failure(running) {
                Some(error) => Err(error),
                None => reap(&running.pidfd),
            },
            Some(running) if now >= self.deadline => {
                // All of its process group ends, which then counts as a failure.
                let _ = sys::pidfd_send_signal(&running.pidfd, signals::END);
                self.deadline = now + microseconds(self.health.timeout);
                return false;
            }
            None if now >= self.deadline => {
                self.deadline = now + microseconds(self.health.timeout);
                match self.start_command(container) {
                    Ok(started) => {
                        self.running = Some(started);
                        return false;
                    }
                    // The container's own limit.
                    Err(error) if error.errno() == Some(Errno::AGAIN) && self.leaf.is_some_and(cgroup::is_full) => {
                        Ok(1)
                    }
                    Err(error) => Err(error),
                }
            }
            _ => return false,
        };
        self.running = None;
        self.deadline = now + microseconds(self.health.interval);
        self.take_result(ended, container, now)
    }

    /// Judges the exit status of a check, or notes why there is none.
    fn take_result(&mut self, ended: Result<u8>, container: &Started, now: u64) -> bool {
        match ended {
            Ok(status) => {
                self.trouble = None;
                return self.judge(status == 0, now);
            }
            // The container has just ended.
            Err(_) if is_ready(&container.pidfd) => {}
            Err(error) => drop(self.trouble.get_or_insert(Trouble { error, is_reported: false })),
        }
        false
    }

    /// Why an ended check could not be run, if the reason is the host's: it has no open files left.
    fn host_failure(&self, running: &Started) -> Option<Error> {
        let mut report = [0; 8];
        if !is_ready(&running.status) || read(&running.status, &mut report) != Ok(report.len()) {
            return None;
        }
        let report = Report::from_bytes(report)?;
        let errno = Errno::from_raw_os_error(report.errno.clamp(1, 4095));
        if !matches!(errno, Errno::MFILE | Errno::NFILE) {
            return None;
        }
        let _ = reap(&running.pidfd);
        Some(Error::new(format_args!("{}", report.step.text()), errno, ""))
    }

    fn judge(&mut self, is_healthy: bool, now: u64) -> bool {
        let was_healthy = self.is_healthy;
        if is_healthy {
            (self.failures, self.is_healthy) = (0, Some(true));
        } else if was_healthy.is_some() || now >= self.started + microseconds(self.health.start_period) {
            self.failures += 1;
            if self.failures >= self.health.retries {
                self.is_healthy = Some(false);
            }
        }
        self.has_changed |= self.is_healthy != was_healthy;
        self.is_healthy == Some(false) && self.health.on_failure != OnFailure::None
    }

    fn start_command(&self, container: &Started) -> Result<Started> {
        let plan = decode_plan(self.plan)?;
        let process = ProcessSpec {
            argv: List::Items(&self.health.command),
            terminal: 0,
            notify: 0,
            notify_as: 0,
            preserved: 0,
            ..plan.process
        };
        let pid = container.pid.as_raw_pid() as u32;
        let container = join::Container { pid, init: &container.pidfd, leaf: self.leaf };
        without_stdio(|| container.start_process(self.init_program, process, 0))
    }
}

fn microseconds(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::file::{self, CWD};
    use rustix::fs::OFlags;

    const SECOND: u64 = 1_000_000;

    /// In place of the init's program, which is not executed here.
    fn null_device() -> OwnedFd {
        file::open(CWD, "/dev/null", OFlags::RDONLY).unwrap()
    }

    /// Judges results in turn, each `true` or `false` at a second after the start: the state and whether to kill.
    fn judge(retries: u32, on_failure: OnFailure, results: &[(u64, bool)]) -> Vec<(Option<bool>, bool)> {
        let health = Health { retries, on_failure, start_period: Duration::from_secs(10), ..Health::new() };
        let program = null_device();
        let mut checks = Checks::of(Some(&health), &[], &program, None).unwrap();
        checks.started = 0;
        let judge = |(at, is_healthy): &(u64, bool)| {
            let kills = checks.judge(*is_healthy, at * SECOND);
            (checks.is_healthy, kills)
        };
        results.iter().map(judge).collect()
    }

    #[test]
    fn failures_in_a_row_make_a_container_unhealthy() {
        let results = [(20, false), (21, true), (22, false), (23, false), (24, true)];
        let states = [None, Some(true), Some(true), Some(false), Some(true)].map(|state| (state, false));
        assert_eq!(judge(2, OnFailure::None, &results), states);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_before_a_success() {
        assert_eq!(judge(1, OnFailure::Kill, &[(9, false), (10, false)]), [(None, false), (Some(false), true)]);
        assert_eq!(judge(1, OnFailure::Kill, &[(1, true), (2, false)]), [(Some(true), false), (Some(false), true)]);
    }

    #[test]
    fn a_change_is_reported_once() {
        let (health, program) = (Health { retries: 1, ..Health::new() }, null_device());
        let mut checks = Checks::of(Some(&health), &[], &program, None).unwrap();
        let mut change = |is_healthy| {
            checks.judge(is_healthy, u64::MAX);
            [checks.change(), checks.change()]
        };
        assert_eq!(change(true), [Some(true), None]);
        assert_eq!(change(true), [None, None]);
        assert_eq!(change(false), [Some(false), None]);
        assert_eq!(change(true), [Some(true), None]);
    }
}
