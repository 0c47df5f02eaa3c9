//! The command line: argv in, one [`Command`] out.
//!
//! argh does the parsing and the help; this file gives it what it does not know: `--option=value`, `-p8080:80`, bytes
//! that are not UTF-8, and one line for each mistake. Must not act on anything.

use crate::config::{self, Config, Format, c_string};
use crate::deeds::Deed;
use crate::error::{Error, Result};
use crate::net::options::{self as network, Protocol};
use crate::options::{Exec, Kontena, Prune, Run, Verb};
use crate::time::Moment;
use crate::volumes::{self, Volume};
use crate::{caps, devices, exec, life, limits, log, names, process, sys, userns};
use argh::FromArgs;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;

/// Where root's state is kept unless `--root` says otherwise.
const STATE_ROOT: &str = "/run/kontena";
/// The size of /dev/shm in bytes unless `--shm-size` says otherwise: docker's.
const SHM_SIZE: u64 = 64 << 20;
/// What runs where no COMMAND is given.
pub const DEFAULT_COMMAND: &CStr = c"/bin/sh";
/// Where it is looked for.
const DEFAULT_PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A verb: its name and the other one that it goes by; which options have no value; and whether what follows the first
/// positional argument is the command's.
struct Syntax {
    name: &'static str,
    alias: &'static str,
    switches: &'static [&'static str],
    takes_command: bool,
}

const fn verb(name: &'static str, alias: &'static str, switches: &'static [&'static str]) -> Syntax {
    Syntax { name, alias, switches, takes_command: false }
}

const VERBS: [Syntax; 16] = [
    Syntax {
        name: "run",
        alias: "run",
        switches: &[
            "-d",
            "--detach",
            "-t",
            "--tty",
            "-i",
            "--interactive",
            "--rm",
            "--read-only",
            "--stats",
            "--overlay",
            "--wait-ready",
            "--sdnotify",
        ],
        takes_command: true,
    },
    Syntax {
        name: "exec",
        alias: "exec",
        switches: &["-d", "--detach", "-t", "--tty", "-i", "--interactive"],
        takes_command: true,
    },
    verb("attach", "attach", &["--no-stdin"]),
    verb("list", "ls", &["-q", "--quiet"]),
    verb("ps", "ps", &[]),
    verb("logs", "logs", &["-f", "--follow", "-t", "--timestamps"]),
    verb("stats", "stats", &["--stream"]),
    verb("inspect", "inspect", &[]),
    verb("stop", "stop", &[]),
    verb("kill", "kill", &["-a", "--all"]),
    verb("wait", "wait", &[]),
    verb("pause", "pause", &[]),
    verb("resume", "resume", &[]),
    verb("update", "update", &[]),
    verb("delete", "rm", &["-f", "--force"]),
    verb("prune", "prune", &[]),
];

/// What is to be done.
pub enum Command {
    /// Print this and exit with 0.
    Print(String),
    /// `kontena run`.
    Run(Box<Config>),
    /// `kontena exec`.
    Exec(Box<exec::Request>),
    /// `kontena attach`: the name, the detach keys, and whether what is typed is passed on.
    Attach(String, Vec<u8>, bool),
    /// `kontena list`: how it is printed; `None` for the names alone.
    List(Option<Format>),
    /// `kontena ps`.
    Ps(Vec<String>, Format),
    /// `kontena logs`: the name, what of it, and whether to go on.
    Logs(String, log::Wanted, bool),
    /// `kontena stats`: the names, how they are printed, and whether again and again.
    Stats(Vec<String>, Format, bool),
    /// `kontena inspect`.
    Inspect(Vec<String>),
    /// What is done to containers one by one.
    Each(Vec<String>, Deed),
    /// `kontena wait`.
    Wait(Vec<String>),
    /// `kontena prune`.
    Prune,
}

