//! `cargo xtask`: the project's chores, one command each. This file reads the command line and dispatches; the work is
//! in the file which has the command's name.

mod apt;
mod arch;
mod bench;
mod ci;
mod completions;
mod debian;
mod dist;
mod fuzz;
mod host;
mod image;
mod initramfs;
mod kernel;
mod look;
mod musl;
mod rootfs;
mod run;
mod setup;
mod size;
mod step;
mod test;
mod traffic;
mod vm;

use argh::{EarlyExit, FromArgs};
use std::process::ExitCode;

/// kontena's chores. Each one first names and installs what it needs and this machine has not.
#[derive(FromArgs)]
struct Xtask {
    #[argh(subcommand)]
    task: Task,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Task {
    Run(run::Run),
    Test(test::Test),
    Vm(vm::Vm),
    Bench(bench::Bench),
    Traffic(traffic::Traffic),
    Fuzz(fuzz::Fuzz),
    Look(Look),
    Rootfs(Rootfs),
    Dist(Dist),
    Completions(Completions),
    Size(Size),
    Ci(Ci),
}

/// look around as a hostile root in kontena and in podman
#[derive(FromArgs)]
#[argh(subcommand, name = "look")]
struct Look {}

/// build the demo rootfs: nginx and a hello page
#[derive(FromArgs)]
#[argh(subcommand, name = "rootfs")]
struct Rootfs {
    /// x86_64, aarch64 or riscv64 (this machine's)
    #[argh(option, default = "std::env::consts::ARCH.into()")]
    arch: String,
}

/// build the pair for size, with a std of its own, into dist/
#[derive(FromArgs)]
#[argh(subcommand, name = "dist")]
struct Dist {
    /// x86_64, aarch64 or riscv64 (this machine's)
    #[argh(option, default = "std::env::consts::ARCH.into()")]
    arch: String,
}

/// write the completions for bash, zsh and fish, of kontena's own help, into dist/completions/
#[derive(FromArgs)]
#[argh(subcommand, name = "completions")]
struct Completions {}

/// show the pair's bytes and largest symbols; fails when over budget
#[derive(FromArgs)]
#[argh(subcommand, name = "size")]
struct Size {}

/// everything that must pass: format, lints, size, tests, benchmark
#[derive(FromArgs)]
#[argh(subcommand, name = "ci")]
struct Ci {}

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.is_empty() {
        args.push("help".into());
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let task = match Xtask::from_args(&["cargo xtask"], &args) {
        Ok(xtask) => xtask.task,
        Err(EarlyExit { output, status }) => {
            return match status {
                Ok(()) => {
                    println!("{}", output.trim_end());
                    ExitCode::SUCCESS
                }
                Err(()) => {
                    eprintln!("{}", output.trim_end());
                    ExitCode::from(2)
                }
            };
        }
    };
    let done = match task {
        Task::Run(options) => run::run(&options),
        Task::Test(options) => test::test(&options),
        Task::Vm(options) => vm::vm(&options),
        Task::Bench(options) => bench::bench(&options),
        Task::Traffic(options) => traffic::traffic(&options),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Look(Look {}) => look::look(),
        Task::Rootfs(Rootfs { arch }) => arch::Arch::named(&arch).and_then(rootfs::rootfs),
        Task::Dist(Dist { arch }) => arch::Arch::named(&arch).and_then(dist::dist),
        Task::Completions(_) => completions::completions(),
        Task::Size(_) => size::size(),
        Task::Ci(_) => ci::ci(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
