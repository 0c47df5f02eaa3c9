//! Published ports: reserved before anything is started, elements of the nftables maps while the container runs.
//!
//! A port is reserved by a socket that is bound to it: the kernel refuses a second one, to kontena and to everybody
//! else, and releases the port when the launcher is gone, however it exited. Must not listen on it: the relay does.

use crate::config::Config;
use crate::config::bridge::{Bridge, Guest};
use crate::config::network::Net;
use crate::config::publish::{Protocol, Publish, PublishVia};
use crate::error::{Context, Error, Result};
use crate::net::bridge;
use crate::net::nft::{self, Tables};
use crate::state::{self, PortRecord, StateDirectory};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, bind, getsockname, listen, shutdown, socket_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A published port, reserved as long as this lives, and the way of forwarding it.
pub struct PortForward {
    /// What was asked for, with the port that the kernel has picked.
    pub publish: Publish,
    /// The way of forwarding it.
    pub via: Via,
    /// Bound to the port.
    socket: OwnedFd,
}

/// The way of forwarding a published port to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The kernel, by nf_tables.
    Nft,
    /// The kernel; and the launcher those packets to `[::1]`, which the kernel forwards to nobody.
    NftAndRelay,
    /// The launcher.
    Relay,
}

impl Via {
    /// The one place where it is decided: the kernel can forward to a container on a bridge, and nothing to `[::1]`.
    fn decide(net: &Net, publish: &Publish, option: Option<PublishVia>) -> Self {
        let loopback6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        match option {
            Some(PublishVia::Relay) => Self::Relay,
            _ if !matches!(net, Net::Bridge { .. }) || publish.address == Some(loopback6) => Self::Relay,
            None if publish.is_at(loopback6) => Self::NftAndRelay,
            _ => Self::Nft,
        }
    }
}

impl PortForward {
    /// The line of the journal that says that the container has it.
    pub fn record(&self) -> PortRecord {
        let via = if self.via == Via::Relay { PublishVia::Relay } else { PublishVia::Nft };
        PortRecord { publish: self.publish, via }
    }

    /// A copy of the socket that is bound to it, for the relay.
    pub fn socket(&self) -> Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.socket, 3).at(format_args!("fcntl"))
    }
}

/// Reserves all published ports of a container that gets this network, and decides how each is forwarded.
pub fn reserve(state: &str, config: &Config, net: &Net) -> Result<Vec<PortForward>> {
    let mut forwards = Vec::new();
    for asked in &config.publish {
        let socket = bind_port(asked).map_err(|errno| why_refused(errno, asked, state))?;
        let host_port = match asked.host_port {
            0 => port_of(&socket).at(format_args!("getsockname"))?,
            port => port,
        };
        let publish = Publish { host_port, ..*asked };
        forwards.push(PortForward { publish, via: Via::decide(net, &publish, config.publish_via), socket });
    }
    Ok(forwards)
}

/// Why a port cannot be published. A container of the `state` directory that has it is named.
fn why_refused(errno: Errno, publish: &Publish, state: &str) -> Error {
    let holder;
    let hint = match errno {
        Errno::ADDRINUSE => match state::publisher(state, publish) {
            Some(name) => {
                holder = format!("the container {name} has this port: stop it, or publish another");
                &*holder
            }
            None => "another program has this port: stop it, or publish another",
        },
        Errno::ADDRNOTAVAIL => "not an address of this host: publish on one that is, or on all without an address",
        Errno::ACCESS => {
            "only root may publish a port below net.ipv4.ip_unprivileged_port_start: use a higher one, or lower that"
        }
        Errno::AFNOSUPPORT => "this host has no IPv6",
        Errno::MFILE => "each port needs a file descriptor: raise ulimit -n",
        _ => "",
    };
    Error::new(format_args!("publish {publish}"), errno, hint)
}

/// The ports that the kernel has picked, a line each.
pub fn picked(forwards: &[PortForward], asked: &[Publish]) -> String {
    let mut lines = String::new();
    for (PortForward { publish, .. }, asked) in forwards.iter().zip(asked) {
        if asked.host_port == 0 {
            let at = publish.at(publish.host_port);
            lines += &format!("published {at} -> {}/{}\n", publish.container_port, publish.protocol);
        }
    }
    lines
}

/// A socket that is bound to the port.
fn bind_port(publish: &Publish) -> rustix::io::Result<OwnedFd> {
    match publish.address {
        Some(address) => bind_at(publish, address, true),
        // One socket for both families; without IPv6, for IPv4.
        None => match bind_at(publish, Ipv6Addr::UNSPECIFIED.into(), false) {
            Err(Errno::AFNOSUPPORT) => bind_at(publish, Ipv4Addr::UNSPECIFIED.into(), true),
            bound => bound,
        },
    }
}

