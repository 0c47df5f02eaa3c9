//! Writes a tree as what was asked for. Everything is made in a private directory beside the output, and moved to its
//! place in one step when it is whole; until then the output's place is as it was.

mod bundle;
mod erofs;
mod scratch;
mod squashfs;
mod stream;
mod unpack;

use crate::config::{self, ImageConfig};
use crate::layer::hex;
use crate::tree::{ROOT, Tree};
use crate::verity;
use anyhow::{Context, Result, bail, ensure};
pub use scratch::{Scratch, raise_limits, wait_for_the_end};
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// One file: erofs.
    Erofs,
    /// One file: squashfs.
    Squashfs,
    /// A directory, and its config beside it.
    Directory,
    /// An OCI bundle.
    Bundle,
}

impl std::str::FromStr for Type {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "erofs" => Ok(Self::Erofs),
            "squashfs" => Ok(Self::Squashfs),
            "dir" => Ok(Self::Directory),
            "bundle" => Ok(Self::Bundle),
            _ => Err(format!("{text:?} is not a type: use erofs, squashfs, dir or bundle")),
        }
    }
}

/// The output: its kind, and its place.
pub struct Output<'a> {
    /// The file or directory.
    pub path: &'a Path,
    /// What it becomes.
    pub kind: Type,
    /// The compressor of the file system, and its options; as --compression has it.
    pub compression: Option<&'a str>,
    /// Whether a directory may be replaced.
    pub force: bool,
    /// Seconds since 1970, for what has no time of its own; SOURCE_DATE_EPOCH.
    pub epoch: u64,
}

impl Output<'_> {
    /// Fails if writing would in the end.
    pub fn check(&self) -> Result<()> {
        let there = fs::symlink_metadata(self.path);
        let is_directory = there.as_ref().is_ok_and(fs::Metadata::is_dir);
        match self.kind {
            Type::Erofs | Type::Squashfs => {
                ensure!(!is_directory, "{} is a directory: use the name of a file", self.path.display());
                check_replaceable(self.path)?;
                check_replaceable(&beside(self.path, ".verity"))?;
                let program = self.program();
                ensure!(is_installed(program), "{program} is not installed: {}", self.package());
            }
            Type::Directory | Type::Bundle if there.is_ok() => {
                ensure!(self.force, "{} exists: remove it, or use --force", self.path.display());
                ensure!(is_directory, "{} is not a directory", self.path.display());
                check_unmounted(self.path)?;
            }
            _ => {}
        }
        match self.kind {
            Type::Erofs => erofs::check(),
            Type::Squashfs => Ok(()),
            Type::Directory | Type::Bundle => unpack::check(),
        }
    }

    fn program(&self) -> &'static str {
        if self.kind == Type::Erofs { "mkfs.erofs" } else { "sqfstar" }
    }

    fn package(&self) -> &'static str {
        match self.kind {
            Type::Erofs => "it is in Debian's erofs-utils; --type squashfs needs sqfstar of squashfs-tools instead",
            _ => "it is in Debian's squashfs-tools, 4.5 or later; --type erofs needs mkfs.erofs of erofs-utils instead",
        }
    }

    /// Writes it, in `scratch`, and moves it to its place. Returns the root hash of a file.
    pub fn write(&self, tree: &mut Tree, config: Option<&ImageConfig>, scratch: &Scratch) -> Result<Option<String>> {
        let words = config.map(ImageConfig::words).transpose()?.unwrap_or_default();
        match self.kind {
            Type::Erofs | Type::Squashfs => self.write_file(tree, &words, scratch).map(Some),
            Type::Directory => {
                let root = scratch.path().join("root");
                unpack::unpack(tree, ROOT, &root)?;
                let config = scratch.path().join("config");
                fs::write(&config, config::encode(&words)?)?;
                self.replace(&root)?;
                move_to(&config, &beside(self.path, ".image-config"))?;
                Ok(None)
            }
            Type::Bundle => {
                let bundle = scratch.path().join("bundle");
                fs::create_dir(&bundle)?;
                unpack::unpack(tree, ROOT, &bundle.join("rootfs"))?;
                let config = config.cloned().unwrap_or_default();
                for volume in config.volumes()? {
                    let from = tree.find(volume.as_bytes())?.with_context(|| format!("the volume {volume}"))?;
                    let path = bundle.join(bundle::volume(&volume));
                    fs::create_dir_all(bundle.join("volumes"))?;
                    unpack::unpack(tree, from, &path)?;
                }
                fs::write(bundle.join("config.json"), bundle::config(&config, tree)?)?;
                fs::write(bundle.join("rootfs.image-config"), config::encode(&words)?)?;
                self.replace(&bundle)?;
                Ok(None)
            }
        }
    }

    /// What a terminal shows when it is written: its size, and how it is run. `with_hash` if the root hash comes next.
    pub fn summary(&self, has_config: bool, with_hash: bool) -> Result<String> {
        let path = self.path.display();
        let command = if has_config { "" } else { " COMMAND" };
        Ok(match self.kind {
            Type::Bundle => format!("{path}: run it with: kontena run --bundle {path} NAME"),
            Type::Directory => format!("{path}: run it with: kontena run {path}{command}"),
            Type::Erofs | Type::Squashfs => {
                let size = fs::metadata(self.path)?.len() as f64 / 1e6;
                let hash = if with_hash { "; its root hash, for --verify:" } else { "" };
                format!("{path}: {size:.1} MB; run it with: kontena run {path}{command}{hash}")
            }
        })
    }

    fn write_file(&self, tree: &mut Tree, words: &[String], scratch: &Scratch) -> Result<String> {
        let new = scratch.path().join("image");
        match self.kind {
            Type::Erofs => erofs::write(tree, &new, scratch, self)?,
            _ => squashfs::write(tree, &new, self)?,
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&new)?;
        config::append(&mut file, words)?;
        let root_hash = hex(&verity::append(&mut file)?);
        file.sync_all()?;
        let hash = scratch.path().join("verity");
        fs::write(&hash, format!("{root_hash}\n"))?;
        File::open(&hash)?.sync_all()?;
        move_to(&new, self.path)?;
        move_to(&hash, &beside(self.path, ".verity"))?;
        Ok(root_hash)
    }

    /// Moves a directory to the output's place; what is there goes first, after --force.
    fn replace(&self, new: &Path) -> Result<()> {
        if self.force && self.path.exists() {
            check_unmounted(self.path)?;
            let old = new.with_file_name("old");
            move_to(self.path, &old)?;
        }
        move_to(new, self.path)
    }
}

