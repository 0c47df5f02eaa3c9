//! The relay: published ports that go through the launcher, where the kernel cannot send them to the container by
//! itself: for `[::1]`, for containers whose network is not linked to the host's, and on kernels without nf_tables.
//!
//! One epoll(7) in the launcher that supervises the container anyway; bytes of a connection go from socket to pipe to
//! socket by splice(2), and never through this program's memory. A side that does not read makes the other one wait,
//! and half a connection can be closed. Must not block, and must not do more at once than leaves time for the rest.

mod datagram;
mod stream;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test this is how a failure is told")]
mod tests;

use crate::config::publish::Protocol;
use crate::error::{Context, Result};
use crate::net::sockets::Sockets;
use crate::sys;
use datagram::Datagrams;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::OFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, connect, listen, socket_with};
use rustix::process::{Resource, getrlimit};
use std::net::SocketAddr;
use stream::Stream;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How many are accepted, and how many events are taken, before the launcher looks after other things.
const AT_ONCE: usize = 64;
/// For how long a port takes no connections when there are no fds left for them; microseconds.
const PAUSE: u64 = 100_000;
/// How many fds are left to the rest of the launcher, which has to start health commands, and to write down an end; of
/// few, a quarter.
const RESERVE: u64 = 64;
/// For how long a connection was silent that makes room for another one, where there are fds for no more; microseconds.
const SILENT: u64 = 10_000_000;

/// How the relay connects to the container.
pub enum Dialer {
    /// From the host.
    Host,
    /// From within the container's own network.
    Inside(Sockets),
}

impl Dialer {
    /// A socket to the container, which may not be connected yet.
    fn connect(&mut self, kind: SocketType, to: SocketAddr) -> rustix::io::Result<OwnedFd> {
        match self {
            Self::Host => connect_from_host(kind, to),
            Self::Inside(sockets) => begin(sockets.make(family(to), kind)?, to),
        }
    }
}

/// A port that is relayed, and where to.
struct Port {
    socket: OwnedFd,
    to: SocketAddr,
    /// A connection that was taken, and there was no fd left for the other end of it.
    taken: Option<OwnedFd>,
    /// Until when it takes no connections; CLOCK_MONOTONIC, microseconds.
    pause: Option<u64>,
}

/// Everything that is relayed for one container.
pub struct Relay {
    epoll: OwnedFd,
    dialer: Dialer,
    ports: Vec<Port>,
    streams: Vec<Option<Box<Stream>>>,
    datagrams: Vec<Datagrams>,
    /// Pipes that no connection holds bytes in.
    pipes: stream::Pipes,
    /// Connections that had more to pass on than was done at once.
    unfinished: Vec<usize>,
    /// Those that had no pipe for it, and when to try again; CLOCK_MONOTONIC, microseconds.
    starved: (Vec<usize>, u64),
    /// The first number of the fds that are not for this.
    limit: RawFd,
    /// When [`Self::work`] was called last, and before when no room is made again; CLOCK_MONOTONIC, microseconds.
    now: u64,
    next_room: u64,
}

/// What the number of a port fits in.
const PORT_BITS: usize = 16;

/// What an event is about: a port, the client's or the container's end of a connection, datagrams of a port from
/// outside, or the answers to them; in the lowest bits, below its place.
const PORT: u64 = 0;
const CLIENT: u64 = 1;
const SERVER: u64 = 2;
const QUESTION: u64 = 3;
const ANSWER: u64 = 4;
const KIND_BITS: u32 = 3;

