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
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tree::Tree;
use write::{Output, Scratch, Type};

/// Make one read-only file of an OCI image, which `kontena run` takes as it is.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help", "help"),
    usage = "[OPTIONS] SOURCE -o FILE\n       {command_name} show [--format FORMAT] FILE",
    note = "SOURCE is one of
  nginx, quay.io/a/b:c, localhost:5000/a@sha256:…   an image of a registry
  oci:DIR[:TAG], oci-archive:FILE[:TAG]             an OCI layout, or a tar of one
  docker-archive:FILE[:NAME]                        what docker save and podman save write
  ./DIR                                             a directory with a root
  -                                                 a tar of a root, on standard input",
    note = "`{command_name} show FILE` prints what an image asks for: its command, user, ports and volumes.
The root hash of the file, for kontena run --verify, is printed, and written to FILE.verity.
Credentials are those of docker login and podman login.",
    example = "{command_name} nginx -o nginx.erofs && kontena run -p 8080:80 nginx.erofs
{command_name} --platform linux/arm64 oci-archive:app.tar -o app.erofs
docker export web | {command_name} - -o web.erofs",
    error_code(1, "The image cannot be made."),
    error_code(2, "The command line is wrong."),
    error_code(130, "Ctrl-C; nothing is left behind.")
)]
struct Build {
    /// where the image comes from: see the notes
    #[argh(positional, arg_name = "SOURCE")]
    sources: Vec<String>,
    /// the file or directory to write
    #[argh(option, short = 'o')]
    output: Option<PathBuf>,
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
    /// print the version
    #[argh(switch)]
    version: bool,
}

/// Print what an image asks for.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help", "help"), usage = "[--format FORMAT] FILE")]
struct Show {
    /// a file, directory or bundle that kontena-image has made
    #[argh(positional, arg_name = "FILE")]
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
            if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
        Err(EarlyExit { output, status: Ok(()) }) => {
            println!("{}", output.trim_end());
            ExitCode::SUCCESS
        }
        Err(EarlyExit { output, .. }) => {
            let words: Vec<&str> = output.split_whitespace().collect();
            eprintln!("kontena-image: {}{}", words.join(" ").trim_end_matches('.'), hint(&output));
            ExitCode::from(2)
        }
    }
}

/// The words of the command line, as argh takes them: it knows no `--option=VALUE` and no `-oVALUE`, and
/// takes `-` for an option.
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
            _ => match word.strip_prefix("-o").filter(|value| !value.is_empty()) {
                Some(value) => words.extend(["-o".to_owned(), value.to_owned()]),
                None => words.push(word),
            },
        }
    }
    Ok(words)
}

/// A command line that says not all, or too much.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: see kontena-image --help", self.0)
    }
}

impl std::error::Error for Usage {}

/// What to use in the place of an option that docker, podman or skopeo has, if argh's error names one.
fn hint(error: &str) -> &'static str {
    let is_of = |names: &[&str]| error.split_whitespace().any(|word| names.contains(&word.trim_matches('"')));
    match () {
        () if is_of(&["--tls-verify", "--src-tls-verify", "--insecure"]) => ": use --plain-http or --tls-ca",
        () if is_of(&["--cert-dir", "--src-cert-dir"]) => ": use --tls-ca FILE",
        () if is_of(&["--creds", "--src-creds", "--authfile", "--username", "-u"]) => ": use docker login",
        () if is_of(&["--arch", "--os", "--variant", "--override-arch"]) => ": use --platform OS/ARCH",
        () if is_of(&["-t", "--tag", "--name"]) => ": an image is a file, and has no other name: use -o FILE",
        () if is_of(&["-q", "--quiet"]) => ": progress is shown on a terminal only",
        () => ": see kontena-image --help",
    }
}

/// Prints a config.
fn show_file(options: &Show) -> Result<String> {
    show::print(&show::words(&options.file)?, &options.format)
}

/// Makes the output; returns what is printed: its root hash.
fn build(options: &Build) -> Result<String> {
    if options.version {
        return Ok(concat!("kontena-image ", env!("CARGO_PKG_VERSION"), "\n").into());
    }
    let [text] = options.sources.as_slice() else {
        let count = options.sources.len();
        bail!(Usage(if count == 0 {
            "SOURCE is missing".into()
        } else {
            format!("one SOURCE is wanted, not {count}")
        }));
    };
    let path = options.output.as_deref().ok_or_else(|| Usage("-o FILE is missing".into()))?;
    write::raise_limits();
    let source = Source::parse(text)?;
    let platform = options.platform.as_deref().map_or_else(|| Ok(Platform::host()), Platform::parse)?;
    let epoch = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".into());
    let epoch = epoch.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {epoch:?}, not a number of seconds"))?;
    let compression = options.compression.as_deref().map(compression).transpose()?;
    let output = Output { path, kind: options.kind, compression, force: options.force, epoch };
    output.check()?;
    let config = options.config.as_deref().map(read_config).transpose()?;

    let limits = limits(options)?;
    let scratch = Scratch::beside(path)?;
    let mut tree = Tree::new(tempfile::tempfile_in(scratch.path())?, limits);
    let cache = options.cache.clone().map_or_else(default_cache, Ok)?;
    let (plain_http, authority) = (options.plain_http, options.tls_ca.clone());
    let access = Access { plain_http, authority, timeout: Duration::from_secs(options.timeout) };
    let platform_is_given = options.platform.is_some();
    let loading =
        source::Options { platform: &platform, platform_is_given, cache, access, directory: scratch.path(), limits };
    let own = source.load(&mut tree, &loading).with_context(|| source.described(text))?;
    let config = match (own, config) {
        (Some(_), Some(_)) => bail!("--config: the image has a config of its own"),
        (Some(own), None) => Some(ImageConfig::parse(&own)?),
        (None, given) => given,
    };
    for (name, count) in &tree.left_out {
        eprintln!("kontena-image: left out the attribute {name} of {count} files: it has no meaning in a container");
    }
    if let Some(config) = &config {
        for directory in config.volumes()?.into_iter().chain(config.workdir()) {
            tree.make_directory(directory.as_bytes()).with_context(|| format!("cannot make {directory}"))?;
        }
    }
    let root_hash = output.write(&mut tree, config.as_ref(), &scratch)?;
    if std::io::stderr().is_terminal() {
        eprintln!("{}", output.summary(config.is_some(), std::io::stdout().is_terminal())?);
    }
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
        assert_eq!(words(&[b"--type=dir", b"-ox=y", b"a=b"]).unwrap(), ["--type", "dir", "-o", "x=y", "a=b"]);
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

    #[test]
    fn errors_say_what_to_use() {
        assert!(super::hint("Unrecognized argument: --tls-verify\n").contains("--plain-http"));
        assert!(super::hint("Unrecognized argument: \"-t\"\n").contains("-o FILE"));
        assert!(super::hint("Unrecognized argument: --nosuch\n").contains("--help"));
    }
}
