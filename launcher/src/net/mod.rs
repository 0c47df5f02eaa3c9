//! The container's network, by netlink alone: no other program is run, and nothing of another's is changed.
//!
//! ```text
//! cli.rs → options.rs → subnet.rs
//! launch.rs → mod.rs → bridge.rs, publish.rs, namespace.rs → rtnl.rs (links, addresses, routes), nft.rs (the tables),
//!                                                            sysctl.rs, firewall.rs
//!                                                          → netlink.rs (messages and their acknowledgements)
//! ```

mod bridge;
mod firewall;
mod namespace;
mod netlink;
mod nft;
pub mod options;
mod pktinfo;
mod publish;
mod relay;
mod rtnl;
mod sockets;
mod subnet;
mod sysctl;

use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::state::{Entry, Journal, Root};
use crate::sys;
use namespace::Namespace;
use netlink::{Protocol, Socket};
use options::{Asked, Net, Publish, Via};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::process::Pid;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use subnet::Subnet;

pub use bridge::Bridge;
pub use nft::Tables;
pub use publish::{Reservation, picked, reserve, unpublish};
pub use relay::{Relay, Way, connect_from_host};
pub use sockets::Sockets;

/// The network of a container: what was asked for, as it is found here.
pub enum Network<'a> {
    /// Its own, linked to this bridge, which has been made already, or not.
    Bridge(Bridge, bool),
    /// Its own, with a link beside this one of the host's, and default routes by these.
    Macvlan(&'a CStr, &'a [IpAddr]),
    /// Its own, with loopback alone.
    None,
    /// The host's.
    Host,
    /// Somebody else's, with what is known of it: its addresses, and the host's address there.
    Joined(Namespace, Vec<IpAddr>, Option<IpAddr>),
}

/// What a container has of the host's network.
#[derive(Default)]
pub struct Connected {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The nftables tables, open, where a port is published.
    pub tables: Option<Tables>,
    /// Whether the kernel can send nothing to its ports: all of them are relayed.
    pub needs_relay: bool,
}

/// The network that the container is to get: an ordinary user's has nothing but loopback, unless it is told otherwise.
pub fn choose(config: &Config, is_root: bool) -> Result<Net> {
    let default = || if is_root { Net::Bridge(Bridge::DEFAULT.into(), None) } else { Net::None };
    let net = config.net.clone().unwrap_or_else(default);
    let asked = &config.asked;
    let refused = |what: &str, hint| Err(Error::usage(format_args!("{what}"), hint));
    if !is_root && matches!(net, Net::Bridge(..) | Net::Macvlan(..)) {
        let hint = "linking it to the host takes root: give --net none or host, or run kontena with sudo";
        return refused(if matches!(net, Net::Bridge(..)) { "--net bridge" } else { "--net macvlan" }, hint);
    }
    if net == Net::Host && !config.publish.is_empty() {
        return refused("--publish", "with --net host the container has the host's own ports: leave one of them out");
    }
    let at_loopback6 = config.publish.iter().find(|port| port.address == Some(Ipv6Addr::LOCALHOST.into()));
    if let (Some(port), Some(Via::Nft)) = (at_loopback6, config.publish_via) {
        let hint = "the kernel lets what comes to ::1 nowhere else: leave --publish-via nft out";
        return refused(&format!("publish {port}"), hint);
    }
    if config.publish_via == Some(Via::Nft) && !matches!(net, Net::Bridge(..)) {
        let hint = "there is no bridge that the kernel could send it by: give --publish-via relay";
        return refused("--publish-via nft", hint);
    }
    let given = [("--ip", asked.ip), ("--ip6", asked.ip6)].into_iter().filter_map(|(option, ip)| Some((option, ip?)));
    match net {
        Net::Bridge(..) => {
            for (option, ip) in given {
                if ip.host_bits() != 0 {
                    return refused(option, "the prefix is that of the bridge's subnet: leave it out");
                }
            }
        }
        Net::Macvlan(..) => {
            if asked.ip.is_none() {
                let hint = "give it an address of the LAN, --ip ADDRESS/PREFIX, that nobody else has: kontena asks no DHCP \
                            server for one";
                return refused("--net macvlan", hint);
            }
            for (option, ip) in given {
                if !ip.has_host(ip.address) {
                    return refused(option, "give an address of a host with the prefix of the LAN, as 192.0.2.7/24");
                }
            }
        }
        _ if *asked != Asked::default() => {
            return refused("--ip, --ip6, --mac-address", "they are for --net bridge and macvlan: leave them out");
        }
        _ => {}
    }
    Ok(net)
}

