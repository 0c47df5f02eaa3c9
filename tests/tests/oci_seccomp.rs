//! `linux.seccomp` of OCI bundles, and calls that a seccomp agent answers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tests::{Host, Program, Running, intruder, launcher, wait_until};

/// A bundle with a seccomp profile, and the socket of its seccomp agent.
struct Bundle<'a> {
    host: &'a Host,
    directory: PathBuf,
}

impl<'a> Bundle<'a> {
    fn new(host: &'a Host, args: &Value, profile: &Value, change: impl FnOnce(&mut Value)) -> Self {
        let directory = host.directory().join("bundle");
        let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"]);
        let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
        let mut config = json!({
            "ociVersion": "1.0.2-dev",
            "annotations": {"a": "b"},
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": {"bounding": capabilities},
                "noNewPrivileges": true
            },
            "root": {"path": host.debian(), "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
                {"destination": "/intruder", "type": "bind", "source": intruder(), "options": ["bind", "ro"]}
            ],
            "linux": {
                "cgroupsPath": format!("{}/one", host.cgroup_parent_option()),
                "namespaces": namespaces,
                "seccomp": profile
            }
        });
        config["linux"]["seccomp"]["listenerPath"] = json!(directory.join("agent"));
        change(&mut config);
        host.inside(|| {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("config.json"), config.to_string()).unwrap();
        });
        Self { host, directory }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn kontena(&self, words: &[&str]) -> Program<'a> {
        self.host.program(launcher()).arg("--root").arg(self.host.state()).args(words)
    }

    fn pid(&self, file: &str) -> u64 {
        self.host.inside(|| fs::read_to_string(self.file(file))).unwrap().parse().unwrap()
    }

    /// Starts the seccomp agent; `answers` are `CALL=ANSWER`.
    fn agent(&self, answers: &[String]) -> Running {
        let mut agent = self.host.program(intruder()).arg("answer").arg(self.file("agent")).args(answers).start();
        agent.wait_for_output("listens");
        agent
    }

    /// Runs a command as an engine does, and adopts the process in the pid file.
    fn adopt(&self, pidfile: &str, words: &[&str]) -> Running {
        let program = self.host.program(intruder()).arg("adopt").arg(self.file(pidfile)).arg(launcher());
        let mut running = program.arg("--root").arg(self.host.state()).args(words).start();
        running.wait_for_output("made: Some(");
        assert!(running.stdout().contains("made: Some(0)"), "{}", running.stderr());
        running
    }

    /// Creates the container.
    fn create(&self) -> Running {
        self.adopt("pid", &["create", "--bundle", &self.file(""), "--pid-file", &self.file("pid"), "one"])
    }

    /// The arguments of an `exec` with a pid file.
    fn exec(&self, args: &Value) -> Vec<String> {
        let process = json!({"user": {"uid": 33, "gid": 33}, "args": args, "env": ["PATH=/bin"], "cwd": "/tmp"});
        self.host.inside(|| fs::write(self.file("process.json"), process.to_string())).unwrap();
        let (process, pidfile) = (self.file("process.json"), self.file("other"));
        ["exec", "--process", &process, "--pid-file", &pidfile, "--detach", "one"].map(String::from).into()
    }

    fn start(&self) {
        let _ = self.kontena(&["start", "one"]).run().ok();
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.kontena(&["state", "one"]).run().ok()).unwrap();
        state["status"].as_str().unwrap().into()
    }

    /// Lets the engine reap the processes, and deletes the container. PID 1 ends after all others have been reaped.
    fn delete(&self) {
        self.host.inside(|| fs::write(self.file("other.reap"), "")).unwrap();
        let _ = self.kontena(&["delete", "--force", "one"]).run().ok();
        self.host.inside(|| fs::write(self.file("pid.reap"), "")).unwrap();
    }
}

fn shell(script: &str) -> Value {
    json!(["sh", "-c", script])
}

