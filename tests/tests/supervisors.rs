//! kontena in the foreground as a child of other people's supervisors, s6 and runit: that it tells when the container is
//! ready and how it ended, takes their signals, leaves nothing of its own, and needs no second command after it was killed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tests::{Background, Host, Running, instruments, launcher, wait_until};

/// A service whose program is `kontena run`, in the foreground, and the supervisor over it.
struct Service<'a> {
    host: &'a Host,
    directory: PathBuf,
    supervisor: Running,
}

/// What the container does: counts its starts and its HUPs in /host, is ready when /host/go is there, and ends with 5 on TERM.
const PAYLOAD: &str = "echo start >> /host/seen; trap 'echo hup >> /host/seen' HUP; trap 'exit 5' TERM; \
                       until [ -e /host/go ]; do sleep 0.02; done; [ ! -e /proc/self/fd/3 ] || echo >&3; \
                       while :; do sleep 0.02; done";

impl<'a> Service<'a> {
    /// Starts it: `supervisor DIRECTORY`, where `files` are beside the program to run.
    fn start(host: &'a Host, supervisor: &str, options: &str, files: &[(&str, &str)]) -> Self {
        let directory = host.directory().join("web");
        fs::create_dir(&directory).unwrap();
        fs::create_dir(directory.join("host")).unwrap();
        let shell = instruments().join("usr/bin/sh");
        let run = format!(
            "exec {} --root {} run --cgroup-parent {} --name web --net none -v {}/host:/host {options} {} sh -c \"$PAYLOAD\"",
            launcher().display(),
            host.state().display(),
            host.cgroup_parent_option(),
            directory.display(),
            host.debian().display(),
        );
        for (name, content) in [&[("run", &*run)], files].concat() {
            let path = directory.join(name);
            let is_program = name != "notification-fd";
            let first = if is_program { format!("#!{}\n", shell.display()) } else { String::new() };
            fs::write(&path, format!("{first}{content}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(if is_program { 0o755 } else { 0o644 })).unwrap();
        }
        let supervisor = host.program(supervisor).env("PAYLOAD", PAYLOAD).arg(&directory).start();
        Self { host, directory, supervisor }
    }

    fn shared(&self, name: &str) -> PathBuf {
        self.directory.join("host").join(name)
    }

    /// Waits until the container has seen this.
    #[track_caller]
    fn wait_until_seen(&self, expected: &str) {
        let seen = || fs::read_to_string(self.shared("seen")).unwrap_or_default();
        wait_until(&format!("{expected:?} in {:?}", seen()), || seen() == expected);
    }

    /// What a program of the supervisor's tells, given its arguments and the service's directory.
    #[track_caller]
    fn does(&self, program: &str, arguments: &[&str]) -> String {
        self.host.program(program).args(arguments).arg(&self.directory).run().ok().trim_end().to_owned()
    }

    /// Asserts that the container runs, or that nothing is left of it.
    #[track_caller]
    fn assert_runs(&self, runs: bool) {
        let job = Background::new(self.host, "web");
        if runs {
            job.wait_until("running");
            return;
        }
        assert_eq!(job.status(), "gone");
        assert!(!job.leaf().exists() && !job.directory().exists(), "{:?}", self.host.list());
    }

    /// Kills the launcher, whose pid is in a file of this name where the supervisor has one.
    #[track_caller]
    fn assert_comes_back_by_itself(&self, kill: impl Fn()) {
        self.wait_until_seen("start\nhup\n");
        kill();
        self.wait_until_seen("start\nhup\nstart\n");
        self.assert_runs(true);
    }
}

#[test]
fn s6_knows_when_it_is_ready_and_how_it_ended() {
    let host = Host::new();
    let service = Service::start(&host, "s6-supervise", "--notify-fd 3", &[("notification-fd", "3")]);
    let is = |what: &str| service.does("s6-svstat", &["-o", what]);
    let wait_until_it_is = |what: &str, value: &str| wait_until(value, || is(what) == value);
    service.wait_until_seen("start\n");
    assert_eq!(is("up,ready"), "true false");
    fs::write(service.shared("go"), "").unwrap();
    wait_until_it_is("up,ready", "true true");
    service.assert_runs(true);
    let _ = service.does("s6-svc", &["-h"]);
    service.assert_comes_back_by_itself(|| drop(service.does("s6-svc", &["-k"])));
    wait_until_it_is("up,ready", "true true");
    let _ = service.does("s6-svc", &["-d"]);
    wait_until_it_is("up,exitcode", "false 5");
    service.assert_runs(false);
    let _ = service.does("s6-svc", &["-x"]);
    let _ = service.supervisor.finish().ok();
}

#[test]
fn runit_starts_signals_and_stops_it() {
    let host = Host::new();
    // runsv gives it the exit status.
    let finish = format!("echo $1 > {}/ended", host.directory().display());
    let service = Service::start(&host, "runsv", "", &[("finish", &finish)]);
    let ended = || fs::read_to_string(host.directory().join("ended")).unwrap_or_default();
    service.wait_until_seen("start\n");
    fs::write(service.shared("go"), "").unwrap();
    assert!(service.does("sv", &["status"]).starts_with("run: "));
    let _ = service.does("sv", &["hup"]);
    service.assert_comes_back_by_itself(|| {
        let pid = fs::read_to_string(Path::new(&service.directory).join("supervise/pid")).unwrap();
        let _ = host.program("kill").args(["-KILL", pid.trim()]).run().ok();
    });
    assert_eq!(ended(), "-1\n", "by a signal");
    let _ = service.does("sv", &["-v", "down"]);
    assert!(service.does("sv", &["status"]).starts_with("down: "));
    assert_eq!(ended(), "5\n");
    service.assert_runs(false);
    let _ = service.does("sv", &["exit"]);
    let _ = service.supervisor.finish().ok();
}
