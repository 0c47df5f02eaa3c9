//! The launcher's ends of the stdio of a container in the background: to its log and to who is attached, and from them.
//!
//! Pipes, or one terminal. What nobody reads is read here, so that the container never waits for a reader for good. Must not
//! hold what it has read for longer than it takes to pass it on.

use crate::attach::{Attached, Request};
use crate::error::{Context, Result};
use crate::file::{self, CWD};
use crate::log::{Stream, Writer};
use crate::sys;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

/// How much is read at once, and is the longest message to who is attached.
const CHUNK: usize = 16 * 1024;

/// The stdio of a container in the background.
pub struct Output {
    /// Standard output or, where there is one, the terminal; and standard error.
    outputs: [Option<OwnedFd>; 2],
    /// Where what is typed goes, where it is not the terminal.
    stdin: Option<OwnedFd>,
    /// What was typed and does not fit yet, and whether there will be no more.
    typed: Vec<u8>,
    is_input_over: bool,
    /// Whether the terminal is still to come.
    waits_for_terminal: bool,
    /// The size of the terminal of who is attached.
    size: Option<Winsize>,
    log: Option<Writer>,
    /// Who sees it now.
    pub attached: Attached,
}

impl Output {
    /// None so far.
    pub fn new(log: Option<Writer>, attached: Attached) -> Self {
        let (typed, is_input_over, waits_for_terminal) = (Vec::new(), false, false);
        Self { outputs: [None, None], stdin: None, typed, is_input_over, waits_for_terminal, size: None, log, attached }
    }

    /// The container makes a terminal, and will send its other end.
    pub fn await_terminal(&mut self) {
        self.waits_for_terminal = true;
    }

    /// Makes pipes the stdio of this process, for the container to inherit; where it is not `interactive`, its stdin is
    /// empty.
    pub fn open_pipes(&mut self, interactive: bool) -> Result<()> {
        let what = format_args!("pipe");
        let flags = PipeFlags::CLOEXEC;
        if interactive {
            let (theirs, ours) = pipe_with(flags).context(what, "")?;
            sys::become_standard(&theirs, 0).context(what, "")?;
            set_nonblocking(&ours)?;
            self.stdin = Some(ours);
        }
        for (output, standard) in self.outputs.iter_mut().zip(1..) {
            let (ours, theirs) = pipe_with(flags).context(what, "")?;
            sys::become_standard(&theirs, standard).context(what, "")?;
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

    /// What is to be waited for. [`Self::work`] is given what has come, in the same order.
    pub fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        // The end of a container's output would be told at once, again and again.
        if !self.attached.is_behind() {
            fds.extend(self.outputs.iter().flatten().map(|output| PollFd::new(output, PollFlags::IN)));
        }
        if let Some(input) = self.input().filter(|_| !self.typed.is_empty()) {
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
        self.attached.watch(self.typed.is_empty(), fds);
    }

    /// Passes on what has come. Gives the requests that are not for the stdio.
    pub fn work(&mut self, came: &[PollFlags]) -> Vec<Request> {
        let mut came = came.iter();
        let was_behind = self.attached.is_behind();
        for (place, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            if !was_behind
                && self.outputs[place].is_some()
                && came.next().is_some_and(|came| !came.is_empty())
                && !self.attached.is_behind()
            {
                self.pass_on(place, stream);
            }
        }
        if self.input().is_some() && !self.typed.is_empty() {
            came.next();
            self.type_in();
        }
        let mut others = Vec::new();
        for request in self.attached.work(came.as_slice()) {
            match request {
                Request::Input(bytes) => {
                    self.typed.extend_from_slice(&bytes);
                    self.type_in();
                }
                Request::EndOfInput => {
                    self.is_input_over = true;
                    self.type_in();
                }
                Request::Size(rows, columns) => {
                    self.size = Some(Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
                    self.set_size();
                }
                request => others.push(request),
            }
        }
        others
    }

    /// Reads what is left of a container that has ended, and closes its stdio.
    pub fn drain(&mut self) {
        // Who is attached may have fallen behind; it has until then to catch up.
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
        self.typed.clear();
        (self.is_input_over, self.waits_for_terminal) = (false, false);
    }

    /// Reads once; `false` where there is nothing.
    fn pass_on(&mut self, place: usize, stream: Stream) -> bool {
        let Some(output) = &self.outputs[place] else { return false };
        let mut bytes = [0; CHUNK];
        match read(output, &mut bytes) {
            Ok(length @ 1..) => {
                if let Some(log) = &mut self.log {
                    log.write(stream, &bytes[..length]);
                }
                self.attached.tell(stream, &bytes[..length]);
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

    /// Where what is typed goes.
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

/// Gives this process no stdio but /dev/null, so that the container alone holds its own.
pub fn leave_stdio() -> Result<()> {
    let null = file::open(CWD, "/dev/null", OFlags::RDWR).context(format_args!("open /dev/null"), "")?;
    for standard in 0..3 {
        sys::become_standard(&null, standard).context(format_args!("dup2"), "")?;
    }
    Ok(())
}

/// Starts something that is to have no stdio but /dev/null, and goes on with what there was.
pub fn without_stdio<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    let what = format_args!("fcntl");
    let copy = |standard| rustix::io::fcntl_dupfd_cloexec(sys::standard_fd(standard), 3).context(what, "");
    let ours = [copy(0)?, copy(1)?, copy(2)?];
    let started = leave_stdio().and_then(|()| start());
    for (ours, standard) in ours.iter().zip(0..) {
        sys::become_standard(ours, standard).context(what, "")?;
    }
    started
}

fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK).context(format_args!("fcntl"), "")
}
