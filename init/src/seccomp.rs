//! The system calls that the payload may make: an allow list, compiled into a filter of seccomp(2).
//!
//! The behaviour is moby's default profile's: a call that is not listed is unknown (ENOSYS, so that a C library falls
//! back to an older one), one that would give the payload what it must not have is refused (EPERM), and some are
//! allowed to those who hold the capability for them. Calls of another architecture end the process. Adjacent numbers
//! of the same fate are one range, and the ranges are searched by halving: seven comparisons at most, where a list
//! takes hundreds. Must not know anything of the payload but its capabilities.

use kontena_init::bpf::{self, LOAD, Next, Program};
use linux_raw_sys::errno::{EAFNOSUPPORT, EINVAL, ENOSYS, EPERM};
use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::{TIOCLINUX, TIOCSTI};
use linux_raw_sys::net::{AF_ALG, AF_NETLINK, AF_VSOCK};
use linux_raw_sys::netlink::NETLINK_AUDIT;
use linux_raw_sys::ptrace::*;

/// System calls by their names, so that whole lists of them can be read.
macro_rules! calls {
    ($($name:ident)*) => { &[$($name),*] };
}

/// Allowed on every architecture.
const ALLOWED: &[u32] = calls! {
    __NR_accept __NR_accept4 __NR_adjtimex __NR_bind __NR_brk __NR_cachestat __NR_capget __NR_capset __NR_chdir
    __NR_clock_adjtime __NR_clock_getres __NR_clock_gettime __NR_clock_nanosleep __NR_close __NR_close_range
    __NR_connect __NR_copy_file_range __NR_dup __NR_dup3 __NR_epoll_create1 __NR_epoll_ctl __NR_epoll_pwait
    __NR_epoll_pwait2 __NR_eventfd2 __NR_execve __NR_execveat __NR_exit __NR_exit_group __NR_faccessat __NR_faccessat2
    __NR_fadvise64 __NR_fallocate __NR_fanotify_mark __NR_fchdir __NR_fchmod __NR_fchmodat __NR_fchmodat2 __NR_fchown
    __NR_fchownat __NR_fcntl __NR_fdatasync __NR_fgetxattr __NR_flistxattr __NR_flock __NR_fremovexattr __NR_fsetxattr
    __NR_fstat __NR_fstatfs __NR_fsync __NR_ftruncate __NR_futex __NR_futex_requeue __NR_futex_wait __NR_futex_waitv
    __NR_futex_wake __NR_getcpu __NR_getcwd __NR_getdents64 __NR_getegid __NR_geteuid __NR_getgid __NR_getgroups
    __NR_getitimer __NR_getpeername __NR_getpgid __NR_getpid __NR_getppid __NR_getpriority __NR_getrandom __NR_getresgid
    __NR_getresuid __NR_get_robust_list __NR_getrusage __NR_getsid __NR_getsockname __NR_getsockopt __NR_gettid
    __NR_gettimeofday __NR_getuid __NR_getxattr __NR_getxattrat __NR_inotify_add_watch __NR_inotify_init1
    __NR_inotify_rm_watch __NR_io_cancel __NR_io_destroy __NR_io_getevents __NR_io_pgetevents __NR_ioprio_get
    __NR_ioprio_set __NR_io_setup __NR_io_submit __NR_kill __NR_landlock_add_rule __NR_landlock_create_ruleset
    __NR_landlock_restrict_self __NR_lgetxattr __NR_linkat __NR_listen __NR_listxattr __NR_listxattrat __NR_llistxattr
    __NR_lremovexattr __NR_lseek __NR_lsetxattr __NR_madvise __NR_membarrier __NR_memfd_create __NR_mincore __NR_mkdirat
    __NR_mknodat __NR_mlock __NR_mlock2 __NR_mlockall __NR_mmap __NR_mprotect __NR_mq_getsetattr __NR_mq_notify
    __NR_mq_open __NR_mq_timedreceive __NR_mq_timedsend __NR_mq_unlink __NR_mremap __NR_mseal __NR_msgctl __NR_msgget
    __NR_msgrcv __NR_msgsnd __NR_msync __NR_munlock __NR_munlockall __NR_munmap __NR_name_to_handle_at __NR_nanosleep
    __NR_newfstatat __NR_openat __NR_openat2 __NR_pidfd_open __NR_pidfd_send_signal __NR_pipe2 __NR_pkey_alloc
    __NR_pkey_free __NR_pkey_mprotect __NR_ppoll __NR_prctl __NR_pread64 __NR_preadv __NR_preadv2 __NR_prlimit64
    __NR_process_mrelease __NR_process_vm_readv __NR_process_vm_writev __NR_pselect6 __NR_ptrace __NR_pwrite64
    __NR_pwritev __NR_pwritev2 __NR_read __NR_readahead __NR_readlinkat __NR_readv __NR_recvfrom __NR_recvmmsg
    __NR_recvmsg __NR_remap_file_pages __NR_removexattr __NR_removexattrat __NR_renameat2 __NR_restart_syscall __NR_rseq
    __NR_rt_sigaction __NR_rt_sigpending __NR_rt_sigprocmask __NR_rt_sigqueueinfo __NR_rt_sigreturn __NR_rt_sigsuspend
    __NR_rt_sigtimedwait __NR_rt_tgsigqueueinfo __NR_sched_getaffinity __NR_sched_getattr __NR_sched_getparam
    __NR_sched_get_priority_max __NR_sched_get_priority_min __NR_sched_getscheduler __NR_sched_rr_get_interval
    __NR_sched_setaffinity __NR_sched_setattr __NR_sched_setparam __NR_sched_setscheduler __NR_sched_yield __NR_seccomp
    __NR_semctl __NR_semget __NR_semop __NR_semtimedop __NR_sendfile __NR_sendmmsg __NR_sendmsg __NR_sendto
    __NR_setfsgid __NR_setfsuid __NR_setgid __NR_setgroups __NR_setitimer __NR_setpgid __NR_setpriority __NR_setregid
    __NR_setresgid __NR_setresuid __NR_setreuid __NR_set_robust_list __NR_setsid __NR_setsockopt __NR_set_tid_address
    __NR_setuid __NR_setxattr __NR_setxattrat __NR_shmat __NR_shmctl __NR_shmdt __NR_shmget __NR_shutdown
    __NR_sigaltstack __NR_signalfd4 __NR_socketpair __NR_splice __NR_statfs __NR_statx __NR_symlinkat __NR_sync
    __NR_sync_file_range __NR_syncfs __NR_sysinfo __NR_tee __NR_tgkill __NR_timer_create __NR_timer_delete
    __NR_timer_getoverrun __NR_timer_gettime __NR_timer_settime __NR_timerfd_create __NR_timerfd_gettime
    __NR_timerfd_settime __NR_times __NR_tkill __NR_truncate __NR_umask __NR_uname __NR_unlinkat __NR_utimensat
    __NR_vmsplice __NR_wait4 __NR_waitid __NR_write __NR_writev
};

