//! kontena-init: PID 1 of a container. All of kontena that runs inside one, and the only thing of it that is ever seen
//! there.
//!
//! Five ways in, one binary: with a Plan from the launcher it makes the container, starts the payload in it and
//! supervises; with a Joining it starts a process in a container that runs, or makes sockets of its network; as any image's ENTRYPOINT, `kontena-init [-g] [--] CMD [ARG…]`, it starts CMD and supervises; as the
//! PID 1 of a machine, `kontena-init --boot CMD [ARG…]`, it makes the machine a host first.
//!
//! Must not touch the host, allocate, or panic.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::ffi::CStr;
use kontena_init::plan::{
    self, JOIN_ARGUMENT, Joining, PLAN_ARGUMENT, Plan, READY, Report, SOCKETS_ARGUMENT, Step, Wire,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, IntoRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, write};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{
    DumpableBehavior, Pid, Signal, getpid, set_dumpable_behavior, set_parent_process_death_signal, umask,
};
use rustix::system::sethostname;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces, set_name, set_no_new_privs};

use payload::Handshake;
use reap::{Target, kill_the_rest, supervise};
use sys::Strings;

mod boot;
mod caps;
mod dev;
mod mounts;
mod net;
mod payload;
mod reap;
mod seccomp;
#[allow(unsafe_code)]
mod sys;
mod terminal;
mod user;

/// The init's own exit status where the payload could not even be tried.
const INIT_FAILED: i32 = 125;

/// The whole life of the process.
fn start(mut arguments: Strings, environment: Strings) -> i32 {
    arguments.next();
    let mut rest = arguments;
    match rest.next() {
        Some(first) if first == PLAN_ARGUMENT => match (rest.next(), rest.next()) {
            (Some(plan), Some(status)) => run_plan(plan, status, contain, Target::Process),
            _ => usage(),
        },
        Some(first) if first == SOCKETS_ARGUMENT => match (rest.next(), rest.next()) {
            (Some(joining), Some(status)) => make_sockets(joining, status),
            _ => usage(),
        },
        Some(first) if first == JOIN_ARGUMENT => match (rest.next(), rest.next()) {
            (Some(joining), Some(status)) => run_plan(joining, status, join, Target::Joined),
            _ => usage(),
        },
        Some(first) if first == c"--boot" => boot::boot(rest, environment),
        _ => run_entrypoint(arguments, environment),
    }
}

/// Makes the container of the Plan, and is its PID 1, or joins one; or, in the process that it forks for it, becomes the
/// payload.
fn run_plan(plan: &CStr, status: &CStr, start: fn(OwnedFd, &OwnedFd) -> Result<Pid, Report>, target: Target) -> i32 {
    let (Some(plan_fd), Some(status)) = (sys::inherited_fd(plan), sys::inherited_fd(status)) else { return usage() };
    match start(plan_fd, &status) {
        Ok(payload) => {
            // The launcher reads the end of file as "the payload runs": its exec has closed the other copy.
            drop(status);
            let code = supervise(payload, target);
            kill_the_rest();
            code
        }
        Err(report) => {
            // The last thing this process does; nobody may be there to read it.
            let _ = send(&status, &report.to_bytes(), SendFlags::NOSIGNAL);
            match report.step {
                Step::Exec => payload::exec_failure_status(Errno::from_raw_os_error(report.errno)),
                _ => INIT_FAILED,
            }
        }
    }
}

