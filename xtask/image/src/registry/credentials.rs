//! Credentials for registries, from the files where `docker login` and `podman login` keep them, and from the helpers
//! that these name: `docker-credential-NAME get`.
//!
//! It must not send them anywhere, nor print a secret.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What docker's files call Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What helpers say if they have none, by convention of docker-credential-helpers.
const NOT_FOUND: &str = "credentials not found";

/// What a registry or its token server is told.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Credentials {
    /// A name, and a password.
    Password(String, String),
    /// A refresh token of OAuth 2, for the token server.
    IdentityToken(String),
    /// A token for the registry itself.
    RegistryToken(String),
}

/// Credentials for `registry/repository`: of the first file that has some.
///
/// # Errors
/// If a file, or what a helper says, makes no sense.
pub fn find(registry: &str, repository: &str) -> Result<Option<Credentials>> {
    for file in files() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let of_file = |what: &str| format!("{}: {what}", file.display());
        let config: Value = serde_json::from_str(&text).with_context(|| of_file("not JSON"))?;
        if let Some(found) = of_config(&config, registry, repository).with_context(|| of_file(registry))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// `$REGISTRY_AUTH_FILE` if it is set; docker's, and podman's.
fn files() -> Vec<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
    let podman = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers"));
    docker.map(|dir| dir.join("config.json")).into_iter().chain(podman.map(|dir| dir.join("auth.json"))).collect()
}

fn of_config(config: &Value, registry: &str, repository: &str) -> Result<Option<Credentials>> {
    let keys = keys(registry, repository);
    if let Some(helper) = keys.iter().find_map(|key| config["credHelpers"][key].as_str()) {
        return ask(helper, &keys[keys.len() - 1]);
    }
    for entry in keys.iter().filter_map(|key| config["auths"].get(key)) {
        if let Some(found) = of_entry(entry)? {
            return Ok(Some(found));
        }
    }
    config["credsStore"].as_str().map_or(Ok(None), |helper| ask(helper, &keys[keys.len() - 1]))
}

/// What files may call a repository's registry: the most of it first, as containers-auth.json(5) says, and last the
/// name that helpers know.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let whole = format!("{registry}/{repository}");
    let mut name = whole.as_str();
    while let Some((shorter, _)) = name.rsplit_once('/') {
        names.push(name.into());
        name = shorter;
    }
    names.extend([format!("https://{registry}"), format!("https://{registry}/v1/"), format!("https://{registry}/v2/")]);
    if registry == "docker.io" {
        names.extend(["docker.io", "index.docker.io", "registry-1.docker.io", DOCKER_HUB].map(str::to_owned));
    } else {
        names.push(registry.into());
    }
    names
}

/// An entry of `auths`. It is empty if a helper has the credentials.
fn of_entry(entry: &Value) -> Result<Option<Credentials>> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::IdentityToken(token.into())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::RegistryToken(token.into())));
    }
    if let (Some(name), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Credentials::Password(name.into(), password.into())));
    }
    let Some(auth) = text("auth") else { return Ok(None) };
    let auth = STANDARD.decode(auth).ok().and_then(|auth| String::from_utf8(auth).ok());
    let auth = auth.context("its auth is not base64 of NAME:PASSWORD; log in again")?;
    let (name, password) = auth.split_once(':').context("its auth is not base64 of NAME:PASSWORD; log in again")?;
    // docker pads some with NULs.
    Ok(Some(Credentials::Password(name.into(), password.trim_end_matches('\0').into())))
}

/// `docker-credential-NAME get`: a registry on its stdin, JSON on its stdout.
fn ask(helper: &str, registry: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{helper}");
    ensure!(Path::new(&program).file_name() == Some(program.as_ref()), "{helper:?} is not the name of a helper");
    let failed = || format!("cannot run {program}, the credential helper");
    let mut command = Command::new(&program);
    let mut child = command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(failed)?;
    // One that does not read it answers all the same.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(registry.as_bytes()));
    let output = child.wait_with_output().with_context(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains(NOT_FOUND), "{program} fails: {}", super::one_line(&said));
        return Ok(None);
    }
    let nonsense = || format!("{program} answers no JSON with Username and Secret");
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(nonsense)?;
    let (Some(name), Some(secret)) = (answer["Username"].as_str(), answer["Secret"].as_str()) else {
        return Err(anyhow::Error::msg(nonsense()));
    };
    Ok(Some(match name {
        "<token>" => Credentials::IdentityToken(secret.into()),
        name => Credentials::Password(name.into(), secret.into()),
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn password(name: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password(name.into(), password.into()))
    }

    #[test]
    fn names_of_registries() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnBhc3M6d29yZA=="},
            "host:5000": {"auth": "aG9zdDpwYXNz"},
            "host:5000/team": {"username": "team", "password": "pass"},
            "tokens": {"identitytoken": "token"},
            "empty": {},
            "wrong": {"auth": "?"},
        }});
        let find = |registry, repository| of_config(&config, registry, repository);
        assert_eq!(find("docker.io", "library/nginx").unwrap(), password("hub", "pass:word"));
        assert_eq!(find("host:5000", "app").unwrap(), password("host", "pass"));
        assert_eq!(find("host:5000", "team/app").unwrap(), password("team", "pass"));
        assert_eq!(find("host", "app").unwrap(), None);
        assert_eq!(find("empty", "app").unwrap(), None);
        assert_eq!(find("tokens", "app").unwrap(), Some(Credentials::IdentityToken("token".into())));
        find("wrong", "app").unwrap_err();
    }

    #[test]
    fn helpers_have_plain_names() {
        let config = json!({"credsStore": "/../../tmp/evil"});
        assert!(of_config(&config, "host", "app").is_err());
        assert!(of_config(&json!({"credHelpers": {"host": "no-such-one"}}), "host", "app").is_err());
    }
}
