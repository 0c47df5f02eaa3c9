//! Debian packages that are downloaded and unpacked, and never installed: those of a virtual machine, of whatever
//! architecture and release. It has an apt configuration of its own, and changes nothing of this machine's.

use crate::arch::Arch;
use crate::step::{spinner, step};
use crate::{rootfs, setup};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIRROR: &str = "http://deb.debian.org/debian";

/// Debian's /bin, /sbin and /lib are links into /usr, which no package holds.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib64"];

/// Debian for one architecture.
pub struct Apt {
    dir: PathBuf,
    arch: &'static Arch,
    suites: &'static [&'static str],
}

impl Apt {
    /// The lists of what there is, downloaded once.
    pub fn new(arch: &'static Arch) -> Result<Self> {
        Self::of(arch, arch.suites, "apt")
    }

    /// The same of other releases than the architecture's, kept in the directory `name`.
    pub fn of(arch: &'static Arch, suites: &'static [&'static str], name: &str) -> Result<Self> {
        setup::setup(&[setup::APT])?;
        let apt = Self { dir: arch.dir().join(name), arch, suites };
        if !apt.dir.join("updated").exists() {
            for dir in ["state/lists/partial", "cache/archives/partial"] {
                fs::create_dir_all(apt.dir.join(dir))?;
            }
            // Nothing is installed.
            fs::write(apt.dir.join("status"), "")?;
            apt.update()?;
        }
        Ok(apt)
    }

    /// From the first release whose lists are as they were signed: a mirror may be amid a change.
    fn update(&self) -> Result<()> {
        let mut done = Ok(());
        for suite in self.suites {
            let source = format!("deb [signed-by={}] {MIRROR} {suite} main\n", setup::KEYRING);
            fs::write(self.dir.join("sources.list"), source)?;
            let mut apt = self.command("apt-get");
            apt.args(["-o", "APT::Update::Error-Mode=any", "update"]);
            done = step(&format!("apt-get update for {suite} {}", self.arch.debian), &mut apt);
            if done.is_ok() {
                fs::write(self.dir.join("updated"), suite)?;
                break;
            }
        }
        done.with_context(|| format!("cannot read the lists of {MIRROR}; apt-get's reason is above"))
    }

    /// Downloads `what`, `packages` with all that they depend on, and unpacks it into the new directory `tree`.
    pub fn tree(&self, what: &str, packages: &[&str], tree: &Path) -> Result<()> {
        let debs = tree.with_extension("debs");
        self.try_again(|| {
            rootfs::remove(&debs)?;
            fs::create_dir_all(debs.join("partial"))?;
            let mut apt = self.command("apt-get");
            apt.arg("-o").arg(format!("Dir::Cache::archives={}", debs.display()));
            apt.args(["-y", "--download-only", "--no-install-recommends", "install"]).args(packages);
            step(&format!("downloading {what} for {}", self.arch.debian), &mut apt)
        })?;
        rootfs::remove(tree)?;
        for dir in MERGED {
            fs::create_dir_all(tree.join("usr").join(dir))?;
            symlink(Path::new("usr").join(dir), tree.join(dir))?;
        }
        let bar = spinner(&format!("unpacking {what}"));
        for deb in fs::read_dir(&debs)? {
            let deb = deb?.path();
            if deb.extension().is_some_and(|extension| extension == "deb") {
                unpack(&deb, tree)?;
            }
        }
        bar.finish_and_clear();
        rootfs::remove(&debs)
    }

    /// Downloads `what`, these packages and nothing that they depend on, into `dir`, which is emptied before.
    pub fn download(&self, what: &str, packages: &[&str], dir: &Path) -> Result<()> {
        self.try_again(|| {
            rootfs::remove(dir)?;
            fs::create_dir_all(dir)?;
            let mut apt = self.command("apt-get");
            step(&format!("downloading {what}"), apt.arg("download").args(packages).current_dir(dir))
        })
    }

    /// Downloads one package into `dir`, which is emptied before; returns its file.
    pub fn download_one(&self, package: &str, dir: &Path) -> Result<PathBuf> {
        self.download(package, &[package], dir)?;
        let file = fs::read_dir(dir)?.next().transpose()?.map(|entry| entry.path());
        file.with_context(|| format!("apt-get has not left {package} in {}", dir.display()))
    }

    /// What `package` depends on whose name begins with `prefix`.
    pub fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let output = self.command("apt-cache").args(["depends", package]).output().context("cannot run apt-cache")?;
        let known = String::from_utf8_lossy(&output.stdout);
        let mut dependencies = known.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let dependency = dependencies.find(|name| name.starts_with(prefix));
        Ok(dependency.with_context(|| format!("apt knows no {prefix}… that {package} depends on"))?.to_owned())
    }

    /// A mirror that has moved on no longer has what old lists name.
    fn try_again(&self, mut what: impl FnMut() -> Result<()>) -> Result<()> {
        what().or_else(|_| {
            self.update()?;
            what().with_context(|| format!("cannot download from {MIRROR}; apt-get's reason is above"))
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.display();
        command.args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"]);
        for option in [
            format!("Dir::State={dir}/state"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            // A release or version that this machine prefers is none that we ask for.
            "APT::Default-Release=".into(),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            format!("APT::Architecture={}", self.arch.debian),
            format!("APT::Architectures={}", self.arch.debian),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// Unpacks a package's files into `tree`, through links that are there.
pub fn unpack(deb: &Path, tree: &Path) -> Result<()> {
    let script = r#"dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2""#;
    let output = Command::new("sh").args(["-ec", script, "sh"]).arg(deb).arg(tree).output().context("cannot run sh")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "unpacking {}: {complaint}", deb.display());
    Ok(())
}
