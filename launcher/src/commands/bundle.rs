//! `state`, `start`, `kill`, `delete` and `exec -d` for containers that were handed over. They have no launcher, and
//! the caller gets their exit status.
//!
//! Errors have the words that engines look for. Must not touch a container that has a launcher.

use crate::commands::{open_init, pause};
use crate::config::{Config, Format};
use crate::container::listener::{self, Agent};
use crate::container::{Pidfile, hooks, name_missing, send_terminal, start_address};
use crate::error::{Context, Error, Result};
use crate::file;
use crate::gather::Gather;
use crate::json::Json;
use crate::print;
use crate::resources::cgroup;
use crate::spawn::clone::{Started, decode_plan};
use crate::spawn::explain::{explain, explain_process};
use crate::spawn::plan;
use crate::state::handed_over::{START, STATE, describe};
use crate::state::{ContainerRecord, StateDirectory};
use crate::supervise::message::{Message, listen};
use crate::sys;
use crate::time::Moment;
use kontena_init::plan::attributes;
use kontena_init::plan::{Attributes, OfBundle, Plan, ProcessSpec, Report, Step};
use linux_raw_sys::general::{SIGKILL, SIGTERM};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::{CpuSet, sched_setaffinity};

/// See [`kontena_init::plan::Joining::detached`].
const HANDED_OVER: u8 = 2;
/// How long SIGKILL may take, in seconds.
const PATIENCE: i64 = 10;

/// Whether a container was handed over. If so, the command answers as engines expect it.
pub fn is_handed_over(container: &ContainerRecord) -> bool {
    let is_handed_over = container.handed_over.is_some();
    if is_handed_over {
        print::answer_engine();
    }
    is_handed_over
}

/// Its status in the words of the specification.
pub fn status(state: &StateDirectory, container: &ContainerRecord) -> &'static str {
    match container.is_running {
        _ if container.handed_over.is_none() && container.is_running => "creating",
        true if state.waits_for_start(&container.name) => "created",
        true => "running",
        false => "stopped",
    }
}

/// Prints the state of a container.
pub fn state(state: &StateDirectory, name: &str) -> Result<()> {
    let container = state.find(name)?;
    let hint = "it is not one of a bundle: see kontena inspect";
    let fixed = fixed_state(state, name).map_err(|error| error.advise(hint))?;
    let (status, init) = (status(state, &container), container.running_init());
    let (pid, since) = (init.map_or(0, |init| init.pid), container.init.map(|init| init.since));
    print::answer(&format!("{}\n", describe(name, status, Some(pid), since, &fixed)))
}

/// Adds the members of a bundle container's state to the output of `list`.
pub fn add_state(json: &mut Json, state: &StateDirectory, container: &ContainerRecord) {
    if container.handed_over.is_none() {
        return;
    }
    json.text("id", &container.name);
    if let Some(init) = container.init {
        json.text("created", &Moment(init.since, 0).to_string());
    }
    json.members(&fixed_state(state, &container.name).unwrap_or_default());
}

/// The members of its state that come from the bundle; empty if `create` was killed.
fn fixed_state(state: &StateDirectory, name: &str) -> Result<String> {
    let directory = state.directory(name)?;
    let fixed = file::read(&directory, STATE).at(format_args!("read {}/{STATE}", state.path(name)))?;
    Ok(String::from_utf8_lossy(&fixed).into_owned())
}

/// An engine's `ps` of one container: prints the pids of its processes on the host. Returns `false` if kontena's own
/// `ps` is meant.
pub fn ps(state: &StateDirectory, names: &[&str], format: Format) -> Result<bool> {
    let [name] = names else { return Ok(false) };
    if !print::is_engine() || format != Format::Json {
        return Ok(false);
    }
    let container = state.find(name)?;
    let (leaf, init) = (container.cgroup_path(), container.running_init());
    let pids = leaf.map_or_else(|| init.iter().map(|init| init.pid).list(), cgroup::all_processes);
    let text = Json::document(|json| json.array(|json| pids.iter().for_each(|pid| json.literal(&pid.to_string()))));
    print::answer(&text).map(|()| true)
}

