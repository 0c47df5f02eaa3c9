//! The nftables table `kontena`: static chains, two maps of published ports, one set of bridges; nft(8),
//! include/uapi/linux/netfilter/nf_tables.h.
//!
//! The chains never change. Publishing a port is one element of a map, in one atomic batch, and what a packet costs
//! does not grow with the number of containers. `nft list table ip kontena` shows:
//!
//! ```text
//! set bridges    { type ifname }
//! map published      { type inet_proto . inet_service : ipv4_addr . inet_service }
//! map published_at   { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//! chain guard    { hook prerouting priority raw          # nobody reaches 127.0.0.1 from outside: CVE-2020-8558
//!     iifname != "lo" ip daddr 127.0.0.0/8 drop }
//! chain publish  { type nat hook prerouting priority dstnat    # and `publish_local`, the same in output
//!     dnat to ip daddr . meta l4proto . th dport map @published_at
//!     fib daddr type local dnat to meta l4proto . th dport map @published }
//! chain forward  { hook forward priority filter          # unpublished ports are not for neighbours of the host
//!     oifname @bridges iifname != @bridges ct state != established,related ct status != dnat drop }
//! chain masquerade { type nat hook postrouting priority srcnat
//!     iifname @bridges oifname != @bridges masquerade
//!     iifname @bridges oifname @bridges ct status dnat masquerade     # a container by the published port of another
//!     oifname @bridges ip saddr 127.0.0.0/8 masquerade }
//! ```
//!
//! Must not touch any other table.

use crate::config::Publish;
use crate::error::{Error, Result};
use crate::net::bridge::BRIDGE;
use crate::net::describe;
use crate::net::netlink::{Batch, Failure, Message, Protocol, Socket};
use crate::state::Root;
use linux_raw_sys::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use rustix::io::Errno;
use std::net::Ipv4Addr;

const TABLE: &str = "kontena";
const BRIDGES: &str = "bridges";
/// Ports published on every address of the host, and on one.
const PUBLISHED: &str = "published";
const PUBLISHED_AT: &str = "published_at";
/// The shared thing that [`delete_table`] takes back.
pub const RECORD: &str = "table kontena";

/// Numbers of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h, which linux-raw-sys does not have.
mod uapi {
    pub const NFNL_MSG_BATCH_BEGIN: u16 = 16;
    pub const NFNL_MSG_BATCH_END: u16 = 17;
    pub const NFNL_SUBSYS_NFTABLES: u16 = 10;
    pub const NFPROTO_IPV4: u8 = 2;

    pub const NFT_MSG_NEWTABLE: u16 = 0;
    pub const NFT_MSG_DELTABLE: u16 = 2;
    pub const NFT_MSG_NEWCHAIN: u16 = 3;
    pub const NFT_MSG_NEWRULE: u16 = 6;
    pub const NFT_MSG_NEWSET: u16 = 9;
    pub const NFT_MSG_NEWSETELEM: u16 = 12;
    pub const NFT_MSG_DELSETELEM: u16 = 14;

    pub const NFTA_TABLE_NAME: u16 = 1;
    pub const NFTA_CHAIN_TABLE: u16 = 1;
    pub const NFTA_CHAIN_NAME: u16 = 3;
    pub const NFTA_CHAIN_HOOK: u16 = 4;
    pub const NFTA_CHAIN_TYPE: u16 = 7;
    pub const NFTA_HOOK_HOOKNUM: u16 = 1;
    pub const NFTA_HOOK_PRIORITY: u16 = 2;
    pub const NFTA_RULE_TABLE: u16 = 1;
    pub const NFTA_RULE_CHAIN: u16 = 2;
    pub const NFTA_RULE_EXPRESSIONS: u16 = 4;
    pub const NFTA_LIST_ELEM: u16 = 1;
    pub const NFTA_EXPR_NAME: u16 = 1;
    pub const NFTA_EXPR_DATA: u16 = 2;
    pub const NFTA_SET_TABLE: u16 = 1;
    pub const NFTA_SET_NAME: u16 = 2;
    pub const NFTA_SET_FLAGS: u16 = 3;
    pub const NFTA_SET_KEY_TYPE: u16 = 4;
    pub const NFTA_SET_KEY_LEN: u16 = 5;
    pub const NFTA_SET_DATA_TYPE: u16 = 6;
    pub const NFTA_SET_DATA_LEN: u16 = 7;
    pub const NFTA_SET_ID: u16 = 10;
    pub const NFTA_SET_USERDATA: u16 = 13;
    pub const NFT_SET_MAP: u32 = 8;
    pub const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
    pub const NFTA_SET_ELEM_LIST_SET: u16 = 2;
    pub const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    pub const NFTA_SET_ELEM_KEY: u16 = 1;
    pub const NFTA_SET_ELEM_DATA: u16 = 2;
    pub const NFTA_DATA_VALUE: u16 = 1;
    pub const NFTA_DATA_VERDICT: u16 = 2;
    pub const NFTA_VERDICT_CODE: u16 = 1;

