//! Images that are files: a directory of the OCI's image layout, an archive of one, and what `docker save` writes, of
//! which there are two forms. An archive is read in its place, without being unpacked.
//!
//! Paths in them are names in a table or digests, and never followed outside.

use crate::image::{Blob, Image, Layer, Platform};
use crate::limits::{self, Limits};
use crate::progress::Progress;
use crate::tarball::{Tarball, shown};
use crate::{layer, tree};
use anyhow::{Context, Result, bail, ensure};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tar::EntryType;

/// The annotation that has a tag.
const TAG: &str = "org.opencontainers.image.ref.name";
/// How many indexes may be in each other.
const DEPTH: usize = 4;

/// Where the files of an image are.
pub enum Store {
    /// A directory.
    Directory(PathBuf),
    /// A tar, by the names of its files.
    Archive(BTreeMap<Vec<u8>, Blob>),
}

impl Store {
    /// An archive, which may be compressed as a whole; then it is decompressed into a file of `directory`.
    pub fn archive(path: &Path, directory: &Path, limits: &Limits) -> Result<Self> {
        let mut blob = Blob::open(path)?;
        let progress = Progress::bytes("reading", blob.length);
        let start = blob.part(0, blob.length.min(4))?.read(4)?;
        if start.starts_with(&[0x1f, 0x8b]) || start == [0x28, 0xb5, 0x2f, 0xfd] {
            let mut spool = tempfile::tempfile_in(directory)?;
            let input = layer::decompressed(&blob, "", progress.wrap(blob.reader()))?;
            let copied = tree::copy(&mut std::io::Read::take(input, limits.bytes + 1), &mut spool)?;
            ensure!(copied <= limits.bytes, tree::too_large(limits.bytes));
            blob = Blob::of(spool)?;
        }
        Ok(Self::Archive(members(&blob, limits)?))
    }

