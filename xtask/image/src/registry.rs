//! Images of a registry, downloaded into the cache: a reference as docker has it becomes a config and layers.
//!
//! Nothing that a registry says is believed: all content is known by its digest. It must not unpack layers.
//!
//! Requests are reqwest's: oci-client reads manifests and tokens whole, whatever their size, follows every redirect,
//! and panics on a machine without certificates of authorities.

mod client;
mod credentials;

use crate::cache::{Cache, Entry, Part, digest_of};
use crate::image::{Blob, Image, Layer, Platform};
use anyhow::{Context, Error, Result, bail, ensure};
pub use client::Access;
use client::{Client, Failure};
use indicatif::{ProgressBar, ProgressStyle};
use oci_client::Reference;
use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE,
    IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most bytes of a manifest, and of a config: what docker's registry accepts.
const MAX_DOCUMENT: u64 = 4 << 20;

/// How often a download is tried without a MiB of progress.
const TRIES: u32 = 4;
const PROGRESS: u64 = 1 << 20;

/// What layers may be, beside those of [`oci_client::manifest`].
const IMAGE_LAYER_ZSTD_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const LAYERS: &[&str] = &[
    IMAGE_LAYER_MEDIA_TYPE,
    IMAGE_LAYER_GZIP_MEDIA_TYPE,
    IMAGE_LAYER_ZSTD_MEDIA_TYPE,
    IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE,
    IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE,
];

