//! Netlink messages and their acknowledgements; netlink(7), Documentation/userspace-api/netlink.
//!
//! A [`Batch`] is written, and sent with one sendmsg(2). The kernel has done all of it, and queued its answers, when the
//! call returns, so nothing here ever waits: what it refused it says by the sequence number, and what it did in the
//! acknowledgement of the last request. Must not know a link from a rule: that is rtnl.rs and nft.rs.

use crate::error::{Context, Error, Result};
use crate::sys;
use linux_raw_sys::netlink as uapi;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice};
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, netlink,
    sendmsg, socketpair,
};
use std::fmt;
use std::mem::MaybeUninit;

/// Which part of the kernel listens.
#[derive(Clone, Copy)]
pub enum Protocol {
    /// rtnetlink(7).
    Route,
    /// nf_tables, behind nfnetlink.
    Netfilter,
}

/// A netlink socket, in the network namespace it was opened in.
pub struct Socket(OwnedFd);

/// Requests that are sent together.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    requests: Vec<Request>,
    /// Where the last request begins.
    last: usize,
    /// The one that the kernel is asked to acknowledge.
    acknowledged: Option<u32>,
    /// A message or an attribute was longer than its length field can say.
    overflow: bool,
}

struct Request {
    what: String,
    /// An errno that is no failure, such as EEXIST for what is made when missing.
    accepted: Option<Errno>,
}

const HEADER: usize = 16;
/// Room for one acknowledgement, with the whole request in it where the kernel does not cap it.
const ANSWER: usize = 8 * 1024;
/// What a socket takes at once without being told to take more: less than net.core.wmem_default ever was.
const SEND_BUFFER: usize = 128 * 1024;

impl Socket {
    /// Opens a socket in the launcher's current network namespace.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let (number, hint) = match protocol {
            // NETLINK_ROUTE is 0, which rustix has as no protocol.
            Protocol::Route => (None, "the kernel needs CONFIG_NET"),
            Protocol::Netfilter => (
                Some(netlink::NETFILTER),
                "the kernel needs CONFIG_NF_TABLES, or its module nf_tables: load it, or use --net none or host",
            ),
        };
        let kind = SocketType::RAW;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, number)
            .context(format_args!("open a netlink socket"), hint)?;
        for option in sys::NETLINK_OPTIONS {
            // Only the wording of errors depends on them.
            let _ = sys::set_netlink_option(&socket, option);
        }
        Ok(Self(socket))
    }

    /// Sends the batch; the first request that failed, and was not accepted as it is, is the error, with what the
    /// kernel's extended acknowledgement says.
    pub fn send(&self, batch: Batch) -> Result<()> {
        self.ask(batch, |_| ())
    }

    /// The same, and calls `each` with every message that the kernel answers besides, without its header.
    pub fn ask(&self, mut batch: Batch, mut each: impl FnMut(&[u8])) -> Result<()> {
        let talk = format_args!("talk to the kernel by netlink");
        batch.acknowledge();
        if batch.overflow {
            return Err(Error::new(talk, Errno::MSGSIZE, ""));
        }
        if batch.bytes.len() > SEND_BUFFER {
            let _ = set_socket_send_buffer_size_force(&self.0, batch.bytes.len());
        }
        rustix::net::send(&self.0, &batch.bytes, SendFlags::empty()).context(talk, "")?;

        let (mut failure, mut done) = (None, false);
        let mut buffer = [0; ANSWER];
        // Of what has failed nothing may be left for the next batch to read.
        while !done || failure.is_some() {
            let length = match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) if failure.is_some() => break,
                // There were more failures than the socket holds.
                Err(Errno::NOBUFS) => continue,
                Err(errno) => return Err(Error::new(talk, errno, "")),
            };
            let mut messages = buffer.get(..length).unwrap_or_default();
            while let Some(message) = take_message(&mut messages) {
                let Some(answer) = Answer::of(message) else {
                    each(message.get(HEADER..).unwrap_or_default());
                    continue;
                };
                let Some(request) = batch.requests.get(answer.sequence as usize) else { continue };
                done |= batch.acknowledged == Some(answer.sequence);
                let accepted = answer.errno == 0 || request.accepted.map(Errno::raw_os_error) == Some(answer.errno);
                if !accepted && failure.is_none() {
                    let errno = Errno::from_raw_os_error(answer.errno);
                    let text = String::from_utf8_lossy(answer.text);
                    failure = Some(Error::new(format_args!("{}", request.what), errno, &text));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Sends a request with NLM_F_DUMP, and calls `each` with every message of the answer, without its header. What cannot
    /// be listed is none.
    pub fn dump(&self, batch: Batch, mut each: impl FnMut(&[u8])) {
        const NLMSG_MIN_TYPE: u16 = 16;
        if rustix::net::send(&self.0, &batch.bytes, SendFlags::empty()).is_err() {
            return;
        }
        let mut buffer = [0; ANSWER];
        // Each call makes the kernel fill in the next part.
        while let Ok((length, _)) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
            let mut messages = buffer.get(..length).unwrap_or_default();
            while let Some(message) = take_message(&mut messages) {
                // NLMSG_DONE or NLMSG_ERROR.
                if u16_at(message, 4).is_none_or(|kind| kind < NLMSG_MIN_TYPE) {
                    return;
                }
                each(message.get(HEADER..).unwrap_or_default());
            }
        }
    }

    /// Closes the socket when the kernel comes to it, instead of waiting here for what closing it entails.
    ///
    /// It goes into a message that nobody will read, to a socket that only that message still refers to: garbage,
    /// which the kernel's worker for unix sockets collects (net/unix/garbage.c; before Linux 6.9 it does so at once, and
    /// this is a close like any other, as it is wherever the message cannot be sent).
    pub fn close_later(self) {
        let pair = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        let Ok((sender, receiver)) = pair else { return };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [self.0.as_fd(), receiver.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let _ = sendmsg(&sender, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty());
        // This fd first: once the receiver is garbage, whoever closes last waits.
        drop(self);
        drop(receiver);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message being written. Lengths are filled in when the part that they measure is complete.
pub struct Message<'a> {
    batch: &'a mut Batch,
}

impl Batch {
    /// Adds a request with `flags` (NLM_F_*) that `write` fills; `what` stands in its error.
    pub fn request(
        &mut self,
        what: fmt::Arguments<'_>,
        kind: u16,
        flags: u32,
        write: impl FnOnce(&mut Message<'_>),
    ) -> &mut Self {
        let start = self.begin(what, kind, flags);
        write(&mut Message { batch: self });
        self.end(start)
    }

    /// Accepts `errno` as an answer to the last request.
    pub fn or(&mut self, errno: Errno) -> &mut Self {
        if let Some(request) = self.requests.last_mut() {
            request.accepted = Some(errno);
        }
        self
    }

    /// Asks for an acknowledgement of the last request, unless one is asked for already.
    pub fn acknowledge(&mut self) {
        const FLAGS: usize = 6;
        if self.acknowledged.is_none()
            && let Some(flags) = u16_at(&self.bytes, self.last + FLAGS)
        {
            self.patch(self.last + FLAGS, &(flags | uapi::NLM_F_ACK as u16).to_ne_bytes());
            self.acknowledged = Some(self.requests.len() as u32 - 1);
        }
    }

    fn begin(&mut self, what: fmt::Arguments<'_>, kind: u16, flags: u32) -> usize {
        let start = self.bytes.len();
        let sequence = self.requests.len() as u32;
        self.last = start;
        self.requests.push(Request { what: what.to_string(), accepted: None });
        // struct nlmsghdr: length, type, flags, sequence number, port
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&((flags | uapi::NLM_F_REQUEST) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        start
    }

    #[inline(never)]
    fn end(&mut self, start: usize) -> &mut Self {
        let length = (self.bytes.len() - start) as u32;
        self.patch(start, &length.to_ne_bytes());
        self
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.bytes.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }
}

impl Message<'_> {
    /// Appends bytes as they are: a message's fixed header.
    #[inline(never)]
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.batch.bytes.extend_from_slice(bytes);
        self
    }

    /// An attribute of bytes.
    #[inline(never)]
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.begin(kind);
        self.raw(value).end(start)
    }

    /// An attribute of text, with the NUL that the kernel wants behind it.
    #[inline(never)]
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.begin(kind);
        self.raw(value.as_bytes()).raw(&[0]).end(start)
    }

    /// A number in the machine's byte order, as rtnetlink has them.
    pub fn u32_ne(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order, as nf_tables has them.
    #[inline(never)]
    pub fn u32_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute of attributes.
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Message<'_>)) -> &mut Self {
        const NLA_F_NESTED: u16 = 1 << 15;
        let start = self.begin(kind | NLA_F_NESTED);
        write(self);
        self.end(start)
    }

    /// struct nlattr, whose length is still to come.
    #[inline(never)]
    fn begin(&mut self, kind: u16) -> usize {
        let start = self.batch.bytes.len();
        self.raw(&[0; 2]).raw(&kind.to_ne_bytes());
        start
    }

    /// Fills the length in of the attribute at `start`, and pads it to four bytes, which its length does not count.
    #[inline(never)]
    fn end(&mut self, start: usize) -> &mut Self {
        let length = self.batch.bytes.len() - start;
        match u16::try_from(length) {
            Ok(length) => self.batch.patch(start, &length.to_ne_bytes()),
            Err(_) => self.batch.overflow = true,
        }
        let padding = length.next_multiple_of(4) - length;
        self.raw(&[0; 3][..padding])
    }
}

