//! What was asked for, parsed once and trusted from then on.
//!
//! Every function takes the text of one option and gives a value or one clear line. Must not touch the system: that
//! `-v` names a directory that exists is found out when it is used.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A container to run.
pub struct Config {
    /// Its name: of the state directory, the leaf cgroup and, unless told otherwise, the host.
    pub name: String,
    /// The UTS node name.
    pub hostname: String,
    /// The directory that becomes `/`.
    pub rootfs: PathBuf,
    /// The payload and its arguments; `/bin/sh` where none was given.
    pub command: Vec<OsString>,
    /// Whether none was given.
    pub command_is_default: bool,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// `-w`.
    pub workdir: String,
    /// `-u`, resolved inside.
    pub user: String,
    /// `--read-only`.
    pub read_only: bool,
    /// `-v` and `--tmpfs`, in the order given.
    pub volumes: Vec<Volume>,
    /// `--net`.
    pub net: Net,
    /// `-p`.
    pub publish: Vec<Publish>,
    /// `-m`, `--pids-limit`, `--cpus`: file of the leaf cgroup and what is written to it.
    pub limits: Vec<Limit>,
    /// `--cgroup-parent`, relative to the cgroup2 mount.
    pub cgroup_parent: String,
}

/// The container's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// Its own network namespace, linked to the bridge.
    Bridge,
    /// Its own network namespace, with loopback alone.
    None,
    /// The host's.
    Host,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The host's address; 0.0.0.0 for all of them.
    pub address: Ipv4Addr,
    /// On the host.
    pub host_port: u16,
    /// In the container.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A transport protocol, by its number in IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
}

/// One line for one file of the leaf cgroup.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// `memory`, `pids` or `cpu`.
    pub controller: &'static str,
    /// Documentation/admin-guide/cgroup-v2.rst.
    pub file: &'static str,
    /// What is written.
    pub value: String,
}

/// Something mounted on request.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    /// A path of the host, or `None` for a tmpfs.
    pub source: Option<String>,
    /// An absolute path in the container.
    pub target: String,
    /// MOUNT_ATTR_* by name: `ro`, `nosuid`, `nodev`, `noexec`.
    pub flags: Vec<&'static str>,
    /// For the file system: `size=64m`, `mode=1777`.
    pub options: Vec<String>,
}

/// A name that is safe as a file, a cgroup and a host: `[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}`.
pub fn name(text: &str) -> Result<String> {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_.+-".contains(&c);
    let first = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && text.len() <= 128 && text.bytes().all(good) {
        return Ok(text.into());
    }
    Err(Error::usage(
        format!("--name {}", quote(text)),
        "not a name: give 1 to 128 letters, digits or _.+- with a letter or digit first",
    ))
}

/// A node name of at most 64 bytes; sethostname(2).
pub fn hostname(text: &str) -> Result<String> {
    if (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic()) {
        return Ok(text.into());
    }
    Err(Error::usage(format!("--hostname {}", quote(text)), "not a host name: give 1 to 64 printable characters"))
}

/// `bridge`, `none` or `host`.
pub fn net(text: &str) -> Result<Net> {
    match text {
        "bridge" => Ok(Net::Bridge),
        "none" => Ok(Net::None),
        "host" => Ok(Net::Host),
        _ => Err(Error::usage(format!("--net {}", quote(text)), "not a network: give bridge, none or host")),
    }
}

/// `[IP:]HOST:CONTAINER[/tcp|udp]`.
pub fn publish(text: &str) -> Result<Publish> {
    let wrong = |hint: &'static str| Error::usage(format!("--publish {}", quote(text)), hint);
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or_default(), Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return Err(wrong("not a protocol: give /tcp or /udp")),
    };
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let port = text.parse().ok().filter(|port| digits && *port != 0);
        port.ok_or_else(|| wrong("not a port: give numbers from 1 to 65535"))
    };
    let (host, container) =
        ports.rsplit_once(':').ok_or_else(|| wrong("give HOST:CONTAINER, for example -p 8080:80"))?;
    let (address, host) = match host.rsplit_once(':') {
        None => (Ipv4Addr::UNSPECIFIED, host),
        Some((address, host)) => (
            address
                .parse()
                .map_err(|_| wrong("not an IPv4 address: give [IP:]HOST:CONTAINER, as 127.0.0.1:8080:80"))?,
            host,
        ),
    };
    Ok(Publish { address, host_port: port(host)?, container_port: port(container)?, protocol })
}

/// A number of bytes, with b, k, m, g or t behind it as docker takes them.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    if !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `-m`: memory.max.
pub fn memory(text: &str) -> Result<Limit> {
    match bytes(text) {
        Some(max) if max > 0 => Ok(Limit { controller: "memory", file: "memory.max", value: max.to_string() }),
        _ => Err(Error::usage(
            format!("--memory {}", quote(text)),
            "not an amount of memory: give bytes, or a number with k, m or g behind it, as 64m",
        )),
    }
}

/// `--pids-limit`: pids.max; -1 for no limit.
pub fn pids_limit(text: &str) -> Result<Limit> {
    let value = match text.parse::<u32>() {
        Ok(max) if max > 0 => max.to_string(),
        _ if text == "-1" => "max".into(),
        _ => {
            return Err(Error::usage(
                format!("--pids-limit {}", quote(text)),
                "not a number of processes: give 1 or more, or -1 for no limit",
            ));
        }
    };
    Ok(Limit { controller: "pids", file: "pids.max", value })
}