    pub const NF_INET_PRE_ROUTING: u32 = 0;
    pub const NF_INET_FORWARD: u32 = 2;
    pub const NF_INET_LOCAL_OUT: u32 = 3;
    pub const NF_INET_POST_ROUTING: u32 = 4;
    pub const NF_IP_PRI_RAW: i32 = -300;
    pub const NF_IP_PRI_NAT_DST: i32 = -100;
    pub const NF_IP_PRI_FILTER: i32 = 0;
    pub const NF_IP_PRI_NAT_SRC: i32 = 100;
    pub const NF_DROP: u32 = 0;

    /// The register for a verdict, and two of the 4-byte ones, of which a concatenation is made.
    pub const NFT_REG_VERDICT: u32 = 0;
    pub const NFT_REG32_00: u32 = 8;
    pub const NFT_REG32_01: u32 = 9;

    pub const NFTA_META_DREG: u16 = 1;
    pub const NFTA_META_KEY: u16 = 2;
    pub const NFT_META_IIFNAME: u32 = 6;
    pub const NFT_META_OIFNAME: u32 = 7;
    pub const NFT_META_L4PROTO: u32 = 16;
    pub const NFTA_CMP_SREG: u16 = 1;
    pub const NFTA_CMP_OP: u16 = 2;
    pub const NFTA_CMP_DATA: u16 = 3;
    pub const NFT_CMP_EQ: u32 = 0;
    pub const NFT_CMP_NEQ: u32 = 1;
    pub const NFTA_PAYLOAD_DREG: u16 = 1;
    pub const NFTA_PAYLOAD_BASE: u16 = 2;
    pub const NFTA_PAYLOAD_OFFSET: u16 = 3;
    pub const NFTA_PAYLOAD_LEN: u16 = 4;
    pub const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
    pub const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
    pub const NFTA_LOOKUP_SET: u16 = 1;
    pub const NFTA_LOOKUP_SREG: u16 = 2;
    pub const NFTA_LOOKUP_DREG: u16 = 3;
    pub const NFTA_LOOKUP_FLAGS: u16 = 5;
    pub const NFT_LOOKUP_F_INV: u32 = 1;
    pub const NFTA_FIB_DREG: u16 = 1;
    pub const NFTA_FIB_RESULT: u16 = 2;
    pub const NFTA_FIB_FLAGS: u16 = 3;
    pub const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
    pub const NFTA_FIB_F_DADDR: u32 = 2;
    pub const RTN_LOCAL: u32 = 2;
    pub const NFTA_CT_DREG: u16 = 1;
    pub const NFTA_CT_KEY: u16 = 2;
    pub const NFT_CT_STATE: u32 = 0;
    pub const NFT_CT_STATUS: u32 = 2;
    pub const CT_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    pub const IPS_DST_NAT: u32 = 1 << 5;
    pub const NFTA_BITWISE_SREG: u16 = 1;
    pub const NFTA_BITWISE_DREG: u16 = 2;
    pub const NFTA_BITWISE_LEN: u16 = 3;
    pub const NFTA_BITWISE_MASK: u16 = 4;
    pub const NFTA_BITWISE_XOR: u16 = 5;
    pub const NFTA_IMMEDIATE_DREG: u16 = 1;
    pub const NFTA_IMMEDIATE_DATA: u16 = 2;
    pub const NFTA_NAT_TYPE: u16 = 1;
    pub const NFTA_NAT_FAMILY: u16 = 2;
    pub const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
    pub const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
    pub const NFT_NAT_DNAT: u32 = 1;

