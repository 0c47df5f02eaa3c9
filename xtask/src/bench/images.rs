//! `cargo xtask bench --images`: the demo, from the file of an image to its first page: by kontena, which mounts the
//! file, and by podman and containerd, which unpack an archive of the same files into their storage. The engines run in
//! a tree of Debian's packages, and write to nothing of this machine.

use super::memory::{self, processes};
use super::{Scratch, path, percentile};
use crate::arch::Arch;
use crate::{debian, demo_images, dist, host};
use anyhow::{Context, Result, bail, ensure};
use rustix::fs::Advice;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The engines' root, which is nowhere in [`Scratch`]: that is removed, and the machine's /dev is mounted in this.
const ROOT: &str = "/run/engines/root";

/// Makes it of the tree `$1`, with what it writes in the directory `$2`. An engine's layers cannot be on an overlay.
const MAKE_ROOT: &str = r#"
mkdir -p /run/engines/run /run/engines/root "$2/upper" "$2/work" "$2/lib" "$2/tmp"
cd /run/engines/root
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay .
cd /run/engines/root
mkdir -p var/lib var/tmp etc/containers
mount --bind "$2/lib" var/lib
for dir in tmp var/tmp; do mount --bind "$2/tmp" "$dir"; done
mount --bind /run/engines/run run
for dir in dev proc; do mount --rbind "/$dir" "$dir"; done
mount -t sysfs sysfs sys
mount --bind /sys/fs/cgroup sys/fs/cgroup
echo '127.0.0.1 localhost' > etc/hosts
: > etc/resolv.conf
echo '{"default": [{"type": "insecureAcceptAnything"}]}' > etc/containers/policy.json
cat > etc/containers/storage.conf <<'END'
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END
cat > etc/containers/containers.conf <<'END'
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[containers]
pids_limit = 0
default_ulimits = ["nproc=1024:1024", "nofile=1024:1024"]
[network]
network_backend = "netavark"
END
"#;

