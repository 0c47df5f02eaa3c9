//! Clones the sealed init into namespaces and a cgroup, with its Plan; clone3(2).
//!
//! Used for a new container, and for `exec` into a running one. Must not know the purpose of either.

use crate::error::{Context, Error, FILTERED, Result};
#[cfg(feature = "oci")]
use crate::file;
use crate::resources::userns::{self, Maps};
use crate::sys;
use crate::text::c_string;
use kontena_init::plan::{self, JOIN_ARGUMENT, PLAN_ARGUMENT, Plan, ProcessSpec, Report, Step, Wire, Writer};
use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, PATH_MAX,
};
#[cfg(feature = "oci")]
use rustix::fd::BorrowedFd;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open, readlinkat_raw, sendfile,
};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use std::ffi::{CStr, CString};

/// A process of the init's that was started.
pub struct Started {
    /// By the host's number.
    pub pid: Pid,
    /// The same, for poll, signals and waiting.
    pub pidfd: OwnedFd,
    /// Whether it becomes the payload, or starts a command and stays beside it.
    pub is_payload: bool,
    /// Our end of the status socket, or pipe.
    pub status: OwnedFd,
    /// That of the socket on which the listener of a process that joins a container comes, and then its terminal.
    pub terminal: Option<OwnedFd>,
}

/// A process of the init's that will be started.
pub struct Start<'a> {
    /// The init's sealed program.
    pub program: &'a OwnedFd,
    /// The argument that says what to do with the block.
    pub argument: &'a CStr,
    /// A Plan, or a Joining.
    pub block: &'a [u8],
    /// The process in that block.
    pub process: &'a ProcessSpec<'a>,
    /// CLONE_NEW* of the namespaces that are new.
    pub flags: u32,
    /// The cgroup that it is cloned into; `None` for this launcher's own.
    pub leaf: Option<&'a OwnedFd>,
    /// Whether it waits for a byte from the status socket, and then becomes root of its user namespace.
    pub waits: bool,
    /// Where it is cloned, if not here.
    pub elsewhere: Option<&'a dyn Elsewhere>,
}

/// Namespaces in which a process is cloned, and which this launcher does not enter itself.
pub trait Elsewhere {
    /// Goes there, for good; an error has the number of the step that failed.
    #[cfg(feature = "oci")]
    fn enter(&self) -> std::result::Result<(), (u32, Errno)>;
    /// Whether it is another cgroup namespace, whose processes nobody outside of it may move or clone elsewhere:
    /// nsdelegate of cgroup-v2.rst.
    #[cfg(feature = "oci")]
    fn joins_cgroup(&self) -> bool;
    /// A step in words.
    #[cfg(feature = "oci")]
    fn explain(&self, step: u32) -> String;
}

/// Clones the init, and executes it there.
pub fn clone_init(start: &Start<'_>) -> Result<rustix::io::Result<Started>> {
    let &Start { program, argument, block, process, flags, leaf, waits, elsewhere } = start;
    let plan = seal(c"kontena-plan", MemfdFlags::NOEXEC_SEAL, &|memfd| {
        let mut rest = block;
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(memfd, rest)?..];
        }
        Ok(())
    })?;
    let (status, theirs) = if argument == JOIN_ARGUMENT {
        // A process in the container that may trace others can take it from the joining process; a pipe carries no fds.
        pipe_with(PipeFlags::CLOEXEC).at(format_args!("pipe"))?
    } else {
        socket_pair()?
    };
    // Out of the way of the number that the process wants for its own fd.
    let theirs = match process.notify_as {
        0 => theirs,
        number => rustix::io::fcntl_dupfd_cloexec(&theirs, number as i32 + 1).at(format_args!("fcntl"))?,
    };
    let arguments = [number(leave_open(&plan)?)?, number(leave_open(&theirs)?)?];
    let exec = sys::Exec {
        program: program.as_fd(),
        arguments: &[c"kontena-init", argument, &arguments[0], &arguments[1]],
        status: theirs.as_fd(),
        failure: Report { step: Step::ExecInit, index: 0, errno: 0 }.to_bytes(),
        waits: waits.then(|| status.as_fd()),
    };
    let (flags, leaf) = (u64::from(flags), leaf.map(AsFd::as_fd));
    let cloned = match elsewhere {
        #[cfg(feature = "oci")]
        Some(elsewhere) => match clone_elsewhere(elsewhere, flags, leaf, &exec) {
            Err((sys::CLONE, errno)) => Err(errno),
            Err((step, errno)) => {
                let hint = "it is of a user namespace in which kontena has no rights, or the kernel has no such ones";
                return Err(Error::new(format_args!("{}", elsewhere.explain(step)), errno, hint));
            }
            Ok(cloned) => Ok(cloned),
        },
        _ => sys::clone3_exec(flags, leaf, &exec),
    };
    Ok(cloned.map(|(pid, pidfd)| Started { pid, pidfd, is_payload: false, status, terminal: None }))
}

