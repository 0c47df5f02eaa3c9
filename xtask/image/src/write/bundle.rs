//! The config.json of a bundle, from an image's config: conversion.md of the OCI's image specification. Users and
//! groups are looked up in the image's own /etc, as text.

use crate::config::ImageConfig;
use crate::tree::Tree;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

/// The most bytes of /etc/passwd and /etc/group.
const ACCOUNTS: u64 = 1 << 20;

/// Capabilities that containers have by default; those of Docker.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// PATH of an image that has none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The JSON.
pub fn config(config: &ImageConfig, tree: &Tree) -> Result<Vec<u8>> {
    let container = config.container();
    let args =
        [container.entrypoint().clone().unwrap_or_default(), container.cmd().clone().unwrap_or_default()].concat();
    let args = if args.is_empty() { vec!["sh".to_owned()] } else { args };
    let mut env = container.env().clone().unwrap_or_default();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, PATH.into());
    }
    let namespaces = ["network", "pid", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    let user = user(container.user().as_deref().unwrap_or_default(), tree)?;
    let json = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": user,
            "args": args,
            "env": env,
            "cwd": config.workdir().unwrap_or_else(|| "/".into()),
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "kontena",
        "mounts": mounts(config)?,
        "annotations": annotations(config)?,
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    let mut text = serde_json::to_vec_pretty(&json)?;
    text.push(b'\n');
    Ok(text)
}

/// Where in the bundle the content of a volume is: its path, with a `_` for each slash.
pub fn volume(path: &str) -> String {
    let names = path.bytes().map(|byte| match byte {
        b'/' => "_".into(),
        b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!(".{byte:02X}"),
    });
    format!("volumes/{}", names.collect::<String>())
}

/// The mounts of every container, and one for each volume: a directory of the bundle, with the image's content.
fn mounts(config: &ImageConfig) -> Result<Vec<Value>> {
    let mut mounts: Vec<Value> = [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"][..]),
        ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
    .map(|(destination, kind, source, options)| {
        json!({"destination": destination, "type": kind, "source": source, "options": options})
    })
    .into();
    for volume in config.volumes()? {
        let (source, options) = (self::volume(&volume), ["bind", "rw", "nodev"]);
        mounts.push(json!({"destination": volume, "type": "bind", "source": source, "options": options}));
    }
    Ok(mounts)
}

/// What conversion.md calls implicit annotations; labels win over them.
fn annotations(config: &ImageConfig) -> Result<Map<String, Value>> {
    let (image, container) = (&config.image, config.container());
    let mut annotations = Map::new();
    let fields = [
        ("os", Some(image.os().to_string())),
        ("architecture", Some(image.architecture().to_string())),
        ("variant", image.variant().clone()),
        ("os.version", image.os_version().clone()),
        ("os.features", image.os_features().as_ref().map(|features| features.join(","))),
        ("author", image.author().clone()),
        ("created", image.created().clone()),
        ("stopSignal", container.stop_signal().clone()),
        (
            "exposedPorts",
            container.exposed_ports().clone().map(|mut ports| {
                ports.sort();
                ports.join(",")
            }),
        ),
    ];
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = annotations.insert(format!("org.opencontainers.image.{name}"), value.into());
        }
    }
    annotations.extend(config.labels().into_iter().map(|(key, value)| (key, Value::String(value))));
    Ok(annotations)
}

/// `USER[:GROUP]`, names or numbers, as process.user.
fn user(text: &str, tree: &Tree) -> Result<Value> {
    let accounts = |file: &str| -> Result<String> {
        let content = tree.read(file.as_bytes(), ACCOUNTS)?;
        Ok(String::from_utf8_lossy(&content.unwrap_or_default()).into_owned())
    };
    let (passwd, group) = (accounts("/etc/passwd")?, accounts("/etc/group")?);
    resolve(text, &passwd, &group)
}

fn resolve(text: &str, passwd: &str, group: &str) -> Result<Value> {
    let (user, wanted) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let lines = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
    };
    let number = |field: Option<&String>| field.and_then(|field| field.parse::<u32>().ok());
    let find = |lines: &[Vec<String>], name: &str| {
        let by_name = lines.iter().find(|line| line.first().is_some_and(|first| first == name));
        let by_id = || lines.iter().find(|line| name.parse().is_ok_and(|id: u32| number(line.get(2)) == Some(id)));
        by_name.or_else(by_id).cloned()
    };
    let entry = find(&lines(passwd), user);
    let uid = entry.as_ref().and_then(|line| number(line.get(2))).or_else(|| user.parse().ok());
    let uid = uid.with_context(|| format!("the image's user {user:?} is not in its /etc/passwd"))?;
    let groups = lines(group);
    let gid = match wanted.filter(|wanted| !wanted.is_empty()) {
        Some(wanted) => {
            let found = find(&groups, wanted).and_then(|line| number(line.get(2))).or_else(|| wanted.parse().ok());
            found.with_context(|| format!("the image's group {wanted:?} is not in its /etc/group"))?
        }
        None => entry.as_ref().and_then(|line| number(line.get(3))).unwrap_or(0),
    };
    ensure!(uid != u32::MAX && gid != u32::MAX, "the image's user {text:?} is not one of Linux");
    // A group that is asked for replaces all others.
    let name = entry.as_ref().and_then(|line| line.first()).filter(|_| wanted.is_none());
    let has = |line: &&Vec<String>| {
        name.is_some_and(|name| line.get(3).is_some_and(|all| all.split(',').any(|one| one == name)))
    };
    let mut others: Vec<u32> = groups.iter().filter(has).filter_map(|line| number(line.get(2))).collect();
    others.sort_unstable();
    others.dedup();
    let mut user = json!({"uid": uid, "gid": gid});
    if !others.is_empty() {
        user["additionalGids"] = others.into();
    }
    Ok(user)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn users_are_those_of_the_image() {
        let passwd = "root:x:0:0::/:/bin/sh\nwww:x:33:34::/:/bin/sh\nbroken\n";
        let group = "root:x:0:\nwww:x:34:\nssl:x:50:root,www\ntty:x:5:www\n";
        let resolve = |text| resolve(text, passwd, group).map_err(|error| error.to_string());
        assert_eq!(resolve(""), Ok(json!({"uid": 0, "gid": 0, "additionalGids": [50]})));
        assert_eq!(resolve("www"), Ok(json!({"uid": 33, "gid": 34, "additionalGids": [5, 50]})));
        assert_eq!(resolve("33"), resolve("www"));
        assert_eq!(resolve("www:ssl"), Ok(json!({"uid": 33, "gid": 50})));
        assert_eq!(resolve("1000"), Ok(json!({"uid": 1000, "gid": 0})));
        assert_eq!(resolve("1000:1001"), Ok(json!({"uid": 1000, "gid": 1001})));
        assert!(resolve("nobody").unwrap_err().contains("/etc/passwd"));
        assert!(resolve("www:none").unwrap_err().contains("/etc/group"));
        assert!(resolve("4294967295").is_err());
    }
}
