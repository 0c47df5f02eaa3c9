//! The way of a command line to the Plan that the init reads.

use super::run;
use crate::resources::etc_files::EtcFile;
use crate::spawn::plan::{self, Extras, Inputs, Network};
use crate::spawn::sources::Place;
use crate::spawn::trees::Tree;
use kontena_init::filter;
use kontena_init::plan::{Mount, Plan, decode, mount_kind, overlay};
use linux_raw_sys::general::{CAP_MKNOD, MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_SLAVE};
use std::ffi::CStr;

/// The Plan that a command line of `run` becomes with a network of its own, but for what the host has to be asked for.
fn plan(args: &[&str], trees: &[Tree]) -> Vec<u8> {
    let file = |target, content: &CStr| EtcFile { target, content: content.to_owned() };
    let files = vec![file(c"/etc/hosts", c"::1 localhost\n"), file(c"/etc/hostname", c"x\n")];
    let (is_own, is_linked, settings) = (true, true, &[c"sys/net/ipv4/ip_forward=0"][..]);
    let network = Network { is_own, is_hosts: false, is_linked, is_loopback: false, settings, files };
    let (devices, maps, extras) = (&[][..], None, &Extras::default());
    plan::encode(&Inputs { config: run(args).unwrap(), network, trees, devices, maps, extras }).unwrap()
}

fn on<'a>(mounts: &[Mount<'a>], target: &CStr) -> Mount<'a> {
    *mounts.iter().find(|mount| mount.target == target).unwrap()
}

#[test]
fn command_line_becomes_a_plan() {
    let nodev = u64::from(MOUNT_ATTR_NODEV);
    let readonly = u64::from(MOUNT_ATTR_RDONLY);
    let bytes = plan(&["root", "/bin/a", "", "-b"], &[]);
    let plain = decode::<Plan<'_>>(&bytes).unwrap();
    assert_eq!((plain.root.source, plain.root.kind, plain.root.attributes), (c"root", mount_kind::BIND, nodev));
    assert_eq!((plain.overlay, plain.root_readonly, plain.propagation), (overlay::IF_NEEDED, 0, MS_PRIVATE.into()));
    assert_eq!((plain.init, plain.userns, plain.loopback, plain.volumes.len()), (1, 0, 0, 0));
    assert_eq!(plain.process.argv.iter().collect::<Vec<_>>(), [c"/bin/a", c"", c"-b"]);
    assert_eq!((plain.process.seccomp, plain.process.no_new_privs), (filter::DEFAULT, 1));
    let mounts: Vec<_> = plain.mounts.iter().collect();
    assert!(on(&mounts, c"/sys").attributes & on(&mounts, c"/sys/fs/cgroup").attributes & readonly != 0);
    assert!(plain.proc.masked.iter().any(|name| name == c"kcore") && plain.proc.readonly.len() == 6);
    // Only the file of names is the launcher's: it adds those of a bridge's other containers.
    let files: Vec<_> = plain.files.iter().map(|file| (file.target, file.is_launchers)).collect();
    assert_eq!(files, [(c"/etc/hosts", 1), (c"/etc/hostname", 0)]);
    let settings: Vec<_> = plain.settings.iter().collect();
    let unprivileged = c"sys/net/ipv4/ip_unprivileged_port_start=0";
    assert!(settings.contains(&unprivileged) && settings.contains(&c"sys/net/ipv4/ip_forward=0"));
    // Every mount has an id of its own: errors name it.
    let mut ids: Vec<_> = [plain.dev, plain.proc].into_iter().chain(mounts).map(|mount| mount.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2 + plain.mounts.len());

    let volumes = ["-v", "/srv:/b/c:ro,rslave", "--tmpfs", "/t:mode=700", "-v/x:/b"];
    let others = ["--read-only", "--overlay", "--sysctl", "net.ipv4.ip_unprivileged_port_start=9", "--init=false"];
    let tree = Tree::new(Place::Volume(2), rustix::fs::open("/", rustix::fs::OFlags::PATH, 0.into()).unwrap());
    let (number, trees) = (tree.number(), [tree]);
    let bytes = plan(&[&volumes[..], &others, &["--cap-add", "MKNOD", "root"]].concat(), &trees);
    let plan = decode::<Plan<'_>>(&bytes).unwrap();
    assert_eq!((plan.overlay, plan.root_readonly, plan.init), (overlay::ALWAYS, 1, 0));
    assert_eq!((plan.propagation, plan.process.capabilities >> CAP_MKNOD & 1), (MS_SLAVE.into(), 1));
    // It may make devices, so they must work.
    assert_eq!(plan.root.attributes, 0);
    let volumes: Vec<_> = plan.volumes.iter().map(|volume| (volume.target, volume.kind, volume.id)).collect();
    let (tmpfs, bind) = (mount_kind::TMPFS, mount_kind::BIND);
    assert_eq!(volumes, [(c"/b", bind, 9), (c"/t", tmpfs, 10), (c"/b/c", mount_kind::TREE, 11)]);
    let last = plan.volumes.iter().last().unwrap();
    assert_eq!((last.source, last.fd, last.attributes & readonly), (c"/srv", number, readonly));
    // Said is said.
    let settings: Vec<_> = plan.settings.iter().collect();
    assert!(!settings.contains(&unprivileged) && settings.contains(&c"sys/net/ipv4/ip_unprivileged_port_start=9"));

    let bytes = self::plan(&["--privileged", "--ipc", "host", "--uts", "host", "root"], &[]);
    let plan = decode::<Plan<'_>>(&bytes).unwrap();
    assert_eq!((plan.hostname, plan.process.seccomp, plan.proc.masked.len()), (c"", filter::NONE, 0));
    let sys = on(&plan.mounts.iter().collect::<Vec<_>>(), c"/sys");
    assert_eq!((sys.attributes & readonly, sys.masked.len()), (0, 0));
}
