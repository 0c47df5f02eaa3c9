//! Sockets of a container's own network, for one that has no link to the host's: made there by a process of the init's,
//! and handed over.
//!
//! A process cannot return from a user namespace that it has entered, so the launcher cannot make them itself. Must not
//! use them.

use crate::error::Result;
use crate::spawn::clone::Started;
use crate::spawn::join::Container;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketType, recvmsg, send,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::mem::MaybeUninit;

/// The process that makes them; dropped, it ends.
pub struct Sockets {
    maker: Started,
}

impl Sockets {
    /// Starts the process in the network of a container.
    pub fn open(container: &Container<'_>, init_program: &OwnedFd, plan: &[u8]) -> Result<Self> {
        container.start_socket_maker(init_program, plan).map(|maker| Self { maker })
    }

    /// Makes a socket of a family and a type, which does not block.
    pub fn make(&mut self, family: AddressFamily, kind: SocketType) -> rustix::io::Result<OwnedFd> {
        let request = [family.as_raw() as u8, kind.as_raw() as u8];
        send(&self.maker.status, &request, SendFlags::NOSIGNAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let (mut ancillary, mut errno) = (RecvAncillaryBuffer::new(&mut space), [0; 4]);
        let parts = &mut [IoSliceMut::new(&mut errno)];
        let received =
            rustix::io::retry_on_intr(|| recvmsg(&self.maker.status, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC))?;
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match (received.bytes, fd) {
            (4, Some(fd)) => Ok(fd),
            // It was made, and this process has no place for it; recvmsg(2), MSG_CTRUNC.
            (4, None) if errno == [0; 4] => Err(Errno::MFILE),
            (4, None) => Err(Errno::from_raw_os_error(i32::from_ne_bytes(errno).clamp(1, 4095))),
            // It is gone, and the container with it.
            _ => Err(Errno::PIPE),
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.maker.status, rustix::net::Shutdown::Both);
        let pidfd = WaitId::PidFd(self.maker.pidfd.as_fd());
        let _ = rustix::io::retry_on_intr(|| waitid(pidfd.clone(), WaitIdOptions::EXITED));
    }
}
