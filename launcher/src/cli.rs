//! The command line: argv in, one [`Command`] out.
//!
//! argh does the parsing and the help; this file gives it what it does not know: `--option=value`, `-p8080:80`, bytes
//! that are not UTF-8, and one line for each mistake. Must not act on anything.

use crate::config::{self, Config, Format, c_string};
use crate::error::{Error, Result};
use crate::volumes::{self, Volume};
use crate::{caps, devices, limits, names, process, userns};
use argh::FromArgs;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;

/// Where root's state is kept unless `--root` says otherwise.
const STATE_ROOT: &str = "/run/kontena";
/// The size of /dev/shm in bytes unless `--shm-size` says otherwise: docker's.
const SHM_SIZE: u64 = 64 << 20;
/// What runs where no COMMAND is given.
const DEFAULT_COMMAND: &CStr = c"/bin/sh";
/// Where it is looked for.
const DEFAULT_PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Options without a value; every other one takes the next argument.
const SWITCHES: [&str; 6] = ["--help", "--version", "--read-only", "--stats", "--overlay", "-h"];

/// What is to be done.
pub enum Command {
    /// Print this and exit with 0.
    Print(String),
    /// `kontena run`.
    Run(String, Box<Config>),
    /// `kontena prune`.
    Prune(String),
}

/// A container runtime: this launcher, and a PID 1 beside it.
#[derive(FromArgs)]
#[argh(note = "Example: kontena run -p 8080:80 ./rootfs /usr/sbin/nginx")]
struct Kontena {
    /// directory of the state (/run/kontena, or a user's own)
    #[argh(option, arg_name = "dir")]
    root: Option<String>,
    /// print the version
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    verb: Option<Verb>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Run(Box<Run>),
    Prune(Prune),
}

