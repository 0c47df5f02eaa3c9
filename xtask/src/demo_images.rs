//! Makes images of the demo rootfs, which kontena mounts as they are: one of each file system that it knows, and one of
//! a tree that lacks everything that a container is mounted on. Those of the demo also with a config and a hash tree.

/// The same code as kontena-image's.
#[path = "../image/src/verity.rs"]
mod verity;

use crate::arch::Arch;
use crate::{rootfs, setup, step::step};
use anyhow::{Result, bail};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of a block of dm-verity.
const BLOCK: u64 = 4096;

/// An image's name, its tree in the rootfs, and the program that makes it.
const IMAGES: [(&str, &str, &str); 3] =
    [("demo.erofs", "", "mkfs.erofs"), ("demo.squashfs", "", "mksquashfs"), ("bare.erofs", "bin", "mkfs.erofs")];

/// Updates the images of `tree`, the rootfs for `arch`, and returns their directory.
pub fn build(arch: &Arch, tree: &Path) -> Result<PathBuf> {
    setup::setup(&[setup::IMAGES])?;
    let dir = arch.dir().join("images");
    fs::create_dir_all(&dir)?;
    let changed = fs::metadata(tree)?.modified()?.max(fs::metadata(tree.join("sbin/kontena-init"))?.modified()?);
    for (name, part, program) in IMAGES {
        let image = dir.join(name);
        if fs::metadata(&image).and_then(|image| image.modified()).is_ok_and(|made| made > changed) {
            continue;
        }
        let new = image.with_extension("new");
        rootfs::remove(&new)?;
        let mut command = Command::new(program);
        let tree = tree.join(part);
        match program {
            "mksquashfs" => command.arg(&tree).arg(&new).args(["-quiet", "-no-progress", "-all-root"]),
            _ => command.args(["--quiet", "--all-root"]).arg(&new).arg(&tree),
        };
        step(&format!("making {name}"), &mut command)?;
        if part.is_empty() {
            add_tree(&new, &image.with_added_extension("verified"))?;
        }
        fs::rename(new, image)?;
    }
    Ok(dir)
}

/// Copies an image to `to`, and adds an empty config and a hash tree. The root hash is in the file `to.verity`.
fn add_tree(image: &Path, to: &Path) -> Result<()> {
    fs::copy(image, to)?;
    let mut file = OpenOptions::new().read(true).write(true).open(to)?;
    file.set_len(file.metadata()?.len().next_multiple_of(BLOCK))?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(b"kontena\x01\0\0\0\0")?;
    file.set_len(file.metadata()?.len().next_multiple_of(BLOCK))?;
    let root: String = verity::append(&mut file)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(fs::write(to.with_added_extension("verity"), root + "\n")?)
}

/// The image of the demo for `--image KIND`.
pub fn of_kind(arch: &Arch, tree: &Path, kind: &str) -> Result<PathBuf> {
    match kind {
        "erofs" | "squashfs" => Ok(build(arch, tree)?.join(format!("demo.{kind}"))),
        _ => bail!("--image wants erofs or squashfs, not {kind:?}"),
    }
}
