//! What must be installed for each task, as tables, and its installation: Debian packages through apt-get, parts of the
//! toolchain through rustup, programs of crates.io through cargo. It installs nothing which it has not named before,
//! and nothing which is there.

use crate::{host, step::step};
use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something to be installed, with the proof that it is: a program of PATH, or a file when it starts with a slash; for
/// the toolchain's parts, a file below its directory.
pub enum Need {
    Package { name: &'static str, proof: &'static str },
    Component { name: &'static str, proof: &'static str },
    Target { name: &'static str },
    Crate { name: &'static str, version: &'static str },
}
use Need::{Component, Crate, Package, Target};

/// To build the pair with a std of its own.
pub const DIST: &[Need] = &[Component { name: "rust-src", proof: "lib/rustlib/src/rust/library/std/Cargo.toml" }];

/// To build the demo rootfs.
pub const ROOTFS: &[Need] = &[
    Package { name: "gcc", proof: "gcc" },
    Package { name: "make", proof: "make" },
    Package { name: "dpkg", proof: "dpkg-deb" },
];

/// Packages for the tests: the pretend hosts, the load, the browser, and the tools that look on.
pub const TESTS: &[Need] = &[
    Package { name: "iproute2", proof: "ip" },
    Package { name: "nftables", proof: "nft" },
    Package { name: "iptables", proof: "iptables-legacy" },
    Package { name: "apache2-utils", proof: "ab" },
    Package { name: "tmux", proof: "tmux" },
    Package { name: "s6", proof: "s6-supervise" },
    Package { name: "runit", proof: "runsv" },
    Package { name: "chromium", proof: "chromium" },
    Package { name: "passt", proof: "pasta" },
    Package { name: "slirp4netns", proof: "slirp4netns" },
];

/// Packages to verify the signatures of Debian's lists.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// To download Debian's packages, and unpack them.
pub const APT: &[Need] = &[
    Package { name: "apt", proof: "apt-cache" },
    Package { name: "dpkg", proof: "dpkg-deb" },
    Package { name: "debian-archive-keyring", proof: KEYRING },
];

/// To compile a locale.
pub const LOCALES: &[Need] = &[Package { name: "libc-bin", proof: "localedef" }];

/// To boot a virtual machine: what unpacks its kernel, and makes its disk. Its emulator is never installed.
pub const VM: &[Need] =
    &[Package { name: "erofs-utils", proof: "mkfs.erofs" }, Package { name: "xz-utils", proof: "xz" }];

/// To make images of the demo rootfs.
pub const IMAGES: &[Need] =
    &[Package { name: "erofs-utils", proof: "mkfs.erofs" }, Package { name: "squashfs-tools", proof: "mksquashfs" }];

/// To compile what is of C in a dependency.
pub const C: &[Need] =
    &[Package { name: "gcc", proof: "gcc" }, Package { name: "libc6-dev", proof: "/usr/include/stdio.h" }];

/// Packages for the benchmark's private network.
pub const BENCH: &[Need] =
    &[Package { name: "util-linux", proof: "unshare" }, Package { name: "iproute2", proof: "ip" }];

/// What sends a load.
pub const TRAFFIC: &[Need] = &[Package { name: "wrk", proof: "wrk" }, Package { name: "curl", proof: "curl" }];

/// Other container tools, which the benchmark compares with.
pub const RIVALS: &[Need] = &[
    Package { name: "bubblewrap", proof: "bwrap" },
    Package { name: "crun", proof: "crun" },
    Package { name: "runc", proof: "runc" },
    Package { name: "time", proof: "/usr/bin/time" },
    Package { name: "tini", proof: "tini" },
];

/// Another compiler of profiles of system calls, which kontena's is compared with.
pub const LIBSECCOMP: &[Need] = &[
    Package { name: "gcc", proof: "gcc" },
    Package { name: "libc6-dev", proof: "/usr/include/stdio.h" },
    Package { name: "libseccomp-dev", proof: "/usr/include/seccomp.h" },
];

/// To try the completions in.
pub const SHELLS: &[Need] = &[Package { name: "zsh", proof: "zsh" }, Package { name: "fish", proof: "fish" }];

/// To check the sources and their dependencies.
pub const LINTS: &[Need] = &[
    Component { name: "rustfmt", proof: "bin/cargo-fmt" },
    Component { name: "clippy", proof: "bin/cargo-clippy" },
    Crate { name: "cargo-deny", version: "0.20.2" },
];

/// Installs the missing packages of `tables`.
pub fn setup(tables: &[&[Need]]) -> Result<()> {
    let sysroot = host::sysroot()?;
    let (mut packages, mut parts, mut crates) = (Vec::new(), Vec::new(), Vec::new());
    for need in tables.iter().copied().flatten() {
        match need {
            Package { name, proof } if !installed(proof) => packages.push(*name),
            Component { name, proof } if !sysroot.join(proof).exists() => parts.push(("component", *name)),
            Target { name } if !sysroot.join("lib/rustlib").join(name).exists() => parts.push(("target", name)),
            Crate { name, version } if !installed(name) => crates.push((*name, *version)),
            _ => (),
        }
    }
    packages.sort_unstable();
    packages.dedup();
    parts.dedup();
    install_packages(&packages)?;
    install_parts(&parts)?;
    install_crates(&crates)
}

/// Whether a package's proof is there.
pub fn installed(proof: &str) -> bool {
    if proof.starts_with('/') {
        return Path::new(proof).exists();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).any(|dir| dir.join(proof).exists())
}

fn install_packages(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let list = names.join(" ");
    if !installed("apt-get") {
        bail!("please install what Debian calls {list}: this machine has no apt-get, so I cannot");
    }
    eprintln!("Installing these Debian packages: {list}");
    // A mirror which fails is not yet a failure: the packages may come from the others.
    let stale = step("apt-get update", apt_get().arg("update"));
    // With only -y, apt-get would resolve conflicts by removing other packages.
    let mut install = apt_get();
    install.args(["install", "-y", "--no-remove", "--no-install-recommends"]).args(names);
    let done = step(&format!("apt-get install {list}"), &mut install).map_err(|error| stale.err().unwrap_or(error));
    done.with_context(|| {
        format!(
            "cannot install Debian's packages {list}; apt-get's reason is above. Install them by hand, then try again. \
             If apt-get would have to remove or downgrade a package, decide which of the two you keep (`apt-cache \
             policy PACKAGE` shows where each version comes from)"
        )
    })
}

/// apt-get which asks nothing, as root.
pub fn apt_get() -> Command {
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// `program`, through sudo when we are not root.
fn as_root(program: &str) -> Command {
    if host::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

fn install_parts(parts: &[(&str, &str)]) -> Result<()> {
    for (kind, name) in parts {
        let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") else {
            bail!("please install the {kind} {name} for this cargo: it does not come from rustup, so I cannot");
        };
        eprintln!("Installing the toolchain's {kind} {name}");
        let mut rustup = Command::new("rustup");
        rustup.args([kind, "add", "--toolchain"]).arg(toolchain).arg(name);
        step(&format!("rustup {kind} add {name}"), &mut rustup)
            .with_context(|| format!("cannot install the toolchain's {kind} {name}; rustup's reason is above"))?;
    }
    Ok(())
}

/// Without optimization: that takes longer than it saves.
fn install_crates(crates: &[(&str, &str)]) -> Result<()> {
    for (name, version) in crates {
        eprintln!("Installing {name} {version} of crates.io");
        let mut install = host::cargo(["install", "--quiet", "--locked", "--debug", "--target=host-tuple"]);
        step(&format!("cargo install {name}"), install.args([name, "--version", version]))
            .with_context(|| format!("cannot install {name} {version} of crates.io; cargo's reason is above"))?;
    }
    Ok(())
}
