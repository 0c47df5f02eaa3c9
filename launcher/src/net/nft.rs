//! The nftables tables `ip kontena`, `ip6 kontena` and `bridge kontena`: static chains, maps of published ports, sets
//! of bridges and of what each container may call itself; nft(8), include/uapi/linux/netfilter/nf_tables.h.
//!
//! The chains never change. A container is a few elements, all of them in one atomic batch, and what a packet costs
//! does not grow with the number of containers. These are two of the three, as nft(8) reads them, with the elements of
//! kontena0 and of a host that kontena has made a router:
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
//!     # What the host does not route for others: all, where it routes because of kontena alone.
//!     set closed { type pkt_type; elements = { host }; }
//!     # Nobody reaches 127.0.0.1 from outside, nor comes from there: CVE-2020-8558.
//!     chain guard { type filter hook prerouting priority raw;
//!         iifname != "lo" ip daddr 127.0.0.0/8 drop
//!         iifname != "lo" ip saddr 127.0.0.0/8 drop; }
//!     chain publish { type nat hook prerouting priority dstnat;
//!         dnat to ip daddr . meta l4proto . th dport map @published_at
//!         fib daddr type local dnat to meta l4proto . th dport map @published; }
//!     chain publish_local { type nat hook output priority -100;
//!         dnat to ip daddr . meta l4proto . th dport map @published_at
//!         fib daddr type local dnat to meta l4proto . th dport map @published; }
//!     # What was not published is for its bridge alone: not for neighbours of the host, nor for other bridges. What
//!     # br_netfilter shows of bridges is bridged, not routed.
//!     chain isolate { type filter hook forward priority filter;
//!         ct state established,related accept
//!         ct status dnat accept
//!         oifname @bridges iifname . oifname != @within drop
//!         meta iifkind "bridge" meta oifkind "bridge" accept
//!         iifname != @bridges oifname != @bridges meta pkttype @closed drop; }
//!     chain disguise { type nat hook postrouting priority srcnat;
//!         iifname @bridges oifname != @bridges masquerade
//!         oifname . ip saddr @hairpin ct status dnat masquerade; }
//! }
//! table bridge kontena {
//!     # A container's port, its hardware address, and what it may call itself.
//!     set hosts { type ifname . ether_addr . ipv4_addr; }
//!     set hosts6 { type ifname . ether_addr . ipv6_addr; }
//!     # What comes from a container says the truth about where it comes from. A port has the group from the first, so
//!     # one that is not in the sets yet, or not any more, passes nothing; ports of others' are not looked at.
//!     chain truth { type filter hook prerouting priority -300;
//!         iifgroup != 1802464884 accept
//!         ether type ip iifname . ether saddr . ip saddr @hosts accept
//!         ether type arp iifname . ether saddr . arp saddr ip @hosts \
//!             iifname . arp saddr ether . arp saddr ip @hosts accept
//!         ether type ip6 icmpv6 type nd-router-advert drop
//!         ether type ip6 icmpv6 type nd-neighbor-advert iifname . ether saddr . icmpv6 taddr != @hosts6 drop
//!         ether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit \
//!             iifname . ether saddr . icmpv6 taddr @hosts6 accept
//!         ether type ip6 iifname . ether saddr . ip6 saddr @hosts6 accept
//!         drop; }
//!     # Frames to 01:80:c2:00:00:0X do not come by there: the port itself would take them.
//!     chain reserved { type filter hook input priority -200;
//!         iifgroup 1802464884 @ll,0,40 0x0180c20000 drop; }
//! }
//! ```
//!
//! `ip6 kontena` has the same as `ip kontena` for IPv6, but for what is about the loopback: the kernel itself keeps ::1
//! from everybody outside, so `guard` has one rule in place of the two, of what IPv4 does by itself: `iifname @bridges
//! fib saddr type local drop`. And the kernel lets nothing that came to ::1 out again, so `publish` and `publish_local`
//! leave that alone (`fib daddr type local ip6 daddr != ::1 …`): it is the relay's.
//!
//! `hairpin` is of addresses, since a packet that br_netfilter takes to postrouting within a bridge has no iifname.
//! What connection tracking finds invalid has no status, so a rule about the status must let through, not drop. A
//! neighbour advertisement that is in fragments is let through by `truth`, and nobody heeds it: RFC 6980.
//!
//! The names of the chains and their numbers of rules show whether all are there ([`Tables::are_whole`]). So if you
//! change a rule here, but not the number of rules, rename the chain, or a host keeps the old rule.
//!
//! Must not touch any other table.

mod elements;
mod flows;
mod rules;
mod table;
pub mod uapi;
mod whole;

use crate::config::bridge::{Bridge, Guest};
use crate::error::{Error, Result};
use crate::net::netlink::{self, Batch, Socket, attribute};
use elements::{Element, Operation};
pub use rules::{BRIDGE, Family, GROUP, IPV4, IPV6};
use rustix::io::Errno;
use uapi::*;

const TABLE: &str = "kontena";
/// The shared thing that [`delete_tables`] takes back.
pub const RECORD: &str = "table kontena";

