//! `kontena spec`: writes a config.json to start a bundle with.
//!
//! Must not overwrite a file.

use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::oci::FILE;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// A config.json for a shell, in the order of the specification. Each row has a common part, then its continuation for
/// root, and its continuation for an ordinary user. `%` stands for the user's uid, then for the gid.
const PARTS: [[&str; 3]; 4] = [
    [
        concat!(
            r#"{"ociVersion":"1.3.0","process":{"terminal":true,"user":{"uid":0,"gid":0},"args":["sh"],"#,
            r#""env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","TERM=xterm"],"cwd":"/","#,
            r#""capabilities":{"bounding":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"],"#,
            r#""effective":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"],"#,
            r#""permitted":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"]},"#,
            r#""rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}],"noNewPrivileges":true},"#,
            r#""root":{"path":"rootfs","readonly":true},"hostname":"kontena","#,
            r#""mounts":[{"destination":"/proc","type":"proc","source":"proc"},"#,
            r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs","#,
            r#""options":["nosuid","strictatime","mode=755","size=65536k"]},"#,
            r#"{"destination":"/dev/pts","type":"devpts","source":"devpts","#,
            r#""options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620""#,
        ),
        r#","gid=5""#,
        "",
    ],
    [
        concat!(
            r#"]},{"destination":"/dev/shm","type":"tmpfs","source":"shm","#,
            r#""options":["nosuid","noexec","nodev","mode=1777","size=65536k"]},"#,
            r#"{"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","#,
            r#""options":["nosuid","noexec","nodev"]},"#,
            r#"{"destination":"/sys","options":["nosuid","noexec","nodev","ro""#,
        ),
        r#"],"type":"sysfs","source":"sysfs"}"#,
        r#","rbind"],"type":"none","source":"/sys"}"#,
    ],
    [
        concat!(
            r#",{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","#,
            r#""options":["nosuid","noexec","nodev","relatime","ro"]}],"linux":{"#,
        ),
        r#""resources":{"devices":[{"allow":false,"access":"rwm"}]},"namespaces":[{"type":"network"}"#,
        concat!(
            r#""uidMappings":[{"containerID":0,"hostID":%,"size":1}],"#,
            r#""gidMappings":[{"containerID":0,"hostID":%,"size":1}],"namespaces":[{"type":"user"}"#,
        ),
    ],
    [
        concat!(
            r#",{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"cgroup"}],"#,
            r#""maskedPaths":["/proc/acpi","/proc/asound","/proc/kcore","/proc/keys","/proc/latency_stats","#,
            r#""/proc/timer_list","/proc/timer_stats","/proc/sched_debug","/proc/scsi","/sys/firmware"],"#,
            r#""readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]}}"#,
        ),
        "",
        "",
    ],
];

/// Writes config.json to a directory; for an ordinary user if `is_rootless`.
pub fn write(directory: &str, is_rootless: bool) -> Result<()> {
    let path = format!("{directory}/{FILE}");
    let opened = file::open(CWD, &path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL);
    if opened.as_ref().err() == Some(&Errno::EXIST) {
        return Err(Error::usage(format_args!("{path} exists"), "remove it first, or use another --bundle"));
    }
    let written = opened.and_then(|file| file::write_open(&file, &text(is_rootless)));
    written.context(format_args!("write {path}"), "--bundle: use a directory that you can write to")
}

/// Returns the JSON, with line breaks and tabs.
fn text(is_rootless: bool) -> String {
    let mut ids = [geteuid().as_raw(), getegid().as_raw()].into_iter();
    let (mut text, mut depth, mut is_string) = (String::new(), 0, false);
    let parts = PARTS.iter().flat_map(|[all, root, rootless]| [*all, if is_rootless { rootless } else { root }]);
    for c in parts.flat_map(str::chars) {
        is_string ^= c == '"';
        let opens = !is_string && matches!(c, '{' | '[');
        let closes = !is_string && matches!(c, '}' | ']');
        depth = depth + usize::from(opens) - usize::from(closes);
        let line = || ["\n", &"\t".repeat(depth)].concat();
        if closes {
            text += &line();
        }
        match c {
            '%' => text += &ids.next().unwrap_or_default().to_string(),
            c => text.push(c),
        }
        match c {
            ':' if !is_string => text.push(' '),
            ',' if !is_string => text += &line(),
            _ if opens => text += &line(),
            _ => {}
        }
    }
    text + "\n"
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::defaults;
    use crate::oci::parse;

    #[test]
    fn written_config_can_be_read() {
        for is_rootless in [false, true] {
            let text = text(is_rootless);
            let mut config = defaults();
            parse(text.clone().leak().as_bytes(), "/b", &mut config).unwrap();
            assert_eq!((config.has_userns(), config.life.tty), (is_rootless || !crate::sys::is_privileged(), true));
            assert!(text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,\n"));
            assert!(text.ends_with("\"/proc/sysrq-trigger\"\n\t\t]\n\t}\n}\n") && !text.contains('%'), "{text}");
        }
    }
}
