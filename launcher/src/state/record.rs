//! The record of a container: its journal, read from the first line to the last.
//!
//! Pure. Must not look at the host: whether the container is running, the reader says.

use crate::config::bridge::{Guest, hardware_address};
use crate::config::labels::key;
use crate::config::publish::PublishVia;
use crate::error::{Error, Result};
use crate::gather::Gather;
use crate::state::entry::{Cgroup, Entry, Init, PortRecord, Stop, VolumeRecord};
use crate::state::{ExitRecord, pid_namespace};
use std::net::IpAddr;

/// A container, by its journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Its name.
    pub name: String,
    /// Whether its launcher is alive.
    pub is_running: bool,
    /// Whether the record stays when the container has ended.
    pub is_kept: bool,
    /// How to ask it to stop, where that is not the default.
    pub stop: Option<Stop>,
    /// Its `--restart`, where that is not `no`.
    pub restart: Option<String>,
    /// Its labels: `KEY=VALUE`.
    pub labels: Vec<String>,
    /// The ports that it exposes: `80/tcp`.
    pub exposed: Vec<String>,
    /// The blocks of subordinate ids that it tried to lease, by their first uids; the last one is its own.
    pub ids: Vec<u32>,
    /// The named volumes that it uses.
    pub volumes: Vec<VolumeRecord>,
    /// Its leaf cgroup.
    pub cgroup: Option<Cgroup>,
    /// What it has of the host's network.
    pub network: NetworkRecord,
    /// PID 1 of its last run.
    pub init: Option<Init>,
    /// When its PID 1 was started, in the kernel's ticks, if it was handed over to the caller: it has no launcher then,
    /// and is running as long as that process is.
    pub handed_over: Option<u64>,
    /// How its last run ended; `None` from the start of the next one on.
    pub exit: Option<ExitRecord>,
    /// How often it was restarted.
    pub restarts: u32,
    /// Whether its launcher restarts it after that exit.
    pub is_restarting: bool,
    /// Whether its last health check succeeded; `None` before the first one.
    pub is_healthy: Option<bool>,
    has_entries: bool,
}

/// What a container has of the host's network.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NetworkRecord {
    /// The network namespace in which it has its addresses, by its inode number.
    pub namespace: Option<u64>,
    /// The addresses that it tried to get. The last one of each family is its own.
    pub tried: Vec<IpAddr>,
    /// The hardware address that was asked for.
    pub hardware: Option<[u8; 6]>,
    /// Its published ports.
    pub ports: Vec<PortRecord>,
}

impl ContainerRecord {
    /// Reads a journal. What follows the last newline was cut short by a crash, and never acted on.
    ///
    /// The record is large, and moved on by each of its readers: as a pointer, for 1 kB less of code.
    pub fn parse(name: &str, is_running: bool, journal: &str) -> Box<Self> {
        let mut record = Box::new(Self { name: name.into(), is_running, ..Self::default() });
        for entry in whole_lines(journal).into_iter().filter_map(Entry::from_line) {
            record.apply(entry);
        }
        record
    }

    /// Adds an entry. Returns whether an earlier one counts no more: without a rewrite, the journal would grow with
    /// each such entry.
    pub fn apply(&mut self, entry: Entry) -> bool {
        self.has_entries = true;
        match entry {
            // The path alone, and then the number with it: no more than two.
            Entry::Cgroup(cgroup) => self.cgroup = Some(cgroup),
            Entry::Namespace(number) => self.network.namespace = Some(number),
            Entry::Address(address) => self.network.tried.push(address),
            Entry::Hardware(address) => self.network.hardware = Some(address),
            Entry::Ids(first) => self.ids.push(first),
            Entry::Port(port) => self.network.ports.push(port),
            Entry::Volume(volume) => {
                // Each start records them.
                if self.volumes.iter().all(|other| other.path != volume.path) {
                    self.volumes.push(volume);
                }
            }
            Entry::Kept => return std::mem::replace(&mut self.is_kept, true),
            Entry::Stop(stop) => return self.stop.replace(stop).is_some(),
            Entry::Restart(policy) => return self.restart.replace(policy).is_some(),
            Entry::Label(label) => {
                let before = self.labels.len();
                self.labels.retain(|other| key(other) != key(&label));
                self.labels.push(label);
                return self.labels.len() <= before;
            }
            Entry::Exposed(ports) => {
                // Each start records them.
                if !self.exposed.contains(&ports) {
                    self.exposed.push(ports);
                }
            }
            Entry::Init(init) => {
                (self.exit, self.is_restarting) = (None, false);
                return self.init.replace(init).is_some();
            }
            Entry::HandedOver(ticks) => return self.handed_over.replace(ticks).is_some(),
            Entry::Exit(exit) => {
                self.is_restarting = false;
                return self.exit.replace(exit).is_some();
            }
            Entry::Restarts(count) => {
                self.is_restarting = self.exit.is_some();
                return std::mem::replace(&mut self.restarts, count) > 0;
            }
            Entry::Health(is_healthy) => return self.is_healthy.replace(is_healthy).is_some(),
        }
        false
    }