/// There, the process that goes there moves into the leaf first if none can be cloned into it from there.
#[cfg(feature = "oci")]
fn clone_elsewhere(
    elsewhere: &dyn Elsewhere,
    flags: u64,
    leaf: Option<BorrowedFd<'_>>,
    exec: &sys::Exec<'_>,
) -> std::result::Result<(Pid, OwnedFd), (u32, Errno)> {
    let (mut first, mut into) = (None, leaf);
    if elsewhere.joins_cgroup() {
        (first, into) = (leaf, None);
    }
    let enter = || {
        let moved = first.map_or(Ok(()), |leaf| file::write(leaf, "cgroup.procs", "0"));
        moved.map_err(|errno| (sys::CLONE, errno)).and_then(|()| elsewhere.enter())
    };
    sys::clone3_exec_inside(&enter, flags, into, exec)
}

/// Clones the init of a container into its namespaces, but for those that are `shared`, CLONE_NEW*, which are of this
/// process or `elsewhere`, and into its leaf cgroup. With `maps` it waits for a byte before it does anything.
pub fn clone_container(
    program: &OwnedFd,
    plan: &[u8],
    shared: u32,
    leaf: Option<&OwnedFd>,
    maps: Option<&Maps>,
    elsewhere: Option<&dyn Elsewhere>,
) -> Result<Started> {
    let all = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP | CLONE_NEWNET;
    let mut flags = all & !shared;
    if maps.is_some() && shared & CLONE_NEWUSER == 0 {
        flags |= CLONE_NEWUSER;
    }
    let (Plan { process, init, .. }, waits) = (&decode_plan(plan)?, maps.is_some());
    let start = Start { program, argument: PLAN_ARGUMENT, block: plan, process, flags, leaf, waits, elsewhere };
    let started = clone_init(&start)?.map(|started| Started { is_payload: *init == 0, ..started });
    started.map_err(|errno| {
        let hint = match errno {
            Errno::PERM | Errno::NOSYS | Errno::NOSPC | Errno::INVAL if maps.is_some() => &*userns::why_refused(errno),
            Errno::PERM | Errno::NOSYS if sys::is_filtered() => FILTERED,
            Errno::PERM => "kontena needs CAP_SYS_ADMIN: run it as root of the host, or of a privileged container",
            Errno::NOSPC => "a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces",
            Errno::AGAIN => "a limit of processes is reached: raise --pids-limit, or the caller's limit",
            Errno::BUSY => "the cgroup cannot hold processes: choose another with --cgroup-parent",
            _ => "kontena needs Linux 5.15 or newer with all namespaces built in",
        };
        Error::new(format_args!("clone3 of the container"), errno, hint)
    })
}

/// The Plan in its bytes.
pub fn decode_plan(bytes: &[u8]) -> Result<Plan<'_>> {
    plan::decode(bytes).ok_or_else(|| Error::usage(format_args!("read the container's plan"), ""))
}

/// The two ends of a socket to a process of the init's.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).at(format_args!("socketpair"))
}

/// The bytes of a block for the init.
pub fn encode<'a>(plan: &impl Wire<'a>) -> Vec<u8> {
    let mut block = Bytes(Vec::with_capacity(4096));
    plan::encode(plan, &mut block);
    // It stays as long as the container.
    block.0.shrink_to_fit();
    block.0
}

struct Bytes(Vec<u8>);

impl Writer for Bytes {
    fn append(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn length(&self) -> usize {
        self.0.len()
    }

    fn patch(&mut self, at: usize, number: u32) {
        if let Some(place) = self.0.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = number.to_le_bytes();
        }
    }
}

/// The number of an fd, as the Plan has it.
pub fn fd_number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd() as u32
}

/// Leaves the fd open across the exec, for the init, and returns its number.
pub fn leave_open(fd: &OwnedFd) -> Result<u32> {
    rustix::io::fcntl_setfd(fd, FdFlags::empty()).at(format_args!("fcntl"))?;
    Ok(fd_number(fd))
}

/// A number as an argument.
fn number(number: u32) -> Result<CString> {
    c_string(number.to_string())
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

/// A memfd of that name, which is close-on-exec, and executable or not.
pub fn memfd(name: &CStr, kind: MemfdFlags) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | kind) {
        // Linux before 6.3 does not know the difference.
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    }
}

/// One that has been written, and that nobody can change any more.
pub fn seal(name: &CStr, kind: MemfdFlags, write: &dyn Fn(&OwnedFd) -> rustix::io::Result<()>) -> Result<OwnedFd> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    memfd(name, kind)
        .and_then(|memfd| write(&memfd).map(|()| memfd))
        .and_then(|memfd| fcntl_add_seals(&memfd, seals).map(|()| memfd))
        .context(format_args!("memfd {}", name.to_string_lossy()), "it needs memory, and files of 100 kB: ulimit -f")
}
