//! kontena in the foreground as a child of other people's supervisors, s6, runit and Finit: that it tells when the
//! container is ready and how it ended, takes their signals, leaves nothing of its own, and needs no second command
//! after it was killed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tests::{Background, Host, Program, instruments, launcher, leaf_processes, wait_until};

/// A service whose program is `kontena run`, in the foreground.
struct Service<'a> {
    host: &'a Host,
    /// What a supervisor knows it by: the program is `run`.
    directory: PathBuf,
    /// The container's leaf.
    leaf: PathBuf,
}

/// The container counts its starts and its HUPs in /host, is ready once /host/go exists, and exits with 5 on TERM.
const PAYLOAD: &str = "trap 'echo hup >> /host/seen' HUP; trap 'exit 5' TERM; echo start >> /host/seen; \
                       until [ -e /host/go ]; do sleep 0.02; done; [ ! -e /proc/self/fd/3 ] || echo >&3; \
                       while :; do sleep 0.02; done";

impl<'a> Service<'a> {
    /// Where `files` are beside the program to run.
    fn new(host: &'a Host, options: &str, files: &[(&str, &str)]) -> Self {
        let directory = host.directory().join("web");
        fs::create_dir(&directory).unwrap();
        fs::create_dir(directory.join("host")).unwrap();
        let shell = instruments().join("usr/bin/sh");
        let run = format!(
            "exec {} --root {} run {options} --name web --net none -v {}/host:/host {} sh -c \"{PAYLOAD}\"",
            launcher().display(),
            host.state().display(),
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
        Self { host, directory, leaf: host.cgroup_parent().join("web") }
    }

    /// `program ARGUMENTS… DIRECTORY`
    fn program(&self, program: &str, arguments: &[&str]) -> Program<'a> {
        self.host.program(program).args(arguments).arg(&self.directory)
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
        self.program(program, arguments).run().ok().trim_end().to_owned()
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
        assert!(!self.leaf.exists() && !job.directory().exists(), "{:?}", self.host.list());
    }

    /// Asserts that it is started again when its launcher is killed, without a second command.
    #[track_caller]
    fn assert_comes_back_by_itself(&self, kill: impl Fn()) {
        self.wait_until_seen("start\nhup\n");
        kill();
        self.wait_until_seen("start\nhup\nstart\n");
        self.assert_runs(true);
    }
}

#[test]
fn s6_sees_readiness_and_exit_status() {
    let host = Host::new();
    let options = format!("--cgroup-parent {} --notify-fd 3", host.cgroup_parent_option());
    let service = Service::new(&host, &options, &[("notification-fd", "3")]);
    let supervisor = service.program("s6-supervise", &[]).start();
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
    let _ = supervisor.finish().ok();
}

#[test]
fn runit_starts_signals_and_stops_it() {
    let host = Host::new();
    // runsv gives it the exit status.
    let finish = format!("echo $1 > {}/ended", host.directory().display());
    let service =
        Service::new(&host, &format!("--cgroup-parent {}", host.cgroup_parent_option()), &[("finish", &finish)]);
    let supervisor = service.program("runsv", &[]).start();
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
    let _ = supervisor.finish().ok();
}

/// Finit, as PID 1 of a root and of namespaces of its own, below a cgroup of its own. The directory and the pair have
/// the same names there as outside.
const FINIT: &str = r#"
root=$1 directory=$2 pair=$3
echo $$ > "$4/cgroup.procs"
# Or it would mount an empty one.
mount --bind "$root/tmp" "$root/tmp"
mkdir -p "$root$directory" "$root$pair"
mount --rbind "$directory" "$root$directory"
for program in kontena kontena-init; do
    : > "$root$pair/$program"
    mount --bind "$pair/$program" "$root$pair/$program"
done
ln -s / "$root/instruments"
rm -rf "$root/var/run" "$root/etc/finit.d"
ln -s /run "$root/var/run"
: > "$root/etc/fstab"
echo "service [2] kill:20 name:web $directory/web/run -- web" > "$root/etc/finit.conf"
exec unshare --pid --fork --kill-child --cgroup --uts --ipc sh -ec '
    mount -t proc proc "$1/proc"
    mount --bind "$1/proc/sys" "$1/proc/sys"
    mount -o remount,bind,ro "$1/proc/sys"
    # Or it would tell the kernel to be silent.
    echo 7 > "$1/printk"
    mount --bind "$1/printk" "$1/proc/sys/kernel/printk"
    mount -t sysfs sysfs "$1/sys"
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    mount -t tmpfs tmpfs "$1/dev"
    cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$1/dev"
    ln -s null "$1/dev/console"
    exec chroot "$1" /sbin/finit' sh "$root"
"#;

#[test]
fn finit_starts_signals_and_stops_it() {
    let host = Host::new();
    let mut service = Service::new(&host, "--cgroup-parent kontena", &[]);
    let cgroup = host.cgroup_parent().with_file_name("finit");
    fs::create_dir(&cgroup).unwrap();
    service.leaf = cgroup.join("kontena/web");
    let (root, pair) = (host.debian(), launcher());
    let finit = host.program("sh").args(["-ec", FINIT, "sh"]).arg(&root).arg(host.directory());
    let _finit = finit.arg(pair.parent().unwrap()).arg(&cgroup).start();
    let paths = ["/usr/sbin/initctl", "/usr/lib/finit/initctl"];
    let path = host.inside(|| paths.into_iter().find(|path| root.join(&path[1..]).exists())).unwrap();
    let initctl = |words: &[&str]| host.program("chroot").arg(&root).arg(path).args(words).run();
    service.wait_until_seen("start\n");
    fs::write(service.shared("go"), "").unwrap();
    wait_until("it to run", || initctl(&["status", "web"]).stdout.contains("running"));
    let _ = initctl(&["reload", "web"]).ok();
    service.assert_comes_back_by_itself(|| {
        let init = leaf_processes(&service.leaf)[0];
        let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
        let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
        kill(Pid::from_raw(parent.parse().unwrap()), Signal::SIGKILL).unwrap();
    });
    let _ = initctl(&["stop", "web"]).ok();
    wait_until("its end", || initctl(&["status", "web"]).stdout.contains("status=5"));
    service.assert_runs(false);
}
