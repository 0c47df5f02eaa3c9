//! The clients of a container in the background: the launcher's side, and the messages between the two.
//!
//! Messages are packets on a unix socket (SOCK_SEQPACKET); the first byte is their kind. `kontena attach` connects to a
//! socket in the container's directory; the caller that has started the container has a connected one. The container
//! waits a moment for a slow client, and then drops it. Must not touch a terminal.

use crate::error::{Context, Error, Result};
use crate::file;
use crate::gather::Gather;
use crate::supervise::log::Stream;
use crate::supervise::message::receive;
use crate::supervise::poll::{PollSet, Ready, Tag};
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    recv, send, socket_with,
};
use rustix::termios::Winsize;
use std::time::Duration;

/// To the launcher: input; the end of input; rows and columns, two bytes each; a signal; the client leaves, and the
/// container keeps running.
pub const INPUT: u8 = b'i';
pub const END_OF_INPUT: u8 = b'z';
pub const SIZE: u8 = b'w';
pub const SIGNAL: u8 = b's';
pub const DETACH: u8 = b'd';
/// From the launcher: output of stdout or a terminal; output of stderr; the command runs; the exit status of a start
/// that failed, and why; the command's exit status.
pub const OUTPUT: u8 = b'o';
pub const ERRORS: u8 = b'e';
pub const RUNNING: u8 = b'r';
pub const FAILED: u8 = b'f';
pub const ENDED: u8 = b'x';

/// The longest message.
pub const LONGEST: usize = 64 * 1024;
/// The socket, in the container's directory.
const SOCKET: &str = "attach";
/// How long a container waits for a client that does not read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nobody else is accepted after this process had no fd for a client, in microseconds: the kernel would report
/// that client again and again.
const REST: u64 = 500_000;

/// A request of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// These bytes are for standard input.
    Input(Vec<u8>),
    /// There will be no more.
    EndOfInput,
    /// The terminal has so many rows and columns.
    Size(Winsize),
    /// This signal is for the command.
    Signal(u32),
    /// The caller that has started the container leaves it running.
    Detach,
    /// The caller that has started the container has exited without detaching.
    OwnerIsGone,
}

impl Request {
    /// Reads a message; `None` where it makes no sense.
    fn read(mut message: Vec<u8>) -> Option<Self> {
        match message[..] {
            [INPUT, ..] => {
                message.remove(0);
                Some(Self::Input(message))
            }
            [END_OF_INPUT, ..] => Some(Self::EndOfInput),
            [SIZE, a, b, c, d] => {
                let (ws_row, ws_col) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                Some(Self::Size(Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }))
            }
            [SIGNAL, signal] => Some(Self::Signal(signal.into())),
            [DETACH, ..] => Some(Self::Detach),
            _ => None,
        }
    }
}

struct Client {
    socket: OwnedFd,
    /// Whether it has started the container, which ends with it.
    is_owner: bool,
    /// Whether it does that until the container has started alone, and sees nothing of it.
    is_starter: bool,
    /// A message that it has no room for yet, and since when; CLOCK_MONOTONIC, microseconds.
    behind: Option<(Vec<u8>, u64)>,
}

/// All clients, and the socket for new ones.
pub struct Attached {
    listener: Option<OwnedFd>,
    /// Until when nobody is accepted; CLOCK_MONOTONIC, microseconds.
    rests_until: Option<u64>,
    clients: Vec<Client>,
}

impl Attached {
    /// The first client is the caller that starts the container: it `stays` until the end, or waits only for the start.
    pub fn new(owner: OwnedFd, stays: bool) -> Self {
        Self {
            listener: None,
            rests_until: None,
            clients: vec![Client { socket: owner, is_owner: true, is_starter: !stays, behind: None }],
        }
    }

    /// Makes the socket in a container's directory.
    pub fn listen(&mut self, directory: &OwnedFd) -> Result<()> {
        let make = || {
            let socket = new_socket(SocketFlags::NONBLOCK)?;
            bind(&socket, &address(directory)?)?;
            listen(&socket, 8).map(|()| socket)
        };
        self.listener = Some(make().at(format_args!("create the socket for attach"))?);
        Ok(())
    }

