//! In place of the network, where kontena is built without it: no link to the host's, and no published port. What a
//! whole kontena has left of these stays for it.

mod namespace;

use crate::config::Config;
use crate::config::bridge::Guest;
#[cfg(feature = "oci")]
use crate::config::bundle::NetDevice;
use crate::config::network::Net;
use crate::config::publish::Publish;
use crate::error::{Error, Result};
use crate::resources::etc_files::{self, EtcFile, Reach};
use crate::spawn::clone::Started;
use crate::spawn::join;
use crate::state::{Journal, PortRecord, StateDirectory};
use namespace::Namespace;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketType;
use std::convert::Infallible;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The network of a container, as `--net` resolves on this host.
pub enum Network<'a> {
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
        /// A link would be named by the options.
        options: PhantomData<&'a Net>,
    },
}

/// A container's network, once its init has it.
pub struct Connected<'a> {
    /// None.
    pub addresses: Vec<IpAddr>,
    /// None.
    pub tables: Option<Tables>,
    /// Loopback.
    pub target: IpAddr,
    /// The kernel forwards everything that there is: nothing.
    pub can_relay_late: bool,
    forwards: PhantomData<&'a PortForward>,
}

/// The nftables tables: never open.
pub enum Tables {}

/// A published port: there is none.
pub enum PortForward {}

/// Names of other containers: there are none.
pub struct Names<'a> {
    never: Infallible,
    root: PhantomData<&'a StateDirectory>,
}

/// A program that makes connections for an ordinary user: there is none.
pub type Helper = Infallible;

/// A relay: there is none.
pub enum Relay {}

/// Devices of the host's that go to a container: there are none.
#[cfg(feature = "oci")]
#[derive(Default)]
pub struct Devices(());

/// Whether the tables are there that protect containers on bridges.
pub struct Protected;

/// The network that the container gets.
pub fn choose(config: &Config, is_root: bool) -> Result<Net> {
    let refuse = |what: &str| {
        let error = Error::without(format_args!("{what}"), "net");
        Err(error.advise("use --net none, host, container:NAME or ns:PATH"))
    };
    match config.net.clone() {
        None if is_root => refuse("no --net given"),
        None => Ok(Net::None),
        Some(Net::Bridge { .. }) => refuse("--net bridge"),
        Some(Net::Macvlan { .. }) => refuse("--net macvlan"),
        Some(Net::Outbound(program)) => refuse(&format!("--net {}", program.name())),
        Some(net) => Ok(net),
    }
}

/// Reserves no port.
pub fn reserve(_: &str, _: &Config, _: &Net) -> Result<Vec<PortForward>> {
    Ok(Vec::new())
}

/// Picks no port.
pub fn picked(_: &[PortForward], _: &[Publish]) -> String {
    String::new()
}

/// Leaves elements of the nftables maps to a whole kontena.
pub fn unpublish(_: &Guest, _: Option<Tables>) -> Result<()> {
    Err(Error::without(format_args!("the published ports of a container that was killed"), "net"))
}

/// Goes nowhere: only [`unpublish`] is called there.
pub fn in_namespace(_: u64, what: impl FnOnce() -> Result<()>) -> Result<()> {
    what()
}

/// Leaves what containers share to a whole kontena.
pub fn is_used(_: &StateDirectory, _: &str) -> Result<bool> {
    Ok(true)
}

/// Undoes nothing.
pub fn undo(_: &str) -> Result<()> {
    Ok(())
}

/// Opens no socket.
pub fn connect_from_host(_: SocketType, _: SocketAddr) -> rustix::io::Result<OwnedFd> {
    Err(Errno::OPNOTSUPP)
}

