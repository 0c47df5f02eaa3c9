//! The values that options set, and small functions with which the table of options sets them.

use crate::cli::engine;
use crate::config::capabilities::{Capabilities, Changes};
use crate::config::image::Said;
use crate::config::labels::Filter;
use crate::config::lifecycle::{Health, Life, Log, duration};
use crate::config::limits::Limits;
use crate::config::names::Names;
use crate::config::network::Addresses;
use crate::config::security::{OwnFilter, Security};
use crate::config::systemd::Systemd;
use crate::config::volumes::Volume;
use crate::config::{Config, Format, Overlay, Share};
use crate::error::{Hint, Parsed};
use crate::sys;
use crate::text::{bytes, number};
use crate::time::Moment;
use kontena_init::plan::OfBundle;
use std::cell::Cell;
use std::ffi::CStr;

/// The values of all options of all verbs.
pub struct Given {
    /// The values that go to the container as they are. `exec` uses some of them.
    pub config: Config,
    /// `--bundle` and what goes with it.
    pub bundle: engine::Options,
    /// The working directory of the `run` or `create` that is read again; `None` for this process's own.
    pub directory: Option<&'static CStr>,
    /// `--volumepath`, before the command.
    pub volumepath: Option<String>,
    /// Names that a container's volumes without a name got at an earlier start, each with its target behind it.
    pub anonymous: Vec<&'static str>,
    /// What the image says, where the command line has no such option.
    pub said: Said,
    /// `--publish-all`.
    pub publish_all: bool,
    /// `--entrypoint`.
    pub entrypoint: Vec<&'static CStr>,
    /// `--env-file`.
    pub env_files: Vec<&'static str>,
    /// `--label-file`.
    pub label_files: Vec<&'static str>,
    /// The text of the profile of `--security-opt seccomp=FILE`, once it is read.
    pub profile: Option<Vec<u8>>,
    /// `--cap-add`, `--cap-drop`.
    pub capabilities: Changes,
    /// `-m` and the other limits.
    pub limits: Limits,
    /// `--health-*`. Without a command there are no checks.
    pub health: Health,
    /// `--wait-ready`.
    pub wait_ready: bool,
    /// `--log-driver`.
    pub keeps_log: bool,
    /// `--log-opt`.
    pub log: Log,
    /// `--stats`.
    pub stats: bool,
    /// `--format`.
    pub format: Option<Format>,
    /// `--filter`.
    pub filters: Vec<Filter>,
    /// `--quiet`.
    pub quiet: bool,
    /// `--follow`.
    pub follow: bool,
    /// `--tail`; `None` for all.
    pub tail: Option<usize>,
    /// `--since`.
    pub since: Option<Moment>,
    /// `--timestamps`.
    pub timestamps: bool,
    /// `--stream`.
    pub stream: bool,
    /// `--time`, in seconds.
    pub time: Option<u64>,
    /// `--signal`.
    pub signal: Option<u32>,
    /// `--all`.
    pub all: bool,
    /// `--force`.
    pub force: bool,
    /// `--volumes`.
    pub volumes: bool,
    /// `--no-stdin`.
    pub no_stdin: bool,
    /// `--attach`.
    pub attach: bool,
    /// `--systemd`.
    pub systemd: Systemd,
}

/// The size of /dev/shm in bytes unless `--shm-size` says otherwise: docker's.
const SHM_SIZE: u64 = 64 << 20;

impl Given {
    /// The defaults.
    pub fn new() -> Self {
        let changes = Changes::default();
        Self {
            config: config(changes),
            bundle: engine::Options::default(),
            directory: None,
            volumepath: None,
            anonymous: Vec::new(),
            said: Said::default(),
            publish_all: false,
            entrypoint: Vec::new(),
            env_files: Vec::new(),
            label_files: Vec::new(),
            profile: None,
            capabilities: changes,
            limits: Limits::default(),
            health: Health::new(),
            wait_ready: false,
            keeps_log: true,
            log: Log::DEFAULT,
            stats: false,
            format: None,
            filters: Vec::new(),
            quiet: false,
            follow: false,
            tail: None,
            since: None,
            timestamps: false,
            stream: false,
            time: None,
            signal: None,
            all: false,
            force: false,
            volumes: false,
            no_stdin: false,
            attach: false,
            systemd: Systemd::Never,
        }
    }
}

