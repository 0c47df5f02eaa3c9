//! The launcher's raw system calls: what rustix does not offer, and all `unsafe` of this crate.
//!
//! Each function opens with the prototype of its man page. Nothing here decides anything.

use kontena_init::idle;
use linux_raw_sys::loop_device::{LO_FLAGS_AUTOCLEAR, LO_FLAGS_READ_ONLY, loop_config};
use linux_raw_sys::{general as uapi, netlink};
use rustix::event::{PollFd, Timespec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, WaitOptions};
use sc::syscall;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Where the C start-up code hands over: what Rust's own does here takes 5 kB. The unit tests have that.
// SAFETY: no other symbol of this name is linked in: the crate has no Rust `main` (`no_main`).
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, expect(dead_code))]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // What is opened later must not take the place of one that the caller has closed.
    while (0..3).any(|number| look_at_fd(number).is_err()) {
        // SAFETY: a NUL-terminated path. The lowest number that is free is one of the three.
        if check(unsafe { syscall!(OPENAT, uapi::AT_FDCWD, c"/dev/null".as_ptr(), uapi::O_RDWR) }).is_err() {
            exit(125);
        }
    }
    // Who cannot be written to is an error of write(2).
    set_sigpipe(1);
    let argument = |index| {
        // SAFETY: execve(2) puts an array of `argc` pointers on the initial stack, where it stays.
        let place = unsafe { argv.add(index) };
        // SAFETY: the same.
        let argument = unsafe { *place };
        // SAFETY: a NUL-terminated string, which stays there, too.
        OsStr::from_bytes(unsafe { CStr::from_ptr(argument) }.to_bytes()).to_owned()
    };
    crate::start(&(0..argc as usize).map(argument).collect::<Vec<_>>())
}

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
    /// Where the child first waits for a byte from `status`, and then becomes root of its user namespace: the other end of
    /// `status`, which the child must not hold open, or it would never see that the launcher is gone.
    pub waits: Option<BorrowedFd<'a>>,
}

/// `long clone3(struct clone_args *cl_args, size_t size)`, and in the child at once
/// `int execveat(int dirfd, "", char *const argv[], char *const envp[], AT_EMPTY_PATH)`.
///
/// The child starts in the cgroup `leaf`, where there is one, with all signal handlers at their defaults and an empty environment.
pub fn clone3_exec(flags: u64, leaf: Option<BorrowedFd<'_>>, exec: &Exec<'_>) -> Result<(Pid, OwnedFd)> {
    let mut arguments: Vec<*const c_char> = exec.arguments.iter().map(|argument| argument.as_ptr()).collect();
    arguments.push(ptr::null());
    let environment = [ptr::null::<c_char>()];
    let mut failure = exec.failure;
    let mut pidfd: RawFd = -1;
    let args = uapi::clone_args {
        flags: flags
            | u64::from(uapi::CLONE_PIDFD)
            | uapi::CLONE_CLEAR_SIGHAND
            | leaf.map_or(0, |_| uapi::CLONE_INTO_CGROUP),
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(uapi::SIGCHLD),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: leaf.map_or(0, |leaf| leaf.as_raw_fd() as u64),
    };
    // SAFETY: args outlives the call; CLONE_VM is not set, so the child has its own copy of everything, and it
    // touches only this function's locals before exec or exit.
    let pid = unsafe { syscall!(CLONE3, &raw const args, size_of::<uapi::clone_args>()) };
    if pid == 0 {
        let (program, flags) = (exec.program.as_raw_fd(), uapi::AT_EMPTY_PATH);
        let mut result = exec.waits.map_or(0, |launchers| become_namespace_root(launchers, exec.status));
        if result == 0 {
            // SAFETY: an empty path and two NULL-terminated arrays of strings, all alive across the call.
            result =
                unsafe { syscall!(EXECVEAT, program, c"".as_ptr(), arguments.as_ptr(), environment.as_ptr(), flags) };
        }
        failure[4..].copy_from_slice(&(result.wrapping_neg() as i32).to_le_bytes());
        // SAFETY: writes a live buffer of the length given; nobody reads the result.
        unsafe { syscall!(WRITE, exec.status.as_raw_fd(), failure.as_ptr(), failure.len()) };
        loop {
            // SAFETY: ends the child, without running anything of the parent's.
            unsafe { syscall!(EXIT_GROUP, 125) };
        }
    }
    let pid = check(pid)?;
    // SAFETY: CLONE_PIDFD stored a new fd, close-on-exec, that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?, pidfd))
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
        // SAFETY: as above.
        0 => unsafe { syscall!(SETRESUID, 0, 0, 0) },
        failed => failed,
    }
}

