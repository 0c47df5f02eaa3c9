//! `--security-opt seccomp=FILE`: profiles of system calls in place of kontena's filter.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc;
use std::fs;
use tests::{Background, Host, Outcome};

/// A profile with the names and conditions of podman 4.3's.
const ENGINES: &str = include_str!("../../launcher/src/config/seccomp/engine.json");

/// Writes a profile; returns the value of `--security-opt`.
fn profile(host: &Host, name: &str, text: &str) -> String {
    let path = host.directory().join(name);
    fs::write(&path, text).unwrap();
    format!("seccomp={}", path.display())
}

/// A profile that permits everything but for some rules.
fn refusing(rules: &str) -> String {
    format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{rules}]}}"#)
}

/// It refuses mkdir with EOPNOTSUPP, in the OCI's words and in docker's.
const NO_MKDIR: &str = r#"{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
    {"name": "mkdirat", "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [], "comment": "", "includes": {}}"#;

/// What a shell says of it.
const REFUSED: &str = "Operation not supported";

/// The result of a system call in a container with this profile.
fn call(host: &Host, option: &str, options: &[&str], number: libc::c_long, arguments: &[u64]) -> String {
    let mut words = vec!["call".to_owned(), number.to_string()];
    words.extend(arguments.iter().map(|argument| (*argument as i64).to_string()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let out = host.intrude(&[&["--security-opt", option], options].concat(), &words).run().ok();
    // A child of clone says the same.
    out.split([':', '\n']).next().unwrap().to_owned()
}

#[test]
fn profile_refuses_a_call_with_its_errno() {
    let host = Host::new();
    let option = profile(&host, "a.json", &refusing(NO_MKDIR));
    let script = "mkdir /tmp/a; echo $?; touch /tmp/b && echo made";
    // As root and as another user; it takes the place of kontena's own filter, which refuses unshare.
    for options in [&[][..], &["-u", "33"], &["--security-opt", "no-new-privileges=false"], &["--init=false"]] {
        let options = [&["--tmpfs", "/tmp", "--security-opt", &option], options].concat();
        let out = host.sh(&options, script).run().code(0);
        assert_eq!(out.stdout, "1\nmade\n", "{out}");
        assert!(out.stderr.contains(REFUSED), "{out}");
    }
    let seccomp = |options: &[&str]| host.sh(options, "grep ^Seccomp_filters /proc/self/status").run().ok();
    // Without a user namespace there is one more, for keyrings.
    assert_eq!(seccomp(&["--seccomp", option.strip_prefix("seccomp=").unwrap()]), "Seccomp_filters:\t2\n");
    assert_eq!(call(&host, &option, &[], libc::SYS_keyctl, &[u64::MAX; 5]), "ENOSYS");
    assert_eq!(call(&host, &option, &["--privileged"], libc::SYS_keyctl, &[0, u64::from(u32::MAX - 2), 0]), "ok");
}

#[test]
fn arguments_decide_as_the_profile_says() {
    let host = Host::new();
    let clone = r#"{"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args":
        [{"index": 0, "value": 67108864, "valueTwo": 67108864, "op": "SCMP_CMP_MASKED_EQ"}]}"#;
    let personality = r#"{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71, "args":
        [{"index": 0, "value": 8, "op": "SCMP_CMP_GT"}, {"index": 1, "value": 4294967296, "op": "SCMP_CMP_NE"}]}"#;
    let option = profile(&host, "a.json", &refusing(&[clone, personality].join(",")));
    let admin = ["--cap-add", "SYS_ADMIN"];
    let uts = libc::CLONE_NEWUTS as u64 | libc::SIGCHLD as u64;
    assert_eq!(call(&host, &option, &admin, libc::SYS_clone, &[uts]), "EOPNOTSUPP");
    assert_eq!(call(&host, &option, &admin, libc::SYS_clone, &[libc::CLONE_NEWIPC as u64 | 17]), "ok");
    assert_eq!(call(&host, &option, &[], libc::SYS_personality, &[8, 0]), "ok");
    assert_eq!(call(&host, &option, &[], libc::SYS_personality, &[9, 0]), "EPROTO");
    assert_eq!(call(&host, &option, &[], libc::SYS_personality, &[1 << 32 | 8, 0]), "EPROTO");
    assert_eq!(call(&host, &option, &[], libc::SYS_personality, &[9, 1 << 32]), "ok");
}

#[test]
fn engines_profile_runs_nginx_and_looks_at_capabilities() {
    let host = Host::new();
    let option = profile(&host, "engine.json", ENGINES);
    let web = host.nginx("web", &["--security-opt", &option, "-p", "8080:80"]);
    let _page = host.get("127.0.0.1:8080").unwrap();
    let _ = web.stop();
    let acct = |options: &[&str]| call(&host, &option, options, libc::SYS_acct, &[u64::MAX]);
    assert_eq!(acct(&[]), "EPERM");
    assert_eq!(acct(&["--cap-add", "SYS_PACCT"]), "EFAULT");
    assert_eq!(call(&host, &option, &[], libc::SYS_personality, &[9]), "ENOSYS");
    assert_eq!(call(&host, &option, &[], libc::SYS_socket, &[16, 3, 9]), "EINVAL");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn programs_of_32_bits_run_with_a_profile_that_is_for_them() {
    let host = Host::new();
    let run = |option: &str| {
        let options = ["--security-opt", option];
        // getpid is 20 on i386.
        host.intrude(&options, &["foreign", "int80", "20"]).run()
    };
    let engines = profile(&host, "engine.json", ENGINES);
    let unfiltered = host.intrude(&["--seccomp", "unconfined"], &["foreign", "int80", "20"]).run().ok();
    assert_eq!(run(&engines).ok(), unfiltered);
    let native = profile(&host, "native.json", &refusing(NO_MKDIR));
    let killed = run(&native).code(128 + libc::SIGSYS);
    assert!(killed.stderr.contains("the seccomp profile kills"), "{killed}");
    let both = refusing(r#"{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}"#);
    let both = profile(&host, "both.json", &both.replace("X86_64", "X86"));
    assert_ne!(run(&both).ok(), unfiltered);
}

#[test]
fn exec_and_later_starts_have_the_same_filter() {
    let host = Host::new();
    let option = profile(&host, "a.json", &refusing(NO_MKDIR));
    let options =
        ["--cgroup-parent", &host.cgroup_parent_option(), "--net", "none", "--tmpfs", "/tmp", "--name", "web"];
    let create = host.kontena().arg("create").args(options).args(["--security-opt", "seccomp=a.json"]);
    let create = create.arg(host.debian()).args(["sh", "-c", "mkdir /tmp/a; exec sleep 600"]);
    let _ = create.with(|command| _ = command.current_dir(host.directory())).run().ok();
    // What the file says later does not matter, nor whether it is still there.
    fs::write(option.strip_prefix("seccomp=").unwrap(), refusing("")).unwrap();
    let exec = |command: &[&str]| host.kontena().args(["exec", "web"]).args(command).run();
    for again in [false, true] {
        let _ = host.kontena().args([if again { "restart" } else { "start" }, "web"]).run().ok();
        for options in [&[][..], &["-u", "33"]] {
            let words = [&["exec"], options, &["web", "mkdir", "/tmp/b"]].concat();
            let out = host.kontena().args(words).run().code(1);
            assert!(out.stderr.contains(REFUSED), "{out}");
        }
        assert_eq!(exec(&["sh", "-c", "cat /tmp/c 2> /dev/null; touch /tmp/b && echo made"]).ok(), "made\n");
        tests::wait_until("its mkdir", || {
            host.kontena().args(["logs", "web"]).run().stderr.matches(REFUSED).count() == 1 + usize::from(again)
        });
        assert_eq!(Background::new(&host, "web").inspect()["seccomp"], true);
        fs::remove_file(option.strip_prefix("seccomp=").unwrap()).unwrap_or_default();
    }
}

#[test]
fn strict_profile_needs_only_what_the_command_needs() {
    let host = Host::new();
    // What the intruder makes until it has printed a result, and execve.
    let option = profile(
        &host,
        "a.json",
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": ["execve", "brk",
            "arch_prctl", "mmap", "mprotect", "munmap", "set_tid_address", "set_robust_list", "rseq", "prlimit64",
            "getrandom", "readlink", "readlinkat", "poll", "ppoll", "rt_sigaction", "rt_sigprocmask", "sigaltstack",
            "sched_getaffinity", "write", "gettid", "exit_group", "getpid"]}]}"#,
    );
    for options in [&[][..], &["--init=false"]] {
        assert_eq!(call(&host, &option, options, libc::SYS_getpid, &[]), "ok");
        assert_eq!(call(&host, &option, options, libc::SYS_getuid, &[]), "EPERM");
        assert_eq!(call(&host, &option, options, libc::SYS_chdir, &[0]), "EPERM");
    }
    // It comes last, whether or not new privileges are permitted.
    let privileges = ["--security-opt", "no-new-privileges=false"];
    assert_eq!(call(&host, &option, &privileges, libc::SYS_getpid, &[]), "ok");
}

