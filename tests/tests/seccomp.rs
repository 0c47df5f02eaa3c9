//! The filter of system calls: what it lets through, what it refuses and with which errno, and whom it kills.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc::{self, c_long};
use tests::Host;

/// Makes one system call in a container, and returns the result.
fn call(host: &Host, options: &[&str], number: c_long, arguments: &[i64]) -> String {
    let numbers: Vec<String> = [number].iter().chain(arguments).map(i64::to_string).collect();
    let mut words = vec!["call"];
    words.extend(numbers.iter().map(String::as_str));
    let out = host.intrude(options, &words).run().ok();
    out.split(':').next().unwrap().trim().to_owned()
}

const UNCONFINED: [&str; 2] = ["--seccomp", "unconfined"];
const NOWHERE: i64 = -1;

#[test]
fn filter_is_installed_unless_unconfined() {
    let host = Host::new();
    let status = |options: &[&str]| host.sh(options, "grep ^Seccomp: /proc/self/status").run().ok();
    assert_eq!(status(&[]), "Seccomp:\t2\n");
    assert_eq!(status(&["-u", "33"]), "Seccomp:\t2\n");
    // Root's user keyring is that of all containers without a user namespace: this one filter stays, with three calls.
    assert_eq!(status(&UNCONFINED), "Seccomp:\t2\n");
    assert_eq!(call(&host, &UNCONFINED, libc::SYS_keyctl, &[NOWHERE; 5]), "ENOSYS");
}

#[test]
fn socket_families_that_reach_past_namespaces_are_refused() {
    // CVE-2026-31431: AF_ALG
    let host = Host::new();
    let socket =
        |options: &[&str], family: i32, kind: i64| call(&host, options, libc::SYS_socket, &[family.into(), kind, 0]);
    for family in [libc::AF_ALG, libc::AF_VSOCK] {
        assert_eq!(socket(&[], family, 5), "EAFNOSUPPORT", "{family}");
        // The kernel takes 32 bits of it, and so must the filter.
        let wide = call(&host, &[], libc::SYS_socket, &[i64::from(family) | 1 << 32, 5, 0]);
        assert_eq!(wide, "EAFNOSUPPORT", "{family}");
    }
    let audit = [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), libc::NETLINK_AUDIT.into()];
    assert_eq!(call(&host, &[], libc::SYS_socket, &audit), "EINVAL");
    assert_eq!(call(&host, &["--cap-add", "AUDIT_WRITE"], libc::SYS_socket, &audit), "ok");
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_NETLINK] {
        assert_eq!(socket(&[], family, if family == libc::AF_NETLINK { 3 } else { 1 }), "ok", "{family}");
    }
}

#[test]
fn namespaces_cannot_be_created_by_any_call() {
    let host = Host::new();
    let admin = ["--cap-add", "SYS_ADMIN"];
    let new = [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID, libc::CLONE_NEWUTS];
    for flag in new.map(i64::from) {
        assert_eq!(call(&host, &[], libc::SYS_unshare, &[flag]), "EPERM");
        assert_eq!(call(&host, &[], libc::SYS_clone, &[flag | i64::from(libc::SIGCHLD)]), "EPERM");
        assert_eq!(
            call(&host, &[], libc::SYS_clone, &[flag | 1 << 40]),
            "EPERM",
            "with more bits than the kernel takes"
        );
    }
    assert_eq!(call(&host, &[], libc::SYS_setns, &[0, 0]), "EPERM");
    // So that a C library falls back to clone, whose flags can be looked at.
    assert_eq!(call(&host, &[], libc::SYS_clone3, &[0, 0]), "ENOSYS");
    assert_eq!(call(&host, &admin, libc::SYS_clone3, &[0, 0]), "EINVAL");
    assert_eq!(call(&host, &admin, libc::SYS_unshare, &[libc::CLONE_NEWUTS.into()]), "ok");
    assert_eq!(host.sh(&[], "true & wait $!; echo forked").run().ok(), "forked\n");
}