/// `--cpus`: cpu.max, as microseconds of each 100,000.
pub fn cpus(text: &str) -> Result<Limit> {
    const PERIOD: u64 = 100_000;
    let quota = || {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if whole.is_empty() && fraction.is_empty()
            || !(whole.bytes().chain(fraction.bytes())).all(|c| c.is_ascii_digit())
        {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let (mut quota, mut digit) = (whole.checked_mul(PERIOD)?, PERIOD);
        for c in fraction.bytes() {
            digit /= 10;
            quota = quota.checked_add(u64::from(c - b'0') * digit)?;
        }
        // The kernel's least is a millisecond.
        (1_000..1 << 40).contains(&quota).then_some(quota)
    };
    match quota() {
        Some(quota) => Ok(Limit { controller: "cpu", file: "cpu.max", value: format!("{quota} {PERIOD}") }),
        None => Err(Error::usage(format!("--cpus {}", quote(text)), "not a number of CPUs: give 0.01 or more, as 1.5")),
    }
}

/// `-v SRC:DST[:OPTION,…]` with ro, rw, nosuid, nodev, noexec.
pub fn volume(text: &str) -> Result<Volume> {
    let wrong = |hint: &'static str| Error::usage(format!("--volume {}", quote(text)), hint);
    let mut parts = text.split(':');
    let (Some(source), Some(target), options, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(wrong("give SOURCE:TARGET or SOURCE:TARGET:ro"));
    };
    if source.is_empty() {
        return Err(wrong("the source is empty: give a file or directory of the host"));
    }
    let target = absolute(target).ok_or_else(|| wrong("the target is not an absolute path below /"))?;
    let mut flags = Vec::new();
    for option in options.unwrap_or("rw").split(',') {
        match option {
            "rw" => {}
            _ => flags.push(flag(option).ok_or_else(|| wrong("not an option: give ro, rw, nosuid, nodev or noexec"))?),
        }
    }
    Ok(Volume { source: Some(source.into()), target, flags, options: Vec::new() })
}

/// `--tmpfs DST[:OPTION,…]`: noexec, nosuid and nodev unless asked otherwise, as docker has it.
pub fn tmpfs(text: &str) -> Result<Volume> {
    let wrong = |hint: &'static str| Error::usage(format!("--tmpfs {}", quote(text)), hint);
    let (target, given) = text.split_once(':').unwrap_or((text, ""));
    let target = absolute(target).ok_or_else(|| wrong("the target is not an absolute path below /"))?;
    let mut flags = vec!["nosuid", "nodev", "noexec"];
    let mut options = Vec::new();
    for option in given.split(',').filter(|option| !option.is_empty()) {
        match (option, option.split_once('=')) {
            ("rw", _) => {}
            ("exec" | "suid" | "dev", _) => flags.retain(|flag| flag.strip_prefix("no") != Some(option)),
            (_, Some(("size", size))) => match bytes(size) {
                Some(size) if size > 0 => options.push(format!("size={size}")),
                _ => return Err(wrong("not a size: give bytes, or a number with k, m or g behind it, as size=64m")),
            },
            (_, Some(("mode", mode)))
                if !mode.is_empty() && mode.len() <= 5 && mode.bytes().all(|c| (b'0'..b'8').contains(&c)) =>
            {
                options.push(option.into());
            }
            _ => match flag(option) {
                Some(flag) if flags.contains(&flag) => {}
                Some(flag) => flags.push(flag),
                None => return Err(wrong("not an option: give size=, mode=, ro, exec, suid or dev")),
            },
        }
    }
    Ok(Volume { source: None, target, flags, options })
}

/// `-e KEY=VALUE`, or `-e KEY` for the launcher's own value.
pub fn env(text: &str) -> Result<Option<String>> {
    let key = text.split('=').next().unwrap_or_default();
    if key.is_empty() {
        return Err(Error::usage(format!("--env {}", quote(text)), "no name before the =: give KEY=VALUE or KEY"));
    }
    if text.contains('=') {
        return Ok(Some(text.into()));
    }
    Ok(std::env::var(key).ok().map(|value| format!("{key}={value}")))
}

/// `-w`.
pub fn workdir(text: &str) -> Result<String> {
    if text.starts_with('/') {
        return Ok(text.into());
    }
    Err(Error::usage(format!("--workdir {}", quote(text)), "not an absolute path of the container: begin it with /"))
}

/// `--cgroup-parent`: a path of cgroup names below the cgroup2 mount.
pub fn cgroup_parent(text: &str) -> Result<String> {
    let path = text.trim_matches('/');
    if !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | "..")) {
        return Ok(path.into());
    }
    Err(Error::usage(
        format!("--cgroup-parent {}", quote(text)),
        "not a cgroup: give its path below the cgroup2 mount, as /kontena",
    ))
}

fn flag(text: &str) -> Option<&'static str> {
    ["ro", "nosuid", "nodev", "noexec"].into_iter().find(|flag| *flag == text)
}

fn absolute(path: &str) -> Option<String> {
    let below_root = path.split('/').any(|part| !matches!(part, "" | "."));
    (path.starts_with('/') && below_root && !path.split('/').any(|part| part == "..")).then(|| path.into())
}

/// Text of the caller's as it stands in a message.
pub fn quote(text: &str) -> String {
    format!("\"{text}\"")
}
