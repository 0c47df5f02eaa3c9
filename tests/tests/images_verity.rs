//! `--verify`: images that the kernel checks whenever it reads them, by dm-verity.
//!
//! The attacker can write to the image at any time, and not to the root hash.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nix::libc::SYS_ioctl;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tests::{Container, Host, Traced, images, wait_until};

const BLOCK: usize = 4096;

/// A copy of a verified image of the demo, which a test may change.
struct Image {
    path: PathBuf,
    root_hash: String,
    bytes: Vec<u8>,
    /// Where its superblock of dm-verity is.
    tree: usize,
}

impl Image {
    fn new(host: &Host, kind: &str) -> Self {
        let original = images().join(format!("demo.{kind}.verified"));
        let root_hash = fs::read_to_string(original.with_added_extension("verity")).unwrap().trim().to_owned();
        let bytes = fs::read(original).unwrap();
        let tree = (0..bytes.len()).step_by(BLOCK).find(|at| bytes[*at..].starts_with(b"verity\0\0")).unwrap();
        let path = host.directory().join(format!("image.{kind}"));
        fs::write(&path, &bytes).unwrap();
        Self { path, root_hash, bytes, tree }
    }

    /// The options for it.
    fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--net", "none", "--verify", &self.root_hash], more].concat()
    }

    /// Changes the file, and nothing else about it.
    fn flip(&self, at: usize) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(&[self.bytes[at] ^ 0x10], at as u64).unwrap();
    }

    /// Where a block of the program nginx is, which nothing reads unless somebody asks for it.
    fn block_of_nginx(&self, host: &Host) -> usize {
        let nginx = host.inside(|| fs::read(host.demo().join("usr/sbin/nginx")).unwrap());
        let block = &nginx[20 * BLOCK..21 * BLOCK];
        (0..self.tree).step_by(BLOCK).find(|at| self.bytes[*at..].starts_with(block)).unwrap()
    }
}

/// Whether this kernel has dm-verity. Where it has not, that is the error.
fn is_verifiable(host: &Host, image: &Image) -> bool {
    let before = host.snapshot();
    let outcome = host.run(&image.options(&[]), &image.path, &["/bin/true"]).run();
    if outcome.code == 0 {
        return true;
    }
    let line = outcome.refused(125);
    assert!(!Path::new("/sys/module/dm_verity").exists(), "{line}");
    assert!(line.contains("--verify") && line.contains("CONFIG_DM_VERITY"), "{line}");
    before.assert_restored(|| host.snapshot());
    assert_nothing_left(host);
    false
}

/// Waits until no loop device has a file of the test's. A dm device whose table is loaded has one.
#[track_caller]
fn assert_nothing_left(host: &Host) {
    let directory = host.directory().file_name().unwrap().to_str().unwrap();
    wait_until("the loop devices to be given back", || {
        let all = fs::read_dir("/sys/block").unwrap().flatten();
        let mut files = all.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
        !files.any(|file| file.contains(directory))
    });
}

#[track_caller]
fn assert_refused(host: &Host, image: &Image, root_hash: &str, why: &str, what: &str) {
    let options = ["--net", "none", "--verify", root_hash];
    let line = host.run(&options, &image.path, &["/bin/true"]).run().refused(125);
    assert!(line.contains("--verify") && line.contains(why), "{what}: {line}");
}

