//! The memory of the runtime's processes while a container is idle: proportional set size and private dirty pages, as
//! the kernel counts them (proc_pid_smaps(5)). The payload, the same nginx for all, is not counted.

use super::{Scratch, oci_config, path};
use crate::arch::Arch;
use crate::{dist, host};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What one of them holds.
pub struct Held {
    name: &'static str,
    /// The processes, by their names.
    processes: Vec<String>,
    pss: u64,
    private_dirty: u64,
}

/// The program that is in every container, and is not counted.
const PAYLOAD: &str = "nginx";
/// How long a container is idle before it is measured.
const QUIET: Duration = Duration::from_millis(500);
/// How long it may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// All that can be started here, or kontena's.
pub fn held(scratch: &Scratch, of_kontena_alone: bool) -> Result<Vec<Held>> {
    let rootfs = path(&host::target_dir().join("rootfs"));
    let kontena = path(&dist::small_dir(Arch::native()?).join("kontena"));
    let parent = format!("{}/kontena", scratch.cgroup_name());
    let run = [&kontena, "run", "--cgroup-parent", &parent, "--name", "held", "--read-only", "--tmpfs", "/tmp"];
    let nginx = ["--tmpfs", "/run", "--net", "none", &rootfs, "/usr/sbin/nginx"];
    let bundle = scratch.dir.join("held");
    fs::create_dir(&bundle)?;
    let mut config = oci_config(&rootfs, &scratch.cgroup_name());
    config["process"]["args"] = json!(["/usr/sbin/nginx"]);
    config["root"]["readonly"] = json!(true);
    for (place, options) in [("/tmp", "mode=1777"), ("/run", "mode=755")] {
        let mount = json!({ "destination": place, "type": "tmpfs", "source": "tmpfs", "options": [options] });
        config["mounts"].as_array_mut().context("no mounts")?.push(mount);
    }
    // Its workers are of another user.
    let capabilities = ["CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_DAC_OVERRIDE"];
    config["process"]["capabilities"] =
        json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
    fs::write(bundle.join("config.json"), config.to_string())?;
    let bwrap = [
        "bwrap",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--cap-add",
        "ALL",
        "--ro-bind",
        &rootfs,
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ];
    let (store, state) = (path(&scratch.dir.join("store")), path(&scratch.dir.join("state")));
    let podman = ["podman", "--root", &store, "--runroot", &state, "--storage-driver", "vfs", "--runtime", "runc"];
    let podman = [&podman[..], &["--cgroup-manager", "cgroupfs"]].concat();
    let parent = scratch.cgroup_name();
    let podman_run =
        ["run", "-d", "--rm", "--name", "held", "--network", "none", "--pids-limit", "-1", "--cgroup-parent"];
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--tmpfs", "/tmp", "--tmpfs", "/run"];
    let tini = ["tini", "--", &format!("{rootfs}/usr/sbin/nginx"), "-c", &path(&own_config(scratch)?)];
    let all: [(&'static str, Vec<&str>, Vec<&str>); 6] = [
        ("kontena run", [&run[..], &nginx].concat(), Vec::new()),
        ("kontena run -d", [&run[..], &["-d", "--rm"], &nginx].concat(), vec![&kontena, "stop", "held"]),
        ("tini (no container)", tini.to_vec(), Vec::new()),
        ("bwrap", [&bwrap[..], &["--tmpfs", "/tmp", "--tmpfs", "/run", "/usr/sbin/nginx"]].concat(), Vec::new()),
        (
            "crun run",
            vec!["crun", "run", "--bundle", bundle.to_str().context("a path")?, "held"],
            vec!["crun", "delete", "-f", "held"],
        ),
        (
            "podman run -d",
            [&podman[..], &podman_run, &[&*parent], &limits, &["--rootfs", &rootfs, "/usr/sbin/nginx"]].concat(),
            [&podman[..], &["kill", "held"]].concat(),
        ),
    ];
    let mut rows = Vec::new();
    for (name, command, end) in all.into_iter().filter(|(name, ..)| !of_kontena_alone || name.starts_with("kontena")) {
        match measure(name, &command, &end) {
            Ok(held) => rows.push(held),
            Err(error) => eprintln!("- {name} is left out: {error:#}"),
        }
    }
    Ok(rows)
}

/// nginx's, for programs that run no container.
fn own_config(scratch: &Scratch) -> Result<std::path::PathBuf> {
    let (file, dir) = (scratch.dir.join("nginx.conf"), scratch.dir.display().to_string());
    let text = format!(
        "daemon off; pid {dir}/pid; error_log stderr; events {{}} http {{ access_log off; \
         client_body_temp_path {dir}/body; \
         server {{ listen unix:{dir}/socket; }} }}"
    );
    fs::write(&file, text)?;
    Ok(file)
}

fn measure(name: &'static str, command: &[&str], end: &[&str]) -> Result<Held> {
    let before = processes();
    let mut child = Command::new(command[0])
        .args(&command[1..])
        // It stands on the stack of each of them.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| command[0].to_owned())?;
    let start = Instant::now();
    let mut new = BTreeSet::new();
    let mut ended = None;
    while !new.iter().any(|pid| comm(*pid) == PAYLOAD) {
        // Those that go to the background end here, and with 0.
        ended = child.try_wait()?;
        ensure!(ended.is_none_or(|status| status.success()), "{command:?} has ended");
        ensure!(start.elapsed() < PATIENCE, "{command:?} does not come up");
        sleep(Duration::from_millis(20));
        new = processes().difference(&before).copied().collect();
    }
    sleep(QUIET);
    let Sum { processes: names, pss, private_dirty } = sum(&before);
    let held = Held { name, processes: names, pss, private_dirty };
    if let [program, arguments @ ..] = end {
        let _ = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    if ended.is_none() {
        // SIGTERM, which all of them pass on.
        let _ = Command::new("kill").arg(child.id().to_string()).status();
    }
    child.wait()?;
    while processes().difference(&before).any(|pid| comm(*pid) == PAYLOAD) && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20));
    }
    Ok(held)
}

