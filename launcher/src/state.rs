//! What a container holds on the host, written down before it is taken, so that whoever comes next can give it back.
//!
//! `ROOT/NAME/journal`, one line for each thing taken, appended before it is. It is locked by the launcher for the
//! container's life: a journal that can be locked belongs to a container that is gone, and is undone. The ordinary
//! end and the repair after a SIGKILL are the same code. A line without its newline was never acted on. What other
//! commands must know of a container is in the same lines: its PID 1, and how it ended. The journal of a container that
//! was started in the background stays when it has ended, with that alone in it, until it is deleted.
//!
//! Beside it, and gone with it: `plan`, as the init has it; `args`, the command line; `log` and those it was rotated to;
//! `attach`, a socket; `stop`, which somebody makes who does not want it started again.
//!
//! `ROOT/.leases/ADDRESS` is a symbolic link to the name that holds the address: symlink(2) is exclusive and atomic.
//! `ROOT/.host` is the journal of what all containers share. `ROOT/.swept` says where the last few were that somebody has
//! looked after.
//!
//! Must not know what the things are for: each is undone by the file that takes it.

use crate::config::is_name;
use crate::ended::Ended;
use crate::error::{Context, Error, Result};
use crate::net::options::{Protocol, Publish, port};
use crate::sys::{self, Lock};
use crate::{cgroup, file, net};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::WatchFlags;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, fstat, ftruncate, mkdirat, readlinkat_raw, renameat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::cell::Cell;
use std::net::IpAddr;

/// What can be done about a state that cannot be written.
const HINT: &str = "the state cannot be written: make room, or give --root DIR";
const HOST: &str = ".host";
const LEASES: &str = ".leases";
/// Where the last few containers were that somebody has looked after: a position of getdents64(2).
const SWEPT: &str = ".swept";
/// How many those are.
const FEW: usize = 8;
const JOURNAL: &str = "journal";
const STOP: &str = "stop";
/// Stands for all addresses of the host in a journal.
const ALL: &str = "*";

/// The state of all containers.
pub struct Root {
    path: String,
    directory: OwnedFd,
    made_shared: Cell<bool>,
}

/// A container's journal, locked.
pub struct Journal<'a> {
    root: &'a Root,
    name: String,
    file: OwnedFd,
    /// Whether this process is the container's launcher, and not who repairs what that left.
    is_launchers: bool,
    /// What is in the file.
    entries: Vec<Entry>,
}

/// A line of a journal: something that is taken, or about to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// The leaf cgroup, by its path.
    Cgroup(String),
    /// An address of the container's, or one that it has tried to get before.
    Address(IpAddr),
    /// A block of subordinate ids, by the first uid.
    Ids(u32),
    /// An element of the nftables maps.
    Publish(Publish),
    /// A published port that the launcher itself passes on: it is free when that is gone.
    Relay(Publish),
    /// It was started in the background: what is known of it stays when it has ended.
    Kept,
    /// The signal that asks it to end, and the seconds that it has then.
    Stop(u32, u64),
    /// `--restart`.
    Restart(String),
    /// Its PID 1, by the pid that the host's own processes see, and since when; seconds since 1970.
    Init(u32, u64),
    /// How often it was started again.
    Restarts(u32),
    /// What its health command has said last.
    Health(bool),
    /// It has ended.
    Ended(Ended),
}

/// A container, as its journal tells.
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Whether its launcher lives.
    pub is_running: bool,
    entries: Vec<Entry>,
}

impl Root {
    /// Opens the state, and makes its directory where it is missing.
    pub fn open(path: &str) -> Result<Self> {
        let hint = "the state needs a directory that can be written to: mount a tmpfs on /run, or give --root DIR";
        let open = || file::open(file::CWD, path, OFlags::DIRECTORY);
        let directory = match open() {
            Err(Errno::NOENT) => {
                file::make_directories(path).context(format_args!("mkdir {path}"), hint)?;
                open()
            }
            opened => opened,
        };
        let directory = directory.context(format_args!("open {path}"), hint)?;
        // In /tmp, anybody may have made it before.
        if fstat(&directory).is_ok_and(|stat| stat.st_uid != geteuid().as_raw()) {
            return Err(Error::usage(format_args!("{path} belongs to another user"), "give --root DIR of your own"));
        }
        Ok(Self { path: path.into(), directory, made_shared: Cell::new(false) })
    }

