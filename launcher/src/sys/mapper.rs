//! The device mapper.

use super::check;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use sc::syscall;

/// `sizeof(struct dm_ioctl)`; linux/dm-ioctl.h.
pub const DM_IOCTL_SIZE: usize = 312;

/// `int ioctl(int fd, _IOWR(0xfd, command, struct dm_ioctl), struct dm_ioctl *request)` of /dev/mapper/control. The
/// kernel reads `request`, and writes its answer over it.
pub fn device_mapper(control: &OwnedFd, command: u8, request: &mut [u8]) -> Result<()> {
    if request.len() < DM_IOCTL_SIZE {
        return Err(Errno::INVAL);
    }
    let size = (request.len() as u32).to_ne_bytes();
    // data_size
    request[12..16].copy_from_slice(&size);
    let number = 0xc000_fd00 | (DM_IOCTL_SIZE << 16) | usize::from(command);
    // SAFETY: the kernel reads and writes a struct dm_ioctl, for which there is room, and at most data_size bytes.
    let result = unsafe { syscall!(IOCTL, control.as_raw_fd(), number, request.as_mut_ptr()) };
    check(result).map(drop)
}
