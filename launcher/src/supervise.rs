//! While a process of the init's runs: forwards signals to it, does what there is to be done meanwhile, and waits for its end.
//!
//! One poll(2). Must not wake up without a cause.

use crate::attach::{self, ENDED, RUNNING, Request};
use crate::error::{Context, Error, Result};
use crate::health::Checks;
use crate::net::{self, Relay};
use crate::output::Output;
use crate::ready::Readiness;
use crate::start::Started;
use crate::sys;
use kontena_init::plan::Report;
use linux_raw_sys::general::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketType, recvmsg, send};
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid};
use std::mem::MaybeUninit;

/// What init is told of, and through it the payload.
const FORWARDED: [u32; 7] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// Signals that arrive at an fd instead of ending this process.
pub struct Signals {
    fd: OwnedFd,
    original_mask: u64,
}

impl Signals {
    /// Blocks them for good; the payload gets the mask back that was. One that the caller had ignored, as nohup(1)
    /// does, stays ignored.
    pub fn block() -> Result<Self> {
        let wanted = FORWARDED.iter().filter(|signal| !sys::is_ignored(**signal));
        let mask = wanted.fold(0, |mask, signal| mask | 1 << (signal - 1));
        let original_mask = sys::block_signals(mask);
        let fd = sys::signalfd(mask).context(format_args!("signalfd"), "")?;
        Ok(Self { fd, original_mask })
    }

    /// The signal mask this process was started with.
    pub fn original_mask(&self) -> u64 {
        self.original_mask
    }

    /// The next one that has arrived; struct signalfd_siginfo begins with its number.
    pub fn next(&self) -> Option<u32> {
        let mut info = [0u8; 128];
        let length = rustix::io::read(&self.fd, &mut info).ok()?;
        info.get(..length)?.first_chunk().map(|number| u32::from_ne_bytes(*number))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the init tells through the status socket.
pub enum Told {
    /// Its exec has closed the socket: the command runs; or the init has ended without a word.
    End,
    /// What failed.
    Failure(Report),
    /// The master of the terminal that it has made.
    Terminal(OwnedFd),
    /// Something else.
    Nothing,
}

/// Takes the next message of the init's, and waits for it.
pub fn listen(status: &OwnedFd) -> Told {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut ancillary, mut bytes) = (RecvAncillaryBuffer::new(&mut space), [0; 8]);
    let length = attach::receive(|| {
        recvmsg(status, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map(|received| received.bytes)
    });
    let length = length.unwrap_or(0);
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Told::Terminal(fd);
        }
    }
    match length {
        0 => Told::End,
        8 => Report::from_bytes(bytes).map_or(Told::Nothing, Told::Failure),
        _ => Told::Nothing,
    }
}

/// How a process of the init's has ended.
pub struct Ended {
    /// Its exit status, which is the command's.
    pub status: u8,
    /// Whether a signal ended it, and not the command's end.
    pub was_killed: bool,
    /// Why the command never ran, if so.
    pub report: Option<Report>,
}

/// What there is to do while a container runs, beside waiting; for a process that joins one there is nothing.
#[derive(Default)]
pub struct Duties {
    /// Its stdio, where it is in the background.
    pub output: Option<Output>,
    /// Who waits for the start of it.
    pub starter: Option<OwnedFd>,
    /// Its ports that come through here.
    pub relay: Option<Relay>,
    /// What makes it ready, where that is waited for, or is to be passed on.
    pub readiness: Option<Readiness>,
    /// The signal that asks it to end.
    pub stop_signal: u32,
    /// Whether somebody has asked it to end: then it is not started again.
    pub is_stopped: bool,
    /// Whether it is to be started again whatever else is said.
    pub is_to_restart: bool,
}

/// How long nothing happens in a container that has started well, in microseconds.
const QUIET: u64 = 10_000;

/// What is told while a process runs.
pub enum News {
    /// Once: the command runs, and leaves the time for something else.
    Quiet,
    /// The container is, or is no more, well.
    Health(bool),
    /// Who has started it has left it alone: it is in the background from now on.
    LeftAlone,
}

