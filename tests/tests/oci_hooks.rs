//! Hooks of OCI bundles: when, where and with what they run, and what happens to the container if a hook fails.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tests::{Bundle, Host, Traced, instruments, intruder, wait_until};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// Where containers of [`hooked`] bundles have the directory of the bundle.
const INSIDE: &str = "/mnt";

/// A shell on the host.
fn shell() -> PathBuf {
    instruments().join("usr/bin/sh")
}

/// A hook running a script, in the container or on the host.
fn hook(kind: &str, script: &str) -> Value {
    let path = if kind == "startContainer" { "/bin/sh".into() } else { shell() };
    let machine = std::env::var("PATH").unwrap();
    let search = if kind == "startContainer" { "/usr/bin:/bin" } else { &machine };
    json!({"path": path, "args": ["hook", "-c", script], "env": [format!("PATH={search}"), "A=b c"]})
}

/// The path of the bundle's directory for a hook of this kind.
fn place(host: &Host, kind: &str) -> String {
    if kind == "startContainer" { INSIDE.into() } else { host.directory().join("bundle").display().to_string() }
}

/// A bundle with hooks. The container has the bundle's directory, too.
fn hooked<'a>(host: &'a Host, script: &str, hooks: Value, change: impl FnOnce(&mut Value)) -> Bundle<'a> {
    Bundle::new(host, script, |config| {
        config["hooks"] = hooks;
        let source = place(host, "");
        let mount = json!({"destination": INSIDE, "type": "bind", "source": source, "options": ["bind", "rw"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
        change(config);
    })
}

fn read(bundle: &Bundle<'_>, name: &str) -> String {
    bundle.host.inside(|| fs::read_to_string(bundle.directory.join(name)).unwrap_or_default())
}

#[test]
fn hooks_run_in_order_with_the_state_and_nothing_else() {
    let host = Host::new();
    let script = |kind: &str, index: usize| {
        let file = format!("{}/{kind}{index}", place(&host, kind));
        let own = "tr '\\0' '|' < /proc/self/environ; echo; ls /proc/self/fd | wc -l; \
                   grep -E '^Sig(Blk|Ign)' /proc/self/status | grep -vc '0000000000000000$'; pwd; umask; \
                   ls -d /mnt/pid";
        format!("cat > {file}; {{ {own}; }} > {file}.own 2>&1; echo {kind}{index} >> {}/order", place(&host, kind))
    };
    let hooks = KINDS.map(|kind| (kind, json!([hook(kind, &script(kind, 0)), hook(kind, &script(kind, 1))])));
    let hooks = hooks.into_iter().map(|(kind, hooks)| (kind.to_owned(), hooks)).collect();
    let bundle = hooked(&host, "echo payload >> /mnt/order; sleep 600", Value::Object(hooks), |_| {});
    let snapshot = host.snapshot();
    // Even if the engine ignores and blocks signals.
    let create = bundle.create().through(&intruder().display().to_string(), &["odd", "signals"]);
    let quiet = |command: &mut Command| _ = command.stdout(Stdio::null()).stderr(Stdio::null());
    assert_eq!(create.with(quiet).run().code, 0);
    let pid = bundle.pid();
    assert_eq!(read(&bundle, "order").lines().count(), 6, "{}", read(&bundle, "order"));
    let _ = bundle.engine(&["start", "one"]).run().ok();
    wait_until("the payload", || read(&bundle, "order").contains("payload"));
    assert_eq!(bundle.status(), "running");
    // The container keeps its hooks when config.json changes.
    host.inside(|| fs::write(bundle.directory.join("config.json"), "{}")).unwrap();
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    let order = read(&bundle, "order");
    let before_start = "prestart0 prestart1 createRuntime0 createRuntime1 createContainer0 createContainer1 \
                        startContainer0 startContainer1";
    let lines: Vec<&str> = order.lines().filter(|line| *line != "payload").collect();
    assert_eq!(lines.join(" "), format!("{before_start} poststart0 poststart1 poststop0 poststop1"));
    assert_eq!(order.lines().position(|line| line == "payload").map(|at| at >= 8), Some(true), "{order}");
    let directory = bundle.directory.display().to_string();
    for (kind, status, pid) in [
        ("prestart", "creating", pid),
        ("createRuntime", "creating", pid),
        ("createContainer", "creating", 1),
        ("startContainer", "created", 1),
        ("poststart", "running", pid),
        ("poststop", "stopped", 0),
    ] {
        for index in 0..2 {
            let state: Value = serde_json::from_str(&read(&bundle, &format!("{kind}{index}"))).unwrap();
            let text = ["ociVersion", "id", "status", "bundle"].map(|key| state[key].as_str().unwrap_or_default());
            assert_eq!((text, &state["pid"]), (["1.0.2-dev", "one", status, &directory], &json!(pid)), "{kind}");
            assert_eq!(state["annotations"], json!({"a.b": "c \"d\""}), "{kind}");
        }
        let own = read(&bundle, &format!("{kind}0.own"));
        let own: Vec<&str> = own.lines().collect();
        let debian = host.debian().display().to_string();
        let cwd = match kind {
            "createContainer" => &*debian,
            "startContainer" => "/",
            _ => &*directory,
        };
        let path = hook(kind, "")["env"][0].as_str().unwrap().to_owned();
        // Standard input, output and error, and the directory that ls reads.
        assert_eq!(own[..4], [&format!("{path}|A=b c|"), "4", "0", cwd], "{kind}: {own:?}");
        let is_inside = own.last().is_some_and(|line| *line == "/mnt/pid");
        assert_eq!(is_inside, kind == "startContainer", "{kind}: {own:?}");
    }
    host.prune();
    host.inside(|| fs::remove_file(bundle.pidfile())).unwrap();
    snapshot.assert_restored(|| host.snapshot());
}

#[test]
fn hooks_configure_network_and_mounts_of_the_container() {
    let host = Host::new();
    let network = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); ip link add moved type veth peer name stays; \
                   ip link set moved netns $pid";
    let (directory, debian) = (place(&host, ""), host.debian().display().to_string());
    host.inside(|| ["srv", "opt"].map(|name| fs::create_dir_all(host.debian().join(name)).unwrap()));
    // One mount by the host's path, one relative to the working directory.
    let mounts = format!("mount --bind {directory}/data {debian}/srv && mount --bind {directory}/data opt");
    // This process must not stay beside the payload.
    let mounts = format!("{mounts} && {{ setsid sleep 604 & }}");
    let hooks = json!({"prestart": [hook("prestart", network)], "createContainer": [hook("createContainer", &mounts)]});
    let script = "cat /srv/file /opt/file; grep -c moved: /proc/net/dev; touch /etc/x || echo read-only; \
                  set -- /proc/[0-9]*; echo $#; sleep 600";
    for has_users in [false, true] {
        let bundle = hooked(&host, script, hooks.clone(), |config| {
            if has_users {
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                for maps in ["uidMappings", "gidMappings"] {
                    config["linux"][maps] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
                }
            }
        });
        host.inside(|| {
            fs::create_dir(bundle.directory.join("data")).unwrap();
            fs::write(bundle.directory.join("data/file"), "of a hook\n").unwrap();
            if has_users {
                // Engines do this if the root cannot be idmapped.
                nix::unistd::chown(&host.debian(), Some(100_000.into()), Some(100_000.into())).unwrap();
            }
        });
        let before = host.snapshot();
        let mut engine = bundle.adopt();
        let _ = bundle.engine(&["start", "one"]).run().ok();
        // The last number counts the processes in the container: the shell.
        engine.wait_for_output("of a hook\nof a hook\n1\nread-only\n1\n");
        assert_eq!(host.snapshot().lines("mounts"), before.lines("mounts"), "none of them is the host's");
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        let _ = bundle.reap(engine);
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
}

#[test]
fn hooks_in_a_shared_pid_namespace_kill_no_other_processes() {
    let host = Host::new();
    let mut other = host.program("sh").args(["-c", "echo here; exec sleep 606"]).start();
    other.wait_for_output("here");
    let script = format!("cat > {}/state; sleep 605 &", place(&host, ""));
    let hooks = json!({"createContainer": [hook("createContainer", &script)]});
    let bundle = hooked(&host, "sleep 600", hooks, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    });
    bundle.create_in_silence();
    let state: Value = serde_json::from_str(&read(&bundle, "state")).unwrap();
    assert_eq!(state["pid"], bundle.pid());
    let all = || host.program("sh").args(["-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).run().ok();
    wait_until("the end of what it has left", || !all().contains("sleep 605 "));
    assert!(all().contains("sleep 606") && !other.has_ended());
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn failing_hook_is_reported_and_leaves_nothing() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let late = "sleep 600 & sleep 600";
    for kind in &KINDS[..5] {
        let wrong = |hook: Value| json!([{"path": "/bin/true"}, hook]);
        let good = if *kind == "startContainer" { json!("/bin/true") } else { json!(shell().with_file_name("true")) };
        let mut timeout = hook(kind, late);
        timeout["timeout"] = json!(1);
        for (hook, words) in [
            (hook(kind, "echo why; echo it did >&2; exit 3"), "exit status 3: why; it did"),
            (hook(kind, "kill -KILL $$"), "ended by signal 9"),
            (timeout, "not done after 1 s"),
            (json!({"path": "/no/such\u{1b}[31m\nhook"}), "/no/such\\u{1b}[31m\\u{a}hook: ENOENT"),
            (json!({"path": "/etc/passwd"}), "/etc/passwd: EACCES"),
        ] {
            let mut hooks = wrong(hook);
            hooks[0]["path"] = good.clone();
            let after = json!([self::hook("poststop", &format!("echo after >> {}/after", place(&host, "")))]);
            let bundle = hooked(&host, "sleep 600", json!({*kind: hooks, "poststop": after}), |_| {});
            let line = if ["startContainer", "poststart"].contains(kind) {
                bundle.create_in_silence();
                bundle.engine(&["start", "one"]).run().refused(1)
            } else {
                bundle.create().run().refused(1)
            };
            assert!(line.contains(&format!("{kind}[1] ")) && line.contains(words), "{line}");
            assert_eq!(read(&bundle, "after"), "after\n", "{kind}: {words}");
            assert_eq!(bundle.pidfile().exists(), ["startContainer", "poststart"].contains(kind));
            assert!(bundle.engine(&["state", "one"]).run().refused(1).contains("does not exist"));
            host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
            host.prune();
            before.assert_restored(|| host.snapshot());
        }
    }
}

#[test]
fn failing_poststop_hook_is_a_warning_and_runs_once() {
    let host = Host::new();
    let hooks = json!({"poststop": [
        hook("poststop", "echo once >> once; exit 3"),
        {"path": "/no/such"},
        hook("poststop", "cat > last"),
    ]});
    let bundle = hooked(&host, "sleep 600", hooks, |_| {});
    bundle.create_in_silence();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    let two = [(); 2].map(|()| bundle.engine(&["delete", "--force", "one"]).start()).map(|running| running.finish());
    let warnings: String = two.iter().map(|outcome| &*outcome.stderr).collect();
    assert!(two.iter().any(|outcome| outcome.code == 0), "{warnings}");
    assert!(warnings.contains("poststop[0] ") && warnings.contains("exit status 3"), "{warnings}");
    assert!(warnings.contains("poststop[1] /no/such: ENOENT"), "{warnings}");
    assert_eq!(read(&bundle, "once"), "once\n");
    assert!(read(&bundle, "last").contains("\"stopped\""));
}

#[test]
fn hooks_do_not_block_or_outlive_kontena() {
    let host = Host::new();
    let directory = place(&host, "");
    // A hook that does not read its input, and one that writes a lot and leaves a daemon behind.
    let daemon = "yes | head -c 300000; setsid sleep 601 < /dev/null > /dev/null 2>&1 & exec 0<&- 1>&- 2>&-";
    let hooks = KINDS.map(|kind| (kind.to_owned(), json!([hook(kind, "exec 0<&-"), hook(kind, daemon)])));
    let bundle = hooked(&host, "sleep 600", Value::Object(hooks.into_iter().collect()), |config| {
        config["annotations"]["long"] = json!("x".repeat(1 << 20));
    });
    bundle.create_in_silence();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    // The daemons in the container have ended with it.
    let sleeping = || host.program("sh").args(["-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).run().ok();
    assert_eq!(sleeping().matches("sleep 601").count(), 4);

    // A hook ends with kontena, even by SIGKILL.
    let hooks = json!({"createRuntime": [hook("", &format!("sleep 602 & echo $$ > {directory}/at; sleep 603"))]});
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let bundle = hooked(&host, "sleep 600", hooks.clone(), |_| {});
        let _ = host.inside(|| fs::remove_file(bundle.directory.join("at")));
        let create = bundle.create().start();
        wait_until("the hook", || !read(&bundle, "at").is_empty());
        assert_eq!(bundle.status(), "creating");
        create.signal(signal);
        assert_ne!(create.finish().code, 0);
        wait_until("the end of the hook", || !sleeping().contains("sleep 602") && !sleeping().contains("sleep 603"));
        host.prune();
        assert_eq!(bundle.engine(&["state", "one"]).run().code, 1);
    }
}

#[test]
fn delete_ends_running_create_hooks() {
    let host = Host::new();
    let directory = host.directory().join("bundle");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let hooks = json!({kind: [hook(kind, &format!("echo > {}/at; sleep 607", directory.display()))]});
        let bundle = hooked(&host, "sleep 600", hooks, |_| {});
        let create = bundle.create().start();
        wait_until("the hook", || host.inside(|| fs::remove_file(directory.join("at")).is_ok()));
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        let _ = create.finish().refused(1);
        let _ = bundle.engine(&["state", "one"]).run().refused(1);
    }
}

#[test]
fn start_container_hook_has_no_more_privileges_than_the_payload() {
    let host = Host::new();
    let script = "exec > /mnt/found 2>&1; id -u; \
                  grep -E '^(Cap(Inh|Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status; \
                  ls -l /proc/1/fd | grep -c -e '->'; head -c1 /proc/1/maps; true";
    for (uid, shown) in [(0, "00000000000020e1"), (33, "0000000000000000")] {
        let bundle =
            hooked(&host, "sleep 600", json!({"startContainer": [hook("startContainer", script)]}), |config| {
                let capabilities = config["process"]["capabilities"]["bounding"].as_array_mut().unwrap();
                capabilities.push(json!("CAP_SYS_PTRACE"));
                config["process"]["user"]["uid"] = json!(uid);
            });
        host.inside(|| {
            let _ = fs::write(bundle.directory.join("found"), "");
            let _ = nix::unistd::chown(&bundle.directory.join("found"), Some(uid.into()), None);
        });
        bundle.create_in_silence();
        let _ = bundle.engine(&["start", "one"]).run().ok();
        let found = read(&bundle, "found");
        let bounding = "CapBnd:\t00000000000020e1";
        let expected = format!(
            "{uid}\nCapInh:\t0000000000000000\nCapPrm:\t{shown}\nCapEff:\t{shown}\n{bounding}\n\
                                NoNewPrivs:\t1\nSeccomp:\t2\n"
        );
        assert!(found.starts_with(&expected), "{found}");
        assert!(found.contains("\n0\n") && found.contains("cannot open '/proc/1/maps'"), "{found}");
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    }
}

#[test]
fn create_with_hooks_killed_at_any_system_call_leaves_a_container_or_nothing() {
    let host = Host::new();
    let _ = host.debian();
    let yes = json!([{"path": shell().with_file_name("true")}]);
    let hooks = json!({"createRuntime": yes, "createContainer": yes, "poststop": yes});
    let bundle = hooked(&host, "sleep 600", hooks, |_| {});
    let before = host.snapshot();
    let mut calls = 0;
    loop {
        let victim = bundle.create().through("sh", &["-c", "exec \"$@\" > /dev/null 2>&1", "sh"]);
        let mut victim = Traced::start(victim);
        if (0..=calls).any(|_| victim.next_call().is_none()) {
            let _ = victim.finish().code(0);
            break;
        }
        victim.kill();
        if bundle.engine(&["state", "one"]).run().code == 0 {
            wait_until("its process to end or wait", || ["stopped", "created"].contains(&&*bundle.status()));
            let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        }
        host.prune();
        let _ = host.inside(|| fs::remove_file(bundle.pidfile()));
        let _ = host.inside(|| fs::remove_file(bundle.pidfile().with_extension("new")));
        before.assert_restored(|| host.snapshot());
        calls += tests::few();
    }
    assert!(calls > 50, "only {calls} system calls?");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}
