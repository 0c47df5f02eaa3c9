//! The harness: pretend hosts, and what tests do with them.
//!
//! A [`Host`] has its own network, mount and pid namespaces, a neighbour on its LAN, a cgroup and a directory, so tests
//! run in parallel and change nothing on the machine; dropping it takes all of it away, also when a test panics, and
//! even when the test program is killed. Must not know how kontena does anything: tests look from outside, with ip(8),
//! nft(8) and /proc.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in a test this is how a failure is told")]
#![deny(unsafe_code)]

mod background;
mod bundle;
mod container;
mod engines;
mod host;
pub mod netlink;
mod place;
mod process;
mod snapshot;
#[allow(unsafe_code)]
pub mod sys;
mod terminal;
mod trace;
pub mod traffic;

pub use background::Background;
pub use bundle::{Bundle, mount, permit};
pub use container::{Container, leaf_processes};
pub use engines::{Engines, documented};
pub use host::{HOST_ADDRESS, HOST_ADDRESS6, Host, NEIGHBOUR_ADDRESS, NEIGHBOUR_ADDRESS6, REGISTRY};
pub use place::Place;
pub use process::{Outcome, Program, Running, SHARED_ROOT, patience, wait_for, wait_until, winner_of};
pub use snapshot::Snapshot;
pub use terminal::{Modes, Terminal};
pub use trace::Traced;

use std::path::{Path, PathBuf};

/// A file or directory that `cargo xtask test` has made for the tests.
///
/// # Panics
/// If the variable is not set: a test that cannot run here fails and says why.
pub fn provided(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run cargo xtask test"));
    let path = PathBuf::from(value);
    assert!(path.exists(), "{variable} names {}, which is not there: run cargo xtask test", path.display());
    path
}

/// The root of the tree that has ip(8), nft(8), sh(1) and the like: this machine's own, or a tree of Debian's if the
/// machine has none of them. Then PATH and the dynamic loader find them there.
pub fn instruments() -> PathBuf {
    std::env::var_os("KONTENA_INSTRUMENTS").map_or_else(|| "/".into(), PathBuf::from)
}

/// How often something is done that a hundred times show as well as a thousand: a quarter of `count` in the emulated
/// machine, which takes ten times as long, since this machine has done it `count` times.
pub fn rounds(count: usize) -> usize {
    if instruments() == Path::new("/") { count } else { count.div_ceil(4) }
}

/// How many system calls are between the moments at which a process is killed: each is a moment of its own on this
/// machine, and each seventh in the emulated one.
pub fn few() -> usize {
    if instruments() == Path::new("/") { 1 } else { 7 }
}

/// The launcher's file.
pub fn launcher() -> PathBuf {
    provided("KONTENA_BIN_DIR").join("kontena")
}

/// The init's file.
pub fn init() -> PathBuf {
    provided("KONTENA_BIN_DIR").join("kontena-init")
}

/// The program that tests run inside containers.
pub fn intruder() -> PathBuf {
    provided("KONTENA_INTRUDER")
}

/// The directory of the images of the demo rootfs.
pub fn images() -> PathBuf {
    provided("KONTENA_IMAGES")
}
