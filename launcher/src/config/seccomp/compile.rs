//! Compiles the rules of a profile into a filter: for each architecture a tree over ranges of call numbers, and behind
//! it the code for the calls whose arguments decide.
//!
//! The rules mean what they mean to libseccomp. Must not know how a profile is written.

use super::calls::{self, Calls};
use crate::gather::Gather;
use crate::text::place_of;
use kontena_init::bpf::{self, LOAD, Next, Program};
use linux_raw_sys::errno::ENOSYS;
use linux_raw_sys::ptrace::*;

/// The most instructions that the kernel takes; BPF_MAXINSNS.
const MOST: usize = 4096;

/// A profile.
pub struct Rules<'a> {
    /// The action for all other calls; SECCOMP_RET_*.
    pub default: u32,
    /// Whether it is for i386, too.
    pub i386: bool,
    /// Whether it is for x32, too.
    pub x32: bool,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Names of calls, sorted, and the place of a rule for each; the names that no rule is for have [`NO_RULE`].
    pub names: Vec<(&'a str, usize)>,
}

/// The place of no rule.
pub const NO_RULE: usize = usize::MAX - 1;

/// What happens to a call, if all conditions are true.
#[derive(Clone, Copy)]
pub struct Rule {
    /// SECCOMP_RET_*.
    pub action: u32,
    /// Conditions on different arguments.
    pub conditions: &'static [Condition],
}

/// A condition on an argument.
#[derive(Clone, Copy)]
pub struct Condition {
    /// Which argument, from 0 on.
    pub argument: u32,
    /// The comparison.
    pub test: Test,
    /// Whether it must be false.
    pub negated: bool,
    /// The bits of the argument that count.
    pub mask: u64,
    /// The value that they are compared with.
    pub value: u64,
}

/// A comparison of an argument with a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// ==
    Equal,
    /// \>=
    AtLeast,
    /// \>
    Above,
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = linux_raw_sys::ptrace::AUDIT_ARCH_X86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = linux_raw_sys::ptrace::AUDIT_ARCH_AARCH64;
#[cfg(target_arch = "riscv64")]
const ARCH: u32 = linux_raw_sys::ptrace::AUDIT_ARCH_RISCV64;

/// Calls of x32 have this bit, and x86_64's architecture.
const X32: u32 = 0x4000_0000;

/// Calls of an architecture that the profile is not for.
const FOREIGN: Next = Next::Return(SECCOMP_RET_KILL_PROCESS);

/// The filter, each struct sock_filter behind the other; `None` if it is too long for the kernel.
pub fn compile(rules: &Rules<'_>) -> Option<Vec<u8>> {
    let mut code = vec![sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; MOST];
    let mut compiler = Compiler { rules, program: Program::new(&mut code), is_wide: false };
    let other = compiler.foreign();
    let ours = compiler.native();
    let is_ours = compiler.program.branch(BPF_JEQ, ARCH, ours, other);
    compiler.program.step(LOAD, bpf::ARCH, is_ours);
    let start = MOST.checked_sub(compiler.program.length())?;
    let mut bytes = Vec::new();
    for sock_filter { code, jt, jf, k } in code.get(start..)? {
        bytes.extend_from_slice(&code.to_le_bytes());
        bytes.extend_from_slice(&[*jt, *jf]);
        bytes.extend_from_slice(&k.to_le_bytes());
    }
    Some(bytes)
}

struct Compiler<'a> {
    rules: &'a Rules<'a>,
    program: Program<'a>,
    /// Whether arguments have 64 bits. As with libseccomp, those of x32 count as 32 bits.
    is_wide: bool,
}

/// The comparison of a lower half with a value: the argument, the upper half that was found, and where it is.
#[derive(Clone, Copy)]
struct Compared {
    argument: u32,
    upper: u32,
    at: Next,
}

/// Ranges of numbers: where each begins, and what happens in it.
struct Ranges {
    starts: Vec<u32>,
    next: Vec<Next>,
}