/// Refuses a place that has something else than a file: /dev/null would be gone, or what a link leads to left behind.
fn check_replaceable(path: &Path) -> Result<()> {
    let is_file = fs::symlink_metadata(path).map_or(true, |there| there.is_file());
    ensure!(is_file, "{} is not a regular file, and is not replaced: use another name", path.display());
    Ok(())
}

/// Refuses a directory that something is mounted in: what is replaced is removed, and its content with it.
fn check_unmounted(directory: &Path) -> Result<()> {
    let directory = directory.canonicalize().with_context(|| directory.display().to_string())?;
    let mounts = fs::read("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let mut targets = mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    if let Some(target) = targets.find(|target| unescaped(target).starts_with(&directory)) {
        bail!("{} is mounted in what --force would remove: unmount it", crate::tarball::shown(target));
    }
    Ok(())
}

/// A path of /proc/self/mountinfo, which has \040 for a space; proc_pid_mountinfo(5).
fn unescaped(mut text: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    while let Some((&first, rest)) = text.split_first() {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        let escaped = rest.get(..3).and_then(octal).filter(|_| first == b'\\');
        path.push(escaped.unwrap_or(first));
        text = escaped.and_then(|_| rest.get(3..)).unwrap_or(rest);
    }
    std::ffi::OsString::from_vec(path).into()
}

fn move_to(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot write {}", to.display()))
}

/// `path` with something behind its last name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    // "root/" is "root".
    let trimmed = path.as_os_str().as_bytes().strip_suffix(b"/").map(std::ffi::OsStr::from_bytes);
    trimmed.map_or_else(|| name.into(), |path| beside(Path::new(path), suffix))
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).exists())
}

/// A program of the machine's, which reads nothing from its caller's environment but PATH.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Judges how a program ended, and shows the last line that it said.
fn judge(name: &str, compression: Option<&str>, output: &std::process::Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason");
    let last = last.split_whitespace().collect::<Vec<_>>().join(" ");
    // mkfs.erofs does not say that it lacks a compressor.
    let hint = compression.map(|compressor| format!(": {name} --help lists its compressors; has it {compressor}?"));
    let last = crate::tarball::shown(last.as_bytes());
    bail!("{name} failed ({}): {last}{}", output.status, hint.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_alone_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, verity] = ["file", "link", "image.verity"].map(|name| directory.path().join(name));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::create_dir(&verity).unwrap();
        for kind in [Type::Erofs, Type::Squashfs] {
            for wrong in [Path::new("/dev/null"), Path::new("/dev/stdin"), &link, &directory.path().join("image")] {
                let output = Output { path: wrong, kind, compression: None, force: true, epoch: 0 };
                let error = output.check().unwrap_err().to_string();
                assert!(error.contains("is not a regular file"), "{error}");
            }
        }
        check_replaceable(&file).unwrap();
        check_replaceable(&directory.path().join("new")).unwrap();
    }
    #[test]
    fn mounts_are_not_removed() {
        assert_eq!(unescaped(b"/a\\040b\\134c\\x"), Path::new("/a b\\c\\x"));
        let directory = tempfile::tempdir().unwrap();
        check_unmounted(directory.path()).unwrap();
        for mounted in ["/", "/proc"] {
            let error = check_unmounted(Path::new(mounted)).unwrap_err().to_string();
            assert!(error.contains("is mounted in"), "{error}");
        }
    }
}
