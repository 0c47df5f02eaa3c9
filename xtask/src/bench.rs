//! `cargo xtask bench`: the cost of a start and stop, as a multiple of the floor (bench/floor.c), this kernel's
//! minimum. All are measured in turns in one run, in a private network and mount namespace, from spawn to reaped. Times
//! differ from machine to machine: only ratios have a limit.

mod images;
mod memory;
mod oci;

use crate::arch::Arch;
use crate::step::{done, spinner};
use crate::{debian, demo_images, dist, host, rootfs, setup};
use anyhow::{Context, Result, ensure};
use argh::{FromArgValue, FromArgs};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// measure starts against the floor and other tools
#[derive(FromArgs)]
#[argh(subcommand, name = "bench")]
pub struct Bench {
    /// fail when kontena costs more than it may; three tries
    #[argh(switch)]
    check: bool,

    /// measure OCI bundles instead, beside crun, runc and youki: those in PATH, or in CRUN, RUNC and YOUKI
    #[argh(switch)]
    oci: bool,

    /// measure the way from an image's file to its first page instead, beside podman and containerd
    #[argh(switch)]
    images: bool,

    /// text (default) or json
    #[argh(option, default = "Format::Text")]
    format: Format,

    /// how often each is started back to back (default 200), and a fifth of that at one start each 50 ms
    #[argh(option, default = "200")]
    rounds: usize,
}

#[derive(FromArgValue, PartialEq)]
enum Format {
    Text,
    Json,
}

impl Bench {
    pub fn check() -> Self {
        Self { check: true, oci: false, images: false, format: Format::Text, rounds: 200 }
    }
}

/// The names of the measured.
const FLOOR: &str = "floor";
const FLOOR_MOUNTS: &str = "floor with all mounts";
const FLOOR_INIT: &str = "floor with mounts and init";
const NO_NET: &str = "kontena --net none";
const BRIDGE: &str = "kontena, bridge and port";

/// The limits: a contender, how many times its median may be, and of which other contender, back to back. Of the bare
/// floor, a container with podman's mounts and a PID 1 of its own costs more than 1.5 times before a runtime has done
/// anything else.
const LIMITS: [(&str, f64, &str); 2] = [(NO_NET, 1.5, FLOOR_INIT), (BRIDGE, 3.0, FLOOR)];

/// The machine is shared, and one run may be unlucky.
const TRIES: usize = 3;

const WARM_UPS: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Set inside the private namespaces, to the process outside.
const INSIDE: &str = "XTASK_BENCH_INSIDE";

/// The private namespaces as every tool wants them: lo is up, cgroup v2 is at /sys/fs/cgroup, and /run, where state is
/// kept, is a tmpfs of its own.
const STAGE: &str = r#"
set -e
ip link set lo up
mount -t tmpfs tmpfs /run
if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec "$@"
"#;

