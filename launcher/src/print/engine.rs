//! What an engine is told in its own ways: the log of `--log`, and the exit status of a failure.
//!
//! Must not know what went wrong.

use crate::error::{Error, OWN_FAILURE};
use crate::file::{self, CWD};
use crate::json::Json;
use crate::sys;
use crate::time::Moment;
use rustix::fs::OFlags;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

static IS_ENGINE: AtomicBool = AtomicBool::new(false);
static FAILURE: AtomicU8 = AtomicU8::new(1);
static IS_JSON: AtomicBool = AtomicBool::new(false);
static LOG: OnceLock<&str> = OnceLock::new();

/// The caller is an engine, or what it asks for is an engine's.
pub fn answer_engine() {
    IS_ENGINE.store(true, Relaxed);
}

/// Whether it is.
pub fn is_engine() -> bool {
    IS_ENGINE.load(Relaxed)
}

/// The exit status that an engine gets if its command fails.
pub fn fail_with(status: u8) {
    FAILURE.store(status, Relaxed);
}

/// `--log-format`.
pub fn log_as_json(is_json: bool) {
    IS_JSON.store(is_json, Relaxed);
}

/// `--log`.
pub fn log_to(path: &'static str) {
    let _ = LOG.set(path);
}

/// The exit status of a command that has failed.
pub fn status(error: &Error) -> u8 {
    match error.status() {
        OWN_FAILURE..=127 if IS_ENGINE.load(Relaxed) => FAILURE.load(Relaxed),
        status => status,
    }
}

/// Adds an error to the log: a line, or a JSON object in one. A log that cannot be written is left out.
pub fn log(error: &Error) {
    let Some(path) = LOG.get() else { return };
    let time = Moment(sys::realtime_seconds(), 0).to_string();
    let line = match IS_JSON.load(Relaxed) {
        true => Json::document(|json| {
            json.object(|json| {
                json.text("level", "error").text("msg", &error.to_string()).text("time", &time);
            });
        }),
        false => format!("time=\"{time}\" level=error msg={:?}\n", error.to_string()),
    };
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let _ = file::open(CWD, path, flags).and_then(|file| file::write_open(&file, &line));
}
