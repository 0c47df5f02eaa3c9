//! Namespaces that the container of a bundle joins by their files, and a new time namespace, whose clocks are set
//! before a process enters it; setns(2), time_namespaces(7).
//!
//! Each file is opened once: with /proc/PID/ns/…, that process may end and another process get its pid. A separate
//! process joins the namespaces and clones the container, since no process can leave a user namespace again. Must not
//! let a container join the host's mount namespace.

use crate::config::Config;
use crate::config::process::sysctl_path;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::net::Network;
use crate::resources::userns::Maps;
use crate::spawn::clone::Elsewhere;
use crate::sys;
use linux_raw_sys::general::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{fstat, stat};
use rustix::io::Errno;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::ffi::CStr;

/// The namespaces that a container joins.
pub struct Joined {
    namespaces: Vec<Namespace>,
    /// The text for /proc/PID/timens_offsets, if it has a new time namespace.
    clocks: Option<&'static str>,
}

struct Namespace {
    /// CLONE_NEW*.
    flag: u32,
    path: &'static CStr,
    fd: OwnedFd,
}

const HINT: &str = "linux.namespaces: use the file of a namespace of that type";

impl Joined {
    /// Opens the namespaces. Refuses those that must not be joined, and sysctls and links of the caller's namespaces.
    pub fn open(config: &'static Config, has_cgroup: bool, network: &Network<'_>) -> Result<Self> {
        let Some(bundle) = &config.bundle else { return Ok(Self { namespaces: Vec::new(), clocks: None }) };
        if bundle.shared() & CLONE_NEWPID != 0 && !has_cgroup {
            let hint = "nothing would end all of its processes: give the container a cgroup, or a new pid namespace";
            return Err(Error::usage(format_args!("linux.namespaces: the pid namespace is not its own"), hint));
        }
        let mut namespaces = Vec::new();
        for &(flag, path) in &bundle.joined {
            let what = format_args!("join the namespace {}", path.to_string_lossy());
            let fd = file::open_namespace(path)
                .and_then(|fd| if sys::namespace_type(&fd)? == flag { Ok(fd) } else { Err(Errno::INVAL) });
            let fd = fd.context(what, HINT)?;
            let is_hosts = |process| flag == CLONE_NEWNS && is(&fd, process, "mnt");
            if is_hosts("self") || is_hosts("1") {
                let hint = "its mounts and its root would be the host's: use another, or a new mount namespace";
                return Err(Error::usage(what, hint));
            }
            if flag == CLONE_NEWUSER && is(&fd, "self", "user") {
                return Err(Error::usage(what, "it is the caller's own: remove it from linux.namespaces"));
            }
            namespaces.push(Namespace { flag, path, fd });
        }
        // The user namespace is last: joining the others needs privileges that are lost with it.
        namespaces.sort_by_key(|namespace| namespace.flag == CLONE_NEWUSER);
        let joined = Self { namespaces, clocks: bundle.clocks.as_deref() };
        joined.check_settings(config, network).map(|()| joined)
    }

    /// Refuses sysctls and links of namespaces that the container shares with the caller.
    fn check_settings(&self, config: &Config, network: &Network<'_>) -> Result<()> {
        let Some(bundle) = &config.bundle else { return Ok(()) };
        if config.sysctls.is_empty() && bundle.net_devices.is_empty() {
            return Ok(());
        }
        let own = |flag, name| match self.namespaces.iter().find(|namespace| namespace.flag == flag) {
            Some(namespace) => !is(&namespace.fd, "self", name),
            None => bundle.shared() & flag == 0,
        };
        let number = || stat(c"/proc/self/ns/net").map(|found| found.st_ino);
        // The caller's number first: this process may not return from `inside`.
        let has_net = network.is_own() || number() != network.inside(number)?;
        let (has_uts, has_ipc) = (own(CLONE_NEWUTS, "uts"), own(CLONE_NEWIPC, "ipc"));
        let is_callers = |setting: &&&str| match &*sysctl_path(setting) {
            path if path.starts_with("net") => !has_net,
            path if path.starts_with("kernel/domainname") => !has_uts,
            _ => !has_ipc,
        };
        if !has_net && !bundle.net_devices.is_empty() {
            let hint = "it needs a network namespace other than the caller's: add it to linux.namespaces";
            return Err(Error::usage(format_args!("linux.netDevices"), hint));
        }
        let Some(setting) = config.sysctls.iter().find(is_callers) else { return Ok(()) };
        let hint = "it would be the caller's: give the container a namespace of its own for it";
        Err(Error::usage(format_args!("linux.sysctl: {setting}"), hint))
    }

    /// The maps of the user namespace that it joins.
    pub fn maps(&self) -> Result<Option<Maps>> {
        let Some(user) = self.namespaces.iter().find(|namespace| namespace.flag == CLONE_NEWUSER) else {
            return Ok(None);
        };
        let what = format_args!("read the maps of {}", user.path.to_string_lossy());
        Maps::of(user.fd.as_fd()).context(what, "kontena must be root of the user namespace above it").map(Some)
    }

    /// How to get into the namespaces, if the container must be cloned there.
    pub fn elsewhere(&self) -> Option<&dyn Elsewhere> {
        if self.namespaces.is_empty() && self.clocks.is_none() { None } else { Some(self) }
    }
}

impl Elsewhere for Joined {
    fn enter(&self) -> std::result::Result<(), (u32, Errno)> {
        let clocks = |clocks: &&str| {
            sys::unshare_time()?;
            if clocks.is_empty() { Ok(()) } else { file::write(CWD, "/proc/self/timens_offsets", clocks) }
        };
        self.clocks.iter().try_for_each(clocks).map_err(|errno| (self.namespaces.len() as u32, errno))?;
        for (step, Namespace { flag, fd, .. }) in (0..).zip(&self.namespaces) {
            let flag = ThreadNameSpaceType::from_bits_retain(*flag);
            move_into_thread_name_spaces(fd.as_fd(), flag).map_err(|errno| (step, errno))?;
        }
        Ok(())
    }

    fn joins_cgroup(&self) -> bool {
        self.namespaces.iter().any(|namespace| namespace.flag == CLONE_NEWCGROUP)
    }

    fn explain(&self, step: u32) -> String {
        match self.namespaces.get(step as usize) {
            Some(namespace) => format!("join the namespace {}", namespace.path.to_string_lossy()),
            None => "linux.timeOffsets: make a time namespace".into(),
        }
    }
}

/// Whether a process is in this namespace.
fn is(namespace: &OwnedFd, process: &str, name: &str) -> bool {
    let theirs = file::c_path(&format!("/proc/{process}/ns/{name}")).and_then(|path| stat(&*path));
    let number = |found: rustix::fs::Stat| (found.st_dev, found.st_ino);
    theirs.is_ok_and(|theirs| fstat(namespace).map(number) == Ok(number(theirs)))
}
