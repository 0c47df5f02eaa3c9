//! A link as the kernel describes it, in a reply to RTM_GETLINK.
//!
//! Pure: every field may be missing.

use crate::net::netlink::attribute;
use linux_raw_sys::net::{
    DEVCONF_ACCEPT_RA, DEVCONF_DISABLE_IPV6, DEVCONF_FORWARDING, IPV4_DEVCONF_FORWARDING, IPV4_DEVCONF_ROUTE_LOCALNET,
};
use linux_raw_sys::netlink as uapi;

/// struct ifinfomsg.
const LINK_HEADER: usize = 16;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const UP: u32 = linux_raw_sys::net::net_device_flags::IFF_UP as u32;
const RUNNING: u32 = linux_raw_sys::net::net_device_flags::IFF_RUNNING as u32;

/// A link, as the kernel describes it: struct ifinfomsg, and attributes.
#[derive(Default)]
pub struct Link(pub Vec<u8>);

/// The places of IPv4's settings; linux/ip.h, where they are counted from 1.
pub const FORWARDING4: usize = IPV4_DEVCONF_FORWARDING as usize - 1;
pub const ROUTE_LOCALNET: usize = IPV4_DEVCONF_ROUTE_LOCALNET as usize - 1;
/// The places of IPv6's; linux/ipv6.h.
pub const FORWARDING6: usize = DEVCONF_FORWARDING as usize;
pub const ACCEPT_RA: usize = DEVCONF_ACCEPT_RA as usize;
pub const DISABLE_IPV6: usize = DEVCONF_DISABLE_IPV6 as usize;

impl Link {
    /// Its number.
    pub fn index(&self) -> u32 {
        const INDEX: usize = 4;
        number(&self.0, INDEX).unwrap_or(0)
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.has(UP)
    }

    /// Whether it has a carrier, and the kernel has taken notice of it: until then it drops what it is to send.
    pub fn is_running(&self) -> bool {
        self.has(RUNNING)
    }

    /// Whether it is a port of a bridge that lets frames pass.
    pub fn forwards(&self) -> bool {
        /// include/uapi/linux/if_bridge.h
        const BR_STATE_FORWARDING: u8 = 3;
        let path = [uapi::IFLA_LINKINFO as u16, uapi::IFLA_INFO_SLAVE_DATA as u16, uapi::IFLA_BRPORT_STATE as u16];
        self.attribute(&path) == [BR_STATE_FORWARDING]
    }

    /// The length of the longest packet that it carries.
    pub fn mtu(&self) -> Option<u32> {
        number(self.attribute(&[uapi::IFLA_MTU as u16]), 0)
    }

    /// Its name.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.attribute(&[uapi::IFLA_IFNAME as u16])).trim_end_matches('\0').into()
    }

    fn has(&self, flag: u32) -> bool {
        const FLAGS: usize = 8;
        number(&self.0, FLAGS).is_some_and(|flags| flags & flag != 0)
    }

    /// Its hardware address.
    pub fn hardware(&self) -> &[u8] {
        self.attribute(&[uapi::IFLA_ADDRESS as u16])
    }

    /// One of IPv4's settings: of those in /proc/sys/net/ipv4/conf.
    pub fn setting4(&self, place: usize) -> Option<u32> {
        number(self.attribute(&[uapi::IFLA_AF_SPEC as u16, AF_INET, uapi::IFLA_INET_CONF as u16]), 4 * place)
    }

    /// One of IPv6's settings, where it has IPv6.
    pub fn setting6(&self, place: usize) -> Option<u32> {
        number(self.attribute(&[uapi::IFLA_AF_SPEC as u16, AF_INET6, uapi::IFLA_INET6_CONF as u16]), 4 * place)
    }

    pub fn attribute(&self, path: &[u16]) -> &[u8] {
        let attributes = self.0.get(LINK_HEADER..);
        path.iter().fold(attributes, |found, kind| attribute(found?, *kind)).unwrap_or_default()
    }
}

pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netlink::Batch;

    const PORT: [u8; 6] = [2, 0x6b, 10, 77, 0, 5];

    /// eth0, number 7, with these flags, a port of a bridge that forwards, and settings that are their own places.
    fn reply(flags: u32) -> Vec<u8> {
        let mut batch = Batch::new();
        batch.request(format_args!(""), 0, 0, |m| {
            m.raw(&[0; 4]).raw(&7u32.to_ne_bytes()).raw(&flags.to_ne_bytes()).raw(&[0; 4]);
            m.text(uapi::IFLA_IFNAME as u16, "eth0").bytes(uapi::IFLA_ADDRESS as u16, &PORT);
            m.nest(uapi::IFLA_LINKINFO as u16, |m| {
                m.nest(uapi::IFLA_INFO_SLAVE_DATA as u16, |m| _ = m.bytes(uapi::IFLA_BRPORT_STATE as u16, &[3]));
            });
            let settings: Vec<u8> = (0..40u32).flat_map(u32::to_ne_bytes).collect();
            m.nest(uapi::IFLA_AF_SPEC as u16, |m| {
                m.nest(AF_INET, |m| _ = m.bytes(uapi::IFLA_INET_CONF as u16, &settings));
                m.nest(AF_INET6, |m| _ = m.bytes(uapi::IFLA_INET6_CONF as u16, &settings));
            });
        });
        batch.body().to_vec()
    }

    #[test]
    fn link_is_read_as_it_is_described() {
        let link = Link(reply(UP | RUNNING));
        assert_eq!((link.index(), &*link.name(), link.hardware()), (7, "eth0", &PORT[..]));
        assert!(link.is_up() && link.is_running() && link.forwards());
        assert_eq!(link.setting4(ROUTE_LOCALNET), Some(ROUTE_LOCALNET as u32));
        assert_eq!(link.setting6(DISABLE_IPV6), Some(DISABLE_IPV6 as u32));
        assert_eq!((link.setting4(40), link.setting6(40)), (None, None));
        let link = Link(reply(UP));
        assert!(link.is_up() && !link.is_running());
    }

    #[test]
    fn what_is_missing_is_not_there() {
        let whole = reply(UP | RUNNING);
        for length in 0..whole.len() {
            let link = Link(whole[..length].to_vec());
            assert!(matches!(link.index(), 0 | 7) && matches!(&*link.name(), "" | "eth0"));
            assert!(link.hardware().is_empty() || link.hardware() == PORT);
            assert_eq!((link.is_up(), link.setting6(ACCEPT_RA).is_some()), (length >= 12, length == whole.len()));
        }
    }
}
