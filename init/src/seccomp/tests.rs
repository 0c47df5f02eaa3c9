//! The filter, run in an evaluator of classic BPF.

extern crate std;
use super::*;
use kontena_init::bpf::evaluate::{Call, evaluate};

const KILL: u32 = SECCOMP_RET_KILL_PROCESS;
const NO_CAPABILITIES: u64 = 0;
const ALL_CAPABILITIES: u64 = u64::MAX;

/// Runs a filter on a call.
fn run(filter: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    evaluate(filter, Call { arch, number, arguments }).0
}

/// The verdict on a call of this architecture.
fn verdict(capabilities: u64, call: u32, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    run(&filter(capabilities), ARCH, call, all)
}

fn bit(capability: u32) -> u64 {
    1 << capability
}

#[test]
fn listed_calls_are_allowed_whatever_their_arguments() {
    for call in ALLOWED.iter().chain(ALLOWED_HERE) {
        for arguments in [[0; 6], [u64::MAX; 6]] {
            assert_eq!(run(&filter(NO_CAPABILITIES), ARCH, *call, arguments), ALLOW, "call {call}");
        }
    }
}

#[test]
fn refused_calls_are_refused_to_every_capability() {
    for call in REFUSED.iter().chain(REFUSED_HERE) {
        assert_eq!(verdict(NO_CAPABILITIES, *call, &[]), errno(EPERM), "call {call}");
        assert_eq!(verdict(ALL_CAPABILITIES, *call, &[]), errno(EPERM), "call {call}");
    }
}

#[test]
fn all_other_numbers_are_unknown_calls() {
    let lists = [ALLOWED, ALLOWED_HERE, REFUSED, REFUSED_HERE, &[__NR_clone3]];
    let privileged = PRIVILEGED.iter().map(|(_, calls)| *calls);
    let checked = |number| CHECKED.iter().any(|check| check.call == number);
    let is_listed = |number| lists.into_iter().chain(privileged.clone()).any(|list| list.contains(&number));
    let unlisted = (0..2 * NUMBERS as u32).filter(|number| !checked(*number) && !is_listed(*number));
    let numbers = unlisted.chain([0x3fff_ffff, 0x8000_0000, u32::MAX]);
    let mut count = 0;
    for number in numbers {
        assert_eq!(verdict(ALL_CAPABILITIES, number, &[]), errno(ENOSYS), "call {number}");
        count += 1;
    }
    assert!(count > 500, "{count}");
}

#[test]
fn capability_brings_its_calls_and_no_others() {
    for (capability, calls) in PRIVILEGED {
        for call in *calls {
            assert_eq!(verdict(bit(*capability), *call, &[]), ALLOW, "call {call}");
            assert_eq!(verdict(NO_CAPABILITIES, *call, &[]), errno(EPERM), "call {call}");
            let implies =
                if matches!(*capability, CAP_BPF | CAP_PERFMON | CAP_SYSLOG) { bit(CAP_SYS_ADMIN) } else { 0 };
            let others = ALL_CAPABILITIES & !bit(*capability);
            assert_eq!(verdict(others & !implies, *call, &[]), errno(EPERM), "call {call}");
            // CAP_SYS_ADMIN is worth three others.
            let expected = if implies != 0 { ALLOW } else { errno(EPERM) };
            assert_eq!(verdict(others, *call, &[]), expected, "call {call}");
        }
    }
}

