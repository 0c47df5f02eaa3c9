//! Every verb and every option, one row each. The parser, the help, the completions, the manual pages and
//! docs/options.md are all made from this table.
//!
//! A row of a verb: `Name "name" "alias" Takes("ARGUMENTS") "description" "note" "example" "more, for the manual
//! page";`. A row of an option: `[Verbs] "name" -letter Kind("VALUE") "help" => setter;`. Words of VALUE in lower case
//! are choices. `Name["feature"]` and `[Verbs; "feature"]` need a Cargo feature of the launcher.
//!
//! Setters run in the order of this table, whatever the order on the command line: an option that looks at another one
//! stands below it.
//!
//! The launcher (`options.rs`) and xtask (`xtask/src/options.rs`) each define `table!` and include this file: xtask
//! drops the setters, and the launcher drops the text for the manual page.

table! {
verbs {
    Run "run" "" Command("ROOTFS [COMMAND [ARG...]]")
        "Run a command in a new container"
        "ROOTFS is a directory, or a squashfs or erofs image. Without COMMAND, the image's runs, or /bin/sh. The exit \
         status is the command's, or 128+n if signal n ended it; 127 if it was not found, 126 if it could not be \
         executed, and 125 if kontena itself failed."
        "kontena run -p 8080:80 -m 64m ./rootfs /usr/sbin/nginx"
        "By default the container runs in the foreground: kontena run supervises it, forwards signals to the command, \
         and exits with its status. With -d it runs in the background, and the other commands find it by its name.";
    Create["background"] "create" "" Command("ROOTFS [COMMAND [ARG...]]")
        "Create a container, to be started later"
        "It has the options of kontena run, and prints the container's name."
        "kontena create --name web -p 8080:80 ./rootfs /usr/sbin/nginx"
        "Nothing of the host is taken before kontena start. Variables are read now: those of --env-file, and those of \
         kontena's environment.";
    Start["background"] "start" "" Many("NAME...")
        "Start containers that were created, or have ended"
        "They run in the background, with the options of their kontena create or kontena run."
        "kontena start web"
        "Containers that were started with run -d or run -t can be started again, unless with --rm.";
    Restart["background"] "restart" "" Many("NAME...")
        "Stop containers, and start them again"
        ""
        "kontena restart -t 30 web"
        "It stops them as kontena stop does, and starts them as kontena start does.";
    Exec["background"] "exec" "" Command("NAME COMMAND [ARG...]")
        "Run a command in a running container"
        "The exit status is the command's, as with run. Unless an option says otherwise, the command has the \
         container's user, environment, capabilities and filter. It ends when kontena exec ends."
        "kontena exec -it web /bin/sh"
        "With -d, kontena exec returns as soon as the command runs, and the command goes on without it.";
    Attach["background"] "attach" "" One("NAME")
        "Attach to the input and output of a background container"
        ""
        "kontena attach web"
        "kontena attach exits with the container's status when the container ends, and returns when the detach keys \
         are typed. It forwards signals to the command.";
    List["background"] "list" "ls" Nothing("")
        "List containers"
        "Lists running containers, and background containers that have ended, until they are deleted."
        "kontena list --format json | jq -r '.[].name'"
        "";
    Ps["background"] "ps" "" Many("[NAME...]")
        "List the processes of containers"
        "Without NAME, it lists containers, as kontena list and docker's ps do."
        "kontena ps web"
        "Each process is shown with its pid on the host and its pid in the container.";
    Logs["background"] "logs" "" One("NAME")
        "Print the logs of a background container"
        ""
        "kontena logs -f --tail 20 web"
        "The log is kept until the container is deleted; run --log-opt limits its size.";
    Stats["background"] "stats" "" Many("[NAME...]")
        "Show the resource usage of containers"
        "CPU time is always available; other resources only if the container has a limit of them, or was started with \
         --stats."
        "kontena stats --stream web"
        "Without NAME, it shows all running containers.";
    Inspect["background"] "inspect" "" Many("NAME...")
        "Print detailed information on containers, as JSON"
        ""
        "kontena inspect web | jq '.[0].exit'"
        "";
    Stop["background"] "stop" "" Many("NAME...")
        "Stop containers"
        "Sends the container's stop signal, and SIGKILL to all of its processes if it has not ended in time."
        "kontena stop -t 30 web"
        "A container that is stopped does not restart, whatever its restart policy.";
    Kill["background"] "kill" "" Many("NAME... [SIGNAL]")
        "Send a signal to containers"
        "The signal goes to the container's command."
        "kontena kill web HUP"
        "The last argument may be the signal, as with runc; a container of that name needs --signal.";
    Wait["background"] "wait" "" Many("NAME...")
        "Wait for containers to end, and print their exit statuses"
        "kontena wait exits with the status of the last one."
        "kontena wait job"
        "";
    Pause["background"] "pause" "" Many("NAME...")
        "Pause containers"
        "Freezes all of their processes."
        "kontena pause web"
        "";
    Resume["background"] "resume" "" Many("NAME...")
        "Resume paused containers"
        ""
        "kontena resume web"
        "";
    Update["background"] "update" "" Many("NAME...")
        "Change the limits of running containers"
        ""
        "kontena update -m 128m --cpus 2 web"
        "Limits that are not given do not change.";
    Delete["background"] "delete" "rm" Many("NAME...")
        "Delete containers that have ended, and their logs"
        ""
        "kontena delete web"
        "";
    Volume["background"] "volume" "" Many("create|ls|inspect|rm|prune [NAME...]")
        "Manage named volumes"
        "A volume is created and filled when a container first uses it, too, and stays until it is removed."
        "kontena volume rm data"
        "create: create volumes, or one without a name of its own. ls: list them, with the containers that use them. \
         inspect: print them as JSON. rm: remove volumes that no container uses. prune: remove all such volumes \
         without names of their own, and with --all all others, too.";
    Prune "prune" "" Nothing("")
        "Clean up after launchers that were killed"
        "If no container is running, it also removes the bridge, the nftables tables and the parent cgroup."
        "kontena prune"
        "Other commands clean up some of what killed launchers have left; kontena prune cleans up all of it.";
    State["oci"] "state" "" One("NAME")
        "Print the state of a container of a bundle, as JSON"
        ""
        "kontena state web | jq -r .status"
        "It is the state of the OCI's runtime-spec.";
    Features["oci"] "features" "" Nothing("")
        "Print what of the OCI's runtime-spec kontena does, as JSON"
        ""
        "kontena features | jq .linux.namespaces"
        "";
    Spec["oci"] "spec" "" Nothing("")
        "Write a config.json to begin a bundle with"
        "Its root file system is rootfs, beside it."
        "kontena spec --bundle ./bundle"
        "";
    Events["oci"] "events" "" One("NAME")
        "Print the resource usage of a container, and when it is out of memory, as runc does"
        ""
        "kontena events --stats web"
        "";
}

"Options" {
    [Run Exec; "background"] "detach" -d Switch "Run in the background, and return once the command runs"
        => |to, _| on(&mut to.config.life.detach);
    [Run Exec] "interactive" -i Switch "Connect stdin; otherwise the command reads from the null device"
        => |to, _| on(&mut to.config.life.interactive);
    [Run Exec; "background"] "tty" -t Switch "Allocate a terminal for the command"
        => |to, _| on(&mut to.config.life.tty);
    [Run] "name" Value("NAME") "Name of the container (default: twelve random digits)"
        => |to, text| set(&mut to.config.name, config::name(text));
    [Run; "background"] "replace" Switch "Stop and delete a container of the same name first"
        => |to, _| set(&mut to.config.replace, Ok(Some(crate::commands::replace)));
    [Run] "rm" Switch "Delete a background container when it ends"
        => |to, _| on(&mut to.config.life.rm);
    [Run; "net"] "publish" -p Values("PORTS")
        "Publish a port or a range of ports: [[IP:][HOST]:]CONTAINER[/tcp|udp]; without HOST, any free port"
        => |to, text| extend(&mut to.config.publish, publish::publish(text));
    [Run; "net"] "publish-all" -P Switch "Publish the ports of --expose and of the image, each on any free port"
        => |to, _| on(&mut to.publish_all);
    [Run; "net"] "expose" Values("PORTS") "Name a port or a range of ports for -P and inspect: PORT[-PORT][/tcp|udp]"
        => |to, text| add(&mut to.config.exposed, publish::expose(text));
    [Run] "entrypoint" Value("COMMAND")
        "First words of the command, before COMMAND: one word, or a JSON array; an empty one for none"
        => |to, text| set(&mut to.entrypoint, config::entrypoint(text));
    [Run; "background"] "label" -l Values("LABEL") "Label the container, for list --filter: KEY=VALUE or KEY"
        => |to, text| add(&mut to.config.labels, labels::label(text));
    [Run] "label-file" Values("FILE") "Read labels from a file, one on each line"
        => |to, text| add(&mut to.label_files, Ok(text));
    [Run] "pidfile" Value("FILE") "Write the pid of the container's PID 1 to a file"
        => |to, text| set(&mut to.config.pidfile, config::pidfile(text).map(Some));
    [Run Exec] "preserve-fds" Value("N") "Pass file descriptors of the caller to the command: N, from 3 on"
        => |to, text| set(&mut to.config.preserve_fds, config::preserve_fds(text));
    [Run] "volume" -v Values("VOLUME")
        "Mount a file, directory or named volume: [SOURCE:]TARGET[:ro,nosuid,dev,noexec,rslave,idmap,U,nocopy]"
        => |to, text| add_volume(&mut to.config.volumes, volumes::volume(text));
    [Run Exec] "env" -e Values("VARIABLE")
        "Set an environment variable: KEY=VALUE, or KEY to copy it from kontena's environment"
        => |to, text| extend(&mut to.config.env, config::env(text));
    [Run Exec] "env-file" Values("FILE") "Read environment variables from a file, one on each line"
        => |to, text| add(&mut to.env_files, Ok(text));
    [Run] "user" -u Value("USER") "User to run as: NAME|UID[:GROUP|GID] (default: root)"
        => |to, text| set(&mut to.config.user, config::user(text));
    [Exec; "background"] "user" -u Value("USER") "User to run as: NAME|UID[:GROUP|GID] (default: the container's)"
        => |to, text| set(&mut to.config.user, config::user(text));
    [Run] "workdir" -w Value("DIR") "Working directory in the container (default: /)"
        => |to, text| set(&mut to.config.workdir, config::workdir(text));
    [Exec; "background"] "workdir" -w Value("DIR") "Working directory in the container (default: the container's)"
        => |to, text| set(&mut to.config.workdir, config::workdir(text));
    [List Ps Stats Volume; "background"] "format" Value("table|json") "Output format (default: table)"
        => |to, text| set(&mut to.format, config::format(text).map(Some));
    [List Ps; "background"] "filter" -f Values("FILTER")
        "Only containers with label=KEY[=VALUE], name=PART or status=STATUS; for a whole name, name=^web$"
        => |to, text| add(&mut to.filters, labels::filter(text));
    [List Ps Volume; "background"] "quiet" -q Switch "Print names only"
        => |to, _| on(&mut to.quiet);
    [Logs; "background"] "follow" -f Switch "Follow the logs until the container ends"
        => |to, _| on(&mut to.follow);
    [Logs; "background"] "tail" -n Value("LINES") "Number of lines to print from the end of the logs (default: all)"
        => |to, text| set(&mut to.tail, tail(text));
    [Logs; "background"] "since" Value("TIME")
        "Print the logs since a time: 2026-01-31T13:00:00Z or +02:00, 1769864400.5, or 10m for ten minutes ago"
        => |to, text| set(&mut to.since, since(text).map(Some));
    [Logs; "background"] "timestamps" -t Switch "Print the time of each line"
        => |to, _| on(&mut to.timestamps);
    [Stats; "background"] "stream" Switch "Print the statistics every second until interrupted"
        => |to, _| on(&mut to.stream);
    [Start; "background"] "attach" -a Switch "Attach to the output, until the container ends"
        => |to, _| on(&mut to.attach);
    [Start; "background"] "interactive" -i Switch "Attach to the input of a container that has -i, and to the output"
        => |to, _| on(&mut to.config.life.interactive);
    [Stop Restart; "background"] "time" -t Value("SECONDS")
        "Seconds to wait before SIGKILL (default: the container's --stop-timeout)"
        => |to, text| set(&mut to.time, lifecycle::seconds(text).map(Some));
    [Kill; "background"] "signal" -s Value("SIGNAL")
        "Signal to send: a name or a number (default: KILL); 0 only tests whether the container is running"
        => |to, text| set(&mut to.signal, lifecycle::signal(text).map(Some));
    [List Ps; "background"] "all" -a Switch "List all containers, which is the default"
        => |to, _| on(&mut to.all);
    [Kill; "background"] "all" -a Switch "Send the signal to all processes of the container"
        => |to, _| on(&mut to.all);
    [Volume; "background"] "all" -a Switch "With prune: remove volumes that have names, too"
        => |to, _| on(&mut to.all);
    [Delete; "background"] "volumes" -v Switch "Remove the volumes that the container got without a name"
        => |to, _| on(&mut to.volumes);
    [Delete; "background"] "force" -f Switch "Kill running containers first"
        => |to, _| on(&mut to.force);
    [Attach; "background"] "no-stdin" Switch "Do not attach stdin"
        => |to, _| on(&mut to.no_stdin);
    [Attach; "background"] "detach-keys" Value("KEYS") "Keys that detach from the container (default: ctrl-p,ctrl-q)"
        => |to, text| set(&mut to.config.life.detach_keys, lifecycle::detach_keys(text));
    [Run] "help" Switch "Print this help"
        => |_, _| Ok(());
    [State Features Spec Events; "oci"] "help" -h Switch "Print this help"
        => |_, _| Ok(());
    [Start Restart Exec Attach List Ps Logs Stats Inspect Stop Kill Wait Pause Resume Update Delete Volume Prune]
        "help" -h Switch "Print this help"
        => |_, _| Ok(());
}

"Network" {
    [Run] "net" Value("bridge|none|host|MODE")
        "Network (docker's --network), also bridge=NAME[,subnet=…][,mtu=…], container:NAME, ns:PATH, macvlan=LINK, \
         and for ordinary users pasta or slirp4netns \
         (default: bridge, or none when rootless)"
        => |to, text| set(&mut to.config.net, network::net(text).map(Some));
    [Run] "hostname" -h Value("NAME") "Host name of the container (default: its name)"
        => |to, text| set(&mut to.config.hostname, config::hostname(text));
    [Run; "net"] "ip" Value("ADDRESS")
        "IPv4 address (default: derived from the name); with macvlan, a required ADDRESS/PREFIX"
        => |to, text| set(&mut to.config.addresses.ip, network::address(text, true).map(Some));
    [Run; "net"] "ip6" Value("ADDRESS") "IPv6 address; with macvlan, ADDRESS/PREFIX"
        => |to, text| set(&mut to.config.addresses.ip6, network::address(text, false).map(Some));
    [Run; "net"] "mac-address" Value("ADDRESS") "Hardware address of the container's link"
        => |to, text| set(&mut to.config.addresses.hardware, network::mac_address(text).map(Some));
    [Run; "net"] "publish-via" Value("nft|relay")
        "Publish ports by nftables, or by a relay in kontena (default: nft where possible)"
        => |to, text| set(&mut to.config.publish_via, publish::publish_via(text).map(Some));
    [Run] "dns" Values("ADDRESS") "Name server, instead of the host's"
        => |to, text| add(&mut to.config.names.servers, names::server(text));
    [Run] "dns-search" Values("DOMAIN") "Search domain for names"
        => |to, text| add(&mut to.config.names.search, names::domain(text));
    [Run] "add-host" Values("HOST") "Add a line to /etc/hosts: NAME:ADDRESS, or NAME:host-gateway"
        => |to, text| add(&mut to.config.names.hosts, names::host(text));
}

"File systems" {
    [Run] "read-only" Switch "Mount the root file system read-only"
        => |to, _| on(&mut to.config.read_only);
    [Run] "overlay" Optional("DIR") "Add a writable layer over the root file system, in memory or in a directory"
        => |to, text| set(&mut to.config.overlay, config::overlay(text));
    [Run; "images"] "verify" Value("HASH") "Let the kernel check an image whenever it reads it: HASH is its root hash"
        => |_, text| config::image::root_hash(text).map(drop);
    [Run] "mount" Values("MOUNT") "Mount in docker's syntax: type=bind|volume|tmpfs,source=…,target=…"
        => |to, text| add_volume(&mut to.config.volumes, volumes::mount(text));
    [Run] "tmpfs" Values("TARGET") "Mount an empty tmpfs: TARGET[:size=64m|10%,mode=1777,uid=,gid=,nr_inodes=,ro,exec]"
        => |to, text| add_volume(&mut to.config.volumes, volumes::tmpfs(text));
    [Run] "shm-size" Value("BYTES") "Size of /dev/shm (default: 64m)"
        => |to, text| set(&mut to.config.shm_size, shm_size(text));
    [Run] "device" Values("DEVICE") "Add a device of the host, or all those below a directory: SOURCE[:TARGET][:rwm]"
        => |to, text| add(&mut to.config.devices, devices::device(text));
}

"Restart and stop" {
    [Run] "restart" Value("no|on-failure[:N]|always|unless-stopped")
        "When to restart the container after it ends (default: no)"
        => |to, text| set(&mut to.config.life.restart, lifecycle::restart(text));
    [Run] "stop-signal" Value("SIGNAL") "Signal that stops the container (default: TERM)"
        => |to, text| set(&mut to.config.life.stop_signal, lifecycle::stop_signal(text));
    [Run] "stop-timeout" Value("SECONDS") "Seconds between that signal and SIGKILL (default: 10)"
        => |to, text| set(&mut to.config.life.stop_timeout, lifecycle::seconds(text));
}

"Health" {
    [Run; "background"] "health-cmd" Value("COMMAND")
        "Command that checks the container: for /bin/sh -c, or a JSON array of its words"
        => |to, text| set(&mut to.health.command, lifecycle::health_command(text));
    [Run; "background"] "no-healthcheck" Switch "Leave out the check of the image"
        => |_, _| Ok(());
    [Run; "background"] "health-interval" Value("TIME") "Time between two checks (default: 30s)"
        => |to, text| set(&mut to.health.interval, lifecycle::duration(text));
    [Run; "background"] "health-timeout" Value("TIME") "Time that a check may take (default: 30s)"
        => |to, text| set(&mut to.health.timeout, lifecycle::duration(text));
    [Run; "background"] "health-retries" Value("N") "Failures in a row that make the container unhealthy (default: 3)"
        => |to, text| set(&mut to.health.retries, lifecycle::retries(text));
    [Run; "background"] "health-start-period" Value("TIME")
        "Time after the start in which failures do not count (default: 0s)"
        => |to, text| set(&mut to.health.start_period, lifecycle::start_period(text));
    [Run; "background"] "health-on-failure" Value("none|kill|restart")
        "Action when the container becomes unhealthy (default: none)"
        => |to, text| set(&mut to.health.on_failure, lifecycle::on_failure(text));
}

"Readiness" {
    [Run; "background"] "wait-ready" Switch
        "With -d, return once the container is ready: by --notify-fd, by --sdnotify, or when a published port answers"
        => |to, _| on(&mut to.wait_ready);
    [Run; "background"] "notify-fd" Value("N")
        "File descriptor to which the command writes a newline when it is ready (s6)"
        => |to, text| set(&mut to.config.life.notify_fd, lifecycle::notify_fd(text).map(Some));
    [Run; "background"] "sdnotify" Switch "Give the command a $NOTIFY_SOCKET (systemd)"
        => |to, _| on(&mut to.config.life.sdnotify);
}

"Output" {
    [Run; "background"] "log-driver" Value("cri|none")
        "Log of a background container: a file in the CRI's format, or none (default: cri)"
        => |to, text| set(&mut to.keeps_log, lifecycle::log_driver(text));
    [Run; "background"] "log-opt" Values("OPTION")
        "Size and number of its files: max-size=SIZE (default: 1m), max-file=N (default: 2)"
        => |to, text| lifecycle::log_option(&mut to.log, text);
    [Run; "background"] "detach-keys" Value("KEYS")
        "Keys that detach from the container's terminal (default: ctrl-p,ctrl-q)"
        => |to, text| set(&mut to.config.life.detach_keys, lifecycle::detach_keys(text));
    [Run] "stats" Switch "Print the container's resource usage when it ends"
        => |to, _| on(&mut to.stats);
    [Run] "format" Value("table|json") "Output format of --stats (default: table)"
        => |to, text| set(&mut to.format, config::format(text).map(Some));
}

"Security" {
    [Run; "rootless"] "userns" Value("host|auto|keep-id|map=CONTAINER:HOST:SIZE")
        "User namespace (default: host; auto when rootless); keep-id maps an ordinary user's ids to themselves"
        => |to, text| set(&mut to.config.userns, userns::userns(text).map(Some));
    [Run] "ipc" Value("host|private|container:NAME") "IPC namespace, with /dev/shm (default: private)"
        => |to, text| set(&mut to.config.ipc, config::share(text));
    [Run] "uts" Value("host|private|container:NAME") "UTS namespace, with the host name (default: private)"
        => |to, text| set(&mut to.config.uts, config::share(text));
    [Run] "privileged" Switch
        "Remove what confines the container: it has all capabilities and devices, and can take over the host"
        => |to, _| {
            to.config.security = Security::PRIVILEGED;
            bits(&mut to.capabilities.added, capabilities::set("ALL"))
        };
    [Run Exec] "cap-add" Values("NAME[,NAME]") "Add capabilities, or ALL"
        => |to, text| bits(&mut to.capabilities.added, capabilities::set(text));
    [Run Exec] "cap-drop" Values("NAME[,NAME]") "Drop capabilities, or ALL"
        => |to, text| bits(&mut to.capabilities.dropped, capabilities::set(text));
    [Run] "security-opt" Values("OPTION")
        "Remove or change one defence: no-new-privileges=false, seccomp=unconfined, seccomp=FILE, or unmask=ALL for \
         the paths of /proc and /sys"
        => |to, text| to.config.security.set(text);
    [Run] "seccomp" Value("default|unconfined|FILE")
        "Filter of system calls; FILE is a profile in docker's or the OCI's format (default: default)"
        => |to, text| set(&mut to.config.security.seccomp, security::seccomp(text));
}

"Process" {
    [Run] "group-add" Values("GROUP") "Add a supplementary group: NAME|GID"
        => |to, text| add(&mut to.config.groups, config::group(text));
    [Run] "init" Optional("true|false")
        "Run kontena-init as PID 1, which forwards signals and reaps; false makes the command PID 1 (default: true)"
        => |to, text| set(&mut to.config.init, config::switch(text));
    [Run] "systemd" Optional("true|false|always")
        "Prepare the container for systemd as PID 1: true if the command is systemd or /sbin/init (default: false)"
        => |to, text| set(&mut to.systemd, systemd::systemd(text));
    [Run] "ulimit" Values("LIMIT") "Set a limit of getrlimit(2): NAME=SOFT[:HARD]"
        => |to, text| add(&mut to.config.rlimits, process::ulimit(text));
    [Run] "umask" Value("MASK") "Mask of the permissions of new files (default: 0022)"
        => |to, text| set(&mut to.config.umask, process::umask(text));
    [Run] "oom-score-adj" Value("N") "Preference of the out-of-memory killer for the container, -1000 to 1000"
        => |to, text| set(&mut to.config.oom_score_adj, process::oom_score_adj(text).map(Some));
    [Run] "sysctl" Values("SYSCTL")
        "Set a sysctl of the container's namespaces: KEY=VALUE, with dots or slashes as in sysctl.d(5)"
        => |to, text| add(&mut to.config.sysctls, process::sysctl(text));
}

"Limits" {
    [Run Update] "memory" -m Value("BYTES") "Limit of memory, for example 64m"
        => |to, text| to.limits.memory(text).ok_or(limits::AMOUNT);
    [Run Update] "memory-swap" Value("BYTES")
        "Limit of memory and swap together; -1 for no limit of swap (default: twice --memory)"
        => |to, text| to.limits.memory_swap(text)
            .ok_or("not an amount of memory and swap: use --memory, and at least as much here, or -1 for no limit");
    [Run Update] "memory-reservation" Value("BYTES") "Memory to protect: other cgroups are reclaimed first"
        => |to, text| to.limits.memory_reservation(text).ok_or(limits::AMOUNT);
    [Run Update] "pids-limit" Value("N") "Limit of processes and threads; -1 or 0 for no limit (default: 2048)"
        => |to, text| to.limits.pids(text)
            .ok_or("not a number of processes: use 1 or more, or -1 or 0 for no limit");
    [Run Update] "cpus" Value("N") "Limit of CPU time, in CPUs, for example 1.5"
        => |to, text| to.limits.cpus(text).ok_or("not a number of CPUs: use 0.01 or more, for example 1.5");
    [Run Update] "cpu-quota" Value("US")
        "Limit of CPU time in each period, in microseconds, instead of --cpus; -1 for no limit"
        => |to, text| to.limits.cpu_quota(text)
            .ok_or("use 1000 or more microseconds of each --cpu-period, or -1 for no limit, and no --cpus");
    [Run Update] "cpu-period" Value("US") "Period of --cpu-quota in microseconds (default: 100000)"
        => |to, text| to.limits.cpu_period(text)
            .ok_or("not a time: use 1000 to 1000000 microseconds, together with --cpu-quota");
    [Run Update] "cpu-shares" -c Value("N") "Share of CPU time among containers (default: 1024)"
        => |to, text| to.limits.cpu_shares(text)
            .ok_or("not a share of CPU time: use 2 to 262144; the default is 1024");
    [Run Update] "cpuset-cpus" Value("LIST") "CPUs to run on, for example 0-2,7"
        => |to, text| to.limits.list("cpuset.cpus", text).ok_or(limits::LIST);
    [Run Update] "cpuset-mems" Value("LIST") "Memory nodes to allocate from"
        => |to, text| to.limits.list("cpuset.mems", text).ok_or(limits::LIST);
    [Run Update] "blkio-weight" Value("N") "Share of disk time among containers, 10 to 1000 (default: 100)"
        => |to, text| to.limits.io_weight(text)
            .ok_or("not a weight: use 10 to 1000; the default is 100");
    [Run Update] "blkio-weight-device" Values("WEIGHT") "Share of the time of one disk: DEVICE:WEIGHT"
        => |to, text| to.limits.io_weight_of(text)
            .ok_or("use DEVICE:WEIGHT, for example /dev/sda:500, with a weight from 10 to 1000");
    [Run Update] "device-read-bps" Values("RATE")
        "Limit of bytes read each second: DEVICE:RATE, for example /dev/sda:1m"
        => |to, text| to.limits.rate("rbps", text).ok_or(limits::RATE);
    [Run Update] "device-write-bps" Values("RATE") "Limit of bytes written each second"
        => |to, text| to.limits.rate("wbps", text).ok_or(limits::RATE);
    [Run Update] "device-read-iops" Values("RATE") "Limit of reads each second"
        => |to, text| to.limits.rate("riops", text).ok_or(limits::RATE);
    [Run Update] "device-write-iops" Values("RATE") "Limit of writes each second"
        => |to, text| to.limits.rate("wiops", text).ok_or(limits::RATE);
    [Run Update] "cgroup-conf" Values("FILE=VALUE")
        "Write any other file of the container's cgroup, for example memory.high=48m"
        => |to, text| to.limits.conf(text)
            .ok_or("use FILE=VALUE with a file of the container's cgroup, for example memory.high=48m");
    [Run] "cgroup-parent" Value("PATH")
        "Parent of the container's cgroup; . is kontena's own cgroup (default: /kontena)"
        => |to, text| set(&mut to.config.cgroup_parent, config::cgroup_parent(text).map(Some));
    [Run] "cgroup-mount" Value("DIR") "Mountpoint of cgroup2; if it is not mounted, kontena mounts it there"
        => |to, text| set(&mut to.config.cgroup_mount, config::cgroup_mount(text).map(Some));
}

"OCI bundles" {
    [Run; "oci"] "bundle" -b Value("DIR")
        "Use an OCI bundle, a directory with a config.json, for the container of the name that follows"
        => |to, text| set(&mut to.bundle.directory, Ok(Some(text)));
    [Exec; "oci"] "process" -p Value("FILE") "Run the process of an OCI process.json, without COMMAND"
        => |to, text| set(&mut to.bundle.process, Ok(Some(text)));
    [Run Exec; "oci"] "pid-file" Value("FILE")
        "With --bundle or exec -d: write the pid of the process to a file, and nothing else"
        => |to, text| set(&mut to.config.pidfile, config::pidfile(text).map(Some));
    [Run Exec; "oci"] "console-socket" Value("SOCKET")
        "With --bundle or exec -d: send the terminal of the process to a unix socket"
        => |to, text| set(&mut to.bundle.console, Ok(Some(text)));
    [Run; "oci"] "keep" Switch "With --bundle: keep the container when it ends, until kontena delete"
        => |to, _| on(&mut to.bundle.keeps);
    [Run; "oci"] "no-pivot" Switch "With --bundle: accepted, and left out: kontena can always change the root"
        => |_, _| Ok(());
    [Run; "oci"] "no-new-keyring" Switch "With --bundle: accepted, and left out: each container has its own keyring"
        => |_, _| Ok(());
    [Run; "oci"] "no-subreaper" Switch "With --bundle: accepted, and left out: kontena adopts no processes"
        => |_, _| Ok(());
    [Spec; "oci"] "bundle" -b Value("DIR") "Directory of the file (default: the working directory)"
        => |to, text| set(&mut to.bundle.directory, Ok(Some(text)));
    [Spec; "oci"] "rootless" Switch "For an ordinary user"
        => |to, _| on(&mut to.bundle.is_rootless);
    [Update; "oci"] "resources" -r Value("FILE")
        "Set the limits of an OCI linux.resources, a file or - for stdin"
        => |to, text| set(&mut to.bundle.resources, Ok(Some(text)));
    [Events; "oci"] "stats" Switch "Print the usage once"
        => |to, _| on(&mut to.stats);
    [Events; "oci"] "interval" Value("TIME") "Time between two outputs (default: 5s)"
        => |to, text| set(&mut to.bundle.interval, lifecycle::duration(text));
}
}
