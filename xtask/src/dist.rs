//! Builds the pair, kontena and kontena-init, static for musl: plainly, as `cargo build --release` does, or for size.
//! Only the build for size needs rust-src and an unstable flag of the pinned compiler.

use crate::arch::Arch;
use crate::{host, musl, setup, step::step};
use anyhow::{Context, Result};
use object::{Object, ObjectSegment};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The two binaries, launcher first.
pub const PAIR: [&str; 2] = ["kontena", "kontena-init"];

/// The options that make it small, each with its measured savings (init of 34.3 kB, an empty launcher of 22.4 kB). The
/// stack stays non-executable.
const RUSTFLAGS: &[&str] = &[
    // A panic is one trapping instruction, with no message and nothing to print one.
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    // No unwind tables (1.8 kB, 2.4 kB), for nothing unwinds.
    "-Cforce-unwind-tables=no",
    // A fixed address needs no relocations and no dynamic section (2.9 kB, 3.3 kB), and no pages for pointers (16 kB of
    // memory of each launcher that waits; docs/security.md says why that decides against a moving one).
    "-Crelocation-model=static",
    // One segment for code and constants, without padding to whole pages (8.1 kB both).
    "-Clink-arg=--build-id=none",
    "-Clink-arg=-znorelro",
    "-Clink-arg=--no-rosegment",
    "-Clink-arg=--no-eh-frame-hdr",
    // Functions of the same instructions are there once; no code of the pair compares their addresses (0.6 kB of a
    // launcher of 410 kB).
    "-Clink-arg=--icf=all",
];

/// Options that make only the launcher smaller, each with its savings of code on x86_64 (339 kB without them). They
/// tune the code generator after LTO has made one module of everything.
const LAUNCHER: &[&str] = &[
    // A function is inlined only where that makes its caller smaller (3.9 kB).
    "-Cllvm-args=-inline-threshold=0",
    // A loop loads its constants in each turn: kept for the whole loop, each takes a register, or a spill (4.8 kB).
    "-Cllvm-args=-disable-machine-licm",
    // Equal sequences of instructions become functions (8.0 kB; aarch64 and riscv64 do so by default).
    "-Cllvm-args=-enable-machine-outliner=always",
    // A loop keeps the counter that its source has, and gets no second one for each address it computes (1.0 kB).
    "-Cllvm-args=-disable-lsr",
    // What is computed twice is computed twice: to keep it takes a register, or a spill (0.6 kB).
    "-Cllvm-args=-disable-machine-cse",
    // Nor is it computed early on another path, so that it is there already (0.3 kB).
    "-Cllvm-args=-enable-pre=false",
    // A match of few cases compares: a jump table has an address for each, and for those between them (0.5 kB).
    "-Cllvm-args=-min-jump-table-entries=8",
    // Spills go where they are short, and not where they are seldom (0.3 kB).
    "-Cllvm-args=-split-spill-mode=size",
];

/// The linker script: writable data is on one page rather than, by chance, on two, in each waiting launcher and init,
/// and the file has no padding (1.6 kB and 2.2 kB less than `-zseparate-loadable-segments`). Cargo does not look for
/// changes of the script.
const LAYOUT: &str = "xtask/src/pair.ld";

/// What of kontena is built: features of the launcher.
#[derive(Clone, Copy)]
pub struct Profile {
    /// As `--profile` has it.
    pub name: &'static str,
    /// The Cargo features.
    pub features: &'static str,
    /// The most bytes that the launcher may have.
    pub budget: u64,
}

/// All that kontena does.
pub const FULL: Profile = Profile { name: "full", features: "kontena/net,kontena/images,kontena/oci", budget: 594_500 };

/// All profiles. A board has no engine, and one that runs one service needs no `exec` and no `logs`.
pub const PROFILES: [Profile; 4] = [
    FULL,
    Profile {
        name: "board",
        features: "kontena/net,kontena/background,kontena/rootless,kontena/images,kontena/seccomp",
        budget: 472_000,
    },
    Profile { name: "lean", features: "kontena/net", budget: 304_000 },
    Profile { name: "bare", features: "", budget: 213_500 },
];

