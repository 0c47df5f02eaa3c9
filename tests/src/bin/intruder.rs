//! Tests run this program inside containers, to try everything that must fail. It is static, so it runs in every
//! rootfs.
//!
//! `intruder call NUMBER [ARGUMENT…]` makes one system call and says `ok` or the errno's name; `intruder
//! foreign` makes one of another architecture; `intruder time CALLS` prints the nanoseconds of a getpid(2);
//! `intruder look PATH…` reads files, `intruder list PATH…` lists directories, `intruder owner PATH…` says
//! whose they are, `intruder write PATH TEXT…` writes them, `intruder hold DIR` keeps copies of what others
//! tell of themselves by, `intruder notify TEXT` does what sd_notify(3) does, `intruder linger` hands it
//! sockets whose close takes an hour, `intruder spy DIR` looks into all processes that it sees until DIR/stop
//! is there, and leaves DIR/report, `intruder terminal` opens one, and `intruder freebind FROM TO` sends
//! datagrams from an IPv6 address that is not its own, each before one from its own. `intruder odd WHAT,…
//! PROGRAM ARGUMENT…` executes another program with unusual attributes, `intruder inherited` lists those that
//! it has itself, and `intruder keys` the contents of its keyrings. On the host, `intruder adopt PIDFILE
//! COMMAND ARGUMENT…` does what an engine does, and `intruder answer SOCKET CALL=ANSWER…` answers notified
//! calls. Must not judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "its end is what the test looks at")]

use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg, setsockopt};
use std::collections::BTreeSet;
use std::env::args;
use std::ffi::CStr;
use std::fs;
use std::hint::black_box;
use std::io::{IoSlice, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = args().skip(1).collect();
    let numbers = || arguments[1..].iter().map(|text| text.parse::<i64>().expect("a number"));
    match &*arguments[0] {
        "call" => {
            let mut all = [0; 7];
            all.iter_mut().zip(numbers()).for_each(|(place, number)| *place = number);
            let [number, arguments @ ..] = all;
            println!("{}", tests::sys::call(number, arguments).map_or_else(|errno| errno.to_string(), |_| "ok".into()));
        }
        "look" => arguments[1..].iter().for_each(|path| print!("{}", read(path))),
        "list" => {
            for path in &arguments[1..] {
                for entry in fs::read_dir(path).unwrap_or_else(|error| refused(path, &error)).flatten() {
                    println!("{}", entry.file_name().display());
                }
            }
        }
        "spy" => spy(Path::new(&arguments[1])),
        "hold" => hold(Path::new(&arguments[1])),
        "notify" => {
            let socket = std::env::var("NOTIFY_SOCKET").expect("NOTIFY_SOCKET");
            let sender = UnixDatagram::unbound().expect("a socket");
            sender.send_to(arguments[1].as_bytes(), &socket).unwrap_or_else(|error| refused(&socket, &error));
        }
        "linger" => linger(),
        "write" => {
            for pair in arguments[1..].chunks(2) {
                // As a shell does: it does not create missing files.
                let file = fs::OpenOptions::new().write(true).open(&pair[0]);
                let written = file.and_then(|mut file| file.write_all(pair[1].as_bytes()));
                written.unwrap_or_else(|error| refused(&pair[0], &error));
            }
        }
        "owner" => {
            for path in &arguments[1..] {
                let metadata = fs::metadata(path).unwrap_or_else(|error| refused(path, &error));
                println!("{}:{}", metadata.uid(), metadata.gid());
            }
        }
        "terminal" => {
            let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).expect("/dev/ptmx");
            grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
            let name = ptsname_r(&master).expect("its name");
            let mut options = fs::OpenOptions::new();
            options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
            options.open(&name).unwrap_or_else(|error| refused(&name, &error));
            println!("{name}");
        }
        "freebind" => {
            let (from, to) = (arguments[1].parse().expect("an address"), &*arguments[2]);
            loop {
                tests::traffic::send_from_nowhere(from, to, "forged").expect("a datagram");
                tests::traffic::send_from_nowhere(Ipv6Addr::UNSPECIFIED, to, "honest").expect("a datagram");
                sleep(Duration::from_millis(20));
            }
        }
        "odd" => {
            arguments[1].split(',').for_each(odd);
            let [program, rest @ ..] = &arguments[2..] else { panic!("a program") };
            panic!("{program}: {}", Command::new(program).args(rest).exec());
        }
        "adopt" => adopt(&arguments[1], &arguments[2..]),
        "answer" => answer(&arguments[1], &arguments[2..]),
        "headless" => {
            // The process lives on as a zombie with threads.
            let _ = std::thread::spawn(|| sleep(Duration::MAX));
            let _ = tests::sys::call(libc::SYS_exit, [0; 6]);
        }
        "inherited" => inherited(),
        "keys" => keys(),
        "foreign" => {
            let number = arguments.get(2).map(|number| number.parse().expect("a number"));
            println!("{}", tests::sys::foreign_call(&arguments[1], number));
        }
        "time" => {
            let calls = numbers().next().expect("a number");
            let start = Instant::now();
            for _ in 0..calls {
                black_box(tests::sys::call(nix::libc::SYS_getpid, [0; 6])).expect("getpid");
            }
            println!("{}", start.elapsed().as_nanos() as f64 / calls as f64);
        }
        other => panic!("{other}?"),
    }
}

