//! A line of a journal, as a value.
//!
//! Pure. Must not know how an entry changes a record: `record.rs` does.

use crate::config::network::mac_address;
use crate::config::publish::{Protocol, Publish, PublishVia, port};
use crate::state::ExitRecord;
use std::net::IpAddr;

/// Stands for all addresses of the host.
const ALL: &str = "*";

/// Something that a container is about to take on the host, or that has become of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// Its leaf cgroup.
    Cgroup(Cgroup),
    /// The host's network namespace, by its inode number, in which it has its addresses.
    Namespace(u64),
    /// An address that it has, or tried to lease.
    Address(IpAddr),
    /// The hardware address that was asked for.
    Hardware([u8; 6]),
    /// A block of subordinate ids that it has, or tried to lease: the first uid.
    Ids(u32),
    /// A published port.
    Port(PortRecord),
    /// A volume that it uses.
    Volume(VolumeRecord),
    /// It was started in the background: its record stays when it has ended.
    Kept,
    /// How to ask it to stop.
    Stop(Stop),
    /// Its `--restart`.
    Restart(String),
    /// A label, `KEY=VALUE`.
    Label(String),
    /// A port or a range that it exposes: `80/tcp`.
    Exposed(String),
    /// Its PID 1 has been started.
    Init(Init),
    /// It was handed over to the caller, and has no launcher; when its PID 1 was started, in the kernel's ticks.
    HandedOver(u64),
    /// How often it was restarted, with the restart that is about to come.
    Restarts(u32),
    /// Whether its last health check succeeded.
    Health(bool),
    /// It has ended.
    Exit(ExitRecord),
}

/// A leaf cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Which one, as [`super::Registry::number_of`] has it; `None` until it has been made.
    pub number: Option<u64>,
    /// Its path on the host.
    pub path: String,
}

/// A published port, and how what comes to it gets to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRecord {
    /// The port.
    pub publish: Publish,
    /// By an element of the nftables maps, or by the launcher: such a port is free when the launcher is gone.
    pub via: PublishVia,
}

/// A named volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Whether it was made for this container, and goes with it.
    pub is_own: bool,
    /// Its directory.
    pub path: String,
}

/// How to ask a container to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The signal.
    pub signal: u32,
    /// The seconds until SIGKILL.
    pub timeout: u64,
}

/// PID 1 of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    /// Its pid on the host.
    pub pid: u32,
    /// When it was started, in seconds since 1970.
    pub since: u64,
    /// The pid namespace in which it has that pid, by its inode number; 0 if that is not known.
    pub pid_namespace: u64,
}

impl Entry {
    /// The line, with its newline.
    pub fn to_line(&self) -> String {
        match self {
            Self::Cgroup(Cgroup { number, path }) => format!("cgroup {} {path}\n", number.unwrap_or(0)),
            Self::Namespace(number) => format!("namespace {number}\n"),
            Self::Address(address) => format!("address {address}\n"),
            Self::Hardware([a, b, c, d, e, f]) => format!("hardware {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\n"),
            Self::Ids(first) => format!("ids {first}\n"),
            Self::Port(port) => port.to_line(),
            Self::Volume(VolumeRecord { is_own, path }) => format!("volume {} {path}\n", u8::from(*is_own)),
            Self::Kept => "kept\n".into(),
            Self::Stop(Stop { signal, timeout }) => format!("stop {signal} {timeout}\n"),
            Self::Restart(policy) => format!("restart {policy}\n"),
            Self::Label(label) => format!("label {label}\n"),
            Self::Exposed(ports) => format!("exposed {ports}\n"),
            Self::Init(Init { pid, since, pid_namespace }) => format!("init {pid} {since} {pid_namespace}\n"),
            Self::HandedOver(ticks) => format!("handed {ticks}\n"),
            Self::Restarts(count) => format!("restarts {count}\n"),
            Self::Health(is_healthy) => format!("health {}\n", u8::from(*is_healthy)),
            Self::Exit(exit) => format!("ended {}\n", exit.to_line()),
        }
    }

