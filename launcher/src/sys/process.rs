//! Processes: clone3 with an exec, forks, pidfds, and the end.

use super::check;
use super::signals::{SIG_DFL, set_signal};
use linux_raw_sys::general as uapi;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getrlimit, setrlimit};
use rustix::thread::CapabilitySet;
use sc::syscall;
use std::arch::asm;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the child of [`clone3_exec`] becomes, made before so that the child has nothing left to do.
pub struct Exec<'a> {
    /// The program.
    pub program: BorrowedFd<'a>,
    /// Its arguments.
    pub arguments: &'a [&'a CStr],
    /// Where the child writes `failure`, its last four bytes replaced by the errno, if the exec fails.
    pub status: BorrowedFd<'a>,
    /// A `plan::Report`.
    pub failure: [u8; 8],
    /// Where the child first waits for a byte from `status`, and then becomes root of its user namespace: the other end
    /// of `status`, which the child must not hold open, or it would never see that the launcher is gone.
    pub waits: Option<BorrowedFd<'a>>,
}

/// CLONE_NEW*, and CLONE_PARENT: flags that do not let the child share anything.
const NAMESPACES: u64 = (uapi::CLONE_PARENT
    | uapi::CLONE_NEWNS
    | uapi::CLONE_NEWCGROUP
    | uapi::CLONE_NEWUTS
    | uapi::CLONE_NEWIPC
    | uapi::CLONE_NEWUSER
    | uapi::CLONE_NEWPID
    | uapi::CLONE_NEWNET) as u64;

/// `long clone3(struct clone_args *cl_args, size_t size)`, and in the child at once
/// `int execveat(int dirfd, "", char *const argv[], char *const envp[], AT_EMPTY_PATH)`.
///
/// The child starts in the cgroup `leaf`, where there is one, with all signal handlers at their defaults and an empty
/// environment.
pub fn clone3_exec(flags: u64, leaf: Option<BorrowedFd<'_>>, exec: &Exec<'_>) -> Result<(Pid, OwnedFd)> {
    let mut arguments: Vec<*const c_char> = exec.arguments.iter().map(|argument| argument.as_ptr()).collect();
    arguments.push(ptr::null());
    let environment = [ptr::null::<c_char>()];
    let files = original_limit_of_files();
    let mut pidfd: RawFd = -1;
    // A container's init shares this process's memory until its exec, as after vfork(2): there is nothing to copy. What
    // joins a container may be frozen with it before the exec, and must not hold up this process.
    // And one that is this process's sibling may enter a time namespace, which a process does that shares no memory.
    let is_sibling = cfg!(feature = "oci") && flags & u64::from(uapi::CLONE_PARENT) != 0;
    let is_first = flags & u64::from(uapi::CLONE_NEWPID) != 0 && exec.waits.is_none() && !is_sibling;
    let shared = if is_first { uapi::CLONE_VM | uapi::CLONE_VFORK } else { 0 };
    let args = uapi::clone_args {
        flags: flags & NAMESPACES
            | u64::from(uapi::CLONE_PIDFD | shared)
            | uapi::CLONE_CLEAR_SIGHAND
            | leaf.map_or(0, |_| uapi::CLONE_INTO_CGROUP),
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling has this process's own.
        exit_signal: if is_sibling { 0 } else { uapi::SIGCHLD.into() },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: leaf.map_or(0, |leaf| leaf.as_raw_fd() as u64),
    };
    let child = Child { exec, arguments: &arguments, environment: &environment, files };
    // SAFETY: args is a clone_args of the size given, without a stack of its own, and asks for CLONE_VM only together
    // with CLONE_VFORK; `execute` is of the type that the child is, and never returns.
    let pid = unsafe { clone3_call(&args, execute, &child) };
    let pid = check(pid)?;
    // SAFETY: CLONE_PIDFD stored a new fd, close-on-exec, that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?, pidfd))
}

/// What the child of [`clone3_exec`] needs.
struct Child<'a> {
    exec: &'a Exec<'a>,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    /// Its limits of open files, where they are not those of this process.
    files: Option<[u64; 2]>,
}

