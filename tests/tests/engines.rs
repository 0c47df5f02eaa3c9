//! Container engines that use kontena: each serves nginx's page, and leaves the host as it was.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs;
use tests::{Engines, Running, Snapshot, documented, wait_until};

/// Options of `podman run` for nginx as a service.
const NGINX: &str = "debian nginx -g 'daemon off;'";

/// The status of a container.
fn status(engines: &Engines, name: &str) -> String {
    engines.says(&format!("inspect -f '{{{{.State.Status}}}}' {name}"))
}

/// A snapshot without what engines may leave behind: their bridges and empty chains, which settle late.
fn snapshot(engines: &Engines) -> Snapshot {
    let empty = Snapshot::default();
    let names = ["nft ruleset", "forwarding", "routes", "IPv6 addresses", "IPv6 routes", "IPv6 settings"];
    names.into_iter().fold(engines.host.snapshot(), |snapshot, name| snapshot.with(name, &empty))
}

#[test]
fn podman_runs_restarts_and_stops_a_service() {
    let engines = Engines::new();
    let _ = engines.says("run --rm -p 8080:80 debian true");
    let before = snapshot(&engines);
    let _ = engines.says(&format!("run -d --name web -p 8080:80 {NGINX}"));
    let _ = engines.page("127.0.0.1:8080");
    let page = wait_for_page(&engines);
    assert!(page.contains("Welcome to nginx!"), "{page}");
    assert_eq!(engines.says("exec -u www-data -w /tmp -e A=b web sh -c 'id -un; pwd; echo $A'"), "www-data\n/tmp\nb");
    assert_eq!(engines.podman("exec web sh -c 'exit 7'").run().code, 7);
    assert_eq!(engines.says("exec -i web cat < /etc/hosts"), "127.0.0.1 localhost");
    let top = engines.says("top web pid,user,args");
    assert!(top.contains("www-data") && top.contains("nginx: worker process"), "{top}");
    assert!(engines.says("top web").contains("nginx: master process"));
    let stats: Value = serde_json::from_str(&engines.says("stats --no-stream --format json web")).unwrap();
    assert_eq!(stats[0]["name"], "web", "{stats}");

    let _ = engines.says("pause web");
    assert_eq!(status(&engines, "web"), "paused");
    assert!(engines.host.get("127.0.0.1:8080").is_err());
    let _ = engines.says("unpause web");
    let _ = engines.page("127.0.0.1:8080");
    let first = engines.says("inspect -f '{{.State.Pid}}' web");
    let _ = engines.says("restart web");
    assert_ne!(engines.says("inspect -f '{{.State.Pid}}' web"), first);
    let _ = engines.page("127.0.0.1:8080");
    let _ = engines.says("stop web");
    assert_eq!(engines.says("inspect -f '{{.State.Status}} {{.State.ExitCode}}' web"), "exited 0");
    let _ = engines.says("start web");
    let _ = engines.page("127.0.0.1:8080");
    let _ = engines.says("kill web");
    assert_eq!(engines.says("wait web"), "137");
    let _ = engines.says("start web");
    let _ = engines.says("kill --signal QUIT web");
    assert_eq!(engines.says("wait web"), "0");
    let _ = engines.says("start web");
    let _ = engines.says("rm -f -t 0 web");
    let events = engines.says("events --stream=false --filter container=web --format '{{.Status}}'");
    for event in ["create", "init", "start", "pause", "unpause", "restart", "exec", "kill", "died", "remove"] {
        assert!(events.lines().any(|line| line == event), "{event}: {events}");
    }
    before.assert_restored(|| snapshot(&engines));
}

/// Waits for the page, as a neighbour sees it.
fn wait_for_page(engines: &Engines) -> String {
    engines.host.neighbour.get("192.0.2.1:8080").unwrap()
}

#[test]
fn podman_reports_why_a_command_cannot_start() {
    let engines = Engines::new();
    let code = |line: &str| engines.podman(line).run().code;
    assert_eq!(code("run --rm debian sh -c 'exit 3'"), 3);
    assert_eq!(code("run --rm debian sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'"), 137);
    for (line, code, word) in [
        ("run --rm debian nosuch", 127, "executable file not found"),
        ("run --rm debian /no/such", 127, "no such file"),
        ("run --rm debian /etc/passwd", 126, "permission denied"),
        ("run --rm -w /etc/passwd debian true", 126, "not a directory"),
        ("run --rm -u nosuch debian true", 126, "nosuch"),
        ("run --rm --sysctl net.nosuch=1 debian true", 127, "net.nosuch"),
    ] {
        let outcome = engines.podman(line).run();
        assert_eq!(outcome.code, code, "{line}: {outcome}");
        assert!(outcome.stderr.to_lowercase().contains(word), "{line}: {outcome}");
    }
    let _ = engines.says("run -d --name one debian sleep 600");
    assert_eq!(code("exec one nosuch"), 127);
    assert_eq!(code("exec one /etc/passwd"), 126);
    assert_eq!(code("exec one sh -c 'kill -9 $$'"), 137);
    let outcome = engines.podman("container checkpoint one").run();
    assert_eq!(outcome.code, 125, "{outcome}");
    assert!(outcome.stderr.contains("checkpoint"), "{outcome}");
    assert_eq!(status(&engines, "one"), "running");
    let _ = engines.says("pause one");
    assert_ne!(code("exec one true"), 0);
    let _ = engines.says("rm -f -t 0 one");
}

