//! The options of a container, parsed once and trusted from then on.
//!
//! Each function parses the text of one option, and returns its value or a hint of one line. Must not touch the system:
//! whether the source of `-v` exists is checked when it is opened.

pub mod bridge;
#[cfg(feature = "oci")]
pub mod bundle;
#[cfg(not(feature = "oci"))]
#[path = "bundle/without.rs"]
pub mod bundle;
pub mod capabilities;
pub mod devices;
pub mod environment;
pub mod image;
pub mod labels;
pub mod lifecycle;
pub mod limits;
pub mod names;
pub mod network;
pub mod process;
pub mod publish;
#[cfg(feature = "seccomp")]
pub mod seccomp;
#[cfg(not(feature = "seccomp"))]
#[path = "seccomp/without.rs"]
pub mod seccomp;
pub mod security;
pub mod subnet;
pub mod systemd;
#[cfg(test)]
pub mod testing;
pub mod userns;
pub mod volumes;
pub mod weight;

use crate::config::bundle::Bundle;
use crate::config::capabilities::Capabilities;
use crate::config::devices::Device;
use crate::config::image::Image;
use crate::config::lifecycle::Life;
use crate::config::limits::Limit;
use crate::config::names::Names;
use crate::config::network::{Addresses, Net};
use crate::config::publish::{Publish, PublishVia};
use crate::config::security::{OwnFilter, Security};
use crate::config::userns::Userns;
use crate::config::volumes::Volume;
use crate::error::{Error, Parsed};
use crate::gather::Gather;
use crate::sys;
use crate::text::{c_static, c_text, has, is_name, number, split_last};
use kontena_init::plan::{Attributes, OfBundle, Rlimit};
use std::cell::Cell;
use std::ffi::CStr;

