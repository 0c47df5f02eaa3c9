//! `--security-opt seccomp=FILE`: a profile of system calls, in docker's or in the OCI's format.
//!
//! docker's is the OCI's `linux.seccomp`, with rules for some capabilities, architectures and kernels only, and a table
//! of architectures. Rules mean what they mean to libseccomp, and entries what they mean to runc. The file is read and
//! compiled once, when the command line is. Must not know how a filter is installed.

mod calls;
mod compile;

use crate::config::capabilities;
use crate::config::security::OwnFilter;
use crate::error::{Context, Error, Result};
use crate::file;
use crate::json::read::{self, Node};
use crate::text::place_of;
use compile::{Condition, NO_RULE, Rule, Rules, Test, compile};
use linux_raw_sys::errno::EPERM;
use linux_raw_sys::ptrace::*;

/// The largest profile in bytes: docker's has 15 kB.
const LARGEST: usize = 1 << 20;

/// The most names, each as often as it has rules: docker's has 500.
const MOST: usize = 20_000;

/// The call by which the init hands the filter's listener to the launcher.
const HANDS_OVER: &str = "sendmsg";

/// The result of reading a profile: an error has the path of the field.
type Read<T> = std::result::Result<T, String>;

/// What decides which entries of docker's format apply.
pub struct Conditions<'a> {
    /// The capabilities of the container; bit n is capability n.
    pub capabilities: u64,
    /// The release of the kernel, for example 6.1.0-9-amd64.
    pub kernel: &'a str,
}

/// Reads a profile for a container with these capabilities: the file, or the text that was `kept` of it. Returns the
/// text, too.
pub fn filter(path: &str, kept: Option<Vec<u8>>, capabilities: u64) -> Result<(OwnFilter, Vec<u8>)> {
    let text = match kept {
        Some(text) => text,
        None => {
            let hint = "use default, unconfined, or the path of a profile in JSON";
            file::read_at_most(path, LARGEST).context(format_args!("read seccomp profile {path}"), hint)?
        }
    };
    let system = rustix::system::uname();
    let kernel = system.release().to_str().unwrap_or_default();
    let value = read::parse(&text);
    let filter = value.and_then(|value| profile(Node::root(&value), &Conditions { capabilities, kernel }));
    match filter {
        Ok(filter) if notifies(&filter) => {
            let hint =
                "SCMP_ACT_NOTIFY is for the config.json of a bundle, which has a listenerPath: use another action";
            Err(Error::usage(format_args!("seccomp profile {path}"), hint))
        }
        Ok(filter) => Ok((filter, text)),
        Err(hint) => Err(Error::usage(format_args!("seccomp profile {path}"), &hint)),
    }
}

/// Whether some calls are notified, so that the filter has a listener.
pub fn notifies(filter: &OwnFilter) -> bool {
    filter.flags & SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
}

/// The filter of a profile.
pub fn profile(profile: Node<'_>, conditions: &Conditions<'_>) -> Read<OwnFilter> {
    let default = action(profile.get("defaultAction"), profile.get("defaultErrnoRet"))?;
    if default == SECCOMP_RET_USER_NOTIF {
        return Err(profile.get("defaultAction").wrong("every call would wait for the listener: notify some by name"));
    }
    let mut rules = Rules { default, i386: false, x32: false, rules: Vec::new(), names: Vec::new() };
    architectures(&mut rules, profile)?;
    for entry in profile.get("syscalls").items()? {
        if applies(entry, conditions)? {
            add(&mut rules, entry)?;
        }
    }
    let mut flags = flags(profile.get("flags"))?;
    if rules.rules.iter().any(|rule| rule.action == SECCOMP_RET_USER_NOTIF) {
        flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    } else {
        // The kernel takes it with a listener only.
        flags &= !SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    }
    let code = compile(&rules).ok_or("it needs more than 4096 instructions, the kernel's limit: shorten it")?;
    Ok(OwnFilter { flags, code })
}

