//! The init's raw system calls and memory: what rustix does not offer, and all `unsafe` of this crate.
//!
//! Each function opens with the prototype of its man page. Nothing here decides anything.

use core::ffi::{CStr, c_char, c_int};
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
use kontena_init::idle;
use linux_raw_sys::general as uapi;
use linux_raw_sys::ptrace::{SECCOMP_SET_MODE_FILTER, sock_filter, sock_fprog};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{Gid, Pid};
use sc::syscall;

// memcpy and its kin, which the compiler calls, are the C library's; so is the entry that calls `main`.
#[cfg_attr(target_env = "musl", link(name = "c", kind = "static", modifiers = "-bundle"))]
#[cfg_attr(not(target_env = "musl"), link(name = "c"))]
unsafe extern "C" {}

/// What rustup's core refers to where nothing leaves unused code out; it is never called, since nothing unwinds.
// SAFETY: no other symbol of this name is linked in: std has it, and this program has no std.
#[cfg(debug_assertions)]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Where the C start-up code hands over.
// SAFETY: no other symbol of this name is linked in: the crate has no Rust `main` (`no_main`).
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: execve(2) puts the array, NULL-terminated, on the initial stack, where it stays.
    let arguments = unsafe { Strings::from_kernel(argv) };
    // SAFETY: the same.
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

/// Makes an array for execve(2) of as many `strings` as there are.
pub fn strings(strings: impl Iterator<Item = &'static CStr> + Clone) -> Result<Strings> {
    let array: *mut *const c_char = allocate((strings.clone().count() + 1) * size_of::<*const c_char>())?.cast();
    for (index, string) in strings.enumerate() {
        // SAFETY: there is room for count + 1 pointers, and index is below count.
        let place = unsafe { array.add(index) };
        // SAFETY: the memory is aligned for it, and nobody else's.
        unsafe { place.write(string.as_ptr()) };
    }
    // SAFETY: the element behind the last one written is still zero; the memory is never unmapped.
    Ok(unsafe { Strings::from_kernel(array) })
}

/// The parts, one behind the other, as a string for the life of the process.
pub fn concatenate(parts: [&[u8]; 2]) -> Result<&'static CStr> {
    let length = parts[0].len() + parts[1].len() + 1;
    let start = allocate(length)?;
    // SAFETY: `length` zeroed bytes that are nobody else's and never unmapped.
    let bytes = unsafe { core::slice::from_raw_parts_mut(start, length) };
    bytes[..parts[0].len()].copy_from_slice(parts[0]);
    bytes[parts[0].len()..length - 1].copy_from_slice(parts[1]);
    CStr::from_bytes_until_nul(bytes).map_err(|_| Errno::INVAL)
}

/// What most processes need: as much as there is room for in the page of the program's other variables. A mapping would take
/// page tables of its own, too.
const POOL: usize = 3 << 10;

/// Zeroed memory of `length` bytes for the life of the process, aligned to 16: of the pool, or of a mapping that is made where
/// too little is left; mmap(2).
fn allocate(length: usize) -> Result<*mut u8> {
    const MAPPING: usize = 64 << 10;
    static mut BLOCK: [u128; POOL / 16] = [0; POOL / 16];
    static NEXT: AtomicPtr<u8> = AtomicPtr::new((&raw mut BLOCK).cast());
    static LEFT: AtomicUsize = AtomicUsize::new(POOL);
    let length = length.next_multiple_of(16);
    let (mut next, mut left) = (NEXT.load(Relaxed), LEFT.load(Relaxed));
    if length > left {
        left = length.max(MAPPING);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice aliases nothing.
        next = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), left, protection, MapFlags::PRIVATE) }?.cast();
    }
    NEXT.store(next.wrapping_add(length), Relaxed);
    LEFT.store(left - length, Relaxed);
    Ok(next)
}

/// Room for so many groups, for the life of the process.
pub fn groups(count: usize) -> Result<&'static mut [Gid]> {
    let start = allocate(count * size_of::<Gid>())?;
    // SAFETY: zeroed, aligned, of that size, nobody else's and never unmapped; a Gid is a number, and zero is one.
    Ok(unsafe { core::slice::from_raw_parts_mut(start.cast(), count) })
}

