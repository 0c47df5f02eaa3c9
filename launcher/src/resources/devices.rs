//! Devices: the program that keeps a container from all devices but its own.
//!
//! The program is one of BPF_PROG_TYPE_CGROUP_DEVICE, attached to the leaf cgroup before
//! anything runs in it; Documentation/admin-guide/cgroup-v2.rst, "Device controller". Must not make any node: init
//! does.

use crate::config::Config;
use crate::config::bundle::{Access, Bundle, Node};
use crate::config::devices::{Device, MKNOD, READ, WRITE};
use crate::config::volumes::Volume;
use crate::error::{Context, Error, Result};
use crate::file;
use crate::sys::{self, BpfInstruction};
use crate::text::c_static;
use linux_raw_sys::general::{CAP_MKNOD, CAP_SYS_ADMIN, MOUNT_ATTR_NODEV};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, Stat, lstat, open, stat};
use rustix::io::Errno;
use std::ffi::CStr;

/// BPF_DEVCG_DEV_*; linux/bpf.h.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// The devices that a rule is about, and the access to them that it allows or refuses.
#[derive(Clone, Copy)]
struct Rule {
    /// Whether it allows the access.
    allows: bool,
    /// [`BLOCK`] or [`CHARACTER`]; `None` for both.
    kind: Option<u32>,
    /// `None` for all major numbers.
    major: Option<u32>,
    /// `None` for all minor numbers.
    minor: Option<u32>,
    /// [`MKNOD`], [`READ`], [`WRITE`].
    access: u32,
}

const fn usable(major: u32, minor: Option<u32>) -> Rule {
    Rule { allows: true, kind: Some(CHARACTER), major: Some(major), minor, access: READ | WRITE | MKNOD }
}

/// Nodes of this kind may be made; CAP_MKNOD decides about that.
const fn makable(kind: u32) -> Rule {
    Rule { allows: true, kind: Some(kind), major: None, minor: None, access: MKNOD }
}

/// The OCI's default devices, for every container: null, zero, full, random, urandom, tty, ptmx and all of /dev/pts.
const DEFAULT: [Rule; 10] = [
    usable(1, Some(3)),
    usable(1, Some(5)),
    usable(1, Some(7)),
    usable(1, Some(8)),
    usable(1, Some(9)),
    usable(5, Some(0)),
    usable(5, Some(2)),
    usable(136, None),
    makable(CHARACTER),
    makable(BLOCK),
];

/// A device of the container's, as the host has it.
pub struct Found {
    /// Where it is, and where it goes.
    pub device: Device,
    /// Its kind and numbers.
    pub found: Stat,
}

/// The devices of `--device`, and with `--privileged` all of the host's /dev.
pub fn find(config: &Config) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for device in &config.devices {
        let hint = "use a device of the host, for example /dev/ttyS0, or a directory with devices below it";
        let what = device.source.to_string_lossy();
        let found = stat(device.source).context(format_args!("--device {what}"), hint)?;
        let before = all.len();
        add(*device, found, found.st_dev, &mut all).context(format_args!("--device {what}"), hint)?;
        if all.len() == before {
            return Err(Error::usage(format_args!("--device {what}"), hint));
        }
    }
    for node in config.bundle.iter().flat_map(Bundle::nodes) {
        all.push(found_node(node)?);
    }
    if config.security.privileged
        && let Ok(found) = stat(c"/dev")
    {
        // An ordinary user may not look into all of it.
        let _ = add(
            Device { source: c"/dev", target: c"/dev", access: READ | WRITE | MKNOD },
            found,
            found.st_dev,
            &mut all,
        );
    }
    Ok(all)
}

/// A device of a bundle, as if the host had it: its number is what config.json says.
fn found_node(node: &Node) -> Result<Found> {
    // The other fields of it count for nothing.
    let mut found = stat(c"/").at(format_args!("stat /"))?;
    let device = Device { source: node.path, target: node.path, access: READ | WRITE | MKNOD };
    (found.st_mode, found.st_uid, found.st_gid) = (node.mode, node.uid, node.gid);
    found.st_rdev = rustix::fs::makedev(node.major, node.minor) as _;
    Ok(Found { device, found })
}

