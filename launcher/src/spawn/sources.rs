//! The host's files in a container: its root, the sources of its volumes, its writable layer, its devices.
//!
//! Each is opened once. A restarted container gets the same inodes, whatever their paths lead to by then: the container
//! itself, or another one, may have put a link there. Must not read or change their contents.

use crate::config::bundle::Bundle;
use crate::config::image::{FileSystem, Image};
use crate::config::lifecycle::{OnFailure, Restart};
use crate::config::userns::Idmap;
use crate::config::{Config, Overlay, Share};
use crate::error::{Context, Error, Result};
use crate::gather::Gather;
use crate::print;
use crate::resources::devices;
use crate::resources::image::{self, ROOT};
use crate::resources::userns::Maps;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, StatVfsMountFlags, Uid, fchmod, fchown, flock, fstat,
    fstatvfs, mkdirat, open, openat, statat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::CStr;
use std::fmt;

/// Which of the container's mounts the init inherits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its root.
    Root,
    /// The directory of `--overlay`.
    Layer,
    /// A volume, by its index.
    Volume(usize),
    /// /sys.
    Sys,
    /// The host's /dev/shm.
    Shm,
    /// The socket of `--sdnotify`.
    Notify,
}

/// A file or directory of the host that is mounted in each run of a container.
struct Source {
    place: Place,
    /// Where it was found.
    path: &'static CStr,
    /// Whether `idmap` was asked for.
    idmap: bool,
    /// A bundle's own idmap.
    maps: Option<&'static Idmap>,
    /// Whether what is mounted below it comes along.
    is_recursive: bool,
    /// Opened with O_PATH, but for an image.
    fd: OwnedFd,
    image: Option<FileSystem>,
    found: Stat,
}

/// The same for one run. Init inherits the fd.
pub struct Inherited {
    /// Which of the container's mounts it becomes.
    pub place: Place,
    /// Where it was found.
    pub path: &'static CStr,
    /// Whether `idmap` was asked for.
    pub idmap: bool,
    /// Whether that is for its top mount alone.
    pub idmap_top: bool,
    /// A copy of the mounts or, where this launcher may not make one, what the init must find at the path.
    pub fd: OwnedFd,
    /// Whether it is a copy.
    pub is_tree: bool,
    /// Its root, as the host has it.
    pub found: Stat,
}

/// All of them.
pub struct Sources {
    all: Vec<Source>,
    /// The devices of `--device`, or all of the host's.
    pub devices: Vec<devices::Found>,
    /// Keeps other containers from the layer.
    lock: Option<OwnedFd>,
    /// Whether the container may be restarted.
    are_kept: bool,
}

impl Sources {
    /// Opens the root and the volumes, or says which is not there.
    pub fn open(config: &'static Config) -> Result<Self> {
        let restarts = config.life.health.as_ref().is_some_and(|health| health.on_failure == OnFailure::Restart);
        let are_kept = restarts || config.life.restart.policy != Restart::No;
        let mut sources = Self { all: Vec::new(), devices: Vec::new(), lock: None, are_kept };
        sources.open_root(config)?;
        for (index, volume) in config.volumes.iter().enumerate() {
            if let (Some(source), None) = (&volume.source, volume.named) {
                let what = format_args!("--volume {}:{}", source.to_string_lossy(), volume.target.to_string_lossy());
                let hint = "the source must be a file or directory of the host: create it first";
                sources.add(Place::Volume(index), source, what, hint)?.idmap = volume.idmap;
            }
        }
        for (index, path, is_recursive, idmap) in config.bundle.iter().flat_map(Bundle::binds) {
            let what = format_args!("bind {}", path.to_string_lossy());
            let source = sources.add(Place::Volume(index), path, what, "mounts: the source must exist")?;
            (source.is_recursive, source.maps) = (is_recursive, idmap);
            source.idmap = idmap.is_some_and(|idmap| idmap.uids.is_empty());
        }
        if config.ipc == Share::Host {
            let what = format_args!("--ipc host");
            if config.has_userns() {
                return Err(Error::usage(what, "it needs root, and --userns host"));
            }
            sources.add(Place::Shm, c"/dev/shm", what, "mount a tmpfs on the host's /dev/shm")?;
        }
        sources.devices = devices::find(config)?;
        Ok(sources)
    }

