//! System calls by their names: those of Linux 6.17.
//!
//! A table has the names in the order of their numbers, so none has to be written down. Where the numbers are this
//! machine's, the compiler checks them against the kernel's headers. Must not know what a call does.

use linux_raw_sys::general::*;

/// Names of calls with a blank between them; `-` for a number without a call.
#[derive(Clone, Copy)]
pub struct Calls {
    /// The number of the first one; the others follow.
    pub first: u32,
    /// The names.
    pub names: &'static str,
}

/// A table of constants of the kernel's headers, which must be `first` and the numbers that follow it.
macro_rules! calls {
    ($first:literal: $($name:ident)*) => {
        Calls {
            first: $first,
            names: {
                const NUMBERS: &[u32] = &[$($name),*];
                const PREFIXED: &str = concat!($(stringify!($name), " "),*);
                const NAMES: [u8; PREFIXED.len() - NUMBERS.len() * PREFIX - 1] = names(PREFIXED, NUMBERS, $first);
                match str::from_utf8(&NAMES) {
                    Ok(names) => names,
                    Err(_) => "",
                }
            },
        }
    };
}

/// The length of `__NR_`.
const PREFIX: usize = 5;

/// Checks the numbers, and removes `__NR_` from the names.
const fn names<const LENGTH: usize>(prefixed: &str, numbers: &[u32], first: u32) -> [u8; LENGTH] {
    let mut index = 0;
    while index < numbers.len() {
        assert!(numbers[index] == first + index as u32, "the calls are not in the order of their numbers");
        index += 1;
    }
    let (mut names, mut from, mut to) = ([0; LENGTH], PREFIX, 0);
    while to < LENGTH {
        names[to] = prefixed.as_bytes()[from];
        from += if names[to] == b' ' { PREFIX + 1 } else { 1 };
        to += 1;
    }
    names
}

