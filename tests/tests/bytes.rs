//! Objects that kontena creates in the kernel, compared with those of nft(8) and ip(8).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc::{AF_BRIDGE, AF_INET, AF_INET6};
use serde_json::Value;
use std::collections::BTreeMap;
use tests::netlink::{Attributes, GET_CHAIN, GET_ELEMENTS, GET_RULE, GET_SET, dump};
use tests::{Host, Place};

/// The ruleset at the top of nft.rs, and its differences for IPv6.
fn ruleset() -> String {
    let source = include_str!("../../launcher/src/net/nft.rs");
    let text = source.split("//! ```text\n").nth(1).unwrap().split("//! ```").next().unwrap();
    let text: String = text.lines().map(|line| format!("{}\n", line.strip_prefix("//!").unwrap())).collect();
    let (ip, bridge) = text.split_once(" table bridge ").unwrap();
    // For expressions that nft 1.0.6 does not know yet, others of the same size stand in; see `as_meant`.
    let bridge = bridge.replace("icmpv6 taddr", "ip6 daddr");
    let (before, rest) = ip.split_once("        iifname != \"lo\" ").unwrap();
    let (_, behind) = rest.split_once("; }\n").unwrap();
    let mut ip6 = format!("{before}iifname @bridges fib saddr type local drop; }}\n{behind}");
    for (four, six) in [
        ("table ip ", "table ip6 "),
        ("ipv4_addr", "ipv6_addr"),
        ("ip daddr", "ip6 daddr"),
        ("ip saddr", "ip6 saddr"),
        ("fib daddr type local", "fib daddr type local ip6 daddr != ::1"),
        ("\"kontena0\" . 10.77.0.0/16, \"kontena0\" . 127.0.0.0/8", "\"kontena0\" . fd6b:6f6e:a4d::/64"),
    ] {
        assert!(ip6.contains(four), "{four} in {ip6}");
        ip6 = ip6.replace(four, six);
    }
    // In the order in which kontena makes them.
    format!("{ip} table bridge {bridge}{ip6}")
}

/// The attributes of a rule with the destination of IPv6's header, 24 bytes from its beginning, in place of which
/// [`ruleset`] means the target of a neighbour's solicitation or advertisement, 8 bytes from the beginning of ICMP's.
fn as_meant(rule: &mut Attributes) {
    const EXPRESSIONS: u16 = 4;
    // Base, offset and length, each an attribute of eight bytes.
    let attributes = |base: u8, offset: u8| -> Vec<u8> {
        [(2, base), (3, offset), (4, 16)].iter().flat_map(|(kind, value)| [8, 0, *kind, 0, 0, 0, 0, *value]).collect()
    };
    let (from, to) = (attributes(1, 24), attributes(2, 8));
    let Some(bytes) = rule.get_mut(&EXPRESSIONS) else { return };
    while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + to.len()].copy_from_slice(&to);
    }
}

