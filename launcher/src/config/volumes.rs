//! What is mounted on request: `-v`, `--mount`, `--tmpfs`.
//!
//! Each function parses the text of one option, and returns a volume or a hint of one line. Must not touch the system.

use crate::error::Parsed;
use crate::text::{bytes, c_text, has, is_name, number};
use linux_raw_sys::general::{
    MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_SLAVE,
};
use std::ffi::CStr;
use std::fmt::Display;

/// Something mounted on request.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    /// A path of the host, or `None` for a tmpfs. That of a named volume is known once [`Self::locate`] was called.
    pub source: Option<&'static CStr>,
    /// Where it is one of kontena's own.
    pub named: Option<Named>,
    /// An absolute path in the container.
    pub target: &'static CStr,
    /// MOUNT_ATTR_*.
    pub attributes: u32,
    /// MS_PRIVATE, or MS_SLAVE: what is mounted there on the host later on is seen in the container, too.
    pub propagation: u32,
    /// Whether its files belong to the container's users as they do to the host's; mount_setattr(2), MOUNT_ATTR_IDMAP.
    pub idmap: bool,
    /// `U`: whether its files are given to the container's user.
    pub chowns: bool,
    /// For the file system: `size=64m`, `mode=1777`.
    pub options: Vec<&'static CStr>,
}

/// A volume of kontena's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name; empty for one that the container gets for itself.
    pub name: &'static str,
    /// Whether it was given no name.
    pub is_anonymous: bool,
    /// Whether it gets the contents of the root's directory when it is used first.
    pub copies: bool,
}

impl Volume {
    /// Devices in it are not usable, unless that is asked for.
    fn new(source: Option<&'static CStr>, target: &'static CStr) -> Self {
        let (attributes, options) = (MOUNT_ATTR_NODEV, Vec::new());
        let (propagation, idmap, chowns) = (MS_PRIVATE, false, false);
        Self { source, named: None, target, attributes, propagation, idmap, chowns, options }
    }

    /// A volume of kontena's own; without a name, one for this container.
    fn named(name: &str, target: &str) -> Parsed<Self> {
        if !name.is_empty() && !is_volume_name(name) {
            return Err(NAME);
        }
        let name = name.to_owned().leak();
        let named = Named { name, is_anonymous: name.is_empty(), copies: true };
        Ok(Self { named: Some(named), ..Self::new(None, mount_target(target).ok_or(TARGET)?) })
    }

    /// Sets the source of a named volume: below `directory`, under `name` if it has none of its own.
    pub fn locate(&mut self, directory: &str, name: impl FnOnce() -> &'static str) -> Parsed<()> {
        if let Some(named) = &mut self.named {
            if named.is_anonymous {
                named.name = name();
            }
            self.source = Some(c_text(&format!("{directory}/{}/{DATA}", named.name))?);
        }
        Ok(())
    }

    /// Gives it a name that no other target in a container of any other name has.
    #[cfg(feature = "images")]
    pub fn belong_to(&mut self, container: &str) -> Parsed<()> {
        let mut name = String::new();
        for part in [container.as_bytes()].into_iter().chain(self.parts()) {
            if !name.is_empty() {
                name.push('_');
            }
            for byte in part {
                match *byte {
                    plain if plain.is_ascii_alphanumeric() || plain == b'-' => name.push(plain.into()),
                    other => {
                        let digit = |digit: u8| char::from(b"0123456789ABCDEF"[usize::from(digit % 16)]);
                        ['.', digit(other >> 4), digit(other)].into_iter().for_each(|c| name.push(c));
                    }
                }
            }
        }
        if !is_volume_name(&name) {
            return Err("its name and the container's have more than 128 letters: use a shorter --name");
        }
        self.named = Some(Named { name: name.leak(), is_anonymous: false, copies: true });
        Ok(())
    }

    /// Whether both have one target.
    pub fn is_on(&self, other: &Self) -> bool {
        self.parts().eq(other.parts())
    }

    /// Whether it is something of the host, and no tmpfs.
    fn is_bind(&self) -> bool {
        self.source.is_some() || self.named.is_some()
    }

