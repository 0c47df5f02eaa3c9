//! Devices of the host's network that a bundle moves into its container's: with their addresses, and up.
//!
//! They are the container's from then on: with its network namespace the kernel deletes those that are not hardware. So
//! what a container has got that is never made goes back. Must not make a device.

use crate::config::bundle::NetDevice;
use crate::error::{Error, Result};
use crate::net::links::Links;
use crate::net::netlink::{Protocol, Socket};
use crate::net::rtnl::{self, Addresses};
use crate::spawn::clone::Started;
use rustix::process::getpid;

/// How many names of a template are tried.
const NAMES: u32 = 4096;

/// The devices of a container that has not been made yet. Dropped, they go back.
#[derive(Default)]
pub struct Devices {
    /// A socket of the container's network, which keeps that.
    container: Option<Socket>,
    taken: Vec<Taken>,
}

struct Taken {
    /// Its name on the host.
    name: &'static str,
    /// Its name in the container.
    inside: String,
    was_up: bool,
    addresses: Addresses,
}

impl Devices {
    /// Moves devices to the container of `init`.
    pub fn take(&mut self, devices: &[NetDevice], init: &Started) -> Result<()> {
        if devices.is_empty() {
            return Ok(());
        }
        let Links { host, container, .. } = Links::open(init.pid, &init.pidfd, true)?;
        let container = self.container.insert(container);
        for NetDevice { name, inside } in devices {
            let inside = free_name(container, inside)?;
            let Some(link) = rtnl::find_link(&host, name)? else {
                return Err(Error::usage(format_args!("linux.netDevices: no link is called {name}"), "see ip link"));
            };
            let addresses = rtnl::permanent_addresses(&host, &link)?;
            rtnl::move_link(&host, &link, init.pid, &inside)?;
            let was_up = link.is_up();
            self.taken.push(Taken { name, inside: inside.clone(), was_up, addresses: addresses.clone() });
            configure(container, &inside, true, &addresses)?;
        }
        Ok(())
    }

    /// The container has been made: they are its own.
    pub fn keep(&mut self) {
        self.taken.clear();
    }
}

impl Drop for Devices {
    /// What cannot go back stays there, and ends with the container.
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let (Some(container), Ok(host)) = (&self.container, Socket::open(Protocol::Route)) else { return };
        for taken in self.taken.drain(..).rev() {
            let Taken { name, inside, was_up, addresses } = taken;
            let give = || {
                let Some(link) = rtnl::find_link(container, &inside)? else { return Ok(()) };
                rtnl::move_link(container, &link, getpid(), name)?;
                configure(&host, name, was_up, &addresses)
            };
            let _: Result<()> = give();
        }
    }
}

/// The name that a device gets in the container: `%d` stands for the first number with which it is free.
fn free_name(container: &Socket, wanted: &str) -> Result<String> {
    let template = wanted.split_once("%d");
    for number in 0..template.map_or(1, |_| NAMES) {
        let name = template.map_or_else(|| wanted.into(), |(start, end)| format!("{start}{number}{end}"));
        if rtnl::find_link(container, &name)?.is_none() {
            return Ok(name);
        }
    }
    let hint = "use a name that is free in the container's network, or a template, for example eth%d";
    Err(Error::usage(format_args!("linux.netDevices: the container has a link {wanted} already"), hint))
}

/// Brings up a device that has just been moved, with its addresses.
fn configure(network: &Socket, name: &str, is_up: bool, addresses: &Addresses) -> Result<()> {
    match rtnl::find_link(network, name)? {
        Some(link) => rtnl::restore(network, &link, is_up, addresses),
        None => Err(Error::usage(format_args!("linux.netDevices: {name} has disappeared"), "see ip link")),
    }
}
