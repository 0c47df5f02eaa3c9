//! Networks that are neither a bridge's nor the host's: another container's, one of a file, and the LAN itself.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::process::CommandExt as _;
use tests::traffic::{assert_page, assert_unreachable};
use tests::{Container, HOST_ADDRESS, HOST_ADDRESS6, Host, NEIGHBOUR_ADDRESS, Place};

/// Makes the network namespace `/run/netns/blue`, with a link of its own name up.
fn make_namespace(host: &Host) -> Place {
    host.ip("netns add blue\nlink add blue type veth peer name eth7 netns blue\n");
    let place = host.inside(|| Place::at("/run/netns/blue"));
    place.ip("link set lo up\nlink set eth7 up\naddr add 198.51.100.7/24 dev eth7\n");
    place
}

/// The links that a container with `options` sees, in two ways, which must agree; as one of the host's own users, and
/// as one of a user namespace.
fn assert_links(host: &Host, net: &str, links: &[&str]) {
    for userns in ["host", "map=0:100000:65536"] {
        let volume = format!("{}:/run/intruder:ro", tests::intruder().display());
        let options = ["--net", net, "--userns", userns, "-v", &volume];
        let run = |arguments: &[&str]| {
            host.run(&options, tests::images().join("demo.erofs"), &["/run/intruder"]).args(arguments).run().ok()
        };
        let mut in_sys: Vec<String> = run(&["list", "/sys/class/net"]).lines().map(String::from).collect();
        in_sys.sort_unstable();
        assert_eq!(in_sys, links, "{userns}");
        let proc = run(&["look", "/proc/net/dev"]);
        assert_eq!(proc.lines().count(), 2 + links.len(), "{proc}");
        assert!(links.iter().all(|link| proc.contains(&format!("{link}:"))), "{proc}");
    }
}

