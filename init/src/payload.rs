//! The payload's process, from fork to exec: session, limits, user, capabilities, system calls, working directory.
//!
//! Everything here runs in the child and gives something up, in the order in which it can still be given up. Must not
//! return once the exec has worked, and must leave no fd open but stdio and the status socket, which exec closes.

use core::convert::Infallible;
use core::ffi::{CStr, c_int};
use kontena_init::filter;
use kontena_init::plan::{ProcessSpec, Report, Rlimit, Step};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, getxattr};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{chdir, setsid, umask};
use rustix::thread::{no_new_privs, set_no_new_privs};

use crate::attributes;
use crate::caps::Sets;
use crate::failure::{INIT_FAILED, fail, give_up};
use crate::guard::{DIE, end_with_launcher};
#[cfg(feature = "oci")]
use crate::listener;
use crate::sys::{self, PassedOn, Received, Strings};
use crate::user::{self, User};
use crate::{caps, seccomp, terminal, text};

/// Where a command without a slash is looked for when the environment has no PATH; execvp(3).
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the payload's process and PID 1 have to do with each other, while they make the container side by side.
pub struct Handshake {
    /// The socket to PID 1.
    pub pid1: OwnedFd,
    /// Whether the container's /etc/passwd is there already: no volume can bring another one.
    pub root_is_whole: bool,
}

/// Becomes the process in the container of `root`: its payload, when PID 1 says so; or one that joins it or is its PID
/// 1, which is confined already and whose `terminal` is there already. What comes back is why not.
pub fn become_payload(
    process: &ProcessSpec<'static>,
    root: &OwnedFd,
    handshake: Option<Handshake>,
    terminal: Option<OwnedFd>,
    status: &OwnedFd,
) -> Report {
    let Err(report) = try_to_become(process, root, handshake, terminal, status);
    report
}

fn try_to_become(
    process: &ProcessSpec<'static>,
    root: &OwnedFd,
    handshake: Option<Handshake>,
    mut terminal: Option<OwnedFd>,
    status: &OwnedFd,
) -> Result<Infallible, Report> {
    // PID 1 goes on with volumes and pivot_root(2), and meanwhile this is done.
    if handshake.as_ref().is_some_and(|handshake| send(&handshake.pid1, &[1], SendFlags::NOSIGNAL).is_err()) {
        sys::exit(INIT_FAILED);
    }
    // The init leads a session since it was guarded. It need not be PID 1: the pid namespace may be another's.
    let is_init = sys::leads_session();
    let has_joined = filter::MAY_PRETEND && !is_init && handshake.is_none();
    if !is_init {
        setsid().map_err(fail(Step::Session, 0))?;
    }
    sys::reset_signals(sys::SIGNALS);
    if handshake.is_some() {
        confine(process, false)?;
    }
    let root_is_whole = handshake.as_ref().is_none_or(|handshake| handshake.root_is_whole);
    let prepared = if root_is_whole { Some(prepare(process, root)?) } else { None };
    if let Some(Handshake { pid1, .. }) = handshake {
        terminal = await_pid1(&pid1);
    }
    let prepared = match prepared {
        Some(prepared) => prepared,
        None => prepare(process, root)?,
    };
    let prepared = Prepared { is_init, ..prepared };
    if let Some(slave) = &terminal {
        terminal::control(slave, prepared.user.uid).map_err(fail(Step::Terminal, 0))?;
    }

    attributes::label(process, root)?;
    // The root is the container's. Everything of the host that is still open goes before anything in here is entered.
    let ProcessSpec { notify: inherited, notify_as: wanted, preserved, .. } = *process;
    if has_joined && !process.filter.is_empty() {
        // Its filter may refuse even close_range(2), and all of its fds are close-on-exec.
        sys::exit(execute(status, Ok(()), (*process, prepared)));
    }
    sys::go_on_without_fds(status, PassedOn { inherited, wanted, preserved }, execute, (*process, prepared))
}

