//! Programs of any length reach what they lead to.

extern crate std;
use super::evaluate::{Call, evaluate};
use super::*;
use std::vec;
use std::vec::Vec;

const KILL: u32 = 0;
const NOTHING: sock_filter = sock_filter { code: 0, jt: 0, jf: 0, k: 0 };

/// The program that answers a call whose number is `starts[n]` or above with `next[n]`.
fn program(starts: &[u32], next: &[Next], room: usize) -> (Vec<sock_filter>, usize) {
    let mut code = vec![NOTHING; room];
    let mut program = Program::new(&mut code);
    let tree = program.search(starts, next);
    program.step(LOAD, NUMBER, tree);
    let length = program.length();
    (code.split_off(room.saturating_sub(length)), length)
}

fn number(number: u32) -> Call {
    Call { arch: 0, number, arguments: [0; 6] }
}

#[test]
fn every_range_is_found_in_a_tree_of_any_size() {
    for size in (1..70).chain([255, 256, 257, 511, 1000]) {
        let starts: Vec<u32> = (0..size).map(|start| 3 * start).collect();
        // Two actions, as most filters have; and one for each range, which have to be repeated less often.
        for actions in [2, u32::MAX] {
            let next: Vec<_> = (0..size).map(|start| Next::Return(start % actions)).collect();
            let (code, length) = program(&starts, &next, 4096);
            assert_eq!(code.len(), length);
            for call in 0..3 * size + 2 {
                let (action, steps) = evaluate(&code, number(call));
                assert_eq!(action, (call / 3).min(size - 1) % actions, "{size} ranges, call {call}");
                let halvings = size.next_power_of_two().ilog2() as usize;
                assert!(steps <= 2 + halvings + 2, "{size} ranges, call {call}: {steps} instructions");
            }
        }
    }
}

#[test]
fn far_places_are_reached_by_jumps_in_between() {
    let mut code = [NOTHING; 2000];
    let mut program = Program::new(&mut code);
    let far = program.step(LOAD, ARCH, Next::Return(1));
    let mut next = Next::Return(2);
    for value in 0..600 {
        next = program.branch(BPF_JEQ, value, far, next);
        // Neither is just behind it.
        next = program.branch(BPF_JGT, 1_000_000 + value, Next::Return(3), next);
    }
    next = program.step(LOAD, NUMBER, next);
    // A step leads to any place, too.
    program.put(BPF_RET | BPF_K, 0, 0, KILL);
    program.step(LOAD, ARCH, next);
    let length = program.length();
    let code = &code[2000 - length..];
    for (call, action) in [(0, 1), (300, 1), (599, 1), (600, 2), (1_000_000, 2), (1_000_001, 3), (u32::MAX, 3)] {
        assert_eq!(evaluate(code, number(call)).0, action, "call {call}");
    }
}

#[test]
fn both_sides_of_a_comparison_may_be_far() {
    let mut code = [NOTHING; 2000];
    let mut program = Program::new(&mut code);
    let fars = [1, 2].map(|action| program.step(LOAD, ARCH, Next::Return(action)));
    let mut near = Next::Return(3);
    for value in 0..400 {
        near = program.branch(BPF_JEQ, 1_000_000 + value, Next::Return(4), near);
    }
    let [then, other] = fars;
    let both = program.branch(BPF_JEQ, 7, then, other);
    let other = program.branch(BPF_JEQ, 6, near, other);
    let then = program.branch(BPF_JEQ, 5, then, near);
    let next = program.branch(BPF_JGE, 20, other, both);
    let next = program.branch(BPF_JGE, 40, then, next);
    program.step(LOAD, NUMBER, next);
    let length = program.length();
    let code = &code[2000 - length..];
    for (call, action) in [(7, 1), (8, 2), (20, 2), (40, 3), (1_000_000, 4)] {
        assert_eq!(evaluate(code, number(call)).0, action, "call {call}");
    }
}

#[test]
fn program_without_room_says_how_long_it_would_be() {
    let starts: Vec<u32> = (0..100).collect();
    let next: Vec<_> = starts.iter().map(|start| Next::Return(*start)).collect();
    let (whole, length) = program(&starts, &next, 300);
    assert_eq!(whole.len(), length);
    for room in [0, 1, 100, length - 1] {
        assert!(program(&starts, &next, room).1 > room, "{room}");
    }
    assert_eq!(program(&starts, &next, length).0.len(), length);
}
