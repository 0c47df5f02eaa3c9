//! Where the C start-up code hands over, and the arguments on the initial stack.

use super::{SIG_DFL, SIG_IGN, check, exit, ignore_sigpipe, look_at_fd, set_signal};
use linux_raw_sys::general as uapi;
use sc::syscall;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

unsafe extern "C" {
    /// The environment: an array of strings that ends with NULL; environ(7).
    static mut environ: *const *const c_char;
}

/// Takes the place of the C library's own, which prepares what nothing here uses: memory of threads, for two system
/// calls, and what is called at exit. A debug build has that, for the messages of panics.
// SAFETY: the linker takes this symbol, and so does not look for the archive's member that has the other. Of the C
// library only memcpy and its kin are called, which need no thread pointer.
#[cfg(not(any(test, debug_assertions)))]
#[unsafe(no_mangle)]
extern "C" fn __libc_start_main(_main: *const (), argc: c_int, argv: *const *const c_char) -> ! {
    // SAFETY: execve(2) puts the environment behind the arguments and their NULL.
    let environment = unsafe { argv.add(argc as usize + 1) };
    // SAFETY: there is a single thread, and nothing has read it yet.
    unsafe { environ = environment };
    main(argc, argv);
    exit(125)
}

/// Where the C start-up code hands over: what Rust's own does here takes 5 kB. The unit tests have that.
// SAFETY: no other symbol of this name is linked in: the crate has no Rust `main` (`no_main`).
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, expect(dead_code))]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // What is opened later must not take the place of one that the caller has closed.
    while (0..3).any(|number| look_at_fd(number).is_err()) {
        // SAFETY: a NUL-terminated path. The lowest number that is free is one of the three.
        if check(unsafe { syscall!(OPENAT, uapi::AT_FDCWD, c"/dev/null".as_ptr(), uapi::O_RDWR) }).is_err() {
            exit(125);
        }
    }
    ignore_sigpipe();
    // A file beyond the limit of its size is an error of write(2), too.
    set_signal(uapi::SIGXFSZ, SIG_IGN);
    // Where the caller has it ignored, the kernel reaps the container's PID 1, and its exit status is lost.
    set_signal(uapi::SIGCHLD, SIG_DFL);
    let mut arguments = Vec::new();
    for index in 0..argc as usize {
        // SAFETY: execve(2) puts an array of `argc` pointers on the initial stack, where it stays.
        let place = unsafe { argv.add(index) };
        // SAFETY: `index` is below `argc`, so a pointer is there.
        let argument = unsafe { *place };
        // SAFETY: a NUL-terminated string, copied before `set_title` can change it.
        let bytes = unsafe { CStr::from_ptr(argument) }.to_bytes();
        let end = argument.cast_mut().cast::<u8>().wrapping_add(bytes.len());
        if index == 0 {
            TITLE.store(end.wrapping_add(1), Ordering::Relaxed);
        }
        TITLE_END.store(end, Ordering::Relaxed);
        arguments.push(OsStr::from_bytes(bytes).to_owned());
    }
    crate::start(arguments.leak())
}

/// Where the argument behind the program's name begins, and the NUL of the last one.
static TITLE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static TITLE_END: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// What /proc/PID/cmdline shows from now on behind the program's name, instead of its arguments: as many of `words` as
/// there is room for.
pub fn set_title(words: &[&str]) {
    let start = TITLE.load(Ordering::Relaxed);
    let length = TITLE_END.load(Ordering::Relaxed).addr().saturating_sub(start.addr());
    if length == 0 {
        return;
    }
    // SAFETY: execve(2) puts the arguments one behind the other on the initial stack, which can be written to; `main`
    // has copied them, and nothing else refers to them.
    let mut place = unsafe { std::slice::from_raw_parts_mut(start, length) };
    place.fill(0);
    for word in words {
        let Some((here, rest)) = place.split_at_mut_checked(word.len()) else { return };
        here.copy_from_slice(word.as_bytes());
        place = rest.get_mut(1..).unwrap_or_default();
    }
}

/// `char *getenv(const char *name)`: a variable of this process's environment, which nothing here changes.
pub fn variable(name: &str) -> Option<&'static OsStr> {
    // SAFETY: it is set before `main`, and nobody sets it after that.
    let mut place = unsafe { environ };
    loop {
        // SAFETY: an array of strings that ends with NULL, which has not been reached yet.
        let text = unsafe { *place };
        if text.is_null() {
            return None;
        }
        // SAFETY: a NUL-terminated string on the initial stack, where it stays.
        let text = unsafe { CStr::from_ptr(text) }.to_bytes();
        if let Some(value) = text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            return Some(OsStr::from_bytes(value));
        }
        // SAFETY: the end has not been reached.
        place = unsafe { place.add(1) };
    }
}
