//! `suite DIRECTORY [FILTER…]`: runs the test programs of a directory, one after the other, and says when each begins and
//! how it ended; `cargo xtask test` makes its report of that. It is the same program on the machine and in the virtual
//! machine, where it is the one command of PID 1 and first mounts the disk that has the instruments.
//!
//! Must not judge: that is xtask's, which also knows when this program itself did not come to its end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a machine set up wrongly"
)]

use nix::mount::{MsFlags, mount};
use std::env;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

/// In the virtual machine: its disk, and where its output goes instead of to the console.
const DISK: &str = "/dev/vda";
const REPORT: &str = "/dev/hvc0";

fn main() {
    // A shell that was told to run this in the background has them ignored, and every program would inherit that.
    tests::sys::restore_signals();
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let (directory, filters) = arguments.split_first().expect("usage: suite DIRECTORY [FILTER...]");
    let instruments = tests::instruments();
    let report = (instruments != Path::new("/")).then(|| {
        mount(Some(DISK), &instruments, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>)
            .expect("mount the instruments");
        limit_nothing().expect("a cgroup with a limit of CPU time");
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

/// Makes a cgroup that has a limit of CPU time, and nobody in it. With the first one, and without the last one, the kernel
/// changes the code of its scheduler, in which both of the machine's processors always are; each container with `--cpus` would
/// have it do so, and QEMU 7.2 has lost such a change: both hung at a breakpoint that was not there any more.
fn limit_nothing() -> std::io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
    fs::create_dir(root.join("limited"))?;
    fs::write(root.join("limited/cpu.max"), "100000 100000")
}
