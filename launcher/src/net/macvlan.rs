//! `--net macvlan`: a container's own link on the LAN of one of the host's links.
//!
//! It goes with the container's network namespace. Must not change the host's link.

use crate::config::bridge::{hardware_address, link_name};
use crate::config::network::Addresses;
use crate::config::subnet::Subnet;
use crate::error::{Context, Result};
use crate::gather::Gather;
use crate::net::links::{Links, patiently};
use crate::net::rtnl;
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr};

/// Makes the container's link beside the host's `link`, with the addresses that were asked for, which it returns.
pub fn connect(link: &CStr, gateways: &[IpAddr], asked: &Addresses, links: &Links<'_>) -> Result<Vec<IpAddr>> {
    let name = link.to_str().unwrap_or_default();
    let parent = name_to_index(&links.host, name).context(format_args!("find the link {name}"), "see ip link")?;
    let addresses: Vec<Subnet> = asked.ip.into_iter().chain(asked.ip6).list();
    let own = asked.ip.map_or(Ipv4Addr::UNSPECIFIED.into(), |ip| ip.address);
    let hardware = asked.hardware.unwrap_or_else(|| hardware_address(own));
    // Linux before 6.13 refuses a name that the host itself has, as if the link were to stay there.
    let name = link_name(own);
    rtnl::add_macvlan(&links.host, parent, links.init, &name, hardware)?;
    let index = links.index(&name)?;
    // The last container's of this address may still be there, on its way out.
    patiently(Errno::ADDRINUSE, || rtnl::set_up_as(&links.container, index, "eth0"))?;
    rtnl::configure(&links.container, index, &addresses, gateways)?;
    Ok(addresses.iter().map(|subnet| subnet.address).list())
}
