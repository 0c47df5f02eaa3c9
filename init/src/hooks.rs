//! Hooks that run in the container: createContainer hooks still see the host's files, and startContainer hooks are
//! programs of the container; the OCI's runtime-spec, config.md, "POSIX-platform Hooks".
//!
//! A hook is a child of the init. Processes that it leaves behind are in the container's pid namespace, and end with it
//! if it is the container's own. A hook reads the state from a sealed memfd and writes to another memfd, so neither
//! side can block the other. Must not run a program of the container with more privileges than the payload has.

use core::ffi::{CStr, c_int};
use kontena_init::plan::{
    HOOK_ENDED, HOOK_KILLED, HOOK_OUTPUT, HOOK_TIMED_OUT, Hook, Hooks, ProcessSpec, Report, Step,
};
use linux_raw_sys::general::SIGKILL;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl, fstat, memfd_create};
use rustix::io::{Errno, Result, pread, pwrite};
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, PidfdFlags, WaitOptions, fchdir, getpid, pidfd_open, setsid, umask, waitpid};
use rustix::thread::CapabilitySet;

use crate::failure::{INIT_FAILED, fail, give_up};
use crate::payload::{Prepared, try_to_execute};
use crate::sys::{self, PassedOn};
use crate::{caps, text, user};

/// Hooks inherit only stdio.
const NONE: PassedOn = PassedOn { inherited: 0, wanted: 0, preserved: 0 };

/// Runs the createContainer hooks after everything has been mounted. Their working directory is the container's root,
/// and their paths are the host's.
pub fn before_pivot(hooks: &Hooks<'static>, root: &OwnedFd, launcher: &OwnedFd) -> core::result::Result<(), Report> {
    let ran = run(Step::CreateHook, hooks, launcher, &|index, hook| {
        let prepare = || {
            fchdir(root)?;
            umask(Mode::from_raw_mode(0o022));
            sys::reset_signals(sys::SIGNALS);
            sys::set_signal_mask(0);
            Ok((hook.path, sys::strings(hook.arguments, None)?, sys::strings(hook.environment, None)?, index))
        };
        let with = prepare().map_err(fail(Step::CreateHook, index))?;
        sys::go_on_without_fds(launcher, NONE, execute, with)
    });
    // The payload must not find privileged programs of the host beside it. In a shared pid namespace this would kill
    // processes of others.
    if !hooks.hooks.is_empty() && getpid() == Pid::INIT && sys::kill(-1, SIGKILL as c_int).is_ok() {
        while waitpid(None, WaitOptions::empty()).is_ok() {}
    }
    ran
}