/// Waits for the end of `process`, and looks after its health by `checks`; calls `tell` with what happens meanwhile. `is_dying`
/// says whether what looks like an exec was the end of a process that was killed before: at once it may say so of others, too.
pub fn supervise(
    process: &mut Started,
    signals: &Signals,
    duties: &mut Duties,
    mut checks: Option<&mut Checks<'_>>,
    is_dying: &dyn Fn(bool) -> bool,
    tell: &mut dyn FnMut(News),
) -> Result<Ended> {
    let (mut runs, mut was_quiet, mut report) = (false, false, None);
    loop {
        let mut timeout = duties.timeout();
        if let Some(checks) = checks.as_ref().filter(|_| runs) {
            let left = checks.deadline().saturating_sub(sys::monotonic_microseconds());
            timeout = Some(timeout.unwrap_or(left).min(left));
        }
        if runs && !was_quiet {
            timeout = Some(timeout.unwrap_or(QUIET).min(QUIET));
        }
        let mut fds = vec![PollFd::new(&process.pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        if !runs {
            fds.push(PollFd::new(&process.status, PollFlags::IN));
        }
        let check = checks.as_ref().and_then(|checks| checks.watch());
        let is_checked = check.is_some();
        fds.extend(check);
        duties.watch(&mut fds);
        let ready = wait(&mut fds, timeout)?;
        let came: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let mut came = came.iter();
        let (has_ended, _) = (came.next().is_some_and(|came| !came.is_empty()), came.next());
        if ready == 0 && runs && !std::mem::replace(&mut was_quiet, true) {
            if report.is_none() && !is_dying(false) {
                duties.started();
            }
            tell(News::Quiet);
        }
        while let Some(signal) = signals.next() {
            duties.signal(signal, process);
        }
        if !runs && came.next().is_some_and(|came| !came.is_empty()) {
            // All of it: where the process has ended, there will be no other look.
            while !runs && is_ready(&process.status) {
                match listen(&process.status) {
                    Told::Terminal(master) => {
                        if let Some(output) = &mut duties.output {
                            output.set_terminal(master);
                        }
                    }
                    Told::Failure(failure) => report = Some(failure),
                    Told::Nothing => {}
                    Told::End => runs = true,
                }
            }
            // Of one that has ended already, or is about to, its exit status tells whether it had ever begun.
            if runs && report.is_none() && !is_ready(&process.pidfd) && !is_dying(true) {
                duties.started();
            }
        }
        let check_ended = is_checked && came.next().is_some_and(|came| !came.is_empty());
        if let Some(checks) = checks.as_mut().filter(|_| runs && !has_ended) {
            let is_sick = checks.work(check_ended, process);
            checks.news().into_iter().for_each(|is_well| tell(News::Health(is_well)));
            if is_sick {
                duties.is_to_restart = checks.restarts();
                let _ = sys::pidfd_send_signal(&process.pidfd, SIGKILL);
            }
        }
        for request in duties.work(came.as_slice()) {
            match request {
                Request::Detach => tell(News::LeftAlone),
                Request::Signal(signal) => duties.signal(signal, process),
                Request::OwnerIsGone => duties.signal(SIGKILL, process),
                // Those are for the stdio.
                Request::Input(_) | Request::EndOfInput | Request::Size(..) => {}
            }
        }
        // What it said at last, and a line before that, are read, too.
        if has_ended && !duties.readiness.iter().filter_map(Readiness::watch).any(has_come) {
            break;
        }
        if duties.will_never_be_ready() {
            duties.signal(SIGKILL, process);
        }
    }
    if let Some(output) = &mut duties.output {
        output.drain();
    }
    let (status, was_killed) = exit_status(&process.pidfd, WaitIdOptions::NOWAIT)?;
    Ok(Ended { status, was_killed, report })
}

/// Waits for a moment in which there is no container; `false` when `is_stopped` says that it was to be the last, which is
/// looked at when there is something to be read from `changes`.
pub fn pause(
    signals: &Signals,
    duties: &mut Duties,
    microseconds: u64,
    changes: Option<&OwnedFd>,
    is_stopped: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(News),
) -> Result<bool> {
    let end = sys::monotonic_microseconds() + microseconds;
    loop {
        duties.is_stopped |= is_stopped();
        let left = end.saturating_sub(sys::monotonic_microseconds());
        if left == 0 || duties.is_stopped {
            return Ok(!duties.is_stopped);
        }
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        fds.extend(changes.map(|changes| PollFd::new(changes, PollFlags::IN)));
        duties.output.iter().for_each(|output| output.watch(&mut fds));
        let patience = duties.output.as_ref().and_then(|output| output.attached.patience());
        wait(&mut fds, Some(patience.unwrap_or(left).min(left)))?;
        let came: Vec<PollFlags> = fds.iter().skip(1 + usize::from(changes.is_some())).map(PollFd::revents).collect();
        while let Some(signal) = signals.next() {
            duties.is_stopped |= duties.asks_for_the_end(signal);
        }
        while changes.is_some_and(|changes| rustix::io::read(changes, &mut [0; 512]).is_ok()) {}
        for request in duties.output.as_mut().map(|output| output.work(&came)).unwrap_or_default() {
            match request {
                Request::Detach => tell(News::LeftAlone),
                Request::Signal(signal) => duties.is_stopped |= duties.asks_for_the_end(signal),
                Request::OwnerIsGone => duties.is_stopped = true,
                Request::Input(_) | Request::EndOfInput | Request::Size(..) => {}
            }
        }
    }
}

/// The exit status of a process that has ended, or is about to, whose pid may be another's from now on.
pub fn reap(pidfd: &OwnedFd) -> Result<u8> {
    exit_status(pidfd, WaitIdOptions::empty()).map(|(status, _)| status)
}

/// The same for all that have ended.
pub fn reap_all() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// The exit status, and whether a signal was the reason for it.
fn exit_status(pidfd: &OwnedFd, options: WaitIdOptions) -> Result<(u8, bool)> {
    let options = options | WaitIdOptions::EXITED;
    let ended = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), options));
    let ended = ended.context(format_args!("waitid"), "")?;
    let signal = ended.as_ref().and_then(|ended| ended.terminating_signal());
    let status = ended.and_then(|ended| ended.exit_status()).or(signal.map(|signal| 128 + signal));
    Ok((status.unwrap_or(0) as u8, signal.is_some()))
}

