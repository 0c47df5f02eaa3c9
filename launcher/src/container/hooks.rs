//! Hooks of a bundle that run on the host: prestart, createRuntime, poststart and poststop hooks; the OCI's
//! runtime-spec, config.md, "POSIX-platform Hooks".
//!
//! Each hook has a watcher process. It kills the hook and the hook's session after the timeout, and when this process
//! ends, even by SIGKILL. A hook reads the state from a sealed memfd and writes to another memfd, so hook and launcher
//! never block each other. Must not enter a namespace.

use crate::config::bundle::{Bundle, HOOKS, POSTSTART, POSTSTOP};
use crate::error::{Context, Error, Result};
use crate::file;
use crate::gather::Gather;
use crate::print;
use crate::spawn::clone::{self, seal};
use crate::spawn::explain::explain_hook;
use crate::state::handed_over::{self, describe};
use crate::supervise::message::words;
use crate::sys;
use kontena_init::plan::{HOOK_ENDED, HOOK_KILLED, HOOK_OUTPUT, HOOK_TIMED_OUT, Hook, HostHooks, List, decode};
use linux_raw_sys::general::SIGKILL;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl, fstat};
use rustix::io::{Errno, pread};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{
    Pid, Signal, WaitOptions, chdir, getpid, getppid, kill_process, kill_process_group,
    set_parent_process_death_signal, setsid, waitpid,
};
use std::ffi::CStr;

/// How often this process checks for signals that ask it to end.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Saves the poststart and poststop hooks for `start` and `delete`.
pub fn keep(bundle: &Bundle, directory: &OwnedFd) -> Result<()> {
    let [started, stopped] = [POSTSTART, POSTSTOP].map(|kind| List::Items(&bundle.hooks[kind]));
    if started.is_empty() && stopped.is_empty() {
        return Ok(());
    }
    let block = clone::encode(&HostHooks { directory: bundle.directory, started, stopped });
    let write = || {
        let file = file::open(directory, handed_over::HOOKS, OFlags::WRONLY | OFlags::CREATE)?;
        let written = rustix::io::write(&file, &block)?;
        if written == block.len() { Ok(()) } else { Err(Errno::NOSPC) }
    };
    write().context(format_args!("write the hooks of the container"), "free some space")
}

/// Reads the saved hooks from a container's directory. They stay in memory as long as this process.
pub fn kept(directory: &OwnedFd) -> Option<HostHooks<'static>> {
    let hooks = decode(file::read(directory, handed_over::HOOKS).ok()?.leak());
    if hooks.is_none() {
        print::print(2, "kontena: the hooks of this container do not run: another kontena has kept them\n");
    }
    hooks
}

/// Runs the poststart hooks, until one fails.
pub fn after_start(hooks: &HostHooks<'static>, state: &str) -> Result<()> {
    run(POSTSTART, hooks.started.iter(), state, hooks.directory, None, &mut Err)
}

/// Runs the poststop hooks of a deleted container. If one fails, prints a warning.
pub fn after_stop(hooks: &HostHooks<'static>, name: &str, fixed: &str) {
    let state = describe(name, "stopped", Some(0), None, fixed);
    let _ = run(POSTSTOP, hooks.stopped.iter(), &state, hooks.directory, None, &mut |error| {
        // Not to the engine's log: podman expects a single object there.
        print::print(2, &format!("kontena: {error}\n"));
        Ok(())
    });
}

/// Runs hooks one after the other. If one fails, `failed` decides whether the next one runs. All except poststop hooks
/// are killed if a signal asks this process to end, or if PID 1 ends; `init` is its pidfd.
pub fn run(
    kind: usize,
    hooks: impl Iterator<Item = Hook<'static>>,
    state: &str,
    directory: &'static CStr,
    init: Option<&OwnedFd>,
    failed: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<()> {
    for (index, hook) in hooks.enumerate() {
        let run = run_one(hook, open_state(state)?, directory, kind != POSTSTOP, init);
        let run = run.at(format_args!("run the hook {}[{index}] {}", HOOKS[kind], hook.path.to_string_lossy()));
        run.and_then(|(end, output)| match end {
            HOOK_ENDED => Ok(()),
            end => Err(explain_hook(HOOKS[kind], index, hook, end, &output)),
        })
        .or_else(&mut *failed)?;
    }
    Ok(())
}

/// Runs a hook to its end. Returns how it ended, as [`HOOK_ENDED`] and the like or an errno, and the end of its output.
fn run_one(
    hook: Hook<'static>,
    input: OwnedFd,
    bundle: &'static CStr,
    gives_up: bool,
    init: Option<&OwnedFd>,
) -> rustix::io::Result<(i32, String)> {
    let output = clone::memfd(c"kontena-output", MemfdFlags::NOEXEC_SEAL)?;
    fcntl_setfl(&output, OFlags::APPEND)?;
    let written = rustix::io::fcntl_dupfd_cloexec(&output, 3)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let watcher = sys::fork_apart(3, [theirs, input, written], watch, (hook, bundle))?;
    let mut end = [0; 4];
    let mut fds = vec![PollFd::new(&ours, PollFlags::IN)];
    fds.extend(init.map(|init| PollFd::new(init, PollFlags::IN)));
    let received = loop {
        match poll(&mut fds, Some(&MOMENT)) {
            Ok(0) | Err(Errno::INTR) if gives_up && sys::ending_signal().is_some() => break Err(Errno::INTR),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) if fds[0].revents().is_empty() => break Err(Errno::SRCH),
            Ok(_) => break recv(&ours, &mut end, RecvFlags::empty()),
            Err(errno) => break Err(errno),
        }
    };
    drop(fds);
    // Otherwise the watcher would wait for the end of the hook.
    drop(ours);
    let _ = rustix::io::retry_on_intr(|| waitpid(Some(watcher), WaitOptions::empty()));
    // Processes that the hook has left can write no more.
    let _ = fcntl_add_seals(&output, SealFlags::WRITE);
    match received? {
        (4, _) => Ok((i32::from_ne_bytes(end), tail(&output).unwrap_or_default())),
        // The watcher was killed.
        _ => Err(Errno::CHILD),
    }
}