/// Run a command in a new container, in the foreground.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "run",
    note = "The exit status is the command's; 128+n where signal n ended it; 127 where it was not found, 126 where it \
            could not be executed, 125 where kontena failed.",
    example = "kontena run -p 8080:80 -m 64m ./rootfs /usr/sbin/nginx"
)]
struct Run {
    /// name of the container (twelve random digits)
    #[argh(option)]
    name: Option<String>,
    /// host name in it (its name)
    #[argh(option, arg_name = "name")]
    hostname: Option<String>,
    /// network: bridge, none or host (bridge; none for who is not root)
    #[argh(option, arg_name = "mode")]
    net: Option<String>,
    /// server that names are asked of, instead of the host's
    #[argh(option, arg_name = "address")]
    dns: Vec<String>,
    /// domain that names are looked up in
    #[argh(option, arg_name = "domain")]
    dns_search: Vec<String>,
    /// add a line to /etc/hosts: NAME:ADDRESS, or NAME:host-gateway
    #[argh(option, arg_name = "host")]
    add_host: Vec<String>,
    /// publish a port, or a range of them: [IP:]HOST:CONTAINER[/tcp|udp]
    #[argh(option, short = 'p', arg_name = "ports")]
    publish: Vec<String>,
    /// limit of memory, as 64m
    #[argh(option, short = 'm', arg_name = "bytes")]
    memory: Option<String>,
    /// limit of memory and swap together; -1: no limit of swap (twice --memory)
    #[argh(option, arg_name = "bytes")]
    memory_swap: Option<String>,
    /// memory that is reclaimed from others first
    #[argh(option, arg_name = "bytes")]
    memory_reservation: Option<String>,
    /// limit of processes and threads (-1: none)
    #[argh(option, arg_name = "n")]
    pids_limit: Option<String>,
    /// limit of CPU time, in CPUs, as 1.5
    #[argh(option, arg_name = "n")]
    cpus: Option<String>,
    /// the same in microseconds of each period (-1: none)
    #[argh(option, arg_name = "us")]
    cpu_quota: Option<String>,
    /// the period of --cpu-quota in microseconds (100000)
    #[argh(option, arg_name = "us")]
    cpu_period: Option<String>,
    /// share of CPU time beside others (1024)
    #[argh(option, arg_name = "n")]
    cpu_shares: Option<String>,
    /// CPUs to run on, as 0-2,7
    #[argh(option, arg_name = "list")]
    cpuset_cpus: Option<String>,
    /// memory nodes to allocate from
    #[argh(option, arg_name = "list")]
    cpuset_mems: Option<String>,
    /// share of disk time beside others, 10 to 1000 (100)
    #[argh(option, arg_name = "n")]
    blkio_weight: Option<String>,
    /// the same on one disk: DEVICE:WEIGHT
    #[argh(option, arg_name = "weight")]
    blkio_weight_device: Vec<String>,
    /// limit of bytes read each second from a disk: DEVICE:RATE, as /dev/sda:1m
    #[argh(option, arg_name = "rate")]
    device_read_bps: Vec<String>,
    /// limit of bytes written each second
    #[argh(option, arg_name = "rate")]
    device_write_bps: Vec<String>,
    /// limit of reads each second
    #[argh(option, arg_name = "rate")]
    device_read_iops: Vec<String>,
    /// limit of writes each second
    #[argh(option, arg_name = "rate")]
    device_write_iops: Vec<String>,
    /// write any other file of the container's cgroup: FILE=VALUE, as memory.high=48m
    #[argh(option, arg_name = "limit")]
    cgroup_conf: Vec<String>,
    /// mount the root read-only
    #[argh(switch)]
    read_only: bool,
    /// lay a writable layer over the root, in memory; with =DIR in a directory, where it stays
    #[argh(option, arg_name = "dir")]
    overlay: Option<String>,
    /// mount a file or directory: SOURCE:TARGET[:ro,nosuid,nodev,noexec,rslave,idmap]
    #[argh(option, short = 'v', arg_name = "volume")]
    volume: Vec<String>,
    /// mount an empty tmpfs: TARGET[:size=64m,mode=1777,ro,exec]
    #[argh(option, arg_name = "target")]
    tmpfs: Vec<String>,
    /// the same in docker's words: type=bind|tmpfs,source=…,target=…
    #[argh(option, arg_name = "mount")]
    mount: Vec<String>,
    /// size of /dev/shm (64m)
    #[argh(option, arg_name = "bytes")]
    shm_size: Option<String>,
    /// give it a device of the host: SOURCE[:TARGET][:rwm]
    #[argh(option, arg_name = "device")]
    device: Vec<String>,
    /// user namespace: host, auto or map=CONTAINER:HOST:SIZE (host; auto for who is not root)
    #[argh(option, arg_name = "mode")]
    userns: Option<String>,
    /// add a capability, or ALL
    #[argh(option, arg_name = "name")]
    cap_add: Vec<String>,
    /// drop a capability, or ALL
    #[argh(option, arg_name = "name")]
    cap_drop: Vec<String>,
    /// no-new-privileges=false lets setuid programs give privileges
    #[argh(option, arg_name = "option")]
    security_opt: Vec<String>,
    /// filter of system calls: default or unconfined (default)
    #[argh(option, arg_name = "filter")]
    seccomp: Option<String>,
    /// limit of getrlimit(2): NAME=SOFT[:HARD]
    #[argh(option, arg_name = "limit")]
    ulimit: Vec<String>,
    /// who is killed first when memory is short, -1000 to 1000
    #[argh(option, arg_name = "n")]
    oom_score_adj: Option<String>,
    /// mask of new files' permissions (0022)
    #[argh(option, arg_name = "mask")]
    umask: Option<String>,
    /// set a sysctl of the container's own: KEY=VALUE
    #[argh(option, arg_name = "sysctl")]
    sysctl: Vec<String>,
    /// set the environment variables of a file
    #[argh(option, arg_name = "file")]
    env_file: Vec<String>,
    /// set an environment variable: KEY=VALUE, or KEY to pass it on
    #[argh(option, short = 'e', arg_name = "variable")]
    env: Vec<String>,
    /// working directory of the command (/)
    #[argh(option, short = 'w', arg_name = "dir")]
    workdir: Option<String>,
    /// user of the command: NAME|UID[:GROUP|GID] (root)
    #[argh(option, short = 'u', arg_name = "user")]
    user: Option<String>,
    /// add a group to the user's own: NAME|GID
    #[argh(option, arg_name = "group")]
    group_add: Vec<String>,
    /// cgroup under which the container gets its own; . is kontena's own cgroup (/kontena)
    #[argh(option, arg_name = "path")]
    cgroup_parent: Option<String>,
    /// where cgroup2 is mounted; it is mounted there where it is not
    #[argh(option, arg_name = "dir")]
    cgroup_mount: Option<String>,
    /// print what the container has used when it has ended
    #[argh(switch)]
    stats: bool,
    /// how that is printed: table or json (table)
    #[argh(option, arg_name = "format")]
    format: Option<String>,
    /// directory, or squashfs or erofs image, that becomes the container's /
    #[argh(positional)]
    #[allow(dead_code, reason = "for the help and for what is missing; the bytes are in `positionals`")]
    rootfs: String,
    /// command and its arguments (/bin/sh)
    #[argh(positional, greedy)]
    #[allow(dead_code, reason = "as above")]
    command: Vec<String>,
}

/// Clean up after containers whose launcher was killed; where no container is left, remove the bridge, the nftables
/// table and the parent cgroup too.
#[derive(FromArgs)]
#[argh(subcommand, name = "prune")]
struct Prune {}

