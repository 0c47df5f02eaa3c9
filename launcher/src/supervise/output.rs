//! The launcher's ends of the stdio of a container in the background: output goes to its log and to the attached
//! clients, input comes from those.
//!
//! Pipes, or one terminal. Output is read here even if nobody else reads it, so the container never waits for a reader
//! forever. Must not hold output for longer than it takes to pass it on.

use crate::config::lifecycle::Log;
use crate::error::{Context, Result};
use crate::supervise::attach::{Attached, Request};
use crate::supervise::log::{Stream, Writer};
use crate::supervise::poll::{PollSet, Ready, Tag};
use crate::supervise::stdio::set_nonblocking;
use crate::sys;
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

/// How much is read at once; also the longest message to a client.
const CHUNK: usize = 16 * 1024;

/// The share of time that passing on output may take: so many microseconds for an empty line, of which the log makes
/// far more than the container has written, and for a read, however little it brings; so much of that at once. Bytes
/// are the container's own expense, so lines of [`LINE`] cost nothing. A container that writes only newlines, or
/// byte by byte, waits, and does not keep the launcher busy.
const COST: u64 = 5;
const LINE: usize = 64;
const READ: usize = 20;
const BURST: u64 = 10_000;

/// The stdio of a container in the background.
pub struct Output {
    /// Standard output or, where there is one, the terminal; and standard error.
    outputs: [Option<OwnedFd>; 2],
    /// The pipe for input, if there is no terminal.
    stdin: Option<OwnedFd>,
    /// Input that does not fit yet, and whether there will be no more.
    typed: Vec<u8>,
    is_input_over: bool,
    /// Whether the terminal is still to come.
    waits_for_terminal: bool,
    /// When the last output is paid for, CLOCK_MONOTONIC, microseconds; and whether this process waits for that.
    paid: u64,
    is_paused: bool,
    /// The size of the clients' terminal: the last one that a client reported.
    size: Option<Winsize>,
    log: Option<Writer>,
    /// The attached clients.
    pub attached: Attached,
}

impl Output {
    /// No stdio yet. `owner` is the socket of the caller that starts the container, and `stays` attached to it or not.
    pub fn new(owner: OwnedFd, stays: bool) -> Self {
        let attached = Attached::new(owner, stays);
        let (typed, is_input_over, waits_for_terminal) = (Vec::new(), false, false);
        let (outputs, stdin, paid, is_paused, size, log) = ([None, None], None, 0, false, None, None);
        Self { outputs, stdin, typed, is_input_over, waits_for_terminal, paid, is_paused, size, log, attached }
    }

    /// Lets others attach to the container with this directory, and opens its log there, where it has one.
    pub fn open(&mut self, directory: &OwnedFd, log: Option<Log>) -> Result<()> {
        self.attached.listen(directory)?;
        if let Some(limits) = log {
            // Close-on-exec: the init must not inherit it.
            let directory = rustix::io::fcntl_dupfd_cloexec(directory, 3).at(format_args!("fcntl"))?;
            self.log = Some(Writer::open(directory, limits)?);
        }
        Ok(())
    }

    /// Waits for the terminal that the container makes, or makes pipes the stdio of this process, for the container to
    /// inherit.
    pub fn open_stdio(&mut self, is_terminal: bool, interactive: bool) -> Result<()> {
        self.waits_for_terminal = is_terminal;
        if is_terminal { Ok(()) } else { self.open_pipes(interactive) }
    }

    /// Where it is not `interactive`, its stdin is empty.
    fn open_pipes(&mut self, interactive: bool) -> Result<()> {
        let what = format_args!("pipe");
        let flags = PipeFlags::CLOEXEC;
        if interactive {
            let (theirs, ours) = pipe_with(flags).at(what)?;
            sys::become_standard(&theirs, 0).at(what)?;
            set_nonblocking(&ours)?;
            self.stdin = Some(ours);
        }
        for (output, standard) in self.outputs.iter_mut().zip(1..) {
            let (ours, theirs) = pipe_with(flags).at(what)?;
            sys::become_standard(&theirs, standard).at(what)?;
            set_nonblocking(&ours)?;
            *output = Some(ours);
        }
        Ok(())
    }

    /// The container's terminal has been made.
    pub fn set_terminal(&mut self, master: OwnedFd) {
        self.waits_for_terminal = false;
        if set_nonblocking(&master).is_ok() {
            self.outputs[0] = Some(master);
        }
        self.set_size();
        self.type_in();
    }

