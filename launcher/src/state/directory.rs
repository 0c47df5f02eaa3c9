//! A state directory: the containers in it, by their names.
//!
//! Here is what only reads. Must not create, repair or delete a container: `abandoned.rs` does.

use crate::config::publish::Publish;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::state::handed_over;
use crate::state::journal::{self, JOURNAL};
use crate::state::registry::Registry;
use crate::state::{ContainerRecord, ExitRecord, Release};
use crate::sys::{self, Lock};
use crate::text::{is_made, is_name};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;
use std::cell::{Cell, OnceCell};

/// The state of all containers.
pub struct StateDirectory {
    pub(super) path: String,
    pub(super) directory: OwnedFd,
    /// Its inode number, which is in its mark too.
    pub(super) inode: u64,
    pub(super) release: Release,
    pub(super) made_shared: Cell<bool>,
    pub(super) registry: OnceCell<Registry>,
    /// Its absolute path, and the network namespace of this process.
    pub(super) real_path: OnceCell<String>,
    pub(super) namespace: OnceCell<u64>,
}

impl AsFd for StateDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl StateDirectory {
    /// Reads the record of a container, if there is one of this name. It may be empty.
    pub fn look(&self, name: &str) -> Result<Option<Box<ContainerRecord>>> {
        // Every name on a command line is checked here: another text could be a path that leaves this directory.
        if !is_name(name) {
            return Ok(None);
        }
        loop {
            let file = match file::open(self, &journal::path(name), OFlags::RDONLY) {
                Ok(file) => file,
                // Something that is no container's directory may be here, too.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(Error::new(format_args!("open {}/journal", self.path(name)), errno, "")),
            };
            let is_running = sys::is_locked(&file, Lock::Life);
            // Otherwise it has been removed, or another one is in its place.
            if fstat(&file).is_ok_and(|stat| stat.st_nlink > 0) {
                let mut record = journal::read(self, name, is_running, &file)?;
                if !is_running && !record.is_empty() && !handed_over::note(&mut record) {
                    // Its addresses may be another's by now, and its exit may not be written down yet.
                    record.network = Default::default();
                    record.end();
                }
                return Ok(Some(record));
            }
        }
    }

    /// Reads the record of the container of this name, which must exist.
    pub fn find(&self, name: &str) -> Result<Box<ContainerRecord>> {
        self.look(name)?.filter(|record| !record.is_empty()).ok_or_else(|| no_such_container(name))
    }

    /// A namespace of a running container, by its name in /proc/PID/ns, and the container's record.
    pub fn namespace_of(&self, option: &str, name: &str, kind: &str) -> Result<(OwnedFd, Box<ContainerRecord>)> {
        let what = format_args!("{option} container:{name}");
        let missing = || Error::usage(what, "no running container has this name");
        let record = self.look(name)?.ok_or_else(missing)?;
        let init = record.running_init().ok_or_else(missing)?;
        record.check_pid_namespace()?;
        let fd = file::open(CWD, &format!("/proc/{}/ns/{kind}", init.pid), OFlags::RDONLY);
        // It was open before the container was seen to be running still: it is not another's, which has the pid by now.
        if self.look(name)?.is_none_or(|now| now.running_init() != Some(init)) {
            return Err(missing());
        }
        Ok((fd.context(what, "mount /proc")?, record))
    }

    /// The name of the container that is meant: as with docker, the first digits of a name that kontena made will do if
    /// no other such name begins with them. A name that somebody has chosen is never shortened: a script that deletes
    /// `web` must not delete `web-data`.
    pub fn resolve(&self, given: &str) -> Result<String> {
        if !is_name(given) || self.look(given)?.is_some_and(|record| !record.is_empty()) {
            return Ok(given.into());
        }
        let mut names = self.names()?;
        names.retain(|name| name.starts_with(given) && is_made(name));
        match &mut *names {
            [] => Ok(given.into()),
            [name] => Ok(std::mem::take(name)),
            names => {
                names.sort_unstable();
                let hint = format!("it can be {}: use more digits", names.join(", "));
                Err(Error::usage(format_args!("{given} is more than one container"), &hint))
            }
        }
    }

