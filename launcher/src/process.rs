//! What the payload's process is given beside its user: ulimits, sysctls, an environment from files.
//!
//! Every function takes the text of one option and gives a value or one clear line. Must not touch the system, but for
//! the files that `--env-file` names.

use crate::config::{env, number, wrong};
use crate::error::{Context, Result};
use crate::file::{self, CWD};
use crate::net::options::Net;
use kontena_init::plan::Rlimit;
use std::ffi::CString;

/// getrlimit(2), in the order of their numbers: the same on every architecture that there is a kontena for.
const RLIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// `NAME=SOFT[:HARD]`.
pub fn ulimit(text: &str) -> Result<Rlimit> {
    let parse = || {
        let (name, limits) = text.split_once('=')?;
        let resource = RLIMITS.iter().position(|known| *known == name)? as u32;
        let limit = |text| if matches!(text, "-1" | "unlimited") { Some(u64::MAX) } else { number(text) };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (limit(soft)?, limit(hard)?);
        (soft <= hard).then_some(Rlimit { resource, soft, hard })
    };
    let hint = "give NAME=SOFT or NAME=SOFT:HARD with a name of getrlimit(2) and -1 for no limit, as nofile=1024:4096";
    parse().ok_or_else(|| wrong("--ulimit", text, hint))
}

/// The name of an rlimit.
pub fn rlimit_name(resource: u32) -> &'static str {
    RLIMITS.get(resource as usize).copied().unwrap_or_default()
}

/// -1000 to 1000.
pub fn oom_score_adj(text: &str) -> Result<i32> {
    match text.parse() {
        Ok(score @ -1000..=1000) => Ok(score),
        _ => Err(wrong("--oom-score-adj", text, "not a score: give -1000 to 1000")),
    }
}

/// Octal digits, as umask(1) takes them.
pub fn umask(text: &str) -> Result<u32> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777 && !text.starts_with('+'));
    mask.ok_or_else(|| wrong("--umask", text, "not a mask: give octal digits up to 0777"))
}

/// `KEY=VALUE` of a sysctl that the container has for itself.
pub fn sysctl(text: &str, net: Option<&Net>) -> Result<String> {
    const OWN: [&str; 8] = [
        "kernel.msg",
        "kernel.sem",
        "kernel.shm",
        "kernel.domainname",
        "fs.mqueue.",
        "net.",
        "kernel.auto_msgmni",
        "net/",
    ];
    let wrong = |hint| wrong("--sysctl", text, hint);
    let (key, _) = text.split_once('=').ok_or_else(|| wrong("give KEY=VALUE, as net.core.somaxconn=1024"))?;
    let good = key.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-/".contains(&c))
        && !key.as_bytes().windows(2).any(|pair| pair == b"..");
    if !good || !OWN.iter().any(|own| key.starts_with(own)) {
        return Err(wrong(
            "not the container's own: the host's stay as they are; give one of net.*, kernel.shm*, kernel.msg*, kernel.sem, \
             kernel.domainname, fs.mqueue.*",
        ));
    }
    if key.starts_with("net") && net.is_some_and(|net| !net.is_own()) {
        return Err(wrong("the network is not the container's own: leave it out, or give another --net"));
    }
    Ok(text.into())
}

/// `true` or `false`, in docker's words for no-new-privileges.
pub fn security_option(text: &str) -> Result<bool> {
    match text.split_once(['=', ':']).unwrap_or((text, "true")) {
        ("no-new-privileges", "true") => Ok(true),
        ("no-new-privileges", "false") => Ok(false),
        _ => Err(wrong("--security-opt", text, "give no-new-privileges=true, as it is anyway, or =false")),
    }
}

/// `default` or `unconfined`.
pub fn seccomp(text: &str) -> Result<bool> {
    match text {
        "default" => Ok(true),
        "unconfined" => Ok(false),
        _ => Err(wrong("--seccomp", text, "not a filter: give default or unconfined")),
    }
}

/// The variables of a file: `KEY=VALUE` or `KEY` a line, as `-e` takes them; empty lines and those with # are left out.
pub fn env_file(path: &str) -> Result<Vec<CString>> {
    let hint = "give a file with a variable a line: KEY=VALUE, or KEY";
    let bytes = file::read(CWD, path).context(format_args!("--env-file {path}"), hint)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("--env-file", path, "not UTF-8: variables are text"))?;
    let mut variables = Vec::new();
    for line in text.lines().map(|line| line.trim_ascii_start()) {
        if !line.is_empty() && !line.starts_with('#') {
            variables.extend(env(line)?);
        }
    }
    Ok(variables)
}
