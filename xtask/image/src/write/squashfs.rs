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
use std::time::SystemTime;

/// Writes the tree as the file `new`.
pub fn write(tree: &Tree, new: &Path, output: &Output<'_>) -> Result<()> {
    let _progress = Progress::spinner("sqfstar");
    // sqfstar 4.5 makes the root directory its user's, also with -root-uid: so its user is root, of a user namespace.
    let is_root = rustix::process::geteuid().is_root();
    let mut command = program(if is_root { "sqfstar" } else { "unshare" });
    if !is_root {
        command.args(["--user", "--map-root-user", "sqfstar"]);
    }
    command.args(["-quiet", "-no-progress", "-exit-on-error"]);
    let root = &tree.node(ROOT).metadata;
    command.args(["-root-mode", &format!("{:o}", root.mode)]);
    command.args(["-root-uid", &root.uid.to_string(), "-root-gid", &root.gid.to_string()]);
    // sqfstar 4.5 gives the root the time of the build, also with -root-time, and puts all times back to this one.
    let _ = command.env("SOURCE_DATE_EPOCH", newest(tree).max(output.epoch).to_string());
    match output.compression {
        Some("none") => _ = command.args(["-noI", "-noD", "-noF", "-noX"]),
        Some(name) => _ = command.args(["-comp", name]),
        None => _ = command.args(["-comp", "gzip"]),
    }
    let mut child = command.arg(new).stdin(Stdio::piped()).spawn().context("cannot run sqfstar")?;
    let input = child.stdin.take().context("sqfstar has no stdin")?;
    if (root.uid, root.gid) != (0, 0) {
        eprintln!("kontena-image: sqfstar may make root the owner of the image's root directory");
    }
    // It reads to the end, or ends early and says why; then a broken pipe is not the reason.
    let written = stream::write(tree, BufWriter::with_capacity(1 << 17, input));
    judge("sqfstar", output.compression, &child.wait_with_output()?)?;
    written?;
    finish(new)
}

/// The time of the newest file, of those that are not of the future.
fn newest(tree: &Tree) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut newest, mut nodes) = (0, vec![ROOT]);
    while let Some(id) = nodes.pop() {
        let time = u64::try_from(tree.node(id).metadata.mtime.0).unwrap_or(0);
        newest = if time > now { newest } else { newest.max(time) };
        nodes.extend(tree.children(id).map(|(_, child)| child));
    }
    newest
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