    fn blob(&self, name: &str) -> Result<Blob> {
        match self {
            Self::Directory(dir) => Blob::open(&dir.join(name)),
            Self::Archive(files) => files.get(name.as_bytes()).cloned().with_context(|| format!("it has no {name}")),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.blob(name).is_ok()
    }

    /// A JSON document.
    fn document(&self, name: &str) -> Result<Vec<u8>> {
        self.blob(name)?.read(limits::DOCUMENT).with_context(|| name.to_owned())
    }

    /// The JSON document of a digest, verified.
    fn verified(&self, digest: &str) -> Result<Vec<u8>> {
        let document = self.document(&place(digest)?)?;
        layer::verify(&document, digest).with_context(|| format!("the document {digest}"))?;
        Ok(document)
    }
}

/// Where a layout has the blob of a digest.
fn place(digest: &str) -> Result<String> {
    let _ = layer::Sum::of(Some(digest))?;
    Ok(format!("blobs/{}", digest.replace(':', "/")))
}

/// The files of an archive, by their names. A link stands for the file that it names: `docker save` wrote them for
/// layers that it had written before.
fn members(archive: &Blob, limits: &Limits) -> Result<BTreeMap<Vec<u8>, Blob>> {
    let (mut files, mut links, mut names) = (BTreeMap::new(), Vec::new(), 0);
    let mut tarball = Tarball::new(archive.reader());
    while let Some(entry) = tarball.next().context("the archive")? {
        let name = entry.path.strip_prefix(b"./").unwrap_or(&entry.path).to_vec();
        names += entry.path.len() + entry.link.len();
        let are_few = files.len() + links.len() < limits.entries && names <= limits.names;
        ensure!(are_few, "the archive has too many files");
        match entry.kind {
            EntryType::Regular => {
                let part = archive.part(tarball.position(), entry.size);
                let _ = files.insert(name, part.context("the archive ends early")?);
            }
            EntryType::Symlink | EntryType::Link => links.push((name, entry.link)),
            _ => {}
        }
    }
    for (name, target) in links {
        // "../ID/layer.tar" and "ID/layer.tar".
        let target = target.strip_prefix(b"../").unwrap_or(&target);
        if let Some(blob) = files.get(target).cloned() {
            let _ = files.entry(name).or_insert(blob);
        }
    }
    Ok(files)
}

/// The image of an OCI layout: of a tag, or the only one.
pub fn oci(store: &Store, tag: Option<&str>, platform: &Platform) -> Result<Image> {
    let version = store.document("oci-layout").context("this is not an OCI image layout")?;
    let version: Value = serde_json::from_slice(&version).context("oci-layout")?;
    ensure!(version["imageLayoutVersion"] == "1.0.0", "its layout has the version {}", version["imageLayoutVersion"]);
    let index: ImageIndex = serde_json::from_slice(&store.document("index.json")?).context("index.json")?;
    let chosen = match tag {
        Some(tag) => tagged(&index, tag)?,
        None => match &index.manifests()[..] {
            [only] => only,
            // One image for several platforms, without an index of its own.
            many if many.iter().all(|one| name(one).is_none()) => platform.choose(&index)?,
            _ => bail!("it has several images: use one of {}", names(&index)),
        },
    };
    let mut chosen = chosen.clone();
    for _ in 0..DEPTH {
        let document = store.verified(chosen.digest().as_ref())?;
        if !is_index(&chosen, &document) {
            return of_manifest(store, &document);
        }
        let index: ImageIndex = serde_json::from_slice(&document).context("its index")?;
        chosen = platform.choose(&index)?.clone();
    }
    bail!("its indexes are too deep in each other")
}

fn is_index(descriptor: &Descriptor, document: &[u8]) -> bool {
    let has_manifests = || serde_json::from_slice(document).is_ok_and(|json: Value| json.get("manifests").is_some());
    match descriptor.media_type() {
        MediaType::ImageIndex => true,
        MediaType::ImageManifest => false,
        _ => has_manifests(),
    }
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(TAG).map(String::as_str)
}

fn names(index: &ImageIndex) -> String {
    let names: Vec<String> = index.manifests().iter().filter_map(name).map(|name| shown(name.as_bytes())).collect();
    names.join(", ")
}

/// The manifest of a tag; docker has the whole name in another annotation.
fn tagged<'a>(index: &'a ImageIndex, tag: &str) -> Result<&'a Descriptor> {
    let whole = |descriptor: &Descriptor| {
        let annotations = descriptor.annotations().as_ref();
        annotations.and_then(|all| all.get("io.containerd.image.name")).is_some_and(|name| is_same(name, tag))
    };
    let mut found = index.manifests().iter().filter(|one| name(one) == Some(tag) || whole(one));
    found.next().with_context(|| format!("it has no image {tag:?}, but {}", names(index)))
}

/// The image of a manifest.
fn of_manifest(store: &Store, manifest: &[u8]) -> Result<Image> {
    let manifest: ImageManifest = serde_json::from_slice(manifest).context("its manifest")?;
    let config = store.verified(manifest.config().digest().as_ref()).context("its config")?;
    let diff_ids = diff_ids(&config)?;
    let layers = manifest.layers();
    ensure!(layers.len() <= limits::LAYERS, "it has {} layers", layers.len());
    let count = diff_ids.len();
    ensure!(count == layers.len(), "its config has {count} layers, and its manifest {}", layers.len());
    let layer = |(descriptor, diff_id): (&Descriptor, String)| {
        let digest = descriptor.digest().to_string();
        let blob = store.blob(&place(&digest)?).with_context(|| format!("the layer {digest}"))?;
        let (size, found) = (descriptor.size(), blob.length);
        ensure!(size == found, "the layer {digest} has {found} bytes, and should have {size}");
        Ok(Layer {
            blob,
            digest: Some(digest),
            diff_id: Some(diff_id),
            media_type: descriptor.media_type().to_string(),
        })
    };
    let layers = layers.iter().zip(diff_ids).map(layer).collect::<Result<_>>()?;
    Ok(Image { config: Some(config), layers })
}

