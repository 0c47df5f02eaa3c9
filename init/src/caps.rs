//! What the payload, and the init itself, may still do: bounding, permitted and effective set; capabilities(7).
//!
//! The inheritable and the ambient set are always empty. Must run before no_new_privs would hide a mistake.

use rustix::io::{Errno, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
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
    let set = CapabilitySet::from_bits_retain(set);
    clear_ambient_capability_set()?;
    set_capabilities(None, CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() })
}

/// What the init keeps for itself once the payload runs: to signal processes of other users.
pub const KILL: u64 = CapabilitySet::KILL.bits();
