//! What went wrong, in one line: what failed, on what, why, and what to do.
//!
//! `mkdir /run/kontena: EROFS (Read-only file system): <what to do>`. Must not print: `main.rs` does.

use crate::sys;
use rustix::io::Errno;
use std::fmt::{self, Write};

/// The exit status of kontena's own failures, as docker and podman have it.
pub const OWN_FAILURE: u8 = 125;

/// That of a container that does not exist, as other runtimes have it.
const MISSING: u8 = 1;

/// A failure, reported to the caller. One pointer, since every result carries room for it.
#[cfg_attr(test, derive(Debug))]
pub struct Error(Box<Failure>);

#[cfg_attr(test, derive(Debug))]
struct Failure {
    what: String,
    errno: Option<Errno>,
    hint: String,
    status: u8,
}

/// The crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what the value of an option should be.
pub type Hint = &'static str;

/// The value of an option, parsed. The reader of the command line adds the option and its text to the hint.
pub type Parsed<T> = std::result::Result<T, Hint>;

/// What to do where [`sys::is_filtered`].
pub const FILTERED: Hint = "a filter of system calls around kontena refuses it: if kontena runs in a container, start \
                            that one with --security-opt seccomp=unconfined and --security-opt unmask=ALL, or with \
                            --privileged";

impl Error {
    /// A system call on `what` (`mkdir /run/kontena`) failed.
    #[cold]
    #[inline(never)]
    pub fn new(what: fmt::Arguments<'_>, errno: Errno, hint: &str) -> Self {
        // A signal that interrupts a wait decides the exit status, as if it had not been blocked.
        let signal = if errno == Errno::INTR { sys::ending_signal() } else { None };
        let status = signal.map_or(OWN_FAILURE, |signal| 128 + signal as u8);
        // Whatever it was for.
        let hint = if errno == Errno::MFILE { "raise the limit of open files: ulimit -n" } else { hint };
        Self(Box::new(Failure { what: what.to_string(), errno: Some(errno), hint: hint.into(), status }))
    }

    /// `what` was asked for and makes no sense.
    #[cold]
    #[inline(never)]
    pub fn usage(what: fmt::Arguments<'_>, hint: &str) -> Self {
        Self(Box::new(Failure { what: what.to_string(), errno: None, hint: hint.into(), status: OWN_FAILURE }))
    }

    /// `what` needs a Cargo feature that this kontena was built without.
    #[cold]
    #[inline(never)]
    pub fn without(what: fmt::Arguments<'_>, feature: &str) -> Self {
        Self::usage(what, &format!("this kontena was built without `{feature}`"))
    }

    /// A failure of another process, in its words.
    pub fn reported(text: &str) -> Self {
        Self(Box::new(Failure { what: text.into(), errno: None, hint: String::new(), status: OWN_FAILURE }))
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

    /// A container does not exist.
    pub fn missing(self) -> Self {
        self.with_status(MISSING)
    }

    /// Whether that is so.
    pub fn is_missing(&self) -> bool {
        self.0.status == MISSING
    }

    /// The failure of a command whose exit status is a container's otherwise.
    pub fn beside_containers(self) -> Self {
        if self.is_missing() { self.with_status(OWN_FAILURE) } else { self }
    }

    /// The status kontena exits with.
    pub fn status(&self) -> u8 {
        self.0.status
    }

    /// Whether this process, or the host, has run out of something: that is nothing that the container has done.
    pub fn is_shortage(&self) -> bool {
        use Errno as E;
        matches!(self.errno(), Some(E::MFILE | E::NFILE | E::NOMEM | E::AGAIN | E::NOBUFS | E::NOSPC))
    }

    /// Why the system call failed, if it was one.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { what, errno, hint, .. } = &*self.0;
        write_plain(f, what)?;
        if let Some(errno) = errno {
            f.write_str(": ")?;
            match words(*errno) {
                Some((name, text)) => write!(f, "{name} ({text})")?,
                None => write!(f, "errno {}", errno.raw_os_error())?,
            }
        }
        if hint.is_empty() {
            return Ok(());
        }
        f.write_str(": ")?;
        write_plain(f, hint)
    }
}

