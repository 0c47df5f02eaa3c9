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
//!     oifname @bridges ip saddr 10.77.0.0/16 ct status dnat masquerade    # a container by a published port
//!     oifname @bridges ip saddr 127.0.0.0/8 masquerade }
//! ```
//!
//! Must not touch any other table.

use crate::config::Publish;
use crate::error::Result;
use crate::net::bridge::{BRIDGE, SUBNET};
use crate::net::netlink::{Batch, Message, Protocol, Socket, attribute};
use crate::state::Root;
use linux_raw_sys::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use rustix::io::Errno;
use std::fmt;
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

    // nfnetlink_conntrack.h; the filter's flags are net/netfilter/nf_conntrack_netlink.c's.
    pub const NFNL_SUBSYS_CTNETLINK: u16 = 1;
    pub const IPCTNL_MSG_CT_GET: u16 = 1;
    pub const IPCTNL_MSG_CT_DELETE: u16 = 2;
    pub const CTA_TUPLE_ORIG: u16 = 1;
    pub const CTA_TUPLE_REPLY: u16 = 2;
    pub const CTA_FILTER: u16 = 25;
    pub const CTA_TUPLE_IP: u16 = 1;
    pub const CTA_IP_V4_SRC: u16 = 1;
    pub const CTA_FILTER_ORIG_FLAGS: u16 = 1;
    pub const CTA_FILTER_REPLY_FLAGS: u16 = 2;
    pub const CTA_FILTER_F_CTA_IP_SRC: u32 = 1;

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

