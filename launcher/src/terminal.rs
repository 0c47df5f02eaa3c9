//! The caller's terminal, while a command of a container has it: raw, of its size, and restored whatever happens; termios(3).
//!
//! Used by who attaches to a container, and by `exec -t`, which holds the other end itself. Must not be used by what stays in
//! the background.

use crate::attach::{self, DETACH, END_OF_INPUT, ENDED, ERRORS, FAILED, INPUT, OUTPUT, RUNNING, SIGNAL, SIZE};
use crate::error::{Error, Result};
use crate::supervise::Signals;
use crate::sys;
use linux_raw_sys::general::{SIGHUP, SIGWINCH};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, setsid, waitpid};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::collections::VecDeque;

/// The caller's terminal in raw mode; dropped, it is as it was.
struct Raw {
    original: Termios,
    /// The process that restores it when this one is killed, and what tells it: closed when this process is gone.
    keeper: Pid,
    _end: OwnedFd,
}

/// Rows and columns of the terminal that is this process's stdin or stdout, where one is.
pub fn size() -> Option<(u16, u16)> {
    let size = [0, 1].map(sys::standard_fd).into_iter().find_map(|fd| tcgetwinsize(fd).ok())?;
    Some((size.ws_row, size.ws_col))
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
    if let Some(keeper) = sys::fork()? {
        return Ok((keeper, ours));
    }
    drop(ours);
    // What is sent to its process group, or by a terminal that is hung up, is not for it.
    sys::block_signals(u64::MAX);
    let _ = setsid();
    sys::close_all_but(&end);
    while read(&end, &mut [0u8; 1]) == Err(Errno::INTR) {}
    let modes = |terminal: &Termios| (terminal.input_modes, terminal.output_modes, terminal.local_modes);
    // A shell may have the terminal back by now, with modes of its own.
    if tcgetattr(sys::standard_fd(0)).is_ok_and(|now| modes(&now) == modes(raw)) {
        let _ = tcsetattr(sys::standard_fd(0), OptionalActions::Now, original);
    }
    sys::exit(0)
}

/// What is at the other end: the container's launcher, or its terminal itself.
pub enum Peer {
    /// A socket of attach.rs.
    Launcher(OwnedFd),
    /// The master of a terminal, and the pidfd of who ends with its command.
    Terminal(OwnedFd, OwnedFd),
}

/// How it ended.
pub enum Left {
    /// The command has ended, with this exit status; `None` where its launcher will tell.
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

/// The exit status of who had to leave because the terminal is gone, as that of a program that SIGHUP ends.
pub const HUNG_UP: u8 = 128 + SIGHUP as u8;

/// How a terminal is attached.
pub struct Options<'a> {
    /// The keys that leave it, where they are a person's.
    pub detach_keys: &'a [u8],
    /// Whether what is typed is passed on.
    pub takes_input: bool,
    /// Whether the other end is a terminal: then this one becomes raw and lends it its size.
    pub is_terminal: bool,
    /// Whether to come back as soon as the command runs.
    pub until_it_runs: bool,
}