    /// Keeps `prune` away while a container starts; until [`Self::started`].
    pub fn starting(&mut self) -> Result<()> {
        loop {
            flock(&self.directory, FlockOperation::LockShared).context(format_args!("lock {}", self.path), "")?;
            if fstat(&self.directory).is_ok_and(|stat| stat.st_nlink > 0) {
                return Ok(());
            }
            // A prune has removed it meanwhile.
            *self = Self::open(&self.path)?;
        }
    }

    /// The same, for one that has been started before.
    pub fn starting_again(&self) -> Result<()> {
        flock(&self.directory, FlockOperation::LockShared).context(format_args!("lock {}", self.path), "")
    }

    /// The container has all that it holds in common with others.
    pub fn started(&self) {
        let _ = flock(&self.directory, FlockOperation::Unlock);
    }

    /// Takes `name` for a new container.
    pub fn create(&self, name: &str) -> Result<Journal<'_>> {
        loop {
            match mkdirat(self, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::new(format_args!("mkdir {}/{name}", self.path), errno, HINT)),
            }
            let file = match self.open_abandoned(name, OFlags::CREATE) {
                // Its last holder has just removed the directory.
                Err(Errno::NOENT) => continue,
                file => file.context(format_args!("open {}/{name}/journal", self.path), HINT)?,
            };
            let Some(file) = file else {
                let hint = "a container of this name is running: stop it, or choose another name";
                return Err(Error::usage(format_args!("--name {name}"), hint));
            };
            if fstat(&file).context(format_args!("fstat"), "")?.st_size == 0 {
                // What somebody wanted of the last one.
                self.remove(&format!("{name}/{STOP}"), AtFlags::empty());
                let locks = [Lock::Life, Lock::End];
                let locked = locks.into_iter().try_for_each(|byte| sys::lock(&file, byte, false));
                locked.and_then(|()| sys::unlock(&file, Lock::Repair)).context(format_args!("fcntl"), "")?;
                return Ok(Journal { root: self, name: name.into(), file, is_launchers: true, entries: Vec::new() });
            }
            let journal = Journal::read(self, name, file)?;
            let is_kept = journal.is_kept();
            journal.release(None)?;
            if is_kept {
                let hint = format!("a container of this name has ended: kontena delete {name}, or choose another");
                return Err(Error::usage(format_args!("--name {name}"), &hint));
            }
        }
    }

    /// Opens the journal of a container that has no launcher, and keeps all others who would become that, or repair what the
    /// last one left, waiting; `None` where it has one.
    fn open_abandoned(&self, name: &str, flags: OFlags) -> rustix::io::Result<Option<OwnedFd>> {
        loop {
            let file = file::open(self, &journal(name), OFlags::RDWR | OFlags::APPEND | flags)?;
            // Otherwise it would be waited for that as long as the container lives.
            if !sys::is_locked(&file, Lock::Life) {
                sys::lock(&file, Lock::Repair, false)?;
            }
            // Otherwise it was removed, or another one has taken its place.
            if fstat(&file)?.st_nlink > 0 {
                return Ok(Some(file).filter(|file| !sys::is_locked(file, Lock::Life)));
            }
        }
    }

    /// Gives back what containers hold whose launcher is gone, and says whether any still runs.
    pub fn sweep(&self) -> Result<bool> {
        self.look_after(&self.names()?)
    }

    /// The same for no more than a few of them, so that a start costs no more where many run; each time for those behind the
    /// ones of the last time.
    pub fn sweep_few(&self) {
        let from =
            file::read(self, SWEPT).ok().and_then(|bytes| bytes.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes)));
        let from = from.unwrap_or(0);
        let few =
            file::open(self, ".", OFlags::DIRECTORY).and_then(|directory| file::some_names(&directory, from, FEW));
        let Ok((names, next)) = few else { return };
        let _ = self.look_after(&names);
        if next != from {
            let file = file::open(self, SWEPT, OFlags::WRONLY | OFlags::CREATE);
            let _ = file.and_then(|file| rustix::io::write(file, &next.to_ne_bytes()));
        }
    }

    fn look_after(&self, names: &[String]) -> Result<bool> {
        let (mut any_running, mut swept) = (false, Ok(()));
        for name in names {
            match file::open(self, &journal(name), OFlags::RDWR) {
                Ok(file) if sys::is_locked(&file, Lock::Life) => any_running = true,
                Ok(file) => {
                    // Somebody else does it, or has done it, or has the name by now.
                    if sys::try_lock(&file, Lock::Repair).is_ok()
                        && !sys::is_locked(&file, Lock::Life)
                        && fstat(&file).is_ok_and(|stat| stat.st_nlink > 0)
                    {
                        let released = Journal::read(self, name, file).and_then(|journal| journal.release(None));
                        swept = released.and(swept);
                    }
                }
                // Killed between mkdir and open, or about to open; rmdir takes only what is empty.
                Err(_) => self.remove_directory(name),
            }
        }
        swept.map(|()| any_running)
    }

    /// The container of this name.
    pub fn look(&self, name: &str) -> Result<Option<Seen>> {
        // All who name a container come by here, and what is no name may be a path out of this directory.
        if !is_name(name) {
            return Ok(None);
        }
        loop {
            let file = match file::open(self, &journal(name), OFlags::RDONLY) {
                Ok(file) => file,
                // Something that is no container's directory may be here, too.
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(errno) => return Err(Error::new(format_args!("open {}/{name}/journal", self.path), errno, "")),
            };
            let is_running = sys::is_locked(&file, Lock::Life);
            // Otherwise it has been removed, or another one is in its place.
            if fstat(&file).is_ok_and(|stat| stat.st_nlink > 0) {
                let mut entries = Journal::read(self, name, file)?.entries;
                if !is_running && !entries.is_empty() {
                    // What it had is nothing to go by any more, and its end may not be written down yet.
                    entries.retain(|entry| !entry.is_of_network());
                    if !matches!(last_of_life(&entries), Some(Entry::Ended(_))) {
                        Entry::Ended(Ended::unknown()).put(&mut entries);
                    }
                }
                return Ok(Some(Seen { name: name.into(), is_running, entries }));
            }
        }
    }

    /// The container of this name, or an error for who asked for it.
    pub fn find(&self, name: &str) -> Result<Seen> {
        self.look(name)?.filter(Seen::is_one).ok_or_else(|| no_such(name))
    }

    /// All containers, by their names.
    pub fn all(&self) -> Result<Vec<Seen>> {
        let mut names = self.names()?;
        names.sort_unstable();
        let mut all = Vec::new();
        for name in &names {
            all.extend(self.look(name)?.filter(Seen::is_one));
        }
        Ok(all)
    }

    /// The names that may be containers'.
    fn names(&self) -> Result<Vec<String>> {
        let names = file::open(self, ".", OFlags::DIRECTORY).and_then(file::names);
        let mut names = names.context(format_args!("read {}", self.path), "")?;
        names.retain(|name| !name.starts_with('.'));
        Ok(names)
    }

    /// Waits for the end of a container, and gives how it ended.
    pub fn wait(&self, name: &str) -> Result<Ended> {
        let mut seen = self.find(name)?;
        // Another container of this name has another one.
        let directory = self.directory(name).map_err(|error| match error.errno() {
            // It has ended since, and was not to be kept.
            Some(Errno::NOENT) => no_such(name),
            _ => error,
        })?;
        let open = || file::open(&directory, JOURNAL, OFlags::RDONLY);
        while seen.is_running {
            let file = open().map_err(|_| no_such(name))?;
            sys::lock(&file, Lock::End, true).context(format_args!("wait for the end of {name}"), "")?;
            // This file has the end, even when it is gone. Where there is another one, it may have been started again.
            let last = open().unwrap_or(file);
            seen.is_running = sys::is_locked(&last, Lock::Life);
            seen.entries = Journal::read(self, name, last)?.entries;
        }
        Ok(seen.ended().cloned().unwrap_or_else(Ended::unknown))
    }

    /// Forgets a container that has ended. One that somebody else has forgotten meanwhile is as good.
    pub fn delete(&self, name: &str) -> Result<()> {
        let file = match self.open_abandoned(name, OFlags::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            file => file.context(format_args!("open {}/{name}/journal", self.path), "")?,
        };
        let Some(file) = file else {
            return Err(Error::usage(format_args!("{name} is running"), "stop it first, or give --force"));
        };
        let mut journal = Journal::read(self, name, file)?;
        journal.forget();
        journal.release(None)
    }

    /// Where the files of a container are.
    pub fn directory(&self, name: &str) -> Result<OwnedFd> {
        file::open(self, name, OFlags::DIRECTORY).context(format_args!("open {}/{name}", self.path), "")
    }

    /// The path of that, as it was given.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Sees to it that the container is not started again.
    pub fn ask_to_stop(&self, name: &str) {
        let _ = file::open(self, &format!("{name}/{STOP}"), OFlags::WRONLY | OFlags::CREATE);
    }

    /// Removes what containers share, where none is left to need it. Waits for those that are starting.
    pub fn prune(&self) -> Result<()> {
        flock(&self.directory, FlockOperation::LockExclusive).context(format_args!("lock {}", self.path), "")?;
        if self.sweep()? {
            return Ok(());
        }
        let mut undone = Ok(());
        for line in whole_lines(&file::read_text(self, HOST)).iter().rev() {
            match line.split_once(' ') {
                Some(("cgroup", what)) => cgroup::undo(what),
                // What cannot be undone does not keep the rest from it.
                Some(("net", what)) => undone = net::undo(what).and(undone),
                _ => {}
            }
        }
        undone?;
        self.remove(HOST, AtFlags::empty());
        self.remove(SWEPT, AtFlags::empty());
        self.remove(LEASES, AtFlags::REMOVEDIR);
        let _ = file::remove_directory(&self.path);
        Ok(())
    }

    /// Writes down something that all containers share, `line` in the words of the one who undoes it.
    pub fn record_shared(&self, line: &str) -> Result<()> {
        if self.shared("").iter().any(|recorded| recorded == line) {
            return Ok(());
        }
        self.made_shared.set(true);
        file::open(self, HOST, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
            .and_then(|file| file::write_open(&file, &format!("{line}\n")))
            .context(format_args!("write {}/{HOST}", self.path), HINT)
    }

    /// The rest of the lines that begin with `prefix`, of what all containers share.
    pub fn shared(&self, prefix: &str) -> Vec<String> {
        let text = file::read_text(self, HOST);
        whole_lines(&text).iter().filter_map(|line| line.strip_prefix(prefix)).map(String::from).collect()
    }

    /// Whether this launcher was the one to make something shared.
    pub fn made_shared(&self) -> bool {
        self.made_shared.get()
    }

    /// Removes a container's directory, of which no more is left than what somebody has asked too late.
    fn remove_directory(&self, name: &str) {
        while unlinkat(self, name, AtFlags::REMOVEDIR) == Err(Errno::NOTEMPTY)
            && unlinkat(self, &*format!("{name}/{STOP}"), AtFlags::empty()).is_ok()
        {}
    }

    /// What is not there, or not empty, stays as it is.
    fn remove(&self, path: &str, flags: AtFlags) {
        let _ = unlinkat(self, path, flags);
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl<'a> Journal<'a> {
    /// The journal in `file`, whose launcher is another process, or gone.
    fn read(root: &'a Root, name: &str, file: OwnedFd) -> Result<Self> {
        let bytes = file::read_open(&file).context(format_args!("read {}/{name}/journal", root.path), "")?;
        let mut entries = Vec::new();
        for entry in whole_lines(&String::from_utf8_lossy(&bytes)).into_iter().filter_map(Entry::from_line) {
            entry.put(&mut entries);
        }
        Ok(Self { root, name: name.into(), file, is_launchers: false, entries })
    }

    /// Writes down what is about to be taken.
    pub fn record(&mut self, entry: Entry) -> Result<()> {
        let write = || {
            let size = fstat(&self.file)?.st_size as u64;
            file::write_open(&self.file, &entry.to_line()).inspect_err(|_| {
                // What fitted of it would spoil the next line.
                let _ = ftruncate(&self.file, size);
            })
        };
        write().context(format_args!("write {}/{}/journal", self.root.path, self.name), HINT)?;
        entry.put(&mut self.entries);
        Ok(())
    }

    /// Takes an address of the subnet, or a block of ids, for this container; `false` where another has it.
    pub fn lease(&mut self, entry: Entry) -> Result<bool> {
        let path = lease(&entry);
        self.record(entry)?;
        let link = || symlinkat(self.name.as_str(), self.root, path.as_str());
        let linked = match link() {
            Err(Errno::NOENT) => {
                let _ = mkdirat(self.root, LEASES, Mode::from_raw_mode(0o700));
                link()
            }
            linked => linked,
        };
        match linked {
            Err(Errno::EXIST) => Ok(false),
            linked => linked.map(|()| true).context(format_args!("symlink {}/{path}", self.root.path), HINT),
        }
    }

    /// Gives back what others hold whose launcher is gone.
    pub fn sweep(&self) {
        let _ = self.root.sweep();
    }

    /// The container's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is written down for it.
    pub fn has(&self, entry: &Entry) -> bool {
        self.entries.contains(entry)
    }

    /// Whose lease it is.
    pub fn holder(&self, entry: &Entry) -> Option<String> {
        holder(self.root, entry)
    }

    /// Gives back what turned out not to be free.
    pub fn end_lease(&self, entry: &Entry) {
        end_lease(self.root, &self.name, entry);
    }

    /// Whether what is known of it stays.
    pub fn is_kept(&self) -> bool {
        self.entries.contains(&Entry::Kept)
    }

    /// The directory of the container's files.
    pub fn directory(&self) -> Result<OwnedFd> {
        self.root.directory(&self.name)
    }

    /// Gives back what the container has of the network, for it to be started again; what is in the nftables tables by
    /// `tables`, where the container has them open.
    pub fn release_network(&mut self, tables: Option<net::Tables>) -> Result<()> {
        self.give_network_back(tables)?;
        // That of the next life is not known yet.
        self.entries.retain(|entry| !matches!(entry, Entry::Health(_)));
        match self.rewrite() {
            // Then it says too much, as after a crash, which does no harm.
            Err(error) if error.errno() == Some(Errno::NOSPC) => Ok(()),
            rewritten => rewritten,
        }
    }

    fn give_network_back(&mut self, tables: Option<net::Tables>) -> Result<()> {
        let port = |entry: &Entry| if let Entry::Publish(publish) = entry { Some(*publish) } else { None };
        let ports: Vec<_> = self.entries.iter().filter_map(port).collect();
        // What cannot be given back does not keep the rest from it; then the journal stays, for the next one to try.
        net::unpublish(&ports, &addresses(&self.entries), tables)?;
        for entry in self.entries.extract_if(.., |entry| entry.is_of_network()) {
            // The link goes by itself, with the container's network namespace.
            end_lease(self.root, &self.name, &entry);
        }
        Ok(())
    }

    /// Gives everything back, the last thing taken first, and the name at the very end, unless the container is kept.
    pub fn release(mut self, tables: Option<net::Tables>) -> Result<()> {
        let mut released = self.give_network_back(tables);
        for entry in self.entries.iter().rev() {
            match entry {
                Entry::Cgroup(path) => released = cgroup::remove(path).and(released),
                Entry::Ids(_) => end_lease(self.root, &self.name, entry),
                _ => {}
            }
        }
        released?;
        if self.is_kept() {
            let has_ended = matches!(last_of_life(&self.entries), Some(Entry::Ended(_)));
            let of_its_life = |entry: &Entry| matches!(entry, Entry::Cgroup(_) | Entry::Ids(_) | Entry::Init(..));
            if has_ended && !self.entries.iter().any(of_its_life) {
                return Ok(());
            }
            if !has_ended {
                self.entries.push(Entry::Ended(Ended::unknown()));
            }
            self.entries.retain(|entry| !of_its_life(entry));
            return self.rewrite();
        }
        let names = self.directory().and_then(|directory| {
            file::names(directory).context(format_args!("read {}/{}", self.root.path, self.name), "")
        });
        for name in names?.iter().filter(|name| *name != JOURNAL) {
            self.root.remove(&format!("{}/{name}", self.name), AtFlags::empty());
        }
        self.root.remove(&journal(&self.name), AtFlags::empty());
        self.root.remove_directory(&self.name);
        Ok(())
    }

    /// What is known of the container does not stay.
    pub fn forget(&mut self) {
        self.entries.retain(|entry| *entry != Entry::Kept);
    }

    /// Writes down what replaces what was written of its kind before.
    pub fn set(&mut self, entry: Entry) -> Result<()> {
        let is_new = self.entries.iter().all(|other| !entry.replaces(other));
        self.record(entry)?;
        // The last one counts: another file is only that it does not grow for good, and takes room that there may not be.
        if is_new {
            return Ok(());
        }
        match self.rewrite() {
            Err(error) if error.errno() == Some(Errno::NOSPC) => Ok(()),
            rewritten => rewritten,
        }
    }

    /// An fd that can be read from when somebody may have come to want that the container of these files is not started again.
    pub fn watch_for_stop(directory: &OwnedFd) -> Option<OwnedFd> {
        file::watch(&format!("/proc/self/fd/{}", directory.as_raw_fd()), WatchFlags::CREATE).ok()
    }

    /// Whether somebody does not want the container of these files to be started again.
    pub fn is_stop_asked(directory: &OwnedFd) -> bool {
        file::open(directory, STOP, OFlags::PATH).is_ok()
    }

    /// Writes what the journal has now over what it had: another file, locked before it takes the name.
    pub fn rewrite(&mut self) -> Result<()> {
        let new = format!("{}/journal.new", self.name);
        let text: String = self.entries.iter().map(Entry::to_line).collect();
        let write = || {
            let file = file::open(self.root, &new, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC)?;
            let locks: &[Lock] = if self.is_launchers { &[Lock::Life, Lock::End] } else { &[Lock::Repair] };
            locks.iter().try_for_each(|byte| sys::try_lock(&file, *byte))?;
            file::write_open(&file, &text)?;
            renameat(self.root, new.as_str(), self.root, journal(&self.name).as_str())?;
            Ok(file)
        };
        self.file = write().context(format_args!("write {}/{new}", self.root.path), HINT).inspect_err(|_| {
            // It takes room.
            self.root.remove(&new, AtFlags::empty());
        })?;
        Ok(())
    }
}

/// Gives back what is another's by now, or was not free, only where it is still this container's.
fn end_lease(root: &Root, name: &str, entry: &Entry) {
    if holder(root, entry).is_some_and(|holder| holder == name) {
        root.remove(&lease(entry), AtFlags::empty());
    }
}

fn holder(root: &Root, entry: &Entry) -> Option<String> {
    let mut owner = [0; 256];
    let length = readlinkat_raw(root, lease(entry).as_str(), &mut owner).ok()?;
    String::from_utf8(owner[..length].to_vec()).ok()
}

/// A container's addresses: of each family, the last one that it has tried to get.
fn addresses(entries: &[Entry]) -> Vec<IpAddr> {
    let last = |is_ipv4| {
        entries.iter().rev().find_map(|entry| match entry {
            Entry::Address(address) if address.is_ipv4() == is_ipv4 => Some(*address),
            _ => None,
        })
    };
    [last(true), last(false)].into_iter().flatten().collect()
}

impl Seen {
    /// Whether it is more than a name that somebody is about to take.
    fn is_one(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Its PID 1, while it runs, and since when.
    pub fn init(&self) -> Option<(u32, u64)> {
        let init = |entry: &Entry| if let Entry::Init(pid, since) = entry { Some((*pid, *since)) } else { None };
        self.entries.iter().rev().find_map(init).filter(|_| self.is_running && self.ended().is_none())
    }

    /// How it ended, the last time.
    pub fn ended(&self) -> Option<&Ended> {
        if let Some(Entry::Ended(ended)) = last_of_life(&self.entries) { Some(ended) } else { None }
    }

    /// Whether what is known of it stays when it has ended.
    pub fn is_kept(&self) -> bool {
        self.entries.contains(&Entry::Kept)
    }

    /// Whether it has ended, and is to be started again: its launcher has written that down since.
    pub fn is_to_live_again(&self) -> bool {
        let last = self.entries.iter().rev().find(|entry| matches!(entry, Entry::Restarts(_) | Entry::Ended(_)));
        matches!(last, Some(Entry::Restarts(_)))
    }

    /// Its leaf cgroup.
    pub fn cgroup(&self) -> Option<&str> {
        self.entries.iter().find_map(|entry| if let Entry::Cgroup(path) = entry { Some(&**path) } else { None })
    }

    /// Its addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        addresses(&self.entries)
    }

    /// Everything in the journal.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl Entry {
    fn is_of_network(&self) -> bool {
        matches!(self, Self::Address(_) | Self::Publish(_) | Self::Relay(_))
    }

    /// Whether this takes the place of another one. What is taken is given back one by one, and is never replaced.
    fn replaces(&self, other: &Self) -> bool {
        let is_taken = self.is_of_network() || matches!(self, Self::Cgroup(_) | Self::Ids(_));
        !is_taken && std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Adds it to those that there are, as the last one.
    fn put(self, entries: &mut Vec<Self>) {
        entries.retain(|other| !self.replaces(other));
        entries.push(self);
    }

    fn to_line(&self) -> String {
        match self {
            Self::Cgroup(path) => format!("cgroup {path}\n"),
            Self::Address(address) => format!("address {address}\n"),
            Self::Ids(first) => format!("ids {first}\n"),
            Self::Publish(port) => format!("publish {}\n", port_to_line(port)),
            Self::Relay(port) => format!("relay {}\n", port_to_line(port)),
            Self::Kept => "kept\n".into(),
            Self::Stop(signal, seconds) => format!("stop {signal} {seconds}\n"),
            Self::Restart(policy) => format!("restart {policy}\n"),
            Self::Init(pid, since) => format!("init {pid} {since}\n"),
            Self::Restarts(count) => format!("restarts {count}\n"),
            Self::Health(is_well) => format!("health {}\n", u8::from(*is_well)),
            Self::Ended(ended) => format!("ended {}\n", ended.to_line()),
        }
    }

    /// `None` for a line that this version does not write.
    fn from_line(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "kept" => Some(Self::Kept),
            "init" | "stop" => {
                let (first, second) = rest.split_once(' ')?;
                let (first, second) = (first.parse().ok()?, second.parse().ok()?);
                Some(if kind == "init" { Self::Init(first, second) } else { Self::Stop(first, second) })
            }
            "restart" => Some(Self::Restart(rest.into())),
            "restarts" => rest.parse().ok().map(Self::Restarts),
            "health" => Some(Self::Health(rest == "1")),
            "ended" => Ended::from_line(rest).map(Self::Ended),
            "cgroup" => Some(Self::Cgroup(rest.into())),
            "address" => rest.parse().ok().map(Self::Address),
            "ids" => rest.parse().ok().map(Self::Ids),
            "publish" => port_from_line(rest).map(Self::Publish),
            "relay" => port_from_line(rest).map(Self::Relay),
            _ => None,
        }
    }
}

/// The last thing that is known of its being alive.
fn last_of_life(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().rev().find(|entry| matches!(entry, Entry::Ended(_) | Entry::Init(..)))
}

/// The running container that has published a port which excludes `publish`. Makes nothing.
pub fn publisher(root: &str, publish: &Publish) -> Option<String> {
    let directory = file::open(file::CWD, root, OFlags::DIRECTORY).ok()?;
    let root = Root { path: root.into(), directory, made_shared: Cell::new(false) };
    let excludes =
        |entry: &Entry| matches!(entry, Entry::Publish(other) | Entry::Relay(other) if other.excludes(publish));
    let all = root.all().ok()?;
    all.into_iter().find(|seen| seen.is_running && seen.entries.iter().any(excludes)).map(|seen| seen.name)
}

fn no_such(name: &str) -> Error {
    Error::usage(format_args!("there is no container \"{name}\""), "see kontena list for those that there are")
}

/// A container's journal, below the root.
fn journal(name: &str) -> String {
    format!("{name}/{JOURNAL}")
}

fn port_to_line(Publish { protocol, address, host_port, container_port }: &Publish) -> String {
    let address = address.map_or_else(|| ALL.into(), |address| address.to_string());
    format!("{} {address} {host_port} {container_port}", *protocol as u8)
}

fn port_from_line(line: &str) -> Option<Publish> {
    let mut fields = line.split(' ');
    let protocol = match fields.next()? {
        "6" => Protocol::Tcp,
        "17" => Protocol::Udp,
        _ => return None,
    };
    let address = match fields.next()? {
        ALL => None,
        address => Some(address.parse().ok()?),
    };
    let (host_port, container_port) = (port(fields.next()?)?, port(fields.next()?)?);
    Some(Publish { address, host_port, container_port, protocol })
}

/// The link that says whose an address or a block of ids is, below the root.
fn lease(entry: &Entry) -> String {
    match entry {
        Entry::Address(address) => format!("{LEASES}/{address}"),
        Entry::Ids(first) => format!("{LEASES}/ids-{first}"),
        _ => LEASES.into(),
    }
}

/// Lines with their newline; what follows the last one was cut short by a crash.
fn whole_lines(mut text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    while let Some((line, rest)) = text.split_once('\n') {
        lines.push(line);
        text = rest;
    }
    lines
}
