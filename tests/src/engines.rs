//! A pretend host with container engines. Its root is a tree of Debian's packages, so the engines find their programs
//! and settings in the usual places, and write to nothing of this machine.
//!
//! Must not know how kontena works, only how engines are configured to use it.

use crate::host::PREFIX;
use crate::{Host, Program, init, launcher, provided, sys, wait_for};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::pivot_root;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

/// How engines are configured to use kontena.
const DOCUMENTATION: &str = include_str!("../../docs/oci.md");

/// Additional configuration for machines where cgroup v2 may lack controllers and root capabilities.
const CONTAINERS: &str = r#"
[containers]
pids_limit = 0
default_ulimits = ["nproc=1024:1024", "nofile=1024:1024"]
[network]
network_backend = "netavark"
"#;

/// The read-only image store, beside each engine's own.
const STORAGE_CONF: &str = r#"[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
[storage.options]
additionalimagestores = ["/images"]
"#;

/// The path of kontena in the documentation.
const KONTENA: &str = "/usr/local/bin/kontena";

/// Goes into the host's cgroups, out of the way of controllers, then into its cgroup namespace, and leaves the
/// machine's variables. Where cgroup2 is mounted with nsdelegate, nobody enters a namespace's cgroups from within;
/// cgroups(7).
const ENTER: &str = "echo 0 > /sys/fs/cgroup/init/cgroup.procs && \
                     exec /usr/bin/nsenter --cgroup=/run/cgroup /usr/bin/env -i HOME=/root TERM=xterm \
                     PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \"$@\"";

/// Makes the cgroup namespace of a host with the root `$2`: its own root is the cgroup `$1`, whose hierarchy it mounts.
const CGROUPS: &str = r#"
    echo 0 > "$1/cgroup.procs" && touch "$2/run/cgroup" && exec unshare --cgroup="$2/run/cgroup" sh -ec '
    mount -t cgroup2 none "$1" && mkdir "$1/init" && echo 0 > "$1/init/cgroup.procs"' sh "$2/sys/fs/cgroup""#;

/// A pretend host with engines.
#[derive(Debug)]
pub struct Engines {
    /// The host.
    pub host: Host,
}

impl Engines {
    /// Makes a host, with an image `debian` of the Debian rootfs.
    ///
    /// # Panics
    /// If something is missing; the message says what.
    #[allow(clippy::new_without_default, reason = "nobody makes one by default")]
    pub fn new() -> Self {
        static IMAGES: OnceLock<()> = OnceLock::new();
        let engines = Self::without_images();
        // A store for all, made with the first host.
        IMAGES.get_or_init(|| {
            let import = "tar --owner 0 --group 0 -C $1 --exclude ./usr/share --exclude './usr/lib/*/perl' -c . |
                          podman --root /images import -q -c 'CMD [\"sleep\", \"infinity\"]' - debian";
            let rootfs = provided("KONTENA_DEBIAN_ROOTFS");
            let _ = engines.program("sh").args(["-ec", import, "sh"]).arg(rootfs).run().ok();
        });
        engines.write("/etc/containers/storage.conf", STORAGE_CONF);
        engines
    }

