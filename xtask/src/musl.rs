//! A compiler for static programs of C: Debian's gcc for an architecture, told to use musl (Debian's package, unpacked and
//! not installed) in the place of glibc. nginx and the small programs of the benchmark are built with it; nothing of the
//! pair is.

use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::{rootfs, setup};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What of gcc's own specs is replaced (gcc's manual, "Spec Files"): headers, start files and libraries are musl's, and
/// libgcc is the only one of gcc's.
const SPECS: &str = "\
%rename cpp_options old_cpp_options

*cpp_options:
-nostdinc -isystem INCLUDE %(old_cpp_options)

*cc1:
+ -nostdinc -isystem INCLUDE -fno-pie

*startfile:
LIB/crt1.o LIB/crti.o

*endfile:
LIB/crtn.o

*lib:
-lc

*libgcc:
libgcc.a%s

*link:
-static -nostdlib -L LIB

";

/// musl's start files, libc.a and headers for `arch`: the directory above `lib` and `include`.
pub fn unpacked(arch: &'static Arch) -> Result<PathBuf> {
    let dir = arch.dir().join("musl");
    let tree = dir.join("tree");
    if !tree.is_dir() {
        let new = dir.join("new");
        rootfs::remove(&new)?;
        fs::create_dir_all(&new)?;
        apt::unpack(&Apt::new(arch)?.download_one("musl-dev", &dir.join("deb"))?, &new)?;
        fs::rename(new, &tree)?;
    }
    Ok(tree)
}

/// Its libraries, and gcc's for unwinding under the name that std asks for, in a directory of their own.
pub fn libraries(arch: &'static Arch) -> Result<PathBuf> {
    setup::setup(&[arch.compiler])?;
    let tree = unpacked(arch)?;
    let libraries = tree.with_file_name("lib");
    if !libraries.is_dir() {
        let new = tree.with_file_name("lib.new");
        rootfs::remove(&new)?;
        fs::create_dir_all(&new)?;
        for name in ["libc.a", "crt1.o"] {
            fs::copy(tree.join("usr/lib").join(musl(arch)).join(name), new.join(name))?;
        }
        let gcc = Command::new(format!("{}-gcc", arch.gnu)).arg("-print-file-name=libgcc_eh.a").output()?;
        let unwinding = String::from_utf8_lossy(&gcc.stdout).trim().to_owned();
        fs::copy(&unwinding, new.join("libunwind.a")).with_context(|| format!("cannot copy {unwinding}"))?;
        fs::rename(new, &libraries)?;
    }
    Ok(libraries)
}

/// Debian's name for musl's directories.
fn musl(arch: &Arch) -> String {
    arch.gnu.replace("gnu", "musl")
}

/// The compiler's command, with its first arguments.
pub fn cc(arch: &'static Arch) -> Result<[String; 3]> {
    setup::setup(&[arch.compiler])?;
    let tree = unpacked(arch)?;
    let [include, lib] =
        ["include", "lib"].map(|dir| tree.join("usr").join(dir).join(musl(arch)).display().to_string());
    let specs = tree.with_file_name("specs");
    fs::write(&specs, SPECS.replace("INCLUDE", &include).replace("LIB", &lib))?;
    Ok([format!("{}-gcc", arch.gnu), format!("-specs={}", specs.display()), "-static".into()])
}
