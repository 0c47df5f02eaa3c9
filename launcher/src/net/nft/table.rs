//! A table with everything that is always in it: its sets, its chains and their rules.
//!
//! Must not add an element.

use super::TABLE;
use super::rules::*;
use super::uapi::*;
use crate::net::netlink::{Batch, Message};
use linux_raw_sys::netlink::{NLM_F_APPEND, NLM_F_CREATE};

/// Adds a table with its sets, chains and rules, in place of an earlier one.
pub fn add_table(batch: &mut Batch, family: &'static Family) {
    // Made first, since only an existing one can be deleted.
    for kind in [NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE] {
        request(batch, family, "table", TABLE, kind, if kind == NFT_MSG_DELTABLE { 0 } else { NLM_F_CREATE }, |m| {
            m.text(NFTA_TABLE_NAME, TABLE);
        });
    }
    let (address, container) = (family.address, [family.address, PORT]);
    if family.is_bridge() {
        set(batch, family, 1, HOSTS, &[NAME, HARDWARE, IPV4.address], &[]);
        set(batch, family, 2, HOSTS6, &[NAME, HARDWARE, IPV6.address], &[]);
    } else {
        set(batch, family, 1, PUBLISHED, &[PROTOCOL, PORT], &container);
        set(batch, family, 2, PUBLISHED_AT, &[address, PROTOCOL, PORT], &container);
        set(batch, family, 3, BRIDGES, &[NAME], &[]);
        set(batch, family, 4, WITHIN, &[NAME, NAME], &[]);
        set(batch, family, 5, HAIRPIN, &[NAME, address], &[]);
        set(batch, family, 6, CLOSED, &[KIND], &[]);
    }
    family.chains.iter().for_each(|chain| add_chain(batch, family, chain));
}

fn add_chain(batch: &mut Batch, family: &Family, chain: &Chain) {
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

/// The type of a key: a concatenation's has those of its fields.
fn kind(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |kind, (field, _)| kind << 6 | field)
}

/// The length of a key: each field of a concatenation is padded to four bytes.
fn length(fields: &[Field]) -> u32 {
    match fields {
        [(_, length)] => *length,
        fields => fields.iter().map(|(_, length)| length.next_multiple_of(4)).sum(),
    }
}

/// Adds a set or, with fields for its values, a map; `number` is its own in this batch. HAIRPIN's elements are subnets.
fn set(batch: &mut Batch, family: &Family, number: u32, name: &str, key: &[Field], value: &[Field]) {
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
        } else if family.is_bridge() {
            m.u32_be(NFTA_SET_FLAGS, 0);
        } else {
            // nft needs it to show names: NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes long, BYTEORDER_HOST_ENDIAN.
            let [a, b, c, d] = 1u32.to_ne_bytes();
            m.u32_be(NFTA_SET_FLAGS, 0).bytes(NFTA_SET_USERDATA, &[0, 4, a, b, c, d]);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_padded_only_where_fields_are_joined() {
        for (fields, type_, bytes) in [
            (&[NAME][..], TYPE_IFNAME, 16),
            (&[KIND], TYPE_PKTTYPE, 1),
            (&[PROTOCOL, PORT], TYPE_INET_PROTOCOL << 6 | TYPE_INET_SERVICE, 8),
            (&[NAME, HARDWARE, IPV4.address], TYPE_IFNAME << 12 | TYPE_ETHERADDR << 6 | TYPE_IPADDR, 28),
            (&[NAME, HARDWARE, IPV6.address], TYPE_IFNAME << 12 | TYPE_ETHERADDR << 6 | TYPE_IP6ADDR, 40),
            (&[], 0, 0),
        ] {
            assert_eq!((kind(fields), length(fields)), (type_, bytes));
        }
    }
}
