//! The command line: argv in, one [`Command`] out.
//!
//! argh reads the arguments before the verb, and lists the verbs. Those behind it are read by the table of options
//! (`table.rs`, `options.rs`), which `help.rs` prints. This file checks options against each other once all are set.
//! Must not act on anything.

#[cfg(feature = "oci")]
mod bundle;
#[cfg(feature = "oci")]
mod engine;
#[cfg(not(feature = "oci"))]
#[path = "engine/without.rs"]
mod engine;
#[macro_use]
mod options;
#[cfg(feature = "background")]
mod existing;
#[cfg(not(feature = "background"))]
#[path = "existing/without.rs"]
mod existing;
mod given;
mod help;
#[cfg(feature = "images")]
mod image;
#[cfg(not(feature = "images"))]
#[path = "image/without.rs"]
mod image;
#[cfg(feature = "background")]
mod kept;
mod refused;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use crate::commands;
use crate::config::capabilities::Capabilities;
use crate::config::environment::{self, DEFAULT_COMMAND, DEFAULT_PATH};
use crate::config::image::Image;
use crate::config::labels;
use crate::config::lifecycle::{Health, Ready};
use crate::config::network::Net;
use crate::config::process;
use crate::config::publish::{self, Protocol};
use crate::config::seccomp;
use crate::config::security::Seccomp;
use crate::config::systemd;
use crate::config::userns::Userns;
use crate::config::volumes;
use crate::config::{self, Config, Format, Share, wrong};
use crate::error::{Context, Error, Parsed, Result};
#[cfg(feature = "oci")]
use crate::oci;
use crate::resources::{self, verity};
use crate::sys;
use crate::text::{c_static, c_string, random_name};
use argh::{CommandInfo, DynamicSubCommand, EarlyExit, FromArgs};
use given::Given;
use linux_raw_sys::general::SIGTERM;
use options::{Entry, Line};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{getegid, geteuid, getpid};
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use table::{COMMANDS, VERBS, Verb};

/// A small container runtime.
#[derive(FromArgs)]
#[argh(note = "kontena COMMAND --help shows the options of a command.\nExample: kontena run -p 8080:80 ./rootfs")]
struct Kontena {
    /// directory of the state (default: /run/kontena, or one of the user)
    #[argh(option, arg_name = "dir")]
    root: Option<String>,
    /// directory of named volumes (default: /var/lib/kontena/volumes, or one of the user)
    #[argh(option, arg_name = "dir")]
    volumepath: Option<String>,
    /// print the version
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    verb: Option<Chosen>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Chosen {
    #[argh(dynamic)]
    Verb(&'static Entry),
}

impl DynamicSubCommand for &'static Entry {
    fn commands() -> &'static [&'static CommandInfo] {
        COMMANDS
    }

    fn try_redact_arg_values(_: &[&str], _: &[&str]) -> Option<std::result::Result<Vec<String>, EarlyExit>> {
        None
    }

    /// argh never sees the arguments behind the verb. It passes on a `help` that stands before it.
    fn try_from_args(names: &[&str], args: &[&str]) -> Option<std::result::Result<Self, EarlyExit>> {
        let verb = VERBS.iter().find(|verb| names.last() == Some(&verb.info.name))?;
        Some(if args.is_empty() { Ok(verb) } else { Err(EarlyExit { output: help::of(verb), status: Ok(()) }) })
    }
}

/// The Config of no options.
#[cfg(all(test, feature = "oci"))]
pub fn defaults() -> Config {
    Given::new().config
}

