//! Resources of OCI bundles: rules for devices, limits, and the owner of the cgroup.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tests::{Bundle, Host, mount};

/// Runs a script in the container of a bundle; returns its output.
fn run(host: &Host, script: &str, change: impl FnOnce(&mut Value)) -> String {
    Bundle::printing(host, script, change).printed()
}

/// Allows the container to create device nodes.
fn with_mknod(config: &mut Value) {
    tests::permit(config, "CAP_MKNOD");
}

#[test]
fn last_rule_about_a_device_counts() {
    let host = Host::new();
    // A rule causes EPERM. Without it, a device that does not exist causes ENXIO.
    let script = "cd /tmp; for n in 'mem c 1 99' 'fuse c 10 229' 'loop b 7 0' 'zero c 1 5'; do mknod $n; done; \
                  for n in mem fuse loop zero; do (exec < $n) 2>&1 | grep -c 'not permitted'; done; \
                  (exec > mem) 2>&1 | grep -c 'not permitted'";
    let all = json!({"allow": false, "access": "rwm"});
    for (rules, expected) in [
        (json!([all]), "1\n1\n1\n0\n1\n"),
        (json!([{"allow": true}]), "0\n0\n0\n0\n0\n"),
        (json!([all, {"allow": true, "type": "c", "major": 1, "access": "r"}]), "0\n1\n1\n0\n1\n"),
        (json!([{"allow": true}, {"allow": false, "type": "c", "major": 1, "minor": 99}]), "1\n0\n0\n0\n1\n"),
        (json!([{"allow": true}, {"allow": false, "major": 1, "minor": -1, "access": "w"}]), "0\n0\n0\n0\n1\n"),
        // A default device is always allowed.
        (json!([{"allow": true}, {"allow": false, "type": "c"}]), "1\n1\n0\n0\n1\n"),
        (json!([all, {"allow": true, "type": "c"}, {"allow": false, "type": "c", "major": 10}]), "0\n1\n1\n0\n0\n"),
        (
            json!([{"allow": true, "major": 7}, all, {"allow": true, "type": "b", "major": 7, "access": "r"}]),
            "1\n1\n0\n0\n1\n",
        ),
    ] {
        let shown = run(&host, script, |config| {
            with_mknod(config);
            config["mounts"][4] = mount("/tmp", "tmpfs", &["nosuid", "mode=1777"]);
            config["linux"]["resources"]["devices"] = rules.clone();
        });
        assert_eq!(shown, expected, "{rules}");
    }
}

#[test]
fn devices_are_created_as_the_bundle_says() {
    let host = Host::new();
    let script = "stat -c '%n %F %a %u:%g %t:%T' /dev/fuse /dev/a/pipe /opt/node /dev/full";
    let shown = run(&host, script, |config| {
        config["root"]["readonly"] = json!(false);
        config["linux"]["devices"] = json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 1, "gid": 2},
            {"path": "/dev/a/pipe", "type": "p", "fileMode": 0o600},
            {"path": "/opt/node", "type": "b", "major": 7, "minor": 0},
            {"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600},
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
        ]);
    });
    let expected = "/dev/fuse character special file 640 1:2 a:e5\n/dev/a/pipe fifo 600 0:0 0:0\n\
                    /opt/node block special file 666 0:0 7:0\n/dev/full character special file 666 0:0 1:7\n";
    assert_eq!(shown, expected);
    // Another file already has the path.
    let bundle = Bundle::new(&host, "", |config| {
        config["linux"]["devices"] = json!([{"path": "/etc/passwd", "type": "c", "major": 10, "minor": 229}]);
    });
    let line = bundle.create().run().refused(1);
    assert!(line.contains("make the device /etc/passwd"), "{line}");
}

#[test]
fn root_of_a_user_namespace_owns_a_writable_cgroup() {
    let host = Host::new();
    let map = json!([
        {"containerID": 1, "hostID": 0, "size": 1000}, {"containerID": 0, "hostID": 100_000, "size": 1}
    ]);
    for (options, owner) in [(&["nosuid", "rw"][..], 100_000), (&["nosuid", "ro"], 0)] {
        let bundle = Bundle::new(&host, "sleep 600", |config| {
            config["mounts"].as_array_mut().unwrap().push(mount("/sys/fs/cgroup", "cgroup", options));
            // The files of the rootfs must have ids in the maps; the container's root is another uid than 0.
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map.clone());
        });
        bundle.create_in_silence();
        let leaf = host.cgroup_parent().join("one");
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            assert_eq!(fs::metadata(leaf.join(name)).unwrap().uid(), owner, "{name}");
        }
        assert_eq!(fs::metadata(leaf.join("cgroup.freeze")).unwrap().uid(), 0);
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
}