/// Runs a command, adopts the process whose pid it has left in a file, and waits for that as soon as there is a file
/// `PIDFILE.reap`. Says how both have ended.
fn adopt(pidfile: &str, command: &[String]) {
    tests::sys::call(libc::SYS_prctl, [libc::PR_SET_CHILD_SUBREAPER.into(), 1, 0, 0, 0, 0]).expect("prctl");
    let status = Command::new(&command[0]).args(&command[1..]).status().expect("the command");
    println!("made: {:?}", status.code());
    let Ok(pid) = fs::read_to_string(pidfile) else { return };
    while !Path::new(&format!("{pidfile}.reap")).exists() {
        sleep(Duration::from_millis(20));
    }
    let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number and nothing else"));
    println!("ended: {:?}", nix::sys::wait::waitpid(pid, None));
}

/// Listens on a socket for the listeners of containers, prints what comes with each, and answers the calls of all, by
/// their numbers: with the result `VALUE`, with an errno if it is negative, with `continue`, or `never`.
fn answer(path: &str, answers: &[String]) {
    let socket = UnixListener::bind(path).expect("the socket");
    println!("listens");
    let answers: Vec<(i32, String)> = answers
        .iter()
        .map(|answer| answer.split_once('=').expect("CALL=ANSWER"))
        .map(|(call, answer)| (call.parse().expect("a number"), answer.into()))
        .collect();
    for connection in socket.incoming() {
        let (state, mut fds) = tests::sys::receive_fds(&connection.expect("a connection"));
        println!("{state}\nwith {} fds", fds.len());
        let (listener, answers) = (fds.pop().expect("a listener"), answers.clone());
        std::thread::spawn(move || {
            while let Some(call) = tests::sys::notified(&listener) {
                let answer = answers.iter().find(|(number, _)| *number == call.number);
                println!("notified {} of {}", call.number, call.pid);
                match answer.map_or("continue", |(_, answer)| answer) {
                    "never" => {}
                    answer => tests::sys::answer(&listener, &call, answer.parse().ok()),
                }
            }
        });
    }
}

/// `int keyctl(int operation, ...)`.
fn keyctl(operation: i64, arguments: [i64; 4]) -> nix::Result<i64> {
    let [a, b, c, d] = arguments;
    tests::sys::call(libc::SYS_keyctl, [operation, a, b, c, d, 0])
}

const JOIN_SESSION_KEYRING: i64 = 1;
const SESSION_KEYRING: i64 = -3;
const USER_KEYRING: i64 = -4;

/// An address, as a system call takes it.
fn address(text: &CStr) -> i64 {
    text.as_ptr() as i64
}

