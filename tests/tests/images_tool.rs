//! kontena-image: what it makes of layers, as other programs see it, and what it refuses.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, chown};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tests::{Container, Host, Program, intruder, provided, wait_until};

/// An entry of a tar.
#[derive(Clone, Copy)]
struct Item<'a> {
    kind: u8,
    path: &'a str,
    /// The target of a link, or the content.
    text: &'a str,
    mode: u32,
    owner: u32,
    mtime: &'a str,
    device: (u32, u32),
    xattr: Option<(&'a str, &'a [u8])>,
}

const FILE: Item<'static> =
    Item { kind: b'0', path: "", text: "", mode: 0o644, owner: 0, mtime: "1600000000", device: (0, 0), xattr: None };

const fn file<'a>(path: &'a str, text: &'a str) -> Item<'a> {
    Item { path, text, ..FILE }
}

const fn directory(path: &str) -> Item<'_> {
    Item { kind: b'5', path, mode: 0o755, ..FILE }
}

const fn link<'a>(path: &'a str, text: &'a str) -> Item<'a> {
    Item { kind: b'1', path, text, ..FILE }
}

const fn symlink<'a>(path: &'a str, text: &'a str) -> Item<'a> {
    Item { kind: b'2', path, text, mode: 0o777, ..FILE }
}

/// As cap_net_raw=ep is stored: VFS_CAP_REVISION_2 with the effective bit.
const NET_RAW: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn block(kind: u8, item: Option<&Item>, size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut set = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    set(0, b"entry");
    let (mode, owner) = item.map_or((0o644, 0), |item| (item.mode, item.owner));
    set(100, format!("{mode:07o}\0{owner:07o}\0{owner:07o}\0{size:011o}\0{:011o}\0        ", 0).as_bytes());
    set(156, &[kind]);
    set(257, b"ustar\x0000");
    let (major, minor) = item.map_or((0, 0), |item| item.device);
    set(329, format!("{major:07o}\0{minor:07o}\0").as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(512), 0);
    padded
}

/// A tar in pax format, which can say everything.
fn tar(items: &[Item]) -> Vec<u8> {
    let mut tar = Vec::new();
    for item in items {
        let mut records = Vec::new();
        let mut record = |key: &str, value: &[u8]| {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap();
            records.extend([format!("{length} {key}=").as_bytes(), value, b"\n"].concat());
        };
        record("path", item.path.as_bytes());
        record("mtime", item.mtime.as_bytes());
        if matches!(item.kind, b'1' | b'2') {
            record("linkpath", item.text.as_bytes());
        }
        if let Some((name, value)) = item.xattr {
            record(&format!("SCHILY.xattr.{name}"), value);
        }
        let content = if item.kind == b'0' { item.text.as_bytes() } else { b"" };
        tar.extend([block(b'x', None, records.len()), padded(&records)].concat());
        tar.extend([block(item.kind, Some(item), content.len()), padded(content)].concat());
    }
    tar.extend([0; 1024]);
    tar
}

/// The output of a program of the machine's that reads `input`.
fn filtered(program: &str, input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

fn digest(bytes: &[u8]) -> String {
    let sum = String::from_utf8(filtered("sha256sum", bytes)).unwrap();
    format!("sha256:{}", sum.split(' ').next().unwrap())
}

/// Writes an OCI layout with these layers; returns its SOURCE.
fn layout(directory: &Path, config: &Value, layers: &[Vec<u8>]) -> String {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], kind: &str| {
        let digest = digest(bytes);
        fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": config});
    let config = put(&serde_json::to_vec(&config).unwrap(), "config.v1+json");
    let layers: Vec<Value> = layers.iter().map(|layer| put(&filtered("gzip", layer), "layer.v1.tar+gzip")).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": layers});
    let mut manifest = put(&serde_json::to_vec(&manifest).unwrap(), "manifest.v1+json");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(directory.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    format!("oci:{}", directory.display())
}

fn tool<'a>(host: &'a Host, source: &str, output: &Path, options: &[&str]) -> Program<'a> {
    host.program(provided("KONTENA_IMAGE")).arg(source).arg("-o").arg(output).args(options)
}

