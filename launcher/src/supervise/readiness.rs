//! How a container says that it is ready: a newline on an fd, as s6 has it; `READY=1`, as systemd has it; or by a
//! published port that answers.
//!
//! Must not wait for anything: the supervisor calls `work`. Must not receive from a socket that the container can send
//! to: a process that takes a datagram closes the fds in it, and that can take hours (SO_LINGER). A process of its own
//! does that, which nobody waits for.

use crate::error::{Context, Result};
use crate::file;
use crate::supervise::poll::{PollSet, Tag};
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, chmodat};
use rustix::io::{Errno, read};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, recv, send, sendto,
    shutdown, socket_with, socketpair,
};
use rustix::process::{Pid, Signal, getpid, kill_process, set_parent_process_death_signal};
use std::ffi::OsStr;
use std::fmt::Write;
use std::net::SocketAddr;

/// Between two attempts to reach a port, in microseconds.
const AGAIN: u64 = 10_000;
/// How long after the pipe's end that of the container may come, which is the reason for it then; microseconds.
const END_COMES: u64 = 1_000_000;
/// How long the last datagrams of a container that has ended may take from the process that receives them.
const LAST_WORDS: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// The longest datagram that is passed on whole.
const LONGEST: usize = 4096;
/// The socket of `--sdnotify`, in the container's directory.
pub const SOCKET: &str = "notify";

/// What is waited for.
enum Sign {
    /// A newline on a pipe.
    Newline(OwnedFd),
    /// That it was closed without one; when, on CLOCK_MONOTONIC, in microseconds.
    Closed(u64),
    /// A datagram from the receiver, and the socket and the address to pass it on.
    Datagram(Receiver, Option<(OwnedFd, SocketAddrUnix)>),
    /// A connection to a port, in the making.
    Port(SocketAddr, Option<OwnedFd>),
}

/// A process of the launcher's that receives the datagrams of a container and sends their bytes on. It closes the fds
/// that come with them, and nobody ever waits for it.
struct Receiver {
    datagrams: OwnedFd,
    process: Pid,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // SIGKILL ends a close that lingers; tcp(7).
        let _ = kill_process(self.process, Signal::KILL);
    }
}

impl Receiver {
    fn start(socket: OwnedFd) -> Result<Self> {
        let (datagrams, launcher) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .at(format_args!("socketpair"))?;
        let hint = "no processes or memory left";
        let process = sys::fork_apart(3, [socket, launcher], receive, ()).context(format_args!("fork"), hint)?;
        Ok(Self { datagrams, process })
    }
}

/// The receiver's life: until the launcher wants no more, or is gone, and then what has come by then.
fn receive(fds: [OwnedFd; 2], (): ()) -> u8 {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    sys::block_signals(u64::MAX);
    // Nothing of the launcher's or the caller's stays open here.
    let [socket, launcher] = &fds;
    let kept = sys::become_standard(socket, 0).and_then(|()| sys::become_standard(launcher, 1));
    if kept.and_then(|()| sys::become_standard(launcher, 2)).is_err() {
        return 1;
    }
    drop(fds);
    let [socket, launcher] = [0, 1].map(sys::standard_fd);
    let mut bytes = [0; LONGEST];
    let mut is_last = false;
    loop {
        match recv(socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => {}
            Ok((length, _)) => drop(send(launcher, &bytes[..length], SendFlags::NOSIGNAL)),
            Err(_) if is_last => return 0,
            Err(_) => {
                let fds = &mut [socket, launcher].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
                let _ = sys::poll_with_little_memory(fds, None);
                is_last = !fds[1].revents().is_empty();
            }
        }
    }
}

