//! `cargo xtask vm`: boots a virtual machine which has nothing but a kernel, the pair and the demo rootfs, and runs a
//! command in it. The machine's first process is kontena-init (`--boot`). QEMU emulates all of it, so that it is the
//! same everywhere; it never asks for KVM.

use crate::arch::Arch;
use crate::dist::Profile;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::test::{Run, Suite};
use crate::{debian, demo_images, dist, qemu, rootfs, run, setup, step::spinner};
use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// boot a bare virtual machine with the pair and the demo rootfs, and run COMMAND in it
#[derive(FromArgs)]
#[argh(subcommand, name = "vm")]
pub struct Vm {
    /// serve the hello page from the machine at http://127.0.0.1:PORT/ until Ctrl-C
    #[argh(switch)]
    demo: bool,
    /// the demo, stopped once its page is there; and look for the least memory with which it is
    #[argh(switch)]
    least_memory: bool,
    /// the demo's port on this machine (default 8080)
    #[argh(option, default = "8080")]
    port: u16,
    /// the memory in MiB (default 512)
    #[argh(option, default = "DEMO_MEMORY")]
    memory: u32,
    /// x86_64, aarch64 or riscv64 (default: this machine's)
    #[argh(option, default = "std::env::consts::ARCH.into()")]
    arch: String,
    /// full, board, lean or bare (default: full): what of kontena is built
    #[argh(option, default = "dist::FULL.name.into()")]
    profile: String,
    /// seconds after which COMMAND's machine is switched off (default 120)
    #[argh(option, default = "120")]
    timeout: u32,
    /// the command and its arguments (default: kontena run --net none /rootfs /bin/true)
    #[argh(positional, greedy)]
    command: Vec<String>,
}

impl Vm {
    /// What `cargo xtask vm --arch ARCH -- COMMAND…` asks for.
    pub fn command(arch: &str, command: &str) -> Self {
        let command = command.split_whitespace().map(String::from).collect();
        Self {
            demo: false,
            least_memory: false,
            port: 8080,
            memory: DEMO_MEMORY,
            arch: arch.into(),
            profile: dist::FULL.name.into(),
            timeout: 120,
            command,
        }
    }

    /// The same on this machine's architecture, with a smaller kontena.
    pub fn of_profile(profile: Profile, command: &str) -> Self {
        Self { profile: profile.name.into(), ..Self::command(std::env::consts::ARCH, command) }
    }
}

const COMMAND: &[&str] = &["kontena", "run", "--net", "none", "/rootfs", "/bin/true"];
const DEMO: &[&str] = &["kontena", "run", "--name", "demo", "-m", "64m", "-p", "80:80", "/rootfs", "/usr/sbin/nginx"];

/// The tests' environment: the kernel passes unknown parameters to its first process. Nothing but the tests' own
/// instruments is on PATH, and they are on a disk that nothing else uses. A host with engines has another.
const SUITE: &str = "KONTENA_BIN_DIR=/bin KONTENA_ROOTFS=/rootfs \
     KONTENA_DEBIAN_ROOTFS=/instruments KONTENA_IMAGES=/images KONTENA_INTRUDER=/bin/intruder \
     KONTENA_ENGINES_ROOTFS=/engines KONTENA_INSTRUMENTS=/instruments KONTENA_PATIENCE=600 \
     PATH=/instruments/usr/sbin:/instruments/usr/bin";
/// MiB, for overlays and pretend disks that are kept in memory.
const SUITE_MEMORY: u32 = 2048;
/// In seconds: emulation is ten to twenty times slower than this machine.
const SUITE_TIMEOUT: u32 = 60 * 60;

/// The modules that kontena needs for a bridge and published ports.
const NETWORK: &[&str] = &[
    "bridge",
    "veth",
    "nf_tables",
    "nft_ct",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_meta_bridge",
    "nf_conntrack_netlink",
];
/// The machine's link to QEMU.
const CARD: &[&str] = &["virtio_pci", "virtio_net"];
/// What images are made of.
const IMAGES: &[&str] = &["overlay", "loop", "squashfs", "erofs", "dm_verity", "sha256_generic|sha256"];
/// The tests' own modules: for the disk with their instruments, the port for their report, a link of the LAN, ss(8),
/// and other firewalls.
const INSTRUMENTS: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "macvlan",
    "tun",
    "tcp_diag",
    "nft_redir",
    "nft_reject_inet",
    "iptable_filter",
    "ip6table_filter",
];

