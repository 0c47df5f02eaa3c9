//! `cargo xtask test`: sets up everything for the tests (programs, the pair built for size, the demo rootfs, a Debian
//! rootfs), builds the test programs once, runs them on this machine and again in a virtual machine with nothing else,
//! and makes one report. The tests create their own pretend hosts.

use crate::arch::Arch;
use crate::{debian, demo_images, dist, host, image, official, rootfs, setup, step, vm};
use anyhow::{Context, Result, ensure};
use argh::FromArgs;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// set up for the tests, and run them here and in a bare virtual machine
#[derive(FromArgs)]
#[argh(subcommand, name = "test")]
pub struct Test {
    /// run them on this machine alone
    #[argh(switch)]
    machine: bool,
    /// run them in the virtual machine alone
    #[argh(switch)]
    vm: bool,
    /// the virtual machine's architecture: x86_64, aarch64 or riscv64 (default: this machine's; another is tested
    /// alone)
    #[argh(option, default = "std::env::consts::ARCH.into()")]
    arch: String,
    /// run only the tests whose names contain one of these
    #[argh(positional, greedy)]
    filter: Vec<String>,
}

impl Test {
    /// All of them, in both places.
    pub fn all() -> Self {
        Self { machine: false, vm: false, arch: std::env::consts::ARCH.into(), filter: Vec::new() }
    }
}

/// The test that needs a browser, which does not fit into the virtual machine: there, the machine serves the page, and
/// this machine's browser opens it.
const BROWSER: &str = "browser";

/// The tests that are of this machine alone: container engines and their registry are too slow in an emulated one,
/// which has the engines' limits, images are made where there are programs that make file systems, and the official
/// ones are too large.
const OF_THE_MACHINE: &[&str] = &["engines", "images_official", "images_registry", "images_tool"];

