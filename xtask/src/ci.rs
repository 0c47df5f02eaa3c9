//! `cargo xtask ci`: everything that must pass before a change goes in, in the order in which it fails fastest.

use crate::{bench, host, setup, size, step::step, test, vm};
use anyhow::{Result, ensure};
use std::process::{ExitCode, Stdio};

pub fn ci() -> Result<ExitCode> {
    setup::setup(&[setup::LINTS, setup::PAIR])?;
    step("checking the format", &mut host::cargo(["fmt", "--all", "--check"]))?;
    let lints = ["--all-targets", "--", "-D", "warnings"];
    let mut pair = host::cargo(["clippy", "-p", "kontena", "-p", "kontena-init", "--target"]);
    step("clippy: the pair", pair.arg(host::musl_target()).args(lints))?;
    let mut others = host::cargo(["clippy", "-p", "xtask", "-p", "tests", "--target=host-tuple"]);
    step("clippy: xtask and the tests", others.args(lints))?;
    deny()?;
    passed("size", size::size()?)?;
    passed("test", test::test(&test::Test::all())?)?;
    limits()?;
    passed("bench --check", bench::bench(&bench::Bench::check())?)?;
    Ok(ExitCode::SUCCESS)
}

/// What a build machine cannot show while its controllers are cgroup v1's: limits are written, with a bridge and a port on
/// an older kernel, and hold from the first instruction on.
fn limits() -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        eprintln!("- only x86_64 has a virtual machine: limits are not tried");
        return Ok(());
    }
    const KILLED: u8 = 128 + 9;
    let all =
        ["kontena", "run", "-m", "64m", "--pids-limit", "20", "--cpus", "0.5", "-p", "80:80", "/rootfs", "/bin/true"];
    let too_little = ["kontena", "run", "-m", "128k", "--net", "none", "/rootfs", "/bin/true"];
    passed("vm: limits", vm::vm(&vm::Vm::command(&all))?)?;
    ensure!(vm::vm(&vm::Vm::command(&too_little))? == ExitCode::from(KILLED), "vm: 128k of memory were not too little");
    Ok(())
}

/// Licences, duplicates and sources of the dependencies, where cargo-deny is installed: it is too slow to build it here.
/// Advisories are for `cargo deny check` by hand: they change from day to day, and need the network.
fn deny() -> Result<()> {
    let there = host::cargo(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("- cargo deny is not installed: skipped (cargo install cargo-deny)");
        return Ok(());
    }
    step("cargo deny", &mut host::cargo(["deny", "check", "bans", "licenses", "sources"]))
}

fn passed(task: &str, code: ExitCode) -> Result<()> {
    ensure!(code == ExitCode::SUCCESS, "{task} failed");
    Ok(())
}
