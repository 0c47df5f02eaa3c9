//! The table of options, and what each option makes of good and bad values. Needs neither root nor a container.

#[cfg(feature = "oci")]
mod engines;
mod image;
mod plan;

use super::given::Given;
use super::options::{Kind, Takes, verb};
use super::refused::{REFUSED, reason};
use super::table::{TOPICS, VERBS};
use super::{Command, help, kept, parse};
use crate::commands::{Action, Command as Existing};
use crate::config::lifecycle::{Again, OnFailure, Ready, Restart};
use crate::config::security::Security;
use crate::config::{Config, Overlay};
use crate::error::Error;
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// Option, good values, bad values. For a switch, the bad values are what stands behind `=`.
const VALUES: &[(&str, &[&str], &[&str])] = &[
    ("detach", &[""], &["yes"]),
    ("interactive", &[""], &["no"]),
    ("tty", &[""], &["1"]),
    ("rm", &[""], &["x"]),
    ("read-only", &[""], &["x"]),
    ("wait-ready", &[""], &["x"]),
    ("sdnotify", &[""], &["x"]),
    ("stats", &[""], &["x"]),
    ("quiet", &[""], &["x"]),
    ("follow", &[""], &["x"]),
    ("timestamps", &[""], &["x"]),
    ("stream", &[""], &["x"]),
    ("all", &[""], &["x"]),
    ("attach", &[""], &["x"]),
    ("replace", &[""], &["x"]),
    ("force", &[""], &["x"]),
    ("no-stdin", &[""], &["x"]),
    ("help", &[""], &["x"]),
    ("name", &["web", "a.b_c+d-1", "0"], &["", "-a", "a/b", ".", "a b"]),
    (
        "publish",
        &["80", "8080:80", "127.0.0.1::80/udp", "[::1]:8080:80", "80-89:80-89"],
        &["", "0", "80:", "80/sctp", "1:2:3"],
    ),
    (
        "volume",
        &["/a:/b", "/a:/b:ro,nosuid,rslave,idmap", "/b", "data:/b:nocopy"],
        &["", "a", "/a:b", "/a:/", "/a:/b/..", ":/b", "/a:/b:rx", "a+b:/b", "/a:/b:nocopy"],
    ),
    ("volumes", &[""], &["x"]),
    ("publish-all", &[""], &["x"]),
    ("expose", &["80", "80/tcp", "8000-8009/udp"], &["", "0", "80:80", "80/sctp", "9-8", "127.0.0.1:80", "a"]),
    ("no-healthcheck", &[""], &["x"]),
    ("verify", &["0123456789abcdefABCDEF789abcdef00123456789abcdef0123456789abcdef"], &["", "0123", "x"]),
    ("entrypoint", &["", "/bin/a", r#"["a", "b"]"#], &[]),
    ("label", &["a", "a=b", "a=b=c"], &["", "=b"]),
    ("label-file", &["/nosuch"], &[]),
    ("filter", &["label=a=b", "name=^web$", "status=exited"], &["", "web", "id=1", "status=dead"]),
    ("preserve-fds", &["0", "2"], &["", "-1", "65536"]),
    ("pidfile", &["a", "/run/a.pid"], &["", "/run/", ".."]),
    ("env", &["A=b", "A=", "A=b=c", "A"], &["", "=b"]),
    ("env-file", &["/nosuch"], &[]),
    ("user", &["root", "0:0", "1000"], &[""]),
    ("workdir", &["/", "/a/b"], &["", "a"]),
    ("format", &["table", "json"], &["", "xml", "JSON"]),
    ("tail", &["0", "20", "all"], &["", "-1", "x"]),
    (
        "since",
        &["10m", "2026-01-31T13:00:00Z", "2026-01-31T15:00:00+02:00", "1769864400.5"],
        &["", "10", "2026-13-31", "yesterday"],
    ),
    ("time", &["0", "30"], &["", "-1", "1s", "4294967296"]),
    (
        "signal",
        &["TERM", "sigterm", "15", "0", "IOT", "RTMIN", "RTMIN+3", "RTMAX-1"],
        &["", "33", "65", "RTMAX-64", "NOSUCH"],
    ),
    ("detach-keys", &["", "ctrl-p,ctrl-q", "a", "ctrl-@"], &["ctrl", "ctrl-", "ab", "a,"]),
    (
        "net",
        &[
            "bridge",
            "none",
            "host",
            "container:web",
            "ns:/run/netns/a",
            "bridge=br0,subnet=10.1.0.0/24",
            "macvlan=eth0",
        ],
        &[
            "",
            "nosuch",
            "container:",
            "ns:",
            "bridge=",
            "bridge=br0,mtu=9",
            "bridge=br0,gateway=10.1.0.1",
            "macvlan=a/b",
        ],
    ),
    ("hostname", &["web", "a.example.org"], &["", "a b"]),
    ("ip", &["10.77.0.7", "192.0.2.7/24"], &["", "10.77.0", "::1", "10.77.0.7/33"]),
    ("ip6", &["fd00::7", "fd00::7/64"], &["", "10.77.0.7", "fd00::7/129"]),
    ("mac-address", &["02:42:ac:11:00:02"], &["", "02:42", "00:00:00:00:00:00", "01:00:00:00:00:00", "2:42:ac:11:0:2"]),
    ("publish-via", &["nft", "relay"], &["", "iptables"]),
    ("dns", &["192.0.2.53", "fd00::53"], &["", "localhost"]),
    ("dns-search", &["example.org"], &["", "a b"]),
    ("add-host", &["db:192.0.2.7", "db:fd00::7", "host:host-gateway"], &["", "db", "db:", ":192.0.2.7", "db:x"]),
    ("overlay", &["", "/a"], &[]),
    ("init", &["", "true", "false"], &["no", "0"]),
    ("systemd", &["", "true", "false", "always"], &["no", "0"]),
    (
        "mount",
        &["type=bind,source=/a,target=/b,ro", "type=tmpfs,target=/b,tmpfs-size=1m", "type=volume,src=data,dst=/b"],
        &["", "type=bind,target=/b", "source=/a,target=/b"],
    ),
    ("tmpfs", &["/a", "/a:size=64m,mode=1777,ro,exec"], &["", "a", "/", "/a:size=0", "/a:mode=9", "/a:idmap"]),
    ("shm-size", &["1", "64m", "1GiB"], &["", "0", "-1", "1q"]),
    ("device", &["/dev/a", "/dev/a:/dev/b:rw", "/dev/a:r"], &["", "/dev/a:b:rw", "/dev/a:x", "/dev/a:/b:/c:d"]),
    (
        "restart",
        &["no", "on-failure", "on-failure:3", "always", "unless-stopped"],
        &["", "yes", "on-failure:", "always:1", "no:"],
    ),
    ("stop-signal", &["TERM", "1"], &["", "0", "STOPIT"]),
    ("stop-timeout", &["0", "10"], &["", "soon"]),
    (
        "health-cmd",
        &["true", "[ -e /a ]", r#"["/bin/a", "b\"\n"]"#],
        &["", "[", r#"["a"#, r#"["a",]"#, r#"["\u0041"]"#],
    ),
    ("health-interval", &["1ms", "1m30s", "2h"], &["", "5", "0s", "1d", "s"]),
    ("health-timeout", &["5s"], &["", "5"]),
    ("health-retries", &["1", "100"], &["", "0", "-1"]),
    ("health-start-period", &["0", "0s", "5s"], &["", "5"]),
    ("health-on-failure", &["none", "kill", "restart"], &["", "cry"]),
    ("notify-fd", &["3", "255"], &["", "2", "256", "x"]),
    ("log-driver", &["cri", "none"], &["", "syslog"]),
    (
        "log-opt",
        &["max-size=4k", "max-size=-1", "max-file=100"],
        &["", "max-size=1", "max-file=0", "max-file=101", "compress=true"],
    ),
    (
        "userns",
        &["host", "auto", "keep-id", "map=0:100000:65536,65536:0:1"],
        &["", "map=", "map=0:1", "map=0:1:0", "map=0:4294967295:2"],
    ),
    ("ipc", &["host", "private", "container:a"], &["", "container:"]),
    ("uts", &["host", "private"], &["", "Host"]),
    ("cap-add", &["NET_RAW", "cap_net_raw", "all", "NET_RAW,SYS_TIME"], &["", "NET_RAW,", "NOSUCH", "13"]),
    ("cap-drop", &["NET_RAW", "ALL"], &["", "NOSUCH"]),
    ("privileged", &[""], &["x"]),
    (
        "security-opt",
        &["no-new-privileges", "no-new-privileges=false", "no-new-privileges:true", "unmask=ALL", "label=disable"],
        &["", "seccomp=", "unmask=/proc/keys"],
    ),
    ("seccomp", &["default", "unconfined"], &[""]),
    ("group-add", &["audio", "29"], &[""]),
    ("ulimit", &["nofile=1024:4096", "core=-1", "core=unlimited"], &["", "nofile", "nofile=2:1", "NOFILE=1"]),
    ("umask", &["0", "0022", "777"], &["", "8", "1000", "+22"]),
    ("oom-score-adj", &["-1000", "0", "1000"], &["", "1001", "x"]),
    ("sysctl", &["net.core.somaxconn=1024", "kernel.shmmax=1"], &["", "kernel.shmmax", "vm.swappiness=1", "net..x=1"]),
    ("memory", &["1", "64m"], &["", "0", "-1", "x"]),
    ("memory-swap", &["64m", "1g", "-1"], &["", "1m", "x"]),
    ("memory-reservation", &["0", "64m"], &["", "x"]),
    ("pids-limit", &["1", "20", "-1", "0"], &["", "-2", "x"]),
    ("cpus", &["0.01", "1.5", ".25", "2"], &["", "0", "0.001", "1e3", "-1"]),
    ("cpu-quota", &["1000", "50000", "-1"], &["", "999", "x"]),
    ("cpu-period", &["1000", "1000000"], &["", "999", "1000001"]),
    ("cpu-shares", &["2", "262144"], &["", "1", "262145"]),
    ("cpuset-cpus", &["0", "0-2,7"], &["", "1-", "2-1", "0,"]),
    ("cpuset-mems", &["0"], &["", "x"]),
    ("blkio-weight", &["10", "1000"], &["", "9", "1001"]),
    ("blkio-weight-device", &["/dev/sda:500"], &["", "sda:500", "/dev/sda", "/dev/sda:9"]),
    ("device-read-bps", &["/dev/sda:1m"], &["", "/dev/sda:0", "sda:1m"]),
    ("device-write-bps", &["/dev/sda:1"], &["", "/dev/sda:"]),
    ("device-read-iops", &["/dev/sda:100"], &["", "/dev/sda"]),
    ("device-write-iops", &["/dev/sda:100"], &["", ":100"]),
    (
        "cgroup-conf",
        &["memory.high=48m", "cgroup.max.depth=1"],
        &["", "memory.high", "memory.high=", "cgroup.procs=1", "/a=1"],
    ),
    ("cgroup-parent", &["/a/b", "a", ".", "../a"], &["", "/", "/../a", "a//b"]),
    ("bundle", &["/a", "."], &[]),
    ("process", &["/a"], &[]),
    ("pid-file", &["a", "/run/a.pid"], &["", "/run/", ".."]),
    ("console-socket", &["/a"], &[]),
    ("no-pivot", &[""], &["x"]),
    ("no-new-keyring", &[""], &["x"]),
    ("no-subreaper", &[""], &["x"]),
    ("keep", &[""], &["x"]),
    ("rootless", &[""], &["x"]),
    ("resources", &["-", "/a"], &[]),
    ("interval", &["5s", "1m30s"], &["", "5"]),
    ("preserve-fds", &["0"], &["", "1", "x"]),
    ("cgroup-mount", &["/sys/fs/cgroup"], &["", "/", "sys/fs/cgroup"]),
];

/// What must be beside an option for it to make sense.
const BESIDE: &[(&str, &str)] = &[("memory-swap", "--memory=64m"), ("cpu-period", "--cpu-quota=1000")];

fn words(words: &[&str]) -> &'static [OsString] {
    words.iter().map(OsString::from).collect::<Vec<_>>().leak()
}

/// Reads and sets, but does not judge what one option says of another.
fn set(name: &str, args: &[&str]) -> Result<&'static mut Given, String> {
    let args = words(args);
    let entry = verb(name).expect("a verb");
    let given = Box::leak(Box::new(Given::new()));
    let line = entry.read(args).and_then(|line| Box::leak(Box::new(line)).set(given));
    line.map(|()| given).map_err(|error| error.to_string())
}

fn command(args: &[&str]) -> Result<Command, String> {
    let args = words(&[&["kontena"], args].concat());
    parse(args).map(|(_, command)| command).map_err(|error| error.to_string())
}

fn run(args: &[&str]) -> Result<&'static Config, String> {
    match command(&[&["run"], args].concat())? {
        Command::Run(config) => Ok(config),
        _ => panic!("not a run"),
    }
}

#[test]
fn every_option_takes_good_values_and_refuses_bad_ones() {
    for entry in VERBS {
        for option in entry.options() {
            let name = option.name();
            let row = VALUES.iter().find(|row| row.0 == name);
            let (_, good, bad) = row.unwrap_or_else(|| panic!("--{name} has no values in this test"));
            let beside = BESIDE.iter().find(|(of, _)| *of == name).map_or("--help", |(_, beside)| beside);
            for text in *good {
                let arg = if option.kind == Kind::Switch { format!("--{name}") } else { format!("--{name}={text}") };
                let given = set(entry.info.name, &[beside, &arg]);
                assert!(given.is_ok(), "{} {arg}: {:?}", entry.info.name, given.err());
            }
            for text in *bad {
                let arg = format!("--{name}={text}");
                let line = set(entry.info.name, &[beside, &arg]).err().unwrap_or_else(|| panic!("{arg} is taken"));
                assert!(line.starts_with(&format!("--{name}")) && line.contains(": "), "{arg}: {line}");
            }
        }
    }
}

#[test]
fn every_option_has_a_name_of_its_own_in_each_of_its_verbs() {
    for entry in VERBS {
        let (mut names, mut letters) = (HashSet::new(), HashSet::new());
        for option in entry.options() {
            assert!(names.insert(option.name()), "{} --{}", entry.info.name, option.name());
            assert!(option.short == 0 || letters.insert(option.short), "{} -{}", entry.info.name, option.short);
        }
    }
    let names: HashSet<&str> = VERBS.iter().map(|entry| entry.info.name).collect();
    assert_eq!(names.len(), VERBS.len());
    assert!(VERBS.iter().all(|entry| !names.contains(entry.alias())));
}

#[test]
fn every_option_has_verbs_a_topic_and_help() {
    let documentation = include_str!("../../../docs/options.md");
    for topic in TOPICS {
        assert!(!topic.options.is_empty() && topic.title.starts_with(char::is_uppercase));
        for option in topic.options {
            let name = option.name();
            assert!(option.verbs != 0 && option.text.split('\0').count() == 3, "--{name}");
            assert!(
                !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'-' || c == b'6'),
                "--{name}"
            );
            assert_eq!(option.value().is_empty(), option.kind == Kind::Switch, "--{name}");
            assert!(option.help().len() > 8 && !option.help().ends_with('.'), "--{name}");
            let is_there = |end| documentation.contains(&format!("--{name}{end}"));
            assert!(["`", " ", "["].into_iter().any(is_there), "--{name} is not in docs/options.md");
        }
    }
    for entry in VERBS {
        assert!(entry.example().starts_with(&format!("kontena {} ", entry.info.name)) || entry.takes == Takes::Nothing);
        assert!(!entry.info.description.ends_with('.') && entry.text.split('\0').count() == 4, "{}", entry.info.name);
        assert_eq!(entry.takes == Takes::Nothing, entry.usage().is_empty());
    }
}