/// A parsed command line. It lives as long as the process, and so do its parts.
pub enum Command {
    /// Print this and exit with 0.
    Print(String),
    /// `kontena run`.
    Run(&'static Config),
    /// `kontena create`.
    Create(&'static Config),
    /// `kontena prune`.
    Prune,
    /// `kontena spec`: the directory of the file, and `--rootless`.
    #[cfg(feature = "oci")]
    Spec(&'static str, bool),
    /// A command about containers that exist.
    Existing(commands::Command),
}

/// Reads the command line; `args` begins with the program's name.
///
/// Returns the directory of the state, too.
pub fn parse(args: &'static [OsString]) -> Result<(String, Command)> {
    let (mut texts, mut globals) = (Vec::new(), engine::Globals::default());
    let mut rest = args.get(1..).unwrap_or_default();
    while let Some((arg, behind)) = rest.split_first() {
        rest = behind;
        let text = options::utf8(arg)?;
        if let Some(verb) = options::verb(text) {
            texts.push(verb.info.name);
            break;
        }
        if globals.take(text, &mut rest)? {
            continue;
        }
        options::check_before_verb(text)?;
        match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => texts.extend([name, value]),
            _ => texts.push(if text == "-h" { "--help" } else { text }),
        }
        if let ("--root" | "--volumepath", Some((value, behind))) = (text, rest.split_first()) {
            texts.push(options::utf8(value)?);
            rest = behind;
        }
    }
    globals.check()?;
    let kontena = match Kontena::from_args(&["kontena"], &texts) {
        Ok(kontena) => kontena,
        Err(exit) if exit.status.is_ok() => return Ok((String::new(), Command::Print(exit.output))),
        // "No value provided for option '--root'.\n\nRun kontena --help for more information."
        Err(exit) => {
            let line = exit.output.lines().next().unwrap_or_default().trim_end_matches('.');
            return Err(Error::usage(format_args!("{line}"), "see kontena --help"));
        }
    };
    let root = kontena.root.unwrap_or_else(crate::state::state_root);
    if kontena.version {
        return Ok((root, Command::Print(concat!("kontena ", env!("CARGO_PKG_VERSION"), "\n").into())));
    }
    if root.is_empty() {
        return Err(Error::usage(format_args!("--root \"\""), "use a directory"));
    }
    let Some(Chosen::Verb(verb)) = kontena.verb else {
        let hint = "start with kontena run ROOTFS; see kontena --help";
        return Err(Error::usage(format_args!("no command given"), hint));
    };
    engine::tell_verb(verb.verb);
    let line = Box::leak(Box::new(verb.read(rest)?));
    if line.wants_help {
        return Ok((root, Command::Print(help::of(verb))));
    }
    let given = set(verb, line, b"")?;
    given.volumepath = kontena.volumepath;
    given.bundle.globals = globals;
    command(verb, given, line).map(|command| (root, command))
}

/// Sets the options of a line: those of its image first. Its root is looked for in `directory`, if that is not empty.
fn set(verb: &Entry, line: &'static Line<'static>, directory: &[u8]) -> Result<&'static mut Given> {
    let given = Box::leak(Box::new(Given::new()));
    #[cfg(feature = "oci")]
    let is_of_bundle = bundle::is_meant(line);
    #[cfg(not(feature = "oci"))]
    let is_of_bundle = false;
    if cfg!(feature = "images")
        && matches!(verb.verb, Verb::Run | Verb::Create)
        && !is_of_bundle
        && let Some(rootfs) = line.command.first()
    {
        let (rootfs, what) = (rootfs.as_bytes(), format_args!("rootfs {}", rootfs.to_string_lossy()));
        let is_below = !directory.is_empty() && !rootfs.starts_with(b"/");
        let path = if is_below { [directory, b"/", rootfs].concat() } else { rootfs.into() };
        let path = c_string(path)?;
        let mut opened = resources::image::open(&path).context(what, resources::image::ROOT)?;
        if let Some((_, _, hash)) = line.options.iter().find(|(_, option, _)| option.is("verify")) {
            opened = verity::check(opened, &path, hash)?;
        }
        image::set(&path, opened.as_ref(), verb, line, given)?;
        given.config.image.set(opened);
    }
    line.set(given)?;
    Ok(given)
}

fn command(verb: &Entry, given: &'static mut Given, line: &'static Line<'static>) -> Result<Command> {
    match verb.verb {
        #[cfg(feature = "oci")]
        Verb::Run if bundle::is_meant(line) => bundle::config(given, line, true).map(Command::Run),
        #[cfg(feature = "oci")]
        Verb::Create if bundle::is_meant(line) => bundle::config(given, line, false).map(Command::Create),
        Verb::Run => config(given, line).map(Command::Run),
        Verb::Create => {
            if given.config.preserve_fds > 0 {
                return Err(needs("preserve-fds", RUN_AGAIN));
            }
            given.config.life.detach = true;
            config(given, line).map(Command::Create)
        }
        Verb::Prune => Ok(Command::Prune),
        #[cfg(feature = "oci")]
        Verb::State | Verb::Events => bundle::look(verb.verb, given, &line.names).map(Command::Existing),
        #[cfg(feature = "oci")]
        Verb::Exec if given.bundle.process.is_some() => bundle::process(given, line).map(Command::Existing),
        #[cfg(feature = "oci")]
        Verb::Features => Ok(Command::Print(oci::features())),
        #[cfg(feature = "oci")]
        Verb::Spec => Ok(Command::Spec(given.bundle.directory.unwrap_or("."), given.bundle.is_rootless)),
        Verb::Volume => existing::volume(given, &line.names).map(Command::Existing),
        verb => existing::command(verb, given, line).map(Command::Existing),
    }
}

/// Finds out where the named volumes are, if there are any.
fn locate_volumes(given: &mut Given) -> Result<()> {
    let (volumes, volumepath) = (&mut given.config.volumes, given.volumepath.as_deref());
    if volumepath.is_none() && volumes.iter().all(|volume| volume.named.is_none()) {
        return Ok(());
    }
    let directory = resources::volumes::directory(volumepath)?;
    for volume in volumes {
        // By its target: an image that has changed may have others, in another order.
        let target = volume.target;
        let name =
            || given.anonymous.iter().find_map(|kept| volumes::kept_on(kept, target)).unwrap_or_else(random_name::<64>);
        volume.locate(&directory, name).map_err(|hint| wrong("--volumepath", &directory, hint))?;
    }
    Ok(())
}

/// Checks the options of `run` against each other, and completes the Config.
fn config(given: &'static mut Given, line: &Line<'static>) -> Result<&'static Config> {
    let Some((rootfs, command)) = line.command.split_first() else {
        return Err(Error::usage(format_args!("no rootfs given"), "see kontena run --help"));
    };
    check_together(given, line)?;
    publish_all(given)?;
    image::add_volumes(given)?;
    locate_volumes(given)?;
    let wait_ready = if given.wait_ready { Some(ready(&given.config)?) } else { None };
    let config = &mut given.config;
    config.rootfs = c_static(rootfs.as_bytes())?;
    config.command = std::mem::take(&mut given.entrypoint);
    let mut command = if command.is_empty() { std::mem::take(&mut given.said.command) } else { arguments(command)? };
    config.command.append(&mut command);
    if config.command.is_empty() {
        config.command.push(DEFAULT_COMMAND);
    }
    if config.name.is_empty() {
        config.name = random_name::<12>();
    }
    if config.hostname.is_empty() {
        config.hostname = default_hostname(config)?;
    }
    if config.workdir.is_empty() {
        config.workdir = c"/";
    }
    keep_user(config, line.has("user"))?;
    let is_systemd = config.command.first().is_some_and(|command| given.systemd.applies_to(command.to_bytes()));
    if is_systemd {
        let hint = |hint| Error::usage(format_args!("--systemd"), hint);
        prepare_for_systemd(config, line.has("stop-signal")).map_err(hint)?;
    }
    if let Some(volume) = volumes::covered(&config.volumes) {
        let what = format_args!("two volumes on {}", volume.target.to_string_lossy());
        return Err(Error::usage(what, "give each --volume, --mount and --tmpfs a target of its own"));
    }
    pass_on_fds(config)?;
    config.capabilities = Capabilities::new(given.capabilities);
    read_profile(config, &mut given.profile)?;
    config.limits = std::mem::take(&mut given.limits.found);
    config.stats = given.stats.then(|| given.format.unwrap_or(Format::Table));
    config.life.wait_ready = wait_ready;
    config.life.log = given.keeps_log.then_some(given.log);
    if !given.health.command.is_empty() {
        config.life.health = Some(std::mem::replace(&mut given.health, Health::new()));
    }
    let mut own = labels::read(&given.label_files, std::mem::take(&mut config.labels))?;
    config.labels.clone_from(&given.said.labels);
    config.labels.append(&mut own);
    #[cfg_attr(not(feature = "background"), expect(unused_variables, reason = "nothing keeps them"))]
    let variables = set_environment(given, is_systemd)?;
    #[cfg(feature = "background")]
    if given.config.life.detach || given.config.life.tty {
        given.config.line = kept::write(line, given, &variables);
    }
    Ok(&given.config)
}

