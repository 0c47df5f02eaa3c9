//! The elements of sets and maps: what the tables have of each bridge and each container, as data.
//!
//! Must not talk to the kernel.

use super::TABLE;
use super::rules::*;
use super::uapi::*;
use crate::config::bridge::{Bridge, Guest, link_name};
use crate::config::publish::Publish;
use crate::config::subnet::{Subnet, octets};
use crate::gather::Gather;
use crate::net::netlink::Batch;
use linux_raw_sys::netlink::NLM_F_CREATE;
use std::net::{IpAddr, Ipv4Addr};

/// An element of a set or a map.
pub struct Element {
    /// The table's.
    pub family: &'static Family,
    set: &'static str,
    /// In errors: `publish *:8080/tcp`.
    what: String,
    key: Vec<u8>,
    /// The last key of an interval; otherwise empty.
    key_end: Vec<u8>,
    /// The value in a map; otherwise empty.
    data: Vec<u8>,
}

/// What to do about an element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// EEXIST: the map has the key with another value.
    Add,
    Delete,
    /// Asks for its value.
    Get,
}

impl Element {
    fn new(family: &'static Family, set: &'static str, what: String, key: Vec<u8>) -> Self {
        Self { family, set, what, key, key_end: Vec::new(), data: Vec::new() }
    }

    /// Adds a request about it to a batch.
    pub fn put(&self, batch: &mut Batch, operation: Operation) {
        let (kind, flags) = match operation {
            Operation::Add => (NFT_MSG_NEWSETELEM, NLM_F_CREATE),
            Operation::Delete => (NFT_MSG_DELSETELEM, 0),
            Operation::Get => (NFT_MSG_GETSETELEM, 0),
        };
        // The key alone says which element to delete or get.
        let count = if operation == Operation::Add { 3 } else { 1 };
        let values =
            [(NFTA_SET_ELEM_KEY, &self.key), (NFTA_SET_ELEM_KEY_END, &self.key_end), (NFTA_SET_ELEM_DATA, &self.data)];
        batch.request(format_args!("{}", self.what), NFNL_SUBSYS_NFTABLES << 8 | kind, flags, |m| {
            m.raw(&self.family.header());
            m.text(NFTA_SET_ELEM_LIST_TABLE, TABLE).text(NFTA_SET_ELEM_LIST_SET, self.set);
            m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
                m.nest(NFTA_LIST_ELEM, |m| {
                    for (attribute, bytes) in values.into_iter().take(count).filter(|(_, bytes)| !bytes.is_empty()) {
                        value(m, attribute, bytes);
                    }
                });
            });
        });
    }

    /// Whether a `value` of the map leads to the same container.
    pub fn leads_to(&self, value: &[u8]) -> bool {
        let address = self.data.get(..self.family.address.1 as usize);
        address.is_some_and(|address| value.starts_with(address))
    }
}

/// What keeps others from a bridge.
pub fn of_bridge(family: &'static Family, bridge: &Bridge) -> [Element; 2] {
    let (what, name) = (what_of_bridge(family, bridge), interface(&bridge.name));
    [
        Element::new(family, BRIDGES, what.clone(), name.to_vec()),
        Element::new(family, WITHIN, what, [name, name].concat()),
    ]
}

/// The sources whose connections by published ports are masqueraded on a bridge.
pub fn hairpins(family: &'static Family, bridge: &Bridge) -> Vec<Element> {
    let name = interface(&bridge.name);
    let loopback = Subnet { address: Ipv4Addr::LOCALHOST.into(), prefix: 8 };
    let subnets: &[Subnet] = if family.is_ipv4() { &[bridge.gateway, loopback] } else { &[bridge.gateway6] };
    let element = |subnet: &Subnet| {
        let key = |address| [&name[..], &octets(address)].concat();
        let element = Element::new(family, HAIRPIN, what_of_bridge(family, bridge), key(subnet.nth(0)));
        Element { key_end: key(subnet.last()), ..element }
    };
    subnets.iter().map(element).list()
}

fn what_of_bridge(family: &Family, bridge: &Bridge) -> String {
    format!("add {} to {} {TABLE}", bridge.name, family.name)
}

/// The host routes nothing for others.
pub fn closed(family: &'static Family) -> Element {
    const PACKET_HOST: u8 = 0;
    Element::new(family, CLOSED, format!("add to {CLOSED}"), vec![PACKET_HOST])
}

/// The sources that a container's frames may have: its port, its hardware address and each of its addresses.
pub fn sources(guest: &Guest) -> Vec<Element> {
    let Some(own) = guest.addresses.first() else { return Vec::new() };
    let port = interface(&link_name(*own));
    let [a, b, c, d, e, f] = guest.hardware;
    // The kernel makes it of the hardware address: RFC 4291, appendix A.
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let all = guest.addresses.iter().copied().chain([IpAddr::from(link_local)]);
    let source = |address: IpAddr| {
        let set = if address.is_ipv4() { HOSTS } else { HOSTS6 };
        let key = [&port[..], &guest.hardware, &[0; 2], &octets(address)].concat();
        Element::new(&BRIDGE, set, format!("add to {set}"), key)
    };
    all.map(source).list()
}