/// A host with kontena's tables and two published ports, and one with those that nft(8) makes of the text.
fn with_tables() -> (Host, Host) {
    let (ours, theirs) = (Host::new(), Host::new());
    let options = ["--ip", "10.77.0.5", "-p", "8080:80", "-p", "192.0.2.1:5353:53/udp", "-p", "[2001:db8::1]:8081:81"];
    let web = ours.nginx("web", &options);
    let elements = "
        add element ip kontena published { tcp . 8080 : 10.77.0.5 . 80 }
        add element ip kontena published_at { 192.0.2.1 . udp . 5353 : 10.77.0.5 . 53 }
        add element ip6 kontena published { tcp . 8080 : fd6b:6f6e:a4d::5 . 80 }
        add element ip6 kontena published_at { 2001:db8::1 . tcp . 8081 : fd6b:6f6e:a4d::5 . 81 }
        add element bridge kontena hosts { \"kt0a4d0005\" . 02:6b:0a:4d:00:05 . 10.77.0.5 }
        add element bridge kontena hosts6 { \"kt0a4d0005\" . 02:6b:0a:4d:00:05 . fd6b:6f6e:a4d::5,
            \"kt0a4d0005\" . 02:6b:0a:4d:00:05 . fe80::6b:aff:fe4d:5 }
    ";
    let input = ruleset() + elements;
    let _ = theirs.program("nft").args(["-f", "-"]).input(input.as_bytes()).run().ok();
    // A killed launcher removes nothing.
    drop(web);
    (ours, theirs)
}

#[test]
fn tables_equal_those_that_nft_makes_of_the_text() {
    let (ours, theirs) = with_tables();
    let list = |host: &Host| -> Value {
        let json = host.says("nft", &["-j", "list", "ruleset"]);
        // As in `as_meant`; and elements in any order.
        let target = r#"{"payload": {"base": "th", "offset": 64, "len": 128}}"#;
        let json = json.replace(r#"{"payload": {"protocol": "ip6", "field": "daddr"}}"#, target);
        let mut json = serde_json::from_str(&json).unwrap();
        forget(&mut json, &["handle", "metainfo"]);
        sort_elements(&mut json);
        json
    };
    let (ours, theirs) = (list(&ours), list(&theirs));
    assert!(ours.to_string().contains("kontena0") && ours.to_string().contains("8081"), "{ours}");
    assert_eq!(ours, theirs);
}

#[test]
fn attributes_of_the_tables_equal_those_of_nft() {
    let (ours, theirs) = with_tables();
    // Handles; nft's own notes; and the table's number of users.
    for (get, ignored) in [(GET_CHAIN, &[2, 6][..]), (GET_RULE, &[3, 6, 7]), (GET_SET, &[13, 16])] {
        for family in [AF_INET, AF_INET6, AF_BRIDGE] {
            let of = |host: &Host| -> Vec<Attributes> {
                let mut objects = dump(host.place(), get, family, None);
                objects.iter_mut().for_each(|object| object.retain(|kind, _| !ignored.contains(kind)));
                objects
            };
            let (ours, mut theirs) = (of(&ours), of(&theirs));
            if get == GET_RULE && family == AF_BRIDGE {
                theirs.iter_mut().for_each(as_meant);
            }
            assert!(ours.len() >= 2, "{ours:?}");
            assert_eq!(ours.len(), theirs.len(), "{get} {family}");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours, theirs, "{get} {family}");
            }
        }
    }
    let of_both = ["published", "published_at", "bridges", "within", "hairpin", "closed"];
    for (sets, families) in [(&of_both[..], &[AF_INET, AF_INET6][..]), (&["hosts", "hosts6"], &[AF_BRIDGE])] {
        for (set, family) in sets.iter().flat_map(|set| families.iter().map(move |family| (*set, *family))) {
            let of = |place: &Place| -> Vec<Vec<u8>> {
                const ELEMENTS: u16 = 3;
                let mut lists: Vec<_> =
                    dump(place, GET_ELEMENTS, family, Some(set)).iter().map(|list| list[&ELEMENTS].clone()).collect();
                lists.sort_unstable();
                lists
            };
            let (ours, theirs) = (of(ours.place()), of(theirs.place()));
            assert!(!ours.is_empty(), "{set} {family}");
            // Two subnets may come in any order.
            let sorted = |lists: &[Vec<u8>]| {
                let mut bytes = lists.concat();
                bytes.sort_unstable();
                bytes
            };
            assert_eq!(sorted(&ours), sorted(&theirs), "{set} {family}");
        }
    }
}

#[test]
fn links_addresses_and_routes_equal_those_of_ip() {
    let ours = Host::new();
    let mut web = ours.nginx("web", &["--ip", "10.77.0.5"]);
    let theirs = Host::new();
    theirs.ip("netns add web\n");
    let there = theirs.inside(|| Place::at("/run/netns/web"));
    let settings = |place: &Place, lines: &[(&str, &str)]| {
        for (name, value) in lines {
            place.inside(|| std::fs::write(format!("/proc/sys/net/{name}"), value)).unwrap();
        }
    };
    settings(theirs.place(), &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")]);
    settings(&there, &[("ipv6/conf/default/accept_ra", "0")]);
    theirs.ip("link add kontena0 address 02:6b:0a:4d:00:01 type bridge mcast_snooping 0\n\
               link set kontena0 addrgenmode none up\n\
         addr add 10.77.0.1/16 brd + dev kontena0 nodad\naddr add fd6b:6f6e:a4d::1/64 dev kontena0 nodad\n\
         addr add fe80::1/64 dev kontena0 nodad\n\
         link add kt0a4d0005 numtxqueues 1 numrxqueues 1 group 1802464884 type veth peer name eth0 numtxqueues 1 \
         numrxqueues 1 address 02:6b:0a:4d:00:05 netns web\n\
         link set kt0a4d0005 master kontena0 addrgenmode none up\nlink set kt0a4d0005 type bridge_slave hairpin on\n");
    there.ip("link set lo up\nlink set eth0 up\naddr add 10.77.0.5/16 brd + dev eth0 nodad\n\
         addr add fd6b:6f6e:a4d::5/64 dev eth0 nodad\nroute add default via 10.77.0.1 dev eth0 onlink\n\
         route add default via fd6b:6f6e:a4d::1 dev eth0 onlink\n");
    for arguments in [
        &["-d", "link", "show", "dev", "kontena0"][..],
        &["-d", "link", "show", "dev", HOST_END],
        &["-d", "addr", "show", "dev", "kontena0"],
        &["-d", "-4", "route", "show", "table", "all", "dev", "kontena0"],
        &["-d", "-6", "route", "show", "table", "all", "dev", "kontena0"],
    ] {
        assert_same(ours.place(), theirs.place(), arguments);
    }
    for arguments in [
        &["-d", "link", "show", "dev", "eth0"][..],
        &["-d", "link", "show", "dev", "lo"],
        &["-d", "-4", "addr", "show", "dev", "eth0"],
        &["-d", "-6", "addr", "show", "dev", "eth0", "scope", "global"],
        &["-d", "-4", "route", "show", "table", "all"],
        &["-d", "-6", "route", "show", "default"],
    ] {
        assert_same(&web.network(), &there, arguments);
    }
}

/// The host end of 10.77.0.5.
const HOST_END: &str = "kt0a4d0005";

/// Compares the output of ip(8) in two places, without values that differ each time: numbers, timers and counters.
#[track_caller]
fn assert_same(ours: &Place, theirs: &Place, arguments: &[&str]) {
    const VOLATILE: [&str; 14] = [
        "ifindex",
        "link_index",
        "link_netnsid",
        "designated_port",
        "designated_cost",
        "port_no",
        "port_id",
        "no",
        "bridge_id",
        "root_id",
        "designated_root",
        "designated_bridge",
        "operstate",
        "link",
    ];
    // The kernel's own choice, of a host end.
    let random = if arguments.contains(&HOST_END) { &["address"][..] } else { &[] };
    let show = |place: &Place| -> BTreeMap<String, Value> {
        let mut json: Value = serde_json::from_str(&place.program("ip").arg("-j").args(arguments).run().ok()).unwrap();
        forget(&mut json, &[&VOLATILE, random].concat());
        let mut flat = BTreeMap::new();
        flatten("", &json, &mut flat);
        flat.retain(|key, _| !key.ends_with("timer") && !key.ends_with("_timer_wait"));
        flat
    };
    let (ours, theirs) = (show(ours), show(theirs));
    assert!(!ours.is_empty(), "{arguments:?}");
    assert_eq!(ours, theirs, "{arguments:?}");
}

/// Takes members of these names out of all objects.
fn forget(json: &mut Value, names: &[&str]) {
    match json {
        Value::Object(object) => {
            object.retain(|name, _| !names.contains(&name.as_str()));
            object.values_mut().for_each(|value| forget(value, names));
        }
        Value::Array(values) => {
            values.retain(|value| {
                !value
                    .as_object()
                    .is_some_and(|object| names.iter().any(|name| object.contains_key(*name)) && object.len() == 1)
            });
            values.iter_mut().for_each(|value| forget(value, names));
        }
        _ => {}
    }
}

/// Elements of sets come in any order.
fn sort_elements(json: &mut Value) {
    match json {
        Value::Object(object) => {
            object.values_mut().for_each(sort_elements);
            if let Some(Value::Array(elements)) = object.get_mut("elem") {
                elements.sort_by_key(Value::to_string);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(sort_elements),
        _ => {}
    }
}

/// Every member, by its path.
fn flatten(path: &str, json: &Value, flat: &mut BTreeMap<String, Value>) {
    match json {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| flatten(&format!("{path}/{name}"), value, flat))
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| flatten(&format!("{path}/{index}"), value, flat));
        }
        value => _ = flat.insert(path.into(), value.clone()),
    }
}
