//! Who sees and answers a container in the background: its side in the container's launcher, and what the two say to each
//! other.
//!
//! Messages on a unix socket of sequenced packets, the first byte of each what it is. A container has a socket in its
//! directory for those who come by `attach`, and one that is connected already for who has started it. Who is slow makes
//! the container wait for a moment, and then is left behind. Must not touch a terminal.

use crate::error::{Context, Error, Result};
use crate::file;
use crate::log::Stream;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    recv, send, socket_with,
};
use std::time::Duration;

/// To the launcher: what is typed; that there will be no more; rows and columns, two bytes each; a signal; that it leaves, and
/// the container is to go on.
pub const INPUT: u8 = b'i';
pub const END_OF_INPUT: u8 = b'z';
pub const SIZE: u8 = b'w';
pub const SIGNAL: u8 = b's';
pub const DETACH: u8 = b'd';
/// From it: what was written to standard output or a terminal, and to standard error; that the command runs; an exit status
/// and why it does not; its exit status.
pub const OUTPUT: u8 = b'o';
pub const ERRORS: u8 = b'e';
pub const RUNNING: u8 = b'r';
pub const FAILED: u8 = b'f';
pub const ENDED: u8 = b'x';

/// The longest message.
pub const LONGEST: usize = 64 * 1024;
/// The socket, in the container's directory.
const SOCKET: &str = "attach";
/// How long a container waits for one who is attached and does not read.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one who is attached wants.
pub enum Request {
    /// These bytes are for standard input.
    Input(Vec<u8>),
    /// There will be no more.
    EndOfInput,
    /// The terminal has so many rows and columns.
    Size(u16, u16),
    /// This signal is for the command.
    Signal(u32),
    /// Who has started the container lets it run alone from now on.
    Detach,
    /// Who has started the container is gone without a word.
    OwnerIsGone,
}

struct Client {
    socket: OwnedFd,
    /// Whether it has started the container, which ends with it.
    is_owner: bool,
    /// Whether it does that until the container has started alone, and sees nothing of it.
    is_starter: bool,
    /// What it has no room for yet, and since when; CLOCK_MONOTONIC, microseconds.
    behind: Option<(Vec<u8>, u64)>,
}

/// All who are attached, and the way to become one.
#[derive(Default)]
pub struct Attached {
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
}

impl Attached {
    /// Makes the socket in a container's directory.
    pub fn listen(&mut self, directory: &OwnedFd) -> Result<()> {
        let make = || {
            let socket = new_socket(SocketFlags::NONBLOCK)?;
            bind(&socket, &address(directory)?)?;
            listen(&socket, 8).map(|()| socket)
        };
        self.listener = Some(make().context(format_args!("make the socket for attach"), "")?);
        Ok(())
    }

    /// Adds who has started the container, and stays with it until it has ended, or waits for its start alone.
    pub fn add_owner(&mut self, socket: OwnedFd, stays: bool) {
        self.clients.push(Client { socket, is_owner: true, is_starter: !stays, behind: None });
    }

    /// The container has started, and goes on without who has waited for that.
    pub fn started(&mut self) {
        self.clients.iter_mut().filter(|client| client.is_starter).for_each(|client| client.is_owner = false);
    }

    /// Whether somebody has no room for more.
    pub fn is_behind(&self) -> bool {
        self.clients.iter().any(|client| client.behind.is_some())
    }

    /// How long until one who does not read is left behind, in microseconds from now.
    pub fn patience(&self) -> Option<u64> {
        let since = |client: &Client| client.behind.as_ref().filter(|_| !client.is_owner).map(|(_, since)| *since);
        let first = self.clients.iter().filter_map(since).min()?;
        Some((first + PATIENCE.as_micros() as u64).saturating_sub(sys::monotonic_microseconds()))
    }

