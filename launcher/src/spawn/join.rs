//! Starts a process in a running container: `exec`, and health commands.
//!
//! The init is cloned into the container's leaf cgroup, outside of its namespaces, joins those itself by the pidfd of
//! the container's PID 1, and forks the process there: nothing of kontena but the sealed init is ever seen inside
//! (CVE-2019-5736, CVE-2016-9962). Must not enter a namespace itself.

use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::resources::cgroup;
use crate::resources::userns;
use crate::spawn::clone::{self, Start, Started, clone_init};
use kontena_init::plan::{JOIN_ARGUMENT, Joining, ProcessSpec, SOCKETS_ARGUMENT};
use linux_raw_sys::general::{
    CAP_KILL, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER,
    CLONE_NEWUTS,
};
use linux_raw_sys::ptrace::SECCOMP_FILTER_FLAG_NEW_LISTENER;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, stat};
use rustix::io::Errno;
use std::ffi::CStr;

/// A container that can be joined.
pub struct Container<'a> {
    /// Its PID 1, by the host's number; `init` is the same.
    pub pid: u32,
    /// Its PID 1.
    pub init: &'a OwnedFd,
    /// Its leaf cgroup, where it has one.
    pub leaf: Option<&'a str>,
}

/// Between two looks at a container in the making.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// The init's program, as /proc/PID/exe has it.
const INIT: &str = "/memfd:kontena-init";
const NAMESPACES: &[(&str, u32)] = &[
    ("user", CLONE_NEWUSER),
    ("mnt", CLONE_NEWNS),
    ("pid", CLONE_NEWPID),
    ("uts", CLONE_NEWUTS),
    ("ipc", CLONE_NEWIPC),
    ("cgroup", CLONE_NEWCGROUP),
    ("net", CLONE_NEWNET),
    #[cfg(feature = "oci")]
    ("time", CLONE_NEWTIME),
];

