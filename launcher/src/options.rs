//! The command line as data: every verb, its options, and what its help says.
//!
//! argh reads these declarations; `cli.rs` makes commands of what they hold. Must not judge what was given.

use argh::FromArgs;

/// A container runtime: this launcher, and a PID 1 beside it.
#[derive(FromArgs)]
#[argh(note = "Example: kontena run -p 8080:80 ./rootfs /usr/sbin/nginx")]
pub struct Kontena {
    /// directory of the state (/run/kontena, or a user's own)
    #[argh(option, arg_name = "dir")]
    pub root: Option<String>,
    /// print the version
    #[argh(switch)]
    pub version: bool,
    #[argh(subcommand)]
    pub verb: Option<Verb>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub enum Verb {
    Run(Box<Run>),
    Exec(Exec),
    Attach(Attach),
    List(List),
    Ps(Ps),
    Logs(Logs),
    Stats(Stats),
    Inspect(Inspect),
    Stop(Stop),
    Kill(Kill),
    Wait(Wait),
    Pause(Pause),
    Resume(Resume),
    Update(Box<Update>),
    Delete(Delete),
    Prune(Prune),
}

/// A verb's options, with those of [limits](crate::limits) among them: `run` sets them, and `update` sets them anew.
macro_rules! with_limits {
    ($(#[$attribute:meta])* pub struct $name:ident { $($before:tt)* }) => {
        $(#[$attribute])*
        pub struct $name {
            $($before)*
            /// limit of memory, as 64m
            #[argh(option, short = 'm', arg_name = "bytes")]
            pub memory: Option<String>,
            /// limit of memory and swap together; -1: no limit of swap (twice --memory)
            #[argh(option, arg_name = "bytes")]
            pub memory_swap: Option<String>,
            /// memory that is reclaimed from others first
            #[argh(option, arg_name = "bytes")]
            pub memory_reservation: Option<String>,
            /// limit of processes and threads (-1: none)
            #[argh(option, arg_name = "n")]
            pub pids_limit: Option<String>,
            /// limit of CPU time, in CPUs, as 1.5
            #[argh(option, arg_name = "n")]
            pub cpus: Option<String>,
            /// the same in microseconds of each period (-1: none)
            #[argh(option, arg_name = "us")]
            pub cpu_quota: Option<String>,
            /// the period of --cpu-quota in microseconds (100000)
            #[argh(option, arg_name = "us")]
            pub cpu_period: Option<String>,
            /// share of CPU time beside others (1024)
            #[argh(option, arg_name = "n")]
            pub cpu_shares: Option<String>,
            /// CPUs to run on, as 0-2,7
            #[argh(option, arg_name = "list")]
            pub cpuset_cpus: Option<String>,
            /// memory nodes to allocate from
            #[argh(option, arg_name = "list")]
            pub cpuset_mems: Option<String>,
            /// share of disk time beside others, 10 to 1000 (100)
            #[argh(option, arg_name = "n")]
            pub blkio_weight: Option<String>,
            /// the same on one disk: DEVICE:WEIGHT
            #[argh(option, arg_name = "weight")]
            pub blkio_weight_device: Vec<String>,
            /// limit of bytes read each second from a disk: DEVICE:RATE, as /dev/sda:1m
            #[argh(option, arg_name = "rate")]
            pub device_read_bps: Vec<String>,
            /// limit of bytes written each second
            #[argh(option, arg_name = "rate")]
            pub device_write_bps: Vec<String>,
            /// limit of reads each second
            #[argh(option, arg_name = "rate")]
            pub device_read_iops: Vec<String>,
            /// limit of writes each second
            #[argh(option, arg_name = "rate")]
            pub device_write_iops: Vec<String>,
            /// write any other file of the container's cgroup: FILE=VALUE, as memory.high=48m
            #[argh(option, arg_name = "limit")]
            pub cgroup_conf: Vec<String>,
        }

        impl $name {
            /// What was given of each, in the order of [`crate::limits::OPTIONS`].
            pub fn limits(&self) -> [&[String]; 17] {
                [
                    self.memory.as_slice(),
                    self.memory_swap.as_slice(),
                    self.memory_reservation.as_slice(),
                    self.pids_limit.as_slice(),
                    self.cpus.as_slice(),
                    self.cpu_quota.as_slice(),
                    self.cpu_period.as_slice(),
                    self.cpu_shares.as_slice(),
                    self.cpuset_cpus.as_slice(),
                    self.cpuset_mems.as_slice(),
                    self.blkio_weight.as_slice(),
                    self.blkio_weight_device.as_slice(),
                    self.device_read_bps.as_slice(),
                    self.device_write_bps.as_slice(),
                    self.device_read_iops.as_slice(),
                    self.device_write_iops.as_slice(),
                    self.cgroup_conf.as_slice(),
                ]
            }
        }
    };
}

with_limits! {
/// Run a command in a new container, in the foreground unless told otherwise.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "run",
    note = "The exit status is the command's; 128+n where signal n ended it; 127 where it was not found, 126 where it \
            could not be executed, 125 where kontena failed.",
    example = "kontena run -p 8080:80 -m 64m ./rootfs /usr/sbin/nginx"
)]
pub struct Run {
    /// run in the background; print the name when the command runs
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// give the command a terminal, which is this one unless -d is given
    #[argh(switch, short = 't')]
    pub tty: bool,
    /// keep stdin open, for attach
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    /// forget a container that ran in the background when it has ended
    #[argh(switch)]
    pub rm: bool,
    /// name of the container (twelve random digits)
    #[argh(option)]
    pub name: Option<String>,
    /// host name in it (its name)
    #[argh(option, arg_name = "name")]
    pub hostname: Option<String>,
    /// network: bridge[=NAME,subnet=…], none, host, container:NAME, ns:PATH or macvlan=LINK (bridge; none for who is not root)
    #[argh(option, arg_name = "mode")]
    pub net: Option<String>,
    /// its IPv4 address; with macvlan ADDRESS/PREFIX, which no DHCP server is asked for
    #[argh(option, arg_name = "address")]
    pub ip: Option<String>,
    /// the same of IPv6
    #[argh(option, arg_name = "address")]
    pub ip6: Option<String>,
    /// the hardware address of its link
    #[argh(option, arg_name = "address")]
    pub mac_address: Option<String>,
    /// server that names are asked of, instead of the host's
    #[argh(option, arg_name = "address")]
    pub dns: Vec<String>,
    /// domain that names are looked up in
    #[argh(option, arg_name = "domain")]
    pub dns_search: Vec<String>,
    /// add a line to /etc/hosts: NAME:ADDRESS, or NAME:host-gateway
    #[argh(option, arg_name = "host")]
    pub add_host: Vec<String>,
    /// publish a port, or a range of them: [IP:][HOST:]CONTAINER[/tcp|udp]; without HOST, any free one
    #[argh(option, short = 'p', arg_name = "ports")]
    pub publish: Vec<String>,
    /// how they are published: by nft, in the kernel, or by relay, through kontena (nft, where it can)
    #[argh(option, arg_name = "way")]
    pub publish_via: Option<String>,
    /// mount the root read-only
    #[argh(switch)]
    pub read_only: bool,
    /// lay a writable layer over the root, in memory; with =DIR in a directory, where it stays
    #[argh(option, arg_name = "dir")]
    pub overlay: Option<String>,
    /// mount a file or directory: SOURCE:TARGET[:ro,nosuid,nodev,noexec,rslave,idmap]
    #[argh(option, short = 'v', arg_name = "volume")]
    pub volume: Vec<String>,
    /// mount an empty tmpfs: TARGET[:size=64m,mode=1777,ro,exec]
    #[argh(option, arg_name = "target")]
    pub tmpfs: Vec<String>,
    /// the same in docker's words: type=bind|tmpfs,source=…,target=…
    #[argh(option, arg_name = "mount")]
    pub mount: Vec<String>,
    /// size of /dev/shm (64m)
    #[argh(option, arg_name = "bytes")]
    pub shm_size: Option<String>,
    /// give it a device of the host: SOURCE[:TARGET][:rwm]
    #[argh(option, arg_name = "device")]
    pub device: Vec<String>,
    /// user namespace: host, auto or map=CONTAINER:HOST:SIZE (host; auto for who is not root)
    #[argh(option, arg_name = "mode")]
    pub userns: Option<String>,
    /// add a capability, or ALL
    #[argh(option, arg_name = "name")]
    pub cap_add: Vec<String>,
    /// drop a capability, or ALL
    #[argh(option, arg_name = "name")]
    pub cap_drop: Vec<String>,
    /// no-new-privileges=false lets setuid programs give privileges
    #[argh(option, arg_name = "option")]
    pub security_opt: Vec<String>,
    /// filter of system calls: default or unconfined (default)
    #[argh(option, arg_name = "filter")]
    pub seccomp: Option<String>,
    /// limit of getrlimit(2): NAME=SOFT[:HARD]
    #[argh(option, arg_name = "limit")]
    pub ulimit: Vec<String>,
    /// who is killed first when memory is short, -1000 to 1000
    #[argh(option, arg_name = "n")]
    pub oom_score_adj: Option<String>,
    /// mask of new files' permissions (0022)
    #[argh(option, arg_name = "mask")]
    pub umask: Option<String>,
    /// set a sysctl of the container's own: KEY=VALUE
    #[argh(option, arg_name = "sysctl")]
    pub sysctl: Vec<String>,
    /// set the environment variables of a file
    #[argh(option, arg_name = "file")]
    pub env_file: Vec<String>,
    /// set an environment variable: KEY=VALUE, or KEY to pass it on
    #[argh(option, short = 'e', arg_name = "variable")]
    pub env: Vec<String>,
    /// working directory of the command (/)
    #[argh(option, short = 'w', arg_name = "dir")]
    pub workdir: Option<String>,
    /// user of the command: NAME|UID[:GROUP|GID] (root)
    #[argh(option, short = 'u', arg_name = "user")]
    pub user: Option<String>,
    /// add a group to the user's own: NAME|GID
    #[argh(option, arg_name = "group")]
    pub group_add: Vec<String>,
    /// cgroup under which the container gets its own; . is kontena's own cgroup (/kontena)
    #[argh(option, arg_name = "path")]
    pub cgroup_parent: Option<String>,
    /// where cgroup2 is mounted; it is mounted there where it is not
    #[argh(option, arg_name = "dir")]
    pub cgroup_mount: Option<String>,
    /// print what the container has used when it has ended
    #[argh(switch)]
    pub stats: bool,
    /// how that is printed: table or json (table)
    #[argh(option, arg_name = "format")]
    pub format: Option<String>,
    /// keys that leave a terminal and let the container run (ctrl-p,ctrl-q)
    #[argh(option, arg_name = "keys")]
    pub detach_keys: Option<String>,
    /// when to start it again: no, on-failure[:N], always or unless-stopped (no)
    #[argh(option, arg_name = "policy")]
    pub restart: Option<String>,
    /// signal that asks the command to end (TERM)
    #[argh(option, arg_name = "signal")]
    pub stop_signal: Option<String>,
    /// seconds that it then has before it is killed (10)
    #[argh(option, arg_name = "seconds")]
    pub stop_timeout: Option<String>,
    /// command, for /bin/sh -c of the container, that tells whether it is well; or a JSON array of its words
    #[argh(option, arg_name = "command")]
    pub health_cmd: Option<String>,
    /// time between two of its runs (30s)
    #[argh(option, arg_name = "time")]
    pub health_interval: Option<String>,
    /// time that a run may take (30s)
    #[argh(option, arg_name = "time")]
    pub health_timeout: Option<String>,
    /// failures in a row that make it unhealthy (3)
    #[argh(option, arg_name = "n")]
    pub health_retries: Option<String>,
    /// time from the start in which failures do not count (0s)
    #[argh(option, arg_name = "time")]
    pub health_start_period: Option<String>,
    /// what is done when it is unhealthy: none, kill or restart (none)
    #[argh(option, arg_name = "action")]
    pub health_on_failure: Option<String>,
    /// with -d, return when it is ready: by --notify-fd, --sdnotify, or a published port that answers
    #[argh(switch)]
    pub wait_ready: bool,
    /// fd on which the command writes a newline when it is ready, as s6 has it
    #[argh(option, arg_name = "n")]
    pub notify_fd: Option<String>,
    /// give the command a $NOTIFY_SOCKET, as systemd has it
    #[argh(switch)]
    pub sdnotify: bool,
    /// where the output of a container in the background goes: cri or none (cri)
    #[argh(option, arg_name = "driver")]
    pub log_driver: Option<String>,
    /// max-size=SIZE (1m) of its log, and max-file=N (2), how many there are
    #[argh(option, arg_name = "option")]
    pub log_opt: Vec<String>,
    /// directory, or squashfs or erofs image, that becomes the container's /
    #[argh(positional)]
    #[allow(dead_code, reason = "for the help and for what is missing; the bytes are in `positionals`")]
    pub rootfs: String,
    /// command and its arguments (/bin/sh)
    #[argh(positional, greedy)]
    #[allow(dead_code, reason = "as above")]
    pub command: Vec<String>,
}
}

/// Run a command in a container that runs.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "exec",
    note = "The exit status is the command's, as that of run. It has what the container was given (user, environment, \
            capabilities, filter) unless an option says otherwise, and ends when this command does.",
    example = "kontena exec -it web /bin/sh"
)]
pub struct Exec {
    /// come back when the command runs, and let it go on
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// give the command a terminal
    #[argh(switch, short = 't')]
    pub tty: bool,
    /// keep stdin open
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    /// set an environment variable: KEY=VALUE, or KEY to pass it on
    #[argh(option, short = 'e', arg_name = "variable")]
    pub env: Vec<String>,
    /// set the environment variables of a file
    #[argh(option, arg_name = "file")]
    pub env_file: Vec<String>,
    /// working directory of the command (the container's)
    #[argh(option, short = 'w', arg_name = "dir")]
    pub workdir: Option<String>,
    /// user of the command: NAME|UID[:GROUP|GID] (the container's)
    #[argh(option, short = 'u', arg_name = "user")]
    pub user: Option<String>,
    /// add a capability, or ALL
    #[argh(option, arg_name = "name")]
    pub cap_add: Vec<String>,
    /// drop a capability, or ALL
    #[argh(option, arg_name = "name")]
    pub cap_drop: Vec<String>,
    /// name of the container
    #[argh(positional)]
    #[allow(dead_code, reason = "for the help and for what is missing; the bytes are in `positionals`")]
    pub name: String,
    /// command and its arguments
    #[argh(positional, greedy)]
    #[allow(dead_code, reason = "as above")]
    pub command: Vec<String>,
}

