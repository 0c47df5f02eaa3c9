//! The stdio of a command in the foreground: the command inherits it, or this process copies it.
//!
//! A process with an open file can change its mode and its owner, open it again for writing, and truncate it; and the
//! modes of a terminal. So the command gets nothing that has an inode of the host's. For output it inherits pipes
//! without a name, and the null device, which the init replaces with the container's own. Everything else stays here,
//! and the command gets a pipe. Its input is the null device; with `-i` always a pipe of ours, since a process can also
//! write to a pipe that it reads, and a shell may read its script from there. Must not wait for the caller's files, and
//! must not change the flags of an open file that others share.

use crate::error::{Context, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::supervise::poll::{PollSet, Ready, Tag};
use crate::supervise::signals::Signals;
use crate::sys;
use linux_raw_sys::general::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags, SeekFrom, fstat, fstatfs, seek};
use rustix::io::{Errno, fcntl_dupfd_cloexec, ioctl_fionread, read, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

/// How much is copied at once.
const CHUNK: usize = 16 * 1024;
/// Between two looks at a terminal that has something to read, which is for somebody else; microseconds.
const REST: u64 = 200_000;

/// The copying from and to a caller's stdio.
pub struct Stdio {
    /// Of standard input, output and error; the last is missing, too, where it is the same file as the one before.
    copies: [Option<Copy>; 3],
    /// The caller's standard input, where it is copied.
    input: Option<OwnedFd>,
    /// How much of it the command was given.
    given: u64,
}

/// One direction.
struct Copy {
    from: OwnedFd,
    to: OwnedFd,
    /// Bytes that were read and not written yet.
    pending: Vec<u8>,
    /// Until when it does not look whether there is something to read; CLOCK_MONOTONIC, microseconds.
    rests_until: Option<u64>,
}

/// Whether a command must not be given this fd itself for its output.
pub fn is_hosts(fd: BorrowedFd<'_>) -> bool {
    const PIPEFS_MAGIC: u32 = 0x5049_5045;
    fstat(fd).is_ok_and(|stat| match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => fstatfs(fd).is_ok_and(|fs| fs.f_type as u32 != PIPEFS_MAGIC),
        _ => !file::is_null_device(&stat),
    })
}

