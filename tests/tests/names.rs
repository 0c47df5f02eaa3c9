//! Containers by name: on bridges that were given a name, in each other's /etc/hosts.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::IpAddr;
use std::thread;
use tests::{Background, Host, wait_for, wait_until};

const BLUE: &str = "bridge=blue,subnet=10.88.0.0/24";
const GREEN: &str = "bridge=green,subnet=10.89.0.0/24";
const FOREVER: &str = "exec sleep 600";

/// Starts a container in the background, with a script as its command.
fn start<'a>(host: &'a Host, name: &str, net: &str, options: &[&str], script: &str) -> Background<'a> {
    let options = [&["-d", "--name", name, "--net", net], options].concat();
    let _ = host.run(&options, host.debian(), &["sh", "-c", script]).run().ok();
    Background::new(host, name)
}

fn hosts(of: &Background<'_>) -> String {
    of.exec(&["cat", "/etc/hosts"]).run().ok()
}

/// The addresses of a name in a container, by glibc; IPv4 first.
fn addresses(of: &Background<'_>, name: &str) -> Vec<String> {
    let ask = |database| of.exec(&["getent", database, name]).run().stdout;
    // An IPv4 address comes as one of IPv6, too.
    let first = |text: String| text.split_whitespace().find(|word| !word.starts_with("::ffff:")).map(String::from);
    let is_address = |word: &String| word.parse::<IpAddr>().is_ok();
    ["ahostsv4", "ahostsv6"].into_iter().filter_map(|database| first(ask(database)).filter(is_address)).collect()
}

/// The addresses of a container, as `kontena inspect` has them.
fn own(of: &Background<'_>) -> Vec<String> {
    let record = of.inspect();
    record["addresses"].as_array().unwrap().iter().map(|address| address.as_str().unwrap().into()).collect()
}

#[track_caller]
fn wait_for_name(of: &Background<'_>, name: &str, expected: &[String]) {
    wait_until(&format!("{name} to be {expected:?}"), || addresses(of, name) == expected);
}

#[track_caller]
fn wait_until_unknown(of: &Background<'_>, name: &str) {
    wait_until(&format!("{name} to be gone"), || !hosts(of).contains(&format!("\t{name}\n")));
}

