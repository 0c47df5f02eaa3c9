//! `cargo xtask filters`: engines' profiles of system calls, compiled by kontena and by libseccomp, and both filters
//! run in an evaluator over all calls and the edges of their arguments. What differs is one of a few [`Reason`]s, or a
//! failure. With `--time`, what a call costs under each, in turns.
//!
//! kontena's filters come from a unit test of its own compiler (launcher/src/config/seccomp/tests.rs), for other
//! architectures in an emulator. Rules mean to libseccomp what runc makes of them.

#[path = "../../init/src/bpf/evaluate.rs"]
#[allow(clippy::expect_used, clippy::panic)]
mod evaluate;
mod profile;

use crate::arch::Arch;
use crate::step::step;
use crate::{host, setup, test};
use anyhow::{Context, Result, ensure};
use argh::FromArgs;
use evaluate::{Call, evaluate};
use linux_raw_sys::errno::ENOSYS;
use linux_raw_sys::ptrace::*;
use profile::Profile;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// compare kontena's filters of engines' profiles with libseccomp's
#[derive(FromArgs)]
#[argh(subcommand, name = "filters")]
pub struct Filters {
    /// x86_64, aarch64 or riscv64 (this machine's); another needs Debian's qemu-user-static
    #[argh(option, default = "std::env::consts::ARCH.into()")]
    arch: String,

    /// measure what a call costs instead
    #[argh(switch)]
    time: bool,
}

impl Filters {
    /// This machine's, compared.
    pub fn compare() -> Self {
        Self { arch: std::env::consts::ARCH.into(), time: false }
    }
}

/// The engines' profiles: their files in tests/configs.
const PROFILES: [&str; 3] = ["podman4-run", "podman5-run", "cri16-container"];

/// Calls with this bit are x32's.
const X32: u32 = 0x4000_0000;
/// So many numbers of each architecture are looked at: all that any kernel has, and more.
const NUMBERS: u32 = 1024;

/// `cargo xtask filters`
pub fn filters(options: &Filters) -> Result<ExitCode> {
    let arch = Arch::named(&options.arch)?;
    setup::setup(&[setup::LIBSECCOMP])?;
    let dir = arch.dir().join("filters");
    crate::rootfs::remove(&dir)?;
    fs::create_dir_all(&dir)?;
    let helper = dir.join("libseccomp");
    let source = host::root().join("xtask/filters/libseccomp.c");
    let mut gcc = Command::new("gcc");
    step("compiling libseccomp.c", gcc.args(["-O2", "-Wall", "-o"]).arg(&helper).arg(source).arg("-lseccomp"))?;
    let profiles = PROFILES.iter().map(|name| Profile::read(name, arch)).collect::<Result<Vec<_>>>()?;
    for profile in &profiles {
        fs::write(dir.join(profile.name).with_extension("json"), profile.json.to_string())?;
    }
    let mut cargo = test::cargo_test(arch)?;
    cargo.args(["-q", "-p", "kontena", "filters_are_written_to_be_compared", "--", "--ignored"]);
    cargo.env("KONTENA_FILTERS", &dir);
    if !arch.is_native() {
        let runner = format!("CARGO_TARGET_{}_RUNNER", arch.target.to_uppercase().replace('-', "_"));
        cargo.env(runner, format!("qemu-{}-static", arch.name));
    }
    step("compiling the profiles with kontena", &mut cargo)?;
    if options.time {
        return time(&dir, &helper, &profiles);
    }
    let mut is_good = true;
    for profile in &profiles {
        is_good &= compare(&dir, &helper, profile)?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A filter, and what its compiler knows of the names in it.
struct Filter {
    code: Vec<sock_filter>,
    /// For each architecture, the numbers of the profile's names; negative for names that it does not know.
    numbers: BTreeMap<u32, BTreeMap<String, i32>>,
}

fn decode(bytes: &[u8]) -> Vec<sock_filter> {
    let (steps, _) = bytes.as_chunks();
    let step = |&[c, d, jt, jf, k0, k1, k2, k3]: &[u8; 8]| sock_filter {
        code: u16::from_le_bytes([c, d]),
        jt,
        jf,
        k: u32::from_le_bytes([k0, k1, k2, k3]),
    };
    steps.iter().map(step).collect()
}

/// libseccomp's filter of a profile.
fn by_libseccomp(dir: &Path, helper: &Path, profile: &Profile, optimize: &str) -> Result<(Filter, PathBuf)> {
    let rules = dir.join(profile.name).with_extension("rules");
    fs::write(&rules, &profile.rules)?;
    let mut command = Command::new(helper);
    command.args(["compile", profile.arch.name, optimize]).stdin(fs::File::open(rules)?);
    let output = command.output().context("cannot run libseccomp")?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "libseccomp: {said}");
    let mut numbers: BTreeMap<u32, BTreeMap<String, i32>> = BTreeMap::new();
    for line in said.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [arch, name, number] = fields[..] else { continue };
        let arch = u32::from_str_radix(arch.trim_start_matches("0x"), 16)?;
        numbers.entry(arch).or_default().insert(name.to_owned(), number.parse()?);
    }
    let file = dir.join(profile.name).with_extension(format!("libseccomp{optimize}"));
    fs::write(&file, &output.stdout)?;
    Ok((Filter { code: decode(&output.stdout), numbers }, file))
}