/// Downloads the image that `reference` names, for `platform`, into the directory `cache`; what is there is not
/// downloaded again. An image named by its digest needs no registry once it is there.
///
/// # Errors
/// If the reference makes no sense, the registry cannot be reached or does not give the image out, there is none for
/// the platform, or something is not what its digest says. Then the cache gets nothing wrong: whole blobs, and parts.
pub fn pull(reference: &str, platform: &Platform, cache: &Path, access: &Access) -> Result<Image> {
    let reference: Reference =
        reference.parse().with_context(|| format!("{reference:?} is not a reference such as nginx, HOST/NAME:TAG"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let cache = Cache::open(cache)?;
    let client = Client::new(&reference, access)?;
    let image = format!("image {}", one_line(&reference.to_string()));
    runtime.block_on(Pull { reference, cache, client }.image(platform)).context(image)
}

/// A line without control characters, of what others say.
fn one_line(text: &str) -> String {
    let line = text.split(|c: char| c.is_control()).map(str::trim).filter(|part| !part.is_empty());
    line.collect::<Vec<_>>().join(" ").chars().take(500).collect()
}

/// An image that is being downloaded.
struct Pull {
    reference: Reference,
    cache: Cache,
    client: Client,
}

/// A manifest of either kind.
enum Manifest {
    Image(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

impl Pull {
    async fn image(mut self, platform: &Platform) -> Result<Image> {
        let manifest = self.manifest(platform).await?;
        check_types(&manifest)?;
        let (config, diff_ids) = self.config(manifest.config(), platform).await?;
        let (layers, ids) = (manifest.layers(), diff_ids.len());
        ensure!(layers.len() == ids, "the manifest has {} layers, and the config {ids}", layers.len());
        let bar = progress(layers);
        let mut image = Image { config: Some(config), layers: Vec::new() };
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let path = self.blob(layer, &bar).await.with_context(|| format!("layer {}", layer.digest()))?;
            image.layers.push(Layer {
                blob: Blob::open(&path)?,
                digest: Some(layer.digest().to_string()),
                diff_id: Some(diff_id),
                media_type: layer.media_type().to_string(),
            });
        }
        bar.finish_and_clear();
        Ok(image)
    }

    /// The manifest for a platform, by way of an index if there is one.
    async fn manifest(&mut self, platform: &Platform) -> Result<Box<ImageManifest>> {
        let name = self.reference.digest().or(self.reference.tag()).unwrap_or("latest").to_owned();
        let digest = self.reference.digest().map(str::to_owned);
        let index = match self.document(&name, digest.as_deref()).await? {
            Manifest::Image(manifest) => return Ok(manifest),
            Manifest::Index(index) => index,
        };
        let digest = platform.choose(&index)?.digest().to_string();
        match self.document(&digest, Some(&digest)).await? {
            Manifest::Image(manifest) => Ok(manifest),
            Manifest::Index(_) => bail!("its index leads to another index, {digest}"),
        }
    }

    /// A manifest by its tag or digest: of the cache if its digest is known and it is there.
    async fn document(&mut self, name: &str, digest: Option<&str>) -> Result<Manifest> {
        let cached = digest.map_or(Ok(None), |digest| self.cache.read(digest))?;
        if let Some(content) = cached {
            return read_manifest(&content);
        }
        let content = self.client.manifest(name, MAX_DOCUMENT).await?;
        let actual = digest_of(&content);
        if let Some(digest) = digest {
            ensure!(actual == digest, "the registry's manifest has the digest {actual}, not {digest}");
        }
        let manifest = read_manifest(&content)?;
        self.cache.keep(&actual, &content)?;
        Ok(manifest)
    }

    /// The config as it is, and its layers' diff_ids.
    async fn config(&mut self, config: &Descriptor, platform: &Platform) -> Result<(Vec<u8>, Vec<String>)> {
        let what = || format!("config {}", config.digest());
        let size = config.size();
        ensure!(size <= MAX_DOCUMENT, "{} has {size} bytes: more than {MAX_DOCUMENT}", what());
        let path = self.blob(config, &ProgressBar::hidden()).await.with_context(what)?;
        let text = Blob::open(&path)?.read(MAX_DOCUMENT)?;
        let parsed = ImageConfiguration::from_reader(text.as_slice()).map_err(|error| Error::msg(cause(&error)));
        let parsed = parsed.with_context(what)?;
        platform.check(&parsed)?;
        Ok((text, parsed.rootfs().diff_ids().clone()))
    }

    /// A blob of the cache, downloaded if it is not there, or not all of it.
    async fn blob(&mut self, descriptor: &Descriptor, bar: &ProgressBar) -> Result<PathBuf> {
        let (digest, size) = (&descriptor.digest().to_string(), descriptor.size());
        let mut part = match self.cache.entry(digest, size)? {
            Entry::Here(path) => {
                bar.inc(size);
                return Ok(path);
            }
            Entry::Missing(part) => part,
        };
        let begin = bar.position();
        let mut tries = 0;
        while !part.is_complete() {
            let before = part.length();
            bar.set_position(begin + before);
            match self.download(digest, &mut part, bar).await {
                Ok(()) => (),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Retry(error)) => {
                    tries = if part.length() >= before.saturating_add(PROGRESS) { 1 } else { tries + 1 };
                    if tries >= TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(pause(tries)).await;
                }
            }
        }
        part.finish(digest)
    }

    /// Downloads what is missing of a blob; one that gets no byte more has failed.
    async fn download(&mut self, digest: &str, part: &mut Part, bar: &ProgressBar) -> Result<(), Failure> {
        let mut response = self.client.blob(digest, part.length()).await?;
        if !client::continues(&response, part.length()) {
            bar.set_position(bar.position() - part.length());
            part.restart()?;
        }
        while let Some(bytes) = self.client.chunk(&mut response).await? {
            part.append(bytes.as_ref())?;
            bar.inc(bytes.as_ref().len() as u64);
        }
        if part.is_complete() { Ok(()) } else { Err(self.client.ended_early()) }
    }
}

/// How long to wait before a download is tried again.
fn pause(tries: u32) -> Duration {
    Duration::from_millis(250 << tries.min(8))
}

/// The bar of a download, on a terminal alone.
fn progress(layers: &[Descriptor]) -> ProgressBar {
    let total = layers.iter().map(Descriptor::size).fold(0, u64::saturating_add);
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Reads a manifest by what it says that it is. One that can be read as both kinds is refused, as others may read it
/// as the other.
fn read_manifest(content: &[u8]) -> Result<Manifest> {
    let value: Value = serde_json::from_slice(content).context("the registry's manifest is not JSON")?;
    let schema = &value["schemaVersion"];
    ensure!(
        schema != 1,
        "its manifest is of docker's schema 1, which is obsolete: push the image again with a newer docker"
    );
    ensure!(schema == 2, "its manifest has no schemaVersion 2, but {}", one_line(&schema.to_string()));
    let is_index = match value["mediaType"].as_str() {
        Some(OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE) => true,
        Some(OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE) => false,
        Some(other) => bail!("its manifest has the unknown media type {}", one_line(other)),
        None => value["manifests"].is_array(),
    };
    ensure!(value[if is_index { "layers" } else { "manifests" }].is_null(), "its manifest is also an index");
    let wrong = "the registry's manifest makes no sense";
    Ok(if is_index {
        Manifest::Index(serde_json::from_value(value).context(wrong)?)
    } else {
        Manifest::Image(serde_json::from_value(value).context(wrong)?)
    })
}

/// Refuses what is not an image of a root file system, and layers that a registry does not have.
fn check_types(manifest: &ImageManifest) -> Result<()> {
    let config = manifest.config().media_type().to_string();
    ensure!(
        [IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE].contains(&config.as_str()),
        "it is not a container's image, but has a config of the media type {}",
        one_line(&config)
    );
    for layer in manifest.layers() {
        let (kind, digest) = (one_line(layer.media_type().as_ref()), layer.digest());
        if kind.contains(".nondistributable.") || kind.contains(".foreign.") {
            let url = layer.urls().iter().flatten().next().map_or_else(|| "elsewhere".into(), |url| one_line(url));
            bail!("layer {digest} is not in the registry, but at {url}: kontena-image does not follow such URLs");
        }
        ensure!(LAYERS.contains(&kind.as_str()), "layer {digest} has the unknown media type {kind}");
    }
    Ok(())
}

/// The innermost error's words, on one line.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    one_line(&error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_of_one_kind() {
        let read = |text: &str| read_manifest(text.as_bytes()).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(read("<html>"), Err("the registry's manifest is not JSON".into()));
        assert!(read(r#"{"schemaVersion": 1}"#).unwrap_err().contains("schema 1"));
        assert!(read(r#"{"schemaVersion": 2, "mediaType": "a\nb"}"#).unwrap_err().ends_with("media type a b"));
        let both = r#"{"schemaVersion": 2, "manifests": [], "layers": []}"#;
        assert_eq!(read(both), Err("its manifest is also an index".into()));
        assert_eq!(read(r#"{"schemaVersion": 2, "manifests": []}"#), Ok(()));
    }
}
