//! Trees of Debian's packages, downloaded and unpacked but never installed. One is the second rootfs of the tests, and
//! in the virtual machine also where their onlookers (ip, nft, sh and the like) come from, which is why it has those.
//! The other is the root of the pretend hosts on which container engines run.

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

/// Those of a host with container engines.
const ENGINES: &[&str] = &[
    "aardvark-dns",
    "base-files",
    "base-passwd",
    "bash",
    "buildah",
    "catatonit",
    "containerd",
    "containernetworking-plugins",
    "coreutils",
    "curl",
    "dash",
    "docker-registry",
    "erofs-utils",
    "findutils",
    "grep",
    "iproute2",
    "iptables",
    "jq",
    "libc-bin",
    "mount",
    "netavark",
    "netbase",
    "nftables",
    "openssl",
    "podman",
    "procps",
    "sed",
    "skopeo",
    "tar",
    "uidmap",
    "umoci",
    "util-linux",
];

/// Brings the rootfs for `arch` up to date.
pub fn rootfs(arch: &'static Arch) -> Result<PathBuf> {
    tree(arch, "debian", "a Debian rootfs", DEBIAN, nginx)
}

/// Brings the root of hosts with engines up to date.
pub fn engines(arch: &'static Arch) -> Result<PathBuf> {
    tree(arch, "engines", "container engines", ENGINES, alternatives)
}

/// Brings a tree of `arch` up to date: packages unpacked, and of their installation scripts only what the tests miss,
/// by `finish`. debootstrap would take minutes, and root.
fn tree(
    arch: &'static Arch,
    name: &str,
    what: &str,
    packages: &[&str],
    finish: fn(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let dir = arch.dir().join(name);
    let (rootfs, stamp) = (dir.join("rootfs"), dir.join("stamp"));
    let recipe = include_str!("debian.rs");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) && rootfs.is_dir() {
        return Ok(rootfs);
    }
    fs::create_dir_all(&dir)?;
    let new = dir.join("new");
    Apt::new(arch)?.tree(what, packages, &new)?;
    accounts(&new)?;
    finish(&new)?;
    rootfs::replace(&rootfs, &new)?;
    fs::write(stamp, recipe)?;
    Ok(rootfs)
}

/// A tree as an image of a file system, for a machine that cannot see it otherwise.
pub fn image(rootfs: &Path) -> Result<PathBuf> {
    let (image, stamp) = (rootfs.with_file_name("rootfs.erofs"), rootfs.with_file_name("stamp"));
    let is_newer = || Ok::<_, std::io::Error>(fs::metadata(&image)?.modified()? > fs::metadata(&stamp)?.modified()?);
    if !is_newer().unwrap_or(false) {
        let new = image.with_extension("new");
        step(&format!("making an image of {}", rootfs.display()), Command::new("mkfs.erofs").arg(&new).arg(rootfs))?;
        fs::rename(new, &image)?;
    }
    Ok(image)
}

/// The accounts that all trees have, and the directories that no package holds.
fn accounts(tree: &Path) -> Result<()> {
    for (master, file) in [("passwd.master", "passwd"), ("group.master", "group")] {
        fs::copy(tree.join("usr/share/base-passwd").join(master), tree.join("etc").join(file))?;
    }
    for dir in ["run", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::set_permissions(tree.join("tmp"), Permissions::from_mode(0o1777))?;
    Ok(())
}

/// The work of nginx's scripts, as far as the tests need it.
fn nginx(tree: &Path) -> Result<()> {
    for dir in ["etc/nginx/sites-enabled", "etc/nginx/modules-enabled", "var/www/html"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    let site = tree.join("etc/nginx/sites-enabled/default");
    if !site.is_symlink() {
        symlink("/etc/nginx/sites-available/default", site)?;
    }
    fs::copy(tree.join("usr/share/nginx/html/index.html"), tree.join("var/www/html/index.html"))?;
    ensure!(tree.join("usr/sbin/nginx").exists(), "{} has no nginx", tree.display());
    Ok(())
}

/// The names by which engines call what has others: update-alternatives(1) would make them.
fn alternatives(tree: &Path) -> Result<()> {
    for name in ["iptables", "ip6tables"] {
        symlink(format!("{name}-nft"), tree.join("usr/sbin").join(name))?;
    }
    ensure!(tree.join("usr/bin/podman").exists(), "{} has no podman", tree.display());
    Ok(())
}