#[test]
fn podman_has_a_terminal() {
    let engines = Engines::new();
    let sized = "while [ \"$(stty size)\" != \"24 80\" ]; do sleep 0.1; done; tty; read -r code; exit $code";
    let terminal = engines.podman(&format!("run --rm -it debian sh -c '{sized}'")).on_terminal();
    let _ = terminal.wait_for("/dev/pts/0");
    terminal.type_in("5\n");
    assert_eq!(terminal.finish(), 5);
    let _ = engines.says("run -dit --name one debian sh");
    let terminal = engines.podman(&format!("exec -it one sh -c '{sized}'")).on_terminal();
    let _ = terminal.wait_for("/dev/pts/");
    terminal.type_in("6\n");
    assert_eq!(terminal.finish(), 6);
    let terminal = engines.podman("attach one").on_terminal();
    terminal.type_in("echo 4$((1+1)); exit 9\n");
    let _ = terminal.wait_for("42");
    assert_eq!(engines.says("wait one"), "9");
    assert!(engines.says("logs one").contains("42"));
    let _ = engines.says("rm one");
}

#[test]
fn podman_confines_a_container() {
    let engines = Engines::new();
    let says = |options: &str, script: &str| engines.says(&format!("run --rm {options} debian sh -c '{script}'"));
    let capabilities = "grep -E ^Cap(Prm|Bnd) /proc/self/status | cut -f2 | sort -u";
    assert_eq!(says("--cap-drop=all", &capabilities.replace('(', "\"(").replace(") ", ")\" ")), "0000000000000000");
    assert_eq!(says("--cap-drop=all --cap-add=chown", "grep CapPrm /proc/self/status"), "CapPrm:\t0000000000000001");
    assert!(says("--privileged", "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status").contains("\t0"));
    assert_eq!(says("-u 33:7", "id -u; id -g"), "33\n7");
    assert_eq!(says("-u www-data --group-add 7", "id -u; id -G"), "33\n33 7");
    assert_eq!(says("-w /usr/bin", "pwd"), "/usr/bin");
    assert_eq!(says("--read-only", "touch /x 2>/dev/null || touch /run/x && echo run"), "run");
    engines.write("/tmp/env", "A=b c\nD=e\n");
    assert_eq!(says("--env-file /tmp/env -e F=g", "echo $A $D $F"), "b c e g");
    assert_eq!(says("--sysctl net.core.somaxconn=77", "cat /proc/sys/net/core/somaxconn"), "77");
    assert_eq!(says("--tmpfs /data:size=64k,mode=700", "stat -fc %T /data; stat -c %a /data"), "tmpfs\n700");
    assert_eq!(says("--ulimit nofile=70:80 --ulimit nproc=90:90", "ulimit -Sn; ulimit -Hn"), "70\n80");
    assert_eq!(says("--device /dev/null:/dev/other", "stat -c %t.%T /dev/other; echo x > /dev/other"), "1.3");
    assert_eq!(says("--hostname other", "cat /proc/sys/kernel/hostname"), "other");
    assert_eq!(says("--umask 077", "umask"), "0077");
    assert_eq!(says("--init", "cat /proc/1/comm"), "podman-init");
    assert_eq!(says("--network none", "ls /sys/class/net"), "lo");
    assert_eq!(says("--shm-size 64k", "stat -fc %b /dev/shm"), "16");
    assert_eq!(says("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status"), "NoNewPrivs:\t1");
    assert_eq!(says("", "grep Seccomp: /proc/self/status"), "Seccomp:\t2");
    assert_eq!(says("--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status"), "Seccomp:\t0");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
    });
    engines.write("/tmp/profile.json", &profile.to_string());
    let outcome = engines.podman("run --rm --security-opt seccomp=/tmp/profile.json debian mkdir /tmp/x").run();
    assert!(outcome.stderr.contains("Operation not supported"), "{outcome}");
}