/// Sets the variables: the defaults, those of the image, and those of the command line, which are returned. TERM is one
/// of the command line.
fn set_environment(given: &mut Given, is_systemd: bool) -> Result<Vec<&'static CStr>> {
    let config = &mut given.config;
    let mut own = if config.life.tty { vec![environment::term()?] } else { Vec::new() };
    environment::set(&mut own, environment::read(&given.env_files, std::mem::take(&mut config.env))?);
    config.env = vec![DEFAULT_PATH, c_static([b"HOSTNAME=", config.hostname.to_bytes()].concat())?];
    if is_systemd {
        config.env.push(c"container=kontena");
    }
    environment::set(&mut config.env, std::mem::take(&mut given.said.env));
    environment::set(&mut config.env, own.clone());
    Ok(own)
}

/// `--publish-all`.
fn publish_all(given: &mut Given) -> Result<()> {
    let config = &mut given.config;
    if !given.publish_all || !cfg!(feature = "net") {
        return Ok(());
    }
    let published = match config.net {
        Some(Net::Host) => Err("with --net host the container has the host's own ports: remove one of them"),
        _ => publish::publish_all(&mut config.publish, &config.exposed),
    };
    published.map_err(|hint| needs("publish-all", hint))
}

/// Reads the profile of system calls, if there is one, or the text that was kept of it.
fn read_profile(config: &mut Config, text: &mut Option<Vec<u8>>) -> Result<()> {
    if let Seccomp::Profile(path) = config.security.seccomp {
        let (filter, read) = seccomp::filter(path, text.take(), config.capabilities.bounding)?;
        (config.filter, *text) = (filter, Some(read));
    }
    Ok(())
}