impl<'a> Network<'a> {
    /// Finds what `net` names, before anything is taken.
    pub fn find(net: &'a Net, config: &Config, root: &Root) -> Result<Self> {
        match net {
            Net::Bridge(name, asked) => {
                let (bridge, made) = Bridge::find(name, asked.as_ref(), root)?;
                bridge.check(&config.asked)?;
                Ok(Self::Bridge(bridge, made))
            }
            Net::Macvlan(link, gateways) => Ok(Self::Macvlan(link, gateways)),
            Net::None => Ok(Self::None),
            Net::Host => Ok(Self::Host),
            Net::Namespace(path) => Ok(Self::Joined(Namespace::open(path)?, Vec::new(), None)),
            Net::Container(name) => {
                let (namespace, addresses) = namespace::of_container(root, name)?;
                let is_on = |bridge: &Bridge| addresses.iter().any(|address| bridge.gateway.index(*address).is_some());
                let gateway = bridge::recorded(root).into_iter().find(is_on).map(|bridge| bridge.gateway.address);
                Ok(Self::Joined(namespace, addresses, gateway))
            }
        }
    }

    /// Whether no other container has it, nor the host.
    pub fn is_own(&self) -> bool {
        !matches!(self, Self::Host | Self::Joined(..))
    }

    /// How a port is published: by the relay where that is asked for, or the kernel has no other way to the container.
    pub fn way_of(&self, config: &Config, port: &Publish) -> Via {
        match self {
            // What comes to ::1 the kernel lets nowhere else.
            Self::Bridge(..) if port.address != Some(Ipv6Addr::LOCALHOST.into()) => {
                config.publish_via.unwrap_or(Via::Nft)
            }
            _ => Via::Relay,
        }
    }

    /// Whether the relay has something to do for a port, be it with what comes to ::1 alone.
    pub fn is_relayed(&self, config: &Config, port: &Publish) -> bool {
        let is_at_loopback6 = port.is_at(Ipv6Addr::LOCALHOST.into()) && config.publish_via.is_none();
        is_at_loopback6 || self.way_of(config, port) == Via::Relay
    }

    /// The host, as the container reaches it.
    pub fn gateway(&self) -> IpAddr {
        match self {
            Self::Bridge(bridge, _) => Some(bridge.gateway.address),
            Self::Joined(_, _, gateway) => *gateway,
            _ => None,
        }
        .unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// Before anything is started: takes the addresses that were asked for, so that it is known whether they are free; and
    /// makes the bridge, should it be the first time, so that what there is to say of it is said.
    pub fn prepare(&self, config: &Config, root: &Root, journal: &mut Journal<'_>) -> Result<()> {
        let Asked { ip, ip6, .. } = config.asked;
        let of_ip6 = |ip: Subnet| match self {
            Self::Bridge(bridge, _) => bridge.lease_of(ip.address),
            _ => ip.address,
        };
        // That of --ip last: it is the container's own.
        let leases = [("--ip6", ip6, ip6.map(of_ip6)), ("--ip", ip, ip.map(|ip| ip.address))];
        for (option, asked, lease) in leases {
            let (Some(asked), Some(lease)) = (asked, lease) else { continue };
            if journal.has(&Entry::Address(lease)) || journal.lease(Entry::Address(lease))? {
                continue;
            }
            // Its last holder may have been killed.
            root.sweep()?;
            if !journal.lease(Entry::Address(lease))? {
                let hint = match journal.holder(&Entry::Address(lease)) {
                    Some(name) => format!("the container {name} has this address: stop it, or give another"),
                    None => "another container has this address: stop it, or give another".into(),
                };
                return Err(Error::usage(format_args!("{option} {}", asked.address), &hint));
            }
        }
        match self {
            Self::Bridge(bridge, false) => bridge::make(bridge, root),
            _ => Ok(()),
        }
    }

    /// What init sets in it: that nobody on the bridge is its router. For the link that there will be, and the one that there
    /// may be already; [`Links::index`] looks whether it has come in time.
    pub fn settings(&self, config: &Config) -> &'static [&'static CStr] {
        const NO_ROUTERS: [&CStr; 2] =
            [c"-sys/net/ipv6/conf/default/accept_ra=0", c"-sys/net/ipv6/conf/eth0/accept_ra=0"];
        let has_link = matches!(self, Self::Bridge(..) | Self::Macvlan(..));
        if has_link && !wants_routers(config) { &NO_ROUTERS } else { &[] }
    }

    /// The sysfs that shows it, where a container in a user namespace cannot make one, for want of privileges over it.
    pub fn sysfs(&self) -> Result<Option<OwnedFd>> {
        match self {
            Self::Joined(namespace, ..) => namespace.sysfs().map(Some),
            _ => Ok(None),
        }
    }

    /// Does `what` in the network namespace that the container shares with somebody else, if it does so: what is cloned
    /// there, is there.
    pub fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T> {
        match self {
            Self::Joined(namespace, ..) => namespace.inside(what),
            _ => Ok(what()),
        }
    }

