//! The caller's terminal, while a command of a container has it: raw, of its size, and restored whatever happens;
//! termios(3).
//!
//! Used by a process that attaches to a container, and by `exec -t`, which holds the other end itself. Must not be used
//! by the launcher that stays in the background.

use crate::error::{Error, Result};
use crate::supervise::attach::{
    self, DETACH, END_OF_INPUT, ENDED, ERRORS, FAILED, INPUT, OUTPUT, RUNNING, SIGNAL, SIZE,
};
use crate::supervise::message;
use crate::supervise::poll::{PollSet, Ready, Tag};
use crate::supervise::signals::{Signals, send_signal};
use crate::sys;
use linux_raw_sys::general::{SIGHUP, SIGWINCH};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::collections::VecDeque;

/// The caller's terminal in raw mode; dropped, it is as it was.
struct Raw {
    original: Termios,
    /// The process that restores it when this one is killed, and what tells it: closed when this process is gone.
    keeper: Pid,
    _end: OwnedFd,
}

/// Rows and columns of the terminal that is this process's stdin or stdout, if one is.
pub fn size() -> Option<Winsize> {
    let size = [0, 1].map(sys::standard_fd).into_iter().find_map(|fd| tcgetwinsize(fd).ok())?;
    Some(Winsize { ws_xpixel: 0, ws_ypixel: 0, ..size })
}

impl Raw {
    /// Of stdin; `None` where that is no terminal.
    fn enter() -> Option<Self> {
        let stdin = sys::standard_fd(0);
        let original = tcgetattr(stdin).ok()?;
        let mut raw = original.clone();
        raw.make_raw();
        let (keeper, _end) = keep(&original, &raw).ok()?;
        let entered = Self { original, keeper, _end };
        // What was typed already is not lost.
        tcsetattr(stdin, OptionalActions::Now, &raw).ok().map(|()| entered)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(sys::standard_fd(0), OptionalActions::Now, &self.original);
        let _ = kill_process(self.keeper, Signal::KILL);
        let _ = waitpid(Some(self.keeper), WaitOptions::empty());
    }
}

/// Starts the process that restores the terminal when this one is killed: it waits for the end of a pipe.
fn keep(original: &Termios, raw: &Termios) -> rustix::io::Result<(Pid, OwnedFd)> {
    let (end, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    // They stay in the memory of the keeper; here there is one terminal.
    let modes: &[_] = Box::leak(Box::new([original.clone(), raw.clone()]));
    sys::fork_apart(3, [end], restore_at_the_end, modes).map(|keeper| (keeper, ours))
}

fn restore_at_the_end([end]: [OwnedFd; 1], modes: &'static [Termios]) -> u8 {
    // What is sent to its process group, or by a terminal that is hung up, is not for it.
    sys::block_signals(u64::MAX);
    while read(&end, &mut [0u8; 1]) == Err(Errno::INTR) {}
    let is_like = |a: &Termios, b: &Termios| {
        (a.input_modes, a.output_modes, a.local_modes) == (b.input_modes, b.output_modes, b.local_modes)
    };
    // A shell may have the terminal back by now, with modes of its own.
    if let [original, raw] = modes
        && tcgetattr(sys::standard_fd(0)).is_ok_and(|now| is_like(&now, raw))
    {
        let _ = tcsetattr(sys::standard_fd(0), OptionalActions::Now, original);
    }
    0
}

/// The other end: the container's launcher, or its terminal itself.
pub enum Peer {
    /// The launcher.
    Launcher {
        /// A socket of attach.rs.
        socket: OwnedFd,
        /// Its pid, if it is a child of this process.
        child: Option<Pid>,
    },
    /// The terminal of a command.
    Terminal {
        /// Its master.
        master: OwnedFd,
        /// The pidfd of the process that ends with the command.
        process: OwnedFd,
        /// Whether it is the command.
        is_payload: bool,
    },
}

/// How it ended.
pub enum Outcome {
    /// The command has ended, with this exit status; `None` if its launcher will report that.
    Ended(Option<u8>),
    /// The detach keys were typed.
    Detached,
    /// The launcher is gone.
    Lost,
    /// The container's command runs.
    Runs,
    /// The terminal is gone.
    HungUp,
}

/// The exit status of a process that left because its terminal is gone, like that of a program that SIGHUP ends.
pub const HUNG_UP: u8 = 128 + SIGHUP as u8;

/// How a terminal is attached.
pub struct Options<'a> {
    /// The keys that leave it, if a person types them.
    pub detach_keys: &'a [u8],
    /// Whether typed input is passed on.
    pub takes_input: bool,
    /// Whether the other end is a terminal: then this one becomes raw and lends it its size.
    pub is_terminal: bool,
    /// Whether to return as soon as the command runs.
    pub until_it_runs: bool,
}

