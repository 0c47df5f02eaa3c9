//! Unit tests of `tree.rs` and `tarball.rs`: layers over each other, and hostile ones.
#![allow(clippy::unwrap_used)]

use super::*;
use tar::{Builder, Header};

/// An entry for a tar: its type by a letter, its path, and its link's target or content.
struct Item(EntryType, &'static [u8], &'static [u8]);

const fn dir(path: &'static str) -> Item {
    Item(EntryType::Directory, path.as_bytes(), b"")
}

const fn file(path: &'static str, content: &'static str) -> Item {
    Item(EntryType::Regular, path.as_bytes(), content.as_bytes())
}

const fn symlink(path: &'static str, target: &'static str) -> Item {
    Item(EntryType::Symlink, path.as_bytes(), target.as_bytes())
}

const fn link(path: &'static str, target: &'static str) -> Item {
    Item(EntryType::Link, path.as_bytes(), target.as_bytes())
}

/// A header whose path is taken as it is: the tar crate's own would refuse a hostile one.
fn header(kind: EntryType, path: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header.set_size(size);
    let old = header.as_old_mut();
    old.name.get_mut(..path.len()).unwrap().copy_from_slice(path);
    old.linkname.get_mut(..link.len()).unwrap().copy_from_slice(link);
    header.set_cksum();
    header
}

