//! `kontena exec`: a command in a running container, with the container's options unless others are given.
//!
//! The container's options are in its Plan. Must not do anything in the container: join.rs hands over to the init.

use crate::commands::{bundle, open_init, pause};
use crate::config::Config;
use crate::config::capabilities::{Capabilities, Changes};
use crate::config::environment;
use crate::container::exit::out_of_memory;
#[cfg(feature = "oci")]
use crate::container::listener::Agent;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::print;
use crate::resources::cgroup::LeafEvents;
use crate::spawn::clone::{Started, seal_init};
use crate::spawn::explain::{explain_process, explain_status};
use crate::spawn::join::Container;
use crate::spawn::plan;
use crate::state::{ContainerRecord, KILLED, StateDirectory, not_running};
use crate::supervise::exit::reap_all;
use crate::supervise::message::{Message, listen};
use crate::supervise::poll::is_ready;
use crate::supervise::signals::Signals;
use crate::supervise::stdio::Stdio;
use crate::supervise::stdio::without_stdio;
use crate::supervise::terminal::{self, HUNG_UP, Options, Outcome, Peer, attend};
use crate::supervise::{Life, Supervision};
use crate::sys;
use crate::text;
use kontena_init::plan::{Attributes, List, OfBundle, Plan, ProcessSpec, Report, decode};
use linux_raw_sys::general::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fcntl_setfl};
use std::ffi::CStr;

/// How long a killed process may take to exit.
const DEATH: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The command, and its differences from the container's payload.
pub struct Request {
    /// The container's name.
    pub name: &'static str,
    /// The command, and what was given of the rest; or all of it.
    pub config: &'static Config,
    /// `--cap-add` and `--cap-drop`.
    pub capabilities: Changes,
    /// `--console-socket`.
    pub console: Option<&'static str>,
    /// See [`Request::is_whole`].
    pub is_whole: bool,
}

impl Request {
    /// Whether it is a process.json: the container adds only its filter.
    fn is_whole(&self) -> bool {
        cfg!(feature = "oci") && self.is_whole
    }
}

/// Runs it; returns its exit status.
pub fn run(root: &StateDirectory, request: &Request) -> Result<u8> {
    sys::close_inherited_fds_on_exec().context(format_args!("close_range"), "kontena needs Linux 5.15 or newer")?;
    let (config, life) = (request.config, &request.config.life);
    let name = &*root.resolve(request.name)?;
    let record = root.find(name)?;
    let is_handed_over = bundle::is_handed_over(&record);
    let init = open_running(root, &record, is_handed_over)?;
    let container = Container { pid: record.init.map_or(0, |init| init.pid), init: &init, leaf: record.cgroup_path() };
    if !container.wait_until_made() {
        return Err(not_running(name));
    }
    let directory = root.directory(name)?;
    let bytes = plan::read(&directory).context(format_args!("read {}/plan", root.path(name)), "it has just exited")?;
    let plan: Plan<'_> = decode(&bytes).ok_or_else(|| {
        Error::usage(format_args!("{name} was started by another version of kontena"), "restart it first")
    })?;
    let env = environment_of(&plan, request)?;
    let (argv, env) = (List::Items(&config.command), List::Items(&env));
    let attributes = attributes_of(&plan, request)?;
    let process = ProcessSpec { argv, env, attributes, ..specify(&plan, request) };
    let listener = plan.bundle.get().map_or(&[][..], |bundle| bundle.listener);
    take_oom_score(&plan, config);
    let start = |detached| {
        (3..3 + config.preserve_fds)
            .try_for_each(|number| sys::inherit(number).at(format_args!("--preserve-fds: fd {number}")))?;
        container.start_process(&seal_init()?, process, detached)
    };
    let is_engines = request.is_whole() || is_handed_over;
    if cfg!(feature = "oci") && life.detach && (is_engines || config.pidfile.is_some()) {
        let joining = bundle::Joining { spec: process, listener, directory: &directory, init: container.pid };
        return bundle::hand_over(name, config, request.console, &joining, &|detached| match is_engines {
            true => start(detached),
            false => without_stdio(|| start(detached)),
        });
    }
    let signals = Signals::block(life.tty)?;
    let events = container.leaf.map(LeafEvents::from_now);
    let mut joined = Joined { events, process, supervision: Supervision::new(signals, SIGTERM) };
    let start = || {
        #[cfg(feature = "oci")]
        let mut agent = Agent::find(listener)?;
        let started = start(life.detach.into())?;
        #[cfg(feature = "oci")]
        {
            agent.take(&started);
            agent.send(started.pid.as_raw_pid() as u32, &directory, name, "running", container.pid)?;
        }
        Ok(started)
    };
    if life.detach {
        return joined.leave(&without_stdio(start)?);
    }
    if life.tty {
        let mut started = without_stdio(start)?;
        let terminal = started.terminal.take().as_ref().map(listen);
        return joined.attach(&started, terminal, life.interactive || is_handed_over);
    }
    joined.supervision.stdio = Stdio::open(life.interactive || is_handed_over)?;
    joined.wait(&start()?)
}