impl Ranges {
    /// Everything from `start` on goes on with `next`.
    fn begin(&mut self, start: u32, next: Next) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.next.pop();
        }
        if self.next.last() != Some(&next) {
            self.starts.push(start);
            self.next.push(next);
        }
    }
}

impl Rules<'_> {
    /// The names that are `name`, with the places of their rules.
    fn named(&self, name: &str) -> &[(&str, usize)] {
        let start = self.names.partition_point(|(known, _)| *known < name);
        let rest = self.names.get(start..).unwrap_or_default();
        let end = rest.iter().take_while(|(known, _)| *known == name).count();
        rest.get(..end).unwrap_or_default()
    }

    /// The rules for a name.
    fn of(&self, name: &str) -> impl Iterator<Item = &Rule> {
        self.named(name).iter().filter_map(|(_, place)| self.rules.get(*place))
    }
}

/// Whether a call is carried out with this action.
fn permits(action: u32) -> bool {
    matches!(action & SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ALLOW | SECCOMP_RET_LOG | SECCOMP_RET_TRACE)
}

impl Compiler<'_> {
    /// The code for calls of this architecture.
    fn native(&mut self) -> Next {
        let mut ranges = self.ranges();
        self.is_wide = true;
        let end = self.add(&mut ranges, calls::NATIVE, 0, "");
        self.end(&mut ranges, end);
        #[cfg(target_arch = "x86_64")]
        {
            ranges.begin(X32, if self.rules.x32 { Next::Return(self.rules.default) } else { FOREIGN });
            if self.rules.x32 {
                self.is_wide = false;
                let shared = self.add(&mut ranges, calls::NATIVE, X32, calls::X32.names);
                let own = self.add(&mut ranges, &[calls::X32], X32, "");
                self.end(&mut ranges, own.or(shared));
            }
            // (u32)-1 is no call, and skips one when a tracer sets it; seccomp(2).
            ranges.begin(2 * X32, self.beyond());
        }
        self.search(&ranges)
    }

    /// The code for those of others.
    #[cfg(target_arch = "x86_64")]
    fn foreign(&mut self) -> Next {
        if !self.rules.i386 {
            return FOREIGN;
        }
        let mut ranges = self.ranges();
        let end = self.add(&mut ranges, &[calls::I386, calls::COMMON], 0, "");
        self.end(&mut ranges, end);
        let i386 = self.search(&ranges);
        self.program.branch(BPF_JEQ, AUDIT_ARCH_I386, i386, FOREIGN)
    }
    #[cfg(not(target_arch = "x86_64"))]
    fn foreign(&mut self) -> Next {
        FOREIGN
    }

    fn ranges(&self) -> Ranges {
        Ranges { starts: vec![0], next: vec![Next::Return(self.rules.default)] }
    }

    fn search(&mut self, ranges: &Ranges) -> Next {
        let tree = self.program.search(&ranges.starts, &ranges.next);
        self.program.step(LOAD, bpf::NUMBER, tree)
    }

    /// What happens to calls that are newer than all that the profile names: as with runc, they are unknown. A C
    /// library takes no other errno for a reason to fall back to an older call.
    fn beyond(&self) -> Next {
        let default = self.rules.default;
        Next::Return(if permits(default) { default } else { SECCOMP_RET_ERRNO | ENOSYS })
    }

    /// Ends the calls that have names.
    fn end(&self, ranges: &mut Ranges, end: Option<u32>) {
        if let Some(end) = end {
            ranges.begin(end, self.beyond());
        }
    }

    /// Adds the calls of tables, but for some names; all numbers have `bit`. Returns the number behind the last one.
    fn add(&mut self, ranges: &mut Ranges, tables: &[Calls], bit: u32, but: &str) -> Option<u32> {
        let mut end = None;
        for table in tables {
            for (number, name) in (bit + table.first..).zip(table.names.split(' ')) {
                if place_of(name, but).is_some() {
                    continue;
                }
                if let Some(next) = self.call(name) {
                    ranges.begin(number, next);
                    ranges.begin(number + 1, Next::Return(self.rules.default));
                    end = Some(number + 1);
                }
            }
        }
        end
    }

    /// What happens to the calls of a name, if the profile has it.
    fn call(&mut self, name: &str) -> Option<Next> {
        let rules = self.rules;
        let parts = parts(rules, name);
        if parts.is_empty() && rules.named(name).is_empty() {
            return None;
        }
        let default = Next::Return(rules.default);
        let all = rules.of(name).chain(&parts).list();
        // As with libseccomp, whether it is the first rule or the last one.
        if let Some(rule) = all.iter().find(|rule| rule.conditions.is_empty()) {
            return Some(Next::Return(rule.action));
        }
        let (mut next, mut compared) = (default, None);
        for rule in all.into_iter().rev() {
            let (other, behind) = (next, compared);
            next = Next::Return(rule.action);
            for condition in rule.conditions.iter().rev() {
                (next, compared) = self.condition(condition, next, other, behind);
            }
        }
        Some(next)
    }

    /// Goes on with `then` or `other`. Where the lower half of the same argument is compared `behind` this, with the
    /// same upper half, it need not be loaded again. Also returns where this compares it.
    fn condition(
        &mut self,
        condition: &Condition,
        then: Next,
        other: Next,
        behind: Option<Compared>,
    ) -> (Next, Option<Compared>) {
        let &Condition { argument, test, negated, mask, value } = condition;
        let (lower, upper) = (bpf::argument(argument), bpf::argument(argument) + 4);
        let (low, high) = (value as u32, (value >> 32) as u32);
        let (yes, no) = if negated { (other, then) } else { (then, other) };
        let program = &mut self.program;
        if test != Test::Equal {
            let above = if test == Test::Above { BPF_JGT } else { BPF_JGE };
            let mut next = program.branch(above, low, yes, no);
            next = program.step(LOAD, lower, next);
            if self.is_wide {
                next = program.branch(BPF_JEQ, high, next, no);
                next = program.branch(BPF_JGT, high, yes, next);
                next = program.step(LOAD, upper, next);
            }
            return (next, None);
        }
        let is_whole = mask == u64::MAX && !negated;
        let behind = behind.filter(|behind| is_whole && (behind.argument, behind.upper) == (argument, high));
        let (mut next, at) = self.compare(lower, mask as u32, low, yes, behind.map_or(no, |behind| behind.at));
        if self.is_wide && mask >> 32 != 0 {
            (next, _) = self.compare(upper, (mask >> 32) as u32, high, next, no);
        }
        (next, is_whole.then_some(Compared { argument, upper: high, at }))
    }

    /// Whether the word at an offset is `value` in the bits of `mask`; and the place of the comparison alone.
    fn compare(&mut self, offset: u32, mask: u32, value: u32, then: Next, other: Next) -> (Next, Next) {
        let at = self.program.branch(BPF_JEQ, value, then, other);
        let masked = match mask {
            u32::MAX => at,
            mask => self.program.step(BPF_ALU | BPF_AND | BPF_K, mask, at),
        };
        (self.program.step(LOAD, offset, masked), at)
    }
}

/// The rules for a call of i386 that makes others, from the rules for those.
#[cfg(target_arch = "x86_64")]
fn parts(rules: &Rules<'_>, name: &str) -> Vec<Rule> {
    let mut parts = Vec::new();
    let calls = calls::MULTIPLEXED.iter().find(|(makes, _)| *makes == name).map_or("", |(_, calls)| calls);
    for (value, call) in (1..).zip(calls.split(' ')) {
        for rule in rules.of(call) {
            // The arguments of the other call are in memory: a condition cannot be checked, and nothing is permitted
            // by one.
            if rule.conditions.is_empty() || !permits(rule.action) {
                // The upper bits of the first argument are a version; ipc(2).
                let is_it = Condition { argument: 0, test: Test::Equal, negated: false, mask: 0xffff, value };
                parts.push(Rule { action: rule.action, conditions: Vec::leak(vec![is_it]) });
            }
        }
    }
    parts
}
#[cfg(not(target_arch = "x86_64"))]
fn parts(_: &Rules<'_>, _: &str) -> Vec<Rule> {
    Vec::new()
}
