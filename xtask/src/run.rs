//! `cargo xtask run`: from a bare checkout to the hello page in a browser. It builds what is missing, starts the demo
//! in the foreground, waits for its page, stays until kontena ends, and cleans up. It uses kontena only as a user does.

use crate::arch::Arch;
use crate::{demo_images, dist, host, rootfs, step::spinner};
use anyhow::{Context, Result, ensure};
use argh::FromArgs;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// set up, build, and serve the hello page at http://127.0.0.1:8080/
#[derive(FromArgs)]
#[argh(subcommand, name = "run")]
pub struct Run {
    /// where the page is served, [IP:]HOST:CONTAINER (default 127.0.0.1:8080:80; 8080:80 for all the network)
    #[argh(option, short = 'p', default = "\"127.0.0.1:8080:80\".into()")]
    publish: String,
    /// serve it from an image of the rootfs: erofs or squashfs (a directory)
    #[argh(option)]
    image: Option<String>,
}

/// Time limit for the page.
const PATIENCE: Duration = Duration::from_secs(30);

/// The page must contain this text: a 200 could come from another server.
const HEADING: &str = "<h1>Hello from kontena</h1>";

pub fn run(options: &Run) -> Result<ExitCode> {
    let address = address(&options.publish)?;
    let pair = if host::prepared() { dist::plain_dir()? } else { dist::plain()? };
    let arch = Arch::native()?;
    let mut rootfs = rootfs::build(arch, &pair)?;
    if let Some(kind) = &options.image {
        rootfs = demo_images::of_kind(arch, &rootfs, kind)?;
    }
    if !host::is_root() {
        let mut arguments = ["run", "--publish", &options.publish].map(String::from).to_vec();
        arguments.extend(options.image.iter().flat_map(|kind| ["--image".into(), kind.clone()]));
        return host::become_root(&arguments);
    }

    let kontena = pair.join("kontena");
    // From here on a Ctrl-C ends kontena first, and us when it has gone.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let start = Instant::now();
    let mut child = start_demo(&kontena, &rootfs, &options.publish)?;
    let bar = spinner("starting the container");
    let mut served = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        for signal in signals.pending() {
            forward(signal, &child);
        }
        if !served && answers(address) {
            served = true;
            bar.finish_and_clear();
            println!("Serving http://{address}/  (started in {} ms; Ctrl-C stops it)", start.elapsed().as_millis());
        }
        if !served && start.elapsed() > PATIENCE {
            eprintln!("xtask: http://{address}/ does not answer after {} s: stopping", PATIENCE.as_secs());
            forward(SIGTERM, &child);
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(if served { 100 } else { 2 }));
    };
    bar.finish_and_clear();

    let pruned = Command::new(&kontena).arg("prune").status().context("cannot run kontena prune")?;
    ensure!(pruned.success(), "kontena prune: {pruned}");
    Ok(exit_code(served, status))
}

/// Starts the demo as a user would: read-only, with little memory where this kernel can limit it.
fn start_demo(kontena: &Path, rootfs: &Path, publish: &str) -> Result<Child> {
    let mut command = Command::new(kontena);
    command.args(["run", "--name", "demo", "--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp", "-p", publish]);
    if host::controllers().contains("memory") {
        command.args(["-m", "64m"]);
    }
    command.arg(rootfs).arg("/usr/sbin/nginx").stdin(Stdio::null());
    command.spawn().with_context(|| format!("cannot run {}", kontena.display()))
}

/// The address of the page: the first two parts of [IP:]HOST:CONTAINER[/tcp].
fn address(publish: &str) -> Result<SocketAddr> {
    let host = publish.rsplit_once(':').map_or("", |(host, _)| host);
    let host = if host.contains(':') { host.to_owned() } else { format!("127.0.0.1:{host}") };
    host.replace("0.0.0.0:", "127.0.0.1:")
        .parse()
        .with_context(|| format!("--publish wants [IP:]HOST:CONTAINER, as in 127.0.0.1:8080:80, not {publish:?}"))
}

/// Whether our page is there.
pub fn answers(address: SocketAddr) -> bool {
    let page = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    };
    page().is_ok_and(|page| page.contains(" 200 OK") && page.contains(HEADING))
}

/// Passes a signal on. The terminal's Ctrl-C has reached kontena already; that it comes twice does no harm.
pub fn forward(signal: i32, child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
        // The only failure is that it has just ended, which the next look will see.
        let _ = kill_process(pid, signal);
    }
}

/// kontena's own status; but a server that was stopped by the user's signal has done its job.
fn exit_code(served: bool, status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(130 | 143) if served => ExitCode::SUCCESS,
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        None => ExitCode::FAILURE,
    }
}
