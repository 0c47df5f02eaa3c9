//! `kontena list`: all containers, as a table for people or JSON for programs.

use crate::commands::bundle;
use crate::commands::table::{Table, shorten};
use crate::config::Format;
use crate::config::labels::{self, Filter, key};
use crate::config::lifecycle::signal_name;
use crate::config::publish::Publish;
use crate::error::Result;
use crate::gather::Gather;
use crate::json::Json;
use crate::net::Protected;
use crate::print;
use crate::resources::cgroup;
use crate::spawn::plan;
use crate::state::{ContainerRecord, ExitRecord, Init, PortRecord, StateDirectory};
use crate::sys;
use crate::text;
use crate::time::{Moment, ago};
use kontena_init::plan::{Plan, decode};

/// Prints the containers that pass the filters; their names alone if there is no format.
pub fn list(state: &StateDirectory, format: Option<Format>, filters: &[Filter]) -> Result<()> {
    let mut all = state.all()?;
    all.retain(|container| labels::passes(filters, &container.name, life(state, container), &container.labels));
    let protected = Protected::look(state);
    let text = match format {
        None => all.iter().map(|container| format!("{}\n", container.name)).text(),
        Some(Format::Json) => Json::document(|json| {
            json.array(|json| {
                for container in &all {
                    json.object(|json| {
                        write_summary(json, state, container, &protected);
                        bundle::add_state(json, state, container);
                    });
                }
            });
        }),
        Some(Format::Table) => {
            let mut table = Table::new(&["NAME", "STATUS", "PID", "ADDRESS", "PORTS", "COMMAND"]);
            all.iter().for_each(|container| table.add(row(state, container, &protected)));
            table.print()
        }
    };
    print::answer(&text)
}

fn row(state: &StateDirectory, container: &ContainerRecord, protected: &Protected) -> Vec<String> {
    let pid = container.running_init().map(|init| init.pid.to_string());
    let address = container.network.addresses().first().map(ToString::to_string);
    let ports = Some(ranges(&container.network.ports).join(", ")).filter(|ports| !ports.is_empty());
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".into());
    vec![
        container.name.clone(),
        status(state, container, protected),
        or_dash(pid),
        or_dash(address),
        or_dash(ports),
        shorten(&command(state, &container.name).join(" "), 40),
    ]
}

/// Writes the keys of a container that `list` and `inspect` have in common.
pub fn write_summary(json: &mut Json, state: &StateDirectory, container: &ContainerRecord, protected: &Protected) {
    let init = container.running_init();
    json.text("name", &container.name).text("status", life(state, container)).boolean("running", init.is_some());
    if let Some(Init { pid, since, .. }) = init {
        json.number("pid", pid).text("started", &Moment(since, 0).to_string());
        if protected.lacks(&container.network.addresses()) {
            json.boolean("protected", false);
        }
    }
    if let Some(is_healthy) = container.is_healthy {
        json.text("health", health(is_healthy));
    }
    json.number("restarts", container.restarts);
    json.texts("addresses", container.network.addresses().iter().map(ToString::to_string));
    json.texts("ports", ports(container)).texts("command", command(state, &container.name));
    json.key("labels").object(|json| {
        for label in &container.labels {
            json.text(key(label), label.split_once('=').unwrap_or_default().1);
        }
    });
    if let Some(exit) = &container.exit {
        json.key("exit").object(|json| write_exit(json, exit));
    }
}

fn write_exit(json: &mut Json, exit: &ExitRecord) {
    json.number("status", exit.status).text("at", &Moment(exit.at, 0).to_string());
    if let Some(signal) = exit.status.checked_sub(128).filter(|signal| (1..=64).contains(signal)) {
        json.text("signal", &signal_name(signal.into()));
    }
    json.boolean("oom_killed", exit.is_oom_killed);
    json.texts("limits_hit", exit.limits.split(',').filter(|limit| !limit.is_empty()));
    if !exit.reason.is_empty() {
        json.text("reason", &exit.reason);
    }
}

/// The state of a container.
fn life(state: &StateDirectory, container: &ContainerRecord) -> &'static str {
    match (container.is_running, container.running_init(), &container.exit) {
        (true, Some(_), _) if container.cgroup_path().is_some_and(cgroup::is_frozen) => "paused",
        _ if container.handed_over.is_some() => bundle::status(state, container),
        (true, Some(_), _) => "running",
        (true, None, None) => "starting",
        (true, None, Some(_)) if container.is_restarting => "restarting",
        // Its launcher gives back what it had, or is about to decide on a restart.
        (true, None, Some(_)) => "ending",
        (false, _, Some(_)) => "exited",
        (false, _, None) => "created",
    }
}