/// The one line in which the tool says why it has failed.
#[track_caller]
fn complaint(program: Program<'_>) -> String {
    let outcome = program.run().code(1);
    let line = outcome.stderr.strip_suffix('\n').unwrap_or_default().to_owned();
    assert!(line.starts_with("kontena-image: ") && !line.contains(['\n', '\x1b']), "{outcome}");
    line
}

/// Two layers with everything that a tar can say, and no whiteouts, so that tar can unpack them too.
fn everything(mtime: &str) -> [Vec<u8>; 2] {
    // mkfs.erofs 1.5 cannot have one of 255 bytes.
    let long = "l".repeat(254);
    let far = "../".repeat(80) + "etc/passwd";
    let lower = [
        directory("./"),
        Item { mode: 0o1777, mtime, ..directory("tmp") },
        Item { owner: 1000, mtime, ..file("a", "first") },
        Item { mode: 0o4755, owner: 70_000, mtime, ..file("su", "suid") },
        Item { mode: 0o2755, owner: 5, ..directory("sgid") },
        Item { mode: 0o755, xattr: Some(("security.capability", NET_RAW)), ..file("ping", "caps") },
        Item { xattr: Some(("user.note", b"a\nb\0c")), ..file("noted", "xattr") },
        Item { xattr: Some(("trusted.note", b"t")), ..directory("trusted") },
        Item { mtime, owner: 7, ..symlink("link", "../../etc/passwd") },
        symlink("absolute", "/etc/./passwd"),
        symlink("far", &far),
        Item { kind: b'3', device: (1, 3), mode: 0o666, mtime, ..file("null", "") },
        Item { kind: b'6', mode: 0o600, owner: 9, ..file("pipe", "") },
        file("empty", ""),
        file(&long, "long name"),
        file("b", "replaced"),
    ];
    let big = "0123456789abcdef".repeat(40_000);
    let upper = [
        directory("./"),
        Item { mtime, ..file("b", "by this") },
        link("hard", "a"),
        directory("d"),
        Item { mtime, ..file("d/big", &big) },
        link("d/hard", "d/big"),
    ];
    [tar(&lower), tar(&upper)]
}

/// A tar of a directory, which says the same for the same files.
fn packed(host: &Host, directory: &Path) -> Vec<u8> {
    let tar = host.directory().join("packed.tar");
    let options = "--format=pax --sort=name --numeric-owner --xattrs --xattrs-include=* \
                   --pax-option=delete=atime,delete=ctime,exthdr.name=%f";
    let pack = host.program("tar").args(options.split_whitespace()).arg("-C").arg(directory).arg("-cf").arg(&tar);
    let _ = pack.arg(".").run().ok();
    fs::read(tar).unwrap()
}

#[test]
fn file_systems_have_what_tar_unpacks() {
    let host = Host::new();
    for (kind, mtime) in [("erofs", "1600000001.123456789"), ("squashfs", "1600000000")] {
        let directory = host.directory().join(kind);
        let unpacked = directory.join("unpacked");
        fs::create_dir_all(&unpacked).unwrap();
        let layers = everything(mtime);
        for layer in &layers {
            let unpack = host.program("tar").args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpC"]);
            let _ = unpack.arg(&unpacked).input(layer).run().ok();
        }
        let source = layout(&directory.join("layout"), &json!({}), &layers);
        let image = directory.join("image");
        let _ = tool(&host, &source, &image, &["--type", kind]).run().ok();
        let mounted = directory.join("mounted");
        fs::create_dir(&mounted).unwrap();
        let _ = host.program("mount").args(["-t", kind, "-o", "loop,ro"]).arg(&image).arg(&mounted).run().ok();
        let (expected, found) = (packed(&host, &unpacked), packed(&host, &mounted));
        let _ = host.program("umount").arg(&mounted).run().ok();
        assert!(expected == found, "{kind}: {} and {} bytes", expected.len(), found.len());
        assert!(expected.windows(19).any(|part| part == b"security.capability"));
        // The same as a directory.
        let plain = directory.join("plain");
        let _ = tool(&host, &source, &plain, &["--type", "dir"]).run().ok();
        assert!(packed(&host, &plain) == expected);
    }
}