    /// Reads a line without its newline; `None` for one that this version does not write.
    pub fn from_line(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match kind {
            "cgroup" => {
                let (number, path) = rest.split_once(' ')?;
                Self::Cgroup(Cgroup {
                    number: Some(number.parse().ok()?).filter(|number| *number != 0),
                    path: path.into(),
                })
            }
            "namespace" => Self::Namespace(rest.parse().ok()?),
            "address" => Self::Address(rest.parse().ok()?),
            "hardware" => Self::Hardware(mac_address(rest).ok()?),
            "ids" => Self::Ids(rest.parse().ok()?),
            "publish" => Self::Port(PortRecord { publish: publish_from_line(rest)?, via: PublishVia::Nft }),
            "relay" => Self::Port(PortRecord { publish: publish_from_line(rest)?, via: PublishVia::Relay }),
            "volume" => {
                let (is_own, path) = rest.split_once(' ')?;
                Self::Volume(VolumeRecord { is_own: is_own == "1", path: path.into() })
            }
            "kept" => Self::Kept,
            "stop" => {
                let (signal, timeout) = rest.split_once(' ')?;
                Self::Stop(Stop { signal: signal.parse().ok()?, timeout: timeout.parse().ok()? })
            }
            "restart" => Self::Restart(rest.into()),
            "label" => Self::Label(rest.into()),
            "exposed" => Self::Exposed(rest.into()),
            "init" => {
                let mut fields = rest.splitn(3, ' ');
                Self::Init(Init {
                    pid: fields.next()?.parse().ok()?,
                    since: fields.next()?.parse().ok()?,
                    pid_namespace: fields.next().unwrap_or("0").parse().ok()?,
                })
            }
            "handed" => Self::HandedOver(rest.parse().ok()?),
            "restarts" => Self::Restarts(rest.parse().ok()?),
            "health" => Self::Health(rest == "1"),
            "ended" => Self::Exit(ExitRecord::from_line(rest)?),
            _ => return None,
        })
    }
}

impl PortRecord {
    fn to_line(self) -> String {
        let kind = if self.via == PublishVia::Nft { "publish" } else { "relay" };
        let Publish { protocol, address, host_port, container_port } = self.publish;
        let address = address.map_or_else(|| ALL.into(), |address| address.to_string());
        format!("{kind} {} {address} {host_port} {container_port}\n", protocol as u8)
    }
}

fn publish_from_line(line: &str) -> Option<Publish> {
    let mut fields = line.split(' ');
    let protocol = match fields.next()? {
        "6" => Protocol::Tcp,
        "17" => Protocol::Udp,
        _ => return None,
    };
    let address = match fields.next()? {
        ALL => None,
        address => Some(address.parse().ok()?),
    };
    let (host_port, container_port) = (port(fields.next()?)?, port(fields.next()?)?);
    Some(Publish { address, host_port, container_port, protocol })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A line of each kind.
    const LINES: [&str; 23] = [
        "cgroup 0 /sys/fs/cgroup/kontena/a",
        "cgroup 77 /sys/fs/cgroup/kontena/a b",
        "namespace 4026531840",
        "address 172.29.0.2",
        "address fd00::2",
        "hardware 02:6b:ac:1d:00:02",
        "ids 100000",
        "publish 6 * 8080 80",
        "publish 17 127.0.0.1 53 5353",
        "relay 6 ::1 8080 80",
        "volume 0 /var/lib/kontena/volumes/data",
        "volume 1 /a b/c",
        "kept",
        "stop 15 10",
        "restart on-failure:3",
        "label a.b=c d",
        "exposed 80-89/udp",
        "init 4711 1764072061 4026531836",
        "handed 123456",
        "restarts 3",
        "health 0",
        "health 1",
        "ended 137 1764072061 1 memory.max=1,pids.max=2 why it ended",
    ];

    #[test]
    fn a_line_of_each_kind_reads_back_as_it_was_written() {
        for line in LINES {
            assert_eq!(Entry::from_line(line).unwrap().to_line(), format!("{line}\n"));
        }
    }

    #[test]
    fn a_line_of_an_earlier_version_has_no_pid_namespace() {
        let init = Init { pid: 1, since: 2, pid_namespace: 0 };
        assert_eq!(Entry::from_line("init 1 2"), Some(Entry::Init(init)));
    }

    #[test]
    fn nonsense_is_no_entry() {
        for line in [
            "",
            "something else",
            "cgroup",
            "cgroup x /path",
            "cgroup -1 /path",
            "cgroup 18446744073709551616 /path",
            "address",
            "address 1.2.3",
            "hardware 02:6b",
            "hardware ff:ff:ff:ff:ff:ff",
            "ids -1",
            "ids 4294967296",
            "publish 6 * 8080",
            "publish 1 * 8080 80",
            "publish 6 x 8080 80",
            "publish 6 * 0 80",
            "relay 6 * 8080 65536",
            "stop 15",
            "stop a b",
            "init",
            "init 1",
            "init 1 2 x",
            "handed",
            "handed x",
            "restarts -1",
            "volume",
            "volume /a",
            "ended",
        ] {
            assert_eq!(Entry::from_line(line), None, "{line:?}");
        }
    }
}
