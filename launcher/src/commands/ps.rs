//! `kontena ps`: the processes of containers, as /proc has them; proc_pid_status(5), proc_pid_stat(5).

use crate::commands::for_each_container;
use crate::commands::table::{Table, shorten};
use crate::config::Format;
use crate::error::{Error, Result};
use crate::file::{self, CWD};
use crate::gather::Gather;
use crate::json::Json;
use crate::print;
use crate::spawn::join;
use crate::state::{StateDirectory, not_running};
use crate::text::{from_bytes, replace, split_last};

/// USER_HZ: a second of /proc has so many ticks on every architecture that there is a kontena for.
const TICKS: u64 = 100;

/// Prints the processes of these containers.
pub fn ps(state: &StateDirectory, names: &[&str], format: Format) -> Result<()> {
    let mut all = Vec::new();
    let found = for_each_container(state, names, &mut |name| {
        let container = state.find(name)?;
        container.running_init().ok_or_else(|| not_running(name))?;
        let no_cgroup = || Error::usage(format_args!("{name} has no cgroup of its own"), "");
        let pids = join::processes(container.cgroup_path().ok_or_else(no_cgroup)?);
        pids.into_iter().filter_map(|pid| Process::read(name, pid)).for_each(|process| all.push(process));
        Ok(())
    });
    let text = match format {
        Format::Json => Json::document(|json| {
            json.array(|json| all.iter().for_each(|process| json.object(|json| process.write_json(json))));
        }),
        Format::Table => {
            const HEADINGS: [&str; 9] =
                ["CONTAINER", "PID", "INSIDE", "PARENT", "USER", "STATE", "MEMORY", "TIME", "COMMAND"];
            let mut table = Table::new(&HEADINGS);
            all.into_iter().for_each(|process| table.add(process.into_row()));
            table.print()
        }
    };
    print::answer(&text).and(found)
}

/// A process of a container.
struct Process {
    container: String,
    pid: u32,
    /// Its pid in the container.
    inside: String,
    parent: String,
    uid: String,
    state: String,
    /// In kB.
    memory: u64,
    /// Of CPU time.
    ticks: u64,
    command: String,
}

impl Process {
    fn read(container: &str, pid: u32) -> Option<Self> {
        let text = |file| from_bytes(&file::read(CWD, &format!("/proc/{pid}/{file}")).unwrap_or_default());
        Self::parse(container, pid, &text("status"), &text("stat"), &text("cmdline"))
    }

    fn parse(container: &str, pid: u32, status: &str, stat: &str, cmdline: &str) -> Option<Self> {
        let field = |key: &str| -> Option<&str> {
            status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim_ascii)
        };
        // Behind the name, which may have anything in it: state is the third field, and times are the 14th and 15th.
        let times: Vec<u64> = split_last(stat, b')')?.1.split_ascii_whitespace().map(|n| n.parse().unwrap_or(0)).list();
        let command = replace(cmdline, '\0', " ").trim_ascii_end().to_owned();
        let name = field("Name")?;
        Some(Self {
            container: container.into(),
            pid,
            inside: field("NSpid").map(|pids| split_last(pids, b'\t').map_or(pids, |(_, last)| last))?.into(),
            parent: field("PPid")?.into(),
            uid: field("Uid")?.split('\t').next()?.into(),
            state: field("State")?.split(' ').next()?.into(),
            memory: field("VmRSS").and_then(|memory| memory.split(' ').next()?.parse().ok()).unwrap_or(0),
            ticks: times.get(11)? + times.get(12)?,
            command: if command.is_empty() { format!("[{name}]") } else { command },
        })
    }

    fn into_row(self) -> Vec<String> {
        let Self { container, pid, inside, parent, uid, state, memory, ticks, command } = self;
        let hundredths = ticks * 100 / TICKS;
        let time = format!("{}:{:02}.{:02}", hundredths / 6000, hundredths / 100 % 60, hundredths % 100);
        let (pid, memory) = (pid.to_string(), format!("{memory} kB"));
        vec![container, pid, inside, parent, uid, state, memory, time, shorten(&command, 80)]
    }

    fn write_json(&self, json: &mut Json) {
        json.text("container", &self.container).number("pid", self.pid);
        for (key, number) in [("pid_inside", &self.inside), ("parent", &self.parent), ("uid", &self.uid)] {
            json.key(key).literal(number);
        }
        json.text("state", &self.state).number("memory_kb", self.memory);
        json.number("cpu_ms", self.ticks * 1000 / TICKS).text("command", &self.command);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tnginx\nState:\tS (sleeping)\nPid:\t70\nPPid:\t69\nUid:\t100\t101\t102\t103\n\
                          VmRSS:\t    1234 kB\nNSpid:\t70\t7\n";
    const STAT: &str = "70 (a) b) S 69 70 70 0 -1 4194560 1 2 3 4 250 361 7 8 20 0 1 0 5 6 7";

    #[test]
    fn a_process_is_read_from_proc() {
        let process = Process::parse("web", 70, STATUS, STAT, "nginx:\0master\0").unwrap();
        let json = Json::document(|json| json.object(|json| process.write_json(json)));
        let expected = r#"{"container":"web","pid":70,"pid_inside":7,"parent":69,"uid":100,"state":"S","#.to_owned()
            + r#""memory_kb":1234,"cpu_ms":6110,"command":"nginx: master"}"#;
        assert_eq!(json, expected + "\n");
        let row = process.into_row();
        assert_eq!(row, ["web", "70", "7", "69", "100", "S", "1234 kB", "0:06.11", "nginx: master"]);
    }

    #[test]
    fn a_process_without_a_command_line_shows_its_name() {
        assert_eq!(Process::parse("web", 70, STATUS, STAT, "").unwrap().command, "[nginx]");
    }

    #[test]
    fn a_process_that_has_just_ended_is_left_out() {
        assert!(Process::parse("web", 70, "", "", "").is_none());
        assert!(Process::parse("web", 70, STATUS, "", "").is_none());
    }
}