    /// How many directories deep it is in the container.
    pub fn depth(&self) -> usize {
        self.parts().count()
    }

    /// The names on the way to its target.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.target.to_bytes().split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.']))
    }

    /// Changes what `option` says; `None` where it says nothing.
    fn set(&mut self, option: &str) -> Option<()> {
        let (attribute, on) = match option {
            "ro" | "readonly" => (MOUNT_ATTR_RDONLY, true),
            "rw" => (MOUNT_ATTR_RDONLY, false),
            "nosuid" => (MOUNT_ATTR_NOSUID, true),
            "suid" => (MOUNT_ATTR_NOSUID, false),
            "nodev" => (MOUNT_ATTR_NODEV, true),
            "dev" => (MOUNT_ATTR_NODEV, false),
            "noexec" => (MOUNT_ATTR_NOEXEC, true),
            "exec" => (MOUNT_ATTR_NOEXEC, false),
            "rprivate" | "private" | "rslave" | "slave" if self.is_bind() => {
                self.propagation = if option.ends_with("slave") { MS_SLAVE } else { MS_PRIVATE };
                return Some(());
            }
            // Labels are SELinux's, which kontena does not know, and the rest is about docker's virtual machines.
            "z" | "Z" | "cached" | "delegated" | "consistent" if self.is_bind() => return Some(()),
            "nocopy" | "volume-nocopy" => {
                self.named.as_mut()?.copies = false;
                return Some(());
            }
            "U" if self.is_bind() => {
                self.chowns = true;
                return Some(());
            }
            "idmap" if self.is_bind() => {
                self.idmap = true;
                return Some(());
            }
            _ => return None,
        };
        if on {
            self.attributes |= attribute
        } else {
            self.attributes &= !attribute
        }
        Some(())
    }

    /// Adds an option of tmpfs(5) if its value is `good`.
    fn push(&mut self, name: &str, value: impl Display, good: bool) -> Option<()> {
        self.options.push(c_text(&format!("{name}={value}")).ok().filter(|_| good)?);
        Some(())
    }

    fn set_size(&mut self, size: &str) -> Option<()> {
        match size.strip_suffix('%') {
            Some(percent) => self.push("size", size, number(percent).is_some_and(|percent| percent > 0)),
            None => bytes(size).and_then(|size| self.push("size", size, size > 0)),
        }
    }

    fn set_mode(&mut self, mode: &str) -> Option<()> {
        let good = (1..=5).contains(&mode.len()) && mode.bytes().all(|c| matches!(c, b'0'..=b'7'));
        self.push("mode", mode, good)
    }
}

/// The first volume whose target another one has, too. Only the last of them would be seen.
pub fn covered(volumes: &[Volume]) -> Option<&Volume> {
    let mut rest = volumes;
    while let Some((volume, others)) = rest.split_first() {
        if others.iter().any(|other| other.is_on(volume)) {
            return Some(volume);
        }
        rest = others;
    }
    None
}

/// The directory of a volume's contents, in its own.
pub const DATA: &str = "_data";

/// docker's grammar: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn is_volume_name(text: &str) -> bool {
    is_name(text) && text.len() > 1 && !has(text, b'+')
}