#[test]
fn podman_mounts_volumes() {
    let engines = Engines::new();
    let says = |options: &str, script: &str| engines.says(&format!("run --rm {options} debian sh -c '{script}'"));
    let _ = engines.says("volume create data");
    assert_eq!(says("-v data:/etc/skel", "ls -A /etc/skel | head -1; echo kept > /etc/skel/file"), ".bash_logout");
    assert_eq!(says("-v data:/data:ro", "cat /data/file; touch /data/x 2>/dev/null || echo no"), "kept\nno");
    engines.write("/tmp/bound/file", "bound");
    assert_eq!(says("-v /tmp/bound:/bound:Z", "cat /bound/file; touch /bound/new"), "bound");
    assert_eq!(says("-v /tmp/bound:/bound:ro,z", "ls /bound; touch /bound/x 2>/dev/null || echo no"), "file\nnew\nno");
    assert_eq!(says("--mount type=bind,src=/tmp/bound/file,dst=/file,ro", "cat /file"), "bound");
    assert_eq!(says("-v /tmp/bound:/bound:O", "rm /bound/file; ls /bound"), "new");
    assert_eq!(says("-v /tmp/bound:/bound", "ls /bound"), "file\nnew");
    let _ = engines.says("run -d --name one -v anonymous:/data debian sh -c 'echo x > /data/x; sleep 600'");
    assert_eq!(says("--volumes-from one", "cat /data/x"), "x");
    let _ = engines.says("rm -f -t 0 -v one");
    let _ = engines.says("volume rm data anonymous");
}

#[test]
fn podman_connects_networks() {
    let engines = Engines::new();
    let _ = engines.says("network create inner");
    let _ = engines.says("network create other");
    let _ = engines.says("run --rm --network inner --network other debian true");
    let before = snapshot(&engines);
    let _ = engines.says(&format!("run -d --name web --network inner -p 127.0.0.1:8080:80 -p 8081:80/tcp {NGINX}"));
    let _ = engines.page("127.0.0.1:8080");
    let _ = engines.page("192.0.2.1:8081");
    assert!(engines.host.neighbour.get("192.0.2.1:8080").is_err());
    // By its name, which aardvark-dns resolves.
    let fetch = "exec 3<>/dev/tcp/web/80; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; \
                 grep -o \"Welcome to nginx!\" <&3 | head -1";
    assert_eq!(engines.says(&format!("run --rm --network inner debian bash -c '{fetch}'")), "Welcome to nginx!");
    let _ = engines.says("network connect other web");
    assert_eq!(engines.says("exec web ls /sys/class/net"), "eth0\neth1\nlo");
    let _ = engines.says("network disconnect other web");
    assert_eq!(engines.says("exec web ls /sys/class/net"), "eth0\nlo");
    let _ = engines.says("run --rm --network container:web debian sh -c 'ls /sys/class/net'");
    assert!(engines.says("run --rm --network host debian ls /sys/class/net").contains("eth0"));
    let _ = engines.says("rm -f -t 0 web");
    before.assert_restored(|| snapshot(&engines));
    let _ = engines.says("network rm inner other");
}

#[test]
fn podman_maps_users() {
    let engines = Engines::new();
    let map = "cat /proc/self/uid_map | tr -s \" \"; touch /tmp/x; stat -c %u /tmp/x /etc/passwd";
    let says = |options: &str| engines.says(&format!("run --rm {options} debian sh -c '{map}'"));
    assert_eq!(says("--uidmap 0:100000:1000 --gidmap 0:100000:1000"), " 0 100000 1000\n0\n0");
    assert!(says("--userns=auto").starts_with(" 0 200000 "));
    let _ = engines.says(&format!("run -d --name web --userns=auto:size=1000 -p 8080:80 {NGINX}"));
    let _ = engines.page("127.0.0.1:8080");
    assert_eq!(engines.says("exec web sh -c 'head -1 /proc/self/uid_map | tr -s \" \"'"), " 0 200000 1000");
    let _ = engines.says("rm -f -t 0 web");
}

