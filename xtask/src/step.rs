//! Runs a long command behind one line of progress: a spinner with the elapsed time and the command's latest line on a
//! terminal, a plain line otherwise. The command's output is shown only if it fails.

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs `command`, which does `what` ("building nginx"), to its end.
pub fn step(what: &str, command: &mut Command) -> Result<()> {
    let start = Instant::now();
    let bar = spinner(what);
    // One pipe for both, so that the lines keep their order.
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("{what}: cannot run {name}"))?;
    // The command keeps its ends of the pipe open until it is given others, and we would never see the end of it.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut output = Vec::new();
    let mut reader = BufReader::new(reader);
    loop {
        let from = output.len();
        if reader.read_until(b'\n', &mut output)? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(output.get(from..).unwrap_or_default());
        bar.set_message(line.trim().chars().take(60).collect::<String>());
    }
    let status = child.wait()?;
    bar.finish_and_clear();
    if !status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output).trim_end());
        bail!("{what} failed: {status}");
    }
    done(what, start);
    Ok(())
}

/// Says that `what` is done, and how long it took.
pub fn done(what: &str, start: Instant) {
    eprintln!("✓ {what} ({:.1} s)", start.elapsed().as_secs_f32());
}

/// A turning line; on no terminal, a plain one.
pub fn spinner(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("… {what}");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_prefix(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
