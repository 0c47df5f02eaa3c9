//! Memory for the life of the process, and strings in it; mmap(2), madvise(2). Must not know what is in it.

use super::Strings;
use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
use kontena_init::plan::List;
use linux_raw_sys::general as uapi;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::Gid;
use sc::syscall;

/// What most processes need: as much as there is room for in the page of the program's other variables. A mapping would
/// take page tables of its own, too.
const POOL: usize = 3 << 10;

/// How much is mapped at once: a multiple of every page size.
const MAPPING: usize = 64 << 10;

/// Zeroed memory of `length` bytes for the life of the process, aligned to 16: of the pool, or of a mapping that is
/// made where too little is left; mmap(2).
fn allocate(length: usize) -> Result<*mut u8> {
    static mut BLOCK: [u128; POOL / 16] = [0; POOL / 16];
    static NEXT: AtomicPtr<u8> = AtomicPtr::new((&raw mut BLOCK).cast());
    static LEFT: AtomicUsize = AtomicUsize::new(POOL);
    let length = length.next_multiple_of(16);
    let (mut next, mut left) = (NEXT.load(Relaxed), LEFT.load(Relaxed));
    if length > left {
        left = length + MAPPING;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice aliases nothing.
        next = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), left, protection, MapFlags::PRIVATE) }?.cast();
    }
    NEXT.store(next.wrapping_add(length), Relaxed);
    LEFT.store(left - length, Relaxed);
    Ok(next)
}

/// Room for so many groups, for the life of the process.
pub fn groups(count: usize) -> Result<&'static mut [Gid]> {
    let start = allocate(count * size_of::<Gid>())?;
    // SAFETY: zeroed, aligned, of that size, nobody else's and never unmapped; a Gid is a number, and zero is one.
    Ok(unsafe { core::slice::from_raw_parts_mut(start.cast(), count) })
}

/// Makes an array for execve(2) of the strings of a list, and of one more.
#[inline(never)]
pub fn strings(list: List<'static, &'static CStr>, mut last: Option<&'static CStr>) -> Result<Strings> {
    let array: *mut *const c_char = allocate((list.len() + 2) * size_of::<*const c_char>())?.cast();
    let mut strings = list.iter();
    for index in 0..=list.len() {
        let Some(string) = strings.next().or_else(|| last.take()) else { break };
        // SAFETY: there is room for two more pointers than the list has, and index is at most their number.
        let place = unsafe { array.add(index) };
        // SAFETY: the memory is aligned for it, and nobody else's.
        unsafe { place.write(string.as_ptr()) };
    }
    // SAFETY: the element behind the last one written is still zero; the memory is never unmapped.
    Ok(unsafe { Strings::from_kernel(array) })
}

/// The parts, one behind the other, as a string for the life of the process.
pub fn concatenate(parts: [&[u8]; 2]) -> Result<&'static CStr> {
    let length = parts[0].len() + parts[1].len() + 1;
    let start = allocate(length)?;
    // SAFETY: `length` zeroed bytes that are nobody else's and never unmapped.
    let bytes = unsafe { core::slice::from_raw_parts_mut(start, length) };
    bytes[..parts[0].len()].copy_from_slice(parts[0]);
    bytes[parts[0].len()..length - 1].copy_from_slice(parts[1]);
    CStr::from_bytes_until_nul(bytes).map_err(|_| Errno::INVAL)
}

/// A file in memory, which can be given back.
pub struct Block(&'static [u8]);

impl Block {
    /// The whole of the file; see [`read_whole`].
    pub fn read(fd: OwnedFd) -> Result<Self> {
        // Alone on its pages, where it is not in the pool.
        read_in_units(&fd, usize::MAX - MAPPING, MAPPING).map(Self)
    }

    /// What is in it, for those who borrow it.
    pub fn bytes(&self) -> &[u8] {
        self.0
    }

    /// What is in it, which then stays for the life of the process.
    pub fn keep(self) -> &'static [u8] {
        self.0
    }

    /// Gives it back where it is a mapping: `int madvise(void *addr, size_t length, MADV_DONTNEED)`.
    pub fn give_back(self) {
        if self.0.len() >= POOL {
            // SAFETY: the block has its pages for itself, see `read`, and nothing refers to it any more: all borrows
            // have ended, and `keep` would have taken it. The kernel refuses an address that is not where a
            // page begins.
            unsafe { syscall!(MADVISE, self.0.as_ptr(), self.0.len(), uapi::MADV_DONTNEED) };
        }
    }
}

/// The whole of a file, in memory for the life of the process; EFBIG beyond `limit` bytes.
pub fn read_whole(fd: &OwnedFd, limit: usize) -> Result<&'static [u8]> {
    read_in_units(fd, limit, 1)
}

/// The same, in memory of a multiple of `unit` bytes where the pool has not that much.
fn read_in_units(fd: &OwnedFd, limit: usize, unit: usize) -> Result<&'static [u8]> {
    let size = rustix::fs::fstat(fd)?.st_size as usize;
    if size > limit {
        return Err(Errno::FBIG);
    }
    let mut capacity = size + 1;
    if capacity > POOL {
        capacity = capacity.next_multiple_of(unit);
    }
    let start = allocate(capacity)?;
    // SAFETY: `capacity` zeroed bytes that are nobody else's and never unmapped.
    let buffer = unsafe { core::slice::from_raw_parts_mut(start, capacity) };
    let mut length = 0;
    while length < size {
        match rustix::io::pread(fd, &mut buffer[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(&buffer[..length])
}

/// The longest path, with its NUL.
pub const PATH_MAX: usize = uapi::PATH_MAX as usize;

/// Room for a string and its NUL, which [`terminate`] fills.
pub fn room<const LENGTH: usize>() -> [MaybeUninit<u8>; LENGTH] {
    [MaybeUninit::uninit(); LENGTH]
}

/// The bytes as a string, in `room`.
#[inline(never)]
pub fn terminate<'a>(bytes: &[u8], room: &'a mut [MaybeUninit<u8>]) -> Result<&'a CStr> {
    let text = room.get_mut(..=bytes.len()).ok_or(Errno::NAMETOOLONG)?;
    let (nul, start) = text.split_last_mut().ok_or(Errno::NAMETOOLONG)?;
    start.write_copy_of_slice(bytes);
    nul.write(0);
    // SAFETY: all of it has just been written: as many bytes as there are, and the NUL.
    CStr::from_bytes_with_nul(unsafe { text.assume_init_ref() }).map_err(|_| Errno::INVAL)
}
