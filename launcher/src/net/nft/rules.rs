//! What the tables are made of that never changes: families, chains and their rules; nft(8).
//!
//! nft.rs opens with the same in nft's syntax. Must not know of containers.

use super::uapi::*;
use crate::net::netlink::Message;
use std::net::{IpAddr, Ipv6Addr};

pub(super) const BRIDGES: &str = "bridges";
pub(super) const WITHIN: &str = "within";
pub(super) const HAIRPIN: &str = "hairpin";
/// Ports published on every address of the host, and on one.
pub(super) const PUBLISHED: &str = "published";
pub(super) const PUBLISHED_AT: &str = "published_at";
pub(super) const CLOSED: &str = "closed";
pub(super) const HOSTS: &str = "hosts";
pub(super) const HOSTS6: &str = "hosts6";
/// The group of a container's port.
pub const GROUP: u32 = 0x6b6f_6e74;

/// One of the tables, by the family that it is for.
#[derive(Clone, Copy)]
pub struct Family {
    /// As struct nfgenmsg and conntrack have it, and for messages.
    pub(super) number: u8,
    pub(super) name: &'static str,
    pub(super) chains: &'static [&'static Chain],
    /// An address: nft's type, and how many bytes it has.
    pub(super) address: Field,
    /// Where the header has the two addresses; RFC 791, RFC 8200.
    pub(super) source: u32,
    pub(super) destination: u32,
    /// The attribute of a flow's source.
    pub(super) flow_source: u16,
}

/// What is about IPv4.
pub static IPV4: Family = Family {
    number: NFPROTO_IPV4,
    name: "ip",
    chains: &[&GUARD, &PUBLISH, &PUBLISH_LOCAL, &ISOLATE, &DISGUISE],
    address: (TYPE_IPADDR, 4),
    source: 12,
    destination: 16,
    flow_source: CTA_IP_V4_SRC,
};
/// What is about IPv6.
pub static IPV6: Family = Family {
    number: NFPROTO_IPV6,
    name: "ip6",
    chains: &[&GUARD6, &PUBLISH, &PUBLISH_LOCAL, &ISOLATE, &DISGUISE],
    address: (TYPE_IP6ADDR, 16),
    source: 8,
    destination: 24,
    flow_source: CTA_IP_V6_SRC,
};
/// What is about the ports of bridges.
pub static BRIDGE: Family =
    Family { number: NFPROTO_BRIDGE, name: "bridge", chains: &[&TRUTH, &RESERVED], address: (0, 0), ..IPV4 };

impl Family {
    pub(super) fn of(address: IpAddr) -> &'static Self {
        if address.is_ipv4() { &IPV4 } else { &IPV6 }
    }

    /// Whether it is IPv4's.
    pub fn is_ipv4(&self) -> bool {
        self.number == NFPROTO_IPV4
    }

    pub(super) fn is_bridge(&self) -> bool {
        self.number == NFPROTO_BRIDGE
    }

    /// struct nfgenmsg: family, version, and what only a batch has.
    pub(super) fn header(&self) -> [u8; 4] {
        [self.number, 0, 0, 0]
    }

    /// How many registers an address takes.
    fn registers(&self) -> u32 {
        self.address.1 / 4
    }
}

/// What a key or its value is made of: nft's type and its length in bytes.
pub(super) type Field = (u32, u32);

pub(super) const PROTOCOL: Field = (TYPE_INET_PROTOCOL, 1);
pub(super) const PORT: Field = (TYPE_INET_SERVICE, 2);
pub(super) const NAME: Field = (TYPE_IFNAME, IFNAMSIZ);
pub(super) const HARDWARE: Field = (TYPE_ETHERADDR, 6);
pub(super) const KIND: Field = (TYPE_PKTTYPE, 1);
pub(super) const IFNAMSIZ: u32 = 16;

/// An expression of a rule, or a few that belong together, in nft's order.
pub(super) enum Expression {
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
    /// What the first register has is this.
    Is(&'static [u8]),
    /// It is not this.
    IsNot(&'static [u8]),
    /// Loads bytes of a header, an NFT_PAYLOAD_*, from an offset on, as many as these, into registers from this one on.
    Header(u32, u32, u32, u32),
    /// The source is an address of this host.
    FromLocal,
    /// The destination is one from which a connection can be sent on: not ::1.
    Local,
    /// The connection's NFT_CT_* key has any of these bits. It says no where there is no connection.
    Connection(u32, u32),
    /// Looks the protocol and the port up in the map, behind the destination's address where that is `true` (and
    /// loaded), and sends the connection to the container that the map has for it.
    Redirect(&'static str, bool),
    /// The container's address becomes the host's.
    Masquerade,
    /// NF_DROP, NF_ACCEPT: of this table's own.
    Verdict(u32),
}
use Expression::*;

/// A base chain and its rules.
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) rules: &'static [&'static [Expression]],
}