/// What only this architecture has, or has under a number of its own.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[u32] = calls! {
    __NR_access __NR_alarm __NR_arch_prctl __NR_chmod __NR_chown __NR_creat __NR_dup2 __NR_epoll_create
    __NR_epoll_ctl_old __NR_epoll_wait __NR_epoll_wait_old __NR_eventfd __NR_fork __NR_futimesat __NR_getdents
    __NR_getpgrp __NR_getrlimit __NR_get_thread_area __NR_inotify_init __NR_lchown __NR_link __NR_lstat
    __NR_map_shadow_stack __NR_memfd_secret __NR_mkdir __NR_mknod __NR_modify_ldt __NR_open __NR_pause __NR_pipe
    __NR_poll __NR_readlink __NR_rename __NR_renameat __NR_rmdir __NR_select __NR_setrlimit __NR_set_thread_area
    __NR_signalfd __NR_stat __NR_symlink __NR_time __NR_unlink __NR_uretprobe __NR_utime __NR_utimes __NR_vfork
};
#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &[u32] = calls! {
    __NR_getrlimit __NR_map_shadow_stack __NR_memfd_secret __NR_renameat __NR_setrlimit
};
#[cfg(target_arch = "riscv64")]
const ALLOWED_HERE: &[u32] = calls! {
    __NR_getrlimit __NR_map_shadow_stack __NR_memfd_secret __NR_riscv_flush_icache __NR_riscv_hwprobe __NR_setrlimit
};