/// The calls of this architecture, by ascending numbers.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: &[Calls] = &[
    calls! { 0:
        __NR_read __NR_write __NR_open __NR_close __NR_stat __NR_fstat __NR_lstat __NR_poll __NR_lseek __NR_mmap
        __NR_mprotect __NR_munmap __NR_brk __NR_rt_sigaction __NR_rt_sigprocmask __NR_rt_sigreturn __NR_ioctl
        __NR_pread64 __NR_pwrite64 __NR_readv __NR_writev __NR_access __NR_pipe __NR_select __NR_sched_yield __NR_mremap
        __NR_msync __NR_mincore __NR_madvise __NR_shmget __NR_shmat __NR_shmctl __NR_dup __NR_dup2 __NR_pause
        __NR_nanosleep __NR_getitimer __NR_alarm __NR_setitimer __NR_getpid __NR_sendfile __NR_socket __NR_connect
        __NR_accept __NR_sendto __NR_recvfrom __NR_sendmsg __NR_recvmsg __NR_shutdown __NR_bind __NR_listen
        __NR_getsockname __NR_getpeername __NR_socketpair __NR_setsockopt __NR_getsockopt __NR_clone __NR_fork
        __NR_vfork __NR_execve __NR_exit __NR_wait4 __NR_kill __NR_uname __NR_semget __NR_semop __NR_semctl __NR_shmdt
        __NR_msgget __NR_msgsnd __NR_msgrcv __NR_msgctl __NR_fcntl __NR_flock __NR_fsync __NR_fdatasync __NR_truncate
        __NR_ftruncate __NR_getdents __NR_getcwd __NR_chdir __NR_fchdir __NR_rename __NR_mkdir __NR_rmdir __NR_creat
        __NR_link __NR_unlink __NR_symlink __NR_readlink __NR_chmod __NR_fchmod __NR_chown __NR_fchown __NR_lchown
        __NR_umask __NR_gettimeofday __NR_getrlimit __NR_getrusage __NR_sysinfo __NR_times __NR_ptrace __NR_getuid
        __NR_syslog __NR_getgid __NR_setuid __NR_setgid __NR_geteuid __NR_getegid __NR_setpgid __NR_getppid __NR_getpgrp
        __NR_setsid __NR_setreuid __NR_setregid __NR_getgroups __NR_setgroups __NR_setresuid __NR_getresuid
        __NR_setresgid __NR_getresgid __NR_getpgid __NR_setfsuid __NR_setfsgid __NR_getsid __NR_capget __NR_capset
        __NR_rt_sigpending __NR_rt_sigtimedwait __NR_rt_sigqueueinfo __NR_rt_sigsuspend __NR_sigaltstack __NR_utime
        __NR_mknod __NR_uselib __NR_personality __NR_ustat __NR_statfs __NR_fstatfs __NR_sysfs __NR_getpriority
        __NR_setpriority __NR_sched_setparam __NR_sched_getparam __NR_sched_setscheduler __NR_sched_getscheduler
        __NR_sched_get_priority_max __NR_sched_get_priority_min __NR_sched_rr_get_interval __NR_mlock __NR_munlock
        __NR_mlockall __NR_munlockall __NR_vhangup __NR_modify_ldt __NR_pivot_root __NR__sysctl __NR_prctl
        __NR_arch_prctl __NR_adjtimex __NR_setrlimit __NR_chroot __NR_sync __NR_acct __NR_settimeofday __NR_mount
        __NR_umount2 __NR_swapon __NR_swapoff __NR_reboot __NR_sethostname __NR_setdomainname __NR_iopl __NR_ioperm
        __NR_create_module __NR_init_module __NR_delete_module __NR_get_kernel_syms __NR_query_module __NR_quotactl
        __NR_nfsservctl __NR_getpmsg __NR_putpmsg __NR_afs_syscall __NR_tuxcall __NR_security __NR_gettid __NR_readahead
        __NR_setxattr __NR_lsetxattr __NR_fsetxattr __NR_getxattr __NR_lgetxattr __NR_fgetxattr __NR_listxattr
        __NR_llistxattr __NR_flistxattr __NR_removexattr __NR_lremovexattr __NR_fremovexattr __NR_tkill __NR_time
        __NR_futex __NR_sched_setaffinity __NR_sched_getaffinity __NR_set_thread_area __NR_io_setup __NR_io_destroy
        __NR_io_getevents __NR_io_submit __NR_io_cancel __NR_get_thread_area __NR_lookup_dcookie __NR_epoll_create
        __NR_epoll_ctl_old __NR_epoll_wait_old __NR_remap_file_pages __NR_getdents64 __NR_set_tid_address
        __NR_restart_syscall __NR_semtimedop __NR_fadvise64 __NR_timer_create __NR_timer_settime __NR_timer_gettime
        __NR_timer_getoverrun __NR_timer_delete __NR_clock_settime __NR_clock_gettime __NR_clock_getres
        __NR_clock_nanosleep __NR_exit_group __NR_epoll_wait __NR_epoll_ctl __NR_tgkill __NR_utimes __NR_vserver
        __NR_mbind __NR_set_mempolicy __NR_get_mempolicy __NR_mq_open __NR_mq_unlink __NR_mq_timedsend
        __NR_mq_timedreceive __NR_mq_notify __NR_mq_getsetattr __NR_kexec_load __NR_waitid __NR_add_key __NR_request_key
        __NR_keyctl __NR_ioprio_set __NR_ioprio_get __NR_inotify_init __NR_inotify_add_watch __NR_inotify_rm_watch
        __NR_migrate_pages __NR_openat __NR_mkdirat __NR_mknodat __NR_fchownat __NR_futimesat __NR_newfstatat
        __NR_unlinkat __NR_renameat __NR_linkat __NR_symlinkat __NR_readlinkat __NR_fchmodat __NR_faccessat
        __NR_pselect6 __NR_ppoll __NR_unshare __NR_set_robust_list __NR_get_robust_list __NR_splice __NR_tee
        __NR_sync_file_range __NR_vmsplice __NR_move_pages __NR_utimensat __NR_epoll_pwait __NR_signalfd
        __NR_timerfd_create __NR_eventfd __NR_fallocate __NR_timerfd_settime __NR_timerfd_gettime __NR_accept4
        __NR_signalfd4 __NR_eventfd2 __NR_epoll_create1 __NR_dup3 __NR_pipe2 __NR_inotify_init1 __NR_preadv __NR_pwritev
        __NR_rt_tgsigqueueinfo __NR_perf_event_open __NR_recvmmsg __NR_fanotify_init __NR_fanotify_mark __NR_prlimit64
        __NR_name_to_handle_at __NR_open_by_handle_at __NR_clock_adjtime __NR_syncfs __NR_sendmmsg __NR_setns
        __NR_getcpu __NR_process_vm_readv __NR_process_vm_writev __NR_kcmp __NR_finit_module __NR_sched_setattr
        __NR_sched_getattr __NR_renameat2 __NR_seccomp __NR_getrandom __NR_memfd_create __NR_kexec_file_load __NR_bpf
        __NR_execveat __NR_userfaultfd __NR_membarrier __NR_mlock2 __NR_copy_file_range __NR_preadv2 __NR_pwritev2
        __NR_pkey_mprotect __NR_pkey_alloc __NR_pkey_free __NR_statx __NR_io_pgetevents __NR_rseq __NR_uretprobe
    },
    COMMON,
];
#[cfg(target_arch = "aarch64")]
pub const NATIVE: &[Calls] = &[GENERIC[0], calls! { 38: __NR_renameat }, GENERIC[1], GENERIC[2], COMMON];
#[cfg(target_arch = "riscv64")]
pub const NATIVE: &[Calls] =
    &[GENERIC[0], GENERIC[1], calls! { 258: __NR_riscv_hwprobe __NR_riscv_flush_icache }, GENERIC[2], COMMON];

