//! What was asked for, parsed once and trusted from then on.
//!
//! Every function takes the text of one option and gives a value or one clear line. Must not touch the system: that
//! `-v` names a directory that exists is found out when it is used.

use crate::caps::Capabilities;
use crate::devices::Device;
use crate::error::{Error, Result};
use crate::life::Life;
use crate::limits::Limit;
use crate::names::Names;
use crate::net::options::{Asked, Net, Publish, Via};
use crate::userns::Userns;
use crate::volumes::Volume;
use kontena_init::plan::Rlimit;
use std::ffi::CString;

/// A container to run. What goes to the kernel as it is has its NUL already.
pub struct Config {
    /// Its name: of the state directory, the leaf cgroup and, unless told otherwise, the host.
    pub name: String,
    /// The UTS node name.
    pub hostname: CString,
    /// The directory that becomes `/`.
    pub rootfs: CString,
    /// The payload and its arguments; `/bin/sh` where none was given.
    pub command: Vec<CString>,
    /// `KEY=VALUE`.
    pub env: Vec<CString>,
    /// `-w`.
    pub workdir: CString,
    /// `-u`, resolved inside.
    pub user: CString,
    /// `--read-only`.
    pub read_only: bool,
    /// `--overlay`: in memory, or in a directory.
    pub overlay: Option<Option<CString>>,
    /// `-v`, `--mount` and `--tmpfs`, the least deep first.
    pub volumes: Vec<Volume>,
    /// `--shm-size`, in bytes.
    pub shm_size: u64,
    /// `--device`.
    pub devices: Vec<Device>,
    /// `--userns`, where it is given.
    pub userns: Option<Userns>,
    /// `--cap-add` and `--cap-drop`.
    pub capabilities: Capabilities,
    /// `--security-opt no-new-privileges=…`.
    pub no_new_privileges: bool,
    /// `--seccomp`.
    pub seccomp: bool,
    /// `--group-add`, resolved inside.
    pub groups: Vec<CString>,
    /// `--ulimit`.
    pub rlimits: Vec<Rlimit>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--umask`.
    pub umask: u32,
    /// `--sysctl`.
    pub sysctls: Vec<String>,
    /// `--dns`, `--dns-search`, `--add-host`.
    pub names: Names,
    /// `--net`, where it is given.
    pub net: Option<Net>,
    /// `--ip`, `--ip6`, `--mac-address`.
    pub asked: Asked,
    /// `-p`.
    pub publish: Vec<Publish>,
    /// `--publish-via`, where it is given.
    pub publish_via: Option<Via>,
    /// `-m` and all that is written to files of the leaf cgroup.
    pub limits: Vec<Limit>,
    /// `--cgroup-parent`, where it is given.
    pub cgroup_parent: Option<String>,
    /// `--cgroup-mount`.
    pub cgroup_mount: Option<String>,
    /// `--stats`.
    pub stats: Option<Format>,
    /// `-d`, `-t`, `--restart` and all that is not of the start alone.
    pub life: Life,
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

/// Text for the kernel.
pub fn c_string(text: impl Into<Vec<u8>>) -> Result<CString> {
    let text: Vec<u8> = text.into();
    CString::new(text).map_err(|error| {
        let text = error.into_vec();
        Error::usage(format_args!("{}", String::from_utf8_lossy(&text)), "a NUL cannot be passed on: leave it out")
    })
}

/// A name that is safe as a file, a cgroup and a host: `[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}`.
pub fn name(text: &str) -> Result<String> {
    if is_name(text) {
        return Ok(text.into());
    }
    let hint = "not a name: give 1 to 128 letters, digits or _.+- with a letter or digit first";
    Err(wrong("--name", text, hint))
}

/// Whether a container can be called so: as a path, it leads nowhere else.
pub fn is_name(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_.+-".contains(&c);
    let first = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    first && text.len() <= 128 && text.bytes().all(good)
}

/// A node name of at most 64 bytes; sethostname(2).
pub fn hostname(text: &str) -> Result<String> {
    if (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic()) {
        return Ok(text.into());
    }
    Err(wrong("--hostname", text, "not a host name: give 1 to 64 printable characters"))
}

/// `table` or `json`.
pub fn format(text: &str) -> Result<Format> {
    match text {
        "table" => Ok(Format::Table),
        "json" => Ok(Format::Json),
        _ => Err(wrong("--format", text, "not a format: give table or json")),
    }
}

/// Digits and nothing else: str::parse would take a sign too.
pub fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// A number of bytes, with b, k, m, g or t behind it as docker takes them.
pub fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let shift = match unit.to_ascii_lowercase().as_bytes() {
        [] | [b'b'] => 0,
        [letter] | [letter, b'b'] | [letter, b'i', b'b'] => 10 * (b"kmgt".iter().position(|c| c == letter)? + 1),
        _ => return None,
    };
    number(digits)?.checked_mul(1 << shift)
}

/// `-e KEY=VALUE`, or `-e KEY` for the launcher's own value, if it has one.
pub fn env(text: &str) -> Result<Option<CString>> {
    match text.split_once('=') {
        _ if text.is_empty() || text.starts_with('=') => {
            Err(wrong("--env", text, "no name before the =: give KEY=VALUE or KEY"))
        }
        Some(_) => c_string(text).map(Some),
        None => match std::env::var_os(text) {
            Some(value) => c_string([text.as_bytes(), b"=", value.as_encoded_bytes()].concat()).map(Some),
            None => Ok(None),
        },
    }
}

/// `-w`.
pub fn workdir(text: &str) -> Result<CString> {
    if text.starts_with('/') {
        return c_string(text);
    }
    Err(wrong("--workdir", text, "not an absolute path of the container: begin it with /"))
}

/// `-u`, which init resolves in the container's own files; empty where it is not given, and only there.
pub fn user(text: Option<&str>) -> Result<CString> {
    if text == Some("") {
        let hint = "no user: give NAME|UID[:GROUP|GID], or leave it out for root";
        return Err(Error::usage(format_args!("--user \"\""), hint));
    }
    c_string(text.unwrap_or_default())
}

/// `--group-add`, the same for a group.
pub fn group(text: &str) -> Result<CString> {
    if text.is_empty() {
        return Err(wrong("--group-add", text, "no group: give NAME|GID"));
    }
    c_string(text)
}

/// `--cgroup-parent`: a path of cgroup names below the cgroup2 mount, which begins with `/`; or one that begins with `.` or
/// `..`, relative to the launcher's own cgroup.
pub fn cgroup_parent(text: &str) -> Result<String> {
    let relative = text.starts_with("./") || text.starts_with("../") || matches!(text, "." | "..");
    let path = text.trim_matches('/');
    let good = |part: &str| relative || !matches!(part, "" | "." | "..");
    if !path.is_empty() && path.split('/').all(good) && !path.contains(char::is_control) {
        return Ok(if relative { path.into() } else { format!("/{path}") });
    }
    let hint = "not a cgroup: give its path below the cgroup2 mount, as /kontena, or . for kontena's own";
    Err(wrong("--cgroup-parent", text, hint))
}

/// `--cgroup-mount`.
pub fn cgroup_mount(text: &str) -> Result<String> {
    let path = text.trim_end_matches('/');
    if path.starts_with('/') && !path.contains(char::is_control) {
        return Ok(path.into());
    }
    Err(wrong("--cgroup-mount", text, "not an absolute path: give the directory that has or gets the cgroup2 mount"))
}
