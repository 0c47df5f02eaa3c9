//! What a [`Mount`](super::Mount) is made of.

/// A new instance of a file system.
pub const FILESYSTEM: u8 = 0;
/// The same, which a kernel may lack; then it is left out.
pub const FILESYSTEM_IF_KNOWN: u8 = 1;
/// A file or directory of the host, by its path, with what is mounted below it.
pub const BIND: u8 = 2;
/// The same, with an inherited fd: the path must still lead to the file or directory of that.
pub const KNOWN: u8 = 3;
/// Detached mounts of the launcher's, by an inherited fd. The path that they come from is for people.
pub const TREE: u8 = 4;
/// A tmpfs that was asked for: links of the root are followed to its target.
pub const TMPFS: u8 = 5;
/// The same, with the owner and the mode of the directory that it covers.
pub const TMPFS_LIKE_TARGET: u8 = 6;
/// Nothing new: what is mounted on the target, whose attributes are changed.
pub const REMOUNT: u8 = 7;
