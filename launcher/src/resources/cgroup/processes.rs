//! The processes of a cgroup and of those below it, which a container may make, however deep and many.

use super::hierarchy::hierarchy;
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::sys;
use linux_raw_sys::general::SIGKILL;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom, openat, seek};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// The pids in a cgroup, as far as this pid namespace has them.
pub fn processes(cgroup: &str) -> Vec<String> {
    file::read_text(CWD, &format!("{cgroup}/cgroup.procs")).lines().map(String::from).list()
}

/// The cgroup of a process, by its path.
pub fn of_process(pid: u32) -> Option<String> {
    let text = file::read_text(CWD, &format!("/proc/{pid}/cgroup"));
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    hierarchy().ok().map(|mount_point| format!("{mount_point}{}", path.trim_end_matches('/')))
}

/// Whether a process is in the cgroup `path`, or in one below it.
pub fn has_process(path: &str, pid: u32) -> bool {
    of_process(pid)
        .is_some_and(|own| own.strip_prefix(path).is_some_and(|rest| matches!(rest.as_bytes(), [] | [b'/', ..])))
}

/// All processes in a cgroup and those below it.
pub fn all_processes(path: &str) -> Vec<u32> {
    let (mut all, mut ways, mut from) = (Vec::new(), Vec::new(), 0);
    let mut at = file::open(CWD, path, OFlags::DIRECTORY);
    while let Ok(directory) = &at {
        if from == 0 {
            all.extend(file::read_text(directory, "cgroup.procs").lines().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        let below = next_below(directory, from).map(|(name, behind)| (step(directory, &name), behind));
        match below {
            Some((Ok(below), behind)) => {
                ways.push(behind);
                (at, from) = (Ok(below), 0);
            }
            // It has gone since.
            Some((Err(_), behind)) => from = behind,
            None => {
                let Some(behind) = ways.pop() else { break };
                (at, from) = (step(directory, c".."), behind);
            }
        }
    }
    all
}

/// Sends a signal to all processes in a cgroup and those below it.
pub fn signal_all(path: &str, signal: u32) {
    for pid in all_processes(path) {
        // The pid may have become another process's before it was opened. From then on it is the one in the cgroup.
        if let Some(process) = sys::pidfd(pid)
            && has_process(path, pid)
        {
            let _ = sys::pidfd_send_signal(process, signal);
        }
    }
}

/// Sends SIGKILL to all of a cgroup and those below it; `false` if the kernel does not do that for cgroups.
pub fn kill(path: &str) -> bool {
    let kill = || file::write(CWD, &format!("{path}/cgroup.kill"), "1").is_ok();
    if !kill() {
        return false;
    }
    // The kernel signals the first thread of each process: one that has ended, and left others behind, takes nothing.
    signal_all(path, SIGKILL);
    // What those have forked meanwhile.
    kill()
}

/// The first cgroup that stands in `directory` behind the position `from`, and the position behind it. By its bytes:
/// a container that makes one can use any bytes.
pub fn next_below(directory: &OwnedFd, from: u64) -> Option<(CString, u64)> {
    seek(directory, SeekFrom::Start(from)).ok()?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && !matches!(name.to_bytes(), b"." | b"..") {
            return Some((name.to_owned(), entry.next_entry_cookie()));
        }
    }
    None
}

/// The cgroup of this name in `directory`. Step by step, neither depth nor the length of a path matters.
pub fn step(directory: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat(directory, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
