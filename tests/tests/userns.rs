//! User namespaces: root's containers with ids of their own, and containers of ordinary users.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chown};
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::{env, thread};
use tests::traffic::bound;
use tests::{Container, HOST_ADDRESS, Host, NEIGHBOUR_ADDRESS, Program, Running, images, instruments, intruder};

/// Two containers' worth.
const SUBORDINATE: &str = "kontena:100000:131072\n";
/// An ordinary user.
const USER: u32 = 4711;

/// `kontena run OPTIONS` of the intruder, in a root whose file system has idmapped mounts on every kernel.
fn intrude<'a>(host: &'a Host, options: &[&str], arguments: &[&str]) -> Program<'a> {
    let volume = format!("{}:/run/intruder:ro", intruder().display());
    let options = [&["--net", "none", "-v", &volume], options].concat();
    host.run(&options, images().join("demo.erofs"), &["/run/intruder"]).args(arguments)
}

const MAP: &str = "/proc/self/uid_map";

/// The numbers of a uid_map.
fn map(text: &str) -> Vec<u32> {
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn auto_assigns_each_container_its_own_ids() {
    let host = Host::new();
    host.set_aside(SUBORDINATE);
    let mut running = Vec::new();
    let mut firsts = Vec::new();
    for name in ["a", "b"] {
        let options = ["--userns", "auto", "--name", name];
        let mut container = Container::new(&host, name, intrude(&host, &options, &["time", "4000000000"]).start());
        let init = container.init();
        let read = |file: &str| fs::read_to_string(format!("/proc/{init}/{file}")).unwrap();
        tests::wait_until("the map", || !read("uid_map").is_empty());
        let [inside, first, size] = map(&read("uid_map"))[..] else { panic!("{}", read("uid_map")) };
        assert_eq!((inside, size), (0, 65536));
        assert_eq!(map(&read("gid_map")), [0, first, 65536]);
        // Root inside is one of them outside.
        tests::wait_until("its ids", || {
            let status = read("status");
            let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).unwrap();
            uid.split('\t').all(|uid| uid == first.to_string())
        });
        firsts.push(first);
        running.push(container);
    }
    firsts.sort_unstable();
    assert_eq!(firsts, [100_000, 165_536]);
    let line = intrude(&host, &["--userns", "auto"], &["look", MAP]).run().refused(125);
    assert!(line.contains("/etc/subuid"), "{line}");
    drop(running);
    // A launcher that was killed gives its ids back to the next.
    let out = intrude(&host, &["--userns", "auto"], &["look", MAP]).run().ok();
    assert_eq!(map(&out)[2], 65536);
    assert_eq!(map(&intrude(&host, &[], &["look", MAP]).run().ok()), [0, 0, u32::MAX], "not unless it is asked for");
}

#[test]
fn unreserved_ids_are_an_error() {
    let host = Host::new();
    for lines in ["", "somebody:100000:65536\n", "kontena:1:x\n", "kontena:4294967295:65536\n", "kontena:100000:5\n"] {
        let host_with = Host::new();
        host_with.set_aside(lines);
        let line = intrude(&host_with, &["--userns", "auto"], &["look", MAP]).run().refused(125);
        assert!(line.contains("/etc/subuid"), "{lines:?}: {line}");
    }
    for text in
        ["", "no", "map=", "map=0:0", "map=0:0:0", "map=0:1:4294967295", "map=0:1:2:3", "map=a:b:c", "map=0:1:-1"]
    {
        let line = intrude(&host, &["--userns", text], &["look", MAP]).run().refused(125);
        assert!(line.contains("--userns"), "{text}: {line}");
    }
}

