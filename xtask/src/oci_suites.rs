//! `cargo xtask oci-suites`: two public suites for OCI runtimes, run against the pair, and beside it against another
//! runtime, on a private host each.
//!
//! docs/oci.md has a table of the tests that fail, each with its reason. This fails when another one fails, and when
//! one that is in the table passes. Must not change the machine, but for a cgroup that it removes.

use crate::arch::Arch;
use crate::{dist, host, setup};
use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

/// run runtime-tools' validation and youki's contest against the pair; as root
#[derive(FromArgs)]
#[argh(subcommand, name = "oci-suites")]
pub struct OciSuites {
    /// a checkout of https://github.com/opencontainers/runtime-tools in which runtimetest and the programs of
    /// validation/ have been built, as its README.md says
    #[argh(option)]
    runtime_tools: Option<PathBuf>,

    /// a checkout of https://github.com/youki-dev/youki with the programs contest and runtimetest, static, which its
    /// justfile builds
    #[argh(option)]
    contest: Option<PathBuf>,

    /// another runtime beside it, for example runc
    #[argh(option)]
    runtime: Option<PathBuf>,

    /// a launcher that is there already, in the place of a new pair
    #[argh(option)]
    kontena: Option<PathBuf>,
}

/// Set inside of the private host.
const INSIDE: &str = "XTASK_SUITES_INSIDE";

/// A host with an empty /run, shared mounts as systemd has them, and the cgroup $1 for its root of cgroup v2, in whose
/// children there may be processes.
const STAGE: &str = r#"
echo 0 > "$1/cgroup.procs"
shift
exec unshare --cgroup sh -ec '
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir /sys/fs/cgroup/init
    echo 0 > /sys/fs/cgroup/init/cgroup.procs
    mount --make-rshared /
    mount -t tmpfs tmpfs /run
    mkdir /run/lock /run/netns /run/suite
    ip link set lo up
    exec "$@"' sh "$@"
"#;
/// The directory of the private host in which the suites make bundles.
const SCRATCH: &str = "/run/suite";
/// How long a program may run, in seconds.
const PATIENCE: &str = "150";
/// Tests of contest's that end the whole program if they fail, so that each one is run by itself.
const ALONE: &[(&str, &[&str])] = &[(
    "exec",
    &[
        "preserve_fds_test",
        "ignore_paused_test",
        "cgroup_test",
        "no_capabilities_test",
        "unset_bounding_capabilities_test",
        "new_privileges_test",
        "some_capabilities_test",
        "capabilities_by_flag_test_case1",
        "capabilities_by_flag_test_case2",
        "mount_test",
    ],
)];
/// How many pass with runc 1.5.1: never fewer with kontena.
const RUNC: [(&str, usize); 2] = [("runtime-tools/", 28), ("contest/", 122)];

/// What became of each test.
type Results = BTreeMap<String, Outcome>;

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped,
    /// And why.
    Failed(String),
}

/// `cargo xtask oci-suites`
pub fn oci_suites(options: &OciSuites) -> Result<ExitCode> {
    let kontena = match &options.kontena {
        Some(path) => path.canonicalize()?,
        None if env::var_os(INSIDE).is_none() => dist::small(Arch::native()?)?.join("kontena"),
        None => bail!("no launcher"),
    };
    if env::var_os(INSIDE).is_some() {
        return compare(options, &kontena);
    }
    setup::setup(&[setup::BENCH])?;
    ensure!(host::is_root(), "as root: sudo cargo xtask oci-suites");
    ensure!(options.runtime_tools.is_some() || options.contest.is_some(), "neither suite: see --help");
    let cgroup = Cgroup::new()?;
    let mut stage = Command::new("unshare");
    stage.args(["--mount", "--propagation=private", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]);
    stage.args(["--mount-proc", "sh", "-ec", STAGE, "sh"]).arg(&cgroup.path);
    stage.arg(env::current_exe()?).arg("oci-suites").arg("--kontena").arg(kontena);
    for (option, path) in
        [("--runtime-tools", &options.runtime_tools), ("--contest", &options.contest), ("--runtime", &options.runtime)]
    {
        if let Some(path) = path {
            stage.arg(option).arg(if option == "--runtime" { find(path)? } else { path.canonicalize()? });
        }
    }
    let status = stage.env(INSIDE, "1").env("TMPDIR", SCRATCH).status().context("cannot run unshare")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// A program, of PATH if it has no slash.
fn find(program: &Path) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).map(|directory| directory.join(program));
    let found = if program.components().count() > 1 { None } else { places.find(|place| place.exists()) };
    found.unwrap_or_else(|| program.into()).canonicalize().with_context(|| format!("{}", program.display()))
}

