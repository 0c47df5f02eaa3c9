//! Published ports: reserved before anything is started, elements of the nftables map while the container runs.
//!
//! A reservation is a socket bound to the port: the kernel refuses a second one, to kontena and to everybody else, and
//! releases it when the launcher is gone, however it went. Must not listen on it: the relay does, where it is relayed.

use crate::config::{Protocol, Publish};
use crate::error::{Context, Error, Result};
use crate::net::nft::{self, Table};
use crate::state::Root;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::net::{Ipv4Addr, SocketAddrV4};

/// A port that nobody else can have while this lives.
pub struct Reservation {
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

/// Reserves the ports, or says which one is taken.
pub fn reserve(ports: &[Publish]) -> Result<Vec<Reservation>> {
    let mut reservations = Vec::new();
    for publish in ports {
        reservations.push(reserve_one(publish)?);
    }
    Ok(reservations)
}

fn reserve_one(publish: &Publish) -> Result<Reservation> {
    let kind = match publish.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let address = SocketAddrV4::new(publish.address, publish.host_port);
    let bound = |reuse| {
        let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
        set_socket_reuseaddr(&socket, reuse)?;
        bind(&socket, &address).map(|()| socket)
    };
    // Without SO_REUSEADDR, so that nobody else can have the port; with it where that fails, since it may be that only
    // connections of an earlier server linger there, which TCP keeps for a minute. socket(7).
    let socket = match bound(false) {
        Err(Errno::ADDRINUSE) if publish.protocol == Protocol::Tcp => bound(true),
        socket => socket,
    };
    socket.map(|socket| Reservation { socket }).map_err(|errno| {
        let hint = match errno {
            Errno::ADDRINUSE => "another program or container has this port: stop it, or publish another",
            Errno::ADDRNOTAVAIL => "not an address of this host: publish one of its own, or none for all",
            _ => "",
        };
        Error::new(format_args!("{publish}"), errno, hint)
    })
}

/// Sends what comes to the ports to the container at `address`.
pub fn publish(root: &Root, ports: &[Publish], address: Ipv4Addr) -> Result<Option<Table>> {
    if ports.is_empty() {
        return Ok(None);
    }
    let table = Table::open()?;
    match table.publish(ports, address) {
        // The reservation is ours, so what is in the map is left from a container whose launcher was killed.
        Err(error) if error.errno() == Some(Errno::EXIST) => {
            root.sweep()?;
            table.publish(ports, address).map_err(|error| error.advise("another container has this port"))?;
        }
        // Somebody has flushed the ruleset.
        Err(error) if error.errno() == Some(Errno::NOENT) => {
            nft::add_table(root)?;
            table.publish(ports, address)?;
        }
        published => published?,
    }
    Ok(Some(table))
}

/// Ends that for the container that was at `address`, by the table that it was done with or, for one whose launcher was
/// killed, a new one.
pub fn unpublish(ports: &[Publish], address: Option<Ipv4Addr>, table: Option<Table>) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let unpublish = |table: Table| {
        table.unpublish(ports)?;
        if let Some(address) = address
            && ports.iter().any(|port| port.protocol == Protocol::Udp)
        {
            table.forget_flows(address);
        }
        Ok(())
    };
    nft::unless_missing(table.map_or_else(Table::open, Ok).and_then(unpublish))
}