/// See and answer what the command of a container in the background writes, until it ends or the detach keys are typed.
#[derive(FromArgs)]
#[argh(subcommand, name = "attach", example = "kontena attach web")]
pub struct Attach {
    /// keys that leave it and let the container run (ctrl-p,ctrl-q)
    #[argh(option, arg_name = "keys")]
    pub detach_keys: Option<String>,
    /// do not pass on what is typed
    #[argh(switch)]
    pub no_stdin: bool,
    /// name of the container
    #[argh(positional)]
    pub name: String,
}

/// List the containers: those that run, and those of run -d that have ended.
#[derive(FromArgs)]
#[argh(subcommand, name = "list", note = "ls is the same.", example = "kontena list --format json | jq -r '.[].name'")]
pub struct List {
    /// table or json (table)
    #[argh(option, arg_name = "format")]
    pub format: Option<String>,
    /// names alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}

/// Show the processes of containers.
#[derive(FromArgs)]
#[argh(subcommand, name = "ps", example = "kontena ps web")]
pub struct Ps {
    /// table or json (table)
    #[argh(option, arg_name = "format")]
    pub format: Option<String>,
    /// names of the containers
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

/// Print what a container in the background has written.
#[derive(FromArgs)]
#[argh(subcommand, name = "logs", example = "kontena logs -f --tail 20 web")]
pub struct Logs {
    /// go on with what it writes, until it ends
    #[argh(switch, short = 'f')]
    pub follow: bool,
    /// begin with the last lines
    #[argh(option, short = 'n', arg_name = "n")]
    pub tail: Option<String>,
    /// begin with what was written then: 10m ago, or 2026-01-31T13:00:00Z
    #[argh(option, arg_name = "time")]
    pub since: Option<String>,
    /// print the time of each line
    #[argh(switch, short = 't')]
    pub timestamps: bool,
    /// name of the container
    #[argh(positional)]
    pub name: String,
}

/// Show what containers use: CPU time always, the rest (not -) of those with a limit of it, or started with --stats.
#[derive(FromArgs)]
#[argh(subcommand, name = "stats", example = "kontena stats --stream web")]
pub struct Stats {
    /// again each second, until a signal comes
    #[argh(switch)]
    pub stream: bool,
    /// table or json (table)
    #[argh(option, arg_name = "format")]
    pub format: Option<String>,
    /// names of the containers (all)
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

/// Print all that is known of containers, as JSON.
#[derive(FromArgs)]
#[argh(subcommand, name = "inspect", example = "kontena inspect web | jq '.[0].exit'")]
pub struct Inspect {
    /// names of the containers
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

/// End containers: by their stop signal, and when that takes too long by SIGKILL to all of their processes.
#[derive(FromArgs)]
#[argh(subcommand, name = "stop", example = "kontena stop -t 30 web")]
pub struct Stop {
    /// seconds until they are killed (the container's --stop-timeout)
    #[argh(option, short = 't', long = "time", arg_name = "seconds")]
    pub time: Option<String>,
    /// names of the containers
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

/// Send a signal to the commands of containers.
#[derive(FromArgs)]
#[argh(subcommand, name = "kill", example = "kontena kill web HUP")]
pub struct Kill {
    /// signal, by its name or number (KILL)
    #[argh(option, short = 's', arg_name = "signal")]
    pub signal: Option<String>,
    /// send it to all of their processes
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// names of the containers; the last may be a signal
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

/// Wait until containers have ended, and print their exit statuses; the last is this command's own.
#[derive(FromArgs)]
#[argh(subcommand, name = "wait", example = "kontena wait job")]
pub struct Wait {
    /// names of the containers
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

/// Stop the time for containers: their processes are frozen.
#[derive(FromArgs)]
#[argh(subcommand, name = "pause", example = "kontena pause web")]
pub struct Pause {
    /// names of the containers
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

/// Let frozen containers go on.
#[derive(FromArgs)]
#[argh(subcommand, name = "resume", example = "kontena resume web")]
pub struct Resume {
    /// names of the containers
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

with_limits! {
/// Change the limits of containers that run.
#[derive(FromArgs)]
#[argh(subcommand, name = "update", example = "kontena update -m 128m --cpus 2 web")]
pub struct Update {
    /// names of the containers
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}
}

/// Forget containers that have ended, with their logs.
#[derive(FromArgs)]
#[argh(subcommand, name = "delete", note = "rm is the same.", example = "kontena delete web")]
pub struct Delete {
    /// kill those that run
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// names of the containers
    #[argh(positional, arg_name = "name")]
    pub names: Vec<String>,
}

/// Clean up after containers whose launcher was killed; where none runs, remove the bridge, the nftables
/// table and the parent cgroup too.
#[derive(FromArgs)]
#[argh(subcommand, name = "prune", example = "kontena prune")]
pub struct Prune {}
