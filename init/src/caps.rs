//! What the payload, and the init itself, may still do: bounding, permitted and effective set; capabilities(7).
//!
//! The inheritable and the ambient set are empty, but for what another user than root was given by name, and for what
//! the config.json of a bundle says. Must run
//! before no_new_privs would hide a mistake.

use rustix::io::{Errno, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
};

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
    pass_on(set, 0, 0)
}

/// The same, of what is permitted by now.
pub fn limit_further(set: u64) -> Result<()> {
    limit(set & capabilities(None)?.permitted.bits())
}

/// Permits a set until execve(2), and across it: root what its bounding set has, another user the ambient set, which
/// the kernel only takes if the permitted and the inheritable set have it, too. Needs [`keep`] before a change of user.
pub fn pass_on(permitted: u64, inheritable: u64, ambient: u64) -> Result<()> {
    let [permitted, inheritable] = [permitted, inheritable].map(CapabilitySet::from_bits_retain);
    clear_ambient_capability_set()?;
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable })?;
    for capability in (0..u64::BITS).map(|number| 1 << number).filter(|capability| ambient & capability != 0) {
        configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(capability), true)?;
    }
    Ok(())
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

/// What it takes to install a filter without no_new_privs.
pub const INSTALL: u64 = CapabilitySet::SYS_ADMIN.bits();

/// What the init keeps for itself once the payload runs: to signal processes of other users.
pub const KILL: u64 = CapabilitySet::KILL.bits();