    /// Makes a host without images, which needs no copies.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn without_images() -> Self {
        let host = Host::new();
        let images = shared_images();
        let root = host.overlay("root", &provided("KONTENA_ENGINES_ROOTFS"));
        let [lib, tmp, shm] = ["lib", "tmp", "shm"].map(|name| host.directory().join(name));
        for path in [&lib, &tmp, &shm] {
            fs::create_dir(path).unwrap();
        }
        // A copy, since in the virtual machine the pair is in /bin and /sbin.
        let kontena = host.directory().join("kontena");
        for (file, copy) in [(launcher(), kontena.clone()), (init(), kontena.with_file_name("kontena-init"))] {
            fs::copy(&file, copy).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
        let trees = ["KONTENA_DEBIAN_ROOTFS", "KONTENA_ROOTFS"].map(provided);
        host.inside(|| {
            // An engine's layers cannot be on an overlay like this root.
            for (from, to) in [(&lib, "/var/lib"), (&tmp, "/tmp"), (&tmp, "/var/tmp"), (&images, "/images")] {
                bind(from, &root, Path::new(to));
            }
            for path in ["/dev", "/proc", "/run"].map(Path::new) {
                bind(path, &root, path);
            }
            bind(&shm, &root, Path::new("/dev/shm"));
            for path in [host.directory(), &trees[0], &trees[1]] {
                bind(path, &root, path);
            }
            // The one of its network namespace.
            mount(Some("sysfs"), &root.join("sys"), Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
        });
        let cgroups = host.program("sh").args(["-ec", CGROUPS, "sh"]).arg(host.cgroup());
        let _ = cgroups.arg(&root).run().ok();
        host.inside(|| {
            let old = root.join("mnt");
            fs::create_dir_all(&old).unwrap();
            pivot_root(&root, &old).unwrap();
            umount2("/mnt", MntFlags::MNT_DETACH).unwrap();
            // systemd mounts it so, and containerd requires it.
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>).unwrap();
        });
        let engines = Self { host };
        engines.write("/etc/hosts", "127.0.0.1 localhost\n");
        engines.write("/etc/resolv.conf", "");
        engines.write("/etc/subuid", "containers:200000:65536000\n");
        engines.write("/etc/subgid", "containers:200000:65536000\n");
        engines.write("/etc/containers/containers.conf", &(documented("[engine]") + CONTAINERS));
        engines.host.inside(|| {
            fs::create_dir_all("/usr/local/bin").unwrap();
            symlink(&kontena, KONTENA).unwrap();
        });
        engines
    }

    /// Writes a file of the host.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        self.host.inside(|| {
            fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
            fs::write(path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        });
    }

    /// A program of the host.
    pub fn program(&self, program: &str) -> Program<'_> {
        self.host.program("/bin/sh").args(["-c", ENTER, "sh", program])
    }

    /// A line of sh(1), with podman for its engine.
    pub fn sh(&self, line: &str) -> Program<'_> {
        self.program("sh").args(["-c", line])
    }

    /// The line `podman LINE` of sh(1).
    pub fn podman(&self, line: &str) -> Program<'_> {
        self.sh(&format!("podman {line}"))
    }

    /// The output of `podman LINE`, without the last newline.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn says(&self, line: &str) -> String {
        self.podman(line).run().ok().trim_end().to_owned()
    }

    /// Waits for nginx's page at `address`, and returns it.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn page(&self, address: &str) -> String {
        let page = wait_for(&format!("the page of {address}"), || self.host.get(address).ok());
        assert!(page.contains("Welcome to nginx!"), "{page}");
        page
    }
}

/// The lines of docs/oci.md for a file, which begin with `line`.
///
/// # Panics
/// If there are none.
pub fn documented(line: &str) -> String {
    let mut blocks = DOCUMENTATION.split("```").skip(1).step_by(2).filter_map(|block| Some(block.split_once('\n')?.1));
    let block = blocks.find(|block| block.starts_with(line));
    block.unwrap_or_else(|| panic!("docs/oci.md has no lines that begin with {line}")).to_owned()
}

/// Binds `from` on `to` below `root`; creates the target if it is missing.
fn bind(from: &Path, root: &Path, to: &Path) {
    let target = root.join(to.strip_prefix("/").unwrap());
    fs::create_dir_all(&target).unwrap();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    // The host's directory contains this root: a recursive bind would contain itself.
    let flags = if root.starts_with(from) { MsFlags::MS_BIND } else { flags };
    mount(Some(from), &target, None::<&str>, flags, None::<&str>)
        .unwrap_or_else(|errno| panic!("mount {}: {errno}", target.display()));
}

/// The directory of the images that all hosts of this program share; it is removed when the program exits.
fn shared_images() -> PathBuf {
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        fs::create_dir(images()).unwrap();
        sys::at_exit(remove_images);
    });
    images()
}

/// Its name, by which a later program finds it if this one is killed.
fn images() -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{}-images", std::process::id()))
}

extern "C" fn remove_images() {
    let _ = fs::remove_dir_all(images());
}