/// Whether it is the name of a volume that was given none.
pub fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a volume that is kept with its target, if it is the one on `target`.
pub fn kept_on(kept: &'static str, target: &CStr) -> Option<&'static str> {
    kept.strip_suffix(target.to_str().unwrap_or_default()).filter(|name| is_anonymous(name))
}

/// What the name of a volume is.
pub const NAME: &str = "not the name of a volume: use 2 to 128 letters, digits or _.- with a letter or digit first; a \
                    path of the host has a slash, for example ./data";
const SHARED: &str = "no mount of a container reaches the host: use rslave, for those of the host to reach it";
const TARGET: &str = "the target is not an absolute path below /";
const SIZE: &str =
    "not a size: use bytes, or a number followed by k, m or g, for example size=64m, or size=10% of memory";
const MODE: &str = "not a mode: use octal digits, for example mode=1777";
const NUMBER: &str = "not a number: use digits, for example uid=1000";

/// `-v SRC:DST[:OPTION,…]`, with a path or a name; or `-v DST`.
pub fn volume(text: &str) -> Parsed<Volume> {
    let mut parts = text.split(':');
    let (Some(source), target, options, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("use SOURCE:TARGET, SOURCE:TARGET:ro, or TARGET for a new volume");
    };
    let mut volume = match target {
        None => Volume::named("", source)?,
        Some(_) if source.is_empty() => return Err("the source is empty: use a path of the host, or a volume's name"),
        Some(target) if has(source, b'/') || source.starts_with('.') => {
            Volume::new(Some(c_text(source)?), mount_target(target).ok_or(TARGET)?)
        }
        Some(target) => Volume::named(source, target)?,
    };
    for option in options.unwrap_or("rw").split(',') {
        let hint = match option {
            "shared" | "rshared" => SHARED,
            _ => "not an option: use ro, rw, nosuid, dev, noexec, rslave, idmap, U or, with a volume's name, nocopy",
        };
        volume.set(option).ok_or(hint)?;
    }
    Ok(volume)
}

/// `--tmpfs DST[:OPTION,…]`: noexec, nosuid and nodev unless asked otherwise, as docker has it.
pub fn tmpfs(text: &str) -> Parsed<Volume> {
    let (target, given) = text.split_once(':').unwrap_or((text, ""));
    let mut volume = empty_tmpfs(target).ok_or(TARGET)?;
    for option in given.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => volume.set_size(size).ok_or(SIZE)?,
            Some(("mode", mode)) => volume.set_mode(mode).ok_or(MODE)?,
            Some((name @ ("uid" | "gid"), id)) => volume.push(name, id, is_id(id)).ok_or(NUMBER)?,
            Some((name @ "nr_inodes", most)) => {
                bytes(most).and_then(|most| volume.push(name, most, true)).ok_or(NUMBER)?;
            }
            _ => {
                let hint = "not an option: use size=, mode=, uid=, gid=, nr_inodes=, ro, exec, suid or dev";
                volume.set(option).ok_or(hint)?;
            }
        }
    }
    Ok(volume)
}

/// `--mount type=bind|volume|tmpfs,…`: docker's words for the same, and as with docker, a volume is the default.
pub fn mount(text: &str) -> Parsed<Volume> {
    let field = |names: &[&str]| {
        let mut values =
            text.split(',').filter_map(|part| part.split_once('=').filter(|(name, _)| names.contains(name)));
        let first = values.next().map(|(_, value)| value);
        if values.any(|(_, value)| Some(value) != first) {
            return Err("use one type, one source and one target");
        }
        Ok(first)
    };
    let kind = field(&["type"])?;
    let target = field(&["target", "dst", "destination"])?.ok_or("no target: add target=DIR")?;
    let source = field(&["source", "src"])?;
    let mut volume = match (kind, source) {
        (Some("bind"), Some(source)) if !source.is_empty() => {
            Volume::new(Some(c_text(source)?), mount_target(target).ok_or(TARGET)?)
        }
        (Some("bind"), _) => return Err("no source: add source=PATH of the host"),
        (Some("tmpfs"), None) => empty_tmpfs(target).ok_or(TARGET)?,
        (Some("tmpfs"), Some(_)) => return Err("a tmpfs has no source: remove it"),
        (None | Some("volume"), source) => Volume::named(source.unwrap_or_default(), target)?,
        _ => return Err("not a type: use type=bind, type=volume or type=tmpfs"),
    };
    for part in text.split(',') {
        match part.split_once('=').unwrap_or((part, "true")) {
            ("type" | "source" | "src" | "target" | "dst" | "destination" | "consistency", _) => {}
            ("tmpfs-size", size) if !volume.is_bind() => volume.set_size(size).ok_or(SIZE)?,
            ("tmpfs-mode", mode) if !volume.is_bind() => volume.set_mode(mode).ok_or(MODE)?,
            ("bind-propagation", "shared" | "rshared") => return Err(SHARED),
            ("bind-propagation", option @ ("rprivate" | "private" | "rslave" | "slave")) => {
                volume.set(option).ok_or("bind-propagation needs type=bind")?;
            }
            ("readonly" | "ro" | "volume-nocopy", "false" | "0") => {}
            (option, "true" | "1") if volume.set(option).is_some() => {}
            _ => {
                return Err("use type=bind,source=PATH,target=PATH with readonly, bind-propagation=rslave, idmap, \
                     type=volume,source=NAME,target=PATH with readonly, volume-nocopy, or type=tmpfs,target=PATH with \
                     tmpfs-size, tmpfs-mode");
            }
        }
    }
    Ok(volume)
}