/// A cgroup of this run's own; dropped, it goes, with all below it.
struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let cgroup2 = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let cgroup2 = Path::new(cgroup2.context("no cgroup v2 is mounted here")?);
        let path = cgroup2.join(format!("kontena-suites-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last processes are about to end.
        for _ in 0..100 {
            let mut remove = Command::new("find");
            remove.arg(&self.path).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]).stderr(Stdio::null());
            if remove.status().is_ok_and(|status| status.success()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Runs the suites with each of the runtimes, prints a table, and compares it with that of docs/oci.md.
fn compare(options: &OciSuites, kontena: &Path) -> Result<ExitCode> {
    let ours = run(options, kontena)?;
    let theirs = options.runtime.as_deref().map(|runtime| run(options, runtime)).transpose()?;
    for (test, outcome) in &ours {
        let theirs = theirs.as_ref().map_or("", |theirs| theirs.get(test).map_or("-", Outcome::word));
        let why = if let Outcome::Failed(why) = outcome { why } else { "" };
        println!("{test:64} {:8} {theirs:8} {why}", outcome.word());
    }
    let expected = expected(&fs::read_to_string(host::root().join("docs/oci.md"))?);
    let mut faults = Vec::new();
    for (test, outcome) in &ours {
        match (outcome, expected.get(test)) {
            (Outcome::Failed(why), None) => {
                faults.push(format!("{test} fails, and docs/oci.md does not say why: {why}"))
            }
            (Outcome::Passed, Some(Fails::Always)) => faults.push(format!("{test} passes: take it out of docs/oci.md")),
            _ => {}
        }
    }
    for (suite, least) in RUNC {
        let count = |results: &Results, word: &str| {
            results.iter().filter(|(test, outcome)| test.starts_with(suite) && outcome.word() == word).count()
        };
        for (name, results) in [("kontena", Some(&ours)), ("the other runtime", theirs.as_ref())] {
            if let Some(results) = results.filter(|results| results.keys().any(|test| test.starts_with(suite))) {
                let [passed, failed, skipped] = ["ok", "not ok", "skipped"].map(|word| count(results, word));
                println!("{suite} with {name}: {passed} ok, {failed} not ok, {skipped} skipped");
                if name == "kontena" && passed < least {
                    faults.push(format!("{suite}: {passed} are ok, and {least} with runc"));
                }
            }
        }
    }
    faults.iter().for_each(|fault| println!("{fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Skipped => "skipped",
            Self::Failed(_) => "not ok",
        }
    }
}

/// When a test of the table in docs/oci.md fails.
#[derive(Debug, PartialEq, Eq)]
enum Fails {
    Always,
    /// It depends on the machine, or on chance.
    Sometimes,
}

/// The table: a row has a test, `always` or `sometimes`, and the reason.
fn expected(page: &str) -> BTreeMap<String, Fails> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (test, fails) = (cells.next()?, cells.next()?);
        let fails = if fails == "always" { Fails::Always } else { Fails::Sometimes };
        RUNC.iter().any(|(suite, _)| test.starts_with(suite)).then(|| (test.to_owned(), fails))
    };
    page.lines().filter_map(row).collect()
}

/// Both suites with one runtime.
fn run(options: &OciSuites, runtime: &Path) -> Result<Results> {
    let mut results = Results::new();
    if let Some(directory) = &options.runtime_tools {
        validation(directory, runtime, &mut results)?;
    }
    if let Some(directory) = &options.contest {
        contest(directory, runtime, &mut results)?;
    }
    Ok(results)
}

/// Runs a program to its end, or to the end of the patience with it.
fn finish(program: &Path, change: impl FnOnce(&mut Command)) -> Result<Output> {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", PATIENCE]).arg(program).stdin(Stdio::null());
    change(&mut command);
    command.output().context("cannot run timeout")
}

/// runtime-tools: each program prints lines of TAP, and passes if all of them are ok.
fn validation(directory: &Path, runtime: &Path, results: &mut Results) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(directory.join("validation"))?.collect::<Result<_, _>>()?;
    names.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name().to_string_lossy().into_owned();
        let program = entry.path().join(format!("{name}.t"));
        if program.exists() {
            let output = finish(&program, |command| _ = command.current_dir(directory).env("RUNTIME", runtime))?;
            results.insert(format!("runtime-tools/{name}"), tap(&output));
        }
    }
    ensure!(!results.is_empty(), "{}/validation has no program *.t", directory.display());
    Ok(())
}