impl Network<'_> {
    /// Finds what `net` names, before anything is taken.
    pub fn resolve(net: &Net, _: &Config, root: &StateDirectory) -> Result<Self> {
        let joined = |(namespace, addresses)| Self::Joined { namespace, addresses, options: PhantomData };
        match net {
            Net::Host => Ok(Self::Host),
            Net::Namespace(path) => Namespace::open(path).map(|namespace| joined((namespace, Vec::new()))),
            Net::Container(name) => namespace::of_container(root, name).map(joined),
            Net::None | Net::Outbound(_) | Net::Bridge { .. } | Net::Macvlan { .. } => Ok(Self::None),
        }
    }

    /// Whether no other container has it, nor the host.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether it is its own, with a link beside loopback.
    pub fn is_linked(&self) -> bool {
        false
    }

    /// Writes nothing: there is no link.
    pub fn write_hosts<'r>(
        &self,
        _: OwnedFd,
        _: &[IpAddr],
        _: &Config,
        _: &'r StateDirectory,
    ) -> Result<Option<Names<'r>>> {
        Ok(None)
    }

    /// Starts nothing.
    pub fn start_outbound(&self, _: &Started) -> Result<Option<Helper>> {
        Ok(None)
    }

    /// /etc/hosts and its like.
    pub fn etc_files(&self, config: &Config) -> Vec<EtcFile> {
        let reach = match self {
            Self::None => Reach::Loopback,
            Self::Host => Reach::Host,
            Self::Joined { addresses, .. } => Reach::Joined(addresses, None),
        };
        etc_files::files(config, &reach)
    }

    /// Needs nothing.
    pub fn prepare(&self, _: &Config, _: &StateDirectory, _: &mut Journal<'_>) -> Result<()> {
        Ok(())
    }

    /// The settings that init writes: there are none.
    pub fn settings(&self, _: &Config) -> &'static [&'static CStr] {
        &[]
    }

    /// A sysfs of it, where a container in a user namespace lacks the privileges over it to mount one.
    pub fn sysfs(&self) -> Result<Option<OwnedFd>> {
        match self {
            Self::Joined { namespace, .. } => namespace.sysfs().map(Some),
            _ => Ok(None),
        }
    }

    /// Calls `what` in the network namespace of somebody else that the container joins, where it does.
    pub fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T> {
        match self {
            Self::Joined { namespace, .. } => namespace.inside(what),
            _ => Ok(what()),
        }
    }

    /// Links the container to nothing.
    pub fn connect<'f>(
        &self,
        _: &Config,
        _: &StateDirectory,
        _: &mut Journal<'_>,
        _: &'f [PortForward],
        _: &Started,
    ) -> Result<Connected<'f>> {
        let target = Ipv4Addr::LOCALHOST.into();
        Ok(Connected { addresses: Vec::new(), tables: None, target, can_relay_late: true, forwards: PhantomData })
    }

    /// Opens none.
    pub fn open_relay(
        &self,
        _: &Connected<'_>,
        _: &join::Container<'_>,
        _: &OwnedFd,
        _: &[u8],
    ) -> Result<Option<Relay>> {
        Ok(None)
    }
}

#[cfg(feature = "oci")]
impl Devices {
    /// Refuses to.
    pub fn take(&mut self, devices: &[NetDevice], _: &Started) -> Result<()> {
        if devices.is_empty() { Ok(()) } else { Err(Error::without(format_args!("linux.netDevices"), "net")) }
    }

    /// There are none.
    pub fn keep(&mut self) {}
}

impl PortForward {
    /// The entry of the journal.
    pub fn record(&self) -> PortRecord {
        match *self {}
    }
}

impl Names<'_> {
    /// Writes the file anew.
    pub fn update(&mut self) -> Result<()> {
        match self.never {}
    }
}

impl Relay {
    /// When it has something to do.
    pub fn timeout(&self) -> Option<u64> {
        match *self {}
    }

    /// Passes on what has arrived.
    pub fn work(&mut self) {
        match *self {}
    }

    /// Connects to the container.
    pub fn connect(&mut self, _: SocketType, _: SocketAddr) -> rustix::io::Result<OwnedFd> {
        match *self {}
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

impl Protected {
    /// Looks at nothing.
    pub fn look(_: &StateDirectory) -> Self {
        Self
    }

    /// No container is on a bridge of this kontena's.
    pub fn lacks(&self, _: &[IpAddr]) -> bool {
        false
    }
}