/// Runs a program with an empty environment, and waits for its exit status; 128+n where signal n ended it.
pub fn run(program: &CStr, arguments: &[CString]) -> Result<u32> {
    let mut pointers: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    let environment = [ptr::null::<c_char>()];
    let Some(pid) = fork()? else {
        // SAFETY: a path and two NULL-terminated arrays of strings, all alive across the call.
        unsafe { syscall!(EXECVE, program.as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
        exit(127);
    };
    let (_, status) =
        rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))?.ok_or(Errno::CHILD)?;
    let status = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    Ok(status.unwrap_or(127) as u32)
}

/// `int mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, { MOUNT_ATTR_IDMAP, userns_fd }, size)`.
pub fn idmap(tree: &OwnedFd, userns: BorrowedFd<'_>) -> Result<()> {
    let attributes = uapi::mount_attr {
        attr_set: uapi::MOUNT_ATTR_IDMAP.into(),
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.as_raw_fd() as u64,
    };
    let flags = uapi::AT_EMPTY_PATH | uapi::AT_RECURSIVE;
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

/// `int ioctl(int fd, unsigned long op, unsigned long argument)`, for operations whose argument is a number or a struct that
/// is alive across the call.
pub fn ioctl(fd: &OwnedFd, operation: u32, argument: usize) -> Result<usize> {
    // SAFETY: the callers' operations, LOOP_CTL_GET_FREE and LOOP_CONFIGURE, read no more than a struct loop_config.
    check(unsafe { syscall!(IOCTL, fd.as_raw_fd(), operation, argument) })
}

/// A read-only loop device over `file`, which goes when nobody uses it any more; loop(4).
pub fn loop_configuration(file: RawFd, name: &CStr) -> loop_config {
    // SAFETY: a struct of integers and arrays of them, for which zeros are a value.
    let mut configuration: loop_config = unsafe { core::mem::zeroed() };
    configuration.fd = file as u32;
    configuration.info.lo_flags = LO_FLAGS_READ_ONLY as u32 | LO_FLAGS_AUTOCLEAR as u32;
    // What losetup(8) shows; its last byte stays zero.
    let places = configuration.info.lo_file_name.iter_mut().rev().skip(1).rev();
    places.zip(name.to_bytes()).for_each(|(place, byte)| *place = *byte);
    configuration
}

/// struct bpf_insn; linux/bpf.h.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct BpfInstruction {
    /// What it does.
    pub code: u8,
    registers: u8,
    /// How far it jumps, or where in memory it looks.
    pub offset: i16,
    immediate: i32,
}

impl BpfInstruction {
    /// One, with its destination and its source register.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: destination | source << 4, offset, immediate }
    }
}

/// How a program is attached: it is the last word for all below, or gives way to one attached below; linux/bpf.h,
/// BPF_F_ALLOW_OVERRIDE.
pub const LAST_PROGRAM: u32 = 0;
pub const OVERRIDABLE_PROGRAM: u32 = 1;

const BPF_CGROUP_DEVICE: u32 = 6;

/// `int bpf(int cmd, union bpf_attr *attr, unsigned int size)`, with the first members of the union that `cmd` knows.
fn bpf<T>(command: u32, attributes: &mut T) -> Result<usize> {
    // SAFETY: the kernel reads and writes no more of the attributes than their size, and what the callers below let them
    // point to is alive across the call.
    check(unsafe { syscall!(BPF, command, &raw mut *attributes, size_of::<T>()) })
}