/// What processes hold together.
#[derive(Default)]
struct Sum {
    processes: Vec<String>,
    pss: u64,
    private_dirty: u64,
}

/// All that are there beside those of `before`, except the payload.
fn sum(before: &BTreeSet<u32>) -> Sum {
    let mut sum = Sum::default();
    for pid in processes().difference(before).filter(|pid| comm(**pid) != PAYLOAD) {
        // The launcher of one in the background is a zombie until it is waited for.
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let field = |name: &str| -> u64 {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
        };
        if field("Rss") > 0 {
            sum.processes.push(comm(*pid));
            sum.pss += field("Pss");
            sum.private_dirty += field("Private_Dirty");
        }
    }
    sum
}

/// The proportional set size of all processes that are not in `before`, except the payload, in kilobytes; and their
/// names.
pub fn pss(before: &BTreeSet<u32>) -> (u64, Vec<String>) {
    let Sum { processes, pss, .. } = sum(before);
    (pss, processes)
}

/// The pids that are there.
pub fn processes() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// How much kontena's two processes may hold: kilobytes of PSS, and of private dirty memory.
const LIMITS: (u64, u64) = (150, 64);

/// Holds kontena to its limits, and says so.
pub fn within_limits(rows: &[Held]) -> bool {
    let mut within = true;
    for Held { name, pss, private_dirty, .. } in rows.iter().filter(|held| held.name.starts_with("kontena")) {
        let ok = *pss <= LIMITS.0 && *private_dirty <= LIMITS.1;
        within &= ok;
        let mark = if ok { "✓" } else { "✗" };
        let (most_pss, most_dirty) = LIMITS;
        eprintln!(
            "{mark} {name}: holds {pss} kB, at most {most_pss}, and {private_dirty} kB dirty, at most {most_dirty}"
        );
    }
    within && rows.iter().any(|held| held.name.starts_with("kontena"))
}

/// As people read it.
pub fn table(rows: &[Held]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut lines = vec![format!("\n{:28} {:>10} {:>14}  {}", "held while waiting, kB", "PSS", "private dirty", "by")];
    for Held { name, processes, pss, private_dirty } in rows {
        lines.push(format!("{name:28} {pss:>10} {private_dirty:>14}  {}", processes.join(", ")));
    }
    lines.join("\n")
}

/// As programs read it.
pub fn as_json(rows: &[Held]) -> Value {
    let row = |held: &Held| {
        json!({
            "name": held.name, "processes": held.processes, "pss_kb": held.pss, "private_dirty_kb": held.private_dirty,
        })
    };
    rows.iter().map(row).collect()
}
