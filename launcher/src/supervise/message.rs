//! The messages of the init, by its status socket or pipe.
//!
//! Must not act on them.

use crate::error::{Context, Result};
use kontena_init::plan::{HOOK_OUTPUT, READY, Report};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use std::mem::MaybeUninit;

/// How long a message can be: the end of what a hook has written, or a report.
const LONGEST: usize = if cfg!(feature = "oci") { HOOK_OUTPUT } else { 8 };

/// A message of the init's, by the status socket.
pub enum Message {
    /// Its exec has closed the socket, or the init says so: the command runs; or the init has ended without a word.
    End,
    /// What failed.
    Failure(Report),
    /// An fd, and what it is: TERMINAL, HOSTS or LISTENER of `kontena_init::plan`.
    Fd(OwnedFd, u8),
    /// The end of what a hook has written, before its failure.
    #[cfg(feature = "oci")]
    Words(String),
    /// Something else.
    Nothing,
}

/// Takes the next message of the init's, and waits for it. Where fds can come with it, nothing of the container's can
/// have sent it: a socket is open in the init alone, until its exec, and what others could take from a process that
/// joins is a pipe.
pub fn listen(status: &OwnedFd) -> Message {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut ancillary, mut bytes) = (RecvAncillaryBuffer::new(&mut space), [0; LONGEST]);
    let length = receive(|| {
        recvmsg(status, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map(|received| received.bytes)
            .or_else(
                |errno| if errno == Errno::NOTSOCK { rustix::io::read(status, &mut bytes[..8]) } else { Err(errno) },
            )
    });
    let length = length.unwrap_or(0);
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Message::Fd(fd, bytes[0]);
        }
    }
    match length {
        0 => Message::End,
        1 if bytes[0] == READY => Message::End,
        8 => {
            bytes.first_chunk().and_then(|bytes| Report::from_bytes(*bytes)).map_or(Message::Nothing, Message::Failure)
        }
        #[cfg(feature = "oci")]
        9.. => Message::Words(words(&bytes)),
        _ => Message::Nothing,
    }
}

/// What a hook has written, on one line.
#[cfg(feature = "oci")]
pub fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches(['\0', '\n', ' ']).lines().collect::<Vec<_>>().join("; ")
}

/// Receives a packet. Where the other end was closed before it had read everything, that is told first, and then what
/// it had sent itself.
pub fn receive(mut recv: impl FnMut() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    loop {
        match recv() {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            received => return received,
        }
    }
}

/// Tells the init, which waits for it, that it can continue. Without the message it would wait forever; one that has
/// ended has said why.
pub fn let_continue(status: &OwnedFd, message: &[u8]) -> Result<()> {
    match send(status, message, SendFlags::NOSIGNAL) {
        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(errno).at(format_args!("send to kontena-init")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn init_that_cannot_be_told_to_continue_is_an_error_unless_it_has_ended() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None).unwrap();
        assert!(let_continue(&ours, &[READY]).is_ok() && matches!(listen(&theirs), Message::End));
        drop(theirs);
        assert!(let_continue(&ours, &[READY]).is_ok(), "it has ended");
        let (no_socket, _writer) = rustix::pipe::pipe().unwrap();
        assert!(let_continue(&no_socket, &[READY]).is_err());
    }
}
