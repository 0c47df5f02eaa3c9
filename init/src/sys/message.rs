//! Messages with one fd: SCM_RIGHTS of unix(7), by a struct of fixed size. Must not know what the fd is for.

use super::check;
use core::ffi::c_int;
use core::ptr;
use linux_raw_sys::general as uapi;
use linux_raw_sys::net::{MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SCM_RIGHTS, SOL_SOCKET, cmsghdr, msghdr};
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::io::Result;
use sc::syscall;

/// A message of one part, with room for one fd; cmsg(3).
struct Message {
    part: uapi::iovec,
    control: Control,
}

/// struct cmsghdr, and the fd.
#[repr(C)]
struct Control {
    header: cmsghdr,
    fd: RawFd,
}

impl Message {
    /// How long the control data is, without what comes behind the fd to align the next.
    const CONTROL: usize = size_of::<cmsghdr>() + size_of::<RawFd>();

    const fn new(bytes: *mut u8, length: usize, fd: RawFd) -> Self {
        let header =
            cmsghdr { cmsg_len: Self::CONTROL, cmsg_level: SOL_SOCKET as c_int, cmsg_type: SCM_RIGHTS as c_int };
        Self { part: uapi::iovec { iov_base: bytes.cast(), iov_len: length as _ }, control: Control { header, fd } }
    }

    /// As the kernel takes it.
    const fn header(&mut self) -> msghdr {
        msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: (&raw mut self.part).cast(),
            msg_iovlen: 1,
            msg_control: (&raw mut self.control).cast(),
            msg_controllen: Self::CONTROL,
            msg_flags: 0,
        }
    }
}

/// `ssize_t sendmsg(int sockfd, const struct msghdr *msg, MSG_NOSIGNAL)` with an fd.
pub fn send_fd(to: &OwnedFd, bytes: &[u8], fd: &OwnedFd) -> Result<()> {
    let mut message = Message::new(bytes.as_ptr().cast_mut(), bytes.len(), fd.as_raw_fd());
    let header = message.header();
    // SAFETY: all that the header points to is alive across the call, and the kernel writes none of it.
    check(unsafe { syscall!(SENDMSG, to.as_raw_fd(), &raw const header, MSG_NOSIGNAL) }).map(drop)
}

/// A message of one byte, or the end of all messages.
pub enum Received {
    /// The byte came alone.
    Byte,
    /// An fd came with it.
    Fd(OwnedFd),
    /// The end of file.
    End,
}

/// `ssize_t recvmsg(int sockfd, struct msghdr *msg, MSG_CMSG_CLOEXEC)` of one byte.
pub fn receive(from: &OwnedFd) -> Result<Received> {
    let mut byte = 0;
    let mut message = Message::new(&raw mut byte, 1, -1);
    let mut header = message.header();
    // SAFETY: the kernel writes to the header, the byte and the control data, no more than their lengths say; all are
    // alive across the call.
    if check(unsafe { syscall!(RECVMSG, from.as_raw_fd(), &raw mut header, MSG_CMSG_CLOEXEC) })? == 0 {
        return Ok(Received::End);
    }
    // Credentials and the like are not asked for: what comes is an fd.
    let has_fd = header.msg_controllen >= Message::CONTROL && message.control.header.cmsg_type == SCM_RIGHTS as c_int;
    if !has_fd {
        return Ok(Received::Byte);
    }
    // SAFETY: the kernel has just opened it for this process, and nothing else owns it.
    Ok(Received::Fd(unsafe { rustix::fd::FromRawFd::from_raw_fd(message.control.fd) }))
}
