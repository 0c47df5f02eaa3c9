//! The supervisor: forwards signals to a process of the init's, serves its stdio and its ports, and waits for its end;
//! and for the restart of a container without one.
//!
//! One loop with one poll(2). Each occurrence is an [`Input`], for which the table in `states.rs` has an action. An
//! [`Event`] is for the container's own code. Must not wake up without a cause, and must not decide about restarts.

#[cfg(feature = "background")]
pub mod attach;
pub mod exit;
#[cfg(feature = "background")]
pub mod health;
#[cfg(feature = "background")]
pub mod log;
pub mod message;
#[cfg(feature = "background")]
pub mod output;
pub mod poll;
#[cfg(feature = "background")]
pub mod readiness;
pub mod signals;
pub mod states;
pub mod stdio;
#[cfg(feature = "background")]
pub mod terminal;

#[cfg(not(feature = "background"))]
mod without;
#[cfg(not(feature = "background"))]
pub use without::{attach, health, log, output, readiness};

use crate::error::{Error, Result};
use crate::net::{self, Relay};
use crate::print;
use crate::resources::cgroup::{self, LeafEvents};
use crate::spawn::clone::Started;
use crate::supervise::attach::{ENDED, ERRORS, RUNNING, Request};
use crate::supervise::exit::Exit;
use crate::supervise::health::Checks;
use crate::supervise::log::Stream;
use crate::supervise::message::{Message, listen};
use crate::supervise::output::Output;
use crate::supervise::poll::{PollSet, QUIET, Ready, Tag, is_ready};
use crate::supervise::readiness::Readiness;
use crate::supervise::signals::{Signals, send_signal};
use crate::supervise::states::{Action, Input, State};
use crate::supervise::stdio::Stdio;
use crate::sys;
use kontena_init::plan::Report;
use linux_raw_sys::general::{SIGINT, SIGKILL, SIGTERM};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketType, send};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use std::collections::VecDeque;

/// How many messages are taken from a process of the init's at once: somebody else may have got hold of its socket.
const MESSAGES: usize = 8;
/// Between two looks at a directory whose changes the kernel does not tell, in microseconds.
const LOOK_AGAIN: u64 = 100_000;

/// The supervision of a container, in all its runs; or of a process that joins one, which needs little of it.
pub struct Supervision {
    pub signals: Signals,
    state: State,
    /// The signal that asks the container to end.
    stop_signal: u32,
    /// The caller, while it waits for the start.
    pub starter: Option<OwnedFd>,
    /// The stdio of a container in the background.
    pub output: Option<Output>,
    /// That of one in the foreground, where the caller's is copied.
    pub stdio: Option<Stdio>,
    /// The ports that come through here.
    pub relay: Option<Relay>,
    /// The readiness of the container, if the start waits for it, or it must be passed on.
    pub readiness: Option<Readiness>,
    pause: Option<Pause>,
    events: VecDeque<Event>,
}

/// One run of a container, or a process that joins one.
pub struct Life<'a> {
    process: &'a Started,
    /// `--health-cmd`.
    pub checks: Option<Checks<'a>>,
    /// The events of the leaf cgroup: the kernel may kill the process before its command has begun.
    pub events: Option<LeafEvents<'a>>,
    /// Whether its status has nothing more to say: the command runs, or never will.
    has_begun: bool,
    has_settled: bool,
    report: Option<Report>,
    /// The terminal of a payload that is PID 1. Without this fd it would hang up when the payload closes it, to open it
    /// again by /dev/console.
    terminal: Option<OwnedFd>,
}

/// The time between two runs.
struct Pause {
    /// Its end; CLOCK_MONOTONIC, microseconds.
    due: u64,
    /// Readable when the container's directory has changed; `None` where the kernel cannot tell.
    changes: Option<OwnedFd>,
}

/// An event on which the container's own code must act.
pub enum Event {
    /// Once a run: its command runs, and there is time for other work.
    Quiet,
    /// A container has come or gone.
    LeasesChanged,
    /// It has become healthy, or unhealthy.
    Health(bool),
    /// The caller has detached: it is in the background from now on.
    Detached,
    /// Somebody may have asked not to restart it.
    DirectoryChanged,
    /// The process has ended.
    Exited(Exit),
    /// It must be restarted now.
    Due,
    /// It will not be restarted.
    GivenUp,
}