#[test]
fn help_has_one_usage_line_and_fits_a_terminal() {
    for entry in VERBS {
        let text = help::of(entry);
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("Usage: kontena {} [OPTIONS]", entry.info.name)), "{first}");
        assert!(text.lines().all(|line| line.chars().count() <= 96 && line == line.trim_end()), "{text}");
        assert!(text.ends_with(&format!("\nExamples:\n  {}\n", entry.example())), "{text}");
        for option in entry.options() {
            assert!(text.contains(&format!("--{}", option.name())), "{text}");
        }
    }
    for args in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["--help", "run"],
        &["help", "ls"],
        &["run", "--net", "nosuch", "--help"],
    ] {
        assert!(matches!(command(args), Ok(Command::Print(text)) if text.starts_with("Usage: kontena")), "{args:?}");
    }
}

#[test]
fn options_are_written_in_many_ways() {
    for args in [
        &["-dit", "-p8080:80", "--name", "a", "ROOTFS", "sh", "-c", "x"][..],
        &["-d", "-i", "-t", "-p", "8080:80", "--name=a", "--", "ROOTFS", "sh", "-c", "x"],
        &["--name", "a", "-itdp", "8080:80", "ROOTFS", "sh", "-c", "x"],
        &["--publish=8080:80", "--tty", "--tty", "-di", "--name=a", "ROOTFS", "sh", "-c", "x"],
    ] {
        let config = run(args).unwrap_or_else(|line| panic!("{args:?}: {line}"));
        assert!(config.life.detach && config.life.interactive && config.life.tty, "{args:?}");
        assert_eq!((config.name, config.publish.len()), ("a", 1), "{args:?}");
        assert_eq!((config.rootfs, &*config.command), (c"ROOTFS", &[c"sh", c"-c", c"x"][..]));
    }
    assert_eq!(run(&["--overlay", "ROOTFS"]).ok().map(|config| &config.overlay), Some(&Overlay::Memory));
    // The entrypoint comes before COMMAND, or alone.
    let command_of = |args: &[&str]| run(args).map(|config| config.command.clone());
    assert_eq!(command_of(&["--entrypoint=a", "ROOTFS", "b"]), Ok(vec![c"a", c"b"]));
    assert_eq!(command_of(&["--entrypoint=a", "ROOTFS"]), Ok(vec![c"a"]));
    assert_eq!(command_of(&["--entrypoint", "", "ROOTFS"]), Ok(vec![c"/bin/sh"]));
    assert_eq!(run(&["-hbox", "ROOTFS"]).map(|config| config.hostname), Ok(c"box"));
    let directory = Overlay::Directory(c"/a");
    assert_eq!(run(&["--overlay=/a", "ROOTFS"]).ok().map(|config| &config.overlay), Some(&directory));
    // What stands behind an option is its value, whatever it looks like.
    assert_eq!(run(&["--oom-score-adj", "-5", "ROOTFS"]).ok().map(|config| config.oom_score_adj), Some(Some(-5)));
    // Where names are wanted, options may stand among them.
    let Ok(Command::Existing(Existing::Each(names, Action::Stop(Some(3))))) =
        command(&["stop", "a", "-t", "3", "b", "--", "-c"])
    else {
        panic!("not a stop");
    };
    assert_eq!(names, ["a", "b", "-c"]);
    assert!(matches!(
        command(&["rm", "a", "-f"]),
        Ok(Command::Existing(Existing::Each(_, Action::Delete { force: true, volumes: false })))
    ));
    assert!(matches!(command(&["--root", "/x", "ls", "-q"]), Ok(Command::Existing(Existing::List(None, [])))));
    let bytes = OsString::from_vec(b"/a\xff".to_vec());
    let with_bytes = |args: &[&str]| [words(args), std::slice::from_ref(&bytes)].concat().leak();
    let parsed = parse(with_bytes(&["kontena", "run"]));
    assert!(matches!(parsed, Ok((_, Command::Run(config))) if config.rootfs.to_bytes() == b"/a\xff"));
    let parsed = parse([with_bytes(&["kontena", "run", "--name"]), words(&["/a"])].concat().leak());
    assert!(parsed.is_err_and(|error: Error| error.to_string().contains("not UTF-8")));
}

