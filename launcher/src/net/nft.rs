//! The nftables tables `ip kontena` and `ip6 kontena`: static chains, two maps of published ports, three sets of bridges;
//! nft(8), include/uapi/linux/netfilter/nf_tables.h.
//!
//! The chains never change. Publishing a port is one element of a map in each table, in one atomic batch, and what a
//! packet costs does not grow with the number of containers. This is the first of the two, as nft(8) reads it, with the
//! elements of kontena0:
//!
//! ```text
//! table ip kontena {
//!     map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
//!     map published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
//!     set bridges { type ifname; elements = { "kontena0" }; }
//!     # From a bridge to itself.
//!     set within { type ifname . ifname; elements = { "kontena0" . "kontena0" }; }
//!     # Out by a bridge, from where the answer would not come back by this host, or not at all.
//!     set hairpin { type ifname . ipv4_addr; flags interval;
//!         elements = { "kontena0" . 10.77.0.0/16, "kontena0" . 127.0.0.0/8 }; }
//!     # Nobody reaches 127.0.0.1 from outside: CVE-2020-8558.
//!     chain guard { type filter hook prerouting priority raw;
//!         iifname != "lo" ip daddr 127.0.0.0/8 drop; }
//!     chain publish { type nat hook prerouting priority dstnat;
//!         dnat to ip daddr . meta l4proto . th dport map @published_at
//!         fib daddr type local dnat to meta l4proto . th dport map @published; }
//!     chain publish_local { type nat hook output priority -100;
//!         dnat to ip daddr . meta l4proto . th dport map @published_at
//!         fib daddr type local dnat to meta l4proto . th dport map @published; }
//!     # What was not published is for its bridge alone: not for neighbours of the host, nor for other bridges.
//!     chain isolate { type filter hook forward priority filter;
//!         ct state established,related accept
//!         ct status dnat accept
//!         oifname @bridges iifname . oifname != @within drop; }
//!     chain disguise { type nat hook postrouting priority srcnat;
//!         iifname @bridges oifname != @bridges masquerade
//!         oifname . ip saddr @hairpin ct status dnat masquerade; }
//! }
//! ```
//!
//! `ip6 kontena` has the same for IPv6, but for what is about the loopback: the kernel itself keeps ::1 from everybody
//! outside, so there is no `guard`; and it lets nothing that came to ::1 out again, so `publish` and `publish_local` leave
//! that alone (`fib daddr type local ip6 daddr != ::1 …`): it is the relay's.
//!
//! `hairpin` is of addresses, since a packet that br_netfilter takes to postrouting within a bridge has no iifname. What
//! connection tracking finds invalid has no status, so a rule about the status must let through, not drop.
//!
//! Must not touch any other table.

use crate::error::{Error, Result};
use crate::net::bridge::Bridge;
use crate::net::netlink::{Batch, Message, Protocol, Socket, attribute};
use crate::net::options::Publish;
use crate::net::subnet::{Subnet, octets};
use linux_raw_sys::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use rustix::io::Errno;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TABLE: &str = "kontena";
const BRIDGES: &str = "bridges";
const WITHIN: &str = "within";
const HAIRPIN: &str = "hairpin";
/// Ports published on every address of the host, and on one.
const PUBLISHED: &str = "published";
const PUBLISHED_AT: &str = "published_at";
/// The shared thing that [`delete_tables`] takes back.
pub const RECORD: &str = "table kontena";

/// Numbers of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h, which linux-raw-sys does not have.
pub mod uapi {
    #![allow(missing_docs, reason = "the headers have them")]

    pub const NFNL_MSG_BATCH_BEGIN: u16 = 16;
    pub const NFNL_MSG_BATCH_END: u16 = 17;
    pub const NFNL_SUBSYS_NFTABLES: u16 = 10;
    pub const NFPROTO_INET: u8 = 1;
    pub const NFPROTO_IPV4: u8 = 2;
    pub const NFPROTO_IPV6: u8 = 10;