    /// Opens the layer, which one container alone may have.
    pub fn take_layer(&mut self, config: &'static Config) -> Result<()> {
        if let Overlay::Directory(directory) = &config.overlay {
            self.open_layer(directory)?;
        }
        Ok(())
    }

    fn add(&mut self, place: Place, path: &'static CStr, what: fmt::Arguments<'_>, hint: &str) -> Result<&mut Source> {
        // A FIFO or a device is only looked at: opening it would block, or do something.
        let fd = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(what, hint)?;
        let found = fstat(&fd).context(what, hint)?;
        Ok(self.push(place, path, fd, None, found))
    }

    fn push(
        &mut self,
        place: Place,
        path: &'static CStr,
        fd: OwnedFd,
        image: Option<FileSystem>,
        found: Stat,
    ) -> &mut Source {
        let (idmap, maps, is_recursive) = (false, None, true);
        self.all.push_mut(Source { place, path, idmap, maps, is_recursive, fd, image, found })
    }

    fn open_root(&mut self, config: &'static Config) -> Result<()> {
        let what = format_args!("rootfs {}", config.rootfs.to_string_lossy());
        if let Some(Image { fd, kind }) = config.image.take() {
            let found = fstat(&fd).at(what)?;
            self.push(Place::Root, config.rootfs, fd, Some(kind), found);
            return Ok(());
        }
        let root = self.add(Place::Root, config.rootfs, what, ROOT)?;
        if FileType::from_raw_mode(root.found.st_mode) == FileType::Directory {
            return Ok(());
        }
        Err(Error::new(what, Errno::NOTDIR, ROOT))
    }

    /// Two overlays that write to one layer destroy it, and the kernel only logs that. So each launcher locks `work` in
    /// it, which nobody but the owner can open.
    fn open_layer(&mut self, directory: &'static CStr) -> Result<()> {
        let what = format_args!("--overlay {}", directory.to_string_lossy());
        let hint = "the layer must be a directory of the host: create it first";
        let root = self.all.first().map(|root| root.found);
        let layer = self.add(Place::Layer, directory, what, hint)?;
        if FileType::from_raw_mode(layer.found.st_mode) != FileType::Directory {
            return Err(Error::new(what, Errno::NOTDIR, hint));
        }
        if root.is_some_and(|root| is_in(layer, &root)) {
            // What the container wrote would change what it is laid over.
            return Err(Error::usage(what, "the layer is in the rootfs itself: give a directory elsewhere"));
        }
        let lock = || {
            let mode = Mode::from_raw_mode(0o700);
            match mkdirat(&layer.fd, c"work", mode) {
                Err(Errno::EXIST) => {}
                made => made?,
            }
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let work = openat(&layer.fd, c"work", flags, Mode::empty())?;
            // What an ordinary user can open it could lock, too.
            fchmod(&work, mode)?;
            fchown(&work, Some(Uid::from_raw(layer.found.st_uid)), Some(Gid::from_raw(layer.found.st_gid)))?;
            flock(&work, FlockOperation::NonBlockingLockExclusive)?;
            Ok(work)
        };
        let hint = |errno| match errno {
            Errno::AGAIN => "another container is using this layer: use one for each",
            Errno::LOOP | Errno::NOTDIR => "its work is not a directory: a link is not followed",
            _ => "kontena must be able to write to it",
        };
        self.lock = Some(lock().map_err(|errno| Error::new(what, errno, hint(errno)))?);
        Ok(())
    }

    /// Adds a named volume, which has been made by now; its copy for the first run. As with the root, its files are
    /// shown to the container's users as theirs, if they are not.
    pub fn add_named(&mut self, index: usize, path: &'static CStr, maps: Option<&Maps>) -> Result<Inherited> {
        let source = self.add(Place::Volume(index), path, format_args!("open {}", path.to_string_lossy()), "")?;
        source.idmap = maps.is_some_and(|maps| !maps.has_owner(source.found.st_uid));
        let copy = source.copy();
        if !self.are_kept {
            self.all = Vec::new();
        }
        copy
    }

