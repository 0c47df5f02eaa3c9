//! Other commands for OCI bundles and engines: `run --bundle`, `exec` in the foreground, `update --resources`,
//! `events`, `features` and `spec`; and the exit statuses that engines expect.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use tests::{Bundle, Host, Program, Terminal, launcher, wait_until};

/// Whether the host's cgroups have this controller.
fn has(host: &Host, controller: &str) -> bool {
    let controllers = fs::read_to_string(host.cgroup().parent().unwrap().join("cgroup.controllers")).unwrap();
    controllers.split_whitespace().any(|known| known == controller)
}

fn quiet(command: &mut Command) {
    command.stdout(Stdio::null()).stderr(Stdio::null());
}

fn run<'a>(bundle: &Bundle<'a>, options: &[&str]) -> Program<'a> {
    bundle.engine(&["run", "--bundle"]).arg(&bundle.directory).args(options).arg("one")
}

/// Starts the container in the background, without output.
fn start(bundle: &Bundle<'_>) {
    assert_eq!(run(bundle, &["-d"]).with(quiet).run().code, 0);
}

/// A process.json for a script.
fn process(bundle: &Bundle<'_>, script: &str, terminal: bool) -> String {
    let path = bundle.directory.join("process.json").display().to_string();
    let (user, env) = (json!({"uid": 33, "gid": 33}), ["PATH=/usr/bin:/bin", "B=c"]);
    let process = json!({"user": user, "args": ["sh", "-c", script], "env": env, "cwd": "/tmp", "terminal": terminal});
    bundle.host.inside(|| fs::write(&path, process.to_string())).unwrap();
    path
}

#[test]
fn run_in_the_foreground_deletes_the_container() {
    let host = Host::new();
    let _ = host.debian();
    let bundle = Bundle::new(&host, "echo $$ $(cat); echo wrong >&2; ls -l /proc/self/fd | wc -l; exit 7", |_| {});
    let before = host.snapshot();
    for options in [&[][..], &["--no-pivot", "--no-new-keyring", "--no-subreaper"]] {
        let outcome = run(&bundle, options).input(b"typed\n").run().code(7);
        assert_eq!((&*outcome.stdout, &*outcome.stderr), ("1 typed\n5\n", "wrong\n"));
        host.prune();
        before.assert_restored(|| host.snapshot());
    }
    // As in runc, the bundle defaults to the working directory, and `one` is a name, not a rootfs.
    let here = bundle.kontena(&["run", "one"]).with(|command| _ = command.current_dir(&bundle.directory));
    assert_eq!(here.input(b"here\n").run().code(7).stdout, "1 here\n5\n");
    let line = bundle.kontena(&["run", "one"]).run().refused(125);
    assert!(line.contains("one: ENOENT"), "{line}");
    host.prune();
    before.assert_restored(|| host.snapshot());

    let _ = run(&bundle, &["--keep"]).run().code(7);
    assert_eq!(bundle.status(), "stopped");
    let line = run(&bundle, &[]).run().refused(1);
    assert!(line.contains("already exists"), "{line}");
    let _ = bundle.engine(&["delete", "one"]).run().ok();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn failing_run_reports_why_and_leaves_nothing() {
    let host = Host::new();
    let _ = host.debian();
    let bundle = Bundle::new(&host, "", |config| config["process"]["args"] = json!(["nosuch"]));
    let before = host.snapshot();
    for options in [&[][..], &["--keep"], &["-d"]] {
        let line = run(&bundle, options).input(b"x").run().refused(1);
        assert!(line.contains("executable file not found in $PATH"), "{line}");
        host.inside(|| fs::remove_file(bundle.log())).unwrap();
        host.prune();
        before.assert_restored(|| host.snapshot());
    }
    let bundle = Bundle::new(&host, "true", |config| config["process"]["terminal"] = json!(true));
    for options in [&["-d"][..], &["--console-socket", "/nosuch"]] {
        let line = run(&bundle, options).run().refused(1);
        assert!(line.contains("--console-socket"), "{line}");
    }
}

#[test]
fn log_has_errors_of_options_before_it() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "true", |_| {});
    // The order of conmon's options.
    let log = bundle.log().display().to_string();
    let _ = bundle.kontena(&["--systemd-cgroup", "--log", &log, "features"]).run().refused(1);
    let text = host.inside(|| fs::read_to_string(bundle.log())).unwrap();
    assert!(text.contains("--systemd-cgroup: kontena does not ask systemd for cgroups"), "{text}");
}