/// The digests of an image's layers, uncompressed, by its config.
pub fn diff_ids(config: &[u8]) -> Result<Vec<String>> {
    let config: ImageConfiguration = serde_json::from_slice(config).context("its config")?;
    Ok(config.rootfs().diff_ids().clone())
}

/// The image of an archive of `docker save`: of a name, or the only one.
pub fn docker(store: &Store, reference: Option<&str>, platform: &Platform) -> Result<Image> {
    if !store.has("manifest.json") && store.has("oci-layout") {
        return oci(store, reference, platform);
    }
    let manifest = store.document("manifest.json").context("this is not an archive of `docker save`")?;
    let images: Vec<Value> = serde_json::from_slice(&manifest).context("manifest.json")?;
    let image = match (reference, &images[..]) {
        (None, [only]) => only,
        (None, _) => bail!("it has {} images: use one of {}", images.len(), tags(&images).join(", ")),
        (Some(reference), _) => {
            let mut found = images.iter().filter(|image| tags([*image]).iter().any(|tag| is_same(tag, reference)));
            found.next().with_context(|| format!("it has no image {reference:?}, but {}", tags(&images).join(", ")))?
        }
    };
    let name = image["Config"].as_str().context("manifest.json has an image without a Config")?;
    let config = store.document(name)?;
    if let Some(digest) = digest_of(name) {
        layer::verify(&config, &digest).context("its config")?;
    }
    let layers: Vec<String> = serde_json::from_value(image["Layers"].clone()).context("the Layers of manifest.json")?;
    let diff_ids = diff_ids(&config)?;
    ensure!(layers.len() <= limits::LAYERS, "it has {} layers", layers.len());
    let count = diff_ids.len();
    ensure!(count == layers.len(), "its config has {count} layers, and manifest.json {}", layers.len());
    let layer = |(name, diff_id): (&String, String)| {
        let digest = name.starts_with("blobs/").then(|| digest_of(name)).flatten();
        Ok(Layer { blob: store.blob(name)?, digest, diff_id: Some(diff_id), media_type: String::new() })
    };
    let layers = layers.iter().zip(diff_ids).map(layer).collect::<Result<_>>()?;
    Ok(Image { config: Some(config), layers })
}

/// The digest that a file has in its name: "HEX.json" or "blobs/sha256/HEX".
fn digest_of(name: &str) -> Option<String> {
    let hex = name.strip_suffix(".json").or_else(|| name.strip_prefix("blobs/sha256/"))?;
    let digest = format!("sha256:{hex}");
    layer::Sum::of(Some(&digest)).ok().map(|_| digest)
}

fn tags<'a>(images: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let tags = images.into_iter().filter_map(|image| image["RepoTags"].as_array()).flatten();
    tags.filter_map(|tag| tag.as_str()).map(|tag| shown(tag.as_bytes())).collect()
}

/// Whether two names of images are the same, as docker completes them: "nginx" is "docker.io/library/nginx:latest".
fn is_same(one: &str, other: &str) -> bool {
    let complete = |name: &str| {
        let name = ["docker.io/library/", "docker.io/"].iter().find_map(|host| name.strip_prefix(host)).unwrap_or(name);
        let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        if has_tag { name.to_owned() } else { format!("{name}:latest") }
    };
    complete(one) == complete(other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_in_an_archive_have_a_limit() {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for number in 0..10 {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            builder.append_data(&mut header, format!("{number}{}", "x/".repeat(300)), std::io::empty()).unwrap();
        }
        let archive = Blob::of(builder.into_inner().unwrap()).unwrap();
        let with = |names| members(&archive, &Limits { names, ..Limits::default() }).map(|files| files.len());
        assert_eq!(with(10_000).unwrap(), 10);
        assert!(with(5_000).unwrap_err().to_string().contains("too many files"));
    }
}