/// No v1 hierarchy takes a controller away; a panic ends the machine at once, instead of never.
const KERNEL_ARGUMENTS: &str = "cgroup_no_v1=all panic=-1 rdinit=/sbin/kontena-init";
/// QEMU's user network; the kernel's Documentation/admin-guide/nfs/nfsroot.rst has the order.
const ADDRESS: &str = "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off";
/// The kernel takes no more: COMMAND_LINE_SIZE of x86, and CONFIG_INIT_ENV_ARG_LIMIT, less one for `--boot`.
const LINE_LIMIT: usize = 2047;
const ARGUMENTS_LIMIT: usize = 31;

/// MiB.
const DEMO_MEMORY: u32 = 512;
/// In seconds: nobody looks at one page for longer than a day.
const DEMO_TIMEOUT: u32 = 24 * 60 * 60;

/// kontena-init's last line; boot.rs.
const EXITED: &str = "kontena-init: CMD exited with ";

/// `cargo xtask vm`
pub fn vm(options: &Vm) -> Result<ExitCode> {
    let profile = Profile::named(&options.profile)?;
    let is_demo = options.demo || options.least_memory;
    ensure!(!is_demo || options.command.is_empty(), "the demo's command is its own");
    let arch = Arch::named(&options.arch)?;
    if is_demo {
        return demo(&Machine::new(arch, profile, &[NETWORK, CARD].concat(), |_| Ok(()))?, options);
    }
    let machine = Machine::new(arch, profile, &[NETWORK, IMAGES].concat(), |_| Ok(()))?;
    let given: Vec<&str> = options.command.iter().map(String::as_str).collect();
    let command = if given.is_empty() { COMMAND } else { &given };
    machine.run(&format!("quiet -- --boot {}", quote(command)?), options)
}

/// Where all that a machine says on its console is kept.
pub fn console(arch: &Arch) -> PathBuf {
    arch.dir().join("vm/console.log")
}

/// Runs the suite in a machine with only the kernel, the pair, the demo rootfs and the tests' instruments.
pub fn suite(suite: &Suite, filter: &[String]) -> Result<Run> {
    let arch = suite.arch;
    let disks = [debian::image(&debian::rootfs(arch)?)?, debian::image(&debian::engines(arch)?)?];
    let machine = Machine::new(arch, dist::FULL, &[NETWORK, IMAGES, INSTRUMENTS].concat(), |initramfs| {
        initramfs.directory("instruments");
        initramfs.directory("engines");
        // The dynamic loader and its libraries, wherever a program of the architecture looks for them.
        initramfs.symlink("lib64", "instruments/usr/lib64");
        initramfs.symlink(&format!("lib/{}", arch.gnu), &format!("/instruments/usr/lib/{}", arch.gnu));
        let loader = arch.loader;
        initramfs.symlink(&format!("lib/{loader}"), &format!("/instruments/usr/lib/{}/{loader}", arch.gnu));
        // nginx, which is also a service of the host's in some tests, looks for its user.
        for (name, text) in [
            ("etc/hostname", "bare\n"),
            ("etc/passwd", "root:x:0:0:::\nnobody:x:65534:65534:::\n"),
            // nft prints protocols by name where they have one.
            ("etc/protocols", "tcp 6 TCP\nudp 17 UDP\n"),
            ("etc/group", "root:x:0:\nnogroup:x:65534:\nnobody:x:65534:\n"),
        ] {
            initramfs.file(name, 0o644, text.as_bytes());
        }
        initramfs.copy("bin/suite", &suite.runner)?;
        initramfs.copy("bin/intruder", &suite.intruder)?;
        initramfs.tree("images", &demo_images::build(arch, &rootfs::build(arch, &dist::small(arch)?)?)?)?;
        initramfs.tree("tests", &suite.programs)
    })?;
    let mut command = vec!["/bin/suite", "/tests"];
    command.extend(filter.iter().map(String::as_str));
    let append = format!("quiet {SUITE} -- --boot {}", quote(&command)?);
    let mut qemu = machine.qemu(&append, SUITE_MEMORY, SUITE_TIMEOUT);
    qemu.arg("-serial").arg(format!("file:{}", machine.console.display())).args(["-nic", "none"]);
    // The port on which the suite reports, apart from the console's noise.
    qemu.args(["-chardev", "stdio,id=report", "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=report"]);
    for (number, disk) in disks.iter().enumerate() {
        qemu.arg("-drive").arg(format!("file={},id=disk{number},format=raw,if=none,readonly=on", disk.display()));
        qemu.arg("-device").arg(format!("virtio-blk-pci,drive=disk{number}"));
    }
    let mut child = qemu.stdout(Stdio::piped()).spawn().context("cannot run QEMU")?;
    let report = BufReader::new(child.stdout.take().context("no report")?);
    let run = Run::follow(report, "vm", &suite.log("vm"))?;
    child.wait()?;
    Ok(run)
}

