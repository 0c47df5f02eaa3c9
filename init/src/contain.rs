//! A container in the making, step by step: from the Plan to a payload that may begin.
//!
//! Two processes share the work, since it is most of what a start costs: the payload's is forked as soon as there is a
//! root to mount on, and makes /proc and `lo` while PID 1 makes the rest. If the payload must be PID 1, one process
//! does all of it, and becomes the payload.

use core::convert::Infallible;
#[cfg(feature = "oci")]
use core::ffi::CStr;
#[cfg(feature = "oci")]
use kontena_init::plan::{Bundled, WHOLE};
use kontena_init::plan::{Plan, READY, Report, Step};
use rustix::fd::{IntoRawFd, OwnedFd};
use rustix::fs::Mode;
#[cfg(feature = "oci")]
use rustix::fs::ResolveFlags;
use rustix::io::{self, Errno};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::umask;
use rustix::system::sethostname;
use rustix::thread::set_no_new_privs;

use crate::dev::Empty;
use crate::failure::fail;
use crate::guard::{DIE, guard};
#[cfg(feature = "oci")]
use crate::handover::await_start;
#[cfg(feature = "oci")]
use crate::hooks::before_pivot;
use crate::payload::{Handshake, become_payload, confine};
use crate::root::Root;
#[cfg(feature = "oci")]
use crate::tree::make_target;
use crate::{Child, caps, decode, dev, mounts, net, proc, read_block, root, sys, terminal};

/// Makes the container of a Plan. Returns in PID 1 alone, with the payload's process, unless PID 1 is that.
pub fn contain(plan_fd: OwnedFd, status: &OwnedFd) -> Result<Child, Report> {
    guard(status, DIE).map_err(fail(Step::Guard, 0))?;
    let block = read_block(plan_fd)?;
    let plan = decode::<Plan<'_>>(block.bytes());
    let plan = plan.as_ref().map_err(|report| *report)?;

    let early_proc = proc::make_early(plan)?;
    umask(Mode::empty());
    root::leave_host(plan)?;
    let mut root = root::attach(plan)?;
    let (dev, empty) = mounts::mount_dev(&mut root, plan)?;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(fail(Step::Handshake, 0))?;
    if plan.init == 0 {
        make_proc(plan, &root.tree, &empty, early_proc, &theirs)?;
        furnish(plan, &root.tree, &dev, &empty, status)?;
        let plan = decode::<Plan<'_>>(block.keep())?;
        return Err(become_pid1(&plan, root, dev, empty, status));
    }
    let Some(process) = sys::fork(0).map_err(fail(Step::Fork, 0))? else {
        drop(ours);
        make_proc(plan, &root.tree, &empty, early_proc, &theirs)?;
        let handshake = Handshake { pid1: theirs, root_is_whole: plan.volumes.is_empty() };
        let plan = decode::<Plan<'_>>(block.keep());
        let process = &plan.as_ref().map_err(|report| *report)?.process;
        return Err(become_payload(process, &root.tree, Some(handshake), None, status));
    };
    drop((theirs, early_proc));
    // The payload's alone: their readers must see when the payload has closed them.
    drop(sys::inherited_fd(plan.process.notify));
    sys::drop_preserved(plan.process.preserved).map_err(fail(Step::Notify, 0))?;

    furnish(plan, &root.tree, &dev, &empty, status)?;
    if !wait_for_byte(&ours).map_err(fail(Step::Handshake, 0))? {
        // It has failed, has told the launcher why, and is about to end.
        return Ok(Child { process, handshake: None });
    }
    let terminal = complete(plan, root, dev, empty, status)?;
    // From here on PID 1 only signals and reaps.
    set_no_new_privs(true).map_err(fail(Step::NoNewPrivs, 0))?;
    caps::limit(caps::KILL).map_err(fail(Step::Capabilities, 0))?;
    release_payload(&ours, terminal);

    block.give_back();
    Ok(Child { process, handshake: Some(ours) })
}

/// Completes the container, and becomes the payload, as PID 1. What comes back is why not.
fn become_pid1(plan: &Plan<'static>, root: Root, dev: OwnedFd, empty: Empty, status: &OwnedFd) -> Report {
    let execute = || -> Result<Infallible, Report> {
        let terminal = mount_rest(plan, &root.tree, dev, empty, status)?;
        #[cfg(feature = "oci")]
        if let Some(bundle) = plan.bundle.get().filter(|_| plan.has_create_hooks()) {
            send(status, &[WHOLE], SendFlags::NOSIGNAL).map_err(fail(Step::Launcher, 0))?;
            await_launcher(status)?;
            before_pivot(&bundle.create_hooks, &root.tree, status)?;
        }
        enter(plan, root, status)?;
        let (process, root) = (plan.process, root::open().map_err(fail(Step::PivotRoot, 0))?);
        #[cfg(feature = "oci")]
        if let Some(bundle) = plan.bundle.get()
            && let Some(listener) = sys::inherited_fd(bundle.start)
        {
            return await_start(&process, &bundle.start_hooks, &root, terminal, &listener, status);
        }
        confine(&process, false)?;
        Err(become_payload(&process, &root, None, terminal, status))
    };
    let Err(report) = execute();
    report
}

/// /proc, and `lo` if nothing else is in the container's network, which is that of `socket`.
fn make_proc(
    plan: &Plan<'_>,
    root: &OwnedFd,
    empty: &Empty,
    early: Option<OwnedFd>,
    socket: &OwnedFd,
) -> Result<(), Report> {
    proc::mount(root, empty, plan, early)?;
    if plan.loopback == 1 {
        net::bring_up_loopback(socket).map_err(fail(Step::Loopback, 0))?;
    }
    Ok(())
}