/// The calls of all architectures that came after the others; include/uapi/asm-generic/unistd.h.
#[cfg(not(target_arch = "x86_64"))]
const GENERIC: [Calls; 3] = [
    calls! { 0:
        __NR_io_setup __NR_io_destroy __NR_io_submit __NR_io_cancel __NR_io_getevents __NR_setxattr __NR_lsetxattr
        __NR_fsetxattr __NR_getxattr __NR_lgetxattr __NR_fgetxattr __NR_listxattr __NR_llistxattr __NR_flistxattr
        __NR_removexattr __NR_lremovexattr __NR_fremovexattr __NR_getcwd __NR_lookup_dcookie __NR_eventfd2
        __NR_epoll_create1 __NR_epoll_ctl __NR_epoll_pwait __NR_dup __NR_dup3 __NR_fcntl __NR_inotify_init1
        __NR_inotify_add_watch __NR_inotify_rm_watch __NR_ioctl __NR_ioprio_set __NR_ioprio_get __NR_flock __NR_mknodat
        __NR_mkdirat __NR_unlinkat __NR_symlinkat __NR_linkat
    },
    calls! { 39:
        __NR_umount2 __NR_mount __NR_pivot_root __NR_nfsservctl __NR_statfs __NR_fstatfs __NR_truncate __NR_ftruncate
        __NR_fallocate __NR_faccessat __NR_chdir __NR_fchdir __NR_chroot __NR_fchmod __NR_fchmodat __NR_fchownat
        __NR_fchown __NR_openat __NR_close __NR_vhangup __NR_pipe2 __NR_quotactl __NR_getdents64 __NR_lseek __NR_read
        __NR_write __NR_readv __NR_writev __NR_pread64 __NR_pwrite64 __NR_preadv __NR_pwritev __NR_sendfile
        __NR_pselect6 __NR_ppoll __NR_signalfd4 __NR_vmsplice __NR_splice __NR_tee __NR_readlinkat __NR_newfstatat
        __NR_fstat __NR_sync __NR_fsync __NR_fdatasync __NR_sync_file_range __NR_timerfd_create __NR_timerfd_settime
        __NR_timerfd_gettime __NR_utimensat __NR_acct __NR_capget __NR_capset __NR_personality __NR_exit __NR_exit_group
        __NR_waitid __NR_set_tid_address __NR_unshare __NR_futex __NR_set_robust_list __NR_get_robust_list
        __NR_nanosleep __NR_getitimer __NR_setitimer __NR_kexec_load __NR_init_module __NR_delete_module
        __NR_timer_create __NR_timer_gettime __NR_timer_getoverrun __NR_timer_settime __NR_timer_delete
        __NR_clock_settime __NR_clock_gettime __NR_clock_getres __NR_clock_nanosleep __NR_syslog __NR_ptrace
        __NR_sched_setparam __NR_sched_setscheduler __NR_sched_getscheduler __NR_sched_getparam __NR_sched_setaffinity
        __NR_sched_getaffinity __NR_sched_yield __NR_sched_get_priority_max __NR_sched_get_priority_min
        __NR_sched_rr_get_interval __NR_restart_syscall __NR_kill __NR_tkill __NR_tgkill __NR_sigaltstack
        __NR_rt_sigsuspend __NR_rt_sigaction __NR_rt_sigprocmask __NR_rt_sigpending __NR_rt_sigtimedwait
        __NR_rt_sigqueueinfo __NR_rt_sigreturn __NR_setpriority __NR_getpriority __NR_reboot __NR_setregid __NR_setgid
        __NR_setreuid __NR_setuid __NR_setresuid __NR_getresuid __NR_setresgid __NR_getresgid __NR_setfsuid
        __NR_setfsgid __NR_times __NR_setpgid __NR_getpgid __NR_getsid __NR_setsid __NR_getgroups __NR_setgroups
        __NR_uname __NR_sethostname __NR_setdomainname __NR_getrlimit __NR_setrlimit __NR_getrusage __NR_umask
        __NR_prctl __NR_getcpu __NR_gettimeofday __NR_settimeofday __NR_adjtimex __NR_getpid __NR_getppid __NR_getuid
        __NR_geteuid __NR_getgid __NR_getegid __NR_gettid __NR_sysinfo __NR_mq_open __NR_mq_unlink __NR_mq_timedsend
        __NR_mq_timedreceive __NR_mq_notify __NR_mq_getsetattr __NR_msgget __NR_msgctl __NR_msgrcv __NR_msgsnd
        __NR_semget __NR_semctl __NR_semtimedop __NR_semop __NR_shmget __NR_shmctl __NR_shmat __NR_shmdt __NR_socket
        __NR_socketpair __NR_bind __NR_listen __NR_accept __NR_connect __NR_getsockname __NR_getpeername __NR_sendto
        __NR_recvfrom __NR_setsockopt __NR_getsockopt __NR_shutdown __NR_sendmsg __NR_recvmsg __NR_readahead __NR_brk
        __NR_munmap __NR_mremap __NR_add_key __NR_request_key __NR_keyctl __NR_clone __NR_execve __NR_mmap
        __NR_fadvise64 __NR_swapon __NR_swapoff __NR_mprotect __NR_msync __NR_mlock __NR_munlock __NR_mlockall
        __NR_munlockall __NR_mincore __NR_madvise __NR_remap_file_pages __NR_mbind __NR_get_mempolicy __NR_set_mempolicy
        __NR_migrate_pages __NR_move_pages __NR_rt_tgsigqueueinfo __NR_perf_event_open __NR_accept4 __NR_recvmmsg
    },
    calls! { 260:
        __NR_wait4 __NR_prlimit64 __NR_fanotify_init __NR_fanotify_mark __NR_name_to_handle_at __NR_open_by_handle_at
        __NR_clock_adjtime __NR_syncfs __NR_setns __NR_sendmmsg __NR_process_vm_readv __NR_process_vm_writev __NR_kcmp
        __NR_finit_module __NR_sched_setattr __NR_sched_getattr __NR_renameat2 __NR_seccomp __NR_getrandom
        __NR_memfd_create __NR_bpf __NR_execveat __NR_userfaultfd __NR_membarrier __NR_mlock2 __NR_copy_file_range
        __NR_preadv2 __NR_pwritev2 __NR_pkey_mprotect __NR_pkey_alloc __NR_pkey_free __NR_statx __NR_io_pgetevents
        __NR_rseq __NR_kexec_file_load
    },
];

