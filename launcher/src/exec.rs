//! `kontena exec`: a command in a container that runs, with what the container was given unless told otherwise.
//!
//! What that is stands in the container's plan. Must not do anything in the container: join.rs hands over to the init.

use crate::caps;
use crate::cgroup::{self, Hits};
use crate::cli::set_environment;
use crate::config::c_string;
use crate::ended::{KILLED, out_of_memory};
use crate::error::{Context, Error, Result};
use crate::explain::explain_process;
use crate::file::{self, CWD};
use crate::join::Container;
use crate::output::without_stdio;
use crate::plan;
use crate::start::{Started, seal_init};
use crate::state::{Root, Seen};
use crate::supervise::{Duties, Signals, Told, listen, reap_all, supervise};
use crate::sys;
use crate::terminal::{self, HUNG_UP, Left, Options, Peer, attend};
use kontena_init::plan::{List, Plan, Process, decode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::env;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

/// How long a process that the kernel has killed takes to its end, at most.
const DEATH: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What is to be run, and in what it differs from the container's payload.
pub struct Request {
    /// The container's name.
    pub name: String,
    /// The command and its arguments.
    pub command: Vec<CString>,
    /// `-d`.
    pub detach: bool,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// `-e` and `--env-file`.
    pub env: Vec<CString>,
    /// `-w`.
    pub workdir: Option<CString>,
    /// `-u`.
    pub user: Option<CString>,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
}

/// Runs it, and gives its exit status.
pub fn run(root: &Root, request: &Request) -> Result<u8> {
    sys::close_inherited_fds_on_exec().context(format_args!("close_range"), "kontena needs Linux 5.15 or newer")?;
    let name = &request.name;
    let seen = root.find(name)?;
    let init = open_init(root, &seen)?;
    if seen.cgroup().is_some_and(cgroup::is_frozen) {
        return Err(Error::usage(format_args!("{name} is paused"), &format!("kontena resume {name} first")));
    }
    let pid = seen.init().map_or(0, |(pid, _)| pid);
    let container = Container { pid, init: &init, leaf: seen.cgroup() };
    if !container.wait_until_made() {
        return Err(does_not_run(name));
    }
    let bytes = root.directory(name).and_then(|directory| {
        plan::read(&directory).context(format_args!("read {}/plan", root.path(name)), "it has just ended")
    })?;
    let plan: Plan<'_> = decode(&bytes).ok_or_else(|| {
        Error::usage(format_args!("{name} was started by another version of kontena"), "start it anew to enter it")
    })?;
    let signals = Signals::block()?;

    let mut env: Vec<CString> = plan.process.env.iter().map(CString::from).collect();
    if request.tty {
        set_environment(&mut env, vec![term()?]);
    }
    set_environment(&mut env, request.env.clone());
    let env: Vec<&CStr> = env.iter().map(|variable| &**variable).collect();
    let command: Vec<&CStr> = request.command.iter().map(|word| &**word).collect();
    let (capabilities, ambient) =
        caps::change((plan.process.capabilities, plan.process.ambient), &request.cap_add, &request.cap_drop)?;
    let size = if request.tty { terminal::size() } else { None };
    let process = Process {
        terminal: request.tty.into(),
        rows: size.map_or(0, |(rows, _)| rows.into()),
        columns: size.map_or(0, |(_, columns)| columns.into()),
        notify: c"",
        notify_as: 0,
        capabilities,
        ambient,
        user: request.user.as_deref().unwrap_or(plan.process.user),
        cwd: request.workdir.as_deref().unwrap_or(plan.process.cwd),
        argv: List::Items(&command),
        env: List::Items(&env),
        signal_mask: signals.original_mask(),
        ..plan.process
    };
    if !request.interactive && !request.tty {
        // As docker has it: what a script reads from is not for a command that did not ask for it.
        let null = file::open(CWD, "/dev/null", OFlags::RDONLY).context(format_args!("open /dev/null"), "")?;
        sys::become_standard(&null, 0).context(format_args!("dup2"), "")?;
    }
    take_oom_score(&plan);
    let hits = seen.cgroup().map(Hits::read).unwrap_or_default();
    let start = || container.start(&seal_init()?, process, request.detach);
    let mut started = if request.detach { without_stdio(start) } else { start() }?;

    let out_of_memory = || {
        seen.cgroup().filter(|leaf| hits.since(leaf).is_oom_killed()).map_or(Ok(()), |leaf| Err(out_of_memory(leaf)))
    };
    let end = |started: &mut Started| {
        let ended = supervise(started, &signals, &mut Duties::default(), None, &|_| false, &mut |_| ())?;
        reap_all();
        match ended.report {
            Some(report) => Err(explain_process(report, &process)),
            None if ended.status == KILLED => out_of_memory().map(|()| KILLED),
            None => Ok(ended.status),
        }
    };
    if !request.detach && !request.tty {
        return end(&mut started);
    }
    let mut master = None;
    loop {
        match listen(&started.status) {
            Told::Terminal(fd) => {
                master = Some(fd);
                // The rest comes while it is attended.
                break;
            }
            Told::Failure(report) => return Err(explain_process(report, &process)),
            Told::End if request.detach => {
                // It has begun, or was killed before its exec, which looks the same.
                let is_killed = || poll(&mut [PollFd::new(&started.pidfd, PollFlags::IN)], Some(&DEATH)) == Ok(1);
                return out_of_memory().or_else(|error| if is_killed() { Err(error) } else { Ok(()) }).map(|()| 0);
            }
            Told::End => break,
            Told::Nothing => {}
        }
    }
    // Open until the command has ended: it may have closed its own end, and goes on.
    let peer = master.map(|master| lend(master, &started)).transpose()?;
    if let Some(peer) = &peer {
        let options =
            Options { detach_keys: &[], takes_input: request.interactive, is_terminal: true, until_it_runs: false };
        if let Left::HungUp = attend(peer, &signals, &options)? {
            return Ok(HUNG_UP);
        }
    }
    end(&mut started)
}

