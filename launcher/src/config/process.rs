//! What the payload's process is given beside its user: ulimits, sysctls, an environment from files.
//!
//! Each function parses the text of one option, and returns its value or a hint of one line. Must not touch the system,
//! but for the files that `--env-file` and `--label-file` name.

use crate::config::{env, wrong};
use crate::error::{Context, Parsed, Result};
use crate::file::{self, CWD};
use crate::text::{number, place_of, word_at};
use kontena_init::plan::Rlimit;
use std::ffi::CStr;

/// getrlimit(2), in the order of their numbers: the same on every architecture that there is a kontena for.
const RLIMITS: &str =
    "cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio rttime";

/// `NAME=SOFT[:HARD]`.
pub fn ulimit(text: &str) -> Parsed<Rlimit> {
    let parse = || {
        let (name, limits) = text.split_once('=')?;
        let resource = place_of(name, RLIMITS)? as u32;
        let limit = |text| if matches!(text, "-1" | "unlimited") { Some(u64::MAX) } else { number(text) };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (limit(soft)?, limit(hard)?);
        (soft <= hard).then_some(Rlimit { resource, soft, hard })
    };
    let hint = "use NAME=SOFT[:HARD] with a name of getrlimit(2) and -1 for no limit, for example nofile=1024:4096";
    parse().ok_or(hint)
}

/// The name of an rlimit.
pub fn rlimit_name(resource: u32) -> &'static str {
    word_at(resource as usize, RLIMITS)
}

/// -1000 to 1000.
pub fn oom_score_adj(text: &str) -> Parsed<i32> {
    match text.parse() {
        Ok(score @ -1000..=1000) => Ok(score),
        _ => Err("not a score: use -1000 to 1000"),
    }
}

/// Octal digits, as umask(1) takes them.
pub fn umask(text: &str) -> Parsed<u32> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777 && !text.starts_with('+'));
    mask.ok_or("not a mask: use octal digits up to 0777")
}

/// `KEY=VALUE` of a sysctl that the container has for itself.
pub fn sysctl(text: &str) -> Parsed<&str> {
    const OWN: [&str; 7] =
        ["kernel/msg", "kernel/sem", "kernel/shm", "kernel/domainname", "fs/mqueue/", "net/", "kernel/auto_msgmni"];
    let (key, _) = text.split_once('=').ok_or("use KEY=VALUE, for example net.core.somaxconn=1024")?;
    let path = sysctl_path(key);
    let good = key.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-/".contains(&c))
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !good || !OWN.iter().any(|own| path.starts_with(own)) {
        return Err("it is the host's, not the container's: use net.*, kernel.shm*, kernel.msg*, kernel.sem, \
             kernel.domainname or fs.mqueue.*");
    }
    Ok(text)
}

/// The path of a sysctl below /proc/sys; sysctl.d(5): unless the first separator is a slash, dots and slashes change
/// places, so that `net.ipv4.conf.eth0/7.forwarding` and `net/ipv4/conf/eth0.7/forwarding` are the same.
pub fn sysctl_path(key: &str) -> String {
    let is_path = key.chars().find(|c| matches!(c, '.' | '/')) == Some('/');
    let swap = |c| match c {
        '.' if !is_path => '/',
        '/' if !is_path => '.',
        c => c,
    };
    key.chars().map(swap).collect()
}

/// The variables of a file: `KEY=VALUE` or `KEY` a line, as `-e` takes them.
pub fn env_file(path: &str) -> Result<Vec<&'static CStr>> {
    let mut variables = Vec::new();
    read_lines("--env-file", path, &mut |line| env(line).map(|variable| variables.extend(variable)))?;
    Ok(variables)
}

