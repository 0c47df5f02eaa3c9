//! `cargo xtask image`: builds `kontena-image` and runs it. Also builds the one of a release, static like the pair.
//! What it does with an image is in `xtask/image`.

use crate::arch::Arch;
use crate::{dist, host, musl, setup, step::step};
use anyhow::{Context, Result, ensure};
use argh::FromArgs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The program.
const NAME: &str = "kontena-image";

/// make one file of an OCI image: SOURCE -o FILE, as kontena-image has it
#[derive(FromArgs)]
#[argh(subcommand, name = "image")]
pub struct Image {
    /// what kontena-image is run with; SOURCE comes first, or --help alone shows them
    #[argh(positional, greedy)]
    arguments: Vec<String>,
}

/// `cargo xtask image`
pub fn image(options: &Image) -> Result<ExitCode> {
    let mut command = Command::new(program()?);
    let status = command.args(&options.arguments).status().context("cannot run kontena-image")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The program for this machine. Only what reads and packs bytes is optimized, which saves minutes.
pub fn program() -> Result<PathBuf> {
    setup::setup(&[setup::IMAGES, setup::C])?;
    let target = host::gnu_target();
    let mut cargo = host::cargo(["build", "--quiet", "-p", NAME, "--target", &target]);
    let program = host::target_dir().join(&target).join("debug").join(NAME);
    let built = fs::metadata(&program).is_ok();
    if built {
        // Only a line of progress if there is something to do.
        ensure!(cargo.status().context("cannot run cargo")?.success(), "building kontena-image failed");
    } else {
        step("building kontena-image", &mut cargo)?;
    }
    Ok(program)
}

/// `cargo xtask dist --image`: the program of a release, beside the pair.
pub fn dist(arch: &'static Arch) -> Result<ExitCode> {
    let std =
        arch.std.with_context(|| format!("rustup has no musl for {}: kontena-image is not built for it", arch.name));
    setup::setup(&[std?])?;
    // ring and zstd have code of C, which is compiled for musl; rustc brings the linker.
    let include = musl::include(arch)?;
    let cc = format!("{}-gcc", arch.gnu);
    let own = Command::new(&cc).arg("-print-file-name=include").output().with_context(|| cc.clone())?.stdout;
    let own = String::from_utf8(own)?;
    // Headers of musl and gcc, and none of glibc; fortify would call functions that only glibc has.
    let flags = format!("-nostdinc -isystem {} -isystem {} -U_FORTIFY_SOURCE", include.display(), own.trim());
    let target = arch.target.replace('-', "_");
    let mut cargo = host::cargo(["build", "--release", "-p", NAME, "--target", arch.target]);
    cargo.env(format!("CC_{target}"), cc).env(format!("AR_{target}"), format!("{}-ar", arch.gnu));
    cargo.env(format!("CFLAGS_{target}"), flags);
    step(&format!("building {NAME} for {}", arch.name), &mut cargo)?;
    let directory = dist::small_dir(arch);
    fs::create_dir_all(&directory)?;
    let (from, to) = (host::target_dir().join(arch.target).join("release").join(NAME), directory.join(NAME));
    replace(&from, &to)?;
    println!("{} {} bytes", to.display(), fs::metadata(&to)?.len());
    Ok(ExitCode::SUCCESS)
}

/// Copies a program in one move: one that is running stays whole.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    let _ = fs::copy(from, &new).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, to).with_context(|| format!("cannot write {}", to.display()))
}