impl<'a> Life<'a> {
    /// That of a process that has just been started.
    pub fn new(process: &'a Started) -> Self {
        Self { process, checks: None, events: None, has_begun: false, has_settled: false, report: None, terminal: None }
    }

    fn watch<'s>(&'s self, set: &mut PollSet<'s>) {
        set.add(Tag::Exit, &self.process.pidfd, PollFlags::IN);
        if !self.has_begun {
            set.add(Tag::Status, &self.process.status, PollFlags::IN);
            return;
        }
        if let Some(checks) = &self.checks {
            checks.watch(set);
        }
        if !self.has_settled {
            set.wake_after([QUIET]);
        }
    }

    fn send_signal(&self, signal: u32) -> rustix::io::Result<()> {
        send_signal(&self.process.pidfd, self.process.is_payload, signal)
    }

    /// Whether what looks like an exec was the end of a process that the kernel has killed for its memory; `at_once` it
    /// may say so of others, too.
    fn is_dying(&self, at_once: bool) -> bool {
        let expected = if self.process.is_payload { 1 } else { 2 };
        self.events.as_ref().is_some_and(|events| {
            events.counted().is_oom_killed() && (at_once || cgroup::all_processes(events.path).len() < expected)
        })
    }
}

impl Pause {
    fn watch<'a>(&'a self, set: &mut PollSet<'a>) {
        match &self.changes {
            Some(changes) => set.add(Tag::Directory, changes, PollFlags::IN),
            None => set.wake_after([LOOK_AGAIN]),
        }
        set.wake_at(self.due);
    }
}

impl Supervision {
    /// Of a container, which `stop_signal` asks to end.
    pub fn new(signals: Signals, stop_signal: u32) -> Self {
        Self {
            signals,
            state: State::Starting,
            stop_signal,
            starter: None,
            output: None,
            stdio: None,
            relay: None,
            readiness: None,
            pause: None,
            events: VecDeque::new(),
        }
    }

    /// The state of the container.
    pub fn state(&self) -> State {
        self.state
    }