    /// The journal that reads back as this record.
    pub fn to_journal(&self) -> String {
        let mut journal = String::new();
        let mut add = |entry: Entry| journal += &entry.to_line();
        if self.is_kept {
            add(Entry::Kept);
        }
        self.stop.map(Entry::Stop).into_iter().for_each(&mut add);
        self.restart.clone().map(Entry::Restart).into_iter().for_each(&mut add);
        self.labels.iter().cloned().map(Entry::Label).for_each(&mut add);
        self.exposed.iter().cloned().map(Entry::Exposed).for_each(&mut add);
        self.volumes.iter().cloned().map(Entry::Volume).for_each(&mut add);
        self.ids.iter().copied().map(Entry::Ids).for_each(&mut add);
        self.cgroup.clone().map(Entry::Cgroup).into_iter().for_each(&mut add);
        self.network.ports.iter().copied().map(Entry::Port).for_each(&mut add);
        self.network.namespace.map(Entry::Namespace).into_iter().for_each(&mut add);
        self.network.tried.iter().copied().map(Entry::Address).for_each(&mut add);
        self.network.hardware.map(Entry::Hardware).into_iter().for_each(&mut add);
        self.init.map(Entry::Init).into_iter().for_each(&mut add);
        self.handed_over.map(Entry::HandedOver).into_iter().for_each(&mut add);
        self.is_healthy.map(Entry::Health).into_iter().for_each(&mut add);
        // Behind the exit, it says that a restart follows.
        let restarts = (self.restarts > 0).then_some(Entry::Restarts(self.restarts));
        let exit = self.exit.clone().map(Entry::Exit);
        let (first, last) = if self.is_restarting { (exit, restarts) } else { (restarts, exit) };
        first.into_iter().chain(last).for_each(&mut add);
        journal
    }

    /// Whether there is no entry: a launcher is about to take the name, or was killed before it had taken anything.
    pub fn is_empty(&self) -> bool {
        !self.has_entries
    }

    /// Whether everything has been given back, and only the record is there.
    pub fn holds_nothing(&self) -> bool {
        self.cgroup.is_none() && self.ids.is_empty() && self.init.is_none() && self.network == NetworkRecord::default()
    }

    /// Its launcher is gone: it has ended, if it was ever started. How, only the caller knows that it was handed over
    /// to.
    pub fn end(&mut self) {
        if self.init.is_some() && self.handed_over.is_none() {
            self.exit.get_or_insert_with(ExitRecord::of_killed_launcher);
        }
    }

    /// PID 1, while it is running.
    pub fn running_init(&self) -> Option<Init> {
        self.init.filter(|_| self.is_running && self.exit.is_none())
    }

    /// The path of its leaf cgroup, once that is its own.
    pub fn cgroup_path(&self) -> Option<&str> {
        self.cgroup.as_ref().filter(|cgroup| cgroup.number.is_some()).map(|cgroup| &*cgroup.path)
    }

    /// Refuses a container that was started in another pid namespace: its pids are those of other processes here.
    pub fn check_pid_namespace(&self) -> Result<()> {
        if self.init.is_none_or(|init| [0, pid_namespace()].contains(&init.pid_namespace)) {
            return Ok(());
        }
        let hint = "its pids mean other processes here: run this command where the container was started";
        Err(Error::usage(format_args!("{} was started in another pid namespace", self.name), hint))
    }
}

impl NetworkRecord {
    /// The container's addresses: IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let last = |is_ipv4| self.tried.iter().rev().find(|address| address.is_ipv4() == is_ipv4);
        [last(true), last(false)].into_iter().flatten().copied().list()
    }

    /// What it has of a bridge, if it has addresses.
    pub fn guest(&self) -> Option<Guest> {
        let addresses = self.addresses();
        let hardware = self.hardware.unwrap_or(hardware_address(*addresses.first()?));
        let sent = self.ports.iter().filter(|port| port.via == PublishVia::Nft);
        Some(Guest { addresses, hardware, ports: sent.map(|port| port.publish).list() })
    }
}