/// The calls that have the same number everywhere.
pub const COMMON: Calls = calls! { 424:
    __NR_pidfd_send_signal __NR_io_uring_setup __NR_io_uring_enter __NR_io_uring_register __NR_open_tree
    __NR_move_mount __NR_fsopen __NR_fsconfig __NR_fsmount __NR_fspick __NR_pidfd_open __NR_clone3 __NR_close_range
    __NR_openat2 __NR_pidfd_getfd __NR_faccessat2 __NR_process_madvise __NR_epoll_pwait2 __NR_mount_setattr
    __NR_quotactl_fd __NR_landlock_create_ruleset __NR_landlock_add_rule __NR_landlock_restrict_self
    __NR_memfd_secret __NR_process_mrelease __NR_futex_waitv __NR_set_mempolicy_home_node __NR_cachestat
    __NR_fchmodat2 __NR_map_shadow_stack __NR_futex_wake __NR_futex_wait __NR_futex_requeue __NR_statmount
    __NR_listmount __NR_lsm_get_self_attr __NR_lsm_set_self_attr __NR_lsm_list_modules __NR_mseal __NR_setxattrat
    __NR_getxattrat __NR_listxattrat __NR_removexattrat __NR_open_tree_attr __NR_file_getattr __NR_file_setattr
};

