//! Ownership on the host: kontena removes only what is provably its own, whatever it intended, whatever --root says,
//! and whatever other objects have the same name.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tests::traffic::assert_unreachable;
use tests::{
    Background, Container, HOST_ADDRESS, Host, REGISTRY, Running, Traced, leaf_processes, wait_for, wait_until,
};

/// A cgroup that somebody else has made, with a process in it.
struct Stranger {
    leaf: PathBuf,
    process: Running,
}

impl Stranger {
    fn new(host: &Host, name: &str) -> Self {
        let leaf = host.cgroup_parent().join(name);
        fs::create_dir_all(&leaf).unwrap();
        let process = host.program("sleep").arg("600").start();
        fs::write(leaf.join("cgroup.procs"), process.pid().to_string()).unwrap();
        Self { leaf, process }
    }

    #[track_caller]
    fn assert_unharmed(&mut self) {
        assert!(!self.process.has_ended(), "the stranger's process was killed");
        assert_eq!(leaf_processes(&self.leaf), [self.process.pid()]);
    }
}

/// All files and directories, with their modes, contents and where links lead.
fn look(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| found.extend(look(&entry.unwrap().path())));
    }
    let content = match fs::read_link(path) {
        Ok(target) => target.display().to_string(),
        Err(_) if metadata.is_file() => String::from_utf8_lossy(&fs::read(path).unwrap()).into(),
        Err(_) => String::new(),
    };
    found.insert(path.into(), format!("{:o} {content}", metadata.mode()));
    found
}

#[test]
fn foreign_cgroup_survives_every_verb() {
    let host = Host::new();
    let mut stranger = Stranger::new(&host, "victim.service");
    let _ = host.demo();
    for options in
        [&[][..], &["-d"], &["-d", "--restart", "always"], &["-p", "8080:80"], &["--userns", "map=0:100000:65536"]]
    {
        let options = [&["--name", "victim.service"], options].concat();
        let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains("EEXIST") && line.contains("choose another --name or --cgroup-parent"), "{line}");
        stranger.assert_unharmed();
        for words in [&["rm"][..], &["kill"], &["kill", "--all"], &["stop"], &["pause"], &["exec"]] {
            let (rest, status) = if words[0] == "exec" { (&["true"][..], 125) } else { (&[][..], 1) };
            let line = host.kontena().args([words, &["victim.service"], rest].concat()).run().refused(status);
            assert!(line.contains("no such container"), "{line}");
        }
        let _ = host.kontena().args(["rm", "-f", "victim.service"]).run().ok();
        host.prune();
        stranger.assert_unharmed();
    }
}

#[test]
fn foreign_cgroup_created_at_the_worst_moment_survives() {
    // Between what the journal says and mkdir(2); then the launcher is killed, or goes on.
    let host = Host::new();
    for (is_killed, verb) in [(true, "prune"), (true, "run"), (true, "rm"), (false, "prune")] {
        let options = ["--name", "victim", "--net", "none"];
        let mut launcher = Traced::start(host.run(&options, host.demo(), &["/bin/true"]));
        let leaf = host.cgroup_parent().join("victim");
        let path = [leaf.to_str().unwrap().as_bytes(), &[0]].concat();
        let mut makes = 0;
        while let Some((number, arguments)) = launcher.next_call() {
            // The parent is made by then.
            makes += usize::from(
                number as i64 == libc::SYS_mkdirat && launcher.read(arguments[1], path.len() as u64) == path,
            );
            if makes > 0 && host.cgroup_parent().exists() {
                break;
            }
        }
        assert!(fs::read_to_string(host.state().join("victim/journal")).unwrap().contains(leaf.to_str().unwrap()));
        let mut stranger = Stranger::new(&host, "victim");
        if is_killed {
            launcher.kill();
        } else {
            assert!(launcher.finish().refused(125).contains("EEXIST"));
        }
        stranger.assert_unharmed();
        match verb {
            "prune" => host.prune(),
            "run" => assert!(host.run(&options, host.demo(), &["/bin/true"]).run().refused(125).contains("EEXIST")),
            _ => drop(host.kontena().args(["rm", "-f", "victim"]).run()),
        }
        assert!(!host.state().join("victim").exists(), "{verb}");
        stranger.assert_unharmed();
        drop(stranger.process);
        wait_until("the cgroup to be empty", || fs::remove_dir(&stranger.leaf).is_ok());
    }
}

