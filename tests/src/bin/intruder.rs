//! What tests run inside containers, to try what must not work: static, so that every rootfs will do.
//!
//! `intruder call NUMBER [ARGUMENT…]` makes one system call and says `ok` or the errno's name; `intruder foreign` makes one
//! of another architecture; `intruder time CALLS` gives the nanoseconds of a getpid(2); `intruder look PATH…` reads files,
//! `intruder list PATH…` lists directories, `intruder owner PATH…` says whose they are, `intruder write PATH TEXT…` writes
//! them, `intruder notify TEXT` does what sd_notify(3) does, and `intruder terminal` opens one. Must not judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "its end is what the test looks at")]

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use std::env::args;
use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
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
