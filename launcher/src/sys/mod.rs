//! The launcher's raw system calls: what rustix does not offer, and all `unsafe` of this crate, by topic.
//!
//! Each function opens with the prototype of its man page. Nothing here decides anything.

use rustix::io::{Errno, Result};

mod allocator;
mod bpf;
mod clock;
mod entry;
mod locks;
#[cfg(feature = "images")]
mod mapper;
mod mount;
#[cfg(feature = "oci")]
mod namespaces;
mod process;
mod signals;
mod sockets;
mod stdio;

pub use bpf::*;
pub use clock::*;
pub use entry::{set_title, variable};
pub use locks::*;
#[cfg(feature = "images")]
pub use mapper::*;
pub use mount::*;
#[cfg(feature = "oci")]
pub use namespaces::*;
pub use process::*;
pub use signals::*;
pub use sockets::*;
pub use stdio::*;

/// A raw system call's result: the kernel answers `-errno` in the last page of the address space.
fn check(result: usize) -> Result<usize> {
    match result as isize {
        error @ -4095..=-1 => Err(Errno::from_raw_os_error(-error as i32)),
        _ => Ok(result),
    }
}