    // nfnetlink_conntrack.h; the filter's flags are net/netfilter/nf_conntrack_netlink.c's.
    pub const NFNL_SUBSYS_CTNETLINK: u16 = 1;
    pub const IPCTNL_MSG_CT_GET: u16 = 1;
    pub const IPCTNL_MSG_CT_DELETE: u16 = 2;
    pub const CTA_TUPLE_ORIG: u16 = 1;
    pub const CTA_TUPLE_REPLY: u16 = 2;
    pub const CTA_FILTER: u16 = 25;
    pub const CTA_TUPLE_IP: u16 = 1;
    pub const CTA_IP_V4_SRC: u16 = 1;
    pub const CTA_IP_V6_SRC: u16 = 3;
    pub const CTA_FILTER_ORIG_FLAGS: u16 = 1;
    pub const CTA_FILTER_REPLY_FLAGS: u16 = 2;
    pub const CTA_FILTER_F_CTA_IP_SRC: u32 = 1;

    pub const NFT_MSG_NEWTABLE: u16 = 0;
    pub const NFT_MSG_DELTABLE: u16 = 2;
    pub const NFT_MSG_NEWCHAIN: u16 = 3;
    pub const NFT_MSG_GETCHAIN: u16 = 4;
    pub const NFT_MSG_NEWRULE: u16 = 6;
    pub const NFT_MSG_GETRULE: u16 = 7;
    pub const NFT_MSG_NEWSET: u16 = 9;
    pub const NFT_MSG_NEWSETELEM: u16 = 12;
    pub const NFT_MSG_GETSETELEM: u16 = 13;
    pub const NFT_MSG_DELSETELEM: u16 = 14;

    pub const NFTA_TABLE_NAME: u16 = 1;
    pub const NFTA_CHAIN_TABLE: u16 = 1;
    pub const NFTA_CHAIN_NAME: u16 = 3;
    pub const NFTA_CHAIN_HOOK: u16 = 4;
    pub const NFTA_CHAIN_POLICY: u16 = 5;
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
    pub const NFTA_SET_DESC: u16 = 9;
    pub const NFTA_SET_ID: u16 = 10;
    pub const NFTA_SET_USERDATA: u16 = 13;
    pub const NFTA_SET_DESC_CONCAT: u16 = 2;
    pub const NFTA_SET_FIELD_LEN: u16 = 1;
    pub const NFT_SET_INTERVAL: u32 = 4;
    pub const NFT_SET_MAP: u32 = 8;
    pub const NFT_SET_CONCAT: u32 = 0x80;
    pub const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
    pub const NFTA_SET_ELEM_LIST_SET: u16 = 2;
    pub const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    pub const NFTA_SET_ELEM_KEY: u16 = 1;
    pub const NFTA_SET_ELEM_DATA: u16 = 2;
    pub const NFTA_SET_ELEM_KEY_END: u16 = 10;
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
    pub const NF_ACCEPT: u32 = 1;

    /// The register for a verdict, and the first of those of four bytes, of which as many as it takes hold a value.
    pub const NFT_REG_VERDICT: u32 = 0;
    pub const NFT_REG32_00: u32 = 8;

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
    pub const TYPE_IP6ADDR: u32 = 8;
    pub const TYPE_INET_PROTOCOL: u32 = 12;
    pub const TYPE_INET_SERVICE: u32 = 13;
    pub const TYPE_IFNAME: u32 = 41;
}
use uapi::*;

/// One of the two tables, by the family of addresses that it is for.
#[derive(Clone, Copy)]
struct Family {
    /// As struct nfgenmsg and conntrack have it, and for messages.
    number: u8,
    name: &'static str,
    /// An address: nft's type, and how many bytes it has.
    address: Field,
    /// Where the header has the two addresses; RFC 791, RFC 8200.
    source: u32,
    destination: u32,
    /// The attribute of a flow's source.
    flow_source: u16,
}

static IPV4: Family = Family {
    number: NFPROTO_IPV4,
    name: "ip",
    address: (TYPE_IPADDR, 4),
    source: 12,
    destination: 16,
    flow_source: CTA_IP_V4_SRC,
};
static IPV6: Family = Family {
    number: NFPROTO_IPV6,
    name: "ip6",
    address: (TYPE_IP6ADDR, 16),
    source: 8,
    destination: 24,
    flow_source: CTA_IP_V6_SRC,
};

