//! Makes images of the demo rootfs, which kontena mounts as they are: one of each file system that it knows, and one of
//! a tree that lacks everything that a container is mounted on.

use crate::arch::Arch;
use crate::{rootfs, setup, step::step};
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        fs::rename(new, image)?;
    }
    Ok(dir)
}

/// The image of the demo for `--image KIND`.
pub fn of_kind(arch: &Arch, tree: &Path, kind: &str) -> Result<PathBuf> {
    match kind {
        "erofs" | "squashfs" => Ok(build(arch, tree)?.join(format!("demo.{kind}"))),
        _ => bail!("--image wants erofs or squashfs, not {kind:?}"),
    }
}
