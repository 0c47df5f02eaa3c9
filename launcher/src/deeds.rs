//! What is done to containers that are there, one after the other: `stop`, `kill`, `pause`, `resume`, `update`, `delete`.
//!
//! Each finds the container by its journal, and acts on its PID 1 by a pidfd or on its leaf cgroup. Must not talk to its
//! launcher, which sees what becomes of it.

use crate::attach;
use crate::cgroup::{self, Leaf};
use crate::error::{Context, Error, Result};
use crate::exec::{does_not_run, open_init};
use crate::file::{self, CWD};
use crate::join;
use crate::life::STOP_TIMEOUT;
use crate::limits::Limit;
use crate::state::{Entry, Root, Seen};
use crate::sys;
use linux_raw_sys::general::{SIGKILL, SIGTERM};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;

/// What is to be done.
pub enum Deed {
    /// Ask it to end, and kill it after so many seconds; `None` for its own --stop-timeout.
    Stop(Option<u64>),
    /// Send a signal, to its command or to all of its processes.
    Kill {
        /// Its number.
        signal: u32,
        /// To all.
        all: bool,
    },
    /// Freeze it, or let it go on.
    Freeze(bool),
    /// Change its limits.
    Update(Vec<Limit>),
    /// Forget it.
    Delete {
        /// And end it before.
        force: bool,
    },
}

/// Does it to all of them; those that it has worked for are printed.
pub fn carry_out(root: &Root, names: &[String], deed: &Deed) -> Result<()> {
    for_each(names, &mut |name| {
        let seen = root.find(name)?;
        match deed {
            Deed::Stop(time) => stop(root, &seen, *time),
            Deed::Kill { signal, all } => kill(root, &seen, *signal, *all),
            Deed::Freeze(frozen) => freeze(&seen, *frozen),
            Deed::Update(limits) => update(&seen, limits),
            Deed::Delete { force } => delete(root, &seen, *force),
        }?;
        crate::print(1, &format!("{name}\n"));
        Ok(())
    })
}

/// Does something for each of the names, also where it fails for another one: the last error is this function's, and the others
/// are told.
pub fn for_each(names: &[String], what: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let mut done = Ok(());
    for name in names {
        if let Err(error) = what(name)
            && let Err(before) = std::mem::replace(&mut done, Err(error))
        {
            crate::complain(&before);
        }
    }
    done
}

fn stop(root: &Root, seen: &Seen, time: Option<u64>) -> Result<()> {
    let own = seen.entries().iter().find_map(|entry| match entry {
        Entry::Stop(signal, seconds) => Some((*signal, *seconds)),
        _ => None,
    });
    let (signal, seconds) = own.unwrap_or((SIGTERM, STOP_TIMEOUT));
    if !seen.is_running {
        // As docker has it: what was asked for is so.
        return Ok(());
    }
    end(root, &seen.name, signal, time.unwrap_or(seconds))
}

/// Sends a signal, waits for so many seconds, and kills what is left.
fn end(root: &Root, name: &str, signal: u32, seconds: u64) -> Result<()> {
    root.ask_to_stop(name);
    // Only now, since it may have been started again meanwhile. From here on its launcher sees to it that it is not.
    let Some(seen) = root.look(name)?.filter(|seen| seen.is_running) else { return Ok(()) };
    if let Ok(init) = open_init(root, &seen) {
        if signal != SIGKILL {
            // Frozen processes take no other signal.
            let _ = freeze(&seen, false);
            let _ = sys::pidfd_send_signal(&init, signal);
        }
        let seconds = if signal == SIGKILL { 0 } else { seconds };
        let timeout = Timespec { tv_sec: seconds as i64, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&timeout)) == Ok(0) {
            kill_all(&seen, &init);
        }
    }
    match root.wait(name) {
        // It was not kept, and somebody else has seen its end before.
        Err(_) if root.look(name)?.is_none() => Ok(()),
        ended => ended.map(drop),
    }
}

/// SIGKILL to all of the cgroup, or to PID 1, which takes its namespace along.
fn kill_all(seen: &Seen, init: &OwnedFd) {
    let killed = seen.cgroup().map(|leaf| file::write(CWD, &format!("{leaf}/cgroup.kill"), "1"));
    if !matches!(killed, Some(Ok(()))) {
        let _ = sys::pidfd_send_signal(init, SIGKILL);
    }
}

