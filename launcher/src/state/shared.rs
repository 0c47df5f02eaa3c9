//! What the containers of all state directories share, as it is written down in the registry.
//!
//! `.host` has a line for each thing: `cgroup …`, or `net NAMESPACE …` for one in that network namespace, in the words
//! of the module that undoes it. Must not undo anything: `container/prune.rs` does.

use crate::error::{Context, Error, Result};
use crate::file;
use crate::gather::Gather;
use crate::state::record::whole_lines;
use crate::state::registry::Registry;
use crate::state::{Release, StateDirectory};
use crate::sys::Lock;
use rustix::fd::AsRawFd;
use rustix::fs::{AtFlags, OFlags};

const HOST: &str = ".host";

impl StateDirectory {
    /// The registry of this host.
    pub fn registry(&self) -> Result<&Registry> {
        if self.registry.get().is_none() {
            let _ = self.registry.set(Registry::open(&self.directory)?);
        }
        self.registry.get().ok_or_else(|| Error::usage(format_args!("open the registry"), ""))
    }

    /// The network namespace of this process, by its inode number.
    pub fn namespace(&self) -> u64 {
        *self.namespace.get_or_init(|| rustix::fs::stat(c"/proc/self/ns/net").map_or(0, |stat| stat.st_ino))
    }

    /// The absolute path of the directory.
    pub fn real_path(&self) -> &str {
        let read = || file::read_link(file::CWD, &format!("/proc/self/fd/{}", self.directory.as_raw_fd()));
        self.real_path.get_or_init(|| read().unwrap_or_else(|| self.path.clone()))
    }

    /// Keeps `prune` away while a container starts, whatever its --root is; until [`Self::started`].
    pub fn starting(&mut self) -> Result<()> {
        loop {
            self.starting_again()?;
            if self.mark().is_some() {
                return Ok(());
            }
            // A prune has removed it meanwhile.
            let release: Release = self.release;
            *self = Self::open(&self.path, release)?;
        }
    }

    /// The same for a restart.
    pub fn starting_again(&self) -> Result<()> {
        self.registry()?.lock(Lock::Start, true)
    }

    /// The container has everything that it shares with others.
    pub fn started(&self) {
        self.registry.get().into_iter().for_each(|registry| registry.unlock(Lock::Start));
    }

    /// Waits until no container of any --root is starting, and lets none start.
    pub fn stop_starts(&self) -> Result<()> {
        // Two launchers whose starts have failed would otherwise wait for each other.
        self.started();
        self.registry()?.lock(Lock::Start, false)
    }

    /// Makes tables, which no two starts do at once: the second one would take away what the first has put in.
    pub fn make_tables(&self, make: impl FnOnce() -> Result<bool>) -> Result<bool> {
        let registry = self.registry()?;
        registry.lock(Lock::Tables, false)?;
        let made = make();
        registry.unlock(Lock::Tables);
        made
    }

    /// Writes down something that all containers share.
    pub fn record_shared(&self, line: &str) -> Result<()> {
        if self.shared(line).iter().any(|rest| rest.is_empty()) {
            return Ok(());
        }
        self.made_shared.set(true);
        file::open(self.registry()?, HOST, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
            .and_then(|file| file::write_open(&file, &format!("{}\n", self.keyed(line))))
            .context(format_args!("write {HOST} of the registry"), "free some space in /run")
    }

    /// Whether this process was the one to write something down that all share.
    pub fn made_shared(&self) -> bool {
        self.made_shared.get()
    }

    /// What all containers share, of the lines that begin with `prefix`: the rest of each.
    pub fn shared(&self, prefix: &str) -> Vec<String> {
        let text = self.registry().map(|registry| file::read_text(registry, HOST)).unwrap_or_default();
        let prefix = self.keyed(prefix);
        whole_lines(&text).iter().filter_map(|line| line.strip_prefix(&*prefix)).map(String::from).list()
    }

    /// Forgets what all containers share, the last line first, but for those of other network namespaces and those that
    /// `is_needed`.
    pub fn retain_shared(&self, mut is_needed: impl FnMut(&str) -> bool) -> Result<()> {
        let registry = self.registry()?;
        let (text, net) = (file::read_text(registry, HOST), self.keyed("net "));
        let mut left = String::new();
        for line in whole_lines(&text).iter().rev() {
            let own = line.strip_prefix(&*net).map(|rest| format!("net {rest}"));
            let is_elsewhere = own.is_none() && line.starts_with("net ");
            if is_elsewhere || is_needed(own.as_deref().unwrap_or(line)) {
                left = format!("{line}\n{left}");
            }
        }
        if left.is_empty() {
            file::remove(registry, HOST, AtFlags::empty());
        } else if left.len() < text.len() {
            let new = format!("{HOST}.new");
            let file = file::open(registry, &new, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC);
            // Without space for it, the file says too much, which does no harm.
            let _ =
                file.and_then(|file| file::write_open(&file, &left)).and_then(|()| file::rename(registry, &new, HOST));
        }
        self.remove_leases()
    }

    /// A line of the registry's journal: what belongs to the network namespace has its number.
    fn keyed(&self, line: &str) -> String {
        match line.strip_prefix("net ") {
            Some(rest) => format!("net {} {rest}", self.namespace()),
            None => line.into(),
        }
    }
}