#[test]
fn podman_runs_containers_of_an_ordinary_user() {
    let engines = Engines::new();
    for (path, line) in [
        ("/etc/passwd", "root:x:0:0::/root:/bin/sh\njoe:x:1000:1000::/tmp/joe:/bin/sh\n"),
        ("/etc/group", "root:x:0:\njoe:x:1000:\n"),
        ("/etc/subuid", "joe:300000:65536\n"),
        ("/etc/subgid", "joe:300000:65536\n"),
    ] {
        engines.write(path, line);
    }
    let make = "chmod 1777 /dev/shm /tmp /var/tmp && mkdir -m 700 /tmp/joe /run/joe && \
                chown joe:joe /tmp/joe /run/joe && \
                podman save -q -o /tmp/debian.tar debian && chmod 644 /tmp/debian.tar";
    let _ = engines.sh(make).run().ok();
    // The user has images of its own.
    engines.write("/etc/containers/storage.conf", "[storage]\ndriver = \"overlay\"\n");
    let podman = |line: &str| {
        engines.sh(&format!(
            "cd /tmp/joe && HOME=/tmp/joe XDG_RUNTIME_DIR=/run/joe exec setpriv --reuid joe --regid joe --init-groups \
             podman {line}"
        ))
    };
    let _ = podman("load -q -i /tmp/debian.tar").run().ok();
    let before = snapshot(&engines);
    let maps = podman("run --rm --net none debian cat /proc/self/uid_map").run().ok();
    assert_eq!(maps.split_whitespace().collect::<Vec<_>>(), ["0", "1000", "1", "1", "300000", "65536"]);
    let _ = podman("run -d --name one --net none debian sleep 600").run().ok();
    assert_eq!(podman("exec -u 33 one id -u").run().ok(), "33\n");
    let _ = podman("run --rm --net container:one --ipc container:one debian true").run().ok();
    // Without a cgroup, nothing can be frozen or limited.
    assert!(podman("pause one").run().stderr.contains("no cgroup is delegated"));
    let outcome = podman("run --rm --net none --memory 64m debian true").run();
    assert!(outcome.code == 126 && outcome.stderr.contains("none is delegated"), "{outcome}");
    let _ = podman("rm -f -t 0 one").run().ok();
    before.assert_restored(|| snapshot(&engines));
}

#[test]
fn podman_runs_pods() {
    let engines = Engines::new();
    let _ = engines.says("pod create --name warm --share-parent=false -p 8080:80");
    let _ = engines.says("pod start warm");
    let _ = engines.says("pod rm -f -t 0 warm");
    let before = snapshot(&engines);
    let _ = engines.says("pod create --name pod --share-parent=false -p 8080:80");
    let _ = engines.says(&format!("run -d --pod pod --name web {NGINX}"));
    let _ =
        engines.says("run -d --pod pod --name beside --stop-timeout 0 debian sh -c 'echo x > /dev/shm/x; sleep 600'");
    let _ = engines.page("127.0.0.1:8080");
    let of = |name: &str, kind: &str| engines.says(&format!("exec {name} readlink /proc/1/ns/{kind}"));
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(of("web", kind), of("beside", kind), "{kind}");
    }
    assert_ne!(of("web", "mnt"), of("beside", "mnt"));
    wait_until("the other's file", || engines.podman("exec web cat /dev/shm/x").run().code == 0);
    let _ = engines.says("pod pause pod");
    assert_eq!(status(&engines, "web"), "paused");
    let _ = engines.says("pod unpause pod");
    let _ = engines.says("pod restart pod");
    let _ = engines.page("127.0.0.1:8080");
    let _ = engines.says("pod stop -t 0 pod");
    assert_eq!(status(&engines, "web"), "exited");
    let _ = engines.says("pod rm -f -t 0 pod");
    before.assert_restored(|| snapshot(&engines));
}

#[test]
fn podman_commits_and_exports_containers() {
    let engines = Engines::new();
    let _ = engines.says("run -d --name one debian sh -c 'echo made > /made; exec sleep 600'");
    engines.write("/tmp/file", "copied");
    let _ = engines.says("cp /tmp/file one:/file");
    assert_eq!(engines.says("exec one cat /file"), "copied");
    let _ = engines.says("cp one:/made /tmp/made");
    assert_eq!(engines.sh("cat /tmp/made").run().ok(), "made\n");
    let _ = engines.says("commit -q one made");
    assert_eq!(engines.says("run --rm made cat /made /file"), "made\ncopied");
    assert!(engines.says("diff one").contains("A /made"));
    let inspected: Value = serde_json::from_str(&engines.says("inspect one")).unwrap();
    assert_eq!(inspected[0]["OCIRuntime"], "kontena");
    let _ = engines.says("rm -f -t 0 one");
    let _ = engines.says("image rm made");

    let _ = engines.says(&format!("create --name web -p 8080:80 {NGINX}"));
    let _ = engines.says("generate kube web -f /tmp/web.yaml");
    let _ = engines.says("rm web");
    // podman 4.3.1 denies the cgroup of such a pod all devices: runc cannot start it either.
    if engines.says("version -f '{{.Client.Version}}'") == "4.3.1" {
        let _ = engines.says("play kube --start=false /tmp/web.yaml");
        assert_eq!(
            engines.says("ps -a --format '{{.Names}} {{.Status}}' --filter name=web-pod-web"),
            "web-pod-web Created"
        );
    } else {
        let _ = engines.says("play kube /tmp/web.yaml");
        let _ = engines.page("127.0.0.1:8080");
    }
    let _ = engines.says("play kube --down /tmp/web.yaml");
    assert_eq!(engines.says("ps -aq"), "");
    let _ = engines.says("run -d --name last debian sleep 600");
    let _ = engines.says("system reset -f");
    assert_eq!(engines.says("ps -aq"), "");
}