/// What a text, which begins with `prefix`, stands for: the value at its place in `names`.
fn meaning<T: Copy>(node: Node<'_>, prefix: &str, names: &'static str, values: &[T]) -> Read<T> {
    let place = node.text()?.strip_prefix(prefix).and_then(|name| place_of(name, names));
    let value = place.and_then(|place| values.get(place));
    value.copied().ok_or_else(|| node.wrong(&format!("unknown: use {prefix} and one of {names}")))
}

/// An action, and the errno that goes with it.
fn action(action: Node<'_>, errno: Node<'_>) -> Read<u32> {
    const NAMES: &str = "ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG NOTIFY TRACE TRAP";
    const VALUES: [u32; 9] = [
        SECCOMP_RET_ALLOW,
        SECCOMP_RET_ERRNO,
        SECCOMP_RET_KILL_THREAD,
        SECCOMP_RET_KILL_PROCESS,
        SECCOMP_RET_KILL_THREAD,
        SECCOMP_RET_LOG,
        SECCOMP_RET_USER_NOTIF,
        SECCOMP_RET_TRACE,
        SECCOMP_RET_TRAP,
    ];
    let action = meaning(action, "SCMP_ACT_", NAMES, &VALUES)?;
    match (action, errno.given()) {
        (SECCOMP_RET_ERRNO | SECCOMP_RET_TRACE, None) => Ok(action | EPERM),
        (SECCOMP_RET_ERRNO | SECCOMP_RET_TRACE, Some(errno)) => {
            errno.number::<u16>().map(|errno| action | u32::from(errno))
        }
        (_, Some(errno)) => Err(errno.wrong("the action has no errno: remove it")),
        (_, None) => Ok(action),
    }
}

/// The flags of seccomp(2). There are no other threads that one could be about.
fn flags(flags: Node<'_>) -> Read<u32> {
    const NAMES: &str = "LOG SPEC_ALLOW TSYNC WAIT_KILLABLE_RECV";
    const VALUES: [u32; 4] =
        [SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV];
    let mut all = 0;
    for flag in flags.items()? {
        all |= meaning(flag, "SECCOMP_FILTER_FLAG_", NAMES, &VALUES)?;
    }
    Ok(all)
}

#[cfg(target_arch = "x86_64")]
const ARCH: (&str, &str) = ("SCMP_ARCH_X86_64", "amd64");
#[cfg(target_arch = "aarch64")]
const ARCH: (&str, &str) = ("SCMP_ARCH_AARCH64", "arm64");
#[cfg(target_arch = "riscv64")]
const ARCH: (&str, &str) = ("SCMP_ARCH_RISCV64", "riscv64");

/// The architectures beside this one, which every profile is for.
fn architectures(rules: &mut Rules<'_>, profile: Node<'_>) -> Read<()> {
    add_architectures(rules, profile.get("architectures"))?;
    for entry in profile.get("archMap").items()? {
        if entry.get("architecture").text()? == ARCH.0 {
            add_architectures(rules, entry.get("subArchitectures"))?;
        }
    }
    Ok(())
}

#[inline(never)]
fn add_architectures(rules: &mut Rules<'_>, names: Node<'_>) -> Read<()> {
    for name in names.items()? {
        let text = name.text()?;
        rules.i386 |= text == "SCMP_ARCH_X86";
        rules.x32 |= text == "SCMP_ARCH_X32";
        if !text.starts_with("SCMP_ARCH_") {
            return Err(name.wrong("unknown: use one of SCMP_ARCH_*"));
        }
    }
    Ok(())
}

/// How many of a list's texts are true of the container, and how many there are.
fn count(list: Node<'_>, is_true: &dyn Fn(&str) -> bool) -> Read<(usize, usize)> {
    let (mut good, mut all) = (0, 0);
    for item in list.items()? {
        good += usize::from(is_true(item.text()?));
        all += 1;
    }
    Ok((good, all))
}