/// Why the two filters may say different things about a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reason {
    /// The profile is not for its architecture: libseccomp ends the thread, and kontena the process, which would
    /// otherwise go on with a lock that nobody releases.
    Foreign,
    /// Its number is beyond all that the profile names: runc puts the same in front of libseccomp's filter.
    Newer,
    /// This libseccomp does not know the call. Of x32, the kernel has none by these numbers either.
    Unknown,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Foreign => "of another architecture: the process ends, not the thread",
            Self::Newer => "newer than the profile: ENOSYS, as runc",
            Self::Unknown => "known to kontena and not to this libseccomp",
        }
    }
}

/// The architectures to try: AUDIT_ARCH_*, and the bit of all numbers.
const ARCHES: [(u32, u32); 6] = [
    (AUDIT_ARCH_X86_64, 0),
    (AUDIT_ARCH_X86_64, X32),
    (AUDIT_ARCH_I386, 0),
    (AUDIT_ARCH_AARCH64, 0),
    (AUDIT_ARCH_ARM, 0),
    (AUDIT_ARCH_RISCV64, 0),
];

/// How libseccomp names an architecture, for it has a bit for x32, too.
fn libseccomps(arch: u32, bit: u32) -> u32 {
    if bit == X32 { arch & !0x8000_0000 } else { arch }
}

fn compare(dir: &Path, helper: &Path, profile: &Profile) -> Result<bool> {
    let ours = decode(&fs::read(dir.join(profile.name).with_extension("bpf"))?);
    let (theirs, _) = by_libseccomp(dir, helper, profile, "1")?;
    let (mut calls, mut wrong) = (0u64, 0);
    let mut reasons: BTreeMap<Reason, (u64, Vec<String>)> = BTreeMap::new();
    for (arch, bit) in ARCHES {
        let known = theirs.numbers.get(&libseccomps(arch, bit));
        let last = known.and_then(|known| known.values().max().copied()).unwrap_or(-1) as u32;
        let odd = if bit == 0 { &[X32 - 1, 2 * X32, u32::MAX][..] } else { &[] };
        for number in (bit..bit + NUMBERS).chain(odd.iter().copied()) {
            let names = profile.names_at(known, number);
            for arguments in profile.arguments(&names) {
                let call = Call { arch, number, arguments };
                let ((our, _), (their, _)) = (evaluate(&ours, call), evaluate(&theirs.code, call));
                calls += 1;
                if our == their {
                    continue;
                }
                let reason = if known.is_none() {
                    (our == SECCOMP_RET_KILL_PROCESS && their == SECCOMP_RET_KILL_THREAD).then_some(Reason::Foreign)
                } else if number > last || number >= 2 * X32 {
                    (our == SECCOMP_RET_ERRNO | ENOSYS && their == profile.default).then_some(Reason::Newer)
                } else {
                    (names.is_empty() && their == profile.default).then_some(Reason::Unknown)
                };
                if let Some(reason) = reason {
                    let (count, examples) = reasons.entry(reason).or_default();
                    *count += 1;
                    let example = format!("{arch:#x} {number:#x}");
                    if examples.len() < 8 && examples.last() != Some(&example) {
                        examples.push(example);
                    }
                    continue;
                }
                wrong += 1;
                if wrong <= 20 {
                    println!("✗ {call:x?} {names:?}: kontena {our:#x}, libseccomp {their:#x}");
                }
            }
        }
    }
    let sizes = format!("{} instructions, libseccomp {}", ours.len(), theirs.code.len());
    println!("{} {}, {}: {calls} calls, {wrong} differ; {sizes}", mark(wrong == 0), profile.name, profile.arch.name);
    for (reason, (count, examples)) in reasons {
        println!("    {count} {}: {}", reason.text(), examples.join(", "));
    }
    Ok(wrong == 0)
}

