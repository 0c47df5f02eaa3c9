//! The architectures that the pair is made for, as data: what Rust, Debian and QEMU call each, and with what Debian's
//! kernel for it boots. Nothing here acts.

use crate::host;
use crate::setup::Need::{self, Package, Target};
use anyhow::{Context, Result};
use std::env::consts;
use std::path::PathBuf;

/// One of them.
pub struct Arch {
    /// As Rust and `--arch` have it.
    pub name: &'static str,
    /// The pair's target.
    pub target: &'static str,
    /// Its std: the target's component of rustup's or, where rustup has none, built from source on Debian's musl.
    pub std: Option<&'static [Need]>,
    /// Whether its pages have 4 kB, whatever the kernel.
    pub has_small_pages: bool,
    /// Flags that make the launcher smaller here, and larger elsewhere; dist.rs has the others.
    pub launcher: &'static [&'static str],
    /// Debian's name for it.
    pub debian: &'static str,
    /// The releases of Debian that its packages come from: the first one whose lists are whole.
    pub suites: &'static [&'static str],
    /// GNU's name for it, of the cross-compiler and of the directory with the dynamic loader.
    pub gnu: &'static str,
    /// The dynamic loader of its programs.
    pub loader: &'static str,
    /// The package that depends on the newest kernel.
    pub kernel: &'static str,
    /// The emulator, and the machine that it emulates.
    pub qemu: &'static [&'static str],
    /// The first serial port.
    pub console: &'static str,
    /// An early console, and a level which lets the banner through and little else, to show when the kernel starts.
    pub early: &'static str,
    /// Debian's packages, for the machine that emulates, with all that this takes.
    pub emulator: &'static [&'static str],
    /// What must be installed to build a program of C for it.
    pub compiler: &'static [Need],
}

/// A function with a large stack frame is not inlined: instructions that reach far into a frame are longer (6.1 kB less
/// on x86_64 and riscv64; 0.7 kB more on aarch64).
const SMALL_FRAMES: &str = "-Cllvm-args=-inline-max-stacksize=256";

/// A caller knows which registers its callee changes, and saves no others (2.2 kB). Only on x86_64: elsewhere the
/// outliner returns by a register, which it may change in a callee after the caller was told of the others.
const KNOWN_REGISTERS: &str = "-Cllvm-args=-enable-ipra";

/// All of them.
pub static ALL: [Arch; 3] = [
    Arch {
        name: "x86_64",
        target: "x86_64-unknown-linux-musl",
        std: Some(&[Target { name: "x86_64-unknown-linux-musl" }]),
        has_small_pages: true,
        launcher: &[SMALL_FRAMES, KNOWN_REGISTERS],
        debian: "amd64",
        suites: &["bookworm"],
        gnu: "x86_64-linux-gnu",
        loader: "ld-linux-x86-64.so.2",
        kernel: "linux-image-cloud-amd64",
        qemu: &["qemu-system-x86_64", "-M", "q35", "-cpu", "max"],
        console: "ttyS0",
        early: "earlycon=uart8250,io,0x3f8 loglevel=6",
        emulator: &["qemu-system-x86"],
        compiler: &[Package { name: "gcc", proof: "x86_64-linux-gnu-gcc" }],
    },
    Arch {
        name: "aarch64",
        target: "aarch64-unknown-linux-musl",
        std: Some(&[Target { name: "aarch64-unknown-linux-musl" }]),
        has_small_pages: false,
        launcher: &[],
        debian: "arm64",
        suites: &["bookworm"],
        gnu: "aarch64-linux-gnu",
        loader: "ld-linux-aarch64.so.1",
        kernel: "linux-image-cloud-arm64",
        qemu: &["qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on"],
        console: "ttyAMA0",
        early: "earlycon loglevel=6",
        emulator: &["qemu-system-arm"],
        compiler: &[Package { name: "gcc-aarch64-linux-gnu", proof: "aarch64-linux-gnu-gcc" }],
    },
    Arch {
        name: "riscv64",
        target: "riscv64gc-unknown-linux-musl",
        std: None,
        has_small_pages: true,
        launcher: &[SMALL_FRAMES],
        debian: "riscv64",
        suites: &["trixie", "forky"],
        gnu: "riscv64-linux-gnu",
        loader: "ld-linux-riscv64-lp64d.so.1",
        kernel: "linux-image-riscv64",
        qemu: &["qemu-system-riscv64", "-M", "virt"],
        console: "ttyS0",
        early: "earlycon=sbi loglevel=6",
        emulator: &["qemu-system-misc"],
        compiler: &[Package { name: "gcc-riscv64-linux-gnu", proof: "riscv64-linux-gnu-gcc" }],
    },
];

impl Arch {
    /// The one called `name`.
    pub fn named(name: &str) -> Result<&'static Self> {
        let names = ALL.each_ref().map(|arch| arch.name).join(", ");
        ALL.iter()
            .find(|arch| arch.name == name)
            .with_context(|| format!("the architecture is one of {names}, not {name:?}"))
    }

    /// This machine's.
    pub fn native() -> Result<&'static Self> {
        Self::named(consts::ARCH)
    }

    /// The directory for its builds.
    pub fn dir(&self) -> PathBuf {
        let target = host::target_dir();
        if self.is_native() { target } else { target.join(self.name) }
    }

    /// Whether it is this machine's.
    pub fn is_native(&self) -> bool {
        self.name == consts::ARCH
    }
}
