//! A process that joins a container which runs: `exec`, and health commands.
//!
//! The init is cloned into the container's leaf cgroup, outside of its namespaces, joins those itself by the pidfd of the
//! container's PID 1, and forks the process there: nothing of kontena but the sealed init is ever seen inside
//! (CVE-2019-5736, CVE-2016-9962). Must not enter a namespace itself.

use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::start::{self, Started};
use kontena_init::plan::{JOIN_ARGUMENT, Joining, Plan, Process, SOCKETS_ARGUMENT, decode};
use linux_raw_sys::general::{
    CAP_KILL, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, stat};
use rustix::io::Errno;

/// A container that can be joined.
pub struct Container<'a> {
    /// Its PID 1, by the host's number; `init` is the same.
    pub pid: u32,
    /// Its PID 1.
    pub init: &'a OwnedFd,
    /// Its leaf cgroup, where it has one.
    pub leaf: Option<&'a str>,
}

/// Between two looks at one that is being made.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const NAMESPACES: [(&str, u32); 7] = [
    ("user", CLONE_NEWUSER),
    ("mnt", CLONE_NEWNS),
    ("pid", CLONE_NEWPID),
    ("uts", CLONE_NEWUTS),
    ("ipc", CLONE_NEWIPC),
    ("cgroup", CLONE_NEWCGROUP),
    ("net", CLONE_NEWNET),
];

impl Container<'_> {
    /// Waits until its PID 1 has made the container: until then that has the host's root, and so would have who joins it. The
    /// last thing that PID 1 does then is to keep no capability but KILL. `false` where it ends before.
    pub fn wait_until_made(&self) -> bool {
        let is_made = |status: &str| {
            let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
            let permitted = permitted.and_then(|hex| u64::from_str_radix(hex.trim_ascii(), 16).ok());
            permitted.is_some_and(|permitted| permitted & !(1 << CAP_KILL) == 0)
        };
        while !is_made(&file::read_text(CWD, &format!("/proc/{}/status", self.pid))) {
            if poll(&mut [PollFd::new(self.init, PollFlags::IN)], Some(&MOMENT)) == Ok(1) {
                return false;
            }
        }
        true
    }

    /// Starts `process` in it, by the init's sealed program; `detached` from this launcher's life or not.
    pub fn start(&self, init_program: &OwnedFd, process: Process<'_>, detached: bool) -> Result<Started> {
        // A copy, that it alone inherits.
        let inherited = rustix::io::dup(self.init).context(format_args!("dup"), "")?;
        let number = start::inherited(&inherited)?;
        let joining =
            Joining { init: &number, namespaces: self.namespaces()?.into(), detached: detached.into(), process };
        let joining = start::encode(&joining);
        let mut leaf = self.leaf.map(open_cgroup).transpose()?;
        loop {
            let plan = (JOIN_ARGUMENT, &*joining);
            match start::start(init_program, plan, &process, 0, leaf.as_ref(), false)? {
                // The container has made cgroups of its own below its leaf, which cannot hold processes any more: then where
                // its PID 1 is.
                Err(Errno::BUSY) if leaf.is_some() => {
                    let other = cgroup::of_process(self.pid).filter(|path| Some(&**path) != self.leaf);
                    let Some(other) = other else { return Err(refused(Errno::BUSY)) };
                    leaf = Some(open_cgroup(&other)?);
                }
                started => return started.map_err(refused),
            }
        }
    }

    /// Starts the process that makes sockets of the container's network: in no namespace but that and the one that owns it, and
    /// not in its cgroup.
    pub fn start_socket_maker(&self, init_program: &OwnedFd, plan: &[u8]) -> Result<Started> {
        let plan: Option<Plan<'_>> = decode(plan);
        let process = plan.ok_or_else(|| Error::usage(format_args!("read the container's plan"), ""))?.process;
        let inherited = rustix::io::dup(self.init).context(format_args!("dup"), "")?;
        let number = start::inherited(&inherited)?;
        let namespaces = self.namespaces()? & (CLONE_NEWUSER | CLONE_NEWNET);
        let joining = Joining { init: &number, namespaces: namespaces.into(), detached: 0, process };
        let joining = start::encode(&joining);
        start::start(init_program, (SOCKETS_ARGUMENT, &joining), &process, 0, None, false)?.map_err(refused)
    }

    /// CLONE_NEW* of the namespaces that are not this launcher's own: setns(2) refuses one's own user namespace.
    fn namespaces(&self) -> Result<u32> {
        let mut flags = 0;
        for (name, flag) in NAMESPACES {
            let number = |process: &str| {
                let hint = "the container has just ended, or is another user's";
                namespace(process, name).context(format_args!("look at /proc/{process}/ns/{name}"), hint)
            };
            if number(&self.pid.to_string())? != number("self")? {
                flags |= flag;
            }
        }
        Ok(flags)
    }
}

/// The number of a namespace of a process's.
fn namespace(process: &str, name: &str) -> rustix::io::Result<(u64, u64)> {
    let path = file::c_path(&format!("/proc/{process}/ns/{name}"))?;
    stat(&*path).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The processes of a container, by its leaf cgroup; without those that are outside of it, of [`Container::start`].
pub fn processes(leaf: &str) -> Vec<u32> {
    let ours = namespace("self", "pid");
    let mut all = cgroup::all_processes(leaf);
    all.retain(|pid| namespace(&pid.to_string(), "pid") != ours);
    all
}

fn open_cgroup(path: &str) -> Result<OwnedFd> {
    file::open(CWD, path, OFlags::DIRECTORY).context(format_args!("open {path}"), "the container has just ended")
}

fn refused(errno: Errno) -> Error {
    let hint = match errno {
        Errno::AGAIN => "a limit of processes is reached: that of the container, or the caller's own",
        Errno::NODEV | Errno::NOENT => "the container has just ended",
        _ => "",
    };
    Error::new(format_args!("clone3 into the container's cgroup"), errno, hint)
}
