//! What went wrong, in one line: what failed, on what, why, and what to do.
//!
//! `mkdir /run/kontena: EROFS (Read-only file system): <what to do>`. Must not print: `main.rs` does.

use crate::sys;
use rustix::io::Errno;
use std::fmt::{self, Write};

/// The exit status of kontena's own failures, as docker and podman have it.
pub const OWN_FAILURE: u8 = 125;

/// A failure, told to the person who called. One pointer, since every result carries room for it.
pub struct Error(Box<Told>);

struct Told {
    what: String,
    errno: Option<Errno>,
    hint: String,
    status: u8,
}

/// The crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A system call on `what` (`mkdir /run/kontena`) failed.
    #[cold]
    #[inline(never)]
    pub fn new(what: fmt::Arguments<'_>, errno: Errno, hint: &str) -> Self {
        Self(Box::new(Told { what: what.to_string(), errno: Some(errno), hint: hint.into(), status: OWN_FAILURE }))
    }

    /// `what` was asked for and makes no sense.
    #[cold]
    #[inline(never)]
    pub fn usage(what: fmt::Arguments<'_>, hint: &str) -> Self {
        Self(Box::new(Told { what: what.to_string(), errno: None, hint: hint.into(), status: OWN_FAILURE }))
    }

    /// What another process has told already, in its words.
    pub fn told(text: &str) -> Self {
        Self(Box::new(Told { what: text.into(), errno: None, hint: String::new(), status: OWN_FAILURE }))
    }

    /// Adds to what the person can do.
    #[cold]
    #[inline(never)]
    pub fn advise(mut self, hint: &str) -> Self {
        if !self.0.hint.is_empty() && !hint.is_empty() {
            self.0.hint.push_str("; ");
        }
        self.0.hint.push_str(hint);
        self
    }

    /// Makes kontena exit with another status.
    pub fn with_status(mut self, status: u8) -> Self {
        self.0.status = status;
        self
    }

    /// The status kontena exits with.
    pub fn status(&self) -> u8 {
        self.0.status
    }

    /// Why the system call failed, if it was one.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { what, errno, hint, .. } = &*self.0;
        for c in what.chars() {
            // One line, whatever bytes a path or an argument brought along.
            if c.is_control() { write!(f, "\\u{{{:x}}}", c as u32)? } else { f.write_char(c)? }
        }
        if let Some(errno) = errno {
            f.write_str(": ")?;
            match NAMES.iter().find(|(known, _)| known == errno) {
                Some((_, name)) => f.write_str(name)?,
                None => write!(f, "errno {}", errno.raw_os_error())?,
            }
            write!(f, " ({})", sys::strerror(*errno))?;
        }
        if hint.is_empty() { Ok(()) } else { write!(f, ": {hint}") }
    }
}

/// Says what a failed system call was for.
pub trait Context<T> {
    /// `what` is the call and its object, `hint` what the person can do.
    fn context(self, what: fmt::Arguments<'_>, hint: &str) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, what: fmt::Arguments<'_>, hint: &str) -> Result<T> {
        self.map_err(|errno| Error::new(what, errno, hint))
    }
}

/// errno(3)'s names, of those that people meet here.
static NAMES: [(Errno, &str); 46] = [
    (Errno::PERM, "EPERM"),
    (Errno::NOENT, "ENOENT"),
    (Errno::INTR, "EINTR"),
    (Errno::IO, "EIO"),
    (Errno::TOOBIG, "E2BIG"),
    (Errno::NOEXEC, "ENOEXEC"),
    (Errno::BADF, "EBADF"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::ACCESS, "EACCES"),
    (Errno::BUSY, "EBUSY"),
    (Errno::EXIST, "EEXIST"),
    (Errno::NODEV, "ENODEV"),
    (Errno::NOTDIR, "ENOTDIR"),
    (Errno::ISDIR, "EISDIR"),
    (Errno::INVAL, "EINVAL"),
    (Errno::NFILE, "ENFILE"),
    (Errno::MFILE, "EMFILE"),
    (Errno::NOTTY, "ENOTTY"),
    (Errno::TXTBSY, "ETXTBSY"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::ROFS, "EROFS"),
    (Errno::PIPE, "EPIPE"),
    (Errno::RANGE, "ERANGE"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG"),
    (Errno::NOSYS, "ENOSYS"),
    (Errno::NOTEMPTY, "ENOTEMPTY"),
    (Errno::LOOP, "ELOOP"),
    (Errno::PROTO, "EPROTO"),
    (Errno::OVERFLOW, "EOVERFLOW"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP"),
    (Errno::PROTONOSUPPORT, "EPROTONOSUPPORT"),
    (Errno::AFNOSUPPORT, "EAFNOSUPPORT"),
    (Errno::ADDRINUSE, "EADDRINUSE"),
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (Errno::NETDOWN, "ENETDOWN"),
    (Errno::NETUNREACH, "ENETUNREACH"),
    (Errno::NOBUFS, "ENOBUFS"),
    (Errno::FBIG, "EFBIG"),
    (Errno::XDEV, "EXDEV"),
    (Errno::STALE, "ESTALE"),
    (Errno::MSGSIZE, "EMSGSIZE"),
    (Errno::NOTCONN, "ENOTCONN"),
    (Errno::SRCH, "ESRCH"),
    (Errno::NXIO, "ENXIO"),
    (Errno::LIBBAD, "ELIBBAD"),
];
