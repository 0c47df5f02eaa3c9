//! The payload's process, from fork to exec: session, limits, user, capabilities, system calls, working directory.
//!
//! Everything here runs in the child and gives something up, in the order in which it can still be given up. Must not
//! return once the exec has worked, and must leave no fd open but stdio and the status socket, which exec closes.

use core::convert::Infallible;
use core::ffi::CStr;
use kontena_init::plan::{Process, Report, Rlimit, Step};
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{chdir, setsid, umask};
use rustix::thread::set_no_new_privs;

use crate::sys::{self, Strings};
use crate::user::{self, User};
use crate::{INIT_FAILED, caps, fail, seccomp, terminal};

/// Where a command without a slash is looked for when the environment has no PATH; execvp(3).
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the payload's process and PID 1 have to do with each other, while they make the container side by side.
pub struct Handshake {
    /// The socket to PID 1.
    pub pid1: OwnedFd,
    /// Whether the container's /etc/passwd is there already: no volume can bring another one.
    pub root_is_whole: bool,
}

/// Becomes the process in the container of `root`: its payload, when PID 1 says so, or one that joins it. What comes back is
/// why not.
pub fn become_payload(
    process: &Process<'static>,
    root: &OwnedFd,
    handshake: Option<Handshake>,
    status: &OwnedFd,
) -> Report {
    let Err(report) = try_to_become(process, root, handshake, status);
    report
}

fn try_to_become(
    process: &Process<'static>,
    root: &OwnedFd,
    handshake: Option<Handshake>,
    status: &OwnedFd,
) -> Result<Infallible, Report> {
    // PID 1 goes on with volumes and pivot_root(2), and meanwhile this is done.
    if handshake.as_ref().is_some_and(|handshake| send(&handshake.pid1, &[1], SendFlags::NOSIGNAL).is_err()) {
        sys::exit(INIT_FAILED);
    }
    setsid().map_err(fail(Step::Session, 0))?;
    let mut terminal = None;
    if handshake.is_none() && process.terminal == 1 {
        terminal = Some(terminal::open(root, process, status).map_err(fail(Step::Terminal, 0))?);
    }
    if handshake.is_some() {
        confine(process)?;
    }
    let root_is_whole = handshake.as_ref().is_none_or(|handshake| handshake.root_is_whole);
    let prepared = if root_is_whole { Some(prepare(process, root)?) } else { None };
    if let Some(Handshake { pid1, .. }) = handshake {
        match terminal::receive(&pid1) {
            Ok(Some(slave)) => terminal = slave,
            // PID 1 has failed, and tells the launcher why.
            _ => sys::exit(INIT_FAILED),
        }
    }
    let (user, argv, env) = match prepared {
        Some(prepared) => prepared,
        None => prepare(process, root)?,
    };
    if let Some(slave) = &terminal {
        terminal::control(slave, user.uid).map_err(fail(Step::Terminal, 0))?;
    }

    // The root is the container's. Everything of the host that is still open goes before anything in here is entered.
    sys::close_all_but(status, process.notify, process.notify_as).map_err(fail(Step::Notify, 0))?;
    for (index, Rlimit { resource, soft, hard }) in (0..).zip(process.rlimits.iter()) {
        sys::set_rlimit(resource, soft, hard).map_err(fail(Step::Rlimit, index))?;
    }
    user.own_pipes().map_err(fail(Step::SetUser, 0))?;
    if process.no_new_privs == 1 {
        set_no_new_privs(true).map_err(fail(Step::NoNewPrivs, 0))?;
    }
    let capabilities = if user.uid == 0 { process.capabilities } else { process.ambient };
    if user.uid != 0 && capabilities != 0 {
        caps::keep().map_err(fail(Step::Capabilities, 0))?;
    }
    user.switch().map_err(fail(Step::SetUser, 0))?;
    let limit = if user.uid == 0 { caps::limit } else { caps::limit_ambient };
    limit(capabilities).map_err(fail(Step::Capabilities, 0))?;
    umask(Mode::from_raw_mode(process.umask));
    // As the payload's user: it cannot start in a directory that it may not enter, nor in one outside of the root
    // (CVE-2024-21626).
    chdir(process.cwd).map_err(fail(Step::WorkingDirectory, 0))?;
    if !sys::cwd_is_inside_root() {
        return Err(fail(Step::WorkingDirectory, 0)(Errno::PERM));
    }
    // The launcher's language had it ignored, before the launcher could look what its caller had.
    sys::restore_sigpipe();
    sys::set_signal_mask(process.signal_mask);
    Err(fail(Step::Exec, 0)(exec(argv, env)))
}

/// Gives up for good what the process must not have, as long as CAP_SYS_ADMIN is still there, which the filter takes where
/// no_new_privs is not wanted. All that is done from here on, the process may do, too.
pub fn confine(process: &Process<'static>) -> Result<(), Report> {
    caps::bound(process.capabilities).map_err(fail(Step::Capabilities, 0))?;
    match process.seccomp {
        1 => seccomp::install(process.capabilities).map_err(fail(Step::Seccomp, 0)),
        _ => Ok(()),
    }
}

/// Who the payload is to be, and what it is given.
fn prepare(process: &Process<'static>, root: &OwnedFd) -> Result<(User, Strings, Strings), Report> {
    let user = user::resolve(root, process.user, process.groups)?;
    let has_home = process.env.iter().any(|variable| variable.to_bytes().starts_with(b"HOME="));
    let home =
        if has_home { None } else { Some(sys::concatenate([b"HOME=", user.home]).map_err(fail(Step::Exec, 0))?) };
    let argv = sys::strings(process.argv.iter()).map_err(fail(Step::Exec, 0))?;
    let env = sys::strings(process.env.iter().chain(home)).map_err(fail(Step::Exec, 0))?;
    Ok((user, argv, env))
}

/// execvp(3): replaces this process by the command of `arguments`, or says why not. Where several directories of PATH
/// have it, the first that can be executed counts; where none can, EACCES is worth more than ENOENT.
pub fn exec(arguments: Strings, environment: Strings) -> Errno {
    let Some(command) = { arguments }.next() else {
        return Errno::INVAL;
    };
    if command.to_bytes().contains(&b'/') {
        return sys::execve(command, arguments, environment);
    }
    let path = { environment }.find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let mut found = Errno::NOENT;
    for directory in path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':') {
        match join(&mut [0; 4096], directory, command).map(|path| sys::execve(path, arguments, environment)) {
            Some(Errno::NOENT | Errno::NOTDIR) | None => {}
            Some(Errno::ACCESS) => found = Errno::ACCESS,
            Some(errno) => return errno,
        }
    }
    found
}

fn join<'a>(buffer: &'a mut [u8; 4096], directory: &[u8], name: &CStr) -> Option<&'a CStr> {
    let directory = if directory.is_empty() { b"." } else { directory };
    let end = directory.len() + 1 + name.to_bytes_with_nul().len();
    buffer.get_mut(..directory.len())?.copy_from_slice(directory);
    *buffer.get_mut(directory.len())? = b'/';
    buffer.get_mut(directory.len() + 1..end)?.copy_from_slice(name.to_bytes_with_nul());
    CStr::from_bytes_with_nul(buffer.get(..end)?).ok()
}

/// The exit status that tells why the payload could not be executed, as the shell has it.
pub fn exec_failure_status(errno: Errno) -> i32 {
    if matches!(errno, Errno::NOENT | Errno::NOTDIR) { 127 } else { 126 }
}
