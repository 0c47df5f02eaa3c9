//! What an image says about its containers: its config, as options of `kontena run`, which are appended to the file.
//!
//! Only options that describe a program are written. What would open a container to its host is the command line's to
//! say, and the launcher refuses it here.

use anyhow::{Context, Result, bail, ensure};
use oci_spec::image::{Config, ImageConfiguration};
use serde_json::Value;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

/// What the config begins with in the file.
pub const MAGIC: &[u8; 8] = b"kontena\x01";
/// Bytes that the file system and the config are multiples of.
pub const BLOCK: u64 = 4096;

/// An image's config.
#[derive(Clone, Debug, Default)]
pub struct ImageConfig {
    /// What the image specification has.
    pub image: ImageConfiguration,
    /// What Docker has besides.
    docker: Value,
}

impl ImageConfig {
    /// Reads the JSON.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let image = serde_json::from_slice(json).context("this is not the config of an image")?;
        let mut docker: Value = serde_json::from_slice(json)?;
        Ok(Self { image, docker: docker.get_mut("config").map(Value::take).unwrap_or_default() })
    }

    /// The part about containers.
    pub fn container(&self) -> Config {
        self.image.config().clone().unwrap_or_default()
    }

    /// The working directory, absolute.
    pub fn workdir(&self) -> Option<String> {
        let dir = self.container().working_dir().clone().filter(|dir| !dir.is_empty());
        dir.map(|dir| if dir.starts_with('/') { dir } else { format!("/{dir}") })
    }

    /// The targets of volumes, sorted.
    pub fn volumes(&self) -> Result<Vec<String>> {
        let volumes = sorted(self.container().volumes().clone().unwrap_or_default());
        let volumes = volumes.into_iter().map(|volume| match volume.trim_end_matches('/') {
            path if path.starts_with('/') => Ok(path.to_owned()),
            _ => bail!("the image's config has the volume {volume:?}, which is not an absolute path below the root"),
        });
        volumes.collect()
    }

    /// The options, each a word. None has a NUL.
    pub fn words(&self) -> Result<Vec<String>> {
        let config = self.container();
        let mut words = Vec::new();
        if let Some(entrypoint) = config.entrypoint().as_ref().filter(|words| !words.is_empty()) {
            words.push(option("entrypoint", serde_json::to_string(entrypoint)?));
        }
        for variable in config.env().iter().flatten() {
            let has_name = variable.find('=').is_some_and(|at| at > 0);
            ensure!(has_name, "the image's config has the variable {variable:?}, which is not NAME=VALUE");
            words.push(option("env", variable.clone()));
        }
        for port in self.ports()? {
            words.push(option("expose", port));
        }
        words.extend(self.health()?);
        for (key, value) in self.labels() {
            ensure!(!key.is_empty() && !key.contains('='), "the image's config has the label {key:?}");
            // kontena's have one line. Those of others are descriptions, of several.
            words.push(option("label", one_line(&format!("{key}={value}"))));
        }
        if let Some(signal) = config.stop_signal().as_ref().filter(|signal| !signal.is_empty()) {
            words.push(option("stop-signal", signal.strip_prefix("SIG").unwrap_or(signal).to_owned()));
        }
        if let Some(user) = config.user().as_ref().filter(|user| !user.is_empty()) {
            words.push(option("user", user.clone()));
        }
        words.extend(self.volumes()?.into_iter().map(|volume| option("volume", volume)));
        words.extend(self.workdir().map(|dir| option("workdir", dir)));
        words.push("--".into());
        words.extend(config.cmd().iter().flatten().cloned());
        let nul = words.iter().find(|word| word.contains('\0'));
        ensure!(nul.is_none(), "the image's config has a byte of zero in {nul:?}");
        Ok(words)
    }

    /// Ports as kontena's --expose takes them. SCTP is not kontena's, and only a note of the image's.
    pub fn ports(&self) -> Result<Vec<String>> {
        let ports = sorted(self.container().exposed_ports().clone().unwrap_or_default());
        let mut exposed = Vec::new();
        for port in ports {
            let (range, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
            let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0) && !text.starts_with('+');
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            ensure!(is_port(first) && is_port(last), "the image's config has the port {port:?}");
            match protocol.to_ascii_lowercase().as_str() {
                "tcp" => exposed.push(range.to_owned()),
                "udp" => exposed.push(format!("{range}/udp")),
                "sctp" => {}
                _ => bail!("the image's config has the port {port:?}"),
            }
        }
        Ok(exposed)
    }

    /// Labels, sorted.
    pub fn labels(&self) -> Vec<(String, String)> {
        sorted(self.container().labels().clone().unwrap_or_default())
    }

    /// Docker's Healthcheck, which the image specification does not have.
    fn health(&self) -> Result<Vec<String>> {
        let health = &self.docker["Healthcheck"];
        let Some(test) = strings(&health["Test"]).context("the image's config has a Healthcheck that is no array")?
        else {
            return Ok(Vec::new());
        };
        let words: Vec<&str> = test.iter().map(String::as_str).collect();
        let shell = strings(&self.docker["Shell"])?.unwrap_or_else(|| ["/bin/sh", "-c"].map(Into::into).into());
        let command = match &words[..] {
            [] => return Ok(Vec::new()),
            ["NONE"] => return Ok(vec!["--no-healthcheck".into()]),
            ["CMD", command @ ..] if !command.is_empty() => command.iter().map(|word| (*word).to_owned()).collect(),
            ["CMD-SHELL", line] => [shell, vec![(*line).to_owned()]].concat(),
            _ => bail!("the image's config has the Healthcheck {words:?}: its first word is NONE, CMD or CMD-SHELL"),
        };
        let mut options = vec![option("health-cmd", serde_json::to_string::<Vec<String>>(&command)?)];
        for (field, name) in
            [("Interval", "health-interval"), ("Timeout", "health-timeout"), ("StartPeriod", "health-start-period")]
        {
            let time = duration(&health[field]).with_context(|| format!("the image's Healthcheck has the {field}"))?;
            options.extend(time.map(|time| option(name, time)));
        }
        if !health["Retries"].is_null() && health["Retries"] != 0 {
            let retries =
                health["Retries"].as_u64().context("the image's Healthcheck has Retries that are no number")?;
            options.push(option("health-retries", retries.to_string()));
        }
        Ok(options)
    }
}

