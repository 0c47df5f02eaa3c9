//! `linux` of a config.json, and what of it decides about the rest: namespaces, settings, covered paths.

use super::{Read, c_text, in_container, refuse, resources};
use crate::config::bundle::{Bundle, NetDevice};
use crate::config::network::Net;
use crate::config::process;
use crate::config::seccomp::{self, Conditions};
use crate::config::security::{OwnFilter, Seccomp};
use crate::config::userns::{Range, Userns};
use crate::config::{Config, Share};
use crate::json::read::Node;
use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWUTS, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE,
};
use rustix::fs::{Stat, stat};
use std::ffi::CStr;

/// Reads it, where the rest has been read.
pub fn read(root: Node<'static>, config: &mut Config, bundle: &mut Bundle) -> Read<()> {
    let node = root.get("linux");
    let not_done = ["intelRdt", "memoryPolicy", "personality", "timeOffsets", "mountLabel"];
    refuse(node, &not_done)?;
    namespaces(node, config, bundle)?;
    net_devices(node.get("netDevices"), config, bundle)?;
    for (key, value) in node.get("sysctl").members()? {
        sysctl(value, key, value.text()?, config)?;
    }
    if let Some(name) = root.get("domainname").given() {
        sysctl(name, "kernel.domainname", name.text()?, config)?;
    }
    if let Some(setting) = callers_setting(config, bundle) {
        let hint = format!("{setting} would be the caller's: give the container a namespace of its own for it");
        return Err(node.get("sysctl").wrong(&hint));
    }
    for (name, paths) in [("maskedPaths", &mut bundle.masked), ("readonlyPaths", &mut bundle.readonly)] {
        for path in node.get(name).items()? {
            paths.push(in_container(path)?);
        }
    }
    resources::nodes(node.get("devices"), bundle)?;
    let propagation = node.get("rootfsPropagation");
    (bundle.root, bundle.last) = match propagation.given().map_or(Ok(""), Node::text)? {
        "" | "private" | "rprivate" => (MS_PRIVATE, 0),
        "slave" | "rslave" => (MS_SLAVE, 0),
        "shared" => (MS_PRIVATE, MS_SHARED),
        "rshared" => (MS_PRIVATE, MS_SHARED | MS_REC),
        "unbindable" => (MS_PRIVATE, MS_UNBINDABLE),
        "runbindable" => (MS_PRIVATE, MS_UNBINDABLE | MS_REC),
        _ => return Err(propagation.expected("private, slave, shared or unbindable, or one with r before it")),
    };
    let follows = |propagation| propagation & MS_SLAVE != 0;
    let follows = follows(bundle.root) || bundle.mounts.iter().any(|mount| follows(mount.propagation));
    bundle.propagation = if follows { MS_SLAVE } else { MS_PRIVATE };
    if let Some(profile) = node.get("seccomp").given() {
        let system = rustix::system::uname();
        let kernel = system.release().to_str().unwrap_or_default();
        config.filter = seccomp::profile(profile, &Conditions { capabilities: config.capabilities.bounding, kernel })?;
        config.security.seccomp = Seccomp::Profile("");
        bundle.listener = listener(profile, &config.filter)?;
    }
    resources::cgroup(node.get("cgroupsPath"), bundle)?;
    resources::devices(node.get("resources").get("devices"), bundle)?;
    config.limits = resources::limits(node.get("resources"))?;
    Ok(())
}

/// To whom notified calls go. As the specification has it, a path that nothing needs is passed over.
fn listener(profile: Node<'static>, filter: &OwnFilter) -> Read<String> {
    if !seccomp::notifies(filter) {
        return Ok(String::new());
    }
    let path = profile.get("listenerPath");
    c_text(path)?;
    let mut listener = String::from(path.text()?);
    if let Some(metadata) = profile.get("listenerMetadata").given() {
        listener.push('\0');
        listener.push_str(metadata.text()?);
    }
    Ok(listener)
}

