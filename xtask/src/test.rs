//! `cargo xtask test`: sets up what the tests need (programs, the pair built for size, the demo rootfs, a Debian rootfs)
//! and runs them. The pretend hosts in which they run are the tests' own business.

use crate::{dist, host, rootfs, setup, step::step};
use anyhow::{Context, Result, ensure};
use argh::FromArgs;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// set up for the tests, and run them; arguments after -- go to the test programs
#[derive(FromArgs)]
#[argh(subcommand, name = "test")]
pub struct Test {
    /// run only the tests whose names contain one of these
    #[argh(positional, greedy)]
    filter: Vec<String>,
}

impl Test {
    pub fn all() -> Self {
        Self { filter: Vec::new() }
    }
}

/// What Debian's nginx needs to be at home; apt-get adds what these depend on.
const DEBIAN: &[&str] = &["base-files", "base-passwd", "coreutils", "dash", "libcap2-bin", "nginx-light"];

/// Debian's /bin, /sbin and /lib are links into /usr, which no package holds.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

pub fn test(options: &Test) -> Result<ExitCode> {
    setup::setup(&[setup::TESTS])?;
    let pair = dist::small()?;
    let rootfs = rootfs::build(&pair)?;
    let debian = debian_rootfs()?;

    let units = host::cargo(["test", "-p", "kontena", "-p", "kontena-init", "--target=host-tuple", "--"]);
    let whole = host::cargo(["test", "-p", "tests", "--no-fail-fast", "--target=host-tuple", "--"]);
    for mut cargo in [units, whole] {
        cargo
            .args(&options.filter)
            .env("KONTENA_BIN_DIR", &pair)
            .env("KONTENA_ROOTFS", &rootfs)
            .env("KONTENA_DEBIAN_ROOTFS", &debian);
        if !host::is_root() {
            // cargo builds as the user; only the test programs run as root.
            let target = host::gnu_target().to_uppercase().replace('-', "_");
            cargo.env(format!("CARGO_TARGET_{target}_RUNNER"), "sudo -E");
        }
        let status = cargo.status().context("cannot run cargo test")?;
        if !status.success() {
            return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings target/debian-rootfs up to date: packages unpacked, and of their installation scripts only what nginx misses.
/// debootstrap would take minutes, and root.
fn debian_rootfs() -> Result<PathBuf> {
    let target = host::target_dir();
    let (rootfs, stamp) = (target.join("debian-rootfs"), target.join("debian-rootfs.stamp"));
    let recipe = include_str!("test.rs");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) && rootfs.is_dir() {
        return Ok(rootfs);
    }
    let debs = target.join("debs");
    download(&debs)?;
    let new = target.join("debian-rootfs.new");
    rootfs::remove(&new)?;
    unpack(&debs, &new)?;
    finish(&new)?;
    rootfs::replace(&rootfs, &new)?;
    fs::write(stamp, recipe)?;
    Ok(rootfs)
}

/// Downloads the packages and all they depend on: apt is told that nothing is installed.
fn download(debs: &Path) -> Result<()> {
    fs::create_dir_all(debs.join("partial"))?;
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-y", "--download-only", "--no-install-recommends", "install"]).args(DEBIAN);
    for option in
        ["Dir::State::status=/dev/null", "Debug::NoLocking=1", "APT::Sandbox::User=root", "APT::Architectures=native"]
    {
        apt.args(["-o", option]);
    }
    apt.arg("-o").arg(format!("Dir::Cache::archives={}", debs.display()));
    step("downloading Debian packages for a second rootfs", &mut apt)
}

fn unpack(debs: &Path, tree: &Path) -> Result<()> {
    for dir in MERGED {
        fs::create_dir_all(tree.join("usr").join(dir))?;
        symlink(Path::new("usr").join(dir), tree.join(dir))?;
    }
    let script = r#"for deb in "$1"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$2" || exit
    done"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(debs).arg(tree);
    step("unpacking them", &mut shell)
}

/// What the packages' scripts would have done, as far as nginx and the tests need it.
fn finish(tree: &Path) -> Result<()> {
    for (master, file) in [("passwd.master", "passwd"), ("group.master", "group")] {
        fs::copy(tree.join("usr/share/base-passwd").join(master), tree.join("etc").join(file))?;
    }
    for dir in ["etc/nginx/sites-enabled", "etc/nginx/modules-enabled", "var/www/html", "run", "proc", "sys", "dev"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::create_dir_all(tree.join("tmp"))?;
    fs::set_permissions(tree.join("tmp"), Permissions::from_mode(0o1777))?;
    let site = tree.join("etc/nginx/sites-enabled/default");
    if !site.is_symlink() {
        symlink("/etc/nginx/sites-available/default", site)?;
    }
    fs::copy(tree.join("usr/share/nginx/html/index.html"), tree.join("var/www/html/index.html"))?;
    ensure!(tree.join("usr/sbin/nginx").exists(), "{} has no nginx", tree.display());
    Ok(())
}
