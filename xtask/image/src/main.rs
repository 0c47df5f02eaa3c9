//! `kontena-image`: makes one read-only file of an OCI image, which `kontena run` takes as it is.
//!
//! The way of an image: `source.rs` finds its layers, in `layout.rs`, `registry.rs` or `root.rs`; `tree.rs` applies
//! them, one over the other, in memory; `write/` makes a file system of the tree; `config.rs` appends what the image
//! says about its containers, and `verity.rs` the hash tree of it all.

mod cache;
mod config;
mod image;
mod layer;
mod layout;
mod limits;
mod progress;
mod registry;
mod root;
mod show;
mod source;
mod tarball;
mod tree;
mod verity;
mod write;

use anyhow::{Context, Result, anyhow, bail, ensure};
use argh::{EarlyExit, FromArgs};
use config::ImageConfig;
use image::Platform;
use limits::Limits;
use registry::Access;
use source::Source;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tree::Tree;
use write::{Output, Scratch, Type};

/// Make one read-only file of an OCI image, which `kontena run` takes as it is.
///
/// SOURCE is an image of a registry (nginx, quay.io/a/b:c), oci:DIR[:TAG], oci-archive:FILE[:TAG],
/// docker-archive:FILE[:NAME], a directory with a root (./root), or - for a tar of one on stdin.
///
/// `kontena-image show FILE [--format table|json]` prints what an image asks for.
#[derive(FromArgs)]
struct Build {
    /// where the image comes from
    #[argh(positional)]
    source: String,
    /// the file or directory to write
    #[argh(option, short = 'o')]
    output: PathBuf,
    /// what to write: erofs (default), squashfs, dir or bundle
    #[argh(option, long = "type", default = "Type::Erofs")]
    kind: Type,
    /// OS/ARCH[/VARIANT] of the image, for example linux/arm64 (default: this machine's)
    #[argh(option)]
    platform: Option<String>,
    /// the config (JSON) of an image, for a source that has none
    #[argh(option)]
    config: Option<PathBuf>,
    /// the file system's compressor, or none (default: lz4hc for erofs, gzip for squashfs)
    #[argh(option)]
    compression: Option<String>,
    /// replace a directory that exists
    #[argh(switch)]
    force: bool,
    /// most bytes of the image, unpacked; K, M and G are 1024 and more (default: 16G)
    #[argh(option)]
    max_size: Option<String>,
    /// let the image have: devices (others than those of every container), or control-characters in names
    #[argh(option)]
    permit: Vec<String>,
    /// directory of downloads (default: kontena in $XDG_CACHE_HOME or ~/.cache)
    #[argh(option)]
    cache: Option<PathBuf>,
    /// reach the registry by HTTP without TLS; one on this machine is reached by what it speaks
    #[argh(switch)]
    plain_http: bool,
    /// a PEM file of one more authority for the registry's certificate, beside the system's
    #[argh(option)]
    tls_ca: Option<PathBuf>,
    /// give up when the registry sends nothing for so many seconds (default: 30)
    #[argh(option, default = "30")]
    timeout: u64,
}

/// Print what an image asks for.
#[derive(FromArgs)]
struct Show {
    /// a file, directory or bundle that kontena-image has made
    #[argh(positional)]
    file: PathBuf,
    /// table or json (default: table)
    #[argh(option, default = "String::from(\"table\")")]
    format: String,
}

