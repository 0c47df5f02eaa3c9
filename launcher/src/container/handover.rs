//! `create --bundle`: a container that is made up to the exec of its command, which waits for `start`, and is then
//! handed over to the caller: its PID 1 becomes the child of the process that adopts this process's children.
//!
//! From the line of the journal on that says so, only `delete` releases what the container holds. Before, this process
//! is its launcher like any other. `run --bundle` waits for the container, as other callers do. Must not wait itself.

use crate::config::Config;
use crate::config::bundle::{Bundle, CREATE_CONTAINER};
use crate::container::hooks;
use crate::container::lifecycle::{Container, Spawned};
use crate::container::listener::{Agent, connect_to, send_fd};
use crate::error::{Context, Error, Result};
use crate::file;
use crate::resources::cgroup::LeafEvents;
use crate::resources::volumes::copy_directory;
use crate::spawn::clone::{Started, decode_plan, leave_open};
use crate::spawn::explain::explain;
use crate::spawn::sources::{Inherited, Place};
use crate::state::handed_over::{START, STATE, describe, started};
use crate::state::{Entry, StateDirectory};
use crate::supervise::Supervision;
use crate::supervise::message::{self, Message, let_continue};
use kontena_init::plan::{READY, Report, Step, TERMINAL};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fchmod, fstat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::termios::Winsize;
use std::ffi::CStr;

/// A container that waits for `start`. Its PID 1 is a child of this process, and outlives it.
pub struct HandedOver {
    /// Its PID 1.
    pub init: Started,
    /// Its Plan.
    pub plan: Vec<u8>,
    /// The master of its terminal, if this process waits for the container.
    pub terminal: Option<OwnedFd>,
    /// The events of its leaf cgroup.
    pub events: Option<LeafEvents<'static>>,
    /// Its supervision, if this process waits for the container.
    pub supervision: Supervision,
    /// The state directory with its record.
    pub root: &'static StateDirectory,
}

/// Makes a container, and hands it over.
pub fn create(state: &str, config: &'static Config) -> Result<()> {
    hand_over(state, config, None).map(drop)
}

/// Makes a container whose terminal has this `size`, and hands it over.
pub fn hand_over(state: &str, config: &'static Config, size: Option<Winsize>) -> Result<HandedOver> {
    let existing = StateDirectory::existing(state, |_| Ok(()));
    if existing.is_some_and(|state| state.find(config.name).is_ok()) {
        let hint = format!("kontena delete {}, or choose another name", config.name);
        return Err(Error::usage(format_args!("container {} already exists", config.name), &hint));
    }
    Container::create(state, config, size)?.hand_over()
}

impl Container {
    fn hand_over(mut self) -> Result<HandedOver> {
        let (Spawned { init, plan, .. }, terminal) = match self.set_up().and_then(|()| self.make()) {
            Ok(made) => made,
            Err(error) => {
                let (hooks, config) = (hooks::kept(&self.directory), self.config);
                let error = self.tear_down(Err(error)).err().unwrap_or_else(ended);
                if let (Some(hooks), Some(bundle)) = (hooks, &config.bundle) {
                    hooks::after_stop(&hooks, config.name, &bundle.state);
                }
                return Err(error);
            }
        };
        if let Some(leaf) = self.leaf {
            leaf.return_launcher();
        }
        self.root.sweep_few();
        let Self { supervision, events, root, .. } = self;
        Ok(HandedOver { init, plan, terminal, events, supervision, root })
    }

    /// Does everything, except cleaning up after an error.
    fn make(&mut self) -> Result<(Spawned, Option<OwnedFd>)> {
        let Some(bundle) = &self.config.bundle else { return Err(ended()) };
        file::open(&self.directory, STATE, OFlags::WRONLY | OFlags::CREATE)
            .and_then(|file| file::write_open(&file, &bundle.state))
            .context(format_args!("write {}/{STATE}", self.root.path(self.config.name)), "free some space")?;
        self.fill_tmpfs(bundle)?;
        let mut agent = Agent::find(bundle.listener.as_bytes())?;
        let listener = self.open_start()?;
        let mut spawned = self.begin(leave_open(&listener)?)?;
        let terminal = self.await_whole(bundle, &spawned, &mut agent)?;
        let pid = spawned.init.pid.as_raw_pid() as u32;
        let ticks = started(pid).ok_or_else(|| Error::usage(format_args!("read /proc/{pid}/stat"), "mount /proc"))?;
        self.write_pidfile(&pid.to_string())?;
        self.journal.append(Entry::HandedOver(ticks))?;
        let_continue(&spawned.init.status, &[READY])?;
        spawned.devices.keep();
        Ok((spawned, terminal))
    }

