//! `hooks` of a config.json. A startContainer hook is a process of the container: without `env`, it has the variables
//! of `process`, as in runc. All other hooks have only their own variables.

use super::{Read, c_text};
use crate::config::bundle::{HOOKS, START_CONTAINER};
use crate::json::read::Node;
use kontena_init::plan::{Hook, List};
use std::ffi::CStr;

/// Reads the hooks of all kinds, in the order of [`HOOKS`]. `root` is the whole file.
pub fn read(root: Node<'static>) -> Read<[Vec<Hook<'static>>; HOOKS.len()]> {
    let mut all = [const { Vec::new() }; HOOKS.len()];
    for (place, kind) in HOOKS.iter().enumerate() {
        for hook in root.get("hooks").get(kind).items()? {
            let env = hook.get("env");
            let env =
                if place == START_CONTAINER && env.given().is_none() { root.get("process").get("env") } else { env };
            all[place].push(read_hook(hook, env)?);
        }
    }
    Ok(all)
}

fn read_hook(node: Node<'static>, env: Node<'static>) -> Read<Hook<'static>> {
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
    let environment = List::Items(strings(env)?.leak());
    // More than 136 years is no timeout.
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

    /// Reads the hooks of a config.json whose process has a variable.
    fn read_text(hooks: &str) -> Read<[Vec<Hook<'static>>; HOOKS.len()]> {
        let text: &'static str = format!(r#"{{"process": {{"env": ["C=d"]}}, "hooks": {hooks}}}"#).leak();
        read(Node::root(Box::leak(Box::new(read::parse(text.as_bytes())?))))
    }

    #[test]
    fn start_container_hooks_inherit_the_variables_of_process() {
        let text = r#"{"prestart": [{"path": "/a"}],
            "startContainer": [{"path": "/a"}, {"path": "/a", "env": []}, {"path": "/a", "env": ["A=b"]}]}"#;
        let all = read_text(text).unwrap();
        let variables = |hook: &Hook<'static>| hook.environment.iter().collect::<Vec<_>>();
        assert!(variables(&all[0][0]).is_empty());
        assert_eq!(
            all[START_CONTAINER].iter().map(variables).collect::<Vec<_>>(),
            [vec![c"C=d"], vec![], vec![c"A=b"]]
        );
    }

    #[test]
    fn hooks_have_their_own_arguments_variables_and_timeout() {
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
    fn errors_in_hooks_have_their_path() {
        for (hook, wrong) in [
            (r#"{}"#, "hooks.poststart[0].path: missing"),
            (r#"{"path": ""}"#, "hooks.poststart[0].path: expected an absolute path"),
            (r#"{"path": "bin/a"}"#, "hooks.poststart[0].path: expected an absolute path"),
            (r#"{"path": "/a\u0000b"}"#, "hooks.poststart[0].path: a NUL"),
            (r#"{"path": 1}"#, "hooks.poststart[0].path: expected a string"),
            (r#"{"path": "/a", "timeout": 0}"#, "hooks.poststart[0].timeout: expected seconds, more than 0"),
            (r#"{"path": "/a", "timeout": -1}"#, "hooks.poststart[0].timeout: "),
            (r#"{"path": "/a", "timeout": "5"}"#, "hooks.poststart[0].timeout: expected a number"),
            (r#"{"path": "/a", "args": "b"}"#, "hooks.poststart[0].args: expected an array"),
            (r#"{"path": "/a", "env": [1]}"#, "hooks.poststart[0].env[0]: expected a string"),
        ] {
            let line = read_text(&format!(r#"{{"poststart": [{hook}]}}"#)).map(drop).unwrap_err();
            assert!(line.starts_with(wrong), "{hook}: {line}");
        }
    }
}