#[test]
fn podman_watches_a_container() {
    let engines = Engines::new();
    let health = "--health-cmd 'test -e /well' --health-interval disable --health-retries 1";
    let _ = engines.says(&format!("run -d --name one {health} debian sleep 600"));
    assert_eq!(engines.podman("healthcheck run one").run().code, 1);
    let _ = engines.says("exec one touch /well");
    let _ = engines.says("healthcheck run one");
    assert_eq!(engines.says("inspect -f '{{.State.Health.Status}}' one"), "healthy");
    let _ = engines.says("rm -f -t 0 one");

    let _ = engines.says(&format!("run -d --name web --restart=always -p 8080:80 {NGINX}"));
    let _ = engines.page("127.0.0.1:8080");
    let pid = engines.says("inspect -f '{{.State.Pid}}' web");
    let _ = engines.sh(&format!("kill -9 {pid}")).run().ok();
    wait_until("its restart", || engines.says("inspect -f '{{.RestartCount}} {{.State.Status}}' web") == "1 running");
    let _ = engines.page("127.0.0.1:8080");
    let _ = engines.says("rm -f -t 0 web");
}

#[test]
fn buildah_builds_and_runs() {
    let engines = Engines::new();
    let file = "FROM localhost/debian\nENV A=b\nRUN echo $A > /made && id -u >> /made\nUSER www-data\nWORKDIR /tmp\n\
                RUN id -un > mine; pwd >> mine\nCMD [\"cat\", \"/made\", \"/tmp/mine\"]\n";
    engines.write("/tmp/context/Containerfile", file);
    let buildah = |line: &str| {
        let kontena = "--isolation oci --runtime /usr/local/bin/kontena";
        engines.sh(&format!("buildah {}", line.replace("KONTENA", kontena))).run()
    };
    let _ = buildah("from --name warm debian").ok();
    let _ = buildah("run KONTENA warm -- true").ok();
    let _ = engines.says("run --rm debian true");
    let _ = buildah("rm warm").ok();
    let before = snapshot(&engines);
    let _ = buildah("bud KONTENA -q -t built /tmp/context").ok();
    assert_eq!(engines.says("run --rm built"), "b\n0\nwww-data\n/tmp");
    let outcome = buildah("from --name one debian");
    assert_eq!(outcome.code, 0, "{outcome}");
    let outcome = buildah("run KONTENA one -- sh -c 'echo x > /x; exit 3'");
    assert_eq!(outcome.code, 3, "{outcome}");
    let outcome = buildah("run KONTENA -v /tmp/context:/context:ro one -- cat /x /context/Containerfile");
    assert_eq!(outcome.ok(), format!("x\n{file}"));
    let terminal = "BUILDAH_RUNTIME=/usr/local/bin/kontena buildah run -t --isolation oci one -- \
                    sh -c 'tty; read -r code; exit $code'";
    let terminal = engines.sh(terminal).on_terminal();
    let _ = terminal.wait_for("/dev/pts/0");
    terminal.type_in("6\n");
    assert_eq!(terminal.finish(), 6);
    drop(terminal);
    engines.write("/tmp/context/Containerfile", "FROM localhost/debian\nRUN exit 9\n");
    let outcome = buildah("bud KONTENA -t failed /tmp/context");
    assert!(outcome.code != 0 && outcome.stderr.contains("exit status 9"), "{outcome}");
    let _ = buildah("rm -a").ok();
    let _ = buildah("rmi built").ok();
    before.assert_restored(|| snapshot(&engines));
}

/// Removes the limits that pods of the CRI always have, if cgroup v2 has no controllers for them.
const WITHOUT_LIMITS: &str = r#"#!/bin/sh -e
case " $* " in *" create "*)
    jq 'del(.linux.resources.cpu, .linux.resources.memory)' config.json > config.new
    mv config.new config.json
esac
exec /usr/local/bin/kontena "$@"
"#;

