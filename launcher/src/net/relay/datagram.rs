//! Relayed datagrams of one port: each client has a socket of its own to the container, as long as something comes or
//! goes.
//!
//! The answer has the address that the question went to: IP_PKTINFO, ip(7). Must not wait.

use crate::net::pktinfo::{self, Question};
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::net::SocketAddr;

/// How long a client without datagrams is remembered, as by nf_conntrack; microseconds.
const IDLE: u64 = 30_000_000;
/// How many clients a port has at once. The one that was silent for the longest makes room for the next.
const CLIENTS: usize = 1024;
/// How many answers are passed on before others have their turn.
const AT_ONCE: usize = 64;
/// The longest datagram.
const LONGEST: usize = 65_535;

struct Client {
    question: Question,
    socket: OwnedFd,
    last: u64,
}

/// A port.
pub struct Datagrams {
    socket: OwnedFd,
    /// The container's.
    pub to: SocketAddr,
    clients: Vec<Option<Client>>,
    buffer: Vec<u8>,
    length: usize,
}

impl Datagrams {
    /// What comes to this socket, to be sent `to` the container.
    pub fn new(socket: OwnedFd, to: SocketAddr) -> rustix::io::Result<Self> {
        pktinfo::ask_for(&socket)?;
        Ok(Self { socket, to, clients: Vec::new(), buffer: vec![0; LONGEST], length: 0 })
    }

    /// Takes the next one that has come from outside.
    pub fn next(&mut self) -> Option<Question> {
        let (length, question) = pktinfo::receive(&self.socket, &mut self.buffer).ok()?;
        self.length = length;
        Some(question)
    }

    /// Where whoever asks is remembered.
    pub fn find(&self, question: &Question) -> Option<usize> {
        self.clients.iter().position(|client| client.as_ref().is_some_and(|client| client.question == *question))
    }

    /// A place for one more.
    pub fn new_place(&mut self) -> usize {
        if let Some(free) = self.clients.iter().position(Option::is_none) {
            return free;
        }
        if self.clients.len() < CLIENTS {
            self.clients.push(None);
            return self.clients.len() - 1;
        }
        let last = |place: &usize| self.clients[*place].as_ref().map_or(0, |client| client.last);
        (0..CLIENTS).min_by_key(last).unwrap_or(0)
    }

    /// Adds a client, with its socket to the container.
    pub fn add(&mut self, place: usize, question: Question, socket: OwnedFd) {
        self.clients[place] = Some(Client { question, socket, last: 0 });
    }

    /// Passes on the question that was taken last.
    pub fn ask(&mut self, place: usize) {
        if let Some(Some(client)) = self.clients.get_mut(place) {
            client.last = sys::monotonic_microseconds();
            let _ = send(&client.socket, &self.buffer[..self.length], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    /// Passes on the answers that there are.
    pub fn answer(&mut self, place: usize) {
        let Some(Some(client)) = self.clients.get_mut(place) else { return };
        for _ in 0..AT_ONCE {
            // ECONNREFUSED: nobody listens in the container, which UDP does not tell.
            let Ok((length, _)) = recv(&client.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) else { return };
            client.last = sys::monotonic_microseconds();
            let _ = pktinfo::answer(self.socket.as_fd(), &client.question, &self.buffer[..length]);
        }
    }

    /// When the next client expires.
    pub fn expiry(&self) -> Option<u64> {
        self.clients.iter().flatten().map(|client| client.last + IDLE).min()
    }

    /// Forgets the clients that were silent for too long.
    pub fn forget_idle(&mut self, now: u64) {
        self.forget_silent(now.saturating_sub(IDLE));
    }

    /// Forgets the clients with no datagram in either direction since then.
    pub fn forget_silent(&mut self, since: u64) {
        for client in &mut self.clients {
            client.take_if(|client| client.last <= since);
        }
    }
}
