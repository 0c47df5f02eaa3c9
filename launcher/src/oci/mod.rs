//! The OCI's runtime-spec: reads the config.json of a bundle into the same [`Config`](crate::config::Config) as a
//! command line.
//!
//! `process.rs`, `attributes.rs`, `mounts.rs`, `namespaces.rs`, `hooks.rs`, `linux.rs` and `resources.rs` read a part
//! each. A wrong value is an error with its path in the file. Members that the specification does not define are
//! ignored; members that kontena does not support are errors. Must not act on anything.

mod attributes;
mod features;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz;
mod hooks;
mod linux;
mod mounts;
mod namespaces;
mod process;
mod resources;
pub mod spec;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use features::features;
pub use resources::read_resources;

use crate::config::Config;
use crate::config::bundle::{Bundle, BundleCgroup, Rules};
use crate::config::lifecycle::stop_signal;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::json::Json;
use crate::json::read::{self, Node};
use crate::text::c_static;
use linux_raw_sys::general::MS_PRIVATE;
use rustix::fd::AsRawFd;
use rustix::fs::OFlags;
use std::ffi::CStr;

/// A value of config.json, or an error message with its path.
type Read<T> = std::result::Result<T, String>;

/// The name of the file in a bundle.
pub const FILE: &str = "config.json";

/// Reads the bundle in this directory into the defaults of a `config`.
pub fn read(directory: &str, config: &mut Config) -> Result<()> {
    let hint = "--bundle: use a directory with a config.json and a root file system";
    let opened = file::open(CWD, directory, OFlags::PATH | OFlags::DIRECTORY);
    let opened = opened.context(format_args!("open {directory}"), hint)?;
    let path = file::read_link(CWD, &format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let path = path.ok_or_else(|| Error::usage(format_args!("find the path of {directory}"), "mount /proc"))?;
    // The Config borrows from it, and lives as long as the process.
    let bytes = file::read(&opened, FILE).context(format_args!("read {path}/{FILE}"), hint)?.leak();
    parse(bytes, &path, config).map_err(|wrong| Error::usage(format_args!("{path}/{FILE}"), &wrong))
}

/// Reads a process.json into the defaults of a `config`.
pub fn read_process(path: &str, config: &mut Config) -> Result<()> {
    let bytes = file::read(CWD, path).context(format_args!("read {path}"), "--process: use a process.json")?.leak();
    let mut read = |bytes| process::read(Node::root(Box::leak(Box::new(read::parse(bytes)?))), config);
    read(bytes).map_err(|wrong: String| Error::usage(format_args!("{path}"), &wrong))
}

/// The same for the text of a config.json in the bundle `path`.
fn parse(bytes: &'static [u8], path: &str, config: &mut Config) -> Read<()> {
    let value: &'static _ = Box::leak(Box::new(read::parse(bytes)?));
    let root = Node::root(value);
    let version = version(root.get("ociVersion"))?;
    refuse(root, &["vm"])?;
    let mut bundle = Bundle {
        mounts: Vec::new(),
        nodes: Vec::new(),
        access: Rules::default(),
        masked: Vec::new(),
        readonly: Vec::new(),
        propagation: MS_PRIVATE,
        root: MS_PRIVATE,
        last: 0,
        cgroup: BundleCgroup::Own,
        shared: 0,
        joined: Vec::new(),
        clocks: None,
        console: None,
        listener: String::new(),
        stays: false,
        keeps: false,
        state: state(root, version, path)?,
        directory: c_static(path).map_err(|_| String::new())?,
        net_devices: Vec::new(),
        hooks: hooks::read(root)?,
    };
    config.init = false;
    config.rootfs = in_bundle(path, root.get("root").get("path"))?;
    config.read_only = flag(root.get("root").get("readonly"))?;
    if let Some(name) = root.get("hostname").given() {
        config.hostname = c_text(name)?;
    }
    process::read(root.get("process"), config)?;
    // What the image of the bundle says, if it makes sense: an engine that knows better sends its own signals.
    let signal = root.get("annotations").get("org.opencontainers.image.stopSignal").text().ok();
    if let Some(signal) = signal.and_then(|text| stop_signal(text).ok()) {
        config.life.stop_signal = signal;
    }
    for mount in root.get("mounts").items()? {
        bundle.mounts.push(mounts::read(mount, path)?);
    }
    linux::read(root, config, &mut bundle)?;
    mounts::check_idmaps(root.get("mounts"), &bundle.mounts, config.has_userns())?;
    config.bundle = Some(bundle);
    Ok(())
}

/// The version of the specification: any 1.x is accepted.
fn version(node: Node<'static>) -> Read<&'static str> {
    let version = node.text()?;
    if version.starts_with("1.") { Ok(version) } else { Err(node.expected("a version that begins with 1.")) }
}

/// The members of the container's state that never change.
fn state(root: Node<'static>, version: &str, path: &str) -> Read<String> {
    let mut annotations = Vec::new();
    for (name, value) in root.get("annotations").members()? {
        annotations.push((name, value.text()?));
    }
    let text = Json::document(|json| {
        json.object(|json| {
            json.text("ociVersion", version).text("bundle", path).key("annotations").object(|json| {
                for (name, value) in annotations {
                    json.text(name, value);
                }
            });
        });
    });
    Ok(text.trim_ascii_end().trim_start_matches('{').strip_suffix('}').unwrap_or_default().into())
}

/// Refuses members that kontena does not support, unless they are missing or empty.
fn refuse(node: Node<'static>, names: &[&'static str]) -> Read<()> {
    for name in names {
        let member = node.get(name);
        let is_empty = member.is_missing()
            || member.items().is_ok_and(|items| items.count() == 0)
            || member.members().is_ok_and(|members| members.count() == 0)
            || member.text() == Ok("");
        if !is_empty {
            return Err(member.wrong("kontena does not do this: remove it"));
        }
    }
    Ok(())
}

/// A boolean that is false if it is missing.
fn flag(node: Node<'static>) -> Read<bool> {
    node.given().map_or(Ok(false), Node::boolean)
}

/// A string for the kernel.
fn c_text(node: Node<'static>) -> Read<&'static CStr> {
    c_static(node.text()?).map_err(|_| node.wrong("a NUL cannot be passed on: remove it"))
}

/// A path on the host; a relative path starts at the bundle.
fn in_bundle(bundle: &str, node: Node<'static>) -> Read<&'static CStr> {
    match node.text()? {
        path if path.starts_with('/') => c_text(node),
        path => c_static(format!("{bundle}/{path}")).map_err(|_| node.wrong("a NUL cannot be passed on: remove it")),
    }
}

/// A path in the container; a relative path starts at its root.
fn in_container(node: Node<'static>) -> Read<&'static CStr> {
    let path = node.text()?.trim_matches('/');
    let is_below = path.split('/').all(|part| part != "..");
    match c_static(format!("/{path}")) {
        Ok(path) if is_below && path != c"/" => Ok(path),
        _ => Err(node.expected("a path below /, without ..")),
    }
}