#[test]
fn mistakes_are_told_in_one_line_with_what_to_do() {
    let unknown_command = |name: &str| {
        let names: Vec<_> = VERBS.iter().map(|verb| verb.info.name).collect();
        format!("unknown command \"{name}\": give one of {}", names.join(", "))
    };
    for (text, nearest) in
        [("rnu", "run, create"), ("lists", "list, run"), ("exce", "exec, run"), ("volumes", "volume, run")]
    {
        let line = command(&[text, "x"]).err().unwrap_or_default();
        assert!(line.starts_with(&format!("unknown command \"{text}\": give one of {nearest}, ")), "{line}");
    }
    for (args, line) in [
        (&["--nosuch"][..], "unknown option --nosuch: options of a command stand behind it; see kontena --help"),
        (&["-p", "80", "run"], "unknown option -p: options of a command stand behind it; see kontena --help"),
        (&["--env=A=secret", "run"], "unknown option --env: options of a command stand behind it; see kontena --help"),
        (&["help", "nosuch"], &unknown_command("nosuch")),
        (&["--root", "/x", ""], &unknown_command("")),
        (&["run", "--root", "/x", "x"], "--root behind run: it stands before the command: kontena --root DIR run"),
        (&["ls", "--root=/x"], "--root behind list: it stands before the command: kontena --root DIR list"),
        (&["run", "--version"], "--version behind run: it stands before the command: kontena --version run"),
        (&[], "no command given: start with kontena run ROOTFS; see kontena --help"),
        (&["--root"], "No value provided for option '--root': see kontena --help"),
        (&["--root=", "list"], "--root \"\": use a directory"),
        (&["--volumepath", "v", "run", "x"], "--volumepath v: use an absolute path, without control characters"),
        (
            &["--volumepath=/a\nb", "run", "x"],
            "--volumepath /a\\u{a}b: use an absolute path, without control characters",
        ),
        (
            &["run", "--volumepath=/v"],
            "--volumepath behind run: it stands before the command: kontena --volumepath DIR run",
        ),
        (&["volume"], "no create, ls, inspect, rm or prune given: see kontena volume --help"),
        (&["volume", "fill"], "unknown command volume fill: see kontena volume --help"),
        (&["volume", "ls", "x"], "unexpected argument x: see kontena volume --help"),
        (&["volume", "rm"], "no volume given: see kontena volume --help"),
        (&["volume", "rm", "../x"], &format!("volume \"../x\": {}", crate::config::volumes::NAME)),
        (&["run"], "no rootfs given: see kontena run --help"),
        (&["run", "--nosuch", "x"], "unknown option --nosuch: see kontena run --help"),
        (&["run", "-dx", "x"], "unknown option -x: see kontena run --help"),
        (&["run", "-é", "x"], "unknown option -é: see kontena run --help"),
        (&["run", "--name"], "--name needs a value: --name NAME: see kontena run --help"),
        (&["run", "-h"], "-h needs a value: -h NAME: see kontena run --help"),
        (&["run", "-ip"], "-p needs a value: -p PORTS: see kontena run --help"),
        (&["run", "--tty=no", "x"], "--tty=no: --tty takes no value"),
        (&["run", "--name=a", "--name=b", "x"], "--name is given twice: see kontena run --help"),
        (&["run", "-e", "=secret", "x"], "--env \"=\": no name before the =: use KEY=VALUE or KEY"),
        (&["run", "--format", "json", "x"], "--format: it needs --stats"),
        (&["run", "--health-retries", "3", "x"], "--health-retries: it needs --health-cmd"),
        (&["run", "--wait-ready", "x"], "--wait-ready: it needs -d"),
        (&["exec", "web"], "no NAME and COMMAND given: see kontena exec --help"),
        (&["ls", "x"], "unexpected argument x: see kontena list --help"),
        (&["logs", "a", "b"], "unexpected argument b: see kontena logs --help"),
        (&["stop"], "no container given: see kontena list"),
        (&["update", "web"], "no limit given: see kontena update --help"),
    ] {
        assert_eq!(command(args).err().as_deref(), Some(line), "{args:?}");
    }
}

