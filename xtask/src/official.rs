//! The official images, rebuilt for the tests as their Dockerfiles describe them: their layers, entrypoints and
//! configurations, on Debian's packages, since no registry can be relied upon. The packages are downloaded and read,
//! and never installed; what their scripts would do, and what the images do beyond, is here as data. The images' own
//! files are in xtask/official/.
//!
//! What they are made after: docker-library/{postgres,redis,httpd,node,python}, nginx/docker-nginx,
//! MariaDB/mariadb-docker, docker-library's alpine and GoogleContainerTools/distroless.

mod layout;

use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::step::{self, step};
use crate::{rootfs, setup};
use anyhow::{Context, Result};
use layout::{Blob, Layer};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Something in a layer, by its path.
type Made = (&'static str, What);

enum What {
    /// A mode, a uid and a gid.
    Directory(u32, u32, u32),
    File(&'static str),
    Program(&'static str),
    Link(&'static str),
    /// A whiteout of what the layers below have.
    Gone,
    /// An opaque directory.
    Empty,
}
use What::{Directory, Empty, File, Gone, Link, Program};

struct Image {
    name: &'static str,
    /// The packages of its first layer: all images of Debian share that.
    base: &'static [&'static str],
    packages: &'static [&'static str],
    /// A line of /etc/passwd; its group is the same.
    account: Option<&'static str>,
    /// The layer over that of the packages.
    changes: &'static [Made],
    /// The last layer.
    entrypoint: &'static [Made],
    /// The "config" of the image's configuration.
    config: &'static str,
}

/// What debian:bookworm-slim has, as far as images need it.
const SLIM: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "findutils",
    "gcc-12-base",
    "grep",
    "gzip",
    "hostname",
    "libacl1",
    "libattr1",
    "libaudit1",
    "libblkid1",
    "libbz2-1.0",
    "libc-bin",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcrypt1",
    "libgcc-s1",
    "libgcrypt20",
    "libgmp10",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libmount1",
    "libpam0g",
    "libpcre2-8-0",
    "libselinux1",
    "libsmartcols1",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libtinfo6",
    "libudev1",
    "libuuid1",
    "libzstd1",
    "sed",
    "tar",
    "util-linux",
    "zlib1g",
];

/// What no container of the tests reads. The images leave out documentation, too.
const UNWANTED: &[&str] = &[
    "usr/lib/postgresql/15/lib/bitcode",
    "usr/lib/postgresql/15/lib/llvmjit.so",
    "usr/lib/python3.11/test",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/libmvec.so.1",
    "usr/sbin/ldconfig",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/common-licenses",
    "usr/share/doc",
    "usr/share/gdb",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zoneinfo/right",
    "usr/bin/innochecksum",
    "usr/bin/mariadb-conv",
    "usr/bin/mariadb-plugin",
    "usr/bin/mariadb-tzinfo-to-sql",
    "usr/bin/mariadb-upgrade",
    "usr/bin/mariadb-waitpid",
    "usr/bin/perror",
    "usr/bin/replace",
    "usr/bin/resolve_stack_dump",
];

const IMAGES: &[Image] = &[
    Image {
        name: "nginx",
        base: SLIM,
        packages: &["gettext-base", "nginx", "nginx-common", "nginx-light"],
        account: Some("nginx:x:101:101:nginx user:/nonexistent:/bin/false"),
        changes: &[
            // All that Debian configures is replaced.
            ("etc/nginx", Empty),
            ("etc/nginx/conf.d", Directory(0o755, 0, 0)),
            ("etc/nginx/conf.d/default.conf", File(include_str!("../official/nginx/default.conf"))),
            ("etc/nginx/mime.types", File(include_str!("../official/nginx/mime.types"))),
            ("etc/nginx/nginx.conf", File(include_str!("../official/nginx/nginx.conf"))),
            ("etc/init.d/nginx", Gone),
            ("var/cache/nginx", Directory(0o755, 0, 0)),
            ("var/log/nginx/access.log", Link("/dev/stdout")),
            ("var/log/nginx/error.log", Link("/dev/stderr")),
            ("docker-entrypoint.d", Directory(0o755, 0, 0)),
        ],
        entrypoint: &[
            ("docker-entrypoint.sh", Program(include_str!("../official/nginx/docker-entrypoint.sh"))),
            (
                "docker-entrypoint.d/10-listen-on-ipv6-by-default.sh",
                Program(include_str!("../official/nginx/10-listen-on-ipv6-by-default.sh")),
            ),
            (
                "docker-entrypoint.d/20-envsubst-on-templates.sh",
                Program(include_str!("../official/nginx/20-envsubst-on-templates.sh")),
            ),
        ],
        config: r#"{"Env": ["NGINX_VERSION=1.22.1",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": ["/docker-entrypoint.sh"], "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT",
            "Labels": {"maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>"}}"#,
    },
    Image {
        name: "postgres",
        base: SLIM,
        packages: &[
            "gosu",
            "libbsd0",
            "libcom-err2",
            "libdb5.3",
            "libedit2",
            "libffi8",
            "libgnutls30",
            "libgssapi-krb5-2",
            "libhogweed6",
            "libicu72",
            "libidn2-0",
            "libk5crypto3",
            "libkeyutils1",
            "libkrb5-3",
            "libkrb5support0",
            "libldap-2.5-0",
            "libmd0",
            "libnettle8",
            "libp11-kit0",
            "libpq5",
            "libreadline8",
            "libsasl2-2",
            "libsasl2-modules-db",
            "libtasn1-6",
            "libunistring2",
            "libxml2",
            "postgresql-15",
            "postgresql-client-15",
            "tzdata",
        ],
        account: Some("postgres:x:999:999::/var/lib/postgresql:/bin/bash"),
        changes: &[
            ("usr/local/bin/gosu", Link("/usr/sbin/gosu")),
            ("usr/share/postgresql/15/postgresql.conf.sample", Link("../postgresql.conf.sample")),
            ("usr/share/postgresql/15/man", Gone),
            ("var/lib/postgresql", Empty),
            ("var/lib/postgresql", Directory(0o1777, 999, 999)),
            ("var/lib/postgresql/data", Directory(0o1777, 999, 999)),
            ("run/postgresql", Directory(0o3777, 999, 999)),
            ("docker-entrypoint-initdb.d", Directory(0o755, 0, 0)),
        ],
        entrypoint: &[(
            "usr/local/bin/docker-entrypoint.sh",
            Program(include_str!("../official/postgres/docker-entrypoint.sh")),
        )],
        config: r#"{"Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin",
            "LANG=en_US.utf8", "PG_MAJOR=15", "PGDATA=/var/lib/postgresql/data"],
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["postgres"], "ExposedPorts": {"5432/tcp": {}},
            "Volumes": {"/var/lib/postgresql/data": {}}, "StopSignal": "SIGINT"}"#,
    },
    Image {
        name: "redis",
        base: SLIM,
        packages: &["libatomic1", "libjemalloc2", "liblzf1", "redis-server", "redis-tools"],
        account: Some("redis:x:999:999::/nonexistent:/usr/sbin/nologin"),
        changes: &[("etc/redis", Gone), ("etc/default", Empty), ("data", Directory(0o755, 999, 999))],
        entrypoint: &[
            ("usr/local/bin/docker-entrypoint.sh", Program(include_str!("../official/redis/docker-entrypoint.sh"))),
            ("usr/local/bin/redis-server", Program(include_str!("../official/redis/redis-server"))),
        ],
        config: r#"{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["redis-server"], "ExposedPorts": {"6379/tcp": {}},
            "Volumes": {"/data": {}}, "WorkingDir": "/data"}"#,
    },
    Image {
        name: "mariadb",
        base: SLIM,
        packages: &[
            "gosu",
            "libaio1",
            "libbsd0",
            "libedit2",
            "libmariadb3",
            "libmd0",
            "libncurses6",
            "libnuma1",
            "liburing2",
            "mariadb-client-core",
            "mariadb-common",
            "mariadb-server-core",
            "mysql-common",
        ],
        account: Some("mysql:x:999:999::/home/mysql:/bin/sh"),
        changes: &[
            ("etc/mysql/my.cnf.fallback", Gone),
            ("etc/mysql/conf.d", Empty),
            ("etc/mysql/my.cnf", Link("mariadb.cnf")),
            ("etc/mysql/mariadb.conf.d/05-skipcache.cnf", File("[mariadb]\nhost-cache-size=0\nskip-name-resolve\n")),
            ("usr/local/bin/gosu", Link("/usr/sbin/gosu")),
            ("var/lib/mysql", Directory(0o755, 999, 999)),
            ("run/mysqld", Directory(0o1777, 999, 999)),
            ("docker-entrypoint-initdb.d", Directory(0o755, 0, 0)),
        ],
        entrypoint: &[
            ("usr/local/bin/docker-entrypoint.sh", Program(include_str!("../official/mariadb/docker-entrypoint.sh"))),
            ("usr/local/bin/healthcheck.sh", Program(include_str!("../official/mariadb/healthcheck.sh"))),
        ],
        // The check is the one that the image's documentation has for compose files; times are in nanoseconds.
        config: r#"{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["mariadbd"], "ExposedPorts": {"3306/tcp": {}},
            "Volumes": {"/var/lib/mysql": {}}, "Labels": {"org.opencontainers.image.title": "MariaDB Database",
            "org.opencontainers.image.authors": "MariaDB Community", "org.opencontainers.image.version": "10.11"},
            "Healthcheck": {"Test": ["CMD", "healthcheck.sh", "--connect"], "Interval": 1000000000,
            "Timeout": 5000000000, "StartPeriod": 60000000000, "Retries": 3}}"#,
    },
    Image {
        name: "httpd",
        base: SLIM,
        packages: &["apache2-bin", "libapr1", "libaprutil1", "libexpat1"],
        account: None,
        changes: &[
            ("usr/local/apache2", Directory(0o755, 0, 0)),
            ("usr/local/apache2/bin", Directory(0o755, 0, 0)),
            ("usr/local/apache2/bin/httpd", Program(include_str!("../official/httpd/httpd"))),
            ("usr/local/apache2/conf", Directory(0o755, 0, 0)),
            ("usr/local/apache2/conf/httpd.conf", File(include_str!("../official/httpd/httpd.conf"))),
            ("usr/local/apache2/conf/mime.types", File("text/html html\n")),
            ("usr/local/apache2/htdocs", Directory(0o755, 33, 33)),
            ("usr/local/apache2/htdocs/index.html", File("<html><body><h1>It works!</h1></body></html>\n")),
            ("usr/local/apache2/logs", Directory(0o755, 0, 0)),
            ("etc/skel", Gone),
            ("var/cache", Empty),
        ],
        entrypoint: &[("usr/local/bin/httpd-foreground", Program(include_str!("../official/httpd/httpd-foreground")))],
        config: r#"{"Env": ["PATH=/usr/local/apache2/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HTTPD_PREFIX=/usr/local/apache2", "HTTPD_VERSION=2.4"], "Cmd": ["httpd-foreground"],
            "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/usr/local/apache2", "StopSignal": "SIGWINCH"}"#,
    },
    Image {
        name: "node",
        base: SLIM,
        packages: &[
            "libbrotli1",
            "libc-ares2",
            "libicu72",
            "libnghttp2-14",
            "libnode108",
            "libuv1",
            "node-acorn",
            "node-busboy",
            "node-cjs-module-lexer",
            "node-undici",
            "node-xtend",
            "nodejs",
        ],
        account: Some("node:x:1000:1000::/home/node:/bin/bash"),
        changes: &[
            ("home/node", Directory(0o755, 1000, 1000)),
            ("usr/local/bin/node", Link("/usr/bin/node")),
            ("usr/local/bin/nodejs", Link("/usr/local/bin/node")),
            ("etc/skel", Gone),
            ("var/cache", Empty),
        ],
        entrypoint: &[(
            "usr/local/bin/docker-entrypoint.sh",
            Program(include_str!("../official/node/docker-entrypoint.sh")),
        )],
        config: r#"{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_VERSION=18"],
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["node"]}"#,
    },
    Image {
        name: "python",
        base: SLIM,
        packages: &[
            "libexpat1",
            "libffi8",
            "libpython3.11-minimal",
            "libpython3.11-stdlib",
            "libreadline8",
            "libsqlite3-0",
            "media-types",
            "python3.11-minimal",
        ],
        account: None,
        changes: &[
            ("usr/local/bin/python3", Link("/usr/bin/python3.11")),
            ("usr/local/bin/python", Link("python3")),
            ("usr/lib/python3.11/lib2to3", Gone),
            ("usr/lib/python3.11/pydoc_data", Empty),
        ],
        entrypoint: &[],
        config: r#"{"Env": ["PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8", "PYTHON_VERSION=3.11"], "Cmd": ["python3"]}"#,
    },
    Image {
        name: "alpine",
        base: &[],
        packages: &["busybox-static"],
        account: None,
        changes: &[
            ("bin", Directory(0o755, 0, 0)),
            ("bin/busybox", Link("../usr/bin/busybox")),
            ("bin/sh", Link("/bin/busybox")),
            ("bin/cat", Link("/bin/busybox")),
            ("bin/chown", Link("/bin/busybox")),
            ("bin/echo", Link("/bin/busybox")),
            ("bin/hostname", Link("/bin/busybox")),
            ("bin/id", Link("/bin/busybox")),
            ("bin/ls", Link("/bin/busybox")),
            ("bin/sleep", Link("/bin/busybox")),
            ("bin/su", Link("/bin/busybox")),
            ("bin/touch", Link("/bin/busybox")),
            ("dev", Directory(0o755, 0, 0)),
            ("etc", Directory(0o755, 0, 0)),
            ("etc/group", File("root:x:0:root\nnobody:x:65534:\n")),
            ("etc/os-release", File("NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.18.0\n")),
            ("etc/passwd", File("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")),
            ("proc", Directory(0o555, 0, 0)),
            ("root", Directory(0o700, 0, 0)),
            ("sys", Directory(0o555, 0, 0)),
            ("tmp", Directory(0o1777, 0, 0)),
            ("usr/share/initramfs-tools", Gone),
            ("var/empty", Directory(0o555, 0, 0)),
        ],
        entrypoint: &[],
        config: r#"{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]}"#,
    },
    // Without /dev, /proc, /sys, and without files that a container gets of its own.
    Image {
        name: "distroless",
        base: &["netbase", "tzdata"],
        packages: &["ca-certificates"],
        account: None,
        changes: &[
            ("etc/ca-certificates", Gone),
            ("usr/sbin", Empty),
            ("etc/group", File("root:x:0:\nnobody:x:65534:\ntty:x:5:\nstaff:x:50:\nnonroot:x:65532:\n")),
            ("etc/nsswitch.conf", File("hosts: files dns\n")),
            (
                "etc/passwd",
                File(
                    "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n\
                     nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
                ),
            ),
            ("home", Directory(0o755, 0, 0)),
            ("home/nonroot", Directory(0o700, 65532, 65532)),
            ("root", Directory(0o700, 0, 0)),
            ("tmp", Directory(0o1777, 0, 0)),
        ],
        entrypoint: &[("www", Directory(0o755, 0, 0)), ("www/index.html", File("<h1>distroless</h1>\n"))],
        config: r#"{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"], "User": "65532", "WorkingDir": "/home/nonroot",
            "Entrypoint": ["/httpd"], "Cmd": ["-f", "-p", "8080", "-h", "/www"], "ExposedPorts": {"8080/tcp": {}}}"#,
    },
];