/// Files of the leaf cgroup, and their contents.
type Files = &'static [(&'static str, &'static str)];

/// Limits, the controller that they need, and the resulting files of the leaf cgroup.
fn limits() -> [(Value, &'static str, Files); 10] {
    [
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}),
            "hugetlb",
            &[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")],
        ),
        (
            json!({"memory": {"limit": 67_108_864, "swap": 134_217_728, "reservation": 4096}}),
            "memory",
            &[("memory.max", "67108864"), ("memory.low", "4096")],
        ),
        (
            json!({"cpu": {"shares": 512, "quota": 50_000, "period": 20_000, "burst": 10_000}}),
            "cpu",
            &[("cpu.weight", "59"), ("cpu.max", "50000 20000"), ("cpu.max.burst", "10000")],
        ),
        (json!({"cpu": {"quota": -1, "period": 50_000}}), "cpu", &[("cpu.max", "max 50000")]),
        (json!({"cpu": {"idle": 1}}), "cpu", &[("cpu.idle", "1")]),
        (json!({"cpu": {"cpus": "0", "mems": "0"}}), "cpuset", &[("cpuset.cpus", "0"), ("cpuset.mems", "0")]),
        (json!({"pids": {"limit": 123}}), "pids", &[("pids.max", "123")]),
        (json!({"pids": {"limit": -1}}), "pids", &[]),
        (json!({"pids": {"limit": 7}, "unified": {"pids.max": "77"}}), "pids", &[("pids.max", "77")]),
        (json!({"network": {"classID": 1}, "memory": {"swappiness": 3}, "rdma": {}}), "pids", &[]),
    ]
}

#[test]
fn cgroup_has_the_limits_of_the_bundle() {
    let host = Host::new();
    let parent = host.cgroup_parent();
    let of = |cgroup: &Path| fs::read_to_string(cgroup.join("cgroup.controllers")).ok();
    // The controllers of the root cgroup.
    let controllers = parent.ancestors().filter_map(of).last().unwrap();
    let mut checked = 0;
    for (resources, controller, files) in limits() {
        let bundle = Bundle::new(&host, "sleep 600", |config| {
            let mut resources = resources.clone();
            resources["devices"] = json!([{"allow": false}]);
            config["linux"]["resources"] = resources;
        });
        if !files.is_empty() && !controllers.split_ascii_whitespace().any(|other| other == controller) {
            let quiet = |command: &mut Command| _ = command.stdout(Stdio::null()).stderr(Stdio::null());
            assert_eq!(bundle.create().with(quiet).run().code, 1, "{resources}: {controllers}");
            let log = host.inside(|| fs::read_to_string(bundle.log())).unwrap();
            assert!(log.contains(&format!("the {controller} controller")), "{resources}: {log}");
            host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
            continue;
        }
        bundle.create_in_silence();
        for (name, expected) in files {
            let found = fs::read_to_string(host.cgroup_parent().join("one").join(name)).unwrap();
            assert_eq!(found.trim_end(), *expected, "{resources}: {name}");
            checked += 1;
        }
        let _ = bundle.engine(&["delete", "--force", "one"]).run().ok();
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
    println!("{checked} files, of {controllers}");
}

#[test]
fn limits_that_the_kernel_refuses_are_reported() {
    let host = Host::new();
    for (resources, words) in [
        (json!({"unified": {"nosuch.max": "1"}}), "the nosuch controller"),
        (json!({"rdma": {"none": {"hcaHandles": 1}}}), "rdma"),
        (json!({"memory": {"swap": 5}}), "linux.resources.memory.swap: expected no less than a memory.limit"),
        (json!({"devices": [{"allow": true, "type": "x"}]}), "linux.resources.devices[0].type: expected a, b, c or u"),
    ] {
        let bundle = Bundle::new(&host, "", |config| config["linux"]["resources"] = resources);
        let line = bundle.create().run().refused(1);
        assert!(line.contains(words), "{line}");
        host.inside(|| fs::remove_dir_all(&bundle.directory)).unwrap();
    }
}