const IIFNAME: Expression = Meta(NFT_META_IIFNAME, NFT_REG32_00);
const OIFNAME: Expression = Meta(NFT_META_OIFNAME, NFT_REG32_00);
/// The register behind a name, and that behind a hardware address which follows.
const SECOND: u32 = NFT_REG32_00 + IFNAMSIZ / 4;
const THIRD: u32 = SECOND + 2;
/// Names and kinds of links, as registers have them.
const LO: &[u8] = b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const A_BRIDGE: &[u8] = b"bridge\0\0\0\0\0\0\0\0\0\0";
/// 127, the first byte of IPv4's loopback.
const LOOPBACK: &[u8] = &[127];

const fn network(offset: u32, length: u32, register: u32) -> Expression {
    Header(NFT_PAYLOAD_NETWORK_HEADER, offset, length, register)
}

/// The kind of a frame, in its header.
const ETHER_TYPE: Expression = Header(NFT_PAYLOAD_LL_HEADER, 12, 2, NFT_REG32_00);
const IS_IP: Expression = Is(&[0x08, 0x00]);
const IS_ARP: Expression = Is(&[0x08, 0x06]);
const IS_IP6: Expression = Is(&[0x86, 0xdd]);
/// The sender's hardware address.
const ETHER_SOURCE: Expression = Header(NFT_PAYLOAD_LL_HEADER, 6, 6, SECOND);
const PROTOCOL_NUMBER: Expression = Meta(NFT_META_L4PROTO, NFT_REG32_00);
const IS_ICMP6: Expression = Is(&[58]);
const ICMP6_TYPE: Expression = Header(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, NFT_REG32_00);
const ADVERTISES_ROUTER: Expression = Is(&[134]);
const SOLICITS: Expression = Is(&[135]);
const ADVERTISES: Expression = Is(&[136]);
/// Whom a neighbour's solicitation or advertisement is about.
const TARGET: Expression = Header(NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, THIRD);
const SOURCE6: u32 = 8;

const REDIRECT: &[&[Expression]] =
    &[&[Destination(NFT_REG32_00), Redirect(PUBLISHED_AT, true)], &[Local, Redirect(PUBLISHED, false)]];

const fn chain(
    name: &'static str,
    kind: &'static str,
    hook: u32,
    priority: i32,
    rules: &'static [&'static [Expression]],
) -> Chain {
    Chain { name, kind, hook, priority, rules }
}