/// The child of [`clone3_exec`]. Its memory may be the parent's: it changes nothing but its own locals.
extern "C" fn execute(child: &Child<'_>) -> ! {
    let exec = child.exec;
    if let Some(files) = &child.files {
        // SAFETY: struct rlimit64 is two 64-bit numbers, alive across the call. It lowers what this process may do
        // itself.
        unsafe { syscall!(PRLIMIT64, 0, uapi::RLIMIT_NOFILE, files.as_ptr(), 0) };
    }
    let mut result = exec.waits.map_or(0, |launchers| become_namespace_root(launchers, exec.status));
    if result == 0 {
        let (program, flags) = (exec.program.as_raw_fd(), uapi::AT_EMPTY_PATH);
        let (arguments, environment) = (child.arguments.as_ptr(), child.environment.as_ptr());
        // SAFETY: an empty path and two NULL-terminated arrays of strings, all alive across the call.
        result = unsafe { syscall!(EXECVEAT, program, c"".as_ptr(), arguments, environment, flags) };
    }
    let mut failure = exec.failure;
    failure[4..].copy_from_slice(&(result.wrapping_neg() as i32).to_le_bytes());
    // SAFETY: writes a live buffer of the length given; nobody reads the result.
    unsafe { syscall!(WRITE, exec.status.as_raw_fd(), failure.as_ptr(), failure.len()) };
    exit(125)
}

/// `long clone3(struct clone_args *cl_args, size_t size)`, whose child calls `live` and never returns from it.
///
/// # Safety
///
/// The child goes on below this function's stack, so it must have a copy of the memory, or the parent must wait for its
/// exec: CLONE_VM with CLONE_VFORK. With either the parent finds its own stack as it was.
unsafe fn clone3_call<T>(args: &uapi::clone_args, live: extern "C" fn(&T) -> !, with: &T) -> usize {
    let size = size_of::<uapi::clone_args>();
    let mut result = uapi::__NR_clone3 as usize;
    // SAFETY: the kernel reads args, and leaves all registers but those named here as they were, in the child too. The
    // block may use the stack, so nothing of this function's is below the stack pointer, where the child's calls write.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall", "test rax, rax", "jnz 2f", "mov rdi, {with}", "and rsp, -16", "call {live}", "ud2", "2:",
            with = in(reg) with, live = in(reg) live, inlateout("rax") result, in("rdi") args, in("rsi") size,
            out("rcx") _, out("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0", "cbnz x0, 2f", "mov x0, {with}", "blr {live}", "brk 1", "2:",
            with = in(reg) with, live = in(reg) live, in("x8") result, inlateout("x0") args => result, in("x1") size,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        asm!(
            "ecall", "bnez a0, 2f", "mv a0, {with}", "jalr {live}", "ebreak", "2:",
            with = in(reg) with, live = in(reg) live, in("a7") result, inlateout("a0") args => result, in("a1") size,
        );
    }
    result
}

/// The soft limit of open files that the caller gave this process, if it has raised that; else 0.
static FILES: AtomicU64 = AtomicU64::new(0);

/// `int setrlimit(RLIMIT_NOFILE, …)`: up to the hard limit, for this process; [`clone3_exec`] gives the caller's.
pub fn raise_limit_of_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Some(current) = limit.current
        && limit.current != limit.maximum
        && setrlimit(Resource::Nofile, raised).is_ok()
    {
        FILES.store(current, Ordering::Relaxed);
    }
}

/// The limits that the caller has, soft and hard, where this process has others.
fn original_limit_of_files() -> Option<[u64; 2]> {
    let current = Some(FILES.load(Ordering::Relaxed)).filter(|files| *files > 0)?;
    Some([current, getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)])
}

/// In the child of [`clone3_exec`], whose ids mean nothing in its user namespace before the maps are written, and which
/// would lose all capabilities with the exec: the raw result of the call that failed, or 0.
fn become_namespace_root(launchers: BorrowedFd<'_>, status: BorrowedFd<'_>) -> usize {
    // SAFETY: the child's own copy, which nothing in it uses.
    unsafe { syscall!(CLOSE, launchers.as_raw_fd()) };
    let mut byte = 0u8;
    // SAFETY: reads one byte into a live local.
    let length = unsafe { syscall!(READ, status.as_raw_fd(), &raw mut byte, 1) };
    if length != 1 {
        // The launcher has given up, and knows why.
        return (Errno::PIPE.raw_os_error() as usize).wrapping_neg();
    }
    // SAFETY: no group is passed. It is not permitted where the user's own groups have to stay, and they stay.
    unsafe { syscall!(SETGROUPS, 0, 0) };
    // SAFETY: takes three integers, and changes only this child.
    match unsafe { syscall!(SETRESGID, 0, 0, 0) } {
        // SAFETY: takes three integers, and changes only this child.
        0 => unsafe { syscall!(SETRESUID, 0, 0, 0) },
        failed => failed,
    }
}