#[test]
fn leaf_of_a_killed_launcher_is_not_confused_with_a_newer_cgroup() {
    // The journal has its number, and then somebody removes it, and makes another one of the name.
    let host = Host::new();
    let job = host.background("job", &[], "exec sleep 600");
    let leaf = job.leaf();
    job.kill_launcher();
    fs::remove_dir(&leaf).unwrap();
    let mut stranger = Stranger::new(&host, "job");
    host.prune();
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    stranger.assert_unharmed();
}

#[test]
fn foreign_cgroup_parent_stays() {
    let host = Host::new();
    let _ = host.run(&["--net", "none"], host.demo(), &["/bin/true"]).run().ok();
    // It was kontena's; now another one has the name, with nothing in it yet.
    fs::remove_dir(host.cgroup_parent()).unwrap();
    fs::create_dir(host.cgroup_parent()).unwrap();
    host.prune();
    assert!(host.cgroup_parent().exists());
}

#[test]
fn two_state_directories_with_one_name_do_not_conflict() {
    let host = Host::new();
    let other = host.directory().join("other");
    let web = host.nginx("web", &["-p", "8080:80"]);
    let before = host.snapshot();
    for options in [&["--name", "web"][..], &["--name", "web", "-d"], &["--name", "web", "--net", "none"]] {
        let line = host.run_in(&other, options, &["/bin/true"]).run().refused(125);
        assert!(line.contains("EEXIST"), "{line}");
        let _ = host.kontena_in(&other).arg("prune").run().ok();
        host.get("127.0.0.1:8080").unwrap();
        before.assert_restored(|| host.snapshot());
    }
    // In another cgroup it is another container.
    let options = ["--name", "web", "--cgroup-parent", &format!("{}/other", host.cgroup_parent_option())];
    let program = host.kontena_in(&other).arg("run").args(options).arg(host.demo()).arg("/usr/sbin/nginx");
    let second = program.start();
    let leaf = host.cgroup_parent().join("other/web");
    wait_until("the second one", || !leaf_processes(&leaf).is_empty());
    let _ = web.stop();
    assert!(!leaf_processes(&leaf).is_empty());
    second.signal(Signal::SIGTERM);
    let _ = second.finish();
}

#[test]
fn prune_keeps_resources_of_another_state_directory() {
    let host = Host::new();
    let other = host.directory().join("other");
    let prune_other = || drop(host.kontena_in(&other).arg("prune").run().ok());
    let nothing = host.snapshot();
    // The other one makes the bridge and all that goes with it, and then has nothing left to do with it.
    let _ = host.run_in(&other, &[], &["/bin/true"]).run().ok();
    let web = host.nginx("web", &["-p", "8080:80"]);
    // The kernel takes its time over the link of the first one.
    let links = || host.snapshot().lines("links").iter().filter(|line| line.contains(" kt")).count();
    wait_until("one link to be left", || links() == 1);
    let before = host.snapshot();
    prune_other();
    assert!(!other.exists());
    host.get("127.0.0.1:8080").unwrap();
    host.neighbour.get("192.0.2.1:8080").unwrap();
    before.assert_restored(|| host.snapshot());
    assert_eq!(host.snapshot().lines("forwarding"), ["1"]);
    let _ = web.stop();
    // The last one removes everything.
    prune_other();
    nothing.assert_restored(|| host.snapshot().with("state", &nothing));
    host.prune();
    nothing.assert_restored(|| host.snapshot());
}

#[test]
fn failed_start_keeps_resources_of_another_state_directory() {
    let host = Host::new();
    let web = host.nginx("web", &["-p", "8080:80"]);
    let other = host.directory().join("other");
    let new = ["--net", "bridge=blue,subnet=10.88.0.0/24"];
    let _ = host.run_in(&other, &new, &["/nosuch"]).run().refused(127);
    host.get("127.0.0.1:8080").unwrap();
    assert!(host.says("ip", &["link"]).contains("kontena0"));
    let _ = host.kontena_in(&other).arg("prune").run().ok();
    host.get("127.0.0.1:8080").unwrap();
    let _ = web.stop();
    host.prune();
    assert!(!host.says("ip", &["link"]).contains("kontena0"));
}