#[test]
fn run_forwards_signals_and_can_be_killed() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done", |_| {});
    let pidfile = bundle.pidfile().display().to_string();
    let mut running = run(&bundle, &["--pid-file", &pidfile]).start();
    running.wait_for_output("up\n");
    assert_eq!((bundle.state()["pid"].clone(), bundle.status()), (json!(bundle.pid()), "running".into()));
    running.signal(Signal::SIGUSR1);
    let _ = running.finish().code(9);
    let line = bundle.engine(&["state", "one"]).run().refused(1);
    assert!(line.contains("does not exist"), "{line}");

    // If `run` is killed, the container stays as after `create` and `start`.
    let running = run(&bundle, &[]).with(quiet).start();
    wait_until("it to run", || bundle.engine(&["state", "one"]).run().stdout.contains("\"running\""));
    running.signal(Signal::SIGKILL);
    let _ = running.finish();
    assert_eq!(bundle.status(), "running");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    // Another process may delete it meanwhile.
    let running = run(&bundle, &[]).with(quiet).start();
    wait_until("it to run", || bundle.engine(&["state", "one"]).run().stdout.contains("\"running\""));
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    assert_eq!(running.finish().code, 137);
}

#[test]
fn run_lends_its_terminal_and_restores_it() {
    let host = Host::new();
    let script =
        "tty; stty size; exec 3>&0 <&- >&- 2>&-; sleep 0.2; exec <&3 >&3; echo ready; read x; echo got $x; exit 3";
    let bundle = Bundle::new(&host, script, |config| config["process"]["terminal"] = json!(true));
    let terminal = Terminal::start(run(&bundle, &[]), (33, 44));
    let _ = terminal.wait_for("ready");
    assert!(terminal.lines().contains("/dev/pts/0\n33 44\n"), "{}", terminal.lines());
    terminal.type_in("word\r");
    let _ = terminal.wait_for("got word");
    assert_eq!((terminal.finish(), terminal.modes()), (3, terminal.original_modes()));
    assert_eq!(bundle.engine(&["state", "one"]).run().code, 1);

    // The container ends with the terminal.
    let mut terminal = Terminal::start(run(&bundle, &[]), (33, 44));
    let _ = terminal.wait_for("ready");
    terminal.hang_up();
    wait_until("it to be deleted", || bundle.engine(&["state", "one"]).run().code == 1);
}

