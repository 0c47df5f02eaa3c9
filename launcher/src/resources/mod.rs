//! What a container is given of the host: its cgroup, ids, devices, files.
//!
//! Must not know when a container takes or returns it.

pub mod cgroup;
pub mod devices;
pub mod etc_files;
#[cfg(feature = "oci")]
pub mod idmap;
#[cfg(feature = "images")]
pub mod image;
#[cfg(not(feature = "images"))]
#[path = "image/without.rs"]
pub mod image;
pub mod owner;
pub mod stats;
#[cfg(feature = "rootless")]
pub mod userns;
#[cfg(not(feature = "rootless"))]
#[path = "userns/without.rs"]
pub mod userns;
#[cfg(feature = "images")]
pub mod verity;
#[cfg(not(feature = "images"))]
#[path = "verity/without.rs"]
pub mod verity;
#[cfg(feature = "background")]
pub mod volumes;
#[cfg(not(feature = "background"))]
#[path = "volumes/without.rs"]
pub mod volumes;