/// What of a datagram is passed on, and whether it says that the container is ready.
///
/// systemd ends a line at `\r` as well, and takes pids, fds, watchdogs and more from it, all of which would be the
/// container's word for the launcher's. So nothing is passed on but what is known to be harmless; that the container is
/// alive, only where the service has a watchdog, which then is one of the container.
fn clean(datagram: &[u8], has_watchdog: bool) -> (bool, String) {
    let (mut is_ready, mut text) = (false, String::new());
    for line in datagram.split(|byte| b"\n\r\0".contains(byte)) {
        let _ = match line {
            b"READY=1" => {
                is_ready = true;
                text.write_str("READY=1\n")
            }
            b"STOPPING=1" => text.write_str("STOPPING=1\n"),
            b"WATCHDOG=1" if has_watchdog => text.write_str("WATCHDOG=1\n"),
            // The time must be later than that of the request, on the clock of the process that has made it.
            b"RELOADING=1" => writeln!(text, "RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_microseconds()),
            [b'S', b'T', b'A', b'T', b'U', b'S', b'=', status @ ..] => {
                let mut status = String::from_utf8_lossy(status).into_owned();
                status.retain(|c| !c.is_control() && !is_invisible(c));
                writeln!(text, "STATUS={status}")
            }
            _ => Ok(()),
        };
    }
    (is_ready, text)
}

/// The time after which systemd ends this launcher's service unless `WATCHDOG=1` comes, in microseconds;
/// sd_watchdog_enabled(3).
pub fn watchdog() -> Option<&'static OsStr> {
    let is_ours = sys::variable("WATCHDOG_PID").is_none_or(|pid| pid == &*getpid().as_raw_pid().to_string());
    sys::variable("WATCHDOG_USEC").filter(|_| is_ours)
}

/// Whether it only changes how others are shown.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The readiness of a container.
pub struct Readiness {
    sign: Option<Sign>,
    is_waited_for: bool,
}

impl Readiness {
    /// By a newline on the pipe whose other end the command has.
    pub fn newline(pipe: OwnedFd, is_waited_for: bool) -> Self {
        Self { sign: Some(Sign::Newline(pipe)), is_waited_for }
    }

    /// By a port of the container's own.
    pub fn port(address: SocketAddr) -> Self {
        Self { sign: Some(Sign::Port(address, None)), is_waited_for: true }
    }

    /// By datagrams to a socket in the container's directory; what comes there is passed on to this launcher's own
    /// $NOTIFY_SOCKET.
    pub fn datagrams(directory: &OwnedFd, is_waited_for: bool) -> Result<Self> {
        // That of the container's last run.
        file::remove(directory, SOCKET, AtFlags::empty());
        let socket = || {
            let socket = new_socket()?;
            let path = file::c_path(&format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?;
            bind(&socket, &SocketAddrUnix::new(&*path)?)?;
            // For whatever user the command becomes.
            chmodat(CWD, &*path, Mode::from_raw_mode(0o666), AtFlags::empty()).map(|()| socket)
        };
        let socket = socket().at(format_args!("create the socket of --sdnotify"))?;
        let own =
            sys::variable("NOTIFY_SOCKET").and_then(OsStr::to_str).and_then(|path| match path.strip_prefix('@') {
                Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()).ok(),
                None => file::c_path(path).and_then(|path| SocketAddrUnix::new(&*path)).ok(),
            });
        let own = own.and_then(|address| Some((new_socket().ok()?, address)));
        Ok(Self { sign: Some(Sign::Datagram(Receiver::start(socket)?, own)), is_waited_for })
    }

    /// Whether the start waits for it.
    pub fn is_waited_for(&self) -> bool {
        self.is_waited_for
    }