/// Opens PID 1 of a container that a process can join: one that has been started and is not paused.
fn open_running(root: &StateDirectory, record: &ContainerRecord, is_handed_over: bool) -> Result<OwnedFd> {
    let name = &*record.name;
    let init = open_init(root, record);
    let init = init.map_err(|error| if is_handed_over { bundle::not_running(name) } else { error })?;
    if root.waits_for_start(name) {
        return Err(Error::usage(format_args!("{name} has not been started"), &format!("kontena start {name} first")));
    }
    pause::refuse_paused(record)?;
    Ok(init)
}

/// The process's own attributes, or the container's without the sets of capabilities, which are only for the payload.
#[cfg_attr(not(feature = "oci"), expect(unused_variables, reason = "only bundles have attributes"))]
fn attributes_of<'a>(plan: &Plan<'a>, request: &'a Request) -> Result<OfBundle<Attributes<'a>>> {
    #[cfg(feature = "oci")]
    if request.is_whole() {
        return bundle::attributes_of(request.config, plan);
    }
    let mut attributes = plan.process.attributes;
    if let Some(given) = attributes.get_mut() {
        given.has_sets = 0;
    }
    Ok(attributes)
}

/// The container's own environment, with what was asked for.
fn environment_of<'a>(plan: &Plan<'a>, request: &Request) -> Result<Vec<&'a CStr>> {
    if request.is_whole() {
        return Ok(request.config.env.clone());
    }
    let mut env: Vec<_> = plan.process.env.iter().list();
    if request.config.life.tty {
        environment::set(&mut env, vec![environment::term()?]);
    }
    environment::set(&mut env, request.config.env.clone());
    Ok(env)
}

/// The process, but for its command and its environment.
fn specify<'a>(plan: &Plan<'a>, request: &'a Request) -> ProcessSpec<'a> {
    let config = request.config;
    let containers = Capabilities { bounding: plan.process.capabilities, ambient: plan.process.ambient };
    let Capabilities { bounding: capabilities, ambient } = request.capabilities.apply(containers);
    let size = if config.life.tty { terminal::size() } else { None };
    let [rows, columns] = size.map_or(config.console_size, |size| [size.ws_row.into(), size.ws_col.into()]);
    let or = |text: &'a CStr, containers| if text.is_empty() { containers } else { text };
    let process = ProcessSpec {
        terminal: config.life.tty.into(),
        rows,
        columns,
        notify: 0,
        notify_as: 0,
        preserved: config.preserve_fds,
        capabilities,
        ambient,
        user: or(config.user, plan.process.user),
        cwd: or(config.workdir, plan.process.cwd),
        ..plan.process
    };
    if !request.is_whole() {
        return process;
    }
    ProcessSpec {
        capabilities: config.capabilities.bounding,
        ambient: config.capabilities.ambient,
        no_new_privs: config.security.no_new_privileges.into(),
        groups: List::Items(&config.groups),
        rlimits: List::Items(&config.rlimits),
        umask: config.umask,
        ..process
    }
}

