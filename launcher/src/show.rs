//! What there is to see of containers: `list`, `ps`, `stats`, `inspect`, as tables for people and JSON for programs.
//!
//! Must not change anything.

use crate::cgroup;
use crate::config::Format;
use crate::deeds::for_each;
use crate::error::{Context, Error, Result};
use crate::exec::does_not_run;
use crate::file::{self, CWD};
use crate::join;
use crate::json::Json;
use crate::life::signal_name;
use crate::plan;
use crate::state::{Entry, Root, Seen};
use crate::stats::Stats;
use crate::sys;
use crate::time::{Moment, ago};
use kontena_init::plan::{Plan, decode, mount_kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::CStr;

/// `kontena list`; by their names alone where there is no format.
pub fn list(root: &Root, format: Option<Format>) -> Result<()> {
    let all = root.all()?;
    let text = match format {
        None => all.iter().map(|seen| format!("{}\n", seen.name)).collect(),
        Some(Format::Json) => array(all.iter().map(|seen| summary(root, seen).close('}'))),
        Some(Format::Table) => {
            let mut rows = vec![row(&["NAME", "STATUS", "PID", "ADDRESS", "PORTS", "COMMAND"])];
            for seen in &all {
                let pid = seen.init().map_or("-".into(), |(pid, _)| pid.to_string());
                let command = command_of(root, &seen.name).join(" ");
                let address = addresses(seen).next().unwrap_or_else(|| "-".into());
                let ports = ports(seen).join(", ");
                let ports = if ports.is_empty() { "-".into() } else { ports };
                rows.push(vec![seen.name.clone(), status(seen), pid, address, ports, shorten(&command, 40)]);
            }
            table(&rows)
        }
    };
    crate::print(1, &text);
    Ok(())
}

/// `kontena inspect`.
pub fn inspect(root: &Root, names: &[String]) -> Result<()> {
    let mut all = Vec::new();
    let found = for_each(names, &mut |name| {
        let seen = root.find(name)?;
        let mut json = summary(root, &seen);
        describe(root, &seen, &mut json);
        all.push(json.close('}'));
        Ok(())
    });
    crate::print(1, &array(all.into_iter()));
    found
}

/// What `list` tells of a container.
fn summary(root: &Root, seen: &Seen) -> Json {
    let mut json = Json::open('{');
    json.text("name", &seen.name).text("status", state(seen)).truth("running", seen.init().is_some());
    if let Some((pid, since)) = seen.init() {
        json.number("pid", pid).text("started", &Moment(since, 0).to_string());
    }
    if let Some(is_well) = health(seen) {
        json.text("health", if is_well { "healthy" } else { "unhealthy" });
    }
    let restarts = seen.entries().iter().find_map(|entry| if let Entry::Restarts(n) = entry { Some(*n) } else { None });
    json.number("restarts", restarts.unwrap_or(0)).texts("addresses", addresses(seen)).texts("ports", ports(seen));
    json.texts("command", command_of(root, &seen.name));
    if let Some(ended) = seen.ended() {
        let mut exit = Json::open('{');
        exit.number("status", ended.status).text("at", &Moment(ended.at, 0).to_string());
        if let Some(signal) = ended.status.checked_sub(128).filter(|signal| (1..=64).contains(signal)) {
            exit.text("signal", &signal_name(signal.into()));
        }
        exit.truth("oom_killed", ended.is_oom_killed);
        exit.texts("limits_hit", ended.limits.split(',').filter(|limit| !limit.is_empty()));
        if !ended.reason.is_empty() {
            exit.text("reason", &ended.reason);
        }
        json.raw("exit", &exit.close('}'));
    }
    json
}

/// What `inspect` tells beside that.
fn describe(root: &Root, seen: &Seen, json: &mut Json) {
    json.text("directory", &root.path(&seen.name));
    if let Some(leaf) = seen.cgroup() {
        json.text("cgroup", leaf);
        let mut limits = Json::open('{');
        for limit in cgroup::limits(leaf) {
            limits.text(limit.0, &limit.1);
        }
        json.raw("limits", &limits.close('}'));
    }
    for entry in seen.entries() {
        match entry {
            Entry::Restart(policy) => drop(json.text("restart", policy)),
            Entry::Stop(signal, seconds) => {
                json.text("stop_signal", &signal_name(*signal)).number("stop_timeout", *seconds);
            }
            _ => {}
        }
    }
    let bytes = root.directory(&seen.name).ok().and_then(|directory| plan::read(&directory).ok()).unwrap_or_default();
    let Some(plan) = decode::<Plan<'_>>(&bytes) else { return };
    let text = |text: &CStr| text.to_string_lossy().into_owned();
    let rootfs = text(plan.root.source);
    json.text("rootfs", rootfs.strip_suffix("/.").unwrap_or(&rootfs)).text("hostname", &text(plan.hostname));
    json.truth("read_only", plan.root_readonly == 1).truth("user_namespace", plan.userns == 1);
    let mut mounts = Json::open('[');
    for mount in plan.volumes.iter() {
        let mut one = Json::open('{');
        let kind = if mount.kind == mount_kind::FILESYSTEM { "tmpfs" } else { "bind" };
        one.text("type", kind).text("target", &text(mount.target));
        if mount.kind == mount_kind::BIND {
            one.text("source", &text(mount.source));
        }
        mounts.item(&one.close('}'));
    }
    json.raw("mounts", &mounts.close(']'));
    let process = &plan.process;
    let user = text(process.user);
    json.text("user", if user.is_empty() { "root" } else { &user }).text("workdir", &text(process.cwd));
    json.texts("env", process.env.iter().map(text)).truth("terminal", process.terminal == 1);
    json.texts("capabilities", crate::caps::names(process.capabilities));
    json.truth("no_new_privileges", process.no_new_privs == 1).truth("seccomp", process.seccomp == 1);
}

fn state(seen: &Seen) -> &'static str {
    match (seen.is_running, seen.init(), seen.ended()) {
        (true, Some(_), _) if seen.cgroup().is_some_and(cgroup::is_frozen) => "paused",
        (true, Some(_), _) => "running",
        (true, None, None) => "starting",
        (true, None, Some(_)) if seen.is_to_live_again() => "restarting",
        // Its launcher gives back what it had, or is about to find out that it is to be started again.
        (true, None, Some(_)) => "ending",
        (false, ..) => "exited",
    }
}

