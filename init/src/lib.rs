//! What the launcher and the init agree on, and nothing else: the [`plan`], and how to [wait](idle).
//!
//! The rest of the init is a binary (`main.rs`); the launcher must not be able to reach it.
#![no_std]
#![deny(unsafe_code)]

pub mod idle;
pub mod plan;