/// Sets something that execve(2) passes on.
fn odd(what: &str) {
    let call = |number, arguments: &[i64]| {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        tests::sys::call(number, all).unwrap_or_else(|errno| panic!("{what}: {errno}"));
    };
    match what {
        "signals" => tests::sys::ignore_and_block_signals(),
        "fifo" | "round-robin" => {
            let (policy, priority) = (if what == "fifo" { libc::SCHED_FIFO } else { libc::SCHED_RR }, 1i32);
            call(libc::SYS_sched_setscheduler, &[0, policy.into(), &raw const priority as i64]);
        }
        // IOPRIO_WHO_PROCESS, IOPRIO_CLASS_RT
        "io" => call(libc::SYS_ioprio_set, &[1, 0, 1 << 13]),
        "personality" => {
            let persona = libc::ADDR_NO_RANDOMIZE | libc::READ_IMPLIES_EXEC | libc::MMAP_PAGE_ZERO;
            call(libc::SYS_personality, &[persona.into()]);
        }
        // SECBIT_NO_SETUID_FIXUP
        "securebits" => call(libc::SYS_prctl, &[libc::PR_SET_SECUREBITS.into(), 1 << 2]),
        "keyring" => {
            call(libc::SYS_keyctl, &[JOIN_SESSION_KEYRING, 0]);
            let (kind, name, value) = (address(c"user"), address(c"kontena-secret"), address(c"of the caller"));
            call(libc::SYS_add_key, &[kind, name, value, 13, SESSION_KEYRING]);
        }
        other => panic!("{other}?"),
    }
}

/// Says what this process has of [`odd`].
fn inherited() {
    let call = |number, arguments| tests::sys::call(number, arguments).map_or(-1, |value| value);
    let status = read("/proc/self/status");
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).expect("a line");
        // Without SIGPIPE, which Rust ignores.
        u64::from_str_radix(line, 16).expect("a mask") & !(1 << (libc::SIGPIPE - 1))
    };
    println!("ignored {:x} blocked {:x}", mask("SigIgn"), mask("SigBlk"));
    println!("policy {}", call(libc::SYS_sched_getscheduler, [0; 6]));
    println!("real-time io {}", call(libc::SYS_ioprio_get, [1, 0, 0, 0, 0, 0]) >> 13 == 1);
    println!("personality {:x}", call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]));
    println!("securebits {:x}", call(libc::SYS_prctl, [libc::PR_GET_SECUREBITS.into(), 0, 0, 0, 0, 0]));
}

/// Says what is in the session keyring under the name of the caller's secret, and which user keyring there is, by its
/// number and by its name.
fn keys() {
    const GET_KEYRING_ID: i64 = 0;
    const SEARCH: i64 = 10;
    const READ: i64 = 11;
    let mut value = [0u8; 32];
    let read = keyctl(SEARCH, [SESSION_KEYRING, address(c"user"), address(c"kontena-secret"), 0])
        .and_then(|key| keyctl(READ, [key, value.as_mut_ptr() as i64, 32, 0]));
    let say = |result: nix::Result<i64>| result.map_or_else(|errno| format!("{errno:?}"), |number| number.to_string());
    println!("secret {}", read.map_or_else(|errno| format!("{errno:?}"), |_| String::from_utf8_lossy(&value).into()));
    println!("user {}", say(keyctl(GET_KEYRING_ID, [USER_KEYRING, 0, 0, 0])));
    println!("named {}", say(keyctl(JOIN_SESSION_KEYRING, [address(c"_uid.0"), 0, 0, 0])));
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| refused(path, &error))
}

fn refused(path: &str, error: &std::io::Error) -> ! {
    eprintln!("{path}: {error}");
    exit(1)
}

/// Sends fds to $NOTIFY_SOCKET whose last close(2) is the receiver's, and waits there: sockets with data that nobody
/// reads.
fn linger() {
    let address = UnixAddr::new(std::env::var("NOTIFY_SOCKET").expect("NOTIFY_SOCKET").as_str()).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    setsockopt(&client, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 3600 }).unwrap();
    client.set_nonblocking(true).unwrap();
    while client.write(&[0; 65536]).is_ok() {}
    // The peer comes second, and so it is still open when the first one is closed.
    for fd in [client.as_raw_fd(), peer.as_raw_fd()] {
        let (parts, rights) = ([IoSlice::new(b"STATUS=take this")], [fd]);
        sendmsg(sender.as_raw_fd(), &parts, &[ControlMessage::ScmRights(&rights)], MsgFlags::empty(), Some(&address))
            .unwrap_or_else(|errno| refused("/dev/notify", &errno.into()));
    }
    // A process that ends does not wait for its own.
    exit(0);
}