    /// nft's own numbers of data types, which the kernel only keeps: include/datatype.h of nftables.
    pub const TYPE_IPADDR: u32 = 7;
    pub const TYPE_INET_PROTOCOL: u32 = 12;
    pub const TYPE_INET_SERVICE: u32 = 13;
    pub const TYPE_IFNAME: u32 = 41;
}
use uapi::*;

/// The way to the table: a socket that is open as long as the container holds something in it.
///
/// It is closed without waiting. Closing any netfilter socket waits until what was deleted has been freed, an RCU
/// grace period later, and keeps every other change off meanwhile (nft_rcv_nl_event of net/netfilter/nf_tables_api.c):
/// ten milliseconds, several times a container's whole start.
pub struct Table {
    socket: Option<Socket>,
}

/// Makes the table, with all that is in it from the first, in one batch. EEXIST is no error.
pub fn add_table(root: &Root) -> Result<()> {
    root.record_shared(&format!("net {RECORD}"))?;
    match Table::open()?.send(table) {
        Err(failure) if failure.errno == Errno::EXIST => Ok(()),
        sent => sent.map_err(error),
    }
}

fn table(batch: &mut Batch) {
    let make = NLM_F_CREATE | NLM_F_EXCL;
    request(batch, "add table kontena", NFT_MSG_NEWTABLE, make, |m| {
        m.text(NFTA_TABLE_NAME, TABLE);
    });

    let (address, port) = (TYPE_IPADDR, TYPE_INET_SERVICE);
    let protocol_port = TYPE_INET_PROTOCOL << 6 | port;
    for (name, key, length) in [(PUBLISHED, protocol_port, 8), (PUBLISHED_AT, address << 12 | protocol_port, 12)] {
        request(batch, "add a map of published ports", NFT_MSG_NEWSET, NLM_F_CREATE, |m| {
            m.text(NFTA_SET_TABLE, TABLE).text(NFTA_SET_NAME, name).u32_be(NFTA_SET_FLAGS, NFT_SET_MAP);
            m.u32_be(NFTA_SET_KEY_TYPE, key).u32_be(NFTA_SET_KEY_LEN, length);
            m.u32_be(NFTA_SET_DATA_TYPE, address << 6 | port).u32_be(NFTA_SET_DATA_LEN, 8).u32_be(NFTA_SET_ID, length);
        });
    }
    request(batch, "add set bridges", NFT_MSG_NEWSET, NLM_F_CREATE, |m| {
        m.text(NFTA_SET_TABLE, TABLE).text(NFTA_SET_NAME, BRIDGES).u32_be(NFTA_SET_FLAGS, 0);
        m.u32_be(NFTA_SET_KEY_TYPE, TYPE_IFNAME).u32_be(NFTA_SET_KEY_LEN, 16).u32_be(NFTA_SET_ID, 2);
        // What nft needs to show names: NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes long, BYTEORDER_HOST_ENDIAN.
        let [a, b, c, d] = 1u32.to_ne_bytes();
        m.bytes(NFTA_SET_USERDATA, &[0, 4, a, b, c, d]);
    });
    elements(batch, "add kontena0 to the bridges", NFT_MSG_NEWSETELEM, BRIDGES, |m| {
        element(m, &interface(BRIDGE), None);
    });

    chain(batch, "guard", "filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW);
    rule(batch, "guard", |r| {
        load_meta(r, NFT_META_IIFNAME);
        compare(r, NFT_CMP_NEQ, &interface("lo"));
        load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, DESTINATION, 1, NFT_REG32_00);
        compare(r, NFT_CMP_EQ, &[127]);
        drop_packet(r);
    });
    for (name, hook) in [("publish", NF_INET_PRE_ROUTING), ("publish_local", NF_INET_LOCAL_OUT)] {
        chain(batch, name, "nat", hook, NF_IP_PRI_NAT_DST);
        rule(batch, name, |r| {
            load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, DESTINATION, 4, NFT_REG32_00);
            redirect(r, PUBLISHED_AT, NFT_REG32_01);
        });
        rule(batch, name, |r| {
            expression(r, "fib", |m| {
                m.u32_be(NFTA_FIB_DREG, NFT_REG32_00).u32_be(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                m.u32_be(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
            });
            compare(r, NFT_CMP_EQ, &RTN_LOCAL.to_ne_bytes());
            redirect(r, PUBLISHED, NFT_REG32_00);
        });
    }
    chain(batch, "forward", "filter", NF_INET_FORWARD, NF_IP_PRI_FILTER);
    rule(batch, "forward", |r| {
        is_bridge(r, NFT_META_OIFNAME, true);
        is_bridge(r, NFT_META_IIFNAME, false);
        connection(r, NFT_CT_STATE, CT_ESTABLISHED_OR_RELATED, false);
        connection(r, NFT_CT_STATUS, IPS_DST_NAT, false);
        drop_packet(r);
    });
    chain(batch, "masquerade", "nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC);
    rule(batch, "masquerade", |r| {
        is_bridge(r, NFT_META_IIFNAME, true);
        is_bridge(r, NFT_META_OIFNAME, false);
        expression(r, "masq", |_| ());
    });
    rule(batch, "masquerade", |r| {
        is_bridge(r, NFT_META_IIFNAME, true);
        is_bridge(r, NFT_META_OIFNAME, true);
        connection(r, NFT_CT_STATUS, IPS_DST_NAT, true);
        expression(r, "masq", |_| ());
    });
    rule(batch, "masquerade", |r| {
        is_bridge(r, NFT_META_OIFNAME, true);
        load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, SOURCE, 1, NFT_REG32_00);
        compare(r, NFT_CMP_EQ, &[127]);
        expression(r, "masq", |_| ());
    });
}

/// Deletes the table with all that is in it; no table is no error.
pub fn delete_table() -> Result<()> {
    let deleted = Table::open()?.send(|batch| {
        request(batch, "delete table kontena", NFT_MSG_DELTABLE, 0, |m| {
            m.text(NFTA_TABLE_NAME, TABLE);
        });
    });
    match deleted {
        Err(failure) if failure.errno == Errno::NOENT => Ok(()),
        sent => sent.map_err(error),
    }
}

impl Table {
    /// Opens the way to the table.
    pub fn open() -> Result<Self> {
        Socket::open(Protocol::Netfilter).map(|socket| Self { socket: Some(socket) })
    }

    /// Publishes: all of the ports, or none. EEXIST: one of them is in its map already.
    pub fn publish(&self, ports: &[Publish], address: Ipv4Addr) -> std::result::Result<(), Failure> {
        self.send(|batch| {
            for publish in ports {
                let (map, key) = key(publish);
                elements(batch, &describe(publish), NFT_MSG_NEWSETELEM, map, |m| {
                    let [a, b, c, d] = address.octets();
                    let [high, low] = publish.container_port.to_be_bytes();
                    element(m, &key, Some(&[a, b, c, d, high, low, 0, 0]));
                });
            }
        })
    }

    /// Ends that, one by one: those that are not in their map, or a table that is gone, are no error.
    pub fn unpublish(&self, ports: &[Publish]) -> Result<()> {
        for publish in ports {
            let (map, key) = key(publish);
            let deleted = self.send(|batch| {
                elements(batch, &describe(publish), NFT_MSG_DELSETELEM, map, |m| element(m, &key, None));
            });
            match deleted {
                Err(failure) if failure.errno == Errno::NOENT => {}
                sent => sent.map_err(error)?,
            }
        }
        Ok(())
    }

    /// Sends what `write` puts between the begin and the end of a batch: the kernel does all of it or nothing.
    fn send(&self, write: impl FnOnce(&mut Batch)) -> std::result::Result<(), Failure> {
        let mut batch = Batch::default();
        let marker = |batch: &mut Batch, kind| {
            // struct nfgenmsg: family, version, and for a batch the subsystem
            batch.message("begin an nf_tables batch".into(), kind, 0, |m| {
                m.raw(&[0, 0]).raw(&NFNL_SUBSYS_NFTABLES.to_be_bytes());
            });
        };
        marker(&mut batch, NFNL_MSG_BATCH_BEGIN);
        write(&mut batch);
        marker(&mut batch, NFNL_MSG_BATCH_END);
        self.socket.as_ref().map_or(Ok(()), |socket| socket.send(&batch))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.socket.take().into_iter().for_each(Socket::close_later);
    }
}

/// A failure of this file's, told.
pub fn error(failure: Failure) -> Error {
    let hint = match failure.errno {
        Errno::NOENT | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT => {
            "the kernel needs nf_tables with nat, masq, fib and ct (CONFIG_NF_TABLES, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, \
             CONFIG_NFT_FIB_IPV4, CONFIG_NFT_CT) or their modules: load them, or use --net none or host"
        }
        _ => "",
    };
    failure.into_error(hint)
}

/// The map for a port, and its key there: the address where it has one, protocol and port, each padded to four bytes.
fn key(publish: &Publish) -> (&'static str, Vec<u8>) {
    let [high, low] = publish.host_port.to_be_bytes();
    let protocol_port = [publish.protocol as u8, 0, 0, 0, high, low, 0, 0];
    match publish.address {
        Ipv4Addr::UNSPECIFIED => (PUBLISHED, protocol_port.to_vec()),
        address => (PUBLISHED_AT, [&address.octets()[..], &protocol_port].concat()),
    }
}

/// A link's name as a register holds it: 16 bytes, the rest of them zero.
fn interface(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
    bytes
}

fn request(batch: &mut Batch, what: &str, message: u16, flags: u32, write: impl FnOnce(&mut Message<'_>)) {
    batch.request(what, NFNL_SUBSYS_NFTABLES << 8 | message, flags, |m| {
        m.raw(&[NFPROTO_IPV4, 0, 0, 0]);
        write(m);
    });
}

fn chain(batch: &mut Batch, name: &str, kind: &str, hook: u32, priority: i32) {
    request(batch, &format!("add chain {name}"), NFT_MSG_NEWCHAIN, NLM_F_CREATE, |m| {
        m.text(NFTA_CHAIN_TABLE, TABLE).text(NFTA_CHAIN_NAME, name).text(NFTA_CHAIN_TYPE, kind);
        m.nest(NFTA_CHAIN_HOOK, |m| {
            m.u32_be(NFTA_HOOK_HOOKNUM, hook).u32_be(NFTA_HOOK_PRIORITY, priority as u32);
        });
    });
}

fn rule(batch: &mut Batch, chain: &str, write: impl FnOnce(&mut Message<'_>)) {
    request(batch, &format!("add a rule to {chain}"), NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |m| {
        m.text(NFTA_RULE_TABLE, TABLE).text(NFTA_RULE_CHAIN, chain).nest(NFTA_RULE_EXPRESSIONS, write);
    });
}

fn elements(batch: &mut Batch, what: &str, message: u16, set: &str, write: impl FnOnce(&mut Message<'_>)) {
    let flags = if message == NFT_MSG_NEWSETELEM { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
    request(batch, what, message, flags, |m| {
        m.text(NFTA_SET_ELEM_LIST_TABLE, TABLE).text(NFTA_SET_ELEM_LIST_SET, set);
        m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, write);
    });
}

fn element(m: &mut Message<'_>, key: &[u8], data: Option<&[u8]>) {
    m.nest(NFTA_LIST_ELEM, |m| {
        m.nest(NFTA_SET_ELEM_KEY, |m| {
            m.bytes(NFTA_DATA_VALUE, key);
        });
        if let Some(data) = data {
            m.nest(NFTA_SET_ELEM_DATA, |m| {
                m.bytes(NFTA_DATA_VALUE, data);
            });
        }
    });
}

// The expressions of a rule. Each leaves what it loads in the first register, unless it says otherwise.

/// Offsets in the IPv4 header; RFC 791.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// Offset in the TCP and the UDP header.
const DESTINATION_PORT: u32 = 2;

fn expression(m: &mut Message<'_>, name: &str, write: impl FnOnce(&mut Message<'_>)) {
    m.nest(NFTA_LIST_ELEM, |m| {
        m.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, write);
    });
}

fn load_meta(m: &mut Message<'_>, key: u32) {
    load_meta_to(m, key, NFT_REG32_00);
}

fn load_meta_to(m: &mut Message<'_>, key: u32, register: u32) {
    expression(m, "meta", |m| {
        m.u32_be(NFTA_META_KEY, key).u32_be(NFTA_META_DREG, register);
    });
}

fn load_payload(m: &mut Message<'_>, base: u32, offset: u32, length: u32, register: u32) {
    expression(m, "payload", |m| {
        m.u32_be(NFTA_PAYLOAD_DREG, register).u32_be(NFTA_PAYLOAD_BASE, base);
        m.u32_be(NFTA_PAYLOAD_OFFSET, offset).u32_be(NFTA_PAYLOAD_LEN, length);
    });
}

fn compare(m: &mut Message<'_>, operation: u32, value: &[u8]) {
    expression(m, "cmp", |m| {
        m.u32_be(NFTA_CMP_SREG, NFT_REG32_00).u32_be(NFTA_CMP_OP, operation);
        m.nest(NFTA_CMP_DATA, |m| {
            m.bytes(NFTA_DATA_VALUE, value);
        });
    });
}

/// Whether the link that `key` loads is, or is not, one of the bridges.
fn is_bridge(m: &mut Message<'_>, key: u32, is: bool) {
    load_meta(m, key);
    expression(m, "lookup", |m| {
        m.text(NFTA_LOOKUP_SET, BRIDGES).u32_be(NFTA_LOOKUP_SREG, NFT_REG32_00);
        m.u32_be(NFTA_LOOKUP_FLAGS, if is { 0 } else { NFT_LOOKUP_F_INV });
    });
}

/// Whether the connection has any, or none, of `bits`.
fn connection(m: &mut Message<'_>, key: u32, bits: u32, any: bool) {
    expression(m, "ct", |m| {
        m.u32_be(NFTA_CT_KEY, key).u32_be(NFTA_CT_DREG, NFT_REG32_00);
    });
    expression(m, "bitwise", |m| {
        m.u32_be(NFTA_BITWISE_SREG, NFT_REG32_00).u32_be(NFTA_BITWISE_DREG, NFT_REG32_00).u32_be(NFTA_BITWISE_LEN, 4);
        m.nest(NFTA_BITWISE_MASK, |m| {
            m.bytes(NFTA_DATA_VALUE, &bits.to_ne_bytes());
        });
        m.nest(NFTA_BITWISE_XOR, |m| {
            m.bytes(NFTA_DATA_VALUE, &0u32.to_ne_bytes());
        });
    });
    compare(m, if any { NFT_CMP_NEQ } else { NFT_CMP_EQ }, &0u32.to_ne_bytes());
}

/// Looks the protocol and the port up in `map`, behind what stands before `register`, and sends the connection to the
/// container that the map has for it.
fn redirect(m: &mut Message<'_>, map: &str, register: u32) {
    load_meta_to(m, NFT_META_L4PROTO, register);
    load_payload(m, NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2, register + 1);
    expression(m, "lookup", |m| {
        m.text(NFTA_LOOKUP_SET, map).u32_be(NFTA_LOOKUP_SREG, NFT_REG32_00).u32_be(NFTA_LOOKUP_DREG, NFT_REG32_00);
    });
    expression(m, "nat", |m| {
        m.u32_be(NFTA_NAT_TYPE, NFT_NAT_DNAT).u32_be(NFTA_NAT_FAMILY, NFPROTO_IPV4.into());
        m.u32_be(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00).u32_be(NFTA_NAT_REG_PROTO_MIN, NFT_REG32_01);
    });
}

fn drop_packet(m: &mut Message<'_>) {
    expression(m, "immediate", |m| {
        m.u32_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT).nest(NFTA_IMMEDIATE_DATA, |m| {
            m.nest(NFTA_DATA_VERDICT, |m| {
                m.u32_be(NFTA_VERDICT_CODE, NF_DROP);
            });
        });
    });
}