/// The ports that the kernel forwards to a container, to each of its addresses of the same family.
pub fn mappings(guest: &Guest) -> Vec<Element> {
    let mut all = Vec::new();
    for publish in &guest.ports {
        for address in &guest.addresses {
            if publish.address.is_none_or(|own| own.is_ipv4() == address.is_ipv4()) {
                all.push(mapping(publish, *address));
            }
        }
    }
    all
}

fn mapping(publish: &Publish, container: IpAddr) -> Element {
    let [high, low] = publish.host_port.to_be_bytes();
    let port = [publish.protocol as u8, 0, 0, 0, high, low, 0, 0];
    let (map, key) = match publish.address.filter(|address| !address.is_unspecified()) {
        None => (PUBLISHED, port.to_vec()),
        Some(address) => (PUBLISHED_AT, [&octets(address)[..], &port].concat()),
    };
    let data = [&octets(container)[..], &publish.container_port.to_be_bytes(), &[0; 2]].concat();
    Element { data, ..Element::new(Family::of(container), map, format!("publish {publish}"), key) }
}

/// A link's name as a register holds it: 16 bytes, padded with zeros.
fn interface(name: &str) -> [u8; IFNAMSIZ as usize] {
    let mut bytes = [0; IFNAMSIZ as usize];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::publish::publish;

    fn guest(addresses: &[&str], ports: &[&str]) -> Guest {
        Guest {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            hardware: [2, 0x6b, 10, 77, 0, 5],
            ports: ports.iter().flat_map(|text| publish(text).unwrap()).collect(),
        }
    }

    /// Family, set, key and value.
    fn shown(elements: &[Element]) -> Vec<String> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let show = |one: &Element| format!("{} {} {} {}", one.family.name, one.set, hex(&one.key), hex(&one.data));
        elements.iter().map(show).collect()
    }

    #[test]
    fn ports_lead_to_the_addresses_of_their_family() {
        let guest = guest(&["10.77.0.5", "fd00::5"], &["8080:80", "192.0.2.1:53:5353/udp", "[::]:81:81"]);
        let container6 = "fd000000000000000000000000000005";
        let expected = [
            "ip published 060000001f900000 0a4d000500500000".into(),
            format!("ip6 published 060000001f900000 {container6}00500000"),
            "ip published_at c00002011100000000350000 0a4d000514e90000".into(),
            format!("ip6 published 0600000000510000 {container6}00510000"),
        ];
        assert_eq!(shown(&mappings(&guest)), expected);
    }

    #[test]
    fn frames_come_from_the_containers_own_addresses() {
        let port = "6b743061346430303035000000000000";
        let hardware = "026b0a4d00050000";
        assert_eq!(
            shown(&sources(&guest(&["10.77.0.5", "fd00::5"], &[]))),
            [
                format!("bridge hosts {port}{hardware}0a4d0005 "),
                format!("bridge hosts6 {port}{hardware}fd000000000000000000000000000005 "),
                format!("bridge hosts6 {port}{hardware}fe80000000000000006b0afffe4d0005 "),
            ]
        );
        assert!(sources(&guest(&[], &[])).is_empty());
    }

    #[test]
    fn keys_are_as_long_as_their_sets_say() {
        let bridge = Bridge::kontena0(77).unwrap();
        for family in [&IPV4, &IPV6] {
            let address = family.address.1 as usize;
            let [bridges, within] = of_bridge(family, &bridge);
            assert_eq!((bridges.key.len(), within.key.len(), closed(family).key.len()), (16, 32, 1));
            for hairpin in hairpins(family, &bridge) {
                assert_eq!((hairpin.key.len(), hairpin.key_end.len()), (16 + address, 16 + address));
            }
        }
        assert_eq!(hairpins(&IPV4, &bridge).len(), 2);
    }

    #[test]
    fn value_leads_to_a_container_by_its_address() {
        let element = &mappings(&guest(&["10.77.0.5"], &["8080:80"]))[0];
        assert!(element.leads_to(&[10, 77, 0, 5, 0, 80, 0, 0]));
        for other in [&[][..], &[10, 77, 0], &[10, 77, 0, 6, 0, 80, 0, 0]] {
            assert!(!element.leads_to(other));
        }
        let bridge = &of_bridge(&IPV4, &Bridge::kontena0(77).unwrap())[0];
        assert!(!bridge.leads_to(&[10, 77, 0, 5]));
    }
}