fn bpf_fd<T>(command: u32, attributes: &mut T) -> Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the callers' commands give a new fd, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// BPF_PROG_LOAD of a program for devices, and BPF_PROG_ATTACH of it to a cgroup.
pub fn attach_device_program(cgroup: &OwnedFd, program: &[BpfInstruction], name: [u8; 16], flags: u32) -> Result<()> {
    const PROG_LOAD: u32 = 5;
    const PROG_ATTACH: u32 = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    #[repr(C)]
    struct Load {
        kind: u32,
        length: u32,
        program: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    let (kind, length) = (TYPE_CGROUP_DEVICE, program.len() as u32);
    let (program, license) = (program.as_ptr() as u64, c"".as_ptr() as u64);
    let mut load =
        Load { kind, length, program, license, log: [0; 2], log_buffer: 0, kernel_version: 0, flags: 0, name };
    let loaded = bpf_fd(PROG_LOAD, &mut load)?;
    bpf(PROG_ATTACH, &mut [cgroup.as_raw_fd() as u32, loaded.as_raw_fd() as u32, BPF_CGROUP_DEVICE, flags]).map(drop)
}

/// The names of the programs for devices that count for a cgroup, its own and those of the cgroups above it:
/// BPF_PROG_QUERY, BPF_PROG_GET_FD_BY_ID and BPF_OBJ_GET_INFO_BY_FD. E2BIG where there are many.
pub fn effective_device_programs(cgroup: &OwnedFd) -> Result<Vec<[u8; 16]>> {
    const PROG_GET_FD_BY_ID: u32 = 13;
    const OBJ_GET_INFO_BY_FD: u32 = 15;
    const PROG_QUERY: u32 = 16;
    const QUERY_EFFECTIVE: u32 = 1;
    #[repr(C)]
    struct Query {
        cgroup: u32,
        kind: u32,
        flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    #[repr(C)]
    struct GetInfo {
        program: u32,
        size: u32,
        info: u64,
    }
    // struct bpf_prog_info, up to its name.
    const NAME: usize = 64;
    let mut ids = [0u32; 4];
    let mut query = Query {
        cgroup: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: QUERY_EFFECTIVE,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        padding: 0,
    };
    bpf(PROG_QUERY, &mut query)?;
    let mut names = Vec::new();
    for id in ids.get(..query.count as usize).ok_or(Errno::TOOBIG)? {
        let program = bpf_fd(PROG_GET_FD_BY_ID, &mut [*id, 0, 0])?;
        let mut info = [0u8; NAME + 16];
        let (size, pointer) = (info.len() as u32, info.as_mut_ptr() as u64);
        bpf(OBJ_GET_INFO_BY_FD, &mut GetInfo { program: program.as_raw_fd() as u32, size, info: pointer })?;
        names.extend(info.last_chunk());
    }
    Ok(names)
}

/// `int close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)`: nothing that the caller left open reaches a container.
pub fn close_inherited_fds_on_exec() -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: usize = 1 << 2;
    // SAFETY: only sets a flag on fds; none is closed.
    check(unsafe { sc::syscall3(uapi::__NR_close_range as usize, 3, u32::MAX as usize, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// `int sigaction(int signum, NULL, struct sigaction *oldact)`: whether the caller had this signal ignored.
pub fn is_ignored(signal: u32) -> bool {
    const SIG_IGN: usize = 1;
    // The kernel's struct begins with the handler on every architecture; the rest is written but not looked at.
    let mut action = [0usize; 8];
    // SAFETY: the buffer is larger than any kernel's struct sigaction and alive across the call.
    let result = unsafe { syscall!(RT_SIGACTION, signal, 0, action.as_mut_ptr(), size_of::<u64>()) };
    result == 0 && action[0] == SIG_IGN
}

/// `int sigaction(SIGPIPE, SIG_DFL)`: ends with the reader of its output.
pub fn restore_sigpipe() {
    set_sigpipe(0);
}

/// `int sigaction(SIGPIPE, handler)`: SIG_DFL is 0, and SIG_IGN is 1.
fn set_sigpipe(handler: u64) {
    // The kernel's struct sigaction begins with the handler; no flags and an empty mask are zeros, on every architecture.
    let action = [handler, 0, 0, 0];
    // SAFETY: the struct is at most 32 bytes and alive across the call. It cannot fail with a valid pointer.
    unsafe { syscall!(RT_SIGACTION, uapi::SIGPIPE, action.as_ptr(), 0, size_of::<u64>()) };
}

/// `int sigprocmask(SIG_BLOCK, const sigset_t *set, sigset_t *oldset)`: the mask that was; bit n-1 is signal n.
pub fn block_signals(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both sets are the kernel's 8 bytes, alive across the call. It cannot fail with valid pointers.
    unsafe { syscall!(RT_SIGPROCMASK, uapi::SIG_BLOCK, &raw const mask, &raw mut old, size_of::<u64>()) };
    old
}

/// `int signalfd(-1, const sigset_t *mask, SFD_CLOEXEC | SFD_NONBLOCK)`.
pub fn signalfd(mask: u64) -> Result<OwnedFd> {
    let flags = uapi::O_CLOEXEC | uapi::O_NONBLOCK;
    // SAFETY: the set is the kernel's 8 bytes, alive across the call.
    let fd = check(unsafe { syscall!(SIGNALFD4, -1isize, &raw const mask, size_of::<u64>(), flags) })?;
    // SAFETY: a new fd that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `int pidfd_send_signal(int pidfd, int sig, NULL, 0)`, for any number.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: u32) -> Result<()> {
    // SAFETY: the NULL asks for the siginfo that kill(2) would make.
    check(unsafe { syscall!(PIDFD_SEND_SIGNAL, pidfd.as_fd().as_raw_fd(), signal, 0, 0) }).map(drop)
}

/// `int setsockopt(int sockfd, SOL_NETLINK, int option, 1)`, for NETLINK_EXT_ACK and NETLINK_CAP_ACK.
pub fn set_netlink_option(socket: impl AsFd, option: u32) -> Result<()> {
    const SOL_NETLINK: usize = 270;
    let one: c_int = 1;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value is an int, alive across the call.
    check(unsafe { syscall!(SETSOCKOPT, fd, SOL_NETLINK, option, &raw const one, size_of::<c_int>()) }).map(drop)
}

/// The same for SOL_IP and SOL_IPV6.
pub fn set_option(socket: impl AsFd, level: u32, option: u32) -> Result<()> {
    let one: c_int = 1;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value is an int, alive across the call.
    check(unsafe { syscall!(SETSOCKOPT, fd, level, option, &raw const one, size_of::<c_int>()) }).map(drop)
}

/// What goes with a datagram: the other's address, and one control message of at most 20 bytes; recvmsg(2), cmsg(3).
#[derive(Default)]
#[repr(C, align(8))]
pub struct Packet {
    /// The other's address, a struct sockaddr.
    pub name: [u8; 28],
    name_length: u32,
    control_length: usize,
    level: c_int,
    kind: c_int,
    /// What the control message has.
    pub data: [u8; 24],
}

impl Packet {
    /// The level and the type of the control message, where there is one.
    pub fn kind(&self) -> (c_int, c_int) {
        if self.control_length == 0 { (-1, -1) } else { (self.level, self.kind) }
    }

    /// Says to whom it goes.
    pub fn set_name(&mut self, name: &[u8]) {
        self.name[..name.len()].copy_from_slice(name);
        self.name_length = name.len() as u32;
    }

    /// Says what goes with it.
    pub fn set(&mut self, (level, kind): (c_int, c_int), data: &[u8]) {
        (self.level, self.kind) = (level, kind);
        self.data[..data.len()].copy_from_slice(data);
        self.control_length = CONTROL_HEADER + data.len();
    }

    fn header(&mut self, part: &mut uapi::iovec, control_space: usize) -> linux_raw_sys::net::msghdr {
        // SAFETY: a struct of integers and pointers, for which zeros are a value.
        let mut header: linux_raw_sys::net::msghdr = unsafe { core::mem::zeroed() };
        header.msg_name = (&raw mut self.name).cast();
        header.msg_namelen = self.name_length as _;
        header.msg_iov = ptr::from_mut(part).cast();
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut self.control_length).cast();
        header.msg_controllen = control_space as _;
        header
    }
}

/// struct cmsghdr on 64-bit machines: the length, the level and the type, as they stand in [`Packet`].
const CONTROL_HEADER: usize = 16;

/// `ssize_t recvmsg(int sockfd, struct msghdr *msg, MSG_DONTWAIT)`: the datagram's length.
pub fn receive_packet(socket: impl AsFd, buffer: &mut [u8], packet: &mut Packet) -> Result<usize> {
    packet.name_length = packet.name.len() as u32;
    let mut part = uapi::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() as _ };
    let mut header = packet.header(&mut part, CONTROL_HEADER + packet.data.len());
    let flags = linux_raw_sys::net::MSG_DONTWAIT;
    // SAFETY: the kernel writes no more than the lengths given to the buffer, and to name and control message of the packet,
    // whose fields from control_length on are one struct cmsghdr and its data.
    check(unsafe { syscall!(RECVMSG, socket.as_fd().as_raw_fd(), &raw mut header, flags) })
}

/// `ssize_t sendmsg(int sockfd, const struct msghdr *msg, MSG_DONTWAIT | MSG_NOSIGNAL)`.
pub fn send_packet(socket: impl AsFd, bytes: &[u8], packet: &mut Packet) -> Result<()> {
    let mut part = uapi::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() as _ };
    let length = packet.control_length.next_multiple_of(8);
    let header = packet.header(&mut part, length);
    let flags = linux_raw_sys::net::MSG_DONTWAIT | linux_raw_sys::net::MSG_NOSIGNAL;
    // SAFETY: the kernel only reads: the bytes, and name and control message of the packet, as above.
    check(unsafe { syscall!(SENDMSG, socket.as_fd().as_raw_fd(), &raw const header, flags) }).map(drop)
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`, into a buffer that may say what is
/// asked for.
pub fn getsockopt(socket: impl AsFd, level: u32, option: u32, buffer: &mut [u8]) -> Result<()> {
    let mut length = buffer.len() as u32;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes no more than the length given to the buffer, which is alive across the call, as it is.
    check(unsafe { syscall!(GETSOCKOPT, fd, level, option, buffer.as_mut_ptr(), &raw mut length) }).map(drop)
}

/// Numbers of netlink options, which linux-raw-sys has beside its messages.
pub const NETLINK_OPTIONS: [u32; 2] = [netlink::NETLINK_EXT_ACK, netlink::NETLINK_CAP_ACK];

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
    // SAFETY: as above.
    unsafe { syscall!(CLOCK_GETTIME, uapi::CLOCK_REALTIME, time.as_mut_ptr()) };
    (time[0], time[1] as u32)
}

/// `int nanosleep(const struct timespec *duration, NULL)`, until a signal comes.
pub fn sleep(microseconds: u64) {
    let time = [microseconds / 1_000_000, microseconds % 1_000_000 * 1_000];
    // SAFETY: the kernel's struct timespec is two 64-bit numbers on 64-bit machines; it is alive across the call.
    unsafe { syscall!(NANOSLEEP, time.as_ptr(), 0) };
}

/// `int fcntl(int fd, F_GETFD)`: EBADF where there is none of this number.
pub fn look_at_fd(number: u32) -> Result<()> {
    // SAFETY: only reads a flag.
    check(unsafe { syscall!(FCNTL, number, uapi::F_GETFD, 0) }).map(drop)
}

/// Leaves an fd of the caller's open across the exec; EBADF where there is none of this number.
pub fn inherit(number: u32) -> Result<()> {
    // SAFETY: only clears the close-on-exec flag; no fd is opened or closed.
    check(unsafe { syscall!(FCNTL, number, uapi::F_SETFD, 0) }).map(drop)
}

/// `int close_range(unsigned int first, unsigned int last, unsigned int flags)`: closes all but stdio and `keep`.
pub fn close_all_but(keep: &OwnedFd) {
    let keep = keep.as_raw_fd() as usize;
    for (first, last) in [(3, keep - 1), (keep + 1, u32::MAX as usize)] {
        if first <= last {
            // SAFETY: in a process that was just forked, and from here on neither uses nor drops an fd of its parent's but
            // `keep`.
            unsafe { sc::syscall3(uapi::__NR_close_range as usize, first, last, 0) };
        }
    }
}

/// `int pidfd_open(pid_t pid, 0)`; `None` where the process has ended.
pub fn pidfd(pid: u32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid as i32)?, rustix::process::PidfdFlags::empty()).ok()
}

/// Seconds since 1970.
pub fn realtime_seconds() -> u64 {
    realtime().0
}

/// A byte of a file that locks are about; F_OFD_SETLK, fcntl(2). They belong to the open file, as flock(2)'s do, and can be
/// asked for without being taken.
#[derive(Clone, Copy)]
#[repr(i64)]
pub enum Lock {
    /// Held by a container's launcher for its life.
    Life,
    /// Held by who gives back what a container's launcher left, or becomes its next, until that is done.
    Repair,
    /// Held for life, too, for those who wait for its end.
    End,
}

/// struct flock on 64-bit machines.
#[repr(C)]
struct FileLock {
    kind: i16,
    whence: i16,
    start: i64,
    length: i64,
    pid: i32,
}

fn lock_command(file: &OwnedFd, command: u32, kind: u32, byte: Lock) -> Result<FileLock> {
    let mut lock = FileLock { kind: kind as i16, whence: 0, start: byte as i64, length: 1, pid: 0 };
    // SAFETY: the kernel reads and writes one struct flock, which is alive across the call.
    check(unsafe { syscall!(FCNTL, file.as_raw_fd(), command, &raw mut lock) }).map(|_| lock)
}

/// Takes a lock that nobody else has; EAGAIN where somebody has it.
pub fn try_lock(file: &OwnedFd, byte: Lock) -> Result<()> {
    lock_command(file, uapi::F_OFD_SETLK, uapi::F_WRLCK, byte).map(drop)
}

/// Waits until it can be had, and takes it; with others who wait where it is `shared`, for which the file need not be open
/// for writing.
pub fn lock(file: &OwnedFd, byte: Lock, shared: bool) -> Result<()> {
    let kind = if shared { uapi::F_RDLCK } else { uapi::F_WRLCK };
    rustix::io::retry_on_intr(|| lock_command(file, uapi::F_OFD_SETLKW, kind, byte)).map(drop)
}

/// Lets others have it.
pub fn unlock(file: &OwnedFd, byte: Lock) -> Result<()> {
    lock_command(file, uapi::F_OFD_SETLK, uapi::F_UNLCK, byte).map(drop)
}

/// Whether somebody else has it.
pub fn is_locked(file: &OwnedFd, byte: Lock) -> bool {
    lock_command(file, uapi::F_OFD_GETLK, uapi::F_RDLCK, byte).is_ok_and(|lock| lock.kind != uapi::F_UNLCK as i16)
}

/// `int ppoll(struct pollfd *fds, nfds_t nfds, const struct timespec *tmo_p, NULL)`, with little memory until it comes back.
pub fn poll_with_little_memory(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize> {
    let timeout = timeout.map_or(ptr::null(), ptr::from_ref);
    let arguments = [fds.as_mut_ptr() as usize, fds.len(), timeout as usize, 0, size_of::<u64>()];
    // SAFETY: PollFd is a struct pollfd, of which there are as many as is said, and Timespec the kernel's; both are alive
    // across the call.
    check(unsafe { idle::wait(sc::nr::PPOLL, arguments) })
}

/// `void exit_group(int status)`: nothing here is buffered, and nothing left to be undone.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: ends the process; no destructor or exit function of it is relied on.
        unsafe { syscall!(EXIT_GROUP, status) };
    }
}

/// `int dup3(int oldfd, int newfd, 0)` to standard input, output or error.
pub fn become_standard(fd: &OwnedFd, number: RawFd) -> Result<()> {
    // SAFETY: takes two fds; what the standard one was is closed, and nothing here owns that.
    check(unsafe { syscall!(DUP3, fd.as_raw_fd(), number, 0) }).map(drop)
}

/// `pid_t fork(void)`, by clone(2): `None` in the child.
pub fn fork() -> Result<Option<Pid>> {
    // SAFETY: without CLONE_VM the child has its own copy of everything, and there is no other thread that could hold a lock
    // of it.
    let pid = check(unsafe { syscall!(CLONE, uapi::SIGCHLD, 0, 0, 0, 0) })?;
    Ok(Pid::from_raw(pid as i32))
}

/// The fd of the standard output or, with 2, of the standard error.
pub fn standard_fd(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: std sees to it before main that 0 to 2 are open, and nothing here closes them.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Where what is printed to the standard error goes.
static ERRORS: AtomicI32 = AtomicI32::new(2);

/// Goes on printing to what the standard error is now, when that becomes something else; until [`leave_errors`].
pub fn keep_errors() -> Result<()> {
    let kept = rustix::io::fcntl_dupfd_cloexec(standard_fd(2), 3)?;
    ERRORS.store(kept.into_raw_fd(), Ordering::Relaxed);
    Ok(())
}

/// Ends that.
pub fn leave_errors() {
    let kept = ERRORS.swap(2, Ordering::Relaxed);
    if kept > 2 {
        // SAFETY: the fd of keep_errors, which gave up its owner, and of which nothing else knows by now.
        drop(unsafe { OwnedFd::from_raw_fd(kept) });
    }
}

/// The fd to which is printed what is for the standard output or, with 2, for the standard error.
pub fn output_fd(number: RawFd) -> BorrowedFd<'static> {
    let number = if number == 2 { ERRORS.load(Ordering::Relaxed) } else { number };
    // SAFETY: a standard fd, as below, or that of keep_errors, which is open as long as it is in ERRORS.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// `char *strerror(int errnum)`: the C library's words for an errno.
pub fn strerror(errno: Errno) -> &'static str {
    unsafe extern "C" {
        safe fn strerror(errnum: c_int) -> *const c_char;
    }
    let text = strerror(errno.raw_os_error());
    // SAFETY: musl has a constant string for every number, an unknown one included; nobody sets a locale.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default()
}

/// A raw system call's result: the kernel answers `-errno` in the last page of the address space.
fn check(result: usize) -> Result<usize> {
    match result as isize {
        error @ -4095..=-1 => Err(Errno::from_raw_os_error(-error as i32)),
        _ => Ok(result),
    }
}

/// The launcher's memory. A start takes 7 kB of it, with a bridge 17, in hundreds of pieces, and then the launcher waits: so the
/// first pieces come from a block that is there already, one behind the other, and of these only the last one can be given
/// back, or grow where it is. All that does not fit is malloc(3)'s.
struct Memory;

#[cfg_attr(not(test), global_allocator)]
static MEMORY: Memory = Memory;

const BLOCK: usize = 20 << 10;
static mut FIRST: [u8; BLOCK] = [0; BLOCK];
/// How much of [`FIRST`] is given away. The launcher has one thread; its unit tests have several, and take malloc(3).
static USED: AtomicUsize = AtomicUsize::new(0);

impl Memory {
    /// The next piece of the block, if it fits.
    fn take(layout: Layout) -> Option<*mut u8> {
        let start = (&raw mut FIRST).cast::<u8>();
        let (used, below) = (start.addr() + USED.load(Ordering::Relaxed), layout.align() - 1);
        let offset = ((used + below) & !below) - start.addr();
        let end = offset.checked_add(layout.size()).filter(|end| *end <= BLOCK)?;
        USED.store(end, Ordering::Relaxed);
        Some(start.wrapping_add(offset))
    }

    /// How far behind the start of the block that is, if it is in there.
    fn offset(address: *mut u8) -> Option<usize> {
        address.addr().checked_sub((&raw const FIRST).addr()).filter(|offset| *offset < BLOCK)
    }

    fn is_last(offset: usize, length: usize) -> bool {
        offset + length == USED.load(Ordering::Relaxed)
    }
}

// SAFETY: two pieces that are in use never overlap: USED is behind all of them, a new one begins there, and it goes back only
// to the start of the last one.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        Self::take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Self::take(layout) {
            Some(piece) => {
                // SAFETY: so long is the piece, which is nobody else's. It may have been given back before.
                unsafe { piece.write_bytes(0, layout.size()) };
                piece
            }
            // SAFETY: the caller's layout. What malloc(3) maps is zeroes, and not written to.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match Self::offset(piece) {
            Some(offset) if Self::is_last(offset, layout.size()) => USED.store(offset, Ordering::Relaxed),
            Some(_) => {}
            // SAFETY: not of the block, so it is malloc(3)'s.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = Self::offset(piece) else {
            // SAFETY: not of the block, so it is malloc(3)'s.
            return unsafe { System.realloc(piece, layout, size) };
        };
        if Self::is_last(offset, layout.size()) && size <= BLOCK - offset {
            USED.store(offset + size, Ordering::Relaxed);
            return piece;
        }
        // SAFETY: the caller's size and alignment.
        let other = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the same.
        let other = unsafe { self.alloc(other) };
        if !other.is_null() {
            // SAFETY: both have at least so many bytes, and the new piece is nobody else's.
            unsafe { ptr::copy_nonoverlapping(piece, other, layout.size().min(size)) };
        }
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece of memory, full of the same byte.
    struct Piece {
        start: *mut u8,
        layout: Layout,
        byte: u8,
    }

    impl Piece {
        fn fill(start: *mut u8, layout: Layout, byte: u8) -> Self {
            assert!(!start.is_null() && start.addr().is_multiple_of(layout.align()));
            // SAFETY: the piece is of that size, and in use.
            unsafe { start.write_bytes(byte, layout.size()) };
            Self { start, layout, byte }
        }

        fn is_whole(&self, length: usize) -> bool {
            // SAFETY: so many bytes of it, or more, have been written, and it is in use.
            unsafe { std::slice::from_raw_parts(self.start, length) }.iter().all(|byte| *byte == self.byte)
        }
    }

    #[test]
    fn pieces_of_memory_never_overlap() {
        let (mut pieces, mut state, mut in_block): (Vec<Piece>, u32, _) = (Vec::new(), 1, [false; 2]);
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % below
        };
        for round in 0..20_000 {
            let (what, size, align, back) = (random(4), 1 + random(300), 1 << random(6), 1 + random(4));
            let Ok(layout) = Layout::from_size_align(size, align) else { continue };
            let old = pieces.len().checked_sub(back).map(|index| pieces.remove(index));
            match (what, old) {
                (0, Some(old)) => {
                    assert!(old.is_whole(old.layout.size()));
                    // SAFETY: in use, with its layout.
                    unsafe { MEMORY.dealloc(old.start, old.layout) };
                }
                (1, Some(old)) => {
                    let Ok(layout) = Layout::from_size_align(size, old.layout.align()) else { continue };
                    // SAFETY: in use, with its layout, and the size is not zero.
                    let start = unsafe { MEMORY.realloc(old.start, old.layout, size) };
                    assert!(Piece { start, ..old }.is_whole(size.min(old.layout.size())));
                    pieces.push(Piece::fill(start, layout, old.byte));
                }
                (_, old) => {
                    pieces.extend(old);
                    // SAFETY: the size is not zero.
                    let start = unsafe { MEMORY.alloc(layout) };
                    in_block[usize::from(Memory::offset(start).is_some())] = true;
                    pieces.push(Piece::fill(start, layout, round as u8));
                }
            }
        }
        assert!(pieces.iter().all(|piece| piece.is_whole(piece.layout.size())));
        assert_eq!(in_block, [true; 2], "some are of the block and some of malloc(3)");
    }
}
