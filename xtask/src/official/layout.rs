//! Layers, each a tar of what it changes, and the OCI image layouts that are made of them: the files of the image
//! specification's image-layout.md, manifest.md, config.md and layer.md. The same entries result in the same bytes.
//!
//! Must not know what is in an image.

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use tar::{Archive, Builder, EntryType, Header};

/// The time of everything that is made here: Debian 12's first day.
const TIME: u64 = 1_686_355_200;
const CREATED: &str = "2023-06-10T00:00:00Z";

/// Debian's directories that are links into /usr, and that its packages name all the same.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// What a layer changes, by path.
#[derive(Default)]
pub struct Layer(BTreeMap<PathBuf, Entry>);

struct Entry {
    header: Header,
    /// A link's target.
    link: Option<PathBuf>,
    content: Vec<u8>,
}

impl Layer {
    /// A directory of `owner`, which is a uid and a gid.
    pub fn directory(&mut self, path: &str, mode: u32, owner: (u32, u32)) {
        self.insert(path, EntryType::Directory, mode, owner, None, Vec::new());
    }

    /// A file of root's.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.insert(path, EntryType::Regular, mode, (0, 0), None, content.into());
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.insert(path, EntryType::Symlink, 0o777, (0, 0), Some(target.into()), Vec::new());
    }

    /// The layers below have no `path` any more: a whiteout.
    pub fn remove(&mut self, path: &str) {
        let path = Path::new(path);
        let name = format!(".wh.{}", path.file_name().unwrap_or_default().display());
        self.file(&path.with_file_name(name).to_string_lossy(), 0o644, "");
    }

    /// The layers below have nothing in the directory `path`: an opaque whiteout.
    pub fn empty(&mut self, path: &str) {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, "");
    }

    /// The files below the directory `from`, readable for all, below `path`.
    pub fn tree(&mut self, path: &str, from: &Path) -> Result<()> {
        self.directory(path, 0o755, (0, 0));
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            let path = format!("{path}/{}", entry.file_name().display());
            if entry.file_type()?.is_dir() {
                self.tree(&path, &entry.path())?;
            } else {
                self.file(&path, 0o644, fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// The files of a package of Debian, except those that `is_wanted` rejects.
    pub fn package(&mut self, deb: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<()> {
        let what = || format!("unpacking {}", deb.display());
        let mut tar = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).spawn()?;
        let mut archive = Archive::new(tar.stdout.take().context("no pipe")?);
        for entry in archive.entries()? {
            let mut entry = entry.with_context(what)?;
            let path = merged(&entry.path()?);
            if path.as_os_str().is_empty() || MERGED.iter().any(|link| path == Path::new(link)) || !is_wanted(&path) {
                continue;
            }
            let mut header = entry.header().clone();
            header.set_mtime(TIME);
            let hard = entry.header().entry_type() == EntryType::Link;
            let link = entry.link_name()?.map(|link| if hard { merged(&link) } else { link.into_owned() });
            let mut content = Vec::new();
            entry.read_to_end(&mut content).with_context(what)?;
            self.0.insert(path, Entry { header, link, content });
        }
        anyhow::ensure!(tar.wait()?.success(), "{} is broken", deb.display());
        Ok(())
    }

    fn insert(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        (uid, gid): (u32, u32),
        link: Option<PathBuf>,
        content: Vec<u8>,
    ) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(TIME);
        header.set_size(content.len() as u64);
        self.0.insert(path.into(), Entry { header, link, content });
    }

    /// The layer as a tar; hard links last, since they need what they link to.
    fn tar(&mut self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for last in [false, true] {
            for (path, Entry { header, link, content }) in &mut self.0 {
                if (header.entry_type() == EntryType::Link) != last {
                    continue;
                }
                match link {
                    Some(link) => tar.append_link(header, path, link)?,
                    None => tar.append_data(header, path, content.as_slice())?,
                }
            }
        }
        Ok(tar.into_inner()?)
    }

    /// Writes the layer as a blob below `blobs`.
    pub fn write(mut self, blobs: &Path) -> Result<Blob> {
        let tar = self.tar()?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar)?;
        Blob::write(blobs, &gzip.finish()?, "application/vnd.oci.image.layer.v1.tar+gzip", Some(digest(&tar)))
    }
}

/// `path` as it is where /bin is a link to usr/bin, without the dot at its beginning.
fn merged(path: &Path) -> PathBuf {
    let path: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let inside = MERGED.iter().any(|link| path.starts_with(link)) && path.components().count() > 1;
    if inside { Path::new("usr").join(path) } else { path }
}

/// What a manifest says about a blob.
#[derive(Clone)]
pub struct Blob {
    descriptor: Value,
    /// A layer's digest without compression.
    diff_id: Option<String>,
}

impl Blob {
    fn write(blobs: &Path, bytes: &[u8], media_type: &str, diff_id: Option<String>) -> Result<Self> {
        let digest = digest(bytes);
        let file = blobs.join(digest.replace(':', "/"));
        fs::create_dir_all(file.parent().context("a blob without a directory")?)?;
        File::create(&file).and_then(|mut file| file.write_all(bytes)).with_context(|| file.display().to_string())?;
        Ok(Self { descriptor: json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}), diff_id })
    }

    /// Has the blob, which is below `from`, below `to` as well.
    pub fn link(&self, from: &Path, to: &Path) -> Result<()> {
        let path = self.descriptor["digest"].as_str().unwrap_or_default().replace(':', "/");
        let (from, to) = (from.join(&path), to.join(&path));
        if !to.exists() {
            fs::create_dir_all(to.parent().context("a blob without a directory")?)?;
            fs::hard_link(&from, &to).with_context(|| format!("linking {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }
}

/// Completes the image layout `dir`, whose `layers` are in its blobs. `config` is what the image says about containers,
/// and `architecture` is as Go calls it.
pub fn complete(dir: &Path, layers: &[Blob], config: &Value, architecture: &str) -> Result<()> {
    let blobs = dir.join("blobs");
    let image = json!({
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created": CREATED, "created_by": "RUN …"}))
            .chain([json!({"created": CREATED, "created_by": "CMD …", "empty_layer": true})]).collect::<Vec<_>>(),
    });
    let image = Blob::write(&blobs, &serde_json::to_vec(&image)?, "application/vnd.oci.image.config.v1+json", None)?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": image.descriptor,
        "layers": layers.iter().map(|layer| &layer.descriptor).collect::<Vec<_>>(),
    });
    let mut manifest = Blob::write(&blobs, &serde_json::to_vec(&manifest)?, media_type, None)?.descriptor;
    manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                       "manifests": [manifest]});
    fs::write(dir.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(dir.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    Ok(())
}

/// As descriptors have it: `sha256:HEX`.
fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