/// Adds a device, or those below a directory, in its own file system; below /dev, not those that every container has.
fn add(device: Device, found: Stat, file_system: u64, all: &mut Vec<Found>) -> rustix::io::Result<()> {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => all.push(Found { device, found }),
        FileType::Directory if found.st_dev == file_system => {
            let directory = open(device.source, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            for name in file::names(directory)? {
                let below =
                    |path: &CStr| c_static([path.to_bytes(), b"/", name.as_bytes()].concat()).map_err(|_| Errno::INVAL);
                let (source, target) = (below(device.source)?, below(device.target)?);
                let is_known = all.iter().any(|other| other.device.target == target);
                // A link is left out, as with docker.
                if let Ok(found) = lstat(source)
                    && !is_known
                    && !(device.target == c"/dev" && is_default(&found))
                {
                    add(Device { source, target, access: device.access }, found, file_system, all)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether every container has it, or a terminal of its own in its place.
fn is_default(found: &Stat) -> bool {
    let number = (rustix::fs::major(found.st_rdev as _), rustix::fs::minor(found.st_rdev as _));
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && matches!(number, (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2))
}

/// Allows a device of `--device`.
fn rule_for(device: &Device, found: &Stat) -> Rule {
    let is_block = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
    Rule {
        allows: true,
        kind: Some(if is_block { BLOCK } else { CHARACTER }),
        major: Some(rustix::fs::major(found.st_rdev as _)),
        minor: Some(rustix::fs::minor(found.st_rdev as _)),
        access: device.access,
    }
}

/// Lets the processes of `leaf` use the default devices and `devices`, and no others; with `--privileged`, all.
///
/// Loading a program costs more than half of the rest of a start. So the one without `devices` is attached once, to the
/// parent that kontena has made for its containers, and goes with it: see [`confine_all_below`].
pub fn confine(leaf: &OwnedFd, config: &Config, devices: &[Found]) -> Result<()> {
    let rules = config.bundle.as_ref().map(Bundle::access);
    let allows_others = rules.is_some_and(|rules| rules.allows_others);
    let rules = rules.map_or(&[][..], |rules| &rules.list);
    if config.security.privileged || allows_others && rules.iter().all(|rule| rule.allows) {
        // In place of the parent's. A runtime inside can confine its own containers.
        let _ = sys::attach_device_program(leaf, &end(1), *b"kontena_all\0\0\0\0\0", sys::OVERRIDABLE_PROGRAM);
        return Ok(());
    }
    if devices.is_empty() && rules.is_empty() && sys::effective_device_programs(leaf).is_ok_and(|names| names == [NAME])
    {
        return Ok(());
    }
    let mut all = Vec::new();
    for Access { allows, is_block, major, minor, access } in rules {
        let kind = is_block.map(|is_block| if is_block { BLOCK } else { CHARACTER });
        all.push(Rule { allows: *allows, kind, major: *major, minor: *minor, access: *access });
    }
    if config.bundle.is_none() {
        all.extend(devices.iter().map(|Found { device, found }| rule_for(device, found)));
    }
    match attach(leaf, &all, allows_others, sys::LAST_PROGRAM) {
        // A kernel without it, or a host that does not let this launcher: then a container has no devices but those of
        // its /dev, since all else is nodev. What would give it more is refused.
        Err(errno) => {
            let can_make = config.capabilities.bounding & (1 << CAP_MKNOD | 1 << CAP_SYS_ADMIN) != 0;
            let is_usable = |volume: &Volume| volume.attributes & MOUNT_ATTR_NODEV == 0;
            if devices.is_empty() && !can_make && !config.volumes.iter().any(is_usable) {
                return Ok(());
            }
            let hint = "--device, a volume with dev, CAP_MKNOD and CAP_SYS_ADMIN need a kernel with \
                        CONFIG_CGROUP_BPF, and kontena CAP_BPF";
            Err(Error::new(format_args!("attach the device program to the cgroup"), errno, hint))
        }
        Ok(()) => Ok(()),
    }
}

/// Confines all that will run below `parent`, a cgroup that was just made, unless a leaf has a program of its own.
/// Where that cannot be, each leaf gets its own.
pub fn confine_all_below(parent: &OwnedFd) {
    let _ = attach(parent, &[], false, sys::OVERRIDABLE_PROGRAM);
}

/// The program's name, as bpftool(8) shows it. It changes with [`DEFAULT`]: what has the name is trusted to be it.
const NAME: [u8; 16] = *b"kontena_device1\0";

fn attach(cgroup: &OwnedFd, rules: &[Rule], allows_others: bool, flags: u32) -> rustix::io::Result<()> {
    sys::attach_device_program(cgroup, &program(rules, allows_others), NAME, flags)
}

/// The program of rules, the last of which counts, and which never refuse a default device.
fn program(rules: &[Rule], allows_others: bool) -> Vec<BpfInstruction> {
    let mut code = BEGIN.to_vec();
    rules.iter().chain(&DEFAULT).rev().for_each(|rule| decide(&mut code, *rule));
    code.extend(end(allows_others.into()));
    code
}

/// Registers: the context becomes access, type, major and minor number; struct bpf_cgroup_dev_ctx.
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const TYPE: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// Opcodes of linux/bpf.h and linux/bpf_common.h: class, size or operation, and source.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbc;
const MOVE_IMMEDIATE: u8 = 0xb4;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT_IMMEDIATE: u8 = 0x74;
const JUMP_UNEQUAL_IMMEDIATE: u8 = 0x56;
const JUMP_EQUAL_IMMEDIATE: u8 = 0x16;
const EXIT: u8 = 0x95;

const BEGIN: [BpfInstruction; 6] = [
    BpfInstruction::new(LOAD_WORD, TYPE, CONTEXT, 0, 0),
    BpfInstruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
    BpfInstruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    // access << 16 | type
    BpfInstruction::new(MOVE, ACCESS, TYPE, 0, 0),
    BpfInstruction::new(SHIFT_RIGHT_IMMEDIATE, ACCESS, 0, 0, 16),
    BpfInstruction::new(AND_IMMEDIATE, TYPE, 0, 0, 0xffff),
];

fn end(verdict: i32) -> [BpfInstruction; 2] {
    [BpfInstruction::new(MOVE_IMMEDIATE, 0, 0, 0, verdict), BpfInstruction::new(EXIT, 0, 0, 0, 0)]
}

/// Decides about what of the access that was asked for no later rule has allowed: ends if the rule refuses any of it,
/// or allows the rest of it, and else goes on behind.
fn decide(code: &mut Vec<BpfInstruction>, Rule { allows, kind, major, minor, access }: Rule) {
    let first = code.len();
    for (register, number) in [(TYPE, kind), (MAJOR, major), (MINOR, minor)] {
        if let Some(number) = number {
            code.push(BpfInstruction::new(JUMP_UNEQUAL_IMMEDIATE, register, 0, 0, number as i32));
        }
    }
    // Only a bundle refuses.
    if allows || cfg!(not(feature = "oci")) {
        code.push(BpfInstruction::new(AND_IMMEDIATE, ACCESS, 0, 0, !access as i32));
        code.push(BpfInstruction::new(JUMP_UNEQUAL_IMMEDIATE, ACCESS, 0, 0, 0));
    } else {
        code.push(BpfInstruction::new(MOVE, SCRATCH, ACCESS, 0, 0));
        code.push(BpfInstruction::new(AND_IMMEDIATE, SCRATCH, 0, 0, access as i32));
        code.push(BpfInstruction::new(JUMP_EQUAL_IMMEDIATE, SCRATCH, 0, 0, 0));
    }
    code.extend(end(allows.into()));
    let behind = code.len();
    for (at, instruction) in code.iter_mut().enumerate().skip(first) {
        if matches!(instruction.code, JUMP_UNEQUAL_IMMEDIATE | JUMP_EQUAL_IMMEDIATE) {
            instruction.offset = (behind - at - 1) as i16;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::config::devices::device;

    /// Runs the program as the kernel does; bpf(2). It only knows the instructions that the program has.
    fn run(code: &[BpfInstruction], access: u32, kind: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0; 16], 0);
        loop {
            let BpfInstruction { code: operation, registers: pair, offset, immediate } = code[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            at += 1;
            let jumps = match operation {
                JUMP_EQUAL_IMMEDIATE => registers[to] == immediate as u32,
                JUMP_UNEQUAL_IMMEDIATE => registers[to] != immediate as u32,
                _ => false,
            };
            match operation {
                LOAD_WORD => registers[to] = context[offset as usize / 4],
                MOVE => registers[to] = registers[from],
                MOVE_IMMEDIATE => registers[to] = immediate as u32,
                AND_IMMEDIATE => registers[to] &= immediate as u32,
                SHIFT_RIGHT_IMMEDIATE => registers[to] >>= immediate,
                JUMP_EQUAL_IMMEDIATE | JUMP_UNEQUAL_IMMEDIATE if jumps => at += offset as usize,
                JUMP_EQUAL_IMMEDIATE | JUMP_UNEQUAL_IMMEDIATE => {}
                EXIT => return registers[0] == 1,
                _ => panic!("{operation:#x}"),
            }
        }
    }

    #[test]
    fn default_devices_are_usable_and_no_others() {
        let code = program(&[], false);
        let uses = |kind, major, minor| run(&code, READ | WRITE, kind, major, minor);
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 4711)] {
            assert!(uses(CHARACTER, major, minor), "{major}:{minor}");
            assert!(!uses(BLOCK, major, minor), "{major}:{minor}");
        }
        // mem, kmem, kmsg, console, and the disks.
        for (kind, major, minor) in
            [(CHARACTER, 1, 1), (CHARACTER, 1, 2), (CHARACTER, 1, 11), (CHARACTER, 5, 1), (BLOCK, 8, 0), (BLOCK, 0, 0)]
        {
            for access in [READ, WRITE, READ | MKNOD, READ | WRITE | MKNOD] {
                assert!(!run(&code, access, kind, major, minor), "{access} {kind} {major}:{minor}");
            }
            assert!(run(&code, MKNOD, kind, major, minor));
        }
    }

    #[test]
    fn device_has_the_access_that_was_asked_for() {
        let disk = Rule { allows: true, kind: Some(BLOCK), major: Some(8), minor: Some(1), access: READ };
        let code = program(&[disk, Rule { minor: Some(2), access: READ | WRITE, ..disk }], false);
        for (access, minor, is_allowed) in [
            (READ, 1, true),
            (WRITE, 1, false),
            (READ | WRITE, 1, false),
            (READ | MKNOD, 1, true),
            (READ, 2, true),
            (WRITE, 2, true),
            (READ | WRITE, 2, true),
            (READ, 3, false),
        ] {
            assert_eq!(run(&code, access, BLOCK, 8, minor), is_allowed, "{access} 8:{minor}");
        }
    }

    #[test]
    fn rule_is_of_the_device_that_was_found() {
        let device = device("/dev/zero:/dev/nought:r").unwrap();
        let Rule { kind, major, minor, access, .. } = rule_for(&device, &stat(c"/dev/zero").unwrap());
        assert_eq!((kind, major, minor, access), (Some(CHARACTER), Some(1), Some(5), READ));
    }

    #[test]
    fn last_rule_about_an_access_counts() {
        let mut state = 1u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for _ in 0..2000 {
            let rules: Vec<_> = (0..random(6))
                .map(|_| Rule {
                    allows: random(2) == 0,
                    kind: [None, Some(BLOCK), Some(CHARACTER)][random(3) as usize],
                    major: [None, Some(200), Some(201)][random(3) as usize],
                    minor: [None, Some(0), Some(1)][random(3) as usize],
                    access: random(7) + 1,
                })
                .collect();
            let allows_others = random(2) == 0;
            let code = program(&rules, allows_others);
            let (kind, major, minor, access) = (1 + random(2), 200 + random(2), random(2), random(7) + 1);
            let fits = |of: Option<u32>, number| of.is_none_or(|of| of == number);
            let is_allowed = |bit: u32| {
                let about = rules.iter().rfind(|rule| {
                    fits(rule.kind, kind)
                        && fits(rule.major, major)
                        && fits(rule.minor, minor)
                        && rule.access & bit != 0
                });
                bit == MKNOD || about.map_or(allows_others, |rule| rule.allows)
            };
            let expected = [READ, WRITE, MKNOD].into_iter().all(|bit| access & bit == 0 || is_allowed(bit));
            assert_eq!(run(&code, access, kind, major, minor), expected, "{access} {kind} {major}:{minor}");
        }
    }
}