/// `cargo xtask test`
pub fn test(options: &Test) -> Result<ExitCode> {
    let arch = Arch::named(&options.arch)?;
    ensure!(!options.machine || arch.is_native(), "--machine has nothing to do with --arch {}", arch.name);
    let (here, there) = (!options.vm && arch.is_native(), !options.machine);
    setup::setup(&[setup::TESTS, if there { setup::VM } else { &[] }])?;
    let suite = Suite::build(arch)?;
    let machine = if here { Some(suite.run_here(&options.filter)?) } else { None };
    let vm = if there { Some(suite.run_there(&options.filter)?) } else { None };
    let passed = report(machine.as_ref(), vm.as_ref(), &vm::console(arch));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The test programs, static and the same for both machines, and the program that runs them.
pub struct Suite {
    pub arch: &'static Arch,
    /// A directory of nothing but test programs.
    pub programs: PathBuf,
    /// The program that runs them.
    pub runner: PathBuf,
    /// The program that they run in containers.
    pub intruder: PathBuf,
}

/// A `cargo test` for an architecture.
pub fn cargo_test(arch: &'static Arch) -> Result<Command> {
    setup::setup(&[arch.std.unwrap_or_default()])?;
    let mut cargo = host::cargo(["test", "--target", arch.target]);
    if arch.std.is_none() {
        setup::setup(&[setup::DIST])?;
        cargo.arg("-Zbuild-std=std,panic_unwind,test").env("RUSTC_BOOTSTRAP", "1");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", dist::linking(arch)?.join("\x1f"));
        // Without it, a second core would run other programs than the tests.
        cargo.env("CARGO_PROFILE_DEV_PANIC", "unwind");
    }
    Ok(cargo)
}

impl Suite {
    fn build(arch: &'static Arch) -> Result<Self> {
        let mut cargo = cargo_test(arch)?;
        cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
        cargo.args(["-p", "kontena", "-p", "kontena-init", "-p", "tests"]);
        let bar = step::spinner("building the tests");
        let start = Instant::now();
        let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo test")?;
        bar.finish_and_clear();
        ensure!(output.status.success(), "building the tests failed");
        step::done("building the tests", start);

        let dir = arch.dir().join("suite");
        let suite =
            Self { arch, programs: dir.join("programs"), runner: dir.join("suite"), intruder: dir.join("intruder") };
        rootfs::remove(&dir)?;
        fs::create_dir_all(&suite.programs)?;
        for message in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let message: Value = serde_json::from_slice(message)?;
            let (name, is_test) = (message["target"]["name"].as_str(), message["profile"]["test"] == true);
            if let (Some(program), Some(name)) = (message["executable"].as_str(), name) {
                match name {
                    "suite" if !is_test => fs::copy(program, &suite.runner)?,
                    "intruder" if !is_test => fs::copy(program, &suite.intruder)?,
                    _ if is_test => fs::copy(program, suite.programs.join(name))?,
                    _ => continue,
                };
            }
        }
        Ok(suite)
    }

    /// Runs all on this machine.
    fn run_here(&self, filter: &[String]) -> Result<Run> {
        self.run_programs(&self.programs, None, filter, "machine")
    }

    fn run_programs(&self, programs: &Path, page: Option<&str>, filter: &[String], place: &str) -> Result<Run> {
        let arch = Arch::native()?;
        let pair = dist::small(arch)?;
        // cargo builds as the user; only the test programs run as root.
        let mut command = Command::new(if host::is_root() { self.runner.as_os_str() } else { "sudo".as_ref() });
        if !host::is_root() {
            command.arg("-E").arg(&self.runner);
        }
        command.arg(programs).args(filter);
        let rootfs = rootfs::build(arch, &pair)?;
        command.env("KONTENA_IMAGES", demo_images::build(arch, &rootfs)?).env("KONTENA_INTRUDER", &self.intruder);
        command.env("KONTENA_ROOTFS", rootfs).env("KONTENA_BIN_DIR", pair);
        command
            .env("KONTENA_DEBIAN_ROOTFS", debian::rootfs(arch)?)
            .env("KONTENA_ENGINES_ROOTFS", debian::engines(arch)?)
            .env("KONTENA_IMAGE", image::program()?)
            .env("KONTENA_OFFICIAL", official::build()?);
        command.envs(page.map(|page| ("KONTENA_PAGE", page)));
        // One pipe for both, so that the text of a failure is in its place.
        let (reader, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().context("cannot run the tests")?;
        drop(command);
        let run = Run::follow(BufReader::new(reader), place, &self.log(place))?;
        child.wait()?;
        Ok(run)
    }

    /// Runs all in a virtual machine, but for the browser, which opens the page that it serves.
    fn run_there(&self, filter: &[String]) -> Result<Run> {
        let browser = self.programs.with_file_name("browser");
        fs::create_dir_all(&browser)?;
        fs::rename(self.programs.join(BROWSER), browser.join(BROWSER))?;
        for name in OF_THE_MACHINE {
            fs::remove_file(self.programs.join(name))?;
        }
        let mut run = vm::suite(self, filter)?;
        // The browser's test is of this machine's architecture, and so only with it.
        if self.arch.is_native() {
            let page = vm::Page::serve(self.arch)?;
            let seen = self.run_programs(&browser, Some(&page.url), filter, "vm-browser");
            page.stop()?;
            run.files.extend(seen?.files);
        }
        Ok(run)
    }

    /// Where all that a run says is kept.
    pub fn log(&self, place: &str) -> PathBuf {
        self.runner.with_file_name(format!("{place}.log"))
    }
}

/// The results of the suite in one place.
#[derive(Default)]
pub struct Run {
    /// By test program.
    files: BTreeMap<String, Program>,
    /// Whether it came to its end.
    done: bool,
    log: PathBuf,
}

/// What one test program did.
#[derive(Default)]
struct Program {
    /// Its tests, and whether each passed.
    tests: BTreeMap<String, bool>,
    /// Its measurements.
    figures: Vec<String>,
    /// The rest of its output.
    output: String,
    time: Duration,
    /// Why it failed, if it did.
    failure: Option<String>,
}

impl Run {
    /// Reads the suite's output, line by line, and shows its progress.
    pub fn follow(lines: impl BufRead, place: &str, log: &Path) -> Result<Self> {
        let mut run = Self { log: log.into(), ..Self::default() };
        let mut kept = File::create(log).with_context(|| log.display().to_string())?;
        let bar = step::spinner(&format!("testing: {place}"));
        let (mut name, mut start) = (String::new(), Instant::now());
        for line in lines.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            writeln!(kept, "{line}")?;
            if let Some(begun) = line.strip_prefix("suite: begin ") {
                (name, start) = (begun.into(), Instant::now());
                run.files.entry(name.clone()).or_default().failure = Some("did not end".into());
            } else if let Some((_, status)) = line.strip_prefix("suite: end ").and_then(|rest| rest.split_once(": ")) {
                let program = run.files.entry(name.clone()).or_default();
                program.time = start.elapsed();
                program.failure = (status != "exit status: 0").then(|| status.into());
                if !program.tests.is_empty() || program.failure.is_some() {
                    bar.suspend(|| eprintln!("{}", program.line(&format!("{place}: {name}"))));
                }
            } else if line == "suite: done" {
                run.done = true;
            } else {
                bar.set_message(line.chars().take(70).collect::<String>());
                run.files.entry(name.clone()).or_default().hear(line);
            }
        }
        bar.finish_and_clear();
        // Nothing in it has one of the filter's words in its name.
        run.files.retain(|_, program| !program.tests.is_empty() || program.failure.is_some());
        Ok(run)
    }

    fn passed(&self) -> bool {
        self.done && self.files.values().all(|program| program.failure.is_none())
    }

    /// `file::test` of all.
    fn names(&self) -> BTreeSet<String> {
        let of = |(file, program): (&String, &Program)| {
            program.tests.keys().map(move |test| format!("{file}::{test}")).collect::<Vec<_>>()
        };
        self.files.iter().filter(|(file, _)| !OF_THE_MACHINE.contains(&file.as_str())).flat_map(of).collect()
    }
}