    /// Reads the records of all containers, sorted by name.
    #[expect(clippy::vec_box, reason = "each is a pointer already, and stays one")]
    pub fn all(&self) -> Result<Vec<Box<ContainerRecord>>> {
        let mut names = self.names()?;
        names.sort_unstable();
        let mut all = Vec::new();
        for name in &names {
            all.extend(self.look(name)?.filter(|record| !record.is_empty()));
        }
        Ok(all)
    }

    /// The names that may be containers'.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let names = file::open(self, ".", OFlags::DIRECTORY).and_then(file::names);
        let mut names = names.at(format_args!("read {}", self.path))?;
        names.retain(|name| !name.starts_with('.'));
        Ok(names)
    }

    /// The command line that starts a container again.
    pub fn command(&self, name: &str) -> Result<Vec<u8>> {
        journal::read_command(self, name)
    }

    /// Waits until a container has ended, and returns its exit record.
    pub fn wait(&self, name: &str) -> Result<ExitRecord> {
        let mut record = self.find(name)?;
        if record.is_kept && !record.is_running && record.exit.is_none() {
            return Err(Error::usage(
                format_args!("{name} has not been started"),
                &format!("kontena start {name} first"),
            ));
        }
        // Another container of this name has another one.
        let directory = self.directory(name).map_err(|error| match error.errno() {
            // It has ended since, and was not to be kept.
            Some(Errno::NOENT) => no_such_container(name),
            _ => error,
        })?;
        let open = || file::open(&directory, JOURNAL, OFlags::RDONLY);
        while record.is_running {
            let file = open().map_err(|_| no_such_container(name))?;
            sys::wait_for_lock(&file, Lock::End).at(format_args!("wait for the end of {name}"))?;
            // This file has the exit record, even when it is gone. Where there is another one, the container may have
            // been restarted.
            let last = open().unwrap_or(file);
            let is_running = sys::is_locked(&last, Lock::Life);
            record = journal::read(self, name, is_running, &last)?;
        }
        Ok(record.exit.unwrap_or_else(ExitRecord::of_killed_launcher))
    }

    /// Waits until the launcher of a container has ended, or `is_this_life` is no longer true of its record: another
    /// process may have started the container again, and the next launcher must not be waited for. A container that was
    /// handed over has no launcher.
    pub fn wait_while(&self, name: &str, is_this_life: &dyn Fn(&ContainerRecord) -> bool) -> Result<()> {
        loop {
            let file = match file::open(self, &journal::path(name), OFlags::RDONLY) {
                Err(Errno::NOENT) => return Ok(()),
                file => file.at(format_args!("open {}/journal", self.path(name)))?,
            };
            // The record is read after the file was opened: the lock is that of this life, or of an earlier one.
            let has_launcher = |record: &ContainerRecord| record.is_running && record.handed_over.is_none();
            if !self.look(name)?.is_some_and(|record| has_launcher(&record) && is_this_life(&record)) {
                return Ok(());
            }
            sys::wait_for_lock(&file, Lock::End).at(format_args!("wait for the end of {name}"))?;
        }
    }

    /// Opens the directory of a container's files.
    pub fn directory(&self, name: &str) -> Result<OwnedFd> {
        file::open(self, name, OFlags::DIRECTORY).at(format_args!("open {}", self.path(name)))
    }

    /// The path of that, below the state directory's as it was given.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

/// The running container that has published a port which excludes `publish`.
pub fn publisher(state: &str, publish: &Publish) -> Option<String> {
    // Nothing is released.
    let state = StateDirectory::existing(state, |_| Ok(()))?;
    let excludes = |record: &ContainerRecord| record.network.ports.iter().any(|port| port.publish.excludes(publish));
    state.all().ok()?.into_iter().find(|record| record.is_running && excludes(record)).map(|record| record.name)
}

/// The error for a name that no container has.
pub(super) fn no_such_container(name: &str) -> Error {
    // The words and the status of other runtimes, which engines look for: nobody knows whose it would be.
    Error::usage(format_args!("no such container: {name}"), "it does not exist: see kontena list").missing()
}

/// The error for an action that takes a running container.
pub fn not_running(name: &str) -> Error {
    Error::usage(format_args!("{name} is not running"), "see kontena list")
}