/// The same with what a person wants to know of it.
fn status(seen: &Seen) -> String {
    let now = sys::realtime_seconds();
    let state = state(seen);
    let health = match health(seen) {
        Some(true) => ", healthy",
        Some(false) => ", unhealthy",
        None => "",
    };
    if let Some((_, since)) = seen.init() {
        return format!("{state} {}{health}", ago(now.saturating_sub(since)));
    }
    match seen.ended() {
        Some(ended) if ended.is_oom_killed => format!("{state} {}, out of memory", ended.status),
        Some(ended) => format!("{state} {}, {} ago", ended.status, ago(now.saturating_sub(ended.at))),
        None => state.into(),
    }
}

fn health(seen: &Seen) -> Option<bool> {
    seen.entries().iter().find_map(|entry| if let Entry::Health(is_well) = entry { Some(*is_well) } else { None })
}

fn addresses(seen: &Seen) -> impl Iterator<Item = String> {
    seen.addresses().into_iter().map(|address| address.to_string())
}

/// `*:8080->80/tcp`, `127.0.0.1:8080->80/tcp`.
fn ports(seen: &Seen) -> Vec<String> {
    let port = |entry: &Entry| {
        let (Entry::Publish(port) | Entry::Relay(port)) = entry else { return None };
        Some(format!("{}->{}/{}", port.at(port.host_port), port.container_port, port.protocol))
    };
    seen.entries().iter().filter_map(port).collect()
}