#[test]
fn files_of_the_root_belong_to_the_container() {
    let host = Host::new();
    host.set_aside(SUBORDINATE);
    for userns in ["auto", "map=0:300000:65536"] {
        let options = ["--userns", userns];
        let out = intrude(&host, &options, &["owner", "/etc/passwd", "/dev", "/dev/pts/ptmx", "/proc/self"]).run().ok();
        assert_eq!(out, "0:0\n0:0\n0:0\n0:0\n", "{userns}");
    }
    // A root that is given to the container's ids already is shown as it is.
    let rootfs = host.demo_copy("given");
    let _ = host.program("chown").args(["-R", "300000:300000"]).arg(&rootfs).run().ok();
    let volume = format!("{}:/run/intruder:ro", intruder().display());
    let options = ["--net", "none", "-v", &volume, "--userns", "map=0:300000:65536"];
    let program = host.run(&options, &rootfs, &["/run/intruder", "owner", "/etc/passwd"]);
    assert_eq!(program.run().ok(), "0:0\n");
}

#[test]
fn files_of_a_volume_belong_to_nobody_unless_idmapped() {
    let host = Host::new();
    let etc = instruments().join("etc");
    for (option, owner) in [("ro", "65534:65534\n"), ("ro,idmap", "0:0\n")] {
        let volume = format!("{}:/volume:{option}", etc.display());
        let options = ["--userns", "map=0:300000:65536", "-v", &volume];
        assert_eq!(intrude(&host, &options, &["owner", "/volume/passwd"]).run().ok(), owner, "{option}");
    }
    // Those that are given to the container have its ids, on the host or, with idmap, as they are seen in it.
    let given = host.directory().join("given");
    for (option, owner) in [("U", 300_000), ("U,idmap", 0)] {
        fs::write(&given, "").unwrap();
        let volume = format!("{}:/given:{option}", given.display());
        let options = ["--userns", "map=0:300000:65536", "-v", &volume];
        let outcome = intrude(&host, &options, &["owner", "/given"]).run();
        if outcome.stderr.contains("has no idmapped mounts on this kernel") {
            // A tmpfs has them since Linux 6.3.
            assert!(option == "U,idmap" && instruments() != Path::new("/"), "{outcome}");
            continue;
        }
        assert_eq!(outcome.ok(), "0:0\n", "{option}");
        let found = fs::metadata(&given).unwrap();
        assert_eq!((found.uid(), found.gid()), (owner, owner), "{option}");
    }
    let volume = format!("{}:/volume:idmap", etc.display());
    let line = intrude(&host, &["-v", &volume], &["look", MAP]).run().refused(125);
    assert!(line.contains("idmap") && line.contains("--userns"), "{line}");
}

#[test]
fn root_of_a_user_namespace_is_nobody_on_the_host() {
    let host = Host::new();
    let secret = host.directory().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let volume = format!("{}:/run/secret:ro", secret.display());
    let options = ["--userns", "map=0:300000:65536", "-v", &volume, "--cap-add", "ALL"];
    let _ = intrude(&host, &options, &["look", "/run/secret"]).run().code(1);
    assert_eq!(intrude(&host, &["-v", &volume], &["look", "/run/secret"]).run().ok(), "secret");
    for number in [nix::libc::SYS_settimeofday, nix::libc::SYS_init_module, nix::libc::SYS_swapon] {
        let out = intrude(&host, &options, &["call", &number.to_string(), "0", "0"]).run().ok();
        // Some kernels lack modules or swap.
        assert!(out.starts_with("EPERM") || out.starts_with("ENOSYS"), "{out}");
    }
}

#[test]
fn nginx_serves_from_a_user_namespace() {
    let host = Host::new();
    host.set_aside(SUBORDINATE);
    let options = ["--userns", "auto", "--name", "web", "-p", "8080:80", "--tmpfs", "/run", "--tmpfs", "/tmp"];
    let running = host.run(&options, images().join("demo.erofs"), &["/usr/sbin/nginx"]).start();
    let mut web = Container::new(&host, "web", running);
    tests::wait_until("the page", || {
        assert!(!web.has_ended(), "{}", web.stderr());
        host.get("127.0.0.1:8080").is_ok()
    });
    assert!(host.get("127.0.0.1:8080").unwrap().contains("Hello from kontena"));
    let _ = web.stop();
}

