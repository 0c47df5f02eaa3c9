//! Builds the demo rootfs: a static nginx with a hello page, kontena-init, and next to nothing else. nginx's source is
//! the nginx-src crate's, which cargo fetches and checks, and which is never compiled as Rust. The tree is replaced as
//! a whole and only when something in it changes; the running demo never sees half a tree.

use crate::arch::Arch;
use crate::{
    dist, host, musl, setup,
    step::{spinner, step},
};
use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The whole tree stays below this.
const BUDGET: u64 = 1_000_000;

/// The modules that a page and its tests need: static files, index, autoindex, SSI, status, access log.
const CONFIGURE: &[&str] = &[
    "--prefix=/etc/nginx",
    "--sbin-path=/usr/sbin/nginx",
    "--conf-path=/etc/nginx/nginx.conf",
    "--pid-path=/run/nginx.pid",
    "--lock-path=/run/nginx.lock",
    "--error-log-path=stderr",
    "--http-log-path=/dev/stdout",
    "--http-client-body-temp-path=/tmp/client_body",
    "--with-http_stub_status_module",
    "--with-cc-opt=-Os -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables",
    "--with-ld-opt=-s -Wl,--gc-sections,--build-id=none,-z,noseparate-code",
];

/// A third of nginx, and half of the time to build it.
const WITHOUT: &str = "rewrite gzip charset userid auth_basic mirror geo map split_clients referer proxy fastcgi uwsgi \
    scgi grpc memcached limit_conn limit_req empty_gif browser upstream_hash upstream_ip_hash upstream_least_conn \
    upstream_random upstream_keepalive upstream_zone";

/// Small static binaries, for nginx's neighbour /bin/true and the benchmark's floor.
const CFLAGS: &[&str] =
    &["-Os", "-s", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none,-z,noseparate-code,-z,norelro"];

const DIRS: &[&str] =
    &["bin", "dev", "etc/nginx", "proc", "run", "sbin", "sys", "tmp", "usr/sbin", "var/www", "var/log"];
const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\n\
    nginx:x:101:101:nginx:/var/www:/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnginx:x:101:\nnogroup:x:65534:\n";

/// `cargo xtask rootfs`
pub fn rootfs(arch: &'static Arch) -> Result<ExitCode> {
    let rootfs = build(arch, &dist::small(arch)?)?;
    println!("{} is up to date: {} of at most {BUDGET} bytes", rootfs.display(), size(&rootfs)?);
    Ok(ExitCode::SUCCESS)
}

/// Brings the rootfs for `arch` up to date, with the kontena-init of the directory `pair`.
pub fn build(arch: &'static Arch, pair: &Path) -> Result<PathBuf> {
    let target = arch.dir();
    let (rootfs, stamp) = (target.join("rootfs"), target.join("rootfs.stamp"));
    let recipe = recipe(&[NGINX_SOURCES, TREE_SOURCES].concat())?;
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&recipe) || !rootfs.is_dir() {
        setup::setup(&[setup::ROOTFS])?;
        let new = target.join("rootfs.new");
        remove(&new)?;
        assemble(arch, &new, &nginx(arch)?)?;
        replace(&rootfs, &new)?;
        fs::write(&stamp, recipe)?;
    }
    refresh(&pair.join("kontena-init"), &rootfs.join("sbin/kontena-init"))?;
    let bytes = size(&rootfs)?;
    ensure!(bytes < BUDGET, "{} has {bytes} bytes: more than {BUDGET}", rootfs.display());
    Ok(rootfs)
}

/// Compiles one of our small C programs.
pub fn compile(arch: &'static Arch, source: &Path, program: &Path) -> Result<()> {
    let what = format!("compiling {}", source.file_name().unwrap_or_default().display());
    let [cc, options @ ..] = musl::cc(arch)?;
    step(&what, Command::new(cc).args(options).args(CFLAGS).arg("-o").arg(program).arg(source))
}

/// What decides how nginx is built, and how the rest of the tree looks.
const NGINX_SOURCES: [&str; 3] =
    ["xtask/Cargo.toml", "xtask/rootfs/hello/config", "xtask/rootfs/hello/ngx_http_hello_module.c"];
const TREE_SOURCES: [&str; 3] = ["xtask/rootfs/true.c", "xtask/rootfs/nginx.conf", "xtask/rootfs/index.html"];