fn command_of(root: &Root, name: &str) -> Vec<String> {
    let bytes = root.directory(name).ok().and_then(|directory| plan::read(&directory).ok()).unwrap_or_default();
    let plan: Option<Plan<'_>> = decode(&bytes);
    plan.into_iter().flat_map(|plan| plan.process.argv.iter()).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// `kontena ps`.
pub fn ps(root: &Root, names: &[String], format: Format) -> Result<()> {
    let mut rows = vec![row(&["CONTAINER", "PID", "INSIDE", "PARENT", "USER", "STATE", "MEMORY", "TIME", "COMMAND"])];
    let mut all = Vec::new();
    let found = for_each(names, &mut |name| {
        let seen = root.find(name)?;
        seen.init().ok_or_else(|| does_not_run(name))?;
        let leaf = seen.cgroup().ok_or_else(|| Error::usage(format_args!("{name} has no cgroup of its own"), ""))?;
        for process in join::processes(leaf).into_iter().filter_map(Process::of) {
            rows.push(process.row(name));
            all.push(process.json(name));
        }
        Ok(())
    });
    crate::print(1, &if format == Format::Json { array(all.into_iter()) } else { table(&rows) });
    found
}

/// A process, as /proc tells; proc_pid_status(5), proc_pid_stat(5).
struct Process {
    pid: u32,
    inside: String,
    parent: String,
    uid: String,
    state: String,
    memory: u64,
    ticks: u64,
    command: String,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let status = file::read_text(CWD, &format!("/proc/{pid}/status"));
        let field = |key: &str| -> Option<&str> {
            status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim_ascii)
        };
        let stat = file::read_text(CWD, &format!("/proc/{pid}/stat"));
        // Behind the name, which may have anything in it: state is the third field, and times are the 14th and 15th.
        let times: Vec<u64> =
            stat.rsplit(')').next()?.split_ascii_whitespace().map(|n| n.parse().unwrap_or(0)).collect();
        let mut command = file::read(CWD, &format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
        let command = String::from_utf8_lossy(&command).trim_ascii_end().to_owned();
        let name = field("Name")?;
        Some(Self {
            pid,
            inside: field("NSpid")?.rsplit('\t').next()?.into(),
            parent: field("PPid")?.into(),
            uid: field("Uid")?.split('\t').next()?.into(),
            state: field("State")?.split(' ').next()?.into(),
            memory: field("VmRSS").and_then(|memory| memory.split(' ').next()?.parse().ok()).unwrap_or(0),
            ticks: times.get(11)? + times.get(12)?,
            command: if command.is_empty() { format!("[{name}]") } else { command },
        })
    }

    fn row(&self, container: &str) -> Vec<String> {
        let Self { pid, inside, parent, uid, state, memory, ticks, command } = self;
        let hundredths = ticks * 100 / TICKS;
        let time = format!("{}:{:02}.{:02}", hundredths / 6000, hundredths / 100 % 60, hundredths % 100);
        vec![
            container.into(),
            pid.to_string(),
            inside.clone(),
            parent.clone(),
            uid.clone(),
            state.clone(),
            format!("{memory} kB"),
            time,
            shorten(command, 80),
        ]
    }

    fn json(&self, container: &str) -> String {
        let Self { pid, inside, parent, uid, state, memory, ticks, command } = self;
        let mut json = Json::open('{');
        json.text("container", container).number("pid", *pid).raw("pid_inside", inside).raw("parent", parent);
        json.raw("uid", uid).text("state", state).number("memory_kb", *memory);
        json.number("cpu_ms", ticks * 1000 / TICKS).text("command", command);
        json.close('}')
    }
}

/// USER_HZ: a second of /proc has so many ticks on every architecture that there is a kontena for.
const TICKS: u64 = 100;

/// Between the two moments of which a share of CPU time is, and between two tables of a stream; microseconds.
const MOMENT: u64 = 200_000;
const SECOND: u64 = 1_000_000;