/// The demo's page, served by a machine.
pub struct Page {
    child: Child,
    /// Where it is on this machine.
    pub url: String,
}

impl Page {
    /// Boots the machine, and waits for the page.
    pub fn serve(arch: &'static Arch) -> Result<Self> {
        // The kernel gives a port that is free, and QEMU takes it a moment later.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let machine = Machine::new(arch, dist::FULL, &[NETWORK, CARD].concat(), |_| Ok(()))?;
        let (child, _) = start_demo(&machine, DEMO_MEMORY, port)?;
        Ok(Self { child, url: format!("http://127.0.0.1:{port}/") })
    }

    /// Switches the machine off.
    pub fn stop(mut self) -> Result<()> {
        stop(&mut self.child)
    }
}

/// A machine to be booted.
struct Machine {
    arch: &'static Arch,
    /// The emulator's command, with its first arguments.
    qemu: Vec<String>,
    kernel: PathBuf,
    initramfs: PathBuf,
    /// Where all that it says is kept.
    console: PathBuf,
    bytes: usize,
}

impl Machine {
    /// One whose initramfs has the kernel's `modules`, the pair, the demo rootfs, and what `add` adds.
    fn new(
        arch: &'static Arch,
        profile: Profile,
        modules: &[&str],
        add: impl FnOnce(&mut Initramfs) -> Result<()>,
    ) -> Result<Self> {
        setup::setup(&[setup::VM])?;
        let dir = arch.dir().join("vm");
        fs::create_dir_all(&dir)?;
        let kernel = Kernel::unpacked(arch, &dir)?;
        let pair = dist::small_profile(arch, profile)?;
        let mut initramfs = initramfs(&kernel, &pair, &rootfs::build(arch, &pair)?, modules)?;
        add(&mut initramfs)?;
        let initramfs = initramfs.finish();
        let machine = Self {
            arch,
            qemu: qemu::command(arch, &dir)?,
            kernel: kernel.image,
            initramfs: dir.join("initramfs.cpio"),
            console: console(arch),
            bytes: initramfs.len(),
        };
        fs::write(&machine.initramfs, initramfs)?;
        Ok(machine)
    }

