//! `linux.netDevices`: network links that a bundle moves from the host into its container.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs;
use tests::{Bundle, Host};

/// A host with a veth pair `moved` and `stays`; `moved` has addresses of all kinds.
fn host() -> Host {
    let host = Host::new();
    let _ = host.debian();
    host.ip("link add moved type veth peer name stays\nlink set stays up\n\
         link set moved mtu 1400 address 02:00:00:00:00:07 up\n\
         addr add 198.51.100.7/24 dev moved\naddr add 198.51.100.8/32 peer 198.51.100.9 dev moved\n\
         addr add 169.254.0.7/16 scope link dev moved\naddr add 2001:db8:1::7/64 dev moved nodad\n\
         addr add 2001:db8:1::8/64 dev moved nodad valid_lft 3600 preferred_lft 3600\n");
    host
}

fn bundle<'a>(host: &'a Host, devices: &Value, change: impl FnOnce(&mut Value)) -> Bundle<'a> {
    Bundle::new(host, "sleep 600", |config| {
        config["linux"]["netDevices"] = devices.clone();
        change(config);
    })
}

/// The output of ip(8) for a link in the container.
fn inside(bundle: &Bundle<'_>, name: &str) -> Value {
    let (host, pid) = (bundle.host, bundle.pid().to_string());
    let said = host.program("nsenter").args(["-t", &pid, "-n", "ip", "-j", "addr", "show", "dev", name]).run().ok();
    serde_json::from_str::<Value>(&said).unwrap()[0].clone()
}

fn addresses(link: &Value) -> Vec<String> {
    let all = link["addr_info"].as_array().unwrap().iter();
    let all = all.filter(|address| address["scope"] != "link");
    let mut all: Vec<_> =
        all.map(|address| format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"])).collect();
    all.sort();
    all
}

#[test]
fn net_devices_are_moved_with_their_addresses_and_come_up() {
    for (devices, name) in [
        (json!({"moved": {}}), "moved"),
        (json!({"moved": {"name": "eth7"}}), "eth7"),
        (json!({"moved": {"name": "net%d"}}), "net0"),
    ] {
        let host = host();
        let bundle = bundle(&host, &devices, |_| {});
        bundle.create_in_silence();
        let link = inside(&bundle, name);
        assert_eq!((&link["mtu"], &link["address"]), (&json!(1400), &json!("02:00:00:00:00:07")));
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")), "{link}");
        assert_eq!(addresses(&link), ["198.51.100.7/24", "198.51.100.8/32", "2001:db8:1::7/64"], "{link}");
        assert!(host.says("ip", &["link"]).contains("stays") && !host.says("ip", &["link"]).contains("moved"));
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    }
}

#[test]
fn net_devices_move_back_if_create_fails() {
    let host = host();
    let before = host.snapshot();
    let missing = |config: &mut Value| config["process"]["args"] = json!(["nosuch"]);
    let host_network = |config: &mut Value| config["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}]);
    let own = |config: &mut Value| config["linux"]["namespaces"][1]["path"] = json!("/proc/self/ns/net");
    type Change<'a> = &'a dyn Fn(&mut Value);
    let needs = "linux.netDevices: it needs a network namespace";
    let table: [(Value, Change<'_>, &str); 9] = [
        (json!({"moved": {"name": "a"}}), &missing, "executable file not found"),
        (json!({"moved": {}, "nosuch": {}}), &|_| {}, "no link is called nosuch"),
        (json!({"moved": {"name": "lo"}}), &|_| {}, "a link lo already"),
        (json!({"lo": {"name": "other"}}), &|_| {}, "move the link lo to other"),
        (json!({"moved": {"name": "x"}, "stays": {"name": "x"}}), &|_| {}, "a link x already"),
        (json!({"moved": {}}), &host_network, needs),
        (json!({"moved": {}}), &own, needs),
        (json!({"moved": {"name": "a/b"}}), &|_| {}, "linux.netDevices.moved: expected names of links"),
        (json!({"moved": {"name": "0123456789abcdef"}}), &|_| {}, "linux.netDevices.moved: expected names of links"),
    ];
    for (devices, change, words) in table {
        let bundle = bundle(&host, &devices, change);
        let line = bundle.create().run().refused(1);
        assert!(line.contains(words), "{line}");
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
        host.prune();
        let link: Value = serde_json::from_str(&host.says("ip", &["-j", "addr", "show", "dev", "moved"])).unwrap();
        assert!(addresses(&link[0]).contains(&"2001:db8:1::7/64".into()), "{link}");
        assert!(link[0]["flags"].as_array().unwrap().contains(&json!("UP")), "{link}");
    }
    // The numbers of the links may differ.
    let names = |snapshot: &tests::Snapshot| -> Vec<String> {
        let lines = snapshot.lines("links").iter();
        let mut names: Vec<_> = lines.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&before), names(&host.snapshot()));
}

#[test]
fn net_devices_stay_in_a_joined_network_after_the_container() {
    let host = host();
    let mut holder = host.program("unshare").args(["-n", "sh", "-c", "echo $$; exec sleep 600"]).start();
    holder.wait_for_output("\n");
    let path = format!("/proc/{}/ns/net", holder.stdout().trim());
    let bundle = bundle(&host, &json!({"moved": {"name": "joined"}}), |config| {
        config["linux"]["namespaces"][1]["path"] = json!(path);
    });
    bundle.create_in_silence();
    assert_eq!(addresses(&inside(&bundle, "joined")).len(), 3);
    let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
    let link = host.program("nsenter").arg(format!("--net={path}")).args(["ip", "link", "show", "joined"]).run().ok();
    assert!(link.contains("joined"), "{link}");
}
