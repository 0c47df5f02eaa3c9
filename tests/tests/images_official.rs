//! The official images, unchanged: each starts as its config says, serves, is stopped by its own signal, and has
//! its data when it is started again. `xtask/src/official.rs` rebuilds them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;
use tests::{Host, Program, patience, provided, wait_until};

/// What asks for a page.
const GET: &[u8] = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n";

/// A host with one official image, as one file, and a container of the image's name.
struct Official {
    host: Host,
    name: &'static str,
    file: PathBuf,
}

impl Official {
    fn new(name: &'static str) -> Self {
        let host = Host::new();
        let file = host.directory().join(name).with_extension("erofs");
        let source = format!("oci:{}:latest", provided("KONTENA_OFFICIAL").join(name).display());
        // Not on the host, whose programs are waited for no longer than for what kontena does.
        let mut image = Command::new(provided("KONTENA_IMAGE"));
        let made = image.args([&source, "-o"]).arg(&file).output().unwrap();
        assert!(made.status.success(), "{source}: {}", String::from_utf8_lossy(&made.stderr));
        Self { host, name, file }
    }

    /// `kontena ARGUMENTS`, with volumes of this host's.
    fn kontena(&self, arguments: &[&str]) -> Program<'_> {
        self.host.kontena().arg("--volumepath").arg(self.host.directory().join("volumes")).args(arguments)
    }

    /// `kontena run OPTIONS FILE COMMAND`
    fn run(&self, options: &[&str], command: &[&str]) -> Program<'_> {
        let parent = self.host.cgroup_parent_option();
        self.kontena(&["run", "--cgroup-parent", &parent]).args(options).arg(&self.file).args(command)
    }

    /// `kontena run -d -P --name NAME OPTIONS FILE COMMAND`
    #[track_caller]
    fn start(&self, options: &[&[&str]], command: &[&str]) {
        let options = [&["-d", "-P", "--name", self.name], &options.concat()[..]].concat();
        assert_eq!(self.run(&options, command).run().ok(), format!("{}\n", self.name));
    }

    /// What the container's own program prints.
    #[track_caller]
    fn exec(&self, command: &[&str]) -> String {
        self.kontena(&["exec", self.name]).args(command).run().ok()
    }

    /// What the list has of the container.
    #[track_caller]
    fn seen(&self) -> Value {
        self.host.list().into_iter().find(|seen| seen["name"] == *self.name).expect("the container in the list")
    }

    fn logs(&self) -> String {
        let outcome = self.kontena(&["logs", self.name]).run();
        outcome.stdout + &outcome.stderr
    }

    /// Repeats `attempt` while the container runs, until it returns a text with `wanted`.
    #[track_caller]
    fn wait_for(&self, wanted: &str, mut attempt: impl FnMut() -> String) {
        let mut last = String::new();
        let deadline = Instant::now() + patience() / 2;
        wait_until(wanted, || {
            let seen = self.seen();
            assert_eq!(seen["status"], "running", "{seen}\n{}\n{last}", self.logs());
            last = attempt();
            assert!(Instant::now() < deadline, "{seen}\n{}\n{last}", self.logs());
            last.contains(wanted)
        });
    }

    /// Waits until a command in the container prints `wanted`.
    #[track_caller]
    fn wait_for_exec(&self, wanted: &str, command: &[&str]) {
        self.wait_for(wanted, || self.kontena(&["exec", self.name]).args(command).run().stdout);
    }

    /// Waits until the only published port answers `request` by a text with `wanted`.
    #[track_caller]
    fn wait_for_answer(&self, wanted: &str, request: &[u8]) {
        let seen = self.seen();
        let port = seen["ports"][0].as_str().unwrap_or_else(|| panic!("no published port: {seen}"));
        // "*:49153->80/tcp"
        let (host, _) = port.split_once("->").unwrap();
        let address = format!("127.0.0.1:{}", host.rsplit(':').next().unwrap());
        self.wait_for(wanted, || {
            self.host.inside(|| answer(&address, request).unwrap_or_else(|error| error.to_string()))
        });
    }

    /// The file `path` of the container, as its processes see it.
    #[track_caller]
    fn file(&self, path: &str) -> String {
        let path = format!("/proc/{}/root{path}", self.seen()["pid"]);
        self.host.inside(|| fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// Stops the container well before it would be killed, and returns its exit status.
    #[track_caller]
    fn stop(&self) -> i32 {
        let _ = self.kontena(&["stop", "--time", "1000", self.name]).run().ok();
        self.kontena(&["wait", self.name]).run().stdout.trim().parse().unwrap()
    }

    /// Starts the container again, as it was.
    #[track_caller]
    fn start_again(&self) {
        let _ = self.kontena(&["start", self.name]).run().ok();
    }

    #[track_caller]
    fn delete(&self) {
        let _ = self.kontena(&["delete", self.name]).run().ok();
    }
}

/// What a server at `address` says to `request`, until it has no more to say.
fn answer(address: &str, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience() / 30))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    // A server that was told nonsense may reset the connection, after its answer.
    let end = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        let _ = end?;
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn official_nginx() {
    let web = Official::new("nginx");
    // Its documentation has these for a read-only root.
    let read_only: &[&str] = &["--read-only", "--tmpfs", "/run", "--tmpfs", "/var/cache/nginx"];
    for options in [&[], read_only] {
        web.start(&[options], &[]);
        web.wait_for_answer("Welcome to nginx!", GET);
        // What the layers have removed is gone, and what they have replaced is new.
        assert_eq!(web.exec(&["sh", "-c", "ls /etc/nginx; ls /etc/init.d"]), "conf.d\nmime.types\nnginx.conf\n");
        // Its logs are links to /dev/stdout and /dev/stderr.
        web.wait_for("\"GET / HTTP/1.0\" 200", || web.logs());
        assert!(web.logs().contains("start worker processes"), "{}", web.logs());
        assert_eq!(web.seen()["labels"]["maintainer"], "NGINX Docker Maintainers <docker-maint@nginx.com>");
        assert_eq!(web.exec(&["sh", "-c", "echo $NGINX_VERSION"]), "1.22.1\n");
        assert_eq!(web.stop(), 0, "{}", web.logs());
        web.start_again();
        web.wait_for_answer("Welcome to nginx!", GET);
        assert_eq!(web.stop(), 0, "{}", web.logs());
        web.delete();
    }
}