#[test]
fn options_are_judged_together_when_all_are_known() {
    let limits = |args: &[&str]| {
        let given = set("update", args)?;
        Ok(given.limits.found.iter().map(|limit| format!("{} {}", limit.file, limit.value)).collect::<Vec<_>>())
            as Result<Vec<String>, String>
    };
    // In whatever order they stand.
    let swap = ["memory.swap.max 67108864", "memory.max 67108864"];
    assert_eq!(limits(&["-m", "64m"]).as_deref(), Ok(&swap.map(String::from)[..]));
    let swap = ["memory.swap.max max", "memory.max 67108864"].map(String::from);
    assert_eq!(limits(&["--memory-swap=-1", "-m64m"]).as_deref(), Ok(&swap[..]));
    assert_eq!(limits(&["--cpu-period=20000", "--cpu-quota=50000"]), Ok(vec!["cpu.max 50000 20000".into()]));
    for args in [&["--memory-swap=64m"][..], &["--cpu-period=20000"], &["--cpus=1", "--cpu-period=20000"]] {
        assert!(limits(args).is_err(), "{args:?}");
    }
    assert!(limits(&["--cpu-quota=50000", "--cpus=1"]).is_err_and(|line| line.contains("--cpu-quota")));

    assert!(run(&["--sysctl", "net.core.somaxconn=1", "--net", "host", "x"]).is_err_and(|line| line.contains("--net")));
    for args in [["--sysctl=kernel.shmmax=1", "--ipc=host"], ["--sysctl=kernel/domainname=a", "--uts=host"]] {
        let refused = run(&[&args[..], &["x"]].concat());
        assert!(refused.is_err_and(|line| line.contains("shares that namespace")), "{args:?}");
    }
    assert!(run(&["--sysctl=kernel.shmmax=1", "--sysctl=net.core.somaxconn=1", "--uts=host", "x"]).is_ok());
    assert!(run(&["--hostname=a", "--uts=host", "x"]).is_err_and(|line| line.starts_with("--hostname: with --uts")));
    assert!(run(&["--sysctl", "kernel.shmmax=1", "--network", "host", "x"]).is_ok_and(|config| config.net.is_some()));
    for (first, second, port) in [
        ("80:80", "80:81", "*:80/tcp"),
        ("80-89:80-89", "89-90:1-2", "*:89/tcp"),
        ("127.0.0.1:80:80", "0.0.0.0:80:80", "127.0.0.1:80/tcp"),
        ("[::1]:80:80/udp", "80:80/udp", "[::1]:80/udp"),
    ] {
        let line = run(&["-p", first, "-p", second, "x"]).err();
        let wanted = format!("two --publish of {port}: use another port of the host for one of them");
        assert_eq!(line, Some(wanted), "{first} {second}");
    }
    for (first, second) in [
        ("80:80", "80:80/udp"),
        ("80", "80"),
        ("127.0.0.1:80:80", "127.0.0.2:80:80"),
        ("0.0.0.0:80:80", "[::]:80:80"),
        ("80-89:80-89", "90:90"),
    ] {
        assert!(run(&["-p", first, "-p", second, "x"]).is_ok(), "{first} {second}");
    }
    let twice = run(&["--net=none", "--network=none", "x"]);
    assert!(twice.is_err_and(|line| line.contains("--net is given twice")));
    assert!(command(&["exec", "--network", "x"]).is_err_and(|line| line.contains("unknown option --network")));
    let ready =
        |args: &[&str]| run(&[args, &["-d", "--wait-ready", "x"]].concat()).map(|config| config.life.wait_ready);
    assert_eq!(ready(&["-p80"]), Ok(Some(Ready::Port)));
    assert_eq!(ready(&["--sdnotify", "-p80"]), Ok(Some(Ready::Notify)));
    assert_eq!(ready(&["--notify-fd=3", "--sdnotify"]), Ok(Some(Ready::Fd)));
    assert!(ready(&["-p80/udp"]).is_err());
}

