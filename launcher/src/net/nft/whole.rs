//! Whether a table has all its chains and rules: somebody may have flushed the ruleset, or a chain, or another kontena
//! has made it.
//!
//! A chain counts by its name and its number of rules. Must not change anything.

use super::TABLE;
use super::rules::{Chain, Family};
use super::uapi::*;
use crate::net::netlink::{Batch, Socket, attribute};
use linux_raw_sys::netlink::NLM_F_DUMP;

/// Whether each of the families has all its chains, each with all its rules, in a table that is not dormant.
pub fn are_whole<const N: usize>(socket: &Socket, families: [&Family; N]) -> [bool; N] {
    let mut found = [0; N];
    for kind in [NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN] {
        let mut list = Batch::new();
        list.request(format_args!(""), NFNL_SUBSYS_NFTABLES << 8 | kind, NLM_F_DUMP, |m| _ = m.raw(&[0; 4]));
        socket.dump(list, &mut |message| {
            for (family, found) in families.iter().zip(&mut found) {
                *found += usize::from(is_good(kind, message, family));
            }
        });
    }
    // A table and its chains.
    std::array::from_fn(|family| found[family] == 1 + families[family].chains.len())
}

/// Whether the message is about kontena's table of the family, or one of its chains, and it is as kontena makes it.
fn is_good(kind: u16, message: &[u8], family: &Family) -> bool {
    let attributes = message.get(4..).unwrap_or_default();
    let is = |kind, text: &str| {
        attribute(attributes, kind).and_then(|name| name.strip_suffix(&[0])) == Some(text.as_bytes())
    };
    // The table's own name has the same number, 1.
    if message.first() != Some(&family.number) || !is(NFTA_CHAIN_TABLE, TABLE) {
        return false;
    }
    let is_whole = |chain: &&&Chain| {
        let rules = (chain.rules.len() as u32).to_be_bytes();
        is(NFTA_CHAIN_NAME, chain.name) && attribute(attributes, NFTA_CHAIN_USE) == Some(&rules)
    };
    match kind {
        NFT_MSG_GETTABLE => attribute(attributes, NFTA_TABLE_FLAGS) == Some(&[0; 4]),
        _ => family.chains.iter().find(is_whole).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::{BRIDGE, IPV4, IPV6};
    use super::*;

    /// A reply about a table, or about a chain and its number of rules.
    fn reply(family: u8, table: &str, chain: Option<(&str, u32)>) -> Vec<u8> {
        let mut batch = Batch::new();
        batch.request(format_args!(""), 0, 0, |m| {
            m.raw(&[family, 0, 0, 0]).text(NFTA_CHAIN_TABLE, table);
            match chain {
                Some((name, rules)) => m.text(NFTA_CHAIN_NAME, name).u32_be(NFTA_CHAIN_USE, rules),
                None => m.u32_be(NFTA_TABLE_FLAGS, 0),
            };
        });
        batch.body().to_vec()
    }

    #[test]
    fn chains_count_by_name_and_number_of_rules() {
        for family in [&IPV4, &IPV6, &BRIDGE] {
            assert!(is_good(NFT_MSG_GETTABLE, &reply(family.number, "kontena", None), family));
            for chain in family.chains {
                let rules = chain.rules.len() as u32;
                let good = |table, name, rules| {
                    is_good(NFT_MSG_GETCHAIN, &reply(family.number, table, Some((name, rules))), family)
                };
                assert!(good("kontena", chain.name, rules));
                assert!(!good("kontena", chain.name, rules + 1) && !good("filter", chain.name, rules));
                assert!(!good("kontena", "forward", rules));
            }
        }
        assert!(!is_good(NFT_MSG_GETTABLE, &reply(NFPROTO_INET, "kontena", None), &IPV4));
    }

    #[test]
    fn replies_that_are_cut_short_count_for_nothing() {
        let whole = reply(IPV4.number, "kontena", Some((IPV4.chains[0].name, IPV4.chains[0].rules.len() as u32)));
        for length in 0..whole.len() {
            assert!(!is_good(NFT_MSG_GETCHAIN, &whole[..length], &IPV4), "{length}");
        }
    }
}
