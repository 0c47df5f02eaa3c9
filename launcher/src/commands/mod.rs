//! The commands about containers that exist, a file each.
//!
//! Each finds containers by their records, and acts on their PID 1 by a pidfd, or on their leaf cgroups. Must not make
//! anything that a container is made of, nor talk to a launcher, which sees for itself what becomes of its container.

mod attach;
#[cfg(feature = "oci")]
mod bundle;
#[cfg(not(feature = "oci"))]
#[path = "bundle/without.rs"]
mod bundle;
mod delete;
#[cfg(feature = "oci")]
mod events;
pub mod exec;
mod inspect;
mod kill;
mod list;
mod logs;
mod pause;
mod ps;
#[cfg(feature = "oci")]
pub mod run_bundle;
pub mod start;
mod stats;
mod stop;
mod table;
mod update;
pub mod volume;
mod wait;

use crate::config::Format;
use crate::config::labels::Filter;
use crate::config::limits::Limit;
use crate::container::release::release_abandoned;
use crate::error::{Error, Result};
use crate::print;
use crate::state::{ContainerRecord, StateDirectory, not_running};
use crate::supervise::log;
use crate::sys;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A command, and its arguments.
pub enum Command {
    /// `kontena exec`.
    Exec(&'static exec::Request),
    /// `kontena attach`.
    Attach {
        /// The container.
        name: &'static str,
        /// `--detach-keys`.
        detach_keys: &'static [u8],
        /// Whether what is typed is passed on.
        takes_input: bool,
    },
    /// `kontena list`: how it is printed, `None` for the names alone; and which containers.
    List(Option<Format>, &'static [Filter]),
    /// `kontena ps`.
    Ps(&'static [&'static str], Format),
    /// `kontena logs`.
    Logs {
        /// The container.
        name: &'static str,
        /// Which part of the log.
        wanted: log::Wanted,
        /// `--follow`.
        follow: bool,
    },
    /// `kontena stats`.
    Stats {
        /// The containers; all that are running if there is none.
        names: &'static [&'static str],
        /// How they are printed.
        format: Format,
        /// `--stream`.
        stream: bool,
    },
    /// `kontena events`: once, or again and again after such a time.
    #[cfg(feature = "oci")]
    Events {
        /// The container.
        name: &'static str,
        /// How long after the one before; `None` for once.
        interval: Option<std::time::Duration>,
    },
    /// `kontena inspect`.
    Inspect(&'static [&'static str]),
    /// `kontena state`.
    State(&'static str),
    /// An action on one container after another.
    Each(&'static [&'static str], Action),
    /// `kontena volume`.
    Volume {
        /// The directory of the volumes.
        directory: String,
        /// Those that it is about.
        names: &'static [&'static str],
        /// What to do.
        act: volume::Act,
    },
    /// `kontena wait`.
    Wait(&'static [&'static str]),
}