impl Family {
    fn of(address: IpAddr) -> &'static Self {
        if address.is_ipv4() { &IPV4 } else { &IPV6 }
    }

    fn is_ipv4(&self) -> bool {
        self.number == NFPROTO_IPV4
    }

    /// struct nfgenmsg: family, version, and what only a batch has.
    fn header(&self) -> [u8; 4] {
        [self.number, 0, 0, 0]
    }

    /// How many registers an address takes.
    fn registers(&self) -> u32 {
        self.address.1 / 4
    }
}

/// What a key or its value is made of: nft's type and its length in bytes.
type Field = (u32, u32);

const PROTOCOL: Field = (TYPE_INET_PROTOCOL, 1);
const PORT: Field = (TYPE_INET_SERVICE, 2);
const NAME: Field = (TYPE_IFNAME, IFNAMSIZ);
const IFNAMSIZ: u32 = 16;

/// The way to the tables: a socket that is open as long as the container holds something in them.
///
/// It is closed without waiting. Closing any netfilter socket waits until what was deleted has been freed, an RCU
/// grace period later, and keeps every other change off meanwhile (nft_rcv_nl_event of net/netfilter/nf_tables_api.c):
/// ten milliseconds, several times a container's whole start.
pub struct Tables {
    socket: Option<Socket>,
}