#[test]
fn two_builds_are_one_file() {
    let host = Host::new();
    let layers = everything("1600000001.5");
    let config = json!({"Cmd": ["a"], "Env": ["B=c", "A=b"], "Labels": {"z": "1", "y": "2", "x": "3"}});
    let source = layout(&host.directory().join("layout"), &config, &layers);
    // Another file system, which lists directories in another order.
    let other = host.directory().join("other");
    fs::create_dir(&other).unwrap();
    let _ = host.program("mount").args(["-t", "tmpfs", "none"]).arg(&other).run().ok();
    for kind in ["erofs", "squashfs"] {
        let (one, two) = (host.directory().join(kind), other.join(kind));
        let first = tool(&host, &source, &one, &["--type", kind]).run().ok();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let second = tool(&host, &source, &two, &["--type", kind]).run().ok();
        let bytes = fs::read(&one).unwrap();
        assert!(host.inside(|| fs::read(&two).unwrap()) == bytes, "{kind}");
        assert_eq!(first, second);
        assert_eq!(fs::read_to_string(one.with_extension("verity")).unwrap(), first);
        // The same files in a directory, in which they were made in another order.
        let unpacked = host.directory().join(format!("unpacked-{kind}"));
        let _ = tool(&host, &source, &unpacked, &["--type", "dir"]).run().ok();
        let again = other.join("again");
        let _ = tool(&host, &source, &again, &["--type", "dir", "--force"]).run().ok();
        let outputs = [unpacked, again].map(|root| {
            let output = other.join("of-directory");
            let _ = tool(&host, root.to_str().unwrap(), &output, &["--type", kind]).run().ok();
            host.inside(|| fs::read(&output).unwrap())
        });
        assert!(outputs[0] == outputs[1], "{kind} of directories");
    }
    let _ = host.program("umount").arg(&other).run().ok();
}

#[test]
fn image_of_a_directory_serves_as_its_config_says() {
    let host = Host::new();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"Entrypoint": ["/usr/sbin/nginx"], "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/not/there"}});
    let path = host.directory().join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    let image = host.directory().join("demo.erofs");
    let _ = tool(&host, host.demo().to_str().unwrap(), &image, &["--config", path.to_str().unwrap()]).run().ok();
    let shown = host.program(provided("KONTENA_IMAGE")).args(["show", "--format", "json"]).arg(&image).run().ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["expose"][0], &shown["workdir"][0]), (&json!("80"), &json!("/not/there")));
    let options = ["--name", "web", "-p", "8080:80", "--tmpfs", "/tmp", "--tmpfs", "/run"];
    let mut web = Container::new(&host, "web", host.run(&options, &image, &[]).start());
    wait_until("the page", || host.get("127.0.0.1:8080").is_ok() || web.has_ended());
    assert!(host.get("127.0.0.1:8080").is_ok(), "{}", web.stderr());
    let _ = web.stop();
}

#[test]
fn bundle_of_an_image_keeps_its_volumes() {
    let host = Host::new();
    let root = host.demo_copy("root");
    fs::copy(intruder(), root.join("intruder")).unwrap();
    fs::create_dir(root.join("data")).unwrap();
    fs::write(root.join("data/file"), "of the image").unwrap();
    chown(&root.join("data/file"), Some(Uid::from_raw(7)), None).unwrap();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"Cmd": ["/intruder", "look", "/data/file"], "User": "7:8", "Volumes": {"/data": {}}}});
    let path = host.directory().join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    let bundle = host.directory().join("bundle");
    let _ =
        tool(&host, root.to_str().unwrap(), &bundle, &["--type=bundle", "--config", path.to_str().unwrap()]).run().ok();
    let run = |args: &[&str]| {
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["linux"]["cgroupsPath"] = json!(format!("{}/one", host.cgroup_parent_option()));
        if !args.is_empty() {
            config["process"]["args"] = json!(args);
        }
        fs::write(&path, config.to_string()).unwrap();
        host.kontena().args(["run", "--bundle"]).arg(&bundle).arg("one").run().ok()
    };
    assert_eq!(run(&[]), "of the image");
    let _ = run(&["/intruder", "write", "/data/file", "of the run 2"]);
    assert_eq!(run(&["/intruder", "look", "/data/file"]), "of the run 2");
    assert_eq!(fs::read_to_string(bundle.join("rootfs/data/file")).unwrap(), "of the image");
}