    /// What is to be waited for; requests only where there is room for what is typed.
    pub fn watch<'a>(&'a self, has_room: bool, fds: &mut Vec<PollFd<'a>>) {
        let requests = if has_room { PollFlags::IN } else { PollFlags::empty() };
        fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        for client in &self.clients {
            let room = if client.behind.is_some() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(&client.socket, requests | room));
        }
    }

    /// Does what has come; gives what they want.
    pub fn work(&mut self, came: &[PollFlags]) -> Vec<Request> {
        let (mut came, mut requests) = (came.iter(), Vec::new());
        let newcomer = self.listener.is_some() && came.next().is_some_and(|came| came.contains(PollFlags::IN));
        for (client, came) in self.clients.iter_mut().zip(came) {
            if came.contains(PollFlags::OUT) {
                client.catch_up();
            }
            if came.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                requests.extend(client.next());
            }
        }
        self.clients.retain(|client| {
            let is_gone = client.is_gone();
            requests.extend((is_gone && client.is_owner).then_some(Request::OwnerIsGone));
            !is_gone
        });
        if newcomer
            && let Some(listener) = &self.listener
            && let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            self.clients.push(Client { socket, is_owner: false, is_starter: false, behind: None });
        }
        requests
    }

    /// Tells all what the container has written.
    pub fn tell(&mut self, stream: Stream, bytes: &[u8]) {
        if !self.clients.is_empty() {
            let what = if stream == Stream::Stdout { OUTPUT } else { ERRORS };
            let message = [&[what], bytes].concat();
            self.clients.iter_mut().filter(|client| !client.is_starter).for_each(|client| client.send(&message));
        }
    }

    /// Tells all how the container has ended, and waits until they know.
    pub fn end(&mut self, message: &[u8]) {
        self.wait();
        self.clients.iter_mut().for_each(|client| client.send(message));
        self.wait();
        self.clients.clear();
    }

    /// Waits until nobody is behind, or those who are have been left behind: the container has ended, and is nobody's any more.
    pub fn wait(&mut self) {
        self.clients.iter_mut().for_each(|client| client.is_owner = false);
        while self.is_behind() {
            let fds: Vec<_> = self.clients.iter().filter(|client| client.behind.is_some()).collect();
            let mut fds: Vec<_> = fds.iter().map(|client| PollFd::new(&client.socket, PollFlags::OUT)).collect();
            let left = self.patience().unwrap_or(PATIENCE.as_micros() as u64);
            let timeout =
                Timespec { tv_sec: (left / 1_000_000) as i64, tv_nsec: (left % 1_000_000 * 1_000 + 999) as i64 };
            let _ = poll(&mut fds, Some(&timeout));
            drop(fds);
            self.clients.iter_mut().for_each(Client::catch_up);
            self.clients.retain(|client| !client.is_gone());
        }
    }
}

impl Client {
    fn send(&mut self, message: &[u8]) {
        if self.behind.is_some() {
            return;
        }
        if send(&self.socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) == Err(Errno::AGAIN) {
            self.behind = Some((message.into(), sys::monotonic_microseconds()));
        }
    }

    fn catch_up(&mut self) {
        if let Some((message, since)) = self.behind.take()
            && send(&self.socket, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) == Err(Errno::AGAIN)
        {
            self.behind = Some((message, since));
        }
    }

    /// Whether it has waited for too long to be waited for.
    fn is_gone(&self) -> bool {
        let too_long = |since: u64| sys::monotonic_microseconds() - since >= PATIENCE.as_micros() as u64;
        let is_slow = !self.is_owner && self.behind.as_ref().is_some_and(|(_, since)| too_long(*since));
        // What it has said is taken first.
        let peek =
            || recv(&self.socket, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|(length, _)| length);
        is_slow || !matches!(receive(peek), Ok(1..) | Err(Errno::AGAIN))
    }

    fn next(&mut self) -> Option<Request> {
        let mut message = vec![0; LONGEST];
        let received = receive(|| recv(&self.socket, &mut message[..], RecvFlags::DONTWAIT).map(|(length, _)| length));
        let Ok(length @ 1..) = received else { return None };
        message.truncate(length);
        let what = message.remove(0);
        match (what, &message[..]) {
            (INPUT, _) => Some(Request::Input(message)),
            (END_OF_INPUT, _) => Some(Request::EndOfInput),
            (SIZE, [a, b, c, d]) => Some(Request::Size(u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]))),
            (SIGNAL, [signal]) => Some(Request::Signal((*signal).into())),
            (DETACH, _) if std::mem::take(&mut self.is_owner) => Some(Request::Detach),
            _ => None,
        }
    }
}

/// The message of [`FAILED`].
pub fn failure(error: &Error) -> Vec<u8> {
    [&[FAILED, error.status()], error.to_string().as_bytes()].concat()
}

/// Receives a packet. Where the other end was closed before it had read everything, that is told first, and then what it had
/// sent itself.
pub fn receive(mut recv: impl FnMut() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    loop {
        match recv() {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            received => return received,
        }
    }
}

fn new_socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC, None)
}

/// By the directory's fd, since a path of a socket may have 107 bytes only.
fn address(directory: &OwnedFd) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(&*file::c_path(&format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?)
}

/// Attaches to a container, by its directory.
pub fn connect_to(directory: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let socket = || {
        let socket = new_socket(SocketFlags::empty())?;
        connect(&socket, &address(directory)?).map(|()| socket)
    };
    match socket() {
        Err(Errno::NOENT | Errno::CONNREFUSED) => Err(Error::usage(
            format_args!("{name} cannot be attached to"),
            "it was not started in the background: it is attached to who has started it",
        )),
        socket => socket.context(format_args!("attach to {name}"), ""),
    }
}