/// Executes a createContainer hook; if that fails, reports why and exits.
fn execute(
    launcher: &OwnedFd,
    _: Result<()>,
    (path, arguments, environment, index): (&'static CStr, sys::Strings, sys::Strings, u16),
) -> c_int {
    give_up(launcher, fail(Step::CreateHook, index)(sys::execve(path, arguments, environment)))
}

/// Runs the startContainer hooks with the payload's user and privileges, before the payload's exec.
///
/// Until the exec, the init has all its capabilities and a socket to the launcher. So hooks never get CAP_SYS_PTRACE,
/// even if the payload has it: without it they cannot look into the init, which is not dumpable.
pub fn before_exec(
    hooks: &Hooks<'static>,
    process: &ProcessSpec<'static>,
    root: &OwnedFd,
    launcher: &OwnedFd,
) -> core::result::Result<(), Report> {
    run(Step::StartHook, hooks, launcher, &|index, hook| {
        let kept = !CapabilitySet::SYS_PTRACE.bits();
        let (capabilities, ambient) = (process.capabilities & kept, process.ambient & kept);
        let prepare = || {
            caps::bound(capabilities)?;
            sys::reset_signals(sys::SIGNALS);
            Ok((sys::strings(hook.arguments, None)?, sys::strings(hook.environment, None)?))
        };
        let (arguments, environment) = prepare().map_err(fail(Step::StartHook, index))?;
        let user = user::resolve(root, process.user, process.groups)?;
        let prepared = Prepared { user, program: Some(hook.path), arguments, environment, is_init: false };
        let process = ProcessSpec { capabilities, ambient, ..*process };
        sys::go_on_without_fds(launcher, NONE, execute_confined, (process, prepared, index))
    })
}

/// Executes a startContainer hook; if that fails, reports why and exits.
fn execute_confined(
    launcher: &OwnedFd,
    closed: Result<()>,
    (process, prepared, index): (ProcessSpec<'static>, Prepared, u16),
) -> c_int {
    let Err(report) = try_to_execute(launcher, closed, &process, prepared);
    give_up(launcher, Report { step: Step::StartHook, index, ..report })
}

/// Runs hooks one after the other, until one fails. A child calls `become_hook`, which returns only an error.
fn run(
    step: Step,
    hooks: &Hooks<'static>,
    launcher: &OwnedFd,
    become_hook: &dyn Fn(u16, Hook<'static>) -> core::result::Result<core::convert::Infallible, Report>,
) -> core::result::Result<(), Report> {
    for (index, hook) in (0..).zip(hooks.hooks.iter()) {
        let start = || {
            let (input, output) = (open_state(hooks.state)?, make_file(c"kontena-output")?);
            fcntl_setfl(&output, OFlags::APPEND)?;
            Ok((sys::fork(0)?, input, output))
        };
        let (child, input, output) = start().map_err(fail(step, index))?;
        let Some(child) = child else {
            let stdio = || {
                setsid()?;
                sys::become_stdio(&input, |fd| fd.as_raw_fd() == 0)?;
                sys::become_stdio(&output, |fd| fd.as_raw_fd() != 0)
            };
            let became = stdio().map_err(fail(step, index)).and_then(|()| become_hook(index, hook));
            sys::exit(became.map_or_else(|report| give_up(launcher, report), |_| INIT_FAILED));
        };
        let end = wait(child, hook.timeout).map_err(fail(step, index))?;
        if step == Step::CreateHook {
            // The rest of its session: without a pid namespace of the container's own, nothing else would end it.
            let _ = sys::kill(-child.as_raw_nonzero().get(), SIGKILL as c_int);
        }
        if end != HOOK_ENDED {
            // The first Report counts: if the hook could not be executed, its process has already sent one.
            let _ = tell(launcher, &output);
            return Err(Report { step, index, errno: end });
        }
    }
    Ok(())
}

/// A sealed file with the state and this process's pid, open at its beginning.
fn open_state(state: &CStr) -> Result<OwnedFd> {
    let file = make_file(c"kontena-state")?;
    let (mut at, mut digits) = (0, [0; 10]);
    let pid = text::decimal(getpid().as_raw_nonzero().get() as u32, &mut digits);
    for mut rest in [b"{\"pid\":" as &[u8], pid, b",", state.to_bytes()] {
        while !rest.is_empty() {
            let length = pwrite(&file, rest, at)?;
            (rest, at) = (&rest[length..], at + length as u64);
        }
    }
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}

fn make_file(name: &CStr) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3.
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    }
}

/// Waits for the end of a hook. After `timeout` seconds, kills it and the rest of its session.
fn wait(hook: Pid, timeout: u32) -> Result<c_int> {
    let (process, limit) = (pidfd_open(hook, PidfdFlags::empty())?, Timespec { tv_sec: timeout.into(), tv_nsec: 0 });
    let limit = Some(&limit).filter(|_| timeout > 0);
    let is_late = poll(&mut [PollFd::new(&process, PollFlags::IN)], limit)? == 0;
    if is_late {
        let pid = hook.as_raw_nonzero().get();
        for target in [-pid, pid] {
            let _ = sys::kill(target, SIGKILL as c_int);
        }
    }
    let (_, status) = waitpid(Some(hook), WaitOptions::empty())?.ok_or(Errno::CHILD)?;
    Ok(match (is_late, status.exit_status(), status.terminating_signal()) {
        (true, ..) => HOOK_TIMED_OUT,
        (_, Some(status), _) => HOOK_ENDED + status,
        (.., signal) => HOOK_KILLED + signal.unwrap_or(0),
    })
}

/// Sends the end of a hook's output to the launcher.
fn tell(launcher: &OwnedFd, output: &OwnedFd) -> Result<()> {
    let mut end = [0; HOOK_OUTPUT];
    let start = (fstat(output)?.st_size as u64).saturating_sub(HOOK_OUTPUT as u64);
    pread(output, &mut end, start)?;
    send(launcher, &end, SendFlags::NOSIGNAL).map(drop)
}
