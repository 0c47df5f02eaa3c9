//! `mounts` of a config.json, and their options.

use super::{Read, in_bundle, in_container};
use crate::config::bundle::BundleMount;
use crate::json::read::Node;
use crate::text::c_static;
use linux_raw_sys::general::*;

/// The names of attributes, and what they set; with `r` before them, for all mounts below, too.
const ATTRIBUTES: [(&str, u32, bool); 12] = [
    ("ro", MOUNT_ATTR_RDONLY, true),
    ("rw", MOUNT_ATTR_RDONLY, false),
    ("nosuid", MOUNT_ATTR_NOSUID, true),
    ("suid", MOUNT_ATTR_NOSUID, false),
    ("nodev", MOUNT_ATTR_NODEV, true),
    ("dev", MOUNT_ATTR_NODEV, false),
    ("noexec", MOUNT_ATTR_NOEXEC, true),
    ("exec", MOUNT_ATTR_NOEXEC, false),
    ("noatime", MOUNT_ATTR_NOATIME, true),
    ("strictatime", MOUNT_ATTR_STRICTATIME, true),
    ("nodiratime", MOUNT_ATTR_NODIRATIME, true),
    ("nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, true),
];
/// What a mount has anyway; mount(8).
const DEFAULTS: &[&str] = &[
    "defaults",
    "relatime",
    "rrelatime",
    "norelatime",
    "nostrictatime",
    "atime",
    "diratime",
    "async",
    "loud",
    "noiversion",
    "nomand",
    "nolazytime",
    "symfollow",
    "bind",
    "rbind",
];

/// Reads one.
pub fn read(node: Node<'static>, bundle: &str) -> Read<BundleMount> {
    let target = in_container(node.get("destination"))?;
    let kind = node.get("type").given().map_or(Ok("none"), Node::text)?;
    let mut options = Vec::new();
    for option in node.get("options").items()? {
        options.push((option, option.text()?));
    }
    let has = |name: &str| options.iter().any(|(_, option)| *option == name);
    let is_bind = kind == "bind" || has("bind") || has("rbind");
    let kind = match kind {
        // Of the hierarchy that there is.
        "cgroup" => c"cgroup2",
        kind => c_static(kind).map_err(|_| node.get("type").expected("a file system"))?,
    };
    let mut mount = BundleMount {
        source: if is_bind { Some(in_bundle(bundle, node.get("source"))?) } else { None },
        kind,
        target,
        attributes: 0,
        has_recursive_attributes: false,
        is_recursive: !has("bind") || has("rbind"),
        propagation: MS_PRIVATE,
        copies_up: false,
        options: Vec::new(),
    };
    for (place, option) in options {
        set(&mut mount, option, is_bind).map_err(|hint| place.wrong(&format!("{option}: {hint}")))?;
    }
    Ok(mount)
}

fn set(mount: &mut BundleMount, option: &'static str, is_bind: bool) -> Result<(), &'static str> {
    let find = |name: &str| ATTRIBUTES.iter().find(|(known, ..)| *known == name);
    let recursive = option.strip_prefix('r').and_then(find);
    if let Some((_, attribute, is_set)) = find(option).or(recursive) {
        mount.has_recursive_attributes |= recursive.is_some() && find(option).is_none();
        let attribute = u64::from(*attribute);
        mount.attributes = if *is_set { mount.attributes | attribute } else { mount.attributes & !attribute };
        return Ok(());
    }
    match option {
        _ if DEFAULTS.contains(&option) => {}
        "private" | "rprivate" => mount.propagation = MS_PRIVATE,
        "slave" | "rslave" => mount.propagation = MS_SLAVE,
        "shared" | "rshared" | "unbindable" | "runbindable" => {
            return Err("no mount of a container reaches the host: use rslave or rprivate");
        }
        "tmpcopyup" if mount.kind == c"tmpfs" => mount.copies_up = true,
        "idmap" | "ridmap" | "tmpcopyup" => return Err("kontena does not do this: remove it"),
        _ if is_bind => return Err("not an option of a bind"),
        // The hierarchy has its options.
        _ if mount.kind == c"cgroup2" => {}
        _ => mount.options.push(c_static(option).map_err(|_| "a NUL cannot be passed on")?),
    }
    Ok(())
}
