//! The caller's terminal, while a command of a container has it: raw, of its size, and restored whatever happens; termios(3).
//!
//! Used by who attaches to a container, and by `exec -t`, which holds the other end itself. Must not be used by what stays in
//! the background.

use crate::attach::{self, DETACH, END_OF_INPUT, ENDED, ERRORS, FAILED, INPUT, OUTPUT, RUNNING, SIGNAL, SIZE};
use crate::error::{Error, Result};
use crate::supervise::Signals;
use crate::sys;
use linux_raw_sys::general::SIGWINCH;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// The caller's terminal in raw mode; dropped, it is as it was.
struct Raw {
    original: Termios,
    /// Closed when this process is gone, which the keeper sees.
    _keeper: OwnedFd,
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
        let keeper = keep(&original).ok()?;
        let mut raw = original.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Flush, &raw).ok()?;
        Some(Self { original, _keeper: keeper })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(sys::standard_fd(0), OptionalActions::Drain, &self.original);
    }
}

/// Starts the process that restores the terminal when this one is killed: it waits for the end of a pipe.
fn keep(original: &Termios) -> rustix::io::Result<OwnedFd> {
    let (end, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    if sys::fork()?.is_some() {
        return Ok(ours);
    }
    drop(ours);
    // SIGTTOU too, which a process of the background gets for what this one is there for.
    sys::block_signals(u64::MAX);
    sys::close_all_but(&end);
    while read(&end, &mut [0u8; 1]) == Err(Errno::INTR) {}
    // As it was, where its owner has restored it already.
    let _ = tcsetattr(sys::standard_fd(0), OptionalActions::Drain, original);
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
}

/// How a terminal is attached.
pub struct Options<'a> {
    /// The keys that leave it.
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
    let mut raw = None;
    let mut tell_size = options.is_terminal;
    let (mut typed, mut has_input) = (Vec::new(), options.takes_input);
    let mut matched = 0;
    loop {
        // Not before the command runs: until then Ctrl-C is for the launcher.
        if raw.is_none() && options.is_terminal && options.takes_input && !options.until_it_runs {
            raw = Raw::enter();
        }
        if std::mem::take(&mut tell_size)
            && let Some((rows, columns)) = size()
        {
            peer.set_size(rows, columns);
        }
        let stdin = sys::standard_fd(0);
        let (from, ended) = peer.fds();
        let reads = if has_input && typed.is_empty() { PollFlags::IN } else { PollFlags::empty() };
        let writes = if typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = vec![PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(from, PollFlags::IN | writes)];
        fds.extend(ended.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        if !reads.is_empty() {
            fds.push(PollFd::from_borrowed_fd(stdin, reads));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new(format_args!("poll"), errno, "")),
        }
        let came: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        while let Some(signal) = signals.next() {
            match signal {
                SIGWINCH => tell_size = options.is_terminal,
                signal => peer.signal(signal),
            }
        }
        if came[1].contains(PollFlags::OUT) {
            peer.type_in(&mut typed);
        }
        if came[1].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && let Some(left) = peer.pass_on(options)?
        {
            return Ok(left);
        }
        if ended.is_some() && !came[2].is_empty() {
            // What it has written before is read first.
            while peer.pass_on(options)?.is_none() {}
            return Ok(Left::Ended(None));
        }
        if !reads.is_empty() && came.last().is_some_and(|came| !came.is_empty()) {
            let mut bytes = [0; 4096];
            match read(stdin, &mut bytes) {
                Ok(length @ 1..) => {
                    if !take_keys(&bytes[..length], options.detach_keys, &mut matched, &mut typed) {
                        peer.detach();
                        return Ok(Left::Detached);
                    }
                    peer.type_in(&mut typed);
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Typed by nobody any more; a terminal that has been hung up.
                Ok(_) | Err(_) => {
                    has_input = false;
                    peer.end_input();
                }
            }
        }
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

    fn say(&self, message: &[u8]) {
        if let Self::Launcher(socket) = self {
            let _ = send(socket, message, SendFlags::NOSIGNAL);
        }
    }

    fn detach(&self) {
        self.say(&[DETACH]);
    }

    fn end_input(&self) {
        self.say(&[END_OF_INPUT]);
    }

    fn signal(&self, signal: u32) {
        match self {
            Self::Launcher(_) => self.say(&[SIGNAL, signal as u8]),
            Self::Terminal(_, process) => drop(sys::pidfd_send_signal(process, signal)),
        }
    }

    fn set_size(&self, rows: u16, columns: u16) {
        let ([a, b], [c, d]) = (rows.to_le_bytes(), columns.to_le_bytes());
        match self {
            Self::Launcher(_) => self.say(&[SIZE, a, b, c, d]),
            Self::Terminal(master, _) => {
                let _ = tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
            }
        }
    }

    /// As much as there is room for.
    fn type_in(&self, typed: &mut Vec<u8>) {
        let sent = match self {
            Self::Launcher(socket) => {
                let message = [&[INPUT], &typed[..]].concat();
                send(socket, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(|sent| sent - 1)
            }
            Self::Terminal(master, _) => write(master, typed),
        };
        match sent {
            Ok(length) => drop(typed.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => typed.clear(),
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
