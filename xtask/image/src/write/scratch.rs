//! The private directory of a build. It goes with the build, however that ends: with an error, by Ctrl-C, by a signal.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// Whether a signal ends the program: the build fails then, since its directory is gone.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Does not return if a signal ends the program: its status is that of the signal, and not that of a failed build.
pub fn wait_for_the_end() {
    while ENDING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// The directory.
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes one beside `output`, so that what is in it can be renamed to that.
    pub fn beside(output: &Path) -> Result<Self> {
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = parent.canonicalize().with_context(|| format!("cannot write to {}", parent.display()))?;
        let name = output.file_name().context("the output has no name")?.to_string_lossy().into_owned();
        // Before there is something to remove.
        let signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        // Only its owner can look into it.
        let private = Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix(&format!(".{name}.")).permissions(private).tempdir_in(&parent);
        let made = made.with_context(|| format!("cannot write to {}", parent.display()))?;
        remove_on_signal(signals, made.path().to_owned());
        Ok(Self(made))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A directory that a signal would leave behind is removed before we end by it.
fn remove_on_signal(mut signals: Signals, path: PathBuf) {
    let _ = std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            ENDING.store(true, Ordering::SeqCst);
            // The build may be making a file while we look.
            while path.exists() && std::fs::remove_dir_all(&path).is_err() {}
            std::process::exit(128 + signal);
        }
    });
}

/// Lets this program open as many files as it may: one for each directory of a deep tree.
pub fn raise_limits() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