    /// The container has started, and does not end any more with a client that waited only for that.
    pub fn started(&mut self) {
        self.clients.iter_mut().filter(|client| client.is_starter).for_each(|client| client.is_owner = false);
    }

    /// Whether somebody has no room for more.
    pub fn is_behind(&self) -> bool {
        self.clients.iter().any(|client| client.behind.is_some())
    }

    /// How long until a client that does not read is dropped, in microseconds from now.
    fn patience(&self) -> Option<u64> {
        let since = |client: &Client| client.behind.as_ref().filter(|_| !client.is_owner).map(|(_, since)| *since);
        let first = self.clients.iter().filter_map(since).min()?;
        Some((first + PATIENCE.as_micros() as u64).saturating_sub(sys::monotonic_microseconds()))
    }

    /// Waits for clients: for requests only if there is room for input.
    pub fn watch<'a>(&'a self, has_room: bool, set: &mut PollSet<'a>) {
        let requests = if has_room { PollFlags::IN } else { PollFlags::empty() };
        match (&self.listener, self.rests_until) {
            (Some(listener), None) => set.add(Tag::Listener, listener, PollFlags::IN),
            (_, rests_until) => rests_until.into_iter().for_each(|until| set.wake_at(until)),
        }
        for (place, client) in self.clients.iter().enumerate() {
            let room = if client.behind.is_some() { PollFlags::OUT } else { PollFlags::empty() };
            set.add(Tag::Client(place), &client.socket, requests | room);
        }
        set.wake_after(self.patience());
    }

    /// Serves the clients, and returns their requests.
    pub fn work(&mut self, ready: &Ready) -> Vec<Request> {
        let mut requests = Vec::new();
        for (place, client) in self.clients.iter_mut().enumerate() {
            let came = ready.events(Tag::Client(place));
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
        self.rests_until = self.rests_until.filter(|until| sys::monotonic_microseconds() < *until);
        if ready.has(Tag::Listener) {
            self.accept();
        }
        requests
    }

    /// Accepts a client.
    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => self.clients.push(Client { socket, is_owner: false, is_starter: false, behind: None }),
            // It has left.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => self.rests_until = Some(sys::monotonic_microseconds() + REST),
        }
    }

    /// Sends output to all clients.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if !self.clients.is_empty() {
            let what = if stream == Stream::Stdout { OUTPUT } else { ERRORS };
            let message = [&[what], bytes].concat();
            self.clients.iter_mut().filter(|client| !client.is_starter).for_each(|client| client.send(&message));
        }
    }

    /// Sends the last message to all clients, and waits until they have it.
    pub fn end(&mut self, message: &[u8]) {
        self.wait();
        self.clients.iter_mut().for_each(|client| client.send(message));
        self.wait();
        self.clients.clear();
    }

    /// Waits until no client is behind, or those that are have been dropped: the container has ended, and belongs to
    /// nobody.
    pub fn wait(&mut self) {
        self.clients.iter_mut().for_each(|client| client.is_owner = false);
        while self.is_behind() {
            let fds: Vec<_> = self.clients.iter().filter(|client| client.behind.is_some()).list();
            let mut fds: Vec<_> = fds.iter().map(|client| PollFd::new(&client.socket, PollFlags::OUT)).list();
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

    /// Whether it has exited, or has not read for too long.
    fn is_gone(&self) -> bool {
        let too_long = |since: u64| sys::monotonic_microseconds() - since >= PATIENCE.as_micros() as u64;
        let is_slow = !self.is_owner && self.behind.as_ref().is_some_and(|(_, since)| too_long(*since));
        // Its last message is read first.
        let peek =
            || recv(&self.socket, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|(length, _)| length);
        is_slow || !matches!(receive(peek), Ok(1..) | Err(Errno::AGAIN))
    }

    fn next(&mut self) -> Option<Request> {
        let mut message = vec![0; LONGEST];
        let received = receive(|| recv(&self.socket, &mut message[..], RecvFlags::DONTWAIT).map(|(length, _)| length));
        let Ok(length @ 1..) = received else { return None };
        message.truncate(length);
        match Request::read(message) {
            // For others it means nothing: they leave by closing the socket.
            Some(Request::Detach) if !std::mem::take(&mut self.is_owner) => None,
            request => request,
        }
    }
}

/// The message of [`FAILED`].
pub fn failure(error: &Error) -> Vec<u8> {
    [&[FAILED, error.status()], error.to_string().as_bytes()].concat()
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
        Err(Errno::NOENT | Errno::CONNREFUSED) => {
            Err(Error::usage(format_args!("cannot attach to {name}"), "it runs in the foreground of another command"))
        }
        socket => socket.at(format_args!("attach to {name}")),
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;
    use rustix::net::socketpair;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair of sockets")
    }

    fn say(socket: &OwnedFd, message: &[u8]) {
        assert_eq!(send(socket, message, SendFlags::NOSIGNAL), Ok(message.len()));
    }

    fn hear(socket: &OwnedFd) -> Vec<u8> {
        let mut message = vec![0; LONGEST];
        let length = recv(socket, &mut message[..], RecvFlags::DONTWAIT).map_or(0, |(length, _)| length);
        message.truncate(length);
        message
    }

    #[test]
    fn messages_are_requests_or_nothing() {
        for (message, request) in [
            (&b""[..], None),
            (b"i", Some(Request::Input(b"".into()))),
            (b"ii\0\xff", Some(Request::Input(b"i\0\xff".into()))),
            (b"z", Some(Request::EndOfInput)),
            (b"w\x18\0\x50\x01", Some(Request::Size(Winsize { ws_row: 24, ws_col: 336, ws_xpixel: 0, ws_ypixel: 0 }))),
            (b"w\x18\0\x50", None),
            (b"w\x18\0\x50\0\0", None),
            (b"s\x0f", Some(Request::Signal(15))),
            (b"s", None),
            (b"s\x0f\0", None),
            (b"d", Some(Request::Detach)),
            // Of the other way, and of nobody.
            (b"o", None),
            (b"\0", None),
            (b"\xff\xff", None),
        ] {
            assert_eq!(Request::read(message.into()), request, "{message:?}");
        }
    }

    #[test]
    fn owner_lets_the_container_go_once_or_is_missed() {
        let (ours, theirs) = pair();
        let mut attached = Attached::new(ours, true);
        let came = Ready::only(Tag::Client(0), PollFlags::IN);
        say(&theirs, b"d");
        assert_eq!(attached.work(&came), [Request::Detach]);
        say(&theirs, b"d");
        assert_eq!(attached.work(&came), []);
        drop(theirs);
        assert_eq!(attached.work(&came), [], "it is nobody's any more");

        let (ours, theirs) = pair();
        let mut attached = Attached::new(ours, true);
        say(&theirs, b"ix");
        drop(theirs);
        // Its last message is read first.
        assert_eq!(attached.work(&came), [Request::Input(b"x".into()), Request::OwnerIsGone]);
        assert_eq!(attached.work(&came), []);
    }

    #[test]
    fn output_goes_to_all_but_those_that_wait_for_the_start() {
        for (stays, heard) in [(true, [&b"oout"[..], b"eerr", b"x\x07"]), (false, [&b"x\x07"[..], b"", b""])] {
            let (ours, theirs) = pair();
            let mut attached = Attached::new(ours, stays);
            attached.write(Stream::Stdout, b"out");
            attached.write(Stream::Stderr, b"err");
            attached.end(&[ENDED, 7]);
            assert_eq!([(); 3].map(|()| hear(&theirs)), heard, "{stays}");
        }
    }

    #[test]
    fn failure_has_a_status_and_one_line() {
        let error = Error::usage(format_args!("a"), "b").with_status(127);
        assert_eq!(failure(&error), b"f\x7fa: b");
    }
}
