//! Shows what the pair's bytes are spent on, and holds them to their budget. It reads the unstripped binaries of the
//! build for size: the same code, with its symbols.

use crate::arch::Arch;
use crate::dist;
use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// The most bytes that each stripped binary may have.
const BUDGETS: [(&str, u64); 2] = [("kontena", 407_500), ("kontena-init", 46_500)];

/// How many of the largest symbols are shown.
const SHOWN: usize = 12;

/// `cargo xtask size`
pub fn size() -> Result<ExitCode> {
    let arch = Arch::native()?;
    let dist = dist::small(arch)?;
    let unstripped = dist::unstripped(arch);
    let mut over = false;
    for (name, budget) in BUDGETS {
        let bytes = fs::metadata(dist.join(name))?.len();
        let verdict = if bytes <= budget { "ok" } else { "OVER BUDGET" };
        over |= bytes > budget;
        println!("\n{name}: {bytes} of at most {budget} bytes, {} %: {verdict}", bytes * 100 / budget);
        for (symbol, bytes) in largest_symbols(&unstripped.join(name))? {
            println!("{bytes:>8}  {symbol}");
        }
    }
    Ok(if over { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
