//! `kontena stats`: what running containers use, once or again and again.

use crate::commands::table::Table;
use crate::config::Format;
use crate::error::Result;
use crate::gather::Gather;
use crate::json::Json;
use crate::print;
use crate::resources::stats::{COLUMNS, Stats};
use crate::state::{ContainerRecord, StateDirectory, not_running};
use crate::sys;

/// Between the two samples of which the first table has a share of CPU time, in microseconds.
const FIRST_INTERVAL: u64 = 200_000;
/// Between two outputs, in microseconds.
const INTERVAL: u64 = 1_000_000;

/// The figures of a container at a moment.
struct Sample {
    name: String,
    /// In microseconds of the monotonic clock.
    at: u64,
    stats: Stats,
}

/// Prints the figures of these containers, or of all; each second if it is a `stream`.
pub fn stats(state: &StateDirectory, names: &[&str], format: Format, stream: bool) -> Result<()> {
    let mut before = Vec::new();
    if format == Format::Table {
        before = sample(state, names)?.0;
        sys::sleep(FIRST_INTERVAL);
    }
    let replaces = format == Format::Table && rustix::termios::isatty(sys::standard_fd(1));
    loop {
        let (now, found) = sample(state, names)?;
        let text = match format {
            Format::Json => Json::document(|json| {
                json.array(|json| now.iter().for_each(|sample| sample.stats.write_json(json, &sample.name, None)));
            }),
            Format::Table => table(&now, &before),
        };
        print::answer(&text)?;
        if !stream || now.is_empty() && found.is_err() {
            return found;
        }
        before = now;
        sys::sleep(INTERVAL);
        if replaces {
            // Go back to the first line of the table, and clear the rest of the screen.
            print::answer(&format!("\x1b[{}A\x1b[J", before.len() + 1))?;
        }
    }
}

fn table(now: &[Sample], before: &[Sample]) -> String {
    let mut table = Table::new(&COLUMNS);
    for Sample { name, at, stats } in now {
        let last = before.iter().find(|last| last.name == *name);
        table.add(stats.row(name, last.map(|last| (&last.stats, at - last.at))));
    }
    table.print()
}

/// Samples the running containers of these names, or all. If one is not running, returns an error beside the others.
fn sample(state: &StateDirectory, names: &[&str]) -> Result<(Vec<Sample>, Result<()>)> {
    let (mut all, mut found) = (Vec::new(), Ok(()));
    let is_running = |container: &ContainerRecord| container.running_init().is_some();
    if names.is_empty() {
        all = state.all()?;
        all.retain(|container| is_running(container));
    }
    for name in names {
        match state.resolve(name).and_then(|name| state.find(&name)) {
            Ok(container) if is_running(&container) => all.push(container),
            container => found = container.and_then(|_| Err(not_running(name))),
        }
    }
    let read = |container: Box<ContainerRecord>| {
        let stats = Stats::read(container.cgroup_path()?);
        Some(Sample { name: container.name, at: sys::monotonic_microseconds(), stats })
    };
    Ok((all.into_iter().filter_map(read).list(), found))
}
