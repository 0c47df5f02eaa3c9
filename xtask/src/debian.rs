//! A tree of Debian's packages, downloaded and unpacked but never installed: the second rootfs of the tests, and in the
//! virtual machine also where their onlookers (ip, nft, sh and the like) come from, which is why it has those.

use crate::{host, rootfs, step::step};
use anyhow::{Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is in it; apt-get adds what these depend on.
const DEBIAN: &[&str] = &[
    "apache2-utils",
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "iproute2",
    "libcap2-bin",
    "mount",
    "nftables",
    "nginx-light",
    "procps",
    "sed",
    "util-linux",
];

/// Debian's /bin, /sbin and /lib are links into /usr, which no package holds.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Brings target/debian-rootfs up to date: packages unpacked, and of their installation scripts only what nginx misses.
/// debootstrap would take minutes, and root.
pub fn rootfs() -> Result<PathBuf> {
    let target = host::target_dir();
    let (rootfs, stamp) = (target.join("debian-rootfs"), target.join("debian-rootfs.stamp"));
    let recipe = include_str!("debian.rs");
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

/// The same as an image of a file system, for a machine that cannot see it otherwise.
pub fn image() -> Result<PathBuf> {
    let (rootfs, image) = (rootfs()?, host::target_dir().join("debian-rootfs.erofs"));
    let is_newer =
        |image: &Path| Ok::<_, std::io::Error>(fs::metadata(image)?.modified()? > fs::metadata(&rootfs)?.modified()?);
    if !is_newer(&image).unwrap_or(false) {
        let new = image.with_extension("new");
        step("making an image of it", Command::new("mkfs.erofs").arg(&new).arg(&rootfs))?;
        fs::rename(new, &image)?;
    }
    Ok(image)
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
