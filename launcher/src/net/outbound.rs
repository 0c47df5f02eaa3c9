//! An ordinary user's container with a way out: pasta(1) or slirp4netns(1) makes its connections on the host.
//!
//! The only program that the network needs, and only as the ordinary user. It joins the container's network by the pid
//! of the init, which has executed by then, so that its namespaces can be opened. It dies with the launcher, and with
//! the container's run. Must not reach the host's loopback.

use crate::config::network::Outbound;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::resources::userns::find_program;
use crate::spawn::clone::Started;
use crate::sys;
use linux_raw_sys::general::SIGKILL;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, set_parent_process_death_signal, waitid};
use std::ffi::{CStr, CString};

/// How often the container's routes are looked at, a millisecond apart.
const LOOKS: u32 = 20_000;

/// An installed program.
#[derive(Clone, Copy)]
pub struct Program {
    kind: Outbound,
    path: &'static CStr,
}

/// The program at work for a container; dropped, it is killed.
pub struct Helper {
    process: OwnedFd,
    /// Open, so that a write(2) to it does not fail.
    errors: OwnedFd,
}

/// What the child needs.
#[derive(Clone, Copy)]
struct Start {
    program: Program,
    init: Pid,
    launcher: Pid,
}

impl Program {
    /// Finds it, before anything is taken.
    pub fn find(kind: Outbound) -> Result<Self> {
        let (name, package) = (kind.name(), kind.package());
        match find_program(name) {
            Some(path) => Ok(Self { kind, path: Box::leak(path.into_boxed_c_str()) }),
            None => {
                let hint = format!("{name} is not installed: install Debian's {package}, or use --net none or host");
                Err(Error::usage(format_args!("--net {name}"), &hint))
            }
        }
    }

    /// Starts it for the container of `init`, and waits until that has a route.
    pub fn start(self, init: &Started) -> Result<Helper> {
        let what = format!("start {}", self.kind.name());
        let start = Start { program: self, init: init.pid, launcher: getpid() };
        let open = || {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let null = file::open(CWD, "/dev/null", OFlags::RDWR)?;
            let pid = sys::fork_apart(3, [null, theirs], execute, start)?;
            let process = sys::pidfd(pid.as_raw_pid() as u32).ok_or(Errno::SRCH)?;
            Ok(Helper { process, errors: ours })
        };
        let helper = open().at(format_args!("{what}"))?;
        for _ in 0..LOOKS {
            let (pause, both) = (Timespec { tv_sec: 0, tv_nsec: 1_000_000 }, [&helper.process, &init.pidfd]);
            let ended = poll(&mut both.map(|fd| PollFd::new(fd, PollFlags::IN)), Some(&pause));
            if has_route(init.pid) || is_over(&init.pidfd) {
                return Ok(helper);
            }
            if ended.is_ok_and(|ended| ended > 0) {
                return Err(Error::usage(format_args!("{what}"), &helper.complaint()));
            }
        }
        Err(Error::usage(format_args!("{what}"), "the container got no route: see --net none"))
    }

    fn arguments(self, init: Pid) -> Vec<CString> {
        let words: &[&str] = match self.kind {
            Outbound::Pasta => &[
                "pasta",
                "--config-net",
                "--foreground",
                "--quiet",
                "--no-map-gw",
                "--ns-ifname",
                "eth0",
                "-t",
                "none",
                "-u",
                "none",
                "-T",
                "none",
                "-U",
                "none",
            ],
            Outbound::Slirp4netns => &[
                "slirp4netns",
                "--configure",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
                "--mtu=65520",
            ],
        };
        let pid = init.as_raw_pid().to_string();
        let last: &[&str] = if self.kind == Outbound::Pasta { &[&pid] } else { &[&pid, "eth0"] };
        words.iter().chain(last).filter_map(|word| CString::new(*word).ok()).list()
    }
}

/// In the child: the program, with stdio of its own and nothing else that is open.
fn execute([null, errors]: [OwnedFd; 2], start: Start) -> u8 {
    let prepare = || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may be gone already.
        if getppid() != Some(start.launcher) {
            return Err(Errno::SRCH);
        }
        [(&null, 0), (&null, 1), (&errors, 2)].into_iter().try_for_each(|(fd, number)| sys::become_standard(fd, number))
    };
    // pasta takes one that is ignored for an error of signal(2).
    sys::restore_sigpipe();
    if prepare().is_ok() {
        sys::execute_path(start.program.path, &start.program.arguments(start.init));
    }
    127
}

fn is_over(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ended| ended > 0)
}

/// Whether the network of a process has a route beside those of loopback; proc_pid_net(5).
fn has_route(pid: Pid) -> bool {
    let read = |name| file::read_text(CWD, &format!("/proc/{}/net/{name}", pid.as_raw_pid()));
    let is_default = |line: &str| line.starts_with("00000000000000000000000000000000 00 ") && !line.ends_with("lo");
    read("route").lines().count() > 1 || read("ipv6_route").lines().any(is_default)
}

impl Helper {
    /// Its own words.
    fn complaint(&self) -> String {
        let mut text = [0; 1024];
        let length = rustix::io::read(&self.errors, &mut text).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        // There is no syslog in many a container, and it is not why.
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.ends_with("syslog")).list();
        if lines.is_empty() { "it has ended, and does not say why".into() } else { lines.join("; ") }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = sys::pidfd_send_signal(&self.process, SIGKILL);
        let process = WaitId::PidFd(self.process.as_fd());
        let _ = rustix::io::retry_on_intr(|| waitid(process.clone(), WaitIdOptions::EXITED));
    }
}
