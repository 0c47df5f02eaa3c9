//! Explains a report of the init to the caller: which step failed, on what, why, and what to do.
//!
//! The object of a step is in the Plan, or in the ProcessSpec of a joining process. Must not touch the system, but for
//! the reasons of a refused user namespace.

#[cfg(feature = "oci")]
use crate::config::bundle::{CREATE_CONTAINER, HOOKS, START_CONTAINER};
use crate::config::capabilities;
use crate::config::environment::DEFAULT_COMMAND;
use crate::config::process;
use crate::error::{Error, OWN_FAILURE};
use crate::resources::userns;
use crate::text::replace;
use kontena_init::filter;
#[cfg(feature = "oci")]
use kontena_init::plan::{Bundled, HOOK_ENDED, HOOK_KILLED, HOOK_TIMED_OUT, Hook, attributes};
use kontena_init::plan::{Plan, ProcessSpec, Report, Rlimit, Step};
use linux_raw_sys::general::{SIGILL, SIGSYS};
use rustix::io::Errno;
use std::ffi::CStr;

/// Why a container did not start.
pub fn explain(report: Report, plan: &Plan<'_>, rootfs: &CStr) -> Error {
    let index = usize::from(report.index);
    let object = match report.step {
        Step::Setting => return explain_setting(plan.settings.iter().nth(index).unwrap_or_default(), errno_of(report)),
        Step::MakePrivate if plan.userns == 1 || !crate::sys::is_privileged() => {
            let errno = errno_of(report);
            return Error::new(format_args!("{}", report.step.text()), errno, &userns::why_refused(errno));
        }
        Step::AttachRoot | Step::Overlay => words(rootfs),
        Step::Mount | Step::MountTarget | Step::Devices | Step::Mask | Step::Readonly => {
            words(plan.mount(report.index).map_or(c"", |mount| mount.target))
        }
        Step::Device => words(plan.devices.iter().nth(index).map_or(c"", |device| device.target)),
        Step::File => "over /etc/hosts, /etc/hostname or /etc/resolv.conf".into(),
        #[cfg(feature = "oci")]
        Step::MaskPath | Step::ReadonlyPath | Step::CreateHook | Step::StartHook => {
            return plan.bundle.get().map_or_else(|| failure(report, "", ""), |bundle| explain_bundle(report, bundle));
        }
        _ => return explain_process(report, &plan.process),
    };
    failure(report, &object, hint(report.step, errno_of(report)))
}

/// Why a process did not start in a container.
pub fn explain_process(report: Report, process: &ProcessSpec<'_>) -> Error {
    let (errno, index) = (errno_of(report), usize::from(report.index));
    let object = match report.step {
        Step::Fork if errno == Errno::AGAIN => "the payload".into(),
        Step::Rlimit => {
            let limit = process.rlimits.iter().nth(index);
            limit.map_or("", |Rlimit { resource, .. }| process::rlimit_name(resource)).into()
        }
        #[cfg(feature = "oci")]
        Step::Attribute => attributes::NAMES.get(index).copied().unwrap_or_default().into(),
        Step::SetUser if !matches!(errno, Errno::INVAL | Errno::PERM) => String::new(),
        Step::SetUser | Step::UserUnknown | Step::GroupUnknown => words(process.user),
        Step::SupplementaryGroupUnknown => words(process.groups.iter().nth(index).unwrap_or_default()),
        Step::WorkingDirectory => words(process.cwd),
        Step::Exec => words(process.argv.iter().next().unwrap_or_default()),
        _ => String::new(),
    };
    let has_no_shell = report.step == Step::Exec && errno == Errno::NOENT && process.argv.iter().eq([DEFAULT_COMMAND]);
    let lacks = capabilities::names(1u64.checked_shl(u32::from(report.index)).unwrap_or(0) >> 1).next();
    let hint = match (report.step, lacks) {
        _ if has_no_shell => "no COMMAND given, and the rootfs has no /bin/sh: add one",
        // capabilities(7), "Safety checking for capability-dumb binaries".
        (Step::Exec, Some(name)) => &format!("the container lacks the file's capability {name}: use --cap-add {name}"),
        _ => hint(report.step, errno),
    };
    let error = failure(report, &object, hint);
    match (report.step, errno) {
        (Step::Exec, Errno::NOENT | Errno::NOTDIR) => error.with_status(127),
        (Step::Exec, _) => error.with_status(126),
        _ => error,
    }
}

