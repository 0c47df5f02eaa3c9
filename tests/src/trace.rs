//! A program that is stopped before each of its system calls; ptrace(2).
//!
//! Only the thread that started it may go on with it.

use crate::{Outcome, Program, Running, patience, sys};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A traced program; its children are not, but for [`Self::first_child`].
#[derive(Debug)]
pub struct Traced {
    running: Option<Running>,
    pid: Pid,
    child: Option<Pid>,
}

impl Traced {
    /// Starts a program, and stops it right after its exec.
    ///
    /// # Panics
    /// If it cannot be traced.
    pub fn start(program: Program<'_>) -> Self {
        // The shell stops itself, so that the tracer is there before the program is.
        let running = program.by("sh", &["-c", "kill -STOP $$; exec \"$@\"", "sh"]).start();
        let traced = Self { pid: running.nix_pid(), running: Some(running), child: None };
        crate::wait_until("the program to stop before it begins", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", traced.pid)).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        });
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
        ptrace::seize(traced.pid, options).expect("the tests need ptrace");
        traced.running().signal(Signal::SIGCONT);
        loop {
            match traced.next_stop() {
                Some(WaitStatus::PtraceEvent(_, _, event)) if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 => {
                    return traced;
                }
                Some(_) => ptrace::cont(traced.pid, None).unwrap(),
                None => panic!("ended before its exec: {}", traced.running().stderr()),
            }
        }
    }

    /// Continues to its next system call, and returns its number and arguments; `None` when it has ended.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn next_call(&mut self) -> Option<(u64, [u64; 6])> {
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal).unwrap();
            signal = match self.next_stop()? {
                WaitStatus::PtraceSyscall(_) => match sys::system_call(self.pid) {
                    Some(call) => return Some(call),
                    None => None,
                },
                WaitStatus::Stopped(_, signal) => Some(signal),
                _ => None,
            };
        }
    }

    /// Continues until it has a child, and returns it, stopped before its first instruction.
    ///
    /// # Panics
    /// If it never has one.
    pub fn first_child(&mut self) -> Pid {
        let births = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
        ptrace::setoptions(self.pid, births | Options::PTRACE_O_EXITKILL).unwrap();
        loop {
            ptrace::cont(self.pid, None).unwrap();
            match self.next_stop() {
                Some(WaitStatus::PtraceEvent(..)) => break,
                Some(_) => {}
                None => panic!("ended without a child: {}", self.running().stderr()),
            }
        }
        let child = Pid::from_raw(ptrace::getevent(self.pid).unwrap().try_into().unwrap());
        self.child = Some(child);
        waitpid(child, Some(WaitPidFlag::__WALL)).unwrap();
        child
    }

    /// The child of [`Self::first_child`], traced like this one, which continues by itself.
    ///
    /// # Panics
    /// If it cannot be traced.
    pub fn follow(&mut self, child: Pid) -> Self {
        assert_eq!(self.child.take(), Some(child));
        ptrace::setoptions(child, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).unwrap();
        ptrace::detach(self.pid, None).unwrap();
        Self { running: None, pid: child, child: Some(child) }
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Reads its memory.
    ///
    /// # Panics
    /// If there is none.
    pub fn read(&self, address: u64, length: u64) -> Vec<u8> {
        let (base, len) = (usize::try_from(address).unwrap(), usize::try_from(length).unwrap());
        let mut bytes = vec![0; len];
        process_vm_readv(self.pid, &mut [IoSliceMut::new(&mut bytes)], &[RemoteIoVec { base, len }]).unwrap();
        bytes
    }

    /// Changes its memory.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        let base = usize::try_from(address).unwrap();
        process_vm_writev(self.pid, &[IoSlice::new(bytes)], &[RemoteIoVec { base, len: bytes.len() }]).unwrap();
    }

    /// Kills it before the system call at which it is stopped.
    ///
    /// # Panics
    /// If it has ended.
    #[track_caller]
    pub fn kill(mut self) {
        nix::sys::signal::kill(self.pid, Signal::SIGKILL).unwrap();
        if let Some(running) = self.running.take() {
            let _ = running.finish().code(-9);
        }
    }

    /// Kills it when it has done everything it can before the first instruction of the program that its child executes;
    /// then continues the child.
    ///
    /// # Panics
    /// If it has no child.
    #[track_caller]
    pub fn kill_before_its_child_begins(mut self) {
        let child = self.child.take().expect("no child");
        ptrace::detach(self.pid, None).unwrap();
        ptrace::setoptions(child, Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL).unwrap();
        ptrace::cont(child, None).unwrap();
        let stop = waitpid(child, Some(WaitPidFlag::__WALL)).unwrap();
        assert!(matches!(stop, WaitStatus::PtraceEvent(..)), "{stop:?}");
        nix::sys::signal::kill(child, Signal::SIGSTOP).unwrap();
        ptrace::detach(child, None).unwrap();
        let mut quiet = 0;
        crate::wait_until("it to wait for its child", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
            quiet = if stat.rsplit_once(") ").unwrap().1.starts_with('S') { quiet + 1 } else { 0 };
            quiet == 20
        });
        self.running().signal(Signal::SIGKILL);
        let pid = self.pid;
        crate::wait_until("its end", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
        });
        nix::sys::signal::kill(child, Signal::SIGCONT).unwrap();
        let _ = self.running.take().unwrap().finish().code(-9);
    }

    /// Lets it go on, without being traced, to its end.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    pub fn finish(self) -> Outcome {
        self.detach().finish()
    }

    /// Lets it go on without being traced.
    pub fn detach(mut self) -> Running {
        for pid in self.child.take().into_iter().chain([self.pid]) {
            // ESRCH: it has ended.
            let _ = ptrace::detach(pid, None);
        }
        self.running.take().unwrap()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Its next stop; `None` when it has ended, which is left for std's `Child` to wait for.
    fn next_stop(&self) -> Option<WaitStatus> {
        let start = Instant::now();
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        loop {
            match waitid(Id::Pid(self.pid), flags | WaitPidFlag::WNOWAIT).unwrap() {
                WaitStatus::StillAlive => {
                    assert!(start.elapsed() < patience(), "neither a stop nor an end");
                    sleep(Duration::from_micros(20));
                }
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return None,
                _ => return Some(waitpid(self.pid, Some(WaitPidFlag::__WALL)).unwrap()),
            }
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        drop(self.running.take());
        // A tracee that is dead stays until its tracer has waited for it, and its pid namespace with it.
        if let Some(child) = self.child {
            let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
            while waitpid(child, Some(WaitPidFlag::__WALL)).is_ok_and(|status| !is_end(status)) {}
        }
    }
}

fn is_end(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
}
