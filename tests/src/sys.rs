//! The tests' raw system calls: all `unsafe` of this crate.

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// `int prlimit(pid_t pid, RLIMIT_NOFILE, const struct rlimit *new_limit, NULL)`.
///
/// # Errors
/// The kernel's.
pub fn limit_files(pid: u32, limit: libc::rlimit) -> nix::Result<()> {
    // SAFETY: reads one struct rlimit, which is alive across the call.
    let result =
        unsafe { libc::prlimit(pid as libc::pid_t, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    nix::errno::Errno::result(result).map(drop)
}

/// `long ptrace(PTRACE_GET_SYSCALL_INFO, pid_t pid, size_t size, struct ptrace_syscall_info *info)`: number and
/// arguments of the system call that a stopped tracee is about to make; `None` elsewhere.
pub fn system_call(pid: Pid) -> Option<(u64, [u64; 6])> {
    const PTRACE_GET_SYSCALL_INFO: libc::c_long = 0x420e;
    const PTRACE_SYSCALL_INFO_ENTRY: u8 = 1;
    // struct ptrace_syscall_info, the same everywhere: op in the first byte, the instruction and stack pointers, and
    // then of an entry the number and six arguments.
    let mut info = [0u64; 10];
    // SAFETY: the kernel writes at most the size given to a buffer that is alive across the call.
    let written = unsafe {
        libc::syscall(libc::SYS_ptrace, PTRACE_GET_SYSCALL_INFO, pid.as_raw(), size_of_val(&info), info.as_mut_ptr())
    };
    let [kind, _, _, number, arguments @ ..] = info;
    (written > 0 && kind.to_ne_bytes()[0] == PTRACE_SYSCALL_INFO_ENTRY).then_some((number, arguments))
}

/// `long syscall(long number, ...)`: its result, or the errno.
///
/// # Errors
/// The kernel's.
pub fn call(number: i64, [a, b, c, d, e, f]: [i64; 6]) -> nix::Result<i64> {
    // SAFETY: in a process that does nothing else; a pointer that is none is the kernel's to refuse.
    nix::errno::Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// A call of another architecture's table, without arguments: `int80` is i386's, `x32` is x32's. Its raw result.
///
/// # Panics
/// If this architecture has no such thing.
pub fn foreign_call(which: &str, number: Option<i64>) -> i64 {
    #[cfg(target_arch = "x86_64")]
    const I386_GETPID: i64 = 20;
    #[cfg(target_arch = "x86_64")]
    match which {
        "int80" => {
            let mut result: i64 = number.unwrap_or(I386_GETPID);
            // SAFETY: in a process that does nothing else; an argument that makes no sense is the kernel's to refuse.
            // Its entry for i386 clears r8 to r11.
            unsafe {
                std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
            }
            result
        }
        "x32" => call(0x4000_0000 | number.unwrap_or(libc::SYS_getpid), [0; 6]).unwrap_or(-1),
        other => panic!("{other}?"),
    }
    #[cfg(not(target_arch = "x86_64"))]
    panic!("{which} {number:?}?")
}

/// `int renameat2(AT_FDCWD, const char *a, AT_FDCWD, const char *b, RENAME_EXCHANGE)`.
///
/// # Errors
/// The kernel's.
pub fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    let [a, b] = [a, b].map(|path| CString::new(path.as_os_str().as_bytes()));
    let ((a, b), at) = ((a?, b?), libc::AT_FDCWD);
    // SAFETY: both are strings with their NUL, alive across the call.
    let result = unsafe { libc::syscall(libc::SYS_renameat2, at, a.as_ptr(), at, b.as_ptr(), libc::RENAME_EXCHANGE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `int sigaction(…, SIG_DFL)` of the signals of terminals and shells, for this process and its children.
///
/// # Panics
/// Never: these signals can be set.
pub fn restore_signals() {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: no handler of anybody's is replaced, and SIG_DFL runs no code of this process.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.expect("signals that can be set");
    }
}

/// `int sigaction(…, SIG_IGN)` and `int sigprocmask(SIG_SETMASK, …)` of every signal, for this process and its
/// children.
pub fn ignore_and_block_signals() {
    // struct sigaction with SIG_IGN, no flags and an empty mask.
    let (ignore, all) = ([1u64, 0, 0, 0], u64::MAX);
    for signal in 1..=64 {
        // SIGKILL and SIGSTOP cannot be ignored.
        let _ = call(libc::SYS_rt_sigaction, [signal, &raw const ignore as i64, 0, 8, 0, 0]);
    }
    let _ = call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK.into(), &raw const all as i64, 0, 8, 0, 0]);
}

/// `int prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct sock_fprog *prog)`: from now on `socket(domain, _, protocol)`
/// fails with `errno` for this thread and its children, as on a kernel without that protocol.
///
/// # Errors
/// If the kernel refuses the filter.
pub fn refuse_sockets(domain: i32, protocol: i32, errno: i32) -> io::Result<()> {
    // struct seccomp_data: the call's number, and its arguments of 8 bytes each from offset 16 on, low half first.
    const NUMBER: u32 = 0;
    const DOMAIN: u32 = 16;
    const PROTOCOL: u32 = 32;
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    // Continues if equal, otherwise jumps to the last instruction.
    let equals = |value: i32, to_last| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, to_last, value as u32);
    let give = |action| step(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    install([
        load(NUMBER),
        equals(libc::SYS_socket as i32, 5),
        load(DOMAIN),
        equals(domain, 3),
        load(PROTOCOL),
        equals(protocol, 1),
        give(libc::SECCOMP_RET_ERRNO | errno as u32),
        give(libc::SECCOMP_RET_ALLOW),
    ])
}

/// The same for the system call `number`, whatever its arguments.
///
/// # Errors
/// If the kernel refuses the filter.
pub fn refuse_call(number: i64, errno: i32) -> io::Result<()> {
    let step = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    install([
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ])
}

fn install<const N: usize>(mut filter: [libc::sock_filter; N]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is alive across the call, and binds this thread alone.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `int fcntl(int fd, F_SETLEASE, F_WRLCK)`: from now on, opening the file waits, and the kernel notifies this process
/// by SIGURG, which does nothing.
///
/// # Errors
/// If somebody has it open, or it belongs to somebody else.
pub fn take_lease(file: &std::fs::File) -> nix::Result<()> {
    // linux/fcntl.h.
    const F_SETSIG: libc::c_int = 10;
    for (command, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETLEASE, libc::F_WRLCK)] {
        // SAFETY: takes three integers, and changes nothing but the open file.
        nix::errno::Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) })?;
    }
    Ok(())
}