#[test]
fn process_runs_in_the_foreground() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "exec sleep 600", |_| {});
    start(&bundle);
    let exec = |options: &[&str], path: &str| bundle.engine(&["exec", "--process", path]).args(options).arg("one");
    let path = process(&bundle, "echo $(id -u) $PWD $B $(cat); echo wrong >&2; exit 5", false);
    let outcome = exec(&[], &path).input(b"typed\n").run().code(5);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("33 /tmp c typed\n", "wrong\n"));
    let behind = bundle.engine(&["exec", "one", &format!("--process={path}")]);
    assert_eq!(behind.run().code(5).stdout, "33 /tmp c\n");
    let path = process(&bundle, "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done", false);
    let mut running = exec(&[], &path).start();
    running.wait_for_output("up\n");
    running.signal(Signal::SIGUSR1);
    let _ = running.finish().code(9);

    // kontena's stdio is a terminal.
    let path = process(&bundle, "tty; stty size; read x; echo got $x; exit 3", true);
    let terminal = Terminal::start(exec(&[], &path), (33, 44));
    let _ = terminal.wait_for("33 44");
    terminal.type_in("word\r");
    let _ = terminal.wait_for("got word");
    assert_eq!((terminal.finish(), terminal.modes()), (3, terminal.original_modes()));

    let path = process(&bundle, "true", false);
    let line = exec(&["--console-socket", "/nosuch"], &path).run().refused(255);
    assert!(line.contains("--console-socket"), "{line}");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn fds_are_passed_on() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "cat <&3; exec 3<&-; exec sleep 600", |_| {});
    let open = |program: Program<'_>| {
        let arguments = ["-c", "exec 3<<- E 4</ 5</\npassed on\nE\nexec \"$@\"", "sh"];
        program.through("sh", &arguments).run()
    };
    let log = host.directory().join("out").display().to_string();
    let create = bundle.create().args(["--preserve-fds", "1"]).through("sh", &["-c", "exec \"$@\" > $0 2>&1", &log]);
    let _ = open(create).ok();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    wait_until("its output", || host.inside(|| fs::read_to_string(&log)).unwrap() == "passed on\n");

    let script = "echo $(ls /proc/self/fd) $(cat <&3)";
    let path = process(&bundle, script, false);
    let words = ["exec", "--preserve-fds", "1"];
    // ls itself has one more.
    let seen = "0 1 2 3 4 passed on\n";
    assert_eq!(open(bundle.engine(&words).args(["--process", &path, "one"])).ok(), seen);
    assert_eq!(open(bundle.kontena(&words).args(["one", "sh", "-c", script])).ok(), seen);
    let pidfile = bundle.pidfile().display().to_string();
    let detached = bundle.engine(&words).args(["-d", "--pid-file", &pidfile, "--process", &path, "one"]);
    assert_eq!(open(detached).ok(), seen);
    let line = bundle.kontena(&["exec", "--preserve-fds", "1", "one", "true"]).run().refused(125);
    assert!(line.contains("--preserve-fds: fd 3: EBADF"), "it is none of kontena's own: {line}");
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
}

#[test]
fn runcs_exec_works_in_a_bundle() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "exec sleep 600", |_| {});
    start(&bundle);
    let script = "echo $(id -u) $PWD $A $B $(cat)";
    let options = ["exec", "--user", "33:33", "--cwd", "/tmp", "--env", "B=d"];
    let outcome = bundle.kontena(&options).args(["one", "sh", "-c", script]).input(b"typed\n").run();
    assert_eq!(outcome.ok(), "33 /tmp b c d typed\n");
    let terminal =
        Terminal::start(bundle.kontena(&["exec", "--tty", "one", "sh", "-c", "read x; echo got $x"]), (5, 6));
    terminal.type_in("word\r");
    let _ = terminal.wait_for("got word");
    assert_eq!(terminal.finish(), 0);
    // The pid file is written only if the process runs.
    let pidfile = bundle.pidfile();
    let detached = |command: &[&str]| {
        bundle.kontena(&["exec", "-d", "--pid-file"]).arg(&pidfile).arg("one").args(command).with(quiet).run()
    };
    assert_eq!((detached(&["nosuch"]).code, host.inside(|| pidfile.exists())), (255, false));
    assert_eq!(detached(&["sleep", "601"]).code, 0);
    let pids: Vec<u32> = serde_json::from_str(&bundle.engine(&["ps", "--format", "json", "one"]).run().ok()).unwrap();
    assert_eq!(
        pids.into_iter().collect::<BTreeSet<_>>(),
        [bundle.pid(), bundle.state()["pid"].as_u64().unwrap() as u32].into()
    );
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();

    // The same for a container of kontena's own.
    let own = |words: &[&str]| bundle.kontena(words);
    let debian = host.debian().display().to_string();
    let options = ["run", "-d", "--net", "none", "--cgroup-parent", &host.cgroup_parent_option(), "--name", "own"];
    let _ = own(&options).arg(&debian).args(["sleep", "600"]).run().ok();
    let _ = own(&["exec", "-d", "--pid-file"]).arg(&pidfile).args(["own", "sleep", "602"]).run().ok();
    let shown = own(&["ps", "own"]).run().ok();
    assert!(shown.contains(&format!(" {} ", bundle.pid())) && shown.contains("sleep 602"), "{shown}");
    let _ = own(&["delete", "-f", "own"]).run().ok();
}