/// Waits until PID 1 has made the rest of the container; returns the payload's terminal, where it gets one.
fn await_pid1(pid1: &OwnedFd) -> Option<OwnedFd> {
    let terminal = match sys::receive(pid1) {
        Ok(Received::Fd(slave)) => Some(slave),
        Ok(Received::Byte) => None,
        // PID 1 has failed, and tells the launcher why.
        Ok(Received::End) | Err(_) => sys::exit(INIT_FAILED),
    };
    // The end of file comes when PID 1 has closed all that it had of the launcher's: with CAP_SYS_PTRACE, the payload
    // can take fds from it.
    let _ = sys::receive(pid1);
    terminal
}

/// The end of it, in which no fd of the host's is open. Returns an exit status where it fails.
fn execute(
    status: &OwnedFd,
    closed: rustix::io::Result<()>,
    (process, prepared): (ProcessSpec<'static>, Prepared),
) -> c_int {
    let Err(report) = try_to_execute(status, closed, &process, prepared);
    give_up(status, report)
}

pub fn try_to_execute(
    status: &OwnedFd,
    closed: rustix::io::Result<()>,
    process: &ProcessSpec<'static>,
    Prepared { user, program, arguments, environment, is_init }: Prepared,
) -> Result<Infallible, Report> {
    closed.map_err(fail(Step::Notify, 0))?;
    attributes::schedule(process)?;
    for (index, Rlimit { resource, soft, hard }) in (0..).zip(process.rlimits.iter()) {
        sys::set_rlimit(resource, soft, hard).map_err(fail(Step::Rlimit, index))?;
    }
    user.own_pipes().map_err(fail(Step::SetUser, 0))?;
    if process.no_new_privs == 1 {
        set_no_new_privs(true).map_err(fail(Step::NoNewPrivs, 0))?;
        // A filter can pretend that it was set.
        if filter::MAY_PRETEND && no_new_privs() != Ok(true) {
            return Err(fail(Step::NoNewPrivs, 0)(Errno::PROTO));
        }
    }
    become_user(process, &user)?;
    if is_init {
        end_with_launcher(status, DIE).map_err(fail(Step::Guard, 0))?;
    }
    umask(Mode::from_raw_mode(process.umask));
    // As the payload's user: it cannot start in a directory that it may not enter.
    enter_directory(process.cwd)?;
    sys::set_signal_mask(0);
    install_own_filter(process)?;
    let mut lacks = 0;
    let errno = match program.filter(|_| cfg!(feature = "oci")) {
        Some(path) => sys::execve(path, arguments, environment),
        None => exec(arguments, environment, &mut |path| lacks = lacking(path, process.capabilities)),
    };
    Err(fail(Step::Exec, lacks)(errno))
}

/// Changes to the user, with its capabilities.
fn become_user(process: &ProcessSpec<'static>, user: &User) -> Result<(), Report> {
    let capabilities = if user.uid == 0 { process.capabilities } else { process.ambient };
    let inheritable = if user.uid == 0 { 0 } else { capabilities };
    let plain = Sets { permitted: capabilities, effective: capabilities, inheritable, ambient: inheritable };
    let mut sets = attributes::sets(process).unwrap_or(plain);
    // Without no_new_privs a filter takes CAP_SYS_ADMIN, which the exec takes back: root only keeps what is in the
    // bounding set then, and another user the ambient set.
    if filter::MAY_PRETEND && process.no_new_privs == 0 && process.seccomp & filter::OWN != 0 {
        sets.permitted |= caps::INSTALL;
        sets.effective |= caps::INSTALL;
    }
    if user.uid != 0 && sets.permitted | sets.inheritable != 0 {
        caps::keep().map_err(fail(Step::Capabilities, 0))?;
    }
    user.switch().map_err(fail(Step::SetUser, 0))?;
    caps::set(&sets).and_then(|()| caps::verify(&sets)).map_err(fail(Step::Capabilities, 0))
}

/// Enters the working directory, which is none outside of the root (CVE-2024-21626).
pub fn enter_directory(path: &CStr) -> Result<(), Report> {
    let entered = chdir(path).and_then(|()| if sys::cwd_is_inside_root() { Ok(()) } else { Err(Errno::PERM) });
    entered.map_err(fail(Step::WorkingDirectory, 0))
}

/// Gives up for good what the process must not have, as long as CAP_SYS_ADMIN is still there, which a filter takes if
/// no_new_privs is not wanted.
///
/// A filter of the Plan's may refuse all that is done from here on: it comes last, unless it is needed `at_once`,
/// because there are others who can look into this process. One that notifies calls is for
/// [`listener`](crate::listener) to install.
#[inline(never)]
pub fn confine(process: &ProcessSpec<'static>, at_once: bool) -> Result<(), Report> {
    attributes::begin(process, at_once)?;
    user::leave_groups().map_err(fail(Step::SetUser, 0))?;
    caps::bound(process.capabilities).map_err(fail(Step::Capabilities, 0))?;
    let install = |bit, filter: &[_]| match process.seccomp & bit {
        0 => Ok(()),
        _ => sys::install_filter(sys::bytes(filter), 0).map_err(fail(Step::Seccomp, 0)),
    };
    install(filter::KEYS, &seccomp::KEYS)?;
    install(filter::DEFAULT, &seccomp::filter(process.capabilities))?;
    if at_once { install_own_filter(process) } else { Ok(()) }
}

fn install_own_filter(process: &ProcessSpec<'static>) -> Result<(), Report> {
    match process.seccomp & filter::OWN {
        0 => Ok(()),
        #[cfg(feature = "oci")]
        _ if listener::is_wanted(process) => Ok(()),
        _ => sys::install_filter(process.filter, process.filter_flags).map_err(fail(Step::Seccomp, 0)),
    }
}

/// What is looked up, and put together, before the process gives up its fds.
#[derive(Clone, Copy)]
pub struct Prepared {
    /// Its user.
    pub user: User,
    /// Its path, if it is not looked up by the first argument.
    pub program: Option<&'static CStr>,
    /// Its arguments.
    pub arguments: Strings,
    /// Its environment.
    pub environment: Strings,
    /// Whether the init itself becomes the payload.
    pub is_init: bool,
}

pub fn prepare(process: &ProcessSpec<'static>, root: &OwnedFd) -> Result<Prepared, Report> {
    let user = user::resolve(root, process.user, process.groups)?;
    let has_home = process.env.iter().any(|variable| variable.to_bytes().starts_with(b"HOME="));
    let home =
        if has_home { None } else { Some(sys::concatenate([b"HOME=", user.home]).map_err(fail(Step::Exec, 0))?) };
    let arguments = sys::strings(process.argv, None).map_err(fail(Step::Exec, 0))?;
    let environment = sys::strings(process.env, home).map_err(fail(Step::Exec, 0))?;
    Ok(Prepared { user, program: None, arguments, environment, is_init: false })
}

/// The first capability, counted from 1, that a file must have and the bounding set lacks, which execve(2) refuses with
/// EPERM; 0 if there is none. struct vfs_cap_data: flags, then permitted and inheritable, the lower halves first.
fn lacking(path: &CStr, bounding: u64) -> u16 {
    let mut data = [0u8; 24];
    let _ = getxattr(path, c"security.capability", &mut data);
    let [_, _, _, _, low0, low1, low2, low3, _, _, _, _, high0, high1, high2, high3, ..] = data;
    let lacks = u64::from_le_bytes([low0, low1, low2, low3, high0, high1, high2, high3]) & !bounding;
    if lacks == 0 { 0 } else { lacks.trailing_zeros() as u16 + 1 }
}

/// execvp(3): replaces this process by the command of `arguments`, or says why not. Where several directories of PATH
/// have it, the first that can be executed counts; where none can, EACCES is worth more than ENOENT.
///
/// `refused` is called with a path on EPERM.
pub fn exec(arguments: Strings, environment: Strings, refused: &mut dyn FnMut(&CStr)) -> Errno {
    find(arguments, environment, &mut |path| {
        let errno = sys::execve(path, arguments, environment);
        if errno == Errno::PERM {
            refused(path);
        }
        errno
    })
}

/// Calls `try_path` for the paths that the command can have, until it returns something else than that it is not this
/// one.
pub fn find(arguments: Strings, environment: Strings, try_path: &mut dyn FnMut(&CStr) -> Errno) -> Errno {
    let Some(command) = { arguments }.next() else {
        return Errno::INVAL;
    };
    if command.to_bytes().contains(&b'/') {
        return try_path(command);
    }
    let path = { environment }.find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let mut found = Errno::NOENT;
    for directory in text::split(path.unwrap_or(DEFAULT_PATH), b':') {
        match join(&mut [0; 4096], directory, command).map(&mut *try_path) {
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