/// Whether there is something to be read, or a process has ended.
fn is_ready(fd: &OwnedFd) -> bool {
    has_come(PollFd::new(fd, PollFlags::IN))
}

/// The same for what is waited for of it.
fn has_come(fd: PollFd<'_>) -> bool {
    poll(&mut [fd], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// poll(2) with a timeout in microseconds; how many are ready. Where nothing comes for a moment, it waits with little memory.
fn wait(fds: &mut [PollFd<'_>], timeout: Option<u64>) -> Result<usize> {
    let time = |microseconds: u64| Timespec {
        tv_sec: (microseconds / 1_000_000) as i64,
        tv_nsec: (microseconds % 1_000_000 * 1_000) as i64,
    };
    let mut ready = poll(fds, Some(&time(timeout.unwrap_or(QUIET).min(QUIET))));
    if ready == Ok(0) && timeout.is_none_or(|timeout| timeout > QUIET) {
        let rest = timeout.map(|timeout| time(timeout - QUIET));
        ready = sys::poll_with_little_memory(fds, rest.as_ref());
    }
    match ready {
        Err(Errno::INTR) => Ok(1),
        ready => ready.context(format_args!("poll"), ""),
    }
}

impl Duties {
    fn timeout(&self) -> Option<u64> {
        let output = self.output.as_ref().and_then(|output| output.attached.patience());
        let readiness = self.readiness.as_ref().and_then(|readiness| readiness.timeout());
        let relay = self.relay.as_ref().and_then(Relay::timeout);
        [output, readiness, relay].into_iter().flatten().min()
    }

    fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.extend(self.readiness.iter().flat_map(Readiness::watch));
        fds.extend(self.relay.iter().map(|relay| PollFd::new(relay, PollFlags::IN)));
        self.output.iter().for_each(|output| output.watch(fds));
    }

    /// Does what has come, in the order of [`Self::watch`].
    fn work(&mut self, came: &[PollFlags]) -> Vec<Request> {
        let mut came = came.iter();
        if let Some(readiness) = &mut self.readiness {
            let has_come = readiness.watch().is_some() && came.next().is_some_and(|came| !came.is_empty());
            let relay = &mut self.relay;
            let mut open = |to| match relay {
                Some(relay) => relay.connect(SocketType::STREAM, to),
                None => net::connect_from_host(SocketType::STREAM, to),
            };
            if readiness.work(has_come, &mut open) && self.starter.is_some() {
                self.tell_starter(&[RUNNING]);
            }
        }
        if let Some(relay) = &mut self.relay {
            came.next();
            // It also has what it could not finish.
            relay.work();
        }
        self.output.as_mut().map(|output| output.work(came.as_slice())).unwrap_or_default()
    }

    fn asks_for_the_end(&self, signal: u32) -> bool {
        [SIGTERM, SIGINT, SIGKILL, self.stop_signal].contains(&signal)
    }

    /// Passes a signal on; one that asks for the end asks for no other life, too.
    pub fn signal(&mut self, signal: u32, process: &Started) {
        self.is_stopped |= self.asks_for_the_end(signal);
        // ESRCH: it has just ended.
        let _ = sys::pidfd_send_signal(&process.pidfd, signal);
    }

    /// The command runs, or has run.
    pub fn started(&mut self) {
        if !self.is_to_be_ready() {
            self.tell_starter(&[RUNNING]);
        }
    }

    /// Whether the start waits for more than that the command runs.
    pub fn is_to_be_ready(&self) -> bool {
        self.readiness.as_ref().is_some_and(Readiness::is_waited_for)
    }

    /// Whether somebody waits for that in vain.
    pub fn will_never_be_ready(&self) -> bool {
        self.starter.is_some() && self.readiness.as_ref().is_some_and(Readiness::never_comes)
    }

    /// Tells who has started the container, and who has waited for that alone is gone then.
    fn tell_starter(&mut self, message: &[u8]) {
        if let Some(starter) = self.starter.take() {
            sys::leave_errors();
            let _ = send(&starter, message, SendFlags::NOSIGNAL);
        }
        if let Some(output) = &mut self.output {
            output.attached.started();
        }
    }

    /// Tells who has started the container that it could not be.
    pub fn tell_failure(&mut self, error: &Error) {
        self.tell_starter(&attach::failure(error));
    }

    /// Tells all who see the container how it has ended.
    pub fn tell_end(&mut self, ended: &Result<u8>) {
        if let Some(output) = &mut self.output {
            output.attached.end(&match ended {
                Ok(status) => vec![ENDED, *status],
                Err(error) => attach::failure(error),
            });
        }
    }
}
