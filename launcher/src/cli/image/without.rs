//! In place of what images say of themselves, where kontena is built without them.

use crate::cli::given::Given;
use crate::cli::options::{Entry, Line};
use crate::config::image::Image;
use crate::error::Result;
use std::ffi::CStr;

/// Sets none.
pub fn set(_: &CStr, _: Option<&Image>, _: &Entry, _: &Line<'static>, _: &mut Given) -> Result<()> {
    Ok(())
}

/// Adds none.
pub fn add_volumes(_: &mut Given) -> Result<()> {
    Ok(())
}
