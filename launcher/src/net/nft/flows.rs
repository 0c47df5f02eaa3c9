//! Connection tracking: the flows of datagrams to published ports.
//!
//! They lead where nobody was, or to the port's last container, for as long as the client goes on. Best effort: without
//! CONFIG_NF_CT_NETLINK they time out. Must not touch a flow that did not come to this host.

use super::rules::Family;
use super::uapi::*;
use crate::config::bridge::Guest;
use crate::config::publish::{Protocol, Publish};
use crate::config::subnet::octets;
use crate::gather::Gather;
use crate::net::netlink::{Batch, Socket, attribute};
use linux_raw_sys::netlink::NLM_F_DUMP;
use std::net::IpAddr;

/// Forgets the flows of datagrams to a container's published ports.
pub fn forget(socket: &Socket, guest: &Guest) {
    let ports: Vec<_> = guest.ports.iter().filter(|port| port.protocol == Protocol::Udp).list();
    if ports.is_empty() {
        return;
    }
    for container in &guest.addresses {
        let family = Family::of(*container);
        // Listed and deleted one by one: to delete by a filter takes Linux 6.8.
        let (mut delete, mut any) = (Batch::new(), false);
        socket.dump(list(family), &mut |message| {
            let flow = Flow { family, attributes: message.get(family.header().len()..).unwrap_or_default() };
            if ports.iter().any(|port| flow.is_to(port))
                && flow.is_of_host(*container)
                && let Some(tuple) = attribute(flow.attributes, CTA_TUPLE_ORIG)
            {
                any = true;
                delete.request(format_args!(""), NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, |m| {
                    m.raw(&family.header()).nest(CTA_TUPLE_ORIG, |m| _ = m.raw(tuple));
                });
            }
        });
        if any {
            let _ = socket.send(delete);
        }
    }
}

/// Lists all flows of datagrams of a family. A kernel without ctnetlink lists none.
fn list(family: &Family) -> Batch {
    let mut list = Batch::new();
    list.request(format_args!(""), NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP, |m| {
        m.raw(&family.header()).nest(CTA_TUPLE_ORIG, |m| {
            m.nest(CTA_TUPLE_PROTO, |m| _ = m.bytes(CTA_PROTO_NUM, &[Protocol::Udp as u8]));
        });
        m.nest(CTA_FILTER, |m| {
            m.u32_ne(CTA_FILTER_ORIG_FLAGS, CTA_FILTER_F_CTA_PROTO_NUM).u32_ne(CTA_FILTER_REPLY_FLAGS, 0);
        });
    });
    list
}

/// A flow, as the kernel lists it.
struct Flow<'a> {
    family: &'static Family,
    attributes: &'a [u8],
}

/// An end of a tuple, counted from the family's attribute of the source.
const SOURCE: u16 = 0;
const DESTINATION: u16 = 1;

impl Flow<'_> {
    fn find(&self, path: [u16; 3]) -> Option<&[u8]> {
        path.into_iter().try_fold(self.attributes, attribute)
    }

    fn address(&self, tuple: u16, end: u16) -> Option<&[u8]> {
        self.find([tuple, CTA_TUPLE_IP, self.family.flow_source + end])
    }

    /// Whether it goes to a published port.
    fn is_to(&self, publish: &Publish) -> bool {
        let port = self.find([CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT]);
        let is_at =
            |own: IpAddr| own.is_unspecified() || self.address(CTA_TUPLE_ORIG, DESTINATION) == Some(&octets(own));
        port == Some(&publish.host_port.to_be_bytes()) && publish.address.is_none_or(is_at)
    }

    /// Whether it came to this host: it leads to the container, or has not been masqueraded, as a flow to such a port
    /// of another host would be.
    fn is_of_host(&self, container: IpAddr) -> bool {
        self.address(CTA_TUPLE_REPLY, SOURCE) == Some(&octets(container))
            || self.address(CTA_TUPLE_REPLY, DESTINATION) == self.address(CTA_TUPLE_ORIG, SOURCE)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::rules::IPV4;
    use super::*;
    use crate::config::publish::publish;

    /// The attributes of a flow: from and to, with the port, and from and to of the answers.
    fn flow(original: [[u8; 4]; 2], port: u16, reply: [[u8; 4]; 2]) -> Vec<u8> {
        let mut batch = Batch::new();
        batch.request(format_args!(""), 0, 0, |m| {
            for (tuple, [from, to]) in [(CTA_TUPLE_ORIG, original), (CTA_TUPLE_REPLY, reply)] {
                m.nest(tuple, |m| {
                    m.nest(CTA_TUPLE_IP, |m| _ = m.bytes(CTA_IP_V4_SRC, &from).bytes(CTA_IP_V4_SRC + 1, &to));
                    m.nest(CTA_TUPLE_PROTO, |m| _ = m.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes()));
                });
            }
        });
        batch.body().to_vec()
    }

    const CLIENT: [u8; 4] = [192, 0, 2, 9];
    const HOST: [u8; 4] = [192, 0, 2, 1];
    const CONTAINER: [u8; 4] = [10, 77, 0, 5];
    const OTHER: [u8; 4] = [198, 51, 100, 7];

    #[test]
    fn flows_to_the_hosts_port_are_told_from_those_to_others() {
        for (original, reply, is_of_host) in [
            // It leads to the container, to nobody yet, and to another host, masqueraded.
            ([CLIENT, HOST], [CONTAINER, CLIENT], true),
            ([CLIENT, HOST], [HOST, CLIENT], true),
            ([CONTAINER, OTHER], [OTHER, HOST], false),
        ] {
            let attributes = flow(original, 53, reply);
            let flow = Flow { family: &IPV4, attributes: &attributes };
            assert_eq!(flow.is_of_host(CONTAINER.into()), is_of_host, "{original:?}");
        }
    }

    #[test]
    fn flows_go_to_ports_by_number_and_address() {
        let attributes = flow([CLIENT, HOST], 53, [HOST, CLIENT]);
        let flow = Flow { family: &IPV4, attributes: &attributes };
        for (port, is_to) in [
            ("53:53/udp", true),
            ("0.0.0.0:53:53/udp", true),
            ("192.0.2.1:53:53/udp", true),
            ("192.0.2.2:53:53/udp", false),
            ("54:53/udp", false),
        ] {
            assert_eq!(flow.is_to(&publish(port).unwrap()[0]), is_to, "{port}");
        }
        for length in 0..attributes.len() {
            let flow = Flow { family: &IPV4, attributes: &attributes[..length] };
            let _ = (flow.is_to(&publish("53:53/udp").unwrap()[0]), flow.is_of_host(CONTAINER.into()));
        }
    }
}