impl Program {
    /// A line of libtest's: `test NAME ... ok`.
    fn hear(&mut self, line: &str) {
        let result = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "));
        match result {
            Some((test, "ok")) => _ = self.tests.insert(test.into(), true),
            Some((test, "FAILED" | "ignored")) => _ = self.tests.insert(test.into(), false),
            _ if let Some(figure) = line.strip_prefix("figure: ") => self.figures.push(figure.into()),
            _ => {
                self.output += line;
                self.output.push('\n');
            }
        }
    }

    fn line(&self, name: &str) -> String {
        let passed = self.tests.values().filter(|passed| **passed).count();
        let failed = self.tests.len() - passed;
        let mark = if self.failure.is_none() { "✓" } else { "✗" };
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        format!("{mark} {name}: {passed} passed{failed} ({:.1} s)", self.time.as_secs_f32())
    }

    fn cell(&self) -> String {
        let passed = self.tests.values().filter(|passed| **passed).count();
        format!("{passed:>4} of {:>3} {:>7.1} s", self.tests.len(), self.time.as_secs_f32())
    }
}

/// Prints the report, and returns whether everything has passed.
fn report(machine: Option<&Run>, vm: Option<&Run>, console: &Path) -> bool {
    let runs: Vec<(&str, &Run)> =
        [("machine", machine), ("vm", vm)].into_iter().filter_map(|(place, run)| Some((place, run?))).collect();
    let files: BTreeSet<&String> = runs.iter().flat_map(|(_, run)| run.files.keys()).collect();
    println!("\n{:14}{}", "passed", runs.iter().map(|(place, _)| format!("{place:>22}")).collect::<String>());
    for file in files {
        let cells = runs.iter().map(|(_, run)| run.files.get(file).map_or_else(|| "-".into(), Program::cell));
        println!("{file:14}{}", cells.map(|cell| format!("{cell:>22}")).collect::<String>());
    }
    let sums = runs.iter().map(|(_, run)| {
        let tests = || run.files.values().flat_map(|program| program.tests.values());
        let time: Duration = run.files.values().map(|program| program.time).sum();
        format!(
            "{:>4} of {:>3} {:>7.1} s",
            tests().filter(|passed| **passed).count(),
            tests().count(),
            time.as_secs_f32()
        )
    });
    println!("{:14}{}", "", sums.map(|cell| format!("{cell:>22}")).collect::<String>());

    for (place, run) in &runs {
        for figure in run.files.values().flat_map(|program| &program.figures) {
            println!("{place}: {figure}");
        }
        for (file, program) in run.files.iter().filter(|(_, program)| program.failure.is_some()) {
            println!(
                "\n=== {place}: {file}: {}\n{}",
                program.failure.as_deref().unwrap_or_default(),
                program.output.trim_end()
            );
        }
        if !run.passed() {
            let end = if run.done { "" } else { ", which ended early" };
            println!(
                "\nwhat the {place} said{end}: {}{}",
                run.log.display(),
                if *place == "vm" { format!("; its console: {}", console.display()) } else { String::new() }
            );
        }
    }
    let mut same = true;
    if let (Some(machine), Some(vm)) = (machine, vm) {
        for missing in machine.names().symmetric_difference(&vm.names()) {
            same = false;
            println!("only in one of the two: {missing}");
        }
    }
    same && runs.iter().all(|(_, run)| run.passed())
}
