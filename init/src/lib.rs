//! What the launcher and the init agree on, and nothing else: the [`plan`], their [`signals`], how to [wait](idle), and
//! how [filters](bpf) of system calls are put together.
//!
//! The rest of the init is a binary (`main.rs`); the launcher must not be able to reach it.
#![no_std]
#![deny(unsafe_code)]

pub mod bpf;
pub mod idle;
pub mod plan;
pub mod signals;

// Pure parts of the binary, which has no test harness: their tests run here.
#[cfg(test)]
#[allow(dead_code)]
mod accounts;
#[cfg(test)]
#[allow(dead_code)]
mod seccomp;
#[cfg(test)]
#[allow(dead_code)]
mod text;

// The binary sees the library as a crate.
#[cfg(test)]
extern crate self as kontena_init;

/// Which system calls a process may make; seccomp(2). The bits are independent of each other.
pub mod filter {
    /// All.
    pub const NONE: u8 = 0;
    /// Those of moby's default profile.
    pub const DEFAULT: u8 = 1;
    /// All but those of keyrings(7): a uid has one user keyring for the host and all containers of its user namespace.
    pub const KEYS: u8 = 2;
    /// Those of the Plan's own filter.
    pub const OWN: u8 = 4;

    /// Whether a process can have one of its own, which may pretend that a call was made.
    pub const MAY_PRETEND: bool = cfg!(feature = "seccomp");
}