    /// Waits until something happens that the container must know of. There is no `life` in a pause.
    pub fn next(&mut self, mut life: Option<&mut Life<'_>>) -> Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let ready = self.watch(life.as_deref()).wait()?;
            self.work(life.as_deref_mut(), &ready)?;
        }
    }

    /// Waits for the end of a process, whatever else happens.
    pub fn wait_for_exit(&mut self, life: &mut Life<'_>) -> Result<Exit> {
        loop {
            if let Event::Exited(exit) = self.next(Some(life))? {
                return Ok(exit);
            }
        }
    }

    /// Begins a pause of so many microseconds, of which `changes` of the container's directory may be the end.
    pub fn pause(&mut self, microseconds: u64, changes: Option<OwnedFd>) {
        (self.state, self.relay, self.readiness) = (State::Waiting, None, None);
        self.pause = Some(Pause { due: sys::monotonic_microseconds() + microseconds, changes });
    }

    fn watch<'a>(&'a self, life: Option<&'a Life<'_>>) -> PollSet<'a> {
        let mut set = PollSet::default();
        set.add(Tag::Signals, &self.signals, PollFlags::IN);
        if let Some(output) = &self.output {
            output.watch(&mut set);
        }
        if let Some(pause) = &self.pause {
            pause.watch(&mut set);
        }
        let Some(life) = life else { return set };
        life.watch(&mut set);
        if let Some(readiness) = &self.readiness {
            readiness.watch(&mut set);
        }
        if let Some(relay) = &self.relay {
            set.add(Tag::Relay, relay, PollFlags::IN);
            set.wake_after(relay.timeout());
        }
        if let Some(stdio) = &self.stdio {
            stdio.watch(&mut set);
        }
        set
    }

    /// Acts on the events that have come.
    fn work(&mut self, mut life: Option<&mut Life<'_>>, ready: &Ready) -> Result<()> {
        if let Some(life) = life.as_deref_mut()
            && ready.is_idle
            && life.has_begun
            && !std::mem::replace(&mut life.has_settled, true)
        {
            self.take(Input::Quiet, 0, Some(life))?;
        }
        while let Some(signal) = self.signals.next() {
            self.take_signal(signal, life.as_deref_mut())?;
        }
        if self.signals.has_changed.take() {
            self.events.push_back(Event::LeasesChanged);
        }
        if let Some(life) = life.as_deref_mut() {
            self.work_on_life(life, ready)?;
        }
        let requests = self.output.as_mut().map(|output| output.work(ready)).unwrap_or_default();
        for request in requests {
            match request {
                Request::Detach => self.events.push_back(Event::Detached),
                Request::Signal(signal) => self.take_signal(signal, life.as_deref_mut())?,
                Request::OwnerIsGone => self.take(Input::Kill, 0, life.as_deref_mut())?,
                // Those are for the stdio.
                Request::Input(_) | Request::EndOfInput | Request::Size(..) => {}
            }
        }
        // After all that may end the pause: a request to stop comes before the restart that is due.
        let Some(life) = life else { return self.work_on_pause(ready) };
        if ready.has(Tag::Exit) {
            // Its last message, and a line before that, are read first.
            let has_more = self.readiness.as_ref().is_some_and(Readiness::has_more);
            return if has_more { Ok(()) } else { self.take(Input::Exit, 0, Some(life)) };
        }
        if self.will_never_be_ready() {
            self.take(Input::Kill, 0, Some(life))?;
        }
        Ok(())
    }

    fn work_on_pause(&mut self, ready: &Ready) -> Result<()> {
        let Some(pause) = &self.pause else { return Ok(()) };
        let is_due = sys::monotonic_microseconds() >= pause.due;
        if let Some(changes) = pause.changes.as_ref().filter(|_| ready.has(Tag::Directory)) {
            while rustix::io::read(changes, &mut [0; 512]).is_ok() {}
        }
        if pause.changes.is_none() || ready.has(Tag::Directory) {
            self.events.push_back(Event::DirectoryChanged);
        }
        if is_due { self.take(Input::Due, 0, None) } else { Ok(()) }
    }

    fn work_on_life(&mut self, life: &mut Life<'_>, ready: &Ready) -> Result<()> {
        if ready.has(Tag::Status) {
            self.take_messages(life)?;
        }
        let has_ended = ready.has(Tag::Exit);
        if let Some(checks) = life.checks.as_mut().filter(|_| life.has_begun && !has_ended) {
            let is_unhealthy = checks.work(ready.has(Tag::Check), life.process);
            self.events.extend(checks.change().map(Event::Health));
            checks.trouble().into_iter().for_each(|error| self.complain(error));
            let input = if checks.restarts() { Input::UnhealthyRestart } else { Input::Unhealthy };
            if is_unhealthy {
                self.take(input, 0, Some(life))?;
            }
        }
        if let Some(readiness) = &mut self.readiness {
            let relay = &mut self.relay;
            let mut open = |to| match relay {
                Some(relay) => relay.connect(SocketType::STREAM, to),
                None => net::connect_from_host(SocketType::STREAM, to),
            };
            if readiness.work(ready.has(Tag::Readiness), &mut open) && self.starter.is_some() {
                self.tell_starter(&[RUNNING]);
            }
        }
        if let Some(relay) = &mut self.relay {
            // Called each time: it may have unfinished work.
            relay.work();
        }
        if let Some(stdio) = &mut self.stdio {
            stdio.work(ready);
        }
        Ok(())
    }

    /// Takes all messages of the init: if the process has ended, there will be no other chance. The init sends no more
    /// than this.
    fn take_messages(&mut self, life: &mut Life<'_>) -> Result<()> {
        for _ in 0..MESSAGES {
            if life.has_begun || !is_ready(&life.process.status) {
                break;
            }
            match listen(&life.process.status) {
                Message::Fd(master, _) => {
                    if life.process.is_payload {
                        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
                        life.terminal = ioctl_tiocgptpeer(&master, flags).ok();
                    }
                    if let Some(output) = &mut self.output {
                        output.set_terminal(master);
                    }
                }
                Message::Failure(report) => life.report = Some(report),
                Message::End => {
                    life.has_begun = true;
                    self.take(Input::Begun, 0, Some(life))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A signal that asks for the end also asks for no restart.
    fn take_signal(&mut self, signal: u32, life: Option<&mut Life<'_>>) -> Result<()> {
        let asks_for_end = [SIGTERM, SIGINT, SIGKILL, self.stop_signal].contains(&signal);
        self.take(if asks_for_end { Input::Stop } else { Input::Signal }, signal, life)
    }

    /// Acts on an input as the table says; `signal` counts only for an input that is a signal.
    fn take(&mut self, input: Input, signal: u32, life: Option<&mut Life<'_>>) -> Result<()> {
        let transition = self.state.on(input);
        self.state = transition.state;
        match (transition.action, life) {
            // ESRCH: it has just ended.
            (Action::Forward, Some(life)) => drop(life.send_signal(signal)),
            (Action::Kill, Some(life)) => drop(life.send_signal(SIGKILL)),
            // If it has ended already, or is about to, its exit status says whether it had ever begun.
            (Action::Announce, Some(life)) => self.announce(life, true),
            (Action::Settle, Some(life)) => {
                self.announce(life, false);
                self.events.push_back(Event::Quiet);
            }
            (Action::Collect, Some(life)) => {
                let exit = self.collect(life)?;
                self.events.push_back(Event::Exited(exit));
            }
            (Action::Restart, _) => {
                self.pause = None;
                self.events.push_back(Event::Due);
            }
            (Action::GiveUp, _) => {
                self.pause = None;
                self.events.push_back(Event::GivenUp);
            }
            _ => {}
        }
        Ok(())
    }

    /// Kills a container that was asked to stop before it had begun.
    pub fn kill(&mut self, process: &Started) -> Result<()> {
        self.take(Input::Kill, 0, Some(&mut Life::new(process)))
    }

    /// Ends a pause: somebody has asked not to restart the container.
    pub fn give_up(&mut self) -> Result<()> {
        self.take(Input::Stop, 0, None)
    }

    /// Tells the caller that the command runs, unless it is about to end without having begun.
    fn announce(&mut self, life: &Life<'_>, at_once: bool) {
        let has_failed = life.report.is_some() || at_once && is_ready(&life.process.pidfd);
        if has_failed || self.starter.is_some() && life.is_dying(at_once) {
            return;
        }
        self.tell_started();
    }

    /// Reads the rest of the output, and the exit status.
    fn collect(&mut self, life: &Life<'_>) -> Result<Exit> {
        if let Some(output) = &mut self.output {
            output.drain();
        }
        if let Some(stdio) = &mut self.stdio {
            stdio.flush();
        }
        exit::look(&life.process.pidfd, life.report)
    }

    /// Copies the rest of the output, before this process ends.
    pub fn finish_stdio(&mut self) {
        if let Some(stdio) = self.stdio.take() {
            stdio.finish(&self.signals);
        }
    }

    /// Tells the caller that the command runs, or has run, unless it must be ready first.
    pub fn tell_started(&mut self) {
        if !self.must_be_ready() {
            self.tell_starter(&[RUNNING]);
        }
    }

    /// Whether the start waits for more than that the command runs.
    pub fn must_be_ready(&self) -> bool {
        self.readiness.as_ref().is_some_and(Readiness::is_waited_for)
    }

    /// Whether somebody waits for that in vain.
    pub fn will_never_be_ready(&self) -> bool {
        self.starter.is_some() && self.readiness.as_ref().is_some_and(Readiness::never_comes)
    }

    /// A caller that has waited for the start alone leaves after this.
    fn tell_starter(&mut self, message: &[u8]) {
        if let Some(starter) = self.starter.take() {
            sys::leave_errors();
            let _ = send(&starter, message, SendFlags::NOSIGNAL);
        }
        if let Some(output) = &mut self.output {
            output.attached.started();
        }
    }

    /// Shows the caller, whose start has failed, the last lines of the container's log: the log is deleted.
    pub fn show_log(&self, directory: &OwnedFd) {
        if let Some(starter) = &self.starter
            && let Ok(directory) = rustix::io::fcntl_dupfd_cloexec(directory, 3)
        {
            let lines = log::last_lines(directory);
            if !lines.is_empty() {
                let _ = send(starter, &[&[ERRORS], lines.as_bytes()].concat(), SendFlags::NOSIGNAL);
            }
        }
    }

    /// Says where the container's own words go that its health command could not be run; nothing if the container is
    /// about to end.
    fn complain(&mut self, error: &Error) {
        if error.errno() == Some(Errno::SRCH) {
            return;
        }
        let text =
            format!("kontena: the health command could not be started, which does not count as a failure: {error}\n");
        match &mut self.output {
            Some(output) => drop(output.say(Stream::Stderr, text.as_bytes())),
            None => print::print(2, &text),
        }
    }

    /// Tells all attached clients how the container has ended.
    pub fn tell_end(&mut self, ended: &Result<u8>) {
        if let Some(output) = &mut self.output {
            output.attached.end(&match ended {
                Ok(status) => vec![ENDED, *status],
                Err(error) => attach::failure(error),
            });
        }
    }
}
