//! OCI bundles, and the commands that engines use on their containers.

use crate::{Host, Program, Running, intruder, launcher};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A mount for a config.json.
pub fn mount(target: &str, kind: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": kind, "source": kind, "options": options})
}

/// Adds a capability to a config.json.
///
/// # Panics
/// If the config.json has no capabilities.
pub fn permit(config: &mut Value, capability: &str) {
    for set in ["bounding", "permitted", "effective"] {
        config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!(capability));
    }
}

/// A bundle on a host.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// The host.
    pub host: &'a Host,
    name: &'static str,
    /// Its directory.
    pub directory: PathBuf,
}

impl<'a> Bundle<'a> {
    /// A bundle as an engine writes it, whose container `one` runs a script; `change` changes its config.json.
    pub fn new(host: &'a Host, script: &str, change: impl FnOnce(&mut Value)) -> Self {
        Self::named(host, "one", "bundle", script, change)
    }

    /// The same with another name, in another directory of the host.
    pub fn named(
        host: &'a Host,
        name: &'static str,
        directory: &str,
        script: &str,
        change: impl FnOnce(&mut Value),
    ) -> Self {
        let directory = host.directory().join(directory);
        let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_RAW"]);
        let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
        let mut config = json!({
            "ociVersion": "1.0.2-dev",
            "annotations": {"a.b": "c \"d\""},
            "process": {
                "user": {"uid": 0, "gid": 0, "additionalGids": [7]},
                "args": ["sh", "-c", script],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=b c"],
                "cwd": "/",
                "capabilities": {"bounding": capabilities, "permitted": capabilities, "effective": capabilities},
                "noNewPrivileges": true
            },
            "root": {"path": host.debian(), "readonly": true},
            "hostname": "bundled",
            "mounts": [
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "gid=5"]),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"])
            ],
            "linux": {
                "cgroupsPath": format!("{}/{name}", host.cgroup_parent_option()),
                "namespaces": namespaces,
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys"],
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
                }
            }
        });
        change(&mut config);
        host.inside(|| {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("config.json"), config.to_string()).unwrap();
        });
        Self { host, name, directory }
    }

    /// A bundle for [`Self::printed`].
    pub fn printing(host: &'a Host, script: &str, change: impl FnOnce(&mut Value)) -> Self {
        Self::new(host, &format!("echo begin; {script}\necho end; exec sleep 600"), change)
    }

    /// Runs the container until its script has ended, and deletes it and the bundle; returns the script's output.
    ///
    /// # Panics
    /// If any of it fails.
    #[track_caller]
    pub fn printed(&self) -> String {
        let mut engine = self.adopt();
        let _ = self.engine(&["start", self.name]).run().ok();
        engine.wait_for_output("end\n");
        let _ = self.engine(&["delete", "--force", self.name]).run().ok();
        let text = self.reap(engine);
        self.host.inside(|| fs::remove_dir_all(&self.directory)).unwrap();
        text.split("begin\n").nth(1).unwrap().split("end\n").next().unwrap().into()
    }

    /// A kontena command on the host's state directory.
    pub fn kontena(&self, words: &[&str]) -> Program<'a> {
        self.host.program(launcher()).arg("--root").arg(self.host.state()).args(words)
    }

    /// The same, as an engine calls it.
    pub fn engine(&self, words: &[&str]) -> Program<'a> {
        let log = self.log();
        self.kontena(&["--log", &log.display().to_string(), "--log-format", "json"]).args(words)
    }

    /// The file of `--log`.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log.json")
    }

    /// The file of `--pid-file`.
    pub fn pidfile(&self) -> PathBuf {
        self.directory.join("pid")
    }

    /// The pid in the file of `--pid-file`.
    pub fn pid(&self) -> u32 {
        self.host.inside(|| fs::read_to_string(self.pidfile())).unwrap().parse().expect("a number and nothing else")
    }

    /// Creates the container without reading its output.
    pub fn create_in_silence(&self) {
        let quiet = |command: &mut Command| _ = command.stdout(Stdio::null()).stderr(Stdio::null());
        assert_eq!(self.create().with(quiet).run().code, 0);
    }

    /// The command that creates the container.
    pub fn create(&self) -> Program<'a> {
        self.engine(&["create", "--bundle"]).arg(&self.directory).arg("--pid-file").arg(self.pidfile()).arg(self.name)
    }

    /// Creates the container, and adopts its process.
    pub fn adopt(&self) -> Running {
        let program = self.host.program(intruder()).arg("adopt").arg(self.pidfile()).arg(launcher()).arg("--root");
        let program = program.arg(self.host.state()).args(["create", self.name, "--pid-file"]).arg(self.pidfile());
        let mut running = program.arg(format!("--bundle={}", self.directory.display())).start();
        running.wait_for_output("made: Some(0)");
        running
    }

    /// Lets the process be reaped, and waits until everything that [`Self::adopt`] has started has ended. Returns the
    /// output; its end says how the process ended.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn reap(&self, engine: Running) -> String {
        self.host.inside(|| fs::write(self.directory.join("pid.reap"), "")).unwrap();
        engine.finish().stdout
    }

    /// The output of `state`.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.engine(&["state", self.name]).run().ok()).unwrap()
    }

    /// The status in the output of `state`.
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().into()
    }
}