/// `cargo xtask official`
pub fn official() -> Result<ExitCode> {
    println!("{} is up to date", build()?.display());
    Ok(ExitCode::SUCCESS)
}

/// Brings the layouts for this machine's architecture up to date, and returns their directory: each is in one of the
/// image's name.
pub fn build() -> Result<PathBuf> {
    let arch = Arch::native()?;
    let dir = arch.dir().join("official");
    let stamp = dir.join("stamp");
    let recipe = recipe();
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(dir);
    }
    rootfs::remove(&dir)?;
    let debs = Debs::download(arch, &dir.join("debs"))?;
    let (start, bar) = (Instant::now(), step::spinner("making the official images"));
    let mut slim = None;
    for image in IMAGES {
        image
            .write(arch, &debs, &dir.join(image.name), &mut slim)
            .with_context(|| format!("the image {}", image.name))?;
    }
    bar.finish_and_clear();
    step::done("making the official images", start);
    rootfs::remove(&debs.0)?;
    fs::write(stamp, recipe)?;
    Ok(dir)
}

/// All that decides what the images are.
fn recipe() -> String {
    let scripts = IMAGES.iter().flat_map(|image| image.changes.iter().chain(image.entrypoint));
    let texts = scripts.filter_map(|(_, what)| match what {
        File(text) | Program(text) => Some(*text),
        _ => None,
    });
    [include_str!("official.rs"), include_str!("official/layout.rs")].into_iter().chain(texts).collect()
}

