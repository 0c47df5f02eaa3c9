//! `kontena run`: a container from its start to its end, in the order in which it acquires and releases resources.
//!
//! `create` refuses all that can be refused, before anything is acquired. Each resource is in the journal before it is
//! acquired, so an error, the end of the payload and a SIGKILL of this process all end the same way. While the init
//! makes the mounts, this process sets up the network. Must not know how any of the resources is made.

use crate::config::bundle::Bundle;
use crate::config::lifecycle::{Restart, STOP_TIMEOUT};
use crate::config::{Config, Share};
use crate::container::create::take_name;
use crate::container::exit::out_of_memory;
use crate::container::joined::Joined;
use crate::container::pidfile::Pidfile;
use crate::container::prune::prune;
use crate::container::release::{release, release_abandoned};
use crate::container::shared::Shared;
use crate::error::{Context, Error, Result};
use crate::net::{self, Connected, Helper, Names, Network, PortForward, Relay, Tables};
use crate::print;
use crate::resources::cgroup::{Leaf, LeafEvents};
use crate::resources::devices;
use crate::resources::owner;
use crate::resources::stats::{self, Stats};
use crate::resources::userns::Maps;
use crate::spawn::clone::{self, Started, decode_plan, seal_init};
use crate::spawn::explain::{explain, explain_status};
use crate::spawn::join;
use crate::spawn::plan;
use crate::spawn::sources::{Inherited, Place, Sources, lock_root};
use crate::spawn::trees::Tree;
use crate::state::{self, Entry, Init, Journal, KILLED, StateDirectory, Stop, stop};
use crate::supervise::exit::Exit;
use crate::supervise::health::Checks;
use crate::supervise::log::Stream;
use crate::supervise::message::{Message, let_continue, listen};
use crate::supervise::signals::Signals;
use crate::supervise::stdio::{self, Stdio};
use crate::supervise::{Event, Life, Supervision};
use crate::sys;
use kontena_init::plan::{READY, Report, Step};
use linux_raw_sys::general::{CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS, SIGTERM};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::termios::Winsize;

/// A container, and all that it holds on the host.
pub struct Container {
    pub(super) config: &'static Config,
    pub(super) root: &'static StateDirectory,
    pub(super) journal: Journal<'static>,
    /// The directory of its files.
    pub(super) directory: OwnedFd,
    /// Whether this process is the host's root, or may do the same.
    is_root: bool,
    network: Network<'static>,
    /// The namespaces of another container.
    shared: Shared,
    /// The namespaces that it joins by their files.
    joined: Joined,
    /// The published ports, in their order.
    forwards: Vec<PortForward>,
    /// Its elements of the nftables maps, while it has any.
    pub(super) tables: Option<Tables>,
    /// Its /etc/hosts, on a bridge with names, while it runs.
    names: Option<Names<'static>>,
    /// The program that makes its connections, while it runs.
    helper: Option<Helper>,
    pub(super) sources: Sources,
    /// The mounts of the first run: whether there are all was found out before anything was taken.
    pub(super) mounts: Option<Vec<Inherited>>,
    pidfile: Option<Pidfile>,
    pub(super) maps: Option<Maps>,
    /// The locks on its root and its named volumes.
    pub(super) locks: Vec<OwnedFd>,
    pub(super) leaf: Option<&'static Leaf>,
    cgroup: Option<OwnedFd>,
    /// The events of the leaf cgroup in this run.
    pub(super) events: Option<LeafEvents<'static>>,
    /// `--stats`, from the time on when there is something to measure.
    measurement: Option<Measurement>,
    /// The init's program, which PID 1 and this process share.
    init_program: &'static OwnedFd,
    /// Rows and columns of its terminal.
    pub(super) size: Option<Winsize>,
    pub(super) supervision: Supervision,
    /// Whether this process has looked for what other launchers have left.
    is_swept: bool,
}

struct Measurement {
    /// CLOCK_MONOTONIC, microseconds.
    begun: u64,
    /// Why some of it cannot be measured.
    missing: Vec<String>,
}

