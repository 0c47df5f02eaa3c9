//! What an image says of itself: behind the file system of an image, or beside a directory.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tests::{Background, Bundle, Host, Program, images};

const IMAGES: [&str; 2] = ["demo.erofs", "demo.squashfs"];

fn config(words: &[&str]) -> Vec<u8> {
    let words: String = words.iter().map(|word| format!("{word}\0")).collect();
    [b"kontena\x01", &u32::try_from(words.len()).unwrap().to_le_bytes()[..], words.as_bytes()].concat()
}

/// An image of the demo that says this of itself. Its length is a multiple of 4096 bytes.
fn image(host: &Host, name: &str, words: &[&str]) -> PathBuf {
    let mut bytes = fs::read(images().join(name)).unwrap();
    assert_eq!(bytes.len() % 4096, 0);
    bytes.extend(config(words));
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    // As kontena-image appends a hash tree.
    bytes.extend([0x55; 4096]);
    let path = host.directory().join(format!("app-{name}"));
    fs::write(&path, bytes).unwrap();
    path
}

/// The Debian root, with a config beside it.
fn debian(host: &Host, words: &[&str]) -> PathBuf {
    let root = host.debian();
    fs::write(root.with_extension("image-config"), config(words)).unwrap();
    root
}

/// `kontena --volumepath VOLUMES run --cgroup-parent PARENT OPTIONS`.
fn run<'a>(host: &'a Host, options: &[&str], root: &Path, command: &[&str]) -> Program<'a> {
    let program = kontena(host, &["run", "--cgroup-parent", &host.cgroup_parent_option()]);
    program.args(options).arg(root).args(command)
}

fn kontena<'a>(host: &'a Host, arguments: &[&str]) -> Program<'a> {
    host.kontena().arg("--volumepath").arg(volumes(host)).args(arguments)
}

fn volumes(host: &Host) -> PathBuf {
    host.directory().join("volumes")
}

fn names(host: &Host) -> String {
    kontena(host, &["volume", "ls", "-q"]).run().ok()
}

/// The page behind the one port that the container publishes.
fn page(host: &Host, container: &Background<'_>) -> String {
    let ports = container.inspect()["ports"].clone();
    let Some([Value::String(port)]) = ports.as_array().map(|ports| &ports[..]) else { panic!("{ports}") };
    let port = port.strip_prefix("*:").unwrap().strip_suffix("->80/tcp").unwrap();
    tests::wait_for("the page", || host.get(&format!("127.0.0.1:{port}")).ok())
}

#[test]
fn image_serves_with_its_own_words_and_keeps_its_data() {
    let host = Host::new();
    for name in IMAGES {
        let words = [
            r#"--entrypoint=["/usr/sbin/nginx"]"#,
            "--env=A=\u{1b}[2J",
            "--expose=80",
            "--label=org.example.title=Web",
            "--stop-signal=QUIT",
            "--volume=/var/www",
            "--",
            "-q",
        ];
        let app = image(&host, name, &words);
        let start = |options: &[&str]| {
            let all = [&["-d", "-P", "--name", "web", "--tmpfs", "/tmp", "--tmpfs", "/run"], options].concat();
            assert_eq!(run(&host, &all, &app, &[]).run().ok(), "web\n");
            Background::new(&host, "web")
        };
        let web = start(&[]);
        assert!(page(&host, &web).contains("<html"));
        let seen = web.inspect();
        assert_eq!(seen["rootfs"], app.to_str().unwrap());
        assert_eq!(seen["command"], serde_json::json!(["/usr/sbin/nginx", "-q"]));
        assert_eq!((&seen["labels"]["org.example.title"], &seen["stop_signal"]), (&"Web".into(), &"SIGQUIT".into()));
        assert_eq!(seen["exposed"], serde_json::json!(["80/tcp"]));
        for verb in [&["inspect", "web"][..], &["list"], &["list", "--format", "json"]] {
            assert!(!host.kontena().args(verb).run().ok().contains('\u{1b}'), "{verb:?}");
        }
        // The volume has the content of the image, and its owner.
        assert_eq!(names(&host), "web_var_www\n");
        let file = volumes(&host).join("web_var_www/_data/index.html");
        assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
        fs::write(&file, "of the volume").unwrap();
        let _ = kontena(&host, &["stop", "web"]).run().ok();
        assert_eq!(web.inspect()["exit"]["status"], 0);
        let _ = kontena(&host, &["start", "web"]).run().ok();
        assert!(page(&host, &web).ends_with("of the volume"));
        // A new image in place of the old one.
        let web = start(&["--replace"]);
        assert!(page(&host, &web).ends_with("of the volume"));
        assert_eq!(names(&host), "web_var_www\n");
        let _ = kontena(&host, &["delete", "--force", "-v", "web"]).run().ok();
        assert_eq!(kontena(&host, &["volume", "rm", "web_var_www"]).run().ok(), "web_var_www\n");
    }
}

