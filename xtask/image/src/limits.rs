//! What an image may ask of this machine before it is refused.

/// The limits of one build.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all layers, unpacked; `--max-size`.
    pub bytes: u64,
    /// Files, directories and links, with those that a later layer removes.
    pub entries: usize,
    /// Bytes of names, targets of links and attributes, which are kept in memory.
    pub names: usize,
    /// Characters of control in names; `--permit control-characters`.
    pub control_characters: bool,
    /// Devices other than those of every container; `--permit devices`.
    pub devices: bool,
}

impl Default for Limits {
    fn default() -> Self {
        let (bytes, entries, names) = (16 << 30, 2_000_000, 512 << 20);
        Self { bytes, entries, names, control_characters: false, devices: false }
    }
}

/// The most bytes of a file's name; NAME_MAX of linux/limits.h.
pub const NAME: usize = 255;
/// The most bytes of a path; PATH_MAX without its NUL.
pub const PATH: usize = 4095;
/// The most bytes of an attribute's value, and of all attributes of a file; XATTR_SIZE_MAX, XATTR_LIST_MAX.
pub const ATTRIBUTES: usize = 65536;
/// The most bytes of what precedes an entry of a tar and describes it, as in Go's archive/tar.
pub const DESCRIPTION: u64 = 1 << 20;
/// The most bytes of a manifest, an index or a config, as registries have it.
pub const DOCUMENT: u64 = 4 << 20;
/// The most layers of an image.
pub const LAYERS: usize = 1000;