fn kill(root: &Root, seen: &Seen, signal: u32, all: bool) -> Result<()> {
    if signal == SIGKILL && seen.is_running {
        // It is not to be started again by who has just been asked for the opposite.
        return end(root, &seen.name, signal, 0);
    }
    let init = open_init(root, seen)?;
    let what = format_args!("send a signal to {}", seen.name);
    if !all {
        return sys::pidfd_send_signal(&init, signal).context(what, "");
    }
    // PID 1 would pass it on to one of those that get it anyway.
    let is_init = |pid: u32| seen.init().is_some_and(|(init, _)| init == pid);
    for pid in join::processes(leaf(seen)?).into_iter().filter(|pid| !is_init(*pid)) {
        if let Some(process) = sys::pidfd(pid) {
            let _ = sys::pidfd_send_signal(process, signal);
        }
    }
    Ok(())
}

fn freeze(seen: &Seen, frozen: bool) -> Result<()> {
    if !seen.is_running {
        return Err(does_not_run(&seen.name));
    }
    let path = format!("{}/cgroup.freeze", leaf(seen)?);
    let value = if frozen { "1" } else { "0" };
    file::write(CWD, &path, value).context(format_args!("write {value} to {path}"), "")?;
    cgroup::wait_until_frozen(leaf(seen)?, frozen);
    Ok(())
}

fn update(seen: &Seen, limits: &[Limit]) -> Result<()> {
    if !seen.is_running {
        return Err(Error::usage(format_args!("{} does not run", seen.name), "its limits are set when it starts"));
    }
    let path = leaf(seen)?;
    let directory = file::open(CWD, path, OFlags::DIRECTORY).context(format_args!("open {path}"), "")?;
    Leaf::of(path)?.set_limits(&directory, limits, &|_| Ok(()))
}

fn delete(root: &Root, seen: &Seen, force: bool) -> Result<()> {
    let name = &seen.name;
    if force {
        end(root, name, SIGKILL, 0)?;
    }
    match root.delete(name) {
        // Another one, that was started since.
        Err(_) if force && root.look(name)?.is_some_and(|now| now.is_running) => Ok(()),
        // That has ended by now.
        Err(_) if force => root.delete(name),
        deleted => deleted,
    }
}

fn leaf(seen: &Seen) -> Result<&str> {
    seen.cgroup().ok_or_else(|| {
        let hint = "no cgroup was delegated to its user: systemd-run --user --scope -p Delegate=yes starts it with one";
        Error::usage(format_args!("{} has no cgroup of its own", seen.name), hint)
    })
}

/// `kontena wait`: prints the exit statuses, and gives the last.
pub fn wait(root: &Root, names: &[String]) -> Result<u8> {
    let mut status = 0;
    for_each(names, &mut |name| {
        status = root.wait(name)?.status;
        crate::print(1, &format!("{status}\n"));
        Ok(())
    })?;
    Ok(status)
}

/// `kontena attach`.
pub fn attach(root: &Root, name: &str, detach_keys: &[u8], takes_input: bool) -> Result<u8> {
    use crate::terminal::{HUNG_UP, Left, Options, Peer, attend};
    let seen = root.find(name)?;
    if !seen.is_running {
        return Err(Error::usage(format_args!("{name} does not run"), "kontena logs prints what it has written"));
    }
    let directory = root.directory(name)?;
    let socket = attach::connect_to(&directory, name)?;
    let signals = crate::supervise::Signals::block()?;
    let is_terminal = crate::plan::has_terminal(&directory);
    let options = Options { detach_keys, takes_input, is_terminal, until_it_runs: false };
    match attend(&Peer::Launcher(socket), &signals, &options)? {
        Left::Ended(status) => Ok(status.unwrap_or(0)),
        Left::Detached | Left::Runs => Ok(0),
        Left::HungUp => Ok(HUNG_UP),
        Left::Lost => Err(Error::usage(format_args!("the launcher of {name} has let go of it"), "see kontena list")),
    }
}
