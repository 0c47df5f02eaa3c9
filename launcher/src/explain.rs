//! What the init has reported, in words for the person who called.
//!
//! Everything it says stands in the Plan, or in what of it joins a container. Must not touch the system, but for the reasons
//! of a refused user namespace.

use crate::error::Error;
use crate::process;
use crate::userns;
use kontena_init::plan::{Plan, Process, Report, Rlimit, Step};
use rustix::io::Errno;
use std::ffi::CStr;

/// Why a container did not start.
pub fn explain(report: Report, plan: &Plan<'_>) -> Error {
    let errno = Errno::from_raw_os_error(report.errno.clamp(1, 4095));
    let index = usize::from(report.index);
    let target = words(plan.all_mounts().nth(index).map_or(c"", |mount| mount.target));
    // What is behind it makes a link to a directory one.
    let rootfs = words(plan.root.source);
    let rootfs = rootfs.strip_suffix("/.").unwrap_or(&rootfs).into();
    let (object, hint) = match report.step {
        Step::AttachRoot => (rootfs, "is it a directory that kontena may read?"),
        Step::Mount if errno == Errno::NODEV => (target, "the kernel lacks this file system"),
        Step::MountTarget => match errno {
            Errno::LOOP => (target, "the rootfs has a symbolic link in its way: put a directory there"),
            Errno::ROFS => (target, "the rootfs lacks this path, and is read-only: make it there"),
            Errno::NOTDIR | Errno::INVAL => {
                (target, "a directory goes on a directory, and a file on a file: look at what the rootfs has there")
            }
            _ => (target, ""),
        },
        Step::Mount | Step::Devices | Step::Mask | Step::Readonly => (target, ""),
        Step::Device => (
            words(plan.devices.iter().nth(index).map_or(c"", |device| device.target)),
            if errno == Errno::EXIST {
                "the rootfs, or another option, has something there: give another target"
            } else {
                ""
            },
        ),
        Step::File => ("over /etc/hosts, /etc/hostname or /etc/resolv.conf".into(), ""),
        Step::Overlay if errno == Errno::NODEV => {
            (rootfs, "the kernel lacks overlayfs, which --overlay and a read-only rootfs without all mountpoints need")
        }
        Step::Overlay => {
            (rootfs, "the layer must be on a file system that overlayfs can write to: not on another overlay")
        }
        Step::Setting => return explain_setting(plan.settings.iter().nth(index).unwrap_or_default(), errno),
        Step::MakePrivate if plan.userns == 1 || !crate::is_privileged() => {
            return Error::new(format_args!("{}", report.step.text()), errno, &userns::why_refused(errno));
        }
        _ => return explain_process(report, &plan.process),
    };
    tell(report.step, &object, errno, hint)
}

/// Why a process did not start in a container.
pub fn explain_process(report: Report, process: &Process<'_>) -> Error {
    let errno = Errno::from_raw_os_error(report.errno.clamp(1, 4095));
    let index = usize::from(report.index);
    let (object, hint) = match report.step {
        Step::Fork if errno == Errno::AGAIN => {
            ("the payload".into(), "the limit of processes was hit while starting: raise --pids-limit")
        }
        // As fork(2) says of a pid namespace without a PID 1.
        Step::Join | Step::Fork if errno == Errno::SRCH || errno == Errno::NOMEM => {
            (String::new(), "the container has just ended, or there is no memory")
        }
        Step::Rlimit => {
            let name =
                process.rlimits.iter().nth(index).map_or("", |Rlimit { resource, .. }| process::rlimit_name(resource));
            return Error::new(format_args!("set the ulimit {name}"), errno, "more than the caller itself may have");
        }
        Step::SetUser if errno == Errno::INVAL || errno == Errno::PERM => (
            words(process.user),
            "the user or one of its groups is not in the container's user namespace: give --userns more ids",
        ),
        Step::GroupUnknown if report.index > 0 => (
            words(process.groups.iter().nth(index - 1).unwrap_or_default()),
            "give --group-add a name of the rootfs's /etc/group or a number",
        ),
        Step::UserUnknown => {
            (words(process.user), "give -u NAME|UID[:GROUP|GID], a name of the rootfs's /etc/passwd or a number")
        }
        Step::GroupUnknown => {
            (words(process.user), "give -u NAME|UID[:GROUP|GID], a name of the rootfs's /etc/group or a number")
        }
        Step::WorkingDirectory => (words(process.cwd), "give -w a directory of the rootfs that the user may enter"),
        Step::Terminal => (String::new(), "the container's /dev/pts is no devpts: take the volume away that covers it"),
        Step::Exec => (
            words(process.argv.iter().next().unwrap_or_default()),
            match errno {
                Errno::NOENT if process.argv.iter().eq([crate::cli::DEFAULT_COMMAND]) => {
                    "no COMMAND was given, and the rootfs has no /bin/sh: name one"
                }
                Errno::NOENT => "not in the rootfs, or its interpreter is not: give a program of the rootfs",
                Errno::ACCESS => "not a program, or not one that the user may execute",
                Errno::NOEXEC => "not a program for this machine",
                _ => "",
            },
        ),
        _ => (String::new(), ""),
    };
    let error = tell(report.step, &object, errno, hint);
    match (report.step, errno) {
        (Step::Exec, Errno::NOENT | Errno::NOTDIR) => error.with_status(127),
        (Step::Exec, _) => error.with_status(126),
        _ => error,
    }
}

/// `sys/net/core/somaxconn=1` or `self/oom_score_adj=-17`: what is written below /proc.
fn explain_setting(setting: &CStr, errno: Errno) -> Error {
    let setting = setting.to_string_lossy();
    if let Some(score) = setting.strip_prefix("self/oom_score_adj=") {
        let hint = "lowering it takes CAP_SYS_RESOURCE: run kontena as root";
        return Error::new(format_args!("--oom-score-adj {score}"), errno, hint);
    }
    let (path, value) = setting.strip_prefix("sys/").unwrap_or(&setting).split_once('=').unwrap_or_default();
    let hint = "the kernel has no such sysctl for a container, or takes no such value";
    Error::new(format_args!("--sysctl {}={value}", path.replace('/', ".")), errno, hint)
}

fn words(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

fn tell(step: Step, object: &str, errno: Errno, hint: &str) -> Error {
    let separator = if object.is_empty() { "" } else { " " };
    Error::new(format_args!("{}{separator}{object}", step.text()), errno, hint)
}
