//! Linux's driver for the battery, which Debian's kernels are built without: built from Debian's source, for Debian's
//! kernel.

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::debian::Suite;
use crate::failure::{Because, Outcome};
use crate::kernel::{self, DEBIAN_12, Kernel};
use crate::process;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its source, in Linux's tree.
const SOURCE: &str = "drivers/power/supply/goldfish_battery.c";
/// What is built.
const MODULE: &str = "goldfish_battery";
/// What the packages of this kernel's source are called behind.
const SERIES: &str = "6.1";

/// The kernel that it is for, and its file; fetched and built if they are not in the cache. This kernel, because its
/// packages want the compiler that this machine has.
pub(crate) fn built(cache: &Cache) -> Outcome<(Kernel, PathBuf)> {
    let installed = kernel::installed(cache, &DEBIAN_12)?;
    if let Ok(module) = build(cache, &installed) {
        return Ok((installed, module));
    }
    // The archive has the headers of the newest kernel only.
    kernel::forget_installed(cache, &DEBIAN_12)?;
    let installed = kernel::installed(cache, &DEBIAN_12)?;
    let module = build(cache, &installed)?;
    Ok((installed, module))
}

fn build(cache: &Cache, kernel: &Kernel) -> Outcome<PathBuf> {
    let file = format!("{MODULE}.ko");
    let entry = cache.entry("battery-driver", &kernel.version, |folder| {
        eprintln!(
            "set-up: building the battery's driver for Linux {}",
            kernel.version
        );
        let suite = Suite::open(cache, DEBIAN_12.suite, Architecture::X86_64)?;
        let (common, _) = kernel
            .version
            .rsplit_once('-')
            .unwrap_or((&kernel.version, ""));
        let packages = [
            format!("linux-headers-{}", kernel.version),
            format!("linux-headers-{common}-common"),
            format!("linux-kbuild-{SERIES}"),
            format!("linux-source-{SERIES}"),
        ];
        let tree = suite.unpacked(&packages, folder)?;
        let source = take_source(&tree)?;
        let headers = tree.join(format!("usr/src/linux-headers-{}", kernel.version));
        point_to_unpacked(&headers, &tree)?;
        make(&headers, &source)?;
        fs::copy(source.join(&file), folder.join(&file))
            .because(|| "cannot keep the driver".to_owned())?;
        fs::remove_dir_all(&tree).because(|| format!("cannot remove {}", tree.display()))
    })?;
    Ok(entry.join(file))
}

/// A folder with the driver's source alone.
fn take_source(tree: &Path) -> Outcome<PathBuf> {
    let archive = tree.join(format!("usr/src/linux-source-{SERIES}.tar.xz"));
    let member = format!("linux-source-{SERIES}/{SOURCE}");
    let mut tar = Command::new("tar");
    // The rest of the archive is not waited for.
    tar.args(["--occurrence=1", "--to-stdout", "-xJf"])
        .arg(archive)
        .arg(member);
    let source = process::output_of(&mut tar)?;
    let folder = tree.join(MODULE);
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).because(|| format!("cannot write {name}"))
    };
    fs::create_dir(&folder).because(|| format!("cannot make {}", folder.display()))?;
    write(&format!("{MODULE}.c"), &source)?;
    write("Kbuild", &format!("obj-m := {MODULE}.o\n"))?;
    Ok(folder)
}

/// The headers' Makefile names another package's by the place where that would be installed.
fn point_to_unpacked(headers: &Path, tree: &Path) -> Outcome {
    let path = headers.join("Makefile");
    let failed = || format!("cannot change {}", path.display());
    let text = fs::read_to_string(&path).because(failed)?;
    let unpacked = tree.join("usr/src/").display().to_string();
    fs::write(&path, text.replace("/usr/src/", &unpacked)).because(failed)
}

fn make(headers: &Path, source: &Path) -> Outcome {
    let mut make = Command::new("make");
    make.arg("-C").arg(headers);
    make.arg(format!("M={}", source.display())).arg("modules");
    process::output_of(&mut make).map(drop)
}