#[test]
fn exec_is_refused_before_start_and_while_paused() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "exec sleep 600", |_| {});
    let path = process(&bundle, "true", false);
    let refused = |words: &str, status: i32| {
        for exec in [&["exec", "one", "true"][..], &["exec", "-d", "one", "true"], &["exec", "--process", &path, "one"]]
        {
            let line = bundle.kontena(exec).run().refused(status);
            assert!(line.contains(words), "{exec:?}: {line}");
        }
    };
    bundle.create_in_silence();
    refused("has not been started", 255);
    assert_eq!(bundle.engine(&["pause", "one"]).run().ok(), "");
    let line = bundle.engine(&["start", "one"]).run().refused(1);
    assert!(line.contains("is paused"), "{line}");
    assert_eq!(bundle.engine(&["resume", "one"]).run().ok(), "");
    let _ = bundle.engine(&["start", "one"]).run().ok();
    assert_eq!(bundle.engine(&["pause", "one"]).run().ok(), "");
    refused("is paused", 255);
    assert_eq!(bundle.engine(&["resume", "one"]).run().ok(), "");
    let _ = bundle.engine(&["kill", "one", "KILL"]).run().ok();
    wait_until("it to stop", || bundle.status() == "stopped");
    refused("container not running", 255);
    let _ = bundle.engine(&["delete", "one"]).run().ok();
}

#[test]
fn missing_and_stopped_containers_have_runcs_exit_statuses() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "exec sleep 600", |_| {});
    for verb in ["start", "state", "kill", "delete", "pause", "resume", "ps", "events", "stop"] {
        for command in [bundle.kontena(&[verb, "nosuch"]), bundle.engine(&[verb, "nosuch"])] {
            let line = command.run().refused(1);
            assert!(line.contains("does not exist"), "{verb}: {line}");
        }
    }
    assert_eq!(bundle.kontena(&["delete", "--force", "nosuch"]).run().ok(), "");
    // 1 could be the command's own status.
    let _ = bundle.kontena(&["exec", "nosuch", "true"]).run().refused(125);
    let _ = bundle.engine(&["exec", "nosuch", "true"]).run().refused(255);

    start(&bundle);
    let line = bundle.kontena(&["kill", "one", "32"]).run().refused(1);
    assert!(line.contains("1 to 31 or 34 to 64"), "{line}");
    let line = bundle.kontena(&["delete", "one"]).run().refused(1);
    assert!(line.contains("is running"), "{line}");
    let line = bundle.kontena(&["create", "-b"]).arg(&bundle.directory).arg("one").run().refused(1);
    assert!(line.contains("already exists"), "{line}");
    let _ = bundle.kontena(&["kill", "--all", "one", "9"]).run().ok();
    wait_until("it to stop", || bundle.status() == "stopped");
    let line = bundle.kontena(&["kill", "one", "9"]).run().refused(1);
    assert!(line.contains("not running"), "{line}");
    let _ = bundle.kontena(&["kill", "--all", "one", "9"]).run().ok();
    let _ = bundle.kontena(&["delete", "one"]).run().ok();
    for words in [&["checkpoint", "--help"][..], &["restore", "one"]] {
        let line = bundle.kontena(words).run().refused(1);
        assert!(line.contains("does not checkpoint containers"), "{line}");
    }
}

#[test]
fn list_has_runcs_members() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "exec sleep 600", |_| {});
    bundle.create_in_silence();
    let listed: Value = serde_json::from_str(&bundle.kontena(&["list", "--format", "json"]).run().ok()).unwrap();
    let state = bundle.state();
    for key in ["ociVersion", "id", "pid", "status", "bundle", "created", "annotations"] {
        assert_eq!(listed[0][key], state[key], "{key}");
    }
    assert_eq!(bundle.engine(&["list", "-q"]).run().ok(), "one\n");
    let _ = bundle.engine(&["delete", "one"]).run().ok();
}

