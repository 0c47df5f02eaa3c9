//! `cargo xtask ci`: everything that must pass before a change goes in, in the order in which it fails fastest.

use crate::arch::{self, Arch};
use crate::{bench, completions, host, setup, size, step::step, test, vm};
use anyhow::{Result, ensure};
use std::process::{ExitCode, Stdio};

pub fn ci() -> Result<ExitCode> {
    setup::setup(&[setup::LINTS, Arch::native()?.std.unwrap_or_default()])?;
    step("checking the format", &mut host::cargo(["fmt", "--all", "--check"]))?;
    let lints = ["--all-targets", "--", "-D", "warnings"];
    let mut pair = host::cargo(["clippy", "-p", "kontena", "-p", "kontena-init", "--target"]);
    step("clippy: the pair", pair.arg(Arch::native()?.target).args(lints))?;
    let mut others = host::cargo(["clippy", "-p", "xtask", "-p", "tests", "--target=host-tuple"]);
    step("clippy: xtask and the tests", others.args(lints))?;
    deny()?;
    passed("size", size::size()?)?;
    setup::setup(&[setup::SHELLS])?;
    passed("completions", completions::completions()?)?;
    passed("test", test::test(&test::Test::all())?)?;
    other_architectures()?;
    passed("bench --check", bench::bench(&bench::Bench::check())?)?;
    Ok(ExitCode::SUCCESS)
}

/// The whole suite in emulated machines of other architectures takes too long here (`cargo xtask test --arch aarch64`):
/// the pair starts a container with limits, a bridge and a port there.
fn other_architectures() -> Result<()> {
    let command = "kontena run -m 64m --pids-limit 20 --cpus 0.5 -p 80:80 /rootfs /bin/true";
    for arch in arch::ALL.iter().filter(|arch| !arch.is_native()) {
        passed(&format!("vm --arch {}", arch.name), vm::vm(&vm::Vm::command(arch.name, command))?)?;
    }
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
