//! Published ports: reserved before anything is started, elements of the nftables maps while the container runs.
//!
//! A reservation is a socket bound to the port: the kernel refuses a second one, to kontena and to everybody else, and
//! releases it when the launcher is gone, however it went. Must not listen on it: the relay does, where it is relayed.

use crate::error::{Context, Error, Result};
use crate::net::bridge::{self, Bridge};
use crate::net::nft::{self, Tables};
use crate::net::options::{Protocol, Publish};
use crate::state::{self, Root};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A port that nobody else can have while this lives.
pub struct Reservation {
    /// What was asked for, with the port that the kernel has picked.
    pub port: Publish,
    socket: OwnedFd,
}

impl Reservation {
    /// The socket that is bound to it, for the relay. The connections that it will take must not keep the next one from the
    /// port when they linger; nobody else can listen on it all the same.
    pub fn socket(&self) -> Result<OwnedFd> {
        set_socket_reuseaddr(&self.socket, true).context(format_args!("setsockopt"), "")?;
        rustix::io::dup(&self.socket).context(format_args!("dup"), "")
    }
}

/// Reserves the ports, or says which one is taken, and by which container below `state` where it is one.
pub fn reserve(state: &str, asked: &[Publish]) -> Result<Vec<Reservation>> {
    let mut reservations = Vec::new();
    for publish in asked {
        let (port, socket) = reserve_one(publish).map_err(|errno| {
            let holder;
            let hint = match errno {
                Errno::ADDRINUSE => match state::publisher(state, publish) {
                    Some(name) => {
                        holder = format!("the container {name} has this port: stop it, or publish another");
                        &*holder
                    }
                    None => "another program has this port: stop it, or publish another",
                },
                Errno::ADDRNOTAVAIL => "not an address of this host: publish one of its own, or none for all",
                Errno::AFNOSUPPORT => "this host has no IPv6",
                Errno::MFILE => "each port takes a file descriptor: raise ulimit -n",
                _ => "",
            };
            Error::new(format_args!("publish {publish}"), errno, hint)
        })?;
        reservations.push(Reservation { port: Publish { host_port: port, ..*publish }, socket });
    }
    Ok(reservations)
}

/// What the kernel has picked of what was `asked`, a line each.
pub fn picked(reservations: &[Reservation], asked: &[Publish]) -> String {
    let mut lines = String::new();
    for (Reservation { port, .. }, asked) in reservations.iter().zip(asked) {
        if asked.host_port == 0 {
            lines += &format!("published {} -> {}/{}\n", port.at(port.host_port), port.container_port, port.protocol);
        }
    }
    lines
}

fn reserve_one(publish: &Publish) -> rustix::io::Result<(u16, OwnedFd)> {
    match publish.address {
        Some(address) => reserve_at(publish, address, true),
        // One socket for both families; where there is no IPv6, for the other.
        None => match reserve_at(publish, Ipv6Addr::UNSPECIFIED.into(), false) {
            Err(Errno::AFNOSUPPORT) => reserve_at(publish, Ipv4Addr::UNSPECIFIED.into(), true),
            reserved => reserved,
        },
    }
}

fn reserve_at(publish: &Publish, address: IpAddr, is_alone: bool) -> rustix::io::Result<(u16, OwnedFd)> {
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
    // connections of an earlier server linger there, which TCP keeps for a minute. socket(7).
    let socket = match bound(false) {
        Err(Errno::ADDRINUSE) if publish.protocol == Protocol::Tcp => bound(true),
        socket => socket,
    }?;
    let port = match publish.host_port {
        0 => SocketAddr::try_from(getsockname(&socket)?)?.port(),
        port => port,
    };
    Ok((port, socket))
}

/// Sends what comes to the ports to the container with these addresses.
pub fn publish(bridge: &Bridge, root: &Root, ports: &[Publish], addresses: &[IpAddr]) -> Result<Option<Tables>> {
    if ports.is_empty() {
        return Ok(None);
    }
    let has_ipv6 = addresses.iter().any(IpAddr::is_ipv6);
    if let Some(publish) = ports.iter().find(|publish| !has_ipv6 && publish.address.is_some_and(|own| own.is_ipv6())) {
        return Err(Error::usage(format_args!("publish {publish}"), bridge::NO_IPV6));
    }
    let tables = Tables::open()?;
    match tables.publish(ports, addresses) {
        // The reservation is ours, so what is in the map is left from a container whose launcher was killed.
        Err(error) if error.errno() == Some(Errno::EXIST) => {
            root.sweep()?;
            let hint = "another container has this port";
            tables.publish(ports, addresses).map_err(|error| error.advise(hint))?;
        }
        // Somebody has flushed the ruleset.
        Err(error) if error.errno() == Some(Errno::NOENT) => {
            bridge::add_tables(bridge, root)?;
            tables.publish(ports, addresses)?;
        }
        published => published?,
    }
    Ok(Some(tables))
}

/// Ends that for the container that had these addresses, by the tables that it was done with or, for one whose launcher was
/// killed, anew: that may have been before it had done it, and another has its ports by now.
pub fn unpublish(ports: &[Publish], addresses: &[IpAddr], tables: Option<Tables>) -> Result<()> {
    if ports.is_empty() || addresses.is_empty() {
        return Ok(());
    }
    let certain = tables.is_some();
    let unpublish = |tables: Tables| {
        tables.unpublish(ports, addresses, certain)?;
        if ports.iter().any(|port| port.protocol == Protocol::Udp) {
            addresses.iter().for_each(|address| tables.forget_flows(*address));
        }
        Ok(())
    };
    nft::unless_missing(tables.map_or_else(Tables::open, Ok).and_then(unpublish))
}
