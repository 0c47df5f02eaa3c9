//! `kontena run`: from the Config to a running payload, and back to a host as it was.
//!
//! Reads from top to bottom in the order in which things are taken. All that can be refused is refused before the
//! clone; after it, init makes the mounts while the network is wired here. What is taken is in the journal first, so
//! that an error, the end of the payload and a SIGKILL of this process all end the same way.

use crate::config::{Config, Net, c_string};
use crate::error::{Context, Error, Result};
use crate::plan::{self, Tree};
use crate::state::{Entry, Root};
use crate::stats::{self, Stats};
use crate::supervise::{Signals, supervise};
use crate::userns::{self, Maps};
use crate::{cgroup, devices, file, names, net, process, root, sys};
use kontena_init::plan::{PLAN_ARGUMENT, READY, Report, Step};
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
    // An ordinary user, or uid 0 without privileges, is root in a user namespace alone.
    let is_root = crate::is_privileged();
    let net = choose_net(config, is_root)?;
    sys::close_inherited_fds_on_exec().context(format_args!("close_range"), "kontena needs Linux 5.15 or newer")?;
    let signals = Signals::block()?;
    plan::check(config)?;
    let rootfs = root::find(config)?;
    let leaf = cgroup::Leaf::find(config, is_root)?;
    let init_program = seal_init()?;
    let reservations = net::reserve(&config.publish)?;

    let mut root = Root::open(state)?;
    root.starting()?;
    let mut journal = root.create(&config.name)?;
    let record = |what: &str| root.record_shared(&format!("cgroup {what}"));
    let (mut unmeasured, mut start) = (Vec::new(), None);
    let started = Maps::find(config.userns.as_ref(), is_root, &mut journal).and_then(|maps| {
        let mut directory = None;
        if let Some(leaf) = &leaf {
            journal.record(Entry::Cgroup(leaf.path.clone()))?;
            let made = leaf.create(config, &record)?;
            if is_root {
                devices::confine(&made, &config.devices, config.capabilities)?;
            }
            if config.stats.is_some() {
                (unmeasured, start) = (stats::prepare(leaf, &record), Some(sys::monotonic_microseconds()));
            }
            directory = Some(made);
        }
        clone(config, net, rootfs, maps, &signals, directory.as_ref(), &init_program)
    });
    drop(init_program);
    let path = leaf.as_ref().map(|leaf| &*leaf.path);
    let (mut table, mut swept) = (None, false);
    let status = started.and_then(|container| {
        let mut ready = vec![READY];
        if net == Net::Bridge {
            for publish in &config.publish {
                journal.record(Entry::Publish(*publish))?;
            }
            let connected = net::connect(config, &root, &mut journal, container.pid, &container.pidfd)
                .map_err(|error| first_cause(error, &container.status, path, config))?;
            ready.extend(names::hosts_line(config, connected.address).bytes());
            table = connected.table;
        }
        root.started();
        let _ = rustix::io::write(&container.status, &ready);
        let ended = supervise(container, &signals, || swept = root.sweep().is_ok())?;
        if let (Some(format), Some(start), Some(path)) = (config.stats, start, path) {
            let stats = Stats::read(path);
            let elapsed = sys::monotonic_microseconds() - start;
            crate::print(2, &stats.print(format, &config.name, elapsed, &unmeasured));
        }
        match (ended.report, path) {
            (Some(report), _) => Err(explain(report, config)),
            (None, Some(path)) if ended.status == KILLED && cgroup::oom_killed(path) => Err(out_of_memory(path)),
            (None, _) => Ok(ended.status),
        }
    });
    // On failure too: by now the container's processes are dead or dying.
    let released = journal.release(table);
    if let Some(leaf) = &leaf {
        leaf.return_launcher();
    }
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