/// Reads the command line; `args` begins with the program's name.
pub fn parse(args: &[OsString]) -> Result<Command> {
    let (texts, positionals) = normalise(args.get(1..).unwrap_or_default())?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let kontena = match Kontena::from_args(&["kontena"], &texts) {
        Ok(kontena) => kontena,
        Err(exit) if exit.status.is_ok() => return Ok(Command::Print(exit.output)),
        // "Unrecognized argument: --foo\n\nRun kontena --help for more information."
        Err(exit) => {
            let mut line = String::new();
            for part in exit.output.lines().take_while(|part| !part.starts_with("Run ")) {
                line.push_str(part.trim_ascii());
                line.push(' ');
            }
            return Err(Error::usage(format_args!("{}", line.trim_ascii()), "see kontena run --help"));
        }
    };
    let root = kontena.root.unwrap_or_else(state_root);
    match kontena.verb {
        _ if kontena.version => Ok(Command::Print(concat!("kontena ", env!("CARGO_PKG_VERSION"), "\n").into())),
        Some(_) if root.is_empty() => Err(Error::usage(format_args!("--root \"\""), "give a directory")),
        Some(Verb::Run(run)) => Ok(Command::Run(root, Box::new(config_of(&run, positionals)?))),
        Some(Verb::Prune(Prune {})) => Ok(Command::Prune(root)),
        None => {
            let hint = "begin with kontena run ROOTFS; see kontena --help";
            Err(Error::usage(format_args!("no command was given"), hint))
        }
    }
}

/// Where the state is kept: an ordinary user's where its other runtime files are.
fn state_root() -> String {
    if crate::is_privileged() {
        return STATE_ROOT.into();
    }
    match std::env::var("XDG_RUNTIME_DIR") {
        Ok(directory) if directory.starts_with('/') => format!("{directory}/kontena"),
        _ => format!("/tmp/kontena-{}", rustix::process::geteuid().as_raw()),
    }
}

/// Splits argv as argh wants it: options one by one, then `--`, then the positional arguments, of which argh only
/// needs to see that they are there: they are bytes, not text, and the second result has them.
fn normalise(args: &[OsString]) -> Result<(Vec<String>, &[OsString])> {
    let mut texts = Vec::new();
    let mut verb_seen = false;
    let mut rest = args;
    while let Some((arg, behind)) = rest.split_first() {
        let is_option = arg.as_encoded_bytes().starts_with(b"-") && arg != "-";
        if arg == "--" || verb_seen && !is_option {
            let positionals = if arg == "--" { behind } else { rest };
            texts.push("--".into());
            for arg in positionals {
                texts.push(arg.to_string_lossy().into_owned());
            }
            return Ok((texts, positionals));
        }
        rest = behind;
        let text = utf8(arg)?;
        if !is_option {
            verb_seen = true;
            texts.push(text.into());
            continue;
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ if !text.starts_with("--") && text.len() > 2 && text.is_char_boundary(2) => {
                (&text[..2], Some(&text[2..]))
            }
            _ => (text, None),
        };
        let is_switch = SWITCHES.contains(&name);
        texts.push(if name == "-h" { "--help".into() } else { name.into() });
        if name == "--overlay" {
            texts.push(value.unwrap_or_default().into());
        } else if let Some(value) = value {
            if is_switch {
                return Err(Error::usage(format_args!("{text}"), &format!("{name} takes no value")));
            }
            texts.push(value.into());
        } else if !is_switch && let Some((value, behind)) = rest.split_first() {
            texts.push(utf8(value)?.into());
            rest = behind;
        }
    }
    Ok((texts, &[]))
}

fn utf8(arg: &OsString) -> Result<&str> {
    arg.to_str().ok_or_else(|| {
        Error::usage(format_args!("option \"{}\"", arg.to_string_lossy()), "not UTF-8: options are text")
    })
}

