//! Clocks, and waiting.

use super::check;
use kontena_init::idle;
use linux_raw_sys::general as uapi;
use rustix::event::{PollFd, Timespec};
use rustix::io::Result;
use sc::syscall;
use std::ptr;

/// `int clock_gettime(CLOCK_MONOTONIC, struct timespec *tp)`, in microseconds.
pub fn monotonic_microseconds() -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: the kernel's struct timespec is two 64-bit numbers on 64-bit machines; it is alive across the call, which
    // cannot fail with this clock.
    unsafe { syscall!(CLOCK_GETTIME, uapi::CLOCK_MONOTONIC, time.as_mut_ptr()) };
    let [seconds, nanoseconds] = time;
    seconds * 1_000_000 + nanoseconds / 1_000
}

/// `int clock_gettime(CLOCK_REALTIME, struct timespec *tp)`: seconds since 1970, and nanoseconds.
pub fn realtime() -> (u64, u32) {
    let mut time = [0u64; 2];
    // SAFETY: as for the monotonic clock: a struct timespec that is alive, and a clock that every kernel has.
    unsafe { syscall!(CLOCK_GETTIME, uapi::CLOCK_REALTIME, time.as_mut_ptr()) };
    (time[0], time[1] as u32)
}

/// `int nanosleep(const struct timespec *duration, NULL)`, until a signal comes.
pub fn sleep(microseconds: u64) {
    let time = [microseconds / 1_000_000, microseconds % 1_000_000 * 1_000];
    // SAFETY: the kernel's struct timespec is two 64-bit numbers on 64-bit machines; it is alive across the call.
    unsafe { syscall!(NANOSLEEP, time.as_ptr(), 0) };
}

/// Seconds since 1970.
pub fn realtime_seconds() -> u64 {
    realtime().0
}

/// `int ppoll(struct pollfd *fds, nfds_t nfds, const struct timespec *tmo_p, NULL)`, with little memory until it comes
/// back.
pub fn poll_with_little_memory(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize> {
    let timeout = timeout.map_or(ptr::null(), ptr::from_ref);
    let arguments = [fds.as_mut_ptr() as usize, fds.len(), timeout as usize, 0, size_of::<u64>()];
    // SAFETY: PollFd is a struct pollfd, of which there are as many as is said, and Timespec the kernel's; both are
    // alive across the call.
    check(unsafe { idle::wait(sc::nr::PPOLL, arguments) })
}