/// These files, and this one, as a number which changes when they do.
fn recipe(files: &[&str]) -> Result<String> {
    let root = host::root();
    let mut hasher = DefaultHasher::new();
    include_str!("rootfs.rs").hash(&mut hasher);
    for file in files {
        fs::read(root.join(file)).with_context(|| (*file).to_owned())?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Builds nginx if its sources are new; returns the binary.
fn nginx(arch: &'static Arch) -> Result<PathBuf> {
    let recipe = recipe(&NGINX_SOURCES)?;
    let build = arch.dir().join("nginx");
    let (binary, stamp) = (build.join("objs/nginx"), build.join("stamp"));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(binary);
    }
    remove(&build)?;
    step("copying nginx's source", Command::new("cp").arg("-r").arg(nginx_source()?).arg(&build))?;
    let mut configure = Command::new("sh");
    configure.arg("auto/configure").args(CONFIGURE);
    configure.args(WITHOUT.split_whitespace().map(|module| format!("--without-http_{module}_module")));
    configure.arg(format!("--add-module={}", host::root().join("xtask/rootfs/hello").display()));
    // It would determine these by running small programs; they are the same on all: 64 bits, little-endian, and musl.
    let native = musl::cc(Arch::native()?)?.join(" ");
    step(
        "configuring nginx",
        configure.arg(format!("--crossbuild=Linux:5.15:{}", arch.name)).env("CC", native).current_dir(&build),
    )?;
    let jobs = std::thread::available_parallelism()?;
    let compiler = format!("CC={}", musl::cc(arch)?.join(" "));
    step("building nginx", Command::new("make").arg(format!("-j{jobs}")).arg(compiler).current_dir(&build))?;
    fs::write(stamp, recipe)?;
    Ok(binary)
}

/// The nginx/ tree in cargo's own checkout of nginx-src, which `cargo metadata` fetches when it is not there.
fn nginx_source() -> Result<PathBuf> {
    let mut cargo = host::cargo(["metadata", "--format-version=1", "--features=nginx-src"]);
    cargo.args(["--manifest-path=xtask/Cargo.toml", "--filter-platform", &host::gnu_target()]);
    let bar = spinner("fetching nginx's source");
    let output = cargo.output().context("cannot run cargo metadata")?;
    bar.finish_and_clear();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {}\n{complaint}", output.status);
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "nginx-src")
        .and_then(|package| package["manifest_path"].as_str());
    match manifest.and_then(|manifest| Path::new(manifest).parent()) {
        Some(source) => Ok(source.join("nginx")),
        None => bail!("cargo metadata does not know nginx-src"),
    }
}

/// Writes the whole tree, but kontena-init, into the empty `tree`.
fn assemble(arch: &'static Arch, tree: &Path, nginx: &Path) -> Result<()> {
    let sources = host::root().join("xtask/rootfs");
    for dir in DIRS {
        fs::create_dir_all(tree.join(dir))?;
    }
    // Other users than root (a worker of nginx) may read, but not write; /tmp is writable for all.
    fs::set_permissions(tree.join("tmp"), Permissions::from_mode(0o1777))?;
    fs::write(tree.join("etc/passwd"), PASSWD)?;
    fs::write(tree.join("etc/group"), GROUP)?;
    // nginx includes no mime.types: the few types of a page are in nginx.conf.
    fs::copy(sources.join("nginx.conf"), tree.join("etc/nginx/nginx.conf"))?;
    fs::copy(sources.join("index.html"), tree.join("var/www/index.html"))?;
    fs::copy(nginx, tree.join("usr/sbin/nginx"))?;
    compile(arch, &sources.join("true.c"), &tree.join("bin/true"))
}

/// Puts `new` in the place of `old`, which is whole at any moment, and removes the old tree.
pub fn replace(old: &Path, new: &Path) -> Result<()> {
    if old.exists() {
        renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE).context("cannot replace the rootfs")?;
        remove(new)
    } else {
        fs::rename(new, old).context("cannot put the rootfs into place")
    }
}

/// Copies `from` over `to` when they differ, in one move.
fn refresh(from: &Path, to: &Path) -> Result<()> {
    let wanted = fs::read(from).with_context(|| from.display().to_string())?;
    if fs::read(to).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    let new = to.with_extension("new");
    fs::copy(from, &new)?;
    fs::rename(&new, to).with_context(|| format!("cannot write {}", to.display()))
}

/// Removes a tree. nginx as root has left its temporary directories there, so this may need root, too.
pub fn remove(tree: &Path) -> Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", tree.display()))
        }
        _ => Ok(()),
    }
}

/// The bytes of all files below `dir`.
fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