/// Starts a container that waits for `start`; returns when its command runs.
pub fn start(state: &StateDirectory, container: &ContainerRecord) -> Result<()> {
    let name = &container.name;
    if !container.is_running {
        return Err(not_running(name));
    }
    pause::refuse_paused(container)?;
    let directory = state.directory(name)?;
    let what = format_args!("start {name}");
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).at(what)?;
    match start_address(&directory).and_then(|address| connect(&socket, &address)) {
        Err(Errno::NOENT | Errno::CONNREFUSED) => {
            return Err(Error::usage(format_args!("container {name} is running already"), "see kontena list"));
        }
        connected => connected.context(what, "mount /proc")?,
    }
    file::remove(&directory, START, AtFlags::empty());
    let mut words = String::new();
    loop {
        match listen(&socket) {
            Message::Words(text) => words = text,
            Message::Failure(report) => {
                let plan = plan::read(&directory).context(what, "its plan is lost: delete it")?;
                let plan = decode_plan(&plan)?;
                let error = explain(report, &plan, plan.root.source).advise(&words);
                return if report.step == Step::StartHook { undo(state, container, error) } else { Err(error) };
            }
            _ => break,
        }
    }
    let Some(hooks) = hooks::kept(&directory) else { return Ok(()) };
    let init = container.init.map(|init| (init.pid, init.since)).unwrap_or_default();
    let state_text = describe(name, "running", Some(init.0), Some(init.1), &file::read_text(&directory, STATE));
    hooks::after_start(&hooks, &state_text).or_else(|error| undo(state, container, error))
}

/// Deletes a container after one of its start hooks has failed, as the specification requires.
fn undo(state: &StateDirectory, container: &ContainerRecord, error: Error) -> Result<()> {
    if let Err(other) = delete(state, container, true) {
        print::print(2, &format!("kontena: {other}\n"));
    }
    Err(error)
}

/// Sends a signal to PID 1 of a container, or to all of its processes.
pub fn kill(container: &ContainerRecord, state: &StateDirectory, signal: Option<u32>, all: bool) -> Result<()> {
    let (name, signal) = (&container.name, signal.unwrap_or(SIGTERM));
    if !container.is_running && !all {
        return Err(not_running(name));
    }
    let leaf = container.cgroup_path();
    // The end of PID 1 ends the other processes only if the container has its own pid namespace.
    if leaf.filter(|_| signal == SIGKILL).is_some_and(cgroup::kill) {
        return Ok(());
    }
    if let Some(leaf) = leaf.filter(|_| all) {
        cgroup::signal_all(leaf, signal);
        return Ok(());
    }
    if !container.is_running {
        return Ok(());
    }
    let init = open_init(state, container).map_err(|_| not_running(name))?;
    match sys::pidfd_send_signal(init, signal) {
        Err(Errno::SRCH) => Err(not_running(name)),
        sent => sent.at(format_args!("send a signal to {name}")),
    }
}

/// Deletes a container; kills it before if it has not been started, or with `force`.
pub fn delete(state: &StateDirectory, container: &ContainerRecord, force: bool) -> Result<()> {
    let name = &container.name;
    if container.is_running {
        if !force && !state.waits_for_start(name) {
            return Err(Error::usage(format_args!("container {name} is running"), "stop it first, or use --force"));
        }
        end(state, container)?;
    }
    // Another process may delete it at the same time.
    let kept = state.directory(name).ok();
    let kept = kept.and_then(|directory| Some((hooks::kept(&directory)?, file::read_text(&directory, STATE))));
    if state.delete(name, false)?
        && let Some((hooks, fixed)) = kept
    {
        hooks::after_stop(&hooks, name, &fixed);
    }
    Ok(())
}

/// Kills all processes of a container, and waits until its PID 1 has ended; it may still be a zombie then.
fn end(state: &StateDirectory, container: &ContainerRecord) -> Result<()> {
    let Ok(init) = open_init(state, container) else { return Ok(()) };
    if !container.cgroup_path().is_some_and(cgroup::kill) {
        let _ = sys::pidfd_send_signal(&init, SIGKILL);
    }
    let timeout = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => {
            Err(Error::usage(format_args!("{} does not end by SIGKILL", container.name), "see its stack in /proc"))
        }
        _ => Ok(()),
    }
}

