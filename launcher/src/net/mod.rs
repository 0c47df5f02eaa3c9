//! The container's network, by netlink alone, and an ordinary user's by pasta or slirp4netns: no other program is run,
//! and nothing of another's is changed.
//!
//! ```text
//! container → mod.rs → choose.rs                                which network
//!                    → publish.rs                               ports: reserved, published
//!                    → lease.rs, namespace.rs                   addresses that were asked for, others' namespaces
//!                    → veth.rs → bridge.rs → protection.rs      a container on a bridge
//!                    → macvlan.rs
//!                    → devices.rs                                the host's, moved into a bundle's container
//!                    → outbound.rs                              pasta and slirp4netns, for ordinary users
//!                    → names.rs                                 containers by name, in /etc/hosts
//!                    → relay.rs → sockets.rs                    ports that the launcher relays
//!                    → shared.rs                                what `prune` takes back
//! all of them → links.rs → rtnl.rs (links, addresses, routes), nft.rs (the tables), sysctl.rs → netlink.rs (messages)
//! ```

mod bridge;
mod choose;
#[cfg(feature = "oci")]
mod devices;
mod firewall;
mod lease;
mod link;
mod links;
mod macvlan;
mod names;
mod namespace;
mod netlink;
mod nft;
#[cfg(feature = "rootless")]
mod outbound;
#[cfg(not(feature = "rootless"))]
#[path = "outbound/without.rs"]
mod outbound;
mod pktinfo;
mod protection;
mod publish;
mod relay;
mod rtnl;
mod shared;
mod sockets;
mod sysctl;
mod veth;

use crate::config::Config;
use crate::config::bridge::{Bridge, Guest};
use crate::config::network::Net;
use crate::config::publish::PublishVia;
use crate::error::Result;
use crate::gather::Gather;
use crate::resources::etc_files::{self, EtcFile, Reach};
use crate::spawn::clone::Started;
use crate::spawn::join;
use crate::state::{Journal, StateDirectory};
use bridge::Resolved;
use lease::lease_asked;
use links::{Links, wants_routers};
use namespace::Namespace;
use netlink::{Protocol, Socket};
use protection::Protection;
use publish::Via;
use relay::Dialer;
use rustix::fd::OwnedFd;
use sockets::Sockets;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr};
use veth::Port;

pub use choose::choose;
#[cfg(feature = "oci")]
pub use devices::Devices;
pub use names::Names;
pub use namespace::in_namespace;
pub use nft::Tables;
pub use outbound::Helper;
pub use protection::Protected;
pub use publish::{PortForward, picked, reserve, unpublish};
pub use relay::{Relay, connect_from_host};
pub use shared::{is_used, undo};

/// The network of a container, as `--net` resolves on this host.
pub enum Network<'a> {
    /// Its own, linked to a bridge.
    Bridge(Resolved),
    /// Its own, with a link on the LAN of one of the host's links.
    Macvlan {
        /// The host's link.
        link: &'a CStr,
        /// The default routes.
        gateways: &'a [IpAddr],
    },
    /// Its own, with a way out by a program.
    Outbound(outbound::Program),
    /// Its own, with loopback alone.
    None,
    /// The host's.
    Host,
    /// Somebody else's.
    Joined {
        /// The network namespace.
        namespace: Namespace,
        /// The addresses of the container that owns it.
        addresses: Vec<IpAddr>,
        /// The host's address there, where it is known.
        gateway: Option<IpAddr>,
    },
}

/// A container's network, once it is linked to the host's.
pub struct Connected<'a> {
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// The nftables tables, open, where they have something of it.
    pub tables: Option<Tables>,
    /// The address at which the launcher reaches its ports.
    pub target: IpAddr,
    /// The ports that the launcher relays.
    pub relayed: Vec<&'a PortForward>,
    /// The relay is for `[::1]` alone: the kernel forwards everything else.
    pub can_relay_late: bool,
}

