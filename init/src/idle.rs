//! Waiting with little memory: what both halves do when nothing has happened for a moment, and may not for weeks.
//!
//! The pages of the program are given back, since they are read again from its file when they are needed, and so is
//! what the start has left of the stack. To wait takes the page of the code that waits and the page of its stack. Must
//! not be used where something is about to happen: the way back costs a page fault for each part of the program that is
//! needed.

#[allow(unsafe_code)]
mod sys;

pub use sys::wait;