/// Passes on input and output, until the command ends.
pub fn attend(peer: &Peer, signals: &Signals, options: &Options<'_>) -> Result<Outcome> {
    let lends_terminal = options.is_terminal && !options.until_it_runs;
    // After a hangup it is no terminal any more, so this is asked once.
    let is_terminal = match tcgetattr(sys::standard_fd(0)) {
        Err(Errno::IO) if lends_terminal => return Ok(Outcome::HungUp),
        modes => modes.is_ok(),
    };
    if lends_terminal && options.takes_input && !is_terminal {
        crate::print::print(
            2,
            "kontena: warning: stdin is not a terminal, but the command has one: it sees piped input as if it were \
             typed\n",
        );
    }
    let _raw = if lends_terminal && options.takes_input { Raw::enter() } else { None };
    // The output of a program may look like them.
    let keys = if is_terminal { options.detach_keys } else { &[] };
    let session = Session {
        peer,
        signals,
        options,
        can_hang_up: lends_terminal && is_terminal,
        detach_keys: DetachKeys { keys, matched: 0 },
        outgoing: Outgoing::default(),
        has_input: options.takes_input,
        is_size_new: options.is_terminal,
        is_leaving: false,
    };
    session.run()
}

/// A terminal that is attached.
struct Session<'a> {
    peer: &'a Peer,
    signals: &'a Signals,
    options: &'a Options<'a>,
    /// Whether the end of the input is the end of the terminal.
    can_hang_up: bool,
    detach_keys: DetachKeys<'a>,
    outgoing: Outgoing,
    /// Whether there may be more input.
    has_input: bool,
    /// Whether the peer does not know the terminal's size yet.
    is_size_new: bool,
    /// Whether the detach keys were typed.
    is_leaving: bool,
}