/// Why a step that only the container of a bundle has failed: what covers a path of it, or a hook that runs in it.
#[cfg(feature = "oci")]
fn explain_bundle(report: Report, bundle: &Bundled<'_>) -> Error {
    let index = usize::from(report.index);
    let (kind, hooks) = match report.step {
        Step::CreateHook => (CREATE_CONTAINER, &bundle.create_hooks),
        Step::StartHook => (START_CONTAINER, &bundle.start_hooks),
        step => {
            let paths = if step == Step::MaskPath { &bundle.masked } else { &bundle.readonly };
            return failure(report, &words(paths.iter().nth(index).unwrap_or_default()), hint(step, errno_of(report)));
        }
    };
    match hooks.hooks.iter().nth(index) {
        Some(hook) => explain_hook(HOOKS[kind], index, hook, report.errno, ""),
        None => failure(report, "", ""),
    }
}

/// Why a hook has failed: `end` is an errno, or [`HOOK_ENDED`] and its like; and what it has written.
#[cfg(feature = "oci")]
pub fn explain_hook(kind: &str, index: usize, hook: Hook<'_>, end: i32, output: &str) -> Error {
    let what = format!("run the hook {kind}[{index}] {}", words(hook.path));
    match end {
        HOOK_TIMED_OUT.. => Error::usage(format_args!("{what}: not done after {} s", hook.timeout), output),
        HOOK_KILLED.. => Error::usage(format_args!("{what}: ended by signal {}", end - HOOK_KILLED), output),
        HOOK_ENDED.. => Error::usage(format_args!("{what}: exit status {}", end - HOOK_ENDED), output),
        errno => Error::new(format_args!("{what}"), Errno::from_raw_os_error(errno.max(1)), output),
    }
}

/// What the exit status of a command is due to, if its [filter] of system calls may be the reason; else nothing.
pub fn explain_status(status: u8, seccomp: u8) -> &'static str {
    const KILLED: u8 = 128 + SIGSYS as u8;
    const REFUSED: u8 = 128 + SIGILL as u8;
    match (status, seccomp & !filter::KEYS) {
        (KILLED, filter::OWN) => {
            "kontena: status 159 is SIGSYS: the seccomp profile kills a program that makes this system call, or calls \
             of an architecture that it does not list\n"
        }
        (OWN_FAILURE, filter::OWN) => {
            "kontena: status 125: unless the command returned it, its seccomp profile refuses what kontena-init does \
             before it: permit what docker's profile does\n"
        }
        (REFUSED, filter::OWN) => {
            "kontena: status 132 is SIGILL: unless the command ended so, its seccomp profile refuses what kontena-init \
             does before it, and exit_group: permit what docker's profile does\n"
        }
        (KILLED, filter::DEFAULT) => {
            "kontena: status 159 is SIGSYS: the filter kills a program that makes system calls of another \
             architecture, for example a 32-bit one: it needs --seccomp unconfined, or a profile with SCMP_ARCH_X86\n"
        }
        _ => "",
    }
}