/// An NLMSG_ERROR: what became of one request.
struct Answer<'a> {
    sequence: u32,
    errno: i32,
    text: &'a [u8],
}

impl<'a> Answer<'a> {
    /// `None` where the message is of another kind.
    fn of(message: &'a [u8]) -> Option<Self> {
        const NLMSG_ERROR: u16 = 2;
        if u16_at(message, 4)? != NLMSG_ERROR {
            return None;
        }
        // struct nlmsgerr: the errno, negated, the request's header and, unless it is capped, its body.
        let (flags, echoed) = (u32::from(u16_at(message, 6)?), u32_at(message, HEADER + 4)? as usize);
        let body = if flags & uapi::NLM_F_CAPPED != 0 { HEADER } else { echoed.next_multiple_of(4) };
        let attributes = message.get(HEADER + 4 + body..).filter(|_| flags & uapi::NLM_F_ACK_TLVS != 0);
        Some(Self {
            sequence: u32_at(message, HEADER + 12)?,
            errno: (u32_at(message, HEADER)? as i32).wrapping_neg(),
            text: attributes.map(message_text).unwrap_or_default(),
        })
    }
}

/// Takes the next message off `messages`.
fn take_message<'a>(messages: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32_at(messages, 0)? as usize;
    let message = messages.get(..length).filter(|message| message.len() >= HEADER)?;
    *messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(message)
}

/// The value of the attribute of one kind.
pub fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    const NLA_TYPE_MASK: u16 = 0x3fff;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? & NLA_TYPE_MASK == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// NLMSGERR_ATTR_MSG among the attributes of an acknowledgement.
fn message_text(attributes: &[u8]) -> &[u8] {
    let value = attribute(attributes, uapi::nlmsgerr_attrs::NLMSGERR_ATTR_MSG as u16).unwrap_or_default();
    value.strip_suffix(&[0]).unwrap_or(value)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
