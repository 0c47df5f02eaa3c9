//! `cargo xtask bench --oci`: create, start and delete of an OCI bundle by kontena and by the other runtimes that are
//! here, in turns: warm, with the runtime's files evicted from the page cache before, and 50 containers at once; `run`,
//! which is all of it; and the largest memory that a process of theirs has.

use super::{PAUSE, Scratch, oci_config, path, percentile};
use crate::arch::Arch;
use crate::{dist, host};
use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Advice;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// So many containers are made at once.
const AT_ONCE: usize = 50;

/// How long a command may take before it is killed.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// A runtime, and its times in milliseconds.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    warm: Vec<f64>,
    /// Whether its `run` has returned each time.
    runs: bool,
    run: Vec<f64>,
    cold: Vec<f64>,
    at_once: Vec<f64>,
}

/// Measures all runtimes that work here, and returns the table.
pub fn measure(scratch: &Scratch, rounds: usize) -> Result<String> {
    let arch = Arch::native()?;
    let candidates = [
        ("kontena", dist::small(arch)?.join("kontena")),
        ("crun", find("crun", "CRUN")),
        ("runc", find("runc", "RUNC")),
        ("youki", find("youki", "YOUKI")),
    ];
    let mut runtimes = Vec::new();
    for (name, program) in candidates {
        let [warm, run, cold, at_once] = [const { Vec::new() }; 4];
        let runtime = Runtime { name, program, warm, runs: true, run, cold, at_once };
        runtime.write_bundles(scratch)?;
        if let Err(error) = runtime.cycle(scratch, "try") {
            eprintln!("- {name} is left out: {error:#}");
            continue;
        }
        runtimes.push(runtime);
    }
    for _ in 0..rounds {
        for runtime in &mut runtimes {
            let start = Instant::now();
            runtime.cycle(scratch, "warm")?;
            runtime.warm.push(start.elapsed().as_secs_f64() * 1e3);
            if runtime.runs {
                let start = Instant::now();
                match runtime.run_once(scratch, "warm") {
                    Ok(()) => runtime.run.push(start.elapsed().as_secs_f64() * 1e3),
                    // youki's does not always return.
                    Err(error) => {
                        eprintln!("- {} is left out of run: {error:#}", runtime.name);
                        runtime.runs = false;
                    }
                }
            }
        }
    }
    for _ in 0..(rounds / 5).max(1) {
        for runtime in &mut runtimes {
            evict(&runtime.program)?;
            let init = runtime.program.with_file_name("kontena-init");
            if init.exists() {
                evict(&init)?;
            }
            std::thread::sleep(PAUSE);
            let start = Instant::now();
            runtime.cycle(scratch, "cold")?;
            runtime.cold.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    for _ in 0..(rounds / 20).max(1) {
        for runtime in &mut runtimes {
            let start = Instant::now();
            std::thread::scope(|scope| {
                let one = |index: usize| runtime.cycle(scratch, &format!("many{index}"));
                let all: Vec<_> = (0..AT_ONCE).map(|index| scope.spawn(move || one(index))).collect();
                all.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
            })?;
            runtime.at_once.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let mut lines = vec![format!(
        "\n{:12}{:>12}{:>8}{:>8}{:>8}{:>16}{:>12}{:>12}",
        "OCI, ms", "warm median", "p95", "run", "cold", "50 at once", "memory kB", "bytes"
    )];
    for runtime in &runtimes {
        let peak = runtime.peak(scratch)?;
        let bytes = fs::metadata(&runtime.program)?.len();
        lines.push(format!(
            "{:12}{:>12.2}{:>8.2}{:>8}{:>8.2}{:>16.1}{peak:>12}{bytes:>12}",
            runtime.name,
            percentile(runtime.warm.clone(), 50),
            percentile(runtime.warm.clone(), 95),
            if runtime.runs { format!("{:.2}", percentile(runtime.run.clone(), 50)) } else { "-".into() },
            percentile(runtime.cold.clone(), 50),
            percentile(runtime.at_once.clone(), 50),
        ));
    }
    Ok(lines.join("\n"))
}

/// A program: what the variable says, or that of PATH.
fn find(name: &str, variable: &str) -> PathBuf {
    if let Some(program) = env::var_os(variable) {
        return program.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    { dirs }.map(|dir| dir.join(name)).find(|file| file.exists()).unwrap_or_else(|| name.into())
}

/// Drops a file from the page cache; posix_fadvise(2).
fn evict(program: &Path) -> Result<()> {
    let file = fs::File::open(program)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}

impl Runtime {
    /// Makes a bundle for each container, in a cgroup of its own.
    fn write_bundles(&self, scratch: &Scratch) -> Result<()> {
        let rootfs = path(&host::target_dir().join("rootfs"));
        let many = (0..AT_ONCE).map(|index| format!("many{index}"));
        for id in many.chain(["try", "warm", "cold", "peak"].map(String::from)) {
            let mut config = oci_config(&rootfs, "");
            // youki wants one.
            config["process"]["env"] = json!(["PATH=/bin"]);
            config["linux"]["cgroupsPath"] = json!(format!("/{}/{}-{id}", scratch.cgroup_name(), self.name));
            let bundle = self.bundle(scratch, &id);
            fs::create_dir_all(&bundle)?;
            fs::write(bundle.join("config.json"), config.to_string())?;
        }
        Ok(())
    }

    fn bundle(&self, scratch: &Scratch, id: &str) -> PathBuf {
        scratch.dir.join(format!("oci-{}-{id}", self.name))
    }

    /// A container from its creation to its end.
    fn cycle(&self, scratch: &Scratch, id: &str) -> Result<()> {
        self.command(scratch, &["create", "--bundle", &path(&self.bundle(scratch, id)), id])?;
        self.command(scratch, &["start", id])?;
        self.command(scratch, &["delete", "--force", id])
    }

    /// The same in one command.
    fn run_once(&self, scratch: &Scratch, id: &str) -> Result<()> {
        let ran = self.command(scratch, &["run", "--bundle", &path(&self.bundle(scratch, id)), id]);
        ran.or_else(|error| self.command(scratch, &["delete", "--force", id]).and(Err(error)))
    }

    fn command(&self, scratch: &Scratch, words: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(scratch.dir.join(self.name)).args(words);
        // A container that inherited a pipe would keep it open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| path(&self.program))?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        if poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&PATIENCE))? == 0 {
            child.kill()?;
        }
        let status = child.wait()?;
        ensure!(status.success(), "{} {words:?}: {status}", self.name);
        Ok(())
    }

    /// The largest resident set of the runtime's own processes in a create, in kilobytes; getrusage(2).
    fn peak(&self, scratch: &Scratch) -> Result<u64> {
        let (state, bundle) = (path(&scratch.dir.join(self.name)), path(&self.bundle(scratch, "peak")));
        let mut command = Command::new("/usr/bin/time");
        command.args(["-f", "%M"]).arg(&self.program).args(["--root", &state, "create", "--bundle", &bundle, "peak"]);
        let file = scratch.dir.join("peak");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&file)?);
        let _ = command.status().context("/usr/bin/time")?;
        let mut delete = Command::new(&self.program);
        delete.args(["--root", &state, "delete", "--force", "peak"]).stderr(Stdio::null()).status()?;
        let said = fs::read_to_string(file)?;
        said.lines().last().and_then(|line| line.trim().parse().ok()).with_context(|| said.clone())
    }
}
