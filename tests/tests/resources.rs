//! Each limit bites: what a container does that wants more than it may have, and what its neighbour notices of it.
//!
//! Where cgroup v1 holds the controller, the refusal is asserted instead; the virtual machine has all of them. Figures
//! are ratios, with room for a machine that is emulated, and none for a limit that was not set.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::{Container, Host, Outcome, Place, wait_for, wait_until};

/// Whether cgroup v2 has `controller` here. Where not, an option that needs it is refused.
fn can_limit(host: &Host, controller: &str, options: &[&str]) -> bool {
    let controllers = fs::read_to_string(host.cgroup().parent().unwrap().join("cgroup.controllers")).unwrap();
    let has_it = controllers.split_whitespace().any(|known| known == controller);
    if !has_it {
        let line = host.sh(options, "true").run().refused(125);
        assert!(line.contains(&format!("the {controller} controller is not available in cgroup v2")), "{line}");
    }
    has_it
}

/// What `--stats --format json` says, on the last line.
fn stats(outcome: &Outcome) -> Value {
    let line = outcome.stderr.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{outcome}"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A figure of a cgroup's file: `usage_usec` of cpu.stat, say.
fn figure(leaf: &Path, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(leaf.join(file)).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{file} has no {key}: {text}")).parse().unwrap()
}

/// A container that runs a script of the Debian rootfs.
fn start<'a>(host: &'a Host, name: &str, options: &[&str], script: &str) -> Container<'a> {
    let options = [&["--name", name], options].concat();
    let mut container = Container::new(host, name, host.sh(&options, script).start());
    let _ = container.init();
    container
}

/// The least memory.max with which `serves` is so three times in a row, to 16 kB; tells it in the report. With less,
/// kontena says which limit it was, and leaves nothing.
fn least_memory(host: &Host, what: &str, serves: impl Fn(&str) -> Result<(), Outcome>) -> u32 {
    let (mut too_little, mut enough) = (64, 4096);
    while enough - too_little > 16 {
        let middle = (too_little + enough) / 2 / 16 * 16;
        match (0..3).try_for_each(|_| serves(&format!("{middle}k"))) {
            Ok(()) => enough = middle,
            Err(outcome) => {
                let line = outcome.stderr.lines().last().unwrap_or_default();
                assert_eq!(outcome.code, 137, "{outcome}");
                assert!(line.contains(&format!("hit its memory limit, {} bytes", middle * 1024)), "{outcome}");
                too_little = middle;
            }
        }
    }
    // Not by println!, which a test that passes keeps for itself.
    let mut stdout = std::io::stdout();
    writeln!(stdout, "figure: {what}: from {enough} kB of memory.max on").unwrap();
    host.prune();
    assert!(!host.cgroup_parent().exists());
    enough
}

#[test]
fn smallest_containers_start_or_name_the_limit() {
    let host = Host::new();
    if !can_limit(&host, "memory", &["-m", "64k"]) {
        return;
    }
    let least = least_memory(&host, "/bin/true starts", |limit| {
        let outcome = host.run(&["--net", "none", "-m", limit], host.demo(), &["/bin/true"]).run();
        if outcome.code == 0 { Ok(()) } else { Err(outcome) }
    });
    assert!(least <= 512, "crun's own claim");
    let least = least_memory(&host, "the demo serves its page", |limit| {
        let running = host.run(&["--name", "web", "-m", limit], host.demo(), &["/usr/sbin/nginx"]).start();
        let mut web = Container::new(&host, "web", running);
        let network = wait_for("a network or the end", || match tests::leaf_processes(&web.leaf()).first() {
            // One that is about to end may have no network any more.
            Some(init) => Place::try_network_of(*init).ok().map(Some),
            None => web.has_ended().then_some(None),
        });
        wait_until("the page or the end", || {
            web.has_ended() || network.as_ref().is_some_and(|network| network.get("127.0.0.1:80").is_ok())
        });
        if web.has_ended() {
            return Err(web.into_running().finish());
        }
        let _ = web.stop();
        Ok(())
    });
    assert!(least <= 2048, "{least}");
}

/// Allocates 80 MB.
const MEMORY_BOMB: &str = "head -c 80000000 /dev/zero | tail -c 79999999 | wc -c";