pub fn bench(options: &Bench) -> Result<ExitCode> {
    if env::var_os(INSIDE).is_some() {
        return measure_all(options);
    }
    if !host::prepared() {
        prepare(options.images)?;
    }
    if !host::is_root() {
        return host::become_root(&options.args());
    }
    let mut stage = stage();
    name_scratch(stage.arg(env::current_exe()?).args(options.args()));
    let status = stage.status().context("cannot run unshare")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// A program that executes its arguments in the private namespaces.
pub fn stage() -> Command {
    let mut stage = Command::new("unshare");
    // A cgroup namespace, since a mount outside of one would change the options of the machine's own.
    stage.args(["--net", "--cgroup", "--mount", "--propagation=private"]);
    // Processes of its own as well, which are counted.
    stage.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", STAGE, "sh"]);
    stage
}

/// Passes a unique name for its [`Scratch`] to the program inside.
pub fn name_scratch(stage: &mut Command) -> &mut Command {
    stage.env(INSIDE, std::process::id().to_string())
}

impl Bench {
    /// The command line for these options.
    fn args(&self) -> Vec<String> {
        let format = if self.format == Format::Json { "json" } else { "text" };
        let rounds = self.rounds.to_string();
        let mut args = ["bench", "--format", format, "--rounds", &rounds].map(String::from).to_vec();
        args.extend(self.check.then(|| "--check".into()));
        args.extend(self.oci.then(|| "--oci".into()));
        args.extend(self.images.then(|| "--images".into()));
        args
    }
}

/// The floor's binary.
pub fn floor() -> PathBuf {
    host::target_dir().join("floor")
}

fn call() -> PathBuf {
    host::target_dir().join("call")
}

fn prepare(with_images: bool) -> Result<()> {
    setup::setup(&[setup::BENCH, setup::ROOTFS])?;
    if with_images {
        let arch = Arch::native()?;
        demo_images::build(arch, &rootfs::build(arch, &dist::small(arch)?)?)?;
        return debian::engines(arch).map(drop);
    }
    if setup::installed("apt-get") {
        setup::setup(&[setup::RIVALS])?;
    }
    let arch = Arch::native()?;
    rootfs::build(arch, &dist::small(arch)?)?;
    rootfs::compile(arch, &host::root().join("xtask/bench/floor.c"), &floor())?;
    rootfs::compile(arch, &host::root().join("xtask/bench/call.c"), &call())
}

/// One of the measured: a command which starts /bin/true in a container, and ends with it.
struct Contender {
    name: &'static str,
    command: Vec<String>,
}

/// The times of a contender's rounds, in their order.
struct Measured {
    name: &'static str,
    times: Vec<Duration>,
}

fn measure_all(options: &Bench) -> Result<ExitCode> {
    // A Ctrl-C, too, ends through the end of Scratch.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let scratch = Scratch::new()?;
    if options.oci {
        writeln!(std::io::stdout(), "{}", oci::measure(&scratch, options.rounds)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.images {
        writeln!(std::io::stdout(), "{}", images::measure(&scratch, (options.rounds / 20).max(1))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let contenders = contenders(&scratch)?;
    for attempt in 1.. {
        let start = Instant::now();
        let bar = spinner("measuring");
        let close = measure(&contenders, options.rounds, Duration::ZERO, &stop)?;
        let spaced = measure(&contenders, (options.rounds / 5).max(1), PAUSE, &stop)?;
        bar.finish_and_clear();
        done("measuring", start);
        let calls = if options.check { Vec::new() } else { calls(&scratch)? };
        let held = if attempt == 1 { memory::held(&scratch, options.check)? } else { Vec::new() };
        let tables = [
            table("back to back", &close),
            table("one start each 50 ms", &spaced),
            calls_table(&calls),
            memory::table(&held),
        ];
        let report = match options.format {
            Format::Text => tables.join("\n"),
            Format::Json => {
                let calls: Vec<Value> = calls
                    .iter()
                    .map(|(name, [getpid, personality])| {
                        json!({ "name": name, "getpid_ns": getpid, "personality_ns": personality })
                    })
                    .collect();
                let (close, spaced) = (as_json(&close), as_json(&spaced));
                let held = memory::as_json(&held);
                format!("{:#}", json!({ "back_to_back": close, "each_50_ms": spaced, "calls": calls, "memory": held }))
            }
        };
        // Not println!, whose panic at a closed pipe would leave the cgroup behind.
        writeln!(std::io::stdout(), "{report}")?;
        if !options.check {
            break;
        }
        if attempt == 1 && !memory::within_limits(&held) {
            return Ok(ExitCode::FAILURE);
        }
        if within_limits(&close) {
            break;
        }
        if attempt == TRIES {
            return Ok(ExitCode::FAILURE);
        }
        eprintln!(
            "over the limit: measuring again, try {} of {TRIES}, for other work on this machine may be why",
            attempt + 1
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// How many system calls are timed, in each of a few runs of which the fastest counts.
const CALLS: &str = "1000000";
const CALL_RUNS: usize = 5;

/// The cost of the system call filter for each call: without one, with kontena's, and with podman's, by libseccomp, if
/// podman is installed.
fn calls(scratch: &Scratch) -> Result<Vec<(&'static str, [f64; 2])>> {
    let rootfs = scratch.dir.join("calls");
    for name in ["dev", "proc", "sys", "etc", "run", "tmp"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    fs::copy(call(), rootfs.join("call"))?;
    let rootfs = path(&rootfs);
    let kontena = path(&dist::small_dir(Arch::native()?).join("kontena"));
    let parent = scratch.cgroup_name();
    let run = [&kontena, "run", "--net", "none", "--cgroup-parent", &parent];
    let (store, state) = (path(&scratch.dir.join("store")), path(&scratch.dir.join("state")));
    let podman = ["podman", "--root", &store, "--runroot", &state, "--storage-driver", "vfs"];
    // Whatever it is that this machine does not let podman do has nothing to do with the filter.
    let anywhere = ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm", "--network", "none"];
    let limits = ["--pids-limit", "-1", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    let rival = ["--cgroup-parent", &parent, "--rootfs", &rootfs, "/call", CALLS];
    let rival = [&podman[..], &anywhere, &limits, &rival].concat();
    let all = [
        ("no filter", [&run[..], &["--seccomp", "unconfined", &rootfs, "/call", CALLS]].concat()),
        ("kontena's filter", [&run[..], &[&rootfs, "/call", CALLS]].concat()),
        ("podman's, by libseccomp", rival),
    ];
    let mut rows = Vec::new();
    for (name, command) in all {
        match time_calls(&command) {
            Ok(times) => rows.push((name, times)),
            Err(error) => eprintln!("- {name} is left out: {error:#}"),
        }
    }
    Ok(rows)
}

fn time_calls(command: &[&str]) -> Result<[f64; 2]> {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..CALL_RUNS {
        let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        let text = String::from_utf8(output.stdout)?;
        for (best, time) in best.iter_mut().zip(text.split_whitespace()) {
            *best = best.min(time.parse()?);
        }
    }
    Ok(best)
}

fn calls_table(rows: &[(&str, [f64; 2])]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut lines = vec![format!("\n{:28} {:>10} {:>14}", "one system call, ns", "getpid", "personality")];
    for (name, [getpid, personality]) in rows {
        lines.push(format!("{name:28} {getpid:>10.1} {personality:>14.1}"));
    }
    lines.join("\n")
}

/// The contenders: the floor, kontena, and its peers that are installed here.
fn contenders(scratch: &Scratch) -> Result<Vec<Contender>> {
    let rootfs = path(&host::target_dir().join("rootfs"));
    let leaf = path(&scratch.cgroup.join("floor"));
    let kontena = path(&dist::small_dir(Arch::native()?).join("kontena"));
    let parent = scratch.cgroup_name();
    // One that kontena makes, as it does by default.
    let own = format!("{parent}/kontena");
    let run = [&kontena, "run", "--cgroup-parent", &own];
    let bundle = scratch.dir.join("bundle");
    fs::create_dir(&bundle)?;
    fs::write(bundle.join("config.json"), oci_config(&rootfs, &parent).to_string())?;

    let mut contenders = vec![
        Contender::new(FLOOR, &[&path(&floor()), &rootfs, &leaf, "/bin/true"]),
        Contender::new(FLOOR_MOUNTS, &[&path(&floor()), "-m", &rootfs, &leaf, "/bin/true"]),
        Contender::new(FLOOR_INIT, &[&path(&floor()), "-i", &rootfs, &leaf, "/bin/true"]),
        Contender::new(NO_NET, &[&run[..], &["--net", "none", &rootfs, "/bin/true"]].concat()),
        Contender::new(BRIDGE, &[&run[..], &["-p", "18080:80", &rootfs, "/bin/true"]].concat()),
    ];
    let bwrap = ["bwrap", "--unshare-all", "--bind", &rootfs, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"];
    let crun = ["crun", "run", "--bundle", &path(&bundle), "bench"];
    for (name, command) in [("bwrap", &bwrap[..]), ("crun", &crun[..])] {
        let contender = Contender::new(name, command);
        match contender.time() {
            Ok(_) => contenders.push(contender),
            Err(error) => eprintln!("- {name} is left out: {error:#}"),
        }
    }
    Ok(contenders)
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// The least OCI bundle which does what the floor does.
fn oci_config(rootfs: &str, cgroup: &str) -> Value {
    let namespaces = ["pid", "mount", "uts", "ipc", "network", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": { "cwd": "/", "args": ["/bin/true"], "user": { "uid": 0, "gid": 0 } },
        "root": { "path": rootfs },
        // Without a /dev of its own crun makes devices in the rootfs.
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": { "namespaces": namespaces, "cgroupsPath": format!("/{cgroup}/crun") },
    })
}

/// Starts everybody once a round, in turns, so that what disturbs the machine disturbs them all.
fn measure(contenders: &[Contender], rounds: usize, pause: Duration, stop: &AtomicBool) -> Result<Vec<Measured>> {
    let mut all: Vec<Measured> = contenders.iter().map(|one| Measured { name: one.name, times: Vec::new() }).collect();
    for round in 0..WARM_UPS + rounds {
        for (contender, measured) in contenders.iter().zip(&mut all) {
            ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
            std::thread::sleep(pause);
            let time = contender.time()?;
            if round >= WARM_UPS {
                measured.times.push(time);
            }
        }
    }
    Ok(all)
}

impl Contender {
    fn new(name: &'static str, command: &[&str]) -> Self {
        Self { name, command: command.iter().map(|word| (*word).to_owned()).collect() }
    }

    /// One start, from spawn to reaped.
    fn time(&self) -> Result<Duration> {
        let (program, args) = self.command.split_first().context("a contender without a command")?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
        let start = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {}", self.name))?;
        let time = start.elapsed();
        ensure!(status.success(), "{}: {status}", self.name);
        Ok(time)
    }
}

impl Measured {
    /// The time which `percent` of the rounds do not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        percentile(self.times.iter().map(Duration::as_secs_f64).collect(), percent)
    }

    /// How much more than the floor this costs: by the medians, and as the median of each round's own ratio.
    fn ratios(&self, floor: &Self) -> (f64, f64) {
        let rounds = self.times.iter().zip(&floor.times).map(|(own, floor)| own.as_secs_f64() / floor.as_secs_f64());
        (self.percentile(50) / floor.percentile(50), percentile(rounds.collect(), 50))
    }
}

fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn table(pace: &str, all: &[Measured]) -> String {
    let (Some(floor), mut lines) = (all.first(), Vec::new()) else { return String::new() };
    lines.push(format!("\n{pace}, {} rounds", floor.times.len()));
    lines.push(format!("{:28} {:>10} {:>10} {:>8} {:>8}", "", "median ms", "p90 ms", "ratio", "paired"));
    for one in all {
        let (ratio, paired) = one.ratios(floor);
        let (median, p90) = (one.percentile(50) * 1e3, one.percentile(90) * 1e3);
        lines.push(format!("{:28} {median:>10.2} {p90:>10.2} {ratio:>8.2} {paired:>8.2}", one.name));
    }
    lines.join("\n")
}

fn as_json(all: &[Measured]) -> Value {
    let floor = all.first();
    let rows = all.iter().map(|one| {
        let (ratio, paired) = floor.map_or((f64::NAN, f64::NAN), |floor| one.ratios(floor));
        json!({
            "name": one.name, "rounds": one.times.len(),
            "median_ms": one.percentile(50) * 1e3, "p90_ms": one.percentile(90) * 1e3,
            "ratio": ratio, "paired_ratio": paired,
        })
    });
    rows.collect()
}

/// Holds kontena to its limits, and says so.
fn within_limits(all: &[Measured]) -> bool {
    let mut within = true;
    let find = |name| all.iter().find(|one| one.name == name);
    for (name, limit, base) in LIMITS {
        let ratio = find(name).zip(find(base)).map_or(f64::NAN, |(one, base)| one.ratios(base).0);
        let ok = ratio <= limit;
        within &= ok;
        eprintln!("{} {name}: {ratio:.2} times the {base}, at most {limit}", if ok { "✓" } else { "✗" });
    }
    within
}

/// A directory and a cgroup for one benchmark, removed with it.
pub struct Scratch {
    /// The directory.
    pub dir: PathBuf,
    pub cgroup: PathBuf,
}

impl Scratch {
    /// Makes both.
    pub fn new() -> Result<Self> {
        // By the number of the one outside, which nobody else has.
        let name = format!("kontena-bench-{}", env::var(INSIDE)?);
        let scratch = Self { dir: env::temp_dir().join(&name), cgroup: Path::new("/sys/fs/cgroup").join(&name) };
        fs::create_dir(&scratch.dir).with_context(|| scratch.dir.display().to_string())?;
        fs::create_dir(&scratch.cgroup).with_context(|| scratch.cgroup.display().to_string())?;
        Ok(scratch)
    }

    /// The cgroup, as --cgroup-parent takes it.
    pub fn cgroup_name(&self) -> String {
        self.cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A cgroup has no real files: its directories go one by one, innermost first.
        for child in fs::read_dir(&self.cgroup).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(child.path());
        }
        if let Err(error) = fs::remove_dir(&self.cgroup) {
            eprintln!("xtask: {} is left behind: {error}", self.cgroup.display());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