impl<'a> Network<'a> {
    /// Opens the network that `net` names, before anything is taken.
    pub fn resolve(net: &'a Net, config: &Config, root: &StateDirectory) -> Result<Self> {
        Ok(match net {
            Net::Bridge { name, subnets, mtu } => {
                let resolved = Resolved { mtu: *mtu, ..bridge::resolve(name, subnets.as_ref(), root)? };
                resolved.bridge.check(config.addresses.ip, config.addresses.ip6)?;
                Self::Bridge(resolved)
            }
            Net::Macvlan { link, gateways } => Self::Macvlan { link, gateways },
            Net::Outbound(kind) => Self::Outbound(outbound::Program::find(*kind)?),
            Net::None => Self::None,
            Net::Host => Self::Host,
            Net::Namespace(path) => {
                Self::Joined { namespace: Namespace::open(path)?, addresses: Vec::new(), gateway: None }
            }
            Net::Container(name) => {
                let (namespace, addresses) = namespace::of_container(root, name)?;
                let bridge = shared::recorded(root).into_iter().find(|bridge| bridge.has_any(&addresses));
                Self::Joined { namespace, addresses, gateway: bridge.map(|bridge| bridge.gateway.address) }
            }
        })
    }

    /// Whether no other container has it, nor the host.
    pub fn is_own(&self) -> bool {
        !matches!(self, Self::Host | Self::Joined { .. })
    }

    /// Whether it is its own, with a link beside loopback.
    pub fn is_linked(&self) -> bool {
        matches!(self, Self::Bridge(..) | Self::Macvlan { .. } | Self::Outbound(_))
    }

    /// /etc/hosts and its like.
    pub fn etc_files(&self, config: &Config) -> Vec<EtcFile> {
        etc_files::files(config, &self.reach())
    }