#[test]
fn links_that_only_look_like_kontenas_survive_prune() {
    let host = Host::new();
    let run = || drop(host.run(&[], host.demo(), &["/bin/true"]).run().ok());
    // One with the name of a container's link, which is on no bridge.
    host.ip("link add kt0a4d0505 type veth peer name other\n");
    run();
    host.prune();
    assert!(host.says("ip", &["link"]).contains("kt0a4d0505"));
    // Somebody's own on the bridge.
    run();
    host.ip("link add tap type veth peer name tap2\nlink set tap master kontena0\n");
    host.prune();
    assert!(host.says("ip", &["link", "show", "tap"]).contains("master kontena0"));
    assert!(host.says("nft", &["list", "ruleset"]).contains("table ip kontena"));
    assert_eq!(host.snapshot().lines("forwarding"), ["1"]);
    host.ip("link del tap\n");
    host.prune();
    assert!(!host.says("ip", &["link"]).contains("kontena0"));
    // Another bridge, that has the name by now.
    run();
    host.ip("link del kontena0\nlink add kontena0 type bridge\n");
    host.prune();
    assert!(host.says("ip", &["link"]).contains("kontena0"));
}

#[test]
fn state_directories_never_lease_the_same_ids() {
    let host = Host::new();
    host.set_aside("kontena:100000:131072\n");
    let roots: Vec<PathBuf> = (0..3).map(|number| host.directory().join(format!("root{number}"))).collect();
    // On a file system that has idmapped mounts on every kernel.
    let image = tests::images().join("demo.erofs");
    let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
    let run = |root: &Path, name: &str| {
        let program = host.kontena_in(root).args(["run", "--net", "none", "--userns", "auto", "--name", name]);
        let program = program.arg("--cgroup-parent").arg(host.cgroup_parent_option()).args(["-v", &volume]);
        program.arg(&image).args(["/run/intruder", "time", "4000000000"])
    };
    let first_id = |container: &mut Container<'_>| {
        let path = format!("/proc/{}/uid_map", container.init());
        wait_until("the map", || fs::read_to_string(&path).is_ok_and(|map| !map.is_empty()));
        fs::read_to_string(&path).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    let mut first = Container::new(&host, "a", run(&roots[0], "a").start());
    let mut second = Container::new(&host, "b", run(&roots[1], "b").start());
    let ids = [first_id(&mut first), first_id(&mut second)];
    assert_ne!(ids[0], ids[1]);
    let line = run(&roots[2], "c").run().refused(125);
    assert!(line.contains("every block of 65536 ids"), "{line}");
    // The next command that needs a killed launcher's resources releases them, wherever it was.
    let leaf = first.leaf();
    first.signal(Signal::SIGKILL);
    let _ = first.into_running().finish();
    wait_until("the end of the container", || leaf_processes(&leaf).is_empty());
    let mut third = Container::new(&host, "c", run(&roots[2], "c").start());
    assert_eq!(first_id(&mut third), ids[0]);
    assert!(!leaf.exists());
    for container in [second, third] {
        let _ = container.stop();
    }
    assert!(host.leases().is_empty());
}

#[test]
fn repair_keeps_the_port_of_another_state_directory() {
    // The victim is killed when its address and its port are in its journal, and before anything is in the tables; then
    // another has the name, and so would have the address, and the port.
    let host = Host::new();
    let other = host.directory().join("other");
    let _bridge = host.nginx("bridge", &[]);
    for is_published in [false, true] {
        let options = ["--name", "web", "-p", "8080:80"];
        let mut victim = Traced::start(host.run_in(&other, &options, &["/usr/sbin/nginx"]));
        let mut published = 0;
        while let Some((number, arguments)) = victim.next_call() {
            let of_map = |bytes: &[u8]| bytes.windows(9).any(|window| window == b"published");
            published +=
                usize::from(number as i64 == libc::SYS_sendto && of_map(&victim.read(arguments[1], arguments[2])));
            if published > 0 && (!is_published || number as i64 != libc::SYS_sendto) {
                break;
            }
        }
        victim.kill();
        let leaf = host.cgroup_parent().join("web");
        wait_until("the end of its processes", || leaf_processes(&leaf).is_empty());
        // Its leaf is its own until somebody repairs it.
        let parent = format!("{}/second", host.cgroup_parent_option());
        let options = [&options[..], &["--cgroup-parent", &parent, "-d", "--wait-ready"]].concat();
        let program = host.kontena().arg("run").args(&options).arg(host.demo()).arg("/usr/sbin/nginx");
        let _ = program.run().ok();
        host.get("127.0.0.1:8080").unwrap();
        let _ = host.kontena_in(&other).arg("prune").run().ok();
        assert!(!other.join("web").exists() && !leaf.exists());
        host.get("127.0.0.1:8080").unwrap();
        host.neighbour.get("192.0.2.1:8080").unwrap();
        let _ = host.kontena().args(["rm", "-f", "web"]).run().ok();
    }
}

