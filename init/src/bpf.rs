//! Filters of system calls in classic BPF, made from the end to the beginning; seccomp(2), linux/filter.h.
//!
//! Jumps lead only forward, so whatever an instruction leads to is there before it. A conditional jump passes over at
//! most 255 instructions: if its target is farther away, a return is repeated, or a jump without a condition put in
//! between. The compiler runs this for the init's own filter, and the launcher for a profile. Must not know any system
//! call.

use linux_raw_sys::ptrace::*;

/// Loads the word at an offset of struct seccomp_data.
pub const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
/// The offset of the call's number.
pub const NUMBER: u32 = 0;
/// The offset of the architecture.
pub const ARCH: u32 = 4;

/// The offset of the lower half of an argument, on a little-endian machine; the upper half is four bytes behind it.
pub const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// What a filter goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It ends with this action; SECCOMP_RET_*.
    Return(u32),
    /// An instruction, counted from the last one, which is 1.
    At(usize),
}

/// A filter in the making.
pub struct Program<'a> {
    code: &'a mut [sock_filter],
    length: usize,
}

/// As far as one of two jumps may lead: the other one may need an instruction in between.
const NEAR: usize = 254;

impl<'a> Program<'a> {
    /// An empty one. Its instructions are put at the end of `code`.
    pub const fn new(code: &'a mut [sock_filter]) -> Self {
        Self { code, length: 0 }
    }

    /// How many instructions it has. If that is more than there is room for, it is incomplete.
    pub const fn length(&self) -> usize {
        self.length
    }

    const fn put(&mut self, code: u32, jt: usize, jf: usize, k: u32) -> Next {
        if self.length < self.code.len() {
            let place = self.code.len() - 1 - self.length;
            self.code[place] = sock_filter { code: code as u16, jt: jt as u8, jf: jf as u8, k };
        }
        self.length += 1;
        Next::At(self.length)
    }

    /// The place of an instruction that goes on with `next`: the next one would pass over at most `limit` to get there.
    const fn reach(&mut self, next: Next, limit: usize) -> usize {
        match next {
            Next::At(place) if self.length - place <= limit => return place,
            Next::At(place) => self.put(BPF_JMP | BPF_JA, 0, 0, (self.length - place) as u32),
            Next::Return(action) => {
                let mut distance = 0;
                while distance <= limit && distance < self.length && self.length <= self.code.len() {
                    let sock_filter { code, k, .. } = self.code[self.code.len() - self.length + distance];
                    if code as u32 == BPF_RET | BPF_K && k == action {
                        return self.length - distance;
                    }
                    distance += 1;
                }
                self.put(BPF_RET | BPF_K, 0, 0, action)
            }
        };
        self.length
    }

    /// An instruction that goes on with `next`: [`LOAD`] of an offset, or arithmetic.
    pub const fn step(&mut self, code: u32, k: u32, next: Next) -> Next {
        self.reach(next, 0);
        self.put(code, 0, 0, k)
    }

    /// A comparison with `k`: BPF_JEQ, BPF_JGT, BPF_JGE or BPF_JSET.
    pub const fn branch(&mut self, test: u32, k: u32, then: Next, other: Next) -> Next {
        let other = self.reach(other, NEAR);
        let then = self.reach(then, NEAR);
        self.put(BPF_JMP | test | BPF_K, self.length - then, self.length - other, k)
    }

    /// Finds the last of the ascending `starts` that is not above the loaded word, by halving, and goes on as the same
    /// place of `next` says. There is at least one, and the first is 0.
    pub const fn search(&mut self, starts: &[u32], next: &[Next]) -> Next {
        if starts.len() == 1 {
            return next[0];
        }
        let middle = starts.len().div_ceil(2);
        let ((_, upper), (lower_next, upper_next)) = (starts.split_at(middle), next.split_at(middle));
        let then = self.search(upper, upper_next);
        let other = self.search(starts.split_at(middle).0, lower_next);
        self.branch(BPF_JGE, upper[0], then, other)
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic)]
pub mod evaluate;
#[cfg(test)]
mod tests;