/// The reason for a failure, and its cure; empty if the step and the errno say it all.
fn hint(step: Step, errno: Errno) -> &'static str {
    match (step, errno) {
        (Step::AttachRoot | Step::Mount, Errno::STALE) => {
            "its source has changed since the container was started: start it again"
        }
        (Step::AttachRoot, _) => "it must be a directory that kontena can read",
        (Step::Mount, Errno::NODEV) => "the kernel lacks this file system",
        // mount_too_revealing() of the kernel: what covers parts of the old one would not cover the new one.
        (Step::Mount, Errno::PERM) => {
            "if kontena runs in a container, that one masks paths of it: start it with --security-opt unmask=ALL"
        }
        (Step::MountTarget, Errno::NOENT) => "its source has been removed, or a link in the rootfs leads nowhere",
        (Step::MountTarget, Errno::LOOP) => {
            "a symbolic link of the rootfs is on its way, and it must be mounted on ordinary directory entries"
        }
        (Step::MountTarget, Errno::ROFS) => "the rootfs lacks this path, and is read-only: create it there",
        (Step::MountTarget, Errno::ACCESS) => {
            "the container's root may not create it there: create it first, or use a rootfs of the caller's own"
        }
        (Step::MountTarget, Errno::NOTDIR | Errno::INVAL) => {
            "only a directory can cover a directory, and only a file a file: check this path in the rootfs"
        }
        (Step::Device, Errno::EXIST) => "the rootfs, or another option, has a file there: use another target",
        (Step::Overlay, Errno::NODEV) => {
            "the kernel lacks overlayfs, which --overlay and a read-only rootfs without all mountpoints need"
        }
        (Step::Overlay, Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
            "upper or work in the layer is not a directory: a link is not followed"
        }
        (Step::Overlay, _) => "the layer must be on a file system that overlayfs can write to: not on another overlay",
        (Step::Fork, Errno::AGAIN) => "the limit of processes was hit during the start: raise --pids-limit",
        (Step::Guard, Errno::DQUOT) => "the user has no keys left, see /proc/key-users: raise kernel.keys.maxkeys",
        // fork(2) in a pid namespace without a PID 1.
        (Step::Join | Step::Fork, Errno::SRCH | Errno::NOMEM) => "the container has just exited, or there is no memory",
        (Step::Rlimit, _) => "more than the caller's own limit",
        (Step::SetUser, Errno::INVAL | Errno::PERM) => {
            "the user or one of its groups is not in the container's user namespace: as root map more ids with \
             --userns; an ordinary user needs a line NAME:100000:65536 in /etc/subuid and in /etc/subgid, and \
             newuidmap of Debian's uidmap"
        }
        #[cfg(feature = "oci")]
        (Step::Attribute, _) => "the kernel refuses the value, has no such thing, or kontena lacks CAP_SYS_NICE",
        (Step::ReadUsers, Errno::AGAIN) => "a process of the container has a lease on it: use a number for -u",
        (Step::ReadUsers, _) => "use a number for -u, or put regular files there",
        (Step::UserUnknown, Errno::INVAL) => {
            "its line in the rootfs's /etc/passwd is malformed: fix it, or use a number for -u"
        }
        (Step::UserUnknown, _) => "use a name of the rootfs's /etc/passwd, or a number",
        (Step::GroupUnknown | Step::SupplementaryGroupUnknown, _) => {
            "use a name of the rootfs's /etc/group, or a number"
        }
        (Step::WorkingDirectory, _) => "-w must be a directory of the rootfs that the user may enter",
        (Step::Terminal, _) => "the container's /dev/pts is not a devpts: remove the volume that covers it",
        (Step::Exec, Errno::NOENT) => "the rootfs lacks it or its interpreter",
        (Step::Exec, Errno::ACCESS) => "not a program, or the user may not execute it",
        (Step::Exec, Errno::NOEXEC) => "not a program for this machine",
        (_, Errno::UCLEAN) => "the image or the disk is damaged",
        #[cfg(feature = "seccomp")]
        (_, Errno::PROTO) => "the seccomp profile pretends that this call was made: remove its rule about it",
        _ => "",
    }
}

/// The errno of a report, which need not be one of the kernel's.
fn errno_of(report: Report) -> Errno {
    Errno::from_raw_os_error(report.errno.clamp(1, 4095))
}

/// `sys/net/core/somaxconn=1` or `self/oom_score_adj=-17`: what is written below /proc.
fn explain_setting(setting: &CStr, errno: Errno) -> Error {
    let setting = setting.to_string_lossy();
    let setting = setting.trim_start_matches('-');
    if let Some(score) = setting.strip_prefix("self/oom_score_adj=") {
        let hint = "lowering it needs CAP_SYS_RESOURCE: run kontena as root";
        return Error::new(format_args!("--oom-score-adj {score}"), errno, hint);
    }
    let (path, value) = setting.strip_prefix("sys/").unwrap_or(setting).split_once('=').unwrap_or_default();
    let hint = "the kernel has no such sysctl for a container, or refuses the value";
    Error::new(format_args!("--sysctl {}={value}", replace(path, '/', ".")), errno, hint)
}

