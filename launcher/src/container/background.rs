//! A container in the background: forks the launcher into one process for the container and one for the caller.
//!
//! The one for the container has a session of its own and nothing of the caller's, and reports the result of the start
//! to the other. Must not know how a container is made.

use crate::config::Config;
use crate::config::image::{FileSystem, Image};
use crate::container::lifecycle::Container;
use crate::error::{Context, Error, Result};
use crate::print;
use crate::supervise::attach::failure;
use crate::supervise::output::Output;
use crate::supervise::signals::Signals;
use crate::supervise::stdio;
use crate::supervise::terminal::{self, HUNG_UP, Options, Outcome, Peer};
use crate::sys;
use rustix::fd::OwnedFd;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::Pid;
use rustix::termios::Winsize;

/// The arguments of the launcher that stays.
#[derive(Clone, Copy)]
struct Given {
    state: &'static str,
    config: &'static Config,
    size: Option<Winsize>,
    /// What is in the image that it has for a root, if it has one.
    image: Option<FileSystem>,
}

/// Starts the container, and waits until it runs, or with a terminal until it ends.
pub fn run(state: &'static str, config: &'static Config) -> Result<u8> {
    let size = if config.life.tty { terminal::size() } else { None };
    // Before there is another process, so that none of them ends by a signal that is for the launcher.
    let signals = Signals::block(true)?;
    let (launcher, pid) = fork(state, config, size)?;
    attend(launcher, pid, &signals, config)
}

/// Forks. The child continues as `stay`, in a session of its own, with its end of a socket. It has nothing of the
/// caller's, since a process may wait for the end of a pipe, or for a lock, that the caller has left open. Returns the
/// other end, and the child's pid.
fn fork(state: &'static str, config: &'static Config, size: Option<Winsize>) -> Result<(OwnedFd, Pid)> {
    let (front, back) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .at(format_args!("socketpair"))?;
    // Those that the command gets have the first numbers.
    let first = 3 + config.preserve_fds as usize;
    let (image, fd) = match config.image.take() {
        Some(Image { fd, kind }) => (Some(kind), fd),
        None => (None, fcntl_dupfd_cloexec(&back, 3).at(format_args!("fcntl"))?),
    };
    let child = sys::fork_apart(first, [back, fd], stay, Given { state, config, size, image });
    let child = child.context(format_args!("fork"), "no processes or memory left")?;
    Ok((front, child))
}

/// The life of the launcher that stays; returns its exit status.
fn stay([caller, fd]: [OwnedFd; 2], Given { state, config, size, image }: Given) -> u8 {
    config.image.set(image.map(|kind| Image { fd, kind }));
    let owner = fcntl_dupfd_cloexec(&caller, 3).at(format_args!("fcntl"));
    let found = leave_stdio().and_then(|()| Ok((owner?, Container::create(state, config, size)?)));
    let ended = match found {
        Ok((owner, mut container)) => {
            container.supervision.starter = Some(caller);
            container.supervision.output = Some(Output::new(owner, config.life.is_attached()));
            container.run()
        }
        Err(error) => {
            let _ = send(&caller, &failure(&error), SendFlags::NOSIGNAL);
            Err(error)
        }
    };
    ended.unwrap_or_else(|error| error.status())
}

/// Leaves stdio, but for the caller's stderr: warnings go there until the container has started.
fn leave_stdio() -> Result<()> {
    sys::keep_errors().at(format_args!("fcntl"))?;
    stdio::leave_stdio()
}

/// The caller's side: waits until the container runs, and with a terminal until it ends.
fn attend(launcher: OwnedFd, pid: Pid, signals: &Signals, config: &Config) -> Result<u8> {
    let life = &config.life;
    sys::restore_sigpipe();
    let options = Options {
        detach_keys: &life.detach_keys,
        takes_input: life.interactive && life.is_attached() && life.again.is_none_or(|again| again.takes_input),
        is_terminal: life.tty && life.is_attached(),
        until_it_runs: !life.is_attached(),
    };
    match terminal::attend(&Peer::Launcher { socket: launcher, child: Some(pid) }, signals, &options)? {
        Outcome::Ended(status) => Ok(status.unwrap_or(0)),
        Outcome::Runs | Outcome::Detached => print::answer(&format!("{}\n", config.name)).map(|()| 0),
        Outcome::HungUp => Ok(HUNG_UP),
        Outcome::Lost => Err(Error::usage(
            format_args!("the launcher of {} in the background was killed", config.name),
            "clean up with kontena prune",
        )),
    }
}