fn namespaces(node: Node<'static>, config: &mut Config, bundle: &mut Bundle) -> Read<()> {
    config.net = Some(Net::Host);
    config.userns = Some(Userns::Host);
    config.uts = Share::Host;
    bundle.shared = CLONE_NEWIPC | CLONE_NEWCGROUP;
    let (mut has_mounts, mut has_pids) = (false, false);
    for namespace in node.get("namespaces").items()? {
        let (kind, path) = (namespace.get("type"), namespace.get("path"));
        let path = path.given().filter(|path| path.text() != Ok("")).map(c_text).transpose()?;
        match (kind.text()?, path) {
            ("mount", None) => has_mounts = true,
            ("pid", None) => has_pids = true,
            ("network", None) => config.net = Some(Net::None),
            ("network", Some(path)) => config.net = Some(Net::Namespace(path)),
            ("uts", None) => config.uts = Share::Private,
            ("uts", Some(path)) => bundle.joined.push((CLONE_NEWUTS, path)),
            ("ipc", None) => bundle.shared &= !CLONE_NEWIPC,
            ("ipc", Some(path)) => bundle.joined.push((CLONE_NEWIPC, path)),
            ("cgroup", None) => bundle.shared &= !CLONE_NEWCGROUP,
            ("cgroup", Some(path)) => bundle.joined.push((CLONE_NEWCGROUP, path)),
            ("user", None) => {
                let maps = (ranges(node.get("uidMappings"))?, ranges(node.get("gidMappings"))?);
                config.userns = Some(Userns::Maps(maps.0, maps.1));
            }
            ("mount" | "pid" | "user" | "time", _) => {
                return Err(namespace.wrong("kontena cannot join or make this one"));
            }
            _ => return Err(kind.expected("pid, network, ipc, uts, mount, cgroup or user")),
        }
    }
    if !has_mounts || !has_pids {
        let what = "kontena needs a new pid and a new mount namespace: add them";
        return Err(node.get("namespaces").wrong(what));
    }
    for maps in [node.get("uidMappings"), node.get("gidMappings")] {
        if config.userns == Some(Userns::Host) && maps.items()?.next().is_some() {
            return Err(maps.wrong("it needs a user namespace: add it to linux.namespaces"));
        }
    }
    Ok(())
}

/// The links that it takes from the host's network into another one.
fn net_devices(node: Node<'static>, config: &Config, bundle: &mut Bundle) -> Read<()> {
    for (name, device) in node.members()? {
        let inside = device.get("name");
        let inside = inside.given().filter(|inside| inside.text() != Ok("")).map_or(Ok(name), Node::text)?;
        // A template has one place for a number.
        let (start, end) = inside.split_once("%d").unwrap_or((inside, ""));
        if !is_link_name(name) || !is_link_name(&[start, end].concat()) || inside.len() > 15 {
            return Err(device.expected("names of links: up to 15 characters, without white space, / and :"));
        }
        bundle.net_devices.push(NetDevice { name, inside });
    }
    let has_net = match &config.net {
        Some(Net::Namespace(path)) => !is_callers(path, "net"),
        net => net.as_ref().is_some_and(Net::is_own),
    };
    if has_net || bundle.net_devices.is_empty() {
        return Ok(());
    }
    Err(node.wrong("it needs a network namespace other than the caller's: add it to linux.namespaces"))
}

/// dev_valid_name() of the kernel.
fn is_link_name(name: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '%') || c.is_control();
    !matches!(name, "" | "." | "..") && name.len() <= 15 && !name.contains(is_bad)
}

/// A setting that is in a namespace which the container shares with the caller.
fn callers_setting(config: &Config, bundle: &Bundle) -> Option<&'static str> {
    let joins = |flag, kind| bundle.joined.iter().any(|(of, path)| *of == flag && !is_callers(path, kind));
    let has_net = match &config.net {
        Some(Net::Namespace(path)) => !is_callers(path, "net"),
        net => net.as_ref().is_some_and(Net::is_own),
    };
    let has_uts = config.uts == Share::Private || joins(CLONE_NEWUTS, "uts");
    let has_ipc = bundle.shared & CLONE_NEWIPC == 0 || joins(CLONE_NEWIPC, "ipc");
    let is_callers = |setting: &&&str| match &*process::sysctl_path(setting) {
        path if path.starts_with("net") => !has_net,
        path if path.starts_with("kernel/domainname") => !has_uts,
        _ => !has_ipc,
    };
    config.sysctls.iter().find(is_callers).copied()
}

/// Whether a path leads to the namespace that this process is in.
fn is_callers(path: &CStr, kind: &str) -> bool {
    let number = |found: Stat| (found.st_dev, found.st_ino);
    let own = stat(&*format!("/proc/self/ns/{kind}")).map(number);
    stat(path).map(number) == own || own.is_err()
}

/// Ranges of ids, of which there must be some.
pub fn ranges(node: Node<'static>) -> Read<Vec<Range>> {
    let mut ranges = Vec::new();
    for map in node.items()? {
        let range = Range {
            container: map.get("containerID").number()?,
            host: map.get("hostID").number()?,
            size: map.get("size").number()?,
        };
        if [range.container, range.host].iter().any(|first| first.checked_add(range.size).is_none()) {
            return Err(map.expected("ids of 32 bits"));
        }
        ranges.push(range);
    }
    if ranges.is_empty() { Err(node.expected("a map of ids")) } else { Ok(ranges) }
}

fn sysctl(node: Node<'static>, key: &str, value: &str, config: &mut Config) -> Read<()> {
    let text: &'static str = format!("{key}={value}").leak();
    config.sysctls.push(process::sysctl(text).map_err(|hint| node.wrong(hint))?);
    Ok(())
}
