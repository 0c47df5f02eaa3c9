//! Builds the pair, kontena and kontena-init, static for musl: plainly, as `cargo build --release` does, or for size.
//! Only the build for size needs rust-src and an unstable flag of the pinned compiler.

use crate::arch::Arch;
use crate::{host, musl, setup, step::step};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The two binaries, launcher first.
pub const PAIR: [&str; 2] = ["kontena", "kontena-init"];

/// What makes it small, each with what it took off when measured (init of 34.3 kB, a launcher of 22.4 kB which did
/// nothing yet). The stack stays non-executable.
const RUSTFLAGS: &[&str] = &[
    // A panic is one trapping instruction, with no message and nothing to print one.
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    // No unwind tables (1.8 kB, 2.4 kB), for nothing unwinds.
    "-Cforce-unwind-tables=no",
    // A fixed address needs no relocations and no dynamic section (2.9 kB, 3.3 kB).
    "-Crelocation-model=static",
    // One segment for code and constants, without padding to whole pages (8.1 kB both).
    "-Clink-arg=--build-id=none",
    "-Clink-arg=-znorelro",
    "-Clink-arg=--no-rosegment",
    "-Clink-arg=--no-eh-frame-hdr",
    // Functions of the same instructions are there once; no code of the pair compares their addresses (0.6 kB of a launcher
    // of 410 kB).
    "-Clink-arg=--icf=all",
];

/// What is written to begins a page of its own, and so is on one and not, as chance has it, on two, in each launcher and each init
/// that waits; for 2 kB of the file.
const OWN_PAGE: &str = "-Clink-arg=-zseparate-loadable-segments";

/// `cargo xtask dist`
pub fn dist(arch: &'static Arch) -> Result<ExitCode> {
    let dist = small(arch)?;
    for name in PAIR {
        let file = dist.join(name);
        println!("{} {} bytes", file.display(), fs::metadata(&file)?.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// The plain release build for this machine; gives its directory.
pub fn plain() -> Result<PathBuf> {
    let arch = Arch::native()?;
    setup::setup(&[arch.std.unwrap_or_default()])?;
    step("building kontena and kontena-init", &mut build(arch))?;
    plain_dir()
}

fn build(arch: &Arch) -> Command {
    let mut cargo = host::cargo(["build", "--release", "--target", arch.target]);
    cargo.args(PAIR.iter().flat_map(|name| ["-p", name]));
    cargo
}

/// Where the plain release build puts the pair.
pub fn plain_dir() -> Result<PathBuf> {
    Ok(host::target_dir().join(Arch::native()?.target).join("release"))
}

/// Where the build for size puts the pair.
pub fn small_dir(arch: &Arch) -> PathBuf {
    let dist = host::root().join("dist");
    if arch.is_native() { dist } else { dist.join(arch.name) }
}

/// The build for size, stripped; gives its directory.
pub fn small(arch: &'static Arch) -> Result<PathBuf> {
    setup::setup(&[setup::DIST, arch.std.unwrap_or_default()])?;
    let mut flags: Vec<String> = RUSTFLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    flags.extend(arch.has_small_pages.then(|| OWN_PAGE.into()));
    flags.extend(linking(arch)?);
    let mut cargo = build(arch);
    cargo
        .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size", "--target-dir"])
        .arg(own_target_dir())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z")
        .env("CARGO_PROFILE_RELEASE_STRIP", "false");
    step(&format!("building kontena and kontena-init for size, {}", arch.name), &mut cargo)?;

    let dist = small_dir(arch);
    fs::create_dir_all(&dist)?;
    let program = if arch.is_native() { "strip".into() } else { format!("{}-strip", arch.gnu) };
    if !arch.is_native() {
        setup::setup(&[arch.compiler])?;
    }
    for name in PAIR {
        strip(&program, &unstripped(arch).join(name), &dist.join(name))?;
    }
    Ok(dist)
}

/// What rustc must be told where rustup has no musl for it: to link Debian's.
pub fn linking(arch: &'static Arch) -> Result<Vec<String>> {
    if arch.std.is_some() {
        return Ok(Vec::new());
    }
    let libraries = musl::libraries(arch)?;
    let [start, search] =
        [format!("-Clink-arg={}/crt1.o", libraries.display()), format!("-Lnative={}", libraries.display())];
    Ok(vec!["-Ctarget-feature=+crt-static".into(), "-Clink-self-contained=no".into(), start, search])
}

/// Where the build for size left the pair before it was stripped: the same code, with symbols.
pub fn unstripped(arch: &Arch) -> PathBuf {
    own_target_dir().join(arch.target).join("release")
}

/// A directory of its own, so that the two builds do not undo each other's work.
fn own_target_dir() -> PathBuf {
    host::target_dir().join("dist")
}

/// Writes `from` without its symbols and notes as `to`, in one move: a `to` which is running stays whole.
fn strip(program: &str, from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    let mut strip = Command::new(program);
    strip.args(["--strip-all", "-R", ".comment", "-R", ".note.*", "-o"]).arg(&new).arg(from);
    // It warns of the one segment, which is on purpose.
    let output = strip.output().context("cannot run strip")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "strip {}: {complaint}", from.display());
    fs::rename(&new, to).with_context(|| format!("cannot write {}", to.display()))
}