#[test]
fn volumes_have_targets_of_their_own() {
    for volumes in [
        &["-va1:/v", "-v/b:/v"][..],
        &["-va1:/v", "--tmpfs=/v/", "-v/c:/w"],
        &["--mount=type=tmpfs,target=//v", "--tmpfs=/v/."],
        &["--mount=type=bind,source=/a,target=/v", "-v/v"],
    ] {
        let line = run(&[volumes, &["x"]].concat()).err().unwrap_or_default();
        assert!(line.starts_with("two volumes on /") && line.contains("--tmpfs"), "{volumes:?}: {line}");
    }
    let config = run(&["-v/a:/b/c", "--tmpfs=/b", "--mount=type=tmpfs,target=/b/c/d", "x"])
        .unwrap_or_else(|line| panic!("{line}"));
    let targets: Vec<_> = config.volumes.iter().map(|volume| volume.target).collect();
    assert_eq!(targets, [c"/b", c"/b/c", c"/b/c/d"]);
}

/// The options of docker 27's `run`.
const DOCKER: &str = "\
    add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile \
    cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus \
    cpuset-mems detach detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps \
    device-write-iops disable-content-trust dns dns-option dns-search domainname entrypoint env env-file expose \
    gpus group-add health-cmd health-interval health-retries health-start-interval health-start-period \
    health-timeout help hostname init interactive io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory \
    label label-file link link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap \
    memory-swappiness mount name network network-alias no-healthcheck oom-kill-disable oom-score-adj pid \
    pids-limit platform privileged publish publish-all pull quiet read-only restart rm runtime security-opt \
    shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit user userns uts volume \
    volume-driver volumes-from workdir";