/// The configuration of a network for pods.
const POD_NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "plugins": [
    {"type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": true,
     "ipam": {"type": "host-local", "subnet": "10.77.0.0/24"}}]}"#;

/// Starts containerd and imports the image.
fn containerd(engines: &Engines) -> Running {
    let cri = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
disable_apparmor = true
tolerate_missing_hugetlb_controller = true
restrict_oom_score_adj = true
sandbox_image = "localhost/debian:latest"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "kontena"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/pods"
"#;
    let kontena = documented("[plugins").replace("/usr/local/bin/kontena", "/usr/local/bin/without-limits");
    engines.write("/etc/containerd/config.toml", &format!("{cri}{kontena}"));
    engines.write("/etc/cni/pods/pods.conflist", POD_NETWORK);
    engines.write("/usr/local/bin/without-limits", WITHOUT_LIMITS);
    let _ = engines.sh("chmod +x /usr/local/bin/without-limits").run().ok();
    let containerd = engines.program("containerd").start();
    wait_until("containerd", || engines.sh("ctr version").run().code == 0);
    let import = "podman save -q -o /tmp/debian.tar debian && ctr -n k8s.io image import /tmp/debian.tar";
    let _ = engines.sh(import).run().ok();
    containerd
}

#[test]
fn containerd_runs_containers_of_ctr() {
    let engines = Engines::new();
    let _containerd = containerd(&engines);
    let ctr = |line: &str| {
        // The CRI's own namespace has the image.
        let run = "run --runc-binary /usr/local/bin/kontena --cpu-shares 0 --net-host";
        engines.sh(&format!("ctr -n k8s.io {}", line.replace("RUN", run).replace("IMAGE", "localhost/debian:latest")))
    };
    assert_eq!(ctr("RUN --rm IMAGE warm echo hello").run().ok(), "hello\n");
    let before = snapshot(&engines);
    assert_eq!(ctr("RUN --rm IMAGE one sh -c 'exit 3'").run().code, 3);
    let outcome = ctr("RUN --rm IMAGE one nosuch").run();
    assert!(outcome.code != 0 && outcome.stderr.contains("executable file not found"), "{outcome}");
    let terminal = ctr("RUN --rm -t IMAGE one sh -c 'tty; read -r code; exit $code'").on_terminal();
    let _ = terminal.wait_for("/dev/pts/0");
    terminal.type_in("6\n");
    assert_eq!(terminal.finish(), 6);
    drop(terminal);
    let _ = ctr("RUN -d IMAGE web nginx -g 'daemon off;'").run().ok();
    let _ = engines.page("127.0.0.1:80");
    assert!(ctr("task ls").run().ok().contains("RUNNING"));
    assert_eq!(ctr("task exec --exec-id a --user 33:33 --cwd /tmp web sh -c 'id -u; pwd'").run().ok(), "33\n/tmp\n");
    assert_eq!(ctr("task exec --exec-id a web sh -c 'exit 7'").run().code, 7);
    let terminal = ctr("task exec -t --exec-id b web sh -c 'tty; read -r code; exit $code'").on_terminal();
    let _ = terminal.wait_for("/dev/pts/");
    terminal.type_in("7\n");
    assert_eq!(terminal.finish(), 7);
    drop(terminal);
    assert!(ctr("task ps web").run().ok().lines().count() > 2);
    let _ = ctr("task pause web").run().ok();
    assert!(ctr("task ls").run().ok().contains("PAUSED"));
    assert!(engines.host.get("127.0.0.1:80").is_err());
    let _ = ctr("task resume web").run().ok();
    let _ = engines.page("127.0.0.1:80");
    assert!(ctr("task metrics web").run().ok().contains("web"));
    let _ = ctr("task kill -s SIGTERM web").run().ok();
    wait_until("its end", || ctr("task ls").run().ok().contains("STOPPED"));
    let _ = ctr("task rm web").run().ok();
    let _ = ctr("container rm web").run().ok();
    before.assert_restored(|| snapshot(&engines));
}

/// Messages of protobuf: numbered fields; protobuf.dev/programming-guides/encoding.
mod protobuf {
    fn number(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    /// A field of text, bytes or a message.
    pub fn field(place: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let bytes = bytes.as_ref();
        [&number(place << 3 | 2), &number(bytes.len() as u64), bytes].concat()
    }

    /// A field with a number.
    pub fn integer(place: u64, value: u64) -> Vec<u8> {
        [number(place << 3), number(value)].concat()
    }

    fn take(bytes: &mut &[u8]) -> Option<u64> {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let (taken, rest) = bytes.split_at(length);
        *bytes = rest;
        Some(taken.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)))
    }

    /// The value of a field: its bytes, or its number as text.
    pub fn get(mut message: &[u8], place: u64) -> Vec<u8> {
        while let Some(tag) = take(&mut message) {
            let value = take(&mut message).unwrap();
            let bytes = match tag & 7 {
                0 => value.to_string().into_bytes(),
                2 => message.split_off(..value as usize).unwrap().to_vec(),
                kind => panic!("a field of kind {kind}"),
            };
            if tag >> 3 == place {
                return bytes;
            }
        }
        Vec::new()
    }
}