#[test]
fn resources_are_updated_from_a_file_and_from_stdin() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "exec sleep 600", |_| {});
    start(&bundle);
    let options = ["run", "-d", "--net", "none", "--cgroup-parent", &host.cgroup_parent_option(), "--name", "own"];
    let _ = bundle.kontena(&options).arg(host.debian()).args(["sleep", "600"]).run().ok();
    let file = bundle.directory.join("resources.json").display().to_string();
    for (name, printed) in [("one", ""), ("own", "own\n")] {
        let leaf = host.cgroup_parent().join(name);
        let value = |name: &str| host.inside(|| fs::read_to_string(leaf.join(name))).unwrap();
        // containerd always sends the devices, too.
        let resources =
            |depth: &str| json!({"devices": [{"allow": false}], "unified": {"cgroup.max.depth": depth}}).to_string();
        host.inside(|| fs::write(&file, resources("3"))).unwrap();
        for (depth, words) in [
            ("3", &["update", "--resources", &file, name][..]),
            ("4", &["update", "--resources", "-", name]),
            ("5", &["update", "--resources=-", name]),
            ("6", &["update", name, "-r", "-"]),
        ] {
            assert_eq!(bundle.engine(words).input(resources(depth).as_bytes()).run().ok(), printed, "{words:?}");
            assert_eq!(value("cgroup.max.depth"), format!("{depth}\n"), "{words:?}");
        }
        if has(&host, "pids") && has(&host, "memory") {
            let resources = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}, "cpu": {"shares": 512}});
            let words = ["update", "--resources", "-", name, "--cgroup-conf", "memory.high=32m"];
            let _ = bundle.kontena(&words).input(resources.to_string().as_bytes()).run().ok();
            let all = ["memory.max", "pids.max", "memory.high"].map(value);
            assert_eq!(all, ["67108864\n", "50\n", "33554432\n"]);
        }
        for (input, words) in
            [("{", "--resources -: line 1"), (r#"{"pids": {"limit": "x"}}"#, "pids.limit: expected a number")]
        {
            let line = bundle.kontena(&["update", "--resources", "-", name]).input(input.as_bytes()).run().refused(1);
            assert!(line.contains(words), "{line}");
        }
        // An engine may have nothing to update.
        assert_eq!(bundle.kontena(&["update", "--resources", "-", name]).input(b"{}").run().ok(), printed);
    }
    let _ = bundle.engine(&["delete", "--force", "one", "own"]).run().ok();
}

