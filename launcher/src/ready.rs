//! How a container says that it is ready: a newline on an fd, as s6 has it; `READY=1`, as systemd has it; or by a published
//! port that answers.
//!
//! Must not wait for anything: it is told when to work.

use crate::error::{Context, Result};
use crate::file;
use crate::sys;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, chmodat, unlinkat};
use rustix::io::{Errno, read};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};
use std::env;
use std::net::SocketAddr;

/// Between two attempts to reach a port, in microseconds.
const AGAIN: u64 = 10_000;
/// How long after the pipe's end that of the container may come, which is the reason for it then; microseconds.
const END_COMES: u64 = 1_000_000;
/// The socket of `--sdnotify`, in the container's directory, and in the container.
pub const SOCKET: &str = "notify";
pub const SOCKET_INSIDE: &std::ffi::CStr = c"/dev/notify";

/// What is waited for.
enum Sign {
    /// A newline on a pipe.
    Newline(OwnedFd),
    /// That it was closed without one; when, on CLOCK_MONOTONIC, in microseconds.
    Closed(u64),
    /// A datagram, and who is to be sent it, too.
    Datagram(OwnedFd, Option<SocketAddrUnix>),
    /// A connection to a port, in the making.
    Port(SocketAddr, Option<OwnedFd>),
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
        // That of the container's last life.
        let _ = unlinkat(directory, SOCKET, AtFlags::empty());
        let socket = || {
            let socket = socket_with(
                AddressFamily::UNIX,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            )?;
            let path = file::c_path(&format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?;
            bind(&socket, &SocketAddrUnix::new(&*path)?)?;
            // For whatever user the command becomes.
            chmodat(CWD, &*path, Mode::from_raw_mode(0o666), AtFlags::empty()).map(|()| socket)
        };
        let socket = socket().context(format_args!("make the socket of --sdnotify"), "")?;
        let own = env::var("NOTIFY_SOCKET").ok().and_then(|path| match path.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()).ok(),
            None => SocketAddrUnix::new(path.as_bytes()).ok(),
        });
        Ok(Self { sign: Some(Sign::Datagram(socket, own)), is_waited_for })
    }

    /// Whether the start waits for it.
    pub fn is_waited_for(&self) -> bool {
        self.is_waited_for
    }

    /// What is to be waited for.
    pub fn watch(&self) -> Option<PollFd<'_>> {
        match self.sign.as_ref()? {
            Sign::Closed(_) => None,
            Sign::Newline(pipe) => Some(PollFd::new(pipe, PollFlags::IN)),
            Sign::Datagram(socket, _) => Some(PollFd::new(socket, PollFlags::IN)),
            Sign::Port(_, connecting) => connecting.as_ref().map(|socket| PollFd::new(socket, PollFlags::OUT)),
        }
    }

    /// After how many microseconds it is to work, even where nothing comes.
    pub fn timeout(&self) -> Option<u64> {
        match self.sign {
            Some(Sign::Port(_, None)) => Some(AGAIN),
            Some(Sign::Closed(since)) => Some((since + END_COMES).saturating_sub(sys::monotonic_microseconds())),
            _ => None,
        }
    }

    /// Whether it will never come, though the container goes on.
    pub fn never_comes(&self) -> bool {
        matches!(self.sign, Some(Sign::Closed(since)) if sys::monotonic_microseconds() >= since + END_COMES)
    }

    /// Looks; `true` once, when the container is ready.
    ///
    /// `open` gives a socket to a port of the container's, which may not be connected yet.
    #[inline(never)]
    pub fn work(&mut self, has_come: bool, open: &mut dyn FnMut(SocketAddr) -> rustix::io::Result<OwnedFd>) -> bool {
        let is_ready = match &mut self.sign {
            None => return false,
            Some(Sign::Newline(pipe)) if has_come => {
                let mut bytes = [0; 64];
                match read(pipe, &mut bytes) {
                    Ok(length @ 1..) => bytes[..length].contains(&b'\n'),
                    Err(Errno::INTR | Errno::AGAIN) => false,
                    // Closed without a word: it will not come.
                    _ => {
                        self.sign = self.is_waited_for.then(|| Sign::Closed(sys::monotonic_microseconds()));
                        return false;
                    }
                }
            }
            Some(Sign::Datagram(socket, own)) if has_come => {
                let mut bytes = [0; 4096];
                let length = recv(&*socket, &mut bytes[..], RecvFlags::DONTWAIT).map_or(0, |(length, _)| length);
                let mut is_ready = false;
                let mut passed_on = Vec::new();
                for line in bytes[..length].split(|byte| *byte == b'\n') {
                    is_ready |= line == b"READY=1";
                    // Its pids are not the host's.
                    if !line.starts_with(b"MAINPID") && !line.is_empty() {
                        passed_on.extend_from_slice(line);
                        passed_on.push(b'\n');
                    }
                }
                if let Some(own) = own {
                    let _ = sendto(&*socket, &passed_on, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, own);
                }
                // More than that may come to be passed on.
                if is_ready && std::mem::take(&mut self.is_waited_for) {
                    return true;
                }
                return false;
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