/// A container to run. What goes to the kernel as it is has its NUL already.
pub struct Config {
    /// `--replace`: stops and deletes the container of this name in this state directory.
    pub replace: Option<fn(&str, &str) -> crate::error::Result<()>>,
    /// The command line, for `start`; empty where the container can only be one in the foreground.
    pub line: Vec<u8>,
    /// Its name: of the state directory, the leaf cgroup and, by default, the host.
    pub name: &'static str,
    /// The UTS node name.
    pub hostname: &'static CStr,
    /// The directory that becomes `/`.
    pub rootfs: &'static CStr,
    /// The same, where it is an image: open, until its sources or another process have it.
    pub image: Cell<Option<Image>>,
    /// The payload and its arguments; `/bin/sh` where none was given.
    pub command: Vec<&'static CStr>,
    /// `KEY=VALUE`.
    pub env: Vec<&'static CStr>,
    /// `--init`.
    pub init: bool,
    /// Whether it may make cgroups of its own.
    pub delegates_cgroup: bool,
    /// `-w`.
    pub workdir: &'static CStr,
    /// `-u`, resolved inside.
    pub user: &'static CStr,
    /// `--read-only`.
    pub read_only: bool,
    /// `--overlay`.
    pub overlay: Overlay,
    /// `-v`, `--mount` and `--tmpfs`, the least deep first.
    pub volumes: Vec<Volume>,
    /// `--shm-size`, in bytes.
    pub shm_size: u64,
    /// `--device`.
    pub devices: Vec<Device>,
    /// `--userns`, where it is given.
    pub userns: Option<Userns>,
    /// `--ipc`.
    pub ipc: Share,
    /// `--uts`.
    pub uts: Share,
    /// `--cap-add` and `--cap-drop`.
    pub capabilities: Capabilities,
    /// `--privileged`, `--security-opt` and `--seccomp`.
    pub security: Security,
    /// The filter of a profile, if there is one.
    pub filter: OwnFilter,
    /// `--group-add`, resolved inside.
    pub groups: Vec<&'static CStr>,
    /// `--ulimit`.
    pub rlimits: Vec<Rlimit>,
    /// What only a bundle says of its process.
    pub attributes: OfBundle<Attributes<'static>>,
    /// Rows and columns of the terminal of a bundle's process, if they are known.
    pub console_size: [u32; 2],
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--umask`.
    pub umask: u32,
    /// `--sysctl`.
    pub sysctls: Vec<&'static str>,
    /// `--dns`, `--dns-search`, `--add-host`.
    pub names: Names,
    /// `--net`, where it is given.
    pub net: Option<Net>,
    /// `--ip`, `--ip6`, `--mac-address`.
    pub addresses: Addresses,
    /// `-p`.
    pub publish: Vec<Publish>,
    /// `--expose`, as `80/tcp` or `80-89/udp`.
    pub exposed: Vec<&'static str>,
    /// `--publish-via`, where it is given.
    pub publish_via: Option<PublishVia>,
    /// `-m` and all that is written to files of the leaf cgroup.
    pub limits: Vec<Limit>,
    /// `--cgroup-parent`, where it is given.
    pub cgroup_parent: Option<&'static str>,
    /// `--cgroup-mount`.
    pub cgroup_mount: Option<&'static str>,
    /// `--label`: `KEY=VALUE`.
    pub labels: Vec<&'static str>,
    /// So many fds of the caller's, from 3 on, go to the payload: `--preserve-fds`, or those of a socket activation.
    pub preserve_fds: u32,
    /// The variables of a socket activation; sd_listen_fds(3).
    pub activation: Vec<&'static CStr>,
    /// `--pidfile`.
    pub pidfile: Option<&'static str>,
    /// `--stats`.
    pub stats: Option<Format>,
    /// What the config.json of its bundle says, where it has one: then it is handed over to the caller.
    pub bundle: Option<Bundle>,
    /// `-d`, `-t`, `--restart` and all that is not of the start alone.
    pub life: Life,
}

/// The writable layer over the root file system.
#[derive(Debug, PartialEq, Eq)]
pub enum Overlay {
    /// None was asked for.
    None,
    /// In memory; it goes with the container.
    Memory,
    /// In this directory of the host's.
    Directory(&'static CStr),
}

/// Whose namespace a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Its own.
    Private,
    /// The host's.
    Host,
    /// That of the container of this name.
    Container(&'static str),
}

impl Config {
    /// Whether the process that makes it passes its own terminal on. Others are in the background then.
    pub fn lends_terminal(&self) -> bool {
        self.life.tty && self.bundle.as_ref().is_some_and(Bundle::stays)
    }

    /// Whether it asks for a user namespace.
    pub fn has_userns(&self) -> bool {
        !sys::is_privileged() || !matches!(self.userns, None | Some(Userns::Host))
    }
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// An option whose `text` makes no sense.
#[cold]
#[inline(never)]
pub fn wrong(option: &str, text: &str, hint: &str) -> Error {
    Error::usage(format_args!("{option} \"{text}\""), hint)
}

/// A name that is safe as a file, a cgroup and a host: `[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}`.
pub fn name(text: &str) -> Parsed<&str> {
    if is_name(text) {
        return Ok(text);
    }
    let hint = "not a name: use 1 to 128 letters, digits or _.+- with a letter or digit first";
    Err(hint)
}

/// `--ipc` and `--uts`.
pub fn share(text: &'static str) -> Parsed<Share> {
    match (text, text.strip_prefix("container:")) {
        ("host", _) => Ok(Share::Host),
        ("private", _) => Ok(Share::Private),
        (_, Some(container)) if is_name(container) => Ok(Share::Container(container)),
        _ => Err("not a namespace: use host, container:NAME, or private for one of its own"),
    }
}

/// A node name of at most 64 bytes; sethostname(2).
pub fn hostname(text: &str) -> Parsed<&'static CStr> {
    if (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic()) {
        return c_text(text);
    }
    Err("not a host name: use 1 to 64 printable characters")
}

/// `table` or `json`.
pub fn format(text: &str) -> Parsed<Format> {
    match text {
        "table" => Ok(Format::Table),
        "json" => Ok(Format::Json),
        _ => Err("not a format: use table or json"),
    }
}

/// `--entrypoint`: one word, or as with podman a JSON array of words; nothing for none.
pub fn entrypoint(text: &str) -> Parsed<Vec<&'static CStr>> {
    match lifecycle::words(text) {
        Some(words) => words.iter().map(|word| c_text(word)).try_list(),
        None if text.is_empty() => Ok(Vec::new()),
        None => Ok(vec![c_text(text)?]),
    }
}

/// `--preserve-fds`.
pub fn preserve_fds(text: &str) -> Parsed<u32> {
    number(text).and_then(|fds| u16::try_from(fds).ok()).map(u32::from).ok_or("not a number of fds: use 1, for example")
}

/// `--pidfile`.
pub fn pidfile(text: &str) -> Parsed<&str> {
    match split_last(text, b'/').map_or(text, |(_, name)| name) {
        "" | "." | ".." => Err("not a file: use a path in an existing directory"),
        _ if has(text, 0) => Err("a NUL cannot be passed on: remove it"),
        _ => Ok(text),
    }
}

/// `-e KEY=VALUE`, or `-e KEY` for the launcher's own value, if it has one.
pub fn env(text: &str) -> Parsed<Option<&'static CStr>> {
    match text.split_once('=') {
        _ if text.is_empty() || text.starts_with('=') => Err("no name before the =: use KEY=VALUE or KEY"),
        Some(_) => c_text(text).map(Some),
        None => match sys::variable(text) {
            Some(value) => Ok(c_static([text.as_bytes(), b"=", value.as_encoded_bytes()].concat()).ok()),
            None => Ok(None),
        },
    }
}

/// `--overlay[=DIR]`.
pub fn overlay(text: &str) -> Parsed<Overlay> {
    Ok(if text.is_empty() { Overlay::Memory } else { Overlay::Directory(c_text(text)?) })
}

/// `--init[=true|false]`.
pub fn switch(text: &str) -> Parsed<bool> {
    match text {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("neither true nor false: use one of the two"),
    }
}

/// `-w`.
pub fn workdir(text: &str) -> Parsed<&'static CStr> {
    if text.starts_with('/') {
        return c_text(text);
    }
    Err("not an absolute path in the container: start it with /")
}

/// `-u`, which init resolves in the container's own files; empty where it is not given, and only there.
pub fn user(text: &str) -> Parsed<&'static CStr> {
    if text.is_empty() {
        return Err("no user: use NAME|UID[:GROUP|GID], or remove it for root");
    }
    c_text(text)
}

/// `--group-add`, the same for a group.
pub fn group(text: &str) -> Parsed<&'static CStr> {
    if text.is_empty() {
        return Err("no group: use NAME|GID");
    }
    c_text(text)
}

/// `--cgroup-parent`: a path of cgroup names below the cgroup2 mount, which begins with `/`; or one that begins with
/// `.` or `..`, relative to the launcher's own cgroup.
pub fn cgroup_parent(text: &str) -> Parsed<&str> {
    let relative = text.starts_with("./") || text.starts_with("../") || matches!(text, "." | "..");
    let path = text.trim_matches('/');
    let good = |part: &str| relative || !matches!(part, "" | "." | "..");
    if !path.is_empty() && path.split('/').all(good) && !path.contains(char::is_control) {
        return Ok(if relative { path } else { format!("/{path}").leak() });
    }
    let hint = "not a cgroup: use a path below the cgroup2 mount, for example /kontena, or . for kontena's own \
                cgroup";
    Err(hint)
}

/// `--cgroup-mount`.
pub fn cgroup_mount(text: &str) -> Parsed<&str> {
    let path = text.trim_end_matches('/');
    if path.starts_with('/') && !path.contains(char::is_control) {
        return Ok(path);
    }
    Err("not an absolute path: use the mountpoint of cgroup2")
}

#[cfg(test)]
mod tests {
    use super::testing::check;
    use super::*;

    #[test]
    fn names_are_safe_as_files_cgroups_and_hosts() {
        let longest = "a".repeat(128);
        assert_eq!(name(&longest), Ok(&*longest));
        let hint = "not a name: use 1 to 128 letters, digits or _.+- with a letter or digit first";
        let good = ["web", "a.b_c+d-1", "0", "A..b"].map(|text| (text, text));
        check(name, good, &["", ".", "..", "-a", "_a", ".a", "a/b", "a b", "a\n", "é", (longest + "a").leak()], hint);
    }

    #[test]
    fn host_names_are_printable_and_short() {
        let longest = "a".repeat(64);
        assert!(hostname(&longest).is_ok());
        let good = [("web", c"web"), ("a.example.org", c"a.example.org")];
        let hint = "not a host name: use 1 to 64 printable characters";
        check(hostname, good, &["", "a b", "a\tb", "é", (longest + "a").leak()], hint);
    }

    #[test]
    fn variables_have_a_name() {
        let good = [("A=b", Some(c"A=b")), ("A=", Some(c"A=")), ("A=b=c", Some(c"A=b=c"))];
        check(env, good, &["", "=", "=b"], "no name before the =: use KEY=VALUE or KEY");
        // Without a value it is the launcher's own, which has the first of these and not the other.
        let path = std::env::var("PATH").map(|path| c_static(format!("PATH={path}")).ok());
        assert_eq!(Ok(env("PATH")), path.map(Ok));
        assert_eq!(env("KONTENA_HAS_NO_SUCH_VARIABLE"), Ok(None));
        assert_eq!(env("A=b\0"), Err("a NUL cannot be passed on: remove it"));
    }

    #[test]
    fn an_entrypoint_is_a_word_or_a_list_of_words() {
        for (text, words) in [
            ("", &[][..]),
            ("/bin/a b", &[c"/bin/a b"]),
            ("[", &[c"["]),
            (r#"["/bin/a", "b c"]"#, &[c"/bin/a", c"b c"]),
        ] {
            assert_eq!(entrypoint(text).as_deref(), Ok(words), "{text}");
        }
        check(entrypoint, [], &["a\0"], "a NUL cannot be passed on: remove it");
    }

    #[test]
    fn a_pidfile_has_a_name() {
        let good = [("a", "a"), ("/run/a.pid", "/run/a.pid"), ("./..a", "./..a")];
        check(
            pidfile,
            good,
            &["", "/", "/run/", ".", "..", "/run/.."],
            "not a file: use a path in an existing directory",
        );
    }

    #[test]
    fn paths_users_groups_and_formats_are_checked() {
        let hint = "not an absolute path in the container: start it with /";
        check(workdir, [("/", c"/"), ("/a b", c"/a b")], &["", "a", "./a"], hint);
        let hint = "no user: use NAME|UID[:GROUP|GID], or remove it for root";
        check(user, [("root", c"root"), ("1:2", c"1:2")], &[""], hint);
        check(group, [("audio", c"audio")], &[""], "no group: use NAME|GID");
        let hint = "not a namespace: use host, container:NAME, or private for one of its own";
        let good = [("host", Share::Host), ("private", Share::Private), ("container:web", Share::Container("web"))];
        check(share, good, &["", "Host", "container:", "container:a/b", "none"], hint);
        let good = [("table", Format::Table), ("json", Format::Json)];
        check(format, good, &["", "JSON", "xml", "json "], "not a format: use table or json");
        let good = [("", Overlay::Memory), ("/a", Overlay::Directory(c"/a"))];
        check(overlay, good, &["/a\0"], "a NUL cannot be passed on: remove it");
        let hint = "neither true nor false: use one of the two";
        check(switch, [("", true), ("true", true), ("false", false)], &["True", "0", "no", "false "], hint);
    }

    #[test]
    fn cgroup_parents_stay_below_the_mount_or_start_at_kontenas_own() {
        let good = [
            ("/a", "/a"),
            ("a/b", "/a/b"),
            ("//a/", "/a"),
            ("..a", "/..a"),
            (".", "."),
            ("..", ".."),
            ("./a/", "./a"),
            ("../../a", "../../a"),
        ];
        let bad = ["", "/", "//", "/..", "/a/../b", "a//b", "/a/./b", "a\nb"];
        let hint = "not a cgroup: use a path below the cgroup2 mount, for example /kontena, or . for kontena's own \
                    cgroup";
        check(cgroup_parent, good.map(|(text, path)| (text, path)), &bad, hint);
        let good = [("/sys/fs/cgroup", "/sys/fs/cgroup"), ("/run/c//", "/run/c")];
        let hint = "not an absolute path: use the mountpoint of cgroup2";
        check(cgroup_mount, good.map(|(text, path)| (text, path)), &["", "/", "//", "a", "/a\tb"], hint);
    }
}