#[test]
fn repair_from_another_network_leaves_no_port_open() {
    // As a service with PrivateNetwork=yes that calls kontena. The leftover port would lead to the next container with
    // that address.
    let host = Host::new();
    let _stays = host.nginx("stays", &[]);
    let ports = || host.says("nft", &["list", "map", "ip", "kontena", "published"]);
    let killed = host.nginx("web", &["-p", "8080:80"]);
    assert!(ports().contains("8080"), "{}", ports());
    killed.signal(Signal::SIGKILL);
    let leaf = host.cgroup_parent().join("web");
    wait_until("the end of its processes", || leaf_processes(&leaf).is_empty());
    drop(killed);
    let _ = host.kontena().arg("prune").through("unshare", &["-n"]).run().ok();
    assert!(!leaf.exists() && !host.state().join("web").exists());
    assert!(!ports().contains("8080"), "{}", ports());
    let _next = host.nginx("web", &[]);
    assert_unreachable(host.place(), &format!("{HOST_ADDRESS}:8080"));
}

/// A directory of somebody's that is no state directory, and has all that kontena could take for its own.
fn home(host: &Host) -> PathBuf {
    let home = host.directory().join("home");
    for name in ["empty", "app", "run", "web", "log", "a/b/c"] {
        fs::create_dir_all(home.join(name)).unwrap();
    }
    for (name, text) in [
        ("web/journal", "kept\nended 0 1 0 - \n"),
        ("web/data", "mine"),
        ("log/journal", "dear diary\n"),
        ("app/stop", ""),
        ("run/journal", ""),
        ("run/plan", "a plan"),
        ("a/b/journal", ""),
        ("file", ""),
        (".host", "net table kontena\ncgroup directory /sys\n"),
        (".swept", ""),
    ] {
        fs::write(home.join(name), text).unwrap();
    }
    fs::create_dir(home.join(".leases")).unwrap();
    symlink("web", home.join("link")).unwrap();
    home
}

#[test]
fn directory_without_the_mark_is_left_alone() {
    let host = Host::new();
    let home = home(&host);
    let before = look(&home);
    let machine = host.snapshot();
    for words in [
        &["prune"][..],
        &["list"],
        &["rm", "-f", "web"],
        &["delete", "web", "log", "app", "run"],
        &["stop", "web"],
        &["logs", "log"],
        &["run", "--net", "none", "--name", "web", "/", "true"],
        &["run", "-d", "--name", "new", "/", "true"],
        &["run", "--name", "app", "-p", "8080:80", "/", "true"],
    ] {
        let line = host.kontena_in(&home).args(words).run().refused(125);
        assert!(line.contains("is not a state directory of kontena") && line.contains("--root"), "{line}");
        // As it is where somebody has confused the two.
        let program = host.program(tests::launcher()).with(|command| _ = command.current_dir(&home));
        let line = program.args(["--root", "."]).args(words).run().refused(125);
        assert!(line.contains("is not a state directory of kontena"), "{line}");
        assert_eq!(look(&home), before, "{words:?}");
        machine.assert_restored(|| host.snapshot());
    }
    // Nor where something in it only looks like the mark.
    for mark in ["0 0", "1 700", "x", "700"] {
        symlink(mark, home.join(".kontena")).unwrap();
        let _ = host.kontena_in(&home).arg("prune").run().refused(125);
        fs::remove_file(home.join(".kontena")).unwrap();
        assert_eq!(look(&home), before);
    }
}

#[test]
fn links_below_the_state_directory_lead_nowhere() {
    let host = Host::new();
    let home = home(&host);
    let _ = host.kontena().arg("list").run().ok();
    for name in ["web", "run", "app", "empty"] {
        symlink(home.join(name), host.state().join(name)).unwrap();
    }
    fs::create_dir(host.state().join("job")).unwrap();
    symlink(home.join("web/journal"), host.state().join("job/journal")).unwrap();
    let before = look(&home);
    for name in ["web", "run", "app", "empty", "job"] {
        host.prune();
        // It does not exist, so it is gone already.
        assert_eq!(host.kontena().args(["rm", "-f", name]).run().ok(), "");
        for words in [&["delete", name][..], &["stop", name], &["logs", name]] {
            assert_ne!(host.kontena().args(words).run().code, 0, "{words:?}");
        }
        let _ = host.run(&["--net", "none", "--name", name], host.demo(), &["/bin/true"]).run().refused(125);
        assert_eq!(look(&home), before, "{name}");
    }
    assert_eq!(host.kontena().arg("list").arg("-q").run().ok(), "");
}