/// The error for a container that is not running, with the words that engines look for.
pub fn not_running(name: &str) -> Error {
    Error::usage(format_args!("container not running: {name}"), "see kontena list")
}

/// A process that joins a container.
pub struct Joining<'a> {
    /// Its command and attributes.
    pub spec: ProcessSpec<'a>,
    /// The container's seccomp agent; see [`Agent::find`].
    pub listener: &'a [u8],
    /// The directory of the container's files.
    pub directory: &'a OwnedFd,
    /// The container's PID 1.
    pub init: u32,
}

/// Starts another process in a container, and hands it over to the caller.
pub fn hand_over(
    name: &str,
    config: &Config,
    console: Option<&str>,
    process: &Joining<'_>,
    start: &dyn Fn(u8) -> Result<Started>,
) -> Result<u8> {
    let pidfile = config.pidfile.map(Pidfile::open).transpose()?;
    let mut agent = Agent::find(process.listener)?;
    let started = start(HANDED_OVER)?;
    agent.take(&started);
    // The agent needs the pid, but a call may need an answer before the process is forked.
    let is_asked = agent.is_asked(&started);
    // After an error the process must not stay.
    let end = |pid: u32| {
        let _ = sys::pidfd_send_signal(&started.pidfd, SIGKILL);
        let _ = sys::pidfd(pid).map(|process| sys::pidfd_send_signal(process, SIGKILL));
    };
    let mut pass_on =
        |pid: u32| agent.send(pid, process.directory, name, "running", process.init).inspect_err(|_| end(pid));
    if is_asked {
        pass_on(listener::newest(started.pid.as_raw_pid() as u32))?;
    }
    if let Some(socket) = &started.terminal
        && let Message::Fd(terminal, _) = listen(socket)
    {
        send_terminal(console, &terminal)?;
    }
    loop {
        match listen(&started.status) {
            Message::Failure(Report { step: Step::Fork, index: 1, errno: pid }) => {
                pass_on(pid as u32)?;
                // It becomes a child of the caller, or of its subreaper, when its parent has ended.
                let _ = sys::pidfd_send_signal(&started.pidfd, SIGKILL);
                let _ = poll(&mut [PollFd::new(&started.pidfd, PollFlags::IN)], None);
                let written = pidfile.map_or(Ok(()), |file| file.write(&pid.to_string()));
                return written.map(|()| 0).inspect_err(|_| end(pid as u32));
            }
            Message::Failure(report) => return Err(name_missing(report, explain_process(report, &process.spec))),
            Message::End => return Err(not_running(name)),
            Message::Fd(..) | Message::Words(_) | Message::Nothing => {}
        }
    }
}

/// The attributes of another process: its own, and those of the container. From here on this launcher runs on the CPUs
/// of `execCPUAffinity.initial`.
pub fn attributes_of<'a>(config: &Config, plan: &Plan<'a>) -> Result<OfBundle<Attributes<'a>>> {
    let mut attributes = config.attributes;
    if let (Some(own), Some(containers)) = (attributes.get_mut(), plan.process.attributes.get()) {
        let Attributes { personality, memory_mode, memory_nodes, label, .. } = *containers;
        let label = if own.label.is_empty() { label } else { own.label };
        *own = Attributes { personality, memory_mode, memory_nodes, label, ..*own };
        if !own.launchers_cpus.is_empty() {
            let mut cpus = CpuSet::new();
            let is_given = |cpu: &usize| attributes::has(own.launchers_cpus, *cpu);
            (0..CpuSet::MAX_CPU).filter(is_given).for_each(|cpu| cpus.set(cpu));
            let hint = "use CPUs that there are, and that kontena may run on";
            sched_setaffinity(None, &cpus).context(format_args!("process.execCPUAffinity.initial"), hint)?;
        }
    }
    Ok(attributes)
}
