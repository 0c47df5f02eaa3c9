//! `kontena-image`: makes one read-only file of an OCI image, which `kontena run` takes as it is.
#![allow(dead_code)]

mod image;
mod registry;
mod verity;

fn main() {}
