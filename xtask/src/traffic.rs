//! `cargo xtask traffic`: the cost of a published port for a packet, and of many containers for a start, compared with
//! other ways to the same nginx. All in private namespaces: a host, and a neighbour on its LAN that sends the load.
//!
//! The same file is served in each row, by the same program and configuration. Rows are measured in turns, and the
//! median counts. `--write` puts the table and a plot of it into docs/.

use crate::arch::Arch;
use crate::bench::{self, Scratch};
use crate::step::{done, spinner};
use crate::{dist, host, rootfs, setup};
use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;
use plotters::prelude::*;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// measure published ports beside other ways to the same server
#[derive(FromArgs)]
#[argh(subcommand, name = "traffic")]
pub struct Traffic {
    /// how often each row is measured (default 3)
    #[argh(option, default = "3")]
    rounds: usize,

    /// seconds of load for each (default 3)
    #[argh(option, default = "3")]
    seconds: usize,

    /// how many containers there are in the second part (default 500)
    #[argh(option, default = "500")]
    containers: usize,

    /// write docs/traffic.md and docs/traffic.svg
    #[argh(switch)]
    write: bool,
}

const INSIDE: &str = "XTASK_TRAFFIC_INSIDE";
const HOST: &str = "192.0.2.1";
const NEIGHBOUR: &str = "192.0.2.2";
/// How long something may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// The paths to download.
const LARGE: u64 = 256 << 20;
/// How many connections there are at once.
const CONNECTIONS: &str = "64";
/// How many ports each of many containers publishes.
const PORTS: usize = 4;
/// How often a start is timed, and the time before each.
const STARTS: usize = 100;
const PACE: Duration = Duration::from_millis(50);
/// How long a crowd of containers is idle, until each of its launchers sleeps.
const QUIET: Duration = Duration::from_secs(5);

/// `cargo xtask traffic`
pub fn traffic(options: &Traffic) -> Result<ExitCode> {
    if env::var_os(INSIDE).is_some() {
        return measure_all(options);
    }
    setup::setup(&[setup::BENCH, setup::ROOTFS, setup::TRAFFIC])?;
    let arch = Arch::native()?;
    rootfs::build(arch, &dist::small(arch)?)?;
    rootfs::compile(arch, &host::root().join("xtask/bench/sleep.c"), &host::target_dir().join("sleep"))?;
    rootfs::compile(arch, &host::root().join("xtask/bench/floor.c"), &bench::floor())?;
    let mut stage = bench::stage();
    stage.arg(env::current_exe()?).arg("traffic").args(["--rounds", &options.rounds.to_string()]);
    stage.args(["--seconds", &options.seconds.to_string(), "--containers", &options.containers.to_string()]);
    stage.args(options.write.then_some("--write"));
    bench::name_scratch(&mut stage).env(INSIDE, "1");
    let status = stage.status().context("cannot run unshare")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// A way to the server, from where the load comes.
struct Way {
    name: &'static str,
    from_neighbour: bool,
    address: String,
}

/// The measurements of one way.
struct Row {
    name: &'static str,
    from_neighbour: bool,
    /// Requests a second over connections that stay, and the milliseconds that 99 % of them do not exceed.
    requests: f64,
    p99: f64,
    /// Requests a second, each with a connection of its own.
    connections: f64,
    /// Megabytes a second of one download.
    megabytes: f64,
}

/// Everything that runs for the measurement; dropped, it ends.
struct Stage {
    scratch: Scratch,
    kontena: String,
    neighbour: Child,
    servers: Vec<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = quiet(&self.podman()).args(["kill", "--all"]).status();
        for server in self.servers.iter_mut().chain([&mut self.neighbour]) {
            let _ = Command::new("kill").arg(server.id().to_string()).status();
            let _ = server.wait();
        }
        let names = Command::new(&self.kontena).args(["list", "-q"]).output();
        let names = names.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let _ = quiet(&[&self.kontena, "delete", "-f"]).args(names.lines()).status();
        let _ = quiet(&[&self.kontena, "prune"]).status();
    }
}