    /// Waits for it.
    pub fn watch<'a>(&'a self, set: &mut PollSet<'a>) {
        if let Some(fd) = self.fd() {
            set.push(Tag::Readiness, fd);
        }
        set.wake_after(self.timeout());
    }

    fn fd(&self) -> Option<PollFd<'_>> {
        match self.sign.as_ref()? {
            Sign::Closed(_) => None,
            Sign::Newline(pipe) => Some(PollFd::new(pipe, PollFlags::IN)),
            Sign::Datagram(receiver, _) => Some(PollFd::new(&receiver.datagrams, PollFlags::IN)),
            Sign::Port(_, connecting) => connecting.as_ref().map(|socket| PollFd::new(socket, PollFlags::OUT)),
        }
    }

    /// Whether there is more to come from a container that has ended.
    pub fn has_more(&self) -> bool {
        let patience = match &self.sign {
            Some(Sign::Datagram(receiver, _)) => {
                // What has come by now, and then the end of file. Where the receiver hangs in a close, nobody waits for
                // it.
                let _ = shutdown(&receiver.datagrams, Shutdown::Write);
                LAST_WORDS
            }
            _ => Timespec::default(),
        };
        self.fd().is_some_and(|fd| poll(&mut [fd], Some(&patience)).is_ok_and(|ready| ready > 0))
    }

    /// Nothing will come any more.
    fn end(&mut self) {
        self.sign = self.is_waited_for.then(|| Sign::Closed(sys::monotonic_microseconds()));
    }

    /// After how many microseconds it must work, even where nothing comes.
    fn timeout(&self) -> Option<u64> {
        match self.sign {
            Some(Sign::Port(_, None)) => Some(AGAIN),
            Some(Sign::Closed(since)) => Some((since + END_COMES).saturating_sub(sys::monotonic_microseconds())),
            _ => None,
        }
    }

    /// Whether it will never come, though the container keeps running.
    pub fn never_comes(&self) -> bool {
        matches!(self.sign, Some(Sign::Closed(since)) if sys::monotonic_microseconds() >= since + END_COMES)
    }

    /// Looks; `true` once, when the container is ready.
    ///
    /// `open` returns a socket to a port of the container's, which may not be connected yet.
    #[inline(never)]
    pub fn work(&mut self, has_come: bool, open: &mut dyn FnMut(SocketAddr) -> rustix::io::Result<OwnedFd>) -> bool {
        let is_ready = match &mut self.sign {
            None => return false,
            Some(Sign::Newline(pipe)) if has_come => {
                let mut bytes = [0; 64];
                match read(pipe, &mut bytes) {
                    Ok(length @ 1..) => bytes[..length].contains(&b'\n'),
                    Err(Errno::INTR | Errno::AGAIN) => false,
                    _ => {
                        self.end();
                        return false;
                    }
                }
            }
            Some(Sign::Datagram(receiver, own)) if has_come => {
                let mut bytes = [0; LONGEST];
                let length = match recv(&receiver.datagrams, &mut bytes[..], RecvFlags::DONTWAIT) {
                    Ok((length @ 1.., _)) => length,
                    Err(Errno::INTR | Errno::AGAIN) => return false,
                    // The receiver is gone.
                    _ => {
                        self.end();
                        return false;
                    }
                };
                let (is_ready, text) = clean(&bytes[..length], watchdog().is_some());
                if let (Some((socket, address)), false) = (own, text.is_empty()) {
                    let _ = sendto(&*socket, text.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL, address);
                }
                // More than that may come to be passed on.
                return is_ready && std::mem::take(&mut self.is_waited_for);
            }
            Some(Sign::Port(address, connecting)) => match connecting {
                None => {
                    *connecting = open(*address).ok();
                    false
                }
                Some(socket) if has_come => {
                    let connected = matches!(rustix::net::sockopt::socket_error(&*socket), Ok(Ok(())));
                    *connecting = None;
                    connected
                }
                Some(_) => false,
            },
            Some(_) => false,
        };
        if is_ready {
            self.sign = None;
        }
        is_ready
    }
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_known_words_is_passed_on() {
        for (datagram, is_ready, text) in [
            ("READY=1\nSTATUS=serving\nMAINPID=7\nWATCHDOG=1", true, "READY=1\nSTATUS=serving\n"),
            ("STATUS=hi\rMAINPID=13\rWATCHDOG=trigger", false, "STATUS=hi\n"),
            ("STATUS=a\0MAINPID=1", false, "STATUS=a\n"),
            ("STATUS=a\u{b}\u{85}\u{2028}b\u{202e}c\u{1b}[2J\t", false, "STATUS=abc[2J\n"),
            ("STATUS=Zürich 東京", false, "STATUS=Zürich 東京\n"),
            ("STOPPING=1\rSTOPPING=2\nREADY=11\n READY=1\nready=1\n=\n", false, "STOPPING=1\n"),
            ("MAINPID=1\nMAINPIDFDID=1\nNOTIFYACCESS=all\nERRNO=2\nX_Y=1\nBARRIER=1\nMONOTONIC_USEC=1", false, ""),
            ("", false, ""),
        ] {
            assert_eq!(clean(datagram.as_bytes(), false), (is_ready, text.into()), "{datagram:?}");
        }
        let watchdog = b"WATCHDOG=1\nWATCHDOG=trigger\nWATCHDOG_USEC=1\rWATCHDOG=1";
        assert_eq!(clean(watchdog, true), (false, "WATCHDOG=1\nWATCHDOG=1\n".into()));
        assert_eq!(clean(b"STATUS=\xff\xfe", false).1, "STATUS=\u{fffd}\u{fffd}\n");
        let before = sys::monotonic_microseconds();
        let (_, text) = clean(b"MONOTONIC_USEC=0\nRELOADING=1", false);
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|time| time.trim_end().parse().ok());
        assert!(time.is_some_and(|time: u64| time >= before), "{text}");
    }
}
