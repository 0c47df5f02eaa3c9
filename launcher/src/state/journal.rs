//! A container's journal: appended to before something is taken, and locked.
//!
//! A journal has three locks: Life and End are its launcher's; Repair is taken to give back what that left, to forget
//! the container, or to become its next launcher. Must not know what an entry is for.

use crate::error::{Context, Error, Result};
use crate::file;
use crate::state::StateDirectory;
use crate::state::entry::{Cgroup, Entry};
use crate::state::handed_over;
use crate::state::record::ContainerRecord;
use crate::sys::{self, Lock};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fstat, ftruncate};
use rustix::io::Errno;

/// The name of a journal in the directory of its container.
pub const JOURNAL: &str = "journal";
/// The command line that starts a kept container again.
const COMMAND: &str = "command";
const NEW_COMMAND: &str = "command.new";
/// The sockets of a running container.
const SOCKETS: [&str; 2] = ["attach", "notify"];
/// The files of a container: its journal and its command line, and the next of both; its plan, as the init has it; two
/// sockets; and its log, of which rotation makes `log.1` and so on; what its bundle says for its state, the socket of
/// its `start`, and its hooks. Nothing else is removed from its directory.
pub const FILES: [&str; 11] = [
    JOURNAL,
    "journal.new",
    COMMAND,
    NEW_COMMAND,
    "plan",
    SOCKETS[0],
    SOCKETS[1],
    "log",
    handed_over::STATE,
    handed_over::START,
    handed_over::HOOKS,
];
/// What can be done about a state that cannot be written.
pub const HINT: &str = "the state cannot be written: free some space, or use --root DIR";

/// A container's journal, locked by this process.
pub struct Journal<'a> {
    state: &'a StateDirectory,
    file: OwnedFd,
    /// The record in the file. The container is running if this process is its launcher.
    record: Box<ContainerRecord>,
}

impl<'a> Journal<'a> {
    /// The empty journal in `file`, of a container whose launcher is this process.
    pub(super) fn new(state: &'a StateDirectory, name: &str, file: OwnedFd) -> Self {
        Self { state, file, record: ContainerRecord::parse(name, true, "") }
    }

    /// The journal in `file`, whose launcher is gone.
    pub(super) fn open(state: &'a StateDirectory, name: &str, file: OwnedFd) -> Result<Self> {
        let mut record = read(state, name, false, &file)?;
        handed_over::note(&mut record);
        Ok(Self { state, file, record })
    }