/// Calls the CRI, with gRPC over HTTP/2; returns the answer.
fn cri(engines: &Engines, method: &str, request: &[Vec<u8>]) -> Vec<u8> {
    let request = request.concat();
    let (path, length) = (engines.host.directory().join("tmp"), u32::try_from(request.len()).unwrap().to_be_bytes());
    engines.host.inside(|| fs::write(path.join("request"), [&[0], &length[..], &request].concat())).unwrap();
    let curl = format!(
        "curl -sS --http2-prior-knowledge --unix-socket /run/containerd/containerd.sock -D /tmp/headers -o /tmp/answer \
         -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @/tmp/request \
         http://localhost/runtime.v1.RuntimeService/{method} && cat /tmp/headers"
    );
    let headers = engines.sh(&curl).run().ok();
    assert!(headers.contains("grpc-status: 0"), "{method}: {headers}");
    engines.host.inside(|| fs::read(path.join("answer"))).unwrap().split_off(5)
}

#[test]
fn containerd_runs_pods_by_the_cri() {
    use protobuf::{field, get, integer};
    let engines = Engines::new();
    let _containerd = containerd(&engines);
    let text = |message: &[u8], place| String::from_utf8(get(message, place)).unwrap();
    let call = |method: &str, request: &[Vec<u8>]| cri(&engines, method, request);
    let pod = |name: &str, pid: u64| {
        let metadata = [field(1, name), field(2, name), field(3, "default")].concat();
        let namespaces = field(2, field(1, integer(2, pid)));
        [field(1, metadata), field(2, name), field(3, "/tmp/logs"), field(8, namespaces)].concat()
    };
    let run_pod = |pod: &[u8]| text(&call("RunPodSandbox", &[field(1, pod), field(2, "kontena")]), 1);
    let create = |sandbox: &str, pod: &[u8], pid: u64, name: &str, command: &[&str]| {
        let arguments: Vec<u8> = command.iter().flat_map(|word| field(3, word)).collect();
        let security = field(2, field(3, integer(2, pid)));
        let config = [
            field(1, field(1, name)),
            field(2, field(1, "localhost/debian:latest")),
            arguments,
            field(11, format!("{name}.log")),
            field(15, security),
        ];
        let id = text(&call("CreateContainer", &[field(1, sandbox), field(2, config.concat()), field(3, pod)]), 1);
        let _ = call("StartContainer", &[field(1, &id)]);
        id
    };
    let end_pod = |id: &str| {
        let _ = call("StopPodSandbox", &[field(1, id)]);
        let _ = call("RemovePodSandbox", &[field(1, id)]);
    };
    // A pid namespace for each container, a kubelet's default.
    let (shared, own) = (pod("shared", 0), pod("web", 1));
    end_pod(&run_pod(&own));
    let before = snapshot(&engines);
    let sandbox = run_pod(&own);
    let address = text(&get(&get(&call("PodSandboxStatus", &[field(1, &sandbox)]), 1), 5), 1);
    let web = create(&sandbox, &own, 1, "web", &["nginx", "-g", "daemon off;"]);
    let _ = engines.page(&format!("{address}:80"));
    let exec = |id: &str, script: &str| {
        let words = [field(1, id), field(2, "sh"), field(2, "-c"), field(2, script)];
        let answer = call("ExecSync", &words);
        (text(&answer, 1), text(&answer, 2), text(&answer, 3))
    };
    assert_eq!(
        exec(&web, "cat /proc/sys/kernel/hostname; echo x >&2; exit 7"),
        ("web\n".into(), "x\n".into(), "7".into())
    );
    let other = create(&sandbox, &own, 1, "other", &["sh", "-c", "echo hello; sleep 600"]);
    wait_until("its log", || engines.sh("cat /tmp/logs/other.log").run().stdout.contains("stdout F hello"));
    let state = |id: &str, place| text(&get(&call("ContainerStatus", &[field(1, id)]), 1), place);
    assert_eq!(state(&web, 3), "1", "it is running");
    let _ = call("StopContainer", &[field(1, &web), integer(2, 10)]);
    assert_eq!((state(&web, 3), state(&web, 7)), ("2".into(), String::new()), "it has exited, with 0");
    let _ = call("StopContainer", &[field(1, &other)]);
    assert_eq!(state(&other, 7), "137");
    let _ = call("RemoveContainer", &[field(1, &web)]);
    end_pod(&sandbox);

    let sandbox = run_pod(&shared);
    let web = create(&sandbox, &shared, 0, "web", &["nginx", "-g", "daemon off;"]);
    let (processes, ..) = exec(&web, "cat /proc/1/comm; ps -e -o comm");
    assert!(processes.starts_with("sleep\n") && processes.contains("nginx\n"), "{processes}");
    end_pod(&sandbox);
    before.assert_restored(|| snapshot(&engines));
}