    /// Links the container of `init` to its network, while its init sets up the mounts.
    pub fn connect(
        &self,
        config: &Config,
        root: &Root,
        journal: &mut Journal<'_>,
        reservations: &[Reservation],
        (init, pidfd): (Pid, &OwnedFd),
    ) -> Result<Connected> {
        if !matches!(self, Self::Bridge(..) | Self::Macvlan(..)) {
            return Ok(Connected::default());
        }
        let host = Socket::open(Protocol::Route)?;
        let container = namespace::inside(pidfd.as_fd(), || Socket::open(Protocol::Route));
        let container =
            container.map_err(|errno| Error::new(format_args!("setns to the container's network"), errno, ""))??;
        let links = Links { host: &host, container: &container, init, pidfd, wants_routers: wants_routers(config) };
        match self {
            Self::Bridge(bridge, _) => {
                let (subnets, has_tables) = bridge::connect(bridge, root, journal, &config.asked, &links)?;
                let addresses: Vec<_> = subnets.iter().map(|subnet| subnet.address).collect();
                let gateways = [bridge.gateway.address, bridge.gateway6.address];
                // Last, for init has until now what it has to do before.
                rtnl::configure(&container, links.index("eth0")?, &subnets, &gateways[..subnets.len()])?;
                if let [own, ..] = *addresses {
                    bridge::wait_until_connected(bridge, &host, own)?;
                }
                let tables = if has_tables {
                    let is_sent = |port: &Publish| self.way_of(config, port) == Via::Nft;
                    let ports: Vec<_> = reservations.iter().map(|reserved| reserved.port).filter(is_sent).collect();
                    publish::publish(bridge, root, &ports, &addresses)?
                } else {
                    nft::need(config.publish_via != Some(Via::Nft) || config.publish.is_empty())?;
                    None
                };
                Ok(Connected { addresses, tables, needs_relay: !has_tables })
            }
            Self::Macvlan(link, gateways) => {
                let addresses = connect_macvlan(link, gateways, &config.asked, &links)?;
                Ok(Connected { addresses, ..Connected::default() })
            }
            _ => Ok(Connected::default()),
        }
    }
}

/// The two ends of what is done to links.
pub struct Links<'a> {
    /// A socket of the host's network.
    host: &'a Socket,
    /// A socket of the container's.
    container: &'a Socket,
    /// A process of the container's.
    init: Pid,
    pidfd: &'a OwnedFd,
    /// Whether the container is to listen to routers.
    wants_routers: bool,
}

/// Whether a `--sysctl` says otherwise about routers.
fn wants_routers(config: &Config) -> bool {
    config.sysctls.iter().any(|sysctl| sysctl.split(['.', '/']).any(|part| part.starts_with("accept_ra")))
}

impl Links<'_> {
    /// The link of the container that was just put there, and is not up yet.
    ///
    /// It must not listen to routers. Init has seen to that, unless it was too slow. It is its to do, since each network
    /// namespace whose settings are looked at through the host's /proc makes all others' slower to find there.
    fn index(&self, name: &str) -> Result<u32> {
        let link = rtnl::find_link(self.container, name)?;
        let link = link.ok_or_else(|| Error::usage(format_args!("find {name} in the container"), "it has gone"))?;
        if !self.wants_routers && link.setting6(rtnl::ACCEPT_RA).is_some_and(|setting| setting != 0) {
            let refuse = || sysctl::write(&format!("ipv6/conf/{name}/accept_ra"), "0");
            let refused = namespace::inside(self.pidfd.as_fd(), refuse);
            refused.map_err(|errno| Error::new(format_args!("setns to the container's network"), errno, ""))??;
        }
        Ok(link.index())
    }
}

/// Does something again and again while it fails with `errno`, for as long as the kernel may take over what is gone.
fn patiently(errno: Errno, mut what: impl FnMut() -> Result<()>) -> Result<()> {
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

/// Gives the container a link of its own on the LAN of the host's `link`. It goes with the network namespace.
fn connect_macvlan(link: &CStr, gateways: &[IpAddr], asked: &Asked, links: &Links<'_>) -> Result<Vec<IpAddr>> {
    let name = link.to_str().unwrap_or_default();
    let parent = name_to_index(links.host, name).context(format_args!("find the link {name}"), "see ip link")?;
    let addresses: Vec<Subnet> = asked.ip.into_iter().chain(asked.ip6).collect();
    let own = asked.ip.map_or(Ipv4Addr::UNSPECIFIED.into(), |ip| ip.address);
    let hardware = asked.hardware.unwrap_or_else(|| bridge::hardware_address(own));
    // Linux before 6.13 refuses a name that the host itself has, as if the link were to stay there.
    let name = bridge::link_name(own);
    rtnl::add_macvlan(links.host, parent, links.init, &name, hardware)?;
    let index = links.index(&name)?;
    // The last container's of this address may still be there, on its way out.
    patiently(Errno::ADDRINUSE, || rtnl::set_up_as(links.container, index, "eth0"))?;
    rtnl::configure(links.container, index, &addresses, gateways)?;
    Ok(addresses.iter().map(|subnet| subnet.address).collect())
}

/// Takes back one of the things that all containers share; `what` as it was recorded.
pub fn undo(what: &str) -> Result<()> {
    match what.split_once(' ') {
        Some(("bridge", _)) => bridge::delete(what),
        Some(("sysctl", change)) => sysctl::undo(change),
        _ if what == nft::RECORD => nft::delete_tables(),
        _ => Ok(()),
    }
}