    /// The state directory that it is in.
    pub fn state(&self) -> &'a StateDirectory {
        self.state
    }

    /// The container's name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its record.
    pub fn record(&self) -> &ContainerRecord {
        &self.record
    }

    /// The directory of the container's files.
    pub fn directory(&self) -> Result<OwnedFd> {
        self.state.directory(self.name())
    }

    /// Writes down what is about to be taken, or what has become of the container.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let is_first = matches!(entry, Entry::Address(_)) && self.record.network.namespace.is_none();
        let namespace = is_first.then(|| Entry::Namespace(self.state.namespace()));
        let text = namespace.as_ref().map(Entry::to_line).unwrap_or_default() + &entry.to_line();
        let write = || {
            let size = fstat(&self.file)?.st_size as u64;
            file::write_open(&self.file, &text).inspect_err(|_| {
                // The part that fitted would spoil the next line.
                let _ = ftruncate(&self.file, size);
            })
        };
        write().context(format_args!("write {}/journal", self.state.path(self.name())), HINT)?;
        if let Some(namespace) = namespace {
            self.record.apply(namespace);
        }
        if self.record.apply(entry) { self.rewrite() } else { Ok(()) }
    }

    /// Makes the leaf cgroup at `path` by `make`, so that at no moment another's can be taken for it: until its number
    /// is written down it is [`file::UNOWNED`], and such a one is removed only when no launcher is about to write it.
    pub fn make_cgroup(&mut self, path: &str, make: impl FnOnce() -> Result<OwnedFd>) -> Result<OwnedFd> {
        let registry = self.state.registry()?;
        self.append(Entry::Cgroup(Cgroup { number: None, path: path.into() }))?;
        registry.lock(Lock::Make, true)?;
        let made = make().and_then(|leaf| {
            let stat = fstat(&leaf).at(format_args!("fstat {path}"))?;
            let number = Some(registry.number_of(stat.st_ino));
            self.append(Entry::Cgroup(Cgroup { number, path: path.into() }))?;
            let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
            fchmod(&leaf, mode).at(format_args!("chmod {path}"))?;
            Ok(leaf)
        });
        registry.unlock(Lock::Make);
        made
    }

    /// The record stays when the container has ended, and `command` starts it again. That is complete first: a record
    /// that stays has one.
    pub fn keep(&mut self, command: &[u8]) -> Result<()> {
        let path = format!("{}/{COMMAND}", self.name());
        // The next start has the same command line, unless the image has more volumes by then.
        if self.record.is_kept && file::read(self.state, &path).is_ok_and(|kept| kept == command) {
            return Ok(());
        }
        let new = format!("{}/{NEW_COMMAND}", self.name());
        let write = || {
            let file = file::open(self.state, &new, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
            if rustix::io::write(&file, command)? != command.len() {
                return Err(Errno::NOSPC);
            }
            file::rename(self.state, &new, &path)
        };
        write().context(format_args!("write {}", self.state.path(&new)), HINT)?;
        if self.record.is_kept { Ok(()) } else { self.append(Entry::Kept) }
    }

    /// Makes this process the launcher of a container that has ended and holds nothing. Until the journal says nothing
    /// of the last run, which another process would take for the next one's, nobody sees that it has a launcher.
    pub(super) fn begin(mut self) -> Result<Self> {
        self.state.clear_stop(self.name());
        for socket in SOCKETS {
            file::remove(self.state, &format!("{}/{socket}", self.name()), AtFlags::empty());
        }
        self.record = ContainerRecord::parse(self.name(), false, &Entry::Kept.to_line());
        self.replace()?;
        let locked = [Lock::Life, Lock::End].into_iter().try_for_each(|byte| sys::lock(&self.file, byte, false));
        locked.and_then(|()| sys::unlock(&self.file, Lock::Repair)).at(format_args!("fcntl"))?;
        self.record.is_running = true;
        Ok(self)
    }

    /// The record does not stay when the container has ended.
    pub fn forget(&mut self) {
        self.record.is_kept = false;
    }

    /// The volumes that were made for it stay when the record does not.
    pub fn keep_volumes(&mut self) {
        self.record.volumes = Vec::new();
    }

    /// Forgets what the container had of the network, and its health, once all of that has been given back.
    pub fn clear_network(&mut self) -> Result<()> {
        (self.record.network, self.record.is_healthy) = Default::default();
        self.rewrite()
    }

    /// Closes the journal of a container that holds nothing any more: only the record stays, if it is to.
    pub fn close(mut self) -> Result<()> {
        if !self.record.is_kept {
            return self.remove();
        }
        if self.record.holds_nothing() {
            return Ok(());
        }
        self.record.end();
        let ContainerRecord { cgroup, ids, init, network, .. } = &mut *self.record;
        (*cgroup, *ids, *init, *network) = Default::default();
        self.rewrite()
    }

    /// Removes the container's files, and gives up its name.
    fn remove(self) -> Result<()> {
        let path = self.state.path(self.name());
        let is_number = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        let is_own = |name: &str| FILES.contains(&name) || name.strip_prefix("log.").is_some_and(is_number);
        let names = file::names(self.directory()?).at(format_args!("read {path}"))?;
        // The journal last: whatever is left then belongs to nobody.
        for name in names.iter().filter(|name| *name != JOURNAL && is_own(name)).map(|name| &**name).chain([JOURNAL]) {
            file::remove(self.state, &format!("{}/{name}", self.name()), AtFlags::empty());
        }
        file::remove(self.state, self.name(), AtFlags::REMOVEDIR);
        Ok(())
    }

    /// Writes another file with the record. If there is no space or no fd for it, the journal says too much, as after a
    /// crash, which does no harm: the last line of a kind counts.
    fn rewrite(&mut self) -> Result<()> {
        self.replace().or_else(|error| if error.is_shortage() { Ok(()) } else { Err(error) })
    }

    /// The same, locked before it takes the journal's name.
    fn replace(&mut self) -> Result<()> {
        let new = format!("{}/journal.new", self.name());
        let locks: &[Lock] = if self.record.is_running { &[Lock::Life, Lock::End] } else { &[Lock::Repair] };
        let write = || {
            let file = file::open(self.state, &new, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC)?;
            locks.iter().try_for_each(|byte| sys::try_lock(&file, *byte))?;
            file::write_open(&file, &self.record.to_journal())?;
            file::rename(self.state, &new, &path(self.name()))?;
            Ok(file)
        };
        match write() {
            Ok(file) => {
                self.file = file;
                Ok(())
            }
            Err(errno) => {
                // It takes room.
                file::remove(self.state, &new, AtFlags::empty());
                Err(Error::new(format_args!("write {}.new", self.state.path(&path(self.name()))), errno, HINT))
            }
        }
    }
}

/// Reads the record of a container from the open file of its journal.
pub fn read(state: &StateDirectory, name: &str, is_running: bool, file: &OwnedFd) -> Result<Box<ContainerRecord>> {
    let bytes = file::read_open(file).at(format_args!("read {}/journal", state.path(name)))?;
    Ok(ContainerRecord::parse(name, is_running, &String::from_utf8_lossy(&bytes)))
}

/// The path of a container's journal in the state directory.
pub fn path(name: &str) -> String {
    format!("{name}/{JOURNAL}")
}

/// The command line of a container, as [`Journal::keep`] has written it.
pub fn read_command(state: &StateDirectory, name: &str) -> Result<Vec<u8>> {
    let hint = format!("its command line was not kept: kontena delete {name}, and run it again");
    file::read(state, &format!("{name}/{COMMAND}")).context(format_args!("start {name}"), &hint)
}