static GUARD: Chain = chain(
    "guard",
    "filter",
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_RAW,
    &[
        &[IIFNAME, IsNot(LO), network(16, 1, NFT_REG32_00), Is(LOOPBACK), Verdict(NF_DROP)],
        &[IIFNAME, IsNot(LO), network(12, 1, NFT_REG32_00), Is(LOOPBACK), Verdict(NF_DROP)],
    ],
);
static GUARD6: Chain = chain(
    "guard",
    "filter",
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_RAW,
    &[&[IIFNAME, In(BRIDGES), FromLocal, Verdict(NF_DROP)]],
);
static PUBLISH: Chain = chain("publish", "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST, REDIRECT);
static PUBLISH_LOCAL: Chain = chain("publish_local", "nat", NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST, REDIRECT);
static ISOLATE: Chain = chain(
    "isolate",
    "filter",
    NF_INET_FORWARD,
    NF_IP_PRI_FILTER,
    &[
        &[Connection(NFT_CT_STATE, CT_ESTABLISHED_OR_RELATED), Verdict(NF_ACCEPT)],
        &[Connection(NFT_CT_STATUS, IPS_DST_NAT), Verdict(NF_ACCEPT)],
        &[OIFNAME, In(BRIDGES), IIFNAME, Meta(NFT_META_OIFNAME, SECOND), NotIn(WITHIN), Verdict(NF_DROP)],
        &[
            Meta(NFT_META_IIFKIND, NFT_REG32_00),
            Is(A_BRIDGE),
            Meta(NFT_META_OIFKIND, NFT_REG32_00),
            Is(A_BRIDGE),
            Verdict(NF_ACCEPT),
        ],
        &[
            IIFNAME,
            NotIn(BRIDGES),
            OIFNAME,
            NotIn(BRIDGES),
            Meta(NFT_META_PKTTYPE, NFT_REG32_00),
            In(CLOSED),
            Verdict(NF_DROP),
        ],
    ],
);
static DISGUISE: Chain = chain(
    "disguise",
    "nat",
    NF_INET_POST_ROUTING,
    NF_IP_PRI_NAT_SRC,
    &[
        &[IIFNAME, In(BRIDGES), OIFNAME, NotIn(BRIDGES), Masquerade],
        &[OIFNAME, Source(SECOND), In(HAIRPIN), Connection(NFT_CT_STATUS, IPS_DST_NAT), Masquerade],
    ],
);
static TRUTH: Chain = chain(
    "truth",
    "filter",
    NF_INET_PRE_ROUTING,
    NF_BR_PRI_NAT_DST_BRIDGED,
    &[
        &[Meta(NFT_META_IIFGROUP, NFT_REG32_00), IsNot(&GROUP.to_ne_bytes()), Verdict(NF_ACCEPT)],
        &[ETHER_TYPE, IS_IP, IIFNAME, ETHER_SOURCE, network(12, 4, THIRD), In(HOSTS), Verdict(NF_ACCEPT)],
        // The sender's addresses in the message, too: struct arphdr.
        &[
            ETHER_TYPE,
            IS_ARP,
            IIFNAME,
            ETHER_SOURCE,
            network(14, 4, THIRD),
            In(HOSTS),
            IIFNAME,
            network(8, 6, SECOND),
            network(14, 4, THIRD),
            In(HOSTS),
            Verdict(NF_ACCEPT),
        ],
        &[ETHER_TYPE, IS_IP6, PROTOCOL_NUMBER, IS_ICMP6, ICMP6_TYPE, ADVERTISES_ROUTER, Verdict(NF_DROP)],
        &[
            ETHER_TYPE,
            IS_IP6,
            PROTOCOL_NUMBER,
            IS_ICMP6,
            ICMP6_TYPE,
            ADVERTISES,
            IIFNAME,
            ETHER_SOURCE,
            TARGET,
            NotIn(HOSTS6),
            Verdict(NF_DROP),
        ],
        // A host that checks whether an address is free has none yet, and sends from the unspecified one: RFC 4862.
        &[
            ETHER_TYPE,
            IS_IP6,
            network(SOURCE6, 16, NFT_REG32_00),
            Is(&[0; 16]),
            PROTOCOL_NUMBER,
            IS_ICMP6,
            ICMP6_TYPE,
            SOLICITS,
            IIFNAME,
            ETHER_SOURCE,
            TARGET,
            In(HOSTS6),
            Verdict(NF_ACCEPT),
        ],
        &[ETHER_TYPE, IS_IP6, IIFNAME, ETHER_SOURCE, network(SOURCE6, 16, THIRD), In(HOSTS6), Verdict(NF_ACCEPT)],
        &[Verdict(NF_DROP)],
    ],
);
static RESERVED: Chain = chain(
    "reserved",
    "filter",
    NF_INET_LOCAL_IN,
    NF_BR_PRI_FILTER_BRIDGED,
    &[&[
        Meta(NFT_META_IIFGROUP, NFT_REG32_00),
        Is(&GROUP.to_ne_bytes()),
        Header(NFT_PAYLOAD_LL_HEADER, 0, 5, NFT_REG32_00),
        Is(&[0x01, 0x80, 0xc2, 0, 0]),
        Verdict(NF_DROP),
    ]],
);

/// Bytes as a register has them.
pub(super) fn value(m: &mut Message<'_>, kind: u16, value: &[u8]) {
    m.nest(kind, |m| {
        m.bytes(NFTA_DATA_VALUE, value);
    });
}

/// Offset in the TCP and the UDP header.
const DESTINATION_PORT: u32 = 2;

impl Expression {
    pub(super) fn put(&self, m: &mut Message<'_>, family: &Family) {
        match *self {
            Meta(key, register) => load_meta(m, key, register),
            Source(register) => load_address(m, family, family.source, register),
            Destination(register) => load_address(m, family, family.destination, register),
            In(set) => look_up(m, set, 0),
            NotIn(set) => look_up(m, set, NFT_LOOKUP_F_INV),
            Is(bytes) => compare(m, NFT_CMP_EQ, bytes),
            IsNot(bytes) => compare(m, NFT_CMP_NEQ, bytes),
            Header(base, offset, length, register) => load_payload(m, base, offset, length, register),
            FromLocal => is_local(m, NFTA_FIB_F_SADDR),
            Local => {
                is_local(m, NFTA_FIB_F_DADDR);
                if !family.is_ipv4() {
                    load_address(m, family, family.destination, NFT_REG32_00);
                    compare(m, NFT_CMP_NEQ, &Ipv6Addr::LOCALHOST.octets());
                }
            }
            Connection(key, bits) => has_bits(m, key, bits),
            Redirect(map, is_at) => redirect(m, family, map, is_at),
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

fn load_address(m: &mut Message<'_>, family: &Family, offset: u32, register: u32) {
    load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, offset, family.address.1, register);
}

fn look_up(m: &mut Message<'_>, set: &str, flags: u32) {
    expression(m, "lookup", |m| {
        m.text(NFTA_LOOKUP_SET, set).u32_be(NFTA_LOOKUP_SREG, NFT_REG32_00);
        m.u32_be(NFTA_LOOKUP_FLAGS, flags);
    });
}

/// The source or the destination, an NFTA_FIB_F_*, is an address of this host.
fn is_local(m: &mut Message<'_>, end: u32) {
    expression(m, "fib", |m| {
        m.u32_be(NFTA_FIB_DREG, NFT_REG32_00).u32_be(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
        m.u32_be(NFTA_FIB_FLAGS, end);
    });
    compare(m, NFT_CMP_EQ, &RTN_LOCAL.to_ne_bytes());
}

/// The connection's `key`, an NFT_CT_*, has any of these bits.
fn has_bits(m: &mut Message<'_>, key: u32, bits: u32) {
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

/// See [`Expression::Redirect`].
fn redirect(m: &mut Message<'_>, family: &Family, map: &str, is_at: bool) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The table's sets and maps, as table.rs makes them.
    fn sets(family: &Family) -> &'static [&'static str] {
        if family.is_bridge() { &[HOSTS, HOSTS6] } else { &[PUBLISHED, PUBLISHED_AT, BRIDGES, WITHIN, HAIRPIN, CLOSED] }
    }

    #[test]
    fn names_fit_the_kernel_and_are_told_apart() {
        /// NFT_NAME_MAXLEN is more; nft itself shows as much as this well.
        const LONGEST: usize = 31;
        for family in [&IPV4, &IPV6, &BRIDGE] {
            let names: BTreeSet<_> = family.chains.iter().map(|chain| chain.name).collect();
            assert_eq!(names.len(), family.chains.len(), "{}", family.name);
            assert!(names.iter().chain(sets(family)).all(|name| (1..=LONGEST).contains(&name.len())));
        }
    }

    #[test]
    fn every_rule_decides_and_asks_only_for_sets_of_its_table() {
        for family in [&IPV4, &IPV6, &BRIDGE] {
            for (chain, rule) in
                family.chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)))
            {
                assert!(matches!(rule.last(), Some(Verdict(_) | Redirect(..) | Masquerade)), "{}", chain.name);
                for expression in *rule {
                    if let In(set) | NotIn(set) | Redirect(set, _) = expression {
                        assert!(sets(family).contains(set), "{set} of {}", chain.name);
                    }
                }
            }
        }
    }

    #[test]
    fn registers_hold_what_is_loaded_into_them() {
        /// NFT_REG32_00 to NFT_REG32_15.
        const REGISTERS: u32 = 16;
        for family in [&IPV4, &IPV6, &BRIDGE] {
            for expression in family.chains.iter().flat_map(|chain| chain.rules).copied().flatten() {
                let (register, length) = match *expression {
                    Meta(NFT_META_IIFNAME | NFT_META_OIFNAME, register) => (register, IFNAMSIZ),
                    Meta(_, register) => (register, 4),
                    Source(register) | Destination(register) => (register, family.address.1),
                    Header(_, _, length, register) => (register, length),
                    Is(bytes) | IsNot(bytes) => (NFT_REG32_00, bytes.len() as u32),
                    _ => continue,
                };
                let end = register - NFT_REG32_00 + length.div_ceil(4);
                assert!((1..=REGISTERS).contains(&end));
            }
        }
    }
}