fn mark(is_good: bool) -> &'static str {
    if is_good { "✓" } else { "✗" }
}

/// How many calls are timed at once, and how often.
const CALLS: &str = "100000";
const ROUNDS: usize = 31;

/// What is timed, each with its arguments; filters/libseccomp.c makes them. The kernel answers the first two without a
/// filter once it has seen that their arguments do not matter.
fn timed(arch: &Arch) -> [(&'static str, u32, [u64; 6]); 4] {
    let numbers = if arch.name == "x86_64" { [110, 0, 135] } else { [173, 63, 92] };
    let [getppid, read, personality] = numbers;
    let asks = [0xffff_ffff, 0, 0, 0, 0, 0];
    let none = [0; 6];
    [("getppid", getppid, none), ("read", read, none), ("personality", personality, asks), ("unknown", 999, none)]
}

/// Prints what calls cost without a filter, with kontena's, and with libseccomp's two: the process's own time, in
/// turns.
fn time(dir: &Path, helper: &Path, profiles: &[Profile]) -> Result<ExitCode> {
    for profile in profiles {
        let calls = timed(profile.arch);
        let columns: String = calls.iter().map(|(name, ..)| format!("{name:>22}")).collect();
        println!("{:32}{columns}", profile.name);
        let ours = dir.join(profile.name).with_extension("bpf");
        let (_, list) = by_libseccomp(dir, helper, profile, "1")?;
        let (_, tree) = by_libseccomp(dir, helper, profile, "2")?;
        let filters = [Some(ours), Some(list), Some(tree), None];
        let names = ["kontena", "libseccomp", "libseccomp, as a tree", "no filter"];
        let mut times: [Vec<[f64; 4]>; 4] = Default::default();
        for _ in 0..ROUNDS {
            for (filter, times) in filters.iter().zip(&mut times) {
                times.push(time_once(helper, filter.as_deref())?);
            }
        }
        for ((name, filter), times) in names.iter().zip(&filters).zip(&times) {
            print!("{name:32}");
            let code = filter.as_ref().map(fs::read).transpose()?.map(|bytes| decode(&bytes));
            for (column, (_, number, arguments)) in calls.into_iter().enumerate() {
                let mut sorted: Vec<f64> = times.iter().map(|row| row[column]).collect();
                sorted.sort_by(f64::total_cmp);
                let call = Call { arch: AUDIT_ARCH_X86_64, number, arguments };
                let steps = code.as_ref().map_or(0, |code| evaluate(code, call).1);
                print!("{:>12.1} ns {steps:>3} st", sorted[sorted.len() / 2]);
            }
            println!();
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn time_once(helper: &Path, filter: Option<&Path>) -> Result<[f64; 4]> {
    let mut command = Command::new(helper);
    command.args(["time", CALLS]).args(filter).stdin(Stdio::null());
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut row = [0.0; 4];
    for (place, time) in row.iter_mut().zip(String::from_utf8(output.stdout)?.split_whitespace()) {
        *place = time.parse()?;
    }
    Ok(row)
}
