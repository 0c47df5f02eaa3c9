//! Netlink messages and their acknowledgements; netlink(7), Documentation/userspace-api/netlink.
//!
//! A [`Batch`] is written, and sent with one sendmsg(2). The kernel has done all of it, and queued its answers, when
//! the call returns, so nothing here ever waits: what it refused it says by the sequence number, and what it did in the
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
        self.ask(batch, &mut |_| ())
    }

    /// The same, and calls `each` with every message that the kernel answers besides, without its header.
    pub fn ask(&self, mut batch: Batch, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let talk = format_args!("talk to the kernel by netlink");
        batch.acknowledge();
        if batch.overflow {
            return Err(Error::new(talk, Errno::MSGSIZE, ""));
        }
        if batch.bytes.len() > SEND_BUFFER {
            let _ = set_socket_send_buffer_size_force(&self.0, batch.bytes.len());
        }
        rustix::net::send(&self.0, &batch.bytes, SendFlags::empty()).at(talk)?;

        let (mut failure, mut done) = (None, false);
        let mut buffer = [0; ANSWER];
        // Of what has failed nothing may be left for the next batch to read.
        while !done || failure.is_some() {
            let length = match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) if failure.is_some() => break,
                // There were more failures than the socket holds.
                Err(Errno::NOBUFS) => continue,
                Err(errno) => {
                    let what = batch.requests.last().map_or("", |request| &*request.what);
                    return Err(Error::new(format_args!("{what}: wait for the kernel's answer"), errno, ""));
                }
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

    /// Sends a request with NLM_F_DUMP, and calls `each` with every message of the answer, without its header. `false`
    /// where the kernel could not list everything.
    pub fn dump(&self, batch: Batch, each: &mut dyn FnMut(&[u8])) -> bool {
        const NLMSG_DONE: u16 = 3;
        const NLMSG_MIN_TYPE: u16 = 16;
        if rustix::net::send(&self.0, &batch.bytes, SendFlags::empty()).is_err() {
            return false;
        }
        let mut buffer = [0; ANSWER];
        // Each call makes the kernel fill in the next part.
        while let Ok((length, _)) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
            let mut messages = buffer.get(..length).unwrap_or_default();
            while let Some(message) = take_message(&mut messages) {
                // NLMSG_DONE or NLMSG_ERROR.
                match u16_at(message, 4) {
                    Some(NLMSG_MIN_TYPE..) => each(message.get(HEADER..).unwrap_or_default()),
                    other => return other == Some(NLMSG_DONE),
                }
            }
        }
        false
    }

    /// Closes the socket when the kernel comes to it, instead of waiting here for what closing it entails.
    ///
    /// It goes into a message that nobody will read, to a socket that only that message still refers to: garbage,
    /// which the kernel's worker for unix sockets collects (net/unix/garbage.c; before Linux 6.9 it does so at once,
    /// and this is a close like any other, as it is wherever the message cannot be sent).
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
    /// Without a request.
    #[inline(never)]
    pub fn new() -> Self {
        Self { bytes: Vec::new(), requests: Vec::new(), last: 0, acknowledged: None, overflow: false }
    }

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

    /// The first message behind its header, as the kernel would send it in a reply.
    #[cfg(test)]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// What each request is for, as its error would say.
    #[cfg(test)]
    pub fn tasks(&self) -> Vec<&str> {
        self.requests.iter().map(|request| &*request.what).collect()
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// struct nlmsghdr, and what is behind it.
    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].as_flattened());
        bytes.extend([sequence.to_ne_bytes(), [0; 4]].as_flattened());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// NLMSG_ERROR, with the whole request in it or its header alone, and a text.
    fn answer(errno: i32, request: &[u8], is_capped: bool, text: &str) -> Vec<u8> {
        let (mut body, mut flags) = ((-errno).to_ne_bytes().to_vec(), 0);
        body.extend(if is_capped { &request[..HEADER] } else { request });
        if is_capped {
            flags |= uapi::NLM_F_CAPPED as u16;
        }
        if !text.is_empty() {
            flags |= uapi::NLM_F_ACK_TLVS as u16;
            body.extend(((4 + text.len() + 1) as u16).to_ne_bytes());
            body.extend((uapi::nlmsgerr_attrs::NLMSGERR_ATTR_MSG as u16).to_ne_bytes());
            body.extend(text.bytes().chain([0]));
        }
        message(2, flags, u32_at(request, 8).unwrap(), &body)
    }

    #[test]
    fn lengths_count_what_they_should_and_padding_is_behind_them() {
        let mut batch = Batch::new();
        batch.request(format_args!(""), 0x10, 0x600, |m| {
            m.raw(&[7, 0, 0, 0]).bytes(1, &[1]).nest(2, |m| {
                m.text(3, "abc").u32_be(4, 5).nest(6, |_| ());
            });
            m.u32_ne(8, 9);
        });
        let ne = |number: u16| number.to_ne_bytes();
        let expected: Vec<u8> = [
            // Length, type, flags with NLM_F_REQUEST, sequence number, port.
            &60u32.to_ne_bytes()[..],
            &[ne(0x10), ne(0x601)].concat(),
            &[0; 8],
            &[7, 0, 0, 0],
            &[&ne(5)[..], &ne(1), &[1, 0, 0, 0]].concat(),
            // A nest has its own bit, and is as long as all that is in it.
            &[&ne(24)[..], &ne(1 << 15 | 2)].concat(),
            &[&ne(8)[..], &ne(3), b"abc\0"].concat(),
            &[&ne(8)[..], &ne(4), &[0, 0, 0, 5]].concat(),
            &[&ne(4)[..], &ne(1 << 15 | 6)].concat(),
            &[&ne(8)[..], &ne(8), &9u32.to_ne_bytes()].concat(),
        ]
        .concat();
        assert_eq!(batch.bytes, expected);
        assert!(!batch.overflow);
    }

    #[test]
    fn attribute_that_is_too_long_is_not_sent() {
        for (length, overflow) in [(u16::MAX as usize - 4, false), (u16::MAX as usize - 3, true)] {
            let mut batch = Batch::new();
            batch.request(format_args!(""), 0x10, 0, |m| _ = m.bytes(1, &vec![0; length]));
            assert_eq!(batch.overflow, overflow, "{length}");
            let mut batch = Batch::new();
            batch.request(format_args!(""), 0x10, 0, |m| _ = m.nest(1, |m| _ = m.raw(&vec![0; length])));
            assert_eq!(batch.overflow, overflow, "{length}");
        }
    }

    #[test]
    fn last_request_alone_asks_for_an_acknowledgement() {
        let mut batch = Batch::new();
        for number in 0..3 {
            batch.request(format_args!("{number}"), 0x10, 0, |_| ());
        }
        batch.acknowledge();
        batch.request(format_args!("behind"), 0x11, 0, |_| ());
        batch.acknowledge();
        let mut messages = &*batch.bytes;
        let flags: Vec<u16> =
            std::iter::from_fn(|| take_message(&mut messages)).map(|message| u16_at(message, 6).unwrap()).collect();
        let (request, acknowledged) = (uapi::NLM_F_REQUEST as u16, (uapi::NLM_F_REQUEST | uapi::NLM_F_ACK) as u16);
        assert_eq!(flags, [request, request, acknowledged, request]);
        assert_eq!(batch.acknowledged, Some(2));
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        let request = message(0x10, 0x605, 7, &[1; 21]);
        for is_capped in [false, true] {
            for (errno, text) in [(0, ""), (17, ""), (22, "Invalid name"), (95, "x")] {
                let bytes = answer(errno, &request, is_capped, text);
                let answer = Answer::of(take_message(&mut &*bytes).unwrap()).unwrap();
                assert_eq!((answer.sequence, answer.errno, answer.text), (7, errno, text.as_bytes()));
            }
        }
        assert!(Answer::of(&request).is_none());
        let bytes = [message(0x10, 0, 1, &[1, 2, 3]), message(0x11, 0, 2, &[])].concat();
        let mut messages = &*bytes;
        assert_eq!(take_message(&mut messages).unwrap().len(), HEADER + 3);
        assert_eq!(take_message(&mut messages).unwrap().len(), HEADER);
        assert!(take_message(&mut messages).is_none());
    }

    #[test]
    fn attribute_is_found_behind_others_and_in_nests() {
        let mut batch = Batch::new();
        batch.request(format_args!(""), 0x10, 0, |m| {
            m.bytes(1, &[1, 2, 3]).text(2, "").nest(3, |m| _ = m.u32_be(1, 77));
        });
        let attributes = &batch.bytes[HEADER..];
        assert_eq!(attribute(attributes, 1), Some(&[1, 2, 3][..]));
        assert_eq!(attribute(attributes, 2), Some(&[0][..]));
        assert_eq!(attribute(attributes, 3).and_then(|nest| attribute(nest, 1)), Some(&[0, 0, 0, 77][..]));
        assert_eq!(attribute(attributes, 4), None);
    }

    /// xorshift64*
    struct Random(u64);

    impl Random {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
        }
    }

    /// Reads all that there is to read in what the kernel may have sent; must end, whatever that is.
    fn read_all(bytes: &[u8]) -> usize {
        let (mut messages, mut read) = (bytes, 0);
        while let Some(message) = take_message(&mut messages) {
            read += 1;
            assert!(read * HEADER <= bytes.len(), "every message takes away at least its header");
            if let Some(answer) = Answer::of(message) {
                read += String::from_utf8_lossy(answer.text).len().min(1);
            }
            for header in [0, 4, 12, 16] {
                let attributes = message.get(HEADER + header..).unwrap_or_default();
                for kind in [0, 1, 2, 5, 25] {
                    let nested = attribute(attributes, kind).and_then(|nest| attribute(nest, 1));
                    assert!(nested.is_none_or(|value| value.len() <= attributes.len()));
                }
            }
        }
        read
    }

    /// The same replies in every run; others, and as many as are wanted, by `cargo xtask fuzz`.
    #[test]
    fn no_reply_makes_the_parsers_panic_or_go_on_for_ever() {
        let wanted = |key: &str| std::env::var(key).ok().map(|number| number.parse().unwrap());
        let seed = wanted("KONTENA_FUZZ_SEED").unwrap_or(0x6b6f_6e74_656e_6130);
        let rounds = wanted("KONTENA_FUZZ_ROUNDS").unwrap_or(100_000);
        println!("seed {seed}");
        let mut random = Random(seed | 1);
        let request = message(0x18, 0x605, 3, &[0xab; 40]);
        let mut nest = Batch::new();
        nest.request(format_args!(""), 0x1c, 0, |m| {
            m.raw(&[0; 12]).nest(1, |m| _ = m.u32_ne(1, 1)).text(5, "some text").nest(2, |m| _ = m.nest(1, |_| ()));
        });
        let good =
            [answer(0, &request, false, ""), answer(22, &request, true, "text"), nest.bytes, message(3, 2, 0, &[0; 4])]
                .concat();
        assert!(read_all(&good) >= 4);
        for cut in 0..good.len() {
            read_all(&good[..cut]);
        }
        for _ in 0..rounds {
            // Some bytes of something good, of the kind that lengths are made of.
            let mut bent = good.clone();
            for _ in 0..=random.next(4) {
                let at = random.next(bent.len());
                bent[at] = [0, 1, 3, 4, 15, 16, 0x7f, 0x80, 0xff, random.next(256) as u8][random.next(10)];
            }
            bent.truncate(bent.len() - random.next(8));
            read_all(&bent);
            // And what nobody has ever sent.
            let noise: Vec<u8> = (0..random.next(96)).map(|_| (random.next(256) & random.next(256)) as u8).collect();
            read_all(&noise);
        }
    }
}