/// Whether an entry of docker's format is for this container.
fn applies(entry: Node<'_>, conditions: &Conditions<'_>) -> Read<bool> {
    let arches = |list: Node<'_>| count(list.get("arches"), &|arch| arch == ARCH.1);
    let held = |name: &str| capabilities::set(name).is_ok_and(|set| set & conditions.capabilities == set);
    let capabilities = |list: Node<'_>| count(list.get("caps"), &held);
    let kernel = |list: Node<'_>| {
        let Some(least) = list.get("minKernel").given() else { return Ok(None) };
        let least = version(least.text()?).ok_or_else(|| least.expected("a version, for example 5.4"))?;
        Ok::<_, String>(Some(version(conditions.kernel) >= Some(least)))
    };
    let (includes, excludes) = (entry.get("includes"), entry.get("excludes"));
    let ((found, all), (good, needed)) = (arches(includes)?, capabilities(includes)?);
    let is_included = (found > 0 || all == 0) && good == needed && kernel(includes)? != Some(false);
    let is_excluded = arches(excludes)?.0 > 0 || capabilities(excludes)?.0 > 0 || kernel(excludes)? == Some(true);
    Ok(is_included && !is_excluded)
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Adds an entry of `syscalls`.
fn add<'a>(rules: &mut Rules<'a>, entry: Node<'a>) -> Read<()> {
    let action = action(entry.get("action"), entry.get("errnoRet"))?;
    let (mut conditions, mut arguments, mut is_repeated) = (Vec::new(), 0, false);
    for node in entry.get("args").items()? {
        let condition = condition(node)?;
        is_repeated |= arguments & 1 << condition.argument != 0;
        arguments |= 1 << condition.argument;
        conditions.push(condition);
    }
    let first = rules.rules.len();
    if action == rules.default {
        // It changes nothing.
    } else if is_repeated {
        // As with runc: what is said of an argument several times are rules of their own.
        for condition in conditions.leak().chunks(1) {
            rules.rules.push(Rule { action, conditions: condition });
        }
    } else {
        rules.rules.push(Rule { action, conditions: conditions.leak() });
    }
    let places = if first == rules.rules.len() { NO_RULE..NO_RULE + 1 } else { first..rules.rules.len() };
    let (name, names) = (entry.get("name"), entry.get("names"));
    if name.is_missing() && names.is_missing() {
        return Err(names.expected("an array of names"));
    }
    for name in name.given().into_iter().chain(names.items()?) {
        let text = name.text()?;
        if action == SECCOMP_RET_USER_NOTIF && text == HANDS_OVER {
            return Err(name.wrong("the listener itself is handed over by this call: do not notify it"));
        }
        if rules.names.len() > MOST {
            return Err(entry.wrong("more names than a filter has room for: shorten it"));
        }
        for place in places.clone() {
            let at = rules.names.partition_point(|(known, _)| *known <= text);
            rules.names.insert(at, (text, place));
        }
    }
    Ok(())
}

/// An entry of `args`.
fn condition(node: Node<'_>) -> Read<Condition> {
    let (index, op) = (node.get("index"), node.get("op"));
    let argument = index.number()?;
    if argument > 5 {
        return Err(index.wrong("use 0 to 5"));
    }
    const OPS: [(Test, bool); 7] = [
        (Test::Equal, true),
        (Test::AtLeast, true),
        (Test::Above, true),
        (Test::Equal, false),
        (Test::AtLeast, false),
        (Test::Above, false),
        (Test::Equal, false),
    ];
    let (test, negated) = meaning(op, "SCMP_CMP_", "NE LT LE EQ GE GT MASKED_EQ", &OPS)?;
    let (mut mask, mut value) = (u64::MAX, node.get("value").number()?);
    if op.text()?.ends_with("MASKED_EQ") {
        mask = value;
        value = mask & node.get("valueTwo").given().map_or(Ok(0), Node::number)?;
    }
    Ok(Condition { argument, test, negated, mask, value })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