/// What every container has beside its root, /dev and /proc.
fn furnish(plan: &Plan<'_>, root: &OwnedFd, dev: &OwnedFd, empty: &Empty, status: &OwnedFd) -> Result<(), Report> {
    if plan.has_dev() {
        dev::populate(dev, plan.files.iter()).map_err(fail(Step::Devices, plan.dev.id))?;
    }
    mounts::pass_on_hosts(dev, plan.files, status)?;
    mounts::mount_files(root, dev, plan.files)?;
    mounts::mount_all(root, empty, plan.mounts)?;
    if plan.hostname.is_empty() {
        return Ok(());
    }
    sethostname(plan.hostname.to_bytes()).map_err(fail(Step::Hostname, 0))
}

/// The terminal, and all that was asked for; then the container has its root, the payload's process, too, and the
/// network is ready. Returns the payload's terminal.
fn complete(
    plan: &Plan<'_>,
    root: Root,
    dev: OwnedFd,
    empty: Empty,
    status: &OwnedFd,
) -> Result<Option<OwnedFd>, Report> {
    let terminal = mount_rest(plan, &root.tree, dev, empty, status)?;
    enter(plan, root, status).map(|()| terminal)
}

/// The terminal, and all that was asked for. Returns the payload's terminal.
fn mount_rest(
    plan: &Plan<'_>,
    root: &OwnedFd,
    dev: OwnedFd,
    empty: Empty,
    status: &OwnedFd,
) -> Result<Option<OwnedFd>, Report> {
    let terminal = make_terminal(plan, root, &dev, status)?;
    mount_requested(plan, root, dev, &empty)?;
    #[cfg(feature = "oci")]
    if let Some(bundle) = plan.bundle.get() {
        finish_bundle(bundle, plan.process.cwd, root, &empty)?;
    }
    Ok(terminal)
}

/// Makes `root`, which is attached, the root of all processes of the container, and waits until its network is ready.
fn enter(plan: &Plan<'_>, Root { tree: root, stays_readonly, .. }: Root, status: &OwnedFd) -> Result<(), Report> {
    let has_hooks = plan.has_create_hooks();
    if plan.root_readonly == 1 || stays_readonly {
        root::make_readonly(&root).map_err(fail(Step::RootReadonly, 0))?;
    }
    // Of all processes in the mount namespace; pivot_root(2).
    root::pivot(root, plan.bundle.get().is_some() && !has_hooks).map_err(fail(Step::PivotRoot, 0))?;
    if let Some(bundle) = plan.bundle.get() {
        root::propagate(bundle.propagation).map_err(fail(Step::PivotRoot, 0))?;
    }
    // Hooks have waited for the launcher already.
    if has_hooks { Ok(()) } else { await_launcher(status) }
}

/// The payload's terminal, where it gets one, on /dev/console.
fn make_terminal(plan: &Plan<'_>, root: &OwnedFd, dev: &OwnedFd, status: &OwnedFd) -> Result<Option<OwnedFd>, Report> {
    if plan.process.terminal == 0 {
        return Ok(None);
    }
    let make = || -> io::Result<OwnedFd> {
        let slave = terminal::open(root, &plan.process, status)?;
        if plan.has_dev() {
            terminal::mount_console(dev, &slave)?;
        } else {
            mounts::mount_console(root, &slave)?;
        }
        Ok(slave)
    };
    make().map(Some).map_err(fail(Step::Terminal, 0))
}

/// What was asked for: volumes and devices.
fn mount_requested(plan: &Plan<'_>, root: &OwnedFd, dev: OwnedFd, empty: &Empty) -> Result<(), Report> {
    mounts::mount_all(root, empty, plan.volumes)?;
    for (index, device) in (0..).zip(plan.devices.iter()) {
        mounts::make_device(root, &dev, &device).map_err(fail(Step::Device, index))?;
    }
    Ok(())
}

/// What a bundle says of its mounts as a whole. The working directory is made where it is missing; if it cannot be,
/// entering it says so.
#[cfg(feature = "oci")]
fn finish_bundle(bundle: &Bundled<'_>, cwd: &CStr, root: &OwnedFd, empty: &Empty) -> Result<(), Report> {
    let _ = make_target(root, true, cwd, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
    mounts::mount_all(root, empty, bundle.last)?;
    mounts::cover_all(root, empty, bundle)
}

/// `false` for the end of file.
fn wait_for_byte(socket: &OwnedFd) -> io::Result<bool> {
    recv(socket, &mut [0u8; 1], RecvFlags::empty()).map(|(length, _)| length == 1)
}

/// Waits for the launcher's message that the network is ready, and its hooks have run.
fn await_launcher(status: &OwnedFd) -> Result<(), Report> {
    match wait_for_byte(status).map_err(fail(Step::Launcher, 0))? {
        true => Ok(()),
        // The launcher died before the death signal was armed, or gave up.
        false => Err(fail(Step::Launcher, 0)(Errno::PIPE)),
    }
}

/// Tells the payload's process that the container is whole. Where it has failed meanwhile, it has told the launcher
/// why: there is nothing to add.
fn release_payload(ours: &OwnedFd, terminal: Option<OwnedFd>) {
    let _ = match &terminal {
        Some(slave) => sys::send_fd(ours, &[READY], slave),
        None => send(ours, &[READY], SendFlags::NOSIGNAL).map(drop),
    };
    // Open for the container's life: it does not hang up when all have closed it who will open it again, by
    // /dev/console say.
    terminal.map(IntoRawFd::into_raw_fd);
}
