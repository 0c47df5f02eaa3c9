//! What is mounted on request: `-v`, `--mount`, `--tmpfs`.
//!
//! Every function takes the text of one option and gives a volume or one clear line. Must not touch the system.

use crate::config::{bytes, c_string, wrong};
use crate::error::Result;
use linux_raw_sys::general::{
    MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_SLAVE,
};
use std::ffi::CString;

/// Something mounted on request.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    /// A path of the host, or `None` for a tmpfs.
    pub source: Option<CString>,
    /// An absolute path in the container.
    pub target: CString,
    /// MOUNT_ATTR_*.
    pub attributes: u32,
    /// MS_PRIVATE, or MS_SLAVE: what is mounted there on the host later on is seen in the container, too.
    pub propagation: u32,
    /// Whether its files belong to the container's users as they do to the host's; mount_setattr(2), MOUNT_ATTR_IDMAP.
    pub idmap: bool,
    /// For the file system: `size=64m`, `mode=1777`.
    pub options: Vec<CString>,
}

impl Volume {
    fn new(source: Option<CString>, target: CString) -> Self {
        let (attributes, options) = (0, Vec::new());
        Self { source, target, attributes, propagation: MS_PRIVATE, idmap: false, options }
    }

    /// How many directories deep it is in the container.
    pub fn depth(&self) -> usize {
        self.target.to_bytes().split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.'])).count()
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
            "rprivate" | "rslave" if self.source.is_some() => {
                self.propagation = if option == "rslave" { MS_SLAVE } else { MS_PRIVATE };
                return Some(());
            }
            "idmap" if self.source.is_some() => {
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

    fn set_size(&mut self, size: &str) -> Option<()> {
        let size = bytes(size).filter(|size| *size > 0)?;
        self.options.push(c_string(format!("size={size}")).ok()?);
        Some(())
    }

    fn set_mode(&mut self, mode: &str) -> Option<()> {
        let good = (1..=5).contains(&mode.len()) && mode.bytes().all(|c| matches!(c, b'0'..=b'7'));
        self.options.push(c_string(format!("mode={mode}")).ok().filter(|_| good)?);
        Some(())
    }
}

const TARGET: &str = "the target is not an absolute path below /";
const SIZE: &str = "not a size: give bytes, or a number with k, m or g behind it, as size=64m";
const MODE: &str = "not a mode: give octal digits, as mode=1777";

/// `-v SRC:DST[:OPTION,…]`.
pub fn volume(text: &str) -> Result<Volume> {
    let wrong = |hint| wrong("--volume", text, hint);
    let mut parts = text.split(':');
    let (Some(source), Some(target), options, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(wrong("give SOURCE:TARGET or SOURCE:TARGET:ro"));
    };
    if source.is_empty() {
        return Err(wrong("the source is empty: give a file or directory of the host"));
    }
    let target = mount_target(target).ok_or_else(|| wrong(TARGET))?;
    let mut volume = Volume::new(Some(c_string(source)?), target);
    for option in options.unwrap_or("rw").split(',') {
        let hint = "not an option: give ro, rw, nosuid, nodev, noexec, rslave or idmap";
        volume.set(option).ok_or_else(|| wrong(hint))?;
    }
    Ok(volume)
}

/// `--tmpfs DST[:OPTION,…]`: noexec, nosuid and nodev unless asked otherwise, as docker has it.
pub fn tmpfs(text: &str) -> Result<Volume> {
    let wrong = |hint| wrong("--tmpfs", text, hint);
    let (target, given) = text.split_once(':').unwrap_or((text, ""));
    let mut volume = empty_tmpfs(target).ok_or_else(|| wrong(TARGET))?;
    for option in given.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => volume.set_size(size).ok_or_else(|| wrong(SIZE))?,
            Some(("mode", mode)) => volume.set_mode(mode).ok_or_else(|| wrong(MODE))?,
            _ => volume.set(option).ok_or_else(|| wrong("not an option: give size=, mode=, ro, exec, suid or dev"))?,
        }
    }
    Ok(volume)
}

/// `--mount type=bind|tmpfs,…`: docker's words for the same.
pub fn mount(text: &str) -> Result<Volume> {
    let wrong = |hint| wrong("--mount", text, hint);
    let field = |names: &[&str]| {
        let find = |part: &'_ str| -> Option<String> {
            let (name, value) = part.split_once('=')?;
            names.contains(&name).then(|| value.into())
        };
        text.split(',').find_map(find)
    };
    let kind = field(&["type"]);
    let target = field(&["target", "dst", "destination"]);
    let target = target.ok_or_else(|| wrong("the target is missing: give target=DIR"))?;
    let source = field(&["source", "src"]);
    let mut volume = match (kind.as_deref(), source) {
        (Some("bind"), Some(source)) if !source.is_empty() => {
            Volume::new(Some(c_string(source)?), mount_target(&target).ok_or_else(|| wrong(TARGET))?)
        }
        (Some("bind"), _) => return Err(wrong("a bind needs a source: give source=PATH of the host")),
        (Some("tmpfs"), None) => empty_tmpfs(&target).ok_or_else(|| wrong(TARGET))?,
        (Some("tmpfs"), Some(_)) => return Err(wrong("a tmpfs has no source: leave it out")),
        _ => return Err(wrong("not a type: give type=bind or type=tmpfs")),
    };
    for part in text.split(',') {
        match part.split_once('=').unwrap_or((part, "true")) {
            ("type" | "source" | "src" | "target" | "dst" | "destination", _) => {}
            ("tmpfs-size", size) if volume.source.is_none() => volume.set_size(size).ok_or_else(|| wrong(SIZE))?,
            ("tmpfs-mode", mode) if volume.source.is_none() => volume.set_mode(mode).ok_or_else(|| wrong(MODE))?,
            ("bind-propagation", option @ ("rprivate" | "rslave")) => {
                volume.set(option).ok_or_else(|| wrong("bind-propagation is for type=bind"))?;
            }
            ("readonly" | "ro", "false" | "0") => {}
            (option, "true" | "1") if volume.set(option).is_some() => {}
            _ => {
                return Err(wrong(
                    "give type=bind,source=PATH,target=PATH with readonly, bind-propagation=rslave, idmap, or \
                     type=tmpfs,target=PATH with tmpfs-size, tmpfs-mode",
                ));
            }
        }
    }
    Ok(volume)
}

fn empty_tmpfs(target: &str) -> Option<Volume> {
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    Some(Volume { attributes, ..Volume::new(None, mount_target(target)?) })
}

/// A path that is absolute, and neither `/` itself nor has `..` in it.
pub fn mount_target(path: &str) -> Option<CString> {
    let below_root = path.split('/').any(|part| !matches!(part, "" | "."));
    let good = path.starts_with('/') && below_root && path.split('/').all(|part| part != "..");
    CString::new(path).ok().filter(|_| good)
}