/// A directory of Debian's packages.
struct Debs(PathBuf);

impl Debs {
    /// Downloads the packages of all images, and what makes locales.
    fn download(arch: &'static Arch, dir: &Path) -> Result<Self> {
        let mut packages: BTreeSet<&str> =
            IMAGES.iter().flat_map(|image| image.base.iter().chain(image.packages)).copied().collect();
        packages.extend(["busybox-static", "locales"]);
        let packages: Vec<&str> = packages.into_iter().collect();
        Apt::new(arch)?.download("the packages of official images", &packages, dir)?;
        Ok(Self(dir.into()))
    }

    /// The file of `package`: PACKAGE_VERSION_ARCHITECTURE.deb.
    fn file(&self, package: &str) -> Result<PathBuf> {
        let prefix = format!("{package}_");
        let mut names = fs::read_dir(&self.0)?.filter_map(|entry| Some(entry.ok()?.path()));
        names
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
            .with_context(|| format!("apt-get has not left {package} in {}", self.0.display()))
    }

    /// A layer of the files of `packages`.
    fn layer(&self, packages: &[&str]) -> Result<Layer> {
        let mut layer = Layer::default();
        for package in packages {
            let is_wanted = |path: &Path| !UNWANTED.iter().any(|prefix| path.starts_with(prefix));
            layer.package(&self.file(package)?, is_wanted)?;
        }
        Ok(layer)
    }

