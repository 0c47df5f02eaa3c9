//! The Plan of a bundle: the mounts of its config.json in their order, and none of kontena's own but a fresh /dev and
//! /proc, on which the init builds, and /dev/shm, whatever the bundle says of them.
//!
//! Must not open anything of the rootfs, which the init resolves.

use super::{Inputs, bind, borrow, device, filesystem, or_tree, process, root_attributes, settings};
use crate::config::Share;
use crate::config::bundle::{Bundle, BundleMount};
use crate::error::Result;
use crate::gather::Gather;
use crate::spawn::clone;
use crate::spawn::defaults::{DEV, FIRST_VOLUME_ID, PROC, SHM};
use crate::spawn::sources::Place;
use kontena_init::filter;
use kontena_init::plan::{List, Mount, Plan, ProcessSpec, mount_kind, overlay};
use std::ffi::CStr;

/// Writes the Plan.
pub fn encode(inputs: &Inputs<'_>, bundle: &Bundle) -> Result<Vec<u8>> {
    let &Inputs { config, ref network, maps, extras, .. } = inputs;
    let mut made: Vec<_> = bundle.mounts.iter().map(|mount| Made::of(mount, bundle)).list();
    let first = |made: &mut Vec<Made<'_>>, kind, target| made.iter().position(|made| made.is(kind, target));
    let dev = first(&mut made, c"tmpfs", c"/dev").map(|index| made.remove(index));
    let dev = dev.as_ref().map_or(DEV, |dev| Mount { id: DEV.id, ..dev.plain() });
    let proc = first(&mut made, c"proc", c"/proc").map(|index| made.remove(index));
    let proc = proc.unwrap_or_else(|| Made::covered(PROC, bundle));
    let mut mounts: Vec<_> = made.iter().map(|made| made.mount(inputs)).list();
    if !bundle.mounts.iter().any(|mount| mount.target == c"/dev/shm") {
        mounts.insert(0, SHM);
    }
    let devices: Vec<_> = inputs.devices.iter().map(device).list();
    let settings = settings(inputs)?;
    Ok(clone::encode(&Plan {
        root: or_tree(inputs.trees, bind(config.rootfs, c"/", root_attributes(inputs)), Place::Root),
        layer: Mount { attributes: 0, ..filesystem(c"tmpfs", c"/", &[c"mode=755"]) },
        overlay: overlay::IF_NEEDED,
        root_readonly: config.read_only.into(),
        propagation: bundle.propagation.into(),
        userns: maps.is_some().into(),
        loopback: network.is_loopback.into(),
        init: config.init.into(),
        start: extras.start,
        hostname: if config.uts == Share::Private { config.hostname } else { c"" },
        dev,
        proc: Mount { id: PROC.id, ..proc.plain() },
        mounts: List::Items(&mounts),
        volumes: List::Items(&[]),
        devices: List::Items(&devices),
        files: List::Items(&[]),
        settings: List::Items(&borrow(&settings)),
        process: ProcessSpec {
            groups: List::Items(&config.groups),
            argv: List::Items(&config.command),
            env: List::Items(&config.env),
            notify: 0,
            notify_as: 0,
            seccomp: if config.filter.code.is_empty() { filter::NONE } else { filter::OWN },
            ..process(inputs)
        },
    }))
}

/// A mount of the bundle, with the paths in it that are covered.
struct Made<'a> {
    index: usize,
    mount: Mount<'a>,
    has_recursive_attributes: bool,
    options: &'a [&'static CStr],
    masked: Vec<&'a CStr>,
    readonly: Vec<&'a CStr>,
}

impl<'a> Made<'a> {
    fn of(mount: &'a BundleMount, bundle: &'a Bundle) -> Self {
        let index = bundle.mounts.iter().position(|other| std::ptr::eq(other, mount)).unwrap_or_default();
        let of = Mount {
            id: FIRST_VOLUME_ID.wrapping_add(index as u16),
            kind: kind(mount),
            attributes: mount.attributes,
            propagation: mount.propagation.into(),
            ..filesystem(mount.source.unwrap_or(mount.kind), mount.target, &[])
        };
        let covers = mount.source.is_none() && is_kernels(mount.kind);
        let has_recursive_attributes = mount.has_recursive_attributes;
        let mut made = Self { index, options: &mount.options, has_recursive_attributes, ..Self::covered(of, bundle) };
        if !covers {
            (made.masked, made.readonly) = Default::default();
        }
        made
    }

    /// A mount with those of the bundle's covered paths that are in it.
    fn covered(mount: Mount<'a>, bundle: &'a Bundle) -> Self {
        let inside = |paths: &'a [&'static CStr]| paths.iter().filter_map(|path| below(path, mount.target)).list();
        let (masked, readonly) = (inside(&bundle.masked), inside(&bundle.readonly));
        Self { index: 0, mount, has_recursive_attributes: true, options: &[], masked, readonly }
    }

    fn is(&self, kind: &CStr, target: &CStr) -> bool {
        self.mount.source == kind && self.mount.target == target
    }

    /// As a new instance of a file system.
    fn plain(&'a self) -> Mount<'a> {
        let (masked, readonly) = (List::Items(&self.masked), List::Items(&self.readonly));
        Mount { options: List::Items(self.options), masked, readonly, ..self.mount }
    }

    /// By the fd that the init inherits, where there is one.
    fn mount(&'a self, inputs: &Inputs<'a>) -> Mount<'a> {
        let place = if self.is(c"sysfs", c"/sys") { Place::Sys } else { Place::Volume(self.index) };
        let mount = or_tree(inputs.trees, self.plain(), place);
        match mount.kind {
            mount_kind::TREE if !self.has_recursive_attributes => Mount { kind: mount_kind::TREE_TOP, ..mount },
            _ => mount,
        }
    }
}

/// The file systems of the kernel's own, of which paths are covered. No link of the rootfs leads to where they are
/// mounted.
fn is_kernels(kind: &CStr) -> bool {
    [c"proc", c"sysfs", c"devpts", c"mqueue", c"cgroup2"].contains(&kind)
}

fn kind(mount: &BundleMount) -> u8 {
    match mount.source {
        Some(_) => mount_kind::BIND,
        None if mount.kind == c"mqueue" => mount_kind::FILESYSTEM_IF_KNOWN,
        None if is_kernels(mount.kind) || mount.target == c"/dev" => mount_kind::FILESYSTEM,
        None => mount_kind::TMPFS,
    }
}

/// What of `path` is below the directory `target`.
pub fn below<'a>(path: &'a CStr, target: &CStr) -> Option<&'a CStr> {
    let rest = path.to_bytes().strip_prefix(target.to_bytes())?;
    let length = path.to_bytes().len() - rest.len() + 1;
    CStr::from_bytes_with_nul(path.to_bytes_with_nul().get(length..)?).ok().filter(|_| rest.first() == Some(&b'/'))
}
