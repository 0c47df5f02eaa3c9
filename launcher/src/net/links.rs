//! The links of a container that is being set up: both network namespaces, open.
//!
//! Must not make a link: that is veth.rs and macvlan.rs.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::net::netlink::{Protocol, Socket};
use crate::net::{link, namespace, rtnl, sysctl};
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;

/// The host's network and a new container's, open for changes.
pub struct Links<'a> {
    /// A socket of the host's network.
    pub host: Socket,
    /// A socket of the container's.
    pub container: Socket,
    /// A process of the container's.
    pub init: Pid,
    pidfd: &'a OwnedFd,
    /// Whether the container listens to routers.
    wants_routers: bool,
}

fn setns_failed(errno: Errno) -> Error {
    Error::new(format_args!("setns to the container's network"), errno, "")
}

/// Whether a `--sysctl` sets whether the container listens to routers.
pub fn wants_routers(config: &Config) -> bool {
    config.sysctls.iter().any(|sysctl| sysctl.split(['.', '/']).any(|part| part.starts_with("accept_ra")))
}

impl<'a> Links<'a> {
    /// Opens both, by a process of the container's.
    pub fn open(init: Pid, pidfd: &'a OwnedFd, wants_routers: bool) -> Result<Self> {
        let host = Socket::open(Protocol::Route)?;
        let container = namespace::inside(pidfd.as_fd(), || Socket::open(Protocol::Route));
        let container = container.map_err(setns_failed)??;
        Ok(Self { host, container, init, pidfd, wants_routers })
    }

    /// The index of the link that was just put into the container, and is not up yet.
    ///
    /// It must not listen to routers. Init has set that, unless it was too slow. Init does it, since each network
    /// namespace whose settings somebody opens through the host's /proc makes those of all others slower to find there.
    pub fn index(&self, name: &str) -> Result<u32> {
        let link = rtnl::find_link(&self.container, name)?;
        let link =
            link.ok_or_else(|| Error::usage(format_args!("find {name} in the container"), "it has disappeared"))?;
        if !self.wants_routers && link.setting6(link::ACCEPT_RA).is_some_and(|setting| setting != 0) {
            let refuse = || sysctl::write(&format!("ipv6/conf/{name}/accept_ra"), "0");
            let refused = namespace::inside(self.pidfd.as_fd(), refuse);
            refused.map_err(setns_failed)??;
        }
        Ok(link.index())
    }
}

/// Repeats `what` while it fails with `errno`, for as long as the kernel may take to remove a link that is gone.
pub fn patiently(errno: Errno, mut what: impl FnMut() -> Result<()>) -> Result<()> {
    const ATTEMPTS: u32 = 500;
    /// Microseconds.
    const PAUSE: u64 = 2000;
    for _ in 1..ATTEMPTS {
        match what() {
            Err(error) if error.errno() == Some(errno) => sys::sleep(PAUSE),
            done => return done,
        }
    }
    what()
}