fn tap(output: &Output) -> Outcome {
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = || String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    match text.lines().find(|line| line.starts_with("not ok")) {
        Some(line) => Outcome::Failed(line.into()),
        None if !output.status.success() => Outcome::Failed(format!("{}: {}", output.status, complaint())),
        None if text.lines().any(|line| line.starts_with("1..")) => Outcome::Passed,
        None => Outcome::Failed(format!("it prints no plan: {}", complaint())),
    }
}

/// contest: groups of tests.
fn contest(directory: &Path, runtime: &Path, results: &mut Results) -> Result<()> {
    let (program, inside) = (directory.join("contest"), directory.join("runtimetest"));
    let rootfs = directory.join("tests/contest/contest/bundle.tar.gz");
    // It is looked for in the working directory.
    let place = Path::new(SCRATCH).join("bundle.tar.gz");
    if !place.exists() {
        symlink(rootfs, place)?;
    }
    let kind = runtime.file_name().unwrap_or_default().to_owned();
    let run = |arguments: &[&str]| {
        finish(&program, |command| {
            command.args(arguments).current_dir(SCRATCH).env("RUNTIME_KIND", &kind).env("RUST_BACKTRACE", "0");
            if let ["run", ..] = arguments {
                command.arg("--runtime").arg(runtime).arg("--runtimetest").arg(&inside);
            }
        })
    };
    let groups = run(&["list"])?;
    ensure!(groups.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&groups.stderr));
    for group in String::from_utf8(groups.stdout)?.lines() {
        let alone = ALONE.iter().find(|(name, _)| *name == group).map_or(&[][..], |(_, tests)| *tests);
        let whole = [String::new()];
        let each: Vec<_> = alone.iter().map(|test| format!("::{test}")).collect();
        for test in if each.is_empty() { &whole[..] } else { &each } {
            let output = run(&["run", "-t", &format!("{group}{test}")])?;
            let found = tests(&String::from_utf8_lossy(&output.stdout));
            if !output.status.success() || found.is_empty() {
                let why = String::from_utf8_lossy(&output.stderr);
                let why = why.lines().find(|line| line.contains("failed")).unwrap_or("it has ended");
                let name = format!("contest/{group}{}", test.replace("::", "/"));
                results.insert(name, Outcome::Failed(format!("{}: {why}", output.status)));
            }
            results.extend(found.into_iter().map(|(test, outcome)| (format!("contest/{group}/{test}"), outcome)));
        }
    }
    Ok(())
}

/// `3 / 12 : NAME : VERDICT`, and in the next line the reason.
fn tests(text: &str) -> Vec<(String, Outcome)> {
    let lines: Vec<_> = text.lines().collect();
    let line = |(at, line): (usize, &&str)| {
        let (number, rest) = line.split_once(" : ")?;
        number.split_once(" / ")?.0.parse::<u32>().ok()?;
        let (test, verdict) = rest.rsplit_once(" : ")?;
        let why = lines.get(at + 1).map_or("", |why| why.trim());
        let outcome = match verdict {
            "ok" => Outcome::Passed,
            "skipped" => Outcome::Skipped,
            _ => Outcome::Failed(why.into()),
        };
        Some((test.to_owned(), outcome))
    };
    lines.iter().enumerate().filter_map(line).collect()
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let report =
            "# Start group a\n1 / 3 : hello world : ok\n2 / 3 : b : skipped\n\tno criu\n3 / 3 : c : not ok\n\tx : y\n";
        let failed = Outcome::Failed("x : y".into());
        let expected = [("hello world", Outcome::Passed), ("b", Outcome::Skipped), ("c", failed)];
        assert_eq!(tests(report), expected.map(|(test, outcome)| (test.to_owned(), outcome)));
    }

    #[test]
    fn table_is_read() {
        let page = "| test | fails | why |\n| contest/a/b | always | c |\n| runtime-tools/d | sometimes | e |\n";
        let table = [("contest/a/b", Fails::Always), ("runtime-tools/d", Fails::Sometimes)];
        assert_eq!(expected(page), table.map(|(test, fails)| (test.to_owned(), fails)).into());
    }
}