/// PID 1 of one run, and the Plan that it was started with.
pub(super) struct Spawned {
    pub(super) init: Started,
    pub(super) plan: Vec<u8>,
    /// The network links that it has taken from the host.
    #[cfg(feature = "oci")]
    pub(super) devices: net::Devices,
}

/// `--replace`: once the root can be mounted.
fn replace_other(state: &str, config: &Config, sources: &Sources) -> Result<()> {
    let Some(replace) = config.replace else { return Ok(()) };
    sources.try_root()?;
    replace(state, config.name)
}

/// Keeps a value for as long as this process lives.
fn keep<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

impl Container {
    /// Opens everything that the container needs, or reports what is missing; reserves its ports, and takes its name.
    pub fn create(state: &str, config: &'static Config, size: Option<Winsize>) -> Result<Self> {
        let life = &config.life;
        let is_foreground = !life.detach && !life.tty && config.bundle.as_ref().is_none_or(Bundle::stays);
        // An ordinary user, or uid 0 without privileges, is root in a user namespace alone.
        let is_root = sys::is_privileged();
        if let Some(number) = life.notify_fd.filter(|_| is_foreground) {
            // Before this process has opened anything that the number could be of.
            let hint = "in the foreground the command inherits it from the caller: open it, for example 3>&1";
            sys::look_at_fd(number).context(format_args!("--notify-fd {number}"), hint)?;
        }
        let net = keep(net::choose(config, is_root)?);
        sys::close_inherited_fds_on_exec().context(format_args!("close_range"), "kontena needs Linux 5.15 or newer")?;
        let mut supervision = Supervision::new(Signals::block(config.lends_terminal())?, life.stop_signal);
        if is_foreground {
            supervision.stdio = Stdio::open(life.interactive)?;
        }
        let mut sources = Sources::open(config)?;
        let pidfile = config.pidfile.map(Pidfile::open).transpose()?;
        let (leaf, init_program) = (Leaf::choose(config, is_root)?.map(keep), keep(seal_init()?));
        // Now that the rest is known to be there: the other one may have the layer and the ports.
        replace_other(state, config, &sources)?;
        sources.take_layer(config)?;
        let (mounts, forwards) = (Some(sources.copy()?), net::reserve(state, config, net)?);

        let mut root = StateDirectory::open(state, release_abandoned)?;
        root.starting()?;
        let root = keep(root);
        let (network, shared) = (Network::resolve(net, config, root)?, Shared::open(config, root)?);
        let joined = Joined::open(config, leaf.is_some(), &network)?;
        let journal = take_name(root, config)?;
        let directory = match journal.directory() {
            Ok(directory) => directory,
            Err(error) => return release(journal, None, forwards).and(Err(error)),
        };
        Ok(Self {
            config,
            root,
            journal,
            directory,
            is_root,
            network,
            shared,
            joined,
            forwards,
            tables: None,
            names: None,
            helper: None,
            sources,
            mounts,
            pidfile,
            maps: None,
            locks: Vec::new(),
            leaf,
            cgroup: None,
            events: None,
            measurement: None,
            init_program,
            size,
            supervision,
            is_swept: false,
        })
    }

    /// From its first start to its last end; returns its exit status.
    pub fn run(mut self) -> Result<u8> {
        let ended = self.set_up().and_then(|()| self.run_with_restarts());
        self.tear_down(ended)
    }

    /// Takes what all runs of the container have in common.
    pub(super) fn set_up(&mut self) -> Result<()> {
        self.record_life()?;
        if let Some(output) = &mut self.supervision.output {
            output.open(&self.directory, self.config.life.log.filter(|_| self.config.life.detach))?;
        }
        self.maps = match self.joined.maps()? {
            None => Maps::allocate(self.config.userns.as_ref(), self.is_root, &mut self.journal)?,
            joined => joined,
        };
        self.open_volumes()?;
        self.give_volumes()?;
        self.make_cgroup()?;
        let root = self.mounts.iter().flatten().find(|mount| mount.place == Place::Root);
        self.locks.extend(root.and_then(|root| lock_root(self.config, &root.fd)));
        print::print(2, &net::picked(&self.forwards, &self.config.publish));
        Ok(())
    }