#[test]
fn command_line_wins_over_what_is_beside_a_directory() {
    let host = Host::new();
    let words = [
        r#"--entrypoint=["/bin/sh","-c","echo $A $B $PATH $PWD $(id -u):$(id -g) \"$@\"","sh"]"#,
        "--env=A=image",
        "--env=B=image",
        "--env=PATH=/usr/bin:/bin",
        "--user=7:8",
        "--workdir=/home",
        "--",
        "of the image",
    ];
    let root = debian(&host, &words);
    let say = |options: &[&str], command: &[&str]| {
        run(&host, &[&["--net", "none"], options].concat(), &root, command).run().ok()
    };
    let path = "/usr/bin:/bin";
    assert_eq!(say(&[], &[]), format!("image image {path} /home 7:8 of the image\n"));
    assert_eq!(say(&[], &["of", "the line"]), format!("image image {path} /home 7:8 of the line\n"));
    assert_eq!(say(&["-eA=line", "-ePATH=/bin", "-w/", "-u0"], &[]), "line image /bin / 0:0 of the image\n");
    assert_eq!(say(&["--entrypoint=/bin/echo"], &[]), "\n");
    assert_eq!(say(&["--entrypoint="], &["echo", "alone"]), "alone\n");
    // Without the file, as before.
    fs::remove_file(root.with_extension("image-config")).unwrap();
    assert_eq!(say(&[], &["sh", "-c", "echo $A $PWD $(id -u)"]), "/ 0\n");
}

#[test]
fn volumes_of_an_image_are_made_filled_and_kept_by_name() {
    let host = Host::new();
    let root = debian(&host, &["--volume=/srv/data", "--user=7:8"]);
    host.inside(|| {
        fs::create_dir_all(root.join("srv/data")).unwrap();
        fs::write(root.join("srv/data/file"), "content\n").unwrap();
    });
    let _ = host.program("chown").args(["-R", "7:8"]).arg(root.join("srv/data")).run().ok();
    let script = "cat /srv/data/*; stat -c %u:%g /srv/data /srv/data/file; echo more > /srv/data/more";
    let script = &["sh", "-c", script][..];
    let run = |options: &[&str]| run(&host, &[&["--net", "none"], options].concat(), &root, script).run().ok();
    // Without a name, it goes with the container.
    assert_eq!(run(&[]), "content\n7:8\n7:8\n");
    assert_eq!((run(&[]).as_str(), names(&host).as_str()), ("content\n7:8\n7:8\n", ""));
    assert_eq!(run(&["--name", "a_b", "--read-only"]), "content\n7:8\n7:8\n");
    assert_eq!(run(&["--name", "a_b"]), "content\nmore\n7:8\n7:8\n");
    assert_eq!(run(&["--name", "other"]), "content\n7:8\n7:8\n");
    assert_eq!(names(&host), "a.5Fb_srv_data\nother_srv_data\n");
    // What the command line has there counts.
    assert_eq!(run(&["--name", "third", "-v", "mine:/srv/data/"]), "content\n7:8\n7:8\n");
    assert_eq!(names(&host), "a.5Fb_srv_data\nmine\nother_srv_data\n");
    assert!(!host.inside(|| root.join("srv/data/more").exists()));
}