/// Gives the first block that was allocated back, with all that this process has allocated since, where it is more than the pool
/// has: `int madvise(void *addr, size_t length, MADV_DONTNEED)`.
pub fn give_back(block: &'static [u8]) {
    if block.len() >= POOL {
        // SAFETY: the start of a mapping, of which nothing will be read any more.
        unsafe { syscall!(MADVISE, block.as_ptr(), block.len(), uapi::MADV_DONTNEED) };
    }
}

/// The whole of a file, in memory for the life of the process; EFBIG beyond `limit` bytes.
pub fn read_whole(fd: impl AsFd, limit: usize) -> Result<&'static [u8]> {
    let size = rustix::fs::fstat(&fd)?.st_size as usize;
    if size > limit {
        return Err(Errno::FBIG);
    }
    let capacity = size + 1;
    let start = allocate(capacity)?;
    // SAFETY: `capacity` zeroed bytes that are nobody else's and never unmapped.
    let buffer = unsafe { core::slice::from_raw_parts_mut(start, capacity) };
    let mut length = 0;
    while length < size {
        match rustix::io::pread(&fd, &mut buffer[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(&buffer[..length])
}

/// Digits and nothing else.
pub fn number(text: &[u8]) -> Option<u32> {
    let add = |number: u32, c: &u8| number.checked_mul(10)?.checked_add(char::from(*c).to_digit(10)?);
    text.iter().try_fold(0, add).filter(|_| !text.is_empty())
}

/// The fd that an argument names, when it is open; for the two that the launcher hands over. The payload does not get
/// it: it is close-on-exec from here on.
pub fn inherited_fd(argument: &CStr) -> Option<OwnedFd> {
    let number: RawFd = number(argument.to_bytes())?.try_into().ok()?;
    // SAFETY: fcntl(F_SETFD) with a number that may be no fd at all just answers EBADF.
    let result = unsafe { syscall!(FCNTL, number, uapi::F_SETFD, uapi::FD_CLOEXEC) };
    if number <= 2 || check(result).is_err() {
        return None;
    }
    // SAFETY: open, as was just seen, and this early in the process nothing else owns an fd beyond stdio.
    Some(unsafe { rustix::fd::FromRawFd::from_raw_fd(number) })
}

/// `int close_range(unsigned int first, unsigned int last, unsigned int flags)`: closes all but stdio and `keep`; and makes
/// the inherited fd whose number is `given`, where there is one, the number `wanted`, which is below `keep`.
pub fn close_all_but(keep: &OwnedFd, given: &CStr, wanted: u32) -> Result<()> {
    let keep = keep.as_raw_fd() as usize;
    let mut first = 3;
    if let Some(given) = inherited_fd(given) {
        let wanted = wanted as usize;
        if wanted < 3 || wanted >= keep {
            return Err(Errno::BADF);
        }
        if given.as_raw_fd() as usize == wanted {
            // SAFETY: only clears the close-on-exec flag; nobody closes the fd from here on.
            check(unsafe { syscall!(FCNTL, given.into_raw_fd(), uapi::F_SETFD, 0) })?;
        } else {
            // SAFETY: in the process that becomes the payload. Whoever owned the number before needs it no more: see below.
            check(unsafe { syscall!(DUP3, given.as_raw_fd(), wanted, 0) })?;
        }
        close_range(first, wanted - 1)?;
        first = wanted + 1;
    }
    close_range(first, keep - 1)?;
    close_range(keep + 1, u32::MAX as usize)
}

fn close_range(first: usize, last: usize) -> Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: in the process that becomes the payload. Owners of these fds that drop them on the way to a failed start's
    // exit just get EBADF: nothing is opened and kept from here on.
    check(unsafe { sc::syscall3(uapi::__NR_close_range as usize, first, last, 0) }).map(drop)
}

/// `int dup2(int oldfd, int newfd)` for standard input, output and error.
pub fn become_stdio(fd: &OwnedFd) -> Result<()> {
    for stdio in 0..3 {
        // SAFETY: stdio is nobody's in particular; what it was is closed.
        check(unsafe { syscall!(DUP3, fd.as_raw_fd(), stdio, 0) })?;
    }
    Ok(())
}

/// `pid_t fork(void)`, by clone(2): `None` in the child.
pub fn fork() -> Result<Option<Pid>> {
    // SAFETY: without CLONE_VM the child has its own copy of everything; the process has a single thread and no
    // libc state (no allocator, no stdio) that a fork could leave halfway.
    let pid = check(unsafe { syscall!(CLONE, uapi::SIGCHLD, 0, 0, 0, 0) })?;
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

/// `int sigaction(SIGPIPE, SIG_DFL)`.
pub fn restore_sigpipe() {
    // struct sigaction with SIG_DFL, no flags and an empty mask is all zeros, on every architecture.
    let default = [0u64; 4];
    // SAFETY: the struct is at most 32 bytes and alive across the call. It cannot fail with a valid pointer.
    unsafe { syscall!(RT_SIGACTION, uapi::SIGPIPE, default.as_ptr(), 0, size_of::<u64>()) };
}

/// `int sigwaitinfo(const sigset_t *set, siginfo_t *info)`: takes the next pending signal of any kind, and holds little memory
/// until it comes.
pub fn wait_for_signal() -> Result<c_int> {
    let all = u64::MAX;
    let arguments = [&raw const all as usize, 0, 0, size_of::<u64>(), 0];
    // SAFETY: the set is the kernel's 8 bytes; the NULLs ask for no siginfo and no time limit.
    check(unsafe { idle::wait(sc::nr::RT_SIGTIMEDWAIT, arguments) }).map(|signal| signal as c_int)
}

/// The same for some microseconds; `None` where none has come until then.
pub fn wait_a_moment_for_signal(microseconds: u32) -> Option<c_int> {
    let (all, time) = (u64::MAX, [0u64, u64::from(microseconds) * 1000]);
    // SAFETY: the set is the kernel's 8 bytes, and its struct timespec two 64-bit numbers; the NULL asks for no siginfo.
    let signal = unsafe { syscall!(RT_SIGTIMEDWAIT, &raw const all, 0, time.as_ptr(), size_of::<u64>()) };
    check(signal).ok().map(|signal| signal as c_int)
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

/// `int mount_setattr(int dirfd, const char *path, unsigned int flags, struct mount_attr *attr, size_t size)` of the
/// mount that `fd` is the root of; with `recursive` of all mounts below it too.
pub fn mount_setattr(fd: impl AsFd, recursive: bool, set: u64, propagation: u64) -> Result<()> {
    let attributes = uapi::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
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

/// `int seccomp(SECCOMP_SET_MODE_FILTER, 0, struct sock_fprog *args)`.
pub fn install_filter(filter: &[sock_filter]) -> Result<()> {
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program and its instructions, which are alive across the call, and writes neither.
    check(unsafe { syscall!(SECCOMP, SECCOMP_SET_MODE_FILTER, 0, &raw const program) }).map(drop)
}

/// Standard input, output and error.
pub fn stdio() -> [BorrowedFd<'static>; 3] {
    // SAFETY: nothing here closes stdio; where the caller did, a call on it just answers EBADF.
    [0, 1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// `char *getcwd(char *buf, size_t size)`, as the system call: with its NUL.
pub fn working_directory(buffer: &mut [u8]) -> Result<&CStr> {
    // SAFETY: the kernel writes at most the length given to a buffer that is alive across the call.
    let length = check(unsafe { syscall!(GETCWD, buffer.as_mut_ptr(), buffer.len()) })?;
    CStr::from_bytes_with_nul(buffer.get(..length).unwrap_or_default()).map_err(|_| Errno::INVAL)
}

/// Whether getcwd(2) finds the working directory below the root; the kernel says `(unreachable)` where it is not.
pub fn cwd_is_inside_root() -> bool {
    let mut buffer = [0; uapi::PATH_MAX as usize];
    working_directory(&mut buffer).is_ok_and(|path| path.to_bytes().starts_with(b"/"))
}

/// `void exit_group(int status)`.
pub fn exit(status: c_int) -> ! {
    loop {
        // SAFETY: ends the process; nothing has to be undone.
        unsafe { syscall!(EXIT_GROUP, status) };
    }
}

/// A raw system call's result: the kernel answers `-errno` in the last page of the address space.
fn check(result: usize) -> Result<usize> {
    match result as isize {
        error @ -4095..=-1 => Err(Errno::from_raw_os_error(-error as i32)),
        _ => Ok(result),
    }
}
