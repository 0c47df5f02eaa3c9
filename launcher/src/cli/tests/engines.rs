//! Command lines as engines write them, and those of a root file system that look like them.

use super::{command, run};
use crate::cli::Command;
use crate::commands::Command as Existing;

#[test]
fn options_of_bundles_stand_anywhere() {
    for line in [
        "create --bundle /nosuch web",
        "create web --bundle /nosuch",
        "create web --bundle=/nosuch --no-pivot --no-new-keyring --preserve-fds 0",
        "create --pid-file /run/p -b /nosuch --console-socket /run/s -- web",
        "run -d --bundle /nosuch web --keep",
        "run web -b /nosuch -d",
        "exec --process /nosuch web",
        "exec web -d --process=/nosuch --pid-file /run/p",
        "exec --tty --console-socket /run/s --pid-file /run/p --detach -p /nosuch web",
        "update --resources /nosuch web",
        "update web --resources=/nosuch",
    ] {
        let error = command(&line.split(' ').collect::<Vec<_>>()).err();
        assert!(error.as_ref().is_some_and(|error| error.contains("/nosuch: ENOENT")), "{line}: {error:?}");
    }
}

#[test]
fn a_root_file_system_and_its_command_are_none() {
    for line in [
        &["--name", "web", "root", "bash", "-b"][..],
        &["-l", "a", "root", "sh", "--bundle", "x"],
        &["--preserve-fds", "0", "root", "--", "--keep"],
        &["root", "sh", "--pid-file", "x"],
        &["--", "root", "--bundle=x"],
    ] {
        let config = run(line).unwrap();
        assert!(config.bundle.is_none() && config.rootfs == c"root", "{line:?}");
        assert_eq!(config.command.last().map(|word| word.to_str().unwrap()), line.last().copied(), "{line:?}");
    }
    for line in [&["exec", "web", "sh", "-p"][..], &["exec", "-t", "web", "sh", "--process", "x"]] {
        let Ok(Command::Existing(Existing::Exec(request))) = command(line) else { panic!("{line:?}") };
        assert!(!request.is_whole && request.config.command[0] == c"sh", "{line:?}");
    }
}

#[test]
fn names_of_runcs_options_are_kontenas() {
    let line = ["exec", "--cwd", "/a", "--cap", "CAP_KILL", "--user=1:2", "--env", "A=b", "web", "true"];
    let Ok(Command::Existing(Existing::Exec(request))) = command(&line) else { panic!() };
    let config = request.config;
    assert_eq!((config.workdir, config.user, &config.env[..]), (c"/a", c"1:2", &[c"A=b"][..]));
    assert!(command(&["update", "--cpu-share", "512", "web"]).is_ok());
}

#[test]
fn what_makes_no_sense_is_told() {
    for (line, words) in [
        ("run --bundle /nosuch -m 64m web", "--memory: with --bundle its config.json says that: remove it"),
        ("create --bundle /nosuch", "no name given: see kontena create --help"),
        ("create --bundle /nosuch a b", "unexpected argument b: see kontena create --help"),
        ("create --bundle /nosuch a/b", "name \"a/b\": not a name"),
        ("exec --process /nosuch web true", "--process goes with one name, and no command"),
        ("exec --process /nosuch -u 1 web", "--user: with --process the file says that: remove it"),
        ("exec -d -t web true", "--detach and --tty: they exclude each other: remove one"),
        ("checkpoint --help", "checkpoint: kontena does not checkpoint containers"),
        ("restore web", "restore: kontena does not checkpoint containers"),
        ("update web", "no limit given: see kontena update --help"),
        ("events", "no container given: see kontena list"),
        ("--systemd-cgroup create --bundle /nosuch web", "--systemd-cgroup: kontena does not ask systemd for cgroups"),
        ("-s features", "-s: kontena does not ask systemd for cgroups"),
    ] {
        let error = command(&line.split(' ').collect::<Vec<_>>()).err();
        assert!(error.as_ref().is_some_and(|error| error.contains(words)), "{line}: {error:?}");
    }
}
