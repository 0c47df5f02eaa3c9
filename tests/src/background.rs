//! A container in the background of a pretend host, seen from there and through kontena's own verbs.

use crate::{Host, Program, leaf_processes, wait_for, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// A container that was started with `run -d`. It goes with its host.
#[derive(Debug)]
pub struct Background<'a> {
    host: &'a Host,
    name: String,
}

/// A line of a log, in the CRI's format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// As it stands there: RFC 3339.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// `F` for a whole line, `P` for a part of one.
    pub tag: String,
    /// The output.
    pub text: String,
}

impl<'a> Background<'a> {
    /// The container of this name, which is there.
    pub fn new(host: &'a Host, name: &str) -> Self {
        Self { host, name: name.into() }
    }

    /// Its leaf cgroup.
    pub fn leaf(&self) -> PathBuf {
        self.host.cgroup_parent().join(&self.name)
    }

    /// The directory of its state.
    pub fn directory(&self) -> PathBuf {
        self.host.state().join(&self.name)
    }

    /// Its journal.
    pub fn journal(&self) -> String {
        fs::read_to_string(self.directory().join("journal")).unwrap_or_default()
    }

    /// Its entry in `kontena list`.
    pub fn seen(&self) -> Option<Value> {
        self.host.list().into_iter().find(|seen| seen["name"] == *self.name)
    }

    /// Its status there: `running`, say, or `gone`.
    pub fn status(&self) -> String {
        self.seen().map_or_else(|| "gone".into(), |seen| seen["status"].as_str().unwrap().into())
    }

    /// Waits until it has this status.
    #[track_caller]
    pub fn wait_until(&self, status: &str) {
        wait_until(&format!("{} to be {status}: {:?}", self.name, self.seen()), || self.status() == status);
    }

    /// Waits until it has ended, and returns its exit status.
    ///
    /// # Panics
    /// If it does not end, or has left none.
    #[track_caller]
    pub fn end(&self) -> i64 {
        self.wait_until("exited");
        self.exit()["status"].as_i64().unwrap()
    }

    /// How it has ended.
    ///
    /// # Panics
    /// If nothing is known of that.
    #[track_caller]
    pub fn exit(&self) -> Value {
        let seen = self.seen().unwrap_or_else(|| panic!("{} is gone", self.name));
        assert!(seen["exit"].is_object(), "{seen}");
        seen["exit"].clone()
    }

    /// Its `kontena inspect`.
    ///
    /// # Panics
    /// If that is no JSON.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        let text = self.host.kontena().args(["inspect", &self.name]).run().ok();
        let mut all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
        all[0].take()
    }

    /// `kontena exec NAME COMMAND…`
    pub fn exec(&self, command: &[&str]) -> Program<'a> {
        self.host.exec(&[], &self.name, command)
    }

    /// `kontena VERB NAME`, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn does(&self, verb: &str) -> String {
        self.host.kontena().args([verb, &self.name]).run().ok()
    }

    /// The pid of its PID 1, as the test sees it.
    ///
    /// # Panics
    /// If it has none.
    #[track_caller]
    pub fn init(&self) -> u32 {
        *self.processes().first().unwrap_or_else(|| panic!("{} does not run: {:?}", self.name, self.seen()))
    }

    /// All processes of its cgroup, the eldest first, as the test sees their pids.
    pub fn processes(&self) -> Vec<u32> {
        leaf_processes(&self.leaf())
    }

    /// Its launcher.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn launcher(&self) -> Pid {
        let is_it = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split('\0').skip_while(|word| *word != "--name").skip(1);
            words.next() == Some(&*self.name)
        };
        let all = self.host.processes();
        let pid = wait_for(&format!("the launcher of {}", self.name), || all.iter().copied().find(is_it));
        Pid::from_raw(pid.try_into().unwrap())
    }

    /// Kills its launcher, and waits until the kernel has killed the container for it.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn kill_launcher(&self) {
        kill(self.launcher(), Signal::SIGKILL).unwrap();
        wait_until("the end of the container", || self.processes().is_empty());
        wait_until("the end of its launcher", || self.status() != "running");
    }

    /// The lines of its log, of all its files, the oldest first.
    ///
    /// # Panics
    /// If one of them is none of a log.
    #[track_caller]
    pub fn log(&self) -> Vec<Line> {
        let mut names: Vec<String> = (1..100).rev().map(|number| format!("log.{number}")).collect();
        names.push("log".into());
        let read = |name: &String| fs::read(self.directory().join(name)).unwrap_or_default();
        let bytes: Vec<u8> = names.iter().flat_map(read).collect();
        assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "a log ends with a whole line");
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| Line::parse(&String::from_utf8_lossy(line))).collect()
    }

    /// The output, without the additions of the log.
    #[track_caller]
    pub fn logged(&self) -> String {
        let text = |line: Line| line.text + if line.tag == "F" { "\n" } else { "" };
        self.log().into_iter().map(text).collect()
    }

    /// Waits until `text` is in its log.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{text:?} in the log of {}", self.name), || {
            fs::read_to_string(self.directory().join("log")).is_ok_and(|log| log.contains(text))
        });
    }
}

impl Line {
    fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let [time, stream, tag, text] = fields[..] else { panic!("no line of a log: {line:?}") };
        let is_time =
            time.len() == 30 && time.ends_with('Z') && time.as_bytes()[10] == b'T' && time.as_bytes()[19] == b'.';
        assert!(is_time && ["stdout", "stderr"].contains(&stream) && ["F", "P"].contains(&tag), "{line:?}");
        Self { time: time.into(), stream: stream.into(), tag: tag.into(), text: text.into() }
    }
}

impl Host {
    /// Starts `kontena run -d` of a script in the Debian rootfs.
    ///
    /// # Panics
    /// If it does not report success.
    #[track_caller]
    pub fn background(&self, name: &str, options: &[&str], script: &str) -> Background<'_> {
        let options = [&["-d", "--name", name], options].concat();
        assert_eq!(self.sh(&options, script).run().ok(), format!("{name}\n"));
        Background::new(self, name)
    }

    /// `kontena exec OPTIONS NAME COMMAND…`
    pub fn exec(&self, options: &[&str], name: &str, command: &[&str]) -> Program<'_> {
        self.kontena().arg("exec").args(options).arg(name).args(command)
    }

    /// The objects of `kontena list`, one for each container.
    ///
    /// # Panics
    /// If that is no JSON.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let text = self.kontena().args(["list", "--format", "json"]).run().ok();
        let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        all.as_array().unwrap_or_else(|| panic!("{text}")).clone()
    }

    /// The processes of this host's containers whose command line begins so; each word ends with a blank.
    pub fn processes_named(&self, begin: &str) -> Vec<u32> {
        let leaves = fs::read_dir(self.cgroup_parent()).into_iter().flatten().flatten();
        let pids = leaves.flat_map(|leaf| leaf_processes(&leaf.path()));
        let line = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        pids.filter(|pid| line(*pid).starts_with(begin)).collect()
    }

    /// All processes of this host, as the test sees their pids, but for those of the containers on it.
    pub fn processes(&self) -> Vec<u32> {
        let namespace = self.pid_namespace();
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_here = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link == namespace);
        pids.filter(is_here).collect()
    }
}