/// The defaults of all that goes to the container as it is.
fn config(changes: Changes) -> Config {
    Config {
        replace: None,
        line: Vec::new(),
        name: "",
        hostname: c"",
        rootfs: c"",
        image: Cell::new(None),
        command: Vec::new(),
        env: Vec::new(),
        init: true,
        delegates_cgroup: false,
        workdir: c"",
        user: c"",
        read_only: false,
        overlay: Overlay::None,
        volumes: Vec::new(),
        shm_size: SHM_SIZE,
        devices: Vec::new(),
        userns: None,
        ipc: Share::Private,
        uts: Share::Private,
        capabilities: Capabilities::new(changes),
        security: Security::DEFAULT,
        filter: OwnFilter::default(),
        groups: Vec::new(),
        names: Names::default(),
        rlimits: Vec::new(),
        attributes: OfBundle::NONE,
        console_size: [0; 2],
        oom_score_adj: None,
        umask: 0o022,
        sysctls: Vec::new(),
        limits: Vec::new(),
        cgroup_mount: None,
        labels: Vec::new(),
        preserve_fds: 0,
        activation: Vec::new(),
        pidfile: None,
        stats: None,
        cgroup_parent: None,
        bundle: None,
        life: Life::new(),
        net: None,
        addresses: Addresses::default(),
        publish: Vec::new(),
        exposed: Vec::new(),
        publish_via: None,
    }
}

/// Sets a value in place of its default, which need not be dropped.
pub fn set<T>(slot: &mut T, value: Parsed<T>) -> Parsed<()> {
    value.map(|value| std::mem::forget(std::mem::replace(slot, value)))
}

/// Sets a switch.
pub fn on(slot: &mut bool) -> Parsed<()> {
    *slot = true;
    Ok(())
}

/// Adds one of many values.
pub fn add<T>(all: &mut Vec<T>, value: Parsed<T>) -> Parsed<()> {
    value.map(|value| all.push(value))
}

/// Adds a volume behind those that are no deeper: what is mounted on comes before what is mounted in it.
pub fn add_volume(all: &mut Vec<Volume>, volume: Parsed<Volume>) -> Parsed<()> {
    let volume = volume?;
    let place = all.partition_point(|other| other.depth() <= volume.depth());
    all.insert(place, volume);
    Ok(())
}

/// Adds several.
pub fn extend<T>(all: &mut Vec<T>, values: Parsed<impl IntoIterator<Item = T>>) -> Parsed<()> {
    values.map(|values| all.extend(values))
}

/// Sets bits.
pub fn bits(set: &mut u64, more: Parsed<u64>) -> Parsed<()> {
    more.map(|more| *set |= more)
}

/// `--shm-size`.
pub fn shm_size(text: &str) -> Parsed<u64> {
    const SIZE: Hint = "not a size: use bytes, or a number followed by k, m or g, for example 64m";
    bytes(text).filter(|size| *size > 0).ok_or(SIZE)
}

/// `--tail`.
pub fn tail(text: &str) -> Parsed<Option<usize>> {
    match number(text) {
        None if text != "all" => Err("not a number of lines: use a number, or all"),
        lines => Ok(lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX))),
    }
}

/// `--since`: a moment, or how long ago it was.
pub fn since(text: &str) -> Parsed<Moment> {
    if let Some(moment) = Moment::parse(text).or_else(|| Moment::from_unix(text)) {
        return Ok(moment);
    }
    let hint = "not a time: use 2026-01-31T13:00:00Z or +02:00, seconds since 1970, or 10m for ten minutes ago";
    let ago = duration(text).map_err(|_| hint)?;
    Ok(Moment(sys::realtime_seconds().saturating_sub(ago.as_secs()), 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    #[test]
    fn values_that_are_no_part_of_a_container_are_checked() {
        let hint = "not a number of lines: use a number, or all";
        check(tail, [("0", Some(0)), ("20", Some(20)), ("all", None)], &["", "-1", "x", "All"], hint);
        let hint = "not a size: use bytes, or a number followed by k, m or g, for example 64m";
        check(shm_size, [("1", 1), ("64m", 64 << 20)], &["", "0", "-1", "1q"], hint);
        let moment = Moment(1_769_864_400, 0);
        let hint = "not a time: use 2026-01-31T13:00:00Z or +02:00, seconds since 1970, or 10m for ten minutes ago";
        let good = [("2026-01-31T13:00:00Z", moment), ("2026-01-31T13:00:00+00:00", moment), ("1769864400", moment)];
        check(since, good, &["", "10", "2026-13-31", "2026-02-30", "yesterday"], hint);
        let before = sys::realtime_seconds() - 600;
        assert!(since("10m").is_ok_and(|Moment(seconds, _)| (before..before + 60).contains(&seconds)));
    }
}
