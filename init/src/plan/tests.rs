//! A Plan reads back as it was written, and invalid bytes are never read beyond their end.

extern crate std;

use super::*;
use std::vec::Vec;

struct Bytes(Vec<u8>);

impl Writer for Bytes {
    fn append(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }
    fn length(&self) -> usize {
        self.0.len()
    }
    fn patch(&mut self, at: usize, number: u32) {
        self.0[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
}

const SAMPLE: ProcessSpec<'_> = ProcessSpec {
    terminal: 1,
    rows: 24,
    columns: 80,
    notify: 9,
    notify_as: 3,
    preserved: 0,
    capabilities: 0xa800_25fb,
    ambient: 1 << 10,
    no_new_privs: 1,
    seccomp: 4,
    filter_flags: 2,
    filter: &[6, 0, 0, 0, 0, 0, 0xff, 0x7f],
    attributes: OfBundle::NONE,
    user: c"nginx",
    groups: List::Items(&[c"video"]),
    rlimits: List::Items(&[Rlimit { resource: 7, soft: 10, hard: u64::MAX }]),
    umask: 0o27,
    cwd: c"/",
    argv: List::Items(&[c"/bin/nginx", c"", c"-g"]),
    env: List::Items(&[c"A=b"]),
};

#[cfg(feature = "oci")]
const CHANGES: OfBundle<Changes> = OfBundle::new(Changes { cleared: 1, top: 2, top_cleared: 3, propagation: 4 });
#[cfg(not(feature = "oci"))]
const CHANGES: OfBundle<Changes> = OfBundle::NONE;

#[cfg(feature = "oci")]
const BUNDLED: OfBundle<Bundled<'_>> = OfBundle::new(Bundled {
    start: 8,
    last: List::Items(&[]),
    masked: List::Items(&[c"/a"]),
    readonly: List::Items(&[]),
    propagation: 1 << 20,
    listener: b"/run/a\0b",
    create_hooks: Hooks { state: c"", hooks: List::Items(&[]) },
    start_hooks: Hooks { state: c"{}", hooks: List::Items(&[hooks::SAMPLE]) },
});
#[cfg(not(feature = "oci"))]
const BUNDLED: OfBundle<Bundled<'_>> = OfBundle::NONE;

fn sample(out: &mut Bytes) {
    let proc = Mount {
        id: 7,
        kind: mount_kind::FILESYSTEM,
        fd: 0,
        source: c"proc",
        target: c"/proc",
        attributes: 14,
        propagation: 0,
        changes: CHANGES,
        options: List::Items(&[]),
        masked: List::Items(&[c"kcore", c"keys"]),
        readonly: List::Items(&[c"sys"]),
    };
    let volume = Mount { id: 9, kind: mount_kind::BIND, source: c"/srv", target: c"/srv", ..proc };
    let device = Device { source: c"/a", target: c"/dev/a", mode: 0o20666, uid: 1, gid: 2, major: 3, minor: 4 };
    let plan = Plan {
        root: Mount { kind: mount_kind::TREE, fd: 7, source: c"/srv/root", target: c"/", ..proc },
        layer: volume,
        overlay: overlay::ALWAYS,
        root_readonly: 1,
        propagation: 1 << 18,
        bundle: BUNDLED,
        userns: 1,
        loopback: 1,
        init: 1,
        hostname: c"web",
        dev: Mount { id: 8, target: c"/dev", ..proc },
        proc,
        mounts: List::Items(&[]),
        volumes: List::Items(&[volume]),
        devices: List::Items(&[device]),
        files: List::Items(&[File { target: c"/etc/hosts", content: c"::1 localhost\n", is_launchers: 1 }]),
        settings: List::Items(&[c"sys/net/ipv4/ip_forward=1", c"self/oom_score_adj=-17"]),
        process: SAMPLE,
    };
    encode(&plan, out);
}

fn sample_block() -> Vec<u8> {
    let mut block = Bytes(Vec::new());
    sample(&mut block);
    block.0
}

