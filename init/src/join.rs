//! A process that joins a running container, for `kontena exec`; and one that makes sockets in its network.
//!
//! Must not leave anything of the host's within reach of the container's processes.

use kontena_init::filter;
use kontena_init::plan::{Joining, ProcessSpec, READY, Report, Step};
use kontena_init::signals::END;
use linux_raw_sys::general::CLONE_VFORK;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, Result, write};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces, set_no_new_privs};

use crate::failure::fail;
use crate::guard::{DIE, guard};
use crate::{Child, attributes, caps, decode, dev, net, payload, read_block, root, sys, terminal};

/// Joins a running container, and starts a process in it. Returns beside the container, whose processes do not see this
/// one.
pub fn join(plan_fd: OwnedFd, status: &OwnedFd) -> core::result::Result<Child, Report> {
    let joining = decode::<Joining<'_>>(read_block(plan_fd)?.keep());
    let joining = joining.as_ref().map_err(|report| *report)?;
    let is_detached = joining.detached != 0;
    guard(status, if is_detached { 0 } else { END }).map_err(fail(Step::Guard, 0))?;
    enter(joining).map_err(fail(Step::Join, 0))?;
    let root = root::open().map_err(fail(Step::Join, 0))?;
    leave_hosts_null(&root).map_err(fail(Step::Join, 0))?;
    let socket = sys::inherited_fd(joining.terminal);
    // Before those of the container can see a process of this program: one that may trace others takes what it has.
    payload::confine(&joining.process, true)?;
    #[cfg(feature = "oci")]
    crate::listener::install_and_send(&joining.process, socket.as_ref())?;
    let needed = joining.process.capabilities | attributes::needed(&joining.process) | caps::BECOME | caps::KILL;
    caps::limit_further(needed).map_err(fail(Step::Capabilities, 0))?;
    let open = |socket| terminal::open(&root, &joining.process, &socket);
    let socket = socket.filter(|_| joining.process.terminal != 0);
    let terminal = socket.map(open).transpose().map_err(fail(Step::Terminal, 0))?;
    // A pipe that closes with its exec tells of that only as long as nobody holds a copy: in there somebody may who
    // traces it.
    let Some(process) = sys::fork(if is_detached { CLONE_VFORK } else { 0 }).map_err(fail(Step::Fork, 0))? else {
        // That is the first one. It has no fd of the host's but the status pipe, and they can look into it no more than
        // into PID 1.
        let process = ProcessSpec { seccomp: filter::NONE, ..joining.process };
        return Err(payload::become_payload(&process, &root, None, terminal, status));
    };
    // The process's alone: their readers must see when it has closed them.
    sys::drop_preserved(joining.process.preserved).map_err(fail(Step::Notify, 0))?;
    #[cfg(feature = "oci")]
    if joining.detached == 2 {
        // This process ends, so that the caller's ancestor adopts that one, and takes its exit status.
        let pid = Report { step: Step::Fork, index: 1, errno: process.as_raw_pid() };
        let _ = write(status, &pid.to_bytes());
        sys::exit(0);
    }
    if is_detached {
        let _ = write(status, &[READY]);
    }
    // As PID 1: this process is beside the container, where it has to do with nothing but the process that it has
    // started.
    set_no_new_privs(true).map_err(fail(Step::NoNewPrivs, 0))?;
    caps::limit(caps::KILL).map_err(fail(Step::Capabilities, 0))?;
    Ok(Child { process, handshake: None })
}

/// Enters the namespaces of a running container.
#[inline(never)]
fn enter(joining: &Joining<'_>) -> Result<()> {
    let init = sys::inherited_fd(joining.init).ok_or(Errno::BADF)?;
    move_into_thread_name_spaces(init.as_fd(), ThreadNameSpaceType::from_bits_retain(joining.namespaces as u32))
}

/// Puts the container's null device in the place of the host's, where that is stdio.
fn leave_hosts_null(root: &OwnedFd) -> Result<()> {
    if !dev::has_null() {
        return Ok(());
    }
    match dev::open_null(root).or_else(|_| dev::make_null()).and_then(|null| dev::replace_null(&null)) {
        // A user namespace without a null device keeps the host's, which nobody in it may change.
        Err(Errno::PERM) => Ok(()),
        replaced => replaced,
    }
}

/// Makes sockets in the network of a container, as long as the launcher asks for them.
pub fn serve_sockets(plan_fd: OwnedFd, launcher: &OwnedFd) -> core::result::Result<(), Report> {
    guard(launcher, DIE).map_err(fail(Step::Guard, 0))?;
    let joining = decode::<Joining<'_>>(read_block(plan_fd)?.keep());
    enter(joining.as_ref().map_err(|report| *report)?).map_err(fail(Step::Join, 0))?;
    caps::limit(0).map_err(fail(Step::Capabilities, 0))?;
    net::make_sockets(launcher);
    Ok(())
}