/// An expression of a rule, or a few that belong together, in nft's order. Each leaves what it loads in the first
/// register, unless it says otherwise.
enum Expression {
    /// `iifname` or `oifname`, by its NFT_META_* key, which is, or is not, one of the bridges.
    Bridge(u32, bool),
    /// `iifname` which is not this.
    NotFrom(&'static str),
    /// The IPv4 address at this offset of the header begins with these bytes.
    Address(u32, &'static [u8]),
    /// The connection's NFT_CT_* key has any, or none, of these bits.
    Connection(u32, u32, bool),
    /// The destination is an address of this host.
    Local,
    /// The destination's address.
    Destination,
    /// Looks the protocol and the port up in the map, behind what stands before the register, and sends the connection
    /// to the container that the map has for it.
    Redirect(&'static str, u32),
    /// The container's address becomes the host's.
    Masquerade,
    /// The packet goes no further.
    Drop,
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

const PUBLISH: &[&[Expression]] =
    &[&[Destination, Redirect(PUBLISHED_AT, NFT_REG32_01)], &[Local, Redirect(PUBLISHED, NFT_REG32_00)]];

static CHAINS: [Chain; 5] = [
    Chain {
        name: "guard",
        kind: "filter",
        hook: NF_INET_PRE_ROUTING,
        priority: NF_IP_PRI_RAW,
        rules: &[&[NotFrom("lo"), Address(DESTINATION, &LOOPBACK), Drop]],
    },
    Chain { name: "publish", kind: "nat", hook: NF_INET_PRE_ROUTING, priority: NF_IP_PRI_NAT_DST, rules: PUBLISH },
    Chain { name: "publish_local", kind: "nat", hook: NF_INET_LOCAL_OUT, priority: NF_IP_PRI_NAT_DST, rules: PUBLISH },
    Chain {
        name: "forward",
        kind: "filter",
        hook: NF_INET_FORWARD,
        priority: NF_IP_PRI_FILTER,
        rules: &[&[
            Bridge(NFT_META_OIFNAME, true),
            Bridge(NFT_META_IIFNAME, false),
            Connection(NFT_CT_STATE, CT_ESTABLISHED_OR_RELATED, false),
            Connection(NFT_CT_STATUS, IPS_DST_NAT, false),
            Drop,
        ]],
    },
    Chain {
        name: "masquerade",
        kind: "nat",
        hook: NF_INET_POST_ROUTING,
        priority: NF_IP_PRI_NAT_SRC,
        rules: &[
            &[Bridge(NFT_META_IIFNAME, true), Bridge(NFT_META_OIFNAME, false), Masquerade],
            // By its address: a packet that br_netfilter takes here from within the bridge has no iifname.
            &[
                Bridge(NFT_META_OIFNAME, true),
                Address(SOURCE, &SUBNET),
                Connection(NFT_CT_STATUS, IPS_DST_NAT, true),
                Masquerade,
            ],
            &[Bridge(NFT_META_OIFNAME, true), Address(SOURCE, &LOOPBACK), Masquerade],
        ],
    },
];

/// Makes the table, with all that is in it from the first, in one batch. EEXIST is no error.
pub fn add_table(root: &Root) -> Result<()> {
    root.record_shared(&format!("net {RECORD}"))?;
    match Table::open()?.send(table) {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        sent => sent,
    }
}

fn table(batch: &mut Batch) {
    request(batch, "table", TABLE, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, |m| {
        m.text(NFTA_TABLE_NAME, TABLE);
    });

    let (address, port) = (TYPE_IPADDR, TYPE_INET_SERVICE);
    let protocol_port = TYPE_INET_PROTOCOL << 6 | port;
    for (name, key, length) in [(PUBLISHED, protocol_port, 8), (PUBLISHED_AT, address << 12 | protocol_port, 12)] {
        set(batch, name, NFT_SET_MAP, key, length, |m| {
            m.u32_be(NFTA_SET_DATA_TYPE, address << 6 | port).u32_be(NFTA_SET_DATA_LEN, 8);
        });
    }
    set(batch, BRIDGES, 0, TYPE_IFNAME, 16, |m| {
        // What nft needs to show names: NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes long, BYTEORDER_HOST_ENDIAN.
        let [a, b, c, d] = 1u32.to_ne_bytes();
        m.bytes(NFTA_SET_USERDATA, &[0, 4, a, b, c, d]);
    });
    element(batch, NFT_MSG_NEWSETELEM, format_args!("add kontena0 to the bridges"), BRIDGES, &interface(BRIDGE), None);

    for chain in &CHAINS {
        request(batch, "chain", chain.name, NFT_MSG_NEWCHAIN, NLM_F_CREATE, |m| {
            m.text(NFTA_CHAIN_TABLE, TABLE).text(NFTA_CHAIN_NAME, chain.name).text(NFTA_CHAIN_TYPE, chain.kind);
            m.nest(NFTA_CHAIN_HOOK, |m| {
                m.u32_be(NFTA_HOOK_HOOKNUM, chain.hook).u32_be(NFTA_HOOK_PRIORITY, chain.priority as u32);
            });
        });
        for rule in chain.rules {
            request(batch, "rule of", chain.name, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |m| {
                m.text(NFTA_RULE_TABLE, TABLE).text(NFTA_RULE_CHAIN, chain.name).nest(NFTA_RULE_EXPRESSIONS, |m| {
                    rule.iter().for_each(|expression| expression.put(m));
                });
            });
        }
    }
}

/// Deletes the table with all that is in it; no table, or a kernel that knows of none, is no error.
pub fn delete_table() -> Result<()> {
    let deleted = Table::open().and_then(|table| {
        table.send(|batch| {
            batch.request(format_args!("delete table {TABLE}"), NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, 0, |m| {
                m.raw(&NFGENMSG).text(NFTA_TABLE_NAME, TABLE);
            });
        })
    });
    unless_missing(deleted)
}

/// What is not there, in a kernel that may not know of tables at all, is as good as deleted.
pub fn unless_missing(deleted: Result<()>) -> Result<()> {
    match deleted {
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::PROTONOSUPPORT | Errno::OPNOTSUPP)) => Ok(()),
        deleted => deleted,
    }
}

impl Table {
    /// Opens the way to the table.
    pub fn open() -> Result<Self> {
        Socket::open(Protocol::Netfilter).map(|socket| Self { socket: Some(socket) })
    }

    /// Publishes: all of the ports, or none. EEXIST: one of them is in its map already.
    pub fn publish(&self, ports: &[Publish], address: Ipv4Addr) -> Result<()> {
        self.send(|batch| {
            for publish in ports {
                let (map, key) = key(publish);
                let [a, b, c, d] = address.octets();
                let [high, low] = publish.container_port.to_be_bytes();
                let container = [a, b, c, d, high, low, 0, 0];
                element(batch, NFT_MSG_NEWSETELEM, format_args!("{publish}"), map, &key, Some(&container));
            }
        })
    }

    /// Ends that, one by one: those that are not in their map, or a table that is gone, are no error.
    pub fn unpublish(&self, ports: &[Publish]) -> Result<()> {
        for publish in ports {
            let (map, key) = key(publish);
            let deleted =
                self.send(|batch| element(batch, NFT_MSG_DELSETELEM, format_args!("{publish}"), map, &key, None));
            unless_missing(deleted)?;
        }
        Ok(())
    }

    /// Forgets the flows to the container at `address`, which would go there still, and not to the port's next
    /// container; for UDP, which has no other end. Best effort: without CONFIG_NF_CT_NETLINK they time out.
    pub fn forget_flows(&self, address: Ipv4Addr) {
        let Some(socket) = &self.socket else { return };
        // Listed and deleted one by one: to delete by a filter takes Linux 6.8. A kernel without ctnetlink lists none.
        let (mut list, mut tuples) = (Batch::default(), Vec::new());
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
        list.message(format_args!(""), kind, NLM_F_DUMP, |m| {
            m.raw(&NFGENMSG).nest(CTA_TUPLE_REPLY, |m| {
                m.nest(CTA_TUPLE_IP, |m| {
                    m.bytes(CTA_IP_V4_SRC, &address.octets());
                });
            });
            m.nest(CTA_FILTER, |m| {
                m.u32_ne(CTA_FILTER_ORIG_FLAGS, 0).u32_ne(CTA_FILTER_REPLY_FLAGS, CTA_FILTER_F_CTA_IP_SRC);
            });
        });
        socket.dump(&list, |flow| {
            let attributes = flow.get(NFGENMSG.len()..).unwrap_or_default();
            tuples.extend(attribute(attributes, CTA_TUPLE_ORIG).map(<[u8]>::to_vec));
        });
        // As many at once as a socket takes.
        for tuples in tuples.chunks(1024) {
            let mut delete = Batch::default();
            for tuple in tuples {
                delete.message(format_args!(""), NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, |m| {
                    m.raw(&NFGENMSG).nest(CTA_TUPLE_ORIG, |m| {
                        m.raw(tuple);
                    });
                });
            }
            let _ = socket.send(&delete);
        }
    }

    /// Sends what `write` puts between the begin and the end of a batch: the kernel does all of it or nothing.
    fn send(&self, write: impl FnOnce(&mut Batch)) -> Result<()> {
        let mut batch = Batch::default();
        marker(&mut batch, NFNL_MSG_BATCH_BEGIN);
        write(&mut batch);
        marker(&mut batch, NFNL_MSG_BATCH_END);
        let Some(socket) = &self.socket else { return Ok(()) };
        socket.send(&batch).map_err(|error| match error.errno() {
            Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT) => error.advise(
                "the kernel needs nf_tables with nat, masq, fib and ct (CONFIG_NF_TABLES, CONFIG_NFT_NAT, \
                 CONFIG_NFT_MASQ, CONFIG_NFT_FIB_IPV4, CONFIG_NFT_CT) or their modules: load them, or use --net none \
                 or host",
            ),
            _ => error,
        })
    }
}

impl std::ops::Drop for Table {
    fn drop(&mut self) {
        self.socket.take().into_iter().for_each(Socket::close_later);
    }
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

/// struct nfgenmsg: family, version, and what only a batch has
const NFGENMSG: [u8; 4] = [NFPROTO_IPV4, 0, 0, 0];

/// The begin or the end of a batch; its struct nfgenmsg has the subsystem.
fn marker(batch: &mut Batch, kind: u16) {
    batch.message(format_args!("begin an nf_tables batch"), kind, 0, |m| {
        m.raw(&[0, 0]).raw(&NFNL_SUBSYS_NFTABLES.to_be_bytes());
    });
}

/// Adds the `object` of this `name`.
fn request(batch: &mut Batch, object: &str, name: &str, kind: u16, flags: u32, write: impl FnOnce(&mut Message<'_>)) {
    batch.request(format_args!("add {object} {name}"), NFNL_SUBSYS_NFTABLES << 8 | kind, flags, |m| {
        write(m.raw(&NFGENMSG));
    });
}

/// Adds a set, or a map; `write` adds what is particular to it. Its key's length serves as its number in the batch.
fn set(batch: &mut Batch, name: &str, flags: u32, key: u32, length: u32, write: impl FnOnce(&mut Message<'_>)) {
    request(batch, "set", name, NFT_MSG_NEWSET, NLM_F_CREATE, |m| {
        m.text(NFTA_SET_TABLE, TABLE).text(NFTA_SET_NAME, name).u32_be(NFTA_SET_FLAGS, flags);
        m.u32_be(NFTA_SET_KEY_TYPE, key).u32_be(NFTA_SET_KEY_LEN, length).u32_be(NFTA_SET_ID, length);
        write(m);
    });
}

/// Adds an element to a set or, with data, to a map; or deletes it there. `what` stands in the error.
fn element(batch: &mut Batch, kind: u16, what: fmt::Arguments<'_>, set: &str, key: &[u8], data: Option<&[u8]>) {
    let flags = if kind == NFT_MSG_NEWSETELEM { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
    batch.request(what, NFNL_SUBSYS_NFTABLES << 8 | kind, flags, |m| {
        m.raw(&NFGENMSG).text(NFTA_SET_ELEM_LIST_TABLE, TABLE).text(NFTA_SET_ELEM_LIST_SET, set);
        m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
            m.nest(NFTA_LIST_ELEM, |m| {
                value(m, NFTA_SET_ELEM_KEY, key);
                if let Some(data) = data {
                    value(m, NFTA_SET_ELEM_DATA, data);
                }
            });
        });
    });
}

/// Bytes as a register has them.
fn value(m: &mut Message<'_>, kind: u16, value: &[u8]) {
    m.nest(kind, |m| {
        m.bytes(NFTA_DATA_VALUE, value);
    });
}

/// 127.0.0.0/8.
const LOOPBACK: [u8; 1] = [127];
/// Offsets in the IPv4 header; RFC 791.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// Offset in the TCP and the UDP header.
const DESTINATION_PORT: u32 = 2;

impl Expression {
    fn put(&self, m: &mut Message<'_>) {
        match *self {
            Bridge(key, is) => {
                load_meta(m, key, NFT_REG32_00);
                expression(m, "lookup", |m| {
                    m.text(NFTA_LOOKUP_SET, BRIDGES).u32_be(NFTA_LOOKUP_SREG, NFT_REG32_00);
                    m.u32_be(NFTA_LOOKUP_FLAGS, if is { 0 } else { NFT_LOOKUP_F_INV });
                });
            }
            NotFrom(name) => {
                load_meta(m, NFT_META_IIFNAME, NFT_REG32_00);
                compare(m, NFT_CMP_NEQ, &interface(name));
            }
            Address(offset, bytes) => {
                load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, offset, bytes.len() as u32, NFT_REG32_00);
                compare(m, NFT_CMP_EQ, bytes);
            }
            Connection(key, bits, any) => {
                expression(m, "ct", |m| {
                    m.u32_be(NFTA_CT_KEY, key).u32_be(NFTA_CT_DREG, NFT_REG32_00);
                });
                expression(m, "bitwise", |m| {
                    m.u32_be(NFTA_BITWISE_SREG, NFT_REG32_00).u32_be(NFTA_BITWISE_DREG, NFT_REG32_00);
                    m.u32_be(NFTA_BITWISE_LEN, 4);
                    value(m, NFTA_BITWISE_MASK, &bits.to_ne_bytes());
                    value(m, NFTA_BITWISE_XOR, &[0; 4]);
                });
                compare(m, if any { NFT_CMP_NEQ } else { NFT_CMP_EQ }, &[0; 4]);
            }
            Local => {
                expression(m, "fib", |m| {
                    m.u32_be(NFTA_FIB_DREG, NFT_REG32_00).u32_be(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                    m.u32_be(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
                });
                compare(m, NFT_CMP_EQ, &RTN_LOCAL.to_ne_bytes());
            }
            Destination => load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, DESTINATION, 4, NFT_REG32_00),
            Redirect(map, register) => {
                load_meta(m, NFT_META_L4PROTO, register);
                load_payload(m, NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2, register + 1);
                expression(m, "lookup", |m| {
                    m.text(NFTA_LOOKUP_SET, map).u32_be(NFTA_LOOKUP_SREG, NFT_REG32_00);
                    m.u32_be(NFTA_LOOKUP_DREG, NFT_REG32_00);
                });
                expression(m, "nat", |m| {
                    m.u32_be(NFTA_NAT_TYPE, NFT_NAT_DNAT).u32_be(NFTA_NAT_FAMILY, NFPROTO_IPV4.into());
                    m.u32_be(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00).u32_be(NFTA_NAT_REG_PROTO_MIN, NFT_REG32_01);
                });
            }
            Masquerade => expression(m, "masq", |_| ()),
            Drop => expression(m, "immediate", |m| {
                m.u32_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT).nest(NFTA_IMMEDIATE_DATA, |m| {
                    m.nest(NFTA_DATA_VERDICT, |m| {
                        m.u32_be(NFTA_VERDICT_CODE, NF_DROP);
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
