//! `--privileged`, `--security-opt` and `--seccomp`: which of its defences a container goes without, or has changed.
//!
//! Must not touch the system, but to see whether the kernel has SELinux or AppArmor.

use crate::error::Parsed;
use crate::file::{self, CWD};

/// The defences that are options, beside the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Security {
    /// Whether execve(2) gives privileges to nobody; prctl(2).
    pub no_new_privileges: bool,
    /// How system calls are filtered.
    pub seccomp: Seccomp,
    /// Whether paths of /proc and /sys are masked or read-only.
    pub masks: bool,
    /// Whether the container has all devices of the host, and a writable /sys.
    pub privileged: bool,
}

/// A filter of system calls, as an option names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// kontena's own.
    Default,
    /// None.
    Unconfined,
    /// The one of a file.
    Profile(&'static str),
}

/// The filter of a profile.
#[derive(Default)]
pub struct OwnFilter {
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u32,
    /// The instructions, each struct sock_filter behind the other.
    pub code: Vec<u8>,
}

impl Security {
    /// Unless an option says otherwise.
    pub const DEFAULT: Self =
        Self { no_new_privileges: true, seccomp: Seccomp::Default, masks: true, privileged: false };
    /// `--privileged`.
    pub const PRIVILEGED: Self =
        Self { no_new_privileges: false, seccomp: Seccomp::Unconfined, masks: false, privileged: true };

    /// `--security-opt`, in the words of docker and podman.
    pub fn set(&mut self, text: &'static str) -> Parsed<()> {
        let is_there = |path: &str| file::open(CWD, path, rustix::fs::OFlags::PATH).is_ok();
        match text.split_once(['=', ':']).unwrap_or((text, "true")) {
            ("no-new-privileges", "true") => self.no_new_privileges = true,
            ("no-new-privileges", "false") => self.no_new_privileges = false,
            ("seccomp", filter) => self.seccomp = seccomp(filter)?,
            ("systempaths", "unconfined") | ("unmask", "ALL" | "all") => self.masks = false,
            ("label", "disable") | ("apparmor", "unconfined") => {}
            // As with docker: labels are for SELinux, and without it there is nothing to label.
            ("label", _) if !is_there("/sys/fs/selinux") => {}
            ("label", _) => return Err("kontena sets no SELinux labels: use label=disable"),
            ("apparmor", _) if !is_there("/sys/kernel/security/apparmor") => {
                return Err("the kernel has no AppArmor, or securityfs is not mounted: use apparmor=unconfined");
            }
            ("apparmor", _) => return Err("kontena sets no AppArmor profiles: use apparmor=unconfined"),
            _ => {
                return Err(
                    "use no-new-privileges[=false], seccomp=FILE|unconfined, unmask=ALL, systempaths=unconfined, \
                            label=disable or apparmor=unconfined",
                );
            }
        }
        Ok(())
    }
}

/// `default`, `unconfined`, or the path of a profile.
pub fn seccomp(text: &'static str) -> Parsed<Seccomp> {
    match text {
        "default" => Ok(Seccomp::Default),
        "unconfined" => Ok(Seccomp::Unconfined),
        "" | "true" => Err("no profile: use default, unconfined, or the path of a profile in JSON"),
        path => Ok(Seccomp::Profile(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    #[test]
    fn options_are_dockers_and_podmans() {
        let set = |text: &'static str| {
            let mut security = Security::DEFAULT;
            security.set(text).map(|()| security)
        };
        let default = Security::DEFAULT;
        let privileges = Security { no_new_privileges: false, ..default };
        let good = [
            ("no-new-privileges", default),
            ("no-new-privileges=true", default),
            ("no-new-privileges:true", default),
            ("no-new-privileges=false", privileges),
            ("no-new-privileges:false", privileges),
            ("seccomp=default", default),
            ("seccomp=unconfined", Security { seccomp: Seccomp::Unconfined, ..default }),
            ("seccomp:unconfined", Security { seccomp: Seccomp::Unconfined, ..default }),
            ("seccomp=/etc/a.json", Security { seccomp: Seccomp::Profile("/etc/a.json"), ..default }),
            ("unmask=ALL", Security { masks: false, ..default }),
            ("systempaths=unconfined", Security { masks: false, ..default }),
            ("label=disable", default),
            ("apparmor=unconfined", default),
        ];
        let hint = "use no-new-privileges[=false], seccomp=FILE|unconfined, unmask=ALL, systempaths=unconfined, \
                    label=disable or apparmor=unconfined";
        let bad =
            ["", "no-new-privileges=", "no-new-privileges=maybe", "unmask=/proc/keys", "systempaths=", "proc-opts=a"];
        check(set, good, &bad, hint);
        check(set, [], &["seccomp", "seccomp="], NO_PROFILE);
        // Each machine has its own reason.
        assert!(set("apparmor=docker-default").is_err_and(|hint| hint.contains("AppArmor")));
        if !std::path::Path::new("/sys/fs/selinux").exists() {
            assert_eq!(set("label=type:container_t"), Ok(default));
        }
    }

    const NO_PROFILE: &str = "no profile: use default, unconfined, or the path of a profile in JSON";

    #[test]
    fn filters_are_default_or_none_or_a_files() {
        let good = [("default", Seccomp::Default), ("unconfined", Seccomp::Unconfined), ("a", Seccomp::Profile("a"))];
        check(seccomp, good, &[""], NO_PROFILE);
    }
}