    /// The files of one package, in a directory.
    fn unpacked(&self, package: &str) -> Result<PathBuf> {
        let tree = self.0.join(package);
        if !tree.exists() {
            fs::create_dir_all(&tree)?;
            apt::unpack(&self.file(package)?, &tree)?;
        }
        Ok(tree)
    }
}

impl Image {
    /// Writes its layout into the new directory `dir`. `slim` is the layer that images of Debian share, once it is
    /// written, and the directory where it is.
    fn write(&self, arch: &Arch, debs: &Debs, dir: &Path, slim: &mut Option<(Blob, PathBuf)>) -> Result<()> {
        let blobs = dir.join("blobs");
        fs::create_dir_all(&blobs)?;
        let mut layers = Vec::new();
        if self.base == SLIM {
            let (blob, from) = match slim {
                Some(shared) => shared,
                None => slim.insert((self.slim(debs)?.write(&blobs)?, blobs.clone())),
            };
            blob.link(from, &blobs)?;
            layers.push(blob.clone());
        } else if !self.base.is_empty() {
            layers.push(debs.layer(self.base)?.write(&blobs)?);
        }
        let mut packages = debs.layer(self.packages)?;
        self.finish(debs, &mut packages)?;
        layers.push(packages.write(&blobs)?);
        layers.push(layer_of(self.changes).write(&blobs)?);
        if !self.entrypoint.is_empty() {
            let mut last = layer_of(self.entrypoint);
            if self.name == "distroless" {
                last.file("httpd", 0o755, fs::read(debs.unpacked("busybox-static")?.join("bin/busybox"))?);
            }
            layers.push(last.write(&blobs)?);
        }
        let config = serde_json::from_str(self.config).context("its configuration")?;
        layout::complete(dir, &layers, &config, arch.debian)
    }