/// Those that podman 5 adds.
const PODMAN: &str = "\
    arch authfile cgroup-conf cgroups chrootdirs conmon-pidfile decryption-key dns-opt env-host env-merge gidmap \
    group-entry health-log-destination health-max-log-count health-max-log-size health-on-failure \
    health-startup-cmd health-startup-interval health-startup-retries health-startup-success \
    health-startup-timeout hosts-file hostuser http-proxy image-volume init-ctr init-path no-hostname no-hosts os \
    passwd passwd-entry personality pidfile pod pod-id-file preserve-fd preserve-fds rdt-class read-only-tmpfs \
    replace requires retry retry-delay rmi rootfs sdnotify seccomp-policy secret shm-size-systemd subgidname \
    subuidname systemd timeout tls-verify tz uidmap umask unsetenv unsetenv-all variant";

#[test]
fn every_option_of_docker_and_podman_is_ours_or_refused_with_a_reason() {
    let page = include_str!("../../../docs/docker.md");
    let run_options = || verb("run").into_iter().flat_map(|run| run.options());
    let all: Vec<&str> = DOCKER.split_whitespace().chain(PODMAN.split_whitespace()).collect();
    for name in &all {
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| `--{name}` | ")));
        let row = row.unwrap_or_else(|| panic!("--{name} has no row in docs/docker.md"));
        let (_, text) = row.trim_end_matches(" |").split_once(" | ").unwrap_or_default();
        if *name == "network" || run_options().any(|option| option.name() == *name) {
            assert!(text == "same" || text.starts_with("differs: "), "--{name}: {text}");
        } else if let Some(reason) = reason(name) {
            assert_eq!(text, format!("left out: {reason}"), "--{name}");
            assert_eq!(run(&[&format!("--{name}=x"), "x"]).err(), Some(format!("--{name}: {reason}")));
        } else {
            panic!("--{name} is neither ours nor refused");
        }
    }
    for line in REFUSED.lines() {
        let (names, reason) = line.split_once(": ").unwrap_or_default();
        assert!(!reason.is_empty(), "{line}");
        assert!(names.split(' ').all(|name| name.len() == 1 || all.contains(&name)), "{line}");
    }
    // Elsewhere these words mean something else, or nothing.
    assert!(command(&["ls", "--pod", "x"]).is_err_and(|line| line.starts_with("unknown option --pod")));
}

