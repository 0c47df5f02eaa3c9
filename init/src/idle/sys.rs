//! The memory that is given back, and the system call that waits without it: all `unsafe` of this library.

use core::ptr;
use linux_raw_sys::general::{MADV_DONTDUMP, MADV_DONTNEED};
use sc::syscall;

const PAGE: usize = 4096;
/// More bytes than the code of [`wait`] has, and than it has of the stack.
const LENGTH: usize = 512;
/// How much of the stack is looked at; nothing here goes deeper.
const STACK: usize = 128 * 1024;

unsafe extern "C" {
    // The linker's: where the program's pages begin, and where those end that nobody writes to.
    static __executable_start: u8;
    static etext: u8;
}

/// Makes the system call `number`, which waits, with this program's and the stack's pages given back before; the raw
/// result.
///
/// # Safety
/// As for the system call itself.
#[inline(never)]
pub unsafe fn wait(number: usize, arguments: [usize; 5]) -> usize {
    let [a, b, c, d, e] = arguments;
    let page = |address: usize| address & !(PAGE - 1);
    let start = page(&raw const __executable_start as usize);
    let end = page(&raw const etext as usize + PAGE - 1);
    let here = page(wait as *const () as usize).max(start);
    // This function may cross into the next page.
    let behind = (page(wait as *const () as usize + LENGTH) + PAGE).min(end);
    // With room for what this function keeps below its arguments, and the red zone.
    let stack = page(ptr::addr_of!(a) as usize - LENGTH);
    // What is to stay gets a mapping of its own, or a page fault would bring its neighbours back: they are told apart
    // by whether a core dump has them, which a process that is not dumpable does not have.
    // SAFETY: changes a flag of mappings that exist.
    unsafe { syscall!(MADVISE, start, here - start, MADV_DONTDUMP) };
    // SAFETY: changes a flag of mappings that exist.
    unsafe { syscall!(MADVISE, behind, end - behind, MADV_DONTDUMP) };
    // SAFETY: nobody keeps anything there, below the stack pointer and the red zone; where the stack does not reach so
    // far down, nothing else is mapped, since the kernel keeps a gap of 1 MB (stack_guard_gap).
    unsafe { syscall!(MADVISE, stack - STACK, STACK, MADV_DONTNEED) };
    // SAFETY: a private mapping that this process cannot write to, of a file that nobody can as long as it runs
    // (ETXTBSY, or the seals of a memfd): the same comes back.
    unsafe { syscall!(MADVISE, start, end - start, MADV_DONTNEED) };
    // SAFETY: the caller promises that the arguments are good for the call.
    unsafe { sc::syscall5(number, a, b, c, d, e) }
}
