//! A relayed connection: two sockets, and for each direction what is in a pipe between them; splice(2).
//!
//! Must not copy a byte.

use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_keepalive, set_socket_linger, set_tcp_nodelay};
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::time::Duration;

/// How much is passed on at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;
/// How often, before others have their turn.
const TURNS: usize = 16;
/// How many empty pipes are kept.
const KEPT: usize = 4;

/// Both ends of a pipe.
pub type Pipe = (OwnedFd, OwnedFd);

/// Pipes that are empty.
pub struct Pipes {
    pub empty: Vec<Pipe>,
    /// The first number of the fds that are not for them.
    pub limit: RawFd,
}

impl Pipes {
    /// Sees to it that there is one: fds that new connections take are none for those that there are already.
    pub fn keep_one(&mut self) -> rustix::io::Result<()> {
        let pipe = self.take()?;
        self.give_back(pipe);
        Ok(())
    }

    fn take(&mut self) -> rustix::io::Result<Pipe> {
        if let Some(pipe) = self.empty.pop() {
            return Ok(pipe);
        }
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if pipe.1.as_raw_fd() < self.limit { Ok(pipe) } else { Err(Errno::MFILE) }
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.empty.len() < KEPT {
            self.empty.push(pipe);
        }
    }
}

/// A connection, from a client to the container.
pub struct Stream {
    client: OwnedFd,
    server: OwnedFd,
    to_server: Half,
    to_client: Half,
    /// When something was last passed on; CLOCK_MONOTONIC, microseconds.
    pub last: u64,
}

/// One direction.
#[derive(Default)]
struct Half {
    /// What was read and the other side has no room for, and how much of it.
    held: Option<(Pipe, usize)>,
    /// The end was read.
    has_ended: bool,
    /// The end was passed on.
    is_closed: bool,
}

/// What becomes of a connection.
pub enum State {
    /// Nothing, until something comes.
    Waits,
    /// It had more than was passed on at once.
    HasMore,
    /// There is no fd left for a pipe.
    HasNoPipe,
    /// It is over.
    IsOver,
}

impl Stream {
    /// Between these two, neither of which blocks.
    pub fn new(client: OwnedFd, server: OwnedFd, now: u64) -> Self {
        for socket in [&client, &server] {
            // Parts are passed on as they come; and a vanished client is noticed.
            let _ = set_tcp_nodelay(socket, true);
            let _ = set_socket_keepalive(socket, true);
        }
        Self { client, server, to_server: Half::default(), to_client: Half::default(), last: now }
    }

    /// Passes on, in one or both directions, what there is and fits.
    pub fn pass_on(&mut self, to_server: bool, to_client: bool, pipes: &mut Pipes) -> State {
        let mut pass =
            |wanted, half: &mut Half, from, to| if wanted { half.pass_on(from, to, pipes) } else { Ok(false) };
        let to_server = pass(to_server, &mut self.to_server, &self.client, &self.server);
        let to_client = pass(to_client, &mut self.to_client, &self.server, &self.client);
        match (to_server, to_client) {
            (Err(Errno::MFILE | Errno::NFILE), _) | (_, Err(Errno::MFILE | Errno::NFILE)) => State::HasNoPipe,
            (Err(_), _) | (_, Err(_)) => State::IsOver,
            _ if self.to_server.is_closed && self.to_client.is_closed => State::IsOver,
            (Ok(true), _) | (_, Ok(true)) => State::HasMore,
            _ => State::Waits,
        }
    }

    /// Ends the connection; with a reset to both sides if it was not closed by both.
    pub fn end(self, pipes: &mut Pipes) {
        let is_whole = self.to_server.is_closed && self.to_client.is_closed;
        if !is_whole {
            return self.abort();
        }
        for half in [self.to_server, self.to_client] {
            half.held.into_iter().for_each(|(pipe, _)| pipes.give_back(pipe));
        }
    }

    /// Gives it up.
    pub fn abort(self) {
        reset(&self.client);
        reset(&self.server);
    }
}

impl Half {
    /// `true` where there is more.
    fn pass_on(&mut self, from: &OwnedFd, to: &OwnedFd, pipes: &mut Pipes) -> rustix::io::Result<bool> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        for _ in 0..TURNS {
            if self.held.is_none() {
                if self.has_ended {
                    if !self.is_closed {
                        shutdown(to, Shutdown::Write)?;
                        self.is_closed = true;
                    }
                    return Ok(false);
                }
                let pipe = pipes.take()?;
                match splice(from, None, &pipe.1, None, CHUNK, flags) {
                    Ok(0) => {
                        self.has_ended = true;
                        pipes.give_back(pipe);
                        continue;
                    }
                    Ok(length) => self.held = Some((pipe, length)),
                    Err(errno) => {
                        pipes.give_back(pipe);
                        // ENOTCONN: the connection to the container is still being made.
                        return if matches!(errno, Errno::AGAIN | Errno::NOTCONN) { Ok(false) } else { Err(errno) };
                    }
                }
            }
            if let Some((pipe, length)) = &mut self.held {
                match splice(&pipe.0, None, to, None, *length, flags) {
                    Ok(written) => *length -= written,
                    Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
                    Err(errno) => return Err(errno),
                }
            }
            if let Some((pipe, _)) = self.held.take_if(|(_, length)| *length == 0) {
                pipes.give_back(pipe);
            }
        }
        Ok(true)
    }
}

/// Makes the close of a socket a reset, which tells the other side that the connection did not come to its end.
pub fn reset(socket: &OwnedFd) {
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}
