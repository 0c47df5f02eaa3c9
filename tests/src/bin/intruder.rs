//! What tests run inside containers, to try what must not work: static, so that every rootfs will do.
//!
//! `intruder call NUMBER [ARGUMENT…]` makes one system call and says `ok` or the errno's name; `intruder foreign` makes one
//! of another architecture; `intruder time CALLS` gives the nanoseconds of a getpid(2); `intruder look PATH…` reads files,
//! `intruder list PATH…` lists directories, `intruder owner PATH…` says whose they are, `intruder write PATH TEXT…` writes
//! them, `intruder notify TEXT` does what sd_notify(3) does, `intruder spy DIR` looks into all
//! processes that it sees until DIR/stop is there, and leaves DIR/report, and `intruder terminal` opens one. Must not judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "its end is what the test looks at")]

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use std::collections::BTreeSet;
use std::env::args;
use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::exit;
use std::time::Instant;

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
        "notify" => {
            let socket = std::env::var("NOTIFY_SOCKET").expect("NOTIFY_SOCKET");
            let sender = UnixDatagram::unbound().expect("a socket");
            sender.send_to(arguments[1].as_bytes(), &socket).unwrap_or_else(|error| refused(&socket, &error));
        }
        "write" => {
            for pair in arguments[1..].chunks(2) {
                // As a shell does: no file is made that is not there.
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
        "foreign" => println!("{}", tests::sys::foreign_call(&arguments[1])),
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

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| refused(path, &error))
}

fn refused(path: &str, error: &std::io::Error) -> ! {
    eprintln!("{path}: {error}");
    exit(1)
}

/// Where a file of ours leads to.
fn link_of(file: &fs::File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// What can be had of other processes, by a process that does nothing else: the capabilities that any of them has had (`caps`),
/// what any fd of theirs has led to (`fd`), directories among them from which there is more to be seen than from the own root
/// (`way out`), their programs (`exe`), and which of those could be written to (`wrote`); CVE-2016-9962, CVE-2019-5736.
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
