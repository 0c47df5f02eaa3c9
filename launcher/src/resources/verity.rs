//! `--verify`: a dm-verity device over an image. The kernel checks each block when it reads it, by the hash tree behind
//! the image, and the root hash; a block that is not the right one is EIO. `xtask/image/src/verity.rs` writes the tree.
//!
//! An attacker with write access to the file can only make reads fail, at any time. The root hash commits to the blocks
//! and to the salt: 32 bytes before the 4096 of a block, so neither can stand for a part of the other. It does not
//! commit to the number of blocks: that is what file system and config say when the device reads them. All other fields
//! have one value. Must not use what was read without the device, but to make the device.
//!
//! A device goes with its last mount. One whose launcher was killed before anybody had it open goes by [`sweep`].

use crate::config::image::{FileSystem, Image, root_hash};
use crate::config::wrong;
use crate::error::{Context, Error, Result};
use crate::file::{self, CWD};
use crate::resources::image::{self, BLOCK, at};
use crate::sys::{self, DM_IOCTL_SIZE};
use crate::text::random_name;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, major, makedev, minor, mknodat, openat};
use rustix::io::{self, Errno};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::ffi::CStr;
use std::fmt::Write;

/// What the names of our devices begin with. A device's UUID is its name, so that nobody else's is taken for one.
const MARK: &str = "kontena-verity-";
/// Sectors in a block.
const SECTORS: u64 = 8;
/// Digests in a block of the tree.
const DIGESTS: u64 = 128;
/// How often other launchers may sweep the device before it is open.
const ATTEMPTS: u32 = 64;
/// Bytes for the names of all devices of a machine.
const NAMES: usize = 1 << 16;

// linux/dm-ioctl.h
const DM_LIST_DEVICES: u8 = 2;
const DM_DEV_CREATE: u8 = 3;
const DM_DEV_REMOVE: u8 = 4;
const DM_DEV_SUSPEND: u8 = 6;
const DM_TABLE_LOAD: u8 = 9;
const DM_READONLY: u32 = 1;
const DM_DEFERRED_REMOVE: u32 = 1 << 17;
/// MISC_MAJOR and MAPPER_CTRL_MINOR. To open it loads the module.
const CONTROL: (u32, u32) = (10, 236);

/// The image, if this is one, read by a device that checks it. `path` is what losetup(8) shows.
pub fn check(image: Option<Image>, path: &CStr, text: &str) -> Result<Option<Image>> {
    let root_hash = root_hash(text).map_err(|hint| wrong("--verify", text, hint))?;
    let what = format_args!("--verify {}", path.to_string_lossy());
    let Some(Image { fd: file, kind }) = image else {
        return Err(Error::usage(what, "only an image has a hash tree: make one with kontena-image"));
    };
    let Some(Tree { blocks, salt }) = Tree::find(&file, kind) else {
        let hint = "it has no hash tree, or is cut short: make it with kontena-image, and copy all of it";
        return Err(Error::usage(what, hint));
    };
    let make_device = || {
        let (device, _) = image::attach(&file, path)?;
        let number = fstat(&device)?.st_rdev;
        let (major, minor, start) = (major(number), minor(number), blocks + 1);
        let mut table =
            format!("1 {major}:{minor} {major}:{minor} {BLOCK} {BLOCK} {blocks} {start} sha256 {root_hash} ");
        for byte in salt {
            let _ = write!(table, "{byte:02x}");
        }
        make(blocks * SECTORS, &table)
    };
    let hint = "it needs root, and a kernel with CONFIG_DM_VERITY, CONFIG_CRYPTO_SHA256 and CONFIG_BLK_DEV_LOOP: \
                modprobe dm_verity loop";
    let fd = make_device().context(what, hint)?;
    if data_blocks(&fd, kind) != Some(blocks) {
        let hint = "this is not the image of that root hash: the image was changed, or the hash is of another";
        return Err(Error::usage(what, hint));
    }
    Ok(Some(Image { fd, kind }))
}

/// What the kernel has to know of a hash tree.
struct Tree {
    /// Of data. The superblock follows, and then the tree.
    blocks: u64,
    salt: [u8; 32],
}

impl Tree {
    /// Finds that of an image: of the one kind that there is, and all there.
    fn find(image: &OwnedFd, kind: FileSystem) -> Option<Self> {
        let blocks = data_blocks(image, kind)?;
        let start = blocks * BLOCK;
        // struct verity_sb: magic and version, UUID, algorithm, sizes of blocks, the number of them, length of the salt
        let versions = at(image, start)? == *b"verity\0\0\x01\0\0\0\x01\0\0\0";
        let algorithm = at(image, start + 32)? == *b"sha256\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let sizes = at(image, start + 64)? == *b"\0\x10\0\0\0\x10\0\0";
        let numbers = at(image, start + 72)? == blocks.to_le_bytes() && at(image, start + 80)? == 32_u64.to_le_bytes();
        let (mut level, mut end) = (blocks, blocks + 1);
        while level > 1 {
            level = level.div_ceil(DIGESTS);
            end += level;
        }
        let is_whole = fstat(image).ok()?.st_size as u64 / BLOCK >= end;
        let salt = at(image, start + 88)?;
        (versions && algorithm && sizes && numbers && is_whole).then_some(Self { blocks, salt })
    }
}

