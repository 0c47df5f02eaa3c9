//! bpf(2), for the programs that decide on devices.

use super::check;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, Result};
use sc::syscall;

/// struct bpf_insn; linux/bpf.h.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct BpfInstruction {
    /// What it does.
    pub code: u8,
    /// The destination, and four bits higher the source.
    pub registers: u8,
    /// How far it jumps, or where in memory it looks.
    pub offset: i16,
    /// A constant.
    pub immediate: i32,
}

impl BpfInstruction {
    /// One, with its destination and its source register.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: destination | source << 4, offset, immediate }
    }
}

/// How a program is attached: it is the last word for all below, or gives way to one attached below; linux/bpf.h,
/// BPF_F_ALLOW_OVERRIDE.
pub const LAST_PROGRAM: u32 = 0;
pub const OVERRIDABLE_PROGRAM: u32 = 1;

const BPF_CGROUP_DEVICE: u32 = 6;

/// `int bpf(int cmd, union bpf_attr *attr, unsigned int size)`.
///
/// # Safety `attributes` are the first members of the union that `command` knows, without padding, and what they point
/// to is alive, as long as they say, and may be written to where the command does so.
unsafe fn bpf<T>(command: u32, attributes: &mut T) -> Result<usize> {
    // SAFETY: the kernel reads and writes no more of the attributes than their size; the rest is the caller's promise.
    check(unsafe { syscall!(BPF, command, &raw mut *attributes, size_of::<T>()) })
}

/// # Safety
/// As for [`bpf`], and `command` is one that gives a new fd.
unsafe fn bpf_fd<T>(command: u32, attributes: &mut T) -> Result<OwnedFd> {
    // SAFETY: the caller promises of the attributes what `bpf` asks for.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: a new fd, close-on-exec as bpf(2) makes them, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// BPF_PROG_LOAD of a program for devices, and BPF_PROG_ATTACH of it to a cgroup.
pub fn attach_device_program(cgroup: &OwnedFd, program: &[BpfInstruction], name: [u8; 16], flags: u32) -> Result<()> {
    const PROG_LOAD: u32 = 5;
    const PROG_ATTACH: u32 = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    #[repr(C)]
    struct Load {
        kind: u32,
        length: u32,
        program: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    let (kind, length) = (TYPE_CGROUP_DEVICE, program.len() as u32);
    let (program, license) = (program.as_ptr() as u64, c"".as_ptr() as u64);
    let mut load =
        Load { kind, length, program, license, log: [0; 2], log_buffer: 0, kernel_version: 0, flags: 0, name };
    // SAFETY: the program is as long as `length` says, and the license ends with its NUL; the kernel copies both.
    let loaded = unsafe { bpf_fd(PROG_LOAD, &mut load) }?;
    let mut attach = [cgroup.as_raw_fd() as u32, loaded.as_raw_fd() as u32, BPF_CGROUP_DEVICE, flags];
    // SAFETY: four numbers, and none of them is an address.
    unsafe { bpf(PROG_ATTACH, &mut attach) }.map(drop)
}

/// The names of the programs for devices that count for a cgroup, its own and those of the cgroups above it:
/// BPF_PROG_QUERY, BPF_PROG_GET_FD_BY_ID and BPF_OBJ_GET_INFO_BY_FD. E2BIG where there are many.
pub fn effective_device_programs(cgroup: &OwnedFd) -> Result<Vec<[u8; 16]>> {
    const PROG_GET_FD_BY_ID: u32 = 13;
    const OBJ_GET_INFO_BY_FD: u32 = 15;
    const PROG_QUERY: u32 = 16;
    const QUERY_EFFECTIVE: u32 = 1;
    #[repr(C)]
    struct Query {
        cgroup: u32,
        kind: u32,
        flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    #[repr(C)]
    struct GetInfo {
        program: u32,
        size: u32,
        info: u64,
    }
    // struct bpf_prog_info, up to its name.
    const NAME: usize = 64;
    let mut ids = [0u32; 4];
    let mut query = Query {
        cgroup: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: QUERY_EFFECTIVE,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        padding: 0,
    };
    // SAFETY: the kernel writes `count` ids at most, for which there is room.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let mut names = Vec::new();
    for id in ids.get(..query.count as usize).ok_or(Errno::TOOBIG)? {
        // SAFETY: three numbers, and none of them is an address.
        let program = unsafe { bpf_fd(PROG_GET_FD_BY_ID, &mut [*id, 0, 0]) }?;
        let mut info = [0u8; NAME + 16];
        let (size, pointer) = (info.len() as u32, info.as_mut_ptr() as u64);
        let mut get = GetInfo { program: program.as_raw_fd() as u32, size, info: pointer };
        // SAFETY: the kernel writes no more than `size` bytes of the information, for which there is room. It reads the
        // members that ask for more, which are zeros.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut get) }?;
        names.extend(info.last_chunk());
    }
    Ok(names)
}
