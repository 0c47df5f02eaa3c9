//! In place of images, where kontena is built without them.

use crate::config::image::{FileSystem, Image};
use crate::error::Parsed;
use rustix::fd::OwnedFd;
use rustix::io::Result;
use std::ffi::CStr;

/// What a root file system is.
pub const ROOT: &str = "use a directory with the container's files: this kontena was built without `images`";

impl FileSystem {
    /// Why it may not be possible to mount it.
    pub fn hint(self) -> &'static str {
        match self {}
    }
}

/// Finds none in any file.
pub fn open(_: &CStr) -> Result<Option<Image>> {
    Ok(None)
}

/// It says nothing.
pub fn words(image: &Image) -> Parsed<Option<String>> {
    match image.kind {}
}

/// Nor does a directory: that is a part of images.
pub fn words_beside(_: &CStr) -> Parsed<Option<String>> {
    Ok(None)
}

/// Mounts none.
pub fn mount(_: &OwnedFd, _: &CStr, kind: FileSystem) -> Result<OwnedFd> {
    match kind {}
}