    /// The first layer of images of Debian.
    fn slim(&self, debs: &Debs) -> Result<Layer> {
        let mut layer = debs.layer(self.base)?;
        for link in ["bin", "sbin", "lib", "lib64"] {
            layer.symlink(link, &format!("usr/{link}"));
        }
        let master = debs.unpacked("base-passwd")?.join("usr/share/base-passwd");
        for name in ["passwd", "group"] {
            layer.file(&format!("etc/{name}"), 0o644, fs::read(master.join(format!("{name}.master")))?);
        }
        layer.symlink("var/run", "/run");
        Ok(layer)
    }

    /// What the packages' scripts would do, and `RUN` of the image.
    fn finish(&self, debs: &Debs, layer: &mut Layer) -> Result<()> {
        if let Some(account) = self.account {
            let master = debs.unpacked("base-passwd")?.join("usr/share/base-passwd");
            let [name, _, uid, ..] = account.split(':').collect::<Vec<_>>()[..] else { anyhow::bail!("{account}") };
            for (file, line) in [("passwd", account), ("group", &format!("{name}:x:{uid}:"))] {
                let known = fs::read_to_string(master.join(format!("{file}.master")))?;
                layer.file(&format!("etc/{file}"), 0o644, format!("{known}{line}\n"));
            }
        }
        match self.name {
            "postgres" => {
                layer.tree("usr/lib/locale/en_US.utf8", &locale(&debs.unpacked("locales")?)?)?;
                let share = debs.unpacked("postgresql-15")?.join("usr/share/postgresql/15");
                let sample = fs::read_to_string(share.join("postgresql.conf.sample"))?;
                let sample = sample.replace("#listen_addresses = 'localhost'", "listen_addresses = '*'");
                layer.file("usr/share/postgresql/postgresql.conf.sample", 0o644, sample);
            }
            "distroless" => {
                let certificates = debs.unpacked("ca-certificates")?.join("usr/share/ca-certificates/mozilla");
                layer.file("etc/ssl/certs/ca-certificates.crt", 0o644, bundle(&certificates)?);
            }
            _ => (),
        }
        Ok(())
    }
}