impl Stdio {
    /// Makes pipes of those standard fds of this process that are the host's, for commands to inherit, and the null
    /// device of the first unless input `is_wanted`; `None` where there is nothing to copy.
    pub fn open(is_wanted: bool) -> Result<Option<Self>> {
        let mut stdio = Self { copies: [None, None, None], input: None, given: 0 };
        let has_input = fstat(sys::standard_fd(0)).is_ok_and(|stat| !file::is_null_device(&stat));
        if has_input && !is_wanted {
            // As in docker: a script's input is only for a command that asks for it.
            let null = file::open(CWD, "/dev/null", OFlags::RDONLY).at(format_args!("open /dev/null"))?;
            sys::become_standard(&null, 0).at(format_args!("dup2"))?;
        }
        let [output, errors] = [1, 2].map(|number| is_hosts(sys::standard_fd(number)));
        let hosts = [has_input && is_wanted, output, errors];
        if hosts == [false; 3] {
            return Ok(None);
        }
        // Here it is a result of write(2), and for the command of its own.
        sys::ignore_sigpipe();
        // Of the terminal's job control, which would stop this process.
        sys::block_signals(1 << (SIGTTIN - 1) | 1 << (SIGTTOU - 1));
        let what = format_args!("pipe");
        // For this process's own words, to the last: `finish` leaves stdio.
        sys::keep_errors().at(what)?;
        let file = |number| fstat(sys::standard_fd(number)).map(|stat| (stat.st_dev, stat.st_ino));
        // Output to one file keeps its order.
        let is_one = hosts[1] && file(1) == file(2);
        for (number, is_hosts) in hosts.into_iter().enumerate() {
            if !is_hosts || number == 2 && is_one {
                continue;
            }
            let standard = number as i32;
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).at(what)?;
            let host = open_for_copying(standard).at(what)?;
            let (theirs, from, to) = if number == 0 {
                stdio.input = Some(fcntl_dupfd_cloexec(sys::standard_fd(0), 3).at(what)?);
                set_nonblocking(&writer)?;
                (reader, host, writer)
            } else {
                set_nonblocking(&reader)?;
                (writer, reader, host)
            };
            if number == 2 || is_one && number == 1 {
                sys::become_standard(&theirs, 2).at(what)?;
            }
            sys::become_standard(&theirs, standard).at(what)?;
            stdio.copies[number] = Some(Copy { from, to, pending: Vec::new(), rests_until: None });
        }
        Ok(Some(stdio))
    }

    /// Waits for something to copy, and for room.
    pub fn watch<'a>(&'a self, set: &mut PollSet<'a>) {
        for (number, copy) in self.copies.iter().enumerate() {
            let Some(copy) = copy else { continue };
            if let Some(fd) = copy.watch() {
                set.push(Tag::Copy(number), fd);
            }
            copy.rests_until.into_iter().for_each(|until| set.wake_at(until));
        }
    }

    /// Copies as much as there is.
    pub fn work(&mut self, ready: &Ready) {
        for (number, place) in self.copies.iter_mut().enumerate() {
            if let Some(copy) = place {
                let worked = if ready.has(Tag::Copy(number)) { copy.work() } else { Some(0) };
                if number == 0 {
                    self.given += worked.unwrap_or(0) as u64;
                }
                if worked.is_none() {
                    *place = None;
                } else if copy.rests_until.is_some_and(|until| until <= sys::monotonic_microseconds()) {
                    copy.rests_until = None;
                }
            }
        }
    }

    /// Copies the rest of the output of an ended command, as far as there is room for it.
    pub fn flush(&mut self) {
        self.copy_rest(&mut self.rest());
    }

    /// How much is left of each. Other processes may keep writing: those are not waited for.
    fn rest(&self) -> [usize; 3] {
        let rest = |copy: &Copy| copy.pending.len() + ioctl_fionread(&copy.from).unwrap_or(0) as usize;
        self.copies.each_ref().map(|copy| copy.as_ref().map_or(0, rest))
    }

    fn copy_rest(&mut self, rest: &mut [usize; 3]) {
        for (place, rest) in self.copies.iter_mut().zip(rest).skip(1) {
            while let Some(copy) = place.as_mut().filter(|_| *rest > 0) {
                match copy.work() {
                    Some(0) => break,
                    Some(length) => *rest = rest.saturating_sub(length),
                    None => *place = None,
                }
            }
        }
    }

    /// The same, and waits until there is room, or a signal says otherwise. There will be no more commands.
    pub fn finish(mut self, signals: &Signals) {
        self.return_input();
        let _ = leave_stdio();
        self.copies[0] = None;
        let mut rest = self.rest();
        loop {
            self.copy_rest(&mut rest);
            let full = self.copies.iter().flatten().filter(|copy| !copy.pending.is_empty());
            let mut fds: Vec<_> = full.filter_map(Copy::watch).list();
            if fds.is_empty() {
                return;
            }
            fds.push(PollFd::new(signals, PollFlags::IN));
            let _ = poll(&mut fds, None);
            while let Some(signal) = signals.next() {
                if [SIGHUP, SIGINT, SIGQUIT, SIGTERM].contains(&signal) {
                    return;
                }
            }
        }
    }

    /// Of a file that the caller reads on, no more is taken than the command has read.
    fn return_input(&self) {
        if let Some(input) = &self.input {
            // The command can write to its pipe: that must not take the caller, a shell with its script, back to lines
            // from before the command.
            let unread = ioctl_fionread(sys::standard_fd(0)).unwrap_or(0).min(self.given);
            let pending = self.copies[0].as_ref().map_or(0, |copy| copy.pending.len());
            // ESPIPE: it is no file.
            let _ = seek(input, SeekFrom::Current(-(unread as i64 + pending as i64)));
        }
    }
}