/// A file with the state, open at its beginning.
fn open_state(state: &str) -> Result<OwnedFd> {
    seal(c"kontena-state", MemfdFlags::NOEXEC_SEAL, &|file| {
        let (mut rest, mut at) = (state.as_bytes(), 0);
        while !rest.is_empty() {
            let length = rustix::io::pwrite(file, rest, at)?;
            (rest, at) = (&rest[length..], at + length as u64);
        }
        Ok(())
    })
}

/// The end of a hook's output, on one line.
fn tail(output: &OwnedFd) -> rustix::io::Result<String> {
    let mut bytes = [0; HOOK_OUTPUT];
    let length = pread(output, &mut bytes, (fstat(output)?.st_size as u64).saturating_sub(HOOK_OUTPUT as u64))?;
    Ok(words(&bytes[..length]))
}

/// The watcher process: starts a hook, and reports how it ended.
fn watch([socket, input, output]: [OwnedFd; 3], (hook, bundle): (Hook<'static>, &'static CStr)) -> u8 {
    let watcher = getpid();
    let end = match sys::fork(0) {
        Ok(None) => execute(hook, bundle, [input, output], watcher).raw_os_error(),
        Ok(Some(process)) => watch_over(process, hook.timeout, &socket).unwrap_or_else(Errno::raw_os_error),
        Err(errno) => errno.raw_os_error(),
    };
    let _ = send(&socket, &end.to_ne_bytes(), SendFlags::NOSIGNAL);
    0
}

/// Executes a hook; returns only if that fails.
fn execute(hook: Hook<'static>, bundle: &CStr, [input, output]: [OwnedFd; 2], watcher: Pid) -> Errno {
    let prepare = || {
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The watcher may have ended before the prctl(2).
        if getppid() != Some(watcher) {
            return Err(Errno::SRCH);
        }
        [(&input, 0), (&output, 1), (&output, 2)]
            .into_iter()
            .try_for_each(|(fd, number)| sys::become_standard(fd, number))?;
        // An engine may have removed the bundle by the time of poststop.
        chdir(bundle).or_else(|_| chdir(c"/"))
    };
    match prepare() {
        Ok(()) => sys::become_program(hook.path, &hook.arguments.iter().list(), &hook.environment.iter().list()),
        Err(errno) => errno,
    }
}

/// Waits for the end of a hook; kills it after `timeout` seconds, or when the launcher has ended.
fn watch_over(hook: Pid, timeout: u32, socket: &OwnedFd) -> rustix::io::Result<i32> {
    let process = sys::pidfd(hook.as_raw_pid() as u32).ok_or(Errno::SRCH)?;
    let limit = Timespec { tv_sec: timeout.into(), tv_nsec: 0 };
    let mut both = [PollFd::new(&process, PollFlags::IN), PollFd::new(socket, PollFlags::empty())];
    poll(&mut both, Some(&limit).filter(|_| timeout > 0))?;
    let has_ended = both[0].revents().contains(PollFlags::IN);
    if !has_ended {
        let _ = kill_process_group(hook, Signal::KILL);
        let _ = kill_process(hook, Signal::KILL);
    }
    let (_, status) = rustix::io::retry_on_intr(|| waitpid(Some(hook), WaitOptions::empty()))?.ok_or(Errno::CHILD)?;
    Ok(match (has_ended, status.exit_status(), status.terminating_signal()) {
        (false, ..) => HOOK_TIMED_OUT,
        (_, Some(status), _) => HOOK_ENDED + status,
        (.., signal) => HOOK_KILLED + signal.unwrap_or(SIGKILL as i32),
    })
}