    fn set_size(&self) {
        if let (Some(terminal), Some(size)) = (&self.outputs[0], self.size) {
            let _ = tcsetwinsize(terminal, size);
        }
    }

    /// Whether nothing is read of its output for now.
    fn is_held(&self) -> bool {
        self.is_paused || self.attached.is_behind()
    }

    /// Waits for what the container writes, room for its input, and clients.
    pub fn watch<'a>(&'a self, set: &mut PollSet<'a>) {
        for (place, output) in self.outputs.iter().enumerate() {
            // poll(2) would report the end of a closed output again and again.
            if let Some(output) = output.as_ref().filter(|_| !self.is_held()) {
                set.add(Tag::Output(place), output, PollFlags::IN);
            }
        }
        if let Some(input) = self.input().filter(|_| !self.typed.is_empty()) {
            set.add(Tag::Input, input, PollFlags::OUT);
        }
        if self.is_paused {
            set.wake_at(self.paid);
        }
        self.attached.watch(self.typed.is_empty(), set);
    }

    /// Passes on input and output. Returns the clients' other requests.
    pub fn work(&mut self, ready: &Ready) -> Vec<Request> {
        self.is_paused = self.is_paused && sys::monotonic_microseconds() < self.paid;
        for (place, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            if ready.has(Tag::Output(place)) && !self.is_held() {
                self.pass_on(place, stream);
            }
        }
        if !self.typed.is_empty() {
            self.type_in();
        }
        let mut others = Vec::new();
        for request in self.attached.work(ready) {
            match request {
                Request::Input(bytes) => {
                    self.typed.extend_from_slice(&bytes);
                    self.type_in();
                }
                Request::EndOfInput => {
                    self.is_input_over = true;
                    self.type_in();
                }
                Request::Size(size) => {
                    self.size = Some(size);
                    self.set_size();
                }
                request => others.push(request),
            }
        }
        others
    }

    /// Reads the rest of the output of an ended container, and closes its stdio.
    pub fn drain(&mut self) {
        // A client may be behind: it has until then to catch up.
        self.attached.wait();
        for (place, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            while self.outputs[place].is_some() && self.pass_on(place, stream) {
                self.attached.wait();
            }
        }
        if let Some(log) = &mut self.log {
            log.finish();
        }
        (self.outputs, self.stdin) = ([None, None], None);
        (self.paid, self.is_paused) = (0, false);
        self.typed.clear();
        (self.is_input_over, self.waits_for_terminal) = (false, false);
    }

    /// Reads once; `false` where there is nothing.
    fn pass_on(&mut self, place: usize, stream: Stream) -> bool {
        let Some(output) = &self.outputs[place] else { return false };
        let mut bytes = [0; CHUNK];
        match read(output, &mut bytes) {
            Ok(length @ 1..) => {
                let lines = self.say(stream, &bytes[..length]);
                let cost = READ + (lines * LINE).saturating_sub(length) / LINE;
                let now = sys::monotonic_microseconds();
                self.paid = self.paid.max(now.saturating_sub(BURST)) + cost as u64 * COST;
                self.is_paused = self.paid > now;
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // The last process that had it open has closed it; of a terminal that is EIO.
            Ok(_) | Err(_) => {
                self.outputs[place] = None;
                false
            }
        }
    }

    /// Writes output to the log and to the clients. Returns the number of lines in the log.
    pub fn say(&mut self, stream: Stream, bytes: &[u8]) -> usize {
        self.attached.write(stream, bytes);
        self.log.as_mut().map_or(0, |log| log.write(stream, bytes))
    }

    /// The fd that takes input.
    fn input(&self) -> Option<&OwnedFd> {
        // A terminal is both; the pipe of standard output is not written to.
        self.stdin.as_ref().or(self.outputs[0].as_ref().filter(|_| self.outputs[1].is_none()))
    }

    fn type_in(&mut self) {
        match self.input().map(|input| write(input, &self.typed)) {
            Some(Ok(length)) => drop(self.typed.drain(..length)),
            Some(Err(Errno::AGAIN | Errno::INTR)) => {}
            // It comes soon.
            None if self.waits_for_terminal => {}
            _ => self.typed.clear(),
        }
        if self.is_input_over && self.typed.is_empty() {
            self.stdin = None;
        }
    }
}
