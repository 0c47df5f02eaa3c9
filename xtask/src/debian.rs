//! A tree of Debian's packages, downloaded and unpacked but never installed: the second rootfs of the tests, and in the
//! virtual machine also where their onlookers (ip, nft, sh and the like) come from, which is why it has those.

use crate::apt::Apt;
use crate::arch::Arch;
use crate::{rootfs, step::step};
use anyhow::{Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its packages; apt-get adds their dependencies.
const DEBIAN: &[&str] = &[
    "apache2-utils",
    "base-files",
    "base-passwd",
    "bash",
    "bubblewrap",
    "busybox",
    "coreutils",
    "dash",
    "findutils",
    "finit",
    "grep",
    "iproute2",
    "iptables",
    "libc-bin",
    "libcap2-bin",
    "mount",
    "ncurses-base",
    "nftables",
    "nginx-light",
    "passt",
    "procps",
    "runit",
    "s6",
    "sed",
    "systemd",
    "slirp4netns",
    "tmux",
    "uidmap",
    "util-linux",
];

/// Brings the tree of `arch` up to date: packages unpacked, and of their installation scripts only what nginx misses.
/// debootstrap would take minutes, and root.
pub fn rootfs(arch: &'static Arch) -> Result<PathBuf> {
    let dir = arch.dir().join("debian");
    let (rootfs, stamp) = (dir.join("rootfs"), dir.join("stamp"));
    let recipe = include_str!("debian.rs");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) && rootfs.is_dir() {
        return Ok(rootfs);
    }
    let new = dir.join("new");
    Apt::new(arch)?.tree("a Debian rootfs", DEBIAN, &new)?;
    finish(&new)?;
    rootfs::replace(&rootfs, &new)?;
    fs::write(stamp, recipe)?;
    Ok(rootfs)
}

/// The same as an image of a file system, for a machine that cannot see it otherwise.
pub fn image(arch: &'static Arch) -> Result<PathBuf> {
    let rootfs = rootfs(arch)?;
    let (image, stamp) = (rootfs.with_file_name("rootfs.erofs"), rootfs.with_file_name("stamp"));
    let is_newer = || Ok::<_, std::io::Error>(fs::metadata(&image)?.modified()? > fs::metadata(&stamp)?.modified()?);
    if !is_newer().unwrap_or(false) {
        let new = image.with_extension("new");
        step("making an image of it", Command::new("mkfs.erofs").arg(&new).arg(&rootfs))?;
        fs::rename(new, &image)?;
    }
    Ok(image)
}

/// The work of the packages' scripts, as far as nginx and the tests need it.
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