/// `kontena stats`; again each second where it is a stream.
pub fn stats(root: &Root, names: &[String], format: Format, stream: bool) -> Result<()> {
    let mut before = Vec::new();
    if format == Format::Table {
        before = read_all(root, names)?.0;
        sys::sleep(MOMENT);
    }
    let replaces = format == Format::Table && rustix::termios::isatty(sys::standard_fd(1));
    loop {
        let (now, found) = read_all(root, names)?;
        let text = match format {
            Format::Json => array(now.iter().map(|(name, _, stats)| stats.as_json(name, None))),
            Format::Table => {
                let mut rows = vec![row(&crate::stats::COLUMNS)];
                for (name, moment, stats) in &now {
                    let last = before.iter().find(|(other, ..)| other == name);
                    rows.push(stats.row(name, last.map(|(_, then, last)| (last, moment - then))));
                }
                table(&rows)
            }
        };
        crate::print(1, &text);
        if !stream || now.is_empty() && found.is_err() {
            return found;
        }
        before = now;
        sys::sleep(SECOND);
        if replaces {
            // Back to where the table began, and away with it.
            crate::print(1, &format!("\x1b[{}A\x1b[J", before.len() + 1));
        }
    }
}

/// Name, moment and figures of a container.
type Read = (String, u64, Stats);

/// Those of the containers of these names, and an error where one of them does not run; or of all that run.
fn read_all(root: &Root, names: &[String]) -> Result<(Vec<Read>, Result<()>)> {
    let (mut all, mut found) = (Vec::new(), Ok(()));
    match names {
        [] => all.extend(root.all()?.into_iter().filter(|seen| seen.init().is_some())),
        names => {
            for name in names {
                match root.find(name) {
                    Ok(seen) if seen.init().is_some() => all.push(seen),
                    seen => found = seen.and_then(|_| Err(does_not_run(name))),
                }
            }
        }
    }
    let read = |seen: Seen| {
        let stats = Stats::read(seen.cgroup()?);
        Some((seen.name, sys::monotonic_microseconds(), stats))
    };
    Ok((all.into_iter().filter_map(read).collect(), found))
}

/// `kontena logs`.
#[inline(never)]
pub fn logs(root: &Root, name: &str, wanted: &crate::log::Wanted, follow: bool) -> Result<()> {
    let seen = root.find(name)?;
    if !seen.is_kept() {
        let hint = "it is in the foreground: its output is where that of kontena run is";
        return Err(Error::usage(format_args!("{name} has no log"), hint));
    }
    let mut reader = crate::log::Reader::new(root.directory(name)?, wanted);
    let mut print = |stream: crate::log::Stream, text: &[u8]| {
        crate::print_bytes(if stream == crate::log::Stream::Stdout { 1 } else { 2 }, text);
    };
    // Before it is read for the first time, so that nothing is missed in between.
    let watch = reader.watch(&root.path(name)).context(format_args!("watch {}", root.path(name)), "")?;
    reader.print(&mut print);
    if !follow {
        return Ok(());
    }
    loop {
        let now = root.look(name)?.filter(|seen| seen.is_running);
        reader.print_more(&mut print);
        let Some(now) = now else { return Ok(()) };
        // Nothing tells that the launcher is gone; but before it goes, it writes the end down. One that is killed closes its
        // files, which is told before its lock is undone.
        let soon = match now.ended() {
            Some(_) => Timespec { tv_sec: 0, tv_nsec: 20_000_000 },
            None => Timespec { tv_sec: 1, tv_nsec: 0 },
        };
        let _ = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&soon));
        let mut events = [0; 4096];
        while rustix::io::read(&watch, &mut events).is_ok_and(|length| length == events.len()) {}
    }
}

fn array(items: impl Iterator<Item = String>) -> String {
    let mut json = Json::open('[');
    for item in items {
        json.item(&item);
    }
    json.close(']') + "\n"
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).into()).collect()
}

/// Rows as columns, each as wide as its widest cell, the last as it is.
fn table(rows: &[Vec<String>]) -> String {
    let mut widths = vec![0; rows.first().map_or(0, Vec::len)];
    for row in rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_ascii_end();
        text.push('\n');
    }
    text
}

/// What is longer ends with `…`; a control character is none that a terminal would obey.
fn shorten(text: &str, length: usize) -> String {
    let mut short: String = text.chars().take(length).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().count() > length {
        short.pop();
        short.push('…');
    }
    short
}