fn main() -> ExitCode {
    let words = match words(std::env::args_os().skip(1)) {
        Ok(words) => words,
        Err(error) => {
            eprintln!("kontena-image: {error}");
            return ExitCode::from(2);
        }
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.split_first() {
        Some((&"show", rest)) => Show::from_args(&["kontena-image show"], rest).map(|show| show_file(&show)),
        Some(_) => Build::from_args(&["kontena-image"], &words).map(|options| build(&options)),
        None => Build::from_args(&["kontena-image"], &["--help"]).map(|options| build(&options)),
    };
    match done {
        Ok(Ok(said)) => {
            print!("{said}");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            write::wait_for_the_end();
            eprintln!("kontena-image: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
        Err(EarlyExit { output, status: Ok(()) }) => {
            println!("{}", output.trim_end());
            ExitCode::SUCCESS
        }
        Err(EarlyExit { output, .. }) => {
            eprintln!("{}", output.trim_end());
            ExitCode::from(2)
        }
    }
}

/// The words of the command line, as argh takes them: it knows no --option=VALUE, and takes - for an option.
fn words(arguments: impl Iterator<Item = OsString>) -> Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    for argument in arguments {
        let word =
            argument.into_string().map_err(|word| anyhow!("{} is not UTF-8: use another name", word.display()))?;
        match word.split_once('=') {
            _ if word == "-" => {
                // What is written is not a stream.
                let is_value = words.last().is_some_and(|last| matches!(&**last, "-o" | "--output"));
                ensure!(!is_value, "-o -: it cannot be written to a pipe: use the name of a file");
                words.push(source::STDIN.to_owned());
            }
            Some((name, value)) if name.starts_with("--") => words.extend([name.to_owned(), value.to_owned()]),
            _ => words.push(word),
        }
    }
    Ok(words)
}

/// Prints a config.
fn show_file(options: &Show) -> Result<String> {
    show::print(&show::words(&options.file)?, &options.format)
}

/// Makes the output; returns what is printed: its root hash.
fn build(options: &Build) -> Result<String> {
    write::raise_limits();
    let source = Source::parse(&options.source)?;
    let platform = options.platform.as_deref().map_or_else(|| Ok(Platform::host()), Platform::parse)?;
    let epoch = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".into());
    let epoch = epoch.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {epoch:?}, not a number of seconds"))?;
    let compression = options.compression.as_deref().map(compression).transpose()?;
    let output = Output { path: &options.output, kind: options.kind, compression, force: options.force, epoch };
    output.check()?;
    let config = options.config.as_deref().map(read_config).transpose()?;

    let limits = limits(options)?;
    let scratch = Scratch::beside(&options.output)?;
    let mut tree = Tree::new(tempfile::tempfile_in(scratch.path())?, limits);
    let cache = options.cache.clone().map_or_else(default_cache, Ok)?;
    let (plain_http, authority) = (options.plain_http, options.tls_ca.clone());
    let access = Access { plain_http, authority, timeout: Duration::from_secs(options.timeout) };
    let loading = source::Options { platform: &platform, cache, access, directory: scratch.path(), limits };
    let own = source.load(&mut tree, &loading).with_context(|| options.source.clone())?;
    let config = match (own, config) {
        (Some(_), Some(_)) => bail!("--config: the image has a config of its own"),
        (Some(own), None) => Some(ImageConfig::parse(&own)?),
        (None, given) => given,
    };
    if let (Some(config), true) = (&config, options.platform.is_some()) {
        image::check_platform(&config.image, &platform).with_context(|| options.source.clone())?;
    }
    for (name, count) in &tree.left_out {
        eprintln!("kontena-image: left out the attribute {name} of {count} files: it has no meaning in a container");
    }
    if let Some(config) = &config {
        for directory in config.volumes()?.into_iter().chain(config.workdir()) {
            tree.make_directory(directory.as_bytes()).with_context(|| format!("cannot make {directory}"))?;
        }
    }
    let root_hash = output.write(&mut tree, config.as_ref(), &scratch)?;
    Ok(root_hash.map(|hash| hash + "\n").unwrap_or_default())
}

/// A compressor's name, with its level perhaps; it becomes a word of another program's command line.
fn compression(text: &str) -> Result<&str> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b',') && !text.is_empty();
    if is_name { Ok(text) } else { bail!("--compression wants a name, for example lz4hc or zstd, not {text:?}") }
}

fn read_config(path: &Path) -> Result<ImageConfig> {
    let read = || ImageConfig::parse(&image::Blob::open(path)?.read(limits::DOCUMENT)?);
    read().with_context(|| format!("--config {}", path.display()))
}

fn limits(options: &Build) -> Result<Limits> {
    let mut limits = Limits::default();
    if let Some(size) = &options.max_size {
        limits.bytes =
            bytes(size).with_context(|| format!("--max-size wants a size, for example 500M, not {size:?}"))?;
    }
    for permitted in &options.permit {
        match permitted.as_str() {
            "devices" => limits.devices = true,
            "control-characters" => limits.control_characters = true,
            _ => bail!("--permit wants devices or control-characters, not {permitted:?}"),
        }
    }
    Ok(limits)
}

/// A size as the command line has it.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn default_cache() -> Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("kontena")).context("neither XDG_CACHE_HOME nor HOME is set: use --cache")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn words_are_names_of_files() {
        let words = |all: &[&[u8]]| {
            let all = all.iter().map(|word| super::OsString::from_vec(word.to_vec()));
            super::words(all).map_err(|error| error.to_string())
        };
        assert_eq!(words(&[b"-", b"-o", b"x"]).unwrap(), ["/dev/stdin", "-o", "x"]);
        assert_eq!(words(&[b"--type=dir", b"a=b"]).unwrap(), ["--type", "dir", "a=b"]);
        assert!(words(&[b"x", b"-o", b"-"]).unwrap_err().starts_with("-o -: "));
        // Another name would be written to.
        assert!(words(&[b"x", b"-o", b"n\xff"]).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(super::bytes("500M"), Some(500 << 20));
        assert_eq!(super::bytes("1"), Some(1));
        for bad in ["", "M", "-1", "1.5G", "1x", "99999999999T"] {
            assert_eq!(super::bytes(bad), None, "{bad}");
        }
        assert!(super::compression("lz4hc,12").is_ok() && super::compression("-x").is_err());
    }
}
