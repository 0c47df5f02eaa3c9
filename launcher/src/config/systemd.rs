//! `--systemd`: podman's words for a container whose command is systemd, and the options that it stands for.
//!
//! Must not touch the system.

use crate::error::Parsed;

/// For which commands a container is prepared for systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Systemd {
    /// For none.
    Never,
    /// For those of [`COMMANDS`], and any that is called `systemd`.
    IfNamed,
    /// For any.
    Always,
}

/// podman-run(1).
const COMMANDS: [&[u8]; 3] = [b"/sbin/init", b"/usr/sbin/init", b"/usr/local/sbin/init"];
/// What systemd wants to be empty at its start, as `--tmpfs` takes it: <https://systemd.io/CONTAINER_INTERFACE>.
pub const EMPTY: [&str; 3] = ["/run:mode=755", "/run/lock:mode=1777", "/tmp:mode=1777"];
/// SIGRTMIN+3, with which systemd halts; systemd(1).
pub const HALT: u32 = 37;

/// `--systemd[=true|false|always]`.
pub fn systemd(text: &str) -> Parsed<Systemd> {
    match text {
        "" | "true" => Ok(Systemd::IfNamed),
        "false" => Ok(Systemd::Never),
        "always" => Ok(Systemd::Always),
        _ => Err("not an answer: use true, false or always"),
    }
}

impl Systemd {
    /// Whether it applies to the command of this name.
    pub fn applies_to(self, command: &[u8]) -> bool {
        let name = command.rsplit(|byte| *byte == b'/').next();
        match self {
            Self::Never => false,
            Self::IfNamed => name == Some(b"systemd") || COMMANDS.contains(&command),
            Self::Always => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    #[test]
    fn systemd_is_known_by_its_name_as_with_podman() {
        let good = [("", Systemd::IfNamed), ("true", Systemd::IfNamed), ("false", Systemd::Never)];
        check(systemd, good, &["yes", "True", "1", "always "], "not an answer: use true, false or always");
        assert_eq!(systemd("always"), Ok(Systemd::Always));
        for command in ["systemd", "/lib/systemd/systemd", "/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"] {
            assert!(Systemd::IfNamed.applies_to(command.as_bytes()), "{command}");
            assert!(!Systemd::Never.applies_to(command.as_bytes()), "{command}");
        }
        for command in ["init", "/init", "/bin/init", "/usr/bin/systemd-run", "/systemd/sh", "/lib/systemd/"] {
            assert!(!Systemd::IfNamed.applies_to(command.as_bytes()), "{command}");
            assert!(Systemd::Always.applies_to(command.as_bytes()), "{command}");
        }
    }
}
