//! What all containers of the host share of the network, and its records in the registry: the bridges, the tables, and
//! the settings that were changed.
//!
//! A record is written before the thing is made. Must not make any of it.

use crate::config::bridge::{self, Bridge, address_of_link, hardware_address};
use crate::error::Result;
use crate::gather::Gather;
use crate::net::netlink::{Protocol, Socket};
use crate::net::{link, nft, rtnl, sysctl};
use crate::state::{Lease, StateDirectory};

/// The bridges that kontena has made, or is about to make.
pub fn recorded(root: &StateDirectory) -> Vec<Bridge> {
    root.shared("net ").iter().filter_map(|record| Bridge::from_record(record)).list()
}

/// Whether somebody still needs the thing with this record.
pub fn is_used(root: &StateDirectory, what: &str) -> Result<bool> {
    if what.starts_with(bridge::RECORD) { is_bridge_used(what, root) } else { Ok(false) }
}

/// Takes back the thing with this record.
pub fn undo(what: &str) -> Result<()> {
    match what.split_once(' ') {
        Some(("bridge", _)) => delete_bridge(what),
        Some(("sysctl", change)) => sysctl::undo(change),
        _ if what == nft::RECORD => nft::delete_tables(),
        _ => Ok(()),
    }
}

/// The link of a record, if it is still the bridge that kontena made.
fn find_recorded(host: &Socket, record: &str) -> Result<Option<link::Link>> {
    let Some(bridge) = Bridge::from_record(record) else { return Ok(None) };
    let link = rtnl::find_link(host, &bridge.name)?;
    Ok(link.filter(|link| link.hardware() == hardware_address(bridge.gateway.address)))
}

/// Whether the bridge of a record has a port that is still needed, whoever put it there. Ports of containers that have
/// ended, which the kernel has not removed yet, are deleted.
fn is_bridge_used(record: &str, root: &StateDirectory) -> Result<bool> {
    let host = Socket::open(Protocol::Route)?;
    let Some(bridge) = find_recorded(&host, record)? else { return Ok(false) };
    let Some(ports) = rtnl::ports(&host, bridge.index()) else { return Ok(true) };
    for port in ports {
        match address_of_link(&port.name()) {
            Some(address) if root.holder(Lease::Address(address)).is_none() => rtnl::delete_link(&host, &port)?,
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Deletes the bridge of a record.
fn delete_bridge(record: &str) -> Result<()> {
    let host = Socket::open(Protocol::Route)?;
    find_recorded(&host, record)?.map_or(Ok(()), |link| rtnl::delete_link(&host, &link))
}
