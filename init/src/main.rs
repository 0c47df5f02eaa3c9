//! kontena-init: PID 1 of a container. All of kontena that runs inside one, and the only thing of it that is ever seen
//! there.
//!
//! Five ways in, one binary: with a Plan from the launcher it makes the container, starts the payload in it and
//! supervises; with a Joining it starts a process in a running container, or makes sockets of its network; as any
//! image's ENTRYPOINT, `kontena-init [-g] [--] CMD [ARG…]`, it starts CMD and supervises; as the PID 1 of a machine,
//! `kontena-init --boot CMD [ARG…]`, it makes the machine a host first.
//!
//! Must not touch the host, allocate, or panic.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::ffi::CStr;
use kontena_init::plan::{self, JOIN_ARGUMENT, PLAN_ARGUMENT, Report, SOCKETS_ARGUMENT, Step, Wire};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::Pid;

use failure::{INIT_FAILED, fail, give_up};
use reap::{Target, kill_the_rest, supervise};
use sys::{Block, Strings};

mod accounts;
mod attributes;
mod boot;
mod caps;
mod contain;
mod dev;
mod entrypoint;
mod failure;
mod guard;
#[cfg(feature = "oci")]
mod handover;
#[cfg(feature = "oci")]
mod hooks;
mod join;
#[cfg(feature = "oci")]
mod listener;
mod mounts;
mod net;
mod payload;
mod proc;
mod reap;
mod root;
mod seccomp;
#[allow(unsafe_code)]
mod sys;
mod terminal;
mod text;
mod tree;
mod user;

/// The whole life of the process.
fn start(mut arguments: Strings, environment: Strings) -> i32 {
    arguments.next();
    let mut rest = arguments;
    match rest.next() {
        Some(first) if first == PLAN_ARGUMENT => run(rest, contain::contain, Target::Process),
        Some(first) if first == JOIN_ARGUMENT => run(rest, join::join, Target::Joined),
        Some(first) if first == SOCKETS_ARGUMENT => match inherited_pair(rest) {
            Some((joining, launcher)) => {
                join::serve_sockets(joining, &launcher).map_or_else(|report| give_up(&launcher, report), |()| 0)
            }
            None => entrypoint::usage(),
        },
        Some(first) if first == c"--boot" => boot::boot(rest, environment),
        _ => entrypoint::run(arguments, environment),
    }
}

/// A process that was forked for the payload.
struct Child {
    process: Pid,
    /// This end of the socket to it, which closes when nothing of the launcher's is left in this process.
    handshake: Option<OwnedFd>,
}

/// Starts the payload, and is its PID 1, or what stands for that beside a container; or, in the process that is forked
/// for it, becomes the payload.
fn run(arguments: Strings, start: fn(OwnedFd, &OwnedFd) -> Result<Child, Report>, target: Target) -> i32 {
    let Some((plan, status)) = inherited_pair(arguments) else { return entrypoint::usage() };
    match start(plan, &status) {
        Ok(Child { process, handshake }) => {
            // The launcher reads the end of file as "the payload runs": its exec has closed the other copy.
            drop(status);
            drop(handshake);
            let code = supervise(process, target);
            kill_the_rest();
            code
        }
        Err(report) => give_up(&status, report),
    }
}

/// The inherited fds of the Plan and of the status socket, which the arguments name.
fn inherited_pair(mut arguments: Strings) -> Option<(OwnedFd, OwnedFd)> {
    let mut fd = || sys::inherited_fd(text::number(arguments.next().map(CStr::to_bytes)?)?);
    Some((fd()?, fd()?))
}

/// The Plan, in memory.
fn read_block(fd: OwnedFd) -> Result<Block, Report> {
    Block::read(fd).map_err(fail(Step::ReadPlan, 0))
}

fn decode<'a, T: Wire<'a>>(block: &'a [u8]) -> Result<T, Report> {
    plan::decode(block).ok_or(Errno::INVAL).map_err(fail(Step::ReadPlan, 0))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(INIT_FAILED)
}
