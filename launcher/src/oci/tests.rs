//! A config.json as engines write it, and errors in it.

use super::parse;
use super::resources::read_resources;
use crate::cli::defaults;
use crate::config::bundle::{Access, BundleCgroup, BundleMount, Change, Node, Rules};
use crate::config::devices::{MKNOD, READ, WRITE};
use crate::config::network::Net;
use crate::config::userns::{Range, Userns};
use crate::config::{Config, Share};
use linux_raw_sys::general::*;

/// As podman writes it, with one of everything.
const WHOLE: &str = r#"{
    "ociVersion": "1.3.0",
    "annotations": {"a.b": "c \"d\"", "e": ""},
    "process": {
        "terminal": false,
        "user": {"uid": 7, "gid": 8, "umask": 63, "additionalGids": [1, 4294967294]},
        "args": ["sh", "-c", "exit 7"],
        "env": ["PATH=/bin", "A="],
        "cwd": "/srv",
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_OF_LATER"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 1024}],
        "noNewPrivileges": true,
        "oomScoreAdj": -17,
        "apparmorProfile": ""
    },
    "root": {"path": "rootfs", "readonly": true},
    "hostname": "web",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rprivate", "ro"]},
        {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "rslave", "rro"]},
        {"destination": "etc/hosts", "type": "none", "source": "/run/hosts", "options": ["bind", "ro", "rw"]}
    ],
    "hooks": {"prestart": []},
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts", "path": ""}, {"type": "user"},
            {"type": "network", "path": "/run/netns/a"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}],
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 20}],
        "devices": [
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 1, "gid": 2},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
        ],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "cgroupsPath": "/engine/web",
        "maskedPaths": ["/proc/kcore", "/sys/firmware"],
        "readonlyPaths": ["/proc/sys"],
        "resources": {
            "devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rm"}
            ],
            "memory": {"limit": 67108864, "swap": 134217728}, "cpu": {"quota": 50000, "period": 100000, "cpus": "0-1"},
            "pids": {"limit": 0}, "unified": {"memory.high": "48m"}
        },
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
        "futureField": [1, {"a": 2}]
    }
}"#;

fn read(text: &str) -> Result<Config, String> {
    let mut config = defaults();
    parse(text.to_owned().leak().as_bytes(), "/bundle", &mut config).map(|()| config)
}

/// The same, with one change.
fn with(old: &str, new: &str) -> Result<Config, String> {
    assert!(WHOLE.contains(old), "{old}");
    read(&WHOLE.replacen(old, new, 1))
}

#[test]
fn a_bundle_is_a_config() {
    let config = read(WHOLE).unwrap();
    assert_eq!((config.user, &*config.groups, config.umask), (c"7:8", &[c"1", c"4294967294"][..], 63));
    assert_eq!((&*config.command, config.workdir), (&[c"sh", c"-c", c"exit 7"][..], c"/srv"));
    assert_eq!(&*config.env, [c"PATH=/bin", c"A="]);
    assert_eq!((config.rootfs, config.read_only, config.hostname), (c"/bundle/rootfs", true, c"web"));
    assert_eq!(config.capabilities.bounding, 1 << CAP_CHOWN | 1 << CAP_KILL);
    assert_eq!(config.capabilities.ambient, 1 << CAP_KILL, "nothing that the inheritable set lacks");
    assert_eq!(config.rlimits.iter().map(|limit| (limit.soft, limit.hard)).collect::<Vec<_>>(), [(1024, u64::MAX)]);
    assert!(config.security.no_new_privileges && !config.filter.code.is_empty() && !config.init && !config.life.tty);
    assert_eq!((config.oom_score_adj, &*config.sysctls), (Some(-17), &["net.ipv4.ip_forward=1"][..]));
    assert_eq!(config.net, Some(Net::Namespace(c"/run/netns/a")));
    let range = |host, size| vec![Range { container: 0, host, size }];
    assert_eq!(config.userns, Some(Userns::Maps(range(100_000, 10), range(200_000, 20))));
    let limits: Vec<_> = config.limits.iter().map(|limit| format!("{}={}", limit.file, limit.value)).collect();
    let expected = ["memory.swap.max=67108864", "memory.max=67108864", "cpu.max=50000 100000", "pids.max=max"];
    assert_eq!(limits, [&expected[..], &["cpuset.cpus=0-1", "memory.high=50331648"]].concat());
}

