//! `kontena features`: which parts of the runtime-spec kontena supports; features.md and features-linux.md there.
//!
//! Data: a member is here as soon as the rest of `oci/` supports it. Must not look at the kernel: the output is about
//! kontena alone.

use crate::config::capabilities;
use crate::gather::Gather;

/// The JSON before the capabilities.
const BEFORE: &str = concat!(
    r#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.3.0","#,
    r#""hooks":["prestart","createRuntime","createContainer","startContainer","poststart","poststop"],"#,
    r#""mountOptions":["acl","async","atime","bind","defaults","dev","diratime","dirsync","exec","idmap","#,
    r#""iversion","lazytime","loud","mand","noacl","noatime","nodev","nodiratime","noexec","noiversion","#,
    r#""nolazytime","nomand","norelatime","nostrictatime","nosuid","nosymfollow","private","ratime","rbind","rdev","#,
    r#""rdiratime","relatime","remount","rexec","ridmap","rnoatime","rnodev","rnodiratime","rnoexec","rnorelatime","#,
    r#""rnostrictatime","rnosuid","rnosymfollow","ro","rprivate","rrelatime","rro","rrw","rshared","rslave","#,
    r#""rstrictatime","rsuid","rsymfollow","runbindable","rw","shared","silent","slave","strictatime","suid","#,
    r#""symfollow","sync","tmpcopyup","unbindable"],"#,
    r#""linux":{"namespaces":["cgroup","ipc","mount","network","pid","time","user","uts"],"capabilities":["#,
);
const BEHIND: &str = concat!(
    r#"],"cgroup":{"v1":false,"v2":true,"systemd":false,"systemdUser":false,"rdma":false},"#,
    r#""seccomp":{"enabled":true,"actions":["SCMP_ACT_ALLOW","SCMP_ACT_ERRNO","SCMP_ACT_KILL","#,
    r#""SCMP_ACT_KILL_PROCESS","SCMP_ACT_KILL_THREAD","SCMP_ACT_LOG","SCMP_ACT_NOTIFY","#,
    r#""SCMP_ACT_TRACE","SCMP_ACT_TRAP"],"#,
    r#""operators":["SCMP_CMP_EQ","SCMP_CMP_GE","SCMP_CMP_GT","SCMP_CMP_LE","SCMP_CMP_LT","SCMP_CMP_MASKED_EQ","#,
    r#""SCMP_CMP_NE"],"archs":["#,
);
const END: &str = concat!(
    r#"],"knownFlags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_TSYNC","#,
    r#""SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"supportedFlags":["SECCOMP_FILTER_FLAG_LOG","#,
    r#""SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]},"#,
    r#""apparmor":{"enabled":false},"selinux":{"enabled":false},"intelRdt":{"enabled":false},"#,
    r#""memoryPolicy":{"enabled":false},"netDevices":{"enabled":true},"mountExtensions":{"idmap":{"enabled":true}}}}"#,
    "\n",
);

#[cfg(target_arch = "x86_64")]
const ARCHS: &str = r#""SCMP_ARCH_X32","SCMP_ARCH_X86","SCMP_ARCH_X86_64""#;
#[cfg(target_arch = "aarch64")]
const ARCHS: &str = r#""SCMP_ARCH_AARCH64""#;
#[cfg(target_arch = "riscv64")]
const ARCHS: &str = r#""SCMP_ARCH_RISCV64""#;

/// Returns the JSON, with a newline.
pub fn features() -> String {
    let known = capabilities::names(u64::MAX).map(|name| format!("\"CAP_{name}\"")).list();
    [BEFORE, &known.join(","), BEHIND, ARCHS, END].concat()
}
