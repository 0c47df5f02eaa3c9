//! A pretend host: network, mounts, processes, cgroup and directory of its own, and a neighbour on its LAN.

use crate::{Container, Place, Program, Running, Snapshot, instruments, launcher, patience, provided};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// The host's own address on its LAN, on `eth0`.
pub const HOST_ADDRESS: &str = "192.0.2.1";
/// The neighbour's.
pub const NEIGHBOUR_ADDRESS: &str = "192.0.2.2";
/// The host's of IPv6; RFC 3849.
pub const HOST_ADDRESS6: &str = "2001:db8::1";
/// The neighbour's of IPv6.
pub const NEIGHBOUR_ADDRESS6: &str = "2001:db8::2";

/// The registry that all state directories of a host share.
pub const REGISTRY: &str = "/run/kontena-host";

/// What names of directories and cgroups begin with; the pid of the test program follows.
pub(crate) const PREFIX: &str = "kontena-test-";

/// PID 1 of a pretend host: mounts its /proc, and reaps until its stdin ends, which it does with the test program.
const PID_1: &str = "mount -t proc proc /proc && exec 3<&0 && { cat <&3 & echo ready; wait $!; }";

/// A pretend host. Declare it before the programs on it, so that it is dropped last.
#[derive(Debug)]
pub struct Host {
    place: Place,
    /// Another host on the same LAN, 192.0.2.2. Only its network is its own.
    pub neighbour: Place,
    pid_1: Child,
    directory: PathBuf,
    cgroup: PathBuf,
    demo: PathBuf,
    debian: OnceLock<PathBuf>,
}

impl Host {
    /// Makes one.
    ///
    /// # Panics
    /// If something is missing that it takes; the message says what.
    #[allow(clippy::new_without_default, reason = "nobody makes one by default")]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let name = format!("{PREFIX}{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir(&directory).unwrap_or_else(|error| panic!("mkdir {}: {error}", directory.display()));
        let cgroup = cgroup2().join(&name);
        fs::create_dir(&cgroup)
            .unwrap_or_else(|error| panic!("the tests need root: mkdir {}: {error}", cgroup.display()));