/// An action on one container after another.
pub enum Action {
    /// `start`.
    Start(start::Start),
    /// `restart`: within so many seconds, as `stop`.
    Restart(start::Start, Option<u64>),
    /// `stop`: send its stop signal, and SIGKILL after so many seconds; `None` for those of `--stop-timeout`.
    Stop(Option<u64>),
    /// `kill`: send a signal.
    Kill {
        /// The signal's number.
        signal: u32,
        /// Send it to all processes, and not to the command alone.
        all: bool,
        /// No signal was given: the last name may be a misspelt one.
        is_default: bool,
    },
    /// `pause`.
    Pause,
    /// `resume`.
    Resume,
    /// `update`: set limits.
    Update(&'static [Limit]),
    /// `delete`: forget it; with `force`, kill it before.
    Delete {
        /// `--force`.
        force: bool,
        /// `--volumes`: and the volumes that were made for it.
        volumes: bool,
    },
}

impl Command {
    /// How many fds of the caller's it passes on.
    pub fn preserve_fds(&self) -> u32 {
        if let Self::Exec(request) = self { request.config.preserve_fds } else { 0 }
    }
}

/// Carries out a command; the exit status.
#[inline(never)]
pub fn carry_out(state: &StateDirectory, command: &Command) -> Result<u8> {
    // If the exit status can be a container's, failures have one that few containers use.
    let is_containers = matches!(command, Command::Exec(_) | Command::Attach { .. } | Command::Wait(_));
    act(state, command).map_err(|error| if is_containers { error.beside_containers() } else { error })
}

fn act(state: &StateDirectory, command: &Command) -> Result<u8> {
    match command {
        Command::Exec(request) => {
            sys::set_title(&["exec", request.name]);
            return exec::run(state, request);
        }
        #[cfg(feature = "oci")]
        Command::Events { name, interval } => events::events(state, name, *interval)?,
        Command::Attach { name, detach_keys, takes_input } => {
            return attach::attach(state, &state.resolve(name)?, detach_keys, *takes_input);
        }
        Command::Each(names, action) => return act_on_each(state, names, action),
        Command::Wait(names) => return wait::wait(state, names),
        Command::List(format, filters) => list::list(state, *format, filters)?,
        Command::Ps(names, format) if bundle::ps(state, names, *format)? => {}
        Command::Ps(names, format) => ps::ps(state, names, *format)?,
        Command::Logs { name, wanted, follow } => logs::logs(state, &state.resolve(name)?, wanted, *follow)?,
        Command::Stats { names, format, stream } => stats::stats(state, names, *format, *stream)?,
        Command::Volume { directory, names, act } => volume::act(state, directory, names, act)?,
        Command::Inspect(names) => inspect::inspect(state, names)?,
        Command::State(name) => bundle::state(state, name)?,
    }
    Ok(0)
}

/// Does it to all of these containers, and prints the name of each for which it worked; the exit status.
fn act_on_each(state: &StateDirectory, names: &[&str], action: &Action) -> Result<u8> {
    let mut status = 0;
    if let Action::Kill { is_default: true, .. } = action {
        kill::check_names(state, names)?;
    }
    for_each_container(state, names, &mut |name| {
        let container = match (state.find(name), action) {
            // As engines expect it, and podman does itself.
            (Err(error), Action::Delete { force: true, .. }) if error.is_missing() => {
                // A create that was killed, or ran out of something, may have left an empty record.
                return state.look_after(&[name.into()]).map(drop);
            }
            (found, _) => found?,
        };
        let is_handed_over = bundle::is_handed_over(&container);
        if is_handed_over {
            match action {
                Action::Start(_) => return bundle::start(state, &container),
                Action::Kill { signal, all, is_default } => {
                    return bundle::kill(&container, state, Some(*signal).filter(|_| !is_default), *all);
                }
                Action::Delete { force, .. } => return bundle::delete(state, &container, *force),
                _ => {}
            }
        }
        match action {
            // It prints the name itself.
            Action::Start(start) => return start::start(state, &container, start).map(|code| status = code),
            Action::Restart(start, seconds) => return start::restart(state, &container, start, *seconds),
            Action::Stop(timeout) => stop::stop(state, &container, *timeout),
            Action::Kill { signal, all, .. } => kill::kill(state, &container, *signal, *all),
            Action::Pause => pause::pause(&container),
            Action::Resume => pause::resume(&container),
            Action::Update(limits) => update::update(&container, limits),
            Action::Delete { force, volumes } => delete::delete(state, &container, *force, *volumes),
        }?;
        if is_handed_over {
            return Ok(());
        }
        print::answer(&format!("{name}\n"))
    })?;
    Ok(status)
}

/// `run --replace`: stops and deletes the container of this name, if there is one.
pub fn replace(state: &str, name: &str) -> Result<()> {
    let state = StateDirectory::open(state, release_abandoned)?;
    let Some(container) = state.look(name)? else { return Ok(()) };
    stop::stop(&state, &container, None)?;
    state.delete(name, false).map(drop)
}

/// Calls `act` for the whole name of each container, even after it has failed for one.
fn for_each_container(state: &StateDirectory, names: &[&str], act: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    for_each_name(names, &mut |name| state.resolve(name).and_then(|name| act(&name)))
}

/// Calls `act` for each name, even after it has failed for one. Returns the last error, and prints those before it.
fn for_each_name(names: &[&str], act: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let mut done = Ok(());
    for name in names {
        if let Err(error) = act(name)
            && let Err(earlier) = std::mem::replace(&mut done, Err(error))
        {
            print::complain(&earlier);
        }
    }
    done
}

/// Opens PID 1 of a container. If the launcher is gone, the pid may be another's; while the launcher is alive, PID 1
/// has not been reaped, so the pid is its own.
fn open_init(state: &StateDirectory, container: &ContainerRecord) -> Result<OwnedFd> {
    let name = &container.name;
    let is_over = || not_running(name);
    container.check_pid_namespace()?;
    let init = container.running_init().ok_or_else(is_over)?;
    let pid = Pid::from_raw(init.pid as i32).ok_or_else(is_over)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| is_over())?;
    match state.look(name)? {
        Some(now) if now.running_init() == Some(init) => Ok(pidfd),
        _ => Err(is_over()),
    }
}

/// The path of a container's leaf cgroup.
fn leaf_of(container: &ContainerRecord) -> Result<&str> {
    container.cgroup_path().ok_or_else(|| {
        let hint = "no cgroup is delegated to its user: start it with systemd-run --user --scope -p Delegate=yes";
        Error::usage(format_args!("{} has no cgroup of its own", container.name), hint)
    })
}
