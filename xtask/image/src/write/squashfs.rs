//! squashfs, by sqfstar of squashfs-tools, from a stream: nothing is unpacked, so any user can make it.

use super::{Output, judge, program, stream};
use crate::progress::Progress;
use crate::tree::{ROOT, Tree};
use anyhow::{Context, Result, ensure};
use std::fs::OpenOptions;
use std::io::BufWriter;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

/// Writes the tree as the file `new`.
pub fn write(tree: &Tree, new: &Path, output: &Output<'_>) -> Result<()> {
    let _progress = Progress::spinner("sqfstar");
    let mut command = program("sqfstar");
    command.args(["-quiet", "-no-progress", "-exit-on-error", "-mkfs-time", &output.epoch.to_string()]);
    let root = &tree.node(ROOT).metadata;
    let time = u32::try_from(root.mtime.0.max(0)).unwrap_or(u32::MAX);
    command.args(["-root-mode", &format!("{:o}", root.mode), "-root-uid", &root.uid.to_string()]);
    command.args(["-root-gid", &root.gid.to_string(), "-root-time", &time.to_string()]);
    match output.compression {
        Some("none") => _ = command.args(["-noI", "-noD", "-noF", "-noX"]),
        Some(name) => _ = command.args(["-comp", name]),
        None => _ = command.args(["-comp", "gzip"]),
    }
    let mut child = command.arg(new).stdin(Stdio::piped()).spawn().context("cannot run sqfstar")?;
    let input = child.stdin.take().context("sqfstar has no stdin")?;
    // It reads to the end, or ends early and says why; then a broken pipe is not the reason.
    let written = stream::write(tree, BufWriter::with_capacity(1 << 17, input));
    judge("sqfstar", &child.wait_with_output()?)?;
    written?;
    finish(new)
}

/// Cuts the file off after its last block.
fn finish(new: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(new)?;
    let mut block = [0; 48];
    file.read_exact_at(&mut block, 0)?;
    let used = block.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let length = file.metadata()?.len();
    ensure!(block.starts_with(b"hsqs") && used <= length, "sqfstar has written something else than squashfs");
    Ok(file.set_len(used.next_multiple_of(crate::config::BLOCK))?)
}
