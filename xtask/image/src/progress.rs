//! One line that shows how far a build is, on a terminal alone.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Read;
use std::time::Duration;

/// The line.
pub struct Progress(ProgressBar);

impl Progress {
    /// Something of `bytes` bytes.
    pub fn bytes(what: &str, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr()).with_prefix(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bytes}/{total_bytes} {wide_bar} {elapsed}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Something that nobody knows the length of.
    pub fn spinner(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_prefix(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed}") {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }

    /// Counts what is read from `input`.
    pub fn wrap<R: Read>(&self, input: R) -> impl Read + use<R> {
        self.0.wrap_read(input)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
