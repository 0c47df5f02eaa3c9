//! A running container on a pretend host, seen from there.

use crate::{Host, Outcome, Place, Running, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

/// A container, and the launcher in its foreground. Dropped, both are killed.
#[derive(Debug)]
pub struct Container<'a> {
    host: &'a Host,
    name: String,
    running: Running,
}

impl<'a> Container<'a> {
    /// The container `name`, of the launcher that was just started.
    pub fn new(host: &'a Host, name: &str, running: Running) -> Self {
        Self { host, name: name.into(), running }
    }

    /// Its leaf cgroup.
    pub fn leaf(&self) -> PathBuf {
        self.host.cgroup_parent().join(&self.name)
    }

    /// The pid of its PID 1, as the test sees it.
    ///
    /// # Panics
    /// If the container does not come up.
    #[track_caller]
    pub fn init(&mut self) -> u32 {
        let leaf = self.leaf();
        wait_for("the container's PID 1", || {
            let init = leaf_processes(&leaf).first().copied();
            let ended = self.running.has_ended();
            assert!(init.is_some() || !ended, "{} ended: {}", self.name, self.running.stderr());
            init
        })
    }

    /// Its network.
    #[track_caller]
    pub fn network(&mut self) -> Place {
        Place::network_of(self.init())
    }

    /// Its IPv4 address.
    ///
    /// # Panics
    /// If it gets none.
    #[track_caller]
    pub fn address(&mut self) -> String {
        self.address_of("-4")
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    /// If it gets none.
    #[track_caller]
    pub fn address6(&mut self) -> String {
        self.address_of("-6")
    }

    #[track_caller]
    fn address_of(&mut self, family: &str) -> String {
        let network = self.network();
        wait_for("the container's address", || {
            let lines = network.program("ip").args([family, "-o", "addr", "show", "scope", "global"]).run();
            let address = lines.ok().split_whitespace().nth(3)?.split('/').next()?.to_owned();
            Some(address)
        })
    }

    /// Waits until nginx answers on port 80 inside.
    #[track_caller]
    pub(crate) fn wait_for_nginx(&mut self) {
        let network = self.network();
        wait_until("nginx inside the container", || {
            assert!(!self.running.has_ended(), "nginx ended: {}", self.running.stderr());
            network.get("127.0.0.1:80").is_ok()
        });
    }

    /// Stops it by SIGTERM to the launcher, unlike Ctrl-C in a terminal.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn stop(self) -> Outcome {
        self.running.signal(Signal::SIGTERM);
        self.running.finish()
    }

    /// The launcher.
    pub fn into_running(self) -> Running {
        self.running
    }
}

impl Deref for Container<'_> {
    type Target = Running;
    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Container<'_> {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

/// The processes of a cgroup, the eldest first, as the test sees their pids.
pub fn leaf_processes(leaf: &Path) -> Vec<u32> {
    let text = fs::read_to_string(leaf.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect();
    // Pids wrap around at pid_max: PID 1 is known by its last pid, the one inside; proc_pid_status(5).
    let is_init = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    };
    pids.sort_by_cached_key(|pid| (!is_init(*pid), *pid));
    pids
}
