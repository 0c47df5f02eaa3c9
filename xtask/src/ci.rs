//! `cargo xtask ci`: everything that must pass before a change goes in, in the order in which it fails fastest.

use crate::arch::{self, Arch};
use crate::{bench, completions, filters, host, options, profiles, setup, size, step::step, structure, test, vm};
use anyhow::{Result, ensure};
use std::process::ExitCode;

pub fn ci() -> Result<ExitCode> {
    setup::setup(&[setup::LINTS, Arch::native()?.std.unwrap_or_default()])?;
    step("checking the format", &mut host::cargo(["fmt", "--all", "--check"]))?;
    let lints = ["--all-targets", "--", "-D", "warnings"];
    // With the features that are not among the default ones yet, too.
    let mut pair = host::cargo(["clippy", "-p", "kontena", "-p", "kontena-init", "--all-features", "--target"]);
    step("clippy: the pair", pair.arg(Arch::native()?.target).args(lints))?;
    let mut others =
        host::cargo(["clippy", "-p", "xtask", "-p", "kontena-image", "-p", "tests", "--target=host-tuple"]);
    step("clippy: the other programs and the tests", others.args(lints))?;
    let tests = ["test", "--quiet", "-p", "xtask", "-p", "kontena-image", "--target=host-tuple"];
    step("the tests of the other programs", &mut host::cargo(tests))?;
    // Advisories are for `cargo deny check` by hand: they change from day to day, and come from elsewhere.
    step("cargo deny", &mut host::cargo(["deny", "check", "bans", "licenses", "sources"]))?;
    passed("structure", structure::structure()?)?;
    passed("filters", filters::filters(&filters::Filters::compare())?)?;
    passed("size", size::size()?)?;
    passed("profiles", profiles::profiles()?)?;
    passed("profiles in a machine", profiles::limits()?)?;
    setup::setup(&[setup::SHELLS])?;
    passed("completions", completions::completions()?)?;
    passed("man", options::man()?)?;
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

fn passed(task: &str, code: ExitCode) -> Result<()> {
    ensure!(code == ExitCode::SUCCESS, "{task} failed");
    Ok(())
}
