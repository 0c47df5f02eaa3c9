//! Devices: which of the host's a container has, and the program that keeps it from all others.
//!
//! `--device` in docker's syntax. The program is one of BPF_PROG_TYPE_CGROUP_DEVICE, attached to the leaf cgroup before
//! anything runs in it; Documentation/admin-guide/cgroup-v2.rst, "Device controller". Must not make any node: init does.

use crate::caps::Capabilities;
use crate::config::{c_string, wrong};
use crate::error::{Context, Error, Result};
use crate::sys::{self, BpfInstruction};
use crate::volumes::mount_target;
use linux_raw_sys::general::{CAP_MKNOD, CAP_SYS_ADMIN};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Stat, stat};
use rustix::io::Errno;
use std::ffi::CString;

/// `--device SRC[:DST][:rwm]`.
pub struct Device {
    /// Its path on the host.
    pub source: CString,
    /// Its path in the container.
    pub target: CString,
    access: u32,
}

/// BPF_DEVCG_ACC_*, BPF_DEVCG_DEV_*; linux/bpf.h.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Type, major and minor number, where there are any, and what is allowed.
type Rule = (u32, Option<u32>, Option<u32>, u32);

/// What every container may use; making nodes of any kind is a matter of CAP_MKNOD. The OCI's default devices.
const DEFAULT: [Rule; 10] = [
    (CHARACTER, Some(1), Some(3), READ | WRITE | MKNOD),
    (CHARACTER, Some(1), Some(5), READ | WRITE | MKNOD),
    (CHARACTER, Some(1), Some(7), READ | WRITE | MKNOD),
    (CHARACTER, Some(1), Some(8), READ | WRITE | MKNOD),
    (CHARACTER, Some(1), Some(9), READ | WRITE | MKNOD),
    (CHARACTER, Some(5), Some(0), READ | WRITE | MKNOD),
    (CHARACTER, Some(5), Some(2), READ | WRITE | MKNOD),
    (CHARACTER, Some(136), None, READ | WRITE | MKNOD),
    (CHARACTER, None, None, MKNOD),
    (BLOCK, None, None, MKNOD),
];

/// `--device`.
pub fn device(text: &str) -> Result<Device> {
    let wrong = |hint| wrong("--device", text, hint);
    let letters = |text: &str| {
        let letter = |c| match c {
            'r' => Some(READ),
            'w' => Some(WRITE),
            'm' => Some(MKNOD),
            _ => None,
        };
        text.chars().try_fold(0, |access, c| Some(access | letter(c)?)).filter(|access| *access != 0)
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if !access.starts_with('/') => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] => (source, target, access),
        _ => return Err(wrong("give SOURCE, SOURCE:TARGET or SOURCE:TARGET:rwm, as /dev/ttyS0")),
    };
    let access = letters(access).ok_or_else(|| wrong("not an access: give some of r, w and m"))?;
    let target = mount_target(target).ok_or_else(|| wrong("the target is not an absolute path below /"))?;
    Ok(Device { source: c_string(source)?, target, access })
}

impl Device {
    /// The device as the host has it.
    pub fn find(&self) -> Result<Stat> {
        let hint = "give a device of the host, as /dev/ttyS0";
        let what = format_args!("--device {}", self.source.to_string_lossy());
        let found = stat(&*self.source).context(what, hint)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::CharacterDevice | FileType::BlockDevice => Ok(found),
            _ => Err(Error::usage(format_args!("--device {}", self.source.to_string_lossy()), hint)),
        }
    }

    fn rule(&self) -> Result<Rule> {
        let found = self.find()?;
        let is_block = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
        let (major, minor) = (rustix::fs::major(found.st_rdev as _), rustix::fs::minor(found.st_rdev as _));
        Ok((if is_block { BLOCK } else { CHARACTER }, Some(major), Some(minor), self.access))
    }
}

/// Lets the processes of `leaf` use the default devices and `devices`, and no others.
///
/// Loading a program costs more than half of the rest of a start. So the one without `devices` is attached once, to the
/// parent that kontena has made for its containers, and goes with it: see [`confine_all_below`].
pub fn confine(leaf: &OwnedFd, devices: &[Device], capabilities: Capabilities) -> Result<()> {
    if devices.is_empty() && sys::effective_device_programs(leaf).is_ok_and(|names| names == [NAME]) {
        return Ok(());
    }
    let mut code = BEGIN.to_vec();
    for device in devices {
        allow(&mut code, device.rule()?);
    }
    match attach(leaf, code, sys::LAST_PROGRAM) {
        // A kernel without it, or a host that does not let this launcher: then only those that could make themselves a node
        // are to be kept from it. All others have none but those of their /dev.
        Err(errno @ (Errno::INVAL | Errno::PERM | Errno::NOSYS)) => {
            if devices.is_empty() && capabilities.bounding & (1 << CAP_MKNOD | 1 << CAP_SYS_ADMIN) == 0 {
                return Ok(());
            }
            let hint = "--device and CAP_MKNOD need a kernel with CONFIG_CGROUP_BPF, and kontena CAP_BPF";
            Err(Error::new(format_args!("attach the device program to the cgroup"), errno, hint))
        }
        attached => attached.context(format_args!("attach the device program to the cgroup"), ""),
    }
}

/// Confines all that will run below `parent`, a cgroup that was just made, unless a leaf has a program of its own. Where
/// that cannot be, each leaf gets its own.
pub fn confine_all_below(parent: &OwnedFd) {
    let _ = attach(parent, BEGIN.to_vec(), sys::OVERRIDABLE_PROGRAM);
}

/// The program's name, as bpftool(8) shows it. It changes with [`DEFAULT`]: what has the name is trusted to be it.
const NAME: [u8; 16] = *b"kontena_device1\0";

fn attach(cgroup: &OwnedFd, mut code: Vec<BpfInstruction>, flags: u32) -> rustix::io::Result<()> {
    DEFAULT.iter().for_each(|rule| allow(&mut code, *rule));
    code.extend(end(0));
    sys::attach_device_program(cgroup, &code, NAME, flags)
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
const JUMP_UNEQUAL: u8 = 0x5e;
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

/// Ends with 1 where the rule says all that was asked for, and else goes on behind.
fn allow(code: &mut Vec<BpfInstruction>, (kind, major, minor, access): Rule) {
    let first = code.len();
    let mut unless = |operation, register, source, value: u32| {
        code.push(BpfInstruction::new(operation, register, source, 0, value as i32));
    };
    unless(JUMP_UNEQUAL_IMMEDIATE, TYPE, 0, kind);
    // What is asked for and allowed is all that is asked for.
    unless(MOVE, SCRATCH, ACCESS, 0);
    unless(AND_IMMEDIATE, SCRATCH, 0, access);
    unless(JUMP_UNEQUAL, SCRATCH, ACCESS, 0);
    for (register, number) in [(MAJOR, major), (MINOR, minor)] {
        if let Some(number) = number {
            unless(JUMP_UNEQUAL_IMMEDIATE, register, 0, number);
        }
    }
    code.extend(end(1));
    let behind = code.len();
    for (at, instruction) in code.iter_mut().enumerate().skip(first) {
        if matches!(instruction.code, JUMP_UNEQUAL | JUMP_UNEQUAL_IMMEDIATE) {
            instruction.offset = (behind - at - 1) as i16;
        }
    }
}