#[test]
fn archives_of_other_tools_are_the_same_image() {
    let host = Host::new();
    let config = json!({"Cmd": ["a"], "Env": ["A=b"], "User": "1:2"});
    let shared = host.directory().join("shared");
    let source = layout(&shared.join("layout"), &config, &everything("1600000001.5"));
    let image = |name: &str, source: &str| {
        let output = host.directory().join(name);
        let _ = tool(&host, source, &output, &[]).run().ok();
        fs::read(output).unwrap()
    };
    let expected = image("of-layout", &source);
    let root = fs::read_dir(&shared).unwrap().count();
    assert_eq!(root, 1);
    for (kind, name) in [("docker-archive", "docker.tar"), ("oci-archive", "oci.tar"), ("oci", "again")] {
        let copy = shared.join(name);
        // skopeo of the engines' tree, with that tree's libraries.
        let tree = provided("KONTENA_ENGINES_ROOTFS");
        let libraries = tree.join("usr/lib/x86_64-linux-gnu");
        let skopeo = host.program(libraries.join("ld-linux-x86-64.so.2")).arg("--library-path").arg(&libraries);
        let skopeo = skopeo.arg(tree.join("usr/bin/skopeo")).args(["--insecure-policy", "copy", "-q", &source]);
        let _ = skopeo.arg(format!("{kind}:{}:x/y:v2", copy.display())).run().ok();
        let source = format!("{kind}:{}", copy.display());
        assert!(image(name, &source) == expected, "{kind}");
        assert!(image(name, &format!("{source}:x/y:v2")) == expected, "{kind} by name");
        let none = complaint(tool(&host, &format!("{source}:none"), &host.directory().join("none"), &[]));
        assert!(none.contains("it has no image"), "{none}");
    }
    // A whole archive, compressed.
    let compressed = shared.join("docker.tar.gz");
    fs::write(&compressed, filtered("gzip", &fs::read(shared.join("docker.tar")).unwrap())).unwrap();
    assert!(image("compressed", &format!("docker-archive:{}", compressed.display())) == expected);
}

#[test]
fn ordinary_user_makes_squashfs() {
    let host = Host::new();
    let source = layout(&host.directory().join("layout"), &json!({}), &everything("1600000000"));
    let program = host.directory().join("kontena-image");
    let _ = fs::copy(provided("KONTENA_IMAGE"), &program).unwrap();
    let own = host.directory().join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(Uid::from_raw(65534)), None).unwrap();
    let run = |output: &str, kind: &str| {
        let program = host.program(&program).arg(&source).arg("-o").arg(own.join(output)).args(["--type", kind]);
        program.through("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups"])
    };
    let _ = run("image", "squashfs").run().ok();
    let _ = tool(&host, &source, &host.directory().join("image"), &["--type", "squashfs"]).run().ok();
    assert!(fs::read(own.join("image")).unwrap() == fs::read(host.directory().join("image")).unwrap());
    for kind in ["dir", "bundle"] {
        let line = complaint(run("other", kind));
        assert!(line.contains("root") && line.contains("--type squashfs"), "{line}");
    }
    assert_eq!(names(&own), ["image", "image.verity"]);
}

fn names(directory: &Path) -> Vec<String> {
    let names: BTreeSet<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.into_iter().collect()
}

/// Everything below a directory, with what it is.
fn seen(host: &Host, directory: &Path) -> String {
    host.program("find").arg(directory).args(["-printf", "%p %y %m %U %s %T@ %l\n"]).run().ok()
}

