//! Dumps of the kernel's nf_tables, attribute by attribute, for everything that nft(8) does not show.

use crate::Place;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

/// The attributes of an object, by their kinds. Those of a nest are bytes here.
pub type Attributes = BTreeMap<u16, Vec<u8>>;

/// NFT_MSG_GETCHAIN, GETRULE, GETSET, GETSETELEM; linux/netfilter/nf_tables.h.
pub const GET_CHAIN: u16 = 4;
/// See [`GET_CHAIN`].
pub const GET_RULE: u16 = 7;
/// See [`GET_CHAIN`].
pub const GET_SET: u16 = 10;
/// See [`GET_CHAIN`].
pub const GET_ELEMENTS: u16 = 13;

/// All objects of a kind in the table `kontena` of a family; of elements, those of the set that is named.
///
/// # Panics
/// If they cannot be listed.
pub fn dump(place: &Place, get: u16, family: i32, set: Option<&str>) -> Vec<Attributes> {
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    const NFTABLES: u16 = 10;
    const REQUEST_DUMP: u16 = 1 | 0x300;
    let mut body = vec![u8::try_from(family).unwrap(), 0, 0, 0];
    for (kind, text) in [(TABLE, Some("kontena")), (SET, set)] {
        let Some(text) = text else { continue };
        body.extend(u16::try_from(4 + text.len() + 1).unwrap().to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(text.bytes().chain([0]));
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut request = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
    request.extend([(NFTABLES << 8 | get).to_ne_bytes(), REQUEST_DUMP.to_ne_bytes()].concat());
    request.extend([0; 8]);
    request.extend(body);
    let parts = place.inside(|| {
        let protocol = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        send(socket.as_raw_fd(), &request, MsgFlags::empty()).unwrap();
        let (mut buffer, mut parts) = (vec![0; 1 << 16], Vec::new());
        while let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            parts.push(buffer[..length].to_vec());
        }
        parts
    });
    let mut objects = Vec::new();
    for part in &parts {
        let mut rest = &**part;
        while rest.len() >= 16 {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            let kind = u16::from_ne_bytes(rest[4..6].try_into().unwrap());
            match kind {
                2 => panic!("the kernel refuses: {:?}", &rest[16..20]),
                3 => return objects,
                _ => objects.push(attributes(&rest[20..length])),
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
    panic!("a dump without an end");
}

/// The attributes that there are in `bytes`.
///
/// # Panics
/// If they are none.
pub fn attributes(mut bytes: &[u8]) -> Attributes {
    let mut all = Attributes::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes(bytes[..2].try_into().unwrap()));
        let kind = u16::from_ne_bytes(bytes[2..4].try_into().unwrap()) & 0x3fff;
        all.insert(kind, bytes[4..length].to_vec());
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    all
}