/// Lines that have their newline, without it.
pub fn whole_lines(mut text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    while let Some((line, rest)) = text.split_once('\n') {
        lines.push(line);
        text = rest;
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// All that a journal can have of a running container.
    const FULL: &str = "\
kept
stop 2 30
restart always
label tier=web
exposed 80/tcp
volume 0 /v/data
volume 1 /v/0f
ids 100000
ids 165536
cgroup 77 /sys/fs/cgroup/kontena/a
publish 6 * 8080 80
relay 6 ::1 8080 80
publish 17 127.0.0.1 53 53
namespace 4026531840
address 172.29.0.2
address fd00::2
address 172.29.0.3
hardware 02:6b:ac:1d:00:02
init 11 1764072061 4026531836
health 1
restarts 2
";

    fn parse(journal: &str) -> Box<ContainerRecord> {
        ContainerRecord::parse("a", true, journal)
    }

    #[test]
    fn a_journal_becomes_a_record_and_a_journal_again() {
        let record = parse(FULL);
        assert_eq!(record.to_journal(), FULL);
        assert_eq!((record.name.as_str(), record.is_running, record.is_kept), ("a", true, true));
        assert_eq!(record.stop, Some(Stop { signal: 2, timeout: 30 }));
        assert_eq!((record.restart.as_deref(), record.restarts), (Some("always"), 2));
        assert_eq!(record.ids, [100_000, 165_536]);
        assert_eq!(record.cgroup_path(), Some("/sys/fs/cgroup/kontena/a"));
        assert_eq!((record.network.namespace, record.is_healthy), (Some(4_026_531_840), Some(true)));
        assert_eq!(record.running_init().map(|init| init.pid), Some(11));
        assert_eq!(record.exit, None);
        assert!(!record.is_empty());
    }

    #[test]
    fn the_last_address_of_each_family_is_the_containers() {
        let addresses: Vec<String> = parse(FULL).network.addresses().iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["172.29.0.3", "fd00::2"]);
    }

    #[test]
    fn only_ports_via_nft_are_the_guests() {
        let network = parse(FULL).network;
        let Guest { addresses, hardware, ports } = network.guest().unwrap();
        assert_eq!((addresses, network.ports.len()), (network.addresses(), 3));
        assert_eq!(hardware, [0x02, 0x6b, 0xac, 0x1d, 0, 2]);
        assert_eq!(ports.iter().map(|port| port.host_port).collect::<Vec<_>>(), [8080, 53]);
        assert!(parse("publish 6 * 8080 80\n").network.guest().is_none());
    }

    #[test]
    fn a_torn_last_line_was_never_acted_on() {
        for length in 0..=FULL.len() {
            let whole = FULL[..length].rfind('\n').map_or(0, |end| end + 1);
            assert_eq!(parse(&FULL[..length]), parse(&FULL[..whole]), "cut at {length}");
        }
    }

    #[test]
    fn unknown_lines_are_skipped() {
        assert_eq!(parse("of a later version\n\nkept\ninit nonsense\n"), parse("kept\n"));
        assert!(parse("of a later version\n").is_empty());
        assert!(parse("").is_empty());
    }

    #[test]
    fn a_cgroup_is_the_containers_once_it_has_a_number() {
        let mut record = parse("cgroup 0 /a\n");
        assert_eq!((record.cgroup_path(), record.cgroup.is_some()), (None, true));
        record.apply(Entry::Cgroup(Cgroup { number: Some(5), path: "/a".into() }));
        assert_eq!(record.cgroup_path(), Some("/a"));
    }

    #[test]
    fn an_exit_ends_a_life_and_a_restart_follows_it() {
        let mut record = parse("init 11 1 2\nended 3 5 0 - why\n");
        assert_eq!(record.running_init(), None);
        assert_eq!(record.exit.as_ref().map(|exit| exit.status), Some(3));
        assert!(!record.is_restarting);
        record.apply(Entry::Restarts(1));
        assert!(record.is_restarting);
        assert_eq!(record.to_journal(), "init 11 1 2\nended 3 5 0 - why\nrestarts 1\n");
        assert_eq!(parse(&record.to_journal()), record);
        record.apply(Entry::Init(Init { pid: 12, since: 6, pid_namespace: 2 }));
        assert_eq!((record.exit.is_none(), record.is_restarting), (true, false));
        assert_eq!(record.running_init().map(|init| init.pid), Some(12));
        record.is_running = false;
        assert_eq!(record.running_init(), None);
    }

    #[test]
    fn restarts_before_an_exit_announce_none() {
        let record = parse("restarts 1\ninit 11 1 2\nended 3 5 0 - \n");
        assert!(!record.is_restarting);
        assert_eq!(parse(&record.to_journal()), record);
    }

    #[test]
    fn an_entry_says_whether_an_earlier_one_counts_no_more() {
        for (line, replaces) in [
            ("kept", true),
            ("stop 1 2", true),
            ("restart always", true),
            ("label a=b", true),
            ("init 1 2 3", true),
            ("restarts 1", true),
            ("health 0", true),
            ("ended 1 2 0 - ", true),
            // These are given back one by one, or never come twice.
            ("ids 5", false),
            ("address 1.2.3.4", false),
            ("publish 6 * 1 1", false),
            ("relay 6 * 1 1", false),
            ("namespace 1", false),
            ("hardware 02:6b:ac:1d:00:02", false),
            ("cgroup 1 /a", false),
            ("volume 1 /a", false),
            ("exposed 80/tcp", false),
        ] {
            let mut record = parse("");
            let entry = || Entry::from_line(line).unwrap();
            assert_eq!([record.apply(entry()), record.apply(entry())], [false, replaces], "{line}");
        }
    }

    #[test]
    fn pids_of_another_pid_namespace_are_refused() {
        assert!(parse("").check_pid_namespace().is_ok());
        assert!(parse("init 1 2 0\n").check_pid_namespace().is_ok());
        assert!(parse(&format!("init 1 2 {}\n", pid_namespace())).check_pid_namespace().is_ok());
        assert!(parse("init 1 2 5\n").check_pid_namespace().is_err());
    }
}
