//! Shows where the pair's bytes go, and enforces their budget. It reads the unstripped binaries of the build for size:
//! the same code, with its symbols.

use crate::arch::Arch;
use crate::dist::{self, PROFILES};
use crate::{host, setup};
use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSymbol, SymbolKind};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The most bytes that the stripped init may have; dist.rs has the launcher's, which depend on the profile.
const INIT_BUDGET: u64 = 56_500;

/// How many of the largest symbols are shown.
const SHOWN: usize = 12;

/// `cargo xtask size`
pub fn size() -> Result<ExitCode> {
    setup::setup(&[setup::IMAGES])?;
    let arch = Arch::native()?;
    let (mut good, mut flash) = (true, Vec::new());
    // All of kontena is built last: its symbols are shown.
    for profile in PROFILES.into_iter().rev() {
        let dist = dist::small_profile(arch, profile)?;
        good &= within(&format!("kontena, {}", profile.name), &dist.join("kontena"), profile.budget)?;
        let [xz, zstd] = ["xz", "zstd"].map(|compressor| compressed(&dist, compressor));
        flash.push(format!("{:<8}{:>10}{:>10}", profile.name, xz?, zstd?));
    }
    let (dist, unstripped) = (dist::small_dir(arch), dist::unstripped(arch));
    good &= within("kontena-init", &dist.join("kontena-init"), INIT_BUDGET)?;
    println!("\nthe pair as a squashfs\n{:<8}{:>10}{:>10}\n{}", "", "xz", "zstd", flash.join("\n"));
    for name in dist::PAIR {
        println!("\nlargest of {name}");
        for (symbol, bytes) in largest_symbols(&unstripped.join(name))? {
            println!("{bytes:>8}  {symbol}");
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says how large a file is, and whether it is within its budget.
fn within(name: &str, file: &Path, budget: u64) -> Result<bool> {
    let bytes = fs::metadata(file).with_context(|| file.display().to_string())?.len();
    let verdict = if bytes <= budget { "ok" } else { "OVER BUDGET" };
    println!("{name}: {bytes} of at most {budget} bytes, {} %: {verdict}", bytes * 100 / budget);
    Ok(bytes <= budget)
}

/// The bytes that the pair takes on a flash chip: in a squashfs, which has next to nothing else.
fn compressed(dist: &Path, compressor: &str) -> Result<u64> {
    let image = host::target_dir().join("size.squashfs");
    let mut command = Command::new("mksquashfs");
    command.args(dist::PAIR.map(|name| dist.join(name))).arg(&image);
    command.args(["-comp", compressor, "-noappend", "-nopad", "-all-root", "-quiet", "-no-progress"]);
    let output = command.output().context("cannot run mksquashfs")?;
    ensure!(output.status.success(), "mksquashfs: {}", String::from_utf8_lossy(&output.stderr));
    Ok(fs::metadata(image)?.len())
}

/// The largest symbols with bytes in the file; instances of one generic function are added up.
fn largest_symbols(binary: &Path) -> Result<Vec<(String, u64)>> {
    let data = fs::read(binary).with_context(|| binary.display().to_string())?;
    let elf = object::File::parse(&*data).with_context(|| binary.display().to_string())?;
    let mut sizes = BTreeMap::<String, u64>::new();
    for symbol in elf.symbols().filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data)) {
        let name = format!("{:#}", rustc_demangle::demangle(symbol.name().unwrap_or("?")));
        *sizes.entry(name).or_default() += symbol.size();
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by(|(a_name, a), (b_name, b)| b.cmp(a).then(a_name.cmp(b_name)));
    sizes.truncate(SHOWN);
    Ok(sizes)
}
