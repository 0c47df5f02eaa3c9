//! How a payload reports that it is ready: `--notify-fd`, `--sdnotify`, `--wait-ready port`; opened for one run.
//!
//! Must not wait for it: the supervisor does.

use crate::config::lifecycle::Ready;
use crate::config::publish::Protocol;
use crate::container::lifecycle::Container;
use crate::error::{Context, Result};
use crate::spawn::clone::leave_open;
use crate::spawn::plan::{Extras, NotifyFd};
use crate::spawn::sources::{Place, copy_tree};
use crate::spawn::trees::Tree;
use crate::supervise::readiness::{self, Readiness};
use crate::sys;
use crate::text::c_string;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

/// The init's part of it.
pub struct Notify {
    /// For its Plan.
    pub extras: Extras,
    /// The socket, where the init cannot reach it by its path.
    pub tree: Option<Tree>,
    /// The payload's end of a pipe, which the init inherits.
    _pipe: Option<OwnedFd>,
}

impl Container {
    /// Opens what was asked for. In the background the supervisor has the other end, whether the start waits or not.
    pub(super) fn open_notify(&mut self) -> Result<Notify> {
        let life = &self.config.life;
        let waits_for = |ready| self.supervision.starter.is_some() && life.wait_ready == Some(ready);
        let extras = Extras { size: self.size, ..Extras::default() };
        let mut notify = Notify { extras, tree: None, _pipe: None };
        match life.notify_fd {
            None => {}
            Some(number) if self.supervision.output.is_some() => {
                let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).at(format_args!("pipe"))?;
                notify.extras.notify = Some(NotifyFd { inherited: leave_open(&theirs)?, wanted: number });
                notify._pipe = Some(theirs);
                self.supervision.readiness = Some(Readiness::newline(ours, waits_for(Ready::Fd)));
            }
            Some(number) => {
                sys::inherit(number).at(format_args!("--notify-fd {number}"))?;
                notify.extras.notify = Some(NotifyFd { inherited: number, wanted: number });
            }
        }
        if life.sdnotify {
            let waits = waits_for(Ready::Notify);
            self.supervision.readiness = Some(Readiness::datagrams(&self.directory, waits)?);
            let socket = c_string(format!("{}/{}", self.root.path(self.config.name), readiness::SOCKET))?;
            if self.has_maps() && sys::is_privileged() {
                notify.tree = Some(socket_tree(&socket)?);
            }
            notify.extras.notify_socket = Some(socket);
            let variable = readiness::watchdog().map(|time| [b"WATCHDOG_USEC=", time.as_bytes()].concat());
            notify.extras.watchdog = variable.map(c_string).transpose()?;
        }
        Ok(notify)
    }

    /// The published TCP port that the start waits for, where that was asked for, of a container with this address.
    pub(super) fn port_to_await(&self, address: IpAddr) -> Option<Readiness> {
        if self.supervision.starter.is_none() || self.config.life.wait_ready != Some(Ready::Port) {
            return None;
        }
        let port = self.config.publish.iter().find(|port| port.protocol == Protocol::Tcp)?;
        Some(Readiness::port((address, port.container_port).into()))
    }
}

/// Root of a user namespace cannot reach the socket by its path.
fn socket_tree(path: &CStr) -> Result<Tree> {
    let what = format_args!("open_tree {}", path.to_string_lossy());
    let tree = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).and_then(|fd| copy_tree(fd, true));
    tree.context(what, "it needs CAP_SYS_ADMIN").map(|tree| Tree::new(Place::Notify, tree))
}
