//! What an image says of itself, and what the command line says of that.

use super::{command, run};
use crate::cli::{Command, kept};
use crate::config::lifecycle::Again;
use crate::config::{Config, Overlay};
use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

/// A directory that is a root, or an image beside it, for one test.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kontena-image-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("root")).unwrap();
        Self(path)
    }

    fn path(&self) -> String {
        self.0.join("root").display().to_string()
    }

    /// Writes the config beside the directory.
    fn says(self, words: &[&str]) -> Self {
        self.has(&config(words.iter().map(|word| format!("{word}\0")).collect::<String>().as_bytes()))
    }

    fn has(self, bytes: &[u8]) -> Self {
        fs::write(self.0.join("root.image-config"), bytes).unwrap();
        self
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Result<&'static Config, String> {
        run(&[options, &[&*self.path()], command].concat())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(words: &[u8]) -> Vec<u8> {
    [b"kontena\x01", &u32::try_from(words.len()).unwrap().to_le_bytes()[..], words].concat()
}

const ALL: &[&str] = &[
    r#"--entrypoint=["/entry","-e"]"#,
    "--env=PATH=/image",
    "--env=A=image",
    "--env=B=image",
    "--expose=80",
    "--expose=53/udp",
    r#"--health-cmd=["/check"]"#,
    "--health-interval=7s",
    "--label=a=image",
    "--label=b=image",
    "--stop-signal=QUIT",
    "--user=nginx",
    "--volume=/data",
    "--volume=/var/lib/x_y/",
    "--workdir=/srv",
    "--",
    "serve",
    "--help",
];

fn texts(texts: &[&std::ffi::CStr]) -> Vec<String> {
    texts.iter().map(|text| text.to_str().unwrap().into()).collect()
}

fn volumes(config: &Config) -> Vec<(&'static str, &'static str)> {
    let name = |volume: &crate::config::volumes::Volume| volume.named.map_or("", |named| named.name);
    config.volumes.iter().map(|volume| (name(volume), volume.target.to_str().unwrap())).collect()
}

#[test]
fn all_that_an_image_says_counts() {
    let root = Root::new("all").says(ALL);
    let config = root.run(&["--name=web"], &[]).unwrap();
    assert_eq!(texts(&config.command), ["/entry", "-e", "serve", "--help"]);
    assert_eq!(texts(&config.env), ["HOSTNAME=web", "PATH=/image", "A=image", "B=image"]);
    assert_eq!((config.user, config.workdir, config.life.stop_signal), (c"nginx", c"/srv", 3));
    assert_eq!((&config.exposed[..], &config.labels[..]), (&["80/tcp", "53/udp"][..], &["a=image", "b=image"][..]));
    let health = config.life.health.as_ref().unwrap();
    assert_eq!((texts(&health.command), health.interval), (vec!["/check".into()], Duration::from_secs(7)));
    assert_eq!(volumes(config), [("web_data", "/data"), ("web_var_lib_x.5Fy", "/var/lib/x_y/")]);
    assert!(config.publish.is_empty());
}

#[test]
fn command_line_wins() {
    let root = Root::new("wins").says(ALL);
    let run = |options: &[&str], command: &[&str]| root.run(options, command).unwrap();
    // COMMAND takes the place of Cmd, and another entrypoint that of both.
    assert_eq!(texts(&run(&[], &["sh"]).command), ["/entry", "-e", "sh"]);
    assert_eq!(texts(&run(&["--entrypoint=/a"], &[]).command), ["/a"]);
    assert_eq!(texts(&run(&["--entrypoint="], &[]).command), ["/bin/sh"]);
    assert_eq!(texts(&run(&["--entrypoint="], &["sh"]).command), ["sh"]);
    let file = root.0.join("env");
    fs::write(&file, "A=file\nB=file\n").unwrap();
    let file = format!("--env-file={}", file.display());
    let env = texts(&run(&["-eA=line", &file], &[]).env);
    assert!(["PATH=/image", "A=line", "B=file"].iter().all(|variable| env.iter().any(|other| other == variable)));
    assert_eq!(env.len(), 4, "{env:?}");
    let config = run(&["-u1", "-w/", "--stop-signal=INT", "-l", "a=line", "--expose=443"], &[]);
    assert_eq!((config.user, config.workdir, config.life.stop_signal), (c"1", c"/", 2));
    let broken = Root::new("broken").says(&["--stop-signal=FOO"]);
    assert!(broken.run(&[], &[]).is_err());
    assert!(broken.run(&["--stop-signal=INT"], &[]).is_ok());
    // Of two with one key the last one counts.
    assert_eq!(config.labels, ["a=image", "b=image", "a=line"]);
    assert_eq!(config.exposed, ["80/tcp", "53/udp", "443/tcp"]);
    let own = run(&["--userns=keep-id"], &[]).user.to_bytes();
    assert!(own != b"nginx" && own.contains(&b':'));
    assert_eq!(run(&["--userns=keep-id", "-u7"], &[]).user, c"7");
    // All of the image's health, or what is said of it.
    let health = |options: &[&str]| run(options, &[]).life.health.as_ref();
    assert!(health(&["--no-healthcheck"]).is_none());
    let other = health(&["--health-cmd=[\"a\"]"]).unwrap();
    assert_eq!((texts(&other.command), other.interval), (vec!["a".into()], Duration::from_secs(30)));
    let same = health(&["--health-timeout=9s"]).unwrap();
    assert_eq!((same.timeout, same.interval), (Duration::from_secs(9), Duration::from_secs(7)));
    let line = root.run(&["--no-healthcheck", "--health-retries=1"], &[]).err();
    assert_eq!(line.as_deref(), Some("--health-retries: it does not go with --no-healthcheck"));
    for option in
        ["-v/host:/data", "-v/host:/data/", "-vmine:/data", "--tmpfs=/data", "--mount=type=tmpfs,target=/data"]
    {
        let all = volumes(run(&["--name=a", option], &[]));
        assert_eq!(all.iter().filter(|(_, target)| target.starts_with("/data")).count(), 1, "{option}: {all:?}");
        assert!(all.iter().all(|(name, _)| *name != "a_data"), "{option}: {all:?}");
    }
}

#[test]
fn exposed_ports_are_published_if_that_is_asked_for() {
    let root = Root::new("ports").says(ALL);
    let published = |options: &[&str]| {
        let ports = &root.run(options, &[]).unwrap().publish;
        ports.iter().map(|port| format!("{}:{}/{}", port.host_port, port.container_port, port.protocol)).collect()
    };
    let none: Vec<String> = published(&[]);
    assert!(none.is_empty());
    let all: Vec<String> = published(&["-P", "--expose=80", "--expose=90-91"]);
    assert_eq!(all, ["0:80/tcp", "0:53/udp", "0:90/tcp", "0:91/tcp"]);
    // As docker has it: one that has a port of the host already gets no other.
    let all: Vec<String> = published(&["-P", "-p8080:80", "--net=none"]);
    assert_eq!(all, ["8080:80/tcp", "0:53/udp"]);
    assert!(root.run(&["-P", "--net=host"], &[]).is_err_and(|line| line.starts_with("--publish-all: with --net host")));
    assert!(root.run(&["-P", "--expose=1-2000"], &[]).is_err_and(|line| line.starts_with("--publish-all: these are")));
    assert!(root.run(&["-dP", "--wait-ready"], &[]).is_ok());
}

#[test]
fn an_image_cannot_ask_for_what_is_the_hosts() {
    for (words, name) in [
        (&["--privileged"][..], "--privileged"),
        (&["--volume=/:/host"], "--volume"),
        (&["--volume=data:/x"], "--volume"),
        (&["--volume=data"], "--volume"),
        (&["--volume=/.."], "--volume"),
        (&["--volume"], "--volume"),
        (&["--env=SECRET"], "--env"),
        (&["--env"], "--env"),
        (&["--env", "A=B"], "--env"),
        (&["--env==a"], "--env"),
        (&["--net=host"], "--net"),
        (&["--network=host"], "--network"),
        (&["--label"], "--label"),
        (&["--label", "--"], "--label"),
        (&["--label=a\x1b[2Jb"], "--label"),
        (&["--label=a\nkept"], "--label"),
        (&["--name=web"], "--name"),
        (&["--verify=0"], "--verify"),
        (&["--replace"], "--replace"),
        (&["--help"], "--help"),
        (&["-h"], "-h"),
        (&["-hname"], "-hname"),
        (&["help"], "help"),
        (&[""], ""),
        (&["-"], "-"),
        (&["-u0"], "-u0"),
        (&["---user=0"], "---user"),
        (&["--user"], "--user"),
        (&["--cwd=/"], "--cwd"),
        (&["--entrypoint=sh"], "--entrypoint"),
        (&["--entrypoint=[\"a\""], "--entrypoint"),
        (&["--no-healthcheck=x"], "--no-healthcheck"),
        (&["--expose=80:80"], "--expose"),
        (&["--stop-signal=0"], "--stop-signal"),
        (&["--publish=80:80"], "--publish"),
        (&["--tmpfs=/a"], "--tmpfs"),
        (&["--env-file=/etc/shadow"], "--env-file"),
        (&["--workdir=a"], "--workdir"),
        (&["--a\x1b[2J=x"], "--a\\u{1b}[2J"),
        (&["--user=1", "--user env=1"], "--user env"),
    ] {
        let root = Root::new("asks").says(words);
        let line = root.run(&["-eX=1"], &["true"]).err().unwrap_or_else(|| panic!("{words:?}"));
        let wanted = format!("{name} in the image-config of {}: ", root.path());
        assert!(line.starts_with(&wanted) && !line.contains("SECRET") && !line.contains('\x1b'), "{line}");
    }
    let many = vec!["--label=a"; 1001];
    let line = Root::new("many").says(&many).run(&[], &[]).err().unwrap();
    assert!(line.ends_with("it is one of more than 1000 options"), "{line}");
    assert!(Root::new("enough").says(&many[1..]).run(&[], &[]).is_ok());
    // What is behind the first -- is the command.
    let root = Root::new("command").says(&["--", "--privileged", "--", "\x1b", "-h"]);
    assert_eq!(texts(&root.run(&[], &[]).unwrap().command), ["--privileged", "--", "\x1b", "-h"]);
    assert!(matches!(command(&["run", &root.path()]), Ok(Command::Run(_))));
}

#[test]
fn a_config_that_is_broken_is_told_and_another_file_is_none() {
    let root = || Root::new("broken");
    for (bytes, hint) in [
        (config(b"--user=1"), "its last word has no end"),
        (config(b"--user=\xff\0"), "it is not UTF-8"),
        (config(b"--user=1\0")[..20].to_vec(), "the file ends before it does"),
        ([&b"kontena\x01"[..], &[0xff; 4], &[0; 99]].concat(), "it has more than 1 MiB"),
        ([&b"kontena\x01"[..], &[1, 0, 0x10, 0]].concat(), "it has more than 1 MiB"),
        (b"kontena\x02\0\0\0\0".to_vec(), "kontena-image has not written it"),
        (b"kontena".to_vec(), "kontena-image has not written it"),
        (Vec::new(), "kontena-image has not written it"),
    ] {
        let line = root().has(&bytes).run(&[], &[]).err().unwrap_or_default();
        assert!(line.starts_with("image-config of /") && line.contains(hint), "{bytes:?}: {line}");
    }
    assert!(root().has(&config(b"")).run(&[], &[]).is_ok_and(|config| config.command == [c"/bin/sh"]));
    let root = root();
    symlink("elsewhere", root.0.join("root.image-config")).unwrap();
    assert!(root.run(&[], &[]).is_err_and(|line| line.contains("no link")));
}

#[test]
fn an_image_has_its_config_behind_the_file_system() {
    let root = Root::new("file").says(&["--user=3"]);
    let path = root.0.join("image");
    let user = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        run(&[path.to_str().unwrap()]).map(|config| config.user.to_str().unwrap())
    };
    let file_system = |bits: u8, blocks: u32, length: usize| {
        let mut erofs = vec![0; length];
        erofs[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        erofs[1024 + 12] = bits;
        erofs[1024 + 36..1024 + 40].copy_from_slice(&blocks.to_le_bytes());
        erofs
    };
    let squashfs = |used: u64, length: usize| {
        let mut squashfs = vec![0; length];
        squashfs[..4].copy_from_slice(b"hsqs");
        squashfs[40..48].copy_from_slice(&used.to_le_bytes());
        squashfs
    };
    let said = config(b"--user=7\0");
    for system in [file_system(12, 2, 8192), file_system(9, 15, 8192), squashfs(8192, 8192), squashfs(4097, 8192)] {
        assert_eq!(user(&[&system[..], &said, &[0; 4000]].concat()), Ok("7"));
        // Bytes that are no config, or none.
        assert_eq!(user(&system), Ok(""));
        assert_eq!(user(&[&system[..], b"kontena"].concat()), Ok(""));
        assert_eq!(user(&[&system[..], &[0x55; 8192]].concat()), Ok(""));
        assert!(user(&[&system[..], &said[..said.len() - 3]].concat()).is_err());
    }
    // Its root is written to in memory, unless the command line says otherwise; that of another image is not.
    let overlay = |options: &[&str]| run(&[options, &[path.to_str().unwrap()]].concat()).map(|config| &config.overlay);
    let erofs = file_system(12, 2, 8192);
    fs::write(&path, [&erofs[..], &said].concat()).unwrap();
    assert_eq!(overlay(&[]), Ok(&Overlay::Memory));
    assert_eq!(overlay(&["--read-only"]), Ok(&Overlay::None));
    assert_eq!(overlay(&["--overlay=/a"]), Ok(&Overlay::Directory(c"/a")));
    assert_eq!(root.run(&[], &[]).map(|config| &config.overlay), Ok(&Overlay::None));
    fs::write(&path, &erofs).unwrap();
    assert_eq!(overlay(&[]), Ok(&Overlay::None));
    // Copies that were interrupted.
    for system in [
        file_system(12, 2, 8191),
        file_system(12, u32::MAX, 4096),
        squashfs(8193, 8192),
        squashfs(u64::MAX, 4096),
        squashfs(i64::MAX as u64, 4096),
    ] {
        assert!(user(&system).is_err_and(|line| line.contains("shorter than its file system")));
    }
    // Absurd sizes: the kernel says so when it mounts the image.
    for system in [file_system(255, 1, 4096), file_system(63, 3, 4096), squashfs(0, 4096), b"hsqs".to_vec()] {
        assert_eq!(user(&system), Ok(""));
    }
}

#[test]
fn a_kept_container_gets_what_its_image_says_again() {
    let again = Again { attach: false, takes_input: false };
    let root = Root::new("kept").says(ALL);
    let create = |options: &[&str]| {
        let path = root.path();
        match command(&[&["create", "-eA=line", "-la=line"], options, &[&*path]].concat()) {
            Ok(Command::Create(config)) => config,
            _ => panic!("not created"),
        }
    };
    for (options, is_named) in [(&["--name=web", "--net=none"][..], true), (&["-P", "--no-healthcheck", "-t"], false)] {
        let created = create(options);
        let config = kept::read(&created.line, again).unwrap().config;
        assert_eq!((&config.env, &config.command, &config.labels), (&created.env, &created.command, &created.labels));
        assert_eq!((volumes(config), config.publish.len()), (volumes(created), created.publish.len()));
        assert_eq!((config.user, config.life.health.is_some()), (c"nginx", is_named));
        assert_eq!(config.line, created.line);
        assert_eq!(volumes(config)[0].0 == "web_data", is_named);
    }
    // The image has changed: an update on a board.
    let created = create(&[]);
    let root = root.says(&["--env=B=new", "--label=a=new", "--", "new"]);
    let config = kept::read(&created.line, again).unwrap().config;
    let env = texts(&config.env);
    assert!(env.contains(&"A=line".into()) && env.contains(&"B=new".into()) && env[0].starts_with("PATH=/usr"));
    assert_eq!((&config.labels[..], &config.command[..]), (&["a=new", "a=line"][..], &[c"new"][..]));
    drop(root);
}

#[test]
fn volumes_without_a_name_stay_on_their_targets() {
    let again = Again { attach: false, takes_input: false };
    let root = Root::new("stay").says(&["--volume=/b", "--volume=/c"]);
    let path = root.path();
    let Ok(Command::Create(created)) = command(&["create", "-v/x y", &*path]) else { panic!("not created") };
    let on = |config: &Config, target: &CStr| {
        let volume = config.volumes.iter().find(|volume| volume.target == target);
        volume.and_then(|volume| volume.named).map(|named| named.name)
    };
    // The image has changed: one more, and one less; and then as it was.
    let root = root.says(&["--volume=/a", "--volume=/c"]);
    let changed = kept::read(&created.line, again).unwrap().config;
    assert_eq!((on(changed, c"/c"), on(changed, c"/x y")), (on(created, c"/c"), on(created, c"/x y")));
    assert!(on(changed, c"/a").is_some() && on(changed, c"/a") != on(created, c"/b"));
    let root = root.says(&["--volume=/a", "--volume=/b", "--volume=/c"]);
    let back = kept::read(&changed.line, again).unwrap().config;
    assert_eq!([on(back, c"/a"), on(back, c"/b")], [on(changed, c"/a"), on(created, c"/b")]);
    drop(root);
}

#[test]
fn names_of_an_images_volumes_are_those_of_no_other() {
    let name = |container: &str, target: &str| {
        let mut volume = crate::config::volumes::volume(target).unwrap();
        volume.belong_to(container).map(|()| volume.named.unwrap().name)
    };
    for (container, target, wanted) in [
        ("web", "/data", "web_data"),
        ("web", "/data/", "web_data"),
        ("web", "//data/.", "web_data"),
        ("web_data", "/x", "web.5Fdata_x"),
        ("web", "/data/x", "web_data_x"),
        ("web", "/data_x", "web_data.5Fx"),
        ("a.b+c", "/ü \x1b", "a.2Eb.2Bc_.C3.BC.20.1B"),
    ] {
        assert_eq!(name(container, target), Ok(wanted));
    }
    assert!(name(&"a".repeat(123), "/data").is_ok());
    assert!(name(&"a".repeat(124), "/data").is_err_and(|hint| hint.contains("--name")));
}