#[test]
fn hostile_image_writes_nothing_outside() {
    let host = Host::new();
    let canary = host.directory().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "canary").unwrap();
    let outputs = host.directory().join("outputs");
    fs::create_dir(&outputs).unwrap();
    let target = canary.to_str().unwrap();
    let (inside, up) = (format!("{target}/file"), format!("../../..{target}/file"));
    let below = "a/file".to_owned();
    let bomb = "\0".repeat(8 << 20);
    let refused: [(&str, Vec<Vec<u8>>); 12] = [
        ("leads out", vec![tar(&[file(&up, "x")])]),
        ("leads out", vec![tar(&[link("a", &up)])]),
        ("is not there", vec![tar(&[link("a", &inside)])]),
        ("is not there", vec![tar(&[symlink("a", target), file(&below, "x")])]),
        ("is not there", vec![tar(&[symlink("a", target)]), tar(&[file(&below, "x")])]),
        ("control characters", vec![tar(&[file("a\n\x1b[2J", "x")])]),
        ("a name has 300 bytes", vec![tar(&[file(&"n".repeat(300), "x")])]),
        ("8:0", vec![tar(&[Item { kind: b'4', device: (8, 0), ..file("sda", "") }])]),
        ("--max-size", vec![tar(&[file("a", &bomb)])]),
        ("is not a tar", vec![vec![b'x'; 4096]]),
        ("ends early", vec![tar(&[file("a", &"x".repeat(2000))])[..2048].to_vec()]),
        ("a whiteout of no name", vec![tar(&[file(".wh...", "")])]),
    ];
    let before = seen(&host, &canary);
    for (number, (part, layers)) in refused.iter().enumerate() {
        let source = layout(&host.directory().join(format!("layout-{number}")), &json!({}), layers);
        for kind in ["erofs", "squashfs", "dir", "bundle"] {
            let output = outputs.join("output");
            let line = complaint(tool(&host, &source, &output, &["--type", kind, "--max-size", "1M"]));
            assert!(line.contains(part), "{number} {kind}: {line}");
            assert!(names(&outputs).is_empty(), "{number} {kind}: {:?}", names(&outputs));
        }
    }
    // A link that leads out is a file of the image, and what is written below it is in the image.
    let inner = format!("{}/file", target.trim_start_matches('/'));
    let layers = [tar(&[file(&inner, "inner"), symlink("a", target)]), tar(&[file(&below, "written")])];
    let source = layout(&host.directory().join("links"), &json!({"Volumes": {"/a/volume": {}}}), &layers);
    let output = outputs.join("output");
    let _ = tool(&host, &source, &output, &["--type", "dir"]).run().ok();
    assert_eq!(fs::read_to_string(output.join(&inner)).unwrap(), "written");
    assert!(output.join(target.trim_start_matches('/')).join("volume").is_dir());
    assert_eq!(names(&outputs), ["output", "output.image-config"]);
    // Damaged blobs.
    let blobs = host.directory().join("links/blobs/sha256");
    for name in names(&blobs) {
        let path = blobs.join(&name);
        let right = fs::read(&path).unwrap();
        let mut wrong = right.clone();
        *wrong.last_mut().unwrap() ^= 1;
        fs::write(&path, wrong).unwrap();
        let line = complaint(tool(&host, &source, &outputs.join("damaged"), &[]));
        assert!(line.contains("digest") || line.contains("layer"), "{line}");
        fs::write(&path, right).unwrap();
    }
    assert_eq!(names(&outputs), ["output", "output.image-config"]);
    assert_eq!(seen(&host, &canary), before);
}

#[test]
fn build_that_is_ended_leaves_nothing() {
    let host = Host::new();
    let output = host.directory().join("outputs");
    fs::create_dir(&output).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = Command::new(provided("KONTENA_IMAGE"));
        command.arg("-").arg("-o").arg(output.join("image")).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Open for as long as it runs, so that it waits for more.
        let _stdin = child.stdin.take();
        wait_until("its directory", || !names(&output).is_empty());
        let scratch: PathBuf = output.join(&names(&output)[0]);
        assert_eq!(fs::metadata(&scratch).unwrap().permissions().mode() & 0o777, 0o700);
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + signal as i32));
        assert!(names(&output).is_empty());
    }
}