/// Whether it is the number of a user or group: -1 is none.
fn is_id(text: &str) -> bool {
    number(text).is_some_and(|id| id < u32::MAX.into())
}

fn empty_tmpfs(target: &str) -> Option<Volume> {
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    Some(Volume { attributes, ..Volume::new(None, mount_target(target)?) })
}

/// A path that is absolute, and neither `/` itself nor has `..` in it.
pub fn mount_target(path: &str) -> Option<&'static CStr> {
    let below_root = path.split('/').any(|part| !matches!(part, "" | "."));
    let good = path.starts_with('/') && below_root && path.split('/').all(|part| part != "..");
    c_text(path).ok().filter(|_| good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    const SAFE: u32 = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;

    fn bind(source: &str, target: &str, attributes: u32) -> Volume {
        let [source, target] = [source, target].map(|path| c_text(path).unwrap_or_default());
        Volume { attributes, ..Volume::new(Some(source), target) }
    }

    fn empty(target: &str, attributes: u32, options: &[&str]) -> Volume {
        let target = c_text(target).unwrap_or_default();
        let options = options.iter().map(|option| c_text(option).unwrap_or_default()).collect();
        Volume { attributes, options, ..Volume::new(None, target) }
    }

    #[test]
    fn volumes_have_a_source_a_target_and_options() {
        let plain = || bind("/a", "/b", MOUNT_ATTR_NODEV);
        let good = [
            ("/a:/b", plain()),
            ("/a:/b:rw", plain()),
            ("./a b:/b/./c/", bind("./a b", "/b/./c/", MOUNT_ATTR_NODEV)),
            (".:/b", bind(".", "/b", MOUNT_ATTR_NODEV)),
            ("a/b:/b", bind("a/b", "/b", MOUNT_ATTR_NODEV)),
            ("/a:/b:z,Z,cached,delegated,consistent,private,rprivate", plain()),
            ("/a:/b:slave", Volume { propagation: MS_SLAVE, ..plain() }),
            ("/a:/b:ro", bind("/a", "/b", MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY)),
            ("/a:/b:ro,rw", plain()),
            ("/a:/b:nosuid,noexec", bind("/a", "/b", SAFE)),
            ("/a:/b:dev", bind("/a", "/b", 0)),
            ("/a:/b:rslave", Volume { propagation: MS_SLAVE, ..plain() }),
            ("/a:/b:rslave,rprivate", plain()),
            ("/a:/b:idmap", Volume { idmap: true, ..plain() }),
            ("/a:/b:ro,U", Volume { chowns: true, attributes: MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY, ..plain() }),
        ];
        let hint = "use SOURCE:TARGET, SOURCE:TARGET:ro, or TARGET for a new volume";
        check(volume, good, &["/a:/b:ro:rw"], hint);
        check(volume, [], &[":/b", ":"], "the source is empty: use a path of the host, or a volume's name");
        check(volume, [], &["/a:", "/a:b", "/a:/", "/a:/.", "/a://", "/a:/b/..", "/a:../b"], TARGET);
        check(volume, [], &["/a:/b:shared", "data:/b:ro,rshared"], SHARED);
        let hint = "not an option: use ro, rw, nosuid, dev, noexec, rslave, idmap, U or, with a volume's name, nocopy";
        check(
            volume,
            [],
            &["/a:/b:u", "/a:/b:", "/a:/b:rx", "/a:/b:RO", "/a:/b:ro,", "/a:/b:size=1", "/a:/b:nocopy"],
            hint,
        );
    }

    fn named(name: &'static str, copies: bool) -> Volume {
        let named = Named { name, is_anonymous: name.is_empty(), copies };
        Volume { named: Some(named), ..Volume::new(None, c"/b") }
    }

    #[test]
    fn source_without_a_slash_is_the_name_of_a_volume() {
        let good = [
            ("data:/b", named("data", true)),
            ("d1:/b:rw,z", named("d1", true)),
            ("a_.-:/b:nocopy", named("a_.-", false)),
            ("/b", named("", true)),
            ("0a:/b:ro", Volume { attributes: MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY, ..named("0a", true) }),
        ];
        check(volume, good, &["", "b", "/", "data", "data:b", "data:/b/..", "data:"], TARGET);
        let long = format!("{}:/b", "x".repeat(129)).leak();
        check(volume, [], &["a:/b", "_a:/b", "-a:/b", "a b:/b", "a+b:/b", "ä:/b", "a\n:/b", long], NAME);
        let good = [
            ("type=volume,source=data,target=/b", named("data", true)),
            ("src=data,dst=/b,volume-nocopy", named("data", false)),
            ("type=volume,destination=/b,volume-nocopy=false,consistency=cached", named("", true)),
            ("target=/b", named("", true)),
        ];
        check(mount, good, &["type=volume,source=a/b,target=/b", "source=/a,target=/b"], NAME);
        check(mount, [], &["type=volume,source=data,target=b"], TARGET);
    }

    #[test]
    fn named_volume_has_a_source_once_its_directory_is_known() {
        let mut volumes = [named("data", true), named("", true), bind("/a", "/b", 0)];
        for (volume, wanted) in volumes.iter_mut().zip(["/v/data/_data", "/v/new/_data", "/a"]) {
            assert_eq!(volume.locate("/v", || "new"), Ok(()));
            assert_eq!(volume.source.and_then(|source| source.to_str().ok()), Some(wanted));
        }
        assert!(is_anonymous(&"0f".repeat(32)));
        assert!(!is_anonymous("0f") && !is_anonymous(&"0F".repeat(32)));
    }

    #[test]
    fn tmpfs_is_safe_unless_asked_otherwise() {
        let good = [
            ("/a", empty("/a", SAFE, &[])),
            ("/a:", empty("/a", SAFE, &[])),
            ("/a:size=64m,mode=1777", empty("/a", SAFE, &["size=67108864", "mode=1777"])),
            ("/a:exec,suid,dev", empty("/a", 0, &[])),
            ("/a:ro", empty("/a", SAFE | MOUNT_ATTR_RDONLY, &[])),
            ("/a:size=10%,uid=0,gid=1000", empty("/a", SAFE, &["size=10%", "uid=0", "gid=1000"])),
            ("/a:nr_inodes=1k", empty("/a", SAFE, &["nr_inodes=1024"])),
        ];
        check(tmpfs, good, &["", "a", "/", "/..", ":size=1"], TARGET);
        check(
            tmpfs,
            [],
            &["/a:size=", "/a:size=0", "/a:size=x", "/a:size=-1", "/a:size=%", "/a:size=0%", "/a:size=x%"],
            SIZE,
        );
        check(tmpfs, [], &["/a:mode=", "/a:mode=9", "/a:mode=177777", "/a:mode=+1"], MODE);
        check(tmpfs, [], &["/a:uid=", "/a:uid=root", "/a:gid=-1", "/a:gid=4294967295", "/a:nr_inodes=x"], NUMBER);
        let bad = ["/a:idmap", "/a:rslave", "/a:huge=always", "/a:uid", "/a:size", "/a:RO"];
        check(tmpfs, [], &bad, "not an option: use size=, mode=, uid=, gid=, nr_inodes=, ro, exec, suid or dev");
    }

    #[test]
    fn mounts_are_the_same_in_dockers_words() {
        let slave = Volume { propagation: MS_SLAVE, idmap: true, ..bind("/a", "/b", MOUNT_ATTR_NODEV) };
        let full = empty("/b", SAFE | MOUNT_ATTR_RDONLY, &["size=1024", "mode=700"]);
        let good = [
            ("type=bind,source=/a,target=/b", bind("/a", "/b", MOUNT_ATTR_NODEV)),
            ("dst=/b,src=/a,readonly,type=bind", bind("/a", "/b", MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY)),
            ("type=bind,src=/a,destination=/b,bind-propagation=rslave,idmap,ro=0,readonly=false", slave),
            ("type=tmpfs,target=/b", empty("/b", SAFE, &[])),
            ("type=tmpfs,target=/b,dst=/b", empty("/b", SAFE, &[])),
            ("type=tmpfs,target=/b,tmpfs-size=1k,tmpfs-mode=700,ro=1", full),
        ];
        check(mount, good, &["", "type=bind"], "no target: add target=DIR");
        let bad =
            ["type=tmpfs,target=/a,dst=/b", "type=bind,src=/a,source=/b,target=/c", "type=bind,type=tmpfs,target=/a"];
        check(mount, [], &bad, "use one type, one source and one target");
        let hint = "no source: add source=PATH of the host";
        check(mount, [], &["type=bind,target=/b", "type=bind,source=,target=/b"], hint);
        check(mount, [], &["type=tmpfs,source=/a,target=/b"], "a tmpfs has no source: remove it");
        check(
            mount,
            [],
            &["type=,target=/b", "type=npipe,target=/b"],
            "not a type: use type=bind, type=volume or type=tmpfs",
        );
        check(mount, [], &["type=bind,source=/a,target=/b,bind-propagation=rshared"], SHARED);
        check(mount, [], &["type=tmpfs,target=b", "type=tmpfs,target=/", "type=bind,src=/a,dst="], TARGET);
        check(mount, [], &["type=tmpfs,target=/b,tmpfs-size=0"], SIZE);
        check(mount, [], &["type=tmpfs,target=/b,tmpfs-mode=8"], MODE);
        check(mount, [], &["type=tmpfs,target=/b,bind-propagation=rslave"], "bind-propagation needs type=bind");
        let hint = "use type=bind,source=PATH,target=PATH with readonly, bind-propagation=rslave, idmap, \
                    type=volume,source=NAME,target=PATH with readonly, volume-nocopy, or type=tmpfs,target=PATH with \
                    tmpfs-size, tmpfs-mode";
        let bad = [
            "type=tmpfs,target=/b,",
            "type=tmpfs,target=/b,nosuch",
            "type=tmpfs,target=/b,idmap",
            "type=bind,source=/a,target=/b,ro=maybe",
            "type=bind,source=/a,target=/b,tmpfs-size=1m",
            "type=bind,source=/a,target=/b,bind-propagation=x",
            "type=bind,source=/a,target=/b,volume-nocopy",
            "type=volume,source=data,target=/b,tmpfs-size=1m",
        ];
        check(mount, [], &bad, hint);
    }

    #[test]
    fn two_volumes_are_never_on_one_target() {
        for (targets, wanted) in [
            (&[][..], None),
            (&["/a"], None),
            (&["/a", "/a/b", "/b/a", "/aa", "/A"], None),
            (&["/a", "/b", "/a"], Some("/a")),
            (&["/v", "/v/"], Some("/v")),
            (&["/b", "//a/./b/.", "/a/b"], Some("//a/./b/.")),
        ] {
            let volumes: Vec<_> = targets.iter().map(|target| empty(target, 0, &[])).collect();
            let found = covered(&volumes).map(|volume| volume.target.to_str().unwrap_or_default());
            assert_eq!(found, wanted, "{targets:?}");
        }
    }

    #[test]
    fn depth_counts_directories_and_nothing_else() {
        for (target, depth) in [("/a", 1), ("/a/", 1), ("//a/./b", 2), ("/a/b/c", 3)] {
            assert_eq!(empty(target, 0, &[]).depth(), depth, "{target}");
        }
    }
}
