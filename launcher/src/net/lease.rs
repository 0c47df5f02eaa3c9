//! The addresses that `--ip` and `--ip6` ask for.
//!
//! They are leased before anything is started, so that one that is taken is refused in time. Must not choose an
//! address.

use crate::config::bridge::Bridge;
use crate::config::network::Addresses;
use crate::error::{Error, Result};
use crate::state::{Journal, Lease, StateDirectory};
use std::net::IpAddr;

/// Leases the addresses that were asked for, on the bridge where there is one.
pub fn lease_asked(
    asked: &Addresses,
    bridge: Option<&Bridge>,
    root: &StateDirectory,
    journal: &mut Journal<'_>,
) -> Result<()> {
    if let Some(ip6) = asked.ip6 {
        let address = bridge.map_or(ip6.address, |bridge| bridge.lease_of(ip6.address));
        lease(address, "--ip6", ip6.address, root, journal)?;
    }
    // Last: the journal's last address is the container's own.
    asked.ip.map_or(Ok(()), |ip| lease(ip.address, "--ip", ip.address, root, journal))
}

/// Leases one address, for which this `option` asked for `asked`.
fn lease(address: IpAddr, option: &str, asked: IpAddr, root: &StateDirectory, journal: &mut Journal<'_>) -> Result<()> {
    let lease = Lease::Address(address);
    if journal.record().network.tried.contains(&address) || journal.lease(lease)? {
        return Ok(());
    }
    // Its last holder may have been killed.
    root.sweep()?;
    if journal.lease(lease)? {
        return Ok(());
    }
    let hint = match journal.holder(lease) {
        Some(name) => format!("the container {name} has this address: stop it, or use another"),
        None => "another container has this address: stop it, or use another".into(),
    };
    Err(Error::usage(format_args!("{option} {asked}"), &hint))
}
