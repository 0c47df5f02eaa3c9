//! In place of the supervisor's part in a container in the background, where kontena is built without it: no log, no
//! clients, no health checks, no readiness.

/// Clients of a container's stdio.
pub mod attach {
    use crate::error::Error;
    use rustix::termios::Winsize;

    pub const RUNNING: u8 = b'r';
    pub const ENDED: u8 = b'x';
    pub const ERRORS: u8 = b'e';

    /// A message of a client's: there is none.
    pub enum Request {
        Input(Vec<u8>),
        EndOfInput,
        Size(Winsize),
        Signal(u32),
        Detach,
        OwnerIsGone,
    }

    /// Nobody is told.
    pub fn failure(_: &Error) -> Vec<u8> {
        Vec::new()
    }
}

/// The log.
pub mod log {
    /// Which output of the container's.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Stream {
        Stdout,
        Stderr,
    }

    /// There is no log.
    pub fn last_lines(_: rustix::fd::OwnedFd) -> String {
        String::new()
    }
}

/// The stdio of a container in the background: there is none.
pub mod output {
    use super::attach::Request;
    use super::log::Stream;
    use crate::config::lifecycle::Log;
    use crate::error::Result;
    use crate::supervise::poll::{PollSet, Ready};
    use rustix::fd::OwnedFd;

    pub struct Output {
        pub attached: Attached,
    }

    pub enum Attached {}

    impl Attached {
        pub fn started(&mut self) {
            match *self {}
        }

        pub fn write(&mut self, _: Stream, _: &[u8]) {
            match *self {}
        }

        pub fn end(&mut self, _: &[u8]) {
            match *self {}
        }

        pub fn wait(&mut self) {
            match *self {}
        }
    }

    impl Output {
        pub fn open(&mut self, _: &OwnedFd, _: Option<Log>) -> Result<()> {
            match self.attached {}
        }

        pub fn open_stdio(&mut self, _: bool, _: bool) -> Result<()> {
            match self.attached {}
        }

        pub fn set_terminal(&mut self, _: OwnedFd) {
            match self.attached {}
        }

        pub fn watch<'a>(&'a self, _: &mut PollSet<'a>) {
            match self.attached {}
        }

        pub fn work(&mut self, _: &Ready) -> Vec<Request> {
            match self.attached {}
        }

        pub fn drain(&mut self) {
            match self.attached {}
        }

        pub fn say(&mut self, _: Stream, _: &[u8]) -> usize {
            match self.attached {}
        }
    }
}

/// Health checks: there are none.
pub mod health {
    use crate::config::lifecycle::Health;
    use crate::error::Error;
    use crate::spawn::clone::Started;
    use crate::supervise::poll::PollSet;
    use rustix::fd::OwnedFd;
    use rustix::termios::Winsize;
    use std::marker::PhantomData;

    pub struct Checks<'a> {
        never: Never,
        lifetime: PhantomData<&'a Health>,
    }

    enum Never {}

    impl<'a> Checks<'a> {
        pub fn of(_: Option<&'a Health>, _: &'a [u8], _: &'a OwnedFd, _: Option<&'a str>) -> Option<Self> {
            None
        }

        pub fn watch<'s>(&'s self, _: &mut PollSet<'s>) {
            match self.never {}
        }

        pub fn restarts(&self) -> bool {
            match self.never {}
        }

        pub fn change(&mut self) -> Option<bool> {
            match self.never {}
        }

        pub fn trouble(&mut self) -> Option<&Error> {
            match self.never {}
        }

        pub fn work(&mut self, _: bool, _: &Started) -> bool {
            match self.never {}
        }
    }
}

/// Readiness: nothing waits for it.
pub mod readiness {
    use crate::supervise::poll::PollSet;
    use rustix::fd::OwnedFd;
    use std::net::SocketAddr;

    pub enum Readiness {}

    impl Readiness {
        pub fn is_waited_for(&self) -> bool {
            match *self {}
        }

        pub fn watch<'a>(&'a self, _: &mut PollSet<'a>) {
            match *self {}
        }

        pub fn has_more(&self) -> bool {
            match *self {}
        }

        pub fn never_comes(&self) -> bool {
            match *self {}
        }

        pub fn work(&mut self, _: bool, _: &mut dyn FnMut(SocketAddr) -> rustix::io::Result<OwnedFd>) -> bool {
            match *self {}
        }
    }
}