#[test]
fn network_namespace_of_a_file_is_entered() {
    let host = Host::new();
    let before = host.snapshot();
    let place = make_namespace(&host);
    let with = host.snapshot();
    let mut web = host.nginx("web", &["--net", "ns:/run/netns/blue", "-p", "8080:80"]);
    assert_page(&place, "198.51.100.7:80");
    // From there on, what is published is relayed.
    assert_page(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    assert_eq!(web.network().id(), place.id());
    assert_unreachable(host.place(), &format!("{HOST_ADDRESS}:80"));
    let _ = web.stop();
    // As it was: nothing of it was the container's.
    with.assert_restored(|| host.snapshot().with("state", &with).with("registry", &with).with("cgroups", &with));
    assert!(place.program("ip").args(["addr"]).run().ok().contains("198.51.100.7"));
    host.prune();
    host.ip("link del blue\nnetns del blue\n");
    host.inside(|| nix::mount::umount("/run/netns")).unwrap();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn network_namespace_of_a_file_works_with_userns() {
    let host = Host::new();
    let _place = make_namespace(&host);
    assert_links(&host, "ns:/run/netns/blue", &["eth7", "lo"]);
}

#[test]
fn file_without_a_network_namespace_is_refused() {
    let host = Host::new();
    let _place = make_namespace(&host);
    nix::unistd::mkfifo(&host.directory().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let fifo = format!("{}/fifo", host.directory().display());
    let before = host.snapshot();
    for (path, word) in [
        ("/nosuch", "ENOENT"),
        ("/etc/passwd", "network namespace"),
        ("/proc/self/ns", "network namespace"),
        (&*fifo, "network namespace"),
        ("/dev/null", "network namespace"),
        ("/proc/self/ns/uts", "not a network namespace"),
        ("/proc/self/ns/pid", "not a network namespace"),
        ("", "network namespace"),
    ] {
        let net = format!("ns:{path}");
        let line = host.run(&["--net", &net], host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains(&net) && line.contains(word), "{net}: {line}");
        before.assert_restored(|| host.snapshot().with("state", &before).with("cgroups", &before));
    }
    for options in [["--ip", "198.51.100.8"], ["--sysctl", "net.core.somaxconn=5"], ["--publish-via", "nft"]] {
        let options = [&["--net", "ns:/run/netns/blue", "-p", "8080:80"], &options[..]].concat();
        let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(125);
        assert!(options[4..].iter().any(|word| line.contains(word)), "{line}");
    }
}

#[test]
fn network_of_a_container_is_shared() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let mut web = host.nginx("web", &["-p", "8080:80"]);
    let place = web.network();
    let options = ["--net", "container:web", "--name", "other", "--add-host", "host:host-gateway"];
    let script = "cat /etc/hosts; exec sleep 600";
    let running = host.run(&options, host.debian(), &["sh", "-c", script]).start();
    let mut other = Container::new(&host, "other", running);
    other.wait_for_output("\thost\n");
    assert_eq!(other.network().id(), place.id());
    // Its addresses by the own name, and the way to the host.
    let hosts = other.stdout();
    for line in
        [format!("{}\tother\n", web.address()), format!("{}\tother\n", web.address6()), "10.77.0.1\thost\n".into()]
    {
        assert!(hosts.contains(&line), "{line} in {hosts}");
    }
    // And its loopback.
    assert_page(&other.network(), "127.0.0.1:80");
    assert_links(&host, "container:web", &["eth0", "lo"]);
    // Published ports disappear with their container, and the namespace with the last container.
    let _ = web.stop();
    assert_page_gone(&host);
    assert!(other.network().program("ip").args(["-o", "link"]).run().ok().contains("eth0"));
    other.signal(Signal::SIGTERM);
    let _ = other.into_running().finish();
    host.prune();
    before.assert_restored(|| host.snapshot());
}

fn assert_page_gone(host: &Host) {
    assert_unreachable(&host.neighbour, &format!("{HOST_ADDRESS}:8080"));
    assert_unreachable(&host.neighbour, &format!("[{HOST_ADDRESS6}]:8080"));
}

#[test]
fn network_of_a_stopped_container_is_refused() {
    let host = Host::new();
    let _web = host.nginx("web", &[]);
    let before = host.snapshot();
    for name in ["nosuch", "we", "web2"] {
        let net = format!("container:{name}");
        let line = host.run(&["--net", &net], host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains(&net) && line.contains("no running container"), "{line}");
        before.assert_restored(|| host.snapshot());
    }
    for name in ["", "../web", "web/"] {
        let line = host.run(&["--net", &format!("container:{name}")], host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains("not a container name"), "{line}");
    }
}

#[test]
fn macvlan_is_a_host_of_the_lan() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let net = format!("macvlan=eth0,gateway={NEIGHBOUR_ADDRESS},gateway6=2001:db8::2");
    let options = ["--net", &net, "--ip", "192.0.2.7/24", "--ip6", "2001:db8::7/64"];
    let mut web = host.nginx("web", &options);
    assert_eq!((web.address(), web.address6()), ("192.0.2.7".into(), "2001:db8::7".into()));
    assert_page(&host.neighbour, "192.0.2.7:80");
    assert_page(&host.neighbour, "[2001:db8::7]:80");
    for (family, gateway) in [("-4", NEIGHBOUR_ADDRESS), ("-6", "2001:db8::2")] {
        let routes = web.network().program("ip").args([family, "route", "show", "default"]).run().ok();
        assert!(routes.contains(&format!("via {gateway} dev eth0")), "{routes}");
    }
    // Another one of the same LAN; the host itself is the one that does not reach them.
    let mut other = host.nginx("other", &["--net", "macvlan=eth0", "--ip", "192.0.2.8/24"]);
    assert_page(&other.network(), "192.0.2.7:80");
    assert_unreachable(host.place(), "192.0.2.7:80");
    let hosts = host.run(&["--net", "macvlan=eth0", "--ip", "192.0.2.9/24", "--name", "x"], host.debian(), &[]);
    assert!(hosts.args(["cat", "/etc/hosts"]).run().ok().contains("192.0.2.9\tx\n"));
    let line = host.run(&["--net", "macvlan=eth0", "--ip", "192.0.2.7/24"], host.demo(), &["/bin/true"]).run();
    let line = line.refused(125);
    assert!(line.contains("192.0.2.7") && line.contains("the container web has"), "{line}");
    let _ = (web.stop(), other.stop());
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn invalid_macvlan_is_refused() {
    let host = Host::new();
    let before = host.snapshot();
    let ip = ["--ip", "192.0.2.7/24"];
    for (net, options, word) in [
        ("macvlan=eth0", &[][..], "no DHCP"),
        ("macvlan=eth0", &["--ip6", "2001:db8::7/64"], "--ip ADDRESS/PREFIX"),
        ("macvlan=eth0", &["--ip", "192.0.2.7"], "prefix"),
        ("macvlan=eth0", &["--ip", "192.0.2.0/24"], "a host"),
        ("macvlan=eth0", &["--ip", "192.0.2.255/24"], "a host"),
        ("macvlan=nosuch", &ip, "nosuch"),
        ("macvlan=", &ip, "not a link name"),
        ("macvlan=eth0,gateway=x", &ip, "gateway"),
        ("macvlan=eth0,gateway=fd00::1", &ip, "gateway"),
        ("macvlan=eth0,gateway6=192.0.2.1", &ip, "gateway"),
        ("macvlan=eth0,subnet=192.0.2.0/24", &ip, "macvlan=LINK"),
        ("macvlan=lo", &ip, "not a link name"),
        ("macvlan", &ip, "not a network"),
    ] {
        let options = [&["--net", net], options].concat();
        let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(125);
        assert!(line.contains(word), "{options:?}: {line}");
        before.assert_restored(|| host.snapshot().with("state", &before).with("cgroups", &before));
    }
}

#[test]
fn ordinary_user_gets_errors_for_privileged_networks() {
    let host = Host::new();
    let _place = make_namespace(&host);
    let bin = host.directory().join("bin");
    fs::create_dir(&bin).unwrap();
    for file in [tests::launcher(), tests::init()] {
        fs::copy(&file, bin.join(file.file_name().unwrap())).unwrap();
    }
    let state = host.directory().join("theirs");
    fs::create_dir(&state).unwrap();
    nix::unistd::chown(&state, Some(4711.into()), Some(4711.into())).unwrap();
    for (net, options, words) in [
        ("bridge=blue,subnet=10.88.0.0/24", &[][..], ["bridge", "root"]),
        ("macvlan=eth0", &["--ip", "192.0.2.7/24"], ["macvlan", "root"]),
        ("ns:/run/netns/blue", &[], ["EPERM", "sudo"]),
        ("container:web", &[], ["container:web", "no running container"]),
    ] {
        let program = host.program(bin.join("kontena")).arg("--root").arg(&state).args(["run", "--net", net]);
        let program = program.args(options).arg(host.demo()).arg("/bin/true");
        let line = program.with(|command| _ = command.uid(4711).gid(4711)).run().refused(125);
        assert!(words.iter().all(|word| line.contains(word)), "{net}: {line}");
    }
}