#[test]
fn profile_that_permits_nothing_leaves_no_process() {
    let host = Host::new();
    let nothing = profile(&host, "a.json", r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#);
    for options in [&["--init=false"][..], &[]] {
        let options = [options, &["--security-opt", &nothing]].concat();
        let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(132);
        assert!(line.contains("its seccomp profile refuses what kontena-init does"), "{line}");
    }
    host.prune();
    assert!(!host.cgroup_parent().exists());
}

#[test]
fn profile_that_is_nonsense_is_refused_and_leaves_nothing() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let run = |option: &str| -> Outcome { host.sh(&["--security-opt", option], "true").run() };
    let long = "1".repeat(1 << 20);
    for (name, text, hint) in [
        ("a.json", "", "line 1: expected a value"),
        ("a.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\",\n}", "line 2: expected a name in quotes"),
        ("a.json", "[]", "defaultAction: missing: expected a string"),
        ("a.json", "{\"defaultAction\": \"allow\"}", "defaultAction: unknown: use SCMP_ACT_"),
        ("a.json", &*refusing(r#"{"names": ["read"], "action": 1}"#), "syscalls[0].action: expected a string"),
        ("a.json", &*(long + "1"), "EFBIG (File too large)"),
    ] {
        let line = run(&profile(&host, name, text)).refused(125);
        assert!(line.contains(hint) && line.contains("seccomp profile /"), "{line}");
    }
    for (file, hint) in [("/nowhere", "ENOENT"), ("/", "EISDIR"), ("/dev/zero", "EFBIG"), ("/dev/null", "line 1")] {
        let line = run(&format!("seccomp={file}")).refused(125);
        assert!(line.contains(hint), "{line}");
    }
    fs::remove_file(host.directory().join("a.json")).unwrap();
    before.assert_restored(|| host.snapshot());
}