fn quiet(command: &[&str]) -> Command {
    let (program, arguments) = command.split_first().unwrap_or((&"true", &[]));
    let mut quiet = Command::new(program);
    quiet.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet
}

impl Stage {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let kontena = dist::small_dir(Arch::native()?).join("kontena").display().to_string();
        let neighbour = Command::new("unshare").args(["--net", "sleep", "infinity"]).stdin(Stdio::null()).spawn()?;
        let stage = Self { scratch, kontena, neighbour, servers: Vec::new() };
        let peer = stage.neighbour.id().to_string();
        // unshare(1) has not done it yet.
        let own = fs::read_link("/proc/self/ns/net")?;
        wait_for("the neighbour", || Ok(fs::read_link(format!("/proc/{peer}/ns/net"))? != own))?;
        run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &peer])?;
        run("ip", &["addr", "add", &format!("{HOST}/24"), "dev", "eth0"])?;
        run("ip", &["link", "set", "eth0", "up"])?;
        let inside = ["nsenter", "--net", "--target", &peer, "ip"];
        for words in [["link", "set", "lo", "up", ""], ["link", "set", "eth0", "up", ""]] {
            run(inside[0], &[&inside[1..], &words[..4]].concat())?;
        }
        run(inside[0], &[&inside[1..], &["addr", "add", &format!("{NEIGHBOUR}/24"), "dev", "eth0"]].concat())?;
        Ok(stage)
    }

    /// The directory of the served files and the configuration: the same path everywhere.
    fn directory(&self) -> String {
        self.scratch.dir.join("served").display().to_string()
    }

    fn podman(&self) -> Vec<&str> {
        vec![
            "podman",
            "--root",
            "/run/store",
            "--runroot",
            "/run/runroot",
            "--storage-driver",
            "vfs",
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
        ]
    }

    /// A way of running wrk or curl from where the load comes.
    fn from(&self, from_neighbour: bool, program: &str) -> Command {
        if from_neighbour {
            let mut command = Command::new("nsenter");
            command.args(["--net", "--target", &self.neighbour.id().to_string(), program]);
            return command;
        }
        Command::new(program)
    }

    /// Starts the server in all ways that there are here.
    fn serve(&mut self) -> Result<Vec<Way>> {
        let directory = self.directory();
        // A copy: the directory that is served becomes a mountpoint in it.
        let rootfs = self.scratch.dir.join("rootfs").display().to_string();
        run("cp", &["-a", &host::target_dir().join("rootfs").display().to_string(), &rootfs])?;
        fs::create_dir_all(&directory)?;
        let large = fs::File::create(format!("{directory}/large"))?;
        large.set_len(LARGE)?;
        fs::write(format!("{directory}/small"), "x".repeat(1024))?;
        for (name, port) in [("container", 80), ("host", 9000)] {
            let conf = format!(
                "daemon off; user root; worker_processes 1; pid {directory}/{name}.pid; error_log stderr; \
                 events {{ worker_connections 4096; }} http {{ access_log off; sendfile on; \
                 keepalive_requests 1000000000; \
                 client_body_temp_path {directory}/body; server {{ listen {port} backlog=4096; root {directory}; }} }}"
            );
            fs::write(format!("{directory}/{name}.conf"), conf)?;
        }
        let nginx = format!("{rootfs}/usr/sbin/nginx");
        let host = Command::new(nginx).args(["-c", &format!("{directory}/host.conf")]).stdin(Stdio::null()).spawn()?;
        self.servers.push(host);

        let (volume, conf) = (format!("{directory}:{directory}"), format!("{directory}/container.conf"));
        let parent = format!("{}/kontena", self.scratch.cgroup_name());
        let command = [&*rootfs, "/usr/sbin/nginx", "-c", &conf];
        let start = |name: &str, options: &[&str]| {
            let run = ["run", "-d", "--wait-ready", "--cgroup-parent", &parent, "-v", &volume, "--name", name];
            run_program(&self.kontena, &[&run, options, &command[..]].concat())
        };
        start("nft", &["-p", "8080:80"])?;
        start("relay", &["-p", "8081:80", "--publish-via", "relay"])?;
        let address = self.address_of("nft")?;
        let mut ways = vec![
            Way { name: "nginx on the host", from_neighbour: true, address: format!("{HOST}:9000") },
            Way { name: "kontena, published", from_neighbour: true, address: format!("{HOST}:8080") },
            Way { name: "kontena, relayed", from_neighbour: true, address: format!("{HOST}:8081") },
            Way { name: "nginx on the host", from_neighbour: false, address: format!("{HOST}:9000") },
            Way { name: "the container's own address", from_neighbour: false, address: format!("{address}:80") },
            Way { name: "kontena, published", from_neighbour: false, address: format!("{HOST}:8080") },
            Way { name: "kontena, relayed", from_neighbour: false, address: format!("{HOST}:8081") },
        ];
        match self.serve_by_podman(&rootfs, &volume, &conf) {
            Ok(()) => {
                ways.insert(
                    3,
                    Way { name: "podman, published", from_neighbour: true, address: format!("{HOST}:8082") },
                );
                ways.push(Way { name: "podman, published", from_neighbour: false, address: format!("{HOST}:8082") });
            }
            Err(error) => eprintln!("- podman is left out: {error:#}"),
        }
        for way in &ways {
            let url = format!("http://{}/small", way.address);
            wait_for(way.name, || {
                let mut curl = self.from(way.from_neighbour, "curl");
                Ok(curl.args(["-sf", "-o", "/dev/null", &url]).status()?.success())
            })?;
        }
        Ok(ways)
    }

    fn serve_by_podman(&self, rootfs: &str, volume: &str, conf: &str) -> Result<()> {
        let podman = self.podman();
        let parent = self.scratch.cgroup_name();
        let run = ["run", "-d", "--rm", "--name", "served", "--pids-limit", "-1", "--cgroup-parent", &parent];
        let options = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "-v", volume, "-p", "8082:80"];
        let command = ["--rootfs", rootfs, "/usr/sbin/nginx", "-c", conf];
        run_program(podman[0], &[&podman[1..], &run, &options, &command].concat())
    }

    fn address_of(&self, name: &str) -> Result<String> {
        let output = Command::new(&self.kontena).args(["inspect", name]).output()?;
        let seen: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(seen[0]["addresses"][0].as_str().context("no address")?.to_owned())
    }

    /// wrk's requests a second, and the milliseconds of 99 %.
    fn load(&self, way: &Way, seconds: usize, headers: &[&str]) -> Result<(f64, f64)> {
        let url = format!("http://{}/small", way.address);
        let mut wrk = self.from(way.from_neighbour, "wrk");
        wrk.args(["-t", "1", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), "--latency"]);
        wrk.args(headers.iter().flat_map(|header| ["-H", header])).arg(url);
        let output = wrk.output().context("cannot run wrk")?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(!text.contains("Non-2xx") && output.status.success(), "{}: {text}", way.name);
        let field = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
        let latency = field("99%").context("wrk's 99 %")?;
        let unit = latency.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let factor = match unit {
            "us" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            _ => bail!("{latency}?"),
        };
        let latency: f64 = latency.trim_end_matches(unit).parse()?;
        Ok((field("Requests/sec:").context("wrk's requests")?.parse()?, latency * factor))
    }

    fn download(&self, way: &Way) -> Result<f64> {
        let url = format!("http://{}/large", way.address);
        let mut curl = self.from(way.from_neighbour, "curl");
        let output = curl.args(["-sf", "-o", "/dev/null", "-w", "%{speed_download}", &url]).output()?;
        ensure!(output.status.success(), "curl {url}: {}", output.status);
        Ok(String::from_utf8(output.stdout)?.parse::<f64>()? / 1e6)
    }

    /// Milliseconds of starts and stops of /bin/true, one each 50 ms, medians: with a published port, and the floor's.
    fn time_starts(&self) -> Result<[f64; 2]> {
        let rootfs = host::target_dir().join("rootfs").display().to_string();
        let parent = format!("{}/kontena", self.scratch.cgroup_name());
        let (floor, leaf) =
            (bench::floor().display().to_string(), self.scratch.cgroup.join("floor").display().to_string());
        let port = [&*self.kontena, "run", "--cgroup-parent", &parent, "-p", "7999:80", &rootfs, "/bin/true"];
        let floor = [&*floor, &rootfs, &leaf, "/bin/true"];
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..STARTS + 5 {
            for (command, times) in [&port[..], &floor].into_iter().zip(&mut times) {
                sleep(PACE);
                let start = Instant::now();
                let status = quiet(command).status()?;
                ensure!(status.success(), "{}: {status}", command.join(" "));
                if round >= 5 {
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        Ok(times.map(median))
    }

    /// Starts containers that only are there, each with a few ports.
    fn crowd(&self, count: usize) -> Result<()> {
        let rootfs = self.scratch.dir.join("crowd");
        for name in ["dev", "proc", "sys", "etc"] {
            fs::create_dir_all(rootfs.join(name))?;
        }
        fs::copy(host::target_dir().join("sleep"), rootfs.join("sleep"))?;
        let (rootfs, parent) = (rootfs.display().to_string(), format!("{}/kontena", self.scratch.cgroup_name()));
        for number in 0..count {
            let first = 10_000 + number * PORTS;
            let last = first + PORTS - 1;
            let (name, ports) = (format!("crowd{number}"), format!("{first}-{last}:{first}-{last}"));
            let run = ["run", "-d", "--log-driver", "none", "--cgroup-parent", &parent, "--name", &name, "-p", &ports];
            run_program(&self.kontena, &[&run[..], &[&rootfs, "/sleep"]].concat())?;
        }
        Ok(())
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_program(program, arguments)
}

fn run_program(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().context(program.to_owned())?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn measure_all(options: &Traffic) -> Result<ExitCode> {
    let mut stage = Stage::new()?;
    let ways = stage.serve()?;
    let start = Instant::now();
    let bar = spinner("measuring the ways");
    let mut all: Vec<[Vec<f64>; 4]> = ways.iter().map(|_| Default::default()).collect();
    for _ in 0..options.rounds {
        for (way, values) in ways.iter().zip(&mut all) {
            bar.set_message(way.name);
            let (requests, p99) = stage.load(way, options.seconds, &[])?;
            let (connections, _) = stage.load(way, options.seconds, &["Connection: close"])?;
            let megabytes = stage.download(way)?;
            for (values, value) in values.iter_mut().zip([requests, p99, connections, megabytes]) {
                values.push(value);
            }
        }
    }
    bar.finish_and_clear();
    done("measuring the ways", start);
    let rows = ways.iter().zip(all).map(|(way, values)| {
        let [requests, p99, connections, megabytes] = values.map(median);
        Row { name: way.name, from_neighbour: way.from_neighbour, requests, p99, connections, megabytes }
    });
    let rows: Vec<Row> = rows.collect();

    let start = Instant::now();
    let bar = spinner("measuring with many containers");
    let published = ways.iter().find(|way| way.name == "kontena, published").context("the published port")?;
    let load = |stage: &Stage| -> Result<f64> {
        let rounds = (0..options.rounds).map(|_| Ok(stage.load(published, options.seconds, &[])?.0));
        Ok(median(rounds.collect::<Result<_>>()?))
    };
    let few = (stage.time_starts()?, load(&stage)?);
    // The kernel itself looks at every process of the machine; pivot_root(2).
    let others = Others::start(3 * options.containers)?;
    let beside_others = stage.time_starts()?;
    drop(others);
    stage.crowd(options.containers)?;
    sleep(QUIET);
    let many = (stage.time_starts()?, load(&stage)?);
    bar.finish_and_clear();
    done("measuring with many containers", start);

    let text = format!("{}\n{}", table(&rows), crowd_table(options.containers, few, beside_others, many));
    println!("{text}");
    if options.write {
        let docs = host::root().join("docs");
        fs::write(docs.join("traffic.md"), page(&text))?;
        plot(&rows, &docs.join("traffic.svg"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for from_neighbour in [true, false] {
        let from = if from_neighbour { "from the neighbour" } else { "from the host itself" };
        let _ = writeln!(text, "\n| {from} | requests/s | p99, ms | connections/s | MB/s |\n|---|---:|---:|---:|---:|");
        for row in rows.iter().filter(|row| row.from_neighbour == from_neighbour) {
            let Row { name, requests, p99, connections, megabytes, .. } = row;
            let _ = writeln!(text, "| {name} | {requests:.0} | {p99:.2} | {connections:.0} | {megabytes:.0} |");
        }
    }
    text
}

fn crowd_table(containers: usize, few: ([f64; 2], f64), beside_others: [f64; 2], many: ([f64; 2], f64)) -> String {
    let (ports, others) = (containers * PORTS, 3 * containers);
    let mut text = format!(
        "| | few containers | and {others} other processes | {containers} more containers, {ports} ports |\n\
         |---|---:|---:|---:|\n"
    );
    for (place, what) in
        ["a start and stop with a bridge and a port", "the floor of `cargo xtask bench`"].iter().enumerate()
    {
        let [few, beside_others, many] = [few.0, beside_others, many.0].map(|times| times[place]);
        let (others, containers) = (beside_others / few, many / few);
        let _ = writeln!(
            text,
            "| {what}, ms | {few:.2} | {beside_others:.2} ({others:.2} ×) | {many:.2} ({containers:.2} ×) |"
        );
    }
    let _ = writeln!(
        text,
        "| requests/s over a published port | {:.0} | | {:.0} ({:.2} ×) |",
        few.1,
        many.1,
        many.1 / few.1
    );
    text
}

/// Processes that only are there; dropped, they are gone.
struct Others(Vec<Child>);

impl Others {
    fn start(count: usize) -> Result<Self> {
        let program = host::target_dir().join("sleep").display().to_string();
        let mut all = Self(Vec::new());
        for _ in 0..count {
            all.0.push(quiet(&[&program]).spawn()?);
        }
        sleep(QUIET);
        Ok(all)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn page(tables: &str) -> String {
    format!(
        "# The cost of a published port\n\n\
         Written by `cargo xtask traffic --write`. One nginx (one worker, the same program, configuration and files in \
         every row)\nserves a file of 1 kB to wrk, over {CONNECTIONS} persistent connections or over a new one for \
         each request, and a file of {} MB\nto curl. Client, host and server share the cores, so each row pays for \
         its own overhead. Medians; the rows take turns.\ndocs/network.md says what the figures mean.\n{tables}\n\
         ![Requests a second](traffic.svg)\n",
        LARGE >> 20
    )
}

/// Requests a second, two bars for each row.
fn plot(rows: &[Row], path: &Path) -> Result<()> {
    let most = rows.iter().map(|row| row.requests.max(row.connections)).fold(0.0, f64::max) * 1.05;
    let area = SVGBackend::new(path, (900, 70 + 46 * rows.len() as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("requests a second; dark: on persistent connections, light: on new ones", ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(260)
        .build_cartesian_2d(0.0..most, 0.0..rows.len() as f64)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh()
        .disable_y_axis()
        .max_light_lines(1)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (place, row) in rows.iter().rev().enumerate() {
        let bottom = place as f64;
        let bars =
            [(row.requests, RGBColor(38, 102, 165), 0.5, 0.9), (row.connections, RGBColor(150, 180, 210), 0.1, 0.5)];
        for (value, colour, from, to) in bars {
            chart.draw_series([Rectangle::new([(0.0, bottom + from), (value, bottom + to)], colour.filled())])?;
        }
        let from = if row.from_neighbour { "neighbour" } else { "host" };
        let (_, y) = chart.backend_coord(&(0.0, bottom + 0.65));
        area.draw(&Text::new(format!("{}, from the {from}", row.name), (12, y - 6), ("sans-serif", 13)))?;
    }
    area.present()?;
    Ok(())
}
