//! What went wrong, in one line: what failed, on what, why, and what to do.
//!
//! `kontena: mkdir /run/kontena: EROFS (Read-only file system): <what to do>`. Must not print: `main.rs` does.

use rustix::io::Errno;
use std::borrow::Cow;
use std::fmt;

/// The exit status of kontena's own failures, as docker and podman have it.
pub const OWN_FAILURE: u8 = 125;

/// A failure, told to the person who called.
#[derive(Debug)]
pub struct Error {
    what: String,
    errno: Option<Errno>,
    hint: Cow<'static, str>,
    /// The status kontena exits with.
    pub status: u8,
}

/// The crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A system call on `what` (`mkdir /run/kontena`) failed.
    pub fn new(what: impl Into<String>, errno: Errno, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), errno: Some(errno), hint: hint.into(), status: OWN_FAILURE }
    }

    /// `what` was asked for and makes no sense.
    pub fn usage(what: impl Into<String>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), errno: None, hint: hint.into(), status: OWN_FAILURE }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kontena: ")?;
        // One line, whatever bytes a path or an argument brought along.
        self.what
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") })?;
        if let Some(errno) = self.errno {
            let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
            // std adds " (os error 2)".
            let text = text.split(" (os error").next().unwrap_or_default();
            match name(errno) {
                Some(name) => write!(f, ": {name} ({text})")?,
                None => write!(f, ": errno {} ({text})", errno.raw_os_error())?,
            }
        }
        if self.hint.is_empty() { Ok(()) } else { write!(f, ": {}", self.hint) }
    }
}

/// Says what a failed system call was for.
pub trait Context<T> {
    /// `what` is the call and its object, `hint` what the person can do.
    fn context(self, what: impl FnOnce() -> String, hint: impl Into<Cow<'static, str>>) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn context(self, what: impl FnOnce() -> String, hint: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|errno| Error::new(what(), errno, hint))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String, hint: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)).context(what, hint)
    }
}

/// errno(3)'s name, for those that people meet here.
fn name(errno: Errno) -> Option<&'static str> {
    let names = [
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
    names.iter().find(|(known, _)| *known == errno).map(|(_, name)| *name)
}