/// The locale en_US.utf8, compiled from the tree of the package `locales`.
fn locale(tree: &Path) -> Result<PathBuf> {
    setup::setup(&[setup::LOCALES])?;
    let locale = tree.join("en_US.utf8");
    let mut command = Command::new("localedef");
    command.args(["--no-archive", "-i", "en_US", "-f", "UTF-8"]).arg(&locale);
    step("compiling a locale", command.env("I18NPATH", tree.join("usr/share/i18n")))?;
    Ok(locale)
}

/// All files of `directory`, one after the other: what update-ca-certificates(8) makes.
fn bundle(directory: &Path) -> Result<Vec<u8>> {
    let files: BTreeSet<PathBuf> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let mut all = Vec::new();
    for file in files {
        all.extend(fs::read(file)?);
    }
    Ok(all)
}

fn layer_of(made: &[Made]) -> Layer {
    let mut layer = Layer::default();
    for (path, what) in made {
        match what {
            Directory(mode, uid, gid) => layer.directory(path, *mode, (*uid, *gid)),
            File(text) => layer.file(path, 0o644, *text),
            Program(text) => layer.file(path, 0o755, *text),
            Link(target) => layer.symlink(path, target),
            Gone => layer.remove(path),
            Empty => layer.empty(path),
        }
    }
    layer
}