#[test]
fn official_nginx_has_configurations_of_templates() {
    let web = Official::new("nginx");
    let templates = web.host.directory().join("templates");
    fs::create_dir(&templates).unwrap();
    let site = "server { listen 80; location / { return 200 'for ${WHOM}, $uri'; } }";
    fs::write(templates.join("default.conf.template"), site).unwrap();
    let volume = format!("{}:/etc/nginx/templates:ro", templates.display());
    web.start(&[&["-v", &volume, "-e", "WHOM=all"]], &[]);
    web.wait_for_answer("for all, /", GET);
    assert_eq!(web.stop(), 0, "{}", web.logs());
}

#[test]
fn official_postgres() {
    let database = Official::new("postgres");
    let password: &[&str] = &["-e", "POSTGRES_PASSWORD=secret"];
    let read_only: &[&str] = &["--read-only", "--tmpfs", "/run/postgresql", "--tmpfs", "/tmp"];
    let url = "postgres://postgres:secret@127.0.0.1/postgres";
    let sql = |text: &str| database.exec(&["psql", "-At", url, "-c", text]);
    // By TCP: while it is set up, it listens only to its socket.
    let ready = || database.wait_for_exec("42\n", &["psql", "-At", url, "-c", "SELECT 6 * 7"]);

    database.start(&[password], &[]);
    ready();
    assert_eq!(sql("CREATE TABLE kept (value text)"), "CREATE TABLE\n");
    assert_eq!(sql("INSERT INTO kept VALUES ('across starts')"), "INSERT 0 1\n");
    assert_eq!(sql("SHOW lc_collate"), "en_US.utf8\n");
    // N: no TLS. What follows is no startup packet, and ends the connection.
    database.wait_for_answer("N", &[&[0, 0, 0, 8, 4, 210, 22, 47], GET].concat());
    // Parallel workers share memory in /dev/shm.
    let parallel = "SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; \
                    CREATE TABLE many AS SELECT generate_series(1, 100000) AS number; ANALYZE many; \
                    SELECT count(*) FROM many WHERE number % 2 = 0";
    assert!(sql(parallel).ends_with("50000\n"));
    assert_eq!(database.exec(&["stat", "-c", "%U %a", "/var/lib/postgresql/data"]), "postgres 700\n");
    assert_eq!(database.stop(), 0, "{}", database.logs());
    assert!(database.logs().contains("received fast shutdown request"), "SIGINT: {}", database.logs());

    database.start_again();
    ready();
    assert_eq!(sql("SELECT value FROM kept"), "across starts\n");
    // A new container of the name, on another root, has the same data.
    database.start(&[read_only, password, &["--replace"]], &[]);
    ready();
    assert_eq!(sql("SELECT value FROM kept"), "across starts\n");
    assert_eq!(database.stop(), 0, "{}", database.logs());
}