    /// Records the facts for other commands that are not in the Plan.
    fn record_life(&mut self) -> Result<()> {
        let life = &self.config.life;
        if life.rm {
            // From now on: until then `create` has kept it.
            self.journal.forget();
        } else if life.detach {
            self.journal.keep(&self.config.line)?;
        }
        if (life.stop_signal, life.stop_timeout) != (SIGTERM, STOP_TIMEOUT) {
            self.journal.append(Entry::Stop(Stop { signal: life.stop_signal, timeout: life.stop_timeout }))?;
        }
        if life.restart.policy != Restart::No {
            self.journal.append(Entry::Restart(life.restart.text.into()))?;
        }
        let (labels, exposed) = (&self.config.labels, &self.config.exposed);
        let texts = [(labels, Entry::Label as fn(String) -> Entry), (exposed, Entry::Exposed)];
        for (texts, entry) in texts {
            texts.iter().try_for_each(|text| self.journal.append(entry((*text).into())))?;
        }
        Ok(())
    }

    /// Gives volumes to the container's user where that is asked for.
    fn give_volumes(&self) -> Result<()> {
        for (index, volume) in self.config.volumes.iter().enumerate().filter(|(_, volume)| volume.chowns) {
            let what = format_args!("volume {}: U", volume.target.to_string_lossy());
            if !self.is_root {
                return Err(Error::usage(what, "only root can give files away: run chown(1) in the container"));
            }
            let Some(mount) = self.mounts.iter().flatten().find(|mount| mount.place == Place::Volume(index)) else {
                continue;
            };
            let maps = self.maps.as_ref().filter(|_| !mount.idmap);
            let owner = owner::on_host(&self.config.user.to_string_lossy(), maps);
            let owner = owner.ok_or_else(|| Error::usage(what, "give -u UID:GID, numbers that --userns has"))?;
            let is_stopped = || sys::ending_signal().is_some() || stop::is_asked(&self.directory);
            match owner::give(&mount.fd, owner, is_stopped) {
                Err(Errno::INTR) => return Err(Error::usage(what, "stopped before all files had their owner")),
                given => given.context(what, "use a volume whose file system has owners, and can be written to")?,
            }
        }
        Ok(())
    }

    fn make_cgroup(&mut self) -> Result<()> {
        let (config, root) = (self.config, self.root);
        let Some(leaf) = self.leaf else { return Ok(()) };
        let record = |what: &str| root.record_shared(&format!("cgroup {what}"));
        let cgroup = self.journal.make_cgroup(&leaf.path, || leaf.make(config, &record))?;
        self.events = Some(LeafEvents::all(&leaf.path));
        leaf.limit(&cgroup, config, self.is_root, &record)?;
        if self.is_root {
            devices::confine(&cgroup, config, &self.sources.devices)?;
        }
        if let Some(owner) = self.maps.as_ref().and_then(Maps::root)
            && config.bundle.as_ref().is_some_and(Bundle::owns_cgroup)
        {
            leaf.give(&cgroup, owner)?;
        }
        if config.stats.is_some() {
            let missing = stats::prepare(leaf, &record);
            self.measurement = Some(Measurement { begun: sys::monotonic_microseconds(), missing });
        }
        self.cgroup = Some(cgroup);
        Ok(())
    }

    /// One run, from the clone of its init to its end; returns its exit status.
    pub(super) fn run_once(&mut self) -> Result<u8> {
        let spawned = self.begin(0)?;
        self.supervise(&spawned)
    }

    /// Begins a run: clones the init, and connects it to the network. `start` is the number of an fd that the init
    /// inherits, if it waits for somebody on it.
    pub(super) fn begin(&mut self, start: u32) -> Result<Spawned> {
        let mounts = self.mounts.take().map_or_else(|| self.sources.copy(), Ok)?;
        for forward in &self.forwards {
            self.journal.append(Entry::Port(forward.record()))?;
        }
        self.network.prepare(self.config, self.root, &mut self.journal)?;
        let mut spawned = self.spawn(mounts, start)?;
        // For whoever joins the container, which nobody can before its init is recorded. The init is at work already.
        let directory = self.root.path(self.config.name);
        plan::save(&spawned.plan, &self.directory).at(format_args!("write {directory}/plan"))?;
        self.record_init(&spawned.init)?;
        if let Some(bundle) = &self.config.bundle {
            self.before_pivot(bundle, &mut spawned)?;
        }
        self.connect(&spawned)?;
        Ok(spawned)
    }

