//! `hooks` of a config.json.

use super::{Read, c_text};
use crate::config::bundle::HOOKS;
use crate::json::read::Node;
use kontena_init::plan::{Hook, List};
use std::ffi::CStr;

/// Reads all kinds, in the order of [`HOOKS`].
pub fn read(node: Node<'static>) -> Read<[Vec<Hook<'static>>; HOOKS.len()]> {
    let mut all = [const { Vec::new() }; HOOKS.len()];
    for (kind, hooks) in HOOKS.iter().zip(&mut all) {
        for hook in node.get(kind).items()? {
            hooks.push(read_hook(hook)?);
        }
    }
    Ok(all)
}

fn read_hook(node: Node<'static>) -> Read<Hook<'static>> {
    let path = c_text(node.get("path"))?;
    if !path.to_bytes().starts_with(b"/") {
        return Err(node.get("path").expected("an absolute path"));
    }
    let mut arguments = strings(node.get("args"))?;
    if arguments.is_empty() {
        arguments.push(path);
    }
    let timeout = node.get("timeout");
    let seconds = timeout.given().map(Node::number::<i64>).transpose()?;
    if seconds.is_some_and(|seconds| seconds <= 0) {
        return Err(timeout.expected("seconds, more than 0"));
    }
    let environment = List::Items(strings(node.get("env"))?.leak());
    // 136 years are for ever.
    let timeout = seconds.map_or(0, |seconds| seconds.try_into().unwrap_or(0));
    Ok(Hook { path, arguments: List::Items(arguments.leak()), environment, timeout })
}

fn strings(node: Node<'static>) -> Read<Vec<&'static CStr>> {
    let mut strings = Vec::new();
    for text in node.items()? {
        strings.push(c_text(text)?);
    }
    Ok(strings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::read;

    fn read_text(text: &'static str) -> Read<[Vec<Hook<'static>>; HOOKS.len()]> {
        read(Node::root(Box::leak(Box::new(read::parse(text.as_bytes())?))))
    }

    #[test]
    fn hooks_have_what_they_are_given() {
        // As podman writes them.
        let text = r#"{"poststop": [{"path": "/a"}], "other": 1,
            "prestart": [{"path": "/bin/true", "args": ["true", "x"], "env": ["A=b"], "timeout": 5}, {"path": "/b"}]}"#;
        let all = read_text(text).unwrap();
        let counts = all.each_ref().map(Vec::len);
        assert_eq!(counts, [2, 0, 0, 0, 0, 1]);
        let first = &all[0][0];
        assert_eq!((first.path, first.timeout), (c"/bin/true", 5));
        assert!(first.arguments.iter().eq([c"true", c"x"]) && first.environment.iter().eq([c"A=b"]));
        let last = &all[5][0];
        assert!(last.arguments.iter().eq([c"/a"]) && last.environment.is_empty() && last.timeout == 0);
        assert!(read_text("{}").unwrap().iter().all(Vec::is_empty));
    }

    #[test]
    fn hooks_that_make_no_sense_are_told_with_their_path() {
        for (hook, wrong) in [
            (r#"{}"#, "poststart[0].path: missing"),
            (r#"{"path": ""}"#, "poststart[0].path: expected an absolute path"),
            (r#"{"path": "bin/a"}"#, "poststart[0].path: expected an absolute path"),
            (r#"{"path": "/a\u0000b"}"#, "poststart[0].path: a NUL"),
            (r#"{"path": 1}"#, "poststart[0].path: expected a string"),
            (r#"{"path": "/a", "timeout": 0}"#, "poststart[0].timeout: expected seconds, more than 0"),
            (r#"{"path": "/a", "timeout": -1}"#, "poststart[0].timeout: "),
            (r#"{"path": "/a", "timeout": "5"}"#, "poststart[0].timeout: expected a number"),
            (r#"{"path": "/a", "args": "b"}"#, "poststart[0].args: expected an array"),
            (r#"{"path": "/a", "env": [1]}"#, "poststart[0].env[0]: expected a string"),
        ] {
            let text: &'static str = format!(r#"{{"poststart": [{hook}]}}"#).leak();
            let line = read_text(text).map(drop).unwrap_err();
            assert!(line.starts_with(wrong), "{hook}: {line}");
        }
    }
}