/// Reads the command line; `args` begins with the program's name.
///
/// Gives the directory of the state, too.
pub fn parse(args: &[OsString]) -> Result<(String, Command)> {
    let (texts, positionals) = normalise(args.get(1..).unwrap_or_default())?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let kontena = match Kontena::from_args(&["kontena"], &texts) {
        Ok(kontena) => kontena,
        Err(exit) if exit.status.is_ok() => return Ok((String::new(), Command::Print(exit.output))),
        // "Unrecognized argument: --foo\n\nRun kontena --help for more information."
        Err(exit) => {
            let mut line = String::new();
            for part in exit.output.lines().take_while(|part| !part.starts_with("Run ")) {
                line.push_str(part.trim_ascii());
                line.push(' ');
            }
            let verb = texts.iter().find(|text| VERBS.iter().any(|verb| verb.name == **text));
            let hint = verb.map_or("see kontena --help".into(), |verb| format!("see kontena {verb} --help"));
            return Err(Error::usage(format_args!("{}", line.trim_ascii()), &hint));
        }
    };
    let root = kontena.root.unwrap_or_else(state_root);
    if kontena.version {
        return Ok((root, Command::Print(concat!("kontena ", env!("CARGO_PKG_VERSION"), "\n").into())));
    }
    if root.is_empty() {
        return Err(Error::usage(format_args!("--root \"\""), "give a directory"));
    }
    let Some(verb) = kontena.verb else {
        let hint = "begin with kontena run ROOTFS; see kontena --help";
        return Err(Error::usage(format_args!("no command was given"), hint));
    };
    command(verb, positionals).map(|command| (root, command))
}

fn command(verb: Verb, positionals: &[OsString]) -> Result<Command> {
    let format = |text: &Option<String>| text.as_deref().map_or(Ok(Format::Table), config::format);
    let each = |names, deed| some(names).map(|names| Command::Each(names, deed));
    Ok(match verb {
        Verb::Run(run) => Command::Run(Box::new(config_of(&run, positionals)?)),
        Verb::Exec(options) => Command::Exec(Box::new(exec_of(&options, positionals)?)),
        Verb::Attach(attach) => {
            let keys = life::detach_keys(attach.detach_keys.as_deref().unwrap_or(life::DETACH_KEYS))?;
            Command::Attach(attach.name, keys, !attach.no_stdin)
        }
        Verb::List(list) if list.quiet => Command::List(None),
        Verb::List(list) => Command::List(Some(format(&list.format)?)),
        Verb::Ps(ps) => Command::Ps(some(ps.names)?, format(&ps.format)?),
        Verb::Logs(logs) => {
            let tail = logs.tail.as_deref().filter(|tail| *tail != "all").map(|text| {
                let hint = "not a number of lines: give one, or all";
                config::number(text).map(|tail| tail as usize).ok_or_else(|| config::wrong("--tail", text, hint))
            });
            let since = logs.since.as_deref().map(since).transpose()?;
            let wanted = log::Wanted { since, tail: tail.transpose()?, timestamps: logs.timestamps };
            Command::Logs(logs.name, wanted, logs.follow)
        }
        Verb::Stats(stats) => Command::Stats(stats.names, format(&stats.format)?, stats.stream),
        Verb::Inspect(inspect) => Command::Inspect(some(inspect.names)?),
        Verb::Stop(stop) => {
            let time = stop.time.as_deref().map(|text| life::seconds("--time", text)).transpose()?;
            each(stop.names, Deed::Stop(time))?
        }
        Verb::Kill(kill) => {
            let mut names = kill.names;
            let signal = match kill.signal {
                Some(signal) => Some(signal),
                // In runc's words: kill NAME SIGNAL. A container that is called so is meant by -s.
                None if names.len() > 1 => names.pop_if(|last| life::signal("", last).is_ok()),
                None => None,
            };
            let signal = life::signal("--signal", signal.as_deref().unwrap_or("KILL"))?;
            each(names, Deed::Kill { signal, all: kill.all })?
        }
        Verb::Wait(wait) => Command::Wait(some(wait.names)?),
        Verb::Pause(pause) => each(pause.names, Deed::Freeze(true))?,
        Verb::Resume(resume) => each(resume.names, Deed::Freeze(false))?,
        Verb::Update(update) => {
            let limits = limits::parse(&update.limits())?;
            if limits.is_empty() {
                return Err(Error::usage(format_args!("no limit was given"), "see kontena update --help"));
            }
            each(update.names, Deed::Update(limits))?
        }
        Verb::Delete(delete) => each(delete.names, Deed::Delete { force: delete.force })?,
        Verb::Prune(Prune {}) => Command::Prune,
    })
}

