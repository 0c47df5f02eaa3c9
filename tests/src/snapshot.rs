//! All that a container could leave behind, to compare before and after.

use crate::{Host, Program, patience};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What there is, by kind, a line for each thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<&'static str, Vec<String>>);

impl Snapshot {
    /// Of a pretend host.
    pub fn of(host: &Host) -> Self {
        let says = |program: &str, arguments: &[&str]| host.program(program).args(arguments).run().ok();
        let mut all = Self::of_network(says);
        all.insert("mounts", lines(&says("cat", &["/proc/self/mountinfo"])));
        all.insert("cgroups", tree(host.cgroup()));
        all.insert("state", tree(&host.state()));
        let is_of_all = |path: &String| !path.ends_with("/.lock");
        all.insert(
            "registry",
            host.inside(|| tree(Path::new(crate::REGISTRY)).into_iter().filter(is_of_all).collect()),
        );
        // ps(1) itself aside: it is another one each time. A zombie shows up with no command line but its name.
        let processes = "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || tr '\\0' ' ' < $p/cmdline; cat $p/comm; done";
        all.insert("processes", lines(&says("sh", &["-c", processes])));
        Self(all)
    }

    /// Of the machine itself.
    pub fn of_machine() -> Self {
        let says = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let mut all = Self::of_network(says);
        all.insert("mounts", lines(&fs::read_to_string("/proc/self/mountinfo").unwrap()));
        all.insert("cgroups", tree(&crate::host::cgroup2()));
        let in_temp = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        let ours = in_temp.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let ours = ours.filter(|name| name.starts_with(&format!("kontena-test-{}-", std::process::id())));
        all.insert("directories", ours.collect());
        Self(all)
    }

    fn of_network(says: impl Fn(&str, &[&str]) -> String) -> BTreeMap<&'static str, Vec<String>> {
        let mut all = BTreeMap::new();
        // Index and name, and which bridge it is a port of; whether there is a carrier comes and goes.
        let links = lines(&says("ip", &["-o", "link"]));
        let links = links.iter().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let master = words.iter().position(|word| *word == "master").map(|at| words[at + 1]);
            format!("{} {} {}", words[0], words[1], master.unwrap_or("-"))
        });
        all.insert("links", links.collect());
        all.insert("addresses", lines(&says("ip", &["-4", "-o", "addr"])));
        all.insert("routes", lines(&says("ip", &["-4", "route", "show", "table", "all"])));
        all.insert("IPv6 addresses", lines(&says("ip", &["-6", "-o", "addr"])));
        all.insert("IPv6 routes", lines(&says("ip", &["-6", "route", "show", "table", "all"])));
        all.insert("nft ruleset", lines(&says("nft", &["list", "ruleset"])));
        all.insert("forwarding", lines(&says("cat", &["/proc/sys/net/ipv4/ip_forward"])));
        // A link may go while they are read.
        let settings = "cd /proc/sys/net/ipv6/conf && grep . */forwarding */accept_ra 2>/dev/null; true";
        all.insert("IPv6 settings", lines(&says("sh", &["-c", settings])));
        all
    }

    /// The lines of one kind.
    pub fn lines(&self, kind: &str) -> &[String] {
        self.0.get(kind).map_or(&[], Vec::as_slice)
    }

    /// The same, but with the lines of one kind as `other` has them.
    #[must_use]
    pub fn with(mut self, kind: &'static str, other: &Self) -> Self {
        self.0.insert(kind, other.lines(kind).to_vec());
        self
    }

    /// Waits until `now` equals this: the kernel deletes the links of an old network namespace late.
    ///
    /// # Panics
    /// If it does not within ten seconds, with the differences.
    #[track_caller]
    pub fn assert_restored(&self, now: impl Fn() -> Self) {
        let start = Instant::now();
        loop {
            let difference = self.difference(&now());
            if difference.is_empty() {
                return;
            }
            assert!(start.elapsed() < patience() / 6, "not as it was before:\n{difference}");
            sleep(Duration::from_millis(20));
        }
    }

    fn difference(&self, now: &Self) -> String {
        let mut text = String::new();
        for (kind, before) in &self.0 {
            let after = now.lines(kind);
            if before == after {
                continue;
            }
            let more = after.iter().filter(|line| !before.contains(line)).map(|line| format!("  {kind}: + {line}\n"));
            let less = before.iter().filter(|line| !after.contains(line)).map(|line| format!("  {kind}: - {line}\n"));
            text.extend(more.chain(less).take(20));
            text += &format!("  {kind}: {} lines, now {}\n", before.len(), after.len());
        }
        text
    }
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The directories and files below `path`; of a cgroup, its directories.
fn tree(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let is_cgroup = path.join("cgroup.procs").exists();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory || !is_cgroup {
            found.push(entry.path().display().to_string());
        }
        if is_directory {
            found.extend(tree(&entry.path()));
        }
    }
    found.sort_unstable();
    found
}

impl Host {
    /// A program that looks, and changes nothing.
    pub fn says(&self, program: &str, arguments: &[&str]) -> String {
        let program: Program<'_> = self.program(program).args(arguments);
        program.run().ok()
    }
}