    /// Writes the /etc/hosts of a container with these addresses, for the first time. A bridge that was given a name
    /// has names.
    pub fn write_hosts<'r>(
        &self,
        file: OwnedFd,
        addresses: &[IpAddr],
        config: &Config,
        root: &'r StateDirectory,
    ) -> Result<Option<Names<'r>>> {
        let own = etc_files::hosts_with(addresses, config, &self.reach());
        match self {
            Self::Bridge(Resolved { bridge, .. }) if bridge.name != Bridge::DEFAULT => {
                Names::open(file, own, bridge.clone(), root).map(Some)
            }
            _ => names::write(&file, &own, 0).map(|()| None),
        }
    }

    /// Starts the program that makes the container's connections, where there is one.
    pub fn start_outbound(&self, init: &Started) -> Result<Option<Helper>> {
        match self {
            Self::Outbound(program) => program.start(init).map(Some),
            _ => Ok(None),
        }
    }

    fn reach(&self) -> Reach<'_> {
        match self {
            Self::Bridge(Resolved { bridge, .. }) => Reach::Linked(Some(bridge.gateway.address)),
            Self::Macvlan { .. } => Reach::Linked(None),
            // Its addresses are the program's choice.
            Self::Outbound(_) => Reach::Joined(&[], None),
            Self::None => Reach::Loopback,
            Self::Host => Reach::Host,
            Self::Joined { addresses, gateway, .. } => Reach::Joined(addresses, *gateway),
        }
    }

    /// Before anything is started: leases the addresses that were asked for, and makes a new bridge, so that its
    /// warnings come first.
    pub fn prepare(&self, config: &Config, root: &StateDirectory, journal: &mut Journal<'_>) -> Result<()> {
        let resolved = if let Self::Bridge(resolved) = self { Some(resolved) } else { None };
        lease_asked(&config.addresses, resolved.map(|resolved| &resolved.bridge), root, journal)?;
        if let Some(resolved @ Resolved { is_made: false, .. }) = resolved {
            bridge::set_up(resolved, root, &Socket::open(Protocol::Route)?, journal.name())?;
        }
        Ok(())
    }

    /// The settings that init writes: the container listens to no router. For a link that comes later, and for one that
    /// is there already. [`Links::index`] checks whether init was in time.
    pub fn settings(&self, config: &Config) -> &'static [&'static CStr] {
        const NO_ROUTERS: [&CStr; 2] =
            [c"-sys/net/ipv6/conf/default/accept_ra=0", c"-sys/net/ipv6/conf/eth0/accept_ra=0"];
        if self.is_linked() && !wants_routers(config) { &NO_ROUTERS } else { &[] }
    }

    /// A sysfs of it, where a container in a user namespace lacks the privileges over it to mount one.
    pub fn sysfs(&self) -> Result<Option<OwnedFd>> {
        match self {
            Self::Joined { namespace, .. } => namespace.sysfs().map(Some),
            _ => Ok(None),
        }
    }

    /// Calls `what` in the network namespace of somebody else that the container joins, where it does: a process that
    /// is cloned there, is in it.
    pub fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T> {
        match self {
            Self::Joined { namespace, .. } => namespace.inside(what),
            _ => Ok(what()),
        }
    }

    /// Links the container of `init` to its network, while its init sets up the mounts, and publishes its ports.
    pub fn connect<'f>(
        &self,
        config: &Config,
        root: &StateDirectory,
        journal: &mut Journal<'_>,
        forwards: &'f [PortForward],
        init: &Started,
    ) -> Result<Connected<'f>> {
        let (mut addresses, mut tables) = (Vec::new(), None);
        let mut target = Ipv4Addr::LOCALHOST.into();
        let open_links = || Links::open(init.pid, &init.pidfd, wants_routers(config));
        match self {
            Self::Bridge(resolved) => {
                (addresses, tables) = connect_bridge(resolved, config, root, journal, forwards, &open_links()?)?;
                target = addresses.first().copied().unwrap_or(target);
            }
            Self::Macvlan { link, gateways } => {
                addresses = macvlan::connect(link, gateways, &config.addresses, &open_links()?)?;
            }
            _ => {}
        }
        // Without tables the kernel forwards to nobody.
        let by_kernel = |forward: &PortForward| tables.is_some() && forward.via != Via::Relay;
        let is_relayed = |forward: &&PortForward| forward.via != Via::Nft || tables.is_none();
        Ok(Connected {
            relayed: forwards.iter().filter(is_relayed).list(),
            can_relay_late: forwards.iter().all(by_kernel),
            addresses,
            tables,
            target,
        })
    }

    /// Opens the relay to a container, where it has something to do.
    pub fn open_relay(
        &self,
        connected: &Connected<'_>,
        container: &join::Container<'_>,
        init: &OwnedFd,
        plan: &[u8],
    ) -> Result<Option<Relay>> {
        if connected.relayed.is_empty() {
            return Ok(None);
        }
        let dialer = match self {
            Self::Bridge(..) => Dialer::Host,
            _ => Dialer::Inside(Sockets::open(container, init, plan)?),
        };
        let mut relay = Relay::new(dialer)?;
        for forward in &connected.relayed {
            let publish = &forward.publish;
            relay.add(forward.socket()?, publish.protocol, (connected.target, publish.container_port).into())?;
        }
        Ok(Some(relay))
    }
}

/// Links the container to the bridge, and publishes its ports there; its addresses, and the tables, where the kernel
/// has them.
fn connect_bridge(
    resolved: &Resolved,
    config: &Config,
    root: &StateDirectory,
    journal: &mut Journal<'_>,
    forwards: &[PortForward],
    links: &Links<'_>,
) -> Result<(Vec<IpAddr>, Option<Tables>)> {
    let bridge = &resolved.bridge;
    let Port { subnets, hardware, protection } = veth::connect(resolved, root, journal, &config.addresses, links)?;
    let addresses: Vec<_> = subnets.iter().map(|subnet| subnet.address).list();
    let gateways = [bridge.gateway.address, bridge.gateway6.address];
    // Late, so that init has time for its settings.
    rtnl::configure(&links.container, links.index("eth0")?, &subnets, &gateways[..subnets.len()])?;
    if let [own, ..] = *addresses {
        veth::wait_until_connected(bridge, &links.host, own)?;
    }
    let Some(Protection { tables, has_names, .. }) = protection else {
        nft::need(config.publish_via != Some(PublishVia::Nft) || forwards.is_empty())?;
        return Ok((addresses, None));
    };
    let by_kernel = forwards.iter().filter(|forward| forward.via != Via::Relay);
    let guest = Guest { addresses, hardware, ports: by_kernel.map(|forward| forward.publish).list() };
    publish::publish(bridge, root, &tables, &guest, has_names)?;
    Ok((guest.addresses, Some(tables)))
}
