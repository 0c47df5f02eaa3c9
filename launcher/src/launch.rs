//! `kontena run`: from the Config to a running payload, and back to a host as it was.
//!
//! Reads from top to bottom in the order in which things are taken. All that can be refused is refused before the
//! clone; after it, init makes the mounts while the network is wired here. What is taken is in the journal first, so
//! that an error, the end of the payload and a SIGKILL of this process all end the same way.

use crate::config::{Config, Net, c_string};
use crate::error::{Context, Error, Result};
use crate::plan;
use crate::state::{Entry, Root};
use crate::stats::{self, Stats};
use crate::supervise::{Signals, supervise};
use crate::{cgroup, file, net, sys};
use kontena_init::plan::{PLAN_ARGUMENT, Report, Step};
use linux_raw_sys::general::*;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open, readlinkat_raw, sendfile,
};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, recv, shutdown, socketpair};
use rustix::process::Pid;
use std::ffi::{CStr, CString};

/// Runs the container, and gives the payload's exit status.
pub fn run(state: &str, config: &Config) -> Result<u8> {
    if !rustix::process::geteuid().is_root() {
        let hint = "namespaces, cgroups and links need it: run kontena with sudo";
        return Err(Error::usage(format_args!("not root"), hint));
    }
    sys::close_inherited_fds_on_exec().context(format_args!("close_range"), "kontena needs Linux 5.15 or newer")?;
    let signals = Signals::block()?;
    let plan = plan::encode(config, signals.original_mask())?;
    let leaf = cgroup::Leaf::find(config)?;
    let (init_program, plan_fd) = (seal_init()?, seal_plan(&plan)?);
    let reservations = net::reserve(&config.publish)?;

    let mut root = Root::open(state)?;
    root.starting()?;
    let mut journal = root.create(&config.name)?;
    let record = |what: &str| root.record_shared(&format!("cgroup {what}"));
    let (mut unmeasured, mut start) = (Vec::new(), None);
    let started = journal.record(Entry::Cgroup(leaf.path.clone())).and_then(|()| {
        let directory = leaf.create(config, &record)?;
        if config.stats.is_some() {
            (unmeasured, start) = (stats::prepare(&leaf, &record), Some(sys::monotonic_microseconds()));
        }
        clone(config, &directory, &init_program, &plan_fd)
    });
    drop((init_program, plan_fd));
    let (mut table, mut swept) = (None, false);
    let status = started.and_then(|container| {
        for publish in &config.publish {
            journal.record(Entry::Publish(*publish))?;
        }
        table = net::connect(config, &root, &mut journal, container.pid, &container.pidfd)
            .map_err(|error| first_cause(error, &container.status, &leaf.path, config))?;
        root.started();
        let _ = rustix::io::write(&container.status, &[1]);
        let ended = supervise(container, &signals, || swept = root.sweep().is_ok())?;
        if let (Some(format), Some(start)) = (config.stats, start) {
            let stats = Stats::read(&leaf.path);
            let elapsed = sys::monotonic_microseconds() - start;
            crate::print(2, &stats.print(format, &config.name, elapsed, &unmeasured));
        }
        match ended.report {
            Some(report) => Err(explain(report, config)),
            None if ended.status == KILLED && cgroup::oom_killed(&leaf.path) => Err(out_of_memory(&leaf.path)),
            None => Ok(ended.status),
        }
    });
    // On failure too: by now the container's processes are dead or dying.
    let released = journal.release(table);
    leaf.return_launcher();
    drop(reservations);
    if status.is_err() && root.made_shared() {
        // This start made the bridge and the rest for nothing.
        let _ = root.prune();
    } else if !swept {
        let _ = root.sweep();
    }
    let status = status?;
    released.map(|()| status)
}

/// The exit status that stands for SIGKILL.
const KILLED: u8 = 128 + SIGKILL as u8;

/// Told to the person too, since neither a payload that was killed nor an init that was, while it made the container,
/// can say why.
fn out_of_memory(leaf: &str) -> Error {
    let hint = "the kernel killed a process of it (oom_kill in memory.events): raise --memory";
    let max = file::read_text(file::CWD, &format!("{leaf}/memory.max"));
    let error = match max.trim_ascii_end() {
        "" | "max" => Error::usage(format_args!("the container hit the memory limit of a cgroup above its own"), hint),
        bytes => Error::usage(format_args!("the container hit its memory limit, {bytes} bytes"), hint),
    };
    error.with_status(KILLED)
}

/// The network could not be set up: because init had failed before, which it reports, or was killed, or for `error`.
fn first_cause(error: Error, status: &OwnedFd, leaf: &str, config: &Config) -> Error {
    let mut bytes = [0; 8];
    // Init sees the end of file instead of the byte that it waits for, and ends, so this does, too.
    let _ = shutdown(status, Shutdown::Write);
    let report = match recv(status, &mut bytes, RecvFlags::WAITALL) {
        Ok((_, 8)) => Report::from_bytes(bytes),
        _ => None,
    };
    match report {
        Some(report) if report.step != Step::Launcher => explain(report, config),
        _ if cgroup::oom_killed(leaf) => out_of_memory(leaf),
        _ => error,
    }
}