#[test]
fn image_with_the_right_hash_is_served() {
    let host = Host::new();
    for kind in ["erofs", "squashfs"] {
        let image = Image::new(&host, kind);
        if !is_verifiable(&host, &image) {
            return;
        }
        // Without a layer in memory, the root itself is on the device.
        let options = ["--name", "web", "-p", "8080:80", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run"];
        let options = [&options[..], &["--verify", &image.root_hash]].concat();
        let running = host.run(&options, &image.path, &["/usr/sbin/nginx"]).start();
        let mut web = Container::new(&host, "web", running);
        let init = web.init();
        wait_until("the page", || host.get("127.0.0.1:8080").is_ok() || web.has_ended());
        assert!(host.get("127.0.0.1:8080").is_ok(), "{}", web.stderr());
        // The root is on a device of the device mapper, by a name of ours.
        let mountinfo = fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
        let root = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        let device = root.split(' ').nth(2).unwrap();
        let name = fs::read_to_string(format!("/sys/dev/block/{device}/dm/name")).unwrap();
        assert!(name.starts_with("kontena-verity-"), "{name}: {root}");
        // It is in use, and no sweep takes it away.
        host.prune();
        host.get("127.0.0.1:8080").unwrap();
        let _ = web.stop();
        wait_until("the device to go", || !Path::new(&format!("/sys/dev/block/{device}/dm")).exists());
        assert_nothing_left(&host);
    }
}

#[test]
fn changed_image_is_refused_or_cannot_be_read() {
    let host = Host::new();
    let image = Image::new(&host, "erofs");
    if !is_verifiable(&host, &image) {
        return;
    }
    let other = image.root_hash.replace(|c| c == image.root_hash.as_bytes()[0] as char, "e");
    let other = if other == image.root_hash { "0".repeat(64) } else { other };
    assert_refused(&host, &image, &other, "root hash", "another hash");
    // The superblock of the file system, the config, the salt, the root of the tree.
    for at in [1024 + 20, image.tree - BLOCK + 100, image.tree + 90, image.tree + BLOCK] {
        image.flip(at);
        assert_refused(&host, &image, &image.root_hash, "root hash", &format!("byte {at} flipped"));
        fs::write(&image.path, &image.bytes).unwrap();
    }
    // A block that nobody needs for the mount, changed before the start and afterwards.
    let at = image.block_of_nginx(&host);
    let volume = format!("{}:/intruder:ro", tests::intruder().display());
    image.flip(at);
    let options = image.options(&["-v", &volume, "--tmpfs", "/tmp"]);
    let outcome = host.run(&options, &image.path, &["/intruder", "look", "/usr/sbin/nginx"]).run();
    assert!(outcome.code != 0 && outcome.stderr.contains("os error 5"), "{outcome}");
    fs::write(&image.path, &image.bytes).unwrap();
    let options = image.options(&["-v", &volume, "--tmpfs", "/tmp", "--name", "idle"]);
    let running = host.run(&options, &image.path, &["/intruder", "time", "4000000000"]).start();
    let mut idle = Container::new(&host, "idle", running);
    let _ = idle.init();
    wait_until("the payload", || tests::leaf_processes(&idle.leaf()).len() == 2);
    image.flip(at);
    let outcome = host.kontena().args(["exec", "idle", "/intruder", "look", "/usr/sbin/nginx"]).run();
    assert!(outcome.code != 0 && outcome.stderr.contains("os error 5"), "{outcome}");
    drop(idle);
    assert_nothing_left(&host);
}

#[test]
fn hash_tree_that_is_not_one_is_refused() {
    let host = Host::new();
    let image = Image::new(&host, "erofs");
    let (tree, blocks) = (image.tree, (image.tree / BLOCK) as u64);
    let refused = |what: &str, bytes: &[u8]| {
        fs::write(&image.path, bytes).unwrap();
        assert_refused(&host, &image, &image.root_hash, "hash tree", what);
    };
    for (what, at, value) in [
        ("magic", 0, &b"Verity"[..]),
        ("version", 8, &[2]),
        ("type of hashes", 12, &[0]),
        ("algorithm", 32, b"sha1\0\0"),
        ("algorithm with an argument", 32, b"sha256 1"),
        ("blocks of 512 bytes", 64, &512_u32.to_le_bytes()),
        ("blocks of no bytes", 64, &[0; 4]),
        ("hashes in huge blocks", 68, &[0xff; 4]),
        ("no blocks", 72, &[0; 8]),
        ("one block", 72, &1_u64.to_le_bytes()),
        ("a block less", 72, &(blocks - 1).to_le_bytes()),
        ("a block more", 72, &(blocks + 1).to_le_bytes()),
        ("all blocks that there are", 72, &[0xff; 8]),
        ("no salt", 80, &[0; 2]),
        ("a long salt", 80, &256_u16.to_le_bytes()),
        ("a salt longer than its place", 80, &[0xff; 2]),
    ] {
        let mut bytes = image.bytes.clone();
        bytes[tree + at..tree + at + value.len()].copy_from_slice(value);
        refused(what, &bytes);
    }
    for (what, length) in [
        ("no tree", tree),
        ("the superblock alone", tree + BLOCK),
        ("half a superblock", tree + 40),
        ("a tree that is cut short", image.bytes.len() - BLOCK),
        ("half of the image", tree / 2),
    ] {
        refused(what, &image.bytes[..length]);
    }
    for (what, at, value) in [
        ("a huge file system", 1024 + 36, &[0xff; 4][..]),
        ("blocks of 2^255 bytes", 1024 + 12, &[0xff]),
        ("blocks of 2^63 bytes", 1024 + 12, &[63]),
        ("no config", tree - BLOCK, &[0; 8]),
        ("a huge config", tree - BLOCK + 8, &[0xff; 4]),
    ] {
        let mut bytes = image.bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        refused(what, &bytes);
    }
    // The root hash of a tree of one block less is the same: the config would be left out.
    let mut bytes = [&image.bytes[..tree - BLOCK], &image.bytes[tree..]].concat();
    bytes[tree - BLOCK + 72..tree - BLOCK + 80].copy_from_slice(&(blocks - 1).to_le_bytes());
    refused("the config cut out", &bytes);
    fs::write(&image.path, fs::read(images().join("demo.squashfs")).unwrap()).unwrap();
    assert_refused(&host, &image, &image.root_hash, "hash tree", "an image as it is");
    fs::write(&image.path, &image.bytes).unwrap();

    // All of these agree with each other, and only the device shows what they are.
    if is_verifiable(&host, &image) {
        let mut bytes = [&image.bytes[..tree], &image.bytes[tree - BLOCK..]].concat();
        bytes[1024 + 36..1024 + 40].copy_from_slice(&(blocks as u32).to_le_bytes());
        bytes[tree + BLOCK + 72..tree + BLOCK + 80].copy_from_slice(&(blocks + 1).to_le_bytes());
        fs::write(&image.path, bytes).unwrap();
        assert_refused(&host, &image, &image.root_hash, "root hash", "a larger file system");
    }
    assert_nothing_left(&host);
}

#[test]
fn verify_wants_an_image_and_a_hash() {
    let host = Host::new();
    let image = Image::new(&host, "erofs");
    let options = image.options(&[]);
    let line = host.run(&options, host.demo(), &["/bin/true"]).run().refused(125);
    assert!(line.contains("--verify") && line.contains("image"), "{line}");
    for hash in ["", "abc", &image.root_hash[1..], &format!("{}0", image.root_hash), &format!("{:>64}", "x")] {
        let line = host.run(&["--net", "none", "--verify", hash], &image.path, &["/bin/true"]).run().refused(125);
        assert!(line.contains("64 hexadecimal digits"), "{hash:?}: {line}");
    }
    assert_nothing_left(&host);
}

#[test]
fn verified_image_is_restarted_and_started_again() {
    let host = Host::new();
    let image = Image::new(&host, "squashfs");
    if !is_verifiable(&host, &image) {
        return;
    }
    let options = image.options(&["--restart", "on-failure:2", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
    let outcome = host.run(&options, &image.path, &["/usr/sbin/nginx", "-c", "/nosuch"]).run();
    assert!(outcome.code == 1 && outcome.stderr.matches("/nosuch").count() >= 3, "{outcome}");
    assert_nothing_left(&host);

    let _ = host.run(&image.options(&["-d", "--name", "again"]), &image.path, &["/bin/true"]).run().ok();
    let _ = host.kontena().args(["wait", "again"]).run();
    let _ = host.kontena().args(["start", "again"]).run().ok();
    let _ = host.kontena().args(["wait", "again"]).run();
    // The new one is mounted once before the old one is stopped.
    let replace = image.options(&["-d", "--name", "again", "--replace", "--restart", "always"]);
    let served = [&replace[..], &["--tmpfs", "/tmp", "--tmpfs", "/run"]].concat();
    for _ in 0..2 {
        let _ = host.run(&served, &image.path, &["/usr/sbin/nginx"]).run().ok();
    }
    let _ = host.kontena().args(["stop", "again"]).run().ok();
    image.flip(1024 + 20);
    let line = host.kontena().args(["start", "again"]).run().refused(125);
    assert!(line.contains("root hash"), "{line}");
    let _ = host.kontena().args(["delete", "again"]).run().ok();
    assert_nothing_left(&host);
}

#[test]
fn launcher_killed_at_any_system_call_leaves_no_device() {
    let host = Host::new();
    let image = Image::new(&host, "erofs");
    if !is_verifiable(&host, &image) {
        return;
    }
    let options = image.options(&["--name", "victim"]);
    let start = || Traced::start(host.run(&options, &image.path, &["/bin/true"]));
    let mut whole = start();
    let all: Vec<(u64, [u64; 6])> = std::iter::from_fn(|| whole.next_call()).collect();
    let _ = whole.finish().code(0);
    // The calls of the device mapper have a letter of their own.
    let is_mapper =
        |(number, arguments): &(u64, [u64; 6])| *number == SYS_ioctl as u64 && arguments[1] >> 8 & 0xff == 0xfd;
    let first = all.iter().position(is_mapper).unwrap();
    let last = all.iter().rposition(is_mapper).unwrap() + 1;
    for call in (0..all.len()).filter(|call| call % tests::few() == 0 || (first..=last).contains(call)) {
        let mut victim = start();
        if (0..=call).any(|_| victim.next_call().is_none()) {
            let _ = victim.finish().code(0);
            continue;
        }
        victim.kill();
        if call % 2 == 0 {
            host.prune();
            assert_nothing_left(&host);
        } else {
            let _ = host.run(&options, &image.path, &["/bin/true"]).run().ok();
        }
    }
    assert!(last - first >= 5 && all.len() > 50, "{first} to {last} of {} system calls?", all.len());
    assert_nothing_left(&host);
}

#[test]
fn starts_at_once_do_not_take_devices_from_each_other() {
    let host = Host::new();
    let image = Image::new(&host, "erofs");
    if !is_verifiable(&host, &image) {
        return;
    }
    let options = image.options(&[]);
    for _ in 0..3 {
        let all = [(); 6].map(|()| host.run(&options, &image.path, &["/bin/true"]).start());
        for running in all {
            let _ = running.finish().ok();
        }
    }
    assert_nothing_left(&host);
}