impl Container<'_> {
    /// Waits until its PID 1 has made the container: until then it has the host's root, and so would a joining process.
    /// Last, PID 1 drops all capabilities but KILL, or executes the payload. Returns `false` if it ends before that.
    pub fn wait_until_made(&self) -> bool {
        let is_made = |status: &str| {
            let field = |key| status.lines().find_map(|line| line.strip_prefix(key));
            let permitted = field("CapPrm:").and_then(|hex| u64::from_str_radix(hex.trim_ascii(), 16).ok());
            let is_limited = permitted.is_some_and(|permitted| permitted & !(1 << CAP_KILL) == 0);
            // It leads a session since it is the init, so another program is the payload.
            let program = file::read_link(CWD, &format!("/proc/{}/exe", self.pid));
            let is_payload = program.is_none_or(|program| !program.starts_with(INIT));
            is_limited || is_payload && field("NSsid:") == field("NSpid:")
        };
        while !is_made(&file::read_text(CWD, &format!("/proc/{}/status", self.pid))) {
            if poll(&mut [PollFd::new(self.init, PollFlags::IN)], Some(&MOMENT)) == Ok(1) {
                return false;
            }
        }
        true
    }

    /// Starts `process` in it, by the init's sealed program; `detached` from this launcher's life or not, as
    /// [`Joining::detached`] has it.
    pub fn start_process(&self, init_program: &OwnedFd, process: ProcessSpec<'_>, detached: u8) -> Result<Started> {
        // A copy, which that process alone inherits.
        let inherited = rustix::io::fcntl_dupfd_cloexec(self.init, 0).at(format_args!("fcntl"))?;
        let init = clone::leave_open(&inherited)?;
        let (ours, theirs) = match process.terminal {
            0 if process.filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 => (None, None),
            _ => clone::socket_pair().map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
        };
        let terminal = theirs.as_ref().map_or(Ok(0), clone::leave_open)?;
        let namespaces = self.namespaces()?;
        if namespaces & CLONE_NEWUSER != 0 {
            userns::give_pipes_to_root_of(self.pid);
        }
        let namespaces = namespaces.into();
        let joining = Joining { init, terminal, namespaces, detached, process };
        let joining = clone::encode(&joining);
        let mut leaf = self.leaf.map(open_cgroup).transpose()?;
        loop {
            let start = join(init_program, JOIN_ARGUMENT, &joining, &process);
            match clone_init(&Start { leaf: leaf.as_ref(), ..start })? {
                // The container has made cgroups below its leaf, which cannot hold processes any more: use its PID 1's.
                Err(Errno::BUSY) if leaf.is_some() => {
                    let other = cgroup::of_process(self.pid).filter(|path| Some(&**path) != self.leaf);
                    let Some(other) = other else { return Err(refused(Errno::BUSY)) };
                    leaf = Some(open_cgroup(&other)?);
                }
                started => return started.map(|started| Started { terminal: ours, ..started }).map_err(refused),
            }
        }
    }

    /// Starts the process that makes sockets of the container's network: in no namespace but that and the one that owns
    /// it, and not in its cgroup.
    pub fn start_socket_maker(&self, init_program: &OwnedFd, plan: &[u8]) -> Result<Started> {
        let process = clone::decode_plan(plan)?.process;
        let inherited = rustix::io::fcntl_dupfd_cloexec(self.init, 0).at(format_args!("fcntl"))?;
        let init = clone::leave_open(&inherited)?;
        let namespaces = self.namespaces()? & (CLONE_NEWUSER | CLONE_NEWNET);
        let joining = Joining { init, terminal: 0, namespaces: namespaces.into(), detached: 0, process };
        let joining = clone::encode(&joining);
        clone_init(&join(init_program, SOCKETS_ARGUMENT, &joining, &process))?.map_err(refused)
    }

    /// CLONE_NEW* of the namespaces that are not this launcher's own: setns(2) refuses one's own user namespace.
    fn namespaces(&self) -> Result<u32> {
        let mut flags = 0;
        for &(name, flag) in NAMESPACES {
            let number = |process: &str| {
                let hint = "the container has just exited, or is another user's";
                // A process that ends has no namespaces, even before it is a zombie.
                let found = namespace(process, name).map_err(|errno| match errno {
                    Errno::NOENT => Errno::SRCH,
                    errno => errno,
                });
                found.context(format_args!("open /proc/{process}/ns/{name}"), hint)
            };
            // A kernel may have no time namespaces.
            let is_unknown = cfg!(feature = "oci") && flag == CLONE_NEWTIME && namespace("self", name).is_err();
            if !is_unknown && number(&self.pid.to_string())? != number("self")? {
                flags |= flag;
            }
        }
        Ok(flags)
    }
}

/// The start of an init that joins a container, instead of creating one.
fn join<'a>(program: &'a OwnedFd, argument: &'a CStr, block: &'a [u8], process: &'a ProcessSpec<'a>) -> Start<'a> {
    Start { program, argument, block, process, flags: 0, leaf: None, waits: false, elsewhere: None }
}

/// The number of a namespace of a process's.
fn namespace(process: &str, name: &str) -> rustix::io::Result<(u64, u64)> {
    let path = file::c_path(&format!("/proc/{process}/ns/{name}"))?;
    stat(&*path).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The processes of a container, by its leaf cgroup; without the inits that [`Container::start_process`] has cloned
/// into it, which stay outside of the container.
pub fn processes(leaf: &str) -> Vec<u32> {
    let ours = namespace("self", "pid");
    let mut all = cgroup::all_processes(leaf);
    // That of a bundle may share its pid namespace with this launcher.
    let is_init = |pid| {
        let program = file::read_link(CWD, &format!("/proc/{pid}/exe"));
        program.is_none_or(|program| program.starts_with(INIT))
    };
    all.retain(|pid| namespace(&pid.to_string(), "pid") != ours || cfg!(feature = "oci") && !is_init(*pid));
    all
}

fn open_cgroup(path: &str) -> Result<OwnedFd> {
    file::open(CWD, path, OFlags::DIRECTORY).context(format_args!("open {path}"), "the container has just exited")
}

fn refused(errno: Errno) -> Error {
    let hint = match errno {
        Errno::AGAIN => "a limit of processes is reached: the container's, or the caller's",
        Errno::NODEV | Errno::NOENT => "the container has just exited",
        _ => "",
    };
    Error::new(format_args!("clone3 into the container's cgroup"), errno, hint)
}
