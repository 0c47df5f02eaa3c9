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

use crate::config::Publish;
use crate::error::{Context, Error, Result};
use crate::{cgroup, net, sys};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// The state of all containers.
pub struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

/// A container's journal, locked.
pub struct Journal {
    root: PathBuf,
    name: String,
    file: OwnedFd,
}

/// A line of a journal: something that is taken, or about to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// The leaf cgroup, by its path.
    Cgroup(PathBuf),
    /// An address of the bridge's subnet.
    Address(Ipv4Addr),
    /// An element of the nftables map.
    Publish(Publish),
}

impl Root {
    /// Opens the state, and makes its directory where it is missing.
    pub fn open(path: &Path) -> Result<Self> {
        let hint = "the state needs a directory that can be written to: mount a tmpfs on /run, or give --root DIR";
        fs::create_dir_all(path).context(|| format!("mkdir {}", path.display()), hint)?;
        let directory =
            sys::open(path, OpenOptions::new().read(true)).context(|| format!("open {}", path.display()), hint)?;
        Ok(Self { path: path.into(), directory })
    }

    /// Keeps `prune` away while a container starts; until [`Self::started`].
    pub fn starting(&self) -> Result<()> {
        flock(&self.directory, FlockOperation::LockShared).context(|| format!("lock {}", self.path.display()), "")
    }

    /// The container has all that it holds in common with others.
    pub fn started(&self) {
        let _ = flock(&self.directory, FlockOperation::Unlock);
    }

    /// Takes `name` for a new container.
    pub fn create(&self, name: &str) -> Result<Journal> {
        loop {
            let directory = self.path.join(name);
            let hint = "the state cannot be written: make room, or give --root DIR";
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.context(|| format!("mkdir {}", directory.display()), hint)?,
            }
            let path = directory.join("journal");
            let file = match sys::open(&path, appending().mode(0o600)) {
                // Its last holder has just removed the directory.
                Err(Errno::NOENT) => continue,
                file => file.context(|| format!("open {}", path.display()), hint)?,
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(Error::usage(
                    format!("--name {name}"),
                    "a container of this name is running: stop it, or choose another name",
                ));
            }
            let journal = Journal { root: self.path.clone(), name: name.into(), file };
            if !journal.is_current() {
                continue;
            }
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
                return Ok(journal);
            }
            journal.release(None)?;
        }
    }

    /// Gives back what containers hold whose launcher is gone, and says whether any still runs.
    pub fn sweep(&self) -> Result<bool> {
        let mut any_running = false;
        for entry in fs::read_dir(&self.path).context(|| format!("read {}", self.path.display()), "")?.flatten() {
            let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with('.')).map(str::to_owned) else {
                continue;
            };
            match sys::open(&entry.path().join("journal"), OpenOptions::new().read(true)) {
                Ok(file) if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                    let journal = Journal { root: self.path.clone(), name, file };
                    if journal.is_current() {
                        journal.release(None)?;
                    }
                }
                Ok(_) => any_running = true,
                // Killed between mkdir and open, or about to open; rmdir takes only what is empty.
                Err(_) => drop(fs::remove_dir(entry.path())),
            }
        }
        Ok(any_running)
    }

    /// Removes what containers share, where none is left to need it. Waits for those that are starting.
    pub fn prune(&self) -> Result<()> {
        flock(&self.directory, FlockOperation::LockExclusive)
            .context(|| format!("lock {}", self.path.display()), "")?;
        if self.sweep()? {
            return Ok(());
        }
        let host = self.path.join(".host");
        let lines = fs::read_to_string(&host).unwrap_or_default();
        for line in whole_lines(&lines).rev() {
            match line.split_once(' ') {
                // Another parent of the leaf's, or one with others in it, stays: rmdir(2) takes only what is empty.
                Some(("cgroup", path)) => drop(fs::remove_dir(path)),
                Some(("net", what)) => net::undo(what)?,
                _ => {}
            }
        }
        for path in [host, self.path.join(".leases")] {
            let _ = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        }
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    /// Writes down something that all containers share, `what` in the words of the one who undoes it.
    pub fn record_shared(&self, line: &str) -> Result<()> {
        let path = self.path.join(".host");
        if fs::read_to_string(&path).is_ok_and(|lines| whole_lines(&lines).any(|known| known == line)) {
            return Ok(());
        }
        sys::open(&path, appending().mode(0o600)).and_then(|file| append(&file, line)).context(
            || format!("write {}", path.display()),
            "the state cannot be written: make room, or give --root DIR",
        )
    }
}