#[test]
fn containers_of_a_named_bridge_reach_each_other_by_name() {
    let host = Host::new();
    let _ = host.debian();
    let before = host.snapshot();
    let nginx = "exec nginx -g 'daemon off;'";
    let first = start(&host, "first", BLUE, &[], nginx);
    let second = start(&host, "second", "bridge=blue", &["--hostname", "other"], nginx);
    // The later one knows the earlier one from the start, and the earlier one learns of it.
    assert_eq!(addresses(&second, "first"), own(&first));
    assert_eq!(own(&first).len(), 2, "{:?}", own(&first));
    wait_for_name(&first, "second", &own(&second));
    for (from, to) in [(&first, "second"), (&second, "first"), (&second, "second"), (&second, "other")] {
        let script = format!("exec 3<> /dev/tcp/{to}/80 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3");
        wait_until("a page", || from.exec(&["bash", "-c", &script]).run().stdout.contains("nginx"));
    }
    // A restart with another address.
    let old = own(&second);
    for name in ["second", "third"] {
        if name == "second" {
            let _ = second.does("stop");
            wait_until_unknown(&first, name);
            let _ = second.does("delete");
        }
        let ip: &[&str] = if name == "second" { &["--ip", "10.88.0.77"] } else { &[] };
        let new = start(&host, name, "bridge=blue", ip, FOREVER);
        wait_for_name(&first, name, &own(&new));
        assert_ne!(own(&new), old);
    }
    for name in ["first", "second", "third"] {
        let _ = host.kontena().args(["delete", "--force", name]).run().ok();
    }
    host.prune();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn restarted_container_is_found_again() {
    let host = Host::new();
    let _ = start(&host, "seen", BLUE, &["--restart", "always"], "sleep 1");
    let other = start(&host, "other", "bridge=blue", &[], FOREVER);
    for _ in 0..2 {
        wait_until("the end", || !hosts(&other).contains("\tseen\n"));
        wait_until("the restart", || hosts(&other).contains("\tseen\n"));
    }
    let _ = host.kontena().args(["stop", "seen"]).run().ok();
    wait_until_unknown(&other, "seen");
}

#[test]
fn name_of_a_killed_launcher_is_gone_after_the_next_command() {
    let host = Host::new();
    let watcher = start(&host, "watcher", BLUE, &[], FOREVER);
    let killed = start(&host, "killed", "bridge=blue", &["--rm"], FOREVER);
    wait_for_name(&watcher, "killed", &own(&killed));
    killed.kill_launcher();
    let _ = host.sh(&[], "true").run().ok();
    wait_until_unknown(&watcher, "killed");
    // A container that starts before any repair does not see it either.
    let other = start(&host, "other", "bridge=blue", &["--rm"], FOREVER);
    wait_for_name(&watcher, "other", &own(&other));
    other.kill_launcher();
    let last = start(&host, "last", "bridge=blue", &[], FOREVER);
    assert!(!hosts(&last).contains("other"), "{}", hosts(&last));
    wait_until_unknown(&watcher, "other");
}

#[test]
fn other_bridges_and_the_default_one_have_no_such_names() {
    let host = Host::new();
    let blue = [("a", BLUE), ("b", "bridge=blue")].map(|(name, net)| start(&host, name, net, &[], FOREVER));
    let green = start(&host, "c", GREEN, &[], FOREVER);
    let default = [("d", "bridge"), ("e", "bridge")].map(|(name, net)| start(&host, name, net, &[], FOREVER));
    wait_for_name(&blue[0], "b", &own(&blue[1]));
    for (of, known) in [(&blue[0], "ab"), (&blue[1], "ab"), (&green, "c"), (&default[0], "d"), (&default[1], "e")] {
        let text = hosts(of);
        for name in ["a", "b", "c", "d", "e"] {
            assert_eq!(text.contains(&format!("\t{name}\n")), known.contains(name), "{name}: {text}");
        }
    }
}

#[test]
fn containers_of_all_state_directories_share_the_names_of_a_bridge() {
    let host = Host::new();
    let here = start(&host, "here", BLUE, &[], FOREVER);
    let other = host.directory().join("other");
    let running = host.run_in(&other, &["--name", "there", "--net", "bridge=blue"], &["/usr/sbin/nginx"]).start();
    wait_until("the name", || hosts(&here).contains("\tthere\n"));
    drop(running);
    let _ = host.kontena_in(&other).args(["prune"]).run().ok();
    wait_until_unknown(&here, "there");
}

#[test]
fn name_cannot_replace_a_containers_own_lines() {
    let host = Host::new();
    let options = ["--add-host", "db:192.0.2.7", "--hostname", "self"];
    let victim = start(&host, "victim", BLUE, &options, FOREVER);
    let plain = hosts(&victim);
    for name in ["localhost", "LOCALHOST", "ip6-loopback", "db", "DB", "self", "a+b"] {
        let _ = start(&host, name, "bridge=blue", &[], FOREVER);
    }
    let last = start(&host, "last", "bridge=blue", &[], FOREVER);
    wait_for_name(&victim, "last", &own(&last));
    // In any order.
    let mut text = hosts(&victim);
    for address in own(&last) {
        text = text.replace(&format!("{address}\tlast\n"), "");
    }
    assert_eq!(text, plain);
    assert_eq!(addresses(&victim, "db"), ["192.0.2.7"]);
}

#[test]
fn hostile_container_spoils_only_its_own_file() {
    let host = Host::new();
    let canary = host.directory().join("canary");
    fs::write(&canary, "unchanged").unwrap();
    let spoils = [
        ("fills", "cat /dev/zero > /dev/full.too; cat /dev/zero >> /etc/hosts"),
        ("grows", "truncate -s 1T /etc/hosts"),
        ("covers", "umount /etc/hosts; rm /etc/hosts; ln -s /canary /etc/hosts"),
        ("refuses", "chmod 0 /etc/hosts; chown 7:7 /etc/hosts; chattr +i /etc/hosts"),
        ("waits", "mkfifo /fifo; mount --bind /fifo /etc/hosts; flock /dev/null true"),
    ];
    let volume = format!("{}:/canary", canary.display());
    let hostile = spoils.map(|(name, script)| {
        let script = format!("({script}) 2> /dev/null; touch /tmp/done; {FOREVER}");
        let options = ["--overlay", "--cap-add", "all", "--tmpfs", "/tmp", "-v", &volume];
        start(&host, name, BLUE, &options, &script)
    });
    for of in &hostile {
        wait_until("the attack", || of.exec(&["test", "-e", "/tmp/done"]).run().code == 0);
    }
    let good = start(&host, "good", "bridge=blue", &[], FOREVER);
    let late = start(&host, "late", "bridge=blue", &[], FOREVER);
    wait_for_name(&good, "late", &own(&late));
    for of in &hostile {
        let name = of.inspect()["name"].as_str().unwrap().to_owned();
        assert_eq!(addresses(&good, &name), own(of), "{name}");
        // Their launchers work as before.
        assert_eq!(of.exec(&["echo", "well"]).run().ok(), "well\n");
        let _ = of.does("stop");
        wait_until_unknown(&late, &name);
    }
    assert_eq!(fs::read_to_string(&canary).unwrap(), "unchanged");
}

#[test]
fn many_at_once_all_know_each_other() {
    const MANY: usize = 12;
    let host = Host::new();
    let _ = host.debian();
    let _ = host.run(&["--net", BLUE], host.demo(), &["/bin/true"]).run().ok();
    let all: Vec<Background<'_>> = thread::scope(|scope| {
        let start = |number| {
            let host = &host;
            scope.spawn(move || start(host, &format!("c{number}"), "bridge=blue", &[], FOREVER))
        };
        let started: Vec<_> = (0..MANY).map(start).collect();
        started.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let expected: Vec<String> = all.iter().flat_map(own).collect();
    for of in &all {
        let text = wait_for("all names", || {
            Some(hosts(of)).filter(|text| (0..MANY).all(|number| text.contains(&format!("\tc{number}\n"))))
        });
        assert!(expected.iter().all(|address| text.contains(&format!("{address}\tc"))), "{text}");
    }
}
