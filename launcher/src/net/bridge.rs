//! The bridge kontena0 and a container's way to it: names, addresses, and what must hold on the host.
//!
//! Runs on the host's side while the init makes the mounts. Must not touch a link that is not kontena's.

use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::net::netlink::{Protocol, Socket};
use crate::net::{nft, rtnl};
use crate::state::{Entry, Journal, Root};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::process::Pid;
use std::net::Ipv4Addr;

/// The bridge that containers share.
pub const BRIDGE: &str = "kontena0";
/// The bridge's own address, and its subnet's prefix.
const GATEWAY: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 1), 16);
/// The host, as a container on the bridge reaches it.
pub const HOST: Ipv4Addr = GATEWAY.0;
/// What all addresses of the subnet begin with.
pub const SUBNET: [u8; 2] = {
    let [first, second, ..] = GATEWAY.0.octets();
    [first, second]
};
/// How many addresses a container tries before it says that none is free.
const ATTEMPTS: u32 = 4096;
/// The shared things that [`delete`] and [`disable_forwarding`] take back.
pub const RECORD: &str = "bridge kontena0";
pub const FORWARDING_RECORD: &str = "ip_forward 0";

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Lets the bridge carry connections from 127.0.0.1, which publishing there needs; nft.rs keeps everybody else off.
const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/kontena0/route_localnet";

/// The links of this network namespace, `NAME: …` a line; /sys/class/net has those of the one it was mounted in.
const LINKS: &str = "/proc/net/dev";
/// What the host ends' names begin with.
const HOST_END: &str = "kt";

/// Links the container to the bridge, and gives its address there.
pub fn connect(root: &Root, journal: &mut Journal<'_>, init: Pid, container: &Socket) -> Result<Ipv4Addr> {
    let host = Socket::open(Protocol::Route)?;
    let bridge = find_or_add_bridge(root, &host)?;
    for attempt in 0..ATTEMPTS {
        let address = candidate(journal.name(), attempt);
        if !journal.lease(Entry::Address(address))? {
            continue;
        }
        let host_end = host_end(address);
        let veth = rtnl::Veth { host_end: &host_end, bridge, init, peer: "eth0", hardware: hardware_address(address) };
        match rtnl::add_veth(&host, &veth) {
            Ok(()) => {
                let index = name_to_index(container, "eth0").context(format_args!("find eth0 in the container"), "")?;
                rtnl::configure(container, index, (address, GATEWAY.1), GATEWAY.0)?;
                return Ok(address);
            }
            // The link of a container that has just ended, on its way out; or another state directory's.
            Err(error) if error.errno() == Some(Errno::EXIST) => journal.end_lease(&Entry::Address(address)),
            Err(error) => return Err(error),
        }
    }
    Err(Error::usage(
        format_args!("find a free address for {}", journal.name()),
        "kontena0 is full: stop a container, or run kontena prune",
    ))
}

/// The bridge's index; with all that must hold around it, made where it is missing.
fn find_or_add_bridge(root: &Root, host: &Socket) -> Result<u32> {
    if is_off(IP_FORWARD) {
        root.record_shared(&format!("net {FORWARDING_RECORD}"))?;
        write_sysctl(IP_FORWARD, "1")?;
    }
    let index = match name_to_index(host, BRIDGE) {
        Ok(index) => index,
        Err(_) => {
            root.record_shared(&format!("net {RECORD}"))?;
            nft::add_table(root)?;
            rtnl::add_bridge(host, BRIDGE, hardware_address(GATEWAY.0))?;
            name_to_index(host, BRIDGE).context(format_args!("find {BRIDGE}"), "")?
        }
    };
    // The last thing that is done to the bridge: where it is off, the bridge is not ready, or not kontena's.
    if is_off(ROUTE_LOCALNET) {
        rtnl::check_bridge(host, BRIDGE)?;
        rtnl::add_bridge_address(host, index, GATEWAY)?;
        write_sysctl(ROUTE_LOCALNET, "1")?;
    }
    Ok(index)
}

/// Deletes the bridge, and the links of containers that have ended which the kernel has not come to yet.
pub fn delete() -> Result<()> {
    let host = Socket::open(Protocol::Route)?;
    for line in file::read_text(CWD, LINKS).lines() {
        let name = line.split(':').next().unwrap_or_default().trim_ascii();
        let address = name.strip_prefix(HOST_END).unwrap_or_default();
        if address.len() == 8 && address.bytes().all(|c| c.is_ascii_hexdigit()) {
            rtnl::delete_link(&host, name)?;
        }
    }
    rtnl::delete_link(&host, BRIDGE)
}

/// Turns forwarding off again, where kontena had turned it on.
pub fn disable_forwarding() -> Result<()> {
    write_sysctl(IP_FORWARD, "0")
}

fn is_off(path: &str) -> bool {
    file::read(CWD, path).is_ok_and(|value| value.starts_with(b"0"))
}

fn write_sysctl(path: &str, value: &str) -> Result<()> {
    file::write(CWD, path, value)
        .context(format_args!("write {value} to {path}"), "/proc/sys must be writable for --net bridge")
}

/// The `attempt`th address to try for a container: spread by its name over the subnet, so that the first is nearly
/// always free, and a container of the same name gets the same one again.
fn candidate(name: &str, attempt: u32) -> Ipv4Addr {
    // FNV-1a.
    let hash = name.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let hosts = (1u32 << (32 - GATEWAY.1)) - 3;
    // Neither the network's address nor the gateway's nor the broadcast's.
    let network = u32::from(GATEWAY.0) & !(u32::MAX >> GATEWAY.1);
    Ipv4Addr::from(network + 2 + (hash.wrapping_add(attempt)) % hosts)
}

/// The host end's name says whose it is: it has the container's address.
fn host_end(address: Ipv4Addr) -> String {
    format!("{HOST_END}{:08x}", u32::from(address))
}

/// A locally administered hardware address made of an IPv4 one, so that none has to be remembered.
fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x6b, a, b, c, d]
}
