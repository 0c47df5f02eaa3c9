//! kontena-init: PID 1 of a container. All of kontena that runs inside one, and the only thing of it that is ever seen
//! there.
//!
//! Two ways in, one binary: with a Plan from the launcher it makes the container, starts the payload in it and
//! supervises; as any image's ENTRYPOINT, `kontena-init [-g] [--] CMD [ARG…]`, it starts CMD and supervises.
//!
//! Must not touch the host, allocate, or panic.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::ffi::CStr;
use kontena_init::plan::{PLAN_ARGUMENT, Plan, Report, Step};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{DumpableBehavior, Pid, Signal, getpid, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::set_no_new_privs;

use reap::{Target, kill_the_rest, supervise};
use sys::Strings;

mod caps;
mod dev;
mod mounts;
mod payload;
mod reap;
#[allow(unsafe_code)]
mod sys;
mod user;

/// The init's own exit status where the payload could not even be tried.
const INIT_FAILED: i32 = 125;

/// The whole life of the process.
fn start(mut arguments: Strings, environment: Strings) -> i32 {
    arguments.next();
    let mut rest = arguments.clone();
    match rest.next() {
        Some(first) if first == PLAN_ARGUMENT => match (rest.next(), rest.next()) {
            (Some(plan), Some(status)) => run_plan(plan, status),
            _ => usage(),
        },
        _ => run_entrypoint(arguments, environment),
    }
}

/// Makes the container of the Plan, and is its PID 1.
fn run_plan(plan: &CStr, status: &CStr) -> i32 {
    let (Some(plan_fd), Some(status)) = (sys::inherited_fd(plan), sys::inherited_fd(status)) else {
        return usage();
    };
    match contain(plan_fd, &status) {
        Ok((payload, None)) => {
            // The launcher reads the end of file as "the payload runs".
            drop(status);
            let code = supervise(payload, Target::Process);
            kill_the_rest();
            code
        }
        Ok((_, Some(plan))) => {
            let Ok(status) = sys::close_all_but(status) else {
                return INIT_FAILED;
            };
            let report = payload::become_payload(&plan);
            tell(status, report);
            match report.step {
                Step::Exec => payload::exec_failure_status(Errno::from_raw_os_error(report.errno)),
                _ => INIT_FAILED,
            }
        }
        Err(report) => {
            tell(&status, report);
            INIT_FAILED
        }
    }
}

/// The container, step by step. Comes back twice: in PID 1 with the payload's pid, and in the payload's process with
/// the Plan it is to carry out.
fn contain(plan_fd: OwnedFd, status: &OwnedFd) -> Result<(Pid, Option<Plan<'static>>), Report> {
    guard().map_err(fail(Step::Guard, 0))?;
    let block = sys::map_sealed(plan_fd).map_err(fail(Step::ReadPlan, 0))?;
    let plan = Plan::decode(block).ok_or(Errno::INVAL).map_err(fail(Step::ReadPlan, 0))?;

    rustix::process::umask(rustix::fs::Mode::empty());
    mounts::make_private().map_err(fail(Step::MakePrivate, 0))?;
    let root = mounts::attach_root(plan.root).map_err(fail(Step::AttachRoot, 0))?;
    let mut empty = None;
    for (index, mount) in (0..).zip(plan.mounts.iter()) {
        mounts::mount(&root, index, mount, &mut empty)?;
    }
    drop(empty);
    if plan.root_readonly == 1 {
        mounts::make_root_readonly(&root).map_err(fail(Step::RootReadonly, 0))?;
    }
    mounts::pivot_root(root).map_err(fail(Step::PivotRoot, 0))?;
    rustix::system::sethostname(plan.hostname.to_bytes()).map_err(fail(Step::Hostname, 0))?;
    wait_for_launcher(status).map_err(fail(Step::Launcher, 0))?;

    match sys::fork().map_err(fail(Step::Fork, 0))? {
        None => Ok((Pid::INIT, Some(plan))),
        Some(payload) => {
            // From here on PID 1 only signals and reaps. The payload is past its reach: it has its own copy.
            set_no_new_privs(true).map_err(fail(Step::NoNewPrivs, 0))?;
            caps::limit(caps::KILL).map_err(fail(Step::Capabilities, 0))?;
            Ok((payload, None))
        }
    }
}

/// Dies with the launcher, cannot be looked into by the payload, and gets no signal it does not ask for.
fn guard() -> rustix::io::Result<()> {
    sys::set_signal_mask(u64::MAX);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::setsid().map(drop)
}

/// Waits for the launcher's byte: the network is ready. End of file means that the launcher died before the
/// death signal was armed, or gave up.
fn wait_for_launcher(status: &OwnedFd) -> rustix::io::Result<()> {
    match recv(status, &mut [0u8; 1], RecvFlags::empty())? {
        (1, _) => Ok(()),
        _ => Err(Errno::PIPE),
    }
}

/// Sends the report, the last thing this process does; nobody may be there to read it.
fn tell(status: impl rustix::fd::AsFd, report: Report) {
    let _ = send(status, &report.to_bytes(), SendFlags::NOSIGNAL);
}

/// Turns an errno into the report of a step.
fn fail(step: Step, index: u16) -> impl FnOnce(Errno) -> Report {
    move |errno| Report { step, index, errno: errno.raw_os_error() }
}

/// `kontena-init [-g] [--] CMD [ARG…]`: PID 1 for somebody else's container.
fn run_entrypoint(mut arguments: Strings, environment: Strings) -> i32 {
    let mut target = Target::Process;
    let mut command = arguments.clone();
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
        arguments = command.clone();
    }
    if arguments.clone().next().is_none() {
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
            let errno = payload::exec(arguments, environment);
            complain(&[b"cannot execute ", arguments.clone().next().unwrap_or_default().to_bytes()]);
            payload::exec_failure_status(errno)
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

fn usage() -> i32 {
    complain(&[b"usage: kontena-init [-g] [--] CMD [ARG...]\n\
        Runs CMD, forwards signals to it (-g: to its process group), reaps orphans, exits with its status."]);
    INIT_FAILED
}

fn complain(parts: &[&[u8]]) {
    for part in [b"kontena-init: " as &[u8]].iter().chain(parts).chain(&[b"\n" as &[u8]]) {
        let _ = write(sys::stderr(), part);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(INIT_FAILED)
}
