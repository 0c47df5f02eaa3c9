//! An image that is a container's root, as the other modules have it. Must not open one: `resources/image.rs` does.

use crate::config::volumes::Volume;
use crate::error::Parsed;
use rustix::fd::OwnedFd;
use std::ffi::CStr;

/// An image, open. What is read from it and what is mounted are the same file, whatever its path leads to by then.
pub struct Image {
    /// For reading.
    pub fd: OwnedFd,
    /// What is in it.
    pub kind: FileSystem,
}

/// What is in an image. A kontena without `images` knows none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// erofs.
    #[cfg(feature = "images")]
    Erofs,
    /// squashfs.
    #[cfg(feature = "images")]
    Squashfs,
}

/// `--verify`: a root hash of dm-verity.
pub fn root_hash(text: &str) -> Parsed<&str> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { Ok(text) } else { Err("give 64 hexadecimal digits: the root hash that kontena-image prints") }
}

/// What an image says, where it is not an option of the command line that comes last and counts.
#[derive(Default)]
pub struct Said {
    /// Cmd.
    pub command: Vec<&'static CStr>,
    /// Env.
    pub env: Vec<&'static CStr>,
    /// Labels.
    pub labels: Vec<&'static str>,
    /// Volumes.
    pub volumes: Vec<Volume>,
}