/// The same, with what a person wants to know of it.
fn status(state: &StateDirectory, container: &ContainerRecord, protected: &Protected) -> String {
    let (now, life) = (sys::realtime_seconds(), life(state, container));
    if let Some(init) = container.running_init() {
        let health = container.is_healthy.map(|is_healthy| format!(", {}", health(is_healthy))).unwrap_or_default();
        let unprotected = if protected.lacks(&container.network.addresses()) { ", unprotected" } else { "" };
        return format!("{life} {}{health}{unprotected}", ago(now.saturating_sub(init.since)));
    }
    match &container.exit {
        Some(exit) if exit.is_oom_killed => format!("{life} {}, out of memory", exit.status),
        Some(exit) => format!("{life} {}, {} ago", exit.status, ago(now.saturating_sub(exit.at))),
        None => life.into(),
    }
}

fn health(is_healthy: bool) -> &'static str {
    if is_healthy { "healthy" } else { "unhealthy" }
}

/// `*:8080->80/tcp`, `127.0.0.1:8080->80/tcp`.
fn ports(container: &ContainerRecord) -> Vec<String> {
    let port = |PortRecord { publish, .. }: &PortRecord| {
        format!("{}->{}/{}", publish.at(publish.host_port), publish.container_port, publish.protocol)
    };
    container.network.ports.iter().map(port).list()
}

/// The same for people, where neighbours are one range: `*:8000-8010->80-90/tcp`.
fn ranges(ports: &[PortRecord]) -> Vec<String> {
    let mut ranges: Vec<(Publish, u16)> = Vec::new();
    for PortRecord { publish, .. } in ports {
        match ranges.last_mut() {
            Some((first, more)) if is_next(first, *more + 1, publish) => *more += 1,
            _ => ranges.push((*publish, 0)),
        }
    }
    let range = |first: u16, more: u16| if more == 0 { String::new() } else { format!("-{}", first + more) };
    let text = |(publish, more): (Publish, u16)| {
        let Publish { host_port, container_port, protocol, .. } = publish;
        let (host, container) = (range(host_port, more), range(container_port, more));
        format!("{}{host}->{container_port}{container}/{protocol}", publish.at(host_port))
    };
    ranges.into_iter().map(text).list()
}

/// Whether a port is the one `distance` behind another.
fn is_next(first: &Publish, distance: u16, port: &Publish) -> bool {
    let behind = |port: u16| port.checked_add(distance);
    (first.address, first.protocol) == (port.address, port.protocol)
        && behind(first.host_port) == Some(port.host_port)
        && behind(first.container_port) == Some(port.container_port)
}

/// The command of a container, by its plan or, before it has one, by the command line that was kept: behind the rootfs.
fn command(state: &StateDirectory, name: &str) -> Vec<String> {
    let bytes = state.directory(name).ok().and_then(|directory| plan::read(&directory).ok()).unwrap_or_default();
    if let Some(plan) = decode::<Plan<'_>>(&bytes) {
        return plan.process.argv.iter().map(|word| text::from_bytes(word.to_bytes())).list();
    }
    let line = state.command(name).unwrap_or_default();
    let words = line.strip_suffix(b"\0").into_iter().flat_map(|line| line.split(|byte| *byte == 0));
    words.skip_while(|word| *word != b"--").skip(2).map(text::from_bytes).list()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::publish::{PublishVia, publish};

    #[test]
    fn neighbouring_ports_are_one_range() {
        for (options, shown) in [
            (&["8080:80"][..], "*:8080->80/tcp"),
            (&["8000-8010:80-90"], "*:8000-8010->80-90/tcp"),
            (&["80:80", "81:81", "83:83"], "*:80-81->80-81/tcp, *:83->83/tcp"),
            (&["80:80", "81:82"], "*:80->80/tcp, *:81->82/tcp"),
            (&["80:80", "81:81/udp"], "*:80->80/tcp, *:81->81/udp"),
            (&["127.0.0.1:80:80", "81:81"], "127.0.0.1:80->80/tcp, *:81->81/tcp"),
            (&["[::1]:65534-65535:1-2"], "[::1]:65534-65535->1-2/tcp"),
            (&["1:65535", "2:1"], "*:1->65535/tcp, *:2->1/tcp"),
        ] {
            let ports = options.iter().filter_map(|text| publish(text).ok()).flatten();
            let ports: Vec<_> = ports.map(|publish| PortRecord { publish, via: PublishVia::Nft }).collect();
            assert_eq!(ranges(&ports).join(", "), shown, "{options:?}");
        }
    }
}