#[test]
fn calls_that_escape_are_refused() {
    let host = Host::new();
    let all = [
        libc::SYS_add_key,
        libc::SYS_keyctl,
        libc::SYS_request_key,
        libc::SYS_io_uring_setup,
        libc::SYS_kexec_load,
        libc::SYS_userfaultfd,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_open_by_handle_at,
        libc::SYS_mount,
        libc::SYS_fsopen,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_pivot_root,
        libc::SYS_swapon,
        libc::SYS_reboot,
        libc::SYS_acct,
        libc::SYS_settimeofday,
        libc::SYS_syslog,
        libc::SYS_quotactl,
        libc::SYS_vhangup,
        libc::SYS_kcmp,
    ];
    for number in all {
        let arguments = [NOWHERE; 5];
        assert_eq!(call(&host, &[], number, &arguments), "EPERM", "call {number}");
    }
    // It is the filter that refuses: without it, some only see that the arguments make no sense.
    for number in [libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_userfaultfd, libc::SYS_kcmp] {
        assert_ne!(call(&host, &UNCONFINED, number, &[NOWHERE; 5]), "EPERM", "call {number}");
    }
}

#[test]
fn unknown_calls_do_not_exist() {
    let host = Host::new();
    for number in [500, 511, 512, 9999, 0x3fff_ffff] {
        assert_eq!(call(&host, &[], number, &[]), "ENOSYS", "call {number}");
    }
}

#[test]
fn capability_allows_its_calls() {
    let host = Host::new();
    for (capability, number) in [
        ("SYS_CHROOT", libc::SYS_chroot),
        ("SYS_ADMIN", libc::SYS_mount),
        ("SYS_ADMIN", libc::SYS_bpf),
        ("SYS_ADMIN", libc::SYS_perf_event_open),
        ("DAC_READ_SEARCH", libc::SYS_open_by_handle_at),
        ("SYS_PTRACE", libc::SYS_kcmp),
        ("SYS_NICE", libc::SYS_mbind),
        ("SYS_TIME", libc::SYS_clock_settime),
    ] {
        let with = call(&host, &["--cap-add", capability], number, &[NOWHERE; 6]);
        let without = call(&host, &["--cap-drop", capability], number, &[NOWHERE; 6]);
        assert_ne!(with, "EPERM", "{capability}");
        assert_eq!(without, "EPERM", "{capability}");
    }
}

#[test]
fn terminal_of_the_caller_cannot_be_typed_into() {
    // CVE-2017-5226
    let host = Host::new();
    for operation in [libc::TIOCSTI as i64, libc::TIOCLINUX as i64] {
        assert_eq!(call(&host, &[], libc::SYS_ioctl, &[0, operation, 0]), "EPERM");
        assert_eq!(call(&host, &[], libc::SYS_ioctl, &[0, operation | 1 << 32, 0]), "EPERM");
        assert_ne!(call(&host, &UNCONFINED, libc::SYS_ioctl, &[0, operation, 0]), "EPERM");
    }
    assert_eq!(call(&host, &[], libc::SYS_ioctl, &[0, libc::TCGETS as i64, 0]), "ENOTTY");
}

#[test]
fn only_usual_personalities_are_allowed() {
    let host = Host::new();
    for (persona, expected) in [(0, "ok"), (8, "ok"), (0xffff_ffff, "ok"), (0x004_0000, "EPERM"), (0x040_0000, "EPERM")]
    {
        assert_eq!(call(&host, &[], libc::SYS_personality, &[persona]), expected, "{persona:x}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_another_architecture_kill() {
    let host = Host::new();
    for which in ["int80", "x32"] {
        let out = host.intrude(&[], &["foreign", which]).run().code(128 + libc::SIGSYS);
        assert!(out.stderr.contains("32-bit") && out.stderr.contains("--seccomp unconfined"), "{out}");
        // It is the filter that kills: else the kernel has it, or says that it has not.
        let _ = host.intrude(&UNCONFINED, &["foreign", which]).run().ok();
    }
}

#[test]
fn setuid_programs_are_confined() {
    let host = Host::new();
    let options = ["--security-opt", "no-new-privileges=false", "-u", "33"];
    let out = host.sh(&options, "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status").run().ok();
    assert_eq!(out, "NoNewPrivs:\t0\nSeccomp:\t2\n");
}