/// A profile that allows all calls except `names`, which have an `action`.
fn refusing(names: &[&str], action: &str) -> Value {
    let rule = json!({"names": names, "action": action});
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]})
}

/// A profile that notifies mkdir and getppid.
fn notifying() -> Value {
    let mut profile = refusing(&["mkdir", "mkdirat", "getppid"], "SCMP_ACT_NOTIFY");
    profile["listenerMetadata"] = json!("a \"b\" \u{1}");
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]);
    profile
}

/// The same answer for mkdir and mkdirat.
fn to_mkdir(answer: &str) -> Vec<String> {
    let mut calls = vec![libc::SYS_mkdirat];
    #[cfg(target_arch = "x86_64")]
    calls.push(libc::SYS_mkdir);
    calls.into_iter().map(|call| format!("{call}={answer}")).collect()
}

/// The container process states that an agent has received.
fn states(agent: &Running) -> Vec<Value> {
    let text = agent.stdout();
    text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn notified_calls_get_the_agents_answers() {
    let host = Host::new();
    let script = "mkdir /tmp/a; echo $? $PPID; touch /tmp/b && echo made; exec sleep 600";
    let bundle = Bundle::new(&host, &shell(script), &notifying(), |_| {});
    let before = host.snapshot();
    // An errno, and a result that no kernel would return.
    let mut agent = bundle.agent(&[to_mkdir("-95"), vec![format!("{}=4242", libc::SYS_getppid)]].concat());
    let mut engine = bundle.create();
    let pid = bundle.pid("pid");
    let created = &states(&agent)[0];
    assert!(agent.stdout().contains("with 1 fds"), "{}", agent.stdout());
    assert_eq!((&created["fds"], &created["pid"]), (&json!(["seccompFd"]), &json!(pid)));
    assert_eq!(created["metadata"], json!("a \"b\" \u{1}"));
    assert!(created["ociVersion"].as_str().unwrap().starts_with("1."));
    let state = json!({"id": "one", "status": "creating", "pid": pid, "ociVersion": "1.0.2-dev",
        "bundle": bundle.directory, "annotations": {"a": "b"}});
    assert_eq!(created["state"], state);
    assert_eq!(bundle.status(), "created");

    bundle.start();
    engine.wait_for_output("1 4242\nmade\n");
    assert!(engine.stderr().contains("Operation not supported"), "{}", engine.stderr());
    assert!(agent.stdout().contains(&format!("notified {} of ", libc::SYS_getppid)), "{}", agent.stdout());

    // Each process of `exec` has a listener of its own, with an engine or without.
    let words = bundle.exec(&shell("mkdir /tmp/c; echo $? $PPID; exec sleep 600"));
    let mut other = bundle.adopt("other", &words.iter().map(String::as_str).collect::<Vec<_>>());
    other.wait_for_output("1 4242\n");
    agent.wait_for_output(r#""status": "running""#);
    let executed = &states(&agent)[1];
    assert_eq!((&executed["pid"], &executed["state"]["pid"]), (&json!(bundle.pid("other")), &json!(pid)));
    for options in [&[][..], &["-d"]] {
        let words = [&["exec"], options, &["one", "sh", "-c", "echo $PPID > /tmp/d; cat /tmp/d"]].concat();
        assert_eq!(bundle.kontena(&words).run().ok(), "4242\n");
    }
    assert_eq!(states(&agent).len(), 4);
    assert!(states(&agent).iter().all(|state| state["state"]["id"] == "one"));
    bundle.delete();
    drop((engine, other, agent));
    host.inside(|| {
        ["agent", "pid", "pid.reap", "other", "other.reap", "process.json"]
            .map(|name| fs::remove_file(bundle.file(name)).unwrap())
    });
    host.prune();
    before.assert_restored(|| host.snapshot());
}

/// The calls of kontena-init after the filter has been installed, except sendmsg(2), which sends the listener.
const OF_THE_INIT: [&str; 30] = [
    "accept4",
    "capget",
    "capset",
    "chdir",
    "clone",
    "clone3",
    "close",
    "close_range",
    "execve",
    "fchown",
    "fcntl",
    "fstat",
    "getcwd",
    "getpid",
    "getppid",
    "ioctl",
    "openat",
    "openat2",
    "prctl",
    "prlimit64",
    "recvfrom",
    "recvmsg",
    "rt_sigaction",
    "rt_sigprocmask",
    "sendto",
    "setgroups",
    "setresgid",
    "setresuid",
    "setsid",
    "umask",
];

#[test]
fn agent_can_answer_all_calls_of_a_start() {
    let host = Host::new();
    for no_new_privileges in [true, false] {
        let profile = refusing(&OF_THE_INIT, "SCMP_ACT_NOTIFY");
        let bundle = Bundle::new(&host, &shell("echo started; sleep 600"), &profile, |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        });
        let agent = bundle.agent(&[]);
        let mut engine = bundle.create();
        bundle.start();
        engine.wait_for_output("started\n");
        let words = bundle.exec(&shell("echo joined; sleep 600"));
        let mut other = bundle.adopt("other", &words.iter().map(String::as_str).collect::<Vec<_>>());
        other.wait_for_output("joined\n");
        // A call needed an answer before the pid was known: the state has the joining process, or its child.
        let [_, executed] = &states(&agent)[..] else { panic!("{}", agent.stdout()) };
        assert!(executed["pid"].as_u64().unwrap() > 1);
        bundle.delete();
        drop((engine, other, agent));
        host.inside(|| {
            for name in ["agent", "pid", "pid.reap", "other", "other.reap"] {
                fs::remove_file(bundle.file(name)).unwrap();
            }
        });
    }
}

#[test]
fn missing_agent_is_an_error_that_leaves_nothing() {
    let host = Host::new();
    let bundle = Bundle::new(&host, &shell("exec sleep 600"), &notifying(), |_| {});
    let before = host.snapshot();
    let create = || bundle.kontena(&["create", "--bundle"]).arg(&bundle.directory).arg("one").run().refused(1);
    let line = create();
    assert!(line.contains("listenerPath") && line.contains("ENOENT") && line.contains(&bundle.file("agent")), "{line}");
    let mut agent = bundle.agent(&[]);
    agent.signal(Signal::SIGKILL);
    wait_until("its end", || agent.has_ended());
    let line = create();
    assert!(line.contains("listenerPath") && line.contains("ECONNREFUSED"), "{line}");
    host.inside(|| fs::remove_file(bundle.file("agent"))).unwrap();
    host.prune();
    before.assert_restored(|| host.snapshot());

    let mut agent = bundle.agent(&[]);
    let engine = bundle.create();
    bundle.start();
    agent.signal(Signal::SIGKILL);
    wait_until("its end", || agent.has_ended());
    for words in [bundle.exec(&json!(["true"])), ["exec", "one", "true"].map(String::from).into()] {
        let engine = ["--log-format", "text"];
        let line = bundle.kontena(&engine).args(words).run().refused(255);
        assert!(line.contains("listenerPath") && line.contains("ECONNREFUSED"), "{line}");
    }
    bundle.delete();
    drop(engine);
}

#[test]
fn calls_fail_when_the_agent_is_killed() {
    let host = Host::new();
    // One call waits for the agent when it is killed, the other comes later.
    let script = "mkdir /tmp/a; mkdir /tmp/b; echo later; exec sleep 600";
    let bundle = Bundle::new(&host, &shell(script), &notifying(), |_| {});
    let mut agent = bundle.agent(&to_mkdir("never"));
    let mut engine = bundle.create();
    bundle.start();
    wait_until("its mkdir", || {
        let text = agent.stdout();
        to_mkdir("").iter().any(|call| text.contains(&format!("notified {} of", call.trim_end_matches('='))))
    });
    assert!(!engine.stdout().contains("later"));
    agent.signal(Signal::SIGKILL);
    wait_until("its end", || agent.has_ended());
    engine.wait_for_output("later\n");
    assert_eq!(engine.stderr().matches("Function not implemented").count(), 2, "{}", engine.stderr());
    assert_eq!(bundle.status(), "running");
    bundle.delete();
}

#[test]
fn waiting_container_is_deleted_without_an_answer() {
    let host = Host::new();
    let bundle = Bundle::new(&host, &shell("mkdir /tmp/a"), &notifying(), |_| {});
    let mut agent = bundle.agent(&to_mkdir("never"));
    let engine = bundle.create();
    bundle.start();
    agent.wait_for_output("notified ");
    let pid = bundle.pid("pid");
    bundle.delete();
    let stat = host.inside(|| fs::read_to_string(format!("/proc/{pid}/stat"))).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
    drop((agent, engine));
}

#[test]
fn all_actions_of_a_profile_have_their_effect() {
    let host = Host::new();
    let number = libc::SYS_chroot.to_string();
    let path = "0";
    for (action, errno, flags, expected) in [
        ("SCMP_ACT_ALLOW", None, json!([]), "EFAULT"),
        ("SCMP_ACT_LOG", None, json!(["SECCOMP_FILTER_FLAG_LOG"]), "EFAULT"),
        ("SCMP_ACT_ERRNO", None, json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), "EPERM"),
        ("SCMP_ACT_ERRNO", Some(95), json!(["SECCOMP_FILTER_FLAG_TSYNC"]), "EOPNOTSUPP"),
        // There is no tracer.
        ("SCMP_ACT_TRACE", Some(7), json!([]), "ENOSYS"),
        ("SCMP_ACT_TRAP", None, json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), "SIGSYS"),
        ("SCMP_ACT_KILL", None, json!([]), "SIGSYS"),
        ("SCMP_ACT_KILL_THREAD", None, json!([]), "SIGSYS"),
        ("SCMP_ACT_KILL_PROCESS", None, json!([]), "SIGSYS"),
    ] {
        let mut profile = refusing(&["chroot"], action);
        profile["flags"] = flags;
        if let Some(errno) = errno {
            profile["syscalls"][0]["errnoRet"] = json!(errno);
        }
        let script = format!("/intruder call {number} {path}; [ $? = 159 ] && echo SIGSYS; echo end");
        let bundle = Bundle::new(&host, &shell(&script), &profile, |_| {});
        let mut engine = bundle.create();
        bundle.start();
        engine.wait_for_output("end\n");
        let text = engine.stdout();
        assert!(text.contains(&format!("{expected}\n")) || text.contains(&format!("{expected}:")), "{action}: {text}");
        bundle.delete();
        let _ = engine.finish();
        host.inside(|| {
            for name in ["pid", "pid.reap", "other.reap"] {
                fs::remove_file(bundle.file(name)).unwrap();
            }
        });
    }
}

#[test]
fn errors_in_a_listener_have_their_path() {
    let host = Host::new();
    for (change, wrong) in [
        (json!({"listenerPath": null}), "linux.seccomp.listenerPath: missing"),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp.defaultAction: "),
        (
            json!({"syscalls": [{"names": ["read", "sendmsg"], "action": "SCMP_ACT_NOTIFY"}]}),
            "linux.seccomp.syscalls[0].names[1]: ",
        ),
    ] {
        let bundle = Bundle::new(&host, &json!(["true"]), &refusing(&["mkdir"], "SCMP_ACT_NOTIFY"), |config| {
            for (name, value) in change.as_object().unwrap() {
                config["linux"]["seccomp"][name] = value.clone();
            }
        });
        let quiet = |command: &mut Command| _ = command.stdout(Stdio::null());
        let create = bundle.kontena(&["create", "--bundle"]).arg(&bundle.directory).arg("one").with(quiet);
        let line = create.run().refused(1);
        assert!(line.contains(wrong), "{line}");
    }
}