/// Adds each line of the file of an option; empty lines and those with # are left out.
pub fn read_lines(option: &str, path: &str, add: &mut dyn FnMut(&'static str) -> Parsed<()>) -> Result<()> {
    let hint = "use a file with KEY=VALUE or KEY on each line";
    let bytes = file::read(CWD, path).context(format_args!("{option} {path}"), hint)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(option, path, "not UTF-8: use text"))?;
    for line in text.leak().lines().map(|line| line.trim_ascii_start()) {
        if !line.is_empty() && !line.starts_with('#') {
            add(line).map_err(|hint| wrong(option, path, hint))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    #[test]
    fn ulimits_have_a_name_and_one_or_two_bounds() {
        let limit = |resource, soft, hard| Rlimit { resource, soft, hard };
        let good = [
            ("nofile=1024", limit(7, 1024, 1024)),
            ("nofile=1024:4096", limit(7, 1024, 4096)),
            ("core=-1", limit(4, u64::MAX, u64::MAX)),
            ("cpu=0:unlimited", limit(0, 0, u64::MAX)),
            ("rttime=18446744073709551615", limit(15, u64::MAX, u64::MAX)),
        ];
        let bad = [
            "",
            "nofile",
            "nofile=",
            "=1",
            "nofile=-2",
            "nofile=2:1",
            "nofile=-1:1",
            "nofile=1:",
            "nofile=1:2:3",
            "nosuch=1",
            "NOFILE=1",
            "nofile=+1",
            "nofile=18446744073709551616",
        ];
        let hint = "use NAME=SOFT[:HARD] with a name of getrlimit(2) and -1 for no limit, for example nofile=1024:4096";
        check(ulimit, good, &bad, hint);
        assert_eq!([0, 7, 15, 16].map(rlimit_name), ["cpu", "nofile", "rttime", ""]);
    }

    #[test]
    fn scores_and_masks_are_checked() {
        let good = [("-1000", -1000), ("0", 0), ("1000", 1000)];
        check(oom_score_adj, good, &["", "-1001", "1001", "x", "1.5", "--1"], "not a score: use -1000 to 1000");
        let good = [("0", 0), ("0022", 0o22), ("777", 0o777)];
        let bad = ["", "8", "1000", "01000", "+22", "-1", "0x1", "0o22"];
        check(umask, good, &bad, "not a mask: use octal digits up to 0777");
    }

    #[test]
    fn sysctls_are_the_containers_own() {
        let good = [
            "net.core.somaxconn=1024",
            "net/ipv4/conf/eth0.7/forwarding=1",
            "net.ipv4.conf.eth0/7.forwarding=1",
            "kernel/shmmax=1",
            "kernel.shmmax=1",
            "kernel.msgmax=1",
            "kernel.sem=1 2 3 4",
            "kernel.domainname=a=b",
            "fs.mqueue.msg_max=",
        ];
        let good = good.map(|text| (text, text));
        check(sysctl, good, &["", "net.core.somaxconn", "vm"], "use KEY=VALUE, for example net.core.somaxconn=1024");
        let hint = "it is the host's, not the container's: use net.*, kernel.shm*, kernel.msg*, kernel.sem, \
                    kernel.domainname or fs.mqueue.*";
        let bad = [
            "=1",
            "net=1",
            "vm.swappiness=1",
            "fs.file-max=1",
            "kernel.core_pattern=x",
            "kernel.hostname=x",
            "net..x=1",
            "net/../kernel/core_pattern=x",
            "net//x=1",
            "net/./x=1",
            "net.=1",
            "net.x.=1",
            "net.//.kernel.core_pattern=x",
            "net.a b=1",
            "/net/a=1",
        ];
        check(sysctl, [], &bad, hint);
        for (key, path) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/ipv4/conf/eth0.7/forwarding", "net/ipv4/conf/eth0.7/forwarding"),
            ("net.ipv4.conf.eth0/7.forwarding", "net/ipv4/conf/eth0.7/forwarding"),
        ] {
            assert_eq!(sysctl_path(key), path);
        }
    }

    #[test]
    fn files_of_variables_have_one_a_line() {
        let path = std::env::temp_dir().join(format!("kontena-env-{}", std::process::id()));
        let path = path.to_str().unwrap_or_default();
        let read = |content: &[u8]| {
            std::fs::write(path, content).map_err(|error| error.to_string())?;
            env_file(path).map_err(|error| error.to_string())
        };
        let variables = [c"A=b", c"B= c ", c"C=#d"];
        assert_eq!(
            read(b"# comment\n\nA=b\n  B= c \n\t# more\r\nC=#d\nKONTENA_HAS_NO_SUCH_VARIABLE"),
            Ok(variables.into())
        );
        assert_eq!(read(b""), Ok(Vec::new()));
        for (content, hint) in [
            (&b"A=b\n=c\n"[..], "no name before the =: use KEY=VALUE or KEY"),
            (b"A=\xff", "not UTF-8: use text"),
            (b"A=\0", "a NUL cannot be passed on: remove it"),
        ] {
            assert_eq!(read(content), Err(format!("--env-file \"{path}\": {hint}")));
        }
        assert!(std::fs::remove_file(path).is_ok());
        let error = env_file(path).map_err(|error| error.to_string());
        let hint = "ENOENT (No such file or directory): use a file with KEY=VALUE or KEY on each line";
        assert_eq!(error, Err(format!("--env-file {path}: {hint}")));
    }
}