/// Refused to everybody: what has been, time and again, the way out of a container.
const REFUSED: &[u32] = calls! {
    __NR_add_key __NR_io_uring_enter __NR_io_uring_register __NR_io_uring_setup __NR_kexec_file_load __NR_kexec_load
    __NR_keyctl __NR_migrate_pages __NR_move_pages __NR_nfsservctl __NR_request_key __NR_swapoff __NR_swapon
    __NR_userfaultfd
};
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[u32] = calls! { __NR__sysctl __NR_sysfs __NR_uselib __NR_ustat };
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[u32] = &[];

/// Allowed to those who hold the capability. CAP_SYS_ADMIN is also worth CAP_BPF, CAP_PERFMON and CAP_SYSLOG, as the
/// kernel has it.
const PRIVILEGED: &[(u32, &[u32])] = &[
    (CAP_BPF, calls! { __NR_bpf }),
    (CAP_DAC_READ_SEARCH, calls! { __NR_open_by_handle_at }),
    (CAP_PERFMON, calls! { __NR_perf_event_open }),
    (
        CAP_SYS_ADMIN,
        calls! {
            __NR_fanotify_init __NR_fsconfig __NR_fsmount __NR_fsopen __NR_fspick __NR_listmount __NR_lookup_dcookie
            __NR_mount __NR_mount_setattr __NR_move_mount __NR_open_tree __NR_open_tree_attr __NR_pivot_root
            __NR_quotactl __NR_quotactl_fd __NR_setdomainname __NR_sethostname __NR_setns __NR_statmount
            __NR_umount2 __NR_unshare
        },
    ),
    (CAP_SYS_BOOT, calls! { __NR_reboot }),
    (CAP_SYS_CHROOT, calls! { __NR_chroot }),
    (CAP_SYS_MODULE, calls! { __NR_delete_module __NR_finit_module __NR_init_module }),
    (CAP_SYS_NICE, calls! { __NR_get_mempolicy __NR_mbind __NR_set_mempolicy __NR_set_mempolicy_home_node }),
    (CAP_SYS_PACCT, calls! { __NR_acct }),
    (CAP_SYS_PTRACE, calls! { __NR_kcmp __NR_pidfd_getfd __NR_process_madvise }),
    (CAP_SYS_RAWIO, PORTS),
    (CAP_SYS_TIME, calls! { __NR_clock_settime __NR_settimeofday }),
    (CAP_SYS_TTY_CONFIG, calls! { __NR_vhangup }),
    (CAP_SYSLOG, calls! { __NR_syslog }),
];
#[cfg(target_arch = "x86_64")]
const PORTS: &[u32] = calls! { __NR_ioperm __NR_iopl };
#[cfg(not(target_arch = "x86_64"))]
const PORTS: &[u32] = &[];

/// Calls that an argument of theirs decides. The kernel takes 32 bits of each of these, and so does the filter.
const CHECKED: [Check; 6] = [
    // Two families that reach past every namespace: the kernel's crypto (CVE-2026-31431), and the hypervisor.
    Check {
        call: __NR_socket,
        argument: 0,
        is: Is::OneOf(&[AF_ALG, AF_VSOCK]),
        then: errno(EAFNOSUPPORT),
        other: check(1),
    },
    // The audit log is the host's.
    Check { call: NONE, argument: 0, is: Is::OneOf(&[AF_NETLINK]), then: check(2), other: ALLOW },
    Check {
        call: NONE,
        argument: 2,
        is: Is::OneOf(&[NETLINK_AUDIT]),
        then: capable(CAP_AUDIT_WRITE, EINVAL),
        other: ALLOW,
    },
    // Typing into the caller's terminal, and into a console of the host's: CVE-2017-5226.
    Check { call: __NR_ioctl, argument: 1, is: Is::OneOf(&[TIOCSTI, TIOCLINUX]), then: errno(EPERM), other: ALLOW },
    // PER_LINUX, PER_LINUX32, each with UNAME26 or without, and the question which it is.
    Check {
        call: __NR_personality,
        argument: 0,
        is: Is::OneOf(&[0, 8, 0x2_0000, PERSONALITIES, u32::MAX]),
        then: ALLOW,
        other: errno(EPERM),
    },
    Check {
        call: __NR_clone,
        argument: 0,
        is: Is::AnyOf(NAMESPACES),
        then: capable(CAP_SYS_ADMIN, EPERM),
        other: ALLOW,
    },
];

