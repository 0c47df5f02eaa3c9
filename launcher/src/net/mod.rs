//! The container's network, by netlink alone: no other program is run, and nothing of another's is changed.
//!
//! ```text
//! launch.rs → mod.rs → bridge.rs, publish.rs → rtnl.rs (links, addresses, routes), nft.rs (the table)
//!                                            → netlink.rs (messages and their acknowledgements)
//! ```

mod bridge;
mod netlink;
mod nft;
mod pktinfo;
mod publish;
mod relay;
mod rtnl;
mod sockets;

use crate::config::Publish;
use crate::error::{Context, Result};
use crate::state::{Journal, Root};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};

use std::net::Ipv4Addr;

pub use bridge::HOST as GATEWAY;
pub use nft::Table;
pub use publish::{Reservation, reserve, unpublish};
pub use relay::{Relay, Way, connect_from_host};
pub use sockets::Sockets;

/// What a container has of the host's network.
pub struct Connected {
    /// Its address on the bridge.
    pub address: Ipv4Addr,
    /// The nftables table, open, where a port is published.
    pub table: Option<Table>,
}

/// Links the container of `init` to the bridge, while its init sets up the mounts, and has the kernel send it what comes to
/// the `ports`.
pub fn connect(
    ports: &[Publish],
    root: &Root,
    journal: &mut Journal<'_>,
    init: Pid,
    pidfd: &OwnedFd,
) -> Result<Connected> {
    let address = bridge::connect(root, journal, init, &socket_inside(pidfd)?)?;
    Ok(Connected { address, table: publish::publish(root, ports, address)? })
}

/// Takes back one of the things that all containers share; `what` as it was recorded.
pub fn undo(what: &str) -> Result<()> {
    match what {
        bridge::RECORD => bridge::delete(),
        bridge::FORWARDING_RECORD => bridge::disable_forwarding(),
        nft::RECORD => nft::delete_table(),
        _ => Ok(()),
    }
}

/// A netlink socket of the container's network namespace: it keeps the one it was made in, and the launcher goes there
/// only to make it. The launcher has one thread, so nothing else runs in between.
fn socket_inside(pidfd: &OwnedFd) -> Result<netlink::Socket> {
    let enter = |namespace: BorrowedFd<'_>| move_into_thread_name_spaces(namespace, ThreadNameSpaceType::NETWORK);
    let host = openat(CWD, c"/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context(format_args!("open /proc/self/ns/net"), "mount /proc")?;
    enter(pidfd.as_fd()).context(format_args!("setns to the container's network"), "")?;
    let socket = netlink::Socket::open(netlink::Protocol::Route);
    move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network))
        .context(format_args!("setns back to the host's network"), "")?;
    socket
}