    /// Mounts the root once, for nothing but the error: an image that cannot be mounted must not end a container that
    /// runs.
    pub fn try_root(&self) -> Result<()> {
        self.all.first().map_or(Ok(()), |root| root.copy().map(drop))
    }

    /// Copies them for one run. After the last one they are closed: as long as they are open, the host cannot unmount
    /// them.
    pub fn copy(&mut self) -> Result<Vec<Inherited>> {
        let copies = self.all.iter().map(Source::copy).try_list();
        if !self.are_kept {
            self.all = Vec::new();
        }
        copies
    }
}

impl Source {
    fn copy(&self) -> Result<Inherited> {
        let &Self { place, path, idmap, maps, is_recursive, mut found, .. } = self;
        let idmap_top = maps.is_some_and(|idmap| !idmap.is_recursive);
        if let Some(kind) = self.image {
            let what = format_args!("mount image {}", path.to_string_lossy());
            let fd = image::mount(&self.fd, path, kind).context(what, kind.hint())?;
            found = fstat(&fd).at(what)?;
            return Ok(Inherited { place, path, idmap, idmap_top, fd, is_tree: true, found });
        }
        if place == Place::Layer
            && let Ok(upper) = statat(&self.fd, c"upper", AtFlags::SYMLINK_NOFOLLOW)
        {
            found = upper;
        }
        let what = format_args!("open_tree {}", path.to_string_lossy());
        let (fd, is_tree) = match copy_tree(&self.fd, is_recursive) {
            // An ordinary user's launcher: only init, which is root of its user namespace, may.
            Err(Errno::PERM) => (fcntl_dupfd_cloexec(&self.fd, 3).at(what)?, false),
            tree => (tree.at(what)?, true),
        };
        #[cfg(feature = "oci")]
        if let Some(maps) = maps.filter(|_| !idmap) {
            crate::resources::idmap::apply(&fd, maps, path)?;
        }
        Ok(Inherited { place, path, idmap, idmap_top, fd, is_tree, found })
    }
}

/// Locks a root that the container writes to, and prints a warning if another container has it.
///
/// The lock lives as long as the fd, however the launcher ends. Any process that can open the root can lock it, for
/// example one of a container, so a lock of somebody else's refuses nothing. `root` is the copy of the mounts, since an
/// open directory of the host's mount would keep the host from unmounting it.
pub fn lock_root(config: &Config, root: &OwnedFd) -> Option<OwnedFd> {
    if config.read_only || config.overlay != Overlay::None {
        return None;
    }
    let root = openat(root, c".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let is_alone = flock(&root, FlockOperation::NonBlockingLockExclusive);
    // The next one has to meet each of those that are there, so all of them share the lock.
    let is_shared = flock(&root, FlockOperation::NonBlockingLockShared);
    let is_writable = || fstatvfs(&root).is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::RDONLY));
    if is_alone.and(is_shared) == Err(Errno::AGAIN) && is_writable() {
        let rootfs = Error::usage(
            format_args!("warning: another container writes to rootfs {}", config.rootfs.to_string_lossy()),
            "each sees the changes of the other: use --read-only or --overlay",
        );
        print::complain(&rootfs);
    }
    Some(root)
}

/// Whether a directory is `root`, or below it in the same file system.
fn is_in(directory: &Source, root: &Stat) -> bool {
    let number = |stat: &Stat| (stat.st_dev, stat.st_ino);
    let above = |below: &OwnedFd| openat(below, c"..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
    let (mut at, mut found) = (above(&directory.fd), directory.found);
    while number(&found) != number(root) {
        let Some(next) = at.as_ref().and_then(|fd| fstat(fd).ok()) else { return false };
        // Only the root of all is above itself.
        if next.st_dev != root.st_dev || number(&next) == number(&found) {
            return false;
        }
        (at, found) = (at.as_ref().and_then(above), next);
    }
    true
}

/// A copy of the host's mounts from a directory or file on, not attached anywhere; with those below it, or without.
pub fn copy_tree(at: impl AsFd, is_recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, is_recursive);
    open_tree(at, c"", flags)
}