/// The container, step by step. Comes back in PID 1 alone, with the payload's process.
///
/// Two processes share the work, since it is most of what a start costs: the payload's is forked as soon as there is a
/// root to mount on, and makes /proc while PID 1 makes the rest.
fn contain(plan_fd: OwnedFd, status: &OwnedFd) -> Result<Pid, Report> {
    guard(status, Some(Signal::KILL)).map_err(fail(Step::Guard, 0))?;
    let (plan, block): (Plan<'_>, _) = read_plan(plan_fd)?;

    let early_proc = mounts::make_early_proc(&plan)?;
    umask(Mode::empty());
    mounts::cut_off(plan.propagation).map_err(fail(Step::MakePrivate, 0))?;
    if mounts::is_initial_root() {
        mounts::leave_initial_root().map_err(fail(Step::PivotRoot, 0))?;
    }
    let (root, root_readonly) = mounts::attach_root(&plan)?;
    let dev = plan.mounts.iter().next().ok_or(Errno::INVAL).map_err(fail(Step::ReadPlan, 0))?;
    let (dev, empty) = mounts::mount_dev(&root, dev)?;
    let volumes_first = plan.mounts.len() + plan.proc.len();

    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(fail(Step::Handshake, 0))?;
    let Some(payload) = sys::fork().map_err(fail(Step::Fork, 0))? else {
        drop(ours);
        mounts::mount_proc(&root, &empty, &plan, early_proc)?;
        let handshake = Handshake { pid1: theirs, root_is_whole: plan.volumes.is_empty() };
        return Err(payload::become_payload(&plan.process, &root, Some(handshake), status));
    };
    drop((theirs, early_proc));
    // The payload's alone: who reads it is to see when that has closed it.
    drop(sys::inherited_fd(plan.process.notify));
    dev::populate(&dev, plan.files.iter()).map_err(fail(Step::Devices, 0))?;
    let hosts = mounts::open_hosts(&dev);
    mounts::mount_files(&root, &dev, plan.files)?;
    mounts::mount_all(&root, &empty, 0, plan.mounts, 1)?;
    if plan.loopback == 1 {
        net::bring_up_loopback().map_err(fail(Step::Loopback, 0))?;
    }
    sethostname(plan.hostname.to_bytes()).map_err(fail(Step::Hostname, 0))?;
    if !wait_for_byte(&ours).map_err(fail(Step::Handshake, 0))? {
        // It has failed, has told the launcher why, and is about to end.
        return Ok(payload);
    }
    let terminal = if plan.process.terminal == 1 {
        let slave = terminal::open(&root, &plan.process, status).map_err(fail(Step::Terminal, 0))?;
        terminal::mount_console(&dev, &slave).map_err(fail(Step::Terminal, 0))?;
        Some(slave)
    } else {
        None
    };
    mounts::mount_all(&root, &empty, volumes_first, plan.volumes, 0)?;
    for (index, device) in (0..).zip(plan.devices.iter()) {
        mounts::make_device(&root, &device).map_err(fail(Step::Device, index))?;
    }
    drop((dev, empty));
    if plan.root_readonly == 1 || root_readonly {
        mounts::make_root_readonly(&root).map_err(fail(Step::RootReadonly, 0))?;
    }
    // The payload's process, too, has the new root from here on; pivot_root(2).
    mounts::pivot_root(root).map_err(fail(Step::PivotRoot, 0))?;
    // The launcher's message: the network is ready. End of file: it died before the death signal was armed, or gave up.
    let mut message = [0; 256];
    match recv(status, &mut message, RecvFlags::empty()).map_err(fail(Step::Launcher, 0))? {
        (0, _) => return Err(fail(Step::Launcher, 0)(Errno::PIPE)),
        // The rest is for /etc/hosts, where there is one.
        (length, _) => hosts.map_or(Ok(0), |hosts| write(hosts, &message[1..length])).map_err(fail(Step::File, 0))?,
    };
    // Where it has failed meanwhile, it has told the launcher why: there is nothing to add.
    let _ = match &terminal {
        Some(slave) => terminal::send(&ours, &[READY], slave),
        None => send(&ours, &[READY], SendFlags::NOSIGNAL).map(drop),
    };
    // Open for the container's life: it is not hung up when all have closed it who are to open it again, by /dev/console say.
    terminal.map(IntoRawFd::into_raw_fd);

    // Nothing that is allocated is needed any more.
    sys::give_back(block);
    // From here on PID 1 only signals and reaps.
    set_no_new_privs(true).map_err(fail(Step::NoNewPrivs, 0))?;
    caps::limit(caps::KILL).map_err(fail(Step::Capabilities, 0))?;
    Ok(payload)
}

/// `false` for the end of file.
fn wait_for_byte(socket: &OwnedFd) -> rustix::io::Result<bool> {
    recv(socket, &mut [0u8; 1], RecvFlags::empty()).map(|(length, _)| length == 1)
}

/// Joins a container that runs, and starts a process in it. Comes back beside the container, where its processes do not see
/// this one, with the process.
fn join(plan_fd: OwnedFd, status: &OwnedFd) -> Result<Pid, Report> {
    let (joining, _): (Joining<'_>, _) = read_plan(plan_fd)?;
    let on_launchers_death = if joining.detached == 1 { None } else { Some(reap::END) };
    guard(status, on_launchers_death).map_err(fail(Step::Guard, 0))?;
    let init = sys::inherited_fd(joining.init).ok_or(Errno::BADF).map_err(fail(Step::Join, 0))?;
    let namespaces = ThreadNameSpaceType::from_bits_retain(joining.namespaces as u32);
    move_into_thread_name_spaces(init.as_fd(), namespaces).map_err(fail(Step::Join, 0))?;
    drop(init);
    // Before those of the container can see a process of this program: one that may trace others takes what it has.
    payload::confine(&joining.process)?;
    let needed = joining.process.capabilities | caps::BECOME | caps::KILL;
    caps::limit_further(needed).map_err(fail(Step::Capabilities, 0))?;
    let Some(process) = sys::fork().map_err(fail(Step::Fork, 0))? else {
        // That is the first one. It has no fd of the host's but the status socket, and they can look into it no more than into
        // PID 1.
        let root = openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.map_err(fail(Step::Join, 0))?;
        return Err(payload::become_payload(&joining.process, &root, None, status));
    };
    // As PID 1: this process lives beside the container, where it has to do with nothing but the one that it has started.
    set_no_new_privs(true).map_err(fail(Step::NoNewPrivs, 0))?;
    caps::limit(caps::KILL).map_err(fail(Step::Capabilities, 0))?;
    Ok(process)
}

/// Makes sockets in the network of a container, as long as the launcher asks for them.
fn make_sockets(plan: &CStr, launcher: &CStr) -> i32 {
    let (Some(plan), Some(launcher)) = (sys::inherited_fd(plan), sys::inherited_fd(launcher)) else { return usage() };
    let enter = || -> Result<(), Report> {
        guard(&launcher, Some(Signal::KILL)).map_err(fail(Step::Guard, 0))?;
        let (joining, _): (Joining<'_>, _) = read_plan(plan)?;
        let init = sys::inherited_fd(joining.init).ok_or(Errno::BADF).map_err(fail(Step::Join, 0))?;
        let namespaces = ThreadNameSpaceType::from_bits_retain(joining.namespaces as u32);
        move_into_thread_name_spaces(init.as_fd(), namespaces).map_err(fail(Step::Join, 0))?;
        caps::limit(0).map_err(fail(Step::Capabilities, 0))
    };
    if let Err(report) = enter() {
        let _ = send(&launcher, &report.to_bytes(), SendFlags::NOSIGNAL);
        return INIT_FAILED;
    }
    net::make_sockets(&launcher);
    0
}

/// What the launcher wants, in place for the life of this process; and the block that it stands in.
fn read_plan<T: Wire<'static>>(fd: OwnedFd) -> Result<(T, &'static [u8]), Report> {
    let block = sys::read_whole(fd, usize::MAX).map_err(fail(Step::ReadPlan, 0))?;
    let plan = plan::decode(block).ok_or(Errno::INVAL).map_err(fail(Step::ReadPlan, 0))?;
    Ok((plan, block))
}

/// Dies with the launcher, or gets this signal then; cannot be looked into by the payload, and gets no signal that it does
/// not ask for.
fn guard(status: &OwnedFd, on_launchers_death: Option<Signal>) -> rustix::io::Result<()> {
    sys::set_signal_mask(u64::MAX);
    // The kernel calls a program that was executed from a memfd after that.
    set_name(c"kontena-init")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_parent_process_death_signal(on_launchers_death)?;
    // Dead before that, it sends no signal; whatever it has written before, its end of the socket is closed by then.
    let mut launcher = [PollFd::new(status, PollFlags::empty())];
    poll(&mut launcher, Some(&Timespec::default()))?;
    if launcher[0].revents().contains(PollFlags::HUP) {
        return Err(Errno::PIPE);
    }
    rustix::process::setsid().map(drop)
}

/// Turns an errno into the report of a step.
fn fail(step: Step, index: u16) -> impl FnOnce(Errno) -> Report {
    move |errno| Report { step, index, errno: errno.raw_os_error() }
}

/// `kontena-init [-g] [--] CMD [ARG…]`: PID 1 for somebody else's container.
fn run_entrypoint(mut arguments: Strings, environment: Strings) -> i32 {
    let mut target = Target::Process;
    let mut command = arguments;
    while let Some(argument) = command.next() {
        match argument.to_bytes() {
            b"-g" => target = Target::Group,
            b"--" => {
                arguments = command;
                break;
            }
            [b'-', ..] => return usage(),
            _ => break,
        }
        arguments = command;
    }
    if { arguments }.next().is_none() {
        return usage();
    }

    let mask = sys::set_signal_mask(u64::MAX);
    if getpid() != Pid::INIT {
        // Orphans of the payload come here instead of to the machine's init. Any pid switches it on; prctl(2).
        let _ = rustix::process::set_child_subreaper(Some(Pid::INIT));
    }
    match sys::fork() {
        Ok(None) => {
            // A group of its own, in the foreground where there is a terminal, so that Ctrl-C reaches it once.
            let _ = rustix::process::setpgid(None, None);
            let _ = sys::set_foreground_group(getpid());
            sys::set_signal_mask(mask);
            execute(arguments, environment)
        }
        Ok(Some(payload)) => {
            let code = supervise(payload, target);
            kill_the_rest();
            code
        }
        Err(_) => {
            complain(&[b"cannot fork: no process or no memory is left"]);
            INIT_FAILED
        }
    }
}

/// Becomes CMD, or says why not and gives the exit status for it.
fn execute(command: Strings, environment: Strings) -> i32 {
    let errno = payload::exec(command, environment);
    complain(&[b"cannot execute ", { command }.next().unwrap_or_default().to_bytes()]);
    payload::exec_failure_status(errno)
}

fn usage() -> i32 {
    complain(&[b"usage: kontena-init [-g] [--] CMD [ARG...]\n\
        Runs CMD, forwards signals to it (-g: to its process group), reaps orphans, exits with its status.\n\
        kontena-init --boot CMD [ARG...]: the same as a machine's first process, and then switches it off."]);
    INIT_FAILED
}

fn complain(parts: &[&[u8]]) {
    let [_, _, stderr] = sys::stdio();
    for part in [b"kontena-init: " as &[u8]].iter().chain(parts).chain(&[b"\n" as &[u8]]) {
        let _ = write(stderr, part);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(INIT_FAILED)
}
