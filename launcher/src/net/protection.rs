//! Whether the nftables tables are there that protect containers on bridges, and making them where they are not.
//!
//! Must not know what is in a table: that is nft/.

use crate::config::bridge::{Bridge, Guest};
use crate::error::Result;
use crate::net::nft::{self, Tables};
use crate::net::shared::recorded;
use crate::net::sysctl;
use crate::state::StateDirectory;
use std::net::IpAddr;

/// The tables that keep others from a bridge, and its containers apart.
pub struct Protection {
    /// The tables, open.
    pub tables: Tables,
    /// Whether there is one that checks the source of each frame.
    pub has_names: bool,
    /// Whether there is one for IPv6.
    pub has_ip6: bool,
}

impl Protection {
    /// Opens the tables, and makes those anew that lack something: somebody may have flushed the ruleset. `None` where
    /// the kernel has none.
    pub fn set_up(bridge: &Bridge, root: &StateDirectory, container: &str) -> Result<Option<Self>> {
        let tables = match Tables::open() {
            Err(error) => return nft::unless_missing(Err(error)).map(|()| None),
            Ok(tables) => tables,
        };
        let [has_ip, has_ip6, has_names] = tables.are_whole([&nft::IPV4, &nft::IPV6, &nft::BRIDGE]);
        let mut found = Self { tables, has_names, has_ip6 };
        if !has_ip && !found.make(&nft::IPV4, bridge, root, container)? {
            return Ok(None);
        }
        found.has_names = has_names || found.make(&nft::BRIDGE, bridge, root, container)?;
        Ok(Some(found))
    }

    /// Makes the table of a family with the elements of all bridges and containers but this `container`; `false` where
    /// the kernel cannot.
    pub fn make(
        &self,
        family: &'static nft::Family,
        bridge: &Bridge,
        root: &StateDirectory,
        container: &str,
    ) -> Result<bool> {
        root.record_shared(&format!("net {}", nft::RECORD))?;
        root.make_tables(|| match self.tables.are_whole([family]) {
            // Another start has made it meanwhile.
            [true] => Ok(true),
            [false] => self.make_alone(family, bridge, root, container),
        })
    }

    fn make_alone(
        &self,
        family: &'static nft::Family,
        bridge: &Bridge,
        root: &StateDirectory,
        container: &str,
    ) -> Result<bool> {
        let mut bridges = recorded(root);
        if !bridges.contains(bridge) {
            // Another state directory's.
            bridges.push(bridge.clone());
        }
        let mut guests = Vec::new();
        for (seen, address) in root.residents(container, &|_| true) {
            // It may hold more leases, as for --ip6, and have tried an address that another container holds.
            let is_own = |guest: &Guest| guest.addresses.first() == Some(&address);
            let is_on_bridge = |guest: &Guest| bridges.iter().any(|bridge| bridge.has_any(&guest.addresses));
            guests.extend(seen.network.guest().filter(|guest| is_own(guest) && is_on_bridge(guest)));
        }
        let forwarding = if family.is_ipv4() { sysctl::FORWARD4 } else { sysctl::FORWARD6 };
        self.tables.make(family, &bridges, &guests, sysctl::has_switched_on(root, forwarding))
    }
}

/// Whether the tables are there that protect containers on bridges.
pub struct Protected {
    bridges: Vec<Bridge>,
    are_whole: [bool; 3],
}

impl Protected {
    /// Lists the tables.
    pub fn look(root: &StateDirectory) -> Self {
        let (bridges, families) = (recorded(root), [&nft::IPV4, &nft::BRIDGE, &nft::IPV6]);
        let tables = if bridges.is_empty() { None } else { Tables::open().ok() };
        Self { bridges, are_whole: tables.map(|tables| tables.are_whole(families)).unwrap_or_default() }
    }

    /// Whether a running container with these addresses lacks protection: somebody may have flushed the ruleset.
    pub fn lacks(&self, addresses: &[IpAddr]) -> bool {
        let needed = if addresses.iter().any(IpAddr::is_ipv6) { 3 } else { 2 };
        self.are_whole[..needed].contains(&false) && self.bridges.iter().any(|bridge| bridge.has_any(addresses))
    }
}
