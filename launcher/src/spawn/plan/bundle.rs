//! The Plan of a bundle: the mounts of its config.json in their order, and none of kontena's own but a fresh /dev, if
//! the bundle has none.
//!
//! A new tmpfs on /dev and a new /proc come first, as the init makes them side by side: no other mount has a target
//! that they are in. Must not open anything of the rootfs, which the init resolves.

use super::{Inputs, bind, borrow, device, filesystem, or_tree, process, root_attributes, settings};
use crate::config::Share;
use crate::config::bundle::{Bundle, BundleMount, CREATE_CONTAINER, START_CONTAINER};
use crate::error::Result;
use crate::gather::Gather;
use crate::resources::cgroup::hierarchy;
use crate::resources::devices::Found;
use crate::spawn::clone;
use crate::spawn::defaults::{DEV, FIRST_VOLUME_ID, PROC, RO};
use crate::spawn::sources::Place;
use crate::state::handed_over::describe;
use crate::text::c_string;
use kontena_init::filter;
use kontena_init::plan::{Bundled, Changes, Hooks, List, Mount, OfBundle, Plan, ProcessSpec, mount_kind, overlay};
use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWPID, MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE,
};
use std::ffi::{CStr, CString};

/// Where nobody sees a mount.
const NOWHERE: &CStr = c"";

/// Writes the Plan.
pub fn encode(inputs: &Inputs<'_>, bundle: &Bundle) -> Result<Vec<u8>> {
    let &Inputs { config, ref network, maps, extras, .. } = inputs;
    let cgroups = cgroups(bundle)?;
    let mounts = |is_first| all(inputs, bundle, cgroups.as_deref(), is_first);
    let (first, mounts, last) = (mounts(true), mounts(false), last(bundle));
    let first = |target| first.iter().rfind(|mount| mount.target == target).copied();
    let has_dev = on(bundle, c"/dev").is_none_or(|top| is_new(top, c"tmpfs"));
    let dev = first(c"/dev").unwrap_or(Mount { target: if has_dev { DEV.target } else { NOWHERE }, ..DEV });
    let proc = first(c"/proc").unwrap_or(filesystem(c"proc", NOWHERE, &[]));
    let is_made = |found: &&Found| has_dev || !found.device.target.to_bytes().starts_with(b"/dev/");
    let devices: Vec<_> = inputs.devices.iter().filter(is_made).map(device).list();
    let settings = settings(inputs)?;
    let root = or_tree(inputs.trees, bind(config.rootfs, c"/", root_attributes(inputs)), Place::Root);
    let has = |wanted, status| {
        // The init says which pid it has in the container.
        let state = if wanted { describe(config.name, status, None, None, &bundle.state) } else { String::new() };
        c_string(state.trim_start_matches('{'))
    };
    let creating = has(bundle.has_create_hooks(), "creating")?;
    let created = has(!bundle.hooks[START_CONTAINER].is_empty(), "created")?;
    let hooks = |kind: usize, state| Hooks { state, hooks: List::Items(&bundle.hooks[kind]) };
    Ok(clone::encode(&Plan {
        root: Mount { propagation: bundle.root.into(), ..root },
        layer: Mount { attributes: 0, ..filesystem(c"tmpfs", c"/", &[c"mode=755"]) },
        overlay: overlay::IF_NEEDED,
        root_readonly: config.read_only.into(),
        propagation: bundle.propagation.into(),
        bundle: OfBundle::new(Bundled {
            start: extras.start,
            last: List::Items(&last),
            masked: List::Items(&bundle.masked),
            readonly: List::Items(&bundle.readonly),
            propagation: bundle.last.into(),
            listener: bundle.listener.as_bytes(),
            create_hooks: hooks(CREATE_CONTAINER, &creating),
            start_hooks: hooks(START_CONTAINER, &created),
        }),
        userns: maps.is_some().into(),
        loopback: network.is_loopback.into(),
        init: config.init.into(),
        hostname: if config.uts == Share::Private { config.hostname } else { c"" },
        dev: Mount { id: DEV.id, kind: DEV.kind, ..dev },
        proc: Mount { id: PROC.id, ..proc },
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

/// The last mount that the bundle has on this target: that is what the container sees.
fn on<'a>(bundle: &'a Bundle, target: &CStr) -> Option<&'a BundleMount> {
    bundle.mounts.iter().rfind(|mount| mount.target == target && !mount.is_remount)
}

/// Whether it is a new instance of this file system.
fn is_new(mount: &BundleMount, kind: &CStr) -> bool {
    mount.source.is_none() && !mount.is_remount && mount.kind == kind
}

/// The hierarchy of cgroups, where the container is to see the caller's: a second mount of it would change the options
/// of the first.
fn cgroups(bundle: &Bundle) -> Result<Option<CString>> {
    let is_joined = bundle.joined.iter().any(|(flag, _)| *flag == CLONE_NEWCGROUP);
    let is_callers = bundle.shared() & CLONE_NEWCGROUP != 0 && !is_joined;
    let is_shown = bundle.mounts.iter().any(|mount| is_new(mount, c"cgroup2"));
    if is_callers && is_shown { c_string(hierarchy()?).map(Some) } else { Ok(None) }
}

/// The mounts in their order: those on /dev and /proc, if they come first, or all others.
fn all<'a>(inputs: &Inputs<'a>, bundle: &'a Bundle, cgroups: Option<&'a CStr>, is_first: bool) -> Vec<Mount<'a>> {
    // A user namespace may not make a /proc of the caller's pid namespace, and gets the caller's.
    let is_callers = |mount: &BundleMount| mount.target == c"/proc" && bundle.shared() & CLONE_NEWPID != 0;
    let comes_first = |mount: &BundleMount| {
        let kinds = [(c"/dev", c"tmpfs"), (c"/proc", c"proc")];
        let kind = kinds.iter().find(|(target, _)| mount.target == *target && !mount.is_remount);
        kind.is_some_and(|(target, kind)| on(bundle, target).is_some_and(|top| is_new(top, kind) || is_callers(top)))
    };
    let mut mounts = Vec::new();
    for (index, mount) in bundle.mounts.iter().enumerate() {
        if comes_first(mount) == is_first {
            mounts.push(made(inputs, index, mount, cgroups));
        }
    }
    mounts
}

