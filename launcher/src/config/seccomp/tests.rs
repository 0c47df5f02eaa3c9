//! Profiles, compiled and run in the evaluator of the init's own filter.

use super::*;
use evaluate::{Call, evaluate};
use linux_raw_sys::general::*;

#[path = "../../../../init/src/bpf/evaluate.rs"]
#[allow(clippy::expect_used)]
mod evaluate;

const ALLOW: u32 = SECCOMP_RET_ALLOW;
const ENOSYS: u32 = errno(38);
const EPERM: u32 = errno(1);
const KILLED: u32 = SECCOMP_RET_KILL_PROCESS;
const X32: u32 = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = AUDIT_ARCH_X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = AUDIT_ARCH_AARCH64;
#[cfg(target_arch = "riscv64")]
const NATIVE: u32 = AUDIT_ARCH_RISCV64;

const fn errno(errno: u32) -> u32 {
    SECCOMP_RET_ERRNO | errno
}

/// The instructions of a profile's filter.
fn read(text: &str, conditions: &Conditions<'_>) -> Read<Vec<sock_filter>> {
    let value = read::parse(text.as_bytes())?;
    let filter = profile(Node::root(&value), conditions)?;
    Ok(instructions(&filter.code))
}

fn instructions(code: &[u8]) -> Vec<sock_filter> {
    let step = |bytes: &[u8]| {
        let [c, d, jt, jf, k @ ..]: [u8; 8] = bytes.try_into().unwrap();
        sock_filter { code: u16::from_le_bytes([c, d]), jt, jf, k: u32::from_le_bytes(k) }
    };
    code.chunks(8).map(step).collect()
}

const NONE: Conditions<'_> = Conditions { capabilities: 0, kernel: "6.1.0-9-amd64" };

fn verdict(filter: &[sock_filter], arch: u32, number: u32, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    evaluate(filter, Call { arch, number, arguments: all }).0
}

/// The verdict of a profile with these members on a call of this architecture.
fn judge(members: &str, number: u32, arguments: &[u64]) -> u32 {
    verdict(&read(&format!("{{{members}}}"), &NONE).unwrap(), NATIVE, number, arguments)
}

