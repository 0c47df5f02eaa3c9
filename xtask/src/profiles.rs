//! `cargo xtask profiles`: builds each smaller kontena, and checks its claims in a network and a mount namespace of its
//! own: every `--net` that it has, a published port, and the errors for missing features.

use crate::arch::Arch;
use crate::dist::{self, PROFILES, Profile};
use crate::{bench, host, rootfs, run, setup, vm};
use anyhow::{Context, Result, ensure};
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Set in the namespaces.
const INSIDE: &str = "XTASK_PROFILES_INSIDE";

/// Time limit for the page.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 8080;

/// What a profile must refuse: the command line behind `kontena`, and the Cargo feature that it needs.
const REFUSED: [(&[&str], &str); 9] = [
    (&["run", "-p", "80", "/"], "net"),
    (&["run", "/"], "net"),
    (&["exec", "web", "true"], "background"),
    (&["run", "--net", "none", "-v", "data:/data", "/"], "background"),
    (&["run", "--net", "bridge=lan", "/"], "net"),
    (&["run", "--health-cmd", "true", "/"], "background"),
    (&["run", "--userns", "auto", "/"], "rootless"),
    (&["run", "--net", "none", "--bundle", "/", "web"], "oci"),
    (&["run", "--net", "none", "--security-opt", "seccomp=a.json", "/"], "seccomp"),
];

/// `cargo xtask profiles`
pub fn profiles() -> Result<ExitCode> {
    let arch = Arch::native()?;
    if env::var_os(INSIDE).is_some() {
        for profile in smaller() {
            check(&dist::profile_dir(arch, profile).join("kontena"), profile)?;
            println!("{}: ok", profile.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !host::prepared() {
        setup::setup(&[setup::ROOTFS])?;
        for profile in smaller() {
            rootfs::build(arch, &dist::small_profile(arch, profile)?)?;
        }
    }
    if !host::is_root() {
        return host::become_root(&["profiles".into()]);
    }
    let mut stage = bench::stage();
    stage.arg(env::current_exe()?).arg("profiles").env(INSIDE, "1");
    let status = stage.status().context("cannot run unshare")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In a machine whose kernel has all limits: this one may have none.
pub fn limits() -> Result<ExitCode> {
    let command = "kontena run --net none -m 64m --pids-limit 20 --cpus 0.5 /rootfs /bin/true";
    for profile in smaller() {
        let code = vm::vm(&vm::Vm::of_profile(profile, command))?;
        ensure!(code == ExitCode::SUCCESS, "{}: {command}", profile.name);
    }
    Ok(ExitCode::SUCCESS)
}

fn smaller() -> impl Iterator<Item = Profile> {
    PROFILES.into_iter().filter(|profile| profile.name != dist::FULL.name)
}

fn check(kontena: &Path, profile: Profile) -> Result<()> {
    let rootfs = Arch::native()?.dir().join("rootfs");
    for net in ["none", "host", "ns:/proc/self/ns/net"] {
        let status = Command::new(kontena).args(["run", "--net", net]).arg(&rootfs).arg("/bin/true").status()?;
        ensure!(status.success(), "{}: --net {net}: {status}", profile.name);
    }
    for (arguments, feature) in REFUSED.iter().filter(|(_, feature)| !profile.features.contains(feature)) {
        let output = Command::new(kontena).args(*arguments).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        let says_why = complaint.contains(&format!("this kontena was built without `{feature}`"));
        ensure!(output.status.code() == Some(125) && says_why, "{} {arguments:?}: {complaint}", profile.name);
    }
    if profile.features.contains("net") {
        let mut server = Command::new(kontena);
        // The root is that of all tests: nginx must leave nothing there.
        server.args(["run", "-p", &format!("{PORT}:80"), "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
        server.arg(&rootfs).arg("/usr/sbin/nginx").stdin(Stdio::null());
        publish(server.spawn().with_context(|| kontena.display().to_string())?)?;
        ensure!(Command::new(kontena).arg("prune").status()?.success(), "{}: prune", profile.name);
    }
    Ok(())
}

/// Waits for the page of a server, and ends it by a signal.
fn publish(mut server: Child) -> Result<()> {
    let start = Instant::now();
    while !run::answers(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))) {
        ensure!(server.try_wait()?.is_none(), "the server has ended");
        if start.elapsed() > PATIENCE {
            server.kill()?;
            anyhow::bail!("no page after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    run::forward(signal_hook::consts::SIGTERM, &server);
    let status = server.wait()?;
    ensure!(matches!(status.code(), Some(0 | 143)), "the server: {status}");
    Ok(())
}