impl Copy {
    fn watch(&self) -> Option<PollFd<'_>> {
        if !self.pending.is_empty() {
            return Some(PollFd::new(&self.to, PollFlags::OUT));
        }
        self.rests_until.is_none().then(|| PollFd::new(&self.from, PollFlags::IN))
    }

    /// Copies once; how much, and `None` when there will be no more at all.
    fn work(&mut self) -> Option<usize> {
        let mut bytes = [0; CHUNK];
        let pending = std::mem::take(&mut self.pending);
        let mut rest = &*pending;
        if rest.is_empty() {
            let is_background = || tcgetpgrp(&self.from).is_ok_and(|group| group != getpgrp());
            match take(&self.from, &mut bytes) {
                Ok(length @ 1..) => rest = &bytes[..length],
                Err(Errno::AGAIN | Errno::INTR) => return Some(0),
                // The input is for another process, for example a shell. SIGTTIN is blocked, so read(2) fails with EIO.
                Err(Errno::IO) if is_background() => {
                    self.rests_until = Some(sys::monotonic_microseconds() + REST);
                    return Some(0);
                }
                Ok(_) | Err(_) => return None,
            }
        }
        let given = match give(&self.to, rest) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // A disk that is full keeps nobody from going on.
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => rest.len(),
            Err(_) => return None,
        };
        self.pending = rest[given..].to_vec();
        Some(given)
    }
}

/// Our own way to a standard fd of the caller's: of a terminal or a FIFO another open file, which alone does not wait.
fn open_for_copying(number: i32) -> rustix::io::Result<OwnedFd> {
    let fd = sys::standard_fd(number);
    let access = if number == 0 { OFlags::RDONLY } else { OFlags::WRONLY };
    let kind = fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if let Ok(FileType::CharacterDevice | FileType::Fifo) = kind
        && let Ok(own) = file::open(CWD, &format!("/proc/self/fd/{number}"), access | OFlags::NONBLOCK | OFlags::NOCTTY)
    {
        return Ok(own);
    }
    fcntl_dupfd_cloexec(fd, 3)
}

/// read(2) that does not wait for a socket.
fn take(from: &OwnedFd, bytes: &mut [u8]) -> rustix::io::Result<usize> {
    match recv(from, &mut *bytes, RecvFlags::DONTWAIT) {
        Err(Errno::NOTSOCK) => read(from, bytes),
        received => received.map(|(length, _)| length),
    }
}

/// write(2) that does not wait for a socket.
fn give(to: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    match send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::NOTSOCK) => write(to, bytes),
        sent => sent,
    }
}

/// Makes /dev/null the stdio of this process, so that only the container holds its own.
pub fn leave_stdio() -> Result<()> {
    let null = file::open(CWD, "/dev/null", OFlags::RDWR).at(format_args!("open /dev/null"))?;
    for standard in 0..3 {
        sys::become_standard(&null, standard).at(format_args!("dup2"))?;
    }
    Ok(())
}

/// Calls `start` with /dev/null as stdio, and restores the stdio.
pub fn without_stdio<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    let what = format_args!("fcntl");
    let copy = |standard| rustix::io::fcntl_dupfd_cloexec(sys::standard_fd(standard), 3).at(what);
    let ours = [copy(0)?, copy(1)?, copy(2)?];
    let started = leave_stdio().and_then(|()| start());
    for (ours, standard) in ours.iter().zip(0..) {
        sys::become_standard(ours, standard).at(what)?;
    }
    started
}

/// Sets O_NONBLOCK of an open file that is ours alone.
pub fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK).at(format_args!("fcntl"))
}