/// A command that joins a container, or is its payload.
pub struct Joined<'a> {
    /// What it is.
    pub process: ProcessSpec<'a>,
    /// The events of the container's leaf cgroup.
    pub events: Option<LeafEvents<'a>>,
    /// Its supervision.
    pub supervision: Supervision,
}

impl Joined<'_> {
    /// Waits for its end; returns its exit status.
    pub fn wait(&mut self, started: &Started) -> Result<u8> {
        let exit = self.supervision.wait_for_exit(&mut Life::new(started))?;
        self.supervision.finish_stdio();
        reap_all();
        match exit.report {
            Some(report) => Err(explain_process(report, &self.process)),
            None if exit.status == KILLED => out_of_memory(self.events.as_ref()).map_or(Ok(KILLED), Err),
            None => {
                print::print(2, explain_status(exit.status, self.process.seccomp));
                Ok(exit.status)
            }
        }
    }

    /// Leaves it behind as soon as it runs.
    fn leave(&self, started: &Started) -> Result<u8> {
        match begin(started, &self.supervision.signals) {
            Begun::Failed(report) => Err(explain_process(report, &self.process)),
            Begun::Interrupted(signal) => Ok(128 + signal as u8),
            Begun::Runs => {
                // Or it was killed before its exec, which looks the same.
                let is_killed = || poll(&mut [PollFd::new(&started.pidfd, PollFlags::IN)], Some(&DEATH)) == Ok(1);
                out_of_memory(self.events.as_ref()).filter(|_| is_killed()).map_or(Ok(0), Err)
            }
        }
    }

    /// Connects it to the caller's terminal until it ends; `terminal` is the message with its own terminal.
    pub fn attach(&mut self, started: &Started, terminal: Option<Message>, takes_input: bool) -> Result<u8> {
        let master = match terminal {
            Some(Message::Fd(master, _)) => Some(master),
            // It has failed: its status says why.
            _ => None,
        };
        // Open until the command has ended: it may have closed its own end, and keep running.
        let peer = master.map(|master| lend(master, started)).transpose()?;
        if let Some(peer) = &peer {
            let options = Options { detach_keys: &[], takes_input, is_terminal: true, until_it_runs: false };
            if let Outcome::HungUp = attend(peer, &self.supervision.signals, &options)? {
                return Ok(HUNG_UP);
            }
        }
        self.wait(started)
    }
}

/// The state of a detached command after its start.
enum Begun {
    Runs,
    Failed(Report),
    Interrupted(u32),
}

/// Waits for its exec. That may take long, so a signal ends the wait.
fn begin(started: &Started, signals: &Signals) -> Begun {
    loop {
        let mut fds = [PollFd::new(&started.status, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        if let Some(signal) = signals.next().filter(|signal| [SIGHUP, SIGINT, SIGQUIT, SIGTERM].contains(signal)) {
            return Begun::Interrupted(signal);
        }
        if is_ready(&started.status) {
            match listen(&started.status) {
                Message::Failure(report) => return Begun::Failed(report),
                Message::End => return Begun::Runs,
                _ => {}
            }
        }
    }
}

/// The other end of the command's terminal.
fn lend(master: OwnedFd, started: &Started) -> Result<Peer> {
    fcntl_setfl(&master, OFlags::NONBLOCK).at(format_args!("fcntl"))?;
    rustix::io::fcntl_dupfd_cloexec(&started.pidfd, 3).at(format_args!("fcntl")).map(|process| Peer::Terminal {
        master,
        process,
        is_payload: started.is_payload,
    })
}

/// Copies the payload's oom_score_adj, unless another is given: a joining process inherits this launcher's.
fn take_oom_score(plan: &Plan<'_>, config: &Config) {
    let score = plan.settings.iter().find_map(|setting| setting.to_bytes().strip_prefix(b"self/oom_score_adj="));
    let score = config.oom_score_adj.map(|score| score.to_string()).or(score.map(text::from_bytes));
    if let Some(score) = score {
        let _ = file::write(CWD, "/proc/self/oom_score_adj", &score);
    }
}