    /// While the init makes the mounts in the new namespaces: saves the hooks for later commands, moves network links
    /// into the container, and runs the hooks of the host that come before pivot_root(2).
    pub(super) fn before_pivot(&self, bundle: &Bundle, spawned: &mut Spawned) -> Result<()> {
        // A hook may take a long time, and `prune` need not wait for it.
        self.root.started();
        hooks::keep(bundle, &self.directory)?;
        let taken = spawned.devices.take(&bundle.net_devices, &spawned.init);
        taken.map_err(|error| self.first_cause(error, spawned))?;
        if !bundle.has_create_hooks() {
            return Ok(());
        }
        self.await_whole(bundle, spawned, &mut Agent::find(&[])?)?;
        let pid = spawned.init.pid.as_raw_pid() as u32;
        let state = describe(self.config.name, "creating", Some(pid), None, &bundle.state);
        for kind in 0..CREATE_CONTAINER {
            let (hooks, init) = (bundle.hooks[kind].iter().copied(), Some(&spawned.init.pidfd));
            hooks::run(kind, hooks, &state, bundle.directory, init, &mut Err)?;
        }
        Ok(())
    }

    /// Makes the tmpfs that get what they cover; the init makes the others.
    fn fill_tmpfs(&mut self, bundle: &Bundle) -> Result<()> {
        let Some(mounts) = &mut self.mounts else { return Ok(()) };
        for (index, mount) in bundle.mounts.iter().enumerate().filter(|(_, mount)| mount.copies_up) {
            let Some(root) = mounts.iter().find(|mount| mount.place == Place::Root) else { continue };
            let make = || {
                let fd = make_tmpfs(&mount.options)?;
                let open = || file::open(&fd, ".", OFlags::DIRECTORY);
                copy_directory(&root.fd, mount.target, open()?, true)?;
                if let Some(mode) = mode_of(&mount.options) {
                    fchmod(open()?, Mode::from_raw_mode(mode))?;
                }
                fstat(&fd).map(|found| (fd, found))
            };
            let what = format_args!("fill a tmpfs for {}", mount.target.to_string_lossy());
            let (fd, found) = make().context(what, "remove tmpcopyup, or make it larger")?;
            let (place, path) = (Place::Volume(index), mount.target);
            mounts.push(Inherited { place, path, idmap: false, idmap_top: false, fd, is_tree: true, found });
        }
        Ok(())
    }

    /// The socket of `start`, which nobody but this user reaches.
    fn open_start(&self) -> Result<OwnedFd> {
        let open = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            bind(&socket, &start_address(&self.directory)?)?;
            listen(&socket, 1)?;
            Ok(socket)
        };
        let opened: rustix::io::Result<_> = open();
        opened.context(format_args!("make the socket {}/{START}", self.root.path(self.config.name)), "mount /proc")
    }

    /// Waits until the init reports that the container is complete. Passes on its terminal and the listener of its
    /// filter; returns the terminal if this process waits for the container.
    fn await_whole(&self, bundle: &Bundle, spawned: &Spawned, agent: &mut Agent<'_>) -> Result<Option<OwnedFd>> {
        let pid = spawned.init.pid.as_raw_pid() as u32;
        let (mut words, mut own) = (String::new(), None);
        loop {
            match message::listen(&spawned.init.status) {
                Message::Nothing => return Ok(own),
                Message::Fd(terminal, TERMINAL) if bundle.stays => own = Some(terminal),
                Message::Fd(terminal, TERMINAL) => send_terminal(bundle.console, &terminal)?,
                Message::Fd(listener, _) => {
                    agent.listener = Some(listener);
                    agent.send(pid, &self.directory, self.config.name, "creating", pid)?;
                }
                Message::Words(text) => words = text,
                Message::Failure(report) => {
                    let error = explain(report, &decode_plan(&spawned.plan)?, self.config.rootfs).advise(&words);
                    return Err(name_missing(report, error));
                }
                Message::End => return Err(self.cause(None, ended(), spawned)),
            }
        }
    }
}

fn ended() -> Error {
    Error::usage(format_args!("kontena-init ended during the start"), "create it again")
}

/// Adds the words that engines look for to the error for a missing command.
pub fn name_missing(report: Report, error: Error) -> Error {
    let is_missing = report.step == Step::Exec && error.status() == 127;
    if is_missing { error.advise("executable file not found in $PATH") } else { error }
}

/// The mode that a tmpfs was given.
fn mode_of(options: &[&CStr]) -> Option<u32> {
    let mode = options.iter().find_map(|option| option.to_bytes().strip_prefix(b"mode="))?;
    u32::from_str_radix(str::from_utf8(mode).ok()?, 8).ok()
}

/// A tmpfs that is not attached anywhere.
fn make_tmpfs(options: &[&CStr]) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for option in options {
        let text = option.to_string_lossy();
        match text.split_once('=') {
            Some((name, value)) => fsconfig_set_string(&context, &*file::c_path(name)?, &*file::c_path(value)?)?,
            None => fsconfig_set_flag(&context, *option)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The address of the socket in the directory of a container, however long its path is.
pub fn start_address(directory: &OwnedFd) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(&*file::c_path(&format!("/proc/self/fd/{}/{START}", directory.as_raw_fd()))?)
}

/// Sends the terminal's master to the console socket, without waiting for the other end to accept.
pub fn send_terminal(console: Option<&str>, terminal: &OwnedFd) -> Result<()> {
    let path = console.unwrap_or_default();
    let sent = connect_to(path).and_then(|socket| send_fd(&socket, b"/dev/ptmx", terminal));
    sent.context(format_args!("--console-socket {path}"), "it must be a socket that somebody listens on")
}