impl Profile {
    /// The one called `name`.
    pub fn named(name: &str) -> Result<Self> {
        let names = PROFILES.each_ref().map(|profile| profile.name).join(", ");
        let found = PROFILES.into_iter().find(|profile| profile.name == name);
        found.with_context(|| format!("the profile is one of {names}, not {name:?}"))
    }
}

/// `cargo xtask dist`
pub fn dist(arch: &'static Arch, profile: Profile) -> Result<ExitCode> {
    let dist = small_profile(arch, profile)?;
    for name in PAIR {
        let file = dist.join(name);
        println!("{} {} bytes", file.display(), fs::metadata(&file)?.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the plain release build for this machine; returns its directory.
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

/// The directory of the plain release build.
pub fn plain_dir() -> Result<PathBuf> {
    Ok(host::target_dir().join(Arch::native()?.target).join("release"))
}

/// The directory of the build for size.
pub fn small_dir(arch: &Arch) -> PathBuf {
    let dist = host::root().join("dist");
    if arch.is_native() { dist } else { dist.join(arch.name) }
}

/// The directory of the build for size of a profile.
pub fn profile_dir(arch: &Arch, profile: Profile) -> PathBuf {
    if profile.name == FULL.name { small_dir(arch) } else { small_dir(arch).join(profile.name) }
}

/// Makes the build for size, stripped; returns its directory.
pub fn small(arch: &'static Arch) -> Result<PathBuf> {
    small_profile(arch, FULL)
}

/// Makes the build for size of a profile.
pub fn small_profile(arch: &'static Arch, profile: Profile) -> Result<PathBuf> {
    setup::setup(&[setup::DIST, arch.std.unwrap_or_default()])?;
    let mut flags: Vec<String> = RUSTFLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    flags.extend(arch.has_small_pages.then(|| format!("-Clink-arg=-T{}", host::root().join(LAYOUT).display())));
    flags.extend(linking(arch)?);
    let mut cargo = build(arch);
    // An array of strings looks the same in Rust and in TOML.
    let launcher = [LAUNCHER, arch.launcher].concat();
    cargo
        .args(["-Zprofile-rustflags", "--config"])
        .arg(format!("profile.release.package.{}.rustflags = {launcher:?}", PAIR[0]))
        .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size", "--target-dir"])
        .arg(own_target_dir())
        .args(["--no-default-features", "--features", profile.features])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z")
        .env("CARGO_PROFILE_RELEASE_STRIP", "false");
    step(&format!("building kontena and kontena-init for size, {}, {}", profile.name, arch.name), &mut cargo)?;

    let dist = profile_dir(arch, profile);
    fs::create_dir_all(&dist)?;
    for name in PAIR {
        strip(&unstripped(arch).join(name), &dist.join(name))?;
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

/// The directory of the build for size before it was stripped: the same code, with symbols.
pub fn unstripped(arch: &Arch) -> PathBuf {
    own_target_dir().join(arch.target).join("release")
}

/// A directory of its own, so that the two builds do not undo each other's work.
fn own_target_dir() -> PathBuf {
    host::target_dir().join("dist")
}

/// Writes the segments of `from` as `to`, in one move: a `to` that is running stays whole. Symbols, notes and the table
/// of the sections, which strip(1) would keep (1.0 kB), are for linkers and debuggers.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let mut program = fs::read(from).with_context(|| from.display().to_string())?;
    let elf = object::File::parse(&*program).with_context(|| from.display().to_string())?;
    let ends = elf.segments().map(|segment| segment.file_range()).map(|(start, length)| start + length);
    let end = ends.max().context("a program without segments")?;
    program.truncate(end.try_into()?);
    // e_shoff, e_shentsize, e_shnum and e_shstrndx of a 64-bit header; elf(5).
    for field in [0x28..0x30, 0x3a..0x40] {
        program.get_mut(field).context("a program without a header")?.fill(0);
    }
    let new = to.with_extension("new");
    fs::write(&new, program).with_context(|| format!("cannot write {}", new.display()))?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    fs::rename(&new, to).with_context(|| format!("cannot write {}", to.display()))
}