/// The other end of the command's terminal.
fn lend(master: OwnedFd, started: &Started) -> Result<Peer> {
    fcntl_setfl(&master, OFlags::NONBLOCK).context(format_args!("fcntl"), "")?;
    rustix::io::dup(&started.pidfd).context(format_args!("dup"), "").map(|pidfd| Peer::Terminal(master, pidfd))
}

/// The container's PID 1. Its pid may be another's when its launcher is gone; while it lives, it has not reaped it.
pub fn open_init(root: &Root, seen: &Seen) -> Result<OwnedFd> {
    let name = &seen.name;
    let is_over = || does_not_run(name);
    let (pid, _) = seen.init().ok_or_else(is_over)?;
    let pid = Pid::from_raw(pid as i32).ok_or_else(is_over)?;
    let init = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| is_over())?;
    match root.look(name)? {
        Some(now) if now.init() == seen.init() => Ok(init),
        _ => Err(is_over()),
    }
}

/// Something was to be done with a container that there is, and has ended.
pub fn does_not_run(name: &str) -> Error {
    Error::usage(format_args!("{name} does not run"), "see kontena list for those that run")
}

/// Takes the payload's, which a process that joins it inherits from this one.
fn take_oom_score(plan: &Plan<'_>) {
    let score = plan.settings.iter().find_map(|setting| setting.to_bytes().strip_prefix(b"self/oom_score_adj="));
    if let Some(score) = score {
        let _ = file::write(CWD, "/proc/self/oom_score_adj", &String::from_utf8_lossy(score));
    }
}

/// What a program is told of the terminal that it gets: it is the caller's.
pub fn term() -> Result<CString> {
    let term = env::var_os("TERM").filter(|term| !term.is_empty());
    c_string([&b"TERM="[..], term.as_deref().map_or(b"xterm", OsStrExt::as_bytes)].concat())
}
