//! kontena-init as the PID 1 of a machine: `rdinit=/sbin/kontena-init -- --boot CMD [ARG…]` at the end of the kernel's
//! command line.
//!
//! Makes of an initramfs what CMD expects of a host (mounts, modules, a network), runs it, and powers the machine off
//! when it ends. What cannot be done is said on the console and left out: CMD may do without. Must not come back while
//! there is a machine to switch off.

use core::ffi::{CStr, c_int};
use core::net::Ipv4Addr;
use linux_raw_sys::general::{SIGCHLD, SIGHUP, SIGINT, SIGKILL};
use linux_raw_sys::net::net_device_flags::IFF_UP;
use linux_raw_sys::netlink as uapi;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, sync};
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, mount};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::process::{Pid, WaitOptions, getpid, setsid, wait};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::sys::{self, Strings};
use crate::{INIT_FAILED, complain, execute, mounts, reap, usage};

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
    warn("leave", b"the initramfs", mounts::leave_initial_root());
    for (target, kind, options) in MOUNTS {
        warn("mount", target.to_bytes(), mount_filesystem(target, kind, options));
    }
    load_modules();
    warn("bring up", b"lo", configure_loopback());
    if let Some(config) = { environment }.find_map(|variable| variable.to_bytes().strip_prefix(b"ip=")) {
        warn("configure the network as", config, configure_network(config));
    }

    let (status, interrupted) = match sys::fork() {
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
    complain(&[b"CMD exited with ", decimal(status as u32, &mut [0; 10])]);
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
        // EPERM: in /sys, where the kernel has made what there is to be mounted on.
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
    let open = |path: &[u8]| openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let Ok(list) = open(MODULES.to_bytes()).and_then(|file| sys::read_whole(file, MODULES_LIMIT)) else { return };
    for path in list.split(|byte| *byte == b'\n').filter(|path| !path.is_empty()) {
        match open(path).and_then(|module| finit_module(module, c"", 0)) {
            Err(Errno::EXIST) => {}
            done => warn("load", path, done),
        }
    }
}

/// Runs until `command` has ended; its status, and whether Ctrl-Alt-Del had been pressed.
fn supervise(command: Pid) -> (i32, bool) {
    let mut interrupted = false;
    loop {
        let Ok(signal) = sys::wait_for_signal() else { continue };
        if signal != SIGCHLD as c_int {
            interrupted |= signal == SIGINT as c_int;
            // ESRCH: it has just ended, and SIGCHLD is on its way.
            let _ = sys::kill(command.as_raw_nonzero().get(), signal);
        } else if let Some(status) = reap::reap(command) {
            return (status, interrupted);
        }
    }
}

/// A word of a netlink message: all that is sent here is made of them.
type Word = [u8; 4];

/// The loopback's index in every network namespace.
const LOOPBACK: u32 = 1;

fn configure_loopback() -> Result<()> {
    set_link_up(&netlink_socket()?, LOOPBACK)
}

/// `ip=ADDRESS::GATEWAY:NETMASK::LINK:off`, as the kernel's Documentation/admin-guide/nfs/nfsroot.rst has it. A kernel
/// without CONFIG_IP_PNP hands what it does not know to its init, in the environment; one with it has done the work.
fn configure_network(config: &[u8]) -> Result<()> {
    let mut fields = core::str::from_utf8(config).unwrap_or_default().split(':');
    let mut field = |skip| fields.nth(skip).ok_or(Errno::INVAL);
    let parse = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| Errno::INVAL);
    let (address, gateway, mask, link) = (parse(field(0)?)?, parse(field(1)?)?, parse(field(0)?)?, field(1)?);

    let socket = netlink_socket()?;
    let index = name_to_index(&socket, link)?;
    set_link_up(&socket, index)?;
    // struct ifaddrmsg, IFA_LOCAL.
    let prefix = mask.to_bits().count_ones() as u8;
    let address = [[INET, prefix, 0, 0], index.to_ne_bytes(), attribute(uapi::IFA_LOCAL as u16), address.octets()];
    request(&socket, uapi::RTM_NEWADDR as u16, &address)?;
    // struct rtmsg, RTA_GATEWAY.
    let table = uapi::rt_class_t::RT_TABLE_MAIN as u8;
    let kind = [table, uapi::RTPROT_BOOT as u8, 0, uapi::RTN_UNICAST as u8];
    let gateway_type = attribute(uapi::rtattr_type_t::RTA_GATEWAY as u16);
    request(&socket, uapi::RTM_NEWROUTE as u16, &[[INET, 0, 0, 0], kind, [0; 4], gateway_type, gateway.octets()])
}

const INET: u8 = AddressFamily::INET.as_raw() as u8;

fn netlink_socket() -> Result<OwnedFd> {
    // Protocol 0 is NETLINK_ROUTE.
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
}

fn set_link_up(socket: &OwnedFd, index: u32) -> Result<()> {
    let up = (IFF_UP as u32).to_ne_bytes();
    // struct ifinfomsg: family and type, index, flags, and which of them change.
    request(socket, uapi::RTM_NEWLINK as u16, &[[0; 4], index.to_ne_bytes(), up, up])
}

/// The head of an attribute with one word in it.
fn attribute(kind: u16) -> Word {
    pair(2 * size_of::<Word>() as u16, kind)
}

fn pair(first: u16, second: u16) -> Word {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

/// Sends one message and takes the kernel's answer to it; netlink(7).
fn request(socket: &OwnedFd, kind: u16, body: &[Word]) -> Result<()> {
    const HEADER: usize = 4;
    // struct nlmsghdr, and in an answer struct nlmsgerr.
    const ERROR: usize = 4;
    let length = (HEADER + body.len()) * size_of::<Word>();
    let flags = uapi::NLM_F_REQUEST | uapi::NLM_F_ACK | uapi::NLM_F_CREATE;
    let header: [Word; HEADER] = [(length as u32).to_ne_bytes(), pair(kind, flags as u16), [0; 4], [0; 4]];
    let mut message = [[0; 4]; 32];
    for (place, word) in message.iter_mut().zip(header.iter().chain(body)) {
        *place = *word;
    }
    send(socket, message.as_flattened().get(..length).unwrap_or_default(), SendFlags::empty())?;
    recv(socket, message.as_flattened_mut(), RecvFlags::empty())?;
    match i32::from_ne_bytes(message[ERROR]) {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(-error)),
    }
}

/// One line on the console where something has not worked.
fn warn(what: &str, object: &[u8], result: Result<()>) {
    if let Err(errno) = result {
        let errno = errno.raw_os_error();
        complain(&[b"cannot ", what.as_bytes(), b" ", object, b": errno ", decimal(errno as u32, &mut [0; 10])]);
    }
}

fn decimal(mut number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut start = buffer.len();
    for (place, digit) in buffer.iter_mut().enumerate().rev() {
        (*digit, start) = (b'0' + (number % 10) as u8, place);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or_default()
}