#[test]
fn forbidden_user_namespaces_are_reported_with_the_setting() {
    let host = Host::new();
    // In a user namespace of the test's own, whose limit is nobody else's.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let program = host.program("unshare").args(["-Ur", "sh", "-c", script, "sh"]).arg(tests::launcher());
    let program = program.arg("--root").arg(host.directory().join("own")).args(["run", "--net", "none", "--userns"]);
    let program = program.args(["map=0:0:1", "--cgroup-parent", &host.cgroup_parent_option()]);
    let line = program.arg(host.demo()).arg("/bin/true").run().refused(125);
    assert!(line.contains("user.max_user_namespaces is 0"), "{line}");
}

/// An ordinary user of a pretend host: where it has the pair, and its state.
struct User<'a> {
    host: &'a Host,
    bin: PathBuf,
}

impl<'a> User<'a> {
    fn new(host: &'a Host) -> Self {
        let bin = host.directory().join("bin");
        fs::create_dir(&bin).unwrap();
        // By another program: of a file that this one has open, a child of another test's could keep that until its
        // exec.
        let _ = host.program("cp").args([tests::launcher(), tests::init(), intruder()]).arg(&bin).run().ok();
        fs::create_dir(host.state()).unwrap();
        chown(&host.state(), Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
        Self { host, bin }
    }

    /// `kontena OPTIONS` by this user.
    fn kontena(&self) -> Program<'a> {
        let program = self.host.program(self.bin.join("kontena")).arg("--root").arg(self.host.state());
        program.with(|command| _ = command.uid(USER).gid(USER).env_remove("PATH"))
    }

    /// `kontena run --net NET OPTIONS` of a script in the Debian rootfs, with a PATH to find the network's program.
    fn connected(&self, net: &str, options: &[&str], script: &str) -> Program<'a> {
        let program = self.kontena().env("PATH", env::var_os("PATH").unwrap()).args(["run", "--net", net]);
        program.args(options).arg(self.host.debian()).args(["bash", "-c", script])
    }

    /// `kontena run OPTIONS` of the intruder in the demo rootfs.
    fn intrude(&self, options: &[&str], arguments: &[&str]) -> Program<'a> {
        let volume = format!("{}:/run/intruder:ro", self.bin.join("intruder").display());
        let program = self.kontena().arg("run").args(["--tmpfs", "/run", "-v", &volume]).args(options);
        program.arg(self.host.demo()).arg("/run/intruder").args(arguments)
    }
}