/// The host name of a container that was given none.
fn default_hostname(config: &Config) -> Result<&'static CStr> {
    match config.uts {
        // A name has letters of one byte.
        Share::Private => c_static(config.name.get(..64).unwrap_or(config.name).as_bytes()),
        Share::Host => c_static(rustix::system::uname().nodename().to_bytes()),
        Share::Container(name) => c_static(name.as_bytes()),
    }
}

/// With `--userns keep-id` the command runs as the caller, unless `-u` says otherwise; an image does not.
fn keep_user(config: &mut Config, is_given: bool) -> Result<()> {
    if config.userns == Some(Userns::KeepId) && !is_given {
        config.user = c_static(format!("{}:{}", geteuid().as_raw(), getegid().as_raw()))?;
    }
    Ok(())
}

/// Why a container with fds of its caller's is not started by `start`.
const RUN_AGAIN: &str = "the command gets fds of kontena run, and kontena start has others: use kontena run";

/// Checks `--preserve-fds`, and adds the sockets of a socket activation if they are for this process; sd_listen_fds(3).
fn pass_on_fds(config: &mut Config) -> Result<()> {
    match config.preserve_fds {
        0 if config.life.again.is_some() => return Ok(()),
        1.. if config.life.again.is_some() => return Err(needs("preserve-fds", RUN_AGAIN)),
        _ => activate(config)?,
    }
    if config.life.notify_fd.is_some_and(|fd| fd < 3 + config.preserve_fds) {
        return Err(needs("notify-fd", "the command gets another fd of this number: use a higher one"));
    }
    // An image is open already, maybe as one of the numbers that are only the caller's.
    let first = config.life.notify_fd.map_or(3 + config.preserve_fds, |fd| fd + 1);
    if let Some(Image { fd, kind }) = config.image.take() {
        let fd = fcntl_dupfd_cloexec(&fd, first as i32).at(format_args!("fcntl"))?;
        config.image.set(Some(Image { fd, kind }));
    }
    Ok(())
}