impl Relay {
    /// Nothing yet.
    pub fn new(dialer: Dialer) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).at(format_args!("epoll_create"))?;
        // Two for each connection, and a pipe where one side waits for the other.
        sys::raise_limit_of_files();
        let (ports, streams, datagrams, unfinished) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (limit, now, next_room) = (limit(), sys::monotonic_microseconds(), 0);
        let pipes = stream::Pipes { empty: Vec::new(), limit };
        let starved = (Vec::new(), 0);
        Ok(Self { epoll, dialer, ports, streams, datagrams, pipes, unfinished, starved, limit, now, next_room })
    }

    /// Relays what comes to a socket, which is bound to the port, `to` the container's.
    pub fn add(&mut self, socket: OwnedFd, protocol: Protocol, to: SocketAddr) -> Result<()> {
        let what = format_args!("relay to {}, port {}", to.ip(), to.port());
        rustix::fs::fcntl_setfl(&socket, OFlags::NONBLOCK).at(what)?;
        match protocol {
            Protocol::Tcp => {
                // Connections that linger must not keep it from listening, nor the next one when they are its own. Not
                // before: as long as nobody listens, others who have it, too, could share the port.
                set_socket_reuseaddr(&socket, true).at(what)?;
                listen(&socket, BACKLOG).at(what)?;
                self.watch(&socket, PORT, self.ports.len(), epoll::EventFlags::IN).at(what)?;
                self.ports.push(Port { socket, to, taken: None, pause: None });
            }
            Protocol::Udp => {
                self.watch(&socket, QUESTION, self.datagrams.len(), epoll::EventFlags::IN).at(what)?;
                self.datagrams.push(Datagrams::new(socket, to).at(what)?);
            }
        }
        Ok(())
    }

    /// After how many microseconds there is something to do even where nothing comes.
    pub fn timeout(&self) -> Option<u64> {
        if !self.unfinished.is_empty() {
            return Some(0);
        }
        let pauses = self.ports.iter().filter_map(|port| port.pause);
        let starved = (!self.starved.0.is_empty()).then_some(self.starved.1);
        let next = pauses.chain(starved).chain(self.datagrams.iter().filter_map(Datagrams::expiry)).min()?;
        Some(next.saturating_sub(sys::monotonic_microseconds()))
    }

    /// Passes on what has come.
    pub fn work(&mut self) {
        let now = sys::monotonic_microseconds();
        self.now = now;
        for place in std::mem::take(&mut self.unfinished) {
            self.pass_on(place, true, true);
        }
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; AT_ONCE];
        let came = epoll::wait(&self.epoll, &mut events[..], Some(&Timespec::default())).unwrap_or(0);
        for event in &events[..came] {
            let data = event.data.u64();
            let place = (data >> KIND_BITS) as usize;
            let flags = event.flags;
            let writes = flags.contains(epoll::EventFlags::OUT);
            let reads = flags.intersects(!epoll::EventFlags::OUT);
            match data & ((1 << KIND_BITS) - 1) {
                PORT => self.accept(place),
                CLIENT => self.pass_on(place, reads, writes),
                SERVER => self.pass_on(place, writes, reads),
                QUESTION => self.ask(place),
                _ => self.answer(place),
            }
        }
        if self.starved.1 <= now {
            self.unfinished.append(&mut self.starved.0);
        }
        for place in 0..self.ports.len() {
            if self.ports[place].pause.take_if(|end| *end <= now).is_some() {
                let _ = self.watch(&self.ports[place].socket, PORT, place, epoll::EventFlags::IN);
                self.accept(place);
            }
        }
        self.datagrams.iter_mut().for_each(|datagrams| datagrams.forget_idle(now));
    }

    fn watch(&self, fd: &OwnedFd, what: u64, place: usize, flags: epoll::EventFlags) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64((place as u64) << KIND_BITS | what), flags)
    }

    fn accept(&mut self, place: usize) {
        self.limit = limit();
        self.pipes.limit = self.limit;
        for _ in 0..AT_ONCE {
            let has_room = self.has_room();
            let Some(port) = self.ports.get_mut(place).filter(|port| port.pause.is_none()) else { return };
            if !has_room {
                return self.pause(place);
            }
            let to = port.to;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let client = match port.taken.take().map_or_else(|| accept_with(&port.socket, flags), Ok) {
                Ok(client) => client,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return self.pause(place),
                // That one was given up meanwhile; or there is none.
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(_) => return,
            };
            match self.pipes.keep_one().and_then(|()| self.connect(SocketType::STREAM, to)) {
                Ok(server) => self.add_stream(client, server),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.ports[place].taken = Some(client);
                    return self.pause(place);
                }
                Err(_) => stream::reset(&client),
            }
        }
    }

    /// Whether the next two fds are not among those that are left to others: the kernel returns the lowest free ones.
    fn has_room(&self) -> bool {
        let next = |from| fcntl_dupfd_cloexec(&self.epoll, from).map_or(self.limit, |fd| fd.as_raw_fd());
        next(next(0) + 1) < self.limit
    }

    /// Closes the connections that have been silent for nearly as long as the most silent one: clients with unused
    /// connections must not keep all others out.
    fn make_room(&mut self) {
        if self.now < self.next_room {
            return;
        }
        self.next_room = self.now + PAUSE;
        let last = self.streams.iter().flatten().map(|stream| stream.last).min().unwrap_or(self.now);
        let until = self.now.saturating_sub(SILENT.max((self.now - last) / 2));
        let mut left = AT_ONCE;
        for place in &mut self.streams {
            if let Some(stream) = place.take_if(|stream| left > 0 && stream.last <= until) {
                left -= 1;
                stream.abort();
            }
        }
        self.datagrams.iter_mut().for_each(|datagrams| datagrams.forget_silent(until));
    }

    /// Takes no connections for a while: they wait in the kernel.
    fn pause(&mut self, place: usize) {
        self.make_room();
        if let Some(port) = self.ports.get_mut(place) {
            let _ = epoll::delete(&self.epoll, &port.socket);
            port.pause = Some(self.now + PAUSE);
        }
    }

    /// A socket to the container, which may not be connected yet.
    pub fn connect(&mut self, kind: SocketType, to: SocketAddr) -> rustix::io::Result<OwnedFd> {
        self.dialer.connect(kind, to)
    }

    fn add_stream(&mut self, client: OwnedFd, server: OwnedFd) {
        let place = self.streams.iter().position(Option::is_none).unwrap_or_else(|| {
            self.streams.push(None);
            self.streams.len() - 1
        });
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let watched =
            self.watch(&client, CLIENT, place, flags).and_then(|()| self.watch(&server, SERVER, place, flags));
        let stream = Stream::new(client, server, self.now);
        if watched.is_ok() {
            self.streams[place] = Some(Box::new(stream));
        } else {
            stream.abort();
        }
    }

    fn pass_on(&mut self, place: usize, to_server: bool, to_client: bool) {
        let Some(Some(stream)) = self.streams.get_mut(place) else { return };
        stream.last = self.now;
        match stream.pass_on(to_server, to_client, &mut self.pipes) {
            stream::State::Waits => {}
            stream::State::HasMore => self.unfinished.push(place),
            stream::State::HasNoPipe => {
                self.starved.0.push(place);
                self.starved.1 = self.now + PAUSE;
                self.make_room();
            }
            stream::State::IsOver => {
                if let Some(stream) = self.streams.get_mut(place).and_then(Option::take) {
                    stream.end(&mut self.pipes);
                }
            }
        }
    }

    fn ask(&mut self, place: usize) {
        for _ in 0..AT_ONCE {
            let Some(question) = self.datagrams.get_mut(place).and_then(Datagrams::next) else { return };
            let Some(datagrams) = self.datagrams.get(place) else { return };
            let client = match datagrams.find(&question) {
                Some(client) => client,
                None => {
                    let to = datagrams.to;
                    if !self.has_room() {
                        self.make_room();
                        continue;
                    }
                    let Ok(socket) = self.connect(SocketType::DGRAM, to) else { continue };
                    let client = self.datagrams[place].new_place();
                    if self.watch(&socket, ANSWER, client << PORT_BITS | place, epoll::EventFlags::IN).is_err() {
                        continue;
                    }
                    self.datagrams[place].add(client, question, socket);
                    client
                }
            };
            self.datagrams[place].ask(client);
        }
    }

    /// By the place of the port and that of the client in it.
    fn answer(&mut self, place: usize) {
        if let Some(datagrams) = self.datagrams.get_mut(place & ((1 << PORT_BITS) - 1)) {
            datagrams.answer(place >> PORT_BITS);
        }
    }
}

/// The first number of the fds that are left to the rest of this process.
fn limit() -> RawFd {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).min(RawFd::MAX as u64);
    (limit - RESERVE.min(limit / 4)) as RawFd
}

/// A socket from the host, which may not be connected yet.
pub fn connect_from_host(kind: SocketType, to: SocketAddr) -> rustix::io::Result<OwnedFd> {
    begin(socket_with(family(to), kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?, to)
}

fn begin(socket: OwnedFd, to: SocketAddr) -> rustix::io::Result<OwnedFd> {
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn family(to: SocketAddr) -> AddressFamily {
    if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