/// The network that the container gets: an ordinary user's has nothing but loopback, unless it is told otherwise.
fn choose_net(config: &Config, is_root: bool) -> Result<Net> {
    let net = config.net.unwrap_or(if is_root { Net::Bridge } else { Net::None });
    if net == Net::Bridge && !is_root {
        let hint = "linking it to the host takes root: give --net none or host, or run kontena with sudo";
        return Err(Error::usage(format_args!("--net bridge"), hint));
    }
    if net != Net::Bridge && !config.publish.is_empty() {
        return Err(Error::usage(
            format_args!("--publish"),
            "a port can be published with --net bridge alone, as root",
        ));
    }
    Ok(net)
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
fn first_cause(error: Error, status: &OwnedFd, leaf: Option<&str>, config: &Config) -> Error {
    let mut bytes = [0; 8];
    // Init sees the end of file instead of the byte that it waits for, and ends, so this does, too.
    let _ = shutdown(status, Shutdown::Write);
    let report = match recv(status, &mut bytes, RecvFlags::WAITALL) {
        Ok((_, 8)) => Report::from_bytes(bytes),
        _ => None,
    };
    match (report, leaf) {
        (Some(report), _) if report.step != Step::Launcher => explain(report, config),
        (_, Some(leaf)) if cgroup::oom_killed(leaf) => out_of_memory(leaf),
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

/// Clones init into its namespaces and its leaf cgroup, and gives it the ids and the trees that only the host's root can.
fn clone(
    config: &Config,
    net: Net,
    (rootfs, owner): (root::Root, u32),
    maps: Option<Maps>,
    signals: &Signals,
    leaf: Option<&OwnedFd>,
    init: &OwnedFd,
) -> Result<Container> {
    let (mut trees, mut fds) = (Vec::new(), Vec::new());
    let mut inherit = |volume: Option<usize>, tree: OwnedFd, idmap| -> Result<()> {
        trees.push(Tree { volume, fd: inherited(&tree)? });
        fds.push((volume, tree, idmap));
        Ok(())
    };
    let copy = |path: &CStr| {
        root::copy_tree(path).context(format_args!("open_tree {}", path.to_string_lossy()), "it takes CAP_SYS_ADMIN")
    };
    // A root whose files are the container's already is shown as it is.
    let idmap = maps.as_ref().is_some_and(|maps| !maps.has_owner(owner));
    match rootfs {
        root::Root::Image(mounted) => inherit(None, mounted, idmap)?,
        root::Root::Directory if idmap => inherit(None, copy(&config.rootfs)?, true)?,
        root::Root::Directory => {}
    }
    for (index, volume) in config.volumes.iter().enumerate().filter(|(_, volume)| volume.idmap) {
        if !crate::is_privileged() || maps.is_none() {
            let hint = "idmap is for root and a user namespace: give --userns auto, or leave it out";
            return Err(Error::usage(format_args!("--volume …:{}:idmap", volume.target.to_string_lossy()), hint));
        }
        inherit(Some(index), copy(volume.source.as_deref().unwrap_or_default())?, true)?;
    }
    let plan = seal_plan(&plan::encode(config, net, &trees, maps.as_ref(), signals.original_mask())?)?;

    let flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP;
    let flags = flags | if net == Net::Host { 0 } else { CLONE_NEWNET };
    let flags = flags | maps.as_ref().map_or(0, |_| CLONE_NEWUSER);
    let (status, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context(format_args!("socketpair"), "")?;
    let arguments = [inherited(&plan)?, inherited(&theirs)?];
    let exec = sys::Exec {
        program: init.as_fd(),
        arguments: &[c"kontena-init", PLAN_ARGUMENT, &arguments[0], &arguments[1]],
        status: theirs.as_fd(),
        failure: Report { step: Step::ExecInit, index: 0, errno: 0 }.to_bytes(),
        waits: maps.as_ref().map(|_| status.as_fd()),
    };
    let (pid, pidfd) = sys::clone3_exec(u64::from(flags), leaf.map(AsFd::as_fd), &exec).map_err(|errno| {
        let hint = match errno {
            Errno::PERM | Errno::NOSPC | Errno::INVAL if maps.is_some() => &*userns::why_refused(errno),
            Errno::PERM => "kontena needs CAP_SYS_ADMIN: run it as root of the host, or of a container that may",
            Errno::NOSPC => "a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces",
            Errno::AGAIN => "a limit of processes is reached: raise --pids-limit or the caller's own",
            Errno::BUSY => "the cgroup cannot hold processes: choose another with --cgroup-parent",
            _ => "kontena needs Linux 5.15 or newer with all namespaces built in",
        };
        Error::new(format_args!("clone3 of the container"), errno, hint)
    })?;
    if let Some(maps) = maps {
        maps.own_pipes();
        maps.write(pid)?;
        for (volume, tree, _) in fds.iter().filter(|(_, _, idmap)| *idmap) {
            let source = volume.and_then(|index| config.volumes[index].source.as_deref());
            userns::show_to(pid, tree, &source.unwrap_or(&config.rootfs).to_string_lossy())?;
        }
        let _ = rustix::io::write(&status, &[READY]);
    }
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
    let (rlimit, userns_hint);
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
        Step::Device => (
            config.devices.get(usize::from(report.index)).map_or(c"", |device| &*device.target),
            if errno == Errno::EXIST {
                "the rootfs, or another option, has something there: give another target"
            } else {
                ""
            },
        ),
        Step::File => (c"over /etc/hosts, /etc/hostname or /etc/resolv.conf", ""),
        Step::Overlay if errno == Errno::NODEV => (
            &*config.rootfs,
            "the kernel lacks overlayfs, which --overlay and a read-only rootfs without all mountpoints need",
        ),
        Step::Overlay => {
            (&*config.rootfs, "the layer must be on a file system that overlayfs can write to: not on another overlay")
        }
        Step::Setting => {
            let sysctl = config.sysctls.get(usize::from(report.index));
            let is_next = usize::from(report.index) == config.sysctls.len();
            return match (sysctl, config.oom_score_adj.filter(|_| is_next)) {
                (Some(sysctl), _) => {
                    let hint = "the kernel has no such sysctl for a container, or takes no such value";
                    Error::new(format_args!("--sysctl {sysctl}"), errno, hint)
                }
                (None, Some(score)) => {
                    let hint = "lowering it takes CAP_SYS_RESOURCE: run kontena as root";
                    Error::new(format_args!("--oom-score-adj {score}"), errno, hint)
                }
                (None, None) => Error::new(format_args!("set the sysctl net.ipv4.ping_group_range"), errno, ""),
            };
        }
        Step::Rlimit => {
            rlimit = process::rlimit_name(
                config.rlimits.get(usize::from(report.index)).map_or(u32::MAX, |limit| limit.resource),
            );
            return Error::new(format_args!("set the ulimit {rlimit}"), errno, "more than the caller itself may have");
        }
        Step::SetUser if errno == Errno::INVAL || errno == Errno::PERM => (
            &*config.user,
            "the user or one of its groups is not in the container's user namespace: give --userns more ids",
        ),
        Step::MakePrivate if config.userns.is_some() || !crate::is_privileged() => {
            userns_hint = userns::why_refused(errno);
            (c"", &*userns_hint)
        }
        Step::GroupUnknown if report.index > 0 => (
            config.groups.get(usize::from(report.index) - 1).map_or(c"", |group| group),
            "give --group-add a name of the rootfs's /etc/group or a number",
        ),
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
