//! System calls for attributes of a process: scheduling, memory policy, personality.

use super::check;
use rustix::io::Result;
use rustix::process::getpid;
use sc::syscall;

/// `pid_t getsid(0)`: whether this process leads its session. It is 0 for a session whose leader is outside of the pid
/// namespace, as it is in `kontena exec`, and no [`rustix::process::Pid`] is 0.
pub fn leads_session() -> bool {
    // SAFETY: takes an integer.
    let session = check(unsafe { syscall!(GETSID, 0) });
    session == Ok(getpid().as_raw_pid() as usize)
}

/// `int sched_setattr(0, struct sched_attr *attr, 0)`, with the struct in bytes, which has its length in it.
pub fn set_scheduler(attributes: &[u8; 48]) -> Result<()> {
    // SAFETY: the kernel reads as many bytes as the struct says, which are at most these, alive across the call.
    check(unsafe { syscall!(SCHED_SETATTR, 0, attributes.as_ptr(), 0) }).map(drop)
}

/// `int ioprio_set(IOPRIO_WHO_PROCESS, 0, int ioprio)`.
pub fn set_io_priority(priority: u32) -> Result<()> {
    const WHO_PROCESS: usize = 1;
    // SAFETY: takes integers.
    check(unsafe { syscall!(IOPRIO_SET, WHO_PROCESS, 0, priority) }).map(drop)
}

/// `int personality(unsigned long persona)`; u32::MAX changes nothing.
pub fn set_personality(personality: u32) -> Result<()> {
    // SAFETY: takes an integer, and changes how later calls and the next exec behave, no memory.
    check(unsafe { syscall!(PERSONALITY, personality) }).map(drop)
}

/// `long set_mempolicy(int mode, const unsigned long *nodemask, unsigned long maxnode)`, with a mask of whole bytes.
pub fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result<()> {
    let mut mask = [0u8; 128];
    let length = nodes.len().min(mask.len());
    mask[..length].copy_from_slice(&nodes[..length]);
    // The kernel uses one bit less than maxnode.
    let (nodes, bits) = if length == 0 { (core::ptr::null(), 0) } else { (mask.as_ptr(), mask.len() * 8 + 1) };
    // SAFETY: the kernel reads a mask of the bits given, less one, which is alive across the call; or no mask.
    check(unsafe { syscall!(SET_MEMPOLICY, mode, nodes, bits) }).map(drop)
}

/// `int getgroups(int size, gid_t list[])`: how many there are, in the room of `list`.
pub fn groups_of_process(list: &mut [u32]) -> Result<usize> {
    // SAFETY: the kernel writes at most so many numbers of 32 bits as it is told there is room for.
    check(unsafe { syscall!(GETGROUPS, list.len(), list.as_mut_ptr()) })
}

/// `int capget(cap_user_header_t hdrp, cap_user_data_t datap)`: the effective, permitted and inheritable set, with all
/// bits if nothing is written there.
pub fn capability_sets() -> Result<[u64; 3]> {
    const VERSION_3: u32 = 0x2008_0522;
    let (header, mut data) = ([VERSION_3, 0], [u32::MAX; 6]);
    // SAFETY: struct __user_cap_header_struct is two numbers, of which the kernel reads both, and the data twice three,
    // all alive across the call.
    check(unsafe { syscall!(CAPGET, header.as_ptr(), data.as_mut_ptr()) })?;
    let [effective, permitted, inheritable, more @ ..] = data.map(u64::from);
    Ok([effective | more[0] << 32, permitted | more[1] << 32, inheritable | more[2] << 32])
}
