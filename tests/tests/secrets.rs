//! Only root can read the values of `-e`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tests::{Host, Program, wait_for};

const SECRET: &str = "hunter2-of-the-test-of-secrets";

/// Every way to pass it.
const FORMS: [&[&str]; 5] = [
    &["-e", "KEY=hunter2-of-the-test-of-secrets"],
    &["--env", "KEY=hunter2-of-the-test-of-secrets"],
    &["--env=KEY=hunter2-of-the-test-of-secrets"],
    &["-eKEY=hunter2-of-the-test-of-secrets"],
    &["-e", "OTHER=1", "-eKEY=hunter2-of-the-test-of-secrets", "-e", "LAST=2"],
];

/// The command lines on the host that have it, as every user can read them.
fn command_lines(host: &Host) -> Vec<String> {
    let processes = host.processes().into_iter();
    let lines = processes.filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(SECRET)).collect()
}

/// Asserts that nobody but root can read it, while the command runs whose environment it is in.
#[track_caller]
fn assert_secret(host: &Host, options: &[&str]) {
    assert_eq!(command_lines(host), Vec::<String>::new(), "{options:?}");
    assert!(!host.kontena().arg("list").run().ok().contains(SECRET), "list {options:?}");
    for seen in host.list() {
        let processes = host.kontena().args(["ps", seen["name"].as_str().unwrap()]).run().ok();
        assert!(!processes.contains(SECRET), "ps {options:?}");
    }
    assert_readable_by_root_alone(&host.state());
}

/// Asserts that of the files below `directory` that have it, none can be read by others.
#[track_caller]
fn assert_readable_by_root_alone(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            assert_readable_by_root_alone(&entry.path());
        } else if let Ok(content) = fs::read(entry.path())
            && String::from_utf8_lossy(&content).contains(SECRET)
        {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", entry.path().display());
        }
    }
}

#[test]
fn variables_are_not_in_any_command_line() {
    let host = Host::new();
    let script = "[ $KEY = hunter2-of-the-test-of-$WHAT ] && echo ready; exec sleep 600";
    let what = ["-e", "WHAT=secrets"];
    let launcher = |program: Program<'_>| {
        let mut running = program.start();
        running.wait_for_output("ready");
        running
    };
    for form in FORMS {
        let options = [form, &what, &["--name", "web"]].concat();
        let running = launcher(host.sh(&options, script));
        assert_secret(&host, form);
        let title = fs::read(format!("/proc/{}/cmdline", running.pid())).unwrap();
        let title = String::from_utf8(title).unwrap();
        assert!(title.contains("kontena\0run\0--name\0web\0\0"), "{title:?}");
        running.signal(Signal::SIGTERM);
        let _ = running.finish().code(143);
    }

    // In the background there are two launchers, and then one.
    let options = [FORMS[0], &what].concat();
    let job = host.background("job", &options, script);
    assert_secret(&host, &options);
    // Of those who join it each has a launcher, which with -d goes before its command.
    for form in FORMS {
        let running = launcher(host.exec(&[form, &what].concat(), "job", &["sh", "-c", script]));
        assert_secret(&host, form);
        let title = fs::read(format!("/proc/{}/cmdline", running.pid())).unwrap();
        assert!(String::from_utf8(title).unwrap().contains("kontena\0exec\0job\0\0"));
    }
    let _ = host.exec(&[&["-d"], FORMS[0]].concat(), "job", &["sleep", "601"]).run().ok();
    assert_secret(&host, &["exec", "-d"]);
    // Root sees what it has given.
    assert!(job.inspect().to_string().contains(SECRET));
}

#[test]
fn health_commands_are_not_in_the_launchers_command_line() {
    let host = Host::new();
    let job = host.background("job", &["--health-cmd", "true other-secret"], "exec sleep 600");
    let title = fs::read_to_string(format!("/proc/{}/cmdline", job.launcher())).unwrap();
    assert!(title.contains("run\0--name\0job\0\0") && !title.contains("secret"), "{title:?}");
}

#[test]
fn command_line_of_a_launcher_shows_a_generated_name() {
    let host = Host::new();
    let running = host.sh(&[], "exec sleep 600").start();
    let name = wait_for("the container", || host.list().first().map(|seen| seen["name"].as_str().unwrap().to_owned()));
    let title = fs::read_to_string(format!("/proc/{}/cmdline", running.pid())).unwrap();
    assert!(title.contains(&format!("kontena\0run\0--name\0{name}\0")), "{title:?}");
}

#[test]
fn errors_never_quote_the_value_of_a_variable() {
    let host = Host::new();
    let file = host.directory().join("env");
    fs::write(&file, format!("KEY={SECRET}\0\n")).unwrap();
    let bytes = [SECRET.as_bytes(), b"\xff"].concat();
    let mut invalid = OsStr::from_bytes(b"KEY=").to_owned();
    invalid.push(OsStr::from_bytes(&bytes));
    let run = |options: &[&OsStr]| host.kontena_run().args(options).arg(host.debian()).arg("true").run().refused(125);
    for (options, wanted) in [
        (&["-e".as_ref(), format!("={SECRET}").as_ref()][..], "no name"),
        (&["--env-file".as_ref(), file.as_os_str()], "a NUL"),
        (&["-e".as_ref(), &*invalid], "not UTF-8"),
    ] {
        let line = run(options);
        assert!(line.contains(wanted) && !line.contains(SECRET), "{line}");
    }
}