#[test]
fn foreign_files_in_the_state_survive() {
    let host = Host::new();
    let job = host.background("job", &[], "exit 0");
    assert_eq!(job.end(), 0);
    for name in ["notes", "log.old", "journal.bak", ".hidden"] {
        fs::write(job.directory().join(name), "mine").unwrap();
    }
    let _ = job.does("delete");
    host.prune();
    let mut left: Vec<_> = fs::read_dir(job.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort_unstable();
    assert_eq!(left, [".hidden", "journal.bak", "log.old", "notes"]);
    assert_eq!(job.status(), "gone");
}

#[test]
fn existing_empty_directory_is_restored() {
    let host = Host::new();
    let found = host.directory().join("found");
    for mode in [0o755, 0o700, 0o1777, 0o2775] {
        fs::create_dir(&found).unwrap();
        fs::set_permissions(&found, fs::Permissions::from_mode(mode)).unwrap();
        let _ = host.kontena_in(&found).arg("prune").run().ok();
        let _ = host.run_in(&found, &["--net", "none"], &["/bin/true"]).run().ok();
        assert_eq!(fs::metadata(&found).unwrap().mode() & 0o7777, 0o700, "while it is kontena's");
        let _ = host.kontena_in(&found).arg("prune").run().ok();
        assert_eq!(fs::metadata(&found).unwrap().mode() & 0o7777, mode);
        // Empty, or this fails.
        fs::remove_dir(&found).unwrap();
    }
}

#[test]
fn copy_of_a_state_directory_is_refused() {
    // Only its owner undoes its journals.
    let host = Host::new();
    let web = host.nginx("web", &["-p", "8080:80"]);
    let copy = host.directory().join("copy");
    let _ = host.program("cp").arg("-a").arg(host.state()).arg(&copy).run().ok();
    let before = look(&copy);
    for words in [&["prune"][..], &["rm", "-f", "web"], &["run", "--name", "web", "/", "true"]] {
        let line = host.kontena_in(&copy).args(words).run().refused(125);
        assert!(line.contains("is not a state directory of kontena") && line.contains("a copy"), "{line}");
    }
    assert_eq!(look(&copy), before);
    host.get("127.0.0.1:8080").unwrap();
    let _ = web.stop();
}

#[test]
fn ordinary_user_cannot_block_a_start_by_a_lock() {
    let host = Host::new();
    let found = host.directory().join("found");
    fs::create_dir(&found).unwrap();
    let lock = |path: &Path| {
        let program = host.program("setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups", "flock", "-x"]);
        program.arg(path).args(["sleep", "600"]).start()
    };
    // Before kontena comes to a directory that anybody can open, he has it open already.
    let mut early = lock(&found);
    wait_until("the lock", || {
        fs::read_to_string("/proc/locks").unwrap().contains(&format!(":{} 0 EOF", fs::metadata(&found).unwrap().ino()))
    });
    for root in [&found, &host.state()] {
        let _ = host.run_in(root, &["--net", "none"], &["/bin/true"]).run().ok();
        let _ = host.run_in(root, &["-d", "--name", "job", "--net", "none"], &["/usr/sbin/nginx"]).run().ok();
        for path in [
            root.clone(),
            root.join("job"),
            root.join("job/journal"),
            REGISTRY.into(),
            format!("{REGISTRY}/.lock").into(),
        ] {
            let refused = lock(&path).finish();
            assert!(refused.code != 0 && refused.stderr.contains("Permission denied"), "{}: {refused}", path.display());
        }
        let _ = host.kontena_in(root).args(["rm", "-f", "job"]).run().ok();
        let _ = host.kontena_in(root).arg("prune").run().ok();
    }
    assert!(!early.has_ended(), "{}", early.stderr());
}

/// Holds all locks of the registry, as another kontena does that is stopped.
fn hold_registry(host: &Host) -> File {
    let path = format!("{REGISTRY}/.lock");
    let file = host.inside(|| File::options().read(true).write(true).open(path).unwrap());
    let all = libc::flock { l_type: libc::F_WRLCK as _, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&all)).unwrap();
    file
}

