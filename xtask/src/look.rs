//! `cargo xtask look`: a hostile root's view of a container (look/look.sh, look/look.c), in kontena and, if it is
//! installed, in podman, side by side. docs/security.md explains each difference.

use crate::arch::Arch;
use crate::step::step;
use crate::{bench, debian, dist, host, rootfs, setup};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// The results of a look, by name; several lines with one name become one.
type Look = BTreeMap<String, String>;

/// The cgroup of all that is looked at, and what removes it afterwards.
const PARENT: &str = "/kontena-look";
const CLEAN: &str =
    r#"parent=$1; shift; "$@"; status=$?; find "/sys/fs/cgroup$parent" -depth -type d -exec rmdir {} \;; exit $status"#;

pub fn look() -> Result<ExitCode> {
    setup::setup(&[setup::BENCH, setup::ROOTFS])?;
    ensure!(host::is_root(), "as root: sudo cargo xtask look");
    let arch = Arch::native()?;
    let (pair, debian) = (dist::small(arch)?, debian::rootfs(arch)?);
    let dir = arch.dir().join("look");
    fs::create_dir_all(&dir)?;
    let program = dir.join("look");
    let source = host::root().join("xtask/look/look.c");
    step("compiling look.c", Command::new("gcc").args(["-static", "-O1", "-Wall", "-o"]).arg(&program).arg(source))?;

    let kontena = pair.join("kontena");
    let ours = [&*kontena.to_string_lossy(), "run", "--net", "none", "--cgroup-parent", PARENT];
    let ours = ours.map(String::from).to_vec();
    // Settings that this machine may not allow podman have no result.
    let store =
        ["--root", "/run/store", "--runroot", "/run/state", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
    let limits = [
        "--pids-limit",
        "-1",
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
        "--cgroup-parent",
        PARENT,
    ];
    let run = ["--runtime", "runc", "run", "--rm", "--network", "none"];
    let theirs = [&["podman"][..], &store, &run, &limits, &["--rootfs"]].concat();
    let theirs: Vec<String> = theirs.into_iter().map(String::from).collect();
    let ours = look_by(&ours, &debian, &program, &dir)?;
    let theirs = if setup::installed("podman") && setup::installed("runc") {
        Some(look_by(&theirs, &debian, &program, &dir)?)
    } else {
        eprintln!("- podman is left out: there is none, or no runc");
        None
    };
    print(&ours, theirs.as_ref());
    Ok(ExitCode::SUCCESS)
}

/// Runs the look with `command`, to which rootfs and payload are added, in a rootfs of its own.
fn look_by(command: &[String], debian: &Path, program: &Path, dir: &Path) -> Result<Look> {
    let tree = dir.join("rootfs");
    rootfs::remove(&tree)?;
    let copied = Command::new("cp").arg("-a").arg(debian).arg(&tree).status()?;
    ensure!(copied.success(), "cp {}: {copied}", debian.display());
    fs::copy(program, tree.join("look"))?;
    fs::copy(host::root().join("xtask/look/look.sh"), tree.join("look.sh"))?;
    let mut stage = bench::stage();
    stage
        .args(["sh", "-c", CLEAN, "sh", PARENT])
        .args(command)
        .arg(&tree)
        .args(["sh", "/look.sh"])
        .stdin(Stdio::null());
    let output = stage.output().context("cannot run unshare")?;
    ensure!(output.status.success(), "{}: {}", command[0], String::from_utf8_lossy(&output.stderr));
    rootfs::remove(&tree)?;
    let mut look = Look::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let (name, result) = line.split_once('|').with_context(|| format!("{line:?} is no line of a look"))?;
        look.entry(name.into()).and_modify(|all| *all = format!("{all}, {result}")).or_insert_with(|| result.into());
    }
    Ok(look)
}

/// A table, in which what differs is marked.
fn print(ours: &Look, theirs: Option<&Look>) {
    let nothing = Look::new();
    let podman = theirs.unwrap_or(&nothing);
    let mut names: Vec<&String> = ours.keys().chain(podman.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut differences = 0;
    for name in names {
        let [left, right] = [ours, podman].map(|look| look.get(name).map_or("-", |result| result));
        let differs = theirs.is_some() && left != right;
        differences += usize::from(differs);
        println!(
            "{} {name:34} {left:44} {}",
            if differs { "*" } else { " " },
            if theirs.is_some() { right } else { "" }
        );
    }
    if theirs.is_some() {
        println!("{differences} differ (*): kontena, podman");
    }
}