#[test]
fn ordinary_user_runs_a_container() {
    let host = Host::new();
    let user = User::new(&host);
    let before = host.snapshot();
    assert_eq!(map(&user.intrude(&[], &["look", MAP]).run().ok()), [0, USER, 1]);
    let status = user.intrude(&[], &["look", "/proc/self/status"]).run().ok();
    for line in
        ["Uid:\t0\t0\t0\t0", "Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t00000000800405fb", "CapInh:\t0000000000000000"]
    {
        assert!(status.lines().any(|known| known == line), "{line} in {status}");
    }
    let line = user.intrude(&["--userns", "host"], &["look", MAP]).run().refused(125);
    assert!(line.contains("only root can run without one") && line.contains("kontena spec --rootless"), "{line}");
    // Loopback alone, up.
    let links = user.intrude(&[], &["look", "/proc/net/dev"]).run().ok();
    assert_eq!(links.lines().count(), 3, "{links}");
    let loopback = user.intrude(&["-w", "/"], &["look", "/proc/net/if_inet6"]).run();
    assert!(loopback.stdout.contains("lo") || loopback.code == 1, "{loopback}");
    let _ =
        user.intrude(&["--net", "host", "--read-only"], &["look", "/sys/kernel/mm/transparent_hugepage/enabled"]).run();
    let _ = user.intrude(&["--net", "host"], &["owner", "/sys"]).run().ok();
    // Its own files, under a layer.
    let rootfs = host.demo_copy("rootfs");
    let program = user.kontena().args(["run", "--overlay"]).arg(&rootfs).arg("/bin/true");
    let _ = program.run().ok();
    fs::remove_dir_all(rootfs).unwrap();
    // Its exit status, and a mistake.
    let _ = user.kontena().arg("run").arg(host.demo()).arg("/nosuch").run().refused(127);
    // What the caller can do is in the error.
    let line = user.kontena().args(["run", "--tmpfs", "/out"]).arg(host.demo()).arg("/bin/true").run().refused(125);
    assert!(line.contains("/out: EACCES") && line.contains("use a rootfs of the caller's own"), "{line}");
    let line = user.kontena().args(["run", "-u", "33"]).arg(host.demo()).arg("/bin/true").run().refused(125);
    assert!(line.contains("NAME:100000:65536 in /etc/subuid"), "{line}");
    let line = user.kontena().args(["run", "-p", "80:80"]).arg(host.demo()).arg("/bin/true").run().refused(125);
    assert!(line.contains("net.ipv4.ip_unprivileged_port_start: use a higher one"), "{line}");
    let _ = user.kontena().arg("prune").run().ok();
    fs::create_dir_all(host.state()).unwrap();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn ordinary_user_keeps_their_id() {
    let host = Host::new();
    let user = User::new(&host);
    // Where setuid programs are what they are.
    let helpers = host.debian().join("helpers");
    let run = |options: &[&str], script: &str| {
        let program = user.kontena().env("PATH", &helpers).args(["run", "--userns", "keep-id"]).args(options);
        program.arg(host.debian()).args(["sh", "-c", script])
    };
    let line = run(&[], "true").run().refused(125);
    assert!(line.contains("--userns keep-id") && line.contains("/etc/subuid"), "{line}");
    host.inside(|| {
        fs::create_dir(&helpers).unwrap();
        for name in ["newuidmap", "newgidmap"] {
            fs::copy(host.debian().join("usr/bin").join(name), helpers.join(name)).unwrap();
            let setuid = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
            fs::set_permissions(helpers.join(name), setuid).unwrap();
        }
    });
    host.set_aside("tester:300000:65536\n");
    let passwd = host.directory().join("etc/passwd");
    let accounts = fs::read_to_string(&passwd).unwrap();
    fs::write(&passwd, format!("{accounts}tester:x:{USER}:{USER}::/:/bin/sh\n")).unwrap();

    // A directory of the user's, and a file of root's.
    let shared = host.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    chown(&shared, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
    let volume = format!("{}:/tmp", shared.display());
    let maps = format!("0 300000 {USER}\n{USER} {USER} 1\n{} {} {}\n", USER + 1, 300_000 + USER, 65536 - USER);
    let script = "id -u; id -g; touch /tmp/mine; stat -c %u:%g /tmp/mine; sort -n /proc/self/uid_map | tr -s ' ' | \
                  sed 's/^ //'";
    assert_eq!(run(&["-v", &volume], script).run().ok(), format!("{USER}\n{USER}\n{USER}:{USER}\n{maps}"));
    assert_eq!(fs::metadata(shared.join("mine")).unwrap().uid(), USER);
    // Others are subordinate ids.
    let script = "id -u; touch /tmp/theirs && chown 33 /tmp/theirs; id -u 2>&1";
    assert_eq!(run(&["-u", "root", "-v", &volume], script).run().ok(), "0\n0\n");
    assert_eq!(fs::metadata(shared.join("theirs")).unwrap().uid(), 300_033);
    // In the background: exec has the same user, and the launcher may still end it.
    let _ = run(&["-d", "--name", "job"], "exec sleep 1000").run().ok();
    assert_eq!(user.kontena().args(["exec", "job", "id", "-u"]).run().ok(), format!("{USER}\n"));
    let _ = user.kontena().args(["stop", "-t", "0", "job"]).run().ok();
    let _ = user.kontena().args(["delete", "job"]).run().ok();

    let of_root = host.run_in(host.directory().join("roots"), &["--userns", "keep-id"], &["/bin/true"]);
    let line = of_root.run().refused(125);
    assert!(line.contains("--userns keep-id") && line.contains("ordinary users"), "{line}");
}

#[test]
fn ordinary_user_unpacks_a_root_of_their_own() {
    let host = Host::new();
    let user = User::new(&host);
    let home = host.directory().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
    // With a device, which the user may not make.
    let script = "mknod dev/null c 1 3 && tar -cf ../rootfs.tar . && chmod 644 ../rootfs.tar";
    let rootfs = host.demo_copy("rootfs");
    let _ = host.program("sh").args(["-c", script]).with(|command| _ = command.current_dir(&rootfs)).run().ok();
    let usage = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/usage.md")).unwrap_or_default();
    let line = "mkdir rootfs && tar -xf rootfs.tar -C rootfs --exclude='dev/*'";
    // The virtual machine has no documents.
    assert!(usage.is_empty() || usage.contains(line), "docs/usage.md has another line");
    fs::rename(host.directory().join("rootfs.tar"), home.join("rootfs.tar")).unwrap();
    let program = host.program("sh").args(["-c", line]);
    let _ = program.with(|command| _ = command.uid(USER).gid(USER).current_dir(&home)).run().ok();
    // It is the user's: what is missing in it is made.
    let program = user.kontena().args(["run", "--tmpfs", "/out", "-v"]).arg(format!("{}:/in/a", home.display()));
    let _ = program.arg(home.join("rootfs")).arg("/bin/true").run().ok();
    assert!(home.join("rootfs/out").is_dir() && home.join("rootfs/in/a").is_dir());
}

#[test]
fn ordinary_user_gains_nothing() {
    let host = Host::new();
    let user = User::new(&host);
    let secret = host.directory().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let volume = format!("{}:/run/secret", secret.display());
    let _ = user.intrude(&["-v", &volume, "--cap-add", "ALL"], &["look", "/run/secret"]).run().code(1);
    let refused = [
        (&["--net", "bridge"][..], "root"),
        (&["--userns", "host"], "root"),
        (&["--userns", "map=0:0:1"], "_map"),
        (&["-u", "33"], "user namespace"),
        (&["--oom-score-adj", "-500"], "CAP_SYS_RESOURCE"),
        (&["-v", &format!("{}:/x:idmap", host.directory().display())], "idmap"),
    ];
    for (options, words) in refused {
        let line = user.intrude(options, &["look", MAP]).run().refused(125);
        assert!(line.contains(words), "{options:?}: {line}");
    }
    let line = user.kontena().args(["run"]).arg(images().join("demo.erofs")).run().refused(125);
    assert!(line.contains("root"), "{line}");
}

#[test]
fn ordinary_user_publishes_ports() {
    let host = Host::new();
    let user = User::new(&host);
    open_tun(&host);
    let before = host.snapshot();
    let conf = "daemon off; master_process off; user root; pid /tmp/pid; error_log stderr; events {}
        http { access_log off; client_body_temp_path /tmp/b; server { listen 80; location / { stub_status; } } }";
    fs::write(host.directory().join("conf"), conf).unwrap();
    let volume = format!("{}:/tmp/conf:ro", host.directory().join("conf").display());
    for net in ["none", "pasta", "slirp4netns"] {
        let options = ["run", "--net", net, "-p", "8080:80", "--tmpfs", "/tmp", "--tmpfs", "/run", "-v", &volume];
        let program = user.kontena().env("PATH", env::var_os("PATH").unwrap()).args(options);
        let mut running = program.arg(host.demo()).args(["/usr/sbin/nginx", "-c", "/tmp/conf"]).start();
        tests::wait_until("the page", || {
            assert!(!running.has_ended(), "{}", running.stderr());
            host.get("127.0.0.1:8080").is_ok()
        });
        assert!(host.neighbour.get(&format!("{HOST_ADDRESS}:8080")).is_ok());
        running.signal(Signal::SIGTERM);
        let _ = running.finish();
        assert!(host.get("127.0.0.1:8080").is_err());
    }
    fs::remove_file(host.directory().join("conf")).unwrap();
    let _ = user.kontena().arg("prune").run().ok();
    fs::create_dir_all(host.state()).unwrap();
    before.assert_restored(|| host.snapshot());
}

/// Programs that connect a container of an ordinary user.
const PROGRAMS: [&str; 2] = ["pasta", "slirp4netns"];

/// Makes the host's /dev/net/tun everybody's, as udev(7) does, and adds a default route.
fn open_tun(host: &Host) {
    let script = "mknod -m 666 \"$1\" c 10 200 && mount --bind \"$1\" /dev/net/tun";
    let _ = host.program("sh").args(["-c", script, "sh"]).arg(host.directory().join("tun")).run().ok();
    host.ip(&format!("route add default via {NEIGHBOUR_ADDRESS}\n"));
}

/// The processes of the host that connect containers, by their names.
fn helpers(host: &Host) -> Vec<String> {
    let all = host.says("sh", &["-c", "cat /proc/[0-9]*/comm 2> /dev/null || true"]);
    let is_one = |comm: &&str| ["pasta", "passt", "slirp4netns"].iter().any(|name| comm.starts_with(name));
    all.lines().filter(is_one).map(String::from).collect()
}

#[test]
fn ordinary_user_reaches_other_hosts_but_not_the_hosts_loopback() {
    let host = Host::new();
    let user = User::new(&host);
    open_tun(&host);
    let _ = host.debian();
    let before = host.snapshot();
    let listener = bound(&host.neighbour, || TcpListener::bind("0.0.0.0:7070"));
    drop(thread::spawn(move || {
        for client in listener.incoming() {
            let _ = client.and_then(|mut client| client.write_all(b"hello\n"));
        }
    }));
    let service = host.service("127.0.0.1:7071");
    assert!(host.get("127.0.0.1:7071").is_ok());
    let connect = |to: &str| format!("timeout 5 bash -c 'exec 3<> /dev/tcp/{to} && head -n 1 <&3'");
    for net in PROGRAMS {
        let own = format!("{NEIGHBOUR_ADDRESS}/7070");
        assert_eq!(user.connected(net, &[], &connect(&own)).run().ok(), "hello\n", "{net}");
        for to in ["127.0.0.1", "10.0.2.2", "10.0.2.3", NEIGHBOUR_ADDRESS, HOST_ADDRESS, "169.254.1.1"] {
            let outcome = user.connected(net, &[], &connect(&format!("{to}/7071"))).run();
            assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{net} {to}: {outcome}");
        }
        tests::wait_until("the end of the program", || helpers(&host).is_empty());
        // Without it, nothing is reached.
        assert_ne!(user.connected("none", &[], &connect(&own)).run().code, 0);
    }
    drop(service);
    let _ = user.kontena().arg("prune").run().ok();
    fs::create_dir_all(host.state()).unwrap();
    fs::remove_dir_all(host.directory().join("service")).unwrap();
    before.assert_restored(|| host.snapshot());
}

#[test]
fn program_of_an_ordinary_users_network_dies_with_its_launcher() {
    let host = Host::new();
    let user = User::new(&host);
    open_tun(&host);
    for net in PROGRAMS {
        let start = || -> Running {
            let mut running = user.connected(net, &["--name", "idle"], "echo begun; exec sleep 600").start();
            running.wait_for_output("begun\n");
            assert!(!helpers(&host).is_empty(), "{net}");
            running
        };
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            let running = start();
            running.signal(signal);
            let _ = running.finish();
            tests::wait_until("the end of the program", || helpers(&host).is_empty());
            let _ = user.kontena().arg("prune").run().ok();
            fs::create_dir_all(host.state()).unwrap();
            chown(&host.state(), Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
        }
    }
}

#[test]
fn missing_program_of_a_network_is_named() {
    let host = Host::new();
    let user = User::new(&host);
    let _ = host.debian();
    if Path::new("/usr/bin").exists() {
        host.inside(|| {
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("tmpfs"), "/usr/bin", Some("tmpfs"), flags, None::<&str>).unwrap();
        });
    }
    for (net, package) in [("pasta", "passt"), ("slirp4netns", "slirp4netns")] {
        let program = user.kontena().args(["run", "--net", net]).arg(host.demo()).arg("/bin/true");
        let line = program.run().refused(125);
        assert!(line.contains(package) && line.contains("--net none or host"), "{line}");
    }
    // Root has no use for them.
    let line = host.run(&["--net", "pasta"], host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("--net bridge"), "{line}");
}

#[test]
fn limits_of_an_ordinary_user_need_a_delegated_cgroup() {
    let host = Host::new();
    let user = User::new(&host);
    for options in [&["--pids-limit", "5"][..], &["--stats"], &["-m", "64m"]] {
        let line = user.intrude(options, &["look", MAP]).run().refused(125);
        assert!(line.contains("delegated"), "{options:?}: {line}");
    }
    // Without limits it needs no cgroup.
    let _ = user.intrude(&["--pids-limit", "-1"], &["look", MAP]).run().ok();
    // Delegated, as a service manager does: the directory and cgroup.procs are the user's.
    let delegated = host.cgroup().join("delegated");
    fs::create_dir(&delegated).unwrap();
    for name in ["", "cgroup.procs", "cgroup.subtree_control"] {
        chown(&delegated.join(name), Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
    }
    let volume = format!("{}:/run/intruder:ro", user.bin.join("intruder").display());
    let script = format!(
        "echo 0 > {}/cgroup.procs; exec setpriv --reuid={USER} --regid={USER} --clear-groups \"$@\"",
        delegated.display()
    );
    let program = host.program("sh").args(["-c", &script, "sh"]).arg(user.bin.join("kontena"));
    let program =
        program.arg("--root").arg(host.state()).args(["run", "--name", "leaf", "--tmpfs", "/run", "-v", &volume]);
    let running = program.arg(host.demo()).args(["/run/intruder", "time", "4000000000"]).start();
    let leaf = delegated.join("leaf");
    tests::wait_until("the leaf's two processes", || tests::leaf_processes(&leaf).len() == 2);
    running.signal(Signal::SIGTERM);
    let _ = running.finish().code(143);
    assert!(!leaf.exists());
}

#[test]
fn killed_launcher_of_an_ordinary_user_leaves_no_process() {
    let host = Host::new();
    let user = User::new(&host);
    let before = host.snapshot();
    let mut running = user.intrude(&["--name", "idle"], &["time", "4000000000"]).start();
    let alive = || {
        host.says("sh", &["-c", "cat /proc/[0-9]*/comm 2> /dev/null || true"])
            .lines()
            .filter(|comm| *comm == "intruder")
            .count()
    };
    tests::wait_until("the payload", || {
        assert!(!running.has_ended(), "{}", running.stderr());
        alive() == 1
    });
    running.signal(Signal::SIGKILL);
    tests::wait_until("its end", || alive() == 0);
    drop(running);
    let _ = user.kontena().arg("prune").run().ok();
    fs::create_dir_all(host.state()).unwrap();
    before.assert_restored(|| host.snapshot());
}
