//! docker's and podman's options of `run` that kontena refuses, and what to use instead.
//!
//! An option of the table comes first: one that kontena gets is refused no longer. docs/docker.md lists both.

/// Names of options, and the reason why they are refused, on each line.
pub const REFUSED: &str = "\
annotation: use --label KEY=VALUE
arch authfile decryption-key disable-content-trust image-volume os platform pull q quiet retry retry-delay rmi rootfs \
tls-verify variant: ROOTFS is a directory or the file of an image, and nothing is pulled
a attach sig-proxy: in the foreground kontena has all output and signals; use -i for stdin
cgroupns cgroups: every container has a cgroup and a cgroup namespace of its own
chrootdirs rdt-class runtime storage-opt volume-driver: kontena is the runtime, and has no drivers
cidfile conmon-pidfile: use --name, and --pidfile
cpu-count cpu-percent io-maxbandwidth io-maxiops isolation: it is for Windows
cpu-rt-period cpu-rt-runtime kernel-memory memory-swappiness oom-kill-disable: cgroup2 has no such limit
device-cgroup-rule gpus: use --device
dns-opt dns-option hosts-file no-hostname no-hosts: mount a file of your own, for example -v FILE:/etc/resolv.conf
domainname: use --sysctl kernel.domainname=NAME
env-host env-merge http-proxy unsetenv unsetenv-all: the command gets the variables of -e and --env-file
gidmap subgidname subuidname uidmap: use --userns map=CONTAINER:HOST:SIZE
group-entry hostuser passwd passwd-entry: a user needs no entry in /etc/passwd: use -u UID
health-log-destination health-max-log-count health-max-log-size: the output of checks is not kept
health-start-interval health-startup-cmd health-startup-interval health-startup-retries health-startup-success \
health-startup-timeout: use --health-start-period
init-ctr pod pod-id-file requires: use --net container:NAME
init-path: kontena-init is PID 1
link link-local-ip network-alias: use --net bridge=NAME, where containers find each other by name
pid: with the end of PID 1 all processes of a container end, so it has a pid namespace of its own
personality: use setarch(8) in the container
preserve-fd: use --preserve-fds
read-only-tmpfs shm-size-systemd: use --tmpfs
seccomp-policy: use --security-opt seccomp=FILE
secret: use -v FILE:/run/secrets/NAME:ro
timeout: use timeout(1) before kontena
tz: use -e TZ=ZONE
volumes-from: use the same -v";

/// Why an option is refused, by its name or letter without dashes.
pub fn reason(name: &str) -> Option<&'static str> {
    REFUSED.lines().find_map(|line| {
        let (names, reason) = line.split_once(':')?;
        names.split(' ').any(|refused| refused == name).then(|| reason.trim_ascii_start())
    })
}
