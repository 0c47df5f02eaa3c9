//! kontena-init as the PID 1 of a machine: `rdinit=/sbin/kontena-init -- --boot CMD [ARG…]` at the end of the kernel's
//! command line.
//!
//! Makes of an initramfs what CMD expects of a host (mounts, modules, a network), runs it, and powers the machine off
//! when it ends. What cannot be done is said on the console and left out: CMD may do without. Must not come back while
//! there is a machine to switch off.

use core::ffi::{CStr, c_int};
use linux_raw_sys::general::{SIGCHLD, SIGHUP, SIGINT, SIGKILL};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, sync};
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, WaitOptions, getpid, setsid, wait};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::entrypoint::{execute, usage};
use crate::failure::{INIT_FAILED, complain};
use crate::sys::{self, Signal, Strings};
use crate::{net, reap, root, text};

/// Where it is mounted, the file system, and its options. All of them are nosuid; /dev must have devices, and /run and
/// /tmp programs.
const MOUNTS: [(&CStr, &CStr, &CStr); 7] = [
    (c"/proc", c"proc", c""),
    (c"/sys", c"sysfs", c""),
    (c"/dev", c"devtmpfs", c""),
    (c"/dev/pts", c"devpts", c"mode=0620,gid=5,ptmxmode=0666"),
    (c"/run", c"tmpfs", c"mode=0755"),
    (c"/tmp", c"tmpfs", c"mode=1777"),
    (c"/sys/fs/cgroup", c"cgroup2", c"nsdelegate,memory_recursiveprot"),
];

/// The modules to load, in this order: one path a line. Nothing else loads any, for there is no modprobe.
const MODULES: &CStr = c"/etc/modules.load";
const MODULES_LIMIT: usize = 64 << 10;

/// The whole life of the machine. Comes back where there is none to switch off: in a container.
pub fn boot(command: Strings, environment: Strings) -> i32 {
    if getpid() != Pid::INIT {
        return usage();
    }
    let mask = sys::set_signal_mask(u64::MAX);
    // Ctrl-Alt-Del is a SIGINT to this process from here on.
    warn("take over", b"Ctrl-Alt-Del", reboot(RebootCommand::CadOff));
    warn("leave", b"the initramfs", root::leave_initial_root());
    for (target, kind, options) in MOUNTS {
        warn("mount", target.to_bytes(), mount_filesystem(target, kind, options));
    }
    load_modules();
    warn("bring up", b"lo", net::socket().and_then(|socket| net::bring_up_loopback(&socket)));
    if let Some(config) = { environment }.find_map(|variable| variable.to_bytes().strip_prefix(b"ip=")) {
        warn("configure the network as", config, net::configure(config));
    }

    let (status, interrupted) = match sys::fork(0) {
        Ok(None) => {
            let _ = setsid();
            sys::set_signal_mask(mask);
            return execute(command, environment);
        }
        Ok(Some(pid)) => supervise(pid),
        Err(errno) => {
            warn("start", b"CMD", Err(errno));
            (INIT_FAILED, false)
        }
    };
    complain(&[b"CMD exited with ", text::decimal(status as u32, &mut [0; 10])]);
    // -1 is everybody but this process; kill(2).
    let _ = sys::kill(-1, SIGKILL as c_int);
    while !matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
    sync();
    let again = interrupted || status == 128 + SIGHUP as i32;
    warn("switch off", b"the machine", reboot(if again { RebootCommand::Restart } else { RebootCommand::PowerOff }));
    status
}

fn mount_filesystem(target: &CStr, kind: &CStr, options: &CStr) -> Result<()> {
    match mkdirat(CWD, target, Mode::from_raw_mode(0o755)) {
        // EPERM: in /sys, where the kernel has made all mountpoints.
        Ok(()) | Err(Errno::EXIST | Errno::PERM) => {}
        failed => return failed,
    }
    match mount(kind, target, kind, MountFlags::NOSUID, options) {
        // The kernel, or whoever started this, has been faster.
        Err(Errno::BUSY) => Ok(()),
        done => done,
    }
}

fn load_modules() {
    let open = |path: &CStr| openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let Ok(list) = open(MODULES).and_then(|file| sys::read_whole(&file, MODULES_LIMIT)) else { return };
    for path in text::split(list, b'\n').filter(|path| !path.is_empty()) {
        let mut room = sys::room::<{ sys::PATH_MAX }>();
        match sys::terminate(path, &mut room).and_then(open).and_then(|module| finit_module(module, c"", 0)) {
            Err(Errno::EXIST) => {}
            done => warn("load", path, done),
        }
    }
}

/// Runs until `command` has ended; its status, and whether Ctrl-Alt-Del had been pressed.
fn supervise(command: Pid) -> (i32, bool) {
    let mut interrupted = false;
    loop {
        let Ok(Signal { number: signal, .. }) = sys::wait_for_signal() else { continue };
        if signal != SIGCHLD {
            interrupted |= signal == SIGINT;
            // ESRCH: it has just ended, and SIGCHLD is on its way.
            let _ = sys::kill(command.as_raw_nonzero().get(), signal as c_int);
        } else if let Some(status) = reap::reap(command) {
            return (status, interrupted);
        }
    }
}

/// One line on the console where something has not worked.
fn warn(what: &str, object: &[u8], result: Result<()>) {
    if let Err(errno) = result {
        let errno = errno.raw_os_error();
        complain(&[b"cannot ", what.as_bytes(), b" ", object, b": errno ", text::decimal(errno as u32, &mut [0; 10])]);
    }
}
