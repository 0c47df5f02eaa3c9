//! What a container holds on the host, written down before it is taken, so that whoever comes next can give it back.
//!
//! `ROOT/NAME/journal`, one line for each thing taken, appended before it is. Its flock(2) is held by the launcher for
//! the container's life: a journal that can be locked belongs to a container that is gone, and is undone. The ordinary
//! end and the repair after a SIGKILL are the same code. A line without its newline was never acted on.
//!
//! `ROOT/.leases/ADDRESS` is a symbolic link to the name that holds the address: symlink(2) is exclusive and atomic.
//! `ROOT/.host` is the journal of what all containers share.
//!
//! Must not know what the things are for: each is undone by the file that takes it.

use crate::config::{Protocol, Publish, port};
use crate::error::{Context, Error, Result};
use crate::{cgroup, file, net};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, readlinkat_raw, symlinkat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::cell::Cell;
use std::net::Ipv4Addr;

/// What can be done about a state that cannot be written.
const HINT: &str = "the state cannot be written: make room, or give --root DIR";
const HOST: &str = ".host";
const LEASES: &str = ".leases";

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
    /// What is in the file.
    entries: Vec<Entry>,
}

/// A line of a journal: something that is taken, or about to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// The leaf cgroup, by its path.
    Cgroup(String),
    /// An address of the bridge's subnet.
    Address(Ipv4Addr),
    /// A block of subordinate ids, by the first uid.
    Ids(u32),
    /// An element of the nftables map.
    Publish(Publish),
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
            let file = match file::open(self, &journal(name), OFlags::RDWR | OFlags::APPEND | OFlags::CREATE) {
                // Its last holder has just removed the directory.
                Err(Errno::NOENT) => continue,
                file => file.context(format_args!("open {}/{name}/journal", self.path), HINT)?,
            };
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            match fstat(&file).context(format_args!("fstat"), "")? {
                // Its last holder removed it while it was being opened here.
                stat if stat.st_nlink == 0 => {}
                stat if stat.st_size == 0 && locked => {
                    return Ok(Journal { root: self, name: name.into(), file, entries: Vec::new() });
                }
                // A sweep looks at it, or another launcher is about to write its first line.
                stat if stat.st_size == 0 => {}
                _ if locked => Journal::abandoned(self, name, file)?.release(None)?,
                _ => {
                    let hint = "a container of this name is running: stop it, or choose another name";
                    return Err(Error::usage(format_args!("--name {name}"), hint));
                }
            }
        }
    }

    /// Gives back what containers hold whose launcher is gone, and says whether any still runs.
    pub fn sweep(&self) -> Result<bool> {
        let (mut any_running, mut swept) = (false, Ok(()));
        let names = file::open(self, ".", OFlags::DIRECTORY).and_then(file::names);
        let names = names.context(format_args!("read {}", self.path), "")?;
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            match file::open(self, &journal(name), OFlags::RDONLY) {
                Ok(file) if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                    // Otherwise its last holder has removed it meanwhile, and the name may be another's by now.
                    if fstat(&file).is_ok_and(|stat| stat.st_nlink > 0) {
                        let released = Journal::abandoned(self, name, file).and_then(|journal| journal.release(None));
                        swept = released.and(swept);
                    }
                }
                Ok(_) => any_running = true,
                // Killed between mkdir and open, or about to open; rmdir takes only what is empty.
                Err(_) => self.remove(name, AtFlags::REMOVEDIR),
            }
        }
        swept.map(|()| any_running)
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
        self.remove(LEASES, AtFlags::REMOVEDIR);
        let _ = file::remove_directory(&self.path);
        Ok(())
    }

    /// Writes down something that all containers share, `line` in the words of the one who undoes it.
    pub fn record_shared(&self, line: &str) -> Result<()> {
        if whole_lines(&file::read_text(self, HOST)).contains(&line) {
            return Ok(());
        }
        self.made_shared.set(true);
        file::open(self, HOST, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
            .and_then(|file| file::write_open(&file, &format!("{line}\n")))
            .context(format_args!("write {}/{HOST}", self.path), HINT)
    }

    /// Whether this launcher was the one to make something shared.
    pub fn made_shared(&self) -> bool {
        self.made_shared.get()
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
    /// The journal in `file`, whose launcher is gone.
    fn abandoned(root: &'a Root, name: &str, file: OwnedFd) -> Result<Self> {
        let bytes = file::read_open(&file).context(format_args!("read {}/{name}/journal", root.path), "")?;
        let mut entries = Vec::new();
        for line in whole_lines(&String::from_utf8_lossy(&bytes)) {
            entries.extend(Entry::from_line(line));
        }
        Ok(Self { root, name: name.into(), file, entries })
    }

    /// Writes down what is about to be taken.
    pub fn record(&mut self, entry: Entry) -> Result<()> {
        file::write_open(&self.file, &entry.to_line())
            .context(format_args!("write {}/{}/journal", self.root.path, self.name), HINT)?;
        self.entries.push(entry);
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

    /// Gives back what turned out not to be free.
    pub fn end_lease(&self, entry: &Entry) {
        let (link, mut owner) = (lease(entry), [0; 256]);
        let length = readlinkat_raw(self.root, link.as_str(), &mut owner).unwrap_or(0);
        if owner[..length] == *self.name.as_bytes() {
            self.root.remove(&link, AtFlags::empty());
        }
    }

    /// Gives everything back, the last thing taken first, and the name at the very end; what is in the nftables table
    /// by `table`, where the container has it open.
    pub fn release(self, table: Option<net::Table>) -> Result<()> {
        let (mut ports, mut last_address) = (Vec::new(), None);
        for entry in &self.entries {
            match entry {
                Entry::Publish(publish) => ports.push(*publish),
                Entry::Address(address) => last_address = Some(*address),
                Entry::Cgroup(_) | Entry::Ids(_) => {}
            }
        }
        // What cannot be given back does not keep the rest from it; then the journal stays, for the next one to try.
        let mut released = net::unpublish(&ports, last_address, table);
        for entry in self.entries.iter().rev() {
            match entry {
                Entry::Cgroup(path) => released = cgroup::remove(path).and(released),
                // The link goes by itself, with the container's network namespace.
                Entry::Address(_) | Entry::Ids(_) => self.end_lease(entry),
                Entry::Publish(_) => {}
            }
        }
        released?;
        self.root.remove(&journal(&self.name), AtFlags::empty());
        self.root.remove(&self.name, AtFlags::REMOVEDIR);
        Ok(())
    }
}

impl Entry {
    fn to_line(&self) -> String {
        match self {
            Self::Cgroup(path) => format!("cgroup {path}\n"),
            Self::Address(address) => format!("address {address}\n"),
            Self::Ids(first) => format!("ids {first}\n"),
            Self::Publish(Publish { protocol, address, host_port, container_port }) => {
                format!("publish {} {address} {host_port} {container_port}\n", *protocol as u8)
            }
        }
    }

    /// `None` for a line that this version does not write.
    fn from_line(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "cgroup" => Some(Self::Cgroup(rest.into())),
            "address" => rest.parse().ok().map(Self::Address),
            "ids" => rest.parse().ok().map(Self::Ids),
            "publish" => {
                let mut fields = rest.split(' ');
                let protocol = match fields.next()? {
                    "6" => Protocol::Tcp,
                    "17" => Protocol::Udp,
                    _ => return None,
                };
                Some(Self::Publish(Publish {
                    protocol,
                    address: fields.next()?.parse().ok()?,
                    host_port: port(fields.next()?)?,
                    container_port: port(fields.next()?)?,
                }))
            }
            _ => None,
        }
    }
}

/// A container's journal, below the root.
fn journal(name: &str) -> String {
    format!("{name}/journal")
}

/// The link that says whose an address or a block of ids is, below the root.
fn lease(entry: &Entry) -> String {
    match entry {
        Entry::Address(address) => format!("{LEASES}/{address}"),
        Entry::Ids(first) => format!("{LEASES}/ids-{first}"),
        Entry::Cgroup(_) | Entry::Publish(_) => LEASES.into(),
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