/// Where a file of ours leads to.
fn link_of(file: &fs::File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Takes a copy of every pipe and socket that any other process has beside its stdio, and keeps it; DIR/held gets a
/// line for each that it has taken.
fn hold(directory: &Path) -> ! {
    let (own, mut seen) = (std::process::id(), BTreeSet::new());
    fs::write(directory.join("begun"), "").unwrap();
    let mut held = fs::File::create(directory.join("held")).unwrap();
    loop {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if pid == own || pid == 1 || seen.contains(&pid) {
                continue;
            }
            let Ok(pidfd) = tests::sys::call(nix::libc::SYS_pidfd_open, [pid.into(), 0, 0, 0, 0, 0]) else { continue };
            for fd in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
                let number = fd.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(-1);
                let link = fs::read_link(fd.path()).unwrap_or_default();
                let tells = ["pipe:", "socket:"].iter().any(|kind| link.to_string_lossy().starts_with(kind));
                if number > 2
                    && tells
                    && tests::sys::call(nix::libc::SYS_pidfd_getfd, [pidfd, number, 0, 0, 0, 0]).is_ok()
                {
                    seen.insert(pid);
                    writeln!(held, "{pid}").unwrap();
                }
            }
            let _ = tests::sys::call(nix::libc::SYS_close, [pidfd, 0, 0, 0, 0, 0]);
        }
    }
}

/// What can be had of other processes, by a process that does nothing else: the capabilities that any of them has had
/// (`caps`), what any fd of theirs has led to (`fd`), directories among them from which there is more to be seen than
/// from the own root (`way out`), their programs (`exe`), and which of those could be written to (`wrote`);
/// CVE-2016-9962, CVE-2019-5736.
fn spy(directory: &Path) {
    let (mut found, mut capabilities, mut held) = (BTreeSet::new(), 0, Vec::new());
    let own = std::process::id().to_string();
    let root = fs::metadata("/").map(|root| (root.dev(), root.ino())).unwrap();
    fs::write(directory.join("begun"), "").unwrap();
    while !directory.join("stop").exists() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().into_string().unwrap_or_default();
            if pid == own || !pid.bytes().all(|digit| digit.is_ascii_digit()) {
                continue;
            }
            let process = entry.path();
            // Once it has a way into a program, it keeps that, if it is not one of the container's own.
            let options = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).clone();
            if let Ok(file) = options.open(process.join("exe")) {
                let link = fs::read_link(link_of(&file)).unwrap_or_default();
                found.insert(format!("exe {}", link.display()));
                held.extend(Some(file).filter(|_| link.to_string_lossy().contains("kontena")));
                held.truncate(64);
            }
            for file in &held {
                let path = link_of(file);
                if fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(b"pwned")).is_ok()
                {
                    found.insert(format!("wrote {}", fs::read_link(&path).unwrap_or_default().display()));
                }
            }
            for fd in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
                if let Ok(link) = fs::read_link(fd.path()) {
                    // Numbers of pipes and sockets are one kind.
                    let link = link.display().to_string();
                    found.insert(format!("fd {}", link.split_once(":[").map_or(&*link, |(kind, _)| kind)));
                }
                let above = fs::metadata(fd.path().join("..")).map(|above| (above.dev(), above.ino()));
                if fs::metadata(fd.path()).is_ok_and(|fd| fd.is_dir()) && above.is_ok_and(|above| above != root) {
                    found.insert(format!("way out {}", fs::read_link(fd.path()).unwrap_or_default().display()));
                }
            }
            let status = fs::read_to_string(process.join("status")).unwrap_or_default();
            for set in ["CapPrm:\t", "CapEff:\t"] {
                let bits = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(set)?, 16).ok());
                // PID 1 keeps CAP_KILL, whatever the container has.
                capabilities |= bits.filter(|_| pid != "1").unwrap_or(0);
            }
        }
    }
    found.insert(format!("caps {capabilities:x}"));
    let report: Vec<String> = found.into_iter().collect();
    fs::write(directory.join("report"), report.join("\n") + "\n").unwrap();
}
