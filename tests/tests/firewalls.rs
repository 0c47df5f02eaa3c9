//! Other firewalls that drop forwarded packets: kontena warns when it creates a bridge, and the remedy works.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use tests::traffic::{assert_page, assert_unreachable};
use tests::{Container, HOST_ADDRESS, HOST_ADDRESS6, Host, instruments};

const WARNING: &str = "kontena: warning: ";

/// Runs a shell line with iptables, which looks for its modules where it was installed.
fn shell(host: &Host, line: &str) {
    let libraries = fs::read_dir(instruments().join("usr/lib")).unwrap().flatten();
    let parts = libraries.map(|entry| entry.path().join("xtables")).find(|path| path.is_dir());
    let _ = host.program("sh").env("XTABLES_LIBDIR", parts.expect("iptables")).args(["-c", line]).run().ok();
}

/// Starts nginx on kontena0 with a published port; also returns its stderr.
fn start(host: &Host) -> (Container<'_>, Vec<String>) {
    let web = host.nginx("web", &["-p", "8080:80"]);
    let warnings = web.stderr().lines().map(String::from).collect();
    (web, warnings)
}

/// Runs the commands of the warnings, and checks that they help.
#[track_caller]
fn assert_remedied(host: &Host, warnings: &[String], addresses: &[&str]) {
    for address in addresses {
        assert_unreachable(&host.neighbour, address);
    }
    for warning in warnings {
        let (what, remedy) = warning.rsplit_once(": ").unwrap();
        assert!(what.starts_with(WARNING) && what.contains("kontena0 is cut off"), "{warning}");
        shell(host, remedy);
    }
    for address in addresses {
        assert_page(&host.neighbour, address);
    }
}

fn of_both() -> [String; 2] {
    [format!("{HOST_ADDRESS}:8080"), format!("[{HOST_ADDRESS6}]:8080")]
}

#[test]
fn nftables_chain_is_reported_with_a_remedy() {
    let host = Host::new();
    let theirs = "table inet strict { chain through { type filter hook forward priority 10; policy drop; }
        chain input { type filter hook input priority 0; policy accept; }; }";
    let _ = host.program("nft").args(["-f", "-"]).input(theirs.as_bytes()).run().ok();
    let before = host.says("nft", &["list", "table", "inet", "strict"]);
    let (web, warnings) = start(&host);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("chain through of table inet strict"), "{warnings:?}");
    assert_eq!(host.says("nft", &["list", "table", "inet", "strict"]), before, "nothing of theirs is changed");
    let [four, six] = of_both();
    assert_remedied(&host, &warnings, &[&four, &six]);
    // If the bridge is allowed, or existed before, there is no warning.
    let _ = web.stop();
    assert_eq!(host.run(&[], host.demo(), &["/bin/true"]).run().code(0).stderr, "");
    host.prune();
    assert_eq!(host.run(&[], host.demo(), &["/bin/true"]).run().code(0).stderr, "");
    let net = "bridge=blue,subnet=10.88.0.0/24";
    let stderr = host.run(&["--net", net], host.demo(), &["/bin/true"]).run().code(0).stderr;
    assert!(stderr.starts_with(WARNING) && stderr.contains("blue"), "{stderr}");
}

#[test]
fn iptables_chain_is_reported_with_a_remedy() {
    let host = Host::new();
    // As docker leaves them.
    shell(&host, "iptables-nft -P FORWARD DROP && ip6tables-nft -P FORWARD DROP");
    let (_web, warnings) = start(&host);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains(": iptables -I FORWARD -i kontena0 -j ACCEPT"), "{warnings:?}");
    assert!(warnings[1].contains(": ip6tables -I FORWARD -i kontena0 -j ACCEPT"), "{warnings:?}");
    let [four, six] = of_both();
    // The programs may be links to the older ones.
    let warnings: Vec<String> = warnings.iter().map(|line| line.replace("tables -I", "tables-nft -I")).collect();
    assert_remedied(&host, &warnings, &[&four, &six]);
}

#[test]
fn legacy_iptables_chain_is_reported_with_a_remedy() {
    let host = Host::new();
    shell(&host, "iptables-legacy -P FORWARD DROP && ip6tables-legacy -P FORWARD DROP");
    let (_web, warnings) = start(&host);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("chain FORWARD of iptables-legacy"), "{warnings:?}");
    assert!(warnings[1].contains("chain FORWARD of ip6tables-legacy"), "{warnings:?}");
    let [four, six] = of_both();
    assert_remedied(&host, &warnings, &[&four, &six]);
    host.prune();
}

#[test]
fn missing_iptables_are_not_created() {
    let host = Host::new();
    let _ = host.run(&[], host.demo(), &["/bin/true"]).run().ok();
    for names in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
        // The file exists once the kernel has any.
        let tables = host.says("sh", &["-c", &format!("cat {names} 2>/dev/null; true")]);
        assert_eq!(tables, "", "{names}");
    }
}

#[test]
fn firewalls_with_a_frontend_are_reported_with_its_command() {
    let host = Host::new();
    let theirs = "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;
            ct state established,related accept; reject with icmpx admin-prohibited; }; }";
    let _ = host.program("nft").args(["-f", "-"]).input(theirs.as_bytes()).run().ok();
    let (web, warnings) = start(&host);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with(": firewall-cmd --zone=trusted --add-interface=kontena0"), "{warnings:?}");
    let _ = web.stop();
    host.prune();
    let _ = host.says("nft", &["flush", "ruleset"]);

    let theirs = "table ip filter { chain ufw-before-forward {}
        chain FORWARD { type filter hook forward priority 0; policy drop; jump ufw-before-forward; }; }";
    let _ = host.program("nft").args(["-f", "-"]).input(theirs.as_bytes()).run().ok();
    let (_web, warnings) = start(&host);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].ends_with(": ufw route allow in on kontena0 && ufw route allow out on kontena0"),
        "{warnings:?}"
    );
}

#[test]
fn harmless_firewalls_are_not_reported() {
    let host = Host::new();
    let theirs = "table inet other {
            chain input { type filter hook input priority 0; policy drop; }
            chain forward { type filter hook forward priority 0; policy accept; }
            chain regular { drop; }
        }
        table bridge other { chain forward { type filter hook forward priority 0; policy drop; }; }
        table arp other { chain input { type filter hook input priority 0; policy drop; }; }";
    let _ = host.program("nft").args(["-f", "-"]).input(theirs.as_bytes()).run().ok();
    shell(&host, "iptables-legacy -P INPUT DROP");
    let (_web, warnings) = start(&host);
    assert_eq!(warnings, [""; 0]);
}