fn tar(items: &[Item]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for Item(kind, path, text) in items {
        let (link, content) = if *kind == EntryType::Regular { (&b""[..], *text) } else { (*text, &b""[..]) };
        builder.append(&header(*kind, path, link, content.len() as u64), content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A tar of one file with pax records before it.
fn tar_with(records: &[u8], size: u64) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    builder.append(&header(EntryType::XHeader, b"x", b"", records.len() as u64), records).unwrap();
    builder.append(&header(EntryType::Regular, b"a", b"", size), &vec![b'x'; size as usize][..]).unwrap();
    builder.into_inner().unwrap()
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest + 1..).find(|length| *length == rest + length.to_string().len()).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn small() -> Limits {
    Limits { bytes: 1 << 20, entries: 1000, names: 1 << 20, ..Limits::default() }
}

fn try_layers(layers: &[Vec<u8>], limits: Limits) -> Result<Tree, String> {
    let mut tree = Tree::new(tempfile::tempfile().unwrap(), limits);
    for layer in layers {
        tree.apply(&mut Tarball::new(layer.as_slice())).map_err(|error| format!("{error:#}"))?;
    }
    Ok(tree)
}

/// What a tree has, a line for each name: "etc/", "etc/passwd=content", "bin->usr/bin".
fn listing(tree: &Tree) -> Vec<String> {
    let (mut lines, mut directories) = (Vec::new(), vec![(String::new(), ROOT)]);
    while let Some((path, directory)) = directories.pop() {
        for (name, id) in tree.children(directory) {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            match &tree.node(id).kind {
                Kind::Directory(_) => {
                    lines.push(format!("{path}/"));
                    directories.push((format!("{path}/"), id));
                }
                Kind::File { offset, length } => {
                    let mut content = vec![0; usize::try_from(*length).unwrap()];
                    std::os::unix::fs::FileExt::read_exact_at(tree.spool(), &mut content, *offset).unwrap();
                    lines.push(format!("{path}={}", String::from_utf8_lossy(&content)));
                }
                Kind::Symlink(target) => lines.push(format!("{path}->{}", String::from_utf8_lossy(target))),
                other => lines.push(format!("{path} {other:?}")),
            }
        }
    }
    lines.sort();
    lines
}

#[track_caller]
fn check(layers: &[&[Item]], expected: &[&str]) {
    let layers: Vec<Vec<u8>> = layers.iter().map(|items| tar(items)).collect();
    assert_eq!(listing(&try_layers(&layers, small()).unwrap()), expected);
}

#[track_caller]
fn refused(layers: &[Vec<u8>], part: &str) {
    let error = try_layers(layers, small()).err().unwrap();
    assert!(error.contains(part) && !error.contains(['\n', '\x1b']), "{error:?}");
}

#[test]
fn later_layers_replace() {
    check(&[&[dir("a/"), file("a/b", "1")], &[file("a/b", "2"), file("./c", "3")]], &["a/", "a/b=2", "c=3"]);
    // A directory by a file, and the reverse.
    check(&[&[dir("a"), file("a/b", "1")], &[file("a", "2")]], &["a=2"]);
    check(&[&[file("a", "1")], &[dir("a"), file("a/b", "2")]], &["a/", "a/b=2"]);
    check(&[&[symlink("a", "b"), dir("b")], &[dir("a")]], &["a/", "b/"]);
    // A directory stays when it is named again.
    check(&[&[dir("a"), file("a/b", "1")], &[dir("a")]], &["a/", "a/b=1"]);
    // What has no directory gets one; a leading slash is nothing.
    check(&[&[file("/x/y/z", "1")]], &["x/", "x/y/", "x/y/z=1"]);
}

#[test]
fn whiteouts_hide_lower_layers() {
    check(&[&[dir("a"), file("a/b", "1"), file("a/c", "1")], &[file("a/.wh.b", "")]], &["a/", "a/c=1"]);
    check(&[&[dir("a"), file("a/b", "1")], &[file(".wh.a", "")]], &[]);
    // Only lower layers, in whatever order the names are.
    let new = file("a/new", "2");
    let lower: &[Item] = &[dir("a"), dir("a/d"), file("a/d/x", "1"), file("a/b", "1")];
    check(&[lower, &[dir("a"), file("a/.wh..wh..opq", ""), new]], &["a/", "a/new=2"]);
    check(&[lower, &[dir("a"), file("a/new", "2"), file("a/.wh..wh..opq", "")]], &["a/", "a/new=2"]);
    check(&[lower, &[file("a/d/y", "2"), file("a/.wh..wh..opq", "")]], &["a/", "a/d/", "a/d/y=2"]);
    check(&[lower, &[file("a/d/y", "2"), file(".wh.a", "")]], &["a/", "a/d/", "a/d/y=2"]);
    check(&[&[file("a", "1")], &[file("a", "2"), file(".wh.a", "")]], &["a=2"]);
    // Of nothing.
    check(&[&[file("a", "1")], &[file(".wh.b", ""), file("x/.wh.y", ""), file("a/.wh.b", "")]], &["a=1"]);
    check(&[&[file("a", "1")], &[file(".wh..wh.plnk", ""), file(".wh..wh.aufs", "")]], &["a=1"]);
    check(&[&[file("a", "1")], &[file(".wh..wh..opq", "")]], &[]);
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        refused(&[tar(&[dir("a"), file(name, "")])], "a whiteout of no name");
    }
}

#[test]
fn hard_links_cross_layers() {
    let layers = [tar(&[file("a", "1"), link("b", "./a")]), tar(&[link("d/c", "/b"), file("a", "2")])];
    let tree = try_layers(&layers, small()).unwrap();
    assert_eq!(listing(&tree), ["a=2", "b=1", "d/", "d/c=1"]);
    let ids: Vec<Id> = tree.children(ROOT).map(|(_, id)| id).collect();
    assert_eq!(tree.child(ids[2], b"c"), Some(ids[1]));
    // One that a whiteout has removed stays by its other name.
    check(&[&[file("a", "1"), link("b", "a")], &[file(".wh.a", "")]], &["b=1"]);
    // To a symbolic link, which is not followed.
    check(&[&[symlink("a", "/etc"), link("b", "a")]], &["a->/etc", "b->/etc"]);
    check(&[&[file("a", "1"), link("a", "a")]], &["a=1"]);
    refused(&[tar(&[link("a", "b")])], "it is a hard link to b: b is not there");
    refused(&[tar(&[dir("a"), link("b", "a")])], "a directory");
    refused(&[tar(&[link("b", "../../etc/passwd")])], "leads out of the image");
    refused(&[tar(&[link("b", "")])], "a directory");
}

#[test]
fn links_above_stay_in_the_root() {
    // What docker does: the link is followed, in the image's root.
    let link = |target| [tar(&[dir("etc"), symlink("a", target)]), tar(&[file("a/passwd", "x")])];
    for target in ["/etc", "etc", "../../../etc", "/../etc/.", "./x/../etc"] {
        let mut layers = link(target).to_vec();
        layers.insert(0, tar(&[dir("x")]));
        let listing = listing(&try_layers(&layers, small()).unwrap());
        assert_eq!(listing, [&format!("a->{target}"), "etc/", "etc/passwd=x", "x/"], "{target}");
    }
    refused(&link("/nosuch"), "nosuch is not there");
    refused(&link("a"), "leads through more than 40 links");
    refused(&[tar(&[file("a", "1"), file("a/b", "2")])], "not a directory");
    refused(&[tar(&[symlink("a", "b"), symlink("b", "a"), dir("a/c")])], "more than 40 links");
    // A whiteout below a link hides what the link leads to, and the link itself by its name.
    check(&[&[dir("e"), file("e/p", "1"), symlink("a", "e")], &[file("a/.wh.p", "")]], &["a->e", "e/"]);
    check(&[&[dir("e"), file("e/p", "1"), symlink("a", "e")], &[file(".wh.a", "")]], &["e/", "e/p=1"]);
    // A file in the place of a link replaces the link, and not its target.
    check(&[&[file("t", "1"), symlink("a", "t")], &[file("a", "2")]], &["a=2", "t=1"]);
}

#[test]
fn hostile_names_are_refused() {
    for path in ["../x", "a/../../x", "/..", "a/.."] {
        refused(&[tar(&[Item(EntryType::Regular, path.as_bytes(), b"")])], "leads out of the image");
    }
    refused(&[tar(&[file("a\n\x1b[2Jb", "")])], "control characters");
    refused(&[tar_with(&record("path", b"a\0b"), 0)], "a byte of zero");
    refused(&[tar_with(&record("path", &[b'a'; 256]), 0)], "a name has 256 bytes");
    refused(&[tar_with(&record("path", &b"a/".repeat(2048)), 0)], "its path has 4096 bytes");
    refused(&[tar(&[Item(EntryType::Regular, b"./", b"x")])], "the root is not a directory");
    refused(&[tar(&[symlink("a", "")])], "a link without a target");
    let permitted = Limits { control_characters: true, ..small() };
    assert_eq!(listing(&try_layers(&[tar(&[file("a\tb", "")])], permitted).unwrap()), ["a\tb="]);
    // Links that make a path longer than it is written.
    let mut layers = vec![tar_with(&record("path", &[b"e/".repeat(1900).as_slice(), b"f"].concat()), 0)];
    layers.push(tar_with(&[record("path", b"f"), record("linkpath", &b"e/".repeat(1900))].concat(), 0));
    // The records are for a link, and not for a file.
    let size = layers[1].len() - 1536;
    let mut header = header(EntryType::Symlink, b"l", b"", 0);
    header.set_cksum();
    layers[1][size..size + 512].copy_from_slice(header.as_bytes());
    layers.push(tar_with(&record("path", &[b"f/", b"g/".repeat(200).as_slice(), b"h"].concat()), 0));
    let error = try_layers(&layers, Limits { entries: 100_000, ..small() }).err().unwrap();
    assert!(error.contains("its path has more than 4095 bytes"), "{error}");
}

#[test]
fn devices_are_those_of_containers() {
    let device = |kind, major, minor| {
        let mut header = header(kind, b"dev", b"", 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, &b""[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let null = try_layers(&[device(EntryType::Char, 1, 3)], small()).unwrap();
    assert_eq!(listing(&null), ["dev Character(1, 3)"]);
    for (kind, major, minor) in [(EntryType::Block, 8, 0), (EntryType::Char, 1, 1), (EntryType::Char, 0, 0)] {
        refused(&[device(kind, major, minor)], "--permit devices");
        let permitted = Limits { devices: true, ..small() };
        assert!(try_layers(&[device(kind, major, minor)], permitted).is_ok());
    }
    check(&[&[Item(EntryType::Fifo, b"p", b"")]], &["p Fifo"]);
    refused(&[tar(&[Item(EntryType::new(b'V'), b"v", b"")])], "type 'V'");
}

#[test]
fn whiteouts_of_one_directory_take_no_time() {
    let opaque = || file("d/.wh..wh..opq", "");
    check(
        &[&[file("d/a", ""), file("d/e/b", "")], &[opaque(), file("d/c", ""), file("d/e/f", ""), opaque()]],
        &["d/", "d/c=", "d/e/", "d/e/f="],
    );
    check(
        &[&[file("d/a", "")], &[opaque(), file("d/b", "")], &[file("d/c", ""), opaque(), file(".wh.d", "")]],
        &["d/", "d/c="],
    );
    let name = |number| &*Box::leak(format!("d/{number}").into_boxed_str());
    let names: Vec<Item> = (0..5000).map(|number| file(name(number), "")).collect();
    let opaques: Vec<Item> = (0..5000).map(|_| opaque()).collect();
    let limits = Limits { entries: 20_000, ..Limits::default() };
    let start = std::time::Instant::now();
    let _ = try_layers(&[[&tar(&names)[..5000 * 512], &tar(&opaques)].concat()], limits).unwrap();
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn absurd_sizes_are_refused() {
    refused(&[tar_with(&record("size", b"18446744073709551615"), 0)], "absurd");
    refused(&[tar_with(&record("size", b"9000000000000000000"), 0)], "--max-size");
    // Records that are each small enough, before one entry.
    let one = |key: &str| tar_with(&record(key, &[b'x'; 700_000]), 0)[..512 + 700_416].to_vec();
    refused(&[[one("a"), one("b"), tar(&[file("a", "")])].concat()], "describe an entry");
    // Before one entry each, they are as usual.
    let usual = tar_with(&record("comment", &[b'x'; 700_000]), 0);
    let first = usual.len() - 1024;
    let _ = try_layers(&[[&usual[..first], usual.as_slice()].concat()], small()).unwrap();
    refused(&[tar_with(&record("size", b"-1"), 0)], "size is not a number");
    refused(&[tar_with(&record("size", b"1000000"), 5)], "the tar ends early");
    refused(&[tar_with(&record("uid", b"4294967295"), 0)], "uid");
    refused(&[tar_with(&record("mtime", b"soon"), 0)], "mtime");
    refused(&[tar_with(&record("SCHILY.xattr.user.a", &vec![b'x'; 70_000]), 0)], "absurd");
    refused(&[tar_with(&record("GNU.sparse.major", b"1"), 0)], "--sparse");
    // A record that would have to be kept in memory.
    let huge = header(EntryType::XHeader, b"x", b"", 1 << 40);
    refused(&[huge.as_bytes().to_vec()], "describe an entry");
    let items: Vec<Item> = (0..2000).map(|_| file("a", "")).collect();
    refused(&[tar(&items)], "more than 1000 files");
    // Directories without an entry of their own are files too.
    let deep: &'static str = Box::leak("d/".repeat(48).into_boxed_str());
    let items: Vec<Vec<u8>> = (0..30).map(|n| record("path", format!("{n}/{deep}f").as_bytes())).collect();
    let layers: Vec<Vec<u8>> = items.iter().map(|records| tar_with(records, 0)).collect();
    refused(&layers, "more than 1000 files");
    let big = tar_with(b"", 700_000);
    refused(&[big.clone(), big], "--max-size");
}

#[test]
fn attributes_are_kept() {
    let capability = b"\x01\0\0\x02\0\x04\n\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let records = [
        record("SCHILY.xattr.security.capability", capability),
        record("SCHILY.xattr.user.empty", b""),
        record("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        record("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        record("mtime", b"1700000000.25"),
        record("uid", b"3000000000"),
    ];
    let tree = try_layers(&[tar_with(&records.concat(), 1)], small()).unwrap();
    let metadata = &tree.node(tree.child(ROOT, b"a").unwrap()).metadata;
    assert_eq!((metadata.uid, metadata.mtime), (3_000_000_000, (1_700_000_000, 250_000_000)));
    let names: Vec<&[u8]> = metadata.xattrs.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b"security.capability"[..], b"user.empty"]);
    assert_eq!(metadata.xattrs[&b"security.capability".to_vec()], capability);
    assert_eq!(tree.left_out.len(), 2);
    let error = tree.read(b"/a", 0).unwrap_err().to_string();
    assert_eq!((tree.read(b"/a", 1).unwrap(), error.contains("1 bytes")), (Some(b"x".to_vec()), true));
    assert_eq!((tree.read(b"/b", 1).unwrap(), tree.read(b"/", 1).unwrap()), (None, None));
}

#[test]
fn early_ends_are_seen() {
    let whole = tar(&[dir("a"), file("a/b", "content"), file("c", "d")]);
    for length in 0..whole.len() - 1024 {
        let cut = whole.get(..length).unwrap();
        let mut tarball = Tarball::new(cut);
        let mut tree = Tree::new(tempfile::tempfile().unwrap(), small());
        assert!(tree.apply(&mut tarball).is_err() || !tarball.has_ended(), "{length}");
    }
    let mut tarball = Tarball::new(whole.as_slice());
    Tree::new(tempfile::tempfile().unwrap(), small()).apply(&mut tarball).unwrap();
    assert!(tarball.has_ended());
}

/// Damaged tars are errors or other trees, and never a panic or a name that leads out.
#[test]
fn damage_is_survived() {
    let records = [record("SCHILY.xattr.user.a", b"1\n2"), record("path", b"a/long/name"), record("mtime", b"1.5")];
    let lower = tar(&[dir("a"), file("a/b", "content"), symlink("l", "../../a"), link("h", "a/b")]);
    let upper = [tar_with(&records.concat(), 700), tar(&[file("l/.wh.b", ""), file("l/new", "x"), dir("h")])].concat();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    let interesting = [0, b'/', b'.', b'0', b'7', b'9', b' ', b'=', 0x80, 0xff, b'x', b'L', b'K', b'1', b'5'];
    for _ in 0..3000 {
        let mut layers = [lower.clone(), upper.clone()];
        for _ in 0..=random(6) {
            let layer = &mut layers[random(2)];
            let at = random(layer.len());
            layer[at] = interesting[random(interesting.len())];
            // With the right sum, so that what is damaged is read.
            let start = at - at % 512;
            let block: &mut [u8] = &mut layer[start..start + 512];
            if random(8) > 0 && block.iter().any(|byte| *byte != 0) {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Ok(tree) = try_layers(&layers, small()) {
            for line in listing(&tree) {
                let name = line.split(['=', ' ']).next().unwrap().split("->").next().unwrap();
                assert!(name.split('/').all(|part| part != ".." && part != "."), "{line}");
            }
        }
    }
}