fn words(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

fn failure(report: Report, object: &str, hint: &str) -> Error {
    let separator = if object.is_empty() { "" } else { " " };
    Error::new(format_args!("{}{separator}{object}", report.step.text()), errno_of(report), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "oci")]
    use kontena_init::plan::Hooks;
    use kontena_init::plan::{Device, List, Mount, OfBundle};

    const NO_MOUNT: Mount<'_> = Mount::new(0, c"", c"/");
    const PROCESS: ProcessSpec<'_> = ProcessSpec {
        terminal: 0,
        rows: 0,
        columns: 0,
        notify: 0,
        notify_as: 0,
        preserved: 0,
        capabilities: 0,
        ambient: 0,
        no_new_privs: 1,
        seccomp: 1,
        filter_flags: 0,
        filter: &[],
        attributes: OfBundle::NONE,
        user: c"www:web",
        groups: List::Items(&[c"audio", c"video"]),
        rlimits: List::Items(&[Rlimit { resource: 7, soft: 1, hard: 1 }, Rlimit { resource: 4, soft: 1, hard: 1 }]),
        umask: 0,
        cwd: c"/srv",
        argv: List::Items(&[c"nginx", c"-g"]),
        env: List::Items(&[]),
    };
    #[cfg(feature = "oci")]
    const HOOKS: Hooks<'_> = Hooks {
        state: c"{}",
        hooks: List::Items(&[Hook {
            path: c"/bin/a",
            arguments: List::Items(&[]),
            environment: List::Items(&[]),
            timeout: 9,
        }]),
    };
    #[cfg(feature = "oci")]
    const BUNDLED: OfBundle<Bundled<'_>> = OfBundle::new(Bundled {
        start: 0,
        last: List::Items(&[]),
        masked: List::Items(&[c"/a"]),
        readonly: List::Items(&[c"/b"]),
        propagation: 0,
        listener: &[],
        create_hooks: HOOKS,
        start_hooks: HOOKS,
    });
    #[cfg(not(feature = "oci"))]
    const BUNDLED: OfBundle<Bundled<'_>> = OfBundle::NONE;
    const PLAN: Plan<'_> = Plan {
        root: NO_MOUNT,
        layer: NO_MOUNT,
        overlay: 0,
        root_readonly: 0,
        propagation: 0,
        bundle: BUNDLED,
        userns: 0,
        loopback: 0,
        init: 1,
        hostname: c"web",
        dev: Mount { id: 1, target: c"/dev", ..NO_MOUNT },
        proc: Mount { id: 2, target: c"/proc", ..NO_MOUNT },
        mounts: List::Items(&[]),
        volumes: List::Items(&[Mount { id: 9, target: c"/data", ..NO_MOUNT }]),
        devices: List::Items(&[Device {
            source: c"/dev/a",
            target: c"/dev/b",
            mode: 0,
            uid: 0,
            gid: 0,
            major: 0,
            minor: 0,
        }]),
        files: List::Items(&[]),
        settings: List::Items(&[
            c"sys/net/core/somaxconn=1",
            c"self/oom_score_adj=-17",
            c"-sys/net/ipv6/conf/eth0/accept_ra=0",
        ]),
        process: PROCESS,
    };

    #[test]
    fn every_step_is_told_with_its_object_and_what_to_do() {
        let stale = "its source has changed since the container was started: start it again";
        let kinds = "only a directory can cover a directory, and only a file a file: check this path in the rootfs";
        let layer = "upper or work in the layer is not a directory: a link is not followed";
        let ended = "the container has just exited, or there is no memory";
        let sysctl = "the kernel has no such sysctl for a container, or refuses the value";
        let ids = "/etc/subuid and in /etc/subgid, and newuidmap of Debian's uidmap";
        let table = [
            (Step::ExecInit, 0, Errno::IO, "", ""),
            (Step::Guard, 0, Errno::IO, "", ""),
            (Step::Guard, 0, Errno::DQUOT, "", "raise kernel.keys.maxkeys"),
            (Step::ReadPlan, 0, Errno::IO, "", ""),
            (Step::AttachRoot, 0, Errno::ACCESS, "/rootfs", "it must be a directory that kontena can read"),
            (Step::AttachRoot, 0, Errno::STALE, "/rootfs", stale),
            (Step::Overlay, 0, Errno::INVAL, "/rootfs", "not on another overlay"),
            (Step::Overlay, 0, Errno::NODEV, "/rootfs", "all mountpoints need"),
            (Step::Overlay, 0, Errno::LOOP, "/rootfs", layer),
            (Step::Overlay, 0, Errno::XDEV, "/rootfs", layer),
            (Step::Mount, 1, Errno::IO, "/dev", ""),
            (Step::Mount, 2, Errno::UCLEAN, "/proc", "the image or the disk is damaged"),
            (Step::Mount, 9, Errno::STALE, "/data", stale),
            (Step::Mount, 9, Errno::NODEV, "/data", "the kernel lacks this file system"),
            (Step::Mount, 2, Errno::PERM, "/proc", "start it with --security-opt unmask=ALL"),
            // A number of no mount.
            (Step::Mount, 77, Errno::IO, "", ""),
            (Step::MountTarget, 9, Errno::IO, "/data", ""),
            (Step::MountTarget, 9, Errno::NOENT, "/data", "or a link in the rootfs leads nowhere"),
            (Step::MountTarget, 9, Errno::LOOP, "/data", "must be mounted on ordinary directory entries"),
            (Step::MountTarget, 9, Errno::ROFS, "/data", "create it there"),
            (Step::MountTarget, 9, Errno::ACCESS, "/data", "use a rootfs of the caller's own"),
            (Step::MountTarget, 9, Errno::NOTDIR, "/data", kinds),
            (Step::MountTarget, 9, Errno::INVAL, "/data", kinds),
            (Step::Devices, 1, Errno::IO, "/dev", ""),
            (Step::Mask, 2, Errno::IO, "/proc", ""),
            (Step::Readonly, 2, Errno::IO, "/proc", ""),
            (Step::MaskPath, 0, Errno::IO, "/a", ""),
            (Step::ReadonlyPath, 0, Errno::IO, "/b", ""),
            (Step::Device, 0, Errno::IO, "/dev/b", ""),
            (Step::Device, 0, Errno::EXIST, "/dev/b", "use another target"),
            (Step::File, 0, Errno::IO, "over /etc/hosts, /etc/hostname or /etc/resolv.conf", ""),
            (Step::Setting, 0, Errno::INVAL, "--sysctl net.core.somaxconn=1", sysctl),
            (Step::Setting, 1, Errno::ACCESS, "--oom-score-adj -17", "run kontena as root"),
            (Step::Setting, 2, Errno::IO, "--sysctl net.ipv6.conf.eth0.accept_ra=0", sysctl),
            (Step::RootReadonly, 0, Errno::IO, "", ""),
            (Step::PivotRoot, 0, Errno::IO, "", ""),
            (Step::Loopback, 0, Errno::IO, "", ""),
            (Step::Hostname, 0, Errno::IO, "", ""),
            (Step::Launcher, 0, Errno::IO, "", ""),
            (Step::Fork, 0, Errno::IO, "", ""),
            (Step::Fork, 0, Errno::AGAIN, "the payload", "raise --pids-limit"),
            (Step::Fork, 0, Errno::NOMEM, "", ended),
            (Step::Handshake, 0, Errno::IO, "", ""),
            (Step::Session, 0, Errno::IO, "", ""),
            (Step::Join, 0, Errno::IO, "", ""),
            (Step::Join, 0, Errno::SRCH, "", ended),
            (Step::Terminal, 0, Errno::IO, "", "remove the volume that covers it"),
            (Step::Notify, 0, Errno::IO, "", ""),
            (Step::UserUnknown, 0, Errno::NOENT, "www:web", "use a name of the rootfs's /etc/passwd, or a number"),
            (Step::UserUnknown, 0, Errno::INVAL, "www:web", "fix it, or use a number for -u"),
            (Step::GroupUnknown, 0, Errno::NOENT, "www:web", "use a name of the rootfs's /etc/group, or a number"),
            (Step::SupplementaryGroupUnknown, 1, Errno::NOENT, "video", "/etc/group, or a number"),
            (Step::ReadUsers, 0, Errno::IO, "", "or put regular files there"),
            (Step::ReadUsers, 0, Errno::AGAIN, "", "has a lease on it: use a number for -u"),
            (Step::Rlimit, 1, Errno::PERM, "core", "more than the caller's own limit"),
            (Step::Rlimit, 7, Errno::PERM, "", "more than the caller's own limit"),
            (Step::Attribute, 1, Errno::PERM, "process.ioPriority", "or kontena lacks CAP_SYS_NICE"),
            (Step::Attribute, 9, Errno::IO, "", "or kontena lacks CAP_SYS_NICE"),
            (Step::SetUser, 0, Errno::IO, "", ""),
            (Step::SetUser, 0, Errno::PROTO, "", "remove its rule about it"),
            (Step::SetUser, 0, Errno::INVAL, "www:web", ids),
            (Step::SetUser, 0, Errno::PERM, "www:web", ids),
            (Step::Capabilities, 0, Errno::IO, "", ""),
            (Step::NoNewPrivs, 0, Errno::IO, "", ""),
            (Step::Seccomp, 0, Errno::IO, "", ""),
            (Step::WorkingDirectory, 0, Errno::NOENT, "/srv", "the user may enter"),
            (Step::Exec, 0, Errno::IO, "nginx", ""),
            (Step::Exec, 0, Errno::PERM, "nginx", ""),
            (Step::Exec, 14, Errno::PERM, "nginx", "the file's capability NET_RAW: use --cap-add NET_RAW"),
            // Numbers of no capability.
            (Step::Exec, 64, Errno::PERM, "nginx", ""),
            (Step::Exec, 0xffff, Errno::PERM, "nginx", ""),
            (Step::Exec, 0, Errno::NOENT, "nginx", "lacks it or its interpreter"),
            (Step::Exec, 0, Errno::ACCESS, "nginx", "the user may not execute it"),
            (Step::Exec, 0, Errno::NOEXEC, "nginx", "not a program for this machine"),
        ];
        for (step, index, errno, object, hint) in table {
            let text = if object.starts_with("--") { String::new() } else { format!("{} ", step.text()) };
            let line = explain(Report { step, index, errno: errno.raw_os_error() }, &PLAN, c"/rootfs").to_string();
            // Between the two is the errno, in the C library's words.
            let end = if hint.is_empty() { ")" } else { hint };
            let is_whole = line.starts_with(&format!("{}: E", (text + object).trim_ascii_end())) && line.ends_with(end);
            assert!(is_whole && hint.is_empty() != line.contains("): "), "{step:?} {errno:?}: {line}");
        }
        // The hint of MakePrivate is the machine's, and hooks have a test of their own.
        let others = [Step::MakePrivate, Step::CreateHook, Step::StartHook];
        for step in Step::ALL.iter().filter(|step| !others.contains(step)) {
            assert!(table.iter().any(|row| row.0 == *step), "{step:?} has no row in this test");
            assert!(!step.text().is_empty());
        }
        let report = Report { step: Step::MakePrivate, index: 0, errno: 1 };
        let line = explain(report, &Plan { userns: 1, ..PLAN }, c"/rootfs").to_string();
        assert!(line.starts_with(&format!("{}: EPERM (", Step::MakePrivate.text())) && line.contains("): "), "{line}");
    }

    #[test]
    #[cfg(feature = "oci")]
    fn hooks_are_told_with_their_kind_their_place_and_their_end() {
        for (step, index, end, words) in [
            (Step::CreateHook, 0, 2, "createContainer[0] /bin/a: ENOENT (No such file or directory)"),
            (Step::StartHook, 0, 0, "startContainer[0] /bin/a: EPERM"),
            (Step::StartHook, 0, HOOK_ENDED + 3, "startContainer[0] /bin/a: exit status 3"),
            (Step::CreateHook, 0, HOOK_KILLED + 9, "createContainer[0] /bin/a: ended by signal 9"),
            (Step::CreateHook, 0, HOOK_TIMED_OUT, "createContainer[0] /bin/a: not done after 9 s"),
            (Step::CreateHook, 0, i32::MAX, "createContainer[0] /bin/a: not done after 9 s"),
            // A number of no hook.
            (Step::CreateHook, 7, 5, "EIO"),
        ] {
            let line = explain(Report { step, index, errno: end }, &PLAN, c"/rootfs").to_string();
            assert!(line.starts_with("run the hook") && line.contains(words), "{line}");
        }
    }

    #[test]
    fn statuses_of_a_command_that_is_not_executed_are_the_shells() {
        for (step, errno, status) in [
            (Step::Exec, Errno::NOENT, 127),
            (Step::Exec, Errno::NOTDIR, 127),
            (Step::Exec, Errno::ACCESS, 126),
            (Step::Exec, Errno::IO, 126),
            (Step::WorkingDirectory, Errno::NOENT, 125),
            (Step::Mount, Errno::NOENT, 125),
        ] {
            let report = Report { step, index: 0, errno: errno.raw_os_error() };
            assert_eq!(explain(report, &PLAN, c"/rootfs").status(), status, "{step:?} {errno:?}");
        }
        // An errno that no kernel has is none to panic at.
        let shell = ProcessSpec { argv: List::Items(&[c"/bin/sh"]), ..PROCESS };
        for (errno, words) in [(2, "no COMMAND given"), (0, "exec /bin/sh: "), (-7, "exec /bin/sh: "), (9999, "errno")]
        {
            let line = explain_process(Report { step: Step::Exec, index: 9, errno }, &shell).to_string();
            assert!(line.contains(words), "{errno}: {line}");
        }
    }
}
