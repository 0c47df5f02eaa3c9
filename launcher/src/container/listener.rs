//! The listener of a filter that notifies calls: sent to the seccomp agent that answers them, together with the
//! container process state of the OCI's runtime-spec.
//!
//! Must not keep the listener: calls fail with ENOSYS after the agent's end only if all copies are closed.

use crate::error::{Context, Result};
use crate::file::{self, CWD};
use crate::json::Json;
use crate::spawn::clone::Started;
use crate::state::handed_over::{STATE, describe};
use crate::supervise::message::{Message, listen};
use crate::supervise::poll::is_ready;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, IoSlice};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, sendmsg, socket_with,
};
use std::mem::MaybeUninit;

/// The version of the specification for the container process state.
const VERSION: &str = "1.3.0";

/// The seccomp agent of a container, if it has one, and the listener to be sent to it.
pub struct Agent<'a> {
    path: &'a str,
    metadata: Option<&'a str>,
    socket: Option<OwnedFd>,
    /// The listener, after it has been received.
    pub listener: Option<OwnedFd>,
}

impl<'a> Agent<'a> {
    /// Connects to the agent of a Plan. Comes first, so that an error leaves nothing to undo.
    #[inline(never)]
    pub fn find(listener: &'a [u8]) -> Result<Self> {
        let text = str::from_utf8(listener).unwrap_or_default();
        let (path, metadata) = text.split_once('\0').map_or((text, None), |(path, metadata)| (path, Some(metadata)));
        let mut agent = Self { path, metadata, socket: None, listener: None };
        if !path.is_empty() {
            let connected = connect_to(path);
            let what = format_args!("connect to linux.seccomp.listenerPath {path}");
            agent.socket = Some(connected.context(what, "start the process that listens on it first")?);
        }
        Ok(agent)
    }

    /// Receives the listener from a process that joins the container: it is the first message. If the process has
    /// failed before, its status says why.
    #[inline(never)]
    pub fn take(&mut self, started: &Started) {
        if self.socket.is_some()
            && let Some(Message::Fd(listener, _)) = started.terminal.as_ref().map(listen)
        {
            self.listener = Some(listener);
        }
    }

    /// Waits until the process reports something or one of its calls needs an answer. Returns whether a call needs one.
    pub fn is_asked(&self, started: &Started) -> bool {
        let Some(listener) = &self.listener else { return false };
        let mut fds = [PollFd::new(&started.status, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        while poll(&mut fds, None) == Err(Errno::INTR) {}
        !is_ready(&started.status)
    }

    /// Sends the listener of `process`, unless it has been sent already, and closes the connection. The container has
    /// this directory, name and status; `pid` is its PID 1 on the host.
    #[inline(never)]
    pub fn send(&mut self, process: u32, directory: &OwnedFd, name: &str, status: &str, pid: u32) -> Result<()> {
        let (Some(listener), Some(socket)) = (self.listener.take(), self.socket.take()) else { return Ok(()) };
        let state = describe(name, status, Some(pid), None, &file::read_text(directory, STATE));
        let text = Json::document(|json| {
            json.object(|json| {
                json.text("ociVersion", VERSION).texts("fds", ["seccompFd"]).number("pid", process);
                if let Some(metadata) = self.metadata {
                    json.text("metadata", metadata);
                }
                json.key("state").literal(&state);
            });
        });
        let sent = send_fd(&socket, text.trim_ascii_end().as_bytes(), &listener);
        sent.context(format_args!("send to linux.seccomp.listenerPath {}", self.path), "its process has hung up")
    }
}

/// The child of a process that joins a container, or the process itself if it has no child yet.
pub fn newest(joining: u32) -> u32 {
    let children = file::read_text(CWD, &format!("/proc/{joining}/task/{joining}/children"));
    children.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(joining)
}

/// Connects to a stream socket, without waiting for the other end to accept.
#[inline(never)]
pub fn connect_to(path: &str) -> rustix::io::Result<OwnedFd> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    connect(&socket, &SocketAddrUnix::new(&*file::c_path(path)?)?)?;
    Ok(socket)
}

/// Sends an fd and these bytes in one message.
#[inline(never)]
pub fn send_fd(socket: &OwnedFd, bytes: &[u8], fd: &OwnedFd) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut ancillary, fds) = (SendAncillaryBuffer::new(&mut space), [fd.as_fd()]);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}