impl Session<'_> {
    fn run(mut self) -> Result<Outcome> {
        loop {
            if std::mem::take(&mut self.is_size_new)
                && let Some(size) = size()
            {
                self.peer.set_size(size, &mut self.outgoing);
            }
            if self.is_leaving && self.outgoing.is_empty() {
                return Ok(Outcome::Detached);
            }
            let ready = self.watch().wait()?;
            if let Some(outcome) = self.take_signals() {
                return Ok(outcome);
            }
            if let Some(outcome) = self.work_on_peer(&ready)? {
                return Ok(outcome);
            }
            if ready.has(Tag::Typed)
                && let Some(outcome) = self.take_input()
            {
                return Ok(outcome);
            }
        }
    }

    /// Waits for signals and the peer; for input only if there is room for it.
    fn watch(&self) -> PollSet<'_> {
        let is_free = self.outgoing.is_empty();
        let stdin = sys::standard_fd(0);
        let room = if is_free { PollFlags::empty() } else { PollFlags::OUT };
        let mut set = PollSet::default();
        set.add(Tag::Signals, self.signals, PollFlags::IN);
        match self.peer {
            Peer::Launcher { socket, .. } => set.add(Tag::Peer, socket, PollFlags::IN | room),
            Peer::Terminal { master, process, .. } => {
                set.add(Tag::Peer, master, PollFlags::IN | room);
                set.add(Tag::Exit, process, PollFlags::IN);
            }
        }
        if self.has_input && is_free {
            set.push(Tag::Typed, PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        set
    }

    /// Passes on the signals that have arrived.
    fn take_signals(&mut self) -> Option<Outcome> {
        while let Some(signal) = self.signals.next() {
            match signal {
                SIGWINCH => self.is_size_new = self.options.is_terminal,
                SIGHUP if self.can_hang_up => return Some(Outcome::HungUp),
                signal => self.peer.signal(signal, &mut self.outgoing),
            }
        }
        None
    }

    /// Sends to the peer, and passes on its output.
    fn work_on_peer(&mut self, ready: &Ready) -> Result<Option<Outcome>> {
        let came = ready.events(Tag::Peer);
        if came.contains(PollFlags::OUT) {
            self.peer.send(&mut self.outgoing);
        }
        if came.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && let Some(outcome) = self.peer.pass_on(self.options)?
        {
            return Ok(Some(outcome));
        }
        if !ready.has(Tag::Exit) {
            return Ok(None);
        }
        // Its earlier output is read first: no more than a terminal holds, even if another process keeps writing.
        for _ in 0..HELD {
            if !matches!(self.peer.pass_on(self.options), Ok(None)) {
                break;
            }
        }
        Ok(Some(Outcome::Ended(None)))
    }

    /// Reads input, and passes it on.
    fn take_input(&mut self) -> Option<Outcome> {
        let mut bytes = [0; 4096];
        match read(sys::standard_fd(0), &mut bytes) {
            Ok(length @ 1..) => {
                let typed = self.detach_keys.take_out(&bytes[..length]);
                self.peer.type_in(typed.text, &mut self.outgoing);
                if typed.detaches {
                    (self.is_leaving, self.has_input) = (true, false);
                    self.outgoing.say(&[DETACH]);
                }
                self.peer.send(&mut self.outgoing);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The end of a terminal's input is its hangup.
            Ok(_) | Err(_) if self.can_hang_up => return Some(Outcome::HungUp),
            Ok(_) | Err(_) => {
                self.has_input = false;
                self.outgoing.say(&[END_OF_INPUT]);
            }
        }
        None
    }
}

/// How many reads at most take all that a terminal holds.
const HELD: usize = 1024;

/// What is on its way to the other end, which may have no room for it.
#[derive(Default)]
struct Outgoing {
    /// For a launcher.
    messages: VecDeque<Vec<u8>>,
    /// For a terminal.
    typed: Vec<u8>,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.typed.is_empty()
    }

    fn say(&mut self, message: &[u8]) {
        self.messages.push_back(message.into());
    }
}

/// The detach keys, and how many of them were typed last.
struct DetachKeys<'a> {
    keys: &'a [u8],
    matched: usize,
}

/// Input for the other end.
struct Typed {
    text: Vec<u8>,
    /// Whether the detach keys followed it.
    detaches: bool,
}

impl DetachKeys<'_> {
    /// Takes the detach keys out of the input. Keys that only begin like them are held back until the next one.
    fn take_out(&mut self, input: &[u8]) -> Typed {
        let Self { keys, matched } = self;
        let mut text = Vec::new();
        for byte in input {
            if keys.get(*matched) != Some(byte) {
                text.extend_from_slice(&keys[..*matched]);
                *matched = 0;
            }
            if keys.get(*matched) == Some(byte) {
                *matched += 1;
            } else {
                text.push(*byte);
            }
            if *matched > 0 && *matched == keys.len() {
                return Typed { text, detaches: true };
            }
        }
        Typed { text, detaches: false }
    }
}

impl Peer {
    fn signal(&self, signal: u32, outgoing: &mut Outgoing) {
        match self {
            // One that waits for a lock, or has no room for input, reads no message. The pid is its own until it is
            // reaped. Real-time signals have no name there, and ask nobody to end.
            Self::Launcher { child, .. } => match child.zip(Signal::from_named_raw(signal as i32)) {
                Some((child, signal)) => drop(kill_process(child, signal)),
                None => outgoing.say(&[SIGNAL, signal as u8]),
            },
            Self::Terminal { process, is_payload, .. } => drop(send_signal(process, *is_payload, signal)),
        }
    }

    fn set_size(&self, size: Winsize, outgoing: &mut Outgoing) {
        let ([a, b], [c, d]) = (size.ws_row.to_le_bytes(), size.ws_col.to_le_bytes());
        match self {
            Self::Launcher { .. } => {
                // Only the last one counts.
                outgoing.messages.retain(|message| message.first() != Some(&SIZE));
                outgoing.say(&[SIZE, a, b, c, d]);
            }
            Self::Terminal { master, .. } => {
                let _ = tcsetwinsize(master, size);
            }
        }
    }

