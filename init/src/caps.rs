//! What the payload, and the init itself, may still do: bounding, permitted and effective set; capabilities(7).
//!
//! The inheritable and the ambient set are empty, but for what another user than root was given by name, or a bundle
//! says. Must run before no_new_privs would hide a mistake.

use kontena_init::filter;
use rustix::io::{Errno, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
};

use crate::sys;

/// Takes everything but `keep` out of the bounding set. Needs CAP_SETPCAP, so it comes before [`limit`].
pub fn bound(keep: u64) -> Result<()> {
    for capability in (0..u64::BITS).map(|number| 1 << number).filter(|capability| keep & capability == 0) {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(capability)) {
            // The first one beyond this kernel's CAP_LAST_CAP.
            Err(Errno::INVAL) => break,
            done => done?,
        }
    }
    Ok(())
}

/// Permits `set` and nothing else, now and for what this process execs as root.
pub fn limit(set: u64) -> Result<()> {
    let set = CapabilitySet::from_bits_retain(set);
    clear_ambient_capability_set()?;
    set_capabilities(None, CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() })
}

/// The same, of what is permitted by now.
pub fn limit_further(set: u64) -> Result<()> {
    limit(set & capabilities(None)?.permitted.bits())
}

/// Adds to the ambient set.
fn raise(set: u64) -> Result<()> {
    for capability in (0..u64::BITS).map(|number| 1 << number).filter(|capability| set & capability != 0) {
        configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(capability), true)?;
    }
    Ok(())
}

/// Sets of capabilities, a bit each.
pub struct Sets {
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// Sets them as they are, of what is permitted by now. What is ambient is permitted to a process that is not root's
/// across execve(2); the kernel only takes what is permitted and inheritable, too. Needs [`keep`] before a change of
/// user.
pub fn set(sets: &Sets) -> Result<()> {
    let permitted = sets.permitted & capabilities(None)?.permitted.bits();
    let bits = CapabilitySet::from_bits_retain;
    let (effective, inheritable) = (bits(sets.effective & permitted), bits(sets.inheritable));
    clear_ambient_capability_set()?;
    set_capabilities(None, CapabilitySets { effective, permitted: bits(permitted), inheritable })?;
    raise(sets.ambient & permitted & sets.inheritable)
}

/// Fails if this process may do more: a filter of system calls can pretend that a call has been made.
pub fn verify(most: &Sets) -> Result<()> {
    if !filter::MAY_PRETEND {
        return Ok(());
    }
    let most = [most.effective, most.permitted, most.inheritable];
    let all = sys::capability_sets()?;
    if all.iter().zip(most).any(|(is, most)| is & !most != 0) { Err(Errno::PROTO) } else { Ok(()) }
}

/// Keeps what is permitted when this process stops being root; until execve(2).
pub fn keep() -> Result<()> {
    set_keep_capabilities(true)
}

/// What it takes to become another user with less, and to give it stdio and ulimits.
pub const BECOME: u64 = CapabilitySet::CHOWN.bits()
    | CapabilitySet::SETGID.bits()
    | CapabilitySet::SETUID.bits()
    | CapabilitySet::SETPCAP.bits()
    | CapabilitySet::SYS_RESOURCE.bits();

/// The capability for schedulers and priorities above the default.
pub const NICE: u64 = CapabilitySet::SYS_NICE.bits();

/// The capability for installing a filter without no_new_privs.
pub const INSTALL: u64 = CapabilitySet::SYS_ADMIN.bits();

/// What the init keeps for itself once the payload runs: to signal processes of other users.
pub const KILL: u64 = CapabilitySet::KILL.bits();
