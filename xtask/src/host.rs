//! What this machine is: its architecture, the project's directories, cargo, and whether we are root. It only looks,
//! and changes nothing.

use anyhow::{Context, Result, bail};
use std::env::{self, consts::ARCH};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The checkout.
pub fn root() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// Where all that is built goes.
pub fn target_dir() -> PathBuf {
    let root = root();
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// The target of this machine's own programs: xtask.
pub fn gnu_target() -> String {
    // Rust spells out what riscv64 has on top of the base instructions.
    let arch = if ARCH == "riscv64" { "riscv64gc" } else { ARCH };
    format!("{arch}-unknown-linux-gnu")
}

/// The very cargo which runs us, and so the pinned one.
pub fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// A cargo command in the checkout.
pub fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(cargo_path());
    command.args(args).current_dir(root());
    command
}

/// The toolchain's directory, whose contents show which components are installed.
pub fn sysroot() -> Result<PathBuf> {
    let cargo = cargo_path();
    match cargo.parent().and_then(Path::parent) {
        Some(dir) if cargo.is_absolute() => Ok(dir.to_path_buf()),
        _ => bail!("the toolchain is not known: run this as `cargo xtask`"),
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether sudo runs us in the place of a user's xtask, which has built everything already.
pub fn prepared() -> bool {
    env::var_os(PREPARED).is_some()
}

const PREPARED: &str = "XTASK_PREPARED";

/// The xtask command `args` through sudo, in our place: its signals and its status are ours.
pub fn become_root(args: &[String]) -> Result<ExitCode> {
    let mut sudo = Command::new("sudo");
    sudo.args(["env", &format!("{PREPARED}=1")]);
    for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "PATH"] {
        if let Ok(value) = env::var(name) {
            sudo.arg(format!("{name}={value}"));
        }
    }
    let error = sudo.arg(env::current_exe()?).args(args).exec();
    Err(error).context("this needs root, and sudo cannot be run")
}

/// The controllers of cgroup v2 here; none if it is not mounted. Field 5 of a line of /proc/self/mountinfo is where
/// (proc(5)).
pub fn controllers() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut cgroup2 = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    cgroup2
        .find_map(|line| std::fs::read_to_string(Path::new(line.split(' ').nth(4)?).join("cgroup.controllers")).ok())
        .unwrap_or_default()
}
