//! A compiler for static programs of C: Debian's gcc for an architecture, told to use musl (Debian's package, unpacked
//! and not installed) in the place of glibc. nginx and the small programs of the benchmark are built with it; nothing
//! of the pair is.

use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::{host, rootfs, setup, step::step};
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

/// LLVM's unwinder, which std asks for: in forky, and in trixie.
const UNWINDERS: [&str; 2] = ["libunwind-22-dev", "libunwind-19-dev"];

/// Its libraries, and LLVM's unwinder, in a directory of their own.
pub fn libraries(arch: &'static Arch) -> Result<PathBuf> {
    let tree = unpacked(arch)?;
    let libraries = tree.with_file_name("lib");
    if libraries.is_dir() {
        return Ok(libraries);
    }
    let new = tree.with_file_name("lib.new");
    rootfs::remove(&new)?;
    fs::create_dir_all(&new)?;
    for name in ["libc.a", "libdl.a", "libpthread.a", "crt1.o"] {
        fs::copy(tree.join("usr/lib").join(musl(arch)).join(name), new.join(name))?;
    }
    let apt = Apt::new(arch)?;
    let deb = UNWINDERS.iter().find_map(|name| apt.download_one(name, &tree.with_file_name("deb")).ok());
    let unwinder = new.join("unwinder");
    fs::create_dir(&unwinder)?;
    apt::unpack(&deb.context("apt knows no libunwind of LLVM's")?, &unwinder)?;
    let (library, object) = (new.join("libunwind.a"), new.join("checked.o"));
    fs::copy(unwinder.join("usr/lib").join(arch.gnu).join("libunwind.a"), &library).context("libunwind.a")?;

    let [cc, options @ ..] = cc(arch)?;
    let mut compile = Command::new(cc);
    compile.args(options).args(["-Os", "-c", "-o"]).arg(&object);
    step("compiling checked.c", compile.arg(host::root().join("xtask/musl/checked.c")))?;
    let mut add = Command::new(format!("{}-ar", arch.gnu));
    step("adding it to libunwind.a", add.arg("r").arg(&library).arg(&object))?;
    fs::rename(new, &libraries)?;
    Ok(libraries)
}

/// Debian's name for musl's directories.
fn musl(arch: &Arch) -> String {
    arch.gnu.replace("gnu", "musl")
}

/// musl's headers for `arch`, for a compiler of C that is there after this.
pub fn include(arch: &'static Arch) -> Result<PathBuf> {
    setup::setup(&[arch.compiler])?;
    Ok(unpacked(arch)?.join("usr/include").join(musl(arch)))
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
