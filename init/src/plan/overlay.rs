//! Whether the root is laid under a writable layer; overlayfs, Documentation/filesystems/overlayfs.rst.

/// Only where the root is read-only and lacks a directory that something is mounted on; and what comes out of it is
/// read-only all the same.
pub const IF_NEEDED: u8 = 0;
/// Yes.
pub const ALWAYS: u8 = 1;