        let neighbour = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare the neighbour's network namespace");
            Place::here().unwrap()
        });
        let neighbour = neighbour.join().unwrap();
        let their_network = neighbour.network_path();
        let pid_1 = thread::spawn(move || start_pid_1(&their_network)).join().unwrap();
        let place = Place::of(pid_1.id()).unwrap();
        let (demo, debian) = (PathBuf::new(), OnceLock::new());
        let mut host = Self { place, neighbour, pid_1, directory, cgroup, demo, debian };
        host.demo = host.overlay("demo", &provided("KONTENA_ROOTFS"));
        host.inside(|| {
            // The demo itself serves only IPv4, since a kernel may lack IPv6.
            let path = host.demo.join("etc/nginx/nginx.conf");
            let configuration = fs::read_to_string(&path).unwrap();
            fs::write(path, configuration.replace("listen 80;", "listen 80; listen [::]:80;")).unwrap();
        });
        // A new network namespace has the machine's settings.
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            host.inside(|| fs::write(format!("/proc/sys/net/{setting}"), "0")).unwrap();
        }
        host.neighbour.ip("link set lo up\n");
        host.neighbour.connect(NEIGHBOUR_ADDRESS, NEIGHBOUR_ADDRESS6);
        host.place.connect(HOST_ADDRESS, HOST_ADDRESS6);
        host
    }

    /// The host's own namespaces.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Does something with the host's network and mounts.
    pub fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        self.place.inside(what)
    }

    /// A directory of this host only, with the same name inside and outside.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The containers' state directory, inside [`Self::directory`].
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The addresses and ids that containers of this host hold.
    ///
    /// # Panics
    /// If they cannot be listed.
    pub fn leases(&self) -> Vec<String> {
        self.inside(|| {
            let leases = fs::read_dir(Path::new(REGISTRY).join(".leases")).into_iter().flatten();
            leases.map(|lease| lease.unwrap().file_name().into_string().unwrap()).collect()
        })
    }

    /// Reserves subordinate ids by these lines of /etc/subuid and /etc/subgid, in files that only this host sees.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn set_aside(&self, lines: &str) {
        let etc = self.directory.join("etc");
        fs::create_dir(&etc).unwrap();
        for name in ["passwd", "group", "subuid", "subgid", "resolv.conf", "protocols", "services", "nsswitch.conf"] {
            let content = fs::read(format!("/etc/{name}")).unwrap_or_default();
            fs::write(etc.join(name), if name.starts_with("sub") { lines.as_bytes() } else { &content }).unwrap();
        }
        let _ = self.program("mount").arg("--bind").arg(&etc).arg("/etc").run().ok();
    }

    /// The cgroup, by its path, below which containers get theirs; kontena makes it.
    pub fn cgroup_parent(&self) -> PathBuf {
        self.cgroup.join("kontena")
    }

    /// A program of the machine's, run on this host.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Program<'_> {
        Program::new(&self.place, program)
    }

    /// Lines for ip(8) -batch.
    ///
    /// # Panics
    /// If one of them fails.
    pub fn ip(&self, lines: &str) {
        self.place.ip(lines);
    }

    /// `kontena --root STATE`, which finds no other program: there is no PATH.
    pub fn kontena(&self) -> Program<'_> {
        self.program(launcher()).with(|command| _ = command.env_remove("PATH")).arg("--root").arg(self.state())
    }

    /// `kontena --root STATE run --cgroup-parent PARENT`, without more.
    pub fn kontena_run(&self) -> Program<'_> {
        self.kontena().args(["run", "--cgroup-parent"]).arg(self.cgroup_parent_option())
    }

    /// [`Self::cgroup_parent`] as the option takes it.
    pub fn cgroup_parent_option(&self) -> String {
        format!("/{}", self.cgroup_parent().strip_prefix(cgroup2()).unwrap().display())
    }

    /// `kontena run OPTIONS ROOTFS COMMAND`.
    pub fn run(&self, options: &[&str], rootfs: impl AsRef<OsStr>, command: &[&str]) -> Program<'_> {
        self.kontena_run().args(options).arg(rootfs).args(command)
    }

    /// `kontena --root ROOT`, with another state directory than this host's own.
    pub fn kontena_in(&self, root: impl AsRef<Path>) -> Program<'_> {
        self.program(launcher()).with(|command| _ = command.env_remove("PATH")).arg("--root").arg(root.as_ref())
    }

    /// `kontena --root ROOT run OPTIONS` in the demo rootfs.
    pub fn run_in(&self, root: impl AsRef<Path>, options: &[&str], command: &[&str]) -> Program<'_> {
        let program = self.kontena_in(root).args(["run", "--cgroup-parent"]).arg(self.cgroup_parent_option());
        program.args(options).arg(self.demo()).args(command)
    }

    /// `kontena run --net none OPTIONS` of a script in the Debian rootfs.
    pub fn sh(&self, options: &[&str], script: &str) -> Program<'_> {
        self.kontena_run().args(["--net", "none"]).args(options).arg(self.debian()).args(["sh", "-c", script])
    }

    /// `kontena run --net none OPTIONS` of the intruder in the demo rootfs.
    pub fn intrude(&self, options: &[&str], arguments: &[&str]) -> Program<'_> {
        let volume = format!("{}:/intruder:ro", crate::intruder().display());
        let options = [&["--net", "none", "-v", &volume], options].concat();
        self.run(&options, self.demo(), &["/intruder"]).args(arguments)
    }

    /// Starts nginx of the demo rootfs with `options`, and waits until it answers inside.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn nginx(&self, name: &str, options: &[&str]) -> Container<'_> {
        let options = [&["--name", name], options].concat();
        let running = self.run(&options, self.demo(), &["/usr/sbin/nginx"]).start();
        let mut container = Container::new(self, name, running);
        container.wait_for_nginx();
        container
    }

    /// Starts a service on the host itself, which listens on `address` and has a page. Dropping it stops it.
    ///
    /// It is a process rather than a socket of the test's: the forks of other tests hold such a socket open until their
    /// exec.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn service(&self, address: &str) -> Running {
        let directory = self.directory.join("service");
        fs::create_dir_all(directory.join("logs")).unwrap();
        let configuration = format!(
            "daemon off; master_process off; pid off; error_log stderr; events {{}}
             http {{ access_log off; client_body_temp_path body; server {{ listen {address}; \
             location / {{ stub_status; }} }} }}"
        );
        fs::write(directory.join("nginx.conf"), configuration).unwrap();
        let program = self.program(self.demo().join("usr/sbin/nginx")).arg("-p").arg(&directory);
        let mut running = program.args(["-c", "nginx.conf"]).start();
        // Without a connection, which would keep the port for a minute after the service's end: TIME-WAIT.
        crate::wait_until("the service", || {
            assert!(!running.has_ended(), "{}", running.stderr());
            self.says("ss", &["-Hltn"]).contains(address)
        });
        running
    }

    /// `kontena prune`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn prune(&self) {
        let _ = self.kontena().arg("prune").run().ok();
    }

    /// The demo rootfs, under an overlay of this host only. Only [`Self::inside`] sees it.
    pub fn demo(&self) -> PathBuf {
        self.demo.clone()
    }

    /// A copy of the demo rootfs for this host only.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn demo_copy(&self, name: &str) -> PathBuf {
        let copy = self.directory.join(name);
        let _ = self.program("cp").arg("-a").arg(self.demo()).arg(&copy).run().ok();
        copy
    }

    /// The Debian rootfs, under an overlay of this host only. Only [`Self::inside`] sees it.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub fn debian(&self) -> PathBuf {
        self.debian.get_or_init(|| self.overlay("debian", &provided("KONTENA_DEBIAN_ROOTFS"))).clone()
    }

    /// Mounts `lower` under a writable layer of this host; `lower` does not change.
    pub(crate) fn overlay(&self, name: &str, lower: &Path) -> PathBuf {
        let [upper, work, merged] = ["upper", "work", ""].map(|part| self.directory.join(format!("{name}{part}")));
        for path in [&upper, &work, &merged] {
            fs::create_dir(path).unwrap();
        }
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        self.inside(|| {
            mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
                .unwrap_or_else(|errno| panic!("the tests need overlayfs: mount {}: {errno}", merged.display()));
        });
        merged
    }

    /// A rootfs of the machine's own programs, and the volume that must be mounted with it.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn machine_rootfs(&self) -> (PathBuf, [String; 2]) {
        let rootfs = self.directory.join("machine");
        for name in ["dev", "etc", "proc", "sys", "tmp", "usr"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            // Links into /usr, as on every merged machine.
            if let Ok(target) = fs::read_link(instruments().join(name)) {
                let _ = symlink(target, rootfs.join(name));
            }
        }
        (rootfs, ["-v".into(), format!("{}:/usr:ro", instruments().join("usr").display())])
    }

    /// GETs `/` from the host itself, and returns the page.
    ///
    /// # Errors
    /// If there is no connection, or no page.
    pub fn get(&self, address: &str) -> Result<String, String> {
        self.place.get(address)
    }

    /// All that kontena could have left here.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self)
    }

    /// The directory of this host's cgroups.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Its pid namespace, `pid:[4026531836]`, by which its processes can be told from others.
    pub fn pid_namespace(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/ns/pid", self.pid_1.id())).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The kernel kills all of its pid namespace, and the wait ends when they are gone.
        drop(self.pid_1.stdin.take());
        let _ = self.pid_1.kill();
        let start = Instant::now();
        while self.pid_1.try_wait().is_ok_and(|ended| ended.is_none()) {
            if start.elapsed() > patience() {
                eprintln!("a process of {} does not end", self.directory.display());
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        remove_cgroups(&self.cgroup);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Place {
    /// Sets up `eth0`, with addresses that are valid at once, and a link-local one made of the other.
    fn connect(&self, address: &str, address6: &str) {
        let link_local = address6.replace("2001:db8::", "fe80::");
        self.ip(&format!(
            "link set eth0 addrgenmode none\nlink set eth0 up\naddr add {address}/24 dev eth0\n\
             addr add {address6}/64 dev eth0 nodad\naddr add {link_local}/64 dev eth0 nodad\n"
        ));
    }

    /// Lines for ip(8) -batch.
    ///
    /// # Panics
    /// If one of them fails.
    pub fn ip(&self, lines: &str) {
        let _ = Program::new(self, "ip").args(["-batch", "-"]).input(lines.as_bytes()).run().ok();
    }

    /// A program of the machine's, run here.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Program<'_> {
        Program::new(self, program)
    }

    /// GETs `/` from here, and returns the page.
    ///
    /// # Errors
    /// If there is no connection, or no page.
    pub fn get(&self, address: &str) -> Result<String, String> {
        let address: SocketAddr = address.parse().unwrap();
        self.inside(|| {
            let wait = patience() / 30;
            let mut stream = TcpStream::connect_timeout(&address, wait).map_err(|error| error.to_string())?;
            stream.set_read_timeout(Some(wait)).unwrap();
            let mut page = String::new();
            stream
                .write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                .and_then(|()| stream.read_to_string(&mut page))
                .map_err(|error| error.to_string())?;
            if page.starts_with("HTTP/1.1 200 ") { Ok(page) } else { Err(page) }
        })
    }
}

/// Removes what test programs have left that were killed: a directory and a cgroup for each of their hosts.
fn sweep() {
    for parent in [std::env::temp_dir(), cgroup2()] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
            if !Path::new("/proc").join(pid).exists() {
                remove_cgroups(&entry.path());
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Where cgroup2 is mounted.
pub(crate) fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let mount = mount.unwrap_or_else(|| panic!("the tests need cgroup2: mount -t cgroup2 none /sys/fs/cgroup"));
    mount.split(' ').nth(1).unwrap().into()
}

/// Makes the host's namespaces, on a thread that is given up to it, and starts its first process.
fn start_pid_1(their_network: &str) -> Child {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("the tests need root: unshare namespaces");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    Place::here()
        .unwrap()
        .ip(&format!("link set lo up\nlink add eth0 type veth peer name eth0 netns {their_network}\n"));
    unshare(CloneFlags::CLONE_NEWPID).unwrap();
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let mut shell = Command::new("sh");
    shell.args(["-c", PID_1]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut pid_1 = shell.spawn().expect("the tests need sh");
    let mut ready = [0; 6];
    pid_1.stdout.take().unwrap().read_exact(&mut ready).expect("PID 1 of a pretend host did not start");
    pid_1
}

/// Removes a cgroup with those below it, whose processes are dead or dying.
fn remove_cgroups(path: &Path) {
    if !path.join("cgroup.procs").exists() {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    for _ in 0..1000 {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => thread::sleep(Duration::from_millis(5)),
            _ => break,
        }
    }
}