/// The command's process leads a session, and its stdin is that session's terminal: setsid(2), `ioctl(0, TIOCSCTTY,
/// 0)`.
pub fn take_terminal(command: &mut Command) {
    let take = || {
        nix::unistd::setsid()?;
        // SAFETY: takes two integers; stdin is open here, whatever it is.
        nix::errno::Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        Ok(())
    };
    // SAFETY: two system calls, and no memory is allocated and no lock taken: fork(2) in a program with threads allows
    // that.
    unsafe { command.pre_exec(take) };
}

/// `int ioctl(int fd, TIOCSWINSZ, const struct winsize *size)`.
///
/// # Errors
/// The kernel's.
pub fn set_window_size(terminal: impl AsFd, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads a struct winsize, which is alive across the call.
    nix::errno::Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(drop)
}

/// `ssize_t sendto(int socket, const void *frame, size_t length, 0, const struct sockaddr_ll *to, …)` by a socket of
/// AF_PACKET: a raw frame, through a link.
///
/// # Errors
/// The kernel's.
pub fn send_frame(link: u32, frame: &[u8]) -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: link as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads the frame and a struct sockaddr_ll, both alive across the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as libc::socklen_t,
        )
    };
    if sent == frame.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `int setsockopt(int socket, int level, int option, const int *value, sizeof(int))`.
///
/// # Errors
/// The kernel's.
pub fn set_option(socket: impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads one int, which is alive across the call.
    let result = unsafe {
        let length = size_of_val(&value) as libc::socklen_t;
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A system call that waits for an answer; seccomp_unotify(2).
pub struct Notified {
    id: u64,
    /// The process, by the caller's number.
    pub pid: u32,
    /// The call's number.
    pub number: i32,
}

/// `int ioctl(int fd, SECCOMP_IOCTL_NOTIF_RECV, struct seccomp_notif *req)`; `None` if nobody is left who could call.
pub fn notified(listener: &OwnedFd) -> Option<Notified> {
    const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
    loop {
        // struct seccomp_notif: id, pid and flags, then struct seccomp_data, whose first word has the number.
        let mut notification = [0u64; 10];
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::NONE).ok()?;
        // SAFETY: the kernel writes the 80 bytes of the struct, which is alive across the call.
        let result = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, notification.as_mut_ptr()) };
        match nix::errno::Errno::result(result) {
            Ok(_) => {
                let [id, pid, call, ..] = notification;
                return Some(Notified { id, pid: pid as u32, number: call as i32 });
            }
            // It was killed before.
            Err(nix::errno::Errno::ENOENT) if !is_hung_up(&ready) => {}
            Err(_) => return None,
        }
    }
}

fn is_hung_up(ready: &[PollFd<'_>]) -> bool {
    ready.iter().any(|fd| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
}

/// `int ioctl(int fd, SECCOMP_IOCTL_NOTIF_SEND, struct seccomp_notif_resp *resp)`: the result of the call, where an
/// errno is negative; without one, the kernel makes the call.
pub fn answer(listener: &OwnedFd, call: &Notified, result: Option<i64>) {
    const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
    const CONTINUE: u64 = 1;
    // struct seccomp_notif_resp: id, val, error and flags.
    let response = match result {
        None => [call.id, 0, CONTINUE << 32],
        Some(error @ ..0) => [call.id, 0, u64::from(error as u32)],
        Some(value) => [call.id, value as u64, 0],
    };
    // SAFETY: the kernel reads the 24 bytes of the struct, which is alive across the call. One that was killed has no
    // use for an answer.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND, response.as_ptr()) };
}

/// All that comes on a connection until its end, and the fds that come with it.
///
/// # Panics
/// If it cannot be read.
pub fn receive_fds(connection: &UnixStream) -> (String, Vec<OwnedFd>) {
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut bytes = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let received =
            recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).expect("recvmsg");
        for message in received.cmsgs().expect("control messages") {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                // SAFETY: the kernel has just opened them for this process, and nothing else owns them.
                fds.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        let length = received.bytes;
        if length == 0 {
            return (String::from_utf8(text).expect("UTF-8"), fds);
        }
        text.extend_from_slice(&bytes[..length]);
    }
}

/// `int atexit(void (*function)(void))`.
///
/// # Panics
/// If there is no memory for it.
pub fn at_exit(function: extern "C" fn()) {
    // SAFETY: the function takes nothing and is there as long as the program.
    assert_eq!(unsafe { libc::atexit(function) }, 0, "atexit");
}

/// An fd that has come in a message, as a file.
pub fn received_file(number: RawFd) -> File {
    // SAFETY: the kernel has just opened it for this process, and nothing else owns it.
    unsafe { File::from_raw_fd(number) }
}