#[test]
fn container_of_which_nothing_is_said_has_the_defaults() {
    let config = run(&["ROOTFS"]).unwrap_or_else(|line| panic!("{line}"));
    assert!(config.name.len() == 12 && config.name.bytes().all(|c| c.is_ascii_hexdigit()));
    assert_eq!(config.hostname.to_bytes(), config.name.as_bytes());
    assert_eq!((&*config.command, config.workdir, config.user), (&[c"/bin/sh"][..], c"/", c""));
    assert!(config.security == Security::DEFAULT && config.life.log.is_some() && config.limits.is_empty());
    assert_eq!((config.life.restart.policy, config.life.stop_signal, config.umask), (Restart::No, 15, 0o022));
    assert_eq!(config.env.len(), 2);
    let config =
        run(&["--health-cmd=true", "-eA=1", "-eHOSTNAME=x", "-eA=2", "x"]).unwrap_or_else(|line| panic!("{line}"));
    let health = config.life.health.as_ref().unwrap_or_else(|| panic!("no health"));
    assert_eq!((health.interval, health.retries, health.on_failure), (Duration::from_secs(30), 3, OnFailure::None));
    assert_eq!(config.env[1..], [c"HOSTNAME=x", c"A=2"]);
}

#[test]
fn last_argument_of_kill_may_be_a_signal() {
    let kill = |args: &[&str]| match command(&[&["kill"], args].concat()) {
        Ok(Command::Existing(Existing::Each(names, Action::Kill { signal, all, .. }))) => {
            (names.join(" "), signal, all)
        }
        _ => panic!("{args:?}"),
    };
    assert_eq!(kill(&["web"]), ("web".into(), 9, false));
    assert_eq!(kill(&["web", "HUP"]), ("web".into(), 1, false));
    assert_eq!(kill(&["web", "db", "-a"]), ("web db".into(), 9, true));
    assert_eq!(kill(&["web", "HUP", "-s", "TERM"]), ("web HUP".into(), 15, false));
    assert_eq!(kill(&["HUP"]), ("HUP".into(), 9, false));
}

