//! Which network a container gets: `--net` and the options that must agree with it.
//!
//! Pure: refuses what makes no sense before anything is opened.

use crate::config::Config;
use crate::config::network::{Addresses, Net};
use crate::config::publish::{Publish, PublishVia};
use crate::error::{Error, Result};
use std::net::Ipv6Addr;

/// The network that the container gets. An ordinary user's container has loopback alone by default.
pub fn choose(config: &Config, is_root: bool) -> Result<Net> {
    let default = || if is_root { Net::kontena0() } else { Net::None };
    let net = config.net.clone().unwrap_or_else(default);
    check_privilege(&net, is_root)?;
    check_ports(&net, &config.publish, config.publish_via)?;
    check_addresses(&net, &config.addresses)?;
    Ok(net)
}

fn refuse(what: &str, hint: &str) -> Result<()> {
    Err(Error::usage(format_args!("{what}"), hint))
}

fn check_privilege(net: &Net, is_root: bool) -> Result<()> {
    let what = match net {
        Net::Bridge { .. } => "--net bridge",
        Net::Macvlan { .. } => "--net macvlan",
        Net::Outbound(program) if is_root => {
            return refuse(&format!("--net {}", program.name()), "it is for ordinary users: use --net bridge");
        }
        _ => return Ok(()),
    };
    let hint = "connecting it to the host needs root: use --net pasta, none or host, or run kontena with sudo";
    if is_root { Ok(()) } else { refuse(what, hint) }
}

fn check_ports(net: &Net, ports: &[Publish], via: Option<PublishVia>) -> Result<()> {
    if *net == Net::Host && !ports.is_empty() {
        return refuse("--publish", "with --net host the container has the host's own ports: remove one of them");
    }
    if via != Some(PublishVia::Nft) {
        return Ok(());
    }
    if let Some(port) = ports.iter().find(|port| port.address == Some(Ipv6Addr::LOCALHOST.into())) {
        let hint = "the kernel does not forward from ::1: remove --publish-via nft";
        return refuse(&format!("publish {port}"), hint);
    }
    if !matches!(net, Net::Bridge { .. }) {
        let hint = "the kernel needs a bridge to forward it: use --publish-via relay";
        return refuse("--publish-via nft", hint);
    }
    Ok(())
}

fn check_addresses(net: &Net, asked: &Addresses) -> Result<()> {
    let given = [("--ip", asked.ip), ("--ip6", asked.ip6)].into_iter().filter_map(|(option, ip)| Some((option, ip?)));
    match net {
        Net::Bridge { .. } => {
            for (option, ip) in given {
                if ip.host_bits() != 0 {
                    return refuse(option, "the bridge's subnet has the prefix: remove it");
                }
            }
        }
        Net::Macvlan { .. } => {
            if asked.ip.is_none() {
                let hint = "add a free address of the LAN, --ip ADDRESS/PREFIX: kontena asks no DHCP server for one";
                return refuse("--net macvlan", hint);
            }
            for (option, ip) in given {
                if !ip.has_host(ip.address) {
                    let hint = "use a host's address with the prefix of the LAN, for example 192.0.2.7/24";
                    return refuse(option, hint);
                }
            }
        }
        _ if *asked != Addresses::default() => {
            return refuse("--ip, --ip6, --mac-address", "they need --net bridge or macvlan");
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::network::{address, net};
    use crate::config::publish::publish;

    #[test]
    fn links_to_the_host_are_roots() {
        for text in ["bridge", "bridge=lan", "macvlan=eth0"] {
            let net = net(text).unwrap();
            assert!(check_privilege(&net, true).is_ok());
            assert!(check_privilege(&net, false).is_err(), "{text}");
        }
        for text in ["pasta", "slirp4netns"] {
            assert!(check_privilege(&net(text).unwrap(), true).is_err(), "{text}");
        }
        for text in ["none", "host", "pasta", "slirp4netns", "container:web", "ns:/run/netns/blue"] {
            assert!(check_privilege(&net(text).unwrap(), false).is_ok(), "{text}");
        }
    }

    #[test]
    fn ports_must_have_a_way_to_the_container() {
        use PublishVia::*;
        for (on, port, via, is_good) in [
            ("host", "8080:80", None, false),
            ("none", "8080:80", None, true),
            ("none", "8080:80", Some(Relay), true),
            ("none", "8080:80", Some(Nft), false),
            ("bridge", "8080:80", Some(Nft), true),
            ("bridge", "[::1]:8080:80", Some(Nft), false),
            ("bridge", "[::1]:8080:80", None, true),
            ("macvlan=eth0", "8080:80", Some(Nft), false),
        ] {
            let checked = check_ports(&net(on).unwrap(), &publish(port).unwrap(), via);
            assert_eq!(checked.is_ok(), is_good, "{on} {port} {via:?}");
        }
        assert!(check_ports(&Net::Host, &[], None).is_ok());
    }

    #[test]
    fn addresses_must_fit_the_network() {
        for (on, ip, ip6, is_good) in [
            ("bridge", Some("10.77.0.7"), Some("fd00::7"), true),
            ("bridge", Some("10.77.0.7/16"), None, false),
            ("bridge", None, None, true),
            ("macvlan=eth0", None, None, false),
            ("macvlan=eth0", Some("192.0.2.7"), None, false),
            ("macvlan=eth0", Some("192.0.2.7/24"), Some("2001:db8::7/64"), true),
            ("macvlan=eth0", Some("192.0.2.255/24"), None, false),
            ("macvlan=eth0", Some("192.0.2.7/24"), Some("2001:db8::/64"), false),
            ("none", Some("10.77.0.7"), None, false),
            ("host", None, Some("fd00::7"), false),
            ("container:web", None, None, true),
        ] {
            let parse = |text: Option<&str>, is_ipv4| text.map(|text| address(text, is_ipv4).unwrap());
            let asked = Addresses { ip: parse(ip, true), ip6: parse(ip6, false), hardware: None };
            assert_eq!(check_addresses(&net(on).unwrap(), &asked).is_ok(), is_good, "{on} {ip:?} {ip6:?}");
        }
        let asked = Addresses { hardware: Some([2, 0, 0, 0, 0, 1]), ..Addresses::default() };
        assert!(check_addresses(&Net::None, &asked).is_err());
    }
}