/// How many blocks file system and config have, as both of them say. Where there is no config, the number would be that
/// of anybody who can write the superblock: one who leaves the config out, for example.
fn data_blocks(image: &OwnedFd, kind: FileSystem) -> Option<u64> {
    let config = image::config_of(image, kind)?;
    let (length, _) = image::config_length(image, config)?;
    Some(config / BLOCK + (length as u64).div_ceil(BLOCK))
}

/// Removes the devices of launchers that were killed before they had them open, if there is a device mapper.
pub fn sweep() {
    if file::read_text(CWD, "/proc/misc").contains(" device-mapper")
        && let Ok(mapper) = Mapper::open()
    {
        mapper.sweep();
    }
}

/// The kernel's device mapper.
struct Mapper {
    control: OwnedFd,
    /// A directory for device nodes, which nobody else sees, and which goes with this process.
    nodes: OwnedFd,
}

/// Makes a read-only device of one dm-verity target, which goes when nobody has it open and nothing of it is mounted.
fn make(sectors: u64, table: &str) -> io::Result<OwnedFd> {
    let mapper = Mapper::open()?;
    mapper.sweep();
    // struct dm_target_spec: first sector, number of them, status, offset of the next, name
    let mut target = [[0; 8], sectors.to_ne_bytes(), [0; 8], *b"verity\0\0", [0; 8]].as_flattened().to_vec();
    target.extend_from_slice(table.as_bytes());
    target.push(0);
    for _ in 0..ATTEMPTS {
        let name = [MARK, random_name::<16>()].concat();
        match mapper.make(&name, &target) {
            Ok(device) => return Ok(device),
            Err(errno) => {
                let _ = mapper.ask(DM_DEV_REMOVE, &name, 0, &[]);
                // Another launcher has swept it.
                if errno != Errno::NXIO {
                    return Err(errno);
                }
            }
        }
    }
    Err(Errno::NXIO)
}

impl Mapper {
    fn open() -> io::Result<Self> {
        // Of its own: a board may have no udev, and no devtmpfs.
        let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let nodes = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let (major, minor) = CONTROL;
        let control = open_device(&nodes, "control", FileType::CharacterDevice, makedev(major, minor), OFlags::RDWR)?;
        Ok(Self { control, nodes })
    }

    fn make(&self, name: &str, target: &[u8]) -> io::Result<OwnedFd> {
        let made = self.ask(DM_DEV_CREATE, name, 0, &[])?;
        let number = made.get(40..48).and_then(|number| number.try_into().ok()).map_or(0, u64::from_ne_bytes);
        self.ask(DM_TABLE_LOAD, name, DM_READONLY, target)?;
        // Resumes it.
        self.ask(DM_DEV_SUSPEND, name, 0, &[])?;
        let device = open_device(&self.nodes, name, FileType::BlockDevice, number, OFlags::RDONLY)?;
        // Once nobody has it open any more. If another launcher has swept it, this fails, and the number may have been
        // that of another device.
        self.ask(DM_DEV_REMOVE, name, DM_DEFERRED_REMOVE, &[])?;
        Ok(device)
    }

    /// Removes all of our devices that nobody has open; the others are EBUSY. A launcher that was about to open one
    /// makes it again.
    fn sweep(&self) {
        let list = self.ask(DM_LIST_DEVICES, "", 0, &vec![0; NAMES]).unwrap_or_default();
        let mut rest = list.get(DM_IOCTL_SIZE..);
        // struct dm_name_list: device, offset of the next, name
        while let Some(entry) = rest
            && let Some((next, name)) = entry.get(8..).and_then(<[u8]>::split_first_chunk::<4>)
        {
            let name = CStr::from_bytes_until_nul(name).unwrap_or_default().to_str().unwrap_or_default();
            if name.starts_with(MARK) {
                let _ = self.ask(DM_DEV_REMOVE, name, 0, &[]);
            }
            let next = u32::from_ne_bytes(*next) as usize;
            rest = if next == 0 { None } else { entry.get(next..) };
        }
    }

    /// Asks for something about the device `name`, and returns the answer.
    fn ask(&self, command: u8, name: &str, flags: u32, body: &[u8]) -> io::Result<Vec<u8>> {
        // struct dm_ioctl: version, size, offset of the body, targets in it, open count, flags, event, padding; the
        // device, its name, which counts when it is made, and its UUID.
        let header = [4, 0, 0, 0, DM_IOCTL_SIZE as u32, 1, 0, flags, 0, 0, 0, 0].map(u32::to_ne_bytes);
        let mut request = header.as_flattened().to_vec();
        if command == DM_DEV_CREATE {
            request.extend_from_slice(name.as_bytes());
        }
        request.resize(48 + 128, 0);
        request.extend_from_slice(name.as_bytes());
        request.resize(DM_IOCTL_SIZE, 0);
        request.extend_from_slice(body);
        sys::device_mapper(&self.control, command, &mut request)?;
        Ok(request)
    }
}

fn open_device(at: impl AsFd, name: &str, kind: FileType, number: u64, flags: OFlags) -> io::Result<OwnedFd> {
    let name = file::c_path(name)?;
    mknodat(&at, &*name, kind, Mode::RUSR | Mode::WUSR, number)?;
    openat(at, &*name, flags | OFlags::CLOEXEC, Mode::empty())
}