/// On one line, whatever bytes a path or an argument brought along.
fn write_plain(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        if drives_terminal(c) { write!(f, "\\u{{{:x}}}", c as u32)? } else { f.write_char(c)? }
    }
    Ok(())
}

/// Whether a terminal obeys the character instead of showing it: control characters, and those that only say in which
/// direction and on which line the others stand.
pub fn drives_terminal(c: char) -> bool {
    let is_format = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_format || matches!(c, '\u{61c}' | '\u{feff}')
}

/// Says what a failed system call was for.
pub trait Context<T> {
    /// `what` is the call and its object, `hint` what the person can do.
    fn context(self, what: fmt::Arguments<'_>, hint: &str) -> Result<T>;

    /// The same where there is nothing that the person can do.
    fn at(self, what: fmt::Arguments<'_>) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, what: fmt::Arguments<'_>, hint: &str) -> Result<T> {
        self.map_err(|errno| Error::new(what, errno, hint))
    }

    fn at(self, what: fmt::Arguments<'_>) -> Result<T> {
        self.context(what, "")
    }
}

/// errno(3)'s names in the order of their numbers, which every architecture of kontena's has, with musl's texts, or the
/// kernel's if musl has none.
const ERRNOS: &str = "\
    EPERM Operation not permitted|ENOENT No such file or directory|ESRCH No such process|EINTR Interrupted system call|\
    EIO I/O error|ENXIO No such device or address|E2BIG Argument list too long|ENOEXEC Exec format error|EBADF Bad \
    file descriptor|ECHILD No child process|EAGAIN Resource temporarily unavailable|ENOMEM Out of memory|EACCES \
    Permission denied|EFAULT Bad address|ENOTBLK Block device required|EBUSY Resource busy|EEXIST File exists|EXDEV \
    Cross-device link|ENODEV No such device|ENOTDIR Not a directory|EISDIR Is a directory|EINVAL Invalid argument|\
    ENFILE Too many open files in system|EMFILE No file descriptors available|ENOTTY Not a tty|ETXTBSY Text file busy|\
    EFBIG File too large|ENOSPC No space left on device|ESPIPE Invalid seek|EROFS Read-only file system|EMLINK Too \
    many links|EPIPE Broken pipe|EDOM Domain error|ERANGE Result not representable|EDEADLK Resource deadlock would \
    occur|ENAMETOOLONG Filename too long|ENOLCK No locks available|ENOSYS Function not implemented|ENOTEMPTY Directory \
    not empty|ELOOP Symbolic link loop||ENOMSG No message of desired type|EIDRM Identifier removed|ECHRNG Channel \
    number out of range|EL2NSYNC Level 2 not synchronized|EL3HLT Level 3 halted|EL3RST Level 3 reset|ELNRNG Link \
    number out of range|EUNATCH Protocol driver not attached|ENOCSI No CSI structure available|EL2HLT Level 2 halted|\
    EBADE Invalid exchange|EBADR Invalid request descriptor|EXFULL Exchange full|ENOANO No anode|EBADRQC Invalid \
    request code|EBADSLT Invalid slot||EBFONT Bad font file format|ENOSTR Device not a stream|ENODATA No data \
    available|ETIME Device timeout|ENOSR Out of streams resources|ENONET Machine is not on the network|ENOPKG Package \
    not installed|EREMOTE Object is remote|ENOLINK Link has been severed|EADV Advertise error|ESRMNT Mount error|ECOMM \
    Communication error on send|EPROTO Protocol error|EMULTIHOP Multihop attempted|EDOTDOT RFS specific error|EBADMSG \
    Bad message|EOVERFLOW Value too large for data type|ENOTUNIQ Name not unique on network|EBADFD File descriptor in \
    bad state|EREMCHG Remote address changed|ELIBACC Cannot access a needed shared library|ELIBBAD Accessing a \
    corrupted shared library|ELIBSCN Section of a shared library corrupted|ELIBMAX Too many shared libraries|ELIBEXEC \
    Cannot exec a shared library directly|EILSEQ Illegal byte sequence|ERESTART Interrupted system call should be \
    restarted|ESTRPIPE Streams pipe error|EUSERS Too many users|ENOTSOCK Not a socket|EDESTADDRREQ Destination address \
    required|EMSGSIZE Message too large|EPROTOTYPE Protocol wrong type for socket|ENOPROTOOPT Protocol not available|\
    EPROTONOSUPPORT Protocol not supported|ESOCKTNOSUPPORT Socket type not supported|EOPNOTSUPP Not supported|\
    EPFNOSUPPORT Protocol family not supported|EAFNOSUPPORT Address family not supported by protocol|EADDRINUSE \
    Address in use|EADDRNOTAVAIL Address not available|ENETDOWN Network is down|ENETUNREACH Network unreachable|\
    ENETRESET Connection reset by network|ECONNABORTED Connection aborted|ECONNRESET Connection reset by peer|ENOBUFS \
    No buffer space available|EISCONN Socket is connected|ENOTCONN Socket not connected|ESHUTDOWN Cannot send after \
    socket shutdown|ETOOMANYREFS Too many references: cannot splice|ETIMEDOUT Operation timed out|ECONNREFUSED \
    Connection refused|EHOSTDOWN Host is down|EHOSTUNREACH Host is unreachable|EALREADY Operation already in progress|\
    EINPROGRESS Operation in progress|ESTALE Stale file handle|EUCLEAN Structure needs cleaning|ENOTNAM Not a XENIX \
    named type file|ENAVAIL No XENIX semaphores available|EISNAM Is a named type file|EREMOTEIO Remote I/O error|\
    EDQUOT Quota exceeded|ENOMEDIUM No medium found|EMEDIUMTYPE Wrong medium type|ECANCELED Operation canceled|ENOKEY \
    Required key not available|EKEYEXPIRED Key has expired|EKEYREVOKED Key has been revoked|EKEYREJECTED Key was \
    rejected by service|EOWNERDEAD Previous owner died|ENOTRECOVERABLE State not recoverable|ERFKILL Operation not \
    possible due to RF-kill|EHWPOISON Memory page has hardware error";

/// Name and text of an errno; ENOTSUPP is the kernel's own, which some of its file systems and drivers let out.
fn words(errno: Errno) -> Option<(&'static str, &'static str)> {
    let number = errno.raw_os_error();
    if number == 524 {
        return Some(("ENOTSUPP", "Operation is not supported"));
    }
    ERRNOS.split('|').nth(usize::try_from(number).ok()?.checked_sub(1)?)?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_has_its_name_and_a_text() {
        for (errno, name) in [
            (Errno::PERM, "EPERM"),
            (Errno::DEADLK, "EDEADLK"),
            (Errno::LOOP, "ELOOP"),
            (Errno::NOMSG, "ENOMSG"),
            (Errno::BADSLT, "EBADSLT"),
            (Errno::BFONT, "EBFONT"),
            (Errno::LIBBAD, "ELIBBAD"),
            (Errno::OPNOTSUPP, "EOPNOTSUPP"),
            (Errno::STALE, "ESTALE"),
            (Errno::UCLEAN, "EUCLEAN"),
            (Errno::HWPOISON, "EHWPOISON"),
        ] {
            assert_eq!(words(errno).map(|(name, _)| name), Some(name));
        }
        // These two numbers are not used.
        let none: Vec<i32> = (1..=133).filter(|number| words(Errno::from_raw_os_error(*number)).is_none()).collect();
        assert_eq!(none, [41, 58]);
        let texts = (1..=133).filter_map(|number| words(Errno::from_raw_os_error(number)));
        assert!(texts.into_iter().all(|(_, text)| !text.is_empty()));
        assert_eq!(words(Errno::from_raw_os_error(134)), None);
    }
}