/// Names, of which there must be one.
fn some(names: Vec<String>) -> Result<Vec<String>> {
    match names.is_empty() {
        true => Err(Error::usage(format_args!("no container was named"), "see kontena list for those that there are")),
        false => Ok(names),
    }
}

/// A moment, or how long ago it was.
fn since(text: &str) -> Result<Moment> {
    if let Some(moment) = Moment::parse(text) {
        return Ok(moment);
    }
    let hint = "not a time: give one as 2026-01-31T13:00:00Z, in UTC, or how long ago it was, as 10m";
    let ago = life::duration("", text).map_err(|_| config::wrong("--since", text, hint))?;
    Ok(Moment(sys::realtime_seconds().saturating_sub(ago.as_secs()), 0))
}

fn exec_of(options: &Exec, positionals: &[OsString]) -> Result<exec::Request> {
    let Some((name, [first, rest @ ..])) = positionals.split_first() else {
        return Err(Error::usage(format_args!("no NAME and COMMAND were given"), "see kontena exec --help"));
    };
    if options.detach && options.tty {
        return Err(Error::usage(
            format_args!("--detach and --tty"),
            "a terminal is for who stays: leave one of them out",
        ));
    }
    Ok(exec::Request {
        name: utf8(name)?.into(),
        command: arguments([first].into_iter().chain(rest))?,
        detach: options.detach,
        tty: options.tty,
        interactive: options.interactive,
        env: environment(&options.env_file, &options.env)?,
        workdir: options.workdir.as_deref().map(config::workdir).transpose()?,
        user: options.user.as_deref().map(|user| config::user(Some(user))).transpose()?,
        cap_add: options.cap_add.clone(),
        cap_drop: options.cap_drop.clone(),
    })
}

/// The variables of files, and then those that are given one by one.
fn environment(files: &[String], variables: &[String]) -> Result<Vec<CString>> {
    let mut given = Vec::new();
    for path in files {
        given.extend(process::env_file(path)?);
    }
    for text in variables {
        given.extend(config::env(text)?);
    }
    Ok(given)
}

fn arguments<'a>(texts: impl Iterator<Item = &'a OsString>) -> Result<Vec<CString>> {
    texts.map(|text| c_string(text.clone().into_vec())).collect()
}

