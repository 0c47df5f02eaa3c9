//! Runtimes in a container, with the options that docs/usage.md names for each.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use tests::{Host, Outcome, init, launcher};

/// What a runtime for ordinary users needs.
const UNPRIVILEGED: [&str; 4] = ["--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL"];

/// Runs a script in the Debian rootfs, where it finds kontena, and two roots.
fn nest(host: &Host, options: &[&str], script: &str) -> Outcome {
    let volume = |source: &Path, target: &str| format!("{}:{target}", source.display());
    let pair = host.directory().join("pair");
    fs::create_dir_all(&pair).unwrap();
    for (program, name) in [(launcher(), "kontena"), (init(), "kontena-init")] {
        let _ = fs::copy(program, pair.join(name)).unwrap();
    }
    let volumes =
        [volume(&pair, "/opt/kontena:ro"), volume(&host.demo(), "/srv/demo"), volume(&host.debian(), "/srv/debian")];
    let mut all = vec!["--tmpfs", "/tmp", "-e", "PATH=/opt/kontena:/usr/sbin:/usr/bin:/sbin:/bin"];
    all.extend(volumes.iter().flat_map(|volume| ["-v", volume]));
    host.run(&[&all, options].concat(), host.debian(), &["sh", "-c", script]).run()
}

#[test]
fn bubblewrap_runs_in_a_container() {
    let host = Host::new();
    let script = "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev sh -c 'echo $$'";
    for user in ["0", "33"] {
        let options = [&["-u", user][..], &UNPRIVILEGED].concat();
        assert_eq!(host.sh(&options, script).run().ok(), "2\n", "user {user}");
        // Without the first, there are no namespaces. The second is for hosts with something mounted on /proc.
        for options in [&UNPRIVILEGED[2..], &[]] {
            assert_ne!(host.sh(&[&["-u", user], options].concat(), script).run().code, 0, "user {user}: {options:?}");
        }
    }
}

#[test]
fn kontena_runs_in_a_container() {
    let host = Host::new();
    let script = "kontena --root /tmp/state run --net none /srv/demo /bin/true && echo ran";
    // As an ordinary user's, whether root or not: without a cgroup and a link to the network.
    for user in ["0", "33"] {
        let options = [&["--net", "none", "-u", user][..], &UNPRIVILEGED].concat();
        assert_eq!(nest(&host, &options, script).ok(), "ran\n", "user {user}");
    }
    // As root's, with a bridge of its own beside that of the outer container.
    let script = "kontena run /srv/debian ip -4 -o address show eth0; ip -4 -o address show eth0";
    let out = nest(&host, &["--privileged"], script).ok();
    let [inner, outer] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    assert!(inner.contains("inet 10.78.") && outer.contains("inet 10.77."), "{out}");
}

#[test]
fn refusal_inside_names_the_option_outside() {
    let host = Host::new();
    for (options, words) in [
        (&[][..], "seccomp=unconfined"),
        (&["--security-opt", "unmask=ALL"], "seccomp=unconfined"),
        (&["-u", "33"], "seccomp=unconfined"),
        (&["--seccomp", "unconfined"], "unmask=ALL"),
        (&["-u", "33", "--seccomp", "unconfined"], "unmask=ALL"),
        (&["--cap-add", "SYS_ADMIN"], "--privileged"),
    ] {
        let options = [&["--net", "none"], options].concat();
        let outcome = nest(&host, &options, "kontena --root /tmp/state run --net none /srv/demo /bin/true");
        if words == "unmask=ALL" && outcome.code == 0 {
            // A host that has nothing mounted in /proc.
            continue;
        }
        let line = outcome.refused(125);
        assert!(line.contains(words) && !line.contains("5.15"), "{options:?}: {line}");
    }
}
