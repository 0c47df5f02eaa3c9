//! Debian's kernel for virtual machines: its package, unpacked and never installed, and the requested modules with
//! their dependencies, in the order of loading. The package is downloaded once.

use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::{rootfs, step::step};
use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel unpacked from its package.
pub struct Kernel {
    /// The image to boot.
    pub image: PathBuf,
    /// Its modules, by name.
    modules: BTreeMap<String, PathBuf>,
    /// The names of those that are no modules here, but part of the image.
    builtin: Vec<String>,
}

impl Kernel {
    /// Brings the unpacked package in `dir` up: downloads it when it is not there.
    pub fn unpacked(arch: &'static Arch, dir: &Path) -> Result<Self> {
        let tree = dir.join("kernel");
        if !tree.is_dir() {
            let new = dir.join("kernel.new");
            rootfs::remove(&new)?;
            fs::create_dir_all(&new)?;
            let apt = Apt::new(arch)?;
            let image = apt.dependency(arch.kernel, "linux-image-")?;
            // Releases after trixie split the image's package into three.
            let parts =
                ["linux-base-", "linux-binary-", "linux-modules-"].map(|prefix| apt.dependency(&image, prefix).ok());
            for package in parts.into_iter().flatten().chain([image]) {
                apt::unpack(&apt.download_one(&package, &dir.join("deb"))?, &new)?;
            }
            let script = r#"find "$1" -name '*.ko.xz' -exec xz -d {} +"#;
            step("unpacking the kernel", Command::new("sh").args(["-c", script, "sh"]).arg(&new))?;
            fs::rename(&new, &tree)?;
        }
        // Since trixie the modules are below /usr, and later the image beside them. Where it is not compressed, it is
        // called vmlinux.
        let lib = ["lib/modules", "usr/lib/modules"].map(|dir| tree.join(dir)).into_iter().find(|dir| dir.is_dir());
        let lib = only_entry(&lib.context("the package has no modules")?, "")?;
        let beside = lib.join("vmlinuz");
        let image = if beside.exists() { beside } else { only_entry(&tree.join("boot"), "vmlinu")? };
        let mut modules = BTreeMap::new();
        find_modules(&lib.join("kernel"), &mut modules)?;
        let builtin = fs::read_to_string(lib.join("modules.builtin"))?;
        Ok(Self { image, modules, builtin: builtin.lines().map(|line| name(Path::new(line))).collect() })
    }

    /// The modules `wanted` and their dependencies, each after its dependencies. `old|new` is a renamed module.
    pub fn modules(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for names in wanted {
            let is_there = |name: &&str| self.modules.contains_key(*name) || self.is_builtin(name);
            self.add_module(names.split('|').find(is_there).unwrap_or(names), &mut order)?;
        }
        Ok(order)
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.iter().any(|builtin| builtin == name)
    }

    fn add_module(&self, name: &str, order: &mut Vec<PathBuf>) -> Result<()> {
        if self.is_builtin(name) {
            return Ok(());
        }
        let path = self.modules.get(name).with_context(|| format!("this kernel has no module {name}"))?;
        if order.contains(path) {
            return Ok(());
        }
        for needed in needs(path, "depends=")? {
            self.add_module(&needed, order)?;
        }
        // Algorithms that it asks the kernel for by name, as in `softdep=pre: crc32c`: of several, the one for every
        // machine.
        for wanted in needs(path, "softdep=")? {
            let generic = format!("{wanted}_generic");
            if self.modules.contains_key(&generic) {
                self.add_module(&generic, order)?;
            }
        }
        order.push(path.clone());
        Ok(())
    }
}

/// A module's dependencies, after `key` in its section .modinfo: `depends=a,b`. (The package has no modules.dep: depmod
/// writes it where the package is installed.)
fn needs(module: &Path, key: &str) -> Result<Vec<String>> {
    let data = fs::read(module).with_context(|| module.display().to_string())?;
    let elf = object::File::parse(&*data).with_context(|| module.display().to_string())?;
    let modinfo = elf.section_by_name(".modinfo").context("a module without .modinfo")?.data()?;
    let needs = modinfo.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(key.as_bytes()));
    let needs = String::from_utf8_lossy(needs.unwrap_or_default());
    let names = needs.split([',', ' ']).filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

fn find_modules(dir: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find_modules(&path, modules)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            modules.insert(name(&path), path);
        }
    }
    Ok(())
}

/// A module's name, which has no hyphens even where its file has.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_")
}

/// The one entry of `dir` whose name starts with `prefix`.
fn only_entry(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?.filter_map(|entry| entry.ok());
    let mut entries = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let entry = entries.next().with_context(|| format!("{} has no {prefix}…", dir.display()))?;
    ensure!(entries.next().is_none(), "{} has more than one {prefix}…", dir.display());
    Ok(entry.path())
}