    fn type_in(&self, mut typed: Vec<u8>, outgoing: &mut Outgoing) {
        match self {
            _ if typed.is_empty() => {}
            Self::Launcher { .. } => {
                typed.insert(0, INPUT);
                outgoing.messages.push_back(typed);
            }
            Self::Terminal { .. } => outgoing.typed.extend(typed),
        }
    }

    /// As much as there is room for.
    fn send(&self, outgoing: &mut Outgoing) {
        match self {
            Self::Launcher { socket, .. } => {
                while let Some(message) = outgoing.messages.front() {
                    match send(socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                        Err(Errno::AGAIN | Errno::INTR) => return,
                        // It is gone, as the next look at it tells.
                        _ => drop(outgoing.messages.pop_front()),
                    }
                }
            }
            Self::Terminal { master, .. } => {
                // It has no other messages.
                outgoing.messages.clear();
                match write(master, &outgoing.typed) {
                    Ok(length) => drop(outgoing.typed.drain(..length)),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => outgoing.typed.clear(),
                }
            }
        }
    }

    /// Reads once, and writes it to this process's own stdio; says what else was told.
    fn pass_on(&self, options: &Options<'_>) -> Result<Option<Outcome>> {
        let mut bytes = [0; attach::LONGEST];
        match self {
            Self::Terminal { master, .. } => match read(master, &mut bytes) {
                Ok(length @ 1..) => {
                    crate::print::print_bytes(1, &bytes[..length])?;
                    Ok(None)
                }
                Err(Errno::INTR) => Ok(None),
                // EAGAIN: nothing more; EIO: nobody has it open any more.
                Ok(_) | Err(_) => Ok(Some(Outcome::Ended(None))),
            },
            Self::Launcher { socket, .. } => {
                let receive = || recv(socket, &mut bytes[..], RecvFlags::empty()).map(|(length, _)| length);
                let length = match message::receive(receive) {
                    Ok(length @ 1..) => length,
                    _ => return Ok(Some(Outcome::Lost)),
                };
                match (bytes[0], &bytes[1..length]) {
                    (OUTPUT, text) => crate::print::print_bytes(1, text)?,
                    (ERRORS, text) => crate::print::print_bytes(2, text)?,
                    (RUNNING, _) if options.until_it_runs => return Ok(Some(Outcome::Runs)),
                    (FAILED, [status, text @ ..]) => {
                        let text = String::from_utf8_lossy(text);
                        return Err(Error::reported(&text).with_status(*status));
                    }
                    (ENDED, [status]) => return Ok(Some(Outcome::Ended(Some(*status)))),
                    _ => {}
                }
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_taken_out_wherever_they_are_cut() {
        let keys = [16, 17];
        let type_in = |parts: &[&[u8]]| {
            let (mut keys, mut text) = (DetachKeys { keys: &keys, matched: 0 }, Vec::new());
            let stays = parts.iter().all(|part| {
                let typed = keys.take_out(part);
                text.extend(typed.text);
                !typed.detaches
            });
            (stays, text)
        };
        assert_eq!(type_in(&[b"abc"]), (true, b"abc".to_vec()));
        assert_eq!(type_in(&[b"ab\x10\x11cd"]), (false, b"ab".to_vec()));
        assert_eq!(type_in(&[b"ab\x10", b"\x11"]), (false, b"ab".to_vec()));
        assert_eq!(type_in(&[b"\x10", b"x"]), (true, b"\x10x".to_vec()));
        assert_eq!(type_in(&[b"\x10\x10\x11"]), (false, b"\x10".to_vec()));
        assert_eq!(type_in(&[b"\x11\x10"]), (true, b"\x11".to_vec()));
        assert!(!DetachKeys { keys: &[], matched: 0 }.take_out(b"\x10\x11").detaches, "no keys, no way out");
        assert!(DetachKeys { keys: &[2], matched: 0 }.take_out(b"ab\x02").detaches);
    }
}
