//! The launcher's memory: pieces of a block that is there already, then of blocks that are mapped, in lists by size
//! once they are free. Large pieces are mappings of their own.
//!
//! A start takes 7 kB in hundreds of pieces, with a bridge 20 kB, and then the launcher waits. Must only be used by
//! one thread, which is all that the launcher has.

use linux_raw_sys::general as uapi;
use sc::syscall;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;

/// The size of the first block: no start maps another one.
const FIRST: usize = 32 << 10;
/// The size of the others.
const BLOCK: usize = 64 << 10;
/// The largest piece of a block.
const LARGEST: usize = 16 << 10;
/// Pieces of a block are aligned to this, and have at least as many bytes: room for the address of the next free one.
const UNIT: usize = 8;
/// The lists of free pieces, with one for each size of up to [`LARGEST`] that [`Class`] makes.
const LISTS: usize = 40;
/// What mappings are aligned to, at least.
const PAGE: usize = 4096;

// The unit tests have several threads, and the allocator of std.
#[cfg_attr(not(test), global_allocator)]
#[cfg_attr(test, expect(dead_code))]
static HEAP: Heap = Heap::new({
    static mut BLOCK: [u64; FIRST / UNIT] = [0; FIRST / UNIT];
    (&raw mut BLOCK).cast()
});

struct Heap {
    /// Behind the last piece that the newest block has given away.
    top: Cell<*mut u8>,
    /// The end of that block.
    end: Cell<*mut u8>,
    /// The first free piece of each size. Each piece begins with the address of the next one.
    free: [Cell<*mut u8>; LISTS],
}

// SAFETY: the launcher has one thread and no signal handler.
unsafe impl Sync for Heap {}

/// The size of a piece: four of them between a power of two and the next, so that at most a fifth of it is lost.
struct Class {
    size: usize,
    list: usize,
}

impl Class {
    /// `None` for a mapping of its own.
    fn of(layout: Layout) -> Option<Self> {
        if layout.size() > LARGEST || layout.align() > UNIT {
            return None;
        }
        let shift = layout.size().max(8 * UNIT).next_power_of_two().ilog2() as usize - 3;
        let units = (layout.size() + (1 << shift) - 1) >> shift;
        Some(Self { size: units << shift, list: units - 1 + 4 * (shift - 3) })
    }
}

impl Heap {
    /// A heap whose first block is there already.
    const fn new(block: *mut u8) -> Self {
        Self {
            top: Cell::new(block),
            end: Cell::new(block.wrapping_add(FIRST)),
            free: [const { Cell::new(ptr::null_mut()) }; LISTS],
        }
    }

    fn take(&self, class: &Class) -> *mut u8 {
        let list = &self.free[class.list];
        let piece = list.get();
        if !piece.is_null() {
            // SAFETY: a free piece begins with the address of the next one.
            list.set(unsafe { piece.cast::<*mut u8>().read() });
            return piece;
        }
        if self.end.get().addr() - self.top.get().addr() < class.size {
            let block = map(BLOCK);
            if block.is_null() {
                return block;
            }
            self.top.set(block);
            self.end.set(block.wrapping_add(BLOCK));
        }
        let piece = self.top.get();
        self.top.set(piece.wrapping_add(class.size));
        piece
    }

    fn is_last(&self, piece: *mut u8, class: &Class) -> bool {
        piece.wrapping_add(class.size) == self.top.get()
    }
}

// SAFETY: pieces in use never overlap: a new one is either behind all pieces of the newest block, or one that was given
// back and is on no list any more. `Class` has the same size for the same layout, so a piece goes back to the list of
// its size.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Class::of(layout) {
            Some(class) => self.take(&class),
            None if layout.align() > PAGE => ptr::null_mut(),
            None => map(layout.size()),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller passes a layout whose size is not zero.
        let piece = unsafe { self.alloc(layout) };
        // A mapping is all zeros, and is not touched before it is used.
        if !piece.is_null() && Class::of(layout).is_some() {
            // SAFETY: the piece has so many bytes, and nobody else has it.
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match Class::of(layout) {
            Some(class) if self.is_last(piece, &class) => self.top.set(piece),
            Some(class) => {
                let next = self.free[class.list].replace(piece);
                // SAFETY: a piece has room for an address, is aligned for it, and nobody uses this one any more.
                unsafe { piece.cast::<*mut u8>().write(next) };
            }
            // SAFETY: so long is the mapping, and nobody uses it any more.
            None => drop(unsafe { syscall!(MUNMAP, piece, layout.size()) }),
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the alignment is a layout's, and rounds the size up to isize::MAX at most, as the caller promises.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if let (Some(old), Some(new)) = (Class::of(layout), Class::of(new)) {
            if old.size == new.size {
                return piece;
            }
            if self.is_last(piece, &old) && new.size <= self.end.get().addr() - piece.addr() {
                self.top.set(piece.wrapping_add(new.size));
                return piece;
            }
        }
        // SAFETY: the caller passes a size that is not zero.
        let other = unsafe { self.alloc(new) };
        if !other.is_null() {
            // SAFETY: both have at least so many bytes, and nobody else has the new piece.
            unsafe { ptr::copy_nonoverlapping(piece, other, layout.size().min(size)) };
            // SAFETY: the piece has this layout, and the caller uses it no more.
            unsafe { self.dealloc(piece, layout) };
        }
        other
    }
}

