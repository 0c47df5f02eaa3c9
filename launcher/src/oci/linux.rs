//! `linux` of a config.json, except namespaces and limits: sysctls, masked and read-only paths, propagation, seccomp.

use super::{Read, attributes, c_text, in_container, namespaces, refuse, resources};
use crate::config::Config;
use crate::config::bundle::{Bundle, NetDevice};
use crate::config::process;
use crate::config::seccomp::{self, Conditions};
use crate::config::security::{OwnFilter, Seccomp};
use crate::json::read::Node;
use linux_raw_sys::general::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};

/// Reads `linux`, after the rest of the file.
pub fn read(root: Node<'static>, config: &mut Config, bundle: &mut Bundle) -> Read<()> {
    let node = root.get("linux");
    let not_done = ["intelRdt", "mountLabel"];
    refuse(node, &not_done)?;
    config.attributes.get_mut().map_or(Ok(()), |attributes| attributes::of_linux(node, attributes))?;
    namespaces::read(node, config, bundle)?;
    net_devices(node.get("netDevices"), bundle)?;
    for (key, value) in node.get("sysctl").members()? {
        sysctl(value, key, value.text()?, config)?;
    }
    if let Some(name) = root.get("domainname").given() {
        sysctl(name, "kernel.domainname", name.text()?, config)?;
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

/// Where the listener for notified calls is sent. Without notified calls the path is ignored, as the specification
/// says.
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

/// Reads the network links that move from the host to the container.
fn net_devices(node: Node<'static>, bundle: &mut Bundle) -> Read<()> {
    for (name, device) in node.members()? {
        let inside = device.get("name");
        let inside = inside.given().filter(|inside| inside.text() != Ok("")).map_or(Ok(name), Node::text)?;
        // A name can have one `%d`.
        let (start, end) = inside.split_once("%d").unwrap_or((inside, ""));
        if !is_link_name(name) || !is_link_name(&[start, end].concat()) || inside.len() > 15 {
            return Err(device.expected("names of links: up to 15 characters, without white space, / and :"));
        }
        bundle.net_devices.push(NetDevice { name, inside });
    }
    Ok(())
}

/// Like the kernel's dev_valid_name().
fn is_link_name(name: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '%') || c.is_control();
    !matches!(name, "" | "." | "..") && name.len() <= 15 && !name.contains(is_bad)
}

fn sysctl(node: Node<'static>, key: &str, value: &str, config: &mut Config) -> Read<()> {
    let text: &'static str = format!("{key}={value}").leak();
    config.sysctls.push(process::sysctl(text).map_err(|hint| node.wrong(hint))?);
    Ok(())
}