fn activate(config: &mut Config) -> Result<()> {
    let own = getpid().as_raw_pid().to_string();
    let variable = |name| sys::variable(name).and_then(OsStr::to_str);
    let Some(fds) = variable("LISTEN_FDS").filter(|_| variable("LISTEN_PID") == Some(&*own)) else { return Ok(()) };
    let number = config::preserve_fds(fds).map_err(|hint| wrong("LISTEN_FDS", fds, hint))?;
    config.preserve_fds = config.preserve_fds.max(number);
    // The command is the first child of PID 1, unless it is that itself.
    let pid = if config.init { "2" } else { "1" };
    let names = variable("LISTEN_FDNAMES").map(|names| ("LISTEN_FDNAMES=", names));
    for (name, value) in [("LISTEN_PID=", pid), ("LISTEN_FDS=", fds)].into_iter().chain(names) {
        config.activation.push(c_static([name, value].concat())?);
    }
    Ok(())
}

/// Changes the options of a container that `--systemd` applies to; its stop signal only if neither the command line nor
/// the image has one.
fn prepare_for_systemd(config: &mut Config, is_stop_signal_given: bool) -> Parsed<()> {
    (config.init, config.delegates_cgroup) = (false, true);
    if !is_stop_signal_given && config.life.stop_signal == SIGTERM {
        config.life.stop_signal = systemd::HALT;
    }
    for text in systemd::EMPTY {
        let volume = volumes::tmpfs(text)?;
        if !config.volumes.iter().any(|other| other.is_on(&volume)) {
            given::add_volume(&mut config.volumes, Ok(volume))?;
        }
    }
    Ok(())
}

/// Refuses options of `run` that make no sense without others, or beside them.
fn check_together(given: &Given, line: &Line<'static>) -> Result<()> {
    let config = &given.config;
    let is_shared = |sysctl: &&&str| match &*process::sysctl_path(sysctl) {
        path if path.starts_with("net") => config.net.as_ref().is_some_and(|net| !net.is_own()),
        path if path.starts_with("kernel/domainname") => config.uts != Share::Private,
        _ => config.ipc != Share::Private,
    };
    if let Some(sysctl) = config.sysctls.iter().find(is_shared) {
        let hint = "the container shares that namespace: remove it, or use another --net, --ipc or --uts";
        return Err(wrong("--sysctl", sysctl, hint));
    }
    if config.uts != Share::Private && !config.hostname.is_empty() {
        return Err(needs("hostname", "with --uts the container has another one's: remove one of them"));
    }
    if let Some(port) = publish::twice(&config.publish) {
        return Err(Error::usage(
            format_args!("two --publish of {port}"),
            "use another port of the host for one of them",
        ));
    }
    if given.format.is_some() && !given.stats {
        return Err(needs("format", "it needs --stats"));
    }
    match line.first("health-") {
        Some(option) if line.has("no-healthcheck") => Err(needs(option, "it does not go with --no-healthcheck")),
        Some(option) if given.health.command.is_empty() => Err(needs(option, "it needs --health-cmd")),
        _ => Ok(()),
    }
}

/// How a container says that it is ready.
fn ready(config: &Config) -> Result<Ready> {
    match &config.life {
        life if !life.detach => Err(needs("wait-ready", "it needs -d")),
        life if life.notify_fd.is_some() => Ok(Ready::Fd),
        life if life.sdnotify => Ok(Ready::Notify),
        _ if config.publish.iter().any(|port| port.protocol == Protocol::Tcp) => Ok(Ready::Port),
        _ => {
            let hint = "nothing to wait for: use --notify-fd N or --sdnotify, or publish a TCP port";
            Err(needs("wait-ready", hint))
        }
    }
}

/// An option that is nothing by itself.
fn needs(option: &str, hint: &str) -> Error {
    Error::usage(format_args!("--{option}"), hint)
}

fn arguments(texts: &[OsString]) -> Result<Vec<&'static CStr>> {
    let mut arguments = Vec::with_capacity(texts.len() + 1);
    for text in texts {
        arguments.push(c_static(text.as_bytes())?);
    }
    Ok(arguments)
}
