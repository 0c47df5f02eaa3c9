//! `--device`: which of the host's devices a container gets, and where.
//!
//! Must not touch the system: `resources/devices.rs` looks at the device and confines the container to it.

use crate::config::volumes::mount_target;
use crate::error::Parsed;
use crate::gather::Gather;
use crate::text::c_text;
use std::ffi::CStr;

/// `--device SRC[:DST][:rwm]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path on the host.
    pub source: &'static CStr,
    /// Its path in the container.
    pub target: &'static CStr,
    /// The allowed access: [`MKNOD`], [`READ`], [`WRITE`].
    pub access: u32,
}

/// BPF_DEVCG_ACC_*; linux/bpf.h.
pub const MKNOD: u32 = 1;
pub const READ: u32 = 2;
pub const WRITE: u32 = 4;

/// `--device`.
pub fn device(text: &str) -> Parsed<Device> {
    let parts: Vec<&str> = text.split(':').list();
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if !access.starts_with('/') => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] => (source, target, access),
        _ => return Err("use SOURCE[:TARGET][:rwm], for example /dev/ttyS0"),
    };
    let access = access_of(access).filter(|access| *access != 0).ok_or("not an access mode: use r, w and m")?;
    let target = mount_target(target).ok_or("the target is not an absolute path below /")?;
    Ok(Device { source: c_text(source)?, target, access })
}

/// Access by its letters; `None` for one that is not r, w or m.
pub fn access_of(letters: &str) -> Option<u32> {
    let mut access = 0;
    for letter in letters.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return None,
        };
    }
    Some(access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_source_a_target_and_an_access() {
        let expect = |source: &'static CStr, target: &'static CStr, access| Ok(Device { source, target, access });
        assert_eq!(device("/dev/a"), expect(c"/dev/a", c"/dev/a", READ | WRITE | MKNOD));
        assert_eq!(device("/dev/a:r"), expect(c"/dev/a", c"/dev/a", READ));
        assert_eq!(device("/dev/a:/dev/b"), expect(c"/dev/a", c"/dev/b", READ | WRITE | MKNOD));
        assert_eq!(device("/dev/a:/dev/b:mw"), expect(c"/dev/a", c"/dev/b", WRITE | MKNOD));
        for bad in ["/dev/a:", "/dev/a:x", "/dev/a:/dev/b:", "/dev/a:/dev/b:rx", "/dev/a:/../b", "/a:/b:r:w", "dev/a"] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }
}
