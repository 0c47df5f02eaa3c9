//! The emulator of virtual machines: Debian's QEMU, unpacked and never installed. It brings its own dynamic loader and
//! libraries, so it runs the same whatever this machine has installed, and removes nothing here.

use crate::apt::Apt;
use crate::arch::Arch;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The directory of QEMU's firmware. By default it searches in the directory of its executable, which is the loader
/// here.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// The releases whose QEMU we take: the first that can be reached. With bookworm's 7.2 the suite takes half as long
/// again, and now and then QEMU loses a change that the kernel makes to its code while another processor runs it.
const RELEASES: &[&str] = &["trixie", "forky"];

/// The command that emulates `arch`, with its first arguments; downloads QEMU into `dir` when it is not there.
pub fn command(arch: &'static Arch, dir: &Path) -> Result<Vec<String>> {
    // The emulator is a program of this machine's architecture.
    let native = Arch::native()?;
    let tree = dir.join("emulator");
    if !tree.is_dir() {
        let new = dir.join("emulator.new");
        Apt::of(native, RELEASES, "apt-qemu")?.tree("QEMU", arch.emulator, &new)?;
        fs::rename(new, &tree)?;
    }
    let path = |below: &str| tree.join(below).display().to_string();
    let libraries = format!("usr/lib/{}", native.gnu);
    let (program, machine) = arch.qemu.split_first().context("an architecture without an emulator")?;
    let mut command = vec!["env".into(), format!("QEMU_MODULE_DIR={}", path(&format!("{libraries}/qemu")))];
    // ld.so(8): it searches this path first, and never the machine's cache of libraries.
    command.extend([path(&format!("{libraries}/{}", native.loader)), "--inhibit-cache".into()]);
    command.extend(["--library-path".into(), path(&libraries), path(&format!("usr/bin/{program}"))]);
    command.extend(machine.iter().map(|argument| (*argument).to_owned()));
    command.extend(FIRMWARE.iter().flat_map(|dir| ["-L".into(), path(dir)]));
    Ok(command)
}
