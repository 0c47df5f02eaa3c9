//! `kontena run`: from the Config to a running payload, and back to a host as it was.
//!
//! Reads from top to bottom in the order in which things are taken. All that can be refused is refused before the
//! clone; after it, init makes the mounts while the network is wired here. What is taken is in the journal first, so
//! that an error, the end of the payload and a SIGKILL of this process all end the same way.

use crate::attach::Attached;
use crate::background::{self, Side};
use crate::cgroup::Hits;
use crate::config::Config;
use crate::ended::{Ended, KILLED, out_of_memory};
use crate::error::{Context, Error, Result};
use crate::explain::explain;
use crate::health::Checks;
use crate::life::{Ready, Restart};
use crate::log::{Stream, Writer};
use crate::net::options::{Protocol, Publish, Via};
use crate::net::{self, Network, Relay, Sockets, Way};
use crate::output::{self, Output};
use crate::plan::{self, Extras, Place, Tree};
use crate::ready::{self, Readiness};
use crate::start::{Started, inherited, seal_init, start};
use crate::state::{Entry, Journal, Root};
use crate::stats::{self, Stats};
use crate::supervise::{Duties, News, Signals, Told, listen, pause, reap_all, supervise};
use crate::userns::{self, Maps};
use crate::{cgroup, devices, join, names, root, sys, terminal};
use kontena_init::plan::{PLAN_ARGUMENT, Plan, READY, Step, decode};
use linux_raw_sys::general::*;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr};

/// Between the end of a container and its next start, in microseconds: twice as much each time, and from the first again
/// when it has lived for so long.
const FIRST_DELAY: u64 = 100_000;
const LONGEST_DELAY: u64 = 60_000_000;
const GOOD_LIFE: u64 = 10_000_000;

/// Runs the container, and gives the payload's exit status; in the background, that of its start.
pub fn run(state: &str, config: &Config) -> Result<u8> {
    let life = &config.life;
    let size = if life.tty { terminal::size() } else { None };
    let (mut duties, mut attached) =
        (Duties { stop_signal: life.stop_signal, ..Duties::default() }, Attached::default());
    if !life.detach && !life.tty {
        return run_container(state, config, size, &mut duties, attached);
    }
    match background::fork()? {
        Side::Front(launcher) => return background::attend(launcher, config),
        Side::Back(starter) => {
            let owner = rustix::io::fcntl_dupfd_cloexec(&starter, 3).context(format_args!("fcntl"), "")?;
            attached.add_owner(owner, !life.detach);
            duties.starter = Some(starter);
        }
    }
    let status = run_container(state, config, size, &mut duties, attached);
    // What went wrong is told to the person by who has started this, while there is somebody who waits for it; later, by the
    // journal.
    Ok(status.unwrap_or_else(|error| {
        duties.tell_failure(&error);
        error.status()
    }))
}