    /// Clones the init into its namespaces and its leaf cgroup, and writes its maps and idmaps, which only the host's
    /// root may do.
    fn spawn(&mut self, mounts: Vec<Inherited>, start: u32) -> Result<Spawned> {
        let (config, maps) = (self.config, self.maps.as_ref());
        let mut trees = Vec::new();
        for source in mounts {
            trees.push(Tree::of(source, maps)?);
        }
        if maps.is_some()
            && let Some(sysfs) = self.network.sysfs()?
        {
            trees.push(Tree::new(Place::Sys, sysfs));
        }
        let mut notify = self.open_notify()?;
        notify.extras.start = start;
        trees.extend(notify.tree);
        trees.extend(self.shared.shm()?);
        let (maps, devices, extras) = (self.maps.as_ref(), &*self.sources.devices, &notify.extras);
        let network = self.network_of_plan();
        let plan = plan::encode(&plan::Inputs { config, network, trees: &trees, devices, maps, extras })?;

        if let Some(output) = &mut self.supervision.output {
            output.open_stdio(config.life.tty, config.life.interactive)?;
        }
        if let Some(maps) = maps {
            maps.own_pipes();
        }
        trees.iter().try_for_each(Tree::pass_on)?;
        if let Some(leaf) = self.leaf.filter(|_| config.delegates_cgroup) {
            self.cgroup = Some(leaf.delegate(maps.and_then(Maps::root))?);
        }
        let is_own = |share| share == Share::Private;
        let shared = [(self.network.is_own(), CLONE_NEWNET), (is_own(config.ipc), CLONE_NEWIPC)];
        let shared = shared.into_iter().chain([(is_own(config.uts), CLONE_NEWUTS)]);
        let others = config.bundle.as_ref().map_or(0, Bundle::shared);
        let shared = shared.filter(|(is_own, _)| !is_own).fold(others, |flags, (_, flag)| flags | flag);
        for number in 3..3 + config.preserve_fds {
            sys::inherit(number).at(format_args!("--preserve-fds: fd {number}"))?;
        }
        let elsewhere = self.joined.elsewhere();
        let start = || clone::clone_container(self.init_program, &plan, shared, self.cgroup.as_ref(), maps, elsewhere);
        let init = self.network.inside(|| self.shared.inside(start)).and_then(|init| init);
        if self.supervision.output.is_some() {
            stdio::leave_stdio()?;
        }
        let init = init.and_then(|init| init)?;
        if config.preserve_fds > 0 {
            // They are for no other program that this process starts.
            sys::close_inherited_fds_on_exec().at(format_args!("close_range"))?;
        }
        if let Some(maps) = maps {
            maps.write(init.pid)?;
            trees.iter().try_for_each(|tree| tree.show_to(init.pid))?;
            let_continue(&init.status, &[READY])?;
        }
        Ok(Spawned {
            init,
            plan,
            #[cfg(feature = "oci")]
            devices: net::Devices::default(),
        })
    }

