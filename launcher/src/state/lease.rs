//! Leases: what only one container of the host can have at a time, whatever its state directory.
//!
//! `.leases/NAMESPACE-ADDRESS` or `.leases/ids-FIRST` in the registry is a symbolic link to the directory of the
//! container that holds the lease: symlink(2) is exclusive and atomic. A lease is in the journal before it is taken.
//! Must not know which addresses or ids there are.

use crate::error::{Context, Result};
use crate::file;
use crate::gather::Gather;
use crate::state::{ContainerRecord, Entry, Journal, StateDirectory};
use crate::sys;
use crate::text::split_last;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, fchmod};
use rustix::io::Errno;
use std::net::IpAddr;

const LEASES: &str = ".leases";

/// Something to lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// An address, in the network namespace of the launcher.
    Address(IpAddr),
    /// A block of subordinate ids, by the first uid.
    Ids(u32),
}

impl Lease {
    fn entry(self) -> Entry {
        match self {
            Self::Address(address) => Entry::Address(address),
            Self::Ids(first) => Entry::Ids(first),
        }
    }

    /// Its link in the registry.
    fn link(self, namespace: u64) -> String {
        match self {
            Self::Address(address) => format!("{LEASES}/{namespace}-{address}"),
            Self::Ids(first) => format!("{LEASES}/ids-{first}"),
        }
    }
}

/// The holder of a lease: the path of its state directory, and its name.
fn split(holder: &str) -> Option<(&str, &str)> {
    split_last(holder, b'/')
}

impl Journal<'_> {
    /// Takes a lease; `false` if another container has it.
    pub fn lease(&mut self, lease: Lease) -> Result<bool> {
        let (link, registry) = (lease.link(self.state().namespace()), self.state().registry()?);
        self.append(lease.entry())?;
        let holder = self.as_holder();
        let take = || file::link(registry, &holder, &link);
        let taken = match take() {
            Err(Errno::NOENT) => {
                let _ = file::make_directory(registry, LEASES);
                take()
            }
            taken => taken,
        };
        match taken {
            Err(Errno::EXIST) => Ok(false),
            taken => taken.map(|()| true).context(format_args!("lease {link}"), "free some space in /run"),
        }
    }

    /// Whether this container holds a lease, in the network namespace in which it has its addresses.
    pub fn holds(&self, lease: Lease) -> bool {
        let namespace = self.record().network.namespace.unwrap_or(0);
        self.state().holder_in(lease, namespace).is_some_and(|holder| holder == self.as_holder())
    }

    /// The name of the container that holds a lease.
    pub fn holder(&self, lease: Lease) -> Option<String> {
        let holder = self.state().holder(lease)?;
        split(&holder).map(|(_, name)| name.into())
    }

    /// Gives a lease back, if this container holds it.
    pub fn end_lease(&self, lease: Lease) {
        if let (true, Ok(registry)) = (self.holds(lease), self.state().registry()) {
            let link = lease.link(self.record().network.namespace.unwrap_or(0));
            file::remove(registry, &link, AtFlags::empty());
        }
    }

    /// This container in the registry.
    fn as_holder(&self) -> String {
        format!("{}/{}", self.state().real_path(), self.name())
    }
}

impl StateDirectory {
    /// The container that holds a lease, in the network namespace of this process.
    pub fn holder(&self, lease: Lease) -> Option<String> {
        self.holder_in(lease, self.namespace())
    }

    fn holder_in(&self, lease: Lease, namespace: u64) -> Option<String> {
        file::read_link(self.registry().ok()?, &lease.link(namespace))
    }

    /// All leases: the name of the link, and the container that holds it.
    fn leases(&self) -> Vec<(String, String)> {
        let Ok(registry) = self.registry() else { return Vec::new() };
        let names = file::open(registry, LEASES, OFlags::DIRECTORY).and_then(file::names).unwrap_or_default();
        let read = |name: String| {
            let holder = file::read_link(registry, &format!("{LEASES}/{name}"))?;
            Some((name, holder))
        };
        names.into_iter().filter_map(read).list()
    }

    /// Removes the directory of the leases, if there is none.
    pub(super) fn remove_leases(&self) -> Result<()> {
        file::remove(self.registry()?, LEASES, AtFlags::REMOVEDIR);
        Ok(())
    }

    /// Gives back what dead containers of other state directories hold, of those with a lease.
    pub(super) fn sweep_others(&self) {
        for (_, holder) in self.leases() {
            if let Some((path, name)) = split(&holder).filter(|(path, _)| *path != self.real_path())
                && let Some(other) = Self::existing(path, self.release)
            {
                let _ = other.look_after(&[name.into()]);
            }
        }
    }

    /// Tells the processes that watch the leases of those of a new container; then watches them, too, as
    /// [`sys::watch_directory`] does.
    pub fn watch_leases(&self) -> Result<OwnedFd> {
        let registry = self.registry()?;
        let open = || {
            let leases = file::open(registry, LEASES, OFlags::DIRECTORY)?;
            fchmod(&leases, Mode::RWXU)?;
            sys::watch_directory(&leases).map(|()| leases)
        };
        open()
            .context(format_args!("watch {LEASES} of the registry"), "it needs CONFIG_DNOTIFY and fs.dir-notify-enable")
    }

    /// The running containers of all state directories that hold a wanted address in this network namespace, each with
    /// that address, but for `container` of this state directory.
    pub fn residents(
        &self,
        container: &str,
        is_wanted: &dyn Fn(IpAddr) -> bool,
    ) -> Vec<(Box<ContainerRecord>, IpAddr)> {
        let here = format!("{}-", self.namespace());
        let resident = |(lease, holder): (String, String)| {
            let address = lease.strip_prefix(&here)?.parse().ok().filter(|address| is_wanted(*address))?;
            let (path, name) = split(&holder)?;
            let record = match path == self.real_path() {
                true if name == container => return None,
                true => self.look(name),
                false => Self::existing(path, self.release)?.look(name),
            };
            record.ok().flatten().filter(|record| record.is_running).map(|record| (record, address))
        };
        self.leases().into_iter().filter_map(resident).list()
    }
}
