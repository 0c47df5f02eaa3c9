//! Containers whose launcher is gone: reuses their names, releases what they hold, and deletes their records.
//!
//! A [`Release`](super::Release) does the release. Must not touch a container whose launcher is alive.

use crate::error::{Context, Error, Result};
use crate::file;
use crate::state::directory::no_such_container;
use crate::state::journal::{self, HINT};
use crate::state::{Journal, StateDirectory};
use crate::sys::{self, Lock};
use crate::text::is_name;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, OFlags, fstat};
use rustix::io::Errno;

/// Says which containers a start has looked after last: a position of getdents64(2).
pub const SWEPT: &str = ".swept";
/// How many containers a start looks after.
const FEW: usize = 8;

impl StateDirectory {
    /// Takes `name` for a new container.
    pub fn create(&self, name: &str) -> Result<Journal<'_>> {
        loop {
            let is_new = match file::make_directory(self, name) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(Error::new(format_args!("mkdir {}", self.path(name)), errno, HINT)),
            };
            let file = match self.open_abandoned(name, OFlags::CREATE) {
                // Its last holder has just removed the directory.
                Err(Errno::NOENT) => continue,
                file => file.context(format_args!("open {}/journal", self.path(name)), HINT)?,
            };
            let Some(file) = file else {
                let hint = "a container with this name is running: stop it, or choose another name";
                return Err(Error::usage(format_args!("--name {name}"), hint));
            };
            if fstat(&file).at(format_args!("fstat"))?.st_size == 0 {
                if !is_new {
                    self.clear_stop(name);
                }
                let locked = [Lock::Life, Lock::End].into_iter().try_for_each(|byte| sys::lock(&file, byte, false));
                locked.and_then(|()| sys::unlock(&file, Lock::Repair)).at(format_args!("fcntl"))?;
                return Ok(Journal::new(self, name, file));
            }
            let journal = Journal::open(self, name, file)?;
            let is_kept = journal.record().is_kept;
            if journal.record().handed_over.is_some() {
                let hint = format!("container {name} already exists: kontena delete {name}, or choose another name");
                return Err(Error::usage(format_args!("--name {name}"), &hint));
            }
            (self.release)(journal)?;
            if is_kept {
                let hint = format!("a container with this name has exited: kontena delete {name}, or choose another");
                return Err(Error::usage(format_args!("--name {name}"), &hint));
            }
        }
    }

    /// Takes the name of a container that has ended, or has not been started yet, for its next run.
    pub fn reopen(&self, name: &str) -> Result<Journal<'_>> {
        let mut is_released = false;
        loop {
            let file = match self.open_abandoned(name, OFlags::empty()) {
                Err(Errno::NOENT) => return Err(no_such_container(name)),
                file => file.context(format_args!("open {}/journal", self.path(name)), HINT)?,
            };
            let Some(file) = file else {
                return Err(Error::usage(format_args!("{name} is running"), "another kontena has just started it"));
            };
            let journal = Journal::open(self, name, file)?;
            match journal.record() {
                record if !record.is_kept => return Err(no_such_container(name)),
                record if record.holds_nothing() => return journal.begin(),
                _ if is_released => {
                    return Err(Error::new(format_args!("write {}/journal", self.path(name)), Errno::NOSPC, HINT));
                }
                _ => (self.release)(journal)?,
            }
            is_released = true;
        }
    }

    /// Opens the journal of a container that has no launcher, and locks it against all others that would repair it or
    /// become its launcher; `None` where it has one.
    fn open_abandoned(&self, name: &str, flags: OFlags) -> rustix::io::Result<Option<OwnedFd>> {
        loop {
            let file = file::open(self, &journal::path(name), OFlags::RDWR | OFlags::APPEND | flags)?;
            // Otherwise this would wait as long as the container lives.
            if !sys::is_locked(&file, Lock::Life) {
                sys::lock(&file, Lock::Repair, false)?;
            }
            // Otherwise it was removed, or another one has taken its place.
            if fstat(&file)?.st_nlink > 0 {
                return Ok(Some(file).filter(|file| !sys::is_locked(file, Lock::Life)));
            }
        }
    }

    /// Deletes the record of a container that has ended, and perhaps the volumes that were made for it. One that
    /// another process has deleted is no error. Returns whether this one has.
    pub fn delete(&self, name: &str, with_volumes: bool) -> Result<bool> {
        let file = match self.open_abandoned(name, OFlags::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            file => file.at(format_args!("open {}/journal", self.path(name)))?,
        };
        let Some(file) = file else {
            return Err(Error::usage(format_args!("{name} is running"), "stop it first, or use --force"));
        };
        let mut journal = Journal::open(self, name, file)?;
        if journal.record().is_running {
            return Err(Error::usage(format_args!("{name} is running"), "stop it first, or use --force"));
        }
        journal.forget();
        if !with_volumes {
            journal.keep_volumes();
        }
        (self.release)(journal).map(|()| true)
    }

    /// Gives back what dead containers hold: those of this state directory, and of any other those with a lease.
    /// Returns whether a container of this state directory is running.
    pub fn sweep(&self) -> Result<bool> {
        self.registry()?;
        self.sweep_others();
        self.sweep_own()
    }

    /// Gives back what dead containers of this state directory hold. Returns whether any is running.
    pub fn sweep_own(&self) -> Result<bool> {
        self.look_after(&self.names()?)
    }

    /// The same for no more than [`FEW`], so that a start costs no more where many run; each time for those behind the
    /// ones of the last time.
    pub fn sweep_few(&self) {
        let position = |bytes: Vec<u8>| bytes.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
        let from = file::read(self, SWEPT).ok().and_then(position).unwrap_or(0);
        let few =
            file::open(self, ".", OFlags::DIRECTORY).and_then(|directory| file::some_names(&directory, from, FEW));
        let Ok((names, next)) = few else { return };
        let _ = self.look_after(&names);
        if next != from {
            let file = file::open(self, SWEPT, OFlags::WRONLY | OFlags::CREATE);
            let _ = file.and_then(|file| rustix::io::write(file, &next.to_ne_bytes()));
        }
    }

    /// Gives back what the dead ones of these containers hold. Returns whether any is running.
    pub fn look_after(&self, names: &[String]) -> Result<bool> {
        let (mut any_running, mut swept) = (false, Ok(()));
        for name in names.iter().filter(|name| is_name(name)) {
            match file::open(self, &journal::path(name), OFlags::RDWR) {
                Ok(file) if sys::is_locked(&file, Lock::Life) => any_running = true,
                Ok(file) => {
                    // Otherwise another process does it, or has done it, or has taken the name.
                    if sys::try_lock(&file, Lock::Repair).is_ok()
                        && !sys::is_locked(&file, Lock::Life)
                        && fstat(&file).is_ok_and(|stat| stat.st_nlink > 0)
                    {
                        let journal = Journal::open(self, name, file);
                        if journal.as_ref().is_ok_and(|journal| journal.record().handed_over.is_some()) {
                            // What it holds, `delete` releases.
                            any_running = true;
                        } else {
                            swept = journal.and_then(self.release).and(swept);
                        }
                    }
                }
                // Its launcher was killed between mkdir and open, or is about to open it; rmdir takes only what is
                // empty.
                Err(_) => file::remove(self, name, AtFlags::REMOVEDIR),
            }
        }
        swept.map(|()| any_running)
    }
}