#[test]
fn a_bundle_has_settings_without_an_option() {
    let bundle = read(WHOLE).unwrap().bundle.unwrap();
    let no = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV;
    let mount = |kind, target, top| BundleMount {
        source: None,
        kind,
        target,
        top,
        all: Change::default(),
        is_recursive: true,
        is_remount: false,
        propagation: MS_PRIVATE,
        idmap: None,
        copies_up: false,
        options: Vec::new(),
    };
    let change = |set, cleared| Change { set, cleared };
    let (source, readonly) = (Some(c"/bundle/data"), change(MOUNT_ATTR_RDONLY, MOUNT_ATTR_RDONLY));
    let data = mount(c"bind", c"/data", Change::default());
    let strict = change(MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_NOSUID | MOUNT_ATTR__ATIME);
    let hosts = mount(c"none", c"/etc/hosts", change(0, MOUNT_ATTR_RDONLY));
    let expected = [
        BundleMount { options: vec![c"source=proc"], ..mount(c"proc", c"/proc", change(no, no)) },
        BundleMount { options: vec![c"mode=755", c"source=tmpfs"], ..mount(c"tmpfs", c"/dev", strict) },
        BundleMount { propagation: MS_PRIVATE | MS_REC, ..mount(c"cgroup2", c"/sys/fs/cgroup", readonly) },
        BundleMount { source, propagation: MS_SLAVE | MS_REC, all: readonly, ..data },
        BundleMount { source: Some(c"/run/hosts"), is_recursive: false, ..hosts },
    ];
    assert_eq!(bundle.mounts, expected);
    let fuse = Node { path: c"/dev/fuse", mode: S_IFCHR | 0o666, uid: 1, gid: 2, major: 10, minor: 229 };
    assert_eq!(bundle.nodes, [fuse], "null is in every /dev");
    let access = |allows, minor, access| Access { allows, is_block: Some(false), major: Some(10), minor, access };
    assert_eq!(bundle.access, Rules { list: vec![access(true, None, READ | MKNOD)], allows_others: false });
    assert_eq!((&*bundle.masked, &*bundle.readonly), (&[c"/proc/kcore", c"/sys/firmware"][..], &[c"/proc/sys"][..]));
    assert_eq!((bundle.propagation, bundle.cgroup), (MS_SLAVE, BundleCgroup::Path("/engine/web")));
    assert_eq!((bundle.shared, &*bundle.joined), (CLONE_NEWCGROUP, &[(CLONE_NEWIPC, c"/proc/7/ns/ipc")][..]));
    assert_eq!(
        bundle.state, r#""ociVersion":"1.3.0","bundle":"/bundle","annotations":{"a.b":"c \"d\"","e":""}"#,
        "the members that never change"
    );
    let all = r#"{"allow": false, "access": "rwm"}, {"allow": true}"#;
    let open = with(r#"{"allow": false, "access": "rwm"}"#, all).unwrap().bundle.unwrap();
    assert_eq!(open.access, Rules { list: vec![access(true, None, READ | MKNOD)], allows_others: true });
    let refuses = r#""access": "w"}, {"allow": false, "type": "c", "major": 10, "minor": 1, "access": "r""#;
    let writes = with(r#""access": "rm""#, refuses).unwrap().bundle.unwrap();
    assert_eq!(writes.access.list, [access(true, None, WRITE), access(false, Some(1), READ)]);
}

#[test]
fn errors_have_their_path() {
    for (old, new, wrong) in [
        (r#""1.3.0""#, r#""2.0.0""#, "ociVersion: "),
        (r#""ociVersion": "1.3.0","#, "", "ociVersion: missing"),
        (r#""uid": 7"#, r#""uid": "root""#, "process.user.uid: expected a number"),
        (r#""uid": 7"#, r#""uid": -1"#, "process.user.uid: "),
        (r#""uid": 7"#, r#""uid": 4294967295"#, "process.user: "),
        (r#"["sh", "-c", "exit 7"]"#, "[]", "process.args: "),
        (r#""sh", "-c""#, r#""sh", 1"#, "process.args[1]: expected a string"),
        (r#""sh", "-c""#, r#""sh", "a\u0000b""#, "process.args[1]: a NUL"),
        (r#""/srv""#, r#""srv""#, "process.cwd: "),
        ("RLIMIT_NOFILE", "NOFILE", "process.rlimits[0]: "),
        (r#""apparmorProfile": """#, r#""apparmorProfile": 1"#, "process.apparmorProfile: expected a string"),
        (r#""apparmorProfile": """#, r#""scheduler": {}"#, "process.scheduler.policy: missing"),
        (r#""apparmorProfile": """#, r#""ioPriority": {"class": "RT"}"#, "process.ioPriority.class: expected IOPRIO_C"),
        (
            r#""apparmorProfile": """#,
            r#""ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}"#,
            "process.ioPriority.priority: ",
        ),
        (r#""apparmorProfile": """#, r#""execCPUAffinity": {"final": "0-1024"}"#, "process.execCPUAffinity.final: "),
        (r#""apparmorProfile": """#, r#""execCPUAffinity": {"initial": "3-1"}"#, "process.execCPUAffinity.initial: "),
        (r#""sysctl""#, r#""personality": {"domain": "BSD"}, "sysctl""#, "linux.personality.domain: "),
        (r#""sysctl""#, r#""memoryPolicy": {"mode": "MPOL_BOUND"}, "sysctl""#, "linux.memoryPolicy.mode: "),
        (r#""prestart": []"#, r#""prestart": [{"path": "a"}]"#, "hooks.prestart[0].path: "),
        (r#""/data", "type""#, r#""/../data", "type""#, "mounts[3].destination: "),
        (r#""rslave""#, r#""size""#, "mounts[3].options[1]: size: "),
        (r#""rslave""#, r#""tmpcopyup""#, "mounts[3].options[1]: tmpcopyup: "),
        (r#""strictatime""#, r#""idmap""#, "mounts[1]: only a bind can be idmapped"),
        (r#""rro"]"#, r#""rro"], "uidMappings": [{"size": 1}]"#, "mounts[3].uidMappings[0].containerID: missing"),
        (r#"{"type": "mount"}, "#, "", "linux.namespaces: without one of its own"),
        (r#"{"type": "pid"}"#, r#"{"type": "mount", "path": "/a"}"#, "linux.namespaces[1]: there is one of this type"),
        (r#"{"type": "pid"}"#, r#"{"type": "moon"}"#, "linux.namespaces[0].type: "),
        (r#""sysctl""#, r#""timeOffsets": {"monotonic": {"secs": 1}}, "sysctl""#, "linux.timeOffsets: it needs"),
        (r#""hostID": 100000"#, r#""hostID": 4294967295"#, "linux.uidMappings[0]: "),
        ("net.ipv4.ip_forward", "vm.swappiness", "linux.sysctl."),
        (r#""/engine/web""#, r#""/engine/../web""#, "linux.cgroupsPath: "),
        (r#""/engine/web""#, r#""a.slice:b:c""#, "linux.cgroupsPath: kontena does not ask systemd"),
        (r#""/proc/kcore""#, r#""/../shadow""#, "linux.maskedPaths[0]: "),
        (r#""sysctl""#, r#""rootfsPropagation": "both", "sysctl""#, "linux.rootfsPropagation: expected private, "),
        (r#""type": "c", "major": 10, "minor": 229"#, r#""type": "q""#, "linux.devices[0].type: "),
        (r#""major": 10, "minor": 229"#, r#""major": 4097, "minor": 3"#, "linux.devices[0].major: expected the number"),
        (r#""major": 10, "minor": 229"#, r#""major": 1, "minor": 1048576"#, "linux.devices[0].minor: expected the"),
        (r#""defaultAction": "SCMP_ACT_ERRNO""#, NOTIFIES, "linux.seccomp.listenerPath: missing"),
        (r#""defaultAction": "SCMP_ACT_ERRNO""#, r#""defaultAction": 1"#, "linux.seccomp.defaultAction: expected"),
        (r#""limit": 67108864"#, r#""limit": "64m""#, "linux.resources.memory.limit: expected a number"),
        (r#""swap": 134217728"#, r#""swap": 1"#, "linux.resources.memory.swap: expected no less"),
        (r#""pids": {"#, r#""hugepageLimits": [{"pageSize": "a/b"}], "pids": {"#, "hugepageLimits[0].pageSize: "),
        (r#""pids": {"#, r#""blockIO": {"weight": 9}, "pids": {"#, "linux.resources.blockIO.weight: expected 10 to"),
        (
            r#""pids": {"#,
            r#""blockIO": {"weightDevice": [{"weight": 10}]}, "pids": {"#,
            "weightDevice[0].major: missing",
        ),
        (r#""unified": {"memory.high""#, r#""unified": {"cgroup.procs""#, "linux.resources.unified."),
    ] {
        let line = with(old, new).map(drop).err().unwrap_or_default();
        assert!(line.contains(wrong), "{old} → {new}: {line}");
    }
    let line = with(r#""hostname": "web","#, r#""hostname": "web"#).map(drop).unwrap_err();
    assert!(line.starts_with("line "), "{line}");
}

/// A profile that notifies a call.
const NOTIFIES: &str = r#""defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]"#;

#[test]
fn listener_is_a_path_with_its_metadata() {
    let listener = |members: &str| {
        let profile = format!(r#""seccomp": {{{members}"#);
        with(r#""seccomp": {"defaultAction": "SCMP_ACT_ERRNO""#, &profile).map(|config| config.bundle.unwrap().listener)
    };
    assert_eq!(listener(&format!(r#"{NOTIFIES}, "listenerPath": "/run/a""#)), Ok("/run/a".into()));
    let with_metadata = format!(r#"{NOTIFIES}, "listenerPath": "/run/a", "listenerMetadata": "b\u0000\"c""#);
    assert_eq!(listener(&with_metadata), Ok("/run/a\0b\0\"c".into()));
    // Without a notified call, it is ignored.
    assert_eq!(listener(r#""defaultAction": "SCMP_ACT_LOG", "listenerPath": 7"#), Ok(String::new()));
    let line = listener(&format!(r#"{NOTIFIES}, "listenerPath": "/a\u0000b""#)).unwrap_err();
    assert!(line.starts_with("linux.seccomp.listenerPath: a NUL"), "{line}");
}

#[test]
fn minimal_bundle_is_accepted() {
    let text = r#"{"ociVersion": "1.0.2-dev", "process": {"args": ["a"], "cwd": "/"}, "root": {"path": "/srv"},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}}"#;
    let config = read(text).unwrap();
    assert_eq!((config.net, config.userns, config.uts), (Some(Net::Host), Some(Userns::Host), Share::Host));
    assert_eq!((config.user, config.capabilities.bounding, config.umask), (c"0:0", 0, 0o022));
    assert!(!config.security.no_new_privileges && config.filter.code.is_empty() && config.limits.is_empty());
    let bundle = config.bundle.unwrap();
    let copied = with(r#""strictatime""#, r#""tmpcopyup""#).unwrap().bundle.unwrap();
    assert!(copied.mounts[1].copies_up && !copied.mounts[0].copies_up);
    assert_eq!((bundle.cgroup, bundle.shared), (BundleCgroup::Own, CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP));
}

#[test]
fn attributes_are_in_the_kernels_format() {
    let process = r#""scheduler": {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RECLAIM"], "nice": -1,
        "runtime": 1, "deadline": 2, "period": 3}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 7},
        "execCPUAffinity": {"initial": "0-2,9", "final": "1023"}"#;
    let config = with(r#""apparmorProfile": """#, process).unwrap();
    let given = config.attributes.get().unwrap();
    let words = [48, 6, 2, 0, u32::MAX, 0, 1, 0, 2, 0, 3, 0].map(u32::to_le_bytes).concat();
    assert_eq!((given.scheduler, given.io_priority), (&*words, 3 << 13 | 7));
    assert_eq!((given.launchers_cpus, given.cpus.len(), given.cpus[127]), (&[7, 2][..], 128, 128));
    assert_eq!((given.personality, given.memory_mode), (u32::MAX, u32::MAX), "as they are");
    assert_eq!((given.has_sets, given.permitted, given.inheritable), (1, 0x21, 0x20));
    let linux = r#""personality": {"domain": "LINUX32"}, "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0,2",
        "flags": ["MPOL_F_STATIC_NODES"]}, "sysctl""#;
    let config = with(r#""sysctl""#, linux).unwrap();
    let given = config.attributes.get().unwrap();
    assert_eq!((given.personality, given.memory_mode), (8, 1 << 15 | 2));
    assert_eq!((given.memory_nodes, given.scheduler.len(), given.label), (&[5][..], 0, c""));
}

#[test]
fn namespaces_are_new_joined_or_shared_with_the_caller() {
    let text = |namespaces: &str| {
        format!(
            r#"{{"ociVersion": "1.3.0", "process": {{"args": ["a"], "cwd": "/"}}, "root": {{"path": "/srv"}},
            "linux": {{"namespaces": [{{"type": "mount"}}, {namespaces}],
            "uidMappings": [{{"containerID": 0, "hostID": 0, "size": 1}}]}}}}"#
        )
    };
    let config =
        read(&text(r#"{"type": "user", "path": "/a"}, {"type": "pid", "path": "/b"}, {"type": "time"}"#)).unwrap();
    let bundle = config.bundle.unwrap();
    assert_eq!(config.userns, Some(Userns::Joined), "a map that an engine has invented counts for nothing");
    assert_eq!(bundle.joined, [(CLONE_NEWUSER, c"/a"), (CLONE_NEWPID, c"/b")]);
    assert_eq!((bundle.shared & CLONE_NEWPID, bundle.clocks.as_deref()), (0, Some("")));
    let offsets = |offsets: &str| {
        let text = text(r#"{"type": "time"}, {"type": "user", "path": "/a"}"#);
        let text = text.replacen(r#""uidMappings""#, &format!(r#""timeOffsets": {offsets}, "uidMappings""#), 1);
        read(&text).map(|config| config.bundle.unwrap().clocks.unwrap())
    };
    let both = r#"{"boottime": {"secs": -7, "nanosecs": 999999999}, "monotonic": {"nanosecs": 1}}"#;
    assert_eq!(offsets(both).as_deref(), Ok("boottime -7 999999999\nmonotonic 0 1\n"));
    for wrong in [r#"{"realtime": {"secs": 1}}"#, r#"{"boottime": {"nanosecs": 1000000000}}"#, r#"{"boottime": 1}"#] {
        assert!(offsets(wrong).is_err_and(|line| line.contains("linux.timeOffsets.")), "{wrong}");
    }
}

#[test]
fn truncated_text_is_an_error() {
    for length in 0..WHOLE.len() {
        assert!(read(&WHOLE[..length]).is_err(), "{length}");
    }
}

#[test]
fn resources_alone_are_limits() {
    let limits = read_resources(br#"{"memory": {"limit": 4096}, "devices": [{"allow": false}]}"#).unwrap();
    let lines: Vec<_> = limits.iter().map(|limit| format!("{}={}", limit.file, limit.value)).collect();
    assert_eq!(lines, ["memory.max=4096"]);
    assert_eq!(read_resources(br#"{"memory": []"#).map(drop), Err("line 1: expected , or }".into()));
    assert!(read_resources(br#"{"pids": {"limit": "1"}}"#).map(drop).unwrap_err().starts_with("pids.limit: "));
}

#[test]
fn mount_options_change_attributes() {
    let attributes = |options: &str| {
        let bundle = with(r#""rbind", "rslave", "rro""#, options).unwrap().bundle.unwrap();
        let BundleMount { top, all, propagation, .. } = &bundle.mounts[3];
        (*top, *all, *propagation)
    };
    let (change, none) = (|set, cleared| Change { set, cleared }, Change::default());
    let time = MOUNT_ATTR__ATIME;
    for (options, expected) in [
        (r#""rw", "noatime", "relatime", "nodiratime""#, (change(MOUNT_ATTR_NODIRATIME, 0x1 | time | 0x80), none)),
        (r#""ro", "rw", "defaults", "mand", "sync""#, (change(0, MOUNT_ATTR_RDONLY), none)),
        (r#""rnoatime", "nosymfollow""#, (change(0x20_0000, 0x20_0000), change(MOUNT_ATTR_NOATIME, time))),
        (r#""rrelatime", "rsuid", "rdev""#, (none, change(0, time | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV))),
    ] {
        assert_eq!(attributes(&format!(r#""rbind", {options}"#)), (expected.0, expected.1, MS_PRIVATE), "{options}");
    }
    for (name, flag) in [
        ("private", MS_PRIVATE),
        ("rprivate", MS_PRIVATE | MS_REC),
        ("slave", MS_SLAVE),
        ("shared", MS_SHARED),
        ("rshared", MS_SHARED | MS_REC),
        ("unbindable", MS_UNBINDABLE),
        ("runbindable", MS_UNBINDABLE | MS_REC),
    ] {
        assert_eq!(attributes(&format!(r#""rbind", "{name}""#)).2, flag, "{name}");
    }
}

#[test]
fn limits_are_lines_of_files() {
    for (resources, expected) in [
        (
            r#""memory": {"limit": -1, "swap": -1, "reservation": 4096, "swappiness": 7}"#,
            &["memory.swap.max=max", "memory.max=max", "memory.low=4096"][..],
        ),
        (r#""memory": {"limit": 4096, "swap": 4096, "kernel": 1}"#, &["memory.swap.max=0", "memory.max=4096"]),
        (r#""memory": {"limit": -1}"#, &["memory.swap.max=max", "memory.max=max"]),
        (r#""memory": {"limit": 0, "checkBeforeUpdate": true}"#, &[]),
        (r#""cpu": {"shares": 1024, "quota": -1, "period": 50000}"#, &["cpu.weight=100", "cpu.max=max 50000"]),
        (
            r#""cpu": {"shares": 1, "quota": 7000, "burst": 9, "realtimeRuntime": 1}"#,
            &["cpu.weight=1", "cpu.max=7000 100000", "cpu.max.burst=9"],
        ),
        (r#""cpu": {"shares": 0, "quota": 0, "period": 0, "idle": 1, "mems": "0"}"#, &["cpu.idle=1", "cpuset.mems=0"]),
        (r#""cpu": {"shares": 999999}"#, &["cpu.weight=10000"]),
        (r#""pids": {"limit": 9}"#, &["pids.max=9"]),
        (r#""pids": {"limit": -1}"#, &["pids.max=max"]),
        (r#""pids": {}, "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]}"#, &[]),
        (
            r#""blockIO": {"weight": 1000, "leafWeight": 10, "weightDevice": [{"major": 8, "minor": 1, "weight": 10}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 18446744073709551615}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]}"#,
            &[
                "io.bfq.weight=1000",
                "io.weight=10000",
                "io.bfq.weight=8:1 10",
                "io.weight=8:1 1",
                "io.max=8:0 rbps=18446744073709551615",
                "io.max=8:0 wiops=max",
            ],
        ),
        (
            r#""hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]"#,
            &["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"],
        ),
        (r#""rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}}"#, &["rdma.max=mlx5_1 hca_handle=3 hca_object=10"]),
        (r#""pids": {"limit": 9}, "unified": {"pids.max": "7"}"#, &["pids.max=9", "pids.max=7"]),
    ] {
        let limits = read_resources(format!("{{{resources}}}").leak().as_bytes()).unwrap();
        let lines: Vec<_> = limits.iter().map(|limit| format!("{}={}", limit.file, limit.value)).collect();
        assert_eq!(lines, expected, "{resources}");
    }
}