#[test]
fn kept_command_line_is_read_by_the_same_parser() {
    let again = Again { attach: false, takes_input: false };
    let args =
        ["-it", "-p80:80", "--overlay", "-eA=1 2", "-eB=", "-v", "data:/b", "-v/c", "x", "sh", "", "-c", "--", "a b"];
    let bytes = OsString::from_vec(b"a\xff".to_vec());
    let args = [words(&["kontena", "create"]), words(&args), &[bytes]].concat().leak();
    let Ok((_, Command::Create(created))) = parse(args) else { panic!("not created") };
    let read = kept::read(&created.line, again).unwrap();
    let config = read.config;
    assert_eq!(read.directory.to_bytes(), std::env::current_dir().unwrap().as_os_str().as_encoded_bytes());
    assert_eq!((config.name, &config.env, &config.command), (created.name, &created.env, &created.command));
    assert_eq!((config.rootfs, config.publish.len(), &config.overlay), (c"x", 1, &Overlay::Memory));
    assert!(config.life.detach && config.life.tty && config.life.interactive && config.life.again.is_some());
    let sources = |config: &Config| config.volumes.iter().map(|volume| volume.source).collect::<Vec<_>>();
    assert_eq!((sources(config).len(), sources(config)), (2, sources(created)));
    // And again, wherever `start` is called, since nothing of it was lost.
    assert_eq!(config.line, created.line);
    let elsewhere = [b"/elsewhere", &created.line[read.directory.to_bytes().len()..]].concat();
    assert_eq!(kept::read(&elsewhere, again).unwrap().config.line, elsewhere);
    // One in the foreground has none.
    assert!(run(&["x"]).is_ok_and(|config| config.line.is_empty()));
    // Whatever it is, it is no reason to panic.
    for length in 0..created.line.len() {
        let _ = kept::read(&created.line[..length], again);
    }
}