/// A cloned container.
pub struct Container {
    /// Its PID 1.
    pub pid: Pid,
    /// The same, for poll, signals and waiting.
    pub pidfd: OwnedFd,
    /// Our end of the status socket.
    pub status: OwnedFd,
}

/// Clones init into its namespaces and its leaf cgroup.
fn clone(config: &Config, leaf: &OwnedFd, init: &OwnedFd, plan: &OwnedFd) -> Result<Container> {
    let flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP;
    let flags = flags | if config.net == Net::Host { 0 } else { CLONE_NEWNET };
    let (status, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context(format_args!("socketpair"), "")?;
    let arguments = [inherited(plan)?, inherited(&theirs)?];
    let exec = sys::Exec {
        program: init.as_fd(),
        arguments: &[c"kontena-init", PLAN_ARGUMENT, &arguments[0], &arguments[1]],
        status: theirs.as_fd(),
        failure: Report { step: Step::ExecInit, index: 0, errno: 0 }.to_bytes(),
    };
    let (pid, pidfd) = sys::clone3_exec(u64::from(flags), leaf.as_fd(), &exec).map_err(|errno| {
        let hint = match errno {
            Errno::PERM => "kontena needs CAP_SYS_ADMIN: run it as root of the host, or of a container that may",
            Errno::NOSPC => "a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces",
            Errno::AGAIN => "a limit of processes is reached: raise --pids-limit or the caller's own",
            Errno::BUSY => "the cgroup cannot hold processes: choose another with --cgroup-parent",
            _ => "kontena needs Linux 5.15 or newer with all namespaces built in",
        };
        Error::new(format_args!("clone3 of the container"), errno, hint)
    })?;
    Ok(Container { pid, pidfd, status })
}

/// Leaves the fd open across the exec, and says its number: one of the two that init is to have.
fn inherited(fd: &OwnedFd) -> Result<CString> {
    rustix::io::fcntl_setfd(fd, FdFlags::empty()).context(format_args!("fcntl"), "")?;
    c_string(fd.as_raw_fd().to_string())
}

/// The init's program, which is the file `kontena-init` beside this one, in a memfd that nobody can change any more.
///
/// What a container could see of the host's programs is this copy, through /proc/1/exe: CVE-2019-5736.
fn seal_init() -> Result<OwnedFd> {
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

/// The Plan, in a memfd that nobody can change any more.
fn seal_plan(plan: &[u8]) -> Result<OwnedFd> {
    seal(c"kontena-plan", MemfdFlags::NOEXEC_SEAL, &|memfd| {
        let mut rest = plan;
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(memfd, rest)?..];
        }
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

/// What init reported, in words.
fn explain(report: Report, config: &Config) -> Error {
    let errno = Errno::from_raw_os_error(report.errno.clamp(1, 4095));
    let target = plan::mount_target(config, report.index);
    let (object, hint) = match report.step {
        Step::AttachRoot => (&*config.rootfs, "is it a directory that kontena may read?"),
        Step::Mount if errno == Errno::NODEV => (target, "the kernel lacks this file system"),
        Step::MountTarget => match errno {
            Errno::LOOP => (target, "the rootfs has a symbolic link in its way: put a directory there"),
            Errno::ROFS => (target, "the rootfs lacks this path, and is read-only: make it there"),
            Errno::NOTDIR | Errno::INVAL => {
                (target, "a directory goes on a directory, and a file on a file: look at what the rootfs has there")
            }
            _ => (target, ""),
        },
        Step::Mount | Step::Devices | Step::Mask | Step::Readonly => (target, ""),
        Step::Fork if errno == Errno::AGAIN => {
            (c"the payload", "the limit of processes was hit while starting: raise --pids-limit")
        }
        Step::UserUnknown => {
            (&*config.user, "give -u NAME|UID[:GROUP|GID], a name of the rootfs's /etc/passwd or a number")
        }
        Step::GroupUnknown => {
            (&*config.user, "give -u NAME|UID[:GROUP|GID], a name of the rootfs's /etc/group or a number")
        }
        Step::WorkingDirectory => (&*config.workdir, "give -w a directory of the rootfs that the user may enter"),
        Step::Exec => (
            config.command.first().map_or(c"", |command| command),
            match errno {
                Errno::NOENT if config.command_is_default => {
                    "no COMMAND was given, and the rootfs has no /bin/sh: name one"
                }
                Errno::NOENT => "not in the rootfs, or its interpreter is not: give a program of the rootfs",
                Errno::ACCESS => "not a program, or not one that the user may execute",
                Errno::NOEXEC => "not a program for this machine",
                _ => "",
            },
        ),
        _ => (c"", ""),
    };
    let separator = if object.is_empty() { "" } else { " " };
    let what = format_args!("{}{separator}{}", report.step.text(), object.to_string_lossy());
    let error = Error::new(what, errno, hint);
    match (report.step, errno) {
        (Step::Exec, Errno::NOENT | Errno::NOTDIR) => error.with_status(127),
        (Step::Exec, _) => error.with_status(126),
        _ => error,
    }
}