fn option(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

/// The text with a space for each character of control.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A duration in nanoseconds as kontena's options take it; none for 0, which stands for the default.
fn duration(value: &Value) -> Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    let nanoseconds = value.as_u64().with_context(|| format!("{value}, which is not a time in nanoseconds"))?;
    // What poll(2) can wait for is the most.
    let milliseconds = nanoseconds.div_ceil(1_000_000).min(u32::MAX.into());
    Ok(match (milliseconds, milliseconds % 1000) {
        (0, _) => None,
        (_, 0) => Some(format!("{}s", milliseconds / 1000)),
        _ => Some(format!("{milliseconds}ms")),
    })
}

/// An array of strings, if there is one.
fn strings(value: &Value) -> Result<Option<Vec<String>>> {
    if value.is_null() { Ok(None) } else { Ok(Some(serde_json::from_value(value.clone())?)) }
}

fn sorted<T: Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort();
    all
}

/// The words as they are in a file: magic, length, words.
pub fn encode(words: &[String]) -> Result<Vec<u8>> {
    let text: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
    let length = u32::try_from(text.len()).context("the image's config is too long")?;
    Ok([MAGIC.as_slice(), &length.to_le_bytes(), &text].concat())
}

/// Appends the words to a file system, both padded to whole blocks.
pub fn append(file: &mut File, words: &[String]) -> Result<()> {
    let end = file.seek(SeekFrom::End(0))?;
    file.set_len(end.next_multiple_of(BLOCK))?;
    let _ = file.seek(SeekFrom::End(0))?;
    file.write_all(&encode(words)?)?;
    let end = file.stream_position()?;
    Ok(file.set_len(end.next_multiple_of(BLOCK))?)
}

/// The words of what `encode` has made, followed by anything.
pub fn decode(bytes: &[u8]) -> Result<Vec<String>> {
    let parse = || {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (length, rest) = rest.split_first_chunk()?;
        let text = rest.get(..u32::from_le_bytes(*length) as usize)?;
        let words = text.strip_suffix(&[0]).map(|text| text.split(|byte| *byte == 0));
        Some(words.into_iter().flatten().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    };
    parse().context("it has no config of an image: it was not made by kontena-image, or it is damaged")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