/// An expression of a rule, or a few that belong together, in nft's order.
enum Expression {
    /// Loads `meta KEY`, an NFT_META_*, into registers from this one on.
    Meta(u32, u32),
    /// Loads the source's address.
    Source(u32),
    /// Loads the destination's address.
    Destination(u32),
    /// What the registers from the first on have is in the set.
    In(&'static str),
    /// It is not.
    NotIn(&'static str),
    /// It is not this.
    IsNot(&'static [u8]),
    /// The destination is 127.0.0.0/8.
    Loopback,
    /// The destination is an address of this host, from which a connection can be sent on: not ::1.
    Local,
    /// The connection's NFT_CT_* key has any of these bits. It says no where there is no connection.
    Connection(u32, u32),
    /// Looks the protocol and the port up in the map, behind the destination's address where that is `true` (and loaded),
    /// and sends the connection to the container that the map has for it.
    Redirect(&'static str, bool),
    /// The container's address becomes the host's.
    Masquerade,
    /// NF_DROP, NF_ACCEPT: of this table's own.
    Verdict(u32),
}
use Expression::*;

/// A base chain and its rules.
struct Chain {
    name: &'static str,
    kind: &'static str,
    hook: u32,
    priority: i32,
    rules: &'static [&'static [Expression]],
}

const IIFNAME: Expression = Meta(NFT_META_IIFNAME, NFT_REG32_00);
const OIFNAME: Expression = Meta(NFT_META_OIFNAME, NFT_REG32_00);
/// The register behind a name.
const SECOND: u32 = NFT_REG32_00 + IFNAMSIZ / 4;

const PUBLISH: &[&[Expression]] =
    &[&[Destination(NFT_REG32_00), Redirect(PUBLISHED_AT, true)], &[Local, Redirect(PUBLISHED, false)]];

/// The only one that is IPv4's alone.
static GUARD: Chain = Chain {
    name: "guard",
    kind: "filter",
    hook: NF_INET_PRE_ROUTING,
    priority: NF_IP_PRI_RAW,
    rules: &[&[IIFNAME, IsNot(b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), Loopback, Verdict(NF_DROP)]],
};
static CHAINS: [Chain; 4] = [
    Chain { name: "publish", kind: "nat", hook: NF_INET_PRE_ROUTING, priority: NF_IP_PRI_NAT_DST, rules: PUBLISH },
    Chain { name: "publish_local", kind: "nat", hook: NF_INET_LOCAL_OUT, priority: NF_IP_PRI_NAT_DST, rules: PUBLISH },
    Chain {
        name: "isolate",
        kind: "filter",
        hook: NF_INET_FORWARD,
        priority: NF_IP_PRI_FILTER,
        rules: &[
            &[Connection(NFT_CT_STATE, CT_ESTABLISHED_OR_RELATED), Verdict(NF_ACCEPT)],
            &[Connection(NFT_CT_STATUS, IPS_DST_NAT), Verdict(NF_ACCEPT)],
            &[OIFNAME, In(BRIDGES), IIFNAME, Meta(NFT_META_OIFNAME, SECOND), NotIn(WITHIN), Verdict(NF_DROP)],
        ],
    },
    Chain {
        name: "disguise",
        kind: "nat",
        hook: NF_INET_POST_ROUTING,
        priority: NF_IP_PRI_NAT_SRC,
        rules: &[
            &[IIFNAME, In(BRIDGES), OIFNAME, NotIn(BRIDGES), Masquerade],
            &[OIFNAME, Source(SECOND), In(HAIRPIN), Connection(NFT_CT_STATUS, IPS_DST_NAT), Masquerade],
        ],
    },
];

/// Sees to it that the table of IPv4 is there, and that it has `bridges`; `false` where the kernel has no such tables, or lacks
/// what they take.
pub fn add_ipv4(bridges: &[Bridge]) -> Result<bool> {
    unless_lacking(add(&IPV4, bridges))
}

/// The same for IPv6.
pub fn add_ipv6(bridges: &[Bridge]) -> Result<bool> {
    unless_lacking(add(&IPV6, bridges))
}

fn unless_lacking(added: Result<()>) -> Result<bool> {
    match added {
        Err(error) if is_missing(&error) => Ok(false),
        added => added.map(|()| true),
    }
}

/// The error for who cannot do without tables.
pub fn need(are_there: bool) -> Result<()> {
    let hint = "build in nf_tables with nat, masq, fib and ct, or load their modules, or leave --publish-via nft out";
    if are_there { Ok(()) } else { Err(Error::usage(format_args!("the kernel has no nf_tables"), hint)) }
}

fn add(family: &'static Family, bridges: &[Bridge]) -> Result<()> {
    let tables = Tables::open()?;
    let add_bridges = |batch: &mut Batch| bridges.iter().for_each(|bridge| add_bridge(batch, family, bridge));
    let added = tables.send(|batch| {
        add_table(batch, family);
        add_bridges(batch);
    });
    match added {
        Err(error) if error.errno() == Some(Errno::EXIST) => tables.send(add_bridges),
        added => added,
    }
}

/// A table, with all that is in it from the first. EEXIST: it is there.
fn add_table(batch: &mut Batch, family: &'static Family) {
    request(batch, family, "table", TABLE, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, |m| {
        m.text(NFTA_TABLE_NAME, TABLE);
    });

    let (address, container) = (family.address, [family.address, PORT]);
    set(batch, family, 1, PUBLISHED, &[PROTOCOL, PORT], &container);
    set(batch, family, 2, PUBLISHED_AT, &[address, PROTOCOL, PORT], &container);
    set(batch, family, 3, BRIDGES, &[NAME], &[]);
    set(batch, family, 4, WITHIN, &[NAME, NAME], &[]);
    set(batch, family, 5, HAIRPIN, &[NAME, address], &[]);

    for chain in [&GUARD].into_iter().filter(|_| family.is_ipv4()).chain(&CHAINS) {
        request(batch, family, "chain", chain.name, NFT_MSG_NEWCHAIN, NLM_F_CREATE, |m| {
            m.text(NFTA_CHAIN_TABLE, TABLE).text(NFTA_CHAIN_NAME, chain.name).text(NFTA_CHAIN_TYPE, chain.kind);
            m.nest(NFTA_CHAIN_HOOK, |m| {
                m.u32_be(NFTA_HOOK_HOOKNUM, chain.hook).u32_be(NFTA_HOOK_PRIORITY, chain.priority as u32);
            });
        });
        for rule in chain.rules {
            request(batch, family, "rule of", chain.name, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |m| {
                m.text(NFTA_RULE_TABLE, TABLE).text(NFTA_RULE_CHAIN, chain.name).nest(NFTA_RULE_EXPRESSIONS, |m| {
                    rule.iter().for_each(|expression| expression.put(m, family));
                });
            });
        }
    }
}

/// A set or, with fields for its values, a map; `number` is its own in this batch. HAIRPIN's elements are subnets.
fn set(batch: &mut Batch, family: &Family, number: u32, name: &str, key: &[Field], value: &[Field]) {
    // A concatenation's type has those of its fields, and each of them is padded to four bytes.
    let kind = |fields: &[Field]| fields.iter().fold(0, |kind, (field, _)| kind << 6 | field);
    let length = |fields: &[Field]| fields.iter().map(|(_, length)| length.next_multiple_of(4)).sum();
    request(batch, family, "set", name, NFT_MSG_NEWSET, NLM_F_CREATE, |m| {
        m.text(NFTA_SET_TABLE, TABLE).text(NFTA_SET_NAME, name);
        m.u32_be(NFTA_SET_KEY_TYPE, kind(key)).u32_be(NFTA_SET_KEY_LEN, length(key));
        m.u32_be(NFTA_SET_ID, number);
        if !value.is_empty() {
            m.u32_be(NFTA_SET_FLAGS, NFT_SET_MAP);
            m.u32_be(NFTA_SET_DATA_TYPE, kind(value)).u32_be(NFTA_SET_DATA_LEN, length(value));
        } else if name == HAIRPIN {
            m.u32_be(NFTA_SET_FLAGS, NFT_SET_INTERVAL | NFT_SET_CONCAT).nest(NFTA_SET_DESC, |m| {
                m.nest(NFTA_SET_DESC_CONCAT, |m| {
                    for (_, length) in key {
                        m.nest(NFTA_LIST_ELEM, |m| {
                            m.u32_be(NFTA_SET_FIELD_LEN, *length);
                        });
                    }
                });
            });
        } else {
            // What nft needs to show names: NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes long, BYTEORDER_HOST_ENDIAN.
            let [a, b, c, d] = 1u32.to_ne_bytes();
            m.u32_be(NFTA_SET_FLAGS, 0).bytes(NFTA_SET_USERDATA, &[0, 4, a, b, c, d]);
        }
    });
}

/// What the sets have of a bridge. That it is there is no error.
fn add_bridge(batch: &mut Batch, family: &'static Family, bridge: &Bridge) {
    let name = interface(&bridge.name);
    let mut add = |set: &str, first: &[u8], last: Option<&[u8]>| {
        let what = format_args!("add {} to {} {TABLE}", bridge.name, family.name);
        element(batch, family, (NFT_MSG_NEWSETELEM, NLM_F_CREATE), what, set, |m| {
            value(m, NFTA_SET_ELEM_KEY, &[&name[..], first].concat());
            if let Some(last) = last {
                value(m, NFTA_SET_ELEM_KEY_END, &[&name[..], last].concat());
            }
        });
    };
    add(BRIDGES, &[], None);
    add(WITHIN, &name, None);
    let mut add_subnet = |subnet: Subnet| add(HAIRPIN, &octets(subnet.nth(0)), Some(&octets(subnet.last())));
    if family.is_ipv4() {
        add_subnet(bridge.gateway);
        add_subnet(Subnet { address: Ipv4Addr::LOCALHOST.into(), prefix: 8 });
    } else {
        add_subnet(bridge.gateway6);
    }
}

/// Deletes the tables with all that is in them; none, or a kernel that knows of none, is no error.
pub fn delete_tables() -> Result<()> {
    let mut deleted = Ok(());
    for family in [&IPV4, &IPV6] {
        let delete = |batch: &mut Batch| {
            let what = format_args!("delete table {} {TABLE}", family.name);
            batch.request(what, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, 0, |m| {
                m.raw(&family.header()).text(NFTA_TABLE_NAME, TABLE);
            });
        };
        deleted = unless_missing(Tables::open().and_then(|tables| tables.send(delete))).and(deleted);
    }
    deleted
}

/// What is not there, in a kernel that may not know of tables at all, is as good as deleted.
pub fn unless_missing(deleted: Result<()>) -> Result<()> {
    match deleted {
        Err(error) if is_missing(&error) => Ok(()),
        deleted => deleted,
    }
}

fn is_missing(error: &Error) -> bool {
    const MISSING: [Errno; 4] = [Errno::NOENT, Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::AFNOSUPPORT];
    error.errno().is_some_and(|errno| MISSING.contains(&errno))
}

impl Tables {
    /// Opens the way to the tables.
    pub fn open() -> Result<Self> {
        Socket::open(Protocol::Netfilter).map(|socket| Self { socket: Some(socket) })
    }

    /// Publishes, to a container with these addresses: all of the ports, or none. EEXIST: one of them is in its map
    /// already.
    pub fn publish(&self, ports: &[Publish], addresses: &[IpAddr]) -> Result<()> {
        self.send(|batch| {
            for (publish, address) in mappings(ports, addresses) {
                let container = [&octets(address)[..], &publish.container_port.to_be_bytes(), &[0; 2]].concat();
                let message = (NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL);
                mapping(batch, message, publish, address, Some(&container));
            }
        })
    }

    /// Ends that; those that are not in their map, or a table that is gone, are no error. Where it is not `certain` that it
    /// was published, it may be another container's by now, and then stays.
    pub fn unpublish(&self, ports: &[Publish], addresses: &[IpAddr], certain: bool) -> Result<()> {
        let mut all = mappings(ports, addresses);
        all.retain(|(publish, address)| certain || self.leads_to(publish, *address));
        let delete = |these: &[(&Publish, IpAddr)]| {
            self.send(|batch| {
                for (publish, address) in these {
                    mapping(batch, (NFT_MSG_DELSETELEM, 0), publish, *address, None);
                }
            })
        };
        if all.is_empty() {
            // Linux before 6.10 does not answer to a batch with nothing in it.
            return Ok(());
        }
        match delete(&all) {
            Err(error) if is_missing(&error) => all.chunks(1).try_for_each(|one| unless_missing(delete(one))),
            deleted => deleted,
        }
    }

    /// Whether what comes to the port is sent to `container`.
    fn leads_to(&self, publish: &Publish, container: IpAddr) -> bool {
        let (mut batch, mut found) = (Batch::new(), false);
        mapping(&mut batch, (NFT_MSG_GETSETELEM, 0), publish, container, None);
        let mut look = |reply: &[u8]| {
            let path = [NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE];
            let value = path.into_iter().try_fold(reply.get(4..).unwrap_or_default(), attribute);
            found = value.is_some_and(|value| value.starts_with(&octets(container)));
        };
        let Some(socket) = &self.socket else { return false };
        socket.ask(batch, &mut look).is_ok() && found
    }

    /// Forgets the flows to the container at `address`, which would go there still, and not to the port's next
    /// container; for UDP, which has no other end. Best effort: without CONFIG_NF_CT_NETLINK they time out.
    pub fn forget_flows(&self, address: IpAddr) {
        let Some(socket) = &self.socket else { return };
        let family = Family::of(address);
        // Listed and deleted one by one: to delete by a filter takes Linux 6.8. A kernel without ctnetlink lists none.
        let (mut list, mut tuples) = (Batch::new(), Vec::new());
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
        list.request(format_args!(""), kind, NLM_F_DUMP, |m| {
            m.raw(&family.header());
            if !family.is_ipv4() {
                // By an IPv6 address the kernel lists all flows but those (ctnetlink_filter_match_tuple compares for
                // inequality), so it is asked for all.
                return;
            }
            m.nest(CTA_TUPLE_REPLY, |m| {
                m.nest(CTA_TUPLE_IP, |m| {
                    m.bytes(family.flow_source, &octets(address));
                });
            });
            m.nest(CTA_FILTER, |m| {
                m.u32_ne(CTA_FILTER_ORIG_FLAGS, 0).u32_ne(CTA_FILTER_REPLY_FLAGS, CTA_FILTER_F_CTA_IP_SRC);
            });
        });
        socket.dump(list, &mut |flow| {
            let attributes = flow.get(family.header().len()..).unwrap_or_default();
            let tuple = |direction| attribute(attributes, direction);
            let source = tuple(CTA_TUPLE_REPLY)
                .and_then(|tuple| attribute(tuple, CTA_TUPLE_IP))
                .and_then(|addresses| attribute(addresses, family.flow_source));
            if source == Some(&*octets(address)) {
                tuples.extend(tuple(CTA_TUPLE_ORIG).map(<[u8]>::to_vec));
            }
        });
        if tuples.is_empty() {
            return;
        }
        let mut delete = Batch::new();
        for tuple in &tuples {
            delete.request(format_args!(""), NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, |m| {
                m.raw(&family.header()).nest(CTA_TUPLE_ORIG, |m| {
                    m.raw(tuple);
                });
            });
        }
        let _ = socket.send(delete);
    }

    /// Sends what `write` puts between the begin and the end of a batch: the kernel does all of it or nothing.
    fn send(&self, write: impl FnOnce(&mut Batch)) -> Result<()> {
        let mut batch = Batch::new();
        marker(&mut batch, NFNL_MSG_BATCH_BEGIN);
        write(&mut batch);
        // Linux before 6.10 does not acknowledge the end itself.
        batch.acknowledge();
        marker(&mut batch, NFNL_MSG_BATCH_END);
        let Some(socket) = &self.socket else { return Ok(()) };
        socket.send(batch).map_err(|error| {
            if !is_missing(&error) {
                return error;
            }
            error.advise(
                "the kernel needs nf_tables with nat, masq, fib and ct (CONFIG_NF_TABLES, CONFIG_NFT_NAT, \
                 CONFIG_NFT_MASQ, CONFIG_NFT_FIB_IPV4, CONFIG_NFT_CT) or their modules: load them, or use --net none \
                 or host",
            )
        })
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.socket.take().into_iter().for_each(Socket::close_later);
    }
}

/// Which of the ports go to which of the container's addresses.
fn mappings<'a>(ports: &'a [Publish], addresses: &[IpAddr]) -> Vec<(&'a Publish, IpAddr)> {
    let mut all = Vec::new();
    for publish in ports {
        for address in addresses {
            if publish.address.is_none_or(|own| own.is_ipv4() == address.is_ipv4()) {
                all.push((publish, *address));
            }
        }
    }
    all
}

/// Adds or deletes an element of the map that a port belongs in.
fn mapping(batch: &mut Batch, message: (u16, u32), publish: &Publish, container: IpAddr, data: Option<&[u8]>) {
    let [high, low] = publish.host_port.to_be_bytes();
    let protocol_port = [publish.protocol as u8, 0, 0, 0, high, low, 0, 0];
    let (map, key) = match publish.address.filter(|address| !address.is_unspecified()) {
        None => (PUBLISHED, protocol_port.to_vec()),
        Some(address) => (PUBLISHED_AT, [&octets(address)[..], &protocol_port].concat()),
    };
    element(batch, Family::of(container), message, format_args!("publish {publish}"), map, |m| {
        value(m, NFTA_SET_ELEM_KEY, &key);
        if let Some(data) = data {
            value(m, NFTA_SET_ELEM_DATA, data);
        }
    });
}

/// A link's name as a register holds it: 16 bytes, the rest of them zero.
fn interface(name: &str) -> [u8; IFNAMSIZ as usize] {
    let mut bytes = [0; IFNAMSIZ as usize];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
    bytes
}

/// The begin or the end of a batch; its struct nfgenmsg has the subsystem.
fn marker(batch: &mut Batch, kind: u16) {
    batch.request(format_args!("begin an nf_tables batch"), kind, 0, |m| {
        m.raw(&[0, 0]).raw(&NFNL_SUBSYS_NFTABLES.to_be_bytes());
    });
}

/// Adds the `object` of this `name`.
fn request(
    batch: &mut Batch,
    family: &Family,
    object: &str,
    name: &str,
    kind: u16,
    flags: u32,
    write: impl FnOnce(&mut Message<'_>),
) {
    batch.request(format_args!("add {object} {name}"), NFNL_SUBSYS_NFTABLES << 8 | kind, flags, |m| {
        write(m.raw(&family.header()));
    });
}

/// Adds or deletes an element that `write` fills; `what` stands in the error.
fn element(
    batch: &mut Batch,
    family: &Family,
    (kind, flags): (u16, u32),
    what: fmt::Arguments<'_>,
    set: &str,
    write: impl FnOnce(&mut Message<'_>),
) {
    batch.request(what, NFNL_SUBSYS_NFTABLES << 8 | kind, flags, |m| {
        m.raw(&family.header()).text(NFTA_SET_ELEM_LIST_TABLE, TABLE).text(NFTA_SET_ELEM_LIST_SET, set);
        m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
            m.nest(NFTA_LIST_ELEM, write);
        });
    });
}

/// Bytes as a register has them.
fn value(m: &mut Message<'_>, kind: u16, value: &[u8]) {
    m.nest(kind, |m| {
        m.bytes(NFTA_DATA_VALUE, value);
    });
}

/// Offset in the TCP and the UDP header.
const DESTINATION_PORT: u32 = 2;

impl Expression {
    fn put(&self, m: &mut Message<'_>, family: &Family) {
        let load_address = |m: &mut Message<'_>, offset, register| {
            load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, offset, family.address.1, register);
        };
        let look_up = |m: &mut Message<'_>, set: &str, flags| {
            expression(m, "lookup", |m| {
                m.text(NFTA_LOOKUP_SET, set).u32_be(NFTA_LOOKUP_SREG, NFT_REG32_00);
                m.u32_be(NFTA_LOOKUP_FLAGS, flags);
            });
        };
        match *self {
            Meta(key, register) => load_meta(m, key, register),
            Source(register) => load_address(m, family.source, register),
            Destination(register) => load_address(m, family.destination, register),
            In(set) => look_up(m, set, 0),
            NotIn(set) => look_up(m, set, NFT_LOOKUP_F_INV),
            IsNot(bytes) => compare(m, NFT_CMP_NEQ, bytes),
            Loopback => {
                load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, family.destination, 1, NFT_REG32_00);
                compare(m, NFT_CMP_EQ, &[127]);
            }
            Local => {
                expression(m, "fib", |m| {
                    m.u32_be(NFTA_FIB_DREG, NFT_REG32_00).u32_be(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                    m.u32_be(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
                });
                compare(m, NFT_CMP_EQ, &RTN_LOCAL.to_ne_bytes());
                if !family.is_ipv4() {
                    load_address(m, family.destination, NFT_REG32_00);
                    compare(m, NFT_CMP_NEQ, &Ipv6Addr::LOCALHOST.octets());
                }
            }
            Connection(key, bits) => {
                expression(m, "ct", |m| {
                    m.u32_be(NFTA_CT_KEY, key).u32_be(NFTA_CT_DREG, NFT_REG32_00);
                });
                expression(m, "bitwise", |m| {
                    m.u32_be(NFTA_BITWISE_SREG, NFT_REG32_00).u32_be(NFTA_BITWISE_DREG, NFT_REG32_00);
                    m.u32_be(NFTA_BITWISE_LEN, 4);
                    value(m, NFTA_BITWISE_MASK, &bits.to_ne_bytes());
                    value(m, NFTA_BITWISE_XOR, &[0; 4]);
                });
                compare(m, NFT_CMP_NEQ, &[0; 4]);
            }
            Redirect(map, is_at) => {
                let register = NFT_REG32_00 + if is_at { family.registers() } else { 0 };
                load_meta(m, NFT_META_L4PROTO, register);
                load_payload(m, NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2, register + 1);
                expression(m, "lookup", |m| {
                    m.text(NFTA_LOOKUP_SET, map).u32_be(NFTA_LOOKUP_SREG, NFT_REG32_00);
                    m.u32_be(NFTA_LOOKUP_DREG, NFT_REG32_00);
                });
                expression(m, "nat", |m| {
                    m.u32_be(NFTA_NAT_TYPE, NFT_NAT_DNAT).u32_be(NFTA_NAT_FAMILY, family.number.into());
                    m.u32_be(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00);
                    m.u32_be(NFTA_NAT_REG_PROTO_MIN, NFT_REG32_00 + family.registers());
                });
            }
            Masquerade => expression(m, "masq", |_| ()),
            Verdict(code) => expression(m, "immediate", |m| {
                m.u32_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT).nest(NFTA_IMMEDIATE_DATA, |m| {
                    m.nest(NFTA_DATA_VERDICT, |m| {
                        m.u32_be(NFTA_VERDICT_CODE, code);
                    });
                });
            }),
        }
    }
}

fn expression(m: &mut Message<'_>, name: &str, write: impl FnOnce(&mut Message<'_>)) {
    m.nest(NFTA_LIST_ELEM, |m| {
        m.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, write);
    });
}

fn load_meta(m: &mut Message<'_>, key: u32, register: u32) {
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

fn compare(m: &mut Message<'_>, operation: u32, with: &[u8]) {
    expression(m, "cmp", |m| {
        m.u32_be(NFTA_CMP_SREG, NFT_REG32_00).u32_be(NFTA_CMP_OP, operation);
        value(m, NFTA_CMP_DATA, with);
    });
}
