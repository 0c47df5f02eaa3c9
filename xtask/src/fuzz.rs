//! `cargo xtask fuzz`: replies of the kernel's that it would never send, by the million, to what reads them; with the
//! same test that the suite has for a few of them (`launcher/src/net/netlink.rs`). It says its seed, which shows a
//! failure again.

use crate::arch::Arch;
use crate::{host, setup};
use anyhow::{Context, Result};
use argh::FromArgs;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// feed what reads the kernel's replies with nonsense
#[derive(FromArgs)]
#[argh(subcommand, name = "fuzz")]
pub struct Fuzz {
    /// how many replies of each kind (default 100000000)
    #[argh(option, default = "100_000_000")]
    rounds: u64,

    /// what they are made of (default: the time)
    #[argh(option)]
    seed: Option<u64>,
}

const TEST: &str = "no_reply_makes_the_parsers_panic_or_go_on_for_ever";

/// `cargo xtask fuzz`
pub fn fuzz(options: &Fuzz) -> Result<ExitCode> {
    let arch = Arch::native()?;
    setup::setup(&[arch.std.unwrap_or_default()])?;
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
    };
    // In the profile of tests, so that what overflows is found.
    let mut cargo = host::cargo(["test", "-p", "kontena", "--target", arch.target, TEST, "--", "--nocapture"]);
    cargo.env("KONTENA_FUZZ_SEED", seed.to_string()).env("KONTENA_FUZZ_ROUNDS", options.rounds.to_string());
    let status = cargo.status().context("cannot run cargo test")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
