//! The init's raw system calls: what rustix does not offer, and all `unsafe` of this crate. Memory, fds and messages
//! with fds have a file each.
//!
//! Each function opens with the prototype of its man page. Nothing here decides anything.

mod attributes;
mod fds;
mod memory;
mod message;

use core::ffi::{CStr, c_char, c_int};
use core::marker::PhantomData;
use core::ops::RangeInclusive;
use kontena_init::idle;
use linux_raw_sys::general as uapi;
use linux_raw_sys::ptrace::{SECCOMP_SET_MODE_FILTER, sock_filter, sock_fprog};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::process::Pid;
use sc::syscall;

pub use attributes::*;
pub use fds::{PassedOn, become_stdio, drop_preserved, go_on_without_fds, inherited_fd, stdio};
pub use memory::{Block, PATH_MAX, concatenate, groups, read_whole, room, strings, terminate};
pub use message::{Received, receive, send_fd};

// memcpy and its kin, which the compiler calls, are the C library's; so is the entry, which calls `__libc_start_main`.
#[cfg_attr(target_env = "musl", link(name = "c", kind = "static", modifiers = "-bundle"))]
#[cfg_attr(not(target_env = "musl"), link(name = "c"))]
unsafe extern "C" {}

/// What rustup's core refers to where nothing leaves unused code out; it is never called, since a panic ends the
/// process.
// SAFETY: no other symbol of this name is linked in: only std defines one, and this program is no_std.
#[cfg(debug_assertions)]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Takes the place of the C library's own, which prepares what nothing here uses: memory of threads, for two system
/// calls, and what is called at exit.
// SAFETY: the linker takes this symbol, and so does not look for the archive's member that has the other. Of the C
// library only memcpy and its kin are called, which need no thread pointer.
#[unsafe(no_mangle)]
extern "C" fn __libc_start_main(_main: *const (), argc: c_int, argv: *const *const c_char) -> ! {
    // SAFETY: execve(2) puts `argc` strings, their NULL and the environment on the initial stack, one behind the other.
    let envp = unsafe { argv.add(argc as usize + 1) };
    exit(main(argc, argv, envp))
}

/// What the entry wants there to be.
// SAFETY: no other symbol of this name is linked in: the crate has no Rust `main` (`no_main`).
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: execve(2) puts the array, NULL-terminated, on the initial stack, where it stays.
    let arguments = unsafe { Strings::from_kernel(argv) };
    // SAFETY: behind the arguments' NULL execve(2) puts the environment, an array that is NULL-terminated, too.
    let environment = unsafe { Strings::from_kernel(envp) };
    crate::start(arguments, environment)
}

/// Strings for the life of the process, as execve(2) gives and takes them: a NULL-terminated array of pointers.
#[derive(Clone, Copy)]
pub struct Strings {
    next: *const *const c_char,
    strings: PhantomData<&'static CStr>,
}

impl Strings {
    /// # Safety
    /// `array` is NULL-terminated, and it and its strings are never changed or freed.
    const unsafe fn from_kernel(array: *const *const c_char) -> Self {
        Self { next: array, strings: PhantomData }
    }

    /// Those that are left, as an array for execve(2).
    fn as_ptr(self) -> *const *const c_char {
        self.next
    }
}

impl Iterator for Strings {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: `next` points into the array or at its NULL (see `from_kernel`), which is never passed.
        let string = unsafe { *self.next };
        if string.is_null() {
            return None;
        }
        // SAFETY: the element read was not the NULL, so there is one behind it.
        self.next = unsafe { self.next.add(1) };
        // SAFETY: a string of the array, NUL-terminated and unchanged for the life of the process.
        Some(unsafe { CStr::from_ptr(string) })
    }
}

/// `pid_t fork(void)`, by clone(2): `None` in the child. With CLONE_VFORK it comes back when the child has made its
/// exec, or has ended.
pub fn fork(flags: u32) -> Result<Option<Pid>> {
    // SAFETY: without CLONE_VM the child has its own copy of everything; the process has a single thread and no
    // libc state (no allocator, no stdio) that a fork could leave halfway.
    let pid = check(unsafe { syscall!(CLONE, uapi::SIGCHLD | flags, 0, 0, 0, 0) })?;
    Ok(Pid::from_raw(pid as i32))
}