#[test]
fn signals_end_a_waiting_start() {
    let host = Host::new();
    let _ = host.sh(&[], "true").run().ok();
    let held = hold_registry(&host);
    let sleeps = format!("{} 0x", libc::SYS_nanosleep);
    let call = |pid: u32| fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    for option in [None, Some("-d"), Some("-t")] {
        for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
            let options: Vec<_> = option.into_iter().chain(["--name", "job"]).collect();
            let waiting = host.sh(&options, "true").start();
            let pid = waiting.pid();
            // In the background it is another process, which the caller's passes the signal on to.
            let children = format!("/proc/{pid}/task/{pid}/children");
            let launcher = wait_for("it to wait", || {
                let children = fs::read_to_string(&children).unwrap_or_default();
                let child = children.split_whitespace().next().map(|child| child.parse().unwrap());
                let launcher = if option.is_some() { child? } else { pid };
                call(launcher).starts_with(&sleeps).then_some(launcher)
            });
            waiting.signal(signal);
            let line = waiting.finish().refused(code);
            assert!(line.contains("wait for another kontena") && line.contains("EINTR"), "{option:?}: {line}");
            wait_until("its end", || !call(launcher).starts_with(&sleeps));
        }
    }
    // What only looks, and what ends, waits for nobody.
    assert_eq!(host.kontena().arg("list").arg("-q").run().ok(), "");
    // And one that is not ended goes on when it can.
    let waiting = host.sh(&[], "echo ran").start();
    drop(held);
    assert_eq!(waiting.finish().ok(), "ran\n");
}

#[test]
fn stop_and_delete_need_no_disk_space() {
    let host = Host::new();
    let _ = host.debian();
    let full = host.directory().join("full");
    fs::create_dir(&full).unwrap();
    let run = |name: &str, script: &str| {
        let options = ["-d", "--name", name, "--net", "none", "--restart", "always"];
        let program = host.kontena_in(&full).args(["run", "--cgroup-parent"]).arg(host.cgroup_parent_option());
        program.args(options).arg(host.debian()).args(["sh", "-c", script])
    };
    host.inside(|| mount(Some("tmpfs"), &full, Some("tmpfs"), MsFlags::empty(), Some("size=1m,nr_inodes=64")).unwrap());
    let forever = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    for (name, script) in [("a", forever), ("b", forever), ("c", "exit 3"), ("d", "exit 3")] {
        let _ = run(name, script).run().ok();
    }
    let list = || -> Vec<serde_json::Value> {
        let text = host.kontena_in(&full).args(["list", "--format", "json"]).run().ok();
        serde_json::from_str(&text).unwrap()
    };
    let status = |name: &str| -> String {
        let found = list().into_iter().find(|seen| seen["name"] == name);
        found.map_or_else(|| "gone".into(), |seen| seen["status"].as_str().unwrap().into())
    };
    // Those that live again wait for it, at last.
    wait_until("a delay that is long", || {
        ["c", "d"]
            .iter()
            .all(|name| list().iter().any(|seen| seen["name"] == *name && seen["restarts"].as_u64() >= Some(3)))
    });
    // No inode is left, and no block.
    host.inside(|| {
        let _ = fs::write(full.join("a/fill"), vec![0; 1 << 20]);
        let mut count = 0;
        while fs::write(full.join(format!("b/fill{count}")), "").is_ok() {
            count += 1;
        }
        assert!(count > 0 && fs::write(full.join("c/more"), "").is_err());
    });
    for name in ["a", "c"] {
        let _ = host.kontena_in(&full).args(["stop", "-t", "0", name]).run().ok();
        assert_eq!(status(name), "exited", "{name}");
    }
    for name in ["b", "d"] {
        let _ = host.kontena_in(&full).args(["rm", "-f", name]).run().ok();
        assert_eq!(status(name), "gone", "{name}");
    }
    assert!(["a", "b", "c", "d"].iter().all(|name| !host.cgroup_parent().join(name).exists()));
    for name in ["a", "c"] {
        let _ = host.kontena_in(&full).args(["rm", name]).run().ok();
        assert_eq!(status(name), "gone", "{name}");
    }
}

#[test]
fn state_works_with_a_read_only_run() {
    let host = Host::new();
    let _ = host.program("mount").args(["-o", "remount,ro", "/run"]).run().ok();
    let _ = host.run(&["-d", "--name", "job", "-p", "8080:80"], host.demo(), &["/usr/sbin/nginx"]).run().ok();
    assert_eq!(Background::new(&host, "job").status(), "running");
    wait_until("the page", || host.get("127.0.0.1:8080").is_ok());
    let _ = host.kontena().args(["rm", "-f", "job"]).run().ok();
    host.prune();
    assert!(!host.state().exists(), "{:#?}", host.snapshot().lines("state"));
}