/// The bits of a personality(2) that a payload may have: PER_LINUX32 and UNAME26.
pub const PERSONALITIES: u32 = 0x2_0008;

/// Every flag that makes a namespace.
const NAMESPACES: u32 =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

/// No call's number: a check that another one goes on with.
const NONE: u32 = u32::MAX;

struct Check {
    call: u32,
    argument: u32,
    is: Is,
    then: u32,
    other: u32,
}

enum Is {
    /// The argument is one of these.
    OneOf(&'static [u32]),
    /// It has one of these bits.
    AnyOf(u32),
}

/// What becomes of a call: what the filter returns, or one of two kinds of placeholders for it.
const ALLOW: u32 = SECCOMP_RET_ALLOW;

const fn errno(errno: u32) -> u32 {
    SECCOMP_RET_ERRNO | errno
}

/// Replaced when the filter is installed: [`ALLOW`] for a process with the capability, else the errno.
const fn capable(capability: u32, errno: u32) -> u32 {
    CAPABLE | capability << 8 | errno
}
const CAPABLE: u32 = 0x0100_0000;

/// Where the filter is made, a jump to the code of a [`Check`].
const fn check(index: usize) -> u32 {
    CHECK | index as u32
}
const CHECK: u32 = 0x0200_0000;

/// The kind of a placeholder.
const KIND: u32 = 0x0f00_0000;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = AUDIT_ARCH_X86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = AUDIT_ARCH_AARCH64;
#[cfg(target_arch = "riscv64")]
const ARCH: u32 = AUDIT_ARCH_RISCV64;

/// Numbers from here on, up to this many, are the calls of x32, which has x86_64's architecture.
const X32: u32 = 0x4000_0000;

/// More than the largest number of a call, on every architecture.
const NUMBERS: usize = 512;

/// The fate of each call, by its number.
const fn fates() -> [u32; NUMBERS] {
    const fn set(fates: &mut [u32; NUMBERS], calls: &[u32], fate: u32) {
        let mut index = 0;
        while index < calls.len() {
            let number = calls[index] as usize;
            assert!(fates[number] == errno(ENOSYS), "a call stands in two lists");
            fates[number] = fate;
            index += 1;
        }
    }
    let mut fates = [errno(ENOSYS); NUMBERS];
    set(&mut fates, ALLOWED, ALLOW);
    set(&mut fates, ALLOWED_HERE, ALLOW);
    set(&mut fates, REFUSED, errno(EPERM));
    set(&mut fates, REFUSED_HERE, errno(EPERM));
    // Its arguments are in memory, where no filter can look: a C library goes back to clone.
    set(&mut fates, &[__NR_clone3], capable(CAP_SYS_ADMIN, ENOSYS));
    let mut index = 0;
    while index < PRIVILEGED.len() {
        let (capability, calls) = PRIVILEGED[index];
        set(&mut fates, calls, capable(capability, EPERM));
        index += 1;
    }
    index = 0;
    while index < CHECKED.len() {
        if CHECKED[index].call != NONE {
            set(&mut fates, &[CHECKED[index].call], check(index));
        }
        index += 1;
    }
    fates
}

/// The filter and its length; it stands at the end of the array.
const fn draft() -> ([sock_filter; 512], usize) {
    let mut code = [sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; 512];
    let mut program = Program::new(&mut code);
    // A check leads to one behind it.
    let mut checks = [Next::Return(ALLOW); CHECKED.len()];
    let mut index = CHECKED.len();
    while index > 0 {
        index -= 1;
        checks[index] = make_check(&mut program, &CHECKED[index], &checks);
    }
    let (mut starts, mut ranges, mut count) = ([0; 256], [ALLOW; 256], 0);
    let fates = fates();
    let mut number = 0;
    while number < NUMBERS {
        if number == 0 || ranges[count - 1] != fates[number] {
            (starts[count], ranges[count]) = (number as u32, fates[number]);
            count += 1;
        }
        number += 1;
    }
    if cfg!(target_arch = "x86_64") {
        (starts[count], ranges[count]) = (X32, SECCOMP_RET_KILL_PROCESS);
        (starts[count + 1], ranges[count + 1]) = (2 * X32, errno(ENOSYS));
        count += 2;
    }
    let mut next = [Next::Return(ALLOW); 256];
    index = 0;
    while index < count {
        next[index] = follow(ranges[index], &checks);
        index += 1;
    }
    let tree = program.search(starts.split_at(count).0, next.split_at(count).0);
    let ours = program.step(LOAD, bpf::NUMBER, tree);
    let is_ours = program.branch(BPF_JEQ, ARCH, ours, Next::Return(SECCOMP_RET_KILL_PROCESS));
    program.step(LOAD, bpf::ARCH, is_ours);
    let length = program.length();
    (code, length)
}

/// What the filter goes on with for a fate.
const fn follow(fate: u32, checks: &[Next; CHECKED.len()]) -> Next {
    if fate & KIND == CHECK { checks[(fate & !KIND) as usize] } else { Next::Return(fate) }
}

const fn make_check(program: &mut Program<'_>, check: &Check, checks: &[Next; CHECKED.len()]) -> Next {
    let (then, mut next) = (follow(check.then, checks), follow(check.other, checks));
    match check.is {
        Is::AnyOf(bits) => next = program.branch(BPF_JSET, bits, then, next),
        Is::OneOf(values) => {
            let mut index = values.len();
            while index > 0 {
                index -= 1;
                next = program.branch(BPF_JEQ, values[index], then, next);
            }
        }
    }
    program.step(LOAD, bpf::argument(check.argument), next)
}

const DRAFT: ([sock_filter; 512], usize) = draft();

/// The architecture whose programs this one runs beside its own, and its number of add_key(2), which those of
/// request_key(2) and keyctl(2) follow on every architecture.
#[cfg(target_arch = "x86_64")]
const COMPAT: (u32, u32) = (AUDIT_ARCH_I386, 286);
#[cfg(target_arch = "aarch64")]
const COMPAT: (u32, u32) = (AUDIT_ARCH_ARM, 309);
#[cfg(target_arch = "riscv64")]
const COMPAT: (u32, u32) = (AUDIT_ARCH_RISCV32, __NR_add_key);

/// Keyrings do not exist, neither for this architecture, nor for x32, nor for [`COMPAT`]. So a runtime inside does
/// without.
pub static KEYS: [sock_filter; 11] = {
    const fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
        sock_filter { code: code as u16, jt, jf, k }
    }
    [
        step(LOAD, 0, 0, 4),
        step(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, COMPAT.0),
        step(LOAD, 0, 0, 0),
        step(BPF_ALU | BPF_SUB | BPF_K, 0, 0, __NR_add_key),
        step(BPF_JMP | BPF_JA, 0, 0, 2),
        step(LOAD, 0, 0, 0),
        step(BPF_ALU | BPF_SUB | BPF_K, 0, 0, COMPAT.1),
        step(BPF_ALU | BPF_AND | BPF_K, 0, 0, !X32),
        step(BPF_JMP | BPF_JGT | BPF_K, 0, 1, 2),
        step(BPF_RET | BPF_K, 0, 0, ALLOW),
        step(BPF_RET | BPF_K, 0, 0, errno(ENOSYS)),
    ]
};

/// The filter, without the capabilities of its process.
static FILTER: [sock_filter; DRAFT.1] = {
    let (code, length) = DRAFT;
    let mut filter = [code[0]; DRAFT.1];
    let mut index = 0;
    while index < length {
        filter[index] = code[code.len() - length + index];
        index += 1;
    }
    filter
};

/// The filter for a process with these capabilities.
pub fn filter(capabilities: u64) -> [sock_filter; DRAFT.1] {
    let of = |capability: u32| 1 << capability;
    let implied = of(CAP_BPF) | of(CAP_PERFMON) | of(CAP_SYSLOG);
    let held = if capabilities & of(CAP_SYS_ADMIN) != 0 { capabilities | implied } else { capabilities };
    let mut filter = FILTER;
    for sock_filter { code, k, .. } in &mut filter {
        if u32::from(*code) == BPF_RET | BPF_K && *k & KIND == CAPABLE {
            *k = if held & of(*k >> 8 & 0xff) != 0 { ALLOW } else { errno(*k & 0xff) };
        }
    }
    filter
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic)]
mod tests;
