//! A container: what it holds on the host, its runs, and how it ended.
//!
//! Must not know how a process is started, nor how what it holds is made.

#[cfg(feature = "background")]
mod background;
#[cfg(not(feature = "background"))]
#[path = "background/without.rs"]
mod background;
#[cfg(feature = "background")]
mod create;
#[cfg(not(feature = "background"))]
#[path = "create/without.rs"]
mod create;
pub mod exit;
#[cfg(feature = "oci")]
mod handover;
#[cfg(not(feature = "oci"))]
#[path = "handover/without.rs"]
mod handover;
#[cfg(feature = "oci")]
pub mod hooks;
#[cfg(feature = "oci")]
mod joined;
#[cfg(not(feature = "oci"))]
#[path = "joined/without.rs"]
mod joined;
mod lifecycle;
#[cfg(feature = "oci")]
pub mod listener;
#[cfg(feature = "background")]
mod notify;
#[cfg(not(feature = "background"))]
#[path = "notify/without.rs"]
mod notify;
mod pidfile;
pub mod prune;
pub mod release;
mod restart;
#[cfg(feature = "background")]
mod shared;
#[cfg(not(feature = "background"))]
#[path = "shared/without.rs"]
mod shared;
#[cfg(feature = "background")]
mod volumes;
#[cfg(not(feature = "background"))]
#[path = "volumes/without.rs"]
mod volumes;

#[cfg(feature = "oci")]
pub use handover::{HandedOver, hand_over, name_missing, send_terminal, start_address};
#[cfg(feature = "oci")]
pub use pidfile::Pidfile;

use crate::config::Config;
use crate::error::{Context, Result};
use crate::sys;
use lifecycle::Container;

/// Makes a container that is not running; one of a bundle waits for its start.
pub fn create(state: &'static str, config: &'static Config) -> Result<()> {
    look_at_preserved(config.preserve_fds)?;
    if config.bundle.is_some() { handover::create(state, config) } else { create::create(state, config) }
}

/// Looks whether the caller's fds are there, before this process has opened anything that the numbers could be of.
pub fn look_at_preserved(fds: u32) -> Result<()> {
    (3..3 + fds).try_for_each(|number| {
        sys::look_at_fd(number).context(format_args!("--preserve-fds: fd {number}"), "the caller has to open it")
    })
}

/// Runs a container; returns the payload's exit status or, in the background, that of its start.
pub fn run(state: &'static str, config: &'static Config) -> Result<u8> {
    look_at_preserved(config.preserve_fds)?;
    if config.life.detach || config.life.tty {
        return background::run(state, config);
    }
    Container::create(state, config, None)?.run()
}