#[test]
fn actions_have_their_errno() {
    for (action, expected) in [
        (r#""action": "SCMP_ACT_ALLOW""#, ALLOW),
        (r#""action": "SCMP_ACT_ERRNO""#, EPERM),
        (r#""action": "SCMP_ACT_ERRNO", "errnoRet": null"#, EPERM),
        (r#""action": "SCMP_ACT_ERRNO", "errnoRet": 95"#, errno(95)),
        (r#""action": "SCMP_ACT_ERRNO", "errnoRet": 0"#, errno(0)),
        (r#""action": "SCMP_ACT_KILL""#, SECCOMP_RET_KILL_THREAD),
        (r#""action": "SCMP_ACT_KILL_THREAD", "errnoRet": null"#, SECCOMP_RET_KILL_THREAD),
        (r#""action": "SCMP_ACT_KILL_PROCESS""#, KILLED),
        (r#""action": "SCMP_ACT_TRAP""#, SECCOMP_RET_TRAP),
        (r#""action": "SCMP_ACT_TRACE""#, SECCOMP_RET_TRACE | 1),
        (r#""action": "SCMP_ACT_TRACE", "errnoRet": 65535"#, SECCOMP_RET_TRACE | 0xffff),
        (r#""action": "SCMP_ACT_LOG""#, SECCOMP_RET_LOG),
    ] {
        let default = action.replace("action", "defaultAction").replace("errnoRet", "defaultErrnoRet");
        assert_eq!(judge(&default, __NR_read, &[]), expected, "{default}");
        let rule = format!(
            r#""defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 7, "syscalls": [{{"names": ["read"], {action}}}]"#
        );
        assert_eq!(judge(&rule, __NR_read, &[]), expected, "{rule}");
        assert_eq!(judge(&rule, __NR_write, &[]), ENOSYS.max(errno(7)), "{rule}");
    }
}

#[test]
fn newer_calls_than_those_of_the_profile_are_unknown_unless_they_are_permitted() {
    for (default, newer) in [
        ("ERRNO", ENOSYS),
        ("KILL", ENOSYS),
        ("TRAP", ENOSYS),
        ("ALLOW", ALLOW),
        ("LOG", SECCOMP_RET_LOG),
        ("TRACE", SECCOMP_RET_TRACE | 1),
    ] {
        let action = if default == "ALLOW" { "ERRNO" } else { "ALLOW" };
        let profile = format!(
            r#""defaultAction": "SCMP_ACT_{default}",
               "syscalls": [{{"names": ["openat2", "nosuch", "read"], "action": "SCMP_ACT_{action}"}}]"#
        );
        for number in [__NR_openat2 + 1, __NR_file_setattr, 600, 0x3fff_ffff, 0x8000_0000, u32::MAX] {
            assert_eq!(judge(&profile, number, &[]), newer, "{default}, call {number}");
        }
        let older = judge(&format!(r#""defaultAction": "SCMP_ACT_{default}""#), __NR_openat2, &[]);
        assert_eq!(judge(&profile, __NR_openat2 - 1, &[]), older, "{default}");
    }
}

#[test]
fn rule_without_conditions_counts_wherever_it_stands() {
    let rule = |action: &str, args: &str| {
        format!(r#"{{"names": ["personality"], "action": "SCMP_ACT_{action}", "args": [{args}]}}"#)
    };
    let eight = r#"{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}"#;
    for (rules, with, without) in [
        ([rule("ALLOW", eight), rule("TRAP", eight)], ALLOW, EPERM),
        ([rule("TRAP", eight), rule("ALLOW", "")], ALLOW, ALLOW),
        ([rule("ALLOW", ""), rule("TRAP", eight)], ALLOW, ALLOW),
        ([rule("ALLOW", ""), rule("TRAP", "")], ALLOW, ALLOW),
        // What is the default anyway decides nothing.
        ([rule("ERRNO", ""), rule("ALLOW", eight)], ALLOW, EPERM),
        ([rule("ERRNO", eight), rule("ALLOW", "")], ALLOW, ALLOW),
    ] {
        let profile = format!(r#""defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{}]"#, rules.join(","));
        assert_eq!(judge(&profile, __NR_personality, &[8]), with, "{profile}");
        assert_eq!(judge(&profile, __NR_personality, &[9]), without, "{profile}");
    }
}

/// A comparison as libseccomp's manual has it, of 64 bits.
fn holds(op: &str, argument: u64, value: u64, second: u64) -> bool {
    match op {
        "NE" => argument != value,
        "EQ" => argument == value,
        "LT" => argument < value,
        "LE" => argument <= value,
        "GE" => argument >= value,
        "GT" => argument > value,
        _ => argument & value == second & value,
    }
}

#[test]
fn random_rules_mean_what_they_say() {
    const OPS: [&str; 7] = ["NE", "EQ", "LT", "LE", "GE", "GT", "MASKED_EQ"];
    const VALUES: [u64; 9] = [0, 1, 2, 8, 0xffff_ffff, 1 << 32, 1 << 32 | 1, 1 << 63, u64::MAX];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    };
    for _ in 0..300 {
        // Several conditions on one argument are several rules.
        let mut rules = Vec::new();
        for _ in 0..1 + random(5) {
            let shares = random(8) == 0;
            let action = 1 + random(90) as u32;
            let condition = |index| (index, OPS[random(7)], VALUES[random(9)], VALUES[random(9)]);
            let count = 1 + rules.len() % 3;
            let conditions: Vec<_> = (0..count).map(|index| if shares { 0 } else { index }).map(condition).collect();
            rules.push((action, conditions));
        }
        let entries = rules.iter().map(|(action, conditions)| {
            let args = conditions.iter().map(|(index, op, value, second)| {
                format!(r#"{{"index":{index},"op":"SCMP_CMP_{op}","value":{value},"valueTwo":{second}}}"#)
            });
            let args = args.collect::<Vec<_>>().join(",");
            format!(r#"{{"names":["personality"],"action":"SCMP_ACT_ERRNO","errnoRet":{action},"args":[{args}]}}"#)
        });
        let entries = entries.collect::<Vec<_>>().join(",");
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{entries}]}}"#);
        let filter = read(&text, &NONE).unwrap();
        for _ in 0..400 {
            let arguments = [0; 3].map(|_: u64| VALUES[random(9)].wrapping_add(random(3) as u64).wrapping_sub(1));
            let is_true =
                |(index, op, value, second): &(usize, &str, u64, u64)| holds(op, arguments[*index], *value, *second);
            let first = rules.iter().find(|(_, conditions)| match conditions[..] {
                [(0, ..), (0, ..), ..] => conditions.iter().any(is_true),
                _ => conditions.iter().all(is_true),
            });
            let expected = first.map_or(ALLOW, |(action, _)| errno(*action));
            assert_eq!(verdict(&filter, NATIVE, __NR_personality, &arguments), expected, "{arguments:x?} {text}");
        }
    }
}

#[test]
fn entries_are_for_capabilities_architectures_and_kernels() {
    let held = Conditions { capabilities: 1 << CAP_SYS_ADMIN | 1 << CAP_BPF, kernel: "5.10.0+" };
    let (arch, other) = (ARCH.1, "s390x");
    for (conditions, applies) in [
        ("".into(), true),
        (r#""includes": {}, "excludes": {}"#.into(), true),
        (r#""includes": null"#.into(), true),
        (r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#.into(), true),
        (r#""includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#.into(), true),
        (r#""includes": {"caps": ["CAP_SYS_ADMIN", "CAP_KILL"]}"#.into(), false),
        (r#""includes": {"caps": ["CAP_NOT_YET_KNOWN"]}"#.into(), false),
        (r#""includes": {"caps": ["ALL"]}"#.into(), false),
        (r#""excludes": {"caps": ["CAP_SYS_ADMIN"]}"#.into(), false),
        (r#""excludes": {"caps": ["CAP_KILL", "CAP_BPF"]}"#.into(), false),
        (r#""excludes": {"caps": ["CAP_KILL", "CAP_NOT_YET_KNOWN"]}"#.into(), true),
        (format!(r#""includes": {{"arches": ["{other}", "{arch}"]}}"#), true),
        (format!(r#""includes": {{"arches": ["{other}"]}}"#), false),
        (format!(r#""includes": {{"arches": ["{arch}"], "caps": ["CAP_KILL"]}}"#), false),
        (format!(r#""excludes": {{"arches": ["{other}", "{arch}"]}}"#), false),
        (format!(r#""excludes": {{"arches": ["{other}"]}}"#), true),
        (r#""includes": {"minKernel": "5.10"}"#.into(), true),
        (r#""includes": {"minKernel": "4.99"}"#.into(), true),
        (r#""includes": {"minKernel": "5.11"}"#.into(), false),
        (r#""includes": {"minKernel": "6.1"}"#.into(), false),
        (r#""excludes": {"minKernel": "5.9"}"#.into(), false),
        (r#""excludes": {"minKernel": "5.11"}"#.into(), true),
        (r#""includes": {"caps": ["CAP_BPF"]}, "excludes": {"caps": ["CAP_SYS_ADMIN"]}"#.into(), false),
    ] as [(String, bool); 23]
    {
        let comma = if conditions.is_empty() { "" } else { "," };
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{{"name": "read", "action": "SCMP_ACT_ALLOW"{comma} {conditions}}}]}}"#
        );
        let expected = if applies { ALLOW } else { EPERM };
        assert_eq!(verdict(&read(&text, &held).unwrap(), NATIVE, __NR_read, &[]), expected, "{conditions}");
    }
}

const ACTION: &str =
    "unknown: use SCMP_ACT_ and one of ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG NOTIFY TRACE TRAP";
const NO_ERRNO: &str = "the action has no errno: remove it";
const OP: &str = "unknown: use SCMP_CMP_ and one of NE LT LE EQ GE GT MASKED_EQ";
const FLAG: &str = "unknown: use SECCOMP_FILTER_FLAG_ and one of LOG SPEC_ALLOW TSYNC WAIT_KILLABLE_RECV";

/// Members of a profile, the path of the mistake in them, and what it is.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("", "defaultAction", "missing: expected a string"),
    (r#""defaultAction": 7"#, "defaultAction", "expected a string"),
    (r#""defaultAction": "ALLOW""#, "defaultAction", ACTION),
    (r#""defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536"#, "defaultErrnoRet", "the number is out of range"),
    (r#"D, "syscalls": {}"#, "syscalls", "expected an array"),
    (r#"D, "architectures": ["x86_64"]"#, "architectures[0]", "unknown: use one of SCMP_ARCH_*"),
    (r#"D, "archMap": [{}]"#, "archMap[0].architecture", "missing: expected a string"),
    (r#"D, "flags": ["NEW"]"#, "flags[0]", FLAG),
    (
        r#""defaultAction": "SCMP_ACT_NOTIFY""#,
        "defaultAction",
        "every call would wait for the listener: notify some by name",
    ),
    (r#"D, "defaultErrnoRet": 38"#, "defaultErrnoRet", NO_ERRNO),
];

/// The same for a rule.
const WRONG_RULES: &[(&str, &str, &str)] = &[
    (r#""names": ["a"]"#, "action", "missing: expected a string"),
    (r#""names": ["a"], "action": "SCMP_ACT_X""#, "action", ACTION),
    (r#""names": ["a"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1"#, "errnoRet", NO_ERRNO),
    (r#""names": ["a"], "action": "SCMP_ACT_KILL_PROCESS", "errnoRet": 0"#, "errnoRet", NO_ERRNO),
    (r#""names": ["a"], "action": "SCMP_ACT_NOTIFY", "errnoRet": 1"#, "errnoRet", NO_ERRNO),
    (
        r#""names": ["a", "sendmsg"], "action": "SCMP_ACT_NOTIFY""#,
        "names[1]",
        "the listener itself is handed over by this call: do not notify it",
    ),
    (r#""names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1"#, "errnoRet", "the number is out of range"),
    (r#""action": "SCMP_ACT_LOG""#, "names", "missing: expected an array of names"),
    (r#""action": "SCMP_ACT_LOG", "names": "a""#, "names", "expected an array"),
    (r#""action": "SCMP_ACT_LOG", "names": ["a", 1]"#, "names[1]", "expected a string"),
    (r#""includes": {"caps": "a"}"#, "includes.caps", "expected an array"),
    (r#""excludes": {"minKernel": "new"}"#, "excludes.minKernel", "expected a version, for example 5.4"),
];

/// The same for a condition.
const WRONG_CONDITIONS: &[(&str, &str, &str)] = &[
    (r#""op": "SCMP_CMP_EQ", "value": 0"#, "index", "missing: expected a number"),
    (r#""op": "SCMP_CMP_EQ", "value": 0, "index": 6"#, "index", "use 0 to 5"),
    (r#""op": "==", "value": 0, "index": 0"#, "op", OP),
    (r#""op": "SCMP_CMP_EQ", "index": 0"#, "value", "missing: expected a number"),
    (r#""op": "SCMP_CMP_EQ", "value": 18446744073709551616, "index": 0"#, "value", "the number is out of range"),
    (r#""op": "SCMP_CMP_EQ", "value": 1e3, "index": 0"#, "value", "write it without . and e"),
    (r#""op": "SCMP_CMP_MASKED_EQ", "value": 1, "valueTwo": "1", "index": 0"#, "valueTwo", "expected a number"),
];

#[test]
fn filter_that_notifies_has_a_listener_and_all_flags() {
    let filter = |action: &str, args: &str| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW",
                "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "syscalls": [{{"names": ["chroot", "nosuch"], "action": "{action}", "args": [{args}]}}]}}"#
        );
        let value = read::parse(text.as_bytes()).unwrap();
        profile(Node::root(&value), &NONE).unwrap()
    };
    let both = SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let refusing = filter("SCMP_ACT_ERRNO", "");
    assert_eq!((refusing.flags, notifies(&refusing)), (both, false));
    let notifying = filter("SCMP_ACT_NOTIFY", "");
    let listener = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    assert_eq!((notifying.flags, notifies(&notifying)), (both | listener, true));
    let with_argument = filter("SCMP_ACT_NOTIFY", r#"{"index": 0, "op": "SCMP_CMP_EQ", "value": 7}"#);
    let steps = instructions(&with_argument.code);
    for (argument, expected) in [(7, SECCOMP_RET_USER_NOTIF), (8, ALLOW)] {
        assert_eq!(verdict(&steps, NATIVE, __NR_chroot, &[argument]), expected);
    }
}

#[test]
fn mistakes_are_reported_with_their_path() {
    let refused = |members: &str, error: String| {
        let text = format!("{{{}}}", members.replace("D,", r#""defaultAction": "SCMP_ACT_ALLOW","#));
        assert_eq!(read(&text, &NONE).map(|_| ()), Err(error), "{text}");
    };
    let in_rule = |rule: &str, error: String| {
        let good = r#"{"names": ["read"], "action": "SCMP_ACT_LOG"}"#;
        refused(&format!(r#"D, "syscalls": [{good}, {{{rule}}}]"#), format!("syscalls[1].{error}"));
    };
    for (members, path, hint) in MISTAKES {
        refused(members, format!("{path}: {hint}"));
    }
    for (rule, path, hint) in WRONG_RULES {
        in_rule(rule, format!("{path}: {hint}"));
    }
    for (condition, path, hint) in WRONG_CONDITIONS {
        let rule = format!(r#""names": ["read"], "action": "SCMP_ACT_LOG", "args": [{{{condition}}}]"#);
        in_rule(&rule, format!("args[0].{path}: {hint}"));
    }
    assert_eq!(read("[", &NONE).map(|_| ()).unwrap_err().split(':').next(), Some("line 1"));
}

#[test]
fn filter_longer_than_the_kernel_takes_is_refused() {
    let rules = |count| {
        let rule = |value| {
            format!(
                r#"{{"names": ["personality"], "action": "SCMP_ACT_TRAP",
                    "args": [{{"index": {}, "value": {value}, "op": "SCMP_CMP_GT"}}]}}"#,
                value % 6
            )
        };
        let rules = (0..count).map(rule).collect::<Vec<_>>().join(",");
        read(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rules}]}}"#), &NONE)
    };
    let longest = rules(780).unwrap();
    assert!((3000..=4096).contains(&longest.len()), "{}", longest.len());
    // The last of all rules is reached.
    assert_eq!(verdict(&longest, NATIVE, __NR_personality, &[779, 780, 781]), SECCOMP_RET_TRAP);
    let hint = "it needs more than 4096 instructions, the kernel's limit: shorten it";
    assert_eq!(rules(2000).map(|_| ()), Err(hint.into()));
}

#[test]
fn flags_are_those_that_mean_something() {
    let flags = |list: &str| {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": [{list}]}}"#);
        let value = read::parse(text.as_bytes()).unwrap();
        profile(Node::root(&value), &NONE).unwrap().flags
    };
    assert_eq!(flags(""), 0);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_TSYNC""#), 0);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW""#), 2 | 4);
}

#[test]
fn calls_of_other_architectures_kill_unless_the_profile_is_for_them() {
    let profile = |archs: &str| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", {archs}
                "syscalls": [{{"names": ["read", "execve", "mmap2", "_llseek"], "action": "SCMP_ACT_ALLOW"}}]}}"#
        );
        read(&text, &NONE).unwrap()
    };
    let foreign = [AUDIT_ARCH_ARM, AUDIT_ARCH_RISCV32, 0];
    for archs in ["", r#""architectures": null,"#, r#""architectures": ["SCMP_ARCH_S390X"], "archMap": [],"#] {
        let filter = profile(archs);
        assert_eq!(verdict(&filter, NATIVE, __NR_read, &[]), ALLOW);
        for arch in foreign.into_iter().chain([AUDIT_ARCH_I386]) {
            assert_eq!(verdict(&filter, arch, __NR_read, &[]), KILLED, "{arch:#x} {archs}");
        }
        if cfg!(target_arch = "x86_64") {
            assert_eq!(verdict(&filter, NATIVE, X32 + __NR_read, &[]), KILLED, "{archs}");
        }
    }
    let map =
        |sub| format!(r#""archMap": [{{"architecture": "{}", "subArchitectures": ["SCMP_ARCH_{sub}"]}}],"#, ARCH.0);
    for (archs, i386, x32) in [
        (r#""architectures": ["SCMP_ARCH_X86"],"#, true, false),
        (r#""architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],"#, false, true),
        (r#""architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],"#, true, true),
        (&*map("X86"), true, false),
        (&*map("X32"), false, true),
        (r#""archMap": [{"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_X86"]}],"#, false, false),
    ] {
        if !cfg!(target_arch = "x86_64") {
            continue;
        }
        let filter = profile(archs);
        let expected = |is_listed, action| if is_listed { action } else { KILLED };
        // Numbers are each architecture's own.
        for (number, action) in [(3, ALLOW), (11, ALLOW), (192, ALLOW), (140, ALLOW), (0, EPERM), (59, EPERM)] {
            assert_eq!(verdict(&filter, AUDIT_ARCH_I386, number, &[]), expected(i386, action), "{number} {archs}");
        }
        for (number, action) in [(0, ALLOW), (520, ALLOW), (59, EPERM), (192, EPERM), (521, ENOSYS)] {
            assert_eq!(verdict(&filter, NATIVE, X32 + number, &[]), expected(x32, action), "{number} {archs}");
        }
        assert_eq!(verdict(&filter, NATIVE, __NR_read, &[]), ALLOW);
        assert!(foreign.iter().all(|arch| verdict(&filter, *arch, __NR_read, &[]) == KILLED));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn call_that_makes_others_is_judged_by_their_rules() {
    let socketcall = |default: &str, rules: &str, arguments: &[u64]| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_{default}", "architectures": ["SCMP_ARCH_X86"], "syscalls": [{rules}]}}"#
        );
        verdict(&read(&text, &NONE).unwrap(), AUDIT_ARCH_I386, 102, arguments)
    };
    let rule = |name: &str, action: &str, args: &str| {
        format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_{action}", "args": [{args}]}}"#)
    };
    let family = r#"{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}"#;
    // socket is 1, connect 3, accept4 18.
    assert_eq!(socketcall("ALLOW", &rule("socket", "ERRNO", ""), &[1]), EPERM);
    assert_eq!(socketcall("ALLOW", &rule("socket", "ERRNO", ""), &[3]), ALLOW);
    assert_eq!(socketcall("ALLOW", &rule("accept4", "ERRNO", ""), &[18]), EPERM);
    assert_eq!(socketcall("ERRNO", &rule("connect", "ALLOW", ""), &[3]), ALLOW);
    assert_eq!(socketcall("ERRNO", &rule("connect", "ALLOW", ""), &[1]), EPERM);
    // The family is in memory: nothing is permitted by it, and everything is refused.
    assert_eq!(socketcall("ERRNO", &rule("socket", "ALLOW", family), &[1, 16]), EPERM);
    assert_eq!(socketcall("ALLOW", &rule("socket", "ERRNO", family), &[1, 0]), EPERM);
    let both = [rule("socket", "ERRNO", ""), rule("socketcall", "ALLOW", "")].join(",");
    assert_eq!(socketcall("KILL", &both, &[1]), ALLOW, "by its own name it is permitted");
    // shmat is 21 of ipc's, whose upper bits are a version.
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                   "syscalls": [{"names": ["shmat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let filter = read(text, &NONE).unwrap();
    for (argument, expected) in [(21, EPERM), (21 | 1 << 16, EPERM), (22, ALLOW), (1, ALLOW)] {
        assert_eq!(verdict(&filter, AUDIT_ARCH_I386, 117, &[argument]), expected, "{argument:#x}");
    }
    assert_eq!(verdict(&filter, AUDIT_ARCH_I386, 397, &[]), EPERM);
}

/// A profile with the names and conditions of podman 4.3's.
const ENGINES: &str = include_str!("engine.json");

#[test]
#[cfg(target_arch = "x86_64")]
fn engines_profile_means_what_libseccomp_makes_of_it() {
    let ours = capabilities::Capabilities::new(capabilities::Changes::default()).bounding;
    let filter = read(ENGINES, &Conditions { capabilities: ours, kernel: "6.1.0" }).unwrap();
    let mut lines = include_str!("engine.expected").lines().filter(|line| !line.starts_with('#')).peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let words: Vec<_> = line.split(' ').collect();
        let (first, next) = (words[1].parse().unwrap(), lines.peek().map(|line| line.split(' ').nth(1).unwrap()));
        // The highest numbers of x32 are not those of calls; what x32 lacks is permitted, and there is no such call.
        let (arch, bit, end) = match words[0] {
            "x32" => (NATIVE, X32, 548),
            "i386" => (AUDIT_ARCH_I386, 0, 470),
            _ => (NATIVE, 0, 470),
        };
        let end = next.map_or(end, |next| if next == "0" { end } else { next.parse().unwrap() });
        let expected = match words[2] {
            "ALLOW" => ALLOW,
            "EPERM" => EPERM,
            name => [ENOSYS, errno(22)][usize::from(name == "EINVAL")],
        };
        const NOT_OF_X32: [u32; 11] = [134, 156, 174, 177, 178, 180, 205, 211, 214, 215, 236];
        for number in (first..end).filter(|number| bit == 0 || !NOT_OF_X32.contains(number)) {
            assert_eq!(verdict(&filter, arch, bit + number, &[]), expected, "{} {number}", words[0]);
            count += 1;
        }
    }
    assert_eq!(count, 470 + 548 - 11 + 470);
    for (call, arguments, expected) in [
        (__NR_personality, &[0][..], ALLOW),
        (__NR_personality, &[8], ALLOW),
        (__NR_personality, &[0x2_0008], ALLOW),
        (__NR_personality, &[0xffff_ffff], ALLOW),
        (__NR_personality, &[9], ENOSYS),
        (__NR_personality, &[8 | 1 << 32], ENOSYS),
        (__NR_socket, &[2, 1, 0], ALLOW),
        (__NR_socket, &[16, 3, 0], ALLOW),
        (__NR_socket, &[2, 3, 9], ALLOW),
        (__NR_socket, &[16, 3, 9], errno(22)),
    ] {
        assert_eq!(verdict(&filter, NATIVE, call, arguments), expected, "{call} {arguments:x?}");
    }
    // As short as the init's own; a list takes hundreds.
    let most = (0..470).map(|number| evaluate(&filter, Call { arch: NATIVE, number, arguments: [0; 6] }).1).max();
    assert!(most <= Some(20) && filter.len() < 400, "{most:?} of {}", filter.len());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn numbers_of_i386_and_x32_are_those_of_the_kernels_tables() {
    let number = |calls: &calls::Calls, name: &str| {
        calls.first + calls.names.split(' ').position(|known| known == name).unwrap() as u32
    };
    for (name, expected) in [
        ("restart_syscall", 0),
        ("read", 3),
        ("socketcall", 102),
        ("ipc", 117),
        ("clone", 120),
        ("mmap2", 192),
        ("getdents64", 220),
        ("gettid", 224),
        ("exit_group", 252),
        ("add_key", 286),
        ("seccomp", 354),
        ("socket", 359),
        ("shutdown", 373),
        ("rseq", 386),
        ("semget", 393),
        ("msgctl", 402),
        ("clock_gettime64", 403),
        ("io_pgetevents_time64", 416),
        ("sched_rr_get_interval_time64", 423),
    ] {
        assert_eq!(number(&calls::I386, name), expected, "{name}");
    }
    for (name, expected) in [("rt_sigaction", 512), ("execve", 520), ("waitid", 529), ("pwritev2", 547)] {
        assert_eq!(number(&calls::X32, name), expected, "{name}");
    }
    assert_eq!((number(&calls::COMMON, "pidfd_send_signal"), number(&calls::COMMON, "file_setattr")), (424, 469));
    assert_eq!(number(&calls::NATIVE[0], "uretprobe"), __NR_uretprobe);
    for calls in [&calls::NATIVE[0], &calls::COMMON, &calls::I386, &calls::X32] {
        let plain = |name: &str| name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        assert!(calls.names.split(' ').all(|name| name == "-" || !name.is_empty() && plain(name)));
    }
}

/// Beside each profile of a directory, writes its filter.
#[test]
#[ignore = "for `cargo xtask filters`, which compares the filters with libseccomp's"]
fn filters_are_written_to_be_compared() {
    let directory = std::env::var("KONTENA_FILTERS").unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read(&path).unwrap();
            let value = read::parse(&text).unwrap();
            let filter = profile(Node::root(&value), &NONE).unwrap();
            std::fs::write(path.with_extension("bpf"), filter.code).unwrap();
        }
    }
}