fn run_container(
    state: &str,
    config: &Config,
    size: Option<(u16, u16)>,
    duties: &mut Duties,
    mut attached: Attached,
) -> Result<u8> {
    let life = &config.life;
    // An ordinary user, or uid 0 without privileges, is root in a user namespace alone.
    let is_root = crate::is_privileged();
    if let Some(number) = life.notify_fd.filter(|_| duties.starter.is_none()) {
        // Before this process has opened anything that the number could be of.
        let hint = "in the foreground the command inherits the caller's own: open it, as in 3>&1";
        sys::look_at_fd(number).context(format_args!("--notify-fd {number}"), hint)?;
    }
    let net = net::choose(config, is_root)?;
    sys::close_inherited_fds_on_exec().context(format_args!("close_range"), "kontena needs Linux 5.15 or newer")?;
    let signals = Signals::block()?;
    plan::check(config)?;
    let rootfs = root::find(config)?;
    let leaf = cgroup::Leaf::find(config, is_root)?;
    let init = seal_init()?;
    let reservations = net::reserve(state, &config.publish)?;

    let mut root = Root::open(state)?;
    root.starting()?;
    let net = &Network::find(&net, config, &root)?;
    let mut journal = root.create(&config.name)?;
    let record = |what: &str| root.record_shared(&format!("cgroup {what}"));
    let (mut unmeasured, mut begun) = (Vec::new(), None);
    let made = record_life(config, &mut journal).and_then(|()| {
        let directory = journal.directory()?;
        if duties.starter.is_some() {
            attached.listen(&directory)?;
            let log =
                life.log.filter(|_| life.detach).map(|log| Writer::open(journal.directory()?, log)).transpose()?;
            duties.output = Some(Output::new(log, attached));
        }
        let maps = Maps::find(config.userns.as_ref(), is_root, &mut journal)?;
        let mut cgroup = None;
        if let Some(leaf) = &leaf {
            journal.record(Entry::Cgroup(leaf.path.clone()))?;
            let made = leaf.create(config, &record)?;
            if is_root {
                devices::confine(&made, &config.devices, config.capabilities)?;
            }
            if config.stats.is_some() {
                (unmeasured, begun) = (stats::prepare(leaf, &record), Some(sys::monotonic_microseconds()));
            }
            cgroup = Some(made);
        }
        Ok((directory, maps, cgroup))
    });
    let path = leaf.as_ref().map(|leaf| &*leaf.path);
    let (mut tables, mut swept) = (None, false);
    let status = made.and_then(|(directory, maps, cgroup)| {
        crate::print(2, &net::picked(&reservations, &config.publish));
        let (signals, init, root, reservations) = (&signals, &init, &root, &*reservations);
        let host = Host { config, net, signals, init, root, reservations, directory, maps, cgroup, path, size };
        host.live(rootfs, &mut journal, duties, &mut tables, &mut swept)
    });
    if let (Some(format), Some(begun), Some(path)) = (config.stats, begun, path) {
        let elapsed = sys::monotonic_microseconds() - begun;
        let text = Stats::read(path).print(format, &config.name, elapsed, &unmeasured);
        match &mut duties.output {
            Some(output) => output.attached.tell(Stream::Stderr, text.as_bytes()),
            None => crate::print(2, &text),
        }
    }
    // On failure too: by now the container's processes are dead or dying.
    if status.is_err() && duties.starter.is_some() {
        // It has never run: nothing of it stays.
        journal.forget();
    }
    let released = journal.release(tables);
    if let Some(leaf) = &leaf {
        leaf.return_launcher();
    }
    drop(reservations);
    if status.is_err() && root.made_shared() {
        // This start made the bridge and the rest for nothing.
        let _ = root.prune();
    } else if !swept {
        root.sweep_few();
    }
    duties.tell_end(&status);
    let status = status?;
    released.map(|()| status)
}

/// Writes down what other commands must know of the container, and is not in its plan.
fn record_life(config: &Config, journal: &mut Journal<'_>) -> Result<()> {
    let life = &config.life;
    if life.detach && !life.rm {
        journal.record(Entry::Kept)?;
    }
    if (life.stop_signal, life.stop_timeout) != (SIGTERM, crate::life::STOP_TIMEOUT) {
        journal.record(Entry::Stop(life.stop_signal, life.stop_timeout))?;
    }
    if life.restart.0 != Restart::No {
        journal.record(Entry::Restart(life.restart.1.clone()))?;
    }
    Ok(())
}

/// What all lives of a container have in common.
struct Host<'a> {
    config: &'a Config,
    net: &'a Network<'a>,
    signals: &'a Signals,
    /// The init's program, which PID 1 and this process share.
    init: &'a OwnedFd,
    root: &'a Root,
    /// The published ports, in their order.
    reservations: &'a [net::Reservation],
    /// That of the container's files.
    directory: OwnedFd,
    maps: Option<Maps>,
    /// The leaf cgroup, and its path.
    cgroup: Option<OwnedFd>,
    path: Option<&'a str>,
    /// Rows and columns of the terminal that it gets.
    size: Option<(u16, u16)>,
}