#[test]
fn a_plan_reads_back_as_it_was_written() {
    let block = sample_block();
    let plan: Plan<'_> = decode(&block).unwrap();
    assert_eq!(plan.process.argv.iter().collect::<Vec<_>>(), [c"/bin/nginx", c"", c"-g"]);
    let masked: Vec<_> = [plan.proc].into_iter().chain(plan.volumes.iter()).map(|m| m.masked.iter().count()).collect();
    assert_eq!(masked, [2, 2]);
    assert_eq!([7, 8, 9].map(|id| plan.mount(id).unwrap().target), [c"/proc", c"/dev", c"/srv"]);
    assert!(plan.mount(10).is_none());
    assert_eq!((plan.root.fd, plan.process.notify, plan.process.notify_as), (7, 9, 3));
    assert_eq!((plan.process.filter_flags, plan.process.filter), (2, &[6, 0, 0, 0, 0, 0, 0xff, 0x7f][..]));
    assert_eq!((plan.root_readonly, plan.process.capabilities), (1, 0xa800_25fb));
    assert_eq!(plan.process.rlimits.iter().next(), Some(Rlimit { resource: 7, soft: 10, hard: u64::MAX }));
    assert_eq!(plan.bundle.get().is_some(), cfg!(feature = "oci"));
    if let Some(Bundled { start_hooks, .. }) = plan.bundle.get() {
        let hook = start_hooks.hooks.iter().next().unwrap();
        assert_eq!((start_hooks.state, hook.path, hook.arguments.len(), hook.timeout), (c"{}", c"/bin/a", 2, 9));
    }
    let mut again = Bytes(Vec::new());
    encode(&plan, &mut again);
    assert_eq!(block, again.0, "a decoded Plan encodes to the same bytes");
}

#[test]
fn lengths_and_counts_are_those_of_what_was_written() {
    let mut block = Bytes(Vec::new());
    let nested: List<'_, Mount<'_>> = List::Items(&[]);
    nested.put(&mut block);
    assert_eq!(block.0, [0; 8]);
    let mut block = Bytes(Vec::new());
    List::Items(&[c"ab", c""]).put(&mut block);
    assert_eq!(block.0, *b"\x02\0\0\0\x04\0\0\0ab\0\0");
    let mut left: &[u8] = &block.0;
    let list: List<'_, &CStr> = Wire::get(&mut left).unwrap();
    assert_eq!((list.len(), list.iter().collect::<Vec<_>>(), left), (2, [c"ab", c""].into(), &[] as &[u8]));
    // A count or a length that lies is refused, even where nothing would be read beyond the block.
    for (at, value) in [(0, 1), (0, 3), (0, 0), (4, 3), (4, 5), (3, 0xff), (7, 0xff)] {
        let mut bent = block.0.clone();
        bent[at] = value;
        assert!(<List<'_, &CStr> as Wire<'_>>::get(&mut &bent[..]).is_none(), "{at} {value}");
    }
}

#[test]
fn another_builds_plan_is_refused() {
    let mut block = sample_block();
    block[3] = block[3].wrapping_add(1);
    assert!(decode::<Plan<'_>>(&block).is_none());
    assert!(decode::<Joining<'_>>(&sample_block()).is_none());
}

#[test]
fn random_bytes_are_decoded_to_an_end() {
    let (mut state, sample) = (0x9e37_79b9_7f4a_7c15u64, sample_block());
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..20_000 {
        let mut block = sample.clone();
        for _ in 0..1 + random() % 8 {
            let at = random() % block.len();
            block[at] = random() as u8;
        }
        block.truncate(random() % (2 * block.len()));
        if let Some(plan) = decode::<Plan<'_>>(&block) {
            let strings = plan.process.argv.iter().chain(plan.process.env.iter()).chain(plan.settings.iter());
            assert!(strings.map(|text| text.to_bytes_with_nul().len()).sum::<usize>() <= block.len());
            assert!(plan.volumes.iter().all(|mount| mount.masked.iter().count() <= block.len()));
        }
    }
}

#[test]
fn a_cut_or_bent_plan_is_refused_and_never_panics() {
    let block = sample_block();
    for cut in 0..block.len() {
        assert!(decode::<Plan<'_>>(&block[..cut]).is_none(), "cut at {cut}");
    }
    for at in 0..block.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bent = block.clone();
            bent[at] = value;
            // Walking it must end, whatever its contents.
            if let Some(plan) = decode::<Plan<'_>>(&bent) {
                let options: usize = plan.volumes.iter().map(|mount| mount.options.iter().count()).sum();
                assert!(options <= bent.len());
            }
        }
    }
}