impl Journal {
    /// Writes down what is about to be taken.
    pub fn record(&self, entry: &Entry) -> Result<()> {
        append(&self.file, &entry.to_line()).context(
            || format!("write {}/{}/journal", self.root.display(), self.name),
            "the state cannot be written: make room, or give --root DIR",
        )
    }

    /// Takes an address of the subnet for this container; `false` where another has it.
    pub fn lease(&self, address: Ipv4Addr) -> Result<bool> {
        self.record(&Entry::Address(address))?;
        let path = lease_path(&self.root, address);
        for _ in 0..2 {
            match symlink(&self.name, &path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    drop(fs::create_dir(self.root.join(".leases")));
                }
                made => return made.map(|()| true).context(|| format!("symlink {}", path.display()), ""),
            }
        }
        Ok(false)
    }

    /// The container's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives back an address that turned out not to be free.
    pub fn end_lease(&self, address: Ipv4Addr) {
        let lease = lease_path(&self.root, address);
        if fs::read_link(&lease).is_ok_and(|owner| owner == Path::new(&self.name)) {
            let _ = fs::remove_file(&lease);
        }
    }

    /// Gives everything back, the last thing taken first, and the name at the very end; what is in the nftables table
    /// by `table`, where the container has it open.
    pub fn release(self, table: Option<net::Table>) -> Result<()> {
        let directory = self.root.join(&self.name);
        let path = directory.join("journal");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let entries: Vec<Entry> = whole_lines(&text).filter_map(Entry::from_line).collect();
        let ports = entries.iter().filter_map(|entry| match entry {
            Entry::Publish(publish) => Some(*publish),
            _ => None,
        });
        net::unpublish(&ports.collect::<Vec<_>>(), table)?;
        for entry in entries.iter().rev() {
            match entry {
                Entry::Cgroup(path) => cgroup::remove(path)?,
                // The link goes by itself, with the container's network namespace.
                Entry::Address(address) => self.end_lease(*address),
                Entry::Publish(_) => {}
            }
        }
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir(directory);
        Ok(())
    }

    /// Whether the locked file is the one that the path names: its last holder may have removed it in between.
    fn is_current(&self) -> bool {
        let path = self.root.join(&self.name).join("journal");
        match (fstat(&self.file), fs::metadata(&path)) {
            (Ok(ours), Ok(named)) => (ours.st_dev, ours.st_ino) == (named.dev(), named.ino()),
            _ => false,
        }
    }
}

impl Entry {
    fn to_line(&self) -> String {
        match self {
            Self::Cgroup(path) => format!("cgroup {}", path.display()),
            Self::Address(address) => format!("address {address}"),
            Self::Publish(p) => {
                format!("publish {} {} {} {}", p.protocol as u8, p.address, p.host_port, p.container_port)
            }
        }
    }

    /// `None` for a line that this version does not write.
    fn from_line(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "cgroup" => Some(Self::Cgroup(rest.into())),
            "address" => rest.parse().ok().map(Self::Address),
            "publish" => {
                let mut fields = rest.split(' ');
                let protocol = match fields.next()? {
                    "6" => crate::config::Protocol::Tcp,
                    "17" => crate::config::Protocol::Udp,
                    _ => return None,
                };
                Some(Self::Publish(Publish {
                    protocol,
                    address: fields.next()?.parse().ok()?,
                    host_port: fields.next()?.parse().ok()?,
                    container_port: fields.next()?.parse().ok()?,
                }))
            }
            _ => None,
        }
    }
}

fn lease_path(root: &Path, address: Ipv4Addr) -> PathBuf {
    root.join(".leases").join(address.to_string())
}

/// Lines with their newline; what follows the last one was cut short by a crash.
fn whole_lines(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}

fn appending() -> OpenOptions {
    OpenOptions::new().read(true).append(true).create(true).clone()
}

/// One write(2), which a file opened with O_APPEND takes whole.
fn append(file: &OwnedFd, line: &str) -> rustix::io::Result<()> {
    let line = format!("{line}\n");
    let written = rustix::io::write(file, line.as_bytes())?;
    if written == line.len() { Ok(()) } else { Err(Errno::NOSPC) }
}