#[test]
fn memory_bomb_is_killed_and_its_neighbour_is_not() {
    let host = Host::new();
    let options = ["-m", "32m", "--memory-swap", "32m"];
    if !can_limit(&host, "memory", &options) {
        return;
    }
    let mut neighbour = host.nginx("neighbour", &["--net", "none", "-m", "32m"]);
    let outcome = host.sh(&[&options[..], &["--stats", "--format", "json"]].concat(), "exec tail /dev/zero").run();
    let outcome = outcome.code(137);
    assert!(outcome.stderr.contains("hit its memory limit"), "{outcome}");
    assert!(number(&stats(&outcome)["memory.events"]["oom_kill"]) >= 1, "{outcome}");
    assert!(number(&stats(&outcome)["memory.peak"]) <= 32 << 20, "{outcome}");
    assert!(neighbour.network().get("127.0.0.1:80").is_ok());
    assert_eq!(figure(&neighbour.leaf(), "memory.events", "oom_kill"), 0);
    // And without the limit it would have lived.
    assert_eq!(host.sh(&[], MEMORY_BOMB).run().ok(), "79999999\n");
}

#[test]
fn whole_container_is_killed_on_request() {
    let host = Host::new();
    let options = ["-m", "32m", "--memory-swap", "32m"];
    if !can_limit(&host, "memory", &options) {
        return;
    }
    // A child is killed; its parent lives, or not.
    let script = "tail /dev/zero; echo parent lives";
    assert_eq!(host.sh(&options, script).run().ok(), "parent lives\n");
    let group = [&options[..], &["--cgroup-conf", "memory.oom.group=1"]].concat();
    assert_eq!(host.sh(&group, script).run().code(137).stdout, "");
}

#[test]
fn memory_high_throttles() {
    let host = Host::new();
    let high = ["--cgroup-conf", "memory.high=16m"];
    if !can_limit(&host, "memory", &high) {
        return;
    }
    let stats_of = |options: &[&str]| {
        let options = [&["--stats", "--format", "json"], options].concat();
        let outcome = host.sh(&options, "head -c 18500000 /dev/zero | tail -c 18499999 | wc -c").run().code(0);
        assert_eq!(outcome.stdout, "18499999\n");
        stats(&outcome)
    };
    let (free, throttled) = (stats_of(&[]), stats_of(&high));
    assert_eq!(number(&free["memory.events"]["high"]), 0);
    assert!(number(&throttled["memory.events"]["high"]) > 0, "{throttled}");
    let elapsed = |stats: &Value| number(&stats["elapsed_usec"]);
    assert!(elapsed(&throttled) > 2 * elapsed(&free), "{} and {}", elapsed(&throttled), elapsed(&free));
    // Held back, not killed.
    assert_eq!(number(&throttled["memory.events"]["oom_kill"]), 0);
}

#[test]
fn protected_memory_is_not_reclaimed() {
    let host = Host::new();
    let low = ["--memory-reservation", "24m"];
    if !can_limit(&host, "memory", &low) {
        return;
    }
    // Two hold 16 MB of page cache each, below a parent that gets too small for both.
    let disks = [Disk::new(&host, "protected"), Disk::new(&host, "other")];
    let holding = |name: &'static str, disk: &Disk, options: &[&str]| {
        let device = format!("{}:/dev/disk", disk.0);
        // A disk's pages go with its last open file.
        let script = "exec 3< /dev/disk; head -c 16777216 <&3 > /dev/null; echo read; sleep 600";
        let mut container = start(&host, name, &[&["--device", &device], options].concat(), script);
        container.wait_for_output("read");
        container
    };
    let (protected, other) = (holding("protected", &disks[0], &low), holding("other", &disks[1], &[]));
    let cache = |container: &Container<'_>| figure(&container.leaf(), "memory.stat", "file");
    // The kernel counts in batches.
    wait_until("all to be counted", || cache(&protected) >= 16 << 20 && cache(&other) >= 16 << 20);
    fs::write(host.cgroup_parent().join("memory.max"), (26 << 20).to_string()).unwrap();
    wait_until("the unprotected to be reclaimed", || cache(&other) < 12 << 20);
    assert!(cache(&protected) > 14 << 20, "{} {}", cache(&protected), cache(&other));
}

#[test]
fn fork_bomb_is_contained() {
    let host = Host::new();
    let options = ["--pids-limit", "20"];
    if !can_limit(&host, "pids", &options) {
        return;
    }
    let mut neighbour = host.nginx("neighbour", &["--net", "none"]);
    // As many as it can, each for long.
    let bomb = start(&host, "bomb", &options, "yes 600 | xargs -P 0 -n 1 sleep");
    wait_until("the limit to be hit", || figure(&bomb.leaf(), "pids.events", "max") > 0);
    let current = || fs::read_to_string(bomb.leaf().join("pids.current")).unwrap().trim().parse::<u64>().unwrap();
    assert_eq!(current(), 20);
    assert!(neighbour.network().get("127.0.0.1:80").is_ok());
    let leaf = bomb.leaf();
    bomb.signal(Signal::SIGKILL);
    drop(bomb);
    host.prune();
    assert!(!leaf.exists());
    assert!(neighbour.network().get("127.0.0.1:80").is_ok());
}

