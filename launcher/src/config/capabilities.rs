//! Capabilities by their names: which of them a container has; capabilities(7).
//!
//! Must not change any of this process's.

use crate::error::Parsed;
use crate::text::place_of;
use linux_raw_sys::general::*;

/// In the order of their numbers.
const NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT \
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE \
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ \
    PERFMON BPF CHECKPOINT_RESTORE";

/// How many there are.
const COUNT: usize = 41;

const ALL: u64 = (1 << COUNT) - 1;

/// Podman's default; containers.conf(5).
const DEFAULT: [u32; 11] = [
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_KILL,
    CAP_NET_BIND_SERVICE,
    CAP_SETFCAP,
    CAP_SETGID,
    CAP_SETPCAP,
    CAP_SETUID,
    CAP_SYS_CHROOT,
];

/// What was asked for. Bit n is capability n.
#[derive(Clone, Copy)]
pub struct Capabilities {
    /// The bounding set, and what a payload of uid 0 has.
    pub bounding: u64,
    /// What was added by name: a payload of another uid has that alone.
    pub ambient: u64,
}

/// `--cap-add` and `--cap-drop`. Bit n is capability n, and [`EACH`] is ALL.
#[derive(Clone, Copy, Default)]
pub struct Changes {
    /// What is added.
    pub added: u64,
    /// What is dropped.
    pub dropped: u64,
}

/// No capability has this number.
const EACH: u64 = 1 << 63;

impl Changes {
    /// The bounding and the ambient set, changed: a capability that is dropped by its name is dropped, and one that is
    /// added by its name stays whatever ALL says. A process that joins a container may have what the container has not.
    pub fn apply(self, Capabilities { mut bounding, mut ambient }: Capabilities) -> Capabilities {
        if self.dropped & EACH != 0 {
            (bounding, ambient) = (0, 0);
        }
        if self.added & EACH != 0 {
            bounding = ALL;
        }
        let added = self.added & ALL;
        Capabilities { bounding: (bounding | added) & !self.dropped, ambient: (ambient | added) & !self.dropped }
    }
}

impl Capabilities {
    /// Those of a container.
    pub fn new(changes: Changes) -> Self {
        let bounding = DEFAULT.iter().fold(0, |set, number| set | 1 << number);
        changes.apply(Self { bounding, ambient: 0 })
    }
}

/// The names of a set.
pub fn names(set: u64) -> impl Iterator<Item = &'static str> {
    NAMES.split(' ').enumerate().filter(move |(number, _)| set & 1 << number != 0).map(|(_, name)| name)
}

/// `CAP_NAME`, exactly so.
pub fn one(name: &str) -> Option<u64> {
    place_of(name.strip_prefix("CAP_")?, NAMES).map(|number| 1 << number)
}

/// `CAP_NAME`, `NAME` or `ALL`, in any case; several with commas between them.
pub fn set(text: &str) -> Parsed<u64> {
    let mut set = 0;
    for name in text.to_ascii_uppercase().split(',') {
        let name = name.strip_prefix("CAP_").unwrap_or(name);
        set |= match place_of(name, NAMES) {
            Some(number) => 1 << number,
            None if name == "ALL" => EACH,
            None => return Err("not a capability: use a name of capabilities(7), for example NET_RAW, or ALL"),
        };
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    const CHOWN: u64 = 1 << CAP_CHOWN;
    const NET_RAW: u64 = 1 << 13;

    #[test]
    fn capabilities_are_named_as_in_capabilities_7() {
        let good = [("CHOWN", CHOWN), ("cap_net_raw", NET_RAW), ("Net_Raw", NET_RAW), ("all", EACH), ("CAP_ALL", EACH)];
        let several = [("NET_RAW,CHOWN", NET_RAW | CHOWN), ("all,cap_chown", EACH | CHOWN)];
        let good = good.into_iter().chain(several);
        let bad = ["", "CAP_", "13", "NOSUCH", "CAP_CAP_CHOWN", "NET_RAW,", ",CHOWN", "NET_RAW,13", " ALL"];
        check(set, good, &bad, "not a capability: use a name of capabilities(7), for example NET_RAW, or ALL");
        for (number, name) in NAMES.split(' ').enumerate() {
            assert_eq!(set(name), Ok(1 << number));
            assert_eq!(names(1 << number).collect::<Vec<_>>(), [name]);
        }
        assert_eq!(names(CHOWN | NET_RAW | EACH).collect::<Vec<_>>(), ["CHOWN", "NET_RAW"]);
    }

    #[test]
    fn name_beats_all_and_drop_beats_add() {
        let default = DEFAULT.iter().fold(0, |set, number| set | 1 << number);
        for (added, dropped, bounding, ambient) in [
            (0, 0, default, 0),
            (NET_RAW, 0, default | NET_RAW, NET_RAW),
            (0, CHOWN, default & !CHOWN, 0),
            (EACH, 0, ALL, 0),
            (EACH, CHOWN, ALL & !CHOWN, 0),
            (0, EACH, 0, 0),
            (NET_RAW, EACH, NET_RAW, NET_RAW),
            (NET_RAW, NET_RAW, default, 0),
            (EACH | NET_RAW, EACH, ALL, NET_RAW),
        ] {
            let capabilities = Capabilities::new(Changes { added, dropped });
            let found = (capabilities.bounding, capabilities.ambient);
            assert_eq!(found, (bounding, ambient), "--cap-add {added:x} --cap-drop {dropped:x}");
        }
        assert!(names(default).count() == 11 && names(ALL).count() == COUNT);
    }
}
