//! The tests' raw system calls: all `unsafe` of this crate.

use nix::libc;
use nix::unistd::Pid;
use std::io;

/// `long ptrace(PTRACE_GET_SYSCALL_INFO, pid_t pid, size_t size, struct ptrace_syscall_info *info)`: number and
/// arguments of the system call that a stopped tracee is about to make; `None` elsewhere.
pub fn system_call(pid: Pid) -> Option<(u64, [u64; 6])> {
    let info = nix::sys::ptrace::syscall_info(pid).ok()?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: the kernel says in `op` which member of the union it has filled.
    let entry = unsafe { info.u.entry };
    Some((entry.nr, entry.args))
}

/// `int prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct sock_fprog *prog)`: from now on `socket(domain, _, protocol)`
/// fails with `errno` for this thread and what it starts, as on a kernel without that protocol.
///
/// # Errors
/// Where the kernel refuses the filter.
pub fn refuse_sockets(domain: i32, protocol: i32, errno: i32) -> io::Result<()> {
    // struct seccomp_data: the call's number, and its arguments of 8 bytes each from offset 16 on, low half first.
    const NUMBER: u32 = 0;
    const DOMAIN: u32 = 16;
    const PROTOCOL: u32 = 32;
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    // Goes on where it is equal, and otherwise to the last instruction.
    let equals = |value: i32, to_last| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, to_last, value as u32);
    let give = |action| step(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    let mut filter = [
        load(NUMBER),
        equals(libc::SYS_socket as i32, 5),
        load(DOMAIN),
        equals(domain, 3),
        load(PROTOCOL),
        equals(protocol, 1),
        give(libc::SECCOMP_RET_ERRNO | errno as u32),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is alive across the call, and binds this thread alone.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