/// `void *mmap(NULL, size_t length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)`; null if it fails.
fn map(size: usize) -> *mut u8 {
    let (access, flags) = (uapi::PROT_READ | uapi::PROT_WRITE, uapi::MAP_PRIVATE | uapi::MAP_ANONYMOUS);
    // SAFETY: a new mapping, wherever there is room.
    let address = unsafe { syscall!(MMAP, 0, size, access, flags, -1isize, 0) };
    super::check(address).map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Heap {
        /// One with a first block of its own.
        fn leak() -> Self {
            Self::new(Box::leak(Box::new([0u64; FIRST / UNIT])).as_mut_ptr().cast())
        }

        fn make(&self, size: usize, align: usize) -> *mut u8 {
            // SAFETY: no test asks for nothing.
            unsafe { self.alloc(layout(size, align)) }
        }

        fn drop(&self, piece: *mut u8, size: usize, align: usize) {
            // SAFETY: each test gives back what it has, once, with its layout.
            unsafe { self.dealloc(piece, layout(size, align)) };
        }

        fn resize(&self, piece: *mut u8, old: usize, align: usize, size: usize) -> *mut u8 {
            // SAFETY: each test passes a piece that it has, with its layout, and a size that is not zero.
            unsafe { self.realloc(piece, layout(old, align), size) }
        }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap_or_else(|_| Layout::new::<u8>())
    }

    /// A piece of memory, full of the same byte.
    struct Piece {
        start: *mut u8,
        size: usize,
        align: usize,
        byte: u8,
    }

    impl Piece {
        fn fill(start: *mut u8, size: usize, align: usize, byte: u8) -> Self {
            assert!(!start.is_null() && start.addr().is_multiple_of(align), "{start:p}: {size} bytes at {align}");
            // SAFETY: the piece is of that size, and in use.
            unsafe { start.write_bytes(byte, size) };
            Self { start, size, align, byte }
        }

        fn is_whole(&self) -> bool {
            has_only(self.start, self.size, self.byte)
        }
    }

    fn has_only(start: *mut u8, length: usize, byte: u8) -> bool {
        // SAFETY: so many bytes of a piece in use, or more, have been written.
        unsafe { std::slice::from_raw_parts(start, length) }.iter().all(|other| *other == byte)
    }

    #[test]
    fn pieces_of_memory_never_overlap() {
        let heap = Heap::leak();
        let (mut pieces, mut state): (Vec<Piece>, u32) = (Vec::new(), 1);
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % below
        };
        for round in 0..20_000 {
            let largest = [300, 300, 300, 5_000, 2 * LARGEST][random(5)];
            let (action, size, align, back) = (random(5), 1 + random(largest), 1 << random(7), 1 + random(4));
            let old = pieces.len().checked_sub(back).map(|index| pieces.remove(index));
            match (action, old) {
                (0 | 1, Some(old)) => {
                    assert!(old.is_whole());
                    heap.drop(old.start, old.size, old.align);
                }
                (2, Some(old)) => {
                    let start = heap.resize(old.start, old.size, old.align, size);
                    assert!(has_only(start, size.min(old.size), old.byte));
                    pieces.push(Piece::fill(start, size, old.align, old.byte));
                }
                (3, old) => {
                    pieces.extend(old);
                    // SAFETY: the size is not zero.
                    let start = unsafe { heap.alloc_zeroed(layout(size, align)) };
                    assert!(has_only(start, size, 0));
                    pieces.push(Piece::fill(start, size, align, round as u8));
                }
                (_, old) => {
                    pieces.extend(old);
                    pieces.push(Piece::fill(heap.make(size, align), size, align, round as u8));
                }
            }
        }
        assert!(pieces.iter().all(Piece::is_whole));
    }

    #[test]
    fn each_size_has_a_list_and_wastes_at_most_a_fifth() {
        let mut last = 0;
        for size in 1..=LARGEST {
            let class = Class::of(layout(size, 1)).unwrap_or(Class { size: 0, list: 0 });
            assert!(class.size >= size && class.size.is_multiple_of(UNIT), "{size}: {}", class.size);
            assert!(class.size - size < UNIT.max(class.size.div_ceil(5)), "{size}: {}", class.size);
            assert!(class.list == last || class.list == last + 1, "{size}: list {}", class.list);
            last = class.list;
        }
        assert_eq!(last, LISTS - 1);
        assert!(Class::of(layout(LARGEST + 1, 1)).is_none());
    }

    /// What a supervisor does again and again for weeks takes no more memory each time.
    #[test]
    fn memory_is_used_again() {
        let heap = Heap::leak();
        let end = heap.end.get();
        for _ in 0..10_000 {
            let (a, b) = (heap.make(3_000, 1), heap.make(40, 1));
            let a = heap.resize(a, 3_000, 1, 40);
            let b = heap.resize(b, 40, 1, 3_000);
            heap.drop(a, 40, 1);
            heap.drop(b, 3_000, 1);
        }
        assert_eq!(heap.end.get(), end, "all of it fits in the first block");
    }

    #[test]
    fn the_last_piece_grows_where_it_is() {
        let heap = Heap::leak();
        let piece = heap.make(8, 8);
        assert_eq!(heap.resize(piece, 8, 8, 10_000), piece);
        let other = heap.make(8, 8);
        assert_ne!(heap.resize(piece, 10_000, 8, 12_000), piece);
        assert_eq!(heap.resize(other, 8, 8, 5), other, "of one class");
    }

    #[test]
    fn memory_that_cannot_be_had_is_null() {
        let (heap, huge) = (Heap::leak(), isize::MAX as usize - PAGE);
        // SAFETY: the size is not zero.
        assert!(heap.make(huge, 1).is_null() && unsafe { heap.alloc_zeroed(layout(huge, 1)) }.is_null());
        assert!(heap.make(1, 2 * PAGE).is_null());
        let piece = Piece::fill(heap.make(8, 8), 8, 8, 7);
        assert!(heap.resize(piece.start, 8, 8, huge).is_null());
        assert!(piece.is_whole(), "it stays");
    }
}
