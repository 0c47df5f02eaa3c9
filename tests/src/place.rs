//! A place to run something: a network namespace, and optionally a mount and a pid namespace.
//!
//! A thread enters it, not this process: the thread's children are there too, and nothing needs to be undone.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::process::{Child, Command};
use std::thread;

/// Namespaces, held by fd.
#[derive(Debug)]
pub struct Place {
    network: File,
    mounts: Option<File>,
    processes: Option<File>,
}

impl Place {
    /// The network namespace of the calling thread.
    ///
    /// # Errors
    /// If there is no /proc.
    pub fn here() -> io::Result<Self> {
        Ok(Self { network: File::open("/proc/thread-self/ns/net")?, mounts: None, processes: None })
    }

    /// The network, mount and pid namespaces of a process.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/ns/{name}"));
        Ok(Self { network: open("net")?, mounts: Some(open("mnt")?), processes: Some(open("pid")?) })
    }

    /// The network namespace of a process, by the test's own pids.
    ///
    /// # Panics
    /// If it has ended.
    pub fn network_of(pid: u32) -> Self {
        Self::try_network_of(pid).unwrap_or_else(|error| panic!("process {pid}: {error}"))
    }

    /// The same of a process that may be exiting.
    ///
    /// # Errors
    /// If it has ended.
    pub fn try_network_of(pid: u32) -> io::Result<Self> {
        Ok(Self { network: File::open(format!("/proc/{pid}/ns/net"))?, mounts: None, processes: None })
    }

    /// The network namespace of a file.
    ///
    /// # Panics
    /// If there is none.
    pub fn at(path: &str) -> Self {
        let network = File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { network, mounts: None, processes: None }
    }

    /// The number of the network namespace.
    ///
    /// # Panics
    /// Never: the file is open.
    pub fn id(&self) -> u64 {
        self.network.metadata().unwrap().ino()
    }

    /// A path of the network namespace, for programs that are started from here.
    pub(crate) fn network_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd())
    }

    /// Does `what` there. /proc is not of use then: it belongs to the pid namespace of the place.
    ///
    /// # Panics
    /// With the panic of `what`.
    pub fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                what()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts a program there.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.inside(|| {
            if let Some(processes) = &self.processes {
                // For children: the thread itself stays.
                setns(processes, CloneFlags::CLONE_NEWPID).expect("setns to a pid namespace");
            }
            command.spawn()
        })
    }

    fn enter(&self) {
        setns(&self.network, CloneFlags::CLONE_NEWNET).expect("the tests need root: setns to a network namespace");
        if let Some(mounts) = &self.mounts {
            // A root and working directory that the other threads do not share.
            unshare(CloneFlags::CLONE_FS).expect("unshare CLONE_FS");
            setns(mounts, CloneFlags::CLONE_NEWNS).expect("setns to a mount namespace");
        }
    }
}