/// Makes the archive of the rootfs `$1`, as an image that a registry would hold.
const MAKE_ARCHIVE: &str = r#"
tar --owner 0 --group 0 -C "$1" -cf "$2/tmp/root.tar" .
in_root() { chroot /run/engines/root /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
in_root podman --root /tmp/first import -q -c 'CMD ["/usr/sbin/nginx"]' /tmp/root.tar demo
in_root podman --root /tmp/first save -q --format oci-archive -o /tmp/demo.tar localhost/demo:latest
"#;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a container is idle before its memory is counted.
const QUIET: Duration = Duration::from_millis(500);

/// How an image comes to serve its page.
struct Way {
    name: &'static str,
    /// Its programs, without the libraries that they share with others.
    programs: Vec<PathBuf>,
    /// What a boot finds: the file, or the storage.
    storage: PathBuf,
    /// What else it reads from the disk.
    reads: Vec<PathBuf>,
    port: u16,
    /// What runs all the time.
    daemon: Option<Vec<String>>,
    /// Whether the daemon answers.
    answers: Vec<String>,
    /// Takes the file into the storage.
    load: Vec<String>,
    run: Vec<String>,
    end: Vec<Vec<String>>,
    unload: Vec<String>,
}

/// What a way costs; times in milliseconds.
#[derive(Default)]
struct Cost {
    /// From the file to the page, and from the storage to the page, as after a boot, and with all in the page cache.
    first_cold: Vec<f64>,
    first_warm: Vec<f64>,
    again_cold: Vec<f64>,
    again_warm: Vec<f64>,
    /// Bytes of blocks on the disk.
    storage: u64,
    /// Kilobytes of PSS of all processes but the payload's, and their names.
    memory: (u64, Vec<String>),
}

/// Measures all ways in turns, and returns the table.
pub fn measure(scratch: &Scratch, rounds: usize) -> Result<String> {
    let arch = Arch::native()?;
    let tree = debian::engines(arch)?;
    shell(MAKE_ROOT, &[&tree, &scratch.dir])?;
    shell(MAKE_ARCHIVE, &[&host::target_dir().join("rootfs"), &scratch.dir])?;
    let ways = [kontena(scratch, arch)?, podman(scratch, &tree), containerd(scratch, &tree)];
    let mut costs = [const { None }; 3];
    for _ in 0..rounds {
        for (way, cost) in ways.iter().zip(&mut costs) {
            for is_cold in [true, false] {
                way.measure(is_cold, cost.get_or_insert_with(Cost::default)).with_context(|| way.name)?;
            }
        }
    }
    // podman mounts its storage on itself.
    shell("umount --lazy /run/engines/root", &[])?;
    let rows = ways.iter().zip(costs.into_iter().flatten());
    Ok(table(rows.map(|(way, cost)| row(way, &cost)).collect::<Result<_>>()?))
}

fn kontena(scratch: &Scratch, arch: &'static Arch) -> Result<Way> {
    let (pair, rootfs) = (dist::small_dir(arch), host::target_dir().join("rootfs"));
    let file = demo_images::build(arch, &rootfs)?.join("demo.erofs");
    let kontena = path(&pair.join("kontena"));
    let parent = format!("{}/kontena", scratch.cgroup_name());
    let run = ["run", "-d", "--rm", "--name", "web", "--cgroup-parent", &parent, "-p", "18080:80"];
    let writable = ["--tmpfs", "/run", "--tmpfs", "/tmp"];
    let run = words(&[&[&*kontena], &run[..], &writable, &[&*path(&file), "/usr/sbin/nginx"]].concat());
    Ok(Way {
        name: "kontena",
        programs: ["kontena", "kontena-init"].map(|name| pair.join(name)).to_vec(),
        storage: file,
        reads: Vec::new(),
        port: 18080,
        daemon: None,
        answers: Vec::new(),
        load: Vec::new(),
        run,
        end: vec![words(&[&kontena, "kill", "web"])],
        unload: Vec::new(),
    })
}

fn podman(scratch: &Scratch, tree: &Path) -> Way {
    let programs = ["usr/bin/podman", "usr/bin/conmon", "usr/sbin/runc", "usr/lib/podman/netavark"];
    let parent = scratch.cgroup_name();
    let run = ["podman", "run", "-d", "--name", "web", "--cgroup-parent", &parent, "-p", "18081:80", "localhost/demo"];
    Way {
        name: "podman, runc",
        programs: programs.map(|name| tree.join(name)).to_vec(),
        storage: scratch.dir.join("lib/containers"),
        reads: vec![tree.join("usr/lib"), tree.join("usr/sbin"), tree.join("etc"), scratch.dir.join("tmp/demo.tar")],
        port: 18081,
        daemon: None,
        answers: Vec::new(),
        load: in_root(&["podman", "load", "-q", "-i", "/tmp/demo.tar"]),
        run: in_root(&run),
        end: vec![in_root(&["podman", "rm", "-f", "-t", "0", "web"])],
        unload: in_root(&["podman", "rmi", "-f", "localhost/demo"]),
    }
}

/// By its own client, which publishes no ports: the container has the host's network. No limits, since cgroup v2 may
/// have no controller.
fn containerd(scratch: &Scratch, tree: &Path) -> Way {
    let programs = ["usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc"];
    let cgroup = format!("/{}/containerd", scratch.cgroup_name());
    let run = ["ctr", "run", "-d", "--net-host", "--cpu-shares", "0", "--cgroup", &cgroup, "localhost/demo:latest"];
    Way {
        name: "containerd, ctr, runc",
        programs: programs.map(|name| tree.join(name)).to_vec(),
        storage: scratch.dir.join("lib/containerd"),
        reads: vec![tree.join("usr/lib"), tree.join("usr/sbin"), tree.join("etc"), scratch.dir.join("tmp/demo.tar")],
        port: 80,
        daemon: Some(in_root(&["containerd", "--log-level", "fatal"])),
        answers: in_root(&["ctr", "version"]),
        load: in_root(&["ctr", "images", "import", "/tmp/demo.tar"]),
        run: in_root(&[&run[..], &["web"]].concat()),
        end: vec![in_root(&["ctr", "task", "rm", "-f", "web"]), in_root(&["ctr", "container", "rm", "web"])],
        unload: in_root(&["ctr", "images", "rm", "--sync", "localhost/demo:latest"]),
    }
}

impl Way {
    /// From the file to the page, and again from the storage; as after a boot if `is_cold`.
    fn measure(&self, is_cold: bool, cost: &mut Cost) -> Result<()> {
        let before = processes();
        let first = self.serve(is_cold, true, || {
            sleep(QUIET);
            cost.memory = memory::pss(&before);
            cost.storage = blocks(&self.storage)?;
            Ok(())
        })?;
        let again = self.serve(is_cold, false, || Ok(()))?;
        let (firsts, agains) = match is_cold {
            true => (&mut cost.first_cold, &mut cost.again_cold),
            false => (&mut cost.first_warm, &mut cost.again_warm),
        };
        firsts.push(first);
        agains.push(again);
        self.with_daemon(|| command(&self.unload))
    }

    /// Milliseconds until the page is there; ends the container after `look`.
    fn serve(&self, is_cold: bool, loads: bool, look: impl FnOnce() -> Result<()>) -> Result<f64> {
        let mut start = Instant::now();
        if is_cold {
            let mut all = self.programs.iter().chain([&self.storage]).chain(&self.reads).filter(|path| path.exists());
            all.try_for_each(|path| walk(path, &mut evict))?;
            start = Instant::now();
        }
        let mut took = 0.0;
        self.with_daemon(|| {
            if !is_cold {
                start = Instant::now();
            }
            if loads {
                command(&self.load)?;
            }
            command(&self.run)?;
            wait_for_page(self.port)?;
            took = start.elapsed().as_secs_f64() * 1e3;
            look()?;
            for words in &self.end {
                // ctr warns that the task which it kills was killed.
                let _ = quiet(words).stderr(Stdio::null()).status()?;
            }
            wait_for_end(self.port)
        })?;
        Ok(took)
    }

    /// Does something while the daemon runs, if there is one.
    fn with_daemon(&self, what: impl FnOnce() -> Result<()>) -> Result<()> {
        let Some(words) = &self.daemon else { return what() };
        let daemon = Daemon(quiet(words).stderr(Stdio::null()).spawn().with_context(|| words.join(" "))?);
        let start = Instant::now();
        while !quiet(&self.answers).stderr(Stdio::null()).status()?.success() {
            ensure!(start.elapsed() < PATIENCE, "{} does not come up", words.join(" "));
            sleep(Duration::from_millis(5));
        }
        let done = what();
        drop(daemon);
        done
    }
}

/// Dropping it ends it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // By SIGTERM, since it must leave its storage whole.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// A command in the engines' root; `env` becomes the program, so its pid is the command's.
fn in_root(given: &[&str]) -> Vec<String> {
    let enter = ["chroot", ROOT, "/usr/bin/env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    words(&[&enter[..], given].concat())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn quiet(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Runs a command, if there is one.
fn command(words: &[String]) -> Result<()> {
    if words.is_empty() {
        return Ok(());
    }
    let status = quiet(words).status().with_context(|| words.join(" "))?;
    ensure!(status.success(), "{}: {status}", words.join(" "));
    Ok(())
}

fn shell(script: &str, arguments: &[&Path]) -> Result<()> {
    let status = Command::new("sh").args(["-ec", script, "sh"]).args(arguments).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "the root of the engines: {status}");
    Ok(())
}

fn wait_for_page(port: u16) -> Result<()> {
    let start = Instant::now();
    while !page(port).is_ok_and(|page| page.contains("Hello from kontena")) {
        if start.elapsed() > PATIENCE {
            bail!("no page on port {port}");
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Until nothing listens there any more.
fn wait_for_end(port: u16) -> Result<()> {
    let start = Instant::now();
    while page(port).is_ok() {
        ensure!(start.elapsed() < PATIENCE, "something listens on port {port}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn page(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// Does something with each file below a path; links are not followed.
fn walk(path: &Path, what: &mut dyn FnMut(&Path, &fs::Metadata)) -> Result<()> {
    let found = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    what(path, &found);
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), what)?;
        }
    }
    Ok(())
}

/// Drops a file from the page cache; posix_fadvise(2).
fn evict(path: &Path, found: &fs::Metadata) {
    if let Some(file) = found.is_file().then(|| fs::File::open(path).ok()).flatten() {
        let _ = file.sync_all();
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    }
}

/// The bytes of its blocks on the disk, each file once.
fn blocks(path: &Path) -> Result<u64> {
    let (mut bytes, mut seen) = (0, BTreeSet::new());
    walk(path, &mut |_, found| {
        if seen.insert((found.dev(), found.ino())) {
            bytes += found.blocks() * 512;
        }
    })?;
    Ok(bytes)
}

fn row(way: &Way, cost: &Cost) -> Result<Vec<String>> {
    let programs: u64 = way.programs.iter().map(|file| Ok(fs::metadata(file)?.len())).sum::<Result<u64>>()?;
    let median = |times: &Vec<f64>| format!("{:.0}", percentile(times.clone(), 50));
    Ok(vec![
        way.name.into(),
        (programs / 1000).to_string(),
        (cost.storage / 1000).to_string(),
        median(&cost.first_cold),
        median(&cost.first_warm),
        median(&cost.again_cold),
        median(&cost.again_warm),
        cost.memory.0.to_string(),
        cost.memory.1.join(", "),
    ])
}

const HEAD: [&str; 9] = [
    "image to page",
    "programs kB",
    "image kB",
    "file, cold ms",
    "file, warm ms",
    "again, cold ms",
    "again, warm ms",
    "PSS kB",
    "by",
];

fn table(rows: Vec<Vec<String>>) -> String {
    let line = |cells: Vec<String>| {
        let name = format!("\n{:22}", cells[0]);
        let numbers = cells[1..8].iter().map(|cell| format!("{cell:>15}"));
        numbers.fold(name, |line, cell| line + &cell) + "  " + &cells[8]
    };
    [HEAD.map(String::from).to_vec()].into_iter().chain(rows).map(line).collect()
}