/// A tmpfs is read-only when all is mounted that is in it.
fn last(bundle: &Bundle) -> Vec<Mount<'_>> {
    let mut last = Vec::new();
    for (index, mount) in bundle.mounts.iter().enumerate() {
        let is_top = on(bundle, mount.target).is_some_and(|top| std::ptr::eq(top, mount));
        if is_top && is_new(mount, c"tmpfs") && attributes(mount) & RO != 0 {
            let (id, kind) = (id(bundle.mounts.len() + index), mount_kind::REMOUNT);
            let changes = OfBundle::new(Changes { top: MOUNT_ATTR_RDONLY, ..Changes::default() });
            last.push(Mount { id, kind, attributes: 0, changes, ..filesystem(c"", mount.target, &[]) });
        }
    }
    last
}

fn id(index: usize) -> u16 {
    FIRST_VOLUME_ID.wrapping_add(index as u16)
}

/// The attributes of a new file system.
fn attributes(mount: &BundleMount) -> u64 {
    (mount.top.set | mount.all.set).into()
}

fn made<'a>(inputs: &Inputs<'a>, index: usize, mount: &'a BundleMount, cgroups: Option<&'a CStr>) -> Mount<'a> {
    let id = id(index);
    let [first, then] = propagation(mount, inputs.maps.is_some());
    let changes =
        Changes { cleared: mount.all.cleared, top: mount.top.set, top_cleared: mount.top.cleared, propagation: then };
    let changed = Mount {
        id,
        attributes: mount.all.set.into(),
        propagation: first.into(),
        changes: OfBundle::new(changes),
        ..filesystem(c"", mount.target, &[])
    };
    let bound = |source| Mount { kind: mount_kind::BIND, source, ..changed };
    if mount.is_remount {
        return Mount { kind: mount_kind::REMOUNT, ..changed };
    }
    if let Some(source) = mount.source {
        return or_tree(inputs.trees, bound(source), Place::Volume(index));
    }
    let is_sys = mount.kind == c"sysfs" && mount.target == c"/sys";
    match cgroups {
        Some(hierarchy) if mount.kind == c"cgroup2" => return bound(hierarchy),
        // A new sysfs takes the privileges over the network that it shows.
        _ if is_sys && inputs.maps.is_some() && inputs.network.is_hosts => return bound(c"/sys"),
        _ => {}
    }
    let late = if mount.kind == c"tmpfs" { RO } else { 0 };
    let new = Mount {
        id,
        kind: kind(mount.kind),
        attributes: attributes(mount) & !late,
        changes: OfBundle::new(Changes { propagation: then & !MS_REC, ..Changes::default() }),
        options: List::Items(&mount.options),
        ..filesystem(mount.kind, mount.target, &[])
    };
    or_tree(inputs.trees, new, if is_sys { Place::Sys } else { Place::Volume(index) })
}

/// Links of the rootfs are followed to where a mount goes, but not to where the kernel's own file systems go.
fn kind(kind: &CStr) -> u8 {
    match kind.to_bytes() {
        b"mqueue" => mount_kind::FILESYSTEM_IF_KNOWN,
        b"proc" | b"sysfs" | b"devpts" | b"cgroup2" => mount_kind::FILESYSTEM,
        _ => mount_kind::TMPFS,
    }
}

/// The propagation of a bind, as the init takes it, and what comes after it. The mounts of a user namespace never reach
/// the host, and with those that are shared it is as if the kernel had copied them there; mount_namespaces(7).
fn propagation(mount: &BundleMount, has_userns: bool) -> [u32; 2] {
    match mount.propagation & !MS_REC {
        MS_SHARED => [if has_userns { MS_SLAVE } else { 0 }, MS_SHARED],
        MS_UNBINDABLE if mount.propagation & MS_REC == 0 => [MS_PRIVATE, MS_UNBINDABLE],
        MS_UNBINDABLE => [0, MS_UNBINDABLE | MS_REC],
        first => [first, 0],
    }
}
