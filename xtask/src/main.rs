//! `cargo xtask`: the project's chores, one command each. This file reads the command line and dispatches; the work is
//! in the file which has the command's name.

mod apt;
mod arch;
mod bench;
mod ci;
mod completions;
mod debian;
mod demo_images;
mod dist;
#[cfg(test)]
mod docs;
mod filters;
mod fuzz;
mod host;
mod image;
mod initramfs;
mod kernel;
mod look;
mod musl;
mod oci_suites;
mod official;
mod options;

mod profiles;
mod qemu;
mod rootfs;
mod run;
mod setup;
mod size;
mod step;
mod structure;
mod test;
mod traffic;
mod vm;

use argh::{EarlyExit, FromArgs};
use std::process::ExitCode;

/// kontena's chores. Each one first names and installs the packages that it needs and this machine lacks.
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
    Filters(filters::Filters),
    Fuzz(fuzz::Fuzz),
    Look(Look),
    OciSuites(oci_suites::OciSuites),
    Official(Official),
    Rootfs(Rootfs),
    Image(image::Image),
    Dist(Dist),
    Completions(Completions),
    Man(Man),
    Options(Options),
    Size(Size),
    Profiles(Profiles),
    Structure(Structure),
    Ci(Ci),
}

/// look around as a hostile root in kontena and in podman
#[derive(FromArgs)]
#[argh(subcommand, name = "look")]
struct Look {}

/// rebuild the official images for the tests, as OCI layouts
#[derive(FromArgs)]
#[argh(subcommand, name = "official")]
struct Official {}

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
    /// full, board (no bundles), lean (run, bridge, publish, limits) or bare (no network of its own); full by default
    #[argh(option, default = "dist::FULL.name.into()")]
    profile: String,
    /// build kontena-image too, static like the pair
    #[argh(switch)]
    image: bool,
}

/// write the completions for bash, zsh and fish into dist/completions/
#[derive(FromArgs)]
#[argh(subcommand, name = "completions")]
struct Completions {}

/// write the manual pages into target/man/
#[derive(FromArgs)]
#[argh(subcommand, name = "man")]
struct Man {}

/// write docs/options.md
#[derive(FromArgs)]
#[argh(subcommand, name = "options")]
struct Options {}

/// show the pair's bytes and largest symbols; fails when over budget
#[derive(FromArgs)]
#[argh(subcommand, name = "size")]
struct Size {}

/// build each profile of the pair, and run what it claims to do; as root
#[derive(FromArgs)]
#[argh(subcommand, name = "profiles")]
struct Profiles {}

/// show modules that import each other in a circle, and the longest files and functions; fails when over a bound
#[derive(FromArgs)]
#[argh(subcommand, name = "structure")]
struct Structure {}

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
        Task::Filters(options) => filters::filters(&options),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Look(Look {}) => look::look(),
        Task::OciSuites(options) => oci_suites::oci_suites(&options),
        Task::Official(Official {}) => official::official(),
        Task::Rootfs(Rootfs { arch }) => arch::Arch::named(&arch).and_then(rootfs::rootfs),
        Task::Image(options) => image::image(&options),
        Task::Dist(options) => distribute(&options),
        Task::Completions(_) => completions::completions(),
        Task::Man(_) => options::man(),
        Task::Options(_) => options::write(),
        Task::Size(_) => size::size(),
        Task::Profiles(_) => profiles::profiles(),
        Task::Structure(_) => structure::structure(),
        Task::Ci(_) => ci::ci(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

/// `cargo xtask dist`
fn distribute(options: &Dist) -> anyhow::Result<ExitCode> {
    let (arch, profile) = (arch::Arch::named(&options.arch)?, dist::Profile::named(&options.profile)?);
    let pair = dist::dist(arch, profile)?;
    if options.image { image::dist(arch) } else { Ok(pair) }
}