    fn network_of_plan(&self) -> plan::Network<'static> {
        plan::Network {
            is_own: self.network.is_own(),
            is_hosts: matches!(self.network, Network::Host),
            is_linked: self.network.is_linked(),
            is_loopback: matches!(self.network, Network::None),
            settings: self.network.settings(self.config),
            files: if self.config.bundle.is_some() { Vec::new() } else { self.network.etc_files(self.config) },
        }
    }

    /// Records the pid of PID 1. A `stop` from here on finds it there; one that came before did not, and has left its
    /// request.
    fn record_init(&mut self, init: &Started) -> Result<()> {
        let pid = init.pid.as_raw_pid() as u32;
        let since = sys::realtime_seconds();
        self.journal.append(Entry::Init(Init { pid, since, pid_namespace: state::pid_namespace() }))?;
        if stop::is_asked(&self.directory) {
            self.supervision.kill(init)?;
        }
        // That of a bundle has no newline, and says that the container is whole.
        if self.config.bundle.is_some() { Ok(()) } else { self.write_pidfile(&format!("{pid}\n")) }
    }

    pub(super) fn write_pidfile(&self, text: &str) -> Result<()> {
        self.pidfile.as_ref().map_or(Ok(()), |file| file.write(text))
    }

    /// Links the container to its network, while its init makes the mounts; then lets the init continue.
    fn connect(&mut self, spawned: &Spawned) -> Result<()> {
        let (config, root) = (self.config, self.root);
        let connected = self.network.connect(config, root, &mut self.journal, &self.forwards, &spawned.init);
        let mut connected = connected.map_err(|error| self.first_cause(error, spawned))?;
        self.tables = connected.tables.take();
        if !connected.can_relay_late {
            self.supervision.relay = self.relay(&connected, spawned)?;
        }
        if let Some(port) = self.port_to_await(connected.target) {
            self.supervision.readiness = Some(port);
        }
        if self.network.is_linked() {
            let hosts = self.receive_hosts(spawned)?;
            self.names = self.network.write_hosts(hosts, &connected.addresses, config, root)?;
            let helper = self.network.start_outbound(&spawned.init);
            self.helper = helper.map_err(|error| self.first_cause(error, spawned))?;
        }
        root.started();
        let_continue(&spawned.init.status, &[READY])?;
        if connected.can_relay_late {
            self.supervision.relay = self.relay(&connected, spawned)?;
        }
        Ok(())
    }

    /// The relay to the container, if it has ports to relay.
    fn relay(&self, connected: &Connected<'_>, spawned: &Spawned) -> Result<Option<Relay>> {
        let (pid, leaf) = (spawned.init.pid.as_raw_pid() as u32, self.leaf.map(|leaf| &*leaf.path));
        let container = join::Container { pid, init: &spawned.init.pidfd, leaf };
        self.network.open_relay(connected, &container, self.init_program, &spawned.plan)
    }

    /// The /etc/hosts that the init has made.
    fn receive_hosts(&self, spawned: &Spawned) -> Result<OwnedFd> {
        let report = match listen(&spawned.init.status) {
            Message::Fd(hosts, _) => return Ok(hosts),
            Message::Failure(report) => Some(report),
            _ => None,
        };
        let error = Error::usage(format_args!("kontena-init ended during the start"), "start the container again");
        Err(self.cause(report, error, spawned))
    }

    /// The network could not be set up: because the init had failed before, which it reports, or was killed, or for
    /// `error`.
    pub(super) fn first_cause(&self, error: Error, spawned: &Spawned) -> Error {
        let status = &spawned.init.status;
        // The init sees the end of file instead of the byte that it waits for, and ends, so this does, too.
        let _ = shutdown(status, Shutdown::Write);
        let report = loop {
            match listen(status) {
                Message::Failure(report) => break Some(report),
                Message::End => break None,
                _ => {}
            }
        };
        self.cause(report, error, spawned)
    }

    /// Why the init has failed, if it has.
    pub(super) fn cause(&self, report: Option<Report>, error: Error, spawned: &Spawned) -> Error {
        match (report, decode_plan(&spawned.plan)) {
            (Some(report), Ok(plan)) if report.step != Step::Launcher => explain(report, &plan, self.config.rootfs),
            _ => out_of_memory(self.events.as_ref()).unwrap_or(error),
        }
    }

    /// From the moment when the init continues to its end; returns the exit status, or why the run has failed.
    fn supervise(&mut self, spawned: &Spawned) -> Result<u8> {
        let leaf = self.leaf.map(|leaf| &*leaf.path);
        let mut life = Life::new(&spawned.init);
        life.events = self.events;
        life.checks = Checks::of(self.config.life.health.as_ref(), &spawned.plan, self.init_program, leaf);
        let exit = loop {
            match self.supervision.next(Some(&mut life))? {
                Event::Exited(exit) => break exit,
                event => self.take_note(&event),
            }
        };
        let ended = self.judge(&exit, &spawned.plan);
        (self.supervision.readiness, self.supervision.relay, self.names, self.helper) = (None, None, None, None);
        ended
    }

    /// Acts on an event of a running container: mostly, records it for other commands.
    pub(super) fn take_note(&mut self, event: &Event) {
        match event {
            Event::Quiet => self.is_swept = self.root.sweep_own().is_ok(),
            // If the container has filled or spoilt its own file, it is without the names.
            Event::LeasesChanged => drop(self.names.as_mut().map(Names::update)),
            Event::Health(is_healthy) => drop(self.journal.append(Entry::Health(*is_healthy))),
            Event::Detached if !self.config.life.rm => drop(self.journal.keep(&self.config.line)),
            _ => {}
        }
    }

    /// The exit status of a run that has ended, or why it has failed.
    fn judge(&mut self, exit: &Exit, plan: &[u8]) -> Result<u8> {
        if let Some(report) = exit.report {
            return Err(explain(report, &decode_plan(plan)?, self.config.rootfs));
        }
        if exit.status == KILLED
            && let Some(error) = out_of_memory(self.events.as_ref())
        {
            return Err(error);
        }
        let name = &self.config.name;
        if self.supervision.will_never_be_ready() {
            let hint = "the command must write a newline to it when it is ready";
            return Err(Error::usage(format_args!("{name} has closed the fd of --notify-fd"), hint));
        }
        let is_starting = self.supervision.starter.is_some();
        if is_starting && self.supervision.must_be_ready() {
            let what = format_args!("{name} ended with {} before it was ready", exit.status);
            let hint = match self.config.life.log {
                Some(_) => "above is the end of its log, unless it wrote nothing",
                None => "remove --log-driver none to see its last lines here",
            };
            return Err(Error::usage(what, hint));
        }
        if is_starting && exit.was_killed {
            return Err(Error::usage(format_args!("{name} was killed during its start"), "start it again"));
        }
        self.supervision.tell_started();
        self.say(explain_status(exit.status, plan::filter_of(self.config.security, self.has_maps())));
        Ok(exit.status)
    }

    pub(super) fn has_maps(&self) -> bool {
        self.maps.is_some()
    }

    /// Gives everything back; returns how the container has `ended`.
    pub(super) fn tear_down(mut self, ended: Result<u8>) -> Result<u8> {
        self.print_stats();
        // On failure too: by now the container's processes are dead or dying.
        if ended.is_err() && self.supervision.starter.is_some() {
            self.show_failure(&ended);
        }
        // Otherwise this process itself would keep the volumes of the container alone from being removed, and the next
        // container of its root or layer would meet this one.
        drop((self.locks, self.sources));
        let released = release(self.journal, self.tables, self.forwards);
        if let Some(leaf) = self.leaf {
            leaf.return_launcher();
        }
        if ended.is_err() && self.root.made_shared() {
            // This start made the bridge and the rest for nothing.
            let _ = prune(self.root);
        } else if !self.is_swept {
            self.root.sweep_few();
        }
        self.supervision.tell_end(&ended);
        // Nobody but the caller waits for this process by now.
        self.supervision.finish_stdio();
        if let (Ok(_), Err(error)) = (&ended, released) {
            // This error does not replace the container's own. The next command tries the release again.
            print::complain(&error);
        }
        ended
    }

    /// The container has never run: nothing of it stays, but what was there before.
    fn show_failure(&mut self, ended: &Result<u8>) {
        let is_new = self.config.life.again.is_none();
        if is_new || self.supervision.must_be_ready() {
            self.supervision.show_log(&self.directory);
        }
        if is_new {
            self.journal.forget();
        } else {
            let _ = self.record_end(&self.exit_record(ended));
        }
    }

    fn print_stats(&mut self) {
        let (Some(format), Some(leaf), Some(of)) = (self.config.stats, self.leaf, &self.measurement) else { return };
        let elapsed = sys::monotonic_microseconds() - of.begun;
        let text = Stats::read(&leaf.path).print(format, self.config.name, elapsed, &of.missing);
        self.say(&text);
    }

    /// Prints for the caller, or for those who are attached.
    fn say(&mut self, text: &str) {
        match &mut self.supervision.output {
            Some(output) if !text.is_empty() => output.attached.write(Stream::Stderr, text.as_bytes()),
            Some(_) => {}
            None => print::print(2, text),
        }
    }
}