/// `is_alone`: for the family of `address` alone.
fn bind_at(publish: &Publish, address: IpAddr, is_alone: bool) -> rustix::io::Result<OwnedFd> {
    let kind = match publish.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let bound = |reuse| {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            set_ipv6_v6only(&socket, is_alone)?;
        }
        set_socket_reuseaddr(&socket, reuse)?;
        bind(&socket, &SocketAddr::new(address, publish.host_port)).map(|()| socket)
    };
    // Without SO_REUSEADDR, so that nobody else can have the port; with it where that fails, since it may be that only
    // connections of an earlier server linger there, which TCP keeps for a minute. socket(7). Then it must not stay:
    // a program with SO_REUSEADDR could bind the port as well, until one of the two listens. To have listened takes it
    // from the port, where the kernel remembers it, and shutdown(2) ends that, and not the binding
    // (inet_csk_listen_start, inet_shutdown).
    match bound(false) {
        Err(Errno::ADDRINUSE) if publish.protocol == Protocol::Tcp => {
            let socket = bound(true)?;
            listen(&socket, 0)?;
            shutdown(&socket, Shutdown::Both)?;
            set_socket_reuseaddr(&socket, false).map(|()| socket)
        }
        socket => socket,
    }
}

fn port_of(socket: &OwnedFd) -> rustix::io::Result<u16> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?.port())
}

/// Lets a container take part in its bridge, and sends what comes to its ports to it.
pub fn publish(bridge: &Bridge, root: &StateDirectory, tables: &Tables, guest: &Guest, has_names: bool) -> Result<()> {
    let has_ipv6 = guest.addresses.iter().any(IpAddr::is_ipv6);
    let is_lost = |publish: &&Publish| !has_ipv6 && publish.address.is_some_and(|own| own.is_ipv6());
    if let Some(publish) = guest.ports.iter().find(is_lost) {
        return Err(Error::usage(format_args!("publish {publish}"), bridge::NO_IPV6));
    }
    match tables.admit(bridge, guest, has_names) {
        // The reservation is ours, so what is in the map is left from a container whose launcher was killed.
        Err(error) if error.errno() == Some(Errno::EXIST) => {
            root.sweep()?;
            let hint = "another container has this port";
            tables.admit(bridge, guest, has_names).map_err(|error| error.advise(hint))?;
        }
        admitted => admitted?,
    }
    tables.forget_flows(guest);
    Ok(())
}

/// Ends that, by the tables that it was done with or, for a container whose launcher was killed, anew: that may have
/// been before it had done it, and another has its ports by now.
pub fn unpublish(guest: &Guest, tables: Option<Tables>) -> Result<()> {
    if guest.addresses.is_empty() {
        return Ok(());
    }
    let certain = tables.is_some();
    let dismiss = |tables: Tables| {
        tables.dismiss(guest, certain)?;
        tables.forget_flows(guest);
        Ok(())
    };
    nft::unless_missing(tables.map_or_else(Tables::open, Ok).and_then(dismiss))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::network::net;
    use crate::config::publish::publish;

    #[test]
    fn kernel_forwards_to_bridges_and_the_relay_does_the_rest() {
        for (on, port, option, via) in [
            ("bridge", "8080:80", None, Via::NftAndRelay),
            ("bridge", "8080:80", Some(PublishVia::Nft), Via::Nft),
            ("bridge", "8080:80", Some(PublishVia::Relay), Via::Relay),
            ("bridge", "127.0.0.1:8080:80", None, Via::Nft),
            ("bridge", "0.0.0.0:8080:80", None, Via::Nft),
            ("bridge", "127.0.0.1:8080:80", Some(PublishVia::Relay), Via::Relay),
            ("bridge", "[fd00::1]:8080:80", None, Via::Nft),
            ("bridge", "[::]:8080:80", None, Via::NftAndRelay),
            ("bridge", "[::1]:8080:80", None, Via::Relay),
            ("bridge=lan", "8080:80/udp", None, Via::NftAndRelay),
            ("none", "8080:80", None, Via::Relay),
            ("container:web", "127.0.0.1:8080:80", None, Via::Relay),
            ("ns:/run/netns/blue", "8080:80", None, Via::Relay),
            ("macvlan=eth0", "8080:80", None, Via::Relay),
        ] {
            let found = Via::decide(&net(on).unwrap(), &publish(port).unwrap()[0], option);
            assert_eq!(found, via, "{on} {port} {option:?}");
        }
    }

    #[test]
    fn port_has_one_owner_and_the_kernel_picks_a_free_one() {
        let any = publish("127.0.0.1::80").unwrap()[0];
        let socket = bind_port(&any).unwrap();
        let host_port = port_of(&socket).unwrap();
        assert_ne!(host_port, 0);
        let same = Publish { host_port, ..any };
        assert_eq!(bind_port(&same).err(), Some(Errno::ADDRINUSE));
        let forward = PortForward { publish: same, via: Via::Nft, socket };
        assert_eq!(forward.record(), PortRecord { publish: same, via: PublishVia::Nft });
        assert_eq!(picked(&[forward], &[any]), format!("published 127.0.0.1:{host_port} -> 80/tcp\n"));
        assert!(bind_port(&same).is_ok());
    }
}