fn config_of(run: &Run, positionals: &[OsString]) -> Result<Config> {
    let Some((rootfs, command)) = positionals.split_first() else {
        return Err(Error::usage(format_args!("no ROOTFS was given"), "see kontena run --help"));
    };
    let name = match &run.name {
        Some(name) => config::name(name)?,
        None => random_name(),
    };
    let hostname = match &run.hostname {
        Some(hostname) => config::hostname(hostname)?,
        None => name.chars().take(64).collect(),
    };
    let net = run.net.as_deref().map(config::net).transpose()?;
    let mut publish = Vec::new();
    for text in &run.publish {
        publish.extend(config::publish(text)?);
    }
    // In the order of limits::OPTIONS.
    let limits = [
        run.memory.as_slice(),
        run.memory_swap.as_slice(),
        run.memory_reservation.as_slice(),
        run.pids_limit.as_slice(),
        run.cpus.as_slice(),
        run.cpu_quota.as_slice(),
        run.cpu_period.as_slice(),
        run.cpu_shares.as_slice(),
        run.cpuset_cpus.as_slice(),
        run.cpuset_mems.as_slice(),
        run.blkio_weight.as_slice(),
        run.blkio_weight_device.as_slice(),
        run.device_read_bps.as_slice(),
        run.device_write_bps.as_slice(),
        run.device_read_iops.as_slice(),
        run.device_write_iops.as_slice(),
        run.cgroup_conf.as_slice(),
    ];
    let format = run.format.as_deref().map(config::format).transpose()?;
    if format.is_some() && !run.stats {
        return Err(Error::usage(format_args!("--format"), "it is for what --stats prints: give that too"));
    }
    let mut volumes = all(&run.volume, volumes::volume)?;
    volumes.extend(all(&run.mount, volumes::mount)?);
    volumes.extend(all(&run.tmpfs, volumes::tmpfs)?);
    // What is mounted on comes before what is mounted in it, whatever the order of the options.
    volumes.sort_by_key(Volume::depth);
    let mut given = Vec::new();
    for path in &run.env_file {
        given.extend(process::env_file(path)?);
    }
    for text in &run.env {
        given.extend(config::env(text)?);
    }
    let mut env = vec![DEFAULT_PATH.into(), c_string(format!("HOSTNAME={hostname}"))?];
    for variable in given {
        env.retain(|other: &CString| key(other) != key(&variable));
        env.push(variable);
    }
    let shm_size = match run.shm_size.as_deref() {
        Some(text) => config::bytes(text).filter(|size| *size > 0).ok_or_else(|| {
            config::wrong("--shm-size", text, "not a size: give bytes, or a number with k, m or g behind it, as 64m")
        })?,
        None => SHM_SIZE,
    };
    let overlay = match run.overlay.as_deref() {
        Some("") => Some(None),
        Some(directory) => Some(Some(c_string(directory)?)),
        None => None,
    };
    let mut argv = Vec::new();
    for argument in command {
        argv.push(c_string(argument.clone().into_vec())?);
    }
    if command.is_empty() {
        argv.push(DEFAULT_COMMAND.into());
    }
    Ok(Config {
        rootfs: c_string(rootfs.clone().into_vec())?,
        command_is_default: command.is_empty(),
        command: argv,
        env,
        workdir: config::workdir(run.workdir.as_deref().unwrap_or("/"))?,
        user: config::user(run.user.as_deref())?,
        read_only: run.read_only,
        overlay,
        volumes,
        shm_size,
        devices: all(&run.device, devices::device)?,
        userns: run.userns.as_deref().map(userns::parse).transpose()?,
        capabilities: caps::parse(&run.cap_add, &run.cap_drop)?,
        no_new_privileges: all(&run.security_opt, process::security_option)?.pop().unwrap_or(true),
        seccomp: run.seccomp.as_deref().map(process::seccomp).transpose()?.unwrap_or(true),
        groups: all(&run.group_add, config::group)?,
        names: names::parse(&run.dns, &run.dns_search, &run.add_host)?,
        rlimits: all(&run.ulimit, process::ulimit)?,
        oom_score_adj: run.oom_score_adj.as_deref().map(process::oom_score_adj).transpose()?,
        umask: run.umask.as_deref().map(process::umask).transpose()?.unwrap_or(0o022),
        sysctls: all(&run.sysctl, |text| process::sysctl(text, net))?,
        limits: limits::parse(&limits)?,
        cgroup_mount: run.cgroup_mount.as_deref().map(config::cgroup_mount).transpose()?,
        stats: run.stats.then_some(format.unwrap_or(Format::Table)),
        cgroup_parent: run.cgroup_parent.as_deref().map(config::cgroup_parent).transpose()?,
        name,
        hostname: c_string(hostname)?,
        net,
        publish,
    })
}

/// What an option says that may be given several times.
fn all<T>(texts: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    texts.iter().map(|text| parse(text)).collect()
}

/// The name of an environment variable.
fn key(variable: &CStr) -> &[u8] {
    variable.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// Twelve hexadecimal digits, as docker and podman name what was given no name.
fn random_name() -> String {
    let mut bytes = [0u8; 8];
    // Six bytes are never cut short; should the kernel refuse, the name is taken by at most one container.
    let _ = rustix::rand::getrandom(&mut bytes[..6], rustix::rand::GetRandomFlags::empty());
    format!("{:012x}", u64::from_le_bytes(bytes))
}
