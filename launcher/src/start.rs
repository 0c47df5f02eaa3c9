//! The start of a process in namespaces: the init, sealed, with what it is to do, cloned into a cgroup; clone3(2).
//!
//! Both ways in go through here: a new container, and `exec` into one that runs. Must not know what either is for.

use crate::config::c_string;
use crate::error::{Context, Result};
use crate::sys;
use kontena_init::plan::{self, Process, Report, Step, Wire};
use linux_raw_sys::general::PATH_MAX;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open, readlinkat_raw, sendfile,
};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;
use std::ffi::{CStr, CString};

/// A process of the init's that was started.
pub struct Started {
    /// By the host's number.
    pub pid: Pid,
    /// The same, for poll, signals and waiting.
    pub pidfd: OwnedFd,
    /// Our end of the status socket.
    pub status: OwnedFd,
}

/// Clones the init, to do what is in `plan`, as `argument` says; with CLONE_NEW* of `flags`, into the cgroup `leaf`, where
/// there is one; the plan has `process`. Where it `waits`, it does so for a byte from the status socket, and then becomes root
/// of its user namespace.
pub fn start(
    init: &OwnedFd,
    (argument, plan): (&CStr, &[u8]),
    process: &Process<'_>,
    flags: u32,
    leaf: Option<&OwnedFd>,
    waits: bool,
) -> Result<rustix::io::Result<Started>> {
    let plan = seal(c"kontena-plan", MemfdFlags::NOEXEC_SEAL, &|memfd| {
        let mut rest = plan;
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(memfd, rest)?..];
        }
        Ok(())
    })?;
    let (status, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context(format_args!("socketpair"), "")?;
    // Out of the way of the number that an fd of the process's is to have.
    let theirs = match process.notify_as {
        0 => theirs,
        number => rustix::io::fcntl_dupfd_cloexec(&theirs, number as i32 + 1)
            .context(format_args!("fcntl"), "raise the limit of open files (ulimit -n)")?,
    };
    let arguments = [inherited(&plan)?, inherited(&theirs)?];
    let exec = sys::Exec {
        program: init.as_fd(),
        arguments: &[c"kontena-init", argument, &arguments[0], &arguments[1]],
        status: theirs.as_fd(),
        failure: Report { step: Step::ExecInit, index: 0, errno: 0 }.to_bytes(),
        waits: waits.then(|| status.as_fd()),
    };
    let cloned = sys::clone3_exec(u64::from(flags), leaf.map(AsFd::as_fd), &exec);
    Ok(cloned.map(|(pid, pidfd)| Started { pid, pidfd, status }))
}

/// As [`start`] takes it.
pub fn encode<'a>(plan: &impl Wire<'a>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    plan::encode(plan, &mut bytes);
    // It stays as long as the container.
    bytes.shrink_to_fit();
    bytes
}

/// Leaves the fd open across the exec, and says its number: one of those that init is to have.
pub fn inherited(fd: &OwnedFd) -> Result<CString> {
    rustix::io::fcntl_setfd(fd, FdFlags::empty()).context(format_args!("fcntl"), "")?;
    c_string(fd.as_raw_fd().to_string())
}

/// The init's program, which is the file `kontena-init` beside this one, in a memfd that nobody can change any more.
///
/// What a container could see of the host's programs is this copy, through /proc/1/exe: CVE-2019-5736.
pub fn seal_init() -> Result<OwnedFd> {
    let mut path = [0; PATH_MAX as usize];
    let length = readlinkat_raw(CWD, c"/proc/self/exe", &mut path)
        .context(format_args!("find kontena's own path"), "mount /proc")?;
    let mut directory = &path[..length];
    while let [rest @ .., last] = directory
        && *last != b'/'
    {
        directory = rest;
    }
    let path = c_string([directory, b"kontena-init"].concat())?;
    let init = open(&*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context(format_args!("open {}", path.to_string_lossy()), "install kontena and kontena-init side by side")?;
    seal(c"kontena-init", MemfdFlags::EXEC, &|memfd| {
        while sendfile(memfd, &init, None, 1 << 30)? > 0 {}
        Ok(())
    })
}

fn seal(name: &CStr, kind: MemfdFlags, write: &dyn Fn(&OwnedFd) -> rustix::io::Result<()>) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = match memfd_create(name, flags | kind) {
        // Linux before 6.3 does not know the difference.
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    };
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    memfd
        .and_then(|memfd| write(&memfd).map(|()| memfd))
        .and_then(|memfd| fcntl_add_seals(&memfd, seals).map(|()| memfd))
        .context(format_args!("memfd {}", name.to_string_lossy()), "kontena needs memory for it")
}