impl Host<'_> {
    /// Lets the container live, again and again where it is to be so; gives its last exit status.
    fn live(
        &self,
        rootfs: (root::Root, u32),
        journal: &mut Journal<'_>,
        duties: &mut Duties,
        tables: &mut Option<net::Tables>,
        swept: &mut bool,
    ) -> Result<u8> {
        let (mut rootfs, mut restarts, mut delay, mut hits) = (Some(rootfs), 0, FIRST_DELAY, Hits::default());
        loop {
            let begun = sys::monotonic_microseconds();
            let rootfs = rootfs.take().map_or_else(|| root::find(self.config), Ok);
            let ended = rootfs.and_then(|rootfs| self.live_once(rootfs, journal, duties, tables, swept, &hits));
            if ended.is_err() && duties.starter.is_some() {
                return ended;
            }
            let (status, reason) = match &ended {
                Ok(status) => (*status, String::new()),
                Err(error) => (error.status(), error.to_string()),
            };
            // What of it holds on to the state is done.
            self.root.started();
            let limits = self.path.filter(|_| journal.is_kept()).map(|path| (path, &hits));
            journal.set(Entry::Ended(Ended::of(status, limits, reason)))?;
            // Not before: until then others take the pid of its PID 1 from the journal.
            reap_all();
            if !self.is_to_live_again(status, restarts, duties) {
                return ended;
            }
            if sys::monotonic_microseconds() - begun >= GOOD_LIFE {
                delay = FIRST_DELAY;
            }
            journal.release_network(tables.take())?;
            restarts += 1;
            journal.set(Entry::Restarts(restarts))?;
            hits = self.path.map(Hits::read).unwrap_or_default();
            let changes = Journal::watch_for_stop(&self.directory);
            let is_stopped = || Journal::is_stop_asked(&self.directory);
            let mut tell = |news| self.write_down(news, journal);
            if !pause(self.signals, duties, delay, changes.as_ref(), &is_stopped, &mut tell)? {
                return ended;
            }
            delay = (delay * 2).min(LONGEST_DELAY);
            self.root.starting_again()?;
        }
    }

    fn is_to_live_again(&self, status: u8, restarts: u32, duties: &mut Duties) -> bool {
        let by_policy = match self.config.life.restart.0 {
            Restart::No => false,
            Restart::OnFailure(times) => status != 0 && times.is_none_or(|times| restarts < times),
            Restart::Always => true,
        };
        let is_sick = std::mem::take(&mut duties.is_to_restart);
        (by_policy || is_sick) && !duties.is_stopped && !Journal::is_stop_asked(&self.directory)
    }

    /// From the clone of a container's init to its end.
    fn live_once(
        &self,
        rootfs: (root::Root, u32),
        journal: &mut Journal<'_>,
        duties: &mut Duties,
        tables: &mut Option<net::Tables>,
        swept: &mut bool,
        hits: &Hits,
    ) -> Result<u8> {
        let config = self.config;
        for net::Reservation { port, .. } in self.reservations {
            journal.record(match self.net.way_of(config, port) {
                Via::Nft => Entry::Publish(*port),
                Via::Relay => Entry::Relay(*port),
            })?;
        }
        self.net.prepare(config, self.root, journal)?;
        let (mut container, plan) = self.clone(rootfs, duties)?;
        let plan_read: Plan<'_> =
            decode(&plan).ok_or_else(|| Error::usage(format_args!("read the container's plan"), ""))?;
        journal.set(Entry::Init(container.pid.as_raw_pid() as u32, sys::realtime_seconds()))?;
        // Who asks for the end from here on finds it there; who has asked before did not.
        if Journal::is_stop_asked(&self.directory) {
            duties.signal(SIGKILL, &container);
        }
        let mut ready = vec![READY];
        let connected = self
            .net
            .connect(config, self.root, journal, self.reservations, (container.pid, &container.pidfd))
            .map_err(|error| self.first_cause(error, &container.status, &plan_read, hits))?;
        ready.extend(names::hosts_lines(config, &connected.addresses).bytes());
        *tables = connected.tables;
        let address = match self.net {
            Network::Bridge(..) => connected.addresses.first().copied(),
            _ => None,
        };
        let address = address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        // That to ::1 alone is made while init goes on.
        let is_late = !connected.needs_relay
            && self.reservations.iter().all(|reserved| self.net.way_of(config, &reserved.port) == Via::Nft);
        if !is_late {
            duties.relay = self.relay(address, connected.needs_relay, &container, &plan)?;
        }
        if let (Some(Ready::Port), Some(_)) = (config.life.wait_ready, &duties.starter) {
            let port = config.publish.iter().find(|port| port.protocol == Protocol::Tcp);
            let to = |port: &Publish| (address, port.container_port).into();
            duties.readiness = port.map(|port| Readiness::port(to(port)));
        }
        self.root.started();
        let _ = send(&container.status, &ready, SendFlags::NOSIGNAL);
        if is_late {
            duties.relay = self.relay(address, false, &container, &plan)?;
        }
        let mut checks = config.life.health.as_ref().map(|health| Checks::new(health, &plan, self.init, self.path));
        let is_waited_for = duties.starter.is_some();
        let is_dying = |at_once: bool| {
            let dies = |path: &str| hits.since(path).is_oom_killed() && (at_once || cgroup::processes(path).len() < 2);
            is_waited_for && self.path.is_some_and(dies)
        };
        let mut tell = |news| match news {
            News::Quiet => *swept = self.root.sweep().is_ok(),
            news => self.write_down(news, journal),
        };
        let ended = supervise(&mut container, self.signals, duties, checks.as_mut(), &is_dying, &mut tell)?;
        let (is_to_be_ready, never_ready) = (duties.is_to_be_ready(), duties.will_never_be_ready());
        (duties.readiness, duties.relay) = (None, None);
        match (ended.report, self.path) {
            (Some(report), _) => Err(explain(report, &plan_read)),
            (None, Some(path)) if ended.status == KILLED && hits.since(path).is_oom_killed() => {
                Err(out_of_memory(path))
            }
            (None, _) if never_ready => {
                let what = format_args!("{} has closed the fd of --notify-fd", config.name);
                Err(Error::usage(what, "it is to write a newline there when it is ready"))
            }
            (None, _) if duties.starter.is_some() && is_to_be_ready => {
                let what = format_args!("{} ended with {} before it was ready", config.name, ended.status);
                Err(Error::usage(what, "its log is gone with it: run it in the foreground to see why"))
            }
            (None, _) if duties.starter.is_some() && ended.was_killed => {
                Err(Error::usage(format_args!("{} was killed while it started", config.name), "start it again"))
            }
            (None, _) => {
                duties.started();
                Ok(ended.status)
            }
        }
    }

    /// What others are to know of a container that goes on.
    fn write_down(&self, news: News, journal: &mut Journal<'_>) {
        match news {
            News::Health(is_well) => drop(journal.set(Entry::Health(is_well))),
            News::LeftAlone if !self.config.life.rm => drop(journal.set(Entry::Kept)),
            News::LeftAlone | News::Quiet => {}
        }
    }

    /// The relay to a container that has this address, where it has something to do, or is to do it all.
    fn relay(&self, address: IpAddr, all: bool, container: &Started, plan: &[u8]) -> Result<Option<Relay>> {
        let is_relayed = |reserved: &&net::Reservation| all || self.net.is_relayed(self.config, &reserved.port);
        let relayed: Vec<_> = self.reservations.iter().filter(is_relayed).collect();
        if relayed.is_empty() {
            return Ok(None);
        }
        let way = if matches!(self.net, Network::Bridge(..)) {
            Way::Host
        } else {
            let pid = container.pid.as_raw_pid() as u32;
            let container = join::Container { pid, init: &container.pidfd, leaf: self.path };
            Way::Inside(Sockets::start(&container, self.init, plan)?)
        };
        let mut relay = Relay::new(way)?;
        for reserved in relayed {
            relay.add(reserved.socket()?, reserved.port.protocol, (address, reserved.port.container_port).into())?;
        }
        Ok(Some(relay))
    }

    /// The network could not be set up: because init had failed before, which it reports, or was killed, or for `error`.
    fn first_cause(&self, error: Error, status: &OwnedFd, plan: &Plan<'_>, hits: &Hits) -> Error {
        // Init sees the end of file instead of the byte that it waits for, and ends, so this does, too.
        let _ = shutdown(status, Shutdown::Write);
        let report = loop {
            match listen(status) {
                Told::Failure(report) => break Some(report),
                Told::End => break None,
                Told::Terminal(_) | Told::Nothing => {}
            }
        };
        match (report, self.path) {
            (Some(report), _) if report.step != Step::Launcher => explain(report, plan),
            (_, Some(path)) if hits.since(path).is_oom_killed() => out_of_memory(path),
            _ => error,
        }
    }

    /// Clones init into its namespaces and its leaf cgroup, and gives it the ids and the trees that only the host's root can.
    /// Gives its plan, too.
    fn clone(&self, (rootfs, owner): (root::Root, u32), duties: &mut Duties) -> Result<(Started, Vec<u8>)> {
        let (config, maps) = (self.config, self.maps.as_ref());
        let (mut trees, mut fds) = (Vec::new(), Vec::new());
        let mut inherit = |place, tree: OwnedFd, idmap| -> Result<()> {
            trees.push(Tree { place, fd: inherited(&tree)? });
            fds.push((place, tree, idmap));
            Ok(())
        };
        let copy = |path: &CStr| {
            root::copy_tree(path)
                .context(format_args!("open_tree {}", path.to_string_lossy()), "it takes CAP_SYS_ADMIN")
        };
        // A root whose files are the container's already is shown as it is.
        let idmap = maps.is_some_and(|maps| !maps.has_owner(owner));
        match rootfs {
            root::Root::Image(mounted) => inherit(Place::Root, mounted, idmap)?,
            root::Root::Directory if idmap => inherit(Place::Root, copy(&config.rootfs)?, true)?,
            root::Root::Directory => {}
        }
        for (index, volume) in config.volumes.iter().enumerate().filter(|(_, volume)| volume.idmap) {
            if !crate::is_privileged() || maps.is_none() {
                let hint = "idmap is for root and a user namespace: give --userns auto, or leave it out";
                return Err(Error::usage(format_args!("--volume …:{}:idmap", volume.target.to_string_lossy()), hint));
            }
            inherit(Place::Volume(index), copy(volume.source.as_deref().unwrap_or_default())?, true)?;
        }
        if maps.is_some()
            && let Some(sysfs) = self.net.sysfs()?
        {
            inherit(Place::Sys, sysfs, false)?;
        }
        let (extras, _notify) = self.extras(duties)?;
        if let Some(socket) = extras.notify_socket.as_deref().filter(|_| maps.is_some() && crate::is_privileged()) {
            // Root of a user namespace cannot get there by its path.
            inherit(Place::Notify, copy(socket)?, false)?;
        }
        let (net, mask) = (self.net, self.signals.original_mask());
        let plan = plan::encode(config, net, &trees, maps, mask, &extras)?;
        plan::save(&plan, &self.directory).context(format_args!("write {}/plan", self.root.path(&config.name)), "")?;
        let plan_read: Plan<'_> =
            decode(&plan).ok_or_else(|| Error::usage(format_args!("read the container's plan"), ""))?;

        let flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP;
        let flags = flags | if net.is_own() { CLONE_NEWNET } else { 0 };
        let flags = flags | maps.map_or(0, |_| CLONE_NEWUSER);
        match &mut duties.output {
            Some(output) if config.life.tty => output.await_terminal(),
            Some(output) => output.open_pipes(config.life.interactive)?,
            None => {}
        }
        let (way_in, process) = ((PLAN_ARGUMENT, &*plan), &plan_read.process);
        if let Some(maps) = maps {
            maps.own_pipes();
        }
        let started = net.inside(|| start(self.init, way_in, process, flags, self.cgroup.as_ref(), maps.is_some()));
        if duties.output.is_some() {
            output::leave_stdio()?;
        }
        let container = started??.map_err(|errno| {
            let hint = match errno {
                Errno::PERM | Errno::NOSPC | Errno::INVAL if maps.is_some() => &*userns::why_refused(errno),
                Errno::PERM => "kontena needs CAP_SYS_ADMIN: run it as root of the host, or of a container that may",
                Errno::NOSPC => "a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces",
                Errno::AGAIN => "a limit of processes is reached: raise --pids-limit or the caller's own",
                Errno::BUSY => "the cgroup cannot hold processes: choose another with --cgroup-parent",
                _ => "kontena needs Linux 5.15 or newer with all namespaces built in",
            };
            Error::new(format_args!("clone3 of the container"), errno, hint)
        })?;
        if let Some(maps) = maps {
            maps.write(container.pid)?;
            for (place, tree, _) in fds.iter().filter(|(_, _, idmap)| *idmap) {
                let source = match place {
                    Place::Volume(index) => config.volumes[*index].source.as_deref(),
                    _ => None,
                };
                userns::show_to(container.pid, tree, &source.unwrap_or(&config.rootfs).to_string_lossy())?;
            }
            let _ = send(&container.status, &[READY], SendFlags::NOSIGNAL);
        }
        Ok((container, plan))
    }

    /// What the plan has beside what was asked for; with what only the clone must still hold open.
    fn extras(&self, duties: &mut Duties) -> Result<(Extras, Option<OwnedFd>)> {
        let life = &self.config.life;
        let mut extras = Extras { size: self.size, ..Extras::default() };
        let (mut theirs, waits) = (None, duties.starter.is_some());
        if let Some(number) = life.notify_fd {
            extras.notify = Some(if duties.output.is_some() {
                let (ours, pipe) = pipe_with(PipeFlags::CLOEXEC).context(format_args!("pipe"), "")?;
                duties.readiness = Some(Readiness::newline(ours, waits && life.wait_ready == Some(Ready::Fd)));
                let inherited = inherited(&pipe)?;
                theirs = Some(pipe);
                (inherited, number)
            } else {
                sys::inherit(number).context(format_args!("--notify-fd {number}"), "")?;
                (crate::config::c_string(number.to_string())?, number)
            });
        }
        if life.sdnotify {
            let waits = waits && life.wait_ready == Some(Ready::Notify);
            duties.readiness = Some(Readiness::datagrams(&self.directory, waits)?);
            let socket = format!("{}/{}", self.root.path(&self.config.name), ready::SOCKET);
            extras.notify_socket = Some(crate::config::c_string(socket)?);
        }
        Ok((extras, theirs))
    }
}
