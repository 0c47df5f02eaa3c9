//! Idmapped mounts, and loop devices.

use super::check;
use linux_raw_sys::general as uapi;
use linux_raw_sys::loop_device::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_READ_ONLY, LOOP_CONFIGURE, LOOP_CTL_GET_FREE, loop_config,
};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Result;
use sc::syscall;
use std::ffi::CStr;

/// `int mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, { MOUNT_ATTR_IDMAP, userns_fd }, size)`, without
/// AT_RECURSIVE for its top mount alone.
pub fn idmap(tree: &OwnedFd, userns: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let attributes = uapi::mount_attr {
        attr_set: uapi::MOUNT_ATTR_IDMAP.into(),
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.as_raw_fd() as u64,
    };
    let flags = uapi::AT_EMPTY_PATH | if recursive { uapi::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path and a mount_attr of the size given, both alive across the call.
    check(unsafe {
        sc::syscall5(
            uapi::__NR_mount_setattr as usize,
            tree.as_raw_fd() as usize,
            c"".as_ptr() as usize,
            flags as usize,
            &raw const attributes as usize,
            size_of::<uapi::mount_attr>(),
        )
    })
    .map(drop)
}

/// `int ioctl(int fd, LOOP_CTL_GET_FREE)` of /dev/loop-control: the number of a loop device that nobody uses; loop(4).
pub fn free_loop_device(control: &OwnedFd) -> Result<usize> {
    // SAFETY: takes no argument.
    check(unsafe { syscall!(IOCTL, control.as_raw_fd(), LOOP_CTL_GET_FREE, 0) })
}

/// `int ioctl(int fd, LOOP_CONFIGURE, struct loop_config *config)`: makes `device` a read-only one over `file`, which
/// goes when nobody uses it any more.
pub fn configure_loop_device(device: &OwnedFd, file: &OwnedFd, name: &CStr) -> Result<()> {
    let configuration = loop_configuration(file.as_raw_fd(), name);
    // SAFETY: the kernel reads one struct loop_config, which is alive across the call.
    check(unsafe { syscall!(IOCTL, device.as_raw_fd(), LOOP_CONFIGURE, &raw const configuration) }).map(drop)
}

fn loop_configuration(file: RawFd, name: &CStr) -> loop_config {
    // SAFETY: a struct of integers and arrays of them, for which zeros are a value.
    let mut configuration: loop_config = unsafe { core::mem::zeroed() };
    configuration.fd = file as u32;
    configuration.info.lo_flags = LO_FLAGS_READ_ONLY as u32 | LO_FLAGS_AUTOCLEAR as u32;
    // What losetup(8) shows; its last byte stays zero.
    let places = configuration.info.lo_file_name.iter_mut().rev().skip(1).rev();
    places.zip(name.to_bytes()).for_each(|(place, byte)| *place = *byte);
    configuration
}
