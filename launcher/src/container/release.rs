//! Releases what a container holds: at its end, between two runs, and after its launcher was killed.
//!
//! Undoes what the journal says, and only what the container provably owns. Must not decide that a container has ended.

use crate::config::bridge::Guest;
use crate::error::Result;
use crate::net::{self, PortForward, Tables};
use crate::resources::{cgroup, volumes};
use crate::state::{Cgroup, Journal, Lease};
use crate::sys::Lock;

/// The same as [`release`], for a container whose launcher is gone, and its tables and ports with it.
pub fn release_abandoned(journal: Journal<'_>) -> Result<()> {
    release(journal, None, Vec::new())
}

/// Releases everything, and the name at the very end, unless the record stays. `ports` are closed when nothing leads
/// from them to the container any more, and before a process that waits for its end returns.
pub fn release(mut journal: Journal<'_>, tables: Option<Tables>, ports: Vec<PortForward>) -> Result<()> {
    let mut released = release_addresses(&mut journal, tables);
    drop(ports);
    if let Some(cgroup) = &journal.record().cgroup {
        released = remove_cgroup(&journal, cgroup).and(released);
    }
    journal.record().ids.iter().for_each(|first| journal.end_lease(Lease::Ids(*first)));
    if !journal.record().is_kept {
        // One that another container uses by now is for `volume prune`.
        let own = journal.record().volumes.iter().filter(|volume| volume.is_own);
        own.for_each(|volume| drop(volumes::remove(&volume.path)));
    }
    released?;
    journal.close()
}

/// Releases the network of a container that will be restarted: its elements of the nftables maps by `tables`, if its
/// launcher has them open.
pub fn release_network(journal: &mut Journal<'_>, tables: Option<Tables>) -> Result<()> {
    release_addresses(journal, tables)?;
    journal.clear_network()
}

fn release_addresses(journal: &mut Journal<'_>, tables: Option<Tables>) -> Result<()> {
    let network = &journal.record().network;
    // A launcher without tables has nothing in them; and one that was killed may not have had the address yet.
    let was_published = |guest: &Guest| {
        let holds_address = || guest.addresses.first().is_some_and(|address| journal.holds(Lease::Address(*address)));
        tables.is_some() || !journal.record().is_running && holds_address()
    };
    if let Some(guest) = network.guest().filter(was_published) {
        // If that fails, the journal keeps it, for the next process to try. In another network namespace the same
        // address is another container's.
        let namespace = network.namespace.unwrap_or(0);
        if namespace == journal.state().namespace() {
            net::unpublish(&guest, tables)?;
        } else {
            net::in_namespace(namespace, || net::unpublish(&guest, None))?;
        }
    }
    // The link goes by itself, with the container's network namespace.
    network.tried.iter().for_each(|address| journal.end_lease(Lease::Address(*address)));
    Ok(())
}

/// Removes the leaf cgroup, if the one at its path is the container's; if its number is unknown, an empty one that
/// belongs to nobody.
fn remove_cgroup(journal: &Journal<'_>, Cgroup { number, path }: &Cgroup) -> Result<()> {
    let registry = journal.state().registry()?;
    if let Some(number) = number {
        return cgroup::remove(path, registry.inode_of(*number));
    }
    registry.lock(Lock::Make, false)?;
    cgroup::remove_unowned(path);
    registry.unlock(Lock::Make);
    Ok(())
}