/// A container that is busy already: what is compared has no start in it.
fn busy<'a>(host: &'a Host, name: &str, options: &[&str]) -> Container<'a> {
    let mut container = start(host, name, options, "echo busy; while :; do :; done");
    container.wait_for_output("busy");
    container
}

/// For how long CPU time is compared.
const WHILE: Duration = Duration::from_secs(4);

/// How much CPU time each of the containers gets [`WHILE`] they run side by side, in microseconds, and how long that
/// was.
fn cpu_time<const N: usize>(containers: [&Container<'_>; N]) -> ([u64; N], u64) {
    let usage = || containers.map(|container| figure(&container.leaf(), "cpu.stat", "usage_usec"));
    let (start, before) = (Instant::now(), usage());
    sleep(WHILE);
    let after = usage();
    (std::array::from_fn(|at| after[at] - before[at]), start.elapsed().as_micros() as u64)
}

#[test]
fn two_containers_share_a_cpu_three_to_one() {
    let host = Host::new();
    let share = |shares: &'static str| ["--cpuset-cpus", "0", "--cpu-shares", shares];
    if !can_limit(&host, "cpu", &share("1024")[2..]) || !can_limit(&host, "cpuset", &share("1024")[..2]) {
        return;
    }
    let (large, small) = (busy(&host, "large", &share("3072")), busy(&host, "small", &share("1024")));
    let ([large, small], _) = cpu_time([&large, &small]);
    let ratio = large as f64 / small as f64;
    assert!((2.0..4.5).contains(&ratio), "{ratio}");
}

#[test]
fn idle_container_gives_way() {
    let host = Host::new();
    let pinned = ["--cpuset-cpus", "0"];
    if !can_limit(&host, "cpu", &["--cgroup-conf", "cpu.idle=1"]) || !can_limit(&host, "cpuset", &pinned) {
        return;
    }
    let idle = busy(&host, "idle", &[&pinned[..], &["--cgroup-conf", "cpu.idle=1"]].concat());
    let other = busy(&host, "other", &[&pinned[..], &["--cpus", "1"]].concat());
    let ([idle, other], _) = cpu_time([&idle, &other]);
    assert!(idle * 10 < other, "{idle} and {other}");
}

#[test]
fn cpu_time_is_limited_to_its_quota() {
    let host = Host::new();
    let quarter = ["--cpus", "0.25"];
    if !can_limit(&host, "cpu", &quarter) {
        return;
    }
    let (held, free) = (busy(&host, "held", &quarter), busy(&host, "free", &[]));
    let ([held_time, free_time], elapsed) = cpu_time([&held, &free]);
    let of = |time: u64| time as f64 / elapsed as f64;
    assert!((0.15..0.35).contains(&of(held_time)), "{}", of(held_time));
    assert!(of(free_time) > 0.5, "{}", of(free_time));
    assert!(figure(&held.leaf(), "cpu.stat", "nr_throttled") > 0);
}

#[test]
fn cpuset_pins_processes() {
    let host = Host::new();
    if !can_limit(&host, "cpuset", &["--cpuset-cpus", "1"]) {
        return;
    }
    for cpu in ["0", "1"] {
        let out =
            host.sh(&["--cpuset-cpus", cpu, "--cpuset-mems", "0"], "nproc; grep Cpus_allowed_list /proc/self/status");
        assert_eq!(out.run().ok(), format!("1\nCpus_allowed_list:\t{cpu}\n"));
    }
    let line = host.sh(&["--cpuset-cpus", "1,63"], "true").run().refused(125);
    assert!(line.contains("cpuset.cpus"), "{line}");
}

/// A disk of this test's own: a file behind a loop device. Dropped, it is gone.
struct Disk(String);

impl Disk {
    fn new(host: &Host, name: &str) -> Self {
        let file = host.directory().join(format!("{name}.disk"));
        fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        let device = host.says("losetup", &["--find", "--show", file.to_str().unwrap()]);
        Self(device.trim().into())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// Any disk, for where there is nothing to be written.
fn some_disk(host: &Host) -> PathBuf {
    let path = host.directory().join("some-disk");
    let number = nix::sys::stat::makedev(7, 0);
    nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFBLK, nix::sys::stat::Mode::S_IRUSR, number).unwrap();
    path
}

#[test]
fn disk_is_limited_to_its_rates() {
    let host = Host::new();
    let options = |disk: &str| ["--device-write-bps", "--device-read-bps"].map(|option| (option, format!("{disk}:1m")));
    let some = some_disk(&host);
    let [(option, value), _] = options(some.to_str().unwrap());
    if !can_limit(&host, "io", &[option, &value]) {
        return;
    }
    let disk = Disk::new(&host, "own");
    let megabytes = 4;
    // How many megabytes a second, and what the cgroup says of it.
    let rate = |options: &[&str], key: &str, script: &str| {
        let options = [&["--stats", "--format", "json", "--device", &disk.0], options].concat();
        let stats = stats(&host.sh(&options, script).run().code(0));
        let bytes: u64 =
            stats["io.stat"].as_object().unwrap().values().map(|disk| disk[key].as_u64().unwrap_or(0)).sum();
        assert!(((megabytes << 20)..((megabytes + 2) << 20)).contains(&bytes), "{stats}");
        megabytes as f64 * 1e6 / number(&stats["elapsed_usec"]) as f64
    };
    let write = format!("dd if=/dev/zero of={} bs=64k count=64 oflag=direct 2> /dev/null", disk.0);
    let read = format!("dd if={} of=/dev/null bs=64k count=64 iflag=direct 2> /dev/null", disk.0);
    for ((option, value), key, script) in options(&disk.0)
        .iter()
        .zip([("wbytes", &write), ("rbytes", &read)])
        .map(|(option, (key, script))| (option, key, script))
    {
        let (free, held) = (rate(&[], key, script), rate(&[option, value], key, script));
        assert!(held < 1.5, "{option}: {held} MB/s");
        assert!(free > 2.0 * held, "{option}: {free} and {held} MB/s");
    }
    let requests = ["--device-write-iops", &format!("{}:20", disk.0)];
    let (free, held) = (rate(&[], "wbytes", &write), rate(&requests, "wbytes", &write));
    assert!(held < 1.25 * 1.5, "64 requests of 64 kB, 20 a second: {held} MB/s");
    assert!(free > 2.0 * held, "{free} and {held} MB/s");
}

#[test]
fn weights_of_disks_are_in_their_file() {
    let host = Host::new();
    let some = some_disk(&host);
    let value = format!("{}:500", some.display());
    if !can_limit(&host, "io", &["--blkio-weight-device", &value]) {
        return;
    }
    let disk = Disk::new(&host, "own");
    let (weight, number) = (format!("{}:100", disk.0), disk.0.trim_start_matches("/dev/loop"));
    let line = host.sh(&["--blkio-weight-device", &weight], "true").run().refused(125);
    assert!(line.contains("EOPNOTSUPP") && line.contains("io.cost.qos"), "{line}");
    let qos = host.cgroup().parent().unwrap().join("io.cost.qos");
    fs::write(qos, format!("7:{number} enable=1")).unwrap();
    let script = "cat /sys/fs/cgroup/io.weight";
    let out = host.sh(&["--blkio-weight", "500", "--blkio-weight-device", &weight], script).run().ok();
    assert!(out.contains("default 4950\n") && out.contains(&format!("7:{number} 910\n")), "{out}");
}

#[test]
fn stats_are_printed_at_the_end() {
    let host = Host::new();
    let outcome =
        host.sh(&["--stats"], "head -c 8000000 /dev/zero | tail -c 7999999 > /dev/null; exit 3").run().code(3);
    for row in ["elapsed", "CPU time, user", "CPU time, system", "memory, peak", "disks, read", "processes, peak"] {
        assert!(outcome.stderr.lines().any(|line| line.starts_with(row)), "{row}: {outcome}");
    }
    let outcome =
        host.sh(&["--name", "web", "--stats", "--format", "json"], "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    let stats = stats(&outcome.run().code(0));
    assert_eq!(stats["name"], "web");
    let [elapsed, user] = [&stats["elapsed_usec"], &stats["cpu.stat"]["user_usec"]].map(number);
    assert!(user > 0 && user < elapsed * 2, "{stats}");
    if can_limit(&host, "memory", &["-m", "1g"]) {
        let peak = number(&stats["memory.peak"]);
        assert!((100 << 10..64 << 20).contains(&peak), "{stats}");
        assert!(number(&stats["memory.stat"]["pgfault"]) > 0 && stats["memory.events"]["oom_kill"] == 0, "{stats}");
    } else {
        // Why there is no figure is said instead.
        let text = host.sh(&["--stats"], "true").run().code(0).stderr;
        assert!(text.contains("not measured: the memory controller is not available in cgroup v2 here"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("memory, peak") && line.ends_with(" -")), "{text}");
    }
    assert!(host.sh(&["--format", "json"], "true").run().refused(125).contains("--stats"));
    assert!(host.sh(&["--stats", "--format", "xml"], "true").run().refused(125).contains("\"xml\""));
}