    /// Runs a command to its end, with its output here; returns its status.
    fn run(&self, append: &str, options: &Vm) -> Result<ExitCode> {
        let mut qemu = self.qemu(append, options.memory, options.timeout);
        qemu.args(["-serial", "stdio", "-nic", "none"]);
        let mut child = qemu.stdout(Stdio::piped()).spawn().context("cannot run QEMU")?;
        let mut log = File::create(&self.console)?;
        let mut status: Option<u8> = None;
        for line in BufReader::new(child.stdout.take().context("no console")?).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            writeln!(log, "{line}")?;
            println!("{line}");
            // The command's last line may lack its end.
            status = line.split_once(EXITED).and_then(|(_, status)| status.parse().ok()).or(status);
        }
        let ended = child.wait()?;
        match (status, ended.code()) {
            (Some(status), _) => Ok(ExitCode::from(status)),
            (None, Some(124 | 137)) => bail!("not done after {} s; {}", options.timeout, self.console.display()),
            (None, _) => bail!("the machine ended before its command; {}", self.console.display()),
        }
    }

    fn qemu(&self, append: &str, memory: u32, timeout: u32) -> Command {
        let append = format!("console={} {KERNEL_ARGUMENTS} {append}", self.arch.console);
        // A machine which hangs must not outlive us, whatever becomes of us.
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=5", &timeout.to_string()]).args(&self.qemu);
        command.args(["-accel", "tcg,thread=multi", "-smp", "2", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.args(["-m", &memory.to_string(), "-append", &append]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs).stdin(Stdio::null());
        command
    }
}

/// Serves the hello page from a machine which is nothing but kernel, pair and nginx; says what that takes.
fn demo(machine: &Machine, options: &Vm) -> Result<ExitCode> {
    println!("initramfs: {} bytes, not compressed", machine.bytes);
    let (mut child, times) = start_demo(machine, options.memory, options.port)?;
    println!(
        "the page: {:.2} s after the kernel's start, {:.2} s after power-on, with {} MiB",
        times.kernel.as_secs_f32(),
        times.power_on.as_secs_f32(),
        options.memory
    );
    if !options.least_memory {
        println!("Serving http://127.0.0.1:{}/  (Ctrl-C stops it)", options.port);
        child.wait()?;
        return Ok(ExitCode::SUCCESS);
    }
    stop(&mut child)?;
    println!("least memory: {} MiB", least_memory(machine, options)?);
    Ok(ExitCode::SUCCESS)
}

/// The least memory with which the page is there, to 2 MiB.
fn least_memory(machine: &Machine, options: &Vm) -> Result<u32> {
    let (mut too_little, mut enough) = (0, options.memory);
    while enough - too_little > 2 {
        let memory = too_little.midpoint(enough);
        let bar = spinner(&format!("trying {memory} MiB"));
        match start_demo(machine, memory, options.port) {
            Ok((mut child, _)) => {
                stop(&mut child)?;
                enough = memory;
            }
            Err(_) => too_little = memory,
        }
        bar.finish_and_clear();
    }
    Ok(enough)
}

/// How long the page may take from the start of the emulator.
const PATIENCE: Duration = Duration::from_secs(30);

/// The kernel's first line.
const BANNER: &str = "Linux version";

/// How long the page took: from the machine's start on, and from the kernel's first word.
struct Times {
    power_on: Duration,
    kernel: Duration,
}

/// Starts the machine, and waits for its page.
fn start_demo(machine: &Machine, memory: u32, port: u16) -> Result<(Child, Times)> {
    let append = format!("{} {ADDRESS} -- --boot {}", machine.arch.early, quote(DEMO)?);
    let mut qemu = machine.qemu(&append, memory, DEMO_TIMEOUT);
    qemu.args(["-serial", "stdio", "-device", "virtio-net-pci,netdev=user,romfile="]);
    qemu.args(["-netdev", &format!("user,id=user,hostfwd=tcp:127.0.0.1:{port}-:80")]);
    let console = File::create(&machine.console)?;
    let power_on = Instant::now();
    let mut child = qemu.stdout(console.try_clone()?).stderr(console).spawn().context("cannot run QEMU")?;
    let mut kernel = None;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || power_on.elapsed() > PATIENCE {
            stop(&mut child)?;
            let log = fs::read(&machine.console)?;
            bail!("the machine does not serve the page:\n{}", String::from_utf8_lossy(&log).trim_end());
        }
        match kernel {
            None => {
                let log = fs::read(&machine.console)?;
                kernel = String::from_utf8_lossy(&log).contains(BANNER).then(Instant::now);
            }
            Some(kernel) if run::answers(address) => {
                return Ok((child, Times { power_on: power_on.elapsed(), kernel: kernel.elapsed() }));
            }
            Some(_) => (),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn stop(child: &mut Child) -> Result<()> {
    run::forward(signal_hook::consts::SIGTERM, child);
    child.wait()?;
    Ok(())
}

/// The whole file system of the machine.
fn initramfs(kernel: &Kernel, pair: &Path, rootfs: &Path, modules: &[&str]) -> Result<Initramfs> {
    let mut initramfs = Initramfs::default();
    for dir in ["bin", "dev", "etc", "lib", "lib/modules", "sbin"] {
        initramfs.directory(dir);
    }
    // The kernel opens it for its first process, before that can mount anything.
    initramfs.device("dev/console", (5, 1));
    initramfs.copy("bin/kontena", &pair.join("kontena"))?;
    initramfs.copy("sbin/kontena-init", &pair.join("kontena-init"))?;
    // kontena looks for its init in its own directory.
    initramfs.symlink("bin/kontena-init", "../sbin/kontena-init");
    initramfs.tree("rootfs", rootfs)?;
    let mut list = String::new();
    for module in kernel.modules(modules)? {
        let name = module.file_name().unwrap_or_default().display();
        let path = format!("lib/modules/{name}");
        initramfs.copy(&path, &module)?;
        list += &format!("/{path}\n");
    }
    initramfs.file("etc/modules.load", 0o644, list.as_bytes());
    Ok(initramfs)
}

/// A command as the kernel's command line has it, where double quotes hold a blank and nothing escapes a quote.
fn quote(command: &[&str]) -> Result<String> {
    ensure!(command.len() <= ARGUMENTS_LIMIT, "the kernel takes at most {ARGUMENTS_LIMIT} arguments");
    let mut line = Vec::new();
    for word in command {
        ensure!(!word.is_empty() && !word.contains('"'), "the kernel cannot be given the argument {word:?}");
        line.push(if word.contains(char::is_whitespace) { format!("\"{word}\"") } else { (*word).to_owned() });
    }
    let line = line.join(" ");
    ensure!(line.len() + KERNEL_ARGUMENTS.len() + 200 <= LINE_LIMIT, "more than the kernel's command line holds");
    Ok(line)
}