/// Passes on what is typed and what is written, until the command ends.
pub fn attend(peer: &Peer, signals: &Signals, options: &Options<'_>) -> Result<Left> {
    let stdin = sys::standard_fd(0);
    let lends_terminal = options.is_terminal && !options.until_it_runs;
    // One that was hung up is no terminal any more for all that follows, so this is asked once.
    let is_terminal = match tcgetattr(stdin) {
        Err(Errno::IO) if lends_terminal => return Ok(Left::HungUp),
        modes => modes.is_ok(),
    };
    let _raw = if lends_terminal && options.takes_input { Raw::enter() } else { None };
    // What a program writes may look like them.
    let detach_keys = if is_terminal { options.detach_keys } else { &[] };
    let (mut outgoing, mut has_input, mut leaves) = (Outgoing::default(), options.takes_input, false);
    let (mut tell_size, mut matched) = (options.is_terminal, 0);
    loop {
        if std::mem::take(&mut tell_size)
            && let Some((rows, columns)) = size()
        {
            peer.set_size(rows, columns, &mut outgoing);
        }
        if leaves && outgoing.is_empty() {
            return Ok(Left::Detached);
        }
        let (from, ended) = peer.fds();
        let reads = has_input && outgoing.is_empty();
        let writes = if outgoing.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = vec![PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(from, PollFlags::IN | writes)];
        fds.extend(ended.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        if reads {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new(format_args!("poll"), errno, "")),
        }
        let came: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        while let Some(signal) = signals.next() {
            match signal {
                SIGWINCH => tell_size = options.is_terminal,
                SIGHUP if lends_terminal && is_terminal => return Ok(Left::HungUp),
                signal => peer.signal(signal, &mut outgoing),
            }
        }
        if came[1].contains(PollFlags::OUT) {
            peer.send(&mut outgoing);
        }
        if came[1].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && let Some(left) = peer.pass_on(options)?
        {
            return Ok(left);
        }
        if ended.is_some() && !came[2].is_empty() {
            // What it has written before is read first; it is no more than a terminal holds, whoever writes on.
            let _ = (0..HELD).try_for_each(|_| match peer.pass_on(options) {
                Ok(None) => Ok(()),
                left => Err(left),
            });
            return Ok(Left::Ended(None));
        }
        if reads && came.last().is_some_and(|came| !came.is_empty()) {
            let mut bytes = [0; 4096];
            match read(stdin, &mut bytes) {
                Ok(length @ 1..) => {
                    let mut typed = Vec::new();
                    leaves = !take_keys(&bytes[..length], detach_keys, &mut matched, &mut typed);
                    peer.type_in(typed, &mut outgoing);
                    if leaves {
                        has_input = false;
                        outgoing.say(&[DETACH]);
                    }
                    peer.send(&mut outgoing);
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Typed by nobody any more. A terminal has no end but that it is hung up.
                Ok(_) | Err(_) if lends_terminal && is_terminal => return Ok(Left::HungUp),
                Ok(_) | Err(_) => {
                    has_input = false;
                    outgoing.say(&[END_OF_INPUT]);
                }
            }
        }
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

/// Moves what was read to what is typed in, but for detach keys; `false` when they are complete. Keys that only begin like
/// them are held until the next one tells.
fn take_keys(bytes: &[u8], keys: &[u8], matched: &mut usize, typed: &mut Vec<u8>) -> bool {
    for byte in bytes {
        if keys.get(*matched) == Some(byte) {
            *matched += 1;
            if *matched == keys.len() {
                return false;
            }
            continue;
        }
        typed.extend_from_slice(&keys[..*matched]);
        *matched = usize::from(keys.first() == Some(byte));
        if *matched == 0 {
            typed.push(*byte);
        } else if keys.len() == 1 {
            return false;
        }
    }
    true
}

impl Peer {
    fn fds(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        match self {
            Self::Launcher(socket) => (socket.as_fd(), None),
            Self::Terminal(master, process) => (master.as_fd(), Some(process.as_fd())),
        }
    }

    fn signal(&self, signal: u32, outgoing: &mut Outgoing) {
        match self {
            Self::Launcher(_) => outgoing.say(&[SIGNAL, signal as u8]),
            Self::Terminal(_, process) => drop(sys::pidfd_send_signal(process, signal)),
        }
    }

    fn set_size(&self, rows: u16, columns: u16, outgoing: &mut Outgoing) {
        let ([a, b], [c, d]) = (rows.to_le_bytes(), columns.to_le_bytes());
        match self {
            Self::Launcher(_) => {
                // Only the last one counts.
                outgoing.messages.retain(|message| message.first() != Some(&SIZE));
                outgoing.say(&[SIZE, a, b, c, d]);
            }
            Self::Terminal(master, _) => {
                let _ = tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
            }
        }
    }

    fn type_in(&self, mut typed: Vec<u8>, outgoing: &mut Outgoing) {
        match self {
            _ if typed.is_empty() => {}
            Self::Launcher(_) => {
                typed.insert(0, INPUT);
                outgoing.messages.push_back(typed);
            }
            Self::Terminal(..) => outgoing.typed.extend(typed),
        }
    }

    /// As much as there is room for.
    fn send(&self, outgoing: &mut Outgoing) {
        match self {
            Self::Launcher(socket) => {
                while let Some(message) = outgoing.messages.front() {
                    match send(socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                        Err(Errno::AGAIN | Errno::INTR) => return,
                        // It is gone, as the next look at it tells.
                        _ => drop(outgoing.messages.pop_front()),
                    }
                }
            }
            Self::Terminal(master, _) => {
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
    fn pass_on(&self, options: &Options<'_>) -> Result<Option<Left>> {
        let mut bytes = [0; attach::LONGEST];
        match self {
            Self::Terminal(master, _) => match read(master, &mut bytes) {
                Ok(length @ 1..) => {
                    crate::print_bytes(1, &bytes[..length]);
                    Ok(None)
                }
                Err(Errno::INTR) => Ok(None),
                // EAGAIN: nothing more; EIO: nobody has it open any more.
                Ok(_) | Err(_) => Ok(Some(Left::Ended(None))),
            },
            Self::Launcher(socket) => {
                let receive = || recv(socket, &mut bytes[..], RecvFlags::empty()).map(|(length, _)| length);
                let length = match attach::receive(receive) {
                    Ok(length @ 1..) => length,
                    _ => return Ok(Some(Left::Lost)),
                };
                match (bytes[0], &bytes[1..length]) {
                    (OUTPUT, text) => crate::print_bytes(1, text),
                    (ERRORS, text) => crate::print_bytes(2, text),
                    (RUNNING, _) if options.until_it_runs => return Ok(Some(Left::Runs)),
                    (FAILED, [status, text @ ..]) => {
                        let text = String::from_utf8_lossy(text);
                        return Err(Error::told(&text).with_status(*status));
                    }
                    (ENDED, [status]) => return Ok(Some(Left::Ended(Some(*status)))),
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
            let (mut typed, mut matched) = (Vec::new(), 0);
            let stays = parts.iter().all(|part| take_keys(part, &keys, &mut matched, &mut typed));
            (stays, typed)
        };
        assert_eq!(type_in(&[b"abc"]), (true, b"abc".to_vec()));
        assert_eq!(type_in(&[b"ab\x10\x11cd"]), (false, b"ab".to_vec()));
        assert_eq!(type_in(&[b"ab\x10", b"\x11"]), (false, b"ab".to_vec()));
        assert_eq!(type_in(&[b"\x10", b"x"]), (true, b"\x10x".to_vec()));
        assert_eq!(type_in(&[b"\x10\x10\x11"]), (false, b"\x10".to_vec()));
        assert_eq!(type_in(&[b"\x11\x10"]), (true, b"\x11".to_vec()));
        assert!(take_keys(b"\x10\x11", &[], &mut 0, &mut Vec::new()), "no keys, no way out");
        assert!(!take_keys(b"ab\x02", &[2], &mut 0, &mut Vec::new()));
    }
}