/// `int execve(const char *pathname, char *const argv[], char *const envp[])`: returns only when it fails.
pub fn execve(path: &CStr, arguments: Strings, environment: Strings) -> Errno {
    // SAFETY: a NUL-terminated path and two NULL-terminated arrays, all alive across the call.
    let result = unsafe { syscall!(EXECVE, path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    check(result).err().unwrap_or(Errno::NOEXEC)
}

/// `int sigprocmask(SIG_SETMASK, const sigset_t *set, sigset_t *oldset)`: the mask that was; bit n-1 is signal n.
pub fn set_signal_mask(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both sets are the kernel's 8 bytes, alive across the call. It cannot fail with valid pointers.
    unsafe { syscall!(RT_SIGPROCMASK, uapi::SIG_SETMASK, &raw const mask, &raw mut old, size_of::<u64>()) };
    old
}

/// All signals; signal(7).
pub const SIGNALS: RangeInclusive<c_int> = 1..=64;

/// `int sigaction(int signum, SIG_DFL, NULL)` for each of some signals.
pub fn reset_signals(signals: RangeInclusive<c_int>) {
    // struct sigaction with SIG_DFL, no flags and an empty mask is all zeros, on every architecture.
    let default = [0u64; 4];
    for signal in signals {
        // SAFETY: the kernel reads a struct of at most 32 bytes that is alive across the call. SIG_DFL runs no code
        // here.
        unsafe { syscall!(RT_SIGACTION, signal, default.as_ptr(), 0, size_of::<u64>()) };
    }
}

/// `int sched_getscheduler(0)`, and where that is SCHED_FIFO, SCHED_RR or SCHED_DEADLINE, `int sched_setscheduler(0,
/// SCHED_OTHER, const struct sched_param *param)`; the same for the real-time class of ioprio_set(2).
pub fn leave_real_time() -> Result<()> {
    const WHO_PROCESS: usize = 1;
    const CLASS_RT: usize = 1;
    let priority = 0u32;
    // SAFETY: takes an integer and returns one.
    if let 1 | 2 | 6 = unsafe { syscall!(SCHED_GETSCHEDULER, 0) } {
        // SAFETY: struct sched_param is one int, alive across the call.
        check(unsafe { syscall!(SCHED_SETSCHEDULER, 0, uapi::SCHED_NORMAL, &raw const priority) })?;
    }
    // SAFETY: takes integers and returns one.
    if unsafe { syscall!(IOPRIO_GET, WHO_PROCESS, 0) } >> 13 == CLASS_RT {
        // SAFETY: takes integers. 0 is no class: that of the nice value.
        check(unsafe { syscall!(IOPRIO_SET, WHO_PROCESS, 0, 0) })?;
    }
    Ok(())
}

/// `int personality(unsigned long persona)`, without the bits that are not in `keep`.
pub fn limit_personality(keep: u32) {
    let keep = keep as usize;
    // SAFETY: takes an integer; this one only asks.
    if let Ok(persona) = check(unsafe { syscall!(PERSONALITY, u32::MAX) })
        && persona & !keep != 0
    {
        // SAFETY: takes an integer, and changes how later calls and the next exec behave, no memory.
        unsafe { syscall!(PERSONALITY, persona & keep) };
    }
}

/// `long keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)`: a new session keyring without a name, instead of the one
/// inherited.
pub fn join_session_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: u32 = 1;
    // SAFETY: the NULL is no name.
    check(unsafe { syscall!(KEYCTL, JOIN_SESSION_KEYRING, 0) }).map(drop)
}

/// A signal that has come.
pub struct Signal {
    pub number: u32,
    /// si_code; above 0 if the kernel sent it.
    pub code: c_int,
}

/// `int sigwaitinfo(const sigset_t *set, siginfo_t *info)`: takes the next pending signal of any kind, and holds little
/// memory until it comes.
pub fn wait_for_signal() -> Result<Signal> {
    let (all, mut info) = (u64::MAX, [0; SIGINFO]);
    let arguments = [&raw const all as usize, info.as_mut_ptr() as usize, 0, size_of::<u64>(), 0];
    // SAFETY: the set is the kernel's 8 bytes, and the siginfo its 128, both alive across the call; the NULL asks for
    // no time limit.
    let number = check(unsafe { idle::wait(sc::nr::RT_SIGTIMEDWAIT, arguments) })? as u32;
    Ok(Signal { number, code: info[2] })
}

/// The same for some microseconds; `None` where none has come until then.
pub fn wait_a_moment_for_signal(microseconds: u32) -> Option<Signal> {
    let (all, mut info, time) = (u64::MAX, [0; SIGINFO], [0u64, u64::from(microseconds) * 1000]);
    // SAFETY: the set is the kernel's 8 bytes, the siginfo its 128, and the timespec two 64-bit numbers, all alive
    // across the call.
    let signal =
        unsafe { syscall!(RT_SIGTIMEDWAIT, &raw const all, info.as_mut_ptr(), time.as_ptr(), size_of::<u64>()) };
    check(signal).ok().map(|number| Signal { number: number as u32, code: info[2] })
}

/// How many ints a siginfo_t has: the number, an errno and the code come first.
const SIGINFO: usize = 32;

/// `int prctl(PR_SET_PDEATHSIG, unsigned long sig)`, for any number; 0 is none.
pub fn set_parent_death_signal(signal: u32) -> Result<()> {
    const PR_SET_PDEATHSIG: usize = 1;
    // SAFETY: takes a number, and changes only this process.
    check(unsafe { syscall!(PRCTL, PR_SET_PDEATHSIG, signal) }).map(drop)
}

/// `int kill(pid_t pid, int sig)`: with a negative pid its process group.
pub fn kill(pid: i32, signal: c_int) -> Result<()> {
    // SAFETY: takes two integers, and sends a signal to a process of this container.
    check(unsafe { syscall!(KILL, pid, signal) }).map(drop)
}

/// `int tcsetpgrp(int fd, pid_t pgrp)` of stdin, by ioctl(2).
pub fn set_foreground_group(group: Pid) -> Result<()> {
    let group = group.as_raw_nonzero().get();
    // SAFETY: TIOCSPGRP reads one pid_t, which is alive across the call.
    check(unsafe { syscall!(IOCTL, 0, linux_raw_sys::ioctl::TIOCSPGRP, &raw const group) }).map(drop)
}

/// A request of netdevice(7) or of route(4), which the kernel reads `N` bytes for, and writes none.
pub struct LinkRequest<const N: usize>(u32);

/// `int ioctl(int sockfd, unsigned long request, …)`, with a struct ifreq or rtentry in bytes.
pub fn request_of_link<const N: usize>(socket: &OwnedFd, request: LinkRequest<N>, argument: &[u8; N]) -> Result<()> {
    // SAFETY: the request is one of LinkRequest's, of the length of this argument, which is alive across the call. What
    // may be a pointer in it is in the callers' hands: the kernel reads a string there, and fails where there is none.
    check(unsafe { syscall!(IOCTL, socket.as_raw_fd(), request.0, argument.as_ptr()) }).map(drop)
}

impl LinkRequest<IFREQ> {
    pub const ADDRESS: Self = Self(linux_raw_sys::ioctl::SIOCSIFADDR);
    pub const NETMASK: Self = Self(linux_raw_sys::ioctl::SIOCSIFNETMASK);
    pub const FLAGS: Self = Self(linux_raw_sys::ioctl::SIOCSIFFLAGS);
}

impl LinkRequest<RTENTRY> {
    pub const ADD_ROUTE: Self = Self(linux_raw_sys::ioctl::SIOCADDRT);
}

/// The sizes of struct ifreq, linux/if.h, and struct rtentry, linux/route.h, of a 64-bit kernel.
pub const IFREQ: usize = 40;
pub const RTENTRY: usize = 120;

/// `int mount_setattr(int dirfd, const char *path, unsigned int flags, struct mount_attr *attr, size_t size)` of the
/// mount that `fd` is the root of; with `recursive` of all mounts below it too.
pub fn mount_setattr(fd: impl AsFd, recursive: bool, set: u64, cleared: u64, propagation: u64) -> Result<()> {
    let attributes = uapi::mount_attr { attr_set: set, attr_clr: cleared, propagation, userns_fd: 0 };
    let flags = uapi::AT_EMPTY_PATH | if recursive { uapi::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path and a mount_attr of the size given, both alive across the call.
    check(unsafe {
        sc::syscall5(
            uapi::__NR_mount_setattr as usize,
            fd.as_fd().as_raw_fd() as usize,
            c"".as_ptr() as usize,
            flags as usize,
            &raw const attributes as usize,
            size_of::<uapi::mount_attr>(),
        )
    })
    .map(drop)
}

/// `int prlimit(0, int resource, const struct rlimit *new_limit, NULL)`.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: struct rlimit64 is two 64-bit numbers, alive across the call.
    check(unsafe { syscall!(PRLIMIT64, 0, resource, limit.as_ptr(), 0) }).map(drop)
}

/// The same, of the hard limit alone, and only if that is raised.
#[cfg(feature = "oci")]
pub fn raise_hard_limit(resource: u32, hard: u64) -> Result<()> {
    let mut now = [0u64; 2];
    // SAFETY: struct rlimit64 is two 64-bit numbers, which the kernel writes.
    check(unsafe { syscall!(PRLIMIT64, 0, resource, 0, now.as_mut_ptr()) })?;
    let [soft, old] = now;
    if hard > old { set_rlimit(resource, soft, hard) } else { Ok(()) }
}

/// `int seccomp(SECCOMP_SET_MODE_FILTER, unsigned int flags, struct sock_fprog *args)`, with a filter that is as many
/// instructions as it has bytes for.
pub fn install_filter(filter: &[u8], flags: u32) -> Result<()> {
    seccomp(filter, flags).map(drop)
}

fn seccomp(filter: &[u8], flags: u32) -> Result<usize> {
    let length = (filter.len() / size_of::<sock_filter>()) as u16;
    let program = sock_fprog { len: length, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel reads the program and its instructions, which are alive across the call, and writes neither.
    // It copies them as bytes, from wherever they are.
    check(unsafe { syscall!(SECCOMP, SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
}

/// The same with SECCOMP_FILTER_FLAG_NEW_LISTENER among the flags; returns the listener, which is close-on-exec.
#[cfg(feature = "oci")]
pub fn install_filter_with_listener(filter: &[u8], flags: u32) -> Result<OwnedFd> {
    let listener = seccomp(filter, flags)? as c_int;
    // SAFETY: the kernel has just opened it for this process, and nothing else owns it.
    Ok(unsafe { rustix::fd::FromRawFd::from_raw_fd(listener) })
}

/// Instructions as bytes.
pub fn bytes(filter: &[sock_filter]) -> &[u8] {
    // SAFETY: struct sock_filter is eight bytes without padding.
    unsafe { core::slice::from_raw_parts(filter.as_ptr().cast(), size_of_val(filter)) }
}

/// `char *getcwd(char *buf, size_t size)`, as the system call: with its NUL.
pub fn working_directory(buffer: &mut [u8]) -> Result<&CStr> {
    // SAFETY: the kernel writes at most the length given to a buffer that is alive across the call.
    let length = check(unsafe { syscall!(GETCWD, buffer.as_mut_ptr(), buffer.len()) })?;
    CStr::from_bytes_with_nul(buffer.get(..length).unwrap_or_default()).map_err(|_| Errno::INVAL)
}

/// Whether getcwd(2) finds the working directory below the root; the kernel says `(unreachable)` where it is not.
pub fn cwd_is_inside_root() -> bool {
    let mut buffer = [0; PATH_MAX];
    working_directory(&mut buffer).is_ok_and(|path| path.to_bytes().starts_with(b"/"))
}

/// `void exit_group(int status)`; by SIGILL if a filter of system calls refuses even that.
pub fn exit(status: c_int) -> ! {
    // SAFETY: ends the process; nothing has to be undone.
    unsafe { syscall!(EXIT_GROUP, status) };
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an instruction that is none.
    unsafe {
        core::arch::asm!("ud2", options(noreturn))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("udf #0", options(noreturn))
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("unimp", options(noreturn))
    }
}

/// A raw system call's result: the kernel answers `-errno` in the last page of the address space.
fn check(result: usize) -> Result<usize> {
    match result as isize {
        error @ -4095..=-1 => Err(Errno::from_raw_os_error(-error as i32)),
        _ => Ok(result),
    }
}
