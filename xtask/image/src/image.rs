//! An image as all sources give it: its config and its layers, which are ranges of files on this machine. What a file
//! has is verified when it is read (`layer.rs`), not here.

use anyhow::{Context, Result, bail};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// An image, lowest layer first.
pub struct Image {
    /// Its config: the JSON as it is in the image, of the digest that the manifest names. None: a root without one.
    pub config: Option<Vec<u8>>,
    /// What is unpacked, one over the other.
    pub layers: Vec<Layer>,
}

/// A layer: a tar, which may be compressed.
pub struct Layer {
    /// Its bytes.
    pub blob: Blob,
    /// The digest of the blob ("sha256:" and 64 hex digits), which is verified when the layer is read. None: nobody
    /// names one.
    pub digest: Option<String>,
    /// The digest of the tar in it, from the config's `rootfs.diff_ids`, verified likewise.
    pub diff_id: Option<String>,
    /// The media type that the manifest has for it; empty if unknown. The blob's first bytes have the last word.
    pub media_type: String,
}

/// Opens a file for reading. A named pipe, which a layout may have in the place of anything, does not block.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// A range of a file, which several readers may read at once.
#[derive(Clone)]
pub struct Blob {
    file: Arc<File>,
    offset: u64,
    /// Bytes.
    pub length: u64,
}

impl Blob {
    /// All of the regular file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Self::of(file).with_context(|| path.display().to_string())
    }

    /// All of `file`.
    pub fn of(file: File) -> Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            bail!("this is not a regular file");
        }
        Ok(Self { file: Arc::new(file), offset: 0, length: metadata.len() })
    }

    /// The part of `length` bytes at `offset` of this one.
    pub fn part(&self, offset: u64, length: u64) -> Result<Self> {
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            bail!("the file ends before byte {}", offset.saturating_add(length));
        }
        Ok(Self { file: Arc::clone(&self.file), offset: self.offset + offset, length })
    }

    /// Reads it from its beginning.
    pub fn reader(&self) -> BlobReader {
        BlobReader { blob: self.clone(), position: 0 }
    }

    /// All its bytes, if they are at most `most`.
    pub fn read(&self, most: u64) -> Result<Vec<u8>> {
        if self.length > most {
            bail!("it has {} bytes, and {most} are the most", self.length);
        }
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A reader of a blob.
pub struct BlobReader {
    blob: Blob,
    position: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.blob.length - self.position).unwrap_or(usize::MAX);
        let wanted = rest.min(buffer.len());
        let read = self.blob.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.offset())?;
        self.position += read as u64;
        Ok(read)
    }
}

impl BlobReader {
    fn offset(&self) -> u64 {
        self.blob.offset + self.position
    }
}

/// What an image must be made for, in the words of Go: "linux", "arm64", "v8".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub architecture: String,
    /// The variant of the architecture, if it matters.
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on this machine's processor.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(Into::into) }
    }

    /// `OS/ARCH[/VARIANT]` or `ARCH`, as docker's --platform has it.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => bail!("--platform wants OS/ARCH[/VARIANT], for example linux/arm64, not {text:?}"),
        };
        if os != "linux" || architecture.is_empty() {
            bail!("--platform {text:?}: kontena runs images for Linux; use for example linux/arm64");
        }
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64", _) => ("amd64", None),
            ("aarch64" | "arm64", None) => ("arm64", Some("v8")),
            ("aarch64", variant) => ("arm64", variant),
            ("arm", None) => ("arm", Some("v7")),
            other => other,
        };
        Ok(Self { os: os.into(), architecture: architecture.into(), variant: variant.map(Into::into) })
    }

    /// The platform of an image by its config, if it is another than this one.
    pub fn other(&self, config: &ImageConfiguration) -> Option<String> {
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        // Images of old tools say neither.
        let fits = |is: &str, wanted: &str| is.is_empty() || is == wanted;
        let is_this = fits(&os, &self.os) && fits(&architecture, &self.architecture);
        (!is_this).then(|| crate::tarball::shown(format!("{os}/{architecture}").as_bytes()))
    }

    /// Refuses an image of another platform: a manifest without an index says nothing of it.
    pub fn check(&self, config: &ImageConfiguration) -> Result<()> {
        self.other(config)
            .map_or(Ok(()), |is| bail!("it is for {is} alone, not for {self}: if you want it so, use --platform {is}"))
    }

    /// The manifest for this platform in `index`; the only one that says nothing of a platform will do.
    pub fn choose<'a>(&self, index: &'a ImageIndex) -> Result<&'a Descriptor> {
        let manifests = index.manifests();
        let fits = |descriptor: &Descriptor, variant: Option<&str>| {
            descriptor.platform().as_ref().is_some_and(|platform| {
                platform.os().to_string() == self.os
                    && platform.architecture().to_string() == self.architecture
                    && platform.variant().as_deref() == variant
            })
        };
        let wanted = [self.variant.as_deref(), None];
        let mut exact = wanted.iter().filter_map(|variant| manifests.iter().find(|one| fits(one, *variant)));
        if let Some(found) = exact.next() {
            return Ok(found);
        }
        match &manifests[..] {
            [only] if only.platform().is_none() => Ok(only),
            [] => bail!("its index is empty"),
            _ => {
                let mut there: Vec<String> = manifests.iter().filter_map(described).collect();
                there.sort();
                there.dedup();
                bail!("it has no image for {self}, but for {}: use --platform", there.join(", "))
            }
        }
    }
}

