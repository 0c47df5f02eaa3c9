//! `--privileged`, `--security-opt` and `--seccomp`: which of its defences a container goes without.
//!
//! Must not touch the system, but to see whether the kernel has SELinux or AppArmor.

use crate::error::Parsed;
use crate::file::{self, CWD};

/// The defences that are options, beside the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Security {
    /// Whether execve(2) gives privileges to nobody; prctl(2).
    pub no_new_privileges: bool,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether paths of /proc and /sys are masked or read-only.
    pub masks: bool,
    /// Whether the container has all devices of the host, and a writable /sys.
    pub privileged: bool,
}

impl Security {
    /// Unless an option says otherwise.
    pub const DEFAULT: Self = Self { no_new_privileges: true, seccomp: true, masks: true, privileged: false };
    /// `--privileged`.
    pub const PRIVILEGED: Self = Self { no_new_privileges: false, seccomp: false, masks: false, privileged: true };

    /// `--security-opt`, in the words of docker and podman.
    pub fn set(&mut self, text: &str) -> Parsed<()> {
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
                return Err("use no-new-privileges[=false], seccomp=unconfined, unmask=ALL, systempaths=unconfined, \
                            label=disable or apparmor=unconfined");
            }
        }
        Ok(())
    }
}

/// `default` or `unconfined`.
pub fn seccomp(text: &str) -> Parsed<bool> {
    match text {
        "default" => Ok(true),
        "unconfined" => Ok(false),
        _ => Err("kontena reads no profiles: use default or unconfined"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    #[test]
    fn options_are_dockers_and_podmans() {
        let set = |text: &str| {
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
            ("seccomp=unconfined", Security { seccomp: false, ..default }),
            ("seccomp:unconfined", Security { seccomp: false, ..default }),
            ("unmask=ALL", Security { masks: false, ..default }),
            ("systempaths=unconfined", Security { masks: false, ..default }),
            ("label=disable", default),
            ("apparmor=unconfined", default),
        ];
        let hint = "use no-new-privileges[=false], seccomp=unconfined, unmask=ALL, systempaths=unconfined, \
                    label=disable or apparmor=unconfined";
        let bad =
            ["", "no-new-privileges=", "no-new-privileges=maybe", "unmask=/proc/keys", "systempaths=", "proc-opts=a"];
        check(set, good, &bad, hint);
        let hint = "kontena reads no profiles: use default or unconfined";
        check(set, [], &["seccomp", "seccomp=", "seccomp=/etc/profile.json"], hint);
        // Each machine has its own reason.
        assert!(set("apparmor=docker-default").is_err_and(|hint| hint.contains("AppArmor")));
        if !std::path::Path::new("/sys/fs/selinux").exists() {
            assert_eq!(set("label=type:container_t"), Ok(default));
        }
    }

    #[test]
    fn filters_are_default_or_none() {
        let hint = "kontena reads no profiles: use default or unconfined";
        check(seccomp, [("default", true), ("unconfined", false)], &["", "Default", "profile.json"], hint);
    }
}