#[test]
fn image_becomes_a_bundle_without_an_engine() {
    let engines = Engines::new();
    // umoci's capabilities are too few for nginx.
    let nginx = r#".process.terminal = false | .process.args = ["nginx", "-g", "daemon off;"]
        | .process.capabilities[] += ["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]"#;
    engines.write("/tmp/nginx.jq", nginx);
    let make = "podman save -q -o /tmp/debian.tar debian
        skopeo copy -q docker-archive:/tmp/debian.tar oci:/tmp/layout:debian
        umoci unpack --image /tmp/layout:debian /tmp/bundle
        jq -f /tmp/nginx.jq /tmp/bundle/config.json > /tmp/config.json
        mv /tmp/config.json /tmp/bundle";
    let _ = engines.program("sh").args(["-ec", make]).run().ok();
    let _ = engines.sh("kontena create --bundle /tmp/bundle web > /dev/null 2>&1").run().ok();
    let _ = engines.sh("kontena start web").run().ok();
    let fetch =
        "kontena exec web bash -c 'exec 3<>/dev/tcp/127.0.0.1/80; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'";
    wait_until("nginx's page", || engines.sh(fetch).run().stdout.contains("Welcome to nginx!"));
    let _ = engines.sh("kontena kill web TERM").run().ok();
    wait_until("its end", || engines.sh("kontena state web").run().ok().contains("stopped"));
    let _ = engines.sh("kontena delete web").run().ok();
}

#[test]
fn podman_runs_hooks() {
    let engines = Engines::new();
    let hook = json!({
        "version": "1.0.0",
        "hook": {"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/state"]},
        "when": {"always": true},
        "stages": ["prestart"]
    });
    engines.write("/tmp/hooks/state.json", &hook.to_string());
    let _ = engines.says("--hooks-dir /tmp/hooks run --name one debian true");
    let state: Value = serde_json::from_str(&engines.sh("cat /tmp/state").run().ok()).unwrap();
    assert_eq!(state["id"], engines.says("inspect -f '{{.Id}}' one"), "{state}");
    let _ = engines.says("rm one");
}

#[test]
fn podman_shares_processes() {
    let engines = Engines::new();
    let _ = engines.says("pod create --name pod --share-parent=false --share net,ipc,uts,pid -p 8080:80");
    let _ = engines.says(&format!("run -d --pod pod --name web {NGINX}"));
    let _ = engines.page("127.0.0.1:8080");
    assert!(engines.says("run --rm --pod pod debian ps -e -o comm").contains("nginx"));
    let _ = engines.says("pod rm -f -t 0 pod");
    let _ = engines.says(&format!("run -d --name web {NGINX}"));
    assert!(engines.says("run --rm --pid container:web debian ps -e -o comm").contains("nginx"));
    assert!(engines.says("run --rm --pid host debian ps -e -o comm").contains("conmon"));
    let _ = engines.says("rm -f -t 0 web");
}

#[test]
fn podman_passes_mounts_on() {
    let engines = Engines::new();
    engines.write("/tmp/bound/file", "bound");
    let made = "run --rm --privileged -v /tmp/bound:/bound:rshared debian \
                sh -c 'mkdir /bound/new && mount -t tmpfs new /bound/new && touch /bound/new/x'";
    let _ = engines.says(made);
    assert_eq!(engines.sh("ls /tmp/bound/new && umount /tmp/bound/new").run().ok(), "x\n");
    let _ = engines.sh("chown 100005 /tmp/bound/file").run().ok();
    let says = |options: &str| engines.says(&format!("run --rm {options} debian stat -c %u /bound/file"));
    assert_eq!(says("--uidmap 0:100000:1000 --gidmap 0:100000:1000 -v /tmp/bound:/bound"), "5");
    let _ = engines.sh("chown 5 /tmp/bound/file").run().ok();
    assert_eq!(says("--uidmap 0:100000:1000 --gidmap 0:100000:1000 -v /tmp/bound:/bound:idmap"), "5");
}
