//! Where an image comes from: what SOURCE means, and the image or tree of it.

use crate::image::{Image, Platform};
use crate::layer::Reader;
use crate::layout::{self, Store};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::registry;
use crate::root;
use crate::tarball::Tarball;
use crate::tree::{ROOT, Tree};
use anyhow::{Context, Result, bail, ensure};
use oci_spec::image::ImageConfiguration;
use std::io;
use std::path::{Path, PathBuf};

/// Another name of `-`.
pub const STDIN: &str = "/dev/stdin";

/// A SOURCE.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// `[docker://]REFERENCE`: an image of a registry.
    Registry(String),
    /// `oci:DIR[:TAG]`
    Oci(PathBuf, Option<String>),
    /// `oci-archive:FILE[:TAG]`
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:REFERENCE]`
    DockerArchive(PathBuf, Option<String>),
    /// A directory that is a root.
    Root(PathBuf),
    /// `-`: a tar of a root, on stdin.
    Stdin,
}

impl Source {
    /// Reads one from the command line.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = |rest: &str| {
            // A name may have a colon too.
            let (path, tag) = if Path::new(rest).exists() { (rest, None) } else { split(rest) };
            ensure!(!path.is_empty(), "{text:?} names no file");
            Ok((PathBuf::from(path), tag.map(ToOwned::to_owned)))
        };
        Ok(match text.split_once(':') {
            Some(("oci", rest)) => parts(rest).map(|(path, tag)| Self::Oci(path, tag))?,
            Some(("oci-archive", rest)) => parts(rest).map(|(path, tag)| Self::OciArchive(path, tag))?,
            Some(("docker-archive", rest)) => parts(rest).map(|(path, tag)| Self::DockerArchive(path, tag))?,
            Some(("docker", rest)) if rest.starts_with("//") => Self::Registry(rest.trim_start_matches('/').into()),
            Some((transport @ ("docker-daemon" | "containers-storage" | "dir" | "tarball"), _)) => {
                bail!("{text}: {}", instead(transport))
            }
            _ if matches!(text, "-" | STDIN) => Self::Stdin,
            _ if text.is_empty() => bail!("SOURCE is empty"),
            _ => Self::of_path(text)?,
        })
    }

    /// A directory, if it looks like one and is there; otherwise a registry's image.
    fn of_path(text: &str) -> Result<Self> {
        let path = Path::new(text);
        let is_path = matches!(text, "." | "..") || ["/", "./", "../"].iter().any(|start| text.starts_with(start));
        if (is_path || text.contains('/')) && path.is_dir() {
            ensure!(!is_layout(path), "{text} is an OCI image layout: use oci:{text}");
            return Ok(Self::Root(path.into()));
        }
        if path.is_file() {
            bail!(
                "{text} is a file: use oci-archive:{text} or docker-archive:{text}, or - < {text} for the tar of a root"
            );
        }
        ensure!(!is_path, "{text}: there is no such directory");
        Ok(Self::Registry(text.into()))
    }

    /// SOURCE as errors have it: a name of a registry's may have been meant for a directory.
    pub fn described(&self, text: &str) -> String {
        let is_directory = matches!(self, Self::Registry(name) if Path::new(name).is_dir());
        if is_directory { format!("{text} (for the directory use ./{text})") } else { text.to_owned() }
    }

    /// The root that it has, in `tree`, and its config. `directory` is for temporary files.
    pub fn load(&self, tree: &mut Tree, options: &Options<'_>) -> Result<Option<Vec<u8>>> {
        let platform = options.platform;
        let archive = |path: &Path| Store::archive(path, options.directory, &options.limits);
        let image = match self {
            Self::Registry(reference) => registry::pull(reference, platform, &options.cache, &options.access)?,
            Self::Oci(path, tag) => layout::oci(&Store::Directory(path.clone()), tag.as_deref(), platform)?,
            Self::OciArchive(path, tag) => layout::oci(&archive(path)?, tag.as_deref(), platform)?,
            Self::DockerArchive(path, tag) => layout::docker(&archive(path)?, tag.as_deref(), platform)?,
            Self::Root(path) => {
                root::add(tree, path)?;
                return Ok(None);
            }
            Self::Stdin => {
                read_stdin(tree, options)?;
                return Ok(None);
            }
        };
        if let Some(config) = &image.config {
            check_platform(config, options)?;
        }
        apply(&image, tree, &options.limits)?;
        Ok(image.config)
    }
}

/// What sources need besides their names.
pub struct Options<'a> {
    /// --platform, or this machine's.
    pub platform: &'a Platform,
    /// Whether it is --platform.
    pub platform_is_given: bool,
    /// The directory of blobs of registries.
    pub cache: PathBuf,
    /// How registries are reached.
    pub access: registry::Access,
    /// A directory for temporary files.
    pub directory: &'a Path,
    /// What is too much.
    pub limits: Limits,
}

/// A file has the image that it has: one for another machine is an error only if `--platform` asks for something else.
fn check_platform(config: &[u8], options: &Options<'_>) -> Result<()> {
    let config: ImageConfiguration = serde_json::from_slice(config).context("its config")?;
    if options.platform_is_given {
        return options.platform.check(&config);
    }
    if let Some(is) = options.platform.other(&config) {
        eprintln!("kontena-image: the image is for {is}");
    }
    Ok(())
}

/// What to use in the place of a transport of skopeo's that is not ours.
fn instead(transport: &str) -> &'static str {
    match transport {
        "docker-daemon" => "use docker save -o FILE NAME, then docker-archive:FILE",
        "containers-storage" => "use podman save -o FILE NAME, then docker-archive:FILE",
        "dir" => "use ./DIR for a root, or copy the image to an OCI layout: skopeo copy dir:DIR oci:LAYOUT",
        _ => "use - < FILE for the tar of a root",
    }
}

/// Whether a directory is an image in the OCI's layout, and not a root.
fn is_layout(path: &Path) -> bool {
    ["oci-layout", "index.json"].iter().all(|name| path.join(name).is_file())
}

/// What an archive of an image has, and no root.
const ARCHIVES: [(&[u8], &str); 2] = [(b"manifest.json", "docker-archive"), (b"oci-layout", "oci-archive")];

/// `FILE[:TAG]`
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(path, tag)| (path, Some(tag)))
}

/// Applies the layers of an image, the lowest first.
pub fn apply(image: &Image, tree: &mut Tree, limits: &Limits) -> Result<()> {
    let mut left = limits.bytes;
    for (number, layer) in image.layers.iter().enumerate() {
        let what = format!("layer {} of {}", number + 1, image.layers.len());
        let progress = Progress::bytes(&what, layer.blob.length);
        let mut read = || {
            let mut tarball = Tarball::new(Reader::new(layer, left, &progress)?);
            let applied = tree.apply(&mut tarball);
            let read = tarball.into_inner().finish();
            // A tar that makes no sense is, first of all, a tar that is not the right one.
            read.and_then(|read| applied.map(|()| read))
        };
        left = left.saturating_sub(read().context(what)?);
    }
    Ok(())
}

/// A tar of a root: nothing says what its digest must be, so it must at least have an end.
fn read_stdin(tree: &mut Tree, options: &Options<'_>) -> Result<()> {
    let mut spool = tempfile::tempfile_in(options.directory)?;
    let most = options.limits.bytes;
    let progress = Progress::spinner("reading stdin");
    let input = io::Read::take(progress.wrap(io::stdin().lock()), most.saturating_add(1));
    let mut input = io::BufReader::new(input);
    let copied = crate::tree::copy(&mut input, &mut spool).context("stdin")?;
    ensure!(copied <= most, crate::tree::too_large(most));
    let blob = crate::image::Blob::of(spool)?;
    let layer = crate::image::Layer { blob, digest: None, diff_id: None, media_type: String::new() };
    let mut tarball = Tarball::new(Reader::new(&layer, most, &progress)?);
    tree.apply(&mut tarball).context("the tar on stdin")?;
    for (name, transport) in ARCHIVES {
        let is_archive = tree.children(ROOT).any(|(child, _)| child == name);
        ensure!(
            !is_archive,
            "an image is on stdin, and not the tar of a root: write it to a file, then use {transport}:FILE"
        );
    }
    ensure!(tarball.has_ended(), "the tar on stdin ends early");
    let _ = tarball.into_inner().finish().context("the tar on stdin")?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let parse = |text: &str| Source::parse(text).unwrap();
        assert_eq!(parse("nginx"), Source::Registry("nginx".into()));
        assert_eq!(parse("docker://quay.io/a/b:c"), Source::Registry("quay.io/a/b:c".into()));
        assert_eq!(parse("localhost:5000/a@sha256:00"), Source::Registry("localhost:5000/a@sha256:00".into()));
        assert_eq!(parse("oci:/x:v1"), Source::Oci("/x".into(), Some("v1".into())));
        assert_eq!(parse("oci-archive:x.tar"), Source::OciArchive("x.tar".into(), None));
        let archive = Source::DockerArchive("x.tar".into(), Some("nginx:latest".into()));
        assert_eq!(parse("docker-archive:x.tar:nginx:latest"), archive);
        assert_eq!((parse("."), parse("/usr")), (Source::Root(".".into()), Source::Root("/usr".into())));
        assert_eq!(parse("-"), Source::Stdin);
        for bad in ["", "/nosuch", "./nosuch", "oci:", "/etc/passwd", "docker-daemon:nginx:latest", "dir:/usr"] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn layout_is_no_root() {
        let layout = tempfile::tempdir().unwrap();
        let path = layout.path().to_str().unwrap();
        for name in ["oci-layout", "index.json"] {
            assert!(matches!(Source::parse(path), Ok(Source::Root(_))));
            std::fs::write(layout.path().join(name), "{}").unwrap();
        }
        assert!(Source::parse(path).unwrap_err().to_string().contains("use oci:/"));
    }
}