#[test]
fn official_postgres_has_secrets_and_init_scripts() {
    let database = Official::new("postgres");
    let scripts = database.host.directory().join("scripts");
    fs::create_dir(&scripts).unwrap();
    fs::write(scripts.join("1.sql"), "CREATE TABLE steps (name text); INSERT INTO steps VALUES ('sql');").unwrap();
    let script = scripts.join("2.sh");
    fs::write(&script, "#!/bin/sh\nexec psql -U shop -c \"INSERT INTO steps VALUES ('sh')\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let secret = database.host.directory().join("secret");
    fs::write(&secret, "from a file\n").unwrap();

    let line = database.run(&[], &[]).run().code(1);
    assert!(line.stderr.contains("POSTGRES_PASSWORD must say"), "{line}");
    let secret = format!("{}:/run/secrets/password:ro", secret.display());
    let scripts = format!("{}:/docker-entrypoint-initdb.d:ro", scripts.display());
    let options = [
        &["-v", &secret, "-e", "POSTGRES_PASSWORD_FILE=/run/secrets/password"],
        &["-v", &scripts, "-e", "POSTGRES_USER=shop"][..],
    ];
    database.start(&[&options.concat()], &["-c", "work_mem=5MB"]);
    let psql = ["psql", "-At", "postgres://shop:from%20a%20file@127.0.0.1/shop", "-c"];
    database
        .wait_for_exec("sh,sql\n", &[&psql[..], &["SELECT string_agg(name, ',' ORDER BY name) FROM steps"]].concat());
    assert_eq!(database.exec(&[&psql[..], &["SHOW work_mem"]].concat()), "5MB\n");
    assert_eq!(database.stop(), 0, "{}", database.logs());
}

#[test]
fn official_redis() {
    let store = Official::new("redis");
    store.start(&[], &[]);
    store.wait_for_answer("+PONG", b"PING\r\nQUIT\r\n");
    assert_eq!(store.exec(&["redis-cli", "set", "key", "kept across starts"]), "OK\n");
    assert_eq!(store.exec(&["redis-cli", "config", "get", "dir"]), "dir\n/data\n");
    assert_eq!(
        store.exec(&["sh", "-c", "pwd; stat -c %U /data; ls /etc/redis /etc/default 2> /dev/null; true"]),
        "/data\nredis\n/etc/default:\n"
    );
    assert_eq!(store.stop(), 0, "{}", store.logs());
    store.start_again();
    store.wait_for_answer("+PONG", b"PING\r\nQUIT\r\n");
    assert_eq!(store.exec(&["redis-cli", "get", "key"]), "kept across starts\n");
    // It writes to its volume alone.
    store.start(&[&["--read-only", "--replace"]], &[]);
    store.wait_for_answer("kept across starts", b"GET key\r\nQUIT\r\n");
    assert_eq!(store.stop(), 0, "{}", store.logs());
}

#[test]
fn official_mariadb() {
    let database = Official::new("mariadb");
    let password: &[&str] = &["-e", "MARIADB_ROOT_PASSWORD=secret"];
    let read_only: &[&str] = &["--read-only", "--tmpfs", "/run/mysqld:mode=1777", "--tmpfs", "/tmp"];
    let client = ["mariadb", "-N", "-h127.0.0.1", "-uroot", "-psecret", "-e"];
    let sql = |text: &str| database.exec(&[&client[..], &[text]].concat());
    let ready = || database.wait_for_exec("42\n", &[&client[..], &["SELECT 6 * 7"]].concat());

    database.start(&[password], &[]);
    ready();
    assert_eq!(sql("CREATE DATABASE shop; CREATE TABLE shop.kept (value TEXT)"), "");
    assert_eq!(sql("INSERT INTO shop.kept VALUES ('across starts')"), "");
    database.wait_for_answer("MariaDB", GET);
    database.wait_for("\"healthy\"", || database.seen()["health"].to_string());
    assert_eq!(database.seen()["labels"]["org.opencontainers.image.title"], "MariaDB Database");
    assert_eq!(database.stop(), 0, "{}", database.logs());

    database.start_again();
    ready();
    assert_eq!(sql("SELECT value FROM shop.kept"), "across starts\n");
    database.start(&[read_only, password, &["--replace"]], &[]);
    ready();
    assert_eq!(sql("SELECT value FROM shop.kept"), "across starts\n");
    assert_eq!(database.stop(), 0, "{}", database.logs());
}

#[test]
fn official_httpd() {
    let web = Official::new("httpd");
    for options in [&[][..], &["--read-only", "--tmpfs", "/usr/local/apache2/logs"]] {
        web.start(&[options], &[]);
        web.wait_for_answer("It works!", GET);
        // It writes its log to /proc/self/fd/1.
        web.wait_for("\"GET / HTTP/1.0\" 200", || web.logs());
        assert_eq!(web.exec(&["pwd"]), "/usr/local/apache2\n");
        assert_eq!(web.stop(), 0, "{}", web.logs());
        assert!(web.logs().contains("caught SIGWINCH"), "{}", web.logs());
        web.start_again();
        web.wait_for_answer("It works!", GET);
        assert_eq!(web.stop(), 0, "{}", web.logs());
        web.delete();
    }
}

#[test]
fn official_node() {
    let node = Official::new("node");
    // What is no program is an argument of node.
    assert_eq!(node.run(&[], &["-e", "console.log(6 * 7)"]).run().ok(), "42\n");
    assert_eq!(node.run(&["-u", "node"], &["node", "-p", "process.getuid()"]).run().ok(), "1000\n");
    assert_eq!(node.run(&["-i"], &[]).input(b"console.log(process.env.NODE_VERSION)").run().ok(), "18\n");
    let server = "require('http').createServer((_, answer) => answer.end('by node')).listen(3000)";
    for options in [&[][..], &["--read-only"]] {
        node.start(&[options, &["-p", "3000"]], &["-e", server]);
        node.wait_for_answer("by node", GET);
        assert_eq!(node.stop(), 143, "{}", node.logs());
        node.start_again();
        node.wait_for_answer("by node", GET);
        assert_eq!(node.stop(), 143, "{}", node.logs());
        node.delete();
    }
}

#[test]
fn official_python() {
    let python = Official::new("python");
    assert_eq!(python.run(&[], &["python", "-c", "import json, sqlite3, ssl; print(6 * 7)"]).run().ok(), "42\n");
    assert_eq!(python.run(&["-i"], &[]).input(b"print('by Cmd')").run().ok(), "by Cmd\n");
    for options in [&[][..], &["--read-only"]] {
        python.start(&[options, &["-p", "8000"]], &["python3", "-m", "http.server", "8000"]);
        python.wait_for_answer("Directory listing for /", GET);
        assert_eq!(python.stop(), 143, "{}", python.logs());
        python.start_again();
        python.wait_for_answer("Directory listing for /", GET);
        assert_eq!(python.stop(), 143, "{}", python.logs());
        python.delete();
    }
}

#[test]
fn official_alpine() {
    let alpine = Official::new("alpine");
    assert_eq!(alpine.run(&["-i"], &[]).input(b"echo $((6 * 7))").run().ok(), "42\n");
    let nobody = alpine.run(&["-u", "nobody"], &["sh", "-c", "id; echo told > /dev/stderr"]).run();
    assert_eq!(nobody.stderr, "told\n", "{nobody}");
    assert!(nobody.stdout.starts_with("uid=65534(nobody) gid=65534(nobody)"), "{nobody}");
    for (options, status) in [(&[][..], "kept\n"), (&["--read-only"], "")] {
        let script = "echo kept > /kept; cat /kept; exec sleep 600";
        alpine.start(&[options, &["-h", "board"]], &["sh", "-c", script]);
        assert_eq!(alpine.exec(&["hostname"]), "board\n");
        alpine.wait_for(status, || alpine.logs());
        assert_eq!(alpine.stop(), 143);
        alpine.start_again();
        assert_eq!(alpine.exec(&["sh", "-c", "echo $((6 * 7))"]), "42\n");
        assert_eq!(alpine.stop(), 143);
        alpine.delete();
    }
}

#[test]
fn official_distroless() {
    let app = Official::new("distroless");
    for options in [&[][..], &["--overlay"], &["--read-only"]] {
        app.start(&[options], &[]);
        app.wait_for_answer("distroless", GET);
        // The image has none of these.
        assert!(app.file("/etc/hosts").contains("distroless"), "{}", app.file("/etc/hosts"));
        let _ = app.file("/etc/resolv.conf");
        let status = app.file("/proc/2/status");
        assert!(status.contains("Uid:\t65532\t65532\t65532\t65532"), "{status}");
        assert!(app.kontena(&["exec", "distroless", "sh"]).run().code(127).stderr.contains("sh"));
        assert_eq!(app.stop(), 143, "{}", app.logs());
        app.start_again();
        app.wait_for_answer("distroless", GET);
        assert_eq!(app.stop(), 143, "{}", app.logs());
        app.delete();
    }
}