/// The way to the tables: a socket that is open as long as the container holds something in them.
///
/// It is closed without waiting. Closing any netfilter socket waits until what was deleted has been freed, an RCU
/// grace period later, and keeps every other change off meanwhile (nft_rcv_nl_event of net/netfilter/nf_tables_api.c):
/// ten milliseconds, several times a container's whole start.
pub struct Tables {
    socket: Option<Socket>,
}

/// Fails if the tables are not there, but needed.
pub fn need(are_there: bool) -> Result<()> {
    let hint = "build in nf_tables with nat, masq, fib and ct, or load their modules, or remove --publish-via nft";
    if are_there { Ok(()) } else { Err(Error::usage(format_args!("the kernel has no nf_tables"), hint)) }
}

/// Deletes the tables with all that is in them; none, or a kernel that knows of none, is no error.
pub fn delete_tables() -> Result<()> {
    let mut deleted = Ok(());
    for family in [&IPV4, &IPV6, &BRIDGE] {
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
        Socket::open(netlink::Protocol::Netfilter).map(|socket| Self { socket: Some(socket) })
    }

    /// Whether each of the families has all its chains and rules.
    pub fn are_whole<const N: usize>(&self, families: [&Family; N]) -> [bool; N] {
        self.socket.as_ref().map_or([false; N], |socket| whole::are_whole(socket, families))
    }

    /// Makes the table of a family anew, with the elements of these bridges and containers; `is_closed`: so that the
    /// host routes nothing for others. `false` where the kernel has no such tables, or lacks what they need.
    pub fn make(&self, family: &'static Family, bridges: &[Bridge], guests: &[Guest], is_closed: bool) -> Result<bool> {
        let mut elements = Vec::new();
        if family.is_bridge() {
            guests.iter().for_each(|guest| elements.append(&mut elements::sources(guest)));
        } else {
            for bridge in bridges {
                elements.extend(elements::of_bridge(family, bridge));
                elements.append(&mut elements::hairpins(family, bridge));
            }
            guests.iter().for_each(|guest| elements.append(&mut elements::mappings(guest)));
            elements.retain(|element| element.family.number == family.number);
            if is_closed {
                elements.push(elements::closed(family));
            }
        }
        let made = self.send(|batch| {
            table::add_table(batch, family);
            elements.iter().for_each(|element| element.put(batch, Operation::Add));
        });
        match made {
            Err(error) if is_missing(&error) => Ok(false),
            made => made.map(|()| true),
        }
    }

    /// Has the host route nothing for others, of a family.
    pub fn close(&self, family: &'static Family) -> Result<()> {
        self.send(|batch| elements::closed(family).put(batch, Operation::Add))
    }

    /// Lets a container take part in a bridge, and publishes its ports: all of it, or nothing. `has_names`: there is a
    /// table that checks the source of frames. EEXIST: one of its ports is in its map already, for another.
    pub fn admit(&self, bridge: &Bridge, guest: &Guest, has_names: bool) -> Result<()> {
        let mut elements = Vec::new();
        // Somebody may have flushed the sets with the bridge, too.
        for address in &guest.addresses {
            elements.extend(elements::of_bridge(Family::of(*address), bridge));
        }
        if has_names {
            elements.append(&mut elements::sources(guest));
        }
        elements.append(&mut elements::mappings(guest));
        self.send(|batch| elements.iter().for_each(|element| element.put(batch, Operation::Add)))
    }

    /// Ends that. A missing element or table is no error. Where it is not `certain` that a port was published, it may
    /// be another container's by now, and then stays.
    pub fn dismiss(&self, guest: &Guest, certain: bool) -> Result<()> {
        let mut elements = elements::mappings(guest);
        elements.retain(|mapping| certain || self.has(mapping));
        elements.append(&mut elements::sources(guest));
        let delete = |these: &[Element]| {
            self.send(|batch| these.iter().for_each(|element| element.put(batch, Operation::Delete)))
        };
        match delete(&elements) {
            Err(error) if is_missing(&error) => elements.chunks(1).try_for_each(|one| unless_missing(delete(one))),
            deleted => deleted,
        }
    }

    /// Whether the map leads a port to the same container.
    fn has(&self, mapping: &Element) -> bool {
        let Some(socket) = &self.socket else { return false };
        let (mut batch, mut found) = (Batch::new(), false);
        mapping.put(&mut batch, Operation::Get);
        let mut look = |reply: &[u8]| {
            let path = [NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE];
            let value = path.into_iter().try_fold(reply.get(4..).unwrap_or_default(), attribute);
            found = value.is_some_and(|value| mapping.leads_to(value));
        };
        socket.ask(batch, &mut look).is_ok() && found
    }

    /// Forgets what connection tracking has of datagrams to a container's published ports.
    pub fn forget_flows(&self, guest: &Guest) {
        self.socket.iter().for_each(|socket| flows::forget(socket, guest));
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

/// The begin or the end of a batch; its struct nfgenmsg has the subsystem.
fn marker(batch: &mut Batch, kind: u16) {
    batch.request(format_args!("begin an nf_tables batch"), kind, 0, |m| {
        m.raw(&[0, 0]).raw(&NFNL_SUBSYS_NFTABLES.to_be_bytes());
    });
}