/// Sets variables that replace those of the same name.
pub fn set_environment(env: &mut Vec<CString>, given: Vec<CString>) {
    for variable in given {
        env.retain(|other: &CString| key(other) != key(&variable));
        env.push(variable);
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
/// needs to see that they are there: they are bytes, not text, and the second result has them. Where they are names, options
/// may stand among them.
fn normalise(args: &[OsString]) -> Result<(Vec<String>, &[OsString])> {
    let (mut texts, mut names) = (Vec::new(), Vec::new());
    let mut verb: Option<&Syntax> = None;
    let mut rest = args;
    while let Some((arg, behind)) = rest.split_first() {
        let is_option = arg.as_encoded_bytes().starts_with(b"-") && arg != "-";
        if arg == "--" || verb.is_some_and(|verb| verb.takes_command) && !is_option {
            let positionals = if arg == "--" { behind } else { rest };
            texts.push("--".into());
            texts.append(&mut names);
            for arg in positionals {
                texts.push(arg.to_string_lossy().into_owned());
            }
            return Ok((texts, positionals));
        }
        rest = behind;
        let text = utf8(arg)?;
        if !is_option {
            match verb {
                None => {
                    verb = VERBS.iter().find(|verb| verb.name == text || verb.alias == text);
                    texts.push(verb.map_or(text, |verb| verb.name).into());
                }
                Some(_) => names.push(text.into()),
            }
            continue;
        }
        let switches = verb.map_or(&["--version"][..], |verb| verb.switches);
        let is_switch = |name: &str| switches.contains(&name) || matches!(name, "--help" | "-h");
        // Several of one letter may stand together: -it, or -p8080:80.
        let mut text = text.to_owned();
        while !text.starts_with("--") && text.len() > 2 && text.is_char_boundary(2) && is_switch(&text[..2]) {
            texts.push(if &text[..2] == "-h" { "--help".into() } else { text[..2].into() });
            text.remove(1);
        }
        let text = &*text;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ if !text.starts_with("--") && text.len() > 2 && text.is_char_boundary(2) => {
                (&text[..2], Some(&text[2..]))
            }
            _ => (text, None),
        };
        texts.push(if name == "-h" { "--help".into() } else { name.into() });
        if name == "--overlay" {
            texts.push(value.unwrap_or_default().into());
        } else if let Some(value) = value {
            if is_switch(name) {
                return Err(Error::usage(format_args!("{text}"), &format!("{name} takes no value")));
            }
            texts.push(value.into());
        } else if !is_switch(name)
            && let Some((value, behind)) = rest.split_first()
        {
            texts.push(utf8(value)?.into());
            rest = behind;
        }
    }
    if !names.is_empty() {
        texts.push("--".into());
        texts.append(&mut names);
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
    let net = run.net.as_deref().map(network::net).transpose()?;
    let asked = network::Asked {
        ip: run.ip.as_deref().map(|text| network::address("--ip", text, true)).transpose()?,
        ip6: run.ip6.as_deref().map(|text| network::address("--ip6", text, false)).transpose()?,
        hardware: run.mac_address.as_deref().map(network::hardware_address).transpose()?,
    };
    let mut publish = Vec::new();
    for text in &run.publish {
        publish.extend(network::publish(text)?);
    }
    let format = run.format.as_deref().map(config::format).transpose()?;
    if format.is_some() && !run.stats {
        return Err(Error::usage(format_args!("--format"), "it is for what --stats prints: give that too"));
    }
    let mut volumes = all(&run.volume, volumes::volume)?;
    volumes.extend(all(&run.mount, volumes::mount)?);
    volumes.extend(all(&run.tmpfs, volumes::tmpfs)?);
    // What is mounted on comes before what is mounted in it, whatever the order of the options.
    volumes.sort_by_key(Volume::depth);
    let mut env = vec![DEFAULT_PATH.into(), c_string(format!("HOSTNAME={hostname}"))?];
    if run.tty {
        env.push(exec::term()?);
    }
    set_environment(&mut env, environment(&run.env_file, &run.env)?);
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
    let mut argv = arguments(command.iter())?;
    if command.is_empty() {
        argv.push(DEFAULT_COMMAND.into());
    }
    Ok(Config {
        rootfs: c_string(rootfs.clone().into_vec())?,
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
        sysctls: all(&run.sysctl, |text| process::sysctl(text, net.as_ref()))?,
        limits: limits::parse(&run.limits())?,
        cgroup_mount: run.cgroup_mount.as_deref().map(config::cgroup_mount).transpose()?,
        stats: run.stats.then_some(format.unwrap_or(Format::Table)),
        cgroup_parent: run.cgroup_parent.as_deref().map(config::cgroup_parent).transpose()?,
        life: life::parse(run, publish.iter().any(|port| port.protocol == Protocol::Tcp))?,
        name,
        hostname: c_string(hostname)?,
        net,
        asked,
        publish,
        publish_via: run.publish_via.as_deref().map(network::publish_via).transpose()?,
    })
}

/// What an option says that may be given several times.
fn all<T>(texts: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    // Not by collect(), of which each would be larger.
    let mut all = Vec::new();
    for text in texts {
        all.push(parse(text)?);
    }
    Ok(all)
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
