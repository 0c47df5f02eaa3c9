//! `--userns`: which ids a container's user namespace has; user_namespaces(7).
//!
//! Must not touch the system: `resources/userns.rs` leases ids and writes the maps.

use crate::error::Parsed;
use crate::gather::Gather;
use crate::text::number;

/// `--userns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Userns {
    /// The host's.
    Host,
    /// Its own, with ids of /etc/subuid and /etc/subgid that no other container has.
    Auto,
    /// Its own, in which an ordinary user has the same ids as outside, and subordinate ones have all other numbers.
    KeepId,
    /// Its own, with these ids.
    Map(Vec<Range>),
    /// The same, with other gids than uids.
    Maps(Vec<Range>, Vec<Range>),
    /// One that exists.
    Joined,
}

/// A user and a group, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// A range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first, as the container has it.
    pub container: u32,
    /// The same, as the host has it.
    pub host: u32,
    /// How many ids.
    pub size: u32,
}

/// How a mount shows the owners of its files; mount_setattr(2).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Idmap {
    /// Owners as the files have them, and as they are seen on the host; none for the container's own map.
    pub uids: Vec<Range>,
    /// See `uids`.
    pub gids: Vec<Range>,
    /// Whether it is for the mounts below, too.
    pub is_recursive: bool,
}

/// `host`, `auto`, `keep-id` or `map=CONTAINER:HOST:SIZE[,…]`.
pub fn userns(text: &str) -> Parsed<Userns> {
    let range = |text: &str| {
        let mut numbers = text.split(':').map(|text| number(text).and_then(|number| u32::try_from(number).ok()));
        let (container, host, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let fits = |first: u32| first.checked_add(size).is_some();
        (numbers.next().is_none() && size > 0 && fits(container) && fits(host)).then_some(Range {
            container,
            host,
            size,
        })
    };
    let hint =
        "not a user namespace: use host, auto, keep-id or map=CONTAINER:HOST:SIZE, for example map=0:100000:65536";
    match text {
        "host" => Ok(Userns::Host),
        "auto" => Ok(Userns::Auto),
        "keep-id" => Ok(Userns::KeepId),
        _ => {
            let ranges = text.strip_prefix("map=").ok_or(hint)?.split(',');
            ranges.map(|text| range(text).ok_or(hint)).try_list().map(Userns::Map)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_a_list_of_ranges_that_fit_into_32_bits() {
        let range = |container, host, size| Range { container, host, size };
        assert_eq!(userns("host"), Ok(Userns::Host));
        assert_eq!(userns("auto"), Ok(Userns::Auto));
        assert_eq!(userns("keep-id"), Ok(Userns::KeepId));
        assert_eq!(userns("map=0:100000:65536"), Ok(Userns::Map(vec![range(0, 100_000, 65_536)])));
        let two = vec![range(0, 1000, 1), range(1, 100_000, 9)];
        assert_eq!(userns("map=0:1000:1,1:100000:9"), Ok(Userns::Map(two)));
        let bad = ["", "map", "map=", "map=0:1", "map=0:1:0", "map=0:1:2:3", "map=a:1:2", "map=0:-1:2", "map=0:1:2,"];
        for bad in bad.into_iter().chain(["map=0:4294967295:2", "map=4294967295:0:2", "map=0:4294967296:1", "nomap"]) {
            assert!(userns(bad).is_err(), "{bad}");
        }
    }
}