#[test]
fn calls_of_another_architecture_kill() {
    for arch in [AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64, AUDIT_ARCH_RISCV64, AUDIT_ARCH_I386, AUDIT_ARCH_ARM, 0] {
        for call in [__NR_read, __NR_exit_group, 0, u32::MAX] {
            let verdict = run(&filter(ALL_CAPABILITIES), arch, call, [0; 6]);
            assert_eq!(verdict == KILL, arch != ARCH, "arch {arch:#x}, call {call}");
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_x32_kill() {
    for call in [0, 1, 59, 511, 520, 547, 0x3fff_ffff] {
        assert_eq!(verdict(ALL_CAPABILITIES, X32 + call, &[]), KILL, "call {call}");
    }
    // Beyond them there is nothing to kill for.
    assert_eq!(verdict(ALL_CAPABILITIES, 2 * X32, &[]), errno(ENOSYS));
    // (u32)-1 is no call, and skips one when a tracer sets it; seccomp(2).
    assert_eq!(verdict(ALL_CAPABILITIES, u32::MAX, &[]), errno(ENOSYS));
}

#[test]
fn namespaces_take_cap_sys_admin() {
    for flag in [CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET] {
        for others in [0, u64::from(CLONE_VM | CLONE_FILES | 17)] {
            let flags = u64::from(flag) | others;
            assert_eq!(verdict(NO_CAPABILITIES, __NR_clone, &[flags]), errno(EPERM), "{flags:#x}");
            assert_eq!(verdict(bit(CAP_SYS_ADMIN), __NR_clone, &[flags]), ALLOW, "{flags:#x}");
        }
    }
    let thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS;
    for harmless in [0, 17, u64::from(thread), 1 << 32] {
        assert_eq!(verdict(NO_CAPABILITIES, __NR_clone, &[harmless]), ALLOW, "{harmless:#x}");
    }
    // Its arguments cannot be read: a C library must fall back to clone.
    assert_eq!(verdict(NO_CAPABILITIES, __NR_clone3, &[]), errno(ENOSYS));
    assert_eq!(verdict(bit(CAP_SYS_ADMIN), __NR_clone3, &[]), ALLOW);
    for call in [__NR_unshare, __NR_setns] {
        assert_eq!(verdict(NO_CAPABILITIES, call, &[0]), errno(EPERM));
        assert_eq!(verdict(bit(CAP_SYS_ADMIN), call, &[0]), ALLOW);
    }
}

#[test]
fn socket_families_that_reach_past_namespaces_are_refused() {
    for family in [AF_ALG, AF_VSOCK] {
        for high in [0, 1 << 32] {
            let family = u64::from(family) | high;
            assert_eq!(verdict(ALL_CAPABILITIES, __NR_socket, &[family]), errno(EAFNOSUPPORT), "{family:#x}");
        }
    }
    for family in [1, 2, 10, 17, 0, 100] {
        assert_eq!(verdict(NO_CAPABILITIES, __NR_socket, &[family, 1, 9]), ALLOW, "{family}");
    }
    let netlink = |protocol: u32| [AF_NETLINK.into(), 3, protocol.into()];
    assert_eq!(verdict(NO_CAPABILITIES, __NR_socket, &netlink(0)), ALLOW);
    assert_eq!(verdict(NO_CAPABILITIES, __NR_socket, &netlink(NETLINK_AUDIT)), errno(EINVAL));
    assert_eq!(verdict(bit(CAP_AUDIT_WRITE), __NR_socket, &netlink(NETLINK_AUDIT)), ALLOW);
}

#[test]
fn terminals_and_personalities_are_checked_by_an_argument() {
    for (request, expected) in [(TIOCSTI, errno(EPERM)), (TIOCLINUX, errno(EPERM)), (0x5401, ALLOW)] {
        for high in [0, 7 << 32] {
            let request = u64::from(request) | high;
            assert_eq!(verdict(ALL_CAPABILITIES, __NR_ioctl, &[0, request]), expected, "{request:#x}");
        }
    }
    for personality in [0, 8, 0x2_0000, 0x2_0008, u32::MAX] {
        assert_eq!(verdict(NO_CAPABILITIES, __NR_personality, &[personality.into()]), ALLOW, "{personality:#x}");
    }
    for personality in [0x0004_0000, 0x0010_0000, 6, 9] {
        let verdict = verdict(ALL_CAPABILITIES, __NR_personality, &[personality]);
        assert_eq!(verdict, errno(EPERM), "{personality:#x}");
    }
}

#[test]
fn installed_filter_has_no_placeholder_left() {
    for capabilities in [NO_CAPABILITIES, ALL_CAPABILITIES, bit(CAP_BPF)] {
        let returns = filter(capabilities).into_iter().filter(|step| u32::from(step.code) == BPF_RET | BPF_K);
        for sock_filter { k, .. } in returns {
            assert!(matches!(k & 0xffff_0000, ALLOW | SECCOMP_RET_ERRNO | KILL), "{k:#x}");
        }
    }
}

#[test]
fn filter_of_keys_refuses_those_of_every_architecture_and_nothing_else() {
    let verdict = |arch, call| run(&KEYS, arch, call, [0; 6]);
    for place in 0..3 {
        assert_eq!(verdict(ARCH, __NR_add_key + place), errno(ENOSYS));
        assert_eq!(verdict(COMPAT.0, COMPAT.1 + place), errno(ENOSYS));
        if cfg!(target_arch = "x86_64") {
            assert_eq!(verdict(ARCH, X32 + __NR_add_key + place), errno(ENOSYS));
        }
    }
    assert_eq!([__NR_request_key, __NR_keyctl], [__NR_add_key + 1, __NR_add_key + 2]);
    for arch in [ARCH, COMPAT.0] {
        let keys = if arch == ARCH { __NR_add_key } else { COMPAT.1 };
        for call in (0..NUMBERS as u32).filter(|call| !(keys..keys + 3).contains(call)) {
            assert_eq!(verdict(arch, call), ALLOW, "arch {arch:#x}, call {call}");
        }
    }
}
