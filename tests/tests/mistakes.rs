//! What people get wrong, and what a kernel may lack: one clear line, the right status, and nothing left behind.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc;
use nix::mount::{MsFlags, mount};
use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use tests::{HOST_ADDRESS, Host, Program, Snapshot, Traced, sys};

/// Asserts that a command is refused with `code`, in one line that has all of `words`, and that nothing is left.
#[track_caller]
fn assert_refused(host: &Host, program: Program<'_>, code: i32, words: &[&str]) {
    let before = host.snapshot();
    assert_error(program, code, words);
    assert_nothing_left(host, &before);
}

/// Asserts that a command is refused with `code`, in one line that has all of `words`.
#[track_caller]
fn assert_error(program: Program<'_>, code: i32, words: &[&str]) {
    let line = program.run().refused(code);
    for word in words {
        assert!(line.contains(word), "{word:?} in {line}");
    }
}

/// Asserts that nothing is left, before `kontena prune` and after. Of the state only its directory may be.
#[track_caller]
fn assert_nothing_left(host: &Host, before: &Snapshot) {
    before.assert_restored(|| host.snapshot().with("state", before).with("cgroups", before));
    let inside = |kind: &str| host.snapshot().lines(kind).iter().filter(|line| !line.contains("/state/.")).count();
    assert_eq!(inside("state"), 0, "{:#?}", host.snapshot());
    assert!(fs::read_dir(host.cgroup_parent()).into_iter().flatten().flatten().all(|entry| entry.path().is_file()));
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn missing_rootfs_is_refused() {
    let host = Host::new();
    assert_refused(&host, host.run(&[], "/nosuch/rootfs", &["/bin/true"]), 125, &["/nosuch/rootfs", "ENOENT"]);
    assert_refused(&host, host.run(&[], "", &["/bin/true"]), 125, &["rootfs"]);
}

#[test]
fn rootfs_that_is_a_file_is_refused() {
    let host = Host::new();
    assert_refused(&host, host.run(&[], "/etc/passwd", &["/bin/true"]), 125, &["/etc/passwd", "ENOTDIR", "directory"]);
    assert_refused(&host, host.run(&[], "/dev/null", &["/bin/true"]), 125, &["/dev/null", "ENOTDIR"]);
}

#[test]
fn empty_rootfs_has_no_command() {
    let host = Host::new();
    let empty = host.directory().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_refused(&host, host.run(&[], &empty, &["/bin/true"]), 127, &["/bin/true"]);
    assert_refused(&host, host.run(&[], &empty, &[]), 127, &["/bin/sh", "no COMMAND given"]);
}

#[test]
fn missing_command_is_an_error() {
    let host = Host::new();
    for network in ["none", "bridge", "host"] {
        assert_refused(
            &host,
            host.run(&["--net", network], host.demo(), &["nosuch"]),
            127,
            &["nosuch", "the rootfs lacks it"],
        );
    }
    assert_refused(&host, host.run(&["-p", "8080:80"], host.demo(), &["/etc/passwd"]), 126, &["/etc/passwd", "EACCES"]);
}

#[test]
fn missing_rootfs_argument_is_an_error() {
    let host = Host::new();
    assert_refused(&host, host.kontena().arg("run"), 125, &["ootfs", "--help"]);
    assert_refused(&host, host.kontena_run().arg("--read-only"), 125, &["ootfs", "--help"]);
    assert_refused(&host, host.kontena(), 125, &["kontena run", "--help"]);
}

#[test]
fn unknown_words_are_refused() {
    let host = Host::new();
    for words in [
        &["--nosuch"][..],
        &["run", "--nosuch", "x"],
        &["run", "-x", "rootfs"],
        &["nosuch"],
        &["prune", "--all"],
        &["prune", "x"],
        &["volumes", "ls"],
        &["-p", "80", "run", "rootfs"],
    ] {
        let line = host.kontena().args(words).run().refused(125);
        assert!(line.contains(words[words.len().min(2) - 1]) || line.contains(words[0]), "{words:?}: {line}");
    }
    for (words, hint) in [
        (&["run", "--root", "/x", "rootfs"][..], "kontena --root DIR run"),
        (&["list", "--version"], "kontena --version list"),
        (&["nosuch", "ls"], "run, create, start, restart, exec,"),
    ] {
        let line = host.kontena().args(words).run().refused(125);
        assert!(line.contains(hint), "{words:?}: {line}");
    }
    for (options, word) in [
        (&["--net", "nosuch"][..], "nosuch"),
        (&["--net"], "--net"),
        (&["--read-only=yes"], "--read-only"),
        (&["--cgroup-parent", "/../x"], "/../x"),
        (&["--cgroup-parent", "/"], "\"/\""),
        (&["-e", "=value"], "--env \"=\""),
        (&["--name", "a", "--name", "b"], "name"),
    ] {
        let program = host.kontena().arg("run").args(options).arg(host.demo()).arg("/bin/true");
        assert_refused(&host, program, 125, &[word]);
    }
}

#[test]
fn invalid_lifecycle_options_are_refused() {
    let host = Host::new();
    let before = host.snapshot();
    for (options, words) in [
        (&["--restart", "sometimes"][..], &["--restart \"sometimes\"", "on-failure:N"][..]),
        (&["--stop-signal", "STOPIT"], &["--stop-signal \"STOPIT\"", "HUP"]),
        (&["--stop-signal", "0"], &["--stop-signal"]),
        (&["--stop-signal", "65"], &["--stop-signal"]),
        (&["--stop-timeout", "soon"], &["--stop-timeout \"soon\"", "seconds"]),
        (&["--stop-timeout", "-1"], &["--stop-timeout"]),
        (&["--health-cmd", ""], &["--health-cmd", "/bin/sh -c"]),
        (&["--health-interval", "5s"], &["--health-interval", "--health-cmd"]),
        (&["--health-cmd", "true", "--health-interval", "5"], &["--health-interval \"5\"", "1m30s"]),
        (&["--health-cmd", "true", "--health-on-failure", "cry"], &["--health-on-failure \"cry\"", "restart"]),
        (&["--health-cmd", "true", "--health-retries", "0"], &["--health-retries \"0\""]),
        (&["--wait-ready"], &["--wait-ready", "-d"]),
        (&["-d", "--wait-ready"], &["--wait-ready", "--notify-fd", "--sdnotify"]),
        (&["--notify-fd", "2"], &["--notify-fd \"2\"", "3 to 255"]),
        (&["--log-driver", "syslog"], &["--log-driver \"syslog\"", "cri"]),
        (&["--log-opt", "max-size=small"], &["--log-opt \"max-size=small\"", "10m"]),
        (&["--log-opt", "compress=true"], &["--log-opt", "max-file=N"]),
        (&["--detach-keys", "ctrl"], &["--detach-keys \"ctrl\"", "ctrl-p,ctrl-q"]),
        (&["--detach=yes"], &["--detach=yes", "takes no value"]),
        (&["-dx"], &["-x"]),
    ] {
        // Whether it would be in the background or on a terminal.
        for more in [&[][..], &["-t"], &["-i"]] {
            let options = [options, more].concat();
            assert_error(host.run(&options, host.demo(), &["/bin/true"]), 125, words);
        }
    }
    assert_nothing_left(&host, &before);
    // Several letters in one, and options behind the names.
    let _ = host.run(&["-itd", "--net=none", "--name=a"], host.demo(), &["/bin/true"]).run().ok();
    let _ = host.kontena().args(["wait", "a"]).run().ok();
    let _ = host.kontena().args(["rm", "a", "--force"]).run().ok();
}

#[test]
fn invalid_port_is_refused() {
    let host = Host::new();
    for port in [
        "80:0",
        "0",
        "70000:80",
        "80:70000",
        "65536:80",
        "-1:80",
        ":80",
        "80:",
        ":",
        "",
        "a:80",
        "80:a",
        "80:80/sctp",
        "80:80/",
        "80:80/TCP",
        "1.2.3:80:80",
        "1.2.3.4:80",
        "256.0.0.1:80:80",
        "localhost:80:80",
        "80:80:80:80",
        "0x50:80",
        " 80:80",
        "+80:80",
        "8080-8090:80",
        "90-80:90-80",
        "8080-:80",
        "0-1:0-1",
        "80-81-82:80-82",
        "0:",
        "2001:db8::1:80:80",
        "::1:80:80",
        ":::80:80",
        "[2001:db8::1]:80",
        "[2001:db8::1]80:80",
        "[2001:db8::1:80:80",
        "[]:80:80",
        "[1.2.3.4]:80:80",
        "[fe80::1%eth0]:80:80",
        "[localhost]:80:80",
    ] {
        let line = host.run(&["-p", port], host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains(port), "{port:?}: {line}");
    }
    assert!(!host.state().exists());
    assert_refused(
        &host,
        host.run(&["-p", "192.0.2.77:80:80"], host.demo(), &["/bin/true"]),
        125,
        &["192.0.2.77", "EADDRNOTAVAIL"],
    );
    for (port, word) in [("::1:80:80", "brackets"), ("0x50:80", "1 to 65535")] {
        let line = host.run(&["-p", port], host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains(word), "{port:?}: {line}");
    }
    assert_refused(
        &host,
        host.run(&["-p", "[2001:db8::77]:80:80"], host.demo(), &["/bin/true"]),
        125,
        &["[2001:db8::77]:80/tcp", "EADDRNOTAVAIL"],
    );
    let program = host.run(&["--net", "host", "-p", "8080:80"], host.demo(), &["/bin/true"]);
    assert_refused(&host, program, 125, &["--publish"]);
    let _ = host.run(&["-p", "65535:65535"], host.demo(), &["/bin/true"]).run().ok();
}

#[test]
fn taken_port_is_refused_before_anything_is_started() {
    let host = Host::new();
    for (theirs, ours) in [
        ("0.0.0.0:8080", "8080:80"),
        ("127.0.0.1:8080", "8080:80"),
        ("192.0.2.1:8080", "8080:80"),
        ("0.0.0.0:8080", "127.0.0.1:8080:80"),
        ("127.0.0.1:8080", "127.0.0.1:8080:80"),
        ("[::]:8080", "8080:80"),
        ("[2001:db8::1]:8080", "8080:80"),
        ("[::]:8080", "[2001:db8::1]:8080:80"),
    ] {
        let service = host.service(theirs);
        let program = host.run(&["-p", "8081:80", "-p", ours], host.demo(), &["/bin/true"]);
        assert_refused(&host, program, 125, &[":8080/tcp", "EADDRINUSE", "another program"]);
        assert!(!host.state().exists(), "nothing had been made");
        // Neither another protocol, nor another port, nor afterwards.
        let udp = ours.to_owned() + "/udp";
        let _ = host.run(&["-p", "8081:80", "-p", &udp], host.demo(), &["/bin/true"]).run().ok();
        drop(service);
        let _ = host.run(&["-p", ours], host.demo(), &["/bin/true"]).run().ok();
        host.prune();
    }
    let _service = host.service("127.0.0.1:8080");
    let other_address = format!("{HOST_ADDRESS}:8080:80");
    let _ = host.run(&["-p", &other_address], host.demo(), &["/bin/true"]).run().ok();
    let _socket = host.inside(|| UdpSocket::bind("0.0.0.0:5353")).unwrap();
    host.prune();
    assert_refused(
        &host,
        host.run(&["-p", "5353:53/udp"], host.demo(), &["/bin/true"]),
        125,
        &[":5353/udp", "EADDRINUSE"],
    );
}

#[test]
fn port_of_a_stopped_service_is_free() {
    // Its last connections are in TIME-WAIT for a minute, which is in nobody's way.
    let host = Host::new();
    let service = host.service("0.0.0.0:8080");
    for _ in 0..5 {
        host.get("127.0.0.1:8080").unwrap();
    }
    drop(service);
    assert!(host.says("ss", &["-Htan"]).contains("TIME-WAIT"));
    let _ = host.run(&["-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok();
}

#[test]
fn port_of_another_container_is_refused() {
    let host = Host::new();
    let first = host.nginx("first", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let before = host.snapshot();
    for port in ["8080:80", "8080:81", "127.0.0.1:8080:80", "192.0.2.1:8080:80", "[::]:8080:80", "5353:53/udp"] {
        let line = host
            .run(&["--name", "second", "-p", "8081:80", "-p", port], host.demo(), &["/bin/true"])
            .run()
            .refused(125);
        assert!(line.contains("EADDRINUSE") && line.contains("the container first has this port"), "{line}");
    }
    before.assert_restored(|| host.snapshot());
    host.get("127.0.0.1:8080").unwrap();
    let _ = first.stop();
    let _ = host.run(&["--name", "second", "-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok();
    // Nor can one container have a port twice.
    let options = ["-p", "8080:80", "-p", "127.0.0.1:8079-8080:81-82"];
    let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("two --publish of *:8080/tcp") && !line.contains("program"), "{line}");
}

#[test]
fn published_port_is_unavailable_to_other_programs() {
    let host = Host::new();
    let web = host.nginx("web", &["-p", "8080:80"]);
    assert!(host.inside(|| TcpListener::bind("127.0.0.1:8080")).is_err());
    assert!(host.inside(|| TcpListener::bind("127.0.0.1:8081")).is_ok());
    let _ = web.stop();
    assert!(host.inside(|| TcpListener::bind("127.0.0.1:8080")).is_ok());
}

#[test]
fn ordinary_user_gets_errors_that_name_root() {
    let host = Host::new();
    // Where that user can get at them.
    let bin = host.directory().join("bin");
    fs::create_dir(&bin).unwrap();
    for file in [tests::launcher(), tests::init()] {
        fs::copy(&file, bin.join(file.file_name().unwrap())).unwrap();
    }
    let as_nobody = |arguments: &[&str]| {
        let program =
            host.program(bin.join("kontena")).arg("--root").arg(host.state()).args(arguments).arg(host.demo());
        program.with(|command| _ = command.uid(65534).gid(65534))
    };
    assert_refused(&host, as_nobody(&["run", "--net", "bridge"]), 125, &["root", "sudo"]);
    assert_refused(&host, as_nobody(&["run", "-p", "8080:80"]), 125, &["root"]);
    assert_refused(&host, as_nobody(&["run"]), 125, &["state", "EACCES", "--root"]);
    let help = host.program(bin.join("kontena")).arg("--help").with(|command| _ = command.uid(65534).gid(65534)).run();
    assert!(help.ok().contains("Usage"));
}

#[test]
fn host_without_cgroup2_is_an_error() {
    let host = Host::new();
    let cgroup2 = host.cgroup().parent().unwrap().to_str().unwrap();
    let before = host.snapshot();
    // In a mount namespace of its own: unmounted, or hidden.
    for script in [format!("umount -l {cgroup2}"), format!("mount -t tmpfs none {cgroup2}")] {
        let program = host.program("unshare").args(["-m", "sh", "-c", &format!("{script} && exec \"$@\""), "sh"]);
        let program = program.arg(tests::launcher()).arg("--root").arg(host.state()).args(["run", "--net", "none"]);
        let line = program.arg(host.demo()).arg("/bin/true").run().refused(125);
        assert!(line.contains("cgroup2 is not mounted") && line.contains("mount -t cgroup2"), "{script}: {line}");
        before.assert_restored(|| host.snapshot());
    }
}

#[test]
fn cgroup2_is_found_wherever_it_is_mounted() {
    let host = Host::new();
    let cgroup2 = host.cgroup().parent().unwrap().to_str().unwrap();
    let script = format!("umount -l {cgroup2} && mkdir /run/c && mount -t cgroup2 none /run/c && exec \"$@\"");
    // In a cgroup namespace, since a mount from outside of any changes the options of the machine's own.
    let program = host.program("unshare").args(["-m", "-C", "sh", "-c", &script, "sh"]);
    let program = program.arg(tests::launcher()).arg("--root").arg(host.state());
    let program = program.args(["run", "--net", "none", "--cgroup-parent", &host.cgroup_parent_option()]);
    assert!(program.arg(host.debian()).args(["cat", "/proc/self/cgroup"]).run().ok().contains("0::/\n"));
}

/// Refuses what asks for nf_tables, in this thread and what it starts.
fn without_netfilter(host: &Host, options: &[&str]) -> tests::Outcome {
    let program = host.run(options, host.demo(), &["/bin/true"]);
    // On a thread of its own, whose filter ends with it.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::refuse_sockets(libc::AF_NETLINK, libc::NETLINK_NETFILTER, libc::EPROTONOSUPPORT).unwrap();
            program.run()
        });
        thread.join().unwrap()
    })
}

#[test]
fn kernel_without_nf_tables_is_an_error_or_warning() {
    let host = Host::new();
    let before = host.snapshot();
    let line = without_netfilter(&host, &["-p", "8080:80", "--publish-via", "nft"]);
    assert_eq!(line.code, 125, "{line}");
    let last = line.stderr.lines().last().unwrap();
    assert!(last.contains("no nf_tables") && last.contains("--publish-via"), "{line}");
    assert_nothing_left(&host, &before);
    // Without that, it is a warning.
    let line = without_netfilter(&host, &["-p", "8080:80"]).code(0).stderr;
    assert!(line.starts_with("kontena: warning: ") && line.contains("relayed") && line.lines().count() == 1, "{line}");
    assert_eq!(host.snapshot().lines("forwarding"), ["0"]);
    host.prune();
    before.assert_restored(|| host.snapshot());
    // Where the host forwards, nothing would keep the LAN from the containers.
    host.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    let line = without_netfilter(&host, &[]);
    assert!(line.code == 125 && line.stderr.lines().last().unwrap().contains("ip_forward"), "{line}");
    host.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "0")).unwrap();
    assert_nothing_left(&host, &before);
    let _ = without_netfilter(&host, &["--net", "none"]).ok();
    let _ = without_netfilter(&host, &["--net", "host"]).ok();
    let _ = host.run(&["-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok();
    // Nor does a bridge that was there before.
    let line = without_netfilter(&host, &[]);
    assert!(line.code == 125 && line.stderr.contains("ip_forward"), "{line}");
}

/// Runs a container with a bridge, and asks the kernel for a kind of link that it does not have wherever kontena asks
/// for `kind`.
fn without_link_kind(host: &Host, kind: &str, options: &[&str]) -> tests::Outcome {
    let mut launcher = Traced::start(host.run(options, host.demo(), &["/bin/true"]));
    // IFLA_INFO_KIND, with its length: the kinds of links stand in nf_tables' rules, too.
    let header = [(4 + kind.len() as u16 + 1).to_ne_bytes(), 1u16.to_ne_bytes()].concat();
    let wanted = [&header, kind.as_bytes(), b"\0"].concat();
    let mut asked = 0;
    while let Some((number, arguments)) = launcher.next_call() {
        if number != libc::SYS_sendto as u64 {
            continue;
        }
        let message = launcher.read(arguments[1], arguments[2]);
        if let Some(at) = message.windows(wanted.len()).position(|window| window == wanted) {
            launcher.write(arguments[1] + (at + header.len()) as u64, b"x");
            asked += 1;
        }
    }
    assert_eq!(asked, 1, "kontena asks for a {kind} by sendto(2)");
    launcher.finish()
}

#[test]
fn kernel_without_veth_is_an_error() {
    let host = Host::new();
    let before = host.snapshot();
    for options in [&[][..], &["-p", "8080:80"]] {
        let line = without_link_kind(&host, "veth", options).refused(125);
        assert!(line.contains("EOPNOTSUPP") && line.contains("CONFIG_VETH") && line.contains("--net none"), "{line}");
        assert_nothing_left(&host, &before);
    }
    let _ = host.run(&["-p", "8080:80"], host.demo(), &["/bin/true"]).run().ok();
}

#[test]
fn kernel_without_bridge_is_an_error() {
    let host = Host::new();
    let before = host.snapshot();
    let line = without_link_kind(&host, "bridge", &[]).refused(125);
    assert!(line.contains("EOPNOTSUPP") && line.contains("CONFIG_BRIDGE") && line.contains("--net none"), "{line}");
    assert_nothing_left(&host, &before);
}

#[test]
fn link_with_the_bridges_name_is_an_error() {
    let host = Host::new();
    host.ip("link add kontena0 type veth peer name other\n");
    let before = host.snapshot();
    let line = host.run(&[], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("kontena0") && !line.contains("CONFIG_VETH"), "{line}");
    // It is somebody else's, and stays, as does all else.
    assert_nothing_left(&host, &before);
}

#[test]
fn options_that_are_not_utf_8_are_refused() {
    let host = Host::new();
    let latin = OsStr::from_bytes(b"caf\xe9");
    for option in ["--name", "--hostname", "-e", "-v", "-w", "-u", "-p", "--tmpfs", "-m", "--cgroup-parent"] {
        let program = host.kontena_run().arg(option).arg(latin).arg(host.demo()).arg("/bin/true");
        assert_refused(&host, program, 125, &["UTF-8", "caf"]);
    }
    let equals = [b"--name=".as_slice(), latin.as_bytes()].concat();
    let program = host.kontena_run().arg(OsStr::from_bytes(&equals)).arg(host.demo()).arg("/bin/true");
    assert_refused(&host, program, 125, &["UTF-8", "--name=caf"]);
}

#[test]
fn arguments_that_are_not_utf_8_pass_through() {
    let host = Host::new();
    let bytes: Vec<u8> = (1..=255).collect();
    let program = host.kontena_run().args(["--net", "none"]).arg(host.debian()).args([
        "sh",
        "-c",
        "printf %s \"$1\" | od -An -v -tx1",
        "sh",
    ]);
    let out = program.arg(OsStr::from_bytes(&bytes)).run().ok();
    let seen: Vec<u8> = out.split_whitespace().map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect();
    assert_eq!(seen, bytes);

    // The rootfs is a path, and paths are bytes.
    let rootfs = host.directory().join(OsStr::from_bytes(b"caf\xe9"));
    let _ = host.program("cp").arg("-a").arg(host.demo()).arg(&rootfs).run().ok();
    let _ = host.run(&["--net", "none"], &rootfs, &["/bin/true"]).run().ok();
    host.prune();
    let command = host.kontena_run().args(["--net", "none"]).arg(host.demo()).arg(OsStr::from_bytes(b"/bin/caf\xe9"));
    assert_refused(&host, command, 127, &["/bin/caf"]);
}

#[test]
fn message_is_always_one_line() {
    let host = Host::new();
    for bad in ["a\nb", "\x1b[31mred", "a\rb", "a\tb"] {
        for program in [
            host.run(&["--net", "none"], host.demo(), &[bad]),
            host.run(&["--name", bad], host.demo(), &["/bin/true"]),
            host.run(&["--net", "none", "-u", bad], host.demo(), &["/bin/true"]),
            host.run(&["--net", "none"], bad, &["/bin/true"]),
        ] {
            let outcome = program.run();
            let code = outcome.code;
            let line = outcome.refused(code);
            assert!([125, 127].contains(&code) && !line.contains(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn unwritable_state_is_an_error() {
    let host = Host::new();
    let read_only = host.directory().join("read-only");
    fs::create_dir(&read_only).unwrap();
    host.inside(|| mount(Some("tmpfs"), &read_only, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>)).unwrap();
    let run = |root: &str| {
        let program = host.program(tests::launcher()).args(["--root", root, "run", "--net", "none", "--cgroup-parent"]);
        program.arg(host.cgroup_parent_option()).arg(host.demo()).arg("/bin/true")
    };
    let inside = read_only.join("state");
    assert_refused(&host, run(inside.to_str().unwrap()), 125, &[inside.to_str().unwrap(), "EROFS", "--root"]);
    assert_refused(&host, run(read_only.to_str().unwrap()), 125, &[read_only.to_str().unwrap(), "EROFS", "--root"]);
    assert_refused(&host, run("/etc/passwd"), 125, &["/etc/passwd", "--root"]);
    assert_refused(&host, run("/etc/passwd/state"), 125, &["/etc/passwd/state", "ENOTDIR", "--root"]);
    assert_refused(&host, run("/proc/state"), 125, &["/proc/state", "--root"]);
    assert_refused(&host, run(""), 125, &["--root"]);
    // Parents that are missing are made.
    let deep = host.directory().join("a/b/c");
    let _ = run(deep.to_str().unwrap()).run().ok();
    assert!(!deep.join("journal").exists());
}

#[test]
fn unwritable_cgroup_parent_is_an_error() {
    let host = Host::new();
    let cgroup2 = host.cgroup().parent().unwrap().to_str().unwrap();
    let before = host.snapshot();
    let script = format!("mount -o bind,remount,ro {cgroup2} {cgroup2} && exec \"$@\"");
    let program = host.program("unshare").args(["-m", "sh", "-c", &script, "sh"]);
    let program = program.arg(tests::launcher()).arg("--root").arg(host.state()).args(["run", "--net", "none"]);
    let line = program
        .arg("--cgroup-parent")
        .arg(host.cgroup_parent_option())
        .arg(host.demo())
        .arg("/bin/true")
        .run()
        .refused(125);
    assert!(line.contains("EROFS") && line.contains("cgroup"), "{line}");
    assert_nothing_left(&host, &before);
}

#[test]
fn missing_init_is_an_error() {
    let host = Host::new();
    let alone = host.directory().join("kontena");
    fs::copy(tests::launcher(), &alone).unwrap();
    let program = host.program(&alone).arg("--root").arg(host.state()).args(["run", "--net", "none"]);
    assert_refused(&host, program.arg(host.demo()), 125, &["kontena-init", "ENOENT", "side by side"]);
    // One that is no program.
    fs::write(host.directory().join("kontena-init"), "no program").unwrap();
    let program = host.program(&alone).arg("--root").arg(host.state()).args(["run", "--net", "none"]);
    let program = program.args(["--cgroup-parent", &host.cgroup_parent_option()]).arg(host.demo());
    assert_refused(&host, program, 125, &["ENOEXEC"]);
}

#[test]
fn long_arguments_are_passed_on() {
    let host = Host::new();
    let long = "x".repeat(100_000);
    let many: Vec<&str> = std::iter::once("/bin/true").chain(std::iter::repeat_n(long.as_str(), 15)).collect();
    let _ = host.run(&["--net", "none"], host.demo(), &many).run().ok();
}

#[test]
fn isolation_options_are_strict() {
    let host = Host::new();
    let file = host.directory().join("file");
    fs::write(&file, b"A\xff=1\n").unwrap();
    let file = file.to_str().unwrap();
    let table: [(&str, &[&str]); 20] = [
        ("--dns", &["", "localhost", "1.2.3", "1.2.3.4:53"]),
        ("--dns-search", &["", "a b", "a\nnameserver 1.2.3.4"]),
        ("--add-host", &["", "db", "db:", ":1.2.3.4", "db:1.2.3", "a b:1.2.3.4", "db\n1.1.1.1 x:1.2.3.4"]),
        ("--cap-add", &["", "NOSUCH", "CAP_", "NET_RAW,", "NET_RAW,NOSUCH", "13", "CAP_CAP_KILL"]),
        ("--cap-drop", &["", "nosuch", " ALL"]),
        ("--security-opt", &["", "no-new-privileges=maybe", "apparmor=x", "nosuch=x"]),
        ("--seccomp", &["", "Default", "/dev/null", "/", "/dev/zero"]),
        (
            "--ulimit",
            &["", "nofile", "nofile=", "nofile=-2", "nofile=2:1", "nofile=x", "nosuch=1", "nofile=1:2:3", "NOFILE=1"],
        ),
        ("--oom-score-adj", &["", "1001", "-1001", "x", "1.5"]),
        ("--umask", &["", "8", "01000", "-1", "+22", "0x1"]),
        (
            "--sysctl",
            &[
                "",
                "kernel.shmmax",
                "kernel.core_pattern=x",
                "vm.swappiness=1",
                "fs.file-max=1",
                "net..x=1",
                "net/../kernel/core_pattern=x",
                "kernel.hostname=x",
                "net.nosuch=1",
                "kernel.shmmax=x",
            ],
        ),
        ("--group-add", &["", "nosuch", "-1", "4294967295", "4294967296"]),
        (
            "--device",
            &[
                "",
                "/dev/nosuch",
                "/etc/passwd",
                "/dev/null:relative",
                "/dev/null:/dev/x:rwx",
                "/dev/null:/dev/x:",
                "/dev/null:/..:r",
                "/dev/null:/dev/zero",
                "/dev/null:/a:/b:/c",
            ],
        ),
        ("--shm-size", &["", "0", "-1", "x", "1q"]),
        (
            "--mount",
            &[
                "",
                "type=bind",
                "type=bind,target=/x",
                "type=bind,source=/nosuch,target=/x",
                "type=tmpfs,source=/,target=/x",
                "type=npipe,target=/x",
                "source=/a,target=/x",
                "type=volume,source=a/b,target=/x",
                "type=tmpfs,target=x",
                "type=tmpfs,target=/x,tmpfs-size=0",
                "type=tmpfs,target=/x,nosuch",
                "type=tmpfs,target=/x,bind-propagation=rslave",
                "type=bind,source=/,target=/x,ro=maybe",
            ],
        ),
        (
            "--volume",
            &["/:/x:rshared", "/:/x:ro,,", "/:/x:RO", "/:/x:idmap", "+a:/x", "a:/x", "ab:/x:rshared", "/:/x:nocopy"],
        ),
        ("--tmpfs", &["/x:idmap", "/x:rslave"]),
        ("--env-file", &["/nosuch", "/", file]),
        ("--userns", &["", "keep-id", "map"]),
        ("--overlay", &[]),
    ];
    for (option, values) in table {
        for value in values {
            let arguments = format!("{option}={value}");
            let program = host.run(&["--net", "none", &arguments], host.debian(), &["/bin/true"]);
            let line = program.run().refused(125);
            let named = [option.trim_start_matches('-'), option.trim_start_matches("--").split('-').next().unwrap()];
            let first = value.split([':', '=', ',']).next().unwrap();
            let words = [named[0], named[1], first, "/x"];
            let what = words.iter().any(|word| !word.is_empty() && line.contains(word));
            assert!(what, "{option} {value}: {line}");
        }
    }
}