#[test]
fn health_and_stop_signal_are_those_of_the_image() {
    let host = Host::new();
    let words = [
        r#"--health-cmd=["/bin/false"]"#,
        "--health-interval=100ms",
        "--health-retries=1",
        "--stop-signal=USR1",
        "--",
        "sh",
        "-c",
        "trap 'exit 7' USR1; while :; do sleep 0.1; done",
    ];
    let root = debian(&host, &words);
    let start = |name: &'static str, options: &[&str]| {
        let _ = run(&host, &[&["-d", "--net", "none", "--name", name], options].concat(), &root, &[]).run().ok();
        Background::new(&host, name)
    };
    let [sick, other, none] = [
        start("sick", &[]),
        start("other", &["--health-cmd", "true", "--health-interval", "100ms"]),
        start("none", &["--no-healthcheck"]),
    ];
    tests::wait_until("the checks", || {
        sick.inspect()["health"] == "unhealthy" && other.inspect()["health"] == "healthy"
    });
    assert_eq!(none.inspect()["health"], Value::Null);
    for container in [&sick, &other, &none] {
        let _ = container.does("stop");
        assert_eq!(container.inspect()["exit"]["status"], 7);
    }
}

#[test]
fn image_that_asks_for_more_is_refused_and_nothing_is_left() {
    let host = Host::new();
    for (word, wanted) in [
        ("--privileged", "--privileged in the image-config of "),
        ("--volume=/:/host", "--volume in the image-config of "),
        ("--env=KONTENA_SECRET", "--env in the image-config of "),
        ("--net=host", "--net in the image-config of "),
        ("--label=a\u{1b}[2J", "--label in the image-config of "),
        ("--help", "--help in the image-config of "),
        ("\u{1b}[2J", "\\u{1b}[2J in the image-config of "),
    ] {
        let app = image(&host, IMAGES[0], &[word, "--", "/bin/true"]);
        let before = host.snapshot();
        for verb in ["run", "create"] {
            let line = kontena(&host, &[verb, "--net", "none", "-u", "0"]).arg(&app).run().refused(125);
            assert!(line.contains(wanted) && line.contains("app-demo.erofs") && !line.contains('\u{1b}'), "{line}");
        }
        before.assert_restored(|| host.snapshot());
    }
    // Cut short within the words; and within the file system, where no config can be.
    let app = image(&host, IMAGES[0], &["--", "/bin/true"]);
    let bytes = fs::read(&app).unwrap();
    let plain = fs::metadata(images().join(IMAGES[0])).unwrap().len() as usize;
    fs::write(&app, &bytes[..plain + 14]).unwrap();
    let line = run(&host, &["--net", "none"], &app, &["/bin/true"]).run().refused(125);
    assert!(line.contains("image-config") && line.contains("the file ends"), "{line}");
    fs::write(&app, &bytes[..plain]).unwrap();
    let _ = run(&host, &["--net", "none"], &app, &["/bin/true"]).run().ok();
}

#[test]
fn image_takes_no_number_of_the_callers_fds() {
    let host = Host::new();
    let app = image(&host, IMAGES[0], &["--", "/bin/true"]);
    for option in ["--preserve-fds=1", "--notify-fd=3"] {
        let line = run(&host, &["--net", "none", option], &app, &[]).run().refused(125);
        assert!(line.contains("EBADF"), "{option}: {line}");
    }
    let _ = run(&host, &["--net", "none"], &app, &[]).run().ok();
}

#[test]
fn bundle_of_an_image_is_stopped_by_its_signal() {
    let host = Host::new();
    let script = "trap 'echo got USR1; exit' USR1; echo ready; while :; do sleep 0.1; done";
    let bundle = Bundle::new(&host, script, |config| {
        config["annotations"] = serde_json::json!({ "org.opencontainers.image.stopSignal": "SIGUSR1" });
    });
    let mut engine = bundle.adopt();
    let _ = bundle.engine(&["start", "one"]).run().ok();
    engine.wait_for_output("ready\n");
    let stop = bundle.kontena(&["stop", "one"]).start();
    engine.wait_for_output("got USR1\n");
    let _ = bundle.reap(engine);
    let _ = stop.finish().ok();
}