/// Becomes a program with an empty environment; returns if that fails.
pub fn execute_path(program: &CStr, arguments: &[CString]) {
    let mut pointers: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    let environment = [ptr::null::<c_char>()];
    // SAFETY: a path and two NULL-terminated arrays of strings, all alive across the call.
    unsafe { syscall!(EXECVE, program.as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
}

/// `int execve(const char *pathname, char *const argv[], char *const envp[])` with all signals at their defaults, none
/// blocked, and the caller's limit of open files. Returns why it failed.
pub fn become_program(program: &CStr, arguments: &[&CStr], environment: &[&CStr]) -> Errno {
    let array = |strings: &[&CStr]| {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]);
        pointers.collect::<Vec<*const c_char>>()
    };
    let (arguments, environment, none) = (array(arguments), array(environment), 0u64);
    if let Some(files) = original_limit_of_files() {
        // SAFETY: struct rlimit64 is two 64-bit numbers, alive across the call.
        unsafe { syscall!(PRLIMIT64, 0, uapi::RLIMIT_NOFILE, files.as_ptr(), 0) };
    }
    (1..=64).for_each(|signal| set_signal(signal, SIG_DFL));
    // SAFETY: the set is the kernel's 8 bytes, alive across the call.
    unsafe { syscall!(RT_SIGPROCMASK, uapi::SIG_SETMASK, &raw const none, 0, size_of::<u64>()) };
    // SAFETY: a path and two NULL-terminated arrays of strings, all alive across the call.
    let result = unsafe { syscall!(EXECVE, program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    check(result).err().unwrap_or(Errno::NOEXEC)
}

/// Runs a program with an empty environment, and waits for its exit status; 128+n where signal n ended it.
pub fn run(program: &CStr, arguments: &[CString]) -> Result<u32> {
    let Some(pid) = fork(0)? else {
        execute_path(program, arguments);
        exit(127);
    };
    let (_, status) =
        rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))?.ok_or(Errno::CHILD)?;
    let status = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    Ok(status.unwrap_or(127) as u32)
}

/// `int pidfd_send_signal(int pidfd, int sig, NULL, 0)`, for any number.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: u32) -> Result<()> {
    // SAFETY: the NULL asks for the siginfo that kill(2) would make.
    check(unsafe { syscall!(PIDFD_SEND_SIGNAL, pidfd.as_fd().as_raw_fd(), signal, 0, 0) }).map(drop)
}

/// `pid_t fork(void)` of a process that leads a session, has no fd but those below `first` and `keep`, and is over when
/// `live` is; `int close_range(unsigned int first, unsigned int last, unsigned int flags)`.
pub fn fork_apart<const N: usize, T: Copy + 'static>(
    mut first: usize,
    keep: [OwnedFd; N],
    live: fn([OwnedFd; N], T) -> u8,
    with: T,
) -> Result<Pid> {
    if let Some(child) = fork(0)? {
        return Ok(child);
    }
    let mut kept = keep.each_ref().map(|fd| fd.as_raw_fd() as usize);
    kept.sort_unstable();
    for number in kept.into_iter().chain([u32::MAX as usize + 1]) {
        if first < number {
            // SAFETY: the owners of what is closed are in functions that this process never returns to, and `live` has
            // no way to them: what can be copied owns no fd, and what lives as long as the process borrows none that is
            // closed.
            unsafe { sc::syscall3(uapi::__NR_close_range as usize, first, number - 1, 0) };
        }
        first = first.max(number + 1);
    }
    // A child that was just forked leads no process group, so this does not fail.
    let _ = rustix::process::setsid();
    exit(live(keep, with))
}

/// `int pidfd_open(pid_t pid, 0)`; `None` where the process has ended.
pub fn pidfd(pid: u32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid as i32)?, rustix::process::PidfdFlags::empty()).ok()
}

/// `void exit_group(int status)`: nothing here is buffered, and nothing left to be undone.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: ends the process; no destructor or exit function of it is relied on.
        unsafe { syscall!(EXIT_GROUP, status) };
    }
}

/// `pid_t fork(void)`, by clone(2), with CLONE_NEW* for new namespaces: `None` in the child.
pub fn fork(namespaces: u32) -> Result<Option<Pid>> {
    // SAFETY: without CLONE_VM the child has its own copy of everything, and there is no other thread that could hold a
    // lock of it.
    let pid = check(unsafe { syscall!(CLONE, uapi::SIGCHLD | namespaces, 0, 0, 0, 0) })?;
    Ok(Pid::from_raw(pid as i32))
}

/// Whether this process is root of the host, or of a container that may do the same.
pub fn is_privileged() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Whether a filter confines this process, so that an errno may be the filter's and not the kernel's; PR_GET_SECCOMP.
pub fn is_filtered() -> bool {
    rustix::thread::secure_computing_mode() == Ok(rustix::thread::SecureComputingMode::Filter)
}