/// The calls of x32 that have a number of their own, all with the bit of x32. The others are [`NATIVE`];
/// arch/x86/entry/syscalls/syscall_64.tbl.
#[cfg(target_arch = "x86_64")]
pub const X32: Calls = Calls {
    first: 512,
    names: "\
    rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace rt_sigpending \
    rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid set_robust_list \
    get_robust_list vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg process_vm_readv \
    process_vm_writev setsockopt getsockopt io_setup io_submit execveat preadv2 pwritev2",
};

/// The calls of i386, before those of [`COMMON`]; arch/x86/entry/syscalls/syscall_32.tbl.
#[cfg(target_arch = "x86_64")]
pub const I386: Calls = Calls {
    first: 0,
    names: "\
    restart_syscall exit fork read write open close waitpid creat link unlink execve chdir time mknod chmod lchown \
    break oldstat lseek getpid mount umount setuid getuid stime ptrace alarm oldfstat pause utime stty gtty access \
    nice ftime sync kill rename mkdir rmdir dup pipe times prof brk setgid getgid signal geteuid getegid acct \
    umount2 lock ioctl fcntl mpx setpgid ulimit oldolduname umask chroot ustat dup2 getppid getpgrp setsid sigaction \
    sgetmask ssetmask setreuid setregid sigsuspend sigpending sethostname setrlimit getrlimit getrusage gettimeofday \
    settimeofday getgroups setgroups select symlink oldlstat readlink uselib swapon reboot readdir mmap munmap \
    truncate ftruncate fchmod fchown getpriority setpriority profil statfs fstatfs ioperm socketcall syslog \
    setitimer getitimer stat lstat fstat olduname iopl vhangup idle vm86old wait4 swapoff sysinfo ipc fsync \
    sigreturn clone setdomainname uname modify_ldt adjtimex mprotect sigprocmask create_module init_module \
    delete_module get_kernel_syms quotactl getpgid fchdir bdflush sysfs personality afs_syscall setfsuid setfsgid \
    _llseek getdents _newselect flock msync readv writev getsid fdatasync _sysctl mlock munlock mlockall munlockall \
    sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_yield sched_get_priority_max \
    sched_get_priority_min sched_rr_get_interval nanosleep mremap setresuid getresuid vm86 query_module poll \
    nfsservctl setresgid getresgid prctl rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait \
    rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 chown getcwd capget capset sigaltstack sendfile getpmsg putpmsg \
    vfork ugetrlimit mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32 \
    getegid32 setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 \
    chown32 setuid32 setgid32 setfsuid32 setfsgid32 pivot_root mincore madvise getdents64 fcntl64 - - gettid \
    readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr \
    lremovexattr fremovexattr tkill sendfile64 futex sched_setaffinity sched_getaffinity set_thread_area \
    get_thread_area io_setup io_destroy io_getevents io_submit io_cancel fadvise64 - exit_group lookup_dcookie \
    epoll_create epoll_ctl epoll_wait remap_file_pages set_tid_address timer_create timer_settime timer_gettime \
    timer_getoverrun timer_delete clock_settime clock_gettime clock_getres clock_nanosleep statfs64 fstatfs64 tgkill \
    utimes fadvise64_64 vserver mbind get_mempolicy set_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive \
    mq_notify mq_getsetattr kexec_load waitid - add_key request_key keyctl ioprio_set ioprio_get inotify_init \
    inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat fstatat64 unlinkat \
    renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list get_robust_list \
    splice sync_file_range tee vmsplice move_pages getcpu epoll_pwait utimensat signalfd timerfd_create eventfd \
    fallocate timerfd_settime timerfd_gettime signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv \
    pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at \
    open_by_handle_at clock_adjtime syncfs sendmmsg setns process_vm_readv process_vm_writev kcmp finit_module \
    sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create bpf execveat socket socketpair bind connect \
    listen accept4 getsockopt setsockopt getsockname getpeername sendto sendmsg recvfrom recvmsg shutdown \
    userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx \
    arch_prctl io_pgetevents rseq - - - - - - semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl \
    clock_gettime64 clock_settime64 clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 timer_gettime64 \
    timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64 - \
    io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64 \
    rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64",
};

/// Calls of i386 that are made by another one, too, whose first argument says which: its name, and from 1 on those that
/// it makes; linux/net.h, linux/ipc.h.
#[cfg(target_arch = "x86_64")]
pub const MULTIPLEXED: [(&str, &str); 2] = [
    (
        "socketcall",
        "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown \
         setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg",
    ),
    (
        "ipc",
        "semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - - shmat shmdt shmget shmctl",
    ),
];
