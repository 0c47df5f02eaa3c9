//! `mounts` of a config.json, and their options.

use super::namespaces::ranges;
use super::{Read, in_bundle, in_container};
use crate::config::bundle::{BundleMount, Change};
use crate::json::read::Node;
use crate::text::c_static;
use linux_raw_sys::general::*;

/// Options that change attributes: the bits they set, and the bits they change. With an `r` before them they apply to
/// all mounts below, too.
const ATTRIBUTES: [(&str, u32, u32); 18] = [
    ("ro", MOUNT_ATTR_RDONLY, MOUNT_ATTR_RDONLY),
    ("rw", 0, MOUNT_ATTR_RDONLY),
    ("nosuid", MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSUID),
    ("suid", 0, MOUNT_ATTR_NOSUID),
    ("nodev", MOUNT_ATTR_NODEV, MOUNT_ATTR_NODEV),
    ("dev", 0, MOUNT_ATTR_NODEV),
    ("noexec", MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOEXEC),
    ("exec", 0, MOUNT_ATTR_NOEXEC),
    ("relatime", 0, MOUNT_ATTR__ATIME),
    ("norelatime", 0, MOUNT_ATTR__ATIME),
    ("atime", 0, MOUNT_ATTR__ATIME),
    ("noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
    ("strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    ("nostrictatime", 0, MOUNT_ATTR__ATIME),
    ("diratime", 0, MOUNT_ATTR_NODIRATIME),
    ("nodiratime", MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NODIRATIME),
    ("symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW),
    ("nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
];
/// Options without effect: they are the default, or current kernels do not know them; mount(2), mount(8).
const WITHOUT_EFFECT: [&str; 15] = [
    "acl",
    "async",
    "bind",
    "defaults",
    "iversion",
    "loud",
    "mand",
    "noacl",
    "noiversion",
    "nolazytime",
    "nomand",
    "rbind",
    "remount",
    "silent",
    "",
];
/// Flags of a file system. A bind shares them with its source.
const OF_FILE_SYSTEM: [&str; 3] = ["dirsync", "lazytime", "sync"];
/// Propagation types; mount(2). `private` and `slave` apply to all mounts below, too.
const PROPAGATION: [(&str, u32); 4] =
    [("private", MS_PRIVATE), ("slave", MS_SLAVE), ("shared", MS_SHARED), ("unbindable", MS_UNBINDABLE)];
/// The longest value that fsconfig(2) takes.
const VALUE: usize = 255;

/// Reads one mount.
pub fn read(node: Node<'static>, bundle: &str) -> Read<BundleMount> {
    let target = in_container(node.get("destination"))?;
    let kind = node.get("type").given().map_or(Ok("none"), Node::text)?;
    let mut options = Vec::new();
    for option in node.get("options").items()? {
        options.push((option, option.text()?));
    }
    let has = |name: &str| options.iter().any(|(_, option)| *option == name);
    let is_remount = has("remount");
    let is_bind = !is_remount && (kind == "bind" || has("bind") || has("rbind"));
    let kind = match kind {
        // kontena supports only cgroup v2.
        "cgroup" => c"cgroup2",
        kind => c_static(kind).map_err(|_| node.get("type").expected("a file system"))?,
    };
    let mut mount = BundleMount {
        source: if is_bind { Some(in_bundle(bundle, node.get("source"))?) } else { None },
        kind,
        target,
        top: Change::default(),
        all: Change::default(),
        is_recursive: !has("bind") || has("rbind"),
        is_remount,
        propagation: if is_remount { 0 } else { MS_PRIVATE },
        idmap: None,
        copies_up: false,
        options: Vec::new(),
    };
    for (place, option) in options {
        set(&mut mount, option).map_err(|hint| place.wrong(&format!("{option}: {hint}")))?;
    }
    let maps = [node.get("uidMappings"), node.get("gidMappings")];
    if mount.idmap.is_some() || maps.iter().any(|maps| !maps.is_missing()) {
        if !is_bind {
            return Err(node.wrong("only a bind can be idmapped"));
        }
        let idmap = mount.idmap.get_or_insert_default();
        if maps.iter().any(|maps| !maps.is_missing()) {
            (idmap.uids, idmap.gids) = (ranges(maps[0])?, ranges(maps[1])?);
        }
    }
    let name = node.get("source").given().map_or(Ok(""), Node::text)?;
    if !is_bind && !is_remount && mount.kind != c"cgroup2" && !name.is_empty() && !mount.copies_up {
        let source = c_static(format!("source={name}")).map_err(|_| node.get("source").expected("no NUL"))?;
        mount.options.push(source);
    }
    Ok(mount)
}

fn set(mount: &mut BundleMount, option: &'static str) -> Result<(), &'static str> {
    let find = |name: &str| ATTRIBUTES.iter().find(|(known, ..)| *known == name);
    if let Some((_, set, of)) = find(option) {
        mount.top.add(*set, *of);
        return Ok(());
    }
    if let Some((_, set, of)) = option.strip_prefix('r').and_then(find) {
        mount.all.add(*set, *of);
        return Ok(());
    }
    let (name, recursive) = option.strip_prefix('r').map_or((option, 0), |name| (name, MS_REC));
    if let Some((_, flag)) = PROPAGATION.iter().find(|(known, _)| *known == name || *known == option) {
        mount.propagation = flag | recursive;
        return Ok(());
    }
    match option {
        _ if WITHOUT_EFFECT.contains(&option) => {}
        "tmpcopyup" if mount.kind == c"tmpfs" => mount.copies_up = true,
        "tmpcopyup" => return Err("only a tmpfs has it"),
        "idmap" => _ = mount.idmap.get_or_insert_default(),
        "ridmap" => mount.idmap.get_or_insert_default().is_recursive = true,
        // mount(2) ignores options of file systems in a bind.
        _ if mount.source.is_some() && (OF_FILE_SYSTEM.contains(&option) || option.contains('=')) => {}
        _ if mount.source.is_some() => return Err("not an option of a bind"),
        _ if mount.is_remount => return Err("only attributes of mounts are changed"),
        // The mounted hierarchy keeps its options.
        _ if mount.kind == c"cgroup2" => {}
        _ if option.split_once('=').is_some_and(|(_, value)| value.len() > VALUE) => {
            return Err("longer than the 255 bytes that fsconfig(2) takes");
        }
        _ => mount.options.push(c_static(option).map_err(|_| "a NUL cannot be passed on")?),
    }
    Ok(())
}

impl Change {
    /// Adds an option that sets the bits `set` of `of`. A later option overrides an earlier one.
    fn add(&mut self, set: u32, of: u32) {
        (self.set, self.cleared) = (self.set & !of | set, self.cleared | of);
    }
}

/// Checks that a mount has an idmap or the container a user namespace, if `idmap` is set.
pub fn check_idmaps(node: Node<'static>, mounts: &[BundleMount], has_userns: bool) -> Read<()> {
    for (node, mount) in node.items()?.zip(mounts) {
        if mount.idmap.as_ref().is_some_and(|idmap| idmap.uids.is_empty() && !has_userns) {
            return Err(node.wrong("idmap: add uidMappings and gidMappings, or a user namespace to linux.namespaces"));
        }
    }
    Ok(())
}
