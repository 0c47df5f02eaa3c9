//! Runs a filter as the kernel does (Documentation/networking/filter.rst), for the unit tests of both programs.

use linux_raw_sys::ptrace::*;

/// A system call, as struct seccomp_data has it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// AUDIT_ARCH_*.
    pub arch: u32,
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a filter returns for a call, and how many instructions that takes.
pub fn evaluate(filter: &[sock_filter], call: Call) -> (u32, usize) {
    let load = |offset: u32| match offset {
        0 => call.number,
        4 => call.arch,
        // Little-endian: the lower half of an argument comes first.
        16..64 if offset.is_multiple_of(4) => {
            let argument = call.arguments[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
        }
        _ => panic!("loads from offset {offset}"),
    };
    let (mut accumulator, mut next, mut steps) = (0u32, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = *filter.get(next).expect("runs off its end");
        next += 1;
        steps += 1;
        let mut branch = |taken: bool| next += usize::from(if taken { jt } else { jf });
        match u32::from(code) {
            code if code == BPF_LD | BPF_W | BPF_ABS => accumulator = load(k),
            code if code == BPF_RET | BPF_K => return (k, steps),
            code if code == BPF_ALU | BPF_SUB | BPF_K => accumulator = accumulator.wrapping_sub(k),
            code if code == BPF_ALU | BPF_AND | BPF_K => accumulator &= k,
            code if code == BPF_JMP | BPF_JA => next += k as usize,
            code if code == BPF_JMP | BPF_JEQ | BPF_K => branch(accumulator == k),
            code if code == BPF_JMP | BPF_JGT | BPF_K => branch(accumulator > k),
            code if code == BPF_JMP | BPF_JGE | BPF_K => branch(accumulator >= k),
            code if code == BPF_JMP | BPF_JSET | BPF_K => branch(accumulator & k != 0),
            code => panic!("no instruction of a seccomp filter: {code:#x}"),
        }
    }
}
