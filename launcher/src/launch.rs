//! `kontena run`: from the Config to a running payload, and back to a host as it was.
//!
//! Reads from top to bottom in the order in which things are taken. All that can be refused is refused before the
//! clone; after it, init makes the mounts while the network is wired here. What is taken is in the journal first, so
//! that an error, the end of the payload and a SIGKILL of this process all end the same way.

use crate::config::{Config, Net};
use crate::error::{Context, Error, Result};
use crate::plan::{self, Encoded};
use crate::state::{Entry, Root};
use crate::supervise::{Signals, supervise};
use crate::{cgroup, net, sys};
use kontena_init::plan::{PLAN_ARGUMENT, Report, Step};
use linux_raw_sys::general::*;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;
use std::ffi::{CStr, CString};
use std::path::Path;

/// Runs the container, and gives the payload's exit status.
pub fn run(state: &Path, config: &Config) -> Result<u8> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::usage("not root", "namespaces, cgroups and links need it: run kontena with sudo"));
    }
    sys::close_inherited_fds_on_exec().context(|| "close_range".into(), "kontena needs Linux 5.15 or newer")?;
    let signals = Signals::block()?;
    let plan = plan::encode(config, signals.original_mask())?;
    let leaf_path = cgroup::leaf_path(&config.cgroup_parent, &config.name)?;
    let init_program = seal(c"kontena-init", &read_init()?, true)?;
    let plan_fd = seal(c"kontena-plan", &plan.bytes, false)?;
    let reservations = net::reserve(&config.publish)?;

    let root = Root::open(state)?;
    root.starting()?;
    let journal = root.create(&config.name)?;
    let started = (|| {
        journal.record(&Entry::Cgroup(leaf_path.clone()))?;
        if let Some(parent) = leaf_path.parent() {
            root.record_shared(&format!("cgroup {}", parent.display()))?;
        }
        let leaf = cgroup::create(&leaf_path, &config.limits)?;
        clone(config, &leaf, &init_program, &plan_fd)
    })();
    drop((init_program, plan_fd));
    let mut table = None;
    let status = started.and_then(|container| {
        for publish in &config.publish {
            journal.record(&Entry::Publish(*publish))?;
        }
        // On an error init sees the end of file instead of the byte, and gives up.
        table = net::connect(config, &root, &journal, container.pid, &container.pidfd)?;
        root.started();
        let _ = rustix::io::write(&container.status, &[1]);
        let ended = supervise(container, &signals, || drop(root.sweep()))?;
        ended.report.map_or(Ok(ended.status), |report| Err(explain(report, config, &plan)))
    });
    // On failure too: by now the container's processes are dead or dying.
    let released = journal.release(table);
    drop(reservations);
    let status = status?;
    released.map(|()| status)
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
        .context(|| "socketpair".into(), "")?;
    let inherited = |fd: &OwnedFd| {
        // The one kind of fd that init is to have.
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).context(|| "fcntl".into(), "")?;
        CString::new(fd.as_raw_fd().to_string()).map_err(|_| Error::usage("an fd's number", ""))
    };
    let arguments = [inherited(plan)?, inherited(&theirs)?];
    let exec = sys::Exec {
        program: init.as_fd(),
        arguments: &[c"kontena-init", PLAN_ARGUMENT, &arguments[0], &arguments[1]],
        status: theirs.as_fd(),
        failure: Report { step: Step::ExecInit, index: 0, errno: 0 }.to_bytes(),
    };
    let (pid, pidfd) = sys::clone3_exec(u64::from(flags), leaf.as_fd(), &exec).map_err(|errno| {
        Error::new(
            "clone3 of the container",
            errno,
            match errno {
                Errno::PERM => "kontena needs CAP_SYS_ADMIN: run it as root of the host, or of a container that may",
                Errno::NOSPC => "a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces",
                Errno::AGAIN => "a limit of processes is reached: raise --pids-limit or the caller's own",
                Errno::BUSY => "the cgroup cannot hold processes: choose another with --cgroup-parent",
                _ => "kontena needs Linux 5.15 or newer with all namespaces built in",
            },
        )
    })?;
    Ok(Container { pid, pidfd, status })
}

/// The init's program, which is the file `kontena-init` beside this one.
fn read_init() -> Result<Vec<u8>> {
    let ours = std::env::current_exe().context(|| "find kontena's own path".into(), "mount /proc")?;
    let path = ours.with_file_name("kontena-init");
    std::fs::read(&path).context(|| format!("read {}", path.display()), "install kontena and kontena-init side by side")
}

/// A memfd with these bytes that nobody can change any more.
///
/// What a container could see of the host's programs is this copy, through /proc/1/exe: CVE-2019-5736.
fn seal(name: &CStr, bytes: &[u8], executable: bool) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let kind = if executable { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    let memfd = match memfd_create(name, flags | kind) {
        // Linux before 6.3 does not know the difference.
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    };
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let memfd = memfd.context(|| format!("memfd_create {}", name.to_string_lossy()), "")?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&memfd, rest);
        let written = written.context(|| format!("write {}", name.to_string_lossy()), "not enough memory")?;
        rest = rest.get(written..).unwrap_or_default();
    }
    fcntl_add_seals(&memfd, seals).context(|| format!("seal {}", name.to_string_lossy()), "")?;
    Ok(memfd)
}

/// What init reported, in words.
fn explain(report: Report, config: &Config, plan: &Encoded) -> Error {
    let errno = Errno::from_raw_os_error(report.errno);
    let target = plan.targets.get(usize::from(report.index)).map_or("", String::as_str);
    let command = config.command.first().map(|command| command.to_string_lossy()).unwrap_or_default();
    let step = report.step.text();
    let (object, hint) = match report.step {
        Step::AttachRoot => (config.rootfs.display().to_string(), "is it a directory that kontena may read?"),
        Step::Mount if errno == Errno::NODEV => (target.into(), "the kernel lacks this file system"),
        Step::MountTarget if errno == Errno::LOOP => {
            (target.into(), "the rootfs has a symbolic link in its way: put a directory there")
        }
        Step::MountTarget if errno == Errno::ROFS => {
            (target.into(), "the rootfs lacks this path, and is read-only: make it there")
        }
        Step::MountTarget if errno == Errno::NOTDIR => {
            (target.into(), "a directory goes on a directory, and a file on a file: look at what the rootfs has there")
        }
        Step::Mount | Step::MountTarget | Step::Devices | Step::Mask | Step::Readonly => (target.into(), ""),
        Step::Fork if errno == Errno::AGAIN => {
            ("the payload".into(), "the limit of processes was hit while starting: raise --pids-limit")
        }
        Step::UserUnknown => (
            format!("\"{}\"", config.user),
            "give -u NAME|UID[:GROUP|GID], a name of the rootfs's /etc/passwd or a number",
        ),
        Step::GroupUnknown => (
            format!("\"{}\"", config.user),
            "give -u NAME|UID[:GROUP|GID], a name of the rootfs's /etc/group or a number",
        ),
        Step::WorkingDirectory => (config.workdir.clone(), "give -w a directory of the rootfs that the user may enter"),
        Step::Exec => (
            command.into_owned(),
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
        _ => (String::new(), ""),
    };
    let what = if object.is_empty() { step.to_owned() } else { format!("{step} {object}") };
    let mut error = Error::new(what, errno, hint);
    if report.step == Step::Exec {
        error.status = if matches!(errno, Errno::NOENT | Errno::NOTDIR) { 127 } else { 126 };
    }
    error
}
