//! `suite DIRECTORY [FILTER…]`: runs the test programs of a directory, one after the other, and prints when each begins
//! and how it ended; `cargo xtask test` makes its report from that output. It is the same program on the machine and in
//! the virtual machine, where it is PID 1's only command and first mounts the disks with the instruments and engines.
//!
//! Must not judge: that is xtask's, which also knows when this program itself did not come to its end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a machine set up wrongly"
)]

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::env;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// In the virtual machine: its disks, with the instruments and with engines, and where its output goes instead of to
/// the console.
const DISKS: [&str; 2] = ["/dev/vda", "/dev/vdb"];
const REPORT: &str = "/dev/hvc0";

fn main() {
    // A shell ignores them when it runs this in the background, and every program would inherit that.
    tests::sys::restore_signals();
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let (directory, filters) = arguments.split_first().expect("usage: suite DIRECTORY [FILTER...]");
    let instruments = tests::instruments();
    let report = (instruments != Path::new("/")).then(|| {
        for (disk, target) in DISKS.iter().zip([&instruments, &tests::provided("KONTENA_ENGINES_ROOTFS")]) {
            mount(Some(*disk), target, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>).expect("mount a disk");
        }
        start_nothing().expect("a container");
        OpenOptions::new().write(true).open(REPORT).expect("the port for the report")
    });
    let say = |line: String| match &report {
        Some(port) => std::io::Write::write_all(&mut &*port, line.as_bytes()).expect("write to the port"),
        None => print!("{line}"),
    };
    let output = || report.as_ref().map_or(Stdio::inherit(), |port| port.try_clone().expect("dup").into());

    let mut programs: Vec<_> = fs::read_dir(directory).expect("the test programs").flatten().collect();
    programs.sort_by_key(|entry| entry.file_name());
    for program in programs {
        let name = program.file_name().to_string_lossy().into_owned();
        say(format!("suite: begin {name}\n"));
        let mut command = Command::new(program.path());
        let status = command.args(filters).stdin(Stdio::null()).stdout(output()).stderr(output()).status();
        say(format!(
            "suite: end {name}: {}\n",
            status.map_or_else(|error| error.to_string(), |status| status.to_string())
        ));
    }
    say("suite: done\n".into());
}

/// Starts a container that has a bit of everything, and does nothing. With the first limit of CPU time or memory,
/// packet filter or device filter, and without the last one, the kernel changes its own code, which its processors run
/// meanwhile. Each container would have it do so, which is slow in an emulator, and QEMU 7.2 lost such a change now and
/// then: a processor was left at a breakpoint that is not there any more.
/// It has a network namespace of its own, for new ones have the settings of the machine's.
fn start_nothing() -> std::io::Result<()> {
    let options = "run -d --name nothing --cgroup-parent nothing --cpus 1 --cpuset-cpus 0 -m 64m --pids-limit 8 \
                   -p 127.0.0.1:1:80 --read-only --tmpfs /run --tmpfs /tmp";
    let mut kontena = Command::new(tests::launcher());
    kontena.args(["--root", "/run/nothing"]).args(options.split_whitespace());
    kontena.arg(tests::provided("KONTENA_ROOTFS")).arg("/usr/sbin/nginx");
    let start = || unshare(CloneFlags::CLONE_NEWNET).map_err(Into::into).and_then(|()| kontena.status());
    let status = thread::scope(|scope| scope.spawn(start).join().expect("a thread"))?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(status.to_string())) }
}