/// The platform of a manifest, unless it is an attestation's, which docker calls "unknown/unknown".
fn described(descriptor: &Descriptor) -> Option<String> {
    let platform = descriptor.platform().as_ref()?;
    let name = format!("{}/{}", platform.os(), platform.architecture());
    let variant = platform.variant().as_ref().map(|variant| format!("/{variant}"));
    (name != "unknown/unknown").then(|| name + &variant.unwrap_or_default())
}

impl std::fmt::Display for Platform {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(formatter, "/{variant}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn platform(text: &str) -> String {
        Platform::parse(text).map_or_else(|error| error.to_string(), |platform| platform.to_string())
    }

    #[test]
    fn platforms_have_names() {
        assert_eq!(platform("linux/amd64"), "linux/amd64");
        assert_eq!(platform("x86_64"), "linux/amd64");
        assert_eq!(platform("arm64"), "linux/arm64/v8");
        assert_eq!(platform("linux/arm/v6"), "linux/arm/v6");
        assert!(platform("windows/amd64").contains("for Linux"));
        assert!(platform("linux/").contains("for Linux"));
        assert!(platform("a/b/c/d").contains("OS/ARCH"));
    }

    #[test]
    fn platform_is_chosen() {
        let index = |platforms: &str| -> ImageIndex {
            let manifests: Vec<String> = platforms
                .split(' ')
                .enumerate()
                .map(|(number, platform)| {
                    let mut parts = platform.split('/');
                    let (os, arch) = (parts.next().unwrap(), parts.next().unwrap());
                    let variant = parts.next().map(|variant| format!(r#","variant":"{variant}""#)).unwrap_or_default();
                    format!(
                        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":{number},"digest":
                        "sha256:{}","platform":{{"os":"{os}","architecture":"{arch}"{variant}}}}}"#,
                        "0".repeat(64)
                    )
                })
                .collect();
            serde_json::from_str(&format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","))).unwrap()
        };
        let choose = |wanted: &str, platforms: &str| {
            let platform = Platform::parse(wanted).unwrap();
            platform.choose(&index(platforms)).map(Descriptor::size).map_err(|error| error.to_string())
        };
        assert_eq!(choose("arm64", "linux/amd64 unknown/unknown linux/arm64"), Ok(2));
        assert_eq!(choose("arm64", "linux/arm64/v9 linux/arm64/v8"), Ok(1));
        assert_eq!(choose("arm", "linux/arm/v6 linux/arm/v7"), Ok(1));
        let error = choose("riscv64", "linux/amd64 unknown/unknown linux/arm/v7").unwrap_err();
        assert_eq!(error, "it has no image for linux/riscv64, but for linux/amd64, linux/arm/v7: use --platform");
    }

    #[test]
    fn pipes_are_no_blobs() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = format!("{:#}", Blob::open(&pipe).err().unwrap());
        assert!(error.ends_with("this is not a regular file"), "{error}");
    }

    #[test]
    fn parts_of_a_blob_stay_inside() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"0123456789").unwrap();
        let blob = Blob::of(file).unwrap();
        let part = blob.part(2, 4).unwrap().part(1, 2).unwrap();
        assert_eq!(part.read(2).unwrap(), b"34");
        assert!(part.read(1).is_err());
        assert!(blob.part(8, 3).is_err() && blob.part(u64::MAX, 2).is_err() && blob.part(10, 0).is_ok());
    }
}
