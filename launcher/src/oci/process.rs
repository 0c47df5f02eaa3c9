//! `process` of a config.json.

use super::{Read, attributes, c_text, flag};
use crate::config::Config;
use crate::config::capabilities::{self, Capabilities};
use crate::config::process;
use crate::config::security::{Seccomp, Security};
use crate::json::read::Node;
use crate::print;
use crate::text::c_static;
use kontena_init::plan::{Attributes, OfBundle};

/// Reads `process`.
pub fn read(node: Node<'static>, config: &mut Config) -> Read<()> {
    user(node.get("user"), config)?;
    for argument in node.get("args").items()? {
        config.command.push(c_text(argument)?);
    }
    if config.command.is_empty() {
        return Err(node.get("args").expected("the command and its arguments"));
    }
    for variable in node.get("env").items()? {
        config.env.push(c_text(variable)?);
    }
    config.workdir = c_text(node.get("cwd"))?;
    if !config.workdir.to_bytes().starts_with(b"/") {
        return Err(node.get("cwd").expected("an absolute path"));
    }
    let mut attributes = attributes::of_process(node)?;
    config.capabilities = read_capabilities(node.get("capabilities"), &mut attributes)?;
    config.attributes = OfBundle::new(attributes);
    for limit in node.get("rlimits").items()? {
        let kind = limit.get("type").text()?;
        let (soft, hard): (u64, u64) = (limit.get("soft").number()?, limit.get("hard").number()?);
        let name = kind.strip_prefix("RLIMIT_").unwrap_or_default().to_ascii_lowercase();
        let parsed = process::ulimit(&format!("{name}={soft}:{hard}"));
        let parsed = parsed.map_err(|_| limit.expected("a limit of getrlimit(2), with soft not above hard"))?;
        if config.rlimits.iter().any(|known| known.resource == parsed.resource) {
            return Err(limit.wrong("there is one of this type already: remove it"));
        }
        config.rlimits.push(parsed);
    }
    config.security = Security {
        no_new_privileges: flag(node.get("noNewPrivileges"))?,
        seccomp: Seccomp::Unconfined,
        masks: false,
        privileged: false,
    };
    let score = node.get("oomScoreAdj");
    config.oom_score_adj = score.given().map(Node::number).transpose()?;
    config.life.tty = flag(node.get("terminal"))?;
    if let Some(size) = node.get("consoleSize").given().filter(|_| config.life.tty) {
        config.console_size = [size.get("height").number()?, size.get("width").number()?];
    }
    Ok(())
}

/// Reads numeric ids: the container's /etc/passwd is not used.
fn user(node: Node<'static>, config: &mut Config) -> Read<()> {
    let number = |name| node.get(name).given().map_or(Ok(0), Node::number::<u32>);
    let (uid, gid) = (number("uid")?, number("gid")?);
    let text = |text: String| c_static(text).map_err(|_| node.expected("a user"));
    if [uid, gid].contains(&u32::MAX) {
        return Err(node.expected("numbers below 4294967295"));
    }
    config.user = text(format!("{uid}:{gid}"))?;
    for gid in node.get("additionalGids").items()? {
        config.groups.push(text(gid.number::<u32>()?.to_string())?);
    }
    if let Some(umask) = node.get("umask").given() {
        config.umask = umask.number::<u32>()? & 0o777;
    }
    Ok(())
}

/// Reads all five sets. Unknown capabilities are ignored. Ambient capabilities that are not both permitted and
/// inheritable are dropped, since the kernel does not allow them.
fn read_capabilities(node: Node<'static>, attributes: &mut Attributes<'static>) -> Read<Capabilities> {
    let set = |name| -> Read<u64> {
        let mut set = 0;
        for capability in node.get(name).items()? {
            let name = capability.text()?;
            if let Some(known) = capabilities::one(name) {
                set |= known;
            } else if name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
                // The specification asks for a warning. The words are those of other runtimes.
                print::print(2, &format!("kontena: ignoring unknown or unavailable capabilities: [{name}]\n"));
            } else {
                return Err(capability.expected("a capability"));
            }
        }
        Ok(set)
    };
    let (bounding, permitted, inheritable) = (set("bounding")?, set("permitted")?, set("inheritable")?);
    let (effective, ambient) = (set("effective")? & permitted, set("ambient")? & permitted & inheritable);
    if inheritable & !bounding != 0 {
        let hint = "Operation not permitted: the bounding set lacks one of them";
        return Err(node.get("inheritable").wrong(hint));
    }
    *attributes = Attributes { has_sets: 1, permitted, effective, inheritable, ..*attributes };
    Ok(Capabilities { bounding, ambient })
}