#[test]
fn events_are_like_runcs_until_the_end() {
    let host = Host::new();
    let has_memory = has(&host, "memory");
    let script = "until [ -e /tmp/go ]; do sleep 0.05; done; tail /dev/zero; exec sleep 600";
    let bundle = Bundle::new(&host, script, |config| {
        if has_memory {
            config["linux"]["resources"]["memory"] = json!({"limit": 32 << 20, "swap": 32 << 20});
        }
    });
    start(&bundle);
    let once: Value = serde_json::from_str(&bundle.kontena(&["events", "--stats", "one"]).run().ok()).unwrap();
    assert_eq!((&once["type"], &once["id"]), (&json!("stats"), &json!("one")));
    assert!(once["data"]["cpu"]["usage"]["total"].is_u64(), "{once}");
    assert!(once["data"]["blkio"]["ioServicedRecursive"].is_array(), "{once}");
    assert_eq!(once["data"]["memory"]["usage"]["limit"].as_u64(), has_memory.then_some(32 << 20));

    let mut events = bundle.engine(&["events", "--interval", "50ms", "one"]).start();
    wait_until("some of them", || events.stdout().lines().count() > 2);
    if has_memory {
        let _ = bundle.kontena(&["exec", "one", "touch", "/tmp/go"]).run().ok();
        events.wait_for_output("{\"type\":\"oom\",\"id\":\"one\"}\n");
    }
    let _ = bundle.engine(&["kill", "one", "KILL"]).run().ok();
    let outcome = events.finish();
    assert!(outcome.stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{outcome}");
    assert_eq!(outcome.code, 0, "{outcome}");
    let _ = bundle.kontena(&["events", "one"]).run().refused(1);
    let _ = bundle.engine(&["delete", "one"]).run().ok();
}

#[test]
fn features_are_json() {
    let host = Host::new();
    let outcome = host.program(launcher()).arg("features").run();
    assert_eq!(outcome.stderr, "");
    let features: Value = serde_json::from_str(&outcome.ok()).unwrap();
    assert_eq!([&features["ociVersionMin"], &features["ociVersionMax"]], [&json!("1.0.0"), &json!("1.3.0")]);
    let linux = &features["linux"];
    assert!(features["mountOptions"].as_array().unwrap().contains(&json!("rro")));
    assert!(linux["capabilities"].as_array().unwrap().contains(&json!("CAP_CHECKPOINT_RESTORE")));
    assert_eq!((&linux["cgroup"]["v1"], &linux["cgroup"]["v2"]), (&json!(false), &json!(true)));
    // Everything in the output can be used in a config.json.
    let list = |value: &Value| value.as_array().unwrap().clone();
    let operators = list(&linux["seccomp"]["operators"]);
    let arguments: Vec<_> =
        operators.iter().zip(0..6).map(|(op, index)| json!({"index": index, "value": 1, "op": op})).collect();
    // Options that are not for binds, or have no maps here.
    let others = ["idmap", "ridmap", "tmpcopyup", "remount", "dirsync", "lazytime", "sync"];
    let mounts: Vec<_> = list(&features["mountOptions"])
        .into_iter()
        .filter(|option| !others.contains(&option.as_str().unwrap()))
        .map(|option| {
            let target = format!("/tmp/{}", option.as_str().unwrap());
            json!({"destination": target, "source": "/etc", "options": ["bind", option]})
        })
        .collect();
    // SCMP_ACT_NOTIFY needs an agent.
    for action in list(&linux["seccomp"]["actions"]).into_iter().filter(|action| action != "SCMP_ACT_NOTIFY") {
        let bundle = Bundle::new(&host, "true", |config| {
            config["mounts"].as_array_mut().unwrap().extend(mounts.clone());
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "flags": linux["seccomp"]["supportedFlags"],
                "architectures": linux["seccomp"]["archs"],
                "syscalls": [{"names": ["mount"], "action": action, "args": arguments}]
            });
            config["process"]["capabilities"]["bounding"] = linux["capabilities"].clone();
        });
        let _ = run(&bundle, &[]).run().ok();
    }
}

#[test]
fn spec_writes_a_working_config_and_overwrites_nothing() {
    let host = Host::new();
    let bundle = Bundle::new(&host, "true", |_| {});
    let file = bundle.directory.join("config.json");
    let spec = |options: &[&str]| bundle.kontena(&["spec", "--bundle"]).arg(&bundle.directory).args(options).run();
    let line = spec(&[]).refused(1);
    assert!(line.contains("config.json exists"), "{line}");
    host.inside(|| fs::remove_file(&file)).unwrap();
    assert_eq!(spec(&[]).ok(), "");
    let text = host.inside(|| fs::read_to_string(&file)).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["process"]["terminal"], true);
    config["root"]["path"] = json!(host.debian());
    config["process"]["args"] = json!(["sh", "-c", "tty; cat /proc/sys/kernel/hostname; exit 4"]);
    host.inside(|| fs::write(&file, config.to_string())).unwrap();
    let terminal = Terminal::start(run(&bundle, &[]), (24, 80));
    assert_eq!(terminal.finish(), 4);
    assert!(terminal.lines().contains("/dev/pts/0\nkontena\n"), "{}", terminal.lines());

    host.inside(|| fs::remove_file(&file)).unwrap();
    let here = bundle.kontena(&["spec", "--rootless"]).with(|command| _ = command.current_dir(&bundle.directory));
    let _ = here.run().ok();
    let text = host.inside(|| fs::read_to_string(&file)).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    config["root"]["path"] = json!(host.debian());
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["cat", "/proc/self/uid_map"]);
    host.inside(|| fs::write(&file, config.to_string())).unwrap();
    let map = run(&bundle, &[]).run().ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);
}
